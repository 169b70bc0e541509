//! The tag `outspan.otlp`: what the other tags of a span do not say.
//!
//! ```text
//! marks   = mark *( " " mark )
//! mark    = section / fact / key
//! section = "scope:" / "resource:"        what follows is about these; before them it is about the span
//! fact    = "flags=" number               of the span
//!         / "kind=0"                      the span is of no kind, although there is a scope
//!         / "dropped=" number             attributes of the scope or resource that were dropped
//!         / "schema=" encoded             schema URL of the scope or resource
//!         / "service=absent" / "service=empty"    the resource has no service name, or an empty one
//! key     = [ type "=" ] encoded          the tag with this key is an attribute of this type; text without one
//! type    = "bool" / "int" / "double" / "bytes" / "json" / "empty"
//! encoded = text with " ", "%", ":", "=", quotes, backslashes and control characters as "%" and two hexadecimal digits;
//!           a lone "%" is the empty text
//! ```
//!
//! Marks that a reader does not know it passes over.

use std::borrow::Cow;

use crate::buffer::Buffer;
use crate::json::push_digits;
use crate::otlp::ValueView;

pub(super) const SCOPE: &str = "scope:";
pub(super) const RESOURCE: &str = "resource:";
pub(super) const FLAGS: &str = "flags";
pub(super) const KIND: &str = "kind";
pub(super) const DROPPED: &str = "dropped";
pub(super) const SCHEMA: &str = "schema";
pub(super) const SERVICE: &str = "service";
pub(super) const ABSENT: &str = "absent";
pub(super) const EMPTY: &str = "empty";

/// Appends a space, unless the mark is the first.
pub(super) fn begin<B: Buffer>(out: &mut B) {
    if !out.is_empty() {
        out.push(b' ');
    }
}

/// Appends the mark of an attribute.
pub(super) fn push_key<B: Buffer>(out: &mut B, key: &[u8], value: ValueView<'_>) {
    begin(out);
    if let Some(name) = type_name(value) {
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
    }
    push_encoded(out, key);
}

/// Appends a fact that is a number.
pub(super) fn push_number<B: Buffer>(out: &mut B, fact: &str, number: u32) {
    begin(out);
    out.extend_from_slice(fact.as_bytes());
    out.push(b'=');
    push_digits(out, u64::from(number));
}

/// Appends a fact that is a text.
pub(super) fn push_fact<B: Buffer>(out: &mut B, fact: &str, text: &str) {
    begin(out);
    out.extend_from_slice(fact.as_bytes());
    out.push(b'=');
    push_encoded(out, text.as_bytes());
}

/// Names the type of a value, unless it is a text.
pub(super) fn type_name(value: ValueView<'_>) -> Option<&'static str> {
    match value {
        ValueView::Str(_) => None,
        ValueView::Bool(_) => Some("bool"),
        ValueView::Int(_) => Some("int"),
        ValueView::Double(_) => Some("double"),
        ValueView::Bytes(_) => Some("bytes"),
        ValueView::Array(_) | ValueView::Map(_) => Some("json"),
        ValueView::Empty => Some("empty"),
    }
}

fn push_encoded<B: Buffer>(out: &mut B, text: &[u8]) {
    if text.is_empty() {
        out.push(b'%');
    }
    for &byte in text {
        if out.is_over() {
            return;
        }
        if needs_encoding(byte) {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            let high = DIGITS[usize::from(byte >> 4)];
            let low = DIGITS[usize::from(byte & 0x0F)];
            out.extend_from_slice(&[b'%', high, low]);
        } else {
            out.push(byte);
        }
    }
}

fn needs_encoding(byte: u8) -> bool {
    matches!(byte, 0..=b' ' | b'"' | b'%' | b':' | b'=' | b'\\' | 0x7F)
}

/// Decodes an encoded text; what is wrongly encoded stays as it is.
pub(super) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    if text == "%" {
        return Cow::Borrowed("");
    }
    let mut decoded = String::with_capacity(text.len());
    let mut parts = text.split('%');
    decoded.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let byte = part
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, part.get(2..)) {
            (Some(byte), Some(rest)) if byte.is_ascii() => {
                decoded.push(char::from(byte));
                decoded.push_str(rest);
            }
            _ => {
                decoded.push('%');
                decoded.push_str(part);
            }
        }
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_survives_encoding() {
        for text in [
            "",
            "%",
            "%%",
            "%20",
            "http.status_code",
            "a b:c=d%e\"f\\g\n\u{7f}",
            "ключ с пробелом",
            " ",
            "int=x",
            "scope:",
        ] {
            let mut encoded = Vec::new();
            push_encoded(&mut encoded, text.as_bytes());
            let encoded = String::from_utf8(encoded).expect("only ASCII is encoded");
            let is_plain = !encoded.bytes().any(|byte| b" :=\"\\".contains(&byte));
            assert!(is_plain, "{encoded}");
            assert_eq!(decode(&encoded), text);
        }
    }

    #[test]
    fn broken_encodings_stay_as_they_are() {
        for text in ["%2", "a%", "%zz", "%ff", "%é"] {
            assert_eq!(decode(text), text);
        }
    }
}
