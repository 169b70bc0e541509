//! Spans in Apache Kafka: what the OpenTelemetry Collector's Kafka exporter writes and its Kafka receiver reads.
//!
//! Each message is one OTLP `ExportTraceServiceRequest` (`TracesData`), as protobuf or as JSON, on the topic `otlp_spans`
//! unless told otherwise.
//!
//! ```no_run
//! use outspan::Exporter;
//! use outspan::Retry;
//! use outspan::kafka;
//! use outspan::kafka::Codec;
//! use outspan::kafka::Key;
//!
//! let exporter: Exporter = kafka::brokers("kafka-1:9092,kafka-2:9092")
//!     .key(Key::TraceId)
//!     .codec(Codec::Zstd)
//!     .build()?
//!     .retry(Retry::default());
//! # Ok::<(), outspan::Error>(())
//! ```
//!
//! # What it promises
//!
//! - A span counts as accepted when every in-sync replica has it (`acks=all`). The producer is idempotent: while it tries
//!   again by itself, nothing is written twice and nothing changes places.
//! - What was not acknowledged is in [`Delivery::rest`] or the error, exactly, with Kafka's reason. A message that ran into its
//!   [time](Builder::delivery_timeout) may still have arrived; whoever sends it again may write it twice.
//! - With [`Key::TraceId`] all spans of a trace go to one partition, in the order in which exports are called. The order of
//!   exports that run at the same time is open, and what a retry sends comes behind what has meanwhile gone through.
//! - A batch is split to the broker's limit for a message, down to one span. If the broker's limit is smaller than
//!   [ours](Builder::message_bytes_max), the [`Exporter`](crate::Exporter) halves the batch, and the messages of its parts are
//!   sent one at a time.
//! - It holds at most [`queue_bytes_max`](Builder::queue_bytes_max) beside the batches of running exports. When that is
//!   full, exports wait for room, no longer than their deadline.
//!
//! Dropping the future of an export frees the batch. What Kafka's library had taken by then may still be delivered.
//!
//! Brokers are spoken to by the C library librdkafka, on threads of its own. What it has to say becomes `tracing` events with
//! the target `outspan`, a few at a time.

mod config;
mod encode;
mod producer;
mod send;
#[cfg(test)]
mod tests;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Error;
use crate::Export;
use crate::Result;

pub use self::config::Acks;
pub use self::config::Builder;
pub use self::config::Codec;
pub use self::config::Encoding;
pub use self::config::Key;
pub use self::config::Partitioner;

use self::send::Sender;

/// Starts an exporter for the Kafka cluster that these brokers belong to: `host:port`, with commas between several.
///
/// One broker is enough to find the others; several are better, because one may be down when the program starts.
/// Without a port it is 9092.
pub fn brokers(brokers: impl Into<String>) -> Builder {
    Builder::new(brokers.into())
}

/// Delivers batches to a topic.
///
/// Success means that Kafka acknowledged every message of the batch. Flush waits until nothing is on its way any more, of
/// exports that nobody waits for as well; shutdown does the same, gives up what is left at the deadline and closes the
/// connections.
#[derive(Debug)]
struct Kafka {
    sender: Sender,
}

impl Export for Kafka {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        if self.sender.is_closed() {
            return Err(Error::shut_down());
        }
        if batch.is_empty() {
            return Ok(Delivery::default());
        }
        self.sender.deliver(batch, until).await
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        self.sender.flush(until).await;
        Ok(Drained::default())
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        self.sender.shutdown(until).await;
        Ok(Drained::default())
    }
}
