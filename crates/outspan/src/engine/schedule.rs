//! Which batch goes next, and when: the queue's state without any I/O.

use std::collections::VecDeque;
#[cfg(feature = "_network")]
use std::sync::Arc;
#[cfg(feature = "_network")]
use std::sync::atomic::AtomicUsize;
#[cfg(feature = "_network")]
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Backoff;
use super::WAIT_MAX;
use super::tracked::Completed;
use super::tracked::Tracked;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Error;
use crate::Result;

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

/// Where a batch goes in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Where it was: it comes before those that arrived later.
    Front,
    /// Behind all that wait.
    Back,
    /// Among those that failed.
    Failed,
}

/// A batch in the queue.
// All fields but the first are `Copy`, so that parts can share them.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) tracked: Tracked,
    /// Its place in the order of arrival; the parts of a batch share it.
    arrival: u64,
    /// Names its flight.
    pub(super) number: u64,
    /// When its first attempt began.
    pub(super) began: Option<Instant>,
    pub(super) attempts: u32,
    /// Those of the attempts that ended to give way to others.
    pub(super) turns: u32,
    /// Whether this flight finds out if the destination is back.
    pub(super) is_probe: bool,
    place: Place,
    /// When it may be tried again.
    due: Option<Instant>,
    /// Whether it was sent since the shutdown began.
    pub(super) is_sent_at_shutdown: bool,
}

impl Item {
    /// Ends the flight. Returns the parts that were not delivered, each with its error.
    pub(super) fn complete(self, answer: Result<Delivery>) -> (Completed, Vec<(Self, Error)>) {
        let mut completed = self.tracked.complete(answer);
        let mut parts = Vec::with_capacity(completed.rest.len());
        for (tracked, error) in completed.rest.drain(..) {
            parts.push((Self { tracked, ..self }, error));
        }
        (completed, parts)
    }

    /// Splits the batch. Its parts were never sent by themselves.
    pub(super) fn split(self, batches: Vec<Batch>) -> Vec<Self> {
        let mut parts = Vec::with_capacity(batches.len());
        for mut tracked in self.tracked.split(batches) {
            tracked.retry();
            parts.push(Self {
                tracked,
                place: Place::Front,
                due: None,
                is_sent_at_shutdown: false,
                ..self
            });
        }
        parts
    }

    /// What has to be sent again.
    pub(super) fn failed(mut self) -> Self {
        self.tracked.retry();
        self.place = Place::Failed;
        self
    }

    /// What was not sent because it takes long: others go first.
    pub(super) fn later(mut self, gives_way: bool) -> Self {
        self.tracked.retry();
        self.turns += u32::from(gives_way);
        self.place = Place::Back;
        self.due = None;
        self
    }

    fn spans(&self) -> u64 {
        self.tracked.spans()
    }
}

/// What the driver does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Starts an export.
    Start(Item),
    /// Waits for an answer, for a batch, or until then.
    Wait(Option<Instant>),
}

#[derive(Debug)]
struct Flight {
    number: u64,
    arrival: u64,
    spans: u64,
}

/// The destination's trouble.
#[derive(Debug)]
struct Down {
    error: Error,
    probe_at: Instant,
    is_probing: bool,
    asked: Option<Asked>,
}

