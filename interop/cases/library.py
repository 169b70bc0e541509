"""Exporters made in code, in a program of a user's, into the Collector: all that they send arrives, field by field."""

from cases import Run
from cases import case
from cases.overload import otlp_http
from install import users
from programs import free_ports
from programs import run as run_command
from programs.collector import Collector
from spans import compare
from spans import files
from spans import jaeger
from spans import rich
from spans import zipkin

SECONDS_MAX = 300
SEND_SECONDS_MAX = 180


def all_fields(requests: list, received: list) -> None:
    """Fails unless what arrived is what was sent."""
    compare.same(compare.flat(requests), compare.flat(received))


def as_zipkin_keeps(requests: list, received: list) -> None:
    """Fails unless what arrived is what docs/zipkin.md keeps of what was sent."""
    expected = zipkin.as_the_collector_reads(zipkin.from_otlp(requests))
    compare.same(expected, zipkin.with_marks_read(compare.flat(received)))


def as_jaeger_keeps(requests: list, received: list) -> None:
    """Fails unless what arrived is what docs/jaeger.md keeps of what was sent."""
    expected = jaeger.as_the_collector_reads(jaeger.from_otlp(requests))
    compare.same(expected, jaeger.with_marks_read(compare.flat(received)))


def otlp_grpc(port: int) -> dict:
    """Returns the receiver of a Collector for OTLP over gRPC."""
    return {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{port}"}}}}


def zipkin_receiver(port: int) -> dict:
    """Returns the receiver of a Collector for Zipkin."""
    return {"zipkin": {"endpoint": f"127.0.0.1:{port}"}}


def thrift_receiver(port: int) -> dict:
    """Returns the receiver of a Collector for Thrift over HTTP."""
    return {"jaeger": {"protocols": {"thrift_http": {"endpoint": f"127.0.0.1:{port}"}}}}


# Form: what it is, the Collector's receiver, what stands behind the port in our endpoint, the comparison.
FORMS = {
    "otlp-grpc": ("OTLP/gRPC", otlp_grpc, "", all_fields),
    "otlp-http": ("OTLP/HTTP protobuf", otlp_http, "", all_fields),
    "otlp-json": ("OTLP/HTTP JSON", otlp_http, "", all_fields),
    "zipkin-json": ("Zipkin JSON", zipkin_receiver, "/api/v2/spans", as_zipkin_keeps),
    "zipkin-protobuf": ("Zipkin protobuf", zipkin_receiver, "/api/v2/spans", as_zipkin_keeps),
    "jaeger-http": ("Thrift over HTTP", thrift_receiver, "/api/traces", as_jaeger_keeps),
}


def library_case(form: str) -> None:
    """Registers the case of one exporter."""
    shown, receiver, path, compared = FORMS[form]
    kept = "all fields" if compared is all_fields else f"all that docs/{form.partition('-')[0]}.md keeps"

    @case(f"library-{form}", f"an exporter made in code to the Collector, {shown}: {kept}", SECONDS_MAX)
    def run_case(run: Run) -> None:
        program = users.ensure("library")
        requests = rich.requests()
        file = run.folder / "spans.jsonl"
        files.write_json_lines(file, requests)
        (port,) = free_ports(1)
        with Collector(run.folder, receiver(port)) as collector:
            endpoint = f"http://127.0.0.1:{port}{path}"
            run_command([program, form, endpoint, file], run.folder, SEND_SECONDS_MAX)
            received = collector.received(files.spans_of(requests))
        compared(requests, received)


for each_form in FORMS:
    library_case(each_form)
