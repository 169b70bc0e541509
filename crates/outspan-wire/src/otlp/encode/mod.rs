//! Spans of any source to `ExportTraceServiceRequest`.
//!
//! Each span is written as protobuf at once, into the buffer of its group: the spans of one scope in one
//! resource. [`Encoder::finish`] then puts the groups together:
//!
//! ```text
//! request        = resource_spans*                                  first-seen order
//! resource_spans = 0x0a len  resource? schema_url?  scope_spans*    the head stands ready in EncodedResource
//! scope_spans    = 0x12 len  scope? schema_url?  (0x12 len span)*   head and spans stand ready in the group
//! ```
//!
//! so that only the outer lengths remain to be computed and every byte is copied once, into one allocation
//! of the exact size.

mod origin;
mod span;
mod value;

use std::collections::HashMap;

use bytes::Bytes;

pub use self::origin::EncodedResource;
pub use self::origin::ResourceWriter;
use self::origin::ScopeScratch;
pub use self::origin::ScopeWriter;
pub use self::span::EventWriter;
pub use self::span::LinkWriter;
pub use self::span::SpanWriter;
pub use self::value::ArrayWriter;
pub use self::value::EncodeValue;
pub use self::value::MapWriter;
pub use self::value::ValueWriter;
pub use self::value::Written;
use super::fields::request;
use super::fields::resource_spans;
use super::fields::scope_spans;
use super::limits::SpanLimits;
use super::reader::WireType;
use super::writer::close;
use super::writer::delimited_len;
use super::writer::open;
use super::writer::push_tag;
use super::writer::push_varint;

/// Bytes of span buffers that stay allocated between batches, all groups together.
///
/// The usual batch of 512 spans takes a quarter of a megabyte; what a giant one needed goes back.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Groups that are remembered between batches. A program has a handful of scopes; one that makes scopes
/// without end must not make the encoder grow without end.
const KEPT_GROUPS_MAX: usize = 256;

/// Resources that are remembered between batches, for the same reason.
const KEPT_RESOURCES_MAX: usize = 64;

/// Tag and longest length of an envelope's field.
const ENVELOPE_LEN_MAX: usize = 6;

/// Likely width of a span's length: two bytes serve from 128 bytes to 16 KiB.
const SPAN_LENGTH_WIDTH: usize = 2;

