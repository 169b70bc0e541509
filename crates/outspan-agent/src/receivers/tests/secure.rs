//! TLS: with the right certificates, with wrong ones, and where it is not expected.

use outspan_testkit::Certificates;
use outspan_testkit::Identity;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::log::Log;

fn files(certificates: &Certificates, demands_certificates: bool) -> TlsFiles {
    let server = certificates.write("server", &certificates.server());
    TlsFiles {
        certificate: server.certificate,
        key: server.key,
        client_authorities: demands_certificates.then(|| certificates.authority_file()),
    }
}

async fn secure(certificates: &Certificates, demands_certificates: bool, limits: Limits) -> Server {
    let tls = Tls::new(files(certificates, demands_certificates)).unwrap();
    Server::with(limits, 1000, Some(tls)).await
}

fn config(authority: &str, identity: Option<&Identity>, protocol: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(authority.as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![chain], key).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    config
}

async fn connect(server: &Server, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let connected = connector.connect(name, server.connect().await);
    timeout(SOON, connected).await.expect("a handshake in time")
}

/// Sends a request over HTTP/1; `None` if the connection breaks. With TLS 1.3 a server's refusal shows only here.
async fn answer(server: &Server, config: ClientConfig) -> Option<String> {
    let mut stream = connect(server, config).await.ok()?;
    let request = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab";
    stream.write_all(request).await.ok()?;
    let answer = read_all(&mut stream).await;
    (!answer.is_empty()).then(|| String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn both_versions_are_served_over_tls_as_agreed_in_the_handshake() {
    let certificates = Certificates::new();
    let server = secure(&certificates, false, Limits::new(None)).await;
    let authority = certificates.authority();
    for protocol in ["http/1.1", "h2"] {
        let stream = connect(&server, config(&authority, None, protocol))
            .await
            .unwrap();
        let agreed = stream.get_ref().1.alpn_protocol();
        assert_eq!(agreed, Some(protocol.as_bytes()));
        let mut client = match protocol {
            "h2" => Client::http2(stream).await,
            _ => Client::http1(stream).await,
        };
        let body = vec![0; 1 << 20];
        assert_eq!(client.send("/", &body).await, body.len().to_string());
    }
    server.has_open(0).await;
    let other = config(&certificates.other_authority(), None, "h2");
    assert!(
        connect(&server, other).await.is_err(),
        "the sender does not trust us"
    );
}

#[tokio::test]
async fn only_those_with_a_certificate_of_the_authority_come_in() {
    let certificates = Certificates::new();
    let server = secure(&certificates, true, Limits::new(None)).await;
    let authority = certificates.authority();
    let ask = async |identity: Option<Identity>| {
        answer(&server, config(&authority, identity.as_ref(), "http/1.1")).await
    };
    let right = ask(Some(certificates.client("shop"))).await.unwrap();
    assert!(
        right.starts_with("HTTP/1.1 200 OK") && right.ends_with("\r\n\r\n2"),
        "{right}"
    );
    let untrusted = certificates.untrusted_client("shop");
    let expired = certificates.expired_client("shop");
    for wrong in [None, Some(untrusted), Some(expired)] {
        assert_eq!(ask(wrong).await, None);
    }
    assert_eq!(server.fake.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn new_connections_use_a_new_certificate() {
    let certificates = Certificates::new();
    let server = secure(&certificates, false, Limits::new(None)).await;
    let shown = async || {
        let config = config(&certificates.authority(), None, "h2");
        let stream = connect(&server, config).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let first = shown().await;
    certificates.write("server", &certificates.server());
    let changes = async {
        while shown().await == first {
            // Sleeps: files are looked at every other second.
            tokio::time::sleep(millis(100)).await;
        }
    };
    timeout(SOON, changes).await.expect("the new one is shown");
}

#[tokio::test]
async fn plain_senders_are_told_that_tls_is_wanted() {
    let certificates = Certificates::new();
    let server = secure(&certificates, false, Limits::new(None)).await;
    for opening in [
        &b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"[..],
        HTTP2_BEGIN,
    ] {
        let mut stream = server.connect().await;
        stream.write_all(opening).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = String::from_utf8(read_all(&mut stream).await).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{head}"
        );
        assert!(body.contains("TLS"), "{body}");
    }
    let mut silent = server.connect().await;
    silent.shutdown().await.unwrap();
    assert_eq!(read_all(&mut silent).await, b"", "it said nothing");
    server.has_open(0).await;
}

#[tokio::test]
async fn tls_where_none_is_wanted_ends_without_harm() {
    let certificates = Certificates::new();
    let server = Server::start().await;
    let config = config(&certificates.authority(), None, "h2");
    assert!(connect(&server, config).await.is_err());
    let mut stream = server.connect().await;
    let hello = [0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3];
    stream.write_all(&hello).await.unwrap();
    assert_eq!(read_all(&mut stream).await, b"", "HTTP says nothing");
    server.has_open(0).await;
    server.is_well().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut_off() {
    let certificates = Certificates::new();
    let limits = Limits {
        handshake: millis(300),
        first_byte: millis(300),
        ..Limits::new(None)
    };
    let server = secure(&certificates, false, limits).await;
    // Nothing; the beginning of a handshake; and a handshake without anything behind it.
    let mut silent = server.connect().await;
    let mut half = server.connect().await;
    half.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    let config = config(&certificates.authority(), None, "h2");
    let mut only = connect(&server, config).await.unwrap();
    server.has_open(3).await;
    read_all(&mut silent).await;
    read_all(&mut half).await;
    read_all(&mut only).await;
    server.has_open(0).await;
}

#[tokio::test]
async fn addresses_and_certificates_have_to_fit() {
    let certificates = Certificates::new();
    let listen = |text| vec![Listen::parse(text).unwrap()];
    let with = files(&certificates, false);
    let check = |listen: Vec<Listen>, files: Option<&TlsFiles>| {
        tls(&listen, files).map(|tls| tls.is_some())
    };
    assert_eq!(check(listen("grpc://localhost"), None), Ok(false));
    assert_eq!(check(listen("grpcs://localhost"), Some(&with)), Ok(true));
    let error = check(listen("grpcs://localhost"), None).unwrap_err();
    assert_eq!(
        error,
        "grpcs://localhost:4317 needs a certificate and its key: give --listen-cert and --listen-key"
    );
    let error = check(listen("http://localhost"), Some(&with)).unwrap_err();
    assert!(error.contains("listen on grpcs://, https://"), "{error}");
}

fn guarded_by(tls: Option<TlsFiles>, tokens: &[&str]) -> Settings {
    let tokens: Vec<String> = tokens.iter().map(ToString::to_string).collect();
    Settings {
        max_request_bytes: 1,
        request_timeout: SOON,
        max_connections: 1,
        max_connection_age: None,
        tls,
        cors_origins: Vec::new(),
        tokens: Tokens::parse(&tokens).unwrap(),
        acks: AckSettings::queued(),
    }
}

#[tokio::test]
async fn of_the_addresses_that_strangers_can_send_to_one_of_each_kind_is_warned_of() {
    let log = Log::begin();
    let open = async |addresses: &[&str]| {
        let mut sockets = Vec::new();
        for address in addresses {
            sockets.extend(Listen::parse(address).unwrap().open().await.unwrap());
        }
        sockets
    };
    let private = open(&["grpc://localhost:0", "jaeger+udp://localhost:0"]).await;
    warn_of_strangers(&private, &guarded_by(None, &[]));
    assert_eq!(log.text(), "");
    let public = open(&[
        "grpc://0.0.0.0:0",
        "jaeger+udp://0.0.0.0:0",
        "http://0.0.0.0:0",
    ])
    .await;
    warn_of_strangers(&public, &guarded_by(None, &[]));
    let words = |socket: &Socket| format!("anyone on the network can send to {}: ", socket.shown);
    let told = |socket: &Socket| log.warnings(&words(socket));
    let told: Vec<_> = public.iter().map(told).collect();
    assert_eq!(told, [1, 1, 0], "{}", log.text());
    // UDP has no tokens.
    warn_of_strangers(&public, &guarded_by(None, &["secret"]));
    assert_eq!(log.warnings(&words(&public[0])), 1);
    assert_eq!(log.warnings(&words(&public[1])), 2);
    assert!(!log.text().contains("secret"));
}

#[tokio::test]
async fn an_address_is_open_to_strangers_unless_tokens_or_certificates_guard_it() {
    let certificates = Certificates::new();
    let is_open = async |address: &str, files: Option<TlsFiles>, tokens: &[&str]| {
        let sockets = Listen::parse(address).unwrap().open().await.unwrap();
        open_to_strangers(&sockets, &guarded_by(files, tokens)).is_some()
    };
    let with = |demands_certificates| Some(files(&certificates, demands_certificates));
    assert!(is_open("grpc://0.0.0.0:0", None, &[]).await);
    assert!(is_open("https://0.0.0.0:0", with(false), &[]).await);
    assert!(is_open("http://0.0.0.0:0", with(true), &[]).await);
    assert!(!is_open("https://0.0.0.0:0", with(true), &[]).await);
    assert!(!is_open("http://0.0.0.0:0", None, &["secret"]).await);
    assert!(!is_open("grpc://localhost:0", None, &[]).await);
    assert!(is_open("zipkin+http://0.0.0.0:0", None, &[]).await);
    assert!(!is_open("jaeger+http://0.0.0.0:0", None, &["secret"]).await);
}
