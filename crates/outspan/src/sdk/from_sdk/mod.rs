//! Any exporter of the SDK as one of ours.

mod spans;

use std::any::type_name;
use std::fmt;
use std::fmt::Debug;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::task::Context;
use std::task::Poll;
use std::task::Wake;
use std::thread;
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SpanExporter;
use outspan_wire::otlp::ResourceSpansView;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;

use crate::Attempt;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Error;
use crate::ErrorKind;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::runtime::Runtime;
use crate::work::tracing_off;

use self::spans::Converter;

/// Makes any exporter of the SDK one of ours; see [`FromSdk`] for what that means and for options.
///
/// # Errors
///
/// [`Internal`](ErrorKind::Internal) if its thread cannot be started.
///
/// # Examples
///
/// ```
/// use outspan::sdk;
/// # #[derive(Debug)]
/// # struct TheirExporter;
/// # impl opentelemetry_sdk::trace::SpanExporter for TheirExporter {
/// #     async fn export(
/// #         &self,
/// #         _batch: Vec<opentelemetry_sdk::trace::SpanData>,
/// #     ) -> opentelemetry_sdk::error::OTelSdkResult {
/// #         Ok(())
/// #     }
/// # }
/// # fn main() -> outspan::Result<()> {
/// let exporter = sdk::from_sdk(TheirExporter)?;
/// # drop(exporter);
/// # Ok(())
/// # }
/// ```
pub fn from_sdk(exporter: impl SpanExporter + 'static) -> Result<Exporter> {
    FromSdk::new(exporter).build()
}

/// Wraps an exporter of the SDK.
///
/// The exporter lives on a thread of its own and gets one call at a time, as the SDK promises it: further exports wait
/// for their turn until their deadline. The thread is inside our runtime, so exporters that need a tokio reactor find
/// one, and those that block may. Nothing it does makes spans.
///
/// A batch with several resources is exported in one call for each, after `set_resource`. Values that the SDK's spans
/// cannot hold (bytes, maps, arrays of several kinds or of arrays, no value) become text, lists and maps as JSON; a trace
/// state that breaks W3C's rules is left out. [`Conversions`] counts both.
///
/// Success means that the exporter said so, for every resource; the parts of those where it did not are the rest. An
/// export that fails is final unless [`failures_are_temporary`](Self::failures_are_temporary), because the SDK leaves
/// retries to its exporters. A panic is caught and becomes an [`Internal`](ErrorKind::Internal) error; the exporter stays
/// in use. When time is up, an export that waits is dropped. One that blocks its thread cannot be: it is abandoned, and
/// until it returns further exports fail at once with a temporary error, so that nothing piles up behind it.
///
/// It holds the batch and its spans in the SDK's form. Flush and shutdown call `force_flush` and
/// `shutdown_with_timeout`, each with what is left of the deadline. It belongs at the bottom of a stack.
#[must_use]
pub struct FromSdk<E> {
    exporter: E,
    failures_are_temporary: bool,
    conversions: Conversions,
}

/// Counts what the SDK's spans could not hold. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Conversions(Arc<AtomicU64>);

