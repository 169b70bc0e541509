//! Views agree with `prost`, field by field, on whatever `prost` accepts.

use std::fmt::Write;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use outspan_wire::otlp::RequestView;
use outspan_wire::otlp::SpanKind;
use outspan_wire::otlp::SpanView;
use outspan_wire::otlp::StatusCode;
use outspan_wire::otlp::ValueView;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use crate::common;
use crate::common::nested;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agree_with_prost_on_arbitrary_requests(request in common::requests()) {
        let bytes = request.encode_to_vec();
        // Compared as bytes, because NaN is not equal to itself.
        let read = common::read_through_views(RequestView::new(&bytes));
        prop_assert_eq!(read.encode_to_vec(), bytes);
    }

    #[test]
    fn all_spans_come_in_order_with_their_resource_and_scope(request in common::requests()) {
        let bytes = request.encode_to_vec();
        let mut spans = RequestView::new(&bytes).spans();
        for resource_spans in &request.resource_spans {
            for scope_spans in &resource_spans.scope_spans {
                for span in &scope_spans.spans {
                    let view = spans.next().expect("one view a span");
                    prop_assert_eq!(common::span(&view).encode_to_vec(), span.encode_to_vec());
                    let resource = resource_spans.resource.clone().unwrap_or_default();
                    prop_assert_eq!(common::resource(view.resource()).encode_to_vec(), resource.encode_to_vec());
                    prop_assert_eq!(view.resource_schema_url(), &resource_spans.schema_url);
                    let scope = scope_spans.scope.clone().unwrap_or_default();
                    prop_assert_eq!(common::scope(view.scope()).encode_to_vec(), scope.encode_to_vec());
                    prop_assert_eq!(view.scope_schema_url(), &scope_spans.schema_url);
                }
            }
        }
        prop_assert!(spans.next().is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agree_with_prost_on_every_form_it_accepts(decisions in vec(any::<u8>(), 0..400)) {
        let bytes = common::wire::request_from(&decisions);
        let Ok(expected) = ExportTraceServiceRequest::decode(bytes.as_slice()) else {
            return Ok(());
        };
        let expected = common::without_profile_fields(expected);
        let read = common::read_through_views(RequestView::new(&bytes));
        prop_assert_eq!(read.encode_to_vec(), expected.encode_to_vec());
    }

    #[test]
    fn never_panic_on_arbitrary_bytes(bytes in vec(any::<u8>(), 0..300)) {
        read_everything(&bytes);
    }

    #[test]
    fn never_panic_on_broken_requests(decisions in vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = common::wire::request_from(&decisions);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_everything(&bytes);
    }
}

/// Calls every reader there is.
fn read_everything(bytes: &[u8]) {
    let view = RequestView::new(bytes);
    let read = common::read_through_views(view);
    let spans = read
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans);
    let spans: usize = spans.map(|scope| scope.spans.len()).sum();
    assert_eq!(view.spans().count(), spans);
    let mut text = String::new();
    write!(text, "{view:?}").expect("writing to a String cannot fail");
    for span in view.spans() {
        for attribute in span.attributes() {
            text.clear();
            attribute
                .value()
                .write_text(&mut text)
                .expect("writing to a String cannot fail");
        }
    }
}

/// A request with one span that has these bytes.
fn request_with_span(span: &[u8]) -> Vec<u8> {
    nested(&[0x0a, 0x12, 0x12], span)
}

