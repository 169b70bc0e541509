//! How connections begin, stay, are noticed to be dead, and end.

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use outspan::Deadline;
use outspan::ErrorKind;
use outspan::Export;
use outspan::otlp;
use outspan_testkit::OnConnect;
use outspan_testkit::batch_of;
use outspan_testkit::run_test;

use crate::support::SOON;
use crate::support::Wire;
use crate::support::export;

over_each_wire![
    a_server_that_was_killed_is_dialled_again,
    a_connection_closed_by_the_server_is_replaced,
    a_server_may_end_connections_in_order,
    an_unused_connection_is_closed,
    a_dropped_exporter_closes_its_connection,
];

async fn a_server_that_was_killed_is_dialled_again(wire: Wire) {
    let collector = wire.collector();
    let exporter = wire.exporter(&collector);
    for round in 1..=5 {
        export(&exporter, &batch_of(1)).await.unwrap();
        collector.stop();
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert!(error.is_temporary(), "{error}");
        collector.restart();
        // The first one after may still meet the dead connection.
        if export(&exporter, &batch_of(1)).await.is_err() {
            export(&exporter, &batch_of(1)).await.unwrap();
        }
        assert_eq!(collector.span_count(), 2 * round);
    }
}

async fn a_connection_closed_by_the_server_is_replaced(wire: Wire) {
    let collector = wire.collector();
    let exporter = wire.exporter(&collector);
    export(&exporter, &batch_of(1)).await.unwrap();
    collector.disconnect_all();
    let mut failures = 0;
    while let Err(error) = export(&exporter, &batch_of(1)).await {
        assert!(error.is_temporary(), "{error}");
        failures += 1;
        assert!(failures < 10, "{error}");
    }
    assert_eq!(collector.connections(), 2);
}

/// Without an export under way, an end in order costs no export: GOAWAY is a message. HTTP/1 has none, so there the
/// next request may meet the end of the connection, which is temporary.
async fn a_server_may_end_connections_in_order(wire: Wire) {
    let collector = wire.collector();
    let exporter = wire.exporter(&collector);
    for _ in 0..5 {
        if let Err(error) = export(&exporter, &batch_of(1)).await {
            assert!(error.is_temporary() && !wire.is_grpc(), "{error}");
            export(&exporter, &batch_of(1)).await.unwrap();
        }
        collector.go_away();
        collector.wait_for_open_connections(0, SOON).await;
    }
    assert_eq!(collector.connections(), 5);
    assert_eq!(collector.span_count(), 5);
}

async fn an_unused_connection_is_closed(wire: Wire) {
    let collector = wire.collector();
    let exporter = wire
        .to_collector(&collector)
        .idle_timeout(Duration::from_millis(50));
    let exporter = exporter.build().unwrap();
    export(&exporter, &batch_of(1)).await.unwrap();
    collector.wait_for_open_connections(0, SOON).await;
    export(&exporter, &batch_of(1)).await.unwrap();
    assert_eq!(collector.connections(), 2);
}

async fn a_dropped_exporter_closes_its_connection(wire: Wire) {
    let collector = wire.collector();
    let exporter = wire.exporter(&collector);
    let clone = exporter.clone();
    export(&exporter, &batch_of(1)).await.unwrap();
    drop(exporter);
    export(&clone, &batch_of(1)).await.unwrap();
    drop(clone);
    collector.wait_for_open_connections(0, SOON).await;
    assert_eq!(collector.connections(), 1);
}

/// Without pings the deadline would be what ends the wait.
#[test]
fn a_grpc_server_that_went_silent_is_noticed_by_pings() {
    run_test(async {
        let collector = Wire::Grpc.collector();
        collector.on_connect(OnConnect::Silence);
        let exporter = Wire::Grpc
            .to_collector(&collector)
            .keep_alive(Duration::from_millis(50), Duration::from_millis(50))
            .build()
            .unwrap();
        let began = Instant::now();
        let error = exporter
            .export(batch_of(1), Deadline::after(Duration::from_secs(30)))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(began.elapsed() < Duration::from_secs(15));
        collector.on_connect(OnConnect::Serve);
        export(&exporter, &batch_of(1)).await.unwrap();
    });
}

/// A backlog that is full: the kernel answers nothing to whoever connects.
#[test]
fn connecting_has_a_limit_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (full, filled) = mpsc::channel();
    // Nobody accepts, so after some connections the backlog is full and the next one hangs.
    let filling = std::thread::spawn(move || {
        let mut taken = Vec::new();
        let brief = Duration::from_millis(200);
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, brief) {
            taken.push(stream);
            assert!(taken.len() < 10_000, "the backlog has no end");
        }
        full.send(taken).unwrap();
    });
    let taken = filled.recv_timeout(Duration::from_secs(30)).unwrap();
    filling.join().unwrap();
    for wire in [Wire::Grpc, Wire::HttpProtobuf] {
        run_test(async {
            let exporter = wire
                .to(&format!("http://{address}"))
                .connect_timeout(Duration::from_millis(100))
                .build()
                .unwrap();
            let error = export(&exporter, &batch_of(1)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            let text = error.to_string();
            assert!(
                text.contains("no connection within the connect timeout of 100ms"),
                "{text}"
            );
        });
    }
    drop(taken);
}

#[test]
fn a_tls_handshake_has_the_connect_timeout_too() {
    for wire in [Wire::Grpc, Wire::HttpProtobuf] {
        run_test(async {
            let collector = wire.collector();
            collector.on_connect(OnConnect::Silence);
            let endpoint = collector.endpoint().replace("http://", "https://");
            let exporter = wire
                .to(&endpoint)
                .tls(otlp::Tls::new().bundled_roots())
                .connect_timeout(Duration::from_millis(100))
                .build()
                .unwrap();
            let error = export(&exporter, &batch_of(1)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            let text = error.to_string();
            assert!(
                text.contains("no TLS handshake within the connect timeout of 100ms"),
                "{text}"
            );
        });
    }
}

/// An HTTP endpoint that is a gRPC server, and the other way round: the errors say what to change.
#[test]
fn the_wrong_protocol_is_named() {
    run_test(async {
        let grpc = Wire::Grpc.collector();
        for wire in [Wire::HttpProtobuf, Wire::HttpJson] {
            let error = export(&wire.to_collector(&grpc).build().unwrap(), &batch_of(1)).await;
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            let text = error.to_string();
            assert!(text.contains("speaks HTTP/2 as gRPC does"), "{text}");
            assert!(text.contains("4318"), "{text}");
        }
        // An HTTP/1 server that does not know HTTP/2 at all.
        let old = Wire::HttpProtobuf.collector();
        old.on_connect(OnConnect::Say(
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec(),
        ));
        let exporter = Wire::Grpc.to_collector(&old).build().unwrap();
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("answers HTTP/1, not gRPC"), "{text}");
        assert!(text.contains("4317"), "{text}");
        // An HTTP server that does know HTTP/2, at whose address there is no gRPC method.
        let http = Wire::HttpProtobuf.collector();
        let exporter = Wire::Grpc.to_collector(&http).build().unwrap();
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert!(!error.is_temporary());
        assert!(error.to_string().contains("4317"), "{error}");
    });
}
