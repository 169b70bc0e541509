"""Reads and writes files of OTLP requests, as ours and as the Collector writes them.

OTLP JSON differs from protobuf's JSON in one thing: ids are hexadecimal, not base64. A file of records has the length of
each request before it: four bytes, the highest first, as the Collector's file exporter writes them.
"""

import base64
import json
import struct
from pathlib import Path

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ID_FIELDS = ("traceId", "spanId", "parentSpanId")


def write_json_lines(path: Path, requests: list) -> None:
    """Writes requests as OTLP JSON, one a line."""
    path.write_text("".join(to_json(request) + "\n" for request in requests), encoding="utf-8")


def read_json_lines(path: Path) -> list:
    """Reads a file of OTLP JSON lines."""
    lines = path.read_bytes().splitlines()  # of bytes: of text it would part at U+2028 too
    return [from_json(loads(line)) for line in lines if line.strip()]


def read_records(path: Path) -> list:
    """Reads a file of requests with lengths; an unfinished last one is left out."""
    if not path.exists():
        return []
    data = path.read_bytes()
    requests = []
    position = 0
    while position + 4 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        position += 4
        if position + length > len(data):
            break
        requests.append(ExportTraceServiceRequest.FromString(data[position : position + length]))
        position += length
    return requests


def count(path: Path) -> int:
    """Returns how many spans a file holds at this moment, of either kind."""
    return spans_of(read_whole(path))


def read_whole(path: Path) -> list:
    """Reads a file of either kind that a program may be writing: what is whole of it at this moment."""
    if path.suffix == ".pb":
        return read_records(path)
    if not path.exists():
        return []
    text = path.read_bytes()
    end = text.rfind(b"\n") + 1
    return [from_json(loads(line)) for line in text[:end].splitlines() if line.strip()]


def spans_of(requests: list) -> int:
    """Returns how many spans requests hold."""
    return sum(
        len(scope_spans.spans)
        for request in requests
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
    )


def to_json(request: ExportTraceServiceRequest) -> str:
    """Returns a request as OTLP JSON on one line."""
    value = json_format.MessageToDict(request, use_integers_for_enums=True)
    change_ids(value, lambda text: base64.b64decode(text).hex())
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def loads(text: str | bytes):
    """Reads JSON; `-0` is a floating-point number, because as an integer it would lose its sign."""
    return json.loads(text, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))


def from_json(value: dict) -> ExportTraceServiceRequest:
    """Returns the request that OTLP JSON says; unknown fields are errors."""
    change_ids(value, lambda text: base64.b64encode(bytes.fromhex(text)).decode())
    return json_format.ParseDict(value, ExportTraceServiceRequest())


def change_ids(value, change) -> None:
    """Applies `change` to every id of spans and links, in place."""
    for resource_spans in value.get("resourceSpans", []):
        for scope_spans in resource_spans.get("scopeSpans", []):
            for span in scope_spans.get("spans", []):
                change_fields(span, change)
                for link in span.get("links", []):
                    change_fields(link, change)


def change_fields(value: dict, change) -> None:
    """Applies `change` to the ids among the fields of one object."""
    for field in ID_FIELDS:
        if field in value:
            value[field] = change(value[field])
