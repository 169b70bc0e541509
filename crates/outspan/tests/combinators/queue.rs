//! The queue in memory around a scripted exporter.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use outspan::Batch;
use outspan::Deadline;
use outspan::Drained;
use outspan::DropReason;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Retry;
use outspan::engine::Ack;
use outspan::engine::AckOutcome;
use outspan::engine::BatchLimits;
use outspan::engine::MemoryQueue;
use outspan::engine::Permit;
use outspan::engine::ReserveError;
use outspan_testkit::Act;
use outspan_testkit::DrainAct;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;
use outspan_testkit::soon;
use outspan_testkit::span_ids;

fn quick() -> Retry {
    Retry::default()
        .initial_interval(Duration::from_millis(1))
        .max_interval(Duration::from_millis(2))
}

fn queue(child: &ScriptedExporter) -> MemoryQueue {
    MemoryQueue::builder(child.exporter())
        .retry(quick())
        .start()
        .unwrap()
}

fn room(queue: &MemoryQueue, spans: usize) -> Permit {
    queue.try_reserve(1000, spans).unwrap()
}

fn push(queue: &MemoryQueue, batch: Batch, permit: Permit) {
    queue.push(batch, permit, Ack::none()).unwrap();
}

type Told = Arc<Mutex<Option<AckOutcome>>>;

/// An ack, and what its source is told.
fn source() -> (Ack, Told) {
    let told = Told::default();
    let tell = Arc::clone(&told);
    let ack = Ack::new(move |outcome| *tell.lock().unwrap() = Some(outcome));
    (ack, told)
}

fn outcome(told: &Told) -> Option<AckOutcome> {
    told.lock().unwrap().clone()
}

fn lost(queue: &MemoryQueue) -> u64 {
    queue.account().dropped.total()
}

#[tokio::test]
async fn delivers_what_is_pushed_and_gives_the_room_back() {
    let child = ScriptedExporter::new();
    let queue = queue(&child);
    let batch = batch_of(3);
    let room = queue.try_reserve(batch.memory(), 3).unwrap();
    assert_eq!(queue.bytes(), batch.memory());
    assert_eq!(queue.account().queued, 3);
    push(&queue, batch.clone(), room);
    let drained = queue.flush(soon()).await.unwrap();
    assert!(drained.is_complete());
    assert_eq!(child.received(), span_ids(&batch));
    assert_eq!(queue.bytes(), 0);
    let account = queue.account();
    assert_eq!((account.received, account.delivered), (3, 3));
    assert_eq!((queue.batches(), queue.exports()), (0, 0));
}

#[tokio::test]
async fn has_no_room_beyond_its_bounds() {
    let child = ScriptedExporter::new();
    let queue = MemoryQueue::builder(child.exporter())
        .bytes(1000)
        .spans(NonZeroUsize::new(10))
        .start()
        .unwrap();
    let first = queue.try_reserve(600, 4).unwrap();
    assert!(!queue.has_room(401));
    assert!(queue.has_room(400));
    assert!(queue.try_reserve(401, 1).is_err(), "too many bytes");
    assert!(queue.try_reserve(1, 7).is_err(), "too many spans");
    assert_eq!(
        queue.account().received,
        4,
        "what has no room is not counted"
    );
    queue.turn_away(7);
    let account = queue.account();
    assert_eq!(account.dropped.of(DropReason::QueueFull), 7);
    assert!(account.closes());
    drop(first);
    assert!(queue.try_reserve(1000, 10).is_ok());
}

#[tokio::test]
async fn waits_for_room_that_can_come_and_not_for_what_never_fits() {
    let child = ScriptedExporter::new();
    let queue = MemoryQueue::builder(child.exporter())
        .bytes(1000)
        .spans(NonZeroUsize::new(10))
        .start()
        .unwrap();
    let never = Deadline::never();
    assert!(queue.reserve(1001, 1, never).await.is_err());
    assert!(queue.reserve(1, 11, never).await.is_err());
    assert!(queue.try_reserve_evicting(1001, 1).is_err());
    assert!(queue.try_reserve_evicting(1, 11).is_err());

    drop(queue.try_reserve_evicting(1000, 10).unwrap());
    let all = queue.reserve(1000, 10, never).await.unwrap();
    let (room, ()) = tokio::join!(queue.reserve(1000, 10, soon()), async { drop(all) });
    assert!(room.is_ok());
}

