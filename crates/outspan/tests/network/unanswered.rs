//! Peers that acknowledge everything and answer nothing, that flood, that fall silent, and that close connections: new
//! requests get away from them, over each transport.

#![cfg(all(unix, feature = "grpc", feature = "http", feature = "zipkin"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::join_all;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Error;
use outspan::Export;
use outspan::Exporter;
use outspan::otlp;
use outspan::otlp::Tls;
use outspan::zipkin;
use outspan_testkit::Answer;
use outspan_testkit::Certificates;
use outspan_testkit::Collector;
use outspan_testkit::CollectorBuilder;
use outspan_testkit::Disconnect;
use outspan_testkit::Flood;
use outspan_testkit::Gate;
use outspan_testkit::OnConnect;
use outspan_testkit::Relay;
use outspan_testkit::ServerTls;
use outspan_testkit::SpanId;
use outspan_testkit::Transport;
use outspan_testkit::batch_of;
use outspan_testkit::run_test;
use outspan_testkit::soon;
use outspan_testkit::span_ids;
use tempfile::TempDir;

use crate::unix_socket::listen;

/// How long what is sure to come may take.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// How soon spans are delivered again when the peer is healthy again.
pub(crate) const RECOVERY: Duration = Duration::from_secs(5);

/// An attempt that is given up before a quiet connection is one that does not answer.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

/// An attempt that waits for longer than that.
pub(crate) const LONG: Duration = Duration::from_millis(2200);

/// Names the transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Grpc,
    GrpcOverTls,
    GrpcOverSocket,
    Http1,
    Http1OverSocket,
    Http2OverTls,
    Zipkin,
}

impl Way {
    pub(crate) const ALL: [Self; 7] = [
        Self::Grpc,
        Self::GrpcOverTls,
        Self::GrpcOverSocket,
        Self::Http1,
        Self::Http1OverSocket,
        Self::Http2OverTls,
        Self::Zipkin,
    ];

    /// Those over which requests share a connection.
    const HTTP2: [Self; 4] = [
        Self::Grpc,
        Self::GrpcOverTls,
        Self::GrpcOverSocket,
        Self::Http2OverTls,
    ];

    fn is_secure(self) -> bool {
        matches!(self, Self::GrpcOverTls | Self::Http2OverTls)
    }

    fn collector(self) -> CollectorBuilder {
        match self {
            Self::Grpc | Self::GrpcOverTls | Self::GrpcOverSocket => {
                Collector::over(Transport::Grpc)
            }
            Self::Http1 | Self::Http1OverSocket | Self::Http2OverTls => {
                Collector::over(Transport::Http)
            }
            Self::Zipkin => Collector::over(Transport::Http)
                .path("/api/v2/spans")
                .reads(|_, body| ids_of_zipkin(body)),
        }
    }
}

fn ids_of_zipkin(body: &[u8]) -> Result<Vec<SpanId>, String> {
    let spans: Vec<serde_json::Value> =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let ids = spans.iter().map(|span| {
        let text = span["id"].as_str().ok_or("a span has no id")?;
        let id = u64::from_str_radix(text, 16).map_err(|error| error.to_string())?;
        Ok(SpanId::new(&id.to_be_bytes()))
    });
    ids.collect()
}

/// A server, and the way to it.
pub(crate) struct Peer {
    way: Way,
    pub(crate) collector: Collector,
    certificates: Certificates,
    directory: TempDir,
    /// The number of the first connection over which requests are answered.
    answers_from: Arc<AtomicU64>,
}

impl Peer {
    /// Starts a server that answers over the connections from [`Self::answers_from`] on, and reads what comes over others.
    /// It acknowledges everything that TCP and HTTP/2 want acknowledged.
    pub(crate) fn start(way: Way) -> Self {
        let certificates = Certificates::new();
        let collector = match way.is_secure() {
            true => way.collector().tls(ServerTls::new(certificates.server())),
            false => way.collector(),
        };
        let collector = collector.start();
        let answers_from = Arc::new(AtomicU64::new(0));
        let from = Arc::clone(&answers_from);
        collector.always(Answer::decide(move |request| {
            match request.connection >= from.load(Ordering::Relaxed) {
                true => Answer::Accept,
                false => Answer::Stall,
            }
        }));
        let directory = TempDir::new().unwrap();
        listen(directory.path().join("c.sock"), collector.address());
        Self {
            way,
            collector,
            certificates,
            directory,
            answers_from,
        }
    }

