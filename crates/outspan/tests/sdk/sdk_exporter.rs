//! Our exporters under the SDK's own processors.

#![cfg(all(feature = "sdk", feature = "grpc", feature = "http"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::time::Duration;
use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::trace::Span;
use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::BatchConfigBuilder;
use opentelemetry_sdk::trace::BatchSpanProcessor;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanExporter;
use opentelemetry_sdk::trace::SpanLinks;
use outspan::Drained;
use outspan::DropReason;
use outspan::Error;
use outspan::Exporter;
use outspan::otlp;
use outspan::sdk::SdkExporter;
use outspan_testkit::Act;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Asked;
use outspan_testkit::Collector;
use outspan_testkit::DrainAct;
use outspan_testkit::ScriptedExporter;

const SOON: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(200);

fn grpc(collector: &Collector) -> Exporter {
    otlp::grpc(collector.endpoint()).build().unwrap()
}

fn resource() -> Resource {
    let name = KeyValue::new("service.name", "shop");
    Resource::builder_empty().with_attribute(name).build()
}

/// The SDK's own batch processor: a thread without a reactor.
fn on_stock_batches(exporter: SdkExporter) -> SdkTracerProvider {
    let config = BatchConfigBuilder::default()
        .with_max_export_batch_size(64)
        .build();
    let processor = BatchSpanProcessor::builder(exporter)
        .with_batch_config(config)
        .build();
    SdkTracerProvider::builder()
        .with_resource(resource())
        .with_span_processor(processor)
        .build()
}

fn make_spans(provider: &SdkTracerProvider, spans: usize) {
    let tracer = provider.tracer("test");
    for number in 0..spans {
        let mut span = tracer.start("work");
        span.set_attribute(KeyValue::new("number", number as i64));
        span.end();
    }
}

/// Spans as the SDK gives them to exporters.
fn span_data(spans: usize) -> Vec<SpanData> {
    #[derive(Debug, Clone, Default)]
    struct Keep(std::sync::Arc<std::sync::Mutex<Vec<SpanData>>>);
    impl SpanExporter for Keep {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }
    let keep = Keep::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(keep.clone())
        .build();
    make_spans(&provider, spans);
    let kept = std::mem::take(&mut *keep.0.lock().unwrap());
    assert_eq!(kept.len(), spans);
    assert_eq!(kept[0].links, SpanLinks::default());
    kept
}

fn export(exporter: &SdkExporter, spans: usize) -> OTelSdkResult {
    futures_executor::block_on(exporter.export(span_data(spans)))
}

