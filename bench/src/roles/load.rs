//! The load generator: precomputed requests, sent again and again over a number of connections.
//!
//! What is answered with "later" (UNAVAILABLE with RetryInfo, 429 or 503 with Retry-After) is sent again after the time
//! that was asked for. When told to stop, it begins nothing new and goes on until everything that it began is acknowledged,
//! so that what it sent and what it was acknowledged are the same, unless it says otherwise.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;
use tonic::Status;
use tonic_types::StatusExt;

use super::Role;
use super::number;
use super::obey;
use super::say;
use super::values;
use super::wire::Coding;
use super::wire::GRPC_PATH;
use super::wire::HTTP_PATH;
use super::wire::Protocol;
use super::wire::grpc_frame;
use crate::encode;
use crate::spans;

/// How many different requests are sent in turn: together they are larger than a core's cache, as in life.
const BODIES: u64 = 16;

/// How long what was begun may take after the stop.
const FINISH: Duration = Duration::from_secs(120);

/// The pause before trying again where none is asked for.
const PAUSE: Duration = Duration::from_millis(100);

/// What the load generator is to do.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where it sends to, as `127.0.0.1:PORT`.
    pub(crate) to: String,
    pub(crate) protocol: Protocol,
    pub(crate) coding: Coding,
    /// Spans a request.
    pub(crate) spans: u64,
    pub(crate) connections: u64,
    /// Requests in flight on each connection; HTTP/1.1 has connections of its own for each.
    pub(crate) in_flight: u64,
    /// Spans a second in all; all it can unless told.
    pub(crate) spans_per_second: Option<u64>,
}

impl Options {
    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = [
            ("--to", self.to.clone()),
            ("--protocol", self.protocol.as_str().to_owned()),
            ("--compression", self.coding.as_str().to_owned()),
            ("--spans", self.spans.to_string()),
            ("--connections", self.connections.to_string()),
            ("--in-flight", self.in_flight.to_string()),
        ]
        .into_iter()
        .flat_map(|(option, value)| [option.to_owned(), value])
        .collect();
        if let Some(rate) = self.spans_per_second {
            arguments.extend(["--rate".to_owned(), rate.to_string()]);
        }
        arguments
    }

    fn parse(arguments: &[&str]) -> Result<Self, String> {
        let word = |option: &str| {
            let values = values(arguments, option);
            values
                .first()
                .copied()
                .ok_or(format!("{option} is missing"))
        };
        let count = |option: &str| {
            let count = number(arguments, option)?.filter(|count| *count > 0);
            count.ok_or(format!("{option} is missing"))
        };
        Ok(Self {
            to: word("--to")?.to_owned(),
            protocol: Protocol::named(word("--protocol")?)?,
            coding: Coding::named(word("--compression")?)?,
            spans: count("--spans")?,
            connections: count("--connections")?,
            in_flight: count("--in-flight")?,
            spans_per_second: number(arguments, "--rate")?,
        })
    }

    /// How many requests may be in flight in all.
    pub(crate) fn slots(&self) -> u64 {
        self.connections * self.in_flight
    }
}

/// What the load generator has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    /// Spans of requests that were begun.
    pub(crate) spans: u64,
    pub(crate) acknowledged: u64,
    /// Attempts, those that were sent again included.
    pub(crate) attempts: u64,
    /// Attempts that were answered with "later".
    pub(crate) later: u64,
    /// Those of them that said when.
    pub(crate) later_with_wait: u64,
    /// Spans of attempts that got no answer, so that they may have arrived; they were sent again.
    pub(crate) unknown: u64,
    /// Spans that were refused for good, or in part.
    pub(crate) refused: u64,
}

impl Sent {
    fn of(numbers: &[u64]) -> Result<Self, String> {
        match numbers {
            &[
                spans,
                acknowledged,
                attempts,
                later,
                later_with_wait,
                unknown,
                refused,
            ] => Ok(Self {
                spans,
                acknowledged,
                attempts,
                later,
                later_with_wait,
                unknown,
                refused,
            }),
            _ => Err(format!("a strange report of the load: {numbers:?}")),
        }
    }
}

/// A load generator that runs.
#[derive(Debug)]
pub(crate) struct Load(Role);

impl Load {
    /// Starts this very program as a load generator. It is connected and sends from now on.
    pub(crate) fn start(options: &Options) -> Result<Self, String> {
        let (role, _) = Role::start("load", &options.arguments())?;
        Ok(Self(role))
    }

    /// Says what was sent until now.
    pub(crate) fn sent(&mut self) -> Result<Sent, String> {
        Sent::of(&self.0.ask()?)
    }

