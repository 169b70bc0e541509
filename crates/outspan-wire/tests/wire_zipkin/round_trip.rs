//! OTLP to Zipkin and back: everything is there that the tables in `docs/zipkin.md` say is kept.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use outspan_wire::PieceContent;
use outspan_wire::otlp::validate;
use outspan_wire::zipkin::Dialect;
use outspan_wire::zipkin::Format;
use outspan_wire::zipkin::ReadLimits;
use outspan_wire::zipkin::WriteOptions;
use outspan_wire::zipkin::Writer;
use outspan_wire::zipkin::read_json;
use outspan_wire::zipkin::read_protobuf;
use proptest::prelude::*;
use prost::Message;

use crate::common;

/// A span with where it comes from.
#[derive(Clone, Debug, Default, PartialEq)]
struct Whole {
    resource: Resource,
    resource_schema_url: String,
    scope: InstrumentationScope,
    scope_schema_url: String,
    span: Span,
}

/// Takes requests apart, such that those that mean the same look the same.
fn wholes(request: ExportTraceServiceRequest) -> Vec<Whole> {
    let mut wholes = Vec::new();
    for resource_spans in request.resource_spans {
        for scope_spans in resource_spans.scope_spans {
            for span in scope_spans.spans {
                wholes.push(Whole {
                    resource: resource_spans.resource.clone().unwrap_or_default(),
                    resource_schema_url: resource_spans.schema_url.clone(),
                    scope: scope_spans.scope.clone().unwrap_or_default(),
                    scope_schema_url: scope_spans.schema_url.clone(),
                    span,
                });
            }
        }
    }
    wholes
}

/// Writes a request, in messages of at most so many bytes, and reads them again.
fn round_trip(options: WriteOptions, request: &[u8]) -> Vec<Whole> {
    let mut read = Vec::new();
    let mut next_span = 0;
    for piece in Writer::new(options).pieces(request) {
        let piece = piece.unwrap();
        assert_eq!(piece.spans.start, next_span);
        next_span = piece.spans.end;
        let PieceContent::Bytes(bytes) = piece.content else {
            panic!("no span is too large");
        };
        let limits = ReadLimits::default();
        let request = match options.format {
            Format::Protobuf => read_protobuf(&bytes, &limits).unwrap(),
            _ => read_json(&bytes, &limits).unwrap(),
        };
        assert_eq!(request.invalid, 0);
        assert_eq!(request.spans, piece.spans.len());
        let summary = validate(&request.bytes).unwrap();
        assert_eq!((summary.spans, summary.invalid_spans), (request.spans, 0));
        let request = ExportTraceServiceRequest::decode(&*request.bytes).unwrap();
        let mut spans = wholes(request);
        spans.sort_by(|one, other| one.span.span_id.cmp(&other.span.span_id));
        read.extend(spans);
    }
    read.sort_by(|one, other| one.span.span_id.cmp(&other.span.span_id));
    read
}

