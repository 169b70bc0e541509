//! The queue of one course and its readers, with what must be true of them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::destination::Shared as Notes;
use super::destination::destination;
use super::destination::ids;
use super::destination::lock;
use super::plan::Act;
use super::plan::Call;
use super::plan::End;
use super::plan::Setup;
use super::queue_plan::QueuePlan;
use super::queue_plan::QueueStep;
use super::queue_plan::ReaderSetup;
use super::queue_plan::Reservation;
use super::queue_plan::Use;
use super::world::Ended;
use super::world::PATIENCE;
use super::world::Source;
use super::world::Told;
use super::world::ack;
use super::world::batch_of;
use super::world::in_time;
use super::world::millis;
use super::world::pass;
use super::world::run_all;
use crate::Batch;
use crate::Deadline;
use crate::DropReason;
use crate::ErrorKind;
use crate::Losses;
use crate::Retry;
use crate::engine::BatchLimits;
use crate::engine::Books;
use crate::engine::MemoryQueue;
use crate::engine::MemoryQueueBuilder;
use crate::engine::Permit;
use crate::engine::ReserveError;
use crate::engine::SpanQueue;
use crate::guard::GRACE;

/// One reader, and what the model knows of it.
struct ReaderModel {
    books: Arc<Books>,
    notes: Notes,
    setup: Setup,
    has_span_bound: bool,
    hooked: Arc<Mutex<Losses>>,
    /// How many spans were reserved or left out here, and not released.
    received: AtomicU64,
    /// How many spans were in permits that were dropped.
    withdrawn: AtomicU64,
    /// The spans that had no space.
    full: Mutex<BTreeSet<u64>>,
    /// How many spans were dropped to make space.
    evicted: AtomicU64,
    /// Rejected and dropped spans that flushes and shutdowns reported.
    reported: AtomicU64,
}

/// A permit that is kept, and the batch that it is for.
struct Kept {
    permit: Permit,
    batch: Batch,
}

/// A call of `reserve`.
struct Waiter {
    bytes: usize,
    spans: usize,
}

/// What calls that run beside the steps share with them.
struct Common {
    queue: MemoryQueue,
    readers: Vec<Arc<ReaderModel>>,
    /// Calls of `reserve` that have not returned, by their order.
    waiting: Mutex<BTreeMap<u64, Waiter>>,
    kept: Mutex<Vec<Kept>>,
    is_closed: AtomicBool,
    /// Whether exports may have been cut off, so that answers may not have arrived.
    is_cut: AtomicBool,
    /// Whether a shutdown of all readers has returned its counts.
    has_reported: AtomicBool,
}

pub(super) struct QueueWorld {
    common: Arc<Common>,
    merges: bool,
    sources: Vec<Source>,
    /// Sources whose spans the queue gave back.
    returned: Vec<Told>,
    calls: Vec<JoinHandle<()>>,
    next_id: u64,
    next_call: u64,
}

fn start(plan: &QueuePlan) -> (MemoryQueue, Vec<Arc<ReaderModel>>) {
    let mut known = Vec::new();
    let builders = plan.readers.iter().enumerate().map(|(place, reader)| {
        let (builder, notes, hooked) = builder(place, reader);
        known.push((notes, hooked, reader));
        builder
    });
    let all = builders.reduce(MemoryQueueBuilder::with_reader);
    let mut all = all.expect("at least one reader");
    if let Some(limits) = plan.limits {
        all = all.batches(BatchLimits {
            spans: limits.spans,
            bytes: limits.bytes,
            delay: millis(limits.delay),
        });
    }
    let queue = all.start().unwrap();
    let books: Vec<_> = queue
        .shared()
        .map(|shared| Arc::clone(&shared.books))
        .collect();
    let readers = known.into_iter().zip(books);
    let readers = readers.map(|((notes, hooked, reader), books)| {
        Arc::new(ReaderModel {
            books,
            notes,
            setup: reader.setup.clone(),
            has_span_bound: reader.max_spans.is_some(),
            hooked,
            received: AtomicU64::new(0),
            withdrawn: AtomicU64::new(0),
            full: Mutex::default(),
            evicted: AtomicU64::new(0),
            reported: AtomicU64::new(0),
        })
    });
    let readers = readers.collect();
    (queue, readers)
}

