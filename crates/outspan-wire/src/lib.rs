//! Trace span formats as pure functions over bytes.
//!
//! No I/O, no async, no OpenTelemetry SDK: bytes in, bytes or borrowed views out.

pub mod otlp;
