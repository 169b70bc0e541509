//! Views of a span and of what belongs to one span.

use std::fmt;
use std::fmt::Debug;
use std::fmt::Formatter;
use std::iter::FusedIterator;
use std::time::Duration;

use super::super::fields;
use super::super::reader::FieldValue;
use super::super::reader::Fields;
use super::AttributesView;
use super::DebugList;
use super::Hex;
use super::PieceFields;
use super::ResourceView;
use super::ScopeSpansView;
use super::ScopeView;
use super::ValueView;
use super::next_bytes;
use super::text;

/// Reads a span, with its resource and its scope.
///
/// Making the view reads the span's own fields once; attributes, events and links are read when asked for.
#[derive(Clone, Copy)]
pub struct SpanView<'a> {
    bytes: &'a [u8],
    scope_spans: ScopeSpansView<'a>,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent_span_id: &'a [u8],
    trace_state: &'a [u8],
    name: &'a [u8],
    status: Option<StatusView<'a>>,
    start_time_unix_nano: u64,
    end_time_unix_nano: u64,
    kind: i32,
    dropped_attributes_count: u32,
    dropped_events_count: u32,
    dropped_links_count: u32,
    flags: u32,
}

impl<'a> SpanView<'a> {
    pub(in crate::otlp) fn new(bytes: &'a [u8], scope_spans: ScopeSpansView<'a>) -> Self {
        let mut span = Self {
            bytes,
            scope_spans,
            trace_id: &[],
            span_id: &[],
            parent_span_id: &[],
            trace_state: &[],
            name: &[],
            status: None,
            start_time_unix_nano: 0,
            end_time_unix_nano: 0,
            kind: 0,
            dropped_attributes_count: 0,
            dropped_events_count: 0,
            dropped_links_count: 0,
            flags: 0,
        };
        for field in Fields::new(bytes) {
            span.set(field.number, field.value);
        }
        span
    }

    fn set(&mut self, number: u32, value: FieldValue<'a>) {
        use FieldValue::Bytes;
        use FieldValue::Fixed32;
        use FieldValue::Fixed64;
        use FieldValue::Varint;
        match (number, value) {
            (fields::span::TRACE_ID, Bytes(value)) => self.trace_id = value,
            (fields::span::SPAN_ID, Bytes(value)) => self.span_id = value,
            (fields::span::TRACE_STATE, Bytes(value)) => self.trace_state = value,
            (fields::span::PARENT_SPAN_ID, Bytes(value)) => self.parent_span_id = value,
            (fields::span::NAME, Bytes(value)) => self.name = value,
            (fields::span::KIND, Varint(value)) => self.kind = value as i32,
            (fields::span::START_TIME_UNIX_NANO, Fixed64(value)) => {
                self.start_time_unix_nano = value;
            }
            (fields::span::END_TIME_UNIX_NANO, Fixed64(value)) => self.end_time_unix_nano = value,
            (fields::span::DROPPED_ATTRIBUTES_COUNT, Varint(value)) => {
                self.dropped_attributes_count = value as u32;
            }
            (fields::span::DROPPED_EVENTS_COUNT, Varint(value)) => {
                self.dropped_events_count = value as u32;
            }
            (fields::span::DROPPED_LINKS_COUNT, Varint(value)) => {
                self.dropped_links_count = value as u32;
            }
            (fields::span::STATUS, Bytes(value)) => {
                self.status.get_or_insert_default().merge(value);
            }
            (fields::span::FLAGS, Fixed32(value)) => self.flags = value,
            _ => {}
        }
    }