impl Conversions {
    /// How many attribute values became text or trace states were left out, since the exporter was made.
    pub fn values(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<E: SpanExporter + 'static> FromSdk<E> {
    /// Takes the exporter.
    pub fn new(exporter: E) -> Self {
        Self {
            exporter,
            failures_are_temporary: false,
            conversions: Conversions::default(),
        }
    }

    /// Sets whether failed exports may be tried again. The default is no: the SDK's exporters retry by themselves, and
    /// what they report is final. Exports that took too long may be in either case.
    pub fn failures_are_temporary(mut self, are_temporary: bool) -> Self {
        self.failures_are_temporary = are_temporary;
        self
    }

    /// The count of what the SDK's spans could not hold.
    pub fn conversions(&self) -> Conversions {
        self.conversions.clone()
    }

    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// [`Internal`](ErrorKind::Internal) if it cannot be started.
    pub fn build(self) -> Result<Exporter> {
        let runtime = Runtime::shared().handle()?;
        let (jobs, inbox) = mpsc::channel();
        let progress = Arc::new(Progress::default());
        let mut worker = Worker {
            exporter: self.exporter,
            resource: None,
            failures_are_temporary: self.failures_are_temporary,
            conversions: self.conversions,
            progress: Arc::clone(&progress),
        };
        thread::Builder::new()
            .name("outspan-from-sdk".to_owned())
            .spawn(move || {
                let _reactor = runtime.enter();
                let _suppressed = opentelemetry::Context::enter_telemetry_suppressed_scope();
                worker.run(&inbox);
                // Exporters emit events when they are dropped, too.
                let _off = tracing_off();
                drop(worker);
            })
            .map_err(|e| {
                Error::internal("cannot start the thread of an SDK exporter").with_source(e)
            })?;
        Ok(Exporter::new(Adapter {
            name: type_name::<E>(),
            jobs,
            turn: Arc::new(Semaphore::new(1)),
            progress,
            last_number: AtomicU64::new(0),
            is_shut_down: AtomicBool::new(false),
        }))
    }
}

impl<E> Debug for FromSdk<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromSdk")
            .field("exporter", &type_name::<E>())
            .field("failures_are_temporary", &self.failures_are_temporary)
            .finish_non_exhaustive()
    }
}

/// Hands calls to the thread, one at a time.
#[derive(Debug)]
struct Adapter {
    name: &'static str,
    jobs: mpsc::Sender<Job>,
    /// Goes with the call to the thread, which gives it back when the exporter has returned.
    turn: Arc<Semaphore>,
    progress: Arc<Progress>,
    last_number: AtomicU64,
    is_shut_down: AtomicBool,
}

/// The time for a shutdown without a deadline: exporters may add it to the clock, which must not overflow.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// Which call the thread is in, and which one nobody waits for any more. Calls count from 1.
#[derive(Debug, Default)]
struct Progress {
    running: AtomicU64,
    abandoned: AtomicU64,
    /// What the shutdown achieved, after which the thread ends.
    shut_down: OnceLock<Result<()>>,
}

impl Progress {
    fn is_stuck(&self) -> bool {
        let running = self.running.load(Ordering::Acquire);
        running != 0 && self.abandoned.load(Ordering::Acquire) == running
    }
}

/// A call on its way to the thread.
struct Job {
    number: u64,
    call: Call,
    _turn: OwnedSemaphorePermit,
}

enum Call {
    Export(Batch, oneshot::Sender<Delivery>),
    Flush(oneshot::Sender<Result<()>>),
    Shutdown(Duration, oneshot::Sender<Result<()>>),
}

impl Adapter {
    /// Makes a call on the thread and waits for its answer.
    async fn call<R>(
        &self,
        until: Deadline,
        call: impl FnOnce(oneshot::Sender<R>) -> Call,
    ) -> Result<R> {
        let turn = self.turn(until).await?;
        let (reply, answer) = oneshot::channel();
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let mut waiting = Waiting {
            progress: &self.progress,
            number,
        };
        let job = Job {
            number,
            call: call(reply),
            _turn: turn,
        };
        if self.jobs.send(job).is_err() {
            return Err(self.gone());
        }
        let Some(answer) = until.run(answer).await else {
            let what = format!("no answer from the SDK exporter {}", self.name);
            return Err(Error::timeout(what, until).with_attempt(Attempt::one()));
        };
        waiting.is_over();
        answer.map_err(|_| self.gone())
    }

    /// Waits until the exporter is free. Behind a call that was abandoned only for a moment, in which one that waits
    /// (rather than blocks) ends.
    async fn turn(&self, until: Deadline) -> Result<OwnedSemaphorePermit> {
        const MOMENT: Duration = Duration::from_millis(100);

        let patience = match self.progress.is_stuck() {
            true => until.min(Deadline::after(MOMENT)),
            false => until,
        };
        let turn = patience.run(Arc::clone(&self.turn).acquire_owned()).await;
        match turn {
            Some(turn) => turn.map_err(|_| Error::shut_down()),
            None if self.progress.is_stuck() => Err(self.stuck()),
            None => {
                let what = format!("no turn: the SDK exporter {} is busy", self.name);
                Err(Error::timeout(what, patience))
            }
        }
    }

