//! Several providers, one for each tenant, on one exporter: one connection, one queue.

use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use outspan::sdk::BatchProcessor;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let exporter = outspan::env::exporter()?;
    let providers = ["tea", "cup"].map(|tenant| {
        SdkTracerProvider::builder()
            .with_resource(Resource::builder().with_service_name(tenant).build())
            .with_span_processor(BatchProcessor::new(exporter.clone()))
            .build()
    });
    for provider in &providers {
        provider.tracer("several").in_span("order", |_| {});
    }
    for provider in providers {
        provider.shutdown()?;
    }
    Ok(())
}
