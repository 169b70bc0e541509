//! The OpenTelemetry Protocol: `ExportTraceServiceRequest` in protobuf and JSON.

mod answer;
mod encode;
mod error;
mod fields;
mod limits;
mod reader;
mod writer;

pub use answer::PartialSuccess;
pub use answer::RpcStatus;
pub use answer::read_response;
pub use answer::read_status;
pub use encode::ArrayWriter;
pub use encode::EncodeSpan;
pub use encode::EncodeValue;
pub use encode::EncodedRequest;
pub use encode::EncodedResource;
pub use encode::Encoder;
pub use encode::EventWriter;
pub use encode::LinkWriter;
pub use encode::MapWriter;
pub use encode::ResourceWriter;
pub use encode::ScopeWriter;
pub use encode::SpanWriter;
pub use encode::ValueWriter;
pub use encode::Written;
pub use error::WireError;
pub use error::WireErrorKind;
pub use limits::SpanLimits;
