//! Thrift's two protocols, written into a `Vec<u8>`.
//!
//! ```text
//! binary    field = type id(2)                    stop = 00     list = type count(4)    text = length(4) bytes    integers big-endian
//! compact   field = (id - id before) << 4 | type  stop = 00     list = count << 4 | type, from 15 on f0 | type, varint count
//!           text = varint length, bytes           integers zigzag varints, doubles little-endian, bool in the field's type
//! ```
//!
//! Source: the Thrift project's `doc/specs/thrift-binary-protocol.md` and `thrift-compact-protocol.md`.

use crate::jaeger::names::tag_type;
use crate::otlp::writer::push_varint;

/// Ends a struct, in both protocols.
pub(super) const STOP: u8 = 0;

const NAME: &[u8] = b"emitBatch";

/// A type of Thrift, as far as it is written here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    I32,
    I64,
    Text,
    Struct,
    List,
}

/// A list whose count is not known yet.
#[derive(Debug)]
#[must_use = "an open list has no count yet"]
pub(super) struct OpenList {
    /// Where its items begin.
    start: usize,
}

/// Writes one of the protocols.
pub(super) trait Output {
    /// Begins a field; `before` is the id of the field before it in the struct, or 0.
    fn field(out: &mut Vec<u8>, kind: Kind, id: u8, before: u8);

    fn i32(out: &mut Vec<u8>, value: i32);

    fn i64(out: &mut Vec<u8>, value: i64);

    fn text(out: &mut Vec<u8>, bytes: &[u8]);

    /// Begins a list of structs whose count is known.
    fn list(out: &mut Vec<u8>, count: usize);

    /// Begins a list of structs whose count is not known.
    fn open_list(out: &mut Vec<u8>) -> OpenList;

    /// Gives an open list its count.
    fn close_list(out: &mut Vec<u8>, list: OpenList, count: usize);

    /// Tells how many bytes [`list`](Self::list) takes.
    fn list_len(count: usize) -> usize;

    /// Begins the message `emitBatch`, up to where the batch begins.
    fn begin_message(out: &mut Vec<u8>);

    /// Writes a whole tag whose value is text or bytes.
    fn text_tag(out: &mut Vec<u8>, key: &str, value: &[u8]);

    fn bytes_tag(out: &mut Vec<u8>, key: &str, value: &[u8]);

    fn long_tag(out: &mut Vec<u8>, key: &str, value: i64);

    fn double_tag(out: &mut Vec<u8>, key: &str, value: f64);

    fn bool_tag(out: &mut Vec<u8>, key: &str, value: bool);
}

/// `TBinaryProtocol`, strict.
#[derive(Debug)]
pub(super) struct Binary;

impl Binary {
    const DOUBLE: u8 = 4;
    const BOOL: u8 = 2;
    const I32: u8 = 8;
    const I64: u8 = 10;
    const TEXT: u8 = 11;
    const STRUCT: u8 = 12;
    const LIST: u8 = 15;

    const fn number(kind: Kind) -> u8 {
        match kind {
            Kind::I32 => Self::I32,
            Kind::I64 => Self::I64,
            Kind::Text => Self::TEXT,
            Kind::Struct => Self::STRUCT,
            Kind::List => Self::LIST,
        }
    }

    /// Writes the key and the type of a tag, and begins the field of its value.
    #[inline(always)]
    fn begin_tag(out: &mut Vec<u8>, key: &str, tag_type: i32, kind: u8, id: u8) {
        let [a, b, c, d] = (key.len() as u32).to_be_bytes();
        out.extend_from_slice(&[Self::TEXT, 0, 1, a, b, c, d]);
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(&[Self::I32, 0, 2, 0, 0, 0, tag_type as u8, kind, 0, id]);
    }
}

impl Output for Binary {
    #[inline(always)]
    fn field(out: &mut Vec<u8>, kind: Kind, id: u8, _before: u8) {
        out.extend_from_slice(&[Self::number(kind), 0, id]);
    }

    #[inline(always)]
    fn i32(out: &mut Vec<u8>, value: i32) {
        out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline(always)]
    fn i64(out: &mut Vec<u8>, value: i64) {
        out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline(always)]
    fn text(out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        out.extend_from_slice(bytes);
    }

