//! Which tags are attributes, and what the others say.

use super::parts::Mark;
use super::parts::Parts;
use super::parts::Role;
use super::parts::Tag;
use super::parts::ValueType;
use super::text::read_link;
use crate::otlp::SpanKind;
use crate::otlp::StatusCode;
use crate::zipkin::marks;
use crate::zipkin::names;

/// What the tags of a span say besides its attributes. Texts are numbers of tags.
#[derive(Debug, Default)]
pub(super) struct Meaning {
    pub(super) status: StatusCode,
    pub(super) status_message: Option<usize>,
    pub(super) trace_state: Option<usize>,
    pub(super) scope_name: Option<usize>,
    pub(super) scope_version: Option<usize>,
    /// Whether there is a tag for the kind, whatever it says.
    has_kind_tag: bool,
    /// Whether there is a tag that names an OpenTelemetry SDK.
    has_sdk_tag: bool,
    pub(super) dropped_attributes: u32,
    pub(super) dropped_events: u32,
    pub(super) dropped_links: u32,
    /// The numbers of links, and of the tags that hold them.
    pub(super) links: Vec<(u32, usize)>,
    pub(super) service_source: Option<&'static str>,
    pub(super) marks: Marks,
    places: Places,
}

/// What the marks say besides what tags are, for all spans in a row that have these marks and the same keys.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub(super) flags: u32,
    /// Whether they name the kind: there is none.
    has_kind: bool,
    pub(super) service: Service,
    pub(super) scope: Facts,
    pub(super) resource: Facts,
    pub(super) has_scope_attributes: bool,
    text: String,
}

impl Marks {
    fn read(&mut self, parts: &mut Parts<'_>, marks_tag: Option<usize>) {
        *self = Self::default();
        for tag in &mut parts.tags {
            tag.mark = None;
        }
        let Some(tag) = marks_tag else {
            return;
        };
        self.text.push_str(value(parts, tag));
        let text = std::mem::take(&mut self.text);
        let mut section = Role::Span;
        for mark in text.split(' ') {
            match mark {
                marks::SCOPE => section = Role::Scope,
                marks::RESOURCE => section = Role::Resource,
                mark => self.read_mark(parts, section, mark),
            }
        }
        self.text = text;
        // It cannot be about itself.
        if let Some(tag) = parts.tags.get_mut(tag) {
            tag.mark = None;
        }
    }

    fn read_mark(&mut self, parts: &mut Parts<'_>, section: Role, mark: &str) {
        let (name, encoded) = match mark.split_once('=') {
            Some((name, encoded)) => (name, encoded),
            None => ("", mark),
        };
        let value_type = match name {
            "" => ValueType::Text,
            "bool" => ValueType::Bool,
            "int" => ValueType::Int,
            "double" => ValueType::Double,
            "bytes" => ValueType::Bytes,
            "json" => ValueType::Json,
            "empty" => ValueType::Empty,
            fact => return self.read_fact(section, fact, encoded),
        };
        let tag = parts.find(&marks::decode(encoded));
        let Some(tag) = tag.and_then(|number| parts.tags.get_mut(number)) else {
            return;
        };
        tag.mark = Some(Mark {
            section,
            value_type,
        });
        self.has_scope_attributes |= section == Role::Scope;
    }

    fn read_fact(&mut self, section: Role, fact: &str, encoded: &str) {
        let facts = match section {
            Role::Scope => &mut self.scope,
            Role::Resource => &mut self.resource,
            Role::Span | Role::Consumed => {
                if fact == marks::FLAGS {
                    self.flags = encoded.parse().unwrap_or_default();
                }
                self.has_kind |= fact == marks::KIND;
                return;
            }
        };
        match (fact, encoded) {
            (marks::DROPPED, count) => facts.dropped = count.parse().unwrap_or_default(),
            (marks::SCHEMA, url) => facts.schema_url = marks::decode(url).into_owned(),
            (marks::SERVICE, marks::ABSENT) => self.service = Service::Absent,
            (marks::SERVICE, marks::EMPTY) => self.service = Service::Empty,
            _ => {}
        }
    }
}

/// Where tags with a meaning are, for all spans in a row that have the same keys.
#[derive(Debug, Default)]
struct Places {
    shape: u64,
    marks: Option<usize>,
    status_code: Option<usize>,
    status_description: Option<usize>,
    error: Option<usize>,
    scope_name: Option<usize>,
    scope_version: Option<usize>,
    /// All whose keys [`names::is_read_specially`] knows.
    special: Vec<usize>,
}

