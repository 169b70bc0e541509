//! Texts, values, times and durations as people read them.
//!
//! Span data comes from anywhere, and a terminal acts on what it is sent. So no control character, no escape sequence
//! and nothing that changes the direction of text leaves here as it came: it is written as JSON would, `\u001b`.

use std::fmt;
use std::fmt::Write;

use outspan_wire::otlp::AttributesView;
use outspan_wire::otlp::SpanKind;
use outspan_wire::otlp::StatusCode;
use outspan_wire::otlp::ValueView;

/// Takes text at its end.
pub(super) trait TextBuffer {
    fn push(&mut self, c: char);

    fn push_str(&mut self, text: &str);

    /// Returns whether something did not fit, so that writing more is of no use.
    fn is_over(&self) -> bool;
}

impl TextBuffer for String {
    fn push(&mut self, c: char) {
        self.push(c);
    }

    fn push_str(&mut self, text: &str) {
        self.push_str(text);
    }

    fn is_over(&self) -> bool {
        false
    }
}

/// Text of at most so many bytes. Of what does not fit the beginning is kept, and nothing after it.
#[derive(Debug)]
pub(super) struct LimitedText {
    text: String,
    max_bytes: usize,
    is_over: bool,
}

impl LimitedText {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            text: String::new(),
            max_bytes,
            is_over: false,
        }
    }

    /// Begins a part of at most `max_bytes` bytes after what is there.
    pub(super) fn begin_part(&mut self, max_bytes: usize) {
        self.max_bytes = self.text.len().saturating_add(max_bytes);
    }

    /// Takes everything from `len` on away, as if it had not been written.
    pub(super) fn rewind(&mut self, len: usize) {
        self.text.truncate(len);
        self.is_over = false;
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn into_string(self) -> String {
        self.text
    }

    fn make_room(&mut self, more: usize) {
        let needed = self.text.len() + more;
        if needed > self.text.capacity() {
            // Doubles as a `String` does, but not beyond the bound.
            let wanted = needed.max(self.text.capacity().saturating_mul(2));
            let wanted = wanted.min(self.max_bytes);
            self.text.reserve_exact(wanted - self.text.len());
        }
    }
}

impl TextBuffer for LimitedText {
    fn push(&mut self, c: char) {
        self.push_str(c.encode_utf8(&mut [0; 4]));
    }

    fn push_str(&mut self, text: &str) {
        if self.is_over {
            return;
        }
        let room = self.max_bytes.saturating_sub(self.text.len());
        self.is_over = text.len() > room;
        let text = match self.is_over {
            true => &text[..text.floor_char_boundary(room)],
            false => text,
        };
        self.make_room(text.len());
        self.text.push_str(text);
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}

/// Formats text into a buffer.
struct Formatted<'a, T>(&'a mut T);

impl<T: TextBuffer> Write for Formatted<'_, T> {
    /// Fails when the buffer is over, so that formatting ends early.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(text);
        match self.0.is_over() {
            true => Err(fmt::Error),
            false => Ok(()),
        }
    }
}

/// Appends text with what a terminal would act on escaped.
pub(super) fn push_plain(out: &mut impl TextBuffer, text: &str) {
    push_escaped(out, text, acts_on_terminal);
}

/// Appends text in quotes, as JSON has it.
pub(super) fn push_quoted(out: &mut impl TextBuffer, text: &str) {
    out.push('"');
    push_escaped(out, text, |c| c == '"' || c == '\\' || acts_on_terminal(c));
    out.push('"');
}

fn push_escaped(out: &mut impl TextBuffer, text: &str, must_escape: impl Fn(char) -> bool) {
    let mut rest = text;
    while let Some(found) = rest.find(&must_escape) {
        let (plain, after) = rest.split_at(found);
        out.push_str(plain);
        if out.is_over() {
            return;
        }
        let mut after = after.chars();
        if let Some(c) = after.next() {
            push_escape(out, c);
        }
        rest = after.as_str();
    }
    out.push_str(rest);
}

fn push_escape(out: &mut impl TextBuffer, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str("\\u");
                for shift in [12, 8, 4, 0] {
                    let digit = u32::from(*unit >> shift & 0xF);
                    out.push(char::from_digit(digit, 16).unwrap_or('0'));
                }
            }
        }
    }
}