fn builder(place: usize, reader: &ReaderSetup) -> (MemoryQueueBuilder, Notes, Arc<Mutex<Losses>>) {
    let setup = &reader.setup;
    let (exporter, notes) = destination(setup);
    let hooked = Arc::new(Mutex::new(Losses::default()));
    let counted = Arc::clone(&hooked);
    let mut builder = MemoryQueue::builder(exporter)
        .name(format!("reader {place}"))
        .bytes(reader.max_bytes)
        .spans(reader.max_spans.and_then(NonZeroUsize::new))
        .concurrent_exports(setup.concurrent_exports)
        .attempt_timeout(setup.attempt_timeout.map(millis))
        .export_limit(setup.export_limit.map(millis))
        .retry(Retry::default().max_retries(setup.max_retries))
        .on_drop(move |event| lock(&counted).add(event.reason, event.spans))
        .runtime(Handle::current());
    if setup.gives_up_early {
        builder = builder.gives_up_early();
    }
    (builder, notes, hooked)
}

impl ReaderModel {
    fn has_space(&self, bytes: usize, spans: usize) -> bool {
        let budget = self.books.budget();
        // No other thread takes space between this and the next step.
        budget.try_take(bytes, spans) && {
            budget.give_back(bytes, spans);
            true
        }
    }

    fn could_hold(&self, bytes: usize, spans: usize) -> bool {
        self.books.budget().could_hold(bytes, spans)
    }

    /// Whether its destination takes everything at once.
    fn is_healthy(&self) -> bool {
        self.setup.acts.is_empty() && matches!(self.setup.then, Act::Deliver)
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.books.account().dropped.of(reason)
    }
}

impl Common {
    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Counts a permit that was granted.
    fn granted(&self, permit: &Permit) {
        let spans = permit.spans() as u64;
        for (reader, has_space) in self.readers.iter().zip(permit.readers()) {
            if has_space {
                reader.received.fetch_add(spans, Ordering::Relaxed);
            }
        }
    }

    /// The spans that wait or are in flight at a reader, each once.
    fn held(&self, place: usize) -> BTreeSet<u64> {
        let mut held = BTreeSet::new();
        let shared = self.queue.shared().nth(place).expect("a reader");
        let schedule = shared.lock();
        let waiting = schedule.waiting_items();
        let waiting = waiting.flat_map(|item| ids(item.tracked.batch()));
        let notes = lock(&self.readers[place].notes);
        for id in waiting.chain(notes.in_flight()) {
            assert!(held.insert(id), "span {id} is held twice");
        }
        held
    }

    /// The bytes of the batches that wait or are in flight at a reader.
    fn held_bytes(&self, place: usize) -> usize {
        let shared = self.queue.shared().nth(place).expect("a reader");
        let schedule = shared.lock();
        let waiting = schedule.waiting_items().map(|item| {
            let bytes = item.tracked.bytes();
            assert_eq!(bytes, item.tracked.batch().own_memory(), "charged exactly");
            bytes
        });
        waiting.sum::<usize>() + lock(&self.readers[place].notes).batch_bytes()
    }

    /// The spans that are being collected, and for each reader the bytes and spans charged for them.
    fn collected(&self) -> (BTreeSet<u64>, Vec<(usize, usize)>) {
        let (batches, mut charges) = self.queue.collected();
        charges.resize(self.readers.len(), (0, 0));
        (batches.iter().flat_map(ids).collect(), charges)
    }

    /// The bytes and spans of permits that are kept, at a reader.
    fn kept(&self, place: usize) -> (usize, usize) {
        let kept = lock(&self.kept);
        let of_reader = kept
            .iter()
            .filter_map(|kept| kept.permit.entries()[place].as_ref());
        of_reader.fold((0, 0), |sum, entry| {
            (sum.0 + entry.bytes(), sum.1 + entry.spans())
        })
    }

    fn check(&self, when: &str) {
        let (_, charges) = self.collected();
        for (place, charged) in charges.iter().enumerate() {
            self.check_reader(place, *charged, when);
        }
        for (reader, status) in self.readers.iter().zip(self.queue.status()) {
            assert_eq!(status.account, reader.books.account(), "{when}");
            assert_eq!(status.bytes, reader.books.budget().bytes(), "{when}");
            assert_eq!(status.exports, lock(&reader.notes).batches(), "{when}");
        }
        let waiting = lock(&self.waiting);
        if self.is_closed() {
            assert!(waiting.is_empty(), "{when}: waits for a closed queue");
        }
        if let Some((number, first)) = waiting.first_key_value() {
            let mut readers = self.readers.iter();
            let has_space = readers.any(|reader| reader.has_space(first.bytes, first.spans));
            assert!(
                !has_space,
                "{when}: call {number} waits for space that is there"
            );
        }
    }

