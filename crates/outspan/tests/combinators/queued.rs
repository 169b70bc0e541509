//! The queued combinator around a scripted exporter.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::DropReason;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::Retry;
use outspan::combinators::FullPolicy;
use outspan::combinators::QueueHandle;
use outspan::combinators::Queued;
use outspan::engine::BatchLimits;
use outspan_testkit::Act;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use outspan_testkit::span_ids;

async fn export(exporter: &Exporter, batch: &Batch) -> Result<Delivery> {
    exporter.export(batch.clone(), soon()).await
}

fn quick(child: &ScriptedExporter) -> Queued {
    let retry = Retry::default()
        .initial_interval(Duration::from_millis(1))
        .max_interval(Duration::from_millis(2));
    Queued::new(child.exporter()).retry(retry)
}

/// A queue of three batches of two spans in front of an exporter that waits for the gate, already full.
async fn full(policy: FullPolicy) -> (Exporter, QueueHandle, ScriptedExporter, Gate, Vec<Batch>) {
    let gate = Gate::new();
    let child = ScriptedExporter::new();
    child.always(Act::when(&gate, Act::Deliver));
    let batches: Vec<_> = (0..4).map(|_| batch_of(2)).collect();
    let (exporter, handle) = quick(&child)
        .bytes(batches[0].memory() * 7 / 2)
        .concurrent_exports(1)
        .when_full(policy)
        .build_with_handle()
        .unwrap();
    for batch in &batches[..3] {
        export(&exporter, batch).await.unwrap();
    }
    child.wait_for_exports(1).await;
    (exporter, handle, child, gate, batches)
}

#[tokio::test]
async fn success_means_accepted_and_the_caller_waits_for_nobody() {
    let gate = Gate::new();
    let child = ScriptedExporter::new();
    child.always(Act::when(&gate, Act::Deliver));
    let (exporter, handle) = quick(&child).build_with_handle().unwrap();
    let batch = batch_of(2);
    assert_eq!(export(&exporter, &batch).await.unwrap().accepted, 2);
    assert_eq!(child.received(), []);
    gate.open();
    let drained = exporter.flush(soon()).await.unwrap();
    assert!(drained.is_complete());
    assert_eq!(child.received(), span_ids(&batch));
    assert_eq!((handle.account().delivered, handle.bytes()), (2, 0));
}

#[tokio::test]
async fn a_full_queue_lets_the_caller_wait_for_room() {
    let (exporter, handle, child, gate, batches) = full(FullPolicy::Wait).await;
    let until = Deadline::after(Duration::from_millis(30));
    let error = exporter
        .export(batches[3].clone(), until)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert!(error.is_temporary());
    assert_eq!(handle.account().received, 6, "the caller still has it");
    let last = export(&exporter, &batches[3]);
    let (accepted, ()) = futures_util::join!(last, async { gate.open() });
    accepted.unwrap();
    drop(exporter.shutdown(soon()).await.unwrap());
    assert_eq!(child.received().len(), 8);
}

#[tokio::test]
async fn a_full_queue_refuses_the_newest_at_once() {
    let (exporter, handle, child, gate, batches) = full(FullPolicy::DropNewest).await;
    let error = exporter
        .export(batches[3].clone(), Deadline::never())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("the queue is full"), "{error}");
    gate.open();
    drop(exporter.shutdown(soon()).await.unwrap());
    assert_eq!(child.received().len(), 6);
    assert_eq!(handle.account().received, 6);
}

#[tokio::test]
async fn a_full_queue_drops_the_oldest_that_waits_and_counts_it() {
    let (exporter, handle, child, gate, batches) = full(FullPolicy::DropOldest).await;
    export(&exporter, &batches[3]).await.unwrap();
    let account = handle.account();
    assert_eq!(account.dropped.of(DropReason::QueueFull), 2);
    assert!(account.closes());
    gate.open();
    drop(exporter.shutdown(soon()).await.unwrap());
    let kept = [&batches[0], &batches[2], &batches[3]];
    let kept: Vec<_> = kept.into_iter().flat_map(span_ids).collect();
    assert_eq!(child.received(), kept);
}

#[tokio::test]
async fn what_could_never_fit_is_too_large() {
    let child = ScriptedExporter::new();
    for policy in [
        FullPolicy::Wait,
        FullPolicy::DropNewest,
        FullPolicy::DropOldest,
    ] {
        let exporter = quick(&child).bytes(500).when_full(policy).build().unwrap();
        let error = export(&exporter, &batch_of(50)).await.unwrap_err();
        assert!(error.is_too_large(), "{error}");
    }
}

