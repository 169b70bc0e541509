//! Arbitrary spans, encoded and then decoded by `prost`, are the same spans within their limits.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::tonic::trace::v1::Span;
use outspan_wire::otlp::EncodeSpan;
use outspan_wire::otlp::EncodeValue;
use outspan_wire::otlp::EncodedResource;
use outspan_wire::otlp::Encoder;
use outspan_wire::otlp::ScopeWriter;
use outspan_wire::otlp::SpanKind;
use outspan_wire::otlp::SpanLimits;
use outspan_wire::otlp::SpanWriter;
use outspan_wire::otlp::StatusCode;
use outspan_wire::otlp::ValueWriter;
use outspan_wire::otlp::Written;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use crate::common;

/// A scope with the schema URL that stands beside it on the wire.
#[derive(Clone, Debug)]
struct Scope {
    scope: InstrumentationScope,
    schema_url: String,
}

/// A finished span as a tracing library would hold it.
#[derive(Clone, Debug)]
struct Finished<'a> {
    scope: &'a Scope,
    span: &'a Span,
}

struct Borrowed<'a>(Option<&'a AnyValue>);

impl EncodeValue for Borrowed<'_> {
    fn encode(&self, writer: ValueWriter<'_>) -> Written {
        let Some(value) = self.0.and_then(|value| value.value.as_ref()) else {
            return writer.empty();
        };
        match value {
            Value::StringValue(text) => writer.string(text),
            Value::BoolValue(value) => writer.bool(*value),
            Value::IntValue(value) => writer.int(*value),
            Value::DoubleValue(value) => writer.double(*value),
            Value::BytesValue(bytes) => writer.bytes(bytes),
            Value::ArrayValue(array) => writer.array(|items| {
                for item in &array.values {
                    items.push(Borrowed(Some(item)));
                }
            }),
            Value::KvlistValue(map) => writer.map(|entries| {
                for entry in &map.values {
                    entries.entry(&entry.key, Borrowed(entry.value.as_ref()));
                }
            }),
            Value::StringValueStrindex(_) => writer.empty(),
        }
    }
}

impl EncodeSpan for Finished<'_> {
    fn encode_scope(&self, writer: &mut ScopeWriter<'_>) {
        let scope = &self.scope.scope;
        writer.name(&scope.name);
        writer.version(&scope.version);
        for attribute in &scope.attributes {
            writer.attribute(&attribute.key, Borrowed(attribute.value.as_ref()));
        }
        writer.dropped_attributes_count(scope.dropped_attributes_count);
        writer.schema_url(&self.scope.schema_url);
    }

    fn encode(&self, writer: &mut SpanWriter<'_>) {
        let span = self.span;
        writer.trace_id(id(&span.trace_id));
        writer.span_id(id(&span.span_id));
        writer.parent_span_id(id(&span.parent_span_id));
        writer.trace_state(&span.trace_state);
        writer.flags(span.flags);
        writer.name(&span.name);
        writer.kind(SpanKind::from_number(span.kind));
        writer.start_time_unix_nano(span.start_time_unix_nano);
        writer.end_time_unix_nano(span.end_time_unix_nano);
        for attribute in &span.attributes {
            writer.attribute(&attribute.key, Borrowed(attribute.value.as_ref()));
        }
        writer.dropped_attributes_count(span.dropped_attributes_count);
        for event in &span.events {
            writer.event(event.time_unix_nano, &event.name, |writer| {
                for attribute in &event.attributes {
                    writer.attribute(&attribute.key, Borrowed(attribute.value.as_ref()));
                }
                writer.dropped_attributes_count(event.dropped_attributes_count);
            });
        }
        writer.dropped_events_count(span.dropped_events_count);
        for link in &span.links {
            writer.link(id(&link.trace_id), id(&link.span_id), |writer| {
                writer.trace_state(&link.trace_state);
                writer.flags(link.flags);
                for attribute in &link.attributes {
                    writer.attribute(&attribute.key, Borrowed(attribute.value.as_ref()));
                }
                writer.dropped_attributes_count(link.dropped_attributes_count);
            });
        }
        writer.dropped_links_count(span.dropped_links_count);
        if let Some(status) = &span.status {
            writer.status(StatusCode::from_number(status.code), &status.message);
        }
    }
}

fn id<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

fn encode_resource(resource: &Resource, schema_url: &str) -> EncodedResource {
    EncodedResource::new(|writer| {
        for attribute in &resource.attributes {
            writer.attribute(&attribute.key, Borrowed(attribute.value.as_ref()));
        }
        writer.dropped_attributes_count(resource.dropped_attributes_count);
        writer.schema_url(schema_url);
    })
}

