//! What reaches the program's `tracing` subscriber: warnings of ours, and nothing of the libraries we stand on.

use std::fmt;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::select;
use outspan::Deadline;
use outspan::Export;
use outspan::Exporter;
use outspan::otlp::Tls;
use outspan_testkit::Answer;
use outspan_testkit::Certificates;
use outspan_testkit::Collector;
use outspan_testkit::OnConnect;
use outspan_testkit::ServerTls;
use outspan_testkit::batch_of;
use tokio::sync::watch;
use tracing::Event;
use tracing::Level;
use tracing::Metadata;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing::span;

use crate::support::SOON;
use crate::support::Wire;
use crate::support::export;

over_each_wire![
    skip_verify_warns_once_for_each_exporter,
    nothing_of_ours_traces_itself
];

async fn skip_verify_warns_once_for_each_exporter(wire: Wire) {
    let log = Log::watch();
    let name = format!("{wire:?}-skips.example").to_ascii_lowercase();
    let certificates = Certificates::new();
    let tls = ServerTls::new(certificates.untrusted_server());
    let collector = wire.set_up().tls(tls).start();
    for exporters in 1..=2 {
        let tls = Tls::new().server_name(&name).insecure_skip_verify();
        let exporter = wire.to_collector(&collector).tls(tls).build().unwrap();
        for _ in 0..3 {
            export(&exporter, &batch_of(1)).await.unwrap();
            collector.go_away();
            collector.wait_for_open_connections(0, SOON).await;
        }
        let warnings = log.about(&name);
        assert_eq!(warnings.len(), exporters, "{warnings:?}");
        assert!(warnings[0].contains("is not verified"), "{warnings:?}");
    }
}

/// HTTP/2, TLS and pool libraries speak of every frame; with a bridge to OpenTelemetry that would never end.
async fn nothing_of_ours_traces_itself(wire: Wire) {
    let log = Log::watch();
    tracing::trace_span!("a check that spans are seen");
    assert!(log.others().iter().any(|line| line.contains("a check")));

    let certificates = Certificates::new();
    let secure = wire
        .set_up()
        .tls(ServerTls::new(certificates.server()))
        .start();
    let plain = wire.collector();
    let trusting = Tls::new().ca_pem(certificates.authority());
    let exporters = [
        wire.exporter(&plain),
        wire.to_collector(&secure).tls(trusting).build().unwrap(),
    ];
    for exporter in exporters {
        for _ in 0..3 {
            export(&exporter, &batch_of(3)).await.unwrap();
        }
        plain.always(Answer::Stall);
        secure.always(Answer::Stall);
        let brief = Deadline::after(Duration::from_millis(50));
        exporter.export(batch_of(1), brief).await.unwrap_err();
        drop_an_export_under_way(&exporter, [&plain, &secure]).await;
        plain.stop();
        secure.stop();
        export(&exporter, &batch_of(1)).await.unwrap_err();
        for collector in [&plain, &secure] {
            collector.restart();
            collector.always(Answer::Accept);
        }
        drop(exporter);
        drop_a_dial_under_way(wire).await;
        for collector in [&plain, &secure] {
            collector.wait_for_open_connections(0, SOON).await;
        }
    }
    // The runtime's thread ends what was dropped before it does what comes now.
    run_something(wire).await;
    let others = log.others();
    let others: Vec<_> = others.iter().filter(|l| !l.contains("a check")).collect();
    assert!(others.is_empty(), "{others:?}");
}

/// What is dropped with it speaks as well: streams are reset, connections closed.
async fn drop_an_export_under_way(exporter: &Exporter, collectors: [&Collector; 2]) {
    for collector in collectors {
        collector.wait_for_in_flight(0, SOON).await;
        collector.clear();
    }
    let exporter = exporter.clone();
    let exporting = tokio::spawn(async move { export(&exporter, &batch_of(1)).await });
    let [one, other] = collectors.map(|collector| Box::pin(collector.wait_for_requests(1, SOON)));
    drop(select(one, other).await);
    exporting.abort();
    for collector in collectors {
        collector.wait_for_in_flight(0, SOON).await;
    }
}

async fn drop_a_dial_under_way(wire: Wire) {
    let silent = wire.collector();
    silent.on_connect(OnConnect::Silence);
    let endpoint = silent.endpoint().replace("http://", "https://");
    let roots = Tls::new().bundled_roots();
    let exporter = wire.to(&endpoint).tls(roots).build().unwrap();
    let exporting = tokio::spawn(async move { export(&exporter, &batch_of(1)).await });
    silent.wait_for_connections(1, SOON).await;
    exporting.abort();
    exporting.await.unwrap_err();
}

async fn run_something(wire: Wire) {
    let collector = wire.collector();
    export(&wire.exporter(&collector), &batch_of(1))
        .await
        .unwrap();
}

/// Everything that the process's subscriber was told, but by the threads of collectors, which are others' code.
pub(crate) struct Log;

struct Heard {
    /// Messages of events with our target.
    ours: Vec<String>,
    /// Spans of anybody's, and events with other targets.
    others: Vec<String>,
}

static HEARD: Mutex<Heard> = Mutex::new(Heard {
    ours: Vec::new(),
    others: Vec::new(),
});

fn heard() -> MutexGuard<'static, Heard> {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn version() -> &'static watch::Sender<u64> {
    static VERSION: OnceLock<watch::Sender<u64>> = OnceLock::new();
    VERSION.get_or_init(|| watch::Sender::new(0))
}

impl Log {
    /// Installs the process's subscriber, once. Tests tell their lines apart by what is in them.
    pub(crate) fn watch() -> Self {
        static INSTALLED: OnceLock<()> = OnceLock::new();
        INSTALLED.get_or_init(|| tracing::subscriber::set_global_default(Listening).unwrap());
        Self
    }

    /// Our lines that contain this.
    pub(crate) fn about(&self, text: &str) -> Vec<String> {
        let heard = heard();
        let ours = heard.ours.iter().filter(|line| line.contains(text));
        ours.cloned().collect()
    }

    /// Waits for so many of our lines that contain this.
    pub(crate) async fn wait_for(&self, lines: usize, text: &str) -> Vec<String> {
        let mut version = version().subscribe();
        let enough = version.wait_for(|_| self.about(text).len() >= lines);
        let waited = tokio::time::timeout(SOON, enough).await;
        assert!(waited.is_ok(), "{:?}", self.about(text));
        self.about(text)
    }

    fn others(&self) -> Vec<String> {
        heard().others.clone()
    }
}

struct Listening;

fn is_a_collector_s_thread() -> bool {
    let thread = std::thread::current();
    thread
        .name()
        .is_some_and(|name| name.starts_with("collector-"))
}

fn note(metadata: &Metadata<'_>, text: String) {
    if is_a_collector_s_thread() {
        return;
    }
    let mut heard = heard();
    match metadata.is_event() && metadata.target() == "outspan" {
        true => heard.ours.push(text),
        false => heard.others.push(format!("{}: {text}", metadata.target())),
    }
    drop(heard);
    version().send_modify(|version| *version += 1);
}

impl Subscriber for Listening {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::TRACE
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        note(
            attributes.metadata(),
            attributes.metadata().name().to_owned(),
        );
        span::Id::from_u64(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        note(event.metadata(), message.0);
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
