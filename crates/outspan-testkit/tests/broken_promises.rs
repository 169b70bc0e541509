//! Each promise notices an exporter that breaks it.
//!
//! In a process of its own, because exporters that trace are noticed by every watch of the process.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Mutex;

use opentelemetry::global;
use opentelemetry::trace::Tracer as _;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Error;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan_testkit::SpanId;
use outspan_testkit::batch_of;
use outspan_testkit::promises;
use outspan_testkit::promises::Behaviour;
use outspan_testkit::promises::Rig;
use outspan_testkit::promises::ScriptedRig;
use outspan_testkit::promises::keep;

/// Makes a rig of an exporter that is broken in one way.
fn broken(fault: Fault) -> impl Rig + 'static {
    ScriptedRig::new(move |child| {
        Exporter::new(Broken {
            child,
            fault,
            kept: Mutex::new(Vec::new()),
        })
    })
}

/// Runs a promise that is sure to be broken, and checks that it says why.
fn breaks<W: Future<Output = ()>>(work: impl FnOnce() -> W + Send + 'static, reason: &str) {
    let ended = catch_unwind(AssertUnwindSafe(|| keep("a broken promise", &[], work)));
    let panic = ended.expect_err("the promise does not notice");
    let text = text_of(&*panic);
    assert!(text.contains(reason), "{text}");
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    let text = owned.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no text")
}

#[test]
fn delivers_what_it_accepts() {
    breaks(
        || async { promises::delivers_what_it_accepts(&broken(Fault::LosesAll)).await },
        "is missing",
    );
}

#[test]
fn spans_that_are_nowhere() {
    breaks(
        || async { promises::delivers_what_it_accepts(&broken(Fault::Miscounts)).await },
        "lost or made up",
    );
}

#[test]
fn refusal_is_permanent() {
    breaks(
        || async { promises::refusal_is_permanent(&broken(Fault::CallsAllTemporary)).await },
        "refused, and yet temporary",
    );
    breaks(
        || async { promises::refusal_is_permanent(&broken(Fault::AsksAgain)).await },
        "asked 2 times",
    );
}

#[test]
fn outage_is_temporary() {
    breaks(
        || async { promises::outage_is_temporary(&broken(Fault::CallsAllPermanent)).await },
        "and yet for good",
    );
}

#[test]
fn flush_returns_the_truth() {
    breaks(
        || async { promises::flush_returns_the_truth(&broken(Fault::HoldsAndSaysNothing)).await },
        "accepted 5, then Drained",
    );
}

#[test]
fn shutdown_twice_is_fine() {
    breaks(
        || async { promises::shutdown_twice_is_fine(&broken(Fault::FailsToShutDown)).await },
        "a healthy one shuts down",
    );
    breaks(
        || async { promises::refuses_after_shutdown(&broken(Fault::FailsToShutDown)).await },
        "a healthy one shuts down",
    );
}

#[test]
fn shutdowns_at_once_agree() {
    breaks(
        || async { promises::shutdowns_at_once_agree(&broken(Fault::LosesAll)).await },
        "Drained {",
    );
}

#[test]
fn a_dropped_future_leaks_nothing() {
    breaks(
        || async { promises::a_dropped_future_leaks_nothing(&broken(Fault::KeepsBatches)).await },
        "its memory leaks",
    );
}

#[test]
fn returns_by_the_deadline() {
    breaks(
        || async { promises::returns_by_the_deadline(&broken(Fault::IgnoresTheDeadline)).await },
        "export had 300ms and has not returned",
    );
    breaks(
        || async { promises::returns_by_the_deadline(&broken(Fault::NamesNoDeadline)).await },
        "which limit passed?",
    );
}

#[test]
fn never_traces_itself() {
    breaks(
        || async { promises::never_traces_itself(&broken(Fault::MakesSdkSpans)).await },
        "OpenTelemetry export",
    );
    breaks(
        || async { promises::never_traces_itself(&broken(Fault::MakesTracingSpans)).await },
        "tracing broken_promises::export",
    );
}

#[test]
fn the_empty_batch_is_delivered_by_doing_nothing() {
    breaks(
        || async {
            let rig = broken(Fault::FillsTheEmptyBatch);
            promises::the_empty_batch_is_delivered_by_doing_nothing(&rig).await;
        },
        "it asked the destination",
    );
}

#[test]
fn concurrent_exports_all_arrive() {
    breaks(
        || async { promises::concurrent_exports_all_arrive(&broken(Fault::DeliversTwice)).await },
        "left == right",
    );
}

#[test]
fn debug_shows_no_secret() {
    for fault in [Fault::ShowsSecretInDebug, Fault::ShowsSecretInErrors] {
        breaks(
            move || async move { promises::debug_shows_no_secret(&Secretive(broken(fault))).await },
            "hunter2 is in",
        );
    }
    breaks(
        || async { promises::debug_shows_no_secret(&broken(Fault::ShowsSecretInDebug)).await },
        "a rig without secrets is exempt",
    );
}

