"""The tables of docs/jaeger.md as functions: from OTLP to Jaeger's Thrift as we write it, and what the Collector makes of that.

A tag is a kind and a plain value, as `compare.value` shows it. Only what the rich set has is here.
"""

from urllib.parse import unquote

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spans import compare
from spans import zipkin

KINDS = {
    Span.SPAN_KIND_CLIENT: "client",
    Span.SPAN_KIND_SERVER: "server",
    Span.SPAN_KIND_PRODUCER: "producer",
    Span.SPAN_KIND_CONSUMER: "consumer",
}
KIND_NUMBERS = {name: number for number, name in KINDS.items()}
STATUS_NAMES = {1: "OK", 2: "ERROR"}
MARKS = "outspan.otlp"
SAMPLED = 1

# What the Collector renames in tags of Jaeger, unless a feature gate says otherwise.
RENAMED = {"http.response.status_code": "http.status_code"}
FLAGS_OF_W3C = 0xFF


def from_otlp(requests: list) -> list[dict]:
    """Returns the spans of Jaeger that the default dialect makes of requests; the marks as sets."""
    return [jaeger_span(*parts) for parts in compare.each(requests)]


def jaeger_span(resource, resource_schema: str, scope, scope_schema: str, span) -> dict:
    """Returns one span of Jaeger with its process."""
    start = span.start_time_unix_nano // 1000
    return {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_span_id.hex(),
        "flags": span.flags & SAMPLED,
        "name": span.name,
        "start": start,
        "duration": (span.end_time_unix_nano - span.start_time_unix_nano) // 1000,
        "process": process(resource, resource_schema),
        "references": [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        "tags": span_tags(scope, scope_schema, span),
        "logs": [log(event) for event in span.events] + link_logs(span, start),
    }


def process(resource, schema: str) -> dict:
    """Returns the service's name and the tags of a resource."""
    attributes = {pair.key: pair.value for pair in resource.attributes}
    name = attributes.pop("service.name").string_value
    marks = claims(attributes)
    if resource.dropped_attributes_count:
        marks.add(f"dropped={resource.dropped_attributes_count}")
    if schema:
        marks.add(f"schema={schema}")
    return {"name": name, "tags": with_marks(tags(attributes), marks)}


def span_tags(scope, scope_schema: str, span) -> dict:
    """Returns the tags of a span: attributes of its own and of its scope, and those of the mapping."""
    own = {pair.key: pair.value for pair in span.attributes}
    scoped = {pair.key: pair.value for pair in scope.attributes}
    found = tags(own) | tags(scoped)
    if span.kind in KINDS:
        found["span.kind"] = ("string", KINDS[span.kind])
    if span.status.code in STATUS_NAMES:
        found["otel.status_code"] = ("string", STATUS_NAMES[span.status.code])
    if STATUS_NAMES.get(span.status.code) == "ERROR":
        found["error"] = ("bool", True)
    if span.status.message:
        found["otel.status_description"] = ("string", span.status.message)
    if span.trace_state:
        found["w3c.tracestate"] = ("string", span.trace_state)
    for what in ("attributes", "events", "links"):
        dropped = getattr(span, f"dropped_{what}_count")
        if dropped:
            found[f"otel.dropped_{what}_count"] = ("int", dropped)
    for what in ("name", "version"):
        if getattr(scope, what):
            found[f"otel.scope.{what}"] = found[f"otel.library.{what}"] = ("string", getattr(scope, what))
    return with_marks(found, claims(own) | scope_marks(scope, scope_schema, scoped) | kind_and_flags(scope, span))


def scope_marks(scope, schema: str, scoped: dict) -> set:
    """Returns what the marks say about a scope."""
    marks = {f"scope key={key}" for key in scoped}
    if scope.dropped_attributes_count:
        marks.add(f"scope dropped={scope.dropped_attributes_count}")
    if schema:
        marks.add(f"scope schema={schema}")
    return marks


def kind_and_flags(scope, span) -> set:
    """Returns the marks for a kind and for flags that Jaeger has no place for."""
    marks = set()
    # Without a tag the kind is read as internal if there is a scope with a name, else as unspecified.
    without_tag = Span.SPAN_KIND_INTERNAL if scope.name else Span.SPAN_KIND_UNSPECIFIED
    if span.kind not in KINDS and span.kind != without_tag:
        marks.add(f"kind={span.kind}")
    if span.flags & FLAGS_OF_W3C & ~SAMPLED:
        marks.add(f"flags={span.flags}")
    return marks


def log(event) -> dict:
    """Returns the log of an event."""
    attributes = {pair.key: pair.value for pair in event.attributes}
    fields = tags(attributes)
    if event.name:
        fields["event"] = ("string", event.name)
    if event.dropped_attributes_count:
        fields["otel.event.dropped_attributes_count"] = ("int", event.dropped_attributes_count)
    return {"time": event.time_unix_nano // 1000, "fields": with_marks(fields, claims(attributes))}


def link_logs(span, start: int) -> list[dict]:
    """Returns the logs of the links of which a reference does not say everything."""
    logs = []
    for number, link in enumerate(span.links):
        if not (link.attributes or link.trace_state or link.flags or link.dropped_attributes_count):
            continue
        attributes = {pair.key: pair.value for pair in link.attributes}
        fields = tags(attributes) | {
            "event": ("string", "link"),
            "trace_id": ("string", link.trace_id.hex()),
            "span_id": ("string", link.span_id.hex()),
        }
        marks = claims(attributes) | {f"link={number}"}
        if link.trace_state:
            marks.add(f"state={link.trace_state}")
        if link.flags:
            marks.add(f"flags={link.flags}")
        if link.dropped_attributes_count:
            marks.add(f"dropped={link.dropped_attributes_count}")
        logs.append({"time": start, "fields": with_marks(fields, marks)})
    return logs


def tags(attributes: dict) -> dict:
    """Returns attributes as tags: lists and maps as JSON, nothing as an empty text."""
    return {key: tag(value) for key, value in attributes.items()}


def tag(value) -> tuple:
    """Returns one value as a tag."""
    match value.WhichOneof("value"):
        case None:
            return ("string", "")
        case "array_value" | "kvlist_value":
            return ("string", zipkin.as_json(value).replace("2.0", "2"))
    return compare.value(value)


def claims(attributes: dict) -> set:
    """Returns the marks of attributes whose type a tag does not say."""
    marks = {"array_value": "json=", "kvlist_value": "json=", None: "empty="}
    kinds = {key: value.WhichOneof("value") for key, value in attributes.items()}
    return {marks[kind] + key for key, kind in kinds.items() if kind in marks}


def with_marks(found: dict, marks: set) -> dict:
    """Returns tags with the one of the marks, if there are any."""
    return found | ({MARKS: marks} if marks else {})


def read_marks(text: str) -> set:
    """Reads the tag of marks; those about the scope have `scope` before them."""
    marks = set()
    about = ""
    for word in text.split(" "):
        if word in ("scope", "span"):
            about = "scope " if word == "scope" else ""
        else:
            marks.add(about + unquote(word))
    return marks


def as_the_collector_reads(jaeger_spans: list[dict]) -> dict:
    """Returns the spans, as `compare.flat` shows them, that the Collector's receivers make of Jaeger's."""
    return {f"{span['trace_id']}/{span['span_id']}": otlp_span(span, RENAMED) for span in jaeger_spans}


def as_older_collectors_read(jaeger_spans: list[dict]) -> dict:
    """Returns what the receivers of 0.140 make of Jaeger's spans: nothing is renamed, and flags are lost."""
    unsampled = [{**span, "flags": 0} for span in jaeger_spans]
    return {f"{span['trace_id']}/{span['span_id']}": otlp_span(span, {}) for span in unsampled}


def otlp_span(span: dict, renamed: dict[str, str]) -> dict:
    """Returns one span of OTLP: the tags about the scope and the trace state stay attributes."""
    attributes = dict(span["tags"])
    for new, old in renamed.items():
        if new in attributes:
            attributes[old] = attributes.pop(new)
    kind = KIND_NUMBERS.get(attributes.pop("span.kind", ("string", ""))[1], 0)
    code = {"OK": 1, "ERROR": 2}.get(attributes.pop("otel.status_code", ("string", ""))[1], 0)
    attributes.pop("error", None)
    message = attributes.pop("otel.status_description", ("string", ""))[1]
    return {
        "trace_id": span["trace_id"],
        "span_id": span["span_id"],
        "parent_span_id": span["parent_span_id"],
        "trace_state": "",
        "flags": span["flags"],
        "name": span["name"],
        "kind": kind,
        "start": span["start"] * 1000,
        "end": (span["start"] + span["duration"]) * 1000,
        "attributes": attributes,
        "events": [event_read(each) for each in span["logs"]],
        "links": [link_read(*each) for each in span["references"]],
        "dropped_attributes": 0,
        "dropped_events": 0,
        "dropped_links": 0,
        "status": {"code": code, "message": message},
        "resource": {
            "attributes": {"service.name": ("string", span["process"]["name"]), **span["process"]["tags"]},
            "dropped": 0,
            "schema_url": "",
        },
        "scope": {"name": "", "version": "", "attributes": {}, "dropped": 0, "schema_url": ""},
    }


def event_read(log_: dict) -> dict:
    """Returns an event, named by the field `event`."""
    attributes = dict(log_["fields"])
    name = attributes.pop("event", ("string", ""))[1]
    return {"time": log_["time"] * 1000, "name": name, "attributes": attributes, "dropped": 0}


def link_read(trace_id: str, span_id: str) -> dict:
    """Returns a link, with the attribute that the Collector gives all of them."""
    return {
        "trace_id": trace_id,
        "span_id": span_id,
        "trace_state": "",
        "attributes": {"opentracing.ref_type": ("string", "follows_from")},
        "dropped": 0,
        "flags": 0,
    }


def with_marks_read(spans: dict) -> dict:
    """Returns spans whose tags of marks are sets, because the order of marks means nothing here."""
    for span in spans.values():
        for attributes in (
            span["attributes"],
            span["resource"]["attributes"],
            *(each["attributes"] for each in span["events"]),
        ):
            if MARKS in attributes:
                attributes[MARKS] = read_marks(attributes[MARKS][1])
    return spans
