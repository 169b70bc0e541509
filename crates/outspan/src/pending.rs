//! Spans that an exporter took and has not written yet.
//!
//! ```text
//!   exporter: Acks ──one()──▶ Ack, kept with the span ──delivered(), lost()──▶ outcome ──▶ listener: the account
//!                └──into_pending()──▶ PendingSpans, in the Delivery ──listen()──────────────────┘
//! ```
//!
//! An account counts such spans as in flight until their outcome is known, so that what it counts as delivered is written.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::DropReason;
use crate::Error;
use crate::Losses;

/// What became of pending spans.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) delivered: u64,
    pub(crate) lost: Losses,
    /// Why spans were lost.
    pub(crate) error: Option<Error>,
}

/// Makes the acks of one export.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    shared: Arc<Shared>,
    spans: u64,
}

/// Stands for spans that an exporter holds. Dropping it counts them as lost, so that none is forgotten.
#[derive(Debug)]
pub(crate) struct Ack {
    shared: Arc<Shared>,
    spans: u64,
}

/// The spans of a delivery that are not written yet.
#[derive(Clone, Debug)]
pub(crate) struct PendingSpans {
    shared: Arc<Shared>,
    spans: u64,
}

type Listener = Arc<dyn Fn(&Outcome) + Send + Sync>;

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What became known while nobody listened.
    unheard: Outcome,
    listener: Option<Listener>,
}

impl Outcome {
    fn merge(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.lost.merge(&other.lost);
        self.error = other.error.or(self.error.take());
    }

    /// Of how many spans it tells.
    pub(crate) fn spans(&self) -> u64 {
        self.delivered + self.lost.total()
    }
}

impl Acks {
    /// Makes the ack of one more span.
    pub(crate) fn one(&mut self) -> Ack {
        self.many(1)
    }

    fn many(&mut self, spans: u64) -> Ack {
        self.spans += spans;
        Ack {
            shared: Arc::clone(&self.shared),
            spans,
        }
    }

    /// Says for how many spans there are acks; nothing if there are none.
    pub(crate) fn into_pending(self) -> Option<PendingSpans> {
        (self.spans > 0).then_some(PendingSpans {
            shared: self.shared,
            spans: self.spans,
        })
    }
}

impl Ack {
    /// Adds the spans of another ack; gives it back if it is of another export.
    pub(crate) fn merge(&mut self, mut other: Self) -> Result<(), Self> {
        if !Arc::ptr_eq(&self.shared, &other.shared) {
            return Err(other);
        }
        self.spans += std::mem::take(&mut other.spans);
        Ok(())
    }

    /// The spans are written.
    pub(crate) fn delivered(mut self) {
        let delivered = std::mem::take(&mut self.spans);
        self.shared.tell(Outcome {
            delivered,
            ..Outcome::default()
        });
    }

    /// The spans will never be written.
    pub(crate) fn lost(mut self, reason: DropReason, error: Option<&Error>) {
        let spans = std::mem::take(&mut self.spans);
        self.shared.tell_lost(reason, spans, error);
    }

    fn end(mut self, outcome: Outcome) {
        self.spans = 0;
        self.shared.tell(outcome);
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        self.shared.tell_lost(DropReason::Failed, self.spans, None);
    }
}

impl PendingSpans {
    /// How many spans were not written when the export ended.
    pub(crate) fn spans(&self) -> u64 {
        self.spans
    }

    /// Calls `listener` with what became of the spans: with what is known now, and whenever more is.
    ///
    /// It is called on the thread that writes, and must not block. Its calls name each span once.
    pub(crate) fn listen(&self, listener: impl Fn(&Outcome) + Send + Sync + 'static) {
        let listener: Listener = Arc::new(listener);
        // Both under one lock: an outcome is either in `unheard` or goes to the listener.
        let known = {
            let mut state = self.shared.lock();
            state.listener = Some(Arc::clone(&listener));
            std::mem::take(&mut state.unheard)
        };
        if known.spans() > 0 {
            listener(&known);
        }
    }

