//! The SDK's spans as a source for the encoder.

use std::mem::size_of;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use opentelemetry::Array;
use opentelemetry::InstrumentationScope;
use opentelemetry::KeyValue;
use opentelemetry::Value;
use opentelemetry::trace::Event;
use opentelemetry::trace::Link;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::Status;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use outspan_wire::otlp;
use outspan_wire::otlp::EncodeSpan;
use outspan_wire::otlp::EncodeValue;
use outspan_wire::otlp::EncodedResource;
use outspan_wire::otlp::ScopeWriter;
use outspan_wire::otlp::SpanWriter;
use outspan_wire::otlp::StatusCode;
use outspan_wire::otlp::ValueWriter;
use outspan_wire::otlp::Written;

/// Bit 8 of the flags: bit 9 says whether the context is remote (`Span.flags` in `trace.proto`).
const HAS_IS_REMOTE: u32 = 0x100;

/// Bit 9 of the flags: the parent, or the linked span, is in another process.
const IS_REMOTE: u32 = 0x200;

/// Names the fields of a span of the SDK to an [`Encoder`](outspan_wire::otlp::Encoder).
///
/// `BatchProcessor` encodes with it; so can a processor of one's own.
///
/// # Examples
///
/// ```
/// use opentelemetry_sdk::Resource;
/// use opentelemetry_sdk::trace::SpanData;
/// use outspan::sdk::SdkSpan;
/// use outspan::sdk::encode_resource;
/// use outspan::wire::otlp::EncodedRequest;
/// use outspan::wire::otlp::Encoder;
///
/// fn encode(spans: &[SpanData], resource: &Resource) -> Option<EncodedRequest> {
///     let resource = encode_resource(resource);
///     let mut encoder = Encoder::default();
///     for span in spans {
///         encoder.push(&resource, &SdkSpan(span));
///     }
///     encoder.finish()
/// }
/// # assert!(encode(&[], &Resource::builder_empty().build()).is_none());
/// ```
#[derive(Debug)]
pub struct SdkSpan<'a>(pub &'a SpanData);

impl EncodeSpan for SdkSpan<'_> {
    fn encode_scope(&self, scope: &mut ScopeWriter<'_>) {
        encode_scope(&self.0.instrumentation_scope, scope);
    }

    fn encode(&self, writer: &mut SpanWriter<'_>) {
        let span = self.0;
        let context = &span.span_context;
        writer.trace_id(context.trace_id().to_bytes());
        writer.span_id(context.span_id().to_bytes());
        writer.parent_span_id(span.parent_span_id.to_bytes());
        writer.trace_state_members(context.trace_state());
        writer.flags(flags(context, span.parent_span_is_remote));
        writer.name(&span.name);
        writer.kind(kind(&span.span_kind));
        writer.start_time_unix_nano(unix_nanos(span.start_time));
        writer.end_time_unix_nano(unix_nanos(span.end_time));
        for attribute in &span.attributes {
            writer.attribute(attribute.key.as_str(), SdkValue(&attribute.value));
        }
        writer.dropped_attributes_count(span.dropped_attributes_count);
        for event in &span.events.events {
            encode_event(event, writer);
        }
        writer.dropped_events_count(span.events.dropped_count);
        for link in &span.links.links {
            encode_link(link, writer);
        }
        writer.dropped_links_count(span.links.dropped_count);
        encode_status(&span.status, writer);
    }
}

fn encode_scope(scope: &InstrumentationScope, writer: &mut ScopeWriter<'_>) {
    writer.name(scope.name());
    if let Some(version) = scope.version() {
        writer.version(version);
    }
    for attribute in scope.attributes() {
        writer.attribute(attribute.key.as_str(), SdkValue(&attribute.value));
    }
    if let Some(url) = scope.schema_url() {
        writer.schema_url(url);
    }
}

