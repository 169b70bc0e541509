//! What a request is, by its head.

use http::HeaderValue;
use http::Method;
use http::Version;
use http::header;
use http::request::Parts;

use super::answer::Form;
use super::failure::Failure;
use super::inflate::Encoding;

const TRACES: &str = "/v1/traces";
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Says what a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Traces,
    /// Another signal of OTLP, which we do not take.
    Other(&'static str),
    Unknown,
}

/// Tells how a request is written, and whether there is anything at its path that takes it.
pub(super) fn route(head: &Parts, has_cors: bool) -> (Form, Result<(), Box<Failure>>) {
    let given = head.headers.get(header::CONTENT_TYPE);
    let media = media_type(given);
    if starts_with(media, b"application/grpc") {
        return grpc(head, media);
    }
    let form = if media.eq_ignore_ascii_case(b"application/x-protobuf") {
        Form::Protobuf
    } else if media.eq_ignore_ascii_case(b"application/json") {
        Form::Json
    } else {
        Form::Text
    };
    (form, http(head, form, given, has_cors))
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
    (Form::Grpc, place.check(path))
}

fn http(
    head: &Parts,
    form: Form,
    given: Option<&HeaderValue>,
    has_cors: bool,
) -> Result<(), Box<Failure>> {
    let path = head.uri.path();
    let place = match path {
        // A call of gRPC without its content type is told so.
        TRACES | EXPORT => Place::Traces,
        "/v1/metrics" => Place::Other("metrics"),
        "/v1/logs" => Place::Other("logs"),
        "/v1/profiles" | "/v1development/profiles" => Place::Other("profiles"),
        _ => Place::Unknown,
    };
    place.check(path)?;
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
        Form::Protobuf | Form::Json => Ok(()),
        Form::Text | Form::Grpc => Err(Failure::content_type(given)),
    }
}

impl Place {
    fn check(self, path: &str) -> Result<(), Box<Failure>> {
        match self {
            Self::Traces => Ok(()),
            Self::Other(signal) => Err(Failure::other_signal(signal)),
            Self::Unknown => Err(Failure::not_found(path)),
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
