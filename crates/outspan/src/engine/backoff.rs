//! Retry settings and the waits they produce.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::Result;
use crate::guard::call_guarded;

/// The longest wait that a destination may ask for, by default. A destination that is down for an hour is found to be back
/// a few minutes late; one that asks for a year by mistake does not stop the export of spans for a year.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The longest wait between probes of a destination that is down, by default. With its spread it is less than 5 s.
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(3);

/// The longest wait that a user may allow a destination to ask for: any more is beyond what clocks can hold.
const ASKED_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Says how often and how long to try again.
///
/// The defaults are those of the OTLP exporters of other languages: first wait 5 s, each wait 1.5 times the one
/// before, at most 30 s, at most 1 min in all; every wait is spread by ±50 %, so that many programs do not come back
/// in step. A delay that the destination asks for (`RetryInfo`, `Retry-After`) is a lower bound, with up to 10 % on top;
/// more than 5 min count as 5 min ([`max_retry_after`](Self::max_retry_after)).
///
/// A queue waits like this with a batch that fails while others succeed. A destination that is down it probes more often, with one
/// export at a time: see [`max_probe_interval`](Self::max_probe_interval).
#[derive(Clone)]
pub struct Retry {
    initial_interval: Duration,
    max_interval: Duration,
    max_probe_interval: Duration,
    pub(crate) max_elapsed: Option<Duration>,
    pub(crate) max_retries: Option<u32>,
    max_retry_after: Duration,
    multiplier: f64,
    jitter: f64,
    on_retry: Option<RetryHook>,
}

/// What a user wants to be called before each wait.
type RetryHook = Arc<dyn Fn(&RetryEvent) + Send + Sync>;

/// Says that something was not delivered and will be tried again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetryEvent {
    /// Which attempt failed, from 1.
    pub attempt: u32,
    /// How long the wait before the next one is.
    pub delay: Duration,
    /// Why it failed; of several errors for several parts, the one that asks for the longest wait.
    pub error: Error,
    /// How many spans are sent again.
    pub spans: u64,
    /// How much time has passed since the export began.
    pub elapsed: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_secs(5),
            max_interval: Duration::from_secs(30),
            max_probe_interval: MAX_PROBE_INTERVAL,
            max_elapsed: Some(Duration::from_secs(60)),
            max_retries: None,
            max_retry_after: MAX_RETRY_AFTER,
            multiplier: 1.5,
            jitter: 0.5,
            on_retry: None,
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

    /// Sets the longest wait, before it is spread, after which a queue sends one batch to a destination that is down, to find out
    /// whether it is back. Default: 3 s, so that it is noticed within 5 s, however long the outage was; a destination that is
    /// down costs 20 requests a minute. It holds where it is shorter than the other waits. A destination that
    /// asks for a longer wait gets it.
    ///
    /// Only queues and the batch processor probe. [`Exporter::retry`](crate::Exporter::retry) waits with each batch by itself.
    #[must_use]
    pub fn max_probe_interval(mut self, interval: Duration) -> Self {
        self.max_probe_interval = interval;
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

    /// Sets the longest wait that the destination may ask for. What it asks for beyond that counts as this much. Default: 5 min.
    #[must_use]
    pub fn max_retry_after(mut self, wait: Duration) -> Self {
        self.max_retry_after = wait.min(ASKED_MAX);
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

    /// Calls `hook` before each wait; when it gives up, the error says so instead. It must not block. A panic in it is told
    /// in the log and changes nothing else.
    ///
    /// Only [`Exporter::retry`](crate::Exporter::retry) calls it: a queue tells what it does in its own way.
    #[must_use]
    pub fn on_retry(mut self, hook: impl Fn(&RetryEvent) + Send + Sync + 'static) -> Self {
        self.on_retry = Some(Arc::new(hook));
        self
    }

    /// Says what of the settings contradicts the rest. They do no harm, but they do not do what they say; whoever reads them
    /// from a file should ask.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if the longest wait is shorter than the first, or if all attempts together may take less
    /// time than the first wait or the longest, so that it is never reached (the rules of the OpenTelemetry Collector).
    pub fn check(&self) -> Result<()> {
        let Self {
            initial_interval,
            max_interval,
            ..
        } = *self;
        if max_interval < initial_interval {
            return Err(Error::config(format!(
                "the longest wait between retries, {max_interval:?}, is shorter than the first, {initial_interval:?}: raise it"
            )));
        }
        match self.max_elapsed {
            Some(elapsed) if elapsed < max_interval => Err(Error::config(format!(
                "retries may take {elapsed:?} in all, and a wait between them {max_interval:?}: raise the first or lower the second"
            ))),
            _ => Ok(()),
        }
    }

    pub(crate) fn tell(&self, event: impl FnOnce() -> RetryEvent) {
        let Some(hook) = &self.on_retry else {
            return;
        };
        let event = event();
        if let Err(error) = call_guarded("hook for retries", || hook(&event)) {
            tracing::error!(target: "outspan", "{}", error.chain());
        }
    }

    pub(crate) fn retries_max(&self) -> Option<u32> {
        self.max_retries
    }
}

impl PartialEq for Retry {
    /// Hooks are equal if they are the same one.
    fn eq(&self, other: &Self) -> bool {
        let hooks_are_equal = match (&self.on_retry, &other.on_retry) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (None, None) => true,
            _ => false,
        };
        hooks_are_equal
            && self.initial_interval == other.initial_interval
            && self.max_interval == other.max_interval
            && self.max_probe_interval == other.max_probe_interval
            && self.max_elapsed == other.max_elapsed
            && self.max_retries == other.max_retries
            && self.max_retry_after == other.max_retry_after
            && self.multiplier == other.multiplier
            && self.jitter == other.jitter
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("initial_interval", &self.initial_interval)
            .field("max_interval", &self.max_interval)
            .field("max_probe_interval", &self.max_probe_interval)
            .field("max_elapsed", &self.max_elapsed)
            .field("max_retries", &self.max_retries)
            .field("max_retry_after", &self.max_retry_after)
            .field("multiplier", &self.multiplier)
            .field("jitter", &self.jitter)
            .field("on_retry", &self.on_retry.is_some())
            .finish()
    }
}

