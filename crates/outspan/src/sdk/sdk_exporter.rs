//! Our exporters under the SDK's own processors.

use std::fmt;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanExporter;
use outspan_wire::otlp::EncodedResource;
use outspan_wire::otlp::Encoder;
use outspan_wire::otlp::SpanLimits;

use crate::Batch;
use crate::Cause;
use crate::Deadline;
use crate::Delivery;
use crate::Error;
use crate::ErrorKind;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::ending::PATIENCE;
use crate::engine::Books;
use crate::engine::Tracked;
use crate::guard::run_drain;
use crate::runtime::Runtime;

use super::loss_report::LossReport;
use super::outcome::delivered;
use super::outcome::drained;
use super::span_data::SdkSpan;
use super::span_data::encode_resource;
use super::wait::wait;

/// Makes one of our exporters an exporter of the SDK, for programs that keep the SDK's own processors.
///
/// The work is done on the library's thread, so it needs no tokio reactor around it: the SDK's batch processor has none.
/// What the SDK's processors cannot hold is told by an error: spans that were refused or not delivered, with their
/// number. Losses in its whole life are reported once, when it is shut down or dropped: as a `tracing` warning, or on standard
/// error if the program has no subscriber. Spans that the SDK's processor dropped before are not known here.
///
/// The SDK drops a batch whose export failed, so a stack for it should have a
/// [`retry`](Exporter::retry) and a [`timeout`](Exporter::timeout). [`BatchProcessor`](super::BatchProcessor) loses less and costs less.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "grpc")] {
/// use std::time::Duration;
///
/// use opentelemetry_sdk::trace::SdkTracerProvider;
/// use outspan::{Retry, otlp, sdk::SdkExporter};
///
/// # fn main() -> outspan::Result<()> {
/// let exporter = otlp::grpc("http://localhost:4317")
///     .build()?
///     .timeout(Duration::from_secs(10))
///     .retry(Retry::default().max_elapsed(Duration::from_secs(25)));
/// let provider = SdkTracerProvider::builder()
///     .with_batch_exporter(SdkExporter::new(exporter))
///     .build();
/// # drop(provider);
/// # Ok(())
/// # }
/// # main().unwrap();
/// # }
/// ```
pub struct SdkExporter {
    /// One owner, whoever is in the middle of an export: shutting down closes what stands behind it.
    exporter: Arc<Exporter>,
    limit: Duration,
    encoder: Mutex<Encoder>,
    resource: EncodedResource,
    is_shut_down: AtomicBool,
    /// Whether the books have what a shutdown lost.
    is_taken_back: AtomicBool,
    books: Arc<Books>,
    last_error: Mutex<Option<Error>>,
    report: LossReport,
}

impl SdkExporter {
    /// How long an export may take unless told otherwise: the SDK's `OTEL_BSP_EXPORT_TIMEOUT`, which its batch processor
    /// on a thread does not apply itself.
    const LIMIT: Duration = Duration::from_secs(30);

    /// Takes an exporter.
    pub fn new(exporter: Exporter) -> Self {
        Self {
            exporter: Arc::new(exporter),
            limit: Self::LIMIT,
            encoder: Mutex::new(Encoder::new(SpanLimits::unlimited())),
            resource: EncodedResource::default(),
            is_shut_down: AtomicBool::new(false),
            is_taken_back: AtomicBool::new(false),
            books: Books::unlogged(),
            last_error: Mutex::default(),
            report: LossReport::default(),
        }
    }

    /// Sets how long an export may take, retries included, and a flush. Default: 30 s, the specification's export timeout.
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

    /// Counts a batch whose export begins now. If its future is dropped, the spans are dropped with it, and counted.
    fn start(&self, batch: &Batch) -> Option<Tracked> {
        let entry = self.books.enter(0, batch.spans());
        let mut tracked = entry.into_tracked(vec![batch.clone()]).pop()?;
        tracked.start();
        Some(tracked)
    }

    /// Counts what became of spans.
    fn complete(&self, tracked: Tracked, exported: Result<Delivery>) {
        let completed = tracked.complete(exported);
        let failure = completed.rest.first().map(|(_, error)| error.clone());
        self.note(failure.or(completed.error));
        for (part, error) in completed.rest {
            match error.kind() {
                ErrorKind::Refused => part.reject(&error),
                _ => part.drop_spans(error.drop_reason(), Some(&error)),
            }
        }
    }

    fn note(&self, error: Option<Error>) {
        if error.is_some() {
            *self.last_error() = error;
        }
    }

