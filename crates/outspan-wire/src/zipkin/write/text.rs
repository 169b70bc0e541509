//! Values, events and links as text.

use super::json::hex_digits;
use crate::buffer::Buffer;
use crate::buffer::Limited;
use crate::json::push_digits;
use crate::json::push_escaped_utf8;
use crate::otlp::ValueView;
use crate::otlp::fields::event;
use crate::otlp::fields::link;
use crate::otlp::raw::Attribute;
use crate::otlp::raw::Value;
use crate::otlp::reader::FieldValue;
use crate::otlp::reader::Fields;
use crate::otlp::reader::NESTING_MAX;
use crate::zipkin::options::Dialect;

/// Appends a value as the text of a tag.
///
/// Texts as they are, numbers and truth values as in JSON, bytes in base64, lists and maps as JSON.
/// (OpenTelemetry, `common/README.md`, "AnyValue representation for non-OTLP protocols".)
pub(super) fn push_value(out: &mut Limited, value: Value<'_>, dialect: Dialect) {
    match value {
        Value::Text(text) => out.extend_from_slice(text),
        Value::Int(number) => push_int(out, number),
        Value::Bool(value) => push_bool(out, value),
        Value::Double(_) | Value::Other(_) => match value.view() {
            list @ (ValueView::Array(_) | ValueView::Map(_)) => {
                push_json(out, list, dialect, NESTING_MAX);
            }
            scalar => push_scalar(out, scalar, dialect),
        },
    }
}

/// An event as its bytes say it.
#[derive(Debug, Default)]
pub(super) struct RawEvent<'a> {
    pub(super) time: u64,
    name: &'a [u8],
    dropped: u32,
}

/// Appends an event as the text of an annotation, and returns the event.
///
/// The specification has `"name": {attributes}` and, for events without attributes, the name alone; the Collector has
/// `name|{attributes}|dropped`. Dropped attributes have no place in the former, so that it borrows the latter for them.
pub(super) fn push_event<'a>(
    out: &mut Limited,
    message: &'a [u8],
    attributes: &mut Vec<Attribute<'a>>,
    dialect: Dialect,
) -> RawEvent<'a> {
    let mut read = RawEvent::default();
    attributes.clear();
    for field in Fields::new(message) {
        match (field.number, field.value) {
            (event::TIME_UNIX_NANO, FieldValue::Fixed64(time)) => read.time = time,
            (event::NAME, FieldValue::Bytes(name)) => read.name = name,
            (event::ATTRIBUTES, FieldValue::Bytes(attribute)) => {
                attributes.push(Attribute::read(attribute));
            }
            (event::DROPPED_ATTRIBUTES_COUNT, FieldValue::Varint(count)) => {
                read.dropped = count as u32;
            }
            _ => {}
        }
    }
    let is_collector = dialect == Dialect::Collector;
    let is_name_alone = attributes.is_empty() && read.dropped == 0;
    if is_name_alone && (is_collector || is_read_as_name(read.name)) {
        out.extend_from_slice(read.name);
    } else if read.dropped > 0 || is_collector {
        out.extend_from_slice(read.name);
        out.push(b'|');
        push_attributes(out, attributes, dialect);
        push_count(out, read.dropped);
    } else {
        push_quoted(out, read.name);
        out.extend_from_slice(b": ");
        push_attributes(out, attributes, dialect);
    }
    read
}

/// Appends a link as the text of a tag: `traceid|spanid|tracestate|{attributes}|dropped`, as the Collector has it.
pub(super) fn push_link<'a>(
    out: &mut Limited,
    message: &'a [u8],
    attributes: &mut Vec<Attribute<'a>>,
    dialect: Dialect,
) {
    let (mut trace_id, mut span_id, mut trace_state): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
    let mut dropped = 0;
    attributes.clear();
    for field in Fields::new(message) {
        match (field.number, field.value) {
            (link::TRACE_ID, FieldValue::Bytes(id)) => trace_id = id,
            (link::SPAN_ID, FieldValue::Bytes(id)) => span_id = id,
            (link::TRACE_STATE, FieldValue::Bytes(text)) => trace_state = text,
            (link::ATTRIBUTES, FieldValue::Bytes(attribute)) => {
                attributes.push(Attribute::read(attribute));
            }
            (link::DROPPED_ATTRIBUTES_COUNT, FieldValue::Varint(count)) => dropped = count as u32,
            _ => {}
        }
    }
    for id in [trace_id, span_id] {
        for &byte in id {
            out.extend_from_slice(&hex_digits(byte));
        }
        out.push(b'|');
    }
    out.extend_from_slice(trace_state);
    out.push(b'|');
    push_attributes(out, attributes, dialect);
    push_count(out, dropped);
}

