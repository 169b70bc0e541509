//! Runs promises: one test each, none for ever, no exemption in silence.

use std::future::Future;
use std::io::Write;
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;

/// How long a promise may take: far longer than any does, so that a hang is an error and no wait.
const TIME_MAX: Duration = Duration::from_secs(120);

/// Runs one promise in a tokio runtime of several threads, or prints why it is not kept.
///
/// [`promises!`](crate::promises!) calls it.
///
/// # Panics
///
/// If the promise is broken or does not end.
pub fn keep<W>(
    promise: &str,
    exemptions: &[(&str, &str)],
    work: impl FnOnce() -> W + Send + 'static,
) where
    W: Future<Output = ()>,
{
    if let Some((_, reason)) = exemptions.iter().find(|(name, _)| *name == promise) {
        return report(promise, reason);
    }
    let (running, ended) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let _running = running;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        runtime.block_on(work());
    });
    if ended.recv_timeout(TIME_MAX) == Err(RecvTimeoutError::Timeout) {
        panic!("{promise} does not end");
    }
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// Writes past the test harness, which hides what tests that pass print.
fn report(promise: &str, reason: &str) {
    let test = thread::current();
    let test = test.name().unwrap_or(promise);
    let written = writeln!(std::io::stderr(), "not promised: {test}: {reason}");
    written.expect("standard error is open");
}

/// Makes one test of each promise for a rig, named like the promise.
///
/// The rig is an expression that each test evaluates anew, within a tokio runtime. What the
/// exporter cannot promise is listed with a reason; it is printed where the test would run.
/// Run promises in a test binary of their own: [`never_traces_itself`](crate::promises::never_traces_itself)
/// takes the process's global tracer provider and `tracing` subscriber, and notices what any other
/// test of the process traces. What is exempt from it therefore needs yet another binary.
///
/// ```
/// mod timeout {
///     # use std::time::Duration;
///     use outspan_testkit::promises::ScriptedRig;
///
///     outspan_testkit::promises!(
///         ScriptedRig::new(|child| child.timeout(Duration::from_secs(60))),
///         exempt: {
///             debug_shows_no_secret: "a timeout has no secret",
///         }
///     );
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! promises {
    ($rig:expr $(,)?) => {
        $crate::promises!($rig, exempt: {});
    };
    ($rig:expr, exempt: { $($name:ident: $reason:literal),* $(,)? } $(,)?) => {
        $crate::promises!(@tests $rig, [$(($name, $reason)),*],
            delivers_what_it_accepts
            refusal_is_permanent
            outage_is_temporary
            flush_returns_the_truth
            shutdown_twice_is_fine
            shutdowns_at_once_agree
            refuses_after_shutdown
            a_dropped_future_leaks_nothing
            returns_by_the_deadline
            never_traces_itself
            the_empty_batch_is_delivered_by_doing_nothing
            concurrent_exports_all_arrive
            debug_shows_no_secret
            works_without_any_runtime
            works_in_a_current_thread_runtime
            works_in_a_multi_thread_runtime
        );
    };
    (@tests $rig:expr, $exemptions:tt, $($promise:ident)*) => {
        $(
            #[test]
            fn $promise() {
                $crate::promises!(@known $exemptions);
                let exemptions = $crate::promises!(@list $exemptions);
                $crate::promises::keep(stringify!($promise), exemptions, || async {
                    $crate::promises::$promise(&$rig).await;
                });
            }
        )*
    };
    // An exemption from something that is no promise does not compile.
    (@known [$(($name:ident, $reason:literal)),*]) => {
        $(
            #[allow(unused_imports)]
            use $crate::promises::$name as _;
        )*
    };
    (@list [$(($name:ident, $reason:literal)),*]) => {
        &[$((stringify!($name), $reason)),*]
    };
}
