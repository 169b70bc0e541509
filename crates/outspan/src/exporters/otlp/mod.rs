//! OTLP over gRPC and over HTTP, to any server that speaks it.
//!
//! ```
//! # #[cfg(feature = "grpc")] {
//! use std::time::Duration;
//!
//! use outspan::{Compression, Retry, otlp};
//!
//! # fn build() -> outspan::Result<()> {
//! let exporter = otlp::grpc("http://localhost:4317")
//!     .header("x-tenant", "shop")
//!     .compression(Compression::Gzip)
//!     .build()?
//!     .timeout(Duration::from_secs(10)) // each attempt
//!     .retry(Retry::default());
//! # drop(exporter);
//! # Ok(())
//! # }
//! # build().unwrap();
//! # }
//! ```
//!
//! The exporter delivers; it does not retry, time out, log or count. It does split what is too large for the
//! destination, down to one span, because only it knows the limits.

mod config;
mod encode;
mod grpc;
mod http;
mod send;

use std::sync::Arc;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Export;
use crate::Result;

pub use self::config::Builder;
pub use self::config::Protocol;
pub use crate::net::HeaderProvider;
pub use crate::net::Intercept;
pub use crate::net::OutgoingRequest;
pub use crate::net::Tls;

use self::send::Wire;
use crate::net::Sender;

/// Starts an exporter for OTLP/gRPC, for example to `http://localhost:4317`.
///
/// `http` and `https` (also `grpc` and `grpcs`) decide whether the connection is encrypted. Without a scheme it is,
/// unless [`insecure`](Builder::insecure) says otherwise. Without a port it is 4317. Unix sockets have the forms of gRPC:
/// `unix:///run/collector.sock`, `unix:collector.sock`, and on Linux `unix-abstract:collector`.
#[cfg(feature = "grpc")]
pub fn grpc(endpoint: impl Into<String>) -> Builder {
    Builder::new(Protocol::Grpc, endpoint.into())
}

/// Starts an exporter for OTLP/HTTP with protobuf bodies, for example to `http://localhost:4318`.
///
/// A URL without a path or with the path `/` gets `/v1/traces`.
/// A URL with another path is used as it is. Without a port it is the scheme's own
/// (80 or 443). For JSON bodies see [`Builder::protocol`]. Unix sockets have the forms of gRPC
/// (`unix:///run/collector.sock`), or `http+unix://%2Frun%2Fcollector.sock/path`.
#[cfg(feature = "http")]
pub fn http(endpoint: impl Into<String>) -> Builder {
    Builder::new(Protocol::HttpProtobuf, endpoint.into())
}

/// Delivers batches over OTLP.
///
/// Success means that the server acknowledged the request. Exports run concurrently on one connection (gRPC, HTTP/2) or
/// several (HTTP/1.1), at most [`max_concurrent_exports`](Builder::max_concurrent_exports) of them; further ones wait.
/// It holds what its running exports hold. Flush waits for nothing, since exports are awaited by their callers; shutdown
/// closes the connections.
#[derive(Debug)]
struct Otlp {
    sender: Arc<Sender<Wire>>,
}

impl Export for Otlp {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        self.sender.export(batch, until).await
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        self.sender.close();
        Ok(Drained::default())
    }
}
