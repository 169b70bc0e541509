//! Four destinations over TLS with gzip, on a runtime of two workers and on one of one.
//!
//! The servers discard what they read, and are in the same runtime: so one worker does all the work of one side, and two
//! share all the work of the other. Batches are made before the clock starts. Small ones are compressed on the workers, where
//! the rest of an export is; large ones on threads for blocking work, of which each side has as many as workers.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use outspan::Batch;
use outspan::Compression;
use outspan::Deadline;
use outspan::Export;
use outspan::Exporter;
use outspan::otlp;
use outspan::otlp::Tls;
use outspan::wire::otlp::EncodedResource;
use outspan::wire::otlp::Encoder;
use outspan::wire::otlp::SpanLimits;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::measure::Outcome;
use crate::measure::check;
use crate::measure::cpu_time_of_others;
use crate::measure::more_is_better;
use crate::measure::note;
use crate::measure::quantile;
use crate::measure::target_at_least;
use crate::spans;
use crate::spans::BATCH;

const DESTINATIONS: usize = 4;

/// Exports on the way to each destination.
const IN_FLIGHT: usize = 4;

/// How much more two workers should do than one.
const GAIN: f64 = 1.7;

/// Spans of a batch that is compressed at once, on the worker: less than 16 KiB.
const SMALL: usize = 32;

pub(crate) fn run(quick: bool) -> Outcome {
    let rounds = if quick { 1 } else { 7 };
    case(
        "workers/small",
        SMALL,
        if quick { 50 } else { 4_000 },
        rounds,
    )?;
    case("workers/512", BATCH, if quick { 20 } else { 400 }, rounds)
}

/// Sends so many batches to each destination, in turn with two workers and with one.
fn case(name: &str, batch_spans: usize, batches: usize, rounds: usize) -> Outcome {
    let request = request(batch_spans)?;
    let (mut two, mut one) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        two.push(Side::start(2)?.send(&request, batch_spans, batches)?);
        one.push(Side::start(1)?.send(&request, batch_spans, batches)?);
    }
    let spans = (DESTINATIONS * batches * batch_spans) as f64;
    let median = |times: &[Took], of: fn(&Took) -> Duration| {
        let mut times: Vec<_> = times.iter().map(of).collect();
        quantile(&mut times, 0.5).as_secs_f64()
    };
    let cpu = |times: &[Took]| median(times, |took| took.cpu) * 1e6 / spans;
    // On a machine that is busy otherwise only this says what two workers cost.
    note(&format!(
        "{name}: CPU of two workers {:.2} us/span, of one {:.2}",
        cpu(&two),
        cpu(&one)
    ));
    let rate = |times: &[Took]| spans / median(times, |took| took.wall);
    let (two, one) = (rate(&two), rate(&one));
    note(&format!(
        "{name}: {DESTINATIONS} destinations, TLS and gzip; {batches} requests of {} bytes to each",
        request.len()
    ));
    more_is_better(name, "spans/s", two, one);
    target_at_least(name, "times one worker", GAIN, two / one);
    Ok(())
}

/// A request as the exporters get it.
fn request(spans: usize) -> Result<Bytes, String> {
    let mut encoder = Encoder::new(SpanLimits::default());
    let resource = EncodedResource::default();
    for span in spans::spans(0, spans) {
        encoder.push(&resource, &outspan::sdk::SdkSpan(&span));
    }
    let request = encoder.finish().ok_or("nothing was encoded")?;
    Ok(request.bytes)
}

/// What the exports of one side took.
struct Took {
    wall: Duration,
    /// Of all threads but the one that waits.
    cpu: Duration,
}

/// A runtime with servers and exporters.
struct Side {
    runtime: Runtime,
    exporters: Vec<Exporter>,
    discarded: Arc<AtomicU64>,
}

