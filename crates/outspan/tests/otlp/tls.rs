//! Encrypted connections: whom to trust, who we are, and what is said when it does not fit.

use http::Version;
use outspan::Error;
use outspan::ErrorKind;
use outspan::otlp::Tls;
use outspan_testkit::Certificates;
use outspan_testkit::Collector;
use outspan_testkit::Identity;
use outspan_testkit::ServerTls;
use outspan_testkit::batch_of;
use outspan_testkit::run_test;

use crate::log::Log;
use crate::servers::OldServer;
use crate::support::SOON;
use crate::support::Wire;
use crate::support::export;

over_each_wire![
    a_given_authority_is_trusted,
    an_unknown_authority_is_refused_in_words,
    an_expired_certificate_is_refused_in_words,
    a_certificate_for_another_name_is_refused_until_the_name_is_given,
    skip_verify_accepts_anything,
    tls_against_plaintext_says_what_to_do,
    plaintext_against_tls_says_what_to_do,
    a_client_certificate_is_shown,
    a_client_without_the_right_certificate_is_refused,
    rotated_client_files_are_used_for_new_connections,
    client_files_that_cannot_be_used_leave_the_old_ones,
    a_rotated_authority_is_trusted_for_new_connections,
];

fn server(wire: Wire, identity: Identity) -> Collector {
    wire.set_up().tls(ServerTls::new(identity)).start()
}

