"""Builds Jaeger v2, everything in one process.

Jaeger's releases 2.x are no versions to Go, because the module's path has no `/v2`; v1.76.0 is the same commit as 2.13.0 and
the last that has such a version. It replaces a dependency, which `go install` refuses; so it is built from a module of ours
that replaces the same.
"""

import json
from pathlib import Path

from install import installed
from install.go import go

VERSION = "2.13.0"
MODULE_VERSION = "v1.76.0"
PACKAGE = "github.com/jaegertracing/jaeger/cmd/jaeger"
SARAMA = "github.com/Shopify/sarama"
REPLACEMENT = f"{SARAMA}={SARAMA}@v1.33.0"


def ensure() -> Path:
    """Returns the program."""
    return installed(f"jaeger-{VERSION}", build) / "jaeger"


def build(folder: Path) -> None:
    go(folder, "mod", "init", "example.invalid/jaeger")
    go(folder, "mod", "edit", "-replace", REPLACEMENT)
    module = PACKAGE.removesuffix("/cmd/jaeger")
    downloaded = json.loads(go(folder, "mod", "download", "-json", f"{module}@{MODULE_VERSION}"))
    # Jaeger's own checksums: the checksum database does not know every version that Jaeger needs.
    (folder / "go.sum").write_bytes((Path(downloaded["Dir"]) / "go.sum").read_bytes())
    go(folder, "get", f"{PACKAGE}@{MODULE_VERSION}")
    go(folder, "build", "-o", "jaeger", "-ldflags", "-s -w", PACKAGE)
