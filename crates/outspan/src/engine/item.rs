//! A batch in the queue, with what the schedule knows of it.

use std::time::Duration;

use tokio::time::Instant;

use super::tracked::Completed;
use super::tracked::Tracked;
use crate::Delivery;
use crate::Error;
use crate::Result;

/// Where a batch goes in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Behind all that wait.
    Back,
    /// Among those that failed.
    Failed,
}

/// A batch in the queue.
// All fields but the first are `Copy`, so that parts can share them.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) tracked: Tracked,
    /// Its place in the order of arrival; the parts of a batch share it.
    pub(super) arrival: u64,
    /// Since when it waits behind others.
    pub(super) waits_since: Instant,
    /// Names its flight.
    pub(super) number: u64,
    /// When its first attempt began.
    pub(super) began: Option<Instant>,
    pub(super) attempts: u32,
    /// Those of the attempts that ended to give way to others.
    pub(super) turns: u32,
    /// Whether this flight finds out if the destination is back.
    pub(super) is_probe: bool,
    pub(super) place: Place,
    /// When the time of all its attempts together ends, if it ends.
    pub(super) expires_at: Option<Instant>,
    /// How many exports had succeeded when it failed last, or when its first attempt started.
    pub(super) successes: Option<u64>,
    /// Its own next wait, before it is spread, once it failed while others succeeded.
    pub(super) interval: Option<Duration>,
    /// Whether this attempt has less than half the time of a first one, because all attempts together have a limit.
    pub(super) is_cut_short: bool,
    /// Whether it was sent since the shutdown began.
    pub(super) is_sent_at_shutdown: bool,
}

impl Item {
    pub(super) fn new(tracked: Tracked, arrival: u64) -> Self {
        Self {
            tracked,
            arrival,
            waits_since: Instant::now(),
            number: 0,
            began: None,
            attempts: 0,
            turns: 0,
            is_probe: false,
            place: Place::Back,
            expires_at: None,
            successes: None,
            interval: None,
            is_cut_short: false,
            is_sent_at_shutdown: false,
        }
    }

    /// Ends the flight. Returns the parts that were not delivered, each with its error.
    pub(super) fn complete(self, answer: Result<Delivery>) -> (Completed, Vec<(Self, Error)>) {
        let mut completed = self.tracked.complete(answer);
        let mut parts = Vec::with_capacity(completed.rest.len());
        for (tracked, error) in completed.rest.drain(..) {
            parts.push((Self { tracked, ..self }, error));
        }
        (completed, parts)
    }

    /// What has to be sent again.
    pub(super) fn failed(mut self) -> Self {
        self.tracked.retry();
        self.place = Place::Failed;
        self
    }

    /// What was not sent because it takes long: others go first.
    pub(super) fn later(mut self, gives_way: bool) -> Self {
        self.tracked.retry();
        self.turns += u32::from(gives_way);
        self.place = Place::Back;
        self.successes = None;
        self
    }

    pub(super) fn spans(&self) -> u64 {
        self.tracked.spans()
    }
}
