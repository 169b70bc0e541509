//! Exporters on a runtime of the program's own: which threads they use, several owners, and what its end does.

use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use futures_executor::block_on;
use outspan::Compression;
use outspan::Deadline;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Retry;
use outspan::Runtime;
use outspan::Secret;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tokio::runtime::Builder;
use tokio::runtime::Handle;

use crate::support::SOON;
use crate::support::Wire;
use crate::support::export;

/// The name of each thread of the runtimes that tests give.
const NAME: &str = "given";

fn multi_thread() -> tokio::runtime::Runtime {
    let mut builder = Builder::new_multi_thread();
    let builder = builder.worker_threads(2).thread_name(NAME);
    builder.enable_all().build().unwrap()
}

fn each_wire(test: impl Fn(Wire)) {
    [Wire::Grpc, Wire::HttpProtobuf, Wire::HttpJson]
        .into_iter()
        .for_each(test);
}

/// A runtime of one thread, which drives it until the value is dropped.
struct Driven {
    handle: Handle,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Driven {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let drive = move || drop(runtime.block_on(stopped));
        let thread = thread::Builder::new().name(NAME.to_owned()).spawn(drive);
        Self {
            handle,
            stop: Some(stop),
            thread: Some(thread.unwrap()),
        }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// The threads on which an exporter works, as a hook of it sees them.
#[derive(Clone, Debug, Default)]
struct Threads(Arc<Mutex<Vec<String>>>);

impl Threads {
    fn watched(&self, wire: Wire, collector: &Collector) -> outspan::otlp::Builder {
        let threads = self.clone();
        wire.to_collector(collector).header_provider(move |_| {
            let name = thread::current().name().unwrap_or_default().to_owned();
            threads.0.lock().unwrap().push(name);
            async { Ok(Vec::<(String, Secret)>::new()) }
        })
    }

    fn assert_all(&self, name: &str) {
        let seen = self.0.lock().unwrap();
        assert!(!seen.is_empty());
        assert!(seen.iter().all(|seen| seen == name), "{seen:?}");
    }
}

/// A hung attempt, a backoff, a delivery, an end: everything that waits.
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
    assert_eq!(delivery.accepted, 2);
    drop(exporter.flush(soon()).await.unwrap());
    drop(exporter.shutdown(soon()).await.unwrap());
}

#[test]
fn exporter_works_on_the_library_s_thread_by_default() {
    each_wire(|wire| {
        let collector = wire.collector();
        let threads = Threads::default();
        let exporter = threads.watched(wire, &collector).build().unwrap();
        multi_thread().block_on(use_a_stack(&collector, exporter));
        let shared = threads.watched(wire, &collector);
        let shared = shared.runtime(Runtime::shared()).build().unwrap();
        block_on(use_a_stack(&collector, shared));
        threads.assert_all("outspan");
    });
}

#[test]
fn exporter_works_on_a_given_multi_thread_runtime() {
    each_wire(|wire| {
        let collector = wire.collector();
        let threads = Threads::default();
        let runtime = multi_thread();
        for caller_is_inside in [false, true] {
            let exporter = threads.watched(wire, &collector);
            let exporter = exporter.runtime(runtime.handle().clone()).build().unwrap();
            let work = async {
                use_a_stack(&collector, exporter).await;
            };
            match caller_is_inside {
                true => thread::scope(|scope| {
                    let entered = thread::Builder::new().name(NAME.to_owned());
                    let run = || runtime.block_on(work);
                    entered.spawn_scoped(scope, run).unwrap();
                }),
                false => block_on(work),
            }
        }
        threads.assert_all(NAME);
    });
}

#[test]
fn exporter_works_on_a_given_current_thread_runtime() {
    each_wire(|wire| {
        let collector = wire.collector();
        let threads = Threads::default();
        let driven = Driven::new();
        let exporter = threads.watched(wire, &collector);
        let exporter = exporter.runtime(driven.handle.clone()).build().unwrap();
        block_on(use_a_stack(&collector, exporter));
        threads.assert_all(NAME);
    });
}

#[test]
fn large_batches_are_compressed_on_a_given_runtime() {
    each_wire(|wire| {
        let collector = wire.collector();
        let driven = Driven::new();
        let exporter = wire.to_collector(&collector).compression(Compression::Gzip);
        let exporter = exporter.runtime(driven.handle.clone()).build().unwrap();
        let batch = batch_of(2000);
        assert!(batch.size() > 64 << 10, "it is large");
        block_on(export(&exporter, &batch)).unwrap();
        assert_eq!(collector.span_count(), 2000);
    });
}

#[test]
fn owners_on_several_runtimes_share_one_connection() {
    each_wire(|wire| {
        let collector = wire.collector();
        let home = multi_thread();
        let exporter = wire.to_collector(&collector);
        let exporter = exporter.runtime(home.handle().clone()).build().unwrap();
        let owners = [exporter.clone(), exporter.clone(), exporter];
        let [first, second, third] = owners;
        let caller = multi_thread();
        caller.block_on(export(&first, &batch_of(1))).unwrap();
        home.block_on(export(&second, &batch_of(1))).unwrap();
        // The runtime of one caller ends; its connection is that of the exporter's own.
        drop(caller);
        block_on(export(&third, &batch_of(1))).unwrap();
        assert_eq!((collector.connections(), collector.span_count()), (1, 3));
        drop(block_on(first.shutdown(soon())).unwrap());
        home.block_on(export(&second, &batch_of(1))).unwrap();
        assert_eq!(collector.connections(), 1);
    });
}

#[test]
fn end_of_the_runtime_ends_exports_in_flight() {
    each_wire(|wire| {
        let collector = wire.collector();
        collector.always(Answer::Stall);
        let runtime = multi_thread();
        let exporter = wire.to_collector(&collector);
        let exporter = exporter.runtime(runtime.handle().clone()).build().unwrap();
        let began = Instant::now();
        let ended = thread::scope(|scope| {
            let in_flight = scope.spawn(|| block_on(export(&exporter, &batch_of(1))));
            while collector.in_flight() == 0 {
                assert!(began.elapsed() < SOON, "no request arrived");
                thread::yield_now();
            }
            drop(runtime);
            in_flight.join().unwrap()
        });
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ShutDown);
        assert!(began.elapsed() < SOON);
    });
}

