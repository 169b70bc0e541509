"""The OpenTelemetry Collector, either at the end of our exporters or in front of our receivers.

Its configuration is JSON, which is YAML as well.
"""

import json
from pathlib import Path

from install import collector
from programs import Program
from spans import files

START_SECONDS_MAX = 120
ARRIVE_SECONDS_MAX = 120


class Collector:
    """A Collector of one traces pipeline from `receivers` to `exporters`; what comes in also goes into a file."""

    def __init__(self, folder: Path, receivers: dict, exporters: dict | None = None, **sections: dict):
        self.file = folder / "collector.pb"
        self.ports = sections.pop("ports", [])
        exporters = exporters or {"file": {"path": str(self.file), "format": "proto", "flush_interval": "50ms"}}
        extensions = sections.pop("extensions", {})
        processors = sections.pop("processors", {})
        config = {
            "receivers": receivers,
            "processors": processors,
            "exporters": exporters,
            "extensions": extensions,
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "extensions": list(extensions),
                "pipelines": {
                    "traces": {
                        "receivers": list(receivers),
                        "processors": list(processors),
                        "exporters": list(exporters),
                    }
                },
            },
        }
        path = folder / "collector.yaml"
        path.write_text(json.dumps(config, indent=1), encoding="utf-8")
        self.program = Program("collector", [collector.ensure(), "--config", path], folder)

    def __enter__(self) -> "Collector":
        try:
            self.program.until_printed("Everything is ready", START_SECONDS_MAX)
        except BaseException:
            self.program.stop()
            raise
        return self

    def __exit__(self, *_error) -> None:
        self.program.stop()

    def wait_for(self, count: int, seconds: float = ARRIVE_SECONDS_MAX) -> None:
        """Waits until the Collector wrote `count` spans."""
        self.program.until(lambda: files.count(self.file) >= count, f"file of {count} spans", seconds)

    def received(self, count: int, seconds: float = ARRIVE_SECONDS_MAX) -> list:
        """Stops the Collector once it wrote `count` spans, and returns the requests it wrote."""
        self.wait_for(count, seconds)
        self.program.stop()
        return files.read_records(self.file)
