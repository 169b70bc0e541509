//! Spans as they were read, to an OTLP request.

use std::borrow::Cow;

use super::meaning::EventName;
use super::meaning::LogMeaning;
use super::meaning::Meaning;
use super::meaning::ProcessMeaning;
use super::meaning::Role;
use super::meaning::nanos;
use super::meaning::write_value;
use super::parts::Log;
use super::parts::Process;
use super::parts::Reference;
use super::parts::Span;
use super::parts::Tag;
use super::parts::Take;
use super::usual::UsualSpan;
use crate::ReadRequest;
use crate::jaeger::names;
use crate::otlp::EncodeSpan;
use crate::otlp::EncodedResource;
use crate::otlp::EventWriter;
use crate::otlp::LinkWriter;
use crate::otlp::ScopeWriter;
use crate::otlp::SpanWriter;
use crate::otlp::WireError;
use crate::read_output::Output;

/// The bit of Jaeger's flags that OTLP has too.
const SAMPLED: i32 = 1;

/// Collects spans.
pub(in crate::jaeger) struct Assembler {
    output: Output,
    resource: EncodedResource,
    meaning: Meaning,
    spans: usize,
    invalid: usize,
    first_invalid: Option<String>,
}

impl Assembler {
    /// `memory_max` is what all of it may take.
    pub(in crate::jaeger) fn new(memory_max: usize) -> Self {
        Self {
            output: Output::new(memory_max),
            resource: EncodedResource::default(),
            meaning: Meaning::default(),
            spans: 0,
            invalid: 0,
            first_invalid: None,
        }
    }

    /// Says what the following spans are about, with a process that was translated before.
    pub(in crate::jaeger) fn begin_resource(&mut self, resource: &EncodedResource) {
        self.resource = resource.clone();
    }

    /// Adds a span that was read in one pass.
    pub(super) fn usual_span(&mut self, span: &UsualSpan<'_>) {
        self.output.push(&self.resource, span);
        self.spans += 1;
    }

    /// Returns the request with all spans.
    ///
    /// # Errors
    ///
    /// If they take more memory than allowed.
    pub(in crate::jaeger) fn finish(self) -> Result<ReadRequest, WireError> {
        Ok(ReadRequest {
            bytes: self.output.finish()?,
            spans: self.spans,
            invalid: self.invalid,
            first_invalid: self.first_invalid,
        })
    }
}

impl Take for Assembler {
    fn assembler(&mut self) -> Option<&mut Assembler> {
        Some(self)
    }

    fn process(&mut self, process: &Process<'_>) {
        self.resource = resource_of(process);
    }

    /// Adds a span, or counts it as invalid.
    fn span(&mut self, span: &Span<'_>) {
        if let Some(reason) = invalid_reason(span) {
            let number = self.spans + self.invalid;
            self.invalid += 1;
            self.first_invalid
                .get_or_insert_with(|| format!("span {number}: {reason}"));
            return;
        }
        self.meaning.read(span);
        let meant = Meant {
            span,
            meaning: &self.meaning,
        };
        self.output.push(&self.resource, &meant);
        self.spans += 1;
    }
}

fn invalid_reason(span: &Span<'_>) -> Option<&'static str> {
    if span.trace_id == [0; 16] {
        return Some("the trace id is zero");
    }
    (span.span_id == [0; 8]).then_some("the span id is zero")
}

/// Translates a process.
pub(in crate::jaeger) fn resource_of(process: &Process<'_>) -> EncodedResource {
    let meaning = ProcessMeaning::of(process);
    EncodedResource::new(|resource| {
        if meaning.has_service_name {
            let name = match meaning.is_service_name_empty {
                true => "",
                false => &*process.service_name,
            };
            resource.attribute(names::SERVICE_NAME, name);
        }
        for (tag, role) in process.tags.iter().zip(&meaning.roles) {
            if let Role::Attribute(form) = *role {
                resource.attribute_with(&tag.key, |value| write_value(value, &tag.value, form));
            }
        }
        resource.dropped_attributes_count(meaning.dropped);
        resource.schema_url(&meaning.schema_url);
    })
}

/// A span and what it means.
struct Meant<'a> {
    span: &'a Span<'a>,
    meaning: &'a Meaning,
}

