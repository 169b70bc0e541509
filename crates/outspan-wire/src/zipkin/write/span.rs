//! One span.

use std::borrow::Cow;
use std::net::IpAddr;

use super::output::Endpoint;
use super::output::Head;
use super::output::Kind;
use super::output::Output;
use super::plan::Own;
use super::source::Source;
use super::text::push_event;
use super::text::push_int;
use super::text::push_link;
use super::text::push_value;
use crate::buffer::Buffer;
use crate::buffer::Limited;
use crate::json::push_digits;
use crate::otlp::SpanKind;
use crate::otlp::raw::Attribute;
use crate::otlp::raw::RawSpan;
use crate::otlp::raw::Value;
use crate::zipkin::keys::KeyTable;
use crate::zipkin::names;
use crate::zipkin::options::Dialect;
use crate::zipkin::options::WriteOptions;

const NANOS_PER_MICRO: u64 = 1000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Writes spans, and keeps what that needs from span to span.
#[derive(Debug)]
pub(super) struct SpanMapper {
    pub(super) dialect: Dialect,
    pub(super) has_marks: bool,
    /// The keys of the span at hand.
    pub(super) table: KeyTable,
    pub(super) text: Limited,
    /// How many bytes a message may have, and so everything that becomes a part of one.
    pub(super) max_bytes: usize,
}

