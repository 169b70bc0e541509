//! Circuit breakers: leaving a destination alone while it is down, and finding out when it is back.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use crate::Delivery;
use crate::Error;
use crate::ErrorKind;
use crate::Result;
use crate::engine::Admission;
use crate::engine::Backoff;
use crate::engine::Health;
use crate::engine::MAX_RETRY_AFTER;
use crate::guard::call_guarded;

/// Says when a destination counts as down, and how it is tried again.
///
/// A breaker is *closed* while all is well. It *opens* after 5 failures in a row (or at a failure rate, if one is set), and then
/// the destination is left alone for 5 s. After that one export goes through to find out: if it succeeds, the breaker closes;
/// if not, it stays open for twice as long as before, at most a minute. A wait that the destination asks for (`RetryInfo`,
/// `Retry-After`) is a lower bound, of at most 5 min ([`max_retry_after`](Self::max_retry_after)). Waits are up to 10 %
/// longer, so that many programs do not come back in step.
///
/// Only trouble that may pass counts as failure, and what is ours (a panic). An answer that refuses data is an answer. Missing
/// answers of an export that had too little time for one do not count: less than 5 s, and less than a third of the time of the
/// whole export.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    failures: u32,
    rate: Option<Rate>,
    wait: Duration,
    wait_max: Duration,
    max_retry_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate {
    part: f64,
    exports: usize,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 5,
            rate: None,
            wait: Duration::from_secs(5),
            wait_max: Duration::from_secs(60),
            max_retry_after: MAX_RETRY_AFTER,
        }
    }
}

impl Breaker {
    /// Sets how many failures in a row open it: 5 unless told; 0 counts as 1.
    #[must_use]
    pub fn failures(mut self, failures: u32) -> Self {
        self.failures = failures.max(1);
        self
    }

    /// Opens it as well when at least `part` (0 to 1) of the last `exports` exports failed: not unless told. At most 1,000
    /// exports are looked at.
    #[must_use]
    pub fn failure_rate(mut self, part: f64, exports: usize) -> Self {
        self.rate = Some(Rate {
            part: part.clamp(0.0, 1.0),
            exports: exports.clamp(1, 1000),
        });
        self
    }

    /// Sets how long it stays open at first: 5 s unless told.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Sets how long it stays open at most: a minute unless told.
    #[must_use]
    pub fn wait_max(mut self, wait: Duration) -> Self {
        self.wait_max = wait;
        self
    }

    /// Sets the longest wait that the destination may ask for. What it asks for beyond that counts as this much. Default: 5 min.
    #[must_use]
    pub fn max_retry_after(mut self, wait: Duration) -> Self {
        self.max_retry_after = wait;
        self
    }
}

/// Names the states of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// All is well: exports go through.
    Closed,
    /// The destination is left alone.
    Open,
    /// One export finds out whether the destination is back.
    HalfOpen,
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        })
    }
}

/// Says that a breaker opened or closed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BreakerEvent {
    /// The destination's name.
    pub destination: Arc<str>,
    /// What the breaker is now.
    pub state: BreakerState,
    /// The last failure, when it opened.
    pub error: Option<Error>,
}

/// What a user wants to be called when a breaker opens or closes.
type BreakerHook = Arc<dyn Fn(&BreakerEvent) + Send + Sync>;

/// What the breakers of several destinations share: their settings, and whom they tell.
#[derive(Clone, Default)]
pub(super) struct Breakers {
    pub(super) settings: Breaker,
    hook: Option<BreakerHook>,
}

impl Breakers {
    /// Calls `hook` when any of them opens or closes.
    pub(super) fn tell(&mut self, hook: impl Fn(&BreakerEvent) + Send + Sync + 'static) {
        self.hook = Some(Arc::new(hook));
    }

    /// Shows them as options of the builder whose they are.
    pub(super) fn show(&self, shown: &mut fmt::DebugStruct<'_, '_>) {
        shown
            .field("breaker", &self.settings)
            .field("on_change", &self.hook.is_some());
    }
}

