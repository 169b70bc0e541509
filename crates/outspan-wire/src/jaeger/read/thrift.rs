//! The structs of `jaeger.thrift`, in any order of their fields.
//!
//! What is required there is required here, as in Thrift's own readers. A known field of another type is skipped as an unknown
//! one is. Which value a tag has its type says, because some clients write all of them; a type that nobody knows leaves the
//! first value that is there. Text that is not UTF-8 keeps its bytes as a value, and gets U+FFFD in names and keys.

use std::borrow::Cow;

use super::ReadLimits;
use super::input::Field;
use super::input::Input;
use super::input::Kind;
use super::parts::Log;
use super::parts::Process;
use super::parts::Reference;
use super::parts::Span;
use super::parts::Tag;
use super::parts::Take;
use super::parts::Value;
use super::usual::UsualSpan;
use crate::jaeger::names::ref_type;
use crate::jaeger::names::tag_type;
use crate::otlp::WireError;
use crate::otlp::WireErrorKind;

/// By how many more spans may turn out as unusual than as usual before nobody tries any more: whoever wrote them usually does.
const UNUSUAL_SPANS_MAX: usize = 8;

/// Reads structs of one request.
pub(super) struct Structs<'a, I> {
    input: I,
    limits: ReadLimits,
    spans_left: usize,
    items_left: usize,
    span: Span<'a>,
    usual_span: UsualSpan<'a>,
    /// By how many more of the spans were unusual than usual.
    unusual_spans: usize,
}

/// Says which required fields of a struct came.
#[derive(Clone, Copy, Default)]
struct Seen(u32);

impl Seen {
    fn add(&mut self, id: i16) {
        self.0 |= 1 << (id as u32 & 31);
    }

    /// Finds the first field that did not come.
    fn first_missing<'n>(self, required: &[(i16, &'n str)]) -> Option<&'n str> {
        let missing = required
            .iter()
            .find(|(id, _)| self.0 & 1 << (*id as u32 & 31) == 0);
        missing.map(|(_, name)| *name)
    }
}

