//! Copies a request with spans and attributes edited or removed.
//!
//! What nobody decides to change is copied byte for byte, unknown fields too. Lengths around changes are written anew, envelopes
//! that have no span left are removed, and resources and scopes that came in several parts are merged into one. If nothing
//! at all changes, the result is the request itself, without a copy.

mod attribute;

use bytes::Bytes;

use super::envelope::bytes_of;
use super::fields;
use super::reader::Fault;
use super::reader::Field;
use super::reader::Fields;
use super::validate::InvalidSpan;
use super::validate::InvalidSpanReason;
use super::validate::locate::explain;
use super::validate::validate;
use super::view::AttributeView;
use super::view::EventView;
use super::view::LinkView;
use super::view::RequestView;
use super::view::ResourceSpansView;
use super::view::ScopeSpansView;
use super::view::SpanView;
use super::writer::OpenMessage;
use super::writer::close;
use super::writer::open;
use super::writer::push_bytes;
use crate::error::WireError;

pub use attribute::AttributeOwner;
pub use attribute::AttributeSlot;
pub use attribute::NewAttributes;
pub use attribute::Settled;

/// Decides what [`rewrite`] keeps, changes and removes.
///
/// Every method keeps everything unless you write another one. The order of calls is that of the request: a resource, then
/// each scope in it, then each span of the scope; the attributes, events and links of something come right after it, and
/// only if it is to [change](Decision::Change).
///
/// # Examples
///
/// Removing health checks, and passwords from all other spans:
///
/// ```
/// use outspan_wire::otlp::AttributeOwner;
/// use outspan_wire::otlp::AttributeSlot;
/// use outspan_wire::otlp::AttributeView;
/// use outspan_wire::otlp::Decision;
/// use outspan_wire::otlp::Rewrite;
/// use outspan_wire::otlp::Settled;
/// use outspan_wire::otlp::SpanEdit;
/// use outspan_wire::otlp::SpanView;
///
/// struct Scrub;
///
/// impl Rewrite for Scrub {
///     fn span(&mut self, span: &SpanView<'_>, _edit: &mut SpanEdit) -> Decision {
///         match span.name() {
///             "GET /health" => Decision::Remove,
///             _ => Decision::Change,
///         }
///     }
///
///     fn attribute(
///         &mut self,
///         _owner: AttributeOwner<'_>,
///         attribute: AttributeView<'_>,
///         slot: AttributeSlot<'_>,
///     ) -> Settled {
///         match attribute.key() {
///             "user.password" => slot.set("user.password", "***"),
///             _ => slot.keep(),
///         }
///     }
/// }
/// ```
pub trait Rewrite {
    /// Decides about a resource. `Change` asks for its attributes; `Remove` takes it away with all its spans.
    fn resource(&mut self, resource: ResourceSpansView<'_>) -> Decision {
        let _ = resource;
        Decision::Keep
    }

    /// Decides about an instrumentation scope. `Change` asks for its attributes; `Remove` takes it away with all its spans.
    fn scope(&mut self, scope: ScopeSpansView<'_>) -> Decision {
        let _ = scope;
        Decision::Keep
    }

    /// Decides about a span. `Change` applies what was set on `edit` and asks for attributes, events and links.
    fn span(&mut self, span: &SpanView<'_>, edit: &mut SpanEdit) -> Decision {
        let _ = (span, edit);
        Decision::Keep
    }

    /// Decides about an event of a span that changes. `Change` asks for its attributes.
    fn event(&mut self, span: &SpanView<'_>, event: EventView<'_>) -> Decision {
        let _ = (span, event);
        Decision::Change
    }

    /// Decides about a link of a span that changes. `Change` asks for its attributes.
    fn link(&mut self, span: &SpanView<'_>, link: LinkView<'_>) -> Decision {
        let _ = (span, link);
        Decision::Change
    }

    /// Settles an attribute of something that changes: keeps it, removes it, or sets another key or value.
    fn attribute(
        &mut self,
        owner: AttributeOwner<'_>,
        attribute: AttributeView<'_>,
        slot: AttributeSlot<'_>,
    ) -> Settled {
        let _ = (owner, attribute);
        slot.keep()
    }

    /// Adds attributes to something that changes, after its own were settled.
    fn new_attributes(&mut self, owner: AttributeOwner<'_>, attributes: &mut NewAttributes<'_>) {
        let _ = (owner, attributes);
    }
}

/// What to do with a part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Copies it byte for byte, and asks nothing more about it.
    Keep,
    /// Asks about everything in it.
    Change,
    /// Leaves it out.
    Remove,
}

