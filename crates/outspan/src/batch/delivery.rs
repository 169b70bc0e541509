//! What an export achieved.

use std::sync::Arc;

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
    /// How many attempts were made, in all.
    pub attempts: u32,
    /// How many bytes of payload went over the wire, after compression, failed attempts included.
    pub wire_bytes: u64,
    /// The last status that the destination answered: HTTP's or gRPC's number.
    pub status: Option<u16>,
    /// The destination's address (`host:port`), where one is known.
    pub server: Option<Arc<str>>,
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
            attempts: 1,
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
            attempts: 1,
            ..Self::default()
        }
    }

    /// Makes the delivery of nothing: the whole batch is left, with its error.
    pub fn failed(batch: Batch, error: Error) -> Self {
        let mut delivery = Self::default();
        delivery.leave(batch, error);
        delivery
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

    /// Adds a part that was not delivered, with what its error knows of attempts and bytes.
    pub fn leave(&mut self, batch: Batch, error: Error) {
        self.count(&error);
        self.rest.push(Undelivered { batch, error });
    }

    /// Adds what an error knows of attempts and bytes.
    pub(crate) fn count(&mut self, error: &Error) {
        self.attempts += error.attempts();
        self.wire_bytes += error.wire_bytes();
        self.status = error.status().or(self.status);
        self.server = error.shared_server().or(self.server.take());
    }

    /// Adds what another call for another part achieved.
    pub fn absorb(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.filtered += other.filtered;
        self.attempts += other.attempts;
        self.wire_bytes += other.wire_bytes;
        self.message = other.message.or(self.message.take());
        self.status = other.status.or(self.status);
        self.server = other.server.or(self.server.take());
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
            return Err(part
                .error
                .with_attempts(self.attempts)
                .with_wire_bytes(self.wire_bytes));
        }
        Ok(self)
    }
}
