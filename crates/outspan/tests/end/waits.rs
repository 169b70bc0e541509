//! Waits that a destination asked for, at the shutdown of what is around it.

use std::sync::Arc;
use std::time::Duration;

use outspan::Deadline;
use outspan::Error;
use outspan::Export;
use outspan::Exporter;
use outspan::Retry;
use outspan::combinators::Breaker;
use outspan::combinators::Fallback;
use outspan::combinators::FanOut;
use outspan::combinators::Queued;
use outspan::engine::Ack;
use outspan::engine::MemoryQueue;
use outspan_testkit::Act;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

fn in_a_minute() -> Act {
    Act::Fail(Error::throttled("overloaded").with_retry_after(MINUTE))
}

/// A retry without limits of its own.
fn patient() -> Retry {
    Retry::default().max_elapsed(None).jitter(0.0)
}

fn export(exporter: &Arc<Exporter>) -> JoinHandle<outspan::Result<outspan::Delivery>> {
    let exporter = Arc::clone(exporter);
    tokio::spawn(async move { exporter.export(batch_of(1), Deadline::never()).await })
}

async fn waiting(
    child: &ScriptedExporter,
    exporter: &Arc<Exporter>,
    count: usize,
) -> Vec<JoinHandle<outspan::Result<outspan::Delivery>>> {
    let exports = (0..count).map(|_| export(exporter)).collect();
    child.wait_for_exports(count).await;
    // Sleeps: in the test's time, until all wait.
    tokio::time::sleep(Duration::from_millis(1)).await;
    exports
}