/// New values for a span's own fields; what is not set stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpanEdit {
    name: Option<String>,
    trace_state: Option<String>,
    status_message: Option<String>,
}

impl SpanEdit {
    /// Sets the name.
    pub fn name(&mut self, name: impl Into<String>) {
        self.name = Some(name.into());
    }

    /// Sets the trace state.
    pub fn trace_state(&mut self, trace_state: impl Into<String>) {
        self.trace_state = Some(trace_state.into());
    }

    /// Sets the description of the status, whose code stays.
    pub fn status_message(&mut self, message: impl Into<String>) {
        self.status_message = Some(message.into());
    }

    /// Tells whether the field is replaced as a whole.
    fn replaces(&self, number: u32) -> bool {
        match number {
            fields::span::NAME => self.name.is_some(),
            fields::span::TRACE_STATE => self.trace_state.is_some(),
            fields::span::STATUS => self.status_message.is_some(),
            _ => false,
        }
    }
}

/// What [`rewrite`] made, and what it took away.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rewritten {
    /// The new request.
    pub bytes: Bytes,
    /// How many spans it holds.
    pub spans: usize,
    /// Spans that are gone, also with their resource or scope.
    pub removed_spans: usize,
    /// Events that are gone from spans that stayed.
    pub removed_events: usize,
    /// Links that are gone from spans that stayed.
    pub removed_links: usize,
    /// Attributes that are gone from what stayed.
    pub removed_attributes: usize,
    /// Attributes that have another key or value now.
    pub replaced_attributes: usize,
    /// Attributes that were added.
    pub added_attributes: usize,
    /// Envelopes that had no span, or have none any more.
    pub removed_envelopes: usize,
}

/// Copies a request with what `rewriter` decides.
///
/// Dropped counts stay as they are: they tell what limits took away, not what a rule removed.
///
/// # Errors
///
/// Fails if the bytes are no request. Bytes that `validate` accepts never fail.
pub fn rewrite(
    request: &Bytes,
    rewriter: &mut (impl Rewrite + ?Sized),
) -> Result<Rewritten, WireError> {
    let mut copy = Copier {
        rewriter,
        out: Vec::with_capacity(request.len()),
        changed: false,
        counts: Counts::default(),
    };
    copy.request(request)
        .map_err(|fault| explain(fault, request))?;
    let bytes = if copy.changed {
        // What a rule removed must not go on taking memory that nobody counts.
        copy.out.shrink_to_fit();
        Bytes::from(copy.out)
    } else {
        request.clone()
    };
    let counts = copy.counts;
    Ok(Rewritten {
        bytes,
        spans: counts.spans,
        removed_spans: counts.removed_spans,
        removed_events: counts.removed_events,
        removed_links: counts.removed_links,
        removed_attributes: counts.removed_attributes,
        replaced_attributes: counts.replaced_attributes,
        added_attributes: counts.added_attributes,
        removed_envelopes: counts.removed_envelopes,
    })
}

/// Copies a request with the spans that `keep` says yes to.
///
/// # Errors
///
/// Fails if the bytes are no request. Bytes that `validate` accepts never fail.
pub fn retain_spans(
    request: &Bytes,
    keep: impl FnMut(&SpanView<'_>) -> bool,
) -> Result<Rewritten, WireError> {
    struct Retain<F>(F);

    impl<F: FnMut(&SpanView<'_>) -> bool> Rewrite for Retain<F> {
        fn span(&mut self, span: &SpanView<'_>, _edit: &mut SpanEdit) -> Decision {
            if (self.0)(span) {
                Decision::Keep
            } else {
                Decision::Remove
            }
        }
    }

    rewrite(request, &mut Retain(keep))
}

/// Copies a request without its [invalid spans](InvalidSpanReason) and empty envelopes.
///
/// # Errors
///
/// Fails if the bytes are no request. Bytes that `validate` accepts never fail.
pub fn remove_invalid_spans(request: &Bytes) -> Result<Rewritten, WireError> {
    retain_spans(request, |span| InvalidSpanReason::of(span).is_none())
}

/// A request that was checked at the door: everything in it can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Admitted {
    /// The request; the very bytes that came in, if there was nothing to remove.
    pub bytes: Bytes,
    /// How many spans it holds, all of them valid.
    pub spans: usize,
    /// How many spans were refused and removed.
    pub refused_spans: usize,
    /// The first span that was refused; its place is that in the bytes that came in.
    pub first_refused: Option<InvalidSpan>,
}

