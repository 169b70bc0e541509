//! Why a request was not accepted, as gRPC and HTTP say it.
//!
//! The codes are chosen so that senders do what is wanted by the tables of OTLP ("OTLP/gRPC Failures", "Retryable Response
//! Codes"): what may succeed later is UNAVAILABLE or 503 with a delay, anything else is a code that is not tried again.

use std::time::Duration;

use http::HeaderName;
use http::HeaderValue;
use http::StatusCode;
use http::header;
use outspan::engine::Dropped;
use outspan::wire::grpc::Code;
use outspan::wire::grpc::FrameError;
use outspan::wire::otlp::FieldViolation;
use outspan::wire::otlp::RpcStatus;
use outspan::wire::otlp::WireError;

use super::acks::TooManyWaiting;
use super::acks::WaitEnd;
use super::listen::Protocol;
use super::tally::Outcome;
use crate::pipeline::Refusal;

/// What bodies may be compressed with, for HTTP and for gRPC.
pub(super) const ENCODINGS: HeaderValue = HeaderValue::from_static("gzip, deflate, zstd");
pub(super) const GRPC_ENCODINGS: HeaderValue =
    HeaderValue::from_static("identity,gzip,deflate,zstd");

/// How long senders are asked to wait when other requests have taken the room: those are gone in a moment.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// How much of a text of the sender's is repeated to it.
const SHOWN_BYTES_MAX: usize = 64;

/// Says why a request was not accepted.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) outcome: Outcome,
    pub(super) http: StatusCode,
    pub(super) status: RpcStatus,
    /// What HTTP wants in the answer.
    pub(super) header: Option<(HeaderName, HeaderValue)>,
    /// How many spans were found and are all invalid.
    pub(super) refused_spans: usize,
}

/// Names a bound that a request does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// Of every request.
    Request(usize),
    /// Of the memory for requests on their way in, all together.
    Memory(usize),
    /// Of a destination's queue.
    Queue(usize),
    /// Of the window that zstd needs.
    Window(usize),
}

impl Failure {
    fn new(
        outcome: Outcome,
        http: StatusCode,
        code: Code,
        message: impl Into<String>,
    ) -> Box<Self> {
        Box::new(Self {
            outcome,
            http,
            status: RpcStatus::new(code, message),
            header: None,
            refused_spans: 0,
        })
    }

    fn refused(http: StatusCode, code: Code, message: impl Into<String>) -> Box<Self> {
        Self::new(Outcome::Refused, http, code, message)
    }

    fn with_header(mut self: Box<Self>, name: HeaderName, value: HeaderValue) -> Box<Self> {
        self.header = Some((name, value));
        self
    }

    fn later(message: impl Into<String>, wait: Duration) -> Box<Self> {
        let mut failure = Self::new(
            Outcome::Deferred,
            StatusCode::SERVICE_UNAVAILABLE,
            Code::Unavailable,
            message,
        );
        failure.status.retry_delay = Some(wait);
        failure
    }

    /// The path, or gRPC's method, does not exist.
    pub(super) fn not_found(protocol: Protocol, path: &str) -> Box<Self> {
        let path = shown(path.as_bytes());
        let there = match protocol {
            Protocol::Otlp => {
                "this agent takes OTLP traces, over HTTP at /v1/traces, \
                 over gRPC as opentelemetry.proto.collector.trace.v1.TraceService/Export"
            }
            Protocol::Zipkin => "this address takes Zipkin's spans at /api/v2/spans",
            Protocol::Jaeger => "this address takes Jaeger's batches at /api/traces",
        };
        Self::refused(
            StatusCode::NOT_FOUND,
            Code::Unimplemented,
            format!("nothing is at {path}: {there}"),
        )
    }

    /// Zipkin as it was before 2017.
    pub(super) fn zipkin_v1() -> Box<Self> {
        Self::refused(
            StatusCode::NOT_FOUND,
            Code::Unimplemented,
            "Zipkin v1 is not taken: send v2 to /api/v2/spans, which every sender of today can",
        )
    }

    /// The path is that of another signal.
    pub(super) fn other_signal(signal: &str) -> Box<Self> {
        Self::refused(
            StatusCode::NOT_FOUND,
            Code::Unimplemented,
            format!(
                "this agent takes traces only: send {signal} elsewhere, or switch their exporter off"
            ),
        )
    }

    /// The method is not POST.
    pub(super) fn method(allowed: &'static str) -> Box<Self> {
        Self::refused(
            StatusCode::METHOD_NOT_ALLOWED,
            Code::Unimplemented,
            format!("this path takes {allowed}"),
        )
        .with_header(header::ALLOW, HeaderValue::from_static(allowed))
    }

