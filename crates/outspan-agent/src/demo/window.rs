//! What people see of the traces: some of them, as trees, slowly enough to be read.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Export;
use outspan::Exporter;
use outspan::stdout;
use outspan::wire::otlp::retain_spans;

use crate::arguments::When;
use crate::destination::ReaderGone;
use crate::screen::Screen;
use crate::screen::wants_colours;
use crate::shop::Visit;

/// How many chosen traces are remembered: their spans come within seconds, and few are chosen in that time.
const CHOSEN_MAX: usize = 1024;

type TraceId = [u8; 16];

/// Decides which visits are shown: the first of each kind, then so many traces a second.
#[derive(Debug)]
pub(super) struct Chooser {
    /// `None` shows everything.
    per_second: Option<f64>,
    seen: HashSet<&'static str>,
    credit: f64,
    /// The time up to which there was credit.
    at: Duration,
}

impl Chooser {
    /// Shows so many traces a second, all of them if that is 0.
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second: (per_second > 0).then_some(f64::from(per_second)),
            seen: HashSet::new(),
            credit: 0.0,
            at: Duration::ZERO,
        }
    }

    /// Whether to show a visit that ends `now`, a time since the beginning.
    pub(super) fn chooses(&mut self, visit: &Visit, now: Duration) -> bool {
        let Some(per_second) = self.per_second else {
            return true;
        };
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.credit = (self.credit + passed * per_second).min(per_second);
        let is_first = self.seen.insert(visit.about);
        if !is_first && self.credit < 1.0 {
            return false;
        }
        if !is_first {
            self.credit -= visit.traces.len() as f64;
        }
        true
    }
}

/// What passes between those who choose, the exporter that shows, and those who want to know.
#[derive(Debug)]
pub(super) struct Shown {
    shows_all: bool,
    chosen: Mutex<Chosen>,
    spans: AtomicU64,
    traces: AtomicU64,
}

#[derive(Debug, Default)]
struct Chosen {
    ids: HashSet<TraceId>,
    in_order: VecDeque<TraceId>,
}

impl Shown {
    pub(super) fn new(shows_all: bool) -> Self {
        Self {
            shows_all,
            chosen: Mutex::default(),
            spans: AtomicU64::new(0),
            traces: AtomicU64::new(0),
        }
    }

    /// Has the spans of a trace shown when they come.
    pub(super) fn choose(&self, id: TraceId) {
        self.traces.fetch_add(1, Ordering::Relaxed);
        if self.shows_all {
            return;
        }
        let mut chosen = self.lock();
        chosen.ids.insert(id);
        chosen.in_order.push_back(id);
        if chosen.in_order.len() > CHOSEN_MAX
            && let Some(oldest) = chosen.in_order.pop_front()
        {
            chosen.ids.remove(&oldest);
        }
    }

    /// Whether everything is shown.
    pub(super) fn is_all(&self) -> bool {
        self.shows_all
    }

    /// How many spans were handed to be shown.
    pub(super) fn spans(&self) -> u64 {
        self.spans.load(Ordering::Relaxed)
    }

    /// How many traces were chosen.
    pub(super) fn traces(&self) -> u64 {
        self.traces.load(Ordering::Relaxed)
    }

    /// The part of a batch that is to be shown.
    fn pick(&self, batch: &Batch) -> outspan::Result<Batch> {
        if self.shows_all {
            return Ok(batch.clone());
        }
        let picked = {
            let chosen = self.lock();
            retain_spans(batch.as_request(), |span| {
                chosen.ids.contains(&span.trace_id())
            })
        };
        let picked = picked.map_err(|e| {
            outspan::Error::refused("not a valid OTLP trace request").with_source(e)
        })?;
        Ok(Batch::from_request(picked.bytes)?.batch)
    }

    fn lock(&self) -> MutexGuard<'_, Chosen> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows the chosen traces of what it gets, and lets the rest go by. What it delivered it has taken, shown or not.
#[derive(Debug)]
struct Window {
    trees: Exporter,
    shown: Arc<Shown>,
}

impl Export for Window {
    async fn export(&self, batch: Batch, until: Deadline) -> outspan::Result<Delivery> {
        let picked = self.shown.pick(&batch)?;
        let mut delivery = Delivery::of(&batch);
        if picked.is_empty() {
            return Ok(delivery);
        }
        let shown = self.trees.export(picked, until).await?;
        let spans = &self.shown.spans;
        spans.fetch_add(shown.accepted, Ordering::Relaxed);
        for part in shown.rest {
            delivery.accepted -= delivery.accepted.min(part.batch.spans() as u64);
            delivery.leave(part.batch, part.error);
        }
        Ok(delivery)
    }

    async fn flush(&self, until: Deadline) -> outspan::Result<Drained> {
        self.trees.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> outspan::Result<Drained> {
        self.trees.shutdown(until).await
    }
}

/// Makes the exporter that shows trees on standard output, above the live line.
///
/// # Errors
///
/// Words for the user.
pub(super) fn exporter(
    screen: &Screen,
    colours: When,
    shown: Arc<Shown>,
    reader_gone: &ReaderGone,
) -> Result<Exporter, String> {
    let is_terminal = io::stdout().is_terminal();
    let mut trees = stdout::trees().colors(wants_colours(colours, is_terminal));
    if is_terminal {
        trees = trees.writer(AboveLine(screen.clone()));
        if let Some((terminal_size::Width(columns), _)) = terminal_size::terminal_size() {
            trees = trees.width(usize::from(columns));
        }
    }
    let trees = trees.build().map_err(|error| error.chain().to_string())?;
    Ok(Exporter::new(Window {
        trees: reader_gone.around(trees),
        shown,
    }))
}

/// Writes to standard output while the live line steps aside.
struct AboveLine(Screen);

impl Write for AboveLine {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.step_aside(|| {
            let mut out = io::stdout().lock();
            out.write_all(text)?;
            out.flush()
        })?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
