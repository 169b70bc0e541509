//! The types of std that modelled code coordinates threads with.
//!
//! Code that the models check takes them from `super::sync`. In the library that is this module; the models include the
//! same files again below a module that has shuttle's types in their place.

pub(crate) use std::sync::Condvar;
pub(crate) use std::sync::Mutex;
#[cfg(feature = "sdk")]
pub(crate) use std::sync::MutexGuard;
pub(crate) use std::sync::atomic::AtomicBool;
#[cfg(feature = "sdk")]
pub(crate) use std::sync::atomic::AtomicU64;
pub(crate) use std::sync::atomic::AtomicUsize;
