//! The JSON of Jaeger's query API, read and written.

#![allow(clippy::unwrap_used)]

use outspan_wire::PieceContent;
use outspan_wire::ReadRequest;
use outspan_wire::jaeger::Protocol;
use outspan_wire::jaeger::ReadLimits;
use outspan_wire::jaeger::WriteOptions;
use outspan_wire::jaeger::Writer;
use outspan_wire::jaeger::read_batch;
use outspan_wire::jaeger::read_query_json;
use outspan_wire::jaeger::write_query_json;
use outspan_wire::otlp::RequestView;
use outspan_wire::otlp::SpanView;
use outspan_wire::otlp::StatusCode;
use outspan_wire::otlp::ValueView;
use outspan_wire::otlp::WireError;
use outspan_wire::otlp::WireErrorKind;
use outspan_wire::otlp::read_json;
use outspan_wire::otlp::validate;
use proptest::prelude::*;
use prost::Message;
use serde_json::Value as Json;

use crate::common::FlatSpan;
use crate::common::flat;
use crate::common::valid_requests;
use crate::doubles::with_one_nan;

const UI_01: &str = include_str!("../vectors/jaeger/uimodel.ui_01.json");

/// OTLP with which Jaeger tests its storages.
const OTLP: [&str; 10] = [
    include_str!("../vectors/jaeger/v2memory.otel_traces_01.json"),
    include_str!("../vectors/jaeger/v2memory.db_traces_01.json"),
    include_str!("../vectors/jaeger/v2memory.db_traces_02.json"),
    include_str!("../vectors/jaeger/integration.example_trace.json"),
    include_str!("../vectors/jaeger/integration.link_attributes_trace.json"),
    include_str!("../vectors/jaeger/integration.log_tags_trace.json"),
    include_str!("../vectors/jaeger/integration.process_tags_trace.json"),
    include_str!("../vectors/jaeger/integration.scope_attributes_trace.json"),
    include_str!("../vectors/jaeger/integration.scope_name_version_trace.json"),
    include_str!("../vectors/jaeger/integration.span_tags_trace.json"),
];

fn read(text: &str) -> Result<ReadRequest, WireError> {
    read_query_json(text.as_bytes(), &ReadLimits::default())
}

fn spans(read: &ReadRequest) -> Vec<SpanView<'_>> {
    RequestView::new(&read.bytes).spans().collect()
}

/// The spans of a request in an order of their own, because traces and scopes are put together.
fn sorted(bytes: &[u8]) -> Vec<FlatSpan> {
    let mut spans = flat(bytes);
    spans.sort();
    spans
}

/// What comes back of a request by way of Thrift.
fn through_thrift(request: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(WriteOptions::default());
    let mut all = Vec::new();
    for piece in writer.pieces(request) {
        let PieceContent::Bytes(batch) = piece.unwrap().content else {
            panic!("no span is that large");
        };
        let read = read_batch(&batch, Protocol::Binary, &ReadLimits::default());
        all.extend_from_slice(&read.unwrap().bytes);
    }
    all
}

#[test]
fn reads_the_answer_of_a_query() {
    let alone = read(UI_01).unwrap();
    let in_data = read(&format!(
        "{{\"data\":[{UI_01}],\"total\":0,\"errors\":null}}"
    ))
    .unwrap();
    let in_array = read(&format!("\u{FEFF}[{UI_01}]")).unwrap();
    assert_eq!((&alone, &alone), (&in_data, &in_array));
    assert_eq!(alone.invalid, 0);
    let json: Json = serde_json::from_str(UI_01).unwrap();
    let wanted = json["spans"].as_array().unwrap();
    assert_eq!(alone.spans, wanted.len());
    assert_eq!(validate(&alone.bytes).unwrap().spans, wanted.len());

    let spans = spans(&alone);
    let of_name = |name: &str| spans.iter().filter(|span| span.name() == name).count();
    for span in wanted {
        assert!(of_name(span["operationName"].as_str().unwrap()) > 0);
    }
    let first = spans
        .iter()
        .find(|span| span.name() == "test-general-conversion")
        .unwrap();
    assert_eq!(u128::from_be_bytes(first.trace_id()), 1);
    assert_eq!(u64::from_be_bytes(first.span_id()), 2);
    assert_eq!(first.start_time_unix_nano(), 1_485_467_191_639_875_000);
    assert_eq!(first.duration().as_micros(), 5);
    let events: Vec<_> = first.events().map(|event| event.name()).collect();
    assert_eq!(events, ["some-event", ""]);
    let service = first.resource().attribute("service.name").unwrap();
    assert_eq!(
        service.as_str(),
        json["processes"]["p1"]["serviceName"].as_str()
    );

    let second = spans
        .iter()
        .find(|span| span.attribute("blob").is_some())
        .unwrap();
    assert_eq!(second.status().code(), StatusCode::Error);
    assert!(second.attribute("error").is_none());
    let limit = second.attribute("javascript_limit").unwrap().as_int();
    assert_eq!(limit, Some(9_223_372_036_854_775_222));
    assert!(matches!(
        second.attribute("temperature"),
        Some(ValueView::Double(72.5))
    ));
    assert!(matches!(
        second.attribute("blob"),
        Some(ValueView::Bytes([0, 0, 0x30, 0x39]))
    ));
    let child = spans.iter().find(|span| span.span_id()[7] == 3).unwrap();
    assert_eq!(child.parent_span_id().unwrap()[7], 2);
    assert_eq!(child.links().count(), 0);
}

