"""Jaeger v2 with its storage in memory, asked over the HTTP API of its query.

That API gives out OTLP JSON, under `result`, which is what Jaeger stores.
"""

import json
import socket
from pathlib import Path

from install import jaeger
from programs import Program
from programs import free_address
from programs import free_ports
from programs import http
from spans import files

START_SECONDS_MAX = 120
ARRIVE_SECONDS_MAX = 120
BINARY_PORT = 6832


class Jaeger:
    """A running Jaeger with all receivers that we send to."""

    def __init__(self, folder: Path):
        self.grpc, self.http, self.thrift, self.query, query_grpc = free_ports(5)
        (self.compact,) = free_ports(1, socket.SOCK_DGRAM)
        self.binary = f"{free_address(BINARY_PORT)}:{BINARY_PORT}"
        config = {
            "service": {
                "extensions": ["jaeger_storage", "jaeger_query"],
                "pipelines": {"traces": {"receivers": ["otlp", "jaeger"], "exporters": ["jaeger_storage_exporter"]}},
                "telemetry": {"metrics": {"level": "none"}},
            },
            "extensions": {
                "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 1000}}}},
                "jaeger_query": {
                    "storage": {"traces": "memory"},
                    "http": {"endpoint": f"127.0.0.1:{self.query}"},
                    "grpc": {"endpoint": f"127.0.0.1:{query_grpc}"},
                },
            },
            "receivers": {
                "otlp": {
                    "protocols": {
                        "grpc": {"endpoint": f"127.0.0.1:{self.grpc}"},
                        "http": {"endpoint": f"127.0.0.1:{self.http}"},
                    }
                },
                "jaeger": {
                    "protocols": {
                        "thrift_http": {"endpoint": f"127.0.0.1:{self.thrift}"},
                        "thrift_compact": {"endpoint": f"127.0.0.1:{self.compact}"},
                        "thrift_binary": {"endpoint": self.binary},
                    }
                },
            },
            "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
        }
        path = folder / "jaeger.yaml"
        path.write_text(json.dumps(config, indent=1), encoding="utf-8")
        self.program = Program("jaeger", [jaeger.ensure(), "--config", path], folder)

    def __enter__(self) -> "Jaeger":
        try:
            self.program.until_listening([self.grpc, self.http, self.thrift, self.query], START_SECONDS_MAX)
            self.program.until_printed("Everything is ready", START_SECONDS_MAX)
        except BaseException:
            self.program.stop()
            raise
        return self

    def __exit__(self, *_error) -> None:
        self.program.stop()

    def requests(self, trace_ids: set[str], count: int) -> list:
        """Returns the spans of traces, as requests, as soon as there are `count` spans."""
        found: list = []

        def all_there() -> bool:
            found.clear()
            for trace_id in trace_ids:
                found.extend(self.trace(trace_id))
            return files.spans_of(found) >= count

        self.program.until(all_there, f"trace of {count} spans", ARRIVE_SECONDS_MAX)
        return found

    def trace(self, trace_id: str) -> list:
        """Returns what is there of a trace at this moment."""
        body = http.get(f"http://127.0.0.1:{self.query}/api/v3/traces/{trace_id}")
        if not body:
            return []
        return [files.from_json(files.loads(line)["result"]) for line in body.split("\n") if line.strip()]
