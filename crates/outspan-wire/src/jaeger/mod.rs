//! Jaeger: spans in Thrift, binary and compact, over HTTP and UDP, and the JSON of Jaeger's query API, in both directions.
//!
//! [`Writer`] turns an OTLP request into Thrift, [`read_batch`] and [`read_datagram`] turn Thrift into OTLP. Jaeger's model is older and smaller than OTLP's: it has no instrumentation
//! scope, no status, no trace state, and its values are texts, numbers, truth values and bytes. The mapping is the one that
//! OpenTelemetry specified for its Jaeger exporters ([`Dialect::OpenTelemetry`]), or the Collector's
//! ([`Dialect::Collector`]); what neither has a place for goes into one more tag, so that reading gives back what was written.
//! The project's `docs/jaeger.md` has all of it in tables.

mod marks;
mod names;
mod options;
mod query;
mod read;
mod write;

pub use options::Dialect;
pub use options::Envelope;
pub use options::Protocol;
pub use options::WriteOptions;
pub use query::read_query_json;
pub use query::write_query_json;
pub use read::ReadLimits;
pub use read::read_batch;
pub use read::read_datagram;
pub use write::Pieces;
pub use write::Writer;
