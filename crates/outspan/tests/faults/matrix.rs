//! Every combinator and the stacks that people build, against everything a destination may do.

use std::collections::BTreeSet;

use outspan::combinators::BalanceBy;
use outspan::combinators::FallOn;
use outspan::combinators::WaitFor;

use crate::course::Course;
use crate::course::Drain;
use crate::course::Outcome;
use crate::destination::Act;
use crate::destination::Destination;
use crate::destination::Script;
use crate::stack::Hold;
use crate::stack::Kind;
use crate::stack::Part;
use crate::stack::Spread;
use crate::stack::Stack;
use crate::stack::Wrap;
use crate::stack::balance;
use crate::stack::fallback;
use crate::stack::fan_out;
use crate::stack::is_unwanted;
use crate::stack::to;
use crate::verdict::Promise;

/// What a stack promises.
#[derive(Clone, Debug)]
struct Contract {
    stack: Stack,
    /// How many destinations get each span while all are well.
    copies: usize,
    /// How often one of them may get it.
    often: Promise,
    /// Whether spans outlive that every destination fails twice.
    outlives_failures: bool,
}

impl Contract {
    fn new(stack: Stack, copies: usize, outlives_failures: bool) -> Self {
        Self {
            stack,
            copies,
            often: Promise::Once,
            outlives_failures,
        }
    }

    fn repeats(mut self) -> Self {
        self.often = Promise::Repeats;
        self
    }
}

/// Each combinator by itself.
fn combinators() -> Vec<Contract> {
    let around = Wrap::ALL.map(|wrap| {
        let outlives_failures = wrap == Wrap::Retry;
        Contract::new(to().wrapped(wrap), 1, outlives_failures)
    });
    let queues = Hold::ALL.map(|hold| Contract::new(to().queued(hold), 1, true));
    let several = Spread::ALL.map(|spread| {
        let stack = Stack::Several(spread, vec![to(), to(), to()]);
        let copies = match spread {
            Spread::FanOut(_) => 3,
            Spread::Fallback(_) | Spread::Balance(_) => 1,
        };
        Contract::new(stack, copies, false)
    });
    around.into_iter().chain(queues).chain(several).collect()
}

/// What the guide recommends, from the inside out: timeout, retry, measured, fallback, queued, fan-out.
fn recommended() -> Stack {
    let primary = || to().timeout().retry().measured();
    let way = || fallback([primary(), to()]).queued(Hold::Plain);
    fan_out(WaitFor::All, [way(), way()])
}

/// Stacks of two to five.
fn stacks() -> Vec<Contract> {
    let queued = || to().timeout().queued(Hold::Plain);
    let pair = || fan_out(WaitFor::All, [to(), to()]);
    let one = |stack: Stack| Contract::new(stack, 1, true);
    let two = |stack: Stack| Contract::new(stack, 2, true);
    let three = |stack: Stack| Contract::new(stack, 3, true);
    vec![
        one(to().timeout().retry()),
        one(to().timeout().retry().wrapped(Wrap::ExportDeadline)),
        one(fallback([to().timeout(), to()]).retry()),
        one(fallback([to().timeout().retry(), to()])),
        one(fallback([to().timeout(), to()]).queued(Hold::Plain)),
        two(balance(BalanceBy::TraceId, [pair(), pair()]).retry()),
        two(fan_out(WaitFor::All, [queued(), queued()])),
        two(fan_out(WaitFor::First, [queued(), queued()])),
        one(balance(BalanceBy::RoundRobin, [to().timeout(), to().timeout()]).retry()),
        one(balance(BalanceBy::TraceId, [to().timeout(), to().timeout()]).queued(Hold::Merging)),
        two(fan_out(WaitFor::All, [to().timeout(), to()]).retry()),
        two(fan_out(WaitFor::All, [to().timeout(), to()]).queued(Hold::Plain)),
        two(fan_out(WaitFor::First, [to(), to().retry()]).retry()),
        two(fan_out(WaitFor::Any, [to(), to().timeout()]).retry()).repeats(),
        three(fan_out(WaitFor::All, [pair(), to()]).retry()),
        two(fallback([pair(), pair()]).retry()),
        one(to().timeout().retry().measured().wrapped(Wrap::Logged)),
        one(to()
            .timeout()
            .wrapped(Wrap::Limited)
            .retry()
            .wrapped(Wrap::Filtered)
            .wrapped(Wrap::Scrubbed)),
        one(to().retry().wrapped(Wrap::Mapped).queued(Hold::Hasty)),
        one(to().timeout().queued(Hold::Plain).queued(Hold::Merging)),
        two(recommended()),
    ]
}

const ACTS: [Act; 15] = [
    Act::Deliver,
    Act::RefuseHalf,
    Act::Fail,
    Act::Refuse,
    Act::Throttle,
    Act::DeliverHalf,
    Act::DeliverHalfForGood,
    Act::Disconnect,
    Act::TakeAndHang,
    Act::Stall,
    Act::Hang,
    Act::Panic,
    Act::TakeTwo,
    Act::TooLarge,
    Act::Slow,
];

/// What destinations do: one thing for ever, or for a while.
fn scripts() -> Vec<Script> {
    let for_ever = ACTS.into_iter().map(Script::always);
    let for_a_while = ACTS.into_iter().flat_map(|act| {
        let once = Script::first([act], Act::Deliver);
        let dead_and_back = Script::first([Act::Deliver, act, act, act], Act::Deliver);
        [once, dead_and_back]
    });
    for_ever.chain(for_a_while).collect()
}

