//! The batch processor under a provider of the SDK: what a program sees of it.
#![cfg(feature = "sdk")]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use opentelemetry::Context;
use opentelemetry::KeyValue;
use opentelemetry::trace::Link;
use opentelemetry::trace::Span as _;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::TraceContextExt;
use opentelemetry::trace::TraceId;
use opentelemetry::trace::TraceState;
use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::SamplingDecision;
use opentelemetry_sdk::trace::SamplingResult;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::ShouldSample;
use outspan::DropReason;
use outspan::Exporter;
use outspan::Retry;
use outspan::sdk::BatchProcessor;
use outspan::sdk::BatchProcessorBuilder;
use outspan::sdk::ProcessorHandle;
use outspan::sdk::WhenFull;
use outspan_testkit::Act;
use outspan_testkit::DrainAct;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A provider with one batch processor in front of a scripted destination.
struct Rig {
    script: ScriptedExporter,
    provider: SdkTracerProvider,
    handle: ProcessorHandle,
}

impl Rig {
    fn new() -> Self {
        Self::with(|builder| builder)
    }

    fn with(set: impl FnOnce(BatchProcessorBuilder) -> BatchProcessorBuilder) -> Self {
        let script = ScriptedExporter::new();
        let exporter = script.exporter();
        Self::around(script, exporter, set)
    }

    /// A processor whose batches go to `exporter`, and end in `script`.
    fn around(
        script: ScriptedExporter,
        exporter: Exporter,
        set: impl FnOnce(BatchProcessorBuilder) -> BatchProcessorBuilder,
    ) -> Self {
        let builder = BatchProcessor::builder(exporter).retry(quick());
        let processor = set(builder).build().expect("the settings are valid");
        let handle = processor.handle();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .build();
        Self {
            script,
            provider,
            handle,
        }
    }

    fn end_spans(&self, count: usize) {
        let tracer = self.provider.tracer("test");
        for _ in 0..count {
            tracer.start("work").end();
        }
    }

    fn closed_account(&self) -> outspan::Account {
        let account = self.handle.account();
        assert!(account.closes(), "{account}");
        account
    }
}

fn quick() -> Retry {
    Retry::default()
        .initial_interval(Duration::from_millis(5))
        .max_interval(Duration::from_millis(20))
}

/// Waits for something that another thread does.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what} did not happen");
        thread::yield_now();
    }
}

fn delivers_everything() {
    let rig = Rig::new();
    rig.end_spans(1000);
    rig.provider.force_flush().expect("everything is delivered");
    assert_eq!(rig.script.received().len(), 1000);
    rig.end_spans(10);
    rig.provider.shutdown().expect("everything is delivered");
    let account = rig.closed_account();
    assert_eq!(account.delivered, 1010);
    assert_eq!(account.open(), 0);
    let distinct: HashSet<_> = rig.script.received().into_iter().collect();
    assert_eq!(distinct.len(), 1010);
}

#[test]
fn works_in_no_runtime() {
    delivers_everything();
}

