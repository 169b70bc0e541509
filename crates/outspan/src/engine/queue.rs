//! The queue in front of one exporter: pushes, flushes, shutdowns.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Acks;
use super::Budget;
use super::Retry;
use super::driver::Driver;
use super::schedule::Schedule;
use crate::Batch;
use crate::Cause;
use crate::Deadline;
use crate::Drained;
use crate::DropReason;
use crate::Error;
use crate::ErrorKind;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::account::Ledger;
use crate::diagnostics::Diagnostics;
use crate::diagnostics::Held;
use crate::guard::GRACE;
use crate::guard::run_drain;

/// How a queue exports.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Exports in flight at once.
    pub(crate) concurrent_exports: usize,
    /// The limit of one call of the exporter.
    pub(crate) attempt_timeout: Option<Duration>,
    /// The limit of a batch's attempts and waits together.
    pub(crate) export_limit: Option<Duration>,
    /// The waits between attempts.
    pub(crate) retry: Retry,
    /// Who hears which spans went to the exporter, and which never did.
    pub(crate) observer: Option<Arc<dyn HandOver>>,
    /// Whether a shutdown gives up soon when connections are refused and nothing has ever answered.
    pub(crate) gives_up_early: bool,
    /// Whether an export of many requests stops after a while when other batches wait.
    // Exporters that make one request of a batch take no turns.
    #[cfg_attr(not(feature = "_network"), allow(dead_code))]
    pub(crate) takes_turns: bool,
}

/// Hears of each span once: when it is handed to the exporter for the first time, or dropped before.
///
/// It is called on the thread that exports or drops, and must not block.
pub(crate) trait HandOver: fmt::Debug + Send + Sync {
    fn handed_over(&self, spans: u64);

    /// Spans will never go to the exporter, for a reason in the words of `error.type`.
    fn dropped_before(&self, error_type: &'static str, spans: u64);
}

/// Holds batches in front of one exporter.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(super) shared: Arc<Shared>,
    driver: AbortHandle,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) exporter: Exporter,
    pub(super) settings: Settings,
    pub(super) ledger: Arc<Ledger>,
    pub(super) budget: Arc<Budget>,
    pub(super) diagnostics: Arc<Diagnostics>,
    pub(super) schedule: Mutex<Schedule>,
    /// Wakes the driver: something can be started.
    pub(super) wake: Notify,
    /// Tells those who wait for a flush that a batch came to its end.
    pub(super) progress: watch::Sender<()>,
    /// Tells combinators inside that a shutdown has begun, and when it ends.
    pub(super) closing: watch::Sender<Option<Deadline>>,
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
        ledger: Arc<Ledger>,
        budget: Arc<Budget>,
        diagnostics: Arc<Diagnostics>,
        runtime: &Handle,
    ) -> Self {
        let shared = Arc::new(Shared {
            exporter,
            schedule: Mutex::new(Schedule::new(
                settings.concurrent_exports,
                settings.gives_up_early,
            )),
            settings,
            ledger,
            budget,
            diagnostics,
            wake: Notify::new(),
            progress: watch::Sender::new(()),
            closing: watch::Sender::new(None),
        });
        let driver = Driver::new(Arc::clone(&shared));
        let driver = runtime.spawn(driver.run()).abort_handle();
        Self { shared, driver }
    }

    /// Adds a batch whose spans the ledger has as queued, and for which `charged` bytes were taken from the budget.
    #[cfg(any(feature = "sdk", test))]
    pub(crate) fn push(&self, batch: Batch, charged: usize) {
        self.push_with_acks(batch, charged, Acks::default());
    }

    /// Adds a batch as [`push`](Self::push) does, with the sources of its spans.
    pub(crate) fn push_with_acks(&self, batch: Batch, charged: usize, acks: Acks) {
        let spans = batch.spans();
        let pushed = self.shared.lock().push(batch, charged, acks);
        let Err(acks) = pushed else {
            self.shared.wake.notify_one();
            return;
        };
        acks.drop_spans(DropReason::Shutdown, None);
        self.shared.lose_queued(DropReason::Shutdown, spans as u64);
        self.shared
            .tell_dropped_before(DropReason::Shutdown, spans as u64);
        self.shared.budget.give_back(charged, spans);
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
        self.shared.ledger.abandon_pending();
        self.note_inside(&mut flushed, inside);
        self.shared.log_untold(flushed.error.as_ref());
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
                flushed.left_inside = drained.left.saturating_sub(self.shared.ledger.pending());
                flushed.causes_inside = drained.take_causes();
                let inside = flushed.causes_inside.first().map(Cause::error);
                let error = inside.or(flushed.error.as_ref());
                self.shared.take_back(&drained, error);
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
        let left = schedule.held_before(hurry.mark);
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
        let mut progress = self.shared.progress.subscribe();
        while !self.shared.lock().has_ended() {
            if progress.changed().await.is_err() {
                return;
            }
        }
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
    mark: u64,
    until: Deadline,
}

