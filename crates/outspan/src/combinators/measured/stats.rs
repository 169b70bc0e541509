//! What a measured exporter did, in numbers.

use std::fmt;
use std::time::Duration;

use super::outcome::End;
use super::outcome::Outcome;
use crate::ErrorKind;

/// Every kind of error, in the order in which they are shown.
pub(super) const KINDS: [ErrorKind; 8] = [
    ErrorKind::Config,
    ErrorKind::Refused,
    ErrorKind::TooLarge,
    ErrorKind::Unavailable,
    ErrorKind::Throttled,
    ErrorKind::Timeout,
    ErrorKind::ShutDown,
    ErrorKind::Internal,
];

/// Holds what a [`Measured`](super::Measured) exporter did, read in one step, so that both accounts close in every reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// What became of exports.
    pub exports: ExportCounts,
    /// What became of their spans.
    pub spans: SpanCounts,
    /// Attempts that exports have made, as far as the exporter inside tells: those of a retry inside are among them.
    pub attempts: u64,
    /// Bytes of the batches of exports that have begun, in protobuf form and uncompressed; each batch once.
    pub bytes: u64,
    /// Bytes of payload that went over the wire, compressed if they were, those of failed attempts included. Exporters that
    /// send nothing over a network, and exports that were cancelled, tell of none.
    pub wire_bytes: u64,
    /// How long exports took from beginning to end, attempts and waits together, those that were cancelled included.
    pub durations: Durations,
}

/// Counts exports: `begun = succeeded + incomplete + failed + cancelled + in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportCounts {
    /// Exports that have begun.
    pub begun: u64,
    /// Those that ended with every span accepted, apart from those that a filter inside dropped on request.
    pub succeeded: u64,
    /// Those of which something was accepted or refused, and not everything accepted.
    pub incomplete: u64,
    /// Those of which nothing was delivered, by kind of error.
    pub failed: Failures,
    /// Those whose future was dropped before its end, or that panicked.
    pub cancelled: u64,
    /// Those that have not ended.
    pub in_flight: u64,
}

/// Counts spans: `received = delivered + refused + filtered + failed + cancelled + in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpanCounts {
    /// Spans of exports that have begun.
    pub received: u64,
    /// Spans that were accepted.
    pub delivered: u64,
    /// Spans that the destination refused for good out of batches that it took (OTLP partial success).
    pub refused: u64,
    /// Spans that a filter inside dropped on request.
    pub filtered: u64,
    /// Spans that were not delivered, by kind of error.
    pub failed: Failures,
    /// Spans of exports whose future was dropped, or that panicked: they may have arrived.
    pub cancelled: u64,
    /// Spans of exports that have not ended.
    pub in_flight: u64,
}

/// Counts by kind of error.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures {
    counts: [u64; KINDS.len()],
}

/// Counts how long exports took, in buckets whose bounds are the same everywhere, so that counts of several exporters,
/// processes and versions can be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    counts: [u64; Self::BOUNDS.len() + 1],
    sum: Duration,
}

impl Stats {
    /// Whether both accounts close.
    pub fn closes(&self) -> bool {
        self.exports.closes() && self.spans.closes()
    }

