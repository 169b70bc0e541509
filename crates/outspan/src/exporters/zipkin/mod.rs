//! Zipkin: spans in its v2 format over HTTP, as JSON or protobuf, to any server that speaks it.
//!
//! ```
//! use std::time::Duration;
//!
//! use outspan::{Compression, Retry, zipkin};
//!
//! # fn build() -> outspan::Result<()> {
//! let exporter = zipkin::http("http://localhost:9411")
//!     .compression(Compression::Gzip)
//!     .build()?
//!     .timeout(Duration::from_secs(10)) // each attempt
//!     .retry(Retry::default());
//! # drop(exporter);
//! # Ok(())
//! # }
//! # build().unwrap();
//! ```
//!
//! What of a span becomes what in Zipkin, and what is lost on the way, is in the documentation of
//! [`wire::zipkin`](crate::wire::zipkin). The exporter delivers; it does not retry, time out, log or count. It does split
//! what is too large for one request, down to one span.

mod config;
mod encode;
mod send;

use std::sync::Arc;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Export;
use crate::Result;
use crate::net::Sender;

pub use self::config::Builder;
pub use crate::net::HeaderProvider;
pub use crate::net::Intercept;
pub use crate::net::OutgoingRequest;
pub use crate::net::Tls;
pub use outspan_wire::zipkin::Dialect;
pub use outspan_wire::zipkin::Format;

use self::send::Wire;

/// Starts an exporter to a Zipkin server, for example `http://localhost:9411`.
///
/// A URL without a path or with the path `/` gets `/api/v2/spans`.
/// A URL with another path is used as it is. Without a port it is the
/// scheme's own (80 or 443); Zipkin usually listens on 9411.
pub fn http(endpoint: impl Into<String>) -> Builder {
    Builder::new(endpoint.into())
}

/// Delivers batches in Zipkin's format.
///
/// Success means that the server took every request (202, or any other status from 200 to 299); Zipkin stores spans
/// after it has answered. Exports run concurrently, at most
/// [`max_concurrent_exports`](Builder::max_concurrent_exports) of them; further ones wait. It holds what its running
/// exports hold, which is each batch in Zipkin's format as well. Flush waits for nothing, since exports are awaited by
/// their callers; shutdown closes the connections.
#[derive(Debug)]
struct Zipkin {
    sender: Arc<Sender<Wire>>,
}

impl Export for Zipkin {
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
