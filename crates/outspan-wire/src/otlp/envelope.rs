//! The way from a request to its spans, through two levels of envelopes, for splitting and joining.
//!
//! ```text
//! request        = (resource_spans | unknown)*
//! resource_spans = (resource | scope_spans | schema_url | unknown)*      head: resource, schema_url, unknown
//! scope_spans    = (scope | span | schema_url | unknown)*                head: scope, schema_url, unknown
//! ```
//!
//! A head is what an envelope says about all its spans. It is brought into one order and form here (parts of a resource merged,
//! the last schema URL, unknown fields as they came), so that it can be written around any of the spans, and so that two
//! heads that say the same are equal bytes.

use super::fields;
use super::reader::Fault;
use super::reader::Field;
use super::reader::FieldValue;
use super::reader::Fields;
use super::writer::push_bytes;
use crate::error::WireErrorKind;

/// The field numbers of an envelope.
#[derive(Clone, Copy)]
pub(super) struct EnvelopeKind {
    /// The resource or the scope.
    pub(super) subject: u32,
    pub(super) children: u32,
    pub(super) schema_url: u32,
}

pub(super) const RESOURCE_SPANS: EnvelopeKind = EnvelopeKind {
    subject: fields::resource_spans::RESOURCE,
    children: fields::resource_spans::SCOPE_SPANS,
    schema_url: fields::resource_spans::SCHEMA_URL,
};

pub(super) const SCOPE_SPANS: EnvelopeKind = EnvelopeKind {
    subject: fields::scope_spans::SCOPE,
    children: fields::scope_spans::SPANS,
    schema_url: fields::scope_spans::SCHEMA_URL,
};

impl EnvelopeKind {
    /// Reads what the envelope says about its spans, in one order and form.
    pub(super) fn read_head(self, envelope: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut subject = None;
        let mut merged: Vec<u8> = Vec::new();
        let mut schema_url: &[u8] = &[];
        let mut unknown: Vec<u8> = Vec::new();
        let mut left = Fields::new(envelope);
        while let Some(field) = left.read()? {
            if field.number == self.children {
                bytes_of(&field)?;
            } else if field.number == self.subject {
                let part = bytes_of(&field)?;
                if let Some(first) = subject.replace(part) {
                    // Merged messages are their bytes one after the other.
                    merged.extend_from_slice(first);
                }
            } else if field.number == self.schema_url {
                schema_url = bytes_of(&field)?;
            } else {
                unknown.extend_from_slice(field.raw);
            }
        }
        let mut head = Vec::new();
        if let Some(last) = subject {
            merged.extend_from_slice(last);
            push_bytes(&mut head, self.subject, &merged);
        }
        if !schema_url.is_empty() {
            push_bytes(&mut head, self.schema_url, schema_url);
        }
        head.append(&mut unknown);
        Ok(head)
    }
}

/// Returns the message in a field, which has to be there.
pub(super) fn bytes_of<'a>(field: &Field<'a>) -> Result<&'a [u8], Fault> {
    match field.value {
        FieldValue::Bytes(bytes) => Ok(bytes),
        _ => Err(Fault::at(WireErrorKind::WireType, field.raw)),
    }
}

/// The children of an envelope, or of the request.
#[derive(Clone, Copy, Debug, Default)]
struct Children<'a> {
    fields: Fields<'a>,
    number: u32,
}

impl<'a> Children<'a> {
    fn new(envelope: &'a [u8], number: u32) -> Self {
        Self {
            fields: Fields::new(envelope),
            number,
        }
    }

    fn read(&mut self) -> Result<Option<&'a [u8]>, Fault> {
        while let Some(field) = self.fields.read()? {
            if field.number == self.number {
                return bytes_of(&field).map(Some);
            }
        }
        Ok(None)
    }
}

/// A span on the way, and which envelopes it is in, counted from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundSpan<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) resource: usize,
    pub(super) scope: usize,
}

