//! What OTLP says, in Jaeger's words.

use super::output::Kind;
use super::output::Output;
use super::output::STOP;
use crate::jaeger::Dialect;
use crate::jaeger::WriteOptions;
use crate::jaeger::marks;
use crate::jaeger::marks::MarkWriter;
use crate::jaeger::names;
use crate::otlp::AttributeView;
use crate::otlp::EventView;
use crate::otlp::LinkView;
use crate::otlp::ResourceSpansView;
use crate::otlp::ScopeSpansView;
use crate::otlp::SpanKind;
use crate::otlp::SpanView;
use crate::otlp::StatusCode;
use crate::otlp::ValueView;

const NANOS_PER_MICRO: u64 = 1_000;

/// The bit of OTLP's flags that Jaeger has too.
const SAMPLED: u32 = 1;

/// The bits of OTLP's flags that are worth a mark: W3C's trace flags. The two above them, whether the parent is remote, are
/// set in every span of recent SDKs, and no reader of Jaeger asks for them.
const MARKED_FLAGS: u32 = 0xFE;

/// Writes processes and spans, with buffers that are used again.
#[derive(Debug)]
pub(super) struct Mapper {
    dialect: Dialect,
    has_marks: bool,
    marks: MarkWriter,
    log_marks: MarkWriter,
    /// A value as text.
    text: String,
    scope: Scope,
}

/// What every span of a scope gets.
#[derive(Debug, Default)]
struct Scope {
    attributes: Tags,
    names: Tags,
    marks: MarkWriter,
    has_name: bool,
}

/// Tags that stand ready.
#[derive(Debug, Default)]
struct Tags {
    bytes: Vec<u8>,
    count: usize,
}

impl Tags {
    fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    fn text<O: Output>(&mut self, key: &str, value: &str) {
        O::text_tag(&mut self.bytes, key, value.as_bytes());
        self.count += 1;
    }

    fn copy_to(&self, out: &mut Vec<u8>) -> usize {
        out.extend_from_slice(&self.bytes);
        self.count
    }
}

impl Mapper {
    pub(super) fn new(options: &WriteOptions) -> Self {
        Self {
            dialect: options.dialect,
            has_marks: options.marks && options.dialect != Dialect::Collector,
            marks: MarkWriter::default(),
            log_marks: MarkWriter::default(),
            text: String::new(),
            scope: Scope::default(),
        }
    }

    fn is_collector(&self) -> bool {
        self.dialect == Dialect::Collector
    }

    /// Writes the struct `Process`.
    pub(super) fn process<O: Output>(
        &mut self,
        out: &mut Vec<u8>,
        envelope: ResourceSpansView<'_>,
    ) {
        let resource = envelope.resource();
        let value = resource.attribute(names::SERVICE_NAME);
        let service_name = value.and_then(ValueView::as_str);
        O::field(out, Kind::Text, 1, 0);
        let written_name = match service_name {
            Some(name) if !name.is_empty() || self.is_collector() => name,
            _ => self.name_of_unnamed(resource.attributes().is_empty()),
        };
        O::text(out, written_name.as_bytes());

        O::field(out, Kind::List, 2, 1);
        let list = O::open_list(out);
        self.marks.clear();
        let mut count = 0;
        let mut is_name_told = service_name.is_none();
        for attribute in resource.attributes() {
            let key = attribute.key();
            // The first one, of which the value is known as the process's name.
            if !is_name_told && key == names::SERVICE_NAME {
                is_name_told = true;
                continue;
            }
            attribute_tag::<O>(out, attribute, &mut self.text);
            mark_attribute(&mut self.marks, attribute, key == names::MARKS);
            count += 1;
        }
        match service_name {
            // A name that is there but no text is a tag.
            None if value.is_none() => self.marks.text(marks::SERVICE, marks::SERVICE_ABSENT),
            Some("") => self.marks.text(marks::SERVICE, marks::SERVICE_EMPTY),
            _ => {}
        }
        mark_origin(
            &mut self.marks,
            resource.dropped_attributes_count(),
            envelope.schema_url(),
        );
        count += self.marks_tag::<O>(out);
        O::close_list(out, list, count);
        out.push(STOP);
    }

