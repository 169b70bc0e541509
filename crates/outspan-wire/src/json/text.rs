//! A pull tokenizer for JSON text.
//!
//! The reader asks for what the schema expects: [`Text::begin_object`], then [`Text::next_key`] until there
//! is none; [`Text::begin_array`], then [`Text::next_item`]; or a scalar. What it does not know it skips,
//! without recursion. The stack of open objects and arrays is the only memory, bounded by [`DEPTH_MAX`]; it
//! also knows the way to the place of an error.
//!
//! The grammar is RFC 8259's, with two courtesies: a byte order mark at the start is skipped, and an escaped
//! surrogate without its partner becomes U+FFFD, because senders that cut text by UTF-16 units make such.

use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;

use memchr::memchr;

use crate::error::WireError;
use crate::error::WireErrorKind;

/// How deep objects and arrays may nest.
///
/// The deepest OTLP document that protobuf's bound of 100 messages allows has about 160 levels.
pub(crate) const DEPTH_MAX: usize = 200;

/// How much of a key an error shows. Keys of the schema are shorter.
const SHOWN_KEY_MAX: usize = 48;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// JSON text and the place up to which it was read.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    text: &'a str,
    at: usize,
    open: Vec<Frame>,
}

/// An object or array that has begun and not ended.
#[derive(Debug)]
enum Frame {
    /// The key at hand, as it stands in the text; `None` before the first.
    Object { key: Option<Range<usize>> },
    /// The item at hand; `None` before the first.
    Array { index: Option<usize> },
}

/// A string as it stands in the text, without its quotes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawString<'a> {
    text: &'a str,
    has_escape: bool,
}

/// What kind of value comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Bool => "a boolean",
            Self::Null => "null",
        }
    }
}