    /// Stops it, waits until everything is acknowledged, and says what was sent.
    pub(crate) fn finish(self) -> Result<Sent, String> {
        Sent::of(&self.0.finish()?)
    }
}

/// Runs the load generator until standard input ends.
pub(crate) fn serve(arguments: &[&str]) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("load: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    let requests = requests(&options)?;
    let tally = Arc::new(Tally::default());
    // One thread: what sends takes as little as it can from what is measured beside it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let (stop, stopping) = watch::channel(false);
        let mut slots = slots(&options, &requests, &tally, &stopping).await?;
        say("sending");
        let reported = Arc::clone(&tally);
        let stopped = obey(move || reported.line());
        // An error is the end of standard input.
        drop(stopped.await);
        stop.send_replace(true);
        let finished =
            tokio::time::timeout(FINISH, async { while slots.join_next().await.is_some() {} });
        if finished.await.is_err() {
            let seconds = FINISH.as_secs();
            eprintln!("load: not everything was acknowledged within {seconds} s of the stop");
        }
        say(&tally.line());
        Ok(())
    })
}

/// A request that is sent again and again.
#[derive(Clone, Debug)]
struct Prepared {
    head: Request<()>,
    body: Bytes,
}

/// The requests that are sent in turn.
fn requests(options: &Options) -> Result<Vec<Prepared>, String> {
    (0..BODIES)
        .map(|body| {
            let count = usize::try_from(options.spans).unwrap_or(usize::MAX);
            let batch = spans::spans(body * options.spans, count);
            let plain = encode::peer_request(batch).encode_to_vec();
            let packed = options.coding.compress(&plain);
            request(options, &packed.map_err(|e| e.to_string())?)
        })
        .collect()
}

fn request(options: &Options, body: &[u8]) -> Result<Prepared, String> {
    let is_compressed = options.coding != Coding::None;
    let (path, content_type, encoding) = match options.protocol {
        Protocol::Grpc => (GRPC_PATH, "application/grpc", "grpc-encoding"),
        Protocol::Http => (HTTP_PATH, "application/x-protobuf", "content-encoding"),
    };
    let mut request = Request::post(format!("http://{}{path}", options.to))
        .header(http::header::CONTENT_TYPE, content_type);
    if is_compressed {
        request = request.header(encoding, options.coding.as_str());
    }
    let (request, body) = match options.protocol {
        Protocol::Grpc => (
            request.header(http::header::TE, "trailers"),
            grpc_frame(body, is_compressed),
        ),
        Protocol::Http => (
            request
                .header(http::header::HOST, &options.to)
                .header(http::header::CONTENT_LENGTH, body.len()),
            Bytes::copy_from_slice(body),
        ),
    };
    let head = request.body(()).map_err(|e| e.to_string())?;
    Ok(Prepared { head, body })
}

/// Opens the connections, and starts everything that sends.
async fn slots(
    options: &Options,
    requests: &[Prepared],
    tally: &Arc<Tally>,
    stopping: &watch::Receiver<bool>,
) -> Result<JoinSet<()>, String> {
    // A slot sends one request in each interval; slots begin evenly spread over it.
    let interval = options.spans_per_second.map(|rate| {
        let seconds = (options.slots() * options.spans) as f64 / rate.max(1) as f64;
        Duration::from_secs_f64(seconds)
    });
    let mut senders = Vec::new();
    for _ in 0..options.connections {
        let shared = Sender::connect(options).await?;
        for _ in 0..options.in_flight {
            senders.push(match &shared {
                Sender::Http2(sender) => Sender::Http2(sender.clone()),
                Sender::Http1(_) => Sender::connect(options).await?,
            });
        }
    }
    let began = Instant::now();
    let mut slots = JoinSet::new();
    for (number, sender) in (0_u32..).zip(senders) {
        let part = f64::from(number) / options.slots() as f64;
        let slot = Slot {
            options: options.clone(),
            requests: requests.to_vec(),
            sender,
            tally: Arc::clone(tally),
            stopping: stopping.clone(),
        };
        let pace = interval.map(|interval| Pace {
            next: began + interval.mul_f64(part),
            interval,
        });
        slots.spawn(slot.run(number as usize, pace));
    }
    Ok(slots)
}

/// When a slot sends.
#[derive(Debug)]
struct Pace {
    next: Instant,
    interval: Duration,
}

/// Sends one request at a time.
#[derive(Debug)]
struct Slot {
    options: Options,
    requests: Vec<Prepared>,
    sender: Sender,
    tally: Arc<Tally>,
    stopping: watch::Receiver<bool>,
}

