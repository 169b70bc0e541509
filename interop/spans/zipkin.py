"""The tables of docs/zipkin.md as functions: from OTLP to Zipkin as we write it, and what the Collector makes of that.

Only what the rich set has; what it does not have (addresses, for one) is not here.
"""

import base64
import json
import math
from urllib.parse import unquote

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spans import compare

KINDS = {
    Span.SPAN_KIND_CLIENT: "CLIENT",
    Span.SPAN_KIND_SERVER: "SERVER",
    Span.SPAN_KIND_PRODUCER: "PRODUCER",
    Span.SPAN_KIND_CONSUMER: "CONSUMER",
}
KIND_NUMBERS = {name: number for number, name in KINDS.items()}
STATUS_OK = 1
STATUS_ERROR = 2
MARKS = "outspan.otlp"
REMOTE_NAMES = ("peer.service", "server.address")

# Those of the rich set that the Collector knows as attributes of resources. It takes them off every span.
OF_RESOURCES = ("service.version", "host.name", "process.pid", "k8s.pod.name", "telemetry.sdk.language")
OF_SCOPES = ("otel.scope.name", "otel.scope.version", "otel.library.name", "otel.library.version")


def from_otlp(requests: list) -> list[dict]:
    """Returns the spans of Zipkin that the default dialect makes of requests; the marks as a set for each section."""
    return [zipkin_span(*parts) for parts in compare.each(requests)]


