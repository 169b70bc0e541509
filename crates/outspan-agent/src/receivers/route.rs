//! What a request is, by its head.

use http::HeaderValue;
use http::Method;
use http::Version;
use http::header;
use http::request::Parts;

use super::answer::Form;
use super::failure::Failure;
use super::inflate::Encoding;
use super::listen::Protocol;

const TRACES: &str = "/v1/traces";
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const ZIPKIN_SPANS: &str = "/api/v2/spans";
const JAEGER_TRACES: &str = "/api/traces";

/// Says what a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Traces,
    /// Another signal of OTLP, which we do not take.
    Other(&'static str),
    /// Zipkin's format of old.
    ZipkinV1,
    Unknown,
}

/// Tells how a request is written, and whether there is anything at its path that takes it.
pub(super) fn route(
    protocol: Protocol,
    head: &Parts,
    has_cors: bool,
) -> (Form, Result<(), Box<Failure>>) {
    let given = head.headers.get(header::CONTENT_TYPE);
    let media = media_type(given);
    match (protocol, starts_with(media, b"application/grpc")) {
        (Protocol::Otlp, true) => return grpc(head, media),
        (Protocol::Zipkin | Protocol::Jaeger, true) => {
            return (Form::Text, Err(Failure::grpc_elsewhere()));
        }
        (_, false) => {}
    }
    let form = form_of(protocol, media);
    let place = Place::of(protocol, head.uri.path());
    (form, http(protocol, place, head, form, has_cors))
}

/// How a body is written, by its media type.
fn form_of(protocol: Protocol, media: &[u8]) -> Form {
    let is = |name: &str| media.eq_ignore_ascii_case(name.as_bytes());
    match protocol {
        Protocol::Otlp if is("application/x-protobuf") => Form::Protobuf,
        Protocol::Otlp if is("application/json") => Form::Json,
        Protocol::Zipkin if is("application/x-protobuf") => Form::ZipkinProtobuf,
        // Zipkin's server takes what has no type for JSON.
        Protocol::Zipkin if is("application/json") || media.is_empty() => Form::ZipkinJson,
        Protocol::Jaeger if is("application/x-thrift") => Form::ThriftBinary,
        Protocol::Jaeger if is("application/vnd.apache.thrift.binary") => Form::ThriftBinary,
        Protocol::Jaeger if is("application/vnd.apache.thrift.compact") => Form::ThriftCompact,
        _ => Form::Text,
    }
}

fn grpc(head: &Parts, media: &[u8]) -> (Form, Result<(), Box<Failure>>) {
    let subtype = media.get(b"application/grpc".len()..).unwrap_or_default();
    if starts_with(subtype, b"-web") {
        return (Form::Text, Err(Failure::grpc_web()));
    }
    if head.version != Version::HTTP_2 {
        return (Form::Text, Err(Failure::grpc_version()));
    }
    if head.method != Method::POST {
        return (Form::Text, Err(Failure::method("POST")));
    }
    if !subtype.is_empty() && !subtype.eq_ignore_ascii_case(b"+proto") {
        return (Form::Grpc, Err(Failure::grpc_subtype(media)));
    }
    let path = head.uri.path();
    let place = match path {
        EXPORT => Place::Traces,
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => {
            Place::Other("metrics")
        }
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Place::Other("logs"),
        _ if path.starts_with("/opentelemetry.proto.collector.profiles.") => {
            Place::Other("profiles")
        }
        _ => Place::Unknown,
    };
    (Form::Grpc, place.check(Protocol::Otlp, path))
}

fn http(
    protocol: Protocol,
    place: Place,
    head: &Parts,
    form: Form,
    has_cors: bool,
) -> Result<(), Box<Failure>> {
    let path = head.uri.path();
    place.check(protocol, path)?;
    if path == EXPORT {
        return Err(Failure::not_grpc());
    }
    if head.method != Method::POST {
        return Err(Failure::method(match has_cors {
            true => "POST, OPTIONS",
            false => "POST",
        }));
    }
    match form {
        Form::Text | Form::Grpc => {
            let given = head.headers.get(header::CONTENT_TYPE);
            Err(Failure::content_type(protocol, given))
        }
        _ => Ok(()),
    }
}

impl Place {
    /// What is at a path over HTTP.
    fn of(protocol: Protocol, path: &str) -> Self {
        match (protocol, path) {
            // A call of gRPC without its content type is told so.
            (Protocol::Otlp, TRACES | EXPORT) => Self::Traces,
            (Protocol::Otlp, "/v1/metrics") => Self::Other("metrics"),
            (Protocol::Otlp, "/v1/logs") => Self::Other("logs"),
            (Protocol::Otlp, "/v1/profiles" | "/v1development/profiles") => Self::Other("profiles"),
            (Protocol::Zipkin, ZIPKIN_SPANS) => Self::Traces,
            (Protocol::Zipkin, "/api/v1/spans") => Self::ZipkinV1,
            (Protocol::Jaeger, JAEGER_TRACES) => Self::Traces,
            _ => Self::Unknown,
        }
    }

    fn check(self, protocol: Protocol, path: &str) -> Result<(), Box<Failure>> {
        match self {
            Self::Traces => Ok(()),
            Self::Other(signal) => Err(Failure::other_signal(signal)),
            Self::ZipkinV1 => Err(Failure::zipkin_v1()),
            Self::Unknown => Err(Failure::not_found(protocol, path)),
        }
    }
}

/// How the body of a request over HTTP is compressed. One compression at most: nobody sends two.
pub(super) fn content_encoding(head: &Parts) -> Result<Encoding, Box<Failure>> {
    let mut encoding = Encoding::Identity;
    for value in head.headers.get_all(header::CONTENT_ENCODING) {
        for name in value.as_bytes().split(|byte| *byte == b',') {
            match Encoding::named(name) {
                Some(Encoding::Identity) => {}
                Some(named) if encoding == Encoding::Identity => encoding = named,
                Some(_) => return Err(Failure::encoding(value.as_bytes())),
                None => return Err(Failure::encoding(name.trim_ascii())),
            }
        }
    }
    Ok(encoding)
}

/// The media type without its parameters.
fn media_type(given: Option<&HeaderValue>) -> &[u8] {
    let Some(given) = given else {
        return b"";
    };
    let mut parts = given.as_bytes().split(|byte| *byte == b';');
    parts.next().unwrap_or_default().trim_ascii()
}

fn starts_with(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len())
        .is_some_and(|text| text.eq_ignore_ascii_case(start))
}