/// The specification's limits once more, on the tree of the prost types and without regard to speed.
mod expectation {
    use super::*;

    pub(crate) fn span(mut span: Span, limits: &SpanLimits) -> Span {
        attributes(
            &mut span.attributes,
            &mut span.dropped_attributes_count,
            limits.attributes,
            limits,
        );
        cut(
            &mut span.events,
            &mut span.dropped_events_count,
            limits.events,
        );
        for event in &mut span.events {
            attributes(
                &mut event.attributes,
                &mut event.dropped_attributes_count,
                limits.attributes_per_event,
                limits,
            );
        }
        cut(&mut span.links, &mut span.dropped_links_count, limits.links);
        for link in &mut span.links {
            attributes(
                &mut link.attributes,
                &mut link.dropped_attributes_count,
                limits.attributes_per_link,
                limits,
            );
            link.trace_id = id::<16>(&link.trace_id).to_vec();
            link.span_id = id::<8>(&link.span_id).to_vec();
        }
        span.status = span.status.filter(|status| *status != Default::default());
        span
    }

    pub(crate) fn exempt(attributes: &mut [KeyValue]) {
        let mut limits = SpanLimits::unlimited();
        limits.attribute_value_depth = 1000;
        for attribute in attributes {
            value(&mut attribute.value, 1, &limits);
        }
    }

    fn attributes(list: &mut Vec<KeyValue>, dropped: &mut u32, count: usize, limits: &SpanLimits) {
        cut(list, dropped, count);
        for attribute in list {
            value(&mut attribute.value, 1, limits);
        }
    }

    fn cut<T>(list: &mut Vec<T>, dropped: &mut u32, count: usize) {
        let too_many = list.len().saturating_sub(count);
        *dropped = dropped.saturating_add(too_many as u32);
        list.truncate(count);
    }

    fn value(value: &mut Option<AnyValue>, level: usize, limits: &SpanLimits) {
        // An absent value and an empty one are the same to OpenTelemetry; the encoder always writes one.
        let any = value.get_or_insert_default();
        any_value(any, level, limits);
    }

    fn any_value(any: &mut AnyValue, level: usize, limits: &SpanLimits) {
        let length = limits.attribute_value_length.unwrap_or(usize::MAX);
        match &mut any.value {
            Some(Value::StringValue(text)) => *text = text.chars().take(length).collect(),
            Some(Value::BytesValue(bytes)) => bytes.truncate(length),
            Some(Value::ArrayValue(_) | Value::KvlistValue(_))
                if level > limits.attribute_value_depth =>
            {
                any.value = None;
            }
            Some(Value::ArrayValue(array)) => {
                for item in &mut array.values {
                    any_value(item, level + 1, limits);
                }
            }
            Some(Value::KvlistValue(map)) => {
                for entry in &mut map.values {
                    value(&mut entry.value, level + 1, limits);
                }
            }
            _ => {}
        }
    }
}

fn scopes() -> impl Strategy<Value = Scope> {
    (common::scopes(), common::texts()).prop_map(|(scope, schema_url)| Scope { scope, schema_url })
}

fn limits() -> impl Strategy<Value = SpanLimits> {
    let counts = || prop_oneof![0..4_usize, Just(128)];
    let values = (option::of(0..6_usize), prop_oneof![0..4_usize, Just(64)]);
    (values, (counts(), counts(), counts(), counts(), counts())).prop_map(|(values, counts)| {
        let mut limits = SpanLimits::default();
        limits.attribute_value_length = values.0;
        limits.attribute_value_depth = values.1;
        limits.attributes = counts.0;
        limits.events = counts.1;
        limits.links = counts.2;
        limits.attributes_per_event = counts.3;
        limits.attributes_per_link = counts.4;
        limits
    })
}

/// What a straightforward program would have put together.
fn expected_request(
    spans: &[(usize, usize, Span)],
    resources: &[(Resource, String)],
    scopes: &[Scope],
    limits: &SpanLimits,
) -> ExportTraceServiceRequest {
    let mut request = ExportTraceServiceRequest::default();
    for (resource, scope, span) in spans {
        let (resource, schema_url) = resources[*resource].clone();
        let envelope = ResourceSpans {
            resource: Some(normal_resource(resource)).filter(|it| *it != Default::default()),
            schema_url,
            scope_spans: Vec::new(),
        };
        let scope = &scopes[*scope];
        let inner = ScopeSpans {
            scope: Some(normal_scope(scope.scope.clone())).filter(|it| *it != Default::default()),
            schema_url: scope.schema_url.clone(),
            spans: Vec::new(),
        };

        let of_resource = find_or_push(&mut request.resource_spans, envelope, |it| ResourceSpans {
            scope_spans: Vec::new(),
            ..it.clone()
        });
        let of_scope = find_or_push(&mut of_resource.scope_spans, inner, |it| ScopeSpans {
            spans: Vec::new(),
            ..it.clone()
        });
        of_scope.spans.push(expectation::span(span.clone(), limits));
    }
    request
}

