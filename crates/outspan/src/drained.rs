//! What a flush or a shutdown achieved, and why spans are lost.

use std::fmt;
use std::sync::Arc;

use crate::DropReason;
use crate::Error;
use crate::Losses;

/// How many causes are kept: one a destination, and seldom more than a few destinations fail at once.
const CAUSES_MAX: usize = 8;

/// Says what a flush or a shutdown achieved: what left while it ran, and what was lost. A queue, which acknowledges before it
/// delivers, tells of everything since the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "spans may have been lost: see `is_complete`"]
pub struct Drained {
    /// Spans that the destination acknowledged during the call.
    pub delivered: u64,
    /// Spans that the destination refused for good during the call.
    pub refused: u64,
    /// Spans that were dropped during the call, by reason.
    pub lost: Losses,
    /// Spans that are still held when a flush ran out of time; a shutdown leaves none (they are lost as `shutdown`), unless
    /// it could not end in time.
    pub left: u64,
    /// Spans that had been started and not ended when a processor was shut down. They are delivered nowhere and are in no
    /// other number. See [`Guard`](crate::Guard#spans-that-have-not-ended).
    pub unended: u64,
    pub(crate) causes: Vec<Cause>,
}

/// Names the destination that kept spans from being delivered, and its last error.
#[derive(Clone, Debug)]
pub struct Cause {
    destination: Option<Arc<str>>,
    error: Error,
}

impl Cause {
    /// Makes a cause of an error, whose [server](crate::Attempt::server) is the destination if it has one.
    pub fn new(error: Error) -> Self {
        Self {
            destination: None,
            error,
        }
    }

    /// Names the destination.
    #[must_use]
    pub fn at(mut self, destination: impl Into<Arc<str>>) -> Self {
        self.destination = Some(destination.into());
        self
    }

    /// The destination: the name it was given, or else its address (`host:port`), where one is known.
    pub fn destination(&self) -> Option<&str> {
        self.destination
            .as_deref()
            .or(self.error.attempt().server.as_deref())
    }

    /// The destination's last error.
    pub fn error(&self) -> &Error {
        &self.error
    }

    fn is_error_of(&self, other: &Self) -> bool {
        self.error.kind() == other.error.kind()
            && self.error.chain().to_string() == other.error.chain().to_string()
    }

    /// Names the destination unless it has a name.
    pub(crate) fn at_least_at(self, destination: &str) -> Self {
        match self.destination {
            Some(_) => self,
            None => self.at(destination),
        }
    }
}

impl PartialEq for Cause {
    /// Causes are equal if they read the same.
    fn eq(&self, other: &Self) -> bool {
        self.destination == other.destination && self.is_error_of(other)
    }
}

impl Eq for Cause {}

impl fmt::Display for Cause {
    /// Writes the destination, its address and the error with its causes, each once.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.error.chain().to_string();
        let mut is_first = true;
        for place in [
            self.destination.as_deref(),
            self.error.attempt().server.as_deref(),
        ] {
            let Some(place) = place.filter(|place| !text.contains(place)) else {
                continue;
            };
            match is_first {
                true => write!(f, "{place}")?,
                false if self.destination.as_deref() == Some(place) => {}
                false => write!(f, " ({place})")?,
            }
            is_first = false;
        }
        match is_first {
            true => f.write_str(&text),
            false => write!(f, ": {text}"),
        }
    }
}

impl Drained {
    /// Adds what another part of the same call achieved.
    ///
    /// Numbers add up, except [`unended`](Self::unended): several processors of one provider see the same spans, so it is
    /// the largest one.
    pub fn merge(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.refused += other.refused;
        self.lost.merge(&other.lost);
        self.left += other.left;
        self.unended = self.unended.max(other.unended);
        for cause in &other.causes {
            self.add_cause(cause.clone());
        }
    }

    /// Whether everything that ended was delivered: nothing lost, nothing refused, nothing left. What a filter removed on
    /// request is no loss.
    pub fn is_complete(&self) -> bool {
        self.lost.unwanted().total() == 0 && self.refused == 0 && self.left == 0
    }

    /// Why spans were lost, refused or left: the last error of each destination, of at most 8 of them. Empty when
    /// everything was delivered, or when no destination had a part in it, as when a queue was full.
    pub fn causes(&self) -> &[Cause] {
        &self.causes
    }

    /// The first of the [`causes`](Self::causes).
    pub fn cause(&self) -> Option<&Cause> {
        self.causes.first()
    }

    /// Adds a cause, unless it is known or there are 8 already.
    pub fn add_cause(&mut self, cause: Cause) {
        add_cause(&mut self.causes, cause);
    }

