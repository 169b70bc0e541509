//! Saying when too much fails, once, and when that is over.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::outcome::Outcome;
use crate::Error;
use crate::ErrorKind;
use crate::Result;

/// Into how many parts the window is cut: the oldest part leaves at once.
const PARTS: usize = 10;

/// By how much the rate has to fall below the threshold before the trouble counts as over, so that a rate around the
/// threshold is told once.
const OVER_AT: f64 = 0.5;

/// Says that more spans fail than they should, or that this is over.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailureRateEvent {
    /// The name of the measured exporter.
    pub name: Arc<str>,
    /// True when the rate has reached the threshold, false when it has fallen to half of it.
    pub is_failing: bool,
    /// Which part of the spans in the window was not delivered, 0 to 1.
    pub rate: f64,
    /// The threshold as it was set.
    pub threshold: f64,
    /// The window as it was set.
    pub window: Duration,
    /// How many spans ended in the window.
    pub spans: u64,
    /// How many of them were not delivered.
    pub missed: u64,
    /// The error of the export that raised the alarm, where it has one; nothing when the trouble is over.
    pub error: Option<Error>,
}

/// What a user wants to be called when too much fails.
pub(super) type AlertHook = Arc<dyn Fn(&FailureRateEvent) + Send + Sync>;

/// When to call whom.
#[derive(Clone)]
pub(super) struct Alert {
    pub(super) threshold: f64,
    pub(super) window: Duration,
    pub(super) hook: AlertHook,
}

/// What happened in the last while, and whether that was an alarm.
#[derive(Debug)]
pub(super) struct Window {
    began: Instant,
    part: u64,
    parts: [Part; PARTS],
    is_failing: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    spans: u64,
    missed: u64,
}

/// A step over the threshold, or back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Crossing {
    is_failing: bool,
    spans: u64,
    missed: u64,
}

impl Alert {
    /// Finds mistakes.
    ///
    /// # Errors
    ///
    /// [`Config`](ErrorKind::Config) for a threshold that no rate can be at, and for a window without length.
    pub(super) fn check(&self) -> Result<()> {
        let Self {
            threshold, window, ..
        } = self;
        if !(*threshold > 0.0 && *threshold <= 1.0) {
            let message =
                format!("the failure rate {threshold} is none: give more than 0, at most 1");
            return Err(Error::new(ErrorKind::Config, message));
        }
        if window.is_zero() {
            return Err(Error::config(
                "the window of a failure rate is 0: give it a length",
            ));
        }
        Ok(())
    }

    /// Looks whether the rate has crossed the threshold by an export that has ended.
    pub(super) fn note(
        &self,
        window: &mut Window,
        outcome: &Outcome<'_>,
        now: Instant,
    ) -> Option<Crossing> {
        window.advance(self.window, now);
        let missed = outcome.missed();
        let latest = window.latest();
        latest.spans += outcome.delivered + missed;
        latest.missed += missed;
        let Part { spans, missed } = window.total();
        if spans == 0 {
            return None;
        }
        let rate = missed as f64 / spans as f64;
        let is_failing = match window.is_failing {
            true => rate > self.threshold * OVER_AT,
            false => rate >= self.threshold,
        };
        if is_failing == window.is_failing {
            return None;
        }
        window.is_failing = is_failing;
        Some(Crossing {
            is_failing,
            spans,
            missed,
        })
    }

    /// What the user is told of it.
    pub(super) fn event(
        &self,
        name: &Arc<str>,
        crossing: Crossing,
        error: Option<&Error>,
    ) -> FailureRateEvent {
        let Crossing {
            is_failing,
            spans,
            missed,
        } = crossing;
        FailureRateEvent {
            name: Arc::clone(name),
            is_failing,
            rate: missed as f64 / spans as f64,
            threshold: self.threshold,
            window: self.window,
            spans,
            missed,
            error: error.filter(|_| is_failing).cloned(),
        }
    }
}