async fn fails(wire: Wire, collector: &Collector, tls: Tls) -> Error {
    let exporter = wire.to_collector(collector).tls(tls).build().unwrap();
    let error = export(&exporter, &batch_of(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_temporary(), "certificates get renewed: {error}");
    assert_eq!(collector.requests().len(), 0, "not a span left");
    error
}

async fn a_given_authority_is_trusted(wire: Wire) {
    let certificates = Certificates::new();
    let collector = server(wire, certificates.server());
    for tls in [
        Tls::new().ca_file(certificates.authority_file()),
        Tls::new().ca_pem(certificates.authority()),
        Tls::new()
            .ca_pem(certificates.other_authority())
            .ca_pem(certificates.authority()),
        Tls::new().bundled_roots().ca_pem(certificates.authority()),
    ] {
        let exporter = wire.to_collector(&collector).tls(tls).build().unwrap();
        for _ in 0..2 {
            export(&exporter, &batch_of(1)).await.unwrap();
        }
    }
    assert_eq!(collector.connections(), 4);
    // Checklist rules 37, 38: TLS negotiates HTTP/2, for OTLP/HTTP as well.
    for request in collector.requests() {
        assert_eq!(request.version, Version::HTTP_2);
    }
    let by_name = wire
        .to(&collector.endpoint_as("localhost"))
        .tls(Tls::new().ca_pem(certificates.authority()));
    export(&by_name.build().unwrap(), &batch_of(1))
        .await
        .unwrap();
}

async fn an_unknown_authority_is_refused_in_words(wire: Wire) {
    let certificates = Certificates::new();
    let collector = server(wire, certificates.untrusted_server());
    for tls in [
        Tls::new().ca_pem(certificates.authority()),
        Tls::new().bundled_roots(),
    ] {
        let error = fails(wire, &collector, tls).await;
        assert!(
            error.to_string().contains("give its CA certificate"),
            "{error}"
        );
    }
}

async fn an_expired_certificate_is_refused_in_words(wire: Wire) {
    let certificates = Certificates::new();
    let collector = server(wire, certificates.expired_server());
    let tls = Tls::new().ca_pem(certificates.authority());
    let error = fails(wire, &collector, tls).await;
    assert!(
        error.to_string().contains("certificate has expired"),
        "{error}"
    );
}

async fn a_certificate_for_another_name_is_refused_until_the_name_is_given(wire: Wire) {
    let certificates = Certificates::new();
    let collector = server(wire, certificates.wrong_name_server());
    let tls = Tls::new().ca_pem(certificates.authority());
    let error = fails(wire, &collector, tls.clone()).await;
    let text = error.to_string();
    assert!(
        text.contains("the certificate is for another name"),
        "{text}"
    );
    assert!(text.contains("elsewhere.example"), "{text}");

    let repaired = wire
        .to_collector(&collector)
        .tls(tls.server_name("elsewhere.example"));
    export(&repaired.build().unwrap(), &batch_of(1))
        .await
        .unwrap();
}

async fn skip_verify_accepts_anything(wire: Wire) {
    let certificates = Certificates::new();
    for identity in [
        certificates.untrusted_server(),
        certificates.expired_server(),
        certificates.wrong_name_server(),
    ] {
        let collector = server(wire, identity);
        let exporter = wire
            .to_collector(&collector)
            .tls(Tls::new().insecure_skip_verify());
        export(&exporter.build().unwrap(), &batch_of(1))
            .await
            .unwrap();
    }
}

async fn tls_against_plaintext_says_what_to_do(wire: Wire) {
    let collector = wire.collector();
    let endpoint = collector.endpoint().replace("http://", "https://");
    let exporter = wire.to(&endpoint).tls(Tls::new().bundled_roots());
    let error = export(&exporter.build().unwrap(), &batch_of(1))
        .await
        .unwrap_err();
    assert!(error.is_temporary());
    assert!(
        error
            .to_string()
            .contains("the server does not speak TLS: use http:// or grpc://"),
        "{error}"
    );
}

async fn plaintext_against_tls_says_what_to_do(wire: Wire) {
    let collector = server(wire, Certificates::new().server());
    let endpoint = collector.endpoint().replace("https://", "http://");
    let exporter = wire.to(&endpoint).build().unwrap();
    let error = export(&exporter, &batch_of(1)).await.unwrap_err();
    assert!(error.is_temporary());
    assert!(
        error
            .to_string()
            .contains("the server expects TLS: use https:// or grpcs://"),
        "{error}"
    );
}

fn demanding(wire: Wire, certificates: &Certificates) -> Collector {
    let tls = ServerTls::new(certificates.server()).demand_client(certificates.authority());
    wire.set_up().tls(tls).start()
}

async fn a_client_certificate_is_shown(wire: Wire) {
    let certificates = Certificates::new();
    let collector = demanding(wire, &certificates);
    let identity = certificates.client("shop");
    let files = certificates.write("client", &identity);
    let trusting = Tls::new().ca_pem(certificates.authority());
    for tls in [
        trusting
            .clone()
            .identity_pem(&identity.certificate, &identity.key),
        trusting.identity_files(&files.certificate, &files.key),
    ] {
        let exporter = wire.to_collector(&collector).tls(tls);
        export(&exporter.build().unwrap(), &batch_of(1))
            .await
            .unwrap();
    }
    for request in collector.requests() {
        assert_eq!(request.peer.as_deref(), Some("shop"));
    }
}

async fn a_client_without_the_right_certificate_is_refused(wire: Wire) {
    let certificates = Certificates::new();
    let collector = demanding(wire, &certificates);
    let trusting = Tls::new().ca_pem(certificates.authority());
    let with = |identity: Identity| {
        let trusting = trusting.clone();
        trusting.identity_pem(identity.certificate, identity.key)
    };
    for tls in [
        trusting.clone(),
        with(certificates.untrusted_client("shop")),
        with(certificates.expired_client("shop")),
    ] {
        let error = fails(wire, &collector, tls).await;
        let text = error.to_string();
        assert!(
            text.contains("demands a client certificate, or refuses ours"),
            "{text}"
        );
    }
}

async fn rotated_client_files_are_used_for_new_connections(wire: Wire) {
    let certificates = Certificates::new();
    let collector = demanding(wire, &certificates);
    let files = certificates.write("client", &certificates.client("first"));
    let tls = Tls::new()
        .ca_pem(certificates.authority())
        .identity_files(&files.certificate, &files.key);
    let exporter = wire.to_collector(&collector).tls(tls).build().unwrap();
    export(&exporter, &batch_of(1)).await.unwrap();

    certificates.write("client", &certificates.client("second"));
    export(&exporter, &batch_of(1)).await.unwrap();
    collector.go_away();
    collector.wait_for_open_connections(0, SOON).await;
    export(&exporter, &batch_of(1)).await.unwrap();

    let requests = collector.requests();
    let peers: Vec<_> = requests.iter().map(|r| r.peer.as_deref()).collect();
    assert_eq!(peers, [Some("first"), Some("first"), Some("second")]);
}

async fn client_files_that_cannot_be_used_leave_the_old_ones(wire: Wire) {
    let log = Log::watch();
    let certificates = Certificates::new();
    let collector = demanding(wire, &certificates);
    let files = certificates.write("client", &certificates.client("first"));
    let tls = Tls::new()
        .ca_pem(certificates.authority())
        .identity_files(&files.certificate, &files.key);
    let exporter = wire.to_collector(&collector).tls(tls).build().unwrap();

    let other_key = certificates.client("other").key;
    let broken: [Option<&str>; 3] = [Some("no key at all"), Some(&other_key), None];
    for content in broken {
        match content {
            Some(text) => std::fs::write(&files.key, text).unwrap(),
            None => std::fs::remove_file(&files.key).unwrap(),
        }
        for _ in 0..2 {
            export(&exporter, &batch_of(1)).await.unwrap();
            collector.go_away();
            collector.wait_for_open_connections(0, SOON).await;
        }
    }
    let about = certificates.directory().display().to_string();
    let warnings = log.wait_for(2, &about).await;
    for warning in &warnings {
        assert!(warning.contains("the old ones stay in use"), "{warning}");
        assert!(!warning.contains("no key at all"), "{warning}");
    }
    certificates.write("client", &certificates.client("second"));
    export(&exporter, &batch_of(1)).await.unwrap();

    let requests = collector.requests();
    let peers: Vec<_> = requests.iter().map(|r| r.peer.as_deref()).collect();
    assert_eq!(peers[..6], [Some("first"); 6]);
    assert_eq!(peers[6..], [Some("second")]);
}

async fn a_rotated_authority_is_trusted_for_new_connections(wire: Wire) {
    let certificates = Certificates::new();
    let collector = server(wire, certificates.untrusted_server());
    let file = certificates.authority_file();
    let tls = Tls::new().ca_file(&file);
    let exporter = wire.to_collector(&collector).tls(tls).build().unwrap();
    export(&exporter, &batch_of(1)).await.unwrap_err();
    std::fs::write(&file, certificates.other_authority()).unwrap();
    export(&exporter, &batch_of(1)).await.unwrap();
}

/// Checklist rule 38: a server that knows HTTP/1.1 alone gets it.
#[test]
fn http_falls_back_to_version_1_where_the_server_knows_no_other() {
    let certificates = Certificates::new();
    for protocols in [&[][..], &[&b"http/1.1"[..]][..]] {
        let server = OldServer::start(&certificates.server(), protocols);
        run_test(async {
            let exporter = Wire::HttpProtobuf
                .to(&format!("https://{}", server.address))
                .tls(Tls::new().ca_pem(certificates.authority()))
                .build()
                .unwrap();
            for _ in 0..2 {
                export(&exporter, &batch_of(1)).await.unwrap();
                assert_eq!(server.next_request(), "POST /v1/traces HTTP/1.1\r\n");
            }
        });
    }
}

#[test]
fn grpc_against_a_server_without_http_2_says_what_to_do() {
    let certificates = Certificates::new();
    let server = OldServer::start(&certificates.server(), &[b"http/1.1"]);
    run_test(async {
        let exporter = Wire::Grpc
            .to(&format!("https://{}", server.address))
            .tls(Tls::new().ca_pem(certificates.authority()))
            .build()
            .unwrap();
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert!(error.is_temporary());
        let text = error.to_string();
        assert!(text.contains("offers no HTTP/2 here"), "{text}");
    });
}

/// TLS lets the two sides agree on HTTP/2, and gRPC answers what it does not know with HTTP 200.
#[test]
fn a_grpc_server_does_not_accept_what_comes_as_plain_http() {
    let certificates = Certificates::new();
    let collector = server(Wire::Grpc, certificates.server());
    for wire in [Wire::HttpProtobuf, Wire::HttpJson] {
        run_test(async {
            let tls = Tls::new().ca_pem(certificates.authority());
            let exporter = wire.to_collector(&collector).tls(tls).build().unwrap();
            let error = export(&exporter, &batch_of(1)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.to_string().contains("as gRPC does"), "{error}");
        });
    }
    assert_eq!(collector.span_count(), 0);
}

#[test]
fn mistakes_in_files_are_found_when_building() {
    let certificates = Certificates::new();
    let identity = certificates.client("shop");
    let other = certificates.client("other");
    let files = certificates.write("client", &identity);
    let trusting = || Tls::new().ca_pem(certificates.authority());
    let cases = [
        (
            trusting().identity_files("/no/such.pem", &files.key),
            "/no/such.pem",
        ),
        (
            trusting().identity_files(&files.certificate, "/no/such.key"),
            "/no/such.key",
        ),
        (
            trusting().identity_pem(&identity.certificate, &other.key),
            "do not fit",
        ),
        (
            trusting().identity_pem(&identity.key, &identity.key),
            "BEGIN CERTIFICATE",
        ),
        (
            trusting().identity_pem(&identity.certificate, "junk"),
            "private key",
        ),
        (trusting().server_name("not a name"), "invalid server name"),
        (Tls::new().ca_file("/no/such/ca.pem"), "/no/such/ca.pem"),
    ];
    for (tls, said) in cases {
        for wire in [Wire::Grpc, Wire::HttpProtobuf] {
            let error = wire.to("https://host").tls(tls.clone()).build();
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(said), "{error}");
            assert!(!format!("{tls:?}").contains("PRIVATE KEY"));
        }
    }
    let plaintext = Wire::Grpc.to("http://host").tls(trusting()).build();
    assert!(plaintext.unwrap_err().to_string().contains("use https"));
}
