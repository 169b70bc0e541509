//! Servers that no collector is: ones that know less than they should.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use outspan_testkit::Identity;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::StreamOwned;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

/// How long a peer may take to say something.
const PATIENCE: Duration = Duration::from_secs(10);

/// Accepts OTLP over TLS and HTTP/1.1, which is all that it knows.
pub(crate) struct OldServer {
    pub(crate) address: SocketAddr,
    requests: mpsc::Receiver<String>,
}

impl OldServer {
    /// Negotiates these protocols, or none, and serves one connection after the other.
    pub(crate) fn start(identity: &Identity, protocols: &[&[u8]]) -> Self {
        let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (served, requests) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                // A peer that hangs up is what some tests are about.
                drop(serve(connection, stream.unwrap(), &served));
            }
        });
        Self { address, requests }
    }

    /// The first line of the next request.
    pub(crate) fn next_request(&self) -> String {
        self.requests.recv_timeout(PATIENCE).unwrap()
    }
}

fn serve(
    connection: ServerConnection,
    stream: TcpStream,
    served: &mpsc::Sender<String>,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let mut first = String::new();
        if stream.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.get_mut().write_all(answer)?;
        drop(served.send(first));
    }
}