#[test]
fn refuses_what_is_no_answer_with_traces() {
    let model = include_str!("../vectors/jaeger/uimodel.domain_01.json");
    let cases = [
        (model, WireErrorKind::JsonType, "expected a whole number"),
        (
            "{\"data\":null,\"errors\":[{\"code\":404}]}",
            WireErrorKind::Missing,
            "neither traces (data) nor spans",
        ),
        (
            "{\"spans\":[{\"spanID\":\"1\"}]}",
            WireErrorKind::Missing,
            "a span without traceID in spans[0] at line 1, column 11",
        ),
        ("{}", WireErrorKind::Missing, "neither traces"),
        ("[{}]", WireErrorKind::Missing, "a trace without spans"),
        ("[[]]", WireErrorKind::JsonType, "expected an object"),
        (
            "{\"spans\":[{\"traceID\":\"x\"}]}",
            WireErrorKind::Encoding,
            "expected an id of up to 32 hexadecimal digits",
        ),
        (
            "{\"spans\":[{\"spanID\":\"+1\"}]}",
            WireErrorKind::Encoding,
            "expected an id of up to 16 hexadecimal digits",
        ),
        (
            "{\"spans\":[{\"spanID\":\"10000000000000000\"}]}",
            WireErrorKind::Encoding,
            "expected an id",
        ),
        (
            "{\"spans\":[]} x",
            WireErrorKind::JsonSyntax,
            "text after the end",
        ),
        (
            "{\"spans\":[",
            WireErrorKind::JsonSyntax,
            "expected ',' or ']' in spans",
        ),
    ];
    for (text, kind, words) in cases {
        let error = read(text).unwrap_err();
        assert_eq!(error.kind(), kind, "{text}: {error}");
        assert!(error.to_string().contains(words), "{text}: {error}");
    }
}

#[test]
fn reads_what_other_writers_make_of_it() {
    let text = r#"[{"spans": [{
        "traceID": "00000000000000000000000000000abC", "spanID": "1", "parentSpanID": "", "operationName": null,
        "startTime": "12", "duration": 3.0, "flags": 4294967295, "logs": null, "warnings": ["clock skew"], "tags": [
            {"value": "17", "type": "int64", "key": "late type"},
            {"key": "no type", "value": 1.5}, {"key": "whole", "value": 2}, {"key": "list", "value": [1, 2]},
            {"key": "not a number", "type": "float64", "value": "NaN"}, {"key": "odd", "type": "bool", "value": "maybe"},
            {"key": "nothing", "type": "string", "value": null}, {"key": "single", "type": "float64", "value": 3}
        ],
        "process": {"serviceName": "own", "tags": null}
    }, {"traceID": "abc", "spanID": "2", "startTime": 1, "processID": "gone", "references": null}], "processes": null}]"#;
    let read = read(text).unwrap();
    let spans = spans(&read);
    assert_eq!((read.spans, read.invalid), (2, 0));
    assert_eq!(u128::from_be_bytes(spans[0].trace_id()), 0xABC);
    assert_eq!(
        (
            spans[0].start_time_unix_nano(),
            spans[0].end_time_unix_nano()
        ),
        (12_000, 15_000)
    );
    assert_eq!(spans[0].flags(), 1);
    let service = spans[0].resource().attribute("service.name").unwrap();
    assert_eq!(service.as_str(), Some("own"));
    assert!(spans[1].resource().attributes().is_empty());
    let values: Vec<_> = spans[0]
        .attributes()
        .iter()
        .map(|attribute| format!("{:?}", attribute.value()))
        .collect();
    let expected = [
        "17",
        "1.5",
        "2",
        "\"[1, 2]\"",
        "NaN",
        "\"maybe\"",
        "Empty",
        "3.0",
        "-1",
    ];
    assert_eq!(values, expected);
}

