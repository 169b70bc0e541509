//! `--ack delivered`: what the admin address says of answers that wait.

use std::time::Duration;

use outspan::Delivery;
use outspan::Export;
use outspan::Result;
use outspan::otlp;
use outspan_testkit::Answer;
use outspan_testkit::Collector;
use outspan_testkit::Gate;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::agent::Agent;
use crate::running::LIMIT;

fn send(agent: &Agent, spans: usize) -> JoinHandle<Result<Delivery>> {
    let grpc = otlp::grpc(agent.grpc()).build().unwrap();
    tokio::spawn(async move { grpc.export(batch_of(spans), soon()).await })
}

fn waiting(status: &Value) -> u64 {
    status["acks"]["waiting"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_answers_are_shown_and_their_spans_are_accepted_already() {
    let collector = Collector::grpc();
    let gate = Gate::new();
    collector.always(Answer::stall_until(&gate, Answer::Accept));
    let to = collector.endpoint().replace("http", "grpc");
    let agent = Agent::start(&["--ack", "delivered", "--to", &to]);
    let before = agent.status();
    assert_eq!(before["acks"]["level"], "delivered");
    assert_eq!(waiting(&before), 0);
    let sending = send(&agent, 3);
    let status = agent.wait_for("waiting answer", |status| waiting(status) == 1);
    assert!(status["acks"]["waiting_bytes"].as_u64().unwrap() > 0);
    let status = agent.wait_for("accepted request", |status| {
        status["receivers"][0]["requests"]["accepted"] == 1
    });
    assert_eq!(status["receivers"][0]["spans"]["accepted"], 3);
    let metrics = agent.metrics();
    assert_eq!(metrics.sum("outspan_receiver_waiting_answers", &[]), 1.0);
    gate.open();
    assert!(sending.await.unwrap().unwrap().is_complete());
    let status = agent.status();
    assert_eq!(waiting(&status), 0);
    assert_eq!(status["acks"]["waiting_bytes"], 0);
    assert_eq!(status["receivers"][0]["requests"]["accepted"], 1, "once");
    assert_eq!(status["receivers"][0]["requests"]["unacknowledged"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_out_of_time_are_counted_as_unacknowledged() {
    let collector = Collector::grpc();
    collector.always(Answer::Stall);
    let to = collector.endpoint().replace("http", "grpc");
    let ack = ["--ack", "delivered", "--ack-timeout", "200ms"];
    let agent = Agent::start(&[&ack[..], &["--to", &to]].concat());
    let error = send(&agent, 3).await.unwrap().unwrap_err();
    assert!(error.is_temporary() && error.retry_after().is_some());
    let status = agent.status();
    let requests = &status["receivers"][0]["requests"];
    assert_eq!(
        (&requests["accepted"], &requests["unacknowledged"]),
        (&1.into(), &1.into())
    );
    let name = "outspan_receiver_unacknowledged_requests_total";
    assert_eq!(agent.metrics().sum(name, &[]), 1.0);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn spans_that_are_being_collected_are_delivered_and_answered_when_the_agent_stops() {
    let collector = Collector::grpc();
    let to = collector.endpoint().replace("http", "grpc");
    let ack = ["--ack", "delivered", "--ack-timeout", "50s"];
    let batches = ["--batch-delay", "1h", "--to", &to];
    let mut agent = Agent::start(&[&ack[..], &batches].concat());
    let sending = send(&agent, 3);
    agent.wait_for("waiting answer", |status| waiting(status) == 1);
    agent.running().signal("TERM");
    let answer = tokio::time::timeout(LIMIT, sending).await.unwrap();
    assert!(answer.unwrap().unwrap().is_complete());
    agent.finish().expect_status(0);
    assert_eq!(collector.span_count(), 3);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_answers_that_wait() {
    let collector = Collector::grpc();
    collector.always(Answer::Stall);
    let to = collector.endpoint().replace("http", "grpc");
    let ack = ["--ack", "delivered", "--ack-timeout", "50s"];
    let stop = ["--timeout", "50s", "--shutdown-timeout", "50s", "--to", &to];
    let mut agent = Agent::start(&[&ack[..], &stop].concat());
    let sending = send(&agent, 3);
    agent.wait_for("waiting answer", |status| waiting(status) == 1);
    agent.running().signal("TERM");
    agent.running().wait_until_said("delivering 3 spans");
    agent.running().signal("TERM");
    let ended = tokio::time::timeout(Duration::from_secs(20), sending).await;
    ended.unwrap().unwrap().unwrap_err();
    agent.finish().expect_status(1);
}