impl Places {
    fn read(&mut self, parts: &Parts<'_>) {
        self.shape = parts.shape();
        self.marks = parts.find(names::MARKS);
        self.status_code = parts.find(names::STATUS_CODE);
        self.status_description = parts.find(names::STATUS_DESCRIPTION);
        self.error = parts.find(names::ERROR);
        self.scope_name = parts.find(names::SCOPE_NAME);
        self.scope_version = parts.find(names::SCOPE_VERSION);
        self.special.clear();
        for (number, tag) in parts.tags.iter().enumerate() {
            if names::is_read_specially(tag.key.as_bytes()) {
                self.special.push(number);
            }
        }
    }
}

/// What the name of the local endpoint is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Service {
    /// The service's name.
    #[default]
    Named,
    /// What stands there because there is no name.
    Absent,
    /// What stands there because the name is empty.
    Empty,
}

/// What is known about a scope or resource beside its attributes.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) schema_url: String,
    pub(super) dropped: u32,
}

impl Meaning {
    fn clear(&mut self) {
        let mut links = std::mem::take(&mut self.links);
        links.clear();
        *self = Self {
            links,
            marks: std::mem::take(&mut self.marks),
            places: std::mem::take(&mut self.places),
            ..Self::default()
        };
    }

    /// Finds out what the tags say, and gives each its role.
    pub(super) fn read(&mut self, parts: &mut Parts<'_>) {
        self.clear();
        let has_same_keys = self.places.shape == parts.shape();
        if !has_same_keys {
            self.places.read(parts);
        }
        let marks = self.places.marks.map_or("", |tag| value(parts, tag));
        if !has_same_keys || marks != self.marks.text {
            self.marks.read(parts, self.places.marks);
        }
        for tag in &mut parts.tags {
            tag.role = Role::Span;
            tag.value_type = tag.read_as;
            if let Some(mark) = tag.mark {
                tag.role = mark.section;
                tag.value_type = mark.value_type;
            }
        }
        if let Some(tag) = self.places.marks {
            set_role(parts, tag, Role::Consumed);
        }

        self.read_status(parts);
        for place in 0..self.places.special.len() {
            if let Some(&number) = self.places.special.get(place) {
                self.read_tag(parts, number);
            }
        }
        self.links.sort_unstable();
        // OpenTelemetry's exporters write nothing for internal spans, and only for those. Nobody else has a scope; the exporter of
        // Node.js has none either, but writes the attributes of the resource, which name the SDK.
        let has_kind = parts.kind != SpanKind::Unspecified || self.has_kind_tag;
        let is_opentelemetry = self.scope_name.is_some() || self.has_sdk_tag;
        if !has_kind && !self.marks.has_kind && is_opentelemetry {
            parts.kind = SpanKind::Internal;
        }
    }

    /// Reads the status: by its code, or else by `error`, which for Zipkin means one whatever it says.
    fn read_status(&mut self, parts: &mut Parts<'_>) {
        let code = unmarked(parts, self.places.status_code);
        let code = code.and_then(|tag| Some((tag, status_code(parts.tags.get(tag)?)?)));
        if let Some((tag, code)) = code {
            self.status = code;
            set_role(parts, tag, Role::Consumed);
        }
        if let Some(tag) = unmarked(parts, self.places.error) {
            self.read_error(parts, tag, code.is_some());
        }
        if let Some(tag) = unmarked(parts, self.places.status_description) {
            self.status_message = Some(tag);
            set_role(parts, tag, Role::Consumed);
        }
    }

    fn read_error(&mut self, parts: &mut Parts<'_>, tag: usize, has_code: bool) {
        let text = value(parts, tag);
        let number = parts.tags.get(tag).and_then(Tag::whole);
        let is_error = match self.status {
            StatusCode::Unset if !has_code => {
                !text.eq_ignore_ascii_case("false") && number != Some(0)
            }
            code => code == StatusCode::Error,
        };
        if !is_error {
            return;
        }
        // The Collector, and many others, write `true` for any error. A number says no more than that.
        if text != "true" && number.is_none() {
            self.status_message = Some(tag);
        }
        self.status = StatusCode::Error;
        set_role(parts, tag, Role::Consumed);
    }

