//! Exporters: each delivers batches to one kind of destination.

mod blocking;
pub mod file;
#[cfg(feature = "_network")]
pub mod otlp;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod stdout;
mod worker;
mod written;