/// Compared by their bytes, because NaN is not equal to itself.
fn find_or_push<T: Message>(list: &mut Vec<T>, wanted: T, bare: impl Fn(&T) -> T) -> &mut T {
    let bytes = wanted.encode_to_vec();
    let place = list.iter().position(|it| bare(it).encode_to_vec() == bytes);
    let place = place.unwrap_or_else(|| {
        list.push(wanted);
        list.len() - 1
    });
    &mut list[place]
}

fn normal_resource(mut resource: Resource) -> Resource {
    expectation::exempt(&mut resource.attributes);
    resource.entity_refs.clear();
    resource
}

fn normal_scope(mut scope: InstrumentationScope) -> InstrumentationScope {
    expectation::exempt(&mut scope.attributes);
    scope
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_spans_decode_to_themselves_within_their_limits(
        resources in vec((common::resources(), common::texts()), 2),
        scopes in vec(scopes(), 3),
        batches in vec(vec((0..2_usize, 0..3_usize, common::valid_spans()), 0..8), 1..4),
        limits in limits(),
    ) {
        let encoded: Vec<EncodedResource> = resources
            .iter()
            .map(|(resource, schema_url)| encode_resource(resource, schema_url))
            .collect();
        // The same encoder for all batches: nothing of one may stay for the next.
        let mut encoder = Encoder::new(limits);
        for spans in batches {
            for (resource, scope, span) in &spans {
                encoder.push(&encoded[*resource], &Finished { scope: &scopes[*scope], span });
            }
            prop_assert_eq!(encoder.spans(), spans.len());
            let len_max = encoder.encoded_len_max();

            let Some(request) = encoder.finish() else {
                prop_assert!(spans.is_empty());
                continue;
            };
            let expected = expected_request(&spans, &resources, &scopes, &limits);
            let decoded = ExportTraceServiceRequest::decode(&*request.bytes);
            let decoded = decoded.expect("prost reads what we write");
            prop_assert_eq!(decoded.encode_to_vec(), expected.encode_to_vec());

            prop_assert_eq!(request.spans, spans.len());
            prop_assert!(request.bytes.len() <= len_max);
            let scopes_seen: usize = expected.resource_spans.iter().map(|it| 1 + it.scope_spans.len()).sum();
            prop_assert!(len_max - request.bytes.len() <= 6 * scopes_seen);
        }
    }
}

fn plain_scope(name: &str) -> Scope {
    Scope {
        scope: InstrumentationScope {
            name: name.to_owned(),
            ..Default::default()
        },
        schema_url: String::new(),
    }
}

fn plain_span(number: u64) -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: number.to_be_bytes().to_vec(),
        name: format!("span {number}"),
        ..Default::default()
    }
}

fn decode(bytes: &[u8]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(bytes).expect("prost reads what we write")
}

/// A source that only writes what a closure says.
struct Source<F>(F);

