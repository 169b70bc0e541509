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

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use futures_util::future::select_all;
use tokio::sync::watch;

use super::Ack;
use super::BatchLimits;
use super::Books;
use super::Budget;
use super::Entry;
use super::Flushed;
use super::Merger;
use super::Permit;
use super::Queue;
use super::Reader;
use super::ReaderStatus;
use super::ReserveError;
use super::Settings;
use super::SpanQueue;
use super::batcher::Batcher;
use super::batcher::Collect;
use super::driver::Shared;
use super::span_queue::BoxFuture;
use super::span_queue::Space;
use crate::Account;
use crate::Batch;
use crate::Cause;
use crate::Deadline;
use crate::Drained;
use crate::DropEvent;
use crate::DropReason;
use crate::Error;
use crate::ErrorKind;
use crate::Exporter;
use crate::Result;
use crate::Retry;
use crate::diagnostics::Diagnostics;
use crate::diagnostics::Hook;
use crate::ending::Ending;
use crate::guard::GRACE;
use crate::runtime::Runtime;
use crate::work::Task;

/// How many bytes a queue holds unless told: what the batch processor holds, too.
const BYTES: usize = 64 << 20;

/// How many exports are in flight unless told: enough to hide a round trip, few enough for any backend.
const CONCURRENT_EXPORTS: usize = 4;

/// How long one call of the exporter may take unless told: OTLP's own default.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The name of a reader that was given none.
const DEFAULT_NAME: &str = "default";

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

/// What serves one destination.
struct MemoryReader {
    name: String,
    queue: Queue,
    shared: Arc<Shared>,
    /// Where the exports and everything that waits are.
    runtime: Runtime,
    /// The account at the end of the last flush.
    told: Mutex<Told>,
    ending: Ending,
    /// What became of spans that came after the shutdown.
    late: Mutex<Drained>,
}

/// What flushes have reported.
#[derive(Debug, Default)]
struct Told {
    account: Account,
    /// When `account` was read, as a number of `readings`.
    reading: u64,
    readings: u64,
}

/// The account as a flush read it. It counts as reported when the flush returns.
#[derive(Debug)]
struct Reading {
    account: Account,
    number: u64,
}

/// Where permits come from. It knows no queue, so that a permit in the batcher keeps no queue alive.
struct MemorySpace {
    readers: Vec<Arc<Shared>>,
}

/// Collects the settings of a [`MemoryQueue`].
pub struct MemoryQueueBuilder {
    exporter: Exporter,
    name: Option<String>,
    bytes: usize,
    spans: Option<NonZeroUsize>,
    concurrent_exports: usize,
    attempt_timeout: Option<Duration>,
    export_limit: Option<Duration>,
    retry: Retry,
    on_drop: Option<Hook>,
    gives_up_early: bool,
    takes_turns: bool,
    batches: Option<BatchLimits>,
    others: Vec<Self>,
    runtime: Runtime,
}

impl MemoryQueue {
    /// Begins a queue in front of `exporter`.
    pub fn builder(exporter: Exporter) -> MemoryQueueBuilder {
        MemoryQueueBuilder {
            exporter,
            name: None,
            bytes: BYTES,
            spans: None,
            concurrent_exports: CONCURRENT_EXPORTS,
            attempt_timeout: Some(ATTEMPT_TIMEOUT),
            export_limit: None,
            retry: Retry::default(),
            on_drop: None,
            gives_up_early: false,
            takes_turns: false,
            batches: None,
            others: Vec::new(),
            runtime: Runtime::shared(),
        }
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
        let readers = self.core.readers.iter();
        let mut budgets = readers.map(|reader| reader.books().budget());
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
        self.core.readers.iter().map(|reader| reader.bytes()).sum()
    }

