"""What the SDKs' exporters to Zipkin and Jaeger leave of a span, as functions on spans as `compare.flat` shows them.

Each SDK writes in its own way what these formats have no place for. What is here was read off the SDKs at the versions that are
pinned; what is different on arrival is lost by the SDK, or by us.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from spans import compare

# SDKs round the start and the duration to microseconds, each in its own way.
NANOSECONDS_APART_MAX = 2_000

# Attributes of the SDKs' resources that our reader knows as such, so that they need no mark.
OF_RESOURCES = ("telemetry.sdk.language", "telemetry.sdk.name", "telemetry.sdk.version", "service.instance.id")


@dataclass(frozen=True)
class Zipkin:
    """How an SDK writes Zipkin."""

    list_text: Callable[[list], str]
    event: Callable[[dict], dict]
    keeps_resource: bool = True
    keeps_scope: bool = True
    is_debug: bool = False


@dataclass(frozen=True)
class Jaeger:
    """How an SDK writes Jaeger's Thrift."""

    list_text: Callable[[list], str]
    event: Callable[[dict], dict]
    integers_are_doubles: bool


def through_zipkin(spans: dict, sdk: Zipkin) -> dict:
    """Returns the spans that come out of Zipkin as an SDK writes it."""
    return {key: zipkin_span(span, sdk) for key, span in spans.items()}


def zipkin_span(span: dict, sdk: Zipkin) -> dict:
    """Returns one span: no flags, no links, no schemas, and texts for all attributes.

    None writes the kind internal; it is what a span is of which there is a scope, or the tags of an SDK, but no kind.
    """
    about = texts(span["resource"]["attributes"], sdk.list_text) if sdk.keeps_resource else {}
    resource = {key: value for key, value in about.items() if key in OF_RESOURCES}
    resource["service.name"] = span["resource"]["attributes"]["service.name"]
    attributes = {key: value for key, value in about.items() if key not in resource}
    attributes |= texts(span["attributes"], sdk.list_text)
    if sdk.is_debug:
        attributes["zipkin.debug"] = ("bool", True)
    return without_what_otlp_adds(span) | {
        "flags": 0,
        "links": [],
        "attributes": attributes,
        "events": [sdk.event(event) for event in span["events"]],
        "resource": plain_resource(resource),
        "scope": plain_scope(span if sdk.keeps_scope else None),
    }


def through_jaeger(spans: dict, sdk: Jaeger) -> dict:
    """Returns the spans that come out of Jaeger's Thrift as an SDK writes it."""
    return {key: jaeger_span(span, sdk) for key, span in spans.items()}


def jaeger_span(span: dict, sdk: Jaeger) -> dict:
    """Returns one span: the resource's attributes are the span's own, links are ids alone."""
    about = span["resource"]["attributes"]
    return without_what_otlp_adds(span) | {
        "flags": 1,
        "links": [link | {"attributes": {}, "flags": 0} for link in span["links"]],
        "attributes": tags(about, sdk) | tags(span["attributes"], sdk),
        "events": [sdk.event(event | {"attributes": tags(event["attributes"], sdk)}) for event in span["events"]],
        "resource": plain_resource({"service.name": about["service.name"]}),
        "scope": plain_scope(span),
    }


def without_what_otlp_adds(span: dict) -> dict:
    """Returns a span to change, without dropped counts."""
    return span | {"dropped_attributes": 0, "dropped_events": 0, "dropped_links": 0}


def plain_resource(attributes: dict) -> dict:
    """Returns a resource of nothing but attributes."""
    return {"attributes": attributes, "dropped": 0, "schema_url": ""}


def plain_scope(span: dict | None) -> dict:
    """Returns the name and the version of a span's scope."""
    scope = span["scope"] if span else {"name": "", "version": ""}
    return {"name": scope["name"], "version": scope["version"], "attributes": {}, "dropped": 0, "schema_url": ""}


def texts(attributes: dict, list_text: Callable[[list], str]) -> dict:
    """Returns attributes as texts."""
    return {key: ("string", text(value, list_text)) for key, value in attributes.items()}


def text(value, list_text: Callable[[list], str]) -> str:
    """Returns one value as text."""
    if isinstance(value, list):
        return list_text([plain(each) for each in value[1:]])
    kind, content = value
    return ("true" if content else "false") if kind == "bool" else str(content)


def tags(attributes: dict, sdk: Jaeger) -> dict:
    """Returns attributes as Jaeger's tags: lists as texts, and perhaps integers as floating-point numbers."""
    found = {}
    for key, value in attributes.items():
        if isinstance(value, list):
            found[key] = ("string", sdk.list_text([plain(each) for each in value[1:]]))
        elif value[0] == "int" and sdk.integers_are_doubles:
            found[key] = ("double", repr(float(value[1])))
        else:
            found[key] = value
    return found


def plain(value: tuple):
    """Returns the value of Python's for one of a list."""
    kind, content = value
    return float(content) if kind == "double" else content


def as_json(values: list) -> str:
    """Lists as JSON."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def as_json_of_texts(values: list) -> str:
    """Lists as JSON of texts, in ASCII."""
    return json.dumps([shown(value) for value in values], separators=(",", ":"))


def with_commas(values: list) -> str:
    """Lists as texts with commas between."""
    return ",".join(shown(value) for value in values)


def as_tuple(values: list) -> str:
    """Lists as Python prints tuples."""
    return repr(tuple(values))


def shown(value) -> str:
    """Returns a plain value as text."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def whole_event(event: dict) -> dict:
    """An event that arrives as it was."""
    return event


def name_of_event(event: dict) -> dict:
    """An event of which the name arrives."""
    return event | {"attributes": {}}


def event_without_escapes(event: dict) -> dict:
    """An event as the SDK for Java writes it: JSON whose texts are not escaped, which is a name where that breaks it."""
    if not event["attributes"]:
        return event
    fields = []
    for key, value in event["attributes"].items():
        inside = text(value, with_commas)
        fields.append(f'"{key}":"{inside}"' if value[0] == "string" else f'"{key}":{inside}')
    written = "{" + ",".join(fields) + "}"
    try:
        json.loads(written)
    except ValueError:
        return event | {"name": f'"{event["name"]}":{written}', "attributes": {}}
    return event


ZIPKIN = {
    "go": Zipkin(list_text=as_json, event=whole_event),
    "java": Zipkin(list_text=with_commas, event=event_without_escapes, keeps_resource=False),
    "node": Zipkin(list_text=with_commas, event=name_of_event, keeps_scope=False),
    "python": Zipkin(list_text=as_json_of_texts, event=whole_event, is_debug=True),
}
JAEGER = {
    "node": Jaeger(list_text=with_commas, event=whole_event, integers_are_doubles=True),
    "python": Jaeger(list_text=as_tuple, event=whole_event, integers_are_doubles=False),
}


def with_times_of(expected: dict, found: dict) -> dict:
    """Returns what was found with the expected times, where those found are as near as rounding leaves them."""
    for key in expected.keys() & found.keys():
        one, other = expected[key], found[key]
        for field in ("start", "end"):
            other[field] = nearest(one[field], other[field])
        for event, event_found in zip(one["events"], other["events"]):
            event_found["time"] = nearest(event["time"], event_found["time"])
    return found


def nearest(expected: int, found: int) -> int:
    """Returns the expected time if the one found is near it."""
    return expected if abs(expected - found) <= NANOSECONDS_APART_MAX else found


def same(expected: dict, found: dict) -> None:
    """Compares with `compare.same`, times as near as the SDKs keep them."""
    compare.same(expected, with_times_of(expected, found))
