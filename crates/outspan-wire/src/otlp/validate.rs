//! Checks the bytes of a request in one pass.
//!
//! What `prost` 0.14 decodes with the types of `opentelemetry-proto` 0.33 is accepted, anything else is refused. There
//! are no exceptions; tests hold both directions on arbitrary and on mutated bytes. The rules, where they surprise:
//!
//! - Unknown fields pass, also groups, as long as they can be passed over.
//! - A known field with another wire type is a fault, not an unknown field. No field of the schema is a packed list.
//! - Every text of the schema must be UTF-8, also one that a later field overwrites; text in unknown fields may be anything.
//! - Integers may be written longer than needed, up to ten bytes, and numbers of 32 bits are cut to their lower half.
//! - Messages and groups may nest up to 100 deep below the request. A field nobody knows counts as one level more.
//!
//! One bound is ours: [`MAX_ELEMENTS`] on the attributes, events and links of a span, and on the attributes of a resource or
//! a scope.
//!
//! That a span has good identifiers is another question: one bad span does not break the message it came in.

pub(super) mod locate;
mod text;

use std::fmt;
use std::fmt::Display;
use std::fmt::Formatter;

use super::fields;
use super::reader::Fault;
use super::reader::Key;
use super::reader::NESTING_MAX;
use super::reader::WireType;
use super::reader::key;
use super::reader::offset_of;
use super::reader::read_bytes;
use super::reader::read_fixed32;
use super::reader::read_fixed64;
use super::reader::read_varint;
use super::reader::skip_value;
use super::view::LinkView;
use super::view::SpanView;
use crate::error::WireError;
use crate::error::WireErrorKind;
use text::check_text;
use text::is_ascii;

/// How many attributes, events and links a span may have, those of its events and links among them; and how many attributes
/// and entity references a resource or a scope may have.
///
/// An empty attribute takes two bytes in a request and about 300 bytes while a span is turned into another format, so the
/// bound keeps that below 10 MiB. SDKs stop at 128 attributes, 128 events and 128 links by default, and a span at the bound
/// that says something has several megabytes, more than gRPC servers take.
pub const MAX_ELEMENTS: usize = 1 << 15;

/// Checks that bytes are an `ExportTraceServiceRequest`, and counts its spans.
///
/// One pass over the bytes, no allocation. Bytes that pass are read by every protobuf decoder, and by the
/// [views](super::RequestView) without loss.
///
/// # Errors
///
/// Says what is wrong and at which byte. A span with a bad identifier or with more than [`MAX_ELEMENTS`] elements is no error;
/// the [`Summary`] counts it. A resource or a scope with more is one, of the kind [`WireErrorKind::Limit`].
///
/// # Examples
///
/// ```
/// use outspan_wire::otlp::validate;
///
/// assert_eq!(validate(&[])?.spans, 0);
///
/// let error = validate(&[0x0a, 0x05, 0x12]).unwrap_err();
/// assert_eq!(error.to_string(), "value goes beyond the end of the data in ExportTraceServiceRequest.resource_spans at byte 1");
/// # Ok::<(), outspan_wire::otlp::WireError>(())
/// ```
pub fn validate(request: &[u8]) -> Result<Summary, WireError> {
    let mut pass = Pass {
        request,
        summary: Summary::default(),
    };
    match pass.request() {
        Ok(()) => Ok(pass.summary),
        Err(fault) if fault.kind == WireErrorKind::Limit => {
            let words = format!("more than {MAX_ELEMENTS} of them");
            Err(locate::explain(fault, request).saying(words))
        }
        Err(fault) => Err(locate::explain(fault, request)),
    }
}

/// Says what a valid request holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// All spans, the invalid ones among them.
    pub spans: usize,
    /// Spans that no backend can use; see [`InvalidSpanReason`].
    pub invalid_spans: usize,
    /// The first of the invalid spans.
    pub first_invalid: Option<InvalidSpan>,
    /// The `ResourceSpans` messages.
    pub resource_spans: usize,
    /// The `ScopeSpans` messages.
    pub scope_spans: usize,
    /// `ResourceSpans` and `ScopeSpans` messages without any span, which OTLP asks senders and forwarders to leave out.
    pub empty_envelopes: usize,
    /// Resources and scopes that come in several parts. Decoders merge them; views do too, but search for the parts each time.
    pub parted_messages: usize,
}

