//! TLS: whom to trust, who we are, and files that are read again when they change.

use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;

use crate::Error;
use crate::Result;

/// How long a new connection waits for its files to be checked. After that it uses what was read before.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Says whom to trust and who we are, for encrypted connections.
///
/// Unless told otherwise the system's certificate authorities are trusted, and Mozilla's bundled ones where the system
/// has none. Files are read when the exporter is built, and read again for a new connection when they have changed, so
/// certificates can be rotated without a restart. A file that has become unreadable is told in the log, and the last
/// good content stays in use.
#[derive(Clone, Default)]
pub struct Tls {
    authorities: Vec<Pem>,
    roots: Option<Roots>,
    identity: Option<(Pem, Pem)>,
    server_name: Option<String>,
    skip_verify: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Roots {
    System,
    Bundled,
}

#[derive(Clone)]
enum Pem {
    File(PathBuf),
    Bytes(Arc<[u8]>),
}

impl Tls {
    /// Starts from the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificate authorities in a PEM file, and no others unless they are asked for too.
    #[must_use]
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.authorities.push(Pem::File(path.as_ref().into()));
        self
    }

    /// Trusts the certificate authorities in PEM text, and no others unless they are asked for too.
    #[must_use]
    pub fn ca_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.authorities.push(Pem::Bytes(pem.as_ref().into()));
        self
    }

    /// Trusts the system's certificate authorities, also beside given ones; there have to be some.
    #[must_use]
    pub fn system_roots(mut self) -> Self {
        self.roots = Some(Roots::System);
        self
    }

    /// Trusts Mozilla's certificate authorities, which are part of the program, instead of the system's.
    #[must_use]
    pub fn bundled_roots(mut self) -> Self {
        self.roots = Some(Roots::Bundled);
        self
    }

    /// Expects this name in the server's certificate, instead of the endpoint's host.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Shows a client certificate (mutual TLS): a PEM file with the chain, and one with the key.
    #[must_use]
    pub fn identity_files(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        let (chain, key) = (chain.as_ref().into(), key.as_ref().into());
        self.identity = Some((Pem::File(chain), Pem::File(key)));
        self
    }

    /// Shows a client certificate (mutual TLS): PEM text of the chain and of the key.
    #[must_use]
    pub fn identity_pem(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        let (chain, key) = (chain.as_ref().into(), key.as_ref().into());
        self.identity = Some((Pem::Bytes(chain), Pem::Bytes(key)));
        self
    }

    /// Accepts any certificate of the server's. The connection is then open to whoever stands between; every exporter
    /// built with it warns in the log. For tests.
    #[must_use]
    pub fn insecure_skip_verify(mut self) -> Self {
        self.skip_verify = true;
        self
    }

    /// Whether anything was set.
    pub(crate) fn is_default(&self) -> bool {
        self.authorities.is_empty()
            && self.roots.is_none()
            && self.identity.is_none()
            && self.server_name.is_none()
            && !self.skip_verify
    }

    /// Whom to trust, without who we are and what the server is called: for another server on the way.
    pub(super) fn trust_alone(&self) -> Self {
        Self {
            identity: None,
            server_name: None,
            ..self.clone()
        }
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let identity = self.identity.iter().flat_map(|(chain, key)| [chain, key]);
        self.authorities
            .iter()
            .chain(identity)
            .filter_map(|pem| match pem {
                Pem::File(path) => Some(path.as_path()),
                Pem::Bytes(_) => None,
            })
    }

    fn config(&self, protocols: &[&[u8]]) -> Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::internal("cannot set up TLS").with_source(e))?;
        let builder = if self.skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
        } else {
            builder.with_root_certificates(self.trusted()?)
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = chain.certificates("client certificate")?;
                let key = key.private_key()?;
                builder.with_client_auth_cert(chain, key).map_err(|e| {
                    Error::config("client certificate and key do not fit").with_source(e)
                })?
            }
        };
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        Ok(config)
    }

    fn trusted(&self) -> Result<RootCertStore> {
        let mut store = RootCertStore::empty();
        for pem in &self.authorities {
            for certificate in pem.certificates("certificate authority")? {
                store.add(certificate).map_err(|e| {
                    Error::config(format!("unusable certificate authority in {pem:?}"))
                        .with_source(e)
                })?;
            }
        }
        let wanted = match self.roots {
            None if !self.authorities.is_empty() => return Ok(store),
            wanted => wanted,
        };
        if wanted != Some(Roots::Bundled) {
            let found = rustls_native_certs::load_native_certs();
            let (added, _unusable) = store.add_parsable_certificates(found.certs);
            if added > 0 {
                return Ok(store);
            }
            if wanted == Some(Roots::System) {
                return Err(Error::config(
                    "the system has no certificate authorities: install them, or use bundled_roots or a ca_file",
                ));
            }
        }
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        Ok(store)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.authorities)
            .field("roots", &self.roots)
            .field("has_identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .field("skip_verify", &self.skip_verify)
            .finish()
    }
}

