//! Exporters built from exporters.
//!
//! Each call wraps what stands before it; the last one written is the outermost.

mod retry;
mod timeout;

pub(crate) use retry::Backoff;
pub use retry::Retry;
pub use timeout::Timeout;
