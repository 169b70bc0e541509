//! Spans, events and links.

use std::fmt;

use super::value::AttributeList;
use super::value::EncodeValue;
use super::value::ValueWriter;
use super::value::Written;
use crate::otlp::fields::event;
use crate::otlp::fields::link;
use crate::otlp::fields::span;
use crate::otlp::fields::status;
use crate::otlp::limits::SpanLimits;
use crate::otlp::limits::ValueLimits;
use crate::otlp::reader::WireType;
use crate::otlp::view::SpanKind;
use crate::otlp::view::StatusCode;
use crate::otlp::writer::close;
use crate::otlp::writer::open;
use crate::otlp::writer::push_bytes;
use crate::otlp::writer::push_fixed32;
use crate::otlp::writer::push_int;
use crate::otlp::writer::push_short_bytes;
use crate::otlp::writer::push_short_fixed64;
use crate::otlp::writer::push_uint;
use crate::otlp::writer::short_tag;

/// The how many-th nested message a span is, after `ResourceSpans` and `ScopeSpans`.
const SPAN_DEPTH: usize = 3;

/// How many messages below its owner an attribute's `AnyValue` is: `KeyValue`, `AnyValue`.
const VALUE_BELOW: usize = 2;

/// Takes the fields of one span, in any order.
///
/// Call what the source has; what is not called keeps its protobuf default. Call each method that sets one
/// thing at most once (a second call wins, unless it sets a default). Attributes, events and links are
/// counted against the encoder's [`SpanLimits`].
pub struct SpanWriter<'a> {
    out: &'a mut Vec<u8>,
    limits: &'a SpanLimits,
    attributes: AttributeList,
    events_left: usize,
    dropped_events: u32,
    links_left: usize,
    dropped_links: u32,
}

impl<'a> SpanWriter<'a> {
    #[inline]
    pub(super) fn new(out: &'a mut Vec<u8>, limits: &'a SpanLimits) -> Self {
        Self {
            attributes: AttributeList::new(
                short_tag(span::ATTRIBUTES, WireType::Bytes),
                limits.attributes,
                ValueLimits::of_span(limits, SPAN_DEPTH + VALUE_BELOW),
            ),
            events_left: limits.events,
            dropped_events: 0,
            links_left: limits.links,
            dropped_links: 0,
            out,
            limits,
        }
    }

    /// Writes what is known only at the end.
    #[inline]
    pub(super) fn finish(self) {
        push_count(
            self.out,
            span::DROPPED_ATTRIBUTES_COUNT,
            self.attributes.dropped,
        );
        push_count(self.out, span::DROPPED_EVENTS_COUNT, self.dropped_events);
        push_count(self.out, span::DROPPED_LINKS_COUNT, self.dropped_links);
    }

    /// Sets the trace's id. All zeros make the span invalid, and receivers refuse it.
    #[inline]
    pub fn trace_id(&mut self, id: [u8; 16]) {
        push_short_bytes::<_, 16, 18>(self.out, short_tag(span::TRACE_ID, WireType::Bytes), id);
    }

    /// Sets the span's id. All zeros make the span invalid, and receivers refuse it.
    #[inline]
    pub fn span_id(&mut self, id: [u8; 8]) {
        push_short_bytes::<_, 8, 10>(self.out, short_tag(span::SPAN_ID, WireType::Bytes), id);
    }

    /// Sets the parent's id. All zeros mean that there is no parent.
    #[inline]
    pub fn parent_span_id(&mut self, id: [u8; 8]) {
        if id != [0; 8] {
            let tag = short_tag(span::PARENT_SPAN_ID, WireType::Bytes);
            push_short_bytes::<_, 8, 10>(self.out, tag, id);
        }
    }

    /// Sets the W3C trace state, in the form of its header.
    #[inline]
    pub fn trace_state(&mut self, header: &str) {
        push_text(self.out, span::TRACE_STATE, header);
    }

