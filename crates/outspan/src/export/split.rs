//! Sends a batch that is too large in parts.
//!
//! Exporters only report [`TooLarge`](crate::ErrorKind::TooLarge), with the limit if the destination named one. The
//! [`Exporter`](crate::Exporter) around them cuts the batch into parts within that limit, or into halves, and sends them,
//! until each part is delivered or has failed, down to single spans:
//!
//! ```text
//!   whole ──▶ too large ──▶ first half ──▶ delivered
//!                           second half ──▶ too large ──▶ third quarter ──▶ …
//! ```
//!
//! - **Limits** are what a destination says, so they may be wrong. One is used only if it makes parts that are smaller than what
//!   was too large, and if a span fits. Parts that were cut by a limit and are too large all the same are halved, so each span is in
//!   at most one part by a limit, and the number of calls is bounded as it is with halves alone.
//! - **Memory.** Parts that wait are ranges of span numbers. A part is cut from the batch when it is sent, one at a time,
//!   because each part repeats a resource that may be as large as the batch. Its bytes are taken from the budget of the
//!   queue that exports the batch, and given back when the part is done.
//! - **Nested exporters.** The innermost exporter splits first. What it could not deliver comes back marked
//!   ([`Error::for_each_span`]), and exporters around it do not split it again. A single span that is too large is marked
//!   as well.
//! - **Temporary errors** end the export, because they would keep the other parts back as well. Everything that was not
//!   sent is left in one batch with a [`Plan`], so that the next export goes on with the parts and not with the whole.
//!   The part that failed comes last then: a part that always fails does not keep the others back.
//! - **Deadlines.** When the time is over between two parts, the rest is left with a temporary error that says nothing
//!   about the destination.
//! - **Notes of fan-outs** belong to the whole batch. They are kept while it stays whole, and a part has none: every
//!   destination gets it again, which is better than a loss.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use futures_util::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;

use super::Turn;
use super::apart;
use super::is_closing;
use super::is_over;
use super::run_until_closed;
use crate::Attempt;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Error;
use crate::ErrorKind;
use crate::Result;
use crate::Undelivered;
use crate::batch::Plan;
use crate::budget::Budget;
use crate::failures::Failures;
use crate::guard::run_guarded;

/// Makes the number of an exporter.
pub(crate) fn exporter_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // The number only has to be another one for each.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Exports a batch, in parts if it is too large. `exporter` is the number of the exporter that `export` calls.
///
/// # Errors
///
/// Those of `export`, if nothing was delivered.
///
/// # Cancellation
///
/// Dropping the future drops the call under way and gives its memory back.
pub(crate) async fn export_in_parts<'a>(
    exporter: u64,
    batch: Batch,
    until: Deadline,
    export: impl Fn(Batch) -> BoxFuture<'a, Result<Delivery>> + Send + Sync,
) -> Result<Delivery> {
    if let Some(plan) = batch.plan_for(exporter) {
        let waiting = plan.parts().iter().rev().cloned().collect();
        let splitter = Splitter::new(exporter, batch, until, waiting);
        return Box::pin(splitter.run(&export)).await;
    }
    // Most batches need no splitter: none is made for them, also not inside this future, which moves with each layer.
    let mut answer = export(batch.clone()).await;
    mark_single_spans(&mut answer, &batch);
    if !has_divisible(&answer) {
        return answer;
    }
    let splitter = Splitter::new(exporter, batch, until, Vec::new());
    Box::pin(splitter.go_on(answer, &export)).await
}

/// Marks single spans that are too large, so that exporters outside do not send them again.
fn mark_single_spans(answer: &mut Result<Delivery>, batch: &Batch) {
    match answer {
        Ok(delivery) => {
            for left in &mut delivery.rest {
                mark_single_span(&mut left.error, left.batch.spans());
            }
        }
        Err(error) => mark_single_span(error, batch.spans()),
    }
}

fn mark_single_span(error: &mut Error, spans: usize) {
    if error.is_too_large() && spans <= 1 {
        *error = error.clone().for_each_span();
    }
}

fn has_divisible(answer: &Result<Delivery>) -> bool {
    match answer {
        Ok(delivery) => delivery.rest.iter().any(|left| left.error.is_divisible()),
        Err(error) => error.is_divisible(),
    }
}

