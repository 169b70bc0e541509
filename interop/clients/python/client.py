"""Sends the same few spans through one or several exporters of the Python SDK: `client.py EXPORTER URL [EXPORTER URL]...`.

An exporter is otlp-grpc, otlp-http, zipkin, jaeger-http or jaeger-udp; `+gzip` behind it compresses, `+broken`
takes the trace from some spans.
"""

import copy
import sys
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import Link
from opentelemetry.trace import SpanContext
from opentelemetry.trace import SpanKind
from opentelemetry.trace import Status
from opentelemetry.trace import StatusCode

SMALL_SPANS = 100
BROKEN_SPANS = 10
# How long an export may take with all attempts: longer than by default, so that a slow machine does not decide.
EXPORT_SECONDS = 30


def exporter(name: str, url: str):
    """Makes an exporter; imports only what it needs, because not every environment has all."""
    name, _, compression = name.partition("+")
    if name == "otlp-grpc":
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        algorithm = grpc.Compression.Gzip if compression else grpc.Compression.NoCompression
        return OTLPSpanExporter(endpoint=url, insecure=True, compression=algorithm, timeout=EXPORT_SECONDS)
    if name == "otlp-http":
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        algorithm = Compression.Gzip if compression else Compression.NoCompression
        return OTLPSpanExporter(endpoint=f"{url}/v1/traces", compression=algorithm, timeout=EXPORT_SECONDS)
    if name == "zipkin":
        from opentelemetry.exporter.zipkin.json import ZipkinExporter

        return ZipkinExporter(endpoint=f"{url}/api/v2/spans")
    from opentelemetry.exporter.jaeger.thrift import JaegerExporter

    if name == "jaeger-http":
        return JaegerExporter(collector_endpoint=f"{url}/api/traces?format=jaeger.thrift")
    address = urlsplit(url)
    return JaegerExporter(agent_host_name=address.hostname, agent_port=address.port, udp_split_oversized_batches=True)


class Breaking(SpanExporter):
    """Exports a tenth of the small spans without the id of a trace, which no receiver can take."""

    def __init__(self, inner: SpanExporter):
        self.inner = inner

    def export(self, spans):
        return self.inner.export([broken(span) for span in spans])

    def shutdown(self) -> None:
        self.inner.shutdown()


def broken(span):
    """Returns a small span with a low number without its trace, and any other as it is."""
    if span.attributes.get("number", BROKEN_SPANS) >= BROKEN_SPANS:
        return span
    changed = copy.copy(span)
    changed._context = SpanContext(trace_id=0, span_id=span.get_span_context().span_id, is_remote=False)
    return changed


def make_spans(tracer) -> None:
    """Makes the spans that every client makes."""
    with tracer.start_as_current_span("root ✓", kind=SpanKind.SERVER) as root:
        root.set_attributes(
            {
                "text": "grün 東京 🛒",
                "text.empty": "",
                "int": 42,
                "int.large": 2**53 + 1,
                "int.negative": -7,
                "double": 3.25,
                "bool": True,
                "texts": ["a", "", "ü"],
                "ints": [1, 2, 3],
                "doubles": [0.5, 1.5],
                "bools": [True, False],
            }
        )
        root.add_event("plain")
        root.add_event("rich", {"text": 'quote " bar | end', "int": 5, "double": 0.5, "bool": False})
        root.set_status(Status(StatusCode.OK))
        with tracer.start_as_current_span(
            "child", kind=SpanKind.CLIENT, attributes={"server.address": "till.example.com"}
        ) as child:
            child.record_exception(ValueError("declined"))
            child.set_status(Status(StatusCode.ERROR, "card declined"))
        link = Link(child.get_span_context(), {"why": "because"})
        with tracer.start_as_current_span("linked", kind=SpanKind.PRODUCER, links=[link]):
            pass
        for number in range(SMALL_SPANS):
            with tracer.start_as_current_span("small", attributes={"number": number}):
                pass


def main() -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "client-python", "shop.id": 7}))
    arguments = sys.argv[1:]
    for name, url in zip(arguments[::2], arguments[1::2]):
        made = exporter(name.removesuffix("+broken"), url)
        provider.add_span_processor(BatchSpanProcessor(Breaking(made) if name.endswith("+broken") else made))
    make_spans(provider.get_tracer("interop", "1.0"))
    provider.shutdown()


main()
