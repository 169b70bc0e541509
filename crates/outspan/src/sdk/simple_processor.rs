//! Exports each span when it ends.

use std::fmt;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry::Context;
#[cfg(feature = "metrics")]
use opentelemetry::metrics::Meter;
use opentelemetry::trace::Span as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::Span;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanProcessor;
use outspan_wire::otlp::EncodedResource;
use outspan_wire::otlp::Encoder;
use outspan_wire::otlp::SpanLimits;

use crate::Account;
use crate::Batch;
use crate::Cause;
use crate::Deadline;
use crate::Drained;
use crate::DropReason;
use crate::Error;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::diagnostics::tell;
use crate::ending::Ending;
use crate::engine::Books;
use crate::engine::Completed;
use crate::engine::Tracked;
use crate::guard::GRACE;
use crate::guard::run_drain;

use super::DROP_TIMEOUT;
use super::loss_report::LossReport;
#[cfg(feature = "metrics")]
use super::metrics::Instruments;
#[cfg(feature = "metrics")]
use super::metrics::SIMPLE;
use super::outcome::drained;
use super::span_data::SdkSpan;
use super::span_data::encode_resource;
use super::wait::wait;

/// Exports each span when it ends, one after the other, and makes the thread that ended it wait.
///
/// For the console and for finding errors: a program that is to be fast takes a [`BatchProcessor`](super::BatchProcessor). The
/// export itself runs on the library's thread, so this works in any tokio runtime, also with one worker, and in none.
/// A span that could not be exported within the [`limit`](Self::limit) is dropped and counted; the first failure in a row
/// and the recovery are told in the log. Spans that are recorded but not sampled are not exported.
///
/// Losses in its whole life are reported at the end, once, as by a [`BatchProcessor`](super::BatchProcessor): as a `tracing`
/// warning, or on standard error if the program has no subscriber. A processor that is dropped without a shutdown shuts
/// down then, within 5 s. Spans that have not ended by then are counted in [`Drained::unended`].
///
/// # Examples
///
/// ```
/// use opentelemetry_sdk::trace::SdkTracerProvider;
/// use outspan::sdk::SimpleProcessor;
///
/// # fn provider(exporter: outspan::Exporter) -> SdkTracerProvider {
/// let processor = SimpleProcessor::new(exporter);
/// let handle = processor.handle();
/// let provider = SdkTracerProvider::builder()
///     .with_span_processor(processor)
///     .build();
/// assert!(handle.account().closes());
/// # provider
/// # }
/// ```
pub struct SimpleProcessor {
    shared: Arc<Shared>,
    encoder: Mutex<Encoder>,
    resource: EncodedResource,
    limit: Duration,
}

/// Looks at a [`SimpleProcessor`] from outside.
#[derive(Clone, Debug)]
pub struct SimpleHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    exporter: Exporter,
    /// Exports one at a time (trace/sdk.md, "Simple processor").
    turn: tokio::sync::Mutex<()>,
    books: Arc<Books>,
    /// Spans that were lost in a row.
    lost_in_a_row: AtomicU64,
    /// Spans that were started and will be counted as received when they end.
    started: AtomicU64,
    /// Why the last span was lost.
    last_error: Mutex<Option<Error>>,
    is_shut_down: AtomicBool,
    ending: Ending,
    report: LossReport,
}

impl SimpleProcessor {
    /// Takes an exporter.
    pub fn new(exporter: Exporter) -> Self {
        Self {
            shared: Arc::new(Shared {
                exporter,
                turn: tokio::sync::Mutex::new(()),
                books: Books::unlogged(),
                lost_in_a_row: AtomicU64::new(0),
                started: AtomicU64::new(0),
                last_error: Mutex::default(),
                is_shut_down: AtomicBool::new(false),
                ending: Ending::default(),
                report: LossReport::default(),
            }),
            encoder: Mutex::new(Encoder::new(SpanLimits::unlimited())),
            resource: EncodedResource::default(),
            limit: Duration::from_secs(10),
        }
    }

    /// Sets how long a span may take, the wait for others included. Default: 10 s, as an attempt elsewhere.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets limits on what a span may hold. The default is none, because the SDK applies its own.
    #[must_use]
    pub fn span_limits(mut self, limits: SpanLimits) -> Self {
        self.encoder = Mutex::new(Encoder::new(limits));
        self
    }

