//! OTLP to query JSON, by way of the structs that Thrift has too.

use std::collections::HashMap;
use std::io::Write;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;

use crate::PieceContent;
use crate::jaeger::WriteOptions;
use crate::jaeger::Writer;
use crate::jaeger::read::assemble::Assembler;
use crate::jaeger::read::parts::Process;
use crate::jaeger::read::parts::Reference;
use crate::jaeger::read::parts::Span;
use crate::jaeger::read::parts::Tag;
use crate::jaeger::read::parts::Take;
use crate::jaeger::read::parts::Value;
use crate::jaeger::read::take_batch;
use crate::json::push_escaped;
use crate::otlp::ValueView;
use crate::otlp::WireError;

/// Integers up to this, and down to its negative, are numbers that JavaScript keeps.
const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// Writes a validated request as Jaeger's query API would answer it: spans put together by trace, in first-seen order.
///
/// The mapping is OpenTelemetry's ([`Dialect::OpenTelemetry`](crate::jaeger::Dialect::OpenTelemetry)) with marks, so that
/// [`read_query_json`](crate::jaeger::read_query_json) gives back what was written.
///
/// # Errors
///
/// As [`Writer::pieces`]: a span without a valid trace id and span id cannot be written.
pub fn write_query_json(request: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut document = Document::default();
    let mut writer = Writer::new(WriteOptions::default().bytes_max(usize::MAX));
    for piece in writer.pieces(request) {
        if let PieceContent::Bytes(batch) = piece?.content {
            take_batch(&batch, &mut document)?;
        }
    }
    Ok(document.finish())
}

/// Traces as far as they are known.
#[derive(Default)]
struct Document {
    /// All processes, as JSON.
    processes: Vec<Vec<u8>>,
    numbers: HashMap<[u8; 16], usize>,
    traces: Vec<Trace>,
}

struct Trace {
    id: [u8; 16],
    /// Numbers of the processes; the first is `p1`.
    processes: Vec<usize>,
    /// The spans as JSON, with commas between them.
    spans: Vec<u8>,
}

impl Take for Document {
    fn assembler(&mut self) -> Option<&mut Assembler> {
        None
    }

    fn process(&mut self, process: &Process<'_>) {
        let mut json = b"{\"serviceName\":".to_vec();
        push_text(&mut json, &process.service_name);
        json.extend_from_slice(b",\"tags\":");
        push_tags(&mut json, &process.tags);
        json.push(b'}');
        self.processes.push(json);
    }

    fn span(&mut self, span: &Span<'_>) {
        let next = self.traces.len();
        let number = *self.numbers.entry(span.trace_id).or_insert(next);
        if number == next {
            self.traces.push(Trace {
                id: span.trace_id,
                processes: Vec::new(),
                spans: Vec::new(),
            });
        }
        // A batch has its process before its spans.
        let process = self.processes.len().saturating_sub(1);
        let Some(trace) = self.traces.get_mut(number) else {
            return;
        };
        // Processes come one after the other, so it is the last or a new one.
        if trace.processes.last() != Some(&process) {
            trace.processes.push(process);
        }
        if !trace.spans.is_empty() {
            trace.spans.push(b',');
        }
        push_span(&mut trace.spans, span, trace.processes.len());
    }
}

impl Document {
    fn finish(self) -> Vec<u8> {
        let mut json = b"{\"data\":[".to_vec();
        for (number, trace) in self.traces.iter().enumerate() {
            if number > 0 {
                json.push(b',');
            }
            self.push_trace(&mut json, trace);
        }
        json.extend_from_slice(b"],\"total\":0,\"limit\":0,\"offset\":0,\"errors\":null}");
        json
    }

    fn push_trace(&self, json: &mut Vec<u8>, trace: &Trace) {
        json.extend_from_slice(b"{\"traceID\":");
        push_trace_id(json, trace.id);
        json.extend_from_slice(b",\"spans\":[");
        json.extend_from_slice(&trace.spans);
        json.extend_from_slice(b"],\"processes\":{");
        for (index, &number) in trace.processes.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            push_format(json, format_args!("\"p{}\":", index + 1));
            json.extend_from_slice(self.processes.get(number).map_or(b"{}", Vec::as_slice));
        }
        json.extend_from_slice(b"},\"warnings\":null}");
    }
}