    fn endpoint(&self) -> String {
        match self.way {
            Way::GrpcOverSocket | Way::Http1OverSocket => {
                format!("unix://{}", self.directory.path().join("c.sock").display())
            }
            _ => self.collector.endpoint(),
        }
    }

    /// An exporter with the defaults.
    pub(crate) fn exporter(&self) -> Exporter {
        match self.otlp(&self.endpoint()) {
            Some(builder) => builder.build().unwrap(),
            None => zipkin::http(self.endpoint()).build().unwrap(),
        }
    }

    /// Starts an OTLP exporter, if the server reads OTLP.
    fn otlp(&self, endpoint: &str) -> Option<otlp::Builder> {
        let builder = match self.way {
            Way::Grpc | Way::GrpcOverTls | Way::GrpcOverSocket => otlp::grpc(endpoint),
            Way::Http1 | Way::Http1OverSocket | Way::Http2OverTls => otlp::http(endpoint),
            Way::Zipkin => return None,
        };
        Some(match self.way.is_secure() {
            true => builder.tls(Tls::new().ca_pem(self.certificates.authority())),
            false => builder,
        })
    }

    pub(crate) fn hang(&self) {
        self.answers_from.store(u64::MAX, Ordering::Relaxed);
    }

    /// Answers over connections that are opened from now on.
    pub(crate) fn recover_for_new_connections(&self) {
        let from = self.collector.connections();
        self.answers_from.store(from, Ordering::Relaxed);
    }

    /// Panics unless exactly the spans of these batches were kept, each once.
    #[track_caller]
    pub(crate) fn assert_kept(&self, batches: &[Batch]) {
        let sent: HashSet<_> = batches.iter().flat_map(span_ids).collect();
        let kept = self.collector.span_ids();
        assert_eq!(kept.len(), sent.len(), "{:?}", self.way);
        assert!(
            kept.into_iter().collect::<HashSet<_>>() == sent,
            "{:?}",
            self.way
        );
    }
}

pub(crate) async fn export(exporter: &Exporter, batch: &Batch) -> Result<Delivery, Error> {
    exporter.export(batch.clone(), soon()).await
}

/// Makes an attempt that is not answered.
async fn fail_after(time: Duration, exporter: &Exporter, batch: &Batch) {
    let result = exporter.export(batch.clone(), Deadline::after(time)).await;
    let error = result.unwrap_err();
    assert!(error.is_temporary(), "{error}");
}

/// Runs a test over several transports at the same time.
pub(crate) fn over<F: Future<Output = ()>>(
    ways: impl IntoIterator<Item = Way>,
    test: impl Fn(Way) -> F,
) {
    let tests: Vec<_> = ways.into_iter().map(test).collect();
    run_test(async {
        join_all(tests).await;
    });
}

#[test]
fn three_attempts_in_a_row_without_an_answer_replace_the_connection() {
    over(Way::ALL, |way| async move {
        let peer = Peer::start(way);
        let exporter = peer.exporter();
        let batches = [batch_of(2), batch_of(3)];
        export(&exporter, &batches[0]).await.unwrap();
        peer.hang();
        for _ in 0..3 {
            fail_after(SHORT, &exporter, &batches[1]).await;
        }
        peer.recover_for_new_connections();
        let began = Instant::now();
        export(&exporter, &batches[1]).await.unwrap();
        assert!(began.elapsed() < RECOVERY, "{way:?}");
        peer.assert_kept(&batches);
        let open = peer.collector.wait_for_open_connections(1, SOON);
        open.await;
    });
}

#[test]
fn one_long_attempt_without_an_answer_replaces_the_connection() {
    over(Way::ALL, |way| async move {
        let peer = Peer::start(way);
        let exporter = peer.exporter();
        let batches = [batch_of(2), batch_of(3)];
        export(&exporter, &batches[0]).await.unwrap();
        peer.hang();
        fail_after(LONG, &exporter, &batches[1]).await;
        peer.recover_for_new_connections();
        let began = Instant::now();
        export(&exporter, &batches[1]).await.unwrap();
        assert!(began.elapsed() < RECOVERY, "{way:?}");
        peer.assert_kept(&batches);
        assert_eq!(peer.collector.connections(), 2, "{way:?}");
    });
}

