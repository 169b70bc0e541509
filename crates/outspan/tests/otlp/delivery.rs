//! What arrives, and how it is announced.

use http::Version;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::ArrayValue;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::KeyValueList;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use outspan::Batch;
use outspan::Deadline;
use outspan::Export;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;
use outspan_testkit::decode;
use outspan_testkit::span_ids;

use crate::support::SOON;
use crate::support::Wire;
use crate::support::export;

over_each_wire![
    every_field_of_a_span_arrives,
    a_delivery_says_what_happened,
    requests_are_announced_as_the_specification_wants,
    a_product_stands_before_our_own_name,
    the_empty_batch_is_not_sent,
    one_connection_serves_many_exports,
];

/// `trace.proto` and `common.proto`: everything that a span can hold.
async fn every_field_of_a_span_arrives(wire: Wire) {
    let collector = wire.collector();
    let batch = batch_with(3, |number, span| fill(span, number as u64));
    export(&wire.exporter(&collector), &batch).await.unwrap();

    let requests = collector.requests();
    assert_eq!(requests[0].body, decode(&batch));
    assert_eq!(requests.len(), 1);
    assert_eq!(collector.complaints(), Vec::<String>::new());
}

async fn a_delivery_says_what_happened(wire: Wire) {
    let collector = wire.collector();
    let batch = batch_of(7);
    let delivery = export(&wire.exporter(&collector), &batch).await.unwrap();

    assert!(delivery.is_complete());
    assert_eq!((delivery.accepted, delivery.refused), (7, 0));
    assert_eq!(delivery.attempt.attempts, 1);
    assert_eq!(delivery.message, None);
    let on_the_wire = collector.requests()[0].wire_bytes as u64;
    assert_eq!(delivery.attempt.wire_bytes, on_the_wire);
    let ok = if wire.is_grpc() { 0 } else { 200 };
    assert_eq!(delivery.attempt.status, Some(ok));
    let server = collector.address().to_string();
    assert_eq!(delivery.attempt.server.as_deref(), Some(server.as_str()));
    assert_eq!(collector.span_ids(), span_ids(&batch));
}

/// Checklist rules 10, 35, 39, 40, 129; gRPC over HTTP/2, "Requests".
async fn requests_are_announced_as_the_specification_wants(wire: Wire) {
    let collector = wire.collector();
    let exporter = wire.exporter(&collector);
    let until = Deadline::after(SOON);
    exporter.export(batch_of(1), until).await.unwrap();
    let never = Deadline::never();
    exporter.export(batch_of(1), never).await.unwrap();

    let requests = collector.requests();
    let request = &requests[0];
    let user_agent = concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));
    assert_eq!(request.header("user-agent"), Some(user_agent));
    assert_eq!(request.compression(), None);
    match wire {
        Wire::Grpc => {
            assert_eq!(request.version, Version::HTTP_2);
            assert_eq!(request.content_type(), Some("application/grpc"));
            assert_eq!(request.header("te"), Some("trailers"));
            let timeout = request.header("grpc-timeout").unwrap();
            let millis: u64 = timeout.strip_suffix('m').unwrap().parse().unwrap();
            assert!((1..=10_000).contains(&millis), "{timeout}");
            assert_eq!(requests[1].header("grpc-timeout"), None);
        }
        Wire::HttpProtobuf | Wire::HttpJson => {
            let kind = match wire {
                Wire::HttpJson => "application/json",
                _ => "application/x-protobuf",
            };
            assert_eq!(request.version, Version::HTTP_11);
            assert_eq!(request.content_type(), Some(kind));
            assert_eq!(request.path, "/v1/traces");
            assert_eq!(request.header("grpc-timeout"), None);
            let length = request.wire_bytes.to_string();
            assert_eq!(request.header("content-length"), Some(length.as_str()));
        }
    }
}

/// Checklist rule 130.
async fn a_product_stands_before_our_own_name(wire: Wire) {
    let collector = wire.collector();
    let builder = wire.to_collector(&collector).user_agent("shop/1.2");
    export(&builder.build().unwrap(), &batch_of(1))
        .await
        .unwrap();

    let requests = collector.requests();
    let user_agent = requests[0].header("user-agent").unwrap();
    assert!(
        user_agent.starts_with("shop/1.2 OTel-OTLP-Exporter-Rust/"),
        "{user_agent}"
    );
}

/// Checklist rule 5.
async fn the_empty_batch_is_not_sent(wire: Wire) {
    let collector = wire.collector();
    let exporter = wire.exporter(&collector);
    let delivery = export(&exporter, &Batch::empty()).await.unwrap();
    assert_eq!((delivery.accepted, delivery.attempt.attempts), (0, 0));
    assert_eq!(collector.connections(), 0);
}

/// Checklist rule 58.
async fn one_connection_serves_many_exports(wire: Wire) {
    let collector = wire.collector();
    let exporter = wire.exporter(&collector);
    for _ in 0..20 {
        export(&exporter, &batch_of(1)).await.unwrap();
    }
    assert_eq!(collector.connections(), 1);
    assert_eq!(collector.span_count(), 20);
}

fn fill(span: &mut Span, number: u64) {
    span.trace_state = "vendor=value".into();
    span.parent_span_id = vec![9; 8];
    span.flags = 0x301;
    span.name = "GET /päth \u{1f600} \"quoted\" \\ \n".into();
    span.kind = 3;
    span.end_time_unix_nano = u64::MAX - number;
    span.attributes = attributes();
    span.dropped_attributes_count = u32::MAX;
    span.events = vec![Event {
        time_unix_nano: 1,
        name: "event".into(),
        attributes: attributes(),
        dropped_attributes_count: 3,
    }];
    span.dropped_events_count = 4;
    span.links = vec![Link {
        trace_id: vec![3; 16],
        span_id: vec![4; 8],
        trace_state: "a=b".into(),
        attributes: attributes(),
        dropped_attributes_count: 5,
        flags: 1,
    }];
    span.dropped_links_count = 6;
    span.status = Some(Status {
        message: "broken".into(),
        code: 2,
    });
}

fn attributes() -> Vec<KeyValue> {
    let values = [
        Value::StringValue("text".into()),
        Value::BoolValue(true),
        Value::IntValue(i64::MIN),
        Value::DoubleValue(0.1),
        Value::BytesValue(vec![0, 255, 10]),
        Value::ArrayValue(ArrayValue {
            values: vec![any(Value::IntValue(1)), any(Value::StringValue("x".into()))],
        }),
        Value::KvlistValue(KeyValueList {
            values: vec![pair("inner", Value::BoolValue(false))],
        }),
    ];
    let named = values.into_iter().enumerate();
    named
        .map(|(number, value)| pair(&format!("key {number}"), value))
        .collect()
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(any(value)),
        ..KeyValue::default()
    }
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}
