//! A batch processor that holds as much as it may: small bounds, callers that wait, exporters that end spans.
#![cfg(feature = "sdk")]

use std::sync::Arc;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanId;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::Status;
use opentelemetry::trace::TraceFlags;
use opentelemetry::trace::TraceId;
use opentelemetry::trace::TraceState;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanProcessor;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::DropReason;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::sdk::BatchProcessor;
use outspan::sdk::BatchProcessorBuilder;
use outspan::sdk::WhenFull;
use outspan_testkit::Act;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn span_data() -> SpanData {
    let now = std::time::SystemTime::now();
    SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes([7; 16]),
            SpanId::from_bytes([7; 8]),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        ),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "work".into(),
        start_time: now,
        end_time: now,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: Default::default(),
        links: Default::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::default(),
    }
}

/// A processor that exports nothing because of its delay, and whose callers wait for space.
fn waiting(script: &ScriptedExporter) -> BatchProcessorBuilder {
    BatchProcessor::builder(script.exporter())
        .delay(Duration::MAX)
        .when_full(WhenFull::Wait(PATIENCE))
}

fn check_delivered(processor: &BatchProcessor, spans: u64, began: Instant) {
    processor.shutdown_with_timeout(PATIENCE).unwrap();
    let account = processor.handle().account();
    assert!(account.closes(), "{account}");
    assert_eq!(account.delivered, spans, "{account}");
    assert!(began.elapsed() < PATIENCE, "no span waited for the delay");
}

#[test]
fn spans_below_a_batch_leave_when_their_number_is_the_bound() {
    for queue_spans in [1, 2, 10, 100] {
        let script = ScriptedExporter::new();
        let processor = waiting(&script).queue_spans(queue_spans).build().unwrap();
        let began = Instant::now();
        for _ in 0..250 {
            processor.on_end(span_data());
        }
        check_delivered(&processor, 250, began);
    }
}

#[test]
fn spans_below_a_batch_leave_when_their_bytes_are_the_bound() {
    let script = ScriptedExporter::new();
    let processor = waiting(&script).queue_bytes(16 << 10).build().unwrap();
    let began = Instant::now();
    for _ in 0..500 {
        processor.on_end(span_data());
    }
    check_delivered(&processor, 500, began);
}

#[test]
fn spans_of_many_threads_leave_when_they_are_the_bound() {
    let script = ScriptedExporter::new();
    let processor = waiting(&script).queue_spans(40).build().unwrap();
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..100).for_each(|_| processor.on_end(span_data())));
        }
    });
    check_delivered(&processor, 800, began);
}

#[test]
fn full_processor_that_drops_goes_on_before_its_delay() {
    let script = ScriptedExporter::new();
    let processor = BatchProcessor::builder(script.exporter())
        .delay(Duration::MAX)
        .queue_spans(10)
        .build()
        .unwrap();
    let began = Instant::now();
    while processor.handle().account().delivered < 100 {
        assert!(began.elapsed() < PATIENCE, "it stays full");
        processor.on_end(span_data());
        thread::yield_now();
    }
    drop(processor.shutdown_with_timeout(PATIENCE));
    let account = processor.handle().account();
    assert!(account.closes(), "{account}");
}

#[test]
fn full_processor_makes_no_small_batches_while_others_wait() {
    let script = ScriptedExporter::new();
    let gate = Gate::new();
    script.always(Act::when(&gate, Act::Deliver));
    let processor = BatchProcessor::builder(script.exporter())
        .delay(Duration::MAX)
        .max_batch_spans(100)
        .queue_spans(150)
        .concurrent_exports(1)
        .build()
        .unwrap();
    let handle = processor.handle();
    for _ in 0..2000 {
        processor.on_end(span_data());
    }
    let began = Instant::now();
    while script.in_progress() == 0 {
        assert!(began.elapsed() < PATIENCE, "no batch is sent");
        thread::yield_now();
    }
    gate.open();
    drop(processor.shutdown_with_timeout(PATIENCE));
    assert!(script.exports().len() <= 3, "{}", script.exports().len());
    assert!(handle.account().closes());
}

/// Ends spans of its own processor while it exports.
#[derive(Debug, Default)]
struct EndsSpans {
    processor: Arc<OnceLock<BatchProcessor>>,
}

impl Export for EndsSpans {
    async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
        if let Some(processor) = self.processor.get() {
            for _ in 0..5 {
                processor.on_end(span_data());
            }
        }
        Ok(Delivery::of(&batch))
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

#[test]
fn exporter_that_ends_spans_does_not_wait_for_itself() {
    let exporter = EndsSpans::default();
    let place = Arc::clone(&exporter.processor);
    let processor = BatchProcessor::builder(Exporter::new(exporter))
        .queue_spans(2)
        .when_full(WhenFull::Wait(Duration::MAX))
        .build()
        .unwrap();
    let handle = processor.handle();
    place.set(processor).unwrap();
    place.get().unwrap().on_end(span_data());
    let drained = handle.flush(PATIENCE).unwrap();
    assert!(drained.delivered >= 1, "{drained}");
    let account = handle.account();
    assert!(account.closes(), "{account}");
    assert!(account.dropped.of(DropReason::QueueFull) > 0, "{account}");
    drop(handle.shutdown(PATIENCE));
}

#[test]
fn time_limits_of_nothing_are_found_when_building() {
    let builder = || BatchProcessor::builder(ScriptedExporter::new().exporter());
    for wrong in [
        builder().attempt_timeout(Duration::ZERO),
        builder().export_limit(Duration::ZERO),
    ] {
        let error = wrong.build().unwrap_err();
        assert_eq!(error.kind(), outspan::ErrorKind::Config);
    }
}

#[test]
fn largest_settings_are_valid() {
    let script = ScriptedExporter::new();
    let processor = BatchProcessor::builder(script.exporter())
        .max_batch_spans(usize::MAX)
        .max_batch_bytes(usize::MAX)
        .queue_bytes(usize::MAX)
        .queue_spans(usize::MAX)
        .concurrent_exports(usize::MAX)
        .delay(Duration::MAX)
        .attempt_timeout(Duration::MAX)
        .export_limit(Duration::MAX)
        .flush_timeout(Duration::MAX)
        .build()
        .unwrap();
    for _ in 0..3 {
        processor.on_end(span_data());
    }
    processor.force_flush().unwrap();
    processor.on_end(span_data());
    processor.shutdown_with_timeout(Duration::MAX).unwrap();
    assert_eq!(processor.handle().account().delivered, 4);
}
