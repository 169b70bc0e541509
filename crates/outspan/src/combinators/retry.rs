//! Trying again after temporary errors.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::Undelivered;

/// Says how often and how long to try again.
///
/// The defaults are those of the OTLP exporters of other languages: first wait 5 s, each wait 1.5 times the one
/// before, at most 30 s, at most 1 min in all; every wait is spread by ±50 %, so that many programs do not come back
/// in step. A delay that the destination asks for (`RetryInfo`, `Retry-After`) is a lower bound, with up to 10 % on top.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    initial_interval: Duration,
    max_interval: Duration,
    max_elapsed: Option<Duration>,
    max_retries: Option<u32>,
    multiplier: f64,
    jitter: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_secs(5),
            max_interval: Duration::from_secs(30),
            max_elapsed: Some(Duration::from_secs(60)),
            max_retries: None,
            multiplier: 1.5,
            jitter: 0.5,
        }
    }
}

impl Retry {
    /// Sets the first wait. No wait is shorter than 1 ms, so that a destination that is down is not asked without a pause.
    #[must_use]
    pub fn initial_interval(mut self, interval: Duration) -> Self {
        self.initial_interval = interval;
        self
    }

    /// Sets the longest wait, before it is spread.
    #[must_use]
    pub fn max_interval(mut self, interval: Duration) -> Self {
        self.max_interval = interval;
        self
    }

    /// Sets how long an export may go on trying, in all; `None` leaves it to the caller's deadline.
    #[must_use]
    pub fn max_elapsed(mut self, elapsed: impl Into<Option<Duration>>) -> Self {
        self.max_elapsed = elapsed.into();
        self
    }

    /// Sets how many times to try again after the first attempt; `None`, the default, sets no such limit.
    #[must_use]
    pub fn max_retries(mut self, retries: impl Into<Option<u32>>) -> Self {
        self.max_retries = retries.into();
        self
    }

    /// Sets by how much each wait grows. Values below 1 count as 1.
    #[must_use]
    pub fn multiplier(mut self, multiplier: f64) -> Self {
        self.multiplier = multiplier.max(1.0);
        self
    }

    /// Sets by which part of itself a wait is spread to both sides: 0 not at all, 1 from nothing to twice.
    #[must_use]
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = if jitter.is_nan() {
            0.0
        } else {
            jitter.clamp(0.0, 1.0)
        };
        self
    }

    pub(crate) fn retries_max(&self) -> Option<u32> {
        self.max_retries
    }
}

/// The waits of one export.
#[derive(Debug)]
pub(crate) struct Backoff<'a> {
    settings: &'a Retry,
    interval: Duration,
}

impl<'a> Backoff<'a> {
    pub(crate) fn new(settings: &'a Retry) -> Self {
        Self {
            settings,
            interval: settings.initial_interval.min(settings.max_interval),
        }
    }

    /// The next wait: at least what the destination asked for, spread so that many callers do not come back in step.
    ///
    /// `interval x uniform(1 - jitter, 1 + jitter)`, as in opentelemetry-go's `internal/retry`; the cap holds before the spread.
    pub(crate) fn next(&mut self, asked_for: Option<Duration>) -> Duration {
        const SPREAD_OF_ASKED: f64 = 0.1;
        /// Without it an interval of zero would try again and again without a pause.
        const WAIT_MIN: Duration = Duration::from_millis(1);

        let spread = 1.0 + self.settings.jitter * (2.0 * fastrand::f64() - 1.0);
        let own = scaled(self.interval, spread);
        self.interval =
            scaled(self.interval, self.settings.multiplier).min(self.settings.max_interval);
        let wait = match asked_for {
            None => own,
            Some(asked) => {
                let spread = 1.0 + SPREAD_OF_ASKED * fastrand::f64();
                scaled(asked, spread).max(own)
            }
        };
        wait.max(WAIT_MIN)
    }
}

/// Tries again after temporary errors, by the settings of a [`Retry`].
///
/// Success means what it means inside. Errors pass through with their kind; when it gives up it marks them
/// [`retries_used_up`](crate::Error::retries_used_up), so that another retry outside does not start over, while a fallback or
/// queue outside still sees that the trouble was temporary. Only the part that was not delivered is sent again. It
/// gives up at once when the next wait would pass its own limit or the caller's deadline. It holds the batch and
/// nothing else. `shutdown` ends all waits: those exports return their last error. It belongs outside a timeout for
/// attempts and inside fallbacks and queues.
///
/// # Cancellation
///
/// Dropping the future drops the attempt or the wait.
#[derive(Debug)]
struct Retrying {
    inner: Exporter,
    settings: Retry,
    stop: watch::Sender<bool>,
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

    /// Waits before the next attempt. False means: give up now.
    async fn wait(&self, delay: Duration, began: Instant, until: Deadline) -> bool {
        let elapsed = began.elapsed().saturating_add(delay);
        let in_budget = self
            .settings
            .max_elapsed
            .is_none_or(|budget| elapsed <= budget);
        if !in_budget || !until.allows(delay) {
            return false;
        }
        let mut stop = self.stop.subscribe();
        let stopped = stop.wait_for(|stop| *stop);
        Deadline::after(delay).run(stopped).await.is_none()
    }
}

impl Export for Retrying {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let began = Instant::now();
        let mut backoff = Backoff::new(&self.settings);
        let mut total = Delivery::default();
        let mut pending = self.attempt(batch, &mut total, until).await;
        let mut retries = 0;
        while let Some(asked_for) = longest_asked(&pending) {
            let may_try = self.settings.max_retries.is_none_or(|max| retries < max);
            let delay = backoff.next(asked_for);
            if !may_try || !self.wait(delay, began, until).await {
                total.rest.extend(pending.into_iter().map(given_up));
                break;
            }
            retries = retries.saturating_add(1);
            for part in std::mem::take(&mut pending) {
                pending.extend(self.attempt(part.batch, &mut total, until).await);
            }
        }
        total.into_result()
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        self.inner.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        self.stop.send_replace(true);
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

/// The wait that covers what each of the parts was asked for; `None` when there are no parts.
fn longest_asked(parts: &[Undelivered]) -> Option<Option<Duration>> {
    parts.iter().map(|part| part.error.retry_after()).max()
}

/// A part that is not tried again. Its attempts are counted in the whole already.
fn given_up(part: Undelivered) -> Undelivered {
    Undelivered {
        batch: part.batch,
        error: part.error.with_retries_used_up(),
    }
}

/// A duration times a factor; a product that a `Duration` cannot hold is the longest one.
fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

impl Exporter {
    /// Tries again after temporary errors; see [`Retry`] for the settings and their defaults.
    ///
    /// Only the part that was not delivered is sent again. When it gives up it marks the error
    /// [`retries_used_up`](crate::Error::retries_used_up) and leaves its kind as it is. It gives up at once when the next wait
    /// would pass its own limit or the caller's deadline, and at shutdown.
    #[must_use]
    pub fn retry(self, settings: Retry) -> Self {
        Self::new(Retrying {
            inner: self,
            settings,
            stop: watch::Sender::new(false),
        })
    }
}
