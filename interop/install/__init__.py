"""Installs the real programs, each into a folder of its own that its version names.

A folder is built under another name and renamed when it is whole, so that an interrupted build leaves nothing that looks
installed. One module for each program; each has `ensure()`, which returns where the program is.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

INTEROP = Path(__file__).resolve().parent.parent

# Longest that one step of an installation may take: a cold build of Jaeger on two busy cores takes minutes.
STEP_SECONDS_MAX = 3600


class CannotInstall(Exception):
    """Says which program cannot be had, and why."""


def cache() -> Path:
    """Returns the folder of installed programs."""
    base = os.environ.get("OUTSPAN_CI_CACHE")
    if not base:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outspan"
    return Path(base) / "interop"


def installed(name: str, build: Callable[[Path], None], inputs: list[Path] = ()) -> Path:
    """Returns the folder `name` of the cache, built by `build` if it is absent.

    What is built from files of ours has their digest in its name, so that a change of them builds it anew.
    """
    if inputs:
        name = f"{name}-{digest_of(inputs)}"
    folder = cache() / name
    if folder.is_dir():
        return folder
    cache().mkdir(parents=True, exist_ok=True)
    with open(cache() / f".{name}.lock", "w", encoding="utf-8") as lock:
        with case_bound_stands_still():
            fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once build it once
            return folder if folder.is_dir() else build_and_rename(name, folder, build)


@contextlib.contextmanager
def case_bound_stands_still():
    """Stops the clock of the case that asks: each step of an installation has a bound of its own."""
    seconds_left = signal.alarm(0)
    try:
        yield
    finally:
        signal.alarm(seconds_left)


def build_and_rename(name: str, folder: Path, build: Callable[[Path], None]) -> Path:
    """Builds into a temporary folder, and renames it when it is whole."""
    began = time.monotonic()
    print(f"installing {name}", flush=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache()))
    try:
        build(temporary)
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    print(f"installed {name} in {time.monotonic() - began:.0f} s, {size_of(folder) / 1e6:.0f} MB", flush=True)
    return folder


def step(arguments: list, folder: Path, environment: dict[str, str] | None = None) -> str:
    """Runs one command of an installation in `folder`, and returns what it printed."""
    command = [str(argument) for argument in arguments]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=STEP_SECONDS_MAX,
            check=False,
        )
    except FileNotFoundError as error:
        raise CannotInstall(f"{command[0]} is not on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise CannotInstall(f"`{' '.join(command)}` took longer than {STEP_SECONDS_MAX} s") from error
    if done.returncode != 0:
        tail = " | ".join(done.stdout.strip().splitlines()[-6:])
        raise CannotInstall(f"`{' '.join(command)}` ended with {done.returncode}: {tail}")
    return done.stdout


def check_digest(path: Path, expected: str) -> None:
    """Compares the SHA-256 of a download with the one that is pinned."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise CannotInstall(f"{path.name} has the SHA-256 {found}, expected {expected}")


def digest_of(paths: list[Path]) -> str:
    """Returns a short digest of the contents of files."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def size_of(folder: Path) -> int:
    """Returns the bytes of all files in `folder`."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