/// A span that can name its fields.
///
/// # Examples
///
/// ```
/// use outspan_wire::otlp::EncodeSpan;
/// use outspan_wire::otlp::EncodedResource;
/// use outspan_wire::otlp::Encoder;
/// use outspan_wire::otlp::ScopeWriter;
/// use outspan_wire::otlp::SpanWriter;
///
/// struct Visit {
///     trace_id: [u8; 16],
///     span_id: [u8; 8],
///     page: String,
///     start: u64,
///     end: u64,
/// }
///
/// impl EncodeSpan for Visit {
///     fn encode_scope(&self, scope: &mut ScopeWriter<'_>) {
///         scope.name("visits");
///     }
///
///     fn encode(&self, span: &mut SpanWriter<'_>) {
///         span.trace_id(self.trace_id);
///         span.span_id(self.span_id);
///         span.name("visit");
///         span.start_time_unix_nano(self.start);
///         span.end_time_unix_nano(self.end);
///         span.attribute("url.path", &self.page);
///     }
/// }
///
/// let resource = EncodedResource::new(|resource| resource.attribute("service.name", "shop"));
/// let visit = Visit {
///     trace_id: [1; 16],
///     span_id: [2; 8],
///     page: "/cart".to_owned(),
///     start: 1_700_000_000_000_000_000,
///     end: 1_700_000_000_250_000_000,
/// };
///
/// let mut encoder = Encoder::default();
/// encoder.push(&resource, &visit);
/// let request = encoder.finish().expect("one span was pushed");
/// assert_eq!(request.spans, 1);
/// ```
pub trait EncodeSpan {
    /// Names the instrumentation scope that made the span, in the same order for equal scopes.
    fn encode_scope(&self, scope: &mut ScopeWriter<'_>);

    /// Names the span's fields.
    fn encode(&self, span: &mut SpanWriter<'_>);
}

impl<T: EncodeSpan + ?Sized> EncodeSpan for &T {
    fn encode_scope(&self, scope: &mut ScopeWriter<'_>) {
        (**self).encode_scope(scope);
    }

    fn encode(&self, span: &mut SpanWriter<'_>) {
        (**self).encode(span);
    }
}

/// An encoded `ExportTraceServiceRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncodedRequest {
    /// The request in protobuf.
    pub bytes: Bytes,
    /// How many spans it holds, at least one.
    pub spans: usize,
}

/// Collects spans into an `ExportTraceServiceRequest`, grouped by resource and scope in first-seen order.
///
/// Made to be used for ever: [`finish`](Self::finish) gives one batch and leaves the encoder empty with its
/// buffers, so that pushing a span allocates nothing once they have grown. What stays allocated between
/// batches is bounded (4 MiB of span buffers, 256 scopes, 64 resources and 4 MiB for their names), whatever a
/// batch needed.
///
/// A source that panics in the middle of a span leaves the spans before it unharmed.
#[derive(Debug, Default)]
pub struct Encoder {
    limits: SpanLimits,
    scope: ScopeScratch,
    resources: Vec<ResourceSlot>,
    resource_numbers: HashMap<EncodedResource, usize>,
    groups: Vec<Group>,
    /// The group of the span before, which is the likeliest for the next.
    last_group: Option<usize>,
    /// The resources of this batch.
    order: Vec<usize>,
    spans: usize,
    len_max: usize,
}

/// A resource and the groups below it.
#[derive(Debug)]
struct ResourceSlot {
    resource: EncodedResource,
    group_numbers: HashMap<Bytes, usize>,
    /// The groups of this batch.
    order: Vec<usize>,
}

/// The spans of one scope in one resource.
#[derive(Debug)]
struct Group {
    resource_number: usize,
    /// Scope and schema URL, as fields of `ScopeSpans`.
    head: Bytes,
    /// Complete `ScopeSpans.spans` fields; what is beyond `complete` was left behind by a panic.
    spans: Vec<u8>,
    complete: usize,
}

impl Encoder {
    /// Creates an encoder that keeps spans within `limits`.
    ///
    /// `Encoder::default()` has the specification's limits.
    pub fn new(limits: SpanLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Adds a span.
    #[inline]
    pub fn push(&mut self, resource: &EncodedResource, span: &(impl EncodeSpan + ?Sized)) {
        self.scope.encode(|scope| span.encode_scope(scope));
        let number = self.group_of(resource);

        // Invariant: every group number, and every resource number in a group, is an index of its list.
        let group = &mut self.groups[number];
        group.spans.truncate(group.complete);
        let message = open(&mut group.spans, scope_spans::SPANS, SPAN_LENGTH_WIDTH);
        let mut writer = SpanWriter::new(&mut group.spans, &self.limits);
        span.encode(&mut writer);
        writer.finish();
        close(&mut group.spans, message);

        let is_first = group.complete == 0;
        self.len_max += group.spans.len() - group.complete;
        group.complete = group.spans.len();
        self.spans += 1;
        if is_first {
            self.enlist(number);
        }
    }

    /// Returns how many spans were pushed since the last batch.
    #[inline]
    pub fn spans(&self) -> usize {
        self.spans
    }

    /// Tells whether no span was pushed since the last batch.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.spans == 0
    }

    /// Returns how many bytes the request will take at most: at most 12 more for each scope than it really will.
    ///
    /// A batcher that compares it with its bound after each span never goes over by more than that span.
    #[inline]
    pub fn encoded_len_max(&self) -> usize {
        self.len_max
    }

    /// Returns the request with all spans pushed since the last one, or `None` if there are none.
    ///
    /// One allocation of the exact size.
    pub fn finish(&mut self) -> Option<EncodedRequest> {
        if self.spans == 0 {
            return None;
        }
        let mut out = Vec::with_capacity(self.request_len());
        for &number in &self.order {
            self.push_resource(&mut out, number);
        }
        let request = EncodedRequest {
            bytes: out.into(),
            spans: self.spans,
        };
        self.clear();
        Some(request)
    }

    /// Forgets the spans pushed since the last batch.
    pub fn clear(&mut self) {
        self.spans = 0;
        self.len_max = 0;
        for number in self.order.drain(..) {
            self.resources[number].order.clear();
        }
        if self.remembers_too_much() {
            *self = Self::new(self.limits);
            return;
        }
        self.empty_groups();
    }

