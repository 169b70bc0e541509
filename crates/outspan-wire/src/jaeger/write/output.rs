//! Thrift's two protocols, written into a buffer.
//!
//! ```text
//! binary    field = type id(2)                    stop = 00     list = type count(4)    text = length(4) bytes    integers big-endian
//! compact   field = (id - id before) << 4 | type  stop = 00     list = count << 4 | type, from 15 on f0 | type, varint count
//!           text = varint length, bytes           integers zigzag varints, doubles little-endian, bool in the field's type
//! ```
//!
//! Source: the Thrift project's `doc/specs/thrift-binary-protocol.md` and `thrift-compact-protocol.md`.

use crate::buffer::Buffer;
use crate::buffer::Limited;
use crate::jaeger::names::tag_type;
use crate::otlp::writer::push_varint;

/// Ends a struct, in both protocols.
pub(super) const STOP: u8 = 0;

const NAME: &[u8] = b"emitBatch";

/// A type of Thrift, as far as fields outside of tags have it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    I32,
    I64,
    Text,
    Struct,
    List,
}

/// The numbers that a protocol gives to the types.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    i32: u8,
    i64: u8,
    double: u8,
    text: u8,
    structure: u8,
    list: u8,
}

impl Numbers {
    const fn of(self, kind: Kind) -> u8 {
        match kind {
            Kind::I32 => self.i32,
            Kind::I64 => self.i64,
            Kind::Text => self.text,
            Kind::Struct => self.structure,
            Kind::List => self.list,
        }
    }
}

/// A list whose count is not known yet.
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "an open list has no count yet"]
pub(super) struct OpenList {
    /// Where its items begin.
    pub(super) start: usize,
}

/// Writes one of the protocols.
pub(super) trait Output {
    const NUMBERS: Numbers;

    /// Begins a field; `before` is the id of the field before it in the struct, or 0.
    fn field(out: &mut Limited, kind: Kind, id: u8, before: u8);

    fn i32(out: &mut Limited, value: i32);

    fn i64(out: &mut Limited, value: i64);

    fn double(out: &mut Limited, value: f64);

    fn text(out: &mut Limited, bytes: &[u8]);

    /// Begins a list of structs whose count is not known.
    fn open_list(out: &mut Limited) -> OpenList;

    /// Gives an open list its count.
    fn close_list(out: &mut Limited, list: OpenList, count: usize);

    /// Tells by how many bytes [`close_list`](Self::close_list) makes a list longer.
    fn closing_len(count: usize) -> usize;

    /// Begins the message `emitBatch`, up to where the batch begins.
    fn begin_message(out: &mut Limited);

    /// Writes the key and the type of a tag, and begins the field of its value, whose type has the number `number`.
    fn begin_tag(out: &mut Limited, key: &[u8], tag_type: i32, number: u8, id: u8);

    fn bool_tag(out: &mut Limited, key: &[u8], value: bool);

    /// Writes a whole tag whose value is text.
    #[inline]
    fn text_tag(out: &mut Limited, key: &[u8], value: &[u8]) {
        Self::begin_tag(out, key, tag_type::STRING, Self::NUMBERS.text, 3);
        Self::text(out, value);
        out.push(STOP);
    }

    fn bytes_tag(out: &mut Limited, key: &[u8], value: &[u8]) {
        Self::begin_tag(out, key, tag_type::BINARY, Self::NUMBERS.text, 7);
        Self::text(out, value);
        out.push(STOP);
    }

    #[inline]
    fn long_tag(out: &mut Limited, key: &[u8], value: i64) {
        Self::begin_tag(out, key, tag_type::LONG, Self::NUMBERS.i64, 6);
        Self::i64(out, value);
        out.push(STOP);
    }

    #[inline]
    fn double_tag(out: &mut Limited, key: &[u8], value: f64) {
        Self::begin_tag(out, key, tag_type::DOUBLE, Self::NUMBERS.double, 4);
        Self::double(out, value);
        out.push(STOP);
    }
}

/// `TBinaryProtocol`, strict.
#[derive(Debug)]
pub(super) struct Binary;

impl Binary {
    const BOOL: u8 = 2;
}

impl Output for Binary {
    const NUMBERS: Numbers = Numbers {
        i32: 8,
        i64: 10,
        double: 4,
        text: 11,
        structure: 12,
        list: 15,
    };

    #[inline(always)]
    fn field(out: &mut Limited, kind: Kind, id: u8, _before: u8) {
        out.extend_from_slice(&[Self::NUMBERS.of(kind), 0, id]);
    }

    #[inline(always)]
    fn i32(out: &mut Limited, value: i32) {
        out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline(always)]
    fn i64(out: &mut Limited, value: i64) {
        out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline(always)]
    fn double(out: &mut Limited, value: f64) {
        out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline(always)]
    fn text(out: &mut Limited, bytes: &[u8]) {
        out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        out.extend_from_slice(bytes);
    }

    #[inline]
    fn open_list(out: &mut Limited) -> OpenList {
        out.extend_from_slice(&[Self::NUMBERS.structure, 0, 0, 0, 0]);
        OpenList { start: out.len() }
    }

    #[inline]
    fn close_list(out: &mut Limited, list: OpenList, count: usize) {
        if out.is_over() {
            // The list's head may be among what did not fit.
            return;
        }
        let place = list.start - 4..list.start;
        out[place].copy_from_slice(&(count as u32).to_be_bytes());
    }

    fn closing_len(_count: usize) -> usize {
        0
    }

    fn begin_message(out: &mut Limited) {
        // Version 1, oneway.
        out.extend_from_slice(&[0x80, 1, 0, 4]);
        Self::text(out, NAME);
        Self::i32(out, 0);
        Self::field(out, Kind::Struct, 1, 0);
    }