    /// How many bytes may be held.
    pub fn bytes_max(&self) -> usize {
        let readers = self.core.readers.iter();
        readers.map(|reader| reader.max_bytes()).sum()
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
        if self.core.batcher.is_closed() {
            return Err(ReserveError::ShutDown);
        }
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
    /// Whether so much fits at all into one of the readers, be everything else gone.
    fn could_hold(&self, bytes: usize, spans: usize) -> Result<(), ReserveError> {
        let readers = self.readers.iter();
        let mut budgets = readers.clone().map(|reader| reader.books().budget());
        if budgets.any(|budget| budget.could_hold(bytes, spans)) {
            return Ok(());
        }
        let max_bytes = readers.map(|reader| reader.max_bytes()).max().unwrap_or(0);
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
        if entries.iter().all(Option::is_none) {
            self.could_hold(bytes, spans)?;
            return Err(ReserveError::Full);
        }
        Ok(self.permit(entries))
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

/// What is pushed.
struct Record {
    batch: Batch,
    permit: Permit,
    ack: Ack,
}

/// Records that go to the same readers as one batch.
struct Collected {
    limits: Option<BatchLimits>,
    merger: Merger,
    /// Space for all of them, with the acks of their sources.
    permit: Option<Permit>,
}

impl Collected {
    fn new(limits: Option<BatchLimits>) -> Self {
        Self {
            limits,
            merger: Merger::default(),
            permit: None,
        }
    }

    /// Gives the readers what is collected, as one batch, or several if one record alone is too large.
    fn deliver(self, readers: &[Arc<MemoryReader>]) {
        let Some(mut permit) = self.permit else {
            return;
        };
        let batches = match &self.limits {
            Some(limits) => self.merger.finish(limits),
            None => self.merger.into_pieces(),
        };
        for (reader, entry) in readers.iter().zip(permit.take_entries()) {
            let Some(entry) = entry else {
                continue;
            };
            for tracked in entry.into_tracked(batches.clone()) {
                reader.queue.push(tracked);
            }
            // A batch may hold less than was reserved for its records.
            reader.shared.progress.send_replace(());
        }
    }
}

impl Collect for Collected {
    type Item = Record;

    fn fits(&self, record: &Record) -> bool {
        let same_readers = self
            .permit
            .as_ref()
            .is_none_or(|ours| ours.readers().eq(record.permit.readers()));
        let fits = |limits: &BatchLimits| self.merger.fits(&record.batch, limits);
        same_readers && self.limits.as_ref().is_some_and(fits)
    }

    fn put(&mut self, record: Record) {
        let Record {
            batch,
            mut permit,
            ack,
        } = record;
        for entry in permit.entries_mut() {
            entry.add_acks(ack.branch(batch.spans() as u64));
        }
        match &mut self.permit {
            Some(ours) => {
                // Of this queue and for the same readers, as `push` and `fits` saw to.
                let merged = ours.merge(permit);
                debug_assert!(merged.is_ok(), "a permit of another queue");
            }
            None => self.permit = Some(permit),
        }
        self.merger.put(batch);
    }

    fn is_full(&self) -> bool {
        let is_full = |limits: &BatchLimits| self.merger.is_full(limits);
        self.limits.as_ref().is_none_or(is_full)
    }
}

impl MemoryReader {
    fn books(&self) -> &Arc<Books> {
        &self.shared.books
    }

    fn account(&self) -> Account {
        self.books().account()
    }

    fn trouble(&self) -> Option<String> {
        self.shared.diagnostics.trouble()
    }

    fn turn_away(&self, spans: usize) {
        let reason = DropReason::QueueFull;
        self.books().turn_away(reason, spans as u64).report();
    }

    /// Flushes. The caller passes the reading to [`set_told`](Self::set_told) when it returns the result.
    async fn flush(self: &Arc<Self>, until: Deadline) -> (Result<Drained>, Option<Reading>) {
        // Read now: what a flush at the same time tells is told here as well.
        let since = lock(&self.told).account;
        let flush = move |reader: Arc<Self>| async move { reader.queue.flush(until).await };
        match self.on_runtime(until, flush).await {
            Ok(flushed) => {
                let (drained, reading) = self.drained(&since, flushed);
                (drained, Some(reading))
            }
            Err(error) => (Err(error), None),
        }
    }

    async fn shutdown(self: &Arc<Self>, until: Deadline) -> Result<Drained> {
        let work = || async {
            let since = lock(&self.told).account;
            let shutdown =
                move |reader: Arc<Self>| async move { reader.queue.shutdown(until).await };
            let flushed = self.on_runtime(until, shutdown).await?;
            let (drained, reading) = self.drained(&since, flushed);
            // `ending` keeps the result for the next call.
            self.set_told(Some(reading));
            self.shared.diagnostics.finish();
            drained
        };
        let mut drained = self.ending.run(until, work).await?;
        let mut late = lock(&self.late);
        let (news, reading) = self.news(None, 0);
        self.set_told(Some(reading));
        late.merge(&news);
        drained.merge(&late);
        Ok(drained)
    }

    async fn abort(self: &Arc<Self>) {
        let abort = move |reader: Arc<Self>| async move { reader.queue.abort().await };
        // The driver ends on its runtime. If nothing drives that, the queue counts what it held when that is dropped.
        drop(self.on_runtime(Deadline::after(GRACE), abort).await);
        self.shared.diagnostics.finish();
    }

    /// Runs `work` on the reader's runtime: at once if the caller is there, so that a queue inside another one is done before
    /// its time is up.
    ///
    /// If the runtime has ended, its end has counted what the queue held, and the caller can do the rest.
    async fn on_runtime<R, W>(
        self: &Arc<Self>,
        deadline: Deadline,
        work: impl Fn(Arc<Self>) -> W,
    ) -> Result<R>
    where
        R: Send + 'static,
        W: Future<Output = R> + Send + 'static,
    {
        let ran = self.runtime.run(deadline, work(Arc::clone(self)));
        match ran.await {
            Err(error) if error.kind() == ErrorKind::ShutDown => Ok(work(Arc::clone(self)).await),
            ran => ran,
        }
    }

    /// What a flush or the shutdown tells.
    fn drained(&self, since: &Account, flushed: Flushed) -> (Result<Drained>, Reading) {
        let (mut drained, reading) = self.news(Some(since), flushed.left_inside);
        drained.left = flushed.left;
        for cause in self.queue.causes(&drained, &flushed) {
            drained.add_cause(cause);
        }
        let drained = match flushed.error {
            Some(error) if drained.is_complete() => Err(error),
            _ => Ok(drained),
        };
        (drained, reading)
    }

    /// What became of spans since then, or since the last time that somebody was told. Those that are held inside are not
    /// delivered yet.
    fn news(&self, since: Option<&Account>, left_inside: u64) -> (Drained, Reading) {
        let mut told = lock(&self.told);
        // Read under the lock, so that a reading with a higher number is a later one.
        let mut now = self.account();
        now.delivered = now.delivered.saturating_sub(left_inside);
        let drained = now.since(since.unwrap_or(&told.account));
        told.readings += 1;
        let reading = Reading {
            account: now,
            number: told.readings,
        };
        (drained, reading)
    }

    /// Counts what was read as reported, unless a later reading has been.
    fn set_told(&self, reading: Option<Reading>) {
        let Some(reading) = reading else { return };
        let mut told = lock(&self.told);
        if reading.number > told.reading {
            told.account = reading.account;
            told.reading = reading.number;
        }
    }
}

impl Reader for MemoryReader {
    fn name(&self) -> &str {
        &self.name
    }

    fn status(&self) -> ReaderStatus {
        let (batches, exports) = {
            let schedule = self.shared.lock();
            (schedule.batches(), schedule.exports())
        };
        ReaderStatus {
            name: self.name.clone(),
            account: self.account(),
            bytes: self.bytes(),
            max_bytes: self.max_bytes(),
            batches,
            exports,
            trouble: self.trouble(),
            next_attempt_in: self.queue.next_attempt_in(),
        }
    }

    fn bytes(&self) -> usize {
        self.books().budget().bytes()
    }

    fn max_bytes(&self) -> usize {
        self.books().budget().bytes_max()
    }

    fn is_down(&self) -> bool {
        self.trouble().is_some()
    }

    fn oldest_wait(&self) -> Option<Duration> {
        self.shared.lock().oldest_wait()
    }

    fn wait_until_at_most(&self, bytes: usize) -> BoxFuture<'_, ()> {
        let mut progress = self.shared.progress.subscribe();
        let shrunk = async move {
            loop {
                progress.mark_unchanged();
                if self.bytes() <= bytes || progress.changed().await.is_err() {
                    return;
                }
            }
        };
        shrunk.boxed()
    }
}

impl fmt::Debug for MemoryReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryReader")
            .field("name", &self.name)
            .field("exporter", &self.shared.exporter)
            .field("settings", &self.shared.settings)
            .field("account", &self.account())
            .field("bytes", &self.bytes())
            .field("bytes_max", &self.max_bytes())
            .finish()
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQueue")
            .field("batcher", &self.core.batcher)
            .field("readers", &self.core.readers)
            .finish()
    }
}

