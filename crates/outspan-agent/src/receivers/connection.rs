//! One connection, from its first byte to its last.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use hyper::server::conn::http1;
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use outspan::Deadline;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::Sleep;
use tokio::time::sleep_until;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::accept::Hub;
use super::activity::Activity;
use super::activity::Now;
use super::limits;
use super::limits::Limits;
use super::listen::Spoken;
use super::requests::Answers;
use super::requests::NewStreams;
use super::requests::Requests;
use super::requests::Streams;
use super::stream::Stream;
use super::stream::Version;
use super::stream::Watched;

/// The first byte of a handshake of TLS: RFC 8446, 5.1.
const TLS_HANDSHAKE: u8 = 0x16;

/// What is said to those who speak plain HTTP where TLS is wanted. gRPC's libraries show a part of it.
const WANTS_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain\r\n\
    content-length: 64\r\n\
    connection: close\r\n\
    \r\n\
    this address speaks TLS: use https:// for it, grpcs:// for gRPC\n";

/// How often a connection and its requests take turns before other connections get theirs.
const ROUNDS: usize = 16;

/// Says by when everything is to stop, to all connections.
pub(super) type Stop = watch::Receiver<Option<Deadline>>;

/// Serves a connection until it ends, for whatever reason.
///
/// # Cancellation
///
/// Closes the connection; requests that have begun are dropped.
pub(super) async fn serve<A: Answers>(
    hub: Arc<Hub<A>>,
    socket: TcpStream,
    peer: SocketAddr,
    spoken: Spoken,
    mut stop: Stop,
) {
    let activity = Arc::new(Activity::new());
    // Boxed, because an idle connection should not hold what only its beginning needs.
    let opening = Box::pin(open(&hub, socket, peer, spoken.is_secure, &activity));
    let opened = tokio::select! {
        biased;
        () = stopped(&mut stop) => return,
        opened = opening => opened,
    };
    let Some((stream, version)) = opened else {
        return;
    };
    let requests = Requests::new(Arc::clone(&hub), spoken.protocol, Arc::clone(&activity));
    match version {
        Version::Http1 => {
            let protocol = Http1::new(stream, requests);
            let (protocol, ended) = drive(&hub, protocol, &activity, stop).await;
            hub.remark_end(peer, &ended);
            let wants_linger = match &ended {
                Ended::ByItself(result) => result.is_err() || activity.now().has_unread,
                Ended::CutOff(_) => return,
            };
            activity.change(|now| now.may_read = usize::MAX);
            close(protocol.into_stream(), &hub.limits, wants_linger).await;
        }
        Version::Http2 => {
            let protocol = Http2::new(stream, requests, &hub.limits);
            let (_, ended) = drive(&hub, protocol, &activity, stop).await;
            hub.remark_end(peer, &ended);
        }
    }
}

/// Waits until everything is to stop.
pub(super) async fn stopped(stop: &mut Stop) {
    // An error means that whoever would tell is gone, and that means the same.
    drop(stop.wait_for(Option::is_some).await);
}

/// Gets to the point where HTTP begins; `None` if the connection does not.
async fn open<A: Answers>(
    hub: &Hub<A>,
    socket: TcpStream,
    peer: SocketAddr,
    is_secure: bool,
    activity: &Arc<Activity>,
) -> Option<(Stream, Version)> {
    let socket = Watched::new(socket, Arc::clone(activity));
    let mut stream = match is_secure {
        true => encrypt(hub, socket, peer).await?,
        false => Stream::plain(socket),
    };
    let version = stream.version(hub.limits.first_byte, hub.limits.head).await;
    match version {
        Ok(version) if !is_secure && stream.first_byte() == Some(TLS_HANDSHAKE) => {
            hub.remark_tls(peer);
            version.and(None)
        }
        Ok(version) => version.map(|version| (stream, version)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            hub.remark_slow(peer, "sent nothing that tells the version of HTTP");
            None
        }
        Err(_) => None,
    }
}

async fn encrypt<A: Answers>(hub: &Hub<A>, socket: Watched, peer: SocketAddr) -> Option<Stream> {
    let tls = hub.tls.as_ref()?;
    let handshake = async {
        if socket.peek().await.ok()?? != TLS_HANDSHAKE {
            hub.remark_plain(peer);
            turn_away(socket, &hub.limits).await;
            return None;
        }
        let config = tls.config(&hub.remarks.certificate);
        match TlsAcceptor::from(config).accept(socket).await {
            Ok(stream) => Some(Stream::tls(stream)),
            Err(error) => {
                hub.remark_handshake(peer, &error);
                None
            }
        }
    };
    match timeout(hub.limits.handshake, handshake).await {
        Ok(stream) => stream,
        Err(_) => {
            hub.remark_slow(peer, "did not finish the handshake of TLS");
            None
        }
    }
}

/// Tells somebody without TLS what is wanted here.
async fn turn_away(mut socket: Watched, limits: &Limits) {
    if socket.write_all(WANTS_TLS).await.is_ok() {
        close(socket, limits, true).await;
    }
}

