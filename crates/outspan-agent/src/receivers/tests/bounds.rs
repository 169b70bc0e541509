//! What a connection may take: time, heads, and places.

use std::error::Error as _;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::limits::open_files_max;
use super::*;

/// Sends a byte at a time until the connection is closed; tells how long that took.
async fn trickle(stream: TcpStream, bytes: &[u8]) -> Duration {
    let started = Instant::now();
    let (mut read, mut write) = tokio::io::split(stream);
    let writing = async {
        for byte in bytes.iter().cycle() {
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
            // Sleeps: a slow sender is what is tested.
            tokio::time::sleep(millis(20)).await;
        }
        pending::<()>().await;
    };
    tokio::select! {
        _ = read_all(&mut read) => {}
        () = writing => {}
    }
    started.elapsed()
}

#[tokio::test]
async fn a_slow_head_is_cut_off_while_others_are_served() {
    let limits = Limits {
        head: millis(300),
        ping: millis(200),
        pong: millis(200),
        ..Limits::new(None)
    };
    let server = Server::limited(limits).await;
    let mut again = server.connect().await;
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    again.write_all(request).await.unwrap();
    until(|| server.fake.over.load(Ordering::SeqCst) == 1).await;
    let mut http2 = server.connect().await;
    http2.write_all(HTTP2_BEGIN).await.unwrap();
    // The head of a frame of headers that is announced with 16,000 bytes.
    http2
        .write_all(b"\0\x3e\x80\x01\x04\0\0\0\x01")
        .await
        .unwrap();

    let head = b"GET / HTTP/1.1\r\nx: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy";
    let all = tokio::join!(
        trickle(server.connect().await, head),
        trickle(server.connect().await, HTTP2_BEGIN.get(..20).unwrap()),
        trickle(again, head),
        trickle(http2, b"\0"),
        server.is_well(),
    );
    for took in [all.0, all.1, all.2] {
        assert!(took >= millis(300) && took < millis(2000), "{took:?}");
    }
    assert!(all.3 >= millis(350) && all.3 < millis(3000), "{:?}", all.3);
    server.has_open(0).await;
}

#[tokio::test]
async fn a_silent_connection_is_closed_and_an_idle_one_only_later() {
    let limits = Limits {
        first_byte: millis(200),
        head: millis(100),
        idle: millis(900),
        ..Limits::new(None)
    };
    let server = Server::limited(limits).await;
    let started = Instant::now();
    let mut http1 = server.http1().await;
    assert_eq!(http1.send("/", b"").await, "0");
    assert!(read_all(&mut server.connect().await).await.is_empty());
    assert!(started.elapsed() >= millis(200));
    // Sleeps: idle time is what is tested.
    tokio::time::sleep(millis(200)).await;
    assert_eq!(
        http1.send("/", b"1").await,
        "1",
        "longer idle than a head may take"
    );
    let answered = Instant::now();
    http1.is_closed().await;
    assert!(
        answered.elapsed() >= millis(700),
        "{:?}",
        answered.elapsed()
    );
    server.has_open(0).await;
}

#[tokio::test]
async fn a_request_may_take_longer_than_any_limit_of_its_connection() {
    let short = millis(100);
    let limits = Limits {
        first_byte: short,
        head: short,
        idle: short,
        write: short,
        ping: short,
        ..Limits::new(None)
    };
    let server = Server::limited(limits).await;
    let mut http1 = server.http1().await;
    let mut http2 = server.http2().await;
    let (one, other, ()) = tokio::join!(
        http1.send("/hold", b"1"),
        http2.send("/hold", b"22"),
        async {
            server.has_begun(2).await;
            // Sleeps: nothing happening is what is tested.
            tokio::time::sleep(millis(500)).await;
            server.fake.release.0.add_permits(2);
        }
    );
    assert_eq!((one.as_str(), other.as_str()), ("1", "2"));
}

#[tokio::test]
async fn http2_that_answers_no_pings_is_closed_and_one_that_does_stays() {
    let limits = Limits {
        ping: millis(150),
        pong: millis(150),
        ..Limits::new(None)
    };
    let server = Server::limited(limits).await;
    let mut polite = server.http2().await;
    assert_eq!(polite.send("/", b"").await, "0");
    let mut dead = server.connect().await;
    let started = Instant::now();
    dead.write_all(HTTP2_BEGIN).await.unwrap();
    read_all(&mut dead).await;
    let took = started.elapsed();
    assert!(took >= millis(280) && took < millis(3000), "{took:?}");
    // Sleeps: several pings are to pass.
    tokio::time::sleep(millis(600)).await;
    assert_eq!(polite.send("/", b"1").await, "1");
    server.has_open(1).await;
}

#[tokio::test]
async fn a_sender_that_does_not_read_its_answers_is_cut_off() {
    let limits = Limits {
        write: millis(300),
        ..Limits::new(None)
    };
    let server = Server::limited(limits).await;
    let mut stream = server.connect().await;
    let requests = b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n".repeat(64);
    stream.write_all(&requests).await.unwrap();
    server.has_begun(1).await;
    server.has_open(0).await;
    let begun = server.fake.begun.load(Ordering::SeqCst);
    assert!(begun < 64, "{begun} answers of 1 MiB were made for nobody");
    server.is_well().await;
}

#[tokio::test]
async fn a_sender_that_reads_its_answers_late_gets_them_all() {
    let limits = Limits {
        write: SOON,
        ..Limits::new(None)
    };
    let server = Server::limited(limits).await;
    let mut stream = server.connect().await;
    let requests = b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n".repeat(31);
    stream.write_all(&requests).await.unwrap();
    let last = b"GET /long HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(last).await.unwrap();
    server.has_begun(1).await;
    // Sleeps: until nothing fits between the two any more.
    tokio::time::sleep(millis(300)).await;
    let begun = server.fake.begun.load(Ordering::SeqCst);
    assert!(begun < 32, "nobody is kept waiting by {begun} answers");
    let received = read_all(&mut stream).await;
    assert!(received.len() > 32 << 20, "{}", received.len());
}

