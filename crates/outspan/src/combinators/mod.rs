//! Exporters built from exporters.
//!
//! Each call wraps what stands before it; the last one written is the outermost.

mod balance;
mod breaker;
mod children;
mod fallback;
mod fan_out;
mod filtered;
mod limited;
mod logged;
mod mapped;
mod measured;
mod queued;
mod retry;
mod route;
mod scrubbed;
mod timeout;

pub use balance::Balance;
pub use balance::BalanceBy;
pub use breaker::Breaker;
pub use breaker::BreakerEvent;
pub use breaker::BreakerState;
pub use fallback::Fallback;
pub use fan_out::FanOut;
pub use fan_out::WaitFor;
pub use filtered::Filtered;
pub use limited::Limited;
pub use logged::Logged;
pub use mapped::AttributeValue;
pub use mapped::Edit;
pub use mapped::EditCounts;
pub use mapped::Mapped;
pub use measured::Durations;
pub use measured::ExportCounts;
pub use measured::FailureRateEvent;
pub use measured::Failures;
pub use measured::Measured;
pub use measured::MeasuredHandle;
pub use measured::Report;
pub use measured::SpanCounts;
pub use measured::Stats;
pub use queued::FullPolicy;
pub use queued::QueueHandle;
pub use queued::Queued;
pub use route::FallOn;
pub use scrubbed::Scrubbed;
pub use timeout::Timeout;

pub use crate::engine::Retry;
pub use crate::engine::RetryEvent;
