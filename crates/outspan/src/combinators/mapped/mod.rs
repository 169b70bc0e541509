//! Changing spans on their way.

mod edit;
mod edited;

use std::fmt;

use outspan_wire::otlp::AttributeOwner;
use outspan_wire::otlp::AttributeSlot;
use outspan_wire::otlp::AttributeView;
use outspan_wire::otlp::Decision;
use outspan_wire::otlp::EventView;
use outspan_wire::otlp::LinkView;
use outspan_wire::otlp::NewAttributes;
use outspan_wire::otlp::Rewrite;
use outspan_wire::otlp::Settled;
use outspan_wire::otlp::SpanEdit;
use outspan_wire::otlp::SpanView;
use outspan_wire::otlp::rewrite;

pub use self::edit::AttributeValue;
pub use self::edit::Edit;
pub use self::edited::EditCounts;
pub(super) use self::edited::Edited;
pub(super) use self::edited::send_edited;
pub(super) use self::edited::unreadable;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::guard::call_guarded;

/// Makes of a batch what is to be sent; nothing if that is the batch itself.
type Change = dyn Fn(&Batch) -> Result<Option<Edited>> + Send + Sync;

/// Changes spans as a closure says.
///
/// The closure sees each span with its resource and scope, and says on an [`Edit`] what to change. Spans that would not
/// change are copied byte for byte, unknown fields too; a batch in which nothing changes goes on as it is, without a copy.
/// [`rewriting`](Self::rewriting) takes a [`Rewrite`], which can also change resources, scopes, events and links.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "http")] {
/// use outspan::otlp;
///
/// # fn build() -> outspan::Result<()> {
/// let exporter = otlp::http("http://localhost:4318").build()?
///     .mapped(|span, edit| {
///         edit.remove("user.email");
///         edit.rename("http.method", "http.request.method");
///         if span.name().starts_with("GET /user/") {
///             edit.name("GET /user/{id}");
///             edit.set("has.id", true);
///         }
///     });
/// # drop(exporter);
/// # Ok(())
/// # }
/// # build().unwrap();
/// # }
/// ```
///
/// # What success means
///
/// What it means inside. Spans that a [`Rewrite`] removed are [`Delivery::filtered`].
///
/// # Errors
///
/// It creates one of its own: [`Internal`](crate::ErrorKind::Internal), for good, if the closure panics; then nothing of the batch
/// is sent. Errors from inside pass through, except that with spans removed an error becomes a delivery whose rest is what
/// was kept.
///
/// # Cancellation
///
/// Dropping the future drops the inner export.
///
/// # What it holds
///
/// The batch of each export that is under way, and its changed copy. Flush and shutdown go inside.
///
/// # Where it belongs
///
/// Outside the retry and the fan-out, so that a batch is changed once, and inside the queue. What comes back as rest is
/// changed already, and sent again it is changed again: let the change be one that does nothing the second time (set, do
/// not append).
pub struct Mapped {
    inner: Exporter,
    change: Box<Change>,
    counts: EditCounts,
}

impl Mapped {
    /// Wraps `inner`, which gets the spans as `map` changes them.
    pub fn new(
        inner: Exporter,
        map: impl Fn(&SpanView<'_>, &mut Edit) + Send + Sync + 'static,
    ) -> Self {
        Self::changing(inner, move |batch| Mapping::run(&map, batch))
    }

    /// Wraps `inner`, which gets each batch as a rewriter changes it that `make` makes for it.
    pub fn rewriting<R: Rewrite>(
        inner: Exporter,
        make: impl Fn() -> R + Send + Sync + 'static,
    ) -> Self {
        Self::changing(inner, move |batch| {
            let rewritten = rewrite(batch.as_request(), &mut make()).map_err(unreadable)?;
            Ok(Edited::new(batch, rewritten))
        })
    }

    fn changing(
        inner: Exporter,
        change: impl Fn(&Batch) -> Result<Option<Edited>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            change: Box::new(change),
            counts: EditCounts::default(),
        }
    }

    /// What it changed, from now on and before.
    pub fn counts(&self) -> EditCounts {
        self.counts.clone()
    }
}

impl Export for Mapped {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let edited = call_guarded("change", || (self.change)(&batch))??;
        send_edited(&self.inner, batch, edited, &self.counts, until).await
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        self.inner.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        self.inner.shutdown(until).await
    }
}

impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapped")
            .field("inner", &self.inner)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// Asks a closure about each span, once.
struct Mapping<'a, M> {
    map: &'a M,
    edit: Edit,
    /// The span that is asked about next, from 0.
    place: usize,
    /// The first span that changes; `edit` has what it changes to.
    first: usize,
}

impl<M: Fn(&SpanView<'_>, &mut Edit)> Mapping<'_, M> {
    fn run(map: &M, batch: &Batch) -> Result<Option<Edited>> {
        let mut edit = Edit::default();
        let first = batch.iter().position(|span| {
            edit.clear();
            map(&span, &mut edit);
            edit.changes(&span)
        });
        let Some(first) = first else {
            return Ok(None);
        };
        let mut mapping = Mapping {
            map,
            edit,
            place: 0,
            first,
        };
        let rewritten = rewrite(batch.as_request(), &mut mapping).map_err(unreadable)?;
        Ok(Edited::new(batch, rewritten))
    }
}

impl<M: Fn(&SpanView<'_>, &mut Edit)> Rewrite for Mapping<'_, M> {
    fn span(&mut self, span: &SpanView<'_>, edit: &mut SpanEdit) -> Decision {
        let place = self.place;
        self.place += 1;
        if place < self.first {
            return Decision::Keep;
        }
        if place > self.first {
            self.edit.clear();
            (self.map)(span, &mut self.edit);
        }
        if !self.edit.changes(span) {
            return Decision::Keep;
        }
        self.edit.hand_over(edit);
        Decision::Change
    }

    fn event(&mut self, _span: &SpanView<'_>, _event: EventView<'_>) -> Decision {
        Decision::Keep
    }

    fn link(&mut self, _span: &SpanView<'_>, _link: LinkView<'_>) -> Decision {
        Decision::Keep
    }

    fn attribute(
        &mut self,
        owner: AttributeOwner<'_>,
        attribute: AttributeView<'_>,
        slot: AttributeSlot<'_>,
    ) -> Settled {
        match owner {
            AttributeOwner::Span(span) => self.edit.settle(span, attribute, slot),
            _ => slot.keep(),
        }
    }

    fn new_attributes(&mut self, owner: AttributeOwner<'_>, attributes: &mut NewAttributes<'_>) {
        if let AttributeOwner::Span(_) = owner {
            self.edit.add_missing(attributes);
        }
    }
}

impl Exporter {
    /// Changes spans as `map` says; see [`Mapped`].
    #[must_use]
    pub fn mapped(self, map: impl Fn(&SpanView<'_>, &mut Edit) + Send + Sync + 'static) -> Self {
        Self::new(Mapped::new(self, map))
    }

    /// Changes batches as a rewriter says that `make` makes for each of them; see [`Mapped`].
    #[must_use]
    pub fn rewritten<R: Rewrite>(self, make: impl Fn() -> R + Send + Sync + 'static) -> Self {
        Self::new(Mapped::rewriting(self, make))
    }
}
