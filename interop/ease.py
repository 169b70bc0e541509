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


FORMS = (
    Form("Outspan", "users", "user", ""),
    Form("opentelemetry-otlp, HTTP alone", "peers", "peer", ""),
    Form("opentelemetry-otlp, with what Outspan has", "peers", "peer", "full"),
)


@dataclass(frozen=True)
class Counts:
    """What can be counted without a build."""

    lines: int
    direct: int
    packages: int


@dataclass(frozen=True)
class Built:
    """What a cold build takes: seconds of all processors, and seconds on the clock."""

    processor: float
    clock: float


def programs() -> list[str]:
    """Returns the names of the programs that have a twin."""
    return sorted(each.name for each in (INTEROP / "peers").iterdir() if (each / "Cargo.toml").is_file())


def write() -> None:
    """Builds every program in each form, and writes the table anew. Prints a line for each build."""
    rows = []
    cold: dict[frozenset, Built] = {}
    for name in programs():
        for form in FORMS:
            tree = frozenset(packages(form, name, "{p} {f}"))
            if tree not in cold:
                cold[tree] = build_cold(form, name)
            counts, built, size = count(form, name), cold[tree], release_size(form, name)
            print(f"{name}, {form.shown}: {counts}, {built}, {size} bytes", flush=True)
            shown = f"{counts.lines} | {counts.direct} | {counts.packages} | {built.processor:.0f} s | {size / 2**20:.1f} MiB"
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
    for name in programs():
        for form in FORMS:
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


def build_cold(form: Form, name: str) -> Built:
    """Builds a program for the first time, with nothing there but downloaded sources."""
    step([machine.need("cargo"), "fetch", "--locked"], INTEROP / form.workspace)
    target = Path(tempfile.mkdtemp(prefix="outspan-ease-"))
    try:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        build(form, name, target)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Built(processor, time.monotonic() - began)
    finally:
        shutil.rmtree(target)


def release_size(form: Form, name: str) -> int:
    """Returns the bytes of a program as a release without symbols."""
    target = INTEROP.parent / "target" / "ease" / f"{form.workspace}-{form.features}"
    build(form, name, target, "--release", "--config", 'profile.release.strip="symbols"')
    return (target / "release" / f"{form.prefix}-{name}").stat().st_size


def build(form: Form, name: str, target: Path, *options: str) -> None:
    """Builds a program, within a bound."""
    subprocess.run(
        [machine.need("cargo"), "build", "--locked", "--quiet", "--target-dir", target, *options, *chosen(form, name)],
        cwd=INTEROP / form.workspace,
        stdin=subprocess.DEVNULL,
        timeout=SECONDS_MAX,
        check=True,
    )
