//! Borrowed views of a request: every field of the trace schema, read where it lies.
//!
//! A view is a few slices of the request, so copying one is cheap and making one allocates nothing. Views expect bytes
//! that `validate` accepts. On other bytes they never panic: a list ends where the bytes break,
//! a broken text ends where its UTF-8 does, and a field of the wrong type counts as absent.
//!
//! Protobuf lets a sender repeat what should stand once. The views follow its rules, and so agree with every decoder:
//! of a number or text the last one counts, the parts of a message are merged, and of a oneof the last one set counts.
//! Reading a resource or scope that comes in several parts means searching its envelope each time; requests from a
//! network go through `admit`, which leaves no such parts behind.

mod span;
mod text;
mod value;

use std::fmt;
use std::fmt::Debug;
use std::fmt::Display;
use std::fmt::Formatter;
use std::iter::FusedIterator;

use super::fields;
use super::reader::Field;
use super::reader::FieldValue;
use super::reader::Fields;

pub use span::EventView;
pub use span::Events;
pub use span::LinkView;
pub use span::Links;
pub use span::SpanKind;
pub use span::SpanView;
pub use span::StatusCode;
pub use span::StatusView;
pub use value::ArrayView;
pub use value::AttributeView;
pub use value::Attributes;
pub use value::AttributesView;
pub use value::MapView;
pub use value::ValueView;
pub use value::Values;

/// Reads an `ExportTraceServiceRequest` (or `TracesData`) without decoding it.
///
/// # Examples
///
/// ```
/// use outspan_wire::otlp::RequestView;
///
/// // One span named "get", without anything else.
/// let request = [0x0a, 0x09, 0x12, 0x07, 0x12, 0x05, 0x2a, 0x03, b'g', b'e', b't'];
/// let names: Vec<_> = RequestView::new(&request).spans().map(|span| span.name()).collect();
/// assert_eq!(names, ["get"]);
/// ```
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    bytes: &'a [u8],
}

impl<'a> RequestView<'a> {
    /// Looks at the bytes of a request; they should have passed `validate`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Returns the bytes of the request.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the envelopes of the request, each with one resource.
    pub fn resource_spans(self) -> ResourceSpansIter<'a> {
        ResourceSpansIter {
            fields: Fields::new(self.bytes),
        }
    }

    /// Returns all spans of the request in order, each with its resource and scope at hand.
    pub fn spans(self) -> Spans<'a> {
        Spans {
            resource_spans: self.resource_spans(),
            scope_spans: ScopeSpansIter::default(),
            spans: SpansInScope::default(),
        }
    }
}

impl Debug for RequestView<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(self.resource_spans())
            .finish()
    }
}

/// Iterates over the resource envelopes of a request.
#[derive(Clone, Debug)]
pub struct ResourceSpansIter<'a> {
    fields: Fields<'a>,
}

impl<'a> Iterator for ResourceSpansIter<'a> {
    type Item = ResourceSpansView<'a>;

    fn next(&mut self) -> Option<ResourceSpansView<'a>> {
        next_bytes(&mut self.fields, fields::request::RESOURCE_SPANS).map(ResourceSpansView::new)
    }
}

impl FusedIterator for ResourceSpansIter<'_> {}

/// Reads a `ResourceSpans`: one resource and what was recorded there.
#[derive(Clone, Copy)]
pub struct ResourceSpansView<'a> {
    bytes: &'a [u8],
    resource: Pieces<'a>,
    schema_url: &'a [u8],
}

impl<'a> ResourceSpansView<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut resource = Pieces::none(fields::resource_spans::RESOURCE);
        let mut schema_url: &[u8] = &[];
        let mut left = Fields::new(bytes);
        while let Some(field) = left.next() {
            let FieldValue::Bytes(value) = field.value else {
                continue;
            };
            match field.number {
                fields::resource_spans::RESOURCE => resource.found(value, left),
                fields::resource_spans::SCHEMA_URL => schema_url = value,
                _ => {}
            }
        }
        Self {
            bytes,
            resource,
            schema_url,
        }
    }

    /// Returns the bytes of the message.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the resource; an absent one reads as an empty one.
    pub fn resource(self) -> ResourceView<'a> {
        ResourceView {
            pieces: self.resource,
        }
    }

    /// Tells whether the resource is there at all.
    pub fn has_resource(self) -> bool {
        self.resource.is_present()
    }

    /// Returns the schema URL of the resource, or an empty text.
    pub fn schema_url(self) -> &'a str {
        text(self.schema_url)
    }

    /// Returns the envelopes inside, each with one instrumentation scope.
    pub fn scope_spans(self) -> ScopeSpansIter<'a> {
        ScopeSpansIter {
            fields: Fields::new(self.bytes),
            resource: Some(self),
        }
    }
}

