//! The bound that everything in front of one exporter shares.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
#[cfg(any(feature = "sdk", test))]
use std::time::Duration;
#[cfg(any(feature = "sdk", test))]
use std::time::Instant;

use tokio::sync::Semaphore;

// `super` decides: the types of std here, those of shuttle in the models.
use super::sync::AtomicUsize;
use super::sync::Condvar;
use super::sync::Mutex;

/// How many bytes of the pool for forms one queue may hold, so that one whose destination hangs leaves some to the others.
#[cfg(feature = "_network")]
pub(crate) const QUEUE_POOL_BYTES: usize = 20 << 20;

/// Pools count in pieces of so many bytes, because a semaphore's numbers are small.
#[cfg(feature = "_network")]
pub(crate) const POOL_PIECE: usize = 1 << 10;

/// Makes a pool of so many bytes.
#[cfg(feature = "_network")]
pub(crate) fn forms_pool(bytes: usize) -> Semaphore {
    Semaphore::new(bytes / POOL_PIECE)
}

/// Counts bytes and spans against their bounds. Nothing is allocated ahead.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    spans_max: Option<usize>,
    bytes: AtomicUsize,
    spans: AtomicUsize,
    waiting: AtomicUsize,
    gate: Mutex<()>,
    freed: Condvar,
    /// What it may have of the memory for forms that all queues share.
    #[cfg(feature = "_network")]
    pool: Arc<Semaphore>,
    /// Held by the one export that has a part of its batch beyond the bound.
    part_turn: Arc<Semaphore>,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize, spans_max: Option<usize>) -> Self {
        Self {
            bytes_max,
            spans_max,
            bytes: AtomicUsize::new(0),
            spans: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            gate: Mutex::new(()),
            freed: Condvar::new(),
            #[cfg(feature = "_network")]
            pool: Arc::new(forms_pool(QUEUE_POOL_BYTES)),
            part_turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// What it may have of the memory for forms that all queues share.
    #[cfg(feature = "_network")]
    pub(crate) fn pool(&self) -> Arc<Semaphore> {
        Arc::clone(&self.pool)
    }

    /// Lets one export at a time have a part of its batch beyond the bound, where there is no room for it.
    pub(crate) fn part_turn(&self) -> Arc<Semaphore> {
        Arc::clone(&self.part_turn)
    }

    /// The bound of bytes.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// The bound of spans, if there is one.
    #[cfg(any(feature = "sdk", test))]
    pub(crate) fn spans_max(&self) -> Option<usize> {
        self.spans_max
    }

    /// How many bytes are taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many spans are taken, where they are bounded.
    #[cfg(test)]
    pub(crate) fn spans(&self) -> usize {
        self.spans.load(Ordering::Relaxed)
    }

    /// How many threads wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Whether so much fits in at all, be everything else gone.
    pub(crate) fn could_hold(&self, bytes: usize, spans: usize) -> bool {
        bytes <= self.bytes_max && self.spans_max.is_none_or(|spans_max| spans <= spans_max)
    }

    /// Takes bytes and spans, all or nothing.
    pub(crate) fn try_take(&self, bytes: usize, spans: usize) -> bool {
        if !self.try_take_spans(spans) {
            return false;
        }
        if take(&self.bytes, bytes, self.bytes_max) {
            return true;
        }
        self.give_back_spans(spans);
        false
    }

    fn try_take_spans(&self, spans: usize) -> bool {
        match self.spans_max {
            Some(spans_max) => take(&self.spans, spans, spans_max),
            None => true,
        }
    }

    /// Takes bytes and spans, waiting for at most `time` until there is room for them.
    ///
    /// Blocks the calling thread.
    #[cfg(any(feature = "sdk", test))]
    pub(crate) fn take_within(&self, bytes: usize, spans: usize, time: Duration) -> bool {
        if !self.could_hold(bytes, spans) {
            return false;
        }
        let began = Instant::now();
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        // Sequentially consistent against the giver: either it sees us waiting, or we see what it gave.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let taken = loop {
            if self.try_take(bytes, spans) {
                break true;
            }
            let Some(left) = time.checked_sub(began.elapsed()) else {
                break false;
            };
            let (next, _) = self
                .freed
                .wait_timeout(gate, left)
                .unwrap_or_else(PoisonError::into_inner);
            gate = next;
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        drop(gate);
        taken
    }

    /// Takes bytes for what is here already, bound or not: spans that changed their form.
    pub(crate) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Gives bytes and spans back.
    pub(crate) fn give_back(&self, bytes: usize, spans: usize) {
        give(&self.bytes, bytes);
        self.give_back_spans(spans);
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.freed.notify_all();
        drop(gate);
    }

    /// Replaces `before` taken spans by `after`, bound or not.
    pub(crate) fn exchange_spans(&self, before: usize, after: usize) {
        if self.spans_max.is_none() {
            return;
        }
        self.spans.fetch_add(after, Ordering::SeqCst);
        self.give_back(0, before);
    }

    fn give_back_spans(&self, spans: usize) {
        if self.spans_max.is_some() {
            give(&self.spans, spans);
        }
    }

    /// Replaces `before` taken bytes by `after`, bound or not.
    pub(crate) fn exchange(&self, before: usize, after: usize) {
        match after.checked_sub(before) {
            Some(0) => {}
            Some(more) => self.add(more),
            None => self.give_back(before - after, 0),
        }
    }
}

fn take(counter: &AtomicUsize, amount: usize, max: usize) -> bool {
    counter
        .fetch_update(Ordering::SeqCst, Ordering::Relaxed, |taken| {
            taken.checked_add(amount).filter(|sum| *sum <= max)
        })
        .is_ok()
}

fn give(counter: &AtomicUsize, amount: usize) {
    let before = counter.fetch_sub(amount, Ordering::SeqCst);
    debug_assert!(before >= amount, "gave back {amount} of {before}");
}
