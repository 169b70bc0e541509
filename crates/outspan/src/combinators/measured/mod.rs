//! Numbers about an exporter: what it delivered, what not and why, how long it took.

mod alert;
#[cfg(feature = "metrics")]
mod instruments;
pub(super) mod outcome;
#[cfg(feature = "prometheus")]
mod page;
mod report;
mod stats;

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

#[cfg(feature = "metrics")]
use opentelemetry::metrics::Meter;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::alert::Alert;
use self::alert::Crossing;
pub use self::alert::FailureRateEvent;
use self::alert::Window;
#[cfg(feature = "metrics")]
use self::instruments::Instruments;
use self::outcome::Outcome;
pub use self::report::Report;
use self::report::Reporting;
pub use self::stats::Durations;
pub use self::stats::ExportCounts;
pub use self::stats::Failures;
pub use self::stats::SpanCounts;
pub use self::stats::Stats;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Error;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::component::numbered_name;
use crate::runtime::Runtime;

/// The type of an exporter that nobody has named: the conventions ask for the name of the type in its language.
const COMPONENT_TYPE: &str = "outspan::Exporter";

/// Makes an exporter that counts what another one does.
///
/// An export is one operation, however many attempts a retry inside makes of it; delivery and error tell how many those
/// were.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "grpc")] {
/// use std::time::Duration;
///
/// use outspan::Retry;
/// use outspan::combinators::Measured;
/// use outspan::otlp;
///
/// # fn build() -> outspan::Result<()> {
/// let destination = otlp::grpc("http://localhost:4317").build()?
///     .timeout(Duration::from_secs(10))
///     .retry(Retry::default());
/// let (exporter, handle) = Measured::new(destination)
///     .name("backend")
///     .report_every(Duration::from_secs(60))
///     .on_failure_rate(0.1, Duration::from_secs(300), |event| {
///         println!("{}: {:.0} % of spans fail", event.name, event.rate * 100.0);
///     })
///     .build()?;
/// assert_eq!(handle.stats().spans.delivered, 0);
/// # drop(exporter);
/// # Ok(())
/// # }
/// # build().unwrap();
/// # }
/// ```
///
/// # What success means
///
/// What it means inside; nothing is changed on the way.
///
/// # Errors
///
/// It creates none, and passes all on.
///
/// # Cancellation
///
/// Dropping the future of an export drops the export inside, and counts it with its spans as cancelled. So does a panic
/// inside.
///
/// # What it holds
///
/// Numbers, always the same amount. One short lock at the beginning and one at the end of an export keep them in step, so
/// that they add up in every reading; nothing is allocated, and nothing is done per span. What a panic or a hook does happens
/// outside of the lock. Hooks and log lines (`tracing`, target `outspan`) run on the library's own thread, never on a thread
/// that ends a span, and must not block it.
///
/// # Flush and shutdown
///
/// Both are handed on. What a queue inside delivers on the way is not counted, because the exports ended when it
/// accepted. Shutdown sends a last report, if there are any. Exports after a shutdown are refused before they get here.
///
/// # Where it belongs
///
/// Outside a retry it counts each batch once, with all attempts; inside one it counts each attempt as an export of its own. A
/// queue belongs around it: outside the queue every export that finds room succeeds. Around each child of a fan-out or a
/// fallback, with a name of its own, it tells them apart.
pub struct Measured {
    inner: Exporter,
    name: Option<String>,
    component_type: String,
    reporting: Option<Reporting>,
    alert: Option<Alert>,
    #[cfg(feature = "metrics")]
    meter: Option<Meter>,
    #[cfg(feature = "metrics")]
    server: Option<(String, u16)>,
}

impl Measured {
    /// Begins with an exporter to measure.
    pub fn new(exporter: Exporter) -> Self {
        Self {
            inner: exporter,
            name: None,
            component_type: COMPONENT_TYPE.to_owned(),
            reporting: None,
            alert: None,
            #[cfg(feature = "metrics")]
            meter: None,
            #[cfg(feature = "metrics")]
            server: None,
        }
    }

    /// Sets what reports, events and metrics (`otel.component.name`) call it: the component type and a number, such as
    /// `otlp_grpc_span_exporter/0`, unless told. It should be unique in the process and the same at the next start; so no UUID
    /// (OpenTelemetry semantic conventions, `otel.component.name`).
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the `otel.component.type`: `outspan::Exporter` unless told. The conventions have words for the common ones, such as
    /// `otlp_grpc_span_exporter`, `otlp_http_span_exporter` and `otlp_http_json_span_exporter`.
    #[must_use]
    pub fn component_type(mut self, component_type: impl Into<String>) -> Self {
        self.component_type = component_type.into();
        self
    }

