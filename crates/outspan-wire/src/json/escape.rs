//! Writing the pieces of JSON text.

use super::text::plain_prefix;
use crate::buffer::Buffer;

/// Appends text as it stands between the quotes of a JSON string.
#[inline]
pub(crate) fn push_escaped<B: Buffer>(out: &mut B, text: &str) {
    push_escaped_utf8(out, text.as_bytes());
}

/// Appends UTF-8 as it stands between the quotes of a JSON string.
#[inline]
pub(crate) fn push_escaped_utf8<B: Buffer>(out: &mut B, text: &[u8]) {
    let plain = plain_prefix(text);
    if plain == text.len() {
        out.extend_from_slice(text);
        return;
    }
    push_with_escapes(out, text, plain);
}

#[inline(never)]
fn push_with_escapes<B: Buffer>(out: &mut B, text: &[u8], mut plain: usize) {
    let mut rest = text;
    loop {
        let (before, special) = rest.split_at(plain);
        out.extend_from_slice(before);
        if out.is_over() {
            return;
        }
        let Some((&special, after)) = special.split_first() else {
            return;
        };
        push_escape(out, special);
        rest = after;
        plain = plain_prefix(rest);
    }
}

/// Appends a whole number in decimal digits.
#[inline]
pub(crate) fn push_digits<B: Buffer>(out: &mut B, mut rest: u64) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        start -= 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

fn push_escape<B: Buffer>(out: &mut B, byte: u8) {
    let escape: &[u8] = match byte {
        b'"' => b"\\\"",
        b'\\' => b"\\\\",
        b'\n' => b"\\n",
        b'\r' => b"\\r",
        b'\t' => b"\\t",
        0x08 => b"\\b",
        0x0C => b"\\f",
        control => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            let high = DIGITS[usize::from(control >> 4)];
            let low = DIGITS[usize::from(control & 0x0F)];
            return out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    };
    out.extend_from_slice(escape);
}
