"""Runs cases one after the other, prints a line for each, and a table at the end.

Ends with 1 if any failed. A program that cannot be had is a failure of the cases that need it.
"""

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import ease
from cases import CASES
from cases import Case
from cases import Run
from cases import Shared
from cases import dialect  # noqa: F401
from cases import faults  # noqa: F401
from cases import itself  # noqa: F401
from cases import kafka  # noqa: F401
from cases import library  # noqa: F401
from cases import overload  # noqa: F401
from cases import package  # noqa: F401
from cases import partial  # noqa: F401
from cases import queue  # noqa: F401
from cases import receive  # noqa: F401
from cases import rich_sdk  # noqa: F401
from cases import send_collector  # noqa: F401
from cases import send_jaeger  # noqa: F401
from cases import send_zipkin  # noqa: F401
from cases import table
from cases import users  # noqa: F401
from install import CannotInstall
from programs import outspan

MESSAGE_CHARACTERS_MAX = 2_000


class OutOfTime(BaseException):
    """Raised in a case whose time is up; no handler of a case swallows it."""


def main() -> int:
    """Reads the command line, runs the cases, returns the exit status."""
    parser = argparse.ArgumentParser(prog="interop/run", description="Runs real programs against ours.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="name or beginning of a name; all if none is given")
    parser.add_argument("--list", action="store_true", help="show the names and what they show")
    parser.add_argument(
        "--table", action="store_true", help="write the tables of docs/compatibility.md, and run nothing"
    )
    parser.add_argument(
        "--ease", action="store_true", help="build programs and their twins, write the table of docs/ease.md, run nothing"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder with what programs printed and wrote")
    arguments = parser.parse_args()
    if arguments.table:
        table.write()
        return 0
    if arguments.ease:
        ease.write()
        return 0
    chosen = choose(arguments.cases)
    if not chosen:
        print(f"no case begins with {' or '.join(arguments.cases)}; --list shows all", file=sys.stderr)
        return 2
    if arguments.list:
        for each in chosen:
            print(f"{each.name:34} {each.what}")
        return 0
    if not os.access(outspan.binary(), os.X_OK):
        print(
            f"no program at {outspan.binary()}: build it with `cargo build --release`, or set OUTSPAN_BIN",
            file=sys.stderr,
        )
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, out_of_time)
    return run_all(chosen, arguments.keep)


def choose(names: list[str]) -> list[Case]:
    """Returns the cases whose names begin with one of `names`; without names, all but those that have to be asked for."""
    if not names:
        return [each for each in CASES.values() if not each.is_asked_for]
    return [each for each in CASES.values() if each.name.startswith(tuple(names))]


def run_all(chosen: list[Case], keep: bool) -> int:
    """Runs cases, prints the table, and returns the exit status."""
    folder = Path(tempfile.mkdtemp(prefix="outspan-interop-"))
    rows = []
    try:
        with contextlib.ExitStack() as stack:
            shared = Shared(folder, stack)
            for each in chosen:
                rows.append(run_one(each, folder, shared))
    finally:
        failed = [row for row in rows if row[1] != "ok"]
        if keep or failed:
            print(f"what programs printed and wrote is in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print_table(rows)
    print(f"{len(rows) - len(failed)} ok, {len(failed)} failed")
    return 1 if failed else 0


def run_one(each: Case, folder: Path, shared: Shared) -> tuple:
    """Runs one case within its time, prints its line, and returns its row."""
    work = folder / each.name
    work.mkdir()
    run = Run(work, shared)
    began = time.monotonic()
    outcome = "ok"
    signal.alarm(each.seconds_max)
    try:
        each.function(run)
        what = run.note or each.what
    except CannotInstall as error:
        outcome, what = "FAILED", f"cannot be had: {error}"
    except OutOfTime:
        outcome, what = "FAILED", f"took longer than {each.seconds_max} s"
    except Exception as error:
        (work / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        outcome, what = "FAILED", f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    seconds = time.monotonic() - began
    print(f"{outcome:6} {each.name} {seconds:.1f} s {what[:MESSAGE_CHARACTERS_MAX]}", flush=True)
    return (each.name, outcome, seconds, each.what)


def out_of_time(*_) -> None:
    raise OutOfTime


def print_table(rows: list[tuple]) -> None:
    """Prints all outcomes as a table of Markdown."""
    print("\n| case | outcome | seconds | what it shows |\n|---|---|---|---|")
    for name, outcome, seconds, what in rows:
        print(f"| {name} | {outcome} | {seconds:.1f} | {what} |")


if __name__ == "__main__":
    sys.exit(main())
