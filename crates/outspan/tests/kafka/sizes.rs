//! Messages that are too large, for us and for the broker.

use outspan::ErrorKind;
use outspan::kafka::Encoding;
use outspan::kafka::Key;
use outspan_testkit::batch_with;
use outspan_testkit::run_test;
use rdkafka::types::RDKafkaRespErr;

use crate::support::TOPIC;
use crate::support::export;
use crate::support::exporter;
use crate::support::names;
use crate::support::one_broker;
use crate::support::spans_of;
use crate::support::to;

const TOO_LARGE: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;

/// A batch of spans whose names have so many bytes.
fn batch_of_names(lengths: &[usize]) -> outspan::Batch {
    batch_with(lengths.len(), |index, span| {
        span.name = format!("{index:04}{}", "x".repeat(lengths[index]));
    })
}

#[test]
fn a_batch_above_the_limit_is_split_and_every_message_keeps_it() {
    run_test(async {
        const LIMIT: usize = 4_000;

        for encoding in [Encoding::OtlpProto, Encoding::OtlpJson] {
            let cluster = one_broker();
            let exporter = to(&cluster)
                .encoding(encoding)
                .message_bytes_max(LIMIT)
                .build()
                .unwrap();
            let batch = batch_of_names(&[300; 100]);
            let delivery = export(&exporter, &batch).await.unwrap();
            assert_eq!((delivery.accepted, delivery.rest.len()), (100, 0));
            let messages = cluster.messages(TOPIC);
            assert!(messages.len() > 9, "{}", messages.len());
            assert!(messages.iter().all(|message| message.value.len() <= LIMIT));
            let mut found = cluster.span_names(TOPIC);
            found.sort();
            assert_eq!(found, names(&batch), "{encoding:?}");
        }
    });
}

#[test]
fn a_span_above_the_limit_is_left_and_the_others_go() {
    run_test(async {
        let cluster = one_broker();
        let exporter = to(&cluster).message_bytes_max(4_000).build().unwrap();
        let batch = batch_of_names(&[10, 5_000, 20, 6_000]);
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!(delivery.accepted, 2);
        let [rest] = delivery.rest.as_slice() else {
            panic!("{delivery:?}");
        };
        assert_eq!(rest.error.kind(), ErrorKind::TooLarge);
        assert!(!rest.error.is_temporary());
        let all = names(&batch);
        assert_eq!(names(&rest.batch), [all[1].clone(), all[3].clone()]);
        assert_eq!(cluster.span_names(TOPIC).len(), 2);
    });
}

#[test]
fn a_message_that_the_broker_finds_too_large_is_halved_until_it_fits() {
    run_test(async {
        let cluster = one_broker();
        // The first answer may be about company; alone it is too large twice more.
        cluster.fail_produce(TOO_LARGE, 3);
        let batch = spans_of(&[1; 8], 0);
        let delivery = export(&exporter(&cluster), &batch).await.unwrap();
        // The whole twice, then parts of 4, 2, 2 and 4 spans.
        assert_eq!((delivery.accepted, delivery.attempt.attempts), (8, 6));
        let messages = cluster.messages(TOPIC);
        let mut sizes: Vec<usize> = messages
            .iter()
            .map(|message| message.spans().len())
            .collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [2, 2, 4]);
        let mut found = cluster.span_names(TOPIC);
        found.sort();
        assert_eq!(found, names(&batch), "each once");
    });
}

#[test]
fn spans_that_the_broker_finds_too_large_even_alone_are_told_as_such() {
    run_test(async {
        let cluster = one_broker();
        cluster.fail_produce(TOO_LARGE, 1_000);
        let exporter = to(&cluster).key(Key::TraceId).build().unwrap();
        let batch = spans_of(&[1, 2, 3, 1], 0);
        // Each part has an error of its own.
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!((delivery.accepted, delivery.undelivered()), (0, 4));
        for left in &delivery.rest {
            assert_eq!(left.error.kind(), ErrorKind::TooLarge, "{}", left.error);
            assert!(!left.error.is_temporary());
        }
        assert_eq!(cluster.span_names(TOPIC), [""; 0]);

        cluster.heal_produce();
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!(delivery.accepted, 4);
    });
}

#[test]
fn messages_that_were_too_large_only_together_go_one_at_a_time() {
    run_test(async {
        let cluster = one_broker();
        // One set a partition at most; each refused once.
        cluster.fail_produce(TOO_LARGE, 1);
        let exporter = to(&cluster).key(Key::TraceId).build().unwrap();
        let traces: Vec<u128> = (1..=32).collect();
        let batch = spans_of(&traces, 0);
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!((delivery.accepted, delivery.rest.len()), (32, 0));
        assert!(
            cluster
                .messages(TOPIC)
                .iter()
                .all(|message| message.spans().len() == 1)
        );
        assert_eq!(cluster.counts(TOPIC).len(), 32);
    });
}
