//! A function that is called now and then, and may be frozen or killed after each answer: it delivers before it answers.

use std::io::BufRead;

use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::SdkTracerProvider;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let exporter = SpanExporter::builder().with_http().build()?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .build();
    let tracer = provider.tracer("lambda");
    for event in std::io::stdin().lock().lines() {
        let event = event?;
        let answer = tracer.in_span("handle", |_| event.to_uppercase());
        provider.force_flush()?;
        println!("{answer}");
    }
    // As the platform ends it: at once.
    std::process::exit(0)
}
