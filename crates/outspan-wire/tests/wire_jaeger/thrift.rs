//! Our Thrift against the `thrift` crate's, in both directions and both protocols, and Jaeger's own test data.

#![allow(clippy::unwrap_used)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use outspan_wire::PieceContent;
use outspan_wire::ReadRequest;
use outspan_wire::jaeger::Dialect;
use outspan_wire::jaeger::Envelope;
use outspan_wire::jaeger::Protocol;
use outspan_wire::jaeger::ReadLimits;
use outspan_wire::jaeger::WriteOptions;
use outspan_wire::jaeger::Writer;
use outspan_wire::jaeger::read_batch;
use outspan_wire::jaeger::read_datagram;
use outspan_wire::otlp::RequestView;
use outspan_wire::otlp::SpanKind;
use outspan_wire::otlp::SpanView;
use outspan_wire::otlp::StatusCode;
use outspan_wire::otlp::ValueView;
use outspan_wire::otlp::WireError;
use outspan_wire::otlp::WireErrorKind;
use outspan_wire::otlp::read_json;
use outspan_wire::otlp::validate;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use serde_json::Value as Json;
use thrift::protocol::TMessageType;

use crate::common::texts;
use crate::common::valid_requests;
use crate::thrift_peer::Batch;
use crate::thrift_peer::Form;
use crate::thrift_peer::Log;
use crate::thrift_peer::Process;
use crate::thrift_peer::Span;
use crate::thrift_peer::SpanRef;
use crate::thrift_peer::Tag;
use crate::thrift_peer::emit_batch;
use crate::thrift_peer::read_emit_batch;
use crate::thrift_peer::read_with;
use crate::thrift_peer::write_with;

const FORMS: [(Protocol, Form); 2] = [
    (Protocol::Binary, Form::Binary),
    (Protocol::Compact, Form::Compact),
];

fn batch_01() -> Batch {
    batch_of(include_str!(
        "../vectors/jaeger/thrift_converter.thrift_batch_01.json"
    ))
}

fn batch_02() -> Batch {
    batch_of(include_str!(
        "../vectors/jaeger/thrift_converter.thrift_batch_02.json"
    ))
}

/// Makes a batch of what Go wrote as JSON.
fn batch_of(json: &str) -> Batch {
    let json: Json = serde_json::from_str(json).unwrap();
    Batch {
        process: Process {
            service_name: json["process"]["serviceName"].as_str().unwrap().to_owned(),
            tags: Some(tags_of(&json["process"]["tags"])),
        },
        spans: list(&json["spans"]).iter().map(span_of).collect(),
    }
}

fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn number(json: &Json) -> i64 {
    json.as_i64().unwrap_or_default()
}

fn span_of(json: &Json) -> Span {
    let logs = list(&json["logs"]).iter().map(|log| Log {
        timestamp: number(&log["timestamp"]),
        fields: tags_of(&log["fields"]),
    });
    let references = list(&json["references"]).iter().map(|reference| SpanRef {
        ref_type: i32::from(reference["refType"] == "FOLLOWS_FROM"),
        trace_id_low: number(&reference["traceIdLow"]),
        trace_id_high: number(&reference["traceIdHigh"]),
        span_id: number(&reference["spanId"]),
    });
    Span {
        trace_id_low: number(&json["traceIdLow"]),
        trace_id_high: number(&json["traceIdHigh"]),
        span_id: number(&json["spanId"]),
        parent_span_id: number(&json["parentSpanId"]),
        operation_name: json["operationName"].as_str().unwrap().to_owned(),
        references: Some(references.collect()),
        flags: number(&json["flags"]) as i32,
        start_time: number(&json["startTime"]),
        duration: number(&json["duration"]),
        tags: Some(tags_of(&json["tags"])),
        logs: Some(logs.collect()),
    }
}

fn tags_of(json: &Json) -> Vec<Tag> {
    list(json).iter().map(tag_of).collect()
}

fn tag_of(json: &Json) -> Tag {
    let types = ["STRING", "DOUBLE", "BOOL", "LONG", "BINARY"];
    let v_type = types.iter().position(|name| json["vType"] == *name);
    let binary = json["vBinary"].as_str().map(|text| STANDARD.decode(text));
    Tag {
        key: json["key"].as_str().unwrap().to_owned(),
        v_type: v_type.unwrap() as i32,
        v_str: json["vStr"].as_str().map(str::to_owned),
        v_double: json["vDouble"].as_f64(),
        v_bool: json["vBool"].as_bool(),
        v_long: json["vLong"].as_i64(),
        v_binary: binary.map(Result::unwrap),
    }
}

fn written(form: Form, batch: &Batch) -> Vec<u8> {
    write_with(form, |output| batch.write(output)).unwrap()
}

