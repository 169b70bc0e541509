//! The batches that wait for their next attempt, in each order in which they are needed. No operation looks at all of them,
//! because the caller holds a lock; the exception is the end.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use tokio::time::Instant;

use super::item::Item;

/// Batches that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Those that have not failed, by their position.
    fresh: BTreeMap<u64, Item>,
    /// Those that failed, by the time at which they are due; among equals, by the order in which they came.
    failed: BTreeMap<(Instant, u64), Item>,
    /// All of them by arrival, oldest first; among equals, failed ones first.
    by_age: BTreeSet<(u64, Key)>,
    /// Those whose time runs out, by when it does.
    by_expiry: BTreeSet<(Instant, Key)>,
    /// Those that were not sent since the shutdown began. `None` before a shutdown.
    unsent: Option<BTreeSet<Key>>,
    positions: u64,
    failures: u64,
}

/// Where a batch waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Failed(Instant, u64),
    Fresh(u64),
}

impl Waiting {
    /// Adds a batch behind all fresh ones.
    pub(super) fn push_back(&mut self, item: Item) {
        self.positions += 1;
        self.insert(Key::Fresh(self.positions), item);
    }

    /// Adds a batch that failed and may be sent again at `due`.
    pub(super) fn push_failed(&mut self, item: Item, due: Instant) {
        self.failures += 1;
        self.insert(Key::Failed(due, self.failures), item);
    }

    /// Since when the first fresh batch waits.
    pub(super) fn fresh_since(&self) -> Option<Instant> {
        let (_, first) = self.fresh.first_key_value()?;
        Some(first.waits_since)
    }

    /// Takes the first fresh batch.
    pub(super) fn pop_fresh(&mut self) -> Option<Item> {
        let (&position, _) = self.fresh.first_key_value()?;
        self.remove(Key::Fresh(position))
    }