    /// Returns the bytes of the span's message.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the envelope around the span.
    pub fn scope_spans(&self) -> ScopeSpansView<'a> {
        self.scope_spans
    }

    /// Returns the resource that the span was recorded on.
    pub fn resource(&self) -> ResourceView<'a> {
        self.scope_spans.resource_spans().resource()
    }

    /// Returns the schema URL of the resource, or an empty text.
    pub fn resource_schema_url(&self) -> &'a str {
        self.scope_spans.resource_spans().schema_url()
    }

    /// Returns the instrumentation scope that made the span.
    pub fn scope(&self) -> ScopeView<'a> {
        self.scope_spans.scope()
    }

    /// Returns the schema URL of the scope and its spans, or an empty text.
    pub fn scope_schema_url(&self) -> &'a str {
        self.scope_spans.schema_url()
    }

    /// Returns the trace id; zeros if it is absent or not of 16 bytes.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id.try_into().unwrap_or_default()
    }

    /// Returns the trace id as it was sent, of any length.
    pub fn trace_id_bytes(&self) -> &'a [u8] {
        self.trace_id
    }

    /// Returns the span id; zeros if it is absent or not of 8 bytes.
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id.try_into().unwrap_or_default()
    }

    /// Returns the span id as it was sent, of any length.
    pub fn span_id_bytes(&self) -> &'a [u8] {
        self.span_id
    }

    /// Returns the id of the parent; `None` for a root span.
    ///
    /// An id that is absent, all zero or not of 8 bytes counts as none.
    pub fn parent_span_id(&self) -> Option<[u8; 8]> {
        let id = self.parent_span_id.try_into().ok()?;
        (id != [0; 8]).then_some(id)
    }

    /// Returns the id of the parent as it was sent, of any length.
    pub fn parent_span_id_bytes(&self) -> &'a [u8] {
        self.parent_span_id
    }

    /// Returns the trace state in the form of the W3C header, or an empty text.
    pub fn trace_state(&self) -> &'a str {
        text(self.trace_state)
    }

    /// Returns the name, or an empty text.
    pub fn name(&self) -> &'a str {
        text(self.name)
    }

    /// Returns the kind.
    pub fn kind(&self) -> SpanKind {
        SpanKind::from_number(self.kind)
    }

    /// Returns the start, in nanoseconds since 1970-01-01 UTC.
    pub fn start_time_unix_nano(&self) -> u64 {
        self.start_time_unix_nano
    }

    /// Returns the end, in nanoseconds since 1970-01-01 UTC.
    pub fn end_time_unix_nano(&self) -> u64 {
        self.end_time_unix_nano
    }

    /// Returns the time from start to end; nothing if the end comes first.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(
            self.end_time_unix_nano
                .saturating_sub(self.start_time_unix_nano),
        )
    }

    /// Returns the attributes.
    pub fn attributes(&self) -> AttributesView<'a> {
        AttributesView::new(PieceFields::one(self.bytes), fields::span::ATTRIBUTES)
    }

    /// Returns the value of the attribute with this key.
    pub fn attribute(&self, key: &str) -> Option<ValueView<'a>> {
        self.attributes().get(key)
    }

    /// Returns how many attributes were dropped before.
    pub fn dropped_attributes_count(&self) -> u32 {
        self.dropped_attributes_count
    }

    /// Returns the events.
    pub fn events(&self) -> Events<'a> {
        Events {
            fields: Fields::new(self.bytes),
        }
    }

    /// Returns how many events were dropped before.
    pub fn dropped_events_count(&self) -> u32 {
        self.dropped_events_count
    }

    /// Returns the links to other spans.
    pub fn links(&self) -> Links<'a> {
        Links {
            fields: Fields::new(self.bytes),
        }
    }

    /// Returns how many links were dropped before.
    pub fn dropped_links_count(&self) -> u32 {
        self.dropped_links_count
    }

    /// Returns the status; an absent one reads as unset.
    pub fn status(&self) -> StatusView<'a> {
        self.status.unwrap_or_default()
    }

    /// Tells whether the status is there at all.
    pub fn has_status(&self) -> bool {
        self.status.is_some()
    }

    /// Returns the flags: bits 0 to 7 are the W3C trace flags, bit 8 says that bit 9 is known, bit 9 that the parent is remote.
    pub fn flags(&self) -> u32 {
        self.flags
    }
}

impl Debug for SpanView<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SpanView")
            .field("trace_id", &Hex(self.trace_id))
            .field("span_id", &Hex(self.span_id))
            .field("parent_span_id", &Hex(self.parent_span_id))
            .field("trace_state", &self.trace_state())
            .field("flags", &self.flags)
            .field("name", &self.name())
            .field("kind", &self.kind())
            .field("start_time_unix_nano", &self.start_time_unix_nano)
            .field("end_time_unix_nano", &self.end_time_unix_nano)
            .field("attributes", &self.attributes())
            .field("dropped_attributes_count", &self.dropped_attributes_count)
            .field("events", &DebugList(self.events()))
            .field("dropped_events_count", &self.dropped_events_count)
            .field("links", &DebugList(self.links()))
            .field("dropped_links_count", &self.dropped_links_count)
            .field("status", &self.status())
            .finish()
    }
}

/// Says which side of an operation a span describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// Not given; receivers may take it as internal.
    #[default]
    Unspecified,
    /// Inside one program.
    Internal,
    /// Answers a request from elsewhere.
    Server,
    /// Sends a request elsewhere.
    Client,
    /// Puts a message somewhere.
    Producer,
    /// Takes a message from somewhere.
    Consumer,
    /// A number that the schema does not name yet.
    Other(i32),
}

