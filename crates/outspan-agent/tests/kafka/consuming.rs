//! From Kafka to a collector: what is committed was delivered.

use std::time::Duration;

use outspan::Batch;
use outspan_testkit::Answer;
use outspan_testkit::Collector;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;

use crate::running::LIMIT;
use crate::running::outspan;
use crate::support::Topic;
use crate::support::assert_none_lost;
use crate::support::counts;

fn url_of(collector: &Collector) -> String {
    collector.endpoint().replacen("http", "grpc", 1)
}

fn batches(count: usize, spans: usize) -> Vec<Batch> {
    (0..count).map(|_| batch_of(spans)).collect()
}

/// Waits until the collector has so many different spans.
async fn wait_for(collector: &Collector, spans: usize) {
    let mut more = spans;
    while counts(collector).len() < spans {
        collector.wait_for_spans(more, LIMIT).await;
        more = collector.span_ids().len() + 1;
    }
}

#[tokio::test]
async fn protobuf_and_json_are_delivered_once_and_not_again_after_a_restart() {
    let topic = Topic::start();
    let collector = Collector::grpc();
    let mut sent = batches(20, 5);
    topic.write_batches(&sent[..10]);
    let json: Vec<Vec<u8>> = sent[10..].iter().map(Batch::to_json).collect();
    topic.write(json.iter().map(Vec::as_slice));

    let agent = topic.consumer(&url_of(&collector), &[]);
    collector.wait_for_spans(100, LIMIT).await;
    agent.signal("TERM");
    let ran = agent.finish().expect_status(0);
    ran.expect_said(&["consuming kafka://", " as group outspan"]);
    assert_eq!(assert_none_lost(&collector, &sent), 0);

    let agent = topic.consumer(&url_of(&collector), &[]);
    sent.extend(batches(1, 3));
    topic.write_batches(&sent[20..]);
    collector.wait_for_spans(103, LIMIT).await;
    agent.signal("TERM");
    agent.finish().expect_status(0);
    assert_eq!(assert_none_lost(&collector, &sent), 0, "delivered again");
}

#[tokio::test]
async fn what_was_not_delivered_when_the_agent_was_killed_is_delivered_by_the_next_one() {
    let topic = Topic::start();
    let collector = Collector::grpc();
    collector.always(Answer::Stall);
    let sent = batches(30, 4);
    topic.write_batches(&sent);
    let agent = topic.consumer(&url_of(&collector), &[]);
    collector.wait_for_requests(1, LIMIT).await;
    agent.signal("KILL");
    assert_eq!(agent.finish().status, None);

    let healthy = Collector::grpc();
    let agent = topic.consumer(&url_of(&healthy), &[]);
    wait_for(&healthy, 120).await;
    agent.signal("TERM");
    agent.finish().expect_status(0);
    assert_none_lost(&healthy, &sent);
}

#[tokio::test]
async fn what_an_agent_could_not_deliver_until_its_end_is_delivered_by_the_next_one() {
    let topic = Topic::start();
    let away = Collector::grpc();
    away.stop();
    let sent = batches(10, 4);
    topic.write_batches(&sent);
    let mut agent = topic.consumer(&url_of(&away), &["--shutdown-timeout", "2s"]);
    agent.wait_until_said("cannot deliver spans");
    agent.signal("TERM");
    agent.finish().expect_status(1);

    let healthy = Collector::grpc();
    let agent = topic.consumer(&url_of(&healthy), &[]);
    wait_for(&healthy, 40).await;
    agent.signal("TERM");
    agent.finish().expect_status(0);
    assert_none_lost(&healthy, &sent);
}

#[tokio::test]
async fn messages_that_are_no_spans_are_skipped_with_their_place_and_do_not_come_again() {
    let topic = Topic::start();
    let collector = Collector::grpc();
    let sent = batches(2, 3);
    topic.write_batches(&sent[..1]);
    topic.write([&b"neither"[..], b"{\"resourceSpans\": 7}", b""]);
    topic.write_batches(&sent[1..]);
    let mut agent = topic.consumer(&url_of(&collector), &[]);
    agent.wait_until_said("skipped the message at offset ");
    collector.wait_for_spans(6, LIMIT).await;
    agent.signal("TERM");
    let ran = agent.finish().expect_status(0);
    ran.expect_said(&[" of topic otlp_spans: "]);
    assert_eq!(assert_none_lost(&collector, &sent), 0);

    let agent = topic.consumer(&url_of(&collector), &[]);
    topic.write_batches(&batches(1, 1));
    collector.wait_for_spans(7, LIMIT).await;
    agent.signal("TERM");
    let ran = agent.finish().expect_status(0);
    assert!(!ran.stderr.contains("skipped"), "{}", ran.stderr);
}

#[tokio::test]
async fn more_than_the_queue_wants_waits_in_kafka_while_the_backend_is_away() {
    let topic = Topic::start();
    let collector = Collector::grpc();
    collector.stop();
    // 4 MB: the mocks keep no more than 5 MB of a partition, and the agent wants an eighth of its queue of 6 MiB.
    let large = |_| batch_with(1, |_, span| span.name = "x".repeat(100_000));
    let sent: Vec<Batch> = (0..40).map(large).collect();
    topic.write_batches(&sent);
    let url = url_of(&collector);
    let mut agent = topic.consumer(&url, &["--memory", "16MiB"]);
    agent.wait_until_said("cannot deliver spans");
    collector.restart();
    wait_for(&collector, 40).await;
    agent.signal("TERM");
    agent.finish().expect_status(0);
    assert_none_lost(&collector, &sent);
}

#[tokio::test]
async fn agents_of_a_group_share_the_work_and_lose_nothing_when_one_comes_or_goes() {
    let topic = Topic::start();
    let collector = Collector::grpc();
    let sent = batches(120, 2);
    let first = topic.consumer(&url_of(&collector), &[]);
    topic.write_batches(&sent[..40]);
    wait_for(&collector, 80).await;
    let second = topic.consumer(&url_of(&collector), &[]);
    topic.write_batches(&sent[40..80]);
    wait_for(&collector, 160).await;
    first.signal("TERM");
    topic.write_batches(&sent[80..]);
    wait_for(&collector, 240).await;
    first.finish().expect_status(0);
    second.signal("TERM");
    second.finish().expect_status(0);
    assert_none_lost(&collector, &sent);
}

#[test]
fn what_is_wrong_is_said_at_the_start() {
    let cases = [
        ("kafka://", "no broker"),
        ("kafka://a:9092/t?gruop=x", "unknown option \"gruop\""),
        ("kafka://a:9092/t?offset=middle", "use earliest, latest"),
        (
            "kafka://a:9092/t?config=no-such-file",
            "cannot read no-such-file",
        ),
    ];
    for (url, expected) in cases {
        let arguments = [
            "agent", "--listen", url, "--to", "stdout:", "--admin", "off",
        ];
        let ran = outspan(&arguments).expect_status(2);
        assert!(ran.stderr.contains(expected), "{url}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn brokers_that_come_late_are_waited_for() {
    let topic = Topic::start();
    topic.cluster.down();
    let collector = Collector::grpc();
    let mut agent = topic.consumer(&url_of(&collector), &[]);
    agent.wait_until_said("Connect");
    topic.cluster.up();
    let sent = batches(3, 2);
    topic.write_batches(&sent);
    wait_for(&collector, 6).await;
    // What is settled is committed in a moment; stopping does it at the latest.
    let ended = tokio::time::timeout(Duration::from_secs(30), async {
        agent.signal("TERM");
        agent.finish().expect_status(0)
    });
    ended.await.unwrap();
}
