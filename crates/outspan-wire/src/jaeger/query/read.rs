//! Query JSON to OTLP.

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::ReadRequest;
use crate::jaeger::ReadLimits;
use crate::jaeger::read::assemble::Assembler;
use crate::jaeger::read::assemble::resource_of;
use crate::jaeger::read::check_len;
use crate::jaeger::read::parts::Log;
use crate::jaeger::read::parts::Process;
use crate::jaeger::read::parts::Reference;
use crate::jaeger::read::parts::Span;
use crate::jaeger::read::parts::Tag;
use crate::jaeger::read::parts::Take;
use crate::jaeger::read::parts::Value;
use crate::json::Kind;
use crate::json::Text;
use crate::otlp::EncodedResource;
use crate::otlp::WireError;
use crate::otlp::WireErrorKind;

/// The processes of each trace.
#[derive(Default)]
struct Processes<'a>(Vec<HashMap<Cow<'a, str>, EncodedResource>>);

impl<'a> Processes<'a> {
    /// Returns the processes of a trace, which may have none yet.
    fn of_trace(&mut self, trace: usize) -> &mut HashMap<Cow<'a, str>, EncodedResource> {
        if self.0.len() <= trace {
            self.0.resize_with(trace + 1, HashMap::new);
        }
        // Invariant: there are more than `trace` now.
        &mut self.0[trace]
    }
}

/// Reads the JSON that Jaeger's query API answers: an object with traces in `data`, an array of traces, or one trace.
///
/// Unknown keys are skipped. A span may name its process (`processID`) or hold it (`process`); a span without a process comes
/// without a resource. Warnings, which the query service adds, are left out. Spans with a trace id or span id of zero are left
/// out and counted, because OTLP forbids them.
///
/// # Errors
///
/// Fails if the text is not JSON of this form, if a span has no id or no start, or if there is more than `limits` allow. An
/// answer without `data`, such as the one that says that there is no such trace, is an error too.
///
/// # Examples
///
/// ```
/// use outspan_wire::jaeger::ReadLimits;
/// use outspan_wire::jaeger::read_query_json;
///
/// let text = br#"{"data": [{
///     "spans": [{"traceID": "1", "spanID": "2", "operationName": "get", "startTime": 3, "duration": 4, "processID": "p1"}],
///     "processes": {"p1": {"serviceName": "shop"}}
/// }]}"#;
/// let read = read_query_json(text, &ReadLimits::default())?;
/// assert_eq!(read.spans, 1);
/// # Ok::<(), outspan_wire::otlp::WireError>(())
/// ```
pub fn read_query_json(text: &[u8], limits: &ReadLimits) -> Result<ReadRequest, WireError> {
    check_len(text, limits)?;
    // Processes stand behind the spans, so they are read first.
    let mut processes = Processes::default();
    let mut reader = Reader::new(Text::new(text)?, limits);
    reader.document(&mut |reader, trace, part| match part {
        Part::Processes => reader.processes(processes.of_trace(trace)),
        Part::Spans => reader.text.skip_value(),
    })?;
    let mut assembler = Assembler::new(limits.memory_max);
    let mut reader = Reader::new(Text::new(text)?, limits);
    reader.document(&mut |reader, trace, part| match part {
        Part::Processes => reader.text.skip_value(),
        Part::Spans => reader.spans(processes.of_trace(trace), &mut assembler),
    })?;
    assembler.finish()
}

/// The parts of a trace that are worth reading.
enum Part {
    Spans,
    Processes,
}

struct Reader<'a> {
    text: Text<'a>,
    limits: ReadLimits,
    spans_left: usize,
}

impl<'a> Reader<'a> {
    fn new(text: Text<'a>, limits: &ReadLimits) -> Self {
        Self {
            text,
            limits: *limits,
            spans_left: limits.spans_max,
        }
    }