impl<'a> Text<'a> {
    /// Begins to read, after checking that the text is UTF-8.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, WireError> {
        let text = match simdutf8::compat::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => return Err(not_utf8(bytes, error.valid_up_to())),
        };
        let mut text = Self::of(text);
        if bytes.starts_with(BYTE_ORDER_MARK) {
            text.at = BYTE_ORDER_MARK.len();
        }
        Ok(text)
    }

    /// Begins to read text.
    pub(crate) fn of(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            open: Vec::new(),
        }
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// Ends reading: nothing but white space may be left.
    pub(crate) fn finish(&mut self) -> Result<(), WireError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.syntax("text after the end of the document")),
        }
    }

    /// Returns where the next value begins.
    pub(crate) fn value_start(&mut self) -> usize {
        self.skip_space();
        self.at
    }

    /// Tells what kind of value comes next.
    #[inline]
    pub(crate) fn kind(&mut self) -> Result<Kind, WireError> {
        match self.peek() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => Err(self.syntax("expected a value")),
            None => Err(self.syntax("the text ends where a value should be")),
        }
    }

    /// Begins an object.
    pub(crate) fn begin_object(&mut self) -> Result<(), WireError> {
        self.expect_kind(Kind::Object)?;
        self.push_frame(Frame::Object { key: None })
    }

    /// Reads the next key and the colon after it, or the end of the object.
    pub(crate) fn next_key(&mut self) -> Result<Option<Cow<'a, [u8]>>, WireError> {
        if let Some(key) = self.plain_key() {
            return Ok(Some(Cow::Borrowed(key.as_bytes())));
        }
        let key = self.next_raw_key()?;
        Ok(key.map(|key| key.decoded()))
    }

    /// Reads the next key as text, and the colon after it, or the end of the object.
    pub(crate) fn next_name(&mut self) -> Result<Option<Cow<'a, str>>, WireError> {
        if let Some(key) = self.plain_key() {
            return Ok(Some(Cow::Borrowed(key)));
        }
        let key = self.next_raw_key()?;
        Ok(key.map(RawString::to_text))
    }

    /// Reads the next key and the colon after it if it is this one, which needs no escape, and nothing but what must stand there
    /// does; tells whether it did.
    #[inline]
    pub(crate) fn take_name(&mut self, name: &str) -> bool {
        let Some(Frame::Object { key }) = self.open.last_mut() else {
            return false;
        };
        let before = if key.is_none() { &b"\""[..] } else { b",\"" };
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let rest = rest.strip_prefix(before);
        let Some(rest) = rest.and_then(|rest| rest.strip_prefix(name.as_bytes())) else {
            return false;
        };
        if !rest.starts_with(b"\":") {
            return false;
        }
        let start = self.at + before.len();
        let end = start + name.len();
        *key = Some(start..end);
        self.at = end + 2;
        true
    }

    /// Returns how far it was read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Ends the object at hand if what is left of it stands, to its last brace, at `before` as well; tells whether it did. There
    /// it must have been read from the same place in an object on.
    #[inline]
    pub(crate) fn take_end_like(&mut self, before: Range<usize>) -> bool {
        let is_like = self.take_object_like(before);
        if is_like {
            self.open.pop();
        }
        is_like
    }

    /// Goes over the object at hand, or the rest of one, if it stands at `before` as well; tells whether it did.
    #[inline]
    pub(crate) fn take_object_like(&mut self, before: Range<usize>) -> bool {
        let text = self.text.as_bytes();
        let before = text.get(before).unwrap_or_default();
        let rest = text.get(self.at..).unwrap_or_default();
        if before.is_empty() || !rest.starts_with(before) {
            return false;
        }
        self.at += before.len();
        true
    }

    /// Goes over the next key and its value, in an object, if both stand at `before` as well, where the value ended; tells whether
    /// it did. The text there must be `"key":value` with a comma before it, as machines write it, unless the object began there.
    #[inline]
    pub(crate) fn take_entry_like(&mut self, before: Range<usize>, key_len: usize) -> bool {
        let text = self.text.as_bytes();
        let before = text.get(before).unwrap_or_default();
        let rest = text.get(self.at..).unwrap_or_default();
        let Some(behind) = rest.strip_prefix(before) else {
            return false;
        };
        let Some(Frame::Object { key }) = self.open.last_mut() else {
            return false;
        };
        let (Some(b'"' | b','), Some(b',' | b'}')) = (before.first(), behind.first()) else {
            return false;
        };
        let key_start = self.at + 1 + usize::from(before.first() == Some(&b','));
        *key = Some(key_start..key_start + key_len);
        self.at += before.len();
        true
    }

    /// Reads the next key and the colon after it as machines write them: without white space and escapes.
    #[inline]
    fn plain_key(&mut self) -> Option<&'a str> {
        let Some(Frame::Object { key: place }) = self.open.last_mut() else {
            return None;
        };
        let start = if place.is_none() {
            self.at
        } else if self.text.as_bytes().get(self.at) == Some(&b',') {
            self.at + 1
        } else {
            return None;
        };
        let key = plain_string_at(self.text, start)?;
        let end = start + 1 + key.len();
        if self.text.as_bytes().get(end + 1) != Some(&b':') {
            return None;
        }
        *place = Some(start + 1..end);
        self.at = end + 2;
        Some(key)
    }

    fn next_raw_key(&mut self) -> Result<Option<RawString<'a>>, WireError> {
        let is_first = matches!(self.open.last(), Some(Frame::Object { key: None }));
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                self.open.pop();
                return Ok(None);
            }
            Some(b',') if !is_first => self.at += 1,
            Some(_) if is_first => {}
            _ => return Err(self.syntax("expected ',' or '}'")),
        }
        if self.peek() != Some(b'"') {
            return Err(self.syntax("expected a key in quotes"));
        }

        let start = self.at + 1;
        let key = self.raw_string()?;
        let place = start..self.at - 1;
        if self.peek() != Some(b':') {
            return Err(self.syntax("expected ':' after a key"));
        }
        self.at += 1;
        if let Some(Frame::Object { key }) = self.open.last_mut() {
            *key = Some(place);
        }
        Ok(Some(key))
    }

    /// Begins an array.
    pub(crate) fn begin_array(&mut self) -> Result<(), WireError> {
        self.expect_kind(Kind::Array)?;
        self.push_frame(Frame::Array { index: None })
    }

    /// Moves to the next item and tells whether there is one.
    pub(crate) fn next_item(&mut self) -> Result<bool, WireError> {
        let is_first = matches!(self.open.last(), Some(Frame::Array { index: None }));
        match self.peek() {
            Some(b']') => {
                self.at += 1;
                self.open.pop();
                return Ok(false);
            }
            Some(b',') if !is_first => self.at += 1,
            Some(_) if is_first => {}
            _ => return Err(self.syntax("expected ',' or ']'")),
        }
        if let Some(Frame::Array { index }) = self.open.last_mut() {
            *index = Some(index.map_or(0, |index| index + 1));
        }
        Ok(true)
    }

    /// Reads a string.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<RawString<'a>, WireError> {
        if self.peek() != Some(b'"') {
            self.expect_kind(Kind::String)?;
        }
        self.raw_string()
    }

    /// Reads a string as text.
    #[inline]
    pub(crate) fn text(&mut self) -> Result<Cow<'a, str>, WireError> {
        if let Some(plain) = plain_string_at(self.text, self.at) {
            self.at += plain.len() + 2;
            return Ok(Cow::Borrowed(plain));
        }
        if self.peek() != Some(b'"') {
            self.expect_kind(Kind::String)?;
        }
        self.escaped_text().map(Cow::Owned)
    }

    /// Reads and decodes a string whose first quote is at hand, in one go.
    fn escaped_text(&mut self) -> Result<String, WireError> {
        let bytes = self.bytes();
        self.at += 1;
        let mut decoded = Vec::with_capacity(64);
        loop {
            let start = self.at;
            self.at += plain_prefix_of_short(bytes.get(start..).unwrap_or_default());
            decoded.extend_from_slice(bytes.get(start..self.at).unwrap_or_default());
            let escape = self.at;
            if self.string_goes_on()? {
                let rest = decode_escape(bytes.get(escape..).unwrap_or_default(), &mut decoded);
                self.at = bytes.len() - rest.len();
                continue;
            }
            self.at += 1;
            return Ok(String::from_utf8(decoded).expect("escapes stand for whole characters"));
        }
    }

    /// Reads a number that is nothing but up to 19 digits with what ends a value right behind them, or reads nothing.
    #[inline]
    pub(crate) fn plain_digits(&mut self) -> Option<u64> {
        const DIGITS_MAX: usize = 19;
        let rest = self.bytes().get(self.at..)?;
        let mut number = 0_u64;
        for (len, &byte) in rest.iter().take(DIGITS_MAX + 1).enumerate() {
            if byte.is_ascii_digit() {
                number = number.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                continue;
            }
            let is_number = matches!(byte, b',' | b'}') && (1..=DIGITS_MAX).contains(&len);
            if !is_number || (rest.first() == Some(&b'0') && len > 1) {
                return None;
            }
            self.at += len;
            return Some(number);
        }
        None
    }

    /// Reads a number and returns it as it stands in the text.
    pub(crate) fn number(&mut self) -> Result<&'a [u8], WireError> {
        self.expect_kind(Kind::Number)?;
        let start = self.at;
        if self.peek_here() == Some(b'-') {
            self.at += 1;
        }
        match self.peek_here() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.skip_digits(),
            _ => return Err(self.syntax("expected a digit")),
        }
        if self.peek_here() == Some(b'.') {
            self.at += 1;
            self.expect_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek_here() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek_here() {
                self.at += 1;
            }
            self.expect_digits()?;
        }
        Ok(self.since(start).as_bytes())
    }

    /// Reads `true` or `false`.
    pub(crate) fn bool(&mut self) -> Result<bool, WireError> {
        self.expect_kind(Kind::Bool)?;
        if self.peek_here() == Some(b't') {
            self.literal(b"true")?;
            return Ok(true);
        }
        self.literal(b"false")?;
        Ok(false)
    }

    /// Reads `null` if it comes next, and tells whether it did.
    #[inline]
    pub(crate) fn take_null(&mut self) -> Result<bool, WireError> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        self.literal(b"null")?;
        Ok(true)
    }

    /// Reads any value and returns it as it stands in the text.
    pub(crate) fn raw_value(&mut self) -> Result<&'a str, WireError> {
        let start = self.value_start();
        self.skip_value()?;
        Ok(self.since(start))
    }

    /// Reads any value and forgets it.
    pub(crate) fn skip_value(&mut self) -> Result<(), WireError> {
        let level = self.open.len();
        self.skip_scalar_or_begin()?;
        while self.open.len() > level {
            let has_more = match self.open.last() {
                Some(Frame::Object { .. }) => self.next_key()?.is_some(),
                _ => self.next_item()?,
            };
            if has_more {
                self.skip_scalar_or_begin()?;
            }
        }
        Ok(())
    }

    fn skip_scalar_or_begin(&mut self) -> Result<(), WireError> {
        match self.kind()? {
            Kind::Object => self.begin_object(),
            Kind::Array => self.begin_array(),
            Kind::String => self.raw_string().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::Bool => self.bool().map(drop),
            Kind::Null => self.take_null().map(drop),
        }
    }

    /// Makes an error for the value that began at `offset`.
    #[cold]
    pub(crate) fn fault(&self, kind: WireErrorKind, offset: usize, detail: String) -> WireError {
        let before = self.bytes().get(..offset).unwrap_or(self.bytes());
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let line_start = before
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |newline| newline + 1);
        let column = before.len() - line_start + 1;
        let path = self.path();
        WireError::new(kind, offset, path.clone(), path)
            .at_line(line, column)
            .saying(detail)
    }

    #[cold]
    fn syntax(&self, detail: &str) -> WireError {
        let detail = format!("invalid JSON: {detail}");
        self.fault(WireErrorKind::JsonSyntax, self.at, detail)
    }

    #[inline]
    fn expect_kind(&mut self, expected: Kind) -> Result<(), WireError> {
        if self.kind()? == expected {
            return Ok(());
        }
        Err(self.other_kind(expected))
    }

    #[cold]
    fn other_kind(&mut self, expected: Kind) -> WireError {
        let found = match self.kind() {
            Ok(found) => found,
            Err(error) => return error,
        };
        let detail = format!("expected {} but found {}", expected.words(), found.words());
        self.fault(WireErrorKind::JsonType, self.at, detail)
    }

    /// Goes over the bracket at hand and remembers what it began.
    fn push_frame(&mut self, frame: Frame) -> Result<(), WireError> {
        if self.open.len() >= DEPTH_MAX {
            let detail = format!("JSON nested deeper than {DEPTH_MAX}");
            return Err(self.fault(WireErrorKind::Nesting, self.at, detail));
        }
        self.at += 1;
        self.open.push(frame);
        Ok(())
    }

    /// Reads a string whose first quote is at hand, and checks its escapes.
    #[inline]
    fn raw_string(&mut self) -> Result<RawString<'a>, WireError> {
        self.at += 1;
        let start = self.at;
        self.at += plain_prefix_of_short(self.bytes().get(start..).unwrap_or_default());
        let has_escape = self.peek_here() != Some(b'"');
        if has_escape {
            self.rest_of_string()?;
        }
        let text = self.since(start);
        self.at += 1;
        Ok(RawString { text, has_escape })
    }

    /// Goes on to the last quote of a string with escapes.
    fn rest_of_string(&mut self) -> Result<(), WireError> {
        loop {
            self.at += plain_prefix_of_short(self.bytes().get(self.at..).unwrap_or_default());
            if !self.string_goes_on()? {
                return Ok(());
            }
        }
    }

    /// Goes over an escape behind the plain part of a string, or tells that the last quote is there.
    fn string_goes_on(&mut self) -> Result<bool, WireError> {
        match self.peek_here() {
            Some(b'"') => Ok(false),
            Some(b'\\') => self.escape().map(|()| true),
            Some(_) => Err(self.syntax("control character in a string")),
            None => Err(self.syntax("the text ends inside a string")),
        }
    }

    fn escape(&mut self) -> Result<(), WireError> {
        let len = match self.bytes().get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if self.has_four_hex_digits(self.at + 2) => 6,
            _ => return Err(self.syntax("unknown escape in a string")),
        };
        self.at += len;
        Ok(())
    }

    fn has_four_hex_digits(&self, at: usize) -> bool {
        self.bytes()
            .get(at..at + 4)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), WireError> {
        let found = self.bytes().get(self.at..self.at + literal.len());
        if found != Some(literal) {
            return Err(self.syntax("expected a value"));
        }
        self.at += literal.len();
        Ok(())
    }

    fn expect_digits(&mut self) -> Result<(), WireError> {
        if !self.peek_here().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.syntax("expected a digit"));
        }
        self.skip_digits();
        Ok(())
    }

    fn skip_digits(&mut self) {
        let rest = self.bytes().get(self.at..).unwrap_or_default();
        let digits = rest.iter().position(|byte| !byte.is_ascii_digit());
        self.at += digits.unwrap_or(rest.len());
    }

    /// Returns the next byte that is not white space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.peek_here()
    }

    #[inline]
    fn peek_here(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek_here() {
            self.at += 1;
        }
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Writes the way to the place at hand, such as `resourceSpans[0].scopeSpans[2].spans[7].name`.
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.open {
            match frame {
                Frame::Object { key: Some(place) } => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    let key = self.bytes().get(place.clone()).unwrap_or_default();
                    let shown = key.get(..SHOWN_KEY_MAX).unwrap_or(key);
                    path.push_str(&String::from_utf8_lossy(shown));
                }
                Frame::Array { index: Some(index) } => {
                    let written = write!(path, "[{index}]");
                    debug_assert!(written.is_ok(), "a String takes everything");
                }
                Frame::Object { key: None } | Frame::Array { index: None } => {}
            }
        }
        path
    }
}

