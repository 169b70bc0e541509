"""Our exporters into Jaeger v2: what its query API gives out is what was sent, by the tables of docs/jaeger.md for Thrift."""

from cases import Run
from cases import case
from programs import outspan
from programs.jaeger import Jaeger
from spans import compare
from spans import files
from spans import jaeger
from spans import rich

SECONDS_MAX = 300
WARNINGS = "@jaeger@warnings"

# Form: what it is, our URL for a running Jaeger, further options.
FORMS = {
    "otlp-grpc": ("OTLP/gRPC", lambda server: f"grpc://127.0.0.1:{server.grpc}", ()),
    "otlp-http": ("OTLP/HTTP protobuf", lambda server: f"http://127.0.0.1:{server.http}", ()),
    "otlp-json": ("OTLP/HTTP JSON", lambda server: f"http://127.0.0.1:{server.http}", ("--protocol", "json")),
    "thrift-http": ("Thrift over HTTP", lambda server: f"jaeger+http://127.0.0.1:{server.thrift}", ()),
    "udp-compact": (
        "compact Thrift over UDP",
        lambda server: f"jaeger+udp://127.0.0.1:{server.compact}",
        ("--batch-spans", "4"),
    ),
    "udp-binary": ("binary Thrift over UDP", lambda server: f"jaeger+udp://{server.binary}", ("--batch-spans", "4")),
}


def jaeger_case(form: str) -> None:
    """Registers the case of one form."""
    shown, url_of, options = FORMS[form]

    @case(f"jaeger-{form}", f"outspan send to Jaeger v2, {shown}: what its query shows of each field", SECONDS_MAX)
    def run_case(run: Run) -> None:
        requests = rich.requests()
        file = run.folder / "spans.jsonl"
        files.write_json_lines(file, requests)
        server = run.shared.get("jaeger", Jaeger)
        outspan.send(run.folder, file, url_of(server), *options)
        sent = compare.flat(requests)
        received = server.requests({span["trace_id"] for span in sent.values()}, len(sent))
        found = compare.flat(received)
        if form.startswith("otlp"):
            expected = sent
        else:
            expected = jaeger.as_older_collectors_read(jaeger.from_otlp(requests))
            found = jaeger.with_marks_read(found)
        compare.same(as_the_query_shows(expected), without_warnings(found))


for each_form in FORMS:
    jaeger_case(each_form)


def as_the_query_shows(spans: dict) -> dict:
    """Returns spans with what the query changes: no schema URLs, events by name, no span without a duration."""
    for span in spans.values():
        span["resource"]["schema_url"] = ""
        span["scope"]["schema_url"] = ""
        span["events"] = in_order(span["events"])
        if span["end"] == span["start"]:
            span["end"] += 1
    return spans


def without_warnings(spans: dict) -> dict:
    """Returns spans without the warnings that the query adds, and with events in the order to compare them in."""
    for span in spans.values():
        span["attributes"].pop(WARNINGS, None)
        span["events"] = in_order(span["events"])
    return spans


def in_order(events: list[dict]) -> list[dict]:
    """Returns events by name and time: the query sorts them by what they are, not by when they were."""
    return sorted(events, key=lambda event: (event["name"], event["time"], str(event["attributes"].keys())))
