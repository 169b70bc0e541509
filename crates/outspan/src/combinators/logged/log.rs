//! Writing lines on the library's own thread.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Level;

use super::super::measured::outcome::Outcome;
use super::state::Begun;
use super::state::Line;
use super::state::State;
use super::state::ended_line;
use crate::runtime::Runtime;

/// How many lines about single exports may wait to be written.
const DETAILS_MAX: usize = 256;

/// What one logged exporter has to tell. It outlives the exporter until the last summary is written.
#[derive(Debug)]
pub(super) struct Log {
    name: Option<String>,
    interval: Duration,
    state: Mutex<State>,
    details: AtomicUsize,
    left_out: AtomicU64,
}

impl Log {
    pub(super) fn new(name: Option<String>, interval: Duration) -> Self {
        Self {
            name,
            interval,
            state: Mutex::default(),
            details: AtomicUsize::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    /// An export begins.
    pub(super) fn begins(self: &Arc<Self>, begun: Begun) {
        if tracing::enabled!(target: "outspan", Level::TRACE) {
            self.detail(|| Line::Trace(format!("{begun} begins")));
        }
    }

    /// An export has ended, however it did.
    pub(super) fn ended(self: &Arc<Self>, begun: Begun, outcome: &Outcome<'_>, began: Instant) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(began);
        if tracing::enabled!(target: "outspan", Level::DEBUG) {
            self.detail(|| Line::Detail(ended_line(begun, outcome, elapsed)));
        }
        let mut state = self.lock();
        let opens = !state.is_open();
        let lines = state.ended(begun, outcome, elapsed, self.interval, now);
        drop(state);
        self.write(lines);
        if opens {
            self.close_in_time();
        }
    }

    /// Writes the summary that is not due yet. It is written whether or not the future is waited for.
    pub(super) fn finish(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let summary = self.summary();
        let is_written = summary.and_then(|line| self.spawn(line));
        async move {
            if let Some(is_written) = is_written {
                drop(is_written.await);
            }
        }
    }

    /// Writes the summary when the interval is over, on the library's thread. There is at most one task for each interval in
    /// which anything ended.
    fn close_in_time(self: &Arc<Self>) {
        let log = Arc::clone(self);
        drop(Runtime::shared().detach(async move {
            tokio::time::sleep(log.interval).await;
            if let Some(line) = log.summary() {
                log.say(&line);
            }
        }));
    }

    fn summary(&self) -> Option<Line> {
        let mut state = self.lock();
        if !state.is_open() {
            return None;
        }
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        state.summary(Instant::now(), left_out)
    }

    /// Tells of a single export, unless too many of these wait.
    fn detail(self: &Arc<Self>, line: impl FnOnce() -> Line) {
        let has_room = self
            .details
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
                (waiting < DETAILS_MAX).then_some(waiting + 1)
            });
        if has_room.is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let line = line();
        let log = Arc::clone(self);
        drop(Runtime::shared().detach(async move {
            // First, so that a subscriber that panics takes no room for ever.
            log.details.fetch_sub(1, Ordering::Relaxed);
            log.say(&line);
        }));
    }

    fn write(self: &Arc<Self>, lines: impl IntoIterator<Item = Line>) {
        for line in lines {
            drop(self.spawn(line));
        }
    }

    /// Writes a line on the library's thread.
    fn spawn(self: &Arc<Self>, line: Line) -> Option<tokio::task::JoinHandle<()>> {
        let log = Arc::clone(self);
        let work = async move { log.say(&line) };
        Runtime::shared().detach(work).ok()
    }

    fn say(&self, line: &Line) {
        match &self.name {
            Some(name) => write(line, format_args!("{name}: {}", line.text())),
            None => write(line, format_args!("{}", line.text())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a line that belongs to no span.
fn write(line: &Line, text: std::fmt::Arguments<'_>) {
    match line {
        Line::Trouble(_) => tracing::warn!(target: "outspan", parent: None, "{text}"),
        Line::News(_) => tracing::info!(target: "outspan", parent: None, "{text}"),
        Line::Detail(_) => tracing::debug!(target: "outspan", parent: None, "{text}"),
        Line::Trace(_) => tracing::trace!(target: "outspan", parent: None, "{text}"),
    }
}