impl Pem {
    fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.to_vec()),
            Self::File(path) => std::fs::read(path).map_err(|e| {
                Error::config(format!("cannot read the PEM file {}", path.display())).with_source(e)
            }),
        }
    }

    fn certificates(&self, what: &str) -> Result<Vec<CertificateDer<'static>>> {
        let bytes = self.read()?;
        let certificates = CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Error::config(format!("invalid {what} in {self:?}: {e}")))?;
        if certificates.is_empty() {
            return Err(Error::config(format!(
                "no {what} in {self:?}: expected PEM text with BEGIN CERTIFICATE"
            )));
        }
        Ok(certificates)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        let bytes = self.read()?;
        PrivateKeyDer::from_pem_slice(&bytes)
            .map_err(|e| Error::config(format!("no usable private key in {self:?}: {e}")))
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Bytes(_) => f.write_str("the given text"),
        }
    }
}

/// TLS settings in use: the configuration made from them, made anew when a file changed.
pub(crate) struct TlsInUse {
    settings: Tls,
    protocols: &'static [&'static [u8]],
    name: ServerName<'static>,
    current: Mutex<Current>,
    /// Held by the thread that checks the files, so that a file system that hangs has one thread at most.
    check: Arc<Semaphore>,
}

struct Current {
    config: Arc<ClientConfig>,
    stamps: Vec<Option<Stamp>>,
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Debug, PartialEq)]
struct Stamp {
    modified: SystemTime,
    bytes: u64,
    /// Rotation renames a new file over the old one, often of the same length and within the clock's grain.
    file: u64,
}

