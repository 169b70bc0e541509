"""Programs as users write them, with Outspan as their exporter, into a Collector: every span is found, in its place."""

import os
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from cases import Run
from cases import case
from cases.overload import otlp_http
from install import users
from programs import Failed
from programs import Program
from programs import free_ports
from programs import run as run_command
from programs.collector import Collector
from spans import compare

SECONDS_MAX = 300
RUN_SECONDS_MAX = 120
INTERNAL, SERVER, CLIENT = 1, 2, 3


@dataclass(frozen=True, order=True)
class Span:
    """A span that a program makes: its name, its kind, the name of its parent, and the service."""

    service: str
    name: str
    kind: int = INTERNAL
    parent: str = ""


def user(name: str, what: str, expected: list[Span], drive=None) -> None:
    """Registers the cases of one program and of its twin. `drive` runs it, unless it runs to its end by itself."""

    @case(f"user-{name}", f"{what}: every span, once, in its place", SECONDS_MAX)
    def run_case(run: Run) -> None:
        check(run, name, users.ensure(name), expected, drive)

    @case(f"peer-{name}", f"{what}, on opentelemetry-otlp: the same spans", SECONDS_MAX, is_asked_for=True)
    def run_twin(run: Run) -> None:
        check(run, name, users.ensure_twin(name), expected, drive)


def check(run: Run, name: str, program: Path, expected: list[Span], drive) -> None:
    """Runs a program beside a Collector, and fails unless it makes and delivers the spans expected."""
    (port,) = free_ports(1)
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_SERVICE_NAME": name}
    with Collector(run.folder, otlp_http(port)) as collector:
        if drive:
            drive(run.folder, program, environment, collector)
        else:
            printed = run_command([program], run.folder, RUN_SECONDS_MAX, environment)
            if printed.strip() and name != "custom":
                raise Failed(f"{name} printed {printed!r}")
        found = found_spans(collector.received(len(expected)))
    if found != sorted(expected):
        raise compare.Different(f"expected {sorted(expected)}, found {found}")


def found_spans(requests: list) -> list[Span]:
    """Returns the spans of requests, in order; a parent that did not arrive is an error."""
    spans = compare.flat(requests)
    found = []
    for key, span in spans.items():
        trace = key.partition("/")[0]
        parent = ""
        if span["parent_span_id"]:
            parent = spans[f"{trace}/{span['parent_span_id']}"]["name"]
        service = span["resource"]["attributes"]["service.name"][1]
        found.append(Span(service, span["name"], span["kind"], parent))
    return sorted(found)


def drive_axum(folder: Path, program: Path, environment: dict, _collector: Collector) -> None:
    """Asks the service once, and ends it as an operator does."""
    with Program("axum", [program], folder, environment) as service:
        service.until_printed("listening on", RUN_SECONDS_MAX)
        address = service.output().split()[-1]
        with urllib.request.urlopen(f"http://{address}/cart/7", timeout=RUN_SECONDS_MAX) as answer:
            if answer.read() != b"cart 7: 12.50\n":
                raise Failed("the service answered something else")
        if service.stop() != 0:
            raise Failed(f"the service ended with {service.process.returncode}: {service.last_lines()}")


def drive_lambda(folder: Path, program: Path, environment: dict, collector: Collector) -> None:
    """Calls the function three times; the spans of each call are there when it has answered."""
    with subprocess.Popen(
        [program], cwd=folder, env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as function:
        try:
            for number, event in enumerate((b"tea", b"cup", b"pot"), start=1):
                function.stdin.write(event + b"\n")
                function.stdin.flush()
                answer = function.stdout.readline()
                if answer != event.upper() + b"\n":
                    raise Failed(f"the function answered {answer!r}")
                collector.wait_for(number)
            function.stdin.close()
            if function.wait(RUN_SECONDS_MAX) != 0:
                raise Failed(f"the function ended with {function.returncode}")
        finally:
            function.kill()


user("cli", "a command-line tool that exits at once", [Span("cli", "run"), Span("cli", "read", parent="run")])
user(
    "tracing",
    "a program that knows `tracing` only",
    [Span("tracing", "order"), *[Span("tracing", "pack", parent="order")] * 2],
)
user(
    "threads",
    "plain threads, no runtime",
    [Span("threads", "work"), *[Span("threads", "part", parent="work")] * 4],
)
user(
    "current-thread",
    "tokio with one thread",
    [Span("current-thread", "work"), Span("current-thread", "part", parent="work")],
)
user("lambda", "a function that delivers before each answer", [Span("lambda", "handle")] * 3, drive_lambda)
user(
    "custom",
    "an exporter of one's own beside OTLP",
    [Span("custom", "run"), Span("custom", "read", parent="run")],
)
user("several", "several providers on one exporter", [Span("cup", "order"), Span("tea", "order")])
user(
    "axum",
    "a service on axum, ended by SIGTERM",
    [Span("axum", "GET /cart/7", SERVER), Span("axum", "price", parent="GET /cart/7")],
    drive_axum,
)
user(
    "tonic",
    "a service on tonic, and who calls it",
    [
        Span("tonic", "grpc.health.v1.Health/Check", CLIENT),
        Span("tonic", "grpc.health.v1.Health/Check", SERVER, "grpc.health.v1.Health/Check"),
    ],
)
