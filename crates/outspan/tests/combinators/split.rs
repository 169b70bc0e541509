//! Batches that are too large, in parts: around scripted exporters, under a paused clock.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::DropReason;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::Retry;
use outspan::combinators::FanOut;
use outspan::combinators::WaitFor;
use outspan::engine::Ack;
use outspan::engine::MemoryQueue;
use outspan_testkit::Act;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;
use outspan_testkit::soon;
use outspan_testkit::span_ids;

const SECOND: Duration = Duration::from_secs(1);

fn too_large() -> Act {
    Act::Fail(Error::too_large("the script says too large"))
}

/// How many spans each export of the child had.
fn sizes(child: &ScriptedExporter) -> Vec<usize> {
    let calls = child.exports();
    calls.iter().map(|call| call.span_ids().len()).collect()
}

fn bytes_of(spans: usize) -> usize {
    batch_of(spans).size()
}

async fn export(exporter: &Exporter, batch: &Batch) -> Result<Delivery> {
    exporter.export(batch.clone(), soon()).await
}

fn queue_of(exporter: Exporter) -> outspan::engine::MemoryQueueBuilder {
    let interval = Duration::from_millis(1);
    let retry = Retry::default()
        .initial_interval(interval)
        .max_interval(interval);
    MemoryQueue::builder(exporter).retry(retry)
}

fn push(queue: &MemoryQueue, batch: Batch) {
    let permit = queue.try_reserve(batch.memory(), batch.spans()).unwrap();
    queue.push(batch, permit, Ack::none()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn parts_are_delivered_in_order_and_their_numbers_summed() {
    let child = ScriptedExporter::new();
    child.always(Act::AtMost(bytes_of(3)));
    let batch = batch_of(10);
    let delivery = export(&child.exporter(), &batch).await.unwrap();
    assert!(delivery.is_complete());
    assert_eq!(delivery.accepted, 10);
    assert_eq!(child.received(), span_ids(&batch));
    assert_eq!(sizes(&child), [10, 5, 3, 2, 5, 3, 2]);
    assert_eq!(delivery.attempt.attempts, 7, "refused ones count as well");
}

#[tokio::test(start_paused = true)]
async fn only_the_innermost_exporter_splits() {
    let child = ScriptedExporter::new();
    child.always(Act::AtMost(1));
    let quick = Retry::default().max_retries(3);
    let exporter = child.exporter().timeout(SECOND).retry(quick);
    let exporter = exporter.export_deadline(SECOND);
    let batch = batch_of(4);
    let delivery = export(&exporter, &batch).await.unwrap();
    assert_eq!((delivery.accepted, delivery.undelivered()), (0, 4));
    assert_eq!(sizes(&child), [4, 2, 1, 1, 2, 1, 1]);
    assert_eq!(delivery.attempt.attempts, 7);
    let left: Vec<_> = delivery.rest.iter().map(|left| &left.batch).collect();
    let ids: Vec<_> = left.iter().flat_map(|batch| span_ids(batch)).collect();
    assert_eq!(ids, span_ids(&batch));
    for left in &delivery.rest {
        assert_eq!(left.error.kind(), ErrorKind::TooLarge);
        assert_eq!(left.error.drop_reason(), DropReason::TooLarge);
    }
}

#[tokio::test(start_paused = true)]
async fn parts_that_are_left_as_too_large_are_split_too() {
    /// Delivers the first half, and calls the second one too large.
    #[derive(Debug)]
    struct FirstHalf;

    impl Export for FirstHalf {
        async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
            let half = batch.spans().div_ceil(2).max(2);
            let mut parts = batch.split_by_spans(half);
            let mut delivery = parts.next().as_ref().map(Delivery::of).unwrap();
            for part in parts {
                delivery.leave(part, Error::too_large("no more at once"));
            }
            Ok(delivery)
        }

        async fn flush(&self, _until: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }

        async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }
    }

    let exporter = Exporter::new(FirstHalf);
    let delivery = export(&exporter, &batch_of(9)).await.unwrap();
    assert_eq!((delivery.accepted, delivery.undelivered()), (9, 0));
}

