//! Trying again after temporary errors.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Error;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::Retry;
use crate::Undelivered;
use crate::combinators::RetryEvent;
use crate::engine::Backoff;
use crate::export;

/// Tries again after temporary errors, by the settings of a [`Retry`].
///
/// Success means what it means inside. Errors pass through with their kind. When it gives up it marks them, so that another
/// retry outside does not start over, while a fallback or queue outside still sees that the trouble was temporary. Only the part that was not delivered is sent again. It
/// gives up at once when the next wait would pass its own limit or the caller's deadline. It holds the batch and
/// nothing else. `shutdown`, and that of a queue around it, cut waits short: each export makes one more attempt, and then
/// returns its last error. Of those that wait because the destination asked for it only one makes the attempt; the others
/// follow if it succeeded. It belongs outside a timeout for attempts and inside fallbacks and queues.
///
/// # Cancellation
///
/// Dropping the future drops the attempt or the wait.
#[derive(Debug)]
struct Retrying {
    inner: Exporter,
    settings: Retry,
    stop: watch::Sender<bool>,
    /// What became of the one attempt that a shutdown makes before the end of waits that were asked for.
    early: watch::Sender<Early>,
    /// Exports that wait, or make the attempt after a wait.
    waiting: watch::Sender<usize>,
}

/// The one attempt before the end of waits that were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Early {
    #[default]
    NotMade,
    Trying,
    Worked,
    Failed,
}

/// How a wait ended.
enum Wake<'a> {
    /// The time has come.
    Due,
    /// Everything is shut down: there is one more attempt, which may be the one that others wait for.
    Last(Option<EarlyTurn<'a>>),
    /// Everything is shut down, and another attempt is of no use.
    Stop,
}

/// The right to make the early attempt. Dropping it counts as a failure.
struct EarlyTurn<'a> {
    early: &'a watch::Sender<Early>,
    outcome: Early,
}

impl Drop for EarlyTurn<'_> {
    fn drop(&mut self) {
        self.early.send_replace(self.outcome);
    }
}

/// Counts an export as waiting.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn begin(counter: &'a watch::Sender<usize>) -> Self {
        counter.send_modify(|waiting| *waiting += 1);
        Self(counter)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

impl Retrying {
    /// Sends a batch once, and returns the parts worth another try.
    async fn attempt(
        &self,
        batch: Batch,
        total: &mut Delivery,
        until: Deadline,
    ) -> Vec<Undelivered> {
        let sent = self.inner.export(batch.clone(), until).await;
        let delivery = sent.unwrap_or_else(|error| Delivery::failed(batch, error));
        take_temporary(delivery, total)
    }

    /// Whether there is leave for another attempt after this delay.
    fn may_wait(&self, delay: Duration, began: Instant, until: Deadline) -> bool {
        let elapsed = began.elapsed().saturating_add(delay);
        let in_budget = self
            .settings
            .max_elapsed
            .is_none_or(|budget| elapsed <= budget);
        in_budget && until.allows(delay) && !*self.stop.borrow()
    }

    /// Waits before the next attempt, or until a shutdown of this or of a queue around it.
    async fn wait(&self, delay: Duration, is_asked: bool) -> Wake<'_> {
        let mut stop = self.stop.subscribe();
        let ended = async {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = export::closing() => {}
            }
        };
        if Deadline::after(delay).run(ended).await.is_none() {
            return Wake::Due;
        }
        if !is_asked {
            return Wake::Last(None);
        }
        let mut is_mine = false;
        self.early.send_if_modified(|early| {
            is_mine = *early == Early::NotMade;
            if is_mine {
                *early = Early::Trying;
            }
            is_mine
        });
        if is_mine {
            return Wake::Last(Some(EarlyTurn {
                early: &self.early,
                outcome: Early::Failed,
            }));
        }
        let mut early = self.early.subscribe();
        let made = early.wait_for(|early| *early != Early::Trying).await;
        match made.is_ok_and(|early| *early == Early::Worked) {
            true => Wake::Last(None),
            false => Wake::Stop,
        }
    }
}

impl Export for Retrying {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let began = Instant::now();
        let mut backoff = Backoff::new(&self.settings);
        let mut total = Delivery::default();
        let mut pending = self.attempt(batch, &mut total, until).await;
        let mut retries: u32 = 0;
        let mut is_last = false;
        while let Some(speaks) = most_demanding(&pending) {
            let asked = speaks.retry_after();
            let delay = backoff.next(asked);
            let may_try = self.settings.max_retries.is_none_or(|max| retries < max)
                && !is_last
                && self.may_wait(delay, began, until);
            retries = retries.saturating_add(1);
            if !may_try {
                total.rest.extend(pending.into_iter().map(given_up));
                break;
            }
            self.settings.tell(|| RetryEvent {
                attempt: retries,
                delay,
                error: speaks.clone(),
                spans: pending.iter().map(|part| part.batch.spans() as u64).sum(),
                elapsed: began.elapsed(),
            });
            let _waiting = Waiting::begin(&self.waiting);
            let mut turn = None;
            match self.wait(delay, asked.is_some()).await {
                Wake::Due => {}
                Wake::Last(early) => {
                    is_last = true;
                    turn = early;
                }
                Wake::Stop => {
                    total.rest.extend(pending.into_iter().map(given_up));
                    break;
                }
            }
            for part in std::mem::take(&mut pending) {
                pending.extend(self.attempt(part.batch, &mut total, until).await);
            }
            if let Some(turn) = &mut turn
                && pending.is_empty()
            {
                turn.outcome = Early::Worked;
            }
        }
        total.into_result()
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        self.inner.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        self.stop.send_replace(true);
        // Their last attempts need what is inside. When the time is over it is shut down all the same.
        let mut waiting = self.waiting.subscribe();
        drop(until.run(waiting.wait_for(|waiting| *waiting == 0)).await);
        self.inner.shutdown(until).await
    }
}

/// Moves everything of `delivery` into `total` but the parts worth another try.
fn take_temporary(mut delivery: Delivery, total: &mut Delivery) -> Vec<Undelivered> {
    let rest = std::mem::take(&mut delivery.rest);
    total.absorb(delivery);
    let (temporary, permanent) = rest
        .into_iter()
        .partition(|part| part.error.is_temporary() && !part.error.retries_used_up());
    total.rest.extend::<Vec<_>>(permanent);
    temporary
}

/// The error that asks for the longest wait, which covers what each of the parts was asked for; the first of equals.
fn most_demanding(parts: &[Undelivered]) -> Option<&Error> {
    let errors = parts.iter().map(|part| &part.error).rev();
    errors.max_by_key(|error| error.retry_after())
}

/// A part that is not tried again. Its attempts are counted in the whole already.
fn given_up(part: Undelivered) -> Undelivered {
    Undelivered {
        batch: part.batch,
        error: part.error.with_retries_used_up(),
    }
}

impl Exporter {
    /// Tries again after temporary errors; see [`Retry`] for the settings and their defaults.
    ///
    /// Only the part that was not delivered is sent again. When it gives up, the error keeps its kind, and
    /// a retry around this one does not start over. It gives up at once when the next wait
    /// would pass its own limit or the caller's deadline, and at shutdown after one more attempt. Waits that the destination
    /// asked for are kept: at shutdown only one export is tried before their end, and the others if it succeeds.
    #[must_use]
    pub fn retry(self, settings: Retry) -> Self {
        Self::new(Retrying {
            inner: self,
            settings,
            stop: watch::Sender::new(false),
            early: watch::Sender::default(),
            waiting: watch::Sender::new(0),
        })
    }
}
