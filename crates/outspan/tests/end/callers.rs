//! Shutdowns from unusual places: the library's own thread, runtimes, panics, many threads at once.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use opentelemetry::trace::Tracer;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Guard;
use outspan_testkit::Act;
use outspan_testkit::Collector;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;

use crate::program;
use crate::program::Program;

const SOON: Duration = Duration::from_secs(20);

/// Shuts a guard down within an export, which is on the library's own thread.
#[derive(Debug, Default, Clone)]
struct ShutsDown(Arc<Calls>);

#[derive(Debug, Default)]
struct Calls {
    guard: OnceLock<Arc<Guard>>,
    results: Mutex<Vec<(outspan::Result<Drained>, Duration)>>,
}

impl Export for ShutsDown {
    async fn export(&self, batch: Batch, _until: Deadline) -> outspan::Result<Delivery> {
        if let Some(guard) = self.0.guard.get() {
            for call in [Guard::flush, Guard::shutdown] {
                let began = Instant::now();
                let result = call(guard, SOON);
                self.0
                    .results
                    .lock()
                    .unwrap()
                    .push((result, began.elapsed()));
            }
        }
        Ok(Delivery::of(&batch))
    }

    async fn flush(&self, _until: Deadline) -> outspan::Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> outspan::Result<Drained> {
        Ok(Drained::default())
    }
}

fn end_spans(guard: &Guard, spans: usize) {
    let tracer = guard.tracer("test");
    for _ in 0..spans {
        tracer.in_span("work", |_| {});
    }
}

#[test]
fn shutdown_within_an_export_does_not_end_the_guard_early() {
    // In a process of its own: the thread is everybody's.
    if program::name().is_none() {
        let test = "callers::shutdown_within_an_export_does_not_end_the_guard_early";
        for name in ["one", "two"] {
            let ended = Program::start(test, name, &[]).end();
            assert_eq!(ended.stderr, "", "{ended:#?}");
        }
        return;
    }
    let exporter = ShutsDown::default();
    let (slow, gate) = (ScriptedExporter::new(), Gate::new());
    slow.always(Act::when(&gate, Act::Deliver));
    let mut builder = outspan::builder().global(false);
    if program::name().unwrap() == "two" {
        builder = builder.exporter(slow.exporter());
    }
    let calls = Arc::clone(&exporter.0);
    let builder = builder.exporter(Exporter::new(exporter));
    let batch = |batch: outspan::sdk::BatchProcessorBuilder| batch.delay(Duration::from_millis(10));
    let guard = Arc::new(builder.batch(batch).init().unwrap());
    calls.guard.set(Arc::clone(&guard)).unwrap();
    end_spans(&guard, 10);
    let deadline = Instant::now() + SOON;
    while calls.results.lock().unwrap().len() < 2 && Instant::now() < deadline {
        thread::yield_now();
    }
    for (result, took) in calls.results.lock().unwrap().iter() {
        let error = result.as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
        assert!(*took < SOON / 4, "{took:?}");
    }
    gate.open();
    let drained = guard.shutdown(SOON).unwrap();
    let two = program::name().unwrap() == "two";
    assert_eq!(guard.account().delivered, if two { 20 } else { 10 });
    assert!(drained.is_complete());
}

#[test]
fn callers_of_every_kind_at_once_lose_nothing() {
    for round in 0..20 {
        let child = ScriptedExporter::new();
        child.always(Act::after(Duration::from_millis(3), Act::Deliver));
        let other = ScriptedExporter::new();
        let builder = outspan::builder().global(false);
        let guard = builder
            .exporter(child.exporter())
            .exporter(other.exporter())
            .init()
            .unwrap();
        let guard = Arc::new(guard);
        end_spans(&guard, 100);
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|number| {
                    let guard = Arc::clone(&guard);
                    scope.spawn(move || match (number + round) % 4 {
                        0 | 1 => Some(guard.shutdown(SOON).unwrap()),
                        2 => {
                            drop(guard.provider().shutdown_with_timeout(SOON));
                            drop(guard);
                            None
                        }
                        _ => {
                            drop(guard.flush(SOON));
                            None
                        }
                    })
                })
                .collect();
            threads
                .into_iter()
                .filter_map(|thread| thread.join().unwrap())
                .collect()
        });
        for result in &results {
            assert_eq!(result, &results[0]);
            assert!(result.is_complete(), "{result}");
        }
        let account = guard.account();
        assert_eq!(account.delivered, 200, "{account:?}");
    }
}