impl Summary {
    /// Tells whether the request can go on as it is: no invalid spans, no empty envelopes, nothing in several parts.
    pub fn is_clean(&self) -> bool {
        self.invalid_spans == 0 && self.empty_envelopes == 0 && self.parted_messages == 0
    }
}

/// Says which span is invalid, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidSpan {
    /// The number of the span in the request, counted from 0.
    pub index: usize,
    /// Where the span's message begins, in bytes from the start of the request.
    pub offset: usize,
    /// What is wrong with it.
    pub reason: InvalidSpanReason,
}

impl Display for InvalidSpan {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            index,
            offset,
            reason,
        } = self;
        write!(formatter, "span {index} at byte {offset}: {reason}")
    }
}

/// Says what makes a span invalid.
///
/// By the schema's comments an id of a wrong length or of zeros alone is invalid, and trace id and span id are required.
/// For parents and links a wrong length is taken as invalid as well: the schema gives 8 and 16 bytes, and the Collector refuses
/// the whole request otherwise, so one such span would cost all its neighbours. A parent of 8 zeros passes (many senders mean
/// "none" by it), and so does a link without ids or with zeros, which the tracing API allows for the sake of its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidSpanReason {
    /// The trace id is absent or not of 16 bytes.
    TraceIdLength,
    /// The trace id is all zero.
    TraceIdZero,
    /// The span id is absent or not of 8 bytes.
    SpanIdLength,
    /// The span id is all zero.
    SpanIdZero,
    /// The parent's id is there but not of 8 bytes.
    ParentSpanIdLength,
    /// The trace id of a link is there but not of 16 bytes.
    LinkTraceIdLength,
    /// The span id of a link is there but not of 8 bytes.
    LinkSpanIdLength,
    /// The span has more than [`MAX_ELEMENTS`] attributes, events and links.
    TooManyElements,
}

impl InvalidSpanReason {
    /// Returns the reason why a span is invalid, as [`validate`] finds it; `None` for a good one.
    pub fn of(span: &SpanView<'_>) -> Option<Self> {
        let mut links = span.links().filter_map(Self::of_link);
        let ids = SpanIds {
            trace_id: span.trace_id_bytes(),
            span_id: span.span_id_bytes(),
            parent_span_id: span.parent_span_id_bytes(),
            link: None,
            elements: elements_of(span),
        };
        ids.reason().or_else(|| links.next())
    }

    fn of_link(link: LinkView<'_>) -> Option<Self> {
        link_reason(link.trace_id_bytes(), link.span_id_bytes())
    }
}

impl Display for InvalidSpanReason {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::TraceIdLength => "trace_id is not 16 bytes",
            Self::TraceIdZero => "trace_id is all zero",
            Self::SpanIdLength => "span_id is not 8 bytes",
            Self::SpanIdZero => "span_id is all zero",
            Self::ParentSpanIdLength => "parent_span_id is neither empty nor 8 bytes",
            Self::LinkTraceIdLength => "trace_id of a link is neither empty nor 16 bytes",
            Self::LinkSpanIdLength => "span_id of a link is neither empty nor 8 bytes",
            Self::TooManyElements => {
                return write!(
                    formatter,
                    "more than {MAX_ELEMENTS} attributes, events and links"
                );
            }
        })
    }
}

/// The identifiers of a span as they were last set.
#[derive(Default)]
struct SpanIds<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent_span_id: &'a [u8],
    link: Option<InvalidSpanReason>,
    /// Attributes, events and links.
    elements: usize,
}

impl SpanIds<'_> {
    #[inline]
    fn reason(&self) -> Option<InvalidSpanReason> {
        let Ok(trace_id) = self.trace_id.try_into() else {
            return Some(InvalidSpanReason::TraceIdLength);
        };
        if u128::from_ne_bytes(trace_id) == 0 {
            return Some(InvalidSpanReason::TraceIdZero);
        }
        let Ok(span_id) = self.span_id.try_into() else {
            return Some(InvalidSpanReason::SpanIdLength);
        };
        if u64::from_ne_bytes(span_id) == 0 {
            return Some(InvalidSpanReason::SpanIdZero);
        }
        if !matches!(self.parent_span_id.len(), 0 | 8) {
            return Some(InvalidSpanReason::ParentSpanIdLength);
        }
        if self.elements > MAX_ELEMENTS {
            return Some(InvalidSpanReason::TooManyElements);
        }
        self.link
    }
}

