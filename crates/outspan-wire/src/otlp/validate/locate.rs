//! Finds the words for a place in a request, once it is known that something is wrong there.
//!
//! The pass over good bytes carries no names and no indexes for this; a broken request is walked a second time.

use std::fmt::Write;

use super::super::reader::Fault;
use super::super::reader::Field;
use super::super::reader::FieldValue;
use super::super::reader::Fields;
use super::super::reader::NESTING_MAX;
use super::super::reader::offset_of;
use super::super::reader::read_key;
use crate::error::WireError;
use crate::error::WireErrorKind;

/// Turns a fault into an error with offset, field and path.
#[cold]
pub(in crate::otlp) fn explain(fault: Fault, request: &[u8]) -> WireError {
    let offset = fault.offset_in(request);
    let mut place = Place {
        request,
        offset,
        field: String::new(),
        path: String::new(),
    };
    let mut at = Some((Message::Request, request));
    // At the bound there may be one message more than may begin.
    for _ in 0..=NESTING_MAX + 1 {
        let Some((message, bytes)) = at else {
            break;
        };
        at = place.step(message, bytes, fault.kind);
    }
    WireError::new(fault.kind, offset, place.field, place.path)
}

struct Place<'a> {
    request: &'a [u8],
    offset: usize,
    field: String,
    path: String,
}

impl<'a> Place<'a> {
    /// Finds the field of a message that holds the place, adds it to the path, and returns the message inside it, if any.
    fn step(
        &mut self,
        message: Message,
        bytes: &'a [u8],
        kind: WireErrorKind,
    ) -> Option<(Message, &'a [u8])> {
        let mut left = Fields::new(bytes);
        // How often each field was seen; numbers of the schema end at 16.
        let mut seen = [0usize; 17];
        loop {
            let start = left.rest();
            let found = match left.read() {
                Ok(Some(field)) => Found::Whole(field),
                Ok(None) => return None,
                Err(_) => Found::Broken(read_key(&mut &*start).ok()?.number()),
            };
            if let Found::Whole(field) = found
                && offset_of(start, self.request) + field.raw.len() <= self.offset
            {
                if let Some(count) = seen.get_mut(field.number as usize) {
                    *count += 1;
                }
                continue;
            }
            let number = found.number();
            let Some(schema) = message.field(number) else {
                self.unknown(message, number);
                return None;
            };
            let index = seen.get(number as usize).copied().unwrap_or_default();
            self.add(message, schema, index);
            let Found::Whole(field) = found else {
                return None;
            };
            let (Some(inner), FieldValue::Bytes(bytes)) = (schema.inner, field.value) else {
                return None;
            };
            // A fault of the field itself, not of something in it.
            if offset_of(bytes, self.request) > self.offset
                || kind == WireErrorKind::Nesting && offset_of(start, self.request) == self.offset
            {
                return None;
            }
            return Some((inner, bytes));
        }
    }

    fn add(&mut self, message: Message, field: SchemaField, index: usize) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(field.name);
        if field.repeated {
            write!(self.path, "[{index}]").expect("writing to a String cannot fail");
        }
        self.field = format!("{}.{}", message.name(), field.name);
    }

    fn unknown(&mut self, message: Message, number: u32) {
        self.field = format!("{}, unknown field {number}", message.name());
    }
}

enum Found<'a> {
    Whole(Field<'a>),
    /// The number of a field whose value cannot be read.
    Broken(u32),
}

impl Found<'_> {
    fn number(&self) -> u32 {
        match self {
            Self::Whole(field) => field.number,
            Self::Broken(number) => *number,
        }
    }
}

/// The messages of the schema.
#[derive(Clone, Copy)]
enum Message {
    Request,
    ResourceSpans,
    Resource,
    EntityRef,
    ScopeSpans,
    Scope,
    Span,
    Event,
    Link,
    Status,
    KeyValue,
    AnyValue,
    ArrayValue,
    KeyValueList,
}

#[derive(Clone, Copy)]
struct SchemaField {
    name: &'static str,
    repeated: bool,
    inner: Option<Message>,
}

const fn one(name: &'static str) -> SchemaField {
    SchemaField {
        name,
        repeated: false,
        inner: None,
    }
}

