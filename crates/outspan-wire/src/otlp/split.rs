//! Splits a request into smaller ones.
//!
//! Every part is a request of its own: its spans keep their resource, their scope, the schema URLs and whatever unknown fields
//! stand beside them. Unknown fields beside all of these, at the top of the request, go with the first part, so that
//! the parts together hold everything once. Envelopes without spans are left out, as OTLP asks.

use std::collections::HashMap;
use std::iter::FusedIterator;
use std::num::NonZeroUsize;

use bytes::Bytes;

use super::envelope::FoundSpan;
use super::envelope::Outline;
use super::envelope::Walk;
use super::fields;
use super::reader::Fault;
use super::reader::Fields;
use super::reader::varint_length;
use super::validate::locate::explain;
use super::writer::OpenMessage;
use super::writer::close;
use super::writer::open;
use super::writer::push_bytes;
use crate::error::WireError;

/// Iterates over the parts of a request.
///
/// Parts are made one at a time, so splitting holds one part beside the request, and takes time linear in what it reads
/// and writes. A request without spans has no parts; one that needs no splitting comes out as it is, without a copy.
///
/// # Examples
///
/// ```
/// use std::num::NonZeroUsize;
///
/// use bytes::Bytes;
/// use outspan_wire::otlp::Split;
///
/// // Two empty spans in one scope.
/// let request = Bytes::from_static(&[0x0a, 0x06, 0x12, 0x04, 0x12, 0x00, 0x12, 0x00]);
/// let parts = Split::by_spans(&request, NonZeroUsize::MIN)?;
/// assert_eq!(parts.map(|part| part.spans).collect::<Vec<_>>(), [1, 1]);
/// # Ok::<(), outspan_wire::otlp::WireError>(())
/// ```
#[derive(Debug)]
pub struct Split<'a> {
    source: Source<'a>,
    /// Top-level unknown fields, until the first part takes them.
    unknown: Vec<u8>,
    limit: Limit,
}

/// A part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Part {
    /// The part as a request of its own.
    pub bytes: Bytes,
    /// How many spans it holds, at least one.
    pub spans: usize,
    /// Whether this is a single span that with its resource and scope takes more bytes than asked for. It cannot be split
    /// further; sending it will likely fail, so that the caller may want to count it as lost at once.
    pub oversized: bool,
    /// The key that all its spans share, if the request was split by one, and 0 otherwise.
    pub key: u128,
}

impl<'a> Split<'a> {
    /// Splits into parts of at most this many spans.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are no request, as far as the envelopes show it.
    pub fn by_spans(request: &'a Bytes, spans_max: NonZeroUsize) -> Result<Self, WireError> {
        let outline = read_outline(request)?;
        let limit = Limit::Spans(spans_max.get());
        if outline.spans <= spans_max.get() && outline.empty_envelopes == 0 {
            return Ok(Self::whole(request, &outline, limit));
        }
        Ok(Self::walking(request, outline, limit))
    }

    /// Splits into parts of at most this many bytes each.
    ///
    /// Each part takes as many spans as fit, in order. A span that does not fit even alone makes a part of its own
    /// that is marked [`oversized`](Part::oversized).
    ///
    /// # Errors
    ///
    /// Fails if the bytes are no request, as far as the envelopes show it.
    pub fn by_bytes(request: &'a Bytes, bytes_max: usize) -> Result<Self, WireError> {
        let outline = read_outline(request)?;
        let limit = Limit::Bytes(bytes_max);
        if request.len() <= bytes_max && outline.empty_envelopes == 0 {
            return Ok(Self::whole(request, &outline, limit));
        }
        Ok(Self::walking(request, outline, limit))
    }

    /// Splits into one part per trace, in the order the traces first appear; [`Part::key`] is the trace id as a number.
    ///
    /// Spans without a valid trace id make one part together, with the key 0.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are no request, as far as the envelopes show it.
    pub fn by_trace_id(request: &'a Bytes) -> Result<Self, WireError> {
        Self::by_key(request, u128::from_be_bytes)
    }