    /// Reads the document, calling `visit` at each part, which it has to go over.
    fn document(
        &mut self,
        visit: &mut impl FnMut(&mut Self, usize, Part) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let start = self.text.value_start();
        if self.text.kind()? == Kind::Array {
            self.traces(visit)?;
            return self.text.finish();
        }
        let mut has_traces = false;
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"data" if self.text.take_null()? => {}
                b"data" => {
                    self.traces(visit)?;
                    has_traces = true;
                }
                b"spans" => {
                    visit(self, 0, Part::Spans)?;
                    has_traces = true;
                }
                b"processes" => visit(self, 0, Part::Processes)?,
                _ => self.text.skip_value()?,
            }
        }
        if !has_traces {
            let words = "neither traces (data) nor spans".to_owned();
            return Err(self.text.fault(WireErrorKind::Missing, start, words));
        }
        self.text.finish()
    }

    fn traces(
        &mut self,
        visit: &mut impl FnMut(&mut Self, usize, Part) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let mut trace = 0;
        self.text.begin_array()?;
        while self.text.next_item()? {
            let start = self.text.value_start();
            let mut has_spans = false;
            self.text.begin_object()?;
            while let Some(key) = self.text.next_key()? {
                match &*key {
                    b"spans" => {
                        visit(self, trace, Part::Spans)?;
                        has_spans = true;
                    }
                    b"processes" => visit(self, trace, Part::Processes)?,
                    _ => self.text.skip_value()?,
                }
            }
            if !has_spans {
                let words = "a trace without spans".to_owned();
                return Err(self.text.fault(WireErrorKind::Missing, start, words));
            }
            trace += 1;
        }
        Ok(())
    }

    fn processes(
        &mut self,
        processes: &mut HashMap<Cow<'a, str>, EncodedResource>,
    ) -> Result<(), WireError> {
        if self.text.take_null()? {
            return Ok(());
        }
        self.text.begin_object()?;
        while let Some(name) = self.text.next_name()? {
            let process = self.process()?;
            processes.insert(name, resource_of(&process));
        }
        Ok(())
    }

    fn process(&mut self) -> Result<Process<'a>, WireError> {
        let mut process = Process::default();
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"serviceName" => process.service_name = self.string()?,
                b"tags" => self.tags(&mut process.tags, self.limits.items_max)?,
                _ => self.text.skip_value()?,
            }
        }
        Ok(process)
    }

    fn spans(
        &mut self,
        processes: &HashMap<Cow<'a, str>, EncodedResource>,
        assembler: &mut Assembler,
    ) -> Result<(), WireError> {
        if self.text.take_null()? {
            return Ok(());
        }
        let unknown = EncodedResource::default();
        let mut span = Span::default();
        self.text.begin_array()?;
        while self.text.next_item()? {
            let Some(left) = self.spans_left.checked_sub(1) else {
                let max = self.limits.spans_max;
                return Err(self.limit(format!("more than {max} spans")));
            };
            self.spans_left = left;
            span.clear();
            let process = self.span(&mut span)?;
            match process {
                ProcessOfSpan::Named(name) => {
                    assembler.begin_resource(processes.get(&name).unwrap_or(&unknown));
                }
                ProcessOfSpan::Own(process) => assembler.process(&process),
                ProcessOfSpan::None => assembler.begin_resource(&unknown),
            }
            assembler.span(&span);
        }
        Ok(())
    }

    fn span(&mut self, span: &mut Span<'a>) -> Result<ProcessOfSpan<'a>, WireError> {
        let start = self.text.value_start();
        let mut process = ProcessOfSpan::None;
        let (mut has_trace_id, mut has_span_id, mut has_start) = (false, false, false);
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"traceID" => {
                    span.trace_id = self.id()?;
                    has_trace_id = true;
                }
                b"spanID" => {
                    span.span_id = self.id()?;
                    has_span_id = true;
                }
                b"parentSpanID" => span.parent_span_id = self.parent_id()?,
                b"operationName" => span.name = self.string()?,
                b"references" => self.references(span)?,
                b"flags" => span.flags = self.flags()?,
                b"startTime" => {
                    span.start = self.text.integer()?;
                    has_start = true;
                }
                b"duration" => span.duration = self.text.integer()?,
                b"tags" => {
                    let max = self.limits.items_max.saturating_sub(span.items());
                    self.tags(&mut span.tags, max)?;
                }
                b"logs" => self.logs(span)?,
                b"processID" => process = ProcessOfSpan::Named(self.string()?),
                b"process" if !self.text.take_null()? => {
                    process = ProcessOfSpan::Own(self.process()?);
                }
                b"process" => {}
                _ => self.text.skip_value()?,
            }
        }
        let required = [
            (has_trace_id, "traceID"),
            (has_span_id, "spanID"),
            (has_start, "startTime"),
        ];
        match required.iter().find(|(is_there, _)| !is_there) {
            Some((_, key)) => {
                let words = format!("a span without {key}");
                Err(self.text.fault(WireErrorKind::Missing, start, words))
            }
            None => Ok(process),
        }
    }

    fn references(&mut self, span: &mut Span<'a>) -> Result<(), WireError> {
        if self.text.take_null()? {
            return Ok(());
        }
        self.text.begin_array()?;
        while self.text.next_item()? {
            self.check_items(span.items())?;
            let mut reference = Reference::default();
            self.text.begin_object()?;
            while let Some(key) = self.text.next_key()? {
                match &*key {
                    b"refType" => reference.is_child_of = self.string()? == "CHILD_OF",
                    b"traceID" => reference.trace_id = self.id()?,
                    b"spanID" => reference.span_id = self.id()?,
                    _ => self.text.skip_value()?,
                }
            }
            span.references.push(reference);
        }
        Ok(())
    }

    fn logs(&mut self, span: &mut Span<'a>) -> Result<(), WireError> {
        if self.text.take_null()? {
            return Ok(());
        }
        self.text.begin_array()?;
        while self.text.next_item()? {
            self.check_items(span.items())?;
            let start = span.fields.len();
            let mut time = 0;
            self.text.begin_object()?;
            while let Some(key) = self.text.next_key()? {
                match &*key {
                    b"timestamp" => time = self.text.integer()?,
                    b"fields" => {
                        let max = self.limits.items_max.saturating_sub(span.items());
                        self.tags(&mut span.fields, max)?;
                    }
                    _ => self.text.skip_value()?,
                }
            }
            let fields = start..span.fields.len();
            span.logs.push(Log { time, fields });
        }
        Ok(())
    }

    /// Reads tags, at most as many as may come.
    fn tags(&mut self, tags: &mut Vec<Tag<'a>>, max: usize) -> Result<(), WireError> {
        if self.text.take_null()? {
            return Ok(());
        }
        let end = tags.len().saturating_add(max);
        self.text.begin_array()?;
        while self.text.next_item()? {
            if tags.len() >= end {
                return Err(self.too_many_items());
            }
            tags.push(self.tag()?);
        }
        Ok(())
    }

    fn tag(&mut self) -> Result<Tag<'a>, WireError> {
        let mut key = Cow::Borrowed("");
        let mut tag_type = Cow::Borrowed("");
        let mut value = "null";
        self.text.begin_object()?;
        while let Some(name) = self.text.next_key()? {
            match &*name {
                b"key" => key = self.string()?,
                b"type" => tag_type = self.string()?,
                // Its type may stand behind it.
                b"value" => value = self.text.raw_value()?,
                _ => self.text.skip_value()?,
            }
        }
        let value = value_of(&tag_type, value).unwrap_or(Value::Empty);
        Ok(Tag { key, value })
    }

    fn string(&mut self) -> Result<Cow<'a, str>, WireError> {
        if self.text.take_null()? {
            return Ok(Cow::Borrowed(""));
        }
        Ok(self.text.string()?.to_text())
    }

    /// Reads an id in hexadecimal, of which leading zeros may be absent.
    fn id<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], WireError> {
        let start = self.text.value_start();
        let text = self.text.string()?.to_text();
        id_of(&text).ok_or_else(|| {
            let words = format!("expected an id of up to {} hexadecimal digits", 2 * BYTES);
            self.text.fault(WireErrorKind::Encoding, start, words)
        })
    }

    /// Reads the parent's id of old answers, which may be null or empty.
    fn parent_id(&mut self) -> Result<[u8; 8], WireError> {
        let start = self.text.value_start();
        let text = self.string()?;
        if text.is_empty() {
            return Ok([0; 8]);
        }
        id_of(&text).ok_or_else(|| {
            let words = "expected an id of up to 16 hexadecimal digits".to_owned();
            self.text.fault(WireErrorKind::Encoding, start, words)
        })
    }

    /// Reads flags, which are unsigned here and signed in Thrift.
    fn flags(&mut self) -> Result<i32, WireError> {
        if self.text.take_null()? {
            return Ok(0);
        }
        let start = self.text.value_start();
        let flags: i64 = self.text.integer()?;
        let signed = i32::try_from(flags).ok();
        let unsigned = || u32::try_from(flags).ok().map(|flags| flags as i32);
        signed
            .or_else(unsigned)
            .ok_or_else(|| self.text.fault(WireErrorKind::Number, start, String::new()))
    }

    fn check_items(&mut self, items: usize) -> Result<(), WireError> {
        if items < self.limits.items_max {
            return Ok(());
        }
        Err(self.too_many_items())
    }

    #[cold]
    fn too_many_items(&mut self) -> WireError {
        let max = self.limits.items_max;
        self.limit(format!("more than {max} tags, logs and references"))
    }

    #[cold]
    fn limit(&mut self, words: String) -> WireError {
        let start = self.text.value_start();
        self.text.fault(WireErrorKind::Limit, start, words)
    }
}

