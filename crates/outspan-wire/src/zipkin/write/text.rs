//! Values, events and links as text.

use std::fmt::Write;

use crate::json::plain_prefix;
use crate::otlp::AttributesView;
use crate::otlp::EventView;
use crate::otlp::Hex;
use crate::otlp::LinkView;
use crate::otlp::ValueView;
use crate::otlp::reader::NESTING_MAX;
use crate::zipkin::options::Dialect;

/// Appends a value as the text of a tag.
///
/// Texts as they are, numbers and truth values as in JSON, bytes in base64, lists and maps as JSON.
/// (OpenTelemetry, `common/README.md`, "AnyValue representation for non-OTLP protocols".)
pub(super) fn push_value(out: &mut String, value: ValueView<'_>, dialect: Dialect) {
    match value {
        ValueView::Array(_) | ValueView::Map(_) => push_json(out, value, dialect, NESTING_MAX),
        _ => push_scalar(out, value),
    }
}

/// Appends an event as the text of an annotation.
///
/// The specification has `"name": {attributes}` and, for events without attributes, the name alone; the Collector has
/// `name|{attributes}|dropped`. Dropped attributes have no place in the former, so that it borrows the latter for them.
pub(super) fn push_event(out: &mut String, event: &EventView<'_>, dialect: Dialect) {
    let name = event.name();
    let dropped = event.dropped_attributes_count();
    let has_attributes = !event.attributes().is_empty();
    if !has_attributes && dropped == 0 && (dialect == Dialect::Collector || is_read_as_name(name)) {
        out.push_str(name);
        return;
    }
    if dropped > 0 || dialect == Dialect::Collector {
        out.push_str(name);
        out.push('|');
        push_attributes(out, event.attributes(), dialect);
        write!(out, "|{dropped}").expect("a String takes everything");
        return;
    }
    push_quoted(out, name);
    out.push_str(": ");
    push_attributes(out, event.attributes(), dialect);
}

/// Appends a link as the text of a tag: `traceid|spanid|tracestate|{attributes}|dropped`, as the Collector has it.
pub(super) fn push_link(out: &mut String, link: &LinkView<'_>, dialect: Dialect) {
    let trace_id = Hex(link.trace_id_bytes());
    let span_id = Hex(link.span_id_bytes());
    let trace_state = link.trace_state();
    write!(out, "{trace_id}|{span_id}|{trace_state}|").expect("a String takes everything");
    push_attributes(out, link.attributes(), dialect);
    let dropped = link.dropped_attributes_count();
    write!(out, "|{dropped}").expect("a String takes everything");
}

/// Tells whether an annotation with only this text is read as an event of this name.
///
/// Every other form of an event ends in a brace, or in a number after a bar.
fn is_read_as_name(name: &str) -> bool {
    let may_end_in_count = name.contains('|') && name.ends_with(|last: char| last.is_ascii_digit());
    !name.is_empty() && !name.ends_with('}') && !may_end_in_count
}

fn push_attributes(out: &mut String, attributes: AttributesView<'_>, dialect: Dialect) {
    out.push('{');
    for (index, attribute) in attributes.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_quoted(out, attribute.key());
        out.push(':');
        push_json(out, attribute.value(), dialect, NESTING_MAX);
    }
    out.push('}');
}

/// Appends a value as JSON. Bytes that nobody validated may nest at will; from the bound on they read as null.
///
/// By the specification's rules a whole floating-point number keeps its fraction (`1.0`), which tells it from an integer.
fn push_json(out: &mut String, value: ValueView<'_>, dialect: Dialect, nesting: u32) {
    match value {
        ValueView::Empty => out.push_str("null"),
        ValueView::Str(text) => push_quoted(out, text),
        ValueView::Bool(_) | ValueView::Int(_) => push_scalar(out, value),
        ValueView::Double(number) if number.is_finite() => {
            let start = out.len();
            push_scalar(out, value);
            let written = out.get(start..).unwrap_or_default();
            if dialect == Dialect::Specification && !written.contains(['.', 'e']) {
                out.push_str(".0");
            }
        }
        ValueView::Double(_) | ValueView::Bytes(_) => {
            out.push('"');
            push_scalar(out, value);
            out.push('"');
        }
        ValueView::Array(_) | ValueView::Map(_) if nesting == 0 => out.push_str("null"),
        ValueView::Array(array) => {
            out.push('[');
            for (index, item) in array.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_json(out, item, dialect, nesting - 1);
            }
            out.push(']');
        }
        ValueView::Map(map) => {
            out.push('{');
            for (index, entry) in map.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_quoted(out, entry.key());
                out.push(':');
                push_json(out, entry.value(), dialect, nesting - 1);
            }
            out.push('}');
        }
    }
}

fn push_scalar(out: &mut String, value: ValueView<'_>) {
    value.write_text(out).expect("a String takes everything");
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    loop {
        // What ends a plain stretch is ASCII, so the cut is at a character boundary.
        let (plain, after) = rest.split_at(plain_prefix(rest.as_bytes()));
        out.push_str(plain);
        let mut characters = after.chars();
        let Some(special) = characters.next() else {
            break;
        };
        push_escape(out, special);
        rest = characters.as_str();
    }
    out.push('"');
}

fn push_escape(out: &mut String, special: char) {
    match special {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        control => {
            let code = u32::from(control);
            write!(out, "\\u{code:04x}").expect("a String takes everything");
        }
    }
}
