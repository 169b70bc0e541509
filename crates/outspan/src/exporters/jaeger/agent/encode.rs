//! What fits into no datagram: spans that are larger than one may be.

use crate::Batch;
use crate::Delivery;
use crate::Error;
use crate::failures::Failures;
use crate::net::fit_to_show;

/// How many spans that are too large are named, each by its own error.
const NAMED_MAX: usize = 100;

/// Collects the spans of a batch that fit into no datagram.
#[derive(Debug, Default)]
pub(super) struct Oversized {
    /// Their ordinals, ascending, with the bytes that each would need.
    spans: Vec<(usize, usize)>,
}

impl Oversized {
    /// Adds a span that comes behind those that are already here.
    pub(super) fn add(&mut self, ordinal: usize, bytes: usize) {
        self.spans.push((ordinal, bytes));
    }

    /// Leaves the spans in `total`, with one error for all of them: each by itself would repeat its resource.
    pub(super) fn leave(self, batch: &Batch, limit: usize, total: &mut Delivery) {
        let mut failures = Failures::default();
        for (number, (ordinal, bytes)) in self.spans.into_iter().enumerate() {
            let error = match number {
                ..NAMED_MAX => too_large(batch, ordinal, bytes, limit),
                // Looking for the name takes a walk over the batch, and a few names are enough.
                NAMED_MAX.. => Error::too_large(format!(
                    "a span needs a packet of {bytes} bytes, more than the limit of {limit}"
                ))
                .with_limit(limit as u64),
            };
            failures.add(ordinal..ordinal + 1, error);
        }
        failures.leave(batch, total);
    }
}

fn too_large(batch: &Batch, ordinal: usize, bytes: usize, limit: usize) -> Error {
    let span = batch.iter().nth(ordinal);
    let name = span.map(|span| fit_to_show(span.name(), &[]));
    Error::too_large(format!(
        "span \"{}\" needs a packet of {bytes} bytes, more than the limit of {limit}",
        name.unwrap_or_default()
    ))
    .with_limit(limit as u64)
}