/// Closes a connection. To linger means to read on until the sender has seen the answer and closes as well: bytes that
/// arrive at a closed socket would make its system throw the answer away.
async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin, limits: &Limits, lingers: bool) {
    let closing = async {
        stream.shutdown().await?;
        if !lingers {
            return Ok(());
        }
        let mut waste = vec![0; 8 << 10];
        let mut wasted = 0;
        while wasted < limits::LINGER_BYTES_MAX {
            match stream.read(&mut waste).await? {
                0 => break,
                bytes => wasted += bytes,
            }
        }
        io::Result::Ok(())
    };
    // Whatever happens here, the connection ends.
    drop(timeout(limits.linger, closing).await);
}

/// Says how a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// HTTP has come to its end.
    ByItself(hyper::Result<()>),
    /// We did not wait for that.
    CutOff(Cause),
}

/// Says what the clock has to say to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It has reached its age.
    Old,
    /// It had its time for a last answer.
    LastAnswerOver,
    /// There was no request for long.
    Idle,
    /// The head of a request does not come.
    SlowHead,
    /// Nobody reads our answers.
    Blocked,
    /// Requests that had begun before the end had their time.
    GraceOver,
    /// Everything stops, and it has nothing to do.
    Left,
}

/// Says where in its life a connection is.
#[derive(Clone, Copy, Debug)]
enum Life {
    Serving,
    /// The next answer will say that it is the last: HTTP/1 has no other way to say so before a request comes.
    LastAnswer {
        since: Instant,
    },
    /// It ends when its requests have.
    Ending {
        since: Instant,
    },
    /// The same, because everything stops.
    Leaving {
        since: Instant,
    },
}

/// What to do next.
enum Event {
    Ended(hyper::Result<()>),
    Stop,
    Due(Cause),
}

/// A version of HTTP.
trait Protocol: Unpin {
    const IS_HTTP1: bool;

    /// Goes on with everything.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>>;

    /// Asks it to end when the requests that have begun are answered.
    fn end(&mut self);
}

async fn drive<A: Answers, P: Protocol>(
    hub: &Hub<A>,
    protocol: P,
    activity: &Activity,
    mut stop: Stop,
) -> (P, Ended) {
    let age = hub.limits.age_with_jitter();
    let mut driver = Driver {
        protocol,
        activity,
        limits: &hub.limits,
        life: Life::Serving,
        old_at: age.and_then(|age| Instant::now().checked_add(age)),
        armed: None,
    };
    let mut timer = pin!(sleep_until(Instant::now()));
    let mut stopped = pin!(stopped(&mut stop));
    loop {
        let event = poll_fn(|context| driver.poll(context, stopped.as_mut(), timer.as_mut()));
        let over = match event.await {
            Event::Ended(result) => Some(Ended::ByItself(result)),
            Event::Stop => {
                driver.end(Life::Leaving {
                    since: Instant::now(),
                });
                None
            }
            Event::Due(cause) => driver.react(cause).map(Ended::CutOff),
        };
        if let Some(ended) = over {
            return (driver.protocol, ended);
        }
    }
}

struct Driver<'a, P> {
    protocol: P,
    activity: &'a Activity,
    limits: &'a Limits,
    life: Life,
    /// When it has reached its age.
    old_at: Option<Instant>,
    /// When the timer rings. That may be too early, for it is cheaper to look again than to set it at each request.
    armed: Option<Instant>,
}

impl<P: Protocol> Driver<'_, P> {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        stopped: Pin<&mut impl Future<Output = ()>>,
        mut timer: Pin<&mut Sleep>,
    ) -> Poll<Event> {
        self.activity
            .change(|now| now.may_read = limits::BURST_BYTES);
        if let Poll::Ready(result) = self.protocol.poll(context) {
            return Poll::Ready(Event::Ended(result));
        }
        let now = self.activity.now();
        if now.may_read == 0 {
            // There may be more to read, and nobody else would wake us for it.
            context.waker().wake_by_ref();
        }
        let is_leaving = matches!(self.life, Life::Leaving { .. });
        if !is_leaving && stopped.poll(context).is_ready() {
            return Poll::Ready(Event::Stop);
        }
        while let Some((at, cause)) = self.due(&now) {
            if self.armed.is_none_or(|armed| at < armed) {
                timer.as_mut().reset(at);
                self.armed = Some(at);
            }
            if timer.as_mut().poll(context).is_pending() {
                break;
            }
            self.armed = None;
            if at <= Instant::now() {
                return Poll::Ready(Event::Due(cause));
            }
        }
        Poll::Pending
    }

    /// What the clock has to say next, and when.
    fn due(&self, now: &Now) -> Option<(Instant, Cause)> {
        let limits = self.limits;
        let has_requests = now.requests > 0;
        let is_idle = P::IS_HTTP1 && !has_requests && now.head_since.is_none();
        let blocked = now
            .blocked_since
            .map(|at| (at + limits.write, Cause::Blocked));
        let head = now.head_since.filter(|_| P::IS_HTTP1);
        let head = head.map(|at| (at + limits.head, Cause::SlowHead));
        let idle = is_idle.then(|| (now.quiet_since + limits.idle, Cause::Idle));
        let life = match self.life {
            Life::Serving => self.old_at.map(|at| (at, Cause::Old)),
            Life::LastAnswer { since } => Some((since + limits.grace, Cause::LastAnswerOver)),
            Life::Ending { since } => Some((since + limits.grace, Cause::GraceOver)),
            Life::Leaving { .. } if has_requests => None,
            Life::Leaving { since } => {
                Some((since.max(now.quiet_since) + limits.farewell, Cause::Left))
            }
        };
        let all = [blocked, head, idle, life];
        all.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Does what the clock says; returns the cause if the connection is to be cut off.
    fn react(&mut self, cause: Cause) -> Option<Cause> {
        let since = Instant::now();
        match (cause, self.life) {
            (Cause::Old, _) if P::IS_HTTP1 => {
                self.activity.change(|now| now.is_last_answer = true);
                self.life = Life::LastAnswer { since };
                None
            }
            (Cause::Old | Cause::LastAnswerOver, _)
            | (Cause::Idle, Life::Serving | Life::LastAnswer { .. }) => {
                self.end(Life::Ending { since });
                None
            }
            _ => Some(cause),
        }
    }

    fn end(&mut self, life: Life) {
        self.life = life;
        self.protocol.end();
    }
}

