//! The processor that turns ended spans into batches.

mod buffer;
mod builder;
#[cfg(test)]
mod tests;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::Span as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::Span;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanProcessor;

use self::buffer::Next;
pub use self::builder::BatchProcessorBuilder;
pub use self::builder::WhenFull;
use self::worker::Core;
use self::worker::Kind;
use self::worker::Outcome;
use crate::Account;
use crate::Cause;
use crate::Deadline;
use crate::Drained;
use crate::Error;
use crate::Exporter;
use crate::Result;
use crate::diagnostics::tell;
use crate::drained::add_cause;
use crate::sdk::DROP_TIMEOUT;
use crate::sdk::span_data;
use crate::sync;
use crate::work::is_own_thread;

/// How much later than its deadline the worker's answer may come: it is on its way then.
const ANSWER_GRACE: Duration = Duration::from_millis(200);

/// Exports ended spans in batches, through one of our exporters.
///
/// Ending a span moves it into a buffer and returns. Everything else happens on the library's own thread: encoding the
/// spans as OTLP, once; queueing the batches in memory; exporting several at once; trying again what failed for now.
/// So it works in any `main`, in any runtime and in none, and makes no spans of its own. Spans that are recorded but
/// not sampled are not exported.
///
/// A batch leaves when it has 512 spans or 2 MiB, and every 5 s whatever there is. (Threads count for themselves up to
/// 64 spans each, so that they do not slow each other down.)
///
/// **What cannot be delivered now is kept** while memory lasts, and tried again; the SDK's own processor drops a batch
/// when its one export fails. The bound is 64 MiB for everything the processor holds, and there is no bound on the number
/// of spans unless one is set; the SDK's bound of 2048 spans loses most of a burst. When the bound is reached, spans that end
/// are dropped ([`WhenFull`]). An export counts as hung after 10 s and is then tried again. All of that can be changed
/// with the [`builder`](Self::builder).
///
/// **Every span is accounted for**: [`ProcessorHandle::account`] reads the numbers, log lines tell of trouble (few
/// of them, however bad it is), and [`on_drop`](BatchProcessorBuilder::on_drop) calls a hook.
///
/// `force_flush` and `shutdown` may be called from any thread but the library's own, also from within a runtime; they block
/// it until they are done or out of time, and tell the truth: an error when any span was lost meanwhile, which says
/// how many and why. [`OTelSdkError::Timeout`] means that time ran out: after `force_flush` the spans are still held, after
/// `shutdown` they are lost. A second shutdown while the first goes on waits for it and has its result; later ones answer
/// [`OTelSdkError::AlreadyShutdown`]. A processor that is dropped without a shutdown shuts down then, within 5 s.
///
/// **Losses in its whole life are reported at the end**, once, in one line with counts, destination and last error: as a
/// `tracing` warning, or on standard error if the program has no subscriber. Nothing is written if nothing was lost.
///
/// At a shutdown a destination that asked for a wait gets one batch before the end of that wait; if it takes that, the rest
/// follows. A destination that never answered and refuses connections is given up after 0.6 s and at least 3 attempts.
///
/// Spans that have not ended at the shutdown are not delivered, and are counted in [`Drained::unended`].
///
/// A panic in the exporter is caught, and its spans are counted as `failed` (a program built with `panic = "abort"` ends,
/// as it asked to).
///
/// # Examples
///
/// ```
/// use opentelemetry_sdk::trace::SdkTracerProvider;
/// use outspan::sdk::BatchProcessor;
/// # use outspan::{Batch, Deadline, Delivery, Drained, Export, Exporter, Result};
/// # #[derive(Debug)]
/// # struct Nowhere;
/// # impl Export for Nowhere {
/// #     async fn export(&self, batch: Batch, _: Deadline) -> Result<Delivery> { Ok(Delivery::of(&batch)) }
/// #     async fn flush(&self, _: Deadline) -> Result<Drained> { Ok(Drained::default()) }
/// #     async fn shutdown(&self, _: Deadline) -> Result<Drained> { Ok(Drained::default()) }
/// # }
/// # let exporter = Exporter::new(Nowhere);
///
/// let processor = BatchProcessor::new(exporter);
/// let handle = processor.handle();
/// let provider = SdkTracerProvider::builder()
///     .with_span_processor(processor)
///     .build();
///
/// // The program runs; spans end.
///
/// provider.shutdown()?;
/// assert!(handle.account().closes());
/// # Ok::<(), opentelemetry_sdk::error::OTelSdkError>(())
/// ```
pub struct BatchProcessor {
    core: Arc<Core>,
}

/// Reads the account of a [`BatchProcessor`], flushes it and shuts it down, also after a provider has taken it.
#[derive(Clone)]
pub struct ProcessorHandle {
    core: Arc<Core>,
}