    fn name_of_unnamed(&self, is_resource_empty: bool) -> &'static str {
        match self.dialect {
            Dialect::OpenTelemetry => names::UNKNOWN_SERVICE,
            Dialect::Collector if is_resource_empty => names::COLLECTOR_NO_SERVICE,
            Dialect::Collector => "",
        }
    }

    /// Prepares what every span of this scope gets.
    pub(super) fn begin_scope<O: Output>(&mut self, envelope: ScopeSpansView<'_>) {
        let view = envelope.scope();
        let is_collector = self.is_collector();
        let scope = &mut self.scope;
        scope.attributes.clear();
        scope.names.clear();
        scope.marks.clear();
        let (name, version) = (view.name(), view.version());
        scope.has_name = !name.is_empty();
        let tags = [
            (names::SCOPE_NAME, name, true),
            (names::SCOPE_VERSION, version, true),
            (names::LIBRARY_NAME, name, !is_collector),
            (names::LIBRARY_VERSION, version, !is_collector),
        ];
        for (key, value, is_wanted) in tags {
            if is_wanted && !value.is_empty() {
                scope.names.text::<O>(key, value);
            }
        }
        if is_collector {
            return;
        }
        for attribute in view.attributes() {
            attribute_tag::<O>(&mut scope.attributes.bytes, attribute, &mut self.text);
            scope.attributes.count += 1;
            if scope.marks.is_empty() {
                scope.marks.word(marks::SCOPE);
            }
            let mark = claim_of(attribute.value()).unwrap_or(marks::KEY);
            scope.marks.text(mark, attribute.key());
        }
        let (dropped, schema_url) = (view.dropped_attributes_count(), envelope.schema_url());
        if scope.marks.is_empty() && (dropped > 0 || !schema_url.is_empty()) {
            scope.marks.word(marks::SCOPE);
        }
        mark_origin(&mut scope.marks, dropped, schema_url);
        if !scope.marks.is_empty() {
            scope.marks.word(marks::SPAN);
        }
    }

    /// Writes a span of the scope at hand.
    pub(super) fn span<O: Output>(&mut self, out: &mut Vec<u8>, span: &SpanView<'_>) {
        self.marks.clear();
        self.marks.push_all(self.scope.marks.bytes());
        head::<O>(out, span);
        let (has_references, has_link_logs) = self.references::<O>(out, span);
        let (start, end) = (span.start_time_unix_nano(), span.end_time_unix_nano());
        if end < start {
            self.marks.number(marks::END, i128::from(end));
        }
        let own_flags = self.flags(span);
        O::field(out, Kind::I32, 7, if has_references { 6 } else { 5 });
        O::i32(out, own_flags.unwrap_or((span.flags() & SAMPLED) as i32));
        O::field(out, Kind::I64, 8, 7);
        O::i64(out, (start / NANOS_PER_MICRO) as i64);
        O::field(out, Kind::I64, 9, 8);
        O::i64(out, (end.saturating_sub(start) / NANOS_PER_MICRO) as i64);
        self.tags::<O>(out, span, own_flags.is_some());
        self.logs::<O>(out, span, has_link_logs);
        out.push(STOP);
    }

    /// Returns the flags that came from Jaeger, if an attribute keeps them, and marks what has no place otherwise.
    fn flags(&mut self, span: &SpanView<'_>) -> Option<i32> {
        if span.flags() & MARKED_FLAGS != 0 {
            self.marks.number(marks::FLAGS, i128::from(span.flags()));
        }
        let kept = span.attribute(names::JAEGER_FLAGS)?.as_int()?;
        let kept = i32::try_from(kept).ok()?;
        let is_from_jaeger =
            kept as u32 & !SAMPLED != 0 && (kept as u32 ^ span.flags()) & SAMPLED == 0;
        is_from_jaeger.then_some(kept)
    }

    /// Writes the references, and tells whether there are any and whether a link has more to say.
    fn references<O: Output>(&mut self, out: &mut Vec<u8>, span: &SpanView<'_>) -> (bool, bool) {
        let parent = span.parent_span_id();
        let written_parent = parent.filter(|_| self.is_collector());
        let mut links = span.links().peekable();
        if links.peek().is_none() && written_parent.is_none() {
            return (false, false);
        }
        O::field(out, Kind::List, 6, 5);
        let list = O::open_list(out);
        let mut count = 0;
        if let Some(parent) = written_parent {
            let kind = collector_parent_type(span, parent);
            reference::<O>(out, kind, span.trace_id(), parent);
            count += 1;
        }
        let mut has_more = false;
        let mut has_own_trace = false;
        for link in links {
            if written_parent.is_some() && is_link_to_parent(span, &link) {
                continue;
            }
            let is_child = is_child_of(span, &link);
            let kind = if is_child {
                names::ref_type::CHILD_OF
            } else {
                names::ref_type::FOLLOWS_FROM
            };
            reference::<O>(out, kind, link.trace_id(), link.span_id());
            count += 1;
            has_more |= !self.is_collector() && has_more_than_ids(&link, is_child);
            has_own_trace |= link.trace_id() == span.trace_id();
        }
        if parent.is_none() && has_own_trace {
            self.marks.word(marks::ROOT);
        }
        O::close_list(out, list, count);
        (true, has_more)
    }

    fn tags<O: Output>(&mut self, out: &mut Vec<u8>, span: &SpanView<'_>, has_own_flags: bool) {
        O::field(out, Kind::List, 10, 9);
        let list = O::open_list(out);
        let mut count = if self.is_collector() {
            self.scope.names.copy_to(out)
        } else {
            self.scope.attributes.copy_to(out)
        };
        for attribute in span.attributes() {
            let key = attribute.key();
            if has_own_flags && key == names::JAEGER_FLAGS {
                continue;
            }
            attribute_tag::<O>(out, attribute, &mut self.text);
            mark_attribute(&mut self.marks, attribute, names::is_reserved_in_span(key));
            count += 1;
        }
        count += self.kind_tag::<O>(out, span.kind());
        count += self.status_tags::<O>(out, span);
        if !span.trace_state().is_empty() {
            O::text_tag(out, names::TRACE_STATE, span.trace_state().as_bytes());
            count += 1;
        }
        if !self.is_collector() {
            count += dropped_tags::<O>(out, span);
            count += self.scope.names.copy_to(out);
        }
        count += self.marks_tag::<O>(out);
        O::close_list(out, list, count);
    }

    fn kind_tag<O: Output>(&mut self, out: &mut Vec<u8>, kind: SpanKind) -> usize {
        let name = match kind {
            SpanKind::Server => "server",
            SpanKind::Client => "client",
            SpanKind::Producer => "producer",
            SpanKind::Consumer => "consumer",
            SpanKind::Internal if self.is_collector() => "internal",
            // Without a tag it is internal if the tags show that OpenTelemetry wrote them.
            SpanKind::Internal if self.scope.has_name => return 0,
            SpanKind::Unspecified if !self.scope.has_name => return 0,
            SpanKind::Internal | SpanKind::Unspecified | SpanKind::Other(_) => {
                self.marks.number(marks::KIND, i128::from(kind.number()));
                return 0;
            }
        };
        O::text_tag(out, names::SPAN_KIND, name.as_bytes());
        1
    }

    fn status_tags<O: Output>(&mut self, out: &mut Vec<u8>, span: &SpanView<'_>) -> usize {
        let status = span.status();
        let message = status.message();
        let mut count = 0;
        match status.code() {
            StatusCode::Ok => {
                O::text_tag(out, names::STATUS_CODE, b"OK");
                count += 1;
            }
            StatusCode::Error => {
                O::text_tag(out, names::STATUS_CODE, b"ERROR");
                O::bool_tag(out, names::ERROR, true);
                count += 2;
            }
            StatusCode::Unset if message.is_empty() => {}
            code => self.marks.number(marks::STATUS, i128::from(code.number())),
        }
        if !message.is_empty() {
            O::text_tag(out, names::STATUS_DESCRIPTION, message.as_bytes());
            count += 1;
        }
        count
    }

    fn logs<O: Output>(&mut self, out: &mut Vec<u8>, span: &SpanView<'_>, has_link_logs: bool) {
        let mut events = span.events().peekable();
        if events.peek().is_none() && !has_link_logs {
            return;
        }
        O::field(out, Kind::List, 11, 10);
        let list = O::open_list(out);
        let mut count = 0;
        for event in events {
            self.event::<O>(out, event);
            count += 1;
        }
        if has_link_logs {
            count += self.link_logs::<O>(out, span);
        }
        O::close_list(out, list, count);
    }

    fn event<O: Output>(&mut self, out: &mut Vec<u8>, event: EventView<'_>) {
        self.log_marks.clear();
        begin_log::<O>(out, event.time_unix_nano());
        let list = O::open_list(out);
        let mut count = 0;
        if event.attribute(names::EVENT).is_some() {
            self.log_marks.text(marks::NAME, event.name());
        } else if !event.name().is_empty() {
            O::text_tag(out, names::EVENT, event.name().as_bytes());
            count += 1;
        }
        for attribute in event.attributes() {
            attribute_tag::<O>(out, attribute, &mut self.text);
            let is_reserved = names::is_reserved_in_log(attribute.key());
            mark_attribute(&mut self.log_marks, attribute, is_reserved);
            count += 1;
        }
        let dropped = event.dropped_attributes_count();
        if dropped > 0 && !self.is_collector() {
            O::long_tag(out, names::EVENT_DROPPED_ATTRIBUTES, i64::from(dropped));
            count += 1;
        }
        count += self.log_marks_tag::<O>(out);
        O::close_list(out, list, count);
        out.push(STOP);
    }

    /// Writes a log for each link of which a reference tells less than there is.
    fn link_logs<O: Output>(&mut self, out: &mut Vec<u8>, span: &SpanView<'_>) -> usize {
        let mut count = 0;
        for (number, link) in span.links().enumerate() {
            let is_child = is_child_of(span, &link);
            if !has_more_than_ids(&link, is_child) {
                continue;
            }
            self.link_log::<O>(out, span, (number, &link), is_child);
            count += 1;
        }
        count
    }

    fn link_log<O: Output>(
        &mut self,
        out: &mut Vec<u8>,
        span: &SpanView<'_>,
        (number, link): (usize, &LinkView<'_>),
        is_child: bool,
    ) {
        let log_marks = &mut self.log_marks;
        log_marks.clear();
        begin_log::<O>(out, span.start_time_unix_nano());
        let list = O::open_list(out);
        O::text_tag(out, names::EVENT, names::LINK.as_bytes());
        let mut hex = [0; 32];
        O::text_tag(
            out,
            names::LINK_TRACE_ID,
            to_hex(&link.trace_id(), &mut hex),
        );
        O::text_tag(out, names::LINK_SPAN_ID, to_hex(&link.span_id(), &mut hex));
        let mut count = 3;
        log_marks.number(marks::LINK, number as i128);
        if !link.trace_state().is_empty() {
            log_marks.text(marks::STATE, link.trace_state());
        }
        if link.flags() != 0 {
            log_marks.number(marks::FLAGS, i128::from(link.flags()));
        }
        mark_origin(log_marks, link.dropped_attributes_count(), "");
        for attribute in link.attributes() {
            if is_child && attribute.key() == names::REF_TYPE {
                continue;
            }
            attribute_tag::<O>(out, attribute, &mut self.text);
            mark_attribute(
                log_marks,
                attribute,
                names::is_reserved_in_log(attribute.key()),
            );
            count += 1;
        }
        count += self.log_marks_tag::<O>(out);
        O::close_list(out, list, count);
        out.push(STOP);
    }

    fn marks_tag<O: Output>(&self, out: &mut Vec<u8>) -> usize {
        marks_tag::<O>(out, &self.marks, self.has_marks)
    }

    fn log_marks_tag<O: Output>(&self, out: &mut Vec<u8>) -> usize {
        marks_tag::<O>(out, &self.log_marks, self.has_marks)
    }
}

