//! Where requests go: schemes, ports, paths, credentials in the URL.

use std::io;
use std::net::SocketAddr;

use outspan::ErrorKind;
use outspan_testkit::Answer;
use outspan_testkit::batch_of;
use outspan_testkit::run_test;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::support::Wire;
use crate::support::export;

over_each_wire![
    names_are_looked_up,
    an_ipv6_address_is_an_endpoint,
    credentials_in_the_url_become_a_header,
    nobody_there_is_temporary_and_says_what_to_look_at,
];

async fn names_are_looked_up(wire: Wire) {
    let collector = wire.collector();
    let exporter = wire.to(&collector.endpoint_as("localhost"));
    let delivery = export(&exporter.build().unwrap(), &batch_of(1)).await;
    let server = format!("localhost:{}", collector.address().port());
    assert_eq!(
        delivery.unwrap().attempt.server.as_deref(),
        Some(server.as_str())
    );
}

async fn an_ipv6_address_is_an_endpoint(wire: Wire) {
    let collector = wire.collector();
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let forwarding = tokio::spawn(forward_one(listener, collector.address()));

    let exporter = wire.to(&format!("http://{address}")).build().unwrap();
    let delivery = export(&exporter, &batch_of(2)).await.unwrap();
    assert_eq!(
        delivery.attempt.server.as_deref(),
        Some(address.to_string().as_str())
    );
    assert_eq!(collector.span_count(), 2);
    forwarding.abort();
}

async fn forward_one(listener: TcpListener, to: SocketAddr) -> io::Result<()> {
    let (mut from, _) = listener.accept().await?;
    let mut to = TcpStream::connect(to).await?;
    copy_bidirectional(&mut from, &mut to).await?;
    Ok(())
}

async fn credentials_in_the_url_become_a_header(wire: Wire) {
    let collector = wire.collector();
    // Basic authentication (RFC 7617): base64 of `user:p@ss word`.
    collector.always(Answer::require_header(
        "authorization",
        "Basic dXNlcjpwQHNzIHdvcmQ=",
    ));
    let endpoint = collector
        .endpoint()
        .replace("://", "://user:p%40ss%20word@");
    let exporter = wire.to(&endpoint).build().unwrap();
    assert_eq!(export(&exporter, &batch_of(1)).await.unwrap().accepted, 1);
    assert!(!format!("{exporter:?}").contains("word"), "{exporter:?}");
}

/// Checklist rule 56.
async fn nobody_there_is_temporary_and_says_what_to_look_at(wire: Wire) {
    let collector = wire.collector();
    collector.stop();
    let error = export(&wire.exporter(&collector), &batch_of(1))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_temporary());
    assert_eq!(
        (error.attempt().attempts, error.attempt().wire_bytes),
        (1, 0)
    );
    let text = error.to_string();
    assert!(text.contains("Connection refused"), "{text}");
    assert!(
        text.contains("is the server running at this address?"),
        "{text}"
    );
    assert!(text.contains(&collector.endpoint()), "{text}");
    let server = collector.address().to_string();
    assert_eq!(error.attempt().server.as_deref(), Some(server.as_str()));
}

/// Checklist rules 43, 111, 116-118: a URL with a path stays as it is, one without gets OTLP's own.
#[test]
fn the_path_over_http_is_the_url_s_or_the_option_s_or_otlp_s_own() {
    let cases = [
        ("", None, "/v1/traces"),
        ("/", None, "/v1/traces"),
        ("/", Some("/"), "/"),
        ("/v1/traces", None, "/v1/traces"),
        ("/v1/traces/", None, "/v1/traces/"),
        ("/otlp", None, "/otlp"),
        ("", Some("/my/path"), "/my/path"),
        ("", Some("my/path"), "/my/path"),
        ("/ignored", Some("/my/path"), "/my/path"),
        ("/otlp?tenant=7", None, "/otlp?tenant=7"),
        ("?tenant=7", None, "/v1/traces?tenant=7"),
        ("?tenant=7", Some("/my"), "/my?tenant=7"),
        ("/otlp#fragment", None, "/otlp"),
    ];
    for wire in [Wire::HttpProtobuf, Wire::HttpJson] {
        for (in_url, option, expected) in cases {
            run_test(async {
                let collector = wire.set_up().path(expected).start();
                let mut builder = wire.to(&format!("{}{in_url}", collector.endpoint()));
                if let Some(path) = option {
                    builder = builder.path(path);
                }
                let delivered = export(&builder.build().unwrap(), &batch_of(1)).await;
                assert!(delivered.is_ok(), "{in_url} {option:?}: {delivered:?}");
                assert_eq!(collector.requests()[0].path, expected);
            });
        }
    }
}

#[test]
fn path_and_query_of_a_grpc_endpoint_have_no_meaning() {
    for extra in ["/", "/some/path", "/some/path?key=value", "?key=value"] {
        run_test(async {
            let collector = Wire::Grpc.collector();
            let exporter = Wire::Grpc.to(&format!("{}{extra}", collector.endpoint()));
            export(&exporter.build().unwrap(), &batch_of(1))
                .await
                .unwrap();
            assert_eq!(collector.span_count(), 1, "{extra}");
        });
    }
}

/// Checklist rules 112-114: a scheme decides; without one `insecure` does, and its default is to encrypt.
#[test]
fn a_grpc_endpoint_without_a_scheme_is_secure_unless_told_otherwise() {
    run_test(async {
        let collector = Wire::Grpc.collector();
        let bare = collector.address().to_string();
        let plaintext = Wire::Grpc.to(&bare).insecure(true).build().unwrap();
        export(&plaintext, &batch_of(1)).await.unwrap();

        let secure = Wire::Grpc.to(&bare).build().unwrap();
        let error = export(&secure, &batch_of(1)).await.unwrap_err();
        assert!(error.is_temporary());
        assert!(
            error
                .to_string()
                .contains("does not speak TLS: use http://"),
            "{error}"
        );
        for scheme in ["http", "HTTP", "grpc"] {
            let endpoint = format!("{scheme}://{bare}");
            let exporter = Wire::Grpc.to(&endpoint).insecure(false).build().unwrap();
            export(&exporter, &batch_of(1)).await.unwrap();
        }
        assert_eq!(collector.span_count(), 4);
    });
}

#[test]
fn a_query_is_sent_but_never_shown() {
    for wire in [Wire::HttpProtobuf, Wire::HttpJson] {
        run_test(async {
            let path = "/otlp?key=hunter2&other=swordfish";
            let collector = wire.set_up().path(path).start();
            let exporter = wire.to(&format!("{}{path}", collector.endpoint()));
            let exporter = exporter.build().unwrap();
            collector.script([Answer::refuse(
                400,
                "no GET /otlp?key=hunter2&other=swordfish",
            )]);
            let error = export(&exporter, &batch_of(1)).await.unwrap_err();
            assert_eq!(collector.requests()[0].path, path);
            for shown in [
                error.to_string(),
                format!("{error:?}"),
                format!("{exporter:?}"),
            ] {
                assert!(!shown.contains("hunter2"), "{shown}");
                assert!(!shown.contains("swordfish"), "{shown}");
            }
            assert!(error.to_string().contains("/otlp"), "{error}");
        });
    }
}
