//! The parts in which the next export sends a batch.

use std::ops::Range;

/// A note on a batch that an exporter found too large: in which parts to send it, and in which order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The exporter that found the batch too large. Others send it whole.
    exporter: u64,
    /// Each span is in exactly one part.
    parts: Vec<Range<usize>>,
}

impl Plan {
    /// Makes the plan of the exporter with this number. `parts` holds each span of the batch once.
    pub(crate) fn new(exporter: u64, parts: Vec<Range<usize>>) -> Self {
        Self { exporter, parts }
    }

    /// Whether the exporter with this number made it.
    pub(crate) fn is_for(&self, exporter: u64) -> bool {
        self.exporter == exporter
    }

    /// The parts as ranges of span numbers, counted from 0, in the order in which they are sent.
    pub(crate) fn parts(&self) -> &[Range<usize>] {
        &self.parts
    }
}
