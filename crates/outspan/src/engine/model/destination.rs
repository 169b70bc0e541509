//! A destination that follows a script, and notes what it took and what it answered.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

use super::plan;
use super::plan::Act;
use super::plan::Failure;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Error;
use crate::Export;
use crate::Exporter;
use crate::Result;

/// What the destination said of a span for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    Delivered,
    Rejected,
    Filtered,
}

/// What a destination knows.
#[derive(Debug)]
pub(super) struct Notes {
    acts: VecDeque<Act>,
    then: Act,
    drain: plan::Drain,
    pub(super) answered: BTreeMap<u64, Answered>,
    /// Spans that the queue may drop as failed: the exporter failed for good, or said nothing of them.
    failed: BTreeSet<u64>,
    /// The batches that the queue is exporting, and the parts of them that are being sent.
    batches: BTreeMap<u64, Call>,
    parts: BTreeMap<u64, Call>,
    calls: u64,
    /// What must not happen and did.
    pub(super) faults: Vec<String>,
}

#[derive(Debug)]
struct Call {
    ids: Vec<u64>,
    bytes: usize,
    is_part: bool,
}

pub(super) type Shared = Arc<Mutex<Notes>>;

/// Stands between the queue and the part that splits batches, and sees each batch whole.
#[derive(Debug)]
struct Whole {
    notes: Shared,
    inside: Exporter,
}

/// Answers as the script says.
#[derive(Debug)]
struct Scripted(Shared);

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

pub(super) fn ids(batch: &Batch) -> Vec<u64> {
    let ids = batch.iter().map(|span| u64::from_be_bytes(span.span_id()));
    ids.collect()
}

/// Makes a destination, and the exporter that delivers to it.
pub(super) fn destination(setup: &plan::Setup) -> (Exporter, Shared) {
    let notes = Arc::new(Mutex::new(Notes {
        acts: setup.acts.iter().cloned().collect(),
        then: setup.then.clone(),
        drain: setup.drain,
        answered: BTreeMap::new(),
        failed: BTreeSet::new(),
        batches: BTreeMap::new(),
        parts: BTreeMap::new(),
        calls: 0,
        faults: Vec::new(),
    }));
    let whole = Whole {
        notes: Arc::clone(&notes),
        inside: Exporter::new(Scripted(Arc::clone(&notes))),
    };
    (Exporter::new(whole), notes)
}

impl Notes {
    /// From now on everything is delivered.
    pub(super) fn recover(&mut self) {
        self.acts.clear();
        self.then = Act::Deliver;
        self.drain = plan::Drain::AtOnce;
    }

    /// The spans that are being exported.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = u64> + '_ {
        self.batches
            .values()
            .flat_map(|call| call.ids.iter().copied())
    }

    /// How many batches are being exported.
    pub(super) fn batches(&self) -> usize {
        self.batches.len()
    }

    /// The bytes of the batches that are being exported.
    pub(super) fn batch_bytes(&self) -> usize {
        self.batches.values().map(|call| call.bytes).sum()
    }

    /// The bytes of the parts that are being sent.
    pub(super) fn part_bytes(&self) -> impl Iterator<Item = usize> + '_ {
        let parts = self.parts.values().filter(|call| call.is_part);
        parts.map(|call| call.bytes)
    }

    pub(super) fn count(&self, answered: Answered) -> u64 {
        let same = self.answered.values().filter(|other| **other == answered);
        same.count() as u64
    }

    /// How many spans the queue may drop as failed.
    pub(super) fn failed(&self) -> u64 {
        let failed = self.failed.iter();
        let failed = failed.filter(|id| !self.answered.contains_key(id));
        failed.count() as u64
    }

    fn answer(&mut self, batch: &Batch, answered: Answered) {
        for id in ids(batch) {
            self.answered.insert(id, answered);
        }
    }
}

/// A call under way. It ends when its future is dropped as well.
struct UnderWay<'a> {
    notes: &'a Shared,
    number: u64,
    is_whole: bool,
}

impl<'a> UnderWay<'a> {
    fn begin(notes: &'a Shared, batch: &Batch, is_whole: bool) -> Self {
        let mut locked = lock(notes);
        locked.calls += 1;
        let number = locked.calls;
        let ids = ids(batch);
        let calls = match is_whole {
            true => &locked.batches,
            false => &locked.parts,
        };
        let known: BTreeSet<u64> = calls.values().flat_map(|call| call.ids.clone()).collect();
        let twice: Vec<_> = ids.iter().filter(|id| known.contains(id)).collect();
        let again: Vec<_> = ids
            .iter()
            .filter(|id| locked.answered.contains_key(id))
            .collect();
        let mut faults = Vec::new();
        if !twice.is_empty() {
            faults.push(format!("sent twice at the same time: {twice:?}"));
        }
        if !again.is_empty() {
            faults.push(format!("sent again after an answer: {again:?}"));
        }
        locked.faults.extend(faults);
        let call = Call {
            ids,
            bytes: batch.own_memory(),
            is_part: batch.is_part(),
        };
        match is_whole {
            true => locked.batches.insert(number, call),
            false => locked.parts.insert(number, call),
        };
        drop(locked);
        Self {
            notes,
            number,
            is_whole,
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut notes = lock(self.notes);
        match self.is_whole {
            true => notes.batches.remove(&self.number),
            false => notes.parts.remove(&self.number),
        };
    }
}

impl Export for Whole {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let _under_way = UnderWay::begin(&self.notes, &batch, true);
        self.inside.export(batch, until).await
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        self.inside.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        self.inside.shutdown(until).await
    }
}

