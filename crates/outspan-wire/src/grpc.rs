//! The pieces of gRPC's unary calls that are plain bytes: status codes, message frames, header values.
//!
//! ```text
//! body    = prefix message                     one message each way in a unary call
//! prefix  = flag(0: plain, 1: compressed) length(4 bytes, big-endian)
//! headers = grpc-timeout: 1*8DIGIT ("H" / "M" / "S" / "m" / "u" / "n")
//! trailers = grpc-status: 1*DIGIT, grpc-message: percent-encoded text, grpc-status-details-bin: base64
//! ```
//!
//! The names of headers and the HTTP/2 around them belong to whoever has the connection. Source: "gRPC over HTTP2" and
//! "Status codes and their use in gRPC", in the documentation of gRPC.

mod code;
mod frame;
mod header;

pub use self::code::Code;
pub use self::code::read_code;
pub use self::frame::FrameError;
pub use self::frame::Prefix;
pub use self::frame::read_frame;
pub use self::header::InvalidTimeout;
pub use self::header::TIMEOUT_MAX;
pub use self::header::read_binary;
pub use self::header::read_message;
pub use self::header::read_timeout;
pub use self::header::write_binary;
pub use self::header::write_message;
pub use self::header::write_timeout;
