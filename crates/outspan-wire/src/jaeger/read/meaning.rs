//! What tags mean: which are attributes, and which say something that OTLP has a field for.

use std::collections::HashMap;
use std::collections::VecDeque;

use super::json_value::write_json_text;
use super::parts::Log;
use super::parts::Process;
use super::parts::Span;
use super::parts::Tag;
use super::parts::Value;
use crate::jaeger::marks;
use crate::jaeger::names;
use crate::jaeger::names::Reserved;
use crate::otlp::SpanKind;
use crate::otlp::StatusCode;
use crate::otlp::ValueWriter;
use crate::otlp::Written;

const NANOS_PER_MICRO: u64 = 1_000;

/// What a tag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// An attribute of the process, span, event or link.
    Attribute(Form),
    /// An attribute of the instrumentation scope.
    Scope(Form),
    /// Not an attribute: OTLP has a field for it.
    Taken,
}

/// In which form a value stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Plain,
    /// A list or map as JSON.
    Json,
    /// The empty value, as an empty text.
    Empty,
}

/// Writes the value of a tag.
#[inline]
pub(super) fn write_value(writer: ValueWriter<'_>, value: &Value<'_>, form: Form) -> Written {
    match (value, form) {
        (Value::Text(text), Form::Json) => write_json_text(writer, text),
        (Value::Text(text), Form::Empty) if text.is_empty() => writer.empty(),
        (Value::Text(text), _) => writer.string(text),
        (Value::Double(number), _) => writer.double(*number),
        (Value::Bool(value), _) => writer.bool(*value),
        (Value::Long(number), _) => writer.int(*number),
        (Value::Bytes(bytes), _) => writer.bytes(bytes),
        (Value::Empty, _) => writer.empty(),
    }
}

/// What the marks of a process, span or log say.
#[derive(Debug, Default)]
struct Marks {
    /// For each key, what its next tags are.
    claims: HashMap<String, VecDeque<Role>>,
    dropped: u32,
    schema_url: String,
    service: Option<String>,
    kind: Option<i32>,
    status: Option<i32>,
    flags: Option<u32>,
    end: Option<u64>,
    is_root: bool,
    name: Option<String>,
    link: Option<usize>,
    state: String,
}