    fn check_reader(&self, place: usize, collected: (usize, usize), when: &str) {
        let reader = &self.readers[place];
        let when = format!("{when}, reader {place}");
        let account = reader.books.account();
        assert!(account.closes(), "{when}: {account}");
        assert_eq!(reader.books.abandoned(), 0, "{when}: abandoned");
        let received = reader.received.load(Ordering::Relaxed);
        assert_eq!(account.received, received, "{when}: {account}");
        let held = self.held(place);
        let kept = self.kept(place);
        let open = held.len() + collected.1 + kept.1;
        assert_eq!(account.open(), open as u64, "{when}: {account}");
        let notes = lock(&reader.notes);
        assert!(notes.faults.is_empty(), "{when}: {:?}", notes.faults);
        let parts: Vec<usize> = notes.part_bytes().collect();
        drop(notes);
        let budget = reader.books.budget();
        if reader.has_span_bound {
            assert_eq!(budget.spans(), open, "{when}: spans of the budget");
        }
        let all = self.held_bytes(place) + collected.0 + kept.0 + parts.iter().sum::<usize>();
        // A budget that is full lets one export at a time have a part beyond it.
        let has_turn = budget.part_turn().available_permits() == 0;
        let is_right = budget.bytes() == all
            || (has_turn && parts.iter().any(|part| budget.bytes() == all - part));
        let bytes = budget.bytes();
        assert!(is_right, "{when}: {bytes} bytes for {all}, parts {parts:?}");
        let full = lock(&reader.full).len() as u64;
        let evicted = reader.evicted.load(Ordering::Relaxed);
        let counted = reader.dropped(DropReason::QueueFull);
        assert_eq!(counted, full + evicted, "{when}: queue_full");
        if reader.is_healthy() {
            assert!(held.is_empty(), "{when}: healthy and holds {held:?}");
        }
    }

    async fn reserve(self: Arc<Self>, number: u64, batch: Batch, waiter: Waiter, call: Call) {
        let began = Instant::now();
        let (bytes, spans) = (waiter.bytes, waiter.spans);
        let deadline = Deadline::after(millis(call.within));
        let reserve = self.queue.reserve(bytes, spans, deadline);
        let reserved = in_time(call, reserve).await;
        let first = lock(&self.waiting)
            .first_key_value()
            .map(|(first, _)| *first);
        lock(&self.waiting).remove(&number);
        match reserved {
            None => {}
            Some(Ok(permit)) => {
                assert_eq!(
                    first,
                    Some(number),
                    "served before those that called earlier"
                );
                assert!(!self.is_closed(), "granted by a closed queue");
                assert_eq!((permit.bytes(), permit.spans()), (bytes, spans));
                self.granted(&permit);
                lock(&self.kept).push(Kept { permit, batch });
            }
            Some(Err(ReserveError::Full)) => {
                assert!(began.elapsed() >= millis(call.within), "ended early");
            }
            Some(Err(ReserveError::TooLarge { .. })) => {
                let mut readers = self.readers.iter();
                assert!(readers.all(|reader| !reader.could_hold(bytes, spans)));
            }
            Some(Err(ReserveError::ShutDown)) => assert!(self.is_closed(), "not shut down"),
        }
    }

    fn all_held(&self) -> Vec<BTreeSet<u64>> {
        let (collected, _) = self.collected();
        let all = (0..self.readers.len()).map(|place| {
            let mut held = self.held(place);
            held.extend(&collected);
            held
        });
        all.collect()
    }

