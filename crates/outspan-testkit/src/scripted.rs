//! An exporter that does what a script says, and remembers what it was asked.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use outspan::Attempt;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;

use crate::Gate;
use crate::SpanId;
use crate::batches::halves;
use crate::span_ids;

/// Scripts a destination without any I/O: a list of answers in, a list of calls out.
///
/// [`exporter`](Self::exporter) makes exporters that follow it; they share script and record.
/// Clones are the same script.
///
/// ```
/// use std::time::Duration;
///
/// use outspan::Export;
/// use outspan_testkit::Act;
/// use outspan_testkit::ScriptedExporter;
/// use outspan_testkit::batch_of;
/// use outspan_testkit::soon;
/// use outspan_testkit::span_ids;
///
/// let child = ScriptedExporter::new();
/// child.script([Act::unavailable()]);
/// let exporter = child.exporter().timeout(Duration::from_secs(1));
///
/// let batch = batch_of(2);
/// futures_executor::block_on(async {
///     exporter.export(batch.clone(), soon()).await.unwrap_err();
///     exporter.export(batch.clone(), soon()).await.unwrap();
/// });
/// assert_eq!(child.received(), span_ids(&batch));
/// assert_eq!(child.exports().len(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct ScriptedExporter {
    shared: Arc<Shared>,
}

/// Says what an export does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Delivers the whole batch.
    Deliver,
    /// Delivers all but this many spans, which the destination refuses for good.
    Refuse(u64),
    /// Delivers the first half of the spans and leaves the rest with this error.
    DeliverHalf(Error),
    /// Delivers nothing, with this error.
    Fail(Error),
    /// Delivers a batch of at most this many bytes, and fails with `too_large` on a larger one.
    AtMost(usize),
    /// Waits for the deadline, and says with an error that it passed.
    Stall,
    /// Never ends, whatever the deadline says.
    Hang,
    /// Waits so long (on the caller's tokio clock, where there is one), and then does the other.
    After(Duration, Box<Self>),
    /// Waits until the gate is open, and then does the other.
    When(Gate, Box<Self>),
    /// Panics.
    Panic,
}

impl Act {
    /// Fails temporarily: with an error that a retry tries again.
    pub fn unavailable() -> Self {
        Self::Fail(Error::unavailable("the script says unavailable"))
    }

    /// Fails for good: with an error that no retry tries again.
    pub fn refused() -> Self {
        Self::Fail(Error::refused("the script says refused"))
    }

    /// Fails and asks to come again after this delay.
    pub fn throttled(delay: Duration) -> Self {
        Self::Fail(Error::throttled("the script says throttled").with_retry_after(delay))
    }

    /// Makes an [`Act::After`].
    pub fn after(delay: Duration, then: Self) -> Self {
        Self::After(delay, Box::new(then))
    }

    /// Makes an [`Act::When`].
    pub fn when(gate: &Gate, then: Self) -> Self {
        Self::When(gate.clone(), Box::new(then))
    }
}

/// Says what a flush or a shutdown does.
#[derive(Clone, Debug)]
pub enum DrainAct {
    /// Answers this.
    Done(Drained),
    /// Fails with this error.
    Fail(Error),
    /// Waits for the deadline, and says with an error that it passed.
    Stall,
    /// Never ends, whatever the deadline says.
    Hang,
    /// Panics.
    Panic,
    /// Waits for this long, then does the other.
    After(Duration, Box<Self>),
}

impl DrainAct {
    /// Makes a [`DrainAct::After`].
    pub fn after(delay: Duration, then: Self) -> Self {
        Self::After(delay, Box::new(then))
    }
}

/// Holds one call as the exporter saw it.
#[derive(Clone, Debug)]
pub struct Call {
    /// What was asked.
    pub what: Asked,
    /// The deadline that came with it.
    pub until: Deadline,
    /// How much time there was until then.
    pub left: Option<Duration>,
    /// When it began, on tokio's clock.
    pub at: Instant,
    /// How it ended.
    pub ended: Ended,
}