/// Checks a request from elsewhere and keeps of it what can go on.
///
/// Validates, then removes invalid spans and empty envelopes and merges what came in several parts; usually there is none
/// of these, and nothing is copied. What is refused is counted, for the partial success that OTLP answers with.
///
/// # Errors
///
/// Fails as `validate` does: a broken message is refused whole.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use outspan_wire::otlp::admit;
///
/// // One span without identifiers.
/// let request = Bytes::from_static(&[0x0a, 0x04, 0x12, 0x02, 0x12, 0x00]);
/// let admitted = admit(request)?;
/// assert_eq!((admitted.spans, admitted.refused_spans), (0, 1));
/// assert!(admitted.bytes.is_empty());
/// # Ok::<(), outspan_wire::otlp::WireError>(())
/// ```
pub fn admit(request: Bytes) -> Result<Admitted, WireError> {
    let summary = validate(&request)?;
    if summary.is_clean() {
        return Ok(Admitted {
            bytes: request,
            spans: summary.spans,
            refused_spans: 0,
            first_refused: None,
        });
    }
    let clean = remove_invalid_spans(&request)?;
    Ok(Admitted {
        bytes: clean.bytes,
        spans: clean.spans,
        refused_spans: clean.removed_spans,
        first_refused: summary.first_invalid,
    })
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    spans: usize,
    removed_spans: usize,
    removed_events: usize,
    removed_links: usize,
    removed_attributes: usize,
    replaced_attributes: usize,
    added_attributes: usize,
    removed_envelopes: usize,
}

/// The widths that lengths are expected to take; another one costs a move of the message.
const ENVELOPE_WIDTH: usize = 3;
const SPAN_WIDTH: usize = 2;
const ITEM_WIDTH: usize = 1;

/// The way through a request, writing as it goes.
struct Copier<'r, R: ?Sized> {
    rewriter: &'r mut R,
    out: Vec<u8>,
    /// Whether anything differs from the request by now.
    changed: bool,
    counts: Counts,
}

