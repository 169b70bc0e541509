"""Builds telemetrygen, OpenTelemetry's generator of load."""

from pathlib import Path

from install import go

# The module proxy has not every version of it.
VERSION = "0.160.0"
PACKAGE = "github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen"


def ensure() -> Path:
    """Returns the program."""
    return go.program("telemetrygen", PACKAGE, f"v{VERSION}")