impl Debug for ResourceSpansView<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ResourceSpansView")
            .field("resource", &self.resource())
            .field("schema_url", &self.schema_url())
            .field("scope_spans", &DebugList(self.scope_spans()))
            .finish()
    }
}

/// Iterates over the scope envelopes of one resource.
#[derive(Clone, Debug, Default)]
pub struct ScopeSpansIter<'a> {
    fields: Fields<'a>,
    // Absent only in the list that stands before the first one.
    resource: Option<ResourceSpansView<'a>>,
}

impl<'a> Iterator for ScopeSpansIter<'a> {
    type Item = ScopeSpansView<'a>;

    fn next(&mut self) -> Option<ScopeSpansView<'a>> {
        let resource = self.resource?;
        let bytes = next_bytes(&mut self.fields, fields::resource_spans::SCOPE_SPANS)?;
        Some(ScopeSpansView::new(bytes, resource))
    }
}

impl FusedIterator for ScopeSpansIter<'_> {}

/// Reads a `ScopeSpans`: one instrumentation scope and its spans.
#[derive(Clone, Copy)]
pub struct ScopeSpansView<'a> {
    bytes: &'a [u8],
    scope: Pieces<'a>,
    schema_url: &'a [u8],
    resource_spans: ResourceSpansView<'a>,
}

impl<'a> ScopeSpansView<'a> {
    fn new(bytes: &'a [u8], resource_spans: ResourceSpansView<'a>) -> Self {
        let mut scope = Pieces::none(fields::scope_spans::SCOPE);
        let mut schema_url: &[u8] = &[];
        let mut left = Fields::new(bytes);
        while let Some(field) = left.next() {
            let FieldValue::Bytes(value) = field.value else {
                continue;
            };
            match field.number {
                fields::scope_spans::SCOPE => scope.found(value, left),
                fields::scope_spans::SCHEMA_URL => schema_url = value,
                _ => {}
            }
        }
        Self {
            bytes,
            scope,
            schema_url,
            resource_spans,
        }
    }

    /// Returns the bytes of the message.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the envelope around this one.
    pub fn resource_spans(self) -> ResourceSpansView<'a> {
        self.resource_spans
    }

    /// Returns the instrumentation scope; an absent one reads as an empty one.
    pub fn scope(self) -> ScopeView<'a> {
        ScopeView { pieces: self.scope }
    }

    /// Tells whether the instrumentation scope is there at all.
    pub fn has_scope(self) -> bool {
        self.scope.is_present()
    }

    /// Returns the schema URL of the scope and its spans, or an empty text.
    pub fn schema_url(self) -> &'a str {
        text(self.schema_url)
    }

    /// Returns the spans of this scope.
    pub fn spans(self) -> SpansInScope<'a> {
        SpansInScope {
            fields: Fields::new(self.bytes),
            scope: Some(self),
        }
    }
}

impl Debug for ScopeSpansView<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ScopeSpansView")
            .field("scope", &self.scope())
            .field("schema_url", &self.schema_url())
            .field("spans", &DebugList(self.spans()))
            .finish()
    }
}

/// Iterates over the spans of one scope.
#[derive(Clone, Debug, Default)]
pub struct SpansInScope<'a> {
    fields: Fields<'a>,
    // Absent only in the list that stands before the first one.
    scope: Option<ScopeSpansView<'a>>,
}

impl<'a> Iterator for SpansInScope<'a> {
    type Item = SpanView<'a>;

    fn next(&mut self) -> Option<SpanView<'a>> {
        let scope = self.scope?;
        let bytes = next_bytes(&mut self.fields, fields::scope_spans::SPANS)?;
        Some(SpanView::new(bytes, scope))
    }
}

impl FusedIterator for SpansInScope<'_> {}

/// Iterates over all spans of a request.
#[derive(Clone, Debug)]
pub struct Spans<'a> {
    resource_spans: ResourceSpansIter<'a>,
    scope_spans: ScopeSpansIter<'a>,
    spans: SpansInScope<'a>,
}

impl<'a> Iterator for Spans<'a> {
    type Item = SpanView<'a>;