fn with_span<T>(span: &[u8], check: impl FnOnce(SpanView<'_>) -> T) -> T {
    let bytes = request_with_span(span);
    let span = RequestView::new(&bytes).spans().next().expect("one span");
    check(span)
}

#[test]
fn an_empty_span_has_defaults() {
    with_span(&[], |span| {
        assert_eq!(span.trace_id(), [0; 16]);
        assert_eq!(span.span_id(), [0; 8]);
        assert_eq!(span.parent_span_id(), None);
        assert_eq!(span.name(), "");
        assert_eq!(span.kind(), SpanKind::Unspecified);
        assert_eq!(span.status().code(), StatusCode::Unset);
        assert!(!span.has_status());
        assert!(span.attributes().is_empty());
        assert_eq!(span.duration().as_nanos(), 0);
    });
}

#[test]
fn kinds_and_codes_of_the_future_stay_readable() {
    with_span(&[0x30, 77, 0x7a, 2, 0x18, 9], |span| {
        assert_eq!(span.kind(), SpanKind::Other(77));
        assert_eq!(span.status().code(), StatusCode::Other(9));
    });
}

#[test]
fn an_id_of_the_wrong_length_reads_as_zeros_but_stays_visible() {
    with_span(&[0x0a, 2, 7, 7, 0x22, 3, 1, 2, 3], |span| {
        assert_eq!(span.trace_id(), [0; 16]);
        assert_eq!(span.trace_id_bytes(), [7, 7]);
        assert_eq!(span.parent_span_id(), None);
    });
}

#[test]
fn the_last_of_a_repeated_field_counts() {
    with_span(b"\x2a\x01a\x2a\x01b\x30\x01\x30\x02", |span| {
        assert_eq!(span.name(), "b");
        assert_eq!(span.kind(), SpanKind::Server);
    });
}

#[test]
fn parts_of_a_status_are_merged() {
    with_span(b"\x7a\x02\x18\x02\x7a\x05\x12\x03bad", |span| {
        assert_eq!(span.status().code(), StatusCode::Error);
        assert_eq!(span.status().message(), "bad");
    });
}

#[test]
fn parts_of_a_resource_are_merged_around_its_spans() {
    let mut resource_spans = b"\x0a\x05\x0a\x03\x0a\x01a".to_vec();
    resource_spans.extend(b"\x12\x02\x12\x00");
    resource_spans.extend(b"\x0a\x05\x0a\x03\x0a\x01b");
    let bytes = nested(&[0x0a], &resource_spans);
    let span = RequestView::new(&bytes).spans().next().expect("one span");
    let keys: Vec<_> = span
        .resource()
        .attributes()
        .iter()
        .map(|each| each.key())
        .collect();
    assert_eq!(keys, ["a", "b"]);
    assert!(span.resource().attribute("b").is_some());
    assert!(span.resource().attribute("c").is_none());
}

#[test]
fn parts_of_a_list_are_merged_until_another_kind_of_value_comes() {
    // An attribute whose value comes in two parts: a list, a text, a list | a list.
    let list = |number: u8| nested(&[0x2a, 0x0a], &[0x18, number]);
    let mut first = list(1);
    first.extend(b"\x0a\x01x");
    first.extend(list(2));
    let mut attribute = nested(&[0x12], &first);
    attribute.extend(nested(&[0x12], &list(3)));
    with_span(&nested(&[0x4a], &attribute), |span| {
        let attribute = span.attributes().iter().next().expect("one attribute");
        let ValueView::Array(array) = attribute.value() else {
            panic!("a list is last");
        };
        let numbers: Vec<_> = array.iter().filter_map(ValueView::as_int).collect();
        assert_eq!(numbers, [2, 3]);
        assert_eq!(attribute.value().to_text(), "[2,3]");
    });
}

#[test]
fn text_that_breaks_ends_where_it_breaks() {
    with_span(b"\x2a\x04ab\xff\x61", |span| assert_eq!(span.name(), "ab"));
}

#[test]
fn values_become_text_for_other_formats() {
    use opentelemetry_proto::tonic::common::v1::*;
    use opentelemetry_proto::tonic::trace::v1::*;
    let value = |value| AnyValue { value: Some(value) };
    let entry = |key: &str, value: Option<AnyValue>| KeyValue {
        key: key.to_owned(),
        value,
        key_strindex: 0,
    };
    let list = value(any_value::Value::ArrayValue(ArrayValue {
        values: vec![
            value(any_value::Value::StringValue("a\"b".to_owned())),
            value(any_value::Value::DoubleValue(f64::NAN)),
            value(any_value::Value::BytesValue(vec![1, 2, 3])),
            AnyValue { value: None },
            value(any_value::Value::KvlistValue(KeyValueList {
                values: vec![
                    entry("k", Some(value(any_value::Value::BoolValue(false)))),
                    entry("n", None),
                ],
            })),
        ],
    }));
    let span = Span {
        attributes: vec![entry("list", Some(list))],
        ..Span::default()
    };
    with_span(&span.encode_to_vec(), |span| {
        let list = span.attribute("list").expect("it is there");
        assert_eq!(
            list.to_text(),
            r#"["a\"b","NaN","AQID",null,{"k":false,"n":null}]"#
        );
    });
}

#[test]
fn nesting_without_end_is_printed_up_to_the_bound() {
    let mut value = b"\x18\x01".to_vec();
    for _ in 0..5_000 {
        value = nested(&[0x2a, 0x0a], &value);
    }
    let bytes = request_with_span(&nested(&[0x4a, 0x12], &value));
    let span = RequestView::new(&bytes).spans().next().expect("one span");
    let value = span
        .attributes()
        .iter()
        .next()
        .expect("one attribute")
        .value();
    assert!(value.to_text().starts_with("[[[["));
    assert!(format!("{span:?}").contains("..."));
}

#[test]
fn printing_a_view_shows_names_and_hexadecimal_ids() {
    with_span(
        b"\x12\x08\x01\x02\x03\x04\x05\x06\x07\xff\x2a\x03get",
        |span| {
            let printed = format!("{span:?}");
            assert!(printed.contains("span_id: 01020304050607ff"), "{printed}");
            assert!(printed.contains("name: \"get\""), "{printed}");
        },
    );
}
