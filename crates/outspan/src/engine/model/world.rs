//! The queues of one course, with what must be true of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outspan_wire::otlp::EncodeSpan;
use outspan_wire::otlp::EncodedResource;
use outspan_wire::otlp::Encoder;
use outspan_wire::otlp::ScopeWriter;
use outspan_wire::otlp::SpanWriter;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::destination::Answered;
use super::destination::Shared;
use super::destination::destination;
use super::destination::ids;
use super::destination::lock;
use super::plan::Call;
use super::plan::End;
use super::plan::Plan;
use super::plan::Push;
use super::plan::Setup;
use super::plan::Step;
use crate::Batch;
use crate::Deadline;
use crate::DropReason;
use crate::Losses;
use crate::Retry;
use crate::diagnostics::Diagnostics;
use crate::diagnostics::Hook;
use crate::ending::Ending;
use crate::engine::Ack;
use crate::engine::AckOutcome;
use crate::engine::Books;
use crate::engine::Budget;
use crate::engine::Entry;
use crate::engine::Flushed;
use crate::engine::HandOver;
use crate::engine::Queue;
use crate::engine::Settings;
use crate::guard::GRACE;

/// How long the longest waits of all batches take together, by far.
pub(super) const PATIENCE: Duration = Duration::from_secs(1_000_000);

/// A queue and its destination.
struct Branch {
    queue: Queue,
    books: Arc<Books>,
    notes: Shared,
    ending: Ending<Flushed>,
    /// How many spans were reserved or turned away here, and not withdrawn.
    received: AtomicU64,
    /// How many spans were reserved and dropped without a push.
    withdrawn: AtomicU64,
    /// The spans that had no room.
    full: Mutex<BTreeSet<u64>>,
    setup: Setup,
    /// Whether exports were cut off, so that answers may not have arrived.
    is_cut: Mutex<bool>,
    has_ended: Mutex<bool>,
    hooked: Arc<Mutex<Losses>>,
    handed: Arc<Handed>,
}

/// Counts what the observer is told.
#[derive(Debug, Default)]
pub(super) struct Handed(AtomicU64);

impl HandOver for Handed {
    fn handed_over(&self, spans: u64) {
        self.0.fetch_add(spans, Ordering::Relaxed);
    }

    fn dropped_before(&self, _error_type: &'static str, spans: u64) {
        self.0.fetch_add(spans, Ordering::Relaxed);
    }
}

/// What a source was told.
pub(super) type Told = Arc<Mutex<Vec<AckOutcome>>>;

/// Spans of one source.
pub(super) struct Source {
    pub(super) ids: Vec<u64>,
    pub(super) waits: bool,
    /// Whether no other source has spans in the same batches.
    pub(super) is_alone: bool,
    pub(super) told: Told,
}

pub(super) struct World {
    branches: Vec<Arc<Branch>>,
    budgets: Vec<Arc<Budget>>,
    has_span_bound: bool,
    sources: Vec<Source>,
    calls: Vec<JoinHandle<()>>,
    next_id: u64,
}

struct ModelSpan {
    id: u64,
    padding: usize,
}

impl EncodeSpan for ModelSpan {
    fn encode_scope(&self, scope: &mut ScopeWriter<'_>) {
        scope.name("model");
    }

    fn encode(&self, span: &mut SpanWriter<'_>) {
        span.trace_id([1; 16]);
        span.span_id(self.id.to_be_bytes());
        span.name(&"x".repeat(self.padding));
    }
}

pub(super) fn batch_of(ids: &[u64], padding: usize) -> Batch {
    let mut encoder = Encoder::default();
    for id in ids {
        let span = ModelSpan { id: *id, padding };
        encoder.push(&EncodedResource::default(), &span);
    }
    let request = encoder.finish().expect("there are spans");
    Batch::trusted(request.bytes, request.spans)
}

pub(super) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) async fn pass(time: Duration) {
    // Sleeps: in the test's time, which passes by itself.
    tokio::time::sleep(time).await;
}

/// Lets everything run that can run now.
pub(super) async fn run_all() {
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
}

