//! Log lines about an exporter: few, however much goes through it and however bad it is.

mod log;
mod state;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::log::Log;
use self::state::Begun;
use super::measured::outcome::Outcome;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Export;
use crate::Exporter;
use crate::Result;

/// How often there is a summary unless told: a line a minute hides nothing else.
const INTERVAL: Duration = Duration::from_secs(60);

/// Without a bound, an interval of zero would write a line for each export.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Makes an exporter that writes into the log what another one does.
///
/// The first failure is told at once, then there is a summary for each interval in which anything ended (exports, spans,
/// failures with the last error, mean and longest duration), and one line when exports succeed again. Trouble that
/// comes and goes is told once an interval. Spans that the destination refuses out of batches that it takes are told in
/// the same way. So there are at most four lines an interval.
///
/// Lines are `tracing` events with the target `outspan`: trouble and summaries with failures are warnings, the rest is
/// information. Each single export is told at the levels `TRACE` (it begins) and `DEBUG` (it ended), for whoever turns them
/// on; when more than 256 of these wait to be written, more are left out, and the summary says how many.
///
/// All lines are written on the library's own thread and belong to no span. So they make no spans, and are attached to none,
/// also where a `tracing-opentelemetry` subscriber feeds this very exporter; and a subscriber that is just closing a span
/// is not called again by what the span's end sets off. A subscriber set for the caller's thread alone does not see them.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "grpc")] {
/// use std::time::Duration;
///
/// use outspan::Retry;
/// use outspan::combinators::Logged;
/// use outspan::otlp;
///
/// # fn build() -> outspan::Result<()> {
/// let destination = otlp::grpc("http://localhost:4317").build()?.retry(Retry::default());
/// let exporter = Logged::new(destination)
///     .name("backend")
///     .interval(Duration::from_secs(300))
///     .build();
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
/// Dropping the future of an export drops the export inside, and tells of it as a failure. So does a panic inside.
///
/// # What it holds
///
/// A few numbers and the last error, and the lines that wait to be written.
///
/// # Flush and shutdown
///
/// Both are handed on. Shutdown writes the summary that is not due yet, as far as the deadline allows; dropping the exporter
/// writes it a little later.
///
/// # Where it belongs
///
/// Outside a retry it tells what could not be delivered in the end; inside one it tells every failed attempt. Inside a queue,
/// because outside of it exports succeed when there is room. A queue writes lines of its own about outages and losses, and
/// needs none of these.
#[derive(Debug)]
pub struct Logged {
    inner: Exporter,
    name: Option<String>,
    interval: Duration,
}

impl Logged {
    /// Begins with an exporter to tell about.
    pub fn new(exporter: Exporter) -> Self {
        Self {
            inner: exporter,
            name: None,
            interval: INTERVAL,
        }
    }

    /// Begins each line with `name`; by default lines name no destination.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets how much time a summary is about, and for how long trouble that was told stays quiet: 60 s unless told, 1 ms at
    /// least.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(INTERVAL_MIN);
        self
    }

    /// Makes the exporter.
    pub fn build(self) -> Exporter {
        Exporter::new(Logging {
            inner: self.inner,
            log: Arc::new(Log::new(self.name, self.interval)),
        })
    }
}

impl Exporter {
    /// Writes into the log what the exporter does, quietly; see [`Logged`] for what is told, and for its settings.
    #[must_use]
    pub fn logged(self) -> Self {
        Logged::new(self).build()
    }
}

/// The exporter that a [`Logged`] makes.
#[derive(Debug)]
struct Logging {
    inner: Exporter,
    log: Arc<Log>,
}

impl Export for Logging {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let operation = Operation::begin(&self.log, &batch);
        let result = self.inner.export(batch, until).await;
        operation.end(&result);
        result
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        self.inner.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        let result = self.inner.shutdown(until).await;
        // Written in any case; when the time is up nobody waits for it.
        until.run(self.log.finish()).await;
        result
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        drop(self.log.finish());
    }
}

/// One export: told as cancelled unless it ends.
struct Operation<'a> {
    log: &'a Arc<Log>,
    begun: Begun,
    began: Instant,
    has_ended: bool,
}

impl<'a> Operation<'a> {
    fn begin(log: &'a Arc<Log>, batch: &Batch) -> Self {
        let begun = Begun {
            spans: batch.spans() as u64,
            bytes: batch.size() as u64,
        };
        log.begins(begun);
        Self {
            log,
            begun,
            began: Instant::now(),
            has_ended: false,
        }
    }

    fn end(mut self, result: &Result<Delivery>) {
        self.has_ended = true;
        let outcome = Outcome::of(self.begun.spans, result);
        self.log.ended(self.begun, &outcome, self.began);
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            let outcome = Outcome::cancelled(self.begun.spans);
            self.log.ended(self.begun, &outcome, self.began);
        }
    }
}
