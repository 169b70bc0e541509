//! Decimal text to integers and floating-point numbers.
//!
//! The JSON mapping of protobuf lets a whole number be written in every decimal form, such as `1.5e3`, so
//! integers are read digit by digit: no detour over floating point, no digit lost.

/// Why a decimal text is not the number that a field wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberFault {
    /// It is no decimal number.
    NotDecimal,
    /// It has a fraction, and the field is an integer.
    NotWhole,
    /// The field cannot hold it.
    OutOfRange,
}

/// The parts of a decimal number.
#[derive(Debug)]
struct Decimal<'a> {
    is_negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

/// Reads a whole number.
pub(crate) fn integer(text: &[u8]) -> Result<i128, NumberFault> {
    let decimal = Decimal::parse(text).ok_or(NumberFault::NotDecimal)?;
    let magnitude = decimal.magnitude()?;
    Ok(if decimal.is_negative {
        -magnitude
    } else {
        magnitude
    })
}

/// Reads a floating-point number that is not infinite.
pub(crate) fn double(text: &[u8]) -> Result<f64, NumberFault> {
    if Decimal::parse(text).is_none() {
        return Err(NumberFault::NotDecimal);
    }
    let value = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<f64>().ok())
        .ok_or(NumberFault::NotDecimal)?;
    if value.is_infinite() {
        return Err(NumberFault::OutOfRange);
    }
    Ok(value)
}

impl<'a> Decimal<'a> {
    /// Takes a number apart: JSON's grammar, and leading zeros, which only strings can have.
    fn parse(text: &'a [u8]) -> Option<Self> {
        let (is_negative, rest) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, rest) = split_digits(rest);
        let (fraction, rest) = match rest.strip_prefix(b".") {
            Some(rest) => split_digits(rest),
            None => (&[][..], rest),
        };
        let has_empty_fraction = fraction.is_empty() && text.contains(&b'.');
        if whole.is_empty() || has_empty_fraction {
            return None;
        }
        Some(Self {
            is_negative,
            whole,
            fraction,
            exponent: parse_exponent(rest)?,
        })
    }

    /// Returns the number without its sign.
    fn magnitude(&self) -> Result<i128, NumberFault> {
        // How many of the digits, or of the zeros after them, stand before the decimal point.
        let before_point = (self.whole.len() as i64).saturating_add(self.exponent);
        let mut magnitude = 0_i128;
        let mut position = 0_i64;
        for digit in self.whole.iter().chain(self.fraction) {
            let digit = i128::from(digit - b'0');
            if position < before_point {
                magnitude = push_digit(magnitude, digit)?;
            } else if digit != 0 {
                return Err(NumberFault::NotWhole);
            }
            position += 1;
        }
        while position < before_point && magnitude != 0 {
            magnitude = push_digit(magnitude, 0)?;
            position += 1;
        }
        Ok(magnitude)
    }
}

fn push_digit(magnitude: i128, digit: i128) -> Result<i128, NumberFault> {
    let pushed = magnitude * 10 + digit;
    if pushed > i128::from(u64::MAX) {
        return Err(NumberFault::OutOfRange);
    }
    Ok(pushed)
}

/// Reads `e`, a sign and digits, or nothing. What is beyond 64 bits is as good as infinite.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let Some((marker, rest)) = text.split_first() else {
        return Some(0);
    };
    if !marker.eq_ignore_ascii_case(&b'e') {
        return None;
    }
    let (is_negative, digits) = match rest.split_first() {
        Some((b'-', digits)) => (true, digits),
        Some((b'+', digits)) => (false, digits),
        _ => (false, rest),
    };
    let (digits, rest) = split_digits(digits);
    if digits.is_empty() || !rest.is_empty() {
        return None;
    }
    let magnitude = digits.iter().fold(0_i64, |magnitude, digit| {
        magnitude
            .saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'))
    });
    Some(if is_negative { -magnitude } else { magnitude })
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let len = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_exact_in_every_form() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("007", 7),
            ("-9223372036854775808", i128::from(i64::MIN)),
            ("18446744073709551615", i128::from(u64::MAX)),
            ("1.5e3", 1500),
            ("1E3", 1000),
            ("1e+3", 1000),
            ("1500e-2", 15),
            ("15.00", 15),
            ("1.700000000000000001e18", 1_700_000_000_000_000_001),
            ("0e999999999999999999999", 0),
            ("0.000e-5", 0),
            ("0.0001e4", 1),
        ] {
            assert_eq!(integer(text.as_bytes()), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_whole_number_is_told_apart() {
        for (text, fault) in [
            ("1.5", NumberFault::NotWhole),
            ("15e-1", NumberFault::NotWhole),
            ("1e-999999999999999999999", NumberFault::NotWhole),
            ("18446744073709551616", NumberFault::OutOfRange),
            ("1e20", NumberFault::OutOfRange),
            ("1e999999999999999999999", NumberFault::OutOfRange),
            ("", NumberFault::NotDecimal),
            ("-", NumberFault::NotDecimal),
            ("+1", NumberFault::NotDecimal),
            (" 1", NumberFault::NotDecimal),
            ("1.", NumberFault::NotDecimal),
            (".5", NumberFault::NotDecimal),
            ("1e", NumberFault::NotDecimal),
            ("0x10", NumberFault::NotDecimal),
            ("1_000", NumberFault::NotDecimal),
        ] {
            assert_eq!(integer(text.as_bytes()), Err(fault), "{text}");
        }
    }

    #[test]
    fn floats_keep_their_sign_and_must_be_finite() {
        assert_eq!(double(b"-0").map(f64::to_bits), Ok((-0.0_f64).to_bits()));
        assert_eq!(double(b"1.5e3"), Ok(1500.0));
        assert_eq!(double(b"1e999"), Err(NumberFault::OutOfRange));
        assert_eq!(double(b"inf"), Err(NumberFault::NotDecimal));
        assert_eq!(double(b"nan"), Err(NumberFault::NotDecimal));
    }
}