impl Branch {
    fn start(setup: &Setup, budget: &Arc<Budget>) -> Self {
        let (exporter, notes) = destination(setup);
        let hooked = Arc::new(Mutex::new(Losses::default()));
        let counted = Arc::clone(&hooked);
        let hook: Hook = Arc::new(move |event| lock(&counted).add(event.reason, event.spans));
        let diagnostics = Arc::new(Diagnostics::new(Some(hook)));
        let handed = Arc::new(Handed::default());
        let observer: Arc<dyn HandOver> = Arc::<Handed>::clone(&handed);
        let books = Books::new(Arc::clone(budget), Arc::clone(&diagnostics), Some(observer));
        let settings = Settings {
            concurrent_exports: setup.concurrent_exports,
            attempt_timeout: setup.attempt_timeout.map(millis),
            export_limit: setup.export_limit.map(millis),
            retry: Retry::default().max_retries(setup.max_retries),
            gives_up_early: setup.gives_up_early,
            takes_turns: false,
        };
        let runtime = Handle::current();
        let queue = Queue::start(
            exporter,
            settings,
            Arc::clone(&books),
            diagnostics,
            &runtime,
        );
        Self {
            queue,
            books,
            notes,
            ending: Ending::default(),
            received: AtomicU64::new(0),
            withdrawn: AtomicU64::new(0),
            full: Mutex::default(),
            setup: setup.clone(),
            is_cut: Mutex::default(),
            has_ended: Mutex::default(),
            hooked,
            handed,
        }
    }

    /// The spans that wait or are in flight, each once.
    fn held(&self) -> BTreeSet<u64> {
        let mut held = BTreeSet::new();
        let schedule = self.queue.shared.lock();
        let waiting = schedule.waiting_items();
        let waiting = waiting.flat_map(|item| ids(item.tracked.batch()));
        let notes = lock(&self.notes);
        for id in waiting.chain(notes.in_flight()) {
            assert!(held.insert(id), "span {id} is held twice");
        }
        held
    }

    /// The bytes of the batches that wait or are in flight.
    fn held_bytes(&self) -> usize {
        let schedule = self.queue.shared.lock();
        let waiting = schedule.waiting_items().map(|item| {
            let bytes = item.tracked.bytes();
            assert_eq!(bytes, item.tracked.batch().own_memory(), "charged exactly");
            bytes
        });
        waiting.sum::<usize>() + lock(&self.notes).batch_bytes()
    }

    fn check(&self, when: &str) {
        let account = self.books.account();
        assert!(account.closes(), "{when}: {account}");
        assert_eq!(self.books.abandoned(), 0, "{when}: abandoned");
        let received = self.received.load(Ordering::Relaxed);
        assert_eq!(account.received, received, "{when}: {account}");
        let held = self.held().len() as u64;
        assert_eq!(account.open(), held, "{when}: {account}");
        let faults = &lock(&self.notes).faults;
        assert!(faults.is_empty(), "{when}: {faults:?}");
        let is_running = !*self.queue.shared.ended.borrow();
        let has_ended = *lock(&self.has_ended);
        assert!(is_running || has_ended, "{when}: the driver has ended");
    }

    fn reserve(self: &Arc<Self>, bytes: usize, spans: usize, evicts: bool) -> Option<Entry> {
        let entry = loop {
            let entry = self.books.try_reserve(bytes, spans);
            let could_fit = self.books.budget().could_hold(bytes, spans);
            if entry.is_some() || !evicts || !could_fit || !self.queue.shared.evict() {
                break entry;
            }
        };
        if entry.is_some() {
            self.received.fetch_add(spans as u64, Ordering::Relaxed);
        }
        entry
    }

    async fn flush(self: Arc<Self>, call: Call) {
        let began = Instant::now();
        let before = self.held();
        let flush = self.queue.flush(Deadline::after(millis(call.within)));
        let Some(flushed) = in_time(call, flush).await else {
            return;
        };
        let elapsed = began.elapsed();
        assert!(
            elapsed <= millis(call.within) + 2 * GRACE,
            "took {elapsed:?}"
        );
        let left = before.intersection(&self.held()).count() as u64;
        assert!(left <= flushed.left, "{left} spans are held: {flushed:?}");
    }

