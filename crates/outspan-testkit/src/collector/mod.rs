//! Fake OTLP collectors: they receive, decode with other people's code, keep, and misbehave on request.
//!
//! Each has a thread and a runtime of its own, so it works beside any test: in no runtime, in a
//! current-thread one, with a paused clock.

mod answer;
mod connection;
mod foreign;
mod grpc;
mod http;
mod record;
mod serve;
mod shared;
mod tls;
mod verdict;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::subscriber::NoSubscriber;

pub use answer::Answer;
pub use answer::AnswerCode;
pub use answer::Decision;
pub use answer::Disconnect;
pub use answer::Flood;
pub use answer::Garbage;
pub use answer::Gate;
pub use answer::OnConnect;
pub use answer::RetryDelay;
use foreign::Foreign;
pub use record::CollectedRequest;
pub use record::CollectedSpan;
pub use record::Outcome;
pub use record::SpanId;
use serve::Command;
use shared::Shared;
use shared::State;
pub use tls::ServerTls;

/// Receives OTLP traces on a port of the loopback address and keeps them.
///
/// Dropping it stops its thread and closes everything.
///
/// ```
/// use outspan_testkit::Answer;
/// use outspan_testkit::Collector;
///
/// let collector = Collector::grpc();
/// collector.script([Answer::refuse(14, "not now")]);
/// println!("send to {}", collector.endpoint());
/// assert!(collector.spans().is_empty());
/// ```
pub struct Collector {
    shared: Arc<Shared>,
    address: SocketAddr,
    commands: Option<mpsc::UnboundedSender<Command>>,
    runtime: Handle,
    thread: Option<JoinHandle<()>>,
    _reserved_port: Option<TcpSocket>,
}

/// Names what a collector speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// OTLP over gRPC: HTTP/2 only, unary calls of the trace service.
    Grpc,
    /// OTLP over HTTP/1.1 or HTTP/2: POST of protobuf or JSON.
    Http,
}

/// Names how an answer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// The name that headers use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    fn pack(self, plain: &[u8]) -> Vec<u8> {
        let packed = match self {
            Self::Gzip => {
                let mut packed = Vec::new();
                let mut encoder =
                    flate2::read::GzEncoder::new(plain, flate2::Compression::default());
                io::Read::read_to_end(&mut encoder, &mut packed).map(|_| packed)
            }
            Self::Zstd => zstd::stream::encode_all(plain, 0),
        };
        packed.expect("bytes are compressed in memory")
    }
}

/// Sets a collector up. Made by [`Collector::over`].
#[derive(Clone, Debug)]
pub struct CollectorBuilder {
    transport: Transport,
    path: String,
    tls: Option<ServerTls>,
    compress_answers: Option<Compression>,
    foreign: Option<Foreign>,
}

impl CollectorBuilder {
    /// Speaks another format over HTTP than OTLP: `read` gets the content type and the body, after decompression, and
    /// finds the ids of the spans in it, or says what is wrong. It answers as Zipkin and Jaeger do: 202 without a body,
    /// errors as plain text.
    ///
    /// What it collects are spans with ids and nothing else; [`CollectedRequest::message`] has the bytes.
    #[must_use]
    pub fn reads(
        mut self,
        read: impl Fn(&str, &[u8]) -> Result<Vec<SpanId>, String> + Send + Sync + 'static,
    ) -> Self {
        self.foreign = Some(Foreign::new(read));
        self
    }

    /// Speaks TLS. Default: plaintext.
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Answers on this path alone, with the query where there is one. Default: the one that OTLP
    /// names, `/v1/traces` or the gRPC method.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Compresses answers for clients that accept it. Default: never.
    #[must_use]
    pub fn compress_answers(mut self, compression: Compression) -> Self {
        self.compress_answers = Some(compression);
        self
    }

    /// Starts the collector; when this returns, it can be connected to.
    ///
    /// # Panics
    ///
    /// If the machine gives no port or no thread, or the TLS identity is none.
    pub fn start(self) -> Collector {
        let acceptor = self.tls.map(|tls| tls.acceptor(self.transport));
        let shared = Arc::new(Shared::new(
            self.transport,
            self.path,
            self.compress_answers,
            self.foreign,
            acceptor,
        ));
        let (address, reserved_port) = serve::reserve_port().expect("a loopback port is free");
        let (commands, receiver) = mpsc::unbounded_channel();
        let (started, ready) = std_mpsc::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(format!("collector-{}", address.port()))
            .spawn(move || {
                // What the collector's own libraries trace is no business of the test's subscriber.
                let _quiet = tracing::subscriber::set_default(NoSubscriber::new());
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime can be made");
                runtime.block_on(async {
                    let listener = serve::listen(address).expect("the reserved port is ours");
                    if started.send(Handle::current()).is_ok() {
                        serve::serve(serving, address, listener, receiver).await;
                    }
                });
            })
            .expect("a thread can be started");
        let runtime = ready.recv().expect("the collector's thread has started");
        Collector {
            shared,
            address,
            commands: Some(commands),
            runtime,
            thread: Some(thread),
            _reserved_port: reserved_port,
        }
    }
}

