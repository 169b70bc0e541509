//! Exporters: each delivers batches to one kind of destination.

mod blocking;
pub mod file;
#[cfg(feature = "_network")]
pub mod otlp;
pub mod stdout;
mod worker;
mod written;