/// Writes ids and name.
#[inline]
fn head<O: Output>(out: &mut Vec<u8>, span: &SpanView<'_>) {
    let (high, low) = halves(span.trace_id());
    O::field(out, Kind::I64, 1, 0);
    O::i64(out, low);
    O::field(out, Kind::I64, 2, 1);
    O::i64(out, high);
    O::field(out, Kind::I64, 3, 2);
    O::i64(out, i64::from_be_bytes(span.span_id()));
    O::field(out, Kind::I64, 4, 3);
    let parent = span.parent_span_id().unwrap_or_default();
    O::i64(out, i64::from_be_bytes(parent));
    O::field(out, Kind::Text, 5, 4);
    O::text(out, span.name().as_bytes());
}

fn reference<O: Output>(out: &mut Vec<u8>, kind: i32, trace_id: [u8; 16], span_id: [u8; 8]) {
    let (high, low) = halves(trace_id);
    O::field(out, Kind::I32, 1, 0);
    O::i32(out, kind);
    O::field(out, Kind::I64, 2, 1);
    O::i64(out, low);
    O::field(out, Kind::I64, 3, 2);
    O::i64(out, high);
    O::field(out, Kind::I64, 4, 3);
    O::i64(out, i64::from_be_bytes(span_id));
    out.push(STOP);
}

