//! Reads and answers OTLP over HTTP, protobuf and JSON, with hyper, prost and serde.

use std::io::Read;
use std::sync::Arc;
use std::time::Instant;
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header::ACCEPT_ENCODING;
use http::header::ALLOW;
use http::header::CONTENT_ENCODING;
use http::header::CONTENT_LENGTH;
use http::header::CONTENT_TYPE;
use http::header::RETRY_AFTER;
use http_body_util::BodyExt;
use http_body_util::Limited;
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

use super::Answer;
use super::AnswerCode;
use super::CollectedRequest;
use super::Compression;
use super::Disconnect;
use super::Garbage;
use super::Outcome;
use super::RetryDelay;
use super::connection::AnswerBody;
use super::connection::Connection;
use super::grpc::html;
use super::grpc::whole;
use super::shared::Shared;
use super::verdict::CutBody;
use super::verdict::Verdict;
use super::verdict::decide;
use super::verdict::gzip_bomb;
use super::verdict::oversize;
use super::verdict::vanish;

/// OTLP's own path for traces.
pub(super) const PATH: &str = "/v1/traces";

/// The largest body, compressed or not: more than any test sends at once.
const BODY_BYTES_MAX: usize = 256 << 20;

/// The two encodings of OTLP/HTTP, and any other format; an answer has its request's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
    Foreign,
}

/// A refusal that the script has no part in.
struct Wrong {
    status: StatusCode,
    message: String,
}

pub(super) async fn answer(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    peer: Option<String>,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let encoding = match check(shared, &request) {
        Ok(encoding) => encoding,
        Err(wrong) => {
            let encoding = match shared.foreign {
                Some(_) => Encoding::Foreign,
                None => Encoding::Protobuf,
            };
            return refuse_wrong(shared, encoding, wrong);
        }
    };
    let answer = shared.next_answer();
    if matches!(answer, Answer::Disconnect(Disconnect::BeforeReading)) {
        return vanish(connection).await;
    }
    let compression = accepted_compression(request.headers(), shared.compress_answers);
    let request = match read(shared, connection, peer, encoding, request).await {
        Ok(request) => request,
        Err(wrong) => return refuse_wrong(shared, encoding, wrong),
    };
    match decide(shared, connection, answer, request).await {
        Verdict::Taken(response) => of_response(encoding, &response, compression),
        Verdict::Error {
            code,
            message,
            delay,
        } => of_error(encoding, code, &message, delay.as_ref()),
        Verdict::Cut => {
            let first = Bytes::from_static(b"\x0a\x62");
            let mut answer = of_body(encoding, CutBody::new(first, connection).boxed_unsync());
            let length = HeaderValue::from_static("100");
            answer.headers_mut().insert(CONTENT_LENGTH, length);
            answer
        }
        Verdict::Garbage(garbage) => of_garbage(encoding, garbage),
    }
}

fn refuse_wrong(shared: &Shared, encoding: Encoding, wrong: Wrong) -> Response<AnswerBody> {
    shared.complain(format!("{}: {}", wrong.status, wrong.message));
    let code = AnswerCode {
        grpc: 3,
        http: wrong.status.as_u16(),
    };
    of_error(encoding, code, &wrong.message, None)
}

fn check(shared: &Shared, request: &Request<Incoming>) -> Result<Encoding, Wrong> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("", |path| path.as_str());
    if path != shared.path {
        return Err(Wrong {
            status: StatusCode::NOT_FOUND,
            message: format!("there is no {path}"),
        });
    }
    if request.method() != Method::POST {
        return Err(Wrong {
            status: StatusCode::METHOD_NOT_ALLOWED,
            message: format!("the method is {}, not POST", request.method()),
        });
    }
    if shared.foreign.is_some() {
        return Ok(Encoding::Foreign);
    }
    let content_type = text(request.headers(), CONTENT_TYPE.as_str());
    let kind = content_type.split(';').next().unwrap_or("").trim();
    match kind {
        "application/x-protobuf" => Ok(Encoding::Protobuf),
        "application/json" => Ok(Encoding::Json),
        _ => Err(Wrong {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            message: format!("the content type is {content_type:?}"),
        }),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or("")
}