    fn stuck(&self) -> Error {
        Error::unavailable(format!(
            "the SDK exporter {} has not returned from an earlier call",
            self.name
        ))
    }

    fn gone(&self) -> Error {
        Error::internal(format!(
            "the thread of the SDK exporter {} has ended",
            self.name
        ))
    }
}

/// Marks a call as abandoned when its caller stops waiting for it.
struct Waiting<'a> {
    progress: &'a Progress,
    number: u64,
}

impl Waiting<'_> {
    fn is_over(&mut self) {
        self.number = 0;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.progress
            .abandoned
            .fetch_max(self.number, Ordering::AcqRel);
    }
}

impl Export for Adapter {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Err(Error::shut_down());
        }
        if batch.is_empty() {
            return Ok(Delivery::default());
        }
        let delivery = self.call(until, |reply| Call::Export(batch, reply)).await?;
        delivery.into_result()
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        self.call(until, Call::Flush).await??;
        Ok(Drained::default())
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        self.is_shut_down.store(true, Ordering::Release);
        let left = until.remaining().unwrap_or(LONG);
        let answer = self.call(until, |reply| Call::Shutdown(left, reply)).await;
        // Another caller's future may have been dropped while the exporter was shut down: then this has its answer.
        match (answer, self.progress.shut_down.get()) {
            (Err(_), Some(answer)) => answer.clone(),
            (answer, _) => answer.flatten(),
        }?;
        Ok(Drained::default())
    }
}

/// What runs on the thread.
struct Worker<E> {
    exporter: E,
    resource: Option<Resource>,
    failures_are_temporary: bool,
    conversions: Conversions,
    progress: Arc<Progress>,
}

impl<E: SpanExporter> Worker<E> {
    fn run(&mut self, inbox: &mpsc::Receiver<Job>) {
        while let Ok(job) = inbox.recv() {
            self.progress.running.store(job.number, Ordering::Release);
            let off = tracing_off();
            let goes_on = self.answer(job.call);
            drop(off);
            self.progress.running.store(0, Ordering::Release);
            // The turn ends with the job, after the call has left `running`.
            if !goes_on {
                return;
            }
        }
    }

    /// Answers a call; false after the last one. An answer that nobody waits for is dropped.
    fn answer(&mut self, call: Call) -> bool {
        match call {
            Call::Export(batch, mut reply) => {
                if let Some(delivery) = self.export(&batch, &mut reply) {
                    reply.send(delivery).ok();
                }
                true
            }
            Call::Flush(reply) => {
                let result = self.guarded(|exporter| exporter.force_flush());
                reply.send(result).ok();
                true
            }
            Call::Shutdown(left, reply) => {
                let result = self.guarded(|exporter| exporter.shutdown_with_timeout(left));
                self.progress.shut_down.get_or_init(|| result.clone());
                reply.send(result).ok();
                false
            }
        }
    }

    fn guarded(&self, call: impl FnOnce(&E) -> OTelSdkResult) -> Result<()> {
        match catch_unwind(AssertUnwindSafe(|| call(&self.exporter))) {
            Ok(result) => result.map_err(|error| self.failure(error)),
            Err(panic) => Err(self.panicked(panic.as_ref())),
        }
    }

    /// Exports the batch, resource by resource; `None` when nobody waits any more.
    fn export(&mut self, batch: &Batch, reply: &mut oneshot::Sender<Delivery>) -> Option<Delivery> {
        let mut converter = Converter::default();
        let mut total = Delivery::default();
        for group in group_by_resource(batch, &mut converter) {
            let spans = group.spans();
            let result = self.export_group(&group, spans, &mut converter, reply)?;
            match result {
                Ok(()) => {
                    total.accepted += spans as u64;
                    total.attempt.attempts += 1;
                }
                Err(error) => {
                    total.leave(group.to_batch(spans), error.with_attempt(Attempt::one()))
                }
            }
        }
        let changed = converter.changed;
        self.conversions.0.fetch_add(changed, Ordering::Relaxed);
        if changed > 0 {
            total.message = Some(format!(
                "{changed} values became text, because the spans of the SDK cannot hold them"
            ));
        }
        Some(total)
    }

