//! Fallback around scripted exporters, under a paused clock.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::combinators::Breaker;
use outspan::combinators::BreakerState;
use outspan::combinators::FallOn;
use outspan::combinators::Fallback;
use outspan_testkit::Act;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use outspan_testkit::span_ids;

const SECOND: Duration = Duration::from_secs(1);

fn children<const N: usize>() -> [ScriptedExporter; N] {
    std::array::from_fn(|_| ScriptedExporter::new())
}

fn of(children: &[ScriptedExporter]) -> Fallback {
    let names = ["primary", "second", "third"];
    let mut fallback = Fallback::new().breaker(Breaker::default().failures(2).wait(SECOND));
    for (name, child) in names.into_iter().zip(children) {
        fallback = fallback.to(name, child.exporter());
    }
    fallback
}

async fn export(exporter: &Exporter, batch: &Batch) -> Result<Delivery> {
    exporter.export(batch.clone(), soon()).await
}

#[tokio::test(start_paused = true)]
async fn the_primary_takes_everything_while_it_is_well() {
    let children = children::<2>();
    let exporter = of(&children).build().unwrap();
    let delivery = export(&exporter, &batch_of(3)).await.unwrap();
    assert_eq!(delivery.destination.as_deref(), Some("primary"));
    assert_eq!(children[1].exports().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_next_takes_over_after_trouble_that_may_pass() {
    let children = children::<3>();
    children[0].always(Act::unavailable());
    children[1].always(Act::throttled(SECOND));
    let exporter = of(&children).build().unwrap();
    let batch = batch_of(3);
    let delivery = export(&exporter, &batch).await.unwrap();
    assert_eq!(delivery.destination.as_deref(), Some("third"));
    assert_eq!((delivery.accepted, delivery.attempt.attempts), (3, 3));
    assert_eq!(children[2].received(), span_ids(&batch));
}

#[tokio::test(start_paused = true)]
async fn only_the_rest_is_handed_on() {
    let children = children::<2>();
    children[0].always(Act::DeliverHalf(Error::unavailable("half")));
    let exporter = of(&children).build().unwrap();
    let delivery = export(&exporter, &batch_of(4)).await.unwrap();
    assert_eq!(delivery.accepted, 4);
    assert_eq!(children[0].received().len(), 2);
    assert_eq!(children[1].received().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_last_destination_that_answered_is_named() {
    let children = children::<2>();
    children[0].script([
        Act::Refuse(1),
        Act::DeliverHalf(Error::unavailable("half")),
        Act::unavailable(),
    ]);
    children[1].script([Act::unavailable()]);
    let exporter = of(&children).build().unwrap();
    for name in ["primary", "primary", "second"] {
        let delivery = export(&exporter, &batch_of(2)).await.unwrap();
        assert_eq!(delivery.destination.as_deref(), Some(name));
    }
}

#[tokio::test(start_paused = true)]
async fn refused_data_is_not_offered_to_the_next_unless_asked() {
    let children = children::<2>();
    children[0].always(Act::refused());
    let exporter = of(&children).build().unwrap();
    let error = export(&exporter, &batch_of(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(
        error.to_string().contains("destination: primary"),
        "{error}"
    );
    assert_eq!(children[1].exports().len(), 0);

    let exporter = of(&children).fall_on(FallOn::Any).build().unwrap();
    assert!(export(&exporter, &batch_of(1)).await.unwrap().is_complete());
    assert_eq!(children[1].exports().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_is_down_is_left_alone_and_found_again() {
    let children = children::<2>();
    children[0].always(Act::unavailable());
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let exporter = of(&children)
        .on_change(move |event| {
            let error = event.error.is_some();
            heard
                .lock()
                .unwrap()
                .push((event.destination.to_string(), event.state, error));
        })
        .build()
        .unwrap();
    for _ in 0..10 {
        assert!(export(&exporter, &batch_of(1)).await.unwrap().is_complete());
    }
    assert_eq!(
        children[0].exports().len(),
        2,
        "left alone after two failures"
    );
    assert_eq!(children[1].received().len(), 10);

    children[0].always(Act::Deliver);
    tokio::time::advance(SECOND * 2).await;
    let delivery = export(&exporter, &batch_of(1)).await.unwrap();
    assert_eq!(delivery.destination.as_deref(), Some("primary"));
    let primary = "primary".to_owned();
    assert_eq!(
        *events.lock().unwrap(),
        [
            (primary.clone(), BreakerState::Open, true),
            (primary, BreakerState::Closed, false)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_export_never_fails_without_an_attempt() {
    let children = children::<2>();
    for child in &children {
        child.always(Act::unavailable());
    }
    let exporter = of(&children).build().unwrap();
    for _ in 0..5 {
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert!(error.is_temporary());
    }
    for child in &children {
        child.always(Act::Deliver);
    }
    let delivery = export(&exporter, &batch_of(1)).await.unwrap();
    assert_eq!(
        delivery.accepted, 1,
        "both were left alone, and one was tried"
    );
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_panics_loses_nothing() {
    let children = children::<2>();
    children[0].always(Act::Panic);
    let exporter = of(&children).fall_on(FallOn::Any).build().unwrap();
    assert!(export(&exporter, &batch_of(2)).await.unwrap().is_complete());
    assert_eq!(children[1].received().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hung_primary_leaves_time_when_it_has_a_limit_of_its_own() {
    let [hung, backup] = children::<2>();
    hung.always(Act::Hang);
    let exporter = hung.exporter().timeout(SECOND).fallback(backup.exporter());
    let until = Deadline::after(SECOND * 5);
    let delivery = exporter.export(batch_of(2), until).await.unwrap();
    assert_eq!(delivery.destination.as_deref(), Some("fallback"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_while_the_primary_comes_and_goes() {
    let children = children::<2>();
    let exporter = of(&children).build().unwrap();
    let mut sent = Vec::new();
    for round in 0..40 {
        let act = match (round / 5) % 2 {
            0 => Act::Deliver,
            _ => Act::DeliverHalf(Error::unavailable("half")),
        };
        children[0].always(act);
        let batch = batch_of(3);
        sent.extend(span_ids(&batch));
        assert!(export(&exporter, &batch).await.unwrap().is_complete());
        tokio::time::advance(SECOND / 2).await;
    }
    let mut received = children[0].received();
    received.extend(children[1].received());
    received.sort_unstable();
    sent.sort_unstable();
    assert_eq!(received, sent, "everything once");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_leaves_finding_out_to_the_next_export() {
    let children = children::<2>();
    children[0].script([Act::unavailable(), Act::unavailable(), Act::Hang]);
    let exporter = of(&children).build().unwrap();
    for _ in 0..2 {
        export(&exporter, &batch_of(1)).await.unwrap();
    }
    tokio::time::advance(SECOND * 2).await;
    let batch = batch_of(1);
    let probe = tokio::time::timeout(SECOND, export(&exporter, &batch));
    probe.await.unwrap_err();
    let delivery = export(&exporter, &batch_of(1)).await.unwrap();
    assert_eq!(delivery.destination.as_deref(), Some("primary"));
}

#[tokio::test(start_paused = true)]
async fn what_began_before_the_trouble_and_is_dropped_starts_no_second_probe() {
    let children = children::<2>();
    children[0].script([Act::Hang, Act::unavailable(), Act::unavailable(), Act::Hang]);
    let exporter = of(&children).build().unwrap();
    let batch = batch_of(1);
    let mut straggler = Box::pin(export(&exporter, &batch));
    assert!(futures_util::poll!(&mut straggler).is_pending());
    for _ in 0..2 {
        export(&exporter, &batch_of(1)).await.unwrap();
    }
    tokio::time::advance(SECOND * 2).await;
    let mut probe = Box::pin(export(&exporter, &batch));
    assert!(futures_util::poll!(&mut probe).is_pending());
    drop(straggler);
    let delivery = export(&exporter, &batch_of(1)).await.unwrap();
    assert_eq!(delivery.destination.as_deref(), Some("second"));
    assert_eq!(children[0].exports().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_failures_counts_over_as_many_exports_as_set() {
    let asked = async |acts: Vec<Act>| {
        let children = children::<2>();
        children[0].script(acts);
        let breaker = Breaker::default().failures(100).failure_rate(0.5, 4);
        let exporter = of(&children).breaker(breaker).build().unwrap();
        for _ in 0..20 {
            export(&exporter, &batch_of(1)).await.unwrap();
        }
        children[0].exports().len()
    };
    let fails = Act::unavailable;
    let well = || Act::Deliver;
    let half = vec![well(), well(), fails(), fails()];
    assert_eq!(asked(half).await, 4, "two of four");
    let less = vec![well(), well(), well(), fails()];
    assert_eq!(asked(less).await, 20, "one of four");
    let few = vec![fails(), fails(), well(), well(), well()];
    assert_eq!(asked(few).await, 20, "two, but no four yet");
}

#[tokio::test(start_paused = true)]
async fn flush_and_shutdown_reach_every_destination() {
    let children = children::<2>();
    let exporter = of(&children).build().unwrap();
    drop(exporter.flush(soon()).await.unwrap());
    drop(exporter.shutdown(soon()).await.unwrap());
    for child in &children {
        assert_eq!((child.flushes(), child.shutdowns()), (1, 1));
    }
}

#[test]
fn mistakes_are_found_when_it_is_built() {
    let child = ScriptedExporter::new();
    assert_eq!(
        Fallback::new().build().unwrap_err().kind(),
        ErrorKind::Config
    );
    let twice = Fallback::new()
        .to("a", child.exporter())
        .to("a", child.exporter());
    assert!(twice.build().unwrap_err().to_string().contains("\"a\""));
}
