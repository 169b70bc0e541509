//! Ended spans on their way from the program's threads to the worker.
//!
//! Each thread adds to a shard, so that threads seldom wait for one another. A shard that has collected a chunk (as
//! many spans as a batch, as a rule) hands it over to the backlog, where the worker takes it. The worker is woken for a
//! chunk, not for a span. When spans end faster than the worker encodes, so that raw spans take more than their share of
//! memory, the thread that completed a chunk encodes it itself: the bytes are a third of the raw spans, and nothing is
//! lost for want of a faster worker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_sdk::trace::SpanData;
use tokio::sync::watch;

// `super` decides: the types of std here, those of shuttle in the models.
use super::sync::AtomicBool;
use super::sync::AtomicU64;
use super::sync::AtomicUsize;
use super::sync::Mutex;
use super::sync::MutexGuard;
use super::thread_number;
use crate::Account;
use crate::DropReason;
use crate::Losses;
use crate::engine::Books;
use crate::engine::Entry;
use crate::engine::Unreported;
use crate::sdk::span_data;

/// Shards for each processor of the machine: threads that were stopped while they held a lock must not stop others.
const SHARDS_PER_PROCESSOR: usize = 4;
const SHARDS_MAX: usize = 64;

/// A chunk needs no more spans than this, however large batches are.
const CHUNK_SPANS_MAX: usize = 512;

/// The spans of all shards' unfinished chunks together: many shards get smaller chunks.
const SHARDED_SPANS_MAX: usize = 8192;

/// A shard says after so many spans that they wait, so that all threads seldom write to one place.
const NOTE_EVERY: usize = 64;

/// How many bytes a shard takes from the budget at once. Taking them span by span would have all threads write to
/// one place.
const GRANT_MAX: usize = 256 * 1024;

/// The part of the bound that spans may take before they are encoded.
const RAW_SHARE: usize = 4;

/// Ended spans that belong together because they came after one another.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) spans: Vec<SpanData>,
    /// What the books hold for them.
    pub(super) entry: Entry,
}

/// What the thread that ended a span has to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing, as a rule.
    Nothing,
    /// Wake the worker.
    Wake,
    /// Encode this chunk itself.
    Help(Help),
}

/// A chunk that the ending thread encodes.
#[derive(Debug)]
pub(super) struct Help {
    pub(super) chunk: Chunk,
    number: u64,
}

#[derive(Debug)]
pub(super) struct Buffer {
    shards: Box<[Padded]>,
    backlog: Mutex<Backlog>,
    helped: watch::Sender<()>,
    books: Arc<Books>,
    /// Whether the number of spans is bounded, too.
    is_span_bounded: bool,
    chunk_spans: usize,
    chunk_bytes: usize,
    batch_spans: usize,
    noted: Noted,
    grant: usize,
    raw_bytes_max: usize,
    wait_when_full: Option<Duration>,
}

/// A shard on cache lines of its own.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Padded {
    shard: Mutex<Shard>,
    /// Spans that were started by the threads of this shard. Beside the lock, whose line these threads have anyway.
    started: AtomicU64,
}

/// What all shards write to, on cache lines of its own.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Noted {
    /// About how many spans wait in shards.
    spans: AtomicUsize,
    is_gathering_wanted: AtomicBool,
}

#[derive(Debug, Default)]
struct Shard {
    /// The unfinished chunk. Its spans are in no entry of the books yet, so that a span costs no step of the ledger.
    spans: Vec<SpanData>,
    /// Bytes charged for these spans.
    bytes: usize,
    /// Bytes taken from the budget and not used yet.
    grant: usize,
    /// Spans that were turned away, until the worker takes the count.
    lost: Losses,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Backlog {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// Empty lists that have grown already.
    spare: Vec<Vec<SpanData>>,
    /// Chunks that ending threads encode just now.
    helps: Vec<u64>,
    helps_begun: u64,
}

impl Buffer {
    pub(super) fn new(
        books: Arc<Books>,
        batch_spans: usize,
        batch_bytes: usize,
        wait_when_full: Option<Duration>,
    ) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = (processors * SHARDS_PER_PROCESSOR)
            .next_power_of_two()
            .min(SHARDS_MAX);
        let mut chunk_spans = batch_spans
            .min(CHUNK_SPANS_MAX)
            .min(SHARDED_SPANS_MAX / shards);
        let spans_max = books.budget().spans_max();
        if let Some(spans_max) = spans_max {
            // The worker must hear of them before the bound is reached.
            chunk_spans = chunk_spans.min(spans_max / 2 / shards);
        }
        let bytes_max = books.budget().bytes_max();
        Self {
            shards: (0..shards).map(|_| Padded::default()).collect(),
            backlog: Mutex::default(),
            helped: watch::Sender::new(()),
            books,
            is_span_bounded: spans_max.is_some(),
            chunk_spans: chunk_spans.max(1),
            chunk_bytes: batch_bytes.min(bytes_max / 4 / shards).max(1),
            batch_spans,
            noted: Noted::default(),
            grant: GRANT_MAX.min(bytes_max / 32 / shards),
            raw_bytes_max: bytes_max / RAW_SHARE,
            wait_when_full,
        }
    }