/// Whether a terminal does something else with it than to show it in its place.
///
/// Controls (C0, DEL, C1: U+009B begins an escape sequence like `ESC [`), line separators, and the marks that reorder
/// text (Unicode Standard Annex 9, "Explicit Directional Embeddings, Overrides and Isolates").
pub(super) fn acts_on_terminal(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Appends formatted text.
pub(super) fn push(out: &mut impl TextBuffer, text: std::fmt::Arguments<'_>) {
    // It fails where the buffer is over, which the buffer remembers.
    Formatted(out).write_fmt(text).unwrap_or_default();
}

/// Appends a value as its view writes it.
fn push_as_text(out: &mut impl TextBuffer, value: ValueView<'_>) {
    // It fails where the buffer is over, which the buffer remembers.
    value.write_text(&mut Formatted(out)).unwrap_or_default();
}

/// Appends a value as its view writes it, in quotes. Bytes in base64 and numbers need no escapes.
fn push_quoted_as_text(out: &mut impl TextBuffer, value: ValueView<'_>) {
    out.push('"');
    push_as_text(out, value);
    out.push('"');
}

/// Appends a value as JSON: bytes as base64, what is no number in JSON as a text, an empty value as `null`.
pub(super) fn push_json_value(out: &mut impl TextBuffer, value: ValueView<'_>) {
    match value {
        ValueView::Empty => out.push_str("null"),
        ValueView::Str(text) => push_quoted(out, text),
        ValueView::Double(number) if !number.is_finite() => push_quoted_as_text(out, value),
        ValueView::Bytes(_) => push_quoted_as_text(out, value),
        ValueView::Bool(_) | ValueView::Int(_) | ValueView::Double(_) => {
            push_as_text(out, value);
        }
        ValueView::Array(array) => {
            out.push('[');
            let mut comma = Comma::default();
            for value in array.iter() {
                if out.is_over() {
                    return;
                }
                comma.push(out);
                push_json_value(out, value);
            }
            out.push(']');
        }
        ValueView::Map(map) => {
            out.push('{');
            let mut comma = Comma::default();
            for entry in map.iter() {
                if out.is_over() {
                    return;
                }
                comma.push(out);
                push_quoted(out, entry.key());
                out.push(':');
                push_json_value(out, entry.value());
            }
            out.push('}');
        }
    }
}

/// Appends a value for people: as JSON, but numbers and bytes show what they are.
pub(super) fn push_value(out: &mut impl TextBuffer, value: ValueView<'_>) {
    match value {
        ValueView::Empty => out.push_str("(empty)"),
        ValueView::Double(_) => push_as_text(out, value),
        ValueView::Bytes(_) => {
            out.push_str("base64:");
            push_as_text(out, value);
        }
        other => push_json_value(out, other),
    }
}

/// Appends attributes as a JSON object.
pub(super) fn push_json_attributes(out: &mut impl TextBuffer, attributes: AttributesView<'_>) {
    out.push('{');
    let mut comma = Comma::default();
    for attribute in attributes.iter() {
        if out.is_over() {
            return;
        }
        comma.push(out);
        push_quoted(out, attribute.key());
        out.push(':');
        push_json_value(out, attribute.value());
    }
    out.push('}');
}

/// Writes a comma everywhere but in front of the first.
#[derive(Debug, Default)]
pub(super) struct Comma {
    is_due: bool,
}

impl Comma {
    pub(super) fn push(&mut self, out: &mut impl TextBuffer) {
        if self.is_due {
            out.push(',');
        }
        self.is_due = true;
    }
}

/// Appends a point in time, given in nanoseconds since 1970, in the form of RFC 3339.
pub(super) fn push_time(out: &mut impl TextBuffer, unix_nanos: u64) {
    let seconds = unix_nanos / 1_000_000_000;
    let (year, month, day) = civil_date(seconds / 86_400);
    let second_of_day = seconds % 86_400;
    push(
        out,
        format_args!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
            second_of_day / 3600,
            second_of_day / 60 % 60,
            second_of_day % 60,
            unix_nanos % 1_000_000_000,
        ),
    );
}

/// Appends a point in time like [`push_time`], cut to milliseconds.
pub(in crate::exporters) fn push_short_time(out: &mut String, unix_nanos: u64) {
    push_time(out, unix_nanos);
    out.truncate(out.len() - "000000Z".len());
    out.push('Z');
}

