//! What limits on spans cost in the log; alone in its process, because the log is the process's.

#![cfg(feature = "sdk")]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::Link;
use opentelemetry::trace::Span;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanId;
use opentelemetry::trace::TraceFlags;
use opentelemetry::trace::TraceId;
use opentelemetry::trace::TraceState;
use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use outspan::env::Settings;
use outspan::sdk::BatchProcessor;
use outspan::sdk::SimpleProcessor;
use outspan::wire::otlp::SpanLimits;
use outspan_testkit::Written;

/// One of each, and texts of three characters.
fn narrow() -> SpanLimits {
    let mut limits = SpanLimits::default();
    limits.attribute_value_length = Some(3);
    limits.attributes = 1;
    limits.events = 1;
    limits.links = 1;
    limits.attributes_per_event = 1;
    limits.attributes_per_link = 1;
    limits
}

fn other_span() -> SpanContext {
    SpanContext::new(
        TraceId::from(1_u128),
        SpanId::from(1_u64),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    )
}

/// Makes a span that breaks every limit.
fn make_span(tracer: &impl Tracer<Span: Send>) {
    let attributes = || vec![KeyValue::new("a", "12345"), KeyValue::new("b", "12345")];
    let mut span = tracer
        .span_builder("laden")
        .with_attributes(attributes())
        .with_links(vec![Link::new(other_span(), attributes(), 0); 2])
        .start(tracer);
    span.add_event("first", attributes());
    span.add_event("second", attributes());
    span.end();
}

#[test]
fn limits_are_told_by_the_counts_in_the_span_and_never_in_the_log() {
    let log = Written::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let shown = Written::default();
    let exporter = || {
        let lines = outspan::stdout::otlp_json_lines().writer(shown.clone());
        lines.build().unwrap()
    };
    let simple = SimpleProcessor::new(exporter()).span_limits(narrow());
    let batch = BatchProcessor::builder(exporter()).span_limits(narrow());
    let provider = SdkTracerProvider::builder()
        .with_span_processor(simple)
        .with_span_processor(batch.build().unwrap())
        .build();
    make_span(&provider.tracer("test"));
    provider.shutdown().unwrap();
    // The limits of a provider that is set up in one call are the SDK's own.
    let mut settings = Settings::default();
    settings.span_limits = narrow();
    let guard = outspan::builder()
        .settings(settings)
        .exporter(exporter())
        .global(false)
        .init()
        .unwrap();
    make_span(&guard.tracer("test"));
    drop(guard.shutdown(Duration::from_secs(10)).unwrap());

    let spans = shown.text();
    assert_eq!(spans.lines().count(), 3, "{spans}");
    for line in spans.lines() {
        for dropped in [
            r#""droppedAttributesCount":1"#,
            r#""droppedEventsCount":1"#,
            r#""droppedLinksCount":1"#,
        ] {
            assert!(line.contains(dropped), "{dropped}: {line}");
        }
    }
    assert_eq!(log.text(), "");
}