    /// Writes a line into the log every so often about what happened since the line before: not unless told. When nothing
    /// happened there is no line.
    #[must_use]
    pub fn report_every(mut self, interval: Duration) -> Self {
        self.reporting = Some(Reporting {
            interval,
            hook: None,
        });
        self
    }

    /// Calls `hook` every so often, also when nothing happened, and once more at the end. It takes the place of
    /// [`report_every`](Self::report_every), and must not block.
    #[must_use]
    pub fn report_to(
        mut self,
        interval: Duration,
        hook: impl Fn(&Report) + Send + Sync + 'static,
    ) -> Self {
        self.reporting = Some(Reporting {
            interval,
            hook: Some(Arc::new(hook)),
        });
        self
    }

    /// Calls `hook` once when at least `threshold` (more than 0, at most 1) of the spans of exports that ended in the last
    /// `window` were not delivered, and once when that has fallen to half of it. So a rate that wavers around the threshold is
    /// told once.
    ///
    /// It counts spans, not exports, because an export that lost one span of many is no failure of the whole. It looks
    /// whenever an export ends: without exports there is no news. The hook must not block.
    #[must_use]
    pub fn on_failure_rate(
        mut self,
        threshold: f64,
        window: Duration,
        hook: impl Fn(&FailureRateEvent) + Send + Sync + 'static,
    ) -> Self {
        self.alert = Some(Alert {
            threshold,
            window,
            hook: Arc::new(hook),
        });
        self
    }

    /// Records OpenTelemetry metrics as well: `otel.sdk.exporter.span.inflight`, `otel.sdk.exporter.span.exported` and
    /// `otel.sdk.exporter.operation.duration` of the semantic conventions (1.40, in development), not unless told.
    ///
    /// Attributes are `otel.component.name` and `otel.component.type`; `server.address` and `server.port` of who
    /// [answered](crate::Attempt::server), or as [`server`](Self::server) says; `error.type`, which is the
    /// [kind](crate::ErrorKind::as_str) of the error, `rejected` for spans refused out of a batch that was taken, or
    /// `cancelled` (spans that a filter inside drops are exported by nobody, and not counted); and for the duration `http.response.status_code` (a number) or `rpc.response.status_code` (gRPC's name).
    /// The meter's provider must not use the exporter that is measured to send its metrics. What recording costs depends on the
    /// SDK; on our side nothing is allocated for an export that succeeds.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = Some(meter.clone());
        self
    }

    /// Sets `server.address` and `server.port` of OpenTelemetry metrics. Unless told they are what each answer tells, and
    /// those in flight, whose server is not known yet, have none.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn server(mut self, address: impl Into<String>, port: u16) -> Self {
        self.server = Some((address.into(), port));
        self
    }

    /// Makes the exporter, and a handle to read its numbers.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for an empty name or type, an interval or window of 0, and a threshold that is
    /// not above 0 and at most 1; an error as well if reports are wanted and the library's thread cannot be started.
    pub fn build(self) -> Result<(Exporter, MeasuredHandle)> {
        self.check()?;
        let reporting = self.reporting.clone();
        let (mut measuring, handle) = self.make();
        if let Some(reporting) = reporting {
            let core = Arc::clone(&measuring.core);
            let reports = report::run(reporting, core, measuring.stop.subscribe());
            measuring.reports = Mutex::new(Some(Runtime::shared().detach(reports)?));
        }
        Ok((Exporter::new(measuring), handle))
    }

    fn check(&self) -> Result<()> {
        if self.name.as_deref() == Some("") || self.component_type.is_empty() {
            return Err(Error::config(
                "a measured exporter has an empty name or type: leave it out or give it one",
            ));
        }
        let interval = self.reporting.as_ref().map(|reporting| reporting.interval);
        if interval.is_some_and(|interval| interval.is_zero()) {
            return Err(Error::config(
                "the interval of reports is 0: give it a length",
            ));
        }
        self.alert.as_ref().map_or(Ok(()), Alert::check)
    }

    /// Makes the exporter without reports.
    fn make(self) -> (Measuring, MeasuredHandle) {
        let name = self
            .name
            .unwrap_or_else(|| numbered_name(&self.component_type));
        #[cfg(feature = "metrics")]
        let instruments = self.meter.map(|meter| {
            Instruments::new(&meter, &name, &self.component_type, self.server.as_ref())
        });
        let core = Arc::new(Core {
            numbers: Mutex::new(Numbers {
                stats: Stats::default(),
                window: Window::new(Instant::now()),
            }),
            alert: self.alert,
            #[cfg(feature = "metrics")]
            instruments,
            #[cfg(feature = "prometheus")]
            page: page::Page::new(&name),
            name: name.into(),
        });
        let measuring = Measuring {
            inner: self.inner,
            core: Arc::clone(&core),
            stop: watch::Sender::new(false),
            reports: Mutex::default(),
        };
        (measuring, MeasuredHandle { core })
    }
}

