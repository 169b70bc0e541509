//! Flush, shutdown and their deadlines go through every combinator, however they are nested.

use outspan::combinators::BalanceBy;
use outspan::combinators::WaitFor;
use proptest::prelude::*;

use crate::course::Course;
use crate::course::Drain;
use crate::course::Outcome;
use crate::destination::Act;
use crate::destination::Script;
use crate::generated::any_stack;
use crate::generated::config;
use crate::probe::When;
use crate::stack::Hold;
use crate::stack::Spread;
use crate::stack::Stack;
use crate::stack::Wrap;
use crate::stack::balance;
use crate::stack::fallback;
use crate::stack::fan_out;
use crate::stack::to;

/// A flush and a shutdown of a stack whose destinations are well.
fn drained(stack: Stack, flush_within: u64, shutdown_within: u64) -> Outcome {
    let scripts = vec![Script::always(Act::Deliver); stack.destinations()];
    let mut course = Course::calm(stack, scripts);
    course.flush = Some(Drain {
        at: 100_000,
        within: flush_within,
    });
    course.shutdown.within = shutdown_within;
    course.check()
}

/// Both reach every part once, with the very deadline of the caller.
fn assert_is_carried(outcome: &Outcome) {
    let outer = outcome.part.log.seen();
    for part in outcome.part.all() {
        let seen = part.log.seen();
        let pairs = outer.flushes.iter().zip(&seen.flushes);
        let pairs = pairs.chain(outer.shutdowns.iter().zip(&seen.shutdowns));
        let kind = part.kind.name();
        assert_eq!(pairs.clone().count(), 2, "{kind}");
        for (outer, inner) in pairs {
            let is_same = outer.end.is_by(inner.end) && inner.end.is_by(outer.end);
            assert!(is_same, "{kind}: {:?}, not {:?}", inner.end, outer.end);
            assert!(matches!(inner.end, When::At(_)), "{kind}: {:?}", inner.end);
        }
    }
}

#[test]
fn every_combinator_carries_flush_and_shutdown_with_their_deadlines() {
    let around = Wrap::ALL.map(|wrap| to().wrapped(wrap));
    let queues = Hold::ALL.map(|hold| to().queued(hold));
    let several = Spread::ALL.map(|spread| Stack::Several(spread, vec![to(), to()]));
    for stack in around.into_iter().chain(queues).chain(several) {
        assert_is_carried(&drained(stack, 3_000, 7_000));
    }
}

#[test]
fn five_levels_carry_flush_and_shutdown_with_their_deadlines() {
    let inner = balance(BalanceBy::TraceId, [to().timeout().retry(), to()]);
    let stack = fan_out(
        WaitFor::All,
        [
            fallback([inner.measured(), to()]).queued(Hold::Merging),
            to(),
        ],
    );
    assert_is_carried(&drained(stack, 3_000, 7_000));
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn any_nesting_carries_flush_and_shutdown_with_their_deadlines(
        stack in any_stack(),
        flush_within in 1_u64..20_000,
        shutdown_within in 1_u64..60_000,
    ) {
        assert_is_carried(&drained(stack, flush_within, shutdown_within));
    }
}