    /// Sets the W3C trace state from its list members, without a header string in between.
    #[inline]
    pub fn trace_state_members<'m>(
        &mut self,
        members: impl IntoIterator<Item = (&'m str, &'m str)>,
    ) {
        push_members(self.out, span::TRACE_STATE, members);
    }

    /// Sets the flags: W3C trace flags in bits 0 to 7, bit 8 if bit 9 is known, bit 9 if the parent is remote.
    ///
    /// Source: `Span.flags` in `trace.proto`.
    #[inline]
    pub fn flags(&mut self, flags: u32) {
        if flags != 0 {
            push_fixed32(self.out, span::FLAGS, flags);
        }
    }

    /// Sets the name.
    #[inline]
    pub fn name(&mut self, name: &str) {
        push_text(self.out, span::NAME, name);
    }

    /// Sets the kind.
    #[inline]
    pub fn kind(&mut self, kind: SpanKind) {
        let number = kind.number();
        if number != 0 {
            push_int(self.out, span::KIND, i64::from(number));
        }
    }

    /// Sets the start, in nanoseconds since 1970-01-01 UTC.
    #[inline]
    pub fn start_time_unix_nano(&mut self, time: u64) {
        push_time(
            self.out,
            const { time_tag(span::START_TIME_UNIX_NANO) },
            time,
        );
    }

    /// Sets the end, in nanoseconds since 1970-01-01 UTC.
    #[inline]
    pub fn end_time_unix_nano(&mut self, time: u64) {
        push_time(self.out, const { time_tag(span::END_TIME_UNIX_NANO) }, time);
    }

    /// Adds an attribute, or counts it as dropped.
    ///
    /// OpenTelemetry wants each key once; the writer does not look.
    #[inline]
    pub fn attribute(&mut self, key: &str, value: impl EncodeValue) {
        self.attribute_with(key, |writer| value.encode(writer));
    }

    /// Adds an attribute whose value `write` writes, or counts it as dropped without calling `write`.
    #[inline]
    pub fn attribute_with(&mut self, key: &str, write: impl FnOnce(ValueWriter<'_>) -> Written) {
        self.attributes.write(self.out, key, write);
    }

    /// Adds attributes that the source dropped itself.
    #[inline]
    pub fn dropped_attributes_count(&mut self, count: u32) {
        self.attributes.drop_more(count);
    }

    /// Adds an event, or counts it as dropped without calling `write`; the time is in nanoseconds since
    /// 1970-01-01 UTC.
    #[inline]
    pub fn event(
        &mut self,
        time_unix_nano: u64,
        name: &str,
        write: impl FnOnce(&mut EventWriter<'_>),
    ) {
        let Some(left) = self.events_left.checked_sub(1) else {
            self.dropped_events_count(1);
            return;
        };
        self.events_left = left;

        let message = open(self.out, span::EVENTS, 1);
        let time_tag = const { time_tag(event::TIME_UNIX_NANO) };
        push_time(self.out, time_tag, time_unix_nano);
        push_text(self.out, event::NAME, name);
        let mut writer = EventWriter::new(self.out, self.limits);
        write(&mut writer);
        writer.finish();
        close(self.out, message);
    }

    /// Adds attributes, events or links that stand ready as fields of a span. No limit applies to them.
    #[inline]
    pub(crate) fn encoded_fields(&mut self, fields: &[u8]) {
        self.out.extend_from_slice(fields);
    }

    /// Adds events that the source dropped itself.
    #[inline]
    pub fn dropped_events_count(&mut self, count: u32) {
        self.dropped_events = self.dropped_events.saturating_add(count);
    }

    /// Adds a link to another span, or counts it as dropped without calling `write`.
    #[inline]
    pub fn link(
        &mut self,
        trace_id: [u8; 16],
        span_id: [u8; 8],
        write: impl FnOnce(&mut LinkWriter<'_>),
    ) {
        let Some(left) = self.links_left.checked_sub(1) else {
            self.dropped_links_count(1);
            return;
        };
        self.links_left = left;

        let message = open(self.out, span::LINKS, 1);
        push_bytes(self.out, link::TRACE_ID, &trace_id);
        push_bytes(self.out, link::SPAN_ID, &span_id);
        let mut writer = LinkWriter::new(self.out, self.limits);
        write(&mut writer);
        writer.finish();
        close(self.out, message);
    }

    /// Adds links that the source dropped itself.
    #[inline]
    pub fn dropped_links_count(&mut self, count: u32) {
        self.dropped_links = self.dropped_links.saturating_add(count);
    }

    /// Sets the status, with the words for an error.
    ///
    /// Unset without words is left out, which means the same.
    #[inline]
    pub fn status(&mut self, code: StatusCode, message: &str) {
        let number = code.number();
        if number == 0 && message.is_empty() {
            return;
        }
        let status = open(self.out, span::STATUS, 1);
        push_text(self.out, status::MESSAGE, message);
        if number != 0 {
            push_int(self.out, status::CODE, i64::from(number));
        }
        close(self.out, status);
    }
}

impl fmt::Debug for SpanWriter<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SpanWriter")
            .field("limits", &self.limits)
            .field("dropped_attributes", &self.attributes.dropped)
            .field("dropped_events", &self.dropped_events)
            .field("dropped_links", &self.dropped_links)
            .finish_non_exhaustive()
    }
}

/// Takes the attributes of an event.
pub struct EventWriter<'a> {
    out: &'a mut Vec<u8>,
    attributes: AttributeList,
}

