//! How a collector proves who it is, and what it asks of those who connect.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio_rustls::TlsAcceptor;

use super::Transport;
use crate::Identity;

/// Describes a collector's side of TLS.
#[derive(Clone)]
pub struct ServerTls {
    identity: Identity,
    client_authority: Option<String>,
    client_optional: bool,
}

impl ServerTls {
    /// Shows this identity to every client and asks none of them for theirs.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            client_authority: None,
            client_optional: false,
        }
    }

    /// Turns away every client without a certificate of this authority (PEM).
    #[must_use]
    pub fn demand_client(mut self, authority: String) -> Self {
        self.client_authority = Some(authority);
        self.client_optional = false;
        self
    }

    /// Asks clients for a certificate of this authority (PEM), and serves those without one, too.
    #[must_use]
    pub fn ask_client(mut self, authority: String) -> Self {
        self.client_authority = Some(authority);
        self.client_optional = true;
        self
    }

    /// Makes the acceptor, with the protocols that the transport negotiates (ALPN).
    pub(super) fn acceptor(&self, transport: Transport) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has the ciphers of TLS 1.2 and 1.3");
        let builder = match &self.client_authority {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let roots = Arc::new(roots(authority));
                let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                if self.client_optional {
                    verifier = verifier.allow_unauthenticated();
                }
                let verifier = verifier.build().expect("there is one authority");
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = certificates(&self.identity.certificate);
        let key = PrivateKeyDer::from_pem_slice(self.identity.key.as_bytes())
            .expect("a test's key is PEM");
        let mut config = builder
            .with_single_cert(chain, key)
            .expect("a test's key belongs to its certificate");
        config.alpn_protocols = match transport {
            Transport::Grpc => vec![b"h2".to_vec()],
            Transport::Http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        TlsAcceptor::from(Arc::new(config))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("asks_client", &self.client_authority.is_some())
            .field("client_optional", &self.client_optional)
            .finish_non_exhaustive()
    }
}

fn roots(authority: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority) {
        roots
            .add(certificate)
            .expect("a test's authority is a certificate");
    }
    roots
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .expect("a test's certificate is PEM")
}