impl<F: Fn(&mut SpanWriter<'_>)> EncodeSpan for Source<F> {
    fn encode_scope(&self, _: &mut ScopeWriter<'_>) {}

    fn encode(&self, span: &mut SpanWriter<'_>) {
        (self.0)(span);
    }
}

fn encode_one(limits: SpanLimits, write: impl Fn(&mut SpanWriter<'_>)) -> Span {
    let mut encoder = Encoder::new(limits);
    encoder.push(&EncodedResource::default(), &Source(write));
    let request = encoder.finish().expect("one span was pushed");
    let mut request = decode(&request.bytes);
    request.resource_spans[0].scope_spans[0].spans.remove(0)
}

#[test]
fn no_spans_are_no_request() {
    let mut encoder = Encoder::default();
    assert!(encoder.is_empty());
    assert_eq!(encoder.finish(), None);

    encoder.push(
        &EncodedResource::default(),
        &Finished {
            scope: &plain_scope("forgotten"),
            span: &plain_span(1),
        },
    );
    encoder.clear();
    assert_eq!(encoder.finish(), None);
    assert_eq!(encoder.encoded_len_max(), 0);
}

#[test]
fn groups_stand_in_the_order_in_which_they_were_seen() {
    let resources = [
        encode_resource(&Resource::default(), "a"),
        encode_resource(&Resource::default(), "b"),
    ];
    let scopes = [plain_scope("x"), plain_scope("y")];
    let first = (
        [(1, 0), (0, 1), (1, 1), (0, 0), (1, 0)],
        [("b", "x", 2), ("b", "y", 1), ("a", "y", 1), ("a", "x", 1)],
    );
    // The second batch meets groups that the encoder remembers in the first one's order.
    let second = (
        [(0, 0), (0, 1), (1, 1), (0, 0), (1, 0)],
        [("a", "x", 2), ("a", "y", 1), ("b", "y", 1), ("b", "x", 1)],
    );
    let mut encoder = Encoder::default();
    for (order, expected) in [first, second] {
        for (resource, scope) in order {
            let source = Finished {
                scope: &scopes[scope],
                span: &plain_span(1),
            };
            encoder.push(&resources[resource], &source);
        }
        let request = encoder.finish().expect("five spans were pushed");
        let request = decode(&request.bytes);
        let seen: Vec<(&str, &str, usize)> = request
            .resource_spans
            .iter()
            .flat_map(|resource| {
                let url = resource.schema_url.as_str();
                resource.scope_spans.iter().map(move |scope| {
                    let name = scope.scope.as_ref().map_or("", |scope| &scope.name);
                    (url, name, scope.spans.len())
                })
            })
            .collect();
        assert_eq!(seen, expected);
    }
}

#[test]
fn equal_resources_share_a_group_though_they_are_not_clones() {
    let scope = plain_scope("shared");
    let mut encoder = Encoder::default();
    for number in 1..=3 {
        let resource = encode_resource(&Resource::default(), "https://example.com/schema");
        let span = plain_span(number);
        encoder.push(
            &resource,
            &Finished {
                scope: &scope,
                span: &span,
            },
        );
    }
    let request = encoder.finish().expect("three spans were pushed");
    let request = decode(&request.bytes);
    assert_eq!(request.resource_spans.len(), 1);
    assert_eq!(request.resource_spans[0].scope_spans[0].spans.len(), 3);
}

#[test]
fn a_trace_state_may_come_in_members() {
    let members = [("congo", "t61rcWkgMzE"), ("rojo", "00f067aa0ba902b7")];
    let span = encode_one(SpanLimits::default(), |span| {
        span.trace_state_members(members);
        span.link([1; 16], [2; 8], |link| link.trace_state_members(members));
    });
    let header = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7";
    assert_eq!(span.trace_state, header);
    assert_eq!(span.links[0].trace_state, header);

    let long = vec![("key", "v"); 40];
    let span = encode_one(SpanLimits::default(), |span| {
        span.trace_state_members(long.iter().copied());
    });
    assert_eq!(span.trace_state, vec!["key=v"; 40].join(","));

    let span = encode_one(SpanLimits::default(), |span| span.trace_state_members([]));
    assert_eq!(span.trace_state, "");
}

#[test]
fn a_parent_of_zeros_is_no_parent() {
    let span = encode_one(SpanLimits::default(), |span| span.parent_span_id([0; 8]));
    assert!(span.parent_span_id.is_empty());
}

#[test]
fn attributes_are_limited_by_default() {
    let keys: Vec<String> = (0..130).map(|number| format!("key {number}")).collect();
    let span = encode_one(SpanLimits::default(), |span| {
        for key in &keys {
            span.attribute(key, true);
        }
    });
    assert_eq!(span.attributes.len(), 128);
    assert_eq!(span.dropped_attributes_count, 2);
}

#[test]
fn counts_of_dropped_parts_do_not_wrap() {
    let mut limits = SpanLimits::default();
    limits.attributes = 1;
    let span = encode_one(limits, |span| {
        span.dropped_attributes_count(u32::MAX - 1);
        for key in ["kept", "dropped", "dropped too", "and this"] {
            span.attribute(key, true);
        }
    });
    assert_eq!(span.attributes.len(), 1);
    assert_eq!(span.dropped_attributes_count, u32::MAX);
}

#[test]
fn values_that_nest_deeper_than_decoders_read_become_empty() {
    fn nest(writer: ValueWriter<'_>, level: usize, as_map: bool) -> Written {
        if level == 0 {
            return writer.string("leaf");
        }
        if as_map {
            return writer.map(|map| map.entry_with("k", |value| nest(value, level - 1, as_map)));
        }
        writer.array(|array| array.push_with(|value| nest(value, level - 1, as_map)))
    }
    fn depth(value: &AnyValue) -> usize {
        match &value.value {
            Some(Value::ArrayValue(array)) => 1 + array.values.first().map_or(0, depth),
            Some(Value::KvlistValue(map)) => {
                let first = map.values.first().and_then(|entry| entry.value.as_ref());
                1 + first.map_or(0, depth)
            }
            _ => 0,
        }
    }
    for (as_map, deepest) in [(false, 47), (true, 31)] {
        for levels in [1, deepest, deepest + 1, 500] {
            let span = encode_one(SpanLimits::unlimited(), |span| {
                span.attribute_with("deep", |value| nest(value, levels, as_map));
                span.event(1, "event", |event| {
                    event.attribute_with("deep", |value| nest(value, levels, as_map));
                });
            });
            let value = span.attributes[0].value.clone().expect("it has a value");
            assert_eq!(depth(&value), levels.min(deepest), "{levels} levels");
        }
    }
}

#[test]
fn long_lengths_are_right_at_every_level() {
    for size in [100, 120, 127, 128, 130, 16_300, 16_383, 16_384, 2_097_152] {
        let text = "x".repeat(size);
        let span = encode_one(SpanLimits::default(), |span| {
            span.name(&text);
            span.attribute(&text, text.as_str());
            span.attribute_with("map", |value| {
                value.map(|map| {
                    map.entry_with("list", |value| value.array(|list| list.push(&text)));
                })
            });
            span.event(7, &text, |event| event.attribute("bytes", text.as_bytes()));
            span.status(StatusCode::Error, &text);
        });
        assert_eq!(span.name, text);
        assert_eq!(span.attributes[0].key, text);
        assert_eq!(span.events[0].name, text);
        let status = span.status.expect("an error was set");
        assert_eq!((status.code, status.message), (2, text));
    }
}

#[test]
fn a_source_that_panics_leaves_the_other_spans_unharmed() {
    let resource = EncodedResource::default();
    let mut encoder = Encoder::default();
    encoder.push(
        &resource,
        &Source(|span: &mut SpanWriter<'_>| span.name("before")),
    );
    let panicking = Source(|span: &mut SpanWriter<'_>| {
        span.name("half a span");
        panic!("on purpose");
    });
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        encoder.push(&resource, &panicking);
    }));
    assert!(caught.is_err());
    encoder.push(
        &resource,
        &Source(|span: &mut SpanWriter<'_>| span.name("after")),
    );

    let request = encoder.finish().expect("two spans were pushed");
    assert_eq!(request.spans, 2);
    let request = decode(&request.bytes);
    let names: Vec<&str> = request.resource_spans[0].scope_spans[0]
        .spans
        .iter()
        .map(|span| span.name.as_str())
        .collect();
    assert_eq!(names, ["before", "after"]);
}