/// Writes the time of a log and begins the field of its tags.
fn begin_log<O: Output>(out: &mut Vec<u8>, time_unix_nano: u64) {
    O::field(out, Kind::I64, 1, 0);
    O::i64(out, (time_unix_nano / NANOS_PER_MICRO) as i64);
    O::field(out, Kind::List, 2, 1);
}

/// Splits a trace id into its upper and lower half.
fn halves(trace_id: [u8; 16]) -> (i64, i64) {
    let whole = u128::from_be_bytes(trace_id);
    ((whole >> 64) as i64, whole as i64)
}

#[inline]
fn attribute_tag<O: Output>(out: &mut Vec<u8>, attribute: AttributeView<'_>, text: &mut String) {
    let key = attribute.key();
    match attribute.value() {
        ValueView::Empty => O::text_tag(out, key, b""),
        ValueView::Str(value) => O::text_tag(out, key, value.as_bytes()),
        ValueView::Bool(value) => O::bool_tag(out, key, value),
        ValueView::Int(value) => O::long_tag(out, key, value),
        ValueView::Double(value) => O::double_tag(out, key, value),
        ValueView::Bytes(value) => O::bytes_tag(out, key, value),
        value @ (ValueView::Array(_) | ValueView::Map(_)) => {
            text.clear();
            value.write_text(text).expect("a String takes everything");
            O::text_tag(out, key, text.as_bytes());
        }
    }
}