    fn read_tag(&mut self, parts: &mut Parts<'_>, number: usize) {
        let Some(tag) = parts.tags.get(number) else {
            return;
        };
        if tag.mark.is_some() || tag.role == Role::Consumed {
            return;
        }
        let is_null = tag.read_as == ValueType::Empty;
        let role = match &*tag.key {
            // It says nothing.
            key if is_null && !names::is_about_resource(key.as_bytes()) => return,
            names::TRACE_STATE => {
                self.trace_state = Some(number);
                Role::Consumed
            }
            names::SPAN_KIND => {
                self.has_kind_tag = true;
                let Some(kind) = span_kind(tag) else {
                    return;
                };
                if parts.kind != SpanKind::Unspecified {
                    return;
                }
                parts.kind = kind;
                Role::Consumed
            }
            names::SCOPE_NAME => {
                self.scope_name = Some(number);
                Role::Consumed
            }
            names::SCOPE_VERSION => {
                self.scope_version = Some(number);
                Role::Consumed
            }
            names::LIBRARY_NAME => {
                let role = repeats(parts, number, self.places.scope_name);
                if self.places.scope_name.is_none() {
                    self.scope_name = Some(number);
                }
                role
            }
            names::LIBRARY_VERSION => {
                let role = repeats(parts, number, self.places.scope_version);
                if self.places.scope_version.is_none() {
                    self.scope_version = Some(number);
                }
                role
            }
            names::DROPPED_ATTRIBUTES => read_count(tag, &mut self.dropped_attributes),
            names::DROPPED_EVENTS => read_count(tag, &mut self.dropped_events),
            names::DROPPED_LINKS => read_count(tag, &mut self.dropped_links),
            names::SERVICE_NAME_SOURCE => {
                let mut sources = names::SERVICE_NAME_SOURCES.into_iter();
                self.service_source = sources.find(|key| *key == tag.value);
                match self.service_source {
                    Some(_) => Role::Consumed,
                    None => Role::Span,
                }
            }
            key => match key.strip_prefix(names::LINK_PREFIX) {
                None if key.starts_with(names::SDK_PREFIX) && self.places.marks.is_none() => {
                    self.has_sdk_tag = true;
                    Role::Resource
                }
                Some(link) => self.read_link(tag, number, link),
                None if self.places.marks.is_none() && names::is_about_resource(key.as_bytes()) => {
                    Role::Resource
                }
                None => Role::Span,
            },
        };
        set_role(parts, number, role);
    }

    fn read_link(&mut self, tag: &Tag<'_>, number: usize, link: &str) -> Role {
        let Ok(link) = link.parse() else {
            return Role::Span;
        };
        if read_link(&tag.value).is_none() {
            return Role::Span;
        }
        self.links.push((link, number));
        Role::Consumed
    }
}

/// Tells what a deprecated tag is: consumed if it says the same as its successor, or if there is none.
fn repeats(parts: &Parts<'_>, number: usize, successor: Option<usize>) -> Role {
    match successor {
        Some(successor) if value(parts, successor) != value(parts, number) => Role::Span,
        _ => Role::Consumed,
    }
}

fn read_count(tag: &Tag<'_>, count: &mut u32) -> Role {
    let whole = tag.whole().and_then(|number| u32::try_from(number).ok());
    match whole.or_else(|| tag.value.parse().ok()) {
        Some(number) => {
            *count = number;
            Role::Consumed
        }
        None => Role::Span,
    }
}

/// Reads a span kind, as text or as the number that OTLP gives it.
fn span_kind(tag: &Tag<'_>) -> Option<SpanKind> {
    if let Some(number) = tag.whole() {
        return SpanKind::named(number);
    }
    match &*tag.value {
        names::SPAN_KIND_INTERNAL => Some(SpanKind::Internal),
        "server" => Some(SpanKind::Server),
        "client" => Some(SpanKind::Client),
        "producer" => Some(SpanKind::Producer),
        "consumer" => Some(SpanKind::Consumer),
        _ => None,
    }
}

/// Reads a status code in the spelling of either dialect, or as the number that OTLP gives it, which the C++ SDK writes; what
/// is not one is an attribute.
fn status_code(tag: &Tag<'_>) -> Option<StatusCode> {
    let text = &*tag.value;
    let number = tag.whole().or_else(|| text.parse().ok());
    if let Some(number) = number {
        return StatusCode::named(number);
    }
    let name = text.strip_prefix("STATUS_CODE_").unwrap_or(text);
    let codes = [
        ("OK", StatusCode::Ok),
        ("ERROR", StatusCode::Error),
        ("UNSET", StatusCode::Unset),
    ];
    let found = codes
        .iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known));
    found.map(|&(_, code)| code)
}

/// Returns the tag if it has a value and no mark says what it is.
fn unmarked(parts: &Parts<'_>, number: Option<usize>) -> Option<usize> {
    let is_free = |tag: &Tag<'_>| tag.mark.is_none() && tag.read_as != ValueType::Empty;
    number.filter(|&number| parts.tags.get(number).is_some_and(is_free))
}

fn value<'p>(parts: &'p Parts<'_>, number: usize) -> &'p str {
    parts.tags.get(number).map_or("", |tag| &tag.value)
}

fn set_role(parts: &mut Parts<'_>, number: usize, role: Role) {
    if let Some(tag) = parts.tags.get_mut(number) {
        tag.role = role;
    }
}