impl EncodeSpan for Meant<'_> {
    fn encode_scope(&self, scope: &mut ScopeWriter<'_>) {
        scope.name(&self.text_of(self.meaning.scope_name));
        scope.version(&self.text_of(self.meaning.scope_version));
        for (tag, role) in self.span.tags.iter().zip(&self.meaning.roles) {
            if let Role::Scope(form) = *role {
                scope.attribute_with(&tag.key, |value| write_value(value, &tag.value, form));
            }
        }
        scope.dropped_attributes_count(self.meaning.scope_dropped);
        scope.schema_url(&self.meaning.scope_schema_url);
    }

    fn encode(&self, writer: &mut SpanWriter<'_>) {
        let (span, meaning) = (self.span, self.meaning);
        writer.trace_id(span.trace_id);
        writer.span_id(span.span_id);
        writer.trace_state(&self.text_of(meaning.trace_state));
        writer.parent_span_id(meaning.parent);
        let sampled = (span.flags & SAMPLED) as u32;
        writer.flags(meaning.flags.unwrap_or(sampled));
        writer.name(&span.name);
        writer.kind(meaning.kind);
        writer.start_time_unix_nano(nanos(span.start));
        let end = || nanos(span.start.saturating_add(span.duration));
        writer.end_time_unix_nano(meaning.end.unwrap_or_else(end));
        self.attributes(writer);
        writer.dropped_attributes_count(meaning.dropped_attributes);
        self.events(writer);
        writer.dropped_events_count(meaning.dropped_events);
        self.links(writer);
        writer.dropped_links_count(meaning.dropped_links);
        writer.status(meaning.status, &self.text_of(meaning.status_description));
    }
}

impl Meant<'_> {
    fn text_of(&self, number: Option<usize>) -> Cow<'_, str> {
        let tag = number.and_then(|number| self.span.tags.get(number));
        tag.and_then(Tag::as_text).unwrap_or_default()
    }

    fn attributes(&self, writer: &mut SpanWriter<'_>) {
        let flags = self.span.flags;
        let mut are_flags_told = flags & !SAMPLED == 0;
        for (tag, role) in self.span.tags.iter().zip(&self.meaning.roles) {
            if let Role::Attribute(form) = *role {
                writer.attribute_with(&tag.key, |value| write_value(value, &tag.value, form));
                are_flags_told |= tag.key == names::JAEGER_FLAGS;
            }
        }
        if !are_flags_told {
            writer.attribute(names::JAEGER_FLAGS, flags);
        }
    }

    fn events(&self, writer: &mut SpanWriter<'_>) {
        for (log, meaning) in self.span.logs.iter().zip(&self.meaning.logs) {
            if meaning.is_link {
                continue;
            }
            writer.event(nanos(log.time), self.event_name(meaning), |event| {
                self.event_attributes(event, log);
                event.dropped_attributes_count(meaning.dropped);
            });
        }
    }

    fn event_name<'m>(&'m self, meaning: &'m LogMeaning) -> &'m str {
        match &meaning.name {
            EventName::None => "",
            EventName::Field(number) => {
                let field = self.span.fields.get(*number);
                field.and_then(Tag::text).unwrap_or_default()
            }
            EventName::Mark(name) => name,
        }
    }

    fn event_attributes(&self, event: &mut EventWriter<'_>, log: &Log) {
        for (field, role) in self.fields_of(log) {
            if let Role::Attribute(form) = role {
                event.attribute_with(&field.key, |value| write_value(value, &field.value, form));
            }
        }
    }

    fn links(&self, writer: &mut SpanWriter<'_>) {
        for link in &self.meaning.links {
            let Some(reference) = self.span.references.get(link.reference) else {
                continue;
            };
            writer.link(reference.trace_id, reference.span_id, |writer| {
                self.link(writer, reference, link.log);
            });
        }
    }

    fn link(&self, link: &mut LinkWriter<'_>, reference: &Reference, log: Option<usize>) {
        if reference.is_child_of {
            link.attribute(names::REF_TYPE, names::CHILD_OF);
        }
        let Some(log_number) = log else {
            return;
        };
        let (Some(log), Some(meaning)) = (
            self.span.logs.get(log_number),
            self.meaning.logs.get(log_number),
        ) else {
            return;
        };
        link.trace_state(&meaning.link_state);
        link.flags(meaning.link_flags);
        link.dropped_attributes_count(meaning.dropped);
        for (field, role) in self.fields_of(log) {
            if let Role::Attribute(form) = role {
                link.attribute_with(&field.key, |value| write_value(value, &field.value, form));
            }
        }
    }

    fn fields_of(&self, log: &Log) -> impl Iterator<Item = (&Tag<'_>, Role)> {
        let fields = self.span.fields.get(log.fields.clone());
        let roles = self.meaning.field_roles.get(log.fields.clone());
        let roles = roles.unwrap_or_default().iter().copied();
        fields.unwrap_or_default().iter().zip(roles)
    }
}
