//! How large batches get, and how long they wait.

use outspan_testkit::Answer;
use outspan_testkit::Collector;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;

use crate::agent::Agent;
use crate::agent::LIMIT;
use crate::agent::assert_has_all;
use crate::agent::url_of;

/// A delay that no test waits for.
const NEVER: [&str; 2] = ["--batch-delay", "1h"];

fn spans_a_request(collector: &Collector) -> Vec<usize> {
    let requests = collector.requests();
    let mut spans: Vec<_> = requests.iter().map(|of| of.span_count()).collect();
    spans.sort_unstable();
    spans
}

#[tokio::test]
async fn requests_are_merged_up_to_the_number_of_spans() {
    let collector = Collector::grpc();
    let url = url_of(&collector);
    let arguments = ["--to", &url, "--batch-spans", "10"];
    let agent = Agent::start(&[&arguments[..], &NEVER].concat());
    let batches: Vec<_> = (0..5).map(|_| batch_of(5)).collect();
    for batch in &batches {
        agent.send(batch).await;
    }
    collector.wait_for_spans(20, LIMIT).await;
    agent.stop("TERM").expect_status(0);
    assert_eq!(spans_a_request(&collector), [5, 10, 10]);
    assert_has_all(&collector, &batches);
}

#[tokio::test]
async fn a_request_that_is_larger_than_a_batch_becomes_several() {
    let collector = Collector::grpc();
    let url = url_of(&collector);
    let arguments = ["--to", &url, "--batch-bytes", "10KiB"];
    let agent = Agent::start(&[&arguments[..], &NEVER].concat());
    let batch = batch_with(100, |_, span| span.name = "x".repeat(1000));
    agent.send(&batch).await;
    collector.wait_for_spans(100, LIMIT).await;
    agent.stop("TERM").expect_status(0);
    let sizes: Vec<_> = collector
        .requests()
        .iter()
        .map(|of| of.wire_bytes)
        .collect();
    assert!(sizes.iter().all(|size| *size <= 10 << 10), "{sizes:?}");
    assert!(sizes.len() < 20, "{sizes:?}");
    assert_has_all(&collector, &[batch]);
}

#[tokio::test]
async fn spans_wait_for_others_no_longer_than_the_delay() {
    let collector = Collector::grpc();
    let agent = Agent::start(&["--to", &url_of(&collector), "--batch-delay", "20ms"]);
    let batch = batch_of(1);
    agent.send(&batch).await;
    // Only the delay can have sent it.
    collector.wait_for_spans(1, LIMIT).await;
    agent.stop("TERM").expect_status(0);
    assert_has_all(&collector, &[batch]);
}

#[tokio::test]
async fn what_waits_for_others_goes_out_when_the_agent_stops() {
    let collector = Collector::http();
    let agent = Agent::start(&[&["--to", &url_of(&collector)], &NEVER[..]].concat());
    let batches: Vec<_> = (0..9).map(|_| batch_of(2)).collect();
    for batch in &batches {
        agent.send(batch).await;
    }
    assert_eq!(collector.span_count(), 0);
    agent.stop("TERM").expect_status(0);
    assert_eq!(spans_a_request(&collector), [18]);
    assert_has_all(&collector, &batches);
}

#[tokio::test]
async fn a_destination_that_takes_small_messages_only_gets_small_ones() {
    for collector in [Collector::grpc(), Collector::http()] {
        collector.always(Answer::AtMost { bytes: 2048 });
        let agent = Agent::start(&["--to", &url_of(&collector)]);
        let batch = batch_of(100);
        assert!(batch.size() > 4096);
        agent.send(&batch).await;
        collector.wait_for_spans(100, LIMIT).await;
        agent.stop("TERM").expect_status(0);
        assert_has_all(&collector, &[batch]);
    }
}
