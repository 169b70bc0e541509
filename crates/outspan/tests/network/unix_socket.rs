//! Exporters to unix sockets.

#![cfg(all(unix, feature = "grpc", feature = "http"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use outspan::Delivery;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::env::Settings;
use outspan::otlp;
use outspan::otlp::Tls;
use outspan_testkit::Collector;
use outspan_testkit::Transport;
use outspan_testkit::batch_of;
use outspan_testkit::run_test;
use outspan_testkit::soon;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::net::UnixListener;

const WIRES: [Transport; 2] = [Transport::Grpc, Transport::Http];

/// Listens on a socket, and leads every connection to a collector, until the test ends.
pub(crate) fn listen(socket: impl AsRef<Path>, to: SocketAddr) {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut collector = TcpStream::connect(to).await.unwrap();
                // How a connection ends is for the exporter to tell.
                drop(copy_bidirectional(&mut stream, &mut collector).await);
            });
        }
    });
}

fn to(wire: Transport, endpoint: &str) -> otlp::Builder {
    match wire {
        Transport::Grpc => otlp::grpc(endpoint),
        Transport::Http => otlp::http(endpoint),
    }
}

async fn export(exporter: &Exporter) -> Result<Delivery, Error> {
    exporter.export(batch_of(1), soon()).await
}

#[test]
fn spans_arrive_over_a_socket_in_the_file_system() {
    run_test(async {
        for wire in WIRES {
            let collector = Collector::over(wire).start();
            let directory = TempDir::new().unwrap();
            let socket = directory.path().join("c.sock");
            listen(&socket, collector.address());
            let path = socket.display();
            for endpoint in [format!("unix://{path}"), format!("unix:{path}")] {
                let exporter = to(wire, &endpoint).build().unwrap();
                for _ in 0..2 {
                    let delivery = export(&exporter).await.unwrap();
                    let server = format!("unix:{path}");
                    assert_eq!(delivery.attempt.server.as_deref(), Some(server.as_str()));
                }
            }
            assert_eq!(collector.span_count(), 4);
            assert_eq!(collector.connections(), 2);
            if wire == Transport::Http {
                assert_eq!(collector.requests()[0].path, "/v1/traces");
                assert_eq!(collector.requests()[0].header("host"), Some("localhost"));
            }
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn spans_arrive_over_a_socket_without_a_file() {
    run_test(async {
        for wire in WIRES {
            let collector = Collector::over(wire).start();
            // The collector's port makes the name one of a kind.
            let name = format!("outspan-test-{}", collector.address().port());
            listen(format!("\0{name}"), collector.address());
            let exporter = to(wire, &format!("unix-abstract:{name}")).build().unwrap();
            export(&exporter).await.unwrap();
            assert_eq!(collector.span_count(), 1);
        }
    });
}

#[test]
fn a_path_may_stand_behind_the_socket_or_in_an_option() {
    run_test(async {
        let collector = Collector::over(Transport::Http).path("/my/path").start();
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("c d.sock");
        listen(&socket, collector.address());
        let encoded = socket.display().to_string().replace('/', "%2F");
        let encoded = encoded.replace(' ', "%20");
        for builder in [
            otlp::http(format!("http+unix://{encoded}/my/path")),
            otlp::http(format!("http+unix://{encoded}")).path("my/path"),
            otlp::http(format!("unix://{}", socket.display())).path("/my/path"),
        ] {
            export(&builder.build().unwrap()).await.unwrap();
        }
        assert_eq!(collector.span_count(), 3);
    });
}

#[test]
fn the_environment_s_endpoint_may_be_a_socket() {
    run_test(async {
        for (wire, protocol, variable) in [
            (Transport::Grpc, "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT"),
            (
                Transport::Http,
                "http/protobuf",
                "OTEL_EXPORTER_OTLP_ENDPOINT",
            ),
            (
                Transport::Http,
                "http/json",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            ),
        ] {
            let collector = Collector::over(wire).start();
            let directory = TempDir::new().unwrap();
            let socket = directory.path().join("c.sock");
            listen(&socket, collector.address());
            let settings = Settings::from_lookup(|name| match name {
                "OTEL_EXPORTER_OTLP_PROTOCOL" => Some(protocol.into()),
                _ if name == variable => {
                    Some(OsString::from(format!("unix://{}", socket.display())))
                }
                _ => None,
            });
            let exporter = settings.unwrap().otlp.exporter().unwrap();
            export(&exporter).await.unwrap();
            assert_eq!(collector.span_count(), 1);
        }
    });
}

#[test]
fn nobody_there_is_temporary_and_names_the_socket() {
    run_test(async {
        for wire in WIRES {
            let directory = TempDir::new().unwrap();
            let socket = directory.path().join("c.sock");
            let endpoint = format!("unix://{}", socket.display());
            let exporter = to(wire, &endpoint).build().unwrap();
            let fails = async || {
                let error = export(&exporter).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                assert!(error.is_temporary());
                assert!(
                    error
                        .to_string()
                        .contains(&format!("unix:{}", socket.display()))
                );
                error.to_string()
            };
            let text = fails().await;
            assert!(text.contains("No such file"), "{text}");
            assert!(
                text.contains("is the server running, and is this its socket?"),
                "{text}"
            );

            // What a server leaves behind that ended without cleaning up.
            drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
            let text = fails().await;
            assert!(text.contains("refused"), "{text}");

            std::fs::remove_file(&socket).unwrap();
            let collector = Collector::over(wire).start();
            listen(&socket, collector.address());
            export(&exporter).await.unwrap();
            assert_eq!(collector.span_count(), 1);
        }
    });
}

#[test]
fn a_server_that_speaks_something_else_is_told_in_words() {
    run_test(async {
        let collector = Collector::http();
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("c.sock");
        listen(&socket, collector.address());
        let exporter = otlp::http(format!("unix://{}", socket.display()));
        export(&exporter.path("/elsewhere").build().unwrap())
            .await
            .unwrap_err();
        let grpc = Collector::grpc();
        let other = directory.path().join("grpc.sock");
        listen(&other, grpc.address());
        let exporter = otlp::http(format!("unix://{}", other.display()));
        let error = export(&exporter.build().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("HTTP/2 as gRPC does"), "{error}");
    });
}

#[test]
fn what_makes_no_sense_for_a_socket_is_a_mistake() {
    let said = |builder: otlp::Builder| {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    for wire in WIRES {
        let socket = || to(wire, "unix:///run/c.sock");
        let text = said(socket().tls(Tls::new().bundled_roots()));
        assert!(text.contains("unix sockets are not encrypted"), "{text}");
        let text = said(socket().proxy("http://p:3128"));
        assert!(text.contains("no proxy leads to the unix socket"), "{text}");
        let text = said(to(wire, "unix://run/c.sock"));
        assert!(text.contains("write unix:///path"), "{text}");
        let exporter = format!("{:?}", socket().build().unwrap());
        assert!(exporter.contains("unix:/run/c.sock"), "{exporter}");
    }
}
