//! What we write as OTLP JSON, `serde` reads as the same request.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::ArrayValue;
use opentelemetry_proto::tonic::common::v1::EntityRef;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::KeyValueList;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use outspan_wire::otlp::read_json;
use outspan_wire::otlp::write_json;
use proptest::prelude::*;
use prost::Message;

use crate::common;
use crate::doubles;

fn written(request: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    write_json(request, &mut text);
    text
}

fn read(text: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    read_json(text, &mut request).expect("we read what we write");
    request
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Special numbers are left out, because the `serde` types read a `doubleValue` from JSON numbers only
    /// (the proto3 JSON mapping wants `NaN` and the infinities as strings). The tests below read them.
    #[test]
    fn serde_reads_the_same_request(request in common::requests()) {
        let request = doubles::plain(request);
        let text = written(&request.encode_to_vec());
        let read: ExportTraceServiceRequest = serde_json::from_slice(&text).expect("serde reads it");
        prop_assert_eq!(&read, &request);
        let read: TracesData = serde_json::from_slice(&text).expect("serde reads it as a file's line, too");
        prop_assert_eq!(read.encode_to_vec(), request.encode_to_vec());
    }

    #[test]
    fn our_reader_reads_the_same_request(request in common::requests()) {
        let request = doubles::with_one_nan(request);
        let text = written(&request.encode_to_vec());
        let read = ExportTraceServiceRequest::decode(&*read(&text)).expect("prost reads it");
        prop_assert_eq!(read.encode_to_vec(), request.encode_to_vec());
    }

    #[test]
    fn writing_what_was_read_gives_the_same_text_on_one_line(request in common::requests()) {
        let text = written(&request.encode_to_vec());
        prop_assert_eq!(&written(&read(&text)), &text);
        prop_assert!(!text.contains(&b'\n'));
        let value: serde_json::Value = serde_json::from_slice(&text).expect("it is JSON");
        prop_assert!(value.is_object());
    }

    #[test]
    fn bytes_that_nobody_validated_still_give_json(
        request in common::requests(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut request = request.encode_to_vec();
        for (place, byte) in edits {
            if !request.is_empty() {
                let place = place.index(request.len());
                request[place] = byte;
            }
        }
        let text = written(&request);
        let value: serde_json::Value = serde_json::from_slice(&text).expect("it is JSON");
        prop_assert!(value.is_object());
    }
}

fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        key_strindex: 0,
    }
}

fn request_of(span: Span) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans: vec![span],
                ..Default::default()
            }],
            ..Default::default()
        }],
    }
}

fn span_text(span: Span) -> String {
    let text = written(&request_of(span).encode_to_vec());
    let text = String::from_utf8(text).expect("JSON is UTF-8");
    text.strip_prefix(r#"{"resourceSpans":[{"scopeSpans":[{"spans":["#)
        .and_then(|text| text.strip_suffix("]}]}]}"))
        .expect("nothing but the span is set")
        .to_owned()
}

fn value_text(value: Value) -> String {
    let text = span_text(Span {
        attributes: vec![key_value("k", value)],
        ..Default::default()
    });
    text.strip_prefix(r#"{"attributes":[{"key":"k","value":"#)
        .and_then(|text| text.strip_suffix("}]}"))
        .expect("nothing but the attribute is set")
        .to_owned()
}

#[test]
fn every_field_has_its_place() {
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![key_value(
                    "service.name",
                    Value::StringValue("shop".to_owned()),
                )],
                dropped_attributes_count: 1,
                entity_refs: vec![EntityRef {
                    schema_url: String::new(),
                    r#type: "service".to_owned(),
                    id_keys: vec!["service.name".to_owned(), "service.instance.id".to_owned()],
                    description_keys: Vec::new(),
                }],
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "lib".to_owned(),
                    version: "1.0".to_owned(),
                    attributes: vec![key_value("a", Value::BoolValue(false))],
                    dropped_attributes_count: 2,
                }),
                spans: vec![Span {
                    trace_id: (0xA0..0xB0).collect(),
                    span_id: (1..9).collect(),
                    trace_state: "a=b".to_owned(),
                    parent_span_id: (11..19).collect(),
                    flags: 0x301,
                    name: "GET /".to_owned(),
                    kind: 2,
                    start_time_unix_nano: 1_544_712_660_000_000_000,
                    end_time_unix_nano: u64::MAX,
                    attributes: vec![key_value("n", Value::IntValue(-7))],
                    dropped_attributes_count: 3,
                    events: vec![Event {
                        time_unix_nano: 5,
                        name: "e".to_owned(),
                        attributes: vec![key_value("d", Value::DoubleValue(0.5))],
                        dropped_attributes_count: 4,
                    }],
                    dropped_events_count: 5,
                    links: vec![Link {
                        trace_id: vec![0xFF; 16],
                        span_id: vec![0x0F; 8],
                        trace_state: "c=d".to_owned(),
                        attributes: vec![key_value("b", Value::BytesValue(vec![1, 2]))],
                        dropped_attributes_count: 6,
                        flags: 0x100,
                    }],
                    dropped_links_count: 7,
                    status: Some(Status {
                        message: "no".to_owned(),
                        code: 2,
                    }),
                }],
                schema_url: "https://scope".to_owned(),
            }],
            schema_url: "https://resource".to_owned(),
        }],
    };
    let expected = concat!(
        r#"{"resourceSpans":[{"resource":{"#,
        r#""attributes":[{"key":"service.name","value":{"stringValue":"shop"}}],"droppedAttributesCount":1,"#,
        r#""entityRefs":[{"schemaUrl":"","type":"service","idKeys":["service.name","service.instance.id"],"descriptionKeys":[]}]},"#,
        r#""scopeSpans":[{"scope":{"name":"lib","version":"1.0","#,
        r#""attributes":[{"key":"a","value":{"boolValue":false}}],"droppedAttributesCount":2},"#,
        r#""spans":[{"traceId":"a0a1a2a3a4a5a6a7a8a9aaabacadaeaf","spanId":"0102030405060708","traceState":"a=b","#,
        r#""parentSpanId":"0b0c0d0e0f101112","flags":769,"name":"GET /","kind":2,"#,
        r#""startTimeUnixNano":"1544712660000000000","endTimeUnixNano":"18446744073709551615","#,
        r#""attributes":[{"key":"n","value":{"intValue":"-7"}}],"droppedAttributesCount":3,"#,
        r#""events":[{"timeUnixNano":"5","name":"e","attributes":[{"key":"d","value":{"doubleValue":0.5}}],"droppedAttributesCount":4}],"#,
        r#""droppedEventsCount":5,"links":[{"traceId":"ffffffffffffffffffffffffffffffff","spanId":"0f0f0f0f0f0f0f0f","#,
        r#""traceState":"c=d","attributes":[{"key":"b","value":{"bytesValue":"AQI="}}],"droppedAttributesCount":6,"flags":256}],"#,
        r#""droppedLinksCount":7,"status":{"message":"no","code":2}}],"#,
        r#""schemaUrl":"https://scope"}],"schemaUrl":"https://resource"}]}"#,
    );
    let text = written(&request.encode_to_vec());
    assert_eq!(String::from_utf8_lossy(&text), expected);
}