#[tokio::test(flavor = "current_thread")]
async fn works_in_a_current_thread_runtime() {
    delivers_everything();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn works_on_the_only_worker_of_a_multi_thread_runtime() {
    tokio::spawn(async { delivers_everything() }).await.unwrap();
}

#[test]
fn a_batch_leaves_when_it_is_complete_and_not_before() {
    let rig = Rig::with(|builder| {
        builder
            .max_batch_spans(100)
            .delay(Duration::from_secs(3600))
    });
    rig.end_spans(99);
    thread::yield_now();
    assert!(rig.script.exports().is_empty());
    assert_eq!(rig.closed_account().queued, 99);
    rig.end_spans(1);
    eventually("the export", || rig.script.received().len() == 100);
    assert_eq!(rig.script.exports().len(), 1);
}

#[test]
fn an_incomplete_batch_leaves_after_the_delay() {
    let rig = Rig::with(|builder| builder.delay(Duration::from_millis(20)));
    rig.end_spans(3);
    eventually("the export", || rig.script.received().len() == 3);
}

#[test]
fn batches_are_bounded_in_spans_and_in_bytes() {
    let rig = Rig::with(|builder| builder.max_batch_spans(30).max_batch_bytes(1000));
    rig.end_spans(500);
    rig.provider.force_flush().unwrap();
    let largest = rig
        .script
        .exports()
        .iter()
        .map(|call| call.span_ids().len())
        .max();
    assert!(largest.is_some_and(|spans| spans <= 30), "{largest:?}");
    let tracer = rig.provider.tracer("test");
    for _ in 0..20 {
        let text = "x".repeat(600);
        tracer
            .span_builder("large")
            .with_attributes([KeyValue::new("text", text)])
            .start(&tracer)
            .end();
    }
    rig.provider.shutdown().unwrap();
    let spans: usize = rig
        .script
        .exports()
        .iter()
        .map(|call| call.span_ids().len())
        .sum();
    assert_eq!(spans, 520);
    let few = rig
        .script
        .exports()
        .iter()
        .rev()
        .take(5)
        .all(|call| call.span_ids().len() <= 2);
    assert!(few, "large spans make batches of few");
}

/// Records every span and samples none.
#[derive(Clone, Debug)]
struct RecordOnly;

impl ShouldSample for RecordOnly {
    fn should_sample(
        &self,
        _parent: Option<&Context>,
        _trace_id: TraceId,
        _name: &str,
        _kind: &SpanKind,
        _attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        SamplingResult {
            decision: SamplingDecision::RecordOnly,
            attributes: Vec::new(),
            trace_state: TraceState::default(),
        }
    }
}

#[test]
fn spans_that_are_recorded_but_not_sampled_are_not_exported() {
    let script = ScriptedExporter::new();
    let processor = BatchProcessor::new(script.exporter());
    let handle = processor.handle();
    let provider = SdkTracerProvider::builder()
        .with_sampler(RecordOnly)
        .with_span_processor(processor)
        .build();
    let mut span = provider.tracer("test").start("seen by nobody");
    assert!(span.is_recording());
    span.end();
    provider.shutdown().unwrap();
    assert!(script.received().is_empty());
    assert_eq!(handle.account().received, 0);
}

#[test]
fn survives_a_panic_of_the_exporter_and_counts_its_spans() {
    let rig = Rig::new();
    rig.script.script([Act::Panic]);
    rig.end_spans(3);
    let error = rig.provider.force_flush().unwrap_err().to_string();
    assert!(error.contains("lost 3 (3 failed)"), "{error}");
    rig.end_spans(4);
    rig.provider.shutdown().unwrap();
    let account = rig.closed_account();
    assert_eq!(account.dropped.of(DropReason::Failed), 3);
    assert_eq!(account.delivered, 4);
}

#[test]
fn survives_panics_in_flush_and_shutdown_of_the_exporter() {
    let rig = Rig::new();
    rig.script.script_flushes([DrainAct::Panic]);
    rig.script.script_shutdowns([DrainAct::Panic]);
    rig.end_spans(1);
    rig.provider.force_flush().unwrap_err();
    rig.end_spans(1);
    rig.provider.shutdown().unwrap_err();
    assert_eq!(rig.closed_account().delivered, 2);
}

#[test]
fn a_flush_or_shutdown_of_the_exporter_that_hangs_ends_in_time() {
    let rig = Rig::new();
    rig.script.script_flushes([DrainAct::Hang]);
    rig.script.script_shutdowns([DrainAct::Hang]);
    rig.end_spans(1);
    let began = Instant::now();
    let time = Duration::from_millis(200);
    let error = rig.handle.flush(time).unwrap_err();
    assert_eq!(error.kind(), outspan::ErrorKind::Timeout);
    let error = rig.handle.shutdown(time).unwrap_err();
    assert_eq!(error.kind(), outspan::ErrorKind::Timeout);
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(rig.closed_account().delivered, 1);
}

#[test]
fn what_the_exporter_holds_or_loses_itself_is_told() {
    let rig = Rig::new();
    let mut inside = outspan::Drained::default();
    inside.delivered = 10;
    inside.left = 3;
    inside.lost.add(DropReason::Expired, 2);
    rig.script.script_flushes([DrainAct::Done(inside)]);
    rig.end_spans(10);
    let drained = rig.handle.flush(PATIENCE).unwrap();
    assert_eq!((drained.delivered, drained.left), (5, 3));
    assert_eq!(drained.lost.of(DropReason::Expired), 2);
    rig.provider.shutdown().unwrap();
    let account = rig.closed_account();
    assert_eq!(account.delivered, 8);
    assert_eq!(account.dropped.of(DropReason::Expired), 2);
}

#[test]
fn spans_that_a_queue_inside_loses_are_counted_once() {
    let script = ScriptedExporter::new();
    script.always(Act::refused());
    let exporter = script.exporter().queued().unwrap();
    let rig = Rig::around(script, exporter, |builder| builder);
    rig.end_spans(20);
    let drained = rig.handle.flush(PATIENCE).unwrap();
    assert_eq!((drained.delivered, drained.left), (0, 0));
    assert_eq!(drained.refused + drained.lost.total(), 20);
    rig.provider.shutdown().unwrap();
    let account = rig.closed_account();
    assert_eq!(account.delivered, 0);
    assert_eq!(account.refused + account.dropped.total(), 20);
}

#[test]
fn an_exporter_that_hangs_is_given_up_and_its_spans_are_sent_again() {
    let rig = Rig::with(|builder| builder.attempt_timeout(Duration::from_millis(30)));
    rig.script.script([Act::Hang, Act::Hang]);
    rig.end_spans(3);
    rig.provider.shutdown().unwrap();
    assert_eq!(rig.closed_account().delivered, 3);
    assert_eq!(rig.script.exports().len(), 3);
}

#[test]
fn a_destination_that_is_down_for_a_while_loses_nothing() {
    let rig = Rig::new();
    rig.script.script((0..20).map(|_| Act::unavailable()));
    rig.end_spans(2000);
    rig.provider.force_flush().unwrap();
    assert_eq!(rig.closed_account().delivered, 2000);
}

#[test]
fn a_burst_is_delivered_with_the_default_settings_and_within_the_bound() {
    let script = ScriptedExporter::new();
    script.always(Act::after(Duration::from_millis(1), Act::Deliver));
    let processor = BatchProcessor::new(script.exporter());
    let handle = processor.handle();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let tracer = provider.tracer("burst");
                for number in 0..25_000 {
                    let attributes = (0..8).map(|key| KeyValue::new("key", number * key));
                    tracer
                        .span_builder("burst")
                        .with_attributes(attributes)
                        .start(&tracer)
                        .end();
                }
            });
        }
    });
    provider.shutdown_with_timeout(PATIENCE).unwrap();
    let account = handle.account();
    assert!(account.closes(), "{account}");
    assert_eq!(account.delivered, 100_000);
    assert!(script.in_progress_most() <= 4 + 1);
}