impl MemoryQueueBuilder {
    /// Begins each log line with `name`; by default lines name no destination.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many bytes of batches may be held: 64 MiB unless told. Nothing is allocated ahead.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// How many spans may be held: as many as fit into the bytes unless told.
    pub fn spans(mut self, spans: Option<NonZeroUsize>) -> Self {
        self.spans = spans;
        self
    }

    /// How many exports may be in flight: 4 unless told.
    pub fn concurrent_exports(mut self, exports: usize) -> Self {
        self.concurrent_exports = exports;
        self
    }

    /// How long each call of the exporter may take: 10 s unless told, no limit with `None`.
    pub fn attempt_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// How long a batch is tried after its first attempt: as long as there is room for it unless told.
    pub fn export_limit(mut self, limit: Option<Duration>) -> Self {
        self.export_limit = limit;
        self
    }

    /// The waits between attempts, and how many there may be: those of [`Retry::default`] unless told. Its limit of all
    /// attempts together does not count here, [`export_limit`](Self::export_limit) does.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Calls `hook` whenever spans are dropped, besides the log. It must not block.
    pub fn on_drop(mut self, hook: impl Fn(&DropEvent) + Send + Sync + 'static) -> Self {
        self.on_drop = Some(Arc::new(hook));
        self
    }

