//! What spans have in common with their neighbours is copied; no message may show it.

#![allow(clippy::unwrap_used)] // A test says what it expects.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use outspan_wire::PieceContent;
use outspan_wire::zipkin::Dialect;
use outspan_wire::zipkin::Format;
use outspan_wire::zipkin::WriteOptions;
use outspan_wire::zipkin::Writer;
use proptest::prelude::*;
use prost::Message;

/// Few keys and few values, so that neighbours often have the same ones, in the same place or in another.
fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let keys = [
        "a",
        "b",
        "peer.service",
        "error",
        "zipkin.debug",
        "otel.link.0",
    ];
    let values = [
        Value::StringValue("x".to_owned()),
        Value::StringValue("y\"\n".to_owned()),
        Value::StringValue("x".repeat(60)),
        Value::BoolValue(true),
        Value::BoolValue(false),
        Value::IntValue(-7),
        Value::DoubleValue(0.5),
        Value::BytesValue(vec![1, 2]),
    ];
    let attribute = (
        prop::sample::select(keys.to_vec()),
        prop::sample::select(values.to_vec()),
    )
        .prop_map(|(key, value)| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        });
    prop_oneof![
        4 => prop::collection::vec(attribute.clone(), 0..5),
        // Beyond the places that are remembered.
        1 => prop::collection::vec(attribute, 62..68),
    ]
}

fn spans() -> impl Strategy<Value = Vec<Span>> {
    let span = (0..4_usize, 0..3_i32, 0..4_i32, any::<bool>()).prop_map(
        |(attributes, status, kind, has_link)| (attributes, status / 2 * 2, kind, has_link),
    );
    let pool = prop::collection::vec(attributes(), 4);
    (pool, prop::collection::vec(span, 1..12), any::<u64>()).prop_map(|(pool, spans, seed)| {
        let spans = spans.into_iter().zip(1_u64..);
        let make =
            |((which, status, kind, has_link), number): ((usize, i32, i32, bool), u64)| Span {
                trace_id: vec![7; 16],
                span_id: number.to_be_bytes().to_vec(),
                name: "same".to_owned(),
                kind,
                start_time_unix_nano: seed >> 2,
                attributes: pool[which].clone(),
                status: Some(Status {
                    code: status,
                    ..Status::default()
                }),
                links: vec![Link::default(); usize::from(has_link)],
                ..Span::default()
            };
        spans.map(make).collect()
    })
}

fn request(spans: Vec<Span>, scope: &str) -> ExportTraceServiceRequest {
    let scope_spans = ScopeSpans {
        scope: Some(InstrumentationScope {
            name: scope.to_owned(),
            ..InstrumentationScope::default()
        }),
        spans,
        ..ScopeSpans::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![scope_spans],
            ..ResourceSpans::default()
        }],
    }
}

/// Each span as it is written alone: the message of one span, without what stands around it.
fn alone(options: &WriteOptions, request: &ExportTraceServiceRequest) -> Vec<Option<Vec<u8>>> {
    let mut alone = Vec::new();
    for resource_spans in &request.resource_spans {
        for scope_spans in &resource_spans.scope_spans {
            let scope = scope_spans.scope.clone().unwrap_or_default();
            for span in &scope_spans.spans {
                let one = self::request(vec![span.clone()], &scope.name).encode_to_vec();
                let mut writer = Writer::new(*options);
                let mut pieces = writer.pieces(&one);
                alone.push(match pieces.next().unwrap().unwrap().content {
                    PieceContent::Bytes(body) => Some(inner(options, &body).to_vec()),
                    _ => None,
                });
                assert!(pieces.next().is_none());
            }
        }
    }
    alone
}

fn inner<'a>(options: &WriteOptions, body: &'a [u8]) -> &'a [u8] {
    match options.format {
        Format::Json => &body[1..body.len() - 1],
        _ => body,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_span_is_written_among_others_as_it_is_alone(
        first in spans(),
        second in spans(),
        is_json in any::<bool>(),
        is_collector in any::<bool>(),
        bytes_max in prop_oneof![100_usize..1_500, Just(1 << 20)],
    ) {
        let mut options = WriteOptions::default();
        options.format = if is_json { Format::Json } else { Format::Protobuf };
        options.dialect = if is_collector { Dialect::Collector } else { Dialect::Specification };
        options.bytes_max = bytes_max;
        let mut whole = request(first, "one");
        whole.resource_spans.extend(request(second, "two").resource_spans);
        let alone = alone(&options, &whole);

        let mut writer = Writer::new(options);
        let bytes = whole.encode_to_vec();
        // A writer serves many requests.
        for _ in 0..2 {
            let mut seen = 0;
            for piece in writer.pieces(&bytes) {
                let piece = piece.unwrap();
                prop_assert_eq!(piece.spans.start, seen);
                seen = piece.spans.end;
                let expected: Vec<_> = alone[piece.spans].iter().flatten().map(Vec::as_slice).collect();
                match piece.content {
                    PieceContent::Bytes(body) => {
                        let separator: &[u8] = if is_json { b"," } else { b"" };
                        prop_assert_eq!(inner(&options, &body), expected.join(separator));
                    }
                    _ => prop_assert!(expected.is_empty()),
                }
            }
            prop_assert_eq!(seen, alone.len());
        }
    }
}