    #[inline(always)]
    fn begin_tag(out: &mut Limited, key: &[u8], tag_type: i32, number: u8, id: u8) {
        let Numbers { i32, text, .. } = Self::NUMBERS;
        let [a, b, c, d] = (key.len() as u32).to_be_bytes();
        out.extend_from_slice(&[text, 0, 1, a, b, c, d]);
        out.extend_from_slice(key);
        out.extend_from_slice(&[i32, 0, 2, 0, 0, 0, tag_type as u8, number, 0, id]);
    }

    #[inline]
    fn bool_tag(out: &mut Limited, key: &[u8], value: bool) {
        Self::begin_tag(out, key, tag_type::BOOL, Self::BOOL, 5);
        out.extend_from_slice(&[u8::from(value), STOP]);
    }
}

/// `TCompactProtocol`.
#[derive(Debug)]
pub(super) struct Compact;

impl Compact {
    const TRUE: u8 = 1;
    const FALSE: u8 = 2;

    /// From this count on a list has it outside of its first byte.
    const LONG_LIST: usize = 15;
}

impl Output for Compact {
    const NUMBERS: Numbers = Numbers {
        i32: 5,
        i64: 6,
        double: 7,
        text: 8,
        structure: 12,
        list: 9,
    };

    #[inline(always)]
    fn field(out: &mut Limited, kind: Kind, id: u8, before: u8) {
        out.push((id - before) << 4 | Self::NUMBERS.of(kind));
    }

    #[inline(always)]
    fn i32(out: &mut Limited, value: i32) {
        push_varint(out, u64::from((value << 1 ^ value >> 31) as u32));
    }

    #[inline(always)]
    fn i64(out: &mut Limited, value: i64) {
        push_varint(out, (value << 1 ^ value >> 63) as u64);
    }

    #[inline(always)]
    fn double(out: &mut Limited, value: f64) {
        out.extend_from_slice(&value.to_le_bytes());
    }

    #[inline(always)]
    fn text(out: &mut Limited, bytes: &[u8]) {
        push_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }

    #[inline]
    fn open_list(out: &mut Limited) -> OpenList {
        out.push(0);
        OpenList { start: out.len() }
    }

    #[inline]
    fn close_list(out: &mut Limited, list: OpenList, count: usize) {
        if out.is_over() {
            // The list's head may be among what did not fit.
            return;
        }
        let structure = Self::NUMBERS.structure;
        if count < Self::LONG_LIST {
            out[list.start - 1] = (count as u8) << 4 | structure;
            return;
        }
        // The items move behind the count, whose length nobody knew.
        let items_end = out.len();
        out[list.start - 1] = 0xF0 | structure;
        push_varint(out, count as u64);
        if out.is_over() {
            return;
        }
        let count_len = out.len() - items_end;
        out[list.start..].rotate_right(count_len);
    }

    fn closing_len(count: usize) -> usize {
        if count < Self::LONG_LIST {
            return 0;
        }
        crate::otlp::reader::varint_length(count as u64)
    }

    fn begin_message(out: &mut Limited) {
        // The protocol's id; version 1, oneway; sequence number 0.
        out.extend_from_slice(&[0x82, 4 << 5 | 1, 0]);
        Self::text(out, NAME);
        Self::field(out, Kind::Struct, 1, 0);
    }

    #[inline(always)]
    fn begin_tag(out: &mut Limited, key: &[u8], tag_type: i32, number: u8, id: u8) {
        let Numbers { i32, text, .. } = Self::NUMBERS;
        out.push(1 << 4 | text);
        Self::text(out, key);
        let field = (id - 2) << 4 | number;
        out.extend_from_slice(&[1 << 4 | i32, (tag_type as u8) << 1, field]);
    }

    #[inline]
    fn bool_tag(out: &mut Limited, key: &[u8], value: bool) {
        let number = if value { Self::TRUE } else { Self::FALSE };
        Self::begin_tag(out, key, tag_type::BOOL, number, 5);
        out.push(STOP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list_of<O: Output>(count: usize) -> Vec<u8> {
        let mut out = Limited::default();
        out.push(7);
        let list = O::open_list(&mut out);
        (0..count).for_each(|item| out.push(item as u8));
        let open_len = out.len();
        O::close_list(&mut out, list, count);
        assert_eq!(out.len(), open_len + O::closing_len(count));
        out.into_vec()
    }

    #[test]
    fn lists_of_any_count_get_their_head_before_their_items() {
        let heads: [(usize, &[u8]); 6] = [
            (0, b"\x0c"),
            (1, b"\x1c"),
            (14, b"\xec"),
            (15, b"\xfc\x0f"),
            (128, b"\xfc\x80\x01"),
            (70_000, b"\xfc\xf0\xa2\x04"),
        ];
        for (count, compact) in heads {
            let items: Vec<u8> = (0..count).map(|item| item as u8).collect();
            let expected = [&[7], compact, &items].concat();
            assert_eq!(list_of::<Compact>(count), expected);
            let binary = [&[7, 12], &(count as u32).to_be_bytes()[..], &items].concat();
            assert_eq!(list_of::<Binary>(count), binary);
        }
    }

    #[test]
    fn messages_begin_as_clients_begin_them() {
        let mut out = Limited::default();
        Compact::begin_message(&mut out);
        assert_eq!(&*out, b"\x82\x81\x00\x09emitBatch\x1c");
        out.clear();
        Binary::begin_message(&mut out);
        assert_eq!(
            &*out,
            b"\x80\x01\x00\x04\x00\x00\x00\x09emitBatch\x00\x00\x00\x00\x0c\x00\x01"
        );
    }
}
