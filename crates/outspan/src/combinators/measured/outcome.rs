//! What became of one export, in numbers that add up.

use super::Failures;
use crate::Delivery;
use crate::Error;
use crate::ErrorKind;
use crate::Result;

/// Says how an export ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::combinators) enum End {
    /// Every span was accepted, apart from those that were to be filtered.
    Succeeded,
    /// Something was accepted or refused, and not everything was accepted.
    Incomplete,
    /// Nothing of it was delivered.
    Failed(ErrorKind),
    /// Its future was dropped.
    Cancelled,
}

/// Says what became of the spans of one export: `delivered + refused + filtered +
/// failed + cancelled` is how many it had.
#[derive(Clone, Debug)]
pub(in crate::combinators) struct Outcome<'a> {
    pub(in crate::combinators) end: End,
    pub(in crate::combinators) delivered: u64,
    pub(in crate::combinators) refused: u64,
    pub(in crate::combinators) filtered: u64,
    pub(in crate::combinators) failed: Failures,
    pub(in crate::combinators) cancelled: u64,
    pub(in crate::combinators) attempts: u32,
    pub(in crate::combinators) wire_bytes: u64,
    #[cfg(feature = "metrics")]
    pub(in crate::combinators) status: Option<u16>,
    #[cfg(feature = "metrics")]
    pub(in crate::combinators) server: Option<&'a str>,
    /// The error of the last part that was left.
    pub(in crate::combinators) error: Option<&'a Error>,
    /// The destination's own words.
    pub(in crate::combinators) message: Option<&'a str>,
}

impl<'a> Outcome<'a> {
    /// Reads what an exporter says of a batch of `spans` spans.
    pub(in crate::combinators) fn of(spans: u64, result: &'a Result<Delivery>) -> Self {
        match result {
            Ok(delivery) => Self::of_delivery(spans, delivery),
            Err(error) => Self::of_error(spans, error),
        }
    }

    /// Nobody waited for the end of it.
    pub(in crate::combinators) fn cancelled(spans: u64) -> Self {
        Self {
            cancelled: spans,
            ..Self::ended(End::Cancelled)
        }
    }

    /// How many spans were not delivered, and should have been.
    pub(in crate::combinators) fn missed(&self) -> u64 {
        self.refused + self.failed.total() + self.cancelled
    }

    /// Names what was wrong, in one lower-case word; nothing after a full success.
    ///
    /// `otel.sdk.exporter.operation.duration`: set unless the operation was a full success, and for the last attempt.
    #[cfg(feature = "metrics")]
    pub(in crate::combinators) fn error_type(&self) -> Option<&'static str> {
        match self.end {
            End::Succeeded => None,
            End::Cancelled => Some("cancelled"),
            End::Failed(kind) => Some(kind.as_str()),
            End::Incomplete if self.failed.total() == 0 => Some("rejected"),
            End::Incomplete => Some(self.error.map_or(ErrorKind::Internal, Error::kind).as_str()),
        }
    }

    fn of_error(spans: u64, error: &'a Error) -> Self {
        let mut failed = Failures::default();
        failed.add(error.kind(), spans);
        Self {
            failed,
            attempts: error.attempt().attempts,
            wire_bytes: error.attempt().wire_bytes,
            #[cfg(feature = "metrics")]
            status: error.attempt().status,
            #[cfg(feature = "metrics")]
            server: error.attempt().server.as_deref(),
            error: Some(error),
            ..Self::ended(End::Failed(error.kind()))
        }
    }

    fn of_delivery(spans: u64, delivery: &'a Delivery) -> Self {
        // An exporter of a user may miscount: nothing counts twice, and what it does not mention has failed.
        let mut open = spans;
        let mut take = |wanted: u64| {
            let taken = wanted.min(open);
            open -= taken;
            taken
        };
        let delivered = take(delivery.accepted);
        let refused = take(delivery.refused);
        let filtered = take(delivery.filtered);
        let mut failed = Failures::default();
        for left in &delivery.rest {
            failed.add(left.error.kind(), take(left.batch.spans() as u64));
        }
        failed.add(ErrorKind::Internal, open);
        let error = delivery.rest.last().map(|left| &left.error);
        Self {
            delivered,
            refused,
            filtered,
            failed,
            attempts: delivery.attempt.attempts,
            wire_bytes: delivery.attempt.wire_bytes,
            #[cfg(feature = "metrics")]
            status: delivery.attempt.status,
            #[cfg(feature = "metrics")]
            server: delivery.attempt.server.as_deref(),
            error,
            message: delivery.message.as_deref(),
            ..Self::ended(match delivered + refused {
                _ if delivered + filtered == spans => End::Succeeded,
                0 => End::Failed(error.map_or(ErrorKind::Internal, Error::kind)),
                _ => End::Incomplete,
            })
        }
    }

    fn ended(end: End) -> Self {
        Self {
            end,
            delivered: 0,
            refused: 0,
            filtered: 0,
            failed: Failures::default(),
            cancelled: 0,
            attempts: 0,
            wire_bytes: 0,
            #[cfg(feature = "metrics")]
            status: None,
            #[cfg(feature = "metrics")]
            server: None,
            error: None,
            message: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Attempt;
    use crate::Batch;

    fn delivery(accepted: u64, refused: u64) -> Delivery {
        Delivery {
            accepted,
            refused,
            ..Delivery::default()
        }
    }

    fn total(outcome: &Outcome<'_>) -> u64 {
        outcome.delivered + outcome.filtered + outcome.missed()
    }

    #[test]
    fn an_exporter_that_counts_too_much_or_too_little_counts_each_span_once() {
        let much = Ok(delivery(9, 9));
        let outcome = Outcome::of(4, &much);
        assert_eq!((outcome.delivered, outcome.refused), (4, 0));
        assert_eq!((outcome.end, total(&outcome)), (End::Succeeded, 4));

        let little = Ok(delivery(1, 1));
        let outcome = Outcome::of(4, &little);
        assert_eq!(outcome.failed.of(ErrorKind::Internal), 2);
        assert_eq!((outcome.end, total(&outcome)), (End::Incomplete, 4));

        let nothing = Ok(delivery(0, 0));
        let outcome = Outcome::of(4, &nothing);
        assert_eq!(outcome.end, End::Failed(ErrorKind::Internal));
        assert_eq!(total(&outcome), 4);
    }

    #[test]
    fn what_a_filter_takes_out_is_no_failure() {
        let some = Ok(Delivery {
            filtered: 3,
            ..delivery(1, 0)
        });
        let outcome = Outcome::of(4, &some);
        assert_eq!((outcome.end, outcome.missed()), (End::Succeeded, 0));
        assert_eq!(total(&outcome), 4);
    }

    #[test]
    fn the_delivery_of_nothing_is_a_failure_and_an_empty_batch_a_success() {
        let left = Ok(Delivery::failed(Batch::empty(), Error::unavailable("down")));
        assert_eq!(Outcome::of(0, &left).end, End::Succeeded);
        let failed: Result<Delivery> =
            Err(Error::throttled("slow").with_attempt(Attempt::default().with_attempts(3)));
        let outcome = Outcome::of(7, &failed);
        assert_eq!(outcome.end, End::Failed(ErrorKind::Throttled));
        assert_eq!((outcome.attempts, total(&outcome)), (3, 7));
    }
}