    /// What was added since `earlier`, a reading of the same exporter. What is in flight is what is in flight now; so the
    /// accounts of a difference do not close.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let (exports, spans) = (&self.exports, &self.spans);
        Self {
            exports: ExportCounts {
                begun: less(exports.begun, earlier.exports.begun),
                succeeded: less(exports.succeeded, earlier.exports.succeeded),
                incomplete: less(exports.incomplete, earlier.exports.incomplete),
                failed: exports.failed.since(&earlier.exports.failed),
                cancelled: less(exports.cancelled, earlier.exports.cancelled),
                in_flight: exports.in_flight,
            },
            spans: SpanCounts {
                received: less(spans.received, earlier.spans.received),
                delivered: less(spans.delivered, earlier.spans.delivered),
                refused: less(spans.refused, earlier.spans.refused),
                filtered: less(spans.filtered, earlier.spans.filtered),
                failed: spans.failed.since(&earlier.spans.failed),
                cancelled: less(spans.cancelled, earlier.spans.cancelled),
                in_flight: spans.in_flight,
            },
            attempts: less(self.attempts, earlier.attempts),
            bytes: less(self.bytes, earlier.bytes),
            wire_bytes: less(self.wire_bytes, earlier.wire_bytes),
            durations: self.durations.since(&earlier.durations),
        }
    }

    /// An export begins.
    pub(super) fn begin(&mut self, spans: u64, bytes: u64) {
        self.exports.begun += 1;
        self.exports.in_flight += 1;
        self.spans.received += spans;
        self.spans.in_flight += spans;
        self.bytes += bytes;
    }

    /// An export of `spans` spans has ended, however it did.
    pub(super) fn end(&mut self, spans: u64, outcome: &Outcome<'_>, elapsed: Duration) {
        self.exports.in_flight -= 1;
        match outcome.end {
            End::Succeeded => self.exports.succeeded += 1,
            End::Incomplete => self.exports.incomplete += 1,
            End::Failed(kind) => self.exports.failed.add(kind, 1),
            End::Cancelled => self.exports.cancelled += 1,
        }
        self.spans.in_flight -= spans;
        self.spans.delivered += outcome.delivered;
        self.spans.refused += outcome.refused;
        self.spans.filtered += outcome.filtered;
        self.spans.failed.merge(&outcome.failed);
        self.spans.cancelled += outcome.cancelled;
        // What an exporter of a user tells can be any number.
        self.attempts = self.attempts.saturating_add(outcome.attempts.into());
        self.wire_bytes = self.wire_bytes.saturating_add(outcome.wire_bytes);
        self.durations.add(elapsed);
        debug_assert!(self.closes(), "{self:?}");
    }
}

impl ExportCounts {
    /// Whether the account closes.
    pub fn closes(&self) -> bool {
        self.begun == self.ended() + self.in_flight
    }

    /// How many have ended, however they did.
    pub fn ended(&self) -> u64 {
        self.succeeded + self.incomplete + self.failed.total() + self.cancelled
    }
}

impl SpanCounts {
    /// Whether the account closes.
    pub fn closes(&self) -> bool {
        self.received == self.delivered + self.filtered + self.missed() + self.in_flight
    }

    /// How many were refused, failed or cancelled.
    pub fn missed(&self) -> u64 {
        self.refused + self.failed.total() + self.cancelled
    }
}

impl Failures {
    /// How many there were of this kind.
    pub fn of(&self, kind: ErrorKind) -> u64 {
        self.counts[place(kind)]
    }

    /// How many there were in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The kinds that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (ErrorKind, u64)> + '_ {
        KINDS
            .into_iter()
            .map(|kind| (kind, self.of(kind)))
            .filter(|(_, count)| *count > 0)
    }

    /// Adds other counts to these.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
    }

    pub(super) fn add(&mut self, kind: ErrorKind, count: u64) {
        self.counts[place(kind)] += count;
    }

    fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        for (count, before) in counts.iter_mut().zip(earlier.counts) {
            *count = less(*count, before);
        }
        Self { counts }
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total() == 0 {
            return f.write_str("nothing");
        }
        for (i, (kind, count)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{count} {kind}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Durations {
    /// The upper bounds of the buckets in seconds, each of which belongs to its bucket; one more bucket takes what is
    /// longer. They reach from an answer on the same machine to the minute that a retry goes on by default.
    pub const BOUNDS: [f64; 15] = [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    ];

    /// How many exports each bucket counts, not those of the buckets before it. The last one is for those that took longer
    /// than every bound.
    pub fn buckets(&self) -> &[u64] {
        &self.counts
    }

    /// How many exports are counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long all of them took together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// How long they took on average; nothing without an export.
    pub fn mean(&self) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        Some(Duration::from_secs_f64(
            self.sum.as_secs_f64() / count as f64,
        ))
    }

    /// The smallest bound within which at least this part (0 to 1) of the exports ended: `within(0.99)` bounds the 99th
    /// percentile from above. Nothing without an export, or if no bound is large enough.
    pub fn within(&self, part: f64) -> Option<Duration> {
        let wanted = self.count() as f64 * part.clamp(0.0, 1.0);
        let mut counted = 0;
        for (bound, count) in Self::BOUNDS.into_iter().zip(self.counts) {
            counted += count;
            if counted > 0 && counted as f64 >= wanted {
                return Some(Duration::from_secs_f64(bound));
            }
        }
        None
    }

    /// Adds other counts to these.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    fn add(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < seconds);
        // Invariant: there is one bucket more than there are bounds.
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(duration);
    }

    fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        for (count, before) in counts.iter_mut().zip(earlier.counts) {
            *count = less(*count, before);
        }
        Self {
            counts,
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }
}

