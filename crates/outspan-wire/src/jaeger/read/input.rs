//! Thrift's two protocols, read from a slice.
//!
//! The forms are drawn where they are written, in `write/output.rs`. Nothing here allocates; a length or count that goes beyond
//! the data is an error before anybody acts on it, and skipping nests as deep as the caller allows.

use crate::jaeger::names::tag_type;
use crate::otlp::WireError;
use crate::otlp::WireErrorKind;
use crate::otlp::reader::read_varint;

/// A type of Thrift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Byte,
    I16,
    I32,
    I64,
    Double,
    Text,
    Struct,
    Map,
    Set,
    List,
    Uuid,
}

/// The head of a field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) id: i16,
    pub(super) kind: Kind,
    /// The value of a truth value that stands in the head itself.
    truth: Option<bool>,
}

/// Takes a tag as writers usually write it, or refuses it.
pub(super) trait TakeTag<'a> {
    fn text(&mut self, key: &'a [u8], value: &'a [u8]) -> Option<()>;

    fn double(&mut self, key: &'a [u8], value: f64) -> Option<()>;

    fn bool(&mut self, key: &'a [u8], value: bool) -> Option<()>;

    fn long(&mut self, key: &'a [u8], value: i64) -> Option<()>;

    fn bytes(&mut self, key: &'a [u8], value: &'a [u8]) -> Option<()>;
}

/// Where reading stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Tells whether everything was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Goes on to where only `rest` is left.
    #[inline]
    fn go_to(&mut self, rest: &'a [u8]) {
        self.at = self.bytes.len() - rest.len();
    }

    /// Reads the end of a struct of which only `rest` is left.
    #[inline(always)]
    fn end(&mut self, rest: &'a [u8]) -> Option<()> {
        self.go_to(rest.strip_prefix(&[0])?);
        Some(())
    }

    fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let Some(taken) = self.rest().get(..len) else {
            return Err(self.fault(WireErrorKind::Truncated));
        };
        self.at += len;
        Ok(taken)
    }

    #[inline]
    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], WireError> {
        let Some(taken) = self.rest().first_chunk::<LEN>() else {
            return Err(self.fault(WireErrorKind::Truncated));
        };
        self.at += LEN;
        Ok(*taken)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, WireError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// Reads a varint of Thrift: as protobuf's, at most ten bytes.
    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        let mut rest = self.rest();
        match read_varint(&mut rest) {
            Ok(value) => {
                self.go_to(rest);
                Ok(value)
            }
            Err(fault) => Err(self.fault(fault.kind)),
        }
    }

    /// Checks that as many items of at least `item_len` bytes can still come.
    fn check_count(&self, count: usize, item_len: usize) -> Result<(), WireError> {
        match count.checked_mul(item_len) {
            Some(len) if len <= self.left() => Ok(()),
            _ => Err(self.fault(WireErrorKind::Truncated)),
        }
    }

    #[cold]
    pub(super) fn fault(&self, kind: WireErrorKind) -> WireError {
        WireError::new(kind, self.at, String::new(), String::new())
    }

    #[cold]
    fn unknown_type(&self, number: u8) -> WireError {
        let at = self.at.saturating_sub(1);
        WireError::new(WireErrorKind::WireType, at, String::new(), String::new())
            .saying(format!("unknown Thrift type {number}"))
    }
}

