//! Spans as `zipkin.proto` has them.
//!
//! ```text
//! ListOfSpans = 1 repeated Span
//! Span        = 1 trace_id (16 bytes)  2 parent_id (8 bytes)  3 id (8 bytes)  4 kind  5 name
//!               6 fixed64 timestamp  7 duration  8 local Endpoint  9 remote Endpoint
//!               10 repeated Annotation  11 map of tags  12 debug  13 shared
//! Endpoint    = 1 service_name  2 ipv4 (4 bytes)  3 ipv6 (16 bytes)  4 port
//! Annotation  = 1 fixed64 timestamp  2 value
//! ```
//!
//! Source: `zipkin.proto` of openzipkin/zipkin-api. Times are in microseconds.

use std::net::IpAddr;

use super::output::Endpoint;
use super::output::Head;
use super::output::Kind;
use super::output::Output;
use crate::buffer::Buffer;
use crate::buffer::Limited;
use crate::otlp::reader::WireType;
use crate::otlp::writer::OpenMessage;
use crate::otlp::writer::close;
use crate::otlp::writer::delimited_len;
use crate::otlp::writer::open;
use crate::otlp::writer::push_bytes;
use crate::otlp::writer::push_fixed64;
use crate::otlp::writer::push_uint;
use crate::otlp::writer::push_varint;
use crate::otlp::writer::short_tag;
use crate::zipkin::fields::annotation;
use crate::zipkin::fields::endpoint;
use crate::zipkin::fields::list;
use crate::zipkin::fields::span;
use crate::zipkin::fields::tag;

/// Likely width of a span's length: two bytes serve from 128 bytes to 16 KiB.
const SPAN_LENGTH_WIDTH: usize = 2;

/// Writes protobuf.
#[derive(Debug)]
pub(super) struct Protobuf;

impl Output for Protobuf {
    const BEFORE: &'static [u8] = b"";
    const IS_JSON: bool = false;

    type Open = OpenMessage;

    fn begin_span(out: &mut Limited, head: &Head<'_>) -> OpenMessage {
        let message = open(out, list::SPANS, SPAN_LENGTH_WIDTH);
        push_bytes(out, span::TRACE_ID, head.trace_id);
        if let Some(parent_id) = head.parent_id {
            push_bytes(out, span::PARENT_ID, parent_id);
        }
        push_bytes(out, span::ID, head.id);
        if let Some(kind) = head.kind {
            let number = match kind {
                Kind::Client => 1,
                Kind::Server => 2,
                Kind::Producer => 3,
                Kind::Consumer => 4,
            };
            push_uint(out, span::KIND, number);
        }
        push_text(out, span::NAME, head.name);
        if head.timestamp != 0 {
            push_fixed64(out, span::TIMESTAMP, head.timestamp);
        }
        if head.duration != 0 {
            push_uint(out, span::DURATION, head.duration);
        }
        push_endpoint(out, span::LOCAL_ENDPOINT, &head.local);
        push_endpoint(out, span::REMOTE_ENDPOINT, &head.remote);
        message
    }

    fn begin_annotations(_: &mut Limited) {}

    fn annotation(out: &mut Limited, timestamp: u64, value: &[u8]) {
        let message = open(out, span::ANNOTATIONS, 1);
        push_fixed64(out, annotation::TIMESTAMP, timestamp);
        push_bytes(out, annotation::VALUE, value);
        close(out, message);
    }

    fn end_annotations(_: &mut Limited) {}

    fn begin_tags(_: &mut Limited) {}

    fn prepare_key(out: &mut Limited, key: &[u8]) {
        push_bytes(out, tag::KEY, key);
        out.push(const { short_tag(tag::VALUE, WireType::Bytes) });
    }

    #[inline]
    fn tag_of_key(out: &mut Limited, prepared: &[u8], value: &[u8]) {
        out.push(const { short_tag(span::TAGS, WireType::Bytes) });
        push_varint(out, (prepared.len() + delimited_len(value.len())) as u64);
        out.extend_from_slice(prepared);
        push_varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }

    fn tag(out: &mut Limited, key: &[u8], value: &[u8]) {
        let len = 2 + delimited_len(key.len()) + delimited_len(value.len());
        out.push(const { short_tag(span::TAGS, WireType::Bytes) });
        push_varint(out, len as u64);
        push_bytes(out, tag::KEY, key);
        push_bytes(out, tag::VALUE, value);
    }

    fn end_tags(_: &mut Limited) {}

    fn end_span(out: &mut Limited, open: OpenMessage, debug: bool, shared: bool) -> isize {
        if debug {
            push_uint(out, span::DEBUG, 1);
        }
        if shared {
            push_uint(out, span::SHARED, 1);
        }
        let end = out.len();
        close(out, open);
        // The length is not always as wide as was expected.
        out.len() as isize - end as isize
    }

    fn finish(_: &mut Limited) {}
}

fn push_endpoint(out: &mut Limited, field: u32, value: &Endpoint<'_>) {
    if value.is_empty() {
        return;
    }
    let message = open(out, field, 1);
    push_text(out, endpoint::SERVICE_NAME, value.service_name);
    match value.address {
        Some(IpAddr::V4(address)) => push_bytes(out, endpoint::IPV4, &address.octets()),
        Some(IpAddr::V6(address)) => push_bytes(out, endpoint::IPV6, &address.octets()),
        None => {}
    }
    if value.port != 0 {
        push_uint(out, endpoint::PORT, u64::from(value.port));
    }
    close(out, message);
}

fn push_text(out: &mut Limited, field: u32, text: &[u8]) {
    if !text.is_empty() {
        push_bytes(out, field, text);
    }
}
