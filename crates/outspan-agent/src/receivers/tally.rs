//! Counts requests, each exactly once.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::counters::TransportCounters;

/// Says what became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was accepted, in whole or in part.
    Accepted,
    /// It was refused for good.
    Refused,
    /// Its sender was told to come back.
    Deferred,
    /// There was no room for it, and its sender cannot be told.
    Dropped,
    /// It did not arrive in whole.
    Broken,
}

/// Notes what becomes of one request and its spans, and counts it when dropped.
///
/// A request that nobody said anything about was given up by its sender: it is broken.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    counters: &'a TransportCounters,
    pub(super) outcome: Outcome,
    pub(super) accepted_spans: usize,
    pub(super) refused_spans: usize,
    pub(super) deferred_spans: usize,
    pub(super) dropped_spans: usize,
    /// Bytes of the body, as they came.
    pub(super) bytes: usize,
    is_counted: bool,
}

impl<'a> Tally<'a> {
    pub(super) fn begin(counters: &'a TransportCounters) -> Self {
        Self {
            counters,
            outcome: Outcome::Broken,
            accepted_spans: 0,
            refused_spans: 0,
            deferred_spans: 0,
            dropped_spans: 0,
            bytes: 0,
            is_counted: false,
        }
    }

    /// Counts it now. To be called when nothing of it changes any more, although its answer may take long.
    pub(super) fn count(&mut self) {
        if std::mem::replace(&mut self.is_counted, true) {
            return;
        }
        let of = self.counters;
        let requests = match self.outcome {
            Outcome::Accepted => &of.accepted_requests,
            Outcome::Refused => &of.refused_requests,
            Outcome::Deferred => &of.deferred_requests,
            Outcome::Dropped => &of.dropped_requests,
            Outcome::Broken => &of.broken_requests,
        };
        requests.fetch_add(1, Ordering::Relaxed);
        add(&of.accepted_spans, self.accepted_spans);
        add(&of.refused_spans, self.refused_spans);
        add(&of.deferred_spans, self.deferred_spans);
        add(&of.dropped_spans, self.dropped_spans);
        add(&of.bytes, self.bytes);
    }

    /// Counts a request whose spans were accepted and whose sender is asked to retry.
    pub(super) fn count_unacknowledged(&self) {
        add(&self.counters.unacknowledged_requests, 1);
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.count();
    }
}

fn add(counter: &AtomicU64, more: usize) {
    if more > 0 {
        counter.fetch_add(more as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_nobody_spoke_about_is_broken() {
        let counters = TransportCounters::default();
        drop(Tally::begin(&counters));
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(read(&counters.broken_requests), 1);

        let mut tally = Tally::begin(&counters);
        tally.outcome = Outcome::Accepted;
        tally.accepted_spans = 3;
        tally.refused_spans = 1;
        tally.bytes = 50;
        drop(tally);
        assert_eq!(read(&counters.accepted_requests), 1);
        assert_eq!(read(&counters.broken_requests), 1);
        assert_eq!(
            (
                read(&counters.accepted_spans),
                read(&counters.refused_spans)
            ),
            (3, 1)
        );
        assert_eq!(read(&counters.bytes), 50);
    }
}
