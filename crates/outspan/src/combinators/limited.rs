//! Limits of how much leaves at once, and in a second.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::SemaphorePermit;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Error;
use crate::Export;
use crate::Exporter;
use crate::Result;

/// What may leave at once after a pause, unless told: what a second allows.
const BURST: Duration = Duration::from_secs(1);

/// Says how much may leave: spans or bytes in a second, and exports at once. Without a limit it holds nothing back.
///
/// Each rate is a token bucket. It fills with what the rate allows, up to a [burst](Self::burst) of one second's worth; a batch
/// takes from it as many tokens as it has spans or bytes (of the protobuf form, before compression). A batch larger than
/// the bucket is not split: it goes when the bucket is full, and those after it wait until its debt is paid. So in any time
/// `t` no more leaves than `rate x (t + burst)` and one batch.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "grpc")] {
/// use outspan::combinators::Limited;
/// use outspan::otlp;
///
/// # fn build() -> outspan::Result<()> {
/// let limits = Limited::new().spans_per_second(5_000).concurrency(4);
/// let exporter = otlp::grpc("http://localhost:4317").build()?.limited(limits);
/// # drop(exporter);
/// # Ok(())
/// # }
/// # build().unwrap();
/// # }
/// ```
///
/// # What success means
///
/// What it means inside.
///
/// # Errors
///
/// It creates one of its own, temporary and [`Throttled`](crate::ErrorKind::Throttled), which names the limit: when a batch may not
/// leave before the caller's deadline. It comes as soon as that is known, and says how long the wait would have been
/// (`retry_after`). Exports that wait when it is shut down end with [`ShutDown`](crate::ErrorKind::ShutDown). Errors from inside pass
/// through; what they took from the bucket stays taken.
///
/// # Cancellation
///
/// Dropping the future while it waits takes nothing; the next in line moves up.
///
/// # What it holds
///
/// The batches that wait, in the order in which they came; whoever calls bounds them. Flush goes inside; shutdown ends all
/// waits, then goes inside.
///
/// # Where it belongs
///
/// Inside a queue; waiting counts towards the caller's deadline, so give a queue an attempt timeout that leaves time for
/// both. Inside a retry it limits attempts, outside of it whole exports. In a fallback what is too much for one
/// destination goes to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limited {
    spans_per_second: Option<u64>,
    bytes_per_second: Option<u64>,
    burst: Option<Duration>,
    concurrency: Option<usize>,
}

impl Limited {
    /// Begins without a limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many spans may leave in a second; 0 counts as 1.
    #[must_use]
    pub fn spans_per_second(mut self, spans: u64) -> Self {
        self.spans_per_second = Some(spans.max(1));
        self
    }

    /// Sets how many bytes may leave in a second; 0 counts as 1.
    #[must_use]
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.bytes_per_second = Some(bytes.max(1));
        self
    }

    /// Sets how much may leave at once after a pause, as the time in which the rates allow it: one second unless told.
    #[must_use]
    pub fn burst(mut self, burst: Duration) -> Self {
        self.burst = Some(burst);
        self
    }

    /// Sets how many exports may be under way at once; 0 counts as 1.
    #[must_use]
    pub fn concurrency(mut self, exports: usize) -> Self {
        self.concurrency = Some(exports.clamp(1, Semaphore::MAX_PERMITS));
        self
    }
}

/// The exporter around which there are limits.
struct Limiting {
    inner: Exporter,
    exports: Option<(usize, Semaphore)>,
    spans: Option<Bucket>,
    bytes: Option<Bucket>,
    /// Whose turn it is to take from the buckets. It is fair: first come, first served.
    turn: Semaphore,
    stop: watch::Sender<bool>,
}

impl Limiting {
    fn new(inner: Exporter, limits: &Limited) -> Self {
        let burst = limits.burst.unwrap_or(BURST);
        let bucket = |rate: Option<u64>, unit| rate.map(|rate| Bucket::new(rate, unit, burst));
        Self {
            inner,
            exports: limits.concurrency.map(|most| (most, Semaphore::new(most))),
            spans: bucket(limits.spans_per_second, "spans"),
            bytes: bucket(limits.bytes_per_second, "bytes"),
            turn: Semaphore::new(1),
            stop: watch::Sender::new(false),
        }
    }

