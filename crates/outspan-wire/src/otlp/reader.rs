//! Protobuf wire primitives over a byte slice.
//!
//! ```text
//! message = field*                     key    = varint(number << 3 | wire type)
//! field   = key value                  value  = varint | 8 bytes | varint(length) bytes | field* end-group | 4 bytes
//! wire types: 0 varint, 1 eight bytes, 2 length and bytes, 3 group begins, 4 group ends, 5 four bytes
//! ```
//!
//! Every function takes the bytes not read yet, shortens them by what it read, and stops at their end: a value never
//! reaches into what follows its message. What is accepted is what `prost` 0.14 accepts; the comments name the corners.

use std::num::NonZeroU32;

use crate::error::WireErrorKind;

/// How many messages, and groups, may stand inside each other; the bound of `prost` and of protobuf's own decoders.
pub(crate) const NESTING_MAX: u32 = 100;

/// The longest variable-length integer: 64 bits in groups of seven.
const VARINT_BYTES_MAX: usize = 10;

/// A fault in the bytes: what, and at which address.
///
/// It knows no offset, because reading does not know where the request began; [`Fault::offset_in`] tells it afterwards.
/// That keeps a base pointer and a counter out of every function on the hot path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: WireErrorKind,
    address: usize,
}

impl Fault {
    /// Makes a fault at the first byte of `place`; if nothing is left there, at the last byte before it.
    #[cold]
    pub(crate) fn at(kind: WireErrorKind, place: &[u8]) -> Self {
        let behind = usize::from(place.is_empty());
        Self {
            kind,
            address: place.as_ptr().addr().saturating_sub(behind),
        }
    }

    /// Returns how many bytes after the start of `request` the fault is.
    pub(crate) fn offset_in(self, request: &[u8]) -> usize {
        self.address
            .saturating_sub(request.as_ptr().addr())
            .min(request.len())
    }
}

/// Returns how many bytes after the start of `whole` its part begins.
pub(crate) fn offset_of(part: &[u8], whole: &[u8]) -> usize {
    part.as_ptr()
        .addr()
        .saturating_sub(whole.as_ptr().addr())
        .min(whole.len())
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint,
    Fixed64,
    Bytes,
    GroupStart,
    GroupEnd,
    Fixed32,
}

/// A field's number and wire type, in one integer as on the wire.
///
/// Invariant: the number is at least 1 and the wire type exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(NonZeroU32);

impl Key {
    /// Checks the integer form of a key that was read at `place`.
    pub(crate) fn new(value: u64, place: &[u8]) -> Result<Self, Fault> {
        let Ok(value) = u32::try_from(value) else {
            return Err(Fault::at(WireErrorKind::FieldNumber, place));
        };
        if value & 7 > 5 {
            return Err(Fault::at(WireErrorKind::WireType, place));
        }
        match NonZeroU32::new(value) {
            Some(key) if value >= 8 => Ok(Self(key)),
            _ => Err(Fault::at(WireErrorKind::FieldNumber, place)),
        }
    }

    #[inline]
    pub(crate) fn number(self) -> u32 {
        self.0.get() >> 3
    }

    #[inline]
    pub(crate) fn wire_type(self) -> WireType {
        match self.0.get() & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Bytes,
            3 => WireType::GroupStart,
            4 => WireType::GroupEnd,
            _ => WireType::Fixed32,
        }
    }
}

/// Returns the integer form of a key, for constants to match against.
pub(crate) const fn key(number: u32, wire_type: WireType) -> u32 {
    let wire_type = match wire_type {
        WireType::Varint => 0,
        WireType::Fixed64 => 1,
        WireType::Bytes => 2,
        WireType::GroupStart => 3,
        WireType::GroupEnd => 4,
        WireType::Fixed32 => 5,
    };
    number << 3 | wire_type
}

/// Reads a variable-length integer. Longer forms than needed are fine, up to ten bytes and 64 bits.
#[inline(always)]
pub(crate) fn read_varint(rest: &mut &[u8]) -> Result<u64, Fault> {
    match **rest {
        [byte, ref after @ ..] if byte < 0x80 => {
            *rest = after;
            Ok(u64::from(byte))
        }
        [low, high, ref after @ ..] if high < 0x80 => {
            *rest = after;
            Ok(u64::from(low & 0x7f) | u64::from(high) << 7)
        }
        _ => read_long_varint(rest),
    }
}

#[cold]
#[inline(never)]
fn read_long_varint(rest: &mut &[u8]) -> Result<u64, Fault> {
    let mut value = 0;
    for (index, &byte) in rest.iter().take(VARINT_BYTES_MAX).enumerate() {
        // The tenth byte holds the 64th bit and nothing else.
        if index == VARINT_BYTES_MAX - 1 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *rest = rest.get(index + 1..).unwrap_or_default();
            return Ok(value);
        }
    }
    let kind = if rest.len() < VARINT_BYTES_MAX {
        WireErrorKind::Truncated
    } else {
        WireErrorKind::Varint
    };
    Err(Fault::at(kind, rest))
}