#[test]
fn defaults_are_left_out_but_present_messages_stay() {
    assert_eq!(span_text(Span::default()), "{}");
    let span = Span {
        status: Some(Status::default()),
        events: vec![Event::default()],
        ..Default::default()
    };
    assert_eq!(span_text(span), r#"{"events":[{}],"status":{}}"#);
    assert_eq!(written(&[]), br#"{"resourceSpans":[]}"#);
}

#[test]
fn values_say_what_they_are_also_when_empty() {
    assert_eq!(
        value_text(Value::StringValue(String::new())),
        r#"{"stringValue":""}"#
    );
    assert_eq!(
        value_text(Value::BytesValue(Vec::new())),
        r#"{"bytesValue":""}"#
    );
    assert_eq!(
        value_text(Value::BoolValue(false)),
        r#"{"boolValue":false}"#
    );
    assert_eq!(value_text(Value::IntValue(0)), r#"{"intValue":"0"}"#);
    assert_eq!(
        value_text(Value::IntValue(i64::MIN)),
        r#"{"intValue":"-9223372036854775808"}"#
    );
    let array = Value::ArrayValue(ArrayValue::default());
    assert_eq!(value_text(array), r#"{"arrayValue":{"values":[]}}"#);
    let map = Value::KvlistValue(KeyValueList::default());
    assert_eq!(value_text(map), r#"{"kvlistValue":{"values":[]}}"#);
    let array = Value::ArrayValue(ArrayValue {
        values: vec![
            AnyValue { value: None },
            AnyValue {
                value: Some(Value::BoolValue(true)),
            },
        ],
    });
    assert_eq!(
        value_text(array),
        r#"{"arrayValue":{"values":[{},{"boolValue":true}]}}"#
    );
}

#[test]
fn numbers_are_short_and_special_ones_are_words() {
    for (value, text) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (0.1, "0.1"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1e20, "100000000000000000000"),
        (1e21, "1e21"),
        (-f64::MAX, "-1.7976931348623157e308"),
        (f64::NAN, "\"NaN\""),
        (f64::INFINITY, "\"Infinity\""),
        (f64::NEG_INFINITY, "\"-Infinity\""),
    ] {
        assert_eq!(
            value_text(Value::DoubleValue(value)),
            format!("{{\"doubleValue\":{text}}}")
        );
    }
}

#[test]
fn text_is_escaped_where_json_needs_it_and_nowhere_else() {
    let text = "q\" b\\ / \n\r\t\u{8}\u{c}\u{0}\u{1f}\u{7f} é 😀";
    let expected =
        r#"{"stringValue":"q\" b\\ / \n\r\t\b\f\u0000\u001f"#.to_owned() + "\u{7f} é 😀\"}";
    assert_eq!(value_text(Value::StringValue(text.to_owned())), expected);
}

#[test]
fn text_is_appended_to_what_is_there() {
    let mut text = b"}".to_vec();
    write_json(&[], &mut text);
    text.push(b'\n');
    write_json(&request_of(Span::default()).encode_to_vec(), &mut text);
    assert_eq!(
        String::from_utf8_lossy(&text),
        "}{\"resourceSpans\":[]}\n{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{}]}]}]}"
    );
}

#[test]
fn nesting_that_no_decoder_reads_ends_somewhere() {
    // Bytes of an AnyValue with 5,000 arrays in each other, which no validator lets pass.
    let mut value = vec![0x10, 0x01];
    for _ in 0..5000 {
        for tag in [0x0A, 0x2A] {
            let mut outer = vec![tag];
            prost::encoding::encode_varint(value.len() as u64, &mut outer);
            outer.append(&mut value);
            value = outer;
        }
    }
    for tag in [0x12, 0x4A, 0x12, 0x12, 0x0A] {
        let mut outer = vec![tag];
        prost::encoding::encode_varint(value.len() as u64, &mut outer);
        outer.append(&mut value);
        value = outer;
    }
    let text = written(&value);
    assert!(text.len() < 10_000, "{} bytes", text.len());
    serde_json::from_slice::<serde::de::IgnoredAny>(&text).expect("it is JSON");
}
