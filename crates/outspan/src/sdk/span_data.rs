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
pub fn encode_resource(resource: &Resource) -> EncodedResource {
    EncodedResource::new(|writer| {
        for (key, value) in resource {
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
