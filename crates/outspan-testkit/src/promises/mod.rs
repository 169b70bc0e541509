//! What every exporter and every combinator promises, as one test each.
//!
//! A [`Rig`] puts the exporter in question in front of a destination that can misbehave and be
//! asked what arrived. [`promises!`](crate::promises!) makes one test a promise; what cannot keep
//! one says so with a reason, which is printed.
//!
//! A promise is an `async fn` that panics when it is broken. It may also be called on its own.

mod rig;
mod runner;
mod tracing_watch;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Wake;
use std::task::Waker;
use std::thread;
use std::time::Duration;

use futures_util::future::Either;
use futures_util::future::select;
use outspan::Batch;
use outspan::Deadline;
use outspan::Drained;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;

pub use rig::Behaviour;
pub use rig::CollectorRig;
pub use rig::Rig;
pub use rig::ScriptedRig;
pub use runner::keep;

use crate::SpanId;
use crate::batch_of;
use crate::soon;
use crate::span_ids;
use crate::watched_batch;

/// How long a call may take that is sure to end badly.
const SHORT: Duration = Duration::from_millis(300);

/// How much later than its deadline a call may return on a machine with much else to do.
const LATE: Duration = Duration::from_secs(5);

/// Promise: what `export` accepted has arrived once `flush` returns.
pub async fn delivers_what_it_accepts(rig: &impl Rig) {
    deliver_flush_and_shut_down(rig).await;
}

/// Promise: a destination that refuses for good is not asked again, and the error says so.
pub async fn refusal_is_permanent(rig: &impl Rig) {
    let exporter = rig.exporter().await;
    let calls_before = rig.calls().await;
    export(&exporter, &batch_of(3), soon()).await;
    flush(&exporter).await;
    let arrived = rig.received().await.len();
    let calls_healthy = rig.calls().await;
    rig.behave(Behaviour::Refuse).await;

    let fate = export(&exporter, &batch_of(3), soon()).await;
    let drained = flushed(&exporter).await;

    for error in &fate.errors {
        assert!(
            !error.is_temporary(),
            "refused, and yet temporary: {error:?}"
        );
    }
    let held_and_refused = drained.refused + drained.lost.total();
    assert_eq!(
        fate.accepted, held_and_refused,
        "{fate:?}, then {drained:?}"
    );
    assert_eq!(
        rig.received().await.len(),
        arrived,
        "a refused span has arrived"
    );
    let calls = rig.calls().await - calls_healthy;
    assert!(
        calls <= calls_healthy - calls_before,
        "asked {calls} times to take what it refuses"
    );
}

/// Promise: trouble that may pass is an error that says so, and when it has passed the same
/// exporter delivers.
pub async fn outage_is_temporary(rig: &impl Rig) {
    let exporter = rig.exporter().await;
    for outage in [Behaviour::Overload, Behaviour::Outage] {
        rig.behave(outage).await;
        let batch = batch_of(3);
        let until = Deadline::after(SHORT);
        let fate = export(&exporter, &batch, until).await;
        for error in &fate.errors {
            assert!(
                error.is_temporary(),
                "{outage:?}, and yet for good: {error:?}"
            );
        }
        assert_eq!(fate.refused, 0, "{outage:?}, and yet refused: {fate:?}");

        rig.behave(Behaviour::Accept).await;
        if fate.accepted < 3 {
            let again = export(&exporter, &batch, soon()).await;
            assert_eq!(again.accepted, 3, "after {outage:?}: {again:?}");
        }
        flush(&exporter).await;
        assert_arrived(rig, &span_ids(&batch)).await;
    }
}

/// Promise: after a flush the books are true: what was accepted and not reported as lost, refused
/// or left has arrived, whatever the destination did.
pub async fn flush_returns_the_truth(rig: &impl Rig) {
    let behaviours = [
        Behaviour::Accept,
        Behaviour::Refuse,
        Behaviour::Overload,
        Behaviour::Accept,
    ];
    let exporter = rig.exporter().await;
    for behaviour in behaviours {
        rig.behave(behaviour).await;
        let before = rig.received().await.len();
        let mut accepted = 0;
        for spans in [1, 4] {
            let fate = export(&exporter, &batch_of(spans), Deadline::after(SHORT)).await;
            accepted += fate.accepted;
        }
        let drained = exporter.flush(Deadline::after(SHORT)).await;
        let drained = drained.expect("a flush is tried whatever the destination does");
        let missing = drained.refused + drained.lost.total() + drained.left;
        let arrived = rig.received().await.len() - before;
        assert_eq!(
            arrived as u64 + missing,
            accepted,
            "{behaviour:?}: accepted {accepted}, then {drained:?}"
        );
        rig.behave(Behaviour::Accept).await;
        flush(&exporter).await;
    }
}

