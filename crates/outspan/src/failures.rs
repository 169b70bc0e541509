//! Spans of a batch that failed for good, kept as numbers until the batch is done.
//!
//! An exporter that sends a batch in parts may have a thousand parts that fail, and each part repeats a resource that can
//! be as large as the batch. So no part is kept: spans are noted by their numbers, and those that failed alike are taken out
//! of the batch at the end, together.

use std::ops::Range;

use crate::Batch;
use crate::Delivery;
use crate::Error;

/// Notes spans that failed for good.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    failures: Vec<Failure>,
}

/// Spans that failed with errors that are alike.
#[derive(Debug)]
struct Failure {
    error: Error,
    ranges: Vec<Range<usize>>,
    spans: usize,
}

impl Failures {
    /// Spans of more different errors join the last one, because the spans of each become a batch, with their resources.
    const MAX: usize = 4;

    /// Notes spans, counted from 0 in the batch. The attempts of their error are added to `total`.
    pub(crate) fn add(&mut self, spans: Range<usize>, error: Error, total: &mut Delivery) {
        let count = spans.len();
        let is_full = self.failures.len() >= Self::MAX;
        let mut known = self.failures.iter_mut().rev();
        let alike = known.find(|failure| is_full || are_alike(&failure.error, &error));
        let Some(failure) = alike else {
            self.failures.push(Failure {
                error,
                ranges: vec![spans],
                spans: count,
            });
            return;
        };
        total.attempts += error.attempts();
        total.wire_bytes += error.wire_bytes();
        failure.spans += count;
        match failure.ranges.last_mut() {
            Some(last) if last.end == spans.start => last.end = spans.end,
            _ => failure.ranges.push(spans),
        }
    }

    /// Leaves the spans in `total`, those with the same error as one batch.
    pub(crate) fn leave(self, batch: &Batch, total: &mut Delivery) {
        for mut failure in self.failures {
            // Halves are tried after what stood behind them.
            failure.ranges.sort_unstable_by_key(|range| range.start);
            let mut error = failure.error;
            if error.is_too_large() {
                let others = failure.spans - 1;
                if others > 0 {
                    error = error.with_context("too large as well", format!("{others} more spans"));
                }
                error = error.for_each_span();
            }
            total.leave(batch.cut_all(&failure.ranges), error);
        }
    }
}

/// Whether two errors say the same, so that one of them can speak for the spans of both.
fn are_alike(one: &Error, other: &Error) -> bool {
    let same_kind = one.kind() == other.kind() && one.status() == other.status();
    same_kind && (one.is_too_large() || one.message() == other.message())
}