#[test]
fn a_connection_that_never_answered_is_replaced() {
    over(Way::ALL, |way| async move {
        let peer = Peer::start(way);
        peer.hang();
        let exporter = peer.exporter();
        let batch = batch_of(1);
        fail_after(LONG, &exporter, &batch).await;
        peer.recover_for_new_connections();
        let began = Instant::now();
        export(&exporter, &batch).await.unwrap();
        assert!(began.elapsed() < RECOVERY, "{way:?}");
        peer.assert_kept(&[batch]);
    });
}

/// New connections hang as well at first, so an attempt is under way when they begin to work.
#[test]
fn an_attempt_under_way_when_the_peer_recovers_succeeds() {
    over(Way::ALL, |way| async move {
        let peer = Peer::start(way);
        peer.hang();
        let exporter = peer.exporter();
        let batch = batch_of(4);
        fail_after(LONG, &exporter, &batch).await;
        let before = peer.collector.requests().len();
        let recovered = async {
            peer.collector.wait_for_requests(before + 1, SOON).await;
            peer.recover_for_new_connections();
            Instant::now()
        };
        let exported = async {
            let delivery = export(&exporter, &batch).await.unwrap();
            (delivery, Instant::now())
        };
        let (recovered, (delivery, exported)) = futures_util::join!(recovered, exported);
        let took = exported - recovered;
        assert!(took < RECOVERY, "{way:?}: {took:?}");
        assert_eq!(delivery.accepted, 4, "{way:?}");
        // The request that is sent again counts as an attempt.
        assert!(delivery.attempt.attempts >= 2, "{way:?}");
        peer.assert_kept(&[batch]);
        peer.collector.wait_for_open_connections(1, SOON).await;
    });
}

#[test]
fn a_slow_answer_is_waited_for_and_not_asked_for_twice() {
    over(Way::ALL, |way| async move {
        let peer = Peer::start(way);
        let exporter = peer.exporter();
        let gate = Gate::new();
        let slow = Answer::stall_until(&gate, Answer::Accept);
        peer.collector.script([slow]);
        let batches = [batch_of(2)];
        let mut exporting = std::pin::pin!(export(&exporter, &batches[0]));
        let early = tokio::time::timeout(Duration::from_secs(5), &mut exporting).await;
        assert!(early.is_err(), "{way:?}: {early:?}");
        gate.open();
        let delivery = exporting.await.unwrap();
        assert_eq!(delivery.attempt.attempts, 1, "{way:?}");
        assert_eq!(peer.collector.requests().len(), 1, "{way:?}");
        peer.assert_kept(&batches);
    });
}

#[test]
fn new_requests_avoid_a_connection_that_owes_an_answer() {
    over(Way::HTTP2, |way| async move {
        let peer = Peer::start(way);
        let exporter = peer.exporter();
        let gate = Gate::new();
        let slow = Answer::stall_until(&gate, Answer::Accept);
        peer.collector.script([slow]);
        let batches = [batch_of(1), batch_of(2), batch_of(3)];
        let mut exporting = std::pin::pin!(export(&exporter, &batches[0]));
        let early = tokio::time::timeout(LONG, &mut exporting).await;
        assert!(early.is_err(), "{way:?}: {early:?}");
        for batch in &batches[1..] {
            export(&exporter, batch).await.unwrap();
        }
        assert_eq!(peer.collector.connections(), 2, "{way:?}");
        // What it owes may still come; then it closes.
        gate.open();
        exporting.await.unwrap();
        peer.collector.wait_for_open_connections(1, SOON).await;
        let requests = peer.collector.requests();
        let connections: Vec<_> = requests.iter().map(|request| request.connection).collect();
        assert_eq!(connections, [0, 1, 1], "{way:?}");
        peer.assert_kept(&batches);
    });
}

/// Connections that are not used any more do not wait for a server that never ends its side.
#[test]
fn connections_to_a_server_that_hangs_are_closed() {
    over(Way::HTTP2, |way| async move {
        let peer = Peer::start(way);
        peer.hang();
        let exporter = peer.exporter();
        let batch = batch_of(1);
        for _ in 0..3 {
            let attempts = (0..16).map(|_| fail_after(LONG, &exporter, &batch));
            join_all(attempts).await;
            peer.collector.wait_for_open_connections(0, SOON).await;
        }
        peer.recover_for_new_connections();
        export(&exporter, &batch).await.unwrap();
        peer.collector.wait_for_open_connections(1, SOON).await;
    });
}

