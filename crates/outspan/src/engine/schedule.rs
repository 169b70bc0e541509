//! Which batch goes next, and when: the queue's state without any I/O.

use std::collections::HashMap;
#[cfg(feature = "_network")]
use std::sync::Arc;
#[cfg(feature = "_network")]
use std::sync::atomic::AtomicUsize;
#[cfg(feature = "_network")]
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Backoff;
use super::Retry;
use super::WAIT_MAX;
use super::health::Admission;
use super::health::AskedWait;
use super::health::Health;
use super::item::Item;
use super::item::Place;
use super::tracked::Tracked;
use super::waiting::Waiting;
use crate::Deadline;
use crate::Error;
use crate::ErrorKind;

/// The shortest wait between two attempts while somebody waits for a flush.
const HURRIED_WAIT_MIN: Duration = Duration::from_millis(100);

/// A flush makes this many attempts at least in the time that is left, as far as attempts are quick.
const HURRIED_ATTEMPTS: u32 = 4;

/// How long a shutdown waits between attempts while connections are refused and nothing has ever answered.
const REFUSED_WAIT: Duration = Duration::from_millis(300);

/// How long, and how often at least, such a destination is tried at a shutdown: long enough for a collector that is just
/// starting, short enough for a command that somebody waits for.
const REFUSED_TIME: Duration = Duration::from_millis(600);
const REFUSED_ATTEMPTS: u32 = 3;

/// What the driver does next.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one at a time, on the stack"
)]
pub(super) enum Step {
    /// Starts an export.
    Start(Item),
    /// Drops batches whose time has run out.
    Expire,
    /// Waits for an answer, for a batch, or until then.
    Wait(Option<Instant>),
}

/// An export in flight.
#[derive(Debug)]
struct Flight {
    arrival: u64,
    spans: u64,
    is_probe: bool,
    is_sent_at_shutdown: bool,
    /// As in its [`Item`].
    successes: u64,
    has_failed_before: bool,
}

/// What an export says about the destination.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// Whether the export ended without asking the destination, or without time to answer.
    pub(super) is_inconclusive: bool,
    /// Whether the destination took or rejected something.
    pub(super) is_success: bool,
    /// The temporary error of the part that was not delivered.
    pub(super) failure: Option<&'a Error>,
}

/// A flush in progress.
#[derive(Debug)]
struct Flush {
    number: u64,
    deadline: Deadline,
    /// The last arrival that it waits for.
    mark: u64,
    /// How many spans that arrived up to then are held.
    pending: u64,
}

/// Attempts since a shutdown began that found nothing listening.
#[derive(Clone, Copy, Debug)]
struct Refusals {
    first: Instant,
    attempts: u32,
}

#[derive(Debug)]
pub(super) struct Schedule {
    concurrent: usize,
    export_limit: Option<Duration>,
    waiting: Waiting,
    /// How many fresh batches wait, for those who do not hold the lock.
    #[cfg(feature = "_network")]
    fresh: Arc<AtomicUsize>,
    flights: HashMap<u64, Flight>,
    /// Spans that wait or are in flight.
    held: u64,
    health: Health,
    /// How many exports succeeded. A batch that fails after others succeeded since its last failure fails alone.
    successes: u64,
    /// The only batch that failed since the last success: the next export finds out whether it fails alone. `None` while the
    /// destination is up, and once it is known to be down.
    suspect: Option<u64>,
    /// Why batches fail that fail alone.
    lone_error: Option<Error>,
    flushes: Vec<Flush>,
    closing: Option<Deadline>,
    /// Whether a shutdown may still send one batch before the end of a wait that was asked for.
    may_probe_early: bool,
    /// Whether the last batch that was sent since the shutdown began was taken by some of the destinations inside.
    is_partial_at_shutdown: bool,
    /// Whether the destination ever said anything, also that it cannot work just now.
    has_answered: bool,
    /// Whether a shutdown gives up soon when connections are refused and nothing has ever answered.
    gives_up_early: bool,
    refusals: Option<Refusals>,
    has_given_up: bool,
    has_ended: bool,
    arrivals: u64,
    numbers: u64,
}

