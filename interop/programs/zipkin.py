"""The Zipkin server with its storage in memory."""

import json
from pathlib import Path

from install import machine
from install import zipkin
from programs import Program
from programs import free_ports
from programs import http

START_SECONDS_MAX = 120
ARRIVE_SECONDS_MAX = 120


class Zipkin:
    """A running Zipkin server."""

    def __init__(self, folder: Path):
        (self.port,) = free_ports(1)
        environment = {"QUERY_PORT": str(self.port), "STORAGE_TYPE": "mem", "SELF_TRACING_ENABLED": "false"}
        java = [
            machine.need("java"),
            "-Xmx384m",
            "-XX:ActiveProcessorCount=2",
            "-XX:TieredStopAtLevel=1",
            "-jar",
            zipkin.ensure(),
        ]
        self.program = Program("zipkin", java, folder, environment)

    def __enter__(self) -> "Zipkin":
        try:
            self.program.until(lambda: http.get(f"http://127.0.0.1:{self.port}/health"), "health", START_SECONDS_MAX)
        except BaseException:
            self.program.stop()
            raise
        return self

    def __exit__(self, *_error) -> None:
        self.program.stop()

    def spans(self, trace_ids: set[str], count: int) -> list[dict]:
        """Returns the spans of traces as soon as there are `count`."""
        found: list[dict] = []

        def all_there() -> bool:
            found.clear()
            for trace_id in trace_ids:
                found.extend(self.trace(trace_id))
            return len(found) >= count

        self.program.until(all_there, f"trace of {count} spans", ARRIVE_SECONDS_MAX)
        return found

    def trace(self, trace_id: str) -> list[dict]:
        """Returns the spans of a trace that are there at this moment.

        The server reckons the size of its JSON too large where a text has U+2028, and fills it up with zeros.
        """
        body = http.get(f"http://127.0.0.1:{self.port}/api/v2/trace/{trace_id}")
        return json.loads(body.rstrip("\0")) if body else []