fn encode_event(event: &Event, writer: &mut SpanWriter<'_>) {
    writer.event(unix_nanos(event.timestamp), &event.name, |writer| {
        for attribute in &event.attributes {
            writer.attribute(attribute.key.as_str(), SdkValue(&attribute.value));
        }
        writer.dropped_attributes_count(event.dropped_attributes_count);
    });
}

fn encode_link(link: &Link, writer: &mut SpanWriter<'_>) {
    let context = &link.span_context;
    let trace_id = context.trace_id().to_bytes();
    let span_id = context.span_id().to_bytes();
    writer.link(trace_id, span_id, |writer| {
        writer.trace_state_members(context.trace_state());
        writer.flags(flags(context, context.is_remote()));
        for attribute in &link.attributes {
            writer.attribute(attribute.key.as_str(), SdkValue(&attribute.value));
        }
        writer.dropped_attributes_count(link.dropped_attributes_count);
    });
}

fn encode_status(status: &Status, writer: &mut SpanWriter<'_>) {
    match status {
        Status::Unset => {}
        Status::Ok => writer.status(StatusCode::Ok, ""),
        Status::Error { description } => writer.status(StatusCode::Error, description),
    }
}

fn flags(context: &SpanContext, is_remote: bool) -> u32 {
    let remote = match is_remote {
        true => IS_REMOTE,
        false => 0,
    };
    u32::from(context.trace_flags().to_u8()) | HAS_IS_REMOTE | remote
}

fn kind(kind: &SpanKind) -> otlp::SpanKind {
    match kind {
        SpanKind::Internal => otlp::SpanKind::Internal,
        SpanKind::Server => otlp::SpanKind::Server,
        SpanKind::Client => otlp::SpanKind::Client,
        SpanKind::Producer => otlp::SpanKind::Producer,
        SpanKind::Consumer => otlp::SpanKind::Consumer,
    }
}

/// Nanoseconds since 1970; times before count as 0, times after 2554 as the last one.
fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since
        .as_secs()
        .checked_mul(1_000_000_000)
        .and_then(|nanos| nanos.checked_add(u64::from(since.subsec_nanos())))
        .unwrap_or(u64::MAX)
}

/// A value of the SDK's API.
struct SdkValue<'a>(&'a Value);

impl EncodeValue for SdkValue<'_> {
    #[inline]
    fn encode(&self, writer: ValueWriter<'_>) -> Written {
        match self.0 {
            Value::String(text) => writer.string(text.as_str()),
            Value::I64(number) => writer.int(*number),
            Value::Bool(value) => writer.bool(*value),
            Value::F64(number) => writer.double(*number),
            Value::Array(array) => encode_array(array, writer),
            // The API may grow kinds; until we know them their text stands for them.
            other => writer.string(&other.to_string()),
        }
    }
}

fn encode_array(array: &Array, writer: ValueWriter<'_>) -> Written {
    match array {
        Array::Bool(values) => values.as_slice().encode(writer),
        Array::I64(values) => values.as_slice().encode(writer),
        Array::F64(values) => values.as_slice().encode(writer),
        Array::String(values) => writer.array(|items| {
            for value in values {
                items.push(value.as_str());
            }
        }),
        other => writer.string(&other.to_string()),
    }
}

/// Encodes a resource of the SDK, once for all batches.
///
/// Attributes are in the order of their keys: the SDK keeps them in an order of chance, and equal resources should have
/// equal bytes.
pub fn encode_resource(resource: &Resource) -> EncodedResource {
    let mut attributes: Vec<_> = resource.iter().collect();
    attributes.sort_unstable_by_key(|(key, _)| key.as_str());
    EncodedResource::new(|writer| {
        for (key, value) in attributes {
            writer.attribute(key.as_str(), SdkValue(value));
        }
        if let Some(url) = resource.schema_url() {
            writer.schema_url(url);
        }
    })
}

