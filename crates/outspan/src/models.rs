//! Models of code that several threads run, in random orders of their steps.
//!
//! A model includes the file of the real code again, below a module with shuttle's types under the name `sync`: then shuttle
//! decides after each step of a lock or an atomic which thread goes on. Each scenario also runs with a planted bug, which it
//! must find: otherwise it would prove nothing.
//!
//! - [`correct`]: the code with shuttle's types.
//! - [`lost_updates`]: the same code with atomics that are not atomic.
//! - [`lost_wakeups`]: the same code with a condition variable that wakes one thread only.
//! - [`driver`]: the protocol of a queue's driver, with tokio's types for wake-ups. The driver itself needs a runtime.
//!
//! The time of the real code stands still: a wait with a timeout never ends by itself, so a missed wake-up is a deadlock.

mod correct;
mod driver;
mod lost_updates;
mod lost_wakeups;

use std::env;
use std::panic::catch_unwind;

use self::driver::Fault;

/// How many orders a scenario is run in. `OUTSPAN_MODEL_RUNS` sets another number.
const RUNS: usize = 1500;

fn runs() -> usize {
    let runs = env::var("OUTSPAN_MODEL_RUNS").ok();
    runs.and_then(|runs| runs.parse().ok()).unwrap_or(RUNS)
}

/// Runs a scenario in orders that are random step by step, and in orders with few changes of the thread.
fn check(scenario: impl Fn() + Clone + Send + Sync + 'static) {
    shuttle::check_random(scenario.clone(), runs());
    shuttle::check_pct(scenario, runs(), 3);
}

/// Checks that a scenario with a planted bug fails.
fn assert_found(scenario: impl Fn() + Clone + Send + Sync + 'static) {
    let found = catch_unwind(std::panic::AssertUnwindSafe(|| check(scenario)));
    assert!(found.is_err(), "the planted bug was not found");
}

#[test]
fn budget_is_never_exceeded_and_given_back() {
    check(correct::scenarios::takers_stay_within_the_bound);
    assert_found(lost_updates::scenarios::takers_stay_within_the_bound);
}

#[test]
fn budget_wakes_every_taker_that_fits() {
    check(correct::scenarios::waiting_takers_are_woken);
    assert_found(lost_wakeups::scenarios::waiting_takers_are_woken);
}

#[test]
fn exporter_closes_once_and_after_the_last_owner() {
    check(correct::scenarios::owners_leave);
    assert_found(lost_updates::scenarios::owners_leave);
}

#[cfg(feature = "sdk")]
#[test]
fn buffer_neither_loses_nor_repeats_spans() {
    use self::correct::buffers::Mark;
    use self::correct::buffers::buffer_is_closed;

    check(|| buffer_is_closed(1000, Mark::AfterClose));
    check(|| buffer_is_closed(9, Mark::AfterClose));
    assert_found(|| buffer_is_closed(9, Mark::BeforeClose));
}

#[test]
fn driver_sees_every_push_and_flush_every_end() {
    check(|| driver::pushes_and_flush(None));
    assert_found(|| driver::pushes_and_flush(Some(Fault::WakeWithoutPermit)));
    assert_found(|| driver::pushes_and_flush(Some(Fault::WakeBeforePush)));
    assert_found(|| driver::pushes_and_flush(Some(Fault::LateSubscription)));
}
