//! How long spans wait in the queue of a destination that takes some all the time.
//!
//! A queue may hold more than its destination takes in the time of an answer. The oldest batch says so only after it has
//! waited, and a burst comes at once; so what a destination takes in a second is measured while its queue is busy, and
//! remembered for a while.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

/// How long a measurement counts, in multiples of the time that spans may wait.
const MEMORY: u32 = 8;

/// Measures one destination.
#[derive(Debug, Default)]
pub(super) struct Pace {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the queue was busy the last time, and how many spans had left it then.
    sample: Option<(Instant, u64)>,
    /// Spans a second, and when that was measured.
    rate: Option<(f64, Instant)>,
}

impl Pace {
    /// Whether spans that come now would wait longer than `max_wait`, behind `held` spans in a busy queue. `done` spans have
    /// left it so far.
    pub(super) fn is_behind(&self, held: u64, done: u64, max_wait: Duration) -> bool {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.measure(done, now, max_wait);
        let memory = max_wait.saturating_mul(MEMORY);
        let rate = state
            .rate
            .filter(|(_, at)| now.duration_since(*at) < memory);
        rate.is_some_and(|(rate, _)| held as f64 > rate * max_wait.as_secs_f64())
    }

    /// Notes that the queue is not busy: what leaves it now says nothing about its destination.
    pub(super) fn is_idle(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sample = None;
    }
}

impl State {
    fn measure(&mut self, done: u64, now: Instant, max_wait: Duration) {
        let Some((since, before)) = self.sample else {
            self.sample = Some((now, done));
            return;
        };
        let elapsed = now.duration_since(since);
        if elapsed < max_wait / 2 {
            return;
        }
        self.sample = Some((now, done));
        // Requests that are far apart say nothing of what was between them.
        if elapsed > max_wait.saturating_mul(2) {
            return;
        }
        let measured = done.saturating_sub(before) as f64 / elapsed.as_secs_f64();
        // Batches leave in lumps.
        let rate = self
            .rate
            .map_or(measured, |(rate, _)| (rate + measured) / 2.0);
        self.rate = Some((rate, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_WAIT: Duration = Duration::from_secs(4);

    async fn after(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn spans_wait_for_those_before_them_at_the_measured_pace() {
        let pace = Pace::default();
        assert!(!pace.is_behind(1 << 40, 0, MAX_WAIT), "nothing is known");
        after(2).await;
        // 100 spans a second.
        assert!(!pace.is_behind(400, 200, MAX_WAIT));
        assert!(pace.is_behind(401, 200, MAX_WAIT));
        after(2).await;
        assert!(!pace.is_behind(800, 800, MAX_WAIT), "it is faster now");
    }

    #[tokio::test(start_paused = true)]
    async fn pace_outlasts_a_quiet_moment_and_is_forgotten() {
        let pace = Pace::default();
        pace.is_behind(9, 0, MAX_WAIT);
        after(2).await;
        pace.is_behind(9, 200, MAX_WAIT);
        pace.is_idle();
        after(10).await;
        assert!(pace.is_behind(401, 205, MAX_WAIT), "a burst");
        after(60).await;
        assert!(!pace.is_behind(1 << 40, 205, MAX_WAIT));
    }

    #[tokio::test(start_paused = true)]
    async fn destination_that_takes_nothing_is_behind() {
        let pace = Pace::default();
        pace.is_behind(9, 7, MAX_WAIT);
        after(2).await;
        assert!(pace.is_behind(9, 7, MAX_WAIT));
        after(2).await;
        assert!(!pace.is_behind(9, 27, MAX_WAIT), "and then is not");
    }
}
