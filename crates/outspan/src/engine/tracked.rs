//! Spans with their bookkeeping: what a destination holds, and what became of it.
//!
//! [`Books`] are everything that is counted for one destination: the account, the bytes and spans that are held, the log
//! summary and the metrics observer. Only the transitions of tokens change them, each all of them together, so no code path
//! can forget one. An [`Entry`] stands for spans that are no batch yet, [`Tracked`] for a batch.
//!
//! ```text
//!   try_reserve, enter ─▶ Entry ──into_tracked──▶ Tracked ──start──▶ in flight ──complete──▶ delivered, rejected, filtered
//!                         │   ▲                    │   ▲                              │
//!                  cancel │   └ merge, split  drop │   └──── retry ── Tracked ◀───────┘ one for each part that is left,
//!                  drop   ▼                        ▼                      │              with its error
//!                                                                         └──▶ drop, reject, split
//! ```
//!
//! How to use them:
//!
//! - [`Books::try_reserve`] before spans are taken; [`Entry::merge`] when batches are merged; [`Entry::add_acks`] where a
//!   source waits; [`Entry::into_tracked`] with the finished batches; then the queue's `push` for each token.
//! - A request for several destinations has an entry in the books of each, and one [`Ack`](super::Ack) that has a branch for
//!   each of them. Several books may share a [`Budget`].
//! - End each token by a transition. A token that is dropped without one counts as *abandoned*: its spans are dropped as
//!   `failed`, and [`Books::abandoned`] counts them, which is 0 in every test.
//! - Transitions write log lines and call hooks. Where a lock is held, use those that return [`Unreported`], and call
//!   [`report`](Unreported::report) after the lock is released.
//!
//! Lock order: a queue's schedule or a processor's shard first, then the ledger inside of the books.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
#[cfg(feature = "sdk")]
use std::time::Duration;

use tokio::sync::watch;

use super::Acks;
use super::Budget;
use crate::Account;
use crate::Attempt;
use crate::Batch;
use crate::Delivery;
use crate::Drained;
use crate::DropReason;
use crate::Error;
use crate::Result;
use crate::account::Ledger;
use crate::diagnostics::Diagnostics;
use crate::diagnostics::Held;
use crate::pending::PendingSpans;

/// Hears of each span once: when it is handed to the exporter for the first time, or dropped before.
///
/// It is called on the thread that exports or drops, and must not block.
pub(crate) trait HandOver: fmt::Debug + Send + Sync {
    fn handed_over(&self, spans: u64);

    /// Spans will never go to the exporter, for a reason in the words of `error.type`.
    fn dropped_before(&self, error_type: &'static str, spans: u64);
}

/// Everything that is counted for one destination.
#[derive(Debug)]
pub(crate) struct Books {
    ledger: Arc<Ledger>,
    budget: Arc<Budget>,
    /// Writes log lines; `None` where the owner writes lines of its own.
    diagnostics: Option<Arc<Diagnostics>>,
    /// Set at most once, by an owner that learns of it late.
    observer: OnceLock<Arc<dyn HandOver>>,
    /// Tells those who wait for space that there is more; set by a queue.
    progress: OnceLock<watch::Sender<()>>,
    /// Spans of tokens that were dropped without a transition.
    abandoned: AtomicU64,
}

impl Books {
    pub(crate) fn new(
        budget: Arc<Budget>,
        diagnostics: Arc<Diagnostics>,
        observer: Option<Arc<dyn HandOver>>,
    ) -> Arc<Self> {
        Self::with(
            budget,
            Some(diagnostics),
            observer.map_or_else(OnceLock::new, OnceLock::from),
        )
    }

    /// Makes books without bounds, of an owner that writes its own log lines.
    #[cfg(feature = "sdk")]
    pub(crate) fn unlogged() -> Arc<Self> {
        let budget = Arc::new(Budget::new(usize::MAX, None));
        Self::with(budget, None, OnceLock::new())
    }

