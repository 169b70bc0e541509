//! The account of spans that closes at all times.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::Drained;
use crate::DropReason;
use crate::Losses;

/// Says where every span is that was handed over:
/// `received = delivered + refused + dropped + queued + in_flight`, at all times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// Spans handed over.
    pub received: u64,
    /// Spans that the destination acknowledged.
    pub delivered: u64,
    /// Spans that the destination refused for good.
    pub refused: u64,
    /// Spans that were dropped, by reason.
    pub dropped: Losses,
    /// Spans that wait.
    pub queued: u64,
    /// Spans in exports that have begun and not ended, waits between attempts included.
    pub in_flight: u64,
}

impl Account {
    /// Whether the account closes.
    pub fn closes(&self) -> bool {
        self.received
            == self.delivered + self.refused + self.dropped.total() + self.queued + self.in_flight
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
    pub(crate) fn take_back(&mut self, late: &Drained) {
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
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    account: Mutex<Account>,
}

impl Ledger {
    /// Reads the account.
    pub(crate) fn read(&self) -> Account {
        *self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one step. A step changes several numbers, so it happens under one lock.
    pub(crate) fn step(&self, change: impl FnOnce(&mut Account)) {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut account);
        debug_assert!(account.closes(), "{account}");
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