/// Year, month and day, given the days since 1970 (proleptic Gregorian calendar).
///
/// Counts in years that begin in March, so that the leap day is the last one, and in eras of 400 years.
fn civil_date(days_since_1970: u64) -> (u64, u64, u64) {
    const DAYS_FROM_0000_03_01: u64 = 719_468;
    const DAYS_OF_ERA: u64 = 146_097;

    let days = days_since_1970 + DAYS_FROM_0000_03_01;
    let era = days / DAYS_OF_ERA;
    let day_of_era = days % DAYS_OF_ERA;
    let leap_corrected =
        day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096;
    let year_of_era = leap_corrected / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// The time from one point to another, in nanoseconds; negative if the second comes first.
pub(super) fn nanos_between(start: u64, end: u64) -> i128 {
    i128::from(end) - i128::from(start)
}

/// Puts a duration into words, with three digits that count.
pub(super) fn duration(nanos: i128) -> String {
    const UNITS: [(u128, &str); 4] = [
        (1, "ns"),
        (1_000, "µs"),
        (1_000_000, "ms"),
        (1_000_000_000, "s"),
    ];

    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let seconds = nanos / 1_000_000_000;
    if seconds >= 60 {
        return format!("{sign}{}", long_duration(seconds));
    }
    let (size, unit) = UNITS
        .into_iter()
        .rev()
        .find(|(size, _)| nanos >= *size)
        .unwrap_or((1, "ns"));
    let whole = nanos / size;
    let decimals = match whole {
        _ if size == 1 => 0,
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    // Cut, not rounded: 999.9 ms is not 1000 ms.
    let scale = 10_u128.pow(decimals);
    let part = nanos % size * scale / size;
    match decimals {
        0 => format!("{sign}{whole} {unit}"),
        decimals => format!(
            "{sign}{whole}.{part:0width$} {unit}",
            width = decimals as usize
        ),
    }
}

fn long_duration(seconds: u128) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min {} s", seconds % 60),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Names a kind.
pub(super) fn kind(kind: SpanKind) -> String {
    match kind {
        SpanKind::Unspecified => "unspecified".to_owned(),
        SpanKind::Internal => "internal".to_owned(),
        SpanKind::Server => "server".to_owned(),
        SpanKind::Client => "client".to_owned(),
        SpanKind::Producer => "producer".to_owned(),
        SpanKind::Consumer => "consumer".to_owned(),
        SpanKind::Other(number) => number.to_string(),
    }
}

/// Names a status code.
pub(super) fn status(code: StatusCode) -> String {
    match code {
        StatusCode::Unset => "unset".to_owned(),
        StatusCode::Ok => "ok".to_owned(),
        StatusCode::Error => "error".to_owned(),
        StatusCode::Other(number) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_act_on() {
        let mut all = String::new();
        for c in '\0'..=char::MAX {
            all.push(c);
        }
        for push in [push_plain, push_quoted] {
            let mut out = String::new();
            push(&mut out, &all);
            assert!(!out.chars().any(acts_on_terminal));
            assert!(!out.chars().any(char::is_control));
        }
        let mut out = String::new();
        push_plain(&mut out, "a\x1b[31mred\u{9b}2J\n\u{202e}evil \"ž\" 😀\\");
        assert_eq!(out, "a\\u001b[31mred\\u009b2J\\n\\u202eevil \"ž\" 😀\\");
    }

    #[test]
    fn limited_text_keeps_the_beginning_and_says_so() {
        let mut text = LimitedText::new(10);
        text.push_str("1234567890");
        assert!(!text.is_over());
        text.push('1');
        assert!(text.is_over());
        text.rewind(5);
        text.push_str("67žluť");
        text.push('8');
        assert!(text.is_over());
        assert_eq!(text.as_str(), "1234567žl");
        text.rewind(2);
        text.begin_part(3);
        push(&mut text, format_args!("{}", 3456));
        assert!(text.is_over());
        assert_eq!(text.into_string(), "12345");
    }

    #[test]
    fn quoted_text_is_json() {
        let mut all = String::new();
        for c in '\0'..=char::MAX {
            all.push(c);
        }
        let mut out = String::new();
        push_quoted(&mut out, &all);
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), all);
    }

    #[test]
    fn durations_are_short_and_never_rounded_up() {
        let cases: [(i128, &str); 14] = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (1_999, "1.99 µs"),
            (12_345, "12.3 µs"),
            (999_999, "999 µs"),
            (1_234_567, "1.23 ms"),
            (59_999_999_999, "59.9 s"),
            (60_000_000_000, "1 min 0 s"),
            (3_599_000_000_000, "59 min 59 s"),
            (3_600_000_000_000, "1 h 0 min"),
            (90_000_000_000_000, "1 d 1 h"),
            (-1_500_000, "-1.50 ms"),
            (i128::from(u64::MAX), "213503 d 23 h"),
        ];
        for (nanos, text) in cases {
            assert_eq!(duration(nanos), text);
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (4_107_542_399_999_999_999, "2100-02-28T23:59:59.999999999Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
            (1_767_323_045_006_000_000, "2026-01-02T03:04:05.006000000Z"),
            (u64::MAX, "2554-07-21T23:34:33.709551615Z"),
        ];
        for (nanos, text) in cases {
            let mut out = String::new();
            push_time(&mut out, nanos);
            assert_eq!(out, text);
        }
        let mut out = String::new();
        push_short_time(&mut out, 1_767_323_045_006_999_999);
        assert_eq!(out, "2026-01-02T03:04:05.006Z");
    }
}