#[tokio::test(start_paused = true)]
async fn retry_sends_one_at_shutdown_and_the_rest_after_success() {
    let child = ScriptedExporter::new();
    child.script([in_a_minute(), in_a_minute(), in_a_minute()]);
    let exporter = Arc::new(child.exporter().retry(patient()));
    let exports = waiting(&child, &exporter, 3).await;
    let began = Instant::now();
    drop(exporter.shutdown(soon()).await.unwrap());
    for export in exports {
        assert_eq!(export.await.unwrap().unwrap().accepted, 1);
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(child.exports().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn retry_sends_only_one_at_shutdown_when_it_fails() {
    let child = ScriptedExporter::new();
    child.always(in_a_minute());
    let exporter = Arc::new(child.exporter().retry(patient()));
    let exports = waiting(&child, &exporter, 3).await;
    drop(exporter.shutdown(soon()).await.unwrap());
    for export in exports {
        let error = export.await.unwrap().unwrap_err();
        assert_eq!(error.retry_after(), Some(MINUTE));
    }
    assert_eq!(child.exports().len(), 4);
    assert_eq!(child.shutdowns(), 1);
}

#[tokio::test(start_paused = true)]
async fn retry_caps_what_is_asked_for() {
    let child = ScriptedExporter::new();
    let year = Error::throttled("overloaded").with_retry_after(MINUTE * 60 * 24 * 365);
    child.script([Act::Fail(year)]);
    let retry = patient().max_retry_after(Duration::from_secs(10));
    let exporter = child.exporter().retry(retry);
    let began = Instant::now();
    exporter
        .export(batch_of(1), Deadline::never())
        .await
        .unwrap();
    let waited = began.elapsed().as_secs_f64();
    assert!((10.0..=11.1).contains(&waited), "{waited}");
}

/// A queue with spans whose first attempt was answered.
async fn queue_with_spans(child: &ScriptedExporter, exporter: Exporter) -> MemoryQueue {
    let queue = MemoryQueue::builder(exporter)
        .attempt_timeout(None)
        .start()
        .unwrap();
    for _ in 0..3 {
        let batch = batch_of(2);
        let permit = queue.try_reserve(batch.memory(), 2).unwrap();
        queue.push(batch, permit, Ack::none()).unwrap();
    }
    child.wait_for_exports(1).await;
    queue
}

#[tokio::test]
async fn queue_reaches_through_a_retry_that_waits() {
    let child = ScriptedExporter::new();
    child.always(in_a_minute());
    let queue = queue_with_spans(&child, child.exporter().retry(patient())).await;
    child.wait_for_exports(3).await;
    child.always(Act::Deliver);
    let drained = queue.shutdown(soon()).await.unwrap();
    assert_eq!(drained.delivered, 6, "{drained}");
}

#[tokio::test]
async fn queue_reaches_through_breakers_that_are_open() {
    for healthy in [0, 1] {
        let children = [ScriptedExporter::new(), ScriptedExporter::new()];
        let breaker = Breaker::default().failures(1);
        let mut fallback = Fallback::new().breaker(breaker);
        for (child, name) in children.iter().zip(["first", "second"]) {
            child.always(in_a_minute());
            fallback = fallback.to(name, child.exporter());
        }
        let queue = queue_with_spans(&children[1], fallback.build().unwrap()).await;
        children[healthy].always(Act::Deliver);
        let drained = queue.shutdown(soon()).await.unwrap();
        assert_eq!(drained.delivered, 6, "{healthy}: {drained}");
    }
}

#[tokio::test]
async fn queue_inside_another_one_is_treated_alike() {
    let child = ScriptedExporter::new();
    child.always(in_a_minute());
    let inner = Queued::new(child.exporter()).name("backend");
    let queue = queue_with_spans(&child, inner.build().unwrap()).await;
    let drained = queue.flush(soon()).await.unwrap();
    assert_eq!(drained.left, 6);
    assert_eq!(drained.cause().unwrap().destination(), Some("backend"));
    let text = drained.to_string();
    assert!(text.contains("asked to wait: 60s"), "{text}");
    child.always(Act::Deliver);
    let drained = queue.shutdown(soon()).await.unwrap();
    assert_eq!(drained.delivered, 6, "{drained}");
}

#[tokio::test]
async fn losses_of_a_shutdown_name_cause_and_destination() {
    let child = ScriptedExporter::new();
    child.always(in_a_minute());
    let inner = Queued::new(child.exporter()).name("backend");
    let queue = queue_with_spans(&child, inner.build().unwrap()).await;
    let drained = queue.shutdown(soon()).await.unwrap();
    assert_eq!(drained.lost.total(), 6, "{drained}");
    let text = drained.to_string();
    assert!(
        text.contains("lost 6 (6 shutdown): backend: overloaded"),
        "{text}"
    );
    assert_eq!(queue.shutdown(soon()).await.unwrap(), drained);
}

/// A queue in front of three destinations that all get the same spans.
async fn queue_of_three(waiting: &[usize], batches: usize) -> ([ScriptedExporter; 3], MemoryQueue) {
    let children = [(); 3].map(|()| ScriptedExporter::new());
    let mut fan_out = FanOut::new();
    for (child, name) in children.iter().zip(["a", "b", "c"]) {
        fan_out = fan_out.to(name, child.exporter());
    }
    for number in waiting {
        children[*number].always(in_a_minute());
    }
    let queue = MemoryQueue::builder(fan_out.build().unwrap())
        .concurrent_exports(1)
        .start()
        .unwrap();
    for _ in 0..batches {
        let batch = batch_of(2);
        let permit = queue.try_reserve(batch.memory(), 2).unwrap();
        queue.push(batch, permit, Ack::none()).unwrap();
    }
    for child in &children {
        child.wait_for_exports(1).await;
    }
    // Waits until the queue has the answer: nothing is in flight.
    let deadline = Instant::now() + Duration::from_secs(10);
    while queue.next_attempt_in().is_none() && Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    (children, queue)
}

#[tokio::test]
async fn one_of_three_that_waits_keeps_nothing_from_the_others_at_shutdown() {
    let (children, queue) = queue_of_three(&[1], 30).await;
    let drained = queue.shutdown(soon()).await.unwrap();
    assert_eq!(drained.lost.total(), 60, "{drained}");
    let text = drained.to_string();
    assert!(text.contains("b (2 of 2 spans): overloaded"), "{text}");
    assert_eq!(children[0].received().len(), 60);
    assert_eq!(children[2].received().len(), 60);
    assert_eq!(children[1].exports().len(), 2, "one before, one at the end");
}

#[tokio::test]
async fn one_of_three_that_is_back_gets_everything_at_shutdown() {
    let (children, queue) = queue_of_three(&[0, 1, 2], 30).await;
    children[1].always(Act::Deliver);
    let drained = queue.shutdown(soon()).await.unwrap();
    assert_eq!(drained.lost.total(), 60, "{drained}");
    assert_eq!(children[1].received().len(), 60);
    for child in [&children[0], &children[2]] {
        assert_eq!(child.exports().len(), 2, "one before, one at the end");
    }
}

#[tokio::test]
async fn three_that_are_back_get_everything_at_shutdown() {
    let (children, queue) = queue_of_three(&[0, 1, 2], 30).await;
    for child in &children {
        child.always(Act::Deliver);
    }
    let drained = queue.shutdown(soon()).await.unwrap();
    assert_eq!(drained.delivered, 60, "{drained}");
    for child in &children {
        assert_eq!(child.received().len(), 60);
    }
}

#[tokio::test]
async fn destination_that_hangs_is_named_among_several_at_shutdown() {
    for shape in ["fan-out", "fallback"] {
        let children = [ScriptedExporter::new(), ScriptedExporter::new()];
        children[1].always(Act::Hang);
        let exporter = match shape {
            "fan-out" => FanOut::new()
                .to("healthy", children[0].exporter())
                .to("hanging", children[1].exporter())
                .build(),
            _ => {
                // A healthy one would have the other half of the time, and take everything.
                children[0].always(Act::Hang);
                Fallback::new()
                    .to("first", children[0].exporter())
                    .to("hanging", children[1].exporter())
                    .build()
            }
        };
        // The exports begin before the shutdown, and have much more time than that.
        let first = usize::from(shape == "fan-out");
        let queue = queue_with_spans(&children[first], exporter.unwrap()).await;
        let end = Deadline::after(Duration::from_millis(100)).named("my limit");
        let drained = queue.shutdown(end).await.unwrap();
        let text = drained.to_string();
        assert_eq!(drained.lost.total(), 6, "{shape}: {text}");
        assert!(text.contains("hanging"), "{shape}: {text}");
        assert!(!text.contains("healthy"), "{shape}: {text}");
        assert!(text.contains("my limit of 100ms passed"), "{shape}: {text}");
    }
}
