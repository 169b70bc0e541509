//! Spans as writers usually write them, read in one pass.
//!
//! In most spans each tag is an attribute, or one of a few with a meaning that stand there once. Of such a span attributes and
//! events become OTLP while they are read. As soon as something else turns up, such as marks, links or a field out of order,
//! reading gives up, and the span is read again as structs, which may hold anything.

use super::input::Field;
use super::input::Input;
use super::input::Kind;
use super::input::TakeTag;
use super::meaning::code_of;
use super::meaning::kind_of;
use super::meaning::nanos;
use crate::jaeger::names;
use crate::jaeger::names::Reserved;
use crate::jaeger::names::ref_type;
use crate::otlp::EncodeSpan;
use crate::otlp::ScopeWriter;
use crate::otlp::SpanKind;
use crate::otlp::SpanWriter;
use crate::otlp::StatusCode;
use crate::otlp::fields::any_value;
use crate::otlp::fields::event;
use crate::otlp::fields::key_value;
use crate::otlp::fields::span;
use crate::otlp::reader::WireType;
use crate::otlp::reader::varint_length;
use crate::otlp::writer::close;
use crate::otlp::writer::delimited_len;
use crate::otlp::writer::open;
use crate::otlp::writer::push_bytes;
use crate::otlp::writer::push_fixed64;
use crate::otlp::writer::push_varint;
use crate::otlp::writer::short_tag;

const OF_SPAN: u8 = short_tag(span::ATTRIBUTES, WireType::Bytes);
const OF_EVENT: u8 = short_tag(event::ATTRIBUTES, WireType::Bytes);
const KEY: u8 = short_tag(key_value::KEY, WireType::Bytes);
const VALUE: u8 = short_tag(key_value::VALUE, WireType::Bytes);
const STRING: u8 = short_tag(any_value::STRING_VALUE, WireType::Bytes);
const BOOL: u8 = short_tag(any_value::BOOL_VALUE, WireType::Varint);
const INT: u8 = short_tag(any_value::INT_VALUE, WireType::Varint);
const DOUBLE: u8 = short_tag(any_value::DOUBLE_VALUE, WireType::Fixed64);
const BYTES: u8 = short_tag(any_value::BYTES_VALUE, WireType::Bytes);

/// The required fields of a span, 1 to 5 and 7 to 9, as bits.
const REQUIRED: u32 = 0b11_1011_1110;

/// The bit of Jaeger's flags that OTLP has too.
const SAMPLED: i32 = 1;

/// A span, of which attributes and events are OTLP already.
#[derive(Debug, Default)]
pub(in crate::jaeger) struct UsualSpan<'a> {
    head: Head<'a>,
    known: Known<'a>,
    /// Attributes and events, as fields of a span.
    fields: Vec<u8>,
}

#[derive(Debug, Default)]
struct Head<'a> {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    parent_id: [u8; 8],
    name: &'a str,
    flags: i32,
    start: i64,
    duration: i64,
}

/// What tags that are no attributes say.
#[derive(Debug, Default)]
struct Known<'a> {
    kind: Option<SpanKind>,
    code: Option<StatusCode>,
    error: Option<()>,
    description: Option<&'a str>,
    trace_state: Option<&'a str>,
    scope_name: Option<&'a str>,
    scope_version: Option<&'a str>,
    library_name: Option<&'a str>,
    library_version: Option<&'a str>,
}

