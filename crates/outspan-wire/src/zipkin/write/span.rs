//! One span.

use std::borrow::Cow;
use std::net::IpAddr;

use super::output::Endpoint;
use super::output::Head;
use super::output::Kind;
use super::output::Output;
use super::shared::Part;
use super::shared::SharedTags;
use super::text::push_event;
use super::text::push_link;
use super::text::push_value;
use crate::otlp::AttributesView;
use crate::otlp::SpanKind;
use crate::otlp::SpanView;
use crate::otlp::StatusCode;
use crate::otlp::ValueView;
use crate::zipkin::keys::KeyTable;
use crate::zipkin::marks;
use crate::zipkin::names;
use crate::zipkin::options::Dialect;
use crate::zipkin::options::WriteOptions;

const NANOS_PER_MICRO: u64 = 1000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Writes spans, and keeps what that needs from span to span.
#[derive(Debug)]
pub(super) struct SpanMapper {
    dialect: Dialect,
    has_marks: bool,
    /// The keys of the span at hand.
    table: KeyTable,
    text: String,
    marks: String,
}

/// What one span is written with.
struct Task<'m, 'a, O> {
    mapper: &'m mut SpanMapper,
    shared: &'m mut SharedTags<'a>,
    out: &'m mut Vec<u8>,
    span: &'m SpanView<'a>,
    /// What stands in fields, so that it does not become a tag.
    taken: Taken,
    output: std::marker::PhantomData<O>,
}

/// Attributes that the fields of a span hold.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    shared: bool,
    debug: bool,
    /// The Collector takes attributes of endpoints away; here stand their keys.
    keys: [Option<&'static str>; 5],
}

impl SpanMapper {
    pub(super) fn new(options: &WriteOptions) -> Self {
        Self {
            dialect: options.dialect,
            has_marks: options.marks && options.dialect == Dialect::Specification,
            table: KeyTable::new(),
            text: String::new(),
            marks: String::new(),
        }
    }

    /// Gives back what the request before needed beyond the usual.
    pub(super) fn begin_request(&mut self) {
        const KEPT_BYTES_MAX: usize = 1 << 20;
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES_MAX);
        self.marks.clear();
        self.marks.shrink_to(KEPT_BYTES_MAX);
    }

    /// Writes a span, unless it has no valid ids; tells whether it has.
    pub(super) fn write<'a, O: Output>(
        &mut self,
        out: &mut Vec<u8>,
        span: &SpanView<'a>,
        shared: &mut SharedTags<'a>,
    ) -> bool {
        // An id of a wrong length reads as zero.
        if span.trace_id() == [0; 16] || span.span_id() == [0; 8] {
            return false;
        }
        shared.update::<O>(span, self.dialect, &self.table, &mut self.text);
        self.table.clear();
        shared.keys.clear();
        self.marks.clear();
        let task = Task::<O> {
            mapper: self,
            shared,
            out,
            span,
            taken: Taken::default(),
            output: std::marker::PhantomData,
        };
        task.write();
        true
    }
}