    fn last_error(&self) -> MutexGuard<'_, Option<Error>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what was lost and was not told before.
    fn report_losses(&self) {
        let error = self.last_error().clone();
        let server = error
            .as_ref()
            .and_then(|error| error.attempt().server.clone());
        let account = self.books.account();
        self.report.tell(&account, 0, server, |_, _| {
            error.map(Cause::new).into_iter().collect()
        });
    }

    fn encode(&self, spans: &[SpanData]) -> Option<Batch> {
        let mut encoder = self.encoder.lock().unwrap_or_else(PoisonError::into_inner);
        for span in spans {
            encoder.push(&self.resource, &SdkSpan(span));
        }
        let request = encoder.finish()?;
        Some(Batch::trusted(request.bytes, request.spans))
    }
}

impl SpanExporter for SdkExporter {
    /// # Cancellation
    ///
    /// Dropping the future stops the export. The spans may have arrived.
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        let Some(batch) = self.encode(&spans) else {
            return Ok(());
        };
        drop(spans);
        let until = Deadline::after(self.limit).named("export deadline");
        let exporter = Arc::clone(&self.exporter);
        let spans = batch.spans();
        let tracked = self.start(&batch);
        let exported = export(exporter, batch, until).await;
        if let Some(tracked) = tracked {
            self.complete(tracked, exported.clone());
        }
        delivered(spans, exported, self.limit)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        if self.exporter.has_ended() {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        self.is_shut_down.store(true, Ordering::Release);
        let until = Deadline::after(timeout).named("shutdown timeout");
        let exporter = Arc::clone(&self.exporter);
        // The handle has a second caller wait for the first, for a moment longer than its own deadline.
        let result = wait(until, async move {
            run_drain(until, PATIENCE * 2, "shutdown", exporter.shutdown(until)).await
        });
        let result = result.flatten();
        if let Ok(inside) = &result
            && !self.is_taken_back.swap(true, Ordering::AcqRel)
        {
            // What the exporter had acknowledged and lost after that. Callers at the same time get the same result, which
            // counts once.
            self.books.take_back(inside, None);
            self.note(inside.cause().map(|cause| cause.error().clone()));
        }
        self.report_losses();
        drained(result, timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        let until = Deadline::after(self.limit).named("flush timeout");
        let exporter = Arc::clone(&self.exporter);
        let result = wait(until, async move {
            let flushed = until.run(exporter.flush(until)).await;
            flushed.unwrap_or_else(|| Err(Error::timeout("no answer", until)))
        });
        drained(result.flatten(), self.limit)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = encode_resource(resource);
    }
}

impl Drop for SdkExporter {
    /// Tells what was lost, unless a shutdown did.
    fn drop(&mut self) {
        self.report_losses();
    }
}

impl Debug for SdkExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SdkExporter")
            .field("exporter", &self.exporter)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Exports on our thread, whatever executor polls this.
async fn export(exporter: Arc<Exporter>, batch: Batch, until: Deadline) -> Result<Delivery> {
    let work = async move {
        let exported = until.run(exporter.export(batch, until)).await;
        exported.unwrap_or_else(|| Err(Error::timeout("no answer", until)))
    };
    let exported = Runtime::shared().spawn(work)?.await;
    exported.unwrap_or_else(|_| Err(Error::internal("the exporter panicked")))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use opentelemetry::trace::Span as _;
    use opentelemetry::trace::Tracer;
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;
    use crate::Drained;
    use crate::DropReason;

    /// Keeps the spans that end.
    #[derive(Clone, Debug, Default)]
    struct Keep(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Keep {
        async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(spans);
            Ok(())
        }
    }

    #[derive(Debug)]
    struct Hanging;

    impl Export for Hanging {
        async fn export(&self, _batch: Batch, _until: Deadline) -> Result<Delivery> {
            std::future::pending().await
        }

        async fn flush(&self, _until: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }

        async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }
    }

    #[test]
    fn spans_of_a_dropped_export_are_counted_as_dropped() {
        let kept = Keep::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(kept.clone())
            .build();
        provider.tracer("test").start("work").end();
        let spans = std::mem::take(&mut *kept.0.lock().unwrap());
        assert_eq!(spans.len(), 1);

        let exporter = SdkExporter::new(Exporter::new(Hanging));
        let mut export = Box::pin(exporter.export(spans));
        assert!(export.as_mut().now_or_never().is_none());
        assert_eq!(exporter.books.account().in_flight, 1);
        drop(export);
        let account = exporter.books.account();
        assert!(account.closes(), "{account}");
        assert_eq!(account.dropped.of(DropReason::Failed), 1);
    }
}