impl Side {
    fn start(workers: usize) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .max_blocking_threads(workers)
            .enable_all()
            .build()
            .map_err(|e| e.to_string())?;
        let discarded = Arc::<AtomicU64>::default();
        let exporters = (0..DESTINATIONS).map(|_| destination(&runtime, &discarded));
        let exporters = exporters.collect::<Result<_, _>>()?;
        Ok(Self {
            runtime,
            exporters,
            discarded,
        })
    }

    /// Returns how long it takes until every batch is answered.
    fn send(self, request: &Bytes, spans: usize, batches: usize) -> Result<Took, String> {
        // Each one anew, because clones of a batch are compressed once. None is copied.
        let batch = || Batch::from_request(request.clone()).map(|checked| checked.batch);
        let one_each = batch().map_err(|e| e.to_string())?;
        self.runtime
            .block_on(futures(self.exporters.iter().map(|exporter| {
                // Connections are opened before the clock starts.
                send_all(exporter.clone(), vec![one_each.clone()])
            })))?;
        let mut work = Vec::new();
        for exporter in &self.exporters {
            for _ in 0..IN_FLIGHT {
                let share = (0..batches / IN_FLIGHT).map(|_| batch());
                let share = share.collect::<Result<Vec<_>, _>>();
                work.push((exporter.clone(), share.map_err(|e| e.to_string())?));
            }
        }
        let before = self.discarded.load(Ordering::Relaxed);
        let cpu = cpu_time_of_others()?;
        let began = Instant::now();
        let tasks = work.into_iter();
        let sent = tasks.map(|(exporter, share)| send_all(exporter, share));
        let accepted = self.runtime.block_on(futures(sent))?;
        let took = Took {
            wall: began.elapsed(),
            cpu: cpu_time_of_others()?.saturating_sub(cpu),
        };
        let expected = (DESTINATIONS * (batches / IN_FLIGHT) * IN_FLIGHT * spans) as u64;
        check(accepted == expected, || {
            format!("{accepted} of {expected} spans were accepted")
        })?;
        let discarded = self.discarded.load(Ordering::Relaxed) - before;
        check(discarded > 0, || "no byte arrived".to_owned())?;
        Ok(took)
    }
}

/// Runs each of them as a task; returns the sum.
async fn futures(
    work: impl Iterator<Item = impl Future<Output = Result<u64, String>> + Send + 'static>,
) -> Result<u64, String> {
    let tasks: Vec<_> = work.map(tokio::spawn).collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.map_err(|e| e.to_string())??;
    }
    Ok(sum)
}

/// Exports one batch after the other.
async fn send_all(exporter: Exporter, batches: Vec<Batch>) -> Result<u64, String> {
    let mut accepted = 0;
    for batch in batches {
        let deadline = Deadline::after(Duration::from_secs(60));
        let delivery = exporter.export(batch, deadline).await;
        accepted += delivery.map_err(|e| e.to_string())?.accepted;
    }
    Ok(accepted)
}

/// Starts a server and makes an exporter to it, both on `runtime`.
fn destination(runtime: &Runtime, discarded: &Arc<AtomicU64>) -> Result<Exporter, String> {
    let names = vec!["localhost".to_owned()];
    let identity = rcgen::generate_simple_self_signed(names).map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der())?;
    let chain = vec![identity.cert.der().clone()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| e.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
    let listener = listener.map_err(|e| e.to_string())?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    runtime.spawn(serve(listener, acceptor, Arc::clone(discarded)));
    otlp::http(format!("https://localhost:{port}"))
        .tls(Tls::new().ca_pem(identity.cert.pem()))
        .compression(Compression::Gzip)
        .no_proxy()
        .runtime(runtime.handle().clone())
        .build()
        .map_err(|e| e.to_string())
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, discarded: Arc<AtomicU64>) {
    while let Ok((tcp, _)) = listener.accept().await {
        tokio::spawn(connection(tcp, acceptor.clone(), Arc::clone(&discarded)));
    }
}

async fn connection(tcp: TcpStream, acceptor: TlsAcceptor, discarded: Arc<AtomicU64>) {
    if tcp.set_nodelay(true).is_err() {
        return;
    }
    let Ok(tls) = acceptor.accept(tcp).await else {
        return;
    };
    let service = service_fn(move |request| answer(request, Arc::clone(&discarded)));
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .serve_connection(TokioIo::new(tls), service);
    // It ends with the runtime.
    drop(connection.await);
}

/// Reads the body and forgets it. An empty answer says that everything was accepted.
async fn answer(
    request: Request<Incoming>,
    discarded: Arc<AtomicU64>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut body = request.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            discarded.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
    }
    Ok(Response::new(Empty::new()))
}