#[tokio::test]
async fn a_flush_that_fails_inside_is_an_error_unless_there_are_spans_to_tell_of() {
    let child = ScriptedExporter::new();
    let failure = || DrainAct::Fail(Error::internal("broken"));
    child.script_flushes([failure(), failure()]);
    let queue = queue(&child);
    let error = queue.flush(soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    child.script([Act::refused()]);
    push(&queue, batch_of(2), room(&queue, 2));
    let drained = queue.flush(soon()).await.unwrap();
    assert_eq!(drained.refused + drained.lost.total(), 2, "{drained}");
}

#[tokio::test]
async fn room_that_is_dropped_is_counted_and_free_again() {
    let child = ScriptedExporter::new();
    let queue = queue(&child);
    drop(room(&queue, 5));
    assert_eq!(queue.bytes(), 0);
    assert_eq!(queue.account().dropped.of(DropReason::Shutdown), 5);
    assert!(queue.account().closes());
}

#[tokio::test]
async fn room_of_several_requests_becomes_one() {
    let child = ScriptedExporter::new();
    let queue = queue(&child);
    let other = self::queue(&child);
    let mut both = room(&queue, 2);
    both.merge(room(&queue, 3)).unwrap();
    assert_eq!((both.bytes(), both.spans()), (2000, 5));
    let foreign = both.merge(room(&other, 1)).unwrap_err();
    assert_eq!(foreign.spans(), 1);
    drop(foreign);
    assert_eq!((lost(&queue), lost(&other)), (0, 1));
    push(&queue, batch_of(5), both);
    assert!(queue.shutdown(soon()).await.unwrap().is_complete());
    assert_eq!(queue.account().delivered, 5);
}

#[tokio::test]
async fn the_account_closes_whatever_the_room_was_for() {
    let child = ScriptedExporter::new();
    let queue = queue(&child);
    let other = self::queue(&child);
    let too_much = room(&queue, 5);
    push(&queue, batch_of(3), too_much);
    let too_little = room(&queue, 1);
    push(&queue, batch_of(4), too_little);
    let of_another = room(&other, 9);
    push(&queue, batch_of(1), of_another);
    drop(queue.flush(soon()).await.unwrap());
    let account = queue.account();
    assert!(account.closes(), "{account}");
    assert_eq!((account.received, account.delivered), (10, 8));
    assert_eq!(account.dropped.of(DropReason::Failed), 2);
    assert_eq!((queue.bytes(), other.bytes()), (0, 0));
    assert_eq!(lost(&other), 9);
}

#[tokio::test]
async fn trouble_is_there_while_it_lasts() {
    let child = ScriptedExporter::new();
    child.script([Act::unavailable(), Act::unavailable()]);
    let gate = Gate::new();
    child.always(Act::when(&gate, Act::Deliver));
    let queue = queue(&child);
    assert_eq!(queue.trouble(), None);
    let room = room(&queue, 1);
    push(&queue, batch_of(1), room);
    child.wait_for_exports(3).await;
    assert!(queue.trouble().is_some());
    assert_eq!((queue.batches(), queue.exports()), (1, 1));
    gate.open();
    drop(queue.flush(soon()).await.unwrap());
    assert_eq!(queue.trouble(), None);
    assert_eq!(queue.account().delivered, 1);
}

#[tokio::test]
async fn stopping_at_once_counts_what_is_held() {
    let child = ScriptedExporter::new();
    let gate = Gate::new();
    child.always(Act::when(&gate, Act::Deliver));
    let queue = queue(&child);
    let room = room(&queue, 2);
    push(&queue, batch_of(2), room);
    child.wait_for_exports(1).await;
    queue.abort().await;
    let account = queue.account();
    assert_eq!(account.dropped.of(DropReason::Shutdown), 2, "{account}");
    assert!(account.closes());
    assert_eq!(queue.bytes(), 0);
}

#[tokio::test]
async fn after_a_shutdown_pushes_are_counted_as_lost() {
    let child = ScriptedExporter::new();
    let queue = queue(&child);
    let late = room(&queue, 4);
    drop(queue.shutdown(soon()).await.unwrap());
    assert_eq!(child.shutdowns(), 1);
    drop(queue.push(batch_of(4), late, Ack::none()).unwrap_err());
    assert_eq!(queue.account().dropped.of(DropReason::Shutdown), 4);
    assert_eq!(queue.bytes(), 0);
    let again = queue.shutdown(soon()).await.unwrap();
    assert_eq!(again.lost.total(), 4, "what came too late is told");
    assert_eq!(queue.shutdown(soon()).await.unwrap(), again);
}

#[tokio::test]
async fn a_shutdown_that_is_out_of_time_says_what_was_lost() {
    let child = ScriptedExporter::new();
    let gate = Gate::new();
    child.always(Act::when(&gate, Act::Deliver));
    let queue = queue(&child);
    let room = room(&queue, 2);
    push(&queue, batch_of(2), room);
    child.wait_for_exports(1).await;
    let until = Deadline::after(Duration::from_millis(20));
    let drained = queue.shutdown(until).await.unwrap();
    assert_eq!(drained.lost.of(DropReason::Shutdown), 2, "{drained}");
}

#[tokio::test]
async fn what_the_exporter_took_and_lost_in_the_end_is_not_counted_as_delivered() {
    let child = ScriptedExporter::new();
    let mut late = Drained::default();
    late.lost.add(DropReason::Failed, 2);
    child.script_shutdowns([DrainAct::Done(late)]);
    let queue = queue(&child);
    push(&queue, batch_of(5), room(&queue, 5));
    let drained = queue.shutdown(soon()).await.unwrap();
    assert_eq!(drained.lost.of(DropReason::Failed), 2);
    let account = queue.account();
    assert_eq!((account.received, account.delivered), (5, 3));
    assert_eq!(account.dropped.of(DropReason::Failed), 2);
    assert_eq!(queue.shutdown(soon()).await.unwrap(), drained);
}

#[tokio::test]
async fn the_hook_hears_of_every_drop() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let child = ScriptedExporter::new();
    child.always(Act::Fail(Error::internal("broken")));
    let queue = MemoryQueue::builder(child.exporter())
        .on_drop(move |event| sender.send((event.reason, event.spans)).unwrap())
        .start()
        .unwrap();
    queue.turn_away(3);
    let room = room(&queue, 2);
    push(&queue, batch_of(2), room);
    drop(queue.flush(soon()).await.unwrap());
    let heard: Vec<_> = receiver.try_iter().collect();
    assert_eq!(heard, [(DropReason::QueueFull, 3), (DropReason::Failed, 2)]);
}

