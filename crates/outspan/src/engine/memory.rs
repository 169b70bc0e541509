//! The queue as programs use it that have batches of their own, such as an agent.

use std::any::Any;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use super::Ack;
use super::Books;
use super::Budget;
use super::Entry;
use super::Flushed;
use super::Queue;
use super::Settings;
use super::driver::Shared;
use super::tracked::Tracked;
use crate::Account;
use crate::Batch;
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
use crate::runtime::Task;

/// How many bytes a queue holds unless told: what the batch processor holds, too.
const BYTES: usize = 64 << 20;

/// How many exports are in flight unless told: enough to hide a round trip, few enough for any backend.
const CONCURRENT_EXPORTS: usize = 4;

/// How long one call of the exporter may take unless told: OTLP's own default.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// Holds batches in memory in front of one exporter until they are delivered.
///
/// Whoever has spans takes [`Room`] first, which may fail at once, and pushes batches into it later; so what a queue has
/// no room for can be turned away before it is read. Several exports are in flight at the same time. A batch that failed
/// temporarily stays and is tried again, only what was not delivered of it; a batch that the destination finds too large is
/// split. While the destination is down, one export at a time finds out whether it is back. A batch that fails while others are
/// delivered waits by itself.
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
/// use outspan::engine::MemoryQueue;
///
/// # fn queue(batch: outspan::Batch) -> outspan::Result<()> {
/// let exporter = otlp::grpc("http://localhost:4317").build()?;
/// let queue = MemoryQueue::builder(exporter).bytes(16 << 20).start()?;
/// match queue.reserve(batch.size(), batch.spans()) {
///     Some(room) => queue.push(vec![batch], room),
///     None => eprintln!("full: try again later"),
/// }
/// # Ok(())
/// # }
/// # queue(outspan::Batch::empty()).unwrap();
/// # }
/// ```
pub struct MemoryQueue {
    core: Arc<Core>,
    /// Where the exports and everything that waits are.
    runtime: Runtime,
    _summaries: Task<()>,
}

struct Core {
    queue: Queue,
    shared: Arc<Shared>,
    /// What the last flush told of.
    told: Mutex<Account>,
    ending: Ending,
    /// What became of spans that came after the shutdown.
    late: Mutex<Drained>,
}

