//! Datagrams for Jaeger's agent: real ones, on loopback, read with the `thrift` crate.

#![cfg(feature = "jaeger")]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Waker;
use std::time::Duration;
use std::time::Instant;

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use outspan::Batch;
use outspan::Deadline;
use outspan::DropReason;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Retry;
use outspan::jaeger;
use outspan::jaeger::AgentBuilder;
use outspan::jaeger::Protocol;
use outspan_testkit::batch_from;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;
use outspan_testkit::request_with;
use outspan_testkit::soon;
use outspan_testkit::span_ids;
use outspan_testkit::watched_batch;

use crate::jaeger_agent_fake::FakeAgent;

fn exporter(agent: &FakeAgent, change: impl FnOnce(AgentBuilder) -> AgentBuilder) -> Exporter {
    change(jaeger::agent(agent.address())).build().unwrap()
}

/// A batch of spans with names of so many bytes.
fn batch_of_long(spans: usize, bytes: usize) -> Batch {
    batch_with(spans, |_, span| span.name = "n".repeat(bytes))
}

#[tokio::test]
async fn spans_arrive_in_the_protocol_of_the_port() {
    for protocol in [Protocol::Compact, Protocol::Binary] {
        let agent = FakeAgent::start();
        let exporter = exporter(&agent, |builder| builder.protocol(protocol));
        let batch = batch_with(3, |i, span| span.name = format!("span {i}"));
        let delivery = exporter.export(batch.clone(), soon()).await.unwrap();

        let packets = agent.packets();
        let [packet] = packets.as_slice() else {
            panic!("{packets:?}");
        };
        assert_eq!(packet.is_compact, protocol == Protocol::Compact);
        assert_eq!(packet.service, "promises");
        let names: Vec<&str> = packet.spans.iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["span 0", "span 1", "span 2"]);
        assert_eq!(agent.span_ids(), span_ids(&batch));
        let sent = batch.iter().next().unwrap();
        let trace_id = u128::from_be_bytes(sent.trace_id_bytes().try_into().unwrap());
        let (high, low) = packet.spans[0].trace_id;
        assert_eq!((high, low), ((trace_id >> 64) as i64, trace_id as i64));

        assert!(delivery.is_complete(), "{delivery:?}");
        assert_eq!((delivery.accepted, delivery.attempt.attempts), (3, 1));
        assert_eq!(delivery.attempt.wire_bytes, packet.bytes as u64);
        assert_eq!(
            delivery.attempt.server.as_deref(),
            Some(agent.address().as_str())
        );
    }
}

#[tokio::test]
async fn version_6_of_the_internet_works_as_well() {
    let agent = FakeAgent::on("[::1]:0");
    let exporter = exporter(&agent, |builder| builder);
    let delivery = exporter.export(batch_of(2), soon()).await.unwrap();
    assert_eq!(delivery.accepted, 2);
    assert_eq!(agent.spans().len(), 2);
}

#[tokio::test]
async fn a_name_is_looked_up() {
    let agent = FakeAgent::start();
    let port = agent.address().rsplit_once(':').unwrap().1.to_owned();
    let exporter = jaeger::agent(format!("localhost:{port}")).build().unwrap();
    for spans in [1, 2] {
        let delivery = exporter.export(batch_of(spans), soon()).await.unwrap();
        assert_eq!(delivery.accepted, spans as u64);
    }
    assert_eq!(agent.spans().len(), 3);
}

#[tokio::test]
async fn packets_are_filled_up_to_the_limit() {
    const LIMIT: usize = 4_000;

    for protocol in [Protocol::Compact, Protocol::Binary] {
        let agent = FakeAgent::start();
        let exporter = exporter(&agent, |builder| {
            builder.protocol(protocol).max_packet_bytes(LIMIT)
        });
        let batch = batch_of_long(40, 500);
        let delivery = exporter.export(batch.clone(), soon()).await.unwrap();
        assert!(delivery.is_complete(), "{delivery:?}");

        let packets = agent.packets();
        assert_eq!(agent.span_ids(), span_ids(&batch), "in order, each once");
        assert_eq!(delivery.attempt.attempts as usize, packets.len());
        let span = packets[0].bytes / packets[0].spans.len();
        for packet in &packets {
            assert!(packet.bytes <= LIMIT, "{}", packet.bytes);
            assert_eq!(packet.service, "promises");
        }
        for packet in &packets[..packets.len() - 1] {
            assert!(
                packet.bytes + span > LIMIT,
                "{} could have been more",
                packet.bytes
            );
        }
    }
}

#[tokio::test]
async fn the_largest_datagrams_arrive() {
    let agent = FakeAgent::start();
    let exporter = exporter(&agent, |builder| builder.max_packet_bytes(65_507));
    let batch = batch_of_long(650, 100);
    let delivery = exporter.export(batch.clone(), soon()).await.unwrap();
    assert!(delivery.is_complete(), "{delivery:?}");
    assert_eq!(agent.span_ids(), span_ids(&batch));
    let largest = agent.packets().iter().map(|packet| packet.bytes).max();
    assert!(largest > Some(65_000), "{largest:?}");
}

