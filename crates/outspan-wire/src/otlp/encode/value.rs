//! Attribute values and lists of attributes.

use std::borrow::Cow;
use std::fmt;

use crate::otlp::fields::any_value;
use crate::otlp::fields::array_value;
use crate::otlp::fields::key_value;
use crate::otlp::fields::key_value_list;
use crate::otlp::limits::ValueLimits;
use crate::otlp::reader::WireType;
use crate::otlp::reader::varint_length;
use crate::otlp::writer::close;
use crate::otlp::writer::delimited_len;
use crate::otlp::writer::open;
use crate::otlp::writer::open_untagged;
use crate::otlp::writer::push_varint;
use crate::otlp::writer::short_tag;

const KEY: u8 = short_tag(key_value::KEY, WireType::Bytes);
const VALUE: u8 = short_tag(key_value::VALUE, WireType::Bytes);
const ARRAY_ITEM: u8 = short_tag(array_value::VALUES, WireType::Bytes);
const MAP_ENTRY: u8 = short_tag(key_value_list::VALUES, WireType::Bytes);
const STRING: u8 = short_tag(any_value::STRING_VALUE, WireType::Bytes);
const BOOL: u8 = short_tag(any_value::BOOL_VALUE, WireType::Varint);
const INT: u8 = short_tag(any_value::INT_VALUE, WireType::Varint);
const DOUBLE: u8 = short_tag(any_value::DOUBLE_VALUE, WireType::Fixed64);
const BYTES: u8 = short_tag(any_value::BYTES_VALUE, WireType::Bytes);

/// Lengths below this take one byte.
const ONE_BYTE: usize = 0x80;

/// A value that can write itself as an OpenTelemetry `AnyValue`.
///
/// Implemented for strings, booleans, integers up to 64 bits (`u64` is not among them, because OTLP has no
/// unsigned values), floats, byte slices, slices of values, and `Option`, whose `None` is the empty value.
/// Implement it for a value type of your own to hand it to [`SpanWriter::attribute`](super::SpanWriter::attribute).
///
/// # Examples
///
/// ```
/// use outspan_wire::otlp::EncodeValue;
/// use outspan_wire::otlp::ValueWriter;
/// use outspan_wire::otlp::Written;
///
/// enum Setting {
///     Flag(bool),
///     Names(Vec<String>),
/// }
///
/// impl EncodeValue for Setting {
///     fn encode(&self, value: ValueWriter<'_>) -> Written {
///         match self {
///             Self::Flag(flag) => value.bool(*flag),
///             Self::Names(names) => value.array(|items| {
///                 for name in names {
///                     items.push(name);
///                 }
///             }),
///         }
///     }
/// }
/// ```
pub trait EncodeValue {
    /// Writes the value with one call to `value`, whose answer it returns.
    fn encode(&self, value: ValueWriter<'_>) -> Written;
}

/// Proves that a value was written; only the methods of [`ValueWriter`] make it.
#[derive(Debug)]
#[must_use = "return it to whoever asked for the value"]
pub struct Written(());

/// Takes one value, in the form that its one called method says.
pub struct ValueWriter<'a> {
    out: &'a mut Vec<u8>,
    /// The tag of the field that the value, or the pair with the value, will be.
    tag: u8,
    /// The key, unless the value stands in an array.
    key: Option<&'a str>,
    limits: ValueLimits,
}

impl<'a> ValueWriter<'a> {
    #[inline]
    pub(in crate::otlp) fn of_pair(
        out: &'a mut Vec<u8>,
        tag: u8,
        key: &'a str,
        limits: ValueLimits,
    ) -> Self {
        Self {
            out,
            tag,
            key: Some(key),
            limits,
        }
    }

    /// Writes a string.
    #[inline]
    pub fn string(self, text: &str) -> Written {
        let text = self.limits.cut_str(text);
        self.delimited(STRING, text.as_bytes())
    }

    /// Writes a boolean.
    #[inline]
    pub fn bool(self, value: bool) -> Written {
        self.one_byte(BOOL, u8::from(value))
    }

    /// Writes a signed integer.
    #[inline]
    pub fn int(mut self, value: i64) -> Written {
        let varint = value as u64;
        if varint < ONE_BYTE as u64 {
            return self.one_byte(INT, varint as u8);
        }
        self.begin(1 + varint_length(varint));
        self.out.push(INT);
        push_varint(self.out, varint);
        Written(())
    }

    /// Writes a floating-point number, bit for bit.
    #[inline]
    pub fn double(mut self, value: f64) -> Written {
        self.begin(9);
        self.out.push(DOUBLE);
        self.out.extend_from_slice(&value.to_bits().to_le_bytes());
        Written(())
    }

