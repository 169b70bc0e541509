//! Acknowledgements: what the source of spans learns of their end.
//!
//! ```text
//!   source: Ack::new(on_finish) ──▶ SpanQueue::push ──branch()──▶ one Acks a reader ──▶ merged, split, cloned with batches
//!                  ▲                                                                              │
//!                  └──────────── on_finish(AckOutcome), once, when the last of them is dropped ◀───┘
//! ```
//!
//! A span ends by being delivered, rejected or dropped, at every destination of its pipeline. Nothing has to be called when
//! spans are delivered: the end of the last clone says so. Rejections and drops are reported, and what is reported is never
//! better than the truth: where spans of several sources share a batch and it is not known whose spans were dropped, every
//! one of these sources is told that spans were dropped.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::DropReason;
use crate::Error;

/// Bytes that the acks of one source take for one destination: the callback, the outcome, and the entry in a batch.
/// Measured with the answers of an agent, which are the most numerous sources.
const SOURCE_BYTES: usize = 384;

/// When a source learns that its spans are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AckLevel {
    /// As soon as they are in the queue. Spans in memory are lost when the process is killed.
    #[default]
    Queued,
    /// When every destination that took them has delivered or rejected them.
    Delivered,
}

/// What became of the spans of one source, when none of them is held any more.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AckOutcome {
    /// How many spans were rejected for good that are certainly spans of this source: the largest number at any destination.
    pub rejected: u64,
    /// Why they were rejected, in the destination's own words.
    pub message: Option<String>,
    /// Why spans were dropped that are, or may be, spans of this source; `None` if none was.
    pub dropped: Option<Dropped>,
}

/// Why spans were dropped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dropped {
    /// The reason as it is counted.
    pub reason: DropReason,
    /// The last error, if there was one.
    pub error: Option<Error>,
}

/// Tells a source when none of its spans is held any more. Clones stand for the same spans.
#[derive(Clone, Default)]
pub struct Ack {
    shared: Option<Arc<Shared>>,
}

struct Shared {
    outcome: Mutex<AckOutcome>,
    on_finish: Mutex<Option<OnFinish>>,
}

type OnFinish = Box<dyn FnOnce(AckOutcome) + Send>;

impl Ack {
    /// Makes an ack for a source that does not wait: the level *queued*.
    pub fn none() -> Self {
        Self::default()
    }

    /// Makes an ack that calls `on_finish` once: when the last clone of it is dropped.
    ///
    /// It is called on the thread that finishes the last span, with no lock held, and must not block.
    pub fn new(on_finish: impl FnOnce(AckOutcome) + Send + 'static) -> Self {
        Self {
            shared: Some(Arc::new(Shared {
                outcome: Mutex::default(),
                on_finish: Mutex::new(Some(Box::new(on_finish))),
            })),
        }
    }

    /// Whether somebody waits for it.
    pub fn is_some(&self) -> bool {
        self.shared.is_some()
    }

    /// Makes the acks of one destination for all `spans` spans of the source.
    pub(crate) fn branch(&self, spans: u64) -> Acks {
        let Some(shared) = &self.shared else {
            return Acks::default();
        };
        let branch = Branch {
            source: Arc::clone(shared),
            rejected: Mutex::default(),
        };
        Acks {
            parts: vec![Part {
                branch: Arc::new(branch),
                spans: Some(spans),
            }],
        }
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = self.shared.as_ref().map(|shared| shared.lock().clone());
        f.debug_tuple("Ack").field(&outcome).finish()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, AckOutcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody else has it any more, so no lock is held while the source is told.
        let outcome = std::mem::take(&mut *self.lock());
        let on_finish = self
            .on_finish
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(on_finish) = on_finish.take() {
            on_finish(outcome);
        }
    }
}

/// The spans of one source at one destination.
struct Branch {
    source: Arc<Shared>,
    rejected: Mutex<u64>,
}

impl Branch {
    fn reject(&self, spans: u64, message: &str) {
        // The lock of the branch is let go before that of the source is taken.
        let sum = {
            let mut rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
            *rejected += spans;
            *rejected
        };
        let mut outcome = self.source.lock();
        outcome.rejected = outcome.rejected.max(sum);
        outcome.message = Some(message.to_owned());
    }

    fn drop_spans(&self, reason: DropReason, error: Option<&Error>) {
        let dropped = Dropped {
            reason,
            error: error.cloned(),
        };
        let mut outcome = self.source.lock();
        // The end of the process is no end for the spans of a source that keeps them, whatever other destinations dropped:
        // it does not acknowledge them.
        let is_at_shutdown = |known: &Dropped| known.reason == DropReason::Shutdown;
        if !outcome.dropped.as_ref().is_some_and(is_at_shutdown) {
            outcome.dropped = Some(dropped);
        }
    }
}

/// The acks of a batch: those of all sources that have spans in it.
#[derive(Clone, Default)]
pub(crate) struct Acks {
    parts: Vec<Part>,
}

#[derive(Clone)]
struct Part {
    branch: Arc<Branch>,
    /// How many spans of the batch are of this source; unknown after a batch of several sources was split.
    spans: Option<u64>,
}

impl Acks {
    /// Whether no source waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// How many bytes they take.
    pub(crate) fn memory(&self) -> usize {
        self.parts.len() * SOURCE_BYTES
    }

