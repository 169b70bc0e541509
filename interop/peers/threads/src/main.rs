//! Plain threads, and no async runtime of one's own.

use std::thread;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::SdkTracerProvider;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let exporter = SpanExporter::builder().with_http().build()?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .build();
    let tracer = provider.tracer("threads");
    let context = Context::current_with_span(tracer.start("work"));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                drop(tracer.start_with_context("part", &context));
            });
        }
    });
    drop(context);
    provider.shutdown()?;
    Ok(())
}