impl<'a> UsualSpan<'a> {
    /// Reads a span with at most so many tags and logs, into the same room; gives up somewhere in it if it is not a usual one.
    pub(super) fn read<I: Input<'a>>(&mut self, input: &mut I, items_max: usize) -> Option<()> {
        self.fields.clear();
        self.known = Known::default();
        let mut head = Head::default();
        let (mut low, mut high) = (0, 0);
        let mut items_left = items_max;
        let mut before = 0;
        let mut last = 0;
        let mut seen = 0;
        while let Some(Field { id, kind, .. }) = input.field(&mut before).ok()? {
            if id <= last {
                return None;
            }
            last = id;
            match (id, kind) {
                (1, Kind::I64) => low = input.i64().ok()?,
                (2, Kind::I64) => high = input.i64().ok()?,
                (3, Kind::I64) => head.span_id = input.i64().ok()?.to_be_bytes(),
                (4, Kind::I64) => head.parent_id = input.i64().ok()?.to_be_bytes(),
                (5, Kind::Text) => head.name = text_of(input.text().ok()?)?,
                (6, Kind::List) => {
                    for _ in 0..items(input, &mut items_left)? {
                        reference_to(input, (low, high), head.parent_id)?;
                    }
                }
                (7, Kind::I32) => head.flags = input.i32().ok()?,
                (8, Kind::I64) => head.start = input.i64().ok()?,
                (9, Kind::I64) => head.duration = input.i64().ok()?,
                (10, Kind::List) => {
                    for _ in 0..items(input, &mut items_left)? {
                        input.usual_tag(self)?;
                    }
                }
                (11, Kind::List) => {
                    for _ in 0..items(input, &mut items_left)? {
                        self.log(input, &mut items_left)?;
                    }
                }
                _ => return None,
            }
            seen |= 1 << id;
        }
        head.trace_id = super::thrift::trace_id(high, low);
        self.head = head;
        (seen & REQUIRED == REQUIRED && self.is_usual()).then_some(())
    }

    /// Tells whether everything means what it seems to mean.
    fn is_usual(&self) -> bool {
        let (head, known) = (&self.head, &self.known);
        let has_ids = head.trace_id != [0; 16] && head.span_id != [0; 8];
        let is_scope_clear = is_same(known.scope_name, known.library_name)
            && is_same(known.scope_version, known.library_version);
        let is_description_clear =
            known.description.is_none() || self.status() != StatusCode::Unset;
        has_ids && head.flags & !SAMPLED == 0 && is_scope_clear && is_description_clear
    }

    fn log<I: Input<'a>>(&mut self, input: &mut I, items_left: &mut usize) -> Option<()> {
        let mut before = 0;
        let message = open(&mut self.fields, span::EVENTS, 1);
        expect_field(input, &mut before, (1, Kind::I64))?;
        let time = nanos(input.i64().ok()?);
        if time != 0 {
            push_fixed64(&mut self.fields, event::TIME_UNIX_NANO, time);
        }
        expect_field(input, &mut before, (2, Kind::List))?;
        let mut fields = LogFields {
            out: &mut self.fields,
            has_name: false,
            has_attribute: false,
        };
        for _ in 0..items(input, items_left)? {
            input.usual_tag(&mut fields)?;
        }
        close(&mut self.fields, message);
        input.field(&mut before).ok()?.is_none().then_some(())
    }

    fn status(&self) -> StatusCode {
        match self.known.error {
            Some(()) => StatusCode::Error,
            None => self.known.code.unwrap_or_default(),
        }
    }

    fn kind(&self) -> SpanKind {
        // OpenTelemetry's exporters leave out the tag for internal spans, and only for those.
        let without_tag = match self.known.library_name {
            Some(_) => SpanKind::Internal,
            None => SpanKind::Unspecified,
        };
        self.known.kind.unwrap_or(without_tag)
    }
}

impl EncodeSpan for UsualSpan<'_> {
    fn encode_scope(&self, scope: &mut ScopeWriter<'_>) {
        let known = &self.known;
        scope.name(known.scope_name.or(known.library_name).unwrap_or_default());
        let version = known.scope_version.or(known.library_version);
        scope.version(version.unwrap_or_default());
    }

    fn encode(&self, span: &mut SpanWriter<'_>) {
        let (head, known) = (&self.head, &self.known);
        span.trace_id(head.trace_id);
        span.span_id(head.span_id);
        span.trace_state(known.trace_state.unwrap_or_default());
        span.parent_span_id(head.parent_id);
        span.flags(head.flags as u32);
        span.name(head.name);
        span.kind(self.kind());
        span.start_time_unix_nano(nanos(head.start));
        span.end_time_unix_nano(nanos(head.start.saturating_add(head.duration)));
        span.encoded_fields(&self.fields);
        span.status(self.status(), known.description.unwrap_or_default());
    }
}

