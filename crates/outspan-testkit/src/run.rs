//! Running a test that may hang.

use std::future::Future;
use std::time::Duration;

/// How long a whole test may take: far longer than any does, so that a hang is a failure.
const TEST_TIME: Duration = Duration::from_secs(90);

/// Runs a test on this thread, in a runtime of its own, for 90 s at most.
///
/// # Panics
///
/// Panics when the time is over.
pub fn run_test(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime of one thread starts");
    let ended = runtime.block_on(async { tokio::time::timeout(TEST_TIME, test).await });
    assert!(ended.is_ok(), "the test hangs");
}
