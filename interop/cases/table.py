"""The tables of docs/compatibility.md, made from the cases and the versions that are installed."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from cases import CASES
from install import INTEROP
from install import clients
from install import collector
from install import jaeger
from install import kafka
from install import kcat
from install import python
from install import telemetrygen
from install import zipkin

PAGE = INTEROP.parent / "docs" / "compatibility.md"
BEGIN = "<!-- tables: interop/run --table -->"
END = "<!-- end of tables -->"
ALL = "all fields"
ALL_ONCE = "all fields, none lost"
KEPT = "all that {} says is kept"
# Cases of the comparison itself, and of whole programs, which are about no pair of a program and a transport.
WITHOUT_ROW = ("itself-", "user", "library-", "package-", "peer-")


@dataclass(frozen=True)
class Row:
    """What is shown with one program over one transport; `cases` is an expression for the names."""

    who: str
    transport: str
    compared: str
    cases: str


def tables() -> str:
    """Returns all tables, as they stand in the page between its marks."""
    parts = [
        "### From Outspan\n\n" + table(FROM_US),
        "### To Outspan\n\n" + table(TO_US),
        "### All cases\n\n" + all_cases(),
    ]
    check_rows()
    return "\n".join(parts)


def write() -> None:
    """Writes the tables into the page anew."""
    before, _, after = split_page()
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables()}\n{END}{after}", encoding="utf-8")


def is_true() -> bool:
    """Tells whether the page has the tables of the cases as they are now."""
    return split_page()[1].strip() == tables().strip()


def split_page() -> tuple[str, str, str]:
    """Returns what stands before, between and after the marks of the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    between, _, after = rest.partition(END)
    return before, between, after


def table(rows: list[Row]) -> str:
    """Returns rows as a table of Markdown."""
    lines = ["| with | over | compared | cases |", "|---|---|---|---|"]
    for row in rows:
        count = sum(1 for name in CASES if re.fullmatch(row.cases, name))
        lines.append(f"| {row.who} | {row.transport} | {row.compared} | {count} |")
    return "\n".join(lines) + "\n"


def all_cases() -> str:
    """Returns every case as a row of a table of Markdown."""
    lines = [f"| `{each.name}` | {each.what} |" for each in CASES.values() if not each.is_asked_for]
    return "\n".join(["| case | what it shows |", "|---|---|", *lines]) + "\n"


def check_rows() -> None:
    """Fails unless every case is in one row, and every row has a case."""
    rows = [*FROM_US, *TO_US]
    for row in rows:
        if not any(re.fullmatch(row.cases, name) for name in CASES):
            raise ValueError(f"no case is called {row.cases}")
    for name in CASES:
        count = sum(1 for row in rows if re.fullmatch(row.cases, name))
        if count != 1 and not name.startswith(WITHOUT_ROW):
            raise ValueError(f"the case {name} is in {count} rows of cases/table.py, not in one")


def version(path: Path, pattern: str) -> str:
    """Returns the version that a file pins."""
    found = re.search(pattern, path.read_text(encoding="utf-8"))
    if not found:
        raise ValueError(f"{path} does not pin {pattern}")
    return found.group(1)


def node_version(package: str) -> str:
    """Returns the version of a package of the SDK for JavaScript."""
    pinned = json.loads((clients.SOURCES / "node" / "package-lock.json").read_text(encoding="utf-8"))
    return pinned["packages"][f"node_modules/@opentelemetry/{package}"]["version"]


COLLECTOR = f"OpenTelemetry Collector {collector.VERSION}"
JAEGER = f"Jaeger {jaeger.VERSION}, its query"
ZIPKIN = f"Zipkin {zipkin.VERSION}, its query"
KAFKA = f"Apache Kafka {kafka.VERSION}"
GO = "SDK for Go " + version(clients.SOURCES / "go" / "go.mod", r"go\.opentelemetry\.io/otel v(\S+)")
JAVA_POM = clients.SOURCES / "java" / "pom.xml"
JAVA = "SDK for Java " + version(JAVA_POM, r"opentelemetry-sdk</artifactId><version>([^<]+)")
JAVA_ZIPKIN = "exporter for Java " + version(JAVA_POM, r"exporter-zipkin</artifactId><version>([^<]+)")
NODE = f"SDK for JavaScript {node_version('sdk-trace-base')}"
NODE_OTLP = f"{NODE}, exporters {node_version('exporter-trace-otlp-grpc')}"
PYTHON = "SDK for Python " + version(python.REQUIREMENTS / "requirements-client.txt", r"opentelemetry-sdk==(\S+)")
PYTHON_JAEGER = "SDK for Python " + version(
    python.REQUIREMENTS / "requirements-client-jaeger.txt", r"opentelemetry-sdk==(\S+)"
)
TELEMETRYGEN = f"telemetrygen {telemetrygen.VERSION}"

TO_ZIPKIN = KEPT.format("[zipkin.md](zipkin.md)")
TO_JAEGER = KEPT.format("[jaeger.md](jaeger.md)")
AS_WRITTEN = "all that the SDK writes"

