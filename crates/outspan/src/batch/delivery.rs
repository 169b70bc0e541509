//! What an export achieved.

use std::sync::Arc;

use crate::Attempt;
use crate::Batch;
use crate::Error;
use crate::pending::PendingSpans;

/// Says what became of a batch: accepted, refused, filtered, or left over.
///
/// `accepted + refused + filtered + the spans of rest` is the number of spans of the batch. A destination that refuses some
/// spans (OTLP partial success) is a delivery, not an error; a batch of which nothing was delivered is an error.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Delivery {
    /// Spans that the destination acknowledged, or that the exporter took to write them later.
    pub accepted: u64,
    /// Spans that the destination refused for good.
    pub refused: u64,
    /// Spans that a filter dropped on request, so that no destination saw them.
    pub filtered: u64,
    /// The destination's own words: why it refused, or a warning when it refused nothing.
    pub message: Option<String>,
    /// The parts that were not delivered, each with its error. A retry sends only these.
    pub rest: Vec<Undelivered>,
    /// What was measured: attempts, bytes, the status and the address of the destination. Failed attempts are included.
    pub attempt: Attempt,
    /// The name of the destination that took it, where a combinator chose between several.
    pub destination: Option<Arc<str>>,
    /// Those of the accepted spans that are not written yet.
    pub(crate) pending: Vec<PendingSpans>,
}

/// A part of a batch that was not delivered, and why.
#[derive(Clone, Debug)]
pub struct Undelivered {
    /// The part.
    pub batch: Batch,
    /// Why it was not delivered.
    pub error: Error,
}

impl Delivery {
    /// Makes the delivery of a whole batch, in one attempt.
    pub fn of(batch: &Batch) -> Self {
        Self {
            accepted: batch.spans() as u64,
            attempt: Attempt::one(),
            ..Self::default()
        }
    }

    /// Makes the delivery of a batch of which the destination refused `refused` spans for good.
    ///
    /// A destination cannot refuse more than it got: larger numbers count as all.
    pub fn partial(batch: &Batch, refused: u64, message: impl Into<String>) -> Self {
        let spans = batch.spans() as u64;
        let refused = refused.min(spans);
        let message = message.into();
        Self {
            accepted: spans - refused,
            refused,
            message: Some(message).filter(|message| !message.is_empty()),
            attempt: Attempt::one(),
            ..Self::default()
        }
    }

    /// Makes the delivery of nothing: the whole batch is left, with its error.
    pub fn failed(batch: Batch, error: Error) -> Self {
        let mut delivery = Self::default();
        delivery.leave(batch, error);
        delivery
    }

    /// Sets what was measured, in place of what was set before.
    #[must_use]
    pub fn with_attempt(self, attempt: Attempt) -> Self {
        Self { attempt, ..self }
    }

    /// Whether every span was accepted, apart from those that were to be filtered.
    pub fn is_complete(&self) -> bool {
        self.refused == 0 && self.rest.is_empty()
    }

    /// Takes what is pending of the accepted spans, and how many those are.
    ///
    /// Nothing is pending where more would be than was accepted: a combinator inside counts in another way.
    pub(crate) fn take_pending(&mut self) -> (Vec<PendingSpans>, u64) {
        let pending = std::mem::take(&mut self.pending);
        let spans = pending.iter().map(PendingSpans::spans).sum();
        match spans <= self.accepted {
            true => (pending, spans),
            false => (Vec::new(), 0),
        }
    }

    /// How many spans were not delivered, not refused and not filtered.
    pub fn undelivered(&self) -> u64 {
        self.rest.iter().map(|part| part.batch.spans() as u64).sum()
    }

    /// Adds a part that was not delivered, and what was measured with its error.
    pub fn leave(&mut self, batch: Batch, error: Error) {
        self.count(&error);
        self.rest.push(Undelivered { batch, error });
    }

    /// Adds what was measured with an error.
    pub(crate) fn count(&mut self, error: &Error) {
        self.attempt.absorb(error.attempt());
    }

    /// Adds what another call for another part achieved.
    pub fn absorb(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.filtered += other.filtered;
        self.attempt.absorb(&other.attempt);
        self.message = other.message.or(self.message.take());
        self.destination = other.destination.or(self.destination.take());
        self.rest.extend(other.rest);
        self.pending.extend(other.pending);
    }

    /// Turns the delivery of nothing at all into its error, and leaves every other as it is.
    ///
    /// This is how exporters that send a batch in parts end: `Err` always means that the whole batch is still undelivered.
    ///
    /// # Errors
    ///
    /// The error of the only part, when nothing was accepted, refused or filtered. Several parts stay a delivery with a
    /// rest, because each has an error of its own; so does what a fan-out delivered to some of its children.
    pub fn into_result(mut self) -> crate::Result<Self> {
        let is_noted = self.rest.iter().any(|part| part.batch.is_noted());
        let is_settled = self.accepted + self.refused + self.filtered > 0;
        if self.rest.len() == 1 && !is_settled && !is_noted {
            let part = self.rest.remove(0);
            // Its status stays: an earlier one would not belong to this error.
            return Err(part.error.map_attempt(|own| Attempt {
                attempts: self.attempt.attempts,
                wire_bytes: self.attempt.wire_bytes,
                ..own
            }));
        }
        Ok(self)
    }
}
