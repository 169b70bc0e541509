//! The bytes of a connection, with or without TLS.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::activity::Activity;

/// What a connection of HTTP/2 begins with: RFC 9113, 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Names the versions of HTTP that are told apart by the first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Reads and writes a connection.
#[derive(Debug)]
pub(super) struct Stream {
    transport: Transport,
    /// Bytes that were read to tell the version, and are to be read again.
    first: [u8; PREFACE.len()],
    first_read: usize,
    first_given: usize,
}

#[derive(Debug)]
enum Transport {
    Plain(Watched),
    Tls(Box<TlsStream<Watched>>),
}

/// Tells the [`Activity`] what passes through a socket.
#[derive(Debug)]
pub(super) struct Watched {
    socket: TcpStream,
    activity: Arc<Activity>,
}

impl Stream {
    pub(super) fn plain(socket: Watched) -> Self {
        Self::new(Transport::Plain(socket))
    }

    pub(super) fn tls(stream: TlsStream<Watched>) -> Self {
        Self::new(Transport::Tls(Box::new(stream)))
    }

    fn new(transport: Transport) -> Self {
        Self {
            transport,
            first: [0; PREFACE.len()],
            first_read: 0,
            first_given: 0,
        }
    }

    /// The very first byte, once the version was told.
    pub(super) fn first_byte(&self) -> Option<u8> {
        self.first.first().copied().filter(|_| self.first_read > 0)
    }

    /// Tells the version by the first bytes; `None` if there are none before the connection ends.
    ///
    /// # Errors
    ///
    /// The connection's own, or [`io::ErrorKind::TimedOut`].
    pub(super) async fn version(
        &mut self,
        first_byte: Duration,
        rest: Duration,
    ) -> io::Result<Option<Version>> {
        if timeout(first_byte, self.read_more()).await?? == 0 {
            return Ok(None);
        }
        timeout(rest, self.tell()).await?.map(Some)
    }

    async fn tell(&mut self) -> io::Result<Version> {
        loop {
            let read = self.first.get(..self.first_read).unwrap_or_default();
            if !PREFACE.starts_with(read) {
                return Ok(Version::Http1);
            }
            if read.len() == PREFACE.len() {
                return Ok(Version::Http2);
            }
            if self.read_more().await? == 0 {
                return Ok(Version::Http1);
            }
        }
    }

    async fn read_more(&mut self) -> io::Result<usize> {
        let rest = self.first.get_mut(self.first_read..).unwrap_or_default();
        let read = match &mut self.transport {
            Transport::Plain(stream) => stream.read(rest).await?,
            Transport::Tls(stream) => stream.read(rest).await?,
        };
        self.first_read += read;
        Ok(read)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(left) = this.first.get(this.first_given..this.first_read)
            && !left.is_empty()
        {
            let given = left.len().min(buffer.remaining());
            buffer.put_slice(left.get(..given).unwrap_or_default());
            this.first_given += given;
            return Poll::Ready(Ok(()));
        }
        match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl Watched {
    pub(super) fn new(socket: TcpStream, activity: Arc<Activity>) -> Self {
        Self { socket, activity }
    }

    /// The first byte, which stays to be read; `None` if the connection ends before it.
    ///
    /// # Errors
    ///
    /// The connection's own.
    pub(super) async fn peek(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        let read = self.socket.peek(&mut byte).await?;
        Ok(byte.first().copied().filter(|_| read > 0))
    }

    fn note<T>(&self, wrote: &Poll<io::Result<T>>) {
        self.activity.wrote(wrote.is_pending());
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.activity.now().may_read == 0 {
            // Whoever runs the connection set this bound, and comes back.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        self.activity.read(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.note(&wrote);
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.note(&wrote);
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_is_read_is_told_and_only_as_much_as_was_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let activity = Arc::new(Activity::new());
        activity.change(|now| now.may_read = 100);
        let mut watched = Watched::new(socket, Arc::clone(&activity));
        sender.write_all(b"12345").await.unwrap();

        let mut room = [0; 64];
        let mut buffer = ReadBuf::new(&mut room);
        buffer.put_slice(b"before");
        let read = poll_fn(|context| Pin::new(&mut watched).poll_read(context, &mut buffer));
        read.await.unwrap();
        let read = buffer.filled().len() - b"before".len();
        assert!((1..=5).contains(&read), "{read}");
        assert_eq!(activity.now().may_read, 100 - read);
        assert!(activity.now().head_since.is_some());
    }
}