    async fn flush(self: Arc<Self>, call: Call) {
        let began = Instant::now();
        let before = self.all_held();
        let queue: &dyn SpanQueue = &self.queue;
        let flush = queue.flush_readers(Deadline::after(millis(call.within)));
        let Some(results) = in_time(call, flush).await else {
            return;
        };
        let elapsed = began.elapsed();
        assert!(
            elapsed <= millis(call.within) + 2 * GRACE,
            "took {elapsed:?}"
        );
        assert_eq!(results.len(), self.readers.len());
        let after = self.all_held();
        for (place, result) in results.into_iter().enumerate() {
            // Spans that had no space in this reader are held by others only.
            let of_reader = before[place]
                .difference(&lock(&self.readers[place].full))
                .copied()
                .collect::<BTreeSet<_>>();
            let still = of_reader.intersection(&after[place]).count() as u64;
            let Ok(drained) = result else {
                assert_eq!(
                    still, 0,
                    "reader {place}: an error hides spans that are held"
                );
                continue;
            };
            assert!(
                still <= drained.left,
                "reader {place}: {still} held, {drained:?}"
            );
            self.note_reported(place, &drained);
        }
    }

    fn note_reported(&self, place: usize, drained: &crate::Drained) {
        let lost = drained.lost.total() - drained.lost.of(DropReason::Filtered);
        let reported = &self.readers[place].reported;
        reported.fetch_add(lost + drained.refused, Ordering::Relaxed);
    }

    async fn shut_down(self: Arc<Self>, call: Call) {
        let began = Instant::now();
        let queue: &dyn SpanQueue = &self.queue;
        let shutdown = queue.shutdown_readers(Deadline::after(millis(call.within)));
        // The first poll closes the queue, and nothing runs between this and that.
        self.is_closed.store(true, Ordering::Relaxed);
        let Some(results) = in_time(call, shutdown).await else {
            self.is_cut.store(true, Ordering::Relaxed);
            return;
        };
        let elapsed = began.elapsed();
        let within = millis(call.within);
        assert!(elapsed <= within + 3 * GRACE, "took {elapsed:?}");
        if elapsed >= within {
            self.is_cut.store(true, Ordering::Relaxed);
        }
        let mut has_reported = true;
        for (place, result) in results.into_iter().enumerate() {
            match &result {
                Ok(drained) => {
                    assert_eq!(drained.left, 0, "reader {place}: {drained:?}");
                    self.note_reported(place, drained);
                }
                Err(_) => has_reported = false,
            }
            // Another shutdown may go on, or the exporter's may have taken too long.
            let is_late = |error: &crate::Error| error.kind() == ErrorKind::Timeout;
            if result.as_ref().err().is_some_and(is_late) {
                continue;
            }
            let kept = self.kept(place).1 as u64;
            let account = self.readers[place].books.account();
            assert_eq!(account.open(), kept, "held after the shutdown: {account}");
        }
        self.has_reported.fetch_or(has_reported, Ordering::Relaxed);
    }

    async fn abort(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        self.is_closed.store(true, Ordering::Relaxed);
        SpanQueue::abort(&self.queue).await;
        for (place, reader) in self.readers.iter().enumerate() {
            let kept = self.kept(place).1 as u64;
            let account = reader.books.account();
            assert_eq!(account.open(), kept, "held after the end: {account}");
        }
    }
}

impl QueueWorld {
    pub(super) fn new(plan: &QueuePlan) -> Self {
        let (queue, readers) = start(plan);
        Self {
            common: Arc::new(Common {
                queue,
                readers,
                waiting: Mutex::default(),
                kept: Mutex::default(),
                is_closed: AtomicBool::new(false),
                is_cut: AtomicBool::new(false),
                has_reported: AtomicBool::new(false),
            }),
            merges: plan.limits.is_some(),
            sources: Vec::new(),
            returned: Vec::new(),
            calls: Vec::new(),
            next_id: 1,
            next_call: 1,
        }
    }

    pub(super) async fn take(&mut self, step: &QueueStep) {
        let common = Arc::clone(&self.common);
        match step {
            QueueStep::TryReserve(space, then) => self.try_reserve(*space, *then),
            QueueStep::ReserveEvicting(space, then) => self.reserve_evicting(*space, *then),
            QueueStep::Reserve(space, call) => {
                let (batch, bytes) = self.batch(*space);
                let waiter = || Waiter {
                    bytes,
                    spans: space.spans,
                };
                let number = self.next_call;
                self.next_call += 1;
                lock(&common.waiting).insert(number, waiter());
                self.spawn(common.reserve(number, batch, waiter(), *call));
            }
            QueueStep::Use(which, then) => self.use_kept(*which, *then),
            QueueStep::Merge(one, other) => self.merge(*one, *other),
            QueueStep::HandOver => common.queue.hand_over(),
            QueueStep::Advance(time) => pass(millis(*time)).await,
            QueueStep::Flush(call) => self.spawn(common.flush(*call)),
            QueueStep::Shutdown(call) => self.spawn(common.shut_down(*call)),
            QueueStep::Abort => common.abort().await,
        }
        self.settle().await;
        self.check(&format!("{step:?}"));
    }