/// A batch that is sent in parts, and what became of it so far.
struct Splitter {
    exporter: u64,
    batch: Batch,
    until: Deadline,
    turn: Turn,
    /// How many calls of the exporter have ended.
    calls: u32,
    /// Parts that are still to be sent, the next at the end.
    waiting: Vec<Range<usize>>,
    /// Spans that failed for good, and how many they are.
    failures: Failures,
    failed: u64,
    /// Parts that came back as batches whose spans are not those of this batch, and are too large, with the limit that the
    /// destination named.
    foreign: Vec<(Batch, Option<u64>)>,
    /// The largest limit by which parts were cut. What has no more bytes is halved.
    cut_by: usize,
    total: Delivery,
}

/// The error that ends the sending of parts in this attempt.
struct Stop {
    error: Error,
    /// What was sent and failed.
    failed: Vec<Range<usize>>,
}

impl Splitter {
    fn new(exporter: u64, batch: Batch, until: Deadline, waiting: Vec<Range<usize>>) -> Self {
        Self {
            exporter,
            batch,
            until,
            turn: Turn::begin(),
            calls: 0,
            waiting,
            failures: Failures::default(),
            failed: 0,
            foreign: Vec::new(),
            cut_by: 0,
            total: Delivery::default(),
        }
    }

    /// Goes on after the whole was sent.
    async fn go_on<'a>(
        mut self,
        answer: Result<Delivery>,
        export: &(dyn Fn(Batch) -> BoxFuture<'a, Result<Delivery>> + Send + Sync),
    ) -> Result<Delivery> {
        // The forms of the whole are of no use for parts, and parts need memory for forms of their own.
        self.batch.forget_forms();
        let whole = self.batch.clone();
        match self.note(0..whole.spans(), &whole, answer) {
            Some(stop) => self.finish(Some(stop)),
            None => self.run(export).await,
        }
    }

    async fn run<'a>(
        mut self,
        export: &(dyn Fn(Batch) -> BoxFuture<'a, Result<Delivery>> + Send + Sync),
    ) -> Result<Delivery> {
        while let Some(place) = self.waiting.pop() {
            let memory = match self.must_stop(place.start) {
                None => PartMemory::take(&self.batch, self.until).await,
                Some(error) => Err(error),
            };
            let mut memory = match memory {
                Ok(memory) => memory,
                Err(error) => {
                    self.waiting.push(place);
                    let failed = Vec::new();
                    return self.finish(Some(Stop { error, failed }));
                }
            };
            let part = self.batch.part(place.clone());
            memory.shrink_to(part.own_memory());
            let sent = run_guarded(self.until, "export", export(part.clone()));
            let mut answer = run_until_closed(sent, |until| until).await;
            mark_single_spans(&mut answer, &part);
            let stop = self.note(place, &part, answer);
            drop(part);
            drop(memory);
            self.send_foreign(export).await;
            if stop.is_some() {
                return self.finish(stop);
            }
        }
        self.send_foreign(export).await;
        self.finish(None)
    }

    /// Why the part that begins with this span is not sent now, if it is not.
    ///
    /// The first part of an export always is: each export finds out something, so a batch does not go round for ever.
    fn must_stop(&self, next: usize) -> Option<Error> {
        if self.calls == 0 {
            return None;
        }
        if is_over(self.until) {
            return Some(self.no_time());
        }
        let achieved = self.total.accepted + self.total.refused + self.total.filtered + self.failed;
        (achieved > 0 && self.turn.is_over(&self.batch, next)).then(Error::giving_way)
    }

    fn no_time(&self) -> Error {
        let error = Error::timeout("too large, and no time to send it in parts", self.until);
        let server = self.total.attempt.server.clone();
        error
            .map_attempt(|own| Attempt { server, ..own })
            .for_next_turn()
    }

    /// Notes what became of a part, and divides what was too large. Returns why the export ends, if it does.
    fn note(
        &mut self,
        place: Range<usize>,
        part: &Batch,
        answer: Result<Delivery>,
    ) -> Option<Stop> {
        self.calls += 1;
        let mut delivery = match answer {
            Ok(delivery) => delivery,
            Err(error) => {
                self.total.count(&error);
                let mut divided = Vec::new();
                let stop = self.note_failed(vec![place], part, error, None, &mut divided);
                self.waiting.extend(divided.into_iter().rev());
                return stop;
            }
        };
        let rest = std::mem::take(&mut delivery.rest);
        self.total.absorb(delivery);
        let mut stop = None;
        let mut divided = Vec::new();
        for left in rest {
            match places_of(&left.batch, part) {
                Some(mut ranges) => {
                    for range in &mut ranges {
                        *range = place.start + range.start..place.start + range.end;
                    }
                    stop = self.note_failed(ranges, &left.batch, left.error, stop, &mut divided);
                }
                None if left.error.is_divisible() => {
                    self.foreign.push((left.batch, left.error.limit()));
                }
                None => {
                    let error = left.error;
                    if ends_export(&error) {
                        let failed = Vec::new();
                        stop.get_or_insert(Stop {
                            error: error.clone(),
                            failed,
                        });
                    }
                    let batch = left.batch.as_whole();
                    self.total.rest.push(Undelivered { batch, error });
                }
            }
        }
        self.waiting.extend(divided.into_iter().rev());
        stop
    }

