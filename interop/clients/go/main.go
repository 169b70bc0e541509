// Sends the same few spans through one or several exporters of the Go SDK: `client EXPORTER URL [EXPORTER URL]...`.
//
// An exporter is otlp-grpc, otlp-http or zipkin; `+gzip` behind it compresses, `+broken` takes the trace from some spans.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/zipkin"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

const (
	smallSpans  = 100
	brokenSpans = 10
	// How long an export may take with all attempts: longer than by default, so that a slow machine does not decide.
	exportWithin   = 30 * time.Second
	shutdownWithin = 100 * time.Second
)

func exporter(ctx context.Context, fullName, url string) (sdktrace.SpanExporter, error) {
	name, compression, _ := strings.Cut(fullName, "+")
	switch name {
	case "otlp-grpc":
		options := []otlptracegrpc.Option{
			otlptracegrpc.WithEndpointURL(url), otlptracegrpc.WithInsecure(), otlptracegrpc.WithTimeout(exportWithin),
		}
		if compression != "" {
			options = append(options, otlptracegrpc.WithCompressor(compression))
		}
		return otlptracegrpc.New(ctx, options...)
	case "otlp-http":
		options := []otlptracehttp.Option{
			otlptracehttp.WithEndpointURL(url + "/v1/traces"), otlptracehttp.WithTimeout(exportWithin),
		}
		if compression != "" {
			options = append(options, otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
		}
		return otlptracehttp.New(ctx, options...)
	case "zipkin":
		return zipkin.New(url + "/api/v2/spans")
	}
	return nil, fmt.Errorf("no exporter is called %s", name)
}

// breaking exports a tenth of the small spans without the id of a trace, which no receiver can take.
type breaking struct {
	sdktrace.SpanExporter
}

func (inner breaking) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	changed := make([]sdktrace.ReadOnlySpan, 0, len(spans))
	for _, span := range spans {
		for _, each := range span.Attributes() {
			if each.Key == "number" && each.Value.AsInt64() < brokenSpans {
				stub := tracetest.SpanStubFromReadOnlySpan(span)
				stub.SpanContext = stub.SpanContext.WithTraceID(trace.TraceID{})
				span = stub.Snapshot()
			}
		}
		changed = append(changed, span)
	}
	return inner.SpanExporter.ExportSpans(ctx, changed)
}

func makeSpans(ctx context.Context, tracer trace.Tracer) {
	inRoot, root := tracer.Start(ctx, "root ✓", trace.WithSpanKind(trace.SpanKindServer))
	root.SetAttributes(
		attribute.String("text", "grün 東京 🛒"),
		attribute.String("text.empty", ""),
		attribute.Int64("int", 42),
		attribute.Int64("int.large", 1<<53+1),
		attribute.Int64("int.negative", -7),
		attribute.Float64("double", 3.25),
		attribute.Bool("bool", true),
		attribute.StringSlice("texts", []string{"a", "", "ü"}),
		attribute.Int64Slice("ints", []int64{1, 2, 3}),
		attribute.Float64Slice("doubles", []float64{0.5, 1.5}),
		attribute.BoolSlice("bools", []bool{true, false}),
	)
	root.AddEvent("plain")
	root.AddEvent("rich", trace.WithAttributes(
		attribute.String("text", `quote " bar | end`),
		attribute.Int("int", 5),
		attribute.Float64("double", 0.5),
		attribute.Bool("bool", false),
	))
	root.SetStatus(codes.Ok, "")
	_, child := tracer.Start(inRoot, "child", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("server.address", "till.example.com")))
	child.RecordError(errors.New("declined"))
	child.SetStatus(codes.Error, "card declined")
	child.End()
	link := trace.Link{SpanContext: child.SpanContext(), Attributes: []attribute.KeyValue{attribute.String("why", "because")}}
	_, linked := tracer.Start(inRoot, "linked", trace.WithSpanKind(trace.SpanKindProducer), trace.WithLinks(link))
	linked.End()
	for number := range smallSpans {
		_, small := tracer.Start(inRoot, "small", trace.WithAttributes(attribute.Int("number", number)))
		small.End()
	}
	root.End()
}

func run(words []string) error {
	ctx := context.Background()
	failed := make(chan error, 1)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		select {
		case failed <- err:
		default:
		}
	}))
	about, err := resource.Merge(resource.Default(),
		resource.NewSchemaless(attribute.String("service.name", "client-go"), attribute.Int("shop.id", 7)))
	if err != nil {
		return err
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithResource(about)}
	for index := 0; index+1 < len(words); index += 2 {
		name, isBreaking := strings.CutSuffix(words[index], "+broken")
		made, err := exporter(ctx, name, words[index+1])
		if err != nil {
			return err
		}
		if isBreaking {
			made = breaking{made}
		}
		options = append(options, sdktrace.WithBatcher(made, sdktrace.WithExportTimeout(exportWithin)))
	}
	provider := sdktrace.NewTracerProvider(options...)
	makeSpans(ctx, provider.Tracer("interop", trace.WithInstrumentationVersion("1.0")))
	ending, cancel := context.WithTimeout(ctx, shutdownWithin)
	defer cancel()
	if err := provider.Shutdown(ending); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}