#[test]
fn a_flood_ends_with_its_connection() {
    let floods = [
        (Way::Grpc, Flood::Ping, false),
        (Way::Grpc, Flood::Ping, true),
        (Way::Grpc, Flood::Settings, false),
        (Way::Grpc, Flood::Settings, true),
        (Way::Grpc, Flood::WindowUpdate, false),
        (Way::GrpcOverTls, Flood::Ping, false),
        (Way::GrpcOverSocket, Flood::Settings, true),
        (Way::Http2OverTls, Flood::Settings, false),
        (Way::Http1, Flood::Continue, false),
        (Way::Zipkin, Flood::Continue, true),
    ];
    run_test(async {
        // One after the other: each takes all of the library's thread that it gets.
        for (way, with, reads) in floods {
            let peer = Peer::start(way);
            let exporter = peer.exporter();
            let batch = batch_of(2);
            peer.collector.on_connect(OnConnect::Flood { with, reads });
            while peer.collector.connections() < 2 {
                fail_after(SHORT, &exporter, &batch).await;
            }
            peer.collector.on_connect(OnConnect::Serve);
            let began = Instant::now();
            // It is still to be found out that the second connection is flooded as well.
            while exporter
                .export(batch.clone(), Deadline::after(SHORT))
                .await
                .is_err()
            {
                let took = began.elapsed();
                assert!(took < RECOVERY, "{way:?} {with:?} {reads}: {took:?}");
            }
            peer.collector.wait_for_open_connections(1, SOON).await;
        }
    });
}

#[test]
fn a_flood_keeps_no_other_destination_waiting() {
    run_test(async {
        let (flooding, healthy) = (Peer::start(Way::Grpc), Peer::start(Way::Grpc));
        let with = Flood::Ping;
        for reads in [false, true] {
            let on_connect = OnConnect::Flood { with, reads };
            flooding.collector.on_connect(on_connect);
            let (flooded, exporter) = (flooding.exporter(), healthy.exporter());
            let batch = batch_of(1);
            let mut hung = std::pin::pin!(fail_after(LONG, &flooded, &batch));
            let mut exports = 0;
            while futures_util::poll!(hung.as_mut()).is_pending() {
                let began = Instant::now();
                export(&exporter, &batch_of(1)).await.unwrap();
                assert!(began.elapsed() < LONG, "{reads}");
                exports += 1;
            }
            // One takes a millisecond; how many fit into the attempt is for the machine to say.
            assert!(exports >= 3, "{reads}: {exports} exports");
        }
    });
}

#[test]
fn a_connection_closed_between_requests_costs_no_attempt() {
    over(Way::ALL, |way| async move {
        let peer = Peer::start(way);
        let exporter = peer.exporter();
        let batches: Vec<_> = (0..20).map(|_| batch_of(1)).collect();
        for batch in &batches {
            // No error: nobody is to blame.
            export(&exporter, batch).await.unwrap();
            peer.collector.disconnect_all();
        }
        peer.assert_kept(&batches);
    });
}

#[test]
fn a_connection_ended_in_order_costs_no_attempt() {
    over(Way::ALL, |way| async move {
        let peer = Peer::start(way);
        let exporter = peer.exporter();
        let batches: Vec<_> = (0..20).map(|_| batch_of(1)).collect();
        for batch in &batches {
            export(&exporter, batch).await.unwrap();
            peer.collector.go_away();
        }
        peer.assert_kept(&batches);
    });
}

#[test]
fn a_connection_closed_during_a_request_costs_no_attempt() {
    over(Way::ALL, |way| async move {
        for disconnect in [Disconnect::BeforeReading, Disconnect::AfterReading] {
            let peer = Peer::start(way);
            let exporter = peer.exporter();
            let batches = [batch_of(1), batch_of(2), batch_of(3)];
            export(&exporter, &batches[0]).await.unwrap();
            let closes = Answer::Disconnect(disconnect);
            peer.collector.script([closes.clone()]);
            export(&exporter, &batches[1]).await.unwrap();
            // A server that closes every connection is at fault, and that is said.
            peer.collector.script([closes.clone(), closes]);
            let error = export(&exporter, &batches[2]).await.unwrap_err();
            assert!(error.is_temporary(), "{way:?} {disconnect:?}: {error}");
            export(&exporter, &batches[2]).await.unwrap();
            peer.assert_kept(&batches);
        }
    });
}