impl<R: Rewrite + ?Sized> Copier<'_, R> {
    fn request(&mut self, request: &[u8]) -> Result<(), Fault> {
        let mut views = RequestView::new(request).resource_spans();
        let mut left = Fields::new(request);
        while let Some(field) = left.read()? {
            if field.number != fields::request::RESOURCE_SPANS {
                self.copy(&field);
                continue;
            }
            bytes_of(&field)?;
            if let Some(view) = views.next() {
                self.resource_spans(view)?;
            }
        }
        Ok(())
    }

    /// Copies an envelope with its spans, or nothing if none are left.
    fn resource_spans(&mut self, view: ResourceSpansView<'_>) -> Result<(), Fault> {
        let decision = self.rewriter.resource(view);
        if decision == Decision::Remove {
            return self.remove_resource_spans(view.bytes());
        }
        let envelope = self.open_envelope(fields::request::RESOURCE_SPANS);
        let mut scopes = view.scope_spans();
        let mut subject_is_written = false;
        let mut left = Fields::new(view.bytes());
        while let Some(field) = left.read()? {
            match field.number {
                fields::resource_spans::SCOPE_SPANS => {
                    bytes_of(&field)?;
                    if let Some(scope) = scopes.next() {
                        self.scope_spans(scope)?;
                    }
                }
                fields::resource_spans::RESOURCE if subject_is_written => {}
                fields::resource_spans::RESOURCE => {
                    let owner = AttributeOwner::Resource(view.resource());
                    self.subject(&field, left, decision, owner)?;
                    subject_is_written = true;
                }
                _ => self.copy(&field),
            }
        }
        if !subject_is_written && decision == Decision::Change {
            let owner = AttributeOwner::Resource(view.resource());
            self.absent_subject(fields::resource_spans::RESOURCE, owner);
        }
        self.close_envelope(envelope);
        Ok(())
    }

    fn scope_spans(&mut self, view: ScopeSpansView<'_>) -> Result<(), Fault> {
        let decision = self.rewriter.scope(view);
        if decision == Decision::Remove {
            return self.remove_scope_spans(view.bytes());
        }
        let envelope = self.open_envelope(fields::resource_spans::SCOPE_SPANS);
        let mut subject_is_written = false;
        let mut left = Fields::new(view.bytes());
        while let Some(field) = left.read()? {
            match field.number {
                fields::scope_spans::SPANS => {
                    let span = SpanView::new(bytes_of(&field)?, view);
                    self.span(&field, &span)?;
                }
                fields::scope_spans::SCOPE if subject_is_written => {}
                fields::scope_spans::SCOPE => {
                    let owner = AttributeOwner::Scope(view.scope());
                    self.subject(&field, left, decision, owner)?;
                    subject_is_written = true;
                }
                _ => self.copy(&field),
            }
        }
        if !subject_is_written && decision == Decision::Change {
            let owner = AttributeOwner::Scope(view.scope());
            self.absent_subject(fields::scope_spans::SCOPE, owner);
        }
        self.close_envelope(envelope);
        Ok(())
    }

    /// Copies the resource or the scope of an envelope: its first part, and those in what is left of the envelope.
    fn subject(
        &mut self,
        first: &Field<'_>,
        left: Fields<'_>,
        decision: Decision,
        owner: AttributeOwner<'_>,
    ) -> Result<(), Fault> {
        let part = bytes_of(first)?;
        let mut others = left
            .filter_map(|field| field.bytes_of(first.number))
            .peekable();
        let is_parted = others.peek().is_some();
        if decision == Decision::Keep && !is_parted {
            self.copy(first);
            return Ok(());
        }
        self.changed |= is_parted;
        let message = open(&mut self.out, first.number, ITEM_WIDTH);
        for part in std::iter::once(part).chain(others) {
            if decision == Decision::Keep {
                self.out.extend_from_slice(part);
            } else {
                self.with_attributes(part, owner)?;
            }
        }
        if decision == Decision::Change {
            self.add_attributes(owner);
        }
        close(&mut self.out, message);
        Ok(())
    }

    /// Writes a resource or scope that was not there, if it gets attributes.
    fn absent_subject(&mut self, number: u32, owner: AttributeOwner<'_>) {
        let start = self.out.len();
        let message = open(&mut self.out, number, ITEM_WIDTH);
        self.add_attributes(owner);
        if message.is_empty(&self.out) {
            self.out.truncate(start);
            return;
        }
        close(&mut self.out, message);
    }

    fn span(&mut self, field: &Field<'_>, span: &SpanView<'_>) -> Result<(), Fault> {
        let mut edit = SpanEdit::default();
        match self.rewriter.span(span, &mut edit) {
            Decision::Keep => self.copy(field),
            Decision::Change => self.changed_span(span, &edit)?,
            Decision::Remove => {
                self.changed = true;
                self.counts.removed_spans += 1;
                return Ok(());
            }
        }
        self.counts.spans += 1;
        Ok(())
    }

    fn changed_span(&mut self, span: &SpanView<'_>, edit: &SpanEdit) -> Result<(), Fault> {
        let owner = AttributeOwner::Span(span);
        let message = open(&mut self.out, fields::scope_spans::SPANS, SPAN_WIDTH);
        let mut left = Fields::new(span.bytes());
        while let Some(field) = left.read()? {
            match field.number {
                fields::span::ATTRIBUTES => self.attribute(&field, owner)?,
                fields::span::EVENTS => self.event(&field, span)?,
                fields::span::LINKS => self.link(&field, span)?,
                number if edit.replaces(number) => self.changed = true,
                _ => self.copy(&field),
            }
        }
        self.edited_fields(span, edit);
        self.add_attributes(owner);
        close(&mut self.out, message);
        Ok(())
    }

    fn edited_fields(&mut self, span: &SpanView<'_>, edit: &SpanEdit) {
        if let Some(name) = &edit.name {
            push_bytes(&mut self.out, fields::span::NAME, name.as_bytes());
            self.changed = true;
        }
        if let Some(trace_state) = &edit.trace_state {
            let number = fields::span::TRACE_STATE;
            push_bytes(&mut self.out, number, trace_state.as_bytes());
            self.changed = true;
        }
        let Some(text) = &edit.status_message else {
            return;
        };
        let status = open(&mut self.out, fields::span::STATUS, ITEM_WIDTH);
        let parts = Fields::new(span.bytes());
        for part in parts.filter_map(|field| field.bytes_of(fields::span::STATUS)) {
            let kept = Fields::new(part).filter(|field| field.number != fields::status::MESSAGE);
            kept.for_each(|field| self.out.extend_from_slice(field.raw));
        }
        push_bytes(&mut self.out, fields::status::MESSAGE, text.as_bytes());
        close(&mut self.out, status);
        self.changed = true;
    }

    fn event(&mut self, field: &Field<'_>, span: &SpanView<'_>) -> Result<(), Fault> {
        let event = EventView::new(bytes_of(field)?);
        match self.rewriter.event(span, event) {
            Decision::Keep => self.copy(field),
            Decision::Remove => {
                self.changed = true;
                self.counts.removed_events += 1;
            }
            Decision::Change => {
                self.item(
                    field.number,
                    event.bytes(),
                    AttributeOwner::Event(span, event),
                )?;
            }
        }
        Ok(())
    }

    fn link(&mut self, field: &Field<'_>, span: &SpanView<'_>) -> Result<(), Fault> {
        let link = LinkView::new(bytes_of(field)?);
        match self.rewriter.link(span, link) {
            Decision::Keep => self.copy(field),
            Decision::Remove => {
                self.changed = true;
                self.counts.removed_links += 1;
            }
            Decision::Change => {
                self.item(field.number, link.bytes(), AttributeOwner::Link(span, link))?;
            }
        }
        Ok(())
    }

    /// Copies an event or a link whose attributes may change.
    fn item(&mut self, number: u32, item: &[u8], owner: AttributeOwner<'_>) -> Result<(), Fault> {
        let message = open(&mut self.out, number, ITEM_WIDTH);
        self.with_attributes(item, owner)?;
        self.add_attributes(owner);
        close(&mut self.out, message);
        Ok(())
    }

    /// Copies the fields of a message, asking about its attributes.
    fn with_attributes(&mut self, message: &[u8], owner: AttributeOwner<'_>) -> Result<(), Fault> {
        let mut left = Fields::new(message);
        while let Some(field) = left.read()? {
            if field.number == owner.attributes_number() {
                self.attribute(&field, owner)?;
            } else {
                self.copy(&field);
            }
        }
        Ok(())
    }

    fn attribute(&mut self, field: &Field<'_>, owner: AttributeOwner<'_>) -> Result<(), Fault> {
        let attribute = AttributeView::new(bytes_of(field)?);
        let slot = AttributeSlot::new(&mut self.out, field, owner);
        match self.rewriter.attribute(owner, attribute, slot).change() {
            attribute::Change::Kept => {}
            attribute::Change::Replaced => {
                self.changed = true;
                self.counts.replaced_attributes += 1;
            }
            attribute::Change::Removed => {
                self.changed = true;
                self.counts.removed_attributes += 1;
            }
        }
        Ok(())
    }

    fn add_attributes(&mut self, owner: AttributeOwner<'_>) {
        let mut attributes = NewAttributes::new(&mut self.out, owner);
        self.rewriter.new_attributes(owner, &mut attributes);
        let added = attributes.count();
        self.changed |= added > 0;
        self.counts.added_attributes += added;
    }

    fn copy(&mut self, field: &Field<'_>) {
        self.out.extend_from_slice(field.raw);
    }

    fn open_envelope(&mut self, number: u32) -> Envelope {
        let start = self.out.len();
        Envelope {
            start,
            counts: self.counts,
            message: open(&mut self.out, number, ENVELOPE_WIDTH),
        }
    }

    fn close_envelope(&mut self, envelope: Envelope) {
        let before = envelope.counts;
        if self.counts.spans > before.spans {
            close(&mut self.out, envelope.message);
            return;
        }
        self.out.truncate(envelope.start);
        self.changed = true;
        self.counts.removed_envelopes += 1;
        // What happened to the attributes of a resource or scope that is gone counts no more.
        self.counts.removed_attributes = before.removed_attributes;
        self.counts.replaced_attributes = before.replaced_attributes;
        self.counts.added_attributes = before.added_attributes;
    }

    /// Leaves an envelope out, and counts what is in it.
    fn remove_resource_spans(&mut self, envelope: &[u8]) -> Result<(), Fault> {
        let mut left = Fields::new(envelope);
        while let Some(field) = left.read()? {
            if field.number == fields::resource_spans::SCOPE_SPANS {
                self.remove_scope_spans(bytes_of(&field)?)?;
            }
        }
        self.changed = true;
        self.counts.removed_envelopes += 1;
        Ok(())
    }

    fn remove_scope_spans(&mut self, envelope: &[u8]) -> Result<(), Fault> {
        let mut left = Fields::new(envelope);
        while let Some(field) = left.read()? {
            if field.number == fields::scope_spans::SPANS {
                bytes_of(&field)?;
                self.counts.removed_spans += 1;
            }
        }
        self.changed = true;
        self.counts.removed_envelopes += 1;
        Ok(())
    }
}

/// An envelope that was begun.
struct Envelope {
    start: usize,
    /// The counts before it.
    counts: Counts,
    message: OpenMessage,
}