/// Counts the elements of a span as [`span_ids`] does, if there can be too many of them.
fn elements_of(span: &SpanView<'_>) -> usize {
    // Each one takes two bytes at least.
    if span.bytes().len() <= 2 * MAX_ELEMENTS {
        return 0;
    }
    let events = span
        .events()
        .map(|event| 1 + event.attributes().iter().count());
    let links = span
        .links()
        .map(|link| 1 + link.attributes().iter().count());
    span.attributes().iter().count() + events.sum::<usize>() + links.sum::<usize>()
}

/// Counts one attribute more of a resource or a scope.
#[inline]
fn count_in_origin(count: &mut usize, place: &[u8]) -> Result<(), Fault> {
    *count += 1;
    match *count > MAX_ELEMENTS {
        true => Err(Fault::at(WireErrorKind::Limit, place)),
        false => Ok(()),
    }
}

fn link_reason(trace_id: &[u8], span_id: &[u8]) -> Option<InvalidSpanReason> {
    if !matches!(trace_id.len(), 0 | 16) {
        return Some(InvalidSpanReason::LinkTraceIdLength);
    }
    if !matches!(span_id.len(), 0 | 8) {
        return Some(InvalidSpanReason::LinkSpanIdLength);
    }
    None
}

/// How many messages may still begin inside the messages of the upper levels.
const IN_REQUEST: u32 = NESTING_MAX;
const IN_RESOURCE_SPANS: u32 = IN_REQUEST - 1;
const IN_RESOURCE: u32 = IN_RESOURCE_SPANS - 1;
const IN_ENTITY_REF: u32 = IN_RESOURCE - 1;
const IN_SCOPE_SPANS: u32 = IN_RESOURCE_SPANS - 1;
const IN_SCOPE: u32 = IN_SCOPE_SPANS - 1;
const IN_SPAN: u32 = IN_SCOPE_SPANS - 1;
const IN_EVENT: u32 = IN_SPAN - 1;
const IN_LINK: u32 = IN_SPAN - 1;
const IN_STATUS: u32 = IN_SPAN - 1;

const fn bytes(number: u32) -> u64 {
    key(number, WireType::Bytes) as u64
}

const fn varint(number: u32) -> u64 {
    key(number, WireType::Varint) as u64
}

const fn fixed64(number: u32) -> u64 {
    key(number, WireType::Fixed64) as u64
}

const fn fixed32(number: u32) -> u64 {
    key(number, WireType::Fixed32) as u64
}

/// The walk over a request.
///
/// One method or function a message. Keys are matched as the integers they are on the wire, so that a field with the wire
/// type of the schema costs one comparison; what is not matched ends in [`pass_over`].
struct Pass<'a> {
    request: &'a [u8],
    summary: Summary,
}

impl<'a> Pass<'a> {
    fn request(&mut self) -> Result<(), Fault> {
        const RESOURCE_SPANS: u64 = bytes(fields::request::RESOURCE_SPANS);
        let mut rest = self.request;
        while !rest.is_empty() {
            let place = rest;
            match read_varint(&mut rest)? {
                RESOURCE_SPANS => self.resource_spans(read_bytes(&mut rest)?)?,
                key => pass_over(key, 1..=1, IN_REQUEST, place, &mut rest)?,
            }
        }
        Ok(())
    }

    fn resource_spans(&mut self, mut rest: &'a [u8]) -> Result<(), Fault> {
        const RESOURCE: u64 = bytes(fields::resource_spans::RESOURCE);
        const SCOPE_SPANS: u64 = bytes(fields::resource_spans::SCOPE_SPANS);
        const SCHEMA_URL: u64 = bytes(fields::resource_spans::SCHEMA_URL);
        let spans_before = self.summary.spans;
        let mut parts = 0;
        let mut elements = 0;
        while !rest.is_empty() {
            let place = rest;
            match read_varint(&mut rest)? {
                RESOURCE => {
                    parts += 1;
                    resource(read_bytes(&mut rest)?, &mut elements)?;
                }
                SCOPE_SPANS => self.scope_spans(read_bytes(&mut rest)?)?,
                SCHEMA_URL => check_text(read_bytes(&mut rest)?)?,
                key => pass_over(key, 1..=3, IN_RESOURCE_SPANS, place, &mut rest)?,
            }
        }
        self.summary.resource_spans += 1;
        self.count_envelope(spans_before, parts);
        Ok(())
    }

