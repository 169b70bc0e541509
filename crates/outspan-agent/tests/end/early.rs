//! Answers that are given before a request was read: senders that do nothing wrong keep their connection.

use std::io::Read;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use outspan_testkit::request_with;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;

use crate::agent::Agent;
use crate::agent::LIMIT;
use crate::agent::hanging;
use crate::agent::url_of;

const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const GRPC: &str = "application/grpc";

/// Bytes of each request: several frames, and several times what is read before it is answered.
const BODY_BYTES: usize = 200_000;

/// Requests on one connection, one after another and in all.
const SEQUENTIAL: usize = 300;
const REQUESTS: usize = 1300;

/// Requests at the same time, as many as HTTP/2 allows.
const CONCURRENT: usize = 100;

/// A call of gRPC with one message of the usual size.
fn message() -> Bytes {
    let mut body = vec![0];
    body.extend(u32::try_from(BODY_BYTES).unwrap().to_be_bytes());
    body.resize(body.len() + BODY_BYTES, 0);
    body.into()
}

#[derive(Clone, Copy, Debug)]
struct Call {
    path: &'static str,
    content_type: &'static str,
    token: Option<&'static str>,
}

impl Call {
    const EXPORT: Self = Self {
        path: METHOD,
        content_type: GRPC,
        token: None,
    };

    fn request(self, address: &str, body: &Bytes) -> Request<Full<Bytes>> {
        let request = Request::post(format!("http://{address}{}", self.path))
            .header("content-type", self.content_type)
            .header("te", "trailers");
        let request = match self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        request.body(Full::new(body.clone())).unwrap()
    }
}

/// Sends the call again and again on one connection, and checks each answer. Nothing may close the connection.
async fn check(address: &str, call: Call, expected: &str) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let body = message();
    let ask = async |mut client: http2::SendRequest<Full<Bytes>>| {
        let answer = async {
            let response = client.send_request(call.request(address, &body)).await?;
            let head = response.headers().clone();
            let status = match head.get("grpc-status") {
                Some(status) => status.to_str().unwrap().to_owned(),
                None => response.status().as_u16().to_string(),
            };
            response.into_body().collect().await?;
            Ok::<_, hyper::Error>(status)
        };
        let status = timeout(LIMIT, answer).await.expect("an answer in time");
        status.unwrap_or_else(|error| panic!("{call:?}: {error:?}"))
    };
    for number in 0..SEQUENTIAL {
        assert_eq!(
            ask(client.clone()).await,
            expected,
            "{call:?}, number {number}"
        );
    }
    let mut running = Vec::new();
    for round in 0..(REQUESTS - SEQUENTIAL) / CONCURRENT {
        running.extend((0..CONCURRENT).map(|_| ask(client.clone())));
        for status in futures_util::future::join_all(running.drain(..)).await {
            assert_eq!(status, expected, "{call:?}, round {round}");
        }
    }
    assert!(!connection.is_finished(), "the connection stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_without_room_keeps_connections_of_senders() {
    let collector = hanging();
    let url = url_of(&collector);
    let agent = Agent::start(&["--to", &url, "--memory", "16MiB", "--timeout", "1h"]);
    fill(&agent).await;
    check(agent.grpc(), Call::EXPORT, "14").await;
    let json = Call {
        path: "/v1/traces",
        content_type: "application/x-protobuf",
        ..Call::EXPORT
    };
    check(agent.http(), json, "503").await;
}

/// Sends spans until there is no room.
async fn fill(agent: &Agent) {
    let endpoint = format!("http://{}", agent.grpc());
    let mut client = TraceServiceClient::connect(endpoint).await.unwrap();
    for _ in 0..1000 {
        let request = request_with(10, |_, span| span.name = "x".repeat(10_000));
        if let Err(status) = client.export(request).await {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            return;
        }
    }
    panic!("100 MB found room in 16 MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_that_rejects_requests_keeps_connections_of_senders() {
    let token = ["--listen-token", "s3cret", "--max-request-size", "64KiB"];
    let agent = Agent::start(&[&["--to", "grpc://127.0.0.1:9"], &token[..]].concat());
    let known = Call {
        token: Some("s3cret"),
        ..Call::EXPORT
    };
    for (call, expected) in [
        // UNAUTHENTICATED.
        (Call::EXPORT, "16"),
        // RESOURCE_EXHAUSTED: too large.
        (known, "8"),
        // UNIMPLEMENTED.
        (
            Call {
                path: "/some.other.Service/Method",
                ..known
            },
            "12",
        ),
        (
            Call {
                path: "/v1/traces",
                content_type: "text/plain",
                ..known
            },
            "415",
        ),
    ] {
        check(agent.grpc(), call, expected).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tonic_client_sees_its_status_and_no_broken_connection() {
    let collector = hanging();
    let url = url_of(&collector);
    let agent = Agent::start(&["--to", &url, "--memory", "16MiB", "--timeout", "1h"]);
    fill(&agent).await;
    let endpoint = format!("http://{}", agent.grpc());
    let client = TraceServiceClient::connect(endpoint).await.unwrap();
    let request = request_with(20, |_, span| span.name = "x".repeat(10_000));
    for _ in 0..10 {
        let mut calls = JoinSet::new();
        for _ in 0..CONCURRENT {
            let (mut client, request) = (client.clone(), request.clone());
            calls.spawn(async move { client.export(request).await });
        }
        while let Some(ended) = calls.join_next().await {
            let status = ended.unwrap().unwrap_err();
            // A broken connection has this code as well, and other words.
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            assert!(
                status.message().contains("no destination has room"),
                "{status}"
            );
        }
    }
}

#[tokio::test]
async fn http1_answers_are_readable_when_all_is_sent() {
    let collector = hanging();
    let url = url_of(&collector);
    let agent = Agent::start(&["--to", &url, "--memory", "16MiB", "--timeout", "1h"]);
    fill(&agent).await;
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: {BODY_BYTES}\r\n\r\n"
    );
    let address = agent.http().to_owned();
    let sending = tokio::task::spawn_blocking(move || {
        for number in 0..200 {
            let mut stream = std::net::TcpStream::connect(&address).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream.set_write_timeout(Some(LIMIT)).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&[0; BODY_BYTES]).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{number}: {answer}");
            assert!(
                answer.contains("connection: close\r\n"),
                "{number}: {answer}"
            );
        }
    });
    timeout(LIMIT + Duration::from_secs(1), sending)
        .await
        .unwrap()
        .unwrap();
}