    /// Writes a byte array.
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Written {
        let bytes = self.limits.cut_bytes(bytes);
        self.delimited(BYTES, bytes)
    }

    /// Writes the empty value, OpenTelemetry's null.
    #[inline]
    pub fn empty(mut self) -> Written {
        self.begin(0);
        Written(())
    }

    /// Writes an array of what `write` pushes, of any types; the empty value where the limits allow no
    /// further level.
    pub fn array(mut self, write: impl FnOnce(&mut ArrayWriter<'_>)) -> Written {
        let Some(limits) = self.limits.inside_array() else {
            return self.empty();
        };
        self.nested(any_value::ARRAY_VALUE, |out| {
            write(&mut ArrayWriter { out, limits });
        })
    }

    /// Writes a map of the entries that `write` adds; the empty value where the limits allow no further level.
    ///
    /// OpenTelemetry wants each key once; the writer does not look.
    pub fn map(mut self, write: impl FnOnce(&mut MapWriter<'_>)) -> Written {
        let Some(limits) = self.limits.inside_map() else {
            return self.empty();
        };
        self.nested(any_value::KVLIST_VALUE, |out| {
            write(&mut MapWriter { out, limits });
        })
    }

    /// Writes a value that takes one byte behind its tag.
    #[inline(always)]
    fn one_byte(mut self, tag: u8, value: u8) -> Written {
        if self.begin_short(2) {
            self.out.extend_from_slice(&[VALUE, 2, tag, value]);
            return Written(());
        }
        self.begin(2);
        self.out.extend_from_slice(&[tag, value]);
        Written(())
    }

    /// Writes what stands before the `AnyValue` of `any_len` bytes in a pair, if it is a pair of which every length takes one
    /// byte. That is the usual case, and what follows the key can then be written in one piece.
    #[inline(always)]
    fn begin_short(&mut self, any_len: usize) -> bool {
        let Some(key) = self.key else {
            return false;
        };
        let pair_len = 4 + key.len() + any_len;
        if pair_len >= ONE_BYTE {
            return false;
        }
        let head = [self.tag, pair_len as u8, KEY, key.len() as u8];
        self.out.extend_from_slice(&head);
        self.out.extend_from_slice(key.as_bytes());
        true
    }

    /// Writes what stands before the fields of an `AnyValue` of `any_len` bytes.
    #[inline]
    fn begin(&mut self, any_len: usize) {
        let Some(key) = self.key else {
            self.out.push(self.tag);
            push_varint(self.out, any_len as u64);
            return;
        };
        if self.begin_short(any_len) {
            self.out.extend_from_slice(&[VALUE, any_len as u8]);
            return;
        }
        self.begin_long(key, any_len);
    }

    #[inline(never)]
    fn begin_long(&mut self, key: &str, any_len: usize) {
        let pair_len = 2 + delimited_len(key.len()) + delimited_len(any_len);
        self.out.push(self.tag);
        push_varint(self.out, pair_len as u64);
        self.push_key(key);
        self.out.push(VALUE);
        push_varint(self.out, any_len as u64);
    }

    fn push_key(&mut self, key: &str) {
        self.out.push(KEY);
        push_varint(self.out, key.len() as u64);
        self.out.extend_from_slice(key.as_bytes());
    }

    #[inline(always)]
    fn delimited(mut self, tag: u8, bytes: &[u8]) -> Written {
        if bytes.len() < ONE_BYTE && self.begin_short(2 + bytes.len()) {
            let length = bytes.len() as u8;
            self.out
                .extend_from_slice(&[VALUE, length + 2, tag, length]);
            self.out.extend_from_slice(bytes);
            return Written(());
        }
        self.begin(1 + delimited_len(bytes.len()));
        self.out.push(tag);
        push_varint(self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
        Written(())
    }

    /// Writes a value that is itself a message of unknown length.
    fn nested(&mut self, field: u32, write: impl FnOnce(&mut Vec<u8>)) -> Written {
        self.out.push(self.tag);
        let outer = open_untagged(self.out, 1);
        let pair = self.key.map(|key| {
            self.push_key(key);
            open(self.out, key_value::VALUE, 1)
        });
        let list = open(self.out, field, 1);
        write(self.out);
        close(self.out, list);
        if let Some(value) = pair {
            close(self.out, value);
        }
        close(self.out, outer);
        Written(())
    }
}

impl fmt::Debug for ValueWriter<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ValueWriter")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Takes the items of an array.
pub struct ArrayWriter<'a> {
    out: &'a mut Vec<u8>,
    limits: ValueLimits,
}

impl ArrayWriter<'_> {
    /// Adds an item.
    #[inline]
    pub fn push(&mut self, value: impl EncodeValue) {
        self.push_with(|item| value.encode(item));
    }

    /// Adds an item that `write` writes.
    #[inline]
    pub fn push_with(&mut self, write: impl FnOnce(ValueWriter<'_>) -> Written) {
        let Written(()) = write(ValueWriter {
            out: self.out,
            tag: ARRAY_ITEM,
            key: None,
            limits: self.limits,
        });
    }
}

impl fmt::Debug for ArrayWriter<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ArrayWriter")
            .finish_non_exhaustive()
    }
}

