//! The receiving end: a gRPC server in a process of its own, which shares nothing with our own framing or reading.
//!
//! It counts spans and bytes of every request by walking the lengths, and decodes every 16th request with prost to see
//! that the spans are whole.

use std::convert::Infallible;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::pin::Pin;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;

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
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

/// What arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) requests: u64,
    pub(crate) spans: u64,
    pub(crate) bytes: u64,
    pub(crate) looked_into: u64,
    pub(crate) wrong: u64,
}

/// A receiving end that runs.
#[derive(Debug)]
pub(crate) struct Receiver {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// Where it listens, as a URL.
    pub(crate) endpoint: String,
}

impl Receiver {
    /// Starts this very program as a receiving end.
    pub(crate) fn start() -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("cannot start the receiving end: {e}");
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .arg("receiver")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut stdout = BufReader::new(stdout);
        let mut port = String::new();
        stdout.read_line(&mut port).map_err(failed)?;
        Ok(Self {
            child,
            stdin,
            stdout,
            endpoint: format!("http://127.0.0.1:{}", port.trim()),
        })
    }

    /// Stops it and says what arrived.
    pub(crate) fn finish(mut self) -> Result<Arrived, String> {
        drop(self.stdin.take());
        let mut report = String::new();
        let read = self.stdout.read_to_string(&mut report);
        read.map_err(|e| format!("no report from the receiving end: {e}"))?;
        let ended = self.child.wait().map_err(|e| e.to_string())?;
        let numbers: Vec<u64> = report
            .split_ascii_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        match (ended.success(), numbers.as_slice()) {
            (true, &[requests, spans, bytes, looked_into, wrong]) => Ok(Arrived {
                requests,
                spans,
                bytes,
                looked_into,
                wrong,
            }),
            _ => Err(format!("the receiving end ended with {ended}: {report}")),
        }
    }
}

/// Runs the receiving end until standard input ends.
#[expect(clippy::print_stdout, reason = "this is how the parent hears of it")]
pub(crate) fn serve() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return ExitCode::FAILURE;
    };
    let arrived = Arc::new(Mutex::new(Arrived::default()));
    let listening = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let Ok(listener) = listening else {
        return ExitCode::FAILURE;
    };
    let Ok(address) = listener.local_addr() else {
        return ExitCode::FAILURE;
    };
    println!("{}", address.port());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        if let Err(e) = std::io::stdin().read_to_end(&mut rest) {
            eprintln!("receiving end: {e}");
        }
        // Dropping the sender is the signal.
        drop(stop);
    });
    runtime.block_on(async {
        tokio::select! {
            _ = stopped => {}
            () = accept(listener, Arc::clone(&arrived)) => {}
        }
    });
    let all = *arrived.lock().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{} {} {} {} {}",
        all.requests, all.spans, all.bytes, all.looked_into, all.wrong
    );
    ExitCode::SUCCESS
}

async fn accept(listener: tokio::net::TcpListener, arrived: Arc<Mutex<Arrived>>) {
    while let Ok((stream, _)) = listener.accept().await {
        drop(stream.set_nodelay(true));
        let arrived = Arc::clone(&arrived);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&arrived)));
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(4 << 20)
                .serve_connection(TokioIo::new(stream), service);
            drop(connection.await);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    arrived: Arc<Mutex<Arrived>>,
) -> Result<Response<Ok200>, Infallible> {
    let body = request.into_body().collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    count(body.get(5..).unwrap_or_default(), &arrived);
    let mut response = Response::new(Ok200::default());
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    Ok(response)
}

fn count(message: &[u8], arrived: &Mutex<Arrived>) {
    let spans = count_spans(message);
    let mut all = arrived.lock().unwrap_or_else(PoisonError::into_inner);
    all.requests += 1;
    all.spans += spans;
    all.bytes += message.len() as u64;
    if all.requests % 16 == 1 {
        all.looked_into += spans;
        all.wrong += spans - whole_spans(message).min(spans);
    }
}

/// Decodes the request and counts the spans that have everything that the sender put into them.
fn whole_spans(message: &[u8]) -> u64 {
    let Ok(request) = ExportTraceServiceRequest::decode(message) else {
        return 0;
    };
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

/// An empty message, and the status OK.
#[derive(Debug, Default)]
struct Ok200 {
    frames: u8,
}

impl http_body::Body for Ok200 {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.frames += 1;
        Poll::Ready(match self.frames {
            1 => Some(Ok(Frame::data(Bytes::from_static(&[0; 5])))),
            2 => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Some(Ok(Frame::trailers(trailers)))
            }
            _ => None,
        })
    }
}