/// Where a kind stands in [`KINDS`].
fn place(kind: ErrorKind) -> usize {
    match kind {
        ErrorKind::Config => 0,
        ErrorKind::Refused => 1,
        ErrorKind::TooLarge => 2,
        ErrorKind::Unavailable => 3,
        ErrorKind::Throttled => 4,
        ErrorKind::Timeout => 5,
        ErrorKind::ShutDown => 6,
        ErrorKind::Internal => 7,
    }
}

/// A difference that is 0 where the readings are the wrong way round.
fn less(now: u64, before: u64) -> u64 {
    now.saturating_sub(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durations(millis: &[u64]) -> Durations {
        let mut durations = Durations::default();
        for millis in millis {
            durations.add(Duration::from_millis(*millis));
        }
        durations
    }

    #[test]
    fn every_kind_has_a_place_of_its_own() {
        for (i, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(place(kind), i, "{kind}");
        }
    }

    #[test]
    fn failures_add_up_and_say_why() {
        let mut failures = Failures::default();
        assert_eq!(failures.to_string(), "nothing");
        failures.add(ErrorKind::Timeout, 3);
        failures.add(ErrorKind::Unavailable, 2);
        let mut twice = failures;
        twice.merge(&failures);
        assert_eq!(twice.to_string(), "4 unavailable, 6 timeout");
        assert_eq!((twice.total(), twice.of(ErrorKind::Timeout)), (10, 6));
        assert_eq!(twice.since(&failures), failures);
    }

    #[test]
    fn a_duration_belongs_to_the_smallest_bound_that_is_not_below_it() {
        assert!(Durations::BOUNDS.is_sorted());
        let durations = durations(&[0, 1, 2, 10, 11, 60_000, 60_001]);
        let buckets = durations.buckets();
        assert_eq!(buckets[0], 2, "0 and 1 ms");
        assert_eq!(buckets[1], 1, "2 ms");
        assert_eq!(buckets[3], 1, "10 ms");
        assert_eq!(buckets[4], 1, "11 ms");
        assert_eq!(buckets[14], 1, "a minute");
        assert_eq!(buckets[15], 1, "more than a minute");
        assert_eq!(durations.count(), 7);
    }

    #[test]
    fn means_and_percentiles_come_from_what_was_counted() {
        assert_eq!(Durations::default().mean(), None);
        assert_eq!(Durations::default().within(0.5), None);
        let mut all = durations(&[4; 99]);
        assert_eq!(all.mean(), Some(Duration::from_millis(4)));
        all.merge(&durations(&[90_000]));
        assert_eq!(all.within(0.0), Some(Duration::from_millis(5)));
        assert_eq!(all.within(0.99), Some(Duration::from_millis(5)));
        assert_eq!(all.within(1.0), None, "longer than every bound");
        assert_eq!(all.sum(), Duration::from_millis(4 * 99 + 90_000));
        assert_eq!(all.since(&durations(&[4; 99])), durations(&[90_000]));
    }
}
