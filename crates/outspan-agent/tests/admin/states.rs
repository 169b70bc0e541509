//! Full, stopping, misconfigured: what the admin address says then, and what it never says.

use std::net::TcpListener;

use outspan::Export;
use outspan::otlp;
use outspan_testkit::Answer;
use outspan_testkit::Collector;
use outspan_testkit::Gate;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;
use outspan_testkit::soon;

use crate::agent::Agent;
use crate::running::LIMIT;

/// About 1 MB of spans.
fn large_batch() -> outspan::Batch {
    batch_with(100, |_, span| span.name = "x".repeat(10_000))
}

#[tokio::test]
async fn an_agent_without_room_is_not_ready_until_there_is_room_again() {
    let collector = Collector::grpc();
    let gate = Gate::new();
    collector.always(Answer::stall_until(&gate, Answer::Accept));
    let to = collector.endpoint().replace("http", "grpc");
    let agent = Agent::start(&["--memory", "16MiB", "--timeout", "1h", "--to", &to]);
    let ready = agent.get("/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (200, "ready\n"));

    let grpc = otlp::grpc(agent.grpc()).build().unwrap();
    let mut accepted = 0;
    while grpc.export(large_batch(), soon()).await.is_ok() {
        accepted += 100;
        assert!(accepted < 10_000, "the queue has no bound");
    }
    while agent.get("/readyz").status == 200 {
        // Smaller ones fill the rest.
        match grpc.export(batch_of(100), soon()).await {
            Ok(_) => accepted += 100,
            Err(error) => assert!(error.is_temporary(), "{error}"),
        }
    }
    let full = agent.get("/readyz");
    assert_eq!(full.status, 503);
    assert!(full.body.contains("every queue is full"), "{full:?}");
    assert_eq!(agent.get("/healthz").body, "ok\n");
    let status = agent.status();
    assert_eq!(status["ready"], false);
    assert!(
        status["receivers"][0]["requests"]["deferred"]
            .as_u64()
            .unwrap()
            > 0
    );
    let metrics = agent.metrics();
    assert_eq!(metrics.sum("outspan_ready", &[]), 0.0);
    let deferred = [("outcome", "deferred")];
    assert!(metrics.sum("outspan_receiver_requests_total", &deferred) > 0.0);
    let size = metrics.sum("otelcol_exporter_queue_size", &[]);
    let capacity = metrics.sum("otelcol_exporter_queue_capacity", &[]);
    assert!(size / capacity > 0.9, "{size} of {capacity}");

    gate.open();
    collector.wait_for_spans(accepted, LIMIT).await;
    agent.wait_for("readiness", |status| status["ready"] == true);
    assert_eq!(agent.get("/readyz").status, 200);
}

#[cfg(unix)]
#[tokio::test]
async fn an_agent_that_stops_is_healthy_and_not_ready_while_it_delivers() {
    let collector = Collector::http();
    let gate = Gate::new();
    collector.always(Answer::stall_until(&gate, Answer::Accept));
    let arguments = ["--shutdown-timeout", "50s", "--to", &collector.endpoint()];
    let mut agent = Agent::start(&arguments);
    let grpc = otlp::grpc(agent.grpc()).build().unwrap();
    grpc.export(batch_of(7), soon()).await.unwrap();
    agent.running().signal("TERM");
    agent
        .running()
        .wait_until_said("terminated: delivering 7 spans");
    agent.wait_for("stopping", |status| status["state"] == "stopping");

    let health = agent.get("/healthz");
    assert_eq!(
        (health.status, health.body.as_str()),
        (200, "ok, stopping\n")
    );
    let ready = agent.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("stopping"), "{ready:?}");
    assert_eq!(agent.metrics().sum("outspan_stopping", &[]), 1.0);

    gate.open();
    agent.finish().expect_status(0);
    assert_eq!(collector.span_count(), 7);
}

#[tokio::test]
async fn secrets_of_a_destination_are_shown_nowhere() {
    // Nobody listens there, so the destination is in trouble, which is told in words.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let to = format!("http://user:s3cret-password@127.0.0.1:{port}/v1/traces?key=s3cret-query");
    let agent = Agent::start(&["--to", &to, "--header", "authorization=s3cret-header"]);
    let http = otlp::http(agent.http()).build().unwrap();
    http.export(batch_of(1), soon()).await.unwrap();
    let status = agent.wait_for("trouble", |status| {
        status["destinations"][0]["trouble"].is_string()
    });
    let name = status["destinations"][0]["name"].as_str().unwrap();
    assert!(name.contains(&port.to_string()), "{name}");
    assert_eq!(agent.metrics().sum("outspan_exporter_down", &[]), 1.0);
    for path in ["/", "/healthz", "/readyz", "/status", "/metrics"] {
        let answer = agent.get(path);
        assert!(!answer.body.contains("s3cret"), "{path}: {answer:?}");
        assert!(!answer.head.contains("s3cret"), "{path}: {answer:?}");
    }
}

#[test]
fn a_taken_admin_address_ends_the_agent_with_words() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for address in [address.as_str(), "127.0.0.1", "http://127.0.0.1:0"] {
        let agent = Agent::with_admin(address, &["--to", "grpc://127.0.0.1:1"]);
        let ran = agent.finish();
        ran.expect_status(2).expect_said(&[address, "--admin"]);
    }
}

#[cfg(unix)]
#[test]
fn an_agent_can_do_without_an_admin_address() {
    let mut agent = Agent::with_admin("off", &["--to", "grpc://127.0.0.1:1"]);
    agent.running().wait_until_said("sending to");
    agent.running().signal("TERM");
    let ran = agent.finish().expect_status(0);
    assert!(!ran.stderr.contains("admin on"), "{ran:#?}");
}
