"""What the Collector's exporter to Zipkin writes, and our reader makes of it: the other columns of docs/zipkin.md as a function."""

import math

from spans import compare
from spans import zipkin

UNSPECIFIED = 0
INTERNAL = 1

# Those of the rich set that our reader knows as attributes of resources.
OF_RESOURCES = (*zipkin.OF_RESOURCES, "service.name", "deployment.environment.name")


def through(requests: list, form: str) -> dict:
    """Returns the spans, as `compare.flat` shows them, that come from the Collector's exporter in the form `json` or `proto`."""
    spans = compare.flat(requests)
    for request in requests:
        for resource_spans in request.resource_spans:
            carried = {"name": "", "version": "", "attributes": {}}
            for scope_spans in resource_spans.scope_spans:
                carry(carried, scope_spans.scope)
                for span in scope_spans.spans:
                    key = f"{span.trace_id.hex()}/{span.span_id.hex()}"
                    change(spans[key], resource_spans.resource, carried, span, form)
    return spans


def carry(carried: dict, scope) -> None:
    """Adds a scope to those before it: the exporter's tags of one scope stay for the next ones of the same resource."""
    carried["name"] = scope.name or carried["name"]
    carried["version"] = scope.version or carried["version"]
    carried["attributes"] |= texts(scope.attributes)


def change(flat: dict, resource, carried: dict, span, form: str) -> None:
    """Changes one span into what arrives."""
    about = texts(resource.attributes)
    known = {key: value for key, value in about.items() if key in OF_RESOURCES}
    if form == "json":
        known["service.name"] = known["service.name"].lower()
        flat["name"] = flat["name"].lower()
    own = texts(span.attributes)
    if "http.response.status_code" in own:
        own["http.status_code"] = own["http.response.status_code"]
    rest = {key: value for key, value in about.items() if key not in known}
    start = rounded(flat["start"])
    duration = flat["end"] - flat["start"]
    length = rounded(duration) if form == "json" else duration // 1000 * 1000
    flat.update(
        flags=0,
        kind=INTERNAL if flat["kind"] == UNSPECIFIED and carried["name"] else flat["kind"],
        start=start,
        end=start + (max(1000, length) if duration else 0),
        dropped_attributes=0,
        dropped_events=0,
        dropped_links=0,
        attributes=zipkin.strings(rest | carried["attributes"] | own),
        resource={"attributes": zipkin.strings(known), "dropped": 0, "schema_url": ""},
        scope={
            "name": carried["name"],
            "version": carried["version"],
            "attributes": {},
            "dropped": 0,
            "schema_url": "",
        },
    )
    for event in flat["events"]:
        event["time"] = rounded(event["time"]) if form == "json" else event["time"] // 1000 * 1000
    for link in flat["links"]:
        link["flags"] = 0


def rounded(nanoseconds: int) -> int:
    """Returns the nearest whole number of microseconds, in nanoseconds."""
    return (nanoseconds + 500) // 1000 * 1000


def texts(pairs) -> dict[str, str]:
    """Returns attributes as the texts of the exporter."""
    return {pair.key: text(pair.value) for pair in pairs}


def text(value) -> str:
    """Returns one value as text: whole numbers without a point, and nothing of a map with a number that is none."""
    kind = value.WhichOneof("value")
    if kind == "double_value" and math.isfinite(value.double_value):
        return repr(value.double_value).removesuffix(".0")
    if kind in ("array_value", "kvlist_value"):
        written = zipkin.as_json(value)
        return "" if '"NaN"' in written else written.replace("2.0", "2")
    return zipkin.text(value)
