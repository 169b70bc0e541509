//! What OTLP says, in Jaeger's words.

use super::output::Kind;
use super::output::Output;
use super::output::STOP;
use crate::buffer::Buffer;
use crate::buffer::Limited;
use crate::jaeger::Dialect;
use crate::jaeger::WriteOptions;
use crate::jaeger::marks;
use crate::jaeger::marks::MarkWriter;
use crate::jaeger::names;
use crate::jaeger::names::Reserved;
use crate::otlp::LinkView;
use crate::otlp::ResourceSpansView;
use crate::otlp::ScopeSpansView;
use crate::otlp::SpanKind;
use crate::otlp::StatusCode;
use crate::otlp::ValueView;
use crate::otlp::raw::Attribute;
use crate::otlp::raw::RawEvent;
use crate::otlp::raw::RawSpan;
use crate::otlp::raw::Value;

const NANOS_PER_MICRO: u64 = 1_000;

/// The bit of OTLP's flags that Jaeger has too.
const SAMPLED: u32 = 1;

/// The bits of OTLP's flags that are worth a mark: W3C's trace flags. The two above them, whether the parent is remote, are
/// set in every span of recent SDKs, and no reader of Jaeger asks for them.
const MARKED_FLAGS: u32 = 0xFE;

/// The span at hand.
#[derive(Debug, Default)]
pub(super) struct Source<'a> {
    pub(super) bytes: &'a [u8],
    span: RawSpan<'a>,
    trace_id: [u8; 16],
    span_id: [u8; 8],
    /// Zeros for none.
    parent_id: [u8; 8],
    /// The event at hand.
    event: RawEvent<'a>,
}

impl<'a> Source<'a> {
    /// Reads another span into the same room.
    pub(super) fn read(&mut self, bytes: &'a [u8]) {
        self.bytes = bytes;
        self.span.read(bytes);
        self.trace_id = self.span.trace_id.try_into().unwrap_or_default();
        self.span_id = self.span.id.try_into().unwrap_or_default();
        self.parent_id = self.span.parent_id.try_into().unwrap_or_default();
    }

    /// Tells whether the span has both of its ids.
    pub(super) fn has_ids(&self) -> bool {
        self.trace_id != [0; 16] && self.span_id != [0; 8]
    }

    fn has_parent(&self) -> bool {
        self.parent_id != [0; 8]
    }
}

/// Writes processes and spans, with buffers that are used again.
#[derive(Debug)]
pub(super) struct Mapper {
    dialect: Dialect,
    has_marks: bool,
    marks: MarkWriter,
    log_marks: MarkWriter,
    /// A value as text.
    text: Limited,
    scope: Scope,
}

/// What every span of a scope gets.
#[derive(Debug)]
struct Scope {
    attributes: Tags,
    names: Tags,
    marks: MarkWriter,
    has_name: bool,
}

/// Tags that stand ready.
#[derive(Debug)]
struct Tags {
    bytes: Limited,
    count: usize,
}