/// What a failure says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// The destination takes nothing.
    Destination,
    /// The destination or the batch: the next export decides.
    Unknown,
    /// The batch: the destination took others meanwhile.
    Batch,
}

impl Schedule {
    pub(super) fn new(
        concurrent: usize,
        export_limit: Option<Duration>,
        gives_up_early: bool,
        retry: &Retry,
    ) -> Self {
        Self {
            concurrent,
            export_limit,
            gives_up_early,
            health: Health::with_batches(Backoff::of_probes(retry), Backoff::new(retry)),
            waiting: Waiting::default(),
            #[cfg(feature = "_network")]
            fresh: Arc::default(),
            flights: HashMap::new(),
            held: 0,
            successes: 0,
            suspect: None,
            lone_error: None,
            flushes: Vec::new(),
            closing: None,
            may_probe_early: false,
            is_partial_at_shutdown: false,
            has_answered: false,
            refusals: None,
            has_given_up: false,
            has_ended: false,
            arrivals: 0,
            numbers: 0,
        }
    }

    /// Adds a batch.
    ///
    /// # Errors
    ///
    /// Gives it back when it is too late.
    pub(super) fn push(&mut self, tracked: Tracked) -> Result<(), Tracked> {
        if self.closing.is_some() || self.has_ended {
            return Err(tracked);
        }
        self.arrivals += 1;
        self.held += tracked.spans();
        self.waiting.push_back(Item::new(tracked, self.arrivals));
        self.note_fresh();
        Ok(())
    }

    /// Decides what to do now.
    pub(super) fn next(&mut self, now: Instant) -> Step {
        // An export that starts when the time is over would be blamed on the destination.
        let is_over = self.closing.is_some_and(|until| until.has_passed());
        if self.has_given_up || is_over {
            return Step::Wait(None);
        }
        // Before anything is started, so that no export begins without time.
        if self.waiting.next_expiry().is_some_and(|end| end <= now) {
            return Step::Expire;
        }
        match self.take_next(now) {
            Ok(item) => self.start(item),
            Err(wait_end) => {
                let ends = wait_end.into_iter().chain(self.waiting.next_expiry());
                Step::Wait(ends.min())
            }
        }
    }

    /// Takes the batch to send now. If there is none, says when there may be one, unless something else happens before.
    fn take_next(&mut self, now: Instant) -> Result<Item, Option<Instant>> {
        if self.flights.len() >= self.concurrent {
            return Err(None);
        }
        if self.goes_on_in_part()
            && let Some(item) = self.waiting.pop_unsent()
        {
            return Ok(item);
        }
        let item = match self.health.admission(now) {
            Admission::Open => {
                let due = self.waiting.pop_due(now);
                let item = due.or_else(|| self.waiting.pop_fresh());
                return item.ok_or_else(|| self.waiting.next_due());
            }
            Admission::Probing => return Err(None),
            // One that has not failed goes first: it says more about the destination.
            Admission::Probe => {
                let fresh = self.waiting.pop_fresh();
                fresh.or_else(|| self.waiting.pop_due(now))
            }
            Admission::Wait(at) => {
                if !self.may_probe_early || self.health.asked_wait(now).is_none() {
                    return Err(Some(at));
                }
                let fresh = self.waiting.pop_fresh();
                let item = fresh.or_else(|| self.waiting.pop_failed());
                self.may_probe_early &= item.is_none();
                item
            }
        };
        let mut item = item.ok_or_else(|| self.waiting.next_due())?;
        item.is_probe = true;
        self.health.start_probe();
        Ok(item)
    }

    /// Whether a shutdown offers each batch once although the destination is down: it is one of several that get the same
    /// batches, and the other ones take them.
    fn goes_on_in_part(&self) -> bool {
        self.is_partial_at_shutdown && !self.health.is_up() && self.waiting.has_unsent()
    }

