"""Starts real programs on free loopback ports, waits until they are ready, and ends them by their ids.

One module for each program. Every wait has a bound.
"""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

POLL_SECONDS = 0.05
PORTS = (10_000, 30_000)
STOP_SECONDS_MAX = 60


class Failed(Exception):
    """Says what a program did not do."""


class Program:
    """A running program, with what it prints in a file.

    A context manager: at its end the program is told to stop, and killed when it does not.
    """

    def __init__(self, name: str, arguments: list, folder: Path, environment: dict[str, str] | None = None):
        self.name = name
        self.folder = folder
        self.log = numbered(folder, f"{name}.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(argument) for argument in arguments],
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_error) -> None:
        self.stop()

    def output(self) -> str:
        """Returns what the program has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def until(self, condition: Callable, what: str, seconds: float):
        """Returns what `condition` returns as soon as that is true; fails when the program ends or time is up."""
        deadline = time.monotonic() + seconds
        while True:
            result = condition()
            if result:
                return result
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode} before {what}: {self.last_lines()}")
            if time.monotonic() > deadline:
                raise Failed(f"{self.name}: no {what} within {seconds:.0f} s: {self.last_lines()}")
            time.sleep(POLL_SECONDS)

    def until_listening(self, ports: list[int], seconds: float) -> None:
        """Waits until every one of the TCP ports is open."""
        for port in ports:
            self.until(lambda port=port: is_open(port), f"listener on port {port}", seconds)

    def until_printed(self, text: str, seconds: float) -> None:
        """Waits until the program has printed `text`."""
        self.until(lambda: text in self.output(), f"line with {text!r}", seconds)

    def stop(self, seconds: float = STOP_SECONDS_MAX) -> int:
        """Asks the program to stop, kills it when time is up, and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def kill(self) -> None:
        """Ends the program at once."""
        self.process.kill()
        self.process.wait(STOP_SECONDS_MAX)

    def last_lines(self, count: int = 4) -> str:
        """Returns the last lines of the program's output, as one."""
        return " | ".join(line[-300:] for line in self.output().strip().splitlines()[-count:])


def numbered(folder: Path, name: str) -> Path:
    """Returns a path in `folder` that is not taken."""
    path = folder / name
    number = 1
    while path.exists():
        number += 1
        path = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
    return path


def free_ports(count: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> list[int]:
    """Returns loopback ports that nobody has; none that the system gives to connections, which could be faster than a program."""
    ports = set()
    while len(ports) < count:
        port = random.randrange(*PORTS)
        with socket.socket(socket.AF_INET, kind) as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.add(port)
    return list(ports)


def free_address(port: int) -> str:
    """Returns a loopback address on which nobody has the UDP port `port`."""
    while True:
        address = f"127.{random.randrange(1, 255)}.{random.randrange(1, 255)}.{random.randrange(1, 255)}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            try:
                one.bind((address, port))
            except OSError:
                continue
            return address


def is_open(port: int) -> bool:
    """Tells whether somebody accepts connections on a loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable, what: str, seconds: float):
    """Returns what `condition` returns as soon as that is true; fails when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise Failed(f"no {what} within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


def run(arguments: list, folder: Path, seconds: float, environment: dict[str, str] | None = None) -> str:
    """Runs a command to its end and returns what it printed; fails when it fails or takes too long."""
    command = [str(argument) for argument in arguments]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"`{' '.join(command)}` took longer than {seconds:.0f} s") from error
    if done.returncode != 0:
        tail = " | ".join(done.stdout.strip().splitlines()[-4:])
        raise Failed(f"`{' '.join(command)}` ended with {done.returncode}: {tail}")
    return done.stdout