/// Reads one of the protocols.
pub(super) trait Input<'a>: Copy {
    fn new(bytes: &'a [u8]) -> Self;

    fn cursor(&self) -> &Cursor<'a>;

    fn cursor_mut(&mut self) -> &mut Cursor<'a>;

    /// Reads the head of a message: its name and its type.
    fn message(&mut self) -> Result<(&'a [u8], u8), WireError>;

    /// Reads the head of the next field, or the end of the struct; `before` is the id of the field before, at first 0.
    fn field(&mut self, before: &mut i16) -> Result<Option<Field>, WireError>;

    /// Reads the types of a map's keys and values, and how many pairs there are.
    fn map(&mut self) -> Result<(Kind, Kind, usize), WireError>;

    /// Reads the type of a list's items, and how many there are.
    fn list(&mut self) -> Result<(Kind, usize), WireError>;

    fn i16(&mut self) -> Result<i16, WireError>;

    fn i32(&mut self) -> Result<i32, WireError>;

    fn i64(&mut self) -> Result<i64, WireError>;

    fn double(&mut self) -> Result<f64, WireError>;

    fn text(&mut self) -> Result<&'a [u8], WireError>;

    /// Reads a tag that stands there as writers usually write it: the key, the type, the value that the type names.
    ///
    /// From any other, from a broken one and from one that `taker` refuses nothing is read.
    fn usual_tag(&mut self, taker: &mut impl TakeTag<'a>) -> Option<()>;

    /// Reads the truth value of a field.
    fn bool(&mut self, field: Field) -> Result<bool, WireError> {
        match field.truth {
            Some(truth) => Ok(truth),
            None => Ok(self.cursor_mut().byte()? == 1),
        }
    }

    /// Reads a list of structs, and tells how many there are; `None` for a list of something else, which is skipped.
    fn structs(&mut self, depth: usize) -> Result<Option<usize>, WireError> {
        let (kind, count) = self.list()?;
        if kind == Kind::Struct || count == 0 {
            return Ok(Some(count));
        }
        self.skip_items(kind, count, depth)?;
        Ok(None)
    }

    /// Skips the value of a field.
    fn skip_field(&mut self, field: Field, depth: usize) -> Result<(), WireError> {
        if field.truth.is_some() {
            return Ok(());
        }
        self.skip(field.kind, depth)
    }

    /// Skips a value in which at most `depth` more levels may nest.
    fn skip(&mut self, kind: Kind, depth: usize) -> Result<(), WireError> {
        match kind {
            Kind::Bool | Kind::Byte => self.cursor_mut().byte().map(drop),
            Kind::I16 => self.i16().map(drop),
            Kind::I32 => self.i32().map(drop),
            Kind::I64 => self.i64().map(drop),
            Kind::Double => self.double().map(drop),
            Kind::Text => self.text().map(drop),
            Kind::Uuid => self.cursor_mut().take(16).map(drop),
            Kind::Struct => {
                let depth = self.deeper(depth)?;
                let mut before = 0;
                while let Some(field) = self.field(&mut before)? {
                    self.skip_field(field, depth)?;
                }
                Ok(())
            }
            Kind::List | Kind::Set => {
                let (kind, count) = self.list()?;
                self.skip_items(kind, count, depth)
            }
            Kind::Map => {
                let (key, value, count) = self.map()?;
                let depth = self.deeper(depth)?;
                for _ in 0..count {
                    self.skip(key, depth)?;
                    self.skip(value, depth)?;
                }
                Ok(())
            }
        }
    }

    fn skip_items(&mut self, kind: Kind, count: usize, depth: usize) -> Result<(), WireError> {
        let depth = self.deeper(depth)?;
        for _ in 0..count {
            self.skip(kind, depth)?;
        }
        Ok(())
    }

    fn deeper(&self, depth: usize) -> Result<usize, WireError> {
        depth.checked_sub(1).ok_or_else(|| {
            self.cursor()
                .fault(WireErrorKind::Nesting)
                .saying("values nested deeper than allowed".to_owned())
        })
    }
}

/// `TBinaryProtocol`, with the strict and the old head of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binary<'a> {
    cursor: Cursor<'a>,
}

impl Binary<'_> {
    #[inline]
    fn kind(&self, number: u8) -> Result<Kind, WireError> {
        Ok(match number {
            2 => Kind::Bool,
            3 => Kind::Byte,
            4 => Kind::Double,
            6 => Kind::I16,
            8 => Kind::I32,
            10 => Kind::I64,
            11 => Kind::Text,
            12 => Kind::Struct,
            13 => Kind::Map,
            14 => Kind::Set,
            15 => Kind::List,
            16 => Kind::Uuid,
            _ => return Err(self.cursor.unknown_type(number)),
        })
    }

    fn len(&mut self) -> Result<usize, WireError> {
        let start = self.cursor;
        let len = i32::from_be_bytes(self.cursor.array()?);
        usize::try_from(len).map_err(|_| start.fault(WireErrorKind::Number))
    }

    const fn item_len(kind: Kind) -> usize {
        match kind {
            Kind::Bool | Kind::Byte | Kind::Struct => 1,
            Kind::I16 => 2,
            Kind::I32 | Kind::Text => 4,
            Kind::I64 | Kind::Double => 8,
            Kind::Set | Kind::List => 5,
            Kind::Map => 6,
            Kind::Uuid => 16,
        }
    }
}

