//! Spans in files: writing them, and reading them back.
//!
//! Two formats, each as it is or compressed:
//!
//! - [`json_lines`]: OTLP JSON, one batch a line: the OpenTelemetry Protocol's file format
//!   (specification, "OpenTelemetry Protocol File Exporter");
//! - [`protobuf`]: OTLP protobuf, each batch with its length in front: a fifth of the size, and what the OpenTelemetry
//!   Collector's `file` exporter writes with `format: proto`.
//!
//! [`SpanFile`] reads both, and some more.
//!
//! # What a file promises
//!
//! An export is done when the operating system has the record: it survives a crash of the program from then on. It
//! survives a crash of the machine after [`flush`](crate::Export::flush) or [`shutdown`](crate::Export::shutdown), which
//! wait for the disk (`fdatasync`). Each record is written whole or not at all: when the disk is full in the middle of
//! one, the file is cut back to where it began, and the error is temporary. With compression, each record is a gzip
//! member or Zstandard frame of its own, so a crash costs the last one at most; `gzip`, `zstd` and every other tool read
//! them one after the other.
//!
//! A file has one writer: it is locked while it is open, and a second exporter for it is refused. Shutdown closes it;
//! dropping the exporter does so a moment later, on the writing thread. Opening a file that is there continues it. A
//! record that an earlier crash left unfinished at its end is cut off first, with a warning in the log (of JSON lines it
//! is only ended, so that the next line is whole), because nothing behind it could be read; to find it, a compressed file
//! is read once from front to back.
//!
//! New files can be read and written by their owner alone, because spans tell much about users. To share one, create it
//! with other permissions first. The file must be on a file system; its directory must exist.
//!
//! # When the file is moved or removed
//!
//! Before each record the exporter looks whether its path still leads to the file that is open. If another program renamed
//! the file, as log rotation does, the exporter begins a new file at the path; what was written before stays in the renamed
//! file. If the file was removed, the exporter begins a new file and writes the last record once more, because it may have
//! been written after the removal; a warning in the log says how many spans went with the file. A removed file is noticed
//! at flush and shutdown as well. If no new file can be made, exports fail with a temporary error, and so do flush and
//! shutdown of a removed file.
//!
//! # Threads
//!
//! Writing happens on a thread of its own; the caller's deadline holds even when the file system hangs. Exports are
//! written one after the other.
//!
//! # Rotation
//!
//! [`rotate_bytes`](Builder::rotate_bytes) and [`rotate_after`](Builder::rotate_after) put the file aside and begin a new
//! one; only whole records stand in either. A file that is put aside gets the time (UTC) before its extension, as the
//! OpenTelemetry Collector's exporter and others name them: `traces.jsonl` becomes `traces-2026-11-22T20-15-30.123.jsonl`,
//! and `traces.jsonl.zst` becomes `traces-2026-11-22T20-15-30.123.jsonl.zst`. None is ever overwritten. At most
//! [`keep_files`](Builder::keep_files) of them are kept: the one of the earliest name is removed first. Files whose name has
//! another form are left alone.
//!
//! What was written is brought to the disk before the file gets its other name, so a crash at any point leaves whole
//! files, and at most none by the exporter's own name. A file that is continued is as old as the file system says; where
//! that does not know, it begins anew. An old file is put aside without waiting for another export.
//!
//! # Examples
//!
//! ```no_run
//! use outspan::Compression;
//! use outspan::Exporter;
//! use outspan::file;
//!
//! let exporter: Exporter = file::json_lines("traces.jsonl.zst")
//!     .compression(Compression::Zstd)
//!     .build()?;
//! # Ok::<(), outspan::Error>(())
//! ```
//!
//! The last week, a file a day:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use outspan::file;
//!
//! let exporter = file::protobuf("/var/log/shop/traces.pb")
//!     .rotate_after(Duration::from_secs(24 * 60 * 60))
//!     .keep_files(7)
//!     .build()?;
//! # Ok::<(), outspan::Error>(())
//! ```