/// Estimates how many bytes of memory a span holds: itself, its lists, and the text in them.
///
/// Text that the program holds anyway (`&'static str`) counts as well, because telling it apart costs more than it is
/// worth; what the allocator adds does not count.
#[inline]
pub(crate) fn memory(span: &SpanData) -> usize {
    let mut bytes = size_of::<SpanData>()
        + span.name.len()
        + attributes_memory(&span.attributes)
        + trace_state_memory(&span.span_context);
    if span.events.events.capacity() > 0 {
        bytes += events_memory(&span.events.events);
    }
    if span.links.links.capacity() > 0 {
        bytes += links_memory(&span.links.links);
    }
    if let Status::Error { description } = &span.status {
        bytes += description.len();
    }
    bytes
}

#[inline]
fn attributes_memory(attributes: &Vec<KeyValue>) -> usize {
    let mut bytes = attributes.capacity() * size_of::<KeyValue>();
    for attribute in attributes {
        bytes += attribute.key.as_str().len();
        match &attribute.value {
            Value::String(text) => bytes += text.as_str().len(),
            Value::Array(array) => bytes += array_memory(array),
            _ => {}
        }
    }
    bytes
}

fn events_memory(events: &Vec<Event>) -> usize {
    let mut bytes = events.capacity() * size_of::<Event>();
    for event in events {
        bytes += event.name.len() + attributes_memory(&event.attributes);
    }
    bytes
}

fn links_memory(links: &Vec<Link>) -> usize {
    let mut bytes = links.capacity() * size_of::<Link>();
    for link in links {
        bytes += attributes_memory(&link.attributes) + trace_state_memory(&link.span_context);
    }
    bytes
}

#[inline]
fn trace_state_memory(context: &SpanContext) -> usize {
    let members = context.trace_state().into_iter();
    if members.len() == 0 {
        return 0;
    }
    members
        .map(|(key, value)| 2 * size_of::<String>() + key.len() + value.len())
        .sum()
}

