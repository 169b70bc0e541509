//! What happens in one course of the model of a queue with several readers.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;

use super::plan::Act;
use super::plan::Call;
use super::plan::Drain;
use super::plan::End;
use super::plan::Setup;
use super::plan::any_call;
use super::plan::any_end;
use super::plan::any_setup;

/// One course of events. Times are in milliseconds.
#[derive(Clone, Debug)]
pub(super) struct QueuePlan {
    pub(super) readers: Vec<ReaderSetup>,
    pub(super) limits: Option<Limits>,
    pub(super) steps: Vec<QueueStep>,
    pub(super) end: End,
}

#[derive(Clone, Debug)]
pub(super) struct ReaderSetup {
    pub(super) setup: Setup,
    pub(super) max_bytes: usize,
    pub(super) max_spans: Option<usize>,
}

/// How batches are merged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) spans: usize,
    pub(super) bytes: usize,
    pub(super) delay: u64,
}

#[derive(Clone, Debug)]
pub(super) enum QueueStep {
    TryReserve(Reservation, Use),
    ReserveEvicting(Reservation, Use),
    /// Waits for space beside the next steps.
    Reserve(Reservation, Call),
    /// Uses a permit that was kept, or that a caller that waited has.
    Use(usize, Use),
    /// Merges two permits that were kept.
    Merge(usize, usize),
    HandOver,
    Advance(u64),
    Flush(Call),
    Shutdown(Call),
    Abort,
}

/// Space for one batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reservation {
    pub(super) spans: usize,
    /// How many bytes a name has.
    pub(super) padding: usize,
    /// How much is reserved of what the batch takes, in percent.
    pub(super) percent: usize,
}

/// What becomes of a permit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    Keep,
    Push {
        /// Whether the source waits for the end of its spans.
        waits: bool,
        /// Whether the source keeps the spans that a queue which is shut down gives back.
        is_kept: bool,
    },
    Release,
    Drop,
}

fn any_reader() -> impl Strategy<Value = ReaderSetup> {
    // One destination in three takes everything at once, so that others can be seen not to matter to it.
    let setup = (any_setup(), weighted(0.35, Just(())));
    let max_bytes = prop_oneof![1 => Just(1_usize << 20), 2 => 800_usize..6_000];
    (setup, max_bytes, weighted(0.3, 5_usize..60)).prop_map(
        |((mut setup, is_healthy), max_bytes, max_spans)| {
            if is_healthy.is_some() {
                setup.acts.clear();
                setup.then = Act::Deliver;
                setup.drain = Drain::AtOnce;
            }
            ReaderSetup {
                setup,
                max_bytes,
                max_spans,
            }
        },
    )
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (1_usize..30, 100_usize..3_000, 0_u64..2_000).prop_map(|(spans, bytes, delay)| Limits {
        spans,
        bytes,
        delay,
    })
}

fn any_reservation() -> impl Strategy<Value = Reservation> {
    let padding = prop_oneof![3 => 1_usize..8, 1 => 100_usize..300];
    let percent = prop_oneof![4 => Just(100_usize), 1 => 10_usize..100, 1 => 100_usize..300];
    (1_usize..12, padding, percent).prop_map(|(spans, padding, percent)| Reservation {
        spans,
        padding,
        percent,
    })
}

fn any_use() -> impl Strategy<Value = Use> {
    prop_oneof![
        2 => Just(Use::Keep),
        8 => (any::<bool>(), any::<bool>()).prop_map(|(waits, is_kept)| Use::Push { waits, is_kept }),
        1 => Just(Use::Release),
        1 => Just(Use::Drop),
    ]
}

fn any_step() -> impl Strategy<Value = QueueStep> {
    let advance = prop_oneof![2 => 0_u64..1_000, 2 => 1_000_u64..20_000, 1 => Just(300_000)];
    prop_oneof![
        10 => (any_reservation(), any_use()).prop_map(|(space, then)| QueueStep::TryReserve(space, then)),
        1 => (any_reservation(), any_use()).prop_map(|(space, then)| QueueStep::ReserveEvicting(space, then)),
        3 => (any_reservation(), any_call()).prop_map(|(space, call)| QueueStep::Reserve(space, call)),
        6 => (0_usize..4, any_use()).prop_map(|(which, then)| QueueStep::Use(which, then)),
        1 => (0_usize..4, 0_usize..4).prop_map(|(one, other)| QueueStep::Merge(one, other)),
        1 => Just(QueueStep::HandOver),
        6 => advance.prop_map(QueueStep::Advance),
        2 => any_call().prop_map(QueueStep::Flush),
        1 => weighted(0.4, any_call())
            .prop_map(|call| call.map_or(QueueStep::Advance(10), QueueStep::Shutdown)),
        1 => weighted(0.1, Just(QueueStep::Abort))
            .prop_map(|abort| abort.unwrap_or(QueueStep::Advance(1))),
    ]
}

pub(super) fn any_queue_plan() -> impl Strategy<Value = QueuePlan> {
    (
        vec(any_reader(), 1..4),
        weighted(0.5, any_limits()),
        vec(any_step(), 1..35),
        any_end(),
    )
        .prop_map(|(readers, limits, steps, end)| QueuePlan {
            readers,
            limits,
            steps,
            end,
        })
}
