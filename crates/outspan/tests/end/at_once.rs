//! Shutdowns at the same time, and after one that failed.

use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::SpanExporter;
use outspan::Deadline;
use outspan::Drained;
use outspan::DropReason;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::engine::Ack;
use outspan::engine::MemoryQueue;
use outspan::sdk::BatchProcessor;
use outspan::sdk::SdkExporter;
use outspan::sdk::SimpleProcessor;
use outspan_testkit::Act;
use outspan_testkit::DrainAct;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;

const SOON: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

/// Calls from two threads, lets the first one in, and opens the gate when both are under way.
fn twice<R: Send>(child: &ScriptedExporter, gate: &Gate, call: impl Fn() -> R + Sync) -> [R; 2] {
    thread::scope(|scope| {
        let first = scope.spawn(&call);
        futures_executor::block_on(child.wait_for_exports(1));
        let second = scope.spawn(&call);
        // Sleeps: the second has nothing to show for having begun; if it is late, the test is easier to pass.
        thread::sleep(SHORT);
        assert!(!first.is_finished() && !second.is_finished());
        gate.open();
        [first.join().unwrap(), second.join().unwrap()]
    })
}

fn gated() -> (ScriptedExporter, Gate) {
    let child = ScriptedExporter::new();
    let gate = Gate::new();
    child.always(Act::when(&gate, Act::Deliver));
    (child, gate)
}

fn end_spans(provider: &SdkTracerProvider, spans: usize) {
    let tracer = provider.tracer("test");
    for _ in 0..spans {
        tracer.in_span("work", |_| {});
    }
}

fn with_batches(child: &ScriptedExporter) -> (SdkTracerProvider, outspan::sdk::ProcessorHandle) {
    let processor = BatchProcessor::new(child.exporter());
    let handle = processor.handle();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();
    (provider, handle)
}

#[test]
fn guard_answers_both_callers_alike() {
    let (child, gate) = gated();
    let builder = outspan::builder().global(false);
    let guard = builder.exporter(child.exporter()).init().unwrap();
    end_spans(guard.provider(), 10);
    let [first, second] = twice(&child, &gate, || guard.shutdown(SOON).unwrap());
    assert_eq!(first.delivered, 10);
    assert_eq!(first, second);
    assert_eq!(guard.shutdown(SHORT).unwrap(), first);
}

#[test]
fn processor_handle_answers_both_callers_alike() {
    let (child, gate) = gated();
    let (provider, handle) = with_batches(&child);
    end_spans(&provider, 10);
    let [first, second] = twice(&child, &gate, || handle.shutdown(SOON).unwrap());
    assert_eq!(first.delivered, 10);
    assert_eq!(first, second);
    assert_eq!(handle.shutdown(SHORT).unwrap(), first);
}

#[test]
fn handle_and_provider_answer_alike() {
    let (child, gate) = gated();
    let (provider, handle) = with_batches(&child);
    end_spans(&provider, 10);
    let calls = Mutex::new(0);
    let [first, second] = twice(&child, &gate, || {
        let number = {
            let mut calls = calls.lock().unwrap();
            *calls += 1;
            *calls
        };
        match number {
            1 => provider.shutdown_with_timeout(SOON).is_ok(),
            _ => handle.shutdown(SOON).unwrap().delivered == 10,
        }
    });
    assert!(first && second);
}

#[test]
fn caller_whose_time_is_over_first_is_told_what_is_pending() {
    let (child, gate) = gated();
    let (provider, handle) = with_batches(&child);
    end_spans(&provider, 10);
    thread::scope(|scope| {
        let first = scope.spawn(|| handle.shutdown(SOON).unwrap());
        futures_executor::block_on(child.wait_for_exports(1));
        let second = handle.shutdown(SHORT).unwrap();
        assert_eq!((second.delivered, second.left), (0, 10));
        assert!(!second.is_complete());
        gate.open();
        assert_eq!(first.join().unwrap().delivered, 10);
    });
    assert_eq!(handle.shutdown(SHORT).unwrap().delivered, 10);
}

#[test]
fn shutdown_after_one_that_failed_tells_the_same_losses() {
    let child = ScriptedExporter::new();
    child.always(Act::Hang);
    let builder = outspan::builder().global(false);
    let guard = builder.exporter(child.exporter()).init().unwrap();
    end_spans(guard.provider(), 10);
    let failed = guard.provider().shutdown_with_timeout(SHORT);
    assert!(failed.is_err());
    let drained = guard.shutdown(SOON).unwrap();
    assert_eq!(drained.lost.of(DropReason::Shutdown), 10, "{drained}");
    let text = drained.to_string();
    assert!(text.contains("no answer"), "{text}");
}

