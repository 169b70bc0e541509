//! Queues on a runtime of the program's own, and what its end does to what they hold.

use std::thread;
use std::time::Duration;
use std::time::Instant;

use futures_executor::block_on;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::DropReason;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::combinators::Queued;
use outspan::engine::Ack;
use outspan::engine::BatchLimits;
use outspan::engine::MemoryQueue;
use outspan_testkit::Act;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tokio::runtime::Builder;

const SOON: Duration = Duration::from_secs(10);

fn multi_thread() -> tokio::runtime::Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).thread_name("given").enable_all();
    builder.build().unwrap()
}

fn queue_on(runtime: &tokio::runtime::Runtime, exporter: Exporter) -> MemoryQueue {
    let queue = MemoryQueue::builder(exporter).runtime(runtime.handle().clone());
    queue.start().unwrap()
}

fn push(queue: &MemoryQueue, spans: usize) {
    let batch = batch_of(spans);
    let permit = queue.try_reserve(batch.memory(), spans).unwrap();
    queue.push(batch, permit, Ack::none()).unwrap();
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < SOON, "not in time: {what}");
        thread::yield_now();
    }
}

/// Checks on which threads it is called.
#[derive(Debug)]
struct OnThreads(&'static str);

impl OnThreads {
    fn check(&self) {
        assert_eq!(thread::current().name(), Some(self.0));
    }
}

impl Export for OnThreads {
    async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
        self.check();
        // Sleeps: to see that the runtime that polls has timers.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.check();
        Ok(Delivery::of(&batch))
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        self.check();
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        self.check();
        Ok(Drained::default())
    }
}

#[test]
fn queue_exports_on_its_runtime() {
    let runtime = multi_thread();
    let on_given = queue_on(&runtime, Exporter::new(OnThreads("given")));
    let by_default = MemoryQueue::builder(Exporter::new(OnThreads("outspan")));
    for queue in [on_given, by_default.start().unwrap()] {
        for spans in 1..5 {
            push(&queue, spans);
        }
        assert!(block_on(queue.flush(soon())).unwrap().is_complete());
        assert!(block_on(queue.shutdown(soon())).unwrap().is_complete());
        assert_eq!(queue.account().delivered, 10);
    }
}

#[test]
fn queued_exporter_runs_on_its_runtime() {
    let runtime = multi_thread();
    let child = ScriptedExporter::new();
    let limits = BatchLimits {
        spans: 100,
        bytes: 1 << 20,
        delay: Duration::from_millis(1),
    };
    let (exporter, handle) = Queued::new(child.exporter())
        .batches(limits)
        .runtime(runtime.handle().clone())
        .build_with_handle()
        .unwrap();
    assert_eq!(
        block_on(exporter.export(batch_of(3), soon()))
            .unwrap()
            .accepted,
        3
    );
    // The delay passes there, too.
    wait_until("the batch is delivered", || handle.account().delivered == 3);
    assert!(block_on(exporter.shutdown(soon())).unwrap().is_complete());
}

#[test]
fn end_of_the_runtime_counts_every_span_of_the_queue() {
    let runtime = multi_thread();
    let child = ScriptedExporter::new();
    child.always(Act::Hang);
    let queue = queue_on(&runtime, child.exporter());
    for _ in 0..10 {
        push(&queue, 3);
    }
    wait_until("exports are in flight", || child.in_progress() > 0);
    drop(runtime);
    let account = queue.account();
    assert!(account.closes(), "{account}");
    assert_eq!((account.received, account.open()), (30, 0));
    assert_eq!(account.dropped.of(DropReason::Shutdown), 30);
    assert_eq!((queue.bytes(), queue.batches()), (0, 0));
    // Nothing hangs afterwards, and later spans are counted as well.
    push(&queue, 2);
    assert_eq!(queue.account().dropped.of(DropReason::Shutdown), 32);
    let flushed = block_on(queue.flush(soon())).unwrap();
    assert_eq!(flushed.lost.of(DropReason::Shutdown), 32);
    assert!(block_on(queue.shutdown(soon())).unwrap().is_complete());
    block_on(queue.abort());
    assert_eq!(child.shutdowns(), 1, "the exporter is closed all the same");
}