impl<'a> TakeTag<'a> for UsualSpan<'a> {
    #[inline]
    fn text(&mut self, key: &'a [u8], value: &'a [u8]) -> Option<()> {
        let known = &mut self.known;
        match Reserved::of(key) {
            None => push_text(&mut self.fields, OF_SPAN, key, value),
            Some(Reserved::SpanKind) => once(&mut known.kind, kind_of(value)?),
            Some(Reserved::StatusCode) => once(&mut known.code, code_of(value)?),
            Some(Reserved::StatusDescription) => once(&mut known.description, text_of(value)?),
            Some(Reserved::TraceState) => once(&mut known.trace_state, text_of(value)?),
            Some(Reserved::ScopeName) => once(&mut known.scope_name, text_of(value)?),
            Some(Reserved::ScopeVersion) => once(&mut known.scope_version, text_of(value)?),
            Some(Reserved::LibraryName) => once(&mut known.library_name, text_of(value)?),
            Some(Reserved::LibraryVersion) => once(&mut known.library_version, text_of(value)?),
            Some(_) => None,
        }
    }

    #[inline]
    fn long(&mut self, key: &'a [u8], value: i64) -> Option<()> {
        match Reserved::of(key) {
            None => push_long(&mut self.fields, OF_SPAN, key, value),
            Some(_) => None,
        }
    }

    fn double(&mut self, key: &'a [u8], value: f64) -> Option<()> {
        match Reserved::of(key) {
            None => push_double(&mut self.fields, OF_SPAN, key, value),
            Some(_) => None,
        }
    }

    #[inline]
    fn bool(&mut self, key: &'a [u8], value: bool) -> Option<()> {
        match Reserved::of(key) {
            None => push_bool(&mut self.fields, OF_SPAN, key, value),
            Some(Reserved::Error) if value => once(&mut self.known.error, ()),
            Some(_) => None,
        }
    }

    fn bytes(&mut self, key: &'a [u8], value: &'a [u8]) -> Option<()> {
        match Reserved::of(key) {
            None => push_byte_array(&mut self.fields, OF_SPAN, key, value),
            Some(_) => None,
        }
    }
}

/// Writes the fields of a log into an event.
struct LogFields<'o> {
    out: &'o mut Vec<u8>,
    has_name: bool,
    has_attribute: bool,
}

impl LogFields<'_> {
    /// Returns where to write the attribute with this key, if it is one.
    fn attributes(&mut self, key: &[u8]) -> Option<&mut Vec<u8>> {
        if names::is_reserved_in_log(key) {
            return None;
        }
        self.has_attribute = true;
        Some(self.out)
    }
}

impl<'a> TakeTag<'a> for LogFields<'_> {
    fn text(&mut self, key: &'a [u8], value: &'a [u8]) -> Option<()> {
        if key == names::MESSAGE.as_bytes() && !self.has_name {
            // It may be the name.
            return None;
        }
        if key != names::EVENT.as_bytes() || self.has_name {
            return push_text(self.attributes(key)?, OF_EVENT, key, value);
        }
        // The name stands before the attributes.
        if self.has_attribute || !is_text(value) {
            return None;
        }
        self.has_name = true;
        if !value.is_empty() {
            push_bytes(self.out, event::NAME, value);
        }
        Some(())
    }

    fn long(&mut self, key: &'a [u8], value: i64) -> Option<()> {
        push_long(self.attributes(key)?, OF_EVENT, key, value)
    }

    fn double(&mut self, key: &'a [u8], value: f64) -> Option<()> {
        push_double(self.attributes(key)?, OF_EVENT, key, value)
    }

    fn bool(&mut self, key: &'a [u8], value: bool) -> Option<()> {
        push_bool(self.attributes(key)?, OF_EVENT, key, value)
    }

    fn bytes(&mut self, key: &'a [u8], value: &'a [u8]) -> Option<()> {
        push_byte_array(self.attributes(key)?, OF_EVENT, key, value)
    }
}

/// Reads the count of a list of structs, if as many are allowed.
fn items<'a>(input: &mut impl Input<'a>, left: &mut usize) -> Option<usize> {
    let (kind, count) = input.list().ok()?;
    *left = left.checked_sub(count)?;
    (kind == Kind::Struct || count == 0).then_some(count)
}

/// Reads a reference if it says again who the parent is.
fn reference_to<'a>(
    input: &mut impl Input<'a>,
    (low, high): (i64, i64),
    parent_id: [u8; 8],
) -> Option<()> {
    let mut before = 0;
    expect_field(input, &mut before, (1, Kind::I32))?;
    let is_child_of = input.i32().ok()? == ref_type::CHILD_OF;
    let ids = [low, high, i64::from_be_bytes(parent_id)];
    let mut is_parent = is_child_of && parent_id != [0; 8];
    for (number, id) in (2..).zip(ids) {
        expect_field(input, &mut before, (number, Kind::I64))?;
        is_parent &= input.i64().ok()? == id;
    }
    let is_end = input.field(&mut before).ok()?.is_none();
    (is_parent && is_end).then_some(())
}

