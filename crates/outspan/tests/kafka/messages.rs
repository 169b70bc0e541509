//! What messages look like.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use outspan::Export;
use outspan::kafka::Codec;
use outspan::kafka::Encoding;
use outspan::kafka::Key;
use outspan::kafka::Partitioner;
use outspan_testkit::batch_of;
use outspan_testkit::decode;
use outspan_testkit::run_test;
use outspan_testkit::soon;
use prost::Message;

use crate::cluster::Cluster;
use crate::cluster::PARTITIONS;
use crate::support::TOPIC;
use crate::support::export;
use crate::support::exporter;
use crate::support::one_broker;
use crate::support::spans_of;
use crate::support::to;

#[test]
fn a_batch_is_one_message_of_protobuf_without_a_key_on_the_collectors_topic() {
    run_test(async {
        let cluster = one_broker();
        let batch = batch_of(3);
        let delivery = export(&exporter(&cluster), &batch).await.unwrap();
        assert_eq!((delivery.accepted, delivery.attempt.attempts), (3, 1));
        assert_eq!(delivery.attempt.wire_bytes, batch.size() as u64);
        assert_eq!(delivery.attempt.server.as_deref(), Some(cluster.brokers()));

        let messages = cluster.messages(TOPIC);
        let [message] = messages.as_slice() else {
            panic!("{messages:?}");
        };
        assert_eq!((&message.key, &message.headers), (&None, &Vec::new()));
        let request = ExportTraceServiceRequest::decode(&*message.value).unwrap();
        assert_eq!(request, decode(&batch));
    });
}

#[test]
fn json_is_what_others_read_as_the_same_request() {
    run_test(async {
        let cluster = one_broker();
        let exporter = to(&cluster).encoding(Encoding::OtlpJson).build().unwrap();
        let batch = batch_of(2);
        export(&exporter, &batch).await.unwrap();

        let messages = cluster.messages(TOPIC);
        let request: ExportTraceServiceRequest =
            serde_json::from_slice(&messages[0].value).unwrap();
        assert_eq!((messages.len(), request), (1, decode(&batch)));
    });
}

#[test]
fn topic_and_headers_are_the_ones_that_were_asked_for() {
    run_test(async {
        let cluster = Cluster::start(1, &["shop.traces"]);
        let exporter = to(&cluster)
            .topic("shop.traces")
            .header("tenant", "a")
            .header("zone", "b")
            .build()
            .unwrap();
        export(&exporter, &batch_of(1)).await.unwrap();
        let messages = cluster.messages("shop.traces");
        let headers = [
            ("tenant".into(), b"a".to_vec()),
            ("zone".into(), b"b".to_vec()),
        ];
        assert_eq!(messages[0].headers, headers);
    });
}

#[test]
fn every_codec_arrives_as_what_was_sent() {
    run_test(async {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let cluster = one_broker();
            let exporter = to(&cluster).codec(codec).build().unwrap();
            let batch = batch_of(50);
            export(&exporter, &batch).await.unwrap();
            assert_eq!(
                cluster.messages(TOPIC)[0].value,
                **batch.as_request(),
                "{codec:?}"
            );
        }
    });
}

#[test]
fn by_trace_id_there_is_one_message_a_trace_with_the_id_in_lower_case_digits() {
    run_test(async {
        let cluster = one_broker();
        let exporter = to(&cluster).key(Key::TraceId).build().unwrap();
        let traces = [0xABC, 7, 0xABC, u128::MAX, 7, 0xABC];
        let batch = spans_of(&traces, 0);
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!((delivery.accepted, delivery.attempt.attempts), (6, 1));

        let mut found: Vec<(String, Vec<String>)> = Vec::new();
        for message in cluster.messages(TOPIC) {
            let names = message.spans().into_iter().map(|span| span.name).collect();
            found.push((message.key.unwrap(), names));
        }
        found.sort();
        let names = |trace: u128, at: &[usize]| -> Vec<String> {
            at.iter().map(|at| format!("{trace}/{at:04}")).collect()
        };
        let expected = [
            (
                "00000000000000000000000000000007".to_owned(),
                names(7, &[1, 4]),
            ),
            (
                "00000000000000000000000000000abc".to_owned(),
                names(0xABC, &[0, 2, 5]),
            ),
            ("f".repeat(32), names(u128::MAX, &[3])),
        ];
        assert_eq!(found, expected);
    });
}

#[test]
fn a_trace_goes_to_the_partition_that_a_collector_would_choose() {
    run_test(async { assert_partitions(Partitioner::Fnv1a, sarama_partition).await });
}

#[test]
fn a_trace_goes_to_the_partition_that_java_would_choose_when_asked_to() {
    run_test(async { assert_partitions(Partitioner::Murmur2, java_partition).await });
}

async fn assert_partitions(partitioner: Partitioner, expected: impl Fn(&[u8]) -> i32) {
    let cluster = one_broker();
    let exporter = to(&cluster)
        .key(Key::TraceId)
        .partitioner(partitioner)
        .build()
        .unwrap();
    let traces: Vec<u128> = (1..=64_u128)
        .map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835))
        .collect();
    export(&exporter, &spans_of(&traces, 0)).await.unwrap();
    let messages = cluster.messages(TOPIC);
    assert_eq!(messages.len(), traces.len());
    for message in messages {
        let key = message.key.unwrap();
        assert_eq!(message.partition, expected(key.as_bytes()), "{key}");
    }
}

/// FNV-1a over the key; the remainder of the signed number, without its sign.
fn sarama_partition(key: &[u8]) -> i32 {
    let hash = key.iter().fold(0x811C_9DC5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    (hash.cast_signed() % PARTITIONS).abs()
}

/// Murmur2 as Kafka's Java client has it, without the sign bit.
fn java_partition(key: &[u8]) -> i32 {
    const M: u32 = 0x5BD1_E995;

    let mut hash = 0x9747_B28C_u32 ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    assert!(rest.is_empty(), "the keys here are of 32 bytes");
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^= hash >> 15;
    (hash & 0x7FFF_FFFF).cast_signed() % PARTITIONS
}

#[test]
fn the_empty_batch_is_no_message() {
    run_test(async {
        let cluster = one_broker();
        let exporter = exporter(&cluster);
        export(&exporter, &outspan::Batch::empty()).await.unwrap();
        drop(exporter.flush(soon()).await.unwrap());
        assert_eq!(cluster.messages(TOPIC), []);
    });
}