impl<'a, O: Output> Task<'_, 'a, O> {
    fn write(mut self) {
        let (local, remote) = self.endpoints();
        let span = self.span;
        let is_lower_case = O::IS_JSON && self.is_collector();
        let name = in_case(span.name(), is_lower_case);
        let local_name = in_case(local.service_name, is_lower_case);
        let remote_name = in_case(remote.service_name, is_lower_case);
        let (timestamp, duration) = self.times();
        let head = Head {
            trace_id: span.trace_id(),
            short_trace_id: self.is_collector(),
            parent_id: span.parent_span_id(),
            id: span.span_id(),
            kind: kind(span.kind()),
            name: &name,
            timestamp,
            duration,
            local: Endpoint {
                service_name: &local_name,
                ..local
            },
            remote: Endpoint {
                service_name: &remote_name,
                ..remote
            },
        };
        let open = O::begin_span(self.out, &head);
        self.annotations(timestamp);
        O::begin_tags(self.out);
        self.tags();
        O::end_tags(self.out);
        O::end_span(self.out, open, self.taken.debug, self.taken.shared);
    }

    fn is_collector(&self) -> bool {
        self.mapper.dialect == Dialect::Collector
    }

    /// Returns the start and the duration in microseconds.
    ///
    /// The specification truncates, the Collector rounds; both have at least a microsecond of what took any time, because
    /// in Zipkin 0 means that nobody knows, except for the Collector's protobuf.
    fn times(&self) -> (u64, u64) {
        let start = self.span.start_time_unix_nano();
        let nanos = self.span.end_time_unix_nano().saturating_sub(start);
        if !self.is_collector() {
            let duration = (nanos / NANOS_PER_MICRO).max(u64::from(nanos > 0));
            return (start / NANOS_PER_MICRO, duration);
        }
        let timestamp = if start < NANOS_PER_SECOND {
            0
        } else {
            rounded_micros(start)
        };
        if O::IS_JSON {
            (timestamp, rounded_micros(nanos).max(u64::from(nanos > 0)))
        } else {
            (timestamp, nanos / NANOS_PER_MICRO)
        }
    }

    fn endpoints(&mut self) -> (Endpoint<'a>, Endpoint<'a>) {
        let service_name = self.shared.service_name;
        let attributes = self.span.attributes();
        if self.is_collector() {
            return self.collectors_endpoints(service_name, attributes);
        }
        let local = Endpoint {
            service_name,
            ..Endpoint::default()
        };
        let remote = match self.span.kind() {
            SpanKind::Client | SpanKind::Producer => specified_remote(attributes),
            _ => Endpoint::default(),
        };
        (local, remote)
    }

    /// The Collector: of every kind of span, and the attributes go away.
    fn collectors_endpoints(
        &mut self,
        service_name: &'a str,
        attributes: AttributesView<'a>,
    ) -> (Endpoint<'a>, Endpoint<'a>) {
        let mut found = Endpoints::default();
        for attribute in attributes {
            found.see(attribute.key(), attribute.value());
        }
        let local = Endpoint {
            service_name,
            address: found.local_address,
            port: found.host_port.or(found.local_port).unwrap_or_default(),
        };
        let remote = Endpoint {
            service_name: found
                .service_peer_name
                .or(found.peer_service)
                .unwrap_or_default(),
            address: found.peer_address,
            port: found.net_peer_port.or(found.peer_port).unwrap_or_default(),
        };
        self.taken.keys = found.taken();
        // An endpoint of a port alone is none.
        let has_remote = !remote.service_name.is_empty() || remote.address.is_some();
        if has_remote {
            return (local, remote);
        }
        if remote.port != 0 {
            self.taken.keys[4] = None;
        }
        (local, Endpoint::default())
    }

    fn annotations(&mut self, timestamp: u64) {
        O::begin_annotations(self.out);
        for event in self.span.events() {
            let text = &mut self.mapper.text;
            text.clear();
            push_event(text, &event, self.mapper.dialect);
            let time = event.time_unix_nano();
            let micros = match self.mapper.dialect {
                Dialect::Specification => time / NANOS_PER_MICRO,
                Dialect::Collector => rounded_micros(time),
            };
            // Zipkin refuses a message for an annotation without a time.
            let micros = if micros == 0 {
                timestamp.max(1)
            } else {
                micros
            };
            O::annotation(self.out, micros, text);
        }
        O::end_annotations(self.out);
    }

    /// Writes the tags. Of equal keys the first one stays: the mapping's own, then the span's, the scope's, the resource's.
    fn tags(&mut self) {
        self.scope_names();
        self.own_tags();
        let has_links = self.span.links().next().is_some();
        self.span_attributes(has_links);
        self.links();
        let flags = self.span.flags();
        if self.mapper.has_marks && flags != 0 {
            marks::push_number(&mut self.mapper.marks, marks::FLAGS, flags);
        }
        self.shared_attributes(has_links);
        if self.mapper.has_marks && !self.mapper.marks.is_empty() {
            O::tag(self.out, names::MARKS, &self.mapper.marks);
        }
    }

    fn scope_names(&mut self) {
        for part in [&self.shared.scope, &self.shared.resource] {
            for tag in part.tags.iter().take(part.named) {
                let keys = &mut self.shared.keys;
                if is_new(&mut self.mapper.table, keys, tag.key, tag.hash) {
                    self.out.extend_from_slice(part.written(tag));
                }
            }
        }
    }

    /// Writes what OTLP has fields for and Zipkin has not.
    fn own_tags(&mut self) {
        let span = self.span;
        let status = span.status();
        match (self.mapper.dialect, status.code()) {
            (Dialect::Specification, StatusCode::Ok) => {
                self.tag(names::STATUS_CODE, "OK");
                self.tag_unless_empty(names::STATUS_DESCRIPTION, status.message());
            }
            (Dialect::Specification, StatusCode::Error) => {
                let message = status.message();
                self.tag(names::STATUS_CODE, "ERROR");
                self.tag(names::ERROR, message);
                // Read as an error without a message, because others write it for any error.
                if message == "true" {
                    self.tag(names::STATUS_DESCRIPTION, message);
                }
            }
            (Dialect::Specification, _) => {}
            (_, code) => self.collectors_status(code, status.message()),
        }
        self.tag_unless_empty(names::TRACE_STATE, span.trace_state());
        if span.kind() == SpanKind::Internal {
            self.tag(names::SPAN_KIND, names::SPAN_KIND_INTERNAL);
        }
        if !self.is_collector() {
            self.count(names::DROPPED_ATTRIBUTES, span.dropped_attributes_count());
            self.count(names::DROPPED_EVENTS, span.dropped_events_count());
            self.count(names::DROPPED_LINKS, span.dropped_links_count());
        }
    }

    fn collectors_status(&mut self, code: StatusCode, message: &str) {
        match code {
            StatusCode::Ok => self.tag(names::STATUS_CODE, "STATUS_CODE_OK"),
            StatusCode::Error => {
                self.tag(names::STATUS_CODE, "STATUS_CODE_ERROR");
                self.tag(names::ERROR, "true");
            }
            _ => {}
        }
        self.tag_unless_empty(names::STATUS_DESCRIPTION, message);
    }

    fn span_attributes(&mut self, has_links: bool) {
        for attribute in self.span.attributes() {
            let key = attribute.key();
            let value = attribute.value();
            let is_special = names::is_read_specially(key);
            if key == names::MARKS || self.is_taken(key, value) {
                continue;
            }
            if is_special && self.is_left_out(key, value, has_links) {
                continue;
            }
            let hash = self.mapper.table.hash(key);
            if !is_new(&mut self.mapper.table, &mut self.shared.keys, key, hash) {
                continue;
            }
            if let ValueView::Str(text) = value {
                O::tag(self.out, key, text);
            } else {
                self.mapper.text.clear();
                push_value(&mut self.mapper.text, value, self.mapper.dialect);
                O::tag(self.out, key, &self.mapper.text);
            }
            let needs_mark = is_special || marks::type_name(value).is_some();
            if self.mapper.has_marks && needs_mark {
                marks::push_key(&mut self.mapper.marks, key, value);
            }
        }
    }

    /// Tells whether a field of the span says what the attribute says.
    fn is_taken(&mut self, key: &str, value: ValueView<'_>) -> bool {
        if self.is_collector() {
            return self.taken.keys.contains(&Some(key));
        }
        match (key, value) {
            (names::SHARED, ValueView::Bool(true)) => self.taken.shared = true,
            (names::DEBUG, ValueView::Bool(true)) => self.taken.debug = true,
            _ => return false,
        }
        true
    }

    /// Tells whether an attribute has no place among the tags: an `error` that is none, or a name that a link has.
    fn is_left_out(&self, key: &str, value: ValueView<'_>, has_links: bool) -> bool {
        if key == names::ERROR {
            let is_error = self.span.status().code() == StatusCode::Error;
            let is_false = match value {
                ValueView::Bool(is_error) => !is_error,
                ValueView::Str(text) => text == "false",
                _ => false,
            };
            return !is_error && (is_false || self.is_collector());
        }
        has_links && key.starts_with(names::LINK_PREFIX)
    }

    fn links(&mut self) {
        for (number, link) in self.span.links().enumerate() {
            let text = &mut self.mapper.text;
            text.clear();
            text.push_str(names::LINK_PREFIX);
            push_value(text, ValueView::Int(number as i64), self.mapper.dialect);
            let key_len = text.len();
            push_link(text, &link, self.mapper.dialect);
            let (key, value) = text.split_at(key_len);
            O::tag(self.out, key, value);
        }
    }

    fn shared_attributes(&mut self, has_links: bool) {
        let table = &mut self.mapper.table;
        let keys = &mut self.shared.keys;
        let sections = [
            (marks::SCOPE, &self.shared.scope),
            (marks::RESOURCE, &self.shared.resource),
        ];
        for (section, part) in sections {
            let marks = &mut self.mapper.marks;
            let before = marks.len();
            marks::begin(marks);
            marks.push_str(section);
            let section_end = marks.len();
            for tag in part.tags.iter().skip(part.named) {
                let is_named_like_link = has_links && tag.key.starts_with(names::LINK_PREFIX);
                if is_named_like_link || !is_new(table, keys, tag.key, tag.hash) {
                    continue;
                }
                self.out.extend_from_slice(part.written(tag));
                marks.push(' ');
                marks.push_str(part.mark(tag));
            }
            push_all(marks, part);
            if marks.len() == section_end {
                marks.truncate(before);
            }
        }
    }

    fn tag_unless_empty(&mut self, key: &'static str, value: &str) {
        if !value.is_empty() {
            self.tag(key, value);
        }
    }

    fn count(&mut self, key: &'static str, count: u32) {
        if count == 0 {
            return;
        }
        let mut text = std::mem::take(&mut self.mapper.text);
        text.clear();
        push_value(
            &mut text,
            ValueView::Int(i64::from(count)),
            self.mapper.dialect,
        );
        self.tag(key, &text);
        self.mapper.text = text;
    }

    fn tag(&mut self, key: &'static str, value: &str) {
        let hash = self.mapper.table.hash(key);
        if is_new(&mut self.mapper.table, &mut self.shared.keys, key, hash) {
            O::tag(self.out, key, value);
        }
    }
}