#[tokio::test(start_paused = true)]
async fn parts_that_an_exporter_has_changed_are_split_too() {
    /// Gives other spans back in place of those that are too large.
    #[derive(Debug)]
    struct Changes(ScriptedExporter);

    impl Export for Changes {
        async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
            if batch.spans() <= 2 {
                return self.0.exporter().export(batch, until).await;
            }
            let changed = batch_with(batch.spans(), |_, span| span.name = "changed".to_owned());
            let mut delivery = Delivery::default();
            delivery.leave(changed, Error::too_large("more than two"));
            Ok(delivery)
        }

        async fn flush(&self, _until: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }

        async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }
    }

    let child = ScriptedExporter::new();
    let exporter = Exporter::new(Changes(child.clone()));
    let delivery = export(&exporter, &batch_of(8)).await.unwrap();
    assert_eq!((delivery.accepted, delivery.undelivered()), (8, 0));
    assert_eq!(sizes(&child), [2, 2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn each_part_is_rejected_or_taken_for_itself() {
    let child = ScriptedExporter::new();
    child.script([
        too_large(),
        too_large(),
        Act::refused(),
        Act::Refuse(1),
        too_large(),
        Act::Panic,
    ]);
    let batch = batch_of(8);
    let delivery = export(&child.exporter(), &batch).await.unwrap();
    // Spans 1 and 2 rejected, one of 3 and 4, 5 and 6 panicked, 7 and 8 delivered.
    assert_eq!((delivery.accepted, delivery.refused), (3, 1));
    let kinds: Vec<_> = delivery.rest.iter().map(|left| left.error.kind()).collect();
    assert_eq!(kinds, [ErrorKind::Refused, ErrorKind::Internal]);
    assert_eq!(span_ids(&delivery.rest[0].batch), span_ids(&batch)[..2]);
    assert_eq!(span_ids(&delivery.rest[1].batch), span_ids(&batch)[4..6]);
}

#[tokio::test(start_paused = true)]
async fn a_temporary_error_leaves_the_rest_to_go_on_with() {
    let child = ScriptedExporter::new();
    child.script([
        too_large(),
        too_large(),
        Act::Deliver,
        Act::unavailable(),
        Act::Deliver,
    ]);
    let exporter = child.exporter();
    let batch = batch_of(8);
    let delivery = export(&exporter, &batch).await.unwrap();
    assert_eq!(sizes(&child), [8, 4, 2, 2], "it stopped");
    assert_eq!(delivery.accepted, 2);
    let [left] = delivery.rest.as_slice() else {
        panic!("{delivery:?}");
    };
    assert_eq!(left.error.kind(), ErrorKind::Unavailable);
    assert_eq!(span_ids(&left.batch), span_ids(&batch)[2..]);

    // Not the six spans at once, and the part that failed comes last.
    let again = export(&exporter, &left.batch).await.unwrap();
    assert!(again.is_complete());
    assert_eq!(sizes(&child)[4..], [4, 2]);
    let mut received = child.received();
    received.sort_unstable();
    let mut sent = span_ids(&batch);
    sent.sort_unstable();
    assert_eq!(received, sent, "each once");
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_on_where_the_parts_stopped() {
    let child = ScriptedExporter::new();
    child.script([too_large(), too_large(), Act::unavailable()]);
    let retry = Retry::default().initial_interval(SECOND).max_retries(1);
    let exporter = child.exporter().retry(retry);
    let batch = batch_of(8);
    assert!(export(&exporter, &batch).await.unwrap().is_complete());
    assert_eq!(sizes(&child), [8, 4, 2, 2, 4, 2]);
}

#[tokio::test(start_paused = true)]
async fn another_exporter_gets_what_is_left_as_a_whole() {
    let near = ScriptedExporter::new();
    near.script([too_large()]);
    near.always(Act::unavailable());
    let far = ScriptedExporter::new();
    let exporter = near.exporter().fallback(far.exporter());
    let batch = batch_of(8);
    assert!(export(&exporter, &batch).await.unwrap().is_complete());
    assert_eq!((sizes(&near), sizes(&far)), (vec![8, 4], vec![8]));
    assert_eq!(far.received().len(), 8);
}

#[tokio::test]
async fn a_part_that_always_fails_does_not_keep_the_others_back() {
    /// Takes two spans at most, and never those with the first id.
    #[derive(Debug)]
    struct NotTheFirst(ScriptedExporter, outspan_testkit::SpanId);

    impl Export for NotTheFirst {
        async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
            match span_ids(&batch) {
                ids if ids.len() > 2 => Err(Error::too_large("more than two")),
                ids if ids.contains(&self.1) => Err(Error::unavailable("not this one")),
                _ => self.0.exporter().export(batch, until).await,
            }
        }

        async fn flush(&self, _until: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }

        async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }
    }

    let batch = batch_of(8);
    let child = ScriptedExporter::new();
    let exporter = Exporter::new(NotTheFirst(child.clone(), span_ids(&batch)[0].clone()));
    let queue = queue_of(exporter)
        .export_limit(Some(Duration::from_millis(300)))
        .start()
        .unwrap();
    push(&queue, batch.clone());
    let drained = queue.flush(soon()).await.unwrap();
    assert_eq!(drained.lost.of(DropReason::Expired), 2, "{drained:?}");
    assert_eq!(child.received().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn no_time_between_two_parts_loses_nothing() {
    for after in [1, 4, 9] {
        let child = ScriptedExporter::new();
        let most = bytes_of(1);
        child.always(Act::after(SECOND * after, Act::AtMost(most)));
        let retry = Retry::default().max_elapsed(None).max_retries(1000);
        let exporter = child.exporter().timeout(SECOND * 10).retry(retry);
        let batch = batch_of(16);
        let delivery = exporter.export(batch.clone(), Deadline::never()).await;
        assert!(delivery.unwrap().is_complete(), "{after}");
        let mut received = child.received();
        received.sort_unstable();
        let mut sent = span_ids(&batch);
        sent.sort_unstable();
        assert_eq!(received, sent, "{after}: each once");
        let calls = sizes(&child);
        // At most every second call is cut short.
        assert!(calls.len() <= 2 * 31, "{after}: {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_without_an_answer_is_tried_again_by_itself() {
    let child = ScriptedExporter::new();
    child.script([too_large(), Act::Hang]);
    let exporter = child.exporter();
    let batch = batch_of(4);
    let until = Deadline::after(SECOND).named("attempt timeout");
    let delivery = exporter.export(batch.clone(), until).await.unwrap();
    let [left] = delivery.rest.as_slice() else {
        panic!("{delivery:?}");
    };
    assert_eq!(left.error.kind(), ErrorKind::Timeout);
    assert!(left.error.is_temporary());
    assert!(left.error.to_string().contains("attempt timeout of 1s"));
    assert_eq!(left.batch.spans(), 4);
    let again = export(&exporter, &left.batch).await.unwrap();
    assert!(again.is_complete());
    assert_eq!(sizes(&child), [4, 2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_of_the_destination_leaves_all_parts() {
    let child = ScriptedExporter::new();
    child.script([
        too_large(),
        Act::Deliver,
        Act::Fail(Error::shut_down()),
        Act::Deliver,
    ]);
    let delivery = export(&child.exporter(), &batch_of(8)).await.unwrap();
    assert_eq!((delivery.accepted, delivery.undelivered()), (4, 4));
    assert_eq!(delivery.rest[0].error.kind(), ErrorKind::ShutDown);
    assert_eq!(sizes(&child), [8, 4, 4]);
}

#[tokio::test]
async fn the_end_of_a_shutdown_keeps_what_parts_achieved() {
    let child = ScriptedExporter::new();
    child.script([too_large(), Act::Deliver]);
    child.always(Act::Hang);
    let queue = queue_of(child.exporter()).start().unwrap();
    push(&queue, batch_of(8));
    child.wait_for_exports(3).await;
    let drained = queue.shutdown(Deadline::after(SECOND / 5)).await.unwrap();
    assert_eq!(queue.account().delivered, 4);
    assert_eq!(drained.lost.of(DropReason::Shutdown), 4, "{drained:?}");
}

#[tokio::test]
async fn an_export_that_is_dropped_gives_its_memory_back() {
    let child = ScriptedExporter::new();
    child.script([too_large(), Act::Deliver]);
    child.always(Act::Hang);
    let queue = queue_of(child.exporter()).start().unwrap();
    let batch = batch_of(8);
    push(&queue, batch.clone());
    child.wait_for_exports(3).await;
    assert!(queue.bytes() > batch.memory());
    queue.abort().await;
    assert_eq!(queue.bytes(), 0);
    assert_eq!(queue.account().open(), 0);
}

/// Finds everything but single spans too large, and counts the parts of batches that are sent at once.
#[derive(Debug, Default)]
struct CountParts {
    now: AtomicUsize,
    most: AtomicUsize,
    done: AtomicUsize,
}

#[derive(Debug)]
struct Counting(Arc<CountParts>, Gate);

impl Export for Counting {
    async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
        let counts = &self.0;
        if batch.spans() == 8 {
            self.1.passed().await;
            return Err(Error::too_large("eight are too many"));
        }
        let now = counts.now.fetch_add(1, Ordering::SeqCst) + 1;
        // Until the first batch has come to its end and made room.
        if counts.done.load(Ordering::SeqCst) < 8 {
            counts.most.fetch_max(now, Ordering::SeqCst);
        }
        tokio::task::yield_now().await;
        counts.now.fetch_sub(1, Ordering::SeqCst);
        if batch.spans() > 1 {
            return Err(Error::too_large("two are too many"));
        }
        counts.done.fetch_add(1, Ordering::SeqCst);
        Ok(Delivery::of(&batch))
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

#[tokio::test]
async fn parts_stay_within_the_budget_of_the_queue() {
    let memory = batch_of(8).memory();
    for (room_for_parts, most) in [(0, 1), (memory, 2), (4 * memory, 4)] {
        let counts = Arc::<CountParts>::default();
        let gate = Gate::new();
        let queue = queue_of(Exporter::new(Counting(Arc::clone(&counts), gate.clone())))
            .bytes(4 * memory + room_for_parts)
            .concurrent_exports(4)
            .start()
            .unwrap();
        for _ in 0..4 {
            push(&queue, batch_of(8));
        }
        gate.open();
        let flushed = queue.flush(soon()).await.unwrap();
        assert!(flushed.is_complete(), "{flushed:?}");
        assert_eq!(counts.done.load(Ordering::SeqCst), 32);
        let at_once = counts.most.load(Ordering::SeqCst);
        assert!(at_once <= most, "{at_once} parts at once, not {most}");
        assert_eq!(queue.bytes(), 0);
    }
}

#[tokio::test]
async fn a_fan_out_in_parts_counts_every_span_once() {
    let children: [ScriptedExporter; 2] = std::array::from_fn(|_| ScriptedExporter::new());
    children[0].script([too_large(), Act::Deliver, Act::unavailable()]);
    let exporter = FanOut::new()
        .wait_for(WaitFor::All)
        .to("a", children[0].exporter())
        .to("b", children[1].exporter())
        .build()
        .unwrap();
    let queue = queue_of(exporter).start().unwrap();
    let batch = batch_of(8);
    push(&queue, batch.clone());
    let flushed = queue.flush(soon()).await.unwrap();
    assert!(flushed.is_complete(), "{flushed:?}");
    assert_eq!(queue.account().delivered, 8);
    assert_eq!(sizes(&children[0]), [8, 4, 4, 4]);
    assert_eq!(sizes(&children[1]), [8], "the other one has it already");
}
