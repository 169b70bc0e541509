//! Destinations that hold nothing of what they get, and behave as they are told.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;

use bytes::Bytes;
use http::HeaderMap;
use http::Request;
use http::Response;
use http::header::CONTENT_ENCODING;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// What the names of ordinary spans begin with; a number of four digits follows.
pub(crate) const MARK: &str = "~ordinary-";

/// Names a kind of destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Grpc,
    GrpcGzip,
    HttpProtobuf,
    HttpJson,
    HttpGzip,
    HttpZstd,
    ZipkinJson,
    ZipkinProtobuf,
    Jaeger,
    JaegerUdp,
    Json,
    File,
    Stdout,
}

/// Names what a destination does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    Down,
    Hanging,
    TooLarge,
    Unavailable,
}

impl Kind {
    pub(crate) const ALL: [Self; 13] = [
        Self::Grpc,
        Self::GrpcGzip,
        Self::HttpProtobuf,
        Self::HttpJson,
        Self::HttpGzip,
        Self::HttpZstd,
        Self::ZipkinJson,
        Self::ZipkinProtobuf,
        Self::Jaeger,
        Self::JaegerUdp,
        Self::Json,
        Self::File,
        Self::Stdout,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::GrpcGzip => "grpc gzip",
            Self::HttpProtobuf => "http protobuf",
            Self::HttpJson => "http json",
            Self::HttpGzip => "http gzip",
            Self::HttpZstd => "http zstd",
            Self::ZipkinJson => "zipkin json",
            Self::ZipkinProtobuf => "zipkin protobuf",
            Self::Jaeger => "jaeger",
            Self::JaegerUdp => "jaeger udp",
            Self::Json => "json",
            Self::File => "file",
            Self::Stdout => "stdout",
        }
    }

    /// The arguments for an address.
    fn arguments(self, address: &str) -> Vec<String> {
        let (scheme, more): (_, &[&str]) = match self {
            Self::Grpc => ("grpc://", &[]),
            Self::GrpcGzip => ("grpc://", &["--compression", "gzip"]),
            Self::HttpProtobuf => ("http://", &[]),
            Self::HttpJson => ("http://", &["--protocol", "json"]),
            Self::HttpGzip => ("http://", &["--compression", "gzip"]),
            Self::HttpZstd => ("http://", &["--compression", "zstd"]),
            Self::ZipkinJson => ("zipkin+http://", &[]),
            Self::ZipkinProtobuf => ("zipkin+http://", &["--protocol", "protobuf"]),
            Self::Jaeger => ("jaeger+http://", &[]),
            Self::JaegerUdp => ("jaeger+udp://", &[]),
            Self::Json => ("json+http://", &[]),
            Self::File => ("file:", &[]),
            Self::Stdout => ("stdout:", &[]),
        };
        let to = ["--to".to_owned(), format!("{scheme}{address}")];
        let more = more.iter().map(|text| (*text).to_owned());
        to.into_iter().chain(more).collect()
    }
}

impl State {
    pub(crate) const ALL: [Self; 5] = [
        Self::Up,
        Self::Down,
        Self::Hanging,
        Self::TooLarge,
        Self::Unavailable,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Hanging => "hanging",
            Self::TooLarge => "413",
            Self::Unavailable => "503",
        }
    }

    /// Whether there is such a destination.
    pub(crate) fn fits(self, kind: Kind) -> bool {
        match kind {
            Kind::File => self == Self::Up,
            Kind::Stdout => matches!(self, Self::Up | Self::Hanging),
            Kind::JaegerUdp => matches!(self, Self::Up | Self::Down),
            _ => true,
        }
    }
}

/// A destination that runs until it is dropped.
pub(crate) struct Destination {
    pub(crate) arguments: Vec<String>,
    seen: Seen,
    file: Option<PathBuf>,
    _directory: Option<TempDir>,
    /// Ends its tasks when it is dropped.
    runtime: Option<Runtime>,
    /// The end of a pipe that nobody reads.
    _unread: Option<io::PipeReader>,
}

