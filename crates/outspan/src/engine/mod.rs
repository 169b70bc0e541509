//! Everything between "accepted" and "delivered, rejected or dropped": queues, batching, acks, retries and health.
//!
//! A queue has a reader for each destination. A reader holds batches until its exporter delivered or refused them for good, or they are lost for a reason that is counted.
//! Several exports are in flight at once. A batch that failed temporarily stays and is tried again, only what was not
//! delivered of it, as long as memory and the export limit allow; what waits longer is dropped as expired. While the destination is
//! down, one export at a time probes whether it is back; a batch that has not failed yet goes first. A batch that fails while
//! others succeed waits by itself and holds up no other.
//!
//! ```text
//!   push ──▶ fresh ──┬──▶ in flight ──▶ delivered, refused, dropped
//!            again ──┘        │
//!              ▲              │ temporary error
//!              └──────────────┘
//! ```
//!
//! It is bounded in bytes, and in spans where that is wanted. A source that pushes has reserved a [`Permit`] first, which counts the spans
//! as queued; the space is free again when a batch comes to its end.

mod ack;
mod backoff;
mod batcher;
mod driver;
mod health;
mod item;
mod memory;
mod merger;
#[cfg(test)]
mod model;
mod queue;
mod schedule;
mod settings;
mod span_queue;
#[cfg(test)]
mod tests;
mod tracked;
mod waiting;

use std::time::Duration;

pub use self::ack::Ack;
pub use self::ack::AckLevel;
pub use self::ack::AckOutcome;
pub(crate) use self::ack::Acks;
pub use self::ack::Dropped;
pub(crate) use self::backoff::Backoff;
pub(crate) use self::backoff::MAX_RETRY_AFTER;
pub use self::backoff::Retry;
pub use self::backoff::RetryEvent;
pub(crate) use self::health::Admission;
pub(crate) use self::health::Health;
pub use self::memory::MemoryQueue;
pub use self::memory::MemoryQueueBuilder;
pub use self::merger::BatchLimits;
pub use self::merger::Merger;
pub(crate) use self::queue::Flushed;
pub(crate) use self::queue::Queue;
pub(crate) use self::settings::Settings;
pub use self::span_queue::Permit;
pub use self::span_queue::Reader;
pub use self::span_queue::ReaderStatus;
pub use self::span_queue::ReserveError;
pub use self::span_queue::SpanQueue;
pub(crate) use self::tracked::Books;
#[cfg(feature = "sdk")]
pub(crate) use self::tracked::Completed;
pub(crate) use self::tracked::Entry;
#[cfg(any(feature = "sdk", test))]
pub(crate) use self::tracked::HandOver;
#[cfg(feature = "sdk")]
pub(crate) use self::tracked::Tracked;
#[cfg(feature = "sdk")]
pub(crate) use self::tracked::Unreported;
pub(crate) use crate::budget::Budget;

/// The longest wait between two attempts, whatever the user sets.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
