//! Traces as trees.

mod draw;
mod forest;
mod grow;
mod node;
mod width;

use std::io;
use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use self::draw::Drawing;
use self::forest::Forest;
use self::forest::Limits;
use self::forest::TraceId;
use self::node::Node;
use super::output::Output;
use crate::Batch;
use crate::Delivery;
use crate::Drained;
use crate::DropReason;
use crate::Error;
use crate::Exporter;
use crate::Result;
use crate::exporters::blocking;
use crate::exporters::blocking::BlockingExport;
use crate::exporters::blocking::Note;
use crate::exporters::worker::Stop;
use crate::exporters::written::delivered_up_to;
use crate::exporters::written::write_error;
use crate::pending::Acks;

/// Configures an exporter that shows each trace as a tree.
///
/// The spans of a trace come one by one and in any order, so the exporter holds them until the tree is whole: a root has
/// come, every parent that a span names has come, and for a [`quiet`](Self::quiet) moment nothing more did. A trace that
/// stays without its root (the caller was another program) or a parent is shown when nothing came for the time of
/// [`patience`](Self::patience), marked `incomplete`, with a line in the place of each missing parent. Spans that come
/// after their trace was shown are shown as its continuation. [`flush`](crate::Export::flush) and
/// [`shutdown`](crate::Export::shutdown) show everything.
///
/// What waits is bounded in traces, spans and bytes. Over a bound the trace that began to arrive first is shown as it is,
/// so nothing is dropped. `Delivery` counts a span as accepted when it is held: flush before the program ends. A write
/// error keeps the spans for the next attempt, and exports fail with it until writing works again. A flush that meets one
/// counts the spans as `left` if it is temporary, and as `lost` if it is not; where whoever read a pipe has gone, the flush
/// fails with that. A shutdown counts what it cannot write as `lost`.
///
/// Long texts are cut for display, and levels beyond 24 are drawn at level 24: use another format to see everything.
#[derive(Debug)]
pub struct TreesBuilder {
    output: Output,
    with_times: bool,
    with_attributes: bool,
    colors: Option<bool>,
    width: usize,
    limits: Limits,
}

impl TreesBuilder {
    pub(super) fn new() -> Self {
        Self {
            output: Output::stdout(),
            with_times: true,
            with_attributes: false,
            colors: None,
            width: 100,
            limits: Limits::default(),
        }
    }

    /// Sets where to write. The default is standard output.
    #[must_use]
    pub fn writer(mut self, writer: impl Write + Send + 'static) -> Self {
        self.output = Output::writer(writer);
        self
    }

    /// Leaves out everything that is different at each run: times, durations and bars.
    #[must_use]
    pub fn without_timestamps(mut self) -> Self {
        self.with_times = false;
        self
    }

    /// Sets whether to show attributes of spans and events. The default is not to.
    #[must_use]
    pub fn attributes(mut self, shown: bool) -> Self {
        self.with_attributes = shown;
        self
    }

    /// Sets whether to colour. The default is to do so on a terminal alone, and only while `NO_COLOR` is not set.
    #[must_use]
    pub fn colors(mut self, colors: bool) -> Self {
        self.colors = Some(colors);
        self
    }

    /// Sets how many columns a line should have. The default is 100; below 60 counts as 60.
    #[must_use]
    pub fn width(mut self, columns: usize) -> Self {
        self.width = columns.max(60);
        self
    }

    /// Sets how long a whole tree waits for more. The default is 1 s: spans of several services come in batches of
    /// their own.
    #[must_use]
    pub fn quiet(mut self, time: Duration) -> Self {
        self.limits.quiet = time;
        self
    }

    /// Sets how long a tree waits for its root or another missing parent. The default is 10 s, twice the interval at
    /// which SDKs export.
    #[must_use]
    pub fn patience(mut self, time: Duration) -> Self {
        self.limits.patience = time;
        self
    }

    /// Sets how long a span waits at most until it is shown, also while more spans of its trace come. Default: no bound.
    ///
    /// A trace that is shown before it is whole is marked `incomplete`, and what comes later is its continuation.
    #[must_use]
    pub fn max_wait(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.limits.max_wait = time.into();
        self
    }

    /// Sets how many traces may wait. The default is 10,000.
    #[must_use]
    pub fn traces_max(mut self, traces: usize) -> Self {
        self.limits.traces_max = traces.max(1);
        self
    }

    /// Sets how many spans may wait. The default is 100,000.
    #[must_use]
    pub fn spans_max(mut self, spans: usize) -> Self {
        self.limits.spans_max = spans.max(1);
        self
    }

    /// Sets how many bytes the waiting spans may take. The default is 64 MiB.
    #[must_use]
    pub fn bytes_max(mut self, bytes: usize) -> Self {
        self.limits.bytes_max = bytes;
        self
    }

