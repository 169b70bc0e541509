//! tokio with one thread.

use opentelemetry::Context;
use opentelemetry::trace::FutureExt;
use opentelemetry::trace::TraceContextExt;
use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::SdkTracerProvider;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let exporter = SpanExporter::builder().with_http().build()?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .build();
    let tracer = provider.tracer("current-thread");
    let context = Context::current_with_span(tracer.start("work"));
    let part = async {
        let part = tracer.start("part");
        tokio::task::yield_now().await;
        drop(part);
    };
    part.with_context(context).await;
    provider.shutdown()?;
    Ok(())
}
