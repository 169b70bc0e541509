//! Zipkin v2: spans as JSON (`application/json`) and protobuf (`application/x-protobuf`), in both directions.
//!
//! [`Writer`] turns an OTLP request into messages for `POST /api/v2/spans`, [`read_json`] and [`read_protobuf`] turn such
//! messages into OTLP. Zipkin knows less than OTLP: attributes are texts, events are times with a text, and there is no
//! resource. The mapping is the one that OpenTelemetry specifies for its Zipkin exporters ([`Dialect::Specification`]), or
//! the Collector's ([`Dialect::Collector`]); what neither has a place for goes into a few more tags, so that reading gives
//! back what was written. The project's `docs/zipkin.md` has all of it in tables.

mod fields;
mod keys;
mod marks;
mod names;
mod options;
mod read;
mod write;

pub use options::Dialect;
pub use options::Format;
pub use options::WriteOptions;
pub use read::ReadLimits;
pub use read::read_json;
pub use read::read_protobuf;
pub use write::Pieces;
pub use write::Writer;