/// Reads a field's key.
#[inline(always)]
pub(crate) fn read_key(rest: &mut &[u8]) -> Result<Key, Fault> {
    let place = *rest;
    let value = read_varint(rest)?;
    Key::new(value, place)
}

/// Reads a length and as many bytes.
#[inline(always)]
pub(crate) fn read_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let place = *rest;
    let length = read_varint(rest)?;
    let split = usize::try_from(length)
        .ok()
        .and_then(|length| rest.split_at_checked(length));
    let Some((bytes, after)) = split else {
        return Err(Fault::at(WireErrorKind::Truncated, place));
    };
    *rest = after;
    Ok(bytes)
}

/// Reads eight bytes.
#[inline(always)]
pub(crate) fn read_fixed64(rest: &mut &[u8]) -> Result<u64, Fault> {
    let Some((bytes, after)) = rest.split_first_chunk() else {
        return Err(Fault::at(WireErrorKind::Truncated, rest));
    };
    *rest = after;
    Ok(u64::from_le_bytes(*bytes))
}

/// Reads four bytes.
#[inline(always)]
pub(crate) fn read_fixed32(rest: &mut &[u8]) -> Result<u32, Fault> {
    let Some((bytes, after)) = rest.split_first_chunk() else {
        return Err(Fault::at(WireErrorKind::Truncated, rest));
    };
    *rest = after;
    Ok(u32::from_le_bytes(*bytes))
}

/// Passes over the value of a field that nobody knows.
///
/// `nesting` is how many messages may still begin inside the message that holds the field. As in `prost`, an unknown
/// field counts like a message: at the bound itself it is refused, a known number or text is not.
#[inline(never)]
pub(crate) fn skip_value(key: Key, rest: &mut &[u8], nesting: u32) -> Result<(), Fault> {
    if nesting == 0 {
        return Err(Fault::at(WireErrorKind::Nesting, rest));
    }
    match key.wire_type() {
        WireType::Varint => read_varint(rest).map(drop),
        WireType::Fixed64 => read_fixed64(rest).map(drop),
        WireType::Bytes => read_bytes(rest).map(drop),
        WireType::Fixed32 => read_fixed32(rest).map(drop),
        WireType::GroupEnd => Err(Fault::at(WireErrorKind::Group, rest)),
        WireType::GroupStart => skip_group(key.number(), rest, nesting - 1),
    }
}

fn skip_group(number: u32, rest: &mut &[u8], nesting: u32) -> Result<(), Fault> {
    loop {
        let place = *rest;
        let key = read_key(rest)?;
        if key.wire_type() != WireType::GroupEnd {
            skip_value(key, rest, nesting)?;
            continue;
        }
        if key.number() != number {
            return Err(Fault::at(WireErrorKind::Group, place));
        }
        return Ok(());
    }
}

/// A field's value, not yet given a meaning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum FieldValue<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
    Group,
}

/// A field: its number, its value, and all its bytes for copying.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) value: FieldValue<'a>,
    /// Key and value as they stand in the input.
    pub(crate) raw: &'a [u8],
}

impl<'a> Field<'a> {
    /// Returns the bytes of a length-delimited value if the field has this number.
    #[inline]
    pub(crate) fn bytes_of(&self, number: u32) -> Option<&'a [u8]> {
        match self.value {
            FieldValue::Bytes(bytes) if self.number == number => Some(bytes),
            _ => None,
        }
    }
}

/// The fields of a message, in order.
///
/// As an iterator it ends at the first fault, which is right for bytes that were validated before;
/// [`Fields::read`] says what is wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    #[inline]
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Returns the bytes not read yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads the next field; `None` at the end of the message.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the field; reading on gives the same error again.
    #[inline(always)]
    pub(crate) fn read(&mut self) -> Result<Option<Field<'a>>, Fault> {
        let start = self.rest;
        if start.is_empty() {
            return Ok(None);
        }
        let mut rest = start;
        let key = read_key(&mut rest)?;
        let value = match key.wire_type() {
            WireType::Varint => FieldValue::Varint(read_varint(&mut rest)?),
            WireType::Fixed64 => FieldValue::Fixed64(read_fixed64(&mut rest)?),
            WireType::Bytes => FieldValue::Bytes(read_bytes(&mut rest)?),
            WireType::Fixed32 => FieldValue::Fixed32(read_fixed32(&mut rest)?),
            WireType::GroupStart | WireType::GroupEnd => {
                skip_value(key, &mut rest, NESTING_MAX)?;
                FieldValue::Group
            }
        };
        self.rest = rest;
        let raw = start.get(..start.len() - rest.len()).unwrap_or_default();
        Ok(Some(Field {
            number: key.number(),
            value,
            raw,
        }))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        match self.read() {
            Ok(field) => field,
            Err(_) => {
                self.rest = &[];
                None
            }
        }
    }
}