/// What the specification's dialect keeps.
fn kept(mut whole: Whole) -> Whole {
    let span = &mut whole.span;
    let mut keys: HashSet<String> = own_tags(&whole.scope, span);
    span.trace_id.truncate(16);
    if span.parent_span_id == span.span_id {
        span.parent_span_id.clear();
    }
    if !(0..=5).contains(&span.kind) {
        span.kind = 0;
    }
    let nanos = span
        .end_time_unix_nano
        .saturating_sub(span.start_time_unix_nano);
    let duration = if nanos > 0 { (nanos / 1000).max(1) } else { 0 };
    span.start_time_unix_nano = span.start_time_unix_nano / 1000 * 1000;
    span.end_time_unix_nano = span.start_time_unix_nano + duration * 1000;
    let status = span.status.take().unwrap_or_default();
    if status.code == 1 || status.code == 2 {
        span.status = Some(status);
    }
    let first_time = (span.start_time_unix_nano / 1000).max(1) * 1000;
    for event in &mut span.events {
        event.time_unix_nano = event.time_unix_nano / 1000 * 1000;
        if event.time_unix_nano == 0 {
            event.time_unix_nano = first_time;
        }
        keep_in_json(&mut event.attributes);
    }
    for link in &mut span.links {
        link.flags = 0;
        keep_in_json(&mut link.attributes);
    }
    let has_links = !span.links.is_empty();
    let is_error = span.status.as_ref().is_some_and(|status| status.code == 2);
    span.attributes.retain(|attribute| {
        let is_false = match value_of(attribute) {
            Some(Value::BoolValue(value)) => !value,
            Some(Value::StringValue(text)) => text == "false",
            _ => false,
        };
        let is_error_that_is_none = attribute.key == "error" && !is_error && is_false;
        !is_error_that_is_none
    });
    let resource = &mut whole.resource.attributes;
    for attributes in [&mut span.attributes, &mut whole.scope.attributes, resource] {
        attributes.retain(|attribute| !has_links || !attribute.key.starts_with("otlp.link."));
    }
    keep(&mut span.attributes, &mut keys);
    keep(&mut whole.scope.attributes, &mut keys);
    whole.resource.entity_refs.clear();
    let service = whole.resource.attributes.iter().position(|attribute| {
        let is_text = matches!(value_of(attribute), Some(Value::StringValue(_)));
        attribute.key == "service.name" && is_text
    });
    let service = service.map(|at| whole.resource.attributes.remove(at));
    keep(&mut whole.resource.attributes, &mut keys);
    whole.resource.attributes.splice(0..0, service);
    whole
}

/// Names the tags of the mapping's own, before which attributes of the same name give way.
fn own_tags(scope: &InstrumentationScope, span: &Span) -> HashSet<String> {
    let status = span.status.clone().unwrap_or_default();
    let has_description = match &status {
        Status { code: 1, message } => !message.is_empty(),
        Status { code: 2, message } => message == "true",
        _ => false,
    };
    let own = [
        ("otel.scope.name", !scope.name.is_empty()),
        ("otel.library.name", !scope.name.is_empty()),
        ("otel.scope.version", !scope.version.is_empty()),
        ("otel.library.version", !scope.version.is_empty()),
        ("otel.status_code", status.code == 1 || status.code == 2),
        ("error", status.code == 2),
        ("otel.status_description", has_description),
        ("w3c.tracestate", !span.trace_state.is_empty()),
        ("span.kind", span.kind == 1),
        (
            "otel.dropped_attributes_count",
            span.dropped_attributes_count != 0,
        ),
        ("otel.dropped_events_count", span.dropped_events_count != 0),
        ("otel.dropped_links_count", span.dropped_links_count != 0),
        ("outspan.otlp", true),
    ];
    let own = own.into_iter().filter(|(_, is_written)| *is_written);
    own.map(|(name, _)| name.to_owned()).collect()
}

/// Leaves the first attribute of each key, with its value as it comes back.
fn keep(attributes: &mut Vec<KeyValue>, keys: &mut HashSet<String>) {
    attributes.retain(|attribute| keys.insert(attribute.key.clone()));
    for attribute in attributes {
        let value = attribute.value.get_or_insert_default();
        match &mut value.value {
            Some(Value::DoubleValue(double)) if double.is_nan() => *double = f64::NAN,
            Some(Value::ArrayValue(_) | Value::KvlistValue(_)) => keep_json(value),
            _ => {}
        }
    }
}

fn keep_in_json(attributes: &mut [KeyValue]) {
    for attribute in attributes {
        keep_json(attribute.value.get_or_insert_default());
    }
}

/// In JSON, bytes and numbers without end are texts.
fn keep_json(value: &mut AnyValue) {
    match &mut value.value {
        Some(Value::BytesValue(bytes)) => {
            value.value = Some(Value::StringValue(STANDARD.encode(bytes)));
        }
        Some(Value::DoubleValue(double)) if !double.is_finite() => {
            let word = match *double {
                f64::INFINITY => "Infinity",
                f64::NEG_INFINITY => "-Infinity",
                _ => "NaN",
            };
            value.value = Some(Value::StringValue(word.to_owned()));
        }
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(keep_json),
        Some(Value::KvlistValue(map)) => keep_in_json(&mut map.values),
        _ => {}
    }
}

fn value_of(attribute: &KeyValue) -> Option<&Value> {
    attribute.value.as_ref()?.value.as_ref()
}