/// The breaker of one destination.
pub(super) struct Circuit {
    name: Arc<str>,
    shared: Breakers,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    health: Health,
    in_a_row: u32,
    latest: VecDeque<bool>,
}

impl Circuit {
    pub(super) fn new(name: &str, shared: &Breakers) -> Self {
        Self {
            name: name.into(),
            shared: shared.clone(),
            state: Mutex::new(State::new(&shared.settings)),
        }
    }

    /// Whether [`ask`](Self::ask) would let an export through now.
    pub(super) fn is_available(&self) -> bool {
        let admission = self.lock().health.admission(Instant::now());
        matches!(admission, Admission::Open | Admission::Probe)
    }

    /// Lets an export through, or not: the destination is down, or another export probes it.
    pub(super) fn ask(&self) -> Option<Pass<'_>> {
        let mut state = self.lock();
        let is_probe = match state.health.admission(Instant::now()) {
            Admission::Open => false,
            Admission::Probe => {
                state.health.start_probe();
                true
            }
            Admission::Wait(_) | Admission::Probing => return None,
        };
        drop(state);
        Some(Pass {
            circuit: self,
            is_probe,
            is_told: false,
        })
    }

    /// Lets an export through in any case, because there is nowhere else to go.
    pub(super) fn force(&self) -> Pass<'_> {
        Pass {
            circuit: self,
            is_probe: false,
            is_told: false,
        }
    }

    /// When the destination is worth a try: now while it is well.
    pub(super) fn due(&self) -> Instant {
        let probe_at = self.lock().health.probe_at();
        probe_at.unwrap_or_else(Instant::now)
    }

    #[cfg(test)]
    pub(super) fn state(&self) -> BreakerState {
        let state = self.lock();
        match (state.health.is_up(), state.health.is_probing()) {
            (true, _) => BreakerState::Closed,
            (false, false) => BreakerState::Open,
            (false, true) => BreakerState::HalfOpen,
        }
    }

    fn succeeded(&self) {
        let mut state = self.lock();
        self.remember(&mut state, true);
        state.in_a_row = 0;
        let was_down = state.health.mark_up();
        if was_down {
            state.latest.clear();
        }
        drop(state);
        if was_down {
            self.tell(BreakerState::Closed, None);
        }
    }

    fn failed(&self, error: &Error, is_probe: bool) {
        let now = Instant::now();
        let mut state = self.lock();
        self.remember(&mut state, false);
        state.in_a_row = state.in_a_row.saturating_add(1);
        let was_up = state.health.is_up();
        let opens = match was_up {
            true => self.is_enough(&state),
            // One that was in flight when the breaker opened changes nothing.
            false => is_probe,
        };
        match opens {
            true => state.health.mark_down(error, is_probe, Duration::MAX, now),
            false => state.health.note_failure(error, now),
        }
        drop(state);
        if opens && was_up {
            self.tell(BreakerState::Open, Some(error));
        }
    }

    /// The export ended without a word about the destination: if it was the probe, the next one may be.
    fn unknown(&self, is_probe: bool) {
        self.lock().health.probe_inconclusive(is_probe);
    }

    fn remember(&self, state: &mut State, is_success: bool) {
        let Some(rate) = self.shared.settings.rate else {
            return;
        };
        if state.latest.len() == rate.exports {
            state.latest.pop_front();
        }
        state.latest.push_back(is_success);
    }

    fn is_enough(&self, state: &State) -> bool {
        let by_rate = self.shared.settings.rate.is_some_and(|rate| {
            let failed = state.latest.iter().filter(|is_success| !**is_success);
            let failed = failed.count() as f64;
            state.latest.len() == rate.exports && failed >= rate.part * rate.exports as f64
        });
        by_rate || state.in_a_row >= self.shared.settings.failures
    }

    fn tell(&self, now: BreakerState, error: Option<&Error>) {
        let name = &self.name;
        match error {
            Some(error) => {
                tracing::warn!(target: "outspan", "circuit breaker opened for {name}: {}", error.chain());
            }
            None => tracing::info!(target: "outspan", "circuit breaker closed for {name}"),
        }
        let Some(hook) = &self.shared.hook else {
            return;
        };
        let event = BreakerEvent {
            destination: Arc::clone(&self.name),
            state: now,
            error: error.cloned(),
        };
        // The export has its result already, whatever happens in the hook.
        if let Err(error) = call_guarded("hook for circuit breakers", || hook(&event)) {
            tracing::error!(target: "outspan", "{error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(settings: &Breaker) -> Self {
        let backoff = Backoff::doubling(settings.wait, settings.wait_max, settings.max_retry_after);
        Self {
            health: Health::new(backoff),
            in_a_row: 0,
            latest: VecDeque::new(),
        }
    }
}

impl fmt::Debug for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circuit")
            .field("settings", &self.shared.settings)
            .field("state", &*self.lock())
            .finish_non_exhaustive()
    }
}

