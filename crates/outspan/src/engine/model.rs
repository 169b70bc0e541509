//! A model test of the engine: random courses of events against destinations that answer as their scripts say.
//!
//! ```text
//!   sources ─▶ entries, merged and split ─▶ queue of each destination ─▶ observer of whole batches ─▶ splitter ─▶ script
//!      ▲                                                                                                            │
//!      └── acks, compared with ─── books, budget, log hook, observer, compared with ─── what the destination took ──┘
//! ```
//!
//! The clock is paused, so the tests pass through hours in milliseconds. After every step:
//!
//! - the account of each destination is balanced, agrees with what was pushed, and with the batches that wait and are sent;
//! - the bytes and spans of the budget are those of these batches and of the parts that are being sent;
//! - no token was abandoned;
//! - no source was told of the end of spans that are held;
//! - no span was sent again after the destination had answered for it, nor twice at the same time.
//!
//! A second model drives a [`MemoryQueue`](super::MemoryQueue) of up to three readers through [`SpanQueue`](super::SpanQueue):
//! permits that are pushed, merged, released and dropped, callers that wait for space, a batcher. It checks also that
//!
//! - a permit is granted exactly if a reader has space, and callers that wait are served in the order of their calls;
//! - nobody waits for space that is there;
//! - a reader without space counts exactly its spans as `queue_full`;
//! - a reader whose destination takes everything at once holds nothing, whatever the other destinations do.
//!
//! At the end nothing is held, every source was told once and no better than the truth, and the account agrees with what the
//! destination answered, and with what the log hook and the observer were told.

mod destination;
mod plan;
mod queue_plan;
mod queue_world;
mod world;

use std::env;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use self::plan::Plan;
use self::plan::any_plan;
use self::queue_plan::QueuePlan;
use self::queue_plan::any_queue_plan;
use self::queue_world::QueueWorld;
use self::world::World;

/// How many courses are run. `OUTSPAN_MODEL_CASES` sets another number.
const CASES: u32 = 2000;

fn config() -> ProptestConfig {
    let cases = env::var("OUTSPAN_MODEL_CASES").ok();
    ProptestConfig {
        cases: cases.and_then(|it| it.parse().ok()).unwrap_or(CASES),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "src/engine/model/regressions.txt",
        ))),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    }
}

fn run_paused(course: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(course);
}

fn run(plan: &Plan) {
    run_paused(async {
        let mut world = World::new(plan);
        for step in &plan.steps {
            world.take(step).await;
        }
        world.end(plan.end).await;
    });
}

fn run_queue(plan: &QueuePlan) {
    run_paused(async {
        let mut world = QueueWorld::new(plan);
        for step in &plan.steps {
            world.take(step).await;
        }
        world.end(plan.end).await;
    });
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_span_ends_once_whatever_the_course(plan in any_plan()) {
        run(&plan);
    }

    #[test]
    fn readers_of_a_queue_end_every_span_once(plan in any_queue_plan()) {
        run_queue(&plan);
    }
}