impl Slot {
    async fn run(mut self, first: usize, mut pace: Option<Pace>) {
        for turn in first.. {
            if let Some(pace) = &mut pace {
                tokio::select! {
                    () = tokio::time::sleep_until(pace.next) => {}
                    _ = self.stopping.wait_for(|stopping| *stopping) => {}
                }
                pace.next += pace.interval;
            }
            if *self.stopping.borrow() {
                return;
            }
            let request = self.requests.get(turn % self.requests.len()).cloned();
            if let Some(request) = request {
                self.deliver(request).await;
            }
        }
    }

    /// Sends one request until it is acknowledged or refused for good.
    async fn deliver(&mut self, request: Prepared) {
        let tally = Arc::clone(&self.tally);
        let spans = self.options.spans;
        add(&tally.spans, spans);
        loop {
            add(&tally.attempts, 1);
            match self.sender.send(request.clone()).await {
                Answer::Acknowledged => return add(&tally.acknowledged, spans),
                Answer::Later(wait) => {
                    add(&tally.later, 1);
                    add(&tally.later_with_wait, u64::from(wait.is_some()));
                    tokio::time::sleep(wait.unwrap_or(PAUSE)).await;
                }
                Answer::Refused(why) => {
                    if tally.refused.load(Ordering::Relaxed) == 0 {
                        eprintln!("load: refused: {why}");
                    }
                    add(&tally.refused, spans);
                    // Whoever refuses everything at once is not asked at full speed.
                    tokio::time::sleep(PAUSE).await;
                    return;
                }
                Answer::None(why) => {
                    if tally.unknown.load(Ordering::Relaxed) == 0 {
                        eprintln!("load: no answer: {why}");
                    }
                    add(&tally.unknown, spans);
                    self.reconnect().await;
                }
                Answer::Closed => self.reconnect().await,
            }
        }
    }

