//! Zipkin v2 JSON.

use std::borrow::Cow;
use std::ops::Range;

use super::ReadLimits;
use super::assemble::Assembler;
use super::limit_error;
use super::parts::Annotation;
use super::parts::Endpoint;
use super::parts::Parts;
use super::parts::ValueType;
use crate::json::Kind;
use crate::json::Text;
use crate::otlp::SpanKind;
use crate::otlp::WireError;
use crate::otlp::WireErrorKind;

/// With what a list of structs begins in Thrift, which the first version of the format is mostly sent in.
const THRIFT_LIST_OF_STRUCTS: u8 = 0x0C;

/// Reads all spans.
pub(super) fn read(
    text: &[u8],
    limits: &ReadLimits,
    assembler: &mut Assembler,
) -> Result<(), WireError> {
    if text.first() == Some(&THRIFT_LIST_OF_STRUCTS) {
        let detail = "this is Zipkin v1 in Thrift, send v2 in JSON or protobuf".to_owned();
        let error = WireError::new(WireErrorKind::Version, 0, String::new(), String::new());
        return Err(error.saying(detail));
    }
    if text.trim_ascii().is_empty() {
        return Ok(());
    }
    let mut reader = Reader {
        text: Text::new(text)?,
        parts: Parts::new(),
        tags_before: TagsBefore::default(),
        local_before: (0..0, Endpoint::default()),
        fields_before: Vec::new(),
        spans: 0,
        limits,
        assembler,
    };
    reader.document()?;
    reader.text.finish()
}

/// How many fields of a span are remembered: more than there are.
const FIELDS_MAX: usize = 16;

struct Reader<'a, 'r> {
    text: Text<'a>,
    parts: Parts<'a>,
    tags_before: TagsBefore,
    /// Where the last local endpoint stands in the text, and what it says.
    local_before: (Range<usize>, Endpoint<'a>),
    /// Which fields the span before has, in their order.
    fields_before: Vec<Field>,
    spans: usize,
    limits: &'r ReadLimits,
    assembler: &'r mut Assembler,
}

/// Where the tags of the span before stand in the text, those of which mostly end as the next span's do: with what a scope and
/// a resource say.
#[derive(Debug, Default)]
struct TagsBefore {
    /// Where each of them stands, with the comma before it.
    places: Vec<Range<usize>>,
    /// Behind the brace after them.
    end: usize,
    /// From which of them on they were the same the last time; those before are not worth a look.
    same_from: usize,
}

impl TagsBefore {
    fn forget(&mut self) {
        self.places.clear();
        self.same_from = 0;
    }

    #[inline]
    fn set(&mut self, number: usize, place: Range<usize>) {
        match self.places.get_mut(number) {
            Some(before) => *before = place,
            None => self.places.push(place),
        }
    }
}

/// The keys of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    TraceId,
    ParentId,
    Id,
    Kind,
    Name,
    Timestamp,
    Duration,
    LocalEndpoint,
    RemoteEndpoint,
    Annotations,
    Tags,
    Debug,
    Shared,
    /// Of the first version of the format.
    BinaryAnnotations,
    Other,
}

impl Field {
    fn of(key: &[u8]) -> Self {
        match key {
            b"traceId" => Self::TraceId,
            b"parentId" => Self::ParentId,
            b"id" => Self::Id,
            b"kind" => Self::Kind,
            b"name" => Self::Name,
            b"timestamp" => Self::Timestamp,
            b"duration" => Self::Duration,
            b"localEndpoint" => Self::LocalEndpoint,
            b"remoteEndpoint" => Self::RemoteEndpoint,
            b"annotations" => Self::Annotations,
            b"tags" => Self::Tags,
            b"debug" => Self::Debug,
            b"shared" => Self::Shared,
            b"binaryAnnotations" => Self::BinaryAnnotations,
            _ => Self::Other,
        }
    }

    /// Returns the key; that of another field is none that anybody needs to expect.
    fn name(self) -> &'static str {
        match self {
            Self::TraceId => "traceId",
            Self::ParentId => "parentId",
            Self::Id => "id",
            Self::Kind => "kind",
            Self::Name => "name",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            Self::LocalEndpoint => "localEndpoint",
            Self::RemoteEndpoint => "remoteEndpoint",
            Self::Annotations => "annotations",
            Self::Tags => "tags",
            Self::Debug => "debug",
            Self::Shared => "shared",
            Self::BinaryAnnotations => "binaryAnnotations",
            Self::Other => "",
        }
    }
}

