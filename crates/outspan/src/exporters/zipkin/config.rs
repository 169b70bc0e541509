//! The options of a Zipkin exporter, checked when it is built.

use std::fmt;
use std::sync::Arc;

use outspan_wire::zipkin::Dialect;
use outspan_wire::zipkin::Format;
use outspan_wire::zipkin::WriteOptions;

use crate::Exporter;
use crate::Result;
use crate::net::HttpOptions;
use crate::net::Manner;
use crate::net::OUR_USER_AGENT;
use crate::net::Versions;
use crate::net::exporter_id;
use crate::net::http_options;

use super::Zipkin;
use super::send::Wire;

/// Where Zipkin takes spans (zipkin2-api.yaml).
const PATH: &str = "/api/v2/spans";

const MANNER: Manner = Manner {
    user_agent: OUR_USER_AGENT,
    versions: Versions::OneOrTwo,
    max_request_bytes: WriteOptions::DEFAULT_BYTES_MAX,
    wrong_version_hint: " (the server speaks HTTP/2 as gRPC does: Zipkin usually listens on port 9411)",
};

/// Collects the options of a Zipkin exporter; see [`http`](super::http).
///
/// Every mistake is found by [`build`](Self::build).
#[must_use]
pub struct Builder {
    options: WriteOptions,
    http: HttpOptions,
}

impl Builder {
    pub(super) fn new(endpoint: String) -> Self {
        Self {
            options: WriteOptions::default(),
            http: HttpOptions::new(endpoint),
        }
    }

    /// Sets the form of the spans. Default: JSON, which every Zipkin backend reads; protobuf is smaller.
    pub fn format(mut self, format: Format) -> Self {
        self.options = self.options.format(format);
        self
    }

    /// Sets by whose rules OTLP becomes Zipkin. Default: OpenTelemetry's specification; the other is what the
    /// Collector's Zipkin exporter writes.
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.options = self.options.dialect(dialect);
        self
    }

    /// Sets whether a span may get the tag `outspan.otlp`, by which a reader of ours tells attributes of the span from
    /// those of its resource and numbers from text. Default: it may; only in the specification's dialect.
    pub fn marks(mut self, marks: bool) -> Self {
        self.options = self.options.marks(marks);
        self
    }

    http_options! {
        " Default: 5 MiB, half of what a Zipkin server takes unless it is told otherwise."
    }

    /// Builds the exporter. Nothing is dialled yet: the first export does that.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for whatever is wrong: endpoint, header, path, level, TLS file, zero limits.
    pub fn build(self) -> Result<Exporter> {
        let endpoint = self.http.parse_endpoint(PATH)?;
        let wire = Wire {
            options: self.options,
            compressor: self.http.compressor()?,
            id: exporter_id(),
        };
        let sender = self.http.into_sender(wire, endpoint, &MANNER)?;
        Ok(Exporter::new(Zipkin {
            sender: Arc::new(sender),
        }))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Builder");
        shown.field("options", &self.options);
        self.http.show(&mut shown);
        shown.finish_non_exhaustive()
    }
}
