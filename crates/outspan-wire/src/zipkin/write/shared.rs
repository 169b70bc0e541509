//! The tags that all spans of a resource, and of a scope, share: written once, then copied.

use std::marker::PhantomData;
use std::ops::Range;

use super::output::Output;
use super::text::push_value;
use crate::buffer::Buffer;
use crate::buffer::Limited;
use crate::otlp::ResourceSpansView;
use crate::otlp::ScopeSpansView;
use crate::otlp::raw::Attribute;
use crate::otlp::raw::Value;
use crate::zipkin::keys::KeyTable;
use crate::zipkin::marks;
use crate::zipkin::names;
use crate::zipkin::options::Dialect;

/// Tags in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Part<'a> {
    pub(super) tags: Vec<SharedTag<'a>>,
    /// How many of them, at the beginning, have names of the mapping's own.
    pub(super) named: usize,
    written: Limited,
    marks: Limited,
    /// What stands among the marks beside the tags.
    pub(super) facts: Limited,
}

/// A tag that is written already.
#[derive(Debug)]
pub(super) struct SharedTag<'a> {
    pub(super) key: &'a [u8],
    pub(super) hash: u64,
    written: Range<usize>,
    mark: Range<usize>,
}

impl<'a> Part<'a> {
    /// Returns a tag as it is written.
    pub(super) fn written(&self, tag: &SharedTag<'a>) -> &[u8] {
        self.written.get(tag.written.clone()).unwrap_or_default()
    }

    /// Returns the mark of a tag, or nothing.
    pub(super) fn mark(&self, tag: &SharedTag<'a>) -> &[u8] {
        self.marks.get(tag.mark.clone()).unwrap_or_default()
    }

    /// Tells whether it is of a scope with a name.
    pub(super) fn has_name(&self) -> bool {
        let mut named = self.tags.iter().take(self.named);
        named.any(|tag| tag.key == names::SCOPE_NAME.as_bytes())
    }

    /// Returns the buffer in which something did not fit, if one is over.
    pub(super) fn written_or_marks(&self) -> &Limited {
        let buffers = [&self.marks, &self.facts];
        let over = buffers.into_iter().find(|buffer| buffer.is_over());
        over.unwrap_or(&self.written)
    }

    fn is_over(&self) -> bool {
        self.written_or_marks().is_over()
    }

    fn clear(&mut self, max_bytes: usize) {
        self.tags.clear();
        self.named = 0;
        for buffer in [&mut self.written, &mut self.marks, &mut self.facts] {
            buffer.clear();
            buffer.set_max(max_bytes);
        }
    }
}

/// Fills parts.
pub(super) struct Filler<'t, O> {
    dialect: Dialect,
    table: &'t KeyTable,
    text: &'t mut Limited,
    max_bytes: usize,
    output: PhantomData<O>,
}

impl<'t, O: Output> Filler<'t, O> {
    pub(super) fn new(
        dialect: Dialect,
        table: &'t KeyTable,
        text: &'t mut Limited,
        max_bytes: usize,
    ) -> Self {
        Self {
            dialect,
            table,
            text,
            max_bytes,
            output: PhantomData,
        }
    }

    /// Fills in the tags of a scope.
    pub(super) fn scope<'a>(&mut self, part: &mut Part<'a>, scope_spans: &ScopeSpansView<'a>) {
        let scope = scope_spans.scope();
        part.clear(self.max_bytes);
        self.name(part, names::SCOPE_NAME, scope.name());
        self.name(part, names::SCOPE_VERSION, scope.version());
        if self.dialect == Dialect::Specification {
            // Deprecated, but "MUST" be there with the same values.
            self.name(part, names::LIBRARY_NAME, scope.name());
            self.name(part, names::LIBRARY_VERSION, scope.version());
        }
        part.named = part.tags.len();
        for attribute in scope.attributes() {
            self.attribute(part, Attribute::read(attribute.bytes()));
        }
        push_facts(
            &mut part.facts,
            scope.dropped_attributes_count(),
            scope_spans.schema_url(),
        );
    }

    /// Fills in the tags of a resource, and returns the name of the service.
    pub(super) fn resource<'a>(
        &mut self,
        part: &mut Part<'a>,
        envelope: &ResourceSpansView<'a>,
    ) -> &'a [u8] {
        let resource = envelope.resource();
        part.clear(self.max_bytes);
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
    ) -> &'a [u8] {
        let mut service_name = None;
        for attribute in envelope.resource().attributes() {
            let attribute = Attribute::read(attribute.bytes());
            let is_name = attribute.key == names::SERVICE_NAME.as_bytes();
            match attribute.value {
                Value::Text(name) if is_name && service_name.is_none() => service_name = Some(name),
                _ => self.attribute(part, attribute),
            }
        }
        let fact = match service_name {
            Some(b"") => marks::EMPTY,
            Some(name) => return name,
            None => marks::ABSENT,
        };
        marks::push_fact(&mut part.facts, marks::SERVICE, fact);
        names::UNKNOWN_SERVICE.as_bytes()
    }

    /// The Collector: the first of several attributes, which is named if it is not `service.name`.
    fn collectors_service_name<'a>(
        &mut self,
        part: &mut Part<'a>,
        envelope: &ResourceSpansView<'a>,
    ) -> &'a [u8] {
        let attributes = envelope.resource().attributes();
        let mut sources = names::SERVICE_NAME_SOURCES.into_iter();
        let source = sources.find_map(|key| Some((key, attributes.get(key)?.as_str()?)));
        if let Some((key, _)) = source
            && key != names::SERVICE_NAME
        {
            self.name(part, names::SERVICE_NAME_SOURCE, key);
            part.named = part.tags.len();
        }
        for attribute in attributes {
            if source.is_none_or(|(key, _)| attribute.key() != key) {
                self.attribute(part, Attribute::read(attribute.bytes()));
            }
        }
        let name = source.map_or(names::NO_SERVICE_NAME, |(_, name)| name);
        name.as_bytes()
    }

    /// Adds a tag with a name of the mapping's own, unless its value is empty.
    fn name(&mut self, part: &mut Part<'_>, key: &'static str, value: &str) {
        if !value.is_empty() {
            let end = part.marks.len();
            add::<O>(part, self.table, key.as_bytes(), value.as_bytes(), end..end);
        }
    }

    fn attribute<'a>(&mut self, part: &mut Part<'a>, attribute: Attribute<'a>) {
        if attribute.key == names::MARKS.as_bytes() || part.is_over() {
            return;
        }
        // Each mark is written as if it were the first, without a space.
        let text = &mut *self.text;
        text.clear();
        marks::push_key(text, attribute.key, attribute.value.view());
        part.marks.fail_with(text);
        let start = part.marks.len();
        part.marks.extend_from_slice(text);
        let mark = start..part.marks.len();
        text.clear();
        push_value(text, attribute.value, self.dialect);
        part.written.fail_with(text);
        add::<O>(part, self.table, attribute.key, text, mark);
    }
}

fn add<'a, O: Output>(
    part: &mut Part<'a>,
    table: &KeyTable,
    key: &'a [u8],
    value: &[u8],
    mark: Range<usize>,
) {
    let start = part.written.len();
    O::tag(&mut part.written, key, value);
    part.tags.push(SharedTag {
        key,
        hash: table.hash(key),
        written: start..part.written.len(),
        mark,
    });
}

fn push_facts(out: &mut Limited, dropped: u32, schema_url: &str) {
    if dropped != 0 {
        marks::push_number(out, marks::DROPPED, dropped);
    }
    if !schema_url.is_empty() {
        marks::push_fact(out, marks::SCHEMA, schema_url);
    }
}
