//! What the queue concludes from failures: whether the destination is down, or one batch fails alone; and what becomes of batches
//! whose time runs out.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::engine::schedule;
use crate::engine::schedule::Schedule;
use crate::engine::schedule::Step;
use crate::engine::tracked::Tracked;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Takes batches after a while, and fails for those of some sizes.
#[derive(Debug)]
struct Picky {
    /// Fails at once for batches of these sizes.
    bad: Vec<usize>,
    /// Never answers for batches of this size.
    hangs: Option<usize>,
    time: Duration,
    is_down: AtomicBool,
    calls: Mutex<Vec<Seen>>,
    in_flight: AtomicUsize,
}

/// An export as the destination saw it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    spans: usize,
    left: Option<Duration>,
    in_flight: usize,
}

impl Picky {
    fn new(bad: &[usize], time: Duration) -> Arc<Self> {
        Arc::new(Self {
            bad: bad.to_vec(),
            hangs: None,
            time,
            is_down: AtomicBool::new(false),
            calls: Mutex::default(),
            in_flight: AtomicUsize::new(0),
        })
    }

    fn seen(&self) -> Vec<Seen> {
        self.calls.lock().unwrap().clone()
    }

    /// When exports of so many spans began.
    fn begins(&self, spans: usize) -> Vec<Instant> {
        let seen = self.seen().into_iter();
        let of_size = seen.filter(|seen| seen.spans == spans);
        of_size.map(|seen| seen.at).collect()
    }

    fn waits(&self, spans: usize) -> Vec<Duration> {
        let begins = self.begins(spans);
        begins.windows(2).map(|two| two[1] - two[0]).collect()
    }
}

#[derive(Debug)]
struct PickyExporter(Arc<Picky>);

impl Export for PickyExporter {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let picky = &self.0;
        let in_flight = picky.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        let _ends = InFlight(&picky.in_flight);
        picky.calls.lock().unwrap().push(Seen {
            at: Instant::now(),
            spans: batch.spans(),
            left: until.remaining(),
            in_flight,
        });
        let is_down = picky.is_down.load(Ordering::SeqCst);
        if is_down || picky.bad.contains(&batch.spans()) {
            return Err(
                Error::unavailable("cannot take it").with_attempt(Attempt::one().with_status(503))
            );
        }
        if picky.hangs == Some(batch.spans()) {
            until.passed().await;
            return Err(Error::timeout("no answer", until));
        }
        // Sleeps: the destination takes its time, in the test's time.
        match until.run(tokio::time::sleep(picky.time)).await {
            Some(()) => Ok(Delivery::of(&batch)),
            None => Err(Error::timeout("no answer", until)),
        }
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

/// A batch of so many spans, with its bookkeeping.
fn tracked(books: &Arc<Books>, spans: usize) -> Vec<Tracked> {
    let batch = batch_of(spans);
    let entry = books.try_reserve(batch.memory(), spans);
    entry.expect("there is room").into_tracked(vec![batch])
}

/// A queue in front of such a destination.
struct Desk {
    queue: Queue,
    destination: Arc<Picky>,
    books: Arc<Books>,
}

impl Desk {
    fn new(settings: Settings, destination: &Arc<Picky>) -> Self {
        let budget = Arc::new(Budget::new(1 << 30, Some(1 << 20)));
        let diagnostics = Arc::new(Diagnostics::default());
        let books = Books::new(budget, Arc::clone(&diagnostics), None);
        let queue = Queue::start(
            Exporter::new(PickyExporter(Arc::clone(destination))),
            settings,
            Arc::clone(&books),
            diagnostics,
            &Handle::current(),
        );
        Self {
            queue,
            destination: Arc::clone(destination),
            books,
        }
    }

    fn push(&self, spans: usize) {
        for tracked in tracked(&self.books, spans) {
            self.queue.push(tracked);
        }
    }

    fn account(&self) -> Account {
        let account = self.books.account();
        assert!(account.closes(), "{account}");
        assert_eq!(self.books.abandoned(), 0, "no token is forgotten");
        account
    }