/// A wait that the destination asked for.
#[derive(Clone, Debug)]
struct Asked {
    end: Instant,
    error: Error,
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
    fresh: VecDeque<Item>,
    again: VecDeque<Item>,
    /// How many are in `fresh`, for those who do not hold the lock.
    #[cfg(feature = "_network")]
    waiting: Arc<AtomicUsize>,
    flights: Vec<Flight>,
    down: Option<Down>,
    hurries: Vec<(u64, Deadline)>,
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

impl Schedule {
    pub(super) fn new(concurrent: usize, gives_up_early: bool) -> Self {
        Self {
            concurrent,
            gives_up_early,
            fresh: VecDeque::new(),
            again: VecDeque::new(),
            #[cfg(feature = "_network")]
            waiting: Arc::default(),
            flights: Vec::new(),
            down: None,
            hurries: Vec::new(),
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
        self.fresh.push_back(Item {
            tracked,
            arrival: self.arrivals,
            number: 0,
            began: None,
            attempts: 0,
            turns: 0,
            is_probe: false,
            place: Place::Front,
            due: None,
            is_sent_at_shutdown: false,
        });
        self.note_waiting();
        Ok(())
    }

    /// Decides what to do now.
    pub(super) fn next(&mut self, now: Instant) -> Step {
        // An export that starts when the time is over would be blamed on the destination.
        let is_over = self.closing.is_some_and(|until| until.has_passed());
        if self.flights.len() >= self.concurrent || self.has_given_up || is_over {
            return Step::Wait(None);
        }
        if self.goes_on_in_part()
            && let Some(item) = self.take_unsent_at_shutdown()
        {
            return self.take_off(item);
        }
        let Some(down) = &mut self.down else {
            return self.next_while_up(now);
        };
        if down.is_probing {
            return Step::Wait(None);
        }
        let is_early = now < down.probe_at;
        let is_asked = down.asked.as_ref().is_some_and(|asked| now < asked.end);
        if is_early && !(is_asked && self.may_probe_early) {
            return Step::Wait(Some(down.probe_at));
        }
        let Some(mut item) = self.fresh.pop_front().or_else(|| self.again.pop_front()) else {
            return Step::Wait(None);
        };
        self.may_probe_early &= !is_early;
        down.is_probing = true;
        item.is_probe = true;
        self.take_off(item)
    }

    fn next_while_up(&mut self, now: Instant) -> Step {
        let is_due = |item: &Item| item.due.is_none_or(|due| due <= now);
        let due = self.again.iter().position(is_due);
        let item = due
            .and_then(|place| self.again.remove(place))
            .or_else(|| self.fresh.pop_front());
        match item {
            Some(item) => self.take_off(item),
            None => Step::Wait(self.again.iter().filter_map(|item| item.due).min()),
        }
    }

    /// Whether a shutdown offers each batch once although the destination is down: it is one of several that get the same
    /// batches, and the other ones take them.
    fn goes_on_in_part(&self) -> bool {
        self.is_partial_at_shutdown
            && self.down.is_some()
            && self.unsent_at_shutdown().next().is_some()
    }

    fn unsent_at_shutdown(&self) -> impl Iterator<Item = &Item> {
        let waiting = self.fresh.iter().chain(&self.again);
        waiting.filter(|item| !item.is_sent_at_shutdown)
    }

    fn take_unsent_at_shutdown(&mut self) -> Option<Item> {
        let is_unsent = |item: &Item| !item.is_sent_at_shutdown;
        if let Some(place) = self.fresh.iter().position(is_unsent) {
            return self.fresh.remove(place);
        }
        let place = self.again.iter().position(is_unsent)?;
        self.again.remove(place)
    }

    fn take_off(&mut self, mut item: Item) -> Step {
        item.is_sent_at_shutdown = self.closing.is_some();
        self.note_waiting();
        self.numbers += 1;
        item.number = self.numbers;
        self.flights.push(Flight {
            number: item.number,
            arrival: item.arrival,
            spans: item.spans(),
        });
        Step::Start(item)
    }

    /// A flight has its answer.
    pub(super) fn landed(&mut self, number: u64) {
        self.flights.retain(|flight| flight.number != number);
    }

    /// The destination answered.
    pub(super) fn works(&mut self) {
        self.down = None;
        self.has_answered = true;
        self.refusals = None;
        if self.closing.is_some() {
            // There is no later: what failed before goes now.
            self.again.iter_mut().for_each(|item| item.due = None);
        }
    }

    /// A flight ended without asking the destination; if it was to find out something, the next one does.
    pub(super) fn found_out_nothing(&mut self, is_probe: bool) {
        if let Some(down) = &mut self.down
            && is_probe
        {
            down.is_probing = false;
        }
    }

    /// The destination failed for now. `max_wait` bounds what it may ask for.
    pub(super) fn fails(
        &mut self,
        error: &Error,
        is_probe: bool,
        backoff: &mut Backoff<'_>,
        now: Instant,
    ) {
        let asked = error
            .retry_after()
            .map(|asked| asked.min(backoff.max_retry_after()));
        let is_news = self.down.is_none() || is_probe;
        self.has_answered |= asked.is_some() || error.status().is_some();
        if is_news {
            self.note_refusal(error, now);
        }
        // One that was under way when the trouble began only adds what the destination asks for.
        let own = match is_news {
            // A user's number is no reason to overflow.
            true => self.hurried(backoff.next(None).min(WAIT_MAX)),
            false => Duration::ZERO,
        };
        let asked = asked.map(|asked| backoff.spread(asked));
        let mut probe_at = now + own.max(asked.unwrap_or_default());
        let before = self.down.take();
        let mut wanted = asked.map(|asked| Asked {
            end: now + asked,
            error: error.clone(),
        });
        if let Some(before) = &before {
            // What was asked for stays, whatever failed since: the longer of two waits holds.
            let earlier = before.asked.clone().filter(|asked| now < asked.end);
            wanted = match (wanted, earlier) {
                (Some(new), Some(old)) if old.end > new.end => Some(old),
                (new, old) => new.or(old),
            };
            if !is_news {
                probe_at = probe_at.max(before.probe_at);
            }
        }
        if let Some(asked) = &wanted {
            probe_at = probe_at.max(asked.end);
        }
        let was_probing = before.is_some_and(|before| before.is_probing);
        self.down = Some(Down {
            error: error.clone(),
            probe_at,
            is_probing: was_probing && !is_probe,
            asked: wanted,
        });
    }

    /// Takes note of how a batch failed that was sent since the shutdown began.
    pub(super) fn failed_at_shutdown(&mut self, error: &Error) {
        self.is_partial_at_shutdown = error.is_partial();
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
    fn hurried(&self, wait: Duration) -> Duration {
        let left = self
            .hurries
            .iter()
            .filter_map(|(_, until)| until.remaining())
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
    pub(super) fn put_back(&mut self, items: Vec<Item>) {
        let due = self.down.as_ref().map(|down| down.probe_at);
        for mut item in items.into_iter().rev() {
            item.is_probe = false;
            match item.place {
                Place::Front => self.fresh.push_front(item),
                Place::Back => self.fresh.push_back(item),
                Place::Failed => {
                    item.due = due;
                    self.again.push_back(item);
                }
            }
        }
        self.note_waiting();
    }

    /// How many batches wait for their turn, at any time.
    #[cfg(feature = "_network")]
    pub(super) fn waiting(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.waiting)
    }

    fn note_waiting(&self) {
        #[cfg(feature = "_network")]
        self.waiting.store(self.fresh.len(), Ordering::Relaxed);
    }

    /// Begins a flush: says who it is and up to which arrival it goes, and lets waits that nobody asked for end now.
    pub(super) fn begin_hurry(&mut self, until: Deadline, now: Instant) -> (u64, u64) {
        self.numbers += 1;
        self.hurries.push((self.numbers, until));
        let asked = self.asked_until().filter(|end| now < *end);
        if let Some(down) = &mut self.down {
            // What was asked for stays; what the queue waits on top of it ends.
            down.probe_at = down.probe_at.min(asked.unwrap_or(now));
        }
        for item in &mut self.again {
            item.due = item.due.min(asked);
        }
        (self.numbers, self.arrivals)
    }

    pub(super) fn end_hurry(&mut self, number: u64) {
        self.hurries.retain(|(other, _)| *other != number);
    }

    /// How many spans that arrived up to `mark` are held.
    pub(super) fn held_before(&self, mark: u64) -> u64 {
        let waiting = self.fresh.iter().chain(&self.again);
        let waiting = waiting.filter(|item| item.arrival <= mark);
        let flying = self.flights.iter().filter(|flight| flight.arrival <= mark);
        waiting.map(Item::spans).sum::<u64>() + flying.map(|flight| flight.spans).sum::<u64>()
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
        let Some(Asked { end, .. }) = self.down.as_ref().and_then(|down| down.asked.as_ref())
        else {
            return false;
        };
        let wait = end.saturating_duration_since(Instant::now());
        !self.may_probe_early && !until.allows(wait)
    }

    /// When the next attempt is made, while the destination is down and none is under way.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        let down = self.down.as_ref().filter(|down| !down.is_probing)?;
        Some(down.probe_at)
    }

    /// When the wait ends that the destination asked for.
    pub(super) fn asked_until(&self) -> Option<Instant> {
        let asked = self.down.as_ref()?.asked.as_ref()?;
        Some(asked.end)
    }

    /// Takes the batch that waits longest.
    pub(super) fn take_oldest(&mut self) -> Option<Item> {
        let oldest = |items: &VecDeque<Item>| {
            let numbered = items.iter().map(|item| item.arrival).enumerate();
            numbered.min_by_key(|(_, arrival)| *arrival)
        };
        let taken = match (oldest(&self.again), oldest(&self.fresh)) {
            (Some((place, again)), fresh) if fresh.is_none_or(|(_, fresh)| again <= fresh) => {
                self.again.remove(place)
            }
            (_, Some((place, _))) => self.fresh.remove(place),
            _ => None,
        };
        self.note_waiting();
        taken
    }

    /// How many exports are in flight.
    pub(super) fn exports(&self) -> usize {
        self.flights.len()
    }

    /// How many batches are held.
    pub(super) fn batches(&self) -> usize {
        self.fresh.len() + self.again.len() + self.flights.len()
    }

    /// What keeps the destination from taking spans. While it asked for a wait, that is the reason, whatever failed since.
    pub(super) fn last_error(&self) -> Option<Error> {
        let down = self.down.as_ref()?;
        let asked = down.asked.as_ref();
        let Some(asked) = asked.filter(|asked| Instant::now() < asked.end) else {
            return Some(down.error.clone());
        };
        let wait = asked.error.retry_after().unwrap_or_default();
        let error = asked.error.clone();
        Some(error.with_context("the destination asked to wait", format!("{wait:?}")))
    }

    /// Takes no more batches. A second call, after the first one was dropped, sets another deadline.
    pub(super) fn close(&mut self, until: Deadline) {
        // Only a wait of before the shutdown is cut short; a new one is the destination's answer to the shutdown.
        let has_begun = self.closing.is_some();
        let may_meet_a_wait = self.down.is_some() || !self.flights.is_empty();
        self.may_probe_early |= !has_begun && may_meet_a_wait;
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
        self.flights.clear();
        self.fresh.drain(..).chain(self.again.drain(..)).collect()
    }
}