impl<'a> Reader<'a, '_> {
    fn document(&mut self) -> Result<(), WireError> {
        if self.text.kind()? == Kind::Object {
            return self.only_span();
        }
        self.text.begin_array()?;
        while self.text.next_item()? {
            if self.text.kind()? != Kind::Array {
                self.span()?;
                continue;
            }
            self.text.begin_array()?;
            while self.text.next_item()? {
                self.span()?;
            }
        }
        Ok(())
    }

    /// Reads a span without an array around it. An object that is none must not pass for an invalid span.
    fn only_span(&mut self) -> Result<(), WireError> {
        let start = self.text.value_start();
        self.span_fields()?;
        if self.parts.trace_id == [0; 16] {
            let detail = "expected an array of Zipkin spans but found another object".to_owned();
            return Err(self.text.fault(WireErrorKind::JsonType, start, detail));
        }
        self.assembler.push(&mut self.parts);
        Ok(())
    }

    fn span(&mut self) -> Result<(), WireError> {
        let start = self.text.value_start();
        if self.spans == self.limits.spans_max {
            let detail = format!("more than the {} spans allowed", self.limits.spans_max);
            return Err(limit_error(start, detail));
        }
        self.spans += 1;
        self.span_fields()?;
        self.assembler.push(&mut self.parts);
        Ok(())
    }

    fn span_fields(&mut self) -> Result<(), WireError> {
        self.parts.clear();
        self.text.begin_object()?;
        let mut number = 0;
        while let Some(field) = self.next_field(number)? {
            number += 1;
            if !self.text.take_null()? {
                self.field(field)?;
            }
        }
        Ok(())
    }

    /// Reads the next key: first as that which the span before has in the same place, as all of one encoder do.
    #[inline]
    fn next_field(&mut self, number: usize) -> Result<Option<Field>, WireError> {
        if let Some(&before) = self.fields_before.get(number)
            && self.text.take_name(before.name())
        {
            return Ok(Some(before));
        }
        let Some(key) = self.text.next_key()? else {
            return Ok(None);
        };
        let field = Field::of(&key);
        match self.fields_before.get_mut(number) {
            Some(before) => *before = field,
            None if number < FIELDS_MAX => self.fields_before.push(field),
            None => {}
        }
        Ok(Some(field))
    }

    fn field(&mut self, field: Field) -> Result<(), WireError> {
        match field {
            Field::TraceId => self.trace_id()?,
            Field::Id => {
                self.parts.id = self.span_id("its id has more than 16 digits")?;
            }
            Field::ParentId => {
                self.parts.parent_id = self.span_id("its parent's id has more than 16 digits")?;
            }
            Field::Kind => self.parts.kind = self.kind()?,
            Field::Name => self.parts.name = self.text.text()?,
            Field::Timestamp => self.parts.timestamp = self.micros()?,
            Field::Duration => self.parts.duration = self.micros()?,
            Field::LocalEndpoint => self.local_endpoint()?,
            Field::RemoteEndpoint => self.parts.remote = self.endpoint()?,
            Field::Annotations => self.annotations()?,
            Field::Tags => self.tags()?,
            Field::Debug => self.parts.debug = self.text.bool()?,
            Field::Shared => self.parts.shared = self.text.bool()?,
            Field::BinaryAnnotations => return Err(self.version_1()),
            Field::Other => self.text.skip_value()?,
        }
        Ok(())
    }

    fn trace_id(&mut self) -> Result<(), WireError> {
        let id: Option<[u8; 16]> = self.hex()?;
        if id.is_none() {
            self.parts.fault = Some("its trace id has more than 32 digits");
        }
        self.parts.trace_id = id.unwrap_or_default();
        Ok(())
    }

    fn span_id(&mut self, fault: &'static str) -> Result<[u8; 8], WireError> {
        let id = self.hex()?;
        if id.is_none() {
            self.parts.fault = Some(fault);
        }
        Ok(id.unwrap_or_default())
    }

    /// Reads hexadecimal digits, of which the last ones may be all there are; `None` if there are too many.
    fn hex<const BYTES: usize>(&mut self) -> Result<Option<[u8; BYTES]>, WireError> {
        let start = self.text.value_start();
        let digits = self.text.text()?;
        let mut id = [0; BYTES];
        if let Some(()) = read_pairs(digits.as_bytes(), &mut id) {
            return Ok(Some(id));
        }
        let mut is_too_long = false;
        id = [0; BYTES];
        for (place, &digit) in digits.as_bytes().iter().rev().enumerate() {
            let Some(value) = char::from(digit).to_digit(16) else {
                let detail = "expected an id in hexadecimal".to_owned();
                return Err(self.text.fault(WireErrorKind::Encoding, start, detail));
            };
            let byte = BYTES
                .checked_sub(1 + place / 2)
                .and_then(|at| id.get_mut(at));
            match byte {
                Some(byte) => *byte |= (value as u8) << (4 * (place % 2)),
                None => is_too_long = true,
            }
        }
        Ok((!is_too_long).then_some(id))
    }

    fn kind(&mut self) -> Result<SpanKind, WireError> {
        let text = self.text.text()?;
        let kinds = [
            ("CLIENT", SpanKind::Client),
            ("SERVER", SpanKind::Server),
            ("PRODUCER", SpanKind::Producer),
            ("CONSUMER", SpanKind::Consumer),
            ("INTERNAL", SpanKind::Internal),
        ];
        let found = kinds
            .iter()
            .find(|(name, _)| text.eq_ignore_ascii_case(name));
        Ok(found.map_or(SpanKind::Unspecified, |&(_, kind)| kind))
    }

    /// Reads microseconds: whole ones, of which a fraction is cut off; what is negative is 0.
    fn micros(&mut self) -> Result<u64, WireError> {
        let start = self.text.value_start();
        if let Some(number) = self.text.plain_digits() {
            return Ok(number);
        }
        let text = match self.text.kind()? {
            Kind::String => self.text.string()?.decoded(),
            _ => Cow::Borrowed(self.text.number()?),
        };
        truncated(&text).ok_or_else(|| {
            let detail = "expected a number of microseconds".to_owned();
            self.text.fault(WireErrorKind::JsonType, start, detail)
        })
    }

    /// Reads the local endpoint, which mostly is the one of the span before.
    fn local_endpoint(&mut self) -> Result<(), WireError> {
        let (place, before) = &self.local_before;
        if self.text.take_object_like(place.clone()) {
            self.parts.local = before.clone();
            return Ok(());
        }
        let start = self.text.value_start();
        self.parts.local = self.endpoint()?;
        self.local_before = (start..self.text.position(), self.parts.local.clone());
        Ok(())
    }

    fn endpoint(&mut self) -> Result<Endpoint<'a>, WireError> {
        let mut endpoint = Endpoint::default();
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            if self.text.take_null()? {
                continue;
            }
            match &*key {
                b"serviceName" => endpoint.service_name = self.text.text()?,
                b"ipv4" => endpoint.ipv4 = self.text.text()?,
                b"ipv6" => endpoint.ipv6 = self.text.text()?,
                b"port" => endpoint.port = u16::try_from(self.micros()?).unwrap_or_default(),
                _ => self.text.skip_value()?,
            }
        }
        Ok(endpoint)
    }

    fn annotations(&mut self) -> Result<(), WireError> {
        self.text.begin_array()?;
        while self.text.next_item()? {
            if self.text.take_null()? {
                continue;
            }
            self.check_entries()?;
            let annotation = self.annotation()?;
            self.parts.annotations.push(annotation);
        }
        Ok(())
    }

    fn annotation(&mut self) -> Result<Annotation<'a>, WireError> {
        let mut annotation = Annotation::default();
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            if self.text.take_null()? {
                continue;
            }
            match &*key {
                b"timestamp" => annotation.timestamp = self.micros()?,
                b"value" => annotation.value = self.text.text()?,
                b"endpoint" => return Err(self.version_1()),
                _ => self.text.skip_value()?,
            }
        }
        Ok(annotation)
    }

    fn tags(&mut self) -> Result<(), WireError> {
        self.text.begin_object()?;
        let mut pairs = 0;
        if self.parts.tags_len() > 0 {
            // The key twice: this begins in the middle.
            self.tags_before.forget();
            pairs = usize::MAX;
        }
        loop {
            if self.take_rest_of_tags() {
                return Ok(());
            }
            let (number, start) = (self.parts.tags_len(), self.text.position());
            if !self.take_tag_of_before(number) && !self.tag()? {
                self.end_tags(pairs);
                return Ok(());
            }
            self.tags_before.set(number, start..self.text.position());
            pairs = pairs.saturating_add(1);
        }
    }

    /// Reads the next tag, if there is one.
    #[inline]
    fn tag(&mut self) -> Result<bool, WireError> {
        let is_expected = match self.parts.expected_key() {
            Some(key) => self.text.take_name(key),
            None => false,
        };
        if is_expected {
            self.check_entries()?;
            let (value, value_type) = self.tag_value()?;
            self.parts.expected_tag(value, value_type);
            return Ok(true);
        }
        let Some(key) = self.text.next_name()? else {
            return Ok(false);
        };
        self.check_entries()?;
        let (value, value_type) = self.tag_value()?;
        self.parts.tag(key, value, value_type);
        Ok(true)
    }

    /// Goes over the next tag if it is, to the byte, that of the span before.
    #[inline]
    fn take_tag_of_before(&mut self, number: usize) -> bool {
        if !self.knows_tags_before() {
            return false;
        }
        let place = self.tags_before.places.get(number).cloned();
        let (Some(place), Some(key_len)) = (place, self.parts.expected_key_len()) else {
            return false;
        };
        let is_same = self.text.take_entry_like(place, key_len);
        if is_same {
            self.parts.keep_tag();
        }
        is_same
    }

    /// Whether the tags of the span before may be taken for those of this one, where these have the same text.
    #[inline]
    fn knows_tags_before(&self) -> bool {
        let (parts, before) = (&self.parts, &self.tags_before);
        let entries = parts.annotations.len() + parts.tags.len();
        parts.is_alike()
            && before.places.len() == parts.tags.len()
            && entries <= self.limits.entries_per_span_max
    }

    /// Goes over the rest of the tags if it is, to the byte, that of the span before.
    #[inline]
    fn take_rest_of_tags(&mut self) -> bool {
        let number = self.parts.tags_len();
        if number < self.tags_before.same_from || !self.knows_tags_before() {
            return false;
        }
        let before = &mut self.tags_before;
        let Some(place) = before.places.get(number) else {
            return false;
        };
        if !self.text.take_end_like(place.start..before.end) {
            return false;
        }
        before.same_from = number;
        self.parts.keep_rest();
        true
    }

    /// Remembers where the tags stand, if each became one: of equal keys the last one counts.
    fn end_tags(&mut self, pairs: usize) {
        let count = self.parts.tags_len();
        if pairs != count {
            return self.tags_before.forget();
        }
        self.tags_before.end = self.text.position();
        self.tags_before.places.truncate(count);
        if !self.parts.is_alike() {
            self.tags_before.same_from = 0;
        }
    }

    #[inline]
    fn tag_value(&mut self) -> Result<(Cow<'a, str>, ValueType), WireError> {
        Ok(match self.text.kind()? {
            Kind::String => (self.text.text()?, ValueType::Text),
            kind => (Cow::Borrowed(self.text.raw_value()?), type_of(kind)),
        })
    }

    fn check_entries(&mut self) -> Result<(), WireError> {
        let entries = self.parts.annotations.len() + self.parts.tags_len();
        if entries < self.limits.entries_per_span_max {
            return Ok(());
        }
        let start = self.text.value_start();
        let max = self.limits.entries_per_span_max;
        let detail = format!("more than the {max} tags and annotations allowed in a span");
        Err(self.text.fault(WireErrorKind::Limit, start, detail))
    }

    #[cold]
    fn version_1(&mut self) -> WireError {
        let start = self.text.value_start();
        let detail = "this is Zipkin v1, send v2 (/api/v2/spans)".to_owned();
        self.text.fault(WireErrorKind::Version, start, detail)
    }
}

