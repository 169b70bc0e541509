//! OTLP JSON as others write it, and as they should not, becomes the right protobuf or the right error.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use outspan_wire::otlp::JsonSummary;
use outspan_wire::otlp::WireError;
use outspan_wire::otlp::WireErrorKind;
use outspan_wire::otlp::read_json;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use serde::de::IgnoredAny;

use crate::common;
use crate::doubles;

fn read(text: &[u8]) -> Result<(ExportTraceServiceRequest, JsonSummary), WireError> {
    let mut request = Vec::new();
    let summary = read_json(text, &mut request)?;
    let request = ExportTraceServiceRequest::decode(&*request).expect("prost reads what we write");
    Ok((request, summary))
}

fn span_count(request: &ExportTraceServiceRequest) -> usize {
    let scopes = request.resource_spans.iter().flat_map(|it| &it.scope_spans);
    scopes.map(|scope| scope.spans.len()).sum()
}

fn read_span(span: &str) -> Result<Span, WireError> {
    let text = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#);
    let (mut request, summary) = read(text.as_bytes())?;
    assert_eq!(summary.spans, 1);
    Ok(request.resource_spans[0].scope_spans[0].spans.remove(0))
}

fn span(text: &str) -> Span {
    read_span(text).expect("the span is well-formed")
}

fn read_value(value: &str) -> Result<Option<Value>, WireError> {
    let mut span = read_span(&format!(
        r#"{{"attributes":[{{"key":"k","value":{value}}}]}}"#
    ))?;
    Ok(span
        .attributes
        .remove(0)
        .value
        .and_then(|value| value.value))
}

fn value(text: &str) -> Option<Value> {
    read_value(text).expect("the value is well-formed")
}