/// Room in a queue for spans that are on their way into it.
///
/// The spans count as received and queued. Dropping the room without a push gives the bytes back and counts the spans
/// as dropped, so that none is lost silently.
#[must_use = "dropping room counts its spans as dropped"]
pub struct Room {
    shared: Arc<Shared>,
    /// Nothing after the room was used.
    entry: Option<Entry>,
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
            runtime: Runtime::shared(),
        }
    }

    /// Takes room for a batch, or says that there is none: then nothing is counted.
    pub fn reserve(&self, bytes: usize, spans: usize) -> Option<Room> {
        let shared = &self.core.shared;
        let entry = shared.books.try_reserve(bytes, spans)?;
        Some(Room {
            shared: Arc::clone(shared),
            entry: Some(entry),
        })
    }

    /// Takes room for a batch, waiting for it by `until`; none if the time is up, or if it could never fit.
    ///
    /// # Cancellation
    ///
    /// Dropping the future takes nothing.
    pub async fn reserve_by(&self, bytes: usize, spans: usize, until: Deadline) -> Option<Room> {
        if !self.core.shared.books.budget().could_hold(bytes, spans) {
            return None;
        }
        let mut progress = self.core.shared.progress.subscribe();
        let room = async {
            loop {
                progress.mark_unchanged();
                if let Some(room) = self.reserve(bytes, spans) {
                    return Some(room);
                }
                if progress.changed().await.is_err() {
                    return None;
                }
            }
        };
        until.run(room).await.flatten()
    }

    /// Takes room for a batch, dropping those that wait longest to make it; they count as `queue_full`. None if it could
    /// never fit, or if everything that is held is in flight.
    pub fn reserve_by_dropping(&self, bytes: usize, spans: usize) -> Option<Room> {
        if !self.core.shared.books.budget().could_hold(bytes, spans) {
            return None;
        }
        loop {
            if let Some(room) = self.reserve(bytes, spans) {
                return Some(room);
            }
            if !self.core.shared.evict() {
                return None;
            }
        }
    }

    /// Waits until at most `bytes` are held, or the queue ends.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing.
    pub async fn wait_until_at_most(&self, bytes: usize) {
        let mut progress = self.core.shared.progress.subscribe();
        loop {
            progress.mark_unchanged();
            if self.bytes() <= bytes || progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether there is room for `bytes` at this moment; [`reserve`](Self::reserve) may still fail.
    pub fn has_room(&self, bytes: usize) -> bool {
        let budget = self.core.shared.books.budget();
        budget.bytes().saturating_add(bytes) <= budget.bytes_max()
    }

    /// Counts spans as received and dropped because there was no room for them, and tells of it.
    pub fn turn_away(&self, spans: usize) {
        let books = &self.core.shared.books;
        let reason = DropReason::QueueFull;
        books.turn_away(reason, spans as u64).report();
    }

    /// Puts batches into the room that was taken for their spans.
    ///
    /// From now on they are charged with what they hold. After a [`shutdown`](Self::shutdown) they are dropped and counted.
    pub fn push(&self, batches: Vec<Batch>, room: Room) {
        self.push_all(batches, room, &Ack::none());
    }

    /// Puts batches into the room that was taken for their spans, as [`push`](Self::push) does, and drops `witness` when none
    /// of these spans is held any more: each was delivered, refused or dropped, and counted as such.
    ///
    /// So whoever has the spans kept elsewhere until they have arrived learns when to let go of them. Spans that a
    /// [`shutdown`](Self::shutdown) loses end the witness as well.
    pub fn push_witnessed(
        &self,
        batches: Vec<Batch>,
        room: Room,
        witness: Arc<dyn Any + Send + Sync>,
    ) {
        self.push_all(batches, room, &Ack::new(move |_| drop(witness)));
    }

    fn push_all(&self, batches: Vec<Batch>, room: Room, ack: &Ack) {
        for tracked in room.into_tracked(&self.core.shared, batches, ack) {
            self.core.queue.push(tracked);
        }
    }

    /// Says where every span is that was handed over.
    pub fn account(&self) -> Account {
        self.core.shared.books.account()
    }

    /// How many bytes are held. The forms that exporters make of batches are included, such as compressed ones, except for
    /// those that a full queue has no room for: these take at most 32 MiB, in all queues of the process together.
    pub fn bytes(&self) -> usize {
        self.core.shared.books.budget().bytes()
    }

    /// How many bytes may be held.
    pub fn bytes_max(&self) -> usize {
        self.core.shared.books.budget().bytes_max()
    }

    /// How many exports are in flight.
    pub fn exports(&self) -> usize {
        self.core.shared.lock().exports()
    }

    /// How many batches are held, in flight or not.
    pub fn batches(&self) -> usize {
        self.core.shared.lock().batches()
    }

    /// What keeps the destination from taking spans at this moment; nothing while it takes them.
    pub fn trouble(&self) -> Option<String> {
        self.core.shared.diagnostics.trouble()
    }

    /// How long it is until the next attempt, while the destination is down: what it asked for, or the queue's own wait.
    /// Nothing while it takes spans, and while an attempt is under way.
    pub fn next_attempt_in(&self) -> Option<Duration> {
        self.core.queue.next_attempt_in()
    }

    /// Delivers what is held now, then has the exporter flush. Waits that the destination asked for are kept: when one
    /// lasts longer than `until`, the spans stay and that wait is the [cause](Drained::causes). Says what became of every span since the last flush, because
    /// whoever pushed was told nothing.
    ///
    /// # Errors
    ///
    /// If the exporter could not be flushed. Spans that are still held are [`Drained::left`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends the hurry; the batches stay.
    pub async fn flush(&self, until: Deadline) -> Result<Drained> {
        let flush = move |core: Arc<Core>| async move { core.queue.flush(until).await };
        let flushed = self.on_runtime(until, flush).await?;
        self.drained(flushed)
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
        let work = || async {
            let shutdown = move |core: Arc<Core>| async move { core.queue.shutdown(until).await };
            let flushed = self.on_runtime(until, shutdown).await?;
            let drained = self.drained(flushed);
            self.core.shared.diagnostics.finish();
            drained
        };
        let mut drained = self.core.ending.run(until, work).await?;
        let mut late = lock(&self.core.late);
        late.merge(&self.news(0));
        drained.merge(&late);
        Ok(drained)
    }

    /// Stops at once. What is held is counted as lost when this returns.
    pub async fn abort(&self) {
        let abort = move |core: Arc<Core>| async move { core.queue.abort().await };
        // The driver ends on its runtime. If nothing drives that, the queue counts what it held when that is dropped.
        drop(self.on_runtime(Deadline::after(GRACE), abort).await);
        self.core.shared.diagnostics.finish();
    }

    /// Runs `work` on the queue's runtime: at once if the caller is there, so that a queue inside another one is done before
    /// its time is up.
    ///
    /// If the runtime has ended, its end has counted what the queue held, and the caller can do the rest.
    async fn on_runtime<R, W>(&self, deadline: Deadline, work: impl Fn(Arc<Core>) -> W) -> Result<R>
    where
        R: Send + 'static,
        W: Future<Output = R> + Send + 'static,
    {
        let ran = self.runtime.run(deadline, work(Arc::clone(&self.core)));
        match ran.await {
            Err(error) if error.kind() == ErrorKind::ShutDown => {
                Ok(work(Arc::clone(&self.core)).await)
            }
            ran => ran,
        }
    }

    /// What a flush or the shutdown tells.
    fn drained(&self, flushed: Flushed) -> Result<Drained> {
        let mut drained = self.news(flushed.left_inside);
        drained.left = flushed.left;
        for cause in self.core.queue.causes(&drained, &flushed) {
            drained.add_cause(cause);
        }
        match flushed.error {
            Some(error) if drained.is_complete() => Err(error),
            _ => Ok(drained),
        }
    }

    /// What became of spans since the last time that somebody was told. Those that are held inside are not delivered yet.
    fn news(&self, left_inside: u64) -> Drained {
        let mut told = lock(&self.core.told);
        let mut now = self.account();
        now.delivered = now.delivered.saturating_sub(left_inside);
        let drained = now.since(&told);
        *told = now;
        drained
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQueue")
            .field("exporter", &self.core.shared.exporter)
            .field("settings", &self.core.shared.settings)
            .field("account", &self.account())
            .field("bytes", &self.bytes())
            .field("bytes_max", &self.bytes_max())
            .finish()
    }
}

impl Room {
    /// How many bytes it is for.
    pub fn bytes(&self) -> usize {
        self.entry.as_ref().map_or(0, Entry::bytes)
    }

    /// How many spans it is for.
    pub fn spans(&self) -> usize {
        self.entry.as_ref().map_or(0, Entry::spans)
    }

    /// Adds other room of the same queue.
    ///
    /// # Errors
    ///
    /// Gives `other` back if it is of another queue.
    pub fn merge(&mut self, mut other: Self) -> Result<(), Self> {
        if !Arc::ptr_eq(&self.shared, &other.shared) {
            return Err(other);
        }
        let Some(added) = other.entry.take() else {
            return Ok(());
        };
        match &mut self.entry {
            Some(ours) => {
                if let Err(added) = ours.merge(added) {
                    other.entry = Some(added);
                    return Err(other);
                }
            }
            None => self.entry = Some(added),
        }
        Ok(())
    }

    /// Gives the room back as if it had not been taken: its spans are somebody else's again.
    pub fn give_back(mut self) {
        if let Some(entry) = self.entry.take() {
            entry.cancel();
        }
    }

    /// Turns the room into batches. What `queue` has no room of is added to it.
    fn into_tracked(mut self, queue: &Arc<Shared>, batches: Vec<Batch>, ack: &Ack) -> Vec<Tracked> {
        let is_ours = Arc::ptr_eq(&self.shared, queue);
        let entry = self.entry.take_if(|_| is_ours);
        let mut entry = entry.unwrap_or_else(|| queue.books.enter(0, 0));
        entry.add_acks(ack.branch(entry.spans() as u64));
        entry.into_tracked(batches)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            entry.drop_spans(DropReason::Shutdown, None);
        }
        self.shared.progress.send_replace(());
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("bytes", &self.bytes())
            .field("spans", &self.spans())
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

    /// How long a batch is tried after its first attempt: as long as there is room for it unless told. Then it is dropped as
    /// [`Expired`](DropReason::Expired), also while it waits.
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

    /// Sets where the queue runs, and with it the exports; see [`Runtime`]. Default: the library's own thread.
    pub fn runtime(mut self, runtime: impl Into<Runtime>) -> Self {
        self.runtime = runtime.into();
        self
    }

    /// The runtime that was set.
    pub(crate) fn chosen_runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Starts the queue.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for a bound of 0 or a runtime without timers, and an error if the library's
    /// thread cannot be started.
    pub fn start(self) -> Result<MemoryQueue> {
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
        let shared = Arc::clone(&queue.shared);
        Ok(MemoryQueue {
            core: Arc::new(Core {
                queue,
                shared,
                told: Mutex::default(),
                ending: Ending::default(),
                late: Mutex::default(),
            }),
            runtime: self.runtime,
            _summaries: summaries,
        })
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
            .field("runtime", &self.runtime)
            .finish()
    }
}
