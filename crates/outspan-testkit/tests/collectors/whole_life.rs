//! Starting, stopping, coming back, and working beside any test.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use prost::Message;

use crate::support::*;
use outspan_testkit::*;

/// A request of HTTP/1.1 as bytes, for tests that have no runtime.
fn plain_post() -> Vec<u8> {
    let body = request_from(1, 2).encode_to_vec();
    let mut request = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    request
}

fn connect(collector: &Collector) -> TcpStream {
    let stream = TcpStream::connect(collector.address()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn post_without_runtime(collector: &Collector) {
    let mut stream = connect(collector);
    stream.write_all(&plain_post()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn it_works_without_any_runtime() {
    let collector = Collector::http();
    post_without_runtime(&collector);
    let spans = collector.wait_for_spans_blocking(2, SOON);
    assert_eq!(spans[0].id(), id(1));
    assert_eq!(spans[1].span.name, "span 2");
}

#[tokio::test(start_paused = true)]
async fn waiting_takes_real_time_where_a_test_pauses_its_clock() {
    let collector = Collector::http();
    let before = tokio::time::Instant::now();
    post_without_runtime(&collector);
    collector.wait_for_spans(2, SOON).await;
    assert_eq!(tokio::time::Instant::now(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stops_and_comes_back_on_the_same_port_within_a_runtime() {
    let collector = Collector::grpc();
    let mut client = tonic_client(&collector).await;
    client.export(request_from(1, 1)).await.unwrap();
    let endpoint = collector.endpoint();

    for round in 0..3 {
        collector.stop();
        assert!(
            TcpStream::connect(collector.address()).is_err(),
            "nobody listens"
        );
        client.export(request_from(2, 1)).await.unwrap_err();
        assert_eq!(collector.open_connections(), 0);
        collector.restart();
        let mut again = tonic_client(&collector).await;
        again.export(request_from(10 + round, 1)).await.unwrap();
    }
    assert_eq!(collector.endpoint(), endpoint);
    assert_eq!(collector.span_ids(), [id(1), id(10), id(11), id(12)]);
}

#[test]
fn stopping_twice_and_restarting_twice_is_fine() {
    let collector = Collector::http();
    collector.stop();
    collector.stop();
    collector.restart();
    collector.restart();
    post_without_runtime(&collector);
    assert_eq!(collector.span_count(), 2);
}

#[test]
fn nobody_else_gets_the_port_of_a_stopped_collector() {
    let collector = Collector::http();
    collector.stop();
    for _ in 0..200 {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_ne!(other.local_addr().unwrap(), collector.address());
    }
    collector.restart();
    post_without_runtime(&collector);
}

#[tokio::test]
async fn stopping_breaks_requests_that_wait_for_their_answer() {
    let collector = Collector::grpc();
    collector.script([Answer::Stall]);
    let mut client = tonic_client(&collector).await;
    let exporting = tokio::spawn(async move { client.export(request_from(1, 1)).await });
    collector.wait_for_requests(1, SOON).await;
    collector.stop();
    let failed = tokio::time::timeout(SOON, exporting).await.unwrap();
    failed.unwrap().unwrap_err();
    collector.wait_for_in_flight(0, SOON).await;
}

#[tokio::test]
async fn connections_can_be_closed_at_once_or_in_order() {
    let collector = Collector::grpc();
    let mut client = tonic_client(&collector).await;
    client.export(request_from(1, 1)).await.unwrap();
    collector.disconnect_all();
    assert_eq!(collector.open_connections(), 0);

    let mut client = tonic_client(&collector).await;
    client.export(request_from(2, 1)).await.unwrap();
    let gate = Gate::new();
    collector.script([Answer::stall_until(&gate, Answer::Accept)]);
    let exporting = tokio::spawn(async move { client.export(request_from(3, 1)).await });
    collector.wait_for_requests(3, SOON).await;
    collector.go_away();
    gate.open();
    exporting
        .await
        .unwrap()
        .expect("what was asked before is answered");
    collector.wait_for_open_connections(0, SOON).await;
    assert_eq!(collector.span_ids(), [id(1), id(2), id(3)]);
    assert_eq!(collector.connections(), 2);
}

#[test]
fn connections_may_meet_silence_strange_words_or_a_reset() {
    let collector = Collector::http();

    collector.on_connect(OnConnect::Silence);
    let mut stream = connect(&collector);
    stream.write_all(&plain_post()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let error = stream.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    ));

    collector.on_connect(OnConnect::Say(b"SSH-2.0-other\r\n".to_vec()));
    let mut said = String::new();
    connect(&collector).read_to_string(&mut said).unwrap();
    assert_eq!(said, "SSH-2.0-other\r\n");

    collector.on_connect(OnConnect::Reset);
    let error = connect(&collector).read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    collector.on_connect(OnConnect::Serve);
    post_without_runtime(&collector);
    assert_eq!(collector.connections(), 4);
}

#[test]
fn clearing_forgets_requests_but_not_the_script() {
    let collector = Collector::http();
    post_without_runtime(&collector);
    collector.script([Answer::Accept]);
    collector.clear();
    assert_eq!((collector.span_count(), collector.requests().len()), (0, 0));
    assert_eq!(collector.answers_left(), 1);
    post_without_runtime(&collector);
    assert_eq!(collector.span_ids(), [id(1), id(2)]);
}

#[tokio::test]
async fn a_request_answered_after_clearing_is_not_counted() {
    let collector = Collector::http();
    let gate = Gate::new();
    collector.script([Answer::stall_until(&gate, Answer::Accept)]);
    let body = request_from(1, 2).encode_to_vec();
    let request = post(&collector, "/v1/traces", "application/x-protobuf", body);
    let sending = tokio::spawn(async move { send(&raw_http1(), request).await.unwrap() });
    collector.wait_for_requests(1, SOON).await;
    collector.clear();
    gate.open();
    assert_eq!(sending.await.unwrap().status, 200);
    assert_eq!((collector.span_count(), collector.spans().len()), (0, 0));
}

#[test]
#[should_panic(expected = "no 3 spans within 50ms")]
fn waiting_in_vain_says_what_is_missing() {
    let collector = Collector::http();
    post_without_runtime(&collector);
    collector.wait_for_spans_blocking(3, Duration::from_millis(50));
}

#[test]
fn dropping_it_frees_the_port() {
    let collector = Collector::http();
    let address = collector.address();
    drop(collector);
    std::net::TcpListener::bind(address).expect("the port is free again");
}