#[test]
fn blocked_thread_of_the_library_leaves_a_count_behind() {
    /// Blocks the library's thread until it is told to go on.
    #[derive(Debug)]
    struct Blocking(Mutex<std::sync::mpsc::Receiver<()>>);

    impl Export for Blocking {
        async fn export(
            &self,
            batch: outspan::Batch,
            _until: Deadline,
        ) -> outspan::Result<outspan::Delivery> {
            self.0.lock().unwrap().recv().unwrap_or_default();
            Ok(outspan::Delivery::of(&batch))
        }

        async fn flush(&self, _until: Deadline) -> outspan::Result<Drained> {
            Ok(Drained::default())
        }

        async fn shutdown(&self, _until: Deadline) -> outspan::Result<Drained> {
            Ok(Drained::default())
        }
    }

    // In a process of its own: the thread is everybody's.
    if crate::program::name().is_none() {
        let test = "at_once::blocked_thread_of_the_library_leaves_a_count_behind";
        let ended = crate::program::Program::start(test, "blocked", &[]).end();
        assert_eq!(ended.lost(), 3, "{ended:#?}");
        let told = ended.told();
        assert!(told[0].contains("3 pending"), "{told:?}");
        return;
    }
    let (go, gone) = std::sync::mpsc::channel();
    let exporter = Exporter::new(Blocking(Mutex::new(gone)));
    let processor = BatchProcessor::new(exporter);
    let handle = processor.handle();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();
    end_spans(&provider, 3);
    let drained = handle.shutdown(SHORT).unwrap();
    assert_eq!(drained.left, 3);
    let text = drained.to_string();
    assert!(text.contains("did not finish"), "{text}");
    go.send(()).unwrap();
    assert_eq!(handle.shutdown(SOON).unwrap().delivered, 3);
}

#[test]
fn simple_processor_answers_both_callers_alike() {
    let (child, gate) = gated();
    let processor = SimpleProcessor::new(child.exporter());
    let handle = processor.handle();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();
    thread::scope(|scope| {
        scope.spawn(|| end_spans(&provider, 1));
        // A span that ends after the shutdown has begun is dropped.
        futures_executor::block_on(child.wait_for_exports(1));
        let [first, second] = twice(&child, &gate, || handle.shutdown(SOON).unwrap());
        assert_eq!(first.delivered, 1);
        assert_eq!(first, second);
    });
}

#[test]
fn sdk_exporter_answers_both_callers_alike() {
    let child = ScriptedExporter::new();
    let mut lossy = Drained::default();
    lossy.lost.add(DropReason::Shutdown, 4);
    child.script_shutdowns([DrainAct::Done(lossy)]);
    let exporter = SdkExporter::new(child.exporter());
    let [first, second] = thread::scope(|scope| {
        let call = || exporter.shutdown_with_timeout(SOON);
        let threads = [scope.spawn(call), scope.spawn(call)];
        threads.map(|thread| thread.join().unwrap())
    });
    // The one that comes when everything is over is told that; nobody is told that all went well.
    for answer in [&first, &second] {
        match answer {
            Err(OTelSdkError::InternalFailure(text)) => assert!(text.contains("lost 4"), "{text}"),
            Err(OTelSdkError::AlreadyShutdown) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(child.shutdowns(), 1);
}

#[tokio::test(start_paused = true)]
async fn exporter_answers_all_callers_alike() {
    let child = ScriptedExporter::new();
    let mut lossy = Drained::default();
    lossy.delivered = 3;
    lossy.lost.add(DropReason::Shutdown, 4);
    let slow = Duration::from_secs(1);
    child.script_shutdowns([DrainAct::after(slow, DrainAct::Done(lossy.clone()))]);
    let exporter = child.exporter();
    let clone = exporter.clone();
    assert!(
        clone.shutdown(soon()).await.unwrap().is_complete(),
        "an owner is left"
    );
    let late = async {
        // Sleeps: in the test's time, until the first is under way.
        tokio::time::sleep(slow / 2).await;
        let clone = exporter.clone();
        let flushed = exporter.flush(soon());
        tokio::join!(exporter.shutdown(soon()), clone.shutdown(soon()), flushed)
    };
    let began = tokio::time::Instant::now();
    let (first, (second, third, flushed)) = tokio::join!(exporter.shutdown(soon()), late);
    assert_eq!(began.elapsed(), slow);
    assert_eq!(first.unwrap(), lossy);
    assert_eq!(second.unwrap(), lossy);
    assert_eq!(third.unwrap(), lossy, "a clone of before the end");
    assert_eq!(flushed.unwrap(), Drained::default());
    assert_eq!(child.shutdowns(), 1);
}

#[tokio::test(start_paused = true)]
async fn exporter_of_a_dropped_or_panicking_shutdown_answers_the_truth() {
    let child = ScriptedExporter::new();
    child.script_shutdowns([DrainAct::Hang]);
    let exporter = child.exporter();
    let dropped = exporter.shutdown(Deadline::never());
    tokio::time::timeout(SHORT, dropped).await.unwrap_err();
    assert!(exporter.shutdown(soon()).await.unwrap().is_complete());
    assert_eq!(child.shutdowns(), 2, "the second did the work");

    child.script_shutdowns([DrainAct::Panic]);
    let exporter = Arc::new(child.exporter());
    let shared = Arc::clone(&exporter);
    let panicked = tokio::spawn(async move { shared.shutdown(soon()).await }).await;
    assert!(panicked.unwrap_err().is_panic());
    let error = exporter.shutdown(soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn memory_queue_answers_both_callers_alike() {
    let (child, gate) = gated();
    let queue = MemoryQueue::builder(child.exporter()).start().unwrap();
    let batch = batch_of(4);
    let permit = queue.try_reserve(batch.memory(), 4).unwrap();
    queue.push(batch, permit, Ack::none()).unwrap();
    child.wait_for_exports(1).await;
    let short = queue.shutdown(Deadline::after(SHORT));
    let opened = async {
        tokio::task::yield_now().await;
        let began = Instant::now();
        gate.open();
        began
    };
    let (first, second, _) = tokio::join!(queue.shutdown(soon()), short, opened);
    let first = first.unwrap();
    assert_eq!(first.delivered, 4);
    assert_eq!(second.unwrap(), first);
}
