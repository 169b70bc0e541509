//! What a pipeline needs of its queue, whether that is in memory or on disk.
//!
//! ```text
//!   source ──try_reserve──▶ Permit ──push(batch, permit, ack)──▶ SpanQueue ──┬──▶ reader "a" ──▶ exporter
//!                                                                            └──▶ reader "b" ──▶ exporter
//! ```

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Ack;
use super::Entry;
use crate::Account;
use crate::Batch;
use crate::Deadline;
use crate::Drained;
use crate::DropReason;
use crate::Result;

/// A future of a call through `dyn SpanQueue` or `dyn Reader`.
pub(super) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Keeps batches until every one of its readers has delivered, rejected or dropped them.
///
/// A source reserves space first, which may fail at once, and pushes into it later. So requests that find no space can be
/// rejected before they are read. Each reader has a name and serves one destination; a reader never waits for another one.
///
/// Implementations: [`MemoryQueue`](super::MemoryQueue).
pub trait SpanQueue: fmt::Debug + Send + Sync + 'static {
    /// Reserves space for a batch, without waiting.
    ///
    /// A reader without space is left out as long as another one has it. The batch then counts as `queue_full` for that reader
    /// when it is pushed.
    ///
    /// # Errors
    ///
    /// Returns an error if no reader has space; nothing is counted then.
    fn try_reserve(&self, bytes: usize, spans: usize) -> Result<Permit, ReserveError>;

    /// Checks whether [`try_reserve`](Self::try_reserve) would fail now for a batch of `bytes` bytes. It may still fail later.
    ///
    /// # Errors
    ///
    /// Returns the error of `try_reserve`.
    fn check(&self, bytes: usize) -> Result<(), ReserveError>;

    /// Takes a batch over, into the space that was reserved for it. `ack` finishes when no reader holds any of its spans.
    ///
    /// Copies at most, never waits.
    ///
    /// # Errors
    ///
    /// Returns the permit if the queue was shut down since the reservation. The spans then count as dropped when the permit is
    /// dropped; a caller that keeps them calls [`Permit::release`]. `ack` is told of the drop.
    fn push(&self, batch: Batch, permit: Permit, ack: Ack) -> Result<(), Permit>;

    /// Hands batches that are still being collected to the readers now.
    fn hand_over(&self);

    /// Returns the readers, in the order of their configuration.
    fn readers(&self) -> &[Arc<dyn Reader>];

    /// Returns the reader with this name.
    fn reader(&self, name: &str) -> Option<&Arc<dyn Reader>> {
        self.readers().iter().find(|reader| reader.name() == name)
    }

    /// Describes how each reader is doing, in the order of [`readers`](Self::readers).
    fn status(&self) -> Vec<ReaderStatus> {
        self.readers()
            .iter()
            .map(|reader| reader.status())
            .collect()
    }

    /// Has every reader deliver what it holds now. Returns what each did since the last flush that ended before this one
    /// began, in the order of [`readers`](Self::readers).
    ///
    /// # Cancellation
    ///
    /// Dropping the future loses nothing.
    fn flush_readers(&self, deadline: Deadline) -> BoxFuture<'_, Vec<Result<Drained>>>;

    /// Takes no more batches, and has every reader deliver what it holds by the deadline, then end. Returns what each did since
    /// the last flush, in the order of [`readers`](Self::readers).
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the queue closed. Another call goes on.
    fn shutdown_readers(&self, deadline: Deadline) -> BoxFuture<'_, Vec<Result<Drained>>>;

    /// Stops at once. Spans that would not outlive the process are dropped and counted when this returns.
    fn abort(&self) -> BoxFuture<'_, ()>;
}

/// What of a [`SpanQueue`] serves one destination.
pub trait Reader: fmt::Debug + Send + Sync {
    /// Returns its name.
    fn name(&self) -> &str;

    /// Describes how it is doing.
    fn status(&self) -> ReaderStatus;

    /// Returns how many bytes it holds.
    fn bytes(&self) -> usize;

    /// Returns how many bytes it may hold.
    fn max_bytes(&self) -> usize;

    /// Whether its destination does not take spans at this moment.
    fn is_down(&self) -> bool;

    /// Returns how long the batch has been waiting that goes next of those that have not failed; `None` if there is none.
    /// A new batch waits about as long, if its destination takes spans.
    fn oldest_wait(&self) -> Option<Duration>;

    /// Waits until it holds at most `bytes`, or ends.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing.
    fn wait_until_at_most(&self, bytes: usize) -> BoxFuture<'_, ()>;
}

