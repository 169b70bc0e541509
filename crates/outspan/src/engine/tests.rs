mod budget;
mod health;
mod readers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use outspan_wire::otlp::EncodeSpan;
use outspan_wire::otlp::EncodedResource;
use outspan_wire::otlp::Encoder;
use outspan_wire::otlp::ScopeWriter;
use outspan_wire::otlp::SpanWriter;
use proptest::prelude::*;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::*;
use crate::Account;
use crate::Attempt;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::DropReason;
use crate::Error;
use crate::ErrorKind;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::diagnostics::Diagnostics;
#[cfg(feature = "_network")]
use crate::export::Turns;
#[cfg(feature = "_network")]
use crate::export::turns;

/// What a scripted exporter does with one call.
#[derive(Clone, Debug)]
enum Answer {
    Deliver,
    Refuse,
    RefuseSome(u64),
    /// Filters so many and fails for the rest.
    FilterSome(u64, Error),
    Fail(Error),
    FailLate(Duration, Error),
    /// Delivers the first half and leaves the rest with an error.
    DeliverHalf(Error),
    /// Fails for each half for a reason of its own.
    FailHalves(Error, Error),
    /// Refuses batches of more spans than this for their size.
    LimitSpans(usize),
    /// The same after a while.
    LimitSpansLate(Duration, usize),
    /// Refuses for now batches of exactly this many spans.
    FailOfSize(usize),
    Stall,
    Panic,
    Lie,
    /// Says of one span that it arrived, and of the others nothing.
    Forget,
    Slow(Duration),
}

#[derive(Debug)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    otherwise: Mutex<Answer>,
    calls: Mutex<Vec<Call>>,
    in_flight: AtomicUsize,
    in_flight_max: AtomicUsize,
    shut_down: AtomicUsize,
    flushed: AtomicUsize,
    accepted: Mutex<u64>,
    /// What a flush or a shutdown of the exporter answers.
    drain: Mutex<Result<Drained>>,
}

#[derive(Clone, Debug)]
struct Call {
    at: Instant,
    spans: usize,
}

#[derive(Debug)]
struct Scripted(Arc<Script>);

struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Answer>, otherwise: Answer) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(answers.into_iter().collect()),
            otherwise: Mutex::new(otherwise),
            calls: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            in_flight_max: AtomicUsize::new(0),
            shut_down: AtomicUsize::new(0),
            flushed: AtomicUsize::new(0),
            accepted: Mutex::new(0),
            drain: Mutex::new(Ok(Drained::default())),
        })
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    fn sizes(&self) -> Vec<usize> {
        self.calls().iter().map(|call| call.spans).collect()
    }

    fn accepted(&self) -> u64 {
        *self.accepted.lock().unwrap()
    }

    fn answer(&self) -> Answer {
        let scripted = self.answers.lock().unwrap().pop_front();
        scripted.unwrap_or_else(|| self.otherwise.lock().unwrap().clone())
    }
}

impl Export for Scripted {
    async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
        let script = &self.0;
        let flying = script.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        let _landing = InFlight(&script.in_flight);
        script.in_flight_max.fetch_max(flying, Ordering::SeqCst);
        let spans = batch.spans();
        script.calls.lock().unwrap().push(Call {
            at: Instant::now(),
            spans,
        });
        let accept = |batch: &Batch| {
            *script.accepted.lock().unwrap() += batch.spans() as u64;
            Delivery::of(batch)
        };
        match script.answer() {
            Answer::Deliver => Ok(accept(&batch)),
            Answer::Refuse => Err(Error::refused("bad spans")),
            Answer::RefuseSome(refused) => {
                let delivery = Delivery::partial(&batch, refused, "some are bad");
                *script.accepted.lock().unwrap() += delivery.accepted;
                Ok(delivery)
            }
            Answer::FilterSome(filtered, error) => {
                let parts: Vec<_> = batch.split_by_spans(filtered as usize).collect();
                let mut delivery = Delivery {
                    filtered,
                    ..Delivery::default()
                };
                for part in &parts[1..] {
                    delivery.leave(part.clone(), error.clone());
                }
                Ok(delivery)
            }
            Answer::Fail(error) => Err(error),
            Answer::FailLate(time, error) => {
                // Sleeps: the destination is slow, in the test's time.
                tokio::time::sleep(time).await;
                Err(error)
            }
            Answer::DeliverHalf(error) => {
                let parts: Vec<_> = batch.split_by_spans(spans.div_ceil(2)).collect();
                let mut delivery = accept(&parts[0]);
                for part in &parts[1..] {
                    delivery.leave(part.clone(), error.clone());
                }
                Ok(delivery)
            }
            Answer::FailHalves(first, second) => {
                let parts: Vec<_> = batch.split_by_spans(spans.div_ceil(2)).collect();
                let mut delivery = Delivery::default();
                for (part, error) in parts.into_iter().zip([first, second]) {
                    delivery.leave(part, error);
                }
                Ok(delivery)
            }
            Answer::LimitSpans(limit) if spans > limit => Err(Error::too_large("too many bytes")),
            Answer::LimitSpans(_) => Ok(accept(&batch)),
            Answer::LimitSpansLate(time, limit) => {
                // Sleeps: the destination is slow, in the test's time.
                tokio::time::sleep(time).await;
                match spans > limit {
                    true => Err(Error::too_large("too many bytes")),
                    false => Ok(accept(&batch)),
                }
            }
            Answer::FailOfSize(size) if spans == size => Err(Error::unavailable("not these")),
            Answer::FailOfSize(_) => Ok(accept(&batch)),
            Answer::Stall => std::future::pending().await,
            Answer::Panic => panic!("scripted panic"),
            Answer::Lie => {
                let mut delivery = accept(&batch);
                delivery.accepted = 1_000_000;
                delivery.refused = 7;
                delivery.leave(batch, Error::unavailable("what"));
                Ok(delivery)
            }
            Answer::Forget => {
                *script.accepted.lock().unwrap() += 1;
                Ok(Delivery {
                    accepted: 1,
                    ..Delivery::default()
                })
            }
            Answer::Slow(time) => {
                // Sleeps: the destination is slow, in the test's time.
                tokio::time::sleep(time).await;
                Ok(accept(&batch))
            }
        }
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        self.0.flushed.fetch_add(1, Ordering::SeqCst);
        self.0.drain.lock().unwrap().clone()
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        self.0.shut_down.fetch_add(1, Ordering::SeqCst);
        self.0.drain.lock().unwrap().clone()
    }
}

