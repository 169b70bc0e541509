//! Writing the pieces of JSON text.

use std::io::Write;

use super::text::plain_prefix;

/// Appends text as it stands between the quotes of a JSON string.
#[inline]
pub(crate) fn push_escaped(out: &mut Vec<u8>, text: &str) {
    push_escaped_utf8(out, text.as_bytes());
}

/// Appends UTF-8 as it stands between the quotes of a JSON string.
#[inline]
pub(crate) fn push_escaped_utf8(out: &mut Vec<u8>, text: &[u8]) {
    let plain = plain_prefix(text);
    if plain == text.len() {
        out.extend_from_slice(text);
        return;
    }
    push_with_escapes(out, text, plain);
}

#[inline(never)]
fn push_with_escapes(out: &mut Vec<u8>, text: &[u8], mut plain: usize) {
    let mut rest = text;
    loop {
        let (before, special) = rest.split_at(plain);
        out.extend_from_slice(before);
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
pub(crate) fn push_digits(out: &mut Vec<u8>, mut rest: u64) {
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

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    let escape: &[u8] = match byte {
        b'"' => b"\\\"",
        b'\\' => b"\\\\",
        b'\n' => b"\\n",
        b'\r' => b"\\r",
        b'\t' => b"\\t",
        0x08 => b"\\b",
        0x0C => b"\\f",
        control => {
            return write!(out, "\\u{control:04x}").expect("a Vec takes everything");
        }
    };
    out.extend_from_slice(escape);
}