    async fn shut_down(self: Arc<Self>, call: Call) {
        let until = Deadline::after(millis(call.within));
        // Set before, because a shutdown whose future is dropped may have ended the driver.
        *lock(&self.has_ended) = true;
        let work = || async { Ok(self.queue.shutdown(until).await) };
        let ended = in_time(call, self.ending.run(until, work)).await;
        if let Some(Ok(flushed)) = ended {
            *lock(&self.is_cut) |= flushed.out_of_time;
            let account = self.books.account();
            assert_eq!(account.open(), 0, "held after the shutdown: {account}");
        } else {
            *lock(&self.is_cut) = true;
        }
    }

    async fn abort(&self) {
        *lock(&self.is_cut) = true;
        *lock(&self.has_ended) = true;
        self.queue.abort().await;
        let account = self.books.account();
        assert_eq!(account.open(), 0, "held after the end: {account}");
    }
}

/// Runs a call until its future is to be dropped.
pub(super) async fn in_time<R>(call: Call, work: impl Future<Output = R>) -> Option<R> {
    match call.dropped_after {
        None => Some(work.await),
        Some(after) => tokio::time::timeout(millis(after), work).await.ok(),
    }
}

impl World {
    pub(super) fn new(plan: &Plan) -> Self {
        let budget = || Arc::new(Budget::new(plan.max_bytes, plan.max_spans));
        let budgets: Vec<_> = match plan.shares_budget {
            true => vec![budget()],
            false => plan.destinations.iter().map(|_| budget()).collect(),
        };
        let of_each = budgets.iter().cycle();
        let branches = plan.destinations.iter().zip(of_each);
        let branches = branches.map(|(setup, budget)| Arc::new(Branch::start(setup, budget)));
        Self {
            branches: branches.collect(),
            budgets,
            has_span_bound: plan.max_spans.is_some(),
            sources: Vec::new(),
            calls: Vec::new(),
            next_id: 1,
        }
    }

    fn branch(&self, which: usize) -> &Arc<Branch> {
        &self.branches[which % self.branches.len()]
    }

    pub(super) async fn take(&mut self, step: &Step) {
        match step {
            Step::Push(push) => {
                self.push(push);
                if push.is_hasty {
                    return;
                }
                run_all().await;
            }
            Step::Withdraw { spans, is_kept } => self.withdraw(*spans, *is_kept),
            Step::Evict(which) => {
                self.branch(*which).queue.shared.evict();
            }
            Step::Advance(time) => {
                pass(millis(*time)).await;
                run_all().await;
            }
            Step::Flush(which, call) => {
                let flush = Arc::clone(self.branch(*which)).flush(*call);
                self.calls.push(tokio::spawn(flush));
                run_all().await;
            }
            Step::Shutdown(which, call) => {
                let shutdown = Arc::clone(self.branch(*which)).shut_down(*call);
                self.calls.push(tokio::spawn(shutdown));
                run_all().await;
            }
            Step::Abort(which) => self.branch(*which).abort().await,
        }
        self.join_ended().await;
        self.begin_started().await;
        self.check(&format!("{step:?}"));
    }

    /// Lets exports begin that were started: between two answers a driver may not have called the exporter yet.
    async fn begin_started(&self) {
        let has_begun = |branch: &Arc<Branch>| {
            let started = branch.queue.shared.lock().exports();
            started == lock(&branch.notes).batches()
        };
        while !self.branches.iter().all(has_begun) {
            tokio::task::yield_now().await;
        }
    }

    /// Passes on the panics of calls that have ended.
    async fn join_ended(&mut self) {
        let (ended, running) = std::mem::take(&mut self.calls)
            .into_iter()
            .partition(JoinHandle::is_finished);
        self.calls = running;
        let ended: Vec<JoinHandle<()>> = ended;
        for call in ended {
            call.await.unwrap();
        }
    }

