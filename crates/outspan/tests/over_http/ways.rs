//! Other ways to a server than straight to its port: through a proxy, to a unix socket.

use outspan::zipkin::Tls;
use outspan_testkit::Certificates;
use outspan_testkit::Collector;
use outspan_testkit::ServerTls;
use outspan_testkit::batch_of;

use crate::fake::FakeProxy;
use crate::fake::Manner;
use crate::support::Options;
use crate::support::Wire;
use crate::support::export;
use crate::support::over_each;

/// A name that nobody can look up: only a proxy leads there.
const HOST: &str = "collector.test";

fn through(proxy: &FakeProxy, user: &str) -> Options {
    Options {
        proxy: Some(proxy.url("http", user)),
        ..Options::default()
    }
}

async fn delivers(wire: Wire, endpoint: &str, options: Options, collector: &Collector) {
    let exporter = wire.exporter_to(endpoint, options);
    let delivery = export(&exporter, &batch_of(2)).await.unwrap();
    assert_eq!(delivery.accepted, 2, "{wire:?}");
    assert_eq!(collector.requests().len(), 1, "{wire:?}");
    assert_eq!(collector.complaints(), Vec::<String>::new());
}

#[test]
fn a_proxy_forwards_plain_requests() {
    over_each(async |wire| {
        let collector = wire.collector();
        let manner = Manner::Http(Some("Basic bWU6cGFzcw=="));
        let proxy = FakeProxy::start(manner, collector.address()).await;
        let endpoint = format!("http://{HOST}:9000");
        delivers(wire, &endpoint, through(&proxy, "me:pass@"), &collector).await;
        let request = format!("POST http://{HOST}:9000{} HTTP/1.1", wire.path());
        assert_eq!(proxy.lines(), [request]);
    });
}

#[test]
fn a_proxy_tunnels_encrypted_ones() {
    over_each(async |wire| {
        let certificates = Certificates::new();
        let tls = ServerTls::new(certificates.server_for(&[HOST]));
        let collector = wire.set_up().tls(tls).start();
        let proxy = FakeProxy::start(Manner::Http(None), collector.address()).await;
        let options = Options {
            tls: Some(Tls::new().ca_pem(certificates.authority())),
            ..through(&proxy, "")
        };
        delivers(wire, &format!("https://{HOST}"), options, &collector).await;
        assert_eq!(proxy.lines(), [format!("CONNECT {HOST}:443 HTTP/1.1")]);
    });
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_an_endpoint() {
    over_each(async |wire| {
        let collector = wire.collector();
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("c.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let address = collector.address();
        let leading = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut to = tokio::net::TcpStream::connect(address).await.unwrap();
            // How the connection ends is for the exporter to tell.
            drop(tokio::io::copy_bidirectional(&mut stream, &mut to).await);
        });
        let encoded = socket.display().to_string().replace('/', "%2F");
        let endpoint = format!("http+unix://{encoded}");
        delivers(wire, &endpoint, Options::default(), &collector).await;
        leading.abort();
    });
}
