use std::time::Duration;

use outspan::DropReason;
use outspan::Retry;
use outspan::engine::BatchLimits;
use outspan::engine::MemoryQueue;
use outspan::engine::MemoryQueueBuilder;
use outspan_testkit::Act;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use outspan_testkit::span_ids;

use tokio::time::Instant;

use super::*;

const LIMITS: BatchLimits = BatchLimits {
    spans: 10,
    bytes: 1 << 20,
    delay: Duration::from_secs(3600),
};

fn destination(name: &str, child: &ScriptedExporter, bytes: usize) -> MemoryQueueBuilder {
    let retry = Retry::default()
        .initial_interval(Duration::from_millis(1))
        .max_interval(Duration::from_millis(2));
    MemoryQueue::builder(child.exporter())
        .name(name)
        .bytes(bytes)
        .retry(retry)
}

fn of_destinations(
    destinations: impl IntoIterator<Item = MemoryQueueBuilder>,
    limits: BatchLimits,
) -> Pipeline {
    let destinations = destinations.into_iter();
    let queue = destinations.reduce(MemoryQueueBuilder::with_reader);
    Pipeline::new(queue.unwrap().batches(limits).start().unwrap())
}

fn pipeline(child: &ScriptedExporter, limits: BatchLimits) -> Pipeline {
    of_destinations([destination("a", child, 1 << 20)], limits)
}

fn accept(pipeline: &Pipeline, spans: Batch) -> Result<(), Refusal> {
    pipeline.accept(spans, Ack::none())
}

fn sizes(child: &ScriptedExporter) -> Vec<usize> {
    let exports = child.exports();
    exports.iter().map(|call| call.span_ids().len()).collect()
}

#[tokio::test]
async fn requests_are_merged_up_to_the_bound_of_spans() {
    let child = ScriptedExporter::new();
    let pipeline = pipeline(&child, LIMITS);
    let pieces: Vec<_> = [4, 4, 4, 3, 7].map(batch_of).into();
    for piece in &pieces {
        accept(&pipeline, piece.clone()).unwrap();
    }
    pipeline.shutdown(soon()).await;
    let mut sizes = sizes(&child);
    sizes.sort_unstable();
    assert_eq!(
        sizes,
        [7, 7, 8],
        "a request is not torn apart to fill a batch"
    );
    let mut sent: Vec<_> = pieces.iter().flat_map(span_ids).collect();
    let mut received = child.received();
    sent.sort_unstable();
    received.sort_unstable();
    assert_eq!(received, sent);
}

/// A pipeline whose destination takes nothing until the gate opens, with batches that wait for 5 s already.
async fn behind(others: &[&ScriptedExporter]) -> (Pipeline, ScriptedExporter, Gate) {
    let (slow, gate) = (ScriptedExporter::new(), Gate::new());
    slow.always(Act::when(&gate, Act::Deliver));
    let max_bytes = 40 * batch_of(10).memory();
    let queues = others.iter().enumerate();
    let queues = queues.map(|(n, to)| destination(&format!("other {n}"), to, max_bytes));
    let all = std::iter::once(destination("slow", &slow, max_bytes)).chain(queues);
    // With the clock of the test.
    let all = all.map(|to| to.runtime(tokio::runtime::Handle::current()));
    let pipeline = of_destinations(all, LIMITS).with_max_wait(Duration::from_secs(4));
    for _ in 0..10 {
        pipeline.accept_waiting(batch_of(10), Ack::none()).unwrap();
    }
    slow.wait_for_exports(4).await;
    for other in others {
        other.wait_for_exports(10).await;
        other.wait_until_idle().await;
    }
    tokio::time::advance(Duration::from_secs(5)).await;
    (pipeline, slow, gate)
}

