//! Writing the pieces of JSON text.

use std::io::Write;

use super::text::plain_prefix;

/// Appends text as it stands between the quotes of a JSON string.
#[inline]
pub(crate) fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at(plain_prefix(rest));
        out.extend_from_slice(plain);
        let Some((&special, after)) = special.split_first() else {
            return;
        };
        push_escape(out, special);
        rest = after;
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
