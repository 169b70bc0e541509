//! Exporters: each delivers batches to one kind of destination.

mod blocking;
pub mod file;
#[cfg(feature = "http")]
pub mod http_json;
#[cfg(feature = "http")]
pub mod http_post;
#[cfg(feature = "jaeger")]
pub mod jaeger;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "_otlp")]
pub mod otlp;
pub mod stdout;
mod worker;
mod written;
#[cfg(feature = "zipkin")]
pub mod zipkin;