impl Marks {
    /// Finds and reads the marks, and gives the tag with them its role.
    fn take(tags: &[Tag<'_>], roles: &mut [Role]) -> Option<Self> {
        let is_marks = |tag: &Tag<'_>| tag.key == names::MARKS && tag.text().is_some();
        let index = tags.iter().rposition(is_marks)?;
        *roles.get_mut(index)? = Role::Taken;
        let text = tags.get(index).and_then(Tag::text)?;
        Some(Self::read(text))
    }

    fn read(text: &str) -> Self {
        let mut found = Self::default();
        let mut is_in_scope = false;
        for (name, value) in marks::read(text) {
            let form = match name {
                marks::OWN | marks::KEY => Form::Plain,
                marks::JSON => Form::Json,
                marks::EMPTY => Form::Empty,
                marks::SCOPE | marks::SPAN => {
                    is_in_scope = name == marks::SCOPE;
                    continue;
                }
                _ => {
                    found.set(name, &value);
                    continue;
                }
            };
            let role = match is_in_scope {
                true => Role::Scope(form),
                false => Role::Attribute(form),
            };
            let claims = found.claims.entry(value.into_owned());
            claims.or_default().push_back(role);
        }
        found
    }

    fn set(&mut self, name: &str, value: &str) {
        match name {
            marks::DROPPED => self.dropped = value.parse().unwrap_or_default(),
            marks::SCHEMA => value.clone_into(&mut self.schema_url),
            marks::SERVICE => self.service = Some(value.to_owned()),
            marks::KIND => self.kind = value.parse().ok(),
            marks::STATUS => self.status = value.parse().ok(),
            marks::FLAGS => self.flags = value.parse().ok(),
            marks::END => self.end = value.parse().ok(),
            marks::ROOT => self.is_root = true,
            marks::NAME => self.name = Some(value.to_owned()),
            marks::LINK => self.link = value.parse().ok(),
            marks::STATE => value.clone_into(&mut self.state),
            _ => {}
        }
    }

    /// Returns what the next tag with this key is, if a mark says so.
    fn claim(&mut self, key: &str) -> Option<Role> {
        self.claims.get_mut(key)?.pop_front()
    }

    /// Gives the tags that marks speak of their roles; `is_open` says afterwards which tags still have to be judged.
    fn claim_all(&mut self, tags: &[Tag<'_>], roles: &mut [Role], is_open: &mut Vec<bool>) {
        is_open.clear();
        for (tag, role) in tags.iter().zip(roles) {
            let claimed = match *role {
                Role::Taken => None,
                _ => self.claim(&tag.key),
            };
            is_open.push(claimed.is_none() && *role != Role::Taken);
            if let Some(claimed) = claimed {
                *role = claimed;
            }
        }
    }
}

/// What the tags of a process mean.
#[derive(Debug)]
pub(super) struct ProcessMeaning {
    pub(super) roles: Vec<Role>,
    /// Whether the name of the service is an attribute.
    pub(super) has_service_name: bool,
    /// Whether that name is empty, whatever stands there.
    pub(super) is_service_name_empty: bool,
    pub(super) dropped: u32,
    pub(super) schema_url: String,
}

impl ProcessMeaning {
    pub(super) fn of(process: &Process<'_>) -> Self {
        let mut roles = vec![Role::Attribute(Form::Plain); process.tags.len()];
        let mut found = Marks::take(&process.tags, &mut roles).unwrap_or_default();
        found.claim_all(&process.tags, &mut roles, &mut Vec::new());
        let service = found.service.as_deref();
        let has_tag = process
            .tags
            .iter()
            .any(|tag| tag.key == names::SERVICE_NAME);
        let is_empty = service == Some(marks::SERVICE_EMPTY);
        let is_there = is_empty || !process.service_name.is_empty();
        Self {
            roles,
            has_service_name: is_there && !has_tag && service != Some(marks::SERVICE_ABSENT),
            is_service_name_empty: is_empty,
            dropped: found.dropped,
            schema_url: found.schema_url,
        }
    }
}

/// What the tags, references and logs of a span mean; used again for every span.
#[derive(Debug, Default)]
pub(super) struct Meaning {
    pub(super) roles: Vec<Role>,
    pub(super) field_roles: Vec<Role>,
    is_open: Vec<bool>,
    /// Numbers of the tags with what OTLP has a field for.
    pub(super) scope_name: Option<usize>,
    pub(super) scope_version: Option<usize>,
    pub(super) trace_state: Option<usize>,
    pub(super) status_description: Option<usize>,
    pub(super) status: StatusCode,
    pub(super) kind: SpanKind,
    pub(super) dropped_attributes: u32,
    pub(super) dropped_events: u32,
    pub(super) dropped_links: u32,
    pub(super) scope_dropped: u32,
    pub(super) scope_schema_url: String,
    pub(super) flags: Option<u32>,
    pub(super) end: Option<u64>,
    pub(super) logs: Vec<LogMeaning>,
    /// The parent's id; zeros for none.
    pub(super) parent: [u8; 8],
    pub(super) links: Vec<Link>,
}

/// A reference that is a link.
#[derive(Debug)]
pub(super) struct Link {
    /// The number of the reference.
    pub(super) reference: usize,
    /// The number of the log that tells more about it.
    pub(super) log: Option<usize>,
}

/// What the fields of a log mean.
#[derive(Debug, Default)]
pub(super) struct LogMeaning {
    pub(super) name: EventName,
    pub(super) dropped: u32,
    /// Whether the log is about a link, and no event.
    pub(super) is_link: bool,
    pub(super) link_flags: u32,
    pub(super) link_state: String,
}

/// Where the name of an event stands.
#[derive(Debug, Default)]
pub(super) enum EventName {
    #[default]
    None,
    /// The number of the field among the fields of all logs.
    Field(usize),
    Mark(String),
}

impl Meaning {
    /// Finds out what a span means.
    pub(super) fn read(&mut self, span: &Span<'_>) {
        self.roles.clear();
        self.roles
            .resize(span.tags.len(), Role::Attribute(Form::Plain));
        self.scope_name = None;
        self.scope_version = None;
        self.trace_state = None;
        self.status_description = None;
        self.status = StatusCode::Unset;
        self.kind = SpanKind::Unspecified;
        self.dropped_attributes = 0;
        self.dropped_events = 0;
        self.dropped_links = 0;

        let found = Marks::take(&span.tags, &mut self.roles);
        let has_marks = found.is_some();
        let mut found = found.unwrap_or_default();
        if has_marks {
            found.claim_all(&span.tags, &mut self.roles, &mut self.is_open);
        }
        self.judge_tags(span, has_marks, &found);
        self.scope_dropped = found.dropped;
        self.scope_schema_url = found.schema_url;
        self.flags = found.flags;
        self.end = found.end;
        self.parent = parent_of(span, found.is_root);
        self.read_links(span, found.is_root);
        self.read_logs(span);
    }

    fn judge_tags(&mut self, span: &Span<'_>, has_marks: bool, found: &Marks) {
        let mut library_name = None;
        let mut library_version = None;
        let mut error = None;
        let mut code = None;
        let mut kind = None;
        for (number, tag) in span.tags.iter().enumerate() {
            let Some(reserved) = Reserved::of(tag.key.as_bytes()) else {
                continue;
            };
            if has_marks && !self.is_open.get(number).copied().unwrap_or(true) {
                continue;
            }
            let text_number = tag.as_text().map(|_| number);
            let is_taken = match reserved {
                Reserved::SpanKind => put(&mut kind, kind_of_value(&tag.value)),
                Reserved::Error => put(&mut error, is_true(&tag.value).then_some(number)),
                Reserved::StatusCode => put(&mut code, code_of_value(&tag.value)),
                Reserved::StatusDescription => put(&mut self.status_description, text_number),
                Reserved::TraceState => put(&mut self.trace_state, text_number),
                Reserved::ScopeName => put(&mut self.scope_name, text_number),
                Reserved::ScopeVersion => put(&mut self.scope_version, text_number),
                Reserved::LibraryName => put(&mut library_name, text_number),
                Reserved::LibraryVersion => put(&mut library_version, text_number),
                Reserved::DroppedAttributes => put_count(&mut self.dropped_attributes, tag),
                Reserved::DroppedEvents => put_count(&mut self.dropped_events, tag),
                Reserved::DroppedLinks => put_count(&mut self.dropped_links, tag),
                Reserved::Marks => false,
            };
            if is_taken {
                self.take(number);
            }
        }
        let has_library = library_name.is_some();
        self.scope_name = self.settle_library(span, self.scope_name, library_name);
        self.scope_version = self.settle_library(span, self.scope_version, library_version);
        self.settle_status(error.is_some(), code, found.status);
        self.kind = match (found.kind, kind) {
            (Some(number), _) => SpanKind::from_number(number),
            (None, Some(kind)) => kind,
            // OpenTelemetry's exporters leave out the tag for internal spans, and only for those.
            (None, None) if has_library => SpanKind::Internal,
            (None, None) => SpanKind::Unspecified,
        };
    }

    fn take(&mut self, number: usize) {
        self.set_role(number, Role::Taken);
    }

    fn set_role(&mut self, number: usize, role: Role) {
        if let Some(place) = self.roles.get_mut(number) {
            *place = role;
        }
    }

    /// Returns which of the tag of today and the one of old names the scope. The one of old stays an attribute where both are
    /// there and differ.
    fn settle_library(
        &mut self,
        span: &Span<'_>,
        scope: Option<usize>,
        library: Option<usize>,
    ) -> Option<usize> {
        let (Some(scope), Some(library)) = (scope, library) else {
            return scope.or(library);
        };
        let text_of = |number: usize| span.tags.get(number).and_then(Tag::as_text);
        if text_of(scope) != text_of(library) {
            self.set_role(library, Role::Attribute(Form::Plain));
        }
        Some(scope)
    }

    fn settle_status(&mut self, has_error: bool, code: Option<StatusCode>, mark: Option<i32>) {
        self.status = match (mark, code) {
            (Some(number), _) => StatusCode::from_number(number),
            (None, _) if has_error => StatusCode::Error,
            (None, Some(code)) => code,
            (None, None) => StatusCode::Unset,
        };
        if self.status == StatusCode::Unset && mark.is_none() {
            // Nobody said what it describes, so it stays an attribute.
            if let Some(number) = self.status_description.take() {
                self.set_role(number, Role::Attribute(Form::Plain));
            }
        }
    }

    /// Finds the links: the references, but for the one to the parent.
    fn read_links(&mut self, span: &Span<'_>, is_root: bool) {
        self.links.clear();
        for (number, reference) in span.references.iter().enumerate() {
            let is_parent = !is_root
                && reference.is_child_of
                && reference.span_id == self.parent
                && reference.trace_id == span.trace_id;
            if !is_parent {
                self.links.push(Link {
                    reference: number,
                    log: None,
                });
            }
        }
    }

    fn read_logs(&mut self, span: &Span<'_>) {
        self.field_roles.clear();
        self.field_roles
            .resize(span.fields.len(), Role::Attribute(Form::Plain));
        self.logs.clear();
        for (number, log) in span.logs.iter().enumerate() {
            let meaning = self.read_log(span, log, number);
            self.logs.push(meaning);
        }
    }

    fn read_log(&mut self, span: &Span<'_>, log: &Log, number: usize) -> LogMeaning {
        let mut meaning = LogMeaning::default();
        let (Some(fields), Some(roles)) = (
            span.fields.get(log.fields.clone()),
            self.field_roles.get_mut(log.fields.clone()),
        ) else {
            return meaning;
        };
        let Some(mut found) = Marks::take(fields, roles) else {
            judge_fields(fields, roles, log.fields.start, &mut meaning, &[]);
            return meaning;
        };
        let link = found.link.and_then(|link| self.links.get_mut(link));
        if let Some(link @ Link { log: None, .. }) = link {
            link.log = Some(number);
            take_link_fields(fields, roles);
            found.claim_all(fields, roles, &mut self.is_open);
            meaning.is_link = true;
            meaning.link_flags = found.flags.unwrap_or_default();
            meaning.link_state = found.state;
            meaning.dropped = found.dropped;
            return meaning;
        }
        found.claim_all(fields, roles, &mut self.is_open);
        judge_fields(fields, roles, log.fields.start, &mut meaning, &self.is_open);
        if let Some(name) = found.name {
            // The field is an attribute, whatever it looks like.
            if let EventName::Field(number) = meaning.name
                && let Some(role) = self.field_roles.get_mut(number)
            {
                *role = Role::Attribute(Form::Plain);
            }
            meaning.name = EventName::Mark(name);
        }
        meaning
    }
}

/// Returns the parent's id, or zeros: the span's own field, or else the first reference of the same trace.
fn parent_of(span: &Span<'_>, is_root: bool) -> [u8; 8] {
    if span.parent_span_id != [0; 8] || is_root {
        return span.parent_span_id;
    }
    let first = |is_child_of| {
        span.references.iter().find(move |reference| {
            reference.is_child_of == is_child_of && reference.trace_id == span.trace_id
        })
    };
    let reference = first(true).or_else(|| first(false));
    reference.map_or([0; 8], |reference| reference.span_id)
}

/// Finds the name of an event and its dropped attributes among the fields of a log that marks left open.
fn judge_fields(
    fields: &[Tag<'_>],
    roles: &mut [Role],
    start: usize,
    meaning: &mut LogMeaning,
    is_open: &[bool],
) {
    let mut message = None;
    for (index, (field, role)) in fields.iter().zip(&mut *roles).enumerate() {
        if !is_open.get(index).copied().unwrap_or(true) {
            continue;
        }
        let is_taken = match &*field.key {
            names::EVENT if field.text().is_some() => {
                let is_first = matches!(meaning.name, EventName::None);
                if is_first {
                    meaning.name = EventName::Field(start + index);
                }
                is_first
            }
            names::EVENT_DROPPED_ATTRIBUTES => put_count(&mut meaning.dropped, field),
            names::MESSAGE if field.text().is_some_and(|text| !text.is_empty()) => {
                message = Some(index);
                false
            }
            _ => false,
        };
        if is_taken {
            *role = Role::Taken;
        }
    }
    // Python's exporter names an event so, behind its attributes, and OpenTracing's logs without an event are like that.
    if matches!(meaning.name, EventName::None)
        && let Some(index) = message
    {
        meaning.name = EventName::Field(start + index);
        if let Some(role) = roles.get_mut(index) {
            *role = Role::Taken;
        }
    }
}

/// Takes what a log about a link repeats of its reference: the first field with each of these keys.
fn take_link_fields(fields: &[Tag<'_>], roles: &mut [Role]) {
    for key in [names::EVENT, names::LINK_TRACE_ID, names::LINK_SPAN_ID] {
        let first = fields.iter().position(|field| field.key == key);
        if let Some(role) = first.and_then(|index| roles.get_mut(index)) {
            *role = Role::Taken;
        }
    }
}

/// Keeps a value if it is there and the first, and tells whether it was kept.
fn put<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    let is_first = place.is_none() && value.is_some();
    if is_first {
        *place = value;
    }
    is_first
}

fn put_count(place: &mut u32, tag: &Tag<'_>) -> bool {
    match tag.count() {
        Some(count) if *place == 0 => {
            *place = count;
            true
        }
        _ => false,
    }
}

/// Tells whether the value of `error` marks a failure: a boolean in Jaeger's own clients, a number or a text in others.
fn is_true(value: &Value<'_>) -> bool {
    match value {
        Value::Bool(value) => *value,
        Value::Text(text) => text.eq_ignore_ascii_case("true"),
        value => value.whole().is_some_and(|number| number != 0),
    }
}

/// Reads a span kind, as text or as the number that OTLP gives it.
fn kind_of_value(value: &Value<'_>) -> Option<SpanKind> {
    if let Value::Text(text) = value {
        return kind_of(text.as_bytes());
    }
    SpanKind::named(value.whole()?)
}

/// Reads a status code, as text or as the number that OTLP gives it.
fn code_of_value(value: &Value<'_>) -> Option<StatusCode> {
    match value {
        Value::Text(text) => code_of(text.as_bytes()),
        value => StatusCode::named(value.whole()?),
    }
}

pub(super) fn kind_of(text: &[u8]) -> Option<SpanKind> {
    match text {
        b"client" => Some(SpanKind::Client),
        b"server" => Some(SpanKind::Server),
        b"producer" => Some(SpanKind::Producer),
        b"consumer" => Some(SpanKind::Consumer),
        b"internal" => Some(SpanKind::Internal),
        _ => None,
    }
}

pub(super) fn code_of(text: &[u8]) -> Option<StatusCode> {
    let text = text.strip_prefix(b"STATUS_CODE_").unwrap_or(text);
    let codes: [(&[u8], &[u8], StatusCode); 3] = [
        (b"OK", b"1", StatusCode::Ok),
        (b"ERROR", b"2", StatusCode::Error),
        (b"UNSET", b"0", StatusCode::Unset),
    ];
    let found = codes
        .iter()
        .find(|(name, number, _)| name.eq_ignore_ascii_case(text) || *number == text);
    found.map(|(_, _, code)| *code)
}

/// Returns microseconds as nanoseconds; a time before 1970 as 0, one too late for OTLP as the latest.
pub(super) fn nanos(micros: i64) -> u64 {
    u64::try_from(micros)
        .unwrap_or_default()
        .saturating_mul(NANOS_PER_MICRO)
}

#[cfg(test)]
mod tests {
    use super::super::parts::Reference;
    use super::*;

    #[test]
    fn no_reference_is_the_parent_of_a_marked_root_even_one_to_no_span() {
        let reference = Reference {
            is_child_of: true,
            trace_id: [1; 16],
            span_id: [0; 8],
        };
        let marks = Tag {
            key: names::MARKS.into(),
            value: Value::Text(marks::ROOT.into()),
        };
        let mut span = Span {
            trace_id: [1; 16],
            span_id: [2; 8],
            references: vec![reference],
            tags: vec![marks],
            ..Span::default()
        };
        let mut meaning = Meaning::default();
        meaning.read(&span);
        assert_eq!((meaning.parent, meaning.links.len()), ([0; 8], 1));

        span.tags.clear();
        meaning.read(&span);
        assert_eq!((meaning.parent, meaning.links.len()), ([0; 8], 0));
    }
}
