//! Requests to send, and clients to send them with.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::transport::Channel;

use outspan_testkit::Collector;
use outspan_testkit::SpanId;

pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A request with these many spans, whose ids count from `first`.
pub(crate) fn request_from(first: u64, spans: u64) -> ExportTraceServiceRequest {
    let spans = (first..first + spans)
        .map(|number| Span {
            trace_id: vec![7; 16],
            span_id: number.to_be_bytes().to_vec(),
            name: format!("span {number}"),
            ..Span::default()
        })
        .collect();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

pub(crate) fn id(number: u64) -> SpanId {
    SpanId::new(&number.to_be_bytes())
}

pub(crate) async fn tonic_client(collector: &Collector) -> TraceServiceClient<Channel> {
    TraceServiceClient::connect(collector.endpoint())
        .await
        .expect("the collector listens")
}

/// A plain answer, read whole.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answered {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) type RawClient = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn raw_http1() -> RawClient {
    Client::builder(TokioExecutor::new()).build_http()
}

pub(crate) fn raw_http2() -> RawClient {
    Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http()
}

pub(crate) fn post(
    collector: &Collector,
    path: &str,
    kind: &str,
    body: Vec<u8>,
) -> Request<Full<Bytes>> {
    Request::post(format!("{}{path}", collector.endpoint()))
        .header("content-type", kind)
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}

/// Sends and reads the answer whole; the error is a text.
pub(crate) async fn send(
    client: &RawClient,
    request: Request<Full<Bytes>>,
) -> Result<Answered, String> {
    let answering = async {
        let response: Response<_> = client
            .request(request)
            .await
            .map_err(|error| format!("{error:?}"))?;
        let (parts, body) = response.into_parts();
        let collected = body.collect().await.map_err(|error| format!("{error:?}"))?;
        Ok(Answered {
            status: parts.status,
            headers: parts.headers,
            trailers: collected.trailers().cloned().unwrap_or_default(),
            body: collected.to_bytes(),
        })
    };
    tokio::time::timeout(SOON, answering)
        .await
        .expect("an answer or an error comes soon")
}

/// Puts gRPC's prefix in front of a message.
pub(crate) fn grpc_frame(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    frame
}