    fn spawn(&mut self, call: impl Future<Output = ()> + Send + 'static) {
        self.calls.push(tokio::spawn(call));
    }

    /// Lets everything run that can run now, and passes on the panics of calls that have ended.
    async fn settle(&mut self) {
        run_all().await;
        let common = &self.common;
        let has_begun = || {
            let mut readers = common.queue.shared().zip(&common.readers);
            readers.all(|(shared, reader)| {
                let started = shared.lock().exports();
                started == lock(&reader.notes).batches()
            })
        };
        let is_served =
            |place: usize| !common.readers[place].is_healthy() || common.held(place).is_empty();
        let mut rounds = 0;
        loop {
            let is_idle = has_begun() && (0..common.readers.len()).all(is_served);
            rounds += 1;
            if is_idle || rounds > 5_000 {
                break;
            }
            tokio::task::yield_now().await;
        }
        // Callers that wait for space see what the last answers have given back.
        run_all().await;
        while !has_begun() {
            tokio::task::yield_now().await;
        }
        self.join_ended().await;
    }

    async fn join_ended(&mut self) {
        let calls = std::mem::take(&mut self.calls);
        let (ended, running) = calls.into_iter().partition(JoinHandle::is_finished);
        self.calls = running;
        let ended: Vec<JoinHandle<()>> = ended;
        for call in ended {
            call.await.unwrap();
        }
    }

    /// Makes a batch, and says how many bytes are reserved for it.
    fn batch(&mut self, space: Reservation) -> (Batch, usize) {
        let ids: Vec<_> = (self.next_id..).take(space.spans).collect();
        self.next_id += space.spans as u64;
        let batch = batch_of(&ids, space.padding);
        let bytes = batch.own_memory() * space.percent / 100;
        (batch, bytes)
    }

    fn try_reserve(&mut self, space: Reservation, then: Use) {
        let common = Arc::clone(&self.common);
        let (batch, bytes) = self.batch(space);
        let spans = space.spans;
        let readers = common.readers.iter();
        let expected: Vec<_> = readers
            .clone()
            .map(|reader| reader.has_space(bytes, spans))
            .collect();
        let is_too_large = !readers
            .clone()
            .any(|reader| reader.could_hold(bytes, spans));
        let others_wait = !lock(&common.waiting).is_empty();
        let queue: &dyn SpanQueue = &common.queue;
        let checked = queue.check(bytes);
        let permit = match queue.try_reserve(bytes, spans) {
            Ok(permit) => permit,
            Err(error) => {
                let has_space = expected.iter().any(|has_space| *has_space);
                let is_right = match error {
                    ReserveError::ShutDown => common.is_closed(),
                    ReserveError::Full => !is_too_large && (others_wait || !has_space),
                    ReserveError::TooLarge { .. } => is_too_large,
                };
                assert!(is_right, "{error:?}: {expected:?}");
                return;
            }
        };
        assert!(!common.is_closed(), "granted by a closed queue");
        assert!(!others_wait, "granted before those that wait");
        assert_eq!(checked, Ok(()), "could have been reserved");
        assert!(
            permit.readers().eq(expected.iter().copied()),
            "{expected:?}"
        );
        assert_eq!((permit.bytes(), permit.spans()), (bytes, spans));
        common.granted(&permit);
        self.make_use(Kept { permit, batch }, then);
    }

    fn reserve_evicting(&mut self, space: Reservation, then: Use) {
        let common = Arc::clone(&self.common);
        let (batch, bytes) = self.batch(space);
        let before = common.all_held();
        let dropped = |reader: &Arc<ReaderModel>| reader.dropped(DropReason::QueueFull);
        let counts: Vec<_> = common.readers.iter().map(dropped).collect();
        let reserved = common.queue.try_reserve_evicting(bytes, space.spans);
        let after = common.all_held();
        for (place, reader) in common.readers.iter().enumerate() {
            let evicted = dropped(reader) - counts[place];
            let full = lock(&reader.full).clone();
            let gone = before[place].difference(&after[place]);
            let gone = gone.filter(|id| !full.contains(id)).count() as u64;
            assert_eq!(evicted, gone, "reader {place}: counted as it was dropped");
            reader.evicted.fetch_add(evicted, Ordering::Relaxed);
        }
        match reserved {
            Ok(permit) => {
                assert!(!common.is_closed(), "granted by a closed queue");
                common.granted(&permit);
                self.make_use(Kept { permit, batch }, then);
            }
            Err(error) => {
                let mut readers = common.readers.iter();
                let has_space = readers.any(|reader| reader.has_space(bytes, space.spans));
                assert!(!has_space || common.is_closed(), "{error:?}");
            }
        }
    }

