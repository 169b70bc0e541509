//! The server over real sockets, with a snapshot made by hand.

use std::net::SocketAddr;
use std::time::Duration;

use outspan::Account;
use outspan::DropReason;
use outspan::engine::AckLevel;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::process::ProcessStatus;
use super::snapshot::Snapshot;
use super::*;
use crate::agent::MemoryStatus;
use crate::agent::State;
use crate::agent::Status;
use crate::log::Log;
use crate::pipeline::DestinationStatus;
use crate::receivers::AckStatus;
use crate::receivers::Counters;
use crate::receivers::Kind;
use crate::receivers::ReceiverStatus;

/// How long anything may take here, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A snapshot in which every number is another one, and the accounts close.
pub(super) fn snapshot() -> Snapshot {
    Snapshot {
        agent: Status {
            state: State::Running,
            uptime: Duration::from_millis(12_500),
            receivers: receivers(),
            acks: Some(AckStatus {
                level: AckLevel::Delivered,
                waiting: 3,
                max_waiting: 1024,
                waiting_bytes: 3000,
                max_bytes: 96 << 20,
            }),
            connections: 7,
            connections_refused: 2,
            destinations: vec![one(), two()],
            memory: MemoryStatus {
                max: 256 << 20,
                receiving: 4096,
                receiving_max: 96 << 20,
            },
        },
        listening: vec![
            "grpc://127.0.0.1:4317".to_owned(),
            "http://127.0.0.1:4318".to_owned(),
        ],
        process: ProcessStatus {
            resident_bytes: Some(20 << 20),
            cpu: Some(Duration::from_millis(1250)),
        },
    }
}

fn receivers() -> Vec<ReceiverStatus> {
    let mut receivers = Counters::new([Kind::Grpc]).status();
    for (number, of) in (1..).zip(&mut receivers) {
        let requests = number * 100;
        of.accepted_requests = requests + 1;
        of.refused_requests = requests + 2;
        of.deferred_requests = requests + 3;
        of.broken_requests = requests + 4;
        of.dropped_requests = requests + 5;
        of.unacknowledged_requests = requests + 6;
        let spans = number * 1000;
        of.accepted_spans = spans + 1;
        of.refused_spans = spans + 2;
        of.deferred_spans = spans + 3;
        of.dropped_spans = spans + 4;
        of.bytes = number * 10_000 + 1;
    }
    receivers
}

fn one() -> DestinationStatus {
    let mut account = Account::default();
    account.received = 3002;
    account.delivered = 2900;
    account.refused = 10;
    for (number, reason) in (1..).zip(DropReason::ALL) {
        account.dropped.add(reason, number);
    }
    account.queued = 54;
    account.in_flight = 10;
    assert!(account.closes(), "{account}");
    DestinationStatus {
        name: "grpc://one.example.com:4317".to_owned(),
        account,
        bytes: 10_000,
        bytes_max: 48 << 20,
        batches: 3,
        exports: 1,
        trouble: None,
        next_attempt: None,
        causes: vec![(DropReason::Failed, "connection lost".to_owned())],
        refusal: Some("no such tenant".to_owned()),
    }
}

fn two() -> DestinationStatus {
    let mut account = Account::default();
    account.received = 3002;
    account.delivered = 3002;
    DestinationStatus {
        name: "http://two.example.com:4318".to_owned(),
        account,
        bytes: 1000,
        bytes_max: 48 << 20,
        batches: 0,
        exports: 0,
        trouble: Some("cannot connect to two.example.com:4318: refused".to_owned()),
        next_attempt: Some(Duration::from_millis(90_500)),
        causes: Vec::new(),
        refusal: None,
    }
}

async fn serve(address: &str, server: Server) -> Admin {
    let admin = Admin::bind(address).await.unwrap();
    admin.serve_with(server);
    admin
}

async fn start(limits: Limits) -> (Admin, SocketAddr) {
    let admin = serve("127.0.0.1:0", Server::new(limits, snapshot)).await;
    let address = admin.address().strip_prefix("http://").unwrap();
    let address = address.parse().unwrap();
    (admin, address)
}

/// Sends bytes and reads until the other end closes.
async fn converse(address: SocketAddr, request: &str) -> String {
    let talk = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    timeout(LIMIT, talk).await.unwrap()
}

