//! Several providers, one for each tenant: an exporter belongs to one of them, so each has its own.

use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut providers = Vec::new();
    for tenant in ["tea", "cup"] {
        let exporter = SpanExporter::builder().with_http().build()?;
        let provider = SdkTracerProvider::builder()
            .with_resource(Resource::builder().with_service_name(tenant).build())
            .with_batch_exporter(exporter)
            .build();
        providers.push(provider);
    }
    for provider in &providers {
        provider.tracer("several").in_span("order", |_| {});
    }
    for provider in providers {
        provider.shutdown()?;
    }
    Ok(())
}
