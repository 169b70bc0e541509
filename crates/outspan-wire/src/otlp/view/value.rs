//! Views of attributes and their values.

use std::fmt;
use std::fmt::Debug;
use std::fmt::Formatter;
use std::iter::FusedIterator;

use super::super::fields;
use super::super::reader::Field;
use super::super::reader::FieldValue;
use super::super::reader::Fields;
use super::super::reader::NESTING_MAX;
use super::PieceFields;
use super::next_bytes;
use super::text;

/// Reads a list of attributes.
#[derive(Clone, Copy)]
pub struct AttributesView<'a> {
    fields: PieceFields<'a>,
    number: u32,
}

impl<'a> AttributesView<'a> {
    pub(super) fn new(fields: PieceFields<'a>, number: u32) -> Self {
        Self { fields, number }
    }

    /// Returns an iterator over the attributes.
    pub fn iter(self) -> Attributes<'a> {
        Attributes {
            source: Source::Message(self.fields),
            number: self.number,
        }
    }

    /// Returns the value of the attribute with this key; of the first, if a sender broke the rule that keys are unique.
    pub fn get(self, key: &str) -> Option<ValueView<'a>> {
        let mut attributes = self.iter();
        let found = attributes.find(|attribute| attribute.key == key.as_bytes())?;
        Some(found.value())
    }

    /// Counts the attributes.
    pub fn len(self) -> usize {
        self.iter().count()
    }

    /// Tells whether there are none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

impl<'a> IntoIterator for AttributesView<'a> {
    type Item = AttributeView<'a>;
    type IntoIter = Attributes<'a>;

    fn into_iter(self) -> Attributes<'a> {
        self.iter()
    }
}

impl Debug for AttributesView<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        debug_attributes(self.iter(), formatter, NESTING_MAX)
    }
}

/// Iterates over attributes, or over the entries of a map.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    source: Source<'a>,
    number: u32,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = AttributeView<'a>;

    #[inline]
    fn next(&mut self) -> Option<AttributeView<'a>> {
        next_bytes(&mut self.source, self.number).map(AttributeView::new)
    }
}

impl FusedIterator for Attributes<'_> {}

/// Reads an attribute: a key and a value.
#[derive(Clone, Copy)]
pub struct AttributeView<'a> {
    bytes: &'a [u8],
    key: &'a [u8],
    /// The fields of the value, which may come in several parts.
    value: Option<PieceFields<'a>>,
}

impl<'a> AttributeView<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut attribute = Self {
            bytes,
            key: &[],
            value: None,
        };
        let mut left = Fields::new(bytes);
        while let Some(field) = left.next() {
            let FieldValue::Bytes(value) = field.value else {
                continue;
            };
            match field.number {
                fields::key_value::KEY => attribute.key = value,
                fields::key_value::VALUE if attribute.value.is_none() => {
                    attribute.value = Some(PieceFields {
                        fields: Fields::new(value),
                        rest: left,
                        number: fields::key_value::VALUE,
                    });
                }
                _ => {}
            }
        }
        attribute
    }

    /// Returns the bytes of the message.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the key.
    pub fn key(self) -> &'a str {
        text(self.key)
    }

    /// Returns the value; an absent one reads as an empty one.
    pub fn value(self) -> ValueView<'a> {
        self.value.map_or(ValueView::Empty, ValueView::new)
    }

    /// Tells whether the value is there at all.
    pub fn has_value(self) -> bool {
        self.value.is_some()
    }
}

impl Debug for AttributeView<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AttributeView")
            .field("key", &self.key())
            .field("value", &self.value())
            .finish()
    }
}

/// Reads an `AnyValue`.
///
/// A value that only profiles may use (an index into a table of texts) counts as empty.
#[derive(Clone, Copy)]
pub enum ValueView<'a> {
    /// No value.
    Empty,
    /// Text.
    Str(&'a str),
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// A list of values, each of any kind.
    Array(ArrayView<'a>),
    /// A list of keys with values.
    Map(MapView<'a>),
    /// Bytes without a meaning of their own.
    Bytes(&'a [u8]),
}

impl<'a> ValueView<'a> {
    /// Reads the fields of an `AnyValue`. All belong to one oneof: the last one set counts, but the parts of one list
    /// or map with no other kind of value between them are merged.
    fn new(mut left: PieceFields<'a>) -> Self {
        let mut value = Self::Empty;
        while let Some(field) = left.next() {
            value = match (field.number, field.value) {
                (fields::any_value::STRING_VALUE, FieldValue::Bytes(bytes)) => {
                    Self::Str(text(bytes))
                }
                (fields::any_value::BOOL_VALUE, FieldValue::Varint(number)) => {
                    Self::Bool(number != 0)
                }
                (fields::any_value::INT_VALUE, FieldValue::Varint(number)) => {
                    Self::Int(number as i64)
                }
                (fields::any_value::DOUBLE_VALUE, FieldValue::Fixed64(bits)) => {
                    Self::Double(f64::from_bits(bits))
                }
                (fields::any_value::ARRAY_VALUE, FieldValue::Bytes(bytes)) => match value {
                    Self::Array(_) => value,
                    _ => Self::Array(ArrayView {
                        list: List::new(bytes, left, fields::any_value::ARRAY_VALUE),
                    }),
                },
                (fields::any_value::KVLIST_VALUE, FieldValue::Bytes(bytes)) => match value {
                    Self::Map(_) => value,
                    _ => Self::Map(MapView {
                        list: List::new(bytes, left, fields::any_value::KVLIST_VALUE),
                    }),
                },
                (fields::any_value::BYTES_VALUE, FieldValue::Bytes(bytes)) => Self::Bytes(bytes),
                (fields::any_value::STRING_VALUE_STRINDEX, FieldValue::Varint(_)) => Self::Empty,
                _ => value,
            };
        }
        value
    }

    /// Returns the text, if the value is one.
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the integer, if the value is one.
    pub fn as_int(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number),
            _ => None,
        }
    }

    fn debug(self, formatter: &mut Formatter<'_>, nesting: u32) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("Empty"),
            Self::Str(text) => Debug::fmt(text, formatter),
            Self::Bool(value) => Debug::fmt(&value, formatter),
            Self::Int(value) => Debug::fmt(&value, formatter),
            Self::Double(value) => Debug::fmt(&value, formatter),
            Self::Bytes(bytes) => formatter.debug_tuple("Bytes").field(&bytes).finish(),
            Self::Array(_) | Self::Map(_) if nesting == 0 => formatter.write_str("..."),
            Self::Array(array) => {
                let values = array.iter().map(|value| DebugValue { value, nesting });
                formatter.debug_list().entries(values).finish()
            }
            Self::Map(map) => debug_attributes(map.iter(), formatter, nesting),
        }
    }
}