/// Returns the mark for a value that its tag does not show.
fn claim_of(value: ValueView<'_>) -> Option<&'static str> {
    match value {
        ValueView::Array(_) | ValueView::Map(_) => Some(marks::JSON),
        ValueView::Empty => Some(marks::EMPTY),
        _ => None,
    }
}

#[inline]
fn mark_attribute(marks: &mut MarkWriter, attribute: AttributeView<'_>, is_reserved: bool) {
    let claim = claim_of(attribute.value()).or(is_reserved.then_some(marks::OWN));
    if let Some(claim) = claim {
        marks.text(claim, attribute.key());
    }
}

fn mark_origin(marks: &mut MarkWriter, dropped: u32, schema_url: &str) {
    if dropped > 0 {
        marks.number(marks::DROPPED, i128::from(dropped));
    }
    if !schema_url.is_empty() {
        marks.text(marks::SCHEMA, schema_url);
    }
}

fn marks_tag<O: Output>(out: &mut Vec<u8>, marks: &MarkWriter, is_wanted: bool) -> usize {
    if marks.is_empty() || !is_wanted {
        return 0;
    }
    O::text_tag(out, names::MARKS, marks.bytes());
    1
}

fn dropped_tags<O: Output>(out: &mut Vec<u8>, span: &SpanView<'_>) -> usize {
    let counts = [
        (names::DROPPED_ATTRIBUTES, span.dropped_attributes_count()),
        (names::DROPPED_EVENTS, span.dropped_events_count()),
        (names::DROPPED_LINKS, span.dropped_links_count()),
    ];
    let mut written = 0;
    for (key, count) in counts {
        if count > 0 {
            O::long_tag(out, key, i64::from(count));
            written += 1;
        }
    }
    written
}

/// Tells whether a link is the parent, of which Jaeger has one reference at most.
fn is_link_to_parent(span: &SpanView<'_>, link: &LinkView<'_>) -> bool {
    span.parent_span_id() == Some(link.span_id()) && link.trace_id() == span.trace_id()
}

/// Tells whether a link becomes a reference `CHILD_OF`; one to the parent would not come back as a link.
fn is_child_of(span: &SpanView<'_>, link: &LinkView<'_>) -> bool {
    says_child_of(link) && !is_link_to_parent(span, link)
}

fn says_child_of(link: &LinkView<'_>) -> bool {
    let kind = link.attribute(names::REF_TYPE);
    kind.and_then(ValueView::as_str) == Some(names::CHILD_OF)
}

/// Returns the type of the reference to the parent: the Collector takes it from a link to the parent.
fn collector_parent_type(span: &SpanView<'_>, parent: [u8; 8]) -> i32 {
    let same = span
        .links()
        .filter(|link| link.span_id() == parent && link.trace_id() == span.trace_id());
    match same.last() {
        Some(link) if !says_child_of(&link) => names::ref_type::FOLLOWS_FROM,
        _ => names::ref_type::CHILD_OF,
    }
}

/// Tells whether a reference leaves out something of a link.
fn has_more_than_ids(link: &LinkView<'_>, is_child: bool) -> bool {
    let mut attributes = link.attributes().iter();
    !link.trace_state().is_empty()
        || link.flags() != 0
        || link.dropped_attributes_count() > 0
        || attributes.any(|attribute| !is_child || attribute.key() != names::REF_TYPE)
}

/// Writes bytes as hexadecimal digits.
fn to_hex<'a>(bytes: &[u8], room: &'a mut [u8; 32]) -> &'a [u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut len = 0;
    for (pair, &byte) in room.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 0xF)],
        ]);
        len += 2;
    }
    room.get(..len).unwrap_or_default()
}
