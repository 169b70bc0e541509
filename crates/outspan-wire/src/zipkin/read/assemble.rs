//! Spans to an OTLP request.

use std::collections::HashMap;

use super::meaning::Meaning;
use super::meaning::Service;
use super::parts::Parts;
use super::parts::Role;
use super::parts::Tag;
use super::parts::nanos;
use super::text::read_event;
use super::text::read_link;
use super::value;
use crate::ReadRequest;
use crate::otlp::EncodeSpan;
use crate::otlp::EncodedResource;
use crate::otlp::ScopeWriter;
use crate::otlp::SpanWriter;
use crate::otlp::WireError;
use crate::read_output::Output;
use crate::zipkin::names;

/// Collects spans.
pub(super) struct Assembler {
    output: Output,
    meaning: Meaning,
    /// The resources so far, under what they are made of.
    resources: HashMap<Vec<u8>, EncodedResource>,
    /// What the resource of the span before is made of, and the resource.
    last: (Vec<u8>, EncodedResource),
    /// What the resource of the span at hand is made of.
    made_of: Vec<u8>,
    spans: usize,
    invalid: usize,
    first_invalid: Option<String>,
}

impl Assembler {
    /// `memory_max` is what all of it may take.
    pub(super) fn new(memory_max: usize) -> Self {
        Self {
            output: Output::new(memory_max),
            meaning: Meaning::default(),
            resources: HashMap::new(),
            last: (Vec::new(), EncodedResource::default()),
            made_of: Vec::new(),
            spans: 0,
            invalid: 0,
            first_invalid: None,
        }
    }

    /// Adds a span, or counts it as invalid.
    pub(super) fn push(&mut self, parts: &mut Parts<'_>) {
        if let Some(reason) = parts.invalid() {
            self.invalid += 1;
            let number = self.spans + self.invalid - 1;
            self.first_invalid
                .get_or_insert_with(|| format!("span {number}: {reason}"));
            return;
        }
        self.spans += 1;
        parts.end_tags();
        self.meaning.read(parts);
        self.find_resource(parts);
        let source = Source {
            parts,
            meaning: &self.meaning,
        };
        if self.output.push(&self.last.1, &source) {
            // As many as the encoder remembers: those of the spans that were written are not needed again.
            self.resources.clear();
        }
    }

    /// Returns the request with all spans.
    ///
    /// # Errors
    ///
    /// If they take more memory than allowed.
    pub(super) fn finish(self) -> Result<ReadRequest, WireError> {
        Ok(ReadRequest {
            bytes: self.output.finish()?,
            spans: self.spans,
            invalid: self.invalid,
            first_invalid: self.first_invalid,
        })
    }

    /// Makes the span's resource the last one.
    fn find_resource(&mut self, parts: &mut Parts<'_>) {
        let service = ServiceName::read(parts, &self.meaning);
        self.made_of.clear();
        let made_of = &mut self.made_of;
        if let Some(name) = &service {
            push_text(made_of, name.key);
            push_text(made_of, name.value(parts));
        }
        made_of.push(0);
        for tag in of_role(parts, Role::Resource) {
            made_of.push(1 + tag.value_type as u8);
            push_text(made_of, &tag.key);
            push_text(made_of, &tag.value);
        }
        let facts = &self.meaning.marks.resource;
        made_of.push(0);
        made_of.extend_from_slice(&facts.dropped.to_le_bytes());
        made_of.extend_from_slice(facts.schema_url.as_bytes());
        if *made_of == self.last.0 {
            return;
        }

        if !self.resources.contains_key(made_of) {
            let resource = encode_resource(parts, &self.meaning, service.as_ref());
            self.resources.insert(made_of.clone(), resource);
        }
        if let Some(resource) = self.resources.get(made_of) {
            self.last.1 = resource.clone();
            std::mem::swap(&mut self.last.0, &mut self.made_of);
        }
    }
}