    /// Waits until the batch may leave. What is returned is to be held while it does.
    async fn admit(&self, batch: &Batch, until: Deadline) -> Result<Option<SemaphorePermit<'_>>> {
        let permit = match &self.exports {
            Some((most, exports)) => {
                let limit = || format!("the limit of {most} concurrent exports");
                Some(pass(exports, until, limit).await?)
            }
            None => None,
        };
        if self.spans.is_none() && self.bytes.is_none() {
            return Ok(permit);
        }
        let turn = pass(&self.turn, until, || self.rates()).await?;
        while let Some((wait, bucket)) = self.longest_wait(batch) {
            if !until.allows(wait) {
                return Err(too_much(&bucket.to_string(), until).with_retry_after(wait));
            }
            Deadline::after(wait).passed().await;
        }
        for (bucket, cost) in self.costs(batch) {
            bucket.take(cost);
        }
        drop(turn);
        Ok(permit)
    }

    fn costs(&self, batch: &Batch) -> impl Iterator<Item = (&Bucket, u64)> {
        let spans = self.spans.as_ref().map(|it| (it, batch.spans() as u64));
        let bytes = self.bytes.as_ref().map(|it| (it, batch.size() as u64));
        spans.into_iter().chain(bytes)
    }

    /// How long the batch has to wait, if it has to, and for which bucket.
    fn longest_wait(&self, batch: &Batch) -> Option<(Duration, &Bucket)> {
        let waits = self
            .costs(batch)
            .map(|(bucket, cost)| (bucket.wait(cost), bucket));
        let longest = waits.max_by_key(|(wait, _)| *wait)?;
        Some(longest).filter(|(wait, _)| !wait.is_zero())
    }

    /// The names of the rates, for whom time was up before it was their turn.
    fn rates(&self) -> String {
        let buckets = self.spans.iter().chain(&self.bytes);
        let names: Vec<_> = buckets.map(Bucket::to_string).collect();
        names.join(" or ")
    }
}

impl Export for Limiting {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        if batch.is_empty() {
            return self.inner.export(batch, until).await;
        }
        let mut stop = self.stop.subscribe();
        let permit = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Err(Error::shut_down()),
            permit = self.admit(&batch, until) => permit?,
        };
        let result = self.inner.export(batch, until).await;
        drop(permit);
        result
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        self.inner.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        self.stop.send_replace(true);
        self.inner.shutdown(until).await
    }
}

impl fmt::Debug for Limiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited")
            .field("inner", &self.inner)
            .field("concurrency", &self.exports.as_ref().map(|(most, _)| most))
            .field("spans", &self.spans)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Waits for a permit, first come, first served.
async fn pass<'a>(
    gate: &'a Semaphore,
    until: Deadline,
    limit: impl FnOnce() -> String,
) -> Result<SemaphorePermit<'a>> {
    match until.run(gate.acquire()).await {
        Some(Ok(permit)) => Ok(permit),
        // Nobody closes it.
        Some(Err(_)) => Err(Error::shut_down()),
        None => Err(too_much(&limit(), until)),
    }
}

fn too_much(limit: &str, until: Deadline) -> Error {
    Error::throttled(format!(
        "{limit} leaves no room before the {}",
        until.limit()
    ))
}

/// A token bucket, kept as the time at which it is full again, so that nothing has to fill it.
struct Bucket {
    rate: u64,
    unit: &'static str,
    /// How long it takes to fill.
    burst: Duration,
    full_at: Mutex<Instant>,
}

impl Bucket {
    fn new(rate: u64, unit: &'static str, burst: Duration) -> Self {
        Self {
            rate,
            unit,
            burst,
            full_at: Mutex::new(Instant::now()),
        }
    }

    /// How long until the bucket holds the cost, or is full.
    fn wait(&self, cost: u64) -> Duration {
        let may_be_missing = self.burst.saturating_sub(self.time_for(cost));
        self.missing().saturating_sub(may_be_missing)
    }

    fn take(&self, cost: u64) {
        let full_in = self.missing().saturating_add(self.time_for(cost));
        let now = Instant::now();
        let full_at = now.checked_add(full_in).or(now.checked_add(DEBT_MAX));
        let mut known = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        *known = full_at.unwrap_or(*known);
    }

    /// How long until it is full.
    fn missing(&self) -> Duration {
        let full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        full_at.saturating_duration_since(Instant::now())
    }

    /// How long it takes to fill it with so much.
    fn time_for(&self, cost: u64) -> Duration {
        const NANOS: u128 = 1_000_000_000;

        let nanos = u128::from(cost) * NANOS / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// The longest a batch may keep others waiting where the clock cannot hold its debt.
const DEBT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the limit of {} {} per second", self.rate, self.unit)
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("rate", &self.rate)
            .field("unit", &self.unit)
            .field("burst", &self.burst)
            .field("full_in", &self.missing())
            .finish()
    }
}

impl Exporter {
    /// Holds batches back so that no more leaves than `limits` allow; see [`Limited`].
    #[must_use]
    pub fn limited(self, limits: Limited) -> Self {
        Self::new(Limiting::new(self, &limits))
    }
}
