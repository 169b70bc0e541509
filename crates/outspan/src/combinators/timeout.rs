//! A time limit for each export.

use std::time::Duration;

use crate::Attempt;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Error;
use crate::Export;
use crate::Exporter;
use crate::Result;

/// How much longer than its limit, and no longer than the caller's deadline, an export may take to say what it did in that time.
const GRACE: Duration = Duration::from_millis(100);

/// Gives each export a time limit of its own.
///
/// Success means what it means inside. The error it creates is [`Timeout`](crate::ErrorKind::Timeout), temporary, and
/// names the limit that passed: this one, or the caller's deadline if that was earlier. It holds nothing, and hands
/// flush and shutdown on. It belongs directly around an exporter and inside a retry, where the limit holds for each
/// attempt; outside a retry it holds for the whole export ([`named`](Self::named) tells the two apart in errors).
///
/// # Cancellation
///
/// The inner export knows the limit and ends by it: what it returns then says what of the batch has arrived. If it does
/// not end within 100 ms after the limit, or by the caller's deadline if that is earlier, it is dropped, and the destination may
/// have received any part of the batch.
#[derive(Debug)]
pub struct Timeout {
    inner: Exporter,
    limit: Duration,
    name: &'static str,
}

impl Timeout {
    /// Wraps `inner`; no export takes longer than `limit`. The limit is called `attempt timeout` in errors.
    pub fn new(inner: Exporter, limit: Duration) -> Self {
        Self {
            inner,
            limit,
            name: "attempt timeout",
        }
    }

    /// Gives the limit another name in errors, such as `export deadline`.
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }
}

impl Export for Timeout {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let end = until.min(Deadline::after(self.limit).named(self.name));
        end.later(GRACE)
            .min(until)
            .run(self.inner.export(batch, end))
            .await
            .unwrap_or_else(|| Err(Error::timeout("no answer", end).with_attempt(Attempt::one())))
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        self.inner.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        self.inner.shutdown(until).await
    }
}

impl Exporter {
    /// Gives each export a time limit of its own; see [`Timeout`].
    #[must_use]
    pub fn timeout(self, limit: Duration) -> Self {
        Self::new(Timeout::new(self, limit))
    }

    /// Limits the whole of an export, attempts and waits together; see [`Timeout`]. Belongs outside a retry.
    #[must_use]
    pub fn export_deadline(self, limit: Duration) -> Self {
        Self::new(Timeout::new(self, limit).named("export deadline"))
    }
}