/// Requests with span ids that are all different, and with names of tags that have a meaning among the keys.
fn requests() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let names = prop::sample::select(vec![
        "error",
        "service.name",
        "otel.status_code",
        "otel.status_description",
        "otel.scope.name",
        "otel.library.version",
        "otel.dropped_events_count",
        "w3c.tracestate",
        "span.kind",
        "host.name",
        "process.pid",
        "otlp.link.0",
        "otlp.link.x",
        "otlp.service.name.source",
        "outspan.otlp",
        "zipkin.shared",
        "zipkin.debug",
        "peer.service",
        "network.peer.address",
        "network.peer.port",
        "server.address",
        "net.sock.peer.addr",
        "net.sock.peer.port",
        "network.local.address",
        "a b:c=d%e",
        "",
    ]);
    let values = prop_oneof![
        2 => common::any_values(),
        1 => prop::sample::select(vec![
            "false", "true", "ERROR", "internal", "10.0.0.1", "::1", "::ffff:10.0.0.1", "443", "7",
        ])
        .prop_map(|text| AnyValue { value: Some(Value::StringValue(text.to_owned())) }),
        1 => any::<bool>().prop_map(|value| AnyValue { value: Some(Value::BoolValue(value)) }),
        1 => (0_i64..70_000).prop_map(|value| AnyValue { value: Some(Value::IntValue(value)) }),
    ];
    let special = (names, values).prop_map(|(key, value)| KeyValue {
        key: key.to_owned(),
        value: Some(value),
        ..KeyValue::default()
    });
    let event_names = prop::sample::select(vec![
        "a: {}",
        "\"a\": {\"b\":1}",
        "a|{}|0",
        "{\"a\": {}}",
        "a|7",
        "}",
        "\"",
        "7",
        "|{",
    ]);
    let extra = (
        prop::collection::vec(special, 0..6),
        0_u8..3,
        prop::collection::vec(event_names, 0..2),
        prop_oneof![Just(None), Just(Some("true")), Just(Some("false"))],
    );
    let extras = prop::collection::vec(extra, 8);
    (common::valid_requests(), extras).prop_map(|(mut request, extras)| {
        let mut number = 0_u64;
        for resource_spans in &mut request.resource_spans {
            for scope_spans in &mut resource_spans.scope_spans {
                for span in &mut scope_spans.spans {
                    let (attributes, owner, names, message) = &extras[number as usize % 8];
                    number += 1;
                    span.span_id = number.to_be_bytes().to_vec();
                    match owner {
                        0 => span.attributes.extend_from_slice(attributes),
                        1 => {
                            let scope = scope_spans.scope.get_or_insert_default();
                            scope.attributes.extend_from_slice(attributes);
                        }
                        _ => {
                            let resource = resource_spans.resource.get_or_insert_default();
                            resource.attributes.extend_from_slice(attributes);
                        }
                    }
                    span.events.extend(names.iter().map(|name| Event {
                        name: (*name).to_owned(),
                        ..Event::default()
                    }));
                    if let (Some(status), Some(message)) = (&mut span.status, message) {
                        status.message = (*message).to_owned();
                    }
                    // A link without ids stays a tag.
                    span.links.retain(|link| !link.trace_id.is_empty());
                    // Attributes that Zipkin has fields for come back last.
                    span.attributes.retain(|attribute| !is_zipkins(attribute));
                }
            }
        }
        request
    })
}

/// Takes attributes away that the Collector's dialect cannot tell from its own tags.
fn without_names_of_meaning(mut request: ExportTraceServiceRequest) -> ExportTraceServiceRequest {
    let has_meaning = |attribute: &KeyValue| {
        let key = &attribute.key;
        key.starts_with("ot") || ["error", "w3c.tracestate", "span.kind"].contains(&key.as_str())
    };
    for resource_spans in &mut request.resource_spans {
        if let Some(resource) = &mut resource_spans.resource {
            resource
                .attributes
                .retain(|attribute| !has_meaning(attribute));
        }
        for scope_spans in &mut resource_spans.scope_spans {
            if let Some(scope) = &mut scope_spans.scope {
                scope.attributes.retain(|attribute| !has_meaning(attribute));
            }
            for span in &mut scope_spans.spans {
                span.attributes.retain(|attribute| !has_meaning(attribute));
            }
        }
    }
    request
}