/// The numbers of the ordinary spans that came.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeSet<u32>>>);

/// Looks for ordinary spans in a stream of bytes.
struct Scanner {
    seen: Seen,
    /// The end of what came, where a name may have begun.
    rest: Vec<u8>,
}

impl Destination {
    /// Starts it, and returns what the program's standard output is to be as well.
    pub(crate) fn start(kind: Kind, state: State) -> (Self, Stdio) {
        let mut destination = Self {
            arguments: Vec::new(),
            seen: Seen::default(),
            file: None,
            _directory: None,
            runtime: None,
            _unread: None,
        };
        let mut stdout = Stdio::null();
        let address = match kind {
            Kind::File => {
                let directory = TempDir::new().unwrap();
                let path = directory.path().join("spans.jsonl");
                destination._directory = Some(directory);
                destination.file = Some(path.clone());
                path.display().to_string()
            }
            Kind::Stdout => {
                let (reader, writer) = io::pipe().unwrap();
                stdout = writer.into();
                match state {
                    State::Up => destination.scan_in_thread(reader),
                    _ => destination._unread = Some(reader),
                }
                String::new()
            }
            Kind::JaegerUdp => destination.udp(state).to_string(),
            _ => destination.tcp(kind, state).to_string(),
        };
        // Spans as they come, so that they are counted when they are written.
        let address = match kind {
            Kind::Stdout => "compact".to_owned(),
            _ => address,
        };
        destination.arguments = kind.arguments(&address);
        (destination, stdout)
    }

    /// The numbers of the ordinary spans that came.
    pub(crate) fn seen(&self) -> BTreeSet<u32> {
        if let Some(path) = &self.file {
            let mut scanner = Scanner::new(&self.seen);
            if let Ok(mut file) = File::open(path) {
                io::copy(&mut file, &mut scanner).unwrap();
            }
        }
        self.seen.0.lock().unwrap().clone()
    }

    fn scan_in_thread(&self, mut source: impl Read + Send + 'static) {
        let mut scanner = Scanner::new(&self.seen);
        // It ends with the program, whose output it reads.
        thread::spawn(move || io::copy(&mut source, &mut scanner));
    }

