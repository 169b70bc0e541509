//! Proxies that refuse, fail or are none: the error says that it was the proxy.

use std::net::SocketAddr;
use std::time::Duration;

use outspan::Error;
use outspan::ErrorKind;
use outspan::otlp::Tls;
use outspan_testkit::Certificates;
use outspan_testkit::Collector;
use outspan_testkit::ServerTls;
use outspan_testkit::Transport;
use outspan_testkit::run_test;
use tokio::net::TcpListener;

use crate::proxies::HOST;
use crate::proxies::WIRES;
use crate::proxies::export;
use crate::proxies::fake::FakeProxy;
use crate::proxies::fake::Manner;
use crate::proxies::to;

/// Nobody is asked there: the proxies of these tests get no further.
fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

/// The error of an encrypted export through this proxy.
async fn fails(proxy: &FakeProxy, scheme: &str, user: &str) -> Error {
    let collector = Collector::grpc();
    let exporter = to(Transport::Grpc, "https", &collector)
        .proxy(proxy.url(scheme, user))
        .connect_timeout(Duration::from_secs(5))
        .build()
        .unwrap();
    let error = export(&exporter).await.unwrap_err();
    check(&error);
    assert_eq!(collector.connections(), 0);
    let server = format!("{HOST}:{}", collector.address().port());
    assert_eq!(error.attempt().server.as_deref(), Some(server.as_str()));
    error
}

/// What a proxy does says nothing about the spans, and may be over in a moment.
fn check(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_temporary(), "{error}");
    assert_eq!(
        (error.attempt().attempts, error.attempt().wire_bytes),
        (1, 0),
        "{error}"
    );
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

async fn says(proxy: &FakeProxy, scheme: &str, user: &str, words: &str) {
    let error = fails(proxy, scheme, user).await.to_string();
    let named = format!("proxy {scheme}://{}", proxy.address);
    assert!(!error.contains("cannot connect: "), "{error}");
    assert_eq!(error.matches(&named).count(), 1, "{error}");
    let address = proxy.address.to_string();
    assert_eq!(error.matches(&address).count(), 1, "{error}");
    assert!(error.contains(words), "{error}");
}

#[test]
fn a_proxy_that_wants_credentials_is_named_with_its_answer() {
    run_test(async {
        let proxy = FakeProxy::start(Manner::Http(Some("Basic none")), nowhere()).await;
        let words = "refused the tunnel to collector.test:";
        says(&proxy, "http", "", words).await;
        let words =
            ": 407 Proxy Authentication Required (give user and password in the proxy's URL)";
        says(&proxy, "http", "", words).await;
        let words = ": 407 Proxy Authentication Required (user or password are not accepted)";
        says(&proxy, "http", "me:hunter2@", words).await;

        let proxy = FakeProxy::start(Manner::Socks(Some(("me", "right"))), nowhere()).await;
        let words = ": none of our ways to authenticate is accepted (give user and password";
        says(&proxy, "socks5h", "", words).await;
        says(
            &proxy,
            "socks5h",
            "me:hunter2@",
            ": user or password are not accepted",
        )
        .await;
    });
}

