//! The collector's own thread: accepts connections and serves each until it ends or is broken.

use std::convert::Infallible;
use std::io;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use http::Request;
use http::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use rustls_pki_types::CertificateDer;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Flood;
use super::OnConnect;
use super::Transport;
use super::connection::AnswerBody;
use super::connection::Connection;
use super::connection::Ending;
use super::connection::Socket;
use super::grpc;
use super::http as plain_http;
use super::record::subject_common_name;
use super::shared::Shared;

/// How many connections are open at most: more than a test makes on purpose. Each takes two file
/// descriptors, of which a process usually has 1024.
const CONNECTIONS_MAX: usize = 256;

/// How long a client may take for its TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// How long a client may take to notice that an answer was cut, before the connection is reset.
const CUT_TIME: Duration = Duration::from_secs(1);

/// How long to leave the listener alone after an error, so that it does not take a whole core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Tells the collector's thread what to do; the answer comes when it is done.
pub(super) enum Command {
    /// Close the listener and reset every connection.
    Stop(mpsc::Sender<io::Result<()>>),
    /// Listen again on the same port.
    Restart(mpsc::Sender<io::Result<()>>),
    /// Reset every connection and keep listening.
    Disconnect(mpsc::Sender<io::Result<()>>),
    /// Ask every connection to end when its requests are answered (GOAWAY, `connection: close`).
    GoAway(mpsc::Sender<io::Result<()>>),
}

/// Binds a free port of the loopback address and does not listen on it.
///
/// A collector holds one such socket for life. Connecting to a port that is bound and not listened
/// on is refused, so a stopped collector looks dead, and nobody else is given the port meanwhile.
#[cfg(target_os = "linux")]
pub(super) fn reserve_port() -> io::Result<(SocketAddr, Option<TcpSocket>)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok((socket.local_addr()?, Some(socket)))
}

/// Finds a free port of the loopback address. Two sockets cannot share a port here as they can on
/// Linux, so it is not held.
#[cfg(not(target_os = "linux"))]
pub(super) fn reserve_port() -> io::Result<(SocketAddr, Option<TcpSocket>)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok((socket.local_addr()?, None))
}

/// Listens on the address.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Serves until the sender of commands is gone.
pub(super) async fn serve(
    shared: Arc<Shared>,
    address: SocketAddr,
    listener: TcpListener,
    mut commands: UnboundedReceiver<Command>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let (mut go_away, _) = watch::channel(());
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some(Command::Stop(done)) => {
                    listener = None;
                    connections.shutdown().await;
                    report(done, Ok(()));
                }
                Some(Command::Restart(done)) => {
                    let listening = listen_again(&mut listener, address);
                    report(done, listening);
                }
                Some(Command::Disconnect(done)) => {
                    connections.shutdown().await;
                    report(done, Ok(()));
                }
                Some(Command::GoAway(done)) => {
                    go_away.send_replace(());
                    go_away = watch::channel(()).0;
                    report(done, Ok(()));
                }
            },
            stream = accept(listener.as_ref()) => {
                if let Ok((connection, socket)) = Connection::new(&shared, stream) {
                    let go_away = go_away.subscribe();
                    connections.spawn(run(Arc::clone(&shared), connection, socket, go_away));
                }
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
}

/// Does not care whether whoever asked still waits.
fn report(done: mpsc::Sender<io::Result<()>>, result: io::Result<()>) {
    drop(done.send(result));
}

fn listen_again(listener: &mut Option<TcpListener>, address: SocketAddr) -> io::Result<()> {
    if listener.is_none() {
        *listener = Some(listen(address)?);
    }
    Ok(())
}