/// Attributes that the fields of a span hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
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
            text: Limited::new(options.bytes_max),
            max_bytes: options.bytes_max,
        }
    }

    /// Gives back what the request before needed beyond the usual.
    pub(super) fn begin_request(&mut self) {
        const KEPT_BYTES_MAX: usize = 1 << 20;
        self.text.clear_and_keep(KEPT_BYTES_MAX);
    }

    /// Writes the span at hand, unless it has no valid ids; tells whether it has.
    pub(super) fn write<'a, O: Output>(
        &mut self,
        out: &mut Limited,
        source: &mut Source<'a>,
    ) -> bool {
        let span = &source.span;
        if !is_id(span.trace_id, 16) || !is_id(span.id, 8) {
            return false;
        }
        let (local, remote, taken) = self.endpoints(source.service_name, span);
        let (timestamp, duration) = self.times::<O>(span);
        let is_lower_case = O::IS_JSON && self.is_collector();
        let name = in_case(span.name, is_lower_case);
        let local_name = in_case(local.service_name, is_lower_case);
        let remote_name = in_case(remote.service_name, is_lower_case);
        let head = Head {
            trace_id: span.trace_id,
            short_trace_id: self.is_collector(),
            parent_id: is_id(span.parent_id, 8).then_some(span.parent_id),
            id: span.id,
            kind: kind(span.kind),
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
        let open = O::begin_span(out, &head);
        out.fail_with(source.scope.written_or_marks());
        out.fail_with(source.resource.written_or_marks());
        self.annotations::<O>(out, span, &mut source.list, timestamp);
        O::begin_tags(out);
        for_each_own_tag(span, self.dialect, |key, value| {
            O::tag(out, key.as_bytes(), value);
        });
        if out.is_over() {
            return true;
        }
        let own = Own::of(span, self.dialect);
        if !source.plans.find(&own, &source.span) {
            let mut plan = source.plans.make_room();
            plan.make::<O>(self, own, source, &taken);
            source.plans.add(plan);
        }
        let Some(plan) = source.plans.at_hand() else {
            return false;
        };
        plan.write_attributes(out, &source.span, |out, key, value| {
            self.tag_of_key::<O>(out, key, value);
        });
        self.links::<O>(out, &source.span, &mut source.list);
        if let Some(attribute) = plan.copied_status_code(&source.span) {
            self.text.clear();
            push_value(&mut self.text, attribute.value, self.dialect);
            out.fail_with(&self.text);
            O::tag(out, names::HTTP_STATUS_CODE.as_bytes(), &self.text);
        }
        out.extend_from_slice(&plan.tail);
        O::end_tags(out);
        plan.move_written(O::end_span(out, open, taken.debug, taken.shared));
        true
    }

    fn is_collector(&self) -> bool {
        self.dialect == Dialect::Collector
    }

    /// Returns the start and the duration in microseconds.
    ///
    /// The specification truncates, the Collector rounds; both have at least a microsecond of what took any time, because
    /// in Zipkin 0 means that nobody knows, except for the Collector's protobuf.
    fn times<O: Output>(&self, span: &RawSpan<'_>) -> (u64, u64) {
        let start = span.start;
        let nanos = span.end.saturating_sub(start);
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

    fn endpoints<'a>(
        &self,
        service_name: &'a [u8],
        span: &RawSpan<'a>,
    ) -> (Endpoint<'a>, Endpoint<'a>, Taken) {
        if self.is_collector() {
            return collectors_endpoints(service_name, &span.attributes);
        }
        let local = Endpoint {
            service_name,
            ..Endpoint::default()
        };
        let remote = match SpanKind::from_number(span.kind) {
            SpanKind::Client | SpanKind::Producer => specified_remote(&span.attributes),
            _ => Endpoint::default(),
        };
        let mut taken = Taken::default();
        for attribute in &span.attributes {
            if let (Value::Bool(true), [b'z', ..]) = (attribute.value, attribute.key) {
                taken.shared |= attribute.key == names::SHARED.as_bytes();
                taken.debug |= attribute.key == names::DEBUG.as_bytes();
            }
        }
        (local, remote, taken)
    }

    fn annotations<'a, O: Output>(
        &mut self,
        out: &mut Limited,
        span: &RawSpan<'a>,
        list: &mut Vec<Attribute<'a>>,
        timestamp: u64,
    ) {
        O::begin_annotations(out);
        for event in &span.events {
            if out.is_over() {
                return;
            }
            self.text.clear();
            let event = push_event(&mut self.text, event, list, self.dialect);
            out.fail_with(&self.text);
            let micros = if O::IS_JSON && self.is_collector() {
                rounded_micros(event.time)
            } else {
                event.time / NANOS_PER_MICRO
            };
            // Zipkin refuses a message for an annotation without a time.
            let micros = if micros == 0 {
                timestamp.max(1)
            } else {
                micros
            };
            O::annotation(out, micros, &self.text);
        }
        O::end_annotations(out);
    }

    /// Writes an attribute whose key is prepared.
    fn tag_of_key<O: Output>(&mut self, out: &mut Limited, key: &[u8], value: Value<'_>) {
        match value {
            Value::Text(text) => O::tag_of_key(out, key, text),
            Value::Bool(true) => O::tag_of_key(out, key, b"true"),
            Value::Bool(false) => O::tag_of_key(out, key, b"false"),
            value => {
                self.text.clear();
                push_value(&mut self.text, value, self.dialect);
                out.fail_with(&self.text);
                O::tag_of_key(out, key, &self.text);
            }
        }
    }

    fn links<'a, O: Output>(
        &mut self,
        out: &mut Limited,
        span: &RawSpan<'a>,
        list: &mut Vec<Attribute<'a>>,
    ) {
        for (number, link) in span.links.iter().enumerate() {
            if out.is_over() {
                return;
            }
            let text = &mut self.text;
            text.clear();
            text.extend_from_slice(names::LINK_PREFIX.as_bytes());
            push_int(text, number as i64);
            let key_len = text.len();
            push_link(text, link, list, self.dialect);
            out.fail_with(text);
            let (key, value) = text.split_at(key_len);
            O::tag(out, key, value);
        }
    }
}

impl Taken {
    /// Tells whether a field of the span says what the attribute says.
    pub(super) fn has(&self, attribute: &Attribute<'_>) -> bool {
        let Attribute { key, value } = *attribute;
        if let (Value::Bool(true), [b'z', ..]) = (value, key) {
            return (self.shared && key == names::SHARED.as_bytes())
                || (self.debug && key == names::DEBUG.as_bytes());
        }
        let is_it = |taken: &str| taken.as_bytes() == key;
        self.keys.iter().flatten().any(|taken| is_it(taken))
    }
}