impl<'a, I: Input<'a>> Structs<'a, I> {
    pub(super) fn new(input: I, limits: &ReadLimits) -> Self {
        Self {
            input,
            limits: *limits,
            spans_left: limits.spans_max,
            items_left: 0,
            span: Span::default(),
            usual_span: UsualSpan::default(),
            unusual_spans: 0,
        }
    }

    pub(super) fn input(&mut self) -> &mut I {
        &mut self.input
    }

    pub(super) fn skip(&mut self, field: Field) -> Result<(), WireError> {
        self.input.skip_field(field, self.limits.depth_max)
    }

    /// Reads a `Batch`, handing each span on.
    pub(super) fn batch(&mut self, taker: &mut impl Take) -> Result<(), WireError> {
        let mut before = 0;
        let mut has_process = false;
        // Lists of spans that stand before the process wait until it is known.
        let mut waiting: Option<I> = None;
        let mut seen = Seen::default();
        while let Some(field) = self.input.field(&mut before)? {
            match (field.id, field.kind) {
                (1, Kind::Struct) => {
                    self.items_left = self.limits.items_max;
                    let process = self.process().map_err(|error| error.below("process"))?;
                    taker.process(&process);
                    has_process = true;
                }
                (2, Kind::List) if has_process => self.spans(taker)?,
                (2, Kind::List) if waiting.is_none() => {
                    waiting = Some(self.input);
                    self.skip(field)?;
                }
                (2, Kind::List) => {
                    let error = self.input.cursor().fault(WireErrorKind::Trailing);
                    return Err(error.in_field("Batch.spans"));
                }
                _ => {
                    self.skip(field)?;
                    continue;
                }
            }
            seen.add(field.id);
        }
        self.require(seen, &[(1, "Batch.process"), (2, "Batch.spans")])?;
        if let Some(input) = waiting {
            let end = std::mem::replace(&mut self.input, input);
            self.spans(taker)?;
            self.input = end;
        }
        Ok(())
    }

    fn spans(&mut self, taker: &mut impl Take) -> Result<(), WireError> {
        let Some(count) = self.input.structs(self.limits.depth_max)? else {
            return Ok(());
        };
        if count > self.spans_left {
            let max = self.limits.spans_max;
            return Err(self.limit(format!("more than {max} spans")));
        }
        self.spans_left -= count;
        for number in 0..count {
            if let Some(assembler) = taker.assembler()
                && self.read_usual_span()
            {
                assembler.usual_span(&self.usual_span);
                continue;
            }
            let mut span = std::mem::take(&mut self.span);
            span.clear();
            self.items_left = self.limits.items_max;
            self.read_span(&mut span)
                .map_err(|error| error.below(&format!("spans[{number}]")))?;
            taker.span(&span);
            self.span = span;
        }
        Ok(())
    }

    /// Reads a span in one pass, and tells whether that could be done; otherwise nothing is read.
    fn read_usual_span(&mut self) -> bool {
        if self.unusual_spans > UNUSUAL_SPANS_MAX {
            return false;
        }
        let start = self.input;
        let items_max = self.limits.items_max;
        let is_usual = self.usual_span.read(&mut self.input, items_max).is_some();
        if is_usual {
            self.unusual_spans = self.unusual_spans.saturating_sub(1);
        } else {
            self.unusual_spans += 1;
            self.input = start;
        }
        is_usual
    }

    fn process(&mut self) -> Result<Process<'a>, WireError> {
        let mut process = Process::default();
        let mut seen = Seen::default();
        let mut before = 0;
        while let Some(field) = self.input.field(&mut before)? {
            match (field.id, field.kind) {
                (1, Kind::Text) => process.service_name = self.name("Process.serviceName")?,
                (2, Kind::List) => self.tags(&mut process.tags, "tags")?,
                _ => {
                    self.skip(field)?;
                    continue;
                }
            }
            seen.add(field.id);
        }
        self.require(seen, &[(1, "Process.serviceName")])?;
        Ok(process)
    }

    fn read_span(&mut self, span: &mut Span<'a>) -> Result<(), WireError> {
        const REQUIRED: &[(i16, &str)] = &[
            (1, "Span.traceIdLow"),
            (2, "Span.traceIdHigh"),
            (3, "Span.spanId"),
            (4, "Span.parentSpanId"),
            (5, "Span.operationName"),
            (7, "Span.flags"),
            (8, "Span.startTime"),
            (9, "Span.duration"),
        ];
        let mut seen = Seen::default();
        let mut before = 0;
        let (mut low, mut high) = (0, 0);
        while let Some(field) = self.input.field(&mut before)? {
            match (field.id, field.kind) {
                (1, Kind::I64) => low = self.input.i64()?,
                (2, Kind::I64) => high = self.input.i64()?,
                (3, Kind::I64) => span.span_id = self.input.i64()?.to_be_bytes(),
                (4, Kind::I64) => span.parent_span_id = self.input.i64()?.to_be_bytes(),
                (5, Kind::Text) => span.name = self.name("Span.operationName")?,
                (6, Kind::List) => self.references(&mut span.references)?,
                (7, Kind::I32) => span.flags = self.input.i32()?,
                (8, Kind::I64) => span.start = self.input.i64()?,
                (9, Kind::I64) => span.duration = self.input.i64()?,
                (10, Kind::List) => self.tags(&mut span.tags, "tags")?,
                (11, Kind::List) => self.logs(span)?,
                _ => {
                    self.skip(field)?;
                    continue;
                }
            }
            seen.add(field.id);
        }
        self.require(seen, REQUIRED)?;
        span.trace_id = trace_id(high, low);
        Ok(())
    }

    fn references(&mut self, references: &mut Vec<Reference>) -> Result<(), WireError> {
        let count = self.items()?;
        for number in 0..count {
            let reference = self
                .reference()
                .map_err(|error| error.below(&format!("references[{number}]")))?;
            references.push(reference);
        }
        Ok(())
    }

    fn reference(&mut self) -> Result<Reference, WireError> {
        const REQUIRED: &[(i16, &str)] = &[
            (1, "SpanRef.refType"),
            (2, "SpanRef.traceIdLow"),
            (3, "SpanRef.traceIdHigh"),
            (4, "SpanRef.spanId"),
        ];
        let mut reference = Reference::default();
        let mut seen = Seen::default();
        let mut before = 0;
        let (mut low, mut high) = (0, 0);
        while let Some(field) = self.input.field(&mut before)? {
            match (field.id, field.kind) {
                (1, Kind::I32) => reference.is_child_of = self.input.i32()? == ref_type::CHILD_OF,
                (2, Kind::I64) => low = self.input.i64()?,
                (3, Kind::I64) => high = self.input.i64()?,
                (4, Kind::I64) => reference.span_id = self.input.i64()?.to_be_bytes(),
                _ => {
                    self.skip(field)?;
                    continue;
                }
            }
            seen.add(field.id);
        }
        self.require(seen, REQUIRED)?;
        reference.trace_id = trace_id(high, low);
        Ok(reference)
    }

    fn logs(&mut self, span: &mut Span<'a>) -> Result<(), WireError> {
        let count = self.items()?;
        for number in 0..count {
            let log = self
                .log(&mut span.fields)
                .map_err(|error| error.below(&format!("logs[{number}]")))?;
            span.logs.push(log);
        }
        Ok(())
    }

    fn log(&mut self, fields: &mut Vec<Tag<'a>>) -> Result<Log, WireError> {
        let start = fields.len();
        let mut time = 0;
        let mut seen = Seen::default();
        let mut before = 0;
        while let Some(field) = self.input.field(&mut before)? {
            match (field.id, field.kind) {
                (1, Kind::I64) => time = self.input.i64()?,
                (2, Kind::List) => self.tags(fields, "fields")?,
                _ => {
                    self.skip(field)?;
                    continue;
                }
            }
            seen.add(field.id);
        }
        self.require(seen, &[(1, "Log.timestamp"), (2, "Log.fields")])?;
        let fields = start..fields.len();
        Ok(Log { time, fields })
    }

    fn tags(&mut self, tags: &mut Vec<Tag<'a>>, name: &str) -> Result<(), WireError> {
        let count = self.items()?;
        for number in 0..count {
            let tag = self
                .tag()
                .map_err(|error| error.below(&format!("{name}[{number}]")))?;
            tags.push(tag);
        }
        Ok(())
    }

    fn tag(&mut self) -> Result<Tag<'a>, WireError> {
        let mut key = Cow::Borrowed("");
        let mut tag_type = 0;
        let mut values = Values::default();
        let mut seen = Seen::default();
        let mut before = 0;
        while let Some(field) = self.input.field(&mut before)? {
            match (field.id, field.kind) {
                (1, Kind::Text) => key = self.name("Tag.key")?,
                (2, Kind::I32) => tag_type = self.input.i32()?,
                (3, Kind::Text) => values.text = Some(self.input.text()?),
                (4, Kind::Double) => values.double = Some(self.input.double()?),
                (5, Kind::Bool) => values.bool = Some(self.input.bool(field)?),
                (6, Kind::I64) => values.long = Some(self.input.i64()?),
                (7, Kind::Text) => values.binary = Some(self.input.text()?),
                _ => {
                    self.skip(field)?;
                    continue;
                }
            }
            seen.add(field.id);
        }
        self.require(seen, &[(1, "Tag.key"), (2, "Tag.vType")])?;
        Ok(Tag {
            key,
            value: values.of_type(tag_type),
        })
    }

    /// Reads the head of a list of structs that counts against the limit.
    fn items(&mut self) -> Result<usize, WireError> {
        let Some(count) = self.input.structs(self.limits.depth_max)? else {
            return Ok(0);
        };
        match self.items_left.checked_sub(count) {
            Some(left) => {
                self.items_left = left;
                Ok(count)
            }
            None => {
                let max = self.limits.items_max;
                Err(self.limit(format!("more than {max} tags, logs and references")))
            }
        }
    }

    /// Reads a text that has to be one.
    #[inline]
    fn name(&mut self, field: &str) -> Result<Cow<'a, str>, WireError> {
        let bytes = self.input.text().map_err(|error| error.in_field(field))?;
        Ok(name_of(bytes))
    }

    fn require(&self, seen: Seen, fields: &[(i16, &str)]) -> Result<(), WireError> {
        match seen.first_missing(fields) {
            None => Ok(()),
            Some(name) => {
                let error = self.input.cursor().fault(WireErrorKind::Missing);
                Err(error.in_field(name))
            }
        }
    }

    #[cold]
    fn limit(&self, words: String) -> WireError {
        self.input
            .cursor()
            .fault(WireErrorKind::Limit)
            .saying(words)
    }
}

