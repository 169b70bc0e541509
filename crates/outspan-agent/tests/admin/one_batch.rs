//! A destination that never takes one batch: it counts as up, and the others are delivered.

use std::time::Duration;
use std::time::Instant;

use outspan::Export;
use outspan::otlp;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;
use outspan_testkit::batch_of;
use outspan_testkit::soon;

use crate::agent::Agent;
use crate::running::LIMIT;

/// How many spans the batch has that is never taken; the others have one.
const BAD: usize = 7;

#[tokio::test(flavor = "multi_thread")]
async fn one_batch_that_always_fails_marks_no_destination_down() {
    let collector = Collector::grpc();
    collector.always(Answer::decide(|request| match request.span_ids().len() {
        BAD => Answer::refuse(AnswerCode::UNAVAILABLE, "not this one"),
        _ => Answer::Accept,
    }));
    let to = collector.endpoint().replace("http", "grpc");
    let agent = Agent::start(&["--batch-delay", "1ms", "--to", &to]);
    let grpc = otlp::grpc(agent.grpc()).build().unwrap();
    grpc.export(batch_of(1), soon()).await.unwrap();
    collector.wait_for_spans(1, LIMIT).await;
    grpc.export(batch_of(BAD), soon()).await.unwrap();
    collector.wait_for_requests(2, LIMIT).await;
    // The next batch shows that the destination takes others.
    grpc.export(batch_of(1), soon()).await.unwrap();
    collector.wait_for_spans(2, LIMIT).await;
    agent.wait_for("end of doubt", |status| {
        status["destinations"][0]["trouble"].is_null()
    });
    let bad_requests = || {
        let requests = collector.requests().into_iter();
        requests.filter(|r| r.span_ids().len() == BAD).count()
    };
    let began = Instant::now();
    let mut good = 2;
    while bad_requests() < 4 {
        assert!(began.elapsed() < LIMIT, "it is tried again");
        let sent = Instant::now();
        grpc.export(batch_of(1), soon()).await.unwrap();
        good += 1;
        collector.wait_for_spans(good, LIMIT).await;
        assert!(sent.elapsed() < Duration::from_secs(2), "others wait");
        let status = agent.status();
        let trouble = &status["destinations"][0]["trouble"];
        assert!(trouble.is_null(), "{trouble}");
        let metrics = agent.metrics();
        assert_eq!(metrics.sum("outspan_exporter_down", &[]), 0.0);
    }
}
