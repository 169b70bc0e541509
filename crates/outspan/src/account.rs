//! The account of spans that closes at all times.

use std::fmt;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::Drained;
use crate::DropReason;
use crate::Error;
use crate::Losses;
use crate::pending::Outcome;

/// Says where every span is that was handed over:
/// `received = delivered + refused + dropped + queued + in_flight`, at all times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// Spans handed over.
    pub received: u64,
    /// Spans that the destination acknowledged, or that are written.
    pub delivered: u64,
    /// Spans that the destination refused for good.
    pub refused: u64,
    /// Spans that were dropped, by reason.
    pub dropped: Losses,
    /// Spans that wait.
    pub queued: u64,
    /// Spans in exports that have begun and not ended, waits between attempts included, and spans that an exporter took and
    /// has not written yet.
    pub in_flight: u64,
}

impl Account {
    /// Whether the account closes.
    pub fn closes(&self) -> bool {
        self.received
            == self.delivered + self.refused + self.dropped.total() + self.queued + self.in_flight
    }

    /// Adds another account.
    pub(crate) fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.delivered += other.delivered;
        self.refused += other.refused;
        self.dropped.merge(&other.dropped);
        self.queued += other.queued;
        self.in_flight += other.in_flight;
    }

    /// What became of spans since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Drained {
        let mut lost = Losses::default();
        for reason in DropReason::ALL {
            lost.add(reason, self.dropped.of(reason) - earlier.dropped.of(reason));
        }
        Drained {
            // Less than before if spans of before turned out to be lost.
            delivered: self.delivered.saturating_sub(earlier.delivered),
            refused: self.refused - earlier.refused,
            lost,
            ..Drained::default()
        }
    }

    /// Moves spans that were acknowledged, and lost or refused after that, to where they belong.
    ///
    /// Exporters of ours that hold spans say so ([`PendingSpans`](crate::pending::PendingSpans)), and nothing of theirs is
    /// moved here. It remains for a user's exporter that acknowledges spans and loses them later.
    fn take_back(&mut self, late: &Drained) {
        // An exporter of the user's may count wrongly. The account closes all the same.
        let refused = late.refused.min(self.delivered);
        self.delivered -= refused;
        self.refused += refused;
        for (reason, spans) in late.lost.iter() {
            let spans = spans.min(self.delivered);
            self.delivered -= spans;
            self.dropped.add(reason, spans);
        }
    }

    /// How many spans have not come to an end yet.
    pub fn open(&self) -> u64 {
        self.queued + self.in_flight
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "received {} = delivered {} + refused {} + dropped {} ({}) + queued {} + in flight {}",
            self.received,
            self.delivered,
            self.refused,
            self.dropped.total(),
            self.dropped,
            self.queued,
            self.in_flight,
        )
    }
}

/// An account that several threads change, one whole step at a time, so that every reading closes.
///
/// Only the transitions of [`engine::tracked`](crate::engine) change it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    numbers: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    account: Account,
    /// How many of the spans in flight are pending: an exporter took them and has not written them yet.
    pending: u64,
    /// Pending spans that were lost, and of which no flush or shutdown has told yet. It tells of them once, and they are in
    /// the account already.
    lost: Losses,
    /// Why the last of them were lost.
    lost_error: Option<Error>,
}

impl Ledger {
    /// Reads the account.
    pub(crate) fn read(&self) -> Account {
        self.lock().account
    }

    /// Makes one step. A step changes several numbers, so it happens under one lock.
    pub(crate) fn step(&self, change: impl FnOnce(&mut Account)) {
        let mut numbers = self.lock();
        change(&mut numbers.account);
        debug_assert!(numbers.account.closes(), "{}", numbers.account);
    }

    /// Notes that so many of the spans in flight are pending.
    pub(crate) fn add_pending(&self, spans: u64) {
        self.lock().pending += spans;
    }

    /// How many spans an exporter took and has not written yet.
    pub(crate) fn pending(&self) -> u64 {
        self.lock().pending
    }

    /// Books what became of pending spans.
    pub(crate) fn end_pending(&self, outcome: &Outcome) {
        let mut numbers = self.lock();
        let delivered = outcome.delivered.min(numbers.pending);
        numbers.pending -= delivered;
        numbers.account.in_flight -= delivered;
        numbers.account.delivered += delivered;
        for (reason, spans) in outcome.lost.iter() {
            // Nothing is pending any more after a shutdown that could not wait.
            let spans = spans.min(numbers.pending);
            numbers.pending -= spans;
            numbers.account.in_flight -= spans;
            numbers.account.dropped.add(reason, spans);
            numbers.lost.add(reason, spans);
        }
        numbers.lost_error = outcome.error.clone().or(numbers.lost_error.take());
        debug_assert!(numbers.account.closes(), "{}", numbers.account);
    }

    /// Why the last pending spans were lost, if any were since the last call.
    pub(crate) fn take_lost_error(&self) -> Option<Error> {
        self.lock().lost_error.take()
    }

    /// Counts every pending span as lost at shutdown. What becomes known of them later changes nothing.
    pub(crate) fn abandon_pending(&self) {
        let mut outcome = Outcome::default();
        outcome.lost.add(DropReason::Shutdown, self.pending());
        self.end_pending(&outcome);
    }

    /// Takes the losses of pending spans of which no flush or shutdown has told.
    pub(crate) fn take_untold(&self) -> Losses {
        std::mem::take(&mut self.lock().lost)
    }

    /// Books what a flush or a shutdown tells of spans that had been acknowledged, except what is booked already.
    pub(crate) fn take_back(&self, told: &Drained) {
        let mut numbers = self.lock();
        let mut new = told.clone();
        for (reason, spans) in told.lost.iter() {
            let known = spans.min(numbers.lost.of(reason));
            numbers.lost.remove(reason, known);
            new.lost.remove(reason, known);
        }
        numbers.account.take_back(&new);
        debug_assert!(numbers.account.closes(), "{}", numbers.account);
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Spans were handed over and wait.
    pub(crate) fn queue(&self, spans: u64) {
        self.step(|a| {
            a.received += spans;
            a.queued += spans;
        });
    }

    /// Spans were handed over and dropped at once.
    pub(crate) fn turn_away(&self, reason: DropReason, spans: u64) {
        self.step(|a| {
            a.received += spans;
            a.dropped.add(reason, spans);
        });
    }
}