/// The waits between attempts. Each is longer than the one before, up to a bound.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    initial_interval: Duration,
    max_interval: Duration,
    max_retry_after: Duration,
    multiplier: f64,
    /// By which part of itself a wait may become shorter, and by which longer.
    spread: (f64, f64),
    /// The next wait, before it is spread.
    interval: Duration,
}

/// By which part of itself a wait that the destination asked for may become longer.
const SPREAD_OF_ASKED: f64 = 0.1;

impl Backoff {
    pub(crate) fn new(settings: &Retry) -> Self {
        Self {
            initial_interval: settings.initial_interval,
            max_interval: settings.max_interval,
            max_retry_after: settings.max_retry_after,
            multiplier: settings.multiplier,
            spread: (settings.jitter, settings.jitter),
            interval: settings.initial_interval.min(settings.max_interval),
        }
    }

    /// The waits between probes of a destination that is down.
    pub(crate) fn of_probes(settings: &Retry) -> Self {
        let max = settings.max_probe_interval;
        Self {
            initial_interval: settings.initial_interval.min(max),
            max_interval: settings.max_interval.min(max),
            interval: settings
                .initial_interval
                .min(settings.max_interval)
                .min(max),
            ..Self::new(settings)
        }
    }

    /// Doubles each wait. None is shorter than its interval, and each is up to 10 % longer.
    pub(crate) fn doubling(
        initial_interval: Duration,
        max_interval: Duration,
        max_retry_after: Duration,
    ) -> Self {
        Self {
            initial_interval,
            max_interval,
            max_retry_after: max_retry_after.min(ASKED_MAX),
            multiplier: 2.0,
            spread: (0.0, SPREAD_OF_ASKED),
            interval: initial_interval.min(max_interval),
        }
    }

    /// Starts again with the first wait.
    pub(crate) fn reset(&mut self) {
        self.interval = self.initial_interval.min(self.max_interval);
    }

    /// The same settings, with this interval or the first, at most the longest.
    pub(crate) fn begin_with(&self, interval: Option<Duration>) -> Self {
        let mut other = self.clone();
        other.reset();
        other.interval = interval.unwrap_or(other.interval).min(other.max_interval);
        other
    }

    /// The next wait, before it is spread.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// The next wait: at least what the destination asked for, spread so that many callers do not come back in step.
    ///
    /// `interval x uniform(1 - jitter, 1 + jitter)`, as in opentelemetry-go's `internal/retry`; the cap holds before the spread.
    pub(crate) fn next(&mut self, asked_for: Option<Duration>) -> Duration {
        /// Without it an interval of zero would try again and again without a pause.
        const WAIT_MIN: Duration = Duration::from_millis(1);

        let (shorter, longer) = self.spread;
        let own = scaled(
            self.interval,
            1.0 - shorter + (shorter + longer) * fastrand::f64(),
        );
        self.interval = scaled(self.interval, self.multiplier).min(self.max_interval);
        let wait = match asked_for {
            None => own,
            Some(asked) => self.spread(asked).max(own),
        };
        wait.max(WAIT_MIN)
    }

    /// What the destination asked for, within the bound, and up to 10 % more, so that many callers do not come back in
    /// step.
    pub(crate) fn spread(&self, asked: Duration) -> Duration {
        let asked = asked.min(self.max_retry_after);
        scaled(asked, 1.0 + SPREAD_OF_ASKED * fastrand::f64())
    }
}

/// A duration times a factor; a product that a `Duration` cannot hold is the longest one.
fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}
