//! Values of gRPC's headers and trailers.

use std::error::Error;
use std::fmt;
use std::fmt::Display;
use std::fmt::Formatter;
use std::time::Duration;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;

/// The most that the digits of a timeout can say.
const TIMEOUT_VALUE_MAX: u64 = 99_999_999;

/// The longest timeout that `grpc-timeout` can hold: 99,999,999 hours, more than eleven thousand years.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(TIMEOUT_VALUE_MAX * 60 * 60);

/// How much of an invalid timeout an error shows.
const SHOWN_BYTES_MAX: usize = 24;

/// Binary headers are written without padding and read with or without it ("gRPC over HTTP2", "Custom-Metadata").
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads `grpc-timeout`: how long the caller waits, at most [`TIMEOUT_MAX`].
///
/// Zero is allowed, although the specification asks for a positive number: some callers write it when their time is up.
///
/// # Errors
///
/// If it is not one to eight digits and a unit.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use outspan_wire::grpc::read_timeout;
///
/// assert_eq!(read_timeout(b"1500m")?, Duration::from_millis(1500));
/// assert!(read_timeout(b"1.5S").is_err());
/// # Ok::<(), outspan_wire::grpc::InvalidTimeout>(())
/// ```
pub fn read_timeout(text: &[u8]) -> Result<Duration, InvalidTimeout> {
    parse_timeout(text).ok_or_else(|| InvalidTimeout::new(text))
}

fn parse_timeout(text: &[u8]) -> Option<Duration> {
    let (&unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let mut value = 0_u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
    }
    match unit {
        b'H' => Some(Duration::from_secs(value * 60 * 60)),
        b'M' => Some(Duration::from_secs(value * 60)),
        b'S' => Some(Duration::from_secs(value)),
        b'm' => Some(Duration::from_millis(value)),
        b'u' => Some(Duration::from_micros(value)),
        b'n' => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// Writes how long a server may take, as `grpc-timeout` wants it: at most eight digits and a unit.
///
/// Milliseconds, at least one, for as long as they fit (27 hours); then seconds, at most 99,999,999 (three years).
pub fn write_timeout(left: Duration) -> String {
    let limit = u128::from(TIMEOUT_VALUE_MAX);
    let millis = left.as_millis().max(1);
    if millis <= limit {
        return format!("{millis}m");
    }
    format!("{}S", u128::from(left.as_secs()).min(limit))
}

/// Says that a `grpc-timeout` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTimeout {
    shown: String,
}

impl InvalidTimeout {
    fn new(text: &[u8]) -> Self {
        let shown = match text.get(..SHOWN_BYTES_MAX) {
            Some(start) => format!("{}…", start.escape_ascii()),
            None => text.escape_ascii().to_string(),
        };
        Self { shown }
    }
}

impl Display for InvalidTimeout {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "invalid grpc-timeout \"{}\": expected one to eight digits and one of H, M, S, m, u, n",
            self.shown
        )
    }
}

impl Error for InvalidTimeout {}

/// Writes text as `grpc-message` wants it: percent-encoded UTF-8, visible ASCII and spaces as they are.
///
/// The value is a header's whatever the text holds, with at most three bytes for one of the text.
pub fn write_message(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            written.push(char::from(byte));
            continue;
        }
        written.push('%');
        written.push(char::from(DIGITS[usize::from(byte >> 4)]));
        written.push(char::from(DIGITS[usize::from(byte & 0x0F)]));
    }
    written
}

/// Reads `grpc-message`. What is not percent-encoded stays as it is, and what is not UTF-8 becomes U+FFFD: words about
/// an error are never refused ("gRPC over HTTP2", "Responses").
pub fn read_message(value: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| split_hex_byte(after)).flatten();
        let (byte, after) = escaped.unwrap_or((byte, after));
        decoded.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn split_hex_byte(text: &[u8]) -> Option<(u8, &[u8])> {
    let (&[high, low], after) = text.split_first_chunk()?;
    let high = char::from(high).to_digit(16)?;
    let low = char::from(low).to_digit(16)?;
    Some(((high << 4 | low) as u8, after))
}

