//! Jaeger's collector: Thrift in its binary protocol over HTTP.

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

pub use self::config::CollectorBuilder;

use self::send::Wire;

/// Starts an exporter to a Jaeger collector over HTTP, for example `http://localhost:14268`.
///
/// A URL without a path or with the path `/` gets `/api/traces`.
/// A URL with another path is used as it is. Without a port it is the
/// scheme's own (80 or 443); Jaeger usually listens on 14268.
pub fn collector(endpoint: impl Into<String>) -> CollectorBuilder {
    CollectorBuilder::new(endpoint.into())
}

/// Delivers batches in Thrift over HTTP.
///
/// A request holds spans of one resource, because Thrift has one process a batch; so a batch with several resources is
/// several requests, and where some of them fail the delivery names the spans of those. Success means that the collector
/// took every request (202, or any other status from 200 to 299). Exports run concurrently, at most
/// [`max_concurrent_exports`](CollectorBuilder::max_concurrent_exports) of them; further ones wait. It holds what its
/// running exports hold, which is each batch in Thrift as well. Flush waits for nothing, since exports are awaited by
/// their callers; shutdown closes the connections.
#[derive(Debug)]
struct Collector {
    sender: Arc<Sender<Wire>>,
}

impl Export for Collector {
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
