//! Answers on the wire: gRPC's with trailers, HTTP's in the encoding of the request.
//!
//! ```text
//!               success                                     failure
//! gRPC          200, prefix + ExportTraceServiceResponse,   200, no body, grpc-status, grpc-message,
//!               trailer grpc-status: 0                      grpc-status-details-bin with the details
//! HTTP          200, ExportTraceServiceResponse             4xx or 5xx, google.rpc.Status, Retry-After
//! Zipkin, Jaeger  202, no body                              4xx or 5xx, text, Retry-After
//! ```
//!
//! Texts are cut, so that every answer stays below the 8 KiB that peers take of headers ("OTLP/gRPC Response",
//! "OTLP/HTTP Response" ask for a bound).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;
use outspan::wire::grpc;
use outspan::wire::otlp;
use outspan::wire::otlp::PartialSuccess;

use super::failure::Failure;
use super::failure::GRPC_ENCODINGS;

/// How much text an answer has, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Full success over gRPC: the prefix of an empty message.
const GRPC_SUCCESS: Bytes = Bytes::from_static(&[0; grpc::Prefix::BYTES]);

/// Full success over HTTP with JSON.
const JSON_SUCCESS: Bytes = Bytes::from_static(b"{}");

/// How much longer spans may become that come from elsewhere: what is said in a byte or two there takes a key and a type in
/// OTLP.
const ZIPKIN_EXPANSION: usize = 5;
const THRIFT_EXPANSION: usize = 4;

/// What is held besides of one span and of the spans that are not put together yet: for each byte of the content, and in all.
const PIECE_EXPANSION: usize = 48;
const PIECE_BYTES_MIN: usize = 24 << 10;
const PIECE_BYTES_MAX: usize = 256 << 10;

/// Says how a request is written, and so its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Grpc,
    Protobuf,
    Json,
    /// A JSON array of Zipkin's spans.
    ZipkinJson,
    /// A list of Zipkin's spans in protobuf.
    ZipkinProtobuf,
    /// A batch of Jaeger's in Thrift's binary protocol.
    ThriftBinary,
    /// The same in the compact protocol.
    ThriftCompact,
    /// None of these is known; the answer is for people.
    Text,
}