    fn scope_spans(&mut self, mut rest: &'a [u8]) -> Result<(), Fault> {
        const SCOPE: u64 = bytes(fields::scope_spans::SCOPE);
        const SPANS: u64 = bytes(fields::scope_spans::SPANS);
        const SCHEMA_URL: u64 = bytes(fields::scope_spans::SCHEMA_URL);
        let spans_before = self.summary.spans;
        let mut parts = 0;
        let mut elements = 0;
        while !rest.is_empty() {
            let place = rest;
            match read_varint(&mut rest)? {
                SCOPE => {
                    parts += 1;
                    scope(read_bytes(&mut rest)?, &mut elements)?;
                }
                SPANS => self.span(read_bytes(&mut rest)?)?,
                SCHEMA_URL => check_text(read_bytes(&mut rest)?)?,
                key => pass_over(key, 1..=3, IN_SCOPE_SPANS, place, &mut rest)?,
            }
        }
        self.summary.scope_spans += 1;
        self.count_envelope(spans_before, parts);
        Ok(())
    }

    fn count_envelope(&mut self, spans_before: usize, parts: usize) {
        if self.summary.spans == spans_before {
            self.summary.empty_envelopes += 1;
        }
        if parts > 1 {
            self.summary.parted_messages += 1;
        }
    }

    fn span(&mut self, span: &'a [u8]) -> Result<(), Fault> {
        let ids = span_ids(span)?;
        if let Some(reason) = ids.reason() {
            self.invalid_span(span, reason);
        }
        self.summary.spans += 1;
        Ok(())
    }

    #[cold]
    fn invalid_span(&mut self, span: &[u8], reason: InvalidSpanReason) {
        let invalid = InvalidSpan {
            index: self.summary.spans,
            offset: offset_of(span, self.request),
            reason,
        };
        self.summary.invalid_spans += 1;
        self.summary.first_invalid.get_or_insert(invalid);
    }
}

/// Checks a span and returns its identifiers.
fn span_ids(mut rest: &[u8]) -> Result<SpanIds<'_>, Fault> {
    use fields::span;
    const TRACE_ID: u64 = bytes(span::TRACE_ID);
    const SPAN_ID: u64 = bytes(span::SPAN_ID);
    const TRACE_STATE: u64 = bytes(span::TRACE_STATE);
    const PARENT_SPAN_ID: u64 = bytes(span::PARENT_SPAN_ID);
    const NAME: u64 = bytes(span::NAME);
    const KIND: u64 = varint(span::KIND);
    const START_TIME: u64 = fixed64(span::START_TIME_UNIX_NANO);
    const END_TIME: u64 = fixed64(span::END_TIME_UNIX_NANO);
    const ATTRIBUTES: u64 = bytes(span::ATTRIBUTES);
    const DROPPED_ATTRIBUTES: u64 = varint(span::DROPPED_ATTRIBUTES_COUNT);
    const EVENTS: u64 = bytes(span::EVENTS);
    const DROPPED_EVENTS: u64 = varint(span::DROPPED_EVENTS_COUNT);
    const LINKS: u64 = bytes(span::LINKS);
    const DROPPED_LINKS: u64 = varint(span::DROPPED_LINKS_COUNT);
    const STATUS: u64 = bytes(span::STATUS);
    const FLAGS: u64 = fixed32(span::FLAGS);
    let mut ids = SpanIds::default();
    while !rest.is_empty() {
        let place = rest;
        match read_varint(&mut rest)? {
            TRACE_ID => ids.trace_id = read_bytes(&mut rest)?,
            SPAN_ID => ids.span_id = read_bytes(&mut rest)?,
            PARENT_SPAN_ID => ids.parent_span_id = read_bytes(&mut rest)?,
            TRACE_STATE | NAME => check_text(read_bytes(&mut rest)?)?,
            KIND | DROPPED_ATTRIBUTES | DROPPED_EVENTS | DROPPED_LINKS => {
                read_varint(&mut rest)?;
            }
            START_TIME | END_TIME => {
                read_fixed64(&mut rest)?;
            }
            ATTRIBUTES => {
                ids.elements += 1;
                key_value(read_bytes(&mut rest)?, IN_SPAN - 1)?;
            }
            EVENTS => ids.elements += 1 + event(read_bytes(&mut rest)?)?,
            LINKS => {
                let (reason, attributes) = link(read_bytes(&mut rest)?)?;
                ids.link = ids.link.or(reason);
                ids.elements += 1 + attributes;
            }
            STATUS => status(read_bytes(&mut rest)?)?,
            FLAGS => {
                read_fixed32(&mut rest)?;
            }
            key => pass_over(key, 1..=16, IN_SPAN, place, &mut rest)?,
        }
    }
    Ok(ids)
}

