//! Destinations on this machine.

use opentelemetry_proto::tonic::trace::v1::Span;
use outspan::Batch;
use outspan_testkit::Collector;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;

use crate::agent::Agent;
use crate::agent::Outcome;
use crate::agent::assert_has_all;
use crate::agent::url_of;
use crate::running::outspan;

/// A trace of a root and a child, whole.
fn trace(root: &'static str, child: &'static str) -> Batch {
    let ids = outspan_testkit::span_ids(&batch_of(1));
    let root_id = ids[0].as_bytes().to_vec();
    let trace_id = [&root_id[..], &root_id].concat();
    batch_with(2, |number, span: &mut Span| {
        span.trace_id.clone_from(&trace_id);
        match number {
            0 => {
                span.span_id.clone_from(&root_id);
                span.name = root.into();
            }
            _ => {
                span.parent_span_id.clone_from(&root_id);
                span.name = child.into();
            }
        }
    })
}

#[tokio::test]
async fn a_tree_is_shown_while_the_agent_runs() {
    let mut agent = Agent::start(&["--to", "stdout:"]);
    agent.send(&trace("GET /basket", "SELECT items")).await;
    // Nobody stops the agent and nothing else comes, so the tree is shown because it is whole.
    agent.running().wait_until_shown("GET /basket");
    agent.running().wait_until_shown("SELECT items");
    let ran = agent.stop("INT").expect_status(0);
    assert_eq!(Outcome::of(&ran, "standard output"), Outcome::all(2));
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
    assert!(!ran.stdout.contains('\x1b'), "{}", ran.stdout);
}

#[tokio::test]
async fn a_tree_that_waits_is_shown_when_the_agent_stops() {
    let agent = Agent::start(&["--attributes", "--to", "stdout:", "--color", "always"]);
    agent.send(&trace("GET /basket", "SELECT items")).await;
    let ran = agent.stop("TERM").expect_status(0);
    assert!(ran.stdout.contains("SELECT items"), "{}", ran.stdout);
    assert!(ran.stdout.contains("greeting"), "{}", ran.stdout);
    assert!(ran.stdout.contains('\x1b'), "{}", ran.stdout);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn trees_that_can_never_be_shown_are_not_called_delivered() {
    let full = std::fs::File::options().write(true).open("/dev/full");
    let arguments = ["--to", "stdout:", "--shutdown-timeout", "500ms"];
    let agent = Agent::start_with_output(&arguments, full.unwrap().into());
    agent.send(&trace("GET /basket", "SELECT items")).await;
    let ran = agent.stop("TERM").expect_status(1);
    assert_eq!(Outcome::of(&ran, "standard output").lost, 2);
}

#[tokio::test]
async fn every_format_of_standard_output_is_written() {
    for (format, text) in [
        ("stdout:pretty", "GET /basket"),
        ("stdout:compact", "GET /basket"),
        ("stdout:json", "\"name\":\"GET /basket\""),
        ("stdout:otlp", "{\"resourceSpans\":["),
    ] {
        let mut agent = Agent::start(&["--to", format]);
        agent.send(&trace("GET /basket", "SELECT items")).await;
        agent.running().wait_until_shown(text);
        agent.stop("TERM").expect_status(0);
    }
}

#[tokio::test]
async fn a_file_of_the_agent_is_sent_by_send() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["x.pb", "x.jsonl", "x.pb.zst", "x.jsonl.gz"] {
        let path = directory.path().join(name);
        let path = path.to_str().unwrap();
        let agent = Agent::start(&["--to", &format!("file:{path}")]);
        let batches: Vec<_> = (0..5).map(|_| batch_of(4)).collect();
        for batch in &batches {
            agent.send(batch).await;
        }
        let ran = agent.stop("TERM").expect_status(0);
        assert_eq!(Outcome::of(&ran, path), Outcome::all(20));
        let collector = Collector::grpc();
        outspan(&["send", path, "--to", &url_of(&collector)]).expect_status(0);
        assert_has_all(&collector, &batches);
    }
}

#[tokio::test]
async fn the_agent_stops_when_nobody_reads_its_output_any_more() {
    let mut agent = Agent::start(&["--to", "stdout:compact"]);
    agent.send(&batch_of(1)).await;
    agent.running().wait_until_shown("span");
    agent.running().stop_reading();
    // The pipe is closed after this one has been read, so a later one finds nobody; how much later is the system's.
    let sender = agent.sender(outspan_testkit::Transport::Grpc);
    while outspan::Export::export(&sender, batch_of(1), outspan_testkit::soon())
        .await
        .is_ok()
    {}
    let ran = agent.finish().expect_status(141);
    assert!(!ran.stderr.contains("stopping"), "{}", ran.stderr);
}

#[tokio::test]
async fn other_destinations_get_everything_when_nobody_reads_standard_output() {
    let collector = Collector::grpc();
    let url = url_of(&collector);
    let mut agent = Agent::start(&["--to", "stdout:compact", "--to", &url]);
    agent.running().stop_reading();
    let sender = agent.sender(outspan_testkit::Transport::Grpc);
    let mut taken = Vec::new();
    loop {
        let batch = batch_of(1);
        match outspan::Export::export(&sender, batch.clone(), outspan_testkit::soon()).await {
            Ok(_) => taken.push(batch),
            Err(_) => break,
        }
    }
    let ran = agent.finish().expect_status(141);
    assert_has_all(&collector, &taken);
    assert_eq!(Outcome::of(&ran, &url), Outcome::all(taken.len() as u64));
    ran.expect_said(&["nobody reads standard output any more: "]);
}
