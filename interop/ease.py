"""The table of docs/ease.md: what a program takes with Outspan, and its twin with `opentelemetry-otlp`."""

import datetime
import os
import re
import resource
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from install import INTEROP
from install import machine
from install import step
from programs import run as run_command

PAGE = INTEROP.parent / "docs" / "ease.md"
BEGIN = "<!-- table: interop/run --ease -->"
END = "<!-- end of table -->"
SECONDS_MAX = 1800
COUNT_SECONDS_MAX = 120


@dataclass(frozen=True)
class Form:
    """One way to write each program."""

    shown: str
    workspace: str
    prefix: str
    features: str


OURS = Form("Outspan", "users", "user", "")
PLAIN = Form("opentelemetry-otlp, HTTP alone", "peers", "peer", "")
FULL = Form("opentelemetry-otlp, with what Outspan has", "peers", "peer", "full")

# The program that stands for all in the form that nobody would choose for its size.
EXAMPLE = "cli"


@dataclass(frozen=True)
class Counts:
    """What can be counted without a build."""

    lines: int
    direct: int
    packages: int


@dataclass(frozen=True)
class Built:
    """What a cold build takes, in seconds of all processors and in seconds on the clock, and the bytes of the program."""

    processor: float
    clock: float
    size: int


def programs() -> list[str]:
    """Returns the names of the programs that have a twin."""
    return sorted(each.name for each in (INTEROP / "peers").iterdir() if (each / "Cargo.toml").is_file())


def forms() -> Iterator[tuple[str, Form]]:
    """Yields every program with each form in which it stands in the table, in the table's order."""
    for name in programs():
        yield name, OURS
        yield name, PLAIN
        if name == EXAMPLE:
            yield name, FULL


def write() -> None:
    """Builds every program in each form, and writes the table anew. Prints a line for each build."""
    alike: dict[tuple, list[str]] = {}
    for name, form in forms():
        alike.setdefault((form, frozenset(packages(form, name, "{p} {f}"))), []).append(name)
    built = {}
    for (form, _), names in alike.items():
        for name, each in build_cold(form, names):
            print(f"{name}, {form.shown}: {each}", flush=True)
            built[name, form] = each
    rows = []
    for name, form in forms():
        counts, each = count(form, name), built[name, form]
        shown = f"{counts.lines} | {counts.direct} | {counts.packages} | {each.processor:.0f} s | {each.size / 2**20:.1f} MiB"
        rows.append(f"| `{name}` | {form.shown} | {shown} |")
    rustc = run_command([machine.need("rustc"), "--version"], INTEROP, COUNT_SECONDS_MAX).split()[1]
    about = f"Measured on {datetime.date.today()} with Rust {rustc} on {os.cpu_count()} cores."
    head = "| program | with | lines | direct dependencies | packages | cold build | binary |\n|---|---|--:|--:|--:|--:|--:|"
    before, _, after = split_page()
    PAGE.write_text(f"{before}{BEGIN}\n\n{about}\n\n{head}\n{chr(10).join(rows)}\n\n{END}{after}", encoding="utf-8")


def untrue() -> Iterator[str]:
    """Yields what the page says about lines, dependencies and packages and is not so any more."""
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \| (\d+) \| (\d+) \| (\d+) \|", split_page()[1], re.MULTILINE)
    said = {(name, shown): Counts(*map(int, numbers)) for name, shown, *numbers in rows}
    for name, form in forms():
        counts = count(form, name)
        if said.pop((name, form.shown), None) != counts:
            yield f"{name} with {form.shown} has {counts}"
    yield from (f"{name} with {shown} is in the page and not here" for name, shown in said)


def split_page() -> tuple[str, str, str]:
    """Returns the page before, between and behind its marks."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    table, after = rest.split(END)
    return before, table, after


def count(form: Form, name: str) -> Counts:
    """Counts lines of Rust without comments, direct dependencies, and packages that are compiled in or run in the compiler."""
    folder = INTEROP / form.workspace / name
    lines = [line.strip() for line in (folder / "src" / "main.rs").read_text(encoding="utf-8").splitlines()]
    manifest = tomllib.loads((folder / "Cargo.toml").read_text(encoding="utf-8"))
    return Counts(
        lines=sum(1 for line in lines if line and not line.startswith("//")),
        direct=len(manifest["dependencies"]),
        packages=len(packages(form, name, "{p}")),
    )


def packages(form: Form, name: str, shown: str) -> set[str]:
    """Returns the packages of a program but itself, each as cargo's `--format` shows it."""
    tree = ["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", shown]
    printed = run_command(
        [machine.need("cargo"), *tree, *chosen(form, name)], INTEROP / form.workspace, COUNT_SECONDS_MAX
    )
    # What cargo prints besides are messages about its registry.
    lines = {line.removesuffix(" (*)") for line in printed.splitlines() if re.match(r"\S+ v\d", line)}
    return {line for line in lines if not line.startswith(f"{form.prefix}-{name} ")}


def chosen(form: Form, name: str) -> list[str]:
    """Returns the options of cargo that choose a program in a form."""
    return ["--package", f"{form.prefix}-{name}", "--features", form.features]


def build_cold(form: Form, names: list[str]) -> Iterator[tuple[str, Built]]:
    """Yields what it takes to build programs of the same packages with nothing there but downloaded sources.

    The first is built so; the others take as long, and are built for their size.
    """
    step([machine.need("cargo"), "fetch", "--locked"], INTEROP / form.workspace)
    target = Path(tempfile.mkdtemp(prefix="outspan-ease-"))
    try:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        build(form, names[0], target)
        clock, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        for name in names:
            build(form, name, target)
            size = (target / "release" / f"{form.prefix}-{name}").stat().st_size
            yield name, Built(processor, clock, size)
    finally:
        shutil.rmtree(target)


def build(form: Form, name: str, target: Path) -> None:
    """Builds a program as a release without symbols, within a bound."""
    options = ["--release", "--locked", "--quiet", "--config", 'profile.release.strip="symbols"', "--target-dir", target]
    subprocess.run(
        [machine.need("cargo"), "build", *options, *chosen(form, name)],
        cwd=INTEROP / form.workspace,
        stdin=subprocess.DEVNULL,
        timeout=SECONDS_MAX,
        check=True,
    )