    fn with(
        budget: Arc<Budget>,
        diagnostics: Option<Arc<Diagnostics>>,
        observer: OnceLock<Arc<dyn HandOver>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            ledger: Arc::default(),
            budget,
            diagnostics,
            observer,
            progress: OnceLock::new(),
            abandoned: AtomicU64::new(0),
        })
    }

    /// Sets the observer, unless there is one.
    #[cfg(all(feature = "metrics", feature = "sdk"))]
    pub(crate) fn set_observer(&self, observer: Arc<dyn HandOver>) {
        self.observer.get_or_init(|| observer);
    }

    /// Tells `progress` of bytes that are given back outside of the queue's own steps, unless something else is told already.
    pub(crate) fn tell_progress(&self, progress: watch::Sender<()>) {
        self.progress.get_or_init(|| progress);
    }

    /// Reads where every span is.
    pub(crate) fn account(&self) -> Account {
        self.ledger.read()
    }

    /// The budget, for reading it and for forms of batches, which pay for themselves.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// What is held, for a log line.
    pub(crate) fn held(&self) -> Held {
        Held {
            spans: self.ledger.read().open(),
            bytes: self.budget.bytes(),
            bytes_max: self.budget.bytes_max(),
        }
    }

    /// How many spans were in tokens that were dropped without a transition.
    #[cfg(test)]
    pub(crate) fn abandoned(&self) -> u64 {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Takes bytes and spans, all or nothing, for spans that are received and queued from now on.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: usize, spans: usize) -> Option<Entry> {
        if !self.budget.try_take(bytes, spans) {
            return None;
        }
        Some(self.enter(bytes, spans))
    }

    /// Counts spans as received and queued. Their bytes and spans have been charged already.
    pub(crate) fn enter(self: &Arc<Self>, bytes: usize, spans: usize) -> Entry {
        if spans > 0 {
            self.ledger.queue(spans as u64);
        }
        Entry {
            books: Arc::clone(self),
            spans,
            bytes,
            acks: Acks::default(),
            ack_memory: AckMemory::default(),
            stage: Stage::Queued,
            was_started: false,
        }
    }

    /// Counts spans as received and dropped at once.
    pub(crate) fn turn_away(self: &Arc<Self>, reason: DropReason, spans: u64) -> Unreported {
        if spans > 0 {
            self.ledger.turn_away(reason, spans);
        }
        Unreported {
            unstarted: spans,
            spans,
            error_type: match reason {
                // The word of the semantic conventions.
                DropReason::Shutdown => "already_shutdown",
                reason => reason.as_str(),
            },
            ..Unreported::new(self, reason, None)
        }
    }

    /// Charges bytes and spans for spans that no entry has yet, all or nothing.
    #[cfg(feature = "sdk")]
    #[inline]
    pub(crate) fn try_charge(&self, bytes: usize, spans: usize) -> bool {
        self.budget.try_take(bytes, spans)
    }

    /// Charges bytes and spans as [`try_charge`](Self::try_charge) does, waiting for at most `time`. Blocks the thread.
    #[cfg(feature = "sdk")]
    pub(crate) fn charge_within(&self, bytes: usize, spans: usize, time: Duration) -> bool {
        self.budget.take_within(bytes, spans, time)
    }

    /// Gives back what was charged for spans that no entry has.
    #[cfg(feature = "sdk")]
    pub(crate) fn uncharge(&self, bytes: usize, spans: usize) {
        self.budget.give_back(bytes, spans);
    }

    /// Counts spans that an exporter acknowledged and lost, or rejected, later.
    ///
    /// `error` is the reason where the exporter gave none.
    pub(crate) fn take_back(&self, late: &Drained, error: Option<&Error>) {
        self.ledger.take_back(late);
        let known = self.ledger.take_lost_error();
        let error = known.as_ref().or(error);
        for (reason, spans) in late.lost.iter() {
            self.report_dropped(reason, spans, error);
        }
    }

    /// How many spans an exporter took and has not written yet.
    pub(crate) fn pending(&self) -> u64 {
        self.ledger.pending()
    }

    /// Counts every pending span as dropped at shutdown. What becomes known of them later changes nothing.
    pub(crate) fn abandon_pending(&self) {
        self.ledger.abandon_pending();
    }

    /// Logs drops of pending spans that no flush or shutdown has reported.
    pub(crate) fn log_untold(&self, error: Option<&Error>) {
        for (reason, spans) in self.ledger.take_untold().iter() {
            self.report_dropped(reason, spans, error);
        }
    }

    fn report_dropped(&self, reason: DropReason, spans: u64, error: Option<&Error>) {
        match &self.diagnostics {
            Some(diagnostics) if reason == DropReason::Filtered => diagnostics.filtered(spans),
            Some(diagnostics) => diagnostics.dropped(reason, spans, error),
            None => {}
        }
    }

    fn report_rejected(&self, spans: u64, error: &Error) {
        if let Some(diagnostics) = &self.diagnostics {
            diagnostics.refused(spans, error);
        }
    }

    /// Counts pending spans, and what becomes of them whenever it becomes known.
    ///
    /// `memory` is charged for the acks until the exporter has let go of all of them.
    fn follow(&self, pending: &[PendingSpans], spans: u64, acks: &Acks, memory: AckMemory) {
        self.ledger.add_pending(spans);
        let memory = Arc::new(memory);
        for pending in pending {
            let ledger = Arc::clone(&self.ledger);
            // The source waits for the spans until the exporter has let go of them, and of this closure.
            let acks = acks.clone();
            let memory = Arc::clone(&memory);
            pending.listen(move |outcome| {
                let _charged = &memory;
                for (reason, _) in outcome.lost.iter() {
                    acks.drop_spans(reason, outcome.error.as_ref());
                }
                ledger.end_pending(outcome);
            });
        }
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        // Each token holds the books, so none is left: what the account has as held is in an exporter.
        debug_assert!(
            std::thread::panicking() || self.ledger.read().open() == self.ledger.pending(),
            "spans are held by no token: {}",
            self.ledger.read()
        );
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Queued,
    InFlight,
}

