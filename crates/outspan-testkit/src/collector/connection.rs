//! One connection of a collector, which its requests may break.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;

use http_body_util::combinators::UnsyncBoxBody;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::shared::Shared;

/// The body of every answer.
pub(super) type AnswerBody = UnsyncBoxBody<bytes::Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Lets request handlers break the connection they came over.
pub(super) struct Connection {
    pub(super) number: u64,
    ending: watch::Sender<Option<Ending>>,
    reset: Arc<AtomicBool>,
    open: Open,
}

/// Says how a connection ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With a reset, at once.
    Reset,
    /// With an end of our side (FIN) after what was written, so that the client reads all of it,
    /// and with a reset if it does not close its side.
    Cut,
}

impl Connection {
    pub(super) fn new(shared: &Arc<Shared>, stream: TcpStream) -> io::Result<(Arc<Self>, Socket)> {
        let stream = stream.into_std()?;
        let same_socket = stream.try_clone()?;
        let reset = Arc::new(AtomicBool::new(false));
        let socket = Socket {
            stream: TcpStream::from_std(stream)?,
            same_socket: Arc::new(same_socket),
            reset: Arc::clone(&reset),
        };
        let number = shared.change(|state| {
            state.connections_accepted += 1;
            state.connections_open += 1;
            state.connections_accepted - 1
        });
        let connection = Self {
            number,
            ending: watch::Sender::new(None),
            reset,
            open: Open(Arc::clone(shared)),
        };
        Ok((Arc::new(connection), socket))
    }

    /// Resets the connection.
    pub(super) fn break_off(&self) {
        self.reset.store(true, Ordering::Relaxed);
        self.ending.send_replace(Some(Ending::Reset));
    }

    /// Ends the connection as soon as what was written has been handed to the system.
    pub(super) fn cut(&self) {
        self.ending.send_replace(Some(Ending::Cut));
    }

    pub(super) async fn ending(&self) -> Ending {
        let mut ending = self.ending.subscribe();
        let wanted = ending.wait_for(Option::is_some).await;
        // The sender is ours and lives as long as self.
        wanted
            .ok()
            .and_then(|wanted| *wanted)
            .unwrap_or(Ending::Reset)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.open.0
    }
}

/// Counts a connection as open until it is dropped.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.change(|state| state.connections_open -= 1);
    }
}

/// A TCP connection that resets itself (RST) when it is dropped after it was broken off.
pub(super) struct Socket {
    stream: TcpStream,
    pub(super) same_socket: Arc<std::net::TcpStream>,
    reset: Arc<AtomicBool>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // An error means that the peer has closed it before us.
            drop(self.stream.set_zero_linger());
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
