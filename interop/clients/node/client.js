// Sends the same few spans through one or several exporters of the JavaScript SDK: `client.js EXPORTER URL [EXPORTER URL]...`.
//
// An exporter is otlp-grpc, otlp-http, otlp-json, zipkin, jaeger-http or jaeger-udp; `+gzip` behind it compresses,
// `+broken` takes the trace from some spans.
"use strict";

const { diag, DiagConsoleLogger, DiagLogLevel, SpanKind, SpanStatusCode, ROOT_CONTEXT, trace } = require("@opentelemetry/api");
const { resourceFromAttributes, defaultResource } = require("@opentelemetry/resources");
const { BasicTracerProvider, BatchSpanProcessor } = require("@opentelemetry/sdk-trace-base");

const SMALL_SPANS = 100;
const BROKEN_SPANS = 10;
// How long an export may take with all attempts: longer than by default, so that a slow machine does not decide.
const EXPORT_MILLISECONDS = 30_000;

function exporter(fullName, url) {
  const [name, compression = "none"] = fullName.split("+");
  switch (name) {
    case "otlp-grpc": {
      const { OTLPTraceExporter } = require("@opentelemetry/exporter-trace-otlp-grpc");
      return new OTLPTraceExporter({ url, compression, timeoutMillis: EXPORT_MILLISECONDS });
    }
    case "otlp-http": {
      const { OTLPTraceExporter } = require("@opentelemetry/exporter-trace-otlp-proto");
      return new OTLPTraceExporter({ url: `${url}/v1/traces`, compression, timeoutMillis: EXPORT_MILLISECONDS });
    }
    case "otlp-json": {
      const { OTLPTraceExporter } = require("@opentelemetry/exporter-trace-otlp-http");
      return new OTLPTraceExporter({ url: `${url}/v1/traces`, compression, timeoutMillis: EXPORT_MILLISECONDS });
    }
    case "zipkin": {
      const { ZipkinExporter } = require("@opentelemetry/exporter-zipkin");
      return new ZipkinExporter({ url: `${url}/api/v2/spans` });
    }
    case "jaeger-http": {
      const { JaegerExporter } = require("@opentelemetry/exporter-jaeger");
      return new JaegerExporter({ endpoint: `${url}/api/traces` });
    }
    case "jaeger-udp": {
      const { JaegerExporter } = require("@opentelemetry/exporter-jaeger");
      const { hostname, port } = new URL(url);
      return new JaegerExporter({ host: hostname, port: Number(port) });
    }
  }
  throw new Error(`no exporter is called ${name}`);
}

// Exports a tenth of the small spans without the id of a trace, which no receiver can take.
function breaking(inner) {
  return {
    export: (spans, done) => inner.export(spans.map(broken), done),
    forceFlush: () => inner.forceFlush(),
    shutdown: () => inner.shutdown(),
  };
}

function broken(span) {
  if (!(span.attributes.number < BROKEN_SPANS)) {
    return span;
  }
  const changed = Object.create(span);
  changed.spanContext = () => ({ ...span.spanContext(), traceId: "0".repeat(32) });
  return changed;
}

function makeSpans(tracer) {
  const root = tracer.startSpan("root ✓", { kind: SpanKind.SERVER });
  root.setAttributes({
    text: "grün 東京 🛒",
    "text.empty": "",
    int: 42,
    "int.large": 2 ** 53 - 1,
    "int.negative": -7,
    double: 3.25,
    bool: true,
    texts: ["a", "", "ü"],
    ints: [1, 2, 3],
    doubles: [0.5, 1.5],
    bools: [true, false],
  });
  root.addEvent("plain");
  root.addEvent("rich", { text: 'quote " bar | end', int: 5, double: 0.5, bool: false });
  root.setStatus({ code: SpanStatusCode.OK });
  const inRoot = trace.setSpan(ROOT_CONTEXT, root);
  const child = tracer.startSpan("child", { kind: SpanKind.CLIENT, attributes: { "server.address": "till.example.com" } }, inRoot);
  child.recordException(new RangeError("declined"));
  child.setStatus({ code: SpanStatusCode.ERROR, message: "card declined" });
  child.end();
  const links = [{ context: child.spanContext(), attributes: { why: "because" } }];
  tracer.startSpan("linked", { kind: SpanKind.PRODUCER, links }, inRoot).end();
  for (let number = 0; number < SMALL_SPANS; number += 1) {
    tracer.startSpan("small", { attributes: { number } }, inRoot).end();
  }
  root.end();
}

async function main() {
  diag.setLogger(new DiagConsoleLogger(), DiagLogLevel.WARN);
  const spanProcessors = [];
  const words = process.argv.slice(2);
  for (let index = 0; index < words.length; index += 2) {
    const name = words[index].replace("+broken", "");
    const made = exporter(name, words[index + 1]);
    const exportTimeoutMillis = EXPORT_MILLISECONDS;
    spanProcessors.push(new BatchSpanProcessor(name === words[index] ? made : breaking(made), { exportTimeoutMillis }));
  }
  const resource = defaultResource().merge(resourceFromAttributes({ "service.name": "client-node", "shop.id": 7 }));
  const provider = new BasicTracerProvider({ resource, spanProcessors });
  makeSpans(provider.getTracer("interop", "1.0"));
  await provider.shutdown();
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