/// Checks an event and counts its attributes.
fn event(mut rest: &[u8]) -> Result<usize, Fault> {
    const TIME: u64 = fixed64(fields::event::TIME_UNIX_NANO);
    const NAME: u64 = bytes(fields::event::NAME);
    const ATTRIBUTES: u64 = bytes(fields::event::ATTRIBUTES);
    const DROPPED_ATTRIBUTES: u64 = varint(fields::event::DROPPED_ATTRIBUTES_COUNT);
    let mut attributes = 0;
    while !rest.is_empty() {
        let place = rest;
        match read_varint(&mut rest)? {
            TIME => {
                read_fixed64(&mut rest)?;
            }
            NAME => check_text(read_bytes(&mut rest)?)?,
            ATTRIBUTES => {
                attributes += 1;
                key_value(read_bytes(&mut rest)?, IN_EVENT - 1)?;
            }
            DROPPED_ATTRIBUTES => {
                read_varint(&mut rest)?;
            }
            key => pass_over(key, 1..=4, IN_EVENT, place, &mut rest)?,
        }
    }
    Ok(attributes)
}

/// Checks a link, says what is wrong with its ids, and counts its attributes.
fn link(mut rest: &[u8]) -> Result<(Option<InvalidSpanReason>, usize), Fault> {
    const TRACE_ID: u64 = bytes(fields::link::TRACE_ID);
    const SPAN_ID: u64 = bytes(fields::link::SPAN_ID);
    const TRACE_STATE: u64 = bytes(fields::link::TRACE_STATE);
    const ATTRIBUTES: u64 = bytes(fields::link::ATTRIBUTES);
    const DROPPED_ATTRIBUTES: u64 = varint(fields::link::DROPPED_ATTRIBUTES_COUNT);
    const FLAGS: u64 = fixed32(fields::link::FLAGS);
    let mut trace_id: &[u8] = &[];
    let mut span_id: &[u8] = &[];
    let mut attributes = 0;
    while !rest.is_empty() {
        let place = rest;
        match read_varint(&mut rest)? {
            TRACE_ID => trace_id = read_bytes(&mut rest)?,
            SPAN_ID => span_id = read_bytes(&mut rest)?,
            TRACE_STATE => check_text(read_bytes(&mut rest)?)?,
            ATTRIBUTES => {
                attributes += 1;
                key_value(read_bytes(&mut rest)?, IN_LINK - 1)?;
            }
            DROPPED_ATTRIBUTES => {
                read_varint(&mut rest)?;
            }
            FLAGS => {
                read_fixed32(&mut rest)?;
            }
            key => pass_over(key, 1..=6, IN_LINK, place, &mut rest)?,
        }
    }
    Ok((link_reason(trace_id, span_id), attributes))
}

fn status(mut rest: &[u8]) -> Result<(), Fault> {
    const MESSAGE: u64 = bytes(fields::status::MESSAGE);
    const CODE: u64 = varint(fields::status::CODE);
    while !rest.is_empty() {
        let place = rest;
        match read_varint(&mut rest)? {
            MESSAGE => check_text(read_bytes(&mut rest)?)?,
            CODE => {
                read_varint(&mut rest)?;
            }
            key => pass_over(key, 2..=3, IN_STATUS, place, &mut rest)?,
        }
    }
    Ok(())
}