    fn list(out: &mut Vec<u8>, count: usize) {
        let [a, b, c, d] = (count as u32).to_be_bytes();
        out.extend_from_slice(&[Self::STRUCT, a, b, c, d]);
    }

    #[inline]
    fn open_list(out: &mut Vec<u8>) -> OpenList {
        out.extend_from_slice(&[Self::STRUCT, 0, 0, 0, 0]);
        OpenList { start: out.len() }
    }

    #[inline]
    fn close_list(out: &mut Vec<u8>, list: OpenList, count: usize) {
        let place = list.start - 4..list.start;
        out[place].copy_from_slice(&(count as u32).to_be_bytes());
    }

    fn list_len(_count: usize) -> usize {
        5
    }

    fn begin_message(out: &mut Vec<u8>) {
        // Version 1, oneway.
        out.extend_from_slice(&[0x80, 1, 0, 4]);
        Self::text(out, NAME);
        Self::i32(out, 0);
        Self::field(out, Kind::Struct, 1, 0);
    }

    #[inline]
    fn text_tag(out: &mut Vec<u8>, key: &str, value: &[u8]) {
        Self::begin_tag(out, key, tag_type::STRING, Self::TEXT, 3);
        Self::text(out, value);
        out.push(STOP);
    }

    fn bytes_tag(out: &mut Vec<u8>, key: &str, value: &[u8]) {
        Self::begin_tag(out, key, tag_type::BINARY, Self::TEXT, 7);
        Self::text(out, value);
        out.push(STOP);
    }

    #[inline]
    fn long_tag(out: &mut Vec<u8>, key: &str, value: i64) {
        Self::begin_tag(out, key, tag_type::LONG, Self::I64, 6);
        let mut tail = [STOP; 9];
        tail[..8].copy_from_slice(&value.to_be_bytes());
        out.extend_from_slice(&tail);
    }

    #[inline]
    fn double_tag(out: &mut Vec<u8>, key: &str, value: f64) {
        Self::begin_tag(out, key, tag_type::DOUBLE, Self::DOUBLE, 4);
        let mut tail = [STOP; 9];
        tail[..8].copy_from_slice(&value.to_bits().to_be_bytes());
        out.extend_from_slice(&tail);
    }

    #[inline]
    fn bool_tag(out: &mut Vec<u8>, key: &str, value: bool) {
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
    const I32: u8 = 5;
    const I64: u8 = 6;
    const DOUBLE: u8 = 7;
    const TEXT: u8 = 8;
    const LIST: u8 = 9;
    const STRUCT: u8 = 12;

    /// From this count on a list has it outside of its first byte.
    const LONG_LIST: usize = 15;

    const fn number(kind: Kind) -> u8 {
        match kind {
            Kind::I32 => Self::I32,
            Kind::I64 => Self::I64,
            Kind::Text => Self::TEXT,
            Kind::Struct => Self::STRUCT,
            Kind::List => Self::LIST,
        }
    }

    /// Writes the key and the type of a tag, and begins the field of its value.
    #[inline(always)]
    fn begin_tag(out: &mut Vec<u8>, key: &str, tag_type: i32, kind: u8, id: u8) {
        out.push(1 << 4 | Self::TEXT);
        Self::text(out, key.as_bytes());
        let field = (id - 2) << 4 | kind;
        out.extend_from_slice(&[1 << 4 | Self::I32, (tag_type as u8) << 1, field]);
    }
}

impl Output for Compact {
    #[inline(always)]
    fn field(out: &mut Vec<u8>, kind: Kind, id: u8, before: u8) {
        out.push((id - before) << 4 | Self::number(kind));
    }

    #[inline(always)]
    fn i32(out: &mut Vec<u8>, value: i32) {
        push_varint(out, u64::from((value << 1 ^ value >> 31) as u32));
    }

    #[inline(always)]
    fn i64(out: &mut Vec<u8>, value: i64) {
        push_varint(out, (value << 1 ^ value >> 63) as u64);
    }

