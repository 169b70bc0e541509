//! Finished spans as bytes.

mod delivery;
pub(crate) mod fates;
#[cfg(feature = "_network")]
pub(crate) mod forms;
mod plan;

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use outspan_wire::otlp;
use outspan_wire::otlp::Split;
use outspan_wire::otlp::WireError;

#[cfg(feature = "_network")]
use crate::Compression;
use crate::Error;
use crate::Result;
use crate::budget::Budget;

pub use self::delivery::Delivery;
pub use self::delivery::Undelivered;
pub(crate) use self::plan::Plan;

use self::fates::Pending;
#[cfg(feature = "_network")]
use self::forms::Forms;

/// What a batch takes besides its bytes, in bytes: its own fields, those of its allocations, and its place in a queue.
const OVERHEAD: usize = 512;

/// Holds finished spans: a valid `ExportTraceServiceRequest` in protobuf form, never changed.
///
/// Cloning costs a reference count, so retries, fan-outs and queues share one allocation. What a destination needs on
/// top (a compressed form, a JSON form) is made once and shared by the clones as well.
#[derive(Clone)]
pub struct Batch {
    shared: Arc<Shared>,
    /// The notes of fan-outs: who still misses what.
    pending: Option<Arc<Pending>>,
    /// The budget of the queue that exports it, which pays for the forms that exporters make.
    payer: Option<Arc<Budget>>,
    /// The parts in which an exporter sends it, which found it too large.
    plan: Option<Arc<Plan>>,
    /// Whether it is a part of a batch that is too large.
    is_part: bool,
}

/// A part of a batch.
#[derive(Debug)]
pub(crate) struct BatchPart {
    pub(crate) batch: Batch,
    /// Whether it is one span that takes more bytes than a part may have.
    #[cfg_attr(not(feature = "_network"), allow(dead_code))]
    pub(crate) is_oversized: bool,
}

struct Shared {
    request: Bytes,
    spans: usize,
    #[cfg(feature = "_network")]
    forms: Forms,
}

/// A form of a batch on the wire.
#[cfg(feature = "_network")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) json: bool,
    pub(crate) compression: Compression,
    pub(crate) level: u32,
}

/// What [`Batch::from_request`] made of a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Checked {
    /// The valid spans.
    pub batch: Batch,
    /// How many spans were left out, because their ids are missing, zero or of the wrong length.
    pub refused: usize,
    /// Why the first of them was left out.
    pub reason: Option<String>,
}

impl Batch {
    /// Makes the empty batch. Exporters deliver it by doing nothing.
    pub fn empty() -> Self {
        Self::trusted(Bytes::new(), 0)
    }

    /// Takes an `ExportTraceServiceRequest` (or `TracesData`, which is the same on the wire) in protobuf form.
    ///
    /// The bytes are validated in one pass and kept as they are; unknown fields survive. Spans without valid ids are
    /// left out and counted, so that the good ones go on.
    ///
    /// # Errors
    ///
    /// [`Refused`](crate::ErrorKind::Refused) if the bytes are no such message; it says what is wrong and at which byte.
    pub fn from_request(request: impl Into<Bytes>) -> Result<Checked> {
        let admitted = otlp::admit(request.into())
            .map_err(|e| Error::refused("not a valid OTLP trace request").with_source(e))?;
        Ok(Checked {
            batch: Self::trusted(admitted.bytes, admitted.spans),
            refused: admitted.refused_spans,
            reason: admitted.first_refused.map(|first| first.to_string()),
        })
    }

    /// Takes one OTLP JSON value: an `ExportTraceServiceRequest` or `TracesData`.
    ///
    /// # Errors
    ///
    /// [`Refused`](crate::ErrorKind::Refused) if it is not that; it says what is wrong, at which line and column.
    pub fn from_json(text: &[u8]) -> Result<Checked> {
        let mut request = Vec::new();
        otlp::read_json(text, &mut request)
            .map_err(|e| Error::refused("not valid OTLP JSON").with_source(e))?;
        Self::from_request(request)
    }