impl<'a> Input<'a> for Binary<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            cursor: Cursor::new(bytes),
        }
    }

    fn cursor(&self) -> &Cursor<'a> {
        &self.cursor
    }

    fn cursor_mut(&mut self) -> &mut Cursor<'a> {
        &mut self.cursor
    }

    fn message(&mut self) -> Result<(&'a [u8], u8), WireError> {
        let start = self.cursor;
        let word = i32::from_be_bytes(self.cursor.array()?);
        if word >= 0 {
            // The old head: the length of the name, the name, the type.
            let name = self.cursor.take(word as usize)?;
            let message_type = self.cursor.byte()?;
            self.i32()?;
            return Ok((name, message_type));
        }
        if word as u32 >> 16 != 0x8001 {
            return Err(start.fault(WireErrorKind::Version));
        }
        let name = self.text()?;
        self.i32()?;
        Ok((name, word as u8))
    }

    #[inline]
    fn field(&mut self, _before: &mut i16) -> Result<Option<Field>, WireError> {
        let number = self.cursor.byte()?;
        if number == 0 {
            return Ok(None);
        }
        let kind = self.kind(number)?;
        let id = self.i16()?;
        Ok(Some(Field {
            id,
            kind,
            truth: None,
        }))
    }

    fn map(&mut self) -> Result<(Kind, Kind, usize), WireError> {
        let [key, value] = self.cursor.array()?;
        let count = self.len()?;
        if count == 0 {
            return Ok((Kind::Byte, Kind::Byte, 0));
        }
        let (key, value) = (self.kind(key)?, self.kind(value)?);
        let pair_len = Self::item_len(key) + Self::item_len(value);
        self.cursor.check_count(count, pair_len)?;
        Ok((key, value, count))
    }

    #[inline]
    fn list(&mut self) -> Result<(Kind, usize), WireError> {
        let number = self.cursor.byte()?;
        let count = self.len()?;
        if count == 0 {
            // Some writers give an empty list no type.
            return Ok((Kind::Byte, 0));
        }
        let kind = self.kind(number)?;
        self.cursor.check_count(count, Self::item_len(kind))?;
        Ok((kind, count))
    }

    #[inline]
    fn i16(&mut self) -> Result<i16, WireError> {
        Ok(i16::from_be_bytes(self.cursor.array()?))
    }

    #[inline]
    fn i32(&mut self) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.cursor.array()?))
    }

    #[inline]
    fn i64(&mut self) -> Result<i64, WireError> {
        Ok(i64::from_be_bytes(self.cursor.array()?))
    }

    fn double(&mut self) -> Result<f64, WireError> {
        Ok(f64::from_be_bytes(self.cursor.array()?))
    }

    #[inline]
    fn text(&mut self) -> Result<&'a [u8], WireError> {
        let len = self.len()?;
        self.cursor.take(len)
    }

    #[inline]
    fn usual_tag(&mut self, taker: &mut impl TakeTag<'a>) -> Option<()> {
        const STRING: i32 = tag_type::STRING;
        const DOUBLE: i32 = tag_type::DOUBLE;
        const BOOL: i32 = tag_type::BOOL;
        const LONG: i32 = tag_type::LONG;
        const BINARY: i32 = tag_type::BINARY;
        let mut rest = self.cursor.rest().strip_prefix(&[11, 0, 1])?;
        let key = split_text(&mut rest)?;
        let mut rest = rest.strip_prefix(&[8, 0, 2])?;
        let tag_type = i32::from_be_bytes(split_array(&mut rest)?);
        match (tag_type, split_array(&mut rest)?) {
            (STRING, [11, 0, 3]) => {
                let value = split_text(&mut rest)?;
                taker.text(key, value)?;
            }
            (DOUBLE, [4, 0, 4]) => {
                let value = f64::from_be_bytes(split_array(&mut rest)?);
                taker.double(key, value)?;
            }
            (BOOL, [2, 0, 5]) => {
                let value = split_array(&mut rest)? == [1];
                taker.bool(key, value)?;
            }
            (LONG, [10, 0, 6]) => {
                let value = i64::from_be_bytes(split_array(&mut rest)?);
                taker.long(key, value)?;
            }
            (BINARY, [11, 0, 7]) => {
                let value = split_text(&mut rest)?;
                taker.bytes(key, value)?;
            }
            _ => return None,
        }
        self.cursor.end(rest)
    }
}

