//! A span as its bytes say it, read in one pass.
//!
//! Views check the UTF-8 of each text they hand out, and walk over the span once for each of its lists. A validated request
//! needs neither.

use super::AttributeView;
use super::LinkView;
use super::ValueView;
use super::fields::any_value;
use super::fields::event;
use super::fields::key_value;
use super::fields::span;
use super::fields::status;
use super::reader::FieldValue;
use super::reader::Fields;
use super::reader::WireType;
use super::reader::read_bytes;
use super::reader::read_fixed64;
use super::reader::read_varint;
use super::writer::short_tag;

const KEY: u8 = short_tag(key_value::KEY, WireType::Bytes);
const VALUE: u8 = short_tag(key_value::VALUE, WireType::Bytes);
const STRING: u8 = short_tag(any_value::STRING_VALUE, WireType::Bytes);
const BOOL: u8 = short_tag(any_value::BOOL_VALUE, WireType::Varint);
const INT: u8 = short_tag(any_value::INT_VALUE, WireType::Varint);
const DOUBLE: u8 = short_tag(any_value::DOUBLE_VALUE, WireType::Fixed64);

/// The fields of a span; texts are UTF-8.
#[derive(Debug, Default)]
pub(crate) struct RawSpan<'a> {
    pub(crate) trace_id: &'a [u8],
    pub(crate) id: &'a [u8],
    pub(crate) parent_id: &'a [u8],
    pub(crate) trace_state: &'a [u8],
    pub(crate) name: &'a [u8],
    pub(crate) kind: i32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) dropped_attributes: u32,
    pub(crate) dropped_events: u32,
    pub(crate) dropped_links: u32,
    pub(crate) flags: u32,
    pub(crate) status_code: i32,
    pub(crate) status_message: &'a [u8],
    pub(crate) attributes: Vec<Attribute<'a>>,
    /// The attributes as messages.
    pub(crate) messages: Vec<&'a [u8]>,
    /// Which attributes are, byte by byte, those that the span read before has in the same places.
    pub(crate) unchanged: Places,
    /// How many attributes have been read so far.
    attribute_count: usize,
    /// Messages.
    pub(crate) events: Vec<&'a [u8]>,
    pub(crate) links: Vec<&'a [u8]>,
}

impl<'a> RawSpan<'a> {
    /// Reads another span into the same room.
    pub(crate) fn read(&mut self, bytes: &'a [u8]) {
        let mut events = std::mem::take(&mut self.events);
        let mut links = std::mem::take(&mut self.links);
        events.clear();
        links.clear();
        *self = Self {
            attributes: std::mem::take(&mut self.attributes),
            messages: std::mem::take(&mut self.messages),
            events,
            links,
            ..Self::default()
        };
        for field in Fields::new(bytes) {
            match field.value {
                FieldValue::Bytes(value) => self.set_bytes(field.number, value),
                FieldValue::Fixed64(value) if field.number == span::START_TIME_UNIX_NANO => {
                    self.start = value;
                }
                FieldValue::Fixed64(value) if field.number == span::END_TIME_UNIX_NANO => {
                    self.end = value;
                }
                FieldValue::Varint(value) => self.set_number(field.number, value),
                FieldValue::Fixed32(value) if field.number == span::FLAGS => self.flags = value,
                _ => {}
            }
        }
        self.attributes.truncate(self.attribute_count);
        self.messages.truncate(self.attribute_count);
    }

    /// Reads the next attribute, unless it is the one that stands there already. Neighbours have many in common.
    #[inline]
    fn set_attribute(&mut self, message: &'a [u8]) {
        let number = self.attribute_count;
        self.attribute_count += 1;
        let (Some(before), Some(place)) = (
            self.messages.get_mut(number),
            self.attributes.get_mut(number),
        ) else {
            self.messages.push(message);
            Attribute::read_to(&mut self.attributes, message);
            return;
        };
        if *before == message {
            self.unchanged.insert(number);
            return;
        }
        *before = message;
        place.set(message);
    }

    #[inline]
    fn set_bytes(&mut self, field: u32, value: &'a [u8]) {
        match field {
            span::ATTRIBUTES => self.set_attribute(value),
            span::EVENTS => self.events.push(value),
            span::LINKS => self.links.push(value),
            span::TRACE_ID => self.trace_id = value,
            span::SPAN_ID => self.id = value,
            span::PARENT_SPAN_ID => self.parent_id = value,
            span::TRACE_STATE => self.trace_state = value,
            span::NAME => self.name = value,
            span::STATUS => self.merge_status(value),
            _ => {}
        }
    }

    /// Returns the links.
    pub(crate) fn link_views(&self) -> impl Iterator<Item = LinkView<'a>> {
        self.links.iter().map(|&link| LinkView::new(link))
    }

    fn set_number(&mut self, field: u32, value: u64) {
        match field {
            span::KIND => self.kind = value as i32,
            span::DROPPED_ATTRIBUTES_COUNT => self.dropped_attributes = value as u32,
            span::DROPPED_EVENTS_COUNT => self.dropped_events = value as u32,
            span::DROPPED_LINKS_COUNT => self.dropped_links = value as u32,
            _ => {}
        }
    }

    fn merge_status(&mut self, bytes: &'a [u8]) {
        for field in Fields::new(bytes) {
            match (field.number, field.value) {
                (status::CODE, FieldValue::Varint(code)) => self.status_code = code as i32,
                (status::MESSAGE, FieldValue::Bytes(message)) => self.status_message = message,
                _ => {}
            }
        }
    }
}

