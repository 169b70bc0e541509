//! The queue in memory, in front of one destination or several.
//!
//! ```text
//!   push ──▶ batcher ──full, due, flush──┬──▶ reader: Queue, ledger, budget ──▶ exporter
//!            (merges, optional)          └──▶ reader: Queue, ledger, budget ──▶ exporter
//! ```
//!
//! Readers have the same batches, whose bytes they share, and nothing else: each has bounds, accounts and attempts of its own.
//!
//! Lock order: the batcher's lock, then that of a reader's schedule, then that of the ledger in its books.

mod builder;
mod collect;
mod reader;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use futures_util::future::select_all;
use tokio::sync::watch;

pub use self::builder::MemoryQueueBuilder;
use self::collect::Collected;
use self::collect::Record;
use self::reader::MemoryReader;
use super::Ack;
use super::Entry;
use super::Permit;
use super::Reader;
use super::ReserveError;
use super::SpanQueue;
use super::batcher::Batcher;
use super::driver::Shared;
use super::span_queue::BoxFuture;
use super::span_queue::Space;
use crate::Account;
use crate::Batch;
use crate::Cause;
use crate::Deadline;
use crate::Drained;
use crate::DropReason;
use crate::Exporter;
use crate::Result;
use crate::work::Task;

/// Holds batches in memory until they are delivered: in front of one exporter, or of several that get the same batches.
///
/// A source reserves space with a [`Permit`], which may fail at once, and pushes a batch into it later; so requests that find
/// no space can be rejected before they are read. Several exports are in flight at the same time. A batch that failed
/// temporarily stays and is tried again, only what was not delivered of it; a batch that the destination finds too large is
/// split. While the destination is down, one export at a time finds out whether it is back.
///
/// With several readers, each has an exporter, bounds and accounts of its own, and none waits for another. A reader without
/// space is left out, counted as `queue_full`, as long as another one has it.
///
/// What happens to spans is told in few log lines (`tracing`, target `outspan`), however long the trouble is.
///
/// Dropping a queue loses what it holds; the loss is counted and told. [`shutdown`](Self::shutdown) delivers it.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "grpc")] {
/// use outspan::otlp;
/// use outspan::engine::Ack;
/// use outspan::engine::MemoryQueue;
///
/// # fn queue(batch: outspan::Batch) -> outspan::Result<()> {
/// let exporter = otlp::grpc("http://localhost:4317").build()?;
/// let queue = MemoryQueue::builder(exporter).bytes(16 << 20).start()?;
/// match queue.try_reserve(batch.memory(), batch.spans()) {
///     Ok(permit) => {
///         if let Err(permit) = queue.push(batch, permit, Ack::none()) {
///             permit.release(); // The queue was shut down meanwhile.
///         }
///     }
///     Err(error) => eprintln!("{error}: try again later"),
/// }
/// # Ok(())
/// # }
/// # queue(outspan::Batch::empty()).unwrap();
/// # }
/// ```
pub struct MemoryQueue {
    core: Arc<Core>,
    /// Log summaries and the timer of the batcher. They end with the queue.
    _tasks: Vec<Task<()>>,
}

struct Core {
    batcher: Arc<Batcher<Collected>>,
    readers: Vec<Arc<MemoryReader>>,
    /// The same ones.
    shown: Vec<Arc<dyn Reader>>,
    space: Arc<MemorySpace>,
    /// Callers of `reserve` wait here, in the order of their calls; the one that holds it waits for space.
    turn: tokio::sync::Mutex<()>,
    /// How many callers of `reserve` there are.
    waiting: AtomicUsize,
}

/// Where permits come from. It knows no queue, so that a permit in the batcher keeps no queue alive.
struct MemorySpace {
    readers: Vec<Arc<Shared>>,
}

impl MemoryQueue {
    /// Begins a queue in front of `exporter`.
    pub fn builder(exporter: Exporter) -> MemoryQueueBuilder {
        MemoryQueueBuilder::new(exporter)
    }

