//! Jaeger's agent: Thrift in UDP datagrams, compact or binary.

mod address;
mod config;
mod encode;
mod pace;
mod send;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Error;
use crate::Export;
use crate::Result;
use crate::runtime::Runtime;

pub use self::config::AgentBuilder;

use self::send::Sender;

/// Starts an exporter to a Jaeger agent, or to whatever listens for its datagrams: `host:port`, for example
/// `localhost:6831`.
///
/// Without a port it is 6831, where agents listen for Thrift's compact protocol, or 6832 where
/// [`protocol`](AgentBuilder::protocol) says binary. IPv6 addresses stand in brackets: `[::1]:6831`.
///
/// # What it can promise
///
/// UDP has no answers. So a span counts as accepted when the kernel has taken its datagram, and what happens to it
/// then, on the way or in the agent, nobody learns. Where spans matter, use [`collector`](super::collector()) or
/// [`otlp`](mod@crate::otlp). What can be known is told:
///
/// - When nothing listens at the address, the host there says so (ICMP, "connection refused"). On the same machine that
///   is known with the datagram itself: the export fails, temporarily, and no span is lost. From another machine it
///   comes later: datagrams that had left by then counted as accepted. From there on each export waits up to 100 ms
///   for such a word behind each datagram, until one passes without it.
/// - A datagram that the kernel finds too long is tried again as two, and the limit stays halved. A span that fits into
///   no datagram is left in [`Delivery::rest`] with [`TooLarge`](crate::ErrorKind::TooLarge), and the others go.
/// - A receiver that does not read quickly enough loses datagrams without a word. So they are
///   [paced](AgentBuilder::bytes_per_second).
///
/// # Examples
///
/// ```
/// use outspan::Retry;
/// use outspan::jaeger;
///
/// # fn build() -> outspan::Result<()> {
/// let exporter = jaeger::agent("localhost:6831")
///     .build()?
///     .retry(Retry::default());
/// # drop(exporter);
/// # Ok(())
/// # }
/// # build().unwrap();
/// ```
pub fn agent(address: impl Into<String>) -> AgentBuilder {
    AgentBuilder::new(address.into())
}

/// Delivers batches in datagrams.
///
/// Success means that the kernel took every datagram. A datagram holds as many spans of one resource as fit. Exports run
/// one after the other, in the order in which they were called; what they hold is one datagram beside the batch. Flush
/// waits for nothing, since exports are awaited by their callers; shutdown closes the socket.
///
/// A name with several addresses is tried IPv4 first, as Jaeger's own clients do, and the next address when one refuses.
/// A host and a port alone say nothing of the network behind it, so the socket is bound to no address.
#[derive(Debug)]
struct Agent {
    sender: Arc<Sender>,
    /// Where the socket is, and every export.
    runtime: Runtime,
}

impl Export for Agent {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        if self.sender.is_closed() {
            return Err(Error::shut_down());
        }
        if batch.is_empty() {
            return Ok(Delivery::default());
        }
        let sender = Arc::clone(&self.sender);
        let work = async move { sender.deliver(batch, until).await };
        self.runtime.run_network(until, work).await
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        self.sender.close();
        Ok(Drained::default())
    }
}
