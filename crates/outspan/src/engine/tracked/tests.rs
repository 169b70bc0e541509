use std::sync::Mutex;
use std::sync::mpsc;

use proptest::prelude::*;

use super::*;
use crate::engine::Ack;
use crate::engine::AckOutcome;
use crate::engine::tests::batch_of;
use crate::pending;

/// What an observer was called with.
#[derive(Debug, Default)]
struct Observed(Mutex<Vec<(&'static str, u64)>>);

impl HandOver for Observed {
    fn handed_over(&self, spans: u64) {
        self.0.lock().unwrap().push(("handed over", spans));
    }

    fn dropped_before(&self, error_type: &'static str, spans: u64) {
        self.0.lock().unwrap().push((error_type, spans));
    }
}

struct Rig {
    books: Arc<Books>,
    observed: Arc<Observed>,
    /// What the hook for drops was called with.
    drops: mpsc::Receiver<(DropReason, u64)>,
}

impl Rig {
    fn new() -> Self {
        let observed = Arc::new(Observed::default());
        let (sender, drops) = mpsc::channel();
        let hook = move |event: &crate::DropEvent| {
            sender.send((event.reason, event.spans)).unwrap();
        };
        let diagnostics = Diagnostics::new(Some(Arc::new(hook)));
        let budget = Arc::new(Budget::new(1 << 20, Some(1000)));
        let observer = Arc::clone(&observed) as _;
        Self {
            books: Books::new(budget, Arc::new(diagnostics), Some(observer)),
            observed,
            drops,
        }
    }

    fn entry(&self, spans: usize) -> Entry {
        let entry = self.books.try_reserve(spans * 100, spans);
        entry.expect("there is room")
    }

    fn tracked(&self, spans: usize) -> Tracked {
        let mut tokens = self.entry(spans).into_tracked(vec![batch_of(spans)]);
        tokens.pop().expect("a token for the batch")
    }

    fn started(&self, spans: usize) -> Tracked {
        let mut tracked = self.tracked(spans);
        tracked.start();
        tracked
    }

    /// Received, delivered, rejected, dropped, queued, in flight.
    fn numbers(&self) -> [u64; 6] {
        let account = self.books.account();
        assert!(account.closes(), "{account}");
        [
            account.received,
            account.delivered,
            account.refused,
            account.dropped.total(),
            account.queued,
            account.in_flight,
        ]
    }

    fn observed(&self) -> Vec<(&'static str, u64)> {
        std::mem::take(&mut *self.observed.0.lock().unwrap())
    }

    fn drops(&self) -> Vec<(DropReason, u64)> {
        self.drops.try_iter().collect()
    }

    /// Checks that nothing is held or charged any more, and that no token was forgotten.
    fn check_empty(&self) {
        assert_eq!(self.books.account().open(), 0);
        assert_eq!(self.books.budget().bytes(), 0);
        assert!(self.books.try_charge_all(), "all spans are given back");
        assert_eq!(self.books.abandoned(), 0);
    }
}

impl Books {
    fn try_charge_all(&self) -> bool {
        let spans = self.budget.spans_max().unwrap();
        let is_free = self.budget.try_take(0, spans);
        if is_free {
            self.budget.give_back(0, spans);
        }
        is_free
    }
}

/// An ack, and what the source was told.
fn source() -> (Ack, mpsc::Receiver<AckOutcome>) {
    let (sender, told) = mpsc::channel();
    let ack = Ack::new(move |outcome| drop(sender.send(outcome)));
    (ack, told)
}

#[test]
fn delivered_batch_updates_all_books() {
    let rig = Rig::new();
    let mut tracked = rig.tracked(3);
    assert_eq!(rig.numbers(), [3, 0, 0, 0, 3, 0]);
    let memory = tracked.batch().own_memory();
    assert_eq!(rig.books.budget().bytes(), memory);
    assert!(rig.observed().is_empty());
    tracked.start();
    assert_eq!(rig.numbers(), [3, 0, 0, 0, 0, 3]);
    assert_eq!(rig.observed(), [("handed over", 3)]);
    let delivery = Delivery::of(tracked.batch());
    let completed = tracked.complete(Ok(delivery));
    assert_eq!(completed.accepted, 3);
    assert!(completed.rest.is_empty());
    assert_eq!(rig.numbers(), [3, 3, 0, 0, 0, 0]);
    rig.check_empty();
}

#[test]
fn failed_batch_stays_in_flight_until_it_is_retried() {
    let rig = Rig::new();
    let down = Error::unavailable("down");
    let completed = rig.started(3).complete(Err(down));
    assert_eq!(rig.numbers(), [3, 0, 0, 0, 0, 3]);
    let (mut part, error) = completed.rest.into_iter().next().unwrap();
    assert!(error.is_temporary());
    part.retry();
    assert_eq!(rig.numbers(), [3, 0, 0, 0, 3, 0]);
    part.start();
    assert_eq!(rig.observed(), [("handed over", 3)], "once");
    part.complete(Ok(Delivery::of(&batch_of(3))));
    assert_eq!(rig.numbers(), [3, 3, 0, 0, 0, 0]);
    rig.check_empty();
}

#[test]
fn partial_delivery_keeps_only_the_rest() {
    let rig = Rig::new();
    let tracked = rig.started(10);
    let mut delivery = Delivery {
        accepted: 3,
        refused: 2,
        filtered: 1,
        message: Some("two are bad".to_owned()),
        ..Delivery::default()
    };
    let parts: Vec<_> = tracked.batch().split_by_spans(2).collect();
    for part in &parts[..2] {
        delivery.leave(part.clone(), Error::unavailable("down"));
    }
    let completed = tracked.complete(Ok(delivery));
    assert_eq!((completed.accepted, completed.rejected), (3, 2));
    assert_eq!(completed.filtered, 1);
    let rejection = completed.error.expect("the reason of the rejection");
    assert!(rejection.to_string().contains("two are bad"));
    assert_eq!(rig.numbers(), [10, 3, 2, 1, 0, 4]);
    let charged: usize = parts[..2].iter().map(Batch::own_memory).sum();
    assert_eq!(rig.books.budget().bytes(), charged);
    assert_eq!(rig.drops(), [(DropReason::Filtered, 1)]);
    for (part, error) in completed.rest {
        assert_eq!(part.spans(), 2);
        part.drop_spans(DropReason::Expired, Some(&error));
    }
    assert_eq!(rig.numbers(), [10, 3, 2, 5, 0, 0]);
    assert_eq!(rig.drops(), [(DropReason::Expired, 2); 2]);
    rig.check_empty();
}

#[test]
fn delivery_that_counts_wrongly_leaves_no_span_out() {
    let rig = Rig::new();
    let too_many = Delivery {
        accepted: 7,
        refused: 9,
        ..Delivery::default()
    };
    rig.started(4).complete(Ok(too_many));
    assert_eq!(rig.numbers(), [4, 4, 0, 0, 0, 0]);
    let too_few = Delivery {
        accepted: 1,
        ..Delivery::default()
    };
    let completed = rig.started(4).complete(Ok(too_few));
    assert!(completed.error.is_some());
    assert_eq!(rig.numbers(), [8, 5, 0, 3, 0, 0]);
    assert_eq!(rig.drops(), [(DropReason::Failed, 3)]);
    let mut another = Delivery::default();
    another.leave(batch_of(5), Error::unavailable("of another batch"));
    let completed = rig.started(4).complete(Ok(another));
    assert!(completed.rest.is_empty());
    assert_eq!(rig.numbers(), [12, 5, 0, 7, 0, 0]);
    rig.check_empty();
}

#[test]
fn rejected_batch_is_counted_as_rejected() {
    let rig = Rig::new();
    let completed = rig.started(2).complete(Err(Error::refused("no")));
    for (part, error) in completed.rest {
        part.reject(&error);
    }
    assert_eq!(rig.numbers(), [2, 0, 2, 0, 0, 0]);
    rig.check_empty();
}

#[test]
fn split_conserves_spans_and_charges_the_parts() {
    let rig = Rig::new();
    let tracked = rig.started(5);
    let parts: Vec<_> = tracked.batch().split_by_spans(2).collect();
    let charged: usize = parts.iter().map(Batch::own_memory).sum();
    let parts = tracked.split(parts);
    assert_eq!(
        parts.iter().map(Tracked::spans).collect::<Vec<_>>(),
        [2, 2, 1]
    );
    assert_eq!(rig.numbers(), [5, 0, 0, 0, 0, 5]);
    assert_eq!(rig.books.budget().bytes(), charged);
    let dropped = Tracked::drop_all(parts, &rig.books, DropReason::Shutdown, None);
    assert_eq!(rig.numbers(), [5, 0, 0, 5, 0, 0]);
    assert!(rig.drops().is_empty(), "nothing is reported yet");
    dropped.report();
    assert_eq!(rig.drops(), [(DropReason::Shutdown, 5)], "one report");
    assert_eq!(rig.observed(), [("handed over", 5)], "dropped after that");
    rig.check_empty();
}

#[test]
fn merged_entries_become_one_batch() {
    let rig = Rig::new();
    let mut entry = rig.entry(2);
    entry.merge(rig.entry(3)).unwrap();
    assert_eq!((entry.spans(), entry.bytes()), (5, 500));
    let other = Rig::new();
    let foreign = entry.merge(other.entry(1)).unwrap_err();
    foreign.cancel();
    other.check_empty();
    let tokens = entry.into_tracked(vec![batch_of(5)]);
    assert_eq!(tokens.len(), 1);
    assert_eq!(rig.numbers(), [5, 0, 0, 0, 5, 0]);
    for token in tokens {
        token.drop_spans(DropReason::QueueFull, None);
    }
    assert_eq!(rig.observed(), [("queue_full", 5)]);
    rig.check_empty();
}

#[test]
fn entry_with_other_spans_than_its_batches_is_accounted_for() {
    let rig = Rig::new();
    let mut tokens = rig.entry(5).into_tracked(vec![batch_of(3)]);
    assert_eq!(rig.numbers(), [5, 0, 0, 2, 3, 0]);
    assert_eq!(rig.drops(), [(DropReason::Failed, 2)]);
    tokens.extend(rig.entry(1).into_tracked(vec![batch_of(3), batch_of(1)]));
    assert_eq!(rig.numbers(), [9, 0, 0, 2, 7, 0]);
    Tracked::drop_all(tokens, &rig.books, DropReason::Shutdown, None).report();
    rig.check_empty();
}

#[test]
fn cancelled_entry_was_never_received() {
    let rig = Rig::new();
    rig.entry(4).cancel();
    assert_eq!(rig.numbers(), [0; 6]);
    assert!(rig.books.try_reserve(1 << 21, 1).is_none());
    assert_eq!(rig.numbers(), [0; 6]);
    rig.check_empty();
}

#[test]
fn spans_that_are_turned_away_are_received_and_dropped() {
    let rig = Rig::new();
    let dropped = rig.books.turn_away(DropReason::QueueFull, 2);
    assert_eq!(rig.numbers(), [2, 0, 0, 2, 0, 0]);
    assert!(rig.drops().is_empty());
    dropped.report();
    assert_eq!(rig.drops(), [(DropReason::QueueFull, 2)]);
    rig.books.turn_away(DropReason::Shutdown, 1).report();
    let observed = [("queue_full", 2), ("already_shutdown", 1)];
    assert_eq!(rig.observed(), observed);
    rig.check_empty();
}

#[test]
fn token_without_a_transition_counts_as_abandoned() {
    let rig = Rig::new();
    let (ack, told) = source();
    let mut entry = rig.entry(3);
    entry.add_acks(ack.branch(3));
    drop(ack);
    drop(entry);
    assert_eq!(rig.books.abandoned(), 3);
    assert_eq!(rig.numbers(), [3, 0, 0, 3, 0, 0]);
    let dropped = told.recv().unwrap().dropped.expect("the source is told");
    assert_eq!(dropped.reason, DropReason::Failed);
    drop(rig.started(2));
    assert_eq!(rig.books.abandoned(), 5);
    assert_eq!(rig.numbers(), [5, 0, 0, 5, 0, 0]);
    assert_eq!(rig.drops().len(), 2, "and it is reported");
    assert_eq!(rig.books.budget().bytes(), 0);
}

#[test]
fn acks_are_charged_until_the_last_span_ends() {
    let rig = Rig::new();
    let bytes = || rig.books.budget().bytes();
    let (first, _told_first) = source();
    let (second, _told_second) = source();
    let mut entry = rig.entry(2);
    entry.add_acks(first.branch(2));
    let one = bytes() - 200;
    assert!(one >= 300, "{one} bytes for an ack");
    let mut other = rig.entry(3);
    other.add_acks(second.branch(3));
    entry.merge(other).unwrap();
    assert_eq!(bytes(), 500 + 2 * one);
    let mut tokens = entry.into_tracked(vec![batch_of(5)]);
    let mut tracked = tokens.pop().expect("a token for the batch");
    let own = tracked.batch().own_memory();
    assert_eq!(bytes(), own + 2 * one);
    tracked.start();
    let parts: Vec<_> = tracked.batch().split_by_spans(2).collect();
    let mut delivery = Delivery {
        accepted: 3,
        ..Delivery::default()
    };
    delivery.leave(parts[0].clone(), Error::unavailable("later"));
    let completed = tracked.complete(Ok(delivery));
    assert_eq!(bytes(), parts[0].own_memory() + 2 * one);
    for (part, error) in completed.rest {
        part.reject(&error);
    }
    rig.check_empty();
    let mut entry = rig.entry(4);
    entry.add_acks(first.branch(4));
    entry.cancel();
    rig.check_empty();
    let mut entry = rig.entry(5);
    entry.add_acks(first.branch(5));
    let parts = batch_of(5).split_by_spans(2).collect();
    let tokens = entry.into_tracked(parts);
    assert!(bytes() > one, "parts have the acks as well");
    Tracked::drop_all(tokens, &rig.books, DropReason::Shutdown, None).report();
    rig.check_empty();
}

#[test]
fn acks_of_pending_spans_are_charged_until_these_are_written() {
    let rig = Rig::new();
    let (ack, told) = source();
    let mut entry = rig.entry(2);
    entry.add_acks(ack.branch(2));
    drop(ack);
    let mut tokens = entry.into_tracked(vec![batch_of(2)]);
    let mut tracked = tokens.pop().expect("a token for the batch");
    tracked.start();
    let mut acks = pending::Acks::default();
    let written = [acks.one(), acks.one()];
    let delivery = Delivery {
        pending: acks.into_pending().into_iter().collect(),
        ..Delivery::of(tracked.batch())
    };
    tracked.complete(Ok(delivery));
    assert!(rig.books.budget().bytes() >= 300);
    assert!(told.try_recv().is_err());
    let (progress, mut seen) = watch::channel(());
    rig.books.tell_progress(progress);
    seen.mark_unchanged();
    for span in written {
        span.delivered();
    }
    assert!(told.recv().unwrap().dropped.is_none());
    assert!(seen.has_changed().unwrap(), "those who wait look again");
    rig.check_empty();
}

#[test]
fn books_of_several_destinations_share_an_ack() {
    let (one, other) = (Rig::new(), Rig::new());
    let (ack, told) = source();
    let mut started = Vec::new();
    for rig in [&one, &other] {
        let mut entry = rig.entry(4);
        entry.add_acks(ack.branch(4));
        for mut tracked in entry.into_tracked(vec![batch_of(4)]) {
            tracked.start();
            started.push(tracked);
        }
    }
    drop(ack);
    let second = started.pop().unwrap();
    let first = started.pop().unwrap();
    first.complete(Ok(Delivery::partial(&batch_of(4), 1, "bad")));
    assert!(told.try_recv().is_err(), "the other destination has them");
    second.complete(Ok(Delivery::of(&batch_of(4))));
    let outcome = told.try_recv().expect("all are done");
    assert_eq!(outcome.rejected, 1);
    assert!(outcome.dropped.is_none());
    assert_eq!(one.numbers(), [4, 3, 1, 0, 0, 0]);
    assert_eq!(other.numbers(), [4, 4, 0, 0, 0, 0]);
    one.check_empty();
    other.check_empty();
}

#[test]
fn source_is_told_when_the_last_part_has_ended() {
    let rig = Rig::new();
    let (ack, told) = source();
    let mut entry = rig.entry(4);
    entry.add_acks(ack.branch(4));
    drop(ack);
    let mut tracked = entry.into_tracked(vec![batch_of(4)]).pop().unwrap();
    tracked.start();
    let parts = tracked.batch().split_by_spans(1).collect();
    let mut parts = tracked.split(parts);
    let last = parts.pop().unwrap();
    for part in parts {
        part.reject(&Error::refused("no"));
    }
    assert!(told.try_recv().is_err());
    last.drop_spans(DropReason::Expired, Some(&Error::unavailable("down")));
    let outcome = told.try_recv().expect("all are done");
    assert_eq!(outcome.rejected, 3);
    assert_eq!(outcome.dropped.unwrap().reason, DropReason::Expired);
    rig.check_empty();
}

#[test]
fn source_waits_for_spans_that_are_pending_in_an_exporter() {
    for is_written in [true, false] {
        let rig = Rig::new();
        let (ack, told) = source();
        let mut entry = rig.entry(1);
        entry.add_acks(ack.branch(1));
        drop(ack);
        let mut tracked = entry.into_tracked(vec![batch_of(1)]).pop().unwrap();
        tracked.start();
        let mut acks = pending::Acks::default();
        let held = acks.one();
        let delivery = Delivery {
            pending: acks.into_pending().into_iter().collect(),
            ..Delivery::of(tracked.batch())
        };
        let completed = tracked.complete(Ok(delivery));
        assert_eq!((completed.accepted, completed.pending), (1, 1));
        assert_eq!(rig.numbers(), [1, 0, 0, 0, 0, 1]);
        assert!(told.try_recv().is_err(), "it is not written yet");
        match is_written {
            true => held.delivered(),
            false => held.lost(DropReason::Failed, None),
        }
        let outcome = told.try_recv().expect("its end is known");
        assert_eq!(outcome.dropped.is_none(), is_written);
        assert_eq!(rig.books.account().delivered, u64::from(is_written));
        rig.check_empty();
    }
}

/// A transition of one of the tokens that there are; `usize` chooses which.
#[derive(Clone, Debug)]
enum Step {
    Reserve(usize),
    Merge(usize),
    Split(usize, usize),
    Cancel(usize),
    DropEntry(usize),
    Push(usize, usize),
    Start(usize),
    DropQueued(usize),
    Deliver(usize),
    DeliverSome(usize, [u64; 3]),
    Fail(usize),
    Halve(usize),
    Reject(usize),
}

fn arbitrary_step() -> impl Strategy<Value = Step> {
    let which = any::<usize>;
    prop_oneof![
        6 => (0_usize..30).prop_map(Step::Reserve),
        1 => which().prop_map(Step::Merge),
        1 => (which(), 0_usize..30).prop_map(|(which, spans)| Step::Split(which, spans)),
        1 => which().prop_map(Step::Cancel),
        1 => which().prop_map(Step::DropEntry),
        6 => (which(), 1_usize..10).prop_map(|(which, spans)| Step::Push(which, spans)),
        9 => which().prop_map(Step::Start),
        1 => which().prop_map(Step::DropQueued),
        2 => which().prop_map(Step::Deliver),
        3 => (which(), any::<[u8; 3]>()).prop_map(|(which, counts)| {
            Step::DeliverSome(which, counts.map(|count| u64::from(count % 16)))
        }),
        2 => which().prop_map(Step::Fail),
        1 => which().prop_map(Step::Halve),
        1 => which().prop_map(Step::Reject),
    ]
}

/// All tokens of one destination, where each is.
#[derive(Default)]
struct Tokens {
    entries: Vec<Entry>,
    queued: Vec<Tracked>,
    in_flight: Vec<Tracked>,
}

fn take<T>(tokens: &mut Vec<T>, which: usize) -> Option<T> {
    let place = which.checked_rem(tokens.len())?;
    Some(tokens.swap_remove(place))
}

impl Tokens {
    fn step(&mut self, step: Step, books: &Arc<Books>) -> Option<()> {
        let down = Error::unavailable("down");
        match step {
            Step::Reserve(spans) => self.entries.push(books.try_reserve(spans * 50, spans)?),
            Step::Merge(which) => {
                let other = take(&mut self.entries, which)?;
                match take(&mut self.entries, which) {
                    Some(mut entry) => {
                        entry.merge(other).expect("the same books");
                        self.entries.push(entry);
                    }
                    None => self.entries.push(other),
                }
            }
            Step::Split(which, spans) => {
                let mut entry = take(&mut self.entries, which)?;
                let spans = spans.min(entry.spans());
                let bytes = entry.bytes() / 2;
                self.entries.push(entry.split(bytes, spans));
                self.entries.push(entry);
            }
            Step::Cancel(which) => take(&mut self.entries, which)?.cancel(),
            Step::DropEntry(which) => {
                take(&mut self.entries, which)?.drop_spans(DropReason::Shutdown, None);
            }
            Step::Push(which, spans) => {
                let entry = take(&mut self.entries, which)?;
                let parts = batch_of(entry.spans());
                let parts = parts.split_by_spans(spans).collect();
                self.queued.extend(entry.into_tracked(parts));
            }
            Step::Start(which) => {
                let mut tracked = take(&mut self.queued, which)?;
                tracked.start();
                self.in_flight.push(tracked);
            }
            Step::DropQueued(which) => {
                take(&mut self.queued, which)?.drop_spans(DropReason::QueueFull, None);
            }
            Step::Deliver(which) => {
                let tracked = take(&mut self.in_flight, which)?;
                let delivery = Delivery::of(tracked.batch());
                tracked.complete(Ok(delivery));
            }
            Step::DeliverSome(which, [accepted, refused, filtered]) => {
                let tracked = take(&mut self.in_flight, which)?;
                let mut delivery = Delivery {
                    accepted,
                    refused,
                    filtered,
                    ..Delivery::default()
                };
                for part in tracked.batch().split_by_spans(3) {
                    delivery.leave(part, down.clone());
                }
                self.put_back(tracked.complete(Ok(delivery)));
            }
            Step::Fail(which) => {
                let tracked = take(&mut self.in_flight, which)?;
                self.put_back(tracked.complete(Err(down)));
            }
            Step::Halve(which) => {
                let tracked = take(&mut self.in_flight, which)?;
                let half = tracked.batch().spans().div_ceil(2).max(1);
                let parts = tracked.batch().split_by_spans(half).collect();
                self.in_flight.extend(tracked.split(parts));
            }
            Step::Reject(which) => take(&mut self.in_flight, which)?.reject(&down),
        }
        Some(())
    }

    fn put_back(&mut self, completed: Completed) {
        for (mut part, _) in completed.rest {
            part.retry();
            self.queued.push(part);
        }
    }

    fn spans(&self) -> [u64; 2] {
        let reserved: usize = self.entries.iter().map(Entry::spans).sum();
        let queued: u64 = self.queued.iter().map(Tracked::spans).sum();
        let in_flight: u64 = self.in_flight.iter().map(Tracked::spans).sum();
        [reserved as u64 + queued, in_flight]
    }

    fn bytes(&self) -> usize {
        let reserved: usize = self.entries.iter().map(Entry::bytes).sum();
        let batches = self.queued.iter().chain(&self.in_flight);
        let batches: usize = batches.map(|tracked| tracked.batch().own_memory()).sum();
        reserved + batches
    }
}

proptest! {
    #[test]
    fn spans_and_bytes_are_conserved_at_each_transition(
        steps in prop::collection::vec(arbitrary_step(), 0..80),
    ) {
        let rig = Rig::new();
        let mut tokens = Tokens::default();
        for step in steps {
            tokens.step(step, &rig.books);
            let [.., queued, in_flight] = rig.numbers();
            prop_assert_eq!(tokens.spans(), [queued, in_flight]);
            prop_assert_eq!(tokens.bytes(), rig.books.budget().bytes());
        }
        for entry in tokens.entries {
            entry.drop_spans(DropReason::Shutdown, None);
        }
        let batches = tokens.queued.into_iter().chain(tokens.in_flight);
        Tracked::drop_all(batches, &rig.books, DropReason::Shutdown, None).report();
        rig.check_empty();
        let [received, delivered, rejected, dropped, ..] = rig.numbers();
        prop_assert_eq!(received, delivered + rejected + dropped);
        let observed: u64 = rig.observed().iter().map(|(_, spans)| spans).sum();
        prop_assert_eq!(observed, received, "each span is observed once");
    }
}
