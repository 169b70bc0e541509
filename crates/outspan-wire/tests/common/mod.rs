//! Arbitrary requests, as the `prost` types that our bytes are held against.
//!
//! Profile-only fields (`key_strindex`, `string_value_strindex`) stay unset here; tests that need them set them.

// Each test program uses its own part of this module.
#![allow(dead_code)]

pub(crate) mod wire;

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
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use outspan_wire::otlp::AttributeView;
use outspan_wire::otlp::AttributesView;
use outspan_wire::otlp::RequestView;
use outspan_wire::otlp::ResourceView;
use outspan_wire::otlp::ScopeView;
use outspan_wire::otlp::SpanView;
use outspan_wire::otlp::ValueView;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

/// Any request, also with missing parts, empty envelopes and invalid identifiers.
pub(crate) fn requests() -> impl Strategy<Value = ExportTraceServiceRequest> {
    vec(resource_spans(spans().boxed(), 0..3), 0..3)
        .prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

/// Requests as well-behaved programs send them: at least one span, no empty envelope, no invalid span.
pub(crate) fn valid_requests() -> impl Strategy<Value = ExportTraceServiceRequest> {
    vec(resource_spans(valid_spans().boxed(), 1..3), 1..3)
        .prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

fn resource_spans(
    span: BoxedStrategy<Span>,
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = ResourceSpans> {
    let scope_spans = (option::of(scopes()), vec(span, count.clone()), texts()).prop_map(
        |(scope, spans, schema_url)| ScopeSpans {
            scope,
            spans,
            schema_url,
        },
    );
    (option::of(resources()), vec(scope_spans, count), texts()).prop_map(
        |(resource, scope_spans, schema_url)| ResourceSpans {
            resource,
            scope_spans,
            schema_url,
        },
    )
}

/// Any resource, with entity references.
pub(crate) fn resources() -> impl Strategy<Value = Resource> {
    let entity_refs = (texts(), texts(), vec(texts(), 0..3), vec(texts(), 0..3)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef {
            schema_url,
            r#type,
            id_keys,
            description_keys,
        },
    );
    (attributes(), counts(), vec(entity_refs, 0..2)).prop_map(
        |(attributes, dropped_attributes_count, entity_refs)| Resource {
            attributes,
            dropped_attributes_count,
            entity_refs,
        },
    )
}

/// Any instrumentation scope.
pub(crate) fn scopes() -> impl Strategy<Value = InstrumentationScope> {
    (texts(), texts(), attributes(), counts()).prop_map(
        |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    )
}

/// Any span; its identifiers may be missing, zero or of a wrong length.
pub(crate) fn spans() -> impl Strategy<Value = Span> {
    (valid_spans(), ids(16), ids(8), ids(8)).prop_map(
        |(span, trace_id, span_id, parent_span_id)| Span {
            trace_id,
            span_id,
            parent_span_id,
            ..span
        },
    )
}

/// Spans with good identifiers.
pub(crate) fn valid_spans() -> impl Strategy<Value = Span> {
    let identity = (
        good_ids(16),
        good_ids(8),
        prop_oneof![Just(Vec::new()), good_ids(8)],
        texts(),
        any::<u32>(),
    );
    let times = (texts(), kinds(), any::<u64>(), any::<u64>());
    let attributes = (attributes(), counts());
    let events = (vec(events(), 0..3), counts());
    let links = (vec(links(), 0..3), counts());
    (
        identity,
        times,
        attributes,
        events,
        links,
        option::of(statuses()),
    )
        .prop_map(|(identity, times, attributes, events, links, status)| {
            let (trace_id, span_id, parent_span_id, trace_state, flags) = identity;
            let (name, kind, start_time_unix_nano, end_time_unix_nano) = times;
            Span {
                trace_id,
                span_id,
                trace_state,
                parent_span_id,
                flags,
                name,
                kind,
                start_time_unix_nano,
                end_time_unix_nano,
                attributes: attributes.0,
                dropped_attributes_count: attributes.1,
                events: events.0,
                dropped_events_count: events.1,
                links: links.0,
                dropped_links_count: links.1,
                status,
            }
        })
}

fn events() -> impl Strategy<Value = Event> {
    (any::<u64>(), texts(), attributes(), counts()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    )
}

fn links() -> impl Strategy<Value = Link> {
    let ids = prop_oneof![
        4 => (good_ids(16), good_ids(8)),
        1 => Just((Vec::new(), Vec::new())),
        1 => Just((vec![0; 16], vec![0; 8])),
    ];
    (ids, texts(), attributes(), counts(), any::<u32>()).prop_map(
        |((trace_id, span_id), trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    )
}

fn statuses() -> impl Strategy<Value = Status> {
    let codes = prop_oneof![4 => 0..3, 1 => any::<i32>()];
    (texts(), codes).prop_map(|(message, code)| Status { message, code })
}

fn kinds() -> impl Strategy<Value = i32> {
    prop_oneof![6 => 0..6, 1 => any::<i32>()]
}

fn counts() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0), 1 => 1u32..200, 1 => any::<u32>()]
}

/// Identifiers of the right length that are not all zero.
pub(crate) fn good_ids(length: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), length).prop_map(|mut id| {
        if id.iter().all(|&byte| byte == 0) {
            id[0] = 1;
        }
        id
    })
}