    /// Pushes a batch of one span each millisecond, and returns the longest time until one was started.
    async fn longest_wait_of_good_ones(&self, count: usize) -> Duration {
        let before = self.destination.begins(1).len();
        let mut pushed = Vec::new();
        for _ in 0..count {
            pushed.push(Instant::now());
            self.push(1);
            // Sleeps: in the test's time, at the rate of the senders.
            tokio::time::sleep(MILLISECOND).await;
        }
        // Sleeps: in the test's time, until all have started.
        tokio::time::sleep(60 * SECOND).await;
        let begins = self.destination.begins(1);
        let begins = &begins[before..];
        assert_eq!(begins.len(), count, "each is sent once");
        let waits = pushed
            .iter()
            .zip(begins)
            .map(|(pushed, began)| *began - *pushed);
        waits.max().unwrap_or_default()
    }
}

fn concurrent(exports: usize) -> Settings {
    Settings {
        concurrent_exports: exports,
        ..settings()
    }
}

async fn pass(time: Duration) {
    // Sleeps: in the test's time.
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn batch_that_always_fails_delays_no_other() {
    for (exports, time) in [(1, Duration::ZERO), (2, Duration::ZERO), (4, MILLISECOND)] {
        for bad in [&[7][..], &[7, 8, 9]] {
            let desk = Desk::new(concurrent(exports), &Picky::new(bad, time));
            for spans in bad {
                desk.push(2);
                pass(SECOND / 10).await;
                desk.push(*spans);
                pass(SECOND / 10).await;
            }
            let wait = desk.longest_wait_of_good_ones(20_000).await;
            let case = format!("{exports} exports of {time:?}, {bad:?}");
            assert!(wait <= 20 * MILLISECOND, "{case}: {wait:?}");
            let account = desk.account();
            assert_eq!(account.delivered, 20_000 + 2 * bad.len() as u64, "{case}");
            let kept: usize = bad.iter().sum();
            assert_eq!(account.queued, kept as u64, "{case}");
            for spans in bad {
                let tries = desk.destination.begins(*spans).len();
                assert!((4..=12).contains(&tries), "{case}: {tries}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn batch_that_is_never_answered_delays_no_other() {
    let destination = Arc::new(Picky {
        hangs: Some(7),
        ..Arc::into_inner(Picky::new(&[], MILLISECOND)).unwrap()
    });
    let desk = Desk::new(concurrent(4), &destination);
    desk.push(1);
    pass(SECOND).await;
    desk.push(7);
    let wait = desk.longest_wait_of_good_ones(30_000).await;
    assert!(wait <= 20 * MILLISECOND, "{wait:?}");
    assert!(destination.begins(7).len() >= 3, "it is tried again");
}

#[tokio::test(start_paused = true)]
async fn waits_of_batch_that_fails_alone_grow() {
    let desk = Desk::new(concurrent(2), &Picky::new(&[7], Duration::ZERO));
    desk.push(1);
    pass(SECOND).await;
    desk.push(7);
    for _ in 0..600 {
        desk.push(1);
        pass(SECOND / 10).await;
    }
    let waits: Vec<_> = desk
        .destination
        .waits(7)
        .iter()
        .map(Duration::as_secs_f32)
        .collect();
    for (wait, expected) in waits.iter().zip([5.0, 7.5, 11.25, 16.88]) {
        assert!((wait - expected).abs() < 0.2, "{waits:?}");
    }
    assert!(waits.len() >= 4, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn destination_that_goes_down_is_probed_by_one_export_at_a_time() {
    for exports in [1, 4] {
        let destination = Picky::new(&[], MILLISECOND);
        let desk = Desk::new(concurrent(exports), &destination);
        for _ in 0..20 {
            desk.push(1);
        }
        pass(SECOND).await;
        assert_eq!(desk.account().delivered, 20);
        destination.is_down.store(true, Ordering::SeqCst);
        for _ in 0..50 {
            desk.push(1);
        }
        pass(600 * SECOND).await;
        let calls: Vec<_> = destination.seen().split_off(20);
        // Waits of 5, 7.5, 11.25, 16.9, 25.3, 30, 30… s, after those that were in flight.
        assert!((20..=32).contains(&calls.len()), "{}", calls.len());
        let down = calls[0].at;
        let later = calls.iter().filter(|call| call.at > down + SECOND);
        assert!(later.clone().all(|call| call.in_flight == 1));
        assert!(later.count() >= 15);
        assert_eq!(desk.account().queued, 50);
        destination.is_down.store(false, Ordering::SeqCst);
        pass(34 * SECOND).await;
        assert_eq!(desk.account().delivered, 70, "all at the next probe");
    }
}

#[tokio::test(start_paused = true)]
async fn batch_that_fails_after_a_pause_is_checked_by_the_next_one() {
    let destination = Picky::new(&[7, 8], Duration::ZERO);
    let desk = Desk::new(concurrent(4), &destination);
    desk.push(1);
    pass(SECOND).await;
    desk.push(7);
    pass(SECOND).await;
    // One failure alone: the next batch does not wait.
    desk.push(2);
    pass(MILLISECOND).await;
    assert_eq!(desk.account().delivered, 3);
    desk.push(7);
    pass(MILLISECOND).await;
    // Two different ones without a success between them: the destination is down.
    desk.push(8);
    pass(MILLISECOND).await;
    desk.push(3);
    pass(SECOND).await;
    assert!(destination.begins(3).is_empty());
    assert!(desk.queue.next_attempt_in().is_some());
    pass(5 * SECOND).await;
    assert_eq!(destination.begins(3).len(), 1, "the probe");
}

#[tokio::test(start_paused = true)]
async fn wait_that_one_batch_is_asked_for_holds_for_all() {
    let busy = Error::throttled("busy").with_retry_after(40 * SECOND);
    let script = Script::new([Answer::Deliver, Answer::Fail(busy)], Answer::Deliver);
    let rig = Rig::with(concurrent(1), script);
    for _ in 0..3 {
        rig.push(1);
    }
    rig.settled().await;
    let calls = rig.script.calls();
    assert!(calls[2].at - calls[1].at >= 40 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn flush_and_shutdown_say_why_a_batch_fails_alone() {
    let desk = Desk::new(concurrent(2), &Picky::new(&[7], Duration::ZERO));
    desk.push(1);
    desk.push(7);
    pass(SECOND).await;
    desk.push(1);
    let flushed = desk.queue.flush(soon()).await;
    assert_eq!((flushed.left, flushed.out_of_time), (7, true));
    let error = flushed.error.expect("a cause").to_string();
    assert!(error.contains("cannot take it"), "{error}");
    let tries = desk.destination.begins(7).len();
    assert!(
        (3..=20).contains(&tries),
        "several tries in the time: {tries}"
    );
    let flushed = desk.queue.shutdown(soon()).await;
    let error = flushed.error.expect("a cause").to_string();
    assert!(error.contains("cannot take it"), "{error}");
    let account = desk.account();
    assert_eq!(account.dropped.of(DropReason::Shutdown), 7);
    assert_eq!((account.delivered, account.open()), (2, 0));
}

fn limited(seconds: u32) -> Settings {
    Settings {
        export_limit: Some(seconds * SECOND),
        ..concurrent(1)
    }
}

#[tokio::test(start_paused = true)]
async fn batch_expires_while_destination_asked_to_wait() {
    let busy = || Error::throttled("busy").with_retry_after(200 * SECOND);
    let script = Script::new(
        [Answer::Fail(busy()), Answer::Fail(busy())],
        Answer::Deliver,
    );
    let rig = Rig::with(limited(60), script);
    rig.push(2);
    rig.push(3);
    pass(59 * SECOND).await;
    assert_eq!(rig.account().dropped.total(), 0);
    pass(2 * SECOND).await;
    let account = rig.account();
    assert_eq!(account.dropped.of(DropReason::Expired), 2, "in time");
    assert_eq!(rig.script.sizes(), [2], "without another attempt");
    // What was never tried has not expired.
    assert_eq!(account.queued, 3);
    pass(400 * SECOND).await;
    assert_eq!(rig.script.sizes(), [2, 3]);
    let account = rig.account();
    assert_eq!(account.dropped.of(DropReason::Expired), 5);
    assert_eq!((account.open(), rig.books.budget().bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn flush_ends_when_what_it_waits_for_expires() {
    let busy = Error::throttled("busy").with_retry_after(200 * SECOND);
    let rig = Rig::with(
        limited(60),
        Script::new([Answer::Fail(busy)], Answer::Deliver),
    );
    rig.push(2);
    pass(SECOND).await;
    let began = Instant::now();
    let flushed = rig.queue.flush(Deadline::after(300 * SECOND)).await;
    assert_eq!((flushed.left, flushed.out_of_time), (0, false));
    assert_eq!(began.elapsed().as_secs(), 59);
}

#[tokio::test(start_paused = true)]
async fn expired_batches_are_not_started_and_blame_nobody() {
    let destination = Picky::new(&[], 10 * MILLISECOND);
    let desk = Desk::new(limited(60), &destination);
    destination.is_down.store(true, Ordering::SeqCst);
    for _ in 0..10 {
        desk.push(1);
        pass(20 * SECOND).await;
    }
    pass(60 * SECOND).await;
    destination.is_down.store(false, Ordering::SeqCst);
    pass(40 * SECOND).await;
    let seen = destination.seen();
    assert!(
        seen.iter().all(|seen| seen.left > Some(Duration::ZERO)),
        "{seen:?}"
    );
    let account = desk.account();
    assert_eq!(account.open(), 0);
    let expired = account.dropped.of(DropReason::Expired);
    assert!(
        expired > 0 && account.delivered + expired == 10,
        "{account}"
    );
    // The destination is up: nothing waits.
    desk.push(2);
    pass(20 * MILLISECOND).await;
    assert_eq!(desk.account().delivered, account.delivered + 2);
}

#[tokio::test(start_paused = true)]
async fn attempt_with_little_time_left_says_nothing_about_destination() {
    // The third attempt has 2.5 s of the limit left, and the destination needs 4 s.
    let destination = Picky::new(&[], 4 * SECOND);
    let settings = Settings {
        export_limit: Some(15 * SECOND),
        ..concurrent(2)
    };
    let desk = Desk::new(settings, &destination);
    destination.is_down.store(true, Ordering::SeqCst);
    desk.push(7);
    pass(6 * SECOND).await;
    assert_eq!(destination.begins(7).len(), 2);
    destination.is_down.store(false, Ordering::SeqCst);
    pass(9 * SECOND + 100 * MILLISECOND).await;
    assert_eq!(destination.begins(7).len(), 3);
    assert_eq!(desk.account().dropped.of(DropReason::Expired), 7);
    desk.push(1);
    pass(MILLISECOND).await;
    assert_eq!(destination.begins(1).len(), 1, "it is probed at once");
    pass(5 * SECOND).await;
    assert_eq!(desk.account().delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_export_limit_name_the_limit_as_set() {
    let script = Script::new([Answer::Fail(Error::unavailable("down"))], Answer::Stall);
    let settings = Settings {
        attempt_timeout: None,
        ..limited(60)
    };
    let rig = Rig::with(settings, script);
    rig.push(1);
    rig.settled().await;
    let causes = rig
        .queue
        .shared
        .diagnostics
        .causes(&rig.account().dropped, 0);
    let text = causes[0].error().to_string();
    assert!(text.contains("export limit of 60s passed"), "{text}");
}

#[test]
fn steps_of_a_long_queue_do_not_look_at_all_batches() {
    let now = Instant::now();
    let budget = Arc::new(Budget::new(1 << 30, None));
    let books = Books::new(budget, Arc::new(Diagnostics::default()), None);
    let mut schedule = Schedule::new(1_000_000, None, false, &Retry::default());
    let time_of = |schedule: &mut Schedule, batches: usize| {
        for _ in 0..batches {
            for tracked in tracked(&books, 1) {
                schedule.push(tracked).expect("it is open");
            }
        }
        let began = std::time::Instant::now();
        for _ in 0..200 {
            let flush = schedule.begin_flush(Deadline::never(), now);
            assert!(schedule.pending(flush) > 0);
            let Step::Start(mut item) = schedule.next(now) else {
                panic!("a batch waits");
            };
            item.tracked.start();
            let error = Error::unavailable("down");
            let answer = schedule::Answer {
                is_inconclusive: false,
                is_success: false,
                failure: Some(&error),
            };
            schedule.complete(item.number, &answer, vec![item.failed()], now);
            let oldest = schedule.take_oldest().expect("a batch waits");
            oldest.tracked.drop_spans(DropReason::QueueFull, None);
            schedule.end_flush(flush);
        }
        began.elapsed()
    };
    let few = time_of(&mut schedule, 1_000);
    let many = time_of(&mut schedule, 100_000);
    for item in schedule.end() {
        item.tracked.drop_spans(DropReason::Shutdown, None);
    }
    assert!(
        many < few * 20 + 10 * MILLISECOND,
        "{few:?} with few, {many:?} with many"
    );
}

/// The defaults: waits between probes stay short, those of a batch grow.
fn with_default_retry() -> Settings {
    Settings {
        retry: Retry::default(),
        ..settings()
    }
}

#[tokio::test(start_paused = true)]
async fn one_waiting_batch_is_delivered_soon_after_a_long_outage() {
    for (succeeds_before, waiting) in [(true, 1), (false, 1), (true, 3), (false, 3)] {
        let destination = Picky::new(&[], MILLISECOND);
        let desk = Desk::new(with_default_retry(), &destination);
        if succeeds_before {
            desk.push(1);
            pass(SECOND).await;
        }
        destination.is_down.store(true, Ordering::SeqCst);
        for spans in 0..waiting {
            desk.push(10 + spans);
        }
        pass(300 * SECOND).await;
        let calls = destination.seen().len();
        // One request at a time, and none more often than about each second.
        assert!((60..300).contains(&calls), "{calls}");
        destination.is_down.store(false, Ordering::SeqCst);
        pass(5 * SECOND).await;
        let account = desk.account();
        assert!(
            account.delivered >= 10,
            "{succeeds_before}, {waiting}: {account}"
        );
        pass(60 * SECOND).await;
        assert_eq!(desk.account().open(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn batch_that_fails_while_others_succeed_is_no_outage() {
    let destination = Picky::new(&[7], MILLISECOND);
    let desk = Desk::new(with_default_retry(), &destination);
    desk.push(1);
    pass(SECOND).await;
    desk.push(7);
    desk.push(1);
    pass(SECOND).await;
    // From here on it is known that only one batch fails.
    for _ in 0..6_000 {
        desk.push(1);
        pass(10 * MILLISECOND).await;
        let trouble = desk.queue.shared.diagnostics.trouble();
        assert_eq!(trouble, None);
    }
    assert!(destination.begins(7).len() >= 3, "it is tried again");
    assert_eq!(desk.account().open(), 7, "only that batch waits");
}
