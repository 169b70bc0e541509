//! TLS and mutual TLS, seen by tonic's client.

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tonic::transport::Certificate;
use tonic::transport::Channel;
use tonic::transport::ClientTlsConfig;
use tonic::transport::Identity as TonicIdentity;

use crate::support::*;
use outspan_testkit::*;

fn grpc_with(tls: ServerTls) -> Collector {
    Collector::over(Transport::Grpc).tls(tls).start()
}

fn trusting(authority: String) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority))
}

fn shown(identity: &Identity) -> TonicIdentity {
    TonicIdentity::from_pem(&identity.certificate, &identity.key)
}

async fn export(collector: &Collector, tls: ClientTlsConfig) -> Result<(), String> {
    let exporting = async {
        let channel = Channel::from_shared(collector.endpoint())
            .map_err(|error| format!("{error:?}"))?
            .tls_config(tls)
            .map_err(|error| format!("{error:?}"))?
            .connect()
            .await
            .map_err(|error| format!("{error:?}"))?;
        let mut client = TraceServiceClient::new(channel);
        let exported = client.export(request_from(1, 1)).await;
        exported.map(drop).map_err(|error| format!("{error:?}"))
    };
    tokio::time::timeout(SOON, exporting)
        .await
        .expect("an answer or an error comes soon")
}

#[tokio::test]
async fn a_trusted_server_is_reached_by_address() {
    let certificates = Certificates::new();
    let collector = grpc_with(ServerTls::new(certificates.server()));
    assert!(collector.endpoint().starts_with("https://127.0.0.1:"));
    export(&collector, trusting(certificates.authority()))
        .await
        .unwrap();
    assert_eq!(collector.requests()[0].peer, None);
}

#[tokio::test]
async fn wrong_certificates_are_turned_away_by_clients() {
    let certificates = Certificates::new();
    for (identity, word) in [
        (certificates.expired_server(), "Expired"),
        (certificates.wrong_name_server(), "NotValidForName"),
        (certificates.untrusted_server(), "UnknownIssuer"),
    ] {
        let collector = grpc_with(ServerTls::new(identity));
        let error = export(&collector, trusting(certificates.authority()))
            .await
            .unwrap_err();
        assert!(error.contains(word), "{error}");
        assert_eq!(collector.requests().len(), 0);
    }
    let collector = grpc_with(ServerTls::new(certificates.untrusted_server()));
    export(&collector, trusting(certificates.other_authority()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_demanded_client_is_known_by_name_and_others_are_turned_away() {
    let certificates = Certificates::new();
    let tls = ServerTls::new(certificates.server()).demand_client(certificates.authority());
    let collector = grpc_with(tls);
    let trusting = || trusting(certificates.authority());

    let client = shown(&certificates.client("shop-17"));
    export(&collector, trusting().identity(client))
        .await
        .unwrap();
    assert_eq!(collector.requests()[0].peer.as_deref(), Some("shop-17"));

    for wrong in [
        certificates.untrusted_client("x"),
        certificates.expired_client("x"),
    ] {
        export(&collector, trusting().identity(shown(&wrong)))
            .await
            .unwrap_err();
    }
    export(&collector, trusting()).await.unwrap_err();
    assert_eq!(collector.requests().len(), 1);
    let complaints = collector.complaints().join("\n");
    for reason in ["UnknownIssuer", "expired", "no certificates"] {
        assert!(complaints.contains(reason), "{complaints}");
    }
}

#[tokio::test]
async fn a_client_that_is_only_asked_may_have_no_certificate() {
    let certificates = Certificates::new();
    let tls = ServerTls::new(certificates.server()).ask_client(certificates.authority());
    let collector = grpc_with(tls);
    export(&collector, trusting(certificates.authority()))
        .await
        .unwrap();
    let with_identity =
        trusting(certificates.authority()).identity(shown(&certificates.client("a")));
    export(&collector, with_identity).await.unwrap();
    let peers: Vec<_> = collector
        .requests()
        .into_iter()
        .map(|each| each.peer)
        .collect();
    assert_eq!(peers, [None, Some("a".to_owned())]);
}

#[tokio::test]
async fn a_rotated_identity_holds_for_new_connections() {
    let certificates = Certificates::new();
    let collector = grpc_with(ServerTls::new(certificates.server()));
    collector.rotate_tls(&ServerTls::new(certificates.untrusted_server()));
    export(&collector, trusting(certificates.authority()))
        .await
        .unwrap_err();
    export(&collector, trusting(certificates.other_authority()))
        .await
        .unwrap();
}

#[tokio::test]
async fn plaintext_against_tls_fails_and_is_complained_about() {
    let collector = grpc_with(ServerTls::new(Certificates::new().server()));
    let plain = collector.endpoint().replace("https", "http");
    let reached = async {
        let mut client = TraceServiceClient::connect(plain).await.map_err(drop)?;
        client.export(request_from(1, 1)).await.map_err(drop)
    };
    reached.await.unwrap_err();
    assert_eq!(collector.requests().len(), 0);
    assert!(collector.complaints()[0].contains("TLS handshake failed"));
}