fn is_zipkins(attribute: &KeyValue) -> bool {
    let is_field = ["zipkin.shared", "zipkin.debug"].contains(&attribute.key.as_str());
    is_field && value_of(attribute) == Some(&Value::BoolValue(true))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_specifications_dialect_keeps_what_the_tables_say(
        request in requests(),
        is_json in any::<bool>(),
        bytes_max in prop_oneof![Just(usize::MAX), 20_000_usize..60_000],
    ) {
        let format = if is_json { Format::Json } else { Format::Protobuf };
        let options = WriteOptions::default().format(format).bytes_max(bytes_max);
        let bytes = request.encode_to_vec();
        let mut expected: Vec<_> = wholes(request).into_iter().map(kept).collect();
        expected.sort_by(|one, other| one.span.span_id.cmp(&other.span.span_id));
        let read = round_trip(options, &bytes);
        prop_assert_eq!(read.len(), expected.len());
        for (read, expected) in read.into_iter().zip(expected) {
            // Debug tells NaN equal to itself, and -0.0 from 0.0.
            prop_assert_eq!(format!("{read:#?}"), format!("{expected:#?}"));
        }
    }

    #[test]
    fn the_collectors_dialect_keeps_what_the_tables_say(
        request in requests().prop_map(without_names_of_meaning),
        is_json in any::<bool>(),
    ) {
        let format = if is_json { Format::Json } else { Format::Protobuf };
        let options = WriteOptions::default().format(format).dialect(Dialect::Collector);
        let read = round_trip(options, &request.encode_to_vec());
        let mut expected = wholes(request);
        expected.sort_by(|one, other| one.span.span_id.cmp(&other.span.span_id));
        prop_assert_eq!(read.len(), expected.len());
        for (read, expected) in read.into_iter().zip(expected) {
            prop_assert_eq!(&read.span.trace_id, &expected.span.trace_id);
            prop_assert_eq!(&read.span.span_id, &expected.span.span_id);
            prop_assert_eq!(&read.span.trace_state, &expected.span.trace_state);
            prop_assert_eq!(&read.scope.name, &expected.scope.name);
            prop_assert_eq!(&read.scope.version, &expected.scope.version);
            let name = &expected.span.name;
            let name = if is_json { name.to_lowercase() } else { name.clone() };
            prop_assert_eq!(&read.span.name, &name);
            if (0..=5).contains(&expected.span.kind) && expected.span.kind != 0 {
                prop_assert_eq!(read.span.kind, expected.span.kind);
            }
            let status = expected.span.status.unwrap_or_default();
            if status.code == 2 {
                prop_assert_eq!(read.span.status.unwrap_or_default(), status);
            }
            prop_assert_eq!(read.span.links.len(), expected.span.links.len());
            for (read, link) in read.span.links.iter().zip(&expected.span.links) {
                prop_assert_eq!(&read.trace_id, &link.trace_id);
                prop_assert_eq!(&read.span_id, &link.span_id);
                prop_assert_eq!(&read.trace_state, &link.trace_state);
                prop_assert_eq!(read.attributes.len(), link.attributes.len());
                prop_assert_eq!(read.dropped_attributes_count, link.dropped_attributes_count);
            }
            prop_assert_eq!(read.span.events.len(), expected.span.events.len());
            for (read, event) in read.span.events.iter().zip(&expected.span.events) {
                if !event.attributes.is_empty() || event.dropped_attributes_count > 0 {
                    prop_assert_eq!(&read.name, &event.name);
                    prop_assert_eq!(read.attributes.len(), event.attributes.len());
                    prop_assert_eq!(read.dropped_attributes_count, event.dropped_attributes_count);
                }
            }
        }
    }
}

