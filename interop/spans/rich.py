"""Makes the rich set of spans: whatever OTLP allows that some format or program may get wrong.

The times are fresh, because servers look for recent spans only; everything else is the same in each run.
"""

import hashlib
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.common.v1.common_pb2 import ArrayValue
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.common.v1.common_pb2 import KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.proto.trace.v1.trace_pb2 import Status

MINUTE = 60 * 10**9
SCHEMA_OLD = "https://opentelemetry.io/schemas/1.21.0"
SCHEMA_NEW = "https://opentelemetry.io/schemas/1.37.0"
INT64_MAX = 2**63 - 1

# Flags of OTLP: sampled, and the two bits that say whether the parent is in another process.
SAMPLED = 0x001
HAS_IS_REMOTE = 0x100
IS_REMOTE = 0x200


class Empty:
    """Stands for OTLP's value without anything."""


def requests() -> list[ExportTraceServiceRequest]:
    """Returns the rich set, as one request."""
    return [make(time.time_ns() - 5 * MINUTE, salt=time.time_ns())]


def make(start: int, salt: int) -> ExportTraceServiceRequest:
    """Makes the set; `start` is when it happens, `salt` tells its ids from those of other sets."""
    request = ExportTraceServiceRequest()
    shop = request.resource_spans.add(schema_url=SCHEMA_NEW)
    shop.resource.attributes.extend(
        pairs(
            {
                "service.name": "shop",
                "service.version": "2.1.0-rc.1",
                "host.name": "shop-1.example.com",
                "process.pid": 4711,
                "deployment.environment.name": "interop",
                "shop.open": True,
                "shop.load": 0.25,
                "shop.tills": ["one", "two"],
            }
        )
    )
    shop.resource.dropped_attributes_count = 3
    kinds_and_statuses(shop.scope_spans.add(schema_url=SCHEMA_OLD), start, salt)
    values(shop.scope_spans.add(), start, salt)
    store = request.resource_spans.add()
    store.resource.attributes.extend(
        pairs({"service.name": "Störe ✓", "k8s.pod.name": "store-0", "telemetry.sdk.language": "go"})
    )
    links_and_events(store.scope_spans.add(), start, salt)
    edges(store.scope_spans.add(), start, salt)
    return request


def kinds_and_statuses(scope_spans, start: int, salt: int) -> None:
    """A trace with a span of every kind and each status, as a tree."""
    scope_spans.scope.name = "shop/checkout"
    scope_spans.scope.version = "1.4.2"
    scope_spans.scope.attributes.extend(pairs({"scope.tier": "front", "scope.level": 7}))
    scope_spans.scope.dropped_attributes_count = 1
    statuses = [
        Status(),
        Status(code=Status.STATUS_CODE_OK),
        Status(code=Status.STATUS_CODE_ERROR, message="card declined"),
        Status(code=Status.STATUS_CODE_ERROR),
        Status(),
        Status(code=Status.STATUS_CODE_OK),
    ]
    parent = b""
    for kind, status in enumerate(statuses):
        span = scope_spans.spans.add()
        fill(span, "kinds", f"kind-{kind}", salt, start + kind * 1_000_000)
        span.parent_span_id = parent
        span.kind = kind
        span.status.CopyFrom(status)
        span.flags = SAMPLED | HAS_IS_REMOTE | (IS_REMOTE if kind == 2 else 0)
        parent = span.span_id
    scope_spans.spans[3].attributes.extend(
        pairs(
            {
                "server.address": "till.example.com",
                "server.port": 8443,
                "http.request.method": "GET",
                "http.response.status_code": 503,
            }
        )
    )
    scope_spans.spans[4].attributes.extend(pairs({"peer.service": "queue", "messaging.system": "kafka"}))


def values(scope_spans, start: int, salt: int) -> None:
    """Spans with attributes of each kind of value."""
    scope_spans.scope.name = "shop/values"
    plain = scope_spans.spans.add()
    fill(plain, "values", "plain values", salt, start)
    plain.attributes.extend(
        pairs(
            {
                "text": "plain",
                "text.empty": "",
                "text.unicode": 'grün 東京 🛒 \u0000 \u2028 "quoted" \\ <tag>\n\ttab',
                "text.large": "0123456789" * 1024,
                "bool.true": True,
                "bool.false": False,
                "int": 42,
                "int.zero": 0,
                "int.max": INT64_MAX,
                "int.min": -INT64_MAX - 1,
                "double": 3.25,
                "double.whole": 2.0,
                "double.small": 5e-324,
                "double.large": 1.7976931348623157e308,
                "double.nan": float("nan"),
                "double.infinite": float("inf"),
                "double.negative": float("-inf"),
                "double.minus_zero": -0.0,
                "bytes": bytes(range(256)),
                "bytes.empty": b"",
                "nothing": Empty(),
                "schlüssel ✓": "a key beyond ASCII",
            }
        )
    )
    plain.dropped_attributes_count = 5
    nested = scope_spans.spans.add()
    fill(nested, "values", "nested values", salt, start + 1)
    nested.parent_span_id = plain.span_id
    nested.attributes.extend(
        pairs(
            {
                "array": ["a", "", "c"],
                "array.empty": [],
                "array.mixed": ["a", 1, 2.5, True, b"\x00\xff", Empty(), ["b", ["c"]], {"d": 1}],
                "array.numbers": [1, -2, INT64_MAX],
                "map": {"a": 1, "b": {"c": {"d": ["e", 2.0]}}},
                "map.empty": {},
                "map.odd": {"": "an empty key", "ключ": float("nan"), "nothing": Empty()},
            }
        )
    )