#[inline(always)]
fn split_array<const LEN: usize>(rest: &mut &[u8]) -> Option<[u8; LEN]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

/// Splits off a text of the binary protocol.
#[inline(always)]
fn split_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = i32::from_be_bytes(split_array(rest)?);
    let (taken, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = after;
    Some(taken)
}

/// `TCompactProtocol`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compact<'a> {
    cursor: Cursor<'a>,
}

impl Compact<'_> {
    #[inline]
    fn kind(&self, number: u8) -> Result<Kind, WireError> {
        Ok(match number {
            1 | 2 => Kind::Bool,
            3 => Kind::Byte,
            4 => Kind::I16,
            5 => Kind::I32,
            6 => Kind::I64,
            7 => Kind::Double,
            8 => Kind::Text,
            9 => Kind::List,
            10 => Kind::Set,
            11 => Kind::Map,
            12 => Kind::Struct,
            13 => Kind::Uuid,
            _ => return Err(self.cursor.unknown_type(number)),
        })
    }

    #[inline]
    fn len(&mut self) -> Result<usize, WireError> {
        let start = self.cursor;
        let len = self.cursor.varint()?;
        // Thrift's lengths are i32.
        match i32::try_from(len) {
            Ok(len) => Ok(len as usize),
            Err(_) => Err(start.fault(WireErrorKind::Number)),
        }
    }

    const fn item_len(kind: Kind) -> usize {
        match kind {
            Kind::Double => 8,
            Kind::Uuid => 16,
            _ => 1,
        }
    }

    #[inline]
    fn zigzag(&mut self) -> Result<i64, WireError> {
        let value = self.cursor.varint()?;
        Ok(from_zigzag(value))
    }

    fn fit<T: TryFrom<i64>>(&mut self) -> Result<T, WireError> {
        let start = self.cursor;
        let value = self.zigzag()?;
        T::try_from(value).map_err(|_| start.fault(WireErrorKind::Number))
    }
}