/// Names what an exporter was asked to do.
#[derive(Clone, Debug)]
pub enum Asked {
    /// To export a batch. The batch itself is not kept, so that nobody takes that for a leak.
    Export {
        /// The ids of its spans in order.
        span_ids: Vec<SpanId>,
        /// How many bytes it had.
        bytes: usize,
    },
    /// To flush.
    Flush,
    /// To shut down.
    Shutdown,
}

/// Says how a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It has not yet.
    NotYet,
    /// With success, partial or whole.
    Well,
    /// With an error.
    Badly,
    /// Its future was dropped, or it panicked.
    Dropped,
}

impl Call {
    /// The ids of the spans it was asked to export; none for other calls.
    pub fn span_ids(&self) -> Vec<SpanId> {
        match &self.what {
            Asked::Export { span_ids, .. } => span_ids.clone(),
            Asked::Flush | Asked::Shutdown => Vec::new(),
        }
    }
}

/// How many calls are remembered at most; a test that makes more is out of hand.
const CALLS_MAX: usize = 100_000;

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    acts: VecDeque<Act>,
    default_act: Act,
    flushes: VecDeque<DrainAct>,
    shutdowns: VecDeque<DrainAct>,
    calls: Vec<Call>,
    received: Vec<SpanId>,
    in_progress: usize,
    in_progress_most: usize,
}

impl ScriptedExporter {
    /// Makes a destination that delivers everything until it is told otherwise.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    acts: VecDeque::new(),
                    default_act: Act::Deliver,
                    flushes: VecDeque::new(),
                    shutdowns: VecDeque::new(),
                    calls: Vec::new(),
                    received: Vec::new(),
                    in_progress: 0,
                    in_progress_most: 0,
                }),
                version: watch::Sender::new(0),
            }),
        }
    }

    /// Makes an exporter that follows the script. Each is shut down for itself.
    pub fn exporter(&self) -> Exporter {
        Exporter::new(Scripted {
            shared: Arc::clone(&self.shared),
            is_shut_down: AtomicBool::new(false),
        })
    }

    /// Adds acts to the script; each is for one export.
    pub fn script(&self, acts: impl IntoIterator<Item = Act>) {
        self.shared.read().acts.extend(acts);
    }

    /// Sets what exports do when the script is at its end. At first it is [`Act::Deliver`].
    pub fn always(&self, act: Act) {
        self.shared.read().default_act = act;
    }

    /// Adds what flushes do; with none left they answer at once that nothing was held.
    pub fn script_flushes(&self, acts: impl IntoIterator<Item = DrainAct>) {
        self.shared.read().flushes.extend(acts);
    }

    /// Adds what shutdowns do; with none left they answer at once that nothing was held.
    pub fn script_shutdowns(&self, acts: impl IntoIterator<Item = DrainAct>) {
        self.shared.read().shutdowns.extend(acts);
    }

    /// Every call in the order in which they began.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.read().calls.clone()
    }

    /// The exports among the calls.
    pub fn exports(&self) -> Vec<Call> {
        let is_export = |call: &Call| matches!(call.what, Asked::Export { .. });
        let state = self.shared.read();
        state
            .calls
            .iter()
            .filter(|call| is_export(call))
            .cloned()
            .collect()
    }

    /// How many flushes were asked for.
    pub fn flushes(&self) -> usize {
        let state = self.shared.read();
        let flushes = state
            .calls
            .iter()
            .filter(|call| matches!(call.what, Asked::Flush));
        flushes.count()
    }

    /// How many shutdowns were asked for.
    pub fn shutdowns(&self) -> usize {
        let state = self.shared.read();
        let shutdowns = state
            .calls
            .iter()
            .filter(|call| matches!(call.what, Asked::Shutdown));
        shutdowns.count()
    }

    /// The ids of every span delivered, in order; one that was delivered twice is there twice.
    pub fn received(&self) -> Vec<SpanId> {
        self.shared.read().received.clone()
    }

    /// How many calls have begun and not ended.
    pub fn in_progress(&self) -> usize {
        self.shared.read().in_progress
    }

    /// The most calls there ever were at once.
    pub fn in_progress_most(&self) -> usize {
        self.shared.read().in_progress_most
    }

    /// Forgets calls and spans; the script stays.
    ///
    /// # Panics
    ///
    /// If a call has not ended.
    pub fn clear(&self) {
        let mut state = self.shared.read();
        assert_eq!(state.in_progress, 0, "a call has not ended");
        state.calls.clear();
        state.received.clear();
        state.in_progress_most = 0;
    }

    /// Waits until at least `count` exports have begun.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing; the same holds for the wait below.
    pub async fn wait_for_exports(&self, count: usize) {
        let is_export = |call: &&Call| matches!(call.what, Asked::Export { .. });
        let enough = |state: &State| state.calls.iter().filter(is_export).count() >= count;
        self.shared.until(enough).await;
    }

    /// Waits until no call is in progress.
    pub async fn wait_until_idle(&self) {
        self.shared.until(|state| state.in_progress == 0).await;
    }
}

