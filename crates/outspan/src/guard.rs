//! Calls of exporters, which may be the user's code: in time, and panics are caught.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use futures_util::FutureExt;

use crate::Deadline;
use crate::Error;
use crate::Result;

/// Runs a call of an exporter: it ends by `until`, and a panic becomes an error.
pub(crate) async fn run_guarded<R>(
    until: Deadline,
    call: &'static str,
    work: impl Future<Output = Result<R>>,
) -> Result<R> {
    let timed = async {
        until
            .run(work)
            .await
            .unwrap_or_else(|| Err(Error::timeout("no answer", until).with_attempts(1)))
    };
    match AssertUnwindSafe(timed).catch_unwind().await {
        Ok(answer) => answer,
        Err(panic) => Err(Error::internal("the exporter panicked")
            .with_context("call", call)
            .with_context("panic", panic_text(&*panic))),
    }
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