/// Promise: a second shutdown has the result of the first; a flush after it has nothing to do and succeeds.
pub async fn shutdown_twice_is_fine(rig: &impl Rig) {
    let exporter = rig.exporter().await;
    let batch = batch_of(2);
    assert_eq!(export(&exporter, &batch, soon()).await.accepted, 2);

    let first = exporter.shutdown(soon()).await;
    let first = first.expect("a healthy one shuts down");
    assert!(first.is_complete(), "{first:?}");
    let second = exporter.shutdown(soon()).await;
    assert_eq!(second.expect("twice is fine"), first);
    let flushed = exporter.flush(soon()).await;
    assert_eq!(
        flushed.expect("nothing is left to flush"),
        Drained::default()
    );
    assert_arrived(rig, &span_ids(&batch)).await;
}

/// Promise: shutdowns at the same time, from any threads, give the same true answer, and so does one after the first was
/// dropped: what was accepted and is in no loss of theirs has arrived when any of them returns.
pub async fn shutdowns_at_once_agree(rig: &impl Rig) {
    let exporter = rig.exporter().await;
    let batch = batch_of(3);
    let accepted = export(&exporter, &batch, soon()).await.accepted;
    poll_so_often_and_drop(1, exporter.shutdown(soon()));
    let answers: Vec<_> = thread::scope(|scope| {
        let exporter = &exporter;
        let shut_down = || futures_executor::block_on(exporter.shutdown(soon()));
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(shut_down)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("no panic");
        threads.into_iter().map(join).collect()
    });
    let drained = answers.into_iter();
    let drained: Vec<_> = drained
        .map(|answer| answer.expect("a healthy one shuts down"))
        .collect();
    let (first, others) = drained.split_first().expect("there are three");
    for other in others {
        assert_eq!(other, first, "one shutdown, two answers");
    }
    let missing = first.refused + first.lost.total() + first.left;
    let arrived = rig.received().await.len() as u64;
    assert_eq!(arrived + missing, accepted, "{first:?}");
}

/// Promise: after a shutdown every export is refused with [`ErrorKind::ShutDown`], at once and for
/// good, and nothing leaves.
pub async fn refuses_after_shutdown(rig: &impl Rig) {
    let exporter = rig.exporter().await;
    let drained = exporter.shutdown(soon()).await;
    drop(drained.expect("a healthy one shuts down"));
    let calls = rig.calls().await;

    let error = exporter
        .export(batch_of(2), soon())
        .await
        .expect_err("it is shut down");
    assert_eq!(error.kind(), ErrorKind::ShutDown, "{error}");
    assert!(!error.is_temporary(), "nobody starts it again: {error}");
    assert_eq!(rig.calls().await, calls, "it asked the destination");
    assert_eq!(rig.received().await, []);
}

/// Promise: an export whose future is dropped, at whatever point, frees the batch and whatever it
/// held at the destination, and the next export works.
pub async fn a_dropped_future_leaks_nothing(rig: &impl Rig) {
    let exporter = rig.exporter().await;

    rig.behave(Behaviour::NeverAnswer).await;
    let calls = rig.calls().await;
    let (batch, released) = watched_batch(3);
    {
        let exporting = pin!(exporter.export(batch, soon()));
        let asked = pin!(rig.wait_for_calls(calls + 1));
        match select(exporting, asked).await {
            Either::Right(_asked) => {}
            Either::Left((result, _)) => panic!("nobody answered, and yet it ended: {result:?}"),
        }
    }
    rig.behave(Behaviour::Accept).await;
    flush(&exporter).await;
    released.by(Deadline::after(LATE)).await;
    sure("the destination is idle", rig.wait_until_idle()).await;

    for polls in 0..6 {
        let (batch, released) = watched_batch(1);
        poll_so_often_and_drop(polls, exporter.export(batch, soon()));
        flush(&exporter).await;
        released.by(Deadline::after(LATE)).await;
    }
    let batch = batch_of(2);
    assert_eq!(export(&exporter, &batch, soon()).await.accepted, 2);
    flush(&exporter).await;
    assert_arrived(rig, &span_ids(&batch)).await;
}

