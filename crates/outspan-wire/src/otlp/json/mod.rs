//! OTLP JSON, in both directions.
//!
//! OTLP JSON is protobuf's JSON mapping with three changes: ids are hexadecimal, enums are numbers, and
//! unknown keys are ignored ("JSON Protobuf Encoding" in the OTLP specification). What the reader tolerates
//! beyond the rules stands at [`read_json`]; the writer keeps to them.

mod answer;
mod read;
mod write;

pub use self::answer::read_json_response;
pub use self::answer::read_json_status;
pub use self::answer::write_json_response;
pub use self::answer::write_json_status;
pub use self::read::JsonSummary;
pub use self::read::read_json;
pub use self::write::is_json_head_within;
pub use self::write::write_json;
pub use self::write::write_json_within;