    /// Takes bytes that our own encoder, splitter or merger made.
    pub(crate) fn trusted(request: Bytes, spans: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                request,
                spans,
                #[cfg(feature = "_network")]
                forms: Forms::default(),
            }),
            pending: None,
            payer: None,
            plan: None,
            is_part: false,
        }
    }

    /// Takes bytes that were made of this batch; the same queue pays for their forms.
    pub(crate) fn derived(&self, request: Bytes, spans: usize) -> Self {
        Self {
            payer: self.payer.clone(),
            ..Self::trusted(request, spans)
        }
    }

    /// The same spans, with a queue that pays for the forms that exporters make.
    pub(crate) fn with_payer(self, payer: &Arc<Budget>) -> Self {
        Self {
            payer: Some(Arc::clone(payer)),
            ..self
        }
    }

    /// The budget that pays for forms and parts.
    pub(crate) fn payer(&self) -> Option<&Arc<Budget>> {
        self.payer.as_ref()
    }

    /// The forms that exporters made or are making.
    #[cfg(feature = "_network")]
    pub(crate) fn forms(&self) -> &Forms {
        &self.shared.forms
    }

    /// Lets go of the forms that exporters made.
    pub(crate) fn forget_forms(&self) {
        #[cfg(feature = "_network")]
        self.forms().forget_made();
    }

    /// Whether a fan-out noted who still misses what of it, or an exporter in which parts to send it.
    pub(crate) fn is_noted(&self) -> bool {
        self.has_fates() || self.plan.is_some()
    }

    /// Whether a fan-out noted who still misses what of it.
    pub(crate) fn has_fates(&self) -> bool {
        self.pending.is_some()
    }

    /// The parts in which the exporter with this number sends it.
    pub(crate) fn plan_for(&self, exporter: u64) -> Option<Arc<Plan>> {
        let plan = self.plan.as_ref();
        plan.filter(|plan| plan.is_for(exporter)).map(Arc::clone)
    }

    /// The same spans with a plan, or without one.
    pub(crate) fn with_plan(self, plan: Option<Arc<Plan>>) -> Self {
        Self { plan, ..self }
    }

    /// Whether it is a part of a batch that is too large.
    pub(crate) fn is_part(&self) -> bool {
        self.is_part
    }

    /// The same spans as a batch of their own, which is no part of another.
    pub(crate) fn as_whole(&self) -> Self {
        Self {
            is_part: false,
            ..self.clone()
        }
    }

    /// The note of one fan-out.
    pub(crate) fn pending_of(&self, fan_out: u64) -> Option<&Pending> {
        self.pending.as_ref()?.find(fan_out)
    }

    /// The same spans with a fan-out's note, in place of the one that it had. Notes of others stay.
    pub(crate) fn with_pending(self, pending: Pending) -> Self {
        let pending = pending.before(self.pending.as_ref());
        Self {
            pending: Some(Arc::new(pending)),
            ..self
        }
    }

    /// The same spans without the note of one fan-out.
    pub(crate) fn without_pending_of(self, fan_out: u64) -> Self {
        let pending = self.pending.as_ref();
        Self {
            pending: pending.and_then(|notes| Pending::without(notes, fan_out)),
            ..self
        }
    }

    /// The same spans without any note.
    pub(crate) fn without_pending(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            pending: None,
            payer: self.payer.clone(),
            plan: None,
            is_part: self.is_part,
        }
    }

    /// The `ExportTraceServiceRequest` in protobuf form.
    pub fn as_request(&self) -> &Bytes {
        &self.shared.request
    }

    /// How many spans it holds.
    pub fn spans(&self) -> usize {
        self.shared.spans
    }

    /// Whether it holds no span.
    pub fn is_empty(&self) -> bool {
        self.shared.spans == 0
    }

    /// How many bytes the protobuf form has.
    pub fn size(&self) -> usize {
        self.shared.request.len()
    }

    /// How many bytes of memory it holds: the protobuf form, the forms made from it so far, and what holds them together.
    pub fn memory(&self) -> usize {
        self.own_memory() + self.forms_memory()
    }

    /// How many bytes of memory it holds without the forms made from it, for which a queue pays when they are made.
    pub(crate) fn own_memory(&self) -> usize {
        OVERHEAD + self.size()
    }

    /// Reads the spans, each with its resource and scope at hand, without allocating.
    pub fn iter(&self) -> impl Iterator<Item = otlp::SpanView<'_>> {
        self.view().spans()
    }

    /// Reads the batch as a whole.
    pub fn view(&self) -> otlp::RequestView<'_> {
        otlp::RequestView::new(&self.shared.request)
    }

    /// The OTLP JSON form, on one line, made at each call.
    ///
    /// It can be thirty times as large as the batch; [`to_json_within`](Self::to_json_within) has a bound.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.size().saturating_mul(3));
        otlp::write_json(&self.shared.request, &mut text);
        text
    }

    /// The OTLP JSON form as [`to_json`](Self::to_json) makes it, or `None` if it would have more than `max_bytes` bytes.
    ///
    /// Writing stops at the bound, so this takes about `max_bytes` bytes of memory at most.
    pub fn to_json_within(&self, max_bytes: usize) -> Option<Vec<u8>> {
        otlp::write_json_within(&self.shared.request, max_bytes)
    }

    /// Whether the resource and the scope leave room for any span in a JSON form of at most `max_bytes` bytes. Where not,
    /// halving the batch does not help.
    pub(crate) fn has_room_in_json(&self, max_bytes: usize) -> bool {
        otlp::is_json_head_within(&self.shared.request, max_bytes)
    }

    /// Splits into batches of at most `spans` spans (at least one).
    ///
    /// Parts are made one at a time, when they are asked for. Each one repeats the resources and scopes of its spans, so all
    /// parts together can be far larger than the batch.
    pub fn split_by_spans(&self, spans: usize) -> impl Iterator<Item = Self> + Send + use<'_> {
        self.parts_by_spans(spans).map(|part| part.batch)
    }

    /// Splits into batches of at most `bytes` bytes. A span that is larger by itself comes out alone.
    ///
    /// Parts are made one at a time, when they are asked for. Each one repeats the resources and scopes of its spans, so all
    /// parts together can be far larger than the batch.
    pub fn split_by_bytes(&self, bytes: usize) -> impl Iterator<Item = Self> + Send + use<'_> {
        self.parts_by_bytes(bytes).map(|part| part.batch)
    }

    pub(crate) fn parts_by_spans(&self, spans: usize) -> Parts<'_> {
        if self.spans() <= spans {
            return Parts::whole(self);
        }
        let spans = NonZeroUsize::new(spans).unwrap_or(NonZeroUsize::MIN);
        Parts::new(self, Split::by_spans(self.as_request(), spans))
    }

    pub(crate) fn parts_by_bytes(&self, bytes: usize) -> Parts<'_> {
        if self.size() <= bytes {
            return Parts::whole(self);
        }
        Parts::new(self, Split::by_bytes(self.as_request(), bytes))
    }

    /// Splits so that no part has more than `bytes` bytes or `spans` spans, unless the parts together would take much more
    /// memory than the batch does: then it stays whole, and exporters split it part by part when they send it.
    pub(crate) fn split_within(&self, bytes: usize, spans: usize) -> Vec<Self> {
        let max_total = self.size().saturating_add(self.size() / 4);
        let by_bytes = self.parts_by_bytes(bytes);
        if by_bytes.total_bytes() > max_total {
            return vec![self.clone()];
        }
        let mut parts = Vec::new();
        for part in by_bytes {
            let by_spans = part.batch.parts_by_spans(spans);
            if by_spans.total_bytes() > max_total {
                parts.push(part.batch);
            } else {
                parts.extend(by_spans.map(|part| part.batch));
            }
        }
        parts
    }

    /// Takes a range of the spans, counted from 0, into a batch of its own.
    pub(crate) fn cut(&self, spans: Range<usize>) -> Self {
        self.cut_all(&[spans])
    }

    /// Takes a range of the spans, counted from 0, as a part of this batch: without notes and plan.
    pub(crate) fn part(&self, spans: Range<usize>) -> Self {
        Self {
            is_part: true,
            ..self.cut(spans).without_pending()
        }
    }

    /// Takes ranges of the spans, counted from 0 and ascending, into one batch.
    pub(crate) fn cut_all(&self, ranges: &[Range<usize>]) -> Self {
        let count: usize = ranges.iter().map(Range::len).sum();
        if count >= self.spans() {
            return self.clone();
        }
        let mut ordinal = 0;
        let mut ranges = ranges.iter().peekable();
        let cut = otlp::retain_spans(self.as_request(), |_span| {
            while ranges.next_if(|range| range.end <= ordinal).is_some() {}
            let is_kept = ranges.peek().is_some_and(|range| range.contains(&ordinal));
            ordinal += 1;
            is_kept
        });
        match cut {
            Ok(cut) => self.derived(cut.bytes, cut.spans),
            // It fails on bytes that are no request alone, which a batch never holds.
            Err(_) => self.clone(),
        }
    }

    /// How many bytes the spans would have if each came with a resource and a scope of its own, as in many other formats.
    #[cfg(any(feature = "http", feature = "jaeger", feature = "zipkin"))]
    pub(crate) fn spread_size(&self) -> usize {
        let mut total: usize = 0;
        for resource_spans in self.view().resource_spans() {
            let scopes = resource_spans.scope_spans();
            let scopes: usize = scopes.map(|scope| scope.bytes().len()).sum();
            let resource = resource_spans.bytes().len().saturating_sub(scopes);
            for scope_spans in resource_spans.scope_spans() {
                let bytes = scope_spans.bytes().len();
                let sizes = scope_spans.spans().map(|span| span.bytes().len());
                let (count, spans) =
                    sizes.fold((0, 0), |(count, sum), size| (count + 1, sum + size));
                let shared = resource + bytes.saturating_sub(spans);
                total = total.saturating_add(shared.saturating_mul(count) + spans);
            }
        }
        total
    }

    /// Puts batches together into one, resources and scopes as they are.
    pub fn concatenate(batches: &[Self]) -> Self {
        if let [only] = batches {
            return only.clone();
        }
        let spans = batches.iter().map(Self::spans).sum();
        let size = batches.iter().map(Self::size).sum();
        let mut request = Vec::with_capacity(size);
        for batch in batches {
            request.extend_from_slice(batch.as_request());
        }
        Self::trusted(request.into(), spans)
    }

    #[cfg(feature = "_network")]
    fn forms_memory(&self) -> usize {
        self.shared.forms.bytes()
    }

    #[cfg(not(feature = "_network"))]
    fn forms_memory(&self) -> usize {
        0
    }
}