fn read(protocol: Protocol, bytes: &[u8]) -> Result<ReadRequest, WireError> {
    read_batch(bytes, protocol, &ReadLimits::default())
}

pub(crate) fn spans(bytes: &[u8]) -> Vec<SpanView<'_>> {
    RequestView::new(bytes).spans().collect()
}

/// Reads a batch that both protocols write, and finds that it makes no difference.
pub(crate) fn read_both(batch: &Batch) -> ReadRequest {
    let results = FORMS.map(|(protocol, form)| read(protocol, &written(form, batch)).unwrap());
    assert_eq!(results[0], results[1]);
    let messages = FORMS.map(|(_, form)| {
        let call = write_with(form, |output| emit_batch(output, TMessageType::Call, batch));
        let oneway = write_with(form, |output| {
            emit_batch(output, TMessageType::OneWay, batch)
        });
        let read = read_datagram(&oneway.unwrap(), &ReadLimits::default()).unwrap();
        assert_eq!(
            read,
            read_datagram(&call.unwrap(), &ReadLimits::default()).unwrap()
        );
        read
    });
    assert_eq!(messages, results);
    let [read, _] = results;
    let summary = validate(&read.bytes).unwrap();
    assert_eq!((summary.spans, summary.invalid_spans), (read.spans, 0));
    read
}

#[test]
fn reads_jaegers_first_batch_as_jaeger_does() {
    let read = read_both(&batch_01());
    assert_eq!((read.spans, read.invalid), (1, 0));
    let spans = spans(&read.bytes);
    let span = spans[0];
    let expected: Json = serde_json::from_str(include_str!(
        "../vectors/jaeger/thrift_converter.domain_01.json"
    ))
    .unwrap();
    let expected = &expected["spans"][0];
    let id = |json: &Json| STANDARD.decode(json.as_str().unwrap()).unwrap();
    assert_eq!(span.trace_id_bytes(), id(&expected["traceId"]));
    assert_eq!(span.span_id_bytes(), id(&expected["spanId"]));
    assert_eq!(
        span.parent_span_id_bytes(),
        id(&expected["references"][0]["spanId"])
    );
    assert_eq!(span.links().count(), 0);
    assert_eq!(span.name(), "get");
    assert_eq!(span.kind(), SpanKind::Server);
    assert_eq!(span.start_time_unix_nano(), 1_485_467_191_639_875_000);
    assert_eq!(span.duration().as_micros(), 22_938);
    assert!(span.attribute("span.kind").is_none());
    assert_eq!(
        span.attribute("peer.ipv4").unwrap().as_int(),
        Some(3_224_716_605)
    );
    assert!(matches!(
        span.attribute("someBool"),
        Some(ValueView::Bool(true))
    ));
    assert!(matches!(
        span.attribute("someDouble"),
        Some(ValueView::Double(129.8))
    ));
    assert_eq!(span.attributes().len(), 6);
    let names: Vec<_> = span.events().map(|event| event.name()).collect();
    assert_eq!(names, ["", "nothing"]);
    let first = span.events().next().unwrap();
    assert_eq!(first.attribute("key2").unwrap().as_str(), Some("value2"));
    let resource = span.resource();
    assert_eq!(
        resource.attribute("service.name").unwrap().as_str(),
        Some("api")
    );
    assert_eq!(
        resource.attribute("hostname").unwrap().as_str(),
        Some("api246-sjc1")
    );
    assert_eq!(resource.attributes().len(), 4);
}

#[test]
fn reads_jaegers_second_batch_with_bytes_and_a_reference() {
    let read = read_both(&batch_02());
    assert_eq!((read.spans, read.invalid), (2, 0));
    let spans = spans(&read.bytes);
    let value = spans[0].attribute("peer.service");
    assert!(matches!(
        value,
        Some(ValueView::Bytes([0, 0, 0, 0, 0, 0, 0x30, 0x39]))
    ));
    assert_eq!(spans[0].links().count(), 0);
    let parent = 6_866_147_i64.to_be_bytes();
    assert_eq!(spans[1].parent_span_id(), Some(parent));
    let link = spans[1].links().next().unwrap();
    assert_eq!(
        (link.trace_id(), link.span_id()),
        (spans[1].trace_id(), parent)
    );
    assert_eq!(link.attributes().len(), 0);
}

pub(crate) fn minimal(tags: Vec<Tag>, references: Vec<SpanRef>) -> Batch {
    Batch {
        process: Process {
            service_name: "shop".to_owned(),
            tags: None,
        },
        spans: vec![Span {
            trace_id_low: 1,
            trace_id_high: -1,
            span_id: 2,
            operation_name: "get".to_owned(),
            references: Some(references),
            tags: Some(tags),
            ..Span::default()
        }],
    }
}

