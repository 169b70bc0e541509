//! From receivers to destinations: requests become batches, and each destination gets every batch into a queue of its own.
//!
//! ```text
//!   receivers ──accept──▶ room in each queue ──▶ open batch ──full, or its delay is over──▶ queue ──▶ exporter
//!                          none anywhere: the sender is told to come back          └──────▶ queue ──▶ exporter
//! ```
//!
//! Room is taken when a request is accepted, so what was accepted always fits. A destination without room costs itself
//! the request (counted as `queue_full`) as long as another destination takes it; only when none does is it refused, so
//! that the sender keeps it. Merging happens once, before the queues, and the queues share the bytes.

mod causes;
mod open_batch;
#[cfg(test)]
mod tests;

#[cfg(feature = "kafka")]
use std::any::Any;
#[cfg(feature = "kafka")]
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::join_all;
use outspan::Account;
use outspan::Batch;
use outspan::Deadline;
use outspan::DropReason;
use outspan::engine::BatchLimits;
use outspan::engine::MemoryQueue;
#[cfg(feature = "kafka")]
use outspan::engine::Merger;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use self::causes::Causes;
use self::open_batch::OpenBatch;

/// How long senders are asked to wait while a destination takes spans, only not enough of them.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// How long senders are asked to wait while every destination is down.
const DOWN_WAIT: Duration = Duration::from_secs(5);

/// From which part of its bound on a queue counts as crowded: far more than a destination that keeps up ever leaves in it.
const CROWDED_PART: usize = 8;

/// How long an answer waits at most while every queue is crowded. A sender that waits for its answers sends no faster than
/// the destinations take, long before there is no room.
const CROWDED_WAIT: Duration = Duration::from_millis(100);

