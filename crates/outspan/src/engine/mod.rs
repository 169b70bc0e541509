//! The queue in memory in front of one exporter.
//!
//! It holds batches until the exporter delivered or refused them for good, or they are lost for a reason that is counted.
//! Several exports are in flight at once. A batch that failed temporarily stays and is tried again, only what was not
//! delivered of it, as long as memory and the export limit allow. While the destination is down, one export at a time
//! probes whether it is back; a batch that has not failed yet goes first, so that one bad batch cannot keep all others from
//! being tried.
//!
//! ```text
//!   push ──▶ fresh ──┬──▶ in flight ──▶ delivered, refused, dropped
//!            again ──┘        │
//!              ▲              │ failed for now
//!              └──────────────┘
//! ```
//!
//! It is bounded in bytes, and in spans where that is wanted. Whoever pushes has taken [`Room`] first, which counts the spans
//! as queued; the room is free again when a batch comes to its end.

mod ack;
mod backoff;
mod budget;
mod memory;
mod merger;
mod schedule;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
#[cfg(feature = "_network")]
use std::sync::atomic::AtomicUsize;
#[cfg(feature = "_network")]
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

pub use self::ack::Ack;
pub use self::ack::AckLevel;
pub use self::ack::AckOutcome;
pub(crate) use self::ack::Acks;
pub use self::ack::Dropped;
pub(crate) use self::backoff::Backoff;
pub(crate) use self::backoff::MAX_RETRY_AFTER;
pub use self::backoff::Retry;
pub use self::backoff::RetryEvent;
pub(crate) use self::budget::Budget;
pub use self::memory::MemoryQueue;
pub use self::memory::MemoryQueueBuilder;
pub use self::memory::Room;
pub use self::merger::BatchLimits;
pub use self::merger::Merger;
use self::schedule::Item;
use self::schedule::Schedule;
use self::schedule::Step;
use crate::Batch;
use crate::Cause;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::DropReason;
use crate::Error;
use crate::ErrorKind;
use crate::Export;
use crate::Exporter;
use crate::Losses;
use crate::Result;
use crate::account::Ledger;
use crate::diagnostics::Diagnostics;
use crate::diagnostics::Held;
use crate::diagnostics::Retrial;
use crate::guard::GRACE;
use crate::guard::run_drain;
use crate::guard::run_guarded;
use crate::pending::PendingSpans;
use crate::runtime::spawn_on;

/// The longest wait between two attempts, whatever the user sets.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

tokio::task_local! {
    /// Set within an export of a queue: what combinators and exporters inside may know of it.
    static SURROUNDING: Surrounding;
}

/// The queue around an export.
#[derive(Clone, Debug)]
struct Surrounding {
    closing: watch::Receiver<Option<Deadline>>,
    /// How many batches wait, where exports are to give way to them.
    #[cfg(feature = "_network")]
    waiting: Option<Arc<AtomicUsize>>,
    #[cfg(any(feature = "_network", feature = "kafka"))]
    diagnostics: Arc<Diagnostics>,
}

/// Waits until the queue around this export is being shut down; never ends outside of one.
///
/// Combinators that wait inside a queue's export cannot be told otherwise: they are shut down after the queue is empty.
pub(crate) async fn closing() {
    let closing = SURROUNDING.try_with(|queue| queue.closing.clone());
    if let Ok(mut closing) = closing
        && closing.wait_for(Option::is_some).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Whether the queue around this export is being shut down.
pub(crate) fn is_closing() -> bool {
    SURROUNDING
        .try_with(|queue| queue.closing.borrow().is_some())
        .unwrap_or(false)
}

/// Whether an export that has gone on for a while should end, so that others get their turn. What is left of its batch comes
/// back with [`Error::giving_way`].
#[cfg(feature = "_network")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turns {
    /// The queue around the export takes no turns or is being shut down, or there is none.
    No,
    /// Other batches wait.
    OthersWait,
    /// None waits, but a part of the batch may be sent while another one is.
    NobodyWaits,
}

/// Asks the queue around this export.
#[cfg(feature = "_network")]
pub(crate) fn turns() -> Turns {
    let turns = SURROUNDING.try_with(|queue| match &queue.waiting {
        Some(waiting) if queue.closing.borrow().is_none() => {
            match waiting.load(Ordering::Relaxed) {
                0 => Turns::NobodyWaits,
                _ => Turns::OthersWait,
            }
        }
        _ => Turns::No,
    });
    turns.unwrap_or(Turns::No)
}

/// Whether the time of an export is over: its own, or that of a shutdown of the queue around it.
pub(crate) fn is_over(until: Deadline) -> bool {
    let closing = SURROUNDING.try_with(|queue| *queue.closing.borrow());
    until.has_passed() || closing.is_ok_and(|end| end.is_some_and(|end| end.has_passed()))
}

