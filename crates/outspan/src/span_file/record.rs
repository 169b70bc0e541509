//! One record: from bytes of any format to valid spans.

use std::collections::VecDeque;

use outspan_wire::ReadRequest;
use outspan_wire::jaeger;
use outspan_wire::otlp;
use outspan_wire::otlp::WireError;
use outspan_wire::zipkin;

use super::Checked;
use super::Format;
use super::Position;
use super::Record;
use crate::Batch;
use crate::Error;
use crate::Result;

/// A record as it stands in the file.
pub(super) struct RawRecord {
    pub(super) bytes: Vec<u8>,
    pub(super) position: Position,
    pub(super) format: Format,
    /// Where its parts stand: the spans that were gathered, or all of it. OTLP has none.
    pub(super) parts: Vec<Part>,
}

/// Says where a part of a record stands in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Where it begins in the record's bytes.
    pub(super) start: usize,
    pub(super) position: Position,
    /// The column of its first byte, counted from 1; only text has columns.
    pub(super) column: u64,
}

impl Part {
    /// The place behind these bytes, which begin here.
    pub(super) fn behind(self, passed: &[u8]) -> Self {
        let lines = passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        let column = match passed.iter().rev().position(|byte| *byte == b'\n') {
            Some(behind) => behind as u64 + 1,
            None => self.column + passed.len() as u64,
        };
        Self {
            start: self.start,
            position: Position {
                line: self.position.line.map(|line| line + lines),
                byte: self.position.byte + passed.len() as u64,
            },
            column,
        }
    }
}

impl RawRecord {
    pub(super) fn new(format: Format, position: Position) -> Self {
        Self {
            bytes: Vec::new(),
            position,
            format,
            parts: Vec::new(),
        }
    }

    /// Where it begins.
    pub(super) fn part_at_start(&self) -> Part {
        let start = Part {
            start: 0,
            position: self.position,
            column: 1,
        };
        self.parts.first().copied().unwrap_or(start)
    }

    pub(super) fn has_many_parts(&self) -> bool {
        self.parts.len() > 1
    }

    /// Takes it apart.
    pub(super) fn into_parts(self) -> VecDeque<Self> {
        let ends = self.parts.iter().skip(1).map(|next| next.start);
        let ends = ends.chain([self.bytes.len()]);
        // An array has a comma or its bracket behind each span.
        let is_array = self.format == Format::ZipkinJson;
        let parts = self.parts.iter().zip(ends).map(|(part, end)| {
            let bytes = self.bytes.get(part.start..end).unwrap_or_default();
            let bytes = match is_array {
                true => [
                    &b"["[..],
                    bytes.split_last().map_or(&[][..], |(_, span)| span),
                    b"]",
                ]
                .concat(),
                false => bytes.to_vec(),
            };
            Self {
                bytes,
                position: part.position,
                format: self.format,
                parts: vec![Part {
                    start: usize::from(is_array),
                    ..*part
                }],
            }
        });
        parts.collect()
    }

    /// Reads its spans.
    ///
    /// # Errors
    ///
    /// What is wrong, and where in the file of that name.
    pub(super) fn check(self, name: &str) -> Result<Record> {
        let position = self.position;
        let bytes = self.bytes.len();
        let checked = match self.format {
            // Without its line feed, so that an end that comes too early is on the line it belongs to.
            Format::Json => self.check_json(name)?,
            Format::Protobuf | Format::ProtobufRecords => {
                check_protobuf(self.bytes, position, name)?
            }
            _ => return self.check_all(name),
        };
        Ok(Record {
            checked,
            position,
            bytes,
        })
    }

