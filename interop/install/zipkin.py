"""Fetches the Zipkin server: the slim build, which has the memory storage and both formats over HTTP."""

from pathlib import Path

from install import check_digest
from install import installed
from install import maven

VERSION = "3.6.1"
JAR = "zipkin-server-slim.jar"
DIGEST = "981b1de6139b4f8f787a909c308028732f9713ae5284353d2a5aa404d1094775"


def ensure() -> Path:
    """Returns the server's jar."""
    return installed(f"zipkin-{VERSION}", build) / JAR


def build(folder: Path) -> None:
    maven.copy(folder, f"io.zipkin:zipkin-server:{VERSION}:jar:slim")
    check_digest(folder / JAR, DIGEST)
