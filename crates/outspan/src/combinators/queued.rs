//! A queue in memory as an exporter: success means accepted.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::Account;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::DropEvent;
use crate::Error;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::Retry;
use crate::engine::Ack;
use crate::engine::BatchLimits;
use crate::engine::MemoryQueue;
use crate::engine::MemoryQueueBuilder;
use crate::engine::Permit;
use crate::engine::ReserveError;
use crate::runtime::Runtime;

/// Says what a [`Queued`] exporter does with a batch that it has no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FullPolicy {
    /// Waits for room until the caller's deadline, then fails.
    #[default]
    Wait,
    /// Fails at once; the caller still has the batch.
    DropNewest,
    /// Drops the batches that wait longest, counted as `queue_full`. Exports that are under way are never dropped.
    DropOldest,
}

/// Puts a queue in memory in front of an exporter, so that whoever exports does not wait for the destination.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "grpc")] {
/// use std::time::Duration;
///
/// use outspan::combinators::Queued;
/// use outspan::otlp;
///
/// # fn build() -> outspan::Result<()> {
/// let exporter = Queued::new(otlp::grpc("http://localhost:4317").build()?)
///     .bytes(16 << 20)
///     .attempt_timeout(Some(Duration::from_secs(5)))
///     .build()?;
/// # drop(exporter);
/// # Ok(())
/// # }
/// # build().unwrap();
/// # }
/// ```
///
/// # What success means
///
/// That the batch was accepted, not that it was delivered. What became of it is in the account of the
/// [`QueueHandle`], in log lines (`tracing`, target `outspan`), and for whoever flushes or shuts down in [`Drained`].
///
/// # Errors
///
/// It creates [`Throttled`](crate::ErrorKind::Throttled), temporary, when there is no room (at once or at the deadline, as
/// [`FullPolicy`] says), and [`TooLarge`](crate::ErrorKind::TooLarge) for a batch that could never fit. An export that waits for room when the queue
/// is shut down ends with [`ShutDown`](crate::ErrorKind::ShutDown). Errors of the exporter inside never come out; temporary
/// ones are tried again by the queue itself, so it needs no retry inside.
///
/// # Cancellation
///
/// Dropping the future of an export takes nothing, or everything.
///
/// # What it holds
///
/// Batches, within its bounds of bytes (64 MiB unless told) and spans; nothing is allocated ahead. A batch stays until it is
/// delivered, refused, or lost for a reason that is counted.
///
/// # Flush and shutdown
///
/// Flush delivers what is held, and says what is left; it keeps waits that the destination asked for. Shutdown sends one
/// batch before the end of such a wait, and the rest if that is taken. What is held at the deadline is lost, counted and
/// told. When the destination has never answered and refuses connections, shutdown gives up after 0.6 s.
///
/// # Where it belongs
///
/// Around everything that should not keep the caller waiting: as a child of a fan-out, or outermost. A fallback or a retry
/// outside of it never sees a failure; put them inside.
#[derive(Debug)]
pub struct Queued {
    queue: MemoryQueueBuilder,
    when_full: FullPolicy,
}

impl Queued {
    /// Begins a queue in front of `exporter`.
    pub fn new(exporter: Exporter) -> Self {
        Self {
            queue: MemoryQueue::builder(exporter).gives_up_early(),
            when_full: FullPolicy::default(),
        }
    }

