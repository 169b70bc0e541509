//! Serving both versions of HTTP on one address.

use futures_util::future::join_all;
use tokio::io::split;

use super::*;

#[tokio::test]
async fn both_versions_are_served_on_one_address() {
    let server = Server::start().await;
    let mut http1 = server.http1().await;
    let mut http2 = server.http2().await;
    for bytes in [0, 1, 70_000, 3 << 20] {
        let body = vec![7; bytes];
        assert_eq!(http1.send("/", &body).await, bytes.to_string());
        assert_eq!(http2.send("/", &body).await, bytes.to_string());
    }
    assert_eq!(server.receivers.connections(), 2);
    drop((http1, http2));
    server.has_open(0).await;
}

#[tokio::test]
async fn the_version_is_told_however_the_first_bytes_come() {
    let server = Server::start().await;
    let (mut client, mut feed) = tokio::io::duplex(64 << 10);
    let (mut from_server, mut to_server) = split(server.connect().await);
    let trickle = tokio::spawn(async move {
        let mut byte = [0];
        while feed.read(&mut byte).await.is_ok_and(|read| read > 0) {
            to_server.write_all(&byte).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    client
        .write_all(b"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\nab")
        .await
        .unwrap();
    let answer = String::from_utf8(read_all(&mut from_server).await).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n2"),
        "{answer}"
    );
    trickle.abort();

    let mut stream = server.connect().await;
    for byte in HTTP2_BEGIN.iter().chain(HTTP2_PING) {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut received = Vec::new();
    let pong = async {
        while !received.windows(8).any(|some| some == b"pingpong") {
            assert!(stream.read_buf(&mut received).await.unwrap() > 0);
        }
    };
    timeout(SOON, pong).await.expect("a pong");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_at_once_come_whole_and_do_not_wait_for_one_that_is_held() {
    let server = Server::start().await;
    let Client::Http2(client) = server.http2().await else {
        panic!("it is HTTP/2");
    };
    let held = tokio::spawn({
        let mut client = Client::Http2(client.clone());
        async move { client.send("/hold", b"a").await }
    });
    server.has_begun(1).await;
    let body = vec![1; 256 << 10];
    let requests = (0..99).map(|_| {
        let mut client = Client::Http2(client.clone());
        let body = &body;
        async move { client.send("/", body).await }
    });
    for answer in join_all(requests).await {
        assert_eq!(answer, body.len().to_string());
    }
    assert!(!held.is_finished());
    server.fake.release.0.add_permits(1);
    assert_eq!(held.await.unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_its_sender_takes_back_is_dropped() {
    let server = Server::start().await;
    let Client::Http2(client) = server.http2().await else {
        panic!("it is HTTP/2");
    };
    let mut taken_back = Client::Http2(client.clone());
    let request = tokio::spawn(async move { taken_back.send("/never", b"").await });
    server.has_begun(1).await;
    request.abort();
    until(|| server.fake.over.load(Ordering::SeqCst) == 1).await;
    assert_eq!(
        Client::Http2(client).send("/", b"12").await,
        "2",
        "the connection stays"
    );

    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    server.has_begun(3).await;
    drop(stream);
    until(|| server.fake.over.load(Ordering::SeqCst) == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_opened_and_reset_all_the_time_leave_nothing() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let mut frames = HTTP2_BEGIN.to_vec();
    for id in (1..20_000_u32).step_by(2) {
        let id = id.to_be_bytes();
        // GET, http, and /never as a literal of six letters, in a frame that ends the headers and the request.
        let block = b"\x82\x86\x04\x06/never";
        frames.extend([0, 0, u8::try_from(block.len()).unwrap(), 1, 5]);
        frames.extend(id);
        frames.extend(block);
        // CANCEL.
        frames.extend([0, 0, 4, 3, 0]);
        frames.extend(id);
        frames.extend([0, 0, 0, 8]);
    }
    // The server may end the connection before it has taken all of that.
    stream.write_all(&frames).await.ok();
    stream.shutdown().await.ok();
    let received = read_all(&mut stream).await;
    // ENHANCE_YOUR_CALM, behind the last stream of the frame that says goodbye.
    let is_told = received.windows(4).any(|some| some == [0, 0, 0, 0xb]);
    assert!(is_told || received.is_empty(), "{received:?}");
    server.has_open(0).await;
    let (begun, over) = (&server.fake.begun, &server.fake.over);
    until(|| over.load(Ordering::SeqCst) == begun.load(Ordering::SeqCst)).await;
    server.is_well().await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_is_readable_when_all_is_sent() {
    let server = Server::start().await;
    let chunk = vec![0; 1 << 20];
    for (path, status, words) in [
        ("/refuse", "413", "no"),
        ("/first", "200", "that was all: false"),
    ] {
        let mut stream = server.connect().await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
            16 << 20
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..16 {
            timeout(SOON, stream.write_all(&chunk))
                .await
                .expect("somebody reads")
                .unwrap();
        }
        let answer = String::from_utf8(read_all(&mut stream).await).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.ends_with(&format!("\r\n\r\n{words}")), "{answer}");
    }
    let mut http1 = server.http1().await;
    assert_eq!(http1.send("/first", b"ab").await, "that was all: true");
    assert_eq!(http1.send("/", b"").await, "0", "the connection stays");

    let mut http2 = server.http2().await;
    let response = http2.try_send("/refuse", &vec![0; 16 << 20]).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(http2.send("/", b"").await, "0", "the connection stays");
}

#[tokio::test]
async fn a_mistake_of_ours_costs_one_connection() {
    let server = Server::start().await;
    for mut client in [server.http1().await, server.http2().await] {
        assert!(client.try_send("/panic", b"").await.is_err());
    }
    server.is_well().await;
    server.has_open(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_bytes_do_no_harm() {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let server = Server::start().await;
    let start = prop_oneof![
        Just(b"".to_vec()),
        Just(HTTP2_BEGIN.to_vec()),
        Just(b"POST / HTTP/1.1\r\n".to_vec()),
        Just(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
        Just(vec![0x16, 3, 1]),
    ];
    // Frames of HTTP/2 with any content come further than plain noise.
    let frame = (
        0..12_u8,
        any::<u8>(),
        0..4_u8,
        prop::collection::vec(any::<u8>(), 0..60),
    )
        .prop_map(|(kind, flags, stream, payload)| {
            let length = u8::try_from(payload.len()).unwrap();
            [vec![0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
        });
    let rest = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..400),
        prop::collection::vec(frame, 0..12).prop_map(|frames| frames.concat()),
    ];
    let inputs = (start, rest).prop_map(|(start, rest)| [start, rest].concat());
    let mut runner = TestRunner::default();
    let cases: Vec<_> = (0..400)
        .map(|_| inputs.new_tree(&mut runner).unwrap().current())
        .collect();
    for some in cases.chunks(40) {
        let all = some.iter().map(|input| async {
            let mut stream = server.connect().await;
            // The server may have closed before all of it was written.
            stream.write_all(input).await.ok();
            stream.shutdown().await.ok();
            read_all(&mut stream).await;
        });
        join_all(all).await;
    }
    server.has_open(0).await;
    server.is_well().await;
}