impl Collector {
    /// Starts a plaintext collector for OTLP over gRPC.
    pub fn grpc() -> Self {
        Self::over(Transport::Grpc).start()
    }

    /// Starts a plaintext collector for OTLP over HTTP, protobuf and JSON.
    pub fn http() -> Self {
        Self::over(Transport::Http).start()
    }

    /// Sets up a collector for the transport.
    pub fn over(transport: Transport) -> CollectorBuilder {
        let path = match transport {
            Transport::Grpc => grpc::METHOD,
            Transport::Http => http::PATH,
        };
        CollectorBuilder {
            transport,
            path: path.to_owned(),
            tls: None,
            compress_answers: None,
            foreign: None,
        }
    }

    /// What it speaks.
    pub fn transport(&self) -> Transport {
        self.shared.transport
    }

    /// Where it listens, also while it is stopped.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the collector by address, without a path: `http://127.0.0.1:PORT`, with TLS `https`.
    pub fn endpoint(&self) -> String {
        self.endpoint_as("127.0.0.1")
    }

    /// The same with another name for this machine, such as `localhost`.
    pub fn endpoint_as(&self, host: &str) -> String {
        let scheme = match self.shared.read().tls {
            None => "http",
            Some(_) => "https",
        };
        format!("{scheme}://{host}:{}", self.address.port())
    }

