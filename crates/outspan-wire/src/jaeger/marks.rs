//! The tag `outspan.otlp`: what the other tags of a process, span or log do not say.
//!
//! ```text
//! marks   = mark *( " " mark )
//! mark    = word / name "=" encoded
//! encoded = text with " ", "%", "=", quotes, backslashes and control characters as "%" and two hexadecimal digits
//! ```
//!
//! Some marks are claims: each takes the next tag with its key that no claim before it took, and says what it is.
//!
//! | mark | where | meaning |
//! |---|---|---|
//! | `own=KEY` | all | claim: an attribute of the process, span or log, although the key usually means something else |
//! | `json=KEY` | all | claim: an attribute that is a list or map, written as JSON |
//! | `empty=KEY` | all | claim: an attribute with the empty value |
//! | `scope` | span | what follows up to `span` is about the instrumentation scope |
//! | `span` | span | ends `scope` |
//! | `key=KEY` | span, in `scope` | claim: an attribute of the scope; `json` and `empty` likewise |
//! | `dropped=N` | process; span, in `scope`; log, with `link` | how many attributes were dropped |
//! | `schema=URL` | process; span, in `scope` | the schema URL |
//! | `service=absent`, `service=empty` | process | there is no service name, or an empty one |
//! | `kind=N`, `status=N` | span | the number, where there is no tag for it |
//! | `flags=N` | span; log, with `link` | all flags of OTLP |
//! | `end=N` | span | the end in nanoseconds, where it lies before the start |
//! | `root` | span | no reference is the parent |
//! | `name=NAME` | log | the event's name; the field `event` is an attribute |
//! | `link=N` | log | not an event, but more about the Nth link, counted from 0; a reference to the parent is none |
//! | `state=STATE` | log, with `link` | the link's trace state |
//!
//! Marks that a reader does not know it passes over.

use std::borrow::Cow;

use crate::buffer::Buffer;
use crate::buffer::Limited;

pub(super) const OWN: &str = "own";
pub(super) const JSON: &str = "json";
pub(super) const EMPTY: &str = "empty";
pub(super) const SCOPE: &str = "scope";
pub(super) const SPAN: &str = "span";
pub(super) const KEY: &str = "key";
pub(super) const DROPPED: &str = "dropped";
pub(super) const SCHEMA: &str = "schema";
pub(super) const SERVICE: &str = "service";
pub(super) const SERVICE_ABSENT: &str = "absent";
pub(super) const SERVICE_EMPTY: &str = "empty";
pub(super) const KIND: &str = "kind";
pub(super) const STATUS: &str = "status";
pub(super) const FLAGS: &str = "flags";
pub(super) const END: &str = "end";
pub(super) const ROOT: &str = "root";
pub(super) const NAME: &str = "name";
pub(super) const LINK: &str = "link";
pub(super) const STATE: &str = "state";

/// Collects the marks of one process, span or log, in a buffer that is used again.
#[derive(Debug, Default)]
pub(super) struct MarkWriter {
    text: Limited,
}

impl MarkWriter {
    /// Creates a writer of at most `max_bytes` bytes.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            text: Limited::new(max_bytes),
        }
    }

    /// Marks a message as over if not all marks fit.
    pub(super) fn pass_failure_on(&self, out: &mut Limited) {
        out.fail_with(&self.text);
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.text
    }

    /// Adds marks that stand ready.
    pub(super) fn push_all(&mut self, marks: &Self) {
        if marks.is_empty() {
            return;
        }
        self.begin();
        self.text.fail_with(&marks.text);
        self.text.extend_from_slice(&marks.text);
    }

    /// Adds a mark that is a word alone.
    pub(super) fn word(&mut self, word: &str) {
        self.begin();
        self.text.extend_from_slice(word.as_bytes());
    }

    /// Adds a mark with a text.
    pub(super) fn text(&mut self, name: &str, text: impl AsRef<[u8]>) {
        self.word(name);
        self.text.push(b'=');
        for &byte in text.as_ref() {
            if self.text.is_over() {
                return;
            }
            if needs_encoding(byte) {
                self.text.push_fmt(format_args!("%{byte:02x}"));
                continue;
            }
            self.text.push(byte);
        }
    }

    /// Adds a mark with a number.
    pub(super) fn number(&mut self, name: &str, number: i128) {
        self.begin();
        self.text.push_fmt(format_args!("{name}={number}"));
    }

    fn begin(&mut self) {
        if !self.text.is_empty() {
            self.text.push(b' ');
        }
    }
}

fn needs_encoding(byte: u8) -> bool {
    matches!(byte, 0..=b' ' | b'"' | b'%' | b'=' | b'\\' | 0x7F)
}

/// Returns the marks in a text: names, and what stands behind the equals sign.
pub(super) fn read(text: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    text.split(' ').map(|mark| match mark.split_once('=') {
        Some((name, encoded)) => (name, decode(encoded)),
        None => (mark, Cow::Borrowed("")),
    })
}

/// Decodes an encoded text; what is wrongly encoded stays as it is.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
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
    fn every_text_survives() {
        let texts = [
            "",
            "%",
            "%%",
            "%20",
            "a b=c%d\"e\\f\n\u{7f}",
            "ключ с",
            " ",
            "own=x",
            "scope",
        ];
        let mut marks = MarkWriter::default();
        for text in texts {
            marks.text(OWN, text);
        }
        marks.number(FLAGS, -7);
        marks.word(ROOT);
        let written = String::from_utf8(marks.bytes().to_vec()).expect("marks are text");
        let read: Vec<_> = read(&written).collect();
        assert_eq!(read.len(), texts.len() + 2);
        for (text, (name, value)) in texts.iter().zip(&read) {
            assert_eq!((*name, value.as_ref()), (OWN, *text));
        }
        assert_eq!(read[texts.len()], (FLAGS, Cow::Borrowed("-7")));
        assert_eq!(read[texts.len() + 1], (ROOT, Cow::Borrowed("")));
    }

    #[test]
    fn broken_encodings_stay_as_they_are() {
        for text in ["%2", "a%", "%zz", "%ff", "%é"] {
            assert_eq!(decode(text), text);
        }
    }
}
