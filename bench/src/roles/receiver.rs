//! The receiving end: a server in a process of its own, which shares nothing with our own framing or reading.
//!
//! It counts the spans of every request, after decompression, by walking the lengths (of JSON, by its `spanId` keys), and
//! decodes every 16th request (or as told) with prost or serde to see that the spans are whole. It can take spans at a
//! limited rate.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use memchr::memmem;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Role;
use super::number;
use super::obey;
use super::say;
use super::values;
use super::wire::Coding;
use super::wire::Protocol;

/// What arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) requests: u64,
    pub(crate) spans: u64,
    /// After decompression, without framing.
    pub(crate) bytes: u64,
    /// Read from sockets, with everything.
    pub(crate) wire_bytes: u64,
    pub(crate) looked_into: u64,
    pub(crate) wrong: u64,
    /// The spans at each port.
    pub(crate) at_port: Vec<u64>,
}

impl Arrived {
    fn of(numbers: &[u64]) -> Result<Self, String> {
        match numbers {
            &[
                requests,
                spans,
                bytes,
                wire_bytes,
                looked_into,
                wrong,
                ref at_port @ ..,
            ] => Ok(Self {
                requests,
                spans,
                bytes,
                wire_bytes,
                looked_into,
                wrong,
                at_port: at_port.to_vec(),
            }),
            _ => Err(format!(
                "a strange report of the receiving end: {numbers:?}"
            )),
        }
    }

    fn line(&self) -> String {
        let totals = [
            self.requests,
            self.spans,
            self.bytes,
            self.wire_bytes,
            self.looked_into,
            self.wrong,
        ];
        let words: Vec<String> = totals
            .iter()
            .chain(&self.at_port)
            .map(u64::to_string)
            .collect();
        words.join(" ")
    }
}

/// What the receiving end is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) protocol: Protocol,
    pub(crate) ports: usize,
    /// How many spans a second it takes; all it can unless told.
    pub(crate) spans_per_second: Option<u64>,
    /// Of how many requests one is looked into.
    pub(crate) look_every: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            protocol: Protocol::Grpc,
            ports: 1,
            spans_per_second: None,
            look_every: 16,
        }
    }
}

impl Options {
    fn arguments(self) -> Vec<String> {
        let mut arguments = vec![
            "--protocol".to_owned(),
            self.protocol.as_str().to_owned(),
            "--ports".to_owned(),
            self.ports.to_string(),
            "--look-every".to_owned(),
            self.look_every.to_string(),
        ];
        if let Some(rate) = self.spans_per_second {
            arguments.extend(["--rate".to_owned(), rate.to_string()]);
        }
        arguments
    }

    fn parse(arguments: &[&str]) -> Result<Self, String> {
        let protocol = values(arguments, "--protocol");
        let ports = number(arguments, "--ports")?.unwrap_or(1);
        Ok(Self {
            protocol: Protocol::named(protocol.first().unwrap_or(&"grpc"))?,
            ports: usize::try_from(ports).unwrap_or(1),
            spans_per_second: number(arguments, "--rate")?,
            look_every: number(arguments, "--look-every")?.unwrap_or(16).max(1),
        })
    }
}

/// A receiving end that runs.
#[derive(Debug)]
pub(crate) struct Receiver {
    role: Role,
    /// Where it listens, as a URL: the first port.
    pub(crate) endpoint: String,
    /// Where it listens, each port as `127.0.0.1:PORT`.
    pub(crate) addresses: Vec<String>,
}

impl Receiver {
    /// Starts this very program as a receiving end.
    pub(crate) fn start(options: Options) -> Result<Self, String> {
        let (role, ports) = Role::start("receiver", &options.arguments())?;
        let addresses: Vec<String> = ports
            .split_ascii_whitespace()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let first = addresses
            .first()
            .ok_or("the receiving end listens nowhere")?;
        Ok(Self {
            role,
            endpoint: format!("http://{first}"),
            addresses,
        })
    }

    /// Says what has arrived until now.
    pub(crate) fn arrived(&mut self) -> Result<Arrived, String> {
        Arrived::of(&self.role.ask()?)
    }

    /// Stops it and says what arrived.
    pub(crate) fn finish(self) -> Result<Arrived, String> {
        Arrived::of(&self.role.finish()?)
    }
}

/// Runs the receiving end until standard input ends.
pub(crate) fn serve(arguments: &[&str]) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("receiving end: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    let end = Arc::new(End::new(options));
    // One thread: the receiving end takes as little as it can from what is measured beside it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let mut ports = Vec::new();
        for port in 0..options.ports {
            let listener = TcpListener::bind("127.0.0.1:0");
            let listener = listener.await.map_err(|e| e.to_string())?;
            let address = listener.local_addr().map_err(|e| e.to_string())?;
            ports.push(address.port().to_string());
            tokio::spawn(accept(listener, port, Arc::clone(&end)));
        }
        say(&ports.join(" "));
        let reported = Arc::clone(&end);
        let stopped = obey(move || reported.state().arrived.line());
        // An error is the end of standard input.
        drop(stopped.await);
        say(&end.state().arrived.line());
        Ok(())
    })
}

