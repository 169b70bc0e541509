"""Builds the small programs that send spans with the SDKs of other languages. Their sources are in `clients/`.

Each function returns the command that runs one.
"""

from pathlib import Path

from install import INTEROP
from install import installed
from install import machine
from install import maven
from install import python
from install import step
from install.go import go as run_go

SOURCES = INTEROP / "clients"


def go() -> list:
    """OpenTelemetry's SDK for Go."""
    source = SOURCES / "go"
    names = ("main.go", "go.mod", "go.sum")

    def build(folder: Path) -> None:
        copy(source, folder, names)
        run_go(folder, "build", "-o", "client", ".")

    return [installed("client-go", build, [source / name for name in names]) / "client"]


def java() -> list:
    """OpenTelemetry's SDK for Java."""
    source = SOURCES / "java"
    names = ("Client.java", "pom.xml")

    def build(folder: Path) -> None:
        maven.copy_dependencies(folder / "libs", source / "pom.xml")
        copy(source, folder, names)
        step([machine.need("javac"), "-encoding", "UTF-8", "-cp", "libs/*", "-d", "classes", "Client.java"], folder)

    folder = installed("client-java", build, [source / name for name in names])
    return [
        machine.need("java"),
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-cp",
        f"{folder}/classes:{folder}/libs/*",
        "Client",
    ]


def node() -> list:
    """OpenTelemetry's SDK for JavaScript."""
    source = SOURCES / "node"
    names = ("client.js", "package.json", "package-lock.json")

    def build(folder: Path) -> None:
        copy(source, folder, names)
        step([machine.need("npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)

    return [machine.need("node"), installed("client-node", build, [source / name for name in names]) / "client.js"]


def python_sdk() -> list:
    """OpenTelemetry's SDK for Python."""
    return [python.environment("client") / "bin" / "python", SOURCES / "python" / "client.py"]


def python_sdk_of_jaeger() -> list:
    """The last of OpenTelemetry's SDKs for Python that has an exporter to Jaeger."""
    return [python.environment("client-jaeger") / "bin" / "python", SOURCES / "python" / "client.py"]


def copy(source: Path, folder: Path, names: tuple[str, ...]) -> None:
    """Copies sources into the folder where they are built."""
    for name in names:
        (folder / name).write_bytes((source / name).read_bytes())
