//! Trace span formats as pure functions over bytes.
//!
#![doc = include_str!("../README.md")]

mod buffer;
mod error;
pub mod grpc;
pub mod jaeger;
mod json;
pub mod otlp;
mod piece;
mod read_output;
pub mod zipkin;

pub use piece::Piece;
pub use piece::PieceContent;
pub use piece::ReadRequest;
