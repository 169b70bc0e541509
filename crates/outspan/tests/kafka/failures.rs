//! Brokers that are away, slow, or say no.

use std::time::Duration;

use outspan::Deadline;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Retry;
use outspan::kafka;
use outspan::kafka::Key;
use outspan_testkit::batch_of;
use outspan_testkit::run_test;
use outspan_testkit::soon;
use rdkafka::types::RDKafkaApiKey;
use rdkafka::types::RDKafkaRespErr;

use crate::cluster::Cluster;
use crate::support::TOPIC;
use crate::support::export;
use crate::support::exporter;
use crate::support::names;
use crate::support::one_broker;
use crate::support::spans_of;
use crate::support::to;

#[test]
fn what_is_exported_while_the_brokers_are_away_arrives_when_they_are_back() {
    run_test(async {
        let cluster = Cluster::start(2, &[TOPIC]);
        let exporter = exporter(&cluster);
        export(&exporter, &spans_of(&[1], 0)).await.unwrap();
        cluster.down();
        let batch = spans_of(&[1], 1);
        let mut exporting = std::pin::pin!(export(&exporter, &batch));
        let early = tokio::time::timeout(Duration::from_millis(200), &mut exporting).await;
        assert!(early.is_err(), "nobody can have answered: {early:?}");
        cluster.up();
        assert_eq!(exporting.await.unwrap().accepted, 1);
        let counts = cluster.counts(TOPIC);
        assert!(
            counts.values().all(|count| *count == 1) && counts.len() == 2,
            "{counts:?}"
        );
    });
}

#[test]
fn an_outage_longer_than_a_delivery_may_take_is_temporary_and_says_why() {
    run_test(async {
        let cluster = one_broker();
        let exporter = to(&cluster)
            .delivery_timeout(Duration::from_millis(400))
            .build()
            .unwrap();
        cluster.down();
        let batch = spans_of(&[1, 2, 3], 0);
        let error = export(&exporter, &batch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.is_temporary());
        let text = error.to_string();
        assert!(text.contains("delivery timeout of 400ms"), "{text}");
        assert!(text.contains("topic: otlp_spans"), "{text}");
        assert!(text.contains("Kafka's library says: "), "{text}");

        cluster.up();
        let exporter = exporter.retry(Retry::default());
        assert_eq!(export(&exporter, &batch).await.unwrap().accepted, 3);
        let found = cluster.counts(TOPIC);
        assert_eq!(found.into_keys().collect::<Vec<_>>(), names(&batch));
    });
}

#[test]
fn what_is_not_acknowledged_is_left_exactly() {
    run_test(async {
        let cluster = one_broker();
        let exporter = to(&cluster).key(Key::TraceId).build().unwrap();
        // One answer is one partition's: the others go.
        cluster.fail_produce(
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            1,
        );
        let traces: Vec<u128> = (1..=40).collect();
        let batch = spans_of(&traces, 0);
        let delivery = export(&exporter, &batch).await.unwrap();
        let [rest] = delivery.rest.as_slice() else {
            panic!("{delivery:?}");
        };
        assert_eq!(rest.error.kind(), ErrorKind::Refused);
        assert!(rest.error.to_string().contains("rights"), "{}", rest.error);
        assert!(delivery.accepted > 0, "{delivery:?}");
        assert_eq!(delivery.accepted + delivery.undelivered(), 40);

        let mut all = cluster.span_names(TOPIC);
        assert_eq!(all.len() as u64, delivery.accepted);
        all.extend(names(&rest.batch));
        all.sort();
        let mut expected = names(&batch);
        expected.sort();
        assert_eq!(all, expected, "delivered and left are the whole");
    });
}

#[test]
fn a_throttled_producer_is_told_so_and_a_retry_delivers() {
    run_test(async {
        let cluster = one_broker();
        let exporter = exporter(&cluster);
        let throttled = RDKafkaRespErr::RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED;
        cluster.fail_produce(throttled, 1);
        let batch = batch_of(2);
        let error = export(&exporter, &batch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Throttled, "{error}");
        assert!(error.is_temporary());

        cluster.fail_produce(throttled, 2);
        let retry = Retry::default().initial_interval(Duration::from_millis(10));
        let delivery = exporter.retry(retry).export(batch, soon()).await.unwrap();
        assert_eq!(delivery.accepted, 2);
        assert_eq!(cluster.messages(TOPIC).len(), 1);
    });
}

#[test]
fn brokers_that_answer_late_are_waited_for() {
    run_test(async {
        let cluster = one_broker();
        cluster.delay(Duration::from_millis(300));
        let exporter = exporter(&cluster);
        let delivery = export(&exporter, &batch_of(2)).await.unwrap();
        assert_eq!(delivery.accepted, 2);
    });
}

#[test]
fn a_topic_that_is_not_there_is_temporary_and_says_what_to_do() {
    run_test(async {
        let cluster = one_broker();
        let topic = "missing";
        let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        cluster.with(move |mock| mock.topic_error(topic, unknown).unwrap());
        let exporter = to(&cluster)
            .topic(topic)
            .property("topic.metadata.propagation.max.ms", "100")
            .build()
            .unwrap();
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert!(error.is_temporary(), "{error:?}");
        assert!(error.to_string().contains("create the topic"), "{error}");
    });
}

#[test]
fn a_producer_that_broke_is_replaced() {
    run_test(async {
        let cluster = one_broker();
        cluster.with(|mock| {
            let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
            mock.request_errors(RDKafkaApiKey::InitProducerId, &[denied]);
        });
        let exporter = exporter(&cluster);
        let error = export(&exporter, &batch_of(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");

        let until = soon();
        let delivery = loop {
            match exporter.export(batch_of(1), until).await {
                Ok(delivery) => break delivery,
                Err(error) => assert!(!until.has_passed(), "it stays broken: {error}"),
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(delivery.accepted, 1);
    });
}

#[test]
fn nobody_there_at_all_is_an_error_by_the_deadline() {
    run_test(async {
        // A port of ours that nobody listens on.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        drop(socket);
        let exporter = kafka::brokers(address).build().unwrap();
        let until = Deadline::after(Duration::from_millis(300)).named("test's own");
        let error = exporter.export(batch_of(1), until).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("test's own"), "{error}");
        let until = Deadline::after(Duration::from_millis(300));
        assert!(exporter.shutdown(until).await.is_ok());
    });
}
