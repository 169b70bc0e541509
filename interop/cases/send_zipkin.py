"""Our Zipkin exporter into a Zipkin server: what its query API gives out is what docs/zipkin.md says."""

from cases import Run
from cases import case
from programs import outspan
from programs.zipkin import Zipkin
from spans import compare
from spans import files
from spans import rich
from spans import zipkin

SECONDS_MAX = 300


def zipkin_case(protocol: str) -> None:
    """Registers the case of one form."""

    @case(
        f"zipkin-{protocol}", f"outspan send to a Zipkin server, {protocol}: all that docs/zipkin.md says", SECONDS_MAX
    )
    def run_case(run: Run) -> None:
        requests = rich.requests()
        file = run.folder / "spans.jsonl"
        files.write_json_lines(file, requests)
        expected = [as_the_server_stores(span) for span in zipkin.from_otlp(requests)]
        server = run.shared.get("zipkin", Zipkin)
        outspan.send(run.folder, file, f"zipkin+http://localhost:{server.port}", "--protocol", protocol)
        found = server.spans({span["traceId"] for span in expected}, len(expected))
        compare.same(by_id(expected), by_id([with_marks_read(span) for span in found]))


for each_protocol in ("json", "protobuf"):
    zipkin_case(each_protocol)


def as_the_server_stores(span: dict) -> dict:
    """Returns a span with what the server changes: names of spans and services in lower case."""
    changed = dict(span)
    if "name" in span:
        changed["name"] = span["name"].lower()
    for side in ("localEndpoint", "remoteEndpoint"):
        if side in span:
            changed[side] = {"serviceName": span[side]["serviceName"].lower()}
    return changed


def with_marks_read(span: dict) -> dict:
    """Returns a span whose tag of marks is a set for each section."""
    tags = span.get("tags", {})
    if zipkin.MARKS in tags:
        tags[zipkin.MARKS] = zipkin.read_marks(tags[zipkin.MARKS])
    return span


def by_id(spans: list[dict]) -> dict:
    """Returns spans by their ids."""
    return {f"{span['traceId']}/{span['id']}": span for span in spans}
