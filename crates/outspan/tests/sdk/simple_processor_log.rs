//! What the simple processor tells; alone in its process, because the log is the process's.

#![cfg(all(feature = "sdk", feature = "grpc", feature = "http"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use outspan::sdk::SimpleProcessor;
use outspan_testkit::Act;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::Written;

#[test]
fn a_row_of_losses_costs_two_lines() {
    outspan_testkit::alone!();
    let lines = Written::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .init();
    let child = ScriptedExporter::new();
    child.script([Act::unavailable(), Act::unavailable(), Act::Refuse(1)]);
    let provider = SdkTracerProvider::builder()
        .with_span_processor(SimpleProcessor::new(child.exporter()))
        .build();
    let tracer = provider.tracer("test");
    for _ in 0..6 {
        drop(tracer.start("work"));
    }
    let text = lines.text();
    let told: Vec<_> = text.lines().map(str::trim).collect();
    assert_eq!(
        told,
        [
            "WARN outspan: cannot export a span, and drop it: the script says unavailable",
            "INFO outspan: spans are exported again; 3 were lost",
        ]
    );
}