impl<'a> RawString<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Returns the length in the text, which the decoded string does not exceed.
    pub(crate) fn raw_len(&self) -> usize {
        self.text.len()
    }

    /// Returns the string's UTF-8 if it stands in the text without escapes.
    pub(crate) fn verbatim(&self) -> Option<&'a [u8]> {
        (!self.has_escape).then_some(self.text.as_bytes())
    }

    /// Returns the string's UTF-8.
    pub(crate) fn decoded(&self) -> Cow<'a, [u8]> {
        match self.to_text() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }
    }

    /// Returns the string, borrowed where it stands in the text without escapes.
    #[inline]
    pub(crate) fn to_text(self) -> Cow<'a, str> {
        if !self.has_escape {
            return Cow::Borrowed(self.text);
        }
        Cow::Owned(self.unescaped())
    }

    fn unescaped(&self) -> String {
        let mut decoded = Vec::with_capacity(self.text.len());
        self.decode_into(&mut decoded);
        String::from_utf8(decoded).expect("escapes stand for whole characters")
    }

    /// Appends the string's UTF-8.
    pub(crate) fn decode_into(&self, out: &mut Vec<u8>) {
        let mut rest = self.text.as_bytes();
        while let Some(backslash) = memchr(b'\\', rest) {
            let (plain, escape) = rest.split_at(backslash);
            out.extend_from_slice(plain);
            rest = decode_escape(escape, out);
        }
        out.extend_from_slice(rest);
    }
}

