//! The processor that exports each span when it ends.

#![cfg(all(feature = "sdk", feature = "grpc", feature = "http"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::trace::Span;
use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::SamplingDecision;
use opentelemetry_sdk::trace::SamplingResult;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::ShouldSample;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::DropReason;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::otlp;
use outspan::sdk::SimpleHandle;
use outspan::sdk::SimpleProcessor;
use outspan_testkit::Act;
use outspan_testkit::Collector;
use outspan_testkit::ScriptedExporter;

const SOON: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(200);

fn provide(processor: SimpleProcessor) -> (SdkTracerProvider, SimpleHandle) {
    let handle = processor.handle();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();
    (provider, handle)
}

fn make_spans(provider: &SdkTracerProvider, spans: usize) {
    let tracer = provider.tracer("test");
    for number in 0..spans {
        let mut span = tracer.start("work");
        span.set_attribute(KeyValue::new("number", number as i64));
        span.end();
    }
}

#[test]
fn each_span_has_arrived_when_its_end_returns() {
    let child = ScriptedExporter::new();
    let (provider, handle) = provide(SimpleProcessor::new(child.exporter()));
    for ended in 1..=5 {
        make_spans(&provider, 1);
        assert_eq!(child.received().len(), ended);
    }
    let account = handle.account();
    assert_eq!(
        (account.received, account.delivered, account.open()),
        (5, 5, 0)
    );
    provider.shutdown().unwrap();
    assert_eq!(child.shutdowns(), 1);
}

/// The same in every runtime and in none, over a real connection.
fn delivers(collector: &Collector) {
    let exporter = otlp::grpc(collector.endpoint()).build().unwrap();
    let (provider, handle) = provide(SimpleProcessor::new(exporter));
    make_spans(&provider, 3);
    assert_eq!(collector.span_count(), 3);
    provider.force_flush().unwrap();
    provider.shutdown().unwrap();
    assert!(handle.account().closes());
}

#[test]
fn it_works_without_a_runtime() {
    delivers(&Collector::grpc());
}

#[tokio::test]
async fn it_works_in_a_runtime_with_one_thread() {
    delivers(&Collector::grpc());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_works_in_a_runtime_with_one_worker() {
    let collector = Collector::grpc();
    tokio::spawn(async move { delivers(&collector) })
        .await
        .unwrap();
}

#[test]
fn an_exporter_that_makes_spans_does_not_feed_itself() {
    #[derive(Debug, Default)]
    struct Traced {
        provider: Arc<OnceLock<SdkTracerProvider>>,
        exports: Arc<AtomicUsize>,
    }
    impl Export for Traced {
        async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
            self.exports.fetch_add(1, Ordering::SeqCst);
            make_spans(self.provider.get().unwrap(), 3);
            Ok(Delivery::of(&batch))
        }

        async fn flush(&self, _until: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }

        async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }
    }
    let traced = Traced::default();
    let (known, exports) = (traced.provider.clone(), traced.exports.clone());
    let (provider, handle) = provide(SimpleProcessor::new(Exporter::new(traced)));
    known.set(provider.clone()).unwrap();
    make_spans(&provider, 2);
    assert_eq!(exports.load(Ordering::SeqCst), 2);
    assert_eq!(handle.account().delivered, 2);
}

#[test]
fn exports_never_overlap() {
    let child = ScriptedExporter::new();
    child.always(Act::after(Duration::from_millis(2), Act::Deliver));
    let (provider, handle) = provide(SimpleProcessor::new(child.exporter()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| make_spans(&provider, 10));
        }
    });
    assert_eq!(child.in_progress_most(), 1);
    assert_eq!(handle.account().delivered, 40);
}

#[test]
fn a_span_that_hangs_costs_its_limit_and_is_counted() {
    let limit = Duration::from_secs(2);
    let child = ScriptedExporter::new();
    child.script([Act::Hang]);
    let (provider, handle) = provide(SimpleProcessor::new(child.exporter()).limit(limit));
    let began = Instant::now();
    make_spans(&provider, 2);
    assert!(began.elapsed() < SOON);
    let account = handle.account();
    assert!(account.closes());
    assert_eq!(account.dropped.of(DropReason::Failed), 1);
    assert_eq!(account.delivered, 1);
}

#[test]
fn spans_that_wait_for_one_that_hangs_keep_their_own_limit() {
    let child = ScriptedExporter::new();
    child.always(Act::Hang);
    let (provider, handle) = provide(SimpleProcessor::new(child.exporter()).limit(SHORT));
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| make_spans(&provider, 1));
        }
    });
    // Each waits for its own limit, not for the sum.
    assert!(began.elapsed() < 20 * SHORT, "{:?}", began.elapsed());
    assert_eq!(handle.account().dropped.total(), 40);
}

