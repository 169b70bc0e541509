//! The code with shuttle's types.

#[path = "../budget.rs"]
#[allow(dead_code, reason = "a scenario needs a part of it")]
#[allow(clippy::duplicate_mod, reason = "with other types")]
mod budget;
#[cfg(feature = "sdk")]
#[path = "../sdk/batch_processor/buffer.rs"]
#[allow(dead_code, reason = "a scenario needs a part of it")]
#[allow(clippy::duplicate_mod, reason = "with other types")]
mod buffer;
#[cfg(feature = "sdk")]
#[path = "buffers.rs"]
pub(super) mod buffers;
#[path = "../owner.rs"]
#[allow(clippy::duplicate_mod, reason = "with other types")]
mod owner;
#[path = "scenarios.rs"]
#[allow(clippy::duplicate_mod, reason = "with other types")]
pub(super) mod scenarios;

/// Shuttle's types under the names that the code imports.
mod sync {
    pub(super) use shuttle::sync::Condvar;
    pub(super) use shuttle::sync::Mutex;
    #[cfg(feature = "sdk")]
    pub(super) use shuttle::sync::MutexGuard;
    pub(super) use shuttle::sync::atomic::AtomicBool;
    #[cfg(feature = "sdk")]
    pub(super) use shuttle::sync::atomic::AtomicU64;
    pub(super) use shuttle::sync::atomic::AtomicUsize;
}

/// Threads of a scenario share one thread of the operating system.
#[cfg(feature = "sdk")]
fn thread_number() -> usize {
    shuttle::current::me().into()
}