impl Default for ScriptedExporter {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn read(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.read());
        self.version.send_modify(|version| *version += 1);
        result
    }

    async fn until(&self, wanted: impl Fn(&State) -> bool) {
        let mut version = self.version.subscribe();
        while !wanted(&self.read()) {
            version
                .changed()
                .await
                .expect("the sender is borrowed by this call");
        }
    }
}

/// The exporter itself.
struct Scripted {
    shared: Arc<Shared>,
    is_shut_down: AtomicBool,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Export for Scripted {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let what = Asked::Export {
            span_ids: span_ids(&batch),
            bytes: batch.size(),
        };
        let guard = self.begin(what, until);
        if self.is_shut_down.load(Ordering::Acquire) {
            return guard.end(Err(Error::shut_down()));
        }
        if batch.is_empty() {
            return guard.end(Ok(Delivery::of(&batch)));
        }
        let act = {
            let mut state = self.shared.read();
            let scripted = state.acts.pop_front();
            scripted.unwrap_or_else(|| state.default_act.clone())
        };
        let result = self.act(act, batch, until).await;
        guard.end(result)
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        let guard = self.begin(Asked::Flush, until);
        let act = self.shared.read().flushes.pop_front();
        let result = drain(act, until).await;
        guard.end(result)
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        let guard = self.begin(Asked::Shutdown, until);
        self.is_shut_down.store(true, Ordering::Release);
        let act = self.shared.read().shutdowns.pop_front();
        let result = drain(act, until).await;
        guard.end(result)
    }
}

impl Scripted {
    fn begin(&self, what: Asked, until: Deadline) -> Guard {
        let call = Call {
            what,
            until,
            left: until.remaining(),
            at: Instant::now(),
            ended: Ended::NotYet,
        };
        let place = self.shared.change(|state| {
            assert!(state.calls.len() < CALLS_MAX, "too many calls to remember");
            state.calls.push(call);
            state.in_progress += 1;
            state.in_progress_most = state.in_progress_most.max(state.in_progress);
            state.calls.len() - 1
        });
        Guard {
            shared: Arc::clone(&self.shared),
            place,
            ended: Ended::Dropped,
        }
    }

    async fn act(&self, mut act: Act, batch: Batch, until: Deadline) -> Result<Delivery> {
        loop {
            act = match act {
                Act::After(delay, then) => {
                    Deadline::after(delay).passed().await;
                    *then
                }
                Act::When(gate, then) => {
                    gate.passed().await;
                    *then
                }
                Act::Deliver => return Ok(self.deliver(&batch, 0)),
                Act::Refuse(spans) => return Ok(self.deliver(&batch, spans)),
                Act::DeliverHalf(error) => return Ok(self.deliver_half(&batch, error)),
                Act::Fail(error) => {
                    let measured = error.attempt().clone().with_attempts(1);
                    return Err(error.with_attempt(measured));
                }
                Act::AtMost(bytes) if batch.size() <= bytes => Act::Deliver,
                Act::AtMost(bytes) => {
                    let size = batch.size();
                    let message = format!("{size} bytes, and the script says at most {bytes}");
                    Act::Fail(Error::new(ErrorKind::TooLarge, message))
                }
                Act::Stall => {
                    until.passed().await;
                    return Err(
                        Error::timeout("the script says stall", until).with_attempt(Attempt::one())
                    );
                }
                Act::Hang => std::future::pending().await,
                Act::Panic => panic!("the script says panic"),
            };
        }
    }