#[test]
fn a_panic_in_the_exporter_is_counted_and_survived() {
    let child = ScriptedExporter::new();
    child.script([Act::Panic]);
    let (provider, handle) = provide(SimpleProcessor::new(child.exporter()));
    make_spans(&provider, 2);
    let account = handle.account();
    assert_eq!(account.dropped.of(DropReason::Failed), 1);
    assert_eq!((account.delivered, account.open()), (1, 0));
}

#[test]
fn refused_and_failed_spans_are_counted_apart() {
    let child = ScriptedExporter::new();
    child.script([
        Act::Refuse(1),
        Act::unavailable(),
        Act::AtMost(1),
        Act::Deliver,
    ]);
    let (provider, handle) = provide(SimpleProcessor::new(child.exporter()));
    make_spans(&provider, 4);
    let account = handle.account();
    assert_eq!(account.refused, 1);
    assert_eq!(account.dropped.of(DropReason::Failed), 1);
    assert_eq!(account.dropped.of(DropReason::TooLarge), 1);
    assert_eq!(account.delivered, 1);
    assert!(account.closes());
}

#[test]
fn spans_after_shutdown_are_counted_as_lost_by_it() {
    let child = ScriptedExporter::new();
    let processor = SimpleProcessor::new(child.exporter());
    let handle = processor.handle();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();
    let mut late = provider.tracer("test").start("late");
    drop(handle.shutdown(SOON).unwrap());
    late.end();
    assert_eq!(handle.account().dropped.of(DropReason::Shutdown), 1);
    assert_eq!(handle.flush(SOON).unwrap_err().kind(), ErrorKind::ShutDown);
    assert!(handle.shutdown(SOON).unwrap().is_complete());
    let error = provider.shutdown().unwrap_err();
    let OTelSdkError::InternalFailure(text) = error else {
        panic!("{error:?}");
    };
    assert!(text.contains("AlreadyShutdown"), "{text}");
    assert_eq!(child.shutdowns(), 1);
}

#[test]
fn spans_that_are_recorded_but_not_sampled_stay() {
    #[derive(Clone, Debug)]
    struct RecordOnly;
    impl ShouldSample for RecordOnly {
        fn should_sample(
            &self,
            _parent: Option<&opentelemetry::Context>,
            _trace_id: opentelemetry::TraceId,
            _name: &str,
            _kind: &opentelemetry::trace::SpanKind,
            _attributes: &[KeyValue],
            _links: &[opentelemetry::trace::Link],
        ) -> SamplingResult {
            SamplingResult {
                decision: SamplingDecision::RecordOnly,
                attributes: Vec::new(),
                trace_state: Default::default(),
            }
        }
    }
    let child = ScriptedExporter::new();
    let processor = SimpleProcessor::new(child.exporter());
    let handle = processor.handle();
    let provider = SdkTracerProvider::builder()
        .with_sampler(RecordOnly)
        .with_span_processor(processor)
        .build();
    make_spans(&provider, 2);
    assert_eq!(handle.account().received, 0);
    assert!(child.calls().is_empty());
}

#[test]
fn two_processors_share_one_exporter_and_neither_closes_it_for_the_other() {
    let child = ScriptedExporter::new();
    let shared = child.exporter();
    let (first, _) = provide(SimpleProcessor::new(shared.clone()));
    let (second, _) = provide(SimpleProcessor::new(shared));
    first.shutdown().unwrap();
    make_spans(&second, 1);
    second.shutdown().unwrap();
    assert_eq!(child.received().len(), 1);
    assert_eq!(child.shutdowns(), 1);
}

#[test]
fn flush_waits_for_spans_on_their_way() {
    let child = ScriptedExporter::new();
    let gate = outspan_testkit::Gate::new();
    child.script([Act::when(&gate, Act::Deliver)]);
    let (provider, handle) = provide(SimpleProcessor::new(child.exporter()));
    thread::scope(|scope| {
        scope.spawn(|| make_spans(&provider, 1));
        futures_executor::block_on(child.wait_for_exports(1));
        let drained = handle.flush(SHORT);
        assert_eq!(drained.unwrap_err().kind(), ErrorKind::Timeout);
        gate.open();
        let drained = handle.flush(SOON).unwrap();
        assert!(drained.is_complete());
    });
    assert_eq!(handle.account().delivered, 1);
}

#[test]
fn what_a_queue_inside_makes_of_spans_is_counted_once() {
    let child = ScriptedExporter::new();
    child.script([Act::Deliver, Act::Deliver, Act::refused()]);
    let (provider, handle) = provide(SimpleProcessor::new(child.exporter().queued().unwrap()));
    make_spans(&provider, 2);
    let drained = handle.flush(SOON).unwrap();
    assert!(drained.is_complete(), "{drained:?}");
    make_spans(&provider, 1);
    let drained = handle.flush(SOON).unwrap();
    assert_eq!(drained.delivered, 0);
    assert_eq!(drained.refused + drained.lost.total(), 1);
    let account = handle.account();
    assert!(account.closes(), "{account}");
    assert_eq!(account.delivered, 2);
    assert_eq!(account.refused + account.dropped.total(), 1);
    provider.shutdown().unwrap();
}
