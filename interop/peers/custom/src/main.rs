//! An exporter of one's own: it writes a line for each span, beside the one that delivers.

use std::io::Write;
use std::sync::Mutex;

use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter as OtlpExporter;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanExporter;

/// Names each span on standard output.
#[derive(Debug)]
struct Names<W>(Mutex<W>);

impl<W: Write + Send + std::fmt::Debug + 'static> SpanExporter for Names<W> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut out = self.0.lock().expect("nobody panics while writing");
        for span in &batch {
            writeln!(out, "{}", span.name).expect("standard output is open");
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names = Names(Mutex::new(std::io::stdout()));
    let backend = OtlpExporter::builder().with_http().build()?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(names)
        .with_batch_exporter(backend)
        .build();
    let tracer = provider.tracer("custom");
    tracer.in_span("run", |_| tracer.in_span("read", |_| {}));
    provider.shutdown()?;
    Ok(())
}
