//! What bytes travel on below HTTP and the destination's TLS: TCP, a unix socket, or TLS as far as a proxy.

use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::client::TlsStream;

/// A connection to the destination, or through a proxy to it.
#[derive(Debug)]
pub(super) enum Transport {
    Tcp(TcpStream),
    /// TLS to a proxy, whatever goes on inside.
    ProxyTls(Box<TlsStream<TcpStream>>),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Transport {
    /// Whether the system has bytes to read, or an end to tell of.
    pub(super) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_read_ready(context),
            Self::ProxyTls(tls) => tls.get_ref().0.poll_read_ready(context),
            #[cfg(unix)]
            Self::Unix(unix) => unix.poll_read_ready(context),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Self::ProxyTls(tls) => Pin::new(tls).poll_read(context, buffer),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Self::ProxyTls(tls) => Pin::new(tls).poll_write(context, bytes),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(context),
            Self::ProxyTls(tls) => Pin::new(tls).poll_flush(context),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(context),
            Self::ProxyTls(tls) => Pin::new(tls).poll_shutdown(context),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_write_vectored(),
            Self::ProxyTls(tls) => tls.is_write_vectored(),
            #[cfg(unix)]
            Self::Unix(unix) => unix.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(context, slices),
            Self::ProxyTls(tls) => Pin::new(tls).poll_write_vectored(context, slices),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix).poll_write_vectored(context, slices),
        }
    }
}
