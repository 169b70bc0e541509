//! Backends that hang behind connections which stay open: spans reach the next one that works, with the defaults.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::join_all;
use outspan_testkit::Answer;
use outspan_testkit::Collector;
use outspan_testkit::Relay;
use outspan_testkit::Transport;
use outspan_testkit::batch_of;
use outspan_testkit::span_ids;

use crate::agent::Agent;
use crate::agent::LIMIT;
use crate::agent::Outcome;
use crate::agent::assert_has_all;
use crate::agent::url_of;
use crate::running::outspan;

/// How soon spans are delivered again when the backend is healthy again.
/// It is meant to be 5 s; a test on a busy machine allows twice that.
const RECOVERY: Duration = Duration::from_secs(10);

/// A collector that acknowledges everything and answers only over the connections from a number on.
fn hanging(transport: Transport) -> (Collector, Arc<AtomicU64>) {
    let collector = Collector::over(transport).start();
    let answers_from = Arc::new(AtomicU64::new(u64::MAX));
    let from = Arc::clone(&answers_from);
    collector.always(Answer::decide(move |request| {
        match request.connection >= from.load(Ordering::Relaxed) {
            true => Answer::Accept,
            false => Answer::Stall,
        }
    }));
    (collector, answers_from)
}

async fn recovers(transport: Transport) {
    let (hung, answers_from) = hanging(transport);
    let healthy = Collector::http();
    let (to_hung, to_healthy) = (url_of(&hung), url_of(&healthy));
    let agent = Agent::start(&["--to", &to_hung, "--to", &to_healthy]);
    let batches = [batch_of(3), batch_of(4), batch_of(5)];
    agent.send(&batches[0]).await;
    // The first attempt is over, after its limit of 10 s, and the next one is under way.
    hung.wait_for_requests(2, LIMIT).await;
    agent.send(&batches[1]).await;
    let recovered = Instant::now();
    answers_from.store(hung.connections(), Ordering::Relaxed);
    hung.wait_for_spans(7, LIMIT).await;
    let took = recovered.elapsed();
    assert!(took < RECOVERY, "{transport:?}: {took:?}");
    agent.send(&batches[2]).await;
    hung.wait_for_spans(12, RECOVERY).await;
    healthy.wait_for_spans(12, RECOVERY).await;
    let ran = agent.stop("TERM").expect_status(0);
    for (collector, to) in [(&hung, &to_hung), (&healthy, &to_healthy)] {
        assert_has_all(collector, &batches);
        assert_eq!(Outcome::of(&ran, to), Outcome::all(12));
    }
    let blamed = ran.stderr.lines().filter(|line| {
        let is_failure = line.contains("WARN") || line.contains("ERROR");
        is_failure && line.contains(&to_healthy)
    });
    assert_eq!(blamed.collect::<Vec<_>>(), [""; 0], "{}", ran.stderr);
}

#[tokio::test]
async fn spans_arrive_within_5_s_when_new_connections_are_answered() {
    join_all([Transport::Grpc, Transport::Http].map(recovers)).await;
}

/// The connection stays open and is silent; a new one works at once. The relay runs while the test waits for the agent's end.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_died_silently_is_noticed_by_keep_alive() {
    let collector = Collector::grpc();
    let relay = Relay::start(collector.address()).await;
    let to = format!("grpc://{}", relay.address());
    let agent = Agent::start(&["--to", &to, "--keep-alive", "500ms,500ms"]);
    let batches = [batch_of(3), batch_of(4)];
    agent.send(&batches[0]).await;
    collector.wait_for_spans(3, LIMIT).await;
    relay.silence();
    relay.recover();
    agent.send(&batches[1]).await;
    collector.wait_for_spans(7, RECOVERY).await;
    let ran = agent.stop("TERM").expect_status(0);
    assert_eq!(Outcome::of(&ran, &to), Outcome::all(7));
    // The first answer may not have passed when the relay fell silent: then its spans are there twice.
    let kept: HashSet<_> = collector.span_ids().into_iter().collect();
    let sent: HashSet<_> = batches.iter().flat_map(span_ids).collect();
    assert!(kept == sent, "{kept:?}");
}

#[test]
fn keep_alive_is_an_option_of_each_destination_over_http() {
    let help = outspan(&["agent", "--help"]).expect_status(0);
    assert!(help.stdout.contains("--keep-alive"), "{}", help.stdout);
    for (to, keep_alive, said) in [
        ("grpc://x", "0s", "more than zero"),
        ("grpc://x", "1s,no", "--keep-alive"),
        ("stdout:", "1s", "--keep-alive has no meaning here"),
        ("jaeger+udp://x", "off", "--keep-alive has no meaning here"),
    ] {
        let arguments = ["agent", "--to", to, "--keep-alive", keep_alive];
        let ran = outspan(&arguments).expect_status(2);
        ran.expect_said(&[said]);
    }
}
