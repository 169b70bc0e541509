//! What every queue of spans does for several readers. The tests know nothing but the trait, except for how a queue is made.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

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
use outspan::engine::MemoryQueueBuilder;
use outspan::engine::ReserveError;
use outspan::engine::SpanQueue;
use outspan_testkit::Act;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use outspan_testkit::span_ids;

const BYTES: usize = 1 << 20;

/// A reader of the queue under test.
struct Plan<'a> {
    name: &'a str,
    child: &'a ScriptedExporter,
    bytes: usize,
}

fn reader(plan: &Plan<'_>) -> MemoryQueueBuilder {
    let retry = Retry::default()
        .initial_interval(Duration::from_millis(1))
        .max_interval(Duration::from_millis(2));
    MemoryQueue::builder(plan.child.exporter())
        .name(plan.name)
        .bytes(plan.bytes)
        .retry(retry)
}

/// Makes the queue under test.
fn queue(plans: &[Plan<'_>], batches: Option<BatchLimits>) -> Arc<dyn SpanQueue> {
    let mut readers = plans.iter().map(reader);
    let first = readers.next().unwrap();
    let builder = readers.fold(first, MemoryQueueBuilder::with_reader);
    let builder = match batches {
        Some(limits) => builder.batches(limits),
        None => builder,
    };
    Arc::new(builder.start().unwrap())
}

fn of_two(children: &[ScriptedExporter; 2], batches: Option<BatchLimits>) -> Arc<dyn SpanQueue> {
    let plan = |name, child| Plan {
        name,
        child,
        bytes: BYTES,
    };
    queue(&[plan("a", &children[0]), plan("b", &children[1])], batches)
}

/// Three readers: one whose destination is healthy, one whose destination is slow, one whose destination is dead. The last
/// two have room for two and a half batches of ten spans.
struct Three {
    queue: Arc<dyn SpanQueue>,
    healthy: ScriptedExporter,
    slow: ScriptedExporter,
    dead: ScriptedExporter,
    gate: Gate,
}

impl Three {
    fn new() -> Self {
        let [healthy, slow, dead] = [(); 3].map(|()| ScriptedExporter::new());
        let gate = Gate::new();
        slow.always(Act::when(&gate, Act::Deliver));
        dead.always(Act::unavailable());
        let little = batch_of(10).memory() * 5 / 2;
        let plan = |name, child, bytes| Plan { name, child, bytes };
        let plans = [
            plan("healthy", &healthy, BYTES),
            plan("slow", &slow, little),
            plan("dead", &dead, little),
        ];
        let queue = queue(&plans, None);
        Self {
            queue,
            healthy,
            slow,
            dead,
            gate,
        }
    }
}

type Told = Arc<Mutex<Option<AckOutcome>>>;

fn source() -> (Ack, Told) {
    let told = Told::default();
    let tell = Arc::clone(&told);
    let ack = Ack::new(move |outcome| *tell.lock().unwrap() = Some(outcome));
    (ack, told)
}

fn outcome(told: &Told) -> Option<AckOutcome> {
    told.lock().unwrap().clone()
}

fn push(queue: &Arc<dyn SpanQueue>, batch: &Batch, ack: Ack) {
    let permit = queue.try_reserve(batch.memory(), batch.spans()).unwrap();
    queue.push(batch.clone(), permit, ack).unwrap();
}

fn dropped(queue: &Arc<dyn SpanQueue>, name: &str, reason: DropReason) -> u64 {
    let status = queue.reader(name).unwrap().status();
    assert!(status.account.closes(), "{}", status.account);
    status.account.dropped.of(reason)
}

fn drained(results: Vec<outspan::Result<Drained>>) -> Vec<Drained> {
    results.into_iter().map(Result::unwrap).collect()
}

/// Ten spans at most, and nothing goes before it is asked for.
fn slow_limits() -> BatchLimits {
    BatchLimits {
        spans: 10,
        delay: Duration::from_secs(3600),
        ..BatchLimits::default()
    }
}

#[tokio::test]
async fn every_reader_gets_every_batch() {
    let children = [ScriptedExporter::new(), ScriptedExporter::new()];
    for batches in [None, Some(slow_limits())] {
        let queue = of_two(&children, batches);
        let batch = batch_of(4);
        push(&queue, &batch, Ack::none());
        let told = drained(queue.flush_readers(soon()).await);
        assert!(told.iter().all(|of| of.delivered == 4 && of.is_complete()));
        for child in &children {
            assert_eq!(child.received(), span_ids(&batch));
            child.clear();
        }
        drop(drained(queue.shutdown_readers(soon()).await));
    }
}

#[tokio::test]
async fn readers_have_names() {
    let children = [ScriptedExporter::new(), ScriptedExporter::new()];
    let queue = of_two(&children, None);
    let names: Vec<_> = queue.status().into_iter().map(|of| of.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(queue.reader("b").unwrap().name(), "b");
    assert!(queue.reader("c").is_none());
    assert_eq!(queue.reader("a").unwrap().max_bytes(), BYTES);
}

#[tokio::test]
async fn dead_and_slow_readers_cost_the_healthy_one_nothing() {
    let three = Three::new();
    let queue = &three.queue;
    for _ in 0..5 {
        push(queue, &batch_of(10), Ack::none());
    }
    three.healthy.wait_for_exports(5).await;
    queue.reader("healthy").unwrap().wait_until_at_most(0).await;
    assert_eq!(
        queue.reader("healthy").unwrap().status().account.delivered,
        50
    );
    for name in ["slow", "dead"] {
        assert_eq!(dropped(queue, name, DropReason::QueueFull), 30, "{name}");
    }
    three.dead.wait_for_exports(1).await;
    assert!(!queue.reader("healthy").unwrap().is_down());
    three.gate.open();
    queue.reader("slow").unwrap().wait_until_at_most(0).await;
    assert_eq!(three.slow.received().len(), 20);

    // The one that was dead gets what it has kept.
    three.dead.always(Act::Deliver);
    let told = drained(queue.shutdown_readers(soon()).await);
    let delivered: Vec<_> = told.iter().map(|of| of.delivered).collect();
    assert_eq!(delivered, [50, 20, 20]);
    assert_eq!(three.dead.received().len(), 20);
}

#[tokio::test]
async fn ack_finishes_with_the_last_reader() {
    let three = Three::new();
    let (ack, told) = source();
    push(&three.queue, &batch_of(10), ack);
    three.healthy.wait_for_exports(1).await;
    three
        .queue
        .reader("healthy")
        .unwrap()
        .wait_until_at_most(0)
        .await;
    assert!(outcome(&told).is_none());
    three.gate.open();
    three
        .queue
        .reader("slow")
        .unwrap()
        .wait_until_at_most(0)
        .await;
    assert!(outcome(&told).is_none(), "the dead one still has it");
    three.dead.always(Act::Deliver);
    drop(drained(three.queue.flush_readers(soon()).await));
    let outcome = outcome(&told).unwrap();
    assert!(outcome.dropped.is_none());
    assert_eq!(outcome.rejected, 0);
}

#[tokio::test]
async fn ack_is_told_of_the_reader_that_had_no_space() {
    let three = Three::new();
    for _ in 0..2 {
        push(&three.queue, &batch_of(10), Ack::none());
    }
    let (ack, told) = source();
    push(&three.queue, &batch_of(10), ack);
    three.healthy.wait_for_exports(3).await;
    three
        .queue
        .reader("healthy")
        .unwrap()
        .wait_until_at_most(0)
        .await;
    drop(drained(
        three
            .queue
            .flush_readers(Deadline::after(Duration::from_millis(5)))
            .await,
    ));
    let dropped = outcome(&told).unwrap().dropped.unwrap();
    assert_eq!(dropped.reason, DropReason::QueueFull);
    three.gate.open();
}

#[tokio::test]
async fn batch_is_rejected_only_when_no_reader_has_space() {
    let three = Three::new();
    three.healthy.always(Act::when(&three.gate, Act::Deliver));
    let tenth = BYTES / 10 - 100;
    let held: Vec<_> = (0..10)
        .map(|_| three.queue.try_reserve(tenth, 1).unwrap())
        .collect();
    assert_eq!(three.queue.check(tenth), Err(ReserveError::Full));
    let error = three.queue.try_reserve(tenth, 1).unwrap_err();
    assert_eq!(error, ReserveError::Full);
    let error = three.queue.try_reserve(BYTES + 1, 1).unwrap_err();
    assert_eq!(error, ReserveError::TooLarge { max_bytes: BYTES });
    assert_eq!(three.queue.check(BYTES + 1), Err(error));
    for permit in held {
        permit.release();
    }
    assert_eq!(three.queue.check(tenth), Ok(()));
    for status in three.queue.status() {
        assert_eq!(
            status.account.received, 0,
            "{}: the sender has it",
            status.name
        );
    }
    three.gate.open();
}

#[tokio::test]
async fn queue_that_is_shut_down_takes_nothing() {
    let children = [ScriptedExporter::new(), ScriptedExporter::new()];
    let queue = of_two(&children, Some(slow_limits()));
    push(&queue, &batch_of(3), Ack::none());
    let early = queue.try_reserve(100, 1).unwrap();
    let told = drained(queue.shutdown_readers(soon()).await);
    assert!(
        told.iter().all(|of| of.delivered == 3),
        "also what was collected"
    );
    let (ack, outcome_of) = source();
    let permit = queue.push(batch_of(1), early, ack).unwrap_err();
    permit.release();
    assert!(outcome(&outcome_of).unwrap().dropped.is_some());
    assert_eq!(queue.try_reserve(1, 1).unwrap_err(), ReserveError::ShutDown);
    assert_eq!(queue.check(1), Err(ReserveError::ShutDown));
    assert_eq!(queue.reader("a").unwrap().status().account.received, 3);
}

#[tokio::test]
async fn abort_drops_and_counts_what_is_collected() {
    let children = [ScriptedExporter::new(), ScriptedExporter::new()];
    let queue = of_two(&children, Some(slow_limits()));
    let (ack, told) = source();
    push(&queue, &batch_of(3), ack);
    queue.abort().await;
    for name in ["a", "b"] {
        assert_eq!(dropped(&queue, name, DropReason::Shutdown), 3);
    }
    let dropped = outcome(&told).unwrap().dropped.unwrap();
    assert_eq!(dropped.reason, DropReason::Shutdown);
    assert!(children.iter().all(|child| child.received().is_empty()));
}

#[tokio::test]
async fn sources_that_share_a_batch_learn_of_rejections_that_are_certainly_their_own() {
    let children = [ScriptedExporter::new(), ScriptedExporter::new()];
    let refused = |spans| Act::Refuse(spans);
    for (acts, expected) in [
        // Whole at one reader: each source knows which of its spans.
        ([Act::refused(), Act::Deliver], [3, 2]),
        // In part: nobody knows whose.
        ([refused(2), Act::Deliver], [0, 0]),
        ([refused(2), refused(5)], [3, 2]),
    ] {
        for (child, act) in children.iter().zip(acts) {
            child.script([act]);
        }
        let queue = of_two(&children, Some(slow_limits()));
        let (one, told_one) = source();
        let (other, told_other) = source();
        push(&queue, &batch_of(3), one);
        push(&queue, &batch_of(2), other);
        queue.hand_over();
        drop(drained(queue.flush_readers(soon()).await));
        let rejected = [told_one, told_other].map(|told| {
            let outcome = outcome(&told).unwrap();
            assert!(outcome.dropped.is_none(), "rejected is finished");
            outcome.rejected
        });
        assert_eq!(rejected, expected);
        drop(drained(queue.shutdown_readers(soon()).await));
    }
}

#[tokio::test]
async fn sources_that_share_a_batch_all_learn_of_a_drop() {
    let children = [ScriptedExporter::new(), ScriptedExporter::new()];
    let half = Act::DeliverHalf(Error::internal("the rest never"));
    children[1].script([half]);
    let queue = of_two(&children, Some(slow_limits()));
    let (one, told_one) = source();
    let (other, told_other) = source();
    push(&queue, &batch_of(5), one);
    push(&queue, &batch_of(5), other);
    drop(drained(queue.flush_readers(soon()).await));
    for told in [told_one, told_other] {
        let dropped = outcome(&told).unwrap().dropped.unwrap();
        assert_eq!(dropped.reason, DropReason::Failed);
        assert!(
            dropped
                .error
                .unwrap()
                .to_string()
                .contains("the rest never")
        );
    }
}

/// What was pushed before a flush began is delivered when it ends, also when another thread is handing it over meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flush_misses_nothing_while_batches_are_handed_over() {
    let child = ScriptedExporter::new();
    let plan = Plan {
        name: "a",
        child: &child,
        bytes: 16 << 20,
    };
    let limits = BatchLimits {
        spans: 2,
        ..slow_limits()
    };
    let queue = queue(&[plan], Some(limits));
    let pushed = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (pusher, count) = (Arc::clone(&queue), Arc::clone(&pushed));
    let pushing = tokio::task::spawn_blocking(move || {
        for _ in 0..2000 {
            push(&pusher, &batch_of(1), Ack::none());
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    while !pushing.is_finished() {
        let before = pushed.load(std::sync::atomic::Ordering::SeqCst);
        drop(drained(queue.flush_readers(soon()).await));
        let delivered = queue.reader("a").unwrap().status().account.delivered;
        assert!(delivered >= before, "{delivered} of {before}");
    }
    pushing.await.unwrap();
    drop(drained(queue.shutdown_readers(soon()).await));
    assert_eq!(child.received().len(), 2000);
}

#[test]
fn readers_need_different_names() {
    let child = ScriptedExporter::new();
    let builder = |name: &str| MemoryQueue::builder(child.exporter()).name(name);
    let twice = builder("x")
        .with_reader(builder("y"))
        .with_reader(builder("x"));
    let error = twice.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("have the name x"), "{error}");
}
