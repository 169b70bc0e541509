//! Dialling: TCP or a unix socket, past a proxy where there is one, then TLS where the endpoint asks for it, and a look
//! at who answers.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::path::Path;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use http::Uri;
use hyper::rt::Read;
use hyper::rt::ReadBufCursor;
use hyper::rt::Write;
use hyper_util::client::legacy::connect::Connected;
use hyper_util::client::legacy::connect::Connection;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::hedge::hedged;
use super::link::Link;
use super::link::Links;
use super::proxy::Proxied;
use super::resolver::Resolver;
use super::tls::TlsInUse;
use super::transport::Transport;

/// How many bytes are read from a connection at a time before others on the same thread get their turn. Hardly any answer has
/// more; a peer that floods would otherwise keep the thread for as long as it takes to read tens of thousands of frames.
const TURN_BYTES: usize = 16 << 10;

/// How many bytes one read has at most.
const READ_BYTES: usize = 8 << 10;

/// What the first bytes of a plaintext answer look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Speaks {
    #[default]
    Unknown,
    /// A TLS alert: the server expected TLS.
    Tls,
    /// HTTP/1.
    Http1,
    /// HTTP/2 frames.
    Http2,
}

/// Remembers how the server answered last and how the last connection broke, to say in words what is wrong when two
/// sides do not understand each other: the HTTP library only says that the connection is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<Last>>);

#[derive(Debug, Default)]
struct Last {
    speaks: Speaks,
    failure: Option<String>,
}

impl Heard {
    pub(crate) fn speaks(&self) -> Speaks {
        self.lock().speaks
    }

    /// How the last connection broke, unless another has begun since.
    pub(crate) fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    fn begin(&self) {
        self.lock().failure = None;
    }

    fn listen(&self, first: &[u8]) {
        self.lock().speaks = match first {
            [0x15, 0x03, ..] => Speaks::Tls,
            [b'H', b'T', b'T', b'P', ..] => Speaks::Http1,
            // A SETTINGS frame: three bytes of length, type 4.
            [0x00, _, _, 0x04, ..] => Speaks::Http2,
            _ => Speaks::Unknown,
        };
    }

    fn note(&self, error: &io::Error) {
        // A connection that simply ends says nothing.
        if error.kind() != io::ErrorKind::UnexpectedEof {
            self.lock().failure = Some(error.to_string());
        }
    }