    /// The content type is none that is spoken there.
    pub(super) fn content_type(protocol: Protocol, given: Option<&HeaderValue>) -> Box<Self> {
        let given = match given {
            Some(given) => format!("content type {} is not taken", shown(given.as_bytes())),
            None => "the content type is missing".to_owned(),
        };
        let (advice, accepted) = match protocol {
            Protocol::Otlp | Protocol::Zipkin => (
                "send application/x-protobuf or application/json",
                "application/x-protobuf, application/json",
            ),
            Protocol::Jaeger => (
                "send application/vnd.apache.thrift.binary, application/x-thrift or application/vnd.apache.thrift.compact",
                "application/vnd.apache.thrift.binary, application/x-thrift, application/vnd.apache.thrift.compact",
            ),
        };
        Self::refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::InvalidArgument,
            format!("{given}: {advice}"),
        )
        .with_header(
            HeaderName::from_static("accept-post"),
            HeaderValue::from_static(accepted),
        )
    }

    /// gRPC where something else is spoken.
    pub(super) fn grpc_elsewhere() -> Box<Self> {
        Self::refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::Unimplemented,
            "this address does not speak gRPC: send OTLP to an address that this agent listens on with grpc:// or http://",
        )
    }

    /// gRPC's path, without its content type.
    pub(super) fn not_grpc() -> Box<Self> {
        Self::refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::InvalidArgument,
            "this path takes gRPC, whose content type is application/grpc; OTLP over HTTP goes to /v1/traces",
        )
    }

    /// gRPC for browsers, which is another protocol.
    pub(super) fn grpc_web() -> Box<Self> {
        Self::refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::Unimplemented,
            "gRPC-Web is not taken: send OTLP over HTTP to /v1/traces, which browsers can do as well",
        )
    }

    /// gRPC with messages that are not protobuf.
    pub(super) fn grpc_subtype(given: &[u8]) -> Box<Self> {
        Self::refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::Unimplemented,
            format!(
                "content type {} is not taken: send protobuf messages as application/grpc",
                shown(given)
            ),
        )
    }

    /// gRPC over HTTP/1.
    pub(super) fn grpc_version() -> Box<Self> {
        Self::refused(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Code::Unimplemented,
            "gRPC needs HTTP/2; over HTTP/1.1 send OTLP as application/x-protobuf to /v1/traces",
        )
    }

    /// The body is compressed with something else.
    pub(super) fn encoding(given: &[u8]) -> Box<Self> {
        Self::refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::Unimplemented,
            format!(
                "compression {} is not taken: use gzip, deflate, zstd or none, and only one at a time",
                shown(given)
            ),
        )
        .with_header(header::ACCEPT_ENCODING, ENCODINGS)
    }

    /// The token is missing or wrong.
    pub(super) fn unauthenticated() -> Box<Self> {
        Self::refused(
            StatusCode::UNAUTHORIZED,
            Code::Unauthenticated,
            "a bearer token is needed that this agent knows: send it in the header authorization",
        )
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// It can never fit. No `RetryInfo`: RESOURCE_EXHAUSTED is then not tried again ("OTLP/gRPC Request"). The words "too
    /// large" tell senders that read them, ours among them, that splitting helps.
    pub(super) fn too_large(bound: Bound) -> Box<Self> {
        let message = match bound {
            Bound::Request(limit) => format!(
                "the request is too large: it has more than {limit} bytes after decompression, the most that this agent takes \
                 (--max-request-size, within --memory): send fewer spans in a request"
            ),
            Bound::Memory(limit) => format!(
                "the request is too large: it needs more than {limit} bytes, all that this agent has for requests on their way in \
                 (--memory): send fewer spans in a request"
            ),
            Bound::Queue(limit) => format!(
                "the request is too large: it has more than {limit} bytes, which no destination's queue can hold (--memory): \
                 send fewer spans in a request"
            ),
            Bound::Window(limit) => format!(
                "the request is compressed with a zstd window of more than {limit} bytes: \
                 use a level of 19 or less, without long-distance matching"
            ),
        };
        Self::refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            Code::ResourceExhausted,
            message,
        )
    }

    /// Other requests have taken the room.
    pub(super) fn no_room() -> Box<Self> {
        Self::later(
            "this agent is reading as much as its memory allows (--memory): send the same again later",
            BUSY_WAIT,
        )
    }

    /// Too many answers wait already.
    pub(super) fn too_many_waiting(bound: TooManyWaiting, wait: Duration) -> Box<Self> {
        Self::later(
            match bound {
                TooManyWaiting::Answers => {
                    "too many answers wait until destinations have their spans (--max-waiting-answers): \
                     send the same again later"
                }
                TooManyWaiting::Bytes => {
                    "the spans whose answers wait for destinations have as many bytes as they may (--memory): \
                     send the same again later"
                }
            },
            wait,
        )
    }

    /// A destination dropped spans of the request, or it may have. It was accepted, and counted as such.
    pub(super) fn dropped(dropped: &Dropped, wait: Duration) -> Box<Self> {
        let why = match &dropped.error {
            Some(error) => format!("{}: {}", dropped.reason, error.chain()),
            None => dropped.reason.to_string(),
        };
        let mut failure = Self::later(
            format!(
                "not every destination has these spans ({why}): send the same again; those that have them get them twice"
            ),
            wait,
        );
        failure.outcome = Outcome::Accepted;
        failure
    }

    /// The destinations were too slow. The request was accepted, and counted as such.
    pub(super) fn unacknowledged(end: WaitEnd, wait: Duration) -> Box<Self> {
        let when = match end {
            WaitEnd::AckTimeout => "in time (--ack-timeout)",
            WaitEnd::SenderTimeout => "in the time of the sender (grpc-timeout)",
            WaitEnd::Stopping => "before this agent stops",
        };
        let mut failure = Self::later(
            format!(
                "not every destination has taken these spans {when}: this agent keeps them and goes on; \
                 sent again, they may be delivered twice"
            ),
            wait,
        );
        failure.outcome = Outcome::Accepted;
        failure
    }

    /// The threads that do the long work are gone.
    pub(super) fn stopping() -> Box<Self> {
        Self::later(
            "this agent is stopping: send the same again later",
            BUSY_WAIT,
        )
    }

    /// The body did not come in time. DEADLINE_EXCEEDED is tried again; of HTTP's codes 503 is, and 408 is not.
    pub(super) fn slow(limit: Duration) -> Box<Self> {
        let mut failure = Self::new(
            Outcome::Broken,
            StatusCode::SERVICE_UNAVAILABLE,
            Code::DeadlineExceeded,
            format!("the request did not arrive within {} ms", limit.as_millis()),
        );
        failure.status.retry_delay = Some(BUSY_WAIT);
        failure
    }

    /// The body broke off.
    pub(super) fn interrupted(why: impl std::fmt::Display) -> Box<Self> {
        Self::new(
            Outcome::Broken,
            StatusCode::BAD_REQUEST,
            Code::Cancelled,
            format!("the request broke off: {why}"),
        )
    }

    /// The body is not one gRPC message.
    pub(super) fn frame(error: FrameError) -> Box<Self> {
        Self::refused(StatusCode::BAD_REQUEST, Code::Internal, error.to_string())
    }

    /// The call has no message at all.
    pub(super) fn no_message() -> Box<Self> {
        Self::refused(
            StatusCode::BAD_REQUEST,
            Code::Internal,
            "the call has no message: send one, also an empty one",
        )
    }

    /// A message is flagged as compressed, and no header says with what ("gRPC over HTTP2", "Compression").
    pub(super) fn unnamed_encoding() -> Box<Self> {
        Self::refused(
            StatusCode::BAD_REQUEST,
            Code::Internal,
            "the message is compressed, but no header grpc-encoding says with what",
        )
    }

    /// What the compressor should have written is not there.
    pub(super) fn undecodable(encoding: &str, why: &str) -> Box<Self> {
        Self::refused(
            StatusCode::BAD_REQUEST,
            Code::InvalidArgument,
            format!("the body is not valid {encoding}: {why}"),
        )
    }

    /// The content is not what it should be ("Bad Data").
    pub(super) fn malformed(what: &str, error: &WireError) -> Box<Self> {
        let why = error.to_string();
        let mut failure = Self::refused(
            StatusCode::BAD_REQUEST,
            Code::InvalidArgument,
            format!("not valid {what}: {why}"),
        );
        let field = match error.path() {
            "" => error.field(),
            path => path,
        };
        failure.status.violations.push(FieldViolation {
            field: field.to_owned(),
            description: why,
        });
        failure
    }

    /// All spans are what OTLP forbids.
    pub(super) fn no_valid_span(what: &str, spans: usize, first: &str) -> Box<Self> {
        let mut failure = Self::refused(
            StatusCode::BAD_REQUEST,
            Code::InvalidArgument,
            format!("no span of {spans} in this {what} is valid; of the first: {first}"),
        );
        failure.refused_spans = spans;
        failure
    }

    /// Something of ours went wrong.
    pub(super) fn internal() -> Box<Self> {
        Self::refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::Internal,
            "reading the request failed in a way that it should not: this is a defect of the agent",
        )
    }
}

impl From<Refusal> for Box<Failure> {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full { retry_after } => Failure::later(
                "no destination has room for more spans now: send the same again later",
                retry_after,
            ),
            Refusal::TooLarge { limit } => Failure::too_large(Bound::Queue(limit)),
            Refusal::Stopping { retry_after } => Failure::later(
                "this agent is stopping: send the same again later",
                retry_after,
            ),
        }
    }
}

/// The start of a text of the sender's, quoted, with everything visible.
fn shown(text: &[u8]) -> String {
    match text.get(..SHOWN_BYTES_MAX) {
        Some(start) => format!("\"{}…\"", start.escape_ascii()),
        None => format!("\"{}\"", text.escape_ascii()),
    }
}
