//! Calls of exporters, which may be the user's code: in time, and panics are caught.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::time::Duration;

use futures_util::FutureExt;

use crate::Attempt;
use crate::Deadline;
use crate::Error;
use crate::Result;

/// How much longer than its deadline a flush or a shutdown may take to say what it did until then, and what is lost.
///
/// A queue, which may be one of several exporters behind such a guard, gives what is inside of it half of that.
pub(crate) const GRACE: Duration = Duration::from_millis(100);

/// Runs a call of an exporter: it ends by `until`, and a panic becomes an error.
pub(crate) fn run_guarded<R, F: Future<Output = Result<R>>>(
    until: Deadline,
    call: &'static str,
    work: F,
) -> impl Future<Output = Result<R>> {
    let timed = AssertUnwindSafe(until.run(work)).catch_unwind();
    timed.map(move |ended| match ended {
        Ok(Some(answer)) => answer,
        Ok(None) => Err(Error::timeout("no answer", until).with_attempt(Attempt::one())),
        Err(panic) => Err(Error::internal("the exporter panicked")
            .with_context("call", call)
            .with_context("panic", panic_text(&*panic))),
    })
}

/// Runs a flush or a shutdown of an exporter: it ends by `grace` after `until`, and a panic becomes an error.
///
/// Whoever stops at `until`, however late it was asked, still tells what is lost.
pub(crate) fn run_drain<R, F: Future<Output = Result<R>>>(
    until: Deadline,
    grace: Duration,
    call: &'static str,
    work: F,
) -> impl Future<Output = Result<R>> {
    run_guarded(until.at_least_later(grace), call, work)
}

/// Calls a closure of the user's; a panic becomes an error.
pub(crate) fn call_guarded<R>(what: &str, work: impl FnOnce() -> R) -> Result<R> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        Error::internal(format!("the {what} panicked")).with_context("panic", panic_text(&*panic))
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".to_owned())
}