#[test]
fn a_shutdown_that_loses_spans_says_how_many_and_why() {
    let rig = Rig::new();
    rig.script.always(Act::refused());
    rig.end_spans(5);
    let error = rig.provider.shutdown().unwrap_err().to_string();
    assert!(error.contains("refused 5"), "{error}");

    let rig = Rig::with(|builder| builder.retry(quick().max_retries(1)));
    rig.script.always(Act::unavailable());
    rig.end_spans(6);
    let error = rig.provider.shutdown().unwrap_err().to_string();
    assert!(error.contains("lost 6 (6 failed)"), "{error}");
}

#[test]
fn a_flush_tells_only_of_its_own_losses() {
    let rig = Rig::new();
    rig.script.script([Act::refused()]);
    rig.end_spans(5);
    let error = rig.provider.force_flush().unwrap_err().to_string();
    assert!(error.contains("refused 5"), "{error}");
    rig.end_spans(5);
    rig.provider.force_flush().unwrap();
    rig.provider.shutdown().unwrap();
}

#[test]
fn a_shutdown_out_of_time_says_so_and_counts_what_is_left() {
    let rig = Rig::new();
    rig.script.always(Act::Hang);
    rig.end_spans(7);
    let processor = BatchProcessor::new(rig.script.exporter());
    drop(processor);

    let began = Instant::now();
    let drained = rig.handle.shutdown(Duration::from_millis(100)).unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(drained.lost.of(DropReason::Shutdown), 7);
    assert_eq!(rig.closed_account().open(), 0);
}

#[test]
fn the_sdk_hears_of_time_that_ran_out_and_of_a_second_shutdown() {
    use opentelemetry_sdk::trace::SpanProcessor;

    let script = ScriptedExporter::new();
    script.always(Act::Hang);
    let processor = BatchProcessor::builder(script.exporter())
        .flush_timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    processor.on_end(span_data());
    let flush = processor.force_flush();
    assert!(matches!(flush, Err(OTelSdkError::Timeout(_))), "{flush:?}");
    assert_eq!(
        processor.handle().account().open(),
        1,
        "a flush loses nothing"
    );
    let first = processor.shutdown_with_timeout(Duration::from_millis(50));
    assert!(matches!(first, Err(OTelSdkError::Timeout(_))), "{first:?}");
    let second = processor.shutdown_with_timeout(Duration::from_millis(50));
    assert!(
        matches!(second, Err(OTelSdkError::AlreadyShutdown)),
        "{second:?}"
    );
    let flush = processor.force_flush();
    assert!(
        matches!(flush, Err(OTelSdkError::AlreadyShutdown)),
        "{flush:?}"
    );
    assert_eq!(
        processor
            .handle()
            .account()
            .dropped
            .of(DropReason::Shutdown),
        1
    );
}

