//! Exporting spans makes no spans, however much of the program is traced. In a program of its own, because the subscriber
//! and the global provider are the process's.
#![cfg(all(feature = "sdk", feature = "grpc"))]

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::otlp;
use outspan::sdk::BatchProcessor;
use outspan_testkit::Collector;
use tracing_subscriber::layer::SubscriberExt;

/// An exporter of a user who traces everything, in front of one that uses the network.
#[derive(Debug)]
struct Chatty(Exporter);

impl Export for Chatty {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        use opentelemetry::trace::Span as _;
        use opentelemetry::trace::Tracer as _;

        let traced = tracing::info_span!("exporting").entered();
        drop(traced);
        opentelemetry::global::tracer("exporter")
            .start("exporting")
            .end();
        self.0.export(batch, until).await
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        drop(tracing::info_span!("flushing").entered());
        self.0.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        drop(tracing::info_span!("shutting down").entered());
        self.0.shutdown(until).await
    }
}

#[test]
fn exporting_makes_no_spans() {
    outspan_testkit::alone!();
    let collector = Collector::grpc();
    let network = otlp::grpc(collector.endpoint()).build().unwrap();
    let processor = BatchProcessor::new(Exporter::new(Chatty(network)));
    let handle = processor.handle();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();
    opentelemetry::global::set_tracer_provider(provider.clone());
    let everything = tracing_opentelemetry::layer().with_tracer(provider.tracer("program"));
    let subscriber = tracing_subscriber::registry().with(everything);
    tracing::subscriber::set_global_default(subscriber).unwrap();

    for _ in 0..10 {
        tracing::info_span!("work").in_scope(|| tracing::info!("working"));
        provider.force_flush().unwrap();
    }
    provider.shutdown().unwrap();
    let names: Vec<_> = collector
        .spans()
        .into_iter()
        .map(|span| span.span.name)
        .collect();
    assert_eq!(names, ["work"; 10]);
    assert_eq!(handle.account().received, 10);
}
