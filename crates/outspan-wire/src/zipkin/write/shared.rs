//! The tags that all spans of a resource, and of a scope, share: written once, then copied.

use std::ops::Range;

use super::output::Output;
use super::text::push_value;
use crate::otlp::AttributeView;
use crate::otlp::ResourceSpansView;
use crate::otlp::ScopeSpansView;
use crate::otlp::SpanView;
use crate::otlp::ValueView;
use crate::zipkin::keys::KeyTable;
use crate::zipkin::marks;
use crate::zipkin::names;
use crate::zipkin::options::Dialect;

/// The tags of the resource and the scope at hand.
#[derive(Debug, Default)]
pub(super) struct SharedTags<'a> {
    resource_place: Option<Place>,
    pub(super) resource: Part<'a>,
    pub(super) service_name: &'a str,
    scope_place: Option<Place>,
    pub(super) scope: Part<'a>,
    /// The keys of the span at hand, for which the table has numbers.
    pub(super) keys: Vec<&'a str>,
}

/// Tells envelopes apart without reading them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    address: usize,
    len: usize,
}

/// Tags in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Part<'a> {
    pub(super) tags: Vec<SharedTag<'a>>,
    /// How many of them, at the beginning, have names of the mapping's own.
    pub(super) named: usize,
    written: Vec<u8>,
    marks: String,
    /// What stands among the marks beside the tags.
    pub(super) facts: String,
}

/// A tag that is written already.
#[derive(Debug)]
pub(super) struct SharedTag<'a> {
    pub(super) key: &'a str,
    pub(super) hash: u64,
    written: Range<usize>,
    mark: Range<usize>,
}

impl<'a> SharedTags<'a> {
    /// Gets the tags ready for a span, if the span before had others.
    pub(super) fn update<O: Output>(
        &mut self,
        span: &SpanView<'a>,
        dialect: Dialect,
        table: &KeyTable,
        text: &mut String,
    ) {
        let scope_spans = span.scope_spans();
        let scope_place = place(scope_spans.bytes());
        if self.scope_place == Some(scope_place) {
            return;
        }
        self.scope_place = Some(scope_place);
        let mut filler = Filler::<O>::new(dialect, table, text);
        filler.scope(&mut self.scope, &scope_spans);

        let resource_spans = scope_spans.resource_spans();
        let resource_place = place(resource_spans.bytes());
        if self.resource_place == Some(resource_place) {
            return;
        }
        self.resource_place = Some(resource_place);
        self.service_name = filler.resource(&mut self.resource, &resource_spans);
    }
}

fn place(bytes: &[u8]) -> Place {
    Place {
        address: bytes.as_ptr().addr(),
        len: bytes.len(),
    }
}

impl<'a> Part<'a> {
    /// Returns a tag as it is written.
    pub(super) fn written(&self, tag: &SharedTag<'a>) -> &[u8] {
        self.written.get(tag.written.clone()).unwrap_or_default()
    }

    /// Returns the mark of a tag, or nothing.
    pub(super) fn mark(&self, tag: &SharedTag<'a>) -> &str {
        self.marks.get(tag.mark.clone()).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.tags.clear();
        self.named = 0;
        self.written.clear();
        self.marks.clear();
        self.facts.clear();
    }
}

/// Fills parts.
struct Filler<'t, O> {
    dialect: Dialect,
    table: &'t KeyTable,
    text: &'t mut String,
    output: std::marker::PhantomData<O>,
}

impl<'t, O: Output> Filler<'t, O> {
    fn new(dialect: Dialect, table: &'t KeyTable, text: &'t mut String) -> Self {
        Self {
            dialect,
            table,
            text,
            output: std::marker::PhantomData,
        }
    }