    fn deliver(&self, batch: &Batch, refused: u64) -> Delivery {
        let delivery = match refused {
            0 => Delivery::of(batch),
            refused => Delivery::partial(batch, refused, "the script says refuse"),
        };
        let kept = usize::try_from(delivery.accepted).unwrap_or(usize::MAX);
        let ids = span_ids(batch).into_iter().take(kept);
        self.shared.change(|state| state.received.extend(ids));
        delivery
    }

    fn deliver_half(&self, batch: &Batch, error: Error) -> Delivery {
        let (first, rest) = halves(batch);
        let mut delivery = self.deliver(&first, 0);
        if !rest.is_empty() {
            delivery.leave(rest, error);
        }
        delivery
    }
}

async fn drain(mut act: Option<DrainAct>, until: Deadline) -> Result<Drained> {
    while let Some(DrainAct::After(delay, then)) = act {
        Deadline::after(delay).passed().await;
        act = Some(*then);
    }
    match act {
        Some(DrainAct::After(..)) => unreachable!("the loop ends with another act"),
        None => Ok(Drained::default()),
        Some(DrainAct::Done(drained)) => Ok(drained),
        Some(DrainAct::Fail(error)) => Err(error),
        Some(DrainAct::Stall) => {
            until.passed().await;
            Err(Error::timeout("the script says stall", until))
        }
        Some(DrainAct::Hang) => std::future::pending().await,
        Some(DrainAct::Panic) => panic!("the script says panic"),
    }
}

/// Writes down how a call ended, also when its future is dropped.
struct Guard {
    shared: Arc<Shared>,
    place: usize,
    ended: Ended,
}