pub(crate) fn text_tag(key: &str, value: &str) -> Tag {
    Tag {
        key: key.to_owned(),
        v_str: Some(value.to_owned()),
        ..Tag::default()
    }
}

#[test]
fn the_type_of_a_tag_says_which_value_counts() {
    let all = |v_type| Tag {
        key: format!("of type {v_type}"),
        v_type,
        v_str: Some("a".to_owned()),
        v_double: Some(0.5),
        v_bool: Some(true),
        v_long: Some(-3),
        v_binary: Some(vec![0xFF]),
    };
    let absent = Tag {
        v_type: 3,
        v_long: None,
        ..text_tag("absent", "")
    };
    let tags = (0..5).map(all).chain([all(77), absent]).collect();
    let read = read_both(&minimal(tags, Vec::new()));
    let spans = spans(&read.bytes);
    let values: Vec<_> = spans[0]
        .attributes()
        .iter()
        .map(|attribute| format!("{:?}", attribute.value()))
        .collect();
    let expected = ["\"a\"", "0.5", "true", "-3", "Bytes([255])", "\"a\"", "0"];
    assert_eq!(values, expected);
}

#[test]
fn what_opentelemetry_put_into_tags_goes_back() {
    let error = Tag {
        key: "error".to_owned(),
        v_type: 2,
        v_bool: Some(true),
        ..Tag::default()
    };
    let dropped = Tag {
        key: "otel.dropped_links_count".to_owned(),
        v_type: 3,
        v_long: Some(9),
        ..Tag::default()
    };
    let tags = vec![
        text_tag("otel.library.name", "lib"),
        text_tag("otel.library.version", "1"),
        text_tag("otel.status_code", "ERROR"),
        text_tag("otel.status_description", "broken"),
        error,
        text_tag("w3c.tracestate", "a=1"),
        dropped,
        text_tag("http.method", "GET"),
    ];
    let read = read_both(&minimal(tags, Vec::new()));
    let spans = spans(&read.bytes);
    let span = spans[0];
    assert_eq!((span.scope().name(), span.scope().version()), ("lib", "1"));
    assert_eq!(span.status().code(), StatusCode::Error);
    assert_eq!(span.status().message(), "broken");
    assert_eq!(span.trace_state(), "a=1");
    assert_eq!(span.dropped_links_count(), 9);
    assert_eq!(span.kind(), SpanKind::Internal);
    assert_eq!(span.attributes().len(), 1);
}

/// Returns the name of the event that a log with these fields becomes, and its attributes.
fn event_of(fields: Vec<Tag>) -> (String, Vec<(String, String)>) {
    let mut batch = minimal(Vec::new(), Vec::new());
    batch.spans[0].logs = Some(vec![Log {
        timestamp: 5,
        fields,
    }]);
    let read = read_both(&batch);
    let spans = spans(&read.bytes);
    let event = spans[0].events().next().unwrap();
    let attributes = event.attributes().iter().map(|attribute| {
        let text = attribute.value().as_str().unwrap_or("no text");
        (attribute.key().to_owned(), text.to_owned())
    });
    (event.name().to_owned(), attributes.collect())
}

#[test]
fn an_event_that_has_no_name_but_a_message_is_named_by_that() {
    let whole = Tag {
        key: "message".to_owned(),
        v_type: 3,
        v_long: Some(7),
        ..Tag::default()
    };
    let message = text_tag("message", "retry");
    let pair = |key: &str, text: &str| (key.to_owned(), text.to_owned());
    let cases = [
        (
            vec![text_tag("key", "value"), message.clone()],
            "retry",
            vec![pair("key", "value")],
        ),
        (vec![message.clone()], "retry", Vec::new()),
        // The name stands behind the attributes.
        (
            vec![text_tag("message", "own"), message.clone()],
            "retry",
            vec![pair("message", "own")],
        ),
        (
            vec![text_tag("event", "log"), message.clone()],
            "log",
            vec![pair("message", "retry")],
        ),
        (
            vec![message.clone(), text_tag("event", "log")],
            "log",
            vec![pair("message", "retry")],
        ),
        (vec![text_tag("message", "")], "", vec![pair("message", "")]),
        (vec![whole], "", vec![pair("message", "no text")]),
        (
            vec![message, text_tag("outspan.otlp", "own=message")],
            "",
            vec![pair("message", "retry")],
        ),
    ];
    for (fields, name, attributes) in cases {
        assert_eq!(event_of(fields), (name.to_owned(), attributes));
    }
}