fn push_span(json: &mut Vec<u8>, span: &Span<'_>, process: usize) {
    json.extend_from_slice(b"{\"traceID\":");
    push_trace_id(json, span.trace_id);
    json.extend_from_slice(b",\"spanID\":");
    push_span_id(json, span.span_id);
    if span.flags != 0 {
        push_format(json, format_args!(",\"flags\":{}", span.flags as u32));
    }
    json.extend_from_slice(b",\"operationName\":");
    push_text(json, &span.name);
    json.extend_from_slice(b",\"references\":[");
    push_references(json, span);
    push_format(
        json,
        format_args!(
            "],\"startTime\":{},\"duration\":{}",
            span.start, span.duration
        ),
    );
    json.extend_from_slice(b",\"tags\":");
    push_tags(json, &span.tags);
    json.extend_from_slice(b",\"logs\":[");
    for (number, log) in span.logs.iter().enumerate() {
        if number > 0 {
            json.push(b',');
        }
        push_format(
            json,
            format_args!("{{\"timestamp\":{},\"fields\":", log.time),
        );
        push_tags(
            json,
            span.fields.get(log.fields.clone()).unwrap_or_default(),
        );
        json.push(b'}');
    }
    push_format(
        json,
        format_args!("],\"processID\":\"p{process}\",\"warnings\":null}}"),
    );
}

/// Writes the references; the parent, which has a field of its own in Thrift, is the first.
fn push_references(json: &mut Vec<u8>, span: &Span<'_>) {
    let parent = Reference {
        is_child_of: true,
        trace_id: span.trace_id,
        span_id: span.parent_span_id,
    };
    let parent = (span.parent_span_id != [0; 8]).then_some(&parent);
    for (number, reference) in parent.into_iter().chain(&span.references).enumerate() {
        if number > 0 {
            json.push(b',');
        }
        let kind = match reference.is_child_of {
            true => "CHILD_OF",
            false => "FOLLOWS_FROM",
        };
        push_format(json, format_args!("{{\"refType\":\"{kind}\",\"traceID\":"));
        push_trace_id(json, reference.trace_id);
        json.extend_from_slice(b",\"spanID\":");
        push_span_id(json, reference.span_id);
        json.push(b'}');
    }
}

fn push_tags(json: &mut Vec<u8>, tags: &[Tag<'_>]) {
    json.push(b'[');
    for (number, tag) in tags.iter().enumerate() {
        if number > 0 {
            json.push(b',');
        }
        json.extend_from_slice(b"{\"key\":");
        push_text(json, &tag.key);
        push_value(json, &tag.value);
        json.push(b'}');
    }
    json.push(b']');
}

fn push_value(json: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Empty => json.extend_from_slice(b",\"type\":\"string\",\"value\":\"\""),
        Value::Text(text) => {
            json.extend_from_slice(b",\"type\":\"string\",\"value\":");
            push_text(json, text);
        }
        Value::Bool(value) => {
            push_format(json, format_args!(",\"type\":\"bool\",\"value\":{value}"));
        }
        Value::Long(number) => {
            let quote = match number.unsigned_abs() <= SAFE_INTEGER_MAX {
                true => "",
                false => "\"",
            };
            let value = format_args!(",\"type\":\"int64\",\"value\":{quote}{number}{quote}");
            push_format(json, value);
        }
        Value::Double(number) => {
            let quote = if number.is_finite() { "" } else { "\"" };
            let text = ValueView::Double(*number).to_text();
            let value = format_args!(",\"type\":\"float64\",\"value\":{quote}{text}{quote}");
            push_format(json, value);
        }
        Value::Bytes(bytes) => {
            let text = Base64Display::new(bytes, &STANDARD);
            push_format(
                json,
                format_args!(",\"type\":\"binary\",\"value\":\"{text}\""),
            );
        }
    }
}

/// Writes a trace id: 16 digits if it has 64 bits only.
fn push_trace_id(json: &mut Vec<u8>, id: [u8; 16]) {
    let number = u128::from_be_bytes(id);
    match u64::try_from(number) {
        Ok(number) => push_format(json, format_args!("\"{number:016x}\"")),
        Err(_) => push_format(json, format_args!("\"{number:032x}\"")),
    }
}

fn push_span_id(json: &mut Vec<u8>, id: [u8; 8]) {
    push_format(json, format_args!("\"{:016x}\"", u64::from_be_bytes(id)));
}

fn push_text(json: &mut Vec<u8>, text: &str) {
    json.push(b'"');
    push_escaped(json, text);
    json.push(b'"');
}

fn push_format(json: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    json.write_fmt(text).expect("a Vec takes everything");
}