#[test]
fn a_connection_closed_in_the_middle_of_an_answer_is_replaced() {
    let ways = Way::ALL.into_iter().filter(|way| *way != Way::Zipkin);
    over(ways, |way| async move {
        let peer = Peer::start(way);
        let exporter = peer.exporter();
        let batches = [batch_of(1), batch_of(2), batch_of(3)];
        export(&exporter, &batches[0]).await.unwrap();
        let closes = Answer::Disconnect(Disconnect::MidAnswer);
        peer.collector.script([closes]);
        // The server has taken them, and an attempt cannot know.
        let error = export(&exporter, &batches[1]).await.unwrap_err();
        assert!(error.is_temporary(), "{way:?}: {error}");
        export(&exporter, &batches[2]).await.unwrap();
        peer.assert_kept(&batches);
    });
}

/// A proxy that lost its backend, or a machine that is gone: no end of the connection comes, and no answer to a PING.
#[test]
fn a_connection_that_died_silently_is_noticed_by_keep_alive() {
    let ways = [Way::Grpc, Way::GrpcOverTls, Way::Http2OverTls];
    over(ways, |way| async move {
        let peer = Peer::start(way);
        let relay = Relay::start(peer.collector.address()).await;
        let scheme = if way.is_secure() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", relay.address());
        let brief = Duration::from_millis(500);
        let builder = peer.otlp(&endpoint).unwrap().keep_alive(brief, brief);
        let exporter = builder.build().unwrap();
        let batches = [batch_of(1), batch_of(2)];
        export(&exporter, &batches[0]).await.unwrap();
        relay.silence();
        relay.recover();
        let began = Instant::now();
        let delivery = export(&exporter, &batches[1]).await.unwrap();
        assert!(began.elapsed() < RECOVERY, "{way:?}");
        assert_eq!(delivery.accepted, 2);
        peer.assert_kept(&batches);
        assert_eq!(relay.connections(), 2, "{way:?}");
    });
}

#[test]
fn a_connection_that_died_silently_is_noticed_by_its_attempts() {
    let ways = [Way::Grpc, Way::GrpcOverTls, Way::Http1, Way::Http2OverTls];
    over(ways, |way| async move {
        let peer = Peer::start(way);
        let relay = Relay::start(peer.collector.address()).await;
        let scheme = if way.is_secure() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", relay.address());
        let exporter = peer.otlp(&endpoint).unwrap().build().unwrap();
        let batches = [batch_of(1), batch_of(2)];
        export(&exporter, &batches[0]).await.unwrap();
        relay.silence();
        relay.recover();
        fail_after(LONG, &exporter, &batches[1]).await;
        export(&exporter, &batches[1]).await.unwrap();
        peer.assert_kept(&batches);
        assert_eq!(relay.connections(), 2, "{way:?}");
    });
}

/// A server whose process is stopped: the system accepts connections, and nobody begins a TLS handshake. One that is
/// dialled later is answered.
#[test]
fn a_handshake_that_hangs_is_tried_again_beside_it() {
    over([Way::GrpcOverTls, Way::Http2OverTls], |way| async move {
        let peer = Peer::start(way);
        let exporter = peer.exporter();
        let batch = batch_of(3);
        peer.collector.on_connect(OnConnect::Silence);
        let recovered = async {
            peer.collector.wait_for_connections(1, SOON).await;
            peer.collector.on_connect(OnConnect::Serve);
            Instant::now()
        };
        let exported = async {
            let delivery = export(&exporter, &batch).await.unwrap();
            (delivery, Instant::now())
        };
        let (recovered, (delivery, exported)) = futures_util::join!(recovered, exported);
        let took = exported - recovered;
        assert!(took < RECOVERY, "{way:?}: {took:?}");
        assert_eq!(delivery.attempt.attempts, 1, "no request was sent before");
        peer.assert_kept(&[batch]);
    });
}
