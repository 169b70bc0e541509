//! The queue in front of one exporter: pushes, flushes, shutdowns.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::driver::Driver;
use super::driver::Shared;
use super::schedule::Schedule;
use super::settings::Settings;
use super::tracked::Books;
use super::tracked::Tracked;
use crate::Cause;
use crate::Deadline;
use crate::Drained;
use crate::DropReason;
use crate::Error;
use crate::ErrorKind;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::diagnostics::Diagnostics;
use crate::guard::GRACE;
use crate::guard::run_drain;
use crate::work::spawn_on;

/// Holds batches in front of one exporter.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(super) shared: Arc<Shared>,
    driver: AbortHandle,
}

/// What a flush or a shutdown left undone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flushed {
    /// Spans of before the call that are still held.
    pub(crate) left: u64,
    /// Spans among those that are still held which were acknowledged to the queue: they are held inside.
    pub(crate) left_inside: u64,
    /// What kept it from being done.
    pub(crate) error: Option<Error>,
    /// What the exporter inside says of what it lost or holds.
    pub(crate) causes_inside: Vec<Cause>,
    /// Whether the time was up.
    pub(crate) out_of_time: bool,
}

impl Queue {
    /// Starts the queue on `runtime`.
    pub(crate) fn start(
        exporter: Exporter,
        settings: Settings,
        books: Arc<Books>,
        diagnostics: Arc<Diagnostics>,
        runtime: &Handle,
    ) -> Self {
        let shared = Arc::new(Shared {
            exporter,
            schedule: Mutex::new(Schedule::new(
                settings.concurrent_exports,
                settings.export_limit,
                settings.gives_up_early,
                &settings.retry,
            )),
            settings,
            books,
            diagnostics,
            wake: Notify::new(),
            progress: watch::Sender::new(()),
            closing: watch::Sender::new(None),
            ended: watch::Sender::new(false),
        });
        shared.books.tell_progress(shared.progress.clone());
        let driver = Driver::new(Arc::clone(&shared));
        let driver = spawn_on(runtime, driver.run()).abort_handle();
        Self { shared, driver }
    }

    /// Adds a batch.
    pub(crate) fn push(&self, tracked: Tracked) {
        let pushed = self.shared.lock().push(tracked);
        match pushed {
            Ok(()) => self.shared.wake.notify_one(),
            Err(tracked) => {
                tracked.drop_spans(DropReason::Shutdown, None);
                self.shared.progress.send_replace(());
            }
        }
    }

    /// Delivers what is held now, then has the exporter flush.
    ///
    /// While it waits, a destination that is down is tried again sooner than usual. Waits that it asked for are kept; when
    /// one ends only after `until`, the flush ends early, and that wait is the error.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends the hurry; the batches stay.
    pub(crate) async fn flush(&self, until: Deadline) -> Flushed {
        let mut flushed = self.settle_all(until).await;
        let inside = self.shared.exporter.flush(until);
        let inside = run_drain(until, GRACE / 2, "flush", inside).await;
        self.note_inside(&mut flushed, inside);
        flushed
    }

    /// Takes no more batches, delivers what is held, counts what is left then as lost, and shuts the exporter down.
    ///
    /// A destination that asked for a wait gets one batch before its end; if it takes that, the rest follows. It may be
    /// called again after its future was dropped; two calls at once are the caller's business.
    pub(crate) async fn shutdown(&self, until: Deadline) -> Flushed {
        self.shared.lock().close(until);
        self.shared.closing.send_replace(Some(until));
        let mut flushed = self.settle_all(until).await;
        if flushed.out_of_time {
            // Exports end by the same deadline, and what they say of the destination is the reason of the loss.
            let landed = self.shared.landed();
            Deadline::after(GRACE / 2).run(landed).await;
            flushed.error = self.shared.lock().last_error();
        }
        self.driver.abort();
        self.ended().await;
        flushed.left = 0;
        let inside = self.shared.exporter.shutdown(until);
        let inside = run_drain(until, GRACE / 2, "shutdown", inside).await;
        // Whatever the exporter still holds will not be written in time, and nobody will ask again.
        self.shared.books.abandon_pending();
        self.note_inside(&mut flushed, inside);
        self.shared.books.log_untold(flushed.error.as_ref());
        flushed
    }

    /// Stops at once and counts what is held as lost.
    pub(crate) async fn abort(&self) {
        self.driver.abort();
        self.ended().await;
    }

