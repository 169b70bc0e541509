//! What filters and changes make of a batch, and sending that.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use outspan_wire::otlp::Rewritten;
use outspan_wire::otlp::WireError;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Error;
use crate::Export;
use crate::Exporter;
use crate::Result;

/// Counts what a filter or a change has done. Clones show the same numbers.
///
/// They count each time a batch goes through: one that failed and comes again counts again.
#[derive(Clone, Default)]
pub struct EditCounts {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    dropped_spans: AtomicU64,
    changed_batches: AtomicU64,
    changed_attributes: AtomicU64,
}

impl EditCounts {
    /// How many spans were dropped.
    pub fn dropped_spans(&self) -> u64 {
        self.shared.dropped_spans.load(Ordering::Relaxed)
    }

    /// How many batches went on in another form than they came.
    pub fn changed_batches(&self) -> u64 {
        self.shared.changed_batches.load(Ordering::Relaxed)
    }

    /// How many attributes were removed, added, or got another key or value.
    pub fn changed_attributes(&self) -> u64 {
        self.shared.changed_attributes.load(Ordering::Relaxed)
    }

    fn add(&self, edited: &Edited) {
        let add = |counter: &AtomicU64, count: u64| counter.fetch_add(count, Ordering::Relaxed);
        add(&self.shared.dropped_spans, edited.filtered);
        add(&self.shared.changed_batches, 1);
        add(&self.shared.changed_attributes, edited.attributes);
    }
}

impl fmt::Debug for EditCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EditCounts")
            .field("dropped_spans", &self.dropped_spans())
            .field("changed_batches", &self.changed_batches())
            .field("changed_attributes", &self.changed_attributes())
            .finish()
    }
}

/// A batch after a filter or a change.
#[derive(Debug)]
pub(in crate::combinators) struct Edited {
    batch: Batch,
    filtered: u64,
    attributes: u64,
}

impl Edited {
    /// Takes what a rewriter made of `batch`; nothing if that is the same again, so that what the batch carries besides its
    /// bytes is kept.
    pub(in crate::combinators) fn new(batch: &Batch, rewritten: Rewritten) -> Option<Self> {
        if rewritten.bytes == *batch.as_request() {
            return None;
        }
        let attributes = rewritten.removed_attributes
            + rewritten.replaced_attributes
            + rewritten.added_attributes;
        Some(Self {
            filtered: batch.spans().saturating_sub(rewritten.spans) as u64,
            attributes: attributes as u64,
            batch: Batch::trusted(rewritten.bytes, rewritten.spans),
        })
    }
}

/// Sends what became of `batch`: `edited`, or the batch itself.
pub(in crate::combinators) async fn send_edited(
    inner: &Exporter,
    batch: Batch,
    edited: Option<Edited>,
    counts: &EditCounts,
    until: Deadline,
) -> Result<Delivery> {
    let Some(edited) = edited else {
        return inner.export(batch, until).await;
    };
    counts.add(&edited);
    if edited.filtered == 0 {
        return inner.export(edited.batch, until).await;
    }
    drop(batch);
    let kept = edited.batch;
    let mut delivery = match kept.is_empty() {
        true => Delivery::default(),
        false => {
            let sent = inner.export(kept.clone(), until).await;
            sent.unwrap_or_else(|error| Delivery::failed(kept, error))
        }
    };
    delivery.filtered += edited.filtered;
    Ok(delivery)
}

/// The error for a batch that no rewriter can read. A batch never holds such bytes.
pub(in crate::combinators) fn unreadable(error: WireError) -> Error {
    Error::internal("a batch cannot be rewritten").with_source(error)
}
