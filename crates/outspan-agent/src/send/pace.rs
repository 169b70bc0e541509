//! Keeps to `--rate`.

use std::time::Duration;

use tokio::time::Instant;

/// Spreads spans over time: after a batch it waits as long as its spans may take.
///
/// Time that was not used is not made up for, so the rate is never exceeded.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Option<f64>,
    next: Instant,
}

impl Pace {
    /// Takes the rate in spans per second; `None` never waits.
    pub(crate) fn new(rate: Option<f64>) -> Self {
        Self {
            rate,
            next: Instant::now(),
        }
    }

    /// Waits until another batch may go.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing.
    pub(crate) async fn ready(&self) {
        if self.rate.is_some() {
            tokio::time::sleep_until(self.next).await;
        }
    }

    /// Says that `spans` spans go now.
    pub(crate) fn sent(&mut self, spans: u64) {
        let Some(rate) = self.rate else { return };
        let length = Duration::try_from_secs_f64(spans as f64 / rate).unwrap_or(Duration::MAX);
        let begin = self.next.max(Instant::now());
        // A clock that cannot hold the time would be centuries away.
        self.next = begin.checked_add(length).unwrap_or(begin);
    }

    /// How many spans a batch may hold so that one second's worth goes at once at most.
    pub(crate) fn batch_spans(&self, wanted: usize) -> usize {
        match self.rate {
            Some(rate) => wanted.min((rate as usize).max(1)),
            None => wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn batches_are_spread_over_time() {
        let mut pace = Pace::new(Some(100.0));
        let began = Instant::now();
        for _ in 0..5 {
            pace.ready().await;
            pace.sent(50);
        }
        assert_eq!(began.elapsed().as_millis() / 10, 200);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let later = Instant::now();
        for _ in 0..3 {
            pace.ready().await;
            pace.sent(50);
        }
        assert_eq!(later.elapsed().as_millis() / 10, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nothing_waits() {
        let mut pace = Pace::new(None);
        let began = Instant::now();
        pace.sent(1_000_000);
        pace.ready().await;
        assert!(began.elapsed().is_zero());
        assert_eq!(pace.batch_spans(2048), 2048);
        assert_eq!(Pace::new(Some(10.5)).batch_spans(2048), 10);
        assert_eq!(Pace::new(Some(0.5)).batch_spans(2048), 1);
    }
}