fn encode_resource(
    parts: &Parts<'_>,
    meaning: &Meaning,
    service: Option<&ServiceName>,
) -> EncodedResource {
    EncodedResource::new(|resource| {
        if let Some(name) = service {
            resource.attribute(name.key, name.value(parts));
        }
        for tag in of_role(parts, Role::Resource) {
            resource.attribute_with(&tag.key, |value| {
                value::write(value, &tag.value, tag.value_type)
            });
        }
        resource.dropped_attributes_count(meaning.marks.resource.dropped);
        if !meaning.marks.resource.schema_url.is_empty() {
            resource.schema_url(&meaning.marks.resource.schema_url);
        }
    })
}

/// Appends text such that no two lists of texts look alike.
fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&text.len().to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn of_role<'p, 'a>(parts: &'p Parts<'a>, role: Role) -> impl Iterator<Item = &'p Tag<'a>> {
    parts.tags.iter().filter(move |tag| tag.role == role)
}

/// Where a service's name stands.
#[derive(Debug)]
struct ServiceName {
    /// The resource attribute that it is.
    key: &'static str,
    place: ServicePlace,
}

#[derive(Clone, Copy, Debug)]
enum ServicePlace {
    LocalEndpoint,
    Tag(usize),
    Nowhere,
}

impl ServiceName {
    /// Finds the service's name: that of the local endpoint, unless it stands for none.
    ///
    /// Some clients repeat it in a tag. Zipkin makes the endpoint's lower-case, so that the tag is the better one.
    fn read(parts: &mut Parts<'_>, meaning: &Meaning) -> Option<Self> {
        let key = meaning.service_source.unwrap_or(names::SERVICE_NAME);
        let local = &*parts.local.service_name;
        let place = match meaning.marks.service {
            Service::Absent => return None,
            Service::Empty => ServicePlace::Nowhere,
            Service::Named if local.is_empty() || local == names::NO_SERVICE_NAME => return None,
            Service::Named => ServicePlace::LocalEndpoint,
        };
        let Some(number) = parts.find(key) else {
            return Some(Self { key, place });
        };
        let repeats = |tag: &Tag<'_>| tag.role == Role::Resource && tag.mark.is_none();
        let Some(tag) = parts.tags.get_mut(number).filter(|tag| repeats(tag)) else {
            return Some(Self { key, place });
        };
        if !tag.value.eq_ignore_ascii_case(&parts.local.service_name) {
            tag.role = Role::Span;
            return Some(Self { key, place });
        }
        tag.role = Role::Consumed;
        Some(Self {
            key,
            place: ServicePlace::Tag(number),
        })
    }

    fn value<'p>(&self, parts: &'p Parts<'_>) -> &'p str {
        match self.place {
            ServicePlace::LocalEndpoint => &parts.local.service_name,
            ServicePlace::Tag(number) => parts.tags.get(number).map_or("", |tag| &tag.value),
            ServicePlace::Nowhere => "",
        }
    }
}

/// A span with what its tags say.
struct Source<'p, 'a> {
    parts: &'p Parts<'a>,
    meaning: &'p Meaning,
}

impl EncodeSpan for Source<'_, '_> {
    fn encode_scope(&self, scope: &mut ScopeWriter<'_>) {
        scope.name(self.text(self.meaning.scope_name));
        scope.version(self.text(self.meaning.scope_version));
        if self.meaning.marks.has_scope_attributes {
            for tag in of_role(self.parts, Role::Scope) {
                scope.attribute_with(&tag.key, |value| {
                    value::write(value, &tag.value, tag.value_type)
                });
            }
        }
        let facts = &self.meaning.marks.scope;
        scope.dropped_attributes_count(facts.dropped);
        if !facts.schema_url.is_empty() {
            scope.schema_url(&facts.schema_url);
        }
    }

    fn encode(&self, span: &mut SpanWriter<'_>) {
        let parts = self.parts;
        let meaning = self.meaning;
        span.trace_id(parts.trace_id);
        span.span_id(parts.id);
        span.trace_state(self.text(meaning.trace_state));
        // Zipkin drops a parent that is the span itself.
        if parts.parent_id != parts.id {
            span.parent_span_id(parts.parent_id);
        }
        span.flags(meaning.marks.flags);
        span.name(&parts.name);
        span.kind(parts.kind);
        span.start_time_unix_nano(parts.start());
        span.end_time_unix_nano(parts.end());
        for tag in of_role(parts, Role::Span) {
            span.attribute_with(&tag.key, |value| {
                value::write(value, &tag.value, tag.value_type)
            });
        }
        self.endpoints(span);
        self.marks(span);
        self.events(span);
        self.links(span);
        span.status(meaning.status, self.text(meaning.status_message));
        span.dropped_attributes_count(meaning.dropped_attributes);
        span.dropped_events_count(meaning.dropped_events);
        span.dropped_links_count(meaning.dropped_links);
    }
}