def zipkin_span(resource, resource_schema: str, scope, scope_schema: str, span) -> dict:
    """Returns one span of Zipkin, as its JSON has it."""
    start = span.start_time_unix_nano // 1000
    made = {"traceId": span.trace_id.hex(), "id": span.span_id.hex(), "timestamp": start}
    if span.name:
        made["name"] = span.name
    if span.parent_span_id:
        made["parentId"] = span.parent_span_id.hex()
    if span.kind in KINDS:
        made["kind"] = KINDS[span.kind]
    nanoseconds = span.end_time_unix_nano - span.start_time_unix_nano
    if nanoseconds > 0:
        made["duration"] = max(1, nanoseconds // 1000)
    own = {pair.key: pair.value for pair in span.attributes}
    about = {pair.key: pair.value for pair in resource.attributes}
    made["localEndpoint"] = {"serviceName": about.pop("service.name").string_value}
    names = [own[key].string_value for key in REMOTE_NAMES if key in own]
    if names and span.kind in (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_PRODUCER):
        made["remoteEndpoint"] = {"serviceName": names[0]}
    if span.events:
        made["annotations"] = [
            {"timestamp": event.time_unix_nano // 1000, "value": annotation(event)} for event in span.events
        ]
    scoped = {pair.key: pair.value for pair in scope.attributes}
    # The first of equal keys stays.
    made["tags"] = {**texts(about), **texts(scoped), **texts(own), **tags_of_mapping(scope, span)}
    marks = marks_of(span, own, scope, scope_schema, scoped, resource, resource_schema, about)
    if marks:
        made["tags"][MARKS] = marks
    return made


def tags_of_mapping(scope, span) -> dict[str, str]:
    """Returns the tags that are not attributes."""
    tags = {}
    if span.status.code == STATUS_OK:
        tags["otel.status_code"] = "OK"
        if span.status.message:
            tags["otel.status_description"] = span.status.message
    if span.status.code == STATUS_ERROR:
        tags |= {"otel.status_code": "ERROR", "error": span.status.message}
    if span.kind == Span.SPAN_KIND_INTERNAL:
        tags["span.kind"] = "internal"
    if span.trace_state:
        tags["w3c.tracestate"] = span.trace_state
    for what in ("attributes", "events", "links"):
        dropped = getattr(span, f"dropped_{what}_count")
        if dropped:
            tags[f"otel.dropped_{what}_count"] = str(dropped)
    for what in ("name", "version"):
        if getattr(scope, what):
            tags[f"otel.scope.{what}"] = tags[f"otel.library.{what}"] = getattr(scope, what)
    for number, link in enumerate(span.links):
        fields = (link.trace_id.hex(), link.span_id.hex(), link.trace_state, map_json(link.attributes))
        tags[f"otlp.link.{number}"] = "|".join((*fields, str(link.dropped_attributes_count)))
    return tags


def annotation(event) -> str:
    """Returns the text of an event."""
    if event.dropped_attributes_count:
        return f"{event.name}|{map_json(event.attributes)}|{event.dropped_attributes_count}"
    if not event.attributes and event.name:
        return event.name
    return f"{quoted(event.name)}: {map_json(event.attributes)}"


def marks_of(span, own, scope, scope_schema, scoped, resource, resource_schema, about) -> dict[str, set]:
    """Returns what the tag of marks says, for each section."""
    sections = {"": {typed(key, value) for key, value in own.items() if value.WhichOneof("value") != "string_value"}}
    if span.flags:
        sections[""].add(f"flags={span.flags}")
    # Without a kind it is read as internal if there is a scope with a name.
    if span.kind == Span.SPAN_KIND_UNSPECIFIED and scope.name:
        sections[""].add("kind=0")
    for name, message, schema, attributes in (
        ("scope:", scope, scope_schema, scoped),
        ("resource:", resource, resource_schema, about),
    ):
        sections[name] = {typed(key, value) for key, value in attributes.items()}
        if message.dropped_attributes_count:
            sections[name].add(f"dropped={message.dropped_attributes_count}")
        if schema:
            sections[name].add(f"schema={schema}")
    return {name: marks for name, marks in sections.items() if marks}


def read_marks(text: str) -> dict[str, set]:
    """Reads the tag of marks into a set for each section."""
    sections: dict[str, set] = {}
    section = ""
    for word in text.split(" "):
        if word.endswith(":"):
            section = word
        else:
            sections.setdefault(section, set()).add(unquote(word))
    return sections


def typed(key: str, value) -> str:
    """Returns the mark of one attribute."""
    kind = {
        "string_value": "",
        "bool_value": "bool=",
        "int_value": "int=",
        "double_value": "double=",
        "bytes_value": "bytes=",
        "array_value": "json=",
        "kvlist_value": "json=",
        None: "empty=",
    }
    return kind[value.WhichOneof("value")] + key


def texts(attributes: dict) -> dict[str, str]:
    """Returns attributes as tags."""
    return {key: text(value) for key, value in attributes.items()}


def text(value) -> str:
    """Returns a value as the text of a tag."""
    match value.WhichOneof("value"):
        case None:
            return ""
        case "string_value":
            return value.string_value
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "double_value":
            return number(value.double_value)
    return as_json(value)


def number(value: float) -> str:
    """Returns the shortest decimal form; a whole number without a point."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value).removesuffix(".0").replace("e+", "e")


def as_json(value) -> str:
    """Returns a value as JSON inside of a text."""
    match value.WhichOneof("value"):
        case None:
            return "null"
        case "bool_value":
            return "true" if value.bool_value else "false"
        case "int_value":
            return str(value.int_value)
        case "double_value":
            shown = number(value.double_value)
            if not math.isfinite(value.double_value):
                return quoted(shown)
            return shown if "." in shown or "e" in shown else f"{shown}.0"
        case "array_value":
            return "[" + ",".join(as_json(each) for each in value.array_value.values) + "]"
        case "kvlist_value":
            return map_json(value.kvlist_value.values)
    return quoted(text(value))


def map_json(pairs) -> str:
    """Returns attributes as a JSON object."""
    return "{" + ",".join(f"{quoted(pair.key)}:{as_json(pair.value)}" for pair in pairs) + "}"


def quoted(plain: str) -> str:
    """Returns a text as JSON."""
    return json.dumps(plain, ensure_ascii=False)


def as_the_collector_reads(zipkin_spans: list[dict]) -> dict:
    """Returns the spans, as `compare.flat` shows them, that the Collector's receiver makes of Zipkin's."""
    return {f"{span['traceId']}/{span['id']}": otlp_span(span) for span in zipkin_spans}


def otlp_span(span: dict) -> dict:
    """Returns one span of OTLP."""
    tags = dict(span["tags"])
    service = {"service.name": span["localEndpoint"]["serviceName"]}
    resource = service | {key: tags.pop(key) for key in OF_RESOURCES if key in tags}
    scope = {key: tags.pop(key, "") for key in OF_SCOPES}
    status = {"code": 0, "message": ""}
    tags.pop("otel.status_code", None)  # neither OK nor ERROR is understood
    status["message"] = tags.pop("otel.status_description", "")
    if "error" in tags:
        status["code"] = STATUS_ERROR
    kind = KIND_NUMBERS.get(span.get("kind"), 0)
    if "kind" not in span and tags.pop("span.kind", None) == "internal":
        kind = Span.SPAN_KIND_INTERNAL
    if "remoteEndpoint" in span:
        tags["service.peer.name"] = span["remoteEndpoint"]["serviceName"]
    start = span["timestamp"] * 1000
    return {
        "trace_id": span["traceId"],
        "span_id": span["id"],
        "parent_span_id": span.get("parentId", ""),
        "trace_state": tags.pop("w3c.tracestate", ""),
        "flags": 0,
        "name": span.get("name", ""),
        "kind": kind,
        "start": start,
        "end": start + span.get("duration", 0) * 1000,
        "events": [event_read(each) for each in span.get("annotations", [])],
        "links": [
            link_read(tags.pop(f"otlp.link.{number}"))
            for number in range(sum(key.startswith("otlp.link.") for key in tags))
        ],
        "dropped_attributes": 0,
        "dropped_events": 0,
        "dropped_links": 0,
        "status": status,
        "attributes": {key: ("string", value) if key != MARKS else value for key, value in tags.items()},
        "resource": {"attributes": strings(resource), "dropped": 0, "schema_url": ""},
        "scope": {
            "name": scope["otel.scope.name"],
            "version": scope["otel.scope.version"],
            "attributes": {},
            "dropped": 0,
            "schema_url": "",
        },
    }


def event_read(annotation_: dict) -> dict:
    """Returns an event: only the form with two bars is understood, anything else is a name, which ends at the first bar."""
    name, _, rest = annotation_["value"].partition("|")
    attributes, dropped = rest.rsplit("|", 1) if "|" in rest else ("{}", "0")
    return {
        "time": annotation_["timestamp"] * 1000,
        "name": name,
        "attributes": attributes_read(attributes),
        "dropped": int(dropped),
    }


def link_read(tag: str) -> dict:
    """Returns the link that a tag says."""
    trace_id, span_id, state, rest = tag.split("|", 3)
    attributes, dropped = rest.rsplit("|", 1)
    return {
        "trace_id": trace_id,
        "span_id": span_id,
        "trace_state": state,
        "attributes": attributes_read(attributes),
        "dropped": int(dropped),
        "flags": 0,
    }


def attributes_read(text_: str) -> dict:
    """Returns the attributes that JSON says; the Collector passes over lists and maps."""
    attributes = {}
    for key, value in json.loads(text_).items():
        match value:
            case bool():
                attributes[key] = ("bool", value)
            case int() | float() if value % 1 == 0:
                attributes[key] = ("int", int(value))
            case float():
                attributes[key] = ("double", repr(value))
            case str():
                attributes[key] = ("string", value)
    return attributes


def strings(values: dict) -> dict:
    """Returns texts as `compare.flat` shows them."""
    return {key: ("string", value) for key, value in values.items()}


def with_marks_read(spans: dict) -> dict:
    """Returns spans whose tag of marks is a set for each section, because the order of marks means nothing."""
    for span in spans.values():
        if MARKS in span["attributes"]:
            span["attributes"][MARKS] = read_marks(span["attributes"][MARKS][1])
    return spans