struct TestSpan(u64);

impl EncodeSpan for TestSpan {
    fn encode_scope(&self, scope: &mut ScopeWriter<'_>) {
        scope.name("test");
    }

    fn encode(&self, span: &mut SpanWriter<'_>) {
        span.trace_id([1; 16]);
        span.span_id(self.0.to_be_bytes());
        span.name("span");
    }
}

pub(super) fn batch_of(spans: usize) -> Batch {
    let mut encoder = Encoder::default();
    for number in 1..=spans {
        encoder.push(&EncodedResource::default(), &TestSpan(number as u64));
    }
    match encoder.finish() {
        Some(request) => Batch::trusted(request.bytes, request.spans),
        None => Batch::empty(),
    }
}

struct Rig {
    queue: Queue,
    script: Arc<Script>,
    books: Arc<Books>,
}

/// Counts what a queue says of spans that went to the exporter or never will.
#[derive(Debug, Default)]
struct Heard {
    handed_over: AtomicU64,
    dropped_before: AtomicU64,
}

impl Heard {
    fn read(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        (read(&self.handed_over), read(&self.dropped_before))
    }
}

impl HandOver for Heard {
    fn handed_over(&self, spans: u64) {
        self.handed_over.fetch_add(spans, Ordering::SeqCst);
    }

    fn dropped_before(&self, _error_type: &'static str, spans: u64) {
        self.dropped_before.fetch_add(spans, Ordering::SeqCst);
    }
}

fn settings() -> Settings {
    Settings {
        concurrent_exports: 4,
        attempt_timeout: Some(Duration::from_secs(10)),
        export_limit: None,
        // Waits that grow up to 30 s, so that tests see whether they do.
        retry: Retry::default()
            .jitter(0.0)
            .max_probe_interval(Duration::from_secs(30)),
        gives_up_early: false,
        takes_turns: false,
    }
}

impl Rig {
    fn new(answers: impl IntoIterator<Item = Answer>, otherwise: Answer) -> Self {
        Self::with(settings(), Script::new(answers, otherwise))
    }

    fn with(settings: Settings, script: Arc<Script>) -> Self {
        Self::observed(settings, script, None)
    }

    fn observed(
        settings: Settings,
        script: Arc<Script>,
        observer: Option<Arc<dyn HandOver>>,
    ) -> Self {
        let budget = Arc::new(Budget::new(1 << 30, Some(1 << 20)));
        let diagnostics = Arc::new(Diagnostics::default());
        let books = Books::new(budget, Arc::clone(&diagnostics), observer);
        let queue = Queue::start(
            Exporter::new(Scripted(Arc::clone(&script))),
            settings,
            Arc::clone(&books),
            diagnostics,
            &Handle::current(),
        );
        Self {
            queue,
            script,
            books,
        }
    }

    fn push(&self, spans: usize) {
        let batch = batch_of(spans);
        let entry = self.books.try_reserve(batch.memory(), spans);
        let entry = entry.expect("there is room");
        for tracked in entry.into_tracked(vec![batch]) {
            self.queue.push(tracked);
        }
    }

    fn account(&self) -> Account {
        let account = self.books.account();
        assert!(account.closes(), "{account}");
        assert_eq!(self.books.abandoned(), 0, "no token is forgotten");
        account
    }