#[tokio::test]
async fn each_resource_has_packets_of_its_own() {
    let agent = FakeAgent::start();
    let exporter = exporter(&agent, |builder| builder);
    let mut request = request_with(2, |_, _| {});
    for (name, spans) in [("cart", 3), ("pay", 1)] {
        let mut other = request_with(spans, |_, _| {}).resource_spans.remove(0);
        let text = Value::StringValue(name.to_owned());
        other.resource.as_mut().unwrap().attributes = vec![
            attribute("service.name", text.clone()),
            attribute("zone", text),
        ];
        request.resource_spans.push(other);
    }
    let batch = batch_from(&request);
    let delivery = exporter.export(batch.clone(), soon()).await.unwrap();
    assert_eq!(delivery.accepted, 6);

    let packets = agent.packets();
    let seen: Vec<(&str, Option<&str>, usize)> = packets
        .iter()
        .map(|packet| {
            let zone = packet.tags.get("zone").map(String::as_str);
            (&*packet.service, zone, packet.spans.len())
        })
        .collect();
    let expected = [
        ("promises", None, 2),
        ("cart", Some("cart"), 3),
        ("pay", Some("pay"), 1),
    ];
    assert_eq!(seen, expected);
    assert_eq!(agent.span_ids(), span_ids(&batch));
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

#[tokio::test]
async fn spans_that_fit_into_no_packet_are_left_and_the_others_go() {
    let agent = FakeAgent::start();
    let exporter = exporter(&agent, |builder| builder.max_packet_bytes(2_000));
    let is_long = |i: usize| matches!(i, 0 | 3 | 4 | 9);
    let batch = batch_with(10, |i, span| {
        let bytes = if is_long(i) { 3_000 + i } else { 10 };
        span.name = "n".repeat(bytes);
    });
    let delivery = exporter.export(batch.clone(), soon()).await.unwrap();

    assert_eq!(delivery.accepted, 6);
    assert_eq!(delivery.undelivered(), 4);
    let ids = span_ids(&batch);
    let left: Vec<_> = delivery
        .rest
        .iter()
        .flat_map(|part| span_ids(&part.batch))
        .collect();
    assert_eq!(left, [0, 3, 4, 9].map(|i| ids[i].clone()));
    for part in &delivery.rest {
        assert_eq!(part.batch.spans(), 1, "nothing is left to split");
        assert_eq!(part.error.kind(), ErrorKind::TooLarge);
        assert_eq!(part.error.drop_reason(), DropReason::TooLarge);
        let text = part.error.to_string();
        assert!(text.contains("limit of 2000"), "{text}");
        assert!(text.len() < 1_000, "names are cut: {text}");
    }
    let arrived = agent.span_ids();
    let arrived: BTreeSet<_> = arrived.iter().collect();
    let expected: BTreeSet<_> = (0..10).filter(|i| !is_long(*i)).map(|i| &ids[i]).collect();
    assert_eq!(arrived, expected);
}

#[tokio::test]
async fn one_span_that_fits_into_no_packet_is_an_error() {
    let agent = FakeAgent::start();
    let exporter = exporter(&agent, |builder| builder.max_packet_bytes(2_000));
    let error = exporter
        .export(batch_of_long(1, 5_000), soon())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(!error.is_temporary());
    assert_eq!(agent.packets().len(), 0);
}

#[tokio::test]
async fn nothing_is_lost_while_nobody_listens() {
    let agent = FakeAgent::start();
    let exporter = exporter(&agent, |builder| builder.max_packet_bytes(2_000));
    let before = batch_of(2);
    exporter.export(before.clone(), soon()).await.unwrap();
    agent.stop();
    let during = batch_of_long(10, 500);
    for _ in 0..3 {
        let error = exporter.export(during.clone(), soon()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.is_temporary());
        assert!(
            error.to_string().contains("nothing listens there"),
            "{error}"
        );
    }
    agent.restart();
    for batch in [&during, &batch_of(1)] {
        let delivery = exporter.export(batch.clone(), soon()).await.unwrap();
        assert!(delivery.is_complete(), "{delivery:?}");
    }
    let arrived = agent.span_ids();
    let expected = [span_ids(&before), span_ids(&during)].concat();
    assert_eq!(arrived[..12], expected);
    assert_eq!(arrived.len(), 13);
}

#[tokio::test]
async fn a_retry_sends_what_an_absent_agent_missed() {
    let agent = Arc::new(FakeAgent::start());
    agent.stop();
    let back = Arc::clone(&agent);
    let retry = Retry::default()
        .initial_interval(Duration::from_millis(1))
        .on_retry(move |_event| back.restart());
    let exporter = exporter(&agent, |builder| builder).retry(retry);
    let batch = batch_of(5);
    let delivery = exporter.export(batch.clone(), soon()).await.unwrap();
    assert!(delivery.is_complete(), "{delivery:?}");
    assert_eq!(delivery.attempt.attempts, 2);
    assert_eq!(agent.span_ids(), span_ids(&batch));
}

#[tokio::test]
async fn the_pace_is_kept() {
    // Beyond the first 96 KiB there are about 55 KB, at 200 KB a second.
    const PER_SECOND: usize = 200_000;

    let agent = FakeAgent::start();
    let exporter = exporter(&agent, |builder| {
        builder
            .bytes_per_second(PER_SECOND)
            .max_packet_bytes(10_000)
    });
    let begin = Instant::now();
    let mut sent = 0;
    for _ in 0..3 {
        let delivery = exporter
            .export(batch_of_long(50, 1_000), soon())
            .await
            .unwrap();
        assert!(delivery.is_complete(), "{delivery:?}");
        sent += delivery.attempt.wire_bytes as usize;
        agent.packets();
    }
    let least = Duration::from_secs_f64((sent - 96 * 1024) as f64 / PER_SECOND as f64);
    assert!(
        least > Duration::from_millis(200),
        "{sent} bytes are too few to tell"
    );
    let took = begin.elapsed();
    assert!(took >= least, "{sent} bytes took {took:?}");
    assert_eq!(agent.spans().len(), 150);
}

#[tokio::test]
async fn what_the_deadline_leaves_is_the_exact_rest() {
    let agent = FakeAgent::start();
    let exporter = exporter(&agent, |builder| {
        builder.bytes_per_second(1).max_packet_bytes(30_000)
    });
    let batch = batch_of_long(200, 1_000);
    let until = Deadline::after(Duration::from_millis(200)).named("attempt timeout");
    let delivery = exporter.export(batch.clone(), until).await.unwrap();

    let [left] = delivery.rest.as_slice() else {
        panic!("{delivery:?}");
    };
    assert_eq!(left.error.kind(), ErrorKind::Timeout);
    assert!(
        left.error.to_string().contains("attempt timeout"),
        "{}",
        left.error
    );
    let arrived = agent.span_ids();
    assert_eq!(delivery.accepted, arrived.len() as u64);
    assert!((50..=98).contains(&arrived.len()), "{}", arrived.len());
    assert_eq!([arrived, span_ids(&left.batch)].concat(), span_ids(&batch));

    let passed = Deadline::after(Duration::ZERO);
    let error = exporter.export(batch_of(1), passed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn an_export_waits_for_the_one_before_no_longer_than_its_deadline() {
    let agent = FakeAgent::start();
    let exporter = exporter(&agent, |builder| builder.bytes_per_second(1));
    let mut slow = pin!(exporter.export(batch_of_long(200, 1_000), soon()));
    let until = Deadline::after(Duration::from_millis(200)).named("attempt timeout");
    let error = tokio::select! {
        biased;
        ended = &mut slow => panic!("{ended:?}"),
        // The first export got there first: it was polled before.
        waited = exporter.export(batch_of(1), until) => waited.unwrap_err(),
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("attempt timeout"), "{error}");
}

#[tokio::test]
async fn a_dropped_export_frees_its_batch_and_the_next_one_goes() {
    let agent = FakeAgent::start();
    let exporter = exporter(&agent, |builder| builder);
    for polls in 0..6 {
        let (batch, released) = watched_batch(3);
        {
            let mut exporting = pin!(exporter.export(batch, soon()));
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..polls {
                if exporting.as_mut().poll(&mut context).is_ready() {
                    break;
                }
            }
        }
        released.by(soon()).await;
    }
    // Held back by the pace, it is dropped in the middle.
    let slow = jaeger::agent(agent.address())
        .bytes_per_second(1)
        .build()
        .unwrap();
    slow.export(batch_of_long(70, 1_000), soon()).await.unwrap();
    let (batch, released) = watched_batch(1_000);
    let short = tokio::time::timeout(Duration::from_millis(100), slow.export(batch, soon()));
    assert!(short.await.is_err(), "the pace allows no more");
    released.by(soon()).await;

    agent.packets();
    let batch = batch_of(2);
    exporter.export(batch.clone(), soon()).await.unwrap();
    assert!(agent.span_ids().ends_with(&span_ids(&batch)));
}

#[tokio::test]
async fn a_host_without_an_address_is_temporarily_unavailable() {
    let exporter = jaeger::agent("no-such-host.invalid").build().unwrap();
    let error = exporter.export(batch_of(1), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_temporary());
    let text = error.to_string();
    assert!(text.contains("no-such-host.invalid:6831"), "{text}");
}