#[test]
fn fields_of_zipkin_that_otlp_has_not_survive_as_attributes() {
    let text = br#"[{"traceId":"1","id":"2","kind":"SERVER","name":"get","timestamp":5,"duration":3,
        "localEndpoint":{"serviceName":"shop","ipv4":"10.0.0.1","port":80},
        "remoteEndpoint":{"serviceName":"web","ipv6":"::1","port":443},"shared":true,"debug":true}]"#;
    let read = read_json(text, &ReadLimits::default()).unwrap();
    let spans = wholes(ExportTraceServiceRequest::decode(&*read.bytes).unwrap());
    let attributes: Vec<_> = spans[0]
        .span
        .attributes
        .iter()
        .map(|attribute| (attribute.key.as_str(), value_of(attribute).unwrap().clone()))
        .collect();
    let text = |text: &str| Value::StringValue(text.to_owned());
    assert_eq!(
        attributes,
        [
            ("network.local.address", text("10.0.0.1")),
            ("network.local.port", Value::IntValue(80)),
            ("peer.service", text("web")),
            ("network.peer.address", text("::1")),
            ("network.peer.port", Value::IntValue(443)),
            ("zipkin.shared", Value::BoolValue(true)),
            ("zipkin.debug", Value::BoolValue(true)),
        ]
    );
    let again = round_trip(WriteOptions::default(), &read.bytes);
    assert_eq!(again, spans);
}

/// A span of one of several kinds: what is worked out for one must not be taken for another.
fn span_of_kind(number: u64) -> Span {
    let attribute = |key: &str, value: Value| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    };
    let is_odd = number / 13 % 2 == 1;
    let kind = number % 13;
    let mut attributes = vec![attribute("number", Value::IntValue(number as i64))];
    match kind {
        0 => attributes.push(attribute("error", Value::BoolValue(is_odd))),
        1 => attributes.push(attribute("error", Value::StringValue(is_odd.to_string()))),
        2 => attributes.push(attribute("zipkin.shared", Value::BoolValue(false))),
        3 => attributes.push(attribute("number", Value::BoolValue(is_odd))),
        4 if is_odd => attributes.push(attribute("kind", Value::IntValue(7))),
        4 => attributes.push(attribute("kind", Value::DoubleValue(7.5))),
        5 => attributes.push(attribute(
            "host.name",
            Value::StringValue("inner".to_owned()),
        )),
        other => attributes.push(attribute(&format!("kind.{other}"), Value::IntValue(-1))),
    }
    Span {
        trace_id: vec![1; 16],
        span_id: (number + 1).to_be_bytes().to_vec(),
        kind: (number % 4) as i32,
        flags: u32::from(kind == 6 && is_odd),
        trace_state: if kind == 7 && is_odd {
            "a=1".to_owned()
        } else {
            String::new()
        },
        dropped_attributes_count: u32::from(kind == 8 && is_odd),
        status: (kind == 9).then(|| Status {
            code: 1 + i32::from(is_odd),
            message: "said".to_owned(),
        }),
        attributes,
        ..Span::default()
    }
}

#[test]
fn spans_of_many_kinds_in_turn_stay_what_they_are() {
    let resource = Resource {
        attributes: ["service.name", "host.name", "kind"]
            .map(|key| KeyValue {
                key: key.to_owned(),
                value: Some(AnyValue {
                    value: Some(Value::StringValue("outer".to_owned())),
                }),
                ..KeyValue::default()
            })
            .to_vec(),
        ..Resource::default()
    };
    let scope_spans = |spans: std::ops::Range<u64>| ScopeSpans {
        spans: spans.map(span_of_kind).collect(),
        ..ScopeSpans::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![
            ResourceSpans {
                resource: Some(resource),
                scope_spans: vec![scope_spans(0..60), scope_spans(60..80)],
                ..ResourceSpans::default()
            },
            ResourceSpans {
                scope_spans: vec![scope_spans(80..120)],
                ..ResourceSpans::default()
            },
        ],
    };
    let bytes = request.encode_to_vec();
    let expected: Vec<_> = wholes(request).into_iter().map(kept).collect();
    for format in [Format::Json, Format::Protobuf] {
        for bytes_max in [usize::MAX, 4000] {
            let options = WriteOptions::default().format(format).bytes_max(bytes_max);
            let read = round_trip(options, &bytes);
            for (read, expected) in read.iter().zip(&expected) {
                assert_eq!(read, expected);
            }
            assert_eq!(read.len(), expected.len());
        }
    }
}