impl BatchProcessor {
    /// Makes a processor with the defaults, in front of `exporter`.
    ///
    /// # Panics
    ///
    /// If the operating system cannot start the library's thread. [`BatchProcessorBuilder::build`] returns that as an
    /// error.
    pub fn new(exporter: Exporter) -> Self {
        let processor = Self::builder(exporter).build();
        processor.expect("the defaults are valid and the operating system starts a thread")
    }

    /// Makes a processor with other settings than the defaults.
    pub fn builder(exporter: Exporter) -> BatchProcessorBuilder {
        BatchProcessorBuilder::new(exporter)
    }

    /// Makes a handle that outlives moving the processor into a provider.
    pub fn handle(&self) -> ProcessorHandle {
        ProcessorHandle {
            core: Arc::clone(&self.core),
        }
    }
}

impl SpanProcessor for BatchProcessor {
    /// Counts a span that is sampled, so that it is known at the end how many have not ended.
    #[inline]
    fn on_start(&self, span: &mut Span, _context: &Context) {
        if span.span_context().is_sampled() {
            self.core.buffer.start();
        }
    }

    /// Takes an ended span: one move into a buffer. Drops spans that are recorded but not sampled.
    #[inline]
    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        let core = &*self.core;
        let next = match span.span_context.is_valid() {
            true => core.buffer.add(span),
            false => core.buffer.turn_away(),
        };
        match next {
            Next::Nothing => {}
            Next::Wake => core.wake.notify_one(),
            Next::Help(help) => core.help(help),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        if self.core.is_shut_down.load(Ordering::Acquire) {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        let timeout = self.core.settings.flush_timeout;
        let outcome = self.core.flush(timeout);
        sdk_result("flush", outcome, timeout)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        if self.core.ending.result().is_some() {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        let outcome = Core::shut_down(&self.core, timeout);
        sdk_result("shutdown", outcome, timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        let encoded = span_data::encode_resource(resource);
        let mut ours = self
            .core
            .resource
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *ours = encoded;
    }
}

impl Drop for BatchProcessor {
    /// Shuts down, within 5 s, unless that has happened. Tells what was lost.
    fn drop(&mut self) {
        if self.core.ending.result().is_none()
            && let Err(error) = Core::shut_down(&self.core, DROP_TIMEOUT).and_then(drained)
        {
            tell(&format!(
                "a processor was dropped before it was shut down: {}",
                error.chain()
            ));
        }
        // Spans that ended after the shutdown.
        self.core.report_losses();
        self.core.is_released.store(true, Ordering::Release);
        self.core.wake.notify_one();
    }
}

impl fmt::Debug for BatchProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchProcessor")
            .field("settings", &self.core.settings)
            .field("account", &self.core.buffer.account())
            .finish_non_exhaustive()
    }
}

impl ProcessorHandle {
    /// Says where every span is that ended so far and was sampled.
    pub fn account(&self) -> Account {
        self.core.buffer.account()
    }

    /// Says how many bytes are held now, waiting or on their way, of the at most
    /// [`queue_bytes`](BatchProcessorBuilder::queue_bytes).
    pub fn held_bytes(&self) -> usize {
        self.core.books.budget().bytes()
    }

    /// Delivers what is held now, within `timeout`, and says what became of it. Blocks the calling thread.
    ///
    /// # Errors
    ///
    /// [`ShutDown`](crate::ErrorKind::ShutDown) after a shutdown, [`Internal`](crate::ErrorKind::Internal) on the library's
    /// own thread, which cannot wait for itself. The error of the exporter if it could not flush what it holds itself. Spans
    /// that were lost, or are still held when the time is up, are no error here but are in the [`Drained`].
    pub fn flush(&self, timeout: Duration) -> Result<Drained> {
        if self.core.is_shut_down.load(Ordering::Acquire) {
            return Err(Error::new(
                crate::ErrorKind::ShutDown,
                "the processor is shut down",
            ));
        }
        drained(self.core.flush(timeout)?)
    }

    /// Delivers what is held, within `timeout`, shuts the exporter down, and says what became of the spans. Blocks the
    /// calling thread.
    ///
    /// A caller that shuts down while another shutdown goes on, by whichever handle, processor or provider, waits for it within
    /// `timeout`; then, and later, the result is that of the first. When the time is over before that, the spans that are
    /// still held are [`Drained::left`].
    ///
    /// # Errors
    ///
    /// [`Internal`](crate::ErrorKind::Internal) on the library's own thread; the exporter's error if it could not shut
    /// down. Spans that were lost are no error here but are in the [`Drained`].
    pub fn shutdown(&self, timeout: Duration) -> Result<Drained> {
        drained(Core::shut_down(&self.core, timeout)?)
    }