fn resource(mut rest: &[u8], elements: &mut usize) -> Result<(), Fault> {
    const ATTRIBUTES: u64 = bytes(fields::resource::ATTRIBUTES);
    const DROPPED_ATTRIBUTES: u64 = varint(fields::resource::DROPPED_ATTRIBUTES_COUNT);
    const ENTITY_REFS: u64 = bytes(fields::resource::ENTITY_REFS);
    while !rest.is_empty() {
        let place = rest;
        match read_varint(&mut rest)? {
            ATTRIBUTES => {
                count_in_origin(elements, place)?;
                key_value(read_bytes(&mut rest)?, IN_RESOURCE - 1)?;
            }
            DROPPED_ATTRIBUTES => {
                read_varint(&mut rest)?;
            }
            ENTITY_REFS => {
                count_in_origin(elements, place)?;
                entity_ref(read_bytes(&mut rest)?)?;
            }
            key => pass_over(key, 1..=3, IN_RESOURCE, place, &mut rest)?,
        }
    }
    Ok(())
}

fn entity_ref(mut rest: &[u8]) -> Result<(), Fault> {
    const SCHEMA_URL: u64 = bytes(fields::entity_ref::SCHEMA_URL);
    const TYPE: u64 = bytes(fields::entity_ref::TYPE);
    const ID_KEYS: u64 = bytes(fields::entity_ref::ID_KEYS);
    const DESCRIPTION_KEYS: u64 = bytes(fields::entity_ref::DESCRIPTION_KEYS);
    while !rest.is_empty() {
        let place = rest;
        match read_varint(&mut rest)? {
            SCHEMA_URL | TYPE | ID_KEYS | DESCRIPTION_KEYS => check_text(read_bytes(&mut rest)?)?,
            key => pass_over(key, 1..=4, IN_ENTITY_REF, place, &mut rest)?,
        }
    }
    Ok(())
}

fn scope(mut rest: &[u8], elements: &mut usize) -> Result<(), Fault> {
    const NAME: u64 = bytes(fields::scope::NAME);
    const VERSION: u64 = bytes(fields::scope::VERSION);
    const ATTRIBUTES: u64 = bytes(fields::scope::ATTRIBUTES);
    const DROPPED_ATTRIBUTES: u64 = varint(fields::scope::DROPPED_ATTRIBUTES_COUNT);
    while !rest.is_empty() {
        let place = rest;
        match read_varint(&mut rest)? {
            NAME | VERSION => check_text(read_bytes(&mut rest)?)?,
            ATTRIBUTES => {
                count_in_origin(elements, place)?;
                key_value(read_bytes(&mut rest)?, IN_SCOPE - 1)?;
            }
            DROPPED_ATTRIBUTES => {
                read_varint(&mut rest)?;
            }
            key => pass_over(key, 1..=4, IN_SCOPE, place, &mut rest)?,
        }
    }
    Ok(())
}

/// Checks an attribute; `nesting` is how many messages may begin inside it.
#[inline]
fn key_value(message: &[u8], nesting: u32) -> Result<(), Fault> {
    if nesting > 0 && is_usual_key_value(message) {
        return Ok(());
    }
    any_key_value(message, nesting)
}

/// Recognises the form that nearly every attribute has: a key and one scalar value, once each and in this order, with
/// lengths of one byte and ASCII text. Other forms, also valid ones, are left to [`any_key_value`].
#[inline]
fn is_usual_key_value(message: &[u8]) -> bool {
    const KEY: u8 = bytes(fields::key_value::KEY) as u8;
    const VALUE: u8 = bytes(fields::key_value::VALUE) as u8;
    const STRING: u8 = bytes(fields::any_value::STRING_VALUE) as u8;
    const BOOL: u8 = varint(fields::any_value::BOOL_VALUE) as u8;
    const INT: u8 = varint(fields::any_value::INT_VALUE) as u8;
    const DOUBLE: u8 = fixed64(fields::any_value::DOUBLE_VALUE) as u8;
    let [KEY, key_length, ref rest @ ..] = *message else {
        return false;
    };
    let Some((key, rest)) = rest.split_at_checked(usize::from(key_length)) else {
        return false;
    };
    let [VALUE, value_length, ref value @ ..] = *rest else {
        return false;
    };
    let lengths_are_bytes = key_length | value_length < 0x80;
    if !lengths_are_bytes || usize::from(value_length) != value.len() || !is_ascii(key) {
        return false;
    }
    match *value {
        // A length below that of the value, which is below 0x80, has one byte itself.
        [STRING, length, ref text @ ..] => usize::from(length) == text.len() && is_ascii(text),
        [BOOL | INT, number] => number < 0x80,
        [INT, low, high] => low >= 0x80 && high < 0x80,
        [DOUBLE, ref number @ ..] => number.len() == 8,
        _ => false,
    }
}

