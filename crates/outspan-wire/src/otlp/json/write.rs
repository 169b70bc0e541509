//! Protobuf to OTLP JSON, straight from the views.

use std::fmt::Write;

use base64::Engine;
use base64::encoded_len;
use base64::engine::general_purpose::STANDARD;

use crate::buffer::Buffer;
use crate::buffer::Formatted;
use crate::buffer::Limited;
use crate::json::push_digits;
use crate::json::push_escaped;
use crate::otlp::reader::NESTING_MAX;
use crate::otlp::view::AttributeView;
use crate::otlp::view::AttributesView;
use crate::otlp::view::EntityRefView;
use crate::otlp::view::EventView;
use crate::otlp::view::LinkView;
use crate::otlp::view::RequestView;
use crate::otlp::view::ResourceSpansView;
use crate::otlp::view::ResourceView;
use crate::otlp::view::ScopeSpansView;
use crate::otlp::view::ScopeView;
use crate::otlp::view::SpanView;
use crate::otlp::view::StatusView;
use crate::otlp::view::Texts;
use crate::otlp::view::ValueView;

/// Magnitudes outside are written with an exponent, as JavaScript does, so that no number is 300 digits long.
const PLAIN_DOUBLES: std::ops::Range<f64> = 1e-6..1e21;

/// Appends a validated request to `text` as OTLP JSON: one line, without a line break at its end.
///
/// Strict OTLP: keys in lowerCamelCase, ids in lower-case hexadecimal, enums as numbers, 64-bit integers as
/// strings, `NaN` and infinities as strings. Defaults are left out, except where readers need them:
/// `resourceSpans`, a `key`, the `values` of a list or map, and what an attribute value is (`{"stringValue":""}`).
/// Fields that the schema does not know, and those that only profiles may use, do not appear.
///
/// With bytes that nobody validated the text is still JSON, but ends where the bytes are broken.
///
/// # Examples
///
/// ```
/// use outspan_wire::otlp::read_json;
/// use outspan_wire::otlp::write_json;
///
/// let mut request = Vec::new();
/// read_json(br#"{ "resourceSpans": [ {"scopeSpans": null} ] }"#, &mut request)?;
///
/// let mut text = Vec::new();
/// write_json(&request, &mut text);
/// assert_eq!(text, br#"{"resourceSpans":[{}]}"#);
/// # Ok::<(), outspan_wire::otlp::WireError>(())
/// ```
pub fn write_json(request: &[u8], text: &mut Vec<u8>) {
    write_request(request, text);
}

/// Writes a validated request as OTLP JSON, as [`write_json`] does, unless the text takes more than `max_bytes` bytes.
///
/// Writing stops where the bound is reached, and no more than about `max_bytes` bytes are allocated. Returns `None` then:
/// a few bytes of a request can become dozens in JSON.
///
/// # Examples
///
/// ```
/// use outspan_wire::otlp::write_json_within;
///
/// assert_eq!(write_json_within(&[], 20).as_deref(), Some(&br#"{"resourceSpans":[]}"#[..]));
/// assert_eq!(write_json_within(&[], 19), None);
/// ```
pub fn write_json_within(request: &[u8], max_bytes: usize) -> Option<Vec<u8>> {
    // What programs write becomes two to three times as long.
    let expected = request.len().saturating_mul(3);
    let mut text = Limited::with_capacity(expected, max_bytes);
    write_request(request, &mut text);
    (!text.is_over()).then(|| text.into_vec())
}

/// Returns whether a span of a validated request can have an OTLP JSON form of at most `max_bytes` bytes, as far as its
/// resource and its scope allow it.
///
/// Only a request with one resource and one scope is looked at; in others it depends on the span. So a caller that halves
/// a request until the halves fit need not do so down to each span of a resource that is too large by itself.
pub fn is_json_head_within(request: &[u8], max_bytes: usize) -> bool {
    let mut resources = RequestView::new(request).resource_spans();
    let (Some(envelope), None) = (resources.next(), resources.next()) else {
        return true;
    };
    let mut scopes = envelope.scope_spans();
    let (Some(scope_spans), None) = (scopes.next(), scopes.next()) else {
        return true;
    };
    let mut text = Limited::new(max_bytes);
    let mut writer = Writer::new(&mut text);
    writer.resource(envelope.resource());
    writer.scope(scope_spans.scope());
    !text.is_over()
}

fn write_request<B: Buffer>(request: &[u8], text: &mut B) {
    let mut writer = Writer::new(text);
    writer.begin(b'{');
    writer.array(
        "resourceSpans",
        RequestView::new(request).resource_spans(),
        Writer::resource_spans,
    );
    writer.end(b'}');
}

/// Writes JSON values, with commas where they belong.
pub(super) struct Writer<'a, B = Vec<u8>> {
    /// Where the document begins; what is before is not ours.
    start: usize,
    out: &'a mut B,
}

impl<'a, B: Buffer> Writer<'a, B> {
    /// Begins a document after what stands in `out` already.
    pub(super) fn new(out: &'a mut B) -> Self {
        Self {
            start: out.len(),
            out,
        }
    }
}

