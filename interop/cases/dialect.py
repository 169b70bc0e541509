"""The Collector's dialects of Zipkin and Jaeger: what we write in them is, to a Collector, what its own exporters write.

The Collector has no exporter to Jaeger, but its exporter to Kafka writes Jaeger's spans (`jaeger_proto`) with the same translator.
"""

import copy

from cases import Run
from cases import case
from cases.kafka import prepared
from cases.kafka import receiver
from cases.kafka import send_by_collector
from programs import free_ports
from programs import outspan
from programs.collector import Collector
from spans import compare
from spans import files
from spans import rich

KAFKA_SECONDS_MAX = 300
ODD_MAP = '{"":"an empty key","ключ":"NaN","nothing":null}'
FORMS = {"json": "json", "proto": "protobuf"}


def zipkin_case(form: str) -> None:
    """Registers the case of one form."""

    @case(
        f"dialect-zipkin-{form}",
        f"outspan send --dialect collector, Zipkin {form}, beside the Collector's exporter: the same to a Collector",
    )
    def run_case(run: Run) -> None:
        requests = [with_a_resource_for_each_scope(request) for request in rich.requests()]
        file = run.folder / "spans.jsonl"
        files.write_json_lines(file, requests)
        folders = {name: run.folder / name for name in ("front", "theirs", "ours")}
        for folder in folders.values():
            folder.mkdir()
        front, theirs, ours = free_ports(3)
        exporter = {"zipkin": {"endpoint": f"http://127.0.0.1:{theirs}/api/v2/spans", "format": form}}
        receivers = {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{front}"}}}}
        with (
            Collector(folders["theirs"], zipkin_receiver(theirs)) as by_them,
            Collector(folders["ours"], zipkin_receiver(ours)) as by_us,
            Collector(folders["front"], receivers, exporter),
        ):
            outspan.send(run.folder, file, f"http://127.0.0.1:{front}")
            options = ("--dialect", "collector", "--protocol", FORMS[form])
            outspan.send(run.folder, file, f"zipkin+http://127.0.0.1:{ours}", *options)
            expected = compare.flat(by_them.received(files.spans_of(requests)))
            found = compare.flat(by_us.received(files.spans_of(requests)))
        compare.same(as_ours_differs(expected), found)


for each_form in FORMS:
    zipkin_case(each_form)


@case(
    "dialect-jaeger",
    "outspan send --dialect collector, Thrift over HTTP, beside the Collector's Jaeger spans in Kafka: the same to a Collector",
    KAFKA_SECONDS_MAX,
)
def jaeger_case(run: Run) -> None:
    topic = "dialect-jaeger"
    broker, requests, file = prepared(run, topic)
    count = files.spans_of(requests)
    folders = {name: run.folder / name for name in ("theirs", "ours")}
    for folder in folders.values():
        folder.mkdir()
    send_by_collector(run, broker, topic, file, {"encoding": "jaeger_proto"})
    with Collector(folders["theirs"], receiver(broker, topic, "jaeger_proto")) as by_them:
        expected = compare.flat(by_them.received(count))
    (port,) = free_ports(1)
    receivers = {"jaeger": {"protocols": {"thrift_http": {"endpoint": f"127.0.0.1:{port}"}}}}
    with Collector(folders["ours"], receivers) as by_us:
        outspan.send(run.folder, file, f"jaeger+http://127.0.0.1:{port}", "--dialect", "collector")
        found = compare.flat(by_us.received(count))
    compare.same(as_ours_differs(as_thrift_has_it(expected)), found)


def as_thrift_has_it(theirs: dict) -> dict:
    """Returns what the Collector's Jaeger receiver makes of the same in Thrift: microseconds, and the scope in attributes."""
    for span in theirs.values():
        duration = (span["end"] - span["start"]) // 1000 * 1000
        span["start"] = span["start"] // 1000 * 1000
        span["end"] = span["start"] + duration
        for field in ("name", "version"):
            if span["scope"][field]:
                span["attributes"][f"otel.scope.{field}"] = ("string", span["scope"][field])
                span["scope"][field] = ""
        if span["trace_state"]:
            span["attributes"]["w3c.tracestate"] = ("string", span["trace_state"])
            span["trace_state"] = ""
        if "double.minus_zero" in span["attributes"]:
            span["attributes"]["double.minus_zero"] = (
                "double",
                "-0.0",
            )  # protobuf leaves zeros out, whatever their sign
        for event in span["events"]:
            event["time"] = event["time"] // 1000 * 1000
    return theirs


def as_ours_differs(theirs: dict) -> dict:
    """Returns what theirs would be with the one difference that stays: it writes nothing where NaN is inside of a map."""
    for span in theirs.values():
        if "map.odd" in span["attributes"]:
            span["attributes"]["map.odd"] = ("string", ODD_MAP)
    return theirs


def zipkin_receiver(port: int) -> dict:
    """Returns the receiver of Zipkin on a port."""
    return {"zipkin": {"endpoint": f"127.0.0.1:{port}"}}


def with_a_resource_for_each_scope(request):
    """Returns a request whose resources have one scope each: the Collector's exporter mixes up several of one resource."""
    changed = type(request)()
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            made = changed.resource_spans.add()
            made.CopyFrom(resource_spans)
            del made.scope_spans[:]
            made.scope_spans.append(copy.deepcopy(scope_spans))
    return changed