/// Returns how many bytes a variable-length integer takes.
pub(crate) fn varint_length(value: u64) -> usize {
    // 64 leading zeros mean the value 0, which takes one byte as well.
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(bytes: &[u8]) -> Result<(u64, usize), WireErrorKind> {
        let mut rest = bytes;
        match read_varint(&mut rest) {
            Ok(value) => Ok((value, bytes.len() - rest.len())),
            Err(fault) => Err(fault.kind),
        }
    }

    #[test]
    fn reads_integers_of_every_length() {
        assert_eq!(varint(&[0]), Ok((0, 1)));
        assert_eq!(varint(&[0x7f, 9]), Ok((127, 1)));
        assert_eq!(varint(&[0x80, 0x01]), Ok((128, 2)));
        assert_eq!(varint(&[0x80, 0x00]), Ok((0, 2)));
        for shift in 0..64 {
            let value = 1u64 << shift;
            let mut bytes = Vec::new();
            let mut left = value;
            while left >= 0x80 {
                bytes.push(left as u8 | 0x80);
                left >>= 7;
            }
            bytes.push(left as u8);
            assert_eq!(varint_length(value), bytes.len());
            assert_eq!(varint(&bytes), Ok((value, bytes.len())));
        }
        assert_eq!(varint_length(0), 1);
        assert_eq!(varint_length(u64::MAX), 10);
    }

    #[test]
    fn refuses_integers_that_are_too_long_or_end_early() {
        let mut ten = vec![0x80; 9];
        ten.push(0x00);
        assert_eq!(varint(&ten), Ok((0, 10)));
        ten[9] = 0x01;
        assert_eq!(varint(&ten), Ok((1 << 63, 10)));
        ten[9] = 0x02;
        assert_eq!(varint(&ten), Err(WireErrorKind::Varint));
        assert_eq!(varint(&[0xff; 11]), Err(WireErrorKind::Varint));
        assert_eq!(varint(&[0x80; 3]), Err(WireErrorKind::Truncated));
        assert_eq!(varint(&[]), Err(WireErrorKind::Truncated));
    }

    #[test]
    fn refuses_keys_outside_the_allowed_numbers() {
        let kind = |bytes: &[u8]| {
            read_key(&mut &*bytes)
                .map(Key::number)
                .map_err(|fault| fault.kind)
        };
        assert_eq!(kind(&[0x0a]), Ok(1));
        assert_eq!(kind(&[0x8a, 0x00]), Ok(1));
        assert_eq!(
            kind(&[0xff, 0xff, 0xff, 0xff, 0x0f]),
            Err(WireErrorKind::WireType)
        );
        assert_eq!(kind(&[0xfd, 0xff, 0xff, 0xff, 0x0f]), Ok((1 << 29) - 1));
        assert_eq!(
            kind(&[0xfd, 0xff, 0xff, 0xff, 0x1f]),
            Err(WireErrorKind::FieldNumber)
        );
        assert_eq!(kind(&[0x00]), Err(WireErrorKind::FieldNumber));
        assert_eq!(kind(&[0x05]), Err(WireErrorKind::FieldNumber));
        assert_eq!(kind(&[0x0e]), Err(WireErrorKind::WireType));
    }

    #[test]
    fn passes_over_groups_and_counts_their_depth() {
        let nested = |depth: usize| {
            let mut bytes = vec![0xa3, 0x06];
            for _ in 1..depth {
                bytes.extend([0xa3, 0x06]);
            }
            for _ in 0..depth {
                bytes.extend([0xa4, 0x06]);
            }
            bytes
        };
        let skip = |bytes: &[u8], nesting| {
            let mut rest = bytes;
            let key = read_key(&mut rest).expect("a key");
            skip_value(key, &mut rest, nesting)
                .map(|()| rest.len())
                .map_err(|fault| fault.kind)
        };
        assert_eq!(skip(&nested(1), 1), Ok(0));
        assert_eq!(skip(&nested(100), 100), Ok(0));
        assert_eq!(skip(&nested(101), 100), Err(WireErrorKind::Nesting));
        assert_eq!(skip(&nested(100_000), 100), Err(WireErrorKind::Nesting));
        assert_eq!(
            skip(&[0xa3, 0x06, 0xac, 0x06], 9),
            Err(WireErrorKind::Group)
        );
        assert_eq!(skip(&[0xa3, 0x06], 9), Err(WireErrorKind::Truncated));
        assert_eq!(skip(&[0xa4, 0x06], 9), Err(WireErrorKind::Group));
    }

    #[test]
    fn tells_where_a_fault_is() {
        let bytes = [0x0a, 0x01, b'x', 0x12, 0x05, b'y'];
        let mut fields = Fields::new(&bytes);
        assert_eq!(
            fields.read().expect("good").map(|field| field.raw),
            Some(&bytes[..3])
        );
        let fault = fields.read().expect_err("too short");
        assert_eq!(
            (fault.kind, fault.offset_in(&bytes)),
            (WireErrorKind::Truncated, 4)
        );
        assert_eq!(fields.next(), None);
    }
}
