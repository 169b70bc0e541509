//! Limits around scripted exporters, under a paused clock.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::combinators::Limited;
use outspan_testkit::Act;
use outspan_testkit::Ended;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::watched_batch;
use proptest::prelude::*;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

async fn export(exporter: &Exporter, spans: usize) -> Result<Delivery> {
    exporter.export(batch_of(spans), Deadline::never()).await
}

/// When each export reached the destination, in seconds since `began`.
fn begins(child: &ScriptedExporter, began: Instant) -> Vec<f64> {
    let exports = child.exports().into_iter();
    exports
        .map(|call| ((call.at - began).as_secs_f64() * 100.0).round() / 100.0)
        .collect()
}

fn sizes(child: &ScriptedExporter) -> Vec<usize> {
    let exports = child.exports().into_iter();
    exports.map(|call| call.span_ids().len()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_second_s_worth_may_leave_at_once_and_then_the_rate() {
    let child = ScriptedExporter::new();
    let exporter = child
        .exporter()
        .limited(Limited::new().spans_per_second(10));
    let began = Instant::now();
    for spans in [4, 6, 5, 5, 1] {
        export(&exporter, spans).await.unwrap();
    }
    assert_eq!(begins(&child, began), [0.0, 0.0, 0.5, 1.0, 1.1]);
    tokio::time::advance(60 * SECOND).await;
    let began = Instant::now();
    child.clear();
    export(&exporter, 10).await.unwrap();
    export(&exporter, 1).await.unwrap();
    assert_eq!(
        begins(&child, began),
        [0.0, 0.1],
        "a pause saves one burst, no more"
    );
}

#[tokio::test(start_paused = true)]
async fn bytes_are_limited_by_the_size_of_the_batch() {
    let child = ScriptedExporter::new();
    let batch = batch_of(3);
    let limits = Limited::new().bytes_per_second(batch.size() as u64);
    let exporter = child.exporter().limited(limits);
    let began = Instant::now();
    for _ in 0..3 {
        let exported = exporter.export(batch.clone(), Deadline::never()).await;
        exported.unwrap();
    }
    assert_eq!(begins(&child, began), [0.0, 1.0, 2.0]);
}

#[tokio::test(start_paused = true)]
async fn of_two_rates_the_slower_one_counts() {
    let child = ScriptedExporter::new();
    let limits = Limited::new().spans_per_second(2).bytes_per_second(1 << 30);
    let exporter = child.exporter().limited(limits);
    let began = Instant::now();
    for _ in 0..3 {
        export(&exporter, 2).await.unwrap();
    }
    assert_eq!(begins(&child, began), [0.0, 1.0, 2.0]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_the_bucket_goes_when_it_is_full_and_the_next_pay() {
    let child = ScriptedExporter::new();
    let exporter = child
        .exporter()
        .limited(Limited::new().spans_per_second(10));
    let began = Instant::now();
    for spans in [1, 50, 1] {
        export(&exporter, spans).await.unwrap();
    }
    // Full again after 0.1 s; the debt of 40 takes 4 s, and the last one 0.1 s more.
    assert_eq!(begins(&child, began), [0.0, 0.1, 4.2]);
    assert_eq!(sizes(&child), [1, 50, 1], "nothing is split");
}

#[tokio::test(start_paused = true)]
async fn the_burst_can_be_set() {
    let child = ScriptedExporter::new();
    let limits = Limited::new().spans_per_second(10).burst(3 * SECOND);
    let exporter = child.exporter().limited(limits);
    let began = Instant::now();
    for spans in [30, 10] {
        export(&exporter, spans).await.unwrap();
    }
    assert_eq!(begins(&child, began), [0.0, 1.0]);

    child.clear();
    let limits = Limited::new().spans_per_second(10).burst(Duration::ZERO);
    let exporter = child.exporter().limited(limits);
    let began = Instant::now();
    for spans in [5, 5, 1] {
        export(&exporter, spans).await.unwrap();
    }
    assert_eq!(begins(&child, began), [0.0, 0.5, 1.0]);
}

#[tokio::test(start_paused = true)]
async fn first_come_is_first_served_whatever_the_size() {
    let child = ScriptedExporter::new();
    let exporter = child
        .exporter()
        .limited(Limited::new().spans_per_second(10));
    let exports = [10, 9, 1, 8, 2].map(|spans| export(&exporter, spans));
    for exported in join_all(exports).await {
        exported.unwrap();
    }
    assert_eq!(sizes(&child), [10, 9, 1, 8, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_deadline_is_an_error_at_once_that_names_the_limit() {
    let child = ScriptedExporter::new();
    let exporter = child
        .exporter()
        .limited(Limited::new().spans_per_second(10));
    export(&exporter, 10).await.unwrap();
    let began = Instant::now();
    let until = Deadline::after(SECOND / 2).named("patience");
    let error = exporter.export(batch_of(8), until).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert!(error.is_temporary());
    assert_eq!(
        error.to_string(),
        "the limit of 10 spans per second leaves no room before the patience of 500ms"
    );
    assert_eq!(error.retry_after(), Some(SECOND * 8 / 10));
    assert_eq!(error.attempt().attempts, 0, "nothing was sent");
    assert_eq!(began.elapsed(), Duration::ZERO);
    // It took nothing: what fits goes on as if it had never been there.
    export(&exporter, 1).await.unwrap();
    assert_eq!(begins(&child, began)[1..], [0.1]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_line_gives_up_at_the_deadline() {
    let child = ScriptedExporter::new();
    let limits = Limited::new()
        .spans_per_second(10)
        .bytes_per_second(1 << 20);
    let exporter = child.exporter().limited(limits);
    export(&exporter, 10).await.unwrap();
    let began = Instant::now();
    let first = export(&exporter, 10);
    let second = exporter.export(batch_of(1), Deadline::after(SECOND / 2));
    let second = async {
        let error = second.await.unwrap_err();
        (error, began.elapsed())
    };
    let (first, (error, took)) = futures_util::join!(first, second);
    first.unwrap();
    assert!(took >= SECOND / 2 && took < SECOND * 6 / 10, "{took:?}");
    assert_eq!(error.kind(), ErrorKind::Throttled);
    let text = error.to_string();
    assert!(
        text.contains("10 spans per second or the limit of 1048576 bytes per second"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_exports_are_under_way_than_allowed() {
    let child = ScriptedExporter::new();
    child.always(Act::after(SECOND, Act::Deliver));
    let exporter = child.exporter().limited(Limited::new().concurrency(2));
    let began = Instant::now();
    let exports = (1..=5).map(|spans| export(&exporter, spans));
    for exported in join_all(exports).await {
        exported.unwrap();
    }
    assert_eq!(child.in_progress_most(), 2);
    assert_eq!(sizes(&child), [1, 2, 3, 4, 5]);
    assert_eq!(begins(&child, began), [0.0, 0.0, 1.0, 1.0, 2.0]);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_others_to_end_has_a_deadline_too() {
    let child = ScriptedExporter::new();
    child.always(Act::after(10 * SECOND, Act::Deliver));
    let exporter = child.exporter().limited(Limited::new().concurrency(1));
    let first = export(&exporter, 1);
    let second = exporter.export(batch_of(1), Deadline::after(SECOND));
    let (first, second) = futures_util::join!(first, second);
    first.unwrap();
    let error = second.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert_eq!(
        error.to_string(),
        "the limit of 1 concurrent exports leaves no room before the deadline of 1s"
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_is_dropped_while_it_waits_takes_nothing() {
    let child = ScriptedExporter::new();
    let limits = Limited::new().spans_per_second(10).concurrency(1);
    let exporter = child.exporter().limited(limits);
    export(&exporter, 10).await.unwrap();
    let began = Instant::now();
    let (batch, released) = watched_batch(10);
    {
        let mut waiting = Box::pin(exporter.export(batch, Deadline::never()));
        assert!(waiting.as_mut().now_or_never().is_none());
    }
    released.by(Deadline::after(SECOND)).await;
    export(&exporter, 1).await.unwrap();
    assert_eq!(begins(&child, began)[1..], [0.1]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_dropped_on_its_way_lets_the_next_go() {
    let child = ScriptedExporter::new();
    child.script([Act::Stall]);
    let exporter = child.exporter().limited(Limited::new().concurrency(1));
    {
        let mut stalled = Box::pin(export(&exporter, 1));
        assert!(stalled.as_mut().now_or_never().is_none());
    }
    export(&exporter, 2).await.unwrap();
    assert_eq!(child.exports()[0].ended, Ended::Dropped);
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_waits_at_once_and_not_what_is_on_its_way() {
    let child = ScriptedExporter::new();
    let gate = Gate::new();
    child.script([Act::when(&gate, Act::Deliver)]);
    let exporter = Arc::new(child.exporter().limited(Limited::new().concurrency(1)));
    let exports = [1, 2].map(|spans| {
        let exporter = Arc::clone(&exporter);
        tokio::spawn(async move { export(&exporter, spans).await })
    });
    child.wait_for_exports(1).await;
    let [sending, waiting] = exports;
    drop(exporter.shutdown(Deadline::never()).await.unwrap());
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
    gate.open();
    assert_eq!(sending.await.unwrap().unwrap().accepted, 1);
    assert_eq!(child.shutdowns(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_empty_batch_does_not_wait() {
    let child = ScriptedExporter::new();
    let exporter = child.exporter().limited(Limited::new().spans_per_second(1));
    export(&exporter, 100).await.unwrap();
    let began = Instant::now();
    exporter
        .export(Batch::empty(), Deadline::never())
        .await
        .unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_for_one_goes_to_the_next() {
    let [one, other] = [ScriptedExporter::new(), ScriptedExporter::new()];
    let limits = Limited::new().spans_per_second(5);
    let exporter = one.exporter().limited(limits).fallback(other.exporter());
    for _ in 0..2 {
        let until = Deadline::after(SECOND / 10);
        let delivery = exporter.export(batch_of(5), until).await.unwrap();
        assert_eq!(delivery.accepted, 5);
    }
    assert_eq!((one.received().len(), other.received().len()), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn settings_without_sense_do_no_harm() {
    let limits = [
        Limited::new(),
        Limited::new().spans_per_second(0).burst(Duration::MAX),
        Limited::new()
            .spans_per_second(u64::MAX)
            .bytes_per_second(u64::MAX),
        Limited::new().concurrency(0),
        Limited::new().concurrency(usize::MAX),
        Limited::new().bytes_per_second(0),
    ];
    for limits in limits {
        let child = ScriptedExporter::new();
        let exporter = child.exporter().limited(limits.clone());
        let until = Deadline::after(SECOND);
        let delivery = exporter.export(batch_of(3), until).await.unwrap();
        assert_eq!(delivery.accepted, 3, "{limits:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// In no stretch of time does more leave than the rate allows in it and in the burst, besides the batch that ends it.
    #[test]
    fn the_rate_holds_in_every_stretch_of_time(
        batches in prop::collection::vec((1..40_usize, 0..3_000_u64), 1..20),
        rate in 1..50_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let child = ScriptedExporter::new();
        let total = batches.len();
        runtime.block_on(async {
            let exporter = child.exporter().limited(Limited::new().spans_per_second(rate));
            let exports = batches.iter().map(|(spans, pause)| {
                let exporter = &exporter;
                async move {
                    // Sleeps: on the paused clock, until its turn to come.
                    tokio::time::sleep(Duration::from_millis(*pause)).await;
                    export(exporter, *spans).await.unwrap();
                }
            });
            join_all(exports).await;
        });
        let exports = child.exports();
        prop_assert_eq!(exports.len(), total);
        for first in 0..total {
            let mut left = 0;
            for call in &exports[first..] {
                let time = (call.at - exports[first].at).as_secs_f64();
                prop_assert!(left as f64 <= rate as f64 * (time + 1.0) + 0.1 + largest(&batches), "{left} in {time} s");
                left += call.span_ids().len();
            }
        }
    }
}

fn largest(batches: &[(usize, u64)]) -> f64 {
    batches.iter().map(|(spans, _)| *spans).max().unwrap_or(0) as f64
}