/// How a span says what it is about.
enum ProcessOfSpan<'a> {
    None,
    Named(Cow<'a, str>),
    Own(Process<'a>),
}

/// Reads hexadecimal digits as an id, unless they are too many.
fn id_of<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    // A sign would be fine for a number.
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let whole = u128::from_str_radix(text, 16).ok()?.to_be_bytes();
    let (zeros, id) = whole.split_last_chunk::<BYTES>()?;
    zeros.iter().all(|&byte| byte == 0).then_some(*id)
}

/// Makes a value of JSON, by the type of its tag where that fits, and else by its own.
fn value_of<'a>(tag_type: &str, json: &'a str) -> Option<Value<'a>> {
    let mut text = Text::of(json);
    let value = match text.kind().ok()? {
        Kind::String => {
            let string = text.string().ok()?.to_text();
            typed(tag_type, &string).unwrap_or(Value::Text(string))
        }
        Kind::Number => number(tag_type, text.number().ok()?)?,
        Kind::Bool => Value::Bool(text.bool().ok()?),
        Kind::Null => Value::Empty,
        Kind::Object | Kind::Array => Value::Text(Cow::Borrowed(json)),
    };
    Some(value)
}

/// Makes a value of text that stands for one of another type.
fn typed<'a>(tag_type: &str, text: &str) -> Option<Value<'a>> {
    match tag_type {
        "bool" => text.parse().ok().map(Value::Bool),
        "int64" => text.parse().ok().map(Value::Long),
        "float64" => text.parse().ok().map(Value::Double),
        "binary" => {
            let bytes = STANDARD.decode(text).ok()?;
            Some(Value::Bytes(Cow::Owned(bytes)))
        }
        _ => None,
    }
}

fn number<'a>(tag_type: &str, digits: &[u8]) -> Option<Value<'a>> {
    let digits = std::str::from_utf8(digits).ok()?;
    let integer = digits.parse().ok().filter(|_| tag_type != "float64");
    match integer {
        Some(integer) => Some(Value::Long(integer)),
        None => digits.parse().ok().map(Value::Double),
    }
}
