//! Reads and answers gRPC calls with tonic's framing, and writes what tonic never would by hand.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use bytes::Buf;
use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::Code;
use tonic::Status;
use tonic::codec::CompressionEncoding;
use tonic::codec::DecodeBuf;
use tonic::codec::Decoder;
use tonic::codec::EncodeBody;
use tonic::codec::SingleMessageCompressionOverride;
use tonic::codec::Streaming;
use tonic_prost::ProstEncoder;
use tonic_types::ErrorDetails;
use tonic_types::StatusExt;

use super::Answer;
use super::CollectedRequest;
use super::Compression;
use super::Disconnect;
use super::Garbage;
use super::Outcome;
use super::RetryDelay;
use super::connection::AnswerBody;
use super::connection::Connection;
use super::shared::Shared;
use super::verdict::CutBody;
use super::verdict::Verdict;
use super::verdict::decide;
use super::verdict::delay_left;
use super::verdict::gzip_bomb;
use super::verdict::oversize;
use super::verdict::vanish;

/// The full method of OTLP's trace service.
pub(super) const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The largest message, compressed or not: more than any test sends at once.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// The flag and the length in front of each message.
const PREFIX_BYTES: usize = 5;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

pub(super) async fn answer(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    peer: Option<String>,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    if let Err(status) = check(shared, &request) {
        shared.complain(format!("not a call of the trace service: {status}"));
        return of_status(&status);
    }
    let answer = shared.next_answer();
    if matches!(answer, Answer::Disconnect(Disconnect::BeforeReading)) {
        return vanish(connection).await;
    }
    let accepts = accepted_encoding(request.headers(), shared.compress_answers)
        .or_else(|| encoding_of_request(request.headers()));
    let request = match read(connection, peer, request).await {
        Ok(request) => request,
        Err(status) => {
            shared.complain(format!("tonic cannot read the request: {status}"));
            return of_status(&status);
        }
    };
    match decide(shared, connection, answer, request).await {
        Verdict::Taken(response) => of_message(response, accepts),
        Verdict::Error {
            code,
            message,
            delay,
        } => of_status(&error(code.grpc, message, delay)),
        Verdict::Cut => {
            let first = frame(0, 100, b"\x0a\x02");
            framed(CutBody::new(first, connection).boxed_unsync())
        }
        Verdict::Garbage(garbage) => of_garbage(garbage),
    }
}

/// Checks what tells a gRPC call of the trace service from another request.
fn check(shared: &Shared, request: &Request<Incoming>) -> Result<(), Status> {
    let path = request.uri().path();
    if path != shared.path {
        return Err(Status::unimplemented(format!("there is no {path}")));
    }
    if request.method() != http::Method::POST {
        let method = request.method();
        return Err(Status::internal(format!(
            "the method is {method}, not POST"
        )));
    }
    let content_type = text(request.headers(), &http::header::CONTENT_TYPE);
    if !content_type.starts_with("application/grpc") {
        let message = format!("the content type is {content_type:?}, not application/grpc");
        return Err(Status::internal(message));
    }
    // gRPC over HTTP/2: a call without `te: trailers` has met a proxy that drops trailers.
    if text(request.headers(), &http::header::TE) != "trailers" {
        return Err(Status::internal("the header te: trailers is missing"));
    }
    Ok(())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or("")
}

async fn read(
    connection: &Connection,
    peer: Option<String>,
    request: Request<Incoming>,
) -> Result<CollectedRequest, Status> {
    let (parts, body) = request.into_parts();
    let encoding = encoding_of(text(&parts.headers, &ENCODING))?;
    let wire_bytes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&wire_bytes);
    let body = body.map_frame(move |frame| {
        let length = frame.data_ref().map_or(0, Bytes::len);
        counted.fetch_add(length, Ordering::Relaxed);
        frame
    });
    let limit = Some(MESSAGE_BYTES_MAX);
    let mut messages = Streaming::new_request(KeepingDecoder, body, encoding, limit);
    let message = messages.message().await?;
    let (message, body) = message.ok_or_else(|| Status::internal("there is no message"))?;
    if messages.message().await?.is_some() {
        return Err(Status::internal("there is more than one message"));
    }
    Ok(CollectedRequest {
        connection: connection.number,
        peer,
        version: parts.version,
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        wire_bytes: wire_bytes
            .load(Ordering::Relaxed)
            .saturating_sub(PREFIX_BYTES),
        message,
        body,
        at: Instant::now(),
        outcome: Outcome::Pending,
    })
}

fn encoding_of(name: &str) -> Result<Option<CompressionEncoding>, Status> {
    match name {
        "" | "identity" => Ok(None),
        "gzip" => Ok(Some(CompressionEncoding::Gzip)),
        "zstd" => Ok(Some(CompressionEncoding::Zstd)),
        other => Err(Status::unimplemented(format!("no compression {other:?}"))),
    }
}

/// Says how to compress an answer: as the collector is told, if the client can read it.
fn accepted_encoding(
    headers: &HeaderMap,
    wanted: Option<Compression>,
) -> Option<CompressionEncoding> {
    let wanted = wanted?;
    let accepted = headers.get("grpc-accept-encoding")?.to_str().ok()?;
    let accepts = |name: &str| accepted.split(',').any(|each| each.trim() == name);
    if !accepts(wanted.name()) {
        return None;
    }
    match wanted {
        Compression::Gzip => Some(CompressionEncoding::Gzip),
        Compression::Zstd => Some(CompressionEncoding::Zstd),
    }
}

