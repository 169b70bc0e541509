"""Builds programs that are written in Go.

The module proxy and its checksum database pin what is downloaded; the toolchain is the one of the machine.
"""

from pathlib import Path

from install import installed
from install import step

ENVIRONMENT = {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}


def program(name: str, package: str, version: str, label: str | None = None) -> Path:
    """Returns the program that `go install PACKAGE@VERSION` builds."""

    def build(folder: Path) -> None:
        step(["go", "install", f"{package}@{version}"], folder, {**ENVIRONMENT, "GOBIN": str(folder)})

    return installed(f"{name}-{label or version.removeprefix('v')}", build) / name