#[tokio::test(start_paused = true)]
async fn waiting_senders_keep_spans_that_would_wait_too_long() {
    let (pipeline, slow, gate) = behind(&[]).await;
    let accept_waiting = || pipeline.accept_waiting(batch_of(10), Ack::none());
    assert!(matches!(accept_waiting(), Err(Refusal::Full { .. })));
    assert_eq!(
        pipeline.status()[0].account.received,
        100,
        "nothing was taken"
    );
    accept(&pipeline, batch_of(10)).expect("nobody waits for these");
    gate.open();
    slow.wait_for_exports(11).await;
    accept_waiting().expect("nothing waits any more");
    pipeline.shutdown(soon()).await;
    assert_eq!(pipeline.status()[0].account.delivered, 120);
}

#[tokio::test(start_paused = true)]
async fn destination_that_is_far_behind_costs_only_itself_the_spans() {
    let quick = ScriptedExporter::new();
    let (pipeline, _slow, gate) = behind(&[&quick]).await;
    let (tell, told) = tokio::sync::oneshot::channel();
    let ack = Ack::new(move |outcome| drop(tell.send(outcome)));
    pipeline.accept_waiting(batch_of(10), ack).unwrap();
    let outcome = told.await.unwrap();
    assert_eq!(outcome.dropped.unwrap().reason, DropReason::QueueFull);
    gate.open();
    pipeline.shutdown(soon()).await;
    let delivered = pipeline.status().into_iter().map(|to| to.account.delivered);
    assert_eq!(delivered.collect::<Vec<_>>(), [100, 110]);
}

#[tokio::test]
async fn requests_are_merged_up_to_the_bound_of_bytes() {
    let child = ScriptedExporter::new();
    let piece = batch_of(2);
    let limits = BatchLimits {
        bytes: piece.size() * 3,
        ..LIMITS
    };
    let pipeline = pipeline(&child, limits);
    for _ in 0..4 {
        accept(&pipeline, batch_of(2)).unwrap();
    }
    pipeline.shutdown(soon()).await;
    let mut sizes = sizes(&child);
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 6]);
}

#[tokio::test]
async fn a_request_beyond_the_bounds_is_split() {
    let child = ScriptedExporter::new();
    let pipeline = pipeline(&child, LIMITS);
    let large = batch_of(25);
    accept(&pipeline, large.clone()).unwrap();
    pipeline.shutdown(soon()).await;
    assert!(
        sizes(&child).iter().all(|size| *size <= 10),
        "{:?}",
        sizes(&child)
    );
    let mut received = child.received();
    let mut sent = span_ids(&large);
    received.sort_unstable();
    sent.sort_unstable();
    assert_eq!(received, sent);
    let status = &pipeline.status()[0];
    assert_eq!((status.account.delivered, status.bytes), (25, 0));
}

#[tokio::test]
async fn thousands_of_small_requests_become_one_batch() {
    let child = ScriptedExporter::new();
    let limits = BatchLimits {
        spans: 100_000,
        ..LIMITS
    };
    let destination = destination("a", &child, 1 << 20).batches(limits);
    let queue = Arc::new(destination.start().unwrap());
    for _ in 0..1000 {
        let spans = batch_of(1);
        let permit = queue.try_reserve(spans.memory(), 1).unwrap();
        queue.push(spans, permit, Ack::none()).unwrap();
    }
    assert!(
        queue.collected_pieces() < 100,
        "small requests are put together early"
    );
    drop(queue.shutdown(soon()).await.unwrap());
    assert_eq!(sizes(&child), [1000]);
}

#[tokio::test]
async fn a_batch_goes_when_its_delay_is_over() {
    let child = ScriptedExporter::new();
    let limits = BatchLimits {
        delay: Duration::from_millis(300),
        ..LIMITS
    };
    let pipeline = pipeline(&child, limits);
    let began = Instant::now();
    accept(&pipeline, batch_of(1)).unwrap();
    accept(&pipeline, batch_of(1)).unwrap();
    child.wait_for_exports(1).await;
    assert_eq!(sizes(&child), [2]);
    assert!(began.elapsed() >= limits.delay);
}

