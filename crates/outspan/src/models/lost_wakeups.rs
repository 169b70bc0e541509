//! The code with a condition variable that wakes one thread where it should wake all.

#[path = "../budget.rs"]
#[allow(dead_code, reason = "a scenario needs a part of it")]
#[allow(clippy::duplicate_mod, reason = "with other types")]
mod budget;
#[path = "../owner.rs"]
#[allow(dead_code, reason = "for the other scenarios")]
#[allow(clippy::duplicate_mod, reason = "with other types")]
mod owner;
#[path = "scenarios.rs"]
#[allow(dead_code, reason = "some scenarios are for other bugs")]
#[allow(clippy::duplicate_mod, reason = "with other types")]
pub(super) mod scenarios;

mod sync {
    use std::sync::LockResult;
    use std::time::Duration;

    use shuttle::sync;
    pub(super) use shuttle::sync::Mutex;
    use shuttle::sync::MutexGuard;
    use shuttle::sync::WaitTimeoutResult;
    pub(super) use shuttle::sync::atomic::AtomicBool;
    pub(super) use shuttle::sync::atomic::AtomicUsize;

    #[derive(Debug)]
    pub(super) struct Condvar(sync::Condvar);

    impl Condvar {
        pub(super) fn new() -> Self {
            Self(sync::Condvar::new())
        }

        pub(super) fn wait_timeout<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            timeout: Duration,
        ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
            self.0.wait_timeout(guard, timeout)
        }

        pub(super) fn notify_all(&self) {
            self.0.notify_one();
        }
    }
}