    /// The same without its causes, for what is built of the numbers.
    pub(crate) fn take_causes(&mut self) -> Vec<Cause> {
        std::mem::take(&mut self.causes)
    }
}

/// Adds a cause, unless it is known or there are enough. Of the same error with and without a name the name is kept.
pub(crate) fn add_cause(causes: &mut Vec<Cause>, cause: Cause) {
    for known in causes.iter_mut() {
        if !known.is_error_of(&cause) {
            continue;
        }
        if known.destination.is_none() {
            known.destination = cause.destination;
            return;
        }
        if cause.destination.is_none() || cause.destination == known.destination {
            return;
        }
    }
    if causes.len() < CAUSES_MAX {
        causes.push(cause);
    }
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delivered {}", self.delivered)?;
        if self.refused > 0 {
            write!(f, ", refused {}", self.refused)?;
        }
        let filtered = self.lost.of(DropReason::Filtered);
        if filtered > 0 {
            write!(f, ", filtered {filtered}")?;
        }
        let lost = self.lost.unwanted();
        if lost.total() > 0 {
            write!(f, ", lost {} ({lost})", lost.total())?;
        }
        if self.left > 0 {
            write!(f, ", still waiting {}", self.left)?;
        }
        if self.unended > 0 {
            write!(f, ", not ended {}", self.unended)?;
        }
        for (i, cause) in self.causes.iter().enumerate() {
            let mark = if i == 0 { ":" } else { ";" };
            write!(f, "{mark} {cause}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Attempt;

    #[test]
    fn what_a_filter_removed_is_told_and_is_no_loss() {
        let mut drained = Drained {
            delivered: 5,
            ..Drained::default()
        };
        drained.lost.add(DropReason::Filtered, 3);
        assert!(drained.is_complete());
        assert_eq!(drained.to_string(), "delivered 5, filtered 3");
        drained.lost.add(DropReason::Failed, 2);
        assert!(!drained.is_complete());
        assert_eq!(
            drained.to_string(),
            "delivered 5, filtered 3, lost 2 (2 failed)"
        );
    }

    #[test]
    fn causes_name_destination_address_and_error_once_each() {
        let refused = || {
            Error::unavailable("cannot connect: refused")
                .with_attempt(Attempt::one().with_server("h:1"))
        };
        let cause = Cause::new(refused());
        assert_eq!(cause.destination(), Some("h:1"));
        assert_eq!(cause.to_string(), "h:1: cannot connect: refused");
        let named = Cause::new(refused()).at("otlp");
        assert_eq!(named.destination(), Some("otlp"));
        assert_eq!(named.to_string(), "otlp (h:1): cannot connect: refused");
        let known = Error::unavailable("cannot connect to h:1")
            .with_attempt(Attempt::one().with_server("h:1"));
        assert_eq!(Cause::new(known).to_string(), "cannot connect to h:1");
        assert_eq!(Cause::new(Error::unavailable("x")).to_string(), "x");
    }

    #[test]
    fn causes_are_bounded_and_each_is_there_once() {
        let mut drained = Drained::default();
        for _ in 0..2 {
            for number in 0..20 {
                let cause = Cause::new(Error::unavailable("down")).at(format!("to {number}"));
                drained.add_cause(cause);
            }
        }
        assert_eq!(drained.causes().len(), CAUSES_MAX);
        let mut sum = Drained {
            left: 1,
            ..Drained::default()
        };
        sum.merge(&drained);
        sum.merge(&drained);
        assert_eq!(sum.causes().len(), CAUSES_MAX);
        let text = sum.to_string();
        assert!(
            text.starts_with("delivered 0, still waiting 1: to 0: down; to 1: down"),
            "{text}"
        );
    }

    #[test]
    fn error_with_and_without_a_name_is_one_cause() {
        let error = || Error::unavailable("down");
        let mut drained = Drained::default();
        drained.add_cause(Cause::new(error()));
        drained.add_cause(Cause::new(error()).at("a"));
        drained.add_cause(Cause::new(error()));
        drained.add_cause(Cause::new(error()).at("b"));
        assert_eq!(drained.to_string(), "delivered 0: a: down; b: down");
    }

    #[test]
    fn processors_of_one_provider_see_the_same_unended_spans() {
        let mut sum = Drained::default();
        for unended in [2, 3] {
            let one = Drained {
                unended,
                ..Drained::default()
            };
            sum.merge(&one);
        }
        assert_eq!(sum.unended, 3);
        assert!(sum.is_complete());
        assert_eq!(sum.to_string(), "delivered 0, not ended 3");
    }
}
