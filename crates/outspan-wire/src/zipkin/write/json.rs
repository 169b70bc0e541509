//! Spans as JSON, with the keys in the order in which Zipkin's own encoder writes them.

use std::net::IpAddr;

use super::output::Endpoint;
use super::output::Head;
use super::output::Kind;
use super::output::Output;
use crate::buffer::Buffer;
use crate::buffer::Limited;
use crate::json::push_digits;
use crate::json::push_escaped_utf8;

const ANNOTATIONS: &[u8] = b",\"annotations\":[";
const TAGS: &[u8] = b",\"tags\":{";

/// Writes JSON. Every span ends with a comma, of which the last one becomes the end of the array.
#[derive(Debug)]
pub(super) struct Json;

impl Output for Json {
    const BEFORE: &'static [u8] = b"[";
    const IS_JSON: bool = true;

    type Open = ();

    fn begin_span(out: &mut Limited, head: &Head<'_>) {
        out.extend_from_slice(b"{\"traceId\":\"");
        match head.trace_id {
            [0, 0, 0, 0, 0, 0, 0, 0, low @ ..] if head.short_trace_id => push_hex(out, low),
            id => push_hex(out, id),
        }
        if let Some(parent_id) = head.parent_id {
            out.extend_from_slice(b"\",\"parentId\":\"");
            push_hex(out, parent_id);
        }
        out.extend_from_slice(b"\",\"id\":\"");
        push_hex(out, head.id);
        out.push(b'"');
        if let Some(kind) = head.kind {
            out.extend_from_slice(match kind {
                Kind::Client => b",\"kind\":\"CLIENT\"",
                Kind::Server => b",\"kind\":\"SERVER\"",
                Kind::Producer => b",\"kind\":\"PRODUCER\"",
                Kind::Consumer => b",\"kind\":\"CONSUMER\"",
            });
        }
        if !head.name.is_empty() {
            out.extend_from_slice(b",\"name\":\"");
            push_escaped_utf8(out, head.name);
            out.push(b'"');
        }
        push_number(out, b",\"timestamp\":", head.timestamp);
        push_number(out, b",\"duration\":", head.duration);
        push_endpoint(out, b",\"localEndpoint\":{", &head.local);
        push_endpoint(out, b",\"remoteEndpoint\":{", &head.remote);
    }

    fn begin_annotations(out: &mut Limited) {
        out.extend_from_slice(ANNOTATIONS);
    }

    fn annotation(out: &mut Limited, timestamp: u64, value: &[u8]) {
        out.extend_from_slice(b"{\"timestamp\":");
        push_digits(out, timestamp);
        out.extend_from_slice(b",\"value\":\"");
        push_escaped_utf8(out, value);
        out.extend_from_slice(b"\"},");
    }

    fn end_annotations(out: &mut Limited) {
        end_list(out, ANNOTATIONS, b']');
    }

    fn begin_tags(out: &mut Limited) {
        out.extend_from_slice(TAGS);
    }

    fn prepare_key(out: &mut Limited, key: &[u8]) {
        out.push(b'"');
        push_escaped_utf8(out, key);
        out.extend_from_slice(b"\":\"");
    }

    #[inline]
    fn tag_of_key(out: &mut Limited, prepared: &[u8], value: &[u8]) {
        out.extend_from_slice(prepared);
        push_escaped_utf8(out, value);
        out.extend_from_slice(b"\",");
    }

    fn tag(out: &mut Limited, key: &[u8], value: &[u8]) {
        Self::prepare_key(out, key);
        Self::tag_of_key(out, &[], value);
    }

    fn end_tags(out: &mut Limited) {
        end_list(out, TAGS, b'}');
    }

    fn end_span(out: &mut Limited, (): (), debug: bool, shared: bool) -> isize {
        if debug {
            out.extend_from_slice(b",\"debug\":true");
        }
        if shared {
            out.extend_from_slice(b",\"shared\":true");
        }
        out.extend_from_slice(b"},");
        0
    }

    fn finish(message: &mut Limited) {
        if let Some(last) = message.last_mut() {
            *last = b']';
        }
    }
}

/// Puts the end of a list in the place of the last comma, or takes an empty list away.
fn end_list(out: &mut Limited, begin: &[u8], end: u8) {
    if out.is_over() {
        // The end at hand may be that of something else.
        return;
    }
    if out.ends_with(begin) {
        out.truncate(out.len() - begin.len());
        return;
    }
    if let Some(comma) = out.last_mut() {
        *comma = end;
    }
}

fn push_endpoint(out: &mut Limited, begin: &[u8], endpoint: &Endpoint<'_>) {
    if endpoint.is_empty() {
        return;
    }
    out.extend_from_slice(begin);
    if !endpoint.service_name.is_empty() {
        out.extend_from_slice(b"\"serviceName\":\"");
        push_escaped_utf8(out, endpoint.service_name);
        out.extend_from_slice(b"\",");
    }
    if let Some(address) = endpoint.address {
        let key = match address {
            IpAddr::V4(_) => "ipv4",
            IpAddr::V6(_) => "ipv6",
        };
        out.push_fmt(format_args!("\"{key}\":\"{address}\","));
    }
    if endpoint.port != 0 {
        push_number(out, b"\"port\":", u64::from(endpoint.port));
        out.push(b',');
    }
    end_list(out, begin, b'}');
}

fn push_number(out: &mut Limited, key: &[u8], number: u64) {
    if number != 0 {
        out.extend_from_slice(key);
        push_digits(out, number);
    }
}

/// Appends up to 16 bytes as hexadecimal digits.
fn push_hex(out: &mut Limited, id: &[u8]) {
    let mut text = [0; 32];
    let mut len = 0;
    for (pair, &byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(id) {
        *pair = hex_digits(byte);
        len += 2;
    }
    out.extend_from_slice(text.get(..len).unwrap_or_default());
}

/// Returns the two lower-case hexadecimal digits of a byte.
pub(super) fn hex_digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 0x0F)],
    ]
}
