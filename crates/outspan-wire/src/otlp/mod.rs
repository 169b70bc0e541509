//! The OpenTelemetry Protocol: `ExportTraceServiceRequest` in protobuf and JSON.

mod error;
mod fields;
mod reader;

pub use error::WireError;
pub use error::WireErrorKind;
