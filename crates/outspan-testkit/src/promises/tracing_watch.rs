//! Notices every span that anything in the process makes of its own.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::global;
use opentelemetry::trace::Span as _;
use opentelemetry::trace::Tracer as _;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::Span;
use opentelemetry_sdk::trace::SpanData;
use opentelemetry_sdk::trace::SpanProcessor;
use tracing::Event;
use tracing::Metadata;
use tracing::Subscriber;
use tracing::span;

/// The span by which a watch makes sure that it sees spans.
const CHECK: &str = "a watch checks itself";

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Watches from [`begin`](Self::begin) on. All watches of a process see the same spans.
pub(super) struct Watch {
    seen_before: usize,
}

impl Watch {
    /// Installs the process's global tracer provider and `tracing` subscriber, once, and checks that
    /// both see what is made.
    pub(super) fn begin() -> Self {
        static INSTALLED: OnceLock<()> = OnceLock::new();
        INSTALLED.get_or_init(|| {
            let provider = SdkTracerProvider::builder().with_span_processor(Noticing);
            global::set_tracer_provider(provider.build());
            tracing::subscriber::set_global_default(Noticing)
                .expect("no other global subscriber: promises run in a test binary of their own");
        });
        let checks = || seen().iter().filter(|name| name.contains(CHECK)).count();
        let before = checks();
        global::tracer("outspan-testkit").start(CHECK).end();
        drop(tracing::trace_span!("a watch checks itself"));
        assert!(checks() >= before + 2, "the watch sees nothing");
        Self {
            seen_before: seen().len(),
        }
    }

    /// Checks that nobody has made a span since.
    pub(super) fn assert_silent(&self) {
        let seen = seen();
        let since = seen.iter().skip(self.seen_before);
        let others: Vec<_> = since.filter(|name| !name.contains(CHECK)).collect();
        assert!(others.is_empty(), "exporting made spans: {others:?}");
    }
}

fn seen() -> MutexGuard<'static, Vec<String>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn notice(span: String) {
    const SEEN_MAX: usize = 10_000;

    let thread = std::thread::current();
    let mut seen = seen();
    if seen.len() < SEEN_MAX {
        seen.push(format!("{span} on thread {:?}", thread.name()));
    }
}

/// Both a span processor of the SDK and a `tracing` subscriber.
#[derive(Debug)]
struct Noticing;

impl SpanProcessor for Noticing {
    fn on_start(&self, span: &mut Span, _context: &Context) {
        let name = span.exported_data().map(|data| data.name);
        let name = name.unwrap_or_default();
        notice(format!("OpenTelemetry {name}"));
    }

    fn on_end(&self, _span: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Subscriber for Noticing {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let metadata = attributes.metadata();
        notice(format!(
            "tracing {}::{}",
            metadata.target(),
            metadata.name()
        ));
        span::Id::from_u64(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, _event: &Event<'_>) {}

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}
