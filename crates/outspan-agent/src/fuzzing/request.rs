//! Requests made of bytes.
//!
//! ```text
//! shape(4 bytes) [text] piece-length body
//! shape = method, version and protocol, path, content type, compression and end
//! ```
//!
//! Most values of a byte choose something that exists, so that inputs get far; one takes a text from the input instead.

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Version;
use outspan::wire::grpc::Prefix;

use super::body::End;
use super::body::Script;
use crate::receivers::Protocol;

const PATHS: [&str; 8] = [
    "/v1/traces",
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "/v1/logs",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "/",
    "/api/v2/spans",
    "/api/traces",
    "/api/v1/spans",
];

const CONTENT_TYPES: [&str; 8] = [
    "application/grpc",
    "application/x-protobuf",
    "application/json",
    "application/grpc+json",
    "application/grpc-web",
    "text/plain",
    "application/x-thrift",
    "application/vnd.apache.thrift.compact",
];

const ENCODINGS: [&str; 6] = ["identity", "gzip", "deflate", "zstd", "x-gzip", "br"];

/// The longest text that is taken from the input.
const TEXT_BYTES_MAX: usize = 64;

/// Takes an input apart.
struct Input<'a>(&'a [u8]);

/// Reads a request, and what is spoken where it comes to; nothing if the input is too short for one or makes a head that
/// HTTP does not have.
pub(super) fn read(input: &[u8]) -> Option<(Protocol, Request<Script>)> {
    let mut input = Input(input);
    let how = input.byte()?;
    let method = match how & 7 {
        6 => Method::OPTIONS,
        7 => Method::GET,
        _ => Method::POST,
    };
    let version = if how & 8 == 0 {
        Version::HTTP_2
    } else {
        Version::HTTP_11
    };
    let has_prefix = how & 16 == 0;
    let is_compressed = how & 32 != 0;
    let protocol = match how >> 6 {
        1 => Protocol::Zipkin,
        2 => Protocol::Jaeger,
        _ => Protocol::Otlp,
    };
    let path = input.choose(&PATHS)?;
    let content_type = input.choose(&CONTENT_TYPES)?;
    let encoding = input.choose(&ENCODINGS)?;
    let mut request = Request::builder().method(method).version(version);
    request = request.uri(std::str::from_utf8(path).ok()?);
    for (name, value) in [
        ("content-type", content_type),
        ("content-encoding", encoding),
        ("grpc-encoding", encoding),
        ("grpc-timeout", content_type),
        ("origin", &b"https://a.example"[..]),
        ("access-control-request-method", b"POST"),
        ("access-control-request-headers", content_type),
    ] {
        request = request.header(name, HeaderValue::from_bytes(value).ok()?);
    }
    let shape = input.byte()?;
    let end = match shape >> 6 {
        2 => End::Error,
        // It takes a millisecond each, so it is rare.
        3 if shape & 0x30 == 0 => End::Stalls,
        _ => End::Whole,
    };
    let mut body = input.0.to_vec();
    if has_prefix {
        let prefix = Prefix {
            compressed: is_compressed,
            length: u32::try_from(body.len()).ok()?,
        };
        body.splice(..0, prefix.write());
    }
    let piece = match shape & 0xF {
        0 => body.len().max(1),
        length => usize::from(length) * usize::from(length),
    };
    let pieces = body.chunks(piece).map(Bytes::copy_from_slice).collect();
    let size = (shape & 0x10 != 0).then_some(body.len() as u64);
    let request = request.body(Script { pieces, size, end }).ok()?;
    Some((protocol, request))
}

/// An input whose request carries this body: with the shape's bytes for method and protocol, path and content type.
#[cfg(test)]
pub(super) fn written(how: u8, path: u8, content_type: u8, body: &[u8]) -> Vec<u8> {
    [&[how, path, content_type, 0, 7][..], body].concat()
}

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// One of the choices, or a text of the input's own.
    fn choose(&mut self, choices: &[&'static str]) -> Option<&'a [u8]> {
        let chosen = usize::from(self.byte()?);
        if chosen != usize::from(u8::MAX) {
            return choices
                .get(chosen % choices.len())
                .map(|text| text.as_bytes());
        }
        let length = usize::from(self.byte()?) % TEXT_BYTES_MAX;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }
}