    /// Splits by a key made from the trace id, such as the number of a destination, so that a trace stays together.
    ///
    /// Spans without a valid trace id count as if it were zero. Takes about 100 bytes a span beside the parts, while it sorts.
    ///
    /// # Errors
    ///
    /// Fails if the bytes are no request, as far as the envelopes show it.
    pub fn by_key(
        request: &'a Bytes,
        key: impl FnMut([u8; 16]) -> u128,
    ) -> Result<Self, WireError> {
        let outline = read_outline(request)?;
        let groups = Groups::read(request, key).map_err(|fault| explain(fault, request))?;
        Ok(Self {
            source: Source::Groups(groups),
            unknown: outline.unknown,
            limit: Limit::None,
        })
    }

    /// Returns how many bytes the parts that are still to come take together, without making them.
    ///
    /// Each part repeats the resources and scopes of its spans, so that a thousand spans of a large resource may take a
    /// thousand times what the request takes. A caller that wants to hold all parts at once asks first.
    pub fn total_bytes(&self) -> usize {
        match &self.source {
            Source::Whole(part) => part.as_ref().map_or(0, |part| part.bytes.len()),
            Source::Walk { walk, next } => {
                let total = self.limit.total_of(walk.clone(), *next);
                self.unknown.len().saturating_add(total)
            }
            Source::Groups(groups) => self.unknown.len().saturating_add(groups.total_bytes()),
        }
    }

    fn whole(request: &Bytes, outline: &Outline, limit: Limit) -> Self {
        let part = (outline.spans > 0).then(|| Part {
            bytes: request.clone(),
            spans: outline.spans,
            oversized: false,
            key: 0,
        });
        Self {
            source: Source::Whole(part),
            unknown: Vec::new(),
            limit,
        }
    }

    fn walking(request: &'a Bytes, outline: Outline, limit: Limit) -> Self {
        Self {
            source: Source::Walk {
                walk: Walk::new(request),
                next: None,
            },
            unknown: outline.unknown,
            limit,
        }
    }
}

impl Iterator for Split<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let unknown = std::mem::take(&mut self.unknown);
        match &mut self.source {
            Source::Whole(part) => part.take(),
            Source::Walk { walk, next } => walk_part(walk, next, self.limit, unknown),
            Source::Groups(groups) => groups.next_part(unknown),
        }
    }
}

impl FusedIterator for Split<'_> {}

#[derive(Clone, Copy, Debug)]
enum Limit {
    None,
    Spans(usize),
    Bytes(usize),
}

impl Limit {
    fn allows(self, spans: usize, bytes: usize) -> bool {
        match self {
            Self::None => true,
            Self::Spans(spans_max) => spans <= spans_max,
            Self::Bytes(bytes_max) => bytes <= bytes_max,
        }
    }

    /// Adds up the parts that a walk would be divided into.
    fn total_of(self, mut walk: Walk<'_>, next: Option<FoundSpan<'_>>) -> usize {
        let mut total: usize = 0;
        let mut part = PartSize::default();
        let mut next = next;
        while let Some(span) = next.take().or_else(|| walk.read().ok().flatten()) {
            let with = part.with(&span, walk.resource_head(), walk.scope_head());
            if part.spans > 0 && !self.allows(with.spans, with.size.total()) {
                total = total.saturating_add(part.size.total());
                part = PartSize::default();
                next = Some(span);
                continue;
            }
            part = with;
        }
        total.saturating_add(part.size.total())
    }
}

#[derive(Debug)]
enum Source<'a> {
    Whole(Option<Part>),
    Walk {
        walk: Walk<'a>,
        /// A span that did not fit into the part before.
        next: Option<FoundSpan<'a>>,
    },
    Groups(Groups<'a>),
}

fn read_outline(request: &[u8]) -> Result<Outline, WireError> {
    Outline::read(request).map_err(|fault| explain(fault, request))
}

fn walk_part<'a>(
    walk: &mut Walk<'a>,
    next: &mut Option<FoundSpan<'a>>,
    limit: Limit,
    unknown: Vec<u8>,
) -> Option<Part> {
    let mut part = PartBuilder::new(unknown);
    loop {
        // The outline was read before, so that a walk ends only where the request does.
        let Some(span) = next.take().or_else(|| walk.read().ok().flatten()) else {
            return part.finish(limit, 0);
        };
        let size = part.size_with(&span, walk.resource_head(), walk.scope_head());
        if part.spans > 0 && !limit.allows(part.spans + 1, size.total()) {
            *next = Some(span);
            return part.finish(limit, 0);
        }
        part.push(&span, walk.resource_head(), walk.scope_head(), size);
    }
}