impl SpanKind {
    /// Returns the kind with this number in the schema; any number is allowed.
    pub fn from_number(number: i32) -> Self {
        match number {
            0 => Self::Unspecified,
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            number => Self::Other(number),
        }
    }

    /// Returns the kind with this number, if the schema names one. Unspecified is none.
    pub(crate) fn named(number: i64) -> Option<Self> {
        match Self::from_number(i32::try_from(number).ok()?) {
            Self::Unspecified | Self::Other(_) => None,
            kind => Some(kind),
        }
    }

    /// Returns the number in the schema.
    pub fn number(self) -> i32 {
        match self {
            Self::Unspecified => 0,
            Self::Internal => 1,
            Self::Server => 2,
            Self::Client => 3,
            Self::Producer => 4,
            Self::Consumer => 5,
            Self::Other(number) => number,
        }
    }
}

/// Reads a span's status.
#[derive(Clone, Copy, Default)]
pub struct StatusView<'a> {
    code: i32,
    message: &'a [u8],
}

impl<'a> StatusView<'a> {
    fn merge(&mut self, bytes: &'a [u8]) {
        for field in Fields::new(bytes) {
            match (field.number, field.value) {
                (fields::status::CODE, FieldValue::Varint(value)) => self.code = value as i32,
                (fields::status::MESSAGE, FieldValue::Bytes(value)) => self.message = value,
                _ => {}
            }
        }
    }

    /// Returns the code.
    pub fn code(self) -> StatusCode {
        StatusCode::from_number(self.code)
    }

    /// Returns the description of an error, or an empty text.
    pub fn message(self) -> &'a str {
        text(self.message)
    }
}

impl Debug for StatusView<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StatusView")
            .field("code", &self.code())
            .field("message", &self.message())
            .finish()
    }
}

/// Says how an operation ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StatusCode {
    /// Nobody said.
    #[default]
    Unset,
    /// The program says that it went well.
    Ok,
    /// It failed.
    Error,
    /// A number that the schema does not name yet.
    Other(i32),
}

impl StatusCode {
    /// Returns the code with this number in the schema; any number is allowed.
    pub fn from_number(number: i32) -> Self {
        match number {
            0 => Self::Unset,
            1 => Self::Ok,
            2 => Self::Error,
            number => Self::Other(number),
        }
    }

    /// Returns the code with this number, if the schema names one.
    pub(crate) fn named(number: i64) -> Option<Self> {
        match Self::from_number(i32::try_from(number).ok()?) {
            Self::Other(_) => None,
            code => Some(code),
        }
    }

    /// Returns the number in the schema.
    pub fn number(self) -> i32 {
        match self {
            Self::Unset => 0,
            Self::Ok => 1,
            Self::Error => 2,
            Self::Other(number) => number,
        }
    }
}

/// Iterates over the events of a span.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    fields: Fields<'a>,
}

impl<'a> Iterator for Events<'a> {
    type Item = EventView<'a>;

    fn next(&mut self) -> Option<EventView<'a>> {
        next_bytes(&mut self.fields, fields::span::EVENTS).map(EventView::new)
    }
}

impl FusedIterator for Events<'_> {}

/// Reads an event: something that happened during a span.
#[derive(Clone, Copy)]
pub struct EventView<'a> {
    bytes: &'a [u8],
    time_unix_nano: u64,
    name: &'a [u8],
    dropped_attributes_count: u32,
}

impl<'a> EventView<'a> {
    pub(in crate::otlp) fn new(bytes: &'a [u8]) -> Self {
        let mut event = Self {
            bytes,
            time_unix_nano: 0,
            name: &[],
            dropped_attributes_count: 0,
        };
        for field in Fields::new(bytes) {
            match (field.number, field.value) {
                (fields::event::TIME_UNIX_NANO, FieldValue::Fixed64(value)) => {
                    event.time_unix_nano = value;
                }
                (fields::event::NAME, FieldValue::Bytes(value)) => event.name = value,
                (fields::event::DROPPED_ATTRIBUTES_COUNT, FieldValue::Varint(value)) => {
                    event.dropped_attributes_count = value as u32;
                }
                _ => {}
            }
        }
        event
    }

    /// Returns the bytes of the message.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the time, in nanoseconds since 1970-01-01 UTC.
    pub fn time_unix_nano(self) -> u64 {
        self.time_unix_nano
    }