impl Exporter {
    /// Counts what the exporter does; see [`Measured`] for settings, reports, alarms and metrics.
    #[must_use]
    pub fn measured(self, name: impl Into<String>) -> (Self, MeasuredHandle) {
        let (measuring, handle) = Measured::new(self).name(name).make();
        (Self::new(measuring), handle)
    }
}

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measured")
            .field("inner", &self.inner)
            .field("name", &self.name)
            .field("component_type", &self.component_type)
            .field("reporting", &self.reporting)
            .field("alert", &self.alert)
            .finish_non_exhaustive()
    }
}

/// Reads the numbers of a [`Measured`] exporter, also after it is gone. Clones read the same.
#[derive(Clone)]
pub struct MeasuredHandle {
    core: Arc<Core>,
}

impl MeasuredHandle {
    /// What the exporter is called.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Reads all numbers in one step.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }
}

impl fmt::Debug for MeasuredHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeasuredHandle")
            .field("name", &self.core.name)
            .field("stats", &self.stats())
            .finish()
    }
}

/// The exporter that a [`Measured`] makes.
struct Measuring {
    inner: Exporter,
    core: Arc<Core>,
    stop: watch::Sender<bool>,
    reports: Mutex<Option<JoinHandle<()>>>,
}

impl Export for Measuring {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let operation = Operation::begin(&self.core, &batch);
        let result = self.inner.export(batch, until).await;
        operation.end(&result);
        result
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        self.inner.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        let result = self.inner.shutdown(until).await;
        self.stop.send_replace(true);
        let reports = self
            .reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(reports) = reports {
            // It ends in any case; when the time is up nobody waits for it.
            drop(until.run(reports).await);
        }
        result
    }
}

impl fmt::Debug for Measuring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measured")
            .field("inner", &self.inner)
            .field("name", &self.core.name)
            .finish_non_exhaustive()
    }
}

/// What exporter and handle share.
struct Core {
    name: Arc<str>,
    numbers: Mutex<Numbers>,
    alert: Option<Alert>,
    #[cfg(feature = "metrics")]
    instruments: Option<Instruments>,
    #[cfg(feature = "prometheus")]
    page: page::Page,
}

/// What changes, all in one step.
struct Numbers {
    stats: Stats,
    window: Window,
}

impl Core {
    fn stats(&self) -> Stats {
        self.lock().stats
    }

    fn begin(&self, spans: u64, bytes: u64) {
        self.lock().stats.begin(spans, bytes);
        #[cfg(feature = "metrics")]
        if let Some(instruments) = &self.instruments {
            instruments.begin(spans);
        }
    }

    fn end(&self, spans: u64, outcome: &Outcome<'_>, began: Instant) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(began);
        let crossing = self.count(spans, outcome, elapsed, now);
        #[cfg(feature = "metrics")]
        if let Some(instruments) = &self.instruments {
            instruments.end(spans, outcome, elapsed);
        }
        if let Some(crossing) = crossing {
            self.tell(crossing, outcome.error);
        }
    }

    fn count(
        &self,
        spans: u64,
        outcome: &Outcome<'_>,
        elapsed: Duration,
        now: Instant,
    ) -> Option<Crossing> {
        let mut numbers = self.lock();
        numbers.stats.end(spans, outcome, elapsed);
        self.alert.as_ref()?.note(&mut numbers.window, outcome, now)
    }

    /// Calls the hook, on the library's thread: this one may be closing a span, with locks of its subscriber held.
    fn tell(&self, crossing: Crossing, error: Option<&Error>) {
        let Some(alert) = &self.alert else {
            return;
        };
        let event = alert.event(&self.name, crossing, error);
        let hook = Arc::clone(&alert.hook);
        // A panic ends the task, and nothing else.
        drop(Runtime::shared().detach(async move { hook(&event) }));
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One export: counted as cancelled unless it ends.
struct Operation<'a> {
    core: &'a Core,
    spans: u64,
    began: Instant,
    has_ended: bool,
}

impl<'a> Operation<'a> {
    fn begin(core: &'a Core, batch: &Batch) -> Self {
        let spans = batch.spans() as u64;
        core.begin(spans, batch.size() as u64);
        Self {
            core,
            spans,
            began: Instant::now(),
            has_ended: false,
        }
    }

    fn end(mut self, result: &Result<Delivery>) {
        self.has_ended = true;
        let outcome = Outcome::of(self.spans, result);
        self.core.end(self.spans, &outcome, self.began);
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            let outcome = Outcome::cancelled(self.spans);
            self.core.end(self.spans, &outcome, self.began);
        }
    }
}