/// Reads an id that has all its digits.
#[inline]
fn read_pairs(digits: &[u8], id: &mut [u8]) -> Option<()> {
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    if pairs.len() != id.len() {
        return None;
    }
    // No digit is above 15, so that one look at the end tells of all.
    let mut seen = 0;
    for (byte, &[high, low]) in id.iter_mut().zip(pairs) {
        let (high, low) = (hex_digit(high), hex_digit(low));
        seen |= high | low;
        *byte = high << 4 | low & 0x0F;
    }
    (seen < 16).then_some(())
}

/// Returns the value of a hexadecimal digit, and 0xFF for any other byte.
#[inline]
fn hex_digit(digit: u8) -> u8 {
    const DIGITS: [u8; 256] = {
        let mut digits = [0xFF; 256];
        let mut value = 0;
        while value < 16 {
            digits[b"0123456789abcdef"[value] as usize] = value as u8;
            digits[b"0123456789ABCDEF"[value] as usize] = value as u8;
            value += 1;
        }
        digits
    };
    DIGITS[digit as usize]
}

/// Says what a value that is no string stands for; a number's text says which of both it is.
fn type_of(kind: Kind) -> ValueType {
    match kind {
        Kind::Object | Kind::Array => ValueType::Json,
        Kind::String => ValueType::Text,
        Kind::Number => ValueType::Int,
        Kind::Bool => ValueType::Bool,
        Kind::Null => ValueType::Empty,
    }
}

/// Reads a number without its fraction. What is negative becomes 0, what is too large the largest.
fn truncated(text: &[u8]) -> Option<u64> {
    let mut whole = 0_u64;
    let mut digits = 0;
    for &byte in text {
        if !byte.is_ascii_digit() {
            break;
        }
        whole = whole
            .saturating_mul(10)
            .saturating_add(u64::from(byte - b'0'));
        digits += 1;
    }
    let rest = text.get(digits..).unwrap_or_default();
    let is_plain = rest
        .iter()
        .all(|byte| byte.is_ascii_digit() || *byte == b'.');
    if digits > 0 && is_plain {
        return Some(whole);
    }
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    // The cast saturates at both ends, and makes 0 of what is no number.
    Some(number as u64)
}