#[test]
fn what_nobody_understands_stays_an_attribute() {
    let not_true = Tag {
        key: "error".to_owned(),
        v_type: 2,
        v_bool: Some(false),
        ..Tag::default()
    };
    let tags = vec![
        not_true,
        text_tag("error", "timeout"),
        text_tag("span.kind", "Server"),
        text_tag("otel.status_code", "maybe"),
        text_tag("otel.status_description", "of nothing"),
        text_tag("otel.dropped_events_count", "3"),
    ];
    let count = tags.len();
    let read = read_both(&minimal(tags, Vec::new()));
    let spans = spans(&read.bytes);
    assert_eq!(spans[0].attributes().len(), count);
    assert_eq!(spans[0].status().code(), StatusCode::Unset);
    assert_eq!(spans[0].kind(), SpanKind::Unspecified);
}

#[test]
fn a_reference_of_the_same_trace_is_the_parent_if_there_is_no_other() {
    let reference = |ref_type, trace_id_high, span_id| SpanRef {
        ref_type,
        trace_id_low: 1,
        trace_id_high,
        span_id,
    };
    let references = vec![
        reference(1, -1, 7),
        reference(0, 5, 8),
        reference(0, -1, 9),
        reference(0, -1, 10),
    ];
    let read = read_both(&minimal(Vec::new(), references));
    let found = spans(&read.bytes);
    assert_eq!(found[0].parent_span_id(), Some(9_i64.to_be_bytes()));
    let links: Vec<_> = found[0]
        .links()
        .map(|link| {
            let kind = link.attributes().get("opentracing.ref_type");
            (link.span_id()[7], kind.and_then(ValueView::as_str))
        })
        .collect();
    assert_eq!(
        links,
        [(7, None), (8, Some("child_of")), (10, Some("child_of"))]
    );

    let read = read_both(&minimal(Vec::new(), vec![reference(1, -1, 7)]));
    let found = spans(&read.bytes);
    assert_eq!(found[0].parent_span_id(), Some(7_i64.to_be_bytes()));
    assert_eq!(found[0].links().count(), 1);
}

#[test]
fn flags_of_jaeger_survive_the_way_there_and_back() {
    let mut batch = minimal(Vec::new(), Vec::new());
    batch.spans[0].flags = 3;
    let read = read_both(&batch);
    let found = spans(&read.bytes);
    assert_eq!(found[0].flags(), 1);
    assert_eq!(
        found[0].attribute("jaeger.flags").unwrap().as_int(),
        Some(3)
    );

    let mut writer = Writer::new(WriteOptions::default());
    let piece = writer.pieces(&read.bytes).next().unwrap().unwrap();
    let PieceContent::Bytes(bytes) = piece.content else {
        panic!("it is small");
    };
    let (again, _) = read_with(Form::Binary, &bytes, |input| Batch::read(input)).unwrap();
    assert_eq!(again.spans[0].flags, 3);
    assert_eq!(again.spans[0].tags.as_ref().unwrap().len(), 0);
}

#[test]
fn spans_without_ids_are_left_out_and_counted() {
    let mut batch = minimal(Vec::new(), Vec::new());
    let good = batch.spans[0].clone();
    batch.spans.push(Span {
        span_id: 0,
        ..good.clone()
    });
    batch.spans.push(Span::default());
    batch.spans.push(good);
    let read = read_both(&batch);
    assert_eq!((read.spans, read.invalid), (2, 2));
    assert_eq!(read.first_invalid.unwrap(), "span 1: the span id is zero");

    batch.spans.clear();
    let read = read_both(&batch);
    assert_eq!((read.spans, read.invalid, read.bytes.len()), (0, 0, 0));
}

#[test]
fn text_that_is_none_keeps_its_bytes() {
    let bytes = written(
        Form::Binary,
        &minimal(vec![text_tag("key", "value")], Vec::new()),
    );
    let spoil = |bytes: &[u8], text: &[u8]| {
        let at = bytes.windows(text.len()).position(|window| window == text);
        let mut bytes = bytes.to_vec();
        bytes[at.unwrap()] = 0xFF;
        bytes
    };
    let bytes = spoil(&spoil(&spoil(&bytes, b"key"), b"value"), b"get");
    let read = read(Protocol::Binary, &bytes).unwrap();
    validate(&read.bytes).unwrap();
    let spans = spans(&read.bytes);
    assert_eq!(spans[0].name(), "\u{FFFD}et");
    let attribute = spans[0].attributes().iter().next().unwrap();
    assert_eq!(attribute.key(), "\u{FFFD}ey");
    assert!(matches!(attribute.value(), ValueView::Bytes(b"\xFFalue")));
}