    /// Reserves space for a batch, without waiting. A reader without space is left out as long as another one has it.
    ///
    /// # Errors
    ///
    /// Returns an error if no reader has space, if callers of [`reserve`](Self::reserve) wait for it, or after a shutdown.
    /// Nothing is counted then.
    pub fn try_reserve(&self, bytes: usize, spans: usize) -> Result<Permit, ReserveError> {
        // Those that wait come first, or small requests would take the space that a large one waits for, again and again.
        // Relaxed: the number orders nothing; a caller that begins to wait at this moment may as well be later.
        if self.core.waiting.load(Ordering::Relaxed) > 0 {
            self.core.could_hold(bytes, spans)?;
            return Err(ReserveError::Full);
        }
        self.core.reserve_now(bytes, spans)
    }

    /// Reserves space for a batch, waiting for it until the deadline. Callers are served in the order of their calls.
    ///
    /// # Errors
    ///
    /// Returns an error at the deadline, at once if the batch could never fit, and after a shutdown. Nothing is counted then.
    ///
    /// # Cancellation
    ///
    /// Dropping the future takes nothing.
    pub async fn reserve(
        &self,
        bytes: usize,
        spans: usize,
        deadline: Deadline,
    ) -> Result<Permit, ReserveError> {
        let core = &self.core;
        core.could_hold(bytes, spans)?;
        let _waiting = Waiting::begin(&core.waiting);
        let reserved = async {
            // A fair lock: one caller waits for space, and the next ones wait for it to be done.
            let _turn = core.turn.lock().await;
            let mut progress = core.progress();
            loop {
                progress
                    .iter_mut()
                    .for_each(watch::Receiver::mark_unchanged);
                match core.reserve_now(bytes, spans) {
                    Err(ReserveError::Full) => {}
                    reserved => return reserved,
                }
                if !changed(&mut progress).await {
                    return Err(ReserveError::ShutDown);
                }
            }
        };
        let reserved = deadline.run(reserved).await;
        reserved.unwrap_or(Err(ReserveError::Full))
    }

    /// Reserves space for a batch, dropping those that wait longest to make it; they count as `queue_full`.
    ///
    /// # Errors
    ///
    /// Returns an error if it could never fit, if everything that is held is in flight, and after a shutdown.
    pub fn try_reserve_evicting(&self, bytes: usize, spans: usize) -> Result<Permit, ReserveError> {
        self.core.could_hold(bytes, spans)?;
        loop {
            match self.core.reserve_now(bytes, spans) {
                Err(ReserveError::Full) => {}
                reserved => return reserved,
            }
            let has_evicted = |reader: &Arc<MemoryReader>| reader.shared.evict();
            if self.core.readers.iter().any(has_evicted) {
                continue;
            }
            // What is being collected is younger, and all that is left to drop.
            if !self.core.batcher.flush() {
                return Err(ReserveError::Full);
            }
        }
    }

    /// Waits until at most `bytes` are held, or the queue ends.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing.
    pub async fn wait_until_at_most(&self, bytes: usize) {
        let mut progress = self.core.progress();
        loop {
            progress
                .iter_mut()
                .for_each(watch::Receiver::mark_unchanged);
            if self.bytes() <= bytes || !changed(&mut progress).await {
                return;
            }
        }
    }

    /// Whether a reader has space for `bytes` at this moment; [`try_reserve`](Self::try_reserve) may still fail.
    pub fn has_room(&self, bytes: usize) -> bool {
        let mut budgets = self.core.serving().map(|reader| reader.books().budget());
        budgets.any(|budget| budget.bytes().saturating_add(bytes) <= budget.bytes_max())
    }

    /// Counts spans as received and dropped because there was no room for them, and tells of it.
    pub fn turn_away(&self, spans: usize) {
        for reader in &self.core.readers {
            reader.turn_away(spans);
        }
    }

