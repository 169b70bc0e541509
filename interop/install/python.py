"""Installs Python packages, each set into a virtual environment of its own, because some sets exclude each other."""

import sys
from pathlib import Path

from install import INTEROP
from install import installed
from install import machine
from install import step

REQUIREMENTS = INTEROP / "install"


def runner() -> Path:
    """Returns the environment that the cases run in: OTLP's message types and a maker of certificates."""
    return environment("runner")


def environment(name: str) -> Path:
    """Returns the virtual environment of the requirements `name`, whose versions are all pinned."""
    requirements = REQUIREMENTS / f"requirements-{name}.txt"

    def build(folder: Path) -> None:
        machine.need_venv()
        step([sys.executable, "-m", "venv", folder], folder)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
        step([*pip, "-r", requirements], folder)

    return installed(f"python-{name}", build, [requirements])