#[test]
fn a_source_that_panics_at_its_first_span_leaves_no_empty_group() {
    let mut encoder = Encoder::default();
    let panicking = Source(|_: &mut SpanWriter<'_>| panic!("on purpose"));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        encoder.push(&EncodedResource::default(), &panicking);
    }));
    assert!(caught.is_err());
    assert_eq!(encoder.finish(), None);

    let span = plain_span(1);
    let scope = plain_scope("other");
    encoder.push(
        &EncodedResource::default(),
        &Finished {
            scope: &scope,
            span: &span,
        },
    );
    let request = encoder.finish().expect("one span was pushed");
    let request = decode(&request.bytes);
    assert_eq!(request.resource_spans[0].scope_spans.len(), 1);
}

#[test]
fn slices_options_and_nested_slices_are_values() {
    let span = encode_one(SpanLimits::default(), |span| {
        span.attribute("numbers", &[1_i64, -2][..]);
        span.attribute("texts", &["a", "b"][..]);
        span.attribute("bytes", &b"raw"[..]);
        span.attribute("none", None::<bool>);
        span.attribute("some", Some(0.5));
    });
    let values: Vec<Option<Value>> = span
        .attributes
        .into_iter()
        .map(|attribute| attribute.value.expect("a value is always written").value)
        .collect();
    let array = |values: Vec<Value>| {
        let values = values
            .into_iter()
            .map(|value| AnyValue { value: Some(value) })
            .collect();
        Some(Value::ArrayValue(
            opentelemetry_proto::tonic::common::v1::ArrayValue { values },
        ))
    };
    let expected = [
        array(vec![Value::IntValue(1), Value::IntValue(-2)]),
        array(vec![
            Value::StringValue("a".to_owned()),
            Value::StringValue("b".to_owned()),
        ]),
        Some(Value::BytesValue(b"raw".to_vec())),
        None,
        Some(Value::DoubleValue(0.5)),
    ];
    assert_eq!(values, expected);
}