/// The courses of one cell: calm, with futures that are dropped, and with a shutdown in the middle.
fn courses(stack: &Stack, scripts: Vec<Script>) -> Vec<Course> {
    let calm = Course::calm(stack.clone(), scripts);
    let mut dropped = calm.clone();
    for (shipment, after) in dropped.shipments.iter_mut().zip([0, 500, 4_050]) {
        shipment.dropped_after = Some(after);
    }
    let mut interrupted = calm.clone();
    for (shipment, at) in interrupted.shipments.iter_mut().zip([0, 900, 2_500]) {
        shipment.at = at;
    }
    interrupted.shutdown = Drain {
        at: 2_000,
        within: 1_500,
    };
    let mut flushed = interrupted.clone();
    flushed.flush = Some(Drain {
        at: 950,
        within: 50,
    });
    vec![calm, dropped, interrupted, flushed]
}

fn every_cell(contracts: &[Contract]) {
    for contract in contracts {
        let stack = &contract.stack;
        assert_eq!(stack.promise(), contract.often, "{stack:?}");
        for script in scripts() {
            for scripts in placed(script, stack.destinations()) {
                for course in courses(stack, scripts) {
                    course.check();
                }
            }
        }
    }
}

/// What the first of so many destinations does while the others are well, and what all do.
fn placed(script: Script, destinations: usize) -> Vec<Vec<Script>> {
    let mut first = vec![Script::always(Act::Deliver); destinations];
    first[0] = script.clone();
    match destinations {
        1 => vec![first],
        _ => vec![first, vec![script; destinations]],
    }
}

#[test]
fn the_account_of_every_combinator_closes_whatever_a_destination_does() {
    every_cell(&combinators());
}

#[test]
fn the_account_of_every_stack_closes_whatever_its_destinations_do() {
    every_cell(&stacks());
}

#[test]
fn healthy_destinations_get_everything_once_where_it_belongs() {
    for contract in combinators().into_iter().chain(stacks()) {
        let scripts = vec![Script::always(Act::Deliver); contract.stack.destinations()];
        let outcome = Course::calm(contract.stack.clone(), scripts).check();
        assert_is_delivered(&outcome, &contract.stack);
        let destinations = outcome.part.destinations().into_iter();
        let copies = destinations.map(|it| arrived(it).len()).sum::<usize>();
        let spans = delivered(&outcome.part).len();
        assert_eq!(copies, contract.copies * spans, "{contract:?}");
    }
}

#[test]
fn spans_outlive_failures_where_the_stack_says_so() {
    let contracts = combinators().into_iter().chain(stacks());
    for contract in contracts.filter(|contract| contract.outlives_failures) {
        let script = Script::first([Act::Fail, Act::Fail], Act::Deliver);
        let scripts = vec![script; contract.stack.destinations()];
        let outcome = Course::calm(contract.stack.clone(), scripts).check();
        assert_is_delivered(&outcome, &contract.stack);
    }
}

#[test]
fn a_fallback_hands_on_what_the_primary_does_not_take_and_nothing_else() {
    for (fall_on, act, falls) in [
        (FallOn::Temporary, Act::Fail, true),
        (FallOn::Temporary, Act::Refuse, false),
        (FallOn::Any, Act::Refuse, true),
        (FallOn::Any, Act::RefuseHalf, false),
        (FallOn::Temporary, Act::DeliverHalf, true),
    ] {
        let stack = Stack::Several(Spread::Fallback(fall_on), vec![to(), to()]);
        let scripts = vec![Script::always(act), Script::always(Act::Deliver)];
        let outcome = Course::calm(stack, scripts).check();
        let [primary, backup] = outcome.part.destinations()[..] else {
            panic!("two destinations");
        };
        let [primary, backup] = [arrived(primary), arrived(backup)];
        assert_eq!(!backup.is_empty(), falls, "{fall_on:?} {act:?}");
        assert!(primary.is_disjoint(&backup), "{fall_on:?} {act:?}");
    }
}

fn arrived(destination: &Destination) -> BTreeSet<u64> {
    let calls = destination.calls();
    calls.iter().flat_map(|call| call.arrived.clone()).collect()
}

/// The spans that a part is to have delivered, as far as its destinations have them.
fn delivered(part: &Part) -> BTreeSet<u64> {
    let inside = part.inside.iter().map(delivered);
    match &part.kind {
        Kind::To(destination) => arrived(destination),
        Kind::Several(Spread::FanOut(_)) => {
            inside.reduce(|all, one| &all & &one).unwrap_or_default()
        }
        _ => inside.flatten().collect(),
    }
}

fn assert_is_delivered(outcome: &Outcome, stack: &Stack) {
    let filters = |part: &Stack| matches!(part, Stack::Around(Wrap::Filtered, _));
    let mut sent: BTreeSet<u64> = outcome.sent.iter().flat_map(|it| it.ids.clone()).collect();
    if stack.has(&filters) {
        sent.retain(|id| !is_unwanted(id.to_be_bytes()));
    }
    assert_eq!(delivered(&outcome.part), sent, "{stack:?}");
}