/// Takes the entries of a map.
pub struct MapWriter<'a> {
    out: &'a mut Vec<u8>,
    limits: ValueLimits,
}

impl MapWriter<'_> {
    /// Adds an entry.
    #[inline]
    pub fn entry(&mut self, key: &str, value: impl EncodeValue) {
        self.entry_with(key, |item| value.encode(item));
    }

    /// Adds an entry whose value `write` writes.
    #[inline]
    pub fn entry_with(&mut self, key: &str, write: impl FnOnce(ValueWriter<'_>) -> Written) {
        let value = ValueWriter::of_pair(self.out, MAP_ENTRY, key, self.limits);
        let Written(()) = write(value);
    }
}

impl fmt::Debug for MapWriter<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MapWriter").finish_non_exhaustive()
    }
}

/// The attributes of one span, event, link, scope or resource, with the count that its limit leaves.
#[derive(Debug)]
pub(super) struct AttributeList {
    tag: u8,
    left: usize,
    limits: ValueLimits,
    /// What the limit kept out, and what the source dropped before.
    pub(super) dropped: u32,
}

impl AttributeList {
    pub(super) fn new(tag: u8, count_max: usize, limits: ValueLimits) -> Self {
        Self {
            tag,
            left: count_max,
            limits,
            dropped: 0,
        }
    }

    #[inline]
    pub(super) fn write(
        &mut self,
        out: &mut Vec<u8>,
        key: &str,
        write: impl FnOnce(ValueWriter<'_>) -> Written,
    ) {
        let Some(left) = self.left.checked_sub(1) else {
            self.drop_more(1);
            return;
        };
        self.left = left;
        let Written(()) = write(ValueWriter::of_pair(out, self.tag, key, self.limits));
    }

    pub(super) fn drop_more(&mut self, count: u32) {
        self.dropped = self.dropped.saturating_add(count);
    }
}

impl EncodeValue for str {
    #[inline]
    fn encode(&self, value: ValueWriter<'_>) -> Written {
        value.string(self)
    }
}

impl EncodeValue for String {
    #[inline]
    fn encode(&self, value: ValueWriter<'_>) -> Written {
        value.string(self)
    }
}

impl EncodeValue for Cow<'_, str> {
    #[inline]
    fn encode(&self, value: ValueWriter<'_>) -> Written {
        value.string(self)
    }
}

impl EncodeValue for bool {
    #[inline]
    fn encode(&self, value: ValueWriter<'_>) -> Written {
        value.bool(*self)
    }
}

impl EncodeValue for i64 {
    #[inline]
    fn encode(&self, value: ValueWriter<'_>) -> Written {
        value.int(*self)
    }
}

impl EncodeValue for i32 {
    #[inline]
    fn encode(&self, value: ValueWriter<'_>) -> Written {
        value.int(i64::from(*self))
    }
}

impl EncodeValue for u32 {
    #[inline]
    fn encode(&self, value: ValueWriter<'_>) -> Written {
        value.int(i64::from(*self))
    }
}

impl EncodeValue for f64 {
    #[inline]
    fn encode(&self, value: ValueWriter<'_>) -> Written {
        value.double(*self)
    }
}

impl EncodeValue for [u8] {
    #[inline]
    fn encode(&self, value: ValueWriter<'_>) -> Written {
        value.bytes(self)
    }
}

impl<T: EncodeValue> EncodeValue for [T] {
    fn encode(&self, value: ValueWriter<'_>) -> Written {
        value.array(|items| {
            for item in self {
                items.push(item);
            }
        })
    }
}

impl<T: EncodeValue> EncodeValue for Option<T> {
    #[inline]
    fn encode(&self, value: ValueWriter<'_>) -> Written {
        match self {
            Some(present) => present.encode(value),
            None => value.empty(),
        }
    }
}

impl<T: EncodeValue + ?Sized> EncodeValue for &T {
    #[inline]
    fn encode(&self, value: ValueWriter<'_>) -> Written {
        (**self).encode(value)
    }
}
