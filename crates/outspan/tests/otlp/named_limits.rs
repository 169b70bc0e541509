//! Servers that name the size that they take: parts of this size arrive at once.

use outspan::Compression;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::batch_of;
use outspan_testkit::run_test;
use outspan_testkit::span_ids;

use crate::support::Wire;
use crate::support::export;

over_each_wire![
    parts_fit_the_limit_that_the_server_named,
    compressed_parts_fit_the_limit_as_well,
    a_nonsense_limit_loses_nothing_and_ends,
];

/// How many bytes the server takes at once.
const LIMIT: usize = 4000;

/// Refuses what is too large, in the words of tonic.
fn like_tonic(code: impl Into<AnswerCode>) -> Answer {
    let code = code.into();
    Answer::decide(move |request| match request.message.len() {
        bytes if bytes > LIMIT => Answer::refuse(
            code,
            &format!(
                "Error, decoded message length too large: found {bytes} bytes, the limit is: {LIMIT} bytes"
            ),
        ),
        _ => Answer::Accept,
    })
}

/// How many requests there are at most for a message of so many bytes: the whole, and parts that are almost as large as
/// allowed. Each repeats the resource.
fn requests_for(bytes: usize) -> usize {
    2 + (bytes * 4 / 3).div_ceil(LIMIT)
}

async fn parts_fit_the_limit_that_the_server_named(wire: Wire) {
    let collector = wire.collector();
    collector.always(like_tonic(AnswerCode::TOO_LARGE));
    let batch = batch_of(300);
    assert!(batch.size() > 5 * LIMIT);
    let delivery = export(&wire.exporter(&collector), &batch).await.unwrap();
    assert_eq!((delivery.accepted, delivery.undelivered()), (300, 0));
    assert_eq!(collector.span_ids(), span_ids(&batch), "in order");
    let requests = collector.requests();
    let most = requests_for(requests[0].message.len());
    assert!(requests.len() <= most, "{} requests", requests.len());
}

async fn compressed_parts_fit_the_limit_as_well(wire: Wire) {
    let collector = wire.collector();
    collector.always(like_tonic(AnswerCode::TOO_LARGE));
    let batch = batch_of(300);
    let exporter = wire
        .to_collector(&collector)
        .compression(Compression::Gzip)
        .build()
        .unwrap();
    let delivery = export(&exporter, &batch).await.unwrap();
    assert_eq!((delivery.accepted, delivery.undelivered()), (300, 0));
    assert_eq!(collector.span_ids(), span_ids(&batch));
}

async fn a_nonsense_limit_loses_nothing_and_ends(wire: Wire) {
    for limit in [
        "0",
        "1",
        "-7",
        "18446744073709551615",
        "99999999999999999999999",
    ] {
        let collector = wire.collector();
        let words = format!("message too large, the limit is: {limit}");
        collector.always(Answer::decide(move |request| {
            match request.message.len() > LIMIT {
                true => Answer::refuse(AnswerCode::TOO_LARGE, &words),
                false => Answer::Accept,
            }
        }));
        let batch = batch_of(300);
        let delivery = export(&wire.exporter(&collector), &batch).await.unwrap();
        assert_eq!(
            (delivery.accepted, delivery.undelivered()),
            (300, 0),
            "{limit}"
        );
        assert_eq!(collector.span_ids(), span_ids(&batch));
        let requests = collector.requests().len();
        assert!(
            requests <= 63,
            "{requests} requests with a limit of {limit}"
        );
    }
}

/// With tonic's status and words, and with those of Go.
#[test]
fn each_grpc_library_s_limit_makes_parts_that_fit() {
    run_test(async {
        let batch = batch_of(300);
        let answers = [like_tonic(11), Answer::AtMost { bytes: LIMIT }];
        for (answer, name) in answers.into_iter().zip(["tonic", "Go"]) {
            let collector = Wire::Grpc.collector();
            collector.always(answer);
            let exporter = Wire::Grpc.exporter(&collector);
            let delivery = export(&exporter, &batch).await.unwrap();
            assert_eq!((delivery.accepted, delivery.undelivered()), (300, 0));
            assert_eq!(collector.span_ids(), span_ids(&batch));
            let requests = collector.requests();
            assert!(requests.len() <= requests_for(batch.size()), "{name}");
            let [_, parts @ ..] = &requests[..] else {
                panic!("{name}: nothing was sent");
            };
            assert!(
                parts.iter().all(|part| part.message.len() <= LIMIT),
                "{name}"
            );
        }
    });
}
