//! Spans shown one by one, as they come.

use std::io;
use std::time::Instant;

use outspan_wire::otlp::SpanView;

use super::compact;
use super::json;
use super::output::Output;
use super::pretty;
use super::text::push_plain;
use crate::Batch;
use crate::Delivery;
use crate::Drained;
use crate::Result;
use crate::exporters::blocking::BlockingExport;
use crate::exporters::blocking::Note;
use crate::exporters::worker::Stop;
use crate::exporters::written::delivered_up_to;
use crate::exporters::written::write_error;

/// How much text is put together before it is written.
const PAGE_BYTES: usize = 64 * 1024;

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
#[derive(Default)]
struct Page {
    text: String,
    ends: Vec<usize>,
}

/// What was written of a batch so far.
#[derive(Default)]
struct Progress {
    spans: usize,
    bytes: u64,
}

impl Lines {
    pub(super) fn new(output: Output, format: Format, with_times: bool) -> Self {
        Self {
            output,
            format,
            with_times,
        }
    }

    fn push_span(&self, out: &mut String, span: &SpanView<'_>) {
        match self.format {
            Format::Pretty => pretty::push_span(out, span, self.with_times),
            Format::Compact => compact::push_span(out, span, self.with_times),
            // The batch is one record there; it never comes here.
            Format::Json | Format::OtlpJson => json::push_span(out, span, self.with_times),
        }
    }

    fn write_spans(
        &mut self,
        batch: &Batch,
        stop: &Stop,
        progress: &mut Progress,
    ) -> io::Result<()> {
        let mut page = Page::default();
        for span in batch.iter() {
            self.push_span(&mut page.text, &span);
            page.ends.push(page.text.len());
            if page.text.len() < PAGE_BYTES {
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
        let wrote = self.output.write(page.text.as_bytes());
        progress.bytes += wrote.bytes as u64;
        progress.spans += page
            .ends
            .iter()
            .take_while(|end| **end <= wrote.bytes)
            .count();
        page.text.clear();
        page.ends.clear();
        wrote.result
    }

    fn write_otlp(&mut self, batch: &Batch, progress: &mut Progress) -> io::Result<()> {
        let json = batch.to_json();
        let mut line = String::with_capacity(json.len() + 1);
        // What a terminal acts on stands inside strings only, so its escape is JSON.
        push_plain(&mut line, &String::from_utf8_lossy(&json));
        line.push('\n');
        let wrote = self.output.write(line.as_bytes());
        progress.bytes = wrote.bytes as u64;
        if wrote.bytes == line.len() {
            progress.spans = batch.spans();
        }
        wrote.result
    }
}

impl BlockingExport for Lines {
    fn export(&mut self, batch: Batch, stop: &Stop) -> Result<Delivery> {
        let mut progress = Progress::default();
        let written = match self.format {
            Format::OtlpJson => self.write_otlp(&batch, &mut progress),
            _ => self.write_spans(&batch, stop, &mut progress),
        };
        if let Err(e) = written {
            let error = write_error(self.output.name(), e).with_wire_bytes(progress.bytes);
            return delivered_up_to(&batch, progress.spans, error);
        }
        if let Err(e) = self.output.flush() {
            // A writer that buffers has told nobody how far it came.
            return Err(write_error(self.output.name(), e).with_wire_bytes(progress.bytes));
        }
        let mut delivery = Delivery::of(&batch);
        delivery.wire_bytes = progress.bytes;
        Ok(delivery)
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