#[tokio::test]
async fn whoever_waits_for_the_queue_to_shrink_goes_on_when_it_has() {
    let gate = Gate::new();
    let child = ScriptedExporter::new();
    child.always(Act::when(&gate, Act::Deliver));
    let queue = queue(&child);
    queue.wait_until_at_most(0).await;
    let batch = batch_of(2);
    let room = queue.try_reserve(batch.memory(), 2).unwrap();
    push(&queue, batch, room);
    let mut shrunk = std::pin::pin!(queue.wait_until_at_most(0));
    assert!(futures_util::poll!(&mut shrunk).is_pending());
    gate.open();
    shrunk.await;
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn works_without_any_runtime_of_the_caller_s() {
    let child = ScriptedExporter::new();
    let queue = queue(&child);
    let room = room(&queue, 1);
    push(&queue, batch_of(1), room);
    let drained = futures_executor::block_on(queue.shutdown(soon())).unwrap();
    assert_eq!(drained.delivered, 1);
}

#[test]
fn a_bound_of_nothing_is_refused() {
    let child = ScriptedExporter::new();
    let builder = || MemoryQueue::builder(child.exporter());
    for wrong in [builder().bytes(0), builder().concurrent_exports(0)] {
        let error = wrong.start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("is 0"), "{error}");
    }
}

#[tokio::test]
async fn ack_finishes_with_the_last_part_of_its_batch() {
    let child = ScriptedExporter::new();
    let queue = queue(&child);
    let gate = Gate::new();
    gate.close();
    let half = Act::DeliverHalf(Error::unavailable("the rest later"));
    child.script([half, Act::when(&gate, Act::Deliver)]);
    let (ack, told) = source();
    queue.push(batch_of(5), room(&queue, 5), ack).unwrap();
    child.wait_for_exports(2).await;
    assert!(outcome(&told).is_none(), "half of the spans are still held");
    gate.open();
    drop(queue.flush(soon()).await.unwrap());
    let outcome = outcome(&told).expect("nothing is held any more");
    assert!(outcome.dropped.is_none());
    assert_eq!(child.received().len(), 5);
}