    /// Notes spans that failed: those of `batch`, which have these places in the batch that is sent.
    fn note_failed(
        &mut self,
        ranges: Vec<Range<usize>>,
        batch: &Batch,
        error: Error,
        stop: Option<Stop>,
        divided: &mut Vec<Range<usize>>,
    ) -> Option<Stop> {
        let spans: usize = ranges.iter().map(Range::len).sum();
        if error.is_divisible() && spans > 1 {
            divided.extend(self.divide(ranges, batch, error.limit()));
            return stop;
        }
        if !ends_export(&error) {
            self.failed += spans as u64;
            self.failures.add_all(ranges, error);
            return stop;
        }
        let error = match self.is_cut_short(&error) {
            true => self.no_time(),
            false => error,
        };
        let Some(stop) = stop else {
            let failed = ranges;
            return Some(Stop { error, failed });
        };
        let mut failed = stop.failed;
        failed.extend(ranges);
        // The longest wait that was asked for covers the others.
        let error = match error.retry_after() > stop.error.retry_after() {
            true => error,
            false => stop.error,
        };
        Some(Stop { error, failed })
    }

    /// The parts of one range, or each of several ranges by itself. `batch` has their spans.
    fn divide(
        &mut self,
        ranges: Vec<Range<usize>>,
        batch: &Batch,
        limit: Option<u64>,
    ) -> Vec<Range<usize>> {
        let [only] = ranges.as_slice() else {
            return ranges;
        };
        let mut start = only.start;
        if let Some(parts) = self.parts_within(batch, limit) {
            return parts
                .into_iter()
                .map(|spans| {
                    start += spans;
                    start - spans..start
                })
                .collect();
        }
        let middle = only.start + only.len().div_ceil(2);
        vec![only.start..middle, middle..only.end]
    }

    /// How many spans each part has that keeps a limit. `None` if halves are better.
    fn parts_within(&mut self, batch: &Batch, limit: Option<u64>) -> Option<Vec<usize>> {
        /// Small batches may be repeated more often.
        const TOTAL_MIN: usize = 8 << 20;

        let limit = usize::try_from(limit?).ok()?;
        if limit == 0 || limit >= batch.size() || batch.size() <= self.cut_by {
            return None;
        }
        let parts = batch.parts_by_bytes(limit);
        // Each part repeats the resources of its spans. Halves are made only as small as it takes.
        if parts.total_bytes() > TOTAL_MIN.max(2 * batch.size()) {
            return None;
        }
        let mut spans = Vec::new();
        let mut is_kept = false;
        for part in parts {
            is_kept |= !part.is_oversized;
            spans.push(part.batch.spans());
        }
        if !is_kept || spans.len() < 2 || spans.iter().sum::<usize>() != batch.spans() {
            return None;
        }
        self.cut_by = self.cut_by.max(limit);
        Some(spans)
    }

    /// Whether a call had no answer because the calls before it took the time. The destination did answer those.
    fn is_cut_short(&self, error: &Error) -> bool {
        self.calls > 1
            && error.kind() == ErrorKind::Timeout
            && !error.is_giving_way()
            && self.until.has_passed()
            && !is_closing()
    }

    /// Sends parts that an exporter has changed and found too large.
    async fn send_foreign<'a>(
        &mut self,
        export: &(dyn Fn(Batch) -> BoxFuture<'a, Result<Delivery>> + Send + Sync),
    ) {
        for (batch, limit) in std::mem::take(&mut self.foreign) {
            let batch = batch.as_whole();
            let whole = 0..batch.spans();
            let mut splitter = Self::new(self.exporter, batch, self.until, Vec::new());
            splitter.calls = self.calls;
            let batch = splitter.batch.clone();
            splitter.waiting = splitter.divide(vec![whole], &batch, limit);
            splitter.waiting.reverse();
            let answer = Box::pin(splitter.run(export)).await;
            self.total
                .absorb(answer.unwrap_or_else(|error| Delivery::failed(batch, error)));
        }
    }

