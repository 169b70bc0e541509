"""Builds the programs of users that stand in `users/`: what somebody writes who adds Outspan to a program."""

from pathlib import Path

from install import INTEROP
from install import case_bound_stands_still
from install import machine
from install import step

SOURCES = INTEROP / "users"
TARGET = INTEROP.parent / "target" / "users"

built: list[Path] = []


def ensure(name: str) -> Path:
    """Returns the program `name`; all of them are built together, once in a run."""
    if not built:
        with case_bound_stands_still():
            step([machine.need("cargo"), "build", "--locked", "--target-dir", TARGET], SOURCES)
        built.append(TARGET / "debug")
    return built[0] / f"user-{name}"