impl Guard {
    fn end<T>(mut self, result: Result<T>) -> Result<T> {
        self.ended = match result {
            Ok(_) => Ended::Well,
            Err(_) => Ended::Badly,
        };
        result
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (place, ended) = (self.place, self.ended);
        self.shared.change(|state| {
            state.in_progress -= 1;
            if let Some(call) = state.calls.get_mut(place) {
                call.ended = ended;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use outspan::DropReason;

    use super::*;
    use crate::batch_of;
    use crate::soon;

    async fn export(script: &ScriptedExporter, spans: usize) -> Result<Delivery> {
        script.exporter().export(batch_of(spans), soon()).await
    }

    #[tokio::test]
    async fn acts_are_used_up_and_then_the_default_holds() {
        let script = ScriptedExporter::new();
        script.script([Act::unavailable(), Act::refused(), Act::Refuse(2)]);
        script.always(Act::throttled(Duration::from_secs(3)));
        assert!(export(&script, 3).await.unwrap_err().is_temporary());
        assert!(!export(&script, 3).await.unwrap_err().is_temporary());
        let partial = export(&script, 3).await.unwrap();
        assert_eq!((partial.accepted, partial.refused), (1, 2));
        let throttled = export(&script, 3).await.unwrap_err();
        assert_eq!(throttled.retry_after(), Some(Duration::from_secs(3)));
        assert_eq!(script.received().len(), 1);
    }

    #[tokio::test]
    async fn half_is_delivered_and_the_rest_is_left_with_its_error() {
        let script = ScriptedExporter::new();
        script.script([Act::DeliverHalf(Error::unavailable("x"))]);
        let batch = batch_of(5);
        let delivery = script
            .exporter()
            .export(batch.clone(), soon())
            .await
            .unwrap();
        assert_eq!((delivery.accepted, delivery.undelivered()), (3, 2));
        assert!(delivery.rest[0].error.is_temporary());
        assert_eq!(script.received(), span_ids(&batch)[..3]);
        assert_eq!(span_ids(&delivery.rest[0].batch), span_ids(&batch)[3..]);
    }

    #[tokio::test]
    async fn size_decides() {
        let script = ScriptedExporter::new();
        let batch = batch_of(2);
        script.always(Act::AtMost(batch.size()));
        script
            .exporter()
            .export(batch.clone(), soon())
            .await
            .unwrap();
        assert_eq!(export(&script, 3).await.unwrap().accepted, 3);
        assert_eq!(script.exports().len(), 4, "three spans go in two parts");
        script.always(Act::AtMost(1));
        assert!(export(&script, 1).await.unwrap_err().is_too_large());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_follows_the_clock_and_the_deadline() {
        let script = ScriptedExporter::new();
        script.script([Act::after(Duration::from_secs(5), Act::Deliver), Act::Stall]);
        let began = Instant::now();
        export(&script, 1).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        let until = Deadline::after(Duration::from_secs(7)).named("mine");
        let stalled = script.exporter().export(batch_of(1), until).await;
        let error = stalled.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("mine of 7s"));
        assert_eq!(began.elapsed(), Duration::from_secs(12));
        assert_eq!(script.exports()[1].left, Some(Duration::from_secs(7)));
    }

    #[tokio::test]
    async fn calls_are_remembered_with_how_they_ended() {
        let script = ScriptedExporter::new();
        let gate = Gate::new();
        script.script([
            Act::Hang,
            Act::Panic,
            Act::unavailable(),
            Act::when(&gate, Act::Deliver),
        ]);
        let exporter = script.exporter();
        let until = soon();
        assert!(exporter.export(batch_of(1), until).now_or_never().is_none());
        let panicking = std::panic::AssertUnwindSafe(exporter.export(batch_of(1), until));
        panicking.catch_unwind().await.unwrap_err();
        exporter.export(batch_of(1), until).await.unwrap_err();
        let last = batch_of(1);
        let mut waiting = Box::pin(exporter.export(last.clone(), until));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(script.in_progress(), 1);
        let endings = |script: &ScriptedExporter| {
            let calls = script.exports();
            calls.iter().map(|call| call.ended).collect::<Vec<_>>()
        };
        let before = [Ended::Dropped, Ended::Dropped, Ended::Badly];
        assert_eq!(endings(&script), [&before[..], &[Ended::NotYet]].concat());
        gate.open();
        waiting.await.unwrap();
        assert_eq!(endings(&script), [&before[..], &[Ended::Well]].concat());
        assert_eq!(script.exports()[3].span_ids(), span_ids(&last));
        assert_eq!(script.exports()[3].until, until);
        script.wait_until_idle().await;
    }

    #[tokio::test]
    async fn flush_and_shutdown_are_scripted_too() {
        let script = ScriptedExporter::new();
        let mut lossy = Drained::default();
        lossy.lost.add(DropReason::Shutdown, 4);
        script.script_flushes([
            DrainAct::Fail(Error::internal("x")),
            DrainAct::Done(lossy.clone()),
        ]);
        script.script_shutdowns([DrainAct::Done(lossy.clone())]);
        let exporter = script.exporter();
        exporter.flush(soon()).await.unwrap_err();
        assert_eq!(exporter.flush(soon()).await.unwrap(), lossy);
        assert!(exporter.flush(soon()).await.unwrap().is_complete());
        assert_eq!(exporter.shutdown(soon()).await.unwrap(), lossy);
        let refused = exporter.export(batch_of(1), soon()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ShutDown);
        assert_eq!((script.flushes(), script.shutdowns()), (3, 1));
        assert_eq!(
            script
                .exporter()
                .export(batch_of(1), soon())
                .await
                .unwrap()
                .accepted,
            1
        );
    }
}
