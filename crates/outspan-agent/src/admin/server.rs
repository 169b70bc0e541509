//! Answers over HTTP/1, within bounds.
//!
//! A connection is for one request and ends soon in any case. When as many are open as may be, the oldest one is closed
//! for the next: a client that asks and reads is done in milliseconds, so the oldest one is slow or idle, and nobody waits
//! behind it. Nothing that a request carries besides its head is read.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
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
use tokio::task::AbortHandle;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio::time::timeout;

use super::pages;
use super::snapshot::Source;

/// How long to wait when no connection can be taken, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Says what connections may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections that are open at a time; the oldest one makes way for one more.
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
    open: Mutex<Open>,
    source: Box<dyn Source + Send + Sync>,
}

/// The connections that are open on all addresses, by the order in which they came.
#[derive(Default)]
struct Open {
    connections: BTreeMap<u64, AbortHandle>,
    next: u64,
}

impl Server {
    /// Makes a server that reads `source` for each answer that needs it.
    pub(super) fn new(limits: Limits, source: impl Source + Send + Sync + 'static) -> Self {
        Self {
            limits,
            open: Mutex::default(),
            source: Box::new(source),
        }
    }

    /// Takes connections without end.
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
            while connections.try_join_next().is_some() {}
            self.spawn(stream, &mut connections);
            // Earlier connections are answered first. Otherwise a burst of connections could close those in front
            // of it that had no turn yet.
            tokio::task::yield_now().await;
        }
    }

    fn spawn(self: &Arc<Self>, stream: TcpStream, connections: &mut JoinSet<()>) {
        let server = Arc::clone(self);
        // Locked until the connection is among those that are open, so that it cannot be removed before.
        let mut open = self.lock();
        let number = open.next;
        let handle = connections.spawn(async move {
            server.converse(stream).await;
            server.lock().connections.remove(&number);
        });
        open.add(handle, self.limits.connections);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
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
        pages::answer(request.method(), request.uri().path(), &*self.source)
    }
}

impl Open {
    /// Adds the next connection, and closes the oldest one if there are more than `max` then.
    fn add(&mut self, connection: AbortHandle, max: usize) {
        self.connections.insert(self.next, connection);
        self.next += 1;
        if self.connections.len() > max
            && let Some((_, oldest)) = self.connections.pop_first()
        {
            oldest.abort();
            tracing::debug!(target: "outspan", "closed the oldest connection of the admin address for a new one");
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
