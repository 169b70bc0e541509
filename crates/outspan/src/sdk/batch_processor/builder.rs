//! The settings of a batch processor.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

#[cfg(feature = "metrics")]
use opentelemetry::metrics::Meter;
use outspan_wire::otlp::EncodedResource;
use outspan_wire::otlp::SpanLimits;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::BatchProcessor;
use super::buffer::Buffer;
use super::worker;
use super::worker::Core;
use super::worker::Settings;
use crate::Error;
use crate::Exporter;
use crate::Result;
use crate::Retry;
use crate::diagnostics::Diagnostics;
use crate::diagnostics::DropEvent;
use crate::diagnostics::Hook;
use crate::ending::Ending;
use crate::engine;
use crate::engine::Books;
use crate::engine::Budget;
use crate::engine::HandOver;
use crate::engine::Queue;
use crate::runtime::Runtime;
use crate::sdk::loss_report::LossReport;
#[cfg(feature = "metrics")]
use crate::sdk::metrics::BATCHING;
#[cfg(feature = "metrics")]
use crate::sdk::metrics::Instruments;

/// A delay of nothing would have the worker run without a pause.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// Says what happens to a span that ends while the processor holds as much as it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// The span is dropped and counted as `queue_full`. The program never waits.
    #[default]
    Drop,
    /// The thread that ended the span waits for room, for at most this long; then the span is dropped and counted.
    ///
    /// For programs that would rather be slow than lose spans. Do not choose it where asynchronous tasks end spans: the
    /// wait blocks the runtime's thread.
    Wait(Duration),
}

/// Builds a [`BatchProcessor`].
#[must_use]
pub struct BatchProcessorBuilder {
    exporter: Exporter,
    max_batch_spans: usize,
    max_batch_bytes: usize,
    delay: Duration,
    queue_bytes: usize,
    queue_spans: Option<usize>,
    concurrent_exports: usize,
    attempt_timeout: Option<Duration>,
    export_limit: Option<Duration>,
    flush_timeout: Duration,
    when_full: WhenFull,
    span_limits: SpanLimits,
    retry: Retry,
    on_drop: Option<Hook>,
    #[cfg(feature = "metrics")]
    meter: Option<Meter>,
}

impl BatchProcessorBuilder {
    pub(super) fn new(exporter: Exporter) -> Self {
        Self {
            exporter,
            max_batch_spans: 512,
            max_batch_bytes: 2 << 20,
            delay: Duration::from_secs(5),
            queue_bytes: 64 << 20,
            queue_spans: None,
            concurrent_exports: 4,
            attempt_timeout: Some(Duration::from_secs(10)),
            export_limit: None,
            flush_timeout: Duration::from_secs(5),
            when_full: WhenFull::Drop,
            span_limits: SpanLimits::unlimited(),
            retry: Retry::default(),
            on_drop: None,
            #[cfg(feature = "metrics")]
            meter: None,
        }
    }

    /// Sets how many spans a batch has at most. The default is 512, as the specification's
    /// (`OTEL_BSP_MAX_EXPORT_BATCH_SIZE`).
    pub fn max_batch_spans(mut self, spans: usize) -> Self {
        self.max_batch_spans = spans;
        self
    }

