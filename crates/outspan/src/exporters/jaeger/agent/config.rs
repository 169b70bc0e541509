//! The options of an exporter to a Jaeger agent, checked when it is built.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use outspan_wire::jaeger::Dialect;
use outspan_wire::jaeger::Protocol;
use outspan_wire::jaeger::WriteOptions;

use crate::Error;
use crate::Exporter;
use crate::Result;
use crate::net::Resolver;
use crate::net::without_credentials;
use crate::runtime::Runtime;

use super::Agent;
use super::address::Address;
use super::address::Whereabouts;
use super::send::Sender;

/// What IPv4 has room for: 65,535 bytes without its own header (20) and UDP's (8).
const PACKET_BYTES_MAX: usize = 65_507;

/// As often as the clients of Jaeger did.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);

/// See [`AgentBuilder::bytes_per_second`].
const BYTES_PER_SECOND: usize = 16 << 20;

/// Collects the options of an exporter to a Jaeger agent; see [`agent`](super::agent()).
///
/// Every mistake is found by [`build`](Self::build).
#[derive(Clone)]
#[must_use]
pub struct AgentBuilder {
    address: String,
    options: WriteOptions,
    resolve_interval: Duration,
    bytes_per_second: usize,
    runtime: Runtime,
}

impl AgentBuilder {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            options: WriteOptions::datagram(),
            resolve_interval: RESOLVE_INTERVAL,
            bytes_per_second: BYTES_PER_SECOND,
            runtime: Runtime::shared(),
        }
    }

    /// Sets Thrift's form. Default: compact, which agents read on port 6831 and which is smaller; binary is for those that
    /// listen on 6832.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.options = self.options.protocol(protocol);
        self
    }

    /// Sets how many bytes a datagram may have, up to 65,507. Default: 65,000, which is what agents read unless told
    /// otherwise.
    ///
    /// Networks carry about 1,500 bytes at a time; a larger datagram goes in fragments, and is lost with each of them.
    /// Toward another machine, 1,400 to 8,000 loses less.
    pub fn max_packet_bytes(mut self, bytes: usize) -> Self {
        self.options = self.options.bytes_max(bytes);
        self
    }

    /// Sets by whose rules OTLP becomes Jaeger. Default: what OpenTelemetry's specification said while it had Jaeger
    /// exporters; the other is what the OpenTelemetry Collector writes.
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.options = self.options.dialect(dialect);
        self
    }

    /// Sets whether a span may get tags by which a reader of ours finds again what Thrift has no place for. Default: it
    /// may; only in OpenTelemetry's dialect.
    pub fn marks(mut self, marks: bool) -> Self {
        self.options = self.options.marks(marks);
        self
    }

    /// Sets how often the agent's name is looked up anew. Default: every 30 s, as the clients of Jaeger did it.
    ///
    /// It is also looked up after a datagram was refused. While an answer is awaited, and where there is none, the old
    /// address is used. Numeric addresses are not looked up at all.
    pub fn resolve_interval(mut self, interval: Duration) -> Self {
        self.resolve_interval = interval;
        self
    }

    /// Sets how many bytes go out in a second, at most, beyond the first 96 KiB. Default: 16 MiB (16,777,216), about
    /// 50,000 usual spans.
    ///
    /// A receiver's socket buffer has 208 KiB unless its owner says otherwise, which Linux fills with as little as 90
    /// KiB of small datagrams. What comes on top is lost, and nobody is told. So a burst is spread: 96 KiB fit in any case,
    /// and at 16 MiB a second the receiver may look away for some milliseconds. `usize::MAX` is as good as no limit.
    pub fn bytes_per_second(mut self, bytes: usize) -> Self {
        self.bytes_per_second = bytes;
        self
    }

    /// Sets where the socket is and exports run; see [`Runtime`]. Default: the library's own thread.
    pub fn runtime(mut self, runtime: impl Into<Runtime>) -> Self {
        self.runtime = runtime.into();
        self
    }

    /// Builds the exporter. No name is looked up and no socket opened yet: the first export does that.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for whatever is wrong: the address, a size of zero or beyond 65,507 bytes, zero
    /// bytes a second.
    pub fn build(self) -> Result<Exporter> {
        self.build_with(Resolver::new())
    }

    pub(super) fn build_with(self, lookup: impl super::address::Lookup) -> Result<Exporter> {
        let bytes = self.options.bytes_max;
        if bytes == 0 || bytes > PACKET_BYTES_MAX {
            return Err(Error::config(format!(
                "a packet cannot have {bytes} bytes: set max_packet_bytes to 1 up to {PACKET_BYTES_MAX}"
            )));
        }
        if self.bytes_per_second == 0 {
            return Err(Error::config(
                "0 bytes a second are no pace: set bytes_per_second to 1 or more",
            ));
        }
        self.runtime.check()?;
        let port = match self.options.protocol {
            Protocol::Binary => 6832,
            _ => 6831,
        };
        let address = Address::parse(&self.address, port)?;
        let whereabouts = Whereabouts::new(address, Box::new(lookup), self.resolve_interval);
        let sender = Sender::new(self.options, whereabouts, self.bytes_per_second);
        Ok(Exporter::new(Agent {
            sender: Arc::new(sender),
            runtime: self.runtime,
        }))
    }
}

impl fmt::Debug for AgentBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentBuilder")
            .field("address", &without_credentials(&self.address))
            .field("options", &self.options)
            .field("resolve_interval", &self.resolve_interval)
            .field("bytes_per_second", &self.bytes_per_second)
            .finish()
    }
}