    /// Makes the exporter.
    ///
    /// Its errors are those of [`Builder::build`](super::Builder::build).
    ///
    /// # Errors
    ///
    /// [`Internal`](crate::ErrorKind::Internal) if its thread cannot start.
    pub fn build(self) -> Result<Exporter> {
        let is_terminal = self.output.is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let drawing = Drawing {
            with_times: self.with_times,
            with_colors: self.colors.unwrap_or(is_terminal && !no_color),
            width: self.width,
        };
        let label = format!("Stdout(Trees, {:?})", self.output);
        let trees = Trees {
            output: self.output,
            drawing,
            with_attributes: self.with_attributes,
            forest: Forest::new(self.limits),
            is_in_trouble: false,
            last_error: None,
        };
        blocking::exporter(label, trees)
    }
}

/// Holds traces and shows them.
#[derive(Debug)]
struct Trees {
    output: Output,
    drawing: Drawing,
    with_attributes: bool,
    forest: Forest,
    /// Whether the last attempt to show something failed.
    is_in_trouble: bool,
    /// Why it failed.
    last_error: Option<Error>,
}

impl Trees {
    /// Shows the traces that `next` names, one by one, and lets go of each once it is shown.
    fn show(&mut self, mut next: impl FnMut(&Forest) -> Option<TraceId>) -> Result<()> {
        self.is_in_trouble = true;
        while let Some(id) = next(&self.forest) {
            let Some(trace) = self.forest.trace(id) else {
                continue;
            };
            let text = self.drawing.draw(trace, self.forest.was_shown(id));
            let wrote = self.output.write(text.as_bytes());
            // Flushed one by one, because what a buffer still has has not been shown.
            if let Err(e) = wrote.result.and_then(|()| self.output.flush()) {
                let error = write_error(self.output.name(), e);
                self.last_error = Some(error.clone());
                return Err(error);
            }
            self.forest.note_shown(id);
        }
        self.is_in_trouble = false;
        self.last_error = None;
        Ok(())
    }

    fn show_due(&mut self, now: Instant) -> Result<()> {
        let mut due = self.forest.due(now);
        self.show(|_| due.pop_front())
    }

    fn show_all(&mut self) -> Result<()> {
        let mut all = self.forest.all();
        self.show(|_| all.pop_front())
    }

    /// Shows the oldest traces until one more span fits.
    fn make_room(&mut self, trace_id: TraceId, bytes: usize) -> Result<()> {
        self.show(|forest| forest.oldest_over_bound(trace_id, bytes))
    }
}

impl BlockingExport for Trees {
    fn export(&mut self, batch: Batch, _stop: &Stop) -> Result<Delivery> {
        let now = Instant::now();
        if self.is_in_trouble || self.wakes_at().is_some_and(|at| at <= now) {
            self.show_due(now)?;
        }
        let mut acks = Acks::default();
        for (accepted, span) in batch.iter().enumerate() {
            let node = Node::read(&span, self.with_attributes);
            if self
                .forest
                .oldest_over_bound(span.trace_id(), node.bytes())
                .is_some()
                && let Err(error) = self.make_room(span.trace_id(), node.bytes())
            {
                let mut delivery = delivered_up_to(&batch, accepted, error)?;
                delivery.pending.extend(acks.into_pending());
                return Ok(delivery);
            }
            self.forest.add(span.trace_id(), node, now);
            self.forest.keep_ack(span.trace_id(), acks.one());
        }
        let mut delivery = Delivery::of(&batch);
        delivery.pending.extend(acks.into_pending());
        Ok(delivery)
    }

    fn flush(&mut self) -> Result<Drained> {
        let before = self.held();
        let Err(error) = self.show_all() else {
            return Ok(delivered(before));
        };
        // Where the reader has gone there is nothing to try any more.
        if is_reader_gone(&error) {
            return Err(error);
        }
        let mut drained = delivered(before - self.held());
        if error.is_temporary() {
            drained.left = self.held();
        } else {
            drained.lost.add(DropReason::Failed, self.held());
            self.forest.clear(Some(&error));
        }
        Ok(drained)
    }

    fn shutdown(&mut self) -> Result<Drained> {
        let before = self.held();
        let flushed = self.flush();
        let held = self.held();
        if before == 0 || held == 0 {
            return flushed;
        }
        // Nobody comes back for what is left.
        let mut drained = delivered(before - held);
        drained.lost.add(DropReason::Failed, held);
        self.forest.clear(self.last_error.as_ref());
        Ok(drained)
    }

    fn held(&self) -> u64 {
        self.forest.spans() as u64
    }

    fn wakes_at(&self) -> Option<Instant> {
        self.forest.wakes_at()
    }

    fn wake(&mut self) {
        // An error keeps the spans where they are; the next export or flush meets it and reports it.
        drop(self.show_due(Instant::now()));
    }

    fn take_notes(&mut self) -> Vec<Note> {
        Vec::new()
    }
}

fn is_reader_gone(error: &Error) -> bool {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

fn delivered(spans: u64) -> Drained {
    Drained {
        delivered: spans,
        ..Drained::default()
    }
}