impl<'a> EventWriter<'a> {
    #[inline]
    fn new(out: &'a mut Vec<u8>, limits: &SpanLimits) -> Self {
        Self {
            out,
            attributes: AttributeList::new(
                short_tag(event::ATTRIBUTES, WireType::Bytes),
                limits.attributes_per_event,
                ValueLimits::of_span(limits, SPAN_DEPTH + 1 + VALUE_BELOW),
            ),
        }
    }

    #[inline]
    fn finish(self) {
        push_count(
            self.out,
            event::DROPPED_ATTRIBUTES_COUNT,
            self.attributes.dropped,
        );
    }

    /// Adds an attribute, or counts it as dropped.
    #[inline]
    pub fn attribute(&mut self, key: &str, value: impl EncodeValue) {
        self.attribute_with(key, |writer| value.encode(writer));
    }

    /// Adds an attribute whose value `write` writes, or counts it as dropped without calling `write`.
    #[inline]
    pub fn attribute_with(&mut self, key: &str, write: impl FnOnce(ValueWriter<'_>) -> Written) {
        self.attributes.write(self.out, key, write);
    }

    /// Adds attributes that the source dropped itself.
    #[inline]
    pub fn dropped_attributes_count(&mut self, count: u32) {
        self.attributes.drop_more(count);
    }
}

impl fmt::Debug for EventWriter<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EventWriter")
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}

/// Takes the trace state, flags and attributes of a link.
pub struct LinkWriter<'a> {
    out: &'a mut Vec<u8>,
    attributes: AttributeList,
}

impl<'a> LinkWriter<'a> {
    #[inline]
    fn new(out: &'a mut Vec<u8>, limits: &SpanLimits) -> Self {
        Self {
            out,
            attributes: AttributeList::new(
                short_tag(link::ATTRIBUTES, WireType::Bytes),
                limits.attributes_per_link,
                ValueLimits::of_span(limits, SPAN_DEPTH + 1 + VALUE_BELOW),
            ),
        }
    }

    #[inline]
    fn finish(self) {
        push_count(
            self.out,
            link::DROPPED_ATTRIBUTES_COUNT,
            self.attributes.dropped,
        );
    }

    /// Sets the W3C trace state of the linked span, in the form of its header.
    #[inline]
    pub fn trace_state(&mut self, header: &str) {
        push_text(self.out, link::TRACE_STATE, header);
    }

    /// Sets the W3C trace state of the linked span from its list members.
    #[inline]
    pub fn trace_state_members<'m>(
        &mut self,
        members: impl IntoIterator<Item = (&'m str, &'m str)>,
    ) {
        push_members(self.out, link::TRACE_STATE, members);
    }

    /// Sets the flags, as [`SpanWriter::flags`] has them; bit 9 tells whether the linked span is remote.
    #[inline]
    pub fn flags(&mut self, flags: u32) {
        if flags != 0 {
            push_fixed32(self.out, link::FLAGS, flags);
        }
    }

    /// Adds an attribute, or counts it as dropped.
    #[inline]
    pub fn attribute(&mut self, key: &str, value: impl EncodeValue) {
        self.attribute_with(key, |writer| value.encode(writer));
    }

    /// Adds an attribute whose value `write` writes, or counts it as dropped without calling `write`.
    #[inline]
    pub fn attribute_with(&mut self, key: &str, write: impl FnOnce(ValueWriter<'_>) -> Written) {
        self.attributes.write(self.out, key, write);
    }

    /// Adds attributes that the source dropped itself.
    #[inline]
    pub fn dropped_attributes_count(&mut self, count: u32) {
        self.attributes.drop_more(count);
    }
}

impl fmt::Debug for LinkWriter<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LinkWriter")
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}

#[inline(always)]
fn push_text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        push_bytes(out, field, text.as_bytes());
    }
}

const fn time_tag(field: u32) -> u8 {
    short_tag(field, WireType::Fixed64)
}

#[inline(always)]
fn push_time(out: &mut Vec<u8>, tag: u8, time_unix_nano: u64) {
    if time_unix_nano != 0 {
        push_short_fixed64(out, tag, time_unix_nano);
    }
}

#[inline(always)]
pub(super) fn push_count(out: &mut Vec<u8>, field: u32, count: u32) {
    if count != 0 {
        push_uint(out, field, u64::from(count));
    }
}

/// Appends `key=value,key=value`.
fn push_members<'m>(
    out: &mut Vec<u8>,
    field: u32,
    members: impl IntoIterator<Item = (&'m str, &'m str)>,
) {
    let mut members = members.into_iter();
    let Some(first) = members.next() else {
        return;
    };
    let header = open(out, field, 1);
    push_member(out, first);
    for member in members {
        out.push(b',');
        push_member(out, member);
    }
    close(out, header);
}

fn push_member(out: &mut Vec<u8>, (key, value): (&str, &str)) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    out.extend_from_slice(value.as_bytes());
}
