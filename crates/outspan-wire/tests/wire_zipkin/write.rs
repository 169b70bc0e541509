//! What we write as Zipkin spans, in both forms and both dialects.

#![allow(clippy::unwrap_used)]

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::ArrayValue;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use outspan_wire::Piece;
use outspan_wire::PieceContent;
use outspan_wire::zipkin::Dialect;
use outspan_wire::zipkin::WriteOptions;
use outspan_wire::zipkin::Writer;
use prost::Message;

fn text(value: &str) -> Value {
    Value::StringValue(value.to_owned())
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn span() -> Span {
    Span {
        trace_id: (1..=16).collect(),
        span_id: (1..=8).collect(),
        parent_span_id: vec![9; 8],
        trace_state: "a=1,b=2".to_owned(),
        flags: 257,
        name: "GET /cart".to_owned(),
        kind: 3,
        start_time_unix_nano: 1_700_000_000_000_001_999,
        end_time_unix_nano: 1_700_000_000_000_004_000,
        attributes: vec![
            attribute("http.status_code", Value::IntValue(500)),
            attribute("server.address", text("db-1")),
            attribute("net.peer.name", text("other")),
            attribute("quoted", text("\"a\"\n")),
        ],
        dropped_attributes_count: 1,
        events: vec![
            Event {
                time_unix_nano: 1_700_000_000_000_002_500,
                name: "retry".to_owned(),
                ..Event::default()
            },
            Event {
                time_unix_nano: 1_700_000_000_000_003_500,
                name: "exception".to_owned(),
                attributes: vec![
                    attribute("exception.message", text("no \"luck\"")),
                    attribute("after", Value::DoubleValue(2.0)),
                ],
                ..Event::default()
            },
        ],
        dropped_events_count: 2,
        links: vec![Link {
            trace_id: vec![0xAB; 16],
            span_id: vec![0xCD; 8],
            trace_state: "c=3".to_owned(),
            attributes: vec![attribute("why", Value::BoolValue(true))],
            dropped_attributes_count: 4,
            ..Link::default()
        }],
        dropped_links_count: 3,
        status: Some(Status {
            message: "it broke".to_owned(),
            code: 2,
        }),
    }
}

fn request(spans: Vec<Span>) -> Vec<u8> {
    let scope = InstrumentationScope {
        name: "shop".to_owned(),
        version: "1.2".to_owned(),
        attributes: vec![attribute("scope.level", Value::IntValue(7))],
        ..InstrumentationScope::default()
    };
    let resource = Resource {
        attributes: vec![
            attribute("service.name", text("Cart")),
            attribute("host.name", text("h1")),
            attribute("process.pid", Value::IntValue(42)),
        ],
        ..Resource::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans,
                schema_url: String::new(),
            }],
            schema_url: "https://example.com/1".to_owned(),
        }],
    };
    request.encode_to_vec()
}

fn pieces(options: WriteOptions, request: &[u8]) -> Vec<Piece> {
    Writer::new(options)
        .pieces(request)
        .collect::<Result<_, _>>()
        .unwrap()
}

fn only_json(options: WriteOptions, request: &[u8]) -> serde_json::Value {
    match &pieces(options, request)[..] {
        [
            Piece {
                content: PieceContent::Bytes(bytes),
                ..
            },
        ] => serde_json::from_slice(bytes).unwrap(),
        pieces => panic!("expected one message but got {pieces:?}"),
    }
}