/// Serves HTTP/1.
struct Http1<A: Answers> {
    connection: Box<http1::Connection<TokioIo<Stream>, Requests<A>>>,
}

impl<A: Answers> Http1<A> {
    fn new(stream: Stream, requests: Requests<A>) -> Self {
        let connection = http1::Builder::new()
            .max_header_size(limits::HEAD_BYTES_MAX)
            .max_buf_size(limits::HTTP1_BUFFER_BYTES)
            // The times are kept here: hyper's own does not tell waiting for a request from waiting for its rest.
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), requests);
        Self {
            connection: Box::new(connection),
        }
    }

    fn into_stream(self) -> Stream {
        self.connection.into_parts().io.into_inner()
    }
}

impl<A: Answers> Protocol for Http1<A> {
    const IS_HTTP1: bool = true;

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.connection.poll_without_shutdown(context)
    }

    fn end(&mut self) {
        Pin::new(&mut *self.connection).graceful_shutdown();
    }
}

/// Serves HTTP/2.
struct Http2<A: Answers> {
    connection: Box<http2::Connection<TokioIo<Stream>, Requests<A>, NewStreams>>,
    streams: Streams,
}

impl<A: Answers> Http2<A> {
    fn new(stream: Stream, requests: Requests<A>, limits: &Limits) -> Self {
        let streams = Streams::default();
        let requests = requests.draining(streams.new_streams());
        let connection = http2::Builder::new(streams.new_streams())
            .timer(TokioTimer::new())
            .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
            .max_frame_size(limits::FRAME_BYTES_MAX)
            .max_concurrent_streams(limits::STREAMS_MAX)
            .max_header_list_size(limits::HEAD_LIST_BYTES_MAX)
            .max_pending_accept_reset_streams(limits::RESET_STREAMS_MAX)
            .max_local_error_reset_streams(limits::ERRORS_MAX)
            .max_send_buf_size(limits::SEND_BUFFER_BYTES)
            .keep_alive_interval(limits.ping)
            .keep_alive_timeout(limits.pong)
            .serve_connection(TokioIo::new(stream), requests);
        Self {
            connection: Box::new(connection),
            streams,
        }
    }
}

impl<A: Answers> Protocol for Http2<A> {
    const IS_HTTP1: bool = false;

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        for _ in 0..ROUNDS {
            let ended = Pin::new(&mut *self.connection).poll(context);
            if ended.is_ready() {
                return ended;
            }
            // Where a request has ended there is an answer to send.
            if !self.streams.poll(context) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn end(&mut self) {
        Pin::new(&mut *self.connection).graceful_shutdown();
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Old | Self::LastAnswerOver => "reached the age of connections",
            Self::Idle => "sent no request for long",
            Self::SlowHead => "sent the head of a request too slowly",
            Self::Blocked => "does not read its answers",
            Self::GraceOver => "did not end its requests in time",
            Self::Left => "did not close in time",
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::ReadBuf;

    use super::*;

    /// A sender that never stops, and counts what is taken from it.
    #[derive(Default)]
    struct Endless {
        taken: usize,
        is_shut: bool,
    }

    impl AsyncRead for &mut Endless {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            assert!(
                self.taken <= 2 * limits::LINGER_BYTES_MAX,
                "it does not end"
            );
            self.taken += buffer.remaining();
            buffer.advance(buffer.remaining());
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for &mut Endless {
        fn poll_write(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            _bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            panic!("nothing is to be said any more")
        }

        fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            self.is_shut = true;
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_sender_that_never_stops_is_read_to_a_bound_and_only_where_it_helps() {
        let limits = Limits::new(None);
        for (lingers, taken) in [(true, limits::LINGER_BYTES_MAX), (false, 0)] {
            let mut sender = Endless::default();
            close(&mut sender, &limits, lingers).await;
            assert!(sender.is_shut);
            assert_eq!(sender.taken, taken);
        }
    }
}