/// Puts spans into envelopes, opening and closing these as the spans need it.
#[derive(Debug)]
struct PartBuilder {
    out: Vec<u8>,
    spans: usize,
    size: Size,
    resource: Option<(usize, OpenMessage)>,
    scope: Option<(usize, OpenMessage)>,
}

/// How large a part is, and which envelopes are open in it.
#[derive(Clone, Copy, Debug, Default)]
struct PartSize {
    spans: usize,
    size: Size,
    /// Numbers of the open envelopes, 0 for none.
    resource: usize,
    scope: usize,
}

impl PartSize {
    /// Returns the size with one span more.
    fn with(&self, span: &FoundSpan<'_>, resource_head: &[u8], scope_head: &[u8]) -> Self {
        let mut size = self.size;
        if self.resource != span.resource {
            size.close_resource_spans();
            size.resource_spans = resource_head.len();
        }
        if self.scope != span.scope {
            size.close_scope_spans();
            size.scope_spans = scope_head.len();
        }
        size.scope_spans += field_length(span.bytes.len());
        Self {
            spans: self.spans + 1,
            size,
            resource: span.resource,
            scope: span.scope,
        }
    }
}

/// How many bytes a part takes, closed and open.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    /// Everything before the open `ResourceSpans`.
    closed: usize,
    /// What is in the open `ResourceSpans`, without the open `ScopeSpans`.
    resource_spans: usize,
    scope_spans: usize,
}

impl Size {
    fn total(self) -> usize {
        if self.scope_spans == 0 {
            return self.closed;
        }
        self.closed + field_length(self.resource_spans + field_length(self.scope_spans))
    }

    fn close_scope_spans(&mut self) {
        if self.scope_spans > 0 {
            self.resource_spans += field_length(self.scope_spans);
            self.scope_spans = 0;
        }
    }

    fn close_resource_spans(&mut self) {
        self.close_scope_spans();
        if self.resource_spans > 0 {
            self.closed += field_length(self.resource_spans);
            self.resource_spans = 0;
        }
    }
}

/// Returns how many bytes a message takes as a field with a number below 16.
fn field_length(message: usize) -> usize {
    1 + varint_length(message as u64) + message
}

/// The width that lengths of envelopes are expected to take; another one costs a move of the envelope.
const LENGTH_WIDTH: usize = 3;

impl PartBuilder {
    fn new(unknown: Vec<u8>) -> Self {
        let size = Size {
            closed: unknown.len(),
            ..Size::default()
        };
        Self {
            out: unknown,
            spans: 0,
            size,
            resource: None,
            scope: None,
        }
    }

    fn is_in_resource(&self, resource: usize) -> bool {
        matches!(self.resource, Some((open, _)) if open == resource)
    }

    fn is_in_scope(&self, scope: usize) -> bool {
        matches!(self.scope, Some((open, _)) if open == scope)
    }

    /// Returns the size of the part with one span more.
    fn size_with(&self, span: &FoundSpan<'_>, resource_head: &[u8], scope_head: &[u8]) -> Size {
        let mut size = self.size;
        if !self.is_in_resource(span.resource) {
            size.close_resource_spans();
            size.resource_spans = resource_head.len();
        }
        if !self.is_in_scope(span.scope) {
            size.close_scope_spans();
            size.scope_spans = scope_head.len();
        }
        size.scope_spans += field_length(span.bytes.len());
        size
    }

    fn push(&mut self, span: &FoundSpan<'_>, resource_head: &[u8], scope_head: &[u8], size: Size) {
        if !self.is_in_resource(span.resource) {
            self.close_resource();
            let message = open(&mut self.out, fields::request::RESOURCE_SPANS, LENGTH_WIDTH);
            self.out.extend_from_slice(resource_head);
            self.resource = Some((span.resource, message));
        }
        if !self.is_in_scope(span.scope) {
            self.close_scope();
            let number = fields::resource_spans::SCOPE_SPANS;
            let message = open(&mut self.out, number, LENGTH_WIDTH);
            self.out.extend_from_slice(scope_head);
            self.scope = Some((span.scope, message));
        }
        push_bytes(&mut self.out, fields::scope_spans::SPANS, span.bytes);
        self.spans += 1;
        self.size = size;
    }

