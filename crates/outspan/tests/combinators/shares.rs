//! How destinations that stand in for each other share the time of an export, around scripted exporters under a paused clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use outspan::Deadline;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::combinators::Balance;
use outspan::combinators::BalanceBy;
use outspan::combinators::Breaker;
use outspan::combinators::BreakerEvent;
use outspan::combinators::BreakerState;
use outspan::combinators::Fallback;
use outspan::combinators::Queued;
use outspan::engine::Ack;
use outspan::engine::MemoryQueue;
use outspan_testkit::Act;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn scripted<const N: usize>(acts: [Act; N]) -> [ScriptedExporter; N] {
    acts.map(|act| {
        let child = ScriptedExporter::new();
        child.always(act);
        child
    })
}

/// The names of destinations whose breakers opened.
#[derive(Clone, Default)]
struct Blamed(Arc<Mutex<BTreeSet<String>>>);

impl Blamed {
    fn hook(&self) -> impl Fn(&BreakerEvent) + Send + Sync + 'static {
        let names = Arc::clone(&self.0);
        move |event| {
            if event.state == BreakerState::Open {
                names.lock().unwrap().insert(event.destination.to_string());
            }
        }
    }

    fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().cloned().collect()
    }
}

fn fallback(children: &[ScriptedExporter]) -> Fallback {
    let named = NAMES.into_iter().zip(children);
    named.fold(Fallback::new(), |all, (name, child)| {
        all.to(name, child.exporter())
    })
}

fn balance(children: &[ScriptedExporter], by: BalanceBy) -> Balance {
    let named = NAMES.into_iter().zip(children);
    named.fold(Balance::new().by(by), |all, (name, child)| {
        all.to(name, child.exporter())
    })
}

