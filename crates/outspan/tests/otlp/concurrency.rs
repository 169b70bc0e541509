//! Many exports at once, their bound, and what is left of those that nobody waits for any more.

use std::time::Duration;

use futures_util::future::join_all;
use outspan::Deadline;
use outspan::ErrorKind;
use outspan::Export;
use outspan_testkit::Answer;
use outspan_testkit::Gate;
use outspan_testkit::OnConnect;
use outspan_testkit::batch_of;
use outspan_testkit::run_test;
use outspan_testkit::soon;
use outspan_testkit::watched_batch;

use crate::support::SOON;
use crate::support::Wire;
use crate::support::export;

over_each_wire![
    exports_run_at_once_up_to_their_bound,
    an_export_that_cannot_begin_says_so,
    a_dropped_export_frees_its_place_and_its_stream,
    a_dropped_dial_does_not_keep_the_others_waiting,
    shutdown_belongs_to_one_owner,
    running_exports_outlive_a_shutdown,
];

/// Checklist rules 16, 17, 59.
async fn exports_run_at_once_up_to_their_bound(wire: Wire) {
    for bound in [1, 5] {
        let collector = wire.collector();
        let gate = Gate::new();
        collector.always(Answer::stall_until(&gate, Answer::Accept));
        let exporter = wire
            .to_collector(&collector)
            .max_concurrent_exports(bound)
            .build()
            .unwrap();
        let exports: Vec<_> = (0..12).map(|_| batch_of(1)).collect();
        let all = join_all(exports.iter().map(|batch| export(&exporter, batch)));
        let watching = async {
            collector.wait_for_in_flight(bound, SOON).await;
            gate.open();
        };
        let (results, ()) = futures_util::join!(all, watching);
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert_eq!(collector.in_flight_most(), bound);
        assert_eq!(collector.span_count(), 12);
    }
}

async fn an_export_that_cannot_begin_says_so(wire: Wire) {
    let collector = wire.collector();
    collector.always(Answer::Stall);
    let exporter = wire.to_collector(&collector).max_concurrent_exports(1);
    let exporter = exporter.build().unwrap();
    let other = exporter.clone();
    let running = tokio::spawn(async move { export(&other, &batch_of(1)).await });
    collector.wait_for_in_flight(1, SOON).await;

    let until = Deadline::after(Duration::from_millis(100)).named("patience");
    let error = exporter.export(batch_of(1), until).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.is_temporary());
    assert_eq!(error.attempt().attempts, 0);
    let text = error.to_string();
    assert!(text.contains("no export could begin"), "{text}");
    assert!(text.contains("patience"), "{text}");
    assert_eq!(collector.requests().len(), 1);
    running.abort();
}

async fn a_dropped_export_frees_its_place_and_its_stream(wire: Wire) {
    let collector = wire.collector();
    let exporter = wire.to_collector(&collector).max_concurrent_exports(1);
    let exporter = exporter.build().unwrap();
    export(&exporter, &batch_of(1)).await.unwrap();
    for _ in 0..20 {
        collector.always(Answer::Stall);
        let (batch, released) = watched_batch(1);
        let other = exporter.clone();
        let running = tokio::spawn(async move { other.export(batch, soon()).await });
        collector.wait_for_in_flight(1, SOON).await;
        running.abort();
        collector.wait_for_in_flight(0, SOON).await;
        released.by(soon()).await;
        collector.always(Answer::Accept);
        export(&exporter, &batch_of(1)).await.unwrap();
    }
    if wire.is_grpc() {
        // A stream was reset each time; the connection stayed.
        assert_eq!(collector.connections(), 1);
    }
}

/// HTTP/2 dials once for all; whoever dials may go away meanwhile.
async fn a_dropped_dial_does_not_keep_the_others_waiting(wire: Wire) {
    let collector = wire.collector();
    collector.on_connect(OnConnect::Silence);
    let exporter = wire.exporter(&collector);
    let other = exporter.clone();
    let first = tokio::spawn(async move { export(&other, &batch_of(1)).await });
    collector.wait_for_connections(1, SOON).await;
    let other = exporter.clone();
    let waiting = tokio::spawn(async move { export(&other, &batch_of(1)).await });
    tokio::task::yield_now().await;
    collector.on_connect(OnConnect::Serve);
    first.abort();
    collector.disconnect_all();
    // The second either had the silent connection, which is gone now, or dials anew.
    let second = waiting.await.unwrap();
    assert!(second.is_ok() || second.unwrap_err().is_temporary());
    export(&exporter, &batch_of(1)).await.unwrap();
}

/// Part 22: two providers share one exporter, and neither closes it for the other.
async fn shutdown_belongs_to_one_owner(wire: Wire) {
    let collector = wire.collector();
    let one = wire.exporter(&collector);
    let other = one.clone();
    export(&one, &batch_of(1)).await.unwrap();
    export(&other, &batch_of(1)).await.unwrap();
    assert_eq!(collector.connections(), 1, "clones share a connection");

    drop(one.shutdown(soon()).await.unwrap());
    let error = export(&one, &batch_of(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
    let of_the_dead = one.clone();
    let error = export(&of_the_dead, &batch_of(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
    export(&other, &batch_of(1)).await.unwrap();
    assert_eq!(collector.open_connections(), 1);

    drop(other.shutdown(soon()).await.unwrap());
    collector.wait_for_open_connections(0, SOON).await;
    let error = export(&other, &batch_of(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
    assert_eq!(collector.connections(), 1);
}

async fn running_exports_outlive_a_shutdown(wire: Wire) {
    let collector = wire.collector();
    let gate = Gate::new();
    collector.always(Answer::stall_until(&gate, Answer::Accept));
    let exporter = wire.exporter(&collector);
    let batch = batch_of(3);
    let running = export(&exporter, &batch);
    let ending = async {
        collector.wait_for_in_flight(1, SOON).await;
        drop(exporter.shutdown(soon()).await.unwrap());
        gate.open();
    };
    let (delivery, ()) = futures_util::join!(running, ending);
    assert_eq!(delivery.unwrap().accepted, 3);
    collector.wait_for_open_connections(0, SOON).await;
}

/// Checklist rule 16: many calls in flight, one connection.
#[test]
fn sixteen_exports_share_one_grpc_connection() {
    run_test(async {
        let collector = Wire::Grpc.collector();
        let gate = Gate::new();
        collector.always(Answer::stall_until(&gate, Answer::Accept));
        let exporter = Wire::Grpc.exporter(&collector);
        let batches: Vec<_> = (0..16).map(|_| batch_of(1)).collect();
        let all = join_all(batches.iter().map(|batch| export(&exporter, batch)));
        let watching = async {
            collector.wait_for_in_flight(16, SOON).await;
            gate.open();
        };
        let (results, ()) = futures_util::join!(all, watching);
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert_eq!(collector.connections(), 1);
    });
}
