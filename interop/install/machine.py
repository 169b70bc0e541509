"""What has to be on the machine, and how Debian calls it.

Where CI runs (`CI=true`) and the user may, what is absent is installed; elsewhere the error says what to install.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from install import CannotInstall
from install import case_bound_stands_still

# Debian's Go is too old.
PACKAGES = {
    "dpkg-deb": "dpkg",
    "fish": "fish",
    "java": "default-jdk-headless",
    "javac": "default-jdk-headless",
    "man": "man-db",
    "mvn": "maven",
    "node": "nodejs",
    "npm": "npm",
    "systemd-analyze": "systemd",
    "zsh": "zsh",
}
GO = "Go 1.25 or later"
LISTS = Path("/var/lib/apt/lists")
SECONDS_MAX = 900


def need(command: str) -> str:
    """Returns a command that is on the machine; fails, and says what to install, if it is not and cannot be."""
    if shutil.which(command):
        return command
    package = PACKAGES.get(command)
    if package:
        install(package, f"{command} is not on this machine")
    if shutil.which(command):
        return command
    raise CannotInstall(f"{command} is not on this machine: install {package or (GO if command == 'go' else command)}")


def need_venv() -> None:
    """Sees to it that this Python makes virtual environments, which Debian's does not by itself."""
    if can_make_venv():
        return
    install("python3-venv", f"{sys.executable} cannot make virtual environments")
    if not can_make_venv():
        raise CannotInstall(f"{sys.executable} cannot make virtual environments: it lacks the module ensurepip")


def can_make_venv() -> bool:
    """Tells whether a new process of this Python has what `venv` needs."""
    asked = subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True, check=False)
    return asked.returncode == 0


def install(package: str, why: str) -> None:
    """Installs one package of Debian's, in CI only."""
    if os.environ.get("CI") != "true" or os.geteuid() != 0 or not shutil.which("apt-get"):
        raise CannotInstall(f"{why}: install {package}")
    refresh_lists()
    with case_bound_stands_still():
        apt_get("install", "-y", "-qq", "--no-install-recommends", package)


def refresh_lists() -> None:
    """Fetches the lists of packages where there are none, as in a fresh container."""
    if not any(LISTS.glob("*_Packages*")):
        apt_get("update", "-qq")


def apt_get(*arguments: str) -> None:
    """Runs one command of apt-get."""
    print(f"apt-get {' '.join(arguments)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        ["apt-get", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SECONDS_MAX,
        check=False,
    )
    if done.returncode != 0:
        tail = " | ".join(done.stdout.strip().splitlines()[-4:])
        raise CannotInstall(f"`apt-get {' '.join(arguments)}` ended with {done.returncode}: {tail}")