    /// Returns the name, or an empty text.
    pub fn name(self) -> &'a str {
        text(self.name)
    }

    /// Returns the attributes.
    pub fn attributes(self) -> AttributesView<'a> {
        AttributesView::new(PieceFields::one(self.bytes), fields::event::ATTRIBUTES)
    }

    /// Returns the value of the attribute with this key.
    pub fn attribute(self, key: &str) -> Option<ValueView<'a>> {
        self.attributes().get(key)
    }

    /// Returns how many attributes were dropped before.
    pub fn dropped_attributes_count(self) -> u32 {
        self.dropped_attributes_count
    }
}

impl Debug for EventView<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EventView")
            .field("time_unix_nano", &self.time_unix_nano)
            .field("name", &self.name())
            .field("attributes", &self.attributes())
            .field("dropped_attributes_count", &self.dropped_attributes_count)
            .finish()
    }
}

/// Iterates over the links of a span.
#[derive(Clone, Debug)]
pub struct Links<'a> {
    fields: Fields<'a>,
}

impl<'a> Iterator for Links<'a> {
    type Item = LinkView<'a>;

    fn next(&mut self) -> Option<LinkView<'a>> {
        next_bytes(&mut self.fields, fields::span::LINKS).map(LinkView::new)
    }
}

impl FusedIterator for Links<'_> {}

/// Reads a link: another span that a span has to do with.
#[derive(Clone, Copy)]
pub struct LinkView<'a> {
    bytes: &'a [u8],
    trace_id: &'a [u8],
    span_id: &'a [u8],
    trace_state: &'a [u8],
    dropped_attributes_count: u32,
    flags: u32,
}

impl<'a> LinkView<'a> {
    pub(in crate::otlp) fn new(bytes: &'a [u8]) -> Self {
        let mut link = Self {
            bytes,
            trace_id: &[],
            span_id: &[],
            trace_state: &[],
            dropped_attributes_count: 0,
            flags: 0,
        };
        for field in Fields::new(bytes) {
            match (field.number, field.value) {
                (fields::link::TRACE_ID, FieldValue::Bytes(value)) => link.trace_id = value,
                (fields::link::SPAN_ID, FieldValue::Bytes(value)) => link.span_id = value,
                (fields::link::TRACE_STATE, FieldValue::Bytes(value)) => link.trace_state = value,
                (fields::link::DROPPED_ATTRIBUTES_COUNT, FieldValue::Varint(value)) => {
                    link.dropped_attributes_count = value as u32;
                }
                (fields::link::FLAGS, FieldValue::Fixed32(value)) => link.flags = value,
                _ => {}
            }
        }
        link
    }

    /// Returns the bytes of the message.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the trace id of the other span; zeros if it is absent or not of 16 bytes.
    pub fn trace_id(self) -> [u8; 16] {
        self.trace_id.try_into().unwrap_or_default()
    }

    /// Returns the trace id as it was sent, of any length.
    pub fn trace_id_bytes(self) -> &'a [u8] {
        self.trace_id
    }

    /// Returns the span id of the other span; zeros if it is absent or not of 8 bytes.
    pub fn span_id(self) -> [u8; 8] {
        self.span_id.try_into().unwrap_or_default()
    }

    /// Returns the span id as it was sent, of any length.
    pub fn span_id_bytes(self) -> &'a [u8] {
        self.span_id
    }

    /// Returns the trace state in the form of the W3C header, or an empty text.
    pub fn trace_state(self) -> &'a str {
        text(self.trace_state)
    }

    /// Returns the attributes.
    pub fn attributes(self) -> AttributesView<'a> {
        AttributesView::new(PieceFields::one(self.bytes), fields::link::ATTRIBUTES)
    }

    /// Returns the value of the attribute with this key.
    pub fn attribute(self, key: &str) -> Option<ValueView<'a>> {
        self.attributes().get(key)
    }

    /// Returns how many attributes were dropped before.
    pub fn dropped_attributes_count(self) -> u32 {
        self.dropped_attributes_count
    }

    /// Returns the flags: bits 0 to 7 are the W3C trace flags, bit 8 says that bit 9 is known, bit 9 that the other span is remote.
    pub fn flags(self) -> u32 {
        self.flags
    }
}

impl Debug for LinkView<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LinkView")
            .field("trace_id", &Hex(self.trace_id))
            .field("span_id", &Hex(self.span_id))
            .field("trace_state", &self.trace_state())
            .field("attributes", &self.attributes())
            .field("dropped_attributes_count", &self.dropped_attributes_count)
            .field("flags", &self.flags)
            .finish()
    }
}