fn text_value(text: &str) -> Option<Value> {
    Some(Value::StringValue(text.to_owned()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Special numbers are left out: the `serde` types write them as null, which is no number any more.
    #[test]
    fn what_serde_writes_means_the_same(request in common::requests(), is_pretty: bool) {
        let request = doubles::plain(request);
        let text = if is_pretty {
            serde_json::to_vec_pretty(&request)
        } else {
            serde_json::to_vec(&request)
        };
        let (read, summary) = read(&text.expect("serde writes it")).expect("we read it");
        prop_assert_eq!(&read, &request);
        prop_assert_eq!(summary.spans, span_count(&request));
        prop_assert_eq!(summary.ignored_keys, 0);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let mut request = vec![1, 2, 3];
        if read_json(&bytes, &mut request).is_err() {
            prop_assert_eq!(request, [1, 2, 3]);
        }
    }

    /// A value behind an unknown key is checked for syntax alone, so both must say the same.
    #[test]
    fn syntax_of_arbitrary_text_is_judged_as_serde_judges_it(
        value in "[\\[\\]{},:\"\\\\abefnrtulsd0-9.E+\\- \n\t\u{0}-\u{1f}é]{0,24}",
    ) {
        assert_same_syntax(format!(r#"{{"x":{value}}}"#).as_bytes())?;
    }

    #[test]
    fn syntax_of_almost_numbers_is_judged_as_serde_judges_it(value in "[-+0-9.eE]{1,8}") {
        assert_same_syntax(format!(r#"{{"x":{value}}}"#).as_bytes())?;
    }

    #[test]
    fn syntax_of_almost_strings_is_judged_as_serde_judges_it(
        value in "(\\\\[\"\\\\/bfnrtuxU]|\\\\u[0-9a-gA-F]{0,5}|[ -~]|\n|\u{7f}|😀){0,8}",
    ) {
        assert_same_syntax(format!(r#"{{"x":"{value}"}}"#).as_bytes())?;
    }

    #[test]
    fn damaged_documents_are_refused_as_serde_refuses_them(
        request in common::requests(),
        damages in vec(damages(), 1..4),
        is_pretty: bool,
    ) {
        let mut text = if is_pretty {
            serde_json::to_vec_pretty(&request)
        } else {
            serde_json::to_vec(&request)
        }
        .expect("serde writes it");
        for damage in &damages {
            damage.apply(&mut text);
        }
        assert_same_syntax(&text)?;
    }
}

/// Holds our judgement of a text against `serde_json`'s.
///
/// They differ on purpose about a byte order mark, which we skip, and about nesting, which `IgnoredAny` does not
/// bound. A document can also be JSON and still not OTLP; then our error is of another kind.
fn assert_same_syntax(text: &[u8]) -> Result<(), TestCaseError> {
    let ours = read(text).map_err(|error| error.kind());
    let Ok(utf8) = std::str::from_utf8(text) else {
        prop_assert_eq!(ours.err(), Some(WireErrorKind::Utf8));
        return Ok(());
    };
    let theirs = serde_json::from_str::<IgnoredAny>(utf8);
    match (&ours, &theirs) {
        (Ok(_), Err(error)) => prop_assert!(false, "serde_json refuses {utf8:?}: {error}"),
        (Err(WireErrorKind::JsonSyntax | WireErrorKind::Utf8), Ok(_)) => {
            prop_assert!(false, "only we refuse {utf8:?}: {ours:?}");
        }
        _ => {}
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Damage {
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    Repeat(Index, usize),
    Cut(Index),
}

impl Damage {
    fn apply(&self, text: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        match self {
            Self::Remove(place, len) => {
                let start = place.index(text.len());
                let end = text.len().min(start + len);
                text.drain(start..end);
            }
            Self::Insert(place, bytes) => {
                let start = place.index(text.len());
                text.splice(start..start, bytes.iter().copied());
            }
            Self::Repeat(place, len) => {
                let start = place.index(text.len());
                let end = text.len().min(start + len);
                let part = text[start..end].to_vec();
                text.splice(start..start, part);
            }
            Self::Cut(place) => text.truncate(place.index(text.len())),
        }
    }
}

fn damages() -> impl Strategy<Value = Damage> {
    let pieces = prop_oneof![
        "[\\[\\]{},:\"\\\\0-9a-z.+-]{1,3}".prop_map(String::into_bytes),
        vec(any::<u8>(), 1..3),
        Just(b"null".to_vec()),
        Just(b"\"x\":[{}],".to_vec()),
    ];
    prop_oneof![
        (any::<Index>(), 1..4_usize).prop_map(|(place, len)| Damage::Remove(place, len)),
        (any::<Index>(), pieces).prop_map(|(place, bytes)| Damage::Insert(place, bytes)),
        (any::<Index>(), 1..40_usize).prop_map(|(place, len)| Damage::Repeat(place, len)),
        any::<Index>().prop_map(Damage::Cut),
    ]
}

#[test]
fn the_example_of_the_protocol_is_read() {
    let text = include_bytes!("../vectors/otlp/proto-examples.trace.json");
    let (request, summary) = read(text).expect("the example is OTLP");
    assert_eq!((summary.spans, summary.ignored_keys), (1, 0));

    let resource_spans = &request.resource_spans[0];
    let resource = resource_spans.resource.as_ref().expect("it has a resource");
    assert_eq!(resource.attributes[0].key, "service.name");
    assert_eq!(
        resource.attributes[0].value,
        Some(AnyValue {
            value: text_value("my.service")
        })
    );
    let scope_spans = &resource_spans.scope_spans[0];
    let scope = scope_spans.scope.as_ref().expect("it has a scope");
    assert_eq!(
        (scope.name.as_str(), scope.version.as_str()),
        ("my.library", "1.0.0")
    );
    assert_eq!(scope.attributes[0].key, "my.scope.attribute");

    let span = &scope_spans.spans[0];
    assert_eq!(
        span.trace_id,
        0x5B8EFFF798038103D269B633813FC60C_u128.to_be_bytes()
    );
    assert_eq!(span.span_id, 0xEEE19B7EC3C1B174_u64.to_be_bytes());
    assert_eq!(span.parent_span_id, 0xEEE19B7EC3C1B173_u64.to_be_bytes());
    assert_eq!((span.name.as_str(), span.kind), ("I'm a server span", 2));
    assert_eq!(span.start_time_unix_nano, 1_544_712_660_000_000_000);
    assert_eq!(span.end_time_unix_nano, 1_544_712_661_000_000_000);
    assert_eq!(span.attributes[0].key, "my.span.attr");
}

#[test]
fn the_lines_of_the_file_exporters_example_are_read_though_their_ids_are_empty() {
    let lines = include_str!("../vectors/otlp/spec-file-exporter.traces.jsonl").lines();
    let requests: Vec<ExportTraceServiceRequest> = lines
        .map(|line| read(line.as_bytes()).expect("each line is OTLP").0)
        .collect();
    assert_eq!(requests.len(), 4);

    let spans = &requests[0].resource_spans[0].scope_spans[0].spans;
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["operationA", "operationB"]);
    assert!(spans[0].trace_id.is_empty());
    assert_eq!(spans[0].end_time_unix_nano, 1_581_452_773_000_000_789);
    assert_eq!(spans[0].dropped_attributes_count, 1);
    assert_eq!(spans[0].events[0].dropped_attributes_count, 2);
    assert_eq!(spans[0].dropped_events_count, 1);
    let status = spans[0].status.as_ref().expect("it has a status");
    assert_eq!(
        (status.message.as_str(), status.code),
        ("status-cancelled", 2)
    );
    assert_eq!(spans[1].links[0].dropped_attributes_count, 4);
    assert_eq!(spans[1].dropped_links_count, 3);
    assert_eq!(spans[1].status, Some(Default::default()));
}

#[test]
fn a_document_of_logs_holds_no_spans_and_is_noticed() {
    let text = include_bytes!("../vectors/otlp/proto-examples.logs.json");
    let (request, summary) = read(text).expect("unknown keys are ignored");
    assert_eq!(request, ExportTraceServiceRequest::default());
    assert_eq!((summary.spans, summary.ignored_keys), (0, 1));
}

#[test]
fn integers_may_be_strings_or_numbers_in_every_decimal_form() {
    for text in [
        r#""1500000000""#,
        "1500000000",
        "1.5e9",
        "15e8",
        "1500000000.0",
        r#""1.5E+9""#,
        r#""0001500000000""#,
        r#""15\u00300000000""#,
    ] {
        let span = span(&format!(r#"{{"startTimeUnixNano":{text},"flags":{text}}}"#));
        assert_eq!(span.start_time_unix_nano, 1_500_000_000, "{text}");
        assert_eq!(span.flags, 1_500_000_000, "{text}");
        let value = value(&format!(r#"{{"intValue":{text}}}"#));
        assert_eq!(value, Some(Value::IntValue(1_500_000_000)), "{text}");
    }
    let extremes =
        span(r#"{"startTimeUnixNano":18446744073709551615,"droppedLinksCount":"4294967295"}"#);
    assert_eq!(extremes.start_time_unix_nano, u64::MAX);
    assert_eq!(extremes.dropped_links_count, u32::MAX);
    let value = value(r#"{"intValue":-9223372036854775808}"#);
    assert_eq!(value, Some(Value::IntValue(i64::MIN)));
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    for (field, text) in [
        ("startTimeUnixNano", "-1"),
        ("startTimeUnixNano", "1.5"),
        ("startTimeUnixNano", r#""18446744073709551616""#),
        ("startTimeUnixNano", "1e99"),
        ("flags", "4294967296"),
        ("kind", "2147483648"),
    ] {
        let error = read_span(&format!(r#"{{"{field}":{text}}}"#)).expect_err("it does not fit");
        assert_eq!(error.kind(), WireErrorKind::Number, "{field}: {text}");
    }
    for value in [
        r#"{"intValue":"9223372036854775808"}"#,
        r#"{"doubleValue":1e999}"#,
    ] {
        let error = read_value(value).expect_err("it does not fit");
        assert_eq!(error.kind(), WireErrorKind::Number, "{value}");
    }
}

#[test]
fn floating_point_numbers_may_be_strings_and_words() {
    for (text, expected) in [
        ("1", 1.0),
        ("-0.0", -0.0),
        ("2.5e-3", 0.0025),
        (r#""2.5e-3""#, 0.0025),
        (r#""Infinity""#, f64::INFINITY),
        (r#""-Infinity""#, f64::NEG_INFINITY),
    ] {
        match value(&format!(r#"{{"doubleValue":{text}}}"#)) {
            Some(Value::DoubleValue(value)) => assert_eq!(value.to_bits(), expected.to_bits()),
            other => panic!("{text} became {other:?}"),
        }
    }
    let Some(Value::DoubleValue(nan)) = value(r#"{"doubleValue":"NaN"}"#) else {
        panic!("NaN is a number of a kind");
    };
    assert!(nan.is_nan());
    for text in [
        r#""nan""#, r#""inf""#, r#""+1""#, r#"" 1""#, r#""""#, "true",
    ] {
        let error = read_value(&format!(r#"{{"doubleValue":{text}}}"#)).expect_err("no number");
        assert_eq!(error.kind(), WireErrorKind::JsonType, "{text}");
    }
}

#[test]
fn ids_may_have_any_letter_case() {
    let span =
        span(r#"{"traceId":"5B8eFFf798038103d269B633813FC60C","spanId":"\u0045EE19B7EC3C1B174"}"#);
    assert_eq!(
        span.trace_id,
        0x5B8EFFF798038103D269B633813FC60C_u128.to_be_bytes()
    );
    assert_eq!(span.span_id, 0xEEE19B7EC3C1B174_u64.to_be_bytes());
}

#[test]
fn an_id_of_a_wrong_length_is_left_to_the_validator() {
    let span = span(r#"{"traceId":"abcd","spanId":"","parentSpanId":"0102030405060708090a"}"#);
    assert_eq!(span.trace_id, [0xAB, 0xCD]);
    assert!(span.span_id.is_empty());
    assert_eq!(span.parent_span_id.len(), 10);
}

#[test]
fn an_id_that_is_not_hexadecimal_breaks_the_document() {
    for id in ["W47/95gDgQPSabYzgT/GDA==", "abc", "0x12", "zz"] {
        let error = read_span(&format!(r#"{{"name":"a","traceId":"{id}"}}"#)).expect_err("no hex");
        assert_eq!(error.kind(), WireErrorKind::Encoding, "{id}");
        assert_eq!(
            error.path(),
            "resourceSpans[0].scopeSpans[0].spans[0].traceId"
        );
    }
}

#[test]
fn bytes_may_be_in_both_alphabets_with_and_without_padding() {
    let bytes = Some(Value::BytesValue(vec![0xFB, 0xEF, 0xFF, 0xFE]));
    for text in ["++///g==", "++///g", "--___g==", "--___g", r"++\/\/\/g=="] {
        assert_eq!(
            value(&format!(r#"{{"bytesValue":"{text}"}}"#)),
            bytes,
            "{text}"
        );
    }
    assert_eq!(
        value(r#"{"bytesValue":""}"#),
        Some(Value::BytesValue(Vec::new()))
    );
    for text in ["+-", "a", "ab=c", "a b=", "é"] {
        let error = read_value(&format!(r#"{{"bytesValue":"{text}"}}"#)).expect_err("no base64");
        assert_eq!(error.kind(), WireErrorKind::Encoding, "{text}");
    }
}

#[test]
fn enums_may_be_numbers_or_against_the_rules_names() {
    for (text, kind) in [
        ("3", 3),
        (r#""3""#, 3),
        ("3.0", 3),
        (r#""SPAN_KIND_CLIENT""#, 3),
        ("99", 99),
        ("-1", -1),
    ] {
        assert_eq!(span(&format!(r#"{{"kind":{text}}}"#)).kind, kind, "{text}");
    }
    for (text, code) in [
        ("2", 2),
        (r#""STATUS_CODE_ERROR""#, 2),
        (r#""STATUS_CODE_OK""#, 1),
    ] {
        let span = span(&format!(r#"{{"status":{{"code":{text}}}}}"#));
        assert_eq!(span.status.expect("it has a status").code, code, "{text}");
    }
    let error = read_span(r#"{"kind":"client"}"#).expect_err("no such name");
    assert_eq!(error.kind(), WireErrorKind::JsonType);
}

#[test]
fn null_is_as_if_the_key_were_absent() {
    let everything = r#"{"traceId":null,"spanId":null,"parentSpanId":null,"traceState":null,"flags":null,
        "name":null,"kind":null,"startTimeUnixNano":null,"endTimeUnixNano":null,"attributes":null,
        "droppedAttributesCount":null,"events":null,"droppedEventsCount":null,"links":null,
        "droppedLinksCount":null,"status":null,"unknown":null}"#;
    assert_eq!(span(everything), Span::default());
    for (text, expected) in [
        (r#"{"resourceSpans":null}"#, 0),
        (
            r#"{"resourceSpans":[{"resource":null,"scopeSpans":null,"schemaUrl":null}]}"#,
            1,
        ),
    ] {
        let (request, _) = read(text.as_bytes()).expect("null is allowed");
        assert_eq!(request.resource_spans.len(), expected);
    }
    assert_eq!(value("null"), None);
    assert_eq!(value(r#"{"stringValue":null,"intValue":null}"#), None);
    assert_eq!(
        value(r#"{"stringValue":"a","intValue":null}"#),
        text_value("a")
    );
    let Some(Value::ArrayValue(array)) =
        value(r#"{"arrayValue":{"values":[null,{"boolValue":true}]}}"#)
    else {
        panic!("it is an array");
    };
    assert_eq!(array.values.len(), 2, "a null keeps its place");
}

#[test]
fn unknown_keys_are_ignored_at_every_level() {
    let noise = r#""x":{"a":[1,2.5e3,{"b":null}],"c":"\ud83d\ude00"},"snake_case":[[]],"#;
    let text = format!(
        r#"{{{noise}"resourceSpans":[{{{noise}"resource":{{{noise}"attributes":[{{{noise}"key":"a","value":{{{noise}"stringValue":"b"}}}}]}},
        "scopeSpans":[{{{noise}"scope":{{{noise}"name":"s"}},"spans":[{{{noise}"name":"n",
        "events":[{{{noise}"name":"e"}}],"links":[{{{noise}"traceState":"t"}}],"status":{{{noise}"code":1}}}}]}}]}}]}}"#
    );
    let (noisy, summary) = read(text.as_bytes()).expect("unknown keys are ignored");
    assert_eq!(summary.ignored_keys, 2 * text.matches(noise).count());
    let (quiet, summary) = read(text.replace(noise, "").as_bytes()).expect("it is OTLP");
    assert_eq!(summary.ignored_keys, 0);
    assert_eq!(noisy, quiet);
    assert_eq!(
        quiet.resource_spans[0].scope_spans[0].spans[0].links.len(),
        1
    );
}

#[test]
fn of_a_repeated_key_the_last_scalar_wins_and_lists_continue() {
    let span = span(
        r#"{"name":"a","name":"b","kind":3,"kind":0,"flags":1,"flags":2,"traceState":"x","traceState":"",
            "attributes":[{"key":"first","key":"k"}],"attributes":[{"key":"second"}],
            "status":{"code":2},"status":{"message":"m"}}"#,
    );
    assert_eq!((span.name.as_str(), span.kind, span.flags), ("b", 0, 2));
    assert_eq!(span.trace_state, "");
    let keys: Vec<&str> = span.attributes.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(keys, ["k", "second"]);
    let status = span.status.expect("it has a status");
    assert_eq!((status.code, status.message.as_str()), (2, "m"));
    assert_eq!(
        value(r#"{"stringValue":"a","boolValue":true}"#),
        Some(Value::BoolValue(true))
    );
}

#[test]
fn keys_may_hold_escapes_and_text_may_begin_with_a_byte_order_mark() {
    assert_eq!(span(r#"{"n\u0061me":"n"}"#).name, "n");
    let (request, summary) =
        read("\u{feff} {\"resourceSpans\":[{}]}\n".as_bytes()).expect("it is OTLP");
    assert_eq!((request.resource_spans.len(), summary.spans), (1, 0));
}

#[test]
fn text_with_escapes_is_decoded() {
    let long = "\\n".repeat(100);
    let decoded = span(&format!(r#"{{"name":"{long}","traceState":"cut \ud83d"}}"#));
    assert_eq!(decoded.name, "\n".repeat(100));
    assert_eq!(decoded.trace_state, "cut \u{FFFD}");
}

#[test]
fn errors_say_where_and_what() {
    for (text, kind, message) in [
        (
            "",
            WireErrorKind::JsonSyntax,
            "invalid JSON: the text ends where a value should be at line 1, column 1",
        ),
        (
            "[]",
            WireErrorKind::JsonType,
            "expected an object but found an array at line 1, column 1",
        ),
        (
            "{\"resourceSpans\":[]} x",
            WireErrorKind::JsonSyntax,
            "invalid JSON: text after the end of the document at line 1, column 22",
        ),
        (
            "{\n \"resourceSpans\": [\n  {},\n  {\"scopeSpans\": [{\"spans\": [{}, {\"name\": 5}]}]}\n ]\n}",
            WireErrorKind::JsonType,
            "expected a string but found a number in resourceSpans[1].scopeSpans[0].spans[1].name at line 4, column 43",
        ),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"soon"}]}]}]}"#,
            WireErrorKind::JsonType,
            "expected a whole number but found other text in resourceSpans[0].scopeSpans[0].spans[0].startTimeUnixNano at line 1, column 65",
        ),
        (
            r#"{"resourceSpans":[{"resource":{"attributes":[{"value":{"arrayValue":{"values":[{"boolValue":1}]}}}]}}]}"#,
            WireErrorKind::JsonType,
            "expected a boolean but found a number in resourceSpans[0].resource.attributes[0].value.arrayValue.values[0].boolValue at line 1, column 93",
        ),
        (
            "{\"resourceSpans\":[{\"schemaUrl\":\"a\nb\"}]}",
            WireErrorKind::JsonSyntax,
            "invalid JSON: control character in a string in resourceSpans[0].schemaUrl at line 1, column 34",
        ),
    ] {
        let error = read(text.as_bytes()).expect_err("it is broken");
        assert_eq!(error.kind(), kind, "{text}");
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn nesting_is_bounded_where_decoders_bound_it_and_needs_little_stack() {
    let nested = |levels: usize| {
        let open = r#"{"arrayValue":{"values":["#.repeat(levels);
        let close = "]}}".repeat(levels);
        format!(r#"{open}{{"boolValue":true}}{close}"#)
    };
    let thread = std::thread::Builder::new()
        .stack_size(512 << 10)
        .spawn(move || {
            assert!(
                value(&nested(47)).is_some(),
                "prost reads 100 nested messages"
            );
            let error = read_value(&nested(48)).expect_err("prost would refuse it");
            assert_eq!(error.kind(), WireErrorKind::Nesting);
            assert!(read_value(&nested(100_000)).is_err());
            let error = read_span(&format!("{{\"x\":{}}}", "[".repeat(1_000_000)));
            assert_eq!(
                error.expect_err("it has no end").kind(),
                WireErrorKind::Nesting
            );
        })
        .expect("a thread can start");
    thread
        .join()
        .expect("the thread does not overflow its stack");
}