#[test]
fn fields_come_in_any_order_and_unknown_ones_are_skipped() {
    // A batch with its spans before its process, and a span with fields of every type that nobody knows.
    let mut span = Vec::new();
    let unknown: &[&[u8]] = &[
        b"\x02\x00\x63\x01",
        b"\x03\x00\x63\x7f",
        b"\x04\x00\x63\0\0\0\0\0\0\0\0",
        b"\x06\x00\x63\0\x01",
        b"\x08\x00\x63\0\0\0\x01",
        b"\x0a\x00\x63\0\0\0\0\0\0\0\x01",
        b"\x0b\x00\x63\0\0\0\x02xx",
        b"\x0c\x00\x63\x02\x00\x01\x01\x00",
        b"\x0d\x00\x63\x0b\x08\0\0\0\x01\0\0\0\x01k\0\0\0\x05",
        b"\x0e\x00\x63\x02\0\0\0\x02\x01\x00",
        b"\x0f\x00\x63\x0c\0\0\0\x02\x00\x00",
        b"\x10\x00\x630123456789abcdef",
        // A known field of another type.
        b"\x0b\x00\x08\0\0\0\x01x",
    ];
    span.extend(unknown.concat());
    for (id, value) in [(9, 5_i64), (8, 6), (4, 0), (3, 2), (2, 0), (1, 1)] {
        span.extend([0x0a, 0, id]);
        span.extend(value.to_be_bytes());
    }
    span.extend(b"\x08\x00\x07\0\0\0\x01\x0b\x00\x05\0\0\0\x03get\x00");
    let mut bytes = b"\x0f\x00\x02\x0c\0\0\0\x01".to_vec();
    bytes.extend(&span);
    bytes.extend(b"\x0c\x00\x01\x0b\x00\x01\0\0\0\x04shop\x00\x00");
    let read = read(Protocol::Binary, &bytes).unwrap();
    let spans = spans(&read.bytes);
    assert_eq!(spans.len(), 1);
    assert_eq!((spans[0].name(), spans[0].flags()), ("get", 1));
    assert_eq!(spans[0].start_time_unix_nano(), 6_000);
    assert_eq!(spans[0].end_time_unix_nano(), 11_000);
    let name = spans[0].resource().attribute("service.name").unwrap();
    assert_eq!(name.as_str(), Some("shop"));
}

#[test]
fn says_what_is_missing_where() {
    let bytes = written(Form::Binary, &batch_01());
    // The field of the span's name becomes one that nobody knows.
    let place = b"\x0b\x00\x05";
    let at = bytes.windows(3).position(|window| window == place).unwrap();
    let mut bytes = bytes;
    bytes[at + 2] = 0x55;
    let error = read(Protocol::Binary, &bytes).unwrap_err();
    assert_eq!(error.kind(), WireErrorKind::Missing);
    assert_eq!(error.field(), "Span.operationName");
    assert_eq!(error.path(), "spans[0]");
    assert_eq!(
        error.to_string(),
        format!(
            "required field is absent in Span.operationName at byte {}",
            error.offset()
        )
    );
}

#[test]
fn refuses_what_is_no_batch() {
    let mut longer = written(Form::Binary, &batch_01());
    longer.push(0);
    let cases: [(&[u8], WireErrorKind); 6] = [
        (b"", WireErrorKind::Truncated),
        (b"\0", WireErrorKind::Missing),
        (b"{\"data\":[]}", WireErrorKind::WireType),
        (&longer, WireErrorKind::Trailing),
        // A list of two thousand million spans in a few bytes.
        (
            b"\x0c\0\x01\x0b\0\x01\0\0\0\0\0\x0f\0\x02\x0c\x7f\xff\xff\xff\0",
            WireErrorKind::Truncated,
        ),
        (
            b"\x0c\0\x01\x0b\0\x01\xff\xff\xff\xff",
            WireErrorKind::Number,
        ),
    ];
    for (bytes, kind) in cases {
        let error = read(Protocol::Binary, bytes).unwrap_err();
        assert_eq!(error.kind(), kind, "{bytes:?}: {error}");
    }
    for (protocol, form) in FORMS {
        let good = written(form, &batch_01());
        for len in 0..good.len() {
            assert!(read(protocol, &good[..len]).is_err(), "{len} bytes");
        }
    }
}