/// Returns the string that begins here with its quote, if there is one, and none of it is escaped.
#[inline]
fn plain_string_at(text: &str, at: usize) -> Option<&str> {
    let rest = text.get(at..)?.strip_prefix('"')?;
    let (plain, rest) = rest.split_at_checked(plain_prefix_of_short(rest.as_bytes()))?;
    rest.starts_with('"').then_some(plain)
}

/// Says where text stops being UTF-8.
#[cold]
fn not_utf8(bytes: &[u8], offset: usize) -> WireError {
    let before = bytes.get(..offset).unwrap_or_default();
    let before = simdutf8::basic::from_utf8(before).unwrap_or_default();
    Text::of(before).fault(WireErrorKind::Utf8, offset, String::new())
}

/// Decodes the escape at the start of `text`, which was checked before, and returns what follows it.
fn decode_escape<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let Some((&[_, letter], rest)) = text.split_first_chunk() else {
        return &[];
    };
    match letter {
        b'b' => out.push(0x08),
        b'f' => out.push(0x0C),
        b'n' => out.push(b'\n'),
        b'r' => out.push(b'\r'),
        b't' => out.push(b'\t'),
        b'u' => return decode_utf16(rest, out),
        quoted => out.push(quoted),
    }
    rest
}

/// Decodes what follows `\u`: four digits, and a second escape where the two are a surrogate pair.
fn decode_utf16<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let Some((first, rest)) = split_unit(text) else {
        return &[];
    };
    let second = rest.strip_prefix(b"\\u").and_then(split_unit);
    let (decoded, rest) = match (first, second) {
        (0xD800..=0xDBFF, Some((low @ 0xDC00..=0xDFFF, after))) => {
            let pair = 0x10000 + ((first - 0xD800) << 10) + (low - 0xDC00);
            (char::from_u32(pair), after)
        }
        _ => (char::from_u32(first), rest),
    };
    let decoded = decoded.unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
    rest
}