    fn next(&mut self) -> Option<SpanView<'a>> {
        loop {
            if let Some(span) = self.spans.next() {
                return Some(span);
            }
            if let Some(scope_spans) = self.scope_spans.next() {
                self.spans = scope_spans.spans();
                continue;
            }
            self.scope_spans = self.resource_spans.next()?.scope_spans();
        }
    }
}

impl FusedIterator for Spans<'_> {}

/// Reads a `Resource`: what the spans are about, such as a service on a host.
#[derive(Clone, Copy)]
pub struct ResourceView<'a> {
    pieces: Pieces<'a>,
}

impl<'a> ResourceView<'a> {
    /// Returns the attributes.
    pub fn attributes(self) -> AttributesView<'a> {
        AttributesView::new(self.pieces.fields(), fields::resource::ATTRIBUTES)
    }

    /// Returns the value of the attribute with this key, such as `service.name`.
    pub fn attribute(self, key: &str) -> Option<ValueView<'a>> {
        self.attributes().get(key)
    }

    /// Returns how many attributes were dropped before.
    pub fn dropped_attributes_count(self) -> u32 {
        last_u32(
            self.pieces.fields(),
            fields::resource::DROPPED_ATTRIBUTES_COUNT,
        )
    }

    /// Returns the references to entities that the attributes describe.
    pub fn entity_refs(self) -> EntityRefs<'a> {
        EntityRefs {
            fields: self.pieces.fields(),
        }
    }
}

impl Debug for ResourceView<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ResourceView")
            .field("attributes", &self.attributes())
            .field("dropped_attributes_count", &self.dropped_attributes_count())
            .field("entity_refs", &DebugList(self.entity_refs()))
            .finish()
    }
}

/// Reads an `InstrumentationScope`: the library that made the spans.
#[derive(Clone, Copy)]
pub struct ScopeView<'a> {
    pieces: Pieces<'a>,
}

impl<'a> ScopeView<'a> {
    /// Returns the name, or an empty text.
    pub fn name(self) -> &'a str {
        text(last_bytes(self.pieces.fields(), fields::scope::NAME))
    }

    /// Returns the version, or an empty text.
    pub fn version(self) -> &'a str {
        text(last_bytes(self.pieces.fields(), fields::scope::VERSION))
    }

    /// Returns the attributes.
    pub fn attributes(self) -> AttributesView<'a> {
        AttributesView::new(self.pieces.fields(), fields::scope::ATTRIBUTES)
    }

    /// Returns the value of the attribute with this key.
    pub fn attribute(self, key: &str) -> Option<ValueView<'a>> {
        self.attributes().get(key)
    }

    /// Returns how many attributes were dropped before.
    pub fn dropped_attributes_count(self) -> u32 {
        last_u32(
            self.pieces.fields(),
            fields::scope::DROPPED_ATTRIBUTES_COUNT,
        )
    }
}

impl Debug for ScopeView<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ScopeView")
            .field("name", &self.name())
            .field("version", &self.version())
            .field("attributes", &self.attributes())
            .field("dropped_attributes_count", &self.dropped_attributes_count())
            .finish()
    }
}

/// Iterates over the entity references of a resource.
#[derive(Clone, Debug)]
pub struct EntityRefs<'a> {
    fields: PieceFields<'a>,
}

impl<'a> Iterator for EntityRefs<'a> {
    type Item = EntityRefView<'a>;

    fn next(&mut self) -> Option<EntityRefView<'a>> {
        let bytes = next_bytes(&mut self.fields, fields::resource::ENTITY_REFS)?;
        Some(EntityRefView { bytes })
    }
}

impl FusedIterator for EntityRefs<'_> {}

/// Reads an `EntityRef`: which attributes of a resource name an entity. (Development status in the schema.)
#[derive(Clone, Copy)]
pub struct EntityRefView<'a> {
    bytes: &'a [u8],
}

impl<'a> EntityRefView<'a> {
    /// Returns the bytes of the message.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the schema URL, or an empty text.
    pub fn schema_url(self) -> &'a str {
        let fields = PieceFields::one(self.bytes);
        text(last_bytes(fields, fields::entity_ref::SCHEMA_URL))
    }

    /// Returns the type of the entity, such as `service` or `host`.
    pub fn entity_type(self) -> &'a str {
        let fields = PieceFields::one(self.bytes);
        text(last_bytes(fields, fields::entity_ref::TYPE))
    }

    /// Returns the keys of the attributes that identify the entity.
    pub fn id_keys(self) -> Texts<'a> {
        Texts {
            fields: Fields::new(self.bytes),
            number: fields::entity_ref::ID_KEYS,
        }
    }

    /// Returns the keys of the attributes that describe the entity.
    pub fn description_keys(self) -> Texts<'a> {
        Texts {
            fields: Fields::new(self.bytes),
            number: fields::entity_ref::DESCRIPTION_KEYS,
        }
    }
}