/// A span as the SDK makes it.
fn span_data() -> opentelemetry_sdk::trace::SpanData {
    use opentelemetry_sdk::trace::SpanProcessor;

    #[derive(Clone, Debug, Default)]
    struct Keep(Arc<Mutex<Vec<opentelemetry_sdk::trace::SpanData>>>);
    impl SpanProcessor for Keep {
        fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}
        fn on_end(&self, span: opentelemetry_sdk::trace::SpanData) {
            self.0.lock().expect("no test panics with it").push(span);
        }
        fn force_flush(&self) -> opentelemetry_sdk::error::OTelSdkResult {
            Ok(())
        }
        fn shutdown_with_timeout(&self, _: Duration) -> opentelemetry_sdk::error::OTelSdkResult {
            Ok(())
        }
    }
    let keep = Keep::default();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(keep.clone())
        .build();
    provider.tracer("test").start("kept").end();
    let span = keep.0.lock().expect("no test panics with it").pop();
    span.expect("one span ended")
}

#[test]
fn a_span_without_ids_is_counted_and_not_sent() {
    use opentelemetry_sdk::trace::SpanProcessor;

    let script = ScriptedExporter::new();
    let processor = BatchProcessor::new(script.exporter());
    let mut span = span_data();
    span.span_context = opentelemetry::trace::SpanContext::new(
        TraceId::INVALID,
        opentelemetry::trace::SpanId::INVALID,
        opentelemetry::trace::TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    processor.on_end(span);
    processor.on_end(span_data());
    processor.force_flush().unwrap();
    assert_eq!(
        processor.handle().account().dropped.of(DropReason::Encode),
        1
    );
    assert_eq!(script.received().len(), 1);
}

#[test]
fn spans_that_end_after_the_shutdown_are_counted() {
    let rig = Rig::new();
    let mut late = rig.provider.tracer("test").start("late");
    // A provider that was shut down itself would not tell the processor any more.
    drop(rig.handle.shutdown(PATIENCE).unwrap());
    late.end();
    let account = rig.closed_account();
    assert_eq!(account.dropped.of(DropReason::Shutdown), 1);
}

#[test]
fn a_span_that_ends_while_the_processor_shuts_down_is_delivered_or_counted() {
    use opentelemetry_sdk::trace::SpanProcessor;

    for _ in 0..20 {
        let arrived = Arc::new(AtomicU64::new(0));
        let processor = BatchProcessor::builder(Exporter::new(Count(Arc::clone(&arrived))))
            .max_batch_spans(16)
            .queue_spans(1000)
            .build()
            .unwrap();
        let ended = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let span = span_data();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        processor.on_end(span.clone());
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            eventually("some spans", || arrived.load(Ordering::Relaxed) > 100);
            // Spans that come too late are lost during the shutdown, which it may say.
            drop(processor.shutdown_with_timeout(PATIENCE));
            stop.store(true, Ordering::Relaxed);
        });
        let account = processor.handle().account();
        assert!(account.closes(), "{account}");
        assert_eq!(account.received, ended.into_inner());
        assert_eq!(account.open(), 0);
        assert_eq!(account.delivered, arrived.load(Ordering::Relaxed));
        let late = account.dropped.of(DropReason::Shutdown);
        let full = account.dropped.of(DropReason::QueueFull);
        assert_eq!(account.delivered + late + full, account.received);
    }
}

/// Counts what arrives.
#[derive(Debug)]
struct Count(Arc<AtomicU64>);

impl outspan::Export for Count {
    async fn export(
        &self,
        batch: outspan::Batch,
        _: outspan::Deadline,
    ) -> outspan::Result<outspan::Delivery> {
        self.0
            .fetch_add(batch.iter().count() as u64, Ordering::Relaxed);
        Ok(outspan::Delivery::of(&batch))
    }