    /// Adds answers to the script; each is used for one request.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.change(|state| state.answers.extend(answers));
    }

    /// Sets what happens to requests when the script is at its end. At first it is
    /// [`Answer::Accept`].
    pub fn always(&self, answer: Answer) {
        self.shared.change(|state| state.default_answer = answer);
    }

    /// How many answers of the script are left.
    pub fn answers_left(&self) -> usize {
        self.shared.read().answers.len()
    }

    /// Sets what happens to connections from now on.
    pub fn on_connect(&self, what: OnConnect) {
        self.shared.change(|state| state.on_connect = what);
    }

    /// Changes the server's identity, or what it asks of clients, for connections from now on.
    pub fn rotate_tls(&self, tls: &ServerTls) {
        let acceptor = tls.acceptor(self.shared.transport);
        self.shared.change(|state| state.tls = Some(acceptor));
    }

    /// Stops as a killed process does: nobody listens, every connection is gone.
    ///
    /// What it has received is kept, and the port stays its own.
    pub fn stop(&self) {
        self.tell(Command::Stop);
    }

    /// Listens on the same port again.
    ///
    /// # Panics
    ///
    /// If the port is taken (which on Linux cannot happen: it is held meanwhile).
    pub fn restart(&self) {
        self.tell(Command::Restart);
    }

    /// Closes every open connection at once and goes on listening.
    pub fn disconnect_all(&self) {
        self.tell(Command::Disconnect);
    }

    /// Asks every open connection to end in order (GOAWAY, or `connection: close`) and goes on
    /// listening.
    pub fn go_away(&self) {
        self.tell(Command::GoAway);
    }

    /// Blocks for the moment it takes; the collector's thread never waits for a test's.
    fn tell(&self, command: impl FnOnce(std_mpsc::Sender<io::Result<()>>) -> Command) {
        let (done, finished) = std_mpsc::channel();
        let commands = self.commands.as_ref().expect("taken only by drop");
        let sent = commands.send(command(done));
        assert!(sent.is_ok(), "the collector's thread is dead");
        finished
            .recv()
            .expect("the collector's thread answers")
            .expect("the port is still ours");
    }

    /// Every request in the order they were read, kept or not.
    pub fn requests(&self) -> Vec<CollectedRequest> {
        self.shared.read().requests.clone()
    }

    /// Every kept span in the order of arrival, with its resource and scope.
    pub fn spans(&self) -> Vec<CollectedSpan> {
        let state = self.shared.read();
        let kept = state
            .requests
            .iter()
            .map(|request| (request, request.kept()));
        kept.flat_map(|(request, kept)| request.spans().into_iter().take(kept))
            .collect()
    }

    /// The ids of every kept span in the order of arrival; a span that arrived twice is there twice.
    pub fn span_ids(&self) -> Vec<SpanId> {
        let state = self.shared.read();
        let kept = state
            .requests
            .iter()
            .map(|request| (request, request.kept()));
        kept.flat_map(|(request, kept)| request.span_ids().into_iter().take(kept))
            .collect()
    }

    /// How many spans are kept.
    pub fn span_count(&self) -> usize {
        self.shared.read().spans_kept
    }

    /// How many connections have been accepted since it was made.
    pub fn connections(&self) -> u64 {
        self.shared.read().connections_accepted
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.read().connections_open
    }

    /// How many requests are being read, held back or answered now.
    pub fn in_flight(&self) -> usize {
        self.shared.read().in_flight
    }

    /// The most requests there ever were in flight at once.
    pub fn in_flight_most(&self) -> usize {
        self.shared.read().in_flight_most
    }

    /// What came that no correct exporter sends: undecodable bodies, wrong paths and content
    /// types, failed TLS handshakes.
    pub fn complaints(&self) -> Vec<String> {
        self.shared.read().complaints.clone()
    }

    /// Forgets requests, spans and complaints; answers and connections stay.
    pub fn clear(&self) {
        self.shared.clear();
    }

    /// Waits until at least `count` spans are kept, and returns them all.
    ///
    /// Needs no runtime: any executor may poll it. The time is real even where a test pauses its
    /// clock.
    ///
    /// # Panics
    ///
    /// If `timeout` passes first. The text says what has arrived.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing; the same holds for every wait below.
    pub async fn wait_for_spans(&self, count: usize, timeout: Duration) -> Vec<CollectedSpan> {
        let wanted = move |state: &State| state.spans_kept >= count;
        self.wait(wanted, timeout, &format!("{count} spans")).await;
        self.spans()
    }

    /// Waits until at least `count` requests have been read, kept or not, and returns them all.
    ///
    /// # Panics
    ///
    /// If `timeout` passes first.
    pub async fn wait_for_requests(
        &self,
        count: usize,
        timeout: Duration,
    ) -> Vec<CollectedRequest> {
        let wanted = move |state: &State| state.requests.len() >= count;
        self.wait(wanted, timeout, &format!("{count} requests"))
            .await;
        self.requests()
    }

    /// Waits until at least `count` connections have been accepted.
    ///
    /// # Panics
    ///
    /// If `timeout` passes first.
    pub async fn wait_for_connections(&self, count: u64, timeout: Duration) {
        let wanted = move |state: &State| state.connections_accepted >= count;
        self.wait(wanted, timeout, &format!("{count} connections"))
            .await;
    }

    /// Waits until exactly `count` requests are in flight.
    ///
    /// # Panics
    ///
    /// If `timeout` passes first.
    pub async fn wait_for_in_flight(&self, count: usize, timeout: Duration) {
        let wanted = move |state: &State| state.in_flight == count;
        self.wait(wanted, timeout, &format!("{count} requests in flight"))
            .await;
    }

    /// Waits until exactly `count` connections are open.
    ///
    /// # Panics
    ///
    /// If `timeout` passes first.
    pub async fn wait_for_open_connections(&self, count: usize, timeout: Duration) {
        let wanted = move |state: &State| state.connections_open == count;
        self.wait(wanted, timeout, &format!("{count} open connections"))
            .await;
    }

    /// Does what [`wait_for_spans`](Self::wait_for_spans) does, for tests without `async`.
    ///
    /// # Panics
    ///
    /// If `timeout` passes first.
    pub fn wait_for_spans_blocking(&self, count: usize, timeout: Duration) -> Vec<CollectedSpan> {
        futures_executor::block_on(self.wait_for_spans(count, timeout))
    }

    /// Waits on the collector's own runtime, whose clock nobody pauses.
    fn wait(
        &self,
        wanted: impl Fn(&State) -> bool + Send + 'static,
        timeout: Duration,
        what: &str,
    ) -> impl Future<Output = ()> + Send {
        let shared = Arc::clone(&self.shared);
        let waiting = self.runtime.spawn(async move {
            let seen = tokio::time::timeout(timeout, shared.until(wanted)).await;
            seen.is_ok()
        });
        let what = what.to_owned();
        async move {
            let seen = waiting
                .await
                .expect("the collector outlives those who wait");
            assert!(seen, "no {what} within {timeout:?}: {self:?}");
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the collector's thread has panicked"
            );
        }
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.read();
        f.debug_struct("Collector")
            .field("transport", &self.shared.transport)
            .field("address", &self.address)
            .field("requests", &state.requests.len())
            .field("spans", &state.spans_kept)
            .field("in_flight", &state.in_flight)
            .field("connections", &state.connections_accepted)
            .field("answers_left", &state.answers.len())
            .field("complaints", &state.complaints)
            .finish_non_exhaustive()
    }
}