/// The body of an answer: at most one piece, at most one set of trailers.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Form {
    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Grpc => "application/grpc",
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
            Self::ZipkinJson
            | Self::ZipkinProtobuf
            | Self::ThriftBinary
            | Self::ThriftCompact
            | Self::Text => "text/plain; charset=utf-8",
        })
    }

    /// How many bytes reading a content takes besides it, at most, for each of its bytes: nothing where it is kept as it
    /// came. What [`conversion`](Self::conversion) says comes on top.
    pub(super) fn expansion(self) -> usize {
        match self {
            Self::Grpc | Self::Protobuf | Self::Text => 0,
            Self::Json => 1,
            Self::ZipkinJson | Self::ZipkinProtobuf => ZIPKIN_EXPANSION,
            Self::ThriftBinary | Self::ThriftCompact => THRIFT_EXPANSION,
        }
    }

    /// How many bytes reading a content of so many bytes takes besides it.
    ///
    /// Spans of other formats are read one by one, and put together in pieces. What is held of one span, and of a piece, is a
    /// large multiple of a short content, and no more than [`PIECE_BYTES_MAX`] of a long one.
    pub(super) fn conversion(self, len: usize) -> usize {
        let piece = match self {
            Self::Grpc | Self::Protobuf | Self::Text | Self::Json => 0,
            Self::ZipkinJson | Self::ZipkinProtobuf | Self::ThriftBinary | Self::ThriftCompact => {
                len.saturating_mul(PIECE_EXPANSION)
                    .saturating_add(PIECE_BYTES_MIN)
                    .min(PIECE_BYTES_MAX)
            }
        };
        len.saturating_mul(self.expansion()).saturating_add(piece)
    }

    /// How long a content may be at most, if it and what reading it takes are to fit into `room` bytes.
    pub(super) fn len_max(self, room: usize) -> usize {
        if self.conversion(0) == 0 {
            return room / (1 + self.expansion());
        }
        let long = room.saturating_sub(PIECE_BYTES_MAX) / (1 + self.expansion());
        let short = room.saturating_sub(PIECE_BYTES_MIN) / (1 + self.expansion() + PIECE_EXPANSION);
        long.max(short)
    }

    /// Whether it is one of OTLP's.
    fn is_otlp(self) -> bool {
        matches!(self, Self::Grpc | Self::Protobuf | Self::Json)
    }

    /// An answer whose headers say its form.
    fn answer(self, status: StatusCode, body: Answer) -> Response<Answer> {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, self.content_type());
        if self == Self::Grpc {
            headers.insert(GRPC_ACCEPT_ENCODING, GRPC_ENCODINGS);
        }
        response
    }

    /// Says that everything was accepted.
    pub(super) fn success(self) -> Response<Answer> {
        match self {
            Self::Grpc => self.accepted(GRPC_SUCCESS),
            Self::Json => self.accepted(JSON_SUCCESS),
            Self::Protobuf => self.accepted(Bytes::new()),
            _ => {
                let mut response = Response::new(Answer::default());
                *response.status_mut() = StatusCode::ACCEPTED;
                response
            }
        }
    }

    /// Says that spans were accepted, and what there is to say of those that were not.
    pub(super) fn accepted_with(self, partial: Option<PartialSuccess>) -> Response<Answer> {
        match partial {
            None => self.success(),
            Some(partial) => self.partial_success(partial),
        }
    }

    /// Says that spans were accepted, and what else there is to say.
    pub(super) fn partial_success(self, mut partial: PartialSuccess) -> Response<Answer> {
        partial.shorten(TEXT_BYTES_MAX);
        let mut message = Vec::new();
        match self {
            Self::Json => otlp::write_json_response(&partial, &mut message),
            Self::Grpc | Self::Protobuf => otlp::write_response(&partial, &mut message),
            _ => write_text(&partial.error_message, &mut message),
        }
        if self == Self::Grpc {
            let prefix = grpc::Prefix {
                compressed: false,
                // The text is bounded, so the message is.
                length: u32::try_from(message.len()).unwrap_or(u32::MAX),
            };
            message.splice(..0, prefix.write());
        }
        self.accepted(message.into())
    }

    fn accepted(self, data: Bytes) -> Response<Answer> {
        let trailers = (self == Self::Grpc).then(|| {
            let mut trailers = HeaderMap::with_capacity(1);
            trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
            trailers
        });
        let data = (!data.is_empty()).then_some(data);
        let status = match self.is_otlp() {
            true => StatusCode::OK,
            false => StatusCode::ACCEPTED,
        };
        self.answer(status, Answer { data, trailers })
    }

    /// Says why nothing was accepted.
    pub(super) fn failure(self, mut failure: Box<Failure>) -> Response<Answer> {
        failure.status.shorten(TEXT_BYTES_MAX);
        match self {
            Self::Grpc => self.grpc_failure(&failure),
            _ => self.http_failure(*failure),
        }
    }

    /// An answer without a body, whose headers are its trailers ("gRPC over HTTP2", "Trailers-Only").
    fn grpc_failure(self, failure: &Failure) -> Response<Answer> {
        let status = &failure.status;
        let mut response = self.answer(StatusCode::OK, Answer::default());
        let headers = response.headers_mut();
        let code = grpc::Code::from_number(status.code).unwrap_or(grpc::Code::Unknown);
        headers.insert(GRPC_STATUS, HeaderValue::from_static(code.digits()));
        insert_text(headers, GRPC_MESSAGE, grpc::write_message(&status.message));
        if status.retry_delay.is_some() || !status.violations.is_empty() {
            let mut details = Vec::new();
            otlp::write_status(status, &mut details);
            insert_text(headers, GRPC_DETAILS, grpc::write_binary(&details));
        }
        response
    }

    fn http_failure(self, failure: Failure) -> Response<Answer> {
        let status = failure.status;
        let mut body = Vec::new();
        match self {
            Self::Protobuf => otlp::write_status(&status, &mut body),
            Self::Json => otlp::write_json_status(&status, &mut body),
            _ => write_text(&status.message, &mut body),
        }
        let body = Answer {
            data: Some(body.into()),
            trailers: None,
        };
        let mut response = self.answer(failure.http, body);
        let headers = response.headers_mut();
        if let Some(wait) = status.retry_delay {
            // Whole seconds only, and none would mean at once (RFC 9110, 10.2.3).
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        headers.extend(failure.header);
        response
    }
}

/// Writes a text for people.
fn write_text(text: &str, into: &mut Vec<u8>) {
    into.extend_from_slice(text.as_bytes());
    into.push(b'\n');
}

/// Inserts a text that the wire format made fit for a header.
fn insert_text(headers: &mut HeaderMap, name: HeaderName, text: String) {
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(name, value);
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready(
            self.trailers
                .take()
                .map(|trailers| Ok(Frame::trailers(trailers))),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        // With trailers there is no `content-length`: gRPC's answers never have one.
        match self.trailers {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partial() -> PartialSuccess {
        PartialSuccess {
            rejected_spans: 1,
            error_message: "one has no name".to_owned(),
        }
    }

    /// A stream that ends with its headers is how gRPC says "Trailers-Only"; with an empty frame after them, Go takes the
    /// status for missing.
    #[test]
    fn an_answer_without_a_body_ends_with_its_headers() {
        let no_message = || Failure::no_message();
        assert!(Form::Grpc.failure(no_message()).body().is_end_stream());
        assert!(Form::Protobuf.success().body().is_end_stream());
        assert!(Form::ZipkinJson.success().body().is_end_stream());
        for answer in [
            Form::Grpc.success(),
            Form::Json.success(),
            Form::Protobuf.partial_success(partial()),
            Form::Text.failure(no_message()),
        ] {
            assert!(!answer.body().is_end_stream(), "{answer:?}");
        }
    }

    #[test]
    fn only_answers_without_trailers_say_how_long_they_are() {
        let length = |answer: &Response<Answer>| answer.body().size_hint().exact();
        assert_eq!(length(&Form::Json.success()), Some(2));
        assert_eq!(length(&Form::Protobuf.success()), Some(0));
        let failure = Form::Text.failure(Failure::no_message());
        let text = failure.body().data.clone().expect("it says why");
        assert_eq!(length(&failure), Some(text.len() as u64));
        assert_eq!(length(&Form::Grpc.success()), None);
        assert_eq!(length(&Form::Grpc.partial_success(partial())), None);
    }
}