/// Tells whether an annotation with only this text is read as an event of this name.
///
/// Every other form of an event ends in a brace, or in a number after a bar.
fn is_read_as_name(name: &[u8]) -> bool {
    match name.last() {
        None | Some(b'}') => false,
        Some(b'0'..=b'9') => !name.contains(&b'|'),
        Some(_) => true,
    }
}

fn push_attributes(out: &mut Limited, attributes: &[Attribute<'_>], dialect: Dialect) {
    out.push(b'{');
    for (index, attribute) in attributes.iter().enumerate() {
        if out.is_over() {
            return;
        }
        if index > 0 {
            out.push(b',');
        }
        push_quoted(out, attribute.key);
        out.push(b':');
        match attribute.value {
            Value::Text(text) => push_quoted(out, text),
            Value::Int(number) => push_int(out, number),
            Value::Bool(value) => push_bool(out, value),
            Value::Double(_) | Value::Other(_) => {
                push_json(out, attribute.value.view(), dialect, NESTING_MAX);
            }
        }
    }
    out.push(b'}');
}

/// Appends a value as JSON. Bytes that nobody validated may nest at will; from the bound on they read as null.
///
/// By the specification's rules a whole floating-point number keeps its fraction (`1.0`), which tells it from an integer.
fn push_json(out: &mut Limited, value: ValueView<'_>, dialect: Dialect, nesting: u32) {
    match value {
        ValueView::Empty => out.extend_from_slice(b"null"),
        ValueView::Str(text) => push_quoted(out, text.as_bytes()),
        ValueView::Int(number) => push_int(out, number),
        ValueView::Bool(value) => push_bool(out, value),
        ValueView::Double(number) if number.is_finite() => {
            let start = out.len();
            push_scalar(out, value, dialect);
            let mut written = out.iter().skip(start);
            let is_whole = !written.any(|byte| b".e".contains(byte));
            if is_whole && dialect == Dialect::Specification {
                out.extend_from_slice(b".0");
            }
        }
        ValueView::Double(_) | ValueView::Bytes(_) => {
            out.push(b'"');
            push_scalar(out, value, dialect);
            out.push(b'"');
        }
        ValueView::Array(_) | ValueView::Map(_) if nesting == 0 => out.extend_from_slice(b"null"),
        ValueView::Array(array) => {
            out.push(b'[');
            for (index, item) in array.iter().enumerate() {
                if out.is_over() {
                    return;
                }
                if index > 0 {
                    out.push(b',');
                }
                push_json(out, item, dialect, nesting - 1);
            }
            out.push(b']');
        }
        ValueView::Map(map) => {
            out.push(b'{');
            for (index, entry) in map.iter().enumerate() {
                if out.is_over() {
                    return;
                }
                if index > 0 {
                    out.push(b',');
                }
                push_quoted(out, entry.key().as_bytes());
                out.push(b':');
                push_json(out, entry.value(), dialect, nesting - 1);
            }
            out.push(b'}');
        }
    }
}

/// Appends an integer in decimal digits.
pub(super) fn push_int(out: &mut Limited, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    push_digits(out, number.unsigned_abs());
}

fn push_bool(out: &mut Limited, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn push_count(out: &mut Limited, count: u32) {
    out.push(b'|');
    push_digits(out, u64::from(count));
}

fn push_quoted(out: &mut Limited, text: &[u8]) {
    out.push(b'"');
    push_escaped_utf8(out, text);
    out.push(b'"');
}

/// Appends a scalar. Go, and so the Collector, writes the sign of every exponent.
fn push_scalar(out: &mut Limited, value: ValueView<'_>, dialect: Dialect) {
    let start = out.len();
    if value.write_text(out).is_err() {
        // It does not fit, which the buffer remembers.
        return;
    }
    if dialect == Dialect::Specification || !matches!(value, ValueView::Double(_)) {
        return;
    }
    let mut pairs = out.iter().zip(out.iter().skip(1)).skip(start);
    let is_exponent = |(e, next): (&u8, &u8)| *e == b'e' && next.is_ascii_digit();
    if let Some(e) = pairs.position(is_exponent) {
        out.push(b'+');
        if !out.is_over()
            && let Some(exponent) = out.get_mut(start + e + 1..)
        {
            exponent.rotate_right(1);
        }
    }
}
