//! TLS for those who send: who we are, whom we let in, and files that are read again when they change.

use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use tokio::time::Instant;

use super::remarks::Remark;

/// How long files are taken to be as they were; new connections may come by the thousand.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The protocols we offer, the better one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Names the files of TLS, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Our certificate, with those between it and its authority behind it.
    pub(crate) certificate: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// Authorities; whoever sends has to show a certificate of theirs.
    pub(crate) client_authorities: Option<PathBuf>,
}

/// Holds what new connections use.
pub(super) struct Tls {
    files: TlsFiles,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    stamps: Vec<Option<Stamp>>,
    looked: Instant,
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    bytes: u64,
    /// Rotation renames a new file over the old one, often of the same length and within the clock's grain.
    file: u64,
}

impl Tls {
    /// Reads all files.
    ///
    /// # Errors
    ///
    /// Words for the user: which file is wrong, and what is expected there.
    pub(super) fn new(files: TlsFiles) -> Result<Self, String> {
        // Before reading, so that a change in between is seen at the next look.
        let stamps = files.stamps();
        let config = Arc::new(files.config()?);
        Ok(Self {
            files,
            current: Mutex::new(Current {
                config,
                stamps,
                looked: Instant::now(),
            }),
        })
    }

    /// What a new connection is to use. Looks at the files every few seconds; files that have become unusable are
    /// remarked on, and the last usable content stays.
    pub(super) fn config(&self, remark: &Remark) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now < current.looked + LOOK_AGAIN {
            return Arc::clone(&current.config);
        }
        current.looked = now;
        let stamps = self.files.stamps();
        if stamps != current.stamps {
            current.stamps = stamps;
            match self.files.config() {
                Ok(config) => current.config = Arc::new(config),
                Err(error) => {
                    if let Some(more) = remark.due() {
                        tracing::warn!(
                            target: "outspan",
                            "the files of TLS have changed and cannot be used, the old content stays in use: {error}{more}"
                        );
                    }
                }
            }
        }
        Arc::clone(&current.config)
    }

    /// Reads all files again, whether they have changed or not. New connections use the content that was read; if it is
    /// unusable they go on with the content of before.
    ///
    /// # Errors
    ///
    /// Words for the user: which file is wrong, and what is expected there.
    pub(super) fn reload(&self) -> Result<String, String> {
        // Before reading, so that a change in between is seen at the next look. The lock is not held while files are
        // read: connections wait for it.
        let stamps = self.files.stamps();
        let config = self.files.config();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.looked = Instant::now();
        current.stamps = stamps;
        let names = &self.files;
        match config {
            Ok(config) => {
                current.config = Arc::new(config);
                Ok(format!("certificate and key of {names}"))
            }
            Err(error) => Err(format!("certificate and key: {error}")),
        }
    }
}

impl fmt::Display for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.certificate.display())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

impl TlsFiles {
    fn config(&self) -> Result<ServerConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates(&self.certificate)?;
        let key = private_key(&self.key)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("cannot set up TLS: {e}"))?;
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(authorities(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|e| format!("cannot use {}: {e}", path.display()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| {
            format!(
                "the key in {} cannot be used with the certificate in {}: {e}",
                self.key.display(),
                self.certificate.display(),
            )
        })?;
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        let files = [&self.certificate, &self.key];
        let files = files.into_iter().chain(&self.client_authorities);
        files.map(|path| Stamp::of(path)).collect()
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let data = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: data.modified().ok()?,
            bytes: data.len(),
            file: file_number(&data),
        })
    }
}

#[cfg(unix)]
fn file_number(data: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(data)
}

#[cfg(not(unix))]
fn file_number(_data: &std::fs::Metadata) -> u64 {
    0
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| format!("no usable certificate in {}: {e}", path.display()))?;
    match certificates.is_empty() {
        true => Err(format!(
            "no certificate in {}: expected PEM text with BEGIN CERTIFICATE",
            path.display()
        )),
        false => Ok(certificates),
    }
}