/// Reads the head of a field, which must be this one.
#[inline]
fn expect_field<'a>(
    input: &mut impl Input<'a>,
    before: &mut i16,
    expected: (i16, Kind),
) -> Option<()> {
    let field = input.field(before).ok()??;
    ((field.id, field.kind) == expected).then_some(())
}

/// Keeps a value if it is the first.
#[inline]
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// Tells whether the tag of today and the one of old do not differ.
fn is_same(today: Option<&str>, old: Option<&str>) -> bool {
    today.is_none() || old.is_none() || today == old
}

#[inline]
fn text_of(bytes: &[u8]) -> Option<&str> {
    simdutf8::basic::from_utf8(bytes).ok()
}

/// Tells whether bytes are text. Most are ASCII, which is the quicker question.
#[inline]
fn is_text(bytes: &[u8]) -> bool {
    bytes.is_ascii() || text_of(bytes).is_some()
}

fn push_text(out: &mut Vec<u8>, tag: u8, key: &[u8], value: &[u8]) -> Option<()> {
    if !is_text(value) {
        return None;
    }
    push_delimited(out, tag, key, (STRING, value))
}

fn push_byte_array(out: &mut Vec<u8>, tag: u8, key: &[u8], value: &[u8]) -> Option<()> {
    push_delimited(out, tag, key, (BYTES, value))
}

fn push_delimited(
    out: &mut Vec<u8>,
    tag: u8,
    key: &[u8],
    (value_tag, value): (u8, &[u8]),
) -> Option<()> {
    begin_attribute(out, tag, key, 1 + delimited_len(value.len()))?;
    out.push(value_tag);
    push_varint(out, value.len() as u64);
    out.extend_from_slice(value);
    Some(())
}

fn push_long(out: &mut Vec<u8>, tag: u8, key: &[u8], value: i64) -> Option<()> {
    let value = value as u64;
    begin_attribute(out, tag, key, 1 + varint_length(value))?;
    out.push(INT);
    push_varint(out, value);
    Some(())
}

fn push_double(out: &mut Vec<u8>, tag: u8, key: &[u8], value: f64) -> Option<()> {
    begin_attribute(out, tag, key, 9)?;
    out.push(DOUBLE);
    out.extend_from_slice(&value.to_le_bytes());
    Some(())
}

fn push_bool(out: &mut Vec<u8>, tag: u8, key: &[u8], value: bool) -> Option<()> {
    begin_attribute(out, tag, key, 2)?;
    out.extend_from_slice(&[BOOL, u8::from(value)]);
    Some(())
}

