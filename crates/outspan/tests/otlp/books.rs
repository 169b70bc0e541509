//! Whatever happens on the way, no span is lost from the books: it arrived, was refused, or is in the rest.

use std::collections::HashSet;
use std::time::Duration;

use fastrand::Rng;
use outspan::Batch;
use outspan::Compression;
use outspan::Delivery;
use outspan::Error;
use outspan::Exporter;
use outspan::Retry;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;
use outspan_testkit::Disconnect;
use outspan_testkit::Garbage;
use outspan_testkit::SpanId;
use outspan_testkit::batch_with;
use outspan_testkit::span_ids;

use crate::support::Wire;
use crate::support::export;

over_each_wire![books_close_under_random_trouble];

async fn books_close_under_random_trouble(wire: Wire) {
    for seed in 0..60 {
        let mut random = Rng::with_seed(seed);
        let collector = wire.collector();
        let batch = some_batch(&mut random);
        let answers = random.usize(0..8);
        collector.script((0..answers).map(|_| some_answer(&mut random)));
        let exporter = some_exporter(wire, &collector, &mut random);
        let sent = export(&exporter, &batch).await;
        check(&collector, &batch, sent, seed);
    }
}

fn check(collector: &Collector, batch: &Batch, sent: Result<Delivery, Error>, seed: u64) {
    let delivery = match sent {
        Ok(delivery) => delivery,
        Err(error) => Delivery::failed(batch.clone(), error),
    };
    let spans = batch.spans() as u64;
    let accounted = delivery.accepted + delivery.refused + delivery.undelivered();
    assert_eq!(accounted, spans, "seed {seed}: {delivery:?}");

    let all: HashSet<SpanId> = span_ids(batch).into_iter().collect();
    let received: HashSet<SpanId> = collector.span_ids().into_iter().collect();
    let rest: Vec<SpanId> = delivery
        .rest
        .iter()
        .flat_map(|part| span_ids(&part.batch))
        .collect();
    let known: HashSet<SpanId> = received.iter().chain(&rest).cloned().collect();
    assert!(known.is_subset(&all), "seed {seed}: a span was made up");
    let missing = all.difference(&known).count() as u64;
    // What a destination took without being able to say so is in both; what it refused is in neither.
    assert!(missing <= delivery.refused, "seed {seed}: {delivery:?}");
    let unique: HashSet<&SpanId> = rest.iter().collect();
    assert_eq!(unique.len(), rest.len(), "seed {seed}: left twice");
    let requests = collector.requests().len();
    assert!(
        delivery.attempt.attempts as usize >= requests,
        "seed {seed}"
    );
    assert_eq!(collector.complaints(), Vec::<String>::new(), "seed {seed}");
}

fn some_batch(random: &mut Rng) -> Batch {
    let spans = random.usize(1..60);
    batch_with(spans, |_, span| {
        if random.u8(..) < 10 {
            span.name = "x".repeat(random.usize(500..4000));
        }
    })
}

fn some_exporter(wire: Wire, collector: &Collector, random: &mut Rng) -> Exporter {
    let mut builder = wire.to_collector(collector);
    builder = match random.u8(0..3) {
        0 => builder,
        1 => builder.compression(Compression::Gzip),
        _ => builder.compression(Compression::Zstd),
    };
    if random.bool() {
        builder = builder.max_request_bytes(random.usize(300..3000));
    }
    let exporter = builder.build().unwrap().timeout(Duration::from_secs(10));
    if random.bool() {
        return exporter;
    }
    let retries = random.u32(0..4);
    let interval = Duration::from_millis(1);
    exporter.retry(
        Retry::default()
            .initial_interval(interval)
            .max_retries(retries),
    )
}

fn some_answer(random: &mut Rng) -> Answer {
    match random.u8(0..12) {
        0..=2 => Answer::Accept,
        3 => Answer::partial(random.i64(-1..30), "some are bad"),
        4 => Answer::refuse(AnswerCode::UNAVAILABLE, "not now"),
        5 => Answer::refuse(AnswerCode::INVALID_ARGUMENT, "never"),
        6 => Answer::retry_after(AnswerCode::THROTTLED, Duration::from_millis(1)),
        7 => Answer::AtMost {
            bytes: random.usize(100..2000),
        },
        8 => Answer::Disconnect(Disconnect::BeforeReading),
        9 => Answer::Disconnect(Disconnect::AfterReading),
        10 => Answer::Disconnect(Disconnect::MidAnswer),
        _ => Answer::Garbage(Garbage::Html(503)),
    }
}