    fn push(&mut self, push: &Push) {
        let mut pieces = Vec::new();
        for spans in &push.sources {
            let ids: Vec<_> = (self.next_id..).take(*spans).collect();
            self.next_id += *spans as u64;
            pieces.push((batch_of(&ids, push.padding), ids));
        }
        let told: Vec<_> = pieces.iter().map(|_| Arc::default()).collect();
        let acks: Vec<_> = told.iter().map(|told| ack(told, push.waits)).collect();
        for branch in &self.branches {
            let mut merged: Option<Entry> = None;
            let mut batches = Vec::new();
            for ((batch, ids), ack) in pieces.iter().zip(&acks) {
                let (bytes, spans) = (batch.own_memory(), batch.spans());
                let branch_acks = ack.branch(spans as u64);
                let Some(mut entry) = branch.reserve(bytes, spans, push.evicts) else {
                    branch_acks.drop_spans(DropReason::QueueFull, None);
                    branch.received.fetch_add(spans as u64, Ordering::Relaxed);
                    let books = &branch.books;
                    books
                        .turn_away(DropReason::QueueFull, spans as u64)
                        .report();
                    lock(&branch.full).extend(ids);
                    continue;
                };
                entry.add_acks(branch_acks);
                batches.push(batch.clone());
                match &mut merged {
                    Some(merged) => merged.merge(entry).expect("in the same books"),
                    None => merged = Some(entry),
                }
            }
            let Some(merged) = merged else { continue };
            let whole = Batch::concatenate(&batches);
            let of_each = whole.spans().div_ceil(push.batches).max(1);
            let batches = whole.split_by_spans(of_each).collect();
            for tracked in merged.into_tracked(batches) {
                branch.queue.push(tracked);
            }
        }
        let is_alone = pieces.len() == 1;
        for ((_, ids), told) in pieces.into_iter().zip(told) {
            self.sources.push(Source {
                ids,
                waits: push.waits,
                is_alone,
                told,
            });
        }
    }

    fn withdraw(&self, spans: usize, is_kept: bool) {
        for branch in &self.branches {
            let Some(mut entry) = branch.reserve(100 * spans, spans, false) else {
                continue;
            };
            // A part of it ends in the other way.
            let half = entry.split(50 * spans, spans / 2);
            let (cancelled, dropped) = match is_kept {
                true => (entry, half),
                false => (half, entry),
            };
            let back = cancelled.spans() as u64;
            branch.received.fetch_sub(back, Ordering::Relaxed);
            let withdrawn = dropped.spans() as u64;
            branch.withdrawn.fetch_add(withdrawn, Ordering::Relaxed);
            cancelled.cancel();
            dropped.drop_spans(DropReason::Shutdown, None);
        }
    }

    fn check(&self, when: &str) {
        for branch in &self.branches {
            branch.check(when);
        }
        for (place, budget) in self.budgets.iter().enumerate() {
            self.check_budget(place, budget, when);
        }
        let held: BTreeSet<u64> = self.branches.iter().flat_map(|it| it.held()).collect();
        for source in &self.sources {
            let told = lock(&source.told).len();
            assert!(told <= usize::from(source.waits), "{when}: told again");
            let is_held = source.ids.iter().any(|id| held.contains(id));
            assert!(told == 0 || !is_held, "{when}: told before the end");
        }
    }

    fn check_budget(&self, place: usize, budget: &Arc<Budget>, when: &str) {
        let branches = self.branches.iter().enumerate();
        let branches = branches.filter(|(number, _)| self.budgets.len() == 1 || *number == place);
        let branches: Vec<_> = branches.map(|(_, branch)| branch).collect();
        let held: usize = branches.iter().map(|branch| branch.held_bytes()).sum();
        let parts: Vec<usize> = branches
            .iter()
            .flat_map(|branch| lock(&branch.notes).part_bytes().collect::<Vec<_>>())
            .collect();
        let all = held + parts.iter().sum::<usize>();
        // A budget that is full lets one export at a time have a part beyond it.
        let has_turn = budget.part_turn().available_permits() == 0;
        let is_right = budget.bytes() == all
            || (has_turn && parts.iter().any(|part| budget.bytes() == all - part));
        let bytes = budget.bytes();
        assert!(is_right, "{when}: {bytes} bytes for {held} and {parts:?}");
        if self.has_span_bound {
            let open = branches.iter().map(|branch| branch.books.account().open());
            assert_eq!(budget.spans() as u64, open.sum::<u64>(), "{when}: spans");
        }
    }