/// Identifiers, some of them missing, zero, too short or too long.
pub(crate) fn ids(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => good_ids(length),
        1 => Just(Vec::new()),
        1 => Just(vec![0; length]),
        1 => vec(any::<u8>(), length - 1),
        1 => vec(any::<u8>(), length + 1),
    ]
}

/// Up to four attributes with values of every kind.
pub(crate) fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(key_values(option::of(any_values()).boxed()), 0..4)
}

fn key_values(value: BoxedStrategy<Option<AnyValue>>) -> impl Strategy<Value = KeyValue> {
    (texts(), value).prop_map(|(key, value)| KeyValue {
        key,
        value,
        key_strindex: 0,
    })
}

/// Any value, nested up to four deep, with unicode, special numbers and empty values.
pub(crate) fn any_values() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        1 => Just(AnyValue { value: None }),
        6 => scalars().prop_map(|value| AnyValue { value: Some(value) }),
    ];
    leaf.prop_recursive(4, 8, 3, |inner| {
        let array =
            vec(inner.clone(), 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values }));
        let map = vec(key_values(option::of(inner).boxed()), 0..4)
            .prop_map(|values| Value::KvlistValue(KeyValueList { values }));
        prop_oneof![array, map].prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn scalars() -> impl Strategy<Value = Value> {
    let special = prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(-0.0),
        Just(f64::MIN_POSITIVE),
        Just(f64::MAX),
        Just(1e21),
        Just(5e-324),
    ];
    prop_oneof![
        4 => texts().prop_map(Value::StringValue),
        1 => any::<bool>().prop_map(Value::BoolValue),
        1 => any::<i64>().prop_map(Value::IntValue),
        1 => prop_oneof![Just(0), Just(-1), Just(i64::MIN), Just(i64::MAX)].prop_map(Value::IntValue),
        1 => any::<f64>().prop_map(Value::DoubleValue),
        1 => special.prop_map(Value::DoubleValue),
        1 => vec(any::<u8>(), 0..20).prop_map(Value::BytesValue),
    ]
}

/// Text: empty, like an attribute key, longer than one length byte can say, or anything at all.
pub(crate) fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just(String::new()),
        6 => "[a-z]{1,8}\\.[a-z_]{1,8}",
        1 => "[ -~]{120,140}",
        2 => "\\PC{0,12}",
        1 => any::<String>(),
    ]
}

/// Reads a request through the views into the types of `prost`, field by field.
pub(crate) fn read_through_views(request: RequestView<'_>) -> ExportTraceServiceRequest {
    let resource_spans = request
        .resource_spans()
        .map(|resource_spans| ResourceSpans {
            resource: resource_spans
                .has_resource()
                .then(|| resource(resource_spans.resource())),
            scope_spans: resource_spans
                .scope_spans()
                .map(|scope_spans| ScopeSpans {
                    scope: scope_spans.has_scope().then(|| scope(scope_spans.scope())),
                    spans: scope_spans.spans().map(|view| span(&view)).collect(),
                    schema_url: scope_spans.schema_url().to_owned(),
                })
                .collect(),
            schema_url: resource_spans.schema_url().to_owned(),
        });
    ExportTraceServiceRequest {
        resource_spans: resource_spans.collect(),
    }
}

/// Reads a resource through its view.
pub(crate) fn resource(view: ResourceView<'_>) -> Resource {
    let entity_refs = view.entity_refs().map(|entity| EntityRef {
        schema_url: entity.schema_url().to_owned(),
        r#type: entity.entity_type().to_owned(),
        id_keys: entity.id_keys().map(str::to_owned).collect(),
        description_keys: entity.description_keys().map(str::to_owned).collect(),
    });
    Resource {
        attributes: key_value_list(view.attributes()),
        dropped_attributes_count: view.dropped_attributes_count(),
        entity_refs: entity_refs.collect(),
    }
}

/// Reads an instrumentation scope through its view.
pub(crate) fn scope(view: ScopeView<'_>) -> InstrumentationScope {
    InstrumentationScope {
        name: view.name().to_owned(),
        version: view.version().to_owned(),
        attributes: key_value_list(view.attributes()),
        dropped_attributes_count: view.dropped_attributes_count(),
    }
}