impl<'a> Input<'a> for Compact<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            cursor: Cursor::new(bytes),
        }
    }

    fn cursor(&self) -> &Cursor<'a> {
        &self.cursor
    }

    fn cursor_mut(&mut self) -> &mut Cursor<'a> {
        &mut self.cursor
    }

    fn message(&mut self) -> Result<(&'a [u8], u8), WireError> {
        let start = self.cursor;
        let [protocol, version_and_type] = self.cursor.array()?;
        if protocol != 0x82 || version_and_type & 0x1F != 1 {
            return Err(start.fault(WireErrorKind::Version));
        }
        self.cursor.varint()?;
        let name = self.text()?;
        Ok((name, version_and_type >> 5))
    }

    #[inline]
    fn field(&mut self, before: &mut i16) -> Result<Option<Field>, WireError> {
        let head = self.cursor.byte()?;
        if head == 0 {
            return Ok(None);
        }
        let number = head & 0xF;
        let kind = self.kind(number)?;
        let id = match head >> 4 {
            0 => self.i16()?,
            delta => before.wrapping_add(i16::from(delta)),
        };
        *before = id;
        let truth = (kind == Kind::Bool).then_some(number == 1);
        Ok(Some(Field { id, kind, truth }))
    }

    fn map(&mut self) -> Result<(Kind, Kind, usize), WireError> {
        let count = self.len()?;
        if count == 0 {
            return Ok((Kind::Byte, Kind::Byte, 0));
        }
        let kinds = self.cursor.byte()?;
        let (key, value) = (self.kind(kinds >> 4)?, self.kind(kinds & 0xF)?);
        let pair_len = Self::item_len(key) + Self::item_len(value);
        self.cursor.check_count(count, pair_len)?;
        Ok((key, value, count))
    }

    #[inline]
    fn list(&mut self) -> Result<(Kind, usize), WireError> {
        let head = self.cursor.byte()?;
        let count = match head >> 4 {
            15 => self.len()?,
            count => usize::from(count),
        };
        if count == 0 {
            // Some writers give an empty list no type.
            return Ok((Kind::Byte, 0));
        }
        let kind = self.kind(head & 0xF)?;
        self.cursor.check_count(count, Self::item_len(kind))?;
        Ok((kind, count))
    }

    fn i16(&mut self) -> Result<i16, WireError> {
        self.fit()
    }

    #[inline]
    fn i32(&mut self) -> Result<i32, WireError> {
        self.fit()
    }

    #[inline]
    fn i64(&mut self) -> Result<i64, WireError> {
        self.zigzag()
    }

    fn double(&mut self) -> Result<f64, WireError> {
        Ok(f64::from_le_bytes(self.cursor.array()?))
    }

    #[inline]
    fn text(&mut self) -> Result<&'a [u8], WireError> {
        let len = self.len()?;
        self.cursor.take(len)
    }

    #[inline]
    fn usual_tag(&mut self, taker: &mut impl TakeTag<'a>) -> Option<()> {
        const STRING: u8 = (tag_type::STRING as u8) << 1;
        const DOUBLE: u8 = (tag_type::DOUBLE as u8) << 1;
        const BOOL: u8 = (tag_type::BOOL as u8) << 1;
        const LONG: u8 = (tag_type::LONG as u8) << 1;
        const BINARY: u8 = (tag_type::BINARY as u8) << 1;
        let mut rest = self.cursor.rest().strip_prefix(&[0x18])?;
        let key = split_short_text(&mut rest)?;
        match split_array(&mut rest)? {
            [0x15, STRING, 0x18] => {
                let value = split_short_text(&mut rest)?;
                taker.text(key, value)?;
            }
            [0x15, DOUBLE, 0x27] => {
                let value = f64::from_le_bytes(split_array(&mut rest)?);
                taker.double(key, value)?;
            }
            [0x15, BOOL, truth @ (0x31 | 0x32)] => {
                taker.bool(key, truth == 0x31)?;
            }
            [0x15, LONG, 0x46] => {
                let value = from_zigzag(read_varint(&mut rest).ok()?);
                taker.long(key, value)?;
            }
            [0x15, BINARY, 0x58] => {
                let value = split_short_text(&mut rest)?;
                taker.bytes(key, value)?;
            }
            _ => return None,
        }
        self.cursor.end(rest)
    }
}

/// Splits off a text of the compact protocol; none if it is longer than a signed length can say.
#[inline(always)]
fn split_short_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = i32::try_from(read_varint(rest).ok()?).ok()?;
    let (taken, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = after;
    Some(taken)
}

#[inline]
fn from_zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