/// How a reader is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReaderStatus {
    /// The name of the reader.
    pub name: String,
    /// Where every span is that was pushed.
    pub account: Account,
    /// How many bytes are held.
    pub bytes: usize,
    /// How many bytes may be held.
    pub max_bytes: usize,
    /// How many batches are held, in flight or not. Batches that are still being collected are not among them.
    pub batches: usize,
    /// How many exports are in flight.
    pub exports: usize,
    /// What keeps the destination from taking spans at this moment; `None` while it takes them.
    pub trouble: Option<String>,
    /// How long it is until the next attempt, while the destination is down and no attempt is in flight.
    pub next_attempt_in: Option<Duration>,
}

/// Why no space could be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReserveError {
    /// No reader has space now.
    Full,
    /// No reader will ever have space for so much at once.
    TooLarge {
        /// The largest number of bytes that a reader may hold.
        max_bytes: usize,
    },
    /// The queue takes no more batches.
    ShutDown,
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the queue is full"),
            Self::TooLarge { max_bytes } => write!(
                f,
                "the batch does not fit into a queue of {max_bytes} bytes"
            ),
            Self::ShutDown => f.write_str("the queue is shut down"),
        }
    }
}

impl std::error::Error for ReserveError {}

/// What a permit is of.
pub(crate) trait Space: Send + Sync {
    /// Space was given back.
    fn freed(&self);
}

/// Space in a queue for spans that are about to be pushed.
///
/// The spans count as received and queued. Dropping the permit without a push gives the space back and counts the spans as
/// dropped, so that none is lost silently; [`release`](Self::release) is for a caller that keeps them.
#[must_use = "dropping a permit counts its spans as dropped"]
pub struct Permit {
    space: Arc<dyn Space>,
    /// One for each reader of the queue; `None` for those that have no space.
    entries: Vec<Option<Entry>>,
}

impl Permit {
    pub(crate) fn new(space: Arc<dyn Space>, entries: Vec<Option<Entry>>) -> Self {
        Self { space, entries }
    }

    /// Returns for how many bytes it is.
    pub fn bytes(&self) -> usize {
        self.first().map_or(0, Entry::bytes)
    }

    /// Returns for how many spans it is.
    pub fn spans(&self) -> usize {
        self.first().map_or(0, Entry::spans)
    }

    /// They all have as much.
    fn first(&self) -> Option<&Entry> {
        self.entries.iter().flatten().next()
    }

    /// Whether each reader has space, in their order.
    pub(crate) fn readers(&self) -> impl Iterator<Item = bool> + Clone + '_ {
        self.entries.iter().map(Option::is_some)
    }

    /// Whether it is of this queue.
    pub(crate) fn is_of<S: Space>(&self, space: &Arc<S>) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.space), Arc::as_ptr(space))
    }

    /// Adds another permit of the same queue, for the same readers.
    ///
    /// # Errors
    ///
    /// Returns `other` if it is of another queue or for other readers.
    pub fn merge(&mut self, mut other: Self) -> std::result::Result<(), Self> {
        if !std::ptr::addr_eq(Arc::as_ptr(&self.space), Arc::as_ptr(&other.space))
            || !self.readers().eq(other.readers())
        {
            return Err(other);
        }
        for (ours, theirs) in self
            .entries
            .iter_mut()
            .zip(std::mem::take(&mut other.entries))
        {
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                // Both are in the books of the same reader, because the queue is the same.
                let merged = ours.merge(theirs);
                debug_assert!(merged.is_ok(), "an entry of other books");
            }
        }
        Ok(())
    }

    /// Gives the space in one reader back, by its place in the order of the readers. The spans count as `queue_full` for that
    /// reader when they are pushed, as if it had had no space.
    ///
    /// Returns whether another reader has space. The permit of no reader is only good for [`release`](Self::release).
    pub fn leave_out(&mut self, reader: usize) -> bool {
        if let Some(entry) = self.entries.get_mut(reader).and_then(Option::take) {
            entry.cancel();
            self.space.freed();
        }
        self.entries.iter().any(Option::is_some)
    }

    /// Gives the space back as if it had not been reserved. The spans are the caller's.
    pub fn release(mut self) {
        for entry in self.take_entries().into_iter().flatten() {
            entry.cancel();
        }
        self.space.freed();
    }

    /// Takes what is reserved, for each reader. The caller has it from now on.
    pub(crate) fn take_entries(&mut self) -> Vec<Option<Entry>> {
        std::mem::take(&mut self.entries)
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> &[Option<Entry>] {
        &self.entries
    }

    /// What is reserved, for each reader.
    pub(crate) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().flatten()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let entries = self.take_entries();
        if entries.is_empty() {
            return;
        }
        for entry in entries.into_iter().flatten() {
            entry.drop_spans(DropReason::Shutdown, None);
        }
        self.space.freed();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("bytes", &self.bytes())
            .field("spans", &self.spans())
            .finish_non_exhaustive()
    }
}