    fn use_kept(&mut self, which: usize, then: Use) {
        let kept = {
            let mut all = lock(&self.common.kept);
            let count = all.len();
            if count == 0 {
                return;
            }
            all.swap_remove(which % count)
        };
        self.make_use(kept, then);
    }

    fn merge(&mut self, one: usize, other: usize) {
        let mut all = lock(&self.common.kept);
        let count = all.len();
        if count < 2 || one % count == other % count {
            return;
        }
        let (first, second) = (
            (one % count).min(other % count),
            (one % count).max(other % count),
        );
        let second = all.remove(second);
        let mut first = all.remove(first);
        let same_readers = first.permit.readers().eq(second.permit.readers());
        match first.permit.merge(second.permit) {
            Ok(()) => {
                assert!(same_readers, "merged for other readers");
                first.batch = Batch::concatenate(&[first.batch, second.batch]);
            }
            Err(permit) => {
                assert!(!same_readers, "not merged");
                all.push(Kept {
                    permit,
                    batch: second.batch,
                });
            }
        }
        all.push(first);
    }

    fn make_use(&mut self, kept: Kept, then: Use) {
        match then {
            Use::Keep => lock(&self.common.kept).push(kept),
            Use::Push { waits, is_kept } => self.push(kept, waits, is_kept),
            Use::Release => self.give_up(kept.permit, true),
            Use::Drop => self.give_up(kept.permit, false),
        }
    }

    fn give_up(&self, permit: Permit, is_released: bool) {
        let spans = permit.spans() as u64;
        for (reader, has_space) in self.common.readers.iter().zip(permit.readers()) {
            match is_released {
                _ if !has_space => continue,
                true => reader.received.fetch_sub(spans, Ordering::Relaxed),
                false => reader.withdrawn.fetch_add(spans, Ordering::Relaxed),
            };
        }
        match is_released {
            true => permit.release(),
            false => drop(permit),
        }
    }

    fn push(&mut self, kept: Kept, waits: bool, is_kept: bool) {
        let common = Arc::clone(&self.common);
        let Kept { permit, batch } = kept;
        let ids = ids(&batch);
        let told = Told::default();
        let has_space: Vec<_> = permit.readers().collect();
        let queue: &dyn SpanQueue = &common.queue;
        match queue.push(batch, permit, ack(&told, waits)) {
            Ok(()) => {
                assert!(!common.is_closed(), "taken by a closed queue");
                for (reader, has_space) in common.readers.iter().zip(has_space) {
                    if !has_space {
                        let spans = ids.len() as u64;
                        reader.received.fetch_add(spans, Ordering::Relaxed);
                        lock(&reader.full).extend(&ids);
                    }
                }
                self.sources.push(Source {
                    ids,
                    waits,
                    is_alone: !self.merges,
                    told,
                });
            }
            Err(permit) => {
                assert!(common.is_closed(), "given back by an open queue");
                self.give_up(permit, is_kept);
                if waits {
                    self.returned.push(told);
                }
            }
        }
    }

    fn check(&self, when: &str) {
        self.common.check(when);
        let held: BTreeSet<u64> = self.common.all_held().into_iter().flatten().collect();
        for source in &self.sources {
            let told = lock(&source.told).len();
            assert!(told <= usize::from(source.waits), "{when}: told again");
            let is_held = source.ids.iter().any(|id| held.contains(id));
            assert!(told == 0 || !is_held, "{when}: told before the end");
            // Of a batch with spans of several sources it is not known whose parts are held.
            let may_be_held = is_held || (!source.is_alone && !held.is_empty());
            assert!(
                told == 1 || may_be_held || !source.waits,
                "{when}: nothing is held, and the source is not told"
            );
        }
        for told in &self.returned {
            let told = lock(told);
            assert_eq!(told.len(), 1, "{when}: told once");
            let dropped = told[0].dropped.as_ref().map(|dropped| dropped.reason);
            assert_eq!(dropped, Some(DropReason::Shutdown), "{when}");
        }
    }

