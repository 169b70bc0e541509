//! Stacks, scripts and courses that nobody thought of.

use std::env;

use outspan::combinators::BalanceBy;
use outspan::combinators::FallOn;
use outspan::combinators::FullPolicy;
use outspan::combinators::WaitFor;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::course::Course;
use crate::course::Drain;
use crate::course::Shipment;
use crate::destination::Act;
use crate::destination::Leave;
use crate::destination::Script;
use crate::stack::Hold;
use crate::stack::Spread;
use crate::stack::Stack;
use crate::stack::Wrap;

/// How many courses are generated unless `OUTSPAN_FAULT_CASES` says otherwise: what takes some ten seconds.
const CASES: u32 = 5_000;

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => Just(Act::Deliver),
        2 => Just(Act::RefuseHalf),
        4 => Just(Act::Fail),
        2 => Just(Act::Refuse),
        2 => Just(Act::Throttle),
        3 => Just(Act::DeliverHalf),
        1 => Just(Act::DeliverHalfForGood),
        1 => Just(Act::Disconnect),
        1 => Just(Act::TakeAndHang),
        2 => Just(Act::Stall),
        1 => Just(Act::Hang),
        1 => Just(Act::Panic),
        2 => Just(Act::TakeTwo),
        1 => Just(Act::TooLarge),
        2 => Just(Act::Slow),
    ]
}

fn any_script() -> impl Strategy<Value = Script> {
    let leave = prop_oneof![
        8 => Just(Leave::AtOnce),
        1 => Just(Leave::Fail),
        1 => Just(Leave::Hang),
    ];
    (vec(any_act(), 0..8), any_act(), leave).prop_map(|(acts, then, leave)| Script {
        acts,
        then,
        leave,
    })
}

fn any_hold() -> impl Strategy<Value = Hold> {
    prop_oneof![
        3 => Just(Hold::Plain),
        2 => Just(Hold::Merging),
        1 => Just(Hold::Tight(FullPolicy::Wait)),
        1 => Just(Hold::Tight(FullPolicy::DropNewest)),
        1 => Just(Hold::Tight(FullPolicy::DropOldest)),
        1 => Just(Hold::Hasty),
    ]
}

fn any_spread() -> impl Strategy<Value = Spread> {
    prop_oneof![
        3 => Just(Spread::Fallback(FallOn::Temporary)),
        2 => Just(Spread::Fallback(FallOn::Any)),
        1 => Just(Spread::Balance(BalanceBy::RoundRobin)),
        1 => Just(Spread::Balance(BalanceBy::LeastInFlight)),
        2 => Just(Spread::Balance(BalanceBy::TraceId)),
        4 => Just(Spread::FanOut(WaitFor::All)),
        1 => Just(Spread::FanOut(WaitFor::Any)),
        1 => Just(Spread::FanOut(WaitFor::First)),
    ]
}

/// Stacks of up to five combinators on top of each other.
pub(crate) fn any_stack() -> impl Strategy<Value = Stack> {
    Just(Stack::To).prop_recursive(5, 12, 3, |inside| {
        let wrap = prop::sample::select(Wrap::ALL.to_vec());
        prop_oneof![
            4 => (wrap, inside.clone()).prop_map(|(wrap, inside)| inside.wrapped(wrap)),
            2 => inside.clone().prop_map(Stack::retry),
            2 => (any_hold(), inside.clone()).prop_map(|(hold, inside)| inside.queued(hold)),
            4 => (any_spread(), vec(inside, 1..4))
                .prop_map(|(spread, inside)| Stack::Several(spread, inside)),
        ]
    })
}

fn any_shipment() -> impl Strategy<Value = Shipment> {
    let at = 0..30_000_u64;
    let within = prop_oneof![0..2_000_u64, 5_000..60_000_u64];
    let dropped_after = option::weighted(0.2, 0..10_000_u64);
    (1..8_usize, at, within, dropped_after).prop_map(|(spans, at, within, dropped_after)| {
        Shipment {
            spans,
            at,
            within,
            dropped_after,
        }
    })
}

fn any_drain() -> impl Strategy<Value = Drain> {
    let within = prop_oneof![0..2_000_u64, 5_000..60_000_u64];
    (0..60_000_u64, within).prop_map(|(at, within)| Drain { at, within })
}

fn any_course() -> impl Strategy<Value = Course> {
    any_stack().prop_flat_map(|stack| {
        let scripts = vec(any_script(), stack.destinations());
        let shipments = vec(any_shipment(), 1..8);
        let flush = option::weighted(0.4, any_drain());
        let all = (scripts, shipments, flush, any_drain(), any::<u64>());
        all.prop_map(move |(scripts, shipments, flush, shutdown, seed)| Course {
            stack: stack.clone(),
            scripts,
            shipments,
            flush,
            shutdown,
            seed,
        })
    })
}

/// So many cases, or as many as the environment says; failures are kept.
pub(crate) fn config(cases_unless_told: u32) -> ProptestConfig {
    let cases = env::var("OUTSPAN_FAULT_CASES").ok();
    ProptestConfig {
        cases: cases
            .and_then(|it| it.parse().ok())
            .unwrap_or(cases_unless_told),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/faults/regressions.txt",
        ))),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(CASES))]

    #[test]
    fn every_span_ends_in_one_place_whatever_the_stack_and_the_course(course in any_course()) {
        course.check();
    }
}