#[test]
fn shutdown_after_the_end_of_the_runtime_says_what_was_lost() {
    let runtime = multi_thread();
    let child = ScriptedExporter::new();
    child.always(Act::Hang);
    let queue = queue_on(&runtime, child.exporter());
    push(&queue, 3);
    drop(runtime);
    let drained = block_on(queue.shutdown(soon())).unwrap();
    assert_eq!(drained.lost.of(DropReason::Shutdown), 3);
    assert_eq!(drained.left, 0);
}

#[test]
fn end_of_the_runtime_during_a_shutdown_ends_it() {
    let runtime = multi_thread();
    let child = ScriptedExporter::new();
    child.always(Act::Hang);
    let queue = queue_on(&runtime, child.exporter());
    push(&queue, 3);
    wait_until("an export is in flight", || child.in_progress() > 0);
    let drained = thread::scope(|scope| {
        let shutdown = scope.spawn(|| block_on(queue.shutdown(soon())));
        drop(runtime);
        shutdown.join().unwrap()
    });
    assert_eq!(drained.unwrap().lost.of(DropReason::Shutdown), 3);
    assert_eq!(queue.account().open(), 0);
}

#[test]
fn flush_on_a_runtime_that_nobody_drives_ends_by_its_deadline() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let child = ScriptedExporter::new();
    let queue = queue_on(&runtime, child.exporter());
    push(&queue, 3);
    let deadline = Deadline::after(Duration::from_millis(20));
    let error = block_on(queue.flush(deadline)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(queue.account().queued, 3, "the spans are still held");
    assert!(runtime.block_on(queue.flush(soon())).unwrap().is_complete());
    assert_eq!(queue.account().delivered, 3);
}

#[test]
fn queue_dropped_after_its_runtime_does_not_hang() {
    let runtime = multi_thread();
    let child = ScriptedExporter::new();
    let queue = queue_on(&runtime, child.exporter());
    push(&queue, 3);
    assert!(block_on(queue.flush(soon())).unwrap().is_complete());
    drop(runtime);
    drop(queue);
}

#[test]
fn runtime_without_timers_is_refused_when_the_queue_starts() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let child = ScriptedExporter::new();
    let queue = MemoryQueue::builder(child.exporter()).runtime(runtime.handle().clone());
    assert_eq!(queue.start().unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test(start_paused = true)]
async fn queue_on_a_paused_runtime_waits_by_its_clock() {
    let child = ScriptedExporter::new();
    child.script([Act::throttled(Duration::from_secs(60))]);
    let queue = MemoryQueue::builder(child.exporter());
    let queue = queue
        .runtime(tokio::runtime::Handle::current())
        .start()
        .unwrap();
    let began = (Instant::now(), tokio::time::Instant::now());
    push(&queue, 1);
    let far = Deadline::after(Duration::from_secs(3600));
    assert!(queue.flush(far).await.unwrap().is_complete());
    assert!(began.1.elapsed() >= Duration::from_secs(60));
    assert!(began.0.elapsed() < SOON);
}

/// A destination is down for so long. Returns how often it was asked meanwhile, and how long it took to notice its return.
async fn outage(length: Duration) -> (usize, Duration) {
    let child = ScriptedExporter::new();
    child.always(Act::unavailable());
    let here = tokio::runtime::Handle::current();
    let queue = MemoryQueue::builder(child.exporter()).runtime(here);
    let queue = queue.start().unwrap();
    for _ in 0..20 {
        push(&queue, 2);
    }
    // Sleeps: on the paused clock.
    tokio::time::sleep(length).await;
    let asked = child.exports().len();
    let back = tokio::time::Instant::now();
    child.always(Act::Deliver);
    while child.received().is_empty() {
        assert!(back.elapsed() < length, "its return was not noticed");
        // Sleeps: on the paused clock.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let noticed = back.elapsed();
    assert!(queue.flush(soon()).await.unwrap().is_complete());
    assert_eq!(child.received().len(), 40);
    (asked, noticed)
}

#[tokio::test(start_paused = true)]
async fn return_of_a_destination_is_noticed_within_five_seconds_of_any_outage() {
    for minutes in [1, 10, 24 * 60] {
        let length = Duration::from_secs(minutes * 60);
        let (asked, noticed) = outage(length).await;
        assert!(
            noticed < Duration::from_secs(5),
            "{minutes} min: {noticed:?}"
        );
        // One at a time, and 20 a minute.
        let asked = asked as u64 / minutes;
        assert!(
            (15..=45).contains(&asked),
            "{minutes} min: {asked} a minute"
        );
    }
}