    /// Opens another connection, of which the next attempt makes use; if that fails, that attempt fails again.
    async fn reconnect(&mut self) {
        match Sender::connect(&self.options).await {
            Ok(sender) => self.sender = sender,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The sending side of a connection.
#[derive(Debug)]
enum Sender {
    Http2(h2::client::SendRequest<Bytes>),
    Http1(http1::SendRequest<Full<Bytes>>),
}

/// What became of an attempt.
#[derive(Debug)]
enum Answer {
    Acknowledged,
    Later(Option<Duration>),
    Refused(String),
    /// It was sent and may have arrived.
    None(String),
    /// It was not sent, because the connection was closed before.
    Closed,
}

impl Sender {
    async fn connect(options: &Options) -> Result<Self, String> {
        let failed = |e: &dyn std::fmt::Display| format!("cannot connect to {}: {e}", options.to);
        let stream = TcpStream::connect(&options.to);
        let stream = stream.await.map_err(|e| failed(&e))?;
        stream.set_nodelay(true).map_err(|e| failed(&e))?;
        // What ends a connection is seen by the requests on it.
        match options.protocol {
            Protocol::Grpc => {
                let handshake = h2::client::handshake(stream).await;
                let (sender, connection) = handshake.map_err(|e| failed(&e))?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(Self::Http2(sender))
            }
            Protocol::Http => {
                let handshake = http1::handshake(TokioIo::new(stream)).await;
                let (sender, connection) = handshake.map_err(|e| failed(&e))?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(Self::Http1(sender))
            }
        }
    }

    async fn send(&mut self, request: Prepared) -> Answer {
        match self {
            Self::Http2(sender) => match sender.clone().ready().await {
                Ok(sender) => grpc_call(sender, request).await,
                Err(_) => Answer::Closed,
            },
            Self::Http1(sender) => match sender.ready().await {
                Ok(()) => {
                    let request = request.head.map(|()| Full::new(request.body));
                    match sender.send_request(request).await {
                        Ok(response) => http_answer(response).await,
                        Err(e) => Answer::None(e.to_string()),
                    }
                }
                Err(_) => Answer::Closed,
            },
        }
    }
}

async fn grpc_call(mut sender: h2::client::SendRequest<Bytes>, request: Prepared) -> Answer {
    let begun = sender.send_request(request.head, false);
    let (response, mut body) = match begun {
        Ok(begun) => begun,
        Err(_) => return Answer::Closed,
    };
    // What the windows do not take yet waits in the connection, which holds no more than the requests in flight.
    // An error means that the stream has ended; the answer, if there is one, says why.
    drop(body.send_data(request.body, true));
    match response.await {
        Ok(response) => grpc_answer(response).await,
        Err(e) => Answer::None(e.to_string()),
    }
}

async fn grpc_answer(response: Response<h2::RecvStream>) -> Answer {
    let (head, body) = response.into_parts();
    let (message_bytes, trailers) = match grpc_rest(body).await {
        Ok(rest) => rest,
        Err(e) => return Answer::None(e.to_string()),
    };
    let headers = match &trailers {
        Some(trailers) => trailers,
        None => &head.headers,
    };
    let is_ok = headers.get("grpc-status") == Some(&HeaderValue::from_static("0"));
    // A message that is more than its prefix tells of a partial success.
    if is_ok && message_bytes <= 5 {
        return Answer::Acknowledged;
    }
    if is_ok {
        return Answer::Refused("a partial success".to_owned());
    }
    let Some(status) = Status::from_header_map(headers) else {
        return Answer::None(format!("{} without a gRPC status", head.status));
    };
    let wait = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay);
    match (status.code(), wait) {
        (Code::Unavailable, wait) => Answer::Later(wait),
        (Code::ResourceExhausted, Some(wait)) => Answer::Later(Some(wait)),
        _ => Answer::Refused(format!("{:?}: {}", status.code(), status.message())),
    }
}

/// Reads an answer to its end: how many bytes it has, and its trailers.
async fn grpc_rest(mut body: h2::RecvStream) -> Result<(usize, Option<HeaderMap>), h2::Error> {
    let mut bytes = 0;
    while let Some(data) = body.data().await {
        let length = data?.len();
        bytes += length;
        body.flow_control().release_capacity(length)?;
    }
    Ok((bytes, body.trailers().await?))
}

async fn http_answer(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let message_bytes = match rest(body).await {
        Ok(message_bytes) => message_bytes,
        Err(e) => return Answer::None(e.to_string()),
    };
    let wait = head.headers.get(http::header::RETRY_AFTER);
    let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
    match head.status.as_u16() {
        200 if message_bytes == 0 => Answer::Acknowledged,
        200 => Answer::Refused("a partial success".to_owned()),
        429 | 503 => Answer::Later(wait.map(Duration::from_secs)),
        status => Answer::Refused(format!("HTTP status {status}")),
    }
}

/// Reads a body to its end: how many bytes it has.
async fn rest(mut body: Incoming) -> hyper::Result<usize> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(bytes)
}

#[derive(Debug, Default)]
struct Tally {
    spans: AtomicU64,
    acknowledged: AtomicU64,
    attempts: AtomicU64,
    later: AtomicU64,
    later_with_wait: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
}

impl Tally {
    /// The numbers in the order of [`Sent`].
    fn line(&self) -> String {
        let numbers = [
            &self.spans,
            &self.acknowledged,
            &self.attempts,
            &self.later,
            &self.later_with_wait,
            &self.unknown,
            &self.refused,
        ];
        numbers
            .map(|number| number.load(Ordering::Relaxed).to_string())
            .join(" ")
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_options_that_it_writes() {
        for spans_per_second in [None, Some(1000)] {
            let options = Options {
                to: "127.0.0.1:4317".to_owned(),
                protocol: Protocol::Http,
                coding: Coding::Zstd,
                spans: 512,
                connections: 3,
                in_flight: 7,
                spans_per_second,
            };
            let written = options.arguments();
            let words: Vec<&str> = written.iter().map(String::as_str).collect();
            let read = Options::parse(&words).expect("it wrote them");
            assert_eq!(read.arguments(), written);
        }
    }

    #[test]
    fn reads_the_numbers_that_it_tells_in_their_order() {
        let tally = Tally::default();
        let counters = [
            &tally.spans,
            &tally.acknowledged,
            &tally.attempts,
            &tally.later,
            &tally.later_with_wait,
            &tally.unknown,
            &tally.refused,
        ];
        for (number, counter) in (1..).zip(counters) {
            add(counter, number);
        }
        let told = super::super::numbers(&tally.line()).expect("numbers");
        let sent = Sent::of(&told).expect("as many as there are");
        assert_eq!((sent.spans, sent.acknowledged, sent.attempts), (1, 2, 3));
        assert_eq!((sent.later, sent.later_with_wait), (4, 5));
        assert_eq!((sent.unknown, sent.refused), (6, 7));
    }

    #[test]
    fn sends_spans_of_the_size_that_the_page_tells() {
        let batch = spans::spans(0, spans::BATCH);
        let request = encode::peer_request(batch).encode_to_vec();
        assert_eq!(request.len() / spans::BATCH, 423);
    }
}