    fn start(&mut self, mut item: Item) -> Step {
        item.is_sent_at_shutdown = self.closing.is_some();
        self.note_fresh();
        self.numbers += 1;
        item.number = self.numbers;
        let flight = Flight {
            arrival: item.arrival,
            spans: item.spans(),
            is_probe: item.is_probe,
            is_sent_at_shutdown: item.is_sent_at_shutdown,
            has_failed_before: item.successes.is_some(),
            successes: *item.successes.get_or_insert(self.successes),
        };
        self.flights.insert(item.number, flight);
        Step::Start(item)
    }

    /// Notes the answer to an export, and takes back what has to be sent again. Returns the blame for a failure.
    pub(super) fn complete(
        &mut self,
        number: u64,
        answer: &Answer<'_>,
        again: Vec<Item>,
        now: Instant,
    ) -> Blame {
        let Some(flight) = self.flights.remove(&number) else {
            return Blame::Destination;
        };
        if answer.is_inconclusive {
            self.health.probe_inconclusive(flight.is_probe);
        } else if answer.is_success {
            self.succeeded(now);
        }
        let mut blame = Blame::Destination;
        if let Some(error) = answer.failure {
            blame = self.failed(error, &flight, now);
            if flight.is_sent_at_shutdown {
                self.is_partial_at_shutdown = error.is_partial();
            }
        }
        let kept = again.iter().map(Item::spans).sum();
        self.release(flight.arrival, flight.spans.saturating_sub(kept));
        self.put_back(again, blame, now);
        blame
    }

    fn succeeded(&mut self, now: Instant) {
        self.successes += 1;
        self.suspect = None;
        self.has_answered = true;
        self.refusals = None;
        let was_down = self.health.mark_up();
        if was_down && self.closing.is_some() {
            // There is no later: what failed before goes now.
            self.waiting.release(now);
        }
    }

    /// Notes a failure, and says what is to blame. A batch that may be to blame waits by itself.
    ///
    /// The evidence is what happened to others: a batch that fails while others succeed fails alone. If none succeeded since it
    /// failed last, but some did before, the next export decides: the destination is down if another batch fails as well. A
    /// destination that never took anything is down at once, and so is one that asks to be left alone.
    fn failed(&mut self, error: &Error, flight: &Flight, now: Instant) -> Blame {
        self.has_answered |= error.retry_after().is_some() || error.attempt().status.is_some();
        let is_about_all = error.retry_after().is_some() || error.kind() == ErrorKind::Throttled;
        let is_up = self.health.is_up();
        let is_verifying = self.suspect.is_some();
        let others_succeeded = self.successes > flight.successes;
        // No other batch has failed since the last success.
        let is_only_one = is_up || self.suspect == Some(flight.arrival);
        let may_be_alone = others_succeeded || (is_only_one && self.successes > 0);
        if may_be_alone && !is_about_all && (is_up || is_verifying) {
            self.lone_error = Some(error.clone());
            if is_up && others_succeeded {
                return Blame::Batch;
            }
            if is_only_one {
                self.suspect = Some(flight.arrival);
            }
            self.health.verify(error, flight.is_probe, now);
            return Blame::Unknown;
        }
        let decides = is_up || flight.is_probe || (is_verifying && !self.health.is_probing());
        if decides {
            self.suspect = None;
            self.note_refusal(error, now);
            let max_wait = self.shortened(WAIT_MAX);
            self.health.mark_down(error, flight.is_probe, max_wait, now);
        } else {
            self.health.note_failure(error, now);
        }
        Blame::Destination
    }

    /// Counts attempts of a shutdown that find nothing listening, and gives up when they are enough.
    fn note_refusal(&mut self, error: &Error, now: Instant) {
        if !self.counts_refusals() || !error.is_connection_refused() {
            self.refusals = None;
            return;
        }
        let refusals = self.refusals.get_or_insert(Refusals {
            first: now,
            attempts: 0,
        });
        refusals.attempts += 1;
        self.has_given_up = refusals.attempts >= REFUSED_ATTEMPTS
            && now.saturating_duration_since(refusals.first) >= REFUSED_TIME;
    }

