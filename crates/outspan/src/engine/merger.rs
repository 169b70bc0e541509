//! Making large batches of small ones.

use std::time::Duration;

use tokio::time::Instant;

use crate::Batch;

/// Batches smaller than this are put together early, so that thousands of them do not cost an allocation each.
const SMALL: usize = 4096;

/// How many small batches are put together at a time.
const SMALL_PIECES: usize = 64;

/// Says how large batches get by merging, and how long they stay open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Spans a batch at most.
    pub spans: usize,
    /// Bytes a batch at most, uncompressed. A span that is larger by itself goes alone.
    pub bytes: usize,
    /// How long the first batch waits for others to go with.
    pub delay: Duration,
}

impl Default for BatchLimits {
    /// 8192 spans, as the Collector's batching has it; 3 MiB, which fits into the 4 MiB that gRPC servers take unless
    /// told; 200 ms.
    fn default() -> Self {
        Self {
            spans: 8192,
            bytes: 3 << 20,
            delay: Duration::from_millis(200),
        }
    }
}

/// Merges batches into larger ones, up to limits. Holds no more than one batch of that size and the piece that completes it.
///
/// # Examples
///
/// ```
/// use outspan::Batch;
/// use outspan::engine::BatchLimits;
/// use outspan::engine::Merger;
///
/// # fn merge(batches: Vec<Batch>) -> Vec<Batch> {
/// let limits = BatchLimits::default();
/// let mut merger = Merger::default();
/// let mut merged = Vec::new();
/// for batch in batches {
///     if !merger.fits(&batch, &limits) {
///         merged.extend(std::mem::take(&mut merger).finish(&limits));
///     }
///     merger.put(batch);
/// }
/// merged.extend(merger.finish(&limits));
/// # merged
/// # }
/// # merge(Vec::new());
/// ```
#[derive(Debug, Default)]
pub struct Merger {
    pieces: Vec<Batch>,
    /// How many pieces at the end are small.
    small: usize,
    bytes: usize,
    spans: usize,
    opened_at: Option<Instant>,
}

impl Merger {
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// When the first batch was put in, if one was.
    pub fn opened_at(&self) -> Option<Instant> {
        self.opened_at
    }

    /// Whether a batch fits in; an empty merger takes any.
    pub fn fits(&self, batch: &Batch, limits: &BatchLimits) -> bool {
        self.is_empty()
            || (self.bytes + batch.size() <= limits.bytes
                && self.spans + batch.spans() <= limits.spans)
    }

    /// Whether waiting for more makes no sense.
    pub fn is_full(&self, limits: &BatchLimits) -> bool {
        self.bytes >= limits.bytes || self.spans >= limits.spans
    }

    /// Adds a batch, whether it fits or not.
    pub fn put(&mut self, batch: Batch) {
        self.opened_at.get_or_insert_with(Instant::now);
        self.bytes += batch.size();
        self.spans += batch.spans();
        self.small = match batch.size() < SMALL {
            true => self.small + 1,
            false => 0,
        };
        self.pieces.push(batch);
        if self.small == SMALL_PIECES {
            let first = self.pieces.len() - SMALL_PIECES;
            let small = self.pieces.split_off(first);
            self.pieces.push(Batch::concatenate(&small));
            self.small = 0;
        }
    }

    /// Puts everything together: one batch, or several if one alone was beyond the limits.
    ///
    /// A batch that is beyond the limits stays whole if its parts would take much more memory than it does, because each of
    /// them repeats a large resource. Exporters split such a batch part by part.
    pub fn finish(self, limits: &BatchLimits) -> Vec<Batch> {
        if self.is_empty() {
            return Vec::new();
        }
        let whole = Batch::concatenate(&self.pieces);
        // The pieces are in it; without them there is one copy less while it is split.
        drop(self);
        whole.split_within(limits.bytes, limits.spans)
    }

    /// Returns what was put in, small pieces put together.
    pub(crate) fn into_pieces(self) -> Vec<Batch> {
        self.pieces
    }

    #[cfg(test)]
    pub(super) fn batches(&self) -> &[Batch] {
        &self.pieces
    }

    /// How many pieces it holds: never many more than large batches and 64 small ones.
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }
}