    async fn flush(&self, _: outspan::Deadline) -> outspan::Result<outspan::Drained> {
        Ok(outspan::Drained::default())
    }

    async fn shutdown(&self, _: outspan::Deadline) -> outspan::Result<outspan::Drained> {
        Ok(outspan::Drained::default())
    }
}

#[test]
fn flushes_from_many_threads_at_once_deliver_everything() {
    let rig = Rig::new();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    rig.end_spans(5);
                    rig.provider.force_flush().unwrap();
                }
            });
        }
    });
    assert_eq!(rig.script.received().len(), 800);
    rig.provider.shutdown().unwrap();
}

#[test]
fn two_providers_share_an_exporter_and_neither_closes_it_for_the_other() {
    let script = ScriptedExporter::new();
    let exporter = script.exporter();
    let provider = |exporter: Exporter| {
        SdkTracerProvider::builder()
            .with_span_processor(BatchProcessor::new(exporter))
            .build()
    };
    let one = provider(exporter.clone());
    let other = provider(exporter);
    one.tracer("one").start("one").end();
    one.shutdown().unwrap();
    assert_eq!(script.shutdowns(), 0);
    other.tracer("other").start("other").end();
    other.shutdown().unwrap();
    assert_eq!(script.received().len(), 2);
    assert_eq!(script.shutdowns(), 1);
}

#[test]
fn dropping_the_provider_delivers_what_is_held() {
    let rig = Rig::new();
    rig.end_spans(9);
    let Rig {
        script,
        provider,
        handle,
    } = rig;
    drop(provider);
    assert_eq!(script.received().len(), 9);
    assert_eq!(script.shutdowns(), 1);
    assert_eq!(handle.account().delivered, 9);
}

#[test]
fn dropping_a_processor_without_a_provider_delivers_what_is_held() {
    use opentelemetry_sdk::trace::SpanProcessor;

    let script = ScriptedExporter::new();
    let processor = BatchProcessor::new(script.exporter());
    processor.on_end(span_data());
    drop(processor);
    assert_eq!(script.received().len(), 1);
    assert_eq!(script.shutdowns(), 1);
}

#[test]
fn a_full_queue_drops_what_comes_and_counts_it() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let gate = Gate::new();
    let rig = {
        let seen = Arc::clone(&seen);
        Rig::with(move |builder| {
            builder.queue_spans(100).on_drop(move |event| {
                seen.lock().unwrap().push((event.reason, event.spans));
            })
        })
    };
    rig.script.always(Act::when(&gate, Act::Deliver));
    rig.end_spans(250);
    let account = rig.closed_account();
    assert_eq!(account.open(), 100);
    assert_eq!(account.dropped.of(DropReason::QueueFull), 150);
    gate.open();
    rig.provider.force_flush().ok();
    rig.end_spans(50);
    rig.provider.shutdown().unwrap();
    assert_eq!(rig.closed_account().delivered, 150);
    let told: u64 = seen.lock().unwrap().iter().map(|(_, spans)| spans).sum();
    assert_eq!(told, 150);
}

#[test]
fn the_bound_in_bytes_holds() {
    let rig = Rig::with(|builder| builder.queue_bytes(1 << 20));
    let gate = Gate::new();
    rig.script.always(Act::when(&gate, Act::Deliver));
    let tracer = rig.provider.tracer("test");
    for _ in 0..3000 {
        let attributes = [KeyValue::new("text", "x".repeat(1000))];
        tracer
            .span_builder("large")
            .with_attributes(attributes)
            .start(&tracer)
            .end();
    }
    let account = rig.closed_account();
    assert!(
        account.dropped.of(DropReason::QueueFull) > 1500,
        "{account}"
    );
    // Each of them has more than 1000 bytes in any form.
    assert!(account.open() < 1048, "{account}");
    assert!(account.open() > 400, "the room is used: {account}");
    gate.open();
    rig.provider.shutdown().ok();
    let account = rig.closed_account();
    assert_eq!(account.delivered + account.dropped.total(), 3000);
}

#[test]
fn a_program_that_chose_to_wait_loses_nothing() {
    let rig = Rig::with(|builder| {
        builder
            .queue_spans(64)
            .max_batch_spans(8)
            .when_full(WhenFull::Wait(PATIENCE))
    });
    rig.script
        .always(Act::after(Duration::from_millis(1), Act::Deliver));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| rig.end_spans(500));
        }
    });
    rig.provider.shutdown().unwrap();
    assert_eq!(rig.closed_account().delivered, 2000);
}

