//! Balance around scripted exporters under a paused clock, and around real servers.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use outspan::Batch;
use outspan::Delivery;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::Retry;
use outspan::combinators::Balance;
use outspan::combinators::BalanceBy;
use outspan::combinators::Breaker;
use outspan::combinators::FanOut;
use outspan_testkit::Act;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::SpanId;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;
use outspan_testkit::soon;
use outspan_testkit::span_ids;

const SECOND: Duration = Duration::from_secs(1);
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn members<const N: usize>() -> [ScriptedExporter; N] {
    std::array::from_fn(|_| ScriptedExporter::new())
}

fn balance(members: &[ScriptedExporter], by: BalanceBy) -> Exporter {
    let breaker = Breaker::default().failures(2).wait(SECOND);
    let mut balance = Balance::new().by(by).breaker(breaker);
    for (name, member) in NAMES.into_iter().zip(members) {
        balance = balance.to(name, member.exporter());
    }
    balance.build().unwrap()
}

async fn export(exporter: &Exporter, batch: &Batch) -> Result<Delivery> {
    exporter.export(batch.clone(), soon()).await
}

fn counts(members: &[ScriptedExporter]) -> Vec<usize> {
    members
        .iter()
        .map(|member| member.received().len())
        .collect()
}

/// Spans of so many traces, some each.
fn traces(traces: usize, spans: usize) -> Batch {
    batch_with(traces * spans, |number, span| {
        let trace = (number % traces) as u128 * 0x1_0001_0001_0001;
        span.trace_id = (trace + 1).to_be_bytes().to_vec();
    })
}

/// The traces whose spans a member has, of a batch that was sent.
fn trace_ids(member: &ScriptedExporter, sent: &Batch) -> HashSet<[u8; 16]> {
    let ids = span_ids(sent).into_iter();
    let sent: HashMap<_, _> = ids.zip(sent.iter().map(|span| span.trace_id())).collect();
    let received = member.received();
    received
        .iter()
        .filter_map(|span| sent.get(span))
        .copied()
        .collect()
}