#[tokio::test]
async fn a_batch_goes_when_somebody_cannot_wait_for_its_delay() {
    let child = ScriptedExporter::new();
    let pipeline = pipeline(&child, LIMITS);
    accept(&pipeline, batch_of(1)).unwrap();
    pipeline.hand_over();
    child.wait_for_exports(1).await;
    assert_eq!(sizes(&child), [1]);
}

#[tokio::test]
async fn every_destination_gets_the_same_bytes() {
    let children = [ScriptedExporter::new(), ScriptedExporter::new()];
    let named = ["a", "b"].into_iter().zip(&children);
    let destinations = named.map(|(name, child)| destination(name, child, 1 << 20));
    let pipeline = of_destinations(destinations, LIMITS);
    let batch = batch_of(10);
    accept(&pipeline, batch.clone()).unwrap();
    pipeline.shutdown(soon()).await;
    for child in &children {
        assert_eq!(child.received(), span_ids(&batch));
    }
}

#[tokio::test]
async fn a_full_destination_costs_itself_alone() {
    let gate = Gate::new();
    let [stuck, healthy] = [ScriptedExporter::new(), ScriptedExporter::new()];
    stuck.always(Act::when(&gate, Act::Deliver));
    let piece = batch_of(10);
    let destinations = vec![
        destination("stuck", &stuck, piece.memory() * 5 / 2),
        destination("healthy", &healthy, 1 << 20),
    ];
    let pipeline = of_destinations(destinations, LIMITS);
    for _ in 0..5 {
        accept(&pipeline, batch_of(10)).unwrap();
    }
    healthy.wait_for_exports(5).await;
    gate.open();
    pipeline.shutdown(soon()).await;
    let [stuck, healthy] = &pipeline.status()[..] else {
        panic!("two destinations");
    };
    assert_eq!(healthy.account.delivered, 50);
    assert_eq!(stuck.account.delivered, 20);
    assert_eq!(stuck.account.dropped.of(DropReason::QueueFull), 30);
    assert!(stuck.account.closes() && healthy.account.closes());
}

#[tokio::test]
async fn a_sender_is_told_to_come_back_when_no_destination_has_room() {
    let gate = Gate::new();
    let child = ScriptedExporter::new();
    child.always(Act::when(&gate, Act::Deliver));
    let piece = batch_of(10);
    let destinations = vec![destination("a", &child, piece.memory() + 100)];
    let pipeline = of_destinations(destinations, LIMITS);
    accept(&pipeline, piece.clone()).unwrap();
    child.wait_for_exports(1).await;
    let full = Refusal::Full {
        retry_after: BUSY_WAIT,
    };
    assert_eq!(accept(&pipeline, piece.clone()), Err(full));
    assert_eq!(pipeline.check(piece.size()), Err(full));
    assert_eq!(pipeline.check(1), Ok(()));
    assert_eq!(
        pipeline.status()[0].account.received,
        10,
        "the sender keeps what is refused"
    );
    let never = Refusal::TooLarge {
        limit: piece.memory() + 100,
    };
    assert_eq!(accept(&pipeline, batch_of(100)), Err(never));
    gate.open();
    child.wait_until_idle().await;
    pipeline.shutdown(soon()).await;
    assert_eq!(pipeline.status()[0].account.delivered, 10);
}

#[tokio::test]
async fn senders_wait_longer_while_every_destination_is_down() {
    let child = ScriptedExporter::new();
    child.always(Act::unavailable());
    let piece = batch_of(10);
    let pipeline = of_destinations([destination("a", &child, piece.memory() + 100)], LIMITS);
    accept(&pipeline, piece.clone()).unwrap();
    child.wait_for_exports(2).await;
    let full = Refusal::Full {
        retry_after: DOWN_WAIT,
    };
    assert_eq!(accept(&pipeline, piece), Err(full));
    pipeline.abort().await;
    assert_eq!(
        pipeline.status()[0]
            .account
            .dropped
            .of(DropReason::Shutdown),
        10
    );
}

