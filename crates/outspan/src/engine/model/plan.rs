//! What happens in one course of the model.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::Just;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prelude::prop_oneof;

/// One course of events. Times are in milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) destinations: Vec<Setup>,
    /// Whether all destinations share one budget.
    pub(super) shares_budget: bool,
    pub(super) max_bytes: usize,
    pub(super) max_spans: Option<usize>,
    pub(super) steps: Vec<Step>,
    pub(super) end: End,
}

/// One destination and the queue in front of it.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// The answers to the first calls, then `then`.
    pub(super) acts: Vec<Act>,
    pub(super) then: Act,
    pub(super) drain: Drain,
    pub(super) concurrent_exports: usize,
    pub(super) attempt_timeout: Option<u64>,
    pub(super) export_limit: Option<u64>,
    pub(super) max_retries: Option<u32>,
    pub(super) gives_up_early: bool,
}

/// What a destination does with one call.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Deliver,
    DeliverLate(u64),
    /// A temporary failure, after some time.
    Fail(Failure, u64),
    /// A failure for good that is no rejection.
    FailForGood,
    Reject,
    /// Rejects so many of the spans and takes the others.
    RejectSome(usize),
    /// Filters every other span and takes the others.
    FilterSome,
    /// Takes the first half, and leaves the rest with a temporary error.
    DeliverHalf(Failure),
    /// Takes every other span, and leaves the rest in two parts: both with temporary errors, or one of them with a permanent one.
    DeliverOdd(Failure, bool),
    /// Says of one span that it arrived, and of the others nothing.
    Forget,
    MaxSpans(usize),
    MaxBytes(usize),
    Hang,
    TakeAndHang,
    Panic,
    TakeAndPanic,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Failure {
    Plain,
    Refused,
    Throttled,
    RetryAfter(u64),
    NotSent,
    Timeout,
}

/// What a destination does with a flush and a shutdown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Drain {
    AtOnce,
    Fail,
    Hang,
    Panic,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Push(Push),
    /// Spans are reserved and not pushed: the source keeps them, or they are dropped.
    Withdraw {
        spans: usize,
        is_kept: bool,
    },
    Evict(usize),
    Advance(u64),
    Flush(usize, Call),
    Shutdown(usize, Call),
    Abort(usize),
}

/// A push to all destinations.
#[derive(Clone, Debug)]
pub(super) struct Push {
    /// How many spans each of the sources has whose spans are merged.
    pub(super) sources: Vec<usize>,
    /// Whether the sources wait for the end of their spans.
    pub(super) waits: bool,
    /// How many batches are made of them at least.
    pub(super) batches: usize,
    /// How many bytes a name has.
    pub(super) padding: usize,
    /// Whether the oldest batches make room.
    pub(super) evicts: bool,
    /// Whether nothing happens between this and the next step.
    pub(super) is_hasty: bool,
}

/// A flush or a shutdown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) within: u64,
    /// When its future is dropped, if it has not ended.
    pub(super) dropped_after: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// Destinations take everything, and the queues become empty by themselves.
    Recover,
    /// All queues are shut down.
    Shutdown(u64),
    /// All queues are dropped.
    Drop,
}

fn any_failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        4 => Just(Failure::Plain),
        1 => Just(Failure::Refused),
        1 => Just(Failure::Throttled),
        2 => (0_u64..60_000).prop_map(Failure::RetryAfter),
        1 => Just(Failure::NotSent),
        1 => Just(Failure::Timeout),
    ]
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Deliver),
        2 => (0_u64..20_000).prop_map(Act::DeliverLate),
        4 => (any_failure(), 0_u64..5_000).prop_map(|(failure, after)| Act::Fail(failure, after)),
        1 => Just(Act::FailForGood),
        2 => Just(Act::Reject),
        1 => (1_usize..4).prop_map(Act::RejectSome),
        1 => Just(Act::FilterSome),
        2 => any_failure().prop_map(Act::DeliverHalf),
        2 => (any_failure(), any::<bool>()).prop_map(|(failure, all)| Act::DeliverOdd(failure, all)),
        1 => Just(Act::Forget),
        2 => (1_usize..6).prop_map(Act::MaxSpans),
        2 => (50_usize..600).prop_map(Act::MaxBytes),
        2 => Just(Act::Hang),
        1 => Just(Act::TakeAndHang),
        1 => Just(Act::Panic),
        1 => Just(Act::TakeAndPanic),
    ]
}

