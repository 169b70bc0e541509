//! gzip and zstd, each batch compressed once.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use outspan::Batch;
use outspan::Compression;
use outspan::Exporter;
use outspan::Retry;
use outspan::otlp::OutgoingRequest;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;
use outspan_testkit::batch_of;
use outspan_testkit::decode;

use crate::support::Wire;
use crate::support::export;

over_each_wire![
    compressed_requests_arrive_whole,
    a_level_is_obeyed,
    a_batch_is_compressed_once_for_all_attempts_clones_and_equal_destinations,
    compressed_answers_are_not_asked_for,
    a_server_without_the_compression_says_so,
];

/// Checklist rules 1, 41.
async fn compressed_requests_arrive_whole(wire: Wire) {
    let collector = wire.collector();
    for (compression, name) in [(Compression::Gzip, "gzip"), (Compression::Zstd, "zstd")] {
        // Small ones are compressed on the spot, large ones beside the runtime.
        for spans in [1, 10, 5000] {
            collector.clear();
            let exporter = wire.to_collector(&collector).compression(compression);
            let exporter = exporter.build().unwrap();
            let batch = batch_of(spans);
            let delivery = export(&exporter, &batch).await.unwrap();
            assert_eq!(delivery.accepted, spans as u64);
            // The collector answers in the same compression, as servers in Go do.
            let offered = (wire == Wire::Grpc).then_some(name);
            let request = &collector.requests()[0];
            assert_eq!(request.header("grpc-accept-encoding"), offered);
            assert_eq!(request.compression(), Some(name));
            assert_eq!(request.body, decode(&batch));
            assert_eq!(delivery.attempt.wire_bytes, request.wire_bytes as u64);
            if spans > 1 {
                assert!(request.wire_bytes < request.message.len() / 2);
            }
        }
    }
}

async fn a_level_is_obeyed(wire: Wire) {
    for (compression, low, high) in [(Compression::Gzip, 0, 9), (Compression::Zstd, 1, 19)] {
        // The same batch, since the spans' numbers grow from one to the next and with them what compresses.
        let batch = batch_of(500);
        let mut sizes = Vec::new();
        for level in [low, high] {
            let collector = wire.collector();
            let exporter = wire
                .to_collector(&collector)
                .compression(compression)
                .compression_level(level);
            export(&exporter.build().unwrap(), &batch).await.unwrap();
            sizes.push(collector.requests()[0].wire_bytes);
        }
        assert!(sizes[1] < sizes[0], "{compression}: {sizes:?}");
    }
}

/// Where the bytes of each attempt lie, and how many they are.
type Seen = Arc<Mutex<Vec<(usize, usize)>>>;

fn watched(wire: Wire, collector: &Collector, seen: &Seen, level: u32) -> Exporter {
    let seen = Arc::clone(seen);
    wire.to_collector(collector)
        .compression(Compression::Gzip)
        .compression_level(level)
        .interceptor(move |request: &mut OutgoingRequest<'_>| {
            let body = request.body();
            seen.lock()
                .unwrap()
                .push((body.as_ptr() as usize, body.len()));
            Ok(())
        })
        .build()
        .unwrap()
        .retry(Retry::default().initial_interval(Duration::from_millis(1)))
}

async fn a_batch_is_compressed_once_for_all_attempts_clones_and_equal_destinations(wire: Wire) {
    let (one, other) = (wire.collector(), wire.collector());
    let not_now = Answer::refuse(AnswerCode::UNAVAILABLE, "not now");
    one.script([not_now.clone(), not_now]);
    let seen = Seen::default();
    let to_one = watched(wire, &one, &seen, 6);
    let to_other = watched(wire, &other, &seen, 6);
    let batch: Batch = batch_of(3000);
    let plain = batch.memory();
    assert!(plain >= batch.size());

    export(&to_one, &batch).await.unwrap();
    let compressed = one.requests()[0].wire_bytes;
    assert_eq!(batch.memory(), plain + compressed, "it counts as memory");
    export(&to_other, &batch.clone()).await.unwrap();
    assert_eq!(batch.memory(), plain + compressed);
    let bodies = seen.lock().unwrap().clone();
    assert_eq!(bodies.len(), 4);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");

    let at_another_level = watched(wire, &other, &seen, 1);
    export(&at_another_level, &batch).await.unwrap();
    let last = seen.lock().unwrap().last().copied().unwrap();
    assert_ne!(last, bodies[0]);
    assert_eq!(batch.memory(), plain + compressed + last.1);
}

/// Checklist rule 42: what is not offered need not be read; answers are a few bytes.
async fn compressed_answers_are_not_asked_for(wire: Wire) {
    let collector = wire.set_up();
    let collector = collector
        .compress_answers(outspan_testkit::Compression::Gzip)
        .start();
    collector.always(Answer::partial(1, "one"));
    let delivery = export(&wire.exporter(&collector), &batch_of(2))
        .await
        .unwrap();
    assert_eq!((delivery.accepted, delivery.refused), (1, 1));
    let requests = collector.requests();
    assert_eq!(requests[0].header("accept-encoding"), None);
    assert_eq!(requests[0].header("grpc-accept-encoding"), None);
}

async fn a_server_without_the_compression_says_so(wire: Wire) {
    let collector = wire.collector();
    let refusal = match wire {
        Wire::Grpc => Answer::refuse(12, "compression zstd is not supported"),
        _ => Answer::refuse(415, "content encoding zstd is not supported"),
    };
    collector.always(refusal);
    let exporter = wire
        .to_collector(&collector)
        .compression(Compression::Zstd)
        .build()
        .unwrap();
    let error = export(&exporter, &batch_of(1)).await.unwrap_err();
    assert!(!error.is_temporary());
    assert!(
        error.to_string().contains("zstd is not supported"),
        "{error}"
    );
}