/// Iterates over the parts of a batch, which are made one at a time.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    batch: &'a Batch,
    /// Absent where the batch is its only part.
    split: Option<Split<'a>>,
    is_done: bool,
}

impl<'a> Parts<'a> {
    fn whole(batch: &'a Batch) -> Self {
        Self {
            batch,
            split: None,
            is_done: false,
        }
    }

    /// Takes a split. It fails on bytes that are no request alone, which a batch never holds.
    fn new(batch: &'a Batch, split: Result<Split<'a>, WireError>) -> Self {
        Self {
            split: split.ok(),
            ..Self::whole(batch)
        }
    }

    /// Returns how many bytes the parts to come take together.
    pub(crate) fn total_bytes(&self) -> usize {
        match &self.split {
            Some(split) => split.total_bytes(),
            None => self.batch.size(),
        }
    }
}

impl Iterator for Parts<'_> {
    type Item = BatchPart;

    fn next(&mut self) -> Option<BatchPart> {
        if let Some(split) = &mut self.split {
            let part = split.next()?;
            return Some(BatchPart {
                batch: self.batch.derived(part.bytes, part.spans),
                is_oversized: part.oversized,
            });
        }
        if std::mem::replace(&mut self.is_done, true) {
            return None;
        }
        Some(BatchPart {
            batch: self.batch.clone(),
            is_oversized: false,
        })
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("spans", &self.spans())
            .field("bytes", &self.size())
            .finish()
    }
}