impl fmt::Debug for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alert")
            .field("threshold", &self.threshold)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            part: 0,
            parts: [Part::default(); PARTS],
            is_failing: false,
        }
    }

    /// Forgets what is older than the window.
    fn advance(&mut self, window: Duration, now: Instant) {
        let length = (window.as_nanos() / PARTS as u128).max(1);
        let part = now.saturating_duration_since(self.began).as_nanos() / length;
        // A clock that has run for so many parts that they cannot be counted stands still.
        let part = u64::try_from(part).unwrap_or(u64::MAX);
        let passed = part.saturating_sub(self.part);
        if passed >= PARTS as u64 {
            self.parts = [Part::default(); PARTS];
        } else {
            for skipped in self.part + 1..=self.part + passed {
                *self.at(skipped) = Part::default();
            }
        }
        self.part = self.part.max(part);
    }

    fn latest(&mut self) -> &mut Part {
        self.at(self.part)
    }

    fn at(&mut self, part: u64) -> &mut Part {
        // Invariant: a remainder is below what it is divided by.
        &mut self.parts[(part % PARTS as u64) as usize]
    }

    fn total(&self) -> Part {
        let mut total = Part::default();
        for part in &self.parts {
            total.spans += part.spans;
            total.missed += part.missed;
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Delivery;

    const SECOND: Duration = Duration::from_secs(1);

    fn alert(threshold: f64) -> Alert {
        Alert {
            threshold,
            window: SECOND * 10,
            hook: Arc::new(|_| {}),
        }
    }

    /// Lets an export of ten spans end, of which some are missed.
    fn note(alert: &Alert, window: &mut Window, missed: u64, now: Instant) -> Option<bool> {
        let result = Ok(Delivery {
            accepted: 10 - missed,
            refused: missed,
            ..Delivery::default()
        });
        let crossing = alert.note(window, &Outcome::of(10, &result), now);
        crossing.map(|crossing| crossing.is_failing)
    }

    #[test]
    fn a_rate_that_wavers_around_the_threshold_is_told_once() {
        let alert = alert(0.5);
        let now = Instant::now();
        let mut window = Window::new(now);
        assert_eq!(note(&alert, &mut window, 4, now), None);
        assert_eq!(note(&alert, &mut window, 6, now), Some(true));
        for missed in [4, 6, 3, 7] {
            assert_eq!(note(&alert, &mut window, missed, now), None);
        }
        let mut told = Vec::new();
        for _ in 0..20 {
            told.extend(note(&alert, &mut window, 0, now));
        }
        assert_eq!(told, [false], "told once that it is over");
        for _ in 0..40 {
            told.extend(note(&alert, &mut window, 10, now));
        }
        assert_eq!(told, [false, true], "and it can begin again");
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let alert = alert(0.5);
        let began = Instant::now();
        let mut window = Window::new(began);
        assert_eq!(note(&alert, &mut window, 10, began), Some(true));
        assert_eq!(note(&alert, &mut window, 0, began + SECOND * 9), None);
        let over = note(&alert, &mut window, 0, began + SECOND * 10);
        assert_eq!(over, Some(false));
        let later = note(&alert, &mut window, 10, began + SECOND * 1_000_000);
        assert_eq!(later, Some(true), "only the last one counts");
    }

    #[test]
    fn a_window_too_short_to_cut_and_a_clock_that_goes_back_do_no_harm() {
        let alert = Alert {
            window: Duration::from_nanos(3),
            ..alert(1.0)
        };
        let began = Instant::now() + SECOND;
        let mut window = Window::new(began);
        assert_eq!(note(&alert, &mut window, 10, began), Some(true));
        assert_eq!(note(&alert, &mut window, 10, began - SECOND), None);
        assert_eq!(note(&alert, &mut window, 0, began + SECOND), Some(false));
    }

    #[test]
    fn thresholds_that_no_rate_can_be_at_are_mistakes() {
        for threshold in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(alert(threshold).check().is_err(), "{threshold}");
        }
        assert!(alert(1.0).check().is_ok());
        let mut without_length = alert(0.1);
        without_length.window = Duration::ZERO;
        assert!(without_length.check().is_err());
    }
}