#[tokio::test]
async fn ack_is_told_of_spans_that_are_rejected_or_come_too_late() {
    let child = ScriptedExporter::new();
    let queue = queue(&child);
    child.script([Act::refused()]);
    let ((refused, told_refused), (late, told_late)) = (source(), source());
    queue.push(batch_of(2), room(&queue, 2), refused).unwrap();
    drop(queue.flush(soon()).await.unwrap());
    let too_late = room(&queue, 1);
    drop(queue.shutdown(soon()).await);
    drop(queue.push(batch_of(1), too_late, late).unwrap_err());
    let refused = outcome(&told_refused).unwrap();
    assert_eq!(refused.rejected, 2);
    assert!(refused.message.unwrap().contains("the script says refused"));
    assert!(refused.dropped.is_none());
    let late = outcome(&told_late).unwrap().dropped.unwrap();
    assert_eq!(late.reason, DropReason::Shutdown);
}

#[tokio::test]
async fn ack_is_told_of_every_kind_of_drop() {
    let reason = |told: &Told| outcome(told).unwrap().dropped.unwrap().reason;

    // For good, by the destination's fault.
    let child = ScriptedExporter::new();
    child.script([Act::Fail(Error::internal("broken"))]);
    let queue = self::queue(&child);
    let (ack, told) = source();
    queue.push(batch_of(2), room(&queue, 2), ack).unwrap();
    drop(queue.flush(soon()).await.unwrap());
    assert_eq!(reason(&told), DropReason::Failed);

    // In flight and waiting, when the queue ends.
    let gate = Gate::new();
    child.always(Act::when(&gate, Act::Deliver));
    let sources: Vec<_> = (0..6).map(|_| source()).collect();
    for (ack, _) in &sources {
        queue
            .push(batch_of(1), room(&queue, 1), ack.clone())
            .unwrap();
    }
    child.wait_for_exports(5).await;
    let told: Vec<_> = sources.into_iter().map(|(_, told)| told).collect();
    assert!(told.iter().all(|told| outcome(told).is_none()));
    queue.abort().await;
    assert!(told.iter().all(|told| reason(told) == DropReason::Shutdown));

    // To make space for others.
    let child = ScriptedExporter::new();
    child.always(Act::when(&gate, Act::Deliver));
    let queue = MemoryQueue::builder(child.exporter())
        .bytes(2000)
        .concurrent_exports(1)
        .start()
        .unwrap();
    push(&queue, batch_of(1), queue.try_reserve(1000, 1).unwrap());
    child.wait_for_exports(1).await;
    let (ack, told) = source();
    let wide = batch_with(1, |_, span| span.name = "n".repeat(400));
    let permit = queue.try_reserve(1000, 1).unwrap();
    queue.push(wide, permit, ack).unwrap();
    drop(queue.try_reserve_evicting(1000, 1).unwrap());
    assert_eq!(reason(&told), DropReason::QueueFull);
    gate.open();
}

#[tokio::test]
async fn dropping_a_queue_tells_the_sources_of_what_it_held() {
    let child = ScriptedExporter::new();
    let queue = MemoryQueue::builder(child.exporter())
        .batches(BatchLimits {
            delay: Duration::from_secs(3600),
            ..BatchLimits::default()
        })
        .start()
        .unwrap();
    let (ack, told) = source();
    queue.push(batch_of(1), room(&queue, 1), ack).unwrap();
    assert!(outcome(&told).is_none(), "it is being collected");
    drop(queue);
    let dropped = outcome(&told).unwrap().dropped.unwrap();
    assert_eq!(dropped.reason, DropReason::Shutdown);
}

#[tokio::test]
async fn callers_of_reserve_are_served_in_order() {
    let child = ScriptedExporter::new();
    let queue = MemoryQueue::builder(child.exporter())
        .bytes(1000)
        .start()
        .unwrap();
    let held: Vec<_> = (0..10)
        .map(|_| queue.try_reserve(100, 1).unwrap())
        .collect();
    let order = Mutex::new(Vec::new());
    let caller = |name: &'static str, bytes| {
        let (queue, order) = (&queue, &order);
        async move {
            let permit = queue.reserve(bytes, 1, soon()).await.unwrap();
            order.lock().unwrap().push(name);
            permit.release();
        }
    };
    let mut large = std::pin::pin!(caller("large", 800));
    assert!(futures_util::poll!(&mut large).is_pending());
    let mut small = std::pin::pin!(caller("small", 100));
    assert!(futures_util::poll!(&mut small).is_pending());
    let mut held = held.into_iter();
    held.by_ref().take(3).for_each(Permit::release);
    assert!(futures_util::poll!(&mut small).is_pending(), "it would fit");
    assert_eq!(queue.try_reserve(100, 1).unwrap_err(), ReserveError::Full);
    held.by_ref().take(5).for_each(Permit::release);
    tokio::join!(small, large);
    assert_eq!(*order.lock().unwrap(), ["large", "small"]);
    held.for_each(Permit::release);
    assert!(queue.try_reserve(1000, 1).is_ok(), "nobody waits any more");
}

