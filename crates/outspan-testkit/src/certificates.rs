//! Certificates for tests: made anew in each run, so none is checked in and none grows old.

use std::fmt;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use tempfile::TempDir;

/// Makes and holds the certificates that TLS tests need, as PEM text and as files.
///
/// There are two authorities: one that tests trust, and another that they do not. The files live
/// in a temporary directory that goes away with this value.
pub struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
    other_authority: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

/// Holds a certificate and its private key, both as PEM text.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, `-----BEGIN CERTIFICATE-----`.
    pub certificate: String,
    /// Its private key in PKCS#8, `-----BEGIN PRIVATE KEY-----`.
    pub key: String,
}

/// Names the two files an [`Identity`] was written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The file that holds the certificate.
    pub certificate: PathBuf,
    /// The file that holds the private key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes two authorities and an empty directory.
    ///
    /// # Panics
    ///
    /// If the temporary directory cannot be made.
    pub fn new() -> Self {
        Self {
            authority: authority("Outspan test authority"),
            other_authority: authority("Another authority"),
            directory: tempfile::tempdir().expect("a temporary directory can be made"),
        }
    }

    /// The certificate of the authority that signs everything here that is not named otherwise.
    pub fn authority(&self) -> String {
        self.authority.pem()
    }

    /// The certificate of the authority that nobody trusts.
    pub fn other_authority(&self) -> String {
        self.other_authority.pem()
    }

    /// Makes a server's identity for `127.0.0.1`, `::1` and `localhost`.
    pub fn server(&self) -> Identity {
        issue(&self.authority, server_params(&HERE, "outspan test server"))
    }

    /// Makes a server's identity for the names given, host names or IP addresses.
    pub fn server_for(&self, names: &[&str]) -> Identity {
        issue(&self.authority, server_params(names, "outspan test server"))
    }

    /// Makes a server's identity whose certificate ended in 2001.
    pub fn expired_server(&self) -> Identity {
        let params = server_params(&HERE, "expired server");
        issue(&self.authority, expired(params))
    }

    /// Makes a server's identity for `elsewhere.example`, where no test server ever is.
    pub fn wrong_name_server(&self) -> Identity {
        self.server_for(&["elsewhere.example"])
    }

    /// Makes a server's identity signed by the authority that nobody trusts.
    pub fn untrusted_server(&self) -> Identity {
        let params = server_params(&HERE, "untrusted server");
        issue(&self.other_authority, params)
    }

    /// Makes a client's identity with `name` as its common name. Each call makes a new key.
    pub fn client(&self, name: &str) -> Identity {
        issue(&self.authority, client_params(name))
    }

    /// Makes a client's identity whose certificate ended in 2001.
    pub fn expired_client(&self, name: &str) -> Identity {
        issue(&self.authority, expired(client_params(name)))
    }

    /// Makes a client's identity signed by the authority that nobody trusts.
    pub fn untrusted_client(&self, name: &str) -> Identity {
        issue(&self.other_authority, client_params(name))
    }

    /// The directory that the files are in.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes the trusted authority's certificate to `authority.pem` and tells where that is.
    ///
    /// # Panics
    ///
    /// If the file cannot be written.
    pub fn authority_file(&self) -> PathBuf {
        let path = self.directory.path().join("authority.pem");
        replace(&path, &self.authority());
        path
    }

    /// Writes an identity to `NAME.pem` and `NAME.key` and tells where they are.
    ///
    /// Called again with the same name it rotates them: each file is replaced in one step, the
    /// key first. A reader in between sees a key and a certificate that do not belong together,
    /// as it would with a real rotation.
    ///
    /// # Panics
    ///
    /// If a file cannot be written.
    pub fn write(&self, name: &str, identity: &Identity) -> IdentityFiles {
        let files = IdentityFiles {
            certificate: self.directory.path().join(format!("{name}.pem")),
            key: self.directory.path().join(format!("{name}.key")),
        };
        replace(&files.key, &identity.key);
        replace(&files.certificate, &identity.certificate);
        files
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("directory", &self.directory.path())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Every name under which a test reaches a server on this machine.
const HERE: [&str; 3] = ["127.0.0.1", "::1", "localhost"];

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = named(&[], name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, new_key()).expect("an authority signs itself")
}

fn server_params(names: &[&str], common_name: &str) -> CertificateParams {
    let mut params = named(names, common_name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn client_params(name: &str) -> CertificateParams {
    let mut params = named(&[], name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn expired(mut params: CertificateParams) -> CertificateParams {
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    params
}

fn named(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("test names are host names or addresses");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params
}

fn issue(authority: &CertifiedIssuer<'static, KeyPair>, params: CertificateParams) -> Identity {
    let key = new_key();
    let certificate = params
        .signed_by(&key, authority)
        .expect("an authority made here signs");
    Identity {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a P-256 key can be made")
}

/// Writes beside the file and renames over it, so that no reader sees half of it.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).expect("the temporary directory takes a file");
    fs::rename(&beside, path).expect("a file is renamed within its directory");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_the_paths_and_changes_key_and_certificate() {
        let certificates = Certificates::new();
        let first = certificates.client("one");
        let files = certificates.write("client", &first);
        let second = certificates.client("one");
        assert_eq!(certificates.write("client", &second), files);

        assert_ne!(first, second);
        let certificate = fs::read_to_string(&files.certificate).unwrap();
        assert_eq!(certificate, second.certificate);
        assert_eq!(fs::read_to_string(&files.key).unwrap(), second.key);
    }

    #[test]
    fn debug_shows_no_private_key() {
        let identity = Certificates::new().server();
        let shown = format!("{identity:?}");
        assert!(shown.contains("BEGIN CERTIFICATE"));
        assert!(!shown.contains("PRIVATE KEY"));
    }

    #[test]
    fn the_files_go_away_with_the_certificates() {
        let certificates = Certificates::new();
        let file = certificates.authority_file();
        assert_eq!(fs::read_to_string(&file).unwrap(), certificates.authority());
        drop(certificates);
        assert!(!file.exists());
    }
}
