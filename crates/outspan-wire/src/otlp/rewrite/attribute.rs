//! What a rewriter is asked about an attribute, and what it answers with.

use std::fmt;
use std::fmt::Debug;
use std::fmt::Formatter;

use super::super::encode::EncodeValue;
use super::super::encode::ValueWriter;
use super::super::encode::Written;
use super::super::fields;
use super::super::limits::ValueLimits;
use super::super::reader::Field;
use super::super::reader::WireType;
use super::super::view::EventView;
use super::super::view::LinkView;
use super::super::view::ResourceView;
use super::super::view::ScopeView;
use super::super::view::SpanView;
use super::super::view::ValueView;
use super::super::writer::short_tag;

/// Says what an attribute belongs to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum AttributeOwner<'a> {
    /// A resource.
    Resource(ResourceView<'a>),
    /// An instrumentation scope.
    Scope(ScopeView<'a>),
    /// A span.
    Span(&'a SpanView<'a>),
    /// An event of a span.
    Event(&'a SpanView<'a>, EventView<'a>),
    /// A link of a span.
    Link(&'a SpanView<'a>, LinkView<'a>),
}

impl AttributeOwner<'_> {
    /// Returns the field number of its attributes.
    pub(super) fn attributes_number(self) -> u32 {
        match self {
            Self::Resource(_) => fields::resource::ATTRIBUTES,
            Self::Scope(_) => fields::scope::ATTRIBUTES,
            Self::Span(_) => fields::span::ATTRIBUTES,
            Self::Event(..) => fields::event::ATTRIBUTES,
            Self::Link(..) => fields::link::ATTRIBUTES,
        }
    }

    fn tag(self) -> u8 {
        match self {
            Self::Resource(_) => const { short_tag(fields::resource::ATTRIBUTES, WireType::Bytes) },
            Self::Scope(_) => const { short_tag(fields::scope::ATTRIBUTES, WireType::Bytes) },
            Self::Span(_) => const { short_tag(fields::span::ATTRIBUTES, WireType::Bytes) },
            Self::Event(..) => const { short_tag(fields::event::ATTRIBUTES, WireType::Bytes) },
            Self::Link(..) => const { short_tag(fields::link::ATTRIBUTES, WireType::Bytes) },
        }
    }

    /// Returns the bound that protobuf sets to the nesting of a value here: the depth of its own message.
    fn limits(self) -> ValueLimits {
        ValueLimits::exempt(match self {
            Self::Resource(_) => 4,
            Self::Scope(_) | Self::Span(_) => 5,
            Self::Event(..) | Self::Link(..) => 6,
        })
    }
}

/// Takes the decision about one attribute.
pub struct AttributeSlot<'a> {
    out: &'a mut Vec<u8>,
    /// The attribute as it is, with its key and length.
    raw: &'a [u8],
    owner: AttributeOwner<'a>,
}

impl<'a> AttributeSlot<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, field: &Field<'a>, owner: AttributeOwner<'a>) -> Self {
        Self {
            out,
            raw: field.raw,
            owner,
        }
    }

    /// Keeps the attribute as it is.
    pub fn keep(self) -> Settled {
        self.out.extend_from_slice(self.raw);
        Settled(Change::Kept)
    }

    /// Removes the attribute.
    pub fn remove(self) -> Settled {
        Settled(Change::Removed)
    }

    /// Puts another attribute in its place.
    pub fn set(self, key: &str, value: impl EncodeValue) -> Settled {
        self.set_with(key, |writer| value.encode(writer))
    }

    /// Puts another attribute in its place, whose value `write` writes.
    pub fn set_with(self, key: &str, write: impl FnOnce(ValueWriter<'_>) -> Written) -> Settled {
        write_attribute(self.out, self.owner, key, write);
        Settled(Change::Replaced)
    }
}

impl Debug for AttributeSlot<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AttributeSlot")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// Proves that an attribute was decided about; only the methods of [`AttributeSlot`] make it.
#[derive(Debug)]
#[must_use = "return it to whoever asked about the attribute"]
pub struct Settled(Change);

impl Settled {
    pub(super) fn change(self) -> Change {
        self.0
    }
}

/// What became of an attribute.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Kept,
    Replaced,
    Removed,
}

/// Takes attributes to add.
pub struct NewAttributes<'a> {
    out: &'a mut Vec<u8>,
    owner: AttributeOwner<'a>,
    count: usize,
}

impl<'a> NewAttributes<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, owner: AttributeOwner<'a>) -> Self {
        Self {
            out,
            owner,
            count: 0,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Adds an attribute. OpenTelemetry wants each key once; nobody looks here.
    pub fn add(&mut self, key: &str, value: impl EncodeValue) {
        self.add_with(key, |writer| value.encode(writer));
    }

    /// Adds an attribute whose value `write` writes.
    pub fn add_with(&mut self, key: &str, write: impl FnOnce(ValueWriter<'_>) -> Written) {
        write_attribute(self.out, self.owner, key, write);
        self.count += 1;
    }
}

impl Debug for NewAttributes<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NewAttributes")
            .field("owner", &self.owner)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

fn write_attribute(
    out: &mut Vec<u8>,
    owner: AttributeOwner<'_>,
    key: &str,
    write: impl FnOnce(ValueWriter<'_>) -> Written,
) {
    drop(write(ValueWriter::of_pair(
        out,
        owner.tag(),
        key,
        owner.limits(),
    )));
}

/// Writes a value as it was read, so that parts of a list or map can be kept while others change.
impl EncodeValue for ValueView<'_> {
    fn encode(&self, value: ValueWriter<'_>) -> Written {
        match *self {
            Self::Empty => value.empty(),
            Self::Str(text) => value.string(text),
            Self::Bool(flag) => value.bool(flag),
            Self::Int(number) => value.int(number),
            Self::Double(number) => value.double(number),
            Self::Bytes(bytes) => value.bytes(bytes),
            Self::Array(array) => {
                value.array(|items| array.iter().for_each(|item| items.push(item)))
            }
            Self::Map(map) => value.map(|entries| {
                for entry in map {
                    entries.entry(entry.key(), entry.value());
                }
            }),
        }
    }
}