    /// Has a batch that takes many requests give way to others: when some wait, it stops between two requests after half a
    /// second, and what is left of it goes behind them. Then no batch that becomes very large in the format of the destination
    /// holds up the others. Default: off, because a combinator between the queue and the exporter would see a failure in what
    /// is left.
    pub fn take_turns(mut self) -> Self {
        self.takes_turns = true;
        self
    }

    /// Has a shutdown give up after 0.6 s when connections are refused and the destination has never answered.
    pub(crate) fn gives_up_early(mut self) -> Self {
        self.gives_up_early = true;
        self
    }

    /// Merges batches before they are sent. Default: not. Holds for all readers.
    pub fn batches(mut self, limits: BatchLimits) -> Self {
        self.batches = Some(limits);
        self
    }

    /// Adds a reader: the exporter of another builder, with its name, its bounds and everything else that was set there, except
    /// for [`batches`](Self::batches). Readers need different names.
    pub fn with_reader(mut self, reader: Self) -> Self {
        self.others.push(reader);
        self
    }

    /// Sets where the reader runs, and with it its exports; see [`Runtime`]. Default: the library's own thread.
    pub fn runtime(mut self, runtime: impl Into<Runtime>) -> Self {
        self.runtime = runtime.into();
        self
    }

    /// Starts the queue.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for a bound of 0, a runtime without timers and two readers of one name, and an
    /// error if the library's thread cannot be started.
    pub fn start(mut self) -> Result<MemoryQueue> {
        let limits = self.batches;
        if limits.is_some_and(|limits| limits.bytes == 0 || limits.spans == 0) {
            return Err(Error::config(
                "a limit of the queue's batches is 0: no span could ever be exported",
            ));
        }
        let runtime = self.runtime.clone();
        let mut builders = std::mem::take(&mut self.others);
        builders.insert(0, self);
        for (place, builder) in builders.iter().enumerate() {
            let name = builder.reader_name();
            let mut others = builders.iter().skip(place + 1);
            if others.any(|other| other.reader_name() == name) {
                return Err(Error::config(format!(
                    "two readers of the queue have the name {name}"
                )));
            }
        }
        let mut tasks = Vec::new();
        let mut readers = Vec::new();
        for builder in builders {
            let (reader, summaries) = builder.start_reader()?;
            readers.push(Arc::new(reader));
            tasks.push(summaries);
        }
        let behind = readers.clone();
        let batcher = Arc::new(Batcher::new(
            limits.map(|limits| limits.delay).unwrap_or_default(),
            move || Collected::new(limits),
            move |collected: Collected| collected.deliver(&behind),
        ));
        if limits.is_some() {
            let timer = Arc::clone(&batcher);
            tasks.push(runtime.spawn(async move { timer.run().await })?);
        }
        let shown = readers.iter().cloned();
        let shared = readers.iter().map(|reader| Arc::clone(&reader.shared));
        Ok(MemoryQueue {
            core: Arc::new(Core {
                batcher,
                shown: shown.map(|reader| reader as Arc<dyn Reader>).collect(),
                space: Arc::new(MemorySpace {
                    readers: shared.collect(),
                }),
                readers,
                turn: tokio::sync::Mutex::new(()),
                waiting: AtomicUsize::new(0),
            }),
            _tasks: tasks,
        })
    }