/// Waits for a connection; for ever while there is no listener.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // Out of file descriptors, or the peer is gone already: a later one may succeed.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Serves one connection.
async fn run(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    socket: Socket,
    go_away: watch::Receiver<()>,
) {
    let (on_connect, tls, open) = {
        let state = shared.read();
        let on_connect = state.on_connect.clone();
        (on_connect, state.tls.clone(), state.connections_open)
    };
    if open > CONNECTIONS_MAX {
        shared.complain(format!("more than {CONNECTIONS_MAX} connections at once"));
        return;
    }
    let mut floods = None;
    match on_connect {
        OnConnect::Serve => {}
        OnConnect::Flood { with, reads } => floods = Some((with, reads)),
        OnConnect::Silence => return std::future::pending().await,
        OnConnect::Say(bytes) => return say(socket, &bytes).await,
        OnConnect::Reset => return connection.break_off(),
    }
    let same_socket = Arc::clone(&socket.same_socket);
    let Some(tls) = tls else {
        return match floods {
            Some((with, reads)) => flood(socket, with, reads).await,
            None => speak(connection, socket, &same_socket, None, go_away).await,
        };
    };
    match (handshake(&tls, socket).await, floods) {
        (Ok((stream, _)), Some((with, reads))) => flood(stream, with, reads).await,
        (Ok((stream, peer)), None) => {
            speak(connection, stream, &same_socket, peer, go_away).await;
        }
        (Err(error), _) => shared.complain(format!("TLS handshake failed: {error}")),
    }
}

/// Writes the bytes and closes the connection in order, after the client has closed its side.
async fn say(mut socket: Socket, bytes: &[u8]) {
    let said = async {
        socket.write_all(bytes).await?;
        socket.shutdown().await?;
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await
    };
    // The client may close at any point; that is its right.
    drop(tokio::time::timeout(HANDSHAKE_TIME, said).await);
}

/// Sends the same over and over until the client closes the connection.
async fn flood(stream: impl AsyncRead + AsyncWrite + Unpin, with: Flood, reads: bool) {
    let (mut from, mut to) = tokio::io::split(stream);
    let many = with.unit().repeat(512);
    let write = async {
        to.write_all(with.preface()).await?;
        loop {
            to.write_all(&many).await?;
            // Everything else of the collector runs on this thread, too.
            tokio::task::yield_now().await;
        }
    };
    let read = async {
        match reads {
            true => tokio::io::copy(&mut from, &mut tokio::io::sink()).await,
            false => std::future::pending().await,
        }
    };
    let _ended: io::Result<u64> = tokio::select! {
        ended = write => ended,
        ended = read => ended,
    };
}

async fn handshake(
    tls: &TlsAcceptor,
    socket: Socket,
) -> io::Result<(TlsStream<Socket>, Option<String>)> {
    let accepted = tokio::time::timeout(HANDSHAKE_TIME, tls.accept(socket));
    let stream = accepted.await.map_err(io::Error::from)??;
    let (_, session) = stream.get_ref();
    let certificate: Option<&CertificateDer<'_>> =
        session.peer_certificates().and_then(<[_]>::first);
    let peer = certificate.and_then(|der| subject_common_name(der));
    Ok((stream, peer))
}

/// Speaks HTTP until the connection ends or is broken off.
async fn speak(
    connection: Arc<Connection>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    same_socket: &std::net::TcpStream,
    peer: Option<String>,
    mut go_away: watch::Receiver<()>,
) {
    let handler = Arc::clone(&connection);
    let service = service_fn(move |request| {
        let connection = Arc::clone(&handler);
        let peer = peer.clone();
        async move { Ok::<_, Infallible>(answer(connection, peer, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    if connection.shared().transport == Transport::Grpc {
        builder = builder.http2_only();
    }
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut asked_to_go = false;
    loop {
        tokio::select! {
            biased;
            // First, so that what was answered is written before the connection ends.
            _ended = &mut served => return,
            ending = connection.ending() => {
                if ending == Ending::Cut {
                    // The client may have closed already; then there is nothing to end.
                    drop(same_socket.shutdown(Shutdown::Write));
                    drop(tokio::time::timeout(CUT_TIME, served).await);
                    connection.break_off();
                }
                return;
            }
            _ = go_away.changed(), if !asked_to_go => {
                asked_to_go = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(
    connection: Arc<Connection>,
    peer: Option<String>,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let shared = Arc::clone(connection.shared());
    let _in_flight = shared.enter();
    match shared.transport {
        Transport::Grpc => grpc::answer(&shared, &connection, peer, request).await,
        Transport::Http => plain_http::answer(&shared, &connection, peer, request).await,
    }
}