/// Promise: a destination that never answers costs no more time than the caller allows; the error
/// is temporary and names the deadline. Flush and shutdown keep theirs, too.
pub async fn returns_by_the_deadline(rig: &impl Rig) {
    const NAME: &str = "deadline of this test";

    let exporter = rig.exporter().await;
    rig.behave(Behaviour::NeverAnswer).await;
    let until = || Deadline::after(SHORT).named(NAME);

    let fate = in_time("export", export(&exporter, &batch_of(3), until())).await;
    for error in &fate.errors {
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.is_temporary(), "it may have been slow: {error}");
        let text = error.chain().to_string();
        assert!(text.contains(NAME), "which limit passed? {text}");
    }
    let flushed = in_time("flush", exporter.flush(until())).await;
    let left = flushed.map_or(fate.accepted, |drained| drained.left + drained.lost.total());
    assert_eq!(left, fate.accepted, "nothing can have been delivered");

    let passed = Deadline::after(Duration::ZERO).named(NAME);
    in_time("export", export(&exporter, &batch_of(1), passed)).await;
    let ended = in_time("shutdown", exporter.shutdown(until())).await;
    if let Err(error) = ended {
        assert!(error.chain().to_string().contains(NAME), "{error:?}");
    }
}

/// Promise: exporting makes no span of its own, neither through OpenTelemetry's global provider
/// nor through `tracing`, which a bridge turns into such; it would be exported by the next call.
pub async fn never_traces_itself(rig: &impl Rig) {
    let watch = tracing_watch::Watch::begin();
    deliver_flush_and_shut_down(rig).await;
    let exporter = rig.exporter().await;
    rig.behave(Behaviour::Outage).await;
    export(&exporter, &batch_of(1), Deadline::after(SHORT)).await;
    watch.assert_silent();
}

/// Promise: the empty batch is delivered by doing nothing (OTLP: clients should not send empty
/// envelopes).
pub async fn the_empty_batch_is_delivered_by_doing_nothing(rig: &impl Rig) {
    let exporter = rig.exporter().await;
    let calls = rig.calls().await;
    let delivery = exporter
        .export(Batch::empty(), soon())
        .await
        .expect("nothing is delivered easily");
    assert_eq!(
        (delivery.accepted, delivery.refused),
        (0, 0),
        "{delivery:?}"
    );
    assert!(delivery.rest.is_empty(), "{delivery:?}");
    flush(&exporter).await;
    assert_eq!(rig.calls().await, calls, "it asked the destination");
}

/// Promise: exports at the same time from many threads all arrive, each span once.
pub async fn concurrent_exports_all_arrive(rig: &impl Rig) {
    let exporter = rig.exporter().await;
    let batches: Vec<Batch> = (1..=16).map(batch_of).collect();
    thread::scope(|scope| {
        for pair in batches.chunks(2) {
            let exporter = &exporter;
            scope.spawn(move || {
                let both = pair.iter().map(|batch| export(exporter, batch, soon()));
                let fates = futures_executor::block_on(futures_util::future::join_all(both));
                for (fate, batch) in fates.iter().zip(pair) {
                    assert_eq!(fate.accepted, batch.spans() as u64, "{fate:?}");
                }
            });
        }
    });
    flush(&exporter).await;
    let mut sent: Vec<SpanId> = batches.iter().flat_map(span_ids).collect();
    let mut received = rig.received().await;
    sent.sort_unstable();
    received.sort_unstable();
    assert_eq!(received, sent);
}

/// Promise: neither `Debug` of the exporter nor an error shows a secret it was given.
pub async fn debug_shows_no_secret(rig: &impl Rig) {
    let secrets = rig.secrets();
    assert!(!secrets.is_empty(), "a rig without secrets is exempt");
    let exporter = rig.exporter().await;
    let mut shown = vec![format!("{exporter:?}"), format!("{exporter:#?}")];
    assert!(
        shown.iter().all(|text| !text.is_empty()),
        "Debug says nothing"
    );
    for behaviour in [Behaviour::Refuse, Behaviour::Overload, Behaviour::Outage] {
        rig.behave(behaviour).await;
        let fate = export(&exporter, &batch_of(1), Deadline::after(SHORT)).await;
        assert!(
            !fate.errors.is_empty(),
            "{behaviour:?} is no error: {fate:?}"
        );
        for error in fate.errors {
            shown.extend([
                error.to_string(),
                error.chain().to_string(),
                format!("{error:?}"),
                format!("{error:#?}"),
            ]);
        }
    }
    for (secret, text) in secrets.iter().flat_map(|secret| {
        let texts = shown.iter();
        texts.map(move |text| (secret, text))
    }) {
        assert!(!text.contains(secret.as_str()), "{secret} is in {text}");
    }
}