impl Debug for ValueView<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.debug(formatter, NESTING_MAX)
    }
}

/// Reads a list of values.
#[derive(Clone, Copy)]
pub struct ArrayView<'a> {
    list: List<'a>,
}

impl<'a> ArrayView<'a> {
    /// Returns an iterator over the values.
    pub fn iter(self) -> Values<'a> {
        Values {
            fields: self.list.fields(),
        }
    }

    /// Counts the values.
    pub fn len(self) -> usize {
        self.iter().count()
    }

    /// Tells whether there are none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

impl<'a> IntoIterator for ArrayView<'a> {
    type Item = ValueView<'a>;
    type IntoIter = Values<'a>;

    fn into_iter(self) -> Values<'a> {
        self.iter()
    }
}

impl Debug for ArrayView<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        ValueView::Array(*self).debug(formatter, NESTING_MAX)
    }
}

/// Iterates over the values of a list.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    fields: Source<'a>,
}

impl<'a> Iterator for Values<'a> {
    type Item = ValueView<'a>;

    fn next(&mut self) -> Option<ValueView<'a>> {
        let bytes = next_bytes(&mut self.fields, fields::array_value::VALUES)?;
        Some(ValueView::new(PieceFields::one(bytes)))
    }
}

impl FusedIterator for Values<'_> {}

/// Reads a map, which is a list of keys with values in the order they were sent.
#[derive(Clone, Copy)]
pub struct MapView<'a> {
    list: List<'a>,
}

impl<'a> MapView<'a> {
    /// Returns an iterator over the entries.
    pub fn iter(self) -> Attributes<'a> {
        Attributes {
            source: self.list.fields(),
            number: fields::key_value_list::VALUES,
        }
    }

    /// Returns the value with this key; the first, if a sender broke the rule that keys are unique.
    pub fn get(self, key: &str) -> Option<ValueView<'a>> {
        let mut entries = self.iter();
        let found = entries.find(|entry| entry.key == key.as_bytes())?;
        Some(found.value())
    }

    /// Counts the entries.
    pub fn len(self) -> usize {
        self.iter().count()
    }

    /// Tells whether there are none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

impl<'a> IntoIterator for MapView<'a> {
    type Item = AttributeView<'a>;
    type IntoIter = Attributes<'a>;

    fn into_iter(self) -> Attributes<'a> {
        self.iter()
    }
}

impl Debug for MapView<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        debug_attributes(self.iter(), formatter, NESTING_MAX)
    }
}

/// A list or map inside an `AnyValue`, which may come in several parts that follow each other in the value.
#[derive(Clone, Copy)]
struct List<'a> {
    first: &'a [u8],
    /// The fields of the value after the first part; those with `number` are further parts.
    rest: PieceFields<'a>,
    number: u32,
}

impl<'a> List<'a> {
    fn new(first: &'a [u8], rest: PieceFields<'a>, number: u32) -> Self {
        Self {
            first,
            rest,
            number,
        }
    }

    fn fields(self) -> Source<'a> {
        Source::List {
            fields: Fields::new(self.first),
            rest: self.rest,
            number: self.number,
        }
    }
}

/// Where the fields of a list come from.
#[derive(Clone, Debug)]
enum Source<'a> {
    Message(PieceFields<'a>),
    List {
        fields: Fields<'a>,
        rest: PieceFields<'a>,
        number: u32,
    },
}

impl<'a> Iterator for Source<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        match self {
            Self::Message(fields) => fields.next(),
            Self::List {
                fields,
                rest,
                number,
            } => loop {
                if let Some(field) = fields.next() {
                    return Some(field);
                }
                *fields = Fields::new(next_bytes(rest, *number)?);
            },
        }
    }
}

/// A value inside another, printed with a bound on the depth, because bytes that nobody validated may nest at will.
struct DebugValue<'a> {
    value: ValueView<'a>,
    nesting: u32,
}

impl Debug for DebugValue<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.value.debug(formatter, self.nesting.saturating_sub(1))
    }
}

fn debug_attributes(
    attributes: Attributes<'_>,
    formatter: &mut Formatter<'_>,
    nesting: u32,
) -> fmt::Result {
    let entries = attributes.map(|attribute| {
        let value = attribute.value();
        (attribute.key(), DebugValue { value, nesting })
    });
    formatter.debug_map().entries(entries).finish()
}