impl Debug for EntityRefView<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EntityRefView")
            .field("schema_url", &self.schema_url())
            .field("entity_type", &self.entity_type())
            .field("id_keys", &DebugList(self.id_keys()))
            .field("description_keys", &DebugList(self.description_keys()))
            .finish()
    }
}

/// Iterates over texts.
#[derive(Clone, Debug)]
pub struct Texts<'a> {
    fields: Fields<'a>,
    number: u32,
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        next_bytes(&mut self.fields, self.number).map(text)
    }
}

impl FusedIterator for Texts<'_> {}

/// Writes an identifier, or any bytes, as lower-case hexadecimal digits.
///
/// # Examples
///
/// ```
/// use outspan_wire::otlp::Hex;
///
/// assert_eq!(Hex(&[0x00, 0xf7]).to_string(), "00f7");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hex<'a>(pub &'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl Debug for Hex<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, formatter)
    }
}

/// A message that may come in several parts, spread over the message that holds it.
///
/// Protobuf merges them, and merging messages is the same as reading their bytes one after the other.
#[derive(Clone, Copy)]
struct Pieces<'a> {
    /// The first part; `None` if the message is absent.
    first: Option<&'a [u8]>,
    /// What of the outer message follows the first part.
    rest: &'a [u8],
    /// Whether there are parts in `rest`.
    several: bool,
    number: u32,
}

impl<'a> Pieces<'a> {
    fn none(number: u32) -> Self {
        Self {
            first: None,
            rest: &[],
            several: false,
            number,
        }
    }

    /// Adds a part that was found in the outer message, of which `left` is not read yet.
    fn found(&mut self, part: &'a [u8], left: Fields<'a>) {
        if self.first.is_some() {
            self.several = true;
            return;
        }
        self.first = Some(part);
        self.rest = left.rest();
    }

    fn is_present(self) -> bool {
        self.first.is_some()
    }

    fn fields(self) -> PieceFields<'a> {
        PieceFields {
            fields: Fields::new(self.first.unwrap_or_default()),
            rest: Fields::new(if self.several { self.rest } else { &[] }),
            number: self.number,
        }
    }
}

/// The fields of a message that may come in several parts.
#[derive(Clone, Copy, Debug)]
struct PieceFields<'a> {
    /// What is left of the current part.
    fields: Fields<'a>,
    /// Where the next parts are, under this number.
    rest: Fields<'a>,
    number: u32,
}

impl<'a> PieceFields<'a> {
    /// Reads a message in one part.
    fn one(message: &'a [u8]) -> Self {
        Self {
            fields: Fields::new(message),
            rest: Fields::default(),
            number: 0,
        }
    }
}

impl<'a> Iterator for PieceFields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            if let Some(field) = self.fields.next() {
                return Some(field);
            }
            self.fields = Fields::new(next_bytes(&mut self.rest, self.number)?);
        }
    }
}

/// Prints an iterator as a list.
struct DebugList<I>(I);

impl<I: Iterator<Item: Debug> + Clone> Debug for DebugList<I> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.clone()).finish()
    }
}

#[inline]
fn next_bytes<'a>(fields: &mut impl Iterator<Item = Field<'a>>, number: u32) -> Option<&'a [u8]> {
    fields.find_map(|field| field.bytes_of(number))
}

fn last_bytes<'a>(fields: PieceFields<'a>, number: u32) -> &'a [u8] {
    fields
        .filter_map(|field| field.bytes_of(number))
        .last()
        .unwrap_or_default()
}

fn last_u32(fields: PieceFields<'_>, number: u32) -> u32 {
    let values = fields.filter_map(|field| match field.value {
        FieldValue::Varint(value) if field.number == number => Some(value as u32),
        _ => None,
    });
    values.last().unwrap_or_default()
}

/// Returns text, up to where its UTF-8 breaks if it does.
#[inline]
fn text(bytes: &[u8]) -> &str {
    if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
        return text;
    }
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}