#[tokio::test(start_paused = true)]
async fn no_member_is_asked_when_the_time_is_up() {
    for by in [BalanceBy::RoundRobin, BalanceBy::TraceId] {
        let members = members::<2>();
        for member in &members {
            member.always(Act::Hang);
        }
        let balance = balance(&members, by);
        // With one trace, one member is asked first.
        let until = outspan::Deadline::after(SECOND);
        let error = balance.export(traces(1, 3), until).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        // The first has half of the time, the second the rest, and then nobody is asked.
        let calls = members.iter().flat_map(ScriptedExporter::calls);
        let mut had: Vec<_> = calls.filter_map(|call| call.left).collect();
        had.sort_unstable();
        assert_eq!(had.len(), 2, "{by:?}");
        for had in had {
            assert!((SECOND / 3..SECOND).contains(&had), "{by:?}: {had:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn round_robin_gives_everyone_the_same() {
    let members = members::<3>();
    let exporter = balance(&members, BalanceBy::RoundRobin);
    for _ in 0..12 {
        export(&exporter, &batch_of(1)).await.unwrap();
    }
    assert_eq!(counts(&members), [4, 4, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_member_gets_less_by_what_is_under_way() {
    let gate = Gate::new();
    let members = members::<3>();
    members[1].always(Act::when(&gate, Act::Deliver));
    let exporter = balance(&members, BalanceBy::LeastInFlight);
    let batches: Vec<_> = (0..30).map(|_| batch_of(1)).collect();
    let mut slow = Vec::new();
    for batch in &batches {
        let mut one = Box::pin(export(&exporter, batch));
        if futures_util::poll!(&mut one).is_pending() {
            slow.push(one);
        }
    }
    assert_eq!(slow.len(), 1, "nothing more for the one that is at work");
    gate.open();
    for one in slow {
        one.await.unwrap();
    }
    assert_eq!(members[1].received().len(), 1);
    assert_eq!(counts(&members).iter().sum::<usize>(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_trace_stays_with_its_member() {
    let members = members::<4>();
    let exporter = balance(&members, BalanceBy::TraceId);
    let mut seen = HashMap::new();
    for _ in 0..3 {
        let batch = traces(200, 2);
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!(delivery.accepted, 400);
        for (place, member) in members.iter().enumerate() {
            let ids = trace_ids(member, &batch);
            assert!((25..=80).contains(&ids.len()), "{}", ids.len());
            for id in ids {
                let before = seen.insert(id, place);
                assert!(before.is_none_or(|before| before == place), "a trace moved");
            }
        }
    }
    assert_eq!(seen.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_a_fan_out_gets_what_its_children_miss() {
    let children = members::<2>();
    children[1].script([Act::unavailable()]);
    let pair = FanOut::new()
        .to("x", children[0].exporter())
        .to("y", children[1].exporter());
    let other = members::<1>();
    other[0].always(Act::unavailable());
    let exporter = Balance::new()
        .by(BalanceBy::TraceId)
        .to("pair", pair.build().unwrap())
        .to("other", other[0].exporter())
        .build()
        .unwrap()
        .retry(Retry::default().initial_interval(SECOND / 10));
    assert!(
        export(&exporter, &traces(8, 2))
            .await
            .unwrap()
            .is_complete()
    );
    assert_eq!(counts(&children), [16, 16], "everything once");
}

#[tokio::test(start_paused = true)]
async fn only_the_traces_of_a_member_that_fails_move() {
    let batch = traces(300, 1);
    let healthy = members::<3>();
    let exporter = balance(&healthy, BalanceBy::TraceId);
    export(&exporter, &batch).await.unwrap();

    let failing = members::<3>();
    failing[1].always(Act::unavailable());
    let exporter = balance(&failing, BalanceBy::TraceId);
    let delivery = export(&exporter, &batch).await.unwrap();
    assert_eq!(delivery.accepted, 300);
    assert_eq!(failing[1].received(), []);
    for place in [0, 2] {
        let before = trace_ids(&healthy[place], &batch);
        let after = trace_ids(&failing[place], &batch);
        assert!(after.is_superset(&before), "those of the others stay");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_fails_is_passed_over_and_found_again() {
    for by in [
        BalanceBy::RoundRobin,
        BalanceBy::LeastInFlight,
        BalanceBy::TraceId,
    ] {
        let members = members::<3>();
        members[0].always(Act::unavailable());
        let exporter = balance(&members, by);
        for _ in 0..20 {
            assert!(
                export(&exporter, &traces(30, 1))
                    .await
                    .unwrap()
                    .is_complete()
            );
        }
        let tried = members[0].exports().len();
        assert_eq!(tried, 2, "{by:?}: left alone after two failures");
        members[0].always(Act::Deliver);
        tokio::time::advance(SECOND * 2).await;
        for _ in 0..3 {
            assert!(
                export(&exporter, &traces(30, 1))
                    .await
                    .unwrap()
                    .is_complete()
            );
        }
        assert!(!members[0].received().is_empty(), "{by:?}: found again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_delivers_half_leaves_the_rest_to_the_next() {
    for by in [BalanceBy::RoundRobin, BalanceBy::TraceId] {
        let members = members::<2>();
        for member in &members {
            member.script([Act::DeliverHalf(Error::unavailable("half"))]);
        }
        let exporter = balance(&members, by).retry(outspan::Retry::default());
        let batch = traces(20, 1);
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!(delivery.accepted, 20, "{by:?}");
        let mut received: Vec<SpanId> = members.iter().flat_map(|m| m.received()).collect();
        let mut sent = span_ids(&batch);
        received.sort_unstable();
        sent.sort_unstable();
        assert_eq!(received, sent, "{by:?}: everything once");
    }
}

#[tokio::test(start_paused = true)]
async fn fails_when_every_member_fails_and_names_one() {
    for by in [BalanceBy::RoundRobin, BalanceBy::TraceId] {
        let members = members::<2>();
        for member in &members {
            member.always(Act::unavailable());
        }
        let exporter = balance(&members, by);
        for _ in 0..4 {
            let left = match export(&exporter, &traces(8, 1)).await {
                Ok(delivery) => delivery.rest,
                Err(error) => vec![outspan::Undelivered {
                    batch: traces(8, 1),
                    error,
                }],
            };
            let spans: usize = left.iter().map(|left| left.batch.spans()).sum();
            assert_eq!(spans, 8, "{by:?}");
            for left in left {
                assert!(left.error.is_temporary());
                assert!(left.error.to_string().contains("destination: "));
            }
        }
    }
}

/// Addresses that a test changes, and the exporters behind them.
#[derive(Clone, Default)]
struct Town {
    /// None: they cannot be looked up.
    addresses: Arc<Mutex<Option<Vec<SocketAddr>>>>,
    houses: Arc<Mutex<HashMap<SocketAddr, ScriptedExporter>>>,
}

impl Town {
    fn set(&self, ports: &[u16]) {
        let all = ports
            .iter()
            .map(|port| SocketAddr::from(([10, 0, 0, 1], *port)));
        *self.addresses.lock().unwrap() = Some(all.collect());
    }

    fn house(&self, port: u16) -> ScriptedExporter {
        let address = SocketAddr::from(([10, 0, 0, 1], port));
        self.houses
            .lock()
            .unwrap()
            .entry(address)
            .or_default()
            .clone()
    }

    fn balance(&self) -> Balance {
        let (town, makers) = (self.clone(), self.clone());
        Balance::looked_up(
            move || {
                let addresses = town.addresses.lock().unwrap().clone();
                addresses.ok_or_else(|| io::Error::other("the name server is away"))
            },
            move |address| Ok(makers.house(address.port()).exporter()),
        )
    }
}

#[tokio::test]
async fn members_come_and_go_with_their_addresses() {
    let town = Town::default();
    town.set(&[1, 2]);
    let exporter = town.balance().every(SECOND).build().unwrap();
    for _ in 0..4 {
        export(&exporter, &batch_of(1)).await.unwrap();
    }
    assert_eq!(town.house(1).received().len(), 2);
    assert_eq!(town.house(2).received().len(), 2);

    town.set(&[2, 3]);
    // A failure has addresses looked up before their time.
    town.house(2).script([Act::unavailable()]);
    let moved = async {
        while town.house(3).received().is_empty() || town.house(1).shutdowns() == 0 {
            export(&exporter, &batch_of(1)).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SECOND * 20, moved).await.unwrap();
    assert_eq!(town.house(2).shutdowns(), 0, "who stays is not touched");
    drop(exporter.shutdown(soon()).await.unwrap());
    for port in [1, 2, 3] {
        assert_eq!(town.house(port).shutdowns(), 1);
    }
}

#[tokio::test]
async fn without_an_address_the_error_says_why() {
    let town = Town::default();
    let exporter = town.balance().build().unwrap();
    let until = outspan::Deadline::after(Duration::from_millis(200));
    let error = exporter.export(batch_of(1), until).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_temporary());
    assert!(
        error.to_string().contains("the name server is away"),
        "{error}"
    );
    drop(exporter.shutdown(soon()).await.unwrap());
}

#[tokio::test]
async fn a_look_up_that_fails_keeps_the_members() {
    let town = Town::default();
    town.set(&[1]);
    let exporter = town.balance().every(SECOND).build().unwrap();
    export(&exporter, &batch_of(1)).await.unwrap();
    *town.addresses.lock().unwrap() = Some(Vec::new());
    town.house(1).script([Act::unavailable()]);
    export(&exporter, &batch_of(1)).await.unwrap_err();
    export(&exporter, &batch_of(1)).await.unwrap();
    assert_eq!(town.house(1).shutdowns(), 0);
}

#[tokio::test]
async fn localhost_has_an_address() {
    let member = ScriptedExporter::new();
    let made = member.clone();
    let exporter = Balance::resolved("localhost:4317", move |address| {
        assert_eq!(address.port(), 4317);
        Ok(made.exporter())
    })
    .build()
    .unwrap();
    export(&exporter, &batch_of(2)).await.unwrap();
    assert_eq!(member.received().len(), 2);
}

#[cfg(feature = "grpc")]
mod real_servers {
    use outspan::Retry;
    use outspan::otlp;
    use outspan_testkit::Collector;

    use super::*;

    #[tokio::test]
    async fn one_of_three_is_killed_and_comes_back_and_nothing_is_lost() {
        let servers = [Collector::grpc(), Collector::grpc(), Collector::grpc()];
        let breaker = Breaker::default()
            .failures(1)
            .wait(Duration::from_millis(20));
        let mut balance = Balance::new().breaker(breaker);
        for (name, server) in NAMES.into_iter().zip(&servers) {
            let member = otlp::grpc(server.endpoint()).build().unwrap();
            balance = balance.to(name, member);
        }
        let retry = Retry::default().initial_interval(Duration::from_millis(5));
        let exporter = balance.build().unwrap().retry(retry);
        let mut sent = Vec::new();
        for round in 0..60 {
            match round {
                20 => servers[1].stop(),
                40 => servers[1].restart(),
                _ => {}
            }
            let batch = batch_of(2);
            sent.extend(span_ids(&batch));
            assert!(export(&exporter, &batch).await.unwrap().is_complete());
        }
        let before = servers[1].span_ids().len();
        let back = async {
            while servers[1].span_ids().len() == before {
                let batch = batch_of(2);
                sent.extend(span_ids(&batch));
                assert!(export(&exporter, &batch).await.unwrap().is_complete());
            }
        };
        tokio::time::timeout(SECOND * 20, back).await.unwrap();
        let received: HashSet<_> = servers.iter().flat_map(Collector::span_ids).collect();
        assert!(sent.iter().all(|span| received.contains(span)));
    }
}

#[tokio::test(start_paused = true)]
async fn flush_and_shutdown_reach_every_member() {
    let members = members::<2>();
    let exporter = balance(&members, BalanceBy::RoundRobin);
    drop(exporter.flush(soon()).await.unwrap());
    drop(exporter.shutdown(soon()).await.unwrap());
    for member in &members {
        assert_eq!((member.flushes(), member.shutdowns()), (1, 1));
    }
}

#[test]
fn mistakes_are_found_when_it_is_built() {
    let member = ScriptedExporter::new();
    assert_eq!(
        Balance::new().build().unwrap_err().kind(),
        ErrorKind::Config
    );
    let twice = Balance::new()
        .to("a", member.exporter())
        .to("a", member.exporter());
    assert!(twice.build().unwrap_err().to_string().contains("\"a\""));
}