/// Promise: it works on a plain thread, polled by an executor that has neither timers nor I/O.
pub async fn works_without_any_runtime(rig: &impl Rig) {
    on_a_thread_of_its_own(|| {
        futures_executor::block_on(deliver_flush_and_shut_down(rig));
    });
}

/// Promise: it works in a tokio runtime of one thread.
pub async fn works_in_a_current_thread_runtime(rig: &impl Rig) {
    on_a_thread_of_its_own(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        runtime.block_on(deliver_flush_and_shut_down(rig));
    });
}

/// Promise: it works in a tokio runtime of several threads.
pub async fn works_in_a_multi_thread_runtime(rig: &impl Rig) {
    on_a_thread_of_its_own(|| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        runtime.block_on(deliver_flush_and_shut_down(rig));
    });
}

/// What became of one batch. Every span of it is in exactly one place.
#[derive(Debug)]
struct Fate {
    accepted: u64,
    refused: u64,
    errors: Vec<Error>,
}

/// Exports a batch and checks that no span of it is unaccounted for.
async fn export(exporter: &Exporter, batch: &Batch, until: Deadline) -> Fate {
    let spans = batch.spans() as u64;
    let delivery = match exporter.export(batch.clone(), until).await {
        Ok(delivery) => delivery,
        Err(error) => {
            return Fate {
                accepted: 0,
                refused: 0,
                errors: vec![error],
            };
        }
    };
    let accounted =
        delivery.accepted + delivery.refused + delivery.filtered + delivery.undelivered();
    assert_eq!(accounted, spans, "a span is lost or made up: {delivery:?}");
    Fate {
        accepted: delivery.accepted,
        refused: delivery.refused,
        errors: delivery.rest.into_iter().map(|part| part.error).collect(),
    }
}

async fn flush(exporter: &Exporter) {
    drop(flushed(exporter).await);
}

async fn flushed(exporter: &Exporter) -> Drained {
    let drained = exporter.flush(soon()).await;
    drained.expect("a flush is tried whatever the destination does")
}

async fn deliver_flush_and_shut_down(rig: &impl Rig) {
    let exporter = rig.exporter().await;
    rig.behave(Behaviour::Accept).await;
    let batches = [batch_of(3), batch_of(1)];
    for batch in &batches {
        let fate = export(&exporter, batch, soon()).await;
        assert_eq!(fate.accepted, batch.spans() as u64, "{fate:?}");
    }
    let drained = flushed(&exporter).await;
    assert!(drained.is_complete(), "a healthy one drains: {drained:?}");
    let sent: Vec<SpanId> = batches.iter().flat_map(span_ids).collect();
    assert_arrived(rig, &sent).await;
    let drained = exporter.shutdown(soon()).await;
    let drained = drained.expect("a healthy one shuts down");
    assert!(drained.is_complete(), "{drained:?}");
}

/// Checks that these spans have arrived. Others may have as well, and a span may be there twice
/// after an error that said so.
async fn assert_arrived(rig: &impl Rig, sent: &[SpanId]) {
    let received = rig.received().await;
    for id in sent {
        assert!(received.contains(id), "{id} is missing in {received:?}");
    }
}

/// Runs a call that has [`SHORT`] time; far too late counts as never.
async fn in_time<T>(what: &str, call: impl Future<Output = T>) -> T {
    let result = Deadline::after(SHORT + LATE).run(call).await;
    result.unwrap_or_else(|| panic!("{what} had {SHORT:?} and has not returned long after"))
}

/// Waits for what a healthy one does at once.
async fn sure(what: &str, wait: impl Future<Output = ()>) {
    let done = soon().run(wait).await;
    assert!(done.is_some(), "not yet, and it should be: {what}");
}

fn on_a_thread_of_its_own(work: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let worked = scope.spawn(work).join();
        if let Err(panic) = worked {
            std::panic::resume_unwind(panic);
        }
    });
}

fn poll_so_often_and_drop<T>(polls: usize, future: impl Future<Output = T>) {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(CurrentThread(thread::current())));
    let mut context = Context::from_waker(&waker);
    for _ in 0..polls {
        if future.as_mut().poll(&mut context).is_ready() {
            return;
        }
        // The next poll is worth something only after a wake-up; one that is missed costs a moment.
        thread::park_timeout(Duration::from_millis(5));
    }
}

struct CurrentThread(thread::Thread);

impl Wake for CurrentThread {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