    /// Ends the course, and checks what became of all spans.
    pub(super) async fn end(mut self, end: End) {
        let common = Arc::clone(&self.common);
        let has_recovered = matches!(end, End::Recover) && !common.is_closed();
        match end {
            End::Recover => {
                if has_recovered {
                    self.recover().await;
                }
                self.shut_down(5_000).await;
            }
            End::Shutdown(within) => self.shut_down(within).await,
            End::Drop => {
                for call in self.calls.drain(..) {
                    call.abort();
                }
                run_all().await;
                lock(&common.waiting).clear();
                common.is_cut.store(true, Ordering::Relaxed);
            }
        }
        self.settle().await;
        self.check("the end");
        // The others are dropped after the queue.
        self.use_kept(0, Use::Release);
        let Self {
            common: ours,
            sources,
            ..
        } = self;
        drop(ours);
        let common = Arc::into_inner(common).expect("no call has it");
        drop(common.queue);
        for kept in common.kept.into_inner().unwrap() {
            for (reader, has_space) in common.readers.iter().zip(kept.permit.readers()) {
                if has_space {
                    let spans = kept.permit.spans() as u64;
                    reader.withdrawn.fetch_add(spans, Ordering::Relaxed);
                }
            }
        }
        run_all().await;
        let is_cut = common.is_cut.into_inner();
        let mut ended = Vec::new();
        for reader in common.readers {
            let reader = Arc::into_inner(reader).expect("only the course has it");
            let account = reader.books.account();
            let budget = reader.books.budget();
            assert_eq!(
                (budget.bytes(), budget.spans()),
                (0, 0),
                "all is given back"
            );
            let withdrawn = reader.withdrawn.into_inner();
            if common.has_reported.load(Ordering::Relaxed) {
                let lost = account.dropped.total() - account.dropped.of(DropReason::Filtered);
                // Permits that were dropped after the shutdown were never pushed.
                let known = reader.reported.into_inner() + withdrawn;
                assert!(
                    account.refused + lost <= known,
                    "{known} reported: {account}"
                );
            }
            ended.push(Ended {
                books: reader.books,
                notes: reader.notes,
                full: reader.full.into_inner().unwrap(),
                is_cut,
                has_recovered: has_recovered && !is_cut,
                withdrawn,
                setup: reader.setup,
                hooked: reader.hooked,
                handed: None,
            });
        }
        for reader in &ended {
            reader.check();
        }
        for source in &sources {
            source.check(&ended);
        }
    }

    /// Waits until readers that run are empty, without any call.
    async fn recover(&mut self) {
        let common = Arc::clone(&self.common);
        for reader in &common.readers {
            lock(&reader.notes).recover();
        }
        let began = Instant::now();
        loop {
            // What callers that waited have, too.
            while !lock(&common.kept).is_empty() {
                let then = Use::Push {
                    waits: true,
                    is_kept: false,
                };
                self.use_kept(0, then);
            }
            self.settle().await;
            self.check("the recovery");
            let is_empty = |reader: &Arc<ReaderModel>| reader.books.account().open() == 0;
            let has_waiters = !lock(&common.waiting).is_empty();
            // A hung call without a limit ends with the queue only.
            if common.is_closed()
                || self.hangs()
                || (common.readers.iter().all(is_empty) && !has_waiters)
            {
                return;
            }
            let accounts: Vec<_> = common.readers.iter().map(|it| it.books.account()).collect();
            assert!(began.elapsed() < PATIENCE, "spans stay held: {accounts:?}");
            pass(Duration::from_secs(5)).await;
        }
    }

    /// Whether exports are in flight that nothing ends.
    fn hangs(&self) -> bool {
        let mut readers = self.common.readers.iter();
        readers.any(|reader| {
            reader.setup.attempt_timeout.is_none()
                && reader.setup.export_limit.is_none()
                && lock(&reader.notes).in_flight().next().is_some()
        })
    }

    async fn shut_down(&mut self, within: u64) {
        let call = Call {
            within,
            dropped_after: None,
        };
        let shutdown = Arc::clone(&self.common).shut_down(call);
        self.spawn(shutdown);
        for call in self.calls.drain(..) {
            call.await.unwrap();
        }
    }
}