/// Bytes of acks. They are charged, whatever the bound, until this is dropped.
#[derive(Debug, Default)]
struct AckMemory {
    books: Option<Arc<Books>>,
    bytes: usize,
}

impl AckMemory {
    fn charge(books: &Arc<Books>, bytes: usize) -> Self {
        if bytes == 0 {
            return Self::default();
        }
        books.budget.exchange(0, bytes);
        Self {
            books: Some(Arc::clone(books)),
            bytes,
        }
    }

    /// Adds what is charged in the same books.
    fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        self.books = self.books.take().or_else(|| other.books.take());
    }
}

impl Drop for AckMemory {
    fn drop(&mut self) {
        if let Some(books) = &self.books
            && self.bytes > 0
        {
            books.budget.give_back(self.bytes, 0);
            // Acks of pending spans end long after the export, and the queue does nothing then.
            if let Some(progress) = books.progress.get() {
                progress.send_replace(());
            }
        }
    }
}

/// Spans that the books count as held, with their bytes.
///
/// The acks of their sources are charged besides: many small requests have more bytes of acks than of spans.
///
/// Dropping it without a transition counts its spans as dropped and abandoned.
#[must_use = "dropping an entry counts its spans as abandoned"]
pub(crate) struct Entry {
    books: Arc<Books>,
    spans: usize,
    bytes: usize,
    acks: Acks,
    ack_memory: AckMemory,
    stage: Stage,
    /// Whether the exporter had them before, or what they are a part of.
    was_started: bool,
}

