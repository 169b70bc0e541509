//! What threads do with the code, and what must be true whatever the order of their steps.

use std::sync::Arc;
use std::time::Duration;

use shuttle::sync::Mutex;
use shuttle::thread;

use super::budget::Budget;
use super::owner::Owner;

const HOUR: Duration = Duration::from_secs(3600);

/// Threads take and give back. What they hold never exceeds the bounds, and nothing is left at the end.
pub(crate) fn takers_stay_within_the_bound() {
    let budget = Arc::new(Budget::new(10, Some(3)));
    let held = Arc::new(Mutex::new((0, 0)));
    let takers = [(4, 1), (5, 2), (6, 1)].map(|(bytes, spans)| {
        let (budget, held) = (Arc::clone(&budget), Arc::clone(&held));
        thread::spawn(move || {
            for _ in 0..2 {
                if !budget.try_take(bytes, spans) {
                    continue;
                }
                let sum = {
                    let mut held = held.lock().unwrap();
                    held.0 += bytes;
                    held.1 += spans;
                    *held
                };
                assert!(sum.0 <= 10 && sum.1 <= 3, "beyond the bounds: {sum:?}");
                {
                    let mut held = held.lock().unwrap();
                    held.0 -= bytes;
                    held.1 -= spans;
                }
                budget.give_back(bytes, spans);
            }
        })
    });
    for taker in takers {
        taker.join().unwrap();
    }
    assert_eq!((budget.bytes(), budget.spans()), (0, 0));
}

/// Threads wait for room in a full budget. Each gets it when there is enough, although no time passes.
pub(crate) fn waiting_takers_are_woken() {
    let budget = Arc::new(Budget::new(10, None));
    assert!(budget.try_take(10, 0));
    let wait_for = |bytes| {
        let budget = Arc::clone(&budget);
        thread::spawn(move || assert!(budget.take_within(bytes, 1, HOUR)))
    };
    // Both fit at once, and neither gives anything back that would wake the other.
    let takers = [wait_for(5), wait_for(5)];
    budget.give_back(10, 0);
    for taker in takers {
        taker.join().unwrap();
    }
    // Room that is given back in pieces is enough in the end.
    let taker = wait_for(8);
    budget.give_back(5, 0);
    budget.give_back(5, 0);
    taker.join().unwrap();
    assert_eq!(budget.bytes(), 8);
    assert_eq!(budget.waiting(), 0);
}

/// A handle of an exporter, as far as its ownership goes.
struct Handle {
    owner: Owner,
    has_ended: Mutex<bool>,
}

#[derive(Default)]
struct Closes(Mutex<u32>);

impl Handle {
    fn new(owner: Owner) -> Self {
        let has_ended = Mutex::new(false);
        Self { owner, has_ended }
    }

    /// Shuts the handle down once, and closes what stands behind it if this was the last owner.
    fn shut_down(&self, closes: &Closes) {
        let mut has_ended = self.has_ended.lock().unwrap();
        if !std::mem::replace(&mut *has_ended, true) && self.owner.leave() {
            *closes.0.lock().unwrap() += 1;
        }
    }

    /// Checks that what stands behind a handle that nobody else has is open.
    fn export(&self, closes: &Closes) {
        if !self.owner.has_left() {
            assert_eq!(*closes.0.lock().unwrap(), 0, "closed for an owner");
        }
    }
}

/// Threads clone a handle, use the clones and shut them down, while others shut the first one down.
pub(crate) fn owners_leave() {
    let first = Arc::new(Handle::new(Owner::first()));
    let closes = Arc::new(Closes::default());
    let clone = || {
        let (first, closes) = (Arc::clone(&first), Arc::clone(&closes));
        thread::spawn(move || {
            let mine = Handle::new(first.owner.another());
            mine.export(&closes);
            let second = Handle::new(mine.owner.another());
            mine.shut_down(&closes);
            second.export(&closes);
            second.shut_down(&closes);
        })
    };
    let shut_down = || {
        let (first, closes) = (Arc::clone(&first), Arc::clone(&closes));
        thread::spawn(move || first.shut_down(&closes))
    };
    for thread in [clone(), clone(), shut_down(), shut_down()] {
        thread.join().unwrap();
    }
    assert_eq!(*closes.0.lock().unwrap(), 1, "closed once");
    assert!(first.owner.another().has_left(), "nothing is left to own");
}
