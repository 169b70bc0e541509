//! From programs to Kafka.

use outspan::Batch;
use outspan::Export;
use outspan::otlp;
use outspan_testkit::batch_of;
use outspan_testkit::decode;
use outspan_testkit::soon;
use outspan_testkit::span_ids;

use crate::cluster::Cluster;
use crate::running::Running;
use crate::running::outspan;
use crate::support::TOPIC;

#[tokio::test]
async fn what_programs_send_is_in_the_topic_by_trace() {
    let cluster = Cluster::start(1, &[TOPIC]);
    let to = format!("kafka://{}?key=trace_id&codec=zstd", cluster.brokers());
    let listen = ["--listen", "grpc://127.0.0.1:0", "--admin", "off"];
    let arguments = [&["agent", "--to", &to], &listen[..]].concat();
    let mut agent = Running::start(&arguments, &[]);
    agent.wait_until_said("sending to kafka://");
    let said = agent.said().to_owned();
    let address = said
        .lines()
        .find_map(|line| line.strip_prefix("listening on grpc"));
    let sender = otlp::grpc(format!("http{}", address.unwrap()))
        .build()
        .unwrap();
    let batch = batch_of(5);
    sender.export(batch.clone(), soon()).await.unwrap();
    agent.signal("TERM");
    agent.finish().expect_status(0);

    let messages = cluster.messages(TOPIC);
    assert!(messages.iter().all(|message| message.key.is_some()));
    let spans = messages.iter().flat_map(|message| message.spans());
    let mut found: Vec<Vec<u8>> = spans.map(|span| span.span_id).collect();
    let request = decode(&batch);
    let scopes = request
        .resource_spans
        .into_iter()
        .flat_map(|one| one.scope_spans);
    let mut sent: Vec<Vec<u8>> = scopes
        .flat_map(|one| one.spans)
        .map(|span| span.span_id)
        .collect();
    found.sort();
    sent.sort();
    assert_eq!(found, sent);
}

#[test]
fn files_can_be_sent_to_a_topic() {
    let cluster = Cluster::start(1, &["traces"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("spans.jsonl");
    let batches: Vec<Batch> = (1..4).map(batch_of).collect();
    let lines: Vec<Vec<u8>> = batches.iter().map(Batch::to_json).collect();
    std::fs::write(&file, lines.join(&b'\n')).unwrap();
    let to = format!("kafka://{}/traces", cluster.brokers());
    outspan(&["send", file.to_str().unwrap(), "--to", &to]).expect_status(0);

    let sent: usize = batches.iter().map(|batch| span_ids(batch).len()).sum();
    assert_eq!(cluster.span_names("traces").len(), sent);
}

#[test]
fn what_is_wrong_is_said_at_the_start() {
    let cases = [
        ("kafka://a:9092/x,y", "one topic"),
        ("kafka://a:9092/x?codec=br", "unknown codec \"br\""),
        ("kafka://user:hunter2@a:9092/x", "?config=FILE"),
    ];
    for (url, expected) in cases {
        let ran = outspan(&["agent", "--to", url, "--admin", "off"]).expect_status(2);
        assert!(ran.stderr.contains(expected), "{url}: {}", ran.stderr);
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    }
}