    /// Begins each log line with `name`; by default lines name no destination.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.queue = self.queue.name(name);
        self
    }

    /// How many bytes of batches may be held: 64 MiB unless told.
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.queue = self.queue.bytes(bytes);
        self
    }

    /// How many spans may be held: as many as fit into the bytes unless told.
    #[must_use]
    pub fn spans(mut self, spans: Option<NonZeroUsize>) -> Self {
        self.queue = self.queue.spans(spans);
        self
    }

    /// What happens to a batch without room: it waits unless told.
    #[must_use]
    pub fn when_full(mut self, when_full: FullPolicy) -> Self {
        self.when_full = when_full;
        self
    }

    /// Merges batches before they are sent: not unless told.
    #[must_use]
    pub fn batches(mut self, limits: BatchLimits) -> Self {
        self.queue = self.queue.batches(limits);
        self
    }

    /// How many exports may be in flight: 4 unless told.
    #[must_use]
    pub fn concurrent_exports(mut self, exports: usize) -> Self {
        self.queue = self.queue.concurrent_exports(exports);
        self
    }

    /// How long each call of the exporter inside may take: 10 s unless told, no limit with `None`.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.queue = self.queue.attempt_timeout(timeout);
        self
    }

    /// How long a batch is tried after its first attempt: as long as there is room for it unless told.
    #[must_use]
    pub fn export_limit(mut self, limit: Option<Duration>) -> Self {
        self.queue = self.queue.export_limit(limit);
        self
    }

    /// The waits between attempts: those of [`Retry::default`] unless told.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.queue = self.queue.retry(retry);
        self
    }

    /// Calls `hook` whenever spans are dropped, besides the log. It must not block.
    #[must_use]
    pub fn on_drop(mut self, hook: impl Fn(&DropEvent) + Send + Sync + 'static) -> Self {
        self.queue = self.queue.on_drop(hook);
        self
    }

    /// Sets where the queue runs, and with it the exports; see [`Runtime`]. Default: the library's own thread.
    #[must_use]
    pub fn runtime(mut self, runtime: impl Into<Runtime>) -> Self {
        self.queue = self.queue.runtime(runtime);
        self
    }

    /// Makes the exporter.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for a bound of 0 or a runtime without timers, and an error if the library's
    /// thread cannot be started.
    pub fn build(self) -> Result<Exporter> {
        Ok(self.build_with_handle()?.0)
    }

    /// Makes the exporter, and a handle that tells how it is doing.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    pub fn build_with_handle(self) -> Result<(Exporter, QueueHandle)> {
        let core = Arc::new(Core {
            queue: self.queue.start()?,
            when_full: self.when_full,
        });
        let handle = QueueHandle(Arc::clone(&core));
        Ok((Exporter::new(Queueing(core)), handle))
    }
}

impl Exporter {
    /// Puts a queue in memory in front; see [`Queued`] for the settings and their defaults.
    ///
    /// # Errors
    ///
    /// If the library's thread cannot be started.
    pub fn queued(self) -> Result<Self> {
        Queued::new(self).build()
    }
}

/// Tells how a [`Queued`] exporter is doing.
#[derive(Clone, Debug)]
pub struct QueueHandle(Arc<Core>);

impl QueueHandle {
    /// Says where every span is that was accepted.
    pub fn account(&self) -> Account {
        self.0.queue.account()
    }

    /// How many bytes are held.
    pub fn bytes(&self) -> usize {
        self.0.queue.bytes()
    }

    /// What keeps the destination from taking spans at this moment; nothing while it takes them.
    pub fn trouble(&self) -> Option<String> {
        self.0.queue.trouble()
    }

    /// How long it is until the next attempt, while the destination is down and none is under way.
    pub fn next_attempt_in(&self) -> Option<Duration> {
        self.0.queue.next_attempt_in()
    }
}

/// The exporter that a [`Queued`] makes.
#[derive(Debug)]
struct Queueing(Arc<Core>);

#[derive(Debug)]
struct Core {
    queue: MemoryQueue,
    when_full: FullPolicy,
}

impl Core {
    async fn reserve(&self, batch: &Batch, until: Deadline) -> Result<Permit> {
        let (bytes, spans) = (batch.memory(), batch.spans());
        let reserved = match self.when_full {
            FullPolicy::Wait => self.queue.reserve(bytes, spans, until).await,
            FullPolicy::DropNewest => self.queue.try_reserve(bytes, spans),
            FullPolicy::DropOldest => self.queue.try_reserve_evicting(bytes, spans),
        };
        let max_bytes = self.queue.bytes_max();
        reserved.map_err(|error| match error {
            ReserveError::ShutDown => Error::shut_down(),
            ReserveError::TooLarge { max_bytes } if bytes > max_bytes => {
                let error = Error::too_large(format!(
                    "a batch of {bytes} bytes does not fit into a queue of {max_bytes}"
                ));
                // Its parts would fill the queue and, where the oldest are dropped, replace each other.
                error.for_each_span()
            }
            // Also for more spans than it ever holds: parts of the batch may fit.
            _ => Error::throttled(format!(
                "the queue is full: it holds {} of {max_bytes} bytes",
                self.queue.bytes()
            )),
        })
    }
}

impl Export for Queueing {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        if batch.is_empty() {
            return Ok(Delivery::of(&batch));
        }
        let delivery = Delivery::of(&batch);
        let permit = self.0.reserve(&batch, until).await?;
        let pushed = self.0.queue.push(batch, permit, Ack::none());
        pushed.map_err(|permit| {
            permit.release();
            Error::shut_down()
        })?;
        Ok(delivery)
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        self.0.queue.flush(until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        self.0.queue.shutdown(until).await
    }
}