impl Entry {
    pub(crate) fn spans(&self) -> usize {
        self.spans
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the acks of a source whose spans these are.
    pub(crate) fn add_acks(&mut self, acks: Acks) {
        let memory = AckMemory::charge(&self.books, acks.memory());
        self.ack_memory.merge(memory);
        self.acks.merge(acks);
    }

    /// Adds another entry.
    ///
    /// # Errors
    ///
    /// Gives it back if it is in other books.
    pub(crate) fn merge(&mut self, mut other: Self) -> Result<(), Self> {
        if !Arc::ptr_eq(&self.books, &other.books) {
            return Err(other);
        }
        debug_assert_eq!(self.stage, other.stage);
        let (spans, bytes) = other.take();
        self.spans += spans;
        self.bytes += bytes;
        self.was_started |= other.was_started;
        self.acks.merge(std::mem::take(&mut other.acks));
        self.ack_memory.merge(std::mem::take(&mut other.ack_memory));
        Ok(())
    }

    /// Takes `spans` spans and `bytes` bytes of it.
    pub(crate) fn split(&mut self, bytes: usize, spans: usize) -> Self {
        debug_assert!(spans <= self.spans && bytes <= self.bytes);
        let (spans, bytes) = (spans.min(self.spans), bytes.min(self.bytes));
        let is_whole = spans == self.spans;
        let (acks, ack_memory) = match is_whole {
            // Nothing is left here that somebody would wait for.
            true => (
                std::mem::take(&mut self.acks),
                std::mem::take(&mut self.ack_memory),
            ),
            false => {
                let of = self.spans as u64;
                let acks = self.acks.for_part(spans as u64, of);
                self.acks = self.acks.for_part(of - spans as u64, of);
                let memory = AckMemory::charge(&self.books, acks.memory_of_copy());
                (acks, memory)
            }
        };
        self.spans -= spans;
        self.bytes -= bytes;
        Self {
            books: Arc::clone(&self.books),
            spans,
            bytes,
            acks,
            ack_memory,
            stage: self.stage,
            was_started: self.was_started,
        }
    }

    /// Gives back all but `bytes` bytes.
    #[cfg(feature = "sdk")]
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let kept = bytes.min(self.bytes);
        self.books.budget.exchange(self.bytes, kept);
        self.bytes = kept;
    }

    /// Counts the spans as if they had never been received: they are somebody else's again.
    pub(crate) fn cancel(mut self) {
        debug_assert_eq!(self.stage, Stage::Queued);
        let books = Arc::clone(&self.books);
        let (spans, bytes) = self.take();
        books.ledger.step(|account| {
            account.received -= spans as u64;
            account.queued -= spans as u64;
        });
        books.budget.give_back(bytes, spans);
    }

    /// Drops the spans.
    pub(crate) fn drop_spans(mut self, reason: DropReason, error: Option<&Error>) {
        let books = Arc::clone(&self.books);
        let mut dropped = Unreported::new(&books, reason, error);
        self.end(&mut dropped);
        dropped.report();
    }

    /// Makes tokens of the batches that the spans have become. From now on they are charged with what they hold.
    ///
    /// Spans that are in no batch are dropped as `failed`; spans that the entry does not have are added, whatever the bounds.
    pub(crate) fn into_tracked(mut self, batches: Vec<Batch>) -> Vec<Tracked> {
        let spans: usize = batches.iter().map(Batch::spans).sum();
        let bytes: usize = batches.iter().map(Batch::own_memory).sum();
        let books = Arc::clone(&self.books);
        if let Some(unused @ 1..) = self.spans.checked_sub(spans) {
            self.split(0, unused).drop_spans(DropReason::Failed, None);
        }
        if let Some(missing @ 1..) = spans.checked_sub(self.spans) {
            books.ledger.queue(missing as u64);
            books.budget.exchange_spans(0, missing);
            self.spans += missing;
        }
        self.recharge(bytes);
        self.divide(batches)
    }