    fn scope<'a>(&mut self, part: &mut Part<'a>, scope_spans: &ScopeSpansView<'a>) {
        let scope = scope_spans.scope();
        part.clear();
        self.name(part, names::SCOPE_NAME, scope.name());
        self.name(part, names::SCOPE_VERSION, scope.version());
        if self.dialect == Dialect::Specification {
            // Deprecated, but "MUST" be there with the same values.
            self.name(part, names::LIBRARY_NAME, scope.name());
            self.name(part, names::LIBRARY_VERSION, scope.version());
        }
        part.named = part.tags.len();
        for attribute in scope.attributes() {
            self.attribute(part, attribute);
        }
        push_facts(
            &mut part.facts,
            scope.dropped_attributes_count(),
            scope_spans.schema_url(),
        );
    }

    /// Fills in the tags of a resource, and returns the name of the service.
    fn resource<'a>(&mut self, part: &mut Part<'a>, envelope: &ResourceSpansView<'a>) -> &'a str {
        let resource = envelope.resource();
        part.clear();
        let service_name = match self.dialect {
            Dialect::Specification => self.specified_service_name(part, envelope),
            Dialect::Collector => self.collectors_service_name(part, envelope),
        };
        push_facts(
            &mut part.facts,
            resource.dropped_attributes_count(),
            envelope.schema_url(),
        );
        service_name
    }

    /// The specification: `service.name`, else that of the default resource.
    fn specified_service_name<'a>(
        &mut self,
        part: &mut Part<'a>,
        envelope: &ResourceSpansView<'a>,
    ) -> &'a str {
        let mut service_name = None;
        for attribute in envelope.resource().attributes() {
            match attribute.value() {
                ValueView::Str(name)
                    if attribute.key() == names::SERVICE_NAME && service_name.is_none() =>
                {
                    service_name = Some(name);
                }
                _ => self.attribute(part, attribute),
            }
        }
        let fact = match service_name {
            Some("") => marks::EMPTY,
            Some(name) => return name,
            None => marks::ABSENT,
        };
        marks::push_fact(&mut part.facts, marks::SERVICE, fact);
        names::UNKNOWN_SERVICE
    }

    /// The Collector: the first of several attributes, which is named if it is not `service.name`.
    fn collectors_service_name<'a>(
        &mut self,
        part: &mut Part<'a>,
        envelope: &ResourceSpansView<'a>,
    ) -> &'a str {
        let attributes = envelope.resource().attributes();
        let mut sources = names::SERVICE_NAME_SOURCES.into_iter();
        let source = sources.find_map(|key| match attributes.get(key) {
            Some(ValueView::Str(name)) => Some((key, name)),
            _ => None,
        });
        if let Some((key, _)) = source
            && key != names::SERVICE_NAME
        {
            self.name(part, names::SERVICE_NAME_SOURCE, key);
            part.named = part.tags.len();
        }
        for attribute in attributes {
            if source.is_none_or(|(key, _)| attribute.key() != key) {
                self.attribute(part, attribute);
            }
        }
        source.map_or(names::NO_SERVICE_NAME, |(_, name)| name)
    }

    /// Adds a tag with a name of the mapping's own, unless its value is empty.
    fn name<'a>(&mut self, part: &mut Part<'a>, key: &'static str, value: &str) {
        if !value.is_empty() {
            let end = part.marks.len();
            self.add(part, key, value, end..end);
        }
    }

    fn attribute<'a>(&mut self, part: &mut Part<'a>, attribute: AttributeView<'a>) {
        let key = attribute.key();
        let value = attribute.value();
        if key == names::MARKS {
            return;
        }
        // Each mark is written as if it were the first, without a space.
        let mut mark = std::mem::take(self.text);
        mark.clear();
        marks::push_key(&mut mark, key, value);
        let start = part.marks.len();
        part.marks.push_str(&mark);
        let marked = start..part.marks.len();
        mark.clear();
        push_value(&mut mark, value, self.dialect);
        self.add(part, key, &mark, marked);
        *self.text = mark;
    }

    fn add<'a>(&mut self, part: &mut Part<'a>, key: &'a str, value: &str, mark: Range<usize>) {
        let start = part.written.len();
        O::tag(&mut part.written, key, value);
        part.tags.push(SharedTag {
            key,
            hash: self.table.hash(key),
            written: start..part.written.len(),
            mark,
        });
    }
}

fn push_facts(out: &mut String, dropped: u32, schema_url: &str) {
    if dropped != 0 {
        marks::push_number(out, marks::DROPPED, dropped);
    }
    if !schema_url.is_empty() {
        marks::push_fact(out, marks::SCHEMA, schema_url);
    }
}
