//! Exporting from anywhere: no runtime, one without drivers, one that stands still; and hooks that panic.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use futures_executor::block_on;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Retry;
use outspan::otlp::OutgoingRequest;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;
use outspan_testkit::batch_of;
use outspan_testkit::soon;

use crate::support::Wire;
use crate::support::export;

over_each_wire![
    works_in_a_runtime_of_one_thread_that_is_blocked,
    works_for_a_hook_of_another_exporter,
    a_hook_that_panics_is_an_error,
];

/// A whole stack with everything that waits: a hung attempt, a backoff, a delivery, an end.
async fn use_a_stack(collector: &Collector, exporter: Exporter) {
    collector.script([
        Answer::Stall,
        Answer::refuse(AnswerCode::UNAVAILABLE, "not now"),
    ]);
    let exporter = exporter
        .timeout(Duration::from_millis(100))
        .retry(Retry::default().initial_interval(Duration::from_millis(5)))
        .export_deadline(Duration::from_secs(20));
    let delivery = export(&exporter, &batch_of(2)).await.unwrap();
    assert_eq!((delivery.accepted, delivery.attempt.attempts), (2, 3));
    drop(exporter.flush(soon()).await.unwrap());
    drop(exporter.shutdown(soon()).await.unwrap());
}

fn each_wire(test: impl Fn(Wire)) {
    [Wire::Grpc, Wire::HttpProtobuf, Wire::HttpJson]
        .into_iter()
        .for_each(test);
}

#[test]
fn works_without_any_runtime() {
    each_wire(|wire| {
        let collector = wire.collector();
        block_on(use_a_stack(&collector, wire.exporter(&collector)));
    });
}

#[test]
fn works_in_a_runtime_without_timers_and_sockets() {
    each_wire(|wire| {
        let collector = wire.collector();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(use_a_stack(&collector, wire.exporter(&collector)));
    });
}

#[test]
fn works_in_a_runtime_of_several_threads() {
    each_wire(|wire| {
        let collector = wire.collector();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(use_a_stack(&collector, wire.exporter(&collector)));
    });
}

/// What a `main` under `tokio::main(flavor = "current_thread")` does that waits for a flush the simple way.
async fn works_in_a_runtime_of_one_thread_that_is_blocked(wire: Wire) {
    let collector = wire.collector();
    block_on(use_a_stack(&collector, wire.exporter(&collector)));
}

/// An exporter outlives the runtime that first used it, connection and all.
#[test]
fn a_connection_belongs_to_no_runtime_of_the_caller_s() {
    each_wire(|wire| {
        let collector = wire.collector();
        let exporter = wire.exporter(&collector);
        for _ in 0..3 {
            outspan_testkit::run_test(async {
                export(&exporter, &batch_of(1)).await.unwrap();
            });
        }
        assert_eq!(collector.connections(), 1);
    });
}

#[test]
fn works_from_many_threads_at_once() {
    each_wire(|wire| {
        let collector = wire.collector();
        let exporter = wire.exporter(&collector);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        block_on(export(&exporter, &batch_of(1))).unwrap();
                    }
                });
            }
        });
        assert_eq!(collector.span_count(), 80);
    });
}

/// A token that is fetched through another exporter's connection: work within our own runtime.
async fn works_for_a_hook_of_another_exporter(wire: Wire) {
    let collector = wire.collector();
    let inner = wire.exporter(&collector);
    let outer = wire
        .to_collector(&collector)
        .max_concurrent_exports(1)
        .header_provider(move |_| {
            let inner = inner.clone().timeout(Duration::from_secs(5));
            async move {
                export(&inner, &batch_of(1)).await?;
                Ok(Vec::new())
            }
        })
        .build()
        .unwrap();
    export(&outer, &batch_of(1)).await.unwrap();
    assert_eq!(collector.span_count(), 2);
}

async fn a_hook_that_panics_is_an_error(wire: Wire) {
    let collector = wire.collector();
    let panics = Arc::new(AtomicBool::new(true));
    let (in_provider, in_interceptor) = (Arc::clone(&panics), Arc::clone(&panics));
    let exporters = [
        wire.to_collector(&collector)
            .max_concurrent_exports(1)
            .header_provider(move |_| {
                let panics = Arc::clone(&in_provider);
                async move {
                    assert!(!panics.load(Ordering::SeqCst), "a provider's own mistake");
                    Ok(Vec::new())
                }
            })
            .build()
            .unwrap(),
        wire.to_collector(&collector)
            .max_concurrent_exports(1)
            .interceptor(move |_: &mut OutgoingRequest<'_>| {
                let panics = in_interceptor.load(Ordering::SeqCst);
                assert!(!panics, "an interceptor's own mistake");
                Ok(())
            })
            .build()
            .unwrap(),
    ];
    for exporter in exporters {
        panics.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            let error = export(&exporter, &batch_of(1)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
            assert!(
                error.chain().to_string().contains("own mistake"),
                "{error:?}"
            );
        }
        panics.store(false, Ordering::SeqCst);
        export(&exporter, &batch_of(1)).await.unwrap();
    }
}
