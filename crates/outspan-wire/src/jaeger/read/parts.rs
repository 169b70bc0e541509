//! Jaeger's structs as they were read, from Thrift or JSON, before anybody asked what they mean.

use std::borrow::Cow;
use std::ops::Range;

use super::assemble::Assembler;

/// Below this, every whole number is exact as a `f64`.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Takes what was read, one struct at a time.
pub(in crate::jaeger) trait Take {
    /// Takes what the following spans are about.
    fn process(&mut self, process: &Process<'_>);

    fn span(&mut self, span: &Span<'_>);

    /// Returns what takes spans as they were read in one pass, if anything does.
    fn assembler(&mut self) -> Option<&mut Assembler>;
}

/// A process: what spans are about.
#[derive(Debug, Default)]
pub(in crate::jaeger) struct Process<'a> {
    pub(in crate::jaeger) service_name: Cow<'a, str>,
    pub(in crate::jaeger) tags: Vec<Tag<'a>>,
}

/// A span. One is used again and again, so that its lists keep their room.
#[derive(Debug, Default)]
pub(in crate::jaeger) struct Span<'a> {
    pub(in crate::jaeger) trace_id: [u8; 16],
    pub(in crate::jaeger) span_id: [u8; 8],
    /// Zeros for none.
    pub(in crate::jaeger) parent_span_id: [u8; 8],
    pub(in crate::jaeger) name: Cow<'a, str>,
    pub(in crate::jaeger) references: Vec<Reference>,
    pub(in crate::jaeger) flags: i32,
    /// Microseconds since 1970-01-01 UTC.
    pub(in crate::jaeger) start: i64,
    /// Microseconds.
    pub(in crate::jaeger) duration: i64,
    pub(in crate::jaeger) tags: Vec<Tag<'a>>,
    pub(in crate::jaeger) logs: Vec<Log>,
    /// The fields of all logs.
    pub(in crate::jaeger) fields: Vec<Tag<'a>>,
}

impl Span<'_> {
    pub(in crate::jaeger) fn clear(&mut self) {
        self.trace_id = [0; 16];
        self.span_id = [0; 8];
        self.parent_span_id = [0; 8];
        self.name = Cow::Borrowed("");
        self.references.clear();
        self.flags = 0;
        self.start = 0;
        self.duration = 0;
        self.tags.clear();
        self.logs.clear();
        self.fields.clear();
    }
}

impl Span<'_> {
    /// Counts what the span holds.
    pub(in crate::jaeger) fn items(&self) -> usize {
        self.references.len() + self.tags.len() + self.logs.len() + self.fields.len()
    }
}

/// A reference to another span.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::jaeger) struct Reference {
    pub(in crate::jaeger) is_child_of: bool,
    pub(in crate::jaeger) trace_id: [u8; 16],
    pub(in crate::jaeger) span_id: [u8; 8],
}

/// A log: a time and fields.
#[derive(Clone, Debug, Default)]
pub(in crate::jaeger) struct Log {
    /// Microseconds since 1970-01-01 UTC.
    pub(in crate::jaeger) time: i64,
    /// Which of the span's `fields` are its own.
    pub(in crate::jaeger) fields: Range<usize>,
}

/// A tag, or a field of a log.
#[derive(Debug)]
pub(in crate::jaeger) struct Tag<'a> {
    pub(in crate::jaeger) key: Cow<'a, str>,
    pub(in crate::jaeger) value: Value<'a>,
}

impl Tag<'_> {
    /// Returns the value, if it is text.
    pub(in crate::jaeger) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the value as text, if it is a text, a number or a boolean.
    pub(in crate::jaeger) fn as_text(&self) -> Option<Cow<'_, str>> {
        match &self.value {
            Value::Text(text) => Some(Cow::Borrowed(text)),
            Value::Double(number) => Some(number.to_string().into()),
            Value::Bool(value) => Some(value.to_string().into()),
            Value::Long(number) => Some(number.to_string().into()),
            Value::Bytes(_) | Value::Empty => None,
        }
    }

    /// Returns the value, if it is a count.
    pub(in crate::jaeger) fn count(&self) -> Option<u32> {
        u32::try_from(self.value.whole()?).ok()
    }
}

/// The value of a tag.
#[derive(Debug)]
pub(in crate::jaeger) enum Value<'a> {
    Empty,
    Text(Cow<'a, str>),
    Double(f64),
    Bool(bool),
    Long(i64),
    Bytes(Cow<'a, [u8]>),
}

impl Value<'_> {
    /// Returns the value, if it is a whole number.
    pub(in crate::jaeger) fn whole(&self) -> Option<i64> {
        match *self {
            Value::Long(number) => Some(number),
            Value::Double(number) if number.fract() == 0.0 && number.abs() < MAX_EXACT => {
                Some(number as i64)
            }
            _ => None,
        }
    }
}