/// What all connections share.
#[derive(Debug)]
struct End {
    options: Options,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    arrived: Arrived,
    /// When the spans that have been taken until now are through, at the limited rate.
    busy_until: Instant,
    /// Room for bodies, used again and again.
    bodies: Vec<Vec<u8>>,
    /// Room for what a compressed body holds.
    plain: Vec<u8>,
}

impl End {
    fn new(options: Options) -> Self {
        Self {
            options,
            state: Mutex::new(State {
                arrived: Arrived {
                    at_port: vec![0; options.ports],
                    ..Arrived::default()
                },
                busy_until: Instant::now(),
                bodies: Vec::new(),
                plain: Vec::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, port: usize, end: Arc<End>) {
    while let Ok((stream, _)) = listener.accept().await {
        drop(stream.set_nodelay(true));
        tokio::spawn(connection(stream, port, Arc::clone(&end)));
    }
}

/// Serves a connection; how it ends does not matter, since the sending side counts what was acknowledged.
async fn connection(stream: TcpStream, port: usize, end: Arc<End>) {
    let counted = CountedStream {
        inner: stream,
        end: Arc::clone(&end),
    };
    let io = TokioIo::new(counted);
    let protocol = end.options.protocol;
    let service = service_fn(move |request| answer(request, port, Arc::clone(&end)));
    match protocol {
        Protocol::Grpc => drop(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(4 << 20)
                .serve_connection(io, service)
                .await,
        ),
        Protocol::Http => drop(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(io, service)
                .await,
        ),
    }
}

async fn answer(
    request: Request<Incoming>,
    port: usize,
    end: Arc<End>,
) -> Result<Response<Acknowledged>, Infallible> {
    let (head, body) = request.into_parts();
    let room = end.state().bodies.pop().unwrap_or_default();
    let (body, is_whole) = read(body, room).await;
    if is_whole {
        let until = take(&head.headers, &body, port, &end);
        if let Some(until) = until {
            // At a limited rate, the answer says when the spans are through.
            tokio::time::sleep_until(until).await;
        }
    }
    end.state().bodies.push(body);
    let is_json = content_type(&head.headers).starts_with("application/json");
    let mut response = Response::new(Acknowledged::new(end.options.protocol, is_json));
    let kind = match (end.options.protocol, is_json) {
        (Protocol::Grpc, _) => "application/grpc",
        (Protocol::Http, true) => "application/json",
        (Protocol::Http, false) => "application/x-protobuf",
    };
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert("content-type", kind);
    Ok(response)
}

async fn read(mut body: Incoming, mut into: Vec<u8>) -> (Vec<u8>, bool) {
    into.clear();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => into.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Err(_) => return (into, false),
        }
    }
    (into, true)
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(http::header::CONTENT_TYPE);
    value.and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// Counts a request, and says when it is through if there is a limited rate.
fn take(headers: &HeaderMap, body: &[u8], port: usize, end: &End) -> Option<Instant> {
    let state = &mut *end.state();
    let spans = count(headers, body, end.options, state);
    if let Some(at_port) = state.arrived.at_port.get_mut(port) {
        *at_port += spans;
    }
    let rate = end.options.spans_per_second?;
    let cost = Duration::from_secs_f64(spans as f64 / rate.max(1) as f64);
    state.busy_until = state.busy_until.max(Instant::now()) + cost;
    Some(state.busy_until)
}

fn count(headers: &HeaderMap, body: &[u8], options: Options, state: &mut State) -> u64 {
    let (name, packed, is_packed) = match options.protocol {
        Protocol::Grpc => (
            "grpc-encoding",
            body.get(5..).unwrap_or_default(),
            body.first() == Some(&1),
        ),
        Protocol::Http => ("content-encoding", body, true),
    };
    let coding = headers.get(name).and_then(|value| value.to_str().ok());
    let coding = coding.filter(|_| is_packed).unwrap_or("none");
    let State { arrived, plain, .. } = state;
    let message = match Coding::named(coding) {
        Ok(Coding::None) => packed,
        Ok(coding) => {
            plain.clear();
            match coding.decompress(packed, plain) {
                Ok(()) => plain.as_slice(),
                Err(_) => &[],
            }
        }
        Err(_) => &[],
    };
    let is_json = content_type(headers).starts_with("application/json");
    let spans = match is_json {
        true => memmem::find_iter(message, "\"spanId\":").count() as u64,
        false => count_spans(message),
    };
    arrived.requests += 1;
    arrived.spans += spans;
    arrived.bytes += message.len() as u64;
    if (arrived.requests - 1).is_multiple_of(options.look_every) || message.is_empty() {
        let request = match is_json {
            true => serde_json::from_slice(message).ok(),
            false => ExportTraceServiceRequest::decode(message).ok(),
        };
        // A body that cannot be read counts as one wrong span.
        let looked_into = spans.max(1);
        arrived.looked_into += looked_into;
        arrived.wrong += looked_into - request.map_or(0, whole_spans).min(looked_into);
    }
    spans
}

/// Counts the spans that have everything that the sender put into them.
fn whole_spans(request: ExportTraceServiceRequest) -> u64 {
    let spans = request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans);
    let whole = spans.filter(|span| {
        span.trace_id.len() == 16
            && span.span_id.len() == 8
            && span.attributes.len() == 8
            && span.events.len() == 1
            && span.end_time_unix_nano == span.start_time_unix_nano + 300_000
    });
    whole.count() as u64
}

/// Counts spans by walking lengths: `resource_spans` (1), `scope_spans` (2), `spans` (2).
fn count_spans(request: &[u8]) -> u64 {
    let mut spans = 0;
    for_each(request, 1, |resource| {
        for_each(resource, 2, |scope| for_each(scope, 2, |_| spans += 1));
    });
    spans
}

fn for_each<'a>(mut message: &'a [u8], field: u64, mut visit: impl FnMut(&'a [u8])) {
    while let Some(key) = varint(&mut message) {
        // Whatever is not length-delimited ends the walk; none of these messages has such a field.
        if key & 7 != 2 {
            return;
        }
        let Some(length) = varint(&mut message).and_then(|l| usize::try_from(l).ok()) else {
            return;
        };
        let Some((value, rest)) = message.split_at_checked(length) else {
            return;
        };
        message = rest;
        if key >> 3 == field {
            visit(value);
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// An empty `ExportTraceServiceResponse`; on gRPC with its prefix and the status OK.
#[derive(Debug)]
struct Acknowledged {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Acknowledged {
    fn new(protocol: Protocol, is_json: bool) -> Self {
        match (protocol, is_json) {
            (Protocol::Grpc, _) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Self {
                    data: Some(Bytes::from_static(&[0; 5])),
                    trailers: Some(trailers),
                }
            }
            (Protocol::Http, is_json) => Self {
                data: is_json.then_some(Bytes::from_static(b"{}")),
                trailers: None,
            },
        }
    }
}

impl http_body::Body for Acknowledged {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.data.as_ref().map_or(0, Bytes::len) as u64)
    }
}

/// A stream whose bytes are counted as they are read.
#[derive(Debug)]
struct CountedStream {
    inner: TcpStream,
    end: Arc<End>,
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.end.state().arrived.wire_bytes += bytes as u64;
        }
        read
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;
    use crate::spans;

    fn state() -> End {
        End::new(Options {
            ports: 2,
            ..Options::default()
        })
    }

    fn request(spans: usize) -> Vec<u8> {
        encode::peer_request(spans::spans(0, spans)).encode_to_vec()
    }

    fn take_coded(end: &End, coding: Coding, port: usize, message: &[u8]) {
        let mut headers = HeaderMap::new();
        let encoding = HeaderValue::from_static(coding.as_str());
        headers.insert("grpc-encoding", encoding);
        let packed = coding.compress(message).expect("room");
        let framed = super::super::wire::grpc_frame(&packed, coding != Coding::None);
        take(&headers, &framed, port, end);
    }

    #[test]
    fn counts_spans_of_every_coding_at_their_port() {
        let end = state();
        for coding in Coding::ALL {
            take_coded(&end, coding, 1, &request(20));
        }
        let arrived = end.state().arrived.clone();
        assert_eq!((arrived.requests, arrived.spans), (3, 60));
        assert_eq!(arrived.at_port, [0, 60]);
        assert_eq!((arrived.looked_into, arrived.wrong), (20, 0));
    }

    #[test]
    fn tells_what_is_broken_from_what_is_whole() {
        let end = state();
        let mut broken = request(20);
        broken.truncate(broken.len() - 1);
        take_coded(&end, Coding::None, 0, &broken);
        assert!(end.state().arrived.wrong > 0);
    }

    #[test]
    fn counts_the_spans_of_json() {
        let end = state();
        let json = serde_json::to_vec(&encode::peer_request(spans::spans(0, 20)));
        let mut headers = HeaderMap::new();
        let kind = HeaderValue::from_static("application/json");
        headers.insert("content-type", kind);
        let http = End::new(Options {
            protocol: Protocol::Http,
            ..end.options
        });
        take(&headers, &json.expect("it is plain data"), 0, &http);
        let arrived = http.state().arrived.clone();
        assert_eq!((arrived.spans, arrived.wrong), (20, 0));
    }

    #[test]
    fn reads_the_line_that_it_tells() {
        let end = state();
        take_coded(&end, Coding::None, 0, &request(5));
        let line = end.state().arrived.line();
        let numbers = super::super::numbers(&line).expect("numbers");
        let arrived = Arrived::of(&numbers).expect("as many as there are");
        assert_eq!(arrived.line(), line);
        assert_eq!(arrived.at_port, [5, 0]);
    }
}
