//! OTLP JSON to protobuf, without a tree in between.

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;

use crate::error::WireError;
use crate::error::WireErrorKind;
use crate::json::Kind;
use crate::json::RawString;
use crate::json::Text;
use crate::otlp::fields::any_value;
use crate::otlp::fields::array_value;
use crate::otlp::fields::entity_ref;
use crate::otlp::fields::event;
use crate::otlp::fields::key_value;
use crate::otlp::fields::key_value_list;
use crate::otlp::fields::link;
use crate::otlp::fields::request;
use crate::otlp::fields::resource;
use crate::otlp::fields::resource_spans;
use crate::otlp::fields::scope;
use crate::otlp::fields::scope_spans;
use crate::otlp::fields::span;
use crate::otlp::fields::status;
use crate::otlp::reader::NESTING_MAX;
use crate::otlp::reader::varint_length;
use crate::otlp::writer::close;
use crate::otlp::writer::open;
use crate::otlp::writer::push_bytes;
use crate::otlp::writer::push_double;
use crate::otlp::writer::push_fixed32;
use crate::otlp::writer::push_fixed64;
use crate::otlp::writer::push_int;
use crate::otlp::writer::push_uint;

/// Widths of a length, by how large such a message usually is.
const UP_TO_127: usize = 1;
const UP_TO_16_KIB: usize = 2;
const UP_TO_2_MIB: usize = 3;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

const SPAN_KINDS: &[(&[u8], i32)] = &[
    (b"SPAN_KIND_UNSPECIFIED", 0),
    (b"SPAN_KIND_INTERNAL", 1),
    (b"SPAN_KIND_SERVER", 2),
    (b"SPAN_KIND_CLIENT", 3),
    (b"SPAN_KIND_PRODUCER", 4),
    (b"SPAN_KIND_CONSUMER", 5),
];

const STATUS_CODES: &[(&[u8], i32)] = &[
    (b"STATUS_CODE_UNSET", 0),
    (b"STATUS_CODE_OK", 1),
    (b"STATUS_CODE_ERROR", 2),
];

/// What [`read_json`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JsonSummary {
    /// How many spans the document holds, invalid ones included.
    pub spans: usize,
    /// How many keys the schema does not know. They are ignored, as OTLP demands; many of them with no span at
    /// all mean that the document is something else, or spells its keys `resource_spans`.
    pub ignored_keys: usize,
}

/// Appends an OTLP JSON document to `request` as protobuf (`ExportTraceServiceRequest`, or `TracesData`, which
/// is the same bytes).
///
/// The text may be one line or many. Beyond the strict form it understands what real senders write:
///
/// - integers of 32 and 64 bits as strings or as numbers, also as whole numbers in other decimal forms (`1e3`);
///   floating-point numbers also as strings, with `NaN`, `Infinity` and `-Infinity`;
/// - ids in any letter case; `bytesValue` in standard or URL-safe base64, with or without padding;
/// - enums as numbers or, against the rules but with only one possible meaning, by name (`SPAN_KIND_SERVER`);
/// - `null` for any key, as if the key were absent, and as an empty value in an array of values;
/// - unknown keys at every level, keys in any order, a byte order mark, halves of UTF-16 surrogate pairs
///   (which become U+FFFD);
/// - a key more than once: the last scalar wins, lists continue, and objects merge, as protobuf merges them,
///   so that no span is lost.
///
/// An id that is hexadecimal but too short, too long or empty is copied: the validator then finds an invalid
/// span among good ones. An id that is not hexadecimal makes the document broken: its sender writes another
/// format (base64, most often) in every span, and must hear of it.
///
/// The result may still hold invalid spans, so validate it as if it came from the network. Its messages nest
/// at most 100 deep, and it is never much larger than the text.
///
/// # Errors
///
/// Says what is wrong at which line, column and byte, and in which field, such as
/// `resourceSpans[0].scopeSpans[0].spans[3].traceId`. `request` is then as it was before.
///
/// # Examples
///
/// ```
/// use outspan_wire::otlp::read_json;
///
/// let text = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"checkout"}]}]}]}"#;
/// let mut request = Vec::new();
/// let summary = read_json(text, &mut request)?;
/// assert_eq!(summary.spans, 1);
/// # Ok::<(), outspan_wire::otlp::WireError>(())
/// ```
pub fn read_json(text: &[u8], request: &mut Vec<u8>) -> Result<JsonSummary, WireError> {
    let start = request.len();
    let read = Reader::read(text, request);
    if read.is_err() {
        request.truncate(start);
    }
    read
}