/// Names what OTLP has fields for and Zipkin has not. [`Own`] must know which of them there are.
pub(super) fn for_each_own_tag(
    span: &RawSpan<'_>,
    dialect: Dialect,
    mut write: impl FnMut(&'static str, &[u8]),
) {
    let message = span.status_message;
    match (dialect, span.status_code) {
        (Dialect::Specification, 1) => write(names::STATUS_CODE, b"OK"),
        (Dialect::Specification, 2) => {
            write(names::STATUS_CODE, b"ERROR");
            write(names::ERROR, message);
        }
        (Dialect::Collector, 1) => write(names::STATUS_CODE, b"STATUS_CODE_OK"),
        (Dialect::Collector, 2) => {
            write(names::STATUS_CODE, b"STATUS_CODE_ERROR");
            write(names::ERROR, b"true");
        }
        _ => {}
    }
    if has_description(span, dialect) {
        write(names::STATUS_DESCRIPTION, message);
    }
    if !span.trace_state.is_empty() {
        write(names::TRACE_STATE, span.trace_state);
    }
    if SpanKind::from_number(span.kind) == SpanKind::Internal {
        write(names::SPAN_KIND, names::SPAN_KIND_INTERNAL.as_bytes());
    }
    if dialect == Dialect::Collector {
        return;
    }
    let mut digits = Limited::default();
    for (key, count) in [
        (names::DROPPED_ATTRIBUTES, span.dropped_attributes),
        (names::DROPPED_EVENTS, span.dropped_events),
        (names::DROPPED_LINKS, span.dropped_links),
    ] {
        if count != 0 {
            digits.clear();
            push_digits(&mut digits, u64::from(count));
            write(key, &digits);
        }
    }
}

/// Tells whether the status has a message that needs a tag of its own.
///
/// By the specification an error's is the text of `error`, unless that is `true`, which others write for any error.
pub(super) fn has_description(span: &RawSpan<'_>, dialect: Dialect) -> bool {
    match (dialect, span.status_code) {
        (Dialect::Specification, 1) | (Dialect::Collector, _) => !span.status_message.is_empty(),
        (Dialect::Specification, 2) => span.status_message == b"true",
        (Dialect::Specification, _) => false,
    }
}

/// The Collector: of every kind of span, and the attributes go away.
fn collectors_endpoints<'a>(
    service_name: &'a [u8],
    attributes: &[Attribute<'a>],
) -> (Endpoint<'a>, Endpoint<'a>, Taken) {
    let mut found = Endpoints::default();
    for attribute in attributes {
        found.see(attribute);
    }
    let local = Endpoint {
        service_name,
        address: found.local_address,
        port: found.host_port.or(found.local_port).unwrap_or_default(),
    };
    let peer_name = found.service_peer_name.or(found.peer_service);
    let remote = Endpoint {
        service_name: peer_name.unwrap_or_default(),
        address: found.peer_address,
        port: found.net_peer_port.or(found.peer_port).unwrap_or_default(),
    };
    let mut taken = Taken {
        keys: found.taken(),
        ..Taken::default()
    };
    let has_remote = !remote.service_name.is_empty() || remote.address.is_some();
    if has_remote {
        return (local, remote, taken);
    }
    // An endpoint of a port alone is none.
    let [.., port] = &mut taken.keys;
    *port = None;
    (local, Endpoint::default(), taken)
}

/// What the attributes of a span say about endpoints, in the Collector's dialect.
#[derive(Clone, Copy, Debug, Default)]
struct Endpoints<'a> {
    local_address: Option<IpAddr>,
    host_port: Option<u16>,
    local_port: Option<u16>,
    service_peer_name: Option<&'a [u8]>,
    peer_service: Option<&'a [u8]>,
    peer_address: Option<IpAddr>,
    net_peer_port: Option<u16>,
    peer_port: Option<u16>,
}

