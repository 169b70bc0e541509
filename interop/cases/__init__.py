"""The cases: each shows one thing between a real program and ours.

A case is a function with a name and a bound, registered by `@case`. It gets a `Run`, and fails by raising.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CASES: dict[str, "Case"] = {}
SECONDS_MAX = 300


@dataclass(frozen=True)
class Case:
    """One thing to show."""

    name: str
    what: str
    seconds_max: int
    function: Callable
    is_asked_for: bool


class Run:
    """What a case works with: a folder of its own, and programs that several cases share."""

    def __init__(self, folder: Path, shared: "Shared"):
        self.folder = folder
        self.shared = shared
        self.note = ""


class Shared:
    """Programs that take long to start: started when the first case asks, stopped after the last."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack):
        self.folder = folder
        self.stack = stack
        self.running: dict[str, object] = {}

    def get(self, name: str, start: Callable):
        """Returns the program `name`, which `start` starts in a folder if it does not run."""
        if name not in self.running:
            folder = self.folder / name
            folder.mkdir(exist_ok=True)
            self.running[name] = self.stack.enter_context(start(folder))
        return self.running[name]


def case(name: str, what: str, seconds_max: int = SECONDS_MAX, is_asked_for: bool = False) -> Callable:
    """Registers a function as the case `name`, which shows `what` and takes `seconds_max` at most.

    One that is asked for is about no program of ours, and runs when it is named only.
    """

    def register(function: Callable) -> Callable:
        if name in CASES:
            raise ValueError(f"two cases are called {name}")
        CASES[name] = Case(name, what, seconds_max, function, is_asked_for)
        return function

    return register