    /// Reads the spans of OTLP JSON.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub(super) fn check_json(&self, name: &str) -> Result<Checked> {
        check_json(self.bytes.trim_ascii_end(), self.part_at_start(), name)
    }

    /// Reads the spans of a record that is not OTLP.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub(super) fn check_all(&self, name: &str) -> Result<Record> {
        let read = self.read().map_err(|error| self.explain(&error, name))?;
        let mut checked = Batch::from_request(read.bytes)?;
        checked.refused += read.invalid;
        checked.reason = read.first_invalid.or(checked.reason);
        Ok(Record {
            checked,
            position: self.position,
            bytes: self.bytes.len(),
        })
    }

    fn read(&self) -> Result<ReadRequest, WireError> {
        let bytes = self.bytes.as_slice();
        // The record is bounded already.
        let zipkin = zipkin::ReadLimits::default().bytes_max(usize::MAX);
        let mut jaeger = jaeger::ReadLimits::default();
        jaeger.bytes_max = usize::MAX;
        match self.format {
            Format::ZipkinProtobuf => zipkin::read_protobuf(bytes, &zipkin),
            Format::JaegerThrift => jaeger::read_batch(bytes, jaeger::Protocol::Binary, &jaeger),
            Format::JaegerJson => jaeger::read_query_json(bytes, &jaeger),
            _ => zipkin::read_json(bytes, &zipkin),
        }
    }

    fn explain(&self, error: &WireError, name: &str) -> Error {
        let place = self.place(error.offset());
        let what = without_place(error);
        Error::refused(format!(
            "{name}, {place}: not valid {}: {what}",
            self.format
        ))
    }

    /// Where in the file a byte of the record stands.
    fn place(&self, offset: usize) -> String {
        let before = self.parts.iter().rev().find(|part| part.start <= offset);
        let Some(part) = before.or(self.parts.first()) else {
            return self.position.to_string();
        };
        let Some(line) = part.position.line else {
            let within = offset.saturating_sub(part.start) as u64;
            return Position::at_byte(part.position.byte + within).to_string();
        };
        let text = self.bytes.get(part.start..offset).unwrap_or_default();
        let lines = text.iter().filter(|byte| **byte == b'\n').count() as u64;
        let column = match text.iter().rev().position(|byte| *byte == b'\n') {
            Some(behind) => behind as u64 + 1,
            None => part.column + text.len() as u64,
        };
        format!("line {}, column {column}", line + lines)
    }
}

fn check_json(text: &[u8], place: Part, name: &str) -> Result<Checked> {
    let mut request = Vec::with_capacity(text.len() / 2);
    let found =
        otlp::read_json(text, &mut request).map_err(|error| bad_json(&error, place, name))?;
    if request.is_empty() && found.ignored_keys > 0 {
        let what = no_spans_in(text);
        let position = place.position;
        return Err(Error::refused(format!("{name}, {position}: {what}")));
    }
    Batch::from_request(request)
}

fn bad_json(error: &WireError, place: Part, name: &str) -> Error {
    let lines = error.line().unwrap_or(1) as u64 - 1;
    let line = place.position.line.unwrap_or(1) + lines;
    let before = match lines {
        0 => place.column - 1,
        _ => 0,
    };
    let column = before + error.column().unwrap_or(1) as u64;
    let what = without_place(error);
    Error::refused(format!(
        "{name}, line {line}, column {column}: not valid OTLP JSON: {what}"
    ))
}

fn check_protobuf(request: Vec<u8>, position: Position, name: &str) -> Result<Checked> {
    Batch::from_request(request).map_err(|error| {
        let cause = std::error::Error::source(&error);
        match cause.and_then(|cause| cause.downcast_ref::<WireError>()) {
            None => error,
            Some(wire) => {
                let place = Position::at_byte(position.byte + wire.offset() as u64);
                let what = without_place(wire);
                Error::refused(format!("{name}, {place}: not a valid OTLP request: {what}"))
            }
        }
    })
}

/// The error's text without its place, which counts from the start of the record.
fn without_place(error: &WireError) -> String {
    let text = error.to_string();
    let place = match error.line().zip(error.column()) {
        Some((line, column)) => format!(" at line {line}, column {column}"),
        None => format!(" at byte {}", error.offset()),
    };
    text.strip_suffix(&place).map(str::to_owned).unwrap_or(text)
}

fn has_key(text: &[u8], key: &str) -> bool {
    let quoted = format!("\"{key}\"");
    text.windows(quoted.len())
        .any(|window| window == quoted.as_bytes())
}

fn no_spans_in(text: &[u8]) -> String {
    for (key, signal) in [
        ("resourceMetrics", "metrics"),
        ("resourceLogs", "logs"),
        (
            "resource_spans",
            "snake_case keys, which OTLP JSON does not have",
        ),
    ] {
        if has_key(text, key) {
            return format!("no \"resourceSpans\" in it; it holds {signal}");
        }
    }
    "no \"resourceSpans\" in it; it is JSON, but no OTLP trace request".to_owned()
}
