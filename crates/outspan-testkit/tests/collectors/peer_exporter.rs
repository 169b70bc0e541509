//! What `opentelemetry-otlp` sends is found, on every transport it has.

use std::time::Duration;
use std::time::SystemTime;

use opentelemetry::InstrumentationScope;
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::Status;
use opentelemetry::trace::TraceFlags;
use opentelemetry::trace::TraceState;
use opentelemetry_otlp::Compression as PeerCompression;
use opentelemetry_otlp::Protocol;
use opentelemetry_otlp::SpanExporter as PeerExporter;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_otlp::WithHttpConfig;
use opentelemetry_otlp::WithTonicConfig;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanEvents;
use opentelemetry_sdk::trace::SpanExporter;
use opentelemetry_sdk::trace::SpanLinks;

use crate::support::SOON;
use crate::support::id;
use outspan_testkit::Collector;

fn finished_span(number: u64) -> SpanData {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    SpanData {
        span_context: SpanContext::new(
            7_u128.into(),
            number.into(),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: 99.into(),
        parent_span_is_remote: true,
        span_kind: SpanKind::Server,
        name: "GET /basket".into(),
        start_time: start,
        end_time: start + Duration::from_millis(5),
        attributes: vec![KeyValue::new("basket.items", 3)],
        dropped_attributes_count: 2,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Ok,
        instrumentation_scope: InstrumentationScope::builder("shop").build(),
    }
}

async fn found_after_export_by(exporter: PeerExporter, collector: &Collector) {
    let spans = vec![finished_span(1), finished_span(2)];
    exporter.export(spans).await.expect("the collector accepts");

    let found = collector.wait_for_spans(2, SOON).await;
    assert_eq!(collector.span_ids(), [id(1), id(2)]);
    let first = &found[0];
    assert_eq!(first.span.trace_id, 7_u128.to_be_bytes());
    assert_eq!(first.span.name, "GET /basket");
    assert_eq!(
        first.span.end_time_unix_nano - first.span.start_time_unix_nano,
        5_000_000
    );
    assert_eq!(first.span.dropped_attributes_count, 2);
    assert_eq!(first.scope.as_ref().unwrap().name, "shop");
    let value = first.span.attributes[0].value.clone().unwrap().value;
    assert_eq!(value, Some(Value::IntValue(3)));
    assert!(collector.complaints().is_empty(), "{collector:?}");
}

fn grpc_to(
    collector: &Collector,
) -> opentelemetry_otlp::SpanExporterBuilder<opentelemetry_otlp::TonicExporterBuilderSet> {
    PeerExporter::builder()
        .with_tonic()
        .with_endpoint(collector.endpoint())
}

fn http_to(
    collector: &Collector,
) -> opentelemetry_otlp::SpanExporterBuilder<opentelemetry_otlp::HttpExporterBuilderSet> {
    PeerExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", collector.endpoint()))
}

#[tokio::test]
async fn spans_of_the_peer_arrive_over_grpc() {
    let collector = Collector::grpc();
    found_after_export_by(grpc_to(&collector).build().unwrap(), &collector).await;
    let request = &collector.requests()[0];
    assert_eq!(request.content_type(), Some("application/grpc"));
    assert_eq!(request.compression(), None);
    assert_eq!(request.wire_bytes, request.message.len());
}

#[tokio::test]
async fn spans_of_the_peer_arrive_compressed_over_grpc() {
    for (compression, name) in [
        (PeerCompression::Gzip, "gzip"),
        (PeerCompression::Zstd, "zstd"),
    ] {
        let collector = Collector::grpc();
        let exporter = grpc_to(&collector).with_compression(compression).build();
        found_after_export_by(exporter.unwrap(), &collector).await;
        let request = &collector.requests()[0];
        assert_eq!(request.compression(), Some(name));
        assert_ne!(request.wire_bytes, request.message.len());
    }
}

#[tokio::test]
async fn spans_of_the_peer_arrive_over_http_as_protobuf() {
    let collector = Collector::http();
    let exporter = http_to(&collector)
        .with_protocol(Protocol::HttpBinary)
        .build();
    found_after_export_by(exporter.unwrap(), &collector).await;
    let request = &collector.requests()[0];
    assert_eq!(request.content_type(), Some("application/x-protobuf"));
    assert_eq!(request.path, "/v1/traces");
}

#[tokio::test]
async fn spans_of_the_peer_arrive_over_http_as_json() {
    let collector = Collector::http();
    let exporter = http_to(&collector)
        .with_protocol(Protocol::HttpJson)
        .build();
    found_after_export_by(exporter.unwrap(), &collector).await;
    let request = &collector.requests()[0];
    assert_eq!(request.content_type(), Some("application/json"));
    assert_eq!(request.message.first(), Some(&b'{'));
}

#[tokio::test]
async fn spans_of_the_peer_arrive_compressed_over_http() {
    let collector = Collector::http();
    let exporter = http_to(&collector)
        .with_protocol(Protocol::HttpBinary)
        .with_compression(PeerCompression::Gzip)
        .build();
    found_after_export_by(exporter.unwrap(), &collector).await;
    assert_eq!(collector.requests()[0].compression(), Some("gzip"));
}
