//! The queue in memory around a scripted exporter.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use outspan::Deadline;
use outspan::Drained;
use outspan::DropReason;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Retry;
use outspan::engine::MemoryQueue;
use outspan::engine::Room;
use outspan_testkit::Act;
use outspan_testkit::DrainAct;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
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

fn room(queue: &MemoryQueue, spans: usize) -> Room {
    queue.reserve(1000, spans).unwrap()
}

fn lost(queue: &MemoryQueue) -> u64 {
    queue.account().dropped.total()
}

#[tokio::test]
async fn delivers_what_is_pushed_and_gives_the_room_back() {
    let child = ScriptedExporter::new();
    let queue = queue(&child);
    let batch = batch_of(3);
    let room = queue.reserve(batch.memory(), 3).unwrap();
    assert_eq!(queue.bytes(), batch.memory());
    assert_eq!(queue.account().queued, 3);
    queue.push(vec![batch.clone()], room);
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
    let first = queue.reserve(600, 4).unwrap();
    assert!(!queue.has_room(401));
    assert!(queue.has_room(400));
    assert!(queue.reserve(401, 1).is_none(), "too many bytes");
    assert!(queue.reserve(1, 7).is_none(), "too many spans");
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
    assert!(queue.reserve(1000, 10).is_some());
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
    assert!(queue.reserve_by(1001, 1, never).await.is_none());
    assert!(queue.reserve_by(1, 11, never).await.is_none());
    assert!(queue.reserve_by_dropping(1001, 1).is_none());
    assert!(queue.reserve_by_dropping(1, 11).is_none());

    drop(queue.reserve_by_dropping(1000, 10).unwrap());
    let all = queue.reserve_by(1000, 10, never).await.unwrap();
    let (room, ()) = tokio::join!(queue.reserve_by(1000, 10, soon()), async { drop(all) });
    assert!(room.is_some());
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
    queue.push(vec![batch_of(2)], room(&queue, 2));
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
    queue.push(vec![batch_of(5)], both);
    assert!(queue.shutdown(soon()).await.unwrap().is_complete());
    assert_eq!(queue.account().delivered, 5);
}

#[tokio::test]
async fn the_account_closes_whatever_the_room_was_for() {
    let child = ScriptedExporter::new();
    let queue = queue(&child);
    let other = self::queue(&child);
    let too_much = room(&queue, 5);
    queue.push(vec![batch_of(3)], too_much);
    let too_little = room(&queue, 1);
    queue.push(vec![batch_of(2), batch_of(2)], too_little);
    let of_another = room(&other, 9);
    queue.push(vec![batch_of(1)], of_another);
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
    queue.push(vec![batch_of(1)], room);
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
    queue.push(vec![batch_of(2)], room);
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
    queue.push(vec![batch_of(4)], late);
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
    queue.push(vec![batch_of(2)], room);
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
    queue.push(vec![batch_of(5)], room(&queue, 5));
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
    queue.push(vec![batch_of(2)], room);
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
    let room = queue.reserve(batch.memory(), 2).unwrap();
    queue.push(vec![batch], room);
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
    queue.push(vec![batch_of(1)], room);
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
async fn a_witness_stays_until_the_last_part_of_its_batches_is_settled() {
    let child = ScriptedExporter::new();
    let queue = queue(&child);
    let gate = Gate::new();
    gate.close();
    let half = Act::DeliverHalf(Error::unavailable("the rest later"));
    child.script([half, Act::when(&gate, Act::Deliver)]);
    let witness = Arc::new(());
    let watched = Arc::downgrade(&witness);
    let batch = batch_of(5);
    queue.push_witnessed(vec![batch.clone()], room(&queue, 5), witness);
    child.wait_for_exports(2).await;
    assert!(
        watched.upgrade().is_some(),
        "half of the spans are still held"
    );
    gate.open();
    drop(queue.flush(soon()).await.unwrap());
    assert!(watched.upgrade().is_none(), "nothing is held any more");
    assert_eq!(child.received().len(), 5);
}

#[tokio::test]
async fn a_witness_ends_with_spans_that_are_refused_or_come_too_late() {
    let child = ScriptedExporter::new();
    let queue = queue(&child);
    child.script([Act::refused()]);
    let (refused, late) = (Arc::new(()), Arc::new(()));
    let watched = [Arc::downgrade(&refused), Arc::downgrade(&late)];
    queue.push_witnessed(vec![batch_of(2)], room(&queue, 2), refused);
    drop(queue.flush(soon()).await.unwrap());
    let too_late = room(&queue, 1);
    drop(queue.shutdown(soon()).await);
    queue.push_witnessed(vec![batch_of(1)], too_late, late);
    assert!(watched.iter().all(|watched| watched.upgrade().is_none()));
}
