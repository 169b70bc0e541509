//! How connections end: by age, and when everything stops.

use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::Instant;

use super::*;

fn aged(age: u64) -> Limits {
    Limits::new(Some(millis(age)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_of_either_version_see_no_error_when_connections_grow_old() {
    let server = Server::limited(aged(60)).await;
    for is_http2 in [false, true] {
        // It sends again, as others do, what it had not sent yet when it heard that the connection ends.
        let client: legacy::Client<HttpConnector, Full<Bytes>> =
            legacy::Client::builder(TokioExecutor::new())
                .http2_only(is_http2)
                .build_http();
        let until = Instant::now() + millis(1500);
        let mut requests = 0;
        while Instant::now() < until {
            let uri = format!("http://{}/", server.address);
            let request = Request::post(uri).body(Full::from("abc")).unwrap();
            let answer = timeout(SOON, client.request(request)).await.unwrap();
            assert_eq!(text(answer.expect("no error")).await, "3");
            requests += 1;
        }
        assert!(requests > 20, "{requests}");
    }
    server.has_open(0).await;
}

#[tokio::test]
async fn the_last_answer_of_http1_says_so_and_an_old_idle_connection_is_closed() {
    let limits = Limits {
        grace: millis(300),
        ..aged(100)
    };
    let server = Server::limited(limits).await;
    let mut asked = server.http1().await;
    let mut silent = server.http1().await;
    for client in [&mut asked, &mut silent] {
        let response = client.try_send("/", b"").await.unwrap();
        assert_eq!(response.headers().get("connection"), None);
    }
    // Sleeps: growing old is what is tested.
    tokio::time::sleep(millis(150)).await;
    let response = asked.try_send("/", b"").await.unwrap();
    assert_eq!(response.headers()["connection"], "close");
    asked.is_closed().await;
    silent.is_closed().await;
    server.has_open(0).await;
}

#[tokio::test]
async fn requests_on_an_old_connection_get_their_time_and_no_more() {
    let limits = Limits {
        grace: millis(600),
        ..aged(50)
    };
    let server = Server::limited(limits).await;
    let mut http1 = server.http1().await;
    let mut http2 = server.http2().await;
    let (one, other, ()) = tokio::join!(
        http1.send("/hold", b"1"),
        http2.send("/hold", b"22"),
        async {
            server.has_begun(2).await;
            // Sleeps: growing old is what is tested.
            tokio::time::sleep(millis(250)).await;
            server.fake.release.0.add_permits(2);
        }
    );
    assert_eq!((one.as_str(), other.as_str()), ("1", "2"));

    let started = Instant::now();
    let mut http1 = server.http1().await;
    let mut http2 = server.http2().await;
    let (one, other) = tokio::join!(http1.try_send("/never", b""), http2.try_send("/never", b""));
    assert!(one.is_err() && other.is_err());
    assert!(started.elapsed() >= millis(600), "{:?}", started.elapsed());
    server.has_open(0).await;
    assert_eq!(server.fake.over.load(Ordering::SeqCst), 4, "dropped");
}

#[tokio::test]
async fn an_old_connection_of_http2_is_told_at_once() {
    let limits = Limits {
        grace: 10 * SOON,
        ..aged(50)
    };
    let server = Server::limited(limits).await;
    let mut client = server.http2().await;
    client.send("/", b"").await;
    client.is_closed().await;
    server.has_open(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_says_farewell_only_to_those_without_requests() {
    let limits = Limits {
        farewell: millis(20),
        ..Limits::new(None)
    };
    let server = Server::limited(limits).await;
    let mut http1 = server.http1().await;
    let mut http2 = server.http2().await;
    let (one, other, (), ()) = tokio::join!(
        http1.try_send("/hold", b"1"),
        http2.try_send("/hold", b"22"),
        async {
            server.has_begun(2).await;
            server.receivers.stop(Deadline::after(SOON)).await;
        },
        async {
            server.has_begun(2).await;
            // Sleeps: the time of the farewell is to pass.
            tokio::time::sleep(millis(200)).await;
            server.fake.release.0.add_permits(2);
        },
    );
    let one = one.unwrap();
    assert_eq!(one.headers()["connection"], "close");
    assert_eq!(text(one).await, "1");
    assert_eq!(text(other.unwrap()).await, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_lets_requests_end_and_gives_the_address_free_at_once() {
    let server = Server::start().await;
    let mut http1 = server.http1().await;
    let mut http2 = server.http2().await;
    let mut idle = server.http1().await;
    idle.send("/", b"").await;
    let (one, other, (), ()) = tokio::join!(
        http1.send("/hold", b"1"),
        http2.send("/hold", b"22"),
        async {
            server.has_begun(3).await;
            server.receivers.stop(Deadline::after(SOON)).await;
        },
        async {
            server.has_begun(3).await;
            idle.is_closed().await;
            let listen = Listen::parse(&format!("http://{}", server.address)).unwrap();
            listen.open().await.expect("the address is free");
            server.fake.release.0.add_permits(2);
        },
    );
    assert_eq!((one.as_str(), other.as_str()), ("1", "2"));
    assert_eq!(server.receivers.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_waits_no_longer_than_it_may() {
    let server = Server::start().await;
    let mut http1 = server.http1().await;
    let mut http2 = server.http2().await;
    let (one, other, ()) = tokio::join!(
        http1.try_send("/never", b""),
        http2.try_send("/never", b""),
        async {
            server.has_begun(2).await;
            let started = Instant::now();
            server.receivers.stop(Deadline::after(millis(300))).await;
            let took = started.elapsed();
            assert!(took >= millis(290) && took < millis(3000), "{took:?}");
        },
    );
    assert!(one.is_err() && other.is_err());
    assert_eq!(server.fake.over.load(Ordering::SeqCst), 2, "dropped");
    assert_eq!(server.receivers.connections(), 0);
}

#[tokio::test]
async fn a_second_stop_goes_faster_than_the_first() {
    let server = Server::start().await;
    let mut http1 = server.http1().await;
    let (answer, ()) = tokio::join!(http1.try_send("/never", b""), async {
        server.has_begun(1).await;
        let patient = server
            .receivers
            .stop(Deadline::after(Duration::from_secs(3600)));
        assert!(timeout(millis(50), patient).await.is_err());
        let now = server.receivers.stop(Deadline::after(Duration::ZERO));
        timeout(SOON, now).await.expect("at once");
    });
    assert!(answer.is_err());
}

#[tokio::test]
async fn connections_with_nothing_to_do_hold_up_nobody() {
    let server = Server::start().await;
    let mut silent = Vec::new();
    for opening in [
        &b""[..],
        b"GET / HT",
        HTTP2_BEGIN,
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(opening).await.unwrap();
        silent.push(stream);
    }
    server.has_open(4).await;
    server.has_begun(1).await;
    let started = Instant::now();
    server.receivers.stop(Deadline::after(SOON)).await;
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_receivers_close_everything() {
    let server = Server::start().await;
    let mut http1 = server.http1().await;
    http1.send("/", b"").await;
    let mut http2 = server.http2().await;
    http2.send("/", b"").await;
    let address = server.address;
    drop(server);
    http1.is_closed().await;
    http2.is_closed().await;
    let free = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, free).await.expect("nobody listens any more");
}