/// Reads messages of the schema and writes them as it goes.
struct Reader<'a> {
    text: Text<'a>,
    out: &'a mut Vec<u8>,
    nesting: u32,
    summary: JsonSummary,
}

/// The fields of one message that were set already.
///
/// A default need not be written, except where it replaces something.
#[derive(Default)]
struct Seen(u32);

impl Seen {
    /// Tells whether the field was set before, and remembers it.
    fn again(&mut self, field: u32) -> bool {
        let bit = 1_u32.checked_shl(field).unwrap_or_default();
        let again = self.0 & bit != 0;
        self.0 |= bit;
        again
    }
}

impl<'a> Reader<'a> {
    fn read(text: &'a [u8], out: &'a mut Vec<u8>) -> Result<JsonSummary, WireError> {
        let mut reader = Self {
            text: Text::new(text)?,
            out,
            nesting: 0,
            summary: JsonSummary::default(),
        };
        reader.request()?;
        reader.text.finish()?;
        Ok(reader.summary)
    }

    fn request(&mut self) -> Result<(), WireError> {
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"resourceSpans" => {
                    self.messages(request::RESOURCE_SPANS, UP_TO_2_MIB, Self::resource_spans)?;
                }
                _ => self.ignore()?,
            }
        }
        Ok(())
    }

    fn resource_spans(&mut self) -> Result<(), WireError> {
        let mut seen = Seen::default();
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"resource" => {
                    self.message(resource_spans::RESOURCE, UP_TO_16_KIB, Self::resource)?;
                }
                b"scopeSpans" => {
                    let field = resource_spans::SCOPE_SPANS;
                    self.messages(field, UP_TO_2_MIB, Self::scope_spans)?;
                }
                b"schemaUrl" => self.string(resource_spans::SCHEMA_URL, &mut seen)?,
                _ => self.ignore()?,
            }
        }
        Ok(())
    }

    fn resource(&mut self) -> Result<(), WireError> {
        let mut seen = Seen::default();
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"attributes" => self.attributes(resource::ATTRIBUTES)?,
                b"droppedAttributesCount" => {
                    self.uint32(resource::DROPPED_ATTRIBUTES_COUNT, &mut seen)?;
                }
                b"entityRefs" => {
                    self.messages(resource::ENTITY_REFS, UP_TO_127, Self::entity_ref)?;
                }
                _ => self.ignore()?,
            }
        }
        Ok(())
    }

    fn entity_ref(&mut self) -> Result<(), WireError> {
        let mut seen = Seen::default();
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"schemaUrl" => self.string(entity_ref::SCHEMA_URL, &mut seen)?,
                b"type" => self.string(entity_ref::TYPE, &mut seen)?,
                b"idKeys" => self.strings(entity_ref::ID_KEYS)?,
                b"descriptionKeys" => self.strings(entity_ref::DESCRIPTION_KEYS)?,
                _ => self.ignore()?,
            }
        }
        Ok(())
    }

    fn scope_spans(&mut self) -> Result<(), WireError> {
        let mut seen = Seen::default();
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"scope" => self.message(scope_spans::SCOPE, UP_TO_127, Self::scope)?,
                b"spans" => self.messages(scope_spans::SPANS, UP_TO_16_KIB, Self::span)?,
                b"schemaUrl" => self.string(scope_spans::SCHEMA_URL, &mut seen)?,
                _ => self.ignore()?,
            }
        }
        Ok(())
    }

    fn scope(&mut self) -> Result<(), WireError> {
        let mut seen = Seen::default();
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"name" => self.string(scope::NAME, &mut seen)?,
                b"version" => self.string(scope::VERSION, &mut seen)?,
                b"attributes" => self.attributes(scope::ATTRIBUTES)?,
                b"droppedAttributesCount" => {
                    self.uint32(scope::DROPPED_ATTRIBUTES_COUNT, &mut seen)?;
                }
                _ => self.ignore()?,
            }
        }
        Ok(())
    }

    fn span(&mut self) -> Result<(), WireError> {
        let mut seen = Seen::default();
        self.summary.spans += 1;
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"traceId" => self.id(span::TRACE_ID, &mut seen)?,
                b"spanId" => self.id(span::SPAN_ID, &mut seen)?,
                b"parentSpanId" => self.id(span::PARENT_SPAN_ID, &mut seen)?,
                b"traceState" => self.string(span::TRACE_STATE, &mut seen)?,
                b"flags" => self.fixed32(span::FLAGS, &mut seen)?,
                b"name" => self.string(span::NAME, &mut seen)?,
                b"kind" => self.enumeration(span::KIND, SPAN_KINDS, &mut seen)?,
                b"startTimeUnixNano" => self.fixed64(span::START_TIME_UNIX_NANO, &mut seen)?,
                b"endTimeUnixNano" => self.fixed64(span::END_TIME_UNIX_NANO, &mut seen)?,
                b"attributes" => self.attributes(span::ATTRIBUTES)?,
                b"droppedAttributesCount" => {
                    self.uint32(span::DROPPED_ATTRIBUTES_COUNT, &mut seen)?;
                }
                b"events" => self.messages(span::EVENTS, UP_TO_127, Self::event)?,
                b"droppedEventsCount" => self.uint32(span::DROPPED_EVENTS_COUNT, &mut seen)?,
                b"links" => self.messages(span::LINKS, UP_TO_127, Self::link)?,
                b"droppedLinksCount" => self.uint32(span::DROPPED_LINKS_COUNT, &mut seen)?,
                b"status" => self.message(span::STATUS, UP_TO_127, Self::status)?,
                _ => self.ignore()?,
            }
        }
        Ok(())
    }

    fn event(&mut self) -> Result<(), WireError> {
        let mut seen = Seen::default();
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"timeUnixNano" => self.fixed64(event::TIME_UNIX_NANO, &mut seen)?,
                b"name" => self.string(event::NAME, &mut seen)?,
                b"attributes" => self.attributes(event::ATTRIBUTES)?,
                b"droppedAttributesCount" => {
                    self.uint32(event::DROPPED_ATTRIBUTES_COUNT, &mut seen)?;
                }
                _ => self.ignore()?,
            }
        }
        Ok(())
    }

    fn link(&mut self) -> Result<(), WireError> {
        let mut seen = Seen::default();
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"traceId" => self.id(link::TRACE_ID, &mut seen)?,
                b"spanId" => self.id(link::SPAN_ID, &mut seen)?,
                b"traceState" => self.string(link::TRACE_STATE, &mut seen)?,
                b"attributes" => self.attributes(link::ATTRIBUTES)?,
                b"droppedAttributesCount" => {
                    self.uint32(link::DROPPED_ATTRIBUTES_COUNT, &mut seen)?;
                }
                b"flags" => self.fixed32(link::FLAGS, &mut seen)?,
                _ => self.ignore()?,
            }
        }
        Ok(())
    }

    fn status(&mut self) -> Result<(), WireError> {
        let mut seen = Seen::default();
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"message" => self.string(status::MESSAGE, &mut seen)?,
                b"code" => self.enumeration(status::CODE, STATUS_CODES, &mut seen)?,
                _ => self.ignore()?,
            }
        }
        Ok(())
    }

    fn attributes(&mut self, field: u32) -> Result<(), WireError> {
        self.messages(field, UP_TO_127, Self::key_value)
    }

    fn key_value(&mut self) -> Result<(), WireError> {
        let mut seen = Seen::default();
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"key" => self.string(key_value::KEY, &mut seen)?,
                b"value" => self.message(key_value::VALUE, UP_TO_127, Self::any_value)?,
                _ => self.ignore()?,
            }
        }
        Ok(())
    }

    /// Reads a value. Of several members the last one wins, as in protobuf's oneof.
    fn any_value(&mut self) -> Result<(), WireError> {
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            if self.text.take_null()? {
                continue;
            }
            match &*key {
                b"stringValue" => {
                    let text = self.text.string()?;
                    self.push_string(any_value::STRING_VALUE, text);
                }
                b"boolValue" => {
                    let value = self.text.bool()?;
                    push_uint(self.out, any_value::BOOL_VALUE, u64::from(value));
                }
                b"intValue" => {
                    let value = self.text.integer()?;
                    push_int(self.out, any_value::INT_VALUE, value);
                }
                b"doubleValue" => {
                    let value = self.text.double()?;
                    push_double(self.out, any_value::DOUBLE_VALUE, value);
                }
                b"arrayValue" => {
                    self.message(any_value::ARRAY_VALUE, UP_TO_127, Self::array_value)?;
                }
                b"kvlistValue" => {
                    self.message(any_value::KVLIST_VALUE, UP_TO_127, Self::key_value_list)?;
                }
                b"bytesValue" => self.base64(any_value::BYTES_VALUE)?,
                _ => self.ignore()?,
            }
        }
        Ok(())
    }

    fn array_value(&mut self) -> Result<(), WireError> {
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"values" => {
                    let field = array_value::VALUES;
                    self.messages(field, UP_TO_127, Self::any_value_or_null)?;
                }
                _ => self.ignore()?,
            }
        }
        Ok(())
    }

    /// Reads an item of an array, where a null keeps its place.
    fn any_value_or_null(&mut self) -> Result<(), WireError> {
        if self.text.take_null()? {
            return Ok(());
        }
        self.any_value()
    }

    fn key_value_list(&mut self) -> Result<(), WireError> {
        self.text.begin_object()?;
        while let Some(key) = self.text.next_key()? {
            match &*key {
                b"values" => self.attributes(key_value_list::VALUES)?,
                _ => self.ignore()?,
            }
        }
        Ok(())
    }

    fn ignore(&mut self) -> Result<(), WireError> {
        self.summary.ignored_keys += 1;
        self.text.skip_value()
    }

    /// Reads an array of messages.
    fn messages(
        &mut self,
        field: u32,
        width: usize,
        read: fn(&mut Self) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        if self.text.take_null()? {
            return Ok(());
        }
        self.text.begin_array()?;
        while self.text.next_item()? {
            self.one_message(field, width, read)?;
        }
        Ok(())
    }

    fn message(
        &mut self,
        field: u32,
        width: usize,
        read: fn(&mut Self) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        if self.text.take_null()? {
            return Ok(());
        }
        self.one_message(field, width, read)
    }

    fn one_message(
        &mut self,
        field: u32,
        width: usize,
        read: fn(&mut Self) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        if self.nesting == NESTING_MAX {
            let start = self.text.value_start();
            return Err(self
                .text
                .fault(WireErrorKind::Nesting, start, String::new()));
        }
        self.nesting += 1;
        let message = open(self.out, field, width);
        read(self)?;
        close(self.out, message);
        self.nesting -= 1;
        Ok(())
    }

    fn strings(&mut self, field: u32) -> Result<(), WireError> {
        if self.text.take_null()? {
            return Ok(());
        }
        self.text.begin_array()?;
        while self.text.next_item()? {
            let text = self.text.string()?;
            self.push_string(field, text);
        }
        Ok(())
    }

    fn string(&mut self, field: u32, seen: &mut Seen) -> Result<(), WireError> {
        if self.text.take_null()? {
            return Ok(());
        }
        let text = self.text.string()?;
        if seen.again(field) || !text.is_empty() {
            self.push_string(field, text);
        }
        Ok(())
    }

    fn push_string(&mut self, field: u32, text: RawString<'_>) {
        if let Some(verbatim) = text.verbatim() {
            push_bytes(self.out, field, verbatim);
            return;
        }
        let message = open(self.out, field, varint_length(text.raw_len() as u64));
        text.decode_into(self.out);
        close(self.out, message);
    }

    /// Reads an id of any length.
    fn id(&mut self, field: u32, seen: &mut Seen) -> Result<(), WireError> {
        if self.text.take_null()? {
            return Ok(());
        }
        let start = self.text.value_start();
        let text = self.text.string()?;
        if !seen.again(field) && text.is_empty() {
            return Ok(());
        }
        let message = open(self.out, field, UP_TO_127);
        if !push_hex(self.out, &text.decoded()) {
            let detail = "expected an id in hexadecimal (base64 is not OTLP)".to_owned();
            return Err(self.text.fault(WireErrorKind::Encoding, start, detail));
        }
        close(self.out, message);
        Ok(())
    }

    fn base64(&mut self, field: u32) -> Result<(), WireError> {
        let start = self.text.value_start();
        let text = self.text.string()?.decoded();
        let is_url_safe = text.iter().any(|byte| b"-_".contains(byte));
        let engine = if is_url_safe { BASE64_URL } else { BASE64 };
        let message = open(self.out, field, UP_TO_127);
        if engine.decode_vec(&*text, self.out).is_err() {
            let detail = "expected bytes in base64".to_owned();
            return Err(self.text.fault(WireErrorKind::Encoding, start, detail));
        }
        close(self.out, message);
        Ok(())
    }

    fn uint32(&mut self, field: u32, seen: &mut Seen) -> Result<(), WireError> {
        if self.text.take_null()? {
            return Ok(());
        }
        let value: u32 = self.text.integer()?;
        if seen.again(field) || value != 0 {
            push_uint(self.out, field, u64::from(value));
        }
        Ok(())
    }

    fn fixed32(&mut self, field: u32, seen: &mut Seen) -> Result<(), WireError> {
        if self.text.take_null()? {
            return Ok(());
        }
        let value: u32 = self.text.integer()?;
        if seen.again(field) || value != 0 {
            push_fixed32(self.out, field, value);
        }
        Ok(())
    }

    fn fixed64(&mut self, field: u32, seen: &mut Seen) -> Result<(), WireError> {
        if self.text.take_null()? {
            return Ok(());
        }
        let value: u64 = self.text.integer()?;
        if seen.again(field) || value != 0 {
            push_fixed64(self.out, field, value);
        }
        Ok(())
    }

    fn enumeration(
        &mut self,
        field: u32,
        names: &[(&[u8], i32)],
        seen: &mut Seen,
    ) -> Result<(), WireError> {
        if self.text.take_null()? {
            return Ok(());
        }
        let value = match self.text.kind()? {
            Kind::String => self.named(names)?,
            _ => self.text.integer()?,
        };
        if seen.again(field) || value != 0 {
            push_int(self.out, field, i64::from(value));
        }
        Ok(())
    }

    fn named(&mut self, names: &[(&[u8], i32)]) -> Result<i32, WireError> {
        let start = self.text.value_start();
        let text = self.text.string()?.decoded();
        let known = names.iter().find(|(name, _)| *name == &*text);
        if let Some(&(_, number)) = known {
            return Ok(number);
        }
        self.text.fit(start, &text)
    }
}

/// Appends the bytes of hexadecimal text; `false` if it is something else.
fn push_hex(out: &mut Vec<u8>, text: &[u8]) -> bool {
    let (pairs, rest) = text.as_chunks::<2>();
    for &[high, low] in pairs {
        let high = char::from(high).to_digit(16);
        let low = char::from(low).to_digit(16);
        let (Some(high), Some(low)) = (high, low) else {
            return false;
        };
        out.push((high << 4 | low) as u8);
    }
    rest.is_empty()
}