pub(super) fn any_setup() -> impl Strategy<Value = Setup> {
    let drain = prop_oneof![
        6 => Just(Drain::AtOnce),
        1 => Just(Drain::Fail),
        1 => Just(Drain::Hang),
        1 => Just(Drain::Panic),
    ];
    let attempt_timeout =
        prop_oneof![3 => Just(Some(10_000)), 1 => Just(Some(700)), 1 => Just(None)];
    let settings = (
        1_usize..4,
        attempt_timeout,
        weighted(0.4, 1_u64..60_000),
        weighted(0.2, 0_u32..3),
    );
    (
        vec(any_act(), 0..10),
        any_act(),
        drain,
        settings,
        any::<bool>(),
    )
        .prop_map(|(acts, then, drain, settings, gives_up_early)| {
            let (concurrent_exports, attempt_timeout, export_limit, max_retries) = settings;
            Setup {
                acts,
                then,
                drain,
                concurrent_exports,
                attempt_timeout,
                export_limit,
                max_retries,
                gives_up_early,
            }
        })
}

fn any_push() -> impl Strategy<Value = Push> {
    let padding = prop_oneof![3 => 1_usize..8, 1 => 100_usize..300];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (vec(1_usize..8, 1..4), 1_usize..4, padding, flags).prop_map(
        |(sources, batches, padding, (waits, evicts, is_hasty))| Push {
            sources,
            waits,
            batches,
            padding,
            evicts,
            is_hasty,
        },
    )
}

pub(super) fn any_call() -> impl Strategy<Value = Call> {
    let within = prop_oneof![1 => 0_u64..2_000, 1 => 5_000_u64..60_000];
    (within, weighted(0.3, 0_u64..10_000)).prop_map(|(within, dropped_after)| Call {
        within,
        dropped_after,
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let advance = prop_oneof![2 => 0_u64..1_000, 2 => 1_000_u64..20_000, 1 => Just(300_000)];
    prop_oneof![
        10 => any_push().prop_map(Step::Push),
        1 => (1_usize..6, any::<bool>()).prop_map(|(spans, is_kept)| Step::Withdraw { spans, is_kept }),
        1 => (0_usize..3).prop_map(Step::Evict),
        8 => advance.prop_map(Step::Advance),
        2 => (0_usize..3, any_call()).prop_map(|(which, call)| Step::Flush(which, call)),
        1 => (0_usize..3, any_call()).prop_map(|(which, call)| Step::Shutdown(which, call)),
        1 => weighted(0.1, 0_usize..3).prop_map(|which| which.map_or(Step::Advance(1), Step::Abort)),
    ]
}

pub(super) fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(End::Recover),
        3 => (0_u64..60_000).prop_map(End::Shutdown),
        1 => Just(End::Drop),
    ]
}

pub(super) fn any_plan() -> impl Strategy<Value = Plan> {
    let max_bytes = prop_oneof![3 => Just(1_usize << 20), 1 => 1_000_usize..6_000];
    let bounds = (any::<bool>(), max_bytes, weighted(0.3, 5_usize..60));
    (
        vec(any_setup(), 1..4),
        bounds,
        vec(any_step(), 1..25),
        any_end(),
    )
        .prop_map(
            |(destinations, (shares_budget, max_bytes, max_spans), steps, end)| Plan {
                destinations,
                shares_budget,
                max_bytes,
                max_spans,
                steps,
                end,
            },
        )
}