fn any_key_value(mut rest: &[u8], nesting: u32) -> Result<(), Fault> {
    const KEY: u64 = bytes(fields::key_value::KEY);
    const VALUE: u64 = bytes(fields::key_value::VALUE);
    const KEY_STRINDEX: u64 = varint(fields::key_value::KEY_STRINDEX);
    while !rest.is_empty() {
        let place = rest;
        match read_varint(&mut rest)? {
            KEY => check_text(read_bytes(&mut rest)?)?,
            VALUE => {
                let nesting = enter(nesting, place)?;
                any_value(read_bytes(&mut rest)?, nesting)?;
            }
            KEY_STRINDEX => {
                read_varint(&mut rest)?;
            }
            key => pass_over(key, 1..=3, nesting, place, &mut rest)?,
        }
    }
    Ok(())
}

fn any_value(mut rest: &[u8], nesting: u32) -> Result<(), Fault> {
    const STRING: u64 = bytes(fields::any_value::STRING_VALUE);
    const BOOL: u64 = varint(fields::any_value::BOOL_VALUE);
    const INT: u64 = varint(fields::any_value::INT_VALUE);
    const DOUBLE: u64 = fixed64(fields::any_value::DOUBLE_VALUE);
    const ARRAY: u64 = bytes(fields::any_value::ARRAY_VALUE);
    const KVLIST: u64 = bytes(fields::any_value::KVLIST_VALUE);
    const BYTES: u64 = bytes(fields::any_value::BYTES_VALUE);
    const STRINDEX: u64 = varint(fields::any_value::STRING_VALUE_STRINDEX);
    while !rest.is_empty() {
        let place = rest;
        match read_varint(&mut rest)? {
            STRING => check_text(read_bytes(&mut rest)?)?,
            BOOL | INT | STRINDEX => {
                read_varint(&mut rest)?;
            }
            DOUBLE => {
                read_fixed64(&mut rest)?;
            }
            ARRAY => {
                let nesting = enter(nesting, place)?;
                array_value(read_bytes(&mut rest)?, nesting)?;
            }
            KVLIST => {
                let nesting = enter(nesting, place)?;
                key_value_list(read_bytes(&mut rest)?, nesting)?;
            }
            BYTES => {
                read_bytes(&mut rest)?;
            }
            key => pass_over(key, 1..=8, nesting, place, &mut rest)?,
        }
    }
    Ok(())
}

fn array_value(mut rest: &[u8], nesting: u32) -> Result<(), Fault> {
    const VALUES: u64 = bytes(fields::array_value::VALUES);
    while !rest.is_empty() {
        let place = rest;
        match read_varint(&mut rest)? {
            VALUES => {
                let nesting = enter(nesting, place)?;
                any_value(read_bytes(&mut rest)?, nesting)?;
            }
            key => pass_over(key, 1..=1, nesting, place, &mut rest)?,
        }
    }
    Ok(())
}

fn key_value_list(mut rest: &[u8], nesting: u32) -> Result<(), Fault> {
    const VALUES: u64 = bytes(fields::key_value_list::VALUES);
    while !rest.is_empty() {
        let place = rest;
        match read_varint(&mut rest)? {
            VALUES => {
                let nesting = enter(nesting, place)?;
                key_value(read_bytes(&mut rest)?, nesting)?;
            }
            key => pass_over(key, 1..=1, nesting, place, &mut rest)?,
        }
    }
    Ok(())
}

/// Goes one message deeper.
#[inline]
fn enter(nesting: u32, place: &[u8]) -> Result<u32, Fault> {
    match nesting.checked_sub(1) {
        Some(nesting) => Ok(nesting),
        None => Err(Fault::at(WireErrorKind::Nesting, place)),
    }
}

/// Passes over a field that is not in the schema; one that is, but has another wire type, is a fault.
#[inline(never)]
fn pass_over(
    key: u64,
    known: std::ops::RangeInclusive<u32>,
    nesting: u32,
    place: &[u8],
    rest: &mut &[u8],
) -> Result<(), Fault> {
    let key = Key::new(key, place)?;
    if known.contains(&key.number()) {
        return Err(Fault::at(WireErrorKind::WireType, place));
    }
    skip_value(key, rest, nesting)
}
