//! OpenTelemetry metrics about the processors, read by the SDK.
#![cfg(all(feature = "sdk", feature = "metrics"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use opentelemetry::metrics::Meter;
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::Span as _;
use opentelemetry::trace::SpanId;
use opentelemetry::trace::TraceId;
use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::IdGenerator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use outspan::Retry;
use outspan::sdk::BatchProcessor;
use outspan::sdk::SimpleProcessor;
use outspan_testkit::Act;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;

mod otel_metrics;

use otel_metrics::Component;
use otel_metrics::Metrics;

const SOON: Duration = Duration::from_secs(30);

fn batching() -> Metrics {
    Metrics::of(Component {
        component_type: "batching_span_processor",
        is_name: |name| is_numbered(name, "batching_span_processor/"),
    })
}

fn simple() -> Metrics {
    Metrics::of(Component {
        component_type: "simple_span_processor",
        is_name: |name| is_numbered(name, "simple_span_processor/"),
    })
}

fn is_numbered(name: &str, before: &str) -> bool {
    let number = name.strip_prefix(before);
    number.is_some_and(|number| number.parse::<u16>().is_ok())
}

fn meter(metrics: &Metrics) -> Meter {
    metrics.provider.meter("outspan")
}

fn end_spans(provider: &SdkTracerProvider, count: usize) {
    let tracer = provider.tracer("test");
    for _ in 0..count {
        tracer.start("work").end();
    }
}

fn processed(labels: &str, spans: f64) -> (String, f64) {
    let name = "otel.sdk.processor.span.processed";
    (format!("{name} {{span}} {labels}"), spans)
}

fn queue(what: &str, spans: f64) -> (String, f64) {
    let name = format!("otel.sdk.processor.span.queue.{what}");
    (format!("{name} {{span}} "), spans)
}

#[test]
fn spans_are_processed_when_they_are_handed_over_whatever_the_exporter_makes_of_them() {
    let metrics = batching();
    let child = ScriptedExporter::new();
    let retry = Retry::default().initial_interval(Duration::from_millis(5));
    let processor = BatchProcessor::builder(child.exporter())
        .retry(retry)
        .max_batch_spans(10)
        .delay(SOON)
        .meter(&meter(&metrics))
        .build()
        .unwrap();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();
    let gate = Gate::new();
    child.script([Act::when(&gate, Act::Deliver)]);
    end_spans(&provider, 10);
    // What is on its way is processed already.
    while child.in_progress() == 0 {
        thread::yield_now();
    }
    let expected = [processed("", 10.0), queue("size", 0.0)];
    assert_eq!(metrics.read(), BTreeMap::from(expected));
    gate.open();

    child.script([Act::unavailable(), Act::Refuse(2), Act::refused()]);
    end_spans(&provider, 7);
    provider.force_flush().unwrap_err();
    end_spans(&provider, 3);
    provider.force_flush().unwrap_err();
    let expected = [processed("", 20.0), queue("size", 0.0)];
    assert_eq!(metrics.read(), BTreeMap::from(expected));
    provider.shutdown().unwrap();
}

#[test]
fn spans_that_are_dropped_before_have_the_reason_with_them() {
    let metrics = batching();
    let child = ScriptedExporter::new();
    child.always(Act::Hang);
    let processor = BatchProcessor::builder(child.exporter())
        .max_batch_spans(4)
        .queue_spans(10)
        .concurrent_exports(1)
        .delay(Duration::from_millis(1))
        .meter(&meter(&metrics))
        .build()
        .unwrap();
    let handle = processor.handle();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();
    end_spans(&provider, 4);
    while child.in_progress() == 0 {
        thread::yield_now();
    }
    let in_flight = handle.account().in_flight as f64;
    end_spans(&provider, 6 + 5);
    let expected = [
        queue("size", 10.0 - in_flight),
        queue("capacity", 10.0),
        processed("", in_flight),
        processed("error.type=queue_full", 5.0),
    ];
    until_read(&metrics, expected);

    drop(handle.shutdown(Duration::from_millis(20)).unwrap());
    end_spans(&provider, 3);
    drop(provider);
    drop(handle);
    until_read(
        &metrics,
        [
            processed("", in_flight),
            processed("error.type=queue_full", 5.0),
            processed("error.type=shutdown", 10.0 - in_flight),
            processed("error.type=already_shutdown", 3.0),
        ],
    );
}

#[test]
fn spans_without_ids_are_dropped_before_and_nothing_is_read_of_a_queue_that_is_gone() {
    #[derive(Debug)]
    struct NoIds;
    impl IdGenerator for NoIds {
        fn new_trace_id(&self) -> TraceId {
            TraceId::INVALID
        }

        fn new_span_id(&self) -> SpanId {
            SpanId::INVALID
        }
    }

    let metrics = batching();
    let child = ScriptedExporter::new();
    let processor = BatchProcessor::builder(child.exporter())
        .meter(&meter(&metrics))
        .build()
        .unwrap();
    let provider = SdkTracerProvider::builder()
        .with_id_generator(NoIds)
        .with_span_processor(processor)
        .build();
    end_spans(&provider, 2);
    let dropped = processed("error.type=encode", 2.0);
    until_read(&metrics, [dropped.clone(), queue("size", 0.0)]);
    drop(provider);
    until_read(&metrics, [dropped]);
}

/// Reads until the library's thread has told what it hears of later.
fn until_read<const N: usize>(metrics: &Metrics, expected: [(String, f64); N]) {
    let began = Instant::now();
    let expected = BTreeMap::from(expected);
    loop {
        let read = metrics.read();
        if read == expected {
            return;
        }
        assert!(began.elapsed() < SOON, "{read:#?}\n{expected:#?}");
    }
}

#[test]
fn the_simple_processor_has_handed_a_span_over_when_its_end_returns() {
    let metrics = simple();
    let child = ScriptedExporter::new();
    let processor = SimpleProcessor::new(child.exporter()).meter(&meter(&metrics));
    let handle = processor.handle();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();
    child.script([Act::Deliver, Act::refused(), Act::unavailable()]);
    end_spans(&provider, 3);
    let expected = [processed("", 3.0)];
    assert_eq!(metrics.read(), BTreeMap::from(expected));
    drop(handle.shutdown(SOON).unwrap());
    end_spans(&provider, 2);
    let expected = [
        processed("", 3.0),
        processed("error.type=already_shutdown", 2.0),
    ];
    assert_eq!(metrics.read(), BTreeMap::from(expected));
}

#[test]
fn each_span_of_many_threads_is_processed_once_though_time_is_over_before_some_turns() {
    let metrics = simple();
    let child = ScriptedExporter::new();
    child.always(Act::Hang);
    let processor = SimpleProcessor::new(child.exporter())
        .limit(Duration::from_millis(30))
        .meter(&meter(&metrics));
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| end_spans(&provider, 1));
        }
    });
    let read = metrics.read();
    assert_eq!(read.values().sum::<f64>(), 8.0, "{read:#?}");
    let handed_over = child.exports().len() as f64;
    assert_eq!(read[&processed("", 0.0).0], handed_over);
}