    fn note_if_first(&self, error: &io::Error) {
        if self.failure().is_none() {
            self.note(error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to a destination.
#[derive(Clone, Debug, Default)]
pub(super) enum Route {
    #[default]
    Direct,
    Proxied(Arc<Proxied>),
    Socket(Arc<Path>),
}

/// Opens connections to one destination.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    route: Route,
    resolver: Resolver,
    tcp: HttpConnector<Resolver>,
    tls: Option<Arc<TlsInUse>>,
    heard: Heard,
    links: Links,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(
        route: Route,
        tls: Option<TlsInUse>,
        links: Links,
        timeout: Duration,
        keep_alive: Option<Duration>,
    ) -> Self {
        let resolver = Resolver::new();
        let mut tcp = HttpConnector::new_with_resolver(resolver.clone());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        // The kernel asks an idle peer after 30 s, and gives it up after another 30 s.
        let idle = Duration::from_secs(30);
        let idle = keep_alive.map_or(idle, |interval| interval.min(idle));
        tcp.set_keepalive(Some(idle.max(Duration::from_secs(1))));
        tcp.set_keepalive_interval(Some(Duration::from_secs(10)));
        tcp.set_keepalive_retries(Some(3));
        // A peer that vanished without a word is noticed while bytes wait for it, not after the kernel's 15 minutes.
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(Duration::from_secs(30)));
        Self {
            route,
            resolver,
            tcp,
            tls: tls.map(Arc::new),
            heard: Heard::default(),
            links,
            timeout,
        }
    }

    pub(crate) fn heard(&self) -> &Heard {
        &self.heard
    }

    async fn dial(mut self, uri: Uri) -> Result<Stream, Failure> {
        let route = self.route.clone();
        let transport = match &route {
            Route::Direct => Transport::Tcp(self.dial_tcp(uri).await?),
            Route::Proxied(proxied) => self.dial_through(proxied).await?,
            Route::Socket(path) => self.dial_socket(path).await?,
        };
        self.heard.begin();
        let forwards = matches!(&route, Route::Proxied(proxied) if proxied.forwards());
        let Some(tls) = &self.tls else {
            let socket = Socket::Plain(TokioIo::new(transport));
            return Ok(Stream::new(socket, self.heard, self.links.open(), forwards));
        };
        let handshake = TlsConnector::from(tls.config().await).connect(tls.name(), transport);
        match tokio::time::timeout(self.timeout, handshake).await {
            Ok(stream) => {
                let socket = Socket::Tls(Box::new(TokioIo::new(stream?)));
                Ok(Stream::new(socket, self.heard, self.links.open(), forwards))
            }
            Err(_) => Err(too_late("TLS handshake", self.timeout)),
        }
    }

    async fn dial_tcp(&mut self, uri: Uri) -> Result<TcpStream, Failure> {
        // Looking the name up counts as well; the connector's own limit is for the addresses alone.
        match tokio::time::timeout(self.timeout, self.tcp.call(uri)).await {
            Ok(Err(error)) if !has_timed_out(&error) => Err(error.into()),
            Ok(Ok(tcp)) => Ok(tcp.into_inner()),
            _ => Err(too_late("connection", self.timeout)),
        }
    }

    async fn dial_through(&mut self, proxied: &Proxied) -> Result<Transport, Failure> {
        let dialled = self.dial_tcp(proxied.uri().clone()).await;
        let tcp = dialled.map_err(|error| proxied.cannot_reach(error))?;
        let opened = proxied.open(tcp, &self.resolver, self.timeout).await;
        Ok(opened?)
    }

    #[cfg(unix)]
    async fn dial_socket(&self, path: &Path) -> Result<Transport, Failure> {
        match tokio::time::timeout(self.timeout, UnixStream::connect(path)).await {
            Ok(connected) => Ok(Transport::Unix(connected?)),
            Err(_) => Err(too_late("connection", self.timeout)),
        }
    }

    #[cfg(not(unix))]
    async fn dial_socket(&self, _path: &Path) -> Result<Transport, Failure> {
        // Endpoints that are unix sockets are refused when the exporter is built.
        Err(io::Error::from(io::ErrorKind::Unsupported).into())
    }
}

type Failure = Box<dyn StdError + Send + Sync>;
type Dial = Pin<Box<dyn Future<Output = Result<Stream, Failure>> + Send>>;

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Failure;
    type Future = Dial;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    /// Dials, and dials once more beside it while there is no connection: a server or a proxy may have lost the first
    /// attempt, and a new one may reach a server that works.
    fn call(&mut self, uri: Uri) -> Dial {
        let connector = self.clone();
        let dial = move || connector.clone().dial(uri.clone());
        Box::pin(hedged(dial(), move || Some(dial()), Result::is_ok))
    }
}

/// Lets everything else on this thread go first, timers and other connections as well, and has the task polled again then.
fn give_way<T>(context: &mut Context<'_>) -> Poll<T> {
    let others = pin!(tokio::task::yield_now());
    // It is pending the first time, and has taken note of the task.
    if others.poll(context).is_ready() {
        context.waker().wake_by_ref();
    }
    Poll::Pending
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

fn too_late(what: &str, timeout: Duration) -> Failure {
    let text = format!("no {what} within the connect timeout of {timeout:?}");
    io::Error::new(io::ErrorKind::TimedOut, text).into()
}

/// A connection, and who listens to what comes first and how it breaks.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    heard: Heard,
    link: Link,
    /// Whether a proxy at the other end takes whole requests.
    forwards: bool,
    has_answered: bool,
    has_failed: bool,
    patience: u8,
    /// How many bytes were read since others had their turn.
    read: usize,
}

/// A connection, plain or encrypted.
#[derive(Debug)]
enum Socket {
    Plain(TokioIo<Transport>),
    Tls(Box<TokioIo<TlsStream<Transport>>>),
}

impl Stream {
    fn new(socket: Socket, heard: Heard, link: Link, forwards: bool) -> Self {
        Self {
            socket,
            heard,
            link,
            forwards,
            has_answered: false,
            has_failed: false,
            patience: 4,
            read: 0,
        }
    }

