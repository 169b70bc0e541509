//! Dropping spans that nobody wants.

use std::fmt;

use outspan_wire::otlp::SpanView;
use outspan_wire::otlp::retain_spans;

use super::mapped::EditCounts;
use super::mapped::Edited;
use super::mapped::send_edited;
use super::mapped::unreadable;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::guard::call_guarded;

/// Says whether to keep a span.
type Keep = dyn Fn(&SpanView<'_>) -> bool + Send + Sync;

/// Drops the spans that a closure does not keep.
///
/// The closure sees each span with its resource and scope, read where it lies. A batch of which all spans are kept goes on
/// as it is, without a copy; otherwise the other spans are copied byte for byte.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "http")] {
/// use outspan::otlp;
///
/// # fn build() -> outspan::Result<()> {
/// let exporter = otlp::http("http://localhost:4318").build()?
///     .filtered(|span| span.name() != "GET /health");
/// # drop(exporter);
/// # Ok(())
/// # }
/// # build().unwrap();
/// # }
/// ```
///
/// # What success means
///
/// What it means inside, for the spans that are kept. The others are [`Delivery::filtered`], which queues and processors count
/// as dropped with the reason `filtered`, and which is no failure; [`counts`](Self::counts) has them all.
///
/// # Errors
///
/// It creates one of its own: [`Internal`](crate::ErrorKind::Internal), for good, if the closure panics; then nothing of the batch
/// is sent and nothing dropped. Errors from inside pass through. If spans were dropped, an error becomes a delivery whose
/// rest is what was kept: what it dropped is dropped for good, and a fallback around it does not offer it to the next.
///
/// # Cancellation
///
/// Dropping the future drops the inner export.
///
/// # What it holds
///
/// The batch of each export that is under way, and what is left of it. Flush and shutdown go inside.
///
/// # Where it belongs
///
/// Outside the retry and the fan-out, so that a span is looked at once, and inside the queue. What comes back as rest and
/// is sent again is looked at again: let the closure depend on the span alone (sample by trace id, never by chance).
pub struct Filtered {
    inner: Exporter,
    keep: Box<Keep>,
    counts: EditCounts,
}

impl Filtered {
    /// Wraps `inner`, which gets the spans that `keep` says yes to.
    pub fn new(
        inner: Exporter,
        keep: impl Fn(&SpanView<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            keep: Box::new(keep),
            counts: EditCounts::default(),
        }
    }

    /// What it dropped, from now on and before.
    pub fn counts(&self) -> EditCounts {
        self.counts.clone()
    }

    /// What is left of a batch, or nothing if all of it is. Asks about each span once.
    fn retain(&self, batch: &Batch) -> Result<Option<Edited>> {
        let first_dropped = batch.iter().position(|span| !(self.keep)(&span));
        let Some(first_dropped) = first_dropped else {
            return Ok(None);
        };
        let mut place = 0;
        let kept = retain_spans(batch.as_request(), |span| {
            let this = place;
            place += 1;
            this < first_dropped || this > first_dropped && (self.keep)(span)
        });
        Ok(Edited::new(batch, kept.map_err(unreadable)?))
    }
}

impl Export for Filtered {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let edited = call_guarded("filter", || self.retain(&batch))??;
        send_edited(&self.inner, batch, edited, &self.counts, until).await
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        self.inner.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        self.inner.shutdown(until).await
    }
}

impl fmt::Debug for Filtered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filtered")
            .field("inner", &self.inner)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Exporter {
    /// Drops the spans that `keep` says no to; see [`Filtered`].
    #[must_use]
    pub fn filtered(self, keep: impl Fn(&SpanView<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self::new(Filtered::new(self, keep))
    }
}