    /// Ends the course, and checks what became of all spans.
    pub(super) async fn end(mut self, end: End) {
        let ended_early: Vec<_> = self
            .branches
            .iter()
            .map(|it| *lock(&it.has_ended))
            .collect();
        match end {
            End::Recover => self.recover().await,
            End::Shutdown(within) => self.shut_down(within).await,
            End::Drop => {}
        }
        if matches!(end, End::Drop) {
            for call in self.calls.drain(..) {
                call.abort();
            }
        } else {
            for call in self.calls.drain(..) {
                call.await.unwrap();
            }
        }
        self.begin_started().await;
        self.check("the end");
        let Self {
            branches,
            budgets,
            sources,
            ..
        } = self;
        let mut ended = Vec::new();
        // Tasks that were stopped let go of the branches.
        run_all().await;
        for (branch, ended_early) in branches.into_iter().zip(ended_early) {
            let branch = Arc::into_inner(branch).expect("no call has it");
            let is_cut = *lock(&branch.is_cut) || matches!(end, End::Drop);
            drop(branch.queue);
            run_all().await;
            ended.push(Ended {
                books: branch.books,
                notes: branch.notes,
                full: branch.full.into_inner().unwrap(),
                is_cut,
                has_recovered: matches!(end, End::Recover) && !ended_early && !is_cut,
                withdrawn: branch.withdrawn.into_inner(),
                setup: branch.setup,
                hooked: branch.hooked,
                handed: Some(branch.handed),
            });
        }
        for branch in &ended {
            branch.check();
        }
        for budget in budgets {
            assert_eq!(
                (budget.bytes(), budget.spans()),
                (0, 0),
                "all is given back"
            );
        }
        for source in &sources {
            source.check(&ended);
        }
    }

    /// Waits until queues that run are empty, without any call.
    async fn recover(&mut self) {
        for branch in &self.branches {
            lock(&branch.notes).recover();
        }
        // A shutdown whose future was dropped leaves what is held to the next call.
        let is_empty =
            |branch: &Arc<Branch>| *lock(&branch.has_ended) || branch.books.account().open() == 0;
        let began = Instant::now();
        while !self.branches.iter().all(is_empty) {
            let is_in_time = began.elapsed() < PATIENCE;
            let accounts: Vec<_> = self.branches.iter().map(|it| it.books.account()).collect();
            assert!(is_in_time, "spans stay held: {accounts:?}");
            pass(Duration::from_secs(5)).await;
            self.begin_started().await;
            self.check("the recovery");
            // A hung call without a limit ends with the queue only.
            if self.hangs() {
                break;
            }
        }
        self.shut_down(5_000).await;
    }

    /// Whether exports are in flight that nothing ends.
    fn hangs(&self) -> bool {
        let mut branches = self.branches.iter();
        branches.any(|branch| {
            branch.queue.shared.settings.attempt_timeout.is_none()
                && branch.queue.shared.settings.export_limit.is_none()
                && lock(&branch.notes).in_flight().next().is_some()
        })
    }

    async fn shut_down(&mut self, within: u64) {
        let call = Call {
            within,
            dropped_after: None,
        };
        for branch in &self.branches {
            let shutdown = Arc::clone(branch).shut_down(call);
            self.calls.push(tokio::spawn(shutdown));
        }
        for call in self.calls.drain(..) {
            call.await.unwrap();
        }
    }
}

pub(super) fn ack(told: &Told, waits: bool) -> Ack {
    if !waits {
        return Ack::none();
    }
    let told = Arc::clone(told);
    Ack::new(move |outcome| lock(&told).push(outcome))
}