    /// How long it is until the next attempt, while the destination is down: what it asked for, or the processor's own
    /// wait. Nothing while it takes spans, and while an attempt is under way.
    pub fn next_attempt_in(&self) -> Option<Duration> {
        self.core.queue.next_attempt_in()
    }

    /// Names the destination in the report at the end.
    pub(crate) fn name(&self, name: &'static str) {
        self.core.report.set_name(name);
    }
}

impl fmt::Debug for ProcessorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessorHandle")
            .field("account", &self.account())
            .finish()
    }
}

impl Core {
    /// Has the worker flush, and blocks until that is done or the time is over.
    fn flush(&self, timeout: Duration) -> Result<Outcome> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let until = Deadline::after(timeout).named("processor timeout");
        // Nobody listens any more when the caller gave up waiting.
        let reply = Box::new(move |outcome| drop(sender.send(outcome)));
        self.ask(Kind::Flush, until, reply);
        Self::check_thread()?;
        let outcome = receiver.recv_timeout(timeout.saturating_add(ANSWER_GRACE));
        Ok(outcome.unwrap_or_else(|_| self.unfinished(until)))
    }

    /// Has the worker shut down, or waits for the shutdown that was begun before, and tells what was lost.
    ///
    /// The worker ends a shutdown even if nobody waits for it: a caller that gives up changes nothing for the others.
    fn shut_down(core: &Arc<Self>, timeout: Duration) -> Result<Outcome> {
        let until = Deadline::after(timeout).named("processor timeout");
        if let Some(turn) = core.ending.begin() {
            core.is_shut_down.store(true, Ordering::Release);
            let ours = Arc::clone(core);
            let reply = Box::new(move |outcome| ours.ending.finish(Ok(outcome)));
            core.ask(Kind::Shutdown, until, reply);
            turn.leave_running();
        }
        Self::check_thread()?;
        let ended = core.ending.wait(timeout);
        core.report_losses();
        ended.unwrap_or_else(|| Ok(core.unfinished(until)))
    }

    /// What a caller gets whose time is over before the worker is done.
    fn unfinished(&self, until: Deadline) -> Outcome {
        let error = Error::timeout("the processor did not finish", until);
        let mut drained = Drained {
            left: self.buffer.account().open(),
            ..Drained::default()
        };
        if let Some(cause) = self.queue.causes_now() {
            drained.add_cause(cause);
        }
        drained.add_cause(Cause::new(error.clone()));
        Outcome {
            drained,
            error: Some(error),
            out_of_time: true,
        }
    }

    /// Tells what was lost and was not told before, once the shutdown has begun.
    fn report_losses(&self) {
        let account = self.buffer.account();
        let diagnostics = &self.diagnostics;
        self.report.tell(
            &account,
            self.buffer.unended(),
            diagnostics.server(),
            |lost, refused| {
                let mut causes = Vec::new();
                let now = self.queue.causes_now().filter(|_| account.open() > 0);
                for cause in diagnostics.causes(lost, refused).into_iter().chain(now) {
                    add_cause(&mut causes, cause);
                }
                causes
            },
        );
    }

    /// Says that the library's own thread cannot wait for itself.
    fn check_thread() -> Result<()> {
        match is_own_thread() {
            true => Err(Error::internal(
                "the library's own thread cannot wait for itself; it goes on in the background",
            )),
            false => Ok(()),
        }
    }
}

/// What the handle's callers get.
fn drained(outcome: Outcome) -> Result<Drained> {
    match outcome.error {
        Some(error) if outcome.drained.is_complete() => Err(error),
        _ => Ok(outcome.drained),
    }
}

/// What the SDK's callers get.
fn sdk_result(call: &str, outcome: Result<Outcome>, timeout: Duration) -> OTelSdkResult {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return Err(OTelSdkError::InternalFailure(error.chain().to_string())),
    };
    if outcome.out_of_time {
        return Err(OTelSdkError::Timeout(timeout));
    }
    let drained = outcome.drained;
    match outcome.error {
        None if drained.is_complete() => Ok(()),
        None => Err(OTelSdkError::InternalFailure(format!("{call}: {drained}"))),
        // The causes have it, or say more.
        Some(_) if drained.cause().is_some() => {
            Err(OTelSdkError::InternalFailure(format!("{call}: {drained}")))
        }
        Some(error) => Err(OTelSdkError::InternalFailure(format!(
            "{call}: {drained}: {}",
            error.chain()
        ))),
    }
}

/// Numbers threads as they come.
#[inline]
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    // A thread that is ending may have lost its number already.
    NUMBER.try_with(|number| *number).unwrap_or(0)
}
