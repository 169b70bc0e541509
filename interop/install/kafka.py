"""Fetches Apache Kafka: the broker's jars, with a logging backend, which its own list of dependencies leaves out."""

from pathlib import Path

from install import INTEROP
from install import installed
from install import maven

VERSION = "4.1.1"
POM = INTEROP / "install" / "kafka.xml"


def ensure() -> Path:
    """Returns the folder of jars."""
    return installed(f"kafka-{VERSION}", lambda folder: maven.copy_dependencies(folder, POM), [POM])