/// A set of places in a list, of which only the first 64 are ever in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places(u64);

impl Places {
    #[inline]
    pub(crate) fn insert(&mut self, place: usize) {
        self.0 |= Self::bit(place);
    }

    #[inline]
    pub(crate) fn contains(self, place: usize) -> bool {
        self.0 & Self::bit(place) != 0
    }

    #[inline]
    fn bit(place: usize) -> u64 {
        u64::from(place < 64) << (place & 63)
    }
}

/// The fields of an event; texts are UTF-8.
#[derive(Debug, Default)]
pub(crate) struct RawEvent<'a> {
    pub(crate) time: u64,
    pub(crate) name: &'a [u8],
    pub(crate) dropped_attributes: u32,
    pub(crate) attributes: Vec<Attribute<'a>>,
}

impl<'a> RawEvent<'a> {
    /// Reads another event into the same room.
    pub(crate) fn read(&mut self, bytes: &'a [u8]) {
        self.time = 0;
        self.name = &[];
        self.dropped_attributes = 0;
        self.attributes.clear();
        for field in Fields::new(bytes) {
            match (field.number, field.value) {
                (event::TIME_UNIX_NANO, FieldValue::Fixed64(value)) => self.time = value,
                (event::NAME, FieldValue::Bytes(value)) => self.name = value,
                (event::ATTRIBUTES, FieldValue::Bytes(value)) => {
                    Attribute::read_to(&mut self.attributes, value);
                }
                (event::DROPPED_ATTRIBUTES_COUNT, FieldValue::Varint(value)) => {
                    self.dropped_attributes = value as u32;
                }
                _ => {}
            }
        }
    }
}

/// An attribute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: Value<'a>,
}

/// The value of an attribute.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Text(&'a [u8]),
    Int(i64),
    Double(f64),
    Bool(bool),
    /// Anything else, or anything written in an unusual way: the whole attribute as a message.
    Other(&'a [u8]),
}

impl<'a> Attribute<'a> {
    #[inline]
    pub(crate) fn read(message: &'a [u8]) -> Self {
        let Some((key, any)) = Self::usual(message) else {
            return Self::unusual(message);
        };
        let mut value = Value::Other(message);
        match value.set_usual(any) {
            Some(()) => Self { key, value },
            None => Self::unusual(message),
        }
    }

    /// Reads an attribute to the end of a list, in place: handing it over costs as much as reading it.
    #[inline]
    pub(crate) fn read_to(list: &mut Vec<Self>, message: &'a [u8]) {
        let value = Value::Other(message);
        list.push(Self { key: &[], value });
        if let Some(place) = list.last_mut() {
            place.set(message);
        }
    }

    /// Reads an attribute in the place of another.
    #[inline(always)]
    fn set(&mut self, message: &'a [u8]) {
        let (key, any) = Self::usual(message).unwrap_or_default();
        self.key = key;
        self.value = Value::Other(message);
        if self.value.set_usual(any).is_none() {
            *self = Self::unusual(message);
        }
    }

    /// Reads an attribute as every encoder writes it: the key, then a value, of which the fields are returned.
    #[inline(always)]
    fn usual(message: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let mut rest = message.strip_prefix(&[KEY])?;
        let key = read_bytes(&mut rest).ok()?;
        let mut rest = rest.strip_prefix(&[VALUE])?;
        let any = read_bytes(&mut rest).ok()?;
        rest.is_empty().then_some((key, any))
    }

    #[cold]
    fn unusual(message: &'a [u8]) -> Self {
        let view = AttributeView::new(message);
        let value = match view.value() {
            ValueView::Str(text) => Value::Text(text.as_bytes()),
            ValueView::Int(number) => Value::Int(number),
            ValueView::Double(number) => Value::Double(number),
            ValueView::Bool(value) => Value::Bool(value),
            _ => Value::Other(message),
        };
        Self {
            key: view.key().as_bytes(),
            value,
        }
    }
}

impl<'a> Value<'a> {
    /// Takes the value of an `AnyValue` of one field, if it is one of the frequent ones.
    #[inline(always)]
    fn set_usual(&mut self, any: &'a [u8]) -> Option<()> {
        let (&tag, mut rest) = any.split_first()?;
        match tag {
            STRING => *self = Self::Text(read_bytes(&mut rest).ok()?),
            INT => *self = Self::Int(read_varint(&mut rest).ok()? as i64),
            BOOL => *self = Self::Bool(read_varint(&mut rest).ok()? != 0),
            DOUBLE => *self = Self::Double(f64::from_bits(read_fixed64(&mut rest).ok()?)),
            _ => return None,
        }
        rest.is_empty().then_some(())
    }

    /// Returns the value as a view has it.
    pub(crate) fn view(self) -> ValueView<'a> {
        match self {
            Self::Text(text) => {
                ValueView::Str(simdutf8::basic::from_utf8(text).unwrap_or_default())
            }
            Self::Int(number) => ValueView::Int(number),
            Self::Double(number) => ValueView::Double(number),
            Self::Bool(value) => ValueView::Bool(value),
            Self::Other(message) => AttributeView::new(message).value(),
        }
    }
}