#[test]
fn refuses_datagrams_with_other_messages() {
    let limits = ReadLimits::default();
    let cases: [(&[u8], &str); 5] = [
        (
            b"\x82\x81\x00\x0femitZipkinBatch\x00",
            "spans of Zipkin's first version (emitZipkinBatch)",
        ),
        (
            b"\x82\x81\x00\x04ping\x00",
            "expected the message emitBatch but found \"ping\"",
        ),
        (
            b"\x82\x41\x00\x09emitBatch\x00",
            "message emitBatch of the unexpected type 2",
        ),
        (
            b"\x82\x82\x00\x09emitBatch\x00",
            "unsupported version of the format",
        ),
        (
            b"\x80\x02\x00\x04\0\0\0\x09emitBatch\0\0\0\0\0",
            "unsupported version of the format",
        ),
    ];
    for (bytes, words) in cases {
        let error = read_datagram(bytes, &limits).unwrap_err();
        assert_eq!(error.kind(), WireErrorKind::Version, "{error}");
        assert!(error.to_string().starts_with(words), "{error}");
    }
    let error = read_datagram(b"\x82\x81\x00\x09emitBatch\x00", &limits).unwrap_err();
    assert_eq!(
        (error.kind(), error.field()),
        (WireErrorKind::Missing, "emitBatch.batch")
    );
    // The old head of a binary message, without a version.
    let mut old = b"\0\0\0\x09emitBatch\x04\0\0\0\0\x0c\0\x01".to_vec();
    old.extend(written(Form::Binary, &batch_01()));
    old.push(0);
    assert_eq!(read_datagram(&old, &limits).unwrap().spans, 1);
}

#[test]
fn keeps_to_its_limits() {
    let two = written(Form::Compact, &batch_02());
    let mut limits = ReadLimits::default();
    limits.spans_max = 1;
    let refused = |limits: &ReadLimits, bytes: &[u8]| {
        let error = read_batch(bytes, Protocol::Compact, limits).unwrap_err();
        (error.kind(), error.to_string())
    };
    let (kind, words) = refused(&limits, &two);
    assert_eq!(kind, WireErrorKind::Limit);
    assert!(words.starts_with("more than 1 spans"), "{words}");

    let mut limits = ReadLimits::default();
    limits.items_max = 10;
    let (kind, words) = refused(&limits, &written(Form::Compact, &batch_01()));
    assert_eq!(kind, WireErrorKind::Limit);
    assert!(
        words.starts_with("more than 10 tags, logs and references"),
        "{words}"
    );

    let mut limits = ReadLimits::default();
    limits.bytes_max = two.len() - 1;
    assert_eq!(refused(&limits, &two).0, WireErrorKind::Limit);

    // Structs in structs, as an unknown field.
    let mut deep = vec![0x1c; 65];
    deep.splice(..0, [0x0c, 0xC6, 0x01]);
    deep.extend([0; 70]);
    let (kind, words) = refused(&ReadLimits::default(), &deep);
    assert_eq!(kind, WireErrorKind::Nesting);
    assert!(
        words.starts_with("values nested deeper than allowed"),
        "{words}"
    );
}

#[test]
fn broken_bytes_never_panic_and_never_make_an_invalid_request() {
    for (protocol, form) in FORMS {
        for batch in [batch_01(), batch_02()] {
            let good = written(form, &batch);
            for at in 0..good.len() {
                for change in [1, 0x80, 0xFF, good[at]] {
                    let mut bytes = good.clone();
                    bytes[at] ^= change;
                    if let Ok(read) = read(protocol, &bytes) {
                        let summary = validate(&read.bytes).unwrap();
                        assert_eq!((summary.spans, summary.invalid_spans), (read.spans, 0));
                    }
                }
            }
        }
    }
}

fn tags() -> impl Strategy<Value = Vec<Tag>> {
    let tag = (
        texts(),
        0..6_i32,
        option::of(texts()),
        option::of(any::<f64>()),
        option::of(any::<bool>()),
        option::of(any::<i64>()),
        option::of(vec(any::<u8>(), 0..20)),
    );
    let tag = tag.prop_map(
        |(key, v_type, v_str, v_double, v_bool, v_long, v_binary)| Tag {
            key,
            v_type,
            v_str,
            v_double,
            v_bool,
            v_long,
            v_binary,
        },
    );
    // More than 14 take another form in compact.
    vec(tag, 0..20)
}

fn batches() -> impl Strategy<Value = Batch> {
    let reference = (0..2_i32, any::<(i64, i64, i64)>()).prop_map(|(ref_type, ids)| SpanRef {
        ref_type,
        trace_id_low: ids.0,
        trace_id_high: ids.1,
        span_id: ids.2,
    });
    let log = (any::<i64>(), tags()).prop_map(|(timestamp, fields)| Log { timestamp, fields });
    let span = (
        any::<(i64, i64, i64, i64)>(),
        texts(),
        option::of(vec(reference, 0..3)),
        any::<(i32, i64, i64)>(),
        option::of(tags()),
        option::of(vec(log, 0..3)),
    );
    let span = span.prop_map(|(ids, operation_name, references, rest, tags, logs)| Span {
        trace_id_low: ids.0,
        trace_id_high: ids.1,
        span_id: ids.2,
        parent_span_id: ids.3,
        operation_name,
        references,
        flags: rest.0,
        start_time: rest.1,
        duration: rest.2,
        tags,
        logs,
    });
    (texts(), option::of(tags()), vec(span, 0..4)).prop_map(|(service_name, tags, spans)| Batch {
        process: Process { service_name, tags },
        spans,
    })
}