/// Says where spans go.
#[derive(Debug)]
pub(crate) struct Destination {
    /// The destination's address as it may be shown.
    pub(crate) name: String,
    /// What waits for it.
    pub(crate) queue: MemoryQueue,
}

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
    destinations: Vec<Destination>,
    /// Why each destination lost spans, in the order of the destinations.
    causes: Vec<Causes>,
    limits: BatchLimits,
    state: Mutex<State>,
    opened: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: OpenBatch,
    is_closed: bool,
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
    /// Makes a pipeline to at least one destination.
    pub(crate) fn new(destinations: Vec<Destination>, limits: BatchLimits) -> Self {
        Self {
            causes: vec![Causes::default(); destinations.len()],
            destinations,
            limits,
            state: Mutex::default(),
            opened: Notify::new(),
        }
    }

    /// Reports these causes of losses, in the order of the destinations.
    pub(crate) fn with_causes(mut self, causes: Vec<Causes>) -> Self {
        self.causes = causes;
        self
    }

    /// Says whether a request of at least `bytes` bytes would be refused now, before it is read.
    pub(crate) fn check(&self, bytes: usize) -> Result<(), Refusal> {
        if self.lock().is_closed {
            return Err(stopping());
        }
        match self.destinations.iter().any(|to| to.queue.has_room(bytes)) {
            true => Ok(()),
            false => Err(self.refusal(bytes)),
        }
    }

    /// Takes spans over: from now on it is ours to deliver them. Copies at most, never waits.
    pub(crate) fn accept(&self, piece: Batch) -> Result<(), Refusal> {
        if piece.is_empty() {
            return Ok(());
        }
        let (bytes, spans) = (piece.memory(), piece.spans());
        let mut state = self.lock();
        if state.is_closed {
            return Err(stopping());
        }
        let rooms = self.destinations.iter();
        let rooms: Vec<_> = rooms.map(|to| to.queue.reserve(bytes, spans)).collect();
        if rooms.iter().all(Option::is_none) {
            drop(state);
            return Err(self.refusal(bytes));
        }
        let is_left_out: Vec<bool> = rooms.iter().map(Option::is_none).collect();
        let was_empty = state.open.is_empty();
        let done = state.open.add(piece, rooms, &self.limits);
        let is_opened = was_empty && !state.open.is_empty();
        drop(state);
        if is_opened {
            self.opened.notify_one();
        }
        done.into_iter().for_each(|batch| self.ship(batch));
        let all = self.destinations.iter().zip(is_left_out);
        all.filter(|(_, is_left_out)| *is_left_out)
            .for_each(|(to, _)| to.queue.turn_away(spans));
        Ok(())
    }

    /// Takes spans over as [`accept`](Self::accept) does, in batches of their own. `witness` is dropped when no destination holds
    /// any of them: each span was delivered, refused or dropped, and counted.
    #[cfg(feature = "kafka")]
    pub(crate) fn accept_witnessed(
        &self,
        piece: &Batch,
        witness: &Arc<dyn Any + Send + Sync>,
    ) -> Result<(), Refusal> {
        let (bytes, spans) = (piece.memory(), piece.spans());
        // Held until they are in the queues, so that a shutdown finds all of them there or none.
        let state = self.lock();
        if state.is_closed {
            return Err(stopping());
        }
        let rooms = self.destinations.iter();
        let rooms: Vec<_> = rooms.map(|to| to.queue.reserve(bytes, spans)).collect();
        if rooms.iter().all(Option::is_none) {
            return Err(self.refusal(bytes));
        }
        let mut merger = Merger::default();
        merger.put(piece.clone());
        let batches = merger.finish(&self.limits);
        for (to, room) in self.destinations.iter().zip(rooms) {
            match room {
                Some(room) => {
                    let witness = Arc::clone(witness);
                    to.queue.push_witnessed(batches.clone(), room, witness);
                }
                None => to.queue.turn_away(spans),
            }
        }
        drop(state);
        Ok(())
    }

    /// Whether a destination could do with more spans. Whoever fetches spans, instead of getting them, leaves what room
    /// there is beyond that to those that cannot wait.
    #[cfg(feature = "kafka")]
    pub(crate) fn wants_more(&self) -> bool {
        self.destinations.iter().any(|to| !to.is_crowded())
    }

    /// How many bytes a destination has room for at most.
    #[cfg(feature = "kafka")]
    pub(crate) fn bytes_max(&self) -> usize {
        let destinations = self.destinations.iter();
        destinations
            .map(|to| to.queue.bytes_max())
            .max()
            .unwrap_or(0)
    }

    /// The limits of batches.
    #[cfg(feature = "kafka")]
    pub(crate) fn limits(&self) -> BatchLimits {
        self.limits
    }

    /// Waits while every destination that takes spans has a crowded queue, for 100 ms at most. To be called before what was
    /// accepted is acknowledged.
    pub(crate) async fn slow_down(&self) {
        let working = || self.destinations.iter().filter(|to| !to.is_down());
        if working().next().is_none() || working().any(|to| !to.is_crowded()) {
            return;
        }
        let relieved = working().map(|to| Box::pin(to.queue.wait_until_at_most(to.crowded_at())));
        let relieved = futures_util::future::select_all(relieved);
        // Out of time there is still room: it was taken before.
        drop(tokio::time::timeout(CROWDED_WAIT, relieved).await);
    }

    /// Closes batches whose delay is over, for ever.
    pub(crate) async fn run(&self) {
        loop {
            let Some(opened_at) = self.lock().open.opened_at() else {
                self.opened.notified().await;
                continue;
            };
            tokio::time::sleep_until(opened_at + self.limits.delay).await;
            let due = {
                let mut state = self.lock();
                let is_due = state
                    .open
                    .opened_at()
                    .is_some_and(|at| at + self.limits.delay <= Instant::now());
                is_due.then(|| std::mem::take(&mut state.open))
            };
            due.into_iter().for_each(|batch| self.ship(batch));
        }
    }

    /// Refuses spans from now on, and delivers what is held by `until`.
    pub(crate) async fn shutdown(&self, until: Deadline) {
        let open = self.close();
        self.ship(open);
        let all = self.destinations.iter().zip(&self.causes);
        let ends = all.map(|(to, causes)| async move {
            match to.queue.shutdown(until).await {
                Ok(drained) => causes.note_shutdown(&drained),
                Err(error) => {
                    tracing::warn!(target: "outspan", "{}: {}", to.name, error.chain());
                }
            }
        });
        join_all(ends).await;
    }

    /// Stops at once; what is held is counted as lost.
    pub(crate) async fn abort(&self) {
        drop(self.close());
        join_all(self.destinations.iter().map(|to| to.queue.abort())).await;
    }

    /// Says how each destination is doing.
    pub(crate) fn status(&self) -> Vec<DestinationStatus> {
        let each = self.destinations.iter().zip(&self.causes);
        let each = each.map(|(to, causes)| to.status(causes));
        each.collect()
    }

    fn close(&self) -> OpenBatch {
        let mut state = self.lock();
        state.is_closed = true;
        std::mem::take(&mut state.open)
    }

    /// Hands a batch to the queues that have room for it.
    fn ship(&self, batch: OpenBatch) {
        let (batches, rooms) = batch.finish(&self.limits);
        for (to, room) in self.destinations.iter().zip(rooms) {
            if let Some(room) = room {
                to.queue.push(batches.clone(), room);
            }
        }
    }

    fn refusal(&self, bytes: usize) -> Refusal {
        let limit = self
            .destinations
            .iter()
            .map(|to| to.queue.bytes_max())
            .max();
        match limit {
            Some(limit) if bytes > limit => Refusal::TooLarge { limit },
            _ => Refusal::Full {
                retry_after: self.wait(),
            },
        }
    }

    fn wait(&self) -> Duration {
        match self.destinations.iter().all(Destination::is_down) {
            true => DOWN_WAIT,
            false => BUSY_WAIT,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Destination {
    fn status(&self, known: &Causes) -> DestinationStatus {
        let queue = &self.queue;
        let account = queue.account();
        let trouble = queue.trouble();
        let reasons = DropReason::ALL.into_iter();
        let reasons = reasons.filter(|reason| account.dropped.of(*reason) > 0);
        let causes = reasons.filter_map(|reason| {
            let cause = known.of_drops(reason, trouble.as_deref())?;
            Some((reason, cause))
        });
        let refusal = known.of_refusals();
        DestinationStatus {
            name: self.name.clone(),
            bytes: queue.bytes(),
            bytes_max: queue.bytes_max(),
            batches: queue.batches(),
            exports: queue.exports(),
            next_attempt: queue.next_attempt_in(),
            causes: causes.collect(),
            refusal: refusal.filter(|_| account.refused > 0),
            account,
            trouble,
        }
    }

    fn is_down(&self) -> bool {
        self.queue.trouble().is_some()
    }

    fn crowded_at(&self) -> usize {
        self.queue.bytes_max() / CROWDED_PART
    }

    fn is_crowded(&self) -> bool {
        self.queue.bytes() > self.crowded_at()
    }
}

fn stopping() -> Refusal {
    Refusal::Stopping {
        retry_after: BUSY_WAIT,
    }
}
