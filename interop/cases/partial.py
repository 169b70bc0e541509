"""Requests of which our agent takes a part: the good spans arrive once, and those who listen are told of the others."""

import urllib.request
from collections.abc import Callable

from cases import Run
from cases import case
from cases.overload import PLAIN
from cases.overload import otlp_http
from cases.receive import CLIENT_SPANS
from cases.receive import COLLECTOR_EXPORTERS
from cases.receive import LISTENERS
from programs import Failed
from programs import Program
from programs import free_ports
from programs import http
from programs import outspan
from programs.collector import Collector
from spans import compare
from spans import files
from spans import rich

SECONDS_MAX = 300
CLIENT_SECONDS_MAX = 120
ARRIVE_SECONDS_MAX = 120
BROKEN_SPANS = 10
NO_TRACE = bytes(16)

# The SDKs for Java and Python do not look into an answer that says OK.
DO_NOT_LOOK = ("java", "python")


def sdk_case(language: str, command: Callable[[], list], exporter: str) -> None:
    """Registers the case of one exporter of an SDK."""
    says = "does not look" if language in DO_NOT_LOOK else "says so"
    what = (
        f"SDK for {language}, {exporter}, spans without a trace among others: the others arrive, once; the SDK {says}"
    )

    @case(f"partial-{language}-{exporter.removeprefix('otlp-')}", what, SECONDS_MAX)
    def run_case(run: Run) -> None:
        (port,) = free_ports(1)
        listen, scheme = LISTENERS[exporter]
        with Collector(run.folder, otlp_http(port)) as collector, relay(run, listen) as agent:
            reference = ["otlp-http", f"http://127.0.0.1:{port}"]
            under_test = [f"{exporter}+broken", f"{scheme}://127.0.0.1:{agent.port(listen)}"]
            status, printed = run_client([*command(), *reference, *under_test], run)
            found = received(agent, run, CLIENT_SPANS - BROKEN_SPANS)
            expected = compare.flat(collector.received(CLIENT_SPANS))
        compare.same(without_broken(expected), found)
        is_told = "partial success" in printed.lower() and str(BROKEN_SPANS) in printed
        if is_told == (language in DO_NOT_LOOK) or (status != 0 and not is_told):
            raise Failed(f"the client ended with {status}: {printed.strip()[-1000:]}")


for each_language, each_command, each_exporter in PLAIN:
    sdk_case(each_language, each_command, each_exporter)


def collector_case(transport: str) -> None:
    """Registers the case of one of the Collector's OTLP exporters."""
    exporter, listen, options = COLLECTOR_EXPORTERS[transport]

    @case(
        f"partial-collector-{transport}",
        f"the Collector's {exporter} exporter, {transport}, spans without a trace among others: the others arrive, once; "
        "the Collector says so",
    )
    def run_case(run: Run) -> None:
        requests = rich.requests()
        good = compare.flat(requests)
        add_broken(requests[0])
        (port,) = free_ports(1)
        with relay(run, listen) as agent:
            endpoint = f"{'' if listen == 'grpc' else 'http://'}127.0.0.1:{agent.port(listen)}"
            settings = {"endpoint": endpoint, "tls": {"insecure": True}, **options}
            with Collector(run.folder, otlp_http(port), {exporter: settings}) as collector:
                for request in requests:
                    post(f"http://127.0.0.1:{port}/v1/traces", request.SerializeToString())
                collector.program.until_printed("Partial success", ARRIVE_SECONDS_MAX)
                printed = collector.program.output()
            found = received(agent, run, len(good))
        compare.same(good, found)
        if f'"dropped_spans": {BROKEN_SPANS}' not in printed:
            raise Failed(f"the Collector does not say how many: {printed}")


for each_transport in COLLECTOR_EXPORTERS:
    collector_case(each_transport)


def relay(run: Run, listen: str) -> outspan.Relay:
    """Returns an agent that writes into a file and counts requests."""
    return outspan.Relay(run.folder, [f"{listen}://127.0.0.1:0"], f"file:{run.folder / 'received.jsonl'}")


def received(agent: outspan.Relay, run: Run, count: int) -> dict:
    """Returns the spans that an agent wrote, once there are `count`; fails if more than one request was needed."""
    file = run.folder / "received.jsonl"
    agent.program.until(lambda: files.count(file) >= count, f"file of {count} spans", ARRIVE_SECONDS_MAX)
    outcomes = {outcome: agent.requests(outcome) for outcome in ("accepted", "refused", "deferred")}
    if outcomes != {"accepted": 1, "refused": 0, "deferred": 0}:
        raise Failed(f"expected one accepted request, got {outcomes}")
    agent.program.stop()
    return compare.flat(files.read_json_lines(file))


def run_client(command: list, run: Run) -> tuple[int, str]:
    """Runs a client to its end, and returns its exit status and what it printed."""
    with Program("client", command, run.folder) as sdk:
        status = sdk.process.wait(CLIENT_SECONDS_MAX)
    return status, sdk.output()


def without_broken(spans: dict) -> dict:
    """Returns the spans but those from which a client takes the trace."""
    broken = [("int", number) for number in range(BROKEN_SPANS)]
    return {key: span for key, span in spans.items() if span["attributes"].get("number") not in broken}


def add_broken(request) -> None:
    """Adds spans without a trace to a request, in between the others."""
    spans = request.resource_spans[0].scope_spans[0].spans
    good = list(spans)
    del spans[:]
    for number in range(BROKEN_SPANS):
        spans.add(trace_id=NO_TRACE, span_id=bytes([1] * 8), name=f"broken {number}")
    spans.extend(good)


def post(url: str, body: bytes) -> None:
    """Sends a request of OTLP in protobuf."""
    request = urllib.request.Request(url, body, {"content-type": "application/x-protobuf"})
    http.opener.open(request, timeout=http.ANSWER_SECONDS_MAX).close()