    /// Waits in the test's time until nothing is open any more.
    async fn settled(&self) -> Account {
        let patience = Deadline::after(Duration::from_secs(100_000));
        let open = async {
            while self.account().open() > 0 {
                // Sleeps: in the test's time, which passes by itself.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        patience
            .run(open)
            .await
            .expect("everything comes to an end");
        assert_eq!(self.books.budget().bytes(), 0, "all room is given back");
        self.account()
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

#[tokio::test(start_paused = true)]
async fn delivers_what_is_pushed() {
    let rig = Rig::new([], Answer::Deliver);
    for spans in [1, 2, 3] {
        rig.push(spans);
    }
    let account = rig.settled().await;
    assert_eq!(account.delivered, 6);
    assert_eq!(rig.script.accepted(), 6);
}

#[tokio::test(start_paused = true)]
async fn exports_several_at_once_and_no_more_than_set() {
    let rig = Rig::new([], Answer::Slow(Duration::from_secs(1)));
    for _ in 0..12 {
        rig.push(1);
    }
    let began = Instant::now();
    rig.settled().await;
    assert_eq!(rig.script.in_flight_max.load(Ordering::SeqCst), 4);
    assert_eq!(began.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn keeps_what_failed_for_now_and_sends_only_the_rest_again() {
    let rig = Rig::new(
        [Answer::DeliverHalf(Error::unavailable("the second half"))],
        Answer::Deliver,
    );
    rig.push(8);
    let account = rig.settled().await;
    assert_eq!(account.delivered, 8);
    assert_eq!(rig.script.sizes(), [8, 4]);
    let calls = rig.script.calls();
    assert_eq!((calls[1].at - calls[0].at).as_secs(), 5, "the first wait");
}

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_the_destination_asks() {
    let busy = Error::throttled("slow down").with_retry_after(Duration::from_secs(40));
    let rig = Rig::new([Answer::Fail(busy)], Answer::Deliver);
    rig.push(1);
    rig.settled().await;
    let calls = rig.script.calls();
    let waited = (calls[1].at - calls[0].at).as_secs_f64();
    assert!((40.0..=44.1).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_that_parts_of_a_batch_are_asked_for_counts() {
    let ask = |secs| Error::throttled("busy").with_retry_after(Duration::from_secs(secs));
    for (first, second) in [(40, 20), (20, 40)] {
        let rig = Rig::new(
            [Answer::FailHalves(ask(first), ask(second))],
            Answer::Deliver,
        );
        rig.push(2);
        rig.settled().await;
        let calls = rig.script.calls();
        assert!((calls[1].at - calls[0].at).as_secs() >= 40);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_behind_others_does_not_shorten_their_wait() {
    let busy = Error::throttled("busy").with_retry_after(Duration::from_secs(40));
    let late = Answer::FailLate(Duration::from_secs(2), Error::unavailable("down"));
    let rig = Rig::new([Answer::Fail(busy), late], Answer::Deliver);
    rig.push(1);
    rig.push(2);
    rig.settled().await;
    let calls = rig.script.calls();
    assert!((calls[2].at - calls[0].at).as_secs() >= 40);
}

#[tokio::test(start_paused = true)]
async fn what_is_delivered_in_part_gives_its_room_back() {
    let down = Error::unavailable("down");
    let rig = Rig::new([Answer::DeliverHalf(down.clone())], Answer::Fail(down));
    rig.push(1000);
    let whole = rig.books.budget().bytes();
    // Sleeps: in the test's time, until the first attempt ended.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.account().delivered, 500);
    assert!(rig.books.budget().bytes() < whole * 3 / 4);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_goes_first_when_one_has_to_go() {
    let rig = Rig::new([], Answer::Fail(Error::unavailable("down")));
    rig.push(1);
    // Sleeps: in the test's time, until the first attempt failed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.push(2);
    assert!(rig.queue.shared.evict());
    assert_eq!(rig.account().dropped.of(DropReason::QueueFull), 1);
    assert!(rig.queue.shared.evict());
    assert_eq!(rig.account().dropped.of(DropReason::QueueFull), 3);
    assert!(!rig.queue.shared.evict(), "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn a_part_is_as_old_as_its_batch_when_the_oldest_has_to_go() {
    let busy = || Error::throttled("later").with_retry_after(Duration::from_secs(100));
    let script = Script::new(
        [
            Answer::FailHalves(busy(), busy()),
            Answer::Fail(busy()),
            Answer::Stall,
        ],
        Answer::Stall,
    );
    let three_at_once = Settings {
        concurrent_exports: 3,
        attempt_timeout: None,
        ..settings()
    };
    let rig = Rig::with(three_at_once, script);
    for spans in [8, 1, 1] {
        rig.push(spans);
    }
    // Sleeps: in the test's time, until the first batch has failed in two parts.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(rig.script.sizes(), [8, 1, 1]);
    // Two parts of the first batch wait, and the second batch.
    assert_eq!(rig.account().queued, 9);
    for part in [4, 8] {
        assert!(rig.queue.shared.evict());
        assert_eq!(rig.account().dropped.of(DropReason::QueueFull), part);
    }
    assert_eq!(rig.account().queued, 1);
}

#[tokio::test(start_paused = true)]
async fn a_span_counts_as_handed_over_when_the_first_attempt_begins_and_never_again() {
    let heard = Arc::new(Heard::default());
    let one_at_once = Settings {
        concurrent_exports: 1,
        ..settings()
    };
    let answers = [
        Answer::Slow(Duration::from_secs(1)),
        Answer::Fail(Error::too_large("too many bytes")),
        Answer::DeliverHalf(Error::unavailable("down")),
    ];
    let script = Script::new(answers, Answer::Deliver);
    let rig = Rig::observed(one_at_once, script, Some(Arc::clone(&heard) as _));
    rig.push(3);
    rig.push(8);
    // Lets the first attempt begin.
    tokio::task::yield_now().await;
    assert_eq!(rig.account().delivered, 0);
    assert_eq!(heard.read(), (3, 0));
    assert_eq!(rig.settled().await.delivered, 11);
    assert!(rig.script.calls().len() > 4, "parts went by themselves");
    assert_eq!(heard.read(), (11, 0));
}

#[tokio::test(start_paused = true)]
async fn a_span_that_is_dropped_before_it_is_handed_over_counts_as_that() {
    let heard = Arc::new(Heard::default());
    let one_at_once = Settings {
        concurrent_exports: 1,
        attempt_timeout: None,
        ..settings()
    };
    let down = Answer::Fail(Error::unavailable("down"));
    let script = Script::new([down], Answer::Stall);
    let rig = Rig::observed(one_at_once, script, Some(Arc::clone(&heard) as _));
    rig.push(1);
    // Sleeps: in the test's time, until the first attempt failed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.push(2);
    rig.push(4);
    assert!(rig.queue.shared.evict());
    assert_eq!(heard.read(), (1, 0), "this one had an attempt");
    assert!(rig.queue.shared.evict());
    assert_eq!(heard.read(), (1, 2));
    rig.push(8);
    // Sleeps: in the test's time, until the next attempt hangs.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(heard.read(), (1 + 4, 2));
    let until = Deadline::after(Duration::from_secs(1));
    rig.queue.shutdown(until).await;
    assert_eq!(heard.read(), (5, 2 + 8));
    rig.push(16);
    assert_eq!(heard.read(), (5, 10 + 16));
    assert_eq!(rig.account().dropped.total(), 31);
}

#[tokio::test(start_paused = true)]
async fn an_absurd_wait_does_no_harm() {
    let busy = Error::throttled("for ever").with_retry_after(Duration::MAX);
    let rig = Rig::new([], Answer::Fail(busy));
    rig.push(1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.account().queued, 1);
    assert_eq!(rig.script.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn probes_one_at_a_time_while_the_destination_is_down() {
    let rig = Rig::new([], Answer::Fail(Error::unavailable("down")));
    for _ in 0..20 {
        rig.push(1);
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    // 4 were under way when it went down; then waits of 5, 7.5, 11.25, 16.9, 25.3, 30, 30... s.
    let calls = rig.script.calls().len();
    assert!((20..=30).contains(&calls), "{calls}");
    assert_eq!(rig.account().queued, 20);

    *rig.script.otherwise.lock().unwrap() = Answer::Deliver;
    let back = Instant::now();
    let account = rig.settled().await;
    assert_eq!(account.delivered, 20);
    assert!(
        back.elapsed() <= Duration::from_secs(31),
        "all at the next probe"
    );
}

#[tokio::test(start_paused = true)]
async fn one_bad_batch_does_not_keep_others_from_their_way() {
    let rig = Rig::new([], Answer::FailOfSize(7));
    rig.push(7);
    for _ in 0..100 {
        rig.push(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let account = rig.account();
    assert_eq!(account.delivered, 100);
    assert_eq!(account.queued, 7);
    let tries = rig.script.sizes().iter().filter(|&&size| size == 7).count();
    assert!(
        (5..=40).contains(&tries),
        "tried again, but with waits: {tries}"
    );
}

#[tokio::test(start_paused = true)]
async fn counts_what_is_refused_and_what_fails_for_good() {
    let rig = Rig::new(
        [
            Answer::Refuse,
            Answer::RefuseSome(2),
            Answer::Fail(Error::internal("broken")),
            Answer::Fail(Error::shut_down()),
        ],
        Answer::Deliver,
    );
    for _ in 0..5 {
        rig.push(3);
    }
    let account = rig.settled().await;
    assert_eq!(account.refused, 5);
    assert_eq!(account.delivered, 4);
    assert_eq!(account.dropped.of(DropReason::Failed), 3);
    assert_eq!(account.dropped.of(DropReason::Shutdown), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_filtered_is_neither_sent_again_nor_a_failure() {
    let trouble = Error::unavailable("later");
    let rig = Rig::new([Answer::FilterSome(3, trouble)], Answer::Deliver);
    rig.push(5);
    let account = rig.settled().await;
    assert_eq!(rig.script.sizes(), [5, 2]);
    assert_eq!(account.delivered, 2);
    assert_eq!(account.dropped.of(DropReason::Filtered), 3);
    assert_eq!(account.dropped.total(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_filtered_whole_finds_out_nothing_and_the_waits_go_on_growing() {
    let down = || Error::unavailable("down");
    let filtered = Answer::FilterSome(2, down());
    let rig = Rig::new([Answer::Fail(down()), filtered], Answer::Fail(down()));
    let began = Instant::now();
    rig.push(1);
    // Sleeps: in the test's time, until the first attempt failed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.push(2);
    tokio::time::sleep(Duration::from_secs(14)).await;
    let calls = rig.script.calls();
    let waited: Vec<_> = calls.iter().map(|call| call.at - began).collect();
    // The second probe at 5 s is that of a destination that is still down: the next wait is 7.5 s.
    let seconds = [0.0, 5.0, 5.0, 12.5].map(Duration::from_secs_f64);
    assert_eq!(rig.script.sizes(), [1, 2, 1, 1]);
    for (waited, expected) in waited.iter().zip(seconds) {
        let late = waited.saturating_sub(expected);
        assert!(
            *waited >= expected && late < Duration::from_millis(10),
            "{waited:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn waits_are_short_again_once_a_part_arrived() {
    let down = Error::unavailable("down");
    let answers = [
        Answer::Fail(down.clone()),
        Answer::Fail(down.clone()),
        Answer::DeliverHalf(down),
    ];
    let rig = Rig::new(answers, Answer::Deliver);
    rig.push(2);
    rig.settled().await;
    let calls = rig.script.calls();
    let waits = calls
        .windows(2)
        .map(|two| (two[1].at - two[0].at).as_secs_f64());
    assert_eq!(waits.collect::<Vec<_>>(), [5.0, 7.5, 5.0]);
}

#[tokio::test(start_paused = true)]
async fn survives_a_panic_and_counts_its_spans() {
    let rig = Rig::new([Answer::Panic], Answer::Deliver);
    rig.push(2);
    rig.push(3);
    let account = rig.settled().await;
    assert_eq!(account.dropped.of(DropReason::Failed), 2);
    assert_eq!(account.delivered, 3);
}

#[tokio::test(start_paused = true)]
async fn an_export_that_hangs_is_given_up_and_tried_again() {
    let rig = Rig::new([Answer::Stall], Answer::Deliver);
    rig.push(2);
    let account = rig.settled().await;
    assert_eq!(account.delivered, 2);
    let calls = rig.script.calls();
    assert_eq!(
        (calls[1].at - calls[0].at).as_secs(),
        15,
        "10 s and the wait"
    );
}

#[tokio::test(start_paused = true)]
async fn splits_what_is_too_large_down_to_one_span() {
    let rig = Rig::new([], Answer::LimitSpans(3));
    rig.push(10);
    let account = rig.settled().await;
    assert_eq!(account.delivered, 10);

    let rig = Rig::new([], Answer::LimitSpans(0));
    rig.push(5);
    let account = rig.settled().await;
    assert_eq!(account.dropped.of(DropReason::TooLarge), 5);
}

#[tokio::test(start_paused = true)]
async fn parts_for_which_an_attempt_has_no_time_are_no_failure() {
    for seconds in [1, 4, 9] {
        let no_retries = Settings {
            export_limit: None,
            retry: Retry::default().max_retries(0),
            ..settings()
        };
        let slow = Answer::LimitSpansLate(Duration::from_secs(seconds), 1);
        let rig = Rig::with(no_retries, Script::new([], slow));
        rig.push(16);
        let account = rig.settled().await;
        assert_eq!(account.delivered, 16, "{seconds} s: {account}");
        // At most every second call is cut short.
        assert!(rig.script.calls().len() <= 2 * 31);
        assert!(rig.queue.shared.lock().last_error().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_hangs_after_it_refused_a_size_counts_as_down() {
    let answers = [
        Answer::Fail(Error::too_large("too many bytes")),
        Answer::Stall,
        Answer::Stall,
    ];
    let rig = Rig::with(settings(), Script::new(answers, Answer::Deliver));
    rig.push(4);
    assert_eq!(rig.settled().await.delivered, 4);
    assert_eq!(rig.script.sizes(), [4, 2, 2, 2, 2]);
    let calls = rig.script.calls();
    let waits = |place: usize| (calls[place + 1].at - calls[place].at).as_secs();
    assert_eq!(waits(1), 10, "the next attempt begins at once");
    assert!(waits(2) > 10, "and the one after it waits");
}

#[tokio::test(start_paused = true)]
async fn gives_up_when_the_export_limit_is_over() {
    let limited = Settings {
        export_limit: Some(Duration::from_secs(60)),
        ..settings()
    };
    let script = Script::new([], Answer::Fail(Error::unavailable("down")));
    let rig = Rig::with(limited, script);
    rig.push(2);
    let began = Instant::now();
    let account = rig.settled().await;
    assert_eq!(account.dropped.of(DropReason::Expired), 2);
    assert!(began.elapsed() >= Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn gives_up_after_the_last_retry() {
    let limited = Settings {
        retry: Retry::default().jitter(0.0).max_retries(2),
        ..settings()
    };
    let script = Script::new([], Answer::Fail(Error::unavailable("down")));
    let rig = Rig::with(limited, script);
    rig.push(2);
    let account = rig.settled().await;
    assert_eq!(account.dropped.of(DropReason::Failed), 2);
    assert_eq!(rig.script.calls().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_exporter_that_counts_wrongly_does_not_open_the_account() {
    let rig = Rig::new([], Answer::Lie);
    rig.push(3);
    let account = rig.settled().await;
    assert_eq!(account.received, 3);
    assert_eq!(account.delivered, 3);
}

#[tokio::test(start_paused = true)]
async fn spans_that_the_exporter_forgets_are_lost_and_counted() {
    let rig = Rig::new([], Answer::Forget);
    rig.push(3);
    let account = rig.settled().await;
    assert_eq!(account.delivered, 1);
    assert_eq!(account.dropped.of(DropReason::Failed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_flush_with_nothing_left_tells_no_error_of_before() {
    let rig = Rig::new([], Answer::Fail(Error::unavailable("down")));
    rig.push(1);
    // Sleeps: in the test's time, until the first attempt failed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(rig.queue.shared.evict());
    let flushed = rig.queue.flush(soon()).await;
    assert_eq!(flushed.left, 0);
    assert!(flushed.error.is_none(), "{:?}", flushed.error);
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_what_is_held_and_then_flushes_the_exporter() {
    let rig = Rig::new([], Answer::Slow(Duration::from_secs(1)));
    for _ in 0..8 {
        rig.push(1);
    }
    let flushed = rig.queue.flush(soon()).await;
    assert_eq!((flushed.left, flushed.out_of_time), (0, false));
    assert_eq!(rig.account().delivered, 8);
    assert_eq!(rig.script.flushed.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flush_does_not_wait_for_what_comes_after_it() {
    let rig = Rig::new([], Answer::Slow(Duration::from_secs(1)));
    rig.push(1);
    let flush = rig.queue.flush(soon());
    let more = async {
        for _ in 0..10_000 {
            rig.push(1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        flushed = flush => assert_eq!(flushed.left, 0),
        () = more => panic!("the flush did not end"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_out_of_time_says_what_is_left_and_keeps_it() {
    let rig = Rig::new([], Answer::Fail(Error::unavailable("down")));
    rig.push(3);
    let began = Instant::now();
    let flushed = rig.queue.flush(soon()).await;
    assert_eq!((flushed.left, flushed.out_of_time), (3, true));
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!(rig.account().queued + rig.account().in_flight, 3);
    let error = flushed.error.expect("it says why").to_string();
    assert!(error.contains("down"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_flush_tries_a_destination_that_was_down_at_once_and_again() {
    let rig = Rig::new([], Answer::Fail(Error::unavailable("down")));
    rig.push(3);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.script.calls().len(), 1);
    let flush = rig.queue.flush(soon());
    let revive = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(rig.script.calls().len() >= 2, "tried at once");
        *rig.script.otherwise.lock().unwrap() = Answer::Deliver;
    };
    let (flushed, ()) = tokio::join!(flush, revive);
    assert_eq!((flushed.left, flushed.out_of_time), (0, false));
    assert!(rig.script.calls().len() < 20, "without hammering");
}

#[tokio::test(start_paused = true)]
async fn a_flush_ends_early_when_the_destination_asked_for_a_longer_wait() {
    let busy = Error::throttled("slow down").with_retry_after(Duration::from_secs(100));
    let rig = Rig::new([], Answer::Fail(busy));
    rig.push(3);
    let began = Instant::now();
    let flushed = rig.queue.flush(soon()).await;
    assert_eq!((flushed.left, flushed.out_of_time), (3, false));
    assert!(flushed.error.is_some());
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn waits_are_long_again_after_a_flush_however_it_ended() {
    let rig = Rig::new([], Answer::Fail(Error::unavailable("down")));
    rig.push(1);
    rig.queue
        .flush(Deadline::after(Duration::from_secs(2)))
        .await;
    let abandoned = rig.queue.flush(Deadline::after(Duration::from_secs(10)));
    let second = Duration::from_secs(1);
    tokio::time::timeout(second, abandoned).await.unwrap_err();
    let before = rig.script.calls().len();
    // Sleeps: in the test's time, while nobody waits for a flush.
    tokio::time::sleep(Duration::from_secs(120)).await;
    let calls = rig.script.calls().len() - before;
    assert!((3..=10).contains(&calls), "{calls}");
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_is_dropped_takes_the_hurry_from_no_other() {
    let rig = Rig::new([], Answer::Fail(Error::unavailable("down")));
    rig.push(1);
    let until = Deadline::after(Duration::from_secs(10));
    let patient = rig.queue.flush(until);
    let abandoned = tokio::time::timeout(Duration::from_secs(1), rig.queue.flush(until));
    let (flushed, abandoned) = futures_util::join!(patient, abandoned);
    assert!(flushed.out_of_time);
    abandoned.unwrap_err();
    let calls = rig.script.calls().len();
    assert!(calls >= 8, "{calls} attempts in ten seconds");
}

#[tokio::test(start_paused = true)]
async fn a_flush_tells_what_became_of_spans_that_the_exporter_had_taken() {
    let rig = Rig::new([], Answer::Deliver);
    rig.push(10);
    rig.settled().await;
    let mut inside = Drained {
        refused: 1,
        left: 2,
        ..Drained::default()
    };
    inside.lost.add(DropReason::Failed, 3);
    *rig.script.drain.lock().unwrap() = Ok(inside);
    *rig.script.otherwise.lock().unwrap() = Answer::Fail(Error::unavailable("down"));
    rig.push(4);
    let flushed = rig.queue.flush(soon()).await;
    assert_eq!((flushed.left, flushed.left_inside), (6, 2));
    let account = rig.account();
    assert_eq!((account.delivered, account.refused), (6, 1));
    assert_eq!(account.dropped.of(DropReason::Failed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_flush_passes_on_the_errors_of_the_exporters_flush() {
    let rig = Rig::new([], Answer::Deliver);
    *rig.script.drain.lock().unwrap() = Err(Error::timeout("not all in time", soon()));
    let flushed = rig.queue.flush(soon()).await;
    let told = flushed.error.map(|error| error.to_string());
    assert!(told.is_some_and(|told| told.contains("not all in time")));
    assert!(flushed.out_of_time);

    *rig.script.drain.lock().unwrap() = Err(Error::internal("broken"));
    let flushed = rig.queue.flush(soon()).await;
    assert!(
        flushed
            .error
            .is_some_and(|error| error.to_string().contains("broken"))
    );
    assert!(!flushed.out_of_time);
}

#[tokio::test(start_paused = true)]
async fn flushes_may_run_at_once() {
    let rig = Rig::new([], Answer::Slow(Duration::from_secs(1)));
    rig.push(1);
    let (one, other) = tokio::join!(rig.queue.flush(soon()), rig.queue.flush(soon()));
    assert_eq!((one.left, other.left), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_delivers_what_it_can_and_counts_the_rest() {
    let rig = Rig::new([Answer::Deliver, Answer::Stall], Answer::Deliver);
    for spans in [1, 2, 3] {
        rig.push(spans);
    }
    let began = Instant::now();
    let flushed = rig.queue.shutdown(soon()).await;
    assert!(flushed.out_of_time);
    assert_eq!(began.elapsed().as_secs(), 5);
    let account = rig.account();
    assert_eq!(account.delivered, 4);
    assert_eq!(account.dropped.of(DropReason::Shutdown), 2);
    assert_eq!(account.open(), 0);
    assert_eq!(rig.script.shut_down.load(Ordering::SeqCst), 1);
    assert_eq!(rig.books.budget().bytes(), 0);

    let again = rig.queue.shutdown(soon()).await;
    assert!(!again.out_of_time);
    assert_eq!(rig.script.shut_down.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_a_destination_that_comes_back_in_time() {
    let down = || Answer::Fail(Error::unavailable("restarting"));
    let rig = Rig::new([down(), down(), down()], Answer::Deliver);
    rig.push(5);
    let flushed = rig.queue.shutdown(soon()).await;
    assert!(!flushed.out_of_time);
    assert_eq!(rig.account().delivered, 5);
}

#[tokio::test(start_paused = true)]
async fn a_second_shutdown_has_nothing_to_do() {
    let rig = Rig::new([], Answer::Deliver);
    rig.queue.shutdown(soon()).await;
    let flushed = rig.queue.shutdown(soon()).await;
    assert!(!flushed.out_of_time && flushed.left == 0);
    assert_eq!(rig.script.shut_down.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn every_batch_that_is_held_counts_wherever_it_is() {
    let rig = Rig::new([], Answer::Fail(Error::unavailable("down")));
    rig.push(1);
    rig.push(1);
    // Sleeps: in the test's time, until both have failed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.push(1);
    assert_eq!(rig.queue.shared.lock().batches(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_pushed_after_the_shutdown_is_counted() {
    let rig = Rig::new([], Answer::Deliver);
    rig.queue.shutdown(soon()).await;
    rig.push(4);
    assert_eq!(rig.account().dropped.of(DropReason::Shutdown), 4);
    assert_eq!(rig.books.budget().bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_pushed_during_the_shutdown_is_counted_at_once() {
    let rig = Rig::new([], Answer::Stall);
    rig.push(1);
    let meanwhile = async {
        // Sleeps: in the test's time, until the shutdown has begun.
        tokio::time::sleep(Duration::from_secs(1)).await;
        rig.push(4);
        assert_eq!(rig.account().dropped.of(DropReason::Shutdown), 4);
    };
    tokio::join!(rig.queue.shutdown(soon()), meanwhile);
    assert_eq!(rig.account().dropped.of(DropReason::Shutdown), 5);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_queue_counts_what_it_held() {
    let rig = Rig::new([Answer::Stall], Answer::Fail(Error::unavailable("down")));
    rig.push(2);
    rig.push(3);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.account().in_flight, 2);
    let Rig { queue, books, .. } = rig;
    drop(queue);
    while books.account().open() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(books.account().dropped.of(DropReason::Shutdown), 5);
    assert_eq!(books.budget().bytes(), 0);
}

fn arbitrary_answer() -> impl Strategy<Value = Answer> {
    let unavailable = || Error::unavailable("down");
    prop_oneof![
        6 => Just(Answer::Deliver),
        1 => Just(Answer::Refuse),
        1 => (0_u64..20).prop_map(Answer::RefuseSome),
        3 => Just(Answer::Fail(unavailable())),
        1 => (0_u64..50).prop_map(move |seconds| Answer::Fail(
            unavailable().with_retry_after(Duration::from_secs(seconds))
        )),
        1 => Just(Answer::Fail(Error::internal("broken"))),
        2 => Just(Answer::DeliverHalf(Error::unavailable("half"))),
        1 => Just(Answer::DeliverHalf(Error::refused("half"))),
        1 => (0_usize..20).prop_map(Answer::LimitSpans),
        1 => Just(Answer::Stall),
        1 => Just(Answer::Panic),
        1 => Just(Answer::Forget),
        2 => (0_u64..30_000).prop_map(|millis| Answer::Slow(Duration::from_millis(millis))),
    ]
}

#[derive(Clone, Debug)]
enum Act {
    Push(usize),
    Wait(u64),
    Flush(u64),
    /// Begins a flush and drops it.
    Abandon(u64),
}

fn arbitrary_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (1_usize..20).prop_map(Act::Push),
        3 => (0_u64..40_000).prop_map(Act::Wait),
        1 => (0_u64..20_000).prop_map(Act::Flush),
        1 => (0_u64..5_000).prop_map(Act::Abandon),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_account_closes_whatever_happens(
        answers in prop::collection::vec(arbitrary_answer(), 0..40),
        otherwise in arbitrary_answer(),
        acts in prop::collection::vec(arbitrary_act(), 1..40),
        export_limit in prop::option::of(1_u64..100),
        end in 0_u64..30_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let heard = Arc::new(Heard::default());
            let settings = Settings {
                export_limit: export_limit.map(Duration::from_secs),
                ..settings()
            };
            let script = Script::new(answers, otherwise);
            let rig = Rig::observed(settings, script, Some(Arc::clone(&heard) as _));
            let mut pushed = 0;
            for act in acts {
                match act {
                    Act::Push(spans) => {
                        rig.push(spans);
                        pushed += spans as u64;
                    }
                    // Sleeps: in the test's time, as the generated case says.
                    Act::Wait(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
                    Act::Flush(millis) => {
                        let until = Deadline::after(Duration::from_millis(millis));
                        let flushed = rig.queue.flush(until).await;
                        assert_eq!(flushed.left, rig.account().open(), "nothing came meanwhile");
                    }
                    Act::Abandon(millis) => {
                        let flush = rig.queue.flush(Deadline::never());
                        drop(tokio::time::timeout(Duration::from_millis(millis), flush).await);
                    }
                }
                let account = rig.account();
                assert_eq!(account.received, pushed);
                assert!(account.delivered <= rig.script.accepted());
            }
            let until = Deadline::after(Duration::from_millis(end));
            rig.queue.shutdown(until).await;
            assert!(until.has_passed() || rig.script.in_flight.load(Ordering::SeqCst) == 0);
            let account = rig.account();
            assert_eq!(account.open(), 0);
            assert_eq!(account.received, pushed);
            assert_eq!(rig.books.budget().bytes(), 0);
            assert_eq!(rig.script.in_flight.load(Ordering::SeqCst), 0, "no export is left behind");
            let (handed_over, dropped_before) = heard.read();
            assert!(handed_over >= account.delivered + account.refused);
            assert_eq!(handed_over + dropped_before, pushed, "each span is heard of once");
        });
    }
}

/// Asks to come back in an hour.
fn in_an_hour() -> Error {
    Error::throttled("overloaded").with_retry_after(Duration::from_secs(3600))
}

/// What the system says where nothing listens.
fn nobody_listens() -> Error {
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    Error::unavailable("cannot connect").with_source(refused)
}

/// Runs the test's time until the first attempt was answered.
async fn first_attempt(rig: &Rig) {
    // Sleeps: in the test's time.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(rig.script.calls().len(), 1);
}

impl Rig {
    fn asks_first(answers: impl IntoIterator<Item = Answer>, otherwise: Answer) -> Self {
        let script = Script::new(answers, otherwise);
        let settings = Settings {
            concurrent_exports: 1,
            ..settings()
        };
        Self::with(settings, script)
    }
}

#[tokio::test(start_paused = true)]
async fn flush_keeps_asked_wait_and_gives_it_as_reason() {
    let rig = Rig::asks_first([Answer::Fail(in_an_hour())], Answer::Deliver);
    rig.push(2);
    first_attempt(&rig).await;
    let began = Instant::now();
    let flushed = rig.queue.flush(soon()).await;
    assert_eq!((flushed.left, flushed.out_of_time), (2, false));
    let text = flushed.error.unwrap().to_string();
    assert!(text.contains("asked to wait: 3600s"), "{text}");
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(rig.script.calls().len(), 1, "nothing was sent");
    let wait = rig.queue.next_attempt_in().unwrap().as_secs();
    assert!((299..=331).contains(&wait), "capped: {wait}");
}

#[tokio::test(start_paused = true)]
async fn flush_waits_for_asked_wait_that_ends_in_time() {
    let busy = Error::throttled("busy").with_retry_after(Duration::from_secs(2));
    let rig = Rig::asks_first([Answer::Fail(busy)], Answer::Deliver);
    rig.push(2);
    first_attempt(&rig).await;
    let began = Instant::now();
    let flushed = rig.queue.flush(soon()).await;
    assert_eq!((flushed.left, flushed.out_of_time), (0, false));
    assert!(began.elapsed() >= Duration::from_millis(1999));
}

#[tokio::test(start_paused = true)]
async fn shutdown_sends_one_batch_before_asked_wait_and_the_rest_after_it() {
    let rig = Rig::asks_first([Answer::Fail(in_an_hour())], Answer::Deliver);
    for spans in [1, 2, 3] {
        rig.push(spans);
    }
    first_attempt(&rig).await;
    let flushed = rig.queue.shutdown(soon()).await;
    assert!(flushed.error.is_none());
    assert_eq!(rig.account().delivered, 6);
}

#[tokio::test(start_paused = true)]
async fn shutdown_sends_no_second_batch_before_asked_wait() {
    for otherwise in [
        Answer::Fail(in_an_hour()),
        Answer::Fail(Error::unavailable("down")),
    ] {
        let rig = Rig::asks_first([Answer::Fail(in_an_hour())], otherwise);
        for spans in [1, 2, 3] {
            rig.push(spans);
        }
        first_attempt(&rig).await;
        let began = Instant::now();
        let flushed = rig.queue.shutdown(soon()).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(rig.script.calls().len(), 2);
        let text = flushed.error.clone().unwrap().to_string();
        assert!(text.contains("asked to wait: 3600s"), "{text}");
        let account = rig.account();
        assert_eq!(account.dropped.of(DropReason::Shutdown), 6);
        let drained = account.since(&Account::default());
        let causes = rig.queue.causes(&drained, &flushed);
        assert!(causes[0].error().to_string().contains("overloaded"));
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_asked_wait_that_ends_in_time() {
    let busy = || Error::throttled("busy").with_retry_after(Duration::from_secs(2));
    let rig = Rig::asks_first(
        [Answer::Fail(busy()), Answer::Fail(busy())],
        Answer::Deliver,
    );
    rig.push(1);
    first_attempt(&rig).await;
    let began = Instant::now();
    rig.queue.shutdown(soon()).await;
    assert_eq!(rig.account().delivered, 1);
    let elapsed = began.elapsed().as_secs_f64();
    assert!((2.0..2.3).contains(&elapsed), "{elapsed}");
}

#[tokio::test(start_paused = true)]
async fn asked_wait_is_kept_when_a_plain_failure_follows() {
    let busy = Error::throttled("busy").with_retry_after(Duration::from_secs(40));
    let late = Answer::FailLate(Duration::from_secs(1), Error::unavailable("down"));
    let rig = Rig::new([Answer::Fail(busy), late], Answer::Deliver);
    rig.push(1);
    rig.push(1);
    // Sleeps: in the test's time, until both were answered.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let flushed = rig.queue.flush(soon()).await;
    assert_eq!(flushed.left, 2);
    assert_eq!(rig.script.calls().len(), 2, "the flush breaks no wait");
}

#[tokio::test(start_paused = true)]
async fn asked_waits_are_capped_as_set() {
    let settings = Settings {
        retry: Retry::default()
            .jitter(0.0)
            .max_retry_after(Duration::from_secs(10)),
        ..settings()
    };
    let years = Error::throttled("busy").with_retry_after(Duration::MAX);
    let rig = Rig::with(
        settings,
        Script::new([Answer::Fail(years)], Answer::Deliver),
    );
    rig.push(1);
    rig.settled().await;
    let calls = rig.script.calls();
    let waited = (calls[1].at - calls[0].at).as_secs_f64();
    assert!((10.0..=11.1).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_gives_up_early_where_nothing_ever_answered() {
    let settings = Settings {
        gives_up_early: true,
        ..settings()
    };
    for is_tried_before in [false, true] {
        let script = Script::new([], Answer::Fail(nobody_listens()));
        let rig = Rig::with(settings.clone(), script);
        rig.push(3);
        if is_tried_before {
            first_attempt(&rig).await;
        }
        let began = Instant::now();
        let flushed = rig.queue.shutdown(soon()).await;
        let elapsed = began.elapsed().as_millis();
        assert!((600..800).contains(&elapsed), "{elapsed}");
        assert!(!flushed.out_of_time);
        assert!(flushed.error.unwrap().is_connection_refused());
        let attempts = rig.script.calls().len() - usize::from(is_tried_before);
        assert_eq!(attempts, 3);
        assert_eq!(rig.account().dropped.of(DropReason::Shutdown), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_delivers_to_a_destination_that_is_just_starting() {
    let settings = Settings {
        gives_up_early: true,
        ..settings()
    };
    let refused = || Answer::Fail(nobody_listens());
    let rig = Rig::with(
        settings,
        Script::new([refused(), refused()], Answer::Deliver),
    );
    rig.push(3);
    rig.queue.shutdown(soon()).await;
    assert_eq!(rig.account().delivered, 3);
}

#[tokio::test(start_paused = true)]
async fn shutdown_keeps_trying_where_something_answered_before() {
    for (first, gives_up_early) in [
        (Answer::Deliver, true),
        (
            Answer::Fail(Error::unavailable("503").with_attempt(Attempt::one().with_status(503))),
            true,
        ),
        (Answer::Fail(nobody_listens()), false),
    ] {
        let settings = Settings {
            gives_up_early,
            ..settings()
        };
        let script = Script::new([first], Answer::Fail(nobody_listens()));
        let rig = Rig::with(settings, script);
        rig.push(1);
        first_attempt(&rig).await;
        rig.push(1);
        let began = Instant::now();
        let flushed = rig.queue.shutdown(soon()).await;
        assert!(flushed.out_of_time);
        assert!(began.elapsed() >= Duration::from_secs(5));
    }
}

#[tokio::test(start_paused = true)]
async fn export_under_way_at_the_end_is_the_cause_of_the_loss() {
    let rig = Rig::new([], Answer::Stall);
    rig.push(2);
    first_attempt(&rig).await;
    let until = Deadline::after(Duration::from_secs(1)).named("shutdown timeout");
    let flushed = rig.queue.shutdown(until).await;
    let account = rig.account();
    assert_eq!(account.dropped.of(DropReason::Shutdown), 2);
    let drained = account.since(&Account::default());
    let cause = rig.queue.causes(&drained, &flushed).remove(0);
    assert_eq!(
        cause.to_string(),
        "no answer: shutdown timeout of 1s passed"
    );
}

#[tokio::test(start_paused = true)]
async fn shutdown_goes_on_after_its_future_was_dropped() {
    let rig = Rig::new([], Answer::Slow(Duration::from_secs(2)));
    rig.push(2);
    let first = rig.queue.shutdown(soon());
    tokio::time::timeout(Duration::from_secs(1), first)
        .await
        .unwrap_err();
    let flushed = rig.queue.shutdown(soon()).await;
    assert!(flushed.error.is_none());
    assert_eq!(rig.account().delivered, 2);
    assert_eq!(rig.script.shut_down.load(Ordering::SeqCst), 1);
}

/// What a destination gets when the first of three batches stops with this error after its first half.
#[cfg(feature = "_network")]
async fn sizes_after_a_stop(settings: Settings, answer: Answer) -> Vec<usize> {
    let script = Script::new([answer], Answer::Deliver);
    let rig = Rig::with(settings, script);
    for spans in [8, 3, 5] {
        rig.push(spans);
    }
    let account = rig.settled().await;
    assert_eq!(account.delivered, 16);
    rig.script.sizes()
}

#[cfg(feature = "_network")]
#[tokio::test(start_paused = true)]
async fn what_gives_way_goes_behind_those_that_wait() {
    // It is no failure: retries are not needed for it.
    let settings = Settings {
        concurrent_exports: 1,
        retry: settings().retry.max_retries(0),
        ..settings()
    };
    let answer = Answer::DeliverHalf(Error::giving_way());
    let sizes = sizes_after_a_stop(settings, answer).await;
    assert_eq!(sizes, [8, 3, 5, 4]);
}

#[cfg(feature = "_network")]
#[tokio::test(start_paused = true)]
async fn what_takes_too_long_to_write_goes_behind_those_that_wait() {
    let late = Error::new(ErrorKind::Timeout, "not written in time").before_sending();
    for (answer, expected) in [
        (Answer::DeliverHalf(late.clone()), [8, 3, 5, 4]),
        (Answer::Fail(late), [8, 3, 5, 8]),
    ] {
        let settings = Settings {
            concurrent_exports: 1,
            ..settings()
        };
        let sizes = sizes_after_a_stop(settings, answer).await;
        assert_eq!(sizes, expected);
    }
}

#[cfg(feature = "_network")]
#[tokio::test(start_paused = true)]
async fn exports_give_way_while_others_wait_and_the_queue_goes_on() {
    /// Notes what each call hears, once it may.
    #[derive(Debug)]
    struct Looking {
        heard: Arc<Mutex<Vec<Turns>>>,
        may_look: Arc<tokio::sync::Semaphore>,
    }

    impl Export for Looking {
        async fn export(&self, batch: Batch, _: Deadline) -> Result<Delivery> {
            self.may_look.acquire().await.unwrap().forget();
            self.heard.lock().unwrap().push(turns());
            Ok(Delivery::of(&batch))
        }

        async fn flush(&self, _: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }

        async fn shutdown(&self, _: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }
    }

    let waited = [Turns::OthersWait, Turns::OthersWait, Turns::NobodyWaits];
    for (takes_turns, expected) in [(true, waited), (false, [Turns::No; 3])] {
        let heard = Arc::default();
        let may_look = Arc::new(tokio::sync::Semaphore::new(0));
        let exporter = Exporter::new(Looking {
            heard: Arc::clone(&heard),
            may_look: Arc::clone(&may_look),
        });
        let queue = MemoryQueue::builder(exporter).concurrent_exports(1);
        let queue = match takes_turns {
            true => queue.take_turns(),
            false => queue,
        };
        let queue = queue.start().unwrap();
        let batches: Vec<_> = (1..=3).map(batch_of).collect();
        for batch in batches {
            let permit = queue.try_reserve(batch.own_memory(), batch.spans());
            queue.push(batch, permit.unwrap(), Ack::none()).unwrap();
        }
        may_look.add_permits(3);
        assert!(queue.flush(soon()).await.unwrap().is_complete());
        assert_eq!(*heard.lock().unwrap(), expected);
        drop(queue.shutdown(soon()).await);
    }
}