    fn counts_refusals(&self) -> bool {
        self.gives_up_early && self.closing.is_some() && !self.has_answered
    }

    /// A shorter wait if somebody waits for a flush: several tries in the time that is left.
    fn shortened(&self, wait: Duration) -> Duration {
        let left = self
            .flushes
            .iter()
            .filter_map(|flush| flush.deadline.remaining())
            .max();
        let wait = match left {
            Some(left) => wait.min((left / HURRIED_ATTEMPTS).max(HURRIED_WAIT_MIN)),
            None => wait,
        };
        match self.refusals {
            Some(_) => wait.min(REFUSED_WAIT),
            None => wait,
        }
    }

    /// Takes back what has to be sent again.
    fn put_back(&mut self, items: Vec<Item>, blame: Blame, now: Instant) {
        let failed = items.iter().find(|item| item.place == Place::Failed);
        let lone = failed.filter(|_| blame != Blame::Destination);
        let lone = lone.map(|item| {
            let (wait, next) = match blame {
                // Where no other batch waits, this one is the only probe.
                Blame::Unknown => self.health.wait_of_suspect(item.interval),
                _ => self.health.wait_of_batch(item.interval),
            };
            (now + self.shortened(wait), next)
        });
        let probe_at = self.health.probe_at().unwrap_or(now);
        for mut item in items.into_iter().rev() {
            item.is_probe = false;
            let end = self.export_limit.zip(item.began);
            item.expires_at = end.and_then(|(limit, began)| began.checked_add(limit));
            match item.place {
                Place::Back => {
                    item.waits_since = now;
                    self.waiting.push_back(item);
                }
                Place::Failed => {
                    item.successes = Some(self.successes);
                    let due = match lone {
                        Some((due, interval)) => {
                            item.interval = Some(interval);
                            due
                        }
                        None => probe_at,
                    };
                    self.waiting.push_failed(item, due);
                }
            }
        }
        self.note_fresh();
    }

    /// Notes that so many spans of an arrival are not held any more.
    fn release(&mut self, arrival: u64, spans: u64) {
        debug_assert!(self.held >= spans, "more spans end than are held");
        self.held = self.held.saturating_sub(spans);
        for flush in &mut self.flushes {
            if arrival <= flush.mark {
                flush.pending = flush.pending.saturating_sub(spans);
            }
        }
    }

