//! Other people's stacks over real connections: tonic, hyper, and frames as Python's and Go's gRPC cut them.

use std::net::SocketAddr;

use h2::client::SendRequest;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

use super::*;
use crate::receivers::Bound;
use crate::receivers::Listen;
use crate::receivers::Receivers;

/// How long anything may take that has no limit of its own.
const SOON: Duration = Duration::from_secs(20);

/// Receivers on a port of their own, in front of the parts of a [`Rig`].
struct Server {
    rig: Rig,
    receivers: Receivers,
    address: SocketAddr,
}

impl Server {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl Fn(&mut Plan)) -> Self {
        let mut settings = None;
        let rig = Rig::with(|plan| {
            change(plan);
            let own = Settings {
                max_request_bytes: plan.settings.max_request_bytes,
                request_timeout: plan.settings.request_timeout,
                max_connections: 100,
                max_connection_age: None,
                tls: None,
                cors_origins: Vec::new(),
                tokens: std::mem::take(&mut plan.settings.tokens),
                acks: plan.settings.acks,
            };
            settings = Some(own);
        });
        let listen = [Listen::parse("grpc://127.0.0.1:0").unwrap()];
        let bound = Bound::open(&listen, settings.unwrap()).await.unwrap();
        let receivers = bound.serve(Arc::clone(&rig.intake), Arc::clone(&rig.pipeline));
        let address = receivers.addresses()[0].strip_prefix("grpc://").unwrap();
        Self {
            address: address.parse().unwrap(),
            rig,
            receivers,
        }
    }

    async fn tonic(&self) -> TraceServiceClient<Channel> {
        let endpoint = Endpoint::try_from(format!("http://{}", self.address)).unwrap();
        TraceServiceClient::new(endpoint.connect().await.unwrap())
    }

    /// A connection of HTTP/2 whose frames the test writes.
    async fn frames(&self) -> Frames {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let (send, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        Frames(send)
    }

    /// Ends everything, and says how many spans arrived.
    async fn delivered(self) -> usize {
        self.receivers.stop(outspan_testkit::soon()).await;
        assert_eq!(self.rig.intake.used(), 0);
        self.rig.delivered().await
    }

    fn counted(&self, transport: Transport) -> ReceiverStatus {
        let all = self.receivers.status().into_iter();
        let mut one = all.filter(|of| of.transport == transport);
        one.next().unwrap()
    }
}

struct Frames(SendRequest<Bytes>);