#[test]
fn writes_every_field_by_the_specification() {
    let written = only_json(WriteOptions::default(), &request(vec![span()]));
    let expected = serde_json::json!([{
        "traceId": "0102030405060708090a0b0c0d0e0f10",
        "parentId": "0909090909090909",
        "id": "0102030405060708",
        "kind": "CLIENT",
        "name": "GET /cart",
        "timestamp": 1_700_000_000_000_001_u64,
        "duration": 2,
        "localEndpoint": {"serviceName": "Cart"},
        "remoteEndpoint": {"serviceName": "db-1"},
        "annotations": [
            {"timestamp": 1_700_000_000_000_002_u64, "value": "retry"},
            {
                "timestamp": 1_700_000_000_000_003_u64,
                "value": "\"exception\": {\"exception.message\":\"no \\\"luck\\\"\",\"after\":2.0}",
            },
        ],
        "tags": {
            "otel.scope.name": "shop",
            "otel.scope.version": "1.2",
            "otel.library.name": "shop",
            "otel.library.version": "1.2",
            "otel.status_code": "ERROR",
            "error": "it broke",
            "w3c.tracestate": "a=1,b=2",
            "otel.dropped_attributes_count": "1",
            "otel.dropped_events_count": "2",
            "otel.dropped_links_count": "3",
            "http.status_code": "500",
            "server.address": "db-1",
            "net.peer.name": "other",
            "quoted": "\"a\"\n",
            "otlp.link.0": "abababababababababababababababab|cdcdcdcdcdcdcdcd|c=3|{\"why\":true}|4",
            "scope.level": "7",
            "host.name": "h1",
            "process.pid": "42",
            "outspan.otlp": "int=http.status_code flags=257 scope: int=scope.level \
                             resource: host.name int=process.pid schema=https%3a//example.com/1",
        },
    }]);
    assert_eq!(written, expected);
}

/// What the specification says of single fields, one span each.
#[test]
fn single_rules_of_the_specification_hold() {
    let with = |change: fn(&mut Span)| {
        let mut span = Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            ..Span::default()
        };
        change(&mut span);
        span
    };
    let spans = vec![
        with(|_| {}),
        with(|span| span.kind = 1),
        with(|span| span.kind = 2),
        with(|span| span.kind = 4),
        with(|span| span.kind = 5),
        with(|span| {
            span.status = Some(Status {
                code: 1,
                ..Status::default()
            });
            span.attributes = vec![
                attribute("error", text("false")),
                attribute("truth", Value::BoolValue(true)),
                attribute(
                    "list",
                    Value::ArrayValue(ArrayValue {
                        values: vec![AnyValue {
                            value: Some(Value::IntValue(7)),
                        }],
                    }),
                ),
            ];
        }),
        with(|span| {
            span.status = Some(Status {
                code: 2,
                ..Status::default()
            })
        }),
        with(|span| {
            span.kind = 3;
            span.attributes = vec![
                attribute("server.address", text("db-1")),
                attribute("peer.service", text("orders")),
            ];
        }),
    ];
    let resource = Resource {
        attributes: vec![attribute("service.namespace", text("ns"))],
        ..Resource::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    let written = only_json(WriteOptions::default(), &request.encode_to_vec());
    let bare = &written[0];
    assert_eq!(bare["localEndpoint"]["serviceName"], "unknown_service");
    assert_eq!(bare["tags"]["service.namespace"], "ns");
    for absent in [
        "name",
        "kind",
        "parentId",
        "duration",
        "annotations",
        "remoteEndpoint",
    ] {
        assert_eq!(bare.get(absent), None, "{absent}");
    }
    for absent in [
        "error",
        "otel.status_code",
        "otel.dropped_attributes_count",
        "otel.dropped_events_count",
        "otel.dropped_links_count",
    ] {
        assert_eq!(bare["tags"].get(absent), None, "{absent}");
    }
    assert_eq!(written[1].get("kind"), None);
    let kinds = [2, 3, 4].map(|index: usize| written[index]["kind"].clone());
    assert_eq!(kinds, ["SERVER", "PRODUCER", "CONSUMER"]);
    let fine = &written[5]["tags"];
    assert_eq!(fine["otel.status_code"], "OK");
    assert_eq!(fine.get("error"), None);
    assert_eq!(
        (&fine["truth"], &fine["list"]),
        (&"true".into(), &"[7]".into())
    );
    let broken = &written[6]["tags"];
    assert_eq!(broken["otel.status_code"], "ERROR");
    assert_eq!(broken["error"], "");
    assert_eq!(written[7]["remoteEndpoint"]["serviceName"], "orders");
}