/// What a tag says, with the type that it says it in.
fn typed(tag: &Tag) -> String {
    let value = match tag.v_type {
        0 => format!("{:?}", tag.v_str.as_ref().unwrap()),
        1 => format!("{:?}", tag.v_double.unwrap()),
        2 => format!("{:?}", tag.v_bool.unwrap()),
        3 => format!("{:?}", tag.v_long.unwrap()),
        _ => format!("{:?}", tag.v_binary.as_ref().unwrap()),
    };
    format!("{}={value}", tag.key)
}

fn all_typed(tags: Option<&Vec<Tag>>) -> Vec<String> {
    tags.into_iter().flatten().map(typed).collect()
}

/// The mapping that OpenTelemetry specified, as another reader of Thrift sees it.
#[test]
fn writes_what_the_specification_says() {
    let json = r#"{"resourceSpans":[{
        "resource":{"attributes":[
            {"key":"service.name","value":{"stringValue":"shop"}},
            {"key":"host.name","value":{"stringValue":"h1"}}]},
        "scopeSpans":[{"scope":{"name":"lib","version":"1.2"},"spans":[{
            "traceId":"fffffffffffffffe0000000000000102","spanId":"fffffffffffffffd",
            "parentSpanId":"0000000000000007","name":"GET /","kind":3,"flags":1,
            "startTimeUnixNano":"1700000000000001999","endTimeUnixNano":"1700000000000004999",
            "attributes":[
                {"key":"text","value":{"stringValue":"a"}},
                {"key":"truth","value":{"boolValue":true}},
                {"key":"whole","value":{"intValue":"-5"}},
                {"key":"part","value":{"doubleValue":0.5}},
                {"key":"list","value":{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"x"}]}}}],
            "droppedAttributesCount":1,"droppedEventsCount":2,"droppedLinksCount":3,
            "events":[
                {"timeUnixNano":"1700000000000002999","name":"retry",
                 "attributes":[{"key":"after","value":{"intValue":"2"}}]},
                {"timeUnixNano":"1700000000000003999","name":"hidden",
                 "attributes":[{"key":"event","value":{"stringValue":"shown"}}]}],
            "links":[{"traceId":"00000000000000030000000000000004","spanId":"0000000000000005"}],
            "status":{"code":2,"message":"broken"}
        },{
            "traceId":"fffffffffffffffe0000000000000102","spanId":"0000000000000009","kind":1
        }]}]
    },{
        "scopeSpans":[{"spans":[{
            "traceId":"00000000000000000000000000000001","spanId":"0000000000000001","kind":2,
            "status":{"code":1}
        }]}]
    }]}"#;
    let mut request = Vec::new();
    read_json(json.as_bytes(), &mut request).unwrap();
    let mut writer = Writer::new(WriteOptions::default());
    let batches: Vec<Batch> = writer
        .pieces(&request)
        .map(|piece| {
            let PieceContent::Bytes(bytes) = piece.unwrap().content else {
                panic!("no span is that large");
            };
            let (batch, rest) = read_with(Form::Binary, &bytes, |it| Batch::read(it)).unwrap();
            assert_eq!(rest, 0);
            batch
        })
        .collect();
    let [shop, unknown] = &batches[..] else {
        panic!("a batch for each resource: {batches:?}");
    };
    assert_eq!(shop.process.service_name, "shop");
    let process = all_typed(shop.process.tags.as_ref());
    assert!(
        process.contains(&r#"host.name="h1""#.to_owned()),
        "{process:?}"
    );
    assert!(process.iter().all(|tag| !tag.starts_with("service.name")));
    assert_eq!(unknown.process.service_name, "unknown_service");

    let span = &shop.spans[0];
    assert_eq!((span.trace_id_high, span.trace_id_low), (-2, 258));
    assert_eq!((span.span_id, span.parent_span_id), (-3, 7));
    assert_eq!((span.start_time, span.duration), (1_700_000_000_000_001, 3));
    let tags = all_typed(span.tags.as_ref());
    for tag in [
        r#"otel.scope.name="lib""#,
        r#"otel.scope.version="1.2""#,
        r#"otel.library.name="lib""#,
        r#"otel.library.version="1.2""#,
        r#"span.kind="client""#,
        r#"otel.status_code="ERROR""#,
        r#"otel.status_description="broken""#,
        "error=true",
        r#"text="a""#,
        "truth=true",
        "whole=-5",
        "part=0.5",
        r#"list="[1,\"x\"]""#,
        "otel.dropped_attributes_count=1",
        "otel.dropped_events_count=2",
        "otel.dropped_links_count=3",
    ] {
        assert!(tags.contains(&tag.to_owned()), "{tag} is not in {tags:?}");
    }
    let references = span.references.as_ref().unwrap();
    let link = references.last().unwrap();
    assert_eq!((link.ref_type, link.span_id), (1, 5));
    assert_eq!((link.trace_id_high, link.trace_id_low), (3, 4));
    let logs = span.logs.as_ref().unwrap();
    assert_eq!(logs[0].timestamp, 1_700_000_000_000_002);
    assert_eq!(
        all_typed(Some(&logs[0].fields)),
        [r#"event="retry""#, "after=2"]
    );
    let shown = all_typed(Some(&logs[1].fields));
    assert!(shown.contains(&r#"event="shown""#.to_owned()), "{shown:?}");
    assert!(
        !shown.contains(&r#"event="hidden""#.to_owned()),
        "{shown:?}"
    );

    let quiet = all_typed(shop.spans[1].tags.as_ref());
    for key in ["span.kind", "error", "otel.status_", "otel.dropped_"] {
        assert!(
            quiet.iter().all(|tag| !tag.starts_with(key)),
            "{key}: {quiet:?}"
        );
    }
    let fine = all_typed(unknown.spans[0].tags.as_ref());
    for tag in [r#"span.kind="server""#, r#"otel.status_code="OK""#] {
        assert!(fine.contains(&tag.to_owned()), "{tag} is not in {fine:?}");
    }
    assert!(!fine.contains(&"error=true".to_owned()), "{fine:?}");
}

fn every_form() -> Vec<(WriteOptions, Form)> {
    let mut all = Vec::new();
    for dialect in [Dialect::OpenTelemetry, Dialect::Collector] {
        for envelope in [Envelope::Batch, Envelope::EmitBatch] {
            for (protocol, form) in FORMS {
                let options = WriteOptions::default().dialect(dialect).envelope(envelope);
                all.push((options.protocol(protocol), form));
            }
        }
    }
    all
}

proptest! {
    #[test]
    fn the_thrift_crate_reads_what_we_write_and_writes_it_so(request in valid_requests()) {
        let bytes = request.encode_to_vec();
        for (options, form) in every_form() {
            let mut writer = Writer::new(options.clone());
            let mut count = 0;
            for piece in writer.pieces(&bytes) {
                let piece = piece.unwrap();
                let PieceContent::Bytes(message) = piece.content else {
                    panic!("no span is that large");
                };
                let (batch, rest) = match options.envelope {
                    Envelope::Batch => read_with(form, &message, |input| Batch::read(input)).unwrap(),
                    _ => {
                        let ((name, batch), rest) = read_with(form, &message, read_emit_batch).unwrap();
                        prop_assert_eq!(name, "emitBatch");
                        (batch, rest)
                    }
                };
                prop_assert_eq!(rest, 0);
                prop_assert_eq!(batch.spans.len(), piece.spans.len());
                count += batch.spans.len();
                // Not only can it read the bytes: it would have written the same.
                let again = written(form, &batch);
                let ours = message.windows(again.len()).any(|window| window == again);
                prop_assert!(ours, "{:?}", options);
            }
            prop_assert_eq!(count, spans(&bytes).len());
        }
    }

    #[test]
    fn we_read_what_the_thrift_crate_writes(batch in batches()) {
        let read = read_both(&batch);
        let found = spans(&read.bytes);
        let wanted = batch.spans.iter().filter(|span| {
            (span.trace_id_low, span.trace_id_high) != (0, 0) && span.span_id != 0
        });
        let mut wanted: Vec<_> = wanted.map(|span| (span.span_id, span.operation_name.clone())).collect();
        let mut names: Vec<_> = found
            .iter()
            .map(|span| (i64::from_be_bytes(span.span_id()), span.name().to_owned()))
            .collect();
        wanted.sort();
        names.sort();
        prop_assert_eq!(names, wanted);
        prop_assert_eq!(read.spans + read.invalid, batch.spans.len());
        let tags: usize = batch.spans.iter().map(|span| span.tags.as_ref().map_or(0, Vec::len)).sum();
        let with_flags = batch.spans.iter().filter(|span| span.flags & !1 != 0).count();
        let attributes: usize = found.iter().map(|span| span.attributes().len()).sum();
        if read.invalid == 0 {
            // No generated key means anything special.
            prop_assert_eq!(attributes, tags + with_flags);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        for (protocol, _) in FORMS {
            if let Ok(read) = read(protocol, &bytes) {
                prop_assert!(validate(&read.bytes).is_ok());
            }
        }
        if let Ok(read) = read_datagram(&bytes, &ReadLimits::default()) {
            prop_assert!(ExportTraceServiceRequest::decode(read.bytes).is_ok());
        }
    }
}
