//! Waiting that works in any runtime and in none.

use tokio::time::Instant;

use crate::work::Task;
use crate::work::may_use_timers;
use crate::work::shared_handle;
use crate::work::spawn_on;

/// Waits until `at`, from any executor.
///
/// The timer is that of the runtime that polls our work. A caller's runtime may have none, or may be blocked by the very
/// call that waits; there, and outside of any runtime, it is the library's. The one exception is a runtime whose clock is
/// not the system's, as in tests that pause it: there `at` is a time of that clock.
pub(crate) async fn sleep_until(at: Instant) {
    if may_use_timers() || has_a_clock_of_its_own() {
        return tokio::time::sleep_until(at).await;
    }
    // If the library's thread cannot start, waiting is impossible; ending at once errs on the side of giving up too early,
    // never of hanging.
    if let Ok(handle) = shared_handle() {
        let sleep = async move { tokio::time::sleep_until(at).await };
        drop(Task(spawn_on(&handle, sleep)).await);
    }
}

/// Whether the current runtime's clock shows another time than the system's.
fn has_a_clock_of_its_own() -> bool {
    let before = std::time::Instant::now();
    let shown = Instant::now().into_std();
    let after = std::time::Instant::now();
    shown < before || after < shown
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wait_ends_in_a_runtime_without_timers() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let began = std::time::Instant::now();
        runtime.block_on(sleep_until(Instant::now() + Duration::from_millis(20)));
        assert!(began.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn a_wait_ends_though_it_blocks_the_caller_s_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let wait = sleep_until(Instant::now() + Duration::from_millis(20));
            let (done, waited) = std::sync::mpsc::channel();
            let mut wait = Box::pin(wait);
            let waker = std::sync::Arc::new(Signal(done)).into();
            let mut context = std::task::Context::from_waker(&waker);
            assert!(wait.as_mut().poll(&mut context).is_pending());
            // The runtime's only thread stands still here, so its own timers cannot fire.
            waited.recv_timeout(Duration::from_secs(10)).unwrap();
        });
    }

    struct Signal(std::sync::mpsc::Sender<()>);

    impl std::task::Wake for Signal {
        fn wake(self: std::sync::Arc<Self>) {
            // An error means that nobody waits any more.
            self.0.send(()).unwrap_or_default();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_is_the_one_that_counts() {
        let began = std::time::Instant::now();
        sleep_until(Instant::now() + Duration::from_secs(3600)).await;
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