    /// Sets at how many bytes of OTLP a batch is complete. The default is 2 MiB: below the 4 MiB that a stock Collector
    /// takes over gRPC. A batch never exceeds it by more than its last span.
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.max_batch_bytes = bytes;
        self
    }

    /// Sets how long a span waits at most for its batch to become complete. The default is 5 s, as the specification's
    /// (`OTEL_BSP_SCHEDULE_DELAY`). Less than 1 ms counts as 1 ms.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay.max(DELAY_MIN);
        self
    }

    /// Sets how many bytes the processor holds at most: ended spans, batches, compressed forms and what is in flight. The
    /// default is 64 MiB, some 150,000 spans of usual size. Nothing is allocated ahead.
    ///
    /// Spans that are not encoded yet count with the memory they take in the program, which is more than that of their
    /// batch. They get a quarter of the bound; when spans end faster than the library's thread encodes, the threads that
    /// end them help.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Sets how many spans the processor holds at most, besides the bound in bytes. The default is `None`, no such bound.
    /// The specification has 2048 (`OTEL_BSP_MAX_QUEUE_SIZE`), which loses most of a burst, and says little about memory.
    pub fn queue_spans(mut self, spans: impl Into<Option<usize>>) -> Self {
        self.queue_spans = spans.into();
        self
    }

    /// Sets how many exports may be in flight at once. The default is 4: enough to keep a connection busy while answers
    /// are under way (40,000 spans/s at a round trip of 50 ms), and little for a destination to take. While the
    /// destination is down there is one.
    pub fn concurrent_exports(mut self, exports: usize) -> Self {
        self.concurrent_exports = exports;
        self
    }

    /// Sets how long one call of the exporter may take, after which it counts as failed for now. The default is 10 s,
    /// so that a destination that hangs does not hold a place for ever; `None` leaves it to the exporter.
    ///
    /// This is what `OTEL_BSP_EXPORT_TIMEOUT` sets: the specification has the processor cancel an export after it. The
    /// batch is not lost by that; how long to go on trying is the [`export_limit`](Self::export_limit).
    pub fn attempt_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.attempt_timeout = timeout.into();
        self
    }

    /// Sets how long a batch may be tried, from its first attempt on, waits included; spans that were not delivered by
    /// then are dropped as `expired`. The default is `None`: they are kept while memory lasts.
    pub fn export_limit(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.export_limit = limit.into();
        self
    }

    /// Sets how long `force_flush` takes at most, to which the SDK passes no time. The default is 5 s, as in the SDK.
    pub fn flush_timeout(mut self, timeout: Duration) -> Self {
        self.flush_timeout = timeout;
        self
    }

    /// Sets what happens to a span that ends while the processor holds as much as it may. The default is to drop it.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Sets limits on what a span may hold, applied when it is encoded. The default is none, because the SDK applies
    /// its own (128 attributes, events, links), which a provider may have raised. The SDK does not limit how long values
    /// are; [`SpanLimits::attribute_value_length`] does.
    pub fn span_limits(mut self, limits: SpanLimits) -> Self {
        self.span_limits = limits;
        self
    }

    /// Sets the waits between attempts, and [`max_retries`](Retry::max_retries), after which a batch is dropped as
    /// `failed`. The default is that of [`Retry`], from 5 s to 30 s, without a limit of attempts.
    ///
    /// [`Retry::max_elapsed`] does not apply here: batches are kept while memory lasts, or for the
    /// [`export_limit`](Self::export_limit).
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Calls `hook` whenever spans are dropped, besides counting and logging. Drops that come together are told together.
    ///
    /// The hook runs on the library's thread: it must not block, and cannot flush or shut down. A panic in it is caught.
    pub fn on_drop(mut self, hook: impl Fn(&DropEvent) + Send + Sync + 'static) -> Self {
        self.on_drop = Some(Arc::new(hook));
        self
    }

    /// Records OpenTelemetry metrics about the processor, not unless told: `otel.sdk.processor.span.processed`,
    /// `otel.sdk.processor.span.queue.size`, and, where [`queue_spans`](Self::queue_spans) sets one,
    /// `otel.sdk.processor.span.queue.capacity` of the semantic conventions (1.40, in development).
    ///
    /// A span is processed when its batch is handed to the exporter for the first time, whatever comes of it, or when it is
    /// dropped before that; then `error.type` says why: `queue_full`, `already_shutdown` (it ended after the shutdown),
    /// `shutdown` (the time for the shutdown was over), `encode` (it has no valid ids). What becomes of spans after the
    /// hand-over is in the metrics of a [measured](crate::combinators::Measured) exporter and in the
    /// [account](super::ProcessorHandle::account). `otel.component.type` is `batching_span_processor`, `otel.component.name`
    /// that with a number from 0. Nothing is recorded on a thread that ends a span.
    #[cfg(feature = "metrics")]
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = Some(meter.clone());
        self
    }

    /// Makes the processor, and starts the library's thread if this is its first use.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if a bound or time limit is 0; [`Internal`](crate::ErrorKind::Internal) if the operating
    /// system cannot start the thread.
    pub fn build(self) -> Result<BatchProcessor> {
        self.check()?;
        let runtime = Runtime::shared().handle()?;
        Ok(self.build_on(runtime))
    }

    fn check(&self) -> Result<()> {
        let numbers = [
            ("max_batch_spans", self.max_batch_spans),
            ("max_batch_bytes", self.max_batch_bytes),
            ("queue_bytes", self.queue_bytes),
            ("queue_spans", self.queue_spans.unwrap_or(1)),
            ("concurrent_exports", self.concurrent_exports),
        ];
        let zero = numbers.iter().find(|(_, number)| *number == 0);
        if let Some((name, _)) = zero {
            return Err(Error::config(format!(
                "{name} of the batch processor is 0: no span could ever be exported"
            )));
        }
        let limits = [
            ("attempt_timeout", self.attempt_timeout),
            ("export_limit", self.export_limit),
        ];
        engine::check_times("the batch processor", limits)
    }

    /// Makes the processor, with its work on `runtime`.
    pub(super) fn build_on(self, runtime: Handle) -> BatchProcessor {
        let budget = Arc::new(Budget::new(self.queue_bytes, self.queue_spans));
        let diagnostics = Arc::new(Diagnostics::new(self.on_drop));
        #[cfg(feature = "metrics")]
        let instruments = self
            .meter
            .as_ref()
            .map(|meter| Arc::new(Instruments::new(meter, BATCHING)));
        let observer: Option<Arc<dyn HandOver>> = None;
        #[cfg(feature = "metrics")]
        let observer = observer.or_else(|| instruments.clone().map(|all| all as _));
        let books = Books::new(budget, Arc::clone(&diagnostics), observer);
        let queue = Queue::start(
            self.exporter,
            engine::Settings {
                concurrent_exports: self.concurrent_exports,
                attempt_timeout: self.attempt_timeout,
                export_limit: self.export_limit,
                retry: self.retry,
                gives_up_early: true,
                takes_turns: false,
            },
            Arc::clone(&books),
            Arc::clone(&diagnostics),
            &runtime,
        );
        let wait_when_full = match self.when_full {
            WhenFull::Drop => None,
            WhenFull::Wait(time) => Some(time),
        };
        let wake = Arc::new(Notify::new());
        let core = Arc::new(Core {
            buffer: Buffer::new(
                Arc::clone(&books),
                self.max_batch_spans,
                self.max_batch_bytes,
                wait_when_full,
                Arc::clone(&wake),
            ),
            queue,
            books,
            diagnostics,
            runtime: runtime.clone(),
            resource: Mutex::new(EncodedResource::default()),
            settings: Settings {
                batch_spans: self.max_batch_spans,
                batch_bytes: self.max_batch_bytes,
                delay: self.delay,
                limits: self.span_limits,
                flush_timeout: self.flush_timeout,
            },
            encoders: Mutex::default(),
            commands: Mutex::default(),
            wake,
            is_shut_down: AtomicBool::new(false),
            ending: Ending::default(),
            report: LossReport::default(),
            is_released: AtomicBool::new(false),
        });
        #[cfg(feature = "metrics")]
        if let (Some(meter), Some(instruments)) = (&self.meter, instruments) {
            let core = Arc::downgrade(&core);
            instruments.observe_queue(meter, self.queue_spans, move || {
                Some(core.upgrade()?.buffer.account().queued)
            });
        }
        // It ends by itself when the processor is gone.
        drop(runtime.spawn(worker::work(Arc::clone(&core))));
        BatchProcessor { core }
    }
}

impl fmt::Debug for BatchProcessorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchProcessorBuilder")
            .field("exporter", &self.exporter)
            .field("max_batch_spans", &self.max_batch_spans)
            .field("max_batch_bytes", &self.max_batch_bytes)
            .field("delay", &self.delay)
            .field("queue_bytes", &self.queue_bytes)
            .field("queue_spans", &self.queue_spans)
            .field("concurrent_exports", &self.concurrent_exports)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("export_limit", &self.export_limit)
            .field("flush_timeout", &self.flush_timeout)
            .field("when_full", &self.when_full)
            .field("span_limits", &self.span_limits)
            .field("retry", &self.retry)
            .field("on_drop", &self.on_drop.is_some())
            .finish()
    }
}