    /// Records the OpenTelemetry metric `otel.sdk.processor.span.processed` of the semantic conventions (1.40, in
    /// development), not unless told.
    ///
    /// A span is processed when it is handed to the exporter, whatever comes of it, or when it is dropped before that; then
    /// `error.type` says why: `already_shutdown` (it ended after the shutdown), `timeout` (its time was over before its turn
    /// came). `otel.component.type` is `simple_span_processor`, `otel.component.name` that with a number from 0.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn meter(self, meter: &Meter) -> Self {
        let instruments = Arc::new(Instruments::new(meter, SIMPLE));
        self.shared.books.set_observer(instruments);
        self
    }

    /// A handle that stays when the provider has taken the processor.
    pub fn handle(&self) -> SimpleHandle {
        SimpleHandle {
            shared: Arc::clone(&self.shared),
        }
    }

    fn encode(&self, span: &SpanData) -> Option<Batch> {
        let mut encoder = self.encoder.lock().unwrap_or_else(PoisonError::into_inner);
        encoder.push(&self.resource, &SdkSpan(span));
        let request = encoder.finish()?;
        Some(Batch::trusted(request.bytes, request.spans))
    }
}

impl SimpleHandle {
    /// Says where every span is.
    pub fn account(&self) -> Account {
        self.shared.books.account()
    }

    /// Flushes the exporter. Blocks this thread; there are no spans that wait.
    ///
    /// # Errors
    ///
    /// Those of the exporter, [`Timeout`](crate::ErrorKind::Timeout), and [`ShutDown`](crate::ErrorKind::ShutDown) after a shutdown. Spans
    /// that were lost are no error here but are in the [`Drained`].
    pub fn flush(&self, timeout: Duration) -> Result<Drained> {
        if self.shared.is_shut_down.load(Ordering::Acquire) {
            return Err(Error::shut_down());
        }
        let until = Deadline::after(timeout).named("flush timeout");
        let shared = Arc::clone(&self.shared);
        wait(until, async move { shared.flush(until).await }).flatten()
    }

    /// Shuts the exporter down; later spans are dropped and counted. Blocks this thread. A second call, at the same time or
    /// later, waits for the first within its own `timeout`, and returns its result.
    ///
    /// # Errors
    ///
    /// Those of the exporter, and [`Timeout`](crate::ErrorKind::Timeout). Spans that were lost are no error here but are in the
    /// [`Drained`].
    pub fn shutdown(&self, timeout: Duration) -> Result<Drained> {
        let until = Deadline::after(timeout).named("shutdown timeout");
        self.shared.is_shut_down.store(true, Ordering::Release);
        let shared = Arc::clone(&self.shared);
        let ended = wait(until, async move {
            let work = || shared.shutdown(until);
            shared.ending.run(until, work).await
        });
        self.shared.report_losses();
        ended.flatten()
    }

    /// Names the destination in the report at the end.
    pub(crate) fn name(&self, name: &'static str) {
        self.shared.report.set_name(name);
    }
}