    fn reader_name(&self) -> &str {
        self.name.as_deref().unwrap_or(DEFAULT_NAME)
    }

    fn start_reader(self) -> Result<(MemoryReader, Task<()>)> {
        for (name, number) in [
            ("bytes", self.bytes),
            ("concurrent_exports", self.concurrent_exports),
        ] {
            if number == 0 {
                return Err(Error::config(format!(
                    "{name} of the queue is 0: no span could ever be exported"
                )));
            }
        }
        self.runtime.check()?;
        let handle = self.runtime.handle()?;
        let name = self.reader_name().to_owned();
        let budget = Arc::new(Budget::new(self.bytes, self.spans.map(NonZeroUsize::get)));
        let diagnostics = Arc::new(Diagnostics::new(self.on_drop).named(self.name));
        let settings = Settings {
            concurrent_exports: self.concurrent_exports,
            attempt_timeout: self.attempt_timeout,
            export_limit: self.export_limit,
            retry: self.retry,
            gives_up_early: self.gives_up_early,
            takes_turns: self.takes_turns,
        };
        let lines = Arc::clone(&diagnostics);
        let summaries = self.runtime.spawn(async move { lines.run().await })?;
        let queue = Queue::start(
            self.exporter,
            settings,
            Books::new(budget, Arc::clone(&diagnostics), None),
            diagnostics,
            &handle,
        );
        let reader = MemoryReader {
            name,
            shared: Arc::clone(&queue.shared),
            queue,
            runtime: self.runtime,
            told: Mutex::default(),
            ending: Ending::default(),
            late: Mutex::default(),
        };
        Ok((reader, summaries))
    }
}

impl fmt::Debug for MemoryQueueBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQueueBuilder")
            .field("exporter", &self.exporter)
            .field("name", &self.name)
            .field("bytes", &self.bytes)
            .field("spans", &self.spans)
            .field("concurrent_exports", &self.concurrent_exports)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("export_limit", &self.export_limit)
            .field("retry", &self.retry)
            .field("on_drop", &self.on_drop.is_some())
            .field("batches", &self.batches)
            .field("others", &self.others)
            .field("runtime", &self.runtime)
            .finish()
    }
}