fn array_memory(array: &Array) -> usize {
    match array {
        Array::Bool(values) => values.len(),
        Array::I64(values) => values.len() * size_of::<i64>(),
        Array::F64(values) => values.len() * size_of::<f64>(),
        Array::String(values) => values
            .iter()
            .map(|text| size_of_val(text) + text.as_str().len())
            .sum(),
        // A kind of the API that we do not know yet.
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::time::Duration;

    use opentelemetry::StringValue;
    use opentelemetry::trace::SpanId;
    use opentelemetry::trace::TraceFlags;
    use opentelemetry::trace::TraceId;
    use opentelemetry::trace::TraceState;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
    use opentelemetry_proto::tonic::trace::v1::Status as ProtoStatus;
    use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
    use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
    use opentelemetry_sdk::trace::SpanEvents;
    use opentelemetry_sdk::trace::SpanLinks;
    use outspan_wire::otlp::Encoder;
    use outspan_wire::otlp::SpanLimits;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn arbitrary_value() -> impl Strategy<Value = Value> {
        let text = || ".{0,8}".prop_map(StringValue::from);
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::I64),
            (-1e9..1e9_f64).prop_map(Value::F64),
            text().prop_map(Value::String),
            vec(any::<bool>(), 0..4).prop_map(|v| Value::Array(Array::Bool(v))),
            vec(any::<i64>(), 0..4).prop_map(|v| Value::Array(Array::I64(v))),
            vec(-1e9..1e9_f64, 0..4).prop_map(|v| Value::Array(Array::F64(v))),
            vec(text(), 0..4).prop_map(|v| Value::Array(Array::String(v))),
        ]
    }

    fn arbitrary_attributes() -> impl Strategy<Value = Vec<KeyValue>> {
        let pair = ("[a-z.]{0,12}", arbitrary_value());
        vec(
            pair.prop_map(|(key, value)| KeyValue::new(key, value)),
            0..6,
        )
    }

    fn arbitrary_time() -> impl Strategy<Value = SystemTime> {
        any::<u64>().prop_map(|nanos| UNIX_EPOCH + Duration::from_nanos(nanos))
    }

    fn arbitrary_context() -> impl Strategy<Value = SpanContext> {
        let state = vec(("[a-z]{1,5}", "[a-z0-9]{1,5}"), 0..3);
        (1..u128::MAX, 1..u64::MAX, any::<u8>(), any::<bool>(), state).prop_map(
            |(trace, span, flags, is_remote, state)| {
                let state = TraceState::from_key_value(state).unwrap_or_default();
                SpanContext::new(
                    TraceId::from(trace),
                    SpanId::from(span),
                    TraceFlags::new(flags),
                    is_remote,
                    state,
                )
            },
        )
    }

    fn arbitrary_events() -> impl Strategy<Value = SpanEvents> {
        let event = (
            ".{0,8}",
            arbitrary_time(),
            arbitrary_attributes(),
            any::<u32>(),
        );
        let event = event.prop_map(|(name, time, attributes, dropped)| {
            Event::new(name, time, attributes, dropped)
        });
        (vec(event, 0..3), any::<u32>()).prop_map(|(list, dropped)| {
            let mut events = SpanEvents::default();
            events.events = list;
            events.dropped_count = dropped;
            events
        })
    }

    fn arbitrary_links() -> impl Strategy<Value = SpanLinks> {
        let link = (arbitrary_context(), arbitrary_attributes(), any::<u32>())
            .prop_map(|(context, attributes, dropped)| Link::new(context, attributes, dropped));
        (vec(link, 0..3), any::<u32>()).prop_map(|(list, dropped)| {
            let mut links = SpanLinks::default();
            links.links = list;
            links.dropped_count = dropped;
            links
        })
    }

    fn arbitrary_status() -> impl Strategy<Value = Status> {
        prop_oneof![
            Just(Status::Unset),
            Just(Status::Ok),
            ".{0,8}".prop_map(Status::error),
        ]
    }

    fn arbitrary_kind() -> impl Strategy<Value = SpanKind> {
        prop_oneof![
            Just(SpanKind::Internal),
            Just(SpanKind::Server),
            Just(SpanKind::Client),
            Just(SpanKind::Producer),
            Just(SpanKind::Consumer),
        ]
    }

    fn arbitrary_scope() -> impl Strategy<Value = InstrumentationScope> {
        let url = "https://[a-z]{1,4}";
        let version = prop::option::of("[0-9]{1,3}");
        (
            "[a-c]",
            version,
            prop::option::of(url),
            arbitrary_attributes(),
        )
            .prop_map(|(name, version, url, attributes)| {
                let mut scope = InstrumentationScope::builder(name).with_attributes(attributes);
                if let Some(version) = version {
                    scope = scope.with_version(version);
                }
                if let Some(url) = url {
                    scope = scope.with_schema_url(url);
                }
                scope.build()
            })
    }

    fn arbitrary_span() -> impl Strategy<Value = SpanData> {
        let identity = (arbitrary_context(), any::<u64>(), any::<bool>());
        let times = (arbitrary_time(), arbitrary_time());
        let lists = (
            arbitrary_attributes(),
            any::<u32>(),
            arbitrary_events(),
            arbitrary_links(),
        );
        let rest = (
            arbitrary_kind(),
            ".{0,12}",
            arbitrary_status(),
            arbitrary_scope(),
        );
        (identity, times, lists, rest).prop_map(|(identity, times, lists, rest)| SpanData {
            span_context: identity.0,
            parent_span_id: SpanId::from(identity.1),
            parent_span_is_remote: identity.2,
            span_kind: rest.0,
            name: Cow::Owned(rest.1),
            start_time: times.0,
            end_time: times.1,
            attributes: lists.0,
            dropped_attributes_count: lists.1,
            events: lists.2,
            links: lists.3,
            status: rest.2,
            instrumentation_scope: rest.3,
        })
    }

    fn encode(spans: &[SpanData], resource: &Resource) -> ExportTraceServiceRequest {
        let resource = encode_resource(resource);
        let mut encoder = Encoder::new(SpanLimits::unlimited());
        for span in spans {
            encoder.push(&resource, &SdkSpan(span));
        }
        let request = encoder.finish().expect("there are spans");
        assert_eq!(request.spans, spans.len());
        ExportTraceServiceRequest::decode(request.bytes).expect("prost decodes it")
    }

    /// Makes what the peer writes for nothing equal to leaving it out, which means the same.
    fn in_one_form(mut resources: Vec<ResourceSpans>) -> Vec<ResourceSpans> {
        for resource in &mut resources {
            // The SDK keeps these in an order of chance; ours sorts them.
            let attributes = &mut resource.resource.get_or_insert_default().attributes;
            attributes.sort_by(|one, other| one.key.cmp(&other.key));
            for scope in &mut resource.scope_spans {
                scope.scope.get_or_insert_default();
                for span in &mut scope.spans {
                    if span.status == Some(ProtoStatus::default()) {
                        span.status = None;
                    }
                }
            }
        }
        resources
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn spans_become_what_others_make_of_them(
            spans in vec(arbitrary_span(), 1..6),
            attributes in arbitrary_attributes(),
        ) {
            let resource = Resource::builder_empty().with_attributes(attributes).build();
            let ours = encode(&spans, &resource);
            let attributes = ResourceAttributesWithSchema::from(&resource);
            let theirs = group_spans_by_resource_and_scope(spans, &attributes);
            prop_assert_eq!(
                in_one_form(ours.resource_spans),
                in_one_form(theirs)
            );
        }

        #[test]
        fn the_estimate_of_memory_covers_the_bytes_of_the_span(span in arbitrary_span()) {
            let encoded = encode(std::slice::from_ref(&span), &Resource::builder_empty().build());
            let scope = encoded.resource_spans[0].scope_spans[0].spans[0].encoded_len();
            // Integers may take more bytes on the wire than in memory, by a few each.
            prop_assert!(memory(&span) + 64 > scope, "{} {scope}", memory(&span));
        }
    }

    #[test]
    fn times_that_otlp_cannot_hold_are_clamped() {
        assert_eq!(unix_nanos(UNIX_EPOCH - Duration::from_secs(1)), 0);
        assert_eq!(unix_nanos(UNIX_EPOCH + Duration::from_nanos(7)), 7);
        let far = UNIX_EPOCH + Duration::from_secs(u64::from(u32::MAX) * 10);
        assert_eq!(unix_nanos(far), u64::MAX);
    }

    #[test]
    fn large_text_counts_wherever_it_stands() {
        let large = || "x".repeat(100_000);
        let attributes = || vec![KeyValue::new("key", large())];
        let context = || SpanContext::empty_context();
        let span = || SpanData {
            span_context: context(),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: Cow::Borrowed("small"),
            start_time: UNIX_EPOCH,
            end_time: UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        };
        assert!(memory(&span()) < 1000);
        let mut with_event = SpanEvents::default();
        with_event.events = vec![Event::new("event", UNIX_EPOCH, attributes(), 0)];
        let mut with_link = SpanLinks::default();
        with_link.links = vec![Link::new(context(), attributes(), 0)];
        let texts = Value::Array(Array::String(vec![large().into()]));
        for large in [
            SpanData {
                name: Cow::Owned(large()),
                ..span()
            },
            SpanData {
                attributes: attributes(),
                ..span()
            },
            SpanData {
                attributes: vec![KeyValue::new(large(), 1_i64)],
                ..span()
            },
            SpanData {
                attributes: vec![KeyValue::new("texts", texts)],
                ..span()
            },
            SpanData {
                events: with_event,
                ..span()
            },
            SpanData {
                links: with_link,
                ..span()
            },
            SpanData {
                status: Status::error(large()),
                ..span()
            },
        ] {
            assert!(memory(&large) > 100_000, "{large:?}");
        }
    }
}