    fn export_group(
        &mut self,
        group: &Group<'_>,
        spans: usize,
        converter: &mut Converter,
        reply: &mut oneshot::Sender<Delivery>,
    ) -> Option<Result<()>> {
        let mut data = Vec::with_capacity(spans);
        for envelope in &group.envelopes {
            converter.spans(*envelope, &mut data);
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if self.resource.as_ref() != Some(&group.resource) {
                self.resource = Some(group.resource.clone());
                self.exporter.set_resource(&group.resource);
            }
            wait_while_wanted(self.exporter.export(data), reply)
        }));
        match outcome {
            Ok(result) => result.map(|result| result.map_err(|error| self.failure(error))),
            Err(panic) => Some(Err(self.panicked(panic.as_ref()))),
        }
    }

    fn failure(&self, error: OTelSdkError) -> Error {
        let name = type_name::<E>();
        match error {
            OTelSdkError::AlreadyShutdown => Error::shut_down(),
            OTelSdkError::Timeout(limit) => Error::new(
                ErrorKind::Timeout,
                format!("the SDK exporter {name} gave up after {limit:?}"),
            ),
            OTelSdkError::InternalFailure(why) => {
                Error::unavailable(format!("the SDK exporter {name} failed: {why}"))
                    .with_temporary(self.failures_are_temporary)
            }
        }
    }

    fn panicked(&self, panic: &(dyn std::any::Any + Send)) -> Error {
        let said = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("without a message");
        let name = type_name::<E>();
        Error::internal(format!("the SDK exporter {name} panicked: {said}"))
    }
}

/// The envelopes of a batch that have the same resource.
struct Group<'a> {
    resource: Resource,
    envelopes: Vec<ResourceSpansView<'a>>,
}

impl Group<'_> {
    fn spans(&self) -> usize {
        let scopes = self.envelopes.iter().flat_map(|one| one.scope_spans());
        scopes.map(|scope| scope.spans().count()).sum()
    }

    /// A batch of these envelopes, as they are.
    fn to_batch(&self, spans: usize) -> Batch {
        let size = self
            .envelopes
            .iter()
            .map(|one| one.bytes().len() + 11)
            .sum();
        let mut request = Vec::with_capacity(size);
        for envelope in &self.envelopes {
            // `ExportTraceServiceRequest.resource_spans`: field 1, length-delimited.
            request.push(0x0a);
            let mut length = envelope.bytes().len();
            while length >= 0x80 {
                request.push(length.to_le_bytes()[0] | 0x80);
                length >>= 7;
            }
            request.push(length.to_le_bytes()[0]);
            request.extend_from_slice(envelope.bytes());
        }
        Batch::trusted(request.into(), spans)
    }
}

/// Groups in first-seen order, each resource with its spans; envelopes without spans are left out.
fn group_by_resource<'a>(batch: &'a Batch, converter: &mut Converter) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for envelope in batch.view().resource_spans() {
        let has_spans = envelope
            .scope_spans()
            .any(|scope| scope.spans().next().is_some());
        if !has_spans {
            continue;
        }
        let resource = converter.resource(envelope);
        match groups.iter_mut().find(|group| group.resource == resource) {
            Some(group) => group.envelopes.push(envelope),
            None => groups.push(Group {
                resource,
                envelopes: vec![envelope],
            }),
        }
    }
    groups
}

/// Runs `work` on this thread; gives up when nobody waits for the reply any more.
///
/// A loop of our own, because the exporter may bring an executor of its own, and executors do not nest.
fn wait_while_wanted<R, T>(
    work: impl Future<Output = T>,
    reply: &mut oneshot::Sender<R>,
) -> Option<T> {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(output) = work.as_mut().poll(&mut context) {
            return Some(output);
        }
        if reply.poll_closed(&mut context).is_ready() {
            return None;
        }
        thread::park();
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