impl Export for Scripted {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let _under_way = UnderWay::begin(&self.0, &batch, false);
        let act = {
            let mut notes = lock(&self.0);
            let act = notes.acts.pop_front();
            let act = act.unwrap_or_else(|| notes.then.clone());
            if act.fails_for_good(&batch) {
                notes.failed.extend(ids(&batch));
            }
            act
        };
        match act {
            Act::DeliverLate(after) | Act::Fail(_, after) => pass(after).await,
            Act::Hang | Act::TakeAndHang => std::future::pending().await,
            // Without the message that a panic prints.
            Act::Panic | Act::TakeAndPanic => resume_unwind(Box::new("scripted")),
            _ => {}
        }
        // From here to the caller nothing waits, so an answer that is noted arrives.
        self.answer(&act, &batch, until)
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        self.drain().await
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        self.drain().await
    }
}

impl Scripted {
    fn answer(&self, act: &Act, batch: &Batch, until: Deadline) -> Result<Delivery> {
        let spans = batch.spans();
        match act {
            Act::Fail(failure, _) => Err(failure.error(until)),
            Act::FailForGood => Err(Error::internal("not in this format")),
            Act::Reject => {
                lock(&self.0).answer(batch, Answered::Rejected);
                Err(Error::refused("bad spans"))
            }
            Act::RejectSome(rejected) => {
                let rejected = (*rejected).min(spans);
                let mut notes = lock(&self.0);
                notes.answer(batch, Answered::Delivered);
                notes.answer(&batch.cut(0..rejected), Answered::Rejected);
                Ok(Delivery::partial(batch, rejected as u64, "some are bad"))
            }
            Act::FilterSome => {
                let (odd, even) = every_other(batch);
                let mut notes = lock(&self.0);
                notes.answer(&odd, Answered::Filtered);
                let mut delivery = Delivery {
                    filtered: odd.spans() as u64,
                    ..Delivery::default()
                };
                if let Some(even) = even {
                    notes.answer(&even, Answered::Delivered);
                    delivery.absorb(Delivery::of(&even));
                }
                Ok(delivery)
            }
            Act::DeliverHalf(failure) if spans > 1 => {
                let middle = spans.div_ceil(2);
                let mut delivery = self.deliver(&batch.cut(0..middle));
                delivery.leave(batch.cut(middle..spans), failure.error(until));
                Ok(delivery)
            }
            Act::DeliverOdd(failure, is_all_temporary) if spans > 2 => {
                let (odd, even) = every_other(batch);
                let mut delivery = self.deliver(&odd);
                let even = even.expect("two spans at least");
                let middle = even.spans().div_ceil(2);
                delivery.leave(even.cut(0..middle), failure.error(until));
                if middle < even.spans() {
                    let error = match is_all_temporary {
                        true => failure.error(until),
                        false => Error::internal("not these"),
                    };
                    delivery.leave(even.cut(middle..even.spans()), error);
                }
                Ok(delivery)
            }
            Act::Forget => Ok(self.deliver(&batch.cut(0..1))),
            Act::MaxSpans(max) if spans > *max => Err(Error::too_large("too many spans")),
            Act::MaxBytes(max) if batch.size() > *max => Err(Error::too_large("too many bytes")),
            _ => Ok(self.deliver(batch)),
        }
    }

    fn deliver(&self, batch: &Batch) -> Delivery {
        lock(&self.0).answer(batch, Answered::Delivered);
        Delivery::of(batch)
    }

    async fn drain(&self) -> Result<Drained> {
        let drain = lock(&self.0).drain;
        match drain {
            plan::Drain::AtOnce => Ok(Drained::default()),
            plan::Drain::Fail => Err(Error::unavailable("no flush")),
            plan::Drain::Hang => std::future::pending().await,
            plan::Drain::Panic => resume_unwind(Box::new("scripted")),
        }
    }
}

impl Act {
    /// Whether spans of the batch may be dropped as failed after this answer.
    fn fails_for_good(&self, batch: &Batch) -> bool {
        match self {
            Self::FailForGood | Self::Forget | Self::Panic | Self::TakeAndPanic => true,
            Self::DeliverOdd(_, is_all_temporary) => !is_all_temporary,
            Self::MaxBytes(max) => batch.spans() == 1 && batch.size() > *max,
            _ => false,
        }
    }
}

impl Failure {
    fn error(self, until: Deadline) -> Error {
        match self {
            Self::Plain => Error::unavailable("down"),
            Self::Refused => Error::unavailable("nobody listens").with_connection_refused(),
            Self::Throttled => Error::throttled("busy"),
            Self::RetryAfter(wait) => {
                Error::throttled("busy").with_retry_after(Duration::from_millis(wait))
            }
            Self::NotSent => Error::timeout("no memory for a form", until).before_sending(),
            Self::Timeout => Error::timeout("no answer", until),
        }
    }
}

/// The first, third, fifth … span, and the others if there are any.
fn every_other(batch: &Batch) -> (Batch, Option<Batch>) {
    let spans = batch.spans();
    let cut = |first: usize| {
        let ranges: Vec<_> = (first..spans).step_by(2).map(|at| at..at + 1).collect();
        batch.cut_all(&ranges)
    };
    (cut(0), (spans > 1).then(|| cut(1)))
}

async fn pass(millis: u64) {
    // Sleeps: in the test's time, which passes by itself.
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
