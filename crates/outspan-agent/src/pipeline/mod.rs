//! From receivers to destinations: policy around the queue that holds the spans.
//!
//! ```text
//!   receivers ──accept──▶ queue ──┬──▶ reader of a destination ──▶ exporter
//!                full everywhere: └──▶ reader of a destination ──▶ exporter
//!                the sender is asked to retry
//! ```
//!
//! The queue has a reader for each destination. A destination without space costs itself the request (counted as
//! `queue_full`) as long as another destination takes it; only when none does is it rejected, so that the sender keeps it.

mod causes;
mod pace;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use outspan::Account;
use outspan::Batch;
use outspan::Deadline;
use outspan::DropReason;
use outspan::engine::Ack;
use outspan::engine::Permit;
use outspan::engine::Reader;
use outspan::engine::ReaderStatus;
use outspan::engine::ReserveError;
use outspan::engine::SpanQueue;

use self::pace::Pace;

pub(crate) use self::causes::Causes;

/// How long senders are asked to wait while a destination takes spans, only not enough of them.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// How long senders are asked to wait while every destination is down.
const DOWN_WAIT: Duration = Duration::from_secs(5);

/// From which part of its bound on a queue counts as crowded: far more than a destination that keeps up ever leaves in it.
const CROWDED_PART: usize = 8;

/// From which part of its bound on a queue may be too far behind. What is below is soon delivered.
const BEHIND_PART: usize = 32;

/// How long an answer waits at most while every queue is crowded. A sender that waits for its answers sends no faster than
/// the destinations take, long before there is no room.
const CROWDED_WAIT: Duration = Duration::from_millis(100);

/// Says why spans were not accepted. Nothing of them was taken or counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No destination has room now; it is worth coming back after the wait.
    Full { retry_after: Duration },
    /// No destination will ever have room for so much at once.
    TooLarge { limit: usize },
    /// The agent is stopping; another one may take the spans.
    Stopping { retry_after: Duration },
}

/// Passes spans from receivers on to destinations.
#[derive(Debug)]
pub(crate) struct Pipeline {
    queue: Box<dyn SpanQueue>,
    /// Why each destination lost spans, in the order of the readers.
    causes: Vec<Causes>,
    /// How long spans may wait in a queue if their sender waits for their end.
    max_wait: Option<Duration>,
    /// What each destination takes, in the order of the readers.
    paces: Vec<Pace>,
}

/// Says how a destination is doing.
#[derive(Clone, Debug)]
pub(crate) struct DestinationStatus {
    pub(crate) name: String,
    pub(crate) account: Account,
    pub(crate) bytes: usize,
    pub(crate) bytes_max: usize,
    pub(crate) batches: usize,
    pub(crate) exports: usize,
    pub(crate) trouble: Option<String>,
    /// How long it is until the next attempt, while the destination is down.
    pub(crate) next_attempt: Option<Duration>,
    /// Why spans were dropped, for each reason that occurred and is known.
    pub(crate) causes: Vec<(DropReason, String)>,
    /// Why the destination refused spans, if it did.
    pub(crate) refusal: Option<String>,
}

impl Pipeline {
    /// Makes a pipeline to the destinations of a queue's readers.
    pub(crate) fn new(queue: impl SpanQueue) -> Self {
        Self {
            causes: vec![Causes::default(); queue.readers().len()],
            paces: queue.readers().iter().map(|_| Pace::default()).collect(),
            queue: Box::new(queue),
            max_wait: None,
        }
    }

    /// Reports these causes of losses, in the order of the readers.
    pub(crate) fn with_causes(mut self, causes: Vec<Causes>) -> Self {
        self.causes = causes;
        self
    }

