//! Spans on standard output, or in any writer, for people and for small programs.
//!
//! Four formats show each span as it comes, and [`trees`] puts the spans of a trace together:
//!
//! - [`trees`]: one tree a trace, with durations and bars, to read;
//! - [`pretty`]: a span on many lines, with everything it holds, to read;
//! - [`compact`]: a span on one line, to read and to search;
//! - [`json_lines`]: a span as one JSON object on one line, for `jq` and small scripts;
//! - [`otlp_json_lines`]: a batch as one OTLP JSON object on one line, which every OTLP tool reads back.
//!
//! The formats for reading are made for people and are not stable: they change whenever that helps a reader, and no
//! program should take them apart. They are not meant for production either, where spans belong in a backend.
//!
//! Whatever a span holds, nothing in it acts on a terminal: control characters, escape sequences and marks that reorder
//! text are written as JSON escapes (`\u001b`).
//!
//! Writing happens on a thread of its own, because a full pipe blocks; the caller's deadline holds all the same. The
//! exporter holds one batch at a time; exports that come meanwhile wait their turn.
//!
//! # Examples
//!
//! ```
//! use outspan::Export;
//! use outspan::stdout;
//!
//! let exporter = stdout::pretty().writer(Vec::new()).build()?;
//! # drop(exporter);
//! # Ok::<(), outspan::Error>(())
//! ```

mod compact;
mod json;
mod lines;
mod output;
mod pretty;
mod text;
mod trees;

use std::io::Write;

use self::lines::Format;
use self::lines::Lines;
use self::output::Output;
use super::blocking;
use crate::Error;
use crate::Exporter;
use crate::Result;

pub(super) use self::text::push_short_time;
pub use self::trees::TreesBuilder;

/// Shows each span on many lines, everything it holds, and an empty line after it.
///
/// Made for people; the format is not stable.
pub fn pretty() -> Builder {
    Builder::new(Format::Pretty)
}

/// Shows each span on one line: start, service, name, duration, kind, status, ids, attributes, and how many events and
/// links there are.
///
/// Made for people; the format is not stable.
pub fn compact() -> Builder {
    Builder::new(Format::Compact)
}

/// Writes each span as one JSON object on one line.
///
/// Every object has the same keys, in this order: `name`, `trace_id`, `span_id`, `parent_span_id` (`null` for a root),
/// `trace_state`, `flags` (all 32 bits), `kind` (`unspecified`, `internal`, `server`, `client`, `producer`,
/// `consumer`, or a number), `start` and `end` (RFC 3339 in UTC with nanoseconds; `null` if not set), `duration_ns`,
/// `status` (`code`: `unset`, `ok`, `error`; `message`), `attributes` (an object), `events` (`name`, `time`,
/// `attributes`, `dropped_attributes`), `links` (`trace_id`, `span_id`, `trace_state`, `flags`, `attributes`,
/// `dropped_attributes`), `dropped_attributes`, `dropped_events`, `dropped_links`, `scope` (`name`, `version`,
/// `schema_url`, `attributes`, `dropped_attributes`) and `resource` (`schema_url`, `attributes`,
/// `dropped_attributes`). [`without_timestamps`](Builder::without_timestamps) leaves out `start`, `end`,
/// `duration_ns` and `time`.
///
/// Attribute values are JSON: integers as numbers (some readers round those above 2^53), bytes as base64, numbers that
/// JSON does not have as `"NaN"`, `"Infinity"`, `"-Infinity"`, empty values as `null`. Names and meanings stay; new keys
/// may be added. The format is ours alone: to pass spans on, use [`otlp_json_lines`].
pub fn json_lines() -> Builder {
    Builder::new(Format::Json)
}

/// Writes each batch as one line of OTLP JSON (`{"resourceSpans":[...]}`), the format of OTLP files.
///
/// Any tool that reads OTLP files reads it, such as [`SpanFile`](crate::file::SpanFile) and the OpenTelemetry Collector.
pub fn otlp_json_lines() -> Builder {
    Builder::new(Format::OtlpJson)
}

/// Shows each trace as a tree: services, names, durations, bars, errors and events.
///
/// See [`TreesBuilder`] for when a trace is shown, and what bounds the traces that wait. Made for people; the format is
/// not stable.
pub fn trees() -> TreesBuilder {
    TreesBuilder::new()
}

/// Configures an exporter that shows spans as they come.
#[derive(Debug)]
pub struct Builder {
    format: Format,
    output: Output,
    with_times: bool,
}

impl Builder {
    fn new(format: Format) -> Self {
        Self {
            format,
            output: Output::stdout(),
            with_times: true,
        }
    }

    /// Sets where to write. The default is standard output.
    ///
    /// The writer is flushed after each batch: what an export delivered has reached it.
    #[must_use]
    pub fn writer(mut self, writer: impl Write + Send + 'static) -> Self {
        self.output = Output::writer(writer);
        self
    }

    /// Leaves out everything that is different at each run: times and durations.
    #[must_use]
    pub fn without_timestamps(mut self) -> Self {
        self.with_times = false;
        self
    }

    /// Makes the exporter.
    ///
    /// Its exports fail with [`Unavailable`](crate::ErrorKind::Unavailable) when writing fails: temporary for a full
    /// disk, permanent when whoever read a pipe has gone. The delivery tells how many spans were written whole before.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for OTLP JSON without timestamps, which would be another format.
    pub fn build(self) -> Result<Exporter> {
        if self.format == Format::OtlpJson && !self.with_times {
            return Err(Error::config(
                "OTLP JSON lines cannot leave out timestamps: use json_lines, or keep them",
            ));
        }
        let label = format!("Stdout({:?}, {:?})", self.format, self.output);
        blocking::exporter(label, Lines::new(self.output, self.format, self.with_times))
    }
}