async fn read(
    shared: &Shared,
    connection: &Connection,
    peer: Option<String>,
    encoding: Encoding,
    request: Request<Incoming>,
) -> Result<CollectedRequest, Wrong> {
    let (parts, body) = request.into_parts();
    let collected = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let wire = collected.map_err(|error| bad(format!("the body cannot be read: {error}")))?;
    let wire = wire.to_bytes();
    let wire_bytes = wire.len();
    let message = unpack(text(&parts.headers, CONTENT_ENCODING.as_str()), wire)?;
    let content_type = text(&parts.headers, CONTENT_TYPE.as_str());
    let body = match &shared.foreign {
        Some(foreign) => foreign.decode(content_type, &message).map_err(bad)?,
        None => decode(encoding, &message)?,
    };
    let path = parts.uri.path_and_query();
    Ok(CollectedRequest {
        connection: connection.number,
        peer,
        version: parts.version,
        path: path.map_or_else(String::new, ToString::to_string),
        headers: parts.headers,
        wire_bytes,
        message,
        body,
        at: Instant::now(),
        outcome: Outcome::Pending,
    })
}

fn bad(message: String) -> Wrong {
    Wrong {
        status: StatusCode::BAD_REQUEST,
        message,
    }
}

fn unpack(encoding: &str, wire: Bytes) -> Result<Bytes, Wrong> {
    let unpacked = match encoding {
        "" | "identity" => return Ok(wire),
        "gzip" => read_limited(flate2::read::MultiGzDecoder::new(&wire[..])),
        "zstd" => zstd::stream::read::Decoder::new(&wire[..]).and_then(read_limited),
        other => {
            return Err(Wrong {
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                message: format!("there is no content encoding {other:?}"),
            });
        }
    };
    unpacked
        .map(Bytes::from)
        .map_err(|error| bad(format!("the body is no {encoding}: {error}")))
}

fn read_limited(reader: impl Read) -> std::io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    let mut reader = reader.take(BODY_BYTES_MAX as u64 + 1);
    reader.read_to_end(&mut unpacked)?;
    if unpacked.len() > BODY_BYTES_MAX {
        return Err(std::io::Error::other("it unpacks to too many bytes"));
    }
    Ok(unpacked)
}

fn decode(encoding: Encoding, message: &Bytes) -> Result<ExportTraceServiceRequest, Wrong> {
    match encoding {
        Encoding::Protobuf => ExportTraceServiceRequest::decode(message.clone())
            .map_err(|error| bad(format!("prost cannot decode the body: {error}"))),
        Encoding::Json => serde_json::from_slice(message)
            .map_err(|error| bad(format!("serde cannot decode the body: {error}"))),
        Encoding::Foreign => Err(bad("nothing reads this format".to_owned())),
    }
}

/// Says how to compress an answer: as the collector is told, if the client can read it.
fn accepted_compression(headers: &HeaderMap, wanted: Option<Compression>) -> Option<Compression> {
    let accepted = text(headers, ACCEPT_ENCODING.as_str());
    wanted.filter(|wanted| {
        let mut each = accepted.split(',');
        each.any(|each| each.split(';').next().unwrap_or("").trim() == wanted.name())
    })
}

fn of_response(
    encoding: Encoding,
    response: &ExportTraceServiceResponse,
    compression: Option<Compression>,
) -> Response<AnswerBody> {
    let plain = match encoding {
        Encoding::Protobuf => response.encode_to_vec(),
        Encoding::Json => serde_json::to_vec(response).expect("a response is written to memory"),
        Encoding::Foreign => {
            let mut answer = Response::new(whole(Bytes::new()));
            *answer.status_mut() = StatusCode::ACCEPTED;
            return answer;
        }
    };
    let Some(compression) = compression else {
        return of_body(encoding, whole(Bytes::from(plain)));
    };
    let packed = compression.pack(&plain);
    let mut answer = of_body(encoding, whole(Bytes::from(packed)));
    let name = HeaderValue::from_static(compression.name());
    answer.headers_mut().insert(CONTENT_ENCODING, name);
    answer
}

