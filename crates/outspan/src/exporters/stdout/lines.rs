//! Spans shown one by one, as they come.

use std::io;
use std::time::Instant;

use outspan_wire::otlp::SpanView;

use super::compact;
use super::json;
use super::output::Output;
use super::pretty;
use super::text::LimitedText;
use super::text::TextBuffer;
use super::text::push_plain;
use crate::Attempt;
use crate::Batch;
use crate::Delivery;
use crate::Drained;
use crate::Error;
use crate::Result;
use crate::exporters::blocking::BlockingExport;
use crate::exporters::blocking::Note;
use crate::exporters::worker::Stop;
use crate::exporters::written::write_error;
use crate::failures::Failures;

/// How much text is put together before it is written.
const PAGE_BYTES: usize = 64 * 1024;

/// How many bytes the text of one span may have, or a line of a batch: more than twice what gRPC servers take.
const SPAN_BYTES_MAX: usize = 10 << 20;

/// Names a format that shows spans one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Pretty,
    Compact,
    Json,
    OtlpJson,
}

/// Writes spans as they come.
#[derive(Debug)]
pub(super) struct Lines {
    output: Output,
    format: Format,
    with_times: bool,
}

/// Text of whole spans, and where each of them ends.
struct Page {
    text: LimitedText,
    ends: Vec<usize>,
}

/// What was written of a batch so far.
#[derive(Default)]
struct Progress {
    /// How many spans are done, written or not.
    next: usize,
    written: u64,
    bytes: u64,
    too_large: Failures,
}

impl Progress {
    /// Notes spans that are too large to be written.
    fn skip(&mut self, spans: usize, error: Error) {
        let place = self.next..self.next + spans;
        self.too_large.add(place, error);
        self.next += spans;
    }

    /// Turns it into a delivery. What is not done is left with `error`.
    fn finish(self, batch: &Batch, error: Option<Error>) -> Result<Delivery> {
        let mut delivery = Delivery {
            accepted: self.written,
            attempt: Attempt::one().with_wire_bytes(self.bytes),
            ..Delivery::default()
        };
        self.too_large.leave(batch, &mut delivery);
        if let Some(error) = error
            && self.next < batch.spans()
        {
            // What its error knows of bytes and attempts is counted already.
            delivery.attempt = Attempt::default();
            let rest = self.next..batch.spans();
            delivery.leave(batch.cut(rest), error);
        }
        delivery.into_result()
    }
}

impl Lines {
    pub(super) fn new(output: Output, format: Format, with_times: bool) -> Self {
        Self {
            output,
            format,
            with_times,
        }
    }

    fn push_span(&self, out: &mut impl TextBuffer, span: &SpanView<'_>) {
        match self.format {
            Format::Pretty => pretty::push_span(out, span, self.with_times),
            Format::Compact => compact::push_span(out, span, self.with_times),
            // The batch is one record there; it never comes here.
            Format::Json | Format::OtlpJson => json::push_span(out, span, self.with_times),
        }
    }

    fn write_error(&self, error: io::Error, written: u64) -> Error {
        let error = write_error(self.output.name(), error);
        error.map_attempt(|own| own.with_wire_bytes(written))
    }

    fn write_spans(
        &mut self,
        batch: &Batch,
        stop: &Stop,
        progress: &mut Progress,
    ) -> io::Result<()> {
        let mut page = Page {
            text: LimitedText::new(0),
            ends: Vec::new(),
        };
        for span in batch.iter() {
            let start = page.text.as_str().len();
            page.text.begin_part(SPAN_BYTES_MAX);
            self.push_span(&mut page.text, &span);
            if page.text.is_over() {
                page.text.rewind(start);
                self.write_page(&mut page, progress)?;
                progress.skip(1, too_large(&span));
                if stop.is_set() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                continue;
            }
            page.ends.push(page.text.as_str().len());
            if page.text.as_str().len() < PAGE_BYTES {
                continue;
            }
            self.write_page(&mut page, progress)?;
            if stop.is_set() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        self.write_page(&mut page, progress)
    }

    fn write_page(&mut self, page: &mut Page, progress: &mut Progress) -> io::Result<()> {
        let wrote = self.output.write(page.text.as_str().as_bytes());
        let ends = page.ends.iter();
        let whole = ends.take_while(|end| **end <= wrote.bytes).count();
        progress.bytes += wrote.bytes as u64;
        progress.written += whole as u64;
        progress.next += whole;
        page.text.rewind(0);
        page.ends.clear();
        wrote.result
    }

    /// Writes a batch as one line, unless that would be too large.
    fn write_otlp(&mut self, batch: &Batch, progress: &mut Progress) -> io::Result<()> {
        let Some(line) = otlp_line(batch) else {
            if let Some(span) = batch.iter().next() {
                let error = too_large(&span);
                let error = match batch.has_room_in_json(SPAN_BYTES_MAX) {
                    true => error,
                    false => error.for_each_span(),
                };
                progress.skip(batch.spans(), error);
            }
            return Ok(());
        };
        let wrote = self.output.write(line.as_bytes());
        progress.bytes += wrote.bytes as u64;
        if wrote.bytes == line.len() {
            progress.written += batch.spans() as u64;
            progress.next = batch.spans();
        }
        wrote.result
    }
}

/// Makes a line of OTLP JSON, unless it would be too large.
fn otlp_line(batch: &Batch) -> Option<String> {
    let json = batch.to_json_within(SPAN_BYTES_MAX)?;
    let mut line = LimitedText::new(SPAN_BYTES_MAX);
    // What a terminal acts on stands inside strings only, so its escape is JSON.
    push_plain(&mut line, &String::from_utf8_lossy(&json));
    line.push('\n');
    (!line.is_over()).then(|| line.into_string())
}

fn too_large(span: &SpanView<'_>) -> Error {
    /// How much of its name is shown.
    const CHARACTERS: usize = 100;

    let name: String = span.name().chars().take(CHARACTERS).collect();
    Error::too_large(format!(
        "span {name:?} has more than {SPAN_BYTES_MAX} bytes in this format, the limit"
    ))
}

impl BlockingExport for Lines {
    fn export(&mut self, batch: Batch, stop: &Stop) -> Result<Delivery> {
        let mut progress = Progress::default();
        let written = match self.format {
            Format::OtlpJson => self.write_otlp(&batch, &mut progress),
            _ => self.write_spans(&batch, stop, &mut progress),
        };
        if let Err(e) = written {
            let error = self.write_error(e, progress.bytes);
            return progress.finish(&batch, Some(error));
        }
        if let Err(e) = self.output.flush() {
            // A writer that buffers has told nobody how far it came.
            return Err(self.write_error(e, progress.bytes));
        }
        progress.finish(&batch, None)
    }

    fn flush(&mut self) -> Result<Drained> {
        match self.output.flush() {
            Ok(()) => Ok(Drained::default()),
            Err(e) => Err(write_error(self.output.name(), e)),
        }
    }

    fn shutdown(&mut self) -> Result<Drained> {
        self.flush()
    }

    fn held(&self) -> u64 {
        0
    }

    fn wakes_at(&self) -> Option<Instant> {
        None
    }

    fn wake(&mut self) {}

    fn take_notes(&mut self) -> Vec<Note> {
        Vec::new()
    }
}
