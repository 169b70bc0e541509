//! The code with atomics whose changes are two steps, so that one change can undo another.

#[path = "../budget.rs"]
#[allow(dead_code, reason = "a scenario needs a part of it")]
#[allow(clippy::duplicate_mod, reason = "with other types")]
mod budget;
#[path = "../owner.rs"]
#[allow(clippy::duplicate_mod, reason = "with other types")]
mod owner;
#[path = "scenarios.rs"]
#[allow(dead_code, reason = "some scenarios are for other bugs")]
#[allow(clippy::duplicate_mod, reason = "with other types")]
pub(super) mod scenarios;

mod sync {
    use std::sync::atomic::Ordering;

    pub(super) use shuttle::sync::Condvar;
    pub(super) use shuttle::sync::Mutex;
    use shuttle::sync::atomic;
    pub(super) use shuttle::sync::atomic::AtomicBool;

    #[derive(Debug)]
    pub(super) struct AtomicUsize(atomic::AtomicUsize);

    impl AtomicUsize {
        pub(super) const fn new(value: usize) -> Self {
            Self(atomic::AtomicUsize::new(value))
        }

        pub(super) fn load(&self, order: Ordering) -> usize {
            self.0.load(order)
        }

        pub(super) fn fetch_add(&self, amount: usize, _order: Ordering) -> usize {
            let before = self.0.load(Ordering::SeqCst);
            self.0.store(before.wrapping_add(amount), Ordering::SeqCst);
            before
        }

        pub(super) fn fetch_sub(&self, amount: usize, _order: Ordering) -> usize {
            let before = self.0.load(Ordering::SeqCst);
            self.0.store(before.wrapping_sub(amount), Ordering::SeqCst);
            before
        }

        pub(super) fn fetch_update(
            &self,
            _set_order: Ordering,
            fetch_order: Ordering,
            change: impl Fn(usize) -> Option<usize>,
        ) -> Result<usize, usize> {
            let before = self.0.load(fetch_order);
            let after = change(before).ok_or(before)?;
            self.0.store(after, Ordering::SeqCst);
            Ok(before)
        }
    }
}
