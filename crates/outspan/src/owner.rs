//! Owners of something that closes when the last of them leaves.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

// `super` decides: the types of std here, those of shuttle in the models.
use super::sync::AtomicBool;
use super::sync::AtomicUsize;

/// One of the owners. It leaves once.
#[derive(Debug)]
pub(crate) struct Owner {
    /// How many have not left. Once it is 0, it stays 0.
    count: Arc<AtomicUsize>,
    has_left: AtomicBool,
    /// Whether it was the last one when it left. Written once, after `has_left`.
    was_last: OnceLock<bool>,
}

impl Owner {
    /// Makes the first owner.
    pub(crate) fn first() -> Self {
        Self {
            count: Arc::new(AtomicUsize::new(1)),
            has_left: AtomicBool::new(false),
            was_last: OnceLock::new(),
        }
    }

    /// Makes another owner. It has left already if this one has, or if no owner is left.
    pub(crate) fn another(&self) -> Self {
        // Another thread may make the last owner leave just now: then there is nothing left to own. The count must not go up
        // from 0, so the check and the step are one.
        let is_owner = !self.has_left()
            && self
                .count
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                    (count > 0).then_some(count + 1)
                })
                .is_ok();
        Self {
            count: Arc::clone(&self.count),
            has_left: AtomicBool::new(!is_owner),
            was_last: OnceLock::new(),
        }
    }

    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    /// Leaves, and says whether it was the last owner. Later calls get the same answer.
    ///
    /// Two calls must not run at once.
    pub(crate) fn leave(&self) -> bool {
        if self.has_left.swap(true, Ordering::AcqRel) {
            // One that is made after the end never was an owner.
            return self.was_last.get().copied().unwrap_or(false);
        }
        let is_last = self.count.fetch_sub(1, Ordering::AcqRel) == 1;
        *self.was_last.get_or_init(|| is_last)
    }
}