/// Leave to export once. Whoever drops it without a word has found out nothing.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    circuit: &'a Circuit,
    is_probe: bool,
    is_told: bool,
}

impl Pass<'_> {
    /// Tells the breaker how it went.
    pub(super) fn tell(mut self, result: &Result<Delivery>) {
        if result.as_ref().is_ok_and(asked_nobody) {
            return;
        }
        self.is_told = true;
        match trouble(result) {
            Some(error) => self.circuit.failed(error, self.is_probe),
            None => self.circuit.succeeded(),
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.circuit.unknown(self.is_probe);
        }
    }
}

/// Whether a filter took everything, so that the destination had nothing to answer.
fn asked_nobody(delivery: &Delivery) -> bool {
    let answered = delivery.accepted + delivery.refused;
    delivery.filtered > 0 && answered == 0 && delivery.rest.is_empty()
}

/// The error that says that a destination is not well. A refusal of data is none.
pub(super) fn trouble(result: &Result<Delivery>) -> Option<&Error> {
    let counts = |error: &&Error| error.is_temporary() || error.kind() == ErrorKind::Internal;
    match result {
        Err(error) => Some(error).filter(counts),
        Ok(delivery) => delivery.rest.iter().map(|left| &left.error).find(counts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn circuit(settings: Breaker) -> Circuit {
        let shared = Breakers {
            settings,
            ..Breakers::default()
        };
        Circuit::new("a", &shared)
    }

    fn fail(circuit: &Circuit) {
        let pass = circuit.ask().unwrap_or_else(|| circuit.force());
        pass.tell(&Err(Error::unavailable("down")));
    }

    fn succeed(circuit: &Circuit) {
        let pass = circuit.ask().unwrap_or_else(|| circuit.force());
        pass.tell(&Ok(Delivery::default()));
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_and_not_before() {
        let circuit = circuit(Breaker::default().failures(3));
        fail(&circuit);
        fail(&circuit);
        succeed(&circuit);
        fail(&circuit);
        fail(&circuit);
        assert_eq!(circuit.state(), BreakerState::Closed);
        fail(&circuit);
        assert_eq!(circuit.state(), BreakerState::Open);
        assert!(circuit.ask().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_longer_wait_that_one_under_way_is_asked_for_counts() {
        let circuit = circuit(Breaker::default().failures(1).wait(SECOND));
        let under_way = [circuit.ask().unwrap(), circuit.ask().unwrap()];
        let busy = Error::throttled("busy").with_retry_after(60 * SECOND);
        for (pass, error) in under_way
            .into_iter()
            .zip([Error::unavailable("down"), busy])
        {
            pass.tell(&Err(error));
        }
        tokio::time::advance(59 * SECOND).await;
        assert!(circuit.ask().is_none());
        // As every wait, it is up to 10 % longer.
        tokio::time::advance(8 * SECOND).await;
        assert!(circuit.ask().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_or_refuses_a_part_of_what_was_not_filtered_has_answered() {
        for (accepted, refused) in [(1, 0), (0, 1), (1, 1)] {
            let circuit = circuit(Breaker::default().failures(2));
            fail(&circuit);
            let answered = Delivery {
                accepted,
                refused,
                filtered: 1,
                ..Delivery::default()
            };
            circuit.ask().unwrap().tell(&Ok(answered));
            fail(&circuit);
            assert_eq!(circuit.state(), BreakerState::Closed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_was_filtered_whole_finds_out_nothing() {
        let settings = Breaker::default().failures(1).wait(SECOND);
        let circuit = circuit(settings);
        fail(&circuit);
        tokio::time::advance(2 * SECOND).await;
        let filtered = Delivery {
            filtered: 3,
            ..Delivery::default()
        };
        circuit.ask().expect("it is time").tell(&Ok(filtered));
        assert_eq!(circuit.state(), BreakerState::Open);
        let probe = circuit.ask().expect("the next may find out");
        probe.tell(&Ok(Delivery::default()));
        assert_eq!(circuit.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn opens_at_a_failure_rate() {
        let circuit = circuit(Breaker::default().failures(100).failure_rate(0.5, 4));
        for _ in 0..2 {
            succeed(&circuit);
            fail(&circuit);
        }
        assert_eq!(circuit.state(), BreakerState::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn one_export_finds_out_and_the_waits_grow() {
        let settings = Breaker::default()
            .failures(1)
            .wait(SECOND)
            .wait_max(SECOND * 3);
        let circuit = circuit(settings);
        fail(&circuit);
        for wait in [1.0, 2.0, 3.0, 3.0] {
            let left = circuit.due() - Instant::now();
            let range = wait..wait * 1.1 + 0.01;
            assert!(range.contains(&left.as_secs_f64()), "{left:?}, not {wait}");
            tokio::time::advance(left).await;
            let probe = circuit.ask().expect("a probe goes through");
            assert!(circuit.ask().is_none(), "only one");
            assert_eq!(circuit.state(), BreakerState::HalfOpen);
            probe.tell(&Err(Error::unavailable("still down")));
        }
        tokio::time::advance(SECOND * 4).await;
        succeed(&circuit);
        assert_eq!(circuit.state(), BreakerState::Closed);
        assert!(circuit.ask().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_leaves_it_to_the_next() {
        let circuit = circuit(Breaker::default().failures(1).wait(SECOND));
        fail(&circuit);
        tokio::time::advance(SECOND * 2).await;
        drop(circuit.ask().expect("a probe"));
        assert!(circuit.ask().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_export_of_before_leaves_finding_out_alone() {
        let circuit = circuit(Breaker::default().failures(1).wait(SECOND));
        let before = circuit.ask().expect("closed");
        fail(&circuit);
        tokio::time::advance(SECOND * 2).await;
        let probe = circuit.ask().expect("a probe");
        drop(before);
        assert_eq!(circuit.state(), BreakerState::HalfOpen);
        circuit.force().tell(&Ok(Delivery::default()));
        drop(probe);
        assert_eq!(circuit.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_destination_asks_for_is_a_lower_bound() {
        let circuit = circuit(Breaker::default().failures(1).wait(SECOND));
        let pass = circuit.ask().expect("closed");
        let asked = SECOND * 30;
        pass.tell(&Err(Error::throttled("later").with_retry_after(asked)));
        assert!(circuit.due() - Instant::now() >= asked);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_an_answer() {
        let circuit = circuit(Breaker::default().failures(1));
        let pass = circuit.ask().expect("closed");
        pass.tell(&Err(Error::refused("bad data")));
        assert_eq!(circuit.state(), BreakerState::Closed);
        let pass = circuit.ask().expect("closed");
        pass.tell(&Err(Error::internal("panic")));
        assert_eq!(circuit.state(), BreakerState::Open);
    }
}
