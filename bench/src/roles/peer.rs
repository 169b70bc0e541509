//! The peer: a forwarder as one writes it with tonic, prost and hyper.
//!
//! Requests are decoded into the types of `opentelemetry-proto`, go through a bounded channel, are put together to batches of
//! 8192 spans or 200 ms, encoded and sent on, a few at a time. SIGTERM ends it when everything is sent.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::Response;
use http::StatusCode;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceService;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceServiceServer;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::values;
use super::wire::Coding;
use super::wire::HTTP_PATH;
use super::wire::Protocol;

const BATCH_SPANS: usize = 8192;
const BATCH_DELAY: Duration = Duration::from_millis(200);

/// Requests that wait to be put together.
const QUEUE: usize = 64;

/// Batches that are on their way at once.
const EXPORTS: u32 = 4;

const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Runs the peer until SIGTERM.
pub(crate) fn serve(arguments: &[&str]) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("peer: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<(), String> {
    let word = |option: &str| values(arguments, option).first().copied();
    let protocol = Protocol::named(word("--protocol").unwrap_or("grpc"))?;
    let coding = Coding::named(word("--compression").unwrap_or("none"))?;
    let to = word("--to").ok_or("--to is missing")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    runtime.block_on(forward(protocol, coding, to))
}

async fn forward(protocol: Protocol, coding: Coding, to: &str) -> Result<(), String> {
    let exporter = match protocol {
        Protocol::Grpc => Exporter::Grpc(connect(coding, to).await?),
        Protocol::Http => {
            let client = Client::builder(TokioExecutor::new()).build_http();
            Exporter::Http(client, format!("http://{to}{HTTP_PATH}"))
        }
    };
    let mut terminated =
        tokio::signal::unix::signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let listener = TcpListener::bind("127.0.0.1:0");
    let listener = listener.await.map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let (queue, queued) = mpsc::channel(QUEUE);
    let batcher = tokio::spawn(batch(queued, exporter));
    eprintln!("listening on {}://{address}", protocol.as_str());
    let stop = async move {
        terminated.recv().await;
    };
    match protocol {
        Protocol::Grpc => serve_grpc(listener, queue, stop).await?,
        Protocol::Http => serve_http(listener, queue, stop).await,
    }
    batcher.await.map_err(|e| e.to_string())
}

async fn connect(coding: Coding, to: &str) -> Result<TraceServiceClient<Channel>, String> {
    let channel = Channel::from_shared(format!("http://{to}"))
        .map_err(|e| e.to_string())?
        .connect()
        .await
        .map_err(|e| format!("cannot connect to {to}: {e}"))?;
    let client = TraceServiceClient::new(channel);
    Ok(match coding {
        Coding::None => client,
        Coding::Gzip => client.send_compressed(CompressionEncoding::Gzip),
        Coding::Zstd => client.send_compressed(CompressionEncoding::Zstd),
    })
}

type Queue = mpsc::Sender<Vec<ResourceSpans>>;

async fn serve_grpc(
    listener: TcpListener,
    queue: Queue,
    stop: impl Future<Output = ()>,
) -> Result<(), String> {
    let service = TraceServiceServer::new(Service { queue })
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop)
        .await
        .map_err(|e| e.to_string())
}

#[derive(Debug)]
struct Service {
    queue: Queue,
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner().resource_spans;
        match self.queue.send(spans).await {
            Ok(()) => Ok(tonic::Response::new(ExportTraceServiceResponse::default())),
            Err(_) => Err(Status::unavailable("shutting down")),
        }
    }
}

async fn serve_http(listener: TcpListener, queue: Queue, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => return,
        };
        let Ok((stream, _)) = stream else { continue };
        drop(stream.set_nodelay(true));
        let queue = queue.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| export(request, queue.clone()));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            drop(connection.await);
        });
    }
}

async fn export(
    request: Request<Incoming>,
    queue: Queue,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    let body = request.into_body().collect().await;
    let decoded = body
        .ok()
        .and_then(|body| ExportTraceServiceRequest::decode(body.aggregate()).ok());
    *response.status_mut() = match decoded {
        None => StatusCode::BAD_REQUEST,
        Some(decoded) => match queue.send(decoded.resource_spans).await {
            Ok(()) => StatusCode::OK,
            Err(_) => StatusCode::SERVICE_UNAVAILABLE,
        },
    };
    Ok(response)
}

/// Puts requests together, and sends them on until the queue is closed and everything is sent.
async fn batch(mut queued: mpsc::Receiver<Vec<ResourceSpans>>, exporter: Exporter) {
    let open = Arc::new(Semaphore::new(EXPORTS as usize));
    while let Some(first) = queued.recv().await {
        let mut spans = count(&first);
        let mut batch = first;
        let end = Instant::now() + BATCH_DELAY;
        while spans < BATCH_SPANS {
            match tokio::time::timeout_at(end, queued.recv()).await {
                Ok(Some(more)) => {
                    spans += count(&more);
                    batch.extend(more);
                }
                Ok(None) | Err(_) => break,
            }
        }
        let Ok(permit) = Arc::clone(&open).acquire_owned().await else {
            return;
        };
        let exporter = exporter.clone();
        tokio::spawn(async move {
            if let Err(e) = exporter.export(batch).await {
                eprintln!("peer: {spans} spans lost: {e}");
            }
            drop(permit);
        });
    }
    // All permits are back when nothing is on its way any more.
    drop(open.acquire_many(EXPORTS).await);
}

fn count(spans: &[ResourceSpans]) -> usize {
    let scopes = spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.map(|scope| scope.spans.len()).sum()
}

#[derive(Clone, Debug)]
enum Exporter {
    Grpc(TraceServiceClient<Channel>),
    Http(Client<HttpConnector, Full<Bytes>>, String),
}

impl Exporter {
    async fn export(&self, resource_spans: Vec<ResourceSpans>) -> Result<(), String> {
        let request = ExportTraceServiceRequest { resource_spans };
        match self {
            Self::Grpc(client) => {
                let answer = client.clone().export(request).await;
                answer.map(drop).map_err(|status| status.to_string())
            }
            Self::Http(client, url) => {
                let request = Request::post(url)
                    .header(http::header::CONTENT_TYPE, "application/x-protobuf")
                    .body(Full::new(Bytes::from(request.encode_to_vec())))
                    .map_err(|e| e.to_string())?;
                let answer = client.request(request).await.map_err(|e| e.to_string())?;
                match answer.status() {
                    StatusCode::OK => Ok(()),
                    status => Err(status.to_string()),
                }
            }
        }
    }
}