    /// Takes a batch over, into the space that was reserved for it. `ack` finishes when no reader holds any of its spans.
    ///
    /// From now on the batch is charged with what it holds. Without [`batches`](MemoryQueueBuilder::batches) it goes as it is.
    ///
    /// # Errors
    ///
    /// Returns the permit after a [`shutdown`](Self::shutdown). The spans then count as dropped when the permit is dropped; a
    /// caller that keeps them calls [`Permit::release`]. `ack` is told of the drop.
    pub fn push(&self, batch: Batch, permit: Permit, ack: Ack) -> Result<(), Permit> {
        let spans = batch.spans();
        let permit = match permit.is_of(&self.core.space) {
            true => permit,
            // Of another queue, where it counts as dropped.
            false => self.core.unbounded(),
        };
        let readers = self.core.readers.iter().zip(permit.readers());
        let left_out: Vec<_> = readers.filter(|(_, has_space)| !has_space).collect();
        for _ in &left_out {
            // Before the push: afterwards the ack may finish at any time.
            ack.branch(spans as u64)
                .drop_spans(DropReason::QueueFull, None);
        }
        let record = Record { batch, permit, ack };
        if let Err(record) = self.core.batcher.add(record) {
            let Record { permit, ack, .. } = record;
            ack.branch(spans as u64)
                .drop_spans(DropReason::Shutdown, None);
            return Err(permit);
        }
        for (reader, _) in left_out {
            reader.turn_away(spans);
        }
        Ok(())
    }

    /// Hands what is being collected to the readers now.
    pub fn hand_over(&self) {
        self.core.batcher.flush();
    }

    /// How many pieces the batch holds that is being collected.
    #[doc(hidden)]
    pub fn collected_pieces(&self) -> usize {
        let pieces = |collected: &Collected| collected.merger.pieces();
        self.core.batcher.read(pieces).unwrap_or(0)
    }

    /// Says where every span is that was handed over. With several readers, the sum of their accounts.
    pub fn account(&self) -> Account {
        let mut sum = Account::default();
        for reader in &self.core.readers {
            sum.add(&reader.account());
        }
        sum
    }

    /// How many bytes are held. The forms that exporters make of batches are included, such as compressed ones, except for
    /// those that a full queue has no room for: these take at most 32 MiB, in all queues of the process together.
    pub fn bytes(&self) -> usize {
        let readers = self.core.readers.iter();
        readers.fold(0, |sum, reader| sum.saturating_add(reader.bytes()))
    }

    /// How many bytes may be held.
    pub fn bytes_max(&self) -> usize {
        let readers = self.core.readers.iter();
        // A reader without a bound has the largest number.
        readers.fold(0, |sum, reader| sum.saturating_add(reader.max_bytes()))
    }

    /// How many exports are in flight.
    pub fn exports(&self) -> usize {
        let readers = self.core.readers.iter();
        readers.map(|reader| reader.shared.lock().exports()).sum()
    }

    /// How many batches are held, in flight or not.
    pub fn batches(&self) -> usize {
        let readers = self.core.readers.iter();
        readers.map(|reader| reader.shared.lock().batches()).sum()
    }

    /// What keeps a destination from taking spans at this moment; nothing while all take them.
    pub fn trouble(&self) -> Option<String> {
        let mut readers = self.core.readers.iter();
        readers.find_map(|reader| reader.trouble())
    }

    /// How long it is until the next attempt, while a destination is down: what it asked for, or the queue's own wait.
    /// Nothing while it takes spans, and while an attempt is under way.
    pub fn next_attempt_in(&self) -> Option<Duration> {
        let readers = self.core.readers.iter();
        readers
            .filter_map(|reader| reader.queue.next_attempt_in())
            .min()
    }

    /// Delivers what is held now, then has the exporter flush. Waits that the destination asked for are kept: when one
    /// lasts longer than `until`, the spans stay and that wait is the [cause](Drained::causes). Says what became of every span
    /// since the last flush that had ended when this one began, because whoever pushed was told nothing. So two flushes at once
    /// both say all of it.
    ///
    /// # Errors
    ///
    /// If the exporter could not be flushed. Spans that are still held are [`Drained::left`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends the hurry; the batches stay.
    pub async fn flush(&self, until: Deadline) -> Result<Drained> {
        merged(self.flush_each(until).await)
    }

