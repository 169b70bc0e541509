//! Spreading bursts, so that receivers can keep up.

use std::time::Duration;

use tokio::time::Instant;

/// How many bytes may go at once: what the smallest usual socket buffer has room for.
const BURST: usize = 96 << 10;

/// Says when bytes may go.
///
/// It supposes a receiver that reads steadily: what went out is `clear_at` read, and only so much may be unread.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: usize,
    clear_at: Instant,
}

impl Pace {
    pub(super) fn new(bytes_per_second: usize) -> Self {
        Self {
            bytes_per_second,
            clear_at: Instant::now(),
        }
    }

    /// How long so many bytes have to wait.
    pub(super) fn wait(&self, bytes: usize, now: Instant) -> Duration {
        let unread = self.clear_at.saturating_duration_since(now);
        unread
            .saturating_add(self.time_for(bytes))
            .saturating_sub(self.time_for(BURST))
    }

    /// Notes that so many bytes went out.
    pub(super) fn sent(&mut self, bytes: usize, now: Instant) {
        let begin = self.clear_at.max(now);
        // A clock that cannot hold the time has no use for it either.
        self.clear_at = begin.checked_add(self.time_for(bytes)).unwrap_or(begin);
    }

    fn time_for(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_pace() {
        let mut pace = Pace::new(BURST);
        let now = Instant::now();
        assert_eq!(pace.wait(BURST, now), Duration::ZERO);
        pace.sent(BURST / 2, now);
        assert_eq!(pace.wait(BURST / 2, now), Duration::ZERO);
        pace.sent(BURST / 2, now);
        let wait = pace.wait(BURST / 4, now);
        assert!(
            wait.abs_diff(Duration::from_millis(250)) < Duration::from_millis(1),
            "{wait:?}"
        );
        let later = now + Duration::from_secs(1);
        assert_eq!(pace.wait(BURST, later), Duration::ZERO);
    }

    #[test]
    fn no_rest_is_saved_up_for_more_than_a_burst() {
        let pace = Pace::new(BURST);
        let later = Instant::now() + Duration::from_secs(3600);
        let wait = pace.wait(2 * BURST, later);
        assert!(
            wait.abs_diff(Duration::from_secs(1)) < Duration::from_millis(1),
            "{wait:?}"
        );
    }

    #[test]
    fn the_largest_pace_never_waits_and_the_smallest_nearly_always() {
        let mut fast = Pace::new(usize::MAX);
        let mut slow = Pace::new(1);
        let now = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(fast.wait(65_000, now), Duration::ZERO);
            fast.sent(65_000, now);
            slow.sent(65_000, now);
        }
        assert!(slow.wait(1, now) > Duration::from_secs(60_000_000));
    }
}