    /// Counts a span that was started and will be added when it ends.
    #[inline]
    pub(super) fn start(&self) {
        // Only a sum, read at the end: it orders nothing.
        self.padded().started.fetch_add(1, Ordering::Relaxed);
    }

    /// How many spans were started and have not been added.
    pub(super) fn unended(&self) -> u64 {
        // Read first: a span that starts and ends meanwhile must not look as if it had not ended.
        let shards = self.shards.iter();
        let started: u64 = shards
            .map(|padded| padded.started.load(Ordering::Relaxed))
            .sum();
        started.saturating_sub(self.account().received)
    }

    /// Adds a span, or counts it as lost.
    #[inline]
    pub(super) fn add(&self, span: SpanData) -> Next {
        let mut guard = self.shard();
        let shard = &mut *guard;
        if shard.is_closed {
            return shard.lose(DropReason::Shutdown);
        }
        // First the move, then the estimate: the processor estimates while the moved bytes are still on their way to
        // memory, which the end of the lock waits for.
        shard.spans.push(span);
        let bytes = shard.spans.last().map_or(0, span_data::memory);
        if !self.has_room(shard, bytes) {
            return self.add_when_full(guard, bytes);
        }
        shard.bytes += bytes;
        let count = shard.spans.len();
        if count >= self.chunk_spans || shard.bytes >= self.chunk_bytes {
            return self.hand_over(guard);
        }
        if count.is_multiple_of(NOTE_EVERY) {
            return self.note_waiting();
        }
        Next::Nothing
    }

    /// Takes back the span that was added last, and waits for room if that was chosen.
    #[cold]
    fn add_when_full(&self, mut guard: MutexGuard<'_, Shard>, bytes: usize) -> Next {
        let span = guard.spans.pop();
        let Some(time) = self.wait_when_full else {
            return guard.lose(DropReason::QueueFull);
        };
        drop(guard);
        let is_taken = self.books.charge_within(bytes, 1, time);
        let mut guard = self.shard();
        if !is_taken {
            return guard.lose(DropReason::QueueFull);
        }
        if guard.is_closed {
            self.books.uncharge(bytes, 1);
            return guard.lose(DropReason::Shutdown);
        }
        guard.spans.extend(span);
        guard.bytes += bytes;
        match guard.spans.len() >= self.chunk_spans {
            true => self.hand_over(guard),
            false => Next::Nothing,
        }
    }

    /// Counts spans that wait in all shards; the worker gathers them when they are enough for a batch.
    fn note_waiting(&self) -> Next {
        let noted = &self.noted;
        let before = noted.spans.fetch_add(NOTE_EVERY, Ordering::Relaxed);
        if before + NOTE_EVERY < self.batch_spans {
            return Next::Nothing;
        }
        noted.spans.store(0, Ordering::Relaxed);
        noted.is_gathering_wanted.store(true, Ordering::Release);
        Next::Wake
    }

    /// Whether the shards together have enough for a batch; true once.
    pub(super) fn take_gathering_wanted(&self) -> bool {
        self.noted.is_gathering_wanted.swap(false, Ordering::AcqRel)
    }

    /// Counts a span that has no valid ids, with which no destination would take it.
    #[cold]
    pub(super) fn turn_away(&self) -> Next {
        self.shard().lose(DropReason::Encode)
    }

    #[inline]
    fn has_room(&self, shard: &mut Shard, bytes: usize) -> bool {
        if self.is_span_bounded {
            return self.books.try_charge(bytes, 1);
        }
        if let Some(left) = shard.grant.checked_sub(bytes) {
            shard.grant = left;
            return true;
        }
        if self.books.try_charge(self.grant.saturating_add(bytes), 1) {
            shard.grant += self.grant;
            return true;
        }
        self.books.try_charge(bytes, 1)
    }

    #[cold]
    fn hand_over(&self, mut shard: MutexGuard<'_, Shard>) -> Next {
        let mut backlog = self.backlog();
        let spare = backlog.spare.pop();
        let spare = spare.unwrap_or_else(|| Vec::with_capacity(shard.spans.len()));
        let chunk = self.take_chunk(&mut shard, spare);
        if backlog.bytes + chunk.entry.bytes() <= self.raw_bytes_max {
            backlog.push(chunk);
            return Next::Wake;
        }
        backlog.helps_begun += 1;
        let number = backlog.helps_begun;
        backlog.helps.push(number);
        Next::Help(Help { chunk, number })
    }

