//! How long exports take, in bounded memory.

use std::time::Duration;

/// Parts that each doubling is divided into: what is read is at most a sixteenth above what was.
const PARTS: usize = 16;

/// Doublings of a microsecond; the last is at some 19 hours.
const DOUBLINGS: usize = 36;

/// Counts durations in classes, from microseconds to hours.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Latency {
    pub(super) fn new() -> Self {
        Self {
            counts: vec![0; PARTS * DOUBLINGS],
            total: 0,
            longest: Duration::ZERO,
        }
    }

    /// Counts a duration.
    pub(super) fn add(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let last = self.counts.len() - 1;
        if let Some(count) = self.counts.get_mut(class(micros).min(last)) {
            *count += 1;
        }
        self.total += 1;
        self.longest = self.longest.max(duration);
    }

    /// Whether nothing was counted.
    pub(super) fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The longest duration.
    pub(super) fn longest(&self) -> Duration {
        self.longest
    }

    /// The duration that so many of a hundred do not exceed.
    pub(super) fn percentile(&self, percent: u64) -> Duration {
        let wanted = (self.total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (class, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(end(class)).min(self.longest);
            }
        }
        self.longest
    }
}

/// The class of a number: one for each number below [`PARTS`], then `PARTS` for each doubling.
fn class(number: u64) -> usize {
    let doubling = number.checked_ilog2().unwrap_or(0) as usize;
    let first = PARTS.ilog2() as usize;
    if doubling < first {
        return number as usize;
    }
    let shift = doubling - first;
    // The leading bit is left out, so this is below PARTS.
    let part = (number >> shift) as usize & (PARTS - 1);
    (shift + 1) * PARTS + part
}

/// The largest number of a class.
fn end(class: usize) -> u64 {
    if class < PARTS {
        return class as u64;
    }
    let shift = class / PARTS - 1;
    let part = class % PARTS;
    ((PARTS + part + 1) as u64) * (1 << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_in_the_class_that_ends_with_or_above_it() {
        for number in (0..5000).chain([1 << 20, (1 << 30) + 12_345, 1 << 38]) {
            let class = class(number);
            assert!(end(class) >= number, "{number}");
            assert!(class == 0 || end(class - 1) < number, "{number}");
            assert!(end(class) - number <= number / 16, "{number}");
        }
    }

    #[test]
    fn percentiles_are_near_the_truth() {
        let mut latency = Latency::new();
        assert!(latency.is_empty());
        for millis in 1..=1000 {
            latency.add(Duration::from_millis(millis));
        }
        let near = |percent, millis: u64| {
            let found = latency.percentile(percent).as_millis() as u64;
            assert!((millis..=millis * 17 / 16).contains(&found), "{found}");
        };
        near(50, 500);
        near(99, 990);
        assert_eq!(latency.percentile(100), Duration::from_secs(1));
        assert_eq!(latency.longest(), Duration::from_secs(1));
    }

    #[test]
    fn what_is_beyond_all_classes_is_counted() {
        let mut latency = Latency::new();
        latency.add(Duration::MAX);
        assert_eq!(latency.longest(), Duration::MAX);
        assert!(latency.percentile(50) > Duration::from_secs(3600));
    }
}
