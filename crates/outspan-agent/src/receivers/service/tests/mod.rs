//! The service against scripted bodies, without a network; [`stacks`] uses one.

mod admission;
mod bodies;
mod formats;
mod routes;
mod rules;
mod stacks;

use std::task::Context;

use http::Method;
use http::StatusCode;
use http_body_util::BodyExt;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use outspan::engine::BatchLimits;
use outspan::engine::MemoryQueue;
use outspan::wire::Piece;
use outspan::wire::PieceContent;
use outspan::wire::grpc::Prefix;
use outspan::wire::jaeger;
use outspan::wire::otlp::WireError;
use outspan::wire::zipkin;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::request_with;
use prost::Message as _;
use tonic_types::StatusExt;

use super::*;
use crate::fuzzing::body::End;
use crate::fuzzing::body::Script;
use crate::receivers::AckSettings;
use crate::receivers::Kind;
use crate::receivers::ReceiverStatus;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A service with everything that it needs, and with what can be asked about it.
struct Rig {
    service: Service,
    intake: Arc<Intake>,
    pipeline: Arc<Pipeline>,
    counters: Arc<Counters>,
    child: ScriptedExporter,
}

struct Plan {
    settings: Settings,
    memory: usize,
    queue: usize,
}

impl Rig {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = Plan {
            settings: Settings {
                max_request_bytes: 1 << 20,
                request_timeout: Duration::from_secs(10),
                max_connections: 10,
                max_connection_age: None,
                tls: None,
                cors_origins: Vec::new(),
                tokens: Tokens::default(),
                acks: AckSettings::queued(),
            },
            memory: 16 << 20,
            queue: 16 << 20,
        };
        change(&mut plan);
        let child = ScriptedExporter::new();
        let queue = MemoryQueue::builder(child.exporter())
            .name("child")
            .bytes(plan.queue);
        let limits = BatchLimits {
            spans: 1_000_000,
            bytes: 1 << 30,
            delay: Duration::from_secs(3600),
        };
        let pipeline = Arc::new(Pipeline::new(queue.batches(limits).start().unwrap()));
        let intake = Arc::new(Intake::new(plan.memory));
        let counters = Arc::new(Counters::new(Kind::ALL));
        let service = Service::new(
            plan.settings,
            Arc::clone(&intake),
            Arc::clone(&pipeline),
            Arc::clone(&counters),
        );
        Self {
            service,
            intake,
            pipeline,
            counters,
            child,
        }
    }

    /// Sends a request, and checks what holds for every request: nothing stays taken, and it is counted once.
    async fn send(&self, request: Request<Script>) -> Seen {
        let before = self.requests();
        let seen = Seen::read(self.service.answer(protocol_of(&request), request).await).await;
        assert_eq!(self.intake.used(), 0, "everything was given back");
        assert_eq!(self.requests(), before + 1, "counted once");
        seen
    }

    fn counted(&self, transport: Transport) -> ReceiverStatus {
        let all = self.counters.status().into_iter();
        let mut one = all.filter(|of| of.transport == transport);
        one.next().unwrap()
    }

    fn requests(&self) -> u64 {
        let all = self.counters.status().into_iter();
        all.map(|of| {
            of.accepted_requests + of.refused_requests + of.deferred_requests + of.broken_requests
        })
        .sum()
    }

    /// The spans that arrived at the destination, in the end.
    async fn delivered(&self) -> usize {
        self.pipeline.shutdown(outspan_testkit::soon()).await;
        self.child.received().len()
    }
}

impl Script {
    fn of(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self {
            size: Some(body.len() as u64),
            pieces: [body].into(),
            end: End::Whole,
        }
    }

    /// Pieces of an unknown length in all.
    fn pieces<P: Into<Bytes>>(pieces: impl IntoIterator<Item = P>) -> Self {
        Self {
            pieces: pieces.into_iter().map(Into::into).collect(),
            size: None,
            end: End::Whole,
        }
    }

    /// Pieces of so many bytes.
    fn cut(body: &[u8], bytes: usize) -> Self {
        Self::pieces(body.chunks(bytes.max(1)).map(Bytes::copy_from_slice))
    }

