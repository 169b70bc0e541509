"""Fetches jars from Maven's central repository, which keeps a checksum beside each; Maven verifies it."""

from pathlib import Path

from install import machine
from install import step

PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"


def copy(folder: Path, artifact: str) -> None:
    """Copies one artifact into `folder`, without its version in the name."""
    options = [f"-Dartifact={artifact}", f"-DoutputDirectory={folder}", "-Dmdep.stripVersion=true"]
    step([machine.need("mvn"), "-q", "-B", "-C", f"{PLUGIN}:copy", *options], folder)


def copy_dependencies(folder: Path, pom: Path) -> None:
    """Copies what `pom` needs at run time into `folder`."""
    folder.mkdir(exist_ok=True)
    options = ["-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    step([machine.need("mvn"), "-q", "-B", "-C", "-f", pom, f"{PLUGIN}:copy-dependencies", *options], folder)