impl<B: Buffer> Writer<'_, B> {
    fn resource_spans(&mut self, resource_spans: ResourceSpansView<'_>) {
        self.begin(b'{');
        if resource_spans.has_resource() {
            self.key("resource");
            self.resource(resource_spans.resource());
        }
        self.array_unless_empty(
            "scopeSpans",
            resource_spans.scope_spans(),
            Self::scope_spans,
        );
        self.text_unless_empty("schemaUrl", resource_spans.schema_url());
        self.end(b'}');
    }

    fn resource(&mut self, resource: ResourceView<'_>) {
        self.begin(b'{');
        self.attributes(resource.attributes());
        self.count(
            "droppedAttributesCount",
            resource.dropped_attributes_count(),
        );
        self.array_unless_empty("entityRefs", resource.entity_refs(), Self::entity_ref);
        self.end(b'}');
    }

    fn entity_ref(&mut self, entity_ref: EntityRefView<'_>) {
        self.begin(b'{');
        self.key("schemaUrl");
        self.text(entity_ref.schema_url());
        self.key("type");
        self.text(entity_ref.entity_type());
        self.texts("idKeys", entity_ref.id_keys());
        self.texts("descriptionKeys", entity_ref.description_keys());
        self.end(b'}');
    }

    fn scope_spans(&mut self, scope_spans: ScopeSpansView<'_>) {
        self.begin(b'{');
        if scope_spans.has_scope() {
            self.key("scope");
            self.scope(scope_spans.scope());
        }
        self.array_unless_empty("spans", scope_spans.spans(), Self::span);
        self.text_unless_empty("schemaUrl", scope_spans.schema_url());
        self.end(b'}');
    }

    fn scope(&mut self, scope: ScopeView<'_>) {
        self.begin(b'{');
        self.text_unless_empty("name", scope.name());
        self.text_unless_empty("version", scope.version());
        self.attributes(scope.attributes());
        self.count("droppedAttributesCount", scope.dropped_attributes_count());
        self.end(b'}');
    }

    fn span(&mut self, span: SpanView<'_>) {
        self.begin(b'{');
        self.id("traceId", span.trace_id_bytes());
        self.id("spanId", span.span_id_bytes());
        self.text_unless_empty("traceState", span.trace_state());
        self.id("parentSpanId", span.parent_span_id_bytes());
        self.count("flags", span.flags());
        self.text_unless_empty("name", span.name());
        self.enumeration("kind", span.kind().number());
        self.time("startTimeUnixNano", span.start_time_unix_nano());
        self.time("endTimeUnixNano", span.end_time_unix_nano());
        self.attributes(span.attributes());
        self.count("droppedAttributesCount", span.dropped_attributes_count());
        self.array_unless_empty("events", span.events(), Self::event);
        self.count("droppedEventsCount", span.dropped_events_count());
        self.array_unless_empty("links", span.links(), Self::link);
        self.count("droppedLinksCount", span.dropped_links_count());
        if span.has_status() {
            self.key("status");
            self.status(span.status());
        }
        self.end(b'}');
    }

    fn event(&mut self, event: EventView<'_>) {
        self.begin(b'{');
        self.time("timeUnixNano", event.time_unix_nano());
        self.text_unless_empty("name", event.name());
        self.attributes(event.attributes());
        self.count("droppedAttributesCount", event.dropped_attributes_count());
        self.end(b'}');
    }

    fn link(&mut self, link: LinkView<'_>) {
        self.begin(b'{');
        self.id("traceId", link.trace_id_bytes());
        self.id("spanId", link.span_id_bytes());
        self.text_unless_empty("traceState", link.trace_state());
        self.attributes(link.attributes());
        self.count("droppedAttributesCount", link.dropped_attributes_count());
        self.count("flags", link.flags());
        self.end(b'}');
    }

    fn status(&mut self, status: StatusView<'_>) {
        self.begin(b'{');
        self.text_unless_empty("message", status.message());
        self.enumeration("code", status.code().number());
        self.end(b'}');
    }

    fn attributes(&mut self, attributes: AttributesView<'_>) {
        self.array_unless_empty("attributes", attributes.iter(), |writer, attribute| {
            writer.attribute(attribute, NESTING_MAX);
        });
    }

    fn attribute(&mut self, attribute: AttributeView<'_>, nesting: u32) {
        self.begin(b'{');
        self.key("key");
        self.text(attribute.key());
        if attribute.has_value() {
            self.key("value");
            self.value(attribute.value(), nesting);
        }
        self.end(b'}');
    }

    /// Writes a value. Bytes that nobody validated may nest at will; from the bound on they read as empty.
    fn value(&mut self, value: ValueView<'_>, nesting: u32) {
        self.begin(b'{');
        match value {
            ValueView::Empty => {}
            ValueView::Str(text) => {
                self.key("stringValue");
                self.text(text);
            }
            ValueView::Bool(value) => {
                self.key("boolValue");
                self.raw(if value { "true" } else { "false" });
            }
            ValueView::Int(value) => {
                self.key("intValue");
                self.quoted_integer(value < 0, value.unsigned_abs());
            }
            ValueView::Double(value) => {
                self.key("doubleValue");
                self.double(value);
            }
            ValueView::Bytes(bytes) => {
                self.key("bytesValue");
                self.base64(bytes);
            }
            ValueView::Array(_) | ValueView::Map(_) if nesting == 0 => {}
            ValueView::Array(array) => {
                self.key("arrayValue");
                self.begin(b'{');
                self.array("values", array.iter(), |writer, item| {
                    writer.value(item, nesting - 1);
                });
                self.end(b'}');
            }
            ValueView::Map(map) => {
                self.key("kvlistValue");
                self.begin(b'{');
                self.array("values", map.iter(), |writer, entry| {
                    writer.attribute(entry, nesting - 1);
                });
                self.end(b'}');
            }
        }
        self.end(b'}');
    }

    fn texts(&mut self, key: &str, texts: Texts<'_>) {
        self.array(key, texts, Self::text);
    }

    pub(super) fn array<T>(
        &mut self,
        key: &str,
        items: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.key(key);
        self.begin(b'[');
        for item in items {
            if self.out.is_over() {
                break;
            }
            write(self, item);
        }
        self.end(b']');
    }

    fn array_unless_empty<T>(
        &mut self,
        key: &str,
        items: impl Iterator<Item = T>,
        write: impl FnMut(&mut Self, T),
    ) {
        let mut items = items.peekable();
        if items.peek().is_some() {
            self.array(key, items, write);
        }
    }

    pub(super) fn text_unless_empty(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.key(key);
            self.text(text);
        }
    }

    fn id(&mut self, key: &str, id: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        if id.is_empty() {
            return;
        }
        self.key(key);
        self.out.push(b'"');
        for byte in id {
            let high = DIGITS[usize::from(byte >> 4)];
            let low = DIGITS[usize::from(byte & 0x0F)];
            self.out.extend_from_slice(&[high, low]);
        }
        self.out.push(b'"');
    }

    fn count(&mut self, key: &str, count: u32) {
        if count != 0 {
            self.key(key);
            self.digits(u64::from(count));
        }
    }

    pub(super) fn enumeration(&mut self, key: &str, number: i32) {
        if number == 0 {
            return;
        }
        self.key(key);
        if number < 0 {
            self.out.push(b'-');
        }
        self.digits(u64::from(number.unsigned_abs()));
    }

    fn time(&mut self, key: &str, time_unix_nano: u64) {
        if time_unix_nano != 0 {
            self.key(key);
            self.quoted_integer(false, time_unix_nano);
        }
    }

    pub(super) fn quoted_integer(&mut self, is_negative: bool, magnitude: u64) {
        self.raw(if is_negative { "\"-" } else { "\"" });
        self.digits(magnitude);
        self.out.push(b'"');
    }

    fn digits(&mut self, number: u64) {
        push_digits(self.out, number);
    }

    fn double(&mut self, value: f64) {
        if value.is_nan() {
            return self.raw("\"NaN\"");
        }
        if value.is_infinite() {
            return self.raw(if value > 0.0 {
                "\"Infinity\""
            } else {
                "\"-Infinity\""
            });
        }
        let is_plain = value == 0.0 || PLAIN_DOUBLES.contains(&value.abs());
        let mut out = Formatted(&mut *self.out);
        let written = if is_plain {
            write!(out, "{value}")
        } else {
            write!(out, "{value:e}")
        };
        written.expect("formatting into a buffer succeeds");
    }

    fn base64(&mut self, bytes: &[u8]) {
        self.out.push(b'"');
        let start = self.out.len();
        let len = encoded_len(bytes.len(), true)
            .expect("four thirds of what fits into memory fit into usize");
        self.out.push_zeros(len);
        if self.out.is_over() {
            return;
        }
        STANDARD
            .encode_slice(bytes, &mut self.out[start..])
            .expect("the room has exactly the encoded length");
        self.out.push(b'"');
    }

    pub(super) fn text(&mut self, text: &str) {
        self.comma();
        self.out.push(b'"');
        push_escaped(self.out, text);
        self.out.push(b'"');
    }

    pub(super) fn begin(&mut self, bracket: u8) {
        self.comma();
        self.out.push(bracket);
    }

    pub(super) fn end(&mut self, bracket: u8) {
        self.out.push(bracket);
    }

    pub(super) fn key(&mut self, key: &str) {
        self.comma();
        self.out.push(b'"');
        self.raw(key);
        self.raw("\":");
    }

    /// Writes a comma before a key or value, unless it is the first of its object or array, or follows a key.
    ///
    /// The byte before tells: a string or number never ends in one of these.
    fn comma(&mut self) {
        let is_first = self.out.len() == self.start;
        if is_first || matches!(self.out.last(), Some(b'{' | b'[' | b':')) {
            return;
        }
        self.out.push(b',');
    }

    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }
}
