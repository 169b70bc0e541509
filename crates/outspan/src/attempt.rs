//! What is measured while a batch is exported.

use std::sync::Arc;

/// What was measured while a batch was exported: how many attempts, how many bytes, and what the destination answered.
///
/// [`Delivery::attempt`](crate::Delivery::attempt) has it where something was delivered, and
/// [`Error::attempt`](crate::Error::attempt) where nothing was. It is there for logs and metrics: no combinator decides by
/// it. Combinators that export a batch several times add the measurements up with [`absorb`](Self::absorb).
///
/// # Examples
///
/// ```
/// use outspan::{Attempt, Error};
///
/// let measured = Attempt::one().with_server("collector:4318").with_wire_bytes(200);
/// let error = Error::unavailable("the server is busy").with_attempt(measured.with_status(503));
/// assert_eq!(error.attempt().status, Some(503));
/// assert_eq!(error.attempt().server.as_deref(), Some("collector:4318"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// How many attempts were made, in all; 0 if nothing was sent.
    pub attempts: u32,
    /// How many bytes of payload went over the wire, after compression, failed attempts included.
    pub wire_bytes: u64,
    /// The last status that the destination answered: HTTP's or gRPC's number.
    pub status: Option<u16>,
    /// The destination's address (`host:port`), where one is known.
    pub server: Option<Arc<str>>,
}

impl Attempt {
    /// Makes the measurement of one attempt of which nothing else is known. `Attempt::default()` is that of none.
    pub fn one() -> Self {
        Self {
            attempts: 1,
            ..Self::default()
        }
    }

    /// Sets how many attempts were made.
    #[must_use]
    pub fn with_attempts(self, attempts: u32) -> Self {
        Self { attempts, ..self }
    }

    /// Sets how many bytes of payload went over the wire.
    #[must_use]
    pub fn with_wire_bytes(self, wire_bytes: u64) -> Self {
        Self { wire_bytes, ..self }
    }

    /// Sets the status that the destination answered.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        let status = Some(status);
        Self { status, ..self }
    }

    /// Sets the destination's address.
    #[must_use]
    pub fn with_server(self, server: impl Into<Arc<str>>) -> Self {
        let server = Some(server.into());
        Self { server, ..self }
    }

    /// Adds a later measurement: attempts and bytes add up, the later status and address stay.
    pub fn absorb(&mut self, later: &Self) {
        self.attempts = self.attempts.saturating_add(later.attempts);
        self.wire_bytes = self.wire_bytes.saturating_add(later.wire_bytes);
        self.status = later.status.or(self.status);
        if let Some(server) = &later.server {
            self.server = Some(Arc::clone(server));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_and_bytes_add_up_and_the_last_answer_stays() {
        let mut total = Attempt::one().with_wire_bytes(10).with_status(503);
        total.absorb(&Attempt::one().with_wire_bytes(5).with_server("b:1"));
        let expected = Attempt::default()
            .with_attempts(2)
            .with_wire_bytes(15)
            .with_status(503)
            .with_server("b:1");
        assert_eq!(total, expected);
        total.absorb(&Attempt::one().with_status(200));
        assert_eq!((total.attempts, total.status), (3, Some(200)));
        assert_eq!(total.server.as_deref(), Some("b:1"));
    }

    #[test]
    fn measurements_of_a_user_never_overflow() {
        let mut total = Attempt::one()
            .with_attempts(u32::MAX)
            .with_wire_bytes(u64::MAX);
        total.absorb(&total.clone());
        assert_eq!((total.attempts, total.wire_bytes), (u32::MAX, u64::MAX));
    }
}
