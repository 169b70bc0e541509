//! Exporting on a runtime of the program's own makes no spans, however much of the program is traced. In programs of their
//! own, because the subscriber and the global provider are the process's.
#![cfg(all(feature = "sdk", feature = "grpc", feature = "http"))]

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::Runtime;
use outspan::combinators::Queued;
use outspan::otlp;
use outspan::sdk::BatchProcessor;
use outspan_testkit::Collector;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tracing_subscriber::layer::SubscriberExt;

/// An exporter of a user who traces everything, in front of one that uses the network.
#[derive(Debug)]
struct Chatty(Exporter);

fn trace_something() {
    use opentelemetry::trace::Span as _;
    use opentelemetry::trace::Tracer as _;

    tracing::info_span!("exporting").in_scope(|| tracing::info!("exporting"));
    let tracer = opentelemetry::global::tracer("exporter");
    tracer.start("exporting").end();
}

impl Export for Chatty {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        trace_something();
        tokio::task::yield_now().await;
        // Another poll, on a thread that may have run other tasks between.
        trace_something();
        let delivery = self.0.export(batch, until).await;
        trace_something();
        delivery
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        trace_something();
        self.0.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        trace_something();
        self.0.shutdown(until).await
    }
}

/// Sends everything that the program traces over exporters on `runtime`, and looks at what arrived.
///
/// `drive` runs the program, in the runtime or elsewhere.
fn check(runtime: &Runtime, drive: impl Fn(&dyn Fn())) {
    let collectors = [Collector::grpc(), Collector::http()];
    let [grpc, http] = &collectors;
    let network = [
        otlp::grpc(grpc.endpoint()).runtime(runtime.clone()).build(),
        otlp::http(http.endpoint()).runtime(runtime.clone()).build(),
    ];
    let [over_grpc, over_http] = network.map(|one| Exporter::new(Chatty(one.unwrap())));
    let on_runtime = |exporter: Exporter| {
        let queued = Queued::new(exporter).runtime(runtime.clone());
        queued.build().unwrap()
    };
    let processors = [over_grpc, over_http].map(|one| BatchProcessor::new(on_runtime(one)));
    let handles = [processors[0].handle(), processors[1].handle()];
    let [first, second] = processors;
    let provider = SdkTracerProvider::builder()
        .with_span_processor(first)
        .with_span_processor(second)
        .build();
    opentelemetry::global::set_tracer_provider(provider.clone());
    let everything = tracing_opentelemetry::layer().with_tracer(provider.tracer("program"));
    let subscriber = tracing_subscriber::registry().with(everything);
    tracing::subscriber::set_global_default(subscriber).unwrap();

    drive(&|| {
        for _ in 0..10 {
            tracing::info_span!("work").in_scope(|| tracing::info!("working"));
            provider.force_flush().unwrap();
        }
        provider
            .shutdown_with_timeout(Duration::from_secs(20))
            .unwrap();
    });
    for (collector, handle) in collectors.iter().zip(handles) {
        let spans = collector.spans().into_iter();
        let names: Vec<_> = spans.map(|span| span.span.name).collect();
        assert_eq!(names, ["work"; 10]);
        assert_eq!(handle.account().received, 10);
    }
}

#[test]
fn exporting_on_a_multi_thread_runtime_makes_no_spans() {
    outspan_testkit::alone!();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    let ours = Runtime::from(runtime.handle().clone());
    check(&ours, |program| program());
}

#[test]
fn exporting_on_a_current_thread_runtime_makes_no_spans() {
    outspan_testkit::alone!();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    let ours = Runtime::from(runtime.handle().clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let driver = std::thread::spawn(move || drop(runtime.block_on(stopped)));
    check(&ours, |program| program());
    drop(stop);
    driver.join().unwrap();
}

/// Calls an exporter in a task of the program's, within a span of the program's.
#[test]
fn export_awaited_on_its_own_runtime_adds_nothing_to_the_caller_s_span() {
    outspan_testkit::alone!();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    let traced = Collector::grpc();
    let destination = Collector::grpc();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(BatchProcessor::new(
            otlp::grpc(traced.endpoint()).build().unwrap(),
        ))
        .build();
    let everything = tracing_opentelemetry::layer().with_tracer(provider.tracer("program"));
    let subscriber = tracing_subscriber::registry().with(everything);
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let exporter = otlp::grpc(destination.endpoint()).runtime(runtime.handle().clone());
    let exporter = exporter.build().unwrap();
    let program = async {
        for _ in 0..5 {
            exporter.export(batch_of(2), soon()).await.unwrap();
        }
    };
    runtime.block_on(tracing::Instrument::instrument(
        program,
        tracing::info_span!("program"),
    ));
    provider.shutdown().unwrap();
    let spans = traced.spans();
    let names: Vec<_> = spans.iter().map(|span| span.span.name.as_str()).collect();
    assert_eq!(names, ["program"]);
    assert_eq!(spans[0].span.events.len(), 0);
}
