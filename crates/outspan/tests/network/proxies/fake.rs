//! A proxy for tests: leads every tunnel to one address, whatever name it was asked for, and keeps what it was asked.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use outspan_testkit::Identity;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What a proxy does with who connects to it.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// Tunnels and forwards, for everybody or for who has this `Proxy-Authorization`.
    Http(Option<&'static str>),
    /// Tunnels, and says that the tunnel is open together with the destination's first words.
    Eager,
    /// Speaks SOCKS5, with everybody or with who has this user and password.
    Socks(Option<(&'static str, &'static str)>),
    /// Waits for a request, says this and hangs up.
    Say(&'static [u8]),
    /// Says nothing.
    Silence,
}

/// A proxy that runs until it is dropped.
pub(crate) struct FakeProxy {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl FakeProxy {
    pub(crate) async fn start(manner: Manner, to: SocketAddr) -> Self {
        Self::start_with(manner, to, None).await
    }

    pub(crate) async fn start_with(
        manner: Manner,
        to: SocketAddr,
        identity: Option<Identity>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let server = Server {
            manner,
            to,
            asked: Arc::clone(&asked),
            tls: identity.as_ref().map(acceptor),
        };
        Self {
            address,
            asked,
            serving: tokio::spawn(server.serve(listener)),
        }
    }

    /// Its URL, with this scheme and before the host what `user` says.
    pub(crate) fn url(&self, scheme: &str, user: &str) -> String {
        format!("{scheme}://{user}{}", self.address)
    }

    /// The heads of requests, or the names that SOCKS was asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// The first line of each request.
    pub(crate) fn lines(&self) -> Vec<String> {
        let first = |head: &String| head.lines().next().unwrap_or_default().to_owned();
        self.asked().iter().map(first).collect()
    }
}

impl Drop for FakeProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone)]
struct Server {
    manner: Manner,
    to: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    tls: Option<TlsAcceptor>,
}

impl Server {
    async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let server = self.clone();
            // How a connection ends is for the exporter to tell.
            tokio::spawn(async move { drop(server.accept(stream).await) });
        }
    }

    async fn accept(self, stream: TcpStream) -> io::Result<()> {
        match &self.tls {
            Some(tls) => self.handle(tls.accept(stream).await?).await,
            None => self.handle(stream).await,
        }
    }

    async fn handle(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        match self.manner {
            Manner::Http(credentials) => self.http(stream, credentials).await,
            Manner::Eager => self.eager(stream).await,
            Manner::Socks(credentials) => self.socks(stream, credentials).await,
            Manner::Say(words) => {
                stream.read_u8().await?;
                stream.write_all(words).await?;
                stream.shutdown().await?;
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
                Ok(())
            }
            Manner::Silence => std::future::pending().await,
        }
    }

    fn note(&self, request: impl Into<String>) {
        self.asked.lock().unwrap().push(request.into());
    }

    async fn http(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        credentials: Option<&str>,
    ) -> io::Result<()> {
        let head = read_head(&mut stream).await?;
        self.note(&head);
        let is_known = |value| {
            let header = format!("\r\nproxy-authorization: {value}\r\n");
            head.to_ascii_lowercase()
                .contains(&header.to_ascii_lowercase())
        };
        if !credentials.is_none_or(is_known) {
            let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(refusal.as_bytes()).await?;
            return stream.shutdown().await;
        }
        let mut destination = TcpStream::connect(self.to).await?;
        match head.starts_with("CONNECT ") {
            true => {
                let answer = "HTTP/1.1 200 Connection established\r\nvia: 1.1 fake\r\n\r\n";
                stream.write_all(answer.as_bytes()).await?;
            }
            false => destination.write_all(head.as_bytes()).await?,
        }
        copy_bidirectional(&mut stream, &mut destination).await?;
        Ok(())
    }

    async fn eager(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let head = read_head(&mut stream).await?;
        self.note(head);
        let mut destination = TcpStream::connect(self.to).await?;
        let mut words = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        // An HTTP/2 server speaks first: the head of its SETTINGS frame.
        let mut settings = [0; 9];
        destination.read_exact(&mut settings).await?;
        words.extend(settings);
        stream.write_all(&words).await?;
        copy_bidirectional(&mut stream, &mut destination).await?;
        Ok(())
    }

    async fn socks(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        credentials: Option<(&str, &str)>,
    ) -> io::Result<()> {
        let methods = read_counted(&mut stream, 1).await?;
        let method = if credentials.is_some() { 2 } else { 0 };
        if !methods.contains(&method) {
            return stream.write_all(&[5, 0xff]).await;
        }
        stream.write_all(&[5, method]).await?;
        if let Some((user, password)) = credentials {
            let given_user = read_counted(&mut stream, 1).await?;
            let given_password = read_counted(&mut stream, 0).await?;
            let is_known = given_user == user.as_bytes() && given_password == password.as_bytes();
            stream.write_all(&[1, u8::from(!is_known)]).await?;
            if !is_known {
                return Ok(());
            }
        }
        let mut request = [0; 4];
        stream.read_exact(&mut request).await?;
        let host = match request {
            [5, 1, 0, 1] => {
                let mut octets = [0; 4];
                stream.read_exact(&mut octets).await?;
                std::net::Ipv4Addr::from(octets).to_string()
            }
            [5, 1, 0, 3] => {
                String::from_utf8(read_counted(&mut stream, 0).await?).map_err(io::Error::other)?
            }
            other => format!("unexpected {other:?}"),
        };
        let port = stream.read_u16().await?;
        self.note(format!("{host}:{port}"));
        let mut destination = TcpStream::connect(self.to).await?;
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
        copy_bidirectional(&mut stream, &mut destination).await?;
        Ok(())
    }
}

/// Passes over so many bytes, then reads a length of one byte and so many bytes.
async fn read_counted(stream: &mut (impl AsyncRead + Unpin), before: usize) -> io::Result<Vec<u8>> {
    let mut passed = vec![0; before];
    stream.read_exact(&mut passed).await?;
    let length = stream.read_u8().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

fn acceptor(identity: &Identity) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