/// Writes what stands before the fields of an `AnyValue` of so many bytes, if the key is text.
#[inline]
fn begin_attribute(out: &mut Vec<u8>, tag: u8, key: &[u8], any_len: usize) -> Option<()> {
    if !is_text(key) {
        return None;
    }
    let pair_len = 2 + delimited_len(key.len()) + delimited_len(any_len);
    if pair_len < 0x80 {
        // All lengths take one byte.
        out.extend_from_slice(&[tag, pair_len as u8, KEY, key.len() as u8]);
        out.extend_from_slice(key);
        out.extend_from_slice(&[VALUE, any_len as u8]);
        return Some(());
    }
    out.push(tag);
    push_varint(out, pair_len as u64);
    out.push(KEY);
    push_varint(out, key.len() as u64);
    out.extend_from_slice(key);
    out.push(VALUE);
    push_varint(out, any_len as u64);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::assemble::Assembler;
    use super::super::batch;
    use super::super::input::Binary;
    use super::super::input::Compact;
    use super::super::limits::ReadLimits;
    use super::super::parts::Process;
    use super::super::parts::Span;
    use super::super::parts::Take;
    use super::super::thrift::Structs;
    use super::*;
    use crate::PieceContent;
    use crate::ReadRequest;
    use crate::jaeger::Dialect;
    use crate::jaeger::Protocol;
    use crate::jaeger::WriteOptions;
    use crate::jaeger::Writer;
    use crate::otlp::EncodedResource;
    use crate::otlp::Encoder;
    use crate::otlp::ValueWriter;
    use crate::otlp::WireError;
    use crate::otlp::Written;

    const LONG: &str = "a text that takes a length of two bytes with what stands around it, as messages of exceptions and queries of databases do";

    const TEXTS: &[&str] = &["", "v", "ключ", LONG, "server", "OK", "ERROR", "UNSET"];

    const KEYS: &[&str] = &[
        "",
        "http.route",
        "ключ",
        LONG,
        names::EVENT,
        names::SPAN_KIND,
        names::ERROR,
        names::STATUS_CODE,
        names::STATUS_DESCRIPTION,
        names::TRACE_STATE,
        names::SCOPE_NAME,
        names::LIBRARY_NAME,
        names::DROPPED_EVENTS,
        names::EVENT_DROPPED_ATTRIBUTES,
        names::MARKS,
    ];

    #[derive(Clone, Debug)]
    enum Any {
        Text(&'static str),
        Long(i64),
        Double(f64),
        Bool(bool),
        Bytes(Vec<u8>),
        Empty,
    }

    impl Any {
        fn write(&self, writer: ValueWriter<'_>) -> Written {
            match self {
                Self::Text(text) => writer.string(text),
                Self::Long(number) => writer.int(*number),
                Self::Double(number) => writer.double(*number),
                Self::Bool(value) => writer.bool(*value),
                Self::Bytes(bytes) => writer.bytes(bytes),
                Self::Empty => writer.empty(),
            }
        }
    }

    #[derive(Clone, Debug)]
    struct Made {
        ids: (u8, u8, u8),
        flags: u32,
        times: (u64, u64),
        kind: i32,
        status: (i32, &'static str),
        scope: (&'static str, &'static str),
        attributes: Vec<(&'static str, Any)>,
        events: Vec<(&'static str, Vec<(&'static str, Any)>)>,
        links: Vec<u8>,
    }

    impl EncodeSpan for Made {
        fn encode_scope(&self, scope: &mut ScopeWriter<'_>) {
            scope.name(self.scope.0);
            scope.version(self.scope.1);
        }

        fn encode(&self, span: &mut SpanWriter<'_>) {
            span.trace_id([self.ids.0; 16]);
            span.span_id([self.ids.1; 8]);
            span.parent_span_id([self.ids.2; 8]);
            span.flags(self.flags);
            span.name(self.scope.1);
            span.kind(SpanKind::from_number(self.kind));
            span.start_time_unix_nano(self.times.0);
            span.end_time_unix_nano(self.times.1);
            for (key, value) in &self.attributes {
                span.attribute_with(key, |writer| value.write(writer));
            }
            for (name, attributes) in &self.events {
                span.event(self.times.0, name, |event| {
                    for (key, value) in attributes {
                        event.attribute_with(key, |writer| value.write(writer));
                    }
                });
            }
            for id in &self.links {
                span.link([self.ids.0; 16], [*id; 8], |_| {});
            }
            span.status(StatusCode::from_number(self.status.0), self.status.1);
        }
    }

    fn text() -> impl Strategy<Value = &'static str> {
        prop::sample::select(TEXTS)
    }

    fn attributes() -> impl Strategy<Value = Vec<(&'static str, Any)>> {
        let value = prop_oneof![
            text().prop_map(Any::Text),
            any::<i64>().prop_map(Any::Long),
            (0_i64..300).prop_map(Any::Long),
            any::<f64>().prop_map(Any::Double),
            any::<bool>().prop_map(Any::Bool),
            vec(any::<u8>(), 0..4).prop_map(Any::Bytes),
            Just(Any::Empty),
        ];
        // Most keys mean nothing, so that many spans are usual ones.
        let key =
            prop_oneof![5 => prop::sample::select(&KEYS[..4]), 1 => prop::sample::select(KEYS)];
        vec((key, value), 0..6)
    }

    fn spans() -> impl Strategy<Value = Vec<Made>> {
        let head = (
            (1_u8..3, 1_u8..3, 0_u8..3),
            0_u32..4,
            any::<(u64, u64)>(),
            0..7_i32,
        );
        let links = prop_oneof![5 => Just(Vec::new()), 1 => vec(0_u8..3, 1..3)];
        let rest = (attributes(), vec((text(), attributes()), 0..3), links);
        let span = (head, (0..3_i32, text()), (text(), text()), rest);
        let span = span.prop_map(|((ids, flags, times, kind), status, scope, rest)| Made {
            ids,
            flags,
            times,
            kind,
            status,
            scope,
            attributes: rest.0,
            events: rest.1,
            links: rest.2,
        });
        vec(span, 1..5)
    }

    fn written(spans: &[Made], options: &WriteOptions) -> Vec<u8> {
        let mut encoder = Encoder::default();
        let resource = EncodedResource::new(|resource| resource.attribute("service.name", "shop"));
        for span in spans {
            encoder.push(&resource, span);
        }
        let request = encoder.finish().expect("spans were pushed");
        let mut writer = Writer::new(options.clone());
        let piece = writer.pieces(&request.bytes).next();
        match piece
            .expect("there are spans")
            .expect("they have ids")
            .content
        {
            PieceContent::Bytes(bytes) => bytes.to_vec(),
            PieceContent::TooLarge { .. } => Vec::new(),
        }
    }

    /// Has every span read as a struct.
    struct AsStructs(Assembler);

    impl Take for AsStructs {
        fn assembler(&mut self) -> Option<&mut Assembler> {
            None
        }

        fn process(&mut self, process: &Process<'_>) {
            self.0.process(process);
        }

        fn span(&mut self, span: &Span<'_>) {
            self.0.span(span);
        }
    }

    fn as_structs<'a, I: Input<'a>>(bytes: &'a [u8]) -> Result<ReadRequest, WireError> {
        let mut structs = Structs::new(I::new(bytes), &ReadLimits::default());
        let mut taker = AsStructs(Assembler::new(usize::MAX));
        structs.batch(&mut taker)?;
        match structs.input().cursor().is_at_end() {
            true => taker.0.finish(),
            false => batch::<I>(bytes, &ReadLimits::default()),
        }
    }

    fn check<'a, I: Input<'a>>(bytes: &'a [u8]) {
        let usual = batch::<I>(bytes, &ReadLimits::default());
        assert_eq!(usual, as_structs::<I>(bytes));
    }

    proptest! {
        #[test]
        fn usual_spans_become_what_structs_become(
            spans in spans(),
            is_collectors in any::<bool>(),
            marks in any::<bool>(),
            change in any::<(prop::sample::Index, u8, bool)>(),
        ) {
            let dialect = match is_collectors {
                true => Dialect::Collector,
                false => Dialect::OpenTelemetry,
            };
            let options = WriteOptions::default().dialect(dialect).marks(marks);
            let mut binary = written(&spans, &options);
            let mut compact = written(&spans, &options.protocol(Protocol::Compact));
            check::<Binary<'_>>(&binary);
            check::<Compact<'_>>(&compact);

            let (place, byte, is_cut) = change;
            for bytes in [&mut binary, &mut compact] {
                let place = place.index(bytes.len());
                bytes[place] = byte;
                bytes.truncate(if is_cut { place + 1 } else { bytes.len() });
            }
            check::<Binary<'_>>(&binary);
            check::<Compact<'_>>(&compact);
        }
    }

    fn plain() -> Made {
        Made {
            ids: (1, 2, 3),
            flags: 1,
            times: (1_000, 3_000),
            kind: 2,
            status: (2, "v"),
            scope: ("shop.http", "1.2"),
            attributes: vec![("http.route", Any::Text("/cart"))],
            events: vec![("put", vec![("items", Any::Long(3))])],
            links: Vec::new(),
        }
    }

    fn is_usual(span: Made, dialect: Dialect) -> bool {
        let bytes = written(&[span], &WriteOptions::default().dialect(dialect));
        let mut input = Binary::new(&bytes);
        let mut before = 0;
        let process = input
            .field(&mut before)
            .expect("a batch")
            .expect("a process");
        input.skip_field(process, 9).expect("a process");
        input.field(&mut before).expect("a batch").expect("spans");
        input.list().expect("spans");
        UsualSpan::default().read(&mut input, 12).is_some()
    }

    #[test]
    fn spans_as_both_dialects_write_them_are_usual() {
        assert!(is_usual(plain(), Dialect::OpenTelemetry));
        assert!(is_usual(plain(), Dialect::Collector));
    }

    #[test]
    fn links_marks_and_too_many_items_are_not_usual() {
        let mut linked = plain();
        linked.links.push(7);
        assert!(!is_usual(linked, Dialect::OpenTelemetry));
        let mut marked = plain();
        marked.attributes.push(("empty", Any::Empty));
        assert!(!is_usual(marked, Dialect::OpenTelemetry));
        let mut large = plain();
        large.attributes.push(("cache.hit", Any::Bool(true)));
        assert!(!is_usual(large, Dialect::OpenTelemetry));
    }
}
