//! Why spans were lost.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::DropEvent;
use outspan::DropReason;
use outspan::Error;
use outspan::Export;
use outspan::Exporter;

/// Remembers the last cause of each kind of loss of one destination. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Causes {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    dropped: Vec<(DropReason, String)>,
    refused: Option<String>,
    /// Exports that were started.
    started: u64,
    /// Exports that came to an end. Cancelled ones do not.
    ended: u64,
}

impl Causes {
    /// Wraps an exporter, to learn from its results.
    pub(crate) fn around(&self, inner: Exporter) -> Exporter {
        Exporter::new(Observed {
            inner,
            causes: self.clone(),
        })
    }

    /// Notes that spans were dropped. To be called for each drop.
    pub(crate) fn note(&self, event: &DropEvent) {
        if let Some(error) = &event.error {
            self.set(event.reason, error.chain().to_string());
        }
    }

    /// Says why spans were dropped for this reason, if that is known. `trouble` is what keeps the destination from taking
    /// spans now.
    pub(super) fn of_drops(&self, reason: DropReason, trouble: Option<&str>) -> Option<String> {
        let state = self.lock();
        let mut dropped = state.dropped.iter();
        if let Some((_, error)) = dropped.find(|(known, _)| *known == reason) {
            return Some(error.clone());
        }
        if reason != DropReason::Shutdown {
            return None;
        }
        if let Some(trouble) = trouble {
            return Some(trouble.to_owned());
        }
        Some(match state.started - state.ended {
            0 => "the time for stopping was over".to_owned(),
            1 => "an export had no answer when the time for stopping was over".to_owned(),
            some => format!("{some} exports had no answer when the time for stopping was over"),
        })
    }

    /// Notes why a shutdown lost spans.
    pub(super) fn note_shutdown(&self, drained: &Drained) {
        // What the destination refused for good has a cause of its own.
        let mut causes = drained.causes().iter();
        let Some(cause) = causes.find(|cause| cause.error().is_temporary()) else {
            return;
        };
        self.set(DropReason::Shutdown, cause.error().chain().to_string());
    }

    fn set(&self, reason: DropReason, cause: String) {
        let mut state = self.lock();
        state.dropped.retain(|(known, _)| *known != reason);
        state.dropped.push((reason, cause));
    }

    /// Says why the destination refused spans the last time, in its own words.
    pub(super) fn of_refusals(&self) -> Option<String> {
        self.lock().refused.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn observe(&mut self, result: &outspan::Result<Delivery>) {
        self.ended += 1;
        match result {
            Ok(delivery) => {
                if delivery.refused > 0 {
                    self.refused.clone_from(&delivery.message);
                }
                for part in &delivery.rest {
                    self.observe_error(&part.error);
                }
            }
            Err(error) => self.observe_error(error),
        }
    }

    fn observe_error(&mut self, error: &Error) {
        if !error.is_temporary() {
            self.refused = Some(error.chain().to_string());
        }
    }
}

/// Observes results. Errors and deliveries pass through unchanged; it holds nothing.
#[derive(Debug)]
struct Observed {
    inner: Exporter,
    causes: Causes,
}

impl Export for Observed {
    async fn export(&self, batch: Batch, until: Deadline) -> outspan::Result<Delivery> {
        self.causes.lock().started += 1;
        let result = self.inner.export(batch, until).await;
        self.causes.lock().observe(&result);
        result
    }

    async fn flush(&self, until: Deadline) -> outspan::Result<Drained> {
        self.inner.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> outspan::Result<Drained> {
        self.inner.shutdown(until).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shutdown_losses_have_the_best_cause_that_is_known() {
        let causes = Causes::default();
        let cause = |trouble| causes.of_drops(DropReason::Shutdown, trouble).unwrap();
        assert_eq!(cause(None), "the time for stopping was over");
        causes.lock().started += 1;
        assert!(cause(None).starts_with("an export had no answer"));
        assert_eq!(cause(Some("refused")), "refused");
        assert_eq!(causes.of_drops(DropReason::Expired, Some("refused")), None);
    }

    #[test]
    fn refusals_keep_the_words_of_the_destination() {
        let causes = Causes::default();
        assert_eq!(causes.of_refusals(), None);
        causes.lock().observe(&Err(Error::unavailable("down")));
        assert_eq!(causes.of_refusals(), None);
        let error = Error::refused("no such tenant");
        causes.lock().observe(&Err(error.clone()));
        assert_eq!(causes.of_refusals(), Some(error.to_string()));
    }
}
