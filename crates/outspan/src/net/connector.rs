//! Dialling: TCP, then TLS where the endpoint asks for it, and a look at who answers.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use http::Uri;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::connect::Connected;
use hyper_util::client::legacy::connect::Connection;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::tls::TlsInUse;

/// What the first bytes of a plaintext answer look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Speaks {
    Unknown = 0,
    /// A TLS alert: the server expected TLS.
    Tls = 1,
    /// HTTP/1.
    Http1 = 2,
    /// HTTP/2 frames.
    Http2 = 3,
}

/// Remembers how the server answered last, to say in words what is wrong when two sides do not understand each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<AtomicU8>);

impl Heard {
    pub(crate) fn speaks(&self) -> Speaks {
        match self.0.load(Ordering::Relaxed) {
            1 => Speaks::Tls,
            2 => Speaks::Http1,
            3 => Speaks::Http2,
            _ => Speaks::Unknown,
        }
    }

    fn listen(&self, first: &[u8]) {
        let speaks = match first {
            [0x15, 0x03, ..] => Speaks::Tls,
            [b'H', b'T', b'T', b'P', ..] => Speaks::Http1,
            // A SETTINGS frame: three bytes of length, type 4.
            [0x00, _, _, 0x04, ..] => Speaks::Http2,
            _ => Speaks::Unknown,
        };
        self.0.store(speaks as u8, Ordering::Relaxed);
    }
}

/// Opens connections to one destination.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    tls: Option<Arc<TlsInUse>>,
    heard: Heard,
    timeout: Duration,
}

impl Connector {
    pub(crate) fn new(tls: Option<TlsInUse>, timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        // A peer that vanished without a word is noticed while bytes wait for it, not after the kernel's 15 minutes.
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(Duration::from_secs(30)));
        Self {
            tcp,
            tls: tls.map(Arc::new),
            heard: Heard::default(),
            timeout,
        }
    }

    pub(crate) fn heard(&self) -> &Heard {
        &self.heard
    }
}

type Dial = Pin<Box<dyn Future<Output = Result<Stream, Box<dyn StdError + Send + Sync>>> + Send>>;

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = Dial;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Dial {
        let dial = self.tcp.call(uri);
        let tls = self.tls.clone();
        let heard = self.heard.clone();
        let timeout = self.timeout;
        Box::pin(async move {
            // Looking the name up counts as well; the connector's own limit is for the addresses alone.
            let dialled = tokio::time::timeout(timeout, dial).await;
            let tcp = match dialled {
                Ok(Err(error)) if !has_timed_out(&error) => return Err(error.into()),
                Ok(Ok(tcp)) => tcp,
                _ => return Err(too_late("connection", timeout)),
            };
            let Some(tls) = tls else {
                let heard = Some(heard);
                return Ok(Stream::Plain { tcp, heard });
            };
            let connector = TlsConnector::from(tls.config());
            let handshake = connector.connect(tls.name(), tcp.into_inner());
            match tokio::time::timeout(timeout, handshake).await {
                Ok(stream) => Ok(Stream::Tls(Box::new(TokioIo::new(stream?)))),
                Err(_) => Err(too_late("TLS handshake", timeout)),
            }
        })
    }
}

fn has_timed_out(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let input_or_output = error.downcast_ref::<io::Error>();
        if input_or_output.is_some_and(|e| e.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn too_late(what: &str, timeout: Duration) -> Box<dyn StdError + Send + Sync> {
    let text = format!("no {what} within the connect timeout of {timeout:?}");
    io::Error::new(io::ErrorKind::TimedOut, text).into()
}

/// A connection, plain or encrypted.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain {
        tcp: TokioIo<TcpStream>,
        heard: Option<Heard>,
    },
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain { tcp, .. } => tcp.connected(),
            Self::Tls(stream) => {
                let (tcp, session) = stream.inner().get_ref();
                match session.alpn_protocol() {
                    Some(b"h2") => tcp.connected().negotiated_h2(),
                    _ => tcp.connected(),
                }
            }
        }
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buf),
            Self::Plain { tcp, heard: None } => Pin::new(tcp).poll_read(context, buf),
            Self::Plain { tcp, heard } => {
                // The first answer is read into a buffer of ours, looked at, and handed on.
                let mut first = [0; 16];
                let room = first.len().min(buf.remaining());
                let mut own = hyper::rt::ReadBuf::new(first.get_mut(..room).unwrap_or_default());
                std::task::ready!(Pin::new(tcp).poll_read(context, own.unfilled()))?;
                if let Some(heard) = heard.take() {
                    heard.listen(own.filled());
                }
                buf.put_slice(own.filled());
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain { tcp, .. } => Pin::new(tcp).poll_write(context, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain { tcp, .. } => Pin::new(tcp).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain { tcp, .. } => Pin::new(tcp).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain { tcp, .. } => tcp.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain { tcp, .. } => Pin::new(tcp).poll_write_vectored(context, bufs),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(context, bufs),
        }
    }
}