/// A branch after its end.
pub(super) struct Ended {
    pub(super) books: Arc<Books>,
    pub(super) notes: Shared,
    pub(super) full: BTreeSet<u64>,
    pub(super) is_cut: bool,
    /// Whether it became empty before it was shut down.
    pub(super) has_recovered: bool,
    pub(super) withdrawn: u64,
    pub(super) setup: Setup,
    pub(super) hooked: Arc<Mutex<Losses>>,
    /// `None` where nobody observes.
    pub(super) handed: Option<Arc<Handed>>,
}

impl Ended {
    pub(super) fn check(&self) {
        let account = self.books.account();
        assert!(account.closes(), "{account}");
        assert_eq!(account.open(), 0, "{account}");
        assert_eq!(self.books.abandoned(), 0);
        let notes = lock(&self.notes);
        assert!(notes.faults.is_empty(), "{:?}", notes.faults);
        let counted = [
            (account.delivered, Answered::Delivered),
            (account.refused, Answered::Rejected),
            (account.dropped.of(DropReason::Filtered), Answered::Filtered),
        ];
        for (counted, answered) in counted {
            let known = notes.count(answered);
            let is_right = counted == known || (self.is_cut && counted < known);
            assert!(is_right, "{answered:?}: {known} of {account}");
        }
        let dropped = account.dropped;
        if self.has_recovered {
            assert_eq!(
                dropped.of(DropReason::Shutdown),
                self.withdrawn,
                "{account}"
            );
        }
        if self.setup.export_limit.is_none() {
            assert_eq!(
                dropped.of(DropReason::Expired),
                0,
                "nothing expires: {account}"
            );
        }
        if self.setup.max_retries.is_none() {
            let known = [
                DropReason::Shutdown,
                DropReason::Expired,
                DropReason::Filtered,
                DropReason::QueueFull,
            ];
            let known: u64 = known.iter().map(|reason| dropped.of(*reason)).sum();
            let failed = notes.failed();
            assert!(
                dropped.total() - known <= failed,
                "{failed} failed: {account}"
            );
        }
        let hooked = *lock(&self.hooked);
        assert_eq!(hooked, account.dropped, "the hook is told of each drop");
        if let Some(handed) = &self.handed {
            let handed = handed.0.load(Ordering::Relaxed);
            assert_eq!(handed, account.received, "each span once: {account}");
        }
    }

    /// Whether the span was neither answered for nor filtered here.
    fn has_dropped(&self, id: u64) -> bool {
        !lock(&self.notes).answered.contains_key(&id)
    }

    fn rejected(&self, ids: &[u64]) -> u64 {
        let notes = lock(&self.notes);
        let of = |id: &&u64| notes.answered.get(id) == Some(&Answered::Rejected);
        ids.iter().filter(of).count() as u64
    }
}

impl Source {
    pub(super) fn check(&self, branches: &[Ended]) {
        let told = lock(&self.told);
        assert_eq!(told.len(), usize::from(self.waits), "told once");
        let Some(outcome) = told.first() else { return };
        let is_dropped = |branch: &Ended| self.ids.iter().any(|id| branch.has_dropped(*id));
        if branches.iter().any(is_dropped) {
            assert!(
                outcome.dropped.is_some(),
                "nobody told of a drop: {outcome:?}"
            );
        }
        let has_drops = |branch: &Ended| {
            let dropped = branch.books.account().dropped;
            dropped.total() > dropped.of(DropReason::Filtered)
        };
        if outcome.dropped.is_some() {
            assert!(
                branches.iter().any(has_drops),
                "nothing dropped: {outcome:?}"
            );
        }
        let rejected = branches.iter().map(|branch| branch.rejected(&self.ids));
        let rejected = rejected.max().unwrap_or(0);
        assert!(outcome.rejected <= rejected, "{rejected}: {outcome:?}");
        let is_certain = self.is_alone && branches.iter().all(|branch| !branch.is_cut);
        if is_certain {
            assert_eq!(outcome.rejected, rejected, "all are its own");
        }
        for branch in branches {
            let answered = &lock(&branch.notes).answered;
            let wrong = branch.full.iter().find(|id| answered.contains_key(id));
            assert_eq!(wrong, None, "sent without room");
        }
    }
}