#[tokio::test]
async fn nothing_is_accepted_while_stopping() {
    let child = ScriptedExporter::new();
    let pipeline = pipeline(&child, LIMITS);
    accept(&pipeline, batch_of(1)).unwrap();
    pipeline.shutdown(soon()).await;
    assert!(matches!(
        accept(&pipeline, batch_of(1)),
        Err(Refusal::Stopping { .. })
    ));
    assert!(matches!(pipeline.check(1), Err(Refusal::Stopping { .. })));
    let account = pipeline.status()[0].account;
    assert_eq!((account.received, account.delivered), (1, 1));
}

#[tokio::test]
async fn stopping_at_once_counts_the_open_batch() {
    let child = ScriptedExporter::new();
    let pipeline = pipeline(&child, LIMITS);
    accept(&pipeline, batch_of(3)).unwrap();
    pipeline.abort().await;
    let account = pipeline.status()[0].account;
    assert_eq!(account.dropped.of(DropReason::Shutdown), 3);
    assert!(account.closes());
    assert_eq!(child.received(), []);
}

#[tokio::test]
async fn an_empty_request_is_nothing() {
    let child = ScriptedExporter::new();
    let pipeline = pipeline(&child, LIMITS);
    accept(&pipeline, Batch::empty()).unwrap();
    pipeline.shutdown(soon()).await;
    assert_eq!(child.exports().len(), 0);
}

/// How long a sender would wait now, given a clock that stands still otherwise.
async fn slowed(pipeline: &Pipeline) -> bool {
    let mut slow_down = std::pin::pin!(pipeline.slow_down());
    futures_util::poll!(&mut slow_down).is_pending()
}

#[tokio::test]
async fn senders_are_slowed_down_while_the_queue_is_crowded() {
    let gate = Gate::new();
    let child = ScriptedExporter::new();
    child.always(Act::when(&gate, Act::Deliver));
    let piece = batch_of(10);
    let destinations = vec![destination("a", &child, piece.memory() * 12)];
    let pipeline = of_destinations(destinations, LIMITS);
    accept(&pipeline, piece).unwrap();
    assert!(!slowed(&pipeline).await, "one batch is no crowd");
    accept(&pipeline, batch_of(10)).unwrap();
    accept(&pipeline, batch_of(10)).unwrap();
    assert!(slowed(&pipeline).await);
    let began = Instant::now();
    pipeline.slow_down().await;
    assert!(began.elapsed() >= CROWDED_WAIT, "but not for long");
    gate.open();
    child.wait_until_idle().await;
    pipeline.shutdown(soon()).await;
    assert!(!slowed(&pipeline).await);
}

#[tokio::test]
async fn senders_are_not_slowed_down_for_one_destination_of_several() {
    let gate = Gate::new();
    let [stuck, healthy] = [ScriptedExporter::new(), ScriptedExporter::new()];
    stuck.always(Act::when(&gate, Act::Deliver));
    let bound = batch_of(10).memory() * 12;
    let destinations = vec![
        destination("stuck", &stuck, bound),
        destination("healthy", &healthy, bound),
    ];
    let pipeline = of_destinations(destinations, LIMITS);
    for _ in 0..5 {
        accept(&pipeline, batch_of(10)).unwrap();
    }
    healthy.wait_for_exports(5).await;
    healthy.wait_until_idle().await;
    pipeline.queue.readers()[1].wait_until_at_most(0).await;
    assert!(!slowed(&pipeline).await);
    gate.open();
    pipeline.shutdown(soon()).await;
}

#[tokio::test]
async fn senders_are_not_slowed_down_while_every_destination_is_down() {
    let child = ScriptedExporter::new();
    child.always(Act::unavailable());
    let destinations = vec![destination("a", &child, batch_of(10).memory() * 12)];
    let pipeline = of_destinations(destinations, LIMITS);
    for _ in 0..5 {
        accept(&pipeline, batch_of(10)).unwrap();
    }
    child.wait_for_exports(3).await;
    assert!(!slowed(&pipeline).await, "waiting would not help");
    pipeline.abort().await;
}
