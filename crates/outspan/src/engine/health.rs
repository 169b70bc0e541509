//! Whether a destination takes spans: up, down, or being probed. Plain state without I/O, timers and tasks.
//!
//! ```text
//!            mark_down                start_probe
//!   up ───────────────────▶ down ────────────────────▶ probing
//!    ▲                       ▲  ▲                       │ │ │
//!    │                       │  └── probe_inconclusive ─┘ │ │
//!    │                       └────────── mark_down ───────┘ │
//!    └────────────────────── mark_up ───────────────────────┘
//! ```
//!
//! While the destination is down, one export at a time probes it. Before each probe there is a wait: the backoff, or the wait
//! that the destination asked for if that is longer. A wait that the destination asked for holds until it has passed or the
//! destination answers, whatever fails in between.
//!
//! The owner decides what counts as a failure, and when failures are enough to call [`Health::mark_down`]. All methods take the
//! time from the caller, so that a decision and its reason have the same `now`.

use std::time::Duration;

use tokio::time::Instant;

use super::Backoff;
use super::WAIT_MAX;
use crate::Error;

/// The health of one destination.
#[derive(Debug)]
pub(crate) struct Health {
    probes: Backoff,
    /// The waits of a batch that fails while others succeed.
    batches: Backoff,
    down: Option<Down>,
    /// Kept apart from `down`: a destination may ask for a wait before it counts as down.
    asked: Option<AskedWait>,
}

/// Why the destination is down, and when it is probed.
#[derive(Debug)]
struct Down {
    error: Error,
    /// In the past while a probe may start. Meaningless while one is in flight.
    probe_at: Instant,
    is_probing: bool,
}

/// A wait that the destination asked for.
#[derive(Clone, Debug)]
pub(crate) struct AskedWait {
    pub(crate) end: Instant,
    /// The answer that asked for it.
    pub(crate) error: Error,
}

/// Whether an export may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The destination is up.
    Open,
    /// The destination is down, and it is time to probe it: see [`Health::start_probe`].
    Probe,
    /// The destination is down until then at least.
    Wait(Instant),
    /// A probe is in flight.
    Probing,
}

impl Health {
    /// Begins as up. The waits between probes are `probes`.
    pub(crate) fn new(probes: Backoff) -> Self {
        let batches = probes.clone();
        Self::with_batches(probes, batches)
    }

    /// Begins as up. The waits between probes are `probes`, those of single batches are `batches`.
    pub(crate) fn with_batches(probes: Backoff, batches: Backoff) -> Self {
        Self {
            probes,
            batches,
            down: None,
            asked: None,
        }
    }

