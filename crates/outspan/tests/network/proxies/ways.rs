//! The ways through a proxy that works.

use http::Version;
use outspan::otlp::Tls;
use outspan_testkit::Certificates;
use outspan_testkit::Collector;
use outspan_testkit::ServerTls;
use outspan_testkit::Transport;
use outspan_testkit::run_test;

use crate::proxies::HOST;
use crate::proxies::WIRES;
use crate::proxies::export;
use crate::proxies::fake::FakeProxy;
use crate::proxies::fake::Manner;
use crate::proxies::to;
use crate::proxies::to_host;

/// `me:p@ss`, as it stands in a URL and in a header (RFC 7617).
const USER: &str = "me:p%40ss@";
const BASIC: &str = "Basic bWU6cEBzcw==";

fn encrypted(wire: Transport, certificates: &Certificates) -> Collector {
    let identity = certificates.server_for(&[HOST]);
    Collector::over(wire).tls(ServerTls::new(identity)).start()
}

#[test]
fn encrypted_connections_go_through_a_tunnel_that_sees_nothing_of_them() {
    run_test(async {
        for wire in WIRES {
            let certificates = Certificates::new();
            let collector = encrypted(wire, &certificates);
            let proxy = FakeProxy::start(Manner::Http(None), collector.address()).await;
            let exporter = to(wire, "https", &collector)
                .tls(Tls::new().ca_pem(certificates.authority()))
                .header("authorization", "hunter2")
                .proxy(proxy.url("http", ""))
                .build()
                .unwrap();
            for _ in 0..2 {
                let delivery = export(&exporter).await.unwrap();
                let server = format!("{HOST}:{}", collector.address().port());
                assert_eq!(delivery.attempt.server.as_deref(), Some(server.as_str()));
            }
            let target = format!("{HOST}:{}", collector.address().port());
            assert_eq!(
                proxy.asked(),
                [format!(
                    "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
                )]
            );
            for request in collector.requests() {
                assert_eq!(request.version, Version::HTTP_2);
                assert!(request.headers.get("proxy-authorization").is_none());
            }
            assert_eq!(collector.span_count(), 2);
        }
    });
}

#[test]
fn plain_grpc_goes_through_a_tunnel() {
    run_test(async {
        for manner in [Manner::Http(None), Manner::Eager] {
            let collector = Collector::grpc();
            let proxy = FakeProxy::start(manner, collector.address()).await;
            let exporter = to(Transport::Grpc, "http", &collector)
                .proxy(proxy.url("http", ""))
                .build()
                .unwrap();
            export(&exporter).await.unwrap();
            assert_eq!(collector.span_count(), 1);
            assert!(proxy.lines()[0].starts_with(&format!("CONNECT {HOST}:")));
        }
    });
}

#[test]
fn plain_requests_over_http_are_forwarded() {
    run_test(async {
        let collector = Collector::http();
        let proxy = FakeProxy::start(Manner::Http(None), collector.address()).await;
        let exporter = to(Transport::Http, "http", &collector)
            .proxy(proxy.url("http", ""))
            .build()
            .unwrap();
        for _ in 0..2 {
            export(&exporter).await.unwrap();
        }
        let port = collector.address().port();
        assert_eq!(
            proxy.lines(),
            [format!("POST http://{HOST}:{port}/v1/traces HTTP/1.1")]
        );
        assert_eq!(collector.span_count(), 2);
    });
}

#[test]
fn credentials_go_to_the_proxy_and_nowhere_else() {
    run_test(async {
        for (wire, scheme) in [
            (Transport::Grpc, "http"),
            (Transport::Grpc, "https"),
            (Transport::Http, "https"),
            (Transport::Http, "http"),
        ] {
            let certificates = Certificates::new();
            let (collector, tls) = match scheme {
                "https" => (
                    encrypted(wire, &certificates),
                    Tls::new().ca_pem(certificates.authority()),
                ),
                _ => (Collector::over(wire).start(), Tls::new()),
            };
            let proxy = FakeProxy::start(Manner::Http(Some(BASIC)), collector.address()).await;
            let builder = to(wire, scheme, &collector)
                .tls(tls)
                .proxy(proxy.url("http", USER));
            assert!(!format!("{builder:?}").contains("ss@"), "{builder:?}");
            let exporter = builder.build().unwrap();
            export(&exporter).await.unwrap();
            assert_eq!(proxy.lines().len(), 1);
            assert_eq!(collector.span_count(), 1);
            let shown = format!("{exporter:?}");
            assert!(shown.contains(&proxy.url("http", "")), "{shown}");
            assert!(
                !shown.contains("p%40ss") && !shown.contains("bWU6"),
                "{shown}"
            );
        }
    });
}

#[test]
fn a_proxy_may_be_encrypted_itself() {
    run_test(async {
        for (wire, scheme) in [
            (Transport::Grpc, "http"),
            (Transport::Grpc, "https"),
            (Transport::Http, "https"),
            (Transport::Http, "http"),
        ] {
            let certificates = Certificates::new();
            let collector = match scheme {
                "https" => encrypted(wire, &certificates),
                _ => Collector::over(wire).start(),
            };
            let proxy = FakeProxy::start_with(
                Manner::Http(Some(BASIC)),
                collector.address(),
                Some(certificates.server()),
            )
            .await;
            let trusting = Tls::new().ca_pem(certificates.authority());
            let builder = to(wire, scheme, &collector).proxy(proxy.url("https", USER));
            // Whom the exporter trusts, it trusts as a proxy as well.
            let builder = match scheme {
                "https" => builder.tls(trusting),
                _ => builder.proxy_tls(trusting),
            };
            export(&builder.build().unwrap()).await.unwrap();
            assert_eq!(collector.span_count(), 1);
            assert_eq!(proxy.lines().len(), 1);
        }
    });
}

#[test]
fn socks_looks_names_up_here_or_there() {
    run_test(async {
        for wire in WIRES {
            let collector = Collector::over(wire).start();
            let port = collector.address().port();
            let proxy = FakeProxy::start(Manner::Socks(None), collector.address()).await;
            for (scheme, host, asked) in [
                ("socks5h", HOST, HOST),
                ("socks5h", "localhost", "localhost"),
                ("socks5", "localhost", "127.0.0.1"),
                ("socks5", "127.0.0.1", "127.0.0.1"),
            ] {
                let exporter = to_host(wire, "http", host, &collector)
                    .proxy(proxy.url(scheme, ""))
                    .build()
                    .unwrap();
                export(&exporter).await.unwrap();
                assert_eq!(proxy.asked().last().unwrap(), &format!("{asked}:{port}"));
            }
            assert_eq!(collector.span_count(), 4);
        }
    });
}

#[test]
fn socks_takes_user_and_password_and_encrypted_connections() {
    run_test(async {
        for wire in WIRES {
            let certificates = Certificates::new();
            let collector = encrypted(wire, &certificates);
            let manner = Manner::Socks(Some(("me", "p@ss")));
            let proxy = FakeProxy::start(manner, collector.address()).await;
            let exporter = to(wire, "https", &collector)
                .tls(Tls::new().ca_pem(certificates.authority()))
                .proxy(proxy.url("socks5h", USER))
                .build()
                .unwrap();
            export(&exporter).await.unwrap();
            assert_eq!(collector.span_count(), 1);
            assert!(!format!("{exporter:?}").contains("ss@"), "{exporter:?}");
        }
    });
}