#[test]
fn works_in_any_runtime_and_in_none() {
    breaks(
        || async { promises::works_without_any_runtime(&broken(Fault::NeedsARuntime)).await },
        "no reactor running",
    );
    breaks(
        || async {
            let rig = broken(Fault::NeedsSeveralThreads);
            promises::works_in_a_current_thread_runtime(&rig).await;
        },
        "multi-threaded runtime",
    );
    breaks(
        || async { promises::works_in_a_multi_thread_runtime(&broken(Fault::LosesAll)).await },
        "is missing",
    );
}

#[test]
fn an_exempt_promise_is_not_run() {
    let exemptions = [("exempt", "its reason is printed by this test")];
    keep("exempt", &exemptions, || async { panic!("it was run") });
}

/// The ways to be broken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    LosesAll,
    Miscounts,
    CallsAllTemporary,
    CallsAllPermanent,
    AsksAgain,
    HoldsAndSaysNothing,
    FailsToShutDown,
    KeepsBatches,
    IgnoresTheDeadline,
    NamesNoDeadline,
    MakesSdkSpans,
    MakesTracingSpans,
    FillsTheEmptyBatch,
    DeliversTwice,
    ShowsSecretInDebug,
    ShowsSecretInErrors,
    NeedsARuntime,
    NeedsSeveralThreads,
}

struct Broken {
    child: Exporter,
    fault: Fault,
    kept: Mutex<Vec<Batch>>,
}

impl Export for Broken {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        match self.fault {
            Fault::LosesAll | Fault::HoldsAndSaysNothing => Ok(Delivery::of(&batch)),
            Fault::Miscounts => {
                let mut delivery = self.child.export(batch, until).await?;
                delivery.accepted -= 1;
                Ok(delivery)
            }
            Fault::CallsAllTemporary | Fault::CallsAllPermanent => {
                let temporary = self.fault == Fault::CallsAllTemporary;
                let result = self.child.export(batch, until).await;
                result.map_err(|error| error.with_temporary(temporary))
            }
            Fault::AsksAgain => match self.child.export(batch.clone(), until).await {
                Ok(delivery) => Ok(delivery),
                Err(_) => self.child.export(batch, until).await,
            },
            Fault::KeepsBatches => {
                self.keep(&batch);
                self.child.export(batch, until).await
            }
            Fault::IgnoresTheDeadline => self.child.export(batch, Deadline::never()).await,
            Fault::NamesNoDeadline => {
                let result = self.child.export(batch, until).await;
                result.map_err(|_| Error::timeout("no answer", until.named("some limit")))
            }
            Fault::MakesSdkSpans => {
                drop(global::tracer("broken").start("export"));
                self.child.export(batch, until).await
            }
            Fault::MakesTracingSpans => {
                drop(tracing::info_span!("export"));
                self.child.export(batch, until).await
            }
            Fault::FillsTheEmptyBatch if batch.is_empty() => {
                self.child.export(batch_of(1), until).await?;
                Ok(Delivery::default())
            }
            Fault::DeliversTwice => {
                self.child.export(batch.clone(), until).await?;
                self.child.export(batch, until).await
            }
            Fault::ShowsSecretInErrors => {
                let result = self.child.export(batch, until).await;
                result.map_err(|error| error.with_context("token", "hunter2"))
            }
            Fault::NeedsARuntime => {
                // Sleeps: not at all, but a timer of tokio's panics where there is no runtime.
                tokio::time::sleep(std::time::Duration::ZERO).await;
                self.child.export(batch, until).await
            }
            Fault::NeedsSeveralThreads => {
                tokio::task::block_in_place(|| {});
                self.child.export(batch, until).await
            }
            Fault::FillsTheEmptyBatch | Fault::FailsToShutDown | Fault::ShowsSecretInDebug => {
                self.child.export(batch, until).await
            }
        }
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        self.child.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        if self.fault == Fault::FailsToShutDown {
            return Err(Error::internal("it cannot"));
        }
        self.child.shutdown(until).await
    }
}

impl Broken {
    fn keep(&self, batch: &Batch) {
        let mut kept = self.kept.lock().expect("nothing panics while it is locked");
        kept.push(batch.clone());
    }
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::ShowsSecretInDebug => f.write_str("Broken(hunter2)"),
            _ => f.write_str("Broken"),
        }
    }
}

/// A rig whose exporters know a secret.
struct Secretive<R>(R);

impl<R: Rig> Rig for Secretive<R> {
    async fn exporter(&self) -> Exporter {
        self.0.exporter().await
    }

    async fn behave(&self, behaviour: Behaviour) {
        self.0.behave(behaviour).await;
    }

    async fn received(&self) -> Vec<SpanId> {
        self.0.received().await
    }

    async fn calls(&self) -> usize {
        self.0.calls().await
    }

    async fn wait_for_calls(&self, calls: usize) {
        self.0.wait_for_calls(calls).await;
    }

    async fn wait_until_idle(&self) {
        self.0.wait_until_idle().await;
    }

    fn secrets(&self) -> Vec<String> {
        vec!["hunter2".to_owned()]
    }
}