/// No destination was asked without time.
fn assert_all_had_time(children: &[ScriptedExporter]) {
    for child in children {
        for call in child.exports() {
            assert!(call.left != Some(Duration::ZERO), "{call:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hanging_primary_with_all_defaults_loses_nothing() {
    for act in [Act::Hang, Act::Stall] {
        let children = scripted([act, Act::after(SECOND, Act::Deliver)]);
        let exporter = children[0].exporter().fallback(children[1].exporter());
        for _ in 0..20 {
            let delivery = exporter.export(batch_of(1), soon()).await.unwrap();
            assert_eq!(delivery.destination.as_deref(), Some("fallback"));
        }
        assert_eq!(children[1].received().len(), 20);
        let asked = children[0].exports().len();
        assert!((5..=8).contains(&asked), "then it is left alone: {asked}");
        assert_all_had_time(&children);
    }
}

#[tokio::test(start_paused = true)]
async fn primary_has_half_of_the_time_or_ten_seconds() {
    for (until, expected) in [
        (Deadline::after(SECOND * 8), SECOND * 4),
        (Deadline::never(), SECOND * 10),
    ] {
        let children = scripted([Act::Hang, Act::Deliver]);
        let exporter = children[0].exporter().fallback(children[1].exporter());
        let began = Instant::now();
        exporter.export(batch_of(1), until).await.unwrap();
        let waited = began.elapsed();
        assert!(waited >= expected && waited < expected + SECOND / 10);
        assert_eq!(
            children[1].exports()[0].until,
            until,
            "the last has the rest"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn each_of_a_chain_has_a_share() {
    for until in [soon(), Deadline::never()] {
        let children = scripted([Act::Hang, Act::Hang, Act::Hang, Act::Deliver]);
        let exporter = fallback(&children).build().unwrap();
        exporter.export(batch_of(3), until).await.unwrap();
        assert_eq!(children[3].received().len(), 3);
        assert_all_had_time(&children);
        for child in &children[..3] {
            assert!(child.exports()[0].left >= Some(SECOND));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nested_fallbacks_share_as_well() {
    let children = scripted([Act::Hang, Act::Hang, Act::Deliver]);
    let [first, second, third] = &children;
    let left = first.exporter().fallback(second.exporter());
    let exporter = left.fallback(third.exporter());
    exporter.export(batch_of(3), soon()).await.unwrap();
    let right = second.exporter().fallback(third.exporter());
    let exporter = first.exporter().fallback(right);
    exporter.export(batch_of(3), soon()).await.unwrap();
    assert_eq!(third.received().len(), 6);
    assert_all_had_time(&children);
}

#[tokio::test(start_paused = true)]
async fn error_of_hanging_destinations_names_share_and_deadline() {
    let children = scripted([Act::Hang, Act::unavailable()]);
    let exporter = fallback(&children).build().unwrap();
    let error = exporter.export(batch_of(1), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "that of the last");
    let children = scripted([Act::unavailable(), Act::Hang]);
    let exporter = fallback(&children).build().unwrap();
    let error = exporter.export(batch_of(1), soon()).await.unwrap_err();
    assert!(error.to_string().contains("soon of 10s passed"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn destination_with_little_time_is_not_blamed() {
    let slow = || Act::after(SECOND * 3, Act::Deliver);
    let children = scripted([Act::Hang, slow(), slow()]);
    let blamed = Blamed::default();
    let breaker = Breaker::default().failures(1);
    let exporter = fallback(&children)
        .breaker(breaker)
        .on_change(blamed.hook())
        .build()
        .unwrap();
    // 5 s, 2.5 s and 2.5 s: too little for the others.
    exporter.export(batch_of(1), soon()).await.unwrap_err();
    assert_eq!(blamed.names(), ["a"]);
    // Without the first there is enough.
    exporter.export(batch_of(1), soon()).await.unwrap();
    assert_eq!(children[1].received().len(), 1);
    assert_eq!(blamed.names(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn destination_with_enough_time_is_blamed_wherever_it_stands() {
    let children = scripted([Act::unavailable(), Act::Hang]);
    let blamed = Blamed::default();
    let breaker = Breaker::default().failures(1);
    let exporter = fallback(&children)
        .breaker(breaker)
        .on_change(blamed.hook())
        .build()
        .unwrap();
    exporter.export(batch_of(1), soon()).await.unwrap_err();
    assert_eq!(blamed.names(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn short_limit_of_a_destination_counts() {
    let children = scripted([Act::Hang, Act::Deliver]);
    let limited = children[0].exporter().timeout(SECOND / 10);
    let exporter = limited.fallback(children[1].exporter());
    for _ in 0..20 {
        exporter.export(batch_of(1), soon()).await.unwrap();
    }
    assert_eq!(children[0].exports().len(), 5, "then it is left alone");
}

#[tokio::test(start_paused = true)]
async fn destination_has_all_the_time_while_others_are_left_alone() {
    let children = scripted([
        Act::after(SECOND * 8, Act::Deliver),
        Act::throttled(SECOND * 60),
    ]);
    children[0].script([Act::unavailable()]);
    let breaker = Breaker::default().failures(1).wait(SECOND);
    let exporter = Fallback::new()
        .breaker(breaker)
        .to("slow", children[0].exporter())
        .to("down", children[1].exporter())
        .build()
        .unwrap();
    exporter.export(batch_of(1), soon()).await.unwrap_err();
    // Both are left alone: the one that is due first is asked, and has everything.
    exporter.export(batch_of(1), soon()).await.unwrap();
    assert_eq!(children[0].received().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_after_the_deadline() {
    let until = Deadline::after(SECOND);
    tokio::time::advance(SECOND * 2).await;
    let children = scripted([Act::Deliver, Act::Deliver]);
    let blamed = Blamed::default();
    let breaker = || Breaker::default().failures(1);
    let mut exporters = vec![
        fallback(&children)
            .breaker(breaker())
            .on_change(blamed.hook())
            .build()
            .unwrap(),
    ];
    for by in [
        BalanceBy::RoundRobin,
        BalanceBy::LeastInFlight,
        BalanceBy::TraceId,
    ] {
        let balance = balance(&children, by).breaker(breaker());
        exporters.push(balance.on_change(blamed.hook()).build().unwrap());
    }
    for exporter in &exporters {
        let error = exporter.export(batch_of(4), until).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(error.attempt().attempts, 0);
    }
    assert!(children.iter().all(|child| child.exports().is_empty()));
    assert!(blamed.names().is_empty());
}

#[tokio::test(start_paused = true)]
async fn balance_with_hanging_member_delivers_and_blames_only_that() {
    for by in [
        BalanceBy::RoundRobin,
        BalanceBy::LeastInFlight,
        BalanceBy::TraceId,
    ] {
        let children = scripted([Act::Deliver, Act::Hang, Act::Deliver]);
        let blamed = Blamed::default();
        let exporter = balance(&children, by)
            .on_change(blamed.hook())
            .build()
            .unwrap();
        for _ in 0..30 {
            let delivery = exporter.export(batch_of(9), soon()).await.unwrap();
            assert_eq!(delivery.accepted, 9, "{by:?}");
        }
        let received = children[0].received().len() + children[2].received().len();
        assert_eq!(received, 270, "{by:?}");
        assert_all_had_time(&children);
        let names = blamed.names();
        assert!(names.iter().all(|name| name == "b"), "{by:?}: {names:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn timeout_ends_by_the_deadline_of_the_caller() {
    let [child] = scripted([Act::Hang]);
    for (limit, within, expected) in [
        (SECOND * 5, SECOND, SECOND),
        (SECOND, SECOND, SECOND),
        // The grace of 100 ms ends with the deadline.
        (SECOND, SECOND + SECOND / 20, SECOND + SECOND / 20),
        (SECOND, SECOND * 5, SECOND + SECOND / 10),
    ] {
        let exporter = child.exporter().timeout(limit);
        let began = Instant::now();
        let until = Deadline::after(within);
        exporter.export(batch_of(1), until).await.unwrap_err();
        let waited = began.elapsed();
        let range = expected..expected + SECOND / 100;
        assert!(
            range.contains(&waited),
            "{limit:?} in {within:?}: {waited:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn panic_in_hook_of_breaker_leaves_results_alone() {
    let children = scripted([Act::unavailable(), Act::Deliver]);
    let exporter = fallback(&children)
        .breaker(Breaker::default().failures(1).wait(SECOND))
        .on_change(|_| panic!("a hook of the test"))
        .build()
        .unwrap();
    assert_eq!(
        exporter.export(batch_of(2), soon()).await.unwrap().accepted,
        2
    );
    children[0].always(Act::Deliver);
    tokio::time::advance(SECOND * 2).await;
    assert_eq!(
        exporter.export(batch_of(2), soon()).await.unwrap().accepted,
        2
    );
    assert_eq!(children[0].received().len(), 2);
}

/// A queue around an exporter, and the spans of a short program in it.
async fn queue_of_program(exporter: Exporter, batches: usize) -> MemoryQueue {
    let queue = MemoryQueue::builder(exporter).start().unwrap();
    for _ in 0..batches {
        let batch = batch_of(10);
        let permit = queue.try_reserve(batch.memory(), 10).unwrap();
        queue.push(batch, permit, Ack::none()).unwrap();
    }
    queue
}

#[tokio::test]
async fn short_program_with_hanging_primary_loses_nothing() {
    for has_begun in [false, true] {
        for batches in [1, 10, 40] {
            let children = scripted([Act::Hang, Act::Deliver]);
            let exporter = children[0].exporter().fallback(children[1].exporter());
            let queue = queue_of_program(exporter, batches).await;
            if has_begun {
                children[0].wait_for_exports(1).await;
            }
            let end = Deadline::after(SECOND).named("shutdown timeout");
            let drained = queue.shutdown(end).await.unwrap();
            assert_eq!(
                drained.delivered,
                10 * batches as u64,
                "{batches}: {drained}"
            );
            assert_eq!(children[1].received().len(), 10 * batches);
        }
    }
}

#[tokio::test]
async fn short_program_with_hanging_member_loses_nothing() {
    for by in [BalanceBy::RoundRobin, BalanceBy::TraceId] {
        let children = scripted([Act::Hang, Act::Deliver]);
        let exporter = balance(&children, by).build().unwrap();
        let queue = queue_of_program(exporter, 10).await;
        children[0].wait_for_exports(1).await;
        let drained = queue.shutdown(Deadline::after(SECOND)).await.unwrap();
        assert_eq!(drained.delivered, 100, "{by:?}: {drained}");
    }
}

#[tokio::test]
async fn queue_around_hanging_primary_goes_on() {
    let children = scripted([Act::Hang, Act::Deliver]);
    let either = children[0].exporter().fallback(children[1].exporter());
    let exporter = Queued::new(either)
        .attempt_timeout(Some(SECOND / 5))
        .build()
        .unwrap();
    for _ in 0..50 {
        exporter.export(batch_of(2), soon()).await.unwrap();
    }
    assert!(exporter.flush(soon()).await.unwrap().is_complete());
    assert_eq!(children[1].received().len(), 100);
    drop(exporter.shutdown(soon()).await.unwrap());
}