/// The compression of the request, in which servers in Go answer, whatever the client says it accepts.
fn encoding_of_request(headers: &HeaderMap) -> Option<CompressionEncoding> {
    encoding_of(text(headers, &ENCODING)).ok().flatten()
}

/// Decodes with prost, and keeps the bytes it decoded.
struct KeepingDecoder;

impl Decoder for KeepingDecoder {
    type Item = (Bytes, ExportTraceServiceRequest);
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let message = buffer.copy_to_bytes(buffer.remaining());
        let request = ExportTraceServiceRequest::decode(message.clone())
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some((message, request)))
    }
}

fn error(code: u16, message: String, delay: Option<RetryDelay>) -> Status {
    let code = Code::from_i32(i32::from(code));
    let Some(delay) = delay else {
        return Status::new(code, message);
    };
    match delay_left(&delay) {
        Some(delay) => with_retry_info(code, message, delay),
        None => Status::with_details(code, message, Bytes::from_static(b"\xff\xff soon")),
    }
}

fn with_retry_info(code: Code, message: String, delay: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(delay));
    Status::with_error_details(code, message, details)
}

fn of_status(status: &Status) -> Response<AnswerBody> {
    let response: Response<tonic::body::Body> = status.clone().into_http();
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

fn of_message(
    response: ExportTraceServiceResponse,
    encoding: Option<CompressionEncoding>,
) -> Response<AnswerBody> {
    let body = EncodeBody::new_server(
        ProstEncoder::<ExportTraceServiceResponse>::default(),
        futures_util::stream::iter([Ok(response)]),
        encoding,
        SingleMessageCompressionOverride::default(),
        None,
    );
    let mut answer = framed(body.map_err(Into::into).boxed_unsync());
    if let Some(encoding) = encoding {
        let value = HeaderValue::from_static(match encoding {
            CompressionEncoding::Gzip => "gzip",
            _ => "zstd",
        });
        answer.headers_mut().insert(ENCODING, value);
    }
    answer
}

fn of_garbage(garbage: Garbage) -> Response<AnswerBody> {
    let empty = ExportTraceServiceResponse::default().encode_to_vec();
    let sound = frame(0, empty.len(), &empty);
    match garbage {
        Garbage::Message => {
            let nonsense = b"\xff\xff\xff\xff not protobuf";
            framed(with_status(frame(0, nonsense.len(), nonsense), "0"))
        }
        Garbage::Html(status) => html(status),
        Garbage::ContentType => {
            let mut answer = framed(with_status(sound, "0"));
            let plain = HeaderValue::from_static("text/plain");
            answer
                .headers_mut()
                .insert(http::header::CONTENT_TYPE, plain);
            answer
        }
        Garbage::Truncated => framed(with_status(frame(0, 100, b"\x0a\x02"), "0")),
        Garbage::Oversize(bytes) => of_message(oversize(bytes), None),
        Garbage::Bomb(zeros) => {
            let packed = gzip_bomb(zeros);
            let body = with_status(frame(1, packed.len(), &packed), "0");
            let mut answer = framed(body);
            let gzip = HeaderValue::from_static("gzip");
            answer.headers_mut().insert(ENCODING, gzip);
            answer
        }
        Garbage::Empty => {
            let mut answer = framed(whole(Bytes::new()));
            let zero = HeaderValue::from_static("0");
            answer.headers_mut().insert(STATUS, zero);
            answer
        }
        Garbage::NoStatus => framed(whole(sound)),
        Garbage::UnknownStatus => {
            let mut answer = framed(whole(Bytes::new()));
            let headers = answer.headers_mut();
            headers.insert(STATUS, HeaderValue::from_static("99"));
            headers.insert(MESSAGE, HeaderValue::from_static("ninety-nine"));
            answer
        }
    }
}

/// Answers as a proxy in between does.
pub(super) fn html(status: u16) -> Response<AnswerBody> {
    let page = "<html><body><h1>Something else answers here</h1></body></html>";
    let status = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
    let mut answer = Response::new(whole(Bytes::from_static(page.as_bytes())));
    *answer.status_mut() = status;
    let content_type = HeaderValue::from_static("text/html; charset=utf-8");
    answer
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, content_type);
    answer
}

fn framed(body: AnswerBody) -> Response<AnswerBody> {
    let mut answer = Response::new(body);
    answer
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, GRPC);
    answer
}

/// Writes a frame that says `length`, whatever the message's length is.
fn frame(compressed: u8, length: usize, message: &[u8]) -> Bytes {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(PREFIX_BYTES + message.len());
    frame.push(compressed);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    Bytes::from(frame)
}

fn with_status(frame: Bytes, status: &'static str) -> AnswerBody {
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from_static(status));
    Full::new(frame)
        .with_trailers(async move { Some(Ok(trailers)) })
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that is there at once and ends without trailers.
pub(super) fn whole(bytes: Bytes) -> AnswerBody {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}