    /// How many bytes they take if other acks of the same sources stay.
    pub(crate) fn memory_of_copy(&self) -> usize {
        self.parts.len() * size_of::<Part>()
    }

    /// Adds the acks of another batch that is merged into this one.
    pub(crate) fn merge(&mut self, other: Self) {
        self.parts.extend(other.parts);
    }

    /// The acks of a part of `spans` spans of a batch of `of` spans.
    pub(crate) fn for_part(&self, spans: u64, of: u64) -> Self {
        let is_whole = spans == of;
        let is_alone = matches!(&self.parts[..], [only] if only.spans == Some(of));
        let parts = self.parts.iter().map(|part| Part {
            branch: Arc::clone(&part.branch),
            spans: match () {
                () if is_whole => part.spans,
                () if is_alone => Some(spans),
                () => None,
            },
        });
        Self {
            parts: parts.collect(),
        }
    }

    /// `spans` spans of a batch of `of` spans were rejected for good.
    ///
    /// A source hears of it if these are certainly its own: it is the only one in the batch, or all of the batch was
    /// rejected. Others have no part of their own that they could correct.
    pub(crate) fn reject(&self, spans: u64, of: u64, message: &str) {
        if spans == 0 {
            return;
        }
        for part in &self.parts {
            let Some(own) = part.spans else { continue };
            if spans == of {
                part.branch.reject(own, message);
            } else if own == of {
                part.branch.reject(spans, message);
            }
        }
    }

    /// Spans of the batch were dropped.
    pub(crate) fn drop_spans(&self, reason: DropReason, error: Option<&Error>) {
        for part in &self.parts {
            part.branch.drop_spans(reason, error);
        }
    }
}

impl fmt::Debug for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spans = self.parts.iter().map(|part| part.spans);
        f.debug_list().entries(spans).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = Arc<Mutex<Option<AckOutcome>>>;

    fn source() -> (Ack, Told) {
        let told = Told::default();
        let tell = Arc::clone(&told);
        let ack = Ack::new(move |outcome| *tell.lock().unwrap() = Some(outcome));
        (ack, told)
    }

    fn outcome(told: &Told) -> AckOutcome {
        told.lock().unwrap().clone().expect("the source was told")
    }

    #[test]
    fn source_is_told_when_the_last_clone_is_dropped() {
        let (ack, told) = source();
        let one = ack.branch(3);
        let other = ack.branch(3);
        drop(ack);
        drop(one.clone());
        drop(one);
        assert!(told.lock().unwrap().is_none());
        drop(other);
        assert_eq!(outcome(&told).rejected, 0);
        assert!(outcome(&told).dropped.is_none());
    }

    #[test]
    fn rejections_of_one_destination_add_up_and_those_of_two_do_not() {
        let (ack, told) = source();
        let (one, other) = (ack.branch(5), ack.branch(5));
        drop(ack);
        one.reject(1, 5, "first");
        one.for_part(2, 5).reject(2, 2, "second");
        other.reject(2, 5, "third");
        drop((one, other));
        let outcome = outcome(&told);
        assert_eq!(outcome.rejected, 3);
        assert_eq!(outcome.message.as_deref(), Some("third"));
    }

    #[test]
    fn spans_that_may_be_of_another_source_are_not_rejected() {
        let (one, told_one) = source();
        let (other, told_other) = source();
        let mut merged = one.branch(3);
        merged.merge(other.branch(2));
        drop((one, other));
        merged.reject(2, 5, "whose?");
        merged.for_part(2, 5).reject(2, 2, "whose?");
        drop(merged);
        assert_eq!(outcome(&told_one).rejected, 0);
        assert_eq!(outcome(&told_other).rejected, 0);
    }

    #[test]
    fn a_batch_that_is_rejected_whole_is_rejected_for_each_source() {
        let (one, told_one) = source();
        let (other, told_other) = source();
        let mut merged = one.branch(3);
        merged.merge(other.branch(2));
        drop((one, other));
        merged.for_part(5, 5).reject(5, 5, "no");
        drop(merged);
        assert_eq!(outcome(&told_one).rejected, 3);
        assert_eq!(outcome(&told_other).rejected, 2);
    }

    #[test]
    fn drop_at_shutdown_is_told_whatever_other_destinations_dropped() {
        let reasons = [DropReason::Expired, DropReason::Shutdown];
        for reasons in [reasons, [reasons[1], reasons[0]]] {
            let (ack, told) = source();
            let branches = reasons.map(|reason| (reason, ack.branch(2)));
            drop(ack);
            for (reason, branch) in branches {
                branch.drop_spans(reason, None);
            }
            let dropped = outcome(&told).dropped.expect("told");
            assert_eq!(dropped.reason, DropReason::Shutdown);
        }
    }

    #[test]
    fn drops_reach_every_source_that_may_have_lost_spans() {
        let (one, told_one) = source();
        let (other, told_other) = source();
        let mut merged = one.branch(3);
        merged.merge(other.branch(2));
        drop((one, other));
        let part = merged.for_part(1, 5);
        drop(merged);
        part.drop_spans(DropReason::Expired, None);
        drop(part);
        for told in [told_one, told_other] {
            let dropped = outcome(&told).dropped.expect("told");
            assert_eq!(dropped.reason, DropReason::Expired);
        }
    }
}