/// Reads a span through its view.
pub(crate) fn span(view: &SpanView<'_>) -> Span {
    let events = view.events().map(|event| Event {
        time_unix_nano: event.time_unix_nano(),
        name: event.name().to_owned(),
        attributes: key_value_list(event.attributes()),
        dropped_attributes_count: event.dropped_attributes_count(),
    });
    let links = view.links().map(|link| Link {
        trace_id: link.trace_id_bytes().to_vec(),
        span_id: link.span_id_bytes().to_vec(),
        trace_state: link.trace_state().to_owned(),
        attributes: key_value_list(link.attributes()),
        dropped_attributes_count: link.dropped_attributes_count(),
        flags: link.flags(),
    });
    let status = view.has_status().then(|| Status {
        message: view.status().message().to_owned(),
        code: view.status().code().number(),
    });
    Span {
        trace_id: view.trace_id_bytes().to_vec(),
        span_id: view.span_id_bytes().to_vec(),
        trace_state: view.trace_state().to_owned(),
        parent_span_id: view.parent_span_id_bytes().to_vec(),
        flags: view.flags(),
        name: view.name().to_owned(),
        kind: view.kind().number(),
        start_time_unix_nano: view.start_time_unix_nano(),
        end_time_unix_nano: view.end_time_unix_nano(),
        attributes: key_value_list(view.attributes()),
        dropped_attributes_count: view.dropped_attributes_count(),
        events: events.collect(),
        dropped_events_count: view.dropped_events_count(),
        links: links.collect(),
        dropped_links_count: view.dropped_links_count(),
        status,
    }
}

fn key_value_list(attributes: AttributesView<'_>) -> Vec<KeyValue> {
    attributes.iter().map(key_value).collect()
}

fn key_value(attribute: AttributeView<'_>) -> KeyValue {
    KeyValue {
        key: attribute.key().to_owned(),
        value: attribute.has_value().then(|| any_value(attribute.value())),
        key_strindex: 0,
    }
}

fn any_value(view: ValueView<'_>) -> AnyValue {
    let value = match view {
        ValueView::Empty => None,
        ValueView::Str(text) => Some(Value::StringValue(text.to_owned())),
        ValueView::Bool(value) => Some(Value::BoolValue(value)),
        ValueView::Int(value) => Some(Value::IntValue(value)),
        ValueView::Double(value) => Some(Value::DoubleValue(value)),
        ValueView::Array(array) => Some(Value::ArrayValue(ArrayValue {
            values: array.iter().map(any_value).collect(),
        })),
        ValueView::Map(map) => Some(Value::KvlistValue(KeyValueList {
            values: map.iter().map(key_value).collect(),
        })),
        ValueView::Bytes(bytes) => Some(Value::BytesValue(bytes.to_vec())),
    };
    AnyValue { value }
}

/// Takes the profile-only fields away, which views treat as absent.
pub(crate) fn without_profile_fields(
    mut request: ExportTraceServiceRequest,
) -> ExportTraceServiceRequest {
    for resource_spans in &mut request.resource_spans {
        if let Some(resource) = &mut resource_spans.resource {
            clear_list(&mut resource.attributes);
        }
        for scope_spans in &mut resource_spans.scope_spans {
            if let Some(scope) = &mut scope_spans.scope {
                clear_list(&mut scope.attributes);
            }
            for span in &mut scope_spans.spans {
                clear_list(&mut span.attributes);
                span.events
                    .iter_mut()
                    .for_each(|event| clear_list(&mut event.attributes));
                span.links
                    .iter_mut()
                    .for_each(|link| clear_list(&mut link.attributes));
            }
        }
    }
    request
}

fn clear_list(attributes: &mut [KeyValue]) {
    for attribute in attributes {
        attribute.key_strindex = 0;
        if let Some(value) = &mut attribute.value {
            clear_value(value);
        }
    }
}

fn clear_value(value: &mut AnyValue) {
    match &mut value.value {
        Some(Value::StringValueStrindex(_)) => value.value = None,
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(clear_value),
        Some(Value::KvlistValue(map)) => clear_list(&mut map.values),
        _ => {}
    }
}

/// A span with all that is said about it, as bytes to compare: resource, its schema URL, scope, its schema URL, span.
pub(crate) type FlatSpan = (Vec<u8>, String, Vec<u8>, String, Vec<u8>);

/// Lists the spans of a request in order, each with its resource and scope. Absent and empty ones are the same here.
pub(crate) fn flat(bytes: &[u8]) -> Vec<FlatSpan> {
    let request = ExportTraceServiceRequest::decode(bytes).expect("it is a request");
    let mut spans = Vec::new();
    for resource_spans in request.resource_spans {
        let resource = resource_spans.resource.unwrap_or_default().encode_to_vec();
        for scope_spans in resource_spans.scope_spans {
            let scope = scope_spans.scope.unwrap_or_default().encode_to_vec();
            for span in scope_spans.spans {
                spans.push((
                    resource.clone(),
                    resource_spans.schema_url.clone(),
                    scope.clone(),
                    scope_spans.schema_url.clone(),
                    span.encode_to_vec(),
                ));
            }
        }
    }
    spans
}

/// Puts a message into fields around each other, the first key outermost.
pub(crate) fn nested(keys: &[u8], inner: &[u8]) -> Vec<u8> {
    let mut bytes = inner.to_vec();
    for key in keys.iter().rev() {
        let mut outer = vec![*key];
        prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
        outer.extend(bytes);
        bytes = outer;
    }
    bytes
}
