//! Sends bodies of one's own making with HTTP POST: what an exporter needs that speaks some JSON API.
//!
//! [`to`] takes a URL and has every option of the OTLP exporter: headers, tokens that expire, TLS, compression, proxies,
//! limits. A [`Poster`] then turns batches into requests with a function of yours, splits what is too large, and says
//! truthfully what became of each span. What is left to you is the function, and an [`Export`](crate::Export) around it;
//! [`http_json`](crate::http_json) is a whole one to copy.
//!
//! ```
//! use outspan::Batch;
//! use outspan::Compression;
//! use outspan::http_post;
//!
//! fn names(batch: &Batch) -> outspan::Result<Vec<u8>> {
//!     let names: Vec<&str> = batch.iter().map(|span| span.name()).collect();
//!     Ok(names.join("\n").into_bytes())
//! }
//!
//! # fn build() -> outspan::Result<http_post::Poster> {
//! let poster = http_post::to("https://example.com/names")
//!     .content_type("text/plain")
//!     .header("x-tenant", "shop")
//!     .compression(Compression::Gzip)
//!     .build(names)?;
//! # Ok(poster)
//! # }
//! # build().unwrap();
//! ```

mod body;
mod config;
mod send;

use std::sync::Arc;

use futures_util::FutureExt;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Result;
use crate::export;
use crate::net::Sender;

pub use self::body::BodyWriter;
pub use self::config::Builder;

use self::send::Post;

/// Starts a [`Poster`] to a URL, which is used as it is: `http` or `https`, host, port, path and query.
pub fn to(url: impl Into<String>) -> Builder {
    Builder::new(url.into())
}

/// Delivers batches by HTTP POST, in bodies that a function makes.
///
/// Success is a status from 200 to 299. Deliveries run concurrently, at most
/// [`max_concurrent_exports`](Builder::max_concurrent_exports) of them; further ones wait. It holds what its running
/// deliveries hold. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Poster {
    sender: Arc<Sender<Post>>,
    /// Tells it from exporters in what batches remember.
    number: u64,
}

impl Poster {
    /// Delivers a batch, in several requests where one would be too large. The empty batch is delivered by doing nothing.
    ///
    /// 413 from the server halves the request, down to one span. The first temporary trouble ends the delivery: what was
    /// not sent by then is the delivery's [rest](Delivery::rest). It neither retries nor times out by itself.
    ///
    /// # Errors
    ///
    /// When nothing was delivered: [`Throttled`](crate::ErrorKind::Throttled) (429) and
    /// [`Unavailable`](crate::ErrorKind::Unavailable) (408, 500, 502, 503, 504, or no connection), with the server's
    /// `Retry-After`; [`Timeout`](crate::ErrorKind::Timeout) at the deadline; [`TooLarge`](crate::ErrorKind::TooLarge)
    /// for single spans; [`Refused`](crate::ErrorKind::Refused) for other statuses;
    /// [`ShutDown`](crate::ErrorKind::ShutDown) after [`close`](Self::close); and whatever the function returned.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends the request. The server may have received the spans all the same.
    pub async fn deliver(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let call = |part| self.sender.export(part, until).boxed();
        export::export_in_parts(self.number, batch, until, call).await
    }

    /// Refuses every later delivery, and closes the connections as soon as they are idle.
    pub fn close(&self) {
        self.sender.close();
    }
}
