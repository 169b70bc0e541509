//! Request and response limits: what is too large is split, down to one span, and never dropped unsaid.

use outspan::ErrorKind;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;
use outspan_testkit::run_test;
use outspan_testkit::span_ids;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use outspan::Compression;

use crate::support::Wire;
use crate::support::export;

over_each_wire![
    a_batch_over_the_limit_is_split,
    the_limit_holds_before_compression,
    the_limit_holds_after_compression,
    a_request_may_have_exactly_as_many_bytes_as_the_limit,
    a_giant_span_is_left_with_its_name_and_the_others_arrive,
    a_giant_span_alone_is_an_error,
    a_server_that_finds_it_too_large_gets_smaller_ones,
    a_server_that_takes_nothing_gets_no_span_for_ever,
    each_half_is_refused_or_taken_for_itself,
];

/// Checklist rules 12, 13, 44, 45; nothing is discarded, so there is nothing to record (14, 46).
async fn a_batch_over_the_limit_is_split(wire: Wire) {
    const LIMIT: usize = 2000;

    let collector = wire.collector();
    let batch = batch_of(100);
    assert!(batch.size() > 3 * LIMIT);
    let exporter = wire.to_collector(&collector).max_request_bytes(LIMIT);
    let delivery = export(&exporter.build().unwrap(), &batch).await.unwrap();
    assert_eq!(delivery.accepted, 100);
    assert_eq!(
        collector.span_ids(),
        span_ids(&batch),
        "in order, each once"
    );
    let requests = collector.requests();
    assert!(requests.len() > 3);
    assert_eq!(delivery.attempt.attempts as usize, requests.len());
    for request in &requests {
        assert!(request.wire_bytes <= LIMIT, "{}", request.wire_bytes);
    }
}

async fn the_limit_holds_before_compression(wire: Wire) {
    const LIMIT: usize = 2000;

    let collector = wire.collector();
    let batch = batch_of(100);
    let exporter = wire
        .to_collector(&collector)
        .compression(Compression::Gzip)
        .max_request_bytes(LIMIT);
    export(&exporter.build().unwrap(), &batch).await.unwrap();
    assert_eq!(collector.span_ids(), span_ids(&batch));
    for request in collector.requests() {
        assert!(request.message.len() <= LIMIT, "{}", request.message.len());
    }
}

/// A compressor makes noise larger than it is.
async fn the_limit_holds_after_compression(wire: Wire) {
    let collector = wire.collector();
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise.to_be_bytes()
    };
    let batch = batch_with(2, |_, span| {
        span.attributes.clear();
        span.trace_id = [random(), random()].concat();
        span.span_id = random().to_vec();
    });
    let plain = match wire {
        Wire::HttpJson => batch.to_json().len(),
        _ => batch.size(),
    };
    let exporter = |limit: usize| {
        wire.to_collector(&collector)
            .compression(Compression::Gzip)
            .compression_level(0)
            .max_request_bytes(limit)
            .build()
            .unwrap()
    };
    // Stored as they are, the bytes gain gzip's header and trailer.
    let delivery = export(&exporter(plain + 2), &batch).await.unwrap();
    assert_eq!((delivery.accepted, delivery.attempt.attempts), (2, 2));
    collector.clear();
    let delivery = export(&exporter(plain + 100), &batch).await.unwrap();
    assert_eq!((delivery.accepted, delivery.attempt.attempts), (2, 1));
    assert!(collector.requests()[0].wire_bytes > plain);
}

async fn a_request_may_have_exactly_as_many_bytes_as_the_limit(wire: Wire) {
    let collector = wire.collector();
    let batch = batch_of(1);
    let bytes = match wire {
        Wire::HttpJson => batch.to_json().len(),
        _ => batch.size(),
    };
    let exporter = |limit| {
        wire.to_collector(&collector)
            .compression(Compression::None)
            .max_request_bytes(limit)
            .build()
            .unwrap()
    };
    let delivery = export(&exporter(bytes), &batch).await.unwrap();
    assert_eq!((delivery.accepted, delivery.attempt.attempts), (1, 1));
    let error = export(&exporter(bytes - 1), &batch).await.unwrap_err();
    assert!(error.is_too_large(), "{error}");
    assert_eq!(error.attempt().attempts, 0);
}

async fn a_giant_span_is_left_with_its_name_and_the_others_arrive(wire: Wire) {
    let collector = wire.collector();
    let batch = batch_with(9, |number, span| {
        if number == 4 {
            span.name = format!("giant {}", "x".repeat(5000));
        }
    });
    let exporter = wire.to_collector(&collector).max_request_bytes(2000);
    let delivery = export(&exporter.build().unwrap(), &batch).await.unwrap();

    assert_eq!((delivery.accepted, delivery.undelivered()), (8, 1));
    let mut small = span_ids(&batch);
    let giant = small.remove(4);
    assert_eq!(collector.span_ids(), small);
    let [left] = delivery.rest.as_slice() else {
        panic!("{delivery:?}");
    };
    assert_eq!(span_ids(&left.batch), [giant]);
    assert_eq!(left.error.kind(), ErrorKind::TooLarge);
    assert!(!left.error.is_temporary());
    let text = left.error.to_string();
    assert!(text.contains("span \"giant xxx"), "{text}");
    assert!(text.contains("limit of 2000"), "{text}");
    assert!(text.len() < 600, "foreign words are bounded: {text}");
}

