"""Real clients into our agent: the SDKs of other languages, telemetrygen, and the Collector's exporters.

An SDK sends the same spans to a Collector as well, over OTLP; what the Collector wrote is what the agent must have written.
"""

from collections.abc import Callable

from cases import Run
from cases import case
from install import clients
from install import telemetrygen
from programs import free_ports
from programs import outspan
from programs import run as run_command
from programs.collector import Collector
from spans import compare
from spans import files
from spans import rich
from spans import sdks
from spans import zipkin_collector

CLIENT_SPANS = 103
CLIENT_SECONDS_MAX = 120
GENERATED_TRACES = 200
SPANS_OF_GENERATED_TRACE = 2

# What the agent listens on for an exporter, and the scheme that a client wants in the address.
LISTENERS = {
    "otlp-grpc": ("grpc", "http"),
    "otlp-http": ("http", "http"),
    "otlp-json": ("http", "http"),
    "zipkin": ("zipkin+http", "http"),
    "jaeger-http": ("jaeger+http", "http"),
    "jaeger-udp": ("jaeger+udp", "udp"),
}
SDKS = {
    "go": (clients.go, ("otlp-grpc", "otlp-grpc+gzip", "otlp-http", "otlp-http+gzip")),
    "java": (clients.java, ("otlp-grpc", "otlp-grpc+gzip", "otlp-http", "otlp-http+gzip")),
    "node": (
        clients.node,
        ("otlp-grpc", "otlp-grpc+gzip", "otlp-http", "otlp-http+gzip", "otlp-json", "otlp-json+gzip"),
    ),
    "python": (clients.python_sdk, ("otlp-grpc", "otlp-grpc+gzip", "otlp-http", "otlp-http+gzip")),
}


def sdk_case(language: str, command: Callable[[], list], exporter: str) -> None:
    """Registers the case of one exporter of an SDK, over OTLP."""

    @case(
        f"agent-{language}-{exporter.replace('+', '-')}",
        f"SDK for {language}, {exporter}, into the agent: all fields",
    )
    def run_case(run: Run) -> None:
        expected, found = send_by_client(run, command(), exporter)
        compare.same(expected, found)


for each_language, (each_command, each_exporters) in SDKS.items():
    for each_exporter in each_exporters:
        sdk_case(each_language, each_command, each_exporter)


def zipkin_case(language: str, command: Callable[[], list]) -> None:
    """Registers the case of an SDK's exporter to Zipkin."""

    @case(f"agent-{language}-zipkin", f"SDK for {language}, Zipkin, into the agent: all that the SDK writes")
    def run_case(run: Run) -> None:
        sent, found = send_by_client(run, command(), "zipkin")
        sdks.same(sdks.through_zipkin(sent, sdks.ZIPKIN[language]), found)


def jaeger_case(language: str, command: Callable[[], list], exporter: str) -> None:
    """Registers the case of one of an SDK's exporters to Jaeger."""

    @case(
        f"agent-{language}-{exporter}", f"SDK for {language}, {exporter}, into the agent: all that the SDK writes", 120
    )
    def run_case(run: Run) -> None:
        sent, found = send_by_client(run, command(), exporter)
        sdks.same(sdks.through_jaeger(sent, sdks.JAEGER[language]), found)


for each_language, (each_command, _) in SDKS.items():
    zipkin_case(each_language, each_command)
for each_exporter in ("jaeger-http", "jaeger-udp"):
    jaeger_case("node", clients.node, each_exporter)
    jaeger_case("python", clients.python_sdk_of_jaeger, each_exporter)


def send_by_client(run: Run, command: list, exporter: str) -> tuple[dict, dict]:
    """Runs a client that sends to a Collector over OTLP, and to the agent with `exporter`; returns what each wrote."""
    (port,) = free_ports(1)
    listen, scheme = LISTENERS[exporter.partition("+")[0]]
    receivers = {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}}
    with Collector(run.folder, receivers) as collector, outspan.Agent(run.folder, [f"{listen}://127.0.0.1:0"]) as agent:
        reference = ["otlp-http", f"http://127.0.0.1:{port}"]
        under_test = [exporter, f"{scheme}://127.0.0.1:{agent.port(listen)}"]
        run_command([*command, *reference, *under_test], run.folder, CLIENT_SECONDS_MAX)
        found = agent.received(CLIENT_SPANS)
        expected = collector.received(CLIENT_SPANS)
    return compare.flat(expected), compare.flat(found)


