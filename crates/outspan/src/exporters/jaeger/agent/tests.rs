//! What cannot be seen from outside: names whose addresses change, and datagrams that the kernel finds too long.

#![allow(clippy::unwrap_used)]

use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::BoxFuture;
use opentelemetry_proto::tonic::trace::v1::Span;
use outspan_wire::jaeger::ReadLimits;
use outspan_wire::jaeger::WriteOptions;
use outspan_wire::jaeger::read_datagram;

use super::address::Address;
use super::address::Lookup;
use super::address::Whereabouts;
use super::send::Sender;
use super::*;
use crate::Error;
use crate::ErrorKind;
use crate::jaeger;

/// A name server that answers with what it was told to.
#[derive(Clone, Debug, Default)]
struct Names {
    state: Arc<Mutex<NamesState>>,
}

#[derive(Debug, Default)]
struct NamesState {
    addresses: Vec<SocketAddr>,
    is_silent: bool,
    /// Whether the answer is that there is no address, where there is none; otherwise it is an error.
    is_sure: bool,
    questions: Vec<String>,
}

impl Names {
    fn of(addresses: &[SocketAddr]) -> Self {
        let names = Self::default();
        names.now(addresses);
        names
    }

    fn now(&self, addresses: &[SocketAddr]) {
        self.state.lock().unwrap().addresses = addresses.to_vec();
    }

    fn is_silent(&self, is_silent: bool) {
        self.state.lock().unwrap().is_silent = is_silent;
    }

    fn is_sure(&self, is_sure: bool) {
        self.state.lock().unwrap().is_sure = is_sure;
    }

    fn questions(&self) -> usize {
        self.state.lock().unwrap().questions.len()
    }
}

impl Lookup for Names {
    fn ask(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let mut state = self.state.lock().unwrap();
        state.questions.push(host.to_owned());
        if state.is_silent {
            return Box::pin(std::future::pending());
        }
        let answer = match state.addresses.as_slice() {
            [] if !state.is_sure => Err(io::Error::other("no such host")),
            addresses => Ok(addresses.to_vec()),
        };
        Box::pin(async { answer })
    }
}

/// A batch of spans that `change` has seen with their numbers.
fn batch_with(spans: usize, change: impl FnMut(usize, &mut Span)) -> Batch {
    // The testkit's batches are of the library that it was built with.
    let theirs = outspan_testkit::batch_with(spans, change);
    let request = theirs.as_request().clone();
    Batch::from_request(request).unwrap().batch
}

fn batch_of(spans: usize) -> Batch {
    batch_with(spans, |_, _| {})
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

fn listener() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let time_max = Duration::from_secs(10);
    socket.set_read_timeout(Some(time_max)).unwrap();
    socket
}

