"""Builds the programs of users that stand in `users/`: what somebody writes who adds Outspan to a program; and their twins in
`peers/`, on `opentelemetry-otlp`."""

from pathlib import Path

from install import INTEROP
from install import case_bound_stands_still
from install import machine
from install import step

built: dict[str, Path] = {}


def ensure(name: str) -> Path:
    """Returns the program `name`; all of them are built together, once in a run."""
    return folder("users") / f"user-{name}"


def ensure_twin(name: str) -> Path:
    """Returns the twin of the program `name`."""
    return folder("peers") / f"peer-{name}"


def folder(workspace: str) -> Path:
    """Returns the folder of the programs of a workspace, which are built if they were not in this run."""
    if workspace not in built:
        target = INTEROP.parent / "target" / workspace
        with case_bound_stands_still():
            step([machine.need("cargo"), "build", "--locked", "--target-dir", target], INTEROP / workspace)
        built[workspace] = target / "debug"
    return built[workspace]