    /// Makes a token of each batch; together they have all the spans and bytes.
    fn divide(mut self, batches: Vec<Batch>) -> Vec<Tracked> {
        let tracked = batches.into_iter().map(|batch| Tracked {
            entry: self.split(batch.own_memory(), batch.spans()),
            batch,
        });
        let tracked = tracked.collect();
        debug_assert_eq!((self.spans, self.bytes), (0, 0), "all is in the parts");
        tracked
    }

    /// Charges `bytes` bytes in place of what it was charged with, whatever the bound.
    fn recharge(&mut self, bytes: usize) {
        self.books.budget.exchange(self.bytes, bytes);
        self.bytes = bytes;
    }

    /// Counts the spans as dropped, and notes what is to be reported.
    fn end(&mut self, dropped: &mut Unreported) {
        let stage = self.stage;
        let (spans, bytes) = self.take();
        dropped.spans += spans as u64;
        if !self.was_started {
            dropped.unstarted += spans as u64;
        }
        if !self.acks.is_empty() {
            dropped.acks.push(std::mem::take(&mut self.acks));
        }
        if spans > 0 {
            self.books.ledger.step(|account| {
                *stage.held(account) -= spans as u64;
                account.dropped.add(dropped.reason, spans as u64);
            });
        }
        self.books.budget.give_back(bytes, spans);
    }

    /// Leaves nothing in the entry.
    fn take(&mut self) -> (usize, usize) {
        let spans = std::mem::take(&mut self.spans);
        let bytes = std::mem::take(&mut self.bytes);
        (spans, bytes)
    }
}

