//! Protobuf writing primitives over a growing buffer.
//!
//! A length stands before the message it measures. Where it can be computed beforehand, callers write it
//! with [`push_varint`]; elsewhere [`open`] leaves room for a length of the likely width and [`close`]
//! fills it in, moving the message only when the guess was wrong. Lengths are always of minimal width, so
//! the output is what any other encoder would produce for the same order of fields.
//!
//! Source: the protobuf wire format (varints of seven bits a byte, least significant group first; a tag is
//! `field << 3 | wire type`).

use super::reader::WireType;
use super::reader::key;
use super::reader::varint_length;
use crate::buffer::Buffer;

/// Where an open message's length will go; made by [`open`], consumed by [`close`].
#[derive(Debug)]
#[must_use = "an open message has no length yet"]
pub(crate) struct OpenMessage {
    body_start: usize,
    width: usize,
}

impl OpenMessage {
    /// Tells whether nothing was written since the message was opened.
    #[inline]
    pub(crate) fn is_empty(&self, out: &[u8]) -> bool {
        out.len() == self.body_start
    }
}

/// A tag of one byte, which all fields below 16 have.
///
/// Evaluated at compile time everywhere, where a larger field would not compile.
pub(crate) const fn short_tag(field: u32, wire_type: WireType) -> u8 {
    assert!(field > 0 && field < 16, "the tag takes more than one byte");
    key(field, wire_type) as u8
}

/// Tells how many bytes a length-delimited field of `len` bytes takes with its length, without its tag.
#[inline]
pub(crate) fn delimited_len(len: usize) -> usize {
    varint_length(len as u64) + len
}

/// Appends a varint.
#[inline]
pub(crate) fn push_varint<B: Buffer>(out: &mut B, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
        return;
    }
    push_long_varint(out, value);
}