impl Tags {
    fn new(max_bytes: usize) -> Self {
        Self {
            bytes: Limited::new(max_bytes),
            count: 0,
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    fn text<O: Output>(&mut self, key: &str, value: &str) {
        O::text_tag(&mut self.bytes, key.as_bytes(), value.as_bytes());
        self.count += 1;
    }

    fn copy_to(&self, out: &mut Limited) -> usize {
        out.fail_with(&self.bytes);
        out.extend_from_slice(&self.bytes);
        self.count
    }
}

impl Mapper {
    pub(super) fn new(options: &WriteOptions) -> Self {
        Self {
            dialect: options.dialect,
            has_marks: options.marks && options.dialect != Dialect::Collector,
            marks: MarkWriter::new(options.bytes_max),
            log_marks: MarkWriter::new(options.bytes_max),
            text: Limited::new(options.bytes_max),
            scope: Scope {
                attributes: Tags::new(options.bytes_max),
                names: Tags::new(options.bytes_max),
                marks: MarkWriter::new(options.bytes_max),
                has_name: false,
            },
        }
    }

    fn is_collector(&self) -> bool {
        self.dialect == Dialect::Collector
    }

    /// Writes the struct `Process`.
    pub(super) fn process<O: Output>(
        &mut self,
        out: &mut Limited,
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
            if out.is_over() {
                return;
            }
            let attribute = Attribute::read(attribute.bytes());
            let key = attribute.key;
            // The first one, of which the value is known as the process's name.
            if !is_name_told && key == names::SERVICE_NAME.as_bytes() {
                is_name_told = true;
                continue;
            }
            let claim = attribute_tag::<O>(out, attribute, &mut self.text);
            let is_reserved = key == names::MARKS.as_bytes();
            mark_attribute(&mut self.marks, key, claim, is_reserved);
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
            if scope.attributes.bytes.is_over() {
                return;
            }
            let attribute = Attribute::read(attribute.bytes());
            let claim = attribute_tag::<O>(&mut scope.attributes.bytes, attribute, &mut self.text);
            scope.attributes.count += 1;
            if scope.marks.is_empty() {
                scope.marks.word(marks::SCOPE);
            }
            scope.marks.text(claim.unwrap_or(marks::KEY), attribute.key);
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
    pub(super) fn span<O: Output>(&mut self, out: &mut Limited, source: &mut Source<'_>) {
        self.marks.clear();
        self.marks.push_all(&self.scope.marks);
        head::<O>(out, source);
        let (has_references, has_link_logs) = self.references::<O>(out, source);
        let (start, end) = (source.span.start, source.span.end);
        if end < start {
            self.marks.number(marks::END, i128::from(end));
        }
        let own_flags = self.flags(&source.span);
        O::field(out, Kind::I32, 7, if has_references { 6 } else { 5 });
        O::i32(
            out,
            own_flags.unwrap_or((source.span.flags & SAMPLED) as i32),
        );
        O::field(out, Kind::I64, 8, 7);
        O::i64(out, (start / NANOS_PER_MICRO) as i64);
        O::field(out, Kind::I64, 9, 8);
        O::i64(out, (end.saturating_sub(start) / NANOS_PER_MICRO) as i64);
        self.tags::<O>(out, &source.span, own_flags.is_some());
        self.logs::<O>(out, source, has_link_logs);
        out.push(STOP);
    }

    /// Returns the flags that came from Jaeger, if an attribute keeps them, and marks what has no place otherwise.
    fn flags(&mut self, span: &RawSpan<'_>) -> Option<i32> {
        if span.flags & MARKED_FLAGS != 0 {
            self.marks.number(marks::FLAGS, i128::from(span.flags));
        }
        let attributes = span.attributes.iter();
        let mut kept = attributes.filter(|attribute| is_jaeger_flags(attribute.key));
        // Beside another one with its key it would not come back.
        let (Some(kept), None) = (kept.next(), kept.next()) else {
            return None;
        };
        let Value::Int(kept) = kept.value else {
            return None;
        };
        let kept = i32::try_from(kept).ok()?;
        let is_from_jaeger =
            kept as u32 & !SAMPLED != 0 && (kept as u32 ^ span.flags) & SAMPLED == 0;
        is_from_jaeger.then_some(kept)
    }

    /// Writes the references, and tells whether there are any and whether a link has more to say.
    fn references<O: Output>(&mut self, out: &mut Limited, source: &Source<'_>) -> (bool, bool) {
        let writes_parent = source.has_parent() && self.is_collector();
        if source.span.links.is_empty() && !writes_parent {
            return (false, false);
        }
        O::field(out, Kind::List, 6, 5);
        let list = O::open_list(out);
        let mut count = 0;
        if writes_parent {
            let kind = collector_parent_type(source);
            reference::<O>(out, kind, source.trace_id, source.parent_id);
            count += 1;
        }
        let mut has_more = false;
        let mut has_own_trace = false;
        for link in source.span.link_views() {
            if out.is_over() {
                return (true, false);
            }
            if writes_parent && is_link_to_parent(source, &link) {
                continue;
            }
            let is_child = is_child_of(source, &link);
            let kind = if is_child {
                names::ref_type::CHILD_OF
            } else {
                names::ref_type::FOLLOWS_FROM
            };
            reference::<O>(out, kind, link.trace_id(), link.span_id());
            count += 1;
            has_more |= !self.is_collector() && has_more_than_ids(&link, is_child);
            has_own_trace |= link.trace_id() == source.trace_id;
        }
        if !source.has_parent() && has_own_trace {
            self.marks.word(marks::ROOT);
        }
        O::close_list(out, list, count);
        (true, has_more)
    }

    fn tags<O: Output>(&mut self, out: &mut Limited, span: &RawSpan<'_>, has_own_flags: bool) {
        O::field(out, Kind::List, 10, 9);
        let list = O::open_list(out);
        let mut count = if self.is_collector() {
            self.scope.names.copy_to(out)
        } else {
            self.scope.attributes.copy_to(out)
        };
        for &attribute in &span.attributes {
            if out.is_over() {
                return;
            }
            let key = attribute.key;
            if has_own_flags && is_jaeger_flags(key) {
                continue;
            }
            let claim = attribute_tag::<O>(out, attribute, &mut self.text);
            let is_reserved = Reserved::of(key).is_some();
            mark_attribute(&mut self.marks, key, claim, is_reserved);
            count += 1;
        }
        count += self.kind_tag::<O>(out, SpanKind::from_number(span.kind));
        count += self.status_tags::<O>(out, span);
        if !span.trace_state.is_empty() {
            O::text_tag(out, names::TRACE_STATE.as_bytes(), span.trace_state);
            count += 1;
        }
        if !self.is_collector() {
            count += dropped_tags::<O>(out, span);
            count += self.scope.names.copy_to(out);
        }
        count += self.marks_tag::<O>(out);
        O::close_list(out, list, count);
    }

    fn kind_tag<O: Output>(&mut self, out: &mut Limited, kind: SpanKind) -> usize {
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
        O::text_tag(out, names::SPAN_KIND.as_bytes(), name.as_bytes());
        1
    }

    fn status_tags<O: Output>(&mut self, out: &mut Limited, span: &RawSpan<'_>) -> usize {
        let message = span.status_message;
        let mut count = 0;
        match StatusCode::from_number(span.status_code) {
            StatusCode::Ok => {
                O::text_tag(out, names::STATUS_CODE.as_bytes(), b"OK");
                count += 1;
            }
            StatusCode::Error => {
                O::text_tag(out, names::STATUS_CODE.as_bytes(), b"ERROR");
                O::bool_tag(out, names::ERROR.as_bytes(), true);
                count += 2;
            }
            StatusCode::Unset if message.is_empty() => {}
            code => self.marks.number(marks::STATUS, i128::from(code.number())),
        }
        if !message.is_empty() {
            O::text_tag(out, names::STATUS_DESCRIPTION.as_bytes(), message);
            count += 1;
        }
        count
    }

    fn logs<O: Output>(&mut self, out: &mut Limited, source: &mut Source<'_>, has_link_logs: bool) {
        if source.span.events.is_empty() && !has_link_logs {
            return;
        }
        O::field(out, Kind::List, 11, 10);
        let list = O::open_list(out);
        let mut count = source.span.events.len();
        for &event in &source.span.events {
            if out.is_over() {
                return;
            }
            source.event.read(event);
            self.event::<O>(out, &source.event);
        }
        if has_link_logs {
            count += self.link_logs::<O>(out, source);
        }
        O::close_list(out, list, count);
    }

    fn event<O: Output>(&mut self, out: &mut Limited, event: &RawEvent<'_>) {
        self.log_marks.clear();
        begin_log::<O>(out, event.time);
        let list = O::open_list(out);
        let mut count = event.attributes.len();
        let mut attributes = event.attributes.iter();
        let hides_name = attributes.any(|attribute| attribute.key == names::EVENT.as_bytes());
        if hides_name {
            self.log_marks.text(marks::NAME, event.name);
        } else if !event.name.is_empty() {
            O::text_tag(out, names::EVENT.as_bytes(), event.name);
            count += 1;
        }
        let is_nameless = event.name.is_empty() && !hides_name;
        for &attribute in &event.attributes {
            if out.is_over() {
                return;
            }
            let claim = attribute_tag::<O>(out, attribute, &mut self.text);
            let is_like_name = is_nameless && attribute.key == names::MESSAGE.as_bytes();
            let is_reserved = is_like_name || names::is_reserved_in_log(attribute.key);
            mark_attribute(&mut self.log_marks, attribute.key, claim, is_reserved);
        }
        let dropped = event.dropped_attributes;
        if dropped > 0 && !self.is_collector() {
            let key = names::EVENT_DROPPED_ATTRIBUTES.as_bytes();
            O::long_tag(out, key, i64::from(dropped));
            count += 1;
        }
        count += self.log_marks_tag::<O>(out);
        O::close_list(out, list, count);
        out.push(STOP);
    }

    /// Writes a log for each link of which a reference tells less than there is.
    fn link_logs<O: Output>(&mut self, out: &mut Limited, source: &Source<'_>) -> usize {
        let mut count = 0;
        for (number, link) in source.span.link_views().enumerate() {
            if out.is_over() {
                return count;
            }
            let is_child = is_child_of(source, &link);
            if !has_more_than_ids(&link, is_child) {
                continue;
            }
            self.link_log::<O>(out, source.span.start, (number, &link), is_child);
            count += 1;
        }
        count
    }

    fn link_log<O: Output>(
        &mut self,
        out: &mut Limited,
        time: u64,
        (number, link): (usize, &LinkView<'_>),
        is_child: bool,
    ) {
        let log_marks = &mut self.log_marks;
        log_marks.clear();
        begin_log::<O>(out, time);
        let list = O::open_list(out);
        O::text_tag(out, names::EVENT.as_bytes(), names::LINK.as_bytes());
        let mut room = [0; 32];
        let trace_id = to_hex(&link.trace_id(), &mut room);
        O::text_tag(out, names::LINK_TRACE_ID.as_bytes(), trace_id);
        let span_id = to_hex(&link.span_id(), &mut room);
        O::text_tag(out, names::LINK_SPAN_ID.as_bytes(), span_id);
        let mut count = 3;
        log_marks.number(marks::LINK, number as i128);
        if !link.trace_state().is_empty() {
            log_marks.text(marks::STATE, link.trace_state());
        }
        if link.flags() != 0 {
            log_marks.number(marks::FLAGS, i128::from(link.flags()));
        }
        mark_origin(log_marks, link.dropped_attributes_count(), "");
        let mut is_type_told = !is_child;
        for attribute in link.attributes() {
            if out.is_over() {
                return;
            }
            // The first one, which the reference says.
            if !is_type_told && attribute.key() == names::REF_TYPE {
                is_type_told = true;
                continue;
            }
            let attribute = Attribute::read(attribute.bytes());
            let claim = attribute_tag::<O>(out, attribute, &mut self.text);
            let is_reserved = names::is_reserved_in_log(attribute.key);
            mark_attribute(log_marks, attribute.key, claim, is_reserved);
            count += 1;
        }
        count += self.log_marks_tag::<O>(out);
        O::close_list(out, list, count);
        out.push(STOP);
    }

    fn marks_tag<O: Output>(&self, out: &mut Limited) -> usize {
        marks_tag::<O>(out, &self.marks, self.has_marks)
    }

    fn log_marks_tag<O: Output>(&self, out: &mut Limited) -> usize {
        marks_tag::<O>(out, &self.log_marks, self.has_marks)
    }
}

/// Writes ids and name.
#[inline]
fn head<O: Output>(out: &mut Limited, source: &Source<'_>) {
    let (high, low) = halves(source.trace_id);
    O::field(out, Kind::I64, 1, 0);
    O::i64(out, low);
    O::field(out, Kind::I64, 2, 1);
    O::i64(out, high);
    O::field(out, Kind::I64, 3, 2);
    O::i64(out, i64::from_be_bytes(source.span_id));
    O::field(out, Kind::I64, 4, 3);
    O::i64(out, i64::from_be_bytes(source.parent_id));
    O::field(out, Kind::Text, 5, 4);
    O::text(out, source.span.name);
}

fn reference<O: Output>(out: &mut Limited, kind: i32, trace_id: [u8; 16], span_id: [u8; 8]) {
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
fn begin_log<O: Output>(out: &mut Limited, time_unix_nano: u64) {
    O::field(out, Kind::I64, 1, 0);
    O::i64(out, (time_unix_nano / NANOS_PER_MICRO) as i64);
    O::field(out, Kind::List, 2, 1);
}

/// Splits a trace id into its upper and lower half.
fn halves(trace_id: [u8; 16]) -> (i64, i64) {
    let whole = u128::from_be_bytes(trace_id);
    ((whole >> 64) as i64, whole as i64)
}

/// Writes an attribute, and returns the mark for a value that its tag does not show.
#[inline]
fn attribute_tag<O: Output>(
    out: &mut Limited,
    Attribute { key, value }: Attribute<'_>,
    text: &mut Limited,
) -> Option<&'static str> {
    match value {
        Value::Text(value) => O::text_tag(out, key, value),
        Value::Int(value) => O::long_tag(out, key, value),
        Value::Double(value) => O::double_tag(out, key, value),
        Value::Bool(value) => O::bool_tag(out, key, value),
        Value::Other(_) => return rare_tag::<O>(out, key, value.view(), text),
    }
    None
}

#[cold]
fn rare_tag<O: Output>(
    out: &mut Limited,
    key: &[u8],
    value: ValueView<'_>,
    text: &mut Limited,
) -> Option<&'static str> {
    if let ValueView::Bytes(bytes) = value {
        O::bytes_tag(out, key, bytes);
        return None;
    }
    text.clear();
    // It fails where the text does not fit, and then the message is over too.
    value.write_text(text).unwrap_or_default();
    out.fail_with(text);
    O::text_tag(out, key, text);
    match value {
        ValueView::Empty => Some(marks::EMPTY),
        _ => Some(marks::JSON),
    }
}

#[inline]
fn mark_attribute(
    marks: &mut MarkWriter,
    key: &[u8],
    claim: Option<&'static str>,
    is_reserved: bool,
) {
    if let Some(claim) = claim.or(is_reserved.then_some(marks::OWN)) {
        marks.text(claim, key);
    }
}

fn is_jaeger_flags(key: &[u8]) -> bool {
    key == names::JAEGER_FLAGS.as_bytes()
}

fn mark_origin(marks: &mut MarkWriter, dropped: u32, schema_url: &str) {
    if dropped > 0 {
        marks.number(marks::DROPPED, i128::from(dropped));
    }
    if !schema_url.is_empty() {
        marks.text(marks::SCHEMA, schema_url);
    }
}

fn marks_tag<O: Output>(out: &mut Limited, marks: &MarkWriter, is_wanted: bool) -> usize {
    if marks.is_empty() || !is_wanted {
        return 0;
    }
    marks.pass_failure_on(out);
    O::text_tag(out, names::MARKS.as_bytes(), marks.bytes());
    1
}

fn dropped_tags<O: Output>(out: &mut Limited, span: &RawSpan<'_>) -> usize {
    let counts = [
        (names::DROPPED_ATTRIBUTES, span.dropped_attributes),
        (names::DROPPED_EVENTS, span.dropped_events),
        (names::DROPPED_LINKS, span.dropped_links),
    ];
    let mut written = 0;
    for (key, count) in counts {
        if count > 0 {
            O::long_tag(out, key.as_bytes(), i64::from(count));
            written += 1;
        }
    }
    written
}

/// Tells whether a link is the parent, of which Jaeger has one reference at most.
fn is_link_to_parent(source: &Source<'_>, link: &LinkView<'_>) -> bool {
    source.has_parent() && source.parent_id == link.span_id() && source.trace_id == link.trace_id()
}

/// Tells whether a link becomes a reference `CHILD_OF`; one to the parent would not come back as a link.
fn is_child_of(source: &Source<'_>, link: &LinkView<'_>) -> bool {
    says_child_of(link) && !is_link_to_parent(source, link)
}

fn says_child_of(link: &LinkView<'_>) -> bool {
    let kind = link.attribute(names::REF_TYPE);
    kind.and_then(ValueView::as_str) == Some(names::CHILD_OF)
}

/// Returns the type of the reference to the parent: the Collector takes it from a link to the parent.
fn collector_parent_type(source: &Source<'_>) -> i32 {
    let links = source.span.link_views();
    match links.filter(|link| is_link_to_parent(source, link)).last() {
        Some(link) if !says_child_of(&link) => names::ref_type::FOLLOWS_FROM,
        _ => names::ref_type::CHILD_OF,
    }
}

/// Tells whether a reference leaves out something of a link.
fn has_more_than_ids(link: &LinkView<'_>, is_child: bool) -> bool {
    // A child's reference says one of its attributes: the first with the type.
    let told = usize::from(is_child);
    !link.trace_state().is_empty()
        || link.flags() != 0
        || link.dropped_attributes_count() > 0
        || link.attributes().iter().count() > told
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