def telemetrygen_case(name: str, *options: str) -> None:
    """Registers the case of telemetrygen over one transport."""

    @case(f"agent-telemetrygen-{name}", f"telemetrygen, {name}, into the agent: every span, once")
    def run_case(run: Run) -> None:
        listen = "http" if "--otlp-http" in options else "grpc"
        count = GENERATED_TRACES * SPANS_OF_GENERATED_TRACE
        with outspan.Agent(run.folder, [f"{listen}://127.0.0.1:0"]) as agent:
            endpoint = f"127.0.0.1:{agent.port(listen)}"
            load = ["--traces", GENERATED_TRACES // 2, "--workers", 2, "--rate", 0]
            arguments = ["traces", "--otlp-insecure", "--otlp-endpoint", endpoint, *load, *options]
            run_command([telemetrygen.ensure(), *arguments], run.folder, CLIENT_SECONDS_MAX)
            found = compare.flat(agent.received(count))
        if len(found) != count:
            raise compare.Different(f"expected {count} spans, found {len(found)}")


telemetrygen_case("grpc")
telemetrygen_case("http", "--otlp-http")


COLLECTOR_EXPORTERS = {
    "grpc": ("otlp_grpc", "grpc", {}),
    "http": ("otlp_http", "http", {}),
    "json": ("otlp_http", "http", {"encoding": "json"}),
}


def collector_case(transport: str, compression: str) -> None:
    """Registers the case of one of the Collector's OTLP exporters with one compression."""
    exporter, listen, options = COLLECTOR_EXPORTERS[transport]
    what = f"the Collector's {exporter} exporter, {transport}, compression {compression}, into the agent: all fields"

    @case(f"agent-collector-{transport}-{compression}", what)
    def run_case(run: Run) -> None:
        requests = rich.requests()
        file = run.folder / "spans.jsonl"
        files.write_json_lines(file, requests)
        (port,) = free_ports(1)
        receivers = {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}}
        with outspan.Agent(run.folder, [f"{listen}://127.0.0.1:0"]) as agent:
            scheme = "" if listen == "grpc" else "http://"
            endpoint = f"{scheme}127.0.0.1:{agent.port(listen)}"
            settings = {"endpoint": endpoint, "compression": compression, "tls": {"insecure": True}, **options}
            with Collector(run.folder, receivers, {exporter: settings}):
                outspan.send(run.folder, file, f"http://127.0.0.1:{port}")
                found = agent.received(files.spans_of(requests))
        compare.same(compare.flat(requests), compare.flat(found))


for each_transport in COLLECTOR_EXPORTERS:
    for each_compression in (
        ("none", "gzip", "zstd") if each_transport == "grpc" else ("none", "gzip", "zstd", "deflate")
    ):
        collector_case(each_transport, each_compression)


def collector_zipkin_case(form: str) -> None:
    """Registers the case of the Collector's exporter to Zipkin in one form."""

    @case(
        f"agent-collector-zipkin-{form}", f"the Collector's zipkin exporter, {form}, into the agent: all that it writes"
    )
    def run_case(run: Run) -> None:
        requests = rich.requests()
        file = run.folder / "spans.jsonl"
        files.write_json_lines(file, requests)
        (port,) = free_ports(1)
        receivers = {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}}
        with outspan.Agent(run.folder, ["zipkin+http://127.0.0.1:0"]) as agent:
            endpoint = f"http://127.0.0.1:{agent.port('zipkin+http')}/api/v2/spans"
            with Collector(run.folder, receivers, {"zipkin": {"endpoint": endpoint, "format": form}}):
                outspan.send(run.folder, file, f"http://127.0.0.1:{port}")
                found = agent.received(files.spans_of(requests))
        compare.same(zipkin_collector.through(requests, form), compare.flat(found))


for each_form in ("json", "proto"):
    collector_zipkin_case(each_form)