impl TlsInUse {
    /// Reads all files once, so that a mistake shows when the exporter is built.
    pub(crate) fn new(
        settings: Tls,
        host: &str,
        protocols: &'static [&'static [u8]],
    ) -> Result<Self> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = settings.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|e| Error::config(format!("invalid server name \"{name}\": {e}")))?;
        let stamps = stamps(&settings);
        let config = Arc::new(settings.config(protocols)?);
        if settings.skip_verify {
            tracing::warn!(
                target: "outspan",
                "the certificate of {} is not verified (insecure_skip_verify): anybody in between can read the spans",
                name.to_str(),
            );
        }
        Ok(Self {
            settings,
            protocols,
            name,
            current: Mutex::new(Current { config, stamps }),
            check: Arc::new(Semaphore::new(1)),
        })
    }

    pub(crate) fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    /// The configuration for a new connection, from the files as they are now.
    ///
    /// A file system that hangs blocks a thread of its own, and no runtime: the connection then uses the last good content.
    pub(crate) async fn config(self: &Arc<Self>) -> Arc<ClientConfig> {
        if self.settings.files().next().is_some() {
            // An error says that the check goes on; the next connection uses what it finds.
            drop(tokio::time::timeout(CHECK_TIMEOUT, self.check_files()).await);
        }
        Arc::clone(&self.lock().config)
    }

    /// Reads the files again if they have changed, on a thread of its own.
    async fn check_files(self: &Arc<Self>) {
        let Ok(turn) = Arc::clone(&self.check).acquire_owned().await else {
            return;
        };
        let (done, ended) = oneshot::channel::<()>();
        let tls = Arc::clone(self);
        let thread = std::thread::Builder::new().name("outspan-files".into());
        let started = thread.spawn(move || {
            tls.read_changed();
            drop((turn, done));
        });
        if started.is_ok() {
            // The thread drops its end when it is done.
            ended.await.unwrap_or_default();
        }
    }

    fn read_changed(&self) {
        let stamps = stamps(&self.settings);
        if stamps == self.lock().stamps {
            return;
        }
        // Read without the lock: new connections take it.
        let read = self.settings.config(self.protocols);
        let mut current = self.lock();
        current.stamps = stamps;
        match read {
            Ok(config) => current.config = Arc::new(config),
            Err(error) => {
                drop(current);
                tracing::warn!(
                    target: "outspan",
                    "TLS files have changed but cannot be used, the old ones stay in use: {}",
                    error.chain()
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for TlsInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

fn stamps(settings: &Tls) -> Vec<Option<Stamp>> {
    let stamp = |path: &Path| {
        let data = std::fs::metadata(path).ok()?;
        Some(Stamp {
            modified: data.modified().ok()?,
            bytes: data.len(),
            file: file_number(&data),
        })
    };
    settings.files().map(stamp).collect()
}

#[cfg(unix)]
fn file_number(data: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(data)
}

#[cfg(not(unix))]
fn file_number(_data: &std::fs::Metadata) -> u64 {
    0
}

/// Accepts any server certificate, but still checks that the server holds its key.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use outspan_testkit::Certificates;

    use super::*;

    fn authority() -> String {
        Certificates::new().authority()
    }

    fn trusted(tls: &Tls) -> String {
        match tls.trusted() {
            Ok(store) => format!("{} authorities", store.len()),
            Err(error) => error.to_string(),
        }
    }

    /// Not a test of its own: says whom [`what_the_system_trusts`] trusts in the system it is shown.
    #[test]
    fn program() {
        println!("said: {}", trusted(&Tls::new()));
        println!("said: {}", trusted(&Tls::new().system_roots()));
        let both = Tls::new().ca_pem(authority()).system_roots();
        println!("said: {}", trusted(&both));
    }

    fn what_the_system_trusts(authorities: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("authorities.pem");
        std::fs::write(&file, authorities).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "--nocapture", "net::tls::tests::program"])
            .env("SSL_CERT_FILE", &file)
            .env_remove("SSL_CERT_DIR");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let said = text.lines().filter_map(|line| line.split_once("said: "));
        said.map(|(_, said)| said.to_owned()).collect()
    }

    #[test]
    fn the_system_s_authorities_are_trusted_and_where_there_are_none_the_bundled_ones() {
        let known = what_the_system_trusts(&[authority(), authority()].concat());
        assert_eq!(known, ["2 authorities", "2 authorities", "3 authorities"]);

        let unknown = what_the_system_trusts("");
        let bundled = format!("{} authorities", webpki_roots::TLS_SERVER_ROOTS.len());
        let [by_default, asked_for, both] = unknown.as_slice() else {
            panic!("{unknown:?}");
        };
        assert_eq!(*by_default, bundled);
        for said in [asked_for, both] {
            assert!(
                said.starts_with("the system has no certificate authorities"),
                "{said}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_in_place_of_another_is_seen_though_length_and_time_are_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| {
            let path = directory.path().join(name);
            std::fs::write(&path, name.len().to_string()).unwrap();
            let file = std::fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
            path
        });
        let settings = Tls::new().ca_file(&first);
        let before = stamps(&settings);
        assert!(before == stamps(&settings) && before.iter().all(Option::is_some));
        std::fs::rename(second, first).unwrap();
        assert!(before != stamps(&settings));
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn file_that_cannot_be_read_in_time_blocks_no_runtime() {
        let directory = tempfile::tempdir().unwrap();
        let [file, pipe] = ["ca.pem", "pipe"].map(|name| directory.path().join(name));
        std::fs::write(&file, authority()).unwrap();
        let tls = TlsInUse::new(Tls::new().ca_file(&file), "localhost", &[b"h2"]).unwrap();
        let tls = Arc::new(tls);
        let before = tls.config().await;
        // Reading a pipe that nobody writes to takes as long as a file system that hangs.
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        std::fs::rename(&pipe, &file).unwrap();
        for _ in 0..3 {
            let config = tls.config().await;
            assert!(
                Arc::ptr_eq(&before, &config),
                "the last good content is used"
            );
            assert_eq!(tls.check.available_permits(), 0, "one thread, which waits");
        }
        let changed = std::fs::File::options().write(true).open(&file).unwrap();
        drop(std::io::Write::write_all(
            &mut &changed,
            authority().as_bytes(),
        ));
        drop(changed);
        drop(tls.check.acquire().await.unwrap());
        let after = Arc::clone(&tls.lock().config);
        assert!(
            !Arc::ptr_eq(&before, &after),
            "and replaced when it is read"
        );
    }

    #[test]
    fn another_server_on_the_way_learns_neither_who_we_are_nor_has_the_name() {
        let tls = Tls::new()
            .ca_pem(authority())
            .identity_pem("chain", "key")
            .server_name("c");
        let alone = tls.trust_alone();
        assert!(alone.identity.is_none() && alone.server_name.is_none());
        assert_eq!(trusted(&alone), "1 authorities");
    }

    #[test]
    fn given_authorities_are_trusted_alone_or_beside_others() {
        let given = Tls::new().ca_pem(authority());
        assert_eq!(trusted(&given), "1 authorities");
        let bundled = webpki_roots::TLS_SERVER_ROOTS.len();
        let alone = Tls::new().bundled_roots();
        assert_eq!(trusted(&alone), format!("{bundled} authorities"));
        let beside = given.bundled_roots();
        assert_eq!(trusted(&beside), format!("{} authorities", bundled + 1));
    }
}