    async fn flush_each(&self, until: Deadline) -> Vec<Result<Drained>> {
        self.core.batcher.flush();
        let readers = self.core.readers.iter();
        let flushed = join_all(readers.map(|reader| reader.flush(until))).await;
        // Only now: if this future is dropped while one reader flushes, the next flush reports what the others did.
        let reported = self.core.readers.iter().zip(flushed);
        let reported = reported.map(|(reader, (result, reading))| {
            reader.set_told(reading);
            result
        });
        reported.collect()
    }

    /// Takes no more batches, delivers what is held, counts what is left at `until` as lost, and shuts the exporter down.
    ///
    /// A destination that asked for a wait gets one batch before its end; if it takes that, the rest follows. Otherwise
    /// the shutdown ends as soon as nothing can be delivered before `until`.
    ///
    /// A second call, at the same time or later, waits for the first, within its own deadline, and returns its result;
    /// spans that were pushed since are added to it.
    ///
    /// # Errors
    ///
    /// If the exporter could not be shut down; the queue is, all the same. [`Timeout`](crate::ErrorKind::Timeout) if the shutdown that
    /// another caller began goes on beyond `until`.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the queue closed, with what it holds; another call goes on, and [`abort`](Self::abort)
    /// ends it.
    pub async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        merged(self.shutdown_each(until).await)
    }

    async fn shutdown_each(&self, until: Deadline) -> Vec<Result<Drained>> {
        // First: what is pushed before is behind the batcher then, and what is pushed later fails.
        self.core.batcher.close();
        self.core.wake_waiting();
        let readers = self.core.readers.iter();
        join_all(readers.map(|reader| reader.shutdown(until))).await
    }

    /// Stops at once. What is held is counted as lost when this returns.
    pub async fn abort(&self) {
        drop(self.core.batcher.discard());
        self.core.wake_waiting();
        let readers = self.core.readers.iter();
        join_all(readers.map(|reader| reader.abort())).await;
    }
}

impl SpanQueue for MemoryQueue {
    fn try_reserve(&self, bytes: usize, spans: usize) -> Result<Permit, ReserveError> {
        Self::try_reserve(self, bytes, spans)
    }

    fn check(&self, bytes: usize) -> Result<(), ReserveError> {
        self.core.could_hold(bytes, 0)?;
        match self.has_room(bytes) {
            true => Ok(()),
            false => Err(ReserveError::Full),
        }
    }

    fn push(&self, batch: Batch, permit: Permit, ack: Ack) -> Result<(), Permit> {
        Self::push(self, batch, permit, ack)
    }

    fn hand_over(&self) {
        Self::hand_over(self);
    }

    fn readers(&self) -> &[Arc<dyn Reader>] {
        &self.core.shown
    }

    fn flush_readers(&self, deadline: Deadline) -> BoxFuture<'_, Vec<Result<Drained>>> {
        self.flush_each(deadline).boxed()
    }

    fn shutdown_readers(&self, deadline: Deadline) -> BoxFuture<'_, Vec<Result<Drained>>> {
        self.shutdown_each(deadline).boxed()
    }

    fn abort(&self) -> BoxFuture<'_, ()> {
        Self::abort(self).boxed()
    }
}

impl Drop for MemoryQueue {
    fn drop(&mut self) {
        // The readers count what they hold when they are dropped, after this.
        drop(self.core.batcher.discard());
    }
}

#[cfg(test)]
impl MemoryQueue {
    /// What each reader shares with its driver, in their order.
    pub(super) fn shared(&self) -> impl Iterator<Item = &Arc<Shared>> {
        self.core.readers.iter().map(|reader| &reader.shared)
    }

    /// What is being collected: the batches, and for each reader the bytes and spans that are charged for them.
    pub(super) fn collected(&self) -> (Vec<Batch>, Vec<(usize, usize)>) {
        let read = |collected: &Collected| {
            let charged = |entry: &Option<Entry>| {
                let entry = entry.as_ref();
                entry.map_or((0, 0), |entry| (entry.bytes(), entry.spans()))
            };
            let permit = collected.permit.iter();
            let charges = permit.flat_map(|permit| permit.entries().iter().map(charged));
            (collected.merger.batches().to_vec(), charges.collect())
        };
        let collected = self.core.batcher.read(read);
        collected.unwrap_or_default()
    }
}

