//! Receivers as senders see them, over loopback connections.

#![allow(clippy::unwrap_used)]

mod bounds;
mod drains;
mod ends;
mod secure;
mod serving;

use std::future::pending;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::*;

/// How long anything may take that has no limit of its own.
const SOON: Duration = Duration::from_secs(20);

/// The bytes that a connection of HTTP/2 begins with: the preface and empty settings.
const HTTP2_BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A ping of HTTP/2, whose last eight bytes come back.
const HTTP2_PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingpong";

/// Answers according to the path.
#[derive(Debug, Default)]
struct Fake {
    begun: AtomicUsize,
    /// Requests that ended, answered or dropped.
    over: AtomicUsize,
    /// What `/hold` waits for.
    release: Arc<Release>,
}

#[derive(Debug)]
struct Release(Semaphore);

struct Over<'a>(&'a AtomicUsize);

impl Default for Release {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Answers for Fake {
    type Body = Full<Bytes>;

    async fn answer(&self, _: Protocol, request: Request<RequestBody>) -> Response<Self::Body> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let _over = Over(&self.over);
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/hold" => self.release.0.acquire().await.unwrap().forget(),
            "/never" => pending::<()>().await,
            "/panic" => panic!("a request that nobody thought of"),
            "/long" => return Response::new(vec![b'x'; 1 << 20].into()),
            "/refuse" => {
                let mut response = Response::new("no".into());
                *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
                return response;
            }
            "/first" => {
                let mut body = request.into_body();
                drop(body.frame().await);
                let is_over = Body::is_end_stream(&body);
                let words = format!("that was all: {is_over}");
                return Response::new(words.into());
            }
            _ => {}
        }
        let bytes = match request.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Response::new(error.to_string().into()),
        };
        Response::new(bytes.len().to_string().into())
    }
}

struct Server {
    receivers: Receivers,
    fake: Arc<Fake>,
    drains: Arc<Intake>,
    address: SocketAddr,
}

impl Server {
    async fn start() -> Self {
        Self::with(Limits::new(None), 1000, None).await
    }

    async fn limited(limits: Limits) -> Self {
        Self::with(limits, 1000, None).await
    }

    async fn with(limits: Limits, connections_max: usize, tls: Option<Tls>) -> Self {
        Self::with_heads(limits, connections_max, tls, 16 << 20).await
    }

    async fn with_heads(
        limits: Limits,
        connections_max: usize,
        tls: Option<Tls>,
        heads: usize,
    ) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listen = Listen::parse(&format!("{scheme}://127.0.0.1:0")).unwrap();
        let sockets = listen.open().await.unwrap();
        let address = sockets[0].source.address().unwrap();
        let fake = Arc::new(Fake::default());
        let drains = Arc::new(Intake::new(1 << 20));
        let hub = Hub {
            answers: Arc::clone(&fake),
            counters: Arc::new(Counters::new(Kind::ALL)),
            limits,
            heads: Arc::new(Intake::new(heads)),
            drains: Arc::clone(&drains),
            tls: tls.map(Arc::new),
            connections_max,
            remarks: Remarks::default(),
        };
        Self {
            receivers: Receivers::serve(sockets, hub, None),
            fake,
            drains,
            address,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn http1(&self) -> Client {
        Client::http1(self.connect().await).await
    }

    async fn http2(&self) -> Client {
        Client::http2(self.connect().await).await
    }

    /// Waits until so many requests have begun.
    async fn has_begun(&self, requests: usize) {
        until(|| self.fake.begun.load(Ordering::SeqCst) >= requests).await;
    }

    /// Waits until so many connections are open.
    async fn has_open(&self, connections: u64) {
        until(|| self.receivers.connections() == connections).await;
    }

    /// Proves that others are served.
    async fn is_well(&self) {
        assert_eq!(self.http1().await.send("/", b"abc").await, "3");
        assert_eq!(self.http2().await.send("/", b"abcd").await, "4");
    }
}

/// A sender of the other party's making.
enum Client {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (client, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self::Http1(client)
    }

    async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (client, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self::Http2(client)
    }

    async fn try_send(&mut self, path: &str, body: &[u8]) -> hyper::Result<Response<Incoming>> {
        let body = Full::new(Bytes::copy_from_slice(body));
        let request = Request::post(format!("http://localhost{path}"))
            .header("host", "localhost")
            .body(body)
            .unwrap();
        let response = async {
            match self {
                Self::Http1(client) => {
                    client.ready().await?;
                    client.send_request(request).await
                }
                Self::Http2(client) => {
                    client.ready().await?;
                    client.send_request(request).await
                }
            }
        };
        timeout(SOON, response).await.expect("an answer in time")
    }

    /// The text of the answer.
    async fn send(&mut self, path: &str, body: &[u8]) -> String {
        text(self.try_send(path, body).await.unwrap()).await
    }

    async fn is_closed(&self) {
        until(|| match self {
            Self::Http1(client) => client.is_closed(),
            Self::Http2(client) => client.is_closed(),
        })
        .await;
    }
}

async fn text(response: Response<Incoming>) -> String {
    let body = timeout(SOON, response.into_body().collect()).await;
    let bytes = body.expect("a body in time").unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Reads to the end of the connection; what an abrupt end leaves is returned as well.
async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    let end = timeout(SOON, stream.read_to_end(&mut all)).await;
    end.expect("the connection ends in time").ok();
    all
}

/// Waits until a condition holds.
async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            // Sleeps: counters tell nobody when they change.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, wait).await.expect("it comes to hold in time");
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