#[test]
fn end_of_the_runtime_with_idle_connections_is_an_error() {
    each_wire(|wire| {
        let collector = wire.collector();
        let runtime = multi_thread();
        let exporter = wire.to_collector(&collector);
        let exporter = exporter.runtime(runtime.handle().clone()).build().unwrap();
        for _ in 0..3 {
            block_on(export(&exporter, &batch_of(1))).unwrap();
        }
        drop(runtime);
        for _ in 0..3 {
            let error = block_on(export(&exporter, &batch_of(1))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ShutDown, "{error}");
            assert!(error.to_string().contains("runtime"), "{error}");
        }
        drop(block_on(exporter.flush(soon())).unwrap());
        drop(block_on(exporter.shutdown(soon())).unwrap());
        assert_eq!(collector.span_count(), 3);
    });
}

#[test]
fn large_batch_after_the_end_of_the_runtime_is_an_error() {
    each_wire(|wire| {
        let collector = wire.collector();
        let runtime = multi_thread();
        let exporter = wire.to_collector(&collector).compression(Compression::Gzip);
        let exporter = exporter.runtime(runtime.handle().clone()).build().unwrap();
        drop(runtime);
        let batch = batch_of(2000);
        for _ in 0..2 {
            let error = block_on(export(&exporter, &batch)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ShutDown, "{error}");
        }
    });
}

#[test]
fn runtime_that_nobody_drives_ends_exports_by_their_deadline() {
    each_wire(|wire| {
        let collector = wire.collector();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let exporter = wire.to_collector(&collector);
        let exporter = exporter.runtime(runtime.handle().clone()).build().unwrap();
        let deadline = Deadline::after(Duration::from_millis(20));
        let error = block_on(exporter.export(batch_of(1), deadline)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        // It works as soon as somebody does.
        runtime.block_on(export(&exporter, &batch_of(1))).unwrap();
    });
}

#[test]
fn runtime_without_timers_is_refused_when_the_exporter_is_built() {
    each_wire(|wire| {
        let collector = wire.collector();
        let runtime = Builder::new_current_thread().build().unwrap();
        let exporter = wire.to_collector(&collector);
        let error = exporter.runtime(runtime.handle().clone()).build();
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Config);
    });
}