/// The error never shows what stands in the file.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| {
        format!(
            "no usable private key in {}: expected PEM text with BEGIN PRIVATE KEY",
            path.display()
        )
    })
}

fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|e| format!("unusable authority in {}: {e}", path.display()))?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use outspan_testkit::Certificates;

    use super::*;

    fn files(certificates: &Certificates) -> TlsFiles {
        let server = certificates.write("server", &certificates.server());
        TlsFiles {
            certificate: server.certificate,
            key: server.key,
            client_authorities: Some(certificates.authority_file()),
        }
    }

    #[test]
    fn wrong_files_are_named_and_keys_never_shown() {
        let certificates = Certificates::new();
        let files = files(&certificates);
        let key = fs::read_to_string(&files.key).unwrap();
        let other = certificates.write("other", &certificates.server());
        let wrong = |change: &dyn Fn(&mut TlsFiles)| {
            let mut files = files.clone();
            change(&mut files);
            let error = Tls::new(files).unwrap_err();
            assert!(!error.contains(key.lines().nth(1).unwrap()), "{error}");
            error
        };
        let missing = certificates.directory().join("missing.pem");
        let error = wrong(&|files| files.certificate = missing.clone());
        assert!(error.starts_with("cannot read ") && error.contains("missing.pem"));
        let error = wrong(&|files| files.certificate = files.key.clone());
        assert!(error.contains("no certificate in "), "{error}");
        let error = wrong(&|files| files.key = files.certificate.clone());
        assert!(error.contains("no usable private key in "), "{error}");
        let error = wrong(&|files| files.key = other.key.clone());
        assert!(
            error.contains("cannot be used with the certificate"),
            "{error}"
        );
        let error = wrong(&|files| files.client_authorities = Some(files.key.clone()));
        assert!(error.contains("no certificate in "), "{error}");
        let shown = format!("{:?}", Tls::new(files.clone()).unwrap());
        assert!(shown.contains("server.key") && !shown.contains(key.lines().nth(1).unwrap()));
    }

    #[test]
    fn a_file_that_took_the_place_of_another_is_another_one_however_alike() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
        let time = std::time::SystemTime::UNIX_EPOCH;
        for path in [&first, &second] {
            fs::write(path, "as long").unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(time).unwrap();
        }
        let stamp = Stamp::of(&first);
        assert!(stamp.is_some() && Stamp::of(&first) == stamp);
        fs::rename(&second, &first).unwrap();
        assert_ne!(Stamp::of(&first), stamp);
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_read_again_when_they_change_and_broken_ones_are_not_used() {
        let certificates = Certificates::new();
        let files = files(&certificates);
        let tls = Tls::new(files.clone()).unwrap();
        let remark = Remark::default();
        let first = tls.config(&remark);
        tokio::time::advance(LOOK_AGAIN).await;
        assert!(Arc::ptr_eq(&first, &tls.config(&remark)), "nothing changed");

        certificates.write("server", &certificates.server());
        assert!(Arc::ptr_eq(&first, &tls.config(&remark)), "not looked yet");
        tokio::time::advance(LOOK_AGAIN).await;
        let second = tls.config(&remark);
        assert!(!Arc::ptr_eq(&first, &second));

        fs::write(&files.certificate, "half of a certif").unwrap();
        tokio::time::advance(LOOK_AGAIN).await;
        assert!(Arc::ptr_eq(&second, &tls.config(&remark)));
        assert_eq!(remark.due(), None, "it was remarked on");
        tokio::time::advance(LOOK_AGAIN).await;
        assert!(Arc::ptr_eq(&second, &tls.config(&remark)));

        certificates.write("server", &certificates.server());
        tokio::time::advance(LOOK_AGAIN).await;
        assert!(!Arc::ptr_eq(&second, &tls.config(&remark)));
    }
}