/// Goes through a request from span to span, with the heads of the envelopes at hand.
///
/// Envelopes without spans are passed over. The way is linear in the request: each envelope's fields are read twice, its
/// spans' contents never.
#[derive(Clone, Debug, Default)]
pub(super) struct Walk<'a> {
    resource_spans: Children<'a>,
    scope_spans: Children<'a>,
    spans: Children<'a>,
    resource_envelope: &'a [u8],
    scope_envelope: &'a [u8],
    /// Numbers of the envelopes at hand, and of those whose heads were read.
    resource: usize,
    scope: usize,
    read_resource: usize,
    resource_head: Vec<u8>,
    scope_head: Vec<u8>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(request: &'a [u8]) -> Self {
        Self {
            resource_spans: Children::new(request, fields::request::RESOURCE_SPANS),
            ..Self::default()
        }
    }

    /// Returns the head of the resource envelope around the span read last.
    pub(super) fn resource_head(&self) -> &[u8] {
        &self.resource_head
    }

    /// Returns the head of the scope envelope around the span read last.
    pub(super) fn scope_head(&self) -> &[u8] {
        &self.scope_head
    }

    /// Goes on to the next span; `None` after the last.
    pub(super) fn read(&mut self) -> Result<Option<FoundSpan<'a>>, Fault> {
        loop {
            if let Some(bytes) = self.spans.read()? {
                return Ok(Some(FoundSpan {
                    bytes,
                    resource: self.resource,
                    scope: self.scope,
                }));
            }
            if !self.next_scope()? {
                return Ok(None);
            }
        }
    }

    /// Enters the next envelope with spans in it.
    fn next_scope(&mut self) -> Result<bool, Fault> {
        loop {
            let Some(envelope) = self.scope_spans.read()? else {
                let Some(envelope) = self.resource_spans.read()? else {
                    return Ok(false);
                };
                self.resource += 1;
                self.resource_envelope = envelope;
                self.scope_spans = Children::new(envelope, RESOURCE_SPANS.children);
                continue;
            };
            self.scope += 1;
            self.scope_envelope = envelope;
            self.spans = Children::new(envelope, SCOPE_SPANS.children);
            if { self.spans }.read()?.is_some() {
                self.read_heads()?;
                return Ok(true);
            }
        }
    }

    fn read_heads(&mut self) -> Result<(), Fault> {
        self.scope_head = SCOPE_SPANS.read_head(self.scope_envelope)?;
        if self.read_resource != self.resource {
            self.read_resource = self.resource;
            self.resource_head = RESOURCE_SPANS.read_head(self.resource_envelope)?;
        }
        Ok(())
    }
}

/// What stands in a request at its top and down to its spans.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) spans: usize,
    pub(super) empty_envelopes: usize,
    /// Fields beside the `resource_spans`, which no schema knows yet.
    pub(super) unknown: Vec<u8>,
}

impl Outline {
    /// Reads the envelopes of a request, so that walking it cannot fail afterwards.
    pub(super) fn read(request: &[u8]) -> Result<Self, Fault> {
        let mut outline = Self::default();
        let mut left = Fields::new(request);
        while let Some(field) = left.read()? {
            if field.number != fields::request::RESOURCE_SPANS {
                outline.unknown.extend_from_slice(field.raw);
                continue;
            }
            let spans_before = outline.spans;
            outline.read_resource_spans(bytes_of(&field)?)?;
            outline.empty_envelopes += usize::from(outline.spans == spans_before);
        }
        Ok(outline)
    }

    fn read_resource_spans(&mut self, envelope: &[u8]) -> Result<(), Fault> {
        let mut left = Fields::new(envelope);
        while let Some(field) = left.read()? {
            if !RESOURCE_SPANS.knows(field.number) {
                continue;
            }
            let bytes = bytes_of(&field)?;
            if field.number != RESOURCE_SPANS.children {
                continue;
            }
            let spans_before = self.spans;
            self.read_scope_spans(bytes)?;
            self.empty_envelopes += usize::from(self.spans == spans_before);
        }
        Ok(())
    }

    fn read_scope_spans(&mut self, envelope: &[u8]) -> Result<(), Fault> {
        let mut left = Fields::new(envelope);
        while let Some(field) = left.read()? {
            if !SCOPE_SPANS.knows(field.number) {
                continue;
            }
            bytes_of(&field)?;
            self.spans += usize::from(field.number == SCOPE_SPANS.children);
        }
        Ok(())
    }
}

impl EnvelopeKind {
    fn knows(self, number: u32) -> bool {
        number == self.subject || number == self.children || number == self.schema_url
    }
}