const fn message(name: &'static str, inner: Message) -> SchemaField {
    SchemaField {
        name,
        repeated: false,
        inner: Some(inner),
    }
}

const fn many(name: &'static str, inner: Message) -> SchemaField {
    SchemaField {
        name,
        repeated: true,
        inner: Some(inner),
    }
}

const fn texts(name: &'static str) -> SchemaField {
    SchemaField {
        name,
        repeated: true,
        inner: None,
    }
}

impl Message {
    fn name(self) -> &'static str {
        match self {
            Self::Request => "ExportTraceServiceRequest",
            Self::ResourceSpans => "ResourceSpans",
            Self::Resource => "Resource",
            Self::EntityRef => "EntityRef",
            Self::ScopeSpans => "ScopeSpans",
            Self::Scope => "InstrumentationScope",
            Self::Span => "Span",
            Self::Event => "Event",
            Self::Link => "Link",
            Self::Status => "Status",
            Self::KeyValue => "KeyValue",
            Self::AnyValue => "AnyValue",
            Self::ArrayValue => "ArrayValue",
            Self::KeyValueList => "KeyValueList",
        }
    }

    /// Returns the fields of the message, the one with number 1 first.
    fn fields(self) -> &'static [SchemaField] {
        const KEY_VALUES: SchemaField = many("attributes", Message::KeyValue);
        const DROPPED: SchemaField = one("dropped_attributes_count");
        match self {
            Self::Request => const { &[many("resource_spans", Self::ResourceSpans)] },
            Self::ResourceSpans => {
                const {
                    &[
                        message("resource", Self::Resource),
                        many("scope_spans", Self::ScopeSpans),
                        one("schema_url"),
                    ]
                }
            }
            Self::Resource => {
                const { &[KEY_VALUES, DROPPED, many("entity_refs", Self::EntityRef)] }
            }
            Self::EntityRef => {
                const {
                    &[
                        one("schema_url"),
                        one("type"),
                        texts("id_keys"),
                        texts("description_keys"),
                    ]
                }
            }
            Self::ScopeSpans => {
                const {
                    &[
                        message("scope", Self::Scope),
                        many("spans", Self::Span),
                        one("schema_url"),
                    ]
                }
            }
            Self::Scope => const { &[one("name"), one("version"), KEY_VALUES, DROPPED] },
            Self::Span => {
                const {
                    &[
                        one("trace_id"),
                        one("span_id"),
                        one("trace_state"),
                        one("parent_span_id"),
                        one("name"),
                        one("kind"),
                        one("start_time_unix_nano"),
                        one("end_time_unix_nano"),
                        KEY_VALUES,
                        DROPPED,
                        many("events", Self::Event),
                        one("dropped_events_count"),
                        many("links", Self::Link),
                        one("dropped_links_count"),
                        message("status", Self::Status),
                        one("flags"),
                    ]
                }
            }
            Self::Event => const { &[one("time_unix_nano"), one("name"), KEY_VALUES, DROPPED] },
            Self::Link => {
                const {
                    &[
                        one("trace_id"),
                        one("span_id"),
                        one("trace_state"),
                        KEY_VALUES,
                        DROPPED,
                        one("flags"),
                    ]
                }
            }
            Self::Status => const { &[one(""), one("message"), one("code")] },
            Self::KeyValue => {
                const {
                    &[
                        one("key"),
                        message("value", Self::AnyValue),
                        one("key_strindex"),
                    ]
                }
            }
            Self::AnyValue => {
                const {
                    &[
                        one("string_value"),
                        one("bool_value"),
                        one("int_value"),
                        one("double_value"),
                        message("array_value", Self::ArrayValue),
                        message("kvlist_value", Self::KeyValueList),
                        one("bytes_value"),
                        one("string_value_strindex"),
                    ]
                }
            }
            Self::ArrayValue => const { &[many("values", Self::AnyValue)] },
            Self::KeyValueList => const { &[many("values", Self::KeyValue)] },
        }
    }

    fn field(self, number: u32) -> Option<SchemaField> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let field = self.fields().get(index).copied()?;
        (!field.name.is_empty()).then_some(field)
    }
}