impl Core {
    /// Whether so much fits at all into one of the readers, be everything else gone. Nothing does after a shutdown.
    fn could_hold(&self, bytes: usize, spans: usize) -> Result<(), ReserveError> {
        if self.batcher.is_closed() {
            return Err(ReserveError::ShutDown);
        }
        let mut budgets = self.serving().map(|reader| reader.books().budget());
        if budgets.any(|budget| budget.could_hold(bytes, spans)) {
            return Ok(());
        }
        let sizes = self.serving().map(|reader| reader.max_bytes());
        let max_bytes = sizes.max().unwrap_or(0);
        Err(ReserveError::TooLarge { max_bytes })
    }

    /// Takes space in every reader that has it.
    fn reserve_now(&self, bytes: usize, spans: usize) -> Result<Permit, ReserveError> {
        if self.batcher.is_closed() {
            return Err(ReserveError::ShutDown);
        }
        let readers = self.readers.iter();
        let entries: Vec<_> = readers
            .map(|reader| reader.books().try_reserve(bytes, spans))
            .collect();
        let has_space = |(reader, entry): (&Arc<MemoryReader>, &Option<Entry>)| {
            entry.is_some() && self.is_serving(reader)
        };
        if !self.readers.iter().zip(&entries).any(has_space) {
            entries.into_iter().flatten().for_each(Entry::cancel);
            self.could_hold(bytes, spans)?;
            return Err(ReserveError::Full);
        }
        Ok(self.permit(entries))
    }

    /// The readers that have not ended; all of them once each has.
    fn serving(&self) -> impl Iterator<Item = &Arc<MemoryReader>> {
        self.readers.iter().filter(|reader| self.is_serving(reader))
    }

    /// Whether space in this reader counts.
    ///
    /// A reader whose runtime has ended drops everything at once, so it always has space. That must not hide that the others
    /// are full.
    fn is_serving(&self, reader: &MemoryReader) -> bool {
        !reader.has_ended() || self.readers.iter().all(|other| other.has_ended())
    }

    /// Makes a permit for nothing yet. What is pushed into it is added, whether there is space or not.
    fn unbounded(&self) -> Permit {
        let readers = self.readers.iter();
        let entries = readers.map(|reader| Some(reader.books().enter(0, 0)));
        self.permit(entries.collect())
    }

    fn permit(&self, entries: Vec<Option<Entry>>) -> Permit {
        let space = Arc::clone(&self.space);
        Permit::new(space, entries)
    }

    fn progress(&self) -> Vec<watch::Receiver<()>> {
        let readers = self.readers.iter();
        readers
            .map(|reader| reader.shared.progress.subscribe())
            .collect()
    }

    /// Has callers that wait for space look again.
    fn wake_waiting(&self) {
        for reader in &self.readers {
            reader.shared.progress.send_replace(());
        }
    }
}

/// Waits until one of them has changed. Returns false when none can change any more.
async fn changed(progress: &mut [watch::Receiver<()>]) -> bool {
    let changes = progress.iter_mut().map(|one| Box::pin(one.changed()));
    let (changed, _, _) = select_all(changes).await;
    changed.is_ok()
}

/// Counts a caller of `reserve` until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Self {
        // Relaxed: see `try_reserve`.
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Space for MemorySpace {
    fn freed(&self) {
        for shared in &self.readers {
            shared.progress.send_replace(());
        }
    }
}

/// What several readers did. An error speaks for all if there is nothing else to tell of.
fn merged(mut results: Vec<Result<Drained>>) -> Result<Drained> {
    if results.len() == 1
        && let Some(only) = results.pop()
    {
        return only;
    }
    let mut sum = Drained::default();
    let mut error = None;
    for result in results {
        match result {
            Ok(drained) => sum.merge(&drained),
            Err(first) => error = error.or(Some(first)),
        }
    }
    match error {
        Some(error) if sum.is_complete() => Err(error),
        Some(error) => {
            sum.add_cause(Cause::new(error));
            Ok(sum)
        }
        None => Ok(sum),
    }
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQueue")
            .field("batcher", &self.core.batcher)
            .field("readers", &self.core.readers)
            .finish()
    }
}
