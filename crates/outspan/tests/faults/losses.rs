//! What a shutdown says when a destination never answers: it ends by its deadline and tells how many spans are lost.

use std::time::Duration;

use outspan::Deadline;
use outspan::Drained;
use outspan::DropReason;
use outspan::ErrorKind;
use outspan::Export;
use outspan::combinators::BalanceBy;
use outspan::combinators::WaitFor;
use outspan_testkit::batch_of;
use tokio::time::Instant;

use crate::clock;
use crate::course::Course;
use crate::course::Drain;
use crate::course::End;
use crate::course::Outcome;
use crate::destination::Act;
use crate::destination::Leave;
use crate::destination::Script;
use crate::stack::Hold;
use crate::stack::Spread;
use crate::stack::Stack;
use crate::stack::Wrap;
use crate::stack::balance;
use crate::stack::fallback;
use crate::stack::fan_out;
use crate::stack::to;

/// The spans of three batches, of which the first is in flight and the last comes shortly before the shutdown.
const SPANS: u64 = 15;

/// What a wait may be longer than it should: the grain of timers.
const GRAIN: Duration = Duration::from_millis(5);

/// A shutdown in the middle of exports that never end.
fn interrupted(stack: Stack, leave: Leave) -> Outcome {
    let mut script = Script::always(Act::Hang);
    script.leave = leave;
    let scripts = vec![script; stack.destinations()];
    let mut course = Course::calm(stack, scripts);
    for (shipment, at) in course.shipments.iter_mut().zip([0, 1_000, 2_000]) {
        shipment.at = at;
    }
    course.shutdown = Drain {
        at: 2_500,
        within: 6_000,
    };
    course.check()
}

fn shutdown(outcome: &Outcome) -> Drained {
    let part = outcome.part.kind.name();
    match &outcome.shutdown {
        Some(Ok(drained)) => drained.clone(),
        other => panic!("{part}: {other:?}"),
    }
}

/// Stacks with a queue in front, and how many copies of each span they hold.
fn queues() -> Vec<(Stack, u64)> {
    let plain = || to().queued(Hold::Plain);
    let members = || vec![to().timeout(), to()];
    let mut queues: Vec<_> = Wrap::ALL
        .into_iter()
        // It drops some spans on request, before they can be lost.
        .filter(|wrap| *wrap != Wrap::Filtered)
        .flat_map(|wrap| {
            let inside = to().wrapped(wrap).queued(Hold::Plain);
            [(inside, 1), (plain().wrapped(wrap), 1)]
        })
        .collect();
    queues.extend(Spread::ALL.map(|spread| {
        let stack = Stack::Several(spread, members()).queued(Hold::Plain);
        (stack, 1)
    }));
    queues.extend([
        (plain(), 1),
        (to().queued(Hold::Merging), 1),
        (plain().queued(Hold::Plain), 1),
        (plain().queued(Hold::Merging).queued(Hold::Plain), 1),
        (fan_out(WaitFor::All, [plain(), plain(), plain()]), 3),
        (fan_out(WaitFor::First, [plain(), plain()]), 2),
        // The account of a queue has each span once, however many places lose it.
        (
            fan_out(WaitFor::All, [plain(), plain()]).queued(Hold::Plain),
            1,
        ),
        (fallback([plain(), to()]), 1),
        (balance(BalanceBy::RoundRobin, [plain(), plain()]), 1),
    ]);
    queues
}

#[test]
fn a_shutdown_tells_how_many_spans_are_lost_by_its_deadline() {
    for (stack, copies) in queues() {
        let outcome = interrupted(stack.clone(), Leave::AtOnce);
        let drained = shutdown(&outcome);
        assert_eq!(drained.lost.total(), SPANS * copies, "{stack:?}: {drained}");
        let lost = drained.lost.of(DropReason::Shutdown);
        assert_eq!(lost, SPANS * copies, "{stack:?}: {drained}");
        assert_eq!(drained.delivered, 0, "{stack:?}: {drained}");
        let late = outcome.shutdown_late;
        assert!(late <= GRAIN, "{stack:?}: {late:?} late");
    }
}

#[test]
fn it_does_so_though_the_destination_does_not_even_shut_down() {
    for (stack, copies) in queues() {
        let outcome = interrupted(stack.clone(), Leave::Hang);
        let drained = shutdown(&outcome);
        assert_eq!(drained.lost.total(), SPANS * copies, "{stack:?}: {drained}");
        assert_eq!(drained.delivered, 0, "{stack:?}: {drained}");
    }
}

#[test]
fn stacks_without_a_queue_shut_down_at_once_and_their_callers_are_told() {
    let around = Wrap::ALL.map(|wrap| to().wrapped(wrap).timeout());
    let several = Spread::ALL.map(|spread| Stack::Several(spread, vec![to(), to()]));
    for stack in around.into_iter().chain(several) {
        let outcome = interrupted(stack.clone(), Leave::AtOnce);
        let drained = shutdown(&outcome);
        assert_eq!(drained, Drained::default(), "{stack:?}");
        for sent in &outcome.sent {
            assert_eq!(sent.end, End::Answered, "{stack:?}");
        }
        for call in outcome.part.log.seen().calls {
            assert!(call.has_failed(), "{stack:?}: {call:?}");
        }
    }
}

#[test]
fn nested_queues_tell_of_each_span_once_flush_or_shutdown() {
    let told = clock::run(1, async {
        let script = Script::first([Act::Deliver, Act::Hang], Act::RefuseHalf);
        let nested = to().queued(Hold::Plain).queued(Hold::Plain);
        let (exporter, _part) = nested.build(&mut [script].into_iter());
        let mut told = Vec::new();
        for _ in 0..2 {
            let until = Deadline::after(Duration::from_secs(2));
            exporter.export(batch_of(4), until).await.unwrap();
            told.push(exporter.flush(until).await.unwrap());
        }
        let until = Deadline::after(Duration::from_secs(30));
        told.push(exporter.shutdown(until).await.unwrap());
        told
    });
    let numbers = |drained: &Drained| {
        let Drained {
            delivered,
            refused,
            lost,
            left,
            ..
        } = drained;
        (*delivered, *refused, lost.total(), *left)
    };
    let told: Vec<_> = told.iter().map(numbers).collect();
    assert_eq!(told, [(4, 0, 0, 0), (0, 0, 0, 4), (2, 2, 0, 0)]);
}

#[test]
fn a_shutdown_of_a_retry_ends_its_waits() {
    let waited = clock::run(1, async {
        let scripts = [Script::always(Act::Throttle)];
        let (exporter, _part) = to().retry().build(&mut scripts.into_iter());
        let began = Instant::now();
        let export = exporter.export(batch_of(1), Deadline::never());
        let shutdown = async {
            // Sleeps: on the clock of the test, into the first wait.
            tokio::time::sleep(Duration::from_secs(1)).await;
            exporter.shutdown(Deadline::never()).await
        };
        let (exported, shut_down) = futures_util::future::join(export, shutdown).await;
        let error = exported.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Throttled, "its last error");
        drop(shut_down.unwrap());
        began.elapsed()
    });
    let second = Duration::from_secs(1);
    assert!((second..second + GRAIN).contains(&waited), "{waited:?}");
}
