"""Builds an OpenTelemetry Collector of the components that we speak with."""

from pathlib import Path

from install import INTEROP
from install import installed
from install import step
from install.go import ENVIRONMENT

VERSION = "0.158.0"
CONFIG = INTEROP / "install" / "collector.yaml"


def ensure() -> Path:
    """Returns the Collector's program."""
    return installed(f"collector-{VERSION}", build, [CONFIG]) / "_build" / "otelcol-interop"


def build(folder: Path) -> None:
    (folder / CONFIG.name).write_bytes(CONFIG.read_bytes())
    builder = f"go.opentelemetry.io/collector/cmd/builder@v{VERSION}"
    step(["go", "run", builder, "--config", CONFIG.name], folder, ENVIRONMENT)