/// The values of a tag, of which its type names one.
#[derive(Default)]
struct Values<'a> {
    text: Option<&'a [u8]>,
    double: Option<f64>,
    bool: Option<bool>,
    long: Option<i64>,
    binary: Option<&'a [u8]>,
}

impl<'a> Values<'a> {
    fn of_type(&self, tag_type: i32) -> Value<'a> {
        match tag_type {
            tag_type::STRING => text_value(self.text.unwrap_or_default()),
            tag_type::DOUBLE => Value::Double(self.double.unwrap_or_default()),
            tag_type::BOOL => Value::Bool(self.bool.unwrap_or_default()),
            tag_type::LONG => Value::Long(self.long.unwrap_or_default()),
            tag_type::BINARY => Value::Bytes(Cow::Borrowed(self.binary.unwrap_or_default())),
            _ => self.first(),
        }
    }

    fn first(&self) -> Value<'a> {
        let text = self.text.map(text_value);
        text.or(self.double.map(Value::Double))
            .or(self.bool.map(Value::Bool))
            .or(self.long.map(Value::Long))
            .or(self.binary.map(|bytes| Value::Bytes(Cow::Borrowed(bytes))))
            .unwrap_or(Value::Empty)
    }
}

/// Makes a name of what should be text.
#[inline]
fn name_of(bytes: &[u8]) -> Cow<'_, str> {
    match simdutf8::basic::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

/// Makes a value of what should be text, and else is bytes.
#[inline]
fn text_value(bytes: &[u8]) -> Value<'_> {
    match simdutf8::basic::from_utf8(bytes) {
        Ok(text) => Value::Text(Cow::Borrowed(text)),
        Err(_) => Value::Bytes(Cow::Borrowed(bytes)),
    }
}

pub(super) fn trace_id(high: i64, low: i64) -> [u8; 16] {
    let whole = u128::from(high as u64) << 64 | u128::from(low as u64);
    whole.to_be_bytes()
}