impl<'a> Endpoints<'a> {
    fn see(&mut self, attribute: &Attribute<'a>) {
        let value = attribute.value;
        let Ok(key) = std::str::from_utf8(attribute.key) else {
            return;
        };
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

/// The specification: the best of several attributes, which stay. Of those with the same key the first counts, as it does
/// among the tags.
fn specified_remote<'a>(attributes: &[Attribute<'a>]) -> Endpoint<'a> {
    let mut best = names::REMOTE_RANKS.len();
    let mut seen = [false; names::REMOTE_RANKS.len()];
    let mut remote = Endpoint::default();
    for attribute in attributes {
        if !may_tell_remote(attribute.key) {
            continue;
        }
        let mut ranks = names::REMOTE_RANKS.iter().enumerate().take(best);
        let Some((number, rank)) = ranks.find(|(_, rank)| rank.key.as_bytes() == attribute.key)
        else {
            continue;
        };
        if std::mem::replace(&mut seen[number], true) {
            continue;
        }
        let found = match rank.port {
            None => Endpoint {
                service_name: name(attribute.value).unwrap_or_default(),
                ..Endpoint::default()
            },
            Some(_) => Endpoint {
                address: address(attribute.value),
                ..Endpoint::default()
            },
        };
        if !found.is_empty() {
            (best, remote) = (number, found);
        }
    }
    let port_key = names::REMOTE_RANKS.get(best).and_then(|rank| rank.port);
    if let Some(key) = port_key {
        let found = attributes
            .iter()
            .find(|attribute| attribute.key == key.as_bytes());
        remote.port = found
            .and_then(|found| port(found.value))
            .unwrap_or_default();
    }
    remote
}

/// Sorts out most keys at once.
fn may_tell_remote(key: &[u8]) -> bool {
    matches!(
        key,
        [b'p', b'e', ..] | [b's', b'e', ..] | [b'n', b'e', ..] | [b'd', b'b', ..]
    )
}

fn name(value: Value<'_>) -> Option<&[u8]> {
    match value {
        Value::Text(name) if !name.is_empty() => Some(name),
        _ => None,
    }
}

/// Reads an IP address; one of IPv4 in the form of IPv6 is one of IPv4, as Zipkin has it.
fn address(value: Value<'_>) -> Option<IpAddr> {
    let Value::Text(text) = value else {
        return None;
    };
    let address: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(address.to_canonical())
}

fn port(value: Value<'_>) -> Option<u16> {
    let port = match value {
        Value::Int(port) => u16::try_from(port).ok()?,
        Value::Text(port) => std::str::from_utf8(port).ok()?.parse().ok()?,
        _ => return None,
    };
    (port != 0).then_some(port)
}

fn is_id(id: &[u8], len: usize) -> bool {
    id.len() == len && id.iter().any(|&byte| byte != 0)
}

fn kind(number: i32) -> Option<Kind> {
    match SpanKind::from_number(number) {
        SpanKind::Client => Some(Kind::Client),
        SpanKind::Server => Some(Kind::Server),
        SpanKind::Producer => Some(Kind::Producer),
        SpanKind::Consumer => Some(Kind::Consumer),
        _ => None,
    }
}

fn in_case(text: &[u8], is_lower_case: bool) -> Cow<'_, [u8]> {
    let may_change = |byte: &u8| byte.is_ascii_uppercase() || !byte.is_ascii();
    if is_lower_case && text.iter().any(may_change) {
        let lower = String::from_utf8_lossy(text).to_lowercase();
        return Cow::Owned(lower.into_bytes());
    }
    Cow::Borrowed(text)
}

fn rounded_micros(nanos: u64) -> u64 {
    nanos.saturating_add(NANOS_PER_MICRO / 2) / NANOS_PER_MICRO
}
