"""SDKs whose spans our agent cannot take for a while: they understand that they shall come back, and nothing is lost."""

import signal
from collections.abc import Callable

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cases import Run
from cases import case
from cases.receive import CLIENT_SPANS
from cases.receive import LISTENERS
from cases.receive import SDKS
from programs import Failed
from programs import Program
from programs import free_ports
from programs import outspan
from programs.collector import Collector
from spans import compare
from spans import files

SECONDS_MAX = 300
CLIENT_SECONDS_MAX = 120
# The SDK for JavaScript tries again over HTTP only; over gRPC it gives up at once, and says with our words why.
GIVE_UP = {("node", "otlp-grpc")}

# The SDKs for Java and Python try again after RESOURCE_EXHAUSTED, though OTLP wants that only where the answer says when.
TRY_ANYWAY = {("java", "otlp-grpc"), ("python", "otlp-grpc")}
ATTEMPTS_MAX = 10

# Spans in all, and in each request.
FLOODS = ((100_000, 512), (2_000, 1))
TRANSPORTS = ("grpc", "http")

# Every exporter of every SDK over OTLP, without compression.
PLAIN = [
    (language, command, exporter)
    for language, (command, exporters) in SDKS.items()
    for exporter in exporters
    if "+" not in exporter
]


def overload_case(language: str, command: Callable[[], list], exporter: str) -> None:
    """Registers the case of one SDK over one transport."""
    listen, _ = LISTENERS[exporter]
    does = (
        "gives up and says why" if (language, exporter) in GIVE_UP else "comes back later, all fields, nothing is lost"
    )
    what = f"SDK for {language}, {exporter}, into an agent without room: it {does}"

    @case(f"overload-{language}-{exporter.removeprefix('otlp-')}", what, SECONDS_MAX)
    def run_case(run: Run) -> None:
        reference, behind = free_ports(2)
        folders = {name: run.folder / name for name in ("reference", "behind")}
        for folder in folders.values():
            folder.mkdir()
        client = [*command(), "otlp-http", f"http://127.0.0.1:{reference}", exporter]
        with (
            Collector(folders["reference"], otlp_http(reference)) as collector,
            Collector(folders["behind"], otlp_http(behind)) as destination,
            outspan.Relay(run.folder, listeners(), f"http://127.0.0.1:{behind}", "--memory", "16MiB") as agent,
        ):
            destination.program.process.send_signal(signal.SIGSTOP)
            try:
                fill(run, agent)
                refused_before = agent.requests("deferred")
                url = f"http://127.0.0.1:{agent.port(listen)}"
                with Program("client", [*client, url], run.folder) as sdk:
                    agent.program.until(
                        lambda: agent.requests("deferred") > refused_before, "refusal of the client", CLIENT_SECONDS_MAX
                    )
                    destination.program.process.send_signal(signal.SIGCONT)
                    status = sdk.process.wait(CLIENT_SECONDS_MAX)
                    gave_up = status != 0 and "send the same again later" in sdk.output()
                    if (status != 0) != gave_up or gave_up != ((language, exporter) in GIVE_UP):
                        raise Failed(f"the client ended with {status}: {sdk.last_lines()}")
            finally:
                destination.program.process.send_signal(signal.SIGCONT)
            refusals = agent.requests("deferred") - refused_before
            agent.program.stop()
            expected = compare.flat(collector.received(CLIENT_SPANS))
            destination.program.stop()
        found = spans_of_client(files.read_records(destination.file), f"client-{language}")
        compare.same({} if gave_up else expected, found)
        run.note = f"{what}; told {refusals} times to come back"


for each_language, each_command, each_exporter in PLAIN:
    overload_case(each_language, each_command, each_exporter)


def too_large_case(language: str, command: Callable[[], list], exporter: str) -> None:
    """Registers the case of one SDK whose request is larger than the agent allows."""
    listen, _ = LISTENERS[exporter]
    what = f"SDK for {language}, {exporter}, a request larger than the agent takes: refused, and the client says why"

    @case(f"too-large-{language}-{exporter.removeprefix('otlp-')}", what, SECONDS_MAX)
    def run_case(run: Run) -> None:
        to = f"file:{run.folder / 'received.jsonl'}"
        with outspan.Relay(run.folder, listeners(), to, "--max-request-size", "4KiB") as agent:
            url = f"http://127.0.0.1:{agent.port(listen)}"
            with Program("client", [*command(), exporter, url], run.folder) as sdk:
                sdk.process.wait(CLIENT_SECONDS_MAX)
            outcomes = {outcome: agent.requests(outcome) for outcome in ("accepted", "refused", "deferred")}
        refused_max = ATTEMPTS_MAX if (language, exporter) in TRY_ANYWAY else 1
        if outcomes["accepted"] or outcomes["deferred"] or not 1 <= outcomes["refused"] <= refused_max:
            raise Failed(f"expected 1 to {refused_max} refused requests, got {outcomes}: {sdk.last_lines()}")
        if "too large" not in sdk.output().lower():
            raise Failed(f"the client does not say why: {sdk.last_lines()}")
        run.note = f"{what}; {outcomes['refused']} requests refused"


for each_language, each_command, each_exporter in PLAIN:
    too_large_case(each_language, each_command, each_exporter)


def otlp_http(port: int) -> dict:
    """Returns the receiver of a Collector on a port."""
    return {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}}


def listeners() -> list[str]:
    """Returns what the agent listens on."""
    return [f"{transport}://127.0.0.1:0" for transport in TRANSPORTS]


def fill(run: Run, agent: outspan.Relay) -> None:
    """Sends to an agent, whose destination stands still, until it has no room: large requests, then small ones for what is left."""
    for spans, batch_spans in FLOODS:
        load = ["--spans", spans, "--batch-spans", batch_spans, "--rate", 0, "--retries", 0, "--timeout", "2s"]
        arguments = [outspan.binary(), "generate", "--to", f"grpc://127.0.0.1:{agent.port('grpc')}", *load]
        with Program("flood", arguments, run.folder) as flood:
            flood.process.wait(CLIENT_SECONDS_MAX)
        if flood.process.returncode != 1:
            raise Failed(f"the agent took everything: {flood.last_lines()}")


def spans_of_client(requests: list, service: str) -> dict:
    """Returns the spans of one service; those that came twice count once, because to come back may mean to come again."""
    found = {}
    for request in requests:
        for resource_spans in request.resource_spans:
            names = [
                pair.value.string_value for pair in resource_spans.resource.attributes if pair.key == "service.name"
            ]
            if names == [service]:
                found |= compare.flat([ExportTraceServiceRequest(resource_spans=[resource_spans])])
    return found
