//! A program that knows `tracing` only.

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let exporter = SpanExporter::builder().with_http().build()?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .build();
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("tracing"));
    tracing_subscriber::registry().with(spans).init();
    order();
    provider.shutdown()?;
    Ok(())
}

#[tracing::instrument]
fn order() {
    for item in ["tea", "cup"] {
        tracing::info_span!("pack", item).in_scope(|| tracing::info!("packed"));
    }
}
