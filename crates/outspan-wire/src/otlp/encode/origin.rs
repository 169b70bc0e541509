//! Where spans come from: resources and instrumentation scopes.

use std::fmt;

use bytes::Bytes;

use super::span::push_count;
use super::value::AttributeList;
use super::value::EncodeValue;
use super::value::ValueWriter;
use super::value::Written;
use crate::otlp::fields::resource;
use crate::otlp::fields::resource_spans;
use crate::otlp::fields::scope;
use crate::otlp::fields::scope_spans;
use crate::otlp::limits::ValueLimits;
use crate::otlp::reader::WireType;
use crate::otlp::writer::OpenMessage;
use crate::otlp::writer::close;
use crate::otlp::writer::open;
use crate::otlp::writer::push_bytes;
use crate::otlp::writer::short_tag;

/// How many messages deep a resource attribute's `AnyValue` is: `ResourceSpans`, `Resource`, `KeyValue`, itself.
const RESOURCE_VALUE_DEPTH: usize = 4;

/// As above, with `ScopeSpans` before the scope.
const SCOPE_VALUE_DEPTH: usize = 5;

/// A resource in its encoded form, written once and used for every batch.
///
/// Clones share the bytes. Two resources are equal when they were written alike: the same attributes in the
/// same order.
///
/// # Examples
///
/// ```
/// use outspan_wire::otlp::EncodedResource;
///
/// let resource = EncodedResource::new(|resource| {
///     resource.attribute("service.name", "shop");
///     resource.attribute("process.pid", 4711);
///     resource.schema_url("https://opentelemetry.io/schemas/1.44.0");
/// });
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct EncodedResource {
    /// The fields of a `ResourceSpans` before its `ScopeSpans`.
    head: Bytes,
}

impl EncodedResource {
    /// Encodes what `write` names. Span limits do not apply to resources.
    pub fn new(write: impl FnOnce(&mut ResourceWriter<'_>)) -> Self {
        let mut head = Vec::new();
        let mut schema_url = Vec::new();
        let message = open(&mut head, resource_spans::RESOURCE, 2);
        let mut writer = ResourceWriter {
            out: &mut head,
            schema_url: &mut schema_url,
            attributes: AttributeList::new(
                short_tag(resource::ATTRIBUTES, WireType::Bytes),
                usize::MAX,
                ValueLimits::exempt(RESOURCE_VALUE_DEPTH),
            ),
        };
        write(&mut writer);
        let dropped = writer.attributes.dropped;
        push_count(&mut head, resource::DROPPED_ATTRIBUTES_COUNT, dropped);
        finish_head(&mut head, message, resource_spans::SCHEMA_URL, &schema_url);
        Self { head: head.into() }
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.head().len()
    }

    pub(super) fn head(&self) -> &Bytes {
        &self.head
    }

    /// Tells whether both share one allocation, which a clone does.
    #[inline]
    pub(crate) fn is_same_allocation(&self, other: &Self) -> bool {
        self.head.as_ptr() == other.head.as_ptr() && self.head.len() == other.head.len()
    }
}

impl fmt::Debug for EncodedResource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EncodedResource")
            .field("encoded_len", &self.head.len())
            .finish()
    }
}

/// Takes the fields of a resource.
pub struct ResourceWriter<'a> {
    out: &'a mut Vec<u8>,
    schema_url: &'a mut Vec<u8>,
    attributes: AttributeList,
}

impl ResourceWriter<'_> {
    /// Adds an attribute.
    pub fn attribute(&mut self, key: &str, value: impl EncodeValue) {
        self.attribute_with(key, |writer| value.encode(writer));
    }

    /// Adds an attribute whose value `write` writes.
    pub fn attribute_with(&mut self, key: &str, write: impl FnOnce(ValueWriter<'_>) -> Written) {
        self.attributes.write(self.out, key, write);
    }

    /// Adds attributes that the source dropped.
    pub fn dropped_attributes_count(&mut self, count: u32) {
        self.attributes.drop_more(count);
    }

    /// Sets the schema URL that the attributes follow.
    pub fn schema_url(&mut self, url: &str) {
        self.schema_url.clear();
        self.schema_url.extend_from_slice(url.as_bytes());
    }
}

impl fmt::Debug for ResourceWriter<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ResourceWriter")
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}

/// Takes the fields of an instrumentation scope.
///
/// Write them in the same order every time: spans share a group when their scopes were written alike.
pub struct ScopeWriter<'a> {
    out: &'a mut Vec<u8>,
    schema_url: &'a mut Vec<u8>,
    attributes: AttributeList,
}

impl ScopeWriter<'_> {
    /// Sets the name, usually that of a library or module.
    #[inline]
    pub fn name(&mut self, name: &str) {
        if !name.is_empty() {
            push_bytes(self.out, scope::NAME, name.as_bytes());
        }
    }

    /// Sets the version of what the name names.
    #[inline]
    pub fn version(&mut self, version: &str) {
        if !version.is_empty() {
            push_bytes(self.out, scope::VERSION, version.as_bytes());
        }
    }

    /// Sets the schema URL that the scope's spans follow.
    #[inline]
    pub fn schema_url(&mut self, url: &str) {
        self.schema_url.clear();
        self.schema_url.extend_from_slice(url.as_bytes());
    }

    /// Adds an attribute. Span limits do not apply to scopes.
    #[inline]
    pub fn attribute(&mut self, key: &str, value: impl EncodeValue) {
        self.attribute_with(key, |writer| value.encode(writer));
    }

    /// Adds an attribute whose value `write` writes.
    #[inline]
    pub fn attribute_with(&mut self, key: &str, write: impl FnOnce(ValueWriter<'_>) -> Written) {
        self.attributes.write(self.out, key, write);
    }

    /// Adds attributes that the source dropped.
    #[inline]
    pub fn dropped_attributes_count(&mut self, count: u32) {
        self.attributes.drop_more(count);
    }
}

impl fmt::Debug for ScopeWriter<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ScopeWriter")
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}

/// Room to encode the scope of the span at hand, kept from span to span.
#[derive(Debug, Default)]
pub(super) struct ScopeScratch {
    head: Vec<u8>,
    schema_url: Vec<u8>,
}

impl ScopeScratch {
    /// Encodes a scope as the fields of a `ScopeSpans` before its spans.
    #[inline]
    pub(super) fn encode(&mut self, write: impl FnOnce(&mut ScopeWriter<'_>)) -> &[u8] {
        self.head.clear();
        self.schema_url.clear();
        let message = open(&mut self.head, scope_spans::SCOPE, 1);
        let mut writer = ScopeWriter {
            out: &mut self.head,
            schema_url: &mut self.schema_url,
            attributes: AttributeList::new(
                short_tag(scope::ATTRIBUTES, WireType::Bytes),
                usize::MAX,
                ValueLimits::exempt(SCOPE_VALUE_DEPTH),
            ),
        };
        write(&mut writer);
        let dropped = writer.attributes.dropped;
        push_count(&mut self.head, scope::DROPPED_ATTRIBUTES_COUNT, dropped);
        finish_head(
            &mut self.head,
            message,
            scope_spans::SCHEMA_URL,
            &self.schema_url,
        );
        &self.head
    }

    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }
}

/// Ends a resource or scope message, leaves it out when nothing is in it, and adds the schema URL.
#[inline]
fn finish_head(head: &mut Vec<u8>, message: OpenMessage, schema_url_field: u32, schema_url: &[u8]) {
    if message.is_empty(head) {
        head.clear();
    } else {
        close(head, message);
    }
    if !schema_url.is_empty() {
        push_bytes(head, schema_url_field, schema_url);
    }
}
