"""Fetches kcat, librdkafka's command-line client, from the system's packages."""

import shutil
from pathlib import Path

from install import CannotInstall
from install import installed
from install import machine
from install import step

VERSION = "1.7.1"
PACKAGES = ("kcat", "librdkafka1", "libyajl2")


def ensure() -> tuple[Path, dict[str, str]]:
    """Returns the program and the environment in which it finds its libraries."""
    found = shutil.which("kcat")
    if found:
        return Path(found), {}
    if not shutil.which("apt-get"):
        raise CannotInstall("kcat is not on this machine, and there is no apt-get to fetch it with")
    folder = installed(f"kcat-{VERSION}", build)
    libraries = ":".join(str(path) for path in (folder / "usr" / "lib").glob("*-linux-gnu"))
    return folder / "usr" / "bin" / "kcat", {"LD_LIBRARY_PATH": libraries}


def build(folder: Path) -> None:
    machine.refresh_lists()
    step(["apt-get", "download", *PACKAGES], folder)
    for package in sorted(folder.glob("*.deb")):
        step(["dpkg", "-x", package, folder], folder)
        package.unlink()
