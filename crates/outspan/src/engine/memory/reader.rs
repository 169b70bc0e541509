//! One reader of a queue in memory: its bounds, its account and its schedule.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use futures_util::FutureExt;

use crate::Account;
use crate::Deadline;
use crate::Drained;
use crate::DropReason;
use crate::ErrorKind;
use crate::Result;
use crate::ending::Ending;
use crate::engine::Books;
use crate::engine::Flushed;
use crate::engine::Queue;
use crate::engine::Reader;
use crate::engine::ReaderStatus;
use crate::engine::driver::Shared;
use crate::engine::span_queue::BoxFuture;
use crate::guard::GRACE;
use crate::runtime::Runtime;

/// What serves one destination.
pub(super) struct MemoryReader {
    pub(super) name: String,
    pub(super) queue: Queue,
    pub(super) shared: Arc<Shared>,
    /// Where the exports and everything that waits are.
    pub(super) runtime: Runtime,
    /// The account at the end of the last flush.
    pub(super) told: Mutex<Account>,
    pub(super) ending: Ending,
    /// What became of spans that came after the shutdown.
    pub(super) late: Mutex<Drained>,
}

impl MemoryReader {
    pub(super) fn books(&self) -> &Arc<Books> {
        &self.shared.books
    }

    pub(super) fn account(&self) -> Account {
        self.books().account()
    }

    /// Whether it takes no more batches, because it was shut down or its runtime has ended.
    pub(super) fn has_ended(&self) -> bool {
        *self.shared.ended.borrow()
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.shared.diagnostics.trouble()
    }

    pub(super) fn turn_away(&self, spans: usize) {
        let reason = DropReason::QueueFull;
        self.books().turn_away(reason, spans as u64).report();
    }

    pub(super) async fn flush(self: &Arc<Self>, until: Deadline) -> Result<Drained> {
        // Read now: what a flush at the same time tells is told here as well.
        let since = *lock(&self.told);
        let flush = move |reader: Arc<Self>| async move { reader.queue.flush(until).await };
        let flushed = self.on_runtime(until, flush).await?;
        self.drained(&since, flushed)
    }

    pub(super) async fn shutdown(self: &Arc<Self>, until: Deadline) -> Result<Drained> {
        let work = || async {
            let since = *lock(&self.told);
            let shutdown =
                move |reader: Arc<Self>| async move { reader.queue.shutdown(until).await };
            let flushed = self.on_runtime(until, shutdown).await?;
            let drained = self.drained(&since, flushed);
            self.shared.diagnostics.finish();
            drained
        };
        let mut drained = self.ending.run(until, work).await?;
        let mut late = lock(&self.late);
        late.merge(&self.news(None, 0));
        drained.merge(&late);
        Ok(drained)
    }

    pub(super) async fn abort(self: &Arc<Self>) {
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
    fn drained(&self, since: &Account, flushed: Flushed) -> Result<Drained> {
        let mut drained = self.news(Some(since), flushed.left_inside);
        drained.left = flushed.left;
        for cause in self.queue.causes(&drained, &flushed) {
            drained.add_cause(cause);
        }
        match flushed.error {
            Some(error) if drained.is_complete() => Err(error),
            _ => Ok(drained),
        }
    }

    /// What became of spans since then, or since the last time that somebody was told. Those that are held inside are not
    /// delivered yet.
    fn news(&self, since: Option<&Account>, left_inside: u64) -> Drained {
        let mut told = lock(&self.told);
        // Read under the lock, so that what is told last is the latest.
        let mut now = self.account();
        now.delivered = now.delivered.saturating_sub(left_inside);
        let drained = now.since(since.unwrap_or(&told));
        *told = now;
        drained
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