#[test]
fn a_program_that_waits_gives_up_in_time() {
    let rig = Rig::with(|builder| {
        builder
            .queue_spans(10)
            .when_full(WhenFull::Wait(Duration::from_millis(1)))
    });
    rig.script.always(Act::Hang);
    rig.end_spans(15);
    let account = rig.closed_account();
    assert_eq!(account.dropped.of(DropReason::QueueFull), 5);
    drop(rig.handle.shutdown(Duration::from_millis(10)).unwrap());
}

#[test]
fn a_hook_that_panics_or_calls_back_does_no_harm() {
    let handle: Arc<Mutex<Option<ProcessorHandle>>> = Arc::default();
    let answer = Arc::new(Mutex::new(None));
    let rig = {
        let handle = Arc::clone(&handle);
        let answer = Arc::clone(&answer);
        Rig::with(move |builder| {
            builder.retry(quick().max_retries(0)).on_drop(move |_| {
                let handle = handle.lock().unwrap().clone();
                let flushed = handle.map(|handle| handle.flush(PATIENCE));
                *answer.lock().unwrap() = flushed;
                panic!("a hook of a careless user");
            })
        })
    };
    *handle.lock().unwrap() = Some(rig.handle.clone());
    rig.script.script([Act::unavailable()]);
    rig.end_spans(2);
    rig.provider.force_flush().unwrap_err();
    let answer = answer.lock().unwrap().take();
    let error = answer.expect("the hook was called").unwrap_err();
    assert_eq!(error.kind(), outspan::ErrorKind::Internal);
    rig.end_spans(2);
    rig.provider.shutdown().unwrap();
    assert_eq!(rig.closed_account().delivered, 2);
}

#[test]
fn bounds_of_nothing_are_found_when_building() {
    let builder = || BatchProcessor::builder(ScriptedExporter::new().exporter());
    for wrong in [
        builder().max_batch_spans(0),
        builder().max_batch_bytes(0),
        builder().queue_bytes(0),
        builder().queue_spans(0),
        builder().concurrent_exports(0),
    ] {
        let error = wrong.build().unwrap_err();
        assert_eq!(error.kind(), outspan::ErrorKind::Config);
    }
}

#[test]
fn the_resource_of_the_provider_is_sent() {
    let collected: Arc<Mutex<Vec<outspan::Batch>>> = Arc::default();
    let processor = BatchProcessor::new(Exporter::new(Collect(Arc::clone(&collected))));
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder_empty().with_service_name("shop").build())
        .with_span_processor(processor)
        .build();
    let tracer = provider.tracer("checkout");
    let parent = Context::new().with_remote_span_context(opentelemetry::trace::SpanContext::new(
        TraceId::from(1),
        opentelemetry::trace::SpanId::from(2),
        opentelemetry::trace::TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    ));
    tracer.start_with_context("pay", &parent).end();
    provider.shutdown().unwrap();
    let batches = collected.lock().unwrap();
    let request = outspan_testkit::decode(&batches[0]);
    let resource_spans = &request.resource_spans[0];
    let attributes = &resource_spans.resource.as_ref().unwrap().attributes;
    assert_eq!(attributes[0].key, "service.name");
    let scope_spans = &resource_spans.scope_spans[0];
    assert_eq!(scope_spans.scope.as_ref().unwrap().name, "checkout");
    let span = &scope_spans.spans[0];
    assert_eq!(span.name, "pay");
    assert_eq!(span.flags, 0x301, "sampled, known, remote parent");
}

/// Keeps the batches.
#[derive(Debug)]
struct Collect(Arc<Mutex<Vec<outspan::Batch>>>);

impl outspan::Export for Collect {
    async fn export(
        &self,
        batch: outspan::Batch,
        _: outspan::Deadline,
    ) -> outspan::Result<outspan::Delivery> {
        self.0
            .lock()
            .expect("no test panics with it")
            .push(batch.clone());
        Ok(outspan::Delivery::of(&batch))
    }

    async fn flush(&self, _: outspan::Deadline) -> outspan::Result<outspan::Drained> {
        Ok(outspan::Drained::default())
    }

    async fn shutdown(&self, _: outspan::Deadline) -> outspan::Result<outspan::Drained> {
        Ok(outspan::Drained::default())
    }
}
