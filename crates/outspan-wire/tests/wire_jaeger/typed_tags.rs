//! Tags of the mapping that have another type than the mapping gives them.

use outspan_wire::ReadRequest;
use outspan_wire::otlp::SpanKind;
use outspan_wire::otlp::StatusCode;

use crate::thrift::minimal;
use crate::thrift::read_both;
use crate::thrift::spans;
use crate::thrift::text_tag;
use crate::thrift_peer::Tag;

fn long(key: &str, value: i64) -> Tag {
    Tag {
        key: key.to_owned(),
        v_type: 3,
        v_long: Some(value),
        ..Tag::default()
    }
}

fn double(key: &str, value: f64) -> Tag {
    Tag {
        key: key.to_owned(),
        v_type: 1,
        v_double: Some(value),
        ..Tag::default()
    }
}

fn bool(key: &str, value: bool) -> Tag {
    Tag {
        key: key.to_owned(),
        v_type: 2,
        v_bool: Some(value),
        ..Tag::default()
    }
}

fn read(tags: Vec<Tag>) -> ReadRequest {
    read_both(&minimal(tags, Vec::new()))
}

#[test]
fn status_code_may_be_a_number() {
    let key = "otel.status_code";
    let cases = [
        (long(key, 1), StatusCode::Ok),
        (long(key, 2), StatusCode::Error),
        (double(key, 2.0), StatusCode::Error),
        (text_tag(key, "2"), StatusCode::Error),
        (text_tag(key, "STATUS_CODE_OK"), StatusCode::Ok),
        (long(key, 0), StatusCode::Unset),
    ];
    for (tag, code) in cases {
        let said = format!("{tag:?}");
        let read = read(vec![tag]);
        let span = spans(&read.bytes)[0];
        assert_eq!(span.status().code(), code, "{said}");
        assert_eq!(span.attributes().len(), 0, "{said}");
    }
    for tag in [
        long(key, 3),
        long(key, -1),
        double(key, 1.5),
        bool(key, true),
    ] {
        let said = format!("{tag:?}");
        let read = read(vec![tag]);
        let span = spans(&read.bytes)[0];
        assert_eq!(span.status().code(), StatusCode::Unset, "{said}");
        assert_eq!(span.attributes().len(), 1, "{said}");
    }
}

#[test]
fn error_may_be_a_number_or_text() {
    for tag in [
        bool("error", true),
        long("error", 1),
        text_tag("error", "true"),
    ] {
        let read = read(vec![tag]);
        let span = spans(&read.bytes)[0];
        assert_eq!(span.status().code(), StatusCode::Error);
        assert_eq!(span.attributes().len(), 0);
    }
    for tag in [
        bool("error", false),
        long("error", 0),
        text_tag("error", "false"),
    ] {
        let read = read(vec![tag]);
        let span = spans(&read.bytes)[0];
        assert_eq!(span.status().code(), StatusCode::Unset);
        assert_eq!(span.attributes().len(), 1);
    }
}

#[test]
fn kind_scope_description_and_counts_may_be_numbers() {
    let read = read(vec![
        long("span.kind", 2),
        long("otel.scope.name", 7),
        double("otel.scope.version", 1.5),
        long("otel.status_code", 2),
        long("otel.status_description", 404),
        double("otel.dropped_events_count", 3.0),
        text_tag("http.route", "/"),
    ]);
    let span = spans(&read.bytes)[0];
    assert_eq!(span.kind(), SpanKind::Server);
    assert_eq!((span.scope().name(), span.scope().version()), ("7", "1.5"));
    assert_eq!(span.status().message(), "404");
    assert_eq!(span.dropped_events_count(), 3);
    assert_eq!(span.attributes().len(), 1);
}