async fn get(address: SocketAddr, path: &str) -> String {
    converse(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
}

#[tokio::test]
async fn pages_come_over_the_wire_and_connections_end() {
    let (_admin, address) = start(Limits::default()).await;
    for path in ["/healthz", "/readyz", "/status", "/metrics?name=x", "/"] {
        let answer = get(address, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
        assert!(
            answer.contains("x-content-type-options: nosniff\r\n"),
            "{answer}"
        );
    }
    let answer = get(address, "/nothing").await;
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    let old = converse(address, "GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 OK\r\n"), "{old}");
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let (_admin, address) = start(Limits::default()).await;
    let whole = get(address, "/status").await;
    let (_, body) = whole.split_once("\r\n\r\n").unwrap();
    let head = converse(address, "HEAD /status HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    let length = format!("content-length: {}\r\n", body.len());
    assert!(head.contains(&length), "{head}");
}

#[tokio::test]
async fn a_request_with_a_body_is_answered_without_waiting_for_it() {
    let (_admin, address) = start(Limits::default()).await;
    let request = "POST /status HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    let answer = converse(address, request).await;
    assert!(
        answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"),
        "{answer}"
    );
    assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_too_large_or_none_is_refused() {
    let (_admin, address) = start(Limits::default()).await;
    let long = "x".repeat(8 << 10);
    let request = format!("GET / HTTP/1.1\r\na: {long}\r\nb: {long}\r\nc: {long}\r\n\r\n");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let read = timeout(LIMIT, stream.read_exact(&mut answer)).await;
    read.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    let answer = converse(address, "hello\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn silent_connections_end_and_those_that_waited_are_served() {
    let limits = Limits {
        connections: 2,
        head: Duration::from_millis(200),
        whole: Duration::MAX,
        ..Limits::default()
    };
    let (_admin, address) = start(limits).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhos")
        .await
        .unwrap();
    let answer = get(address, "/healthz").await;
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    for stream in [&mut silent, &mut slow] {
        let mut rest = Vec::new();
        let read = timeout(LIMIT, stream.read_to_end(&mut rest)).await.unwrap();
        drop(read);
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }
}

#[tokio::test]
async fn oldest_connection_makes_way_when_as_many_are_open_as_may_be() {
    let limits = Limits {
        connections: 2,
        head: LIMIT * 10,
        whole: Duration::MAX,
        ..Limits::default()
    };
    let (_admin, address) = start(limits).await;
    let mut oldest = TcpStream::connect(address).await.unwrap();
    oldest.write_all(b"GET /hea").await.unwrap();
    let younger = TcpStream::connect(address).await.unwrap();
    let answer = get(address, "/healthz").await;
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    let mut rest = Vec::new();
    // An error if it was closed with something unread.
    drop(timeout(LIMIT, oldest.read_to_end(&mut rest)).await.unwrap());
    assert!(rest.is_empty());
    drop(younger);
}

#[tokio::test]
async fn bound_address_answers_once_it_is_served() {
    let admin = Admin::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = admin.address()["http://".len()..].parse().unwrap();
    let waiting = tokio::spawn(get(address, "/healthz"));
    admin.serve_with(Server::new(Limits::default(), snapshot));
    let answer = waiting.await.unwrap();
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    let unserved = Admin::bind("127.0.0.1:0").await.unwrap();
    drop(unserved);
}

#[tokio::test]
async fn who_never_reads_the_answer_is_let_go() {
    let limits = Limits {
        connections: 1,
        whole: Duration::from_millis(200),
        ..Limits::default()
    };
    let big = || {
        let mut shown = snapshot();
        shown.listening = vec!["x".repeat(1000); 4000];
        shown
    };
    let admin = serve("127.0.0.1:0", Server::new(limits, big)).await;
    let address: SocketAddr = admin.address()["http://".len()..].parse().unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut deaf = socket.connect(address).await.unwrap();
    deaf.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let answer = get(address, "/healthz").await;
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    drop(deaf);
}

#[tokio::test]
async fn dropping_the_admin_frees_its_address_and_ends_its_connections() {
    let (admin, address) = start(Limits::default()).await;
    let mut open = TcpStream::connect(address).await.unwrap();
    let answer = get(address, "/healthz").await;
    assert!(answer.contains("200 OK"));
    drop(admin);
    let mut rest = Vec::new();
    let ended = timeout(LIMIT, open.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty(), "{ended:?}");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn only_an_address_that_others_can_reach_is_warned_of() {
    let log = Log::begin();
    let server = || Server::new(Limits::default(), snapshot);
    let _quiet = serve("localhost:0", server()).await;
    assert_eq!(log.text(), "");
    let open = serve("0.0.0.0:0", server()).await;
    let text = log.text();
    assert_eq!(text.matches("WARN").count(), 1, "{text}");
    assert!(text.contains(&open.address()["http://".len()..]), "{text}");
}