    fn udp(&self, state: State) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        if state == State::Up {
            let limit = Some(std::time::Duration::from_secs(2));
            socket.set_read_timeout(limit).unwrap();
            let seen = self.seen.clone();
            let runs = Arc::downgrade(&self.seen.0);
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                // Two owners: the destination and this thread.
                while runs.strong_count() > 1 {
                    if let Ok(bytes) = socket.recv(&mut buffer) {
                        drop(Scanner::new(&seen).write(&buffer[..bytes]));
                    }
                }
            });
        }
        address
    }

    fn tcp(&mut self, kind: Kind, state: State) -> SocketAddr {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        if state != State::Down {
            let seen = self.seen.clone();
            let is_grpc = matches!(kind, Kind::Grpc | Kind::GrpcGzip);
            runtime.spawn(accept(listener, is_grpc, state, seen));
        }
        self.runtime = Some(runtime);
        address
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, is_grpc: bool, state: State, seen: Seen) {
    while let Ok((stream, _)) = listener.accept().await {
        let seen = seen.clone();
        let io = TokioIo::new(stream);
        let service = service_fn(move |request| answer(request, is_grpc, state, seen.clone()));
        tokio::spawn(async move {
            // Connections end as the program wants.
            if is_grpc {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                drop(server.serve_connection(io, service).await);
            } else {
                let server = hyper::server::conn::http1::Builder::new();
                drop(server.serve_connection(io, service).await);
            }
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    is_grpc: bool,
    state: State,
    seen: Seen,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>, hyper::Error> {
    let (head, body) = request.into_parts();
    read(&head.headers, body, is_grpc, &seen).await?;
    let empty = || {
        Full::new(Bytes::new())
            .map_err(|never| match never {})
            .boxed()
    };
    let refuse = |status: u16| {
        let mut response = Response::new(empty());
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        response
    };
    Ok(match state {
        State::TooLarge => refuse(413),
        State::Unavailable => refuse(503),
        State::Hanging => std::future::pending().await,
        State::Up | State::Down if is_grpc => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            let body = Full::new(Bytes::from_static(&[0; 5])).map_err(|never| match never {});
            let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
            let response = Response::builder().header(CONTENT_TYPE, "application/grpc");
            response.body(body.boxed()).unwrap()
        }
        State::Up | State::Down => {
            let content_type = head.headers.get(CONTENT_TYPE).cloned();
            let is_json = content_type
                .as_ref()
                .is_some_and(|name| name == "application/json");
            let body: &[u8] = if is_json { b"{}" } else { b"" };
            let body = Full::new(Bytes::from_static(body)).map_err(|never| match never {});
            let mut response = Response::new(body.boxed());
            let content_type = content_type.into_iter().map(|name| (CONTENT_TYPE, name));
            response.headers_mut().extend(content_type);
            response
        }
    })
}

/// Reads a body to its end, and keeps nothing of it but the numbers of ordinary spans.
async fn read(
    headers: &HeaderMap,
    mut body: Incoming,
    is_grpc: bool,
    seen: &Seen,
) -> Result<(), hyper::Error> {
    let name = if is_grpc {
        "grpc-encoding"
    } else {
        CONTENT_ENCODING.as_str()
    };
    let encoding = headers.get(name).and_then(|name| name.to_str().ok());
    let scanner = Scanner::new(seen);
    let mut scanner: Box<dyn Write + Send> = match encoding {
        Some("gzip") => Box::new(flate2::write::MultiGzDecoder::new(scanner)),
        Some("zstd") => Box::new(zstd::stream::write::Decoder::new(scanner).unwrap()),
        _ => Box::new(scanner),
    };
    // What stands before the message of gRPC is not compressed.
    let mut prefix = if is_grpc { 5 } else { 0 };
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame?.into_data() else {
            continue;
        };
        let skipped = data.len().min(prefix);
        prefix -= skipped;
        drop(data.split_to(skipped));
        drop(scanner.write_all(&data));
    }
    drop(scanner.flush());
    Ok(())
}

impl Scanner {
    fn new(seen: &Seen) -> Self {
        Self {
            seen: seen.clone(),
            rest: Vec::new(),
        }
    }

    fn scan(&self, bytes: &[u8]) {
        let mark = MARK.as_bytes();
        let mut rest = bytes;
        // The standard library looks for a byte quickly, also in a test that is not optimised.
        while rest.contains(&mark[0]) {
            let at = rest.iter().position(|byte| *byte == mark[0]).unwrap_or(0);
            let found = &rest[at..];
            let digits = found.strip_prefix(mark).and_then(|rest| rest.get(..4));
            let number = digits.and_then(|digits| std::str::from_utf8(digits).ok());
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                self.seen.0.lock().unwrap().insert(number);
            }
            rest = &found[1..];
        }
    }
}

impl Write for Scanner {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let longest = MARK.len() + 4;
        // A name that is cut in two.
        self.rest
            .extend_from_slice(&bytes[..bytes.len().min(longest)]);
        self.scan(&self.rest);
        self.scan(bytes);
        if bytes.len() >= longest {
            self.rest.clear();
            self.rest.extend_from_slice(&bytes[bytes.len() - longest..]);
        }
        let surplus = self.rest.len().saturating_sub(longest);
        self.rest.drain(..surplus);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn names_are_found_however_they_are_cut() {
    let text = "xx~ordinary-0012yy~~ordinary-0007~ordinary-00";
    for size in 1..text.len() {
        let seen = Seen::default();
        let mut scanner = Scanner::new(&seen);
        for piece in text.as_bytes().chunks(size) {
            scanner.write_all(piece).unwrap();
        }
        assert_eq!(*seen.0.lock().unwrap(), BTreeSet::from([7, 12]), "{size}");
    }
}