    fn finish(mut self, stop: Option<Stop>) -> Result<Delivery> {
        if let Some(Stop { error, failed }) = stop {
            let mut parts: Vec<_> = self.waiting.drain(..).rev().collect();
            let place = match error.is_before_sending() {
                true => 0,
                false => parts.len(),
            };
            parts.splice(place..place, failed);
            let rests = match error.is_giving_way() {
                true => apart(&self.batch, &parts),
                false => vec![parts],
            };
            for parts in rests.into_iter().filter(|parts| !parts.is_empty()) {
                let batch = self.rest_of(parts);
                let error = error.clone();
                self.total.rest.push(Undelivered { batch, error });
            }
        }
        self.failures.leave(&self.batch, &mut self.total);
        self.total.into_result()
    }

    /// Cuts the parts that were not sent into one batch, with the plan to send them in this order.
    fn rest_of(&self, parts: Vec<Range<usize>>) -> Batch {
        let mut ranges = parts.clone();
        ranges.sort_unstable_by_key(|range| range.start);
        let place_in_rest = |part: &Range<usize>| {
            let before = ranges.iter().take_while(|range| range.start < part.start);
            let start = before.map(Range::len).sum();
            start..start + part.len()
        };
        let plan = (parts.len() > 1).then(|| {
            let parts = parts.iter().map(place_in_rest).collect();
            Plan::new(self.exporter, parts)
        });
        let rest = self.batch.cut_all(&ranges);
        rest.as_whole().with_plan(plan.map(Arc::new))
    }
}

/// Whether an error of one part would be that of the others as well.
fn ends_export(error: &Error) -> bool {
    error.is_temporary() || error.kind() == ErrorKind::ShutDown
}

/// Finds the spans of `rest` among those of `part`, in order. `None` if they are others, or if `rest` has notes, which belong
/// to it.
fn places_of(rest: &Batch, part: &Batch) -> Option<Vec<Range<usize>>> {
    if rest.is_noted() && rest.spans() > 0 {
        return None;
    }
    let mut spans = part.iter().enumerate();
    let mut places: Vec<Range<usize>> = Vec::new();
    for span in rest.iter() {
        let (place, _) = spans.find(|(_, known)| known.bytes() == span.bytes())?;
        match places.last_mut() {
            Some(last) if last.end == place => last.end += 1,
            _ => places.push(place..place + 1),
        }
    }
    Some(places)
}

/// The memory of a part while it is sent. Dropping it gives the memory back.
#[derive(Default)]
struct PartMemory {
    budget: Option<Arc<Budget>>,
    bytes: usize,
    /// Where the budget has no room: one export of a queue at a time has a part beyond it.
    _turn: Option<OwnedSemaphorePermit>,
}

impl PartMemory {
    /// Takes memory for a part of `batch`, and waits for it if there is none.
    ///
    /// An export has no forms while it waits, and holds memory for one part at most, so nobody waits for itself.
    async fn take(batch: &Batch, until: Deadline) -> Result<Self> {
        let Some(budget) = batch.payer() else {
            return Ok(Self::default());
        };
        let bytes = batch.own_memory();
        if budget.try_take(bytes, 0) {
            return Ok(Self {
                budget: Some(Arc::clone(budget)),
                bytes,
                _turn: None,
            });
        }
        // An exporter further out holds memory for the part of which this is a part.
        if batch.is_part() {
            return Ok(Self::default());
        }
        let turn = async {
            let turn = until.run(budget.part_turn().acquire_owned()).await;
            let message = "too large, and no memory to send it in parts";
            turn.ok_or_else(|| Error::timeout(message, until).for_next_turn())
        };
        // The semaphore is never closed.
        let turn = run_until_closed(turn, |until| until).await?.ok();
        Ok(Self {
            budget: None,
            bytes: 0,
            _turn: turn,
        })
    }

    fn shrink_to(&mut self, bytes: usize) {
        if let Some(budget) = &self.budget
            && let Some(spare) = self.bytes.checked_sub(bytes)
        {
            budget.give_back(spare, 0);
            self.bytes = bytes;
        }
    }
}

impl Drop for PartMemory {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give_back(self.bytes, 0);
        }
    }
}