    /// Whether the destination takes spans, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        self.down.is_none()
    }

    /// Whether a probe is in flight.
    pub(crate) fn is_probing(&self) -> bool {
        self.down.as_ref().is_some_and(|down| down.is_probing)
    }

    /// Decides whether an export may start now.
    pub(crate) fn admission(&self, now: Instant) -> Admission {
        match &self.down {
            None => Admission::Open,
            Some(down) if down.is_probing => Admission::Probing,
            Some(down) if now < down.probe_at => Admission::Wait(down.probe_at),
            Some(_) => Admission::Probe,
        }
    }

    /// When the next probe may start. `None` while the destination is up, and while a probe is in flight.
    pub(crate) fn probe_at(&self) -> Option<Instant> {
        let down = self.down.as_ref().filter(|down| !down.is_probing)?;
        Some(down.probe_at)
    }

    /// The failure for which the destination is down.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.down.as_ref().map(|down| &down.error)
    }

    /// The wait that the destination asked for, until it has passed.
    pub(crate) fn asked_wait(&self, now: Instant) -> Option<&AskedWait> {
        self.asked.as_ref().filter(|asked| now < asked.end)
    }

    /// Returns how long one batch waits that fails while others succeed, and the interval of its next wait.
    pub(crate) fn wait_of_batch(&self, interval: Option<Duration>) -> (Duration, Duration) {
        let mut backoff = self.batches.begin_with(interval);
        let wait = backoff.next(None).min(WAIT_MAX);
        (wait, backoff.interval())
    }

    /// Returns how long one batch waits if it is unknown whether the batch or the destination is to blame, and the interval of its
    /// next wait. While no other batch waits, this one finds out whether the destination is back, so it does not wait longer
    /// than a probe.
    pub(crate) fn wait_of_suspect(&self, interval: Option<Duration>) -> (Duration, Duration) {
        let (_, next) = self.wait_of_batch(interval);
        let wait = self.probes.begin_with(interval).next(None).min(WAIT_MAX);
        (wait, next)
    }

    /// Counts the export that starts now as the probe.
    pub(crate) fn start_probe(&mut self) {
        if let Some(down) = &mut self.down {
            down.is_probing = true;
        }
    }

    /// Notes that the destination answered. Returns whether it was down.
    pub(crate) fn mark_up(&mut self) -> bool {
        self.probes.reset();
        self.asked = None;
        self.down.take().is_some()
    }

    /// Notes a failure for which the destination counts as down, or as still down. The next probe waits for the backoff, and for
    /// what the destination asked for.
    ///
    /// `max_wait` bounds the backoff, for example while a flush is in progress. `is_probe`: the export was the probe.
    pub(crate) fn mark_down(
        &mut self,
        error: &Error,
        is_probe: bool,
        max_wait: Duration,
        now: Instant,
    ) {
        self.note_asked(error, now);
        // A user's number is no reason to overflow the clock.
        let own = self.probes.next(None).min(max_wait).min(WAIT_MAX);
        self.go_down(error, is_probe, now + own, now);
    }

    /// Notes a failure that may be the fault of one batch: the destination counts as down only until the next export, which may
    /// probe it at once.
    pub(crate) fn verify(&mut self, error: &Error, is_probe: bool, now: Instant) {
        self.note_asked(error, now);
        self.go_down(error, is_probe, now, now);
    }

    fn go_down(&mut self, error: &Error, is_probe: bool, probe_at: Instant, now: Instant) {
        let asked = self.asked_wait(now).map(|asked| asked.end);
        let was_probing = self.is_probing();
        self.down = Some(Down {
            error: error.clone(),
            probe_at: asked.map_or(probe_at, |end| end.max(probe_at)),
            // Another export than the probe does not end the probe.
            is_probing: was_probing && !is_probe,
        });
    }

    /// Notes a failure that does not change whether the destination is down, such as that of an export that was in flight when it
    /// went down. A wait that it asks for counts all the same.
    pub(crate) fn note_failure(&mut self, error: &Error, now: Instant) {
        self.note_asked(error, now);
        let asked = self.asked_wait(now).map(|asked| asked.end);
        if let Some(down) = &mut self.down {
            down.error = error.clone();
            down.probe_at = asked.map_or(down.probe_at, |end| end.max(down.probe_at));
        }
    }

    /// Notes that an export ended without an answer of the destination. If it was the probe, the next export may be.
    pub(crate) fn probe_inconclusive(&mut self, is_probe: bool) {
        if let Some(down) = &mut self.down
            && is_probe
        {
            down.is_probing = false;
        }
    }

    /// Ends the backoff. A wait that the destination asked for stays.
    pub(crate) fn end_backoff(&mut self, now: Instant) {
        let end = self.asked_wait(now).map_or(now, |asked| asked.end);
        if let Some(down) = &mut self.down {
            down.probe_at = down.probe_at.min(end);
        }
    }

    /// Of two waits the one that ends later holds.
    fn note_asked(&mut self, error: &Error, now: Instant) {
        let Some(wait) = error.retry_after() else {
            return;
        };
        let end = now + self.probes.spread(wait).min(WAIT_MAX);
        if self.asked_wait(now).is_none_or(|asked| asked.end <= end) {
            self.asked = Some(AskedWait {
                end,
                error: error.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Retry;

    const SECOND: Duration = Duration::from_secs(1);

    /// Waits of 1, 2, 4, 8, 8 … s.
    fn health() -> Health {
        let retry = Retry::default()
            .initial_interval(SECOND)
            .multiplier(2.0)
            .max_interval(8 * SECOND)
            .max_retry_after(60 * SECOND)
            .jitter(0.0);
        Health::new(Backoff::new(&retry))
    }

    fn plain() -> Error {
        Error::unavailable("down")
    }

    fn asking(wait: Duration) -> Error {
        Error::throttled("busy").with_retry_after(wait)
    }

    /// Marks it down for an export that was no probe.
    fn mark_down(health: &mut Health, error: &Error, now: Instant) {
        health.mark_down(error, false, Duration::MAX, now);
    }

    #[test]
    fn one_probe_at_a_time_and_longer_waits_after_each() {
        let mut health = health();
        let mut now = Instant::now();
        assert_eq!(health.admission(now), Admission::Open);
        mark_down(&mut health, &plain(), now);
        for wait in [1, 2, 4, 8, 8] {
            let at = now + wait * SECOND;
            assert_eq!(health.admission(now), Admission::Wait(at));
            now = at;
            assert_eq!(health.admission(now), Admission::Probe);
            health.start_probe();
            assert_eq!(health.admission(now), Admission::Probing);
            assert_eq!(health.probe_at(), None);
            health.mark_down(&plain(), true, Duration::MAX, now);
        }
        assert!(health.mark_up(), "it was down");
        assert!(!health.mark_up(), "it was up");
        mark_down(&mut health, &plain(), now);
        assert_eq!(health.admission(now), Admission::Wait(now + SECOND));
    }

    #[test]
    fn asked_wait_holds_whatever_fails_before_its_end() {
        let start = Instant::now();
        for follow_up in 0..5 {
            let mut health = health();
            mark_down(&mut health, &asking(30 * SECOND), start);
            let now = start + SECOND;
            match follow_up {
                0 => mark_down(&mut health, &plain(), now),
                1 => health.note_failure(&plain(), now),
                2 => health.verify(&plain(), false, now),
                3 => mark_down(&mut health, &asking(2 * SECOND), now),
                _ => health.end_backoff(now),
            }
            let just_before = start + 30 * SECOND - Duration::from_millis(1);
            let admission = health.admission(just_before);
            assert!(
                matches!(admission, Admission::Wait(at) if at >= start + 30 * SECOND),
                "{follow_up}: {admission:?}"
            );
            let asked = health.asked_wait(just_before).expect("it holds");
            assert_eq!(asked.error.retry_after(), Some(30 * SECOND));
            let after = start + 33 * SECOND;
            assert_eq!(health.admission(after), Admission::Probe, "{follow_up}");
        }
    }

    #[test]
    fn longer_asked_wait_replaces_shorter_one() {
        let mut health = health();
        let now = Instant::now();
        mark_down(&mut health, &asking(5 * SECOND), now);
        health.note_failure(&asking(20 * SECOND), now);
        let asked = health.asked_wait(now).expect("it asked");
        assert!(asked.end >= now + 20 * SECOND);
        assert!(health.probe_at() >= Some(now + 20 * SECOND));
    }

    #[test]
    fn asked_wait_is_capped_and_ends_with_success() {
        let mut health = health();
        let now = Instant::now();
        mark_down(&mut health, &asking(Duration::MAX), now);
        let end = health.probe_at().expect("down");
        assert!(end <= now + 66 * SECOND);
        health.mark_up();
        assert!(health.asked_wait(now).is_none());
        assert_eq!(health.admission(now), Admission::Open);
    }

    #[test]
    fn asked_wait_is_known_while_up() {
        let mut health = health();
        let now = Instant::now();
        health.note_failure(&asking(20 * SECOND), now);
        assert_eq!(health.admission(now), Admission::Open);
        mark_down(&mut health, &plain(), now + SECOND);
        assert!(health.probe_at() >= Some(now + 20 * SECOND));
    }

    #[test]
    fn inconclusive_probe_leaves_it_to_the_next() {
        let mut health = health();
        let now = Instant::now();
        mark_down(&mut health, &plain(), now);
        let now = now + SECOND;
        health.start_probe();
        health.probe_inconclusive(false);
        assert_eq!(health.admission(now), Admission::Probing, "another export");
        health.probe_inconclusive(true);
        assert_eq!(health.admission(now), Admission::Probe);
        health.mark_down(&plain(), true, Duration::MAX, now);
        assert_eq!(health.admission(now), Admission::Wait(now + 2 * SECOND));
    }

    #[test]
    fn failure_of_one_batch_is_verified_at_once() {
        let mut health = health();
        let now = Instant::now();
        health.verify(&plain(), false, now);
        assert_eq!(health.admission(now), Admission::Probe);
        health.start_probe();
        health.verify(&plain(), false, now);
        assert_eq!(health.admission(now), Admission::Probing);
        health.mark_down(&plain(), true, Duration::MAX, now);
        assert_eq!(health.admission(now), Admission::Wait(now + SECOND));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Advance(u64),
        /// Starts an export if it is admitted.
        Start,
        Succeed,
        /// The probe fails, or an export that began before.
        Fail(Option<u64>),
        Verify,
        Straggle(Option<u64>),
        Inconclusive,
        Flush,
    }

    fn arbitrary_op() -> impl Strategy<Value = Op> {
        let asked = || prop::option::weighted(0.3, 0_u64..100_000);
        prop_oneof![
            4 => (0_u64..20_000).prop_map(Op::Advance),
            4 => Just(Op::Start),
            1 => Just(Op::Succeed),
            3 => asked().prop_map(Op::Fail),
            1 => Just(Op::Verify),
            2 => asked().prop_map(Op::Straggle),
            1 => Just(Op::Inconclusive),
            1 => Just(Op::Flush),
        ]
    }

    fn error(asked: Option<u64>) -> Error {
        match asked {
            Some(millis) => asking(Duration::from_millis(millis)),
            None => plain(),
        }
    }

    /// What must be true, kept in the plainest way: times are milliseconds since the start.
    #[derive(Debug, Default)]
    struct Model {
        now: u64,
        is_up: bool,
        is_probing: bool,
        /// The next probe does not start before.
        probe_from: u64,
        /// The waits that were asked for since the last success: when each ends at the earliest.
        asked: Vec<u64>,
        failures: u32,
    }

    impl Model {
        fn note_asked(&mut self, asked: Option<u64>) {
            self.asked
                .extend(asked.map(|wait| self.now + wait.min(60_000)));
        }

        fn asked_end(&self) -> Option<u64> {
            self.asked.iter().copied().max()
        }

        fn check(&self, health: &Health, start: Instant) {
            let now = start + Duration::from_millis(self.now);
            assert_eq!(health.is_up(), self.is_up);
            assert_eq!(health.is_probing(), self.is_probing);
            let asked = self.asked_end().filter(|end| *end > self.now);
            if asked.is_some() {
                assert!(health.asked_wait(now).is_some(), "asked waits are kept");
            }
            let earliest = self.probe_from.max(asked.unwrap_or(0));
            match health.admission(now) {
                Admission::Open => assert!(self.is_up),
                Admission::Probing => assert!(self.is_probing),
                Admission::Probe => {
                    assert!(!self.is_up && !self.is_probing);
                    assert!(earliest <= self.now, "no probe before its time");
                }
                Admission::Wait(at) => {
                    assert!(!self.is_up && !self.is_probing);
                    assert!(at >= start + Duration::from_millis(earliest));
                    // 60 s is the most that may be asked for; up to 10 % are added.
                    let latest = earliest.max(self.asked_end().unwrap_or(0)) + 6_000;
                    assert!(
                        at <= start + Duration::from_millis(latest),
                        "no longer wait"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn health_behaves_as_its_model(ops in prop::collection::vec(arbitrary_op(), 1..60)) {
            let start = Instant::now();
            let mut health = health();
            let mut model = Model { is_up: true, ..Model::default() };
            for op in ops {
                let now = start + Duration::from_millis(model.now);
                match op {
                    Op::Advance(millis) => model.now += millis,
                    Op::Start => {
                        if health.admission(now) == Admission::Probe {
                            prop_assert!(!model.is_probing, "one probe at a time");
                            health.start_probe();
                            model.is_probing = true;
                        }
                    }
                    Op::Succeed => {
                        prop_assert_eq!(health.mark_up(), !model.is_up);
                        model = Model { now: model.now, is_up: true, ..Model::default() };
                    }
                    Op::Fail(asked) => {
                        // The owner lets only the probe decide while one is in flight.
                        let is_probe = model.is_probing;
                        health.mark_down(&error(asked), is_probe, Duration::MAX, now);
                        model.note_asked(asked);
                        model.is_up = false;
                        model.is_probing = false;
                        let wait = 1000 << model.failures.min(3);
                        model.failures += 1;
                        model.probe_from = model.now + wait;
                    }
                    Op::Verify => {
                        health.verify(&plain(), false, now);
                        model.is_up = false;
                        model.probe_from = model.now;
                    }
                    Op::Straggle(asked) => {
                        health.note_failure(&error(asked), now);
                        model.note_asked(asked);
                    }
                    Op::Inconclusive => {
                        health.probe_inconclusive(true);
                        model.is_probing = false;
                    }
                    Op::Flush => {
                        health.end_backoff(now);
                        model.probe_from = model.probe_from.min(model.now);
                    }
                }
                model.check(&health, start);
            }
        }
    }
}