def links_and_events(scope_spans, start: int, salt: int) -> None:
    """Spans with links and events, with and without what these may have."""
    scope_spans.scope.name = "store"
    scope_spans.scope.version = ""
    span = scope_spans.spans.add()
    fill(span, "links", "links and events", salt, start)
    span.trace_state = "vendor=abc,other=1"
    span.kind = Span.SPAN_KIND_CONSUMER
    plain = span.links.add(trace_id=trace_id("kinds", salt), span_id=span_id("kind-1", salt))
    plain.flags = SAMPLED
    rich = span.links.add(trace_id=trace_id("elsewhere", salt), span_id=span_id("elsewhere", salt))
    rich.trace_state = "vendor=xyz"
    rich.attributes.extend(pairs({"link.text": "why", "link.int": 5, "link.list": ["a", "b"]}))
    rich.dropped_attributes_count = 2
    rich.flags = SAMPLED | HAS_IS_REMOTE | IS_REMOTE
    span.dropped_links_count = 4
    span.events.add(name="plain", time_unix_nano=start + 1_000)
    exception = span.events.add(name="exception", time_unix_nano=start + 2_500)
    exception.attributes.extend(
        pairs(
            {
                "exception.type": "IOError",
                "exception.message": 'disk: "full"\n| pipe',
                "exception.escaped": False,
                "attempt": 3,
                "share": 0.5,
            }
        )
    )
    exception.dropped_attributes_count = 1
    span.events.add(name="", time_unix_nano=start + 3_999)
    span.dropped_events_count = 6


def edges(scope_spans, start: int, salt: int) -> None:
    """Spans at the edges: without a duration, very long, with a remote parent, with nothing but what is required."""
    zero = scope_spans.spans.add()
    fill(zero, "edges", "zero duration", salt, start)
    zero.end_time_unix_nano = zero.start_time_unix_nano
    long = scope_spans.spans.add()
    fill(long, "edges", "long duration", salt, start - 7 * 24 * 60 * MINUTE)
    long.end_time_unix_nano = start
    odd = scope_spans.spans.add()
    fill(odd, "edges", "nanoseconds", salt, start - start % 1000 + 999)
    odd.end_time_unix_nano = odd.start_time_unix_nano + 1_001
    remote = scope_spans.spans.add()
    fill(remote, "edges", "remote parent ✓ ÄÖ", salt, start)
    remote.parent_span_id = span_id("parent elsewhere", salt)
    remote.kind = Span.SPAN_KIND_SERVER
    remote.flags = SAMPLED | HAS_IS_REMOTE | IS_REMOTE
    scope_spans.spans.add(
        trace_id=trace_id("bare", salt),
        span_id=span_id("bare", salt),
        start_time_unix_nano=start,
        end_time_unix_nano=start + 1_000_000,
    )


def fill(span, trace: str, name: str, salt: int, start: int) -> None:
    """Gives a span its ids, its name and a duration of some milliseconds."""
    span.trace_id = trace_id(trace, salt)
    span.span_id = span_id(name, salt)
    span.name = name
    span.start_time_unix_nano = start
    span.end_time_unix_nano = start + 12_345_678


def trace_id(name: str, salt: int) -> bytes:
    """Returns the id of the trace with this name."""
    return hashlib.sha256(f"trace {name} {salt}".encode()).digest()[:16]


def span_id(name: str, salt: int) -> bytes:
    """Returns the id of the span with this name."""
    return hashlib.sha256(f"span {name} {salt}".encode()).digest()[:8]


def pairs(values: dict) -> list[KeyValue]:
    """Returns attributes of OTLP for Python's values."""
    return [KeyValue(key=key, value=any_value(value)) for key, value in values.items()]


def any_value(value) -> AnyValue:
    """Returns a value of OTLP for one of Python's."""
    match value:
        case Empty():
            return AnyValue()
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=[any_value(each) for each in value]))
        case dict():
            return AnyValue(kvlist_value=KeyValueList(values=pairs(value)))
    raise TypeError(f"no value of OTLP for {value!r}")
