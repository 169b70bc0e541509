import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.api.trace.TraceId;
import io.opentelemetry.context.Context;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.exporter.zipkin.ZipkinSpanExporter;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.common.export.RetryPolicy;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.SdkTracerProviderBuilder;
import io.opentelemetry.sdk.trace.data.DelegatingSpanData;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * Sends the same few spans through one or several exporters of the Java SDK: {@code Client EXPORTER URL [EXPORTER URL]...}.
 *
 * <p>An exporter is otlp-grpc, otlp-http or zipkin; {@code +gzip} behind it compresses, {@code +broken} takes
 * the trace from some spans.
 */
public final class Client {
    private static final int SMALL_SPANS = 100;
    private static final int BROKEN_SPANS = 10;
    /** How long an export may take with all attempts: longer than by default, so that a slow machine does not decide. */
    private static final Duration EXPORT_MAX = Duration.ofSeconds(30);
    /** As by default, but for waits that are twice as long. */
    private static final RetryPolicy RETRY =
            RetryPolicy.builder().setInitialBackoff(Duration.ofSeconds(2)).setMaxBackoff(Duration.ofSeconds(10)).build();
    private static final int SHUTDOWN_SECONDS_MAX = 100;

    private Client() {}

    private static SpanExporter exporter(String fullName, String url) {
        String name = fullName.split("\\+")[0];
        String compression = fullName.contains("+") ? fullName.split("\\+")[1] : "none";
        return switch (name) {
            case "otlp-grpc" -> OtlpGrpcSpanExporter.builder()
                    .setEndpoint(url)
                    .setCompression(compression)
                    .setTimeout(EXPORT_MAX)
                    .setRetryPolicy(RETRY)
                    .build();
            case "otlp-http" -> OtlpHttpSpanExporter.builder()
                    .setEndpoint(url + "/v1/traces")
                    .setCompression(compression)
                    .setTimeout(EXPORT_MAX)
                    .setRetryPolicy(RETRY)
                    .build();
            case "zipkin" -> ZipkinSpanExporter.builder().setEndpoint(url + "/api/v2/spans").build();
            default -> throw new IllegalArgumentException("no exporter is called " + name);
        };
    }

    /** Exports a tenth of the small spans without the id of a trace, which no receiver can take. */
    private record Breaking(SpanExporter inner) implements SpanExporter {
        private static final AttributeKey<Long> NUMBER = AttributeKey.longKey("number");

        @Override
        public CompletableResultCode export(Collection<SpanData> spans) {
            return inner.export(spans.stream().map(Breaking::broken).toList());
        }

        @Override
        public CompletableResultCode flush() {
            return inner.flush();
        }

        @Override
        public CompletableResultCode shutdown() {
            return inner.shutdown();
        }

        private static SpanData broken(SpanData span) {
            Long number = span.getAttributes().get(NUMBER);
            return number == null || number >= BROKEN_SPANS ? span : new WithoutTrace(span);
        }
    }

    private static final class WithoutTrace extends DelegatingSpanData {
        private final SpanContext context;

        WithoutTrace(SpanData span) {
            super(span);
            SpanContext whole = span.getSpanContext();
            context = SpanContext.create(
                    TraceId.getInvalid(), whole.getSpanId(), whole.getTraceFlags(), whole.getTraceState());
        }

        @Override
        public SpanContext getSpanContext() {
            return context;
        }
    }

    private static void makeSpans(Tracer tracer) {
        Span root = tracer.spanBuilder("root ✓").setSpanKind(SpanKind.SERVER).setNoParent().startSpan();
        root.setAttribute("text", "grün 東京 🛒");
        root.setAttribute("text.empty", "");
        root.setAttribute("int", 42);
        root.setAttribute("int.large", (1L << 53) + 1);
        root.setAttribute("int.negative", -7);
        root.setAttribute("double", 3.25);
        root.setAttribute("bool", true);
        root.setAttribute(AttributeKey.stringArrayKey("texts"), List.of("a", "", "ü"));
        root.setAttribute(AttributeKey.longArrayKey("ints"), List.of(1L, 2L, 3L));
        root.setAttribute(AttributeKey.doubleArrayKey("doubles"), List.of(0.5, 1.5));
        root.setAttribute(AttributeKey.booleanArrayKey("bools"), List.of(true, false));
        root.addEvent("plain");
        Attributes rich = Attributes.builder()
                .put("text", "quote \" bar | end")
                .put("int", 5)
                .put("double", 0.5)
                .put("bool", false)
                .build();
        root.addEvent("rich", rich);
        root.setStatus(StatusCode.OK);
        Context inRoot = Context.root().with(root);
        Span child = tracer.spanBuilder("child")
                .setSpanKind(SpanKind.CLIENT)
                .setParent(inRoot)
                .setAttribute("server.address", "till.example.com")
                .startSpan();
        child.recordException(new IllegalStateException("declined"));
        child.setStatus(StatusCode.ERROR, "card declined");
        child.end();
        tracer.spanBuilder("linked")
                .setSpanKind(SpanKind.PRODUCER)
                .setParent(inRoot)
                .addLink(child.getSpanContext(), Attributes.of(AttributeKey.stringKey("why"), "because"))
                .startSpan()
                .end();
        for (int number = 0; number < SMALL_SPANS; number++) {
            tracer.spanBuilder("small").setParent(inRoot).setAttribute("number", number).startSpan().end();
        }
        root.end();
    }

    public static void main(String[] words) {
        Resource about = Resource.getDefault()
                .merge(Resource.create(Attributes.builder().put("service.name", "client-java").put("shop.id", 7).build()));
        SdkTracerProviderBuilder builder = SdkTracerProvider.builder().setResource(about);
        for (int index = 0; index + 1 < words.length; index += 2) {
            String name = words[index].replace("+broken", "");
            SpanExporter made = exporter(name, words[index + 1]);
            boolean isBreaking = !name.equals(words[index]);
            builder.addSpanProcessor(BatchSpanProcessor.builder(isBreaking ? new Breaking(made) : made)
                    .setExporterTimeout(EXPORT_MAX)
                    .build());
        }
        SdkTracerProvider provider = builder.build();
        makeSpans(provider.get("interop", "1.0"));
        boolean isDone = provider.shutdown().join(SHUTDOWN_SECONDS_MAX, TimeUnit.SECONDS).isSuccess();
        System.exit(isDone ? 0 : 1);
    }
}