    /// Takes the failed batch that has been due for longest.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Item> {
        self.next_due().filter(|due| *due <= now)?;
        self.pop_failed()
    }

    /// Takes the failed batch that is due first, though it may not be due yet.
    pub(super) fn pop_failed(&mut self) -> Option<Item> {
        let (&(due, number), _) = self.failed.first_key_value()?;
        self.remove(Key::Failed(due, number))
    }

    /// Takes a batch whose time has run out.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<Item> {
        let (expiry, key) = *self.by_expiry.first()?;
        match expiry <= now {
            true => self.remove(key),
            false => None,
        }
    }

    /// Takes the batch that arrived first.
    pub(super) fn pop_oldest(&mut self) -> Option<Item> {
        let (_, key) = *self.by_age.first()?;
        self.remove(key)
    }

    /// Takes a batch that was not sent since the shutdown began, a fresh one if there is one.
    pub(super) fn pop_unsent(&mut self) -> Option<Item> {
        let unsent = self.unsent.as_ref()?;
        let first_fresh = unsent.range(Key::Fresh(0)..).next();
        let key = *first_fresh.or_else(|| unsent.first())?;
        self.remove(key)
    }

    /// Whether there is a batch that was not sent since the shutdown began.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent
            .as_ref()
            .is_some_and(|unsent| !unsent.is_empty())
    }

    /// Begins to note which batches are sent.
    pub(super) fn begin_shutdown(&mut self) {
        if self.unsent.is_none() {
            self.unsent = Some(self.by_age.iter().map(|(_, key)| *key).collect());
        }
    }

    /// Lets failed batches be sent at `at`, or when they are due if that is earlier.
    ///
    /// It touches only those that are due later, and each of them again only after another failure.
    pub(super) fn release(&mut self, at: Instant) {
        let after = (at, u64::MAX);
        let later: Vec<_> = self.failed.range(after..).map(|(key, _)| *key).collect();
        for (due, number) in later {
            if let Some(item) = self.remove(Key::Failed(due, number)) {
                self.push_failed(item, at);
            }
        }
    }

    /// When the first failed batch is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.failed.keys().next().map(|(due, _)| *due)
    }

    /// When the time of a batch runs out next.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.by_expiry.first().map(|(expiry, _)| *expiry)
    }

    /// How many fresh batches there are.
    pub(super) fn fresh(&self) -> usize {
        self.fresh.len()
    }

    /// How many failed batches there are.
    pub(super) fn failed(&self) -> usize {
        self.failed.len()
    }

    /// All of them, in no order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Item> {
        self.fresh.values().chain(self.failed.values())
    }

    /// Takes everything.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Item> {
        let all = std::mem::take(self);
        all.fresh.into_values().chain(all.failed.into_values())
    }

    fn insert(&mut self, key: Key, item: Item) {
        self.by_age.insert((item.arrival, key));
        if let Some(expiry) = item.expires_at {
            self.by_expiry.insert((expiry, key));
        }
        if let Some(unsent) = &mut self.unsent
            && !item.is_sent_at_shutdown
        {
            unsent.insert(key);
        }
        match key {
            Key::Fresh(position) => drop(self.fresh.insert(position, item)),
            Key::Failed(due, number) => drop(self.failed.insert((due, number), item)),
        }
    }

    fn remove(&mut self, key: Key) -> Option<Item> {
        let item = match key {
            Key::Fresh(position) => self.fresh.remove(&position),
            Key::Failed(due, number) => self.failed.remove(&(due, number)),
        }?;
        self.by_age.remove(&(item.arrival, key));
        if let Some(expiry) = item.expires_at {
            self.by_expiry.remove(&(expiry, key));
        }
        if let Some(unsent) = &mut self.unsent {
            unsent.remove(&key);
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::Books;
    use super::super::Budget;
    use super::*;
    use crate::Batch;
    use crate::DropReason;
    use crate::diagnostics::Diagnostics;

    /// A batch that waits, as the model has it. Numbers are seconds.
    #[derive(Clone, Debug, PartialEq)]
    struct Plain {
        arrival: u64,
        /// Its place among fresh ones, or when it is due.
        place: Result<u64, u64>,
        /// In which order it came.
        number: u64,
        expiry: Option<u64>,
        is_sent: bool,
    }

    impl Plain {
        fn is_fresh(&self) -> bool {
            self.place.is_ok()
        }
    }

    /// The same as [`Waiting`], in one list.
    #[derive(Debug, Default)]
    struct Model {
        all: Vec<Plain>,
        number: u64,
    }

    impl Model {
        fn take_min<K: Ord>(
            &mut self,
            is_such: impl Fn(&Plain) -> bool,
            key: impl Fn(&Plain) -> K,
        ) -> Option<u64> {
            let such = self.all.iter().enumerate().filter(|(_, it)| is_such(it));
            let (place, _) = such.min_by_key(|(_, it)| key(it))?;
            Some(self.all.remove(place).arrival)
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push {
            place: u8,
            due: u64,
            expiry: Option<u64>,
            is_sent: bool,
        },
        Pop(u8, u64),
        Release(u64),
        BeginShutdown,
    }

    fn arbitrary_op() -> impl Strategy<Value = Op> {
        let expiry = prop::option::of(0_u64..50);
        let push = (0_u8..2, 0_u64..50, expiry, any::<bool>());
        prop_oneof![
            6 => push.prop_map(|(place, due, expiry, is_sent)| Op::Push { place, due, expiry, is_sent }),
            5 => (0_u8..6, 0_u64..50).prop_map(|(which, now)| Op::Pop(which, now)),
            1 => (0_u64..50).prop_map(Op::Release),
            1 => Just(Op::BeginShutdown),
        ]
    }

    proptest! {
        #[test]
        fn every_order_is_that_of_one_list(ops in prop::collection::vec(arbitrary_op(), 1..80)) {
            let start = Instant::now();
            let at = |seconds: u64| start + Duration::from_secs(seconds);
            let budget = Arc::new(Budget::new(1 << 20, None));
            let books = Books::new(budget, Arc::new(Diagnostics::default()), None);
            let batch = || {
                let batches = books.enter(0, 0).into_tracked(vec![Batch::empty()]);
                batches.into_iter().next().expect("one batch")
            };
            let mut waiting = Waiting::default();
            let mut model = Model::default();
            let mut has_begun = false;
            let mut arrivals = 0;
            for op in ops {
                match op {
                    Op::Push { place, due, expiry, is_sent } => {
                        arrivals += 1;
                        // Parts of one batch share their arrival.
                        let arrival = arrivals / 2;
                        let mut item = Item::new(batch(), arrival);
                        item.expires_at = expiry.map(at);
                        // Before a shutdown nothing was sent since.
                        let is_sent = is_sent && has_begun;
                        item.is_sent_at_shutdown = is_sent;
                        model.number += 1;
                        let place = match place {
                            0 => {
                                waiting.push_back(item);
                                Ok(model.number)
                            }
                            _ => {
                                waiting.push_failed(item, at(due));
                                Err(due)
                            }
                        };
                        let number = model.number;
                        model.all.push(Plain { arrival, place, number, expiry, is_sent });
                    }
                    Op::Pop(which, now) => {
                        let place = |it: &Plain| (it.is_fresh(), it.place, it.number);
                        let (taken, expected) = match which {
                            0 => (waiting.pop_fresh(), model.take_min(Plain::is_fresh, place)),
                            1 => {
                                let is_due = |it: &Plain| it.place.is_err_and(|due| due <= now);
                                (waiting.pop_due(at(now)), model.take_min(is_due, place))
                            }
                            2 => {
                                let has_failed = |it: &Plain| !it.is_fresh();
                                (waiting.pop_failed(), model.take_min(has_failed, place))
                            }
                            3 => {
                                let is_over = |it: &Plain| it.expiry.is_some_and(|end| end <= now);
                                let key = |it: &Plain| (it.expiry, place(it));
                                (waiting.pop_expired(at(now)), model.take_min(is_over, key))
                            }
                            4 => {
                                let key = |it: &Plain| (it.arrival, place(it));
                                (waiting.pop_oldest(), model.take_min(|_| true, key))
                            }
                            _ => {
                                let is_unsent = |it: &Plain| has_begun && !it.is_sent;
                                let key = |it: &Plain| (!it.is_fresh(), it.place, it.number);
                                (waiting.pop_unsent(), model.take_min(is_unsent, key))
                            }
                        };
                        let arrival = taken.map(|item| {
                            item.tracked.drop_spans(DropReason::Failed, None);
                            item.arrival
                        });
                        prop_assert_eq!(arrival, expected);
                    }
                    Op::Release(now) => {
                        waiting.release(at(now));
                        let mut later: Vec<_> = Vec::new();
                        for (place, it) in model.all.iter().enumerate() {
                            if let Err(due) = it.place && due > now {
                                later.push((due, it.number, place));
                            }
                        }
                        later.sort_unstable();
                        for (_, _, place) in later {
                            model.number += 1;
                            model.all[place].place = Err(now);
                            model.all[place].number = model.number;
                        }
                    }
                    Op::BeginShutdown => {
                        waiting.begin_shutdown();
                        has_begun = true;
                    }
                }
                let fresh = model.all.iter().filter(|it| it.is_fresh()).count();
                prop_assert_eq!(waiting.fresh(), fresh);
                prop_assert_eq!(waiting.failed(), model.all.len() - fresh);
                let due = model.all.iter().filter_map(|it| it.place.err()).min();
                prop_assert_eq!(waiting.next_due(), due.map(at));
                let expiry = model.all.iter().filter_map(|it| it.expiry).min();
                prop_assert_eq!(waiting.next_expiry(), expiry.map(at));
                let unsent = model.all.iter().any(|it| has_begun && !it.is_sent);
                prop_assert_eq!(waiting.has_unsent(), unsent);
            }
            let mut left = 0;
            for item in waiting.take_all() {
                item.tracked.drop_spans(DropReason::Shutdown, None);
                left += 1;
            }
            prop_assert_eq!(left, model.all.len());
        }
    }
}