impl SpanProcessor for SimpleProcessor {
    /// Counts a span that is sampled, so that it is known at the end how many have not ended.
    fn on_start(&self, span: &mut Span, _context: &Context) {
        if span.span_context().is_sampled() {
            // Only a sum, read at the end: it orders nothing.
            self.shared.started.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.shared.is_shut_down.load(Ordering::Acquire) {
            let reason = DropReason::Shutdown;
            return self.shared.books.turn_away(reason, 1).report();
        }
        let Some(batch) = self.encode(&span) else {
            return;
        };
        drop(span);
        let until = Deadline::after(self.limit).named("limit of the simple processor");
        let flight = Flight::begin(&self.shared, batch);
        let waited = wait(until, flight.export(until));
        if let Err(error) = waited {
            // The flight ended with the work, and its span is counted; the log is all that is left to do.
            self.shared.tell_lost(1, &error);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        if self.shared.is_shut_down.load(Ordering::Acquire) {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        drained(self.handle().flush(self.limit), self.limit)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        if self.shared.ending.result().is_some() {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        drained(self.handle().shutdown(timeout), timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = encode_resource(resource);
    }
}

impl Drop for SimpleProcessor {
    /// Shuts down, within 5 s, unless that has happened. Tells what was lost.
    fn drop(&mut self) {
        if self.shared.ending.result().is_none()
            && let Err(error) = self.handle().shutdown(DROP_TIMEOUT)
        {
            tell(&format!(
                "a processor was dropped before it was shut down: {}",
                error.chain()
            ));
        }
        // Spans that ended after the shutdown.
        self.shared.report_losses();
    }
}

impl Debug for SimpleProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleProcessor")
            .field("exporter", &self.shared.exporter)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Waits for spans on their way, then flushes the exporter.
    async fn flush(&self, until: Deadline) -> Result<Drained> {
        let before = self.books.account();
        let work = async {
            drop(self.turn.lock().await);
            self.exporter.flush(until).await
        };
        let inside = until.run(work).await;
        let inside = inside.unwrap_or_else(|| Err(Error::timeout("no answer", until)))?;
        Ok(self.since(&before, &inside))
    }

    /// Waits for spans on their way, then shuts the exporter down, in any case.
    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        let before = self.books.account();
        let turn = until.run(self.turn.lock()).await;
        let inside = run_drain(until, GRACE, "shutdown", self.exporter.shutdown(until)).await;
        drop(turn);
        self.books.abandon_pending();
        let unended = self.unended();
        match inside {
            Ok(inside) => {
                let mut drained = self.since(&before, &inside);
                drained.unended = unended;
                Ok(drained)
            }
            // Exports that are under way hold spans, and nobody waits for them any longer.
            Err(error) if self.books.account().open() > 0 => {
                let account = self.books.account();
                let mut drained = account.since(&before);
                drained.left = account.open();
                drained.unended = unended;
                drained.add_cause(Cause::new(error));
                Ok(drained)
            }
            Err(error) => Err(error),
        }
    }

    /// How many spans were started and have not ended.
    fn unended(&self) -> u64 {
        // Read first: a span that starts and ends meanwhile must not look as if it had not ended.
        let started = self.started.load(Ordering::Relaxed);
        started.saturating_sub(self.books.account().received)
    }

    /// Tells what was lost and was not told before, once the shutdown has begun.
    fn report_losses(&self) {
        let account = self.books.account();
        let error = lock(&self.last_error).clone();
        let server = error
            .as_ref()
            .and_then(|error| error.attempt().server.clone());
        self.report.tell(&account, self.unended(), server, |_, _| {
            error.map(Cause::new).into_iter().collect()
        });
    }

    /// What became of spans since `before`. What the exporter inside had acknowledged was counted as delivered; here it
    /// turns out what became of it.
    fn since(&self, before: &Account, inside: &Drained) -> Drained {
        self.books.take_back(inside, None);
        let lost = &inside.lost;
        if lost.total() > lost.of(DropReason::Filtered) {
            tracing::warn!(target: "outspan", "spans that the exporter had taken were lost inside it: {lost}");
        }
        let mut drained = self.books.account().since(before);
        // Pending spans are not counted as delivered in the first place.
        let left = inside.left.saturating_sub(self.books.pending());
        drained.delivered = drained.delivered.saturating_sub(left);
        drained.left = inside.left;
        for cause in inside.causes() {
            drained.add_cause(cause.clone());
        }
        if let Some(cause) = inside.cause() {
            *lock(&self.last_error) = Some(cause.error().clone());
        }
        drained
    }

    /// Tells the first loss in a row.
    fn tell_lost(&self, spans: u64, error: &Error) {
        *lock(&self.last_error) = Some(error.clone());
        if self.lost_in_a_row.fetch_add(spans, Ordering::Relaxed) == 0 {
            tracing::warn!(target: "outspan", "cannot export a span, and drop it: {}", error.chain());
        }
    }

    /// Tells the end of a row of losses.
    fn tell_delivered(&self) {
        let lost = self.lost_in_a_row.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::info!(target: "outspan", "spans are exported again; {lost} were lost");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A span on its way. It is in the account however the export ends, also when its future is dropped.
struct Flight {
    shared: Arc<Shared>,
    /// Nothing after the export has ended.
    tracked: Option<Tracked>,
}

impl Flight {
    fn begin(shared: &Arc<Shared>, batch: Batch) -> Self {
        let entry = shared.books.enter(0, batch.spans());
        Self {
            shared: Arc::clone(shared),
            tracked: entry.into_tracked(vec![batch]).pop(),
        }
    }

    async fn export(mut self, until: Deadline) {
        let shared = Arc::clone(&self.shared);
        let Some(tracked) = &mut self.tracked else {
            return;
        };
        let work = async {
            let _turn = shared.turn.lock().await;
            tracked.start();
            shared.exporter.export(tracked.batch().clone(), until).await
        };
        let exported = until.run(work).await;
        let exported = exported.unwrap_or_else(|| Err(Error::timeout("no answer", until)));
        match (self.tracked.take(), exported) {
            (Some(tracked), Err(error)) if !tracked.was_started() => {
                tracked.drop_unstarted(error.drop_reason(), Some(&error), "timeout");
                self.shared.tell_lost(1, &error);
            }
            (Some(tracked), exported) => self.land(tracked.complete(exported)),
            (None, _) => {}
        }
    }

    fn land(&self, completed: Completed) {
        // A span that is pending stays in flight until it is written.
        if completed.accepted > completed.pending {
            self.shared.tell_delivered();
        }
        if let Some(error) = completed.error.filter(|_| completed.accepted == 0) {
            self.shared.tell_lost(1, &error);
        }
        for (part, error) in completed.rest {
            part.drop_spans(error.drop_reason(), Some(&error));
            self.shared.tell_lost(1, &error);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        match self.tracked.take() {
            Some(tracked) if tracked.was_started() => tracked.drop_spans(DropReason::Failed, None),
            Some(tracked) => tracked.drop_unstarted(DropReason::Failed, None, "timeout"),
            None => {}
        }
    }
}
