//! Waiting on the caller's thread for work on ours.

use std::future::Future;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use crate::Deadline;
use crate::Error;
use crate::Result;
use crate::runtime::Runtime;
use crate::work::is_own_thread;

/// How long a caller waits beyond a deadline for work that keeps deadlines by itself.
const GRACE: Duration = Duration::from_secs(1);

/// Runs `work` in the library's runtime and blocks this thread until it is done, at most until a moment after `until`.
///
/// `work` should end by `until` by itself; what is still running then is dropped. Works on any thread but our own, in any
/// runtime and in none: nobody else's executor is needed for the work to go on.
///
/// # Errors
///
/// [`Timeout`](crate::ErrorKind::Timeout) if time ran out, [`Internal`](crate::ErrorKind::Internal) if the work panicked, our thread
/// cannot be started, or this is our thread, which would wait for itself.
pub(super) fn wait<F>(until: Deadline, work: F) -> Result<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    if is_own_thread() {
        return Err(Error::internal(
            "an exporter waits for its own processor: do that on another thread",
        ));
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let task = Runtime::shared().spawn(async move {
        // If nobody waits any more, the output is of no use to anyone.
        sender.send(work.await).ok();
    })?;
    let output = match until.remaining() {
        Some(left) => receiver.recv_timeout(left.saturating_add(GRACE)),
        None => receiver.recv().map_err(RecvTimeoutError::from),
    };
    drop(task);
    output.map_err(|error| match error {
        RecvTimeoutError::Timeout => Error::timeout("no answer", until),
        RecvTimeoutError::Disconnected => Error::internal("the exporter panicked"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_thread_does_not_wait_for_itself() {
        let until = Deadline::after(Duration::from_secs(10));
        let inside = wait(until, async move { wait(until, async { 1 }) }).unwrap();
        let text = inside.unwrap_err().to_string();
        assert!(text.contains("on another thread"), "{text}");
        assert_eq!(wait(until, async { 2 }).unwrap(), 2);
    }

    #[test]
    fn threads_that_have_only_entered_our_runtime_may_wait() {
        let until = Deadline::after(Duration::from_secs(10));
        let ours = Runtime::shared().handle().unwrap();
        let _entered = ours.enter();
        assert_eq!(wait(until, async { 3 }).unwrap(), 3);
    }

    #[test]
    fn thread_with_the_name_of_ours_may_wait() {
        let until = Deadline::after(Duration::from_secs(10));
        let ours = Runtime::shared().handle().unwrap();
        let namesake = std::thread::Builder::new().name("outspan".to_owned());
        let waited = namesake.spawn(move || {
            let _entered = ours.enter();
            wait(until, async { 4 })
        });
        assert_eq!(waited.unwrap().join().unwrap().unwrap(), 4);
    }

    #[test]
    fn work_that_ignores_its_deadline_is_left() {
        let until = Deadline::after(Duration::ZERO);
        let error = wait(until, std::future::pending::<()>()).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Timeout);
    }
}
