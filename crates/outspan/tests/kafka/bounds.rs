//! What it holds, and what it says and shows.

use std::time::Duration;

use outspan::Deadline;
use outspan::ErrorKind;
use outspan::Export;
use outspan::kafka;
use outspan::kafka::Acks;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;
use outspan_testkit::run_test;
use outspan_testkit::soon;
use outspan_testkit::watched_batch;

use crate::support::TOPIC;
use crate::support::export;
use crate::support::exporter;
use crate::support::one_broker;
use crate::support::to;

#[test]
fn a_full_queue_keeps_exports_waiting_until_there_is_room() {
    run_test(async {
        let cluster = one_broker();
        let exporter = to(&cluster)
            .message_bytes_max(20_000)
            .queue_bytes_max(40_000)
            .build()
            .unwrap();
        let large = || batch_with(1, |_, span| span.name = "x".repeat(15_000));
        export(&exporter, &large()).await.unwrap();
        cluster.down();
        let (first, second, third) = (large(), large(), large());
        let mut filling = std::pin::pin!(async {
            futures_util::join!(export(&exporter, &first), export(&exporter, &second))
        });
        assert!(futures_util::poll!(&mut filling).is_pending());

        let until = Deadline::after(Duration::from_millis(200)).named("test's own");
        let error = exporter.export(third.clone(), until).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let text = error.to_string();
        assert!(
            text.contains("no room") && text.contains("test's own"),
            "{text}"
        );

        let mut waiting = std::pin::pin!(export(&exporter, &third));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        cluster.up();
        let (first, second) = filling.await;
        assert_eq!(first.unwrap().accepted + second.unwrap().accepted, 2);
        assert_eq!(waiting.await.unwrap().accepted, 1);
        assert_eq!(cluster.messages(TOPIC).len(), 4);
    });
}

#[test]
fn a_dropped_export_frees_its_batch_and_the_next_one_works() {
    run_test(async {
        let cluster = one_broker();
        let exporter = exporter(&cluster);
        cluster.down();
        for polls in 0..3 {
            let (batch, released) = watched_batch(3);
            {
                let mut exporting = std::pin::pin!(exporter.export(batch, soon()));
                for _ in 0..polls {
                    assert!(futures_util::poll!(&mut exporting).is_pending());
                }
            }
            released.by(soon()).await;
        }
        cluster.up();
        assert_eq!(export(&exporter, &batch_of(2)).await.unwrap().accepted, 2);
        // What was handed over before it was dropped may come; a flush waits for it.
        drop(exporter.flush(soon()).await.unwrap());
        assert_eq!(cluster.messages(TOPIC).len(), 3);
    });
}

#[test]
fn a_shutdown_gives_up_at_its_deadline_and_running_exports_hear_of_it() {
    run_test(async {
        let cluster = one_broker();
        let exporter = exporter(&cluster);
        cluster.down();
        let batch = batch_of(1);
        let mut exporting = std::pin::pin!(exporter.export(batch, Deadline::never()));
        assert!(futures_util::poll!(&mut exporting).is_pending());
        let until = Deadline::after(Duration::from_millis(100));
        let (ended, error) = futures_util::join!(exporter.shutdown(until), exporting);
        assert!(ended.is_ok());
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ShutDown, "{error}");
    });
}

#[test]
fn what_is_wrong_is_found_when_building() {
    let good = || kafka::brokers("localhost:9092");
    let cases = [
        (kafka::brokers(""), "an address is missing"),
        (kafka::brokers("a:1,,b:2"), "an address is missing"),
        (kafka::brokers("kafka://a:1"), "use host:port"),
        (good().topic("a b"), "invalid topic \"a b\""),
        (good().topic(""), "invalid topic \"\""),
        (
            good().message_bytes_max(100),
            "invalid message_bytes_max 100",
        ),
        (good().queue_bytes_max(100), "invalid queue_bytes_max 100"),
        (
            good().delivery_timeout(Duration::ZERO),
            "invalid delivery_timeout 0ns",
        ),
        (good().acks(Acks::Leader).idempotence(true), "all replicas"),
        (
            good().property("no.such", "1"),
            "unknown property \"no.such\"",
        ),
        (
            good().property("linger.ms", "hunter2"),
            "invalid value of the property linger.ms",
        ),
        (
            good().property("acks", "0"),
            "property acks cannot be set: use `acks`",
        ),
    ];
    for (builder, expected) in cases {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let text = error.to_string();
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[cfg(not(feature = "kafka-tls"))]
#[test]
fn tls_without_its_feature_is_a_mistake_that_names_it() {
    let builder = kafka::brokers("localhost:9093").property("security.protocol", "ssl");
    let error = builder.build().unwrap_err();
    assert!(error.to_string().contains("kafka-tls"), "{error}");
}

#[cfg(feature = "kafka-tls")]
#[test]
fn tls_and_scram_can_be_configured() {
    let builder = kafka::brokers("localhost:9093")
        .property("security.protocol", "sasl_ssl")
        .property("sasl.mechanism", "SCRAM-SHA-512")
        .property("sasl.username", "shop")
        .property("sasl.password", "hunter2");
    let shown = format!("{builder:?}");
    let exporter = builder.build().unwrap();
    assert!(!shown.contains("hunter2") && !format!("{exporter:?}").contains("hunter2"));
}

#[test]
fn the_options_of_the_collectors_defaults_work_as_well() {
    run_test(async {
        let cluster = one_broker();
        let exporter = to(&cluster).acks(Acks::Leader).build().unwrap();
        assert_eq!(export(&exporter, &batch_of(1)).await.unwrap().accepted, 1);
    });
}