mod appender;
mod config;
mod encode;
mod open;
mod recover;
mod rotate;

use std::path::PathBuf;
use std::time::Instant;

use self::encode::Encoder;
use self::rotate::Files;
use super::blocking::BlockingExport;
use super::blocking::Note;
use super::worker::Stop;
use crate::Batch;
use crate::Cause;
use crate::Delivery;
use crate::Drained;
use crate::DropReason;
use crate::Error;
use crate::Result;
use crate::failures::Failures;

pub use self::config::Builder;
pub use crate::span_file::Format;
pub use crate::span_file::Position;
pub use crate::span_file::ReadOptions;
pub use crate::span_file::Record;
pub use crate::span_file::SpanFile;

/// Writes batches to a file as lines of OTLP JSON. The usual extension is `.jsonl`.
pub fn json_lines(path: impl Into<PathBuf>) -> Builder {
    Builder::new(path.into(), Format::Json)
}

/// Writes batches to a file as OTLP protobuf, each with its length in front: four bytes, big-endian.
pub fn protobuf(path: impl Into<PathBuf>) -> Builder {
    Builder::new(path.into(), Format::ProtobufRecords)
}

/// Writes batches to a file.
struct FileExport {
    encoder: Encoder,
    /// Absent after shutdown.
    files: Option<Files>,
    with_sync: bool,
    /// Notes of the time before the file was closed.
    last_notes: Vec<Note>,
}

impl BlockingExport for FileExport {
    fn export(&mut self, batch: Batch, stop: &Stop) -> Result<Delivery> {
        let Some(files) = &mut self.files else {
            return Err(Error::shut_down());
        };
        let mut total = Delivery::default();
        let mut failures = Failures::default();
        let mut start = 0;
        for part in self.encoder.split(&batch) {
            let part = part.batch;
            let written = match stop.is_set() {
                true => Err(Error::internal("nobody waits for this export any more")),
                false => self
                    .encoder
                    .encode(&part)
                    .and_then(|record| files.append(&record, part.spans())),
            };
            match written {
                Ok(bytes) => {
                    let mut delivery = Delivery::of(&part);
                    delivery.attempt.wire_bytes = bytes;
                    total.absorb(delivery);
                }
                Err(error) if error.is_too_large() => {
                    failures.add(start..start + part.spans(), error);
                }
                Err(error) => {
                    // What keeps this part back would keep the others back as well.
                    total.leave(batch.cut(start..batch.spans()), error);
                    break;
                }
            }
            start += part.spans();
        }
        failures.leave(&batch, &mut total);
        total.into_result()
    }

    fn flush(&mut self) -> Result<Drained> {
        let Some(files) = &mut self.files else {
            return Ok(Drained::default());
        };
        files.follow_if_removed()?;
        if self.with_sync {
            files.sync()?;
        }
        Ok(Drained::default())
    }

    fn shutdown(&mut self) -> Result<Drained> {
        let synced = self.flush();
        let lost = match (&synced, &mut self.files) {
            // There is no later attempt.
            (Err(_), Some(files)) => files.give_up_removed(),
            _ => 0,
        };
        // The notes of the last check are still to be taken.
        self.last_notes = self.take_notes();
        self.files = None;
        match synced {
            Err(error) if lost > 0 => {
                let mut drained = Drained::default();
                drained.lost.add(DropReason::Failed, lost);
                drained.add_cause(Cause::new(error));
                Ok(drained)
            }
            synced => synced,
        }
    }

    fn held(&self) -> u64 {
        0
    }

    fn wakes_at(&self) -> Option<Instant> {
        self.files.as_ref()?.wakes_at()
    }

    fn wake(&mut self) {
        if let Some(files) = &mut self.files {
            files.wake();
        }
    }

    fn take_notes(&mut self) -> Vec<Note> {
        let mut notes = std::mem::take(&mut self.last_notes);
        if let Some(files) = &mut self.files {
            notes.extend(files.take_notes());
        }
        notes
    }
}