#[tokio::test]
async fn heads_that_are_too_long_are_refused_in_words_of_http() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let head = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n",
        "y".repeat(20_000)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = String::from_utf8(read_all(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");

    let Client::Http2(mut client) = server.http2().await else {
        panic!("it is HTTP/2");
    };
    let request = |bytes: usize| {
        Request::get("http://localhost/")
            .header("long", "y".repeat(bytes))
            .body(Full::<Bytes>::default())
            .unwrap()
    };
    let response = client.send_request(request(17_000)).await.unwrap();
    assert_eq!(
        response.status(),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    let response = client.send_request(request(10_000)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn open_requests_have_a_bound_and_those_beyond_it_may_come_back() {
    let server = Server::with_heads(Limits::new(None), 1000, None, 200 << 10).await;
    let Client::Http2(client) = server.http2().await else {
        panic!("it is HTTP/2");
    };
    let mut requests = JoinSet::new();
    for _ in 0..50 {
        let mut client = client.clone();
        let request = Request::post("http://localhost/hold")
            .header("content-type", "application/grpc+proto")
            .header("long", "y".repeat(10_000))
            .body(Full::<Bytes>::default())
            .unwrap();
        requests.spawn(async move { client.send_request(request).await });
    }
    let is_refused = |error: hyper::Error| {
        let source = error
            .source()
            .and_then(|source| source.downcast_ref::<h2::Error>());
        source.and_then(h2::Error::reason) == Some(h2::Reason::REFUSED_STREAM)
    };
    let mut refused = 0;
    // 12 KiB each, so 16 have room.
    while refused < 34 {
        let ended = timeout(SOON, requests.join_next()).await.unwrap().unwrap();
        assert!(is_refused(ended.unwrap().unwrap_err()));
        refused += 1;
    }
    let counted = server.receivers.status();
    assert_eq!(counted[0].deferred_requests, 34, "{counted:?}");
    let plain = Request::post("http://localhost/hold")
        .header("content-type", "application/json")
        .header("long", "y".repeat(10_000))
        .body(Full::<Bytes>::default())
        .unwrap();
    assert!(is_refused(
        client.clone().send_request(plain).await.unwrap_err()
    ));
    let counted = server.receivers.status();
    let deferred: Vec<_> = counted.iter().map(|of| of.deferred_requests).collect();
    assert_eq!(&deferred[..2], [34, 1], "gRPC's and HTTP's apart");
    let mut another = Client::Http2(client);
    assert!(
        another.try_send("/", &[]).await.is_ok(),
        "a short one has room"
    );
    server.fake.release.0.add_permits(16);
    while let Some(ended) = timeout(SOON, requests.join_next()).await.unwrap() {
        assert_eq!(ended.unwrap().unwrap().status(), StatusCode::OK);
    }
    assert_eq!(another.send("/", &[0; 5]).await, "5");
}

#[tokio::test]
async fn one_connection_too_many_is_refused_and_counted() {
    let server = Server::with(Limits::new(None), 3, None).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = server.http2().await;
        client.send("/", b"").await;
        clients.push(client);
    }
    for refused in 1..=5 {
        assert!(read_all(&mut server.connect().await).await.is_empty());
        assert_eq!(server.receivers.connections_refused(), refused);
    }
    assert_eq!(server.receivers.connections(), 3);
    clients.pop();
    server.has_open(2).await;
    assert_eq!(server.http1().await.send("/", b"abc").await, "3");
}

#[test]
fn connections_leave_files_for_others() {
    assert_eq!(connections_max(4096, None), 4096);
    assert_eq!(connections_max(4096, Some(1 << 20)), 4096);
    assert_eq!(connections_max(4096, Some(1024)), 896);
    assert_eq!(connections_max(4096, Some(100)), 50);
    assert_eq!(connections_max(4096, Some(0)), 1);
}

/// What this process holds, in KiB, where the system tells it.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[tokio::test]
async fn thousands_of_idle_connections_cost_little_and_nobody_else() {
    // Each end is a file of this process.
    let files = open_files_max().unwrap_or(1024);
    let connections = (files.saturating_sub(300) / 2).min(2000);
    let http2 = [HTTP2_BEGIN, HTTP2_PING].concat();
    for (what, opening, answer) in [
        (
            "HTTP/1",
            &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
            &b"\r\n\r\n0"[..],
        ),
        ("HTTP/2", &http2, b"pingpong"),
    ] {
        let server = Server::with(Limits::new(None), connections + 10, None).await;
        server.is_well().await;
        server.has_open(0).await;
        let before = resident();
        let mut idle = Vec::new();
        for _ in 0..connections {
            let mut stream = server.connect().await;
            stream.write_all(opening).await.unwrap();
            let mut received = Vec::new();
            let answered = async {
                while !received.windows(answer.len()).any(|some| some == answer) {
                    assert!(stream.read_buf(&mut received).await.unwrap() > 0);
                }
            };
            timeout(SOON, answered).await.expect("an answer in time");
            drop(received);
            idle.push(stream);
        }
        server.has_open(u64::try_from(connections).unwrap()).await;
        server.is_well().await;
        if let (Some(before), Some(after)) = (before, resident()) {
            let each = after.saturating_sub(before) * 1024 / connections.max(1);
            println!("{connections} idle connections of {what}: {each} bytes each");
            // Both ends, ours and the test's.
            assert!(each < 48 << 10, "{each} bytes for a connection of {what}");
        }
    }
}