    #[inline(always)]
    fn text(out: &mut Vec<u8>, bytes: &[u8]) {
        push_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }

    fn list(out: &mut Vec<u8>, count: usize) {
        if count < Self::LONG_LIST {
            out.push((count as u8) << 4 | Self::STRUCT);
            return;
        }
        out.push(0xF0 | Self::STRUCT);
        push_varint(out, count as u64);
    }

    #[inline]
    fn open_list(out: &mut Vec<u8>) -> OpenList {
        out.push(0);
        OpenList { start: out.len() }
    }

    #[inline]
    fn close_list(out: &mut Vec<u8>, list: OpenList, count: usize) {
        if count < Self::LONG_LIST {
            out[list.start - 1] = (count as u8) << 4 | Self::STRUCT;
            return;
        }
        // The items move behind the count, whose length nobody knew.
        let items_end = out.len();
        out[list.start - 1] = 0xF0 | Self::STRUCT;
        push_varint(out, count as u64);
        let count_len = out.len() - items_end;
        out[list.start..].rotate_right(count_len);
    }

    fn list_len(count: usize) -> usize {
        if count < Self::LONG_LIST {
            return 1;
        }
        1 + crate::otlp::reader::varint_length(count as u64)
    }

    fn begin_message(out: &mut Vec<u8>) {
        // The protocol's id; version 1, oneway; sequence number 0.
        out.extend_from_slice(&[0x82, 4 << 5 | 1, 0]);
        Self::text(out, NAME);
        Self::field(out, Kind::Struct, 1, 0);
    }

    #[inline]
    fn text_tag(out: &mut Vec<u8>, key: &str, value: &[u8]) {
        Self::begin_tag(out, key, tag_type::STRING, Self::TEXT, 3);
        Self::text(out, value);
        out.push(STOP);
    }

    fn bytes_tag(out: &mut Vec<u8>, key: &str, value: &[u8]) {
        Self::begin_tag(out, key, tag_type::BINARY, Self::TEXT, 7);
        Self::text(out, value);
        out.push(STOP);
    }

    #[inline]
    fn long_tag(out: &mut Vec<u8>, key: &str, value: i64) {
        Self::begin_tag(out, key, tag_type::LONG, Self::I64, 6);
        Self::i64(out, value);
        out.push(STOP);
    }

    fn double_tag(out: &mut Vec<u8>, key: &str, value: f64) {
        Self::begin_tag(out, key, tag_type::DOUBLE, Self::DOUBLE, 4);
        out.extend_from_slice(&value.to_bits().to_le_bytes());
        out.push(STOP);
    }

    #[inline]
    fn bool_tag(out: &mut Vec<u8>, key: &str, value: bool) {
        let kind = if value { Self::TRUE } else { Self::FALSE };
        Self::begin_tag(out, key, tag_type::BOOL, kind, 5);
        out.push(STOP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_any_count_get_the_same_head_before_and_after_their_items() {
        for count in [0, 1, 14, 15, 127, 128, 70_000] {
            let mut expected = vec![7];
            Compact::list(&mut expected, count);
            assert_eq!(expected.len(), 1 + Compact::list_len(count));
            expected.extend((0..count).map(|item| item as u8));

            let mut out = vec![7];
            let list = Compact::open_list(&mut out);
            out.extend((0..count).map(|item| item as u8));
            Compact::close_list(&mut out, list, count);
            assert_eq!(out, expected);

            let mut expected = vec![7];
            Binary::list(&mut expected, count);
            assert_eq!(expected.len(), 1 + Binary::list_len(count));
            let mut out = vec![7];
            let list = Binary::open_list(&mut out);
            Binary::close_list(&mut out, list, count);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn messages_begin_as_clients_begin_them() {
        let mut out = Vec::new();
        Compact::begin_message(&mut out);
        assert_eq!(out, b"\x82\x81\x00\x09emitBatch\x1c");
        out.clear();
        Binary::begin_message(&mut out);
        assert_eq!(
            out,
            b"\x80\x01\x00\x04\x00\x00\x00\x09emitBatch\x00\x00\x00\x00\x0c\x00\x01"
        );
    }
}
