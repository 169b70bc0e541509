"""Builds an OpenTelemetry Collector of the components that we speak with."""

from pathlib import Path

from install import INTEROP
from install import installed
from install.go import go

VERSION = "0.158.0"
CONFIG = INTEROP / "install" / "collector.yaml"


def ensure() -> Path:
    """Returns the Collector's program."""
    return installed(f"collector-{VERSION}", build, [CONFIG]) / "_build" / "otelcol-interop"


def build(folder: Path) -> None:
    (folder / CONFIG.name).write_bytes(CONFIG.read_bytes())
    go(folder, "run", f"go.opentelemetry.io/collector/cmd/builder@v{VERSION}", "--config", CONFIG.name)