    /// Takes the shard's spans; from here on they are in the books.
    fn take_chunk(&self, shard: &mut Shard, spare: Vec<SpanData>) -> Chunk {
        let spans = std::mem::replace(&mut shard.spans, spare);
        let bytes = std::mem::take(&mut shard.bytes);
        Chunk {
            entry: self.books.enter(bytes, spans.len()),
            spans,
        }
    }

    /// Ends a help, after its batches are in the queue.
    pub(super) fn end_help(&self, number: u64, emptied: Vec<SpanData>) {
        let mut backlog = self.backlog();
        backlog.helps.retain(|other| *other != number);
        drop(backlog);
        self.keep_spare(emptied);
        self.helped.send_replace(());
    }

    /// Says which helps have begun until now.
    pub(super) fn helps_begun(&self) -> u64 {
        self.backlog().helps_begun
    }

    /// Waits until the helps up to `mark` have ended.
    pub(super) async fn helped(&self, mark: u64) {
        let mut helped = self.helped.subscribe();
        while self.backlog().helps.iter().any(|number| *number <= mark) {
            if helped.changed().await.is_err() {
                return;
            }
        }
    }

    /// Moves all spans to the backlog, complete chunk or not, and returns what shards have taken ahead.
    pub(super) fn gather(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let grant = std::mem::take(&mut shard.grant);
            self.books.uncharge(grant, 0);
            if shard.spans.is_empty() {
                continue;
            }
            let mut backlog = self.backlog();
            let spare = backlog.spare.pop().unwrap_or_default();
            let chunk = self.take_chunk(&mut shard, spare);
            backlog.push(chunk);
        }
    }

    /// Takes no more spans. What ended before is in the backlog then, or being helped with.
    pub(super) fn close(&self) {
        for shard in &self.shards {
            shard.lock().is_closed = true;
        }
        self.gather();
    }

    /// How many chunks wait for the worker.
    pub(super) fn chunks(&self) -> usize {
        self.backlog().chunks.len()
    }

    pub(super) fn pop(&self) -> Option<Chunk> {
        let mut backlog = self.backlog();
        let chunk = backlog.chunks.pop_front()?;
        backlog.bytes -= chunk.entry.bytes();
        Some(chunk)
    }

    /// Keeps an emptied list for the next chunk, as long as there are not too many.
    pub(super) fn keep_spare(&self, emptied: Vec<SpanData>) {
        let is_usual = emptied.capacity() <= self.chunk_spans.saturating_mul(2);
        let mut backlog = self.backlog();
        if is_usual && backlog.spare.len() < self.shards.len() {
            backlog.spare.push(emptied);
        }
    }

    /// Moves the counts of dropped spans into the books, and returns what is to be reported.
    pub(super) fn take_losses(&self) -> Vec<Unreported> {
        let mut dropped = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            // Counted under the lock of the shard, so that each span is in the shard or in the books. Reported after it: the
            // log may end spans.
            for (reason, spans) in std::mem::take(&mut shard.lost).iter() {
                dropped.push(self.books.turn_away(reason, spans));
            }
        }
        dropped
    }

    /// Reads the account of spans here and beyond.
    pub(super) fn account(&self) -> Account {
        // All locks at once, because spans move from shards to the ledger.
        let shards: Vec<_> = self.shards.iter().map(Padded::lock).collect();
        let mut account = self.books.account();
        for shard in &shards {
            let waiting = shard.spans.len() as u64;
            account.received += waiting + shard.lost.total();
            account.queued += waiting;
            account.dropped.merge(&shard.lost);
        }
        account
    }

    #[inline]
    fn shard(&self) -> MutexGuard<'_, Shard> {
        self.padded().lock()
    }

    #[inline]
    fn padded(&self) -> &Padded {
        // There is a power of two of them.
        let place = thread_number() & (self.shards.len() - 1);
        &self.shards[place]
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Help {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Padded {
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Shard> {
        self.shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Counts a span as lost. The worker is woken for the first one; it takes the count.
    #[cold]
    fn lose(&mut self, reason: DropReason) -> Next {
        let is_first = self.lost.total() == 0;
        self.lost.add(reason, 1);
        match is_first {
            true => Next::Wake,
            false => Next::Nothing,
        }
    }
}

impl Backlog {
    fn push(&mut self, chunk: Chunk) {
        self.bytes += chunk.entry.bytes();
        self.chunks.push_back(chunk);
    }
}
