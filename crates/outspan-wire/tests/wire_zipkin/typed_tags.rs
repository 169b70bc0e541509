//! Tags of the mapping that are numbers, booleans or null in JSON, and spans of SDKs that write no kind.

#![allow(clippy::unwrap_used)]

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::Value as Json;
use serde_json::json;

use crate::read::get;
use crate::read::only_span;

fn of_tags(tags: Json) -> Span {
    only_span(json!({ "tags": tags })).1
}

fn status(tags: Json) -> (i32, String) {
    let status = of_tags(tags).status.unwrap_or_default();
    (status.code, status.message)
}

#[test]
fn status_code_may_be_a_number() {
    for (code, expected) in [
        (json!(1), 1),
        (json!(2), 2),
        (json!(0), 0),
        (json!(2.0), 2),
        (json!("1"), 1),
        (json!("2"), 2),
    ] {
        let span = of_tags(json!({"otel.status_code": code, "a": "b"}));
        assert_eq!(span.status.unwrap_or_default().code, expected, "{code}");
        assert_eq!(get(&span.attributes, "otel.status_code"), None, "{code}");
    }
    for unknown in [
        json!(3),
        json!(-1),
        json!(1.5),
        json!("7"),
        json!(true),
        json!(null),
        json!([2]),
    ] {
        let span = of_tags(json!({"otel.status_code": unknown}));
        assert_eq!(span.status, None, "{unknown}");
        assert_eq!(span.attributes.len(), 1, "{unknown}");
    }
    // As the C++ SDK writes a failed span.
    let failed = json!({"otel.status_code": 2, "error": "broken"});
    assert_eq!(status(failed), (2, "broken".to_owned()));
    let described = json!({"otel.status_code": 2, "otel.status_description": 404});
    assert_eq!(status(described), (2, "404".to_owned()));
}

#[test]
fn error_may_be_a_boolean_or_a_number() {
    assert_eq!(status(json!({"error": true})), (2, String::new()));
    assert_eq!(status(json!({"error": 1})), (2, String::new()));
    assert_eq!(
        status(json!({"error": "disk full"})),
        (2, "disk full".to_owned())
    );
    for no in [json!(false), json!(0), json!(0.0), json!(null)] {
        let span = of_tags(json!({"error": no}));
        assert_eq!(span.status, None, "{no}");
        assert!(
            span.attributes
                .iter()
                .any(|attribute| attribute.key == "error"),
            "{no}"
        );
    }
    assert_eq!(status(json!({"error": true, "otel.status_code": 1})).0, 1);
}

#[test]
fn kind_tag_may_be_a_number_or_any_name() {
    for (tag, kind) in [
        (json!("internal"), SpanKind::Internal),
        (json!("server"), SpanKind::Server),
        (json!("consumer"), SpanKind::Consumer),
        (json!(1), SpanKind::Internal),
        (json!(2), SpanKind::Server),
        (json!(3), SpanKind::Client),
        (json!(4), SpanKind::Producer),
        (json!(5), SpanKind::Consumer),
    ] {
        let span = of_tags(json!({"span.kind": tag}));
        assert_eq!(span.kind(), kind, "{tag}");
        assert!(span.attributes.is_empty(), "{tag}");
    }
    for unknown in [json!(0), json!(6), json!(true), json!("strange")] {
        let span = of_tags(json!({"span.kind": unknown}));
        assert_eq!(span.kind(), SpanKind::Unspecified, "{unknown}");
        assert_eq!(span.attributes.len(), 1, "{unknown}");
    }
}

#[test]
fn counts_and_scopes_may_be_of_any_scalar_type() {
    for count in [json!(3), json!("3"), json!(3.0)] {
        let span = of_tags(json!({
            "otel.dropped_attributes_count": count,
            "otel.dropped_events_count": count,
            "otel.dropped_links_count": count,
        }));
        let counts = (
            span.dropped_attributes_count,
            span.dropped_events_count,
            span.dropped_links_count,
        );
        assert_eq!(counts, (3, 3, 3), "{count}");
        assert!(span.attributes.is_empty(), "{count}");
    }
    let scoped = of_tags(json!({"otel.scope.name": 7, "otel.scope.version": 1.5}));
    assert!(scoped.attributes.is_empty());
    let unsaid = of_tags(json!({"otel.scope.name": null}));
    assert_eq!(unsaid.kind(), SpanKind::Unspecified);
    assert_eq!(unsaid.attributes.len(), 1);
}

#[test]
fn spans_of_an_sdk_without_a_kind_are_internal() {
    // As the exporter of Node.js writes it: no scope, the attributes of the resource as tags.
    let node = json!({
        "service.name": "shop",
        "telemetry.sdk.language": "nodejs",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": "1.30.1",
    });
    let (resource, span) = only_span(json!({ "tags": node }));
    assert_eq!(span.kind(), SpanKind::Internal);
    assert!(get(&resource.attributes, "telemetry.sdk.name").is_some());
    let client = only_span(json!({"kind": "CLIENT", "tags": node})).1;
    assert_eq!(client.kind(), SpanKind::Client);
    assert_eq!(
        of_tags(json!({"host.name": "a"})).kind(),
        SpanKind::Unspecified
    );
}