fn split_unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let mut unit = 0;
    for &digit in digits {
        unit = unit << 4 | char::from(digit).to_digit(16)?;
    }
    Some((unit, rest))
}

/// Returns how many bytes from the start on are neither quote, backslash nor control character.
#[inline]
pub(crate) fn plain_prefix(text: &[u8]) -> usize {
    let (blocks, rest) = text.as_chunks::<32>();
    let mut len = 0;
    for block in blocks {
        // Without an early end, so that the compiler makes it one comparison of the whole block.
        let has_special = block.iter().fold(false, |has_special, &byte| {
            has_special | (byte == b'"') | (byte == b'\\') | (byte < 0x20)
        });
        if has_special {
            return len + plain_prefix_by_words(block);
        }
        len += block.len();
    }
    len + plain_prefix_by_words(rest)
}

/// Does as [`plain_prefix`], and is faster where the prefix mostly is shorter than the text: as strings in a document are.
#[inline]
fn plain_prefix_of_short(text: &[u8]) -> usize {
    const SHORT: usize = 64;
    let Some((short, rest)) = text.split_at_checked(SHORT) else {
        return plain_prefix_by_words(text);
    };
    let len = plain_prefix_by_words(short);
    if len < SHORT {
        return len;
    }
    len + plain_prefix(rest)
}