    /// Accepts spans of waiting senders only as long as they leave the queue in about this time.
    pub(crate) fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = Some(max_wait);
        self
    }

    /// Says whether a request of at least `bytes` bytes would be refused now, before it is read.
    pub(crate) fn check(&self, bytes: usize) -> Result<(), Refusal> {
        self.queue.check(bytes).map_err(|error| self.refusal(error))
    }

    /// Takes spans over: from now on it is ours to deliver them. Copies at most, never waits. `ack` finishes when no destination
    /// holds any of them.
    pub(crate) fn accept(&self, spans: Batch, ack: Ack) -> Result<(), Refusal> {
        if spans.is_empty() {
            return Ok(());
        }
        let permit = self
            .queue
            .try_reserve(spans.memory(), spans.spans())
            .map_err(|error| self.refusal(error))?;
        self.push(spans, permit, ack)
    }

    /// Takes over spans whose sender waits for their end, as [`accept`](Self::accept) does. A destination that takes spans and
    /// is too far behind counts as one without room.
    ///
    /// Otherwise a queue that holds more than its destination takes in the time of an answer would never get shorter: every
    /// answer would come too late, and every sender would send the same spans again.
    pub(crate) fn accept_waiting(&self, spans: Batch, ack: Ack) -> Result<(), Refusal> {
        if spans.is_empty() {
            return Ok(());
        }
        let mut permit = self
            .queue
            .try_reserve(spans.memory(), spans.spans())
            .map_err(|error| self.refusal(error))?;
        for (place, to) in self.queue.readers().iter().enumerate() {
            if self.is_behind(place, to) && !permit.leave_out(place) {
                permit.release();
                return Err(self.refusal(ReserveError::Full));
            }
        }
        self.push(spans, permit, ack)
    }

    /// Whether a destination takes spans, but new ones would wait too long behind those that it has to take before.
    fn is_behind(&self, place: usize, to: &Arc<dyn Reader>) -> bool {
        let Some((max_wait, pace)) = self.max_wait.zip(self.paces.get(place)) else {
            return false;
        };
        // One that is down takes as much as there is room for: how fast it will be is not known.
        if to.bytes() <= to.max_bytes() / BEHIND_PART || to.is_down() {
            pace.is_idle();
            return false;
        }
        let account = to.status().account;
        let held = account.open();
        let is_slow = pace.is_behind(held, account.received - held, max_wait);
        is_slow || to.oldest_wait().is_some_and(|wait| wait > max_wait)
    }

    fn push(&self, spans: Batch, permit: Permit, ack: Ack) -> Result<(), Refusal> {
        self.queue.push(spans, permit, ack).map_err(|permit| {
            // Stopping began in between, and the sender keeps them.
            permit.release();
            stopping()
        })
    }

    /// Has spans that wait for others to go with go now.
    pub(crate) fn hand_over(&self) {
        self.queue.hand_over();
    }

    /// Whether a destination could do with more spans. Whoever fetches spans, instead of getting them, leaves what room
    /// there is beyond that to those that cannot wait.
    #[cfg(feature = "kafka")]
    pub(crate) fn wants_more(&self) -> bool {
        self.queue.readers().iter().any(|to| !is_crowded(to))
    }

    /// Waits while every destination that takes spans has a crowded queue, for 100 ms at most. To be called before what was
    /// accepted is acknowledged.
    pub(crate) async fn slow_down(&self) {
        let readers = self.queue.readers();
        let working = || readers.iter().filter(|to| !to.is_down());
        if working().next().is_none() || working().any(|to| !is_crowded(to)) {
            return;
        }
        let relieved = working().map(|to| to.wait_until_at_most(crowded_at(to)));
        let relieved = futures_util::future::select_all(relieved);
        // Out of time there is still room: it was taken before.
        drop(tokio::time::timeout(CROWDED_WAIT, relieved).await);
    }

    /// Refuses spans from now on, and delivers what is held by `until`.
    pub(crate) async fn shutdown(&self, until: Deadline) {
        let ends = self.queue.shutdown_readers(until).await;
        let all = self.queue.readers().iter().zip(&self.causes);
        for ((to, causes), ended) in all.zip(ends) {
            match ended {
                Ok(drained) => causes.note_shutdown(&drained),
                Err(error) => {
                    tracing::warn!(target: "outspan", "{}: {}", to.name(), error.chain());
                }
            }
        }
    }

    /// Stops at once; what is held is counted as lost.
    pub(crate) async fn abort(&self) {
        self.queue.abort().await;
    }

    /// Says how each destination is doing.
    pub(crate) fn status(&self) -> Vec<DestinationStatus> {
        let each = self.queue.status().into_iter().zip(&self.causes);
        each.map(|(to, causes)| DestinationStatus::of(to, causes))
            .collect()
    }

    /// How long a sender is asked to wait before it sends again.
    pub(crate) fn wait(&self) -> Duration {
        match self.queue.readers().iter().all(|to| to.is_down()) {
            true => DOWN_WAIT,
            false => BUSY_WAIT,
        }
    }

    /// Reserves everything, so that nobody finds space.
    #[cfg(all(test, feature = "kafka"))]
    pub(crate) fn reserve_all(&self) -> outspan::engine::Permit {
        let readers = self.queue.readers().iter();
        let bytes = readers.map(|to| to.max_bytes()).max().unwrap_or(0);
        self.queue
            .try_reserve(bytes, 1)
            .expect("nothing is reserved yet")
    }

    fn refusal(&self, error: ReserveError) -> Refusal {
        match error {
            ReserveError::TooLarge { max_bytes } => Refusal::TooLarge { limit: max_bytes },
            ReserveError::ShutDown => stopping(),
            _ => Refusal::Full {
                retry_after: self.wait(),
            },
        }
    }
}

impl DestinationStatus {
    fn of(reader: ReaderStatus, known: &Causes) -> Self {
        let account = reader.account;
        let reasons = DropReason::ALL.into_iter();
        let reasons = reasons.filter(|reason| account.dropped.of(*reason) > 0);
        let causes = reasons.filter_map(|reason| {
            let cause = known.of_drops(reason, reader.trouble.as_deref())?;
            Some((reason, cause))
        });
        let refusal = known.of_refusals();
        Self {
            causes: causes.collect(),
            refusal: refusal.filter(|_| account.refused > 0),
            name: reader.name,
            account,
            bytes: reader.bytes,
            bytes_max: reader.max_bytes,
            batches: reader.batches,
            exports: reader.exports,
            trouble: reader.trouble,
            next_attempt: reader.next_attempt_in,
        }
    }
}

fn crowded_at(to: &Arc<dyn Reader>) -> usize {
    to.max_bytes() / CROWDED_PART
}

fn is_crowded(to: &Arc<dyn Reader>) -> bool {
    to.bytes() > crowded_at(to)
}

fn stopping() -> Refusal {
    Refusal::Stopping {
        retry_after: BUSY_WAIT,
    }
}
