"""Our program: sends a file, or receives as the agent."""

import os
import re
from pathlib import Path

from install import INTEROP
from programs import Failed
from programs import Program
from programs import free_ports
from programs import http
from programs import run
from spans import files

SEND_SECONDS_MAX = 120
START_SECONDS_MAX = 120


def binary() -> Path:
    """Returns the program under test."""
    return chosen("OUTSPAN_BIN", "target/release/outspan")


def kafka_binary() -> Path:
    """Returns the program under test as it is built with the feature `kafka`."""
    path = chosen("OUTSPAN_KAFKA_BIN", "target/kafka/release/outspan")
    if not os.access(path, os.X_OK):
        raise Failed(f"no program with Kafka at {path}: build it with `--features kafka`, or set OUTSPAN_KAFKA_BIN")
    return path


def chosen(variable: str, otherwise: str) -> Path:
    """Returns the program that a variable names, or one of the checkout; absolute, because cases run in folders of their own."""
    named = os.environ.get(variable)
    return Path(named).absolute() if named else INTEROP.parent / otherwise


def send_to_kafka(folder: Path, file: Path, to: str) -> str:
    """Sends a file of spans to Kafka, and returns the summary."""
    return run([kafka_binary(), "send", file, "--to", to], folder, SEND_SECONDS_MAX)


def send(folder: Path, file: Path, to: str, *options: str) -> str:
    """Sends a file of spans, and returns the summary."""
    deadline = ["--deadline", f"{SEND_SECONDS_MAX - 10}s"]
    return run([binary(), "send", file, "--to", to, *deadline, *options], folder, SEND_SECONDS_MAX)


def send_in_vain(folder: Path, file: Path, to: str, *options: str, says: str) -> None:
    """Sends a file that must not arrive; fails if it does, or if the error does not say `says`."""
    try:
        printed = run([binary(), "send", file, "--to", to, "--retries", "0", *options], folder, SEND_SECONDS_MAX)
    except Failed as error:
        if "ended with 1:" in str(error) and says in str(error):
            return
        raise
    raise Failed(f"sent what was to be refused: {printed.strip()}")


class Relay:
    """An agent that passes spans on to a server, and tells over its admin address how it is."""

    def __init__(self, folder: Path, listen: list[str], to: str, *options: str):
        (self.admin,) = free_ports(1)
        arguments = [binary(), "agent", "--admin", f"127.0.0.1:{self.admin}", "--color", "never"]
        for url in listen:
            arguments += ["--listen", url]
        self.program = Program("relay", [*arguments, *options, "--to", to], folder)

    def __enter__(self) -> "Relay":
        try:
            self.program.until_printed("sending to", START_SECONDS_MAX)
        except BaseException:
            self.program.stop()
            raise
        return self

    def __exit__(self, *_error) -> None:
        self.program.stop()

    def port(self, scheme: str) -> int:
        """Returns the port that the agent took for `scheme`."""
        return port_in(self.program.output(), scheme)

    def requests(self, outcome: str) -> int:
        """Returns how many requests had an outcome, such as `deferred`, so far."""
        status = http.get_json(f"http://127.0.0.1:{self.admin}/status")
        if status is None:
            raise Failed(f"the agent does not tell how it is: {self.program.last_lines()}")
        return sum(receiver["requests"][outcome] for receiver in status["receivers"])


class Agent:
    """An agent that writes what it receives into a file of OTLP JSON lines."""

    def __init__(self, folder: Path, listen: list[str], *options: str, program: Path | None = None):
        self.file = folder / "received.jsonl"
        arguments = [program or binary(), "agent", "--admin", "off", "--batch-delay", "20ms", "--color", "never"]
        for url in listen:
            arguments += ["--listen", url]
        arguments += [*options, "--to", f"file:{self.file}"]
        self.program = Program("agent", arguments, folder)

    def __enter__(self) -> "Agent":
        try:
            self.program.until_printed("sending to", START_SECONDS_MAX)
        except BaseException:
            self.program.stop()
            raise
        return self

    def __exit__(self, *_error) -> None:
        self.program.stop()

    def port(self, scheme: str) -> int:
        """Returns the port that the agent took for `scheme`."""
        return port_in(self.program.output(), scheme)

    def received(self, count: int, seconds: float = START_SECONDS_MAX) -> list:
        """Stops the agent once it wrote `count` spans, and returns the requests it wrote."""
        self.program.until(lambda: files.count(self.file) >= count, f"file of {count} spans", seconds)
        self.program.stop()
        return files.read_json_lines(self.file)


def port_in(printed: str, scheme: str) -> int:
    """Returns the port that an agent says it listens on for `scheme`."""
    found = re.search(rf"listening on {re.escape(scheme)}://\S*:(\d+)", printed)
    if not found:
        raise Failed(f"the agent does not listen on {scheme}: {printed}")
    return int(found.group(1))