#[inline]
fn plain_prefix_by_words(text: &[u8]) -> usize {
    let (words, rest) = text.as_chunks::<8>();
    let mut len = 0;
    for word in words {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return len + special.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len + rest
        .iter()
        .position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20)
        .unwrap_or(rest.len())
}

/// Marks, by its highest bit, at least the first byte of a word that ends a plain stretch.
///
/// The classic zero-byte test: subtracting 1 from each byte borrows into the highest bit only of bytes that
/// were zero; bytes above a true hit may be marked wrongly, those below never. Flipping bit 1 puts the quote right behind the
/// control characters, and them elsewhere among themselves, so that one subtraction finds both.
#[inline]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    let flipped = word ^ (ONES * 0x02);
    let backslashes = word ^ (ONES * b'\\' as u64);
    let quote_or_control_hits = flipped.wrapping_sub(ONES * 0x21) & !flipped;
    let backslash_hits = backslashes.wrapping_sub(ONES) & !backslashes;
    (quote_or_control_hits | backslash_hits) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expected_name_is_taken_only_where_it_stands() {
        let read = |text: &str| {
            let mut reader = Text::of(text);
            reader.begin_object().expect("an object");
            let is_taken = reader.take_name("ab");
            let rest = &text[reader.at..];
            (is_taken, rest.to_owned())
        };
        assert_eq!(read(r#"{"ab":1}"#), (true, "1}".to_owned()));
        for text in [
            r#"{"ab" :1}"#,
            r#"{ "ab":1}"#,
            r#"{,"ab":1}"#,
            r#"{"abc":1}"#,
            r#"{"a":1}"#,
            r#"{"ab"#,
            "{}",
        ] {
            assert_eq!(read(text), (false, text[1..].to_owned()), "{text}");
        }
    }

    #[test]
    fn only_plain_digits_are_read_as_such() {
        let read = |text: &str| Text::of(text).plain_digits();
        assert_eq!(read("0,"), Some(0));
        assert_eq!(read("1700000000000000}"), Some(1_700_000_000_000_000));
        assert_eq!(
            read("9999999999999999999,"),
            Some(9_999_999_999_999_999_999)
        );
        for text in [
            "10000000000000000000,",
            "01,",
            "1.5,",
            "1e3,",
            "-1,",
            ",",
            "1",
            "1 ,",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn finds_the_end_of_plain_text_at_every_place() {
        for length in (0..40).chain([64, 65, 100]) {
            for place in 0..length {
                for special in (0..0x20).chain([b'"', b'\\']) {
                    let mut text = vec![b'a'; length];
                    text[place] = special;
                    assert_eq!(plain_prefix(&text), place, "{special:#x} in {length}");
                    let found = plain_prefix_of_short(&text);
                    assert_eq!(found, place, "{special:#x} in {length}");
                }
            }
            for plain in (0x20..=0xFF).filter(|byte| !b"\"\\".contains(byte)) {
                assert_eq!(plain_prefix(&vec![plain; length]), length, "{plain:#x}");
            }
        }
    }

    #[test]
    fn decodes_escapes() {
        let text = r#""a\"\\\/\b\f\n\r\t\u0041\u00e9\u20AC\ud83d\ude00z""#;
        let mut reader = Text::new(text.as_bytes()).expect("it is UTF-8");
        let string = reader.string().expect("it is a string").decoded();
        assert_eq!(
            std::str::from_utf8(&string).expect("decoding gives UTF-8"),
            "a\"\\/\u{8}\u{c}\n\r\tAé€😀z"
        );
    }

    #[test]
    fn a_surrogate_without_its_partner_becomes_a_replacement_character() {
        let decode = |text: &str| {
            let mut reader = Text::new(text.as_bytes()).expect("it is UTF-8");
            let string = reader.string().expect("it is a string").decoded();
            String::from_utf8(string.into_owned()).expect("decoding gives UTF-8")
        };
        assert_eq!(decode(r#""cut\ud83d""#), "cut\u{FFFD}");
        assert_eq!(decode(r#""\ude00x""#), "\u{FFFD}x");
        assert_eq!(decode(r#""\ud83d\u0041""#), "\u{FFFD}A");
        assert_eq!(decode(r#""\ud83d\ud83d\ude00""#), "\u{FFFD}😀");
    }

    #[test]
    fn errors_know_line_column_and_the_way_there() {
        let text = "{\n  \"a\": [1, {\"b\": tru}]\n}";
        let mut reader = Text::new(text.as_bytes()).expect("it is UTF-8");
        let error = reader.skip_value().expect_err("tru is no value");
        assert_eq!(error.path(), "a[1].b");
        assert_eq!((error.line(), error.column()), (Some(2), Some(18)));
        assert_eq!(error.offset(), 19);
        assert_eq!(
            error.to_string(),
            "invalid JSON: expected a value in a[1].b at line 2, column 18"
        );
    }

    #[test]
    fn skipping_is_bounded_in_depth() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let skip = |text: String| {
            let mut reader = Text::new(text.as_bytes()).expect("it is UTF-8");
            reader.skip_value().and_then(|()| reader.finish())
        };
        assert_eq!(skip(nested(DEPTH_MAX)), Ok(()));
        let error = skip(nested(DEPTH_MAX + 1)).expect_err("one level too many");
        assert_eq!(error.kind(), WireErrorKind::Nesting);
        assert!(skip("[".repeat(1_000_000)).is_err());
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_at_its_byte() {
        let error = Text::new(b"{\"a\":\"\xFF\"}").expect_err("0xFF is never UTF-8");
        assert_eq!((error.kind(), error.offset()), (WireErrorKind::Utf8, 6));
    }
}