#[tokio::test]
async fn a_part_is_charged_as_long_as_it_is_sent() {
    let gate = Gate::new();
    let child = ScriptedExporter::new();
    child.script([Act::AtMost(1)]);
    child.always(Act::when(&gate, Act::Deliver));
    let (exporter, handle) = quick(&child)
        .concurrent_exports(1)
        .build_with_handle()
        .unwrap();
    let batch = batch_of(8);
    export(&exporter, &batch).await.unwrap();
    child.wait_for_exports(2).await;
    let half = batch.split_by_spans(4).next().unwrap();
    assert_eq!(handle.bytes(), batch.memory() + half.memory());
    gate.open();
    drop(exporter.shutdown(soon()).await.unwrap());
    assert_eq!((child.received().len(), handle.bytes()), (8, 0));
}

#[tokio::test]
async fn batches_are_merged_on_request() {
    let child = ScriptedExporter::new();
    let limits = BatchLimits {
        spans: 6,
        delay: Duration::from_secs(3600),
        ..BatchLimits::default()
    };
    let exporter = quick(&child).batches(limits).build().unwrap();
    for _ in 0..7 {
        export(&exporter, &batch_of(2)).await.unwrap();
    }
    drop(exporter.flush(soon()).await.unwrap());
    let mut sizes: Vec<_> = child
        .exports()
        .iter()
        .map(|call| call.span_ids().len())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 6, 6]);
    export(&exporter, &batch_of(1)).await.unwrap();
    drop(exporter.shutdown(soon()).await.unwrap());
    assert_eq!(child.received().len(), 15);
}

#[tokio::test]
async fn a_merged_batch_goes_when_its_delay_is_over() {
    let child = ScriptedExporter::new();
    let limits = BatchLimits {
        delay: Duration::from_millis(20),
        ..BatchLimits::default()
    };
    let exporter = quick(&child).batches(limits).build().unwrap();
    export(&exporter, &batch_of(1)).await.unwrap();
    export(&exporter, &batch_of(1)).await.unwrap();
    child.wait_for_exports(1).await;
    child.wait_until_idle().await;
    assert_eq!(child.received().len(), 2);
}

#[tokio::test]
async fn temporary_failures_are_made_good_and_told_meanwhile() {
    let gate = Gate::new();
    let child = ScriptedExporter::new();
    child.script([Act::unavailable(), Act::unavailable()]);
    child.always(Act::when(&gate, Act::Deliver));
    let (exporter, handle) = quick(&child).build_with_handle().unwrap();
    export(&exporter, &batch_of(3)).await.unwrap();
    child.wait_for_exports(3).await;
    assert!(handle.trouble().is_some());
    gate.open();
    assert!(exporter.flush(soon()).await.unwrap().is_complete());
    assert_eq!(handle.trouble(), None);
}

#[tokio::test]
async fn a_shutdown_out_of_time_counts_what_is_lost() {
    let (exporter, handle, child, _gate, _) = full(FullPolicy::Wait).await;
    let until = Deadline::after(Duration::from_millis(30));
    let drained = exporter.shutdown(until).await.unwrap();
    assert_eq!(drained.lost.of(DropReason::Shutdown), 6);
    assert!(handle.account().closes());
    assert_eq!(child.shutdowns(), 1);
}

#[tokio::test]
async fn an_export_that_waits_for_room_hears_of_the_shutdown() {
    let (exporter, handle, _child, _gate, batches) = full(FullPolicy::Wait).await;
    let waiting = export(&exporter, &batches[3]);
    let until = Deadline::after(Duration::from_millis(30));
    let (waited, drained) = futures_util::join!(waiting, exporter.shutdown(until));
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::ShutDown);
    assert_eq!(drained.unwrap().lost.of(DropReason::Shutdown), 6);
    assert_eq!(handle.account().received, 6, "the caller still has it");
}

#[tokio::test]
async fn a_queue_that_is_dropped_lets_go_of_its_exporter() {
    let child = ScriptedExporter::new();
    let exporter = quick(&child)
        .batches(BatchLimits::default())
        .build()
        .unwrap();
    export(&exporter, &batch_of(1)).await.unwrap();
    drop(exporter.shutdown(soon()).await.unwrap());
    drop(exporter);
    assert_eq!(child.received().len(), 1);
}

#[test]
fn mistakes_are_found_when_it_is_built() {
    let child = ScriptedExporter::new();
    let no_spans = BatchLimits {
        spans: 0,
        ..BatchLimits::default()
    };
    for wrong in [quick(&child).bytes(0), quick(&child).batches(no_spans)] {
        assert_eq!(wrong.build().unwrap_err().kind(), ErrorKind::Config);
    }
}