/// Runs the export of one of several destinations, at most until the end of a shutdown of the queue around it.
///
/// The queue ends exports then that began before the shutdown, and cannot know which destination has not answered.
pub(crate) async fn run_until_closed<R>(work: impl Future<Output = Result<R>>) -> Result<R> {
    let closed = async {
        closing().await;
        let until = SURROUNDING.try_with(|queue| *queue.closing.borrow());
        let Ok(Some(until)) = until else {
            return std::future::pending().await;
        };
        until.passed().await;
        Error::timeout("no answer", until).with_attempts(1)
    };
    tokio::select! {
        biased;
        answer = work => answer,
        error = closed => Err(error),
    }
}

/// Tells the queue around this export where it goes, so that losses name the address of a destination that never answers.
#[cfg(any(feature = "_network", feature = "kafka"))]
pub(crate) fn note_server(server: &Arc<str>) {
    // Outside of a queue nobody asks.
    SURROUNDING
        .try_with(|queue| queue.diagnostics.note_server(server))
        .unwrap_or_default();
}

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
    shared: Arc<Shared>,
    driver: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    exporter: Exporter,
    settings: Settings,
    ledger: Arc<Ledger>,
    budget: Arc<Budget>,
    diagnostics: Arc<Diagnostics>,
    schedule: Mutex<Schedule>,
    /// Wakes the driver: something can be started.
    wake: Notify,
    /// Tells those who wait for a flush that a batch came to its end.
    progress: watch::Sender<()>,
    /// Tells combinators inside that a shutdown has begun, and when it ends.
    closing: watch::Sender<Option<Deadline>>,
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
        let driver = Driver(Arc::clone(&shared));
        let driver = spawn_on(runtime, driver.run()).abort_handle();
        Self { shared, driver }
    }

    /// Adds a batch whose spans the ledger has as queued, and for which `charged` bytes were taken from the budget.
    #[cfg(any(feature = "sdk", test))]
    pub(crate) fn push(&self, batch: Batch, charged: usize) {
        self.push_witnessed(batch, charged, None);
    }

    /// Adds a batch whose witness is dropped when nothing of the batch is held any more.
    pub(crate) fn push_witnessed(
        &self,
        batch: Batch,
        charged: usize,
        witness: Option<Arc<dyn Any + Send + Sync>>,
    ) {
        let spans = batch.spans();
        let is_taken = self.shared.lock().push(batch, charged, witness);
        if is_taken {
            self.shared.wake.notify_one();
            return;
        }
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

/// Starts exports and takes their answers. When it ends, for whatever reason, everything it held is counted.
struct Driver(Arc<Shared>);

impl Driver {
    async fn run(self) {
        let shared = &*self.0;
        let mut backoff = Backoff::new(&shared.settings.retry);
        let mut attempts = FuturesUnordered::new();
        loop {
            let wait_end = loop {
                let step = shared.lock().next(Instant::now());
                match step {
                    Step::Start(item) => {
                        shared.take_off(&item);
                        attempts.push(shared.attempt(item));
                    }
                    Step::Wait(wait_end) => break wait_end,
                }
            };
            tokio::select! {
                Some((item, answer)) = attempts.next() => {
                    shared.settle(item, answer, &mut backoff);
                    // An exporter that is always ready must not keep the thread from others.
                    tokio::task::yield_now().await;
                }
                () = shared.wake.notified() => {}
                () = sleep_until(wait_end) => {}
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What became of a batch after an attempt.
#[derive(Debug, Default)]
struct Verdict {
    accepted: u64,
    refused: u64,
    dropped: Losses,
    /// What the exporter took of the accepted spans and has not written yet, and how many those are.
    pending: Vec<PendingSpans>,
    pending_spans: u64,
    again: Vec<Item>,
    /// The error that speaks for what is tried again.
    trouble: Option<Error>,
}

impl Shared {
    /// Waits until no export is in flight.
    async fn landed(&self) {
        let mut progress = self.progress.subscribe();
        while self.lock().exports() > 0 {
            if progress.changed().await.is_err() {
                return;
            }
        }
    }

    fn take_off(&self, item: &Item) {
        let spans = item.batch.spans() as u64;
        self.ledger.step(|account| {
            account.queued -= spans;
            account.in_flight += spans;
        });
        if let Some(observer) = &self.settings.observer
            && item.is_untried()
        {
            observer.handed_over(spans);
        }
    }

    /// Hands a batch to the exporter, once.
    async fn attempt(&self, mut item: Item) -> (Item, Result<Delivery>) {
        let until = self.attempt_end(&mut item);
        let batch = item.batch.clone().with_payer(&self.budget);
        let export = self.exporter.export(batch, until);
        let surrounding = Surrounding {
            closing: self.closing.subscribe(),
            #[cfg(feature = "_network")]
            waiting: self.settings.takes_turns.then(|| self.lock().waiting()),
            #[cfg(any(feature = "_network", feature = "kafka"))]
            diagnostics: Arc::clone(&self.diagnostics),
        };
        let timed = async {
            tokio::select! {
                // An exporter that keeps the deadline says more about the destination.
                biased;
                answer = run_guarded(until, "export", export) => answer,
                error = self.cut_off() => Err(error),
            }
        };
        let answer = SURROUNDING.scope(surrounding, timed).await;
        (item, answer)
    }

    /// Waits for the end of a shutdown that began after the export did.
    async fn cut_off(&self) -> Error {
        let mut closing = self.closing.subscribe();
        if closing.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
        let until = self.lock().closing();
        until.passed().await;
        match self.diagnostics.server() {
            Some(server) => {
                Error::timeout(format!("no answer from {server}"), until).with_server(server)
            }
            None => Error::timeout("no answer", until),
        }
        .with_attempts(1)
    }

    fn attempt_end(&self, item: &mut Item) -> Deadline {
        let began = *item.began.get_or_insert_with(Instant::now);
        item.attempts += 1;
        let mut until = self.lock().closing();
        if let Some(timeout) = self.settings.attempt_timeout {
            until = until.min(Deadline::after(timeout).named("attempt timeout"));
        }
        if let Some(limit) = self.settings.export_limit {
            let left = limit.saturating_sub(began.elapsed());
            until = until.min(Deadline::after(left).named("export limit"));
        }
        until
    }

    /// Books what became of a batch, and plans what is left of it.
    fn settle<'s>(&'s self, item: Item, answer: Result<Delivery>, backoff: &mut Backoff<'s>) {
        let flown = item.batch.spans() as u64;
        let charged = item.charged;
        let is_probe = item.is_probe;
        let number = item.number;
        let is_sent_at_shutdown = item.is_sent_at_shutdown;
        let verdict = self.judge(item, answer);
        let again = verdict.again_spans();
        let pending = verdict.pending_spans;
        self.ledger.step(|account| {
            account.in_flight -= flown - pending;
            account.delivered += verdict.accepted - pending;
            account.refused += verdict.refused;
            account.dropped.merge(&verdict.dropped);
            account.queued += again;
        });
        self.ledger.add_pending(pending);
        self.ledger.follow(&verdict.pending);
        let kept = verdict.again.iter().map(|item| item.charged).sum();
        self.budget.exchange(charged, kept);
        self.budget.give_back(0, (flown - again) as usize);

        let now = Instant::now();
        let works = verdict.accepted + verdict.refused > 0;
        let asked_nobody = verdict.dropped.of(DropReason::Filtered) == flown && flown > 0;
        let trouble = verdict.trouble;
        // Such as a form that was not made in time: the destination may be as well as ever.
        let is_unsent = trouble.as_ref().is_some_and(Error::is_before_sending);
        let retrial = {
            let mut schedule = self.lock();
            schedule.landed(number);
            if asked_nobody || (is_unsent && !works) {
                schedule.found_out_nothing(is_probe);
            } else if works || trouble.is_none() {
                *backoff = Backoff::new(&self.settings.retry);
                schedule.works();
            }
            if let Some(error) = trouble.as_ref().filter(|_| !is_unsent) {
                schedule.fails(error, is_probe, backoff, now);
                if is_sent_at_shutdown {
                    schedule.failed_at_shutdown(error);
                }
            }
            schedule.put_back(verdict.again);
            match schedule.asked_until() {
                _ if schedule.is_closing() => Retrial::UntilShutdown,
                Some(end) if end > now => Retrial::After(end - now),
                _ => Retrial::UntilItWorks,
            }
        };
        if works {
            self.diagnostics.answered();
        }
        if let Some(error) = &trouble {
            self.diagnostics.failed(error, self.held(), retrial);
        }
        self.progress.send_replace(());
    }

    /// Decides about every span of a batch.
    fn judge(&self, item: Item, answer: Result<Delivery>) -> Verdict {
        let mut verdict = Verdict::default();
        let mut delivery = match answer {
            Ok(delivery) => delivery,
            Err(error) => Delivery::failed(item.batch.clone(), error),
        };
        (verdict.pending, verdict.pending_spans) = delivery.take_pending();
        // An exporter of the user's may count wrongly. The account closes all the same.
        let spans = item.batch.spans() as u64;
        verdict.accepted = delivery.accepted.min(spans);
        verdict.refused = delivery.refused.min(spans - verdict.accepted);
        if let Some(server) = &delivery.server {
            self.diagnostics.note_server(server);
        }
        if verdict.refused > 0 || delivery.message.is_some() {
            let why = delivery.message.as_deref().unwrap_or("it does not say why");
            let mut error = Error::refused(why);
            if let Some(server) = &delivery.server {
                error = error.with_server(Arc::clone(server));
            }
            self.diagnostics.refused(verdict.refused, &error);
        }
        let mut open = spans - verdict.accepted - verdict.refused;
        let filtered = delivery.filtered.min(open);
        verdict.dropped.add(DropReason::Filtered, filtered);
        self.diagnostics.filtered(filtered);
        open -= filtered;
        for part in delivery.rest {
            let part_spans = part.batch.spans() as u64;
            if part_spans > open {
                break;
            }
            open -= part_spans;
            self.judge_part(&item, part.batch, part.error, &mut verdict);
        }
        if open > 0 {
            let error = Error::internal("the exporter does not say what became of some spans");
            self.drop_spans(DropReason::Failed, open, &error, &mut verdict);
        }
        verdict
    }

    fn judge_part(&self, item: &Item, batch: Batch, error: Error, verdict: &mut Verdict) {
        let spans = batch.spans() as u64;
        // Whatever was made for sending it is made again when it is sent again: many batches may wait for that.
        batch.forget_forms();
        let gives_way = error.is_giving_way();
        if error.is_divisible() && spans > 1 {
            let half = batch.spans().div_ceil(2);
            let parts = batch.split_by_spans(half);
            verdict
                .again
                .extend(parts.map(|part| item.fresh_part(part)));
            return;
        }
        if error.kind() == ErrorKind::Refused && !error.is_temporary() {
            verdict.refused += spans;
            self.diagnostics.refused(spans, &error);
            return;
        }
        if !error.is_temporary() {
            return self.drop_spans(error.drop_reason(), spans, &error, verdict);
        }
        // Told of the outage, also by batches whose time is over.
        let is_over = self
            .settings
            .export_limit
            .is_some_and(|limit| item.began.is_some_and(|began| began.elapsed() >= limit));
        let is_last = self
            .settings
            .retry
            .retries_max()
            .is_some_and(|retries| item.attempts - item.turns > retries && !gives_way);
        if is_over || is_last {
            let reason = match is_over {
                true => DropReason::Expired,
                false => DropReason::Failed,
            };
            self.drop_spans(reason, spans, &error, verdict);
        } else if error.is_before_sending() {
            verdict.again.push(item.later_part(batch, gives_way));
        } else {
            verdict.again.push(item.failed_part(batch));
        }
        if gives_way {
            return;
        }
        verdict.trouble = Some(match verdict.trouble.take() {
            Some(other) if other.retry_after() > error.retry_after() => other,
            _ => error,
        });
    }

    fn drop_spans(&self, reason: DropReason, spans: u64, error: &Error, verdict: &mut Verdict) {
        verdict.dropped.add(reason, spans);
        self.diagnostics.dropped(reason, spans, Some(error));
    }

    /// Drops the batch that waits longest; false if none waits.
    fn evict(&self) -> bool {
        let Some(item) = self.lock().take_oldest() else {
            return false;
        };
        let spans = item.batch.spans();
        self.lose_queued(DropReason::QueueFull, spans as u64);
        if item.is_untried() {
            self.tell_dropped_before(DropReason::QueueFull, spans as u64);
        }
        self.budget.give_back(item.charged, spans);
        self.progress.send_replace(());
        true
    }

    /// Counts what was lost or refused after it had been acknowledged.
    fn take_back(&self, late: &Drained, error: Option<&Error>) {
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
    fn log_untold(&self, error: Option<&Error>) {
        for (reason, spans) in self.ledger.take_untold().iter() {
            self.diagnostics.dropped(reason, spans, error);
        }
    }

    fn lose_queued(&self, reason: DropReason, spans: u64) {
        if spans == 0 {
            return;
        }
        self.ledger.step(|account| {
            account.queued -= spans;
            account.dropped.add(reason, spans);
        });
        self.diagnostics.dropped(reason, spans, None);
    }

    fn tell_dropped_before(&self, reason: DropReason, spans: u64) {
        if let Some(observer) = &self.settings.observer
            && spans > 0
        {
            observer.dropped_before(reason.as_str(), spans);
        }
    }

    /// Counts everything that is held as lost at shutdown, in flight or not.
    fn abandon(&self) {
        let (remains, error) = {
            let mut schedule = self.lock();
            let error = schedule.last_error();
            (schedule.end(), error)
        };
        let lost = remains.queued + remains.in_flight;
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

    fn held(&self) -> Held {
        Held {
            spans: self.ledger.read().open(),
            bytes: self.budget.bytes(),
            bytes_max: self.budget.bytes_max(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verdict {
    fn again_spans(&self) -> u64 {
        self.again
            .iter()
            .map(|item| item.batch.spans() as u64)
            .sum()
    }
}