#[test]
fn a_proxy_that_forwards_and_wants_credentials_is_no_collector_that_refuses() {
    run_test(async {
        let collector = Collector::http();
        let manner = Manner::Http(Some("Basic none"));
        let proxy = FakeProxy::start(manner, collector.address()).await;
        let exporter = to(Transport::Http, "http", &collector)
            .proxy(proxy.url("http", "me:hunter2@"))
            .build()
            .unwrap();
        let error = export(&exporter).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.is_temporary());
        let text = error.to_string();
        assert!(
            text.contains("refused to forward to collector.test:"),
            "{text}"
        );
        assert!(
            text.contains(": 407 Proxy Authentication Required"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(collector.requests().len(), 0);
    });
}

#[test]
fn an_answer_to_a_forwarded_request_names_the_proxy_that_it_may_be_from() {
    run_test(async {
        let answer = b"HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 0\r\n\r\n";
        let proxy = FakeProxy::start(Manner::Say(answer), nowhere()).await;
        let collector = Collector::http();
        let exporter = to(Transport::Http, "http", &collector)
            .proxy(proxy.url("http", "me:hunter2@"))
            .build()
            .unwrap();
        let error = export(&exporter).await.unwrap_err();
        assert_eq!(error.attempt().status, Some(504));
        assert!(error.is_temporary());
        let text = error.to_string();
        assert!(text.contains(&proxy.url("http", "")), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    });
}

#[test]
fn what_a_proxy_answers_is_told_without_secrets() {
    run_test(async {
        for (answer, words) in [
            (
                &b"HTTP/1.1 403 Forbidden\r\n\r\n"[..],
                ": 403 Forbidden (the proxy allows no tunnel to this host or port)",
            ),
            (
                b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
                ": 502 Bad Gateway (the proxy cannot reach the destination)",
            ),
            (b"HTTP/1.1 404\r\n\r\n", ": 404"),
            (b"HTTP/1.1 400 Bad hunter2\r\n\r\n", ": 400 Bad ***"),
            (
                b"HTTP/1.1 400 Bad bWU6aHVudGVyMg==\r\n\r\n",
                ": 400 Bad ***",
            ),
            (b"SSH-2.0-OpenSSH_9\r\n", "does not answer in HTTP"),
            (b"\x15\x03\x01\x00\x02\x02\x16", "use https:// in its URL"),
            (b"\x05\xff", "use socks5:// in its URL"),
            (
                b"HTTP/1.1 200 OK\r\n",
                "hung up before it opened the tunnel",
            ),
            (b"", "hung up before it opened the tunnel"),
        ] {
            let proxy = FakeProxy::start(Manner::Say(answer), nowhere()).await;
            says(&proxy, "http", "me:hunter2@", words).await;
        }
        for (answer, words) in [
            (
                &b"\x05\x00\x05\x02\x00\x01"[..],
                ": its rules do not allow it",
            ),
            (
                b"\x05\x00\x05\x05\x00\x01",
                ": connection refused by the destination",
            ),
            (
                b"HTTP/1.1 400 Bad Request\r\n\r\n",
                "use http:// in its URL",
            ),
            (b"\x04\x00", "does not answer in SOCKS5"),
            (b"\x05", "hung up before it opened the tunnel"),
        ] {
            let proxy = FakeProxy::start(Manner::Say(answer), nowhere()).await;
            says(&proxy, "socks5h", "", words).await;
        }
    });
}

#[test]
fn a_proxy_that_says_too_much_is_left() {
    const ENDLESS: &[u8] = &[b'x'; 64 * 1024];

    run_test(async {
        let words = [b"HTTP/1.1 200 OK\r\nx: ", ENDLESS].concat().leak();
        let proxy = FakeProxy::start(Manner::Say(words), nowhere()).await;
        says(&proxy, "http", "", "more than 16384 bytes of headers").await;
    });
}

#[test]
fn a_proxy_that_stalls_has_the_connect_timeout() {
    run_test(async {
        for (scheme, words) in [
            (
                "http",
                "opened no tunnel within the connect timeout of 50ms",
            ),
            (
                "socks5h",
                "opened no tunnel within the connect timeout of 50ms",
            ),
            (
                "https",
                "ended no TLS handshake within the connect timeout of 50ms",
            ),
        ] {
            let proxy = FakeProxy::start(Manner::Silence, nowhere()).await;
            let collector = Collector::grpc();
            let exporter = to(Transport::Grpc, "http", &collector)
                .proxy(proxy.url(scheme, ""))
                .connect_timeout(Duration::from_millis(50))
                .build()
                .unwrap();
            let error = export(&exporter).await.unwrap_err();
            check(&error);
            assert!(error.to_string().contains(words), "{error}");
        }
    });
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    run_test(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        for wire in WIRES {
            let collector = Collector::over(wire).start();
            let exporter = to(wire, "http", &collector)
                .proxy(format!("http://me:hunter2@{address}"))
                .build()
                .unwrap();
            let error = export(&exporter).await.unwrap_err();
            check(&error);
            let text = error.to_string();
            let named = format!("cannot connect to proxy http://{address}: Connection refused");
            assert!(text.contains(&named), "{text}");
            assert!(text.contains("is the proxy running"), "{text}");
        }
    });
}

#[test]
fn a_name_that_cannot_be_looked_up_for_a_proxy_is_named() {
    run_test(async {
        let proxy = FakeProxy::start(Manner::Socks(None), nowhere()).await;
        let words = "cannot find the address of collector.test for proxy";
        let error = fails(&proxy, "socks5", "").await.to_string();
        assert!(error.contains(words), "{error}");
        assert!(error.contains("socks5h://"), "{error}");
    });
}

#[test]
fn an_encrypted_proxy_that_is_not_trusted_or_not_encrypted_is_told_apart_from_the_collector() {
    run_test(async {
        let certificates = Certificates::new();
        let identity = Some(certificates.server());
        let proxy = FakeProxy::start_with(Manner::Http(None), nowhere(), identity).await;
        says(&proxy, "https", "", "no TLS with proxy").await;
        says(
            &proxy,
            "https",
            "",
            "an unknown authority signed the proxy's certificate",
        )
        .await;
        let proxy = FakeProxy::start(Manner::Say(b"HTTP/1.1 400 No\r\n\r\n"), nowhere()).await;
        says(&proxy, "https", "", "use http:// in its URL").await;
    });
}

#[test]
fn what_is_wrong_with_the_collector_behind_a_proxy_is_told_as_without_one() {
    run_test(async {
        for wire in WIRES {
            let certificates = Certificates::new();
            let tls = ServerTls::new(certificates.server());
            let collector = Collector::over(wire).tls(tls).start();
            let proxy = FakeProxy::start(Manner::Http(None), collector.address()).await;
            let exporter = to(wire, "https", &collector)
                .tls(Tls::new().ca_pem(certificates.authority()))
                .proxy(proxy.url("http", ""))
                .build()
                .unwrap();
            let error = export(&exporter).await.unwrap_err();
            check(&error);
            let text = error.to_string();
            assert!(
                text.contains("the certificate is for another name"),
                "{text}"
            );
            assert!(text.contains(&proxy.url("http", "")), "{text}");
        }
    });
}
