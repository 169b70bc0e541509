"""Builds programs that are written in Go.

The module proxy and its checksum database pin what is downloaded; the toolchain is the one of the machine. The sources and
objects that Go keeps are some GB: those of one run stand in a folder of its own and go with it.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from install import cache
from install import installed
from install import machine
from install import step

OPTIONS = {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -modcacherw"}

kept: list[Path] = []


def program(name: str, package: str, version: str, label: str | None = None) -> Path:
    """Returns the program that `go install PACKAGE@VERSION` builds."""

    def build(folder: Path) -> None:
        go(folder, "install", f"{package}@{version}", GOBIN=str(folder))

    return installed(f"{name}-{label or version.removeprefix('v')}", build) / name


def go(folder: Path, *arguments: str, **variables: str) -> str:
    """Runs one command of Go in `folder`, and returns what it printed."""
    keep = folder_of_this_run()
    places = {"GOPATH": str(keep / "path"), "GOMODCACHE": str(keep / "modules"), "GOCACHE": str(keep / "objects")}
    return step([machine.need("go"), *arguments], folder, {**OPTIONS, **places, **variables})


def folder_of_this_run() -> Path:
    """Returns what Go keeps things in until this run ends; what a run left that was killed is removed."""
    if not kept:
        for abandoned in cache().glob(".go-*"):
            if not Path("/proc", abandoned.name.split("-")[1]).exists():
                shutil.rmtree(abandoned, ignore_errors=True)
        kept.append(Path(tempfile.mkdtemp(prefix=f".go-{os.getpid()}-", dir=cache())))
        atexit.register(shutil.rmtree, kept[0], ignore_errors=True)
    return kept[0]
