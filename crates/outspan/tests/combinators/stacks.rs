//! What `docs/stacks.md` says about the order of combinators.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::Retry;
use outspan::combinators::Balance;
use outspan::combinators::FanOut;
use outspan::combinators::Queued;
use outspan_testkit::Act;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn children() -> [ScriptedExporter; 2] {
    [ScriptedExporter::new(), ScriptedExporter::new()]
}

async fn export(exporter: &Exporter, batch: &Batch) -> Result<Delivery> {
    let until = Deadline::after(SECOND * 300);
    exporter.export(batch.clone(), until).await
}

fn retry() -> Retry {
    Retry::default().initial_interval(SECOND).jitter(0.0)
}

#[tokio::test(start_paused = true)]
async fn a_limit_inside_a_retry_leaves_time_for_a_second_attempt() {
    let hung = || {
        let child = ScriptedExporter::new();
        child.script([Act::Hang]);
        child
    };
    let child = hung();
    let right = child.exporter().timeout(SECOND * 10).retry(retry());
    assert!(export(&right, &batch_of(1)).await.unwrap().is_complete());
    assert_eq!(child.exports().len(), 2);

    let child = hung();
    let wrong = child.exporter().retry(retry()).timeout(SECOND * 10);
    export(&wrong, &batch_of(1)).await.unwrap_err();
    assert_eq!(child.exports().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn errors_say_which_of_two_limits_passed() {
    let child = ScriptedExporter::new();
    child.always(Act::Hang);
    let attempt = child
        .exporter()
        .timeout(SECOND)
        .export_deadline(SECOND * 60);
    let error = export(&attempt, &batch_of(1)).await.unwrap_err();
    assert!(error.to_string().contains("attempt timeout"), "{error}");
    let whole = child
        .exporter()
        .timeout(SECOND * 60)
        .export_deadline(SECOND);
    let error = export(&whole, &batch_of(1)).await.unwrap_err();
    assert!(error.to_string().contains("export deadline"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_primary_with_a_limit_falls_back_sooner() {
    for (limit, expected) in [(Some(SECOND * 2), SECOND * 3), (None, SECOND * 151)] {
        let [primary, backup] = children();
        primary.always(Act::Hang);
        backup.always(Act::after(SECOND, Act::Deliver));
        let primary = match limit {
            Some(limit) => primary.exporter().timeout(limit),
            None => primary.exporter(),
        };
        let either = primary.fallback(backup.exporter());
        let began = Instant::now();
        assert!(export(&either, &batch_of(1)).await.unwrap().is_complete());
        let waited = began.elapsed();
        assert!(waited >= expected, "{waited:?}");
        assert!(waited < expected + SECOND / 2, "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_around_the_primary_makes_every_fall_slow() {
    let [primary, backup] = children();
    primary.always(Act::unavailable());
    let slow = primary
        .exporter()
        .retry(retry())
        .fallback(backup.exporter());
    let began = Instant::now();
    export(&slow, &batch_of(1)).await.unwrap();
    assert!(began.elapsed() > SECOND * 30);

    let [primary, backup] = children();
    primary.always(Act::unavailable());
    let quick = primary
        .exporter()
        .fallback(backup.exporter())
        .retry(retry());
    let began = Instant::now();
    export(&quick, &batch_of(1)).await.unwrap();
    assert!(began.elapsed() < SECOND);
}

#[tokio::test]
async fn a_queue_outside_a_fallback_lets_it_see_failures() {
    let [primary, backup] = children();
    primary.always(Act::unavailable());
    let right = primary.exporter().fallback(backup.exporter());
    let right = right.queued().unwrap();
    export(&right, &batch_of(2)).await.unwrap();
    drop(right.flush(soon()).await.unwrap());
    assert_eq!(backup.received().len(), 2);

    let [primary, backup] = children();
    primary.script([Act::unavailable()]);
    let wrong = primary.exporter().queued().unwrap();
    let wrong = wrong.fallback(backup.exporter());
    export(&wrong, &batch_of(2)).await.unwrap();
    primary.wait_for_exports(1).await;
    drop(wrong.shutdown(soon()).await.unwrap());
    assert_eq!(backup.received(), [], "the queue tried again by itself");
    assert_eq!(primary.received().len(), 2);
}

#[tokio::test]
async fn a_queue_for_each_destination_keeps_them_apart() {
    let gate = Gate::new();
    let small = |exporter: Exporter| Queued::new(exporter).bytes(2000).concurrent_exports(1);
    let [near, far] = children();
    far.always(Act::when(&gate, Act::Deliver));
    let right = FanOut::new()
        .to("near", small(near.exporter()).build().unwrap())
        .to("far", far.exporter().queued().unwrap())
        .build()
        .unwrap();
    for _ in 0..20 {
        export(&right, &batch_of(1)).await.unwrap();
    }
    near.wait_for_exports(20).await;

    let [near, far] = children();
    far.always(Act::when(&gate, Act::Deliver));
    let both = FanOut::new()
        .to("near", near.exporter())
        .to("far", far.exporter());
    let wrong = small(both.build().unwrap()).build().unwrap();
    let mut accepted = 0;
    for _ in 0..20 {
        let until = Deadline::after(Duration::from_millis(1));
        accepted += u32::from(wrong.export(batch_of(1), until).await.is_ok());
    }
    assert!(accepted < 20, "the slow one fills the queue of both");
    assert!(near.received().len() <= 1);
    gate.open();
    drop(right.shutdown(soon()).await.unwrap());
    drop(wrong.shutdown(soon()).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn two_retries_do_not_multiply() {
    let child = ScriptedExporter::new();
    child.always(Act::unavailable());
    let three = || retry().max_retries(3).max_elapsed(None);
    let twice = child.exporter().retry(three()).retry(three());
    let error = export(&twice, &batch_of(1)).await.unwrap_err();
    assert!(error.is_temporary() && !crate::is_tried_again(&error).await);
    assert_eq!(child.exports().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_member_costs_its_limit_and_the_next_has_the_batch() {
    let [a, b] = children();
    a.always(Act::Hang);
    let limit = SECOND * 5;
    let balance = Balance::new()
        .to("a", a.exporter().timeout(limit))
        .to("b", b.exporter().timeout(limit));
    let exporter = balance.build().unwrap().retry(retry());
    let began = Instant::now();
    for _ in 0..2 {
        export(&exporter, &batch_of(1)).await.unwrap();
    }
    assert_eq!(b.received().len(), 2);
    assert!(began.elapsed() < limit * 2);
}