#[test]
fn timeouts_of_every_size_are_kept() {
    for timeout in [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_millis(1),
        Duration::from_secs(u64::MAX),
        Duration::MAX,
    ] {
        for way in 0..4 {
            let child = ScriptedExporter::new();
            let builder = outspan::builder().global(false).drop_timeout(timeout);
            let guard = builder.exporter(child.exporter()).init().unwrap();
            end_spans(&guard, 10);
            let began = Instant::now();
            match way {
                0 => drop(guard.shutdown(timeout)),
                1 => drop(guard.provider().shutdown_with_timeout(timeout)),
                2 => drop(guard.flush(timeout)),
                _ => {}
            }
            let account = guard.account();
            assert_eq!(account.received, 10);
            drop(guard);
            assert!(
                began.elapsed() < Duration::from_secs(3),
                "{timeout:?} {way}"
            );
            if timeout > SOON {
                assert_eq!(child.received().len(), 10, "{timeout:?} {way}");
            }
        }
    }
}

#[test]
fn two_guards_share_an_exporter() {
    let child = ScriptedExporter::new();
    let exporter = child.exporter();
    let first = outspan::builder()
        .global(false)
        .exporter(exporter.clone())
        .init()
        .unwrap();
    let second = outspan::builder()
        .global(false)
        .exporter(exporter)
        .init()
        .unwrap();
    end_spans(&first, 10);
    assert_eq!(first.shutdown(SOON).unwrap().delivered, 10);
    assert_eq!(child.shutdowns(), 0);
    end_spans(&second, 10);
    assert_eq!(second.shutdown(SOON).unwrap().delivered, 10);
    assert_eq!(child.shutdowns(), 1);
}

#[test]
fn guard_shuts_down_within_runtimes() {
    for threads in [1, 2] {
        let collector = Collector::http();
        let exporter = outspan::otlp::http(collector.endpoint()).build().unwrap();
        let runtime = match threads {
            1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        }
        .enable_all()
        .build()
        .unwrap();
        let drained = runtime.block_on(async {
            let guard = outspan::builder()
                .global(false)
                .exporter(exporter)
                .init()
                .unwrap();
            end_spans(&guard, 10);
            let task = tokio::spawn(async move { guard.shutdown(SOON).unwrap() });
            task.await.unwrap()
        });
        assert_eq!(drained.delivered, 10, "{drained}");
    }
}

/// Programs that end in unusual ways.
#[test]
fn program() {
    let Some(name) = program::name() else {
        return;
    };
    let guard = outspan::builder().global(false).init().unwrap();
    end_spans(&guard, 10);
    match name.as_str() {
        "unwinding" => {
            let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                let _guard = guard;
                std::panic::resume_unwind(Box::new("over"));
            }));
            unwound.unwrap_err();
        }
        "hook" => {
            std::panic::set_hook(Box::new(move |_| drop(guard.shutdown(SOON))));
            std::panic::catch_unwind(|| panic!("over")).unwrap_err();
        }
        _ => drop(guard),
    }
}

#[test]
fn programs_that_end_in_unusual_ways_deliver() {
    for name in ["unwinding", "hook"] {
        let collector = Collector::http();
        let endpoint = collector.endpoint();
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
        let ended = Program::start("callers::program", name, &variables).end();
        assert_eq!(ended.stderr, "", "{name}");
        assert_eq!(collector.span_count(), 10, "{name}");
    }
}

/// Nothing is there that could take spans, and the system says so at once.
#[test]
fn unknown_name_and_refusing_proxy_are_given_up_as_soon_as_a_refusing_destination() {
    let http = outspan::otlp::http;
    let unknown = http("http://no-such-host.invalid:4318");
    let proxied = http("http://example.com:4318").proxy("http://user:hunter2@127.0.0.1:1");
    for (exporter, told) in [
        (unknown, "lookup address"),
        (proxied, "cannot connect to proxy"),
    ] {
        let exporter = exporter.build().unwrap();
        let builder = outspan::builder().global(false).exporter(exporter);
        let guard = builder.init().unwrap();
        end_spans(&guard, 3);
        let began = Instant::now();
        let drained = guard.shutdown(SOON).unwrap();
        let text = drained.to_string();
        if text.contains("Temporary failure") {
            // A machine without a name server: nobody knows whether there is such a name.
            continue;
        }
        assert_eq!(drained.lost.of(outspan::DropReason::Shutdown), 3, "{text}");
        assert!(text.contains(told) && !text.contains("hunter2"), "{text}");
        assert!(began.elapsed() < SOON / 2, "{text}: {:?}", began.elapsed());
    }
}
