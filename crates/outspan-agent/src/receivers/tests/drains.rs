//! Bodies over HTTP/2 whose requests were answered before all of them was read.

use super::*;

/// How many streams are reset within a second, at least, before the library for HTTP/2 forgets some of them and counts
/// what arrives for them.
const MANY: usize = 400;

fn large() -> Vec<u8> {
    vec![0; 200_000]
}

/// The bytes that the drains of a server take.
fn drained(server: &Server) -> usize {
    server.drains.used()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_streams_with_bodies_do_not_close_the_connection() {
    let server = Server::with_heads(Limits::new(None), 1000, None, 64 << 10).await;
    let Client::Http2(client) = server.http2().await else {
        panic!("it is HTTP/2");
    };
    for _ in 0..MANY / 50 {
        let refused = (0..50).map(|_| {
            let mut client = client.clone();
            let request = Request::post("http://localhost/")
                // More than there is room for.
                .header("long", "y".repeat(10_000))
                .header("longer", "y".repeat(4_000))
                .body(Full::new(Bytes::from(large())))
                .unwrap();
            async move { client.send_request(request).await }
        });
        for ended in futures_util::future::join_all(refused).await {
            if let Err(error) = ended {
                let error = format!("{error:?}");
                assert!(error.contains("REFUSED_STREAM"), "{error}");
            }
        }
    }
    let mut client = Client::Http2(client);
    assert_eq!(client.send("/", b"abc").await, "3");
    until(|| drained(&server) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_answers_come_at_once_and_drains_end_with_their_bodies() {
    let server = Server::start().await;
    let mut client = server.http2().await;
    for _ in 0..MANY {
        let response = client.try_send("/refuse", &large()).await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    assert_eq!(client.send("/", b"abc").await, "3");
    until(|| drained(&server) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn body_that_never_ends_is_let_go_after_its_time() {
    let limits = Limits {
        linger: Duration::from_millis(200),
        ..Limits::new(None)
    };
    let server = Server::limited(limits).await;
    let (send, connection) = h2::client::handshake(server.connect().await).await.unwrap();
    tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    let request = Request::post("http://localhost/refuse").body(()).unwrap();
    let (response, mut body) = send.send_request(request, false).unwrap();
    let response = timeout(SOON, response).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(drained(&server) > 0, "its rest may still come");
    let reset = timeout(SOON, poll_fn(|context| body.poll_reset(context)));
    assert_eq!(reset.await.unwrap().unwrap(), h2::Reason::NO_ERROR);
    assert_eq!(drained(&server), 0);
    server.is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_for_a_drain_the_stream_is_reset_at_once() {
    let server = Server::start().await;
    let mut all = server.drains.begin();
    assert!(all.grow(server.drains.max()));
    let mut client = server.http2().await;
    let response = client.try_send("/refuse", &large()).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(client.send("/", b"abc").await, "3");
}

/// As gRPC's library for Go does: it gives up a call whose answer comes before all of it is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_that_reset_calls_once_they_are_answered_keep_the_connection() {
    let server = Server::start().await;
    let stream = server.connect().await;
    stream.set_nodelay(true).unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    for number in 0..MANY {
        let mut send = send.clone().ready().await.unwrap();
        let request = Request::post("http://localhost/refuse").body(()).unwrap();
        let (response, mut body) = send.send_request(request, false).unwrap();
        body.send_data(vec![0; 60_000].into(), false).unwrap();
        let response = timeout(SOON, response).await.unwrap();
        assert!(response.is_ok(), "number {number}: {response:?}");
        body.send_reset(match number % 2 {
            0 => h2::Reason::NO_ERROR,
            _ => h2::Reason::CANCEL,
        });
    }
    assert!(!connection.is_finished());
    until(|| drained(&server) == 0).await;
    server.is_well().await;
}