    fn remembers_too_much(&self) -> bool {
        let scopes: usize = self.groups.iter().map(|group| group.head.len()).sum();
        let resources: usize = self
            .resources
            .iter()
            .map(|slot| slot.resource.head().len())
            .sum();
        self.groups.len() > KEPT_GROUPS_MAX
            || self.resources.len() > KEPT_RESOURCES_MAX
            || scopes + resources > KEPT_BYTES_MAX
    }

    /// Empties the span buffers, and gives back those beyond what may be kept.
    fn empty_groups(&mut self) {
        let mut kept = 0_usize;
        for group in &mut self.groups {
            group.complete = 0;
            group.spans.clear();
            let with_this = kept.saturating_add(group.spans.capacity());
            if with_this > KEPT_BYTES_MAX {
                group.spans = Vec::new();
                continue;
            }
            kept = with_this;
        }
    }

    /// Finds the group of the scope in the scratch buffer, or adds it.
    #[inline]
    fn group_of(&mut self, resource: &EncodedResource) -> usize {
        if let Some(number) = self.last_group {
            let group = &self.groups[number];
            if group.head == self.scope.head() && self.has_resource(group, resource) {
                return number;
            }
        }
        let number = self.find_group(resource);
        self.last_group = Some(number);
        number
    }

    #[inline]
    fn has_resource(&self, group: &Group, resource: &EncodedResource) -> bool {
        let slot = &self.resources[group.resource_number];
        slot.resource.is_same_allocation(resource)
    }

    fn find_group(&mut self, resource: &EncodedResource) -> usize {
        let resource_number = self.resource_number(resource);
        let head = self.scope.head();
        let slot = &mut self.resources[resource_number];
        if let Some(&number) = slot.group_numbers.get(head) {
            return number;
        }
        let number = self.groups.len();
        let head = Bytes::copy_from_slice(head);
        slot.group_numbers.insert(head.clone(), number);
        self.groups.push(Group {
            resource_number,
            head,
            spans: Vec::new(),
            complete: 0,
        });
        number
    }

    fn resource_number(&mut self, resource: &EncodedResource) -> usize {
        if let Some(&number) = self.resource_numbers.get(resource) {
            return number;
        }
        let number = self.resources.len();
        self.resource_numbers.insert(resource.clone(), number);
        self.resources.push(ResourceSlot {
            resource: resource.clone(),
            group_numbers: HashMap::new(),
            order: Vec::new(),
        });
        number
    }

    /// Gives a group that got its first span of this batch its place in the order.
    fn enlist(&mut self, number: usize) {
        let group = &self.groups[number];
        let slot = &mut self.resources[group.resource_number];
        if slot.order.is_empty() {
            self.order.push(group.resource_number);
            self.len_max += ENVELOPE_LEN_MAX + slot.resource.head().len();
        }
        slot.order.push(number);
        self.len_max += ENVELOPE_LEN_MAX + group.head.len();
    }

    /// Computes the exact length of the request.
    fn request_len(&self) -> usize {
        self.order
            .iter()
            .map(|&number| 1 + delimited_len(self.resource_len(number)))
            .sum()
    }

    /// Computes the length of a `ResourceSpans`, without its tag and length.
    fn resource_len(&self, number: usize) -> usize {
        let slot = &self.resources[number];
        let groups = slot.order.iter().map(|&group| {
            let group = &self.groups[group];
            1 + delimited_len(group.len())
        });
        slot.resource.head().len() + groups.sum::<usize>()
    }

    fn push_resource(&self, out: &mut Vec<u8>, number: usize) {
        let slot = &self.resources[number];
        push_tag(out, request::RESOURCE_SPANS, WireType::Bytes);
        push_varint(out, self.resource_len(number) as u64);
        out.extend_from_slice(slot.resource.head());
        for &group in &slot.order {
            let group = &self.groups[group];
            push_tag(out, resource_spans::SCOPE_SPANS, WireType::Bytes);
            push_varint(out, group.len() as u64);
            out.extend_from_slice(&group.head);
            out.extend_from_slice(&group.spans[..group.complete]);
        }
    }
}

impl Group {
    /// Returns the length of the `ScopeSpans`, without its tag and length.
    fn len(&self) -> usize {
        self.head.len() + self.complete
    }
}