impl Stage {
    /// The number of an account that spans of this stage are counted in.
    fn held(self, account: &mut Account) -> &mut u64 {
        match self {
            Self::Queued => &mut account.queued,
            Self::InFlight => &mut account.in_flight,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.spans == 0 && self.bytes == 0 {
            return;
        }
        let books = Arc::clone(&self.books);
        // Only a sum: it orders nothing.
        books
            .abandoned
            .fetch_add(self.spans as u64, Ordering::Relaxed);
        let error = Error::internal("spans were abandoned on their way");
        let mut dropped = Unreported::new(&books, DropReason::Failed, Some(&error));
        self.end(&mut dropped);
        dropped.report();
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("spans", &self.spans)
            .field("bytes", &self.bytes)
            .field("acks", &self.acks)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

/// A batch with its bookkeeping.
#[derive(Debug)]
#[must_use = "dropping a tracked batch counts its spans as abandoned"]
pub(crate) struct Tracked {
    batch: Batch,
    entry: Entry,
}

/// What became of a batch after an export. It is in the books already, except for the rest.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) accepted: u64,
    /// Those of the accepted spans that the exporter has not written yet.
    // Only the simple processor asks.
    #[cfg_attr(not(feature = "sdk"), allow(dead_code))]
    pub(crate) pending: u64,
    pub(crate) rejected: u64,
    pub(crate) filtered: u64,
    /// What the destination says of rejected spans, or spans of which the exporter says nothing.
    #[cfg_attr(not(feature = "sdk"), allow(dead_code))]
    pub(crate) error: Option<Error>,
    /// The parts that were not delivered, still in flight, each with its error.
    pub(crate) rest: Vec<(Tracked, Error)>,
}

impl Tracked {
    pub(crate) fn batch(&self) -> &Batch {
        &self.batch
    }

    pub(crate) fn spans(&self) -> u64 {
        self.entry.spans as u64
    }

    /// How many bytes it is charged with.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.entry.bytes
    }

    /// Whether the exporter had it before, or what it is a part of.
    #[cfg(feature = "sdk")]
    pub(crate) fn was_started(&self) -> bool {
        self.entry.was_started
    }

    /// The batch is handed to the exporter: queued, then in flight.
    pub(crate) fn start(&mut self) {
        let spans = self.spans();
        self.move_to(Stage::InFlight);
        let is_first = !std::mem::replace(&mut self.entry.was_started, true);
        if let Some(observer) = self.entry.books.observer.get()
            && is_first
        {
            observer.handed_over(spans);
        }
    }

    /// The batch waits to be exported again: in flight, then queued.
    pub(crate) fn retry(&mut self) {
        self.move_to(Stage::Queued);
    }

    fn move_to(&mut self, stage: Stage) {
        let entry = &mut self.entry;
        debug_assert_ne!(entry.stage, stage);
        let before = std::mem::replace(&mut entry.stage, stage);
        entry.books.ledger.step(|account| {
            *before.held(account) -= entry.spans as u64;
            *stage.held(account) += entry.spans as u64;
        });
    }

    /// The export ended: counts what was delivered, rejected and filtered, and returns a token for each part that was not.
    pub(crate) fn complete(self, answer: Result<Delivery>) -> Completed {
        let Self { batch, mut entry } = self;
        debug_assert_eq!(entry.stage, Stage::InFlight);
        let mut delivery = answer.unwrap_or_else(|error| Delivery::failed(batch, error));
        let books = Arc::clone(&entry.books);
        let spans = entry.spans as u64;

        // An exporter of a user may count wrongly. All spans are accounted for all the same.
        let accepted = delivery.accepted.min(spans);
        let rejected = delivery.refused.min(spans - accepted);
        let mut unknown = spans - accepted - rejected;
        let filtered = delivery.filtered.min(unknown);
        unknown -= filtered;
        let mut rest = Vec::new();
        for part in std::mem::take(&mut delivery.rest) {
            let Some(others) = unknown.checked_sub(part.batch.spans() as u64) else {
                break;
            };
            unknown = others;
            rest.push(part);
        }
        let (pending, pending_spans) = match delivery.take_pending() {
            (_, spans) if spans > accepted => (Vec::new(), 0),
            pending => pending,
        };

        let left: u64 = rest.iter().map(|part| part.batch.spans() as u64).sum();
        let left_bytes = rest.iter().map(|part| part.batch.own_memory()).sum();
        debug_assert_eq!(spans, accepted + rejected + filtered + unknown + left);
        let mut done = entry.split(0, (spans - left) as usize);
        books.ledger.step(|account| {
            account.in_flight -= spans - left - pending_spans;
            account.delivered += accepted - pending_spans;
            account.refused += rejected;
            account.dropped.add(DropReason::Filtered, filtered);
            account.dropped.add(DropReason::Failed, unknown);
        });
        if !pending.is_empty() {
            let memory = std::mem::take(&mut done.ack_memory);
            books.follow(&pending, pending_spans, &done.acks, memory);
        }
        entry.recharge(left_bytes);
        let error = done.report_end(&delivery, rejected, filtered, unknown);
        let (batches, errors): (_, Vec<_>) = rest
            .into_iter()
            .map(|part| (part.batch, part.error))
            .unzip();
        Completed {
            accepted,
            pending: pending_spans,
            rejected,
            filtered,
            error,
            rest: entry.divide(batches).into_iter().zip(errors).collect(),
        }
    }

    /// The destination rejects all spans for good.
    pub(crate) fn reject(self, error: &Error) {
        let mut entry = self.entry;
        let books = Arc::clone(&entry.books);
        let stage = entry.stage;
        let (spans, bytes) = entry.take();
        books.ledger.step(|account| {
            *stage.held(account) -= spans as u64;
            account.refused += spans as u64;
        });
        books.budget.give_back(bytes, spans);
        let of = spans as u64;
        books.report_rejected(of, error);
        entry.acks.reject(of, of, &error.to_string());
    }

    /// Drops the spans.
    pub(crate) fn drop_spans(self, reason: DropReason, error: Option<&Error>) {
        self.entry.drop_spans(reason, error);
    }

    /// Drops the spans, which the exporter never had, for a reason in the words of `error.type`.
    #[cfg(feature = "sdk")]
    pub(crate) fn drop_unstarted(
        mut self,
        reason: DropReason,
        error: Option<&Error>,
        error_type: &'static str,
    ) {
        let books = Arc::clone(&self.entry.books);
        let mut dropped = Unreported::new(&books, reason, error);
        dropped.error_type = error_type;
        self.entry.end(&mut dropped);
        dropped.report();
    }

    /// Drops the spans of several batches of one destination, with one report.
    pub(crate) fn drop_all(
        tokens: impl IntoIterator<Item = Self>,
        books: &Arc<Books>,
        reason: DropReason,
        error: Option<&Error>,
    ) -> Unreported {
        let mut dropped = Unreported::new(books, reason, error);
        for mut token in tokens {
            debug_assert!(Arc::ptr_eq(books, &token.entry.books));
            token.entry.end(&mut dropped);
        }
        dropped
    }

    /// Makes a token of each part of the batch. The parts have all its spans.
    #[cfg(test)]
    pub(crate) fn split(self, parts: Vec<Batch>) -> Vec<Self> {
        let mut entry = self.entry;
        debug_assert_eq!(entry.spans, parts.iter().map(Batch::spans).sum::<usize>());
        entry.recharge(parts.iter().map(Batch::own_memory).sum());
        entry.divide(parts)
    }
}

impl Entry {
    /// Reports the end of spans of an export, which are in the account already, and gives back their spans.
    fn report_end(
        mut self,
        delivery: &Delivery,
        rejected: u64,
        filtered: u64,
        unknown: u64,
    ) -> Option<Error> {
        let (spans, _) = self.take();
        let books = &*self.books;
        books.budget.give_back(0, spans);
        if let (Some(diagnostics), Some(server)) = (&books.diagnostics, &delivery.attempt.server) {
            diagnostics.note_server(server);
        }
        let mut error = None;
        if rejected > 0 || delivery.message.is_some() {
            let why = delivery.message.as_deref().unwrap_or("it does not say why");
            let rejection = match &delivery.attempt.server {
                Some(server) => {
                    let attempt = Attempt::default().with_server(Arc::clone(server));
                    Error::refused(why).with_attempt(attempt)
                }
                None => Error::refused(why),
            };
            books.report_rejected(rejected, &rejection);
            self.acks.reject(rejected, spans as u64, why);
            error = Some(rejection).filter(|_| rejected > 0);
        }
        books.report_dropped(DropReason::Filtered, filtered, None);
        if unknown > 0 {
            let silence = Error::internal("the exporter does not say what became of some spans");
            books.report_dropped(DropReason::Failed, unknown, Some(&silence));
            self.acks.drop_spans(DropReason::Failed, Some(&silence));
            error.get_or_insert(silence);
        }
        error
    }
}

/// Drops that are in the books and not in the log yet, because that is written with no lock held.
#[derive(Debug)]
#[must_use = "drops are logged by `report`"]
pub(crate) struct Unreported {
    books: Arc<Books>,
    reason: DropReason,
    spans: u64,
    /// Those that the exporter never had.
    unstarted: u64,
    error_type: &'static str,
    error: Option<Error>,
    acks: Vec<Acks>,
}

impl Unreported {
    fn new(books: &Arc<Books>, reason: DropReason, error: Option<&Error>) -> Self {
        Self {
            books: Arc::clone(books),
            reason,
            spans: 0,
            unstarted: 0,
            error_type: reason.as_str(),
            error: error.cloned(),
            acks: Vec::new(),
        }
    }

    /// Writes the log, calls hooks, the observer and the sources.
    pub(crate) fn report(self) {
        let error = self.error.as_ref();
        self.books.report_dropped(self.reason, self.spans, error);
        if let Some(observer) = self.books.observer.get()
            && self.unstarted > 0
        {
            observer.dropped_before(self.error_type, self.unstarted);
        }
        for acks in self.acks {
            acks.drop_spans(self.reason, error);
        }
    }
}
