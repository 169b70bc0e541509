use std::io;
use std::sync::Mutex;

use opentelemetry::trace::Span as _;
use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use proptest::prelude::*;
use tokio::sync::oneshot;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::Batch;
use crate::Delivery;
use crate::DropReason;
use crate::Export;

/// A destination that is down, or slow, or fails for good, as told.
#[derive(Clone, Debug, Default)]
struct Moody {
    mood: Arc<Mutex<Mood>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Mood {
    #[default]
    Well,
    Down,
    Refusing,
    Slow(Duration),
    Hanging,
}

impl Moody {
    fn become_(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

impl Export for Moody {
    async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Well => Ok(Delivery::of(&batch)),
            Mood::Down => Err(Error::unavailable("cannot reach collector:4317")),
            Mood::Refusing => Err(Error::refused("no")),
            Mood::Hanging => std::future::pending().await,
            Mood::Slow(time) => {
                // Sleeps: the destination is slow, in the test's time.
                tokio::time::sleep(time).await;
                Ok(Delivery::of(&batch))
            }
        }
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

/// A processor whose work is on the test's runtime, with its paused clock.
struct Rig {
    destination: Moody,
    handle: ProcessorHandle,
    provider: SdkTracerProvider,
}

impl Rig {
    fn new(set: impl FnOnce(BatchProcessorBuilder) -> BatchProcessorBuilder) -> Self {
        let destination = Moody::default();
        let builder = BatchProcessor::builder(Exporter::new(destination.clone()));
        let processor = set(builder).build_on(tokio::runtime::Handle::current());
        let handle = processor.handle();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .build();
        Self {
            destination,
            handle,
            provider,
        }
    }

    fn end_spans(&self, count: usize) {
        let tracer = self.provider.tracer("test");
        for _ in 0..count {
            tracer.start("work").end();
        }
    }

    fn account(&self) -> Account {
        let account = self.handle.account();
        assert!(account.closes(), "{account}");
        account
    }

    /// Flushes or shuts down without blocking the runtime.
    async fn ask(&self, kind: Kind, time: Duration) -> Outcome {
        let (sender, receiver) = oneshot::channel();
        let reply = Box::new(move |outcome| drop(sender.send(outcome)));
        if kind == Kind::Shutdown {
            self.handle.core.is_shut_down.store(true, Ordering::Release);
        }
        self.handle.core.ask(kind, Deadline::after(time), reply);
        receiver.await.expect("the worker answers")
    }
}

impl Drop for Rig {
    /// Keeps the processor's own drop from waiting for this very thread.
    fn drop(&mut self) {
        self.handle.core.ending.finish(Err(Error::shut_down()));
    }
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_dies_and_comes_back_costs_three_lines_and_no_span() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_ansi(false)
        .finish();
    // While there are two dispatchers, what other tests' threads decided about a line does not hold for this one.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(subscriber);
    tracing::callsite::rebuild_interest_cache();
    let rig = Rig::new(|builder| builder);
    rig.end_spans(100);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(rig.account().delivered, 100);

    rig.destination.become_(Mood::Down);
    for _ in 0..60 {
        rig.end_spans(100);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(rig.account().open(), 6000);
    rig.destination.become_(Mood::Well);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.account().delivered, 6100);

    let lines = log.lines();
    assert!((3..=4).contains(&lines.len()), "{lines:#?}");
    let first = &lines[0];
    assert!(
        first.contains("WARN outspan: cannot deliver spans: cannot reach"),
        "{first}"
    );
    let last = &lines[lines.len() - 1];
    assert!(
        last.contains("INFO outspan: the destination takes spans again"),
        "{last}"
    );
    assert!(last.contains("no span was lost"), "{last}");
}

#[tokio::test(start_paused = true)]
async fn spans_leave_after_the_delay() {
    let rig = Rig::new(|builder| builder.delay(Duration::from_secs(5)));
    tokio::time::sleep(Duration::from_millis(4_900)).await;
    rig.end_spans(3);
    assert_eq!(rig.account().queued, 3);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.account().delivered, 3);
}

#[tokio::test(start_paused = true)]
async fn a_delay_without_end_is_no_delay_at_all() {
    let rig = Rig::new(|builder| builder.delay(Duration::MAX));
    rig.end_spans(3);
    tokio::time::sleep(Duration::from_secs(1_000_000)).await;
    assert_eq!(rig.account().queued, 3);
    let outcome = rig.ask(Kind::Flush, Duration::from_secs(1)).await;
    assert_eq!(outcome.drained.delivered, 3);
}

#[tokio::test(start_paused = true)]
async fn one_deadline_holds_for_the_whole_of_a_shutdown() {
    let rig = Rig::new(|builder| builder.attempt_timeout(None));
    rig.destination.become_(Mood::Hanging);
    rig.end_spans(3000);
    let began = tokio::time::Instant::now();
    let outcome = rig.ask(Kind::Shutdown, Duration::from_secs(7)).await;
    assert_eq!(began.elapsed().as_secs(), 7);
    assert!(outcome.out_of_time);
    assert_eq!(outcome.drained.lost.of(DropReason::Shutdown), 3000);
    assert_eq!(rig.account().open(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_hangs_does_not_hold_a_place_for_ever() {
    let rig = Rig::new(|builder| builder);
    rig.destination.become_(Mood::Hanging);
    rig.end_spans(2048);
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(rig.account().in_flight, 2048);
    rig.destination.become_(Mood::Well);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(rig.account().delivered, 2048);
}

#[tokio::test(start_paused = true)]
async fn what_the_export_limit_ends_is_expired() {
    let rig = Rig::new(|builder| builder.export_limit(Duration::from_secs(30)));
    rig.destination.become_(Mood::Down);
    rig.end_spans(5);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(rig.account().dropped.of(DropReason::Expired), 5);
}

#[tokio::test(start_paused = true)]
async fn memory_is_given_back_to_the_last_byte() {
    let rig = Rig::new(|builder| builder);
    rig.destination.become_(Mood::Slow(Duration::from_secs(1)));
    rig.end_spans(5000);
    assert!(rig.handle.core.books.budget().bytes() > 5000 * 352);
    rig.ask(Kind::Shutdown, Duration::from_secs(60)).await;
    assert_eq!(rig.account().delivered, 5000);
    assert_eq!(rig.handle.core.books.budget().bytes(), 0);
}

#[test]
fn threads_help_when_the_worker_is_late_and_the_bound_holds() {
    // A runtime that nobody drives stands for a worker that is late.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let destination = Moody::default();
    let processor = BatchProcessor::builder(Exporter::new(destination))
        .queue_bytes(8 << 20)
        .build_on(runtime.handle().clone());
    let handle = processor.handle();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();
    let tracer = provider.tracer("test");
    let mut most = 0;
    for _ in 0..10_000 {
        let attributes = (0..8).map(|key| opentelemetry::KeyValue::new("key", key));
        let span = tracer.span_builder("busy").with_attributes(attributes);
        span.start(&tracer).end();
        most = most.max(handle.core.books.budget().bytes());
    }
    // Unencoded they would take some 8 MiB and more; the worker has encoded none of them.
    let account = handle.account();
    assert!(account.closes(), "{account}");
    assert_eq!(account.queued, 10_000);
    assert_eq!(account.dropped.total(), 0);
    assert!(most <= 8 << 20, "{most}");
    let encoded: usize = 10_000 * 100;
    assert!(most > encoded, "both forms count: {most}");

    let (sender, receiver) = oneshot::channel();
    let reply = Box::new(move |outcome| drop(sender.send(outcome)));
    handle.core.is_shut_down.store(true, Ordering::Release);
    handle.core.ask(
        Kind::Shutdown,
        Deadline::after(Duration::from_secs(20)),
        reply,
    );
    let outcome = runtime.block_on(receiver).expect("the worker answers");
    handle.core.ending.finish(Ok(outcome.clone()));
    assert_eq!(outcome.drained.delivered, 10_000);
    assert_eq!(handle.core.books.budget().bytes(), 0);
}

/// Keeps the spans that end.
#[derive(Clone, Debug, Default)]
struct Keep(Arc<Mutex<Vec<SpanData>>>);

impl SpanProcessor for Keep {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn flush_waits_for_spans_that_a_thread_is_encoding() {
    let kept = Keep::default();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(kept.clone())
        .build();
    provider.tracer("test").start("work").end();
    let span = kept.0.lock().unwrap().pop().expect("it has ended");

    for kind in [Kind::Flush, Kind::Shutdown] {
        let rig = Rig::new(|builder| builder.queue_bytes(1 << 20));
        let core = &rig.handle.core;
        let mut added = 0;
        // The thread has taken its spans out of the buffer, and is stopped before it pushes their batches.
        let help = loop {
            added += 1;
            if let Next::Help(help) = core.buffer.add(span.clone()) {
                break help;
            }
        };
        let began = tokio::time::Instant::now();
        let goes_on = async {
            // Sleeps: in the test's time, until the flush has begun.
            tokio::time::sleep(Duration::from_secs(1)).await;
            core.help(help);
        };
        let (outcome, ()) = tokio::join!(rig.ask(kind, Duration::from_secs(20)), goes_on);
        assert_eq!(began.elapsed().as_secs(), 1);
        assert_eq!(outcome.drained.delivered, added);
        assert_eq!(outcome.drained.left, 0);
        assert_eq!(rig.account().delivered, added);
        assert_eq!(core.books.budget().bytes(), 0);
    }
}

#[derive(Clone, Debug)]
enum Act {
    End(usize),
    Wait(u64),
    Become(Mood),
    Flush(u64),
}

fn arbitrary_act() -> impl Strategy<Value = Act> {
    let mood = prop_oneof![
        3 => Just(Mood::Well),
        2 => Just(Mood::Down),
        1 => Just(Mood::Refusing),
        1 => (0_u64..20_000).prop_map(|millis| Mood::Slow(Duration::from_millis(millis))),
        1 => Just(Mood::Hanging),
    ];
    prop_oneof![
        4 => (1_usize..300).prop_map(Act::End),
        2 => (0_u64..20_000).prop_map(Act::Wait),
        2 => mood.prop_map(Act::Become),
        1 => (0_u64..20_000).prop_map(Act::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_span_is_accounted_for_whatever_the_destination_does(
        acts in prop::collection::vec(arbitrary_act(), 1..25),
        queue_spans in prop::option::of(1_usize..600),
        batch_spans in 1_usize..200,
        end in 0_u64..20_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let rig = Rig::new(|builder| builder.queue_spans(queue_spans).max_batch_spans(batch_spans));
            let mut ended = 0;
            for act in acts {
                match act {
                    Act::End(count) => {
                        rig.end_spans(count);
                        ended += count as u64;
                    }
                    // Sleeps: in the test's time, as the generated case says.
                    Act::Wait(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
                    Act::Become(mood) => rig.destination.become_(mood),
                    Act::Flush(millis) => {
                        let before = rig.account();
                        let outcome = rig.ask(Kind::Flush, Duration::from_millis(millis)).await;
                        let drained = outcome.drained;
                        assert_eq!(
                            before.open(),
                            drained.delivered + drained.refused + drained.lost.total() + drained.left,
                            "the flush tells of every span that was open"
                        );
                        // In the moment of the answer, the next attempt may have begun and ended.
                        let after = rig.account();
                        assert!(after.open() <= drained.left);
                        assert!(after.delivered >= before.delivered + drained.delivered);
                    }
                }
                let account = rig.account();
                assert_eq!(account.received, ended);
                assert!(account.open() <= queue_spans.unwrap_or(usize::MAX) as u64);
            }
            let before = rig.account();
            let outcome = rig.ask(Kind::Shutdown, Duration::from_millis(end)).await;
            let account = rig.account();
            assert_eq!(account.received, ended);
            assert_eq!(account.open(), 0);
            let drained = outcome.drained;
            assert_eq!(
                before.open(),
                drained.delivered + drained.refused + drained.lost.total(),
                "the shutdown tells of every span that was open"
            );
            assert_eq!(rig.handle.core.books.budget().bytes(), 0);
        });
    }
}
