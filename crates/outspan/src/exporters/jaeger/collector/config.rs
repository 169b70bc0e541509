//! The options of an exporter to a Jaeger collector, checked when it is built.

use std::fmt;
use std::sync::Arc;

use outspan_wire::jaeger::Dialect;
use outspan_wire::jaeger::Envelope;
use outspan_wire::jaeger::Protocol;
use outspan_wire::jaeger::WriteOptions;

use crate::Exporter;
use crate::Result;
use crate::net::HttpOptions;
use crate::net::Manner;
use crate::net::OUR_USER_AGENT;
use crate::net::Versions;
use crate::net::exporter_id;
use crate::net::http_options;

use super::Collector;
use super::send::Wire;

/// Where the collector takes Thrift over HTTP (Jaeger's "APIs", "Thrift over HTTP").
const PATH: &str = "/api/traces";

const MANNER: Manner = Manner {
    user_agent: OUR_USER_AGENT,
    versions: Versions::OneOrTwo,
    max_request_bytes: WriteOptions::DEFAULT_BYTES_MAX,
    wrong_version_hint: " (the server speaks HTTP/2 as gRPC does: Jaeger usually listens for Thrift over HTTP on port 14268)",
};

/// Collects the options of an exporter to a Jaeger collector; see [`collector`](super::collector).
///
/// Every mistake is found by [`build`](Self::build).
#[must_use]
pub struct CollectorBuilder {
    options: WriteOptions,
    http: HttpOptions,
}

impl CollectorBuilder {
    pub(super) fn new(endpoint: String) -> Self {
        Self {
            options: WriteOptions::default(),
            http: HttpOptions::new(endpoint),
        }
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

    http_options! {
        " Default: 5 MiB: a collector has no limit of its own, but what stands before it usually has one."
    }

    /// Builds the exporter. Nothing is dialled yet: the first export does that.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for whatever is wrong: endpoint, header, path, level, TLS file, zero limits.
    pub fn build(self) -> Result<Exporter> {
        let endpoint = self.http.parse_endpoint(PATH)?;
        let wire = Wire {
            options: self
                .options
                .protocol(Protocol::Binary)
                .envelope(Envelope::Batch),
            compressor: self.http.compressor()?,
            id: exporter_id(),
        };
        let sender = self.http.into_sender(wire, endpoint, &MANNER)?;
        Ok(Exporter::new(Collector {
            sender: Arc::new(sender),
        }))
    }
}

impl fmt::Debug for CollectorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("CollectorBuilder");
        shown.field("options", &self.options);
        self.http.show(&mut shown);
        shown.finish_non_exhaustive()
    }
}
