//! What a processor did not deliver in its whole life, in one line at its end.
//!
//! A program may have no `tracing` subscriber, or drop the result of its shutdown. The line goes to the subscriber if there
//! is one, else to standard error. Nothing is written if nothing was lost.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use crate::Account;
use crate::Cause;
use crate::DropReason;
use crate::Losses;
use crate::diagnostics::tell;

/// Writes the line of one processor, and remembers what it told.
#[derive(Debug, Default)]
pub(super) struct LossReport {
    /// The destination's name in the environment.
    name: OnceLock<&'static str>,
    told: Mutex<Lost>,
}

/// What was not delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    dropped: Losses,
    refused: u64,
    pending: u64,
    unended: u64,
}

impl LossReport {
    /// Names the destination.
    pub(super) fn set_name(&self, name: &'static str) {
        self.name.get_or_init(|| name);
    }

    /// Tells what was lost, unless it was told before. What was pending then and is dropped now is no news.
    pub(super) fn tell(
        &self,
        account: &Account,
        unended: u64,
        server: Option<Arc<str>>,
        causes: impl FnOnce(&Losses, u64) -> Vec<Cause>,
    ) {
        let lost = Lost {
            dropped: account.dropped.unwanted(),
            refused: account.refused,
            pending: account.open(),
            unended,
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let news = lost.since(&told);
        if news == Lost::default() {
            return;
        }
        *told = lost;
        drop(told);
        let destination = self.destination(server);
        let causes = causes(&news.dropped, news.refused);
        tell(&line(&news, account.received, &destination, &causes));
    }

    fn destination(&self, server: Option<Arc<str>>) -> String {
        match (self.name.get(), server) {
            (Some(name), Some(server)) => format!(" to {name} ({server})"),
            (Some(name), None) => format!(" to {name}"),
            (None, Some(server)) => format!(" to {server}"),
            (None, None) => String::new(),
        }
    }
}

impl Lost {
    fn total(&self) -> u64 {
        self.dropped.total() + self.refused + self.pending
    }

    /// What came since `told`.
    fn since(&self, told: &Self) -> Self {
        let mut dropped = Losses::default();
        for (reason, spans) in self.dropped.iter() {
            let known = match reason {
                DropReason::Shutdown => told.dropped.of(reason) + told.pending,
                reason => told.dropped.of(reason),
            };
            dropped.add(reason, spans.saturating_sub(known));
        }
        Self {
            dropped,
            refused: self.refused.saturating_sub(told.refused),
            pending: self.pending.saturating_sub(told.pending),
            unended: self.unended.saturating_sub(told.unended),
        }
    }
}

fn line(lost: &Lost, received: u64, destination: &str, causes: &[Cause]) -> String {
    let mut text = String::new();
    if lost.total() > 0 {
        let mut parts = Vec::new();
        parts.extend(
            lost.dropped
                .iter()
                .map(|(reason, spans)| format!("{spans} {reason}")),
        );
        for (spans, what) in [(lost.refused, "rejected"), (lost.pending, "pending")] {
            if spans > 0 {
                parts.push(format!("{spans} {what}"));
            }
        }
        text = format!(
            "{} of {received} spans were not delivered{destination}: {}",
            lost.total(),
            parts.join(", ")
        );
        for cause in causes {
            text.push_str(&format!("; {cause}"));
        }
    }
    if lost.unended > 0 {
        let spans = if lost.unended == 1 { "span" } else { "spans" };
        let unended = format!(
            "{} {spans} had not ended at the shutdown and will not be delivered",
            lost.unended
        );
        text = match text.is_empty() {
            true => format!("{unended}{destination}"),
            false => format!("{text}; {unended}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn lost(reason: DropReason, spans: u64) -> Lost {
        let mut lost = Lost::default();
        lost.dropped.add(reason, spans);
        lost
    }

    #[test]
    fn line_has_counts_reasons_destination_and_cause() {
        let mut lost = lost(DropReason::QueueFull, 8);
        lost.refused = 2;
        lost.pending = 1;
        lost.unended = 3;
        let cause = Cause::new(Error::unavailable("connection refused"));
        assert_eq!(
            line(&lost, 12, " to otlp (h:4318)", &[cause]),
            "11 of 12 spans were not delivered to otlp (h:4318): 8 queue_full, 2 rejected, 1 pending; \
             connection refused; 3 spans had not ended at the shutdown and will not be delivered"
        );
        let only_unended = Lost {
            unended: 1,
            ..Lost::default()
        };
        assert_eq!(
            line(&only_unended, 0, " to otlp", &[]),
            "1 span had not ended at the shutdown and will not be delivered to otlp"
        );
    }

    #[test]
    fn pending_spans_that_are_dropped_later_are_no_news() {
        let told = Lost {
            pending: 5,
            ..Lost::default()
        };
        let now = lost(DropReason::Shutdown, 5);
        assert_eq!(now.since(&told), Lost::default());
        let more = lost(DropReason::Shutdown, 7);
        assert_eq!(more.since(&told), lost(DropReason::Shutdown, 2));
    }
}
