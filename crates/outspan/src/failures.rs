//! Spans of a batch that failed for good, kept as numbers until the batch is done.
//!
//! A batch that is sent in parts may have a thousand parts that fail, and each part repeats a resource that can
//! be as large as the batch. So no part is kept: spans are noted by their numbers, and are taken out of the batch at the
//! end. They come out with the error that each of them had, unless the copies of their resources would take much more memory
//! than the batch does; then those that failed alike come out together.

use std::ops::Range;

use crate::Batch;
use crate::Delivery;
use crate::Error;
use crate::Undelivered;

/// Notes spans that failed for good.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    failures: Vec<Failure>,
}

/// Spans that failed with one error, or with errors that are alike.
#[derive(Debug)]
struct Failure {
    error: Error,
    ranges: Vec<Range<usize>>,
    spans: usize,
}

impl Failures {
    /// So many errors are kept apart; each is a few hundred bytes.
    const APART_MAX: usize = 1024;

    /// Spans of more different errors join the last one, where the spans of an error become a batch with large resources.
    const LARGE_MAX: usize = 4;

    /// Notes spans, counted from 0 in the batch.
    pub(crate) fn add(&mut self, spans: Range<usize>, error: Error) {
        self.add_all(vec![spans], error);
    }

    /// Notes ranges of spans that failed with one error.
    pub(crate) fn add_all(&mut self, ranges: Vec<Range<usize>>, error: Error) {
        let spans = ranges.iter().map(Range::len).sum();
        let failure = Failure {
            error: match spans {
                0 | 1 if error.is_too_large() => error.for_each_span(),
                _ => error,
            },
            ranges,
            spans,
        };
        match self.failures.len() < Self::APART_MAX {
            true => self.failures.push(failure),
            false => join(&mut self.failures, failure, Self::APART_MAX),
        }
    }

    /// Leaves the spans in `total`, which has counted what their errors know of attempts and bytes.
    pub(crate) fn leave(self, batch: &Batch, total: &mut Delivery) {
        if self.failures.is_empty() {
            return;
        }
        for failure in self.grouped(batch) {
            let mut ranges = failure.ranges;
            // Halves are tried after what stood behind them.
            ranges.sort_unstable_by_key(|range| range.start);
            let mut error = failure.error;
            let others = failure.spans.saturating_sub(1);
            // What may be divided is not settled yet.
            if error.is_too_large() && !error.is_divisible() && others > 0 {
                error = error.with_new_context("too large as well", format!("{others} more spans"));
            }
            let batch = batch.cut_all(&ranges);
            total.rest.push(Undelivered { batch, error });
        }
    }

    fn grouped(self, batch: &Batch) -> Vec<Failure> {
        /// Small batches may be repeated more often.
        const BYTES_MIN: usize = 1 << 20;

        let apart = batch.parts_by_spans(1).total_bytes();
        if apart <= (4 * batch.size()).max(BYTES_MIN) {
            return self.failures;
        }
        let mut groups = Vec::new();
        for failure in self.failures {
            join(&mut groups, failure, Self::LARGE_MAX);
        }
        groups
    }
}

/// Adds a failure to one that is like it, or else to the others, of which there are `max` at most.
fn join(failures: &mut Vec<Failure>, failure: Failure, max: usize) {
    let is_full = failures.len() >= max;
    let alike = |known: &&mut Failure| are_alike(&known.error, &failure.error);
    let known = match failures
        .iter()
        .any(|known| are_alike(&known.error, &failure.error))
    {
        true => failures.iter_mut().rev().find(alike),
        false if is_full => failures.last_mut(),
        false => None,
    };
    let Some(known) = known else {
        failures.push(failure);
        return;
    };
    let (own, other) = (known.error.attempt(), failure.error.attempt());
    let attempt = own
        .clone()
        .with_attempts(own.attempts.saturating_add(other.attempts))
        .with_wire_bytes(own.wire_bytes.saturating_add(other.wire_bytes));
    let mut error = known.error.clone().with_attempt(attempt);
    // Parts that fit the smaller limit fit the larger one.
    if let Some(limit) = failure.error.limit() {
        error = error.with_limit(known.error.limit().map_or(limit, |own| own.min(limit)));
    }
    known.error = error;
    known.spans += failure.spans;
    for range in failure.ranges {
        match known.ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => known.ranges.push(range),
        }
    }
}

/// Whether two errors say the same, so that one of them can speak for the spans of both.
fn are_alike(one: &Error, other: &Error) -> bool {
    let same_kind = one.kind() == other.kind()
        && one.attempt().status == other.attempt().status
        && one.is_divisible() == other.is_divisible();
    same_kind && (one.is_too_large() || one.message() == other.message())
}