    /// Takes note of what combinators and the exporter inside made of the spans that they had acknowledged.
    ///
    /// Those were counted as delivered; here it turns out what became of them.
    fn note_inside(&self, flushed: &mut Flushed, inside: Result<Drained>) {
        match inside {
            Ok(mut drained) => {
                flushed.left += drained.left;
                // Pending spans are not counted as delivered in the first place.
                flushed.left_inside = drained.left.saturating_sub(self.shared.books.pending());
                flushed.causes_inside = drained.take_causes();
                let inside = flushed.causes_inside.first().map(Cause::error);
                let error = inside.or(flushed.error.as_ref());
                self.shared.books.take_back(&drained, error);
            }
            Err(error) => {
                flushed.out_of_time |= error.kind() == ErrorKind::Timeout;
                flushed.error.get_or_insert(error);
            }
        }
    }

    async fn settle_all(&self, until: Deadline) -> Flushed {
        let hurry = Hurry::begin(&self.shared, until);
        self.shared.wake.notify_one();
        let in_time = until.run(hurry.settled()).await.is_some();
        let schedule = self.shared.lock();
        let left = schedule.pending(hurry.number);
        let error = schedule.last_error().filter(|_| left > 0);
        Flushed {
            left,
            error,
            out_of_time: !in_time,
            ..Flushed::default()
        }
    }

    /// The causes of what a flush or a shutdown did not deliver.
    pub(crate) fn causes(&self, drained: &Drained, flushed: &Flushed) -> Vec<Cause> {
        let diagnostics = &self.shared.diagnostics;
        let mut causes = diagnostics.causes(&drained.lost, drained.refused);
        for cause in &flushed.causes_inside {
            causes.push(diagnostics.named_cause(cause.clone()));
        }
        if drained.left > flushed.left_inside
            && let Some(error) = &flushed.error
        {
            causes.push(diagnostics.named_cause(Cause::new(error.clone())));
        }
        causes
    }

    /// The cause of what is held now: the destination's trouble, if it has any.
    #[cfg(feature = "sdk")]
    pub(crate) fn causes_now(&self) -> Option<Cause> {
        let error = self.shared.lock().last_error()?;
        Some(self.shared.diagnostics.named_cause(Cause::new(error)))
    }

    /// How long it is until the next attempt, while the destination is down and none is under way.
    pub(crate) fn next_attempt_in(&self) -> Option<Duration> {
        let next = self.shared.lock().next_attempt()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    async fn ended(&self) {
        let mut ended = self.shared.ended.subscribe();
        // It fails only when the sender is gone, and this queue holds that.
        drop(ended.wait_for(|ended| *ended).await);
    }
}

impl Drop for Queue {
    /// Stops at once; what is held counts as lost at shutdown.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A flush in progress.
#[derive(Debug)]
struct Hurry<'a> {
    shared: &'a Shared,
    number: u64,
    until: Deadline,
}

impl<'a> Hurry<'a> {
    fn begin(shared: &'a Shared, until: Deadline) -> Self {
        let number = shared.lock().begin_flush(until, Instant::now());
        Self {
            shared,
            number,
            until,
        }
    }

    /// Waits until every batch of before has come to its end, or waiting any longer is futile.
    async fn settled(&self) {
        let mut progress = self.shared.progress.subscribe();
        loop {
            progress.mark_unchanged();
            let is_done = {
                let schedule = self.shared.lock();
                schedule.pending(self.number) == 0 || schedule.is_futile(self.until)
            };
            if is_done || progress.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.shared.lock().end_flush(self.number);
    }
}

impl Shared {
    /// Drops the batches whose time ran out while they waited.
    pub(super) fn expire(&self, now: Instant) {
        let dropped = {
            // Both under one lock, as in `evict`.
            let mut schedule = self.lock();
            let error = schedule.last_error();
            let expired = schedule.take_expired(now).into_iter();
            let tokens = expired.map(|item| item.tracked);
            Tracked::drop_all(tokens, &self.books, DropReason::Expired, error.as_ref())
        };
        dropped.report();
        self.progress.send_replace(());
    }

    /// Drops the batch that waits longest; false if none waits.
    pub(super) fn evict(&self) -> bool {
        let dropped = {
            // Both under one lock: a flush finds the batch either in the schedule or in the account as dropped.
            let mut schedule = self.lock();
            let Some(item) = schedule.take_oldest() else {
                return false;
            };
            Tracked::drop_all([item.tracked], &self.books, DropReason::QueueFull, None)
        };
        dropped.report();
        self.progress.send_replace(());
        true
    }
}