fn failure(result: OTelSdkResult) -> String {
    match result {
        Err(OTelSdkError::InternalFailure(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_stock_batch_processor_delivers_through_it_without_any_runtime() {
    let collector = Collector::grpc();
    let provider = on_stock_batches(SdkExporter::new(grpc(&collector)));
    make_spans(&provider, 200);
    provider.shutdown().unwrap();
    let spans = collector.wait_for_spans_blocking(200, SOON);
    assert_eq!(spans.len(), 200);
    for span in &spans {
        let resource = span.resource.as_ref().unwrap();
        assert_eq!(resource.attributes[0].key, "service.name");
        assert_eq!(span.scope.as_ref().unwrap().name, "test");
    }
    assert_eq!(collector.complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn the_stock_simple_processor_delivers_through_it_in_a_runtime_with_one_thread() {
    let collector = Collector::http();
    let exporter = otlp::http(collector.endpoint()).build().unwrap();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(SdkExporter::new(exporter))
        .build();
    make_spans(&provider, 3);
    provider.shutdown().unwrap();
    assert_eq!(collector.wait_for_spans(3, SOON).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_stock_batch_processor_delivers_through_it_in_a_runtime_with_one_worker() {
    let collector = Collector::grpc();
    let provider = on_stock_batches(SdkExporter::new(grpc(&collector)));
    make_spans(&provider, 10);
    provider.force_flush().unwrap();
    assert_eq!(collector.wait_for_spans(10, SOON).await.len(), 10);
    provider.shutdown().unwrap();
}

#[test]
fn spans_that_the_destination_refuses_are_an_error_with_its_words() {
    let collector = Collector::grpc();
    collector.script([Answer::partial(2, "too old")]);
    let exporter = SdkExporter::new(grpc(&collector));
    assert_eq!(
        failure(export(&exporter, 5)),
        "3 of 5 spans delivered, 2 refused: too old"
    );
}

#[test]
fn a_warning_without_refused_spans_is_success() {
    let collector = Collector::grpc();
    collector.script([Answer::partial(0, "please upgrade")]);
    let exporter = SdkExporter::new(grpc(&collector));
    export(&exporter, 5).unwrap();
}

#[test]
fn a_rest_is_an_error_with_its_number_and_reason() {
    let child = ScriptedExporter::new();
    child.script([Act::DeliverHalf(Error::unavailable("the line is dead"))]);
    let exporter = SdkExporter::new(child.exporter());
    assert_eq!(
        failure(export(&exporter, 4)),
        "2 of 4 spans delivered, 2 failed: the line is dead"
    );
}

#[test]
fn a_batch_that_failed_is_an_error_that_says_so() {
    let collector = Collector::http();
    collector.script([Answer::refuse(
        AnswerCode::INVALID_ARGUMENT,
        "not like this",
    )]);
    let exporter = otlp::http(collector.endpoint()).build().unwrap();
    let text = failure(export(&SdkExporter::new(exporter), 4));
    assert!(text.starts_with("none of 4 spans delivered: "), "{text}");
    assert!(text.contains("not like this"), "{text}");
}

#[test]
fn an_export_that_hangs_ends_at_the_limit() {
    let child = ScriptedExporter::new();
    child.script([Act::Hang]);
    let exporter = SdkExporter::new(child.exporter()).limit(SHORT);
    let began = Instant::now();
    let result = export(&exporter, 1);
    assert!(
        matches!(result, Err(OTelSdkError::Timeout(limit)) if limit == SHORT),
        "{result:?}"
    );
    assert!(began.elapsed() < SOON);
    export(&exporter, 1).unwrap();
}

#[test]
fn a_panic_in_the_exporter_is_an_error_and_no_more() {
    let child = ScriptedExporter::new();
    child.script([Act::Panic]);
    let exporter = SdkExporter::new(child.exporter());
    let text = failure(export(&exporter, 1));
    assert_eq!(text, "none of 1 spans delivered: the exporter panicked");
    export(&exporter, 1).unwrap();
}

#[test]
fn flush_and_shutdown_reach_the_exporter_with_their_time() {
    let child = ScriptedExporter::new();
    let exporter = SdkExporter::new(child.exporter());
    exporter.force_flush().unwrap();
    assert_eq!(child.flushes(), 1);
    let provider = on_stock_batches(exporter);
    make_spans(&provider, 2);
    provider
        .shutdown_with_timeout(Duration::from_secs(7))
        .unwrap();
    assert_eq!(child.received().len(), 2);
    let calls = child.calls();
    let shutdown = calls
        .iter()
        .find(|call| matches!(call.what, Asked::Shutdown));
    let left = shutdown.unwrap().left.unwrap();
    assert!(
        left <= Duration::from_secs(7) && left > Duration::from_secs(3),
        "{left:?}"
    );
}

#[test]
fn a_shutdown_that_lost_spans_is_an_error_with_their_number() {
    let child = ScriptedExporter::new();
    let mut drained = Drained::default();
    drained.lost.add(DropReason::Shutdown, 3);
    child.script_shutdowns([DrainAct::Done(drained)]);
    let exporter = SdkExporter::new(child.exporter());
    let text = failure(exporter.shutdown_with_timeout(SOON));
    assert_eq!(text, "delivered 0, lost 3 (3 shutdown)");
}

#[test]
fn flush_and_shutdown_end_at_their_time() {
    let child = ScriptedExporter::new();
    child.script_flushes([DrainAct::Hang]);
    child.script_shutdowns([DrainAct::Hang]);
    let exporter = SdkExporter::new(child.exporter()).limit(SHORT);
    let began = Instant::now();
    assert!(matches!(
        exporter.force_flush(),
        Err(OTelSdkError::Timeout(_))
    ));
    let result = exporter.shutdown_with_timeout(SHORT);
    assert!(
        matches!(result, Err(OTelSdkError::Timeout(_))),
        "{result:?}"
    );
    assert!(began.elapsed() < SOON);
}

#[test]
fn after_shutdown_everything_answers_that_it_is_over() {
    let child = ScriptedExporter::new();
    let exporter = SdkExporter::new(child.exporter());
    exporter.shutdown().unwrap();
    for result in [
        export(&exporter, 1),
        exporter.shutdown(),
        exporter.force_flush(),
    ] {
        assert!(
            matches!(result, Err(OTelSdkError::AlreadyShutdown)),
            "{result:?}"
        );
    }
    assert_eq!(child.shutdowns(), 1);
    assert!(child.received().is_empty());
}

#[test]
fn two_providers_share_one_exporter_and_neither_closes_it_for_the_other() {
    let child = ScriptedExporter::new();
    let shared = child.exporter();
    let first = on_stock_batches(SdkExporter::new(shared.clone()));
    let second = on_stock_batches(SdkExporter::new(shared));
    make_spans(&first, 2);
    first.shutdown().unwrap();
    assert_eq!(child.shutdowns(), 0);
    make_spans(&second, 3);
    second.shutdown().unwrap();
    assert_eq!(child.received().len(), 5);
    assert_eq!(child.shutdowns(), 1);
}

#[test]
fn an_empty_batch_is_success_and_nothing_else() {
    let child = ScriptedExporter::new();
    let exporter = SdkExporter::new(child.exporter());
    futures_executor::block_on(exporter.export(Vec::new())).unwrap();
    assert!(child.calls().is_empty());
}