    fn ending(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    fn saying(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }
}

/// An answer, read to its end.
#[derive(Debug)]
struct Seen {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Bytes,
    trailers: Option<http::HeaderMap>,
}

impl Seen {
    async fn read<B>(response: Response<B>) -> Self
    where
        B: Body<Data = Bytes, Error: std::fmt::Debug>,
    {
        let (head, body) = response.into_parts();
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned();
        Self {
            status: head.status,
            headers: head.headers,
            body: collected.to_bytes(),
            trailers,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// gRPC's status as tonic reads it.
    fn grpc(&self) -> tonic::Status {
        assert_eq!(self.status, 200);
        assert_eq!(self.header("content-type"), Some("application/grpc"));
        assert_eq!(
            self.header("grpc-accept-encoding"),
            Some("identity,gzip,deflate,zstd")
        );
        let trailers = self.trailers.as_ref().unwrap_or(&self.headers);
        if self.trailers.is_none() {
            assert!(self.body.is_empty(), "an answer of trailers only");
        }
        tonic::Status::from_header_map(trailers).unwrap()
    }

    /// The message of an answer of gRPC that succeeded, as prost reads it.
    fn grpc_response(&self) -> ExportTraceServiceResponse {
        assert_eq!(self.grpc().code(), tonic::Code::Ok);
        let prefix = Prefix::read(&self.body).unwrap().unwrap();
        assert!(!prefix.compressed);
        assert_eq!(prefix.length as usize + Prefix::BYTES, self.body.len());
        ExportTraceServiceResponse::decode(&self.body[Prefix::BYTES..]).unwrap()
    }

    /// The message of an answer of HTTP that succeeded, as prost and serde read it.
    fn http_response(&self) -> ExportTraceServiceResponse {
        assert_eq!(self.status, 200);
        match self.header("content-type").unwrap() {
            "application/x-protobuf" => {
                ExportTraceServiceResponse::decode(self.body.clone()).unwrap()
            }
            "application/json" => response_of_json(&self.body),
            other => panic!("{other}"),
        }
    }

    /// The `google.rpc.Status` of an answer of HTTP that failed: code, message, delay in seconds, violations.
    fn http_status(&self) -> HttpStatus {
        match self.header("content-type").unwrap() {
            "application/x-protobuf" => {
                let status = tonic_types::Status::decode(self.body.clone()).unwrap();
                let code = tonic::Code::from_i32(status.code);
                let details = Bytes::copy_from_slice(&self.body);
                let read = tonic::Status::with_details(code, status.message.clone(), details);
                let delay = read
                    .get_details_retry_info()
                    .and_then(|info| info.retry_delay);
                let violations = read
                    .get_details_bad_request()
                    .map(|bad| bad.field_violations);
                let violations = violations.unwrap_or_default().into_iter();
                HttpStatus {
                    code: status.code,
                    message: status.message,
                    delay: delay.map(|delay| delay.as_secs_f64()),
                    violations: violations.map(|v| (v.field, v.description)).collect(),
                }
            }
            "application/json" => HttpStatus::from_json(&self.body),
            other => panic!("{other}"),
        }
    }
}

/// The types of `opentelemetry-proto` do not read numbers of 64 bits in strings, as the JSON mapping writes them.
fn response_of_json(text: &[u8]) -> ExportTraceServiceResponse {
    let json: serde_json::Value = serde_json::from_slice(text).unwrap();
    let partial = json.get("partialSuccess").map(|partial| {
        let rejected = partial["rejectedSpans"].as_str().unwrap_or("0");
        ExportTracePartialSuccess {
            rejected_spans: rejected.parse().unwrap(),
            error_message: partial["errorMessage"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        }
    });
    ExportTraceServiceResponse {
        partial_success: partial,
    }
}

#[derive(Debug, PartialEq)]
struct HttpStatus {
    code: i32,
    message: String,
    delay: Option<f64>,
    violations: Vec<(String, String)>,
}

impl HttpStatus {
    fn from_json(text: &[u8]) -> Self {
        let json: serde_json::Value = serde_json::from_slice(text).unwrap();
        let details = json["details"].as_array().cloned().unwrap_or_default();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let delay = details.iter().find_map(|detail| {
            let seconds = detail["retryDelay"].as_str()?.strip_suffix('s')?;
            Some(seconds.parse().unwrap())
        });
        let violations = details.iter().flat_map(|detail| {
            let all = detail["fieldViolations"].as_array();
            all.cloned().unwrap_or_default()
        });
        Self {
            code: json["code"].as_i64().unwrap() as i32,
            message: text(&json["message"]),
            delay,
            violations: violations
                .map(|v| (text(&v["field"]), text(&v["description"])))
                .collect(),
        }
    }
}

/// A request of so many valid spans.
fn request(spans: usize) -> ExportTraceServiceRequest {
    request_with(spans, |_, _| {})
}

/// A request of three spans, of which the second has no valid id.
fn request_with_one_bad() -> ExportTraceServiceRequest {
    request_with(3, |number, span| {
        if number == 1 {
            span.trace_id = vec![0; 16];
        }
    })
}

fn encoded(form: Form, request: &ExportTraceServiceRequest) -> Vec<u8> {
    match form {
        Form::Json => serde_json::to_vec(request).unwrap(),
        Form::Grpc => message(false, &request.encode_to_vec()),
        Form::Protobuf | Form::Text => request.encode_to_vec(),
        Form::ZipkinJson => zipkin_body(zipkin::Format::Json, request),
        Form::ZipkinProtobuf => zipkin_body(zipkin::Format::Protobuf, request),
        Form::ThriftBinary => thrift_body(jaeger::Protocol::Binary, request),
        Form::ThriftCompact => thrift_body(jaeger::Protocol::Compact, request),
    }
}

fn zipkin_body(format: zipkin::Format, request: &ExportTraceServiceRequest) -> Vec<u8> {
    let options = zipkin::WriteOptions::default().format(format);
    only_piece(zipkin::Writer::new(options).pieces(&request.encode_to_vec()))
}

fn thrift_body(protocol: jaeger::Protocol, request: &ExportTraceServiceRequest) -> Vec<u8> {
    let options = jaeger::WriteOptions::default()
        .protocol(protocol)
        .bytes_max(64 << 20);
    only_piece(jaeger::Writer::new(options).pieces(&request.encode_to_vec()))
}

fn only_piece(pieces: impl Iterator<Item = Result<Piece, WireError>>) -> Vec<u8> {
    let pieces: Vec<Piece> = pieces.collect::<Result<_, _>>().unwrap();
    match pieces.as_slice() {
        [] => Vec::new(),
        [
            Piece {
                content: PieceContent::Bytes(bytes),
                ..
            },
        ] => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// What is spoken where a request goes to.
fn protocol_of(request: &Request<Script>) -> Protocol {
    match request.uri().path() {
        path if path.starts_with("/api/traces") => Protocol::Jaeger,
        path if path.starts_with("/api/") => Protocol::Zipkin,
        _ => Protocol::Otlp,
    }
}

/// A message of gRPC with its prefix.
fn message(compressed: bool, bytes: &[u8]) -> Vec<u8> {
    let prefix = Prefix {
        compressed,
        length: bytes.len() as u32,
    };
    [&prefix.write()[..], bytes].concat()
}

/// A request that is right in every way, with this body.
fn post(form: Form, body: Script) -> Request<Script> {
    let (path, content_type, version) = match form {
        Form::Grpc => (EXPORT, "application/grpc", Version::HTTP_2),
        Form::Protobuf => ("/v1/traces", "application/x-protobuf", Version::HTTP_11),
        Form::Json => ("/v1/traces", "application/json", Version::HTTP_11),
        Form::Text => ("/v1/traces", "text/plain", Version::HTTP_11),
        Form::ZipkinJson => ("/api/v2/spans", "application/json", Version::HTTP_11),
        Form::ZipkinProtobuf => ("/api/v2/spans", "application/x-protobuf", Version::HTTP_11),
        Form::ThriftBinary => ("/api/traces", "application/x-thrift", Version::HTTP_11),
        Form::ThriftCompact => (
            "/api/traces",
            "application/vnd.apache.thrift.compact",
            Version::HTTP_11,
        ),
    };
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .version(version)
        .header(header::CONTENT_TYPE, content_type);
    request.body(body).unwrap()
}

/// A right request with some spans.
fn post_spans(form: Form, spans: usize) -> Request<Script> {
    post(form, Script::of(encoded(form, &request(spans))))
}

trait WithHeader {
    fn with(self, name: &'static str, value: &str) -> Self;
}

impl WithHeader for Request<Script> {
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers_mut()
            .append(name, HeaderValue::from_str(value).unwrap());
        self
    }
}

const FORMS: [Form; 3] = [Form::Grpc, Form::Protobuf, Form::Json];
const HTTP_FORMS: [Form; 2] = [Form::Protobuf, Form::Json];