impl Frames {
    /// Sends a call whose body comes in these frames, the last of which ends it.
    async fn call(&mut self, headers: &[(&'static str, &str)], frames: &[&[u8]]) -> Seen {
        let (response, mut send) = self.begin(headers).await;
        let last = frames.len() - 1;
        for (index, frame) in frames.iter().enumerate() {
            // It fails when the answer was given and the rest is not wanted any more.
            if send
                .send_data(Bytes::copy_from_slice(frame), index == last)
                .is_err()
            {
                break;
            }
        }
        read(response).await
    }

    async fn begin(
        &mut self,
        headers: &[(&'static str, &str)],
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://localhost{EXPORT}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut ready = self.0.clone().ready().await.unwrap();
        ready
            .send_request(request.body(()).unwrap(), false)
            .unwrap()
    }
}

async fn read(response: h2::client::ResponseFuture) -> Seen {
    let reading = async {
        let (head, mut stream) = response.await.unwrap().into_parts();
        let mut body = Vec::new();
        while let Some(piece) = stream.data().await {
            body.extend_from_slice(&piece.unwrap());
        }
        Seen {
            status: head.status,
            headers: head.headers,
            body: body.into(),
            trailers: stream.trailers().await.unwrap(),
        }
    };
    timeout(SOON, reading).await.expect("an answer in time")
}

/// What the Python stack (gRPC core) sends with a call.
const PYTHON: [(&str, &str); 5] = [
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    (
        "user-agent",
        "OTel-OTLP-Exporter-Python/1.38.0 grpc-python/1.76.0 grpc-c/51.0.0 (linux; chttp2)",
    ),
    ("grpc-accept-encoding", "identity, deflate, gzip"),
    ("grpc-timeout", "9999m"),
];

/// What the Go stack sends with a call.
const GO: [(&str, &str); 4] = [
    ("content-type", "application/grpc"),
    ("user-agent", "OTel OTLP Exporter Go/1.38.0 grpc-go/1.76.0"),
    ("te", "trailers"),
    ("grpc-timeout", "9998123u"),
];

#[tokio::test]
async fn tonic_is_understood_with_every_compression() {
    let server = Server::start().await;
    let plain = server.tonic().await;
    for mut exporter in [
        plain.clone(),
        plain.clone().send_compressed(CompressionEncoding::Gzip),
        plain.clone().send_compressed(CompressionEncoding::Deflate),
        plain.clone().send_compressed(CompressionEncoding::Zstd),
        plain.accept_compressed(CompressionEncoding::Gzip),
    ] {
        for spans in [0, 1, 500] {
            let response = exporter.export(request(spans)).await.unwrap();
            assert_eq!(response.into_inner().partial_success, None);
        }
    }
    assert_eq!(server.counted(Transport::Grpc).accepted_requests, 15);
    assert_eq!(server.delivered().await, 5 * 501);
}

#[tokio::test]
async fn tonic_hears_of_partial_success() {
    let server = Server::start().await;
    let response = server
        .tonic()
        .await
        .export(request_with_one_bad())
        .await
        .unwrap();
    let partial = response.into_inner().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert_eq!(server.delivered().await, 2);
}

#[tokio::test]
async fn tonic_hears_why_it_was_refused_also_in_the_middle_of_its_message() {
    let server = Server::with(|plan| plan.settings.max_request_bytes = 100_000).await;
    let mut exporter = server.tonic().await;
    let large = request_with(200, |_, span| span.name = "n".repeat(50_000));
    for _ in 0..3 {
        let status = exporter.export(large.clone()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
        assert!(status.get_details_retry_info().is_none());
        // The connection goes on.
        exporter.export(request(1)).await.unwrap();
    }
    let mut zipped = exporter.send_compressed(CompressionEncoding::Gzip);
    let status = zipped.export(large).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
    assert_eq!(server.delivered().await, 3);
}

#[tokio::test]
async fn tonic_is_told_when_to_come_back() {
    let server = Server::with(|plan| plan.queue = 3000).await;
    let mut exporter = server.tonic().await;
    let status = loop {
        if let Err(status) = exporter.export(request(2)).await {
            break status;
        }
    };
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(
        status
            .get_details_retry_info()
            .unwrap()
            .retry_delay
            .unwrap()
            >= Duration::from_secs(1)
    );
}

#[tokio::test]
async fn tonic_gets_in_with_its_token() {
    let server = Server::with(|plan| {
        plan.settings.tokens = Tokens::parse(&["s3cret".into()]).unwrap();
    });
    let server = server.await;
    let mut exporter = server.tonic().await;
    let status = exporter.export(request(1)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    let mut request = tonic::Request::new(request(1));
    let token = "Bearer s3cret".parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    exporter.export(request).await.unwrap();
    assert_eq!(server.delivered().await, 1);
}

#[tokio::test]
async fn python_cuts_frames_in_odd_places_and_ends_with_an_empty_one() {
    let server = Server::start().await;
    let mut python = server.frames().await;
    let body = encoded(Form::Grpc, &request(5));
    let (prefix, message) = body.split_at(5);
    let halves = message.split_at(message.len() / 2);
    let bytes: Vec<_> = body.chunks(1).collect();
    for frames in [
        vec![&body[..]],
        vec![&body[..], b""],
        vec![prefix, message],
        vec![
            b"",
            &prefix[..1],
            b"",
            &prefix[1..4],
            &prefix[4..],
            halves.0,
            b"",
            halves.1,
            b"",
            b"",
        ],
        vec![&body[..3], &body[3..]],
        bytes,
    ] {
        let seen = python.call(&PYTHON, &frames).await;
        assert_eq!(seen.grpc_response(), ExportTraceServiceResponse::default());
    }
    assert_eq!(server.delivered().await, 30);
}

#[tokio::test]
async fn python_compresses_with_what_it_knows() {
    let server = Server::start().await;
    let mut python = server.frames().await;
    let body = message(true, &bodies::gzip(&request(5).encode_to_vec()));
    let headers = [&PYTHON[..], &[("grpc-encoding", "gzip")]].concat();
    let seen = python.call(&headers, &[&body[..5], &body[5..]]).await;
    assert_eq!(seen.grpc().code(), tonic::Code::Ok);
    assert_eq!(server.delivered().await, 5);
}

#[tokio::test]
async fn go_sends_frames_of_16_kib_and_many_calls_at_once() {
    let server = Server::with(|plan| plan.settings.max_request_bytes = 4 << 20).await;
    let body = encoded(
        Form::Grpc,
        &request_with(100, |_, span| span.name = "n".repeat(2000)),
    );
    let go = server.frames().await;
    let calls = (0..20).map(|_| {
        let (mut go, body) = (Frames(go.0.clone()), body.clone());
        tokio::spawn(async move {
            let frames: Vec<_> = body.chunks(16 << 10).collect();
            go.call(&GO, &frames).await.grpc().code()
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), tonic::Code::Ok);
    }
    assert_eq!(server.delivered().await, 2000);
}

#[tokio::test]
async fn go_resets_its_call_when_its_time_is_up() {
    let server = Server::start().await;
    let mut go = server.frames().await;
    let body = encoded(Form::Grpc, &request(5));
    let (_response, mut send) = go.begin(&GO).await;
    send.send_data(Bytes::copy_from_slice(&body[..50]), false)
        .unwrap();
    send.send_reset(h2::Reason::CANCEL);
    // The connection reads in order; in a few calls more the reset has come through.
    let reset = async {
        while server.counted(Transport::Grpc).broken_requests == 0 {
            go.call(&GO, &[&body]).await.grpc_response();
        }
    };
    timeout(SOON, reset).await.expect("the reset is seen");
    let counted = server.counted(Transport::Grpc);
    assert_eq!(counted.broken_requests, 1);
    assert_eq!(counted.accepted_spans, 5 * counted.accepted_requests);
    assert!(server.delivered().await > 0);
}

#[tokio::test]
async fn a_call_whose_time_is_up_is_told_so() {
    let server = Server::start().await;
    let mut go = server.frames().await;
    let headers = [
        ("content-type", "application/grpc"),
        ("grpc-timeout", "50m"),
    ];
    let (response, mut send) = go.begin(&headers).await;
    send.send_data(Bytes::from_static(&[0, 0]), false).unwrap();
    let status = read(response).await.grpc();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert_eq!(server.counted(Transport::Grpc).broken_requests, 1);
}

#[tokio::test]
async fn a_call_without_a_message_and_with_two_is_refused() {
    let server = Server::start().await;
    let mut frames = server.frames().await;
    assert_eq!(
        frames.call(&GO, &[b""]).await.grpc().code(),
        tonic::Code::Internal
    );
    let body = encoded(Form::Grpc, &request(1));
    let status = frames.call(&GO, &[&body, &body]).await.grpc();
    assert_eq!(status.code(), tonic::Code::Internal);
    assert_eq!(server.delivered().await, 0);
}

/// A connection of HTTP/1.1 that carries these bodies.
async fn http1(server: &Server) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
    let socket = TcpStream::connect(server.address).await.unwrap();
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(socket));
    let (send, connection) = handshake.await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    send
}

fn http_request(form: Form, body: Vec<u8>) -> Request<Full<Bytes>> {
    post(form, Script::default())
        .with("host", "localhost")
        .map(|_| Full::new(body.into()))
}

#[tokio::test]
async fn http_1_keeps_its_connection_from_request_to_request() {
    let server = Server::start().await;
    let mut send = http1(&server).await;
    for form in HTTP_FORMS {
        for spans in [0, 1, 300] {
            let body = encoded(form, &request(spans));
            let response = send.send_request(http_request(form, body)).await.unwrap();
            assert_eq!(
                Seen::read(response).await.http_response(),
                Default::default()
            );
        }
        let bad = send
            .send_request(http_request(form, b"\xFFbad".to_vec()))
            .await
            .unwrap();
        assert_eq!(Seen::read(bad).await.http_status().code, 3);
    }
    assert_eq!(server.delivered().await, 602);
}

#[tokio::test]
async fn http_1_keeps_its_connection_after_a_body_of_chunks() {
    let server = Server::start().await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let first = format!("{head}transfer-encoding: chunked\r\n\r\n1\r\n{{\r\n1\r\n}}\r\n0\r\n\r\n");
    let last = format!("{head}connection: close\r\ncontent-length: 2\r\n\r\n{{}}");
    let talk = async {
        socket.write_all(first.as_bytes()).await.unwrap();
        socket.write_all(last.as_bytes()).await.unwrap();
        let mut answers = String::new();
        socket.read_to_string(&mut answers).await.unwrap();
        answers
    };
    let answers = timeout(SOON, talk).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
}

#[tokio::test]
async fn http_2_carries_otlp_over_http_too() {
    let server = Server::start().await;
    let socket = TcpStream::connect(server.address).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let handshake = hyper::client::conn::http2::handshake(executor, TokioIo::new(socket));
    let (mut send, connection) = handshake.await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    for form in HTTP_FORMS {
        let mut request = http_request(form, encoded(form, &request(2)));
        *request.uri_mut() = "http://localhost/v1/traces".parse().unwrap();
        *request.version_mut() = Version::HTTP_2;
        let response = send.send_request(request).await.unwrap();
        assert_eq!(
            Seen::read(response).await.http_response(),
            Default::default()
        );
    }
    assert_eq!(server.delivered().await, 4);
}

#[tokio::test]
async fn the_heads_of_open_requests_have_a_part_of_the_room() {
    let server = Server::with(|plan| plan.memory = 800 << 10).await;
    let long = "y".repeat(10_000);
    let headers = [
        ("content-type", "application/grpc"),
        ("long", long.as_str()),
    ];
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..2 {
        let mut frames = server.frames().await;
        for _ in 0..20 {
            let (response, send) = frames.begin(&headers).await;
            open.push((Box::pin(response), send));
        }
    }
    // A quarter is 200 KiB, and they have 12 KiB each: 16 have room.
    while refused < 24 {
        let ended = open.iter_mut().map(|(response, _)| response);
        let (ended, which, _) = timeout(SOON, futures_util::future::select_all(ended))
            .await
            .unwrap();
        assert_eq!(
            ended.unwrap_err().reason(),
            Some(h2::Reason::REFUSED_STREAM)
        );
        drop(open.swap_remove(which));
        refused += 1;
    }
    assert_eq!(server.counted(Transport::Grpc).deferred_requests, 24);
}

#[tokio::test]
async fn a_sender_that_writes_everything_first_reads_why_it_was_refused() {
    let server = Server::with(|plan| plan.settings.max_request_bytes = 1000).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let body = vec![b' '; 5 << 20];
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let talk = async {
        socket.write_all(head.as_bytes()).await.unwrap();
        socket
            .write_all(&body)
            .await
            .expect("it is read and thrown away");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.expect("no reset");
        String::from_utf8(answer).unwrap()
    };
    let answer = timeout(SOON, talk).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(answer.contains("1000 bytes"), "{answer}");
}

#[tokio::test]
async fn a_sender_that_asks_first_is_refused_before_its_body() {
    let server = Server::with(|plan| plan.settings.max_request_bytes = 1000).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 2000\r\nexpect: 100-continue\r\n\r\n";
    let talk = async {
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    let answer = timeout(SOON, talk).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_sender_that_leaves_in_the_middle_is_counted_as_broken() {
    let server = Server::start().await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 2000\r\n\r\n{";
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let end = timeout(SOON, socket.read_to_end(&mut answer)).await;
    end.expect("the connection is closed").unwrap();
    let counted = server.counted(Transport::Http);
    assert_eq!((counted.broken_requests, counted.accepted_requests), (1, 0));
    assert_eq!(server.delivered().await, 0);
}
