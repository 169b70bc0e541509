//! Nothing acknowledged is lost, and traces keep their order, whatever the brokers do.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use outspan::Export;
use outspan::Exporter;
use outspan::Retry;
use outspan::kafka::Key;
use outspan_testkit::run_test;
use outspan_testkit::soon;
use rdkafka::types::RDKafkaRespErr;

use crate::cluster::Cluster;
use crate::support::TOPIC;
use crate::support::export;
use crate::support::names;
use crate::support::spans_of;
use crate::support::to;

/// The traces that the tests write to.
const TRACES: [u128; 6] = [1, 2, 3, 4, 5, 6];

fn keyed(cluster: &Cluster) -> Exporter {
    to(cluster).key(Key::TraceId).build().unwrap()
}

/// Checks that in each trace the first appearance of each span comes in the order of their numbers.
fn assert_order(cluster: &Cluster) {
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for name in cluster.span_names(TOPIC) {
        if !seen.insert(name.clone()) {
            continue;
        }
        let (trace, position) = name.split_once('/').unwrap();
        let before = last.insert(trace.to_owned(), position.to_owned());
        assert!(
            before.is_none_or(|before| before.as_str() < position),
            "{name} is late"
        );
    }
}

#[test]
fn leaders_may_change_while_spans_are_written() {
    run_test(async {
        let cluster = Cluster::start(3, &[TOPIC]);
        let exporter = keyed(&cluster);
        let mut sent = Vec::new();
        for round in 0..12 {
            let batch = spans_of(&TRACES, round * TRACES.len());
            // In the middle of it, and between.
            let mut exporting = std::pin::pin!(export(&exporter, &batch));
            assert!(futures_util::poll!(&mut exporting).is_pending());
            cluster.lead(TOPIC, (round % 3) as i32 + 1);
            assert_eq!(exporting.await.unwrap().accepted, TRACES.len() as u64);
            sent.extend(names(&batch));
        }
        let counts = cluster.counts(TOPIC);
        sent.sort();
        assert_eq!(counts.keys().cloned().collect::<Vec<_>>(), sent);
        assert_order(&cluster);
    });
}

#[test]
fn errors_that_pass_lose_nothing_and_change_no_order() {
    run_test(async {
        let cluster = Cluster::start(1, &[TOPIC]);
        let exporter = keyed(&cluster);
        let errors = [
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
        ];
        for (round, error) in errors.into_iter().enumerate() {
            cluster.fail_produce(error, 2);
            // Two at once, so that one may overtake the other if anything lets it.
            let first = spans_of(&TRACES, 2 * round * TRACES.len());
            let second = spans_of(&TRACES, (2 * round + 1) * TRACES.len());
            let (first, second) =
                futures_util::join!(export(&exporter, &first), export(&exporter, &second));
            let accepted = first.unwrap().accepted + second.unwrap().accepted;
            assert_eq!(accepted, 2 * TRACES.len() as u64);
        }
        assert_eq!(cluster.counts(TOPIC).len(), 8 * TRACES.len());
        assert_order(&cluster);
    });
}

#[test]
fn whatever_happens_what_was_acknowledged_is_there_and_what_was_not_is_told() {
    run_test(async {
        for seed in 0..2 {
            trial(seed).await;
        }
    });
}

/// How many exports a trial has.
const ROUNDS: usize = 12;

/// Sends for a while amid trouble, and counts.
async fn trial(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let cluster = Cluster::start(3, &[TOPIC]);
    let exporter = to(&cluster)
        .key(Key::TraceId)
        .delivery_timeout(std::time::Duration::from_secs(1))
        .build()
        .unwrap();
    let mut acknowledged = Vec::new();
    let mut given_back = 0;
    for round in 0..ROUNDS {
        if round % 2 == 0 {
            cluster.up();
        }
        let batch = spans_of(&TRACES, round * TRACES.len());
        let mut exporting = std::pin::pin!(exporter.export(batch.clone(), soon()));
        let started = futures_util::poll!(&mut exporting);
        assert!(
            started.is_pending(),
            "it cannot be done at once: {started:?}"
        );
        trouble(&cluster, &mut random);
        let delivery = match exporting.await {
            Ok(delivery) => delivery,
            Err(error) => {
                given_back += batch.spans();
                assert!(
                    error.is_temporary(),
                    "seed {seed}, round {round}: {error:?}"
                );
                continue;
            }
        };
        let mut rest = BTreeSet::new();
        for part in &delivery.rest {
            assert!(part.error.is_temporary(), "seed {seed}: {:?}", part.error);
            rest.extend(names(&part.batch));
        }
        assert_eq!(rest.len() as u64, delivery.undelivered(), "seed {seed}");
        given_back += rest.len();
        let accepted: Vec<String> = names(&batch)
            .into_iter()
            .filter(|name| !rest.contains(name))
            .collect();
        assert_eq!(accepted.len() as u64, delivery.accepted, "seed {seed}");
        acknowledged.extend(accepted);
    }
    cluster.heal_produce();
    cluster.up();
    drop(exporter.flush(soon()).await.unwrap());
    let exporter = exporter.retry(Retry::default());
    let last = spans_of(&TRACES, ROUNDS * TRACES.len());
    assert_eq!(
        export(&exporter, &last).await.unwrap().accepted,
        TRACES.len() as u64
    );
    acknowledged.extend(names(&last));
    let counts = cluster.counts(TOPIC);
    for name in &acknowledged {
        assert!(
            counts.contains_key(name),
            "seed {seed}: {name} was acknowledged and is lost"
        );
    }
    assert_eq!(
        acknowledged.len() + given_back,
        (ROUNDS + 1) * TRACES.len(),
        "seed {seed}"
    );
}

/// Makes some trouble, or ends it.
fn trouble(cluster: &Cluster, random: &mut fastrand::Rng) {
    match random.u8(0..6) {
        0 => cluster.down(),
        1 => cluster.lead(TOPIC, random.i32(1..=3)),
        2 => cluster.fail_produce(RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, 3),
        3 => cluster.fail_produce(RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT, 1),
        _ => cluster.up(),
    }
}