async fn a_giant_span_alone_is_an_error(wire: Wire) {
    let collector = wire.collector();
    let batch = batch_with(1, |_, span| span.name = "x".repeat(5000));
    let exporter = wire.to_collector(&collector).max_request_bytes(2000);
    let error = export(&exporter.build().unwrap(), &batch)
        .await
        .unwrap_err();
    assert!(error.is_too_large());
    assert_eq!(
        (error.attempt().attempts, error.attempt().wire_bytes),
        (0, 0)
    );
    assert_eq!(collector.connections(), 0);
}

async fn a_server_that_finds_it_too_large_gets_smaller_ones(wire: Wire) {
    let collector = wire.collector();
    collector.always(Answer::AtMost { bytes: 3000 });
    let batch = batch_of(100);
    let delivery = export(&wire.exporter(&collector), &batch).await.unwrap();
    assert_eq!(delivery.accepted, 100);
    assert_eq!(
        collector.span_ids(),
        span_ids(&batch),
        "in order, each once"
    );
    let requests = collector.requests();
    assert_eq!(delivery.attempt.attempts as usize, requests.len());
    let sent: usize = requests.iter().map(|request| request.wire_bytes).sum();
    assert_eq!(
        delivery.attempt.wire_bytes, sent as u64,
        "failed attempts count too"
    );
}

async fn a_server_that_takes_nothing_gets_no_span_for_ever(wire: Wire) {
    let collector = wire.collector();
    collector.always(Answer::AtMost { bytes: 1 });
    let delivery = export(&wire.exporter(&collector), &batch_of(5))
        .await
        .unwrap();
    assert_eq!((delivery.accepted, delivery.undelivered()), (0, 5));
    for left in &delivery.rest {
        assert!(left.error.is_too_large());
        assert_eq!(left.batch.spans(), 1);
    }
    assert!(collector.requests().len() <= 9, "halves, and then one each");
}

async fn each_half_is_refused_or_taken_for_itself(wire: Wire) {
    let collector = wire.collector();
    collector.script([
        Answer::refuse(AnswerCode::TOO_LARGE, "message too large"),
        Answer::refuse(AnswerCode::INVALID_ARGUMENT, "bad data"),
        Answer::partial(1, "one is old"),
    ]);
    let batch = batch_of(6);
    let delivery = export(&wire.exporter(&collector), &batch).await.unwrap();
    assert_eq!(
        (
            delivery.accepted,
            delivery.refused,
            delivery.undelivered(),
            delivery.attempt.attempts
        ),
        (2, 1, 3, 3)
    );
    assert_eq!(delivery.rest[0].error.kind(), ErrorKind::Refused);
    assert_eq!(span_ids(&delivery.rest[0].batch), span_ids(&batch)[..3]);
}

/// What gRPC libraries say; tonic's is a code that OTLP would try again for ever.
#[test]
fn each_grpc_library_s_words_for_too_large_split_the_batch() {
    for (code, words) in [
        (8, "grpc: received message larger than max (5 vs. 4)"),
        (8, "gRPC message exceeds maximum size 4194304: 5000000"),
        (
            11,
            "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes",
        ),
    ] {
        run_test(async {
            let collector = Wire::Grpc.collector();
            collector.script([Answer::refuse(code, words)]);
            let batch = batch_of(4);
            let exporter = Wire::Grpc.exporter(&collector);
            let delivery = export(&exporter, &batch).await.unwrap();
            assert_eq!(
                (delivery.accepted, delivery.attempt.attempts),
                (4, 3),
                "{words}"
            );
            assert_eq!(collector.span_ids(), span_ids(&batch));
        });
    }
}

/// The defaults: 3 MiB over gRPC, because stock servers take 4; 64 MiB over HTTP.
#[test]
fn the_default_limits_fit_stock_servers() {
    run_test(async {
        let large = || batch_with(8, |_, span| span.name = "x".repeat(1 << 20));
        let collector = Wire::Grpc.collector();
        collector.always(Answer::AtMost { bytes: 4 << 20 });
        let batch = large();
        let delivery = export(&Wire::Grpc.exporter(&collector), &batch).await;
        assert_eq!(delivery.unwrap().accepted, 8);
        for request in collector.requests() {
            assert!(request.wire_bytes <= 3 << 20, "{}", request.wire_bytes);
        }
        for wire in [Wire::HttpProtobuf, Wire::HttpJson] {
            let collector = wire.collector();
            export(&wire.exporter(&collector), &large()).await.unwrap();
            assert_eq!(collector.requests().len(), 1);
        }
    });
}

#[test]
fn limits_of_no_bytes_are_a_mistake() {
    let to = || outspan::otlp::http("http://localhost");
    for builder in [to().max_request_bytes(0), to().max_response_bytes(0)] {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains("at least 1 byte"), "{error}");
    }
}

#[test]
fn an_answer_may_have_exactly_as_many_bytes_as_the_limit() {
    const ANSWER: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 10\r\n\r\n0123456789";

    run_test(async {
        for (limit, words) in [(10, ": 0123456789"), (9, "limit of 9 bytes")] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = format!("http://{}", listener.local_addr().unwrap());
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut seen = Vec::new();
                while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                    assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
                }
                stream.write_all(ANSWER).await.unwrap();
                stream
            });
            let exporter = outspan::otlp::http(endpoint).max_response_bytes(limit);
            let exporter = exporter.build().unwrap();
            let error = export(&exporter, &batch_of(1)).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            drop(server.await.unwrap());
        }
    });
}
