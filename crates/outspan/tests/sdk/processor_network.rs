//! The batch processor in front of OTLP exporters and collectors whose decoder is others'.
#![cfg(all(feature = "sdk", feature = "grpc", feature = "http"))]

use std::collections::HashSet;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::Span as _;
use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use outspan::Exporter;
use outspan::Retry;
use outspan::otlp;
use outspan::sdk::BatchProcessor;
use outspan_testkit::Collector;

const PATIENCE: Duration = Duration::from_secs(30);

fn provider(exporter: Exporter, service: &'static str) -> SdkTracerProvider {
    let retry = Retry::default()
        .initial_interval(Duration::from_millis(20))
        .max_interval(Duration::from_millis(100));
    let processor = BatchProcessor::builder(exporter)
        .retry(retry)
        .delay(Duration::from_millis(100))
        .flush_timeout(Duration::from_secs(2))
        .build()
        .expect("the settings are valid");
    SdkTracerProvider::builder()
        .with_resource(Resource::builder_empty().with_service_name(service).build())
        .with_span_processor(processor)
        .build()
}

fn end_spans(provider: &SdkTracerProvider, count: usize) {
    let tracer = provider.tracer("checkout");
    for number in 0..count {
        let attributes = [KeyValue::new("number", number as i64)];
        tracer
            .span_builder("pay")
            .with_attributes(attributes)
            .start(&tracer)
            .end();
    }
}

fn spans_arrive_whole(collector: &Collector, exporter: Exporter) {
    let provider = provider(exporter, "shop");
    end_spans(&provider, 1000);
    provider.shutdown().expect("everything is delivered");
    let spans = collector.spans();
    assert_eq!(spans.len(), 1000);
    let numbers: HashSet<_> = spans
        .iter()
        .map(|span| format!("{:?}", span.span.attributes))
        .collect();
    assert_eq!(numbers.len(), 1000);
    for span in &spans {
        let resource = span.resource.as_ref().expect("there is one");
        assert_eq!(resource.attributes[0].key, "service.name");
        assert_eq!(span.scope.as_ref().expect("there is one").name, "checkout");
        assert_eq!(span.span.name, "pay");
        assert!(span.span.end_time_unix_nano >= span.span.start_time_unix_nano);
    }
}

#[test]
fn spans_arrive_whole_over_grpc() {
    let collector = Collector::grpc();
    let exporter = otlp::grpc(collector.endpoint()).build().unwrap();
    spans_arrive_whole(&collector, exporter);
}

#[test]
fn spans_arrive_whole_over_http() {
    let collector = Collector::http();
    let exporter = otlp::http(collector.endpoint()).build().unwrap();
    spans_arrive_whole(&collector, exporter);
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_that_blocks_its_only_thread_still_delivers() {
    let collector = Collector::grpc();
    let provider = provider(otlp::grpc(collector.endpoint()).build().unwrap(), "shop");
    end_spans(&provider, 10);
    provider.force_flush().unwrap();
    assert_eq!(collector.span_count(), 10);
    provider.shutdown().unwrap();
}

#[test]
fn two_providers_share_one_connection() {
    let collector = Collector::grpc();
    let exporter = otlp::grpc(collector.endpoint()).build().unwrap();
    let one = provider(exporter.clone(), "one");
    let other = provider(exporter, "other");
    end_spans(&one, 5);
    end_spans(&other, 5);
    one.shutdown().unwrap();
    end_spans(&other, 5);
    other.shutdown().unwrap();
    assert_eq!(collector.span_count(), 15);
    assert_eq!(collector.connections(), 1);
}

#[test]
fn a_collector_that_is_killed_and_comes_back_misses_nothing() {
    let collector = Collector::grpc();
    let provider = provider(otlp::grpc(collector.endpoint()).build().unwrap(), "shop");
    end_spans(&provider, 100);
    provider.force_flush().unwrap();
    collector.stop();
    end_spans(&provider, 2000);
    provider.force_flush().unwrap_err();
    end_spans(&provider, 2000);
    collector.restart();
    collector.wait_for_spans_blocking(4100, PATIENCE);
    provider.shutdown().unwrap();
    let distinct: HashSet<_> = collector.span_ids().into_iter().collect();
    assert_eq!(distinct.len(), 4100);
}