impl<'a> Hurry<'a> {
    fn begin(shared: &'a Shared, until: Deadline) -> Self {
        let (number, mark) = shared.lock().begin_hurry(until, Instant::now());
        Self {
            shared,
            number,
            mark,
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
                schedule.held_before(self.mark) == 0 || schedule.is_futile(self.until)
            };
            if is_done || progress.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.shared.lock().end_hurry(self.number);
    }
}

impl Shared {
    /// Waits until no export is in flight.
    pub(super) async fn landed(&self) {
        let mut progress = self.progress.subscribe();
        while self.lock().exports() > 0 {
            if progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Drops the batch that waits longest; false if none waits.
    pub(super) fn evict(&self) -> bool {
        let Some(item) = self.lock().take_oldest() else {
            return false;
        };
        let spans = item.batch.spans();
        item.acks.drop_spans(DropReason::QueueFull, None);
        self.lose_queued(DropReason::QueueFull, spans as u64);
        if item.is_untried() {
            self.tell_dropped_before(DropReason::QueueFull, spans as u64);
        }
        self.budget.give_back(item.charged, spans);
        self.progress.send_replace(());
        true
    }

    /// Counts what was lost or refused after it had been acknowledged.
    pub(super) fn take_back(&self, late: &Drained, error: Option<&Error>) {
        self.ledger.take_back(late);
        let known = self.ledger.take_lost_error();
        let error = known.as_ref().or(error);
        for (reason, spans) in late.lost.iter() {
            match reason {
                DropReason::Filtered => self.diagnostics.filtered(spans),
                _ => self.diagnostics.dropped(reason, spans, error),
            }
        }
    }

    /// Logs the losses of pending spans of which no shutdown told.
    pub(super) fn log_untold(&self, error: Option<&Error>) {
        for (reason, spans) in self.ledger.take_untold().iter() {
            self.diagnostics.dropped(reason, spans, error);
        }
    }

    pub(super) fn lose_queued(&self, reason: DropReason, spans: u64) {
        if spans == 0 {
            return;
        }
        self.ledger.step(|account| {
            account.queued -= spans;
            account.dropped.add(reason, spans);
        });
        self.diagnostics.dropped(reason, spans, None);
    }

    pub(super) fn tell_dropped_before(&self, reason: DropReason, spans: u64) {
        if let Some(observer) = &self.settings.observer
            && spans > 0
        {
            observer.dropped_before(reason.as_str(), spans);
        }
    }

    /// Counts everything that is held as lost at shutdown, in flight or not.
    pub(super) fn abandon(&self) {
        let (remains, error) = {
            let mut schedule = self.lock();
            let error = schedule.last_error();
            (schedule.end(), error)
        };
        let lost = remains.queued + remains.in_flight;
        for acks in &remains.acks {
            acks.drop_spans(DropReason::Shutdown, error.as_ref());
        }
        self.ledger.step(|account| {
            account.queued -= remains.queued;
            account.in_flight -= remains.in_flight;
            account.dropped.add(DropReason::Shutdown, lost);
        });
        self.budget.give_back(remains.charged, lost as usize);
        self.tell_dropped_before(DropReason::Shutdown, remains.untried);
        self.diagnostics
            .dropped(DropReason::Shutdown, lost, error.as_ref());
        self.progress.send_replace(());
    }

    pub(super) fn held(&self) -> Held {
        Held {
            spans: self.ledger.read().open(),
            bytes: self.budget.bytes(),
            bytes_max: self.budget.bytes_max(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