    /// How many batches wait that have not failed.
    #[cfg(feature = "_network")]
    pub(super) fn waiting(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.fresh)
    }

    fn note_fresh(&self) {
        #[cfg(feature = "_network")]
        self.fresh.store(self.waiting.fresh(), Ordering::Relaxed);
    }

    /// Begins a flush of what is held: returns its number, and lets waits that nobody asked for end now.
    pub(super) fn begin_flush(&mut self, deadline: Deadline, now: Instant) -> u64 {
        self.numbers += 1;
        self.flushes.push(Flush {
            number: self.numbers,
            deadline,
            mark: self.arrivals,
            pending: self.held,
        });
        // What was asked for stays; what the queue waits on top of it ends.
        self.health.end_backoff(now);
        let asked = self.health.asked_wait(now).map(|asked| asked.end);
        self.waiting.release(asked.unwrap_or(now));
        self.numbers
    }

    pub(super) fn end_flush(&mut self, number: u64) {
        self.flushes.retain(|flush| flush.number != number);
    }

    /// How many spans are held that a flush waits for.
    pub(super) fn pending(&self, flush: u64) -> u64 {
        let mut flushes = self.flushes.iter();
        let flush = flushes.find(|other| other.number == flush);
        flush.map_or(0, |flush| flush.pending)
    }

    /// Whether nothing can be sent before `until`: the destination asked for a longer wait, and a shutdown has tried one batch
    /// before its end; or the shutdown has given up.
    pub(super) fn is_futile(&self, until: Deadline) -> bool {
        if !self.flights.is_empty() {
            return false;
        }
        if self.has_given_up {
            return true;
        }
        if self.goes_on_in_part() {
            return false;
        }
        let now = Instant::now();
        let Some(AskedWait { end, .. }) = self.health.asked_wait(now) else {
            return false;
        };
        let wait = end.saturating_duration_since(now);
        !self.may_probe_early && !until.allows(wait)
    }

    /// How long the batch has been waiting that goes next of those that have not failed.
    pub(super) fn oldest_wait(&self) -> Option<Duration> {
        let since = self.waiting.fresh_since()?;
        Some(Instant::now().saturating_duration_since(since))
    }

    /// When the next attempt is made, while the destination is down and none is under way.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        let probe_at = self.health.probe_at()?;
        match self.waiting.fresh() {
            0 => Some(self.waiting.next_due().unwrap_or(probe_at).max(probe_at)),
            _ => Some(probe_at),
        }
    }

    /// When the wait ends that the destination asked for.
    pub(super) fn asked_until(&self) -> Option<Instant> {
        let asked = self.health.asked_wait(Instant::now())?;
        Some(asked.end)
    }

    /// Takes the batches whose time has run out.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<Item> {
        let expired: Vec<_> = std::iter::from_fn(|| self.waiting.pop_expired(now)).collect();
        for item in &expired {
            self.release(item.arrival, item.spans());
        }
        self.note_fresh();
        expired
    }

    /// Takes the batch that waits longest.
    pub(super) fn take_oldest(&mut self) -> Option<Item> {
        let item = self.waiting.pop_oldest()?;
        self.note_fresh();
        self.release(item.arrival, item.spans());
        Some(item)
    }

    /// The batches that wait, in no order.
    #[cfg(test)]
    pub(super) fn waiting_items(&self) -> impl Iterator<Item = &Item> {
        self.waiting.iter()
    }

    /// How many exports are in flight.
    pub(super) fn exports(&self) -> usize {
        self.flights.len()
    }

    /// How many batches are held.
    pub(super) fn batches(&self) -> usize {
        self.waiting.fresh() + self.waiting.failed() + self.flights.len()
    }

    /// What keeps the destination from taking spans. While it asked for a wait, that is the reason, whatever failed since. While it
    /// takes other batches, it is why some fail.
    pub(super) fn last_error(&self) -> Option<Error> {
        let Some(error) = self.health.error() else {
            let mut flights = self.flights.values();
            let has_failed =
                self.waiting.failed() > 0 || flights.any(|flight| flight.has_failed_before);
            return self.lone_error.clone().filter(|_| has_failed);
        };
        let Some(asked) = self.health.asked_wait(Instant::now()) else {
            return Some(error.clone());
        };
        let wait = asked.error.retry_after().unwrap_or_default();
        let error = asked.error.clone();
        Some(error.with_context("the destination asked to wait", format!("{wait:?}")))
    }

    /// Takes no more batches. A second call, after the first one was dropped, sets another deadline.
    pub(super) fn close(&mut self, until: Deadline) {
        // Only a wait of before the shutdown is cut short; a new one is the destination's answer to the shutdown.
        let has_begun = self.closing.is_some();
        let may_meet_a_wait = !self.health.is_up() || !self.flights.is_empty();
        self.may_probe_early |= !has_begun && may_meet_a_wait;
        self.waiting.begin_shutdown();
        self.closing = Some(until);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// By when everything ends.
    pub(super) fn closing(&self) -> Deadline {
        self.closing.unwrap_or_else(Deadline::never)
    }

    /// Lets go of everything, and returns what waits. The driver has what is in flight.
    pub(super) fn end(&mut self) -> Vec<Item> {
        self.has_ended = true;
        self.held = 0;
        for flush in &mut self.flushes {
            flush.pending = 0;
        }
        self.flights.clear();
        self.waiting.take_all().collect()
    }
}
