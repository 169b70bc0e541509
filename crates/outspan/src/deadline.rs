//! The time by which a call has to be done.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use crate::race::Ended;
use crate::race::race;
use crate::time;

/// Says by when a call has to be done, and which limit that is.
///
/// It travels with every call, so whoever is asked can stop in time and say what is left undone.
/// The clock is tokio's, which tests may pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    at: Option<Instant>,
    limit: Limit,
}

/// Names a limit: what it is called and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    name: &'static str,
    length: Option<Duration>,
}

impl Limit {
    /// How long the limit was when it was made, if it ends.
    pub(crate) fn length(&self) -> Option<Duration> {
        self.length
    }

    /// What the limit is called, such as `attempt timeout`.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.length {
            Some(length) => write!(f, "{} of {length:?}", self.name),
            None => f.write_str(self.name),
        }
    }
}

impl Deadline {
    /// Ends `length` from now. A length beyond what the clock can hold never ends.
    pub fn after(length: Duration) -> Self {
        Self {
            at: Instant::now().checked_add(length),
            limit: Limit {
                name: "deadline",
                length: Some(length),
            },
        }
    }

    /// Ends `length` after `start`, which may have passed.
    pub(crate) fn since(start: Instant, length: Duration) -> Self {
        Self {
            at: start.checked_add(length),
            ..Self::after(length)
        }
    }

    /// Never ends.
    pub fn never() -> Self {
        Self {
            at: None,
            limit: Limit {
                name: "no deadline",
                length: None,
            },
        }
    }

    /// Gives the limit a name, which the error of whoever runs into it will show.
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.limit.name = name;
        self
    }

    /// The earlier of the two, with its name.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        match (self.at, other.at) {
            (Some(mine), Some(theirs)) if theirs < mine => other,
            (None, Some(_)) => other,
            _ => self,
        }
    }

    /// A limit of its own for the first half of the time that is left, or for `endless` if there is no end.
    pub(crate) fn first_half(self, name: &'static str, endless: Duration) -> Self {
        let now = Instant::now();
        let left = self.at.map(|at| at.saturating_duration_since(now));
        let length = left.map_or(endless, |left| left / 2);
        Self {
            at: now.checked_add(length),
            limit: Limit {
                name,
                length: Some(length),
            },
        }
    }

    /// The same limit, that much later.
    pub(crate) fn later(self, length: Duration) -> Self {
        Self {
            at: self.at.and_then(|at| at.checked_add(length)),
            ..self
        }
    }

    /// The same limit, that much later; that much from now if even that has passed.
    pub(crate) fn at_least_later(self, length: Duration) -> Self {
        let later = self.later(length);
        match later.has_passed() {
            true => Self {
                at: Instant::now().checked_add(length),
                ..self
            },
            false => later,
        }
    }

    /// The limit that this deadline stands for.
    pub fn limit(&self) -> Limit {
        self.limit
    }

    /// How much time is left: zero when it has passed, `None` when it never ends.
    pub fn remaining(&self) -> Option<Duration> {
        self.at
            .map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether the time is up.
    pub fn has_passed(&self) -> bool {
        self.at.is_some_and(|at| at <= Instant::now())
    }

    /// Whether a wait of `length` ends before this deadline.
    pub fn allows(&self, length: Duration) -> bool {
        self.remaining().is_none_or(|left| length < left)
    }

    /// Waits until the time is up; for ever if it never ends.
    pub async fn passed(&self) {
        match self.at {
            Some(at) => time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Runs `work` until it is done or the time is up.
    ///
    /// Work that is ready is taken even when the time is up. Returns `None` when time ran out.
    ///
    /// # Cancellation
    ///
    /// `work` is dropped when the time is up.
    pub fn run<F: Future>(&self, work: F) -> impl Future<Output = Option<F::Output>> + use<F> {
        let limit = *self;
        race(work, async move { limit.passed().await }).map(|ended| match ended {
            Ended::Work(output) => Some(output),
            Ended::Limit(()) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_limit_keeps_its_name() {
        let attempt = Deadline::after(Duration::from_secs(1)).named("attempt timeout");
        let export = Deadline::after(Duration::from_secs(5)).named("export deadline");
        assert_eq!(attempt.min(export).limit().name(), "attempt timeout");
        assert_eq!(export.min(attempt).limit().name(), "attempt timeout");
        assert_eq!(
            Deadline::never().min(export).limit().name(),
            "export deadline"
        );
        assert_eq!(
            export.min(Deadline::never()).limit().name(),
            "export deadline"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn work_ends_when_time_is_up_and_not_before() {
        let until = Deadline::after(Duration::from_secs(3));
        let quick = until.run(tokio::time::sleep(Duration::from_secs(2))).await;
        assert!(quick.is_some());
        let slow = until.run(tokio::time::sleep(Duration::from_secs(2))).await;
        assert!(slow.is_none());
        assert!(until.has_passed());
    }

    #[test]
    fn a_wait_works_without_any_runtime() {
        let until = Deadline::after(Duration::from_millis(20));
        let done = futures_util::future::FutureExt::now_or_never(until.run(std::future::ready(1)));
        assert_eq!(done, Some(Some(1)));
        struct Park(std::thread::Thread);
        impl std::task::Wake for Park {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = std::sync::Arc::new(Park(std::thread::current())).into();
        let mut context = std::task::Context::from_waker(&waker);
        let mut wait = std::pin::pin!(until.run(std::future::pending::<()>()));
        while wait.as_mut().poll(&mut context).is_pending() {
            std::thread::park_timeout(Duration::from_secs(5));
        }
        assert!(until.has_passed());
    }
}