/// What the attributes of a span say about endpoints, in the Collector's dialect.
#[derive(Clone, Copy, Debug, Default)]
struct Endpoints<'a> {
    local_address: Option<IpAddr>,
    host_port: Option<u16>,
    local_port: Option<u16>,
    service_peer_name: Option<&'a str>,
    peer_service: Option<&'a str>,
    peer_address: Option<IpAddr>,
    net_peer_port: Option<u16>,
    peer_port: Option<u16>,
}

impl<'a> Endpoints<'a> {
    fn see(&mut self, key: &str, value: ValueView<'a>) {
        match key {
            names::LOCAL_ADDRESS => self.local_address = address(value),
            names::HOST_PORT => self.host_port = port(value),
            names::LOCAL_PORT => self.local_port = port(value),
            names::SERVICE_PEER_NAME => self.service_peer_name = name(value),
            names::PEER_SERVICE => self.peer_service = name(value),
            names::PEER_ADDRESS => self.peer_address = address(value),
            names::NET_PEER_PORT => self.net_peer_port = port(value),
            names::PEER_PORT => self.peer_port = port(value),
            _ => {}
        }
    }

    /// Names the attributes that endpoints are made of; the last one is the port of the other side.
    fn taken(&self) -> [Option<&'static str>; 5] {
        let first_of = |first: bool, first_key, second: bool, second_key| {
            if first {
                return Some(first_key);
            }
            second.then_some(second_key)
        };
        [
            self.local_address.map(|_| names::LOCAL_ADDRESS),
            first_of(
                self.host_port.is_some(),
                names::HOST_PORT,
                self.local_port.is_some(),
                names::LOCAL_PORT,
            ),
            first_of(
                self.service_peer_name.is_some(),
                names::SERVICE_PEER_NAME,
                self.peer_service.is_some(),
                names::PEER_SERVICE,
            ),
            self.peer_address.map(|_| names::PEER_ADDRESS),
            first_of(
                self.net_peer_port.is_some(),
                names::NET_PEER_PORT,
                self.peer_port.is_some(),
                names::PEER_PORT,
            ),
        ]
    }
}