    fn close_scope(&mut self) {
        if let Some((_, message)) = self.scope.take() {
            close(&mut self.out, message);
        }
    }

    fn close_resource(&mut self) {
        self.close_scope();
        if let Some((_, message)) = self.resource.take() {
            close(&mut self.out, message);
        }
    }

    fn finish(mut self, limit: Limit, key: u128) -> Option<Part> {
        if self.spans == 0 {
            return None;
        }
        self.close_resource();
        let oversized = !limit.allows(self.spans, self.out.len());
        Some(Part {
            bytes: Bytes::from(self.out),
            spans: self.spans,
            oversized,
            key,
        })
    }
}

/// The spans of a request, sorted by a key.
#[derive(Debug)]
struct Groups<'a> {
    keys: Vec<u128>,
    /// For each key, where its spans end in `spans`.
    ends: Vec<usize>,
    spans: Vec<FoundSpan<'a>>,
    /// The heads of the envelopes, by their numbers.
    resource_heads: HashMap<usize, Vec<u8>>,
    scope_heads: HashMap<usize, Vec<u8>>,
    next: usize,
}

impl<'a> Groups<'a> {
    fn read(request: &'a [u8], mut key: impl FnMut([u8; 16]) -> u128) -> Result<Self, Fault> {
        let mut numbers = HashMap::new();
        let mut keys = Vec::new();
        let mut found = Vec::new();
        let mut resource_heads = HashMap::new();
        let mut scope_heads = HashMap::new();
        let mut walk = Walk::new(request);
        while let Some(span) = walk.read()? {
            let key = key(trace_id(span.bytes));
            let group = *numbers.entry(key).or_insert_with(|| {
                keys.push(key);
                keys.len() - 1
            });
            found.push((group, span));
            resource_heads
                .entry(span.resource)
                .or_insert_with(|| walk.resource_head().to_vec());
            scope_heads
                .entry(span.scope)
                .or_insert_with(|| walk.scope_head().to_vec());
        }
        let mut ends = vec![0; keys.len()];
        for (group, _) in &found {
            ends[*group] += 1;
        }
        let mut end = 0;
        for each in &mut ends {
            end += *each;
            *each = end;
        }
        // Stable: the spans of a group stay in order.
        found.sort_by_key(|(group, _)| *group);
        Ok(Self {
            keys,
            ends,
            spans: found.into_iter().map(|(_, span)| span).collect(),
            resource_heads,
            scope_heads,
            next: 0,
        })
    }

    /// Adds up the parts that are still to come.
    fn total_bytes(&self) -> usize {
        let mut total: usize = 0;
        let mut start = match self.next.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or_default(),
            None => 0,
        };
        for end in self.ends.iter().skip(self.next) {
            let mut part = PartSize::default();
            for span in self.spans.get(start..*end).unwrap_or_default() {
                let resource_head = self.resource_heads.get(&span.resource);
                let scope_head = self.scope_heads.get(&span.scope);
                part = part.with(
                    span,
                    resource_head.map_or(&[], Vec::as_slice),
                    scope_head.map_or(&[], Vec::as_slice),
                );
            }
            total = total.saturating_add(part.size.total());
            start = *end;
        }
        total
    }

    fn next_part(&mut self, unknown: Vec<u8>) -> Option<Part> {
        let key = *self.keys.get(self.next)?;
        let end = *self.ends.get(self.next)?;
        let start = match self.next.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.next += 1;
        let mut part = PartBuilder::new(unknown);
        for span in self.spans.get(start..end)? {
            let resource_head = self.resource_heads.get(&span.resource)?;
            let scope_head = self.scope_heads.get(&span.scope)?;
            let size = part.size_with(span, resource_head, scope_head);
            part.push(span, resource_head, scope_head, size);
        }
        part.finish(Limit::None, key)
    }
}

/// Returns the trace id of a span's message; zeros if it is absent or not of 16 bytes.
fn trace_id(span: &[u8]) -> [u8; 16] {
    let ids = Fields::new(span).filter_map(|field| field.bytes_of(fields::span::TRACE_ID));
    ids.last()
        .and_then(|id| id.try_into().ok())
        .unwrap_or_default()
}