#[tokio::test]
async fn caller_of_reserve_that_gives_up_lets_the_next_one_go_on() {
    let child = ScriptedExporter::new();
    let queue = MemoryQueue::builder(child.exporter())
        .bytes(1000)
        .start()
        .unwrap();
    let held = queue.try_reserve(500, 1).unwrap();
    let mut large = Box::pin(queue.reserve(1000, 1, Deadline::never()));
    assert!(futures_util::poll!(&mut large).is_pending());
    let mut small = std::pin::pin!(queue.reserve(500, 1, soon()));
    assert!(futures_util::poll!(&mut small).is_pending());
    drop(large);
    small.await.unwrap().release();
    held.release();
    let error = queue
        .reserve(1000, 1, Deadline::after(Duration::ZERO))
        .await;
    error
        .expect("there is space, whatever the deadline")
        .release();
}

#[tokio::test]
async fn callers_of_reserve_learn_of_the_shutdown() {
    let child = ScriptedExporter::new();
    let queue = self::queue(&child);
    let held = queue.try_reserve(queue.bytes_max(), 1).unwrap();
    let waiting = queue.reserve(1, 1, Deadline::never());
    let (waited, drained) = tokio::join!(waiting, queue.shutdown(soon()));
    assert_eq!(waited.unwrap_err(), ReserveError::ShutDown);
    drop(drained);
    held.release();
    assert_eq!(queue.try_reserve(1, 1).unwrap_err(), ReserveError::ShutDown);
    let late = queue.reserve(1, 1, Deadline::never()).await;
    assert_eq!(late.unwrap_err(), ReserveError::ShutDown);
}

/// Space comes back when a batch holds less than was reserved for it, too.
#[tokio::test]
async fn caller_of_reserve_gets_what_a_push_leaves_over() {
    let gate = Gate::new();
    let child = ScriptedExporter::new();
    child.always(Act::when(&gate, Act::Deliver));
    let batch = batch_of(2);
    let bytes = batch.memory() * 2;
    let queue = MemoryQueue::builder(child.exporter())
        .bytes(bytes)
        .start()
        .unwrap();
    let all = queue.try_reserve(bytes, 2).unwrap();
    let mut waiting = std::pin::pin!(queue.reserve(1, 1, soon()));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    push(&queue, batch, all);
    waiting.await.unwrap().release();
    gate.open();
}

#[tokio::test]
async fn two_flushes_at_once_both_say_what_became_of_every_span() {
    let gate = Gate::new();
    let child = ScriptedExporter::new();
    child.always(Act::when(&gate, Act::Deliver));
    let queue = queue(&child);
    push(&queue, batch_of(3), room(&queue, 3));
    child.wait_for_exports(1).await;
    let mut one = std::pin::pin!(queue.flush(soon()));
    let mut other = std::pin::pin!(queue.flush(soon()));
    assert!(futures_util::poll!(&mut one).is_pending());
    assert!(futures_util::poll!(&mut other).is_pending());
    gate.open();
    let (one, other) = tokio::join!(one, other);
    assert_eq!(one.unwrap().delivered, 3);
    assert_eq!(other.unwrap().delivered, 3);
    let later = queue.flush(soon()).await.unwrap();
    assert_eq!(later.delivered, 0, "it was told");
}

#[tokio::test]
async fn flush_during_a_shutdown_says_what_was_lost_as_well() {
    let gate = Gate::new();
    let child = ScriptedExporter::new();
    child.always(Act::when(&gate, Act::Deliver));
    let queue = queue(&child);
    push(&queue, batch_of(2), room(&queue, 2));
    child.wait_for_exports(1).await;
    let mut flush = std::pin::pin!(queue.flush(soon()));
    assert!(futures_util::poll!(&mut flush).is_pending());
    let until = Deadline::after(Duration::from_millis(20));
    let (flushed, ended) = tokio::join!(flush, queue.shutdown(until));
    assert_eq!(ended.unwrap().lost.of(DropReason::Shutdown), 2);
    assert_eq!(flushed.unwrap().lost.of(DropReason::Shutdown), 2);
}

#[tokio::test]
async fn permit_that_is_released_was_never_counted() {
    let child = ScriptedExporter::new();
    let queue = queue(&child);
    room(&queue, 5).release();
    assert_eq!(queue.bytes(), 0);
    assert_eq!(queue.account().received, 0);
}