    /// Reads into a buffer of ours, so that a read has a bound, looks at the first answer, and hands all on.
    fn poll_read_some(
        &mut self,
        context: &mut Context<'_>,
        buf: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut some = [const { MaybeUninit::uninit() }; READ_BYTES];
        let room = some.len().min(buf.remaining());
        let mut own = hyper::rt::ReadBuf::uninit(some.get_mut(..room).unwrap_or_default());
        std::task::ready!(self.socket.poll_read(context, own.unfilled()))?;
        if !std::mem::replace(&mut self.has_answered, true)
            && matches!(self.socket, Socket::Plain(_))
        {
            self.heard.listen(own.filled());
        }
        self.read += own.filled().len();
        buf.put_slice(own.filled());
        Poll::Ready(Ok(()))
    }
}

impl Stream {
    /// A server that refuses us says why and hangs up. When that makes a write fail before its words were read, the
    /// write waits a little for the read to find them.
    fn hear_out<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(error)) = &written else {
            return written;
        };
        self.heard.note_if_first(error);
        if self.has_failed || self.patience == 0 {
            return written;
        }
        self.patience -= 1;
        if self.socket.transport().poll_read_ready(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Socket {
    fn transport(&self) -> &Transport {
        match self {
            Self::Plain(transport) => transport.inner(),
            Self::Tls(stream) => stream.inner().get_ref().0,
        }
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(transport) => Pin::new(transport).poll_read(context, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buf),
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = self.link.mark(Connected::new().proxy(self.forwards));
        match &self.socket {
            Socket::Plain(_) => connected,
            Socket::Tls(stream) => match stream.inner().get_ref().1.alpn_protocol() {
                Some(b"h2") => connected.negotiated_h2(),
                _ => connected,
            },
        }
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.link.check_open(context)?;
        if this.read >= TURN_BYTES {
            this.read = 0;
            return give_way(context);
        }
        let read = this.poll_read_some(context, &mut buf);
        match &read {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                this.has_failed = true;
                this.heard.note(error);
            }
            Poll::Pending => this.read = 0,
        }
        read
    }
}

impl Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.link.error_if_closed()?;
        let written = match &mut this.socket {
            Socket::Plain(transport) => Pin::new(transport).poll_write(context, buf),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, buf),
        };
        this.hear_out(written, context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.link.error_if_closed()?;
        let flushed = match &mut this.socket {
            Socket::Plain(transport) => Pin::new(transport).poll_flush(context),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        };
        this.hear_out(flushed, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.link.error_if_closed()?;
        match &mut this.socket {
            Socket::Plain(transport) => Pin::new(transport).poll_shutdown(context),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(transport) => transport.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.link.error_if_closed()?;
        let written = match &mut this.socket {
            Socket::Plain(transport) => Pin::new(transport).poll_write_vectored(context, bufs),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(context, bufs),
        };
        this.hear_out(written, context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn how_a_connection_broke_is_known_until_the_next_begins() {
        let heard = Heard::default();
        assert_eq!(heard.failure(), None);
        heard.note(&io::ErrorKind::UnexpectedEof.into());
        assert_eq!(heard.failure(), None, "a mere end says nothing");
        heard.note_if_first(&io::Error::other("first"));
        heard.note_if_first(&io::Error::other("second"));
        assert_eq!(heard.failure().as_deref(), Some("first"));
        heard.note(&io::Error::other("what the server said"));
        assert_eq!(heard.failure().as_deref(), Some("what the server said"));
        heard.begin();
        assert_eq!(heard.failure(), None);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_write_waits_for_words_that_do_not_come_but_not_for_ever() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let socket = Socket::Plain(TokioIo::new(Transport::Unix(ours)));
        let mut stream = Stream::new(socket, Heard::default(), Links::default().open(), false);
        let mut polls = 0;
        let written = poll_fn(|context| {
            polls += 1;
            assert!(polls < 100, "it does not end");
            Pin::new(&mut stream).poll_write(context, b"x")
        });
        let error = written.await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(polls, 5);
        assert!(stream.heard.failure().is_some());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_connection_that_floods_gives_way_to_others() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let socket = Socket::Plain(TokioIo::new(Transport::Unix(ours)));
        let mut stream = Stream::new(socket, Heard::default(), Links::default().open(), false);
        theirs.writable().await.unwrap();
        let sent = theirs.try_write(&[b'x'; 64 << 10]).unwrap();
        assert!(sent > 2 * TURN_BYTES, "{sent} bytes fit");
        let mut place = vec![0; 64 << 10];
        let (mut read, mut turns) = (0, 0);
        let all = poll_fn(|context| {
            let before = read;
            turns += 1;
            while read < sent {
                let mut buf = hyper::rt::ReadBuf::new(&mut place);
                if Pin::new(&mut stream)
                    .poll_read(context, buf.unfilled())?
                    .is_pending()
                {
                    assert!(read - before <= TURN_BYTES, "{}", read - before);
                    return Poll::Pending;
                }
                read += buf.filled().len();
            }
            Poll::Ready(Ok::<_, io::Error>(()))
        });
        all.await.unwrap();
        assert!(turns >= sent / TURN_BYTES, "{turns} turns");
    }
}