/// Writes bytes as headers whose name ends in `-bin` hold them: base64 without padding.
pub fn write_binary(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Reads a header whose name ends in `-bin`: base64 with or without padding; `None` if it is something else.
pub fn read_binary(value: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_come_back(text in "\\PC*|.*") {
            let written = write_message(&text);
            prop_assert!(written.bytes().all(|byte| (0x20..0x7F).contains(&byte)));
            prop_assert!(written.len() <= 3 * text.len());
            prop_assert_eq!(read_message(written.as_bytes()), text);
        }

        #[test]
        fn messages_are_read_as_the_percent_encoding_crate_reads_them(
            value in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'%'), b'0'..=b'F'], 0..40),
        ) {
            let theirs = percent_encoding::percent_decode(&value).decode_utf8_lossy();
            prop_assert_eq!(read_message(&value), theirs);
        }

        #[test]
        fn binary_values_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut written = write_binary(&bytes);
            prop_assert!(!written.contains('='));
            prop_assert_eq!(read_binary(written.as_bytes()), Some(bytes.clone()));
            while !written.len().is_multiple_of(4) {
                written.push('=');
            }
            prop_assert_eq!(read_binary(written.as_bytes()), Some(bytes));
        }

        #[test]
        fn timeouts_come_back_to_the_millisecond(millis in 1..=99_999_999_u64) {
            let timeout = Duration::from_millis(millis);
            prop_assert_eq!(read_timeout(write_timeout(timeout).as_bytes()), Ok(timeout));
        }

        #[test]
        fn timeouts_are_digits_and_a_unit_and_nothing_else(text in proptest::collection::vec(any::<u8>(), 0..12)) {
            let is_timeout = text.split_last().is_some_and(|(unit, digits)| {
                b"HMSmun".contains(unit)
                    && (1..=8).contains(&digits.len())
                    && digits.iter().all(u8::is_ascii_digit)
            });
            prop_assert_eq!(read_timeout(&text).is_ok(), is_timeout);
        }
    }

    #[test]
    fn each_unit_is_read() {
        for (text, timeout) in [
            ("0n", Duration::ZERO),
            ("7n", Duration::from_nanos(7)),
            ("250u", Duration::from_micros(250)),
            ("10000m", Duration::from_secs(10)),
            ("00000010S", Duration::from_secs(10)),
            ("2M", Duration::from_secs(120)),
            ("3H", Duration::from_secs(10_800)),
            ("99999999H", TIMEOUT_MAX),
        ] {
            assert_eq!(read_timeout(text.as_bytes()), Ok(timeout), "{text}");
        }
    }

    #[test]
    fn what_is_no_timeout_is_shown_in_bounds() {
        for text in [
            "",
            "S",
            "10",
            "10s",
            "100000000S",
            "-1S",
            "+1S",
            "1.5S",
            " 1S",
            "1S ",
        ] {
            assert!(read_timeout(text.as_bytes()).is_err(), "{text}");
        }
        let error = read_timeout(&[0xFF; 10_000]).expect_err("it is no timeout");
        assert!(error.to_string().len() < 300, "{error}");
        let error = read_timeout(b"soon\n").expect_err("it is no timeout");
        assert_eq!(
            error.to_string(),
            "invalid grpc-timeout \"soon\\n\": expected one to eight digits and one of H, M, S, m, u, n"
        );
    }

    #[test]
    fn timeouts_fit_into_eight_digits() {
        assert_eq!(write_timeout(Duration::from_millis(1500)), "1500m");
        assert_eq!(write_timeout(Duration::from_nanos(1)), "1m");
        assert_eq!(write_timeout(Duration::from_secs(1_000_000)), "1000000S");
        assert_eq!(write_timeout(Duration::MAX), "99999999S");
    }

    #[test]
    fn only_percent_and_what_is_not_visible_is_encoded() {
        assert_eq!(
            write_message("100 % \"of\" ~1 GB\n"),
            "100 %25 \"of\" ~1 GB%0A"
        );
        assert_eq!(write_message("bäd\u{7F}"), "b%C3%A4d%7F");
        assert_eq!(read_message(b"b%c3%A4d %zz %4 %"), "bäd %zz %4 %");
        assert_eq!(read_message(b"\xFF%FF"), "\u{FFFD}\u{FFFD}");
    }
}