fn push_long_varint<B: Buffer>(out: &mut B, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field's tag.
#[inline(always)]
pub(crate) fn push_tag<B: Buffer>(out: &mut B, field: u32, wire_type: WireType) {
    push_varint(out, u64::from(key(field, wire_type)));
}

/// Appends a `uint32`, `uint64`, `bool` or enum field.
#[inline]
pub(crate) fn push_uint<B: Buffer>(out: &mut B, field: u32, value: u64) {
    push_tag(out, field, WireType::Varint);
    push_varint(out, value);
}

/// Appends an `int32` or `int64` field: negative numbers take ten bytes.
#[inline]
pub(crate) fn push_int<B: Buffer>(out: &mut B, field: u32, value: i64) {
    push_uint(out, field, value as u64);
}

/// Appends a `fixed64` field with a short tag, in one piece.
#[inline]
pub(crate) fn push_short_fixed64<B: Buffer>(out: &mut B, tag: u8, value: u64) {
    let mut field = [tag; 9];
    field[1..].copy_from_slice(&value.to_le_bytes());
    out.extend_from_slice(&field);
}

/// Appends a `bytes` field of a fixed number of bytes, below 128, with a short tag, in one piece.
///
/// `FIELD` is two more than `BYTES`: tag and length.
#[inline]
pub(crate) fn push_short_bytes<B: Buffer, const BYTES: usize, const FIELD: usize>(
    out: &mut B,
    tag: u8,
    value: [u8; BYTES],
) {
    const { assert!(FIELD == BYTES + 2 && BYTES < 0x80, "tag, length and value") };
    let mut field = [tag; FIELD];
    field[1] = BYTES as u8;
    field[2..].copy_from_slice(&value);
    out.extend_from_slice(&field);
}

/// Appends a `fixed64` field.
#[inline]
pub(crate) fn push_fixed64<B: Buffer>(out: &mut B, field: u32, value: u64) {
    push_tag(out, field, WireType::Fixed64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a `fixed32` field.
#[inline]
pub(crate) fn push_fixed32<B: Buffer>(out: &mut B, field: u32, value: u32) {
    push_tag(out, field, WireType::Fixed32);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a `double` field.
#[inline]
pub(crate) fn push_double<B: Buffer>(out: &mut B, field: u32, value: f64) {
    push_fixed64(out, field, value.to_bits());
}

/// Appends a `string`, `bytes` or already encoded message field.
#[inline]
pub(crate) fn push_bytes<B: Buffer>(out: &mut B, field: u32, value: &[u8]) {
    push_tag(out, field, WireType::Bytes);
    push_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Begins a message field whose length is not known yet.
///
/// `width` is how many bytes the length will probably take: 1 below 128 bytes, 2 below 16 KiB.
#[inline]
pub(crate) fn open<B: Buffer>(out: &mut B, field: u32, width: usize) -> OpenMessage {
    push_tag(out, field, WireType::Bytes);
    open_untagged(out, width)
}

/// Leaves room for a length where the tag stands already.
#[inline]
pub(crate) fn open_untagged<B: Buffer>(out: &mut B, width: usize) -> OpenMessage {
    // A length of ten bytes is the longest there is, so a literal serves every width without a loop.
    out.extend_from_slice(&[0_u8; 10][..width]);
    OpenMessage {
        body_start: out.len(),
        width,
    }
}

/// Ends a message begun with [`open`]: writes its length where it belongs.
#[inline]
pub(crate) fn close<B: Buffer>(out: &mut B, message: OpenMessage) {
    if out.is_over() {
        // The room for the length may be among what did not fit.
        return;
    }
    let len = out.len() - message.body_start;
    let needed = varint_length(len as u64);
    if needed != message.width {
        move_body(out, &message, needed);
        if out.is_over() {
            return;
        }
    }
    let length_start = message.body_start - message.width;
    put_varint(&mut out[length_start..length_start + needed], len);
}

/// Moves a message's body so that exactly `needed` bytes are before it.
#[cold]
fn move_body<B: Buffer>(out: &mut B, message: &OpenMessage, needed: usize) {
    let body_end = out.len();
    let target = message.body_start - message.width + needed;
    if needed > message.width {
        out.push_zeros(needed - message.width);
        if out.is_over() {
            return;
        }
    }
    out.copy_within(message.body_start..body_end, target);
    out.truncate(target + body_end - message.body_start);
}

/// Writes `value` into exactly as many bytes as it needs.
#[inline]
fn put_varint(room: &mut [u8], value: usize) {
    let last = room.len() - 1;
    let mut rest = value;
    for byte in &mut room[..last] {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    room[last] = rest as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_agree_with_prost_in_bytes_and_length() {
        let interesting = (0..64).flat_map(|bit| {
            let power = 1_u64 << bit;
            [power - 1, power, power + 1]
        });
        for value in interesting.chain([u64::MAX]) {
            let mut ours = Vec::new();
            push_varint(&mut ours, value);
            let mut theirs = Vec::new();
            prost::encoding::encode_varint(value, &mut theirs);
            assert_eq!(ours, theirs, "{value}");
            assert_eq!(varint_length(value), theirs.len(), "{value}");
        }
    }

    #[test]
    fn an_open_message_ends_with_a_minimal_length_whatever_was_guessed() {
        for len in [0, 1, 127, 128, 129, 16_383, 16_384, 70_000, 2_097_152] {
            for width in 1..=4 {
                let mut out = vec![0xAA];
                let message = open(&mut out, 3, width);
                let body: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
                out.extend_from_slice(&body);
                close(&mut out, message);

                let mut expected = vec![0xAA];
                push_bytes(&mut expected, 3, &body);
                assert_eq!(out, expected, "{len} bytes, {width} guessed");
            }
        }
    }

    #[test]
    fn open_messages_nest() {
        let mut out = Vec::new();
        let outer = open(&mut out, 1, 1);
        let inner = open(&mut out, 2, 1);
        out.extend_from_slice(&[7; 200]);
        close(&mut out, inner);
        close(&mut out, outer);

        let mut inner = Vec::new();
        push_bytes(&mut inner, 2, &[7; 200]);
        let mut expected = Vec::new();
        push_bytes(&mut expected, 1, &inner);
        assert_eq!(out, expected);
    }

    #[test]
    fn tags_of_fields_from_16_on_take_two_bytes() {
        let mut out = Vec::new();
        push_fixed32(&mut out, 16, 1);
        assert_eq!(out, [0x85, 0x01, 1, 0, 0, 0]);
    }
}
