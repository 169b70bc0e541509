//! Senders of Zipkin and Jaeger.

use std::collections::BTreeSet;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::path::Path;

use outspan::Batch;
use outspan::wire::PieceContent;
use outspan::wire::jaeger;
use outspan_testkit::Collector;
use outspan_testkit::batch_of;

use crate::agent::Agent;
use crate::agent::LIMIT;
use crate::agent::assert_has_all;
use crate::agent::url_of;
use crate::running::outspan;

const LISTEN: [&str; 6] = [
    "--listen",
    "zipkin+http://127.0.0.1:0",
    "--listen",
    "jaeger+http://127.0.0.1:0",
    "--listen",
    "jaeger+udp://127.0.0.1:0",
];

fn start(arguments: &[&str]) -> Agent {
    Agent::start(&[&LISTEN[..], arguments].concat())
}

/// Posts a body as a client does that knows nothing of us; returns the whole answer.
fn post(address: &str, path: &str, headers: &str, body: &[u8]) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(LIMIT)).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(body).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

fn thrift(batch: &Batch, options: jaeger::WriteOptions) -> Vec<Vec<u8>> {
    let mut writer = jaeger::Writer::new(options);
    let pieces = writer.pieces(batch.as_request());
    let pieces = pieces.map(|piece| match piece.unwrap().content {
        PieceContent::Bytes(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    });
    pieces.collect()
}

/// Trace id, span id and name of every span of a file of Zipkin's, ids in full length.
fn spans_of(text: &str) -> BTreeSet<(String, String, String)> {
    let spans: serde_json::Value = serde_json::from_str(text).unwrap();
    let spans = spans.as_array().unwrap().iter().map(|span| {
        let text = |key: &str| span[key].as_str().unwrap_or_default();
        let id = |key, digits| format!("{:0>digits$}", text(key).to_ascii_lowercase());
        (id("traceId", 32), id("id", 16), text("name").to_owned())
    });
    spans.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn traces_that_zipkin_clients_sent_arrive_as_they_are() {
    let collector = Collector::grpc();
    let agent = start(&["--to", &url_of(&collector)]);
    let address = agent.address("zipkin+http").to_owned();
    let vectors =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../outspan-wire/tests/vectors/zipkin");
    for name in [
        "lens.messaging.json",
        "lens.messaging-kafka.json",
        "lens.skew.json",
        "lens.envoy.json",
        "bench.zipkin2-chinese.json",
    ] {
        collector.clear();
        let text = std::fs::read_to_string(vectors.join(name)).unwrap();
        let text = match text.trim_start().starts_with('[') {
            true => text,
            false => format!("[{text}]"),
        };
        let answer = post(
            &address,
            "/api/v2/spans",
            "content-type: application/json\r\n",
            text.as_bytes(),
        );
        assert!(answer.starts_with("HTTP/1.1 202 "), "{name}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{name}: {answer}");
        let sent: serde_json::Value = serde_json::from_str(&text).unwrap();
        collector
            .wait_for_spans(sent.as_array().unwrap().len(), LIMIT)
            .await;
        let arrived = collector.spans().into_iter();
        let arrived: BTreeSet<_> = arrived
            .map(|span| {
                (
                    hex(&span.span.trace_id),
                    hex(&span.span.span_id),
                    span.span.name,
                )
            })
            .collect();
        assert_eq!(arrived, spans_of(&text), "{name}");
    }
    agent.stop("TERM").expect_status(0);
    assert_eq!(collector.complaints(), [""; 0]);
}

#[tokio::test]
async fn what_jaeger_clients_send_arrives_over_http_and_udp() {
    let collector = Collector::http();
    let agent = start(&["--to", &url_of(&collector)]);
    let mut batches = vec![batch_of(7)];
    let body = thrift(&batches[0], jaeger::WriteOptions::default()).remove(0);
    let answer = post(
        agent.address("jaeger+http"),
        "/api/traces?format=jaeger.thrift",
        "content-type: application/x-thrift\r\n",
        &body,
    );
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(agent.address("jaeger+udp")).unwrap();
    for protocol in [jaeger::Protocol::Compact, jaeger::Protocol::Binary] {
        let batch = batch_of(5);
        let options = jaeger::WriteOptions::datagram().protocol(protocol);
        for datagram in thrift(&batch, options) {
            socket.send(&datagram).unwrap();
        }
        batches.push(batch);
    }
    collector.wait_for_spans(17, LIMIT).await;
    agent
        .stop("INT")
        .expect_status(0)
        .expect_said(&["received 17 spans in"]);
    assert_has_all(&collector, &batches);
}

#[tokio::test]
async fn what_send_delivers_in_other_formats_arrives() {
    let collector = Collector::grpc();
    let agent = start(&["--to", &url_of(&collector)]);
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop.jsonl");
    let shop = shop.to_str().unwrap();
    outspan(&["send", shop, "--to", &url_of(&collector)]).expect_status(0);
    let ids = |collector: &Collector| collector.span_ids().into_iter().collect::<BTreeSet<_>>();
    let expected = ids(&collector);
    assert!(expected.len() > 10);
    let [zipkin, jaeger, datagrams] = ["zipkin+http", "jaeger+http", "jaeger+udp"]
        .map(|scheme| format!("{scheme}://{}", agent.address(scheme)));
    let cases: [(&str, &[&str]); 6] = [
        (&zipkin, &[]),
        (
            &zipkin,
            &["--protocol", "protobuf", "--compression", "gzip"],
        ),
        (&zipkin, &["--dialect", "collector"]),
        (&jaeger, &[]),
        (&jaeger, &["--dialect", "collector", "--header", "x-a=b"]),
        (&datagrams, &[]),
    ];
    for (to, options) in cases {
        collector.clear();
        let arguments = [&["send", shop, "--to", to], options].concat();
        let ran = outspan(&arguments).expect_status(0);
        assert!(
            ran.stderr.contains(&format!(" to {to} in ")),
            "{}",
            ran.stderr
        );
        collector.wait_for_spans(expected.len(), LIMIT).await;
        assert_eq!(ids(&collector), expected, "{to} {options:?}");
    }
    let meaningless = outspan(&["send", shop, "--to", &datagrams, "--header", "a=b"]);
    meaningless
        .expect_status(2)
        .expect_said(&["--header has no meaning here"]);
    let meaningless = outspan(&["send", shop, "--to", "grpc://x", "--dialect", "collector"]);
    meaningless
        .expect_status(2)
        .expect_said(&["--dialect has no meaning here"]);
    agent.stop("TERM").expect_status(0);
}

#[test]
fn what_is_wrong_is_answered_in_words_and_the_agent_goes_on() {
    let mut agent = start(&["--to", "stdout:compact"]);
    let zipkin = agent.address("zipkin+http").to_owned();
    let json = "content-type: application/json\r\n";
    let answer = post(
        &zipkin,
        "/api/v2/spans",
        json,
        b"[{\"traceId\":\"1\",\"id\":]",
    );
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("at line 1, column 22"), "{answer}");
    let answer = post(&zipkin, "/api/v1/spans", json, b"[]");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains("Zipkin v1 is not taken"), "{answer}");
    let otlp = "content-type: application/x-protobuf\r\n";
    let answer = post(&zipkin, "/v1/traces", otlp, batch_of(1).as_request());
    assert!(
        answer.contains("takes Zipkin's spans at /api/v2/spans"),
        "{answer}"
    );
    let answer = post(
        agent.address("jaeger+http"),
        "/api/traces",
        "content-type: application/x-thrift\r\n",
        b"\x0c\x00\x01nonsense",
    );
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("at byte "),
        "{answer}"
    );

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .send_to(b"nonsense", agent.address("jaeger+udp"))
        .unwrap();
    agent
        .running()
        .wait_until_said("passed over a datagram from 127.0.0.1:");
    let good = br#"[{"traceId":"1","id":"2","name":"fine"}]"#;
    assert!(post(&zipkin, "/api/v2/spans", json, good).starts_with("HTTP/1.1 202 "));
    agent.running().wait_until_shown("fine");
    agent.stop("TERM").expect_status(0);
}

#[test]
fn a_token_is_asked_of_senders_of_every_format() {
    let agent = start(&["--listen-token", "t0ken", "--to", "stdout:"]);
    for (scheme, path, kind) in [
        ("zipkin+http", "/api/v2/spans", "application/json"),
        ("jaeger+http", "/api/traces", "application/x-thrift"),
    ] {
        let headers = format!("content-type: {kind}\r\n");
        let answer = post(agent.address(scheme), path, &headers, b"");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    let headers = "content-type: application/json\r\nauthorization: Bearer t0ken\r\n";
    let answer = post(
        agent.address("zipkin+http"),
        "/api/v2/spans",
        headers,
        b"[]",
    );
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    agent.stop("TERM").expect_status(0);
}
