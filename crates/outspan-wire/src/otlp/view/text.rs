//! Values as text, for formats whose attributes are text only.

use std::fmt;
use std::fmt::Write;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;

use super::super::reader::NESTING_MAX;
use super::ArrayView;
use super::MapView;
use super::ValueView;

/// Above and below these, numbers are written with an exponent, as JSON writers do.
const PLAIN_NUMBERS: std::ops::Range<f64> = 1e-6..1e21;

impl ValueView<'_> {
    /// Writes the value as text, for formats that know no other values.
    ///
    /// Text as it is, truth values and numbers as in JSON, `NaN`, `Infinity` and `-Infinity` as words, bytes in base64,
    /// nothing for an empty value, lists and maps as JSON. Inside JSON, texts, bytes and words for numbers are quoted, and an
    /// empty value is `null`. (OpenTelemetry, `common/README.md`, "AnyValue representation for non-OTLP protocols".)
    ///
    /// # Errors
    ///
    /// Fails only if `output` does.
    ///
    /// # Examples
    ///
    /// ```
    /// use outspan_wire::otlp::ValueView;
    ///
    /// let mut text = String::new();
    /// ValueView::Double(0.5).write_text(&mut text)?;
    /// assert_eq!(text, "0.5");
    /// # Ok::<(), std::fmt::Error>(())
    /// ```
    pub fn write_text(self, output: &mut impl Write) -> fmt::Result {
        match self {
            Self::Empty => Ok(()),
            Self::Str(text) => output.write_str(text),
            Self::Bool(value) => write!(output, "{value}"),
            Self::Int(value) => write!(output, "{value}"),
            Self::Double(value) => write_double(value, output),
            Self::Bytes(bytes) => write!(output, "{}", Base64Display::new(bytes, &STANDARD)),
            Self::Array(array) => write_array(array, output, NESTING_MAX),
            Self::Map(map) => write_map(map, output, NESTING_MAX),
        }
    }

    /// Returns the value as text; see [`write_text`](Self::write_text).
    pub fn to_text(self) -> String {
        let mut text = String::new();
        self.write_text(&mut text)
            .expect("writing to a String cannot fail");
        text
    }
}

/// Writes a value inside a list or map. Bytes that nobody validated may nest at will; from the bound on they read as null.
fn write_json(value: ValueView<'_>, output: &mut impl Write, nesting: u32) -> fmt::Result {
    match value {
        ValueView::Empty => output.write_str("null"),
        ValueView::Str(text) => write_quoted(text, output),
        ValueView::Double(value) if !value.is_finite() => {
            output.write_char('"')?;
            write_double(value, output)?;
            output.write_char('"')
        }
        ValueView::Bytes(_) => {
            output.write_char('"')?;
            value.write_text(output)?;
            output.write_char('"')
        }
        ValueView::Array(_) | ValueView::Map(_) if nesting == 0 => output.write_str("null"),
        ValueView::Array(array) => write_array(array, output, nesting),
        ValueView::Map(map) => write_map(map, output, nesting),
        ValueView::Bool(_) | ValueView::Int(_) | ValueView::Double(_) => value.write_text(output),
    }
}

fn write_array(array: ArrayView<'_>, output: &mut impl Write, nesting: u32) -> fmt::Result {
    output.write_char('[')?;
    for (index, value) in array.iter().enumerate() {
        if index > 0 {
            output.write_char(',')?;
        }
        write_json(value, output, nesting - 1)?;
    }
    output.write_char(']')
}

fn write_map(map: MapView<'_>, output: &mut impl Write, nesting: u32) -> fmt::Result {
    output.write_char('{')?;
    for (index, entry) in map.iter().enumerate() {
        if index > 0 {
            output.write_char(',')?;
        }
        write_quoted(entry.key(), output)?;
        output.write_char(':')?;
        write_json(entry.value(), output, nesting - 1)?;
    }
    output.write_char('}')
}

fn write_double(value: f64, output: &mut impl Write) -> fmt::Result {
    if value.is_nan() {
        return output.write_str("NaN");
    }
    if value.is_infinite() {
        return output.write_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    if value == 0.0 || PLAIN_NUMBERS.contains(&value.abs()) {
        return write!(output, "{value}");
    }
    write!(output, "{value:e}")
}

fn write_quoted(text: &str, output: &mut impl Write) -> fmt::Result {
    output.write_char('"')?;
    let mut plain = 0;
    for (index, byte) in text.bytes().enumerate() {
        // Bytes of longer characters are all above these, so the cuts are at character boundaries.
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        output.write_str(text.get(plain..index).unwrap_or_default())?;
        match byte {
            b'"' => output.write_str("\\\"")?,
            b'\\' => output.write_str("\\\\")?,
            b'\n' => output.write_str("\\n")?,
            b'\r' => output.write_str("\\r")?,
            b'\t' => output.write_str("\\t")?,
            byte => write!(output, "\\u{byte:04x}")?,
        }
        plain = index + 1;
    }
    output.write_str(text.get(plain..).unwrap_or_default())?;
    output.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_numbers_as_json_does() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (-1234.5, "-1234.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e21"),
            (1.5e-7, "1.5e-7"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (value, expected) in cases {
            assert_eq!(ValueView::Double(value).to_text(), expected);
        }
    }

    #[test]
    fn writes_scalars_plainly() {
        assert_eq!(ValueView::Empty.to_text(), "");
        assert_eq!(ValueView::Str("a \"b\"").to_text(), "a \"b\"");
        assert_eq!(ValueView::Bool(true).to_text(), "true");
        assert_eq!(ValueView::Int(i64::MIN).to_text(), "-9223372036854775808");
        assert_eq!(ValueView::Bytes(&[0xff, 0, 1]).to_text(), "/wAB");
    }

    #[test]
    fn escapes_what_json_cannot_hold() {
        let mut text = String::new();
        write_quoted("ä\"\\\n\u{1}é\t", &mut text).expect("writing to a String cannot fail");
        assert_eq!(text, "\"ä\\\"\\\\\\n\\u0001é\\t\"");
    }
}