#[test]
fn writes_every_field_as_the_collector_does() {
    let options = WriteOptions::default().dialect(Dialect::Collector);
    let written = only_json(options, &request(vec![span()]));
    let expected = serde_json::json!([{
        "traceId": "0102030405060708090a0b0c0d0e0f10",
        "parentId": "0909090909090909",
        "id": "0102030405060708",
        "kind": "CLIENT",
        "name": "get /cart",
        "timestamp": 1_700_000_000_000_002_u64,
        "duration": 2,
        "localEndpoint": {"serviceName": "cart"},
        "annotations": [
            {"timestamp": 1_700_000_000_000_003_u64, "value": "retry"},
            {
                "timestamp": 1_700_000_000_000_004_u64,
                "value": "exception|{\"exception.message\":\"no \\\"luck\\\"\",\"after\":2}|0",
            },
        ],
        "tags": {
            "otel.scope.name": "shop",
            "otel.scope.version": "1.2",
            "otel.status_code": "STATUS_CODE_ERROR",
            "error": "true",
            "otel.status_description": "it broke",
            "w3c.tracestate": "a=1,b=2",
            "http.status_code": "500",
            "server.address": "db-1",
            "net.peer.name": "other",
            "quoted": "\"a\"\n",
            "otlp.link.0": "abababababababababababababababab|cdcdcdcdcdcdcdcd|c=3|{\"why\":true}|4",
            "scope.level": "7",
            "host.name": "h1",
            "process.pid": "42",
        },
    }]);
    assert_eq!(written, expected);
}

#[test]
fn the_collector_has_ways_of_its_own() {
    let options = WriteOptions::default().dialect(Dialect::Collector);
    let mut modern = span();
    modern.attributes = vec![
        attribute("large", Value::DoubleValue(f64::MAX)),
        attribute("small", Value::DoubleValue(1e-9)),
        attribute("whole", Value::DoubleValue(2.0)),
        attribute("text", text("1e5")),
        attribute("http.response.status_code", Value::IntValue(503)),
    ];
    let mut both = modern.clone();
    both.attributes
        .push(attribute("http.status_code", Value::IntValue(200)));
    let written = only_json(
        options,
        &request(vec![modern.clone(), both, modern.clone()]),
    );
    for (number, old) in ["503", "200", "503"].into_iter().enumerate() {
        let tags = &written[number]["tags"];
        assert_eq!(tags["large"], "1.7976931348623157e+308");
        assert_eq!(tags["small"], "1e-9");
        assert_eq!(tags["whole"], "2");
        assert_eq!(tags["text"], "1e5");
        assert_eq!(tags["http.response.status_code"], "503");
        assert_eq!(tags["http.status_code"], old);
    }

    let specified = only_json(WriteOptions::default(), &request(vec![modern]));
    assert_eq!(specified[0]["tags"]["large"], "1.7976931348623157e308");
    assert!(specified[0]["tags"].get("http.status_code").is_none());
}

#[test]
fn fills_messages_up_to_the_limit() {
    let mut large = span();
    large.name = "x".repeat(5000);
    let request = request(vec![span(), span(), large, span()]);
    let one = match &pieces(WriteOptions::default(), &request)[..] {
        [
            Piece {
                content: PieceContent::Bytes(bytes),
                ..
            },
        ] => {
            let spans: Vec<serde_json::Value> = serde_json::from_slice(bytes).unwrap();
            assert_eq!(spans.len(), 4);
            (bytes.len() - 1 - 4991) / 4
        }
        pieces => panic!("expected one message but got {pieces:?}"),
    };
    let limit = WriteOptions::default().bytes_max(1 + 2 * one);
    let pieces = pieces(limit, &request);
    let ranges: Vec<_> = pieces.iter().map(|piece| piece.spans.clone()).collect();
    assert_eq!(ranges, [0..2, 2..3, 3..4]);
    let [first, second, _] = &pieces[..] else {
        panic!("three pieces");
    };
    let PieceContent::Bytes(first) = &first.content else {
        panic!("two spans fit");
    };
    assert_eq!(first.len(), 1 + 2 * one);
    // Writing the span stopped where it became too large, so nobody knows how many bytes it would have had.
    let PieceContent::TooLarge { bytes } = second.content else {
        panic!("one span is too large");
    };
    assert!(bytes > 1 + 2 * one && bytes <= 1 + one + 4991, "{bytes}");
}
