"""Compares spans field by field, and says where they differ.

What has no order in OTLP is compared without one: attributes, resources, scopes, spans. Events, links and lists keep theirs.
Each span carries what its resource and its scope say, so that it does not matter how spans are spread over requests.
"""

import math

DIFFERENCES_SHOWN_MAX = 8


class Different(Exception):
    """Says which fields differ."""


def same(expected: dict, found: dict) -> None:
    """Fails if two sets of spans, as `flat` makes them, differ in anything."""
    differences = list(between(expected, found))
    if not differences:
        return
    shown = "; ".join(differences[:DIFFERENCES_SHOWN_MAX])
    more = len(differences) - DIFFERENCES_SHOWN_MAX
    raise Different(shown + (f"; and {more} more" if more > 0 else ""))


def between(expected: dict, found: dict):
    """Yields a line for every difference between two sets of spans."""
    for key in expected.keys() - found.keys():
        yield f"span {key} {expected[key].get('name')!r} did not arrive"
    for key in found.keys() - expected.keys():
        yield f"span {key} {found[key].get('name')!r} arrived and was not sent"
    for key in sorted(expected.keys() & found.keys()):
        yield from fields(f"{expected[key].get('name')!r}", expected[key], found[key])


def fields(path: str, expected, found):
    """Yields a line for every difference of two values that stand at `path`."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys(), key=str):
            yield from fields(f"{path}.{key}", expected.get(key, "(absent)"), found.get(key, "(absent)"))
        return
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found)):
            yield from fields(f"{path}[{index}]", one, other)
        return
    if expected != found:
        yield f"{path}: expected {short(expected)}, found {short(found)}"


def short(value) -> str:
    """Returns a value as text that fits into a line."""
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:140]}... ({len(text)} characters)"


def flat(requests: list) -> dict:
    """Returns the spans of requests by their ids, each with everything that holds for it."""
    spans = {}
    for resource, resource_schema, scope, scope_schema, span in each(requests):
        key = f"{span.trace_id.hex()}/{span.span_id.hex()}"
        if key in spans:
            raise Different(f"span {key} {span.name!r} arrived twice")
        spans[key] = {
            **span_fields(span),
            "resource": {
                "attributes": attributes(resource.attributes),
                "dropped": resource.dropped_attributes_count,
                "schema_url": resource_schema,
            },
            "scope": {
                "name": scope.name,
                "version": scope.version,
                "attributes": attributes(scope.attributes),
                "dropped": scope.dropped_attributes_count,
                "schema_url": scope_schema,
            },
        }
    return spans


def each(requests: list):
    """Yields every span with its resource, its scope and their schemas."""
    for request in requests:
        for resource_spans in request.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    yield (
                        resource_spans.resource,
                        resource_spans.schema_url,
                        scope_spans.scope,
                        scope_spans.schema_url,
                        span,
                    )


def span_fields(span) -> dict:
    """Returns all fields of a span itself."""
    return {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_span_id.hex(),
        "trace_state": span.trace_state,
        "flags": span.flags,
        "name": span.name,
        "kind": span.kind,
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "attributes": attributes(span.attributes),
        "dropped_attributes": span.dropped_attributes_count,
        "events": [event_fields(event) for event in span.events],
        "dropped_events": span.dropped_events_count,
        "links": [link_fields(link) for link in span.links],
        "dropped_links": span.dropped_links_count,
        "status": {"code": span.status.code, "message": span.status.message},
    }


def event_fields(event) -> dict:
    """Returns all fields of an event."""
    return {
        "time": event.time_unix_nano,
        "name": event.name,
        "attributes": attributes(event.attributes),
        "dropped": event.dropped_attributes_count,
    }


def link_fields(link) -> dict:
    """Returns all fields of a link."""
    return {
        "trace_id": link.trace_id.hex(),
        "span_id": link.span_id.hex(),
        "trace_state": link.trace_state,
        "attributes": attributes(link.attributes),
        "dropped": link.dropped_attributes_count,
        "flags": link.flags,
    }


def attributes(pairs) -> dict:
    """Returns attributes by key; a key that stands twice is an error of whoever wrote it."""
    found = {}
    for pair in pairs:
        if pair.key in found:
            raise Different(f"attribute {pair.key!r} stands twice")
        found[pair.key] = value(pair.value)
    return found


def value(any_value):
    """Returns a value as a kind and a plain value that can be compared."""
    kind = any_value.WhichOneof("value")
    match kind:
        case None:
            return ("empty",)
        case "array_value":
            return ["array", *(value(each) for each in any_value.array_value.values)]
        case "kvlist_value":
            return {"map": attributes(any_value.kvlist_value.values)}
        case "double_value":
            return ("double", double(any_value.double_value))
    return (kind.removesuffix("_value"), getattr(any_value, kind))


def double(number: float) -> str:
    """Returns a number as text that tells apart zeros and is the same for every number that is none."""
    return "NaN" if math.isnan(number) else repr(number)