/// The specification: the best of several attributes, which stay.
fn specified_remote(attributes: AttributesView<'_>) -> Endpoint<'_> {
    let mut best = names::REMOTE_RANKS.len();
    let mut remote = Endpoint::default();
    for attribute in attributes {
        let key = attribute.key();
        if !may_tell_remote(key) {
            continue;
        }
        let ranks = names::REMOTE_RANKS.iter().enumerate().take(best);
        let Some((number, rank)) = ranks.into_iter().find(|(_, rank)| rank.key == key) else {
            continue;
        };
        let found = match rank.port {
            None => Endpoint {
                service_name: name(attribute.value()).unwrap_or_default(),
                ..Endpoint::default()
            },
            Some(_) => Endpoint {
                address: address(attribute.value()),
                ..Endpoint::default()
            },
        };
        if !found.is_empty() {
            (best, remote) = (number, found);
        }
    }
    let port_key = names::REMOTE_RANKS.get(best).and_then(|rank| rank.port);
    if let Some(value) = port_key.and_then(|key| attributes.get(key)) {
        remote.port = port(value).unwrap_or_default();
    }
    remote
}

/// Sorts out most keys at once.
fn may_tell_remote(key: &str) -> bool {
    let group = key.split_once('.').map(|(group, _)| group);
    matches!(group, Some("peer" | "server" | "net" | "network" | "db"))
}

fn name(value: ValueView<'_>) -> Option<&str> {
    value.as_str().filter(|name| !name.is_empty())
}

/// Reads an IP address; one of IPv4 in the form of IPv6 is one of IPv4, as Zipkin has it.
fn address(value: ValueView<'_>) -> Option<IpAddr> {
    let address: IpAddr = value.as_str()?.parse().ok()?;
    Some(address.to_canonical())
}

fn port(value: ValueView<'_>) -> Option<u16> {
    let port = match value {
        ValueView::Int(port) => u16::try_from(port).ok()?,
        ValueView::Str(port) => port.parse().ok()?,
        _ => return None,
    };
    (port != 0).then_some(port)
}

fn kind(kind: SpanKind) -> Option<Kind> {
    match kind {
        SpanKind::Client => Some(Kind::Client),
        SpanKind::Server => Some(Kind::Server),
        SpanKind::Producer => Some(Kind::Producer),
        SpanKind::Consumer => Some(Kind::Consumer),
        _ => None,
    }
}

fn in_case(text: &str, is_lower_case: bool) -> Cow<'_, str> {
    let may_change = |byte: u8| byte.is_ascii_uppercase() || !byte.is_ascii();
    if is_lower_case && text.bytes().any(may_change) {
        return Cow::Owned(text.to_lowercase());
    }
    Cow::Borrowed(text)
}

fn rounded_micros(nanos: u64) -> u64 {
    nanos.saturating_add(NANOS_PER_MICRO / 2) / NANOS_PER_MICRO
}

/// Takes a key, and tells whether the span had none like it.
#[inline]
fn is_new<'a>(table: &mut KeyTable, keys: &mut Vec<&'a str>, key: &'a str, hash: u64) -> bool {
    let known = table.insert(hash, keys.len(), |number| keys.get(number) == Some(&key));
    if known.is_some() {
        return false;
    }
    keys.push(key);
    true
}

/// Appends what stands beside the marks of a part's tags.
fn push_all(marks: &mut String, part: &Part<'_>) {
    if !part.facts.is_empty() {
        marks.push(' ');
        marks.push_str(&part.facts);
    }
}
