//! Answers over HTTP/1, within bounds.
//!
//! A connection is for one request and ends soon in any case, so whoever holds connections open keeps others waiting for
//! seconds at most. Nothing that a request carries besides its head is read.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio::time::timeout;

use super::pages;
use super::snapshot::Snapshot;

/// How long to wait when no connection can be taken, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Says what connections may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections that are served at a time; others wait.
    pub(super) connections: usize,
    /// How long the head of a request may take to arrive.
    pub(super) head: Duration,
    /// How long a connection may take in all, with its answer.
    pub(super) whole: Duration,
    /// Bytes of a request's head at most.
    pub(super) head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head: Duration::from_secs(5),
            whole: Duration::from_secs(15),
            head_bytes: 16 << 10,
        }
    }
}

/// Answers requests from a source of snapshots.
pub(super) struct Server {
    limits: Limits,
    slots: Arc<Semaphore>,
    read: Box<dyn Fn() -> Snapshot + Send + Sync>,
}

impl Server {
    /// Makes a server that calls `read` for each answer that needs it.
    pub(super) fn new(limits: Limits, read: impl Fn() -> Snapshot + Send + Sync + 'static) -> Self {
        Self {
            limits,
            slots: Arc::new(Semaphore::new(limits.connections)),
            read: Box::new(read),
        }
    }

    /// Takes connections for ever.
    ///
    /// # Cancellation
    ///
    /// Dropping the future closes the socket and every connection of it.
    pub(super) async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(target: "outspan", "no connection on the admin address: {error}");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Besides those that are served, one connection waits here, the others in the kernel.
            let slot = Arc::clone(&self.slots).acquire_owned().await;
            let slot = slot.expect("nobody closes the semaphore");
            while connections.try_join_next().is_some() {}
            let server = Arc::clone(&self);
            connections.spawn(async move {
                server.converse(stream).await;
                drop(slot);
            });
        }
    }

    async fn converse(&self, stream: TcpStream) {
        let service = service_fn(|request: Request<Incoming>| {
            let answer = self.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(self.limits.head_bytes)
            .keep_alive(false);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        match timeout(self.limits.whole, connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(target: "outspan", "broken connection on the admin address: {error}");
            }
            Err(_) => {
                tracing::debug!(target: "outspan", "slow connection on the admin address");
            }
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        pages::answer(request.method(), request.uri().path(), &self.read)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