FROM_US = [
    Row(
        COLLECTOR,
        "OTLP over gRPC, HTTP in protobuf and in JSON; plain, gzip, zstd",
        ALL,
        "collector-otlp-(grpc|http|json)(-gzip|-zstd)?",
    ),
    Row(
        COLLECTOR,
        "OTLP over gRPC and HTTP with TLS, mutual TLS",
        ALL + "; nothing without trust",
        "collector-otlp-(grpc|http)-m?tls",
    ),
    Row(
        COLLECTOR,
        "OTLP over gRPC and HTTP with a bearer token, a password",
        ALL + "; nothing with a wrong one",
        "collector-otlp-(grpc|http)-(bearer|basic)",
    ),
    Row(COLLECTOR, "Zipkin in JSON and protobuf", TO_ZIPKIN, "collector-zipkin-.*"),
    Row(COLLECTOR, "Jaeger: Thrift over HTTP, compact and binary over UDP", TO_JAEGER, "collector-jaeger-.*"),
    Row(
        COLLECTOR,
        "Zipkin in the Collector's dialect",
        "the same as its own exporter's, [but for a few](#differences-that-stay)",
        "dialect-zipkin-.*",
    ),
    Row(
        COLLECTOR,
        "Jaeger in the Collector's dialect",
        "the same as the Jaeger spans that it writes to Kafka",
        "dialect-jaeger",
    ),
    Row(
        COLLECTOR,
        "OTLP over gRPC and HTTP to a port without a server, an expired certificate, a full server",
        "every span counted as failed",
        "fault-(wrong-port|expired-certificate|memory-limiter)-.*",
    ),
    Row(
        COLLECTOR,
        "OTLP over gRPC and HTTP, killed and started again under load",
        "sent = found + counted",
        "fault-restart-.*",
    ),
    Row(JAEGER, "OTLP over gRPC, HTTP in protobuf and in JSON", "what it shows of each field", "jaeger-otlp-.*"),
    Row(
        JAEGER, "Thrift over HTTP, compact and binary over UDP", "what it shows of each field", "jaeger-(thrift|udp)-.*"
    ),
    Row(ZIPKIN, "Zipkin in JSON and protobuf", TO_ZIPKIN, "zipkin-.*"),
    Row(
        f"{KAFKA}, read by kcat {kcat.VERSION}",
        "messages plain, gzip, snappy, lz4, zstd",
        ALL + ", a key for each trace",
        "kafka-kcat-.*",
    ),
    Row(f"{KAFKA}, read by {COLLECTOR}", "`otlp_proto`, `otlp_json`", ALL, "kafka-collector-reads-.*"),
    Row(f"{KAFKA}, beside {COLLECTOR}", "keys and partitions", "the same for a trace", "kafka-partitions"),
]
TO_US = [
    Row(GO, "OTLP over gRPC and HTTP; plain, gzip", ALL, "agent-go-otlp-.*"),
    Row(JAVA, "OTLP over gRPC and HTTP; plain, gzip", ALL, "agent-java-otlp-.*"),
    Row(NODE_OTLP, "OTLP over gRPC, HTTP in protobuf and in JSON; plain, gzip", ALL, "agent-node-otlp-.*"),
    Row(PYTHON, "OTLP over gRPC and HTTP; plain, gzip", ALL, "agent-python-otlp-.*"),
    Row(f"{GO}, {PYTHON}, {NODE}, {JAVA_ZIPKIN}", "Zipkin", AS_WRITTEN, "agent-(go|java|node|python)-zipkin"),
    Row(
        f"{NODE}, {PYTHON_JAEGER}",
        "Jaeger: Thrift over HTTP, compact over UDP",
        AS_WRITTEN,
        "agent-(node|python)-jaeger-.*",
    ),
    Row(TELEMETRYGEN, "OTLP over gRPC and HTTP", "every span, once", "agent-telemetrygen-.*"),
    Row(COLLECTOR, "OTLP over gRPC; plain, gzip, zstd", ALL, "agent-collector-grpc-.*"),
    Row(
        COLLECTOR,
        "OTLP over HTTP in protobuf and in JSON; plain, gzip, zstd, deflate",
        ALL,
        "agent-collector-(http|json)-.*",
    ),
    Row(COLLECTOR, "Zipkin in JSON and protobuf", "all that it writes", "agent-collector-zipkin-.*"),
    Row(f"{COLLECTOR}, through {KAFKA}", "`otlp_proto`, `otlp_json`", ALL, "kafka-agent-reads-.*"),
    Row(f"{KAFKA}, while agents of a group take turns", "`otlp_proto`", "every span, once", "kafka-agent-goes-on"),
    Row(
        "the SDKs above",
        "OTLP, while the agent has no room",
        "they come back, " + ALL_ONCE + "; one [gives up](#what-others-do)",
        "overload-.*",
    ),
    Row("the SDKs above", "OTLP, a request that is too large", "refused, and the program is told why", "too-large-.*"),
    Row(
        "the SDKs above",
        "OTLP, some spans that no receiver can take",
        "the others arrive once",
        "partial-(go|java|node|python)-.*",
    ),
    Row(
        COLLECTOR,
        "OTLP, some spans that no receiver can take",
        "the others arrive once, and it says so",
        "partial-collector-.*",
    ),
    Row(COLLECTOR, "OTLP, while the agent has no room", ALL_ONCE, "queue-full-.*"),
    Row(COLLECTOR, "OTLP, while the agent is killed and started again", ALL_ONCE, "queue-away-.*"),
]