impl Source<'_, '_> {
    fn text(&self, tag: Option<usize>) -> &str {
        let tag = tag.and_then(|number| self.parts.tags.get(number));
        tag.map_or("", |tag| &tag.value)
    }

    /// Writes what endpoints say and tags do not.
    fn endpoints(&self, span: &mut SpanWriter<'_>) {
        let local = &self.parts.local;
        self.unless_known(span, names::LOCAL_ADDRESS, local.address());
        self.port_unless_known(span, names::LOCAL_PORT, local.port);

        let remote = &self.parts.remote;
        if remote.is_empty() {
            return;
        }
        if !self.has_rank(|key| self.has_text(key, &remote.service_name)) {
            self.unless_known(span, names::PEER_SERVICE, &remote.service_name);
        }
        if !self.has_rank(|key| self.has_address(key, remote.address())) {
            self.unless_known(span, names::PEER_ADDRESS, remote.address());
        }
        let port = remote.port.to_string();
        let has_port = names::REMOTE_RANKS
            .iter()
            .filter_map(|rank| rank.port)
            .any(|key| self.has_text(key, &port));
        if !has_port {
            self.port_unless_known(span, names::PEER_PORT, remote.port);
        }
    }

    fn has_rank(&self, is_same: impl Fn(&str) -> bool) -> bool {
        names::REMOTE_RANKS.iter().any(|rank| is_same(rank.key))
    }

    fn has_text(&self, key: &str, text: &str) -> bool {
        let tag = self.parts.get(key);
        tag.is_some_and(|tag| tag.value.eq_ignore_ascii_case(text))
    }

    fn has_address(&self, key: &str, address: &str) -> bool {
        let canonical = |text: &str| {
            let address: Option<std::net::IpAddr> = text.parse().ok();
            address.map(|address| address.to_canonical())
        };
        let Some(tag) = self.parts.get(key) else {
            return false;
        };
        tag.value == address
            || canonical(address).is_some_and(|address| canonical(&tag.value) == Some(address))
    }

    fn unless_known(&self, span: &mut SpanWriter<'_>, key: &str, text: &str) {
        if !text.is_empty() && self.parts.find(key).is_none() {
            span.attribute(key, text);
        }
    }

    fn port_unless_known(&self, span: &mut SpanWriter<'_>, key: &str, port: u16) {
        if port != 0 && self.parts.find(key).is_none() {
            span.attribute(key, i64::from(port));
        }
    }

    /// Writes what OTLP has no field for.
    fn marks(&self, span: &mut SpanWriter<'_>) {
        if self.parts.shared && self.parts.find(names::SHARED).is_none() {
            span.attribute(names::SHARED, true);
        }
        if self.parts.debug && self.parts.find(names::DEBUG).is_none() {
            span.attribute(names::DEBUG, true);
        }
    }

    fn events(&self, span: &mut SpanWriter<'_>) {
        for annotation in &self.parts.annotations {
            let event = read_event(&annotation.value);
            span.event(nanos(annotation.timestamp), &event.name, |writer| {
                for member in event.attributes.iter() {
                    writer.attribute_with(&member.key, |value| member.write(value));
                }
                writer.dropped_attributes_count(event.dropped);
            });
        }
    }

    fn links(&self, span: &mut SpanWriter<'_>) {
        for &(_, number) in &self.meaning.links {
            let Some(link) = read_link(self.text(Some(number))) else {
                continue;
            };
            span.link(link.trace_id, link.span_id, |writer| {
                writer.trace_state(link.trace_state);
                for member in link.attributes.iter() {
                    writer.attribute_with(&member.key, |value| member.write(value));
                }
                writer.dropped_attributes_count(link.dropped);
            });
        }
    }
}