#[test]
fn keeps_to_its_limits() {
    let refused = |limits: &ReadLimits| {
        let error = read_query_json(UI_01.as_bytes(), limits).unwrap_err();
        assert_eq!(error.kind(), WireErrorKind::Limit);
        error.to_string()
    };
    let mut limits = ReadLimits::default();
    limits.spans_max = 1;
    assert!(refused(&limits).starts_with("more than 1 spans"));
    let mut limits = ReadLimits::default();
    limits.items_max = 2;
    assert!(refused(&limits).starts_with("more than 2 tags, logs and references"));
    let mut limits = ReadLimits::default();
    limits.bytes_max = 100;
    assert!(refused(&limits).starts_with("more than 100 bytes"));
}

#[test]
fn what_jaegers_storages_have_to_keep_comes_back() {
    for json in OTLP {
        let mut request = Vec::new();
        read_json(json.as_bytes(), &mut request).unwrap();
        let wanted = sorted(&request);
        let wanted: Vec<_> = wanted.iter().map(without_empty_status).collect();
        let thrift = sorted(&through_thrift(&request));
        assert_eq!(thrift, wanted, "{json}");
        let query = write_query_json(&request).unwrap();
        let read = read_query_json(&query, &ReadLimits::default()).unwrap();
        assert_eq!(sorted(&read.bytes), wanted, "{json}");
    }
}

/// A status that says nothing is the same as none.
fn without_empty_status(span: &FlatSpan) -> FlatSpan {
    use opentelemetry_proto::tonic::trace::v1::Span;
    let mut decoded = Span::decode(&*span.4).unwrap();
    decoded.status = decoded
        .status
        .filter(|status| *status != Default::default());
    let mut span = span.clone();
    span.4 = decoded.encode_to_vec();
    span
}

#[test]
fn writes_traces_with_their_processes_as_jaeger_does() {
    let mut request = Vec::new();
    read_json(OTLP[0].as_bytes(), &mut request).unwrap();
    let json: Json = serde_json::from_slice(&write_query_json(&request).unwrap()).unwrap();
    let traces = json["data"].as_array().unwrap();
    let mut count = 0;
    for trace in traces {
        let processes = trace["processes"].as_object().unwrap();
        for span in trace["spans"].as_array().unwrap() {
            assert_eq!(span["traceID"], trace["traceID"]);
            assert!(processes.contains_key(span["processID"].as_str().unwrap()));
            count += 1;
        }
    }
    assert_eq!(count, RequestView::new(&request).spans().count());
    let empty: Json = serde_json::from_slice(&write_query_json(b"").unwrap()).unwrap();
    assert_eq!(empty["data"], Json::Array(Vec::new()));
}

proptest! {
    #[test]
    fn query_json_keeps_what_thrift_keeps(request in valid_requests()) {
        let bytes = with_one_nan(request).encode_to_vec();
        let json = write_query_json(&bytes).unwrap();
        prop_assert!(serde_json::from_slice::<Json>(&json).is_ok());
        let read = read_query_json(&json, &ReadLimits::default()).unwrap();
        prop_assert_eq!(read.invalid, 0);
        prop_assert!(sorted(&read.bytes) == sorted(&through_thrift(&bytes)));
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}", at in 0..UI_01.len(), byte in any::<u8>()) {
        if let Ok(read) = read(&text) {
            prop_assert!(validate(&read.bytes).is_ok());
        }
        let mut spoilt = UI_01.as_bytes().to_vec();
        spoilt[at] = byte;
        if let Ok(read) = read_query_json(&spoilt, &ReadLimits::default()) {
            prop_assert_eq!(validate(&read.bytes).unwrap().spans, read.spans);
        }
    }
}
