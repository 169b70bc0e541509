//! The check that text is UTF-8, quick on the short ASCII texts that spans are made of.

use super::super::reader::Fault;
use crate::error::WireErrorKind;

/// The highest bit of each byte, which ASCII never sets.
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Texts from here on go to the vectorised check at once.
const SHORT: usize = 64;

/// Checks that bytes are UTF-8.
#[inline]
pub(super) fn check_text(bytes: &[u8]) -> Result<(), Fault> {
    if bytes.len() < SHORT && is_ascii(bytes) {
        return Ok(());
    }
    check_any_text(bytes)
}

#[inline(never)]
fn check_any_text(bytes: &[u8]) -> Result<(), Fault> {
    if simdutf8::basic::from_utf8(bytes).is_ok() {
        return Ok(());
    }
    let valid = match std::str::from_utf8(bytes) {
        Ok(_) => return Ok(()),
        Err(error) => error.valid_up_to(),
    };
    let place = bytes.get(valid..).unwrap_or_default();
    Err(Fault::at(WireErrorKind::Utf8, place))
}

/// Tells whether all bytes are ASCII, a word at a time; the last word may overlap the one before.
#[inline(always)]
pub(super) fn is_ascii(bytes: &[u8]) -> bool {
    if let Some(last) = bytes.last_chunk::<8>() {
        let (words, _) = bytes.as_chunks::<8>();
        let bits = words.iter().fold(u64::from_ne_bytes(*last), |bits, word| {
            bits | u64::from_ne_bytes(*word)
        });
        return bits & HIGH_BITS == 0;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let bits = u32::from_ne_bytes(*first) | u32::from_ne_bytes(*last);
        return bits & HIGH_BITS as u32 == 0;
    }
    bytes.iter().fold(0, |bits, byte| bits | byte) < 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_bad_byte_at_every_place_and_length() {
        for length in 1..200 {
            let mut bytes = vec![b'a'; length];
            assert!(check_text(&bytes).is_ok());
            for place in 0..length {
                bytes[place] = 0xff;
                let fault = check_text(&bytes).expect_err("0xff is never UTF-8");
                assert_eq!(fault.kind, WireErrorKind::Utf8);
                assert_eq!(fault.offset_in(&bytes), place);
                bytes[place] = b'a';
            }
        }
    }

    #[test]
    fn takes_longer_characters() {
        for length in 0..100 {
            let text = format!("{}ß🦀{}", "a".repeat(length), "b".repeat(length / 3));
            assert!(check_text(text.as_bytes()).is_ok());
            let cut = text.len() - length / 3 - 1;
            assert!(check_text(&text.as_bytes()[..cut]).is_err());
        }
    }
}