fn of_error(
    encoding: Encoding,
    code: AnswerCode,
    message: &str,
    delay: Option<&RetryDelay>,
) -> Response<AnswerBody> {
    let body = match encoding {
        Encoding::Protobuf => tonic_types::Status {
            code: i32::from(code.grpc),
            message: message.to_owned(),
            details: Vec::new(),
        }
        .encode_to_vec(),
        Encoding::Json => {
            let status = serde_json::json!({ "code": code.grpc, "message": message });
            status.to_string().into_bytes()
        }
        Encoding::Foreign => message.as_bytes().to_vec(),
    };
    let mut answer = of_body(encoding, whole(Bytes::from(body)));
    let status = StatusCode::from_u16(code.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *answer.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let post = HeaderValue::from_static("POST");
        answer.headers_mut().insert(ALLOW, post);
    }
    if let Some(delay) = delay {
        answer.headers_mut().insert(RETRY_AFTER, retry_after(delay));
    }
    answer
}

fn retry_after(delay: &RetryDelay) -> HeaderValue {
    match delay {
        RetryDelay::After(delay) => {
            let started = u64::from(delay.subsec_nanos() > 0);
            HeaderValue::from(delay.as_secs().saturating_add(started))
        }
        RetryDelay::At(time) => date(*time),
        RetryDelay::Nonsense => HeaderValue::from_static("soon"),
    }
}

fn date(time: SystemTime) -> HeaderValue {
    HeaderValue::from_str(&httpdate::fmt_http_date(time)).expect("a date is plain ASCII")
}

fn of_garbage(encoding: Encoding, garbage: Garbage) -> Response<AnswerBody> {
    let empty = ExportTraceServiceResponse::default();
    match garbage {
        Garbage::Message => {
            let nonsense = Bytes::from_static(b"\xff\xff\xff\xff neither protobuf nor JSON");
            of_body(encoding, whole(nonsense))
        }
        Garbage::Html(status) => html(status),
        Garbage::ContentType => {
            let mut answer = of_response(encoding, &empty, None);
            let plain = HeaderValue::from_static("text/plain");
            answer.headers_mut().insert(CONTENT_TYPE, plain);
            answer
        }
        Garbage::Truncated => {
            let cut: &[u8] = match encoding {
                Encoding::Protobuf => b"\x0a\x62",
                Encoding::Json => b"{\"partialSuccess\":{",
                Encoding::Foreign => b"acc",
            };
            of_body(encoding, whole(Bytes::from_static(cut)))
        }
        Garbage::Oversize(bytes) => of_response(encoding, &oversize(bytes), None),
        Garbage::Bomb(zeros) => {
            let mut answer = of_body(encoding, whole(Bytes::from(gzip_bomb(zeros))));
            let gzip = HeaderValue::from_static("gzip");
            answer.headers_mut().insert(CONTENT_ENCODING, gzip);
            answer
        }
        Garbage::Empty => of_body(encoding, whole(Bytes::new())),
        Garbage::NoStatus => {
            let mut answer = of_response(encoding, &empty, None);
            answer.headers_mut().remove(CONTENT_TYPE);
            answer
        }
        Garbage::UnknownStatus => {
            let code = AnswerCode { grpc: 2, http: 599 };
            of_error(encoding, code, "five hundred and ninety-nine", None)
        }
    }
}

fn of_body(encoding: Encoding, body: AnswerBody) -> Response<AnswerBody> {
    let mut answer = Response::new(body);
    let content_type = HeaderValue::from_static(match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
        Encoding::Foreign => "text/plain",
    });
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}