    /// Puts together what several destinations hold of the same `spans` spans.
    ///
    /// Which spans the others lost is not known to anybody, so the outcome is told when all of them are done: what any of
    /// them lost is lost, the rest is delivered.
    pub(crate) fn join(each: Vec<Vec<Self>>, spans: u64) -> Vec<Self> {
        let mut each: Vec<_> = each.into_iter().filter(|of| !of.is_empty()).collect();
        if each.len() <= 1 {
            return each.pop().unwrap_or_default();
        }
        let sum = |of: &Vec<Self>| of.iter().map(Self::spans).sum::<u64>();
        let together = each.iter().map(sum).max().unwrap_or(0).min(spans);
        let mut acks = Acks::default();
        let waiting = Waiting {
            open: each.iter().map(sum).sum(),
            lost: Outcome::default(),
            ack: Some(acks.many(together)),
        };
        let waiting = Arc::new(Mutex::new(waiting));
        for pending in each.into_iter().flatten() {
            let waiting = Arc::clone(&waiting);
            pending.listen(move |outcome| {
                let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let done = waiting.note(outcome);
                // Not under the lock: a listener has locks of its own.
                drop(waiting);
                if let Some((ack, outcome)) = done {
                    ack.end(outcome);
                }
            });
        }
        acks.into_pending().into_iter().collect()
    }
}

/// What several destinations still hold of the same spans.
struct Waiting {
    open: u64,
    lost: Outcome,
    ack: Option<Ack>,
}

impl Waiting {
    fn note(&mut self, outcome: &Outcome) -> Option<(Ack, Outcome)> {
        self.open = self.open.saturating_sub(outcome.spans());
        self.lost.merge(Outcome {
            delivered: 0,
            ..outcome.clone()
        });
        if self.open > 0 {
            return None;
        }
        let ack = self.ack.take()?;
        let mut left = ack.spans;
        let mut together = Outcome {
            error: self.lost.error.take(),
            ..Outcome::default()
        };
        for (reason, spans) in self.lost.lost.iter() {
            let spans = spans.min(left);
            left -= spans;
            together.lost.add(reason, spans);
        }
        together.delivered = left;
        Some((ack, together))
    }
}

impl Shared {
    fn tell_lost(&self, reason: DropReason, spans: u64, error: Option<&Error>) {
        if spans == 0 {
            return;
        }
        let mut lost = Losses::default();
        lost.add(reason, spans);
        self.tell(Outcome {
            delivered: 0,
            lost,
            error: error.cloned(),
        });
    }

    fn tell(&self, outcome: Outcome) {
        let listener = {
            let mut state = self.lock();
            match &state.listener {
                Some(listener) => Arc::clone(listener),
                None => return state.unheard.merge(outcome),
            }
        };
        listener(&outcome);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("unheard", &self.lock().unheard)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds up what is heard.
    fn heard(pending: &PendingSpans) -> Arc<Mutex<Outcome>> {
        let sum = Arc::<Mutex<Outcome>>::default();
        let heard = Arc::clone(&sum);
        pending.listen(move |outcome| heard.lock().unwrap().merge(outcome.clone()));
        sum
    }

    #[test]
    fn outcomes_before_and_after_listening_are_told_once() {
        let mut acks = Acks::default();
        let (first, second, third) = (acks.one(), acks.one(), acks.one());
        first.delivered();
        let pending = acks.into_pending().unwrap();
        assert_eq!(pending.spans(), 3);
        let sum = heard(&pending);
        assert_eq!(sum.lock().unwrap().delivered, 1);
        second.lost(DropReason::Failed, None);
        drop(third);
        let sum = sum.lock().unwrap();
        assert_eq!((sum.delivered, sum.lost.of(DropReason::Failed)), (1, 2));
    }

    #[test]
    fn acks_of_one_export_are_put_together() {
        let mut acks = Acks::default();
        let mut ack = acks.one();
        ack.merge(acks.one()).unwrap();
        let other = Acks::default().one();
        let other = ack.merge(other).unwrap_err();
        let pending = acks.into_pending().unwrap();
        let sum = heard(&pending);
        ack.delivered();
        other.delivered();
        assert_eq!(sum.lock().unwrap().delivered, 2);
        assert!(Acks::default().into_pending().is_none());
    }

    #[test]
    fn joined_spans_are_delivered_when_every_destination_wrote_them() {
        let mut one = Acks::default();
        let mut other = Acks::default();
        let ones: Vec<_> = (0..3).map(|_| one.one()).collect();
        let others: Vec<_> = (0..3).map(|_| other.one()).collect();
        let each = [one, other].map(|acks| acks.into_pending().into_iter().collect());
        let joined = PendingSpans::join(each.into(), 3);
        assert_eq!(joined.iter().map(PendingSpans::spans).sum::<u64>(), 3);
        let sum = heard(&joined[0]);
        ones.into_iter().for_each(Ack::delivered);
        assert_eq!(sum.lock().unwrap().spans(), 0);
        for (place, ack) in others.into_iter().enumerate() {
            match place {
                0 => ack.lost(DropReason::Expired, None),
                _ => ack.delivered(),
            }
        }
        let sum = sum.lock().unwrap();
        assert_eq!((sum.delivered, sum.lost.of(DropReason::Expired)), (2, 1));
    }
}
