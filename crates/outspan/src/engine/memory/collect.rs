//! What a queue in memory collects before its readers get it.

use std::sync::Arc;

use super::reader::MemoryReader;
use crate::Batch;
use crate::engine::Ack;
use crate::engine::BatchLimits;
use crate::engine::Merger;
use crate::engine::Permit;
use crate::engine::batcher::Collect;

/// What is pushed.
pub(super) struct Record {
    pub(super) batch: Batch,
    pub(super) permit: Permit,
    pub(super) ack: Ack,
}

/// Records that go to the same readers as one batch.
pub(super) struct Collected {
    limits: Option<BatchLimits>,
    pub(super) merger: Merger,
    /// Space for all of them, with the acks of their sources.
    pub(super) permit: Option<Permit>,
}

impl Collected {
    pub(super) fn new(limits: Option<BatchLimits>) -> Self {
        Self {
            limits,
            merger: Merger::default(),
            permit: None,
        }
    }

    /// Gives the readers what is collected, as one batch, or several if one record alone is too large.
    pub(super) fn deliver(self, readers: &[Arc<MemoryReader>]) {
        let Some(mut permit) = self.permit else {
            return;
        };
        let batches = match &self.limits {
            Some(limits) => self.merger.finish(limits),
            None => self.merger.into_pieces(),
        };
        let batches: Vec<_> = batches
            .into_iter()
            .filter(|batch| batch.spans() > 0)
            .collect();
        for (reader, entry) in readers.iter().zip(permit.take_entries()) {
            let Some(entry) = entry else {
                continue;
            };
            for tracked in entry.into_tracked(batches.clone()) {
                reader.queue.push(tracked);
            }
            // A batch may hold less than was reserved for its records.
            reader.shared.progress.send_replace(());
        }
    }
}

impl Collect for Collected {
    type Item = Record;

    fn fits(&self, record: &Record) -> bool {
        let same_readers = self
            .permit
            .as_ref()
            .is_none_or(|ours| ours.readers().eq(record.permit.readers()));
        let fits = |limits: &BatchLimits| self.merger.fits(&record.batch, limits);
        same_readers && self.limits.as_ref().is_some_and(fits)
    }

    fn put(&mut self, record: Record) {
        let Record {
            batch,
            mut permit,
            ack,
        } = record;
        for entry in permit.entries_mut() {
            entry.add_acks(ack.branch(batch.spans() as u64));
        }
        match &mut self.permit {
            Some(ours) => {
                // Of this queue and for the same readers, as `push` and `fits` saw to.
                let merged = ours.merge(permit);
                debug_assert!(merged.is_ok(), "a permit of another queue");
            }
            None => self.permit = Some(permit),
        }
        self.merger.put(batch);
    }

    fn is_full(&self) -> bool {
        let is_full = |limits: &BatchLimits| self.merger.is_full(limits);
        self.limits.as_ref().is_none_or(is_full)
    }
}
