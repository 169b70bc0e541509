//! A whole stack, as programs build it: attempts with a limit, tried again.

use std::time::Duration;
use std::time::Instant;

use outspan::ErrorKind;
use outspan::Exporter;
use outspan::Retry;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;
use outspan_testkit::Disconnect;
use outspan_testkit::Gate;
use outspan_testkit::batch_of;
use outspan_testkit::span_ids;

use crate::support::SOON;
use crate::support::Wire;
use crate::support::export;

over_each_wire![
    a_server_in_trouble_gets_the_spans_in_the_end,
    an_attempt_that_hangs_is_given_up_and_made_again,
    the_limits_are_told_apart,
    the_delay_asked_for_is_waited,
    a_killed_server_gets_the_spans_when_it_is_back,
    what_was_accepted_of_a_split_batch_is_not_sent_again,
];

fn quick() -> Retry {
    Retry::default()
        .initial_interval(Duration::from_millis(5))
        .max_interval(Duration::from_millis(20))
}

fn stack(wire: Wire, collector: &Collector) -> Exporter {
    let exporter = wire.exporter(collector);
    exporter.timeout(Duration::from_secs(5)).retry(quick())
}

async fn a_server_in_trouble_gets_the_spans_in_the_end(wire: Wire) {
    let collector = wire.collector();
    collector.script([
        Answer::refuse(AnswerCode::UNAVAILABLE, "starting"),
        Answer::Disconnect(Disconnect::BeforeReading),
        Answer::Disconnect(Disconnect::AfterReading),
        Answer::retry_after(AnswerCode::THROTTLED, Duration::ZERO),
    ]);
    let batch = batch_of(3);
    let delivery = export(&stack(wire, &collector), &batch).await.unwrap();
    assert_eq!((delivery.accepted, delivery.attempt.attempts), (3, 5));
    assert_eq!(collector.span_ids(), span_ids(&batch));
    assert_eq!(collector.answers_left(), 0);
}

async fn an_attempt_that_hangs_is_given_up_and_made_again(wire: Wire) {
    let collector = wire.collector();
    collector.script([Answer::Stall]);
    let exporter = wire
        .exporter(&collector)
        .timeout(Duration::from_millis(200))
        .retry(quick());
    let delivery = export(&exporter, &batch_of(3)).await.unwrap();
    assert_eq!((delivery.accepted, delivery.attempt.attempts), (3, 2));
    collector.wait_for_in_flight(0, SOON).await;
}

/// Part 16: a hung server, and both limits named.
async fn the_limits_are_told_apart(wire: Wire) {
    let collector = wire.collector();
    collector.always(Answer::Stall);
    let exporter = wire.exporter(&collector);
    let attempt = exporter.clone().timeout(Duration::from_millis(100));
    let error = export(&attempt, &batch_of(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let text = error.to_string();
    assert!(text.contains("attempt timeout of 100ms passed"), "{text}");
    assert!(text.contains(&collector.endpoint()), "{text}");

    let whole = exporter
        .timeout(Duration::from_secs(5))
        .retry(quick())
        .export_deadline(Duration::from_millis(150));
    let error = export(&whole, &batch_of(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let text = error.to_string();
    assert!(text.contains("export deadline of 150ms passed"), "{text}");
    assert!(text.contains(&collector.endpoint()), "{text}");
    assert!(
        error.attempt().attempts >= 1 && error.attempt().wire_bytes > 0,
        "{error:?}"
    );
}

async fn the_delay_asked_for_is_waited(wire: Wire) {
    let collector = wire.collector();
    let asked = Duration::from_secs(1);
    collector.script([Answer::retry_after(AnswerCode::UNAVAILABLE, asked)]);
    let began = Instant::now();
    let delivery = export(&stack(wire, &collector), &batch_of(1)).await;
    assert_eq!(delivery.unwrap().attempt.attempts, 2);
    assert!(began.elapsed() >= asked, "{:?}", began.elapsed());
}

async fn a_killed_server_gets_the_spans_when_it_is_back(wire: Wire) {
    let collector = wire.collector();
    let exporter = stack(wire, &collector);
    export(&exporter, &batch_of(1)).await.unwrap();
    let gate = Gate::new();
    collector.script([Answer::stall_until(&gate, Answer::Accept)]);
    let batch = batch_of(4);
    let sending = export(&exporter, &batch);
    let killing = async {
        collector.wait_for_in_flight(1, SOON).await;
        collector.stop();
        collector.restart();
    };
    let (delivery, ()) = futures_util::join!(sending, killing);
    assert_eq!(delivery.unwrap().accepted, 4);
    assert_eq!(collector.span_count(), 5);
}

async fn what_was_accepted_of_a_split_batch_is_not_sent_again(wire: Wire) {
    let collector = wire.collector();
    collector.script([
        Answer::Accept,
        Answer::refuse(AnswerCode::UNAVAILABLE, "restarting"),
    ]);
    let batch = batch_of(40);
    let exporter = wire
        .to_collector(&collector)
        .max_request_bytes(2000)
        .build()
        .unwrap()
        .retry(quick());
    let delivery = export(&exporter, &batch).await.unwrap();
    assert_eq!(delivery.accepted, 40);
    assert!(delivery.is_complete());
    let mut received = collector.span_ids();
    assert_eq!(received.len(), 40, "nothing came twice");
    received.sort_unstable();
    assert_eq!(received, span_ids(&batch));
    assert_eq!(
        delivery.attempt.attempts as usize,
        collector.requests().len()
    );
}
