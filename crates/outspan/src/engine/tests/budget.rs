//! The bounds of a budget, and the wait for room in it.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::budget::Budget;

#[test]
fn takes_up_to_its_bounds_and_not_beyond() {
    let budget = Budget::new(100, Some(3));
    assert!(budget.try_take(60, 1));
    assert!(!budget.try_take(41, 1), "too many bytes");
    assert!(budget.try_take(20, 2), "a failed try took nothing");
    assert!(!budget.try_take(1, 1), "too many spans");
    budget.give_back(60, 1);
    assert!(budget.try_take(80, 1));
    assert_eq!(budget.bytes(), 100);
}

#[test]
fn an_exchange_may_pass_the_bound_but_counts() {
    let budget = Budget::new(100, None);
    assert!(budget.try_take(100, 1));
    budget.exchange(100, 130);
    assert_eq!(budget.bytes(), 130);
    assert!(!budget.try_take(0, 1));
    budget.exchange(130, 20);
    assert_eq!(budget.bytes(), 20);
}

#[test]
fn an_exchange_of_spans_may_pass_the_bound_but_counts() {
    let budget = Budget::new(100, Some(3));
    assert_eq!(budget.spans_max(), Some(3));
    assert!(budget.try_take(0, 2));
    budget.exchange_spans(2, 5);
    assert!(!budget.try_take(0, 1));
    budget.exchange_spans(5, 1);
    assert!(budget.try_take(0, 2));
    assert!(!budget.try_take(0, 1));
}

#[test]
fn whoever_waits_goes_on_when_there_is_room() {
    let budget = Arc::new(Budget::new(100, None));
    assert!(budget.try_take(100, 1));
    let (tell, told) = mpsc::channel();
    let waiter = Arc::clone(&budget);
    thread::spawn(move || {
        let is_taken = waiter.take_within(50, 1, Duration::from_secs(3600));
        tell.send(is_taken).expect("the test still listens");
    });
    while budget.waiting() == 0 {
        thread::yield_now();
    }
    budget.give_back(50, 1);
    let is_taken = told.recv_timeout(Duration::from_secs(10));
    assert!(is_taken.expect("the waiter was woken"));
    assert_eq!(budget.bytes(), 100);
}

#[test]
fn whoever_waits_for_all_there_is_gets_it() {
    let budget = Budget::new(100, None);
    assert!(budget.take_within(100, 1, Duration::ZERO));
}

#[test]
fn whoever_waits_gives_up_in_time() {
    let budget = Budget::new(100, None);
    assert!(budget.try_take(100, 1));
    assert!(!budget.take_within(1, 1, Duration::from_millis(5)));
    assert!(
        !budget.take_within(101, 1, Duration::from_secs(3600)),
        "can never fit"
    );
}