/// An address at which nothing listens.
fn nowhere() -> SocketAddr {
    listener().local_addr().unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn spans_at(socket: &UdpSocket) -> usize {
    let mut buffer = vec![0; 70_000];
    let bytes = socket.recv(&mut buffer).unwrap();
    let read = read_datagram(&buffer[..bytes], &ReadLimits::default());
    read.unwrap().spans
}

fn whereabouts(names: &Names, interval: Duration) -> Whereabouts {
    let address = Address::parse("agent.example", 6831).unwrap();
    Whereabouts::new(address, Box::new(names.clone()), interval)
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn an_address_is_a_host_with_or_without_a_port() {
    let parsed = |text| Address::parse(text, 6831).map(|address| address.to_string());
    let good = [
        ("localhost", "localhost:6831"),
        ("localhost:7000", "localhost:7000"),
        ("10.0.0.1", "10.0.0.1:6831"),
        ("10.0.0.1:6832", "10.0.0.1:6832"),
        ("::1", "[::1]:6831"),
        ("[::1]", "[::1]:6831"),
        ("[::1]:7000", "[::1]:7000"),
        ("[fe80::1%eth0]:7000", "[fe80::1%eth0]:7000"),
    ];
    for (text, expected) in good {
        assert_eq!(parsed(text).unwrap(), expected);
    }
    let bad = [
        "",
        ":6831",
        "localhost:",
        "localhost:0",
        "localhost:70000",
        "localhost:x",
        "[::1",
        "[::1]x",
        "[::1]:",
        "[localhost]:6831",
        "::1:x:y",
        "udp://localhost:6831",
        "user:hunter2@localhost:6831",
        "local host:6831",
        "localhost:6831/path",
    ];
    for text in bad {
        let error = parsed(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn mistakes_are_found_when_building() {
    let builder = || jaeger::agent("localhost");
    let cases = [
        (builder().max_packet_bytes(0), "max_packet_bytes"),
        (builder().max_packet_bytes(65_508), "max_packet_bytes"),
        (builder().bytes_per_second(0), "bytes_per_second"),
        (
            jaeger::agent("http://u:hunter2@h"),
            "@h\": write host:port, such as localhost:6831",
        ),
        (jaeger::agent("a:1:2"), "write IPv6 addresses as [::1]:6831"),
        (jaeger::agent("a b"), "write host:port"),
    ];
    for (builder, part) in cases {
        assert!(!format!("{builder:?}").contains("hunter2"), "{builder:?}");
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(part), "{error}");
    }
    builder().max_packet_bytes(65_507).build().unwrap();
}

#[test]
fn the_port_follows_the_protocol() {
    let shown = |protocol| {
        format!(
            "{:?}",
            jaeger::agent("h").protocol(protocol).build().unwrap()
        )
    };
    let compact = shown(jaeger::Protocol::Compact);
    assert!(compact.contains("h:6831"), "{compact}");
    let binary = shown(jaeger::Protocol::Binary);
    assert!(binary.contains("h:6832"), "{binary}");
}

#[tokio::test(start_paused = true)]
async fn a_name_is_looked_up_once_an_interval_and_an_address_never() {
    let names = Names::of(&[address("10.0.0.1:0")]);
    let mut agent = whereabouts(&names, MINUTE);
    for _ in 0..3 {
        let current = agent.current(soon()).await.unwrap();
        assert_eq!(current, address("10.0.0.1:6831"));
    }
    assert_eq!(names.questions(), 1);
    names.now(&[address("10.0.0.2:0")]);
    tokio::time::advance(MINUTE).await;
    let current = agent.current(soon()).await.unwrap();
    assert_eq!(current, address("10.0.0.2:6831"));
    assert_eq!(names.questions(), 2);

    let literal = Address::parse("[::1]:7000", 6831).unwrap();
    let mut agent = Whereabouts::new(literal, Box::new(names.clone()), Duration::ZERO);
    agent.doubt();
    assert_eq!(agent.current(soon()).await.unwrap(), address("[::1]:7000"));
    assert_eq!(names.questions(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_old_address_serves_while_there_is_no_new_one() {
    let names = Names::of(&[address("10.0.0.1:0")]);
    let mut agent = whereabouts(&names, MINUTE);
    agent.current(soon()).await.unwrap();

    names.is_silent(true);
    tokio::time::advance(MINUTE).await;
    let begin = tokio::time::Instant::now();
    let current = agent.current(soon()).await.unwrap();
    assert_eq!(current, address("10.0.0.1:6831"));
    assert_eq!(
        begin.elapsed().as_millis(),
        0,
        "nobody waits for a new address"
    );

    names.is_silent(false);
    names.now(&[]);
    let mut agent = whereabouts(&names, MINUTE);
    let error = agent.current(soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.chain().to_string().contains("no such host"),
        "{error:?}"
    );
    names.now(&[address("10.0.0.3:0")]);
    agent.current(soon()).await.unwrap();
    names.now(&[]);
    tokio::time::advance(MINUTE).await;
    let current = agent.current(soon()).await.unwrap();
    assert_eq!(current, address("10.0.0.3:6831"), "no answer is no move");
    names.is_sure(true);
    tokio::time::advance(MINUTE).await;
    let current = agent.current(soon()).await.unwrap();
    assert_eq!(current, address("10.0.0.3:6831"), "nowhere is no place");
    let mut agent = whereabouts(&names, MINUTE);
    let error = agent.current(soon()).await.unwrap_err();
    assert!(error.to_string().contains("no address"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_address_is_asked_for_anew_and_waited_for_a_moment() {
    let names = Names::of(&[address("10.0.0.1:0")]);
    let mut agent = whereabouts(&names, MINUTE);
    agent.current(soon()).await.unwrap();
    agent.doubt();
    agent.current(soon()).await.unwrap();
    assert_eq!(
        names.questions(),
        1,
        "an answer of this very second is fresh"
    );

    tokio::time::advance(Duration::from_secs(1)).await;
    names.is_silent(true);
    let begin = tokio::time::Instant::now();
    let current = agent.current(soon()).await.unwrap();
    assert_eq!(current, address("10.0.0.1:6831"));
    assert_eq!(names.questions(), 2);
    assert!(
        begin.elapsed() >= Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn the_deadline_bounds_the_first_lookup() {
    let names = Names::of(&[]);
    names.is_silent(true);
    let until = Deadline::after(Duration::from_secs(3)).named("attempt timeout");
    let mut agent = whereabouts(&names, MINUTE);
    let error = agent.current(until).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("attempt timeout"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn version_4_comes_first_and_a_good_address_is_kept() {
    let names = Names::of(&[
        address("[::1]:0"),
        address("10.0.0.1:0"),
        address("10.0.0.2:0"),
    ]);
    let mut agent = whereabouts(&names, MINUTE);
    assert_eq!(
        agent.current(soon()).await.unwrap(),
        address("10.0.0.1:6831")
    );
    agent.turn_to_next();
    let second = address("10.0.0.2:6831");
    assert_eq!(agent.current(soon()).await.unwrap(), second);
    tokio::time::advance(MINUTE).await;
    assert_eq!(
        agent.current(soon()).await.unwrap(),
        second,
        "it is among the new ones"
    );
    agent.turn_to_next();
    assert_eq!(agent.current(soon()).await.unwrap(), address("[::1]:6831"));
    agent.turn_to_next();
    assert_eq!(
        agent.current(soon()).await.unwrap(),
        address("10.0.0.1:6831")
    );
}

#[tokio::test]
async fn the_next_address_of_a_name_gets_what_one_refuses() {
    let version_4 = nowhere();
    let version_6 = UdpSocket::bind(("::1", version_4.port())).unwrap();
    version_6
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let names = Names::of(&[version_6.local_addr().unwrap(), version_4]);
    let exporter = jaeger::agent(format!("agent.example:{}", version_4.port()))
        .build_with(names)
        .unwrap();
    for spans in [3, 4] {
        let delivery = exporter.export(batch_of(spans), soon()).await.unwrap();
        assert_eq!(delivery.accepted, spans as u64);
        assert_eq!(spans_at(&version_6), spans);
    }
}

#[tokio::test]
async fn an_agent_that_moved_is_found() {
    let old = listener();
    // Both have the same port, as agents have, on different addresses of the same loopback.
    let port = old.local_addr().unwrap().port();
    let moved = UdpSocket::bind(("127.0.0.2", port)).unwrap();
    moved
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let names = Names::of(&[old.local_addr().unwrap()]);
    let exporter = jaeger::agent(format!("agent.example:{port}"))
        .resolve_interval(Duration::ZERO)
        .build_with(names.clone())
        .unwrap();
    exporter.export(batch_of(1), soon()).await.unwrap();
    assert_eq!(spans_at(&old), 1);

    names.now(&[moved.local_addr().unwrap()]);
    exporter.export(batch_of(2), soon()).await.unwrap();
    assert_eq!(spans_at(&moved), 2);
}

#[tokio::test]
async fn all_datagrams_to_an_address_come_from_one() {
    let agent = listener();
    let address = agent.local_addr().unwrap();
    let exporter = jaeger::agent(address.to_string()).build().unwrap();
    let mut senders = Vec::new();
    for _ in 0..3 {
        exporter.export(batch_of(1), soon()).await.unwrap();
        senders.push(agent.recv_from(&mut [0; 1000]).unwrap().1);
    }
    assert_eq!(senders, [senders[0]; 3]);
}

#[tokio::test]
async fn an_agent_that_was_shut_down_takes_nothing() {
    let to = listener().local_addr().unwrap();
    let address = Address::parse(&to.to_string(), 6831).unwrap();
    let whereabouts = Whereabouts::new(address, Box::new(Names::default()), MINUTE);
    let sender = Sender::new(WriteOptions::datagram(), whereabouts, usize::MAX);
    let agent = Agent {
        runtime: crate::Runtime::shared(),
        sender: Arc::new(sender),
    };
    drop(agent.shutdown(soon()).await.unwrap());
    let error = agent.export(batch_of(1), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
}

/// The builder allows no such datagrams, so that this is about systems whose kernels send less than Linux does.
async fn deliver_beyond_the_kernel(batch: Batch, to: SocketAddr) -> (Sender, Result<Delivery>) {
    let address = Address::parse(&to.to_string(), 6831).unwrap();
    let whereabouts = Whereabouts::new(address, Box::new(Names::default()), MINUTE);
    let options = WriteOptions::datagram().bytes_max(100_000);
    let sender = Sender::new(options, whereabouts, usize::MAX);
    let result = sender.deliver(batch, soon()).await;
    (sender, result)
}

#[tokio::test]
async fn a_datagram_that_the_kernel_does_not_send_goes_in_halves() {
    let agent = listener();
    let batch = batch_with(9, |_, span| span.name = "n".repeat(10_000));
    let to = agent.local_addr().unwrap();
    let (sender, result) = deliver_beyond_the_kernel(batch, to).await;
    let delivery = result.unwrap();
    assert!(delivery.is_complete(), "{delivery:?}");
    assert_eq!(delivery.accepted, 9);
    assert_eq!(spans_at(&agent) + spans_at(&agent) + spans_at(&agent), 9);
    sender.deliver(batch_of(1), soon()).await.unwrap();
    assert_eq!(spans_at(&agent), 1);
}

#[tokio::test]
async fn a_span_that_the_kernel_does_not_send_is_left_alone() {
    let agent = listener();
    let batch = batch_with(3, |i, span| {
        if i == 1 {
            span.name = "n".repeat(90_000);
        }
    });
    let to = agent.local_addr().unwrap();
    let (_sender, result) = deliver_beyond_the_kernel(batch.clone(), to).await;
    let delivery = result.unwrap();
    assert_eq!(delivery.accepted, 2);
    let [left] = delivery.rest.as_slice() else {
        panic!("{delivery:?}");
    };
    assert_eq!(left.error.kind(), ErrorKind::TooLarge);
    assert_eq!(left.batch.spans(), 1);
    assert_eq!(left.batch.iter().next().unwrap().name().len(), 90_000);
}

#[tokio::test]
async fn an_error_names_the_agent() {
    let to = nowhere();
    let address = Address::parse(&to.to_string(), 6831).unwrap();
    let whereabouts = Whereabouts::new(address, Box::new(Names::default()), MINUTE);
    let sender = Sender::new(WriteOptions::datagram(), whereabouts, usize::MAX);
    let error: Error = sender.deliver(batch_of(2), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_temporary());
    assert_eq!(
        error.attempt().server.as_deref(),
        Some(to.to_string().as_str())
    );
    assert_eq!(error.attempt().attempts, 1);
    let text = error.to_string();
    assert!(text.contains("nothing listens there"), "{text}");
}
