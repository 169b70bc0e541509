//! One reader of a queue in memory: its bounds, its account and its schedule.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

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
    pub(super) told: Mutex<Told>,
    pub(super) ending: Ending,
    /// What became of spans that came after the shutdown.
    pub(super) late: Mutex<Drained>,
}

/// What flushes have reported.
#[derive(Debug, Default)]
pub(super) struct Told {
    account: Account,
    /// When `account` was read, as a number of `readings`.
    reading: u64,
    readings: u64,
}

/// The account as a flush read it. It counts as reported when the flush returns.
#[derive(Debug)]
pub(super) struct Reading {
    account: Account,
    number: u64,
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

    /// Flushes. The caller passes the reading to [`set_told`](Self::set_told) when it returns the result.
    pub(super) async fn flush(
        self: &Arc<Self>,
        until: Deadline,
    ) -> (Result<Drained>, Option<Reading>) {
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

    pub(super) async fn shutdown(self: &Arc<Self>, until: Deadline) -> Result<Drained> {
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
    pub(super) fn set_told(&self, reading: Option<Reading>) {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
