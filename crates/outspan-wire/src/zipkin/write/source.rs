//! Where spans come from: a request, envelope by envelope.

use super::output::Output;
use super::plan::Plans;
use super::shared::Filler;
use super::shared::Part;
use super::span::SpanMapper;
use crate::otlp::RequestView;
use crate::otlp::ResourceSpansIter;
use crate::otlp::ScopeSpansIter;
use crate::otlp::fields::scope_spans;
use crate::otlp::raw::Attribute;
use crate::otlp::raw::RawSpan;
use crate::otlp::reader::Fields;

/// The span at hand, and what it shares with others.
#[derive(Debug)]
pub(super) struct Source<'a> {
    resources: ResourceSpansIter<'a>,
    scopes: ScopeSpansIter<'a>,
    /// The envelope of a scope, from the next span on.
    spans: Fields<'a>,
    /// How many spans are still to be passed over.
    to_skip: usize,
    pub(super) bytes: &'a [u8],
    pub(super) span: RawSpan<'a>,
    pub(super) service_name: &'a [u8],
    pub(super) resource: Part<'a>,
    pub(super) scope: Part<'a>,
    pub(super) plans: Plans<'a>,
    /// Room for the attributes of an event or a link.
    pub(super) list: Vec<Attribute<'a>>,
    /// Room for the keys for which a table has numbers.
    pub(super) keys: Vec<&'a [u8]>,
}

impl<'a> Source<'a> {
    /// Begins before the span with the number `first`, counted from 0.
    pub(super) fn new(request: &'a [u8], first: usize) -> Self {
        Self {
            resources: RequestView::new(request).resource_spans(),
            scopes: ScopeSpansIter::default(),
            spans: Fields::default(),
            to_skip: first,
            bytes: &[],
            span: RawSpan::default(),
            service_name: &[],
            resource: Part::default(),
            scope: Part::default(),
            plans: Plans::default(),
            list: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// Reads the next span, and tells whether there is one.
    pub(super) fn advance<O: Output>(&mut self, mapper: &mut SpanMapper) -> bool {
        loop {
            let span = self
                .spans
                .find_map(|field| field.bytes_of(scope_spans::SPANS));
            if let Some(bytes) = span {
                if self.to_skip > 0 {
                    self.to_skip -= 1;
                    continue;
                }
                self.bytes = bytes;
                self.span.read(bytes);
                return true;
            }
            let mut filler = Filler::<O>::new(
                mapper.dialect,
                &mapper.table,
                &mut mapper.text,
                mapper.max_bytes,
            );
            if let Some(scope) = self.scopes.next() {
                self.spans = Fields::new(scope.bytes());
                self.plans.clear();
                filler.scope(&mut self.scope, &scope);
                continue;
            }
            let Some(resource) = self.resources.next() else {
                return false;
            };
            self.scopes = resource.scope_spans();
            self.service_name = filler.resource(&mut self.resource, &resource);
        }
    }
}
