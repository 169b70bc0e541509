//! The seam: what every exporter and every combinator implements, and the handle that users hold.

use std::fmt;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Error;
use crate::Result;

/// Delivers batches to one destination, or hands them to other exporters.
///
/// Calls may run concurrently; an implementation that can do only one thing at a time queues them itself.
/// An implementation neither retries nor logs nor counts: combinators around it do.
///
/// There are no default bodies, so a wrapper that forgets one does not compile.
///
/// # Examples
///
/// ```
/// use outspan::{Batch, Deadline, Delivery, Drained, Export, Exporter, Result};
///
/// /// Counts what it gets.
/// #[derive(Debug, Default)]
/// struct Count(std::sync::atomic::AtomicUsize);
///
/// impl Export for Count {
///     async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
///         for span in batch.iter() {
///             assert!(!span.name().is_empty());
///             self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
///         }
///         Ok(Delivery::of(&batch))
///     }
///
///     async fn flush(&self, _until: Deadline) -> Result<Drained> {
///         Ok(Drained::default())
///     }
///
///     async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
///         Ok(Drained::default())
///     }
/// }
///
/// let exporter = Exporter::new(Count::default());
/// # drop(exporter);
/// ```
pub trait Export: Debug + Send + Sync + 'static {
    /// Delivers a batch.
    ///
    /// The future ends by `until`, with [`Timeout`](crate::ErrorKind::Timeout) if the destination did not answer.
    ///
    /// # Errors
    ///
    /// An error means that nothing of the batch was delivered. A batch that was delivered in part is `Ok`, with the
    /// part that was not in [`Delivery::rest`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future is safe: it frees what the call held. Whether the batch arrived is then unknown.
    fn export(
        &self,
        batch: Batch,
        until: Deadline,
    ) -> impl Future<Output = Result<Delivery>> + Send;

    /// Delivers what the exporter holds, and says what became of it. Exporters that hold nothing answer at once.
    ///
    /// # Errors
    ///
    /// Only if the exporter could not even try; spans that were lost on the way are in [`Drained::lost`].
    fn flush(&self, until: Deadline) -> impl Future<Output = Result<Drained>> + Send;

    /// Delivers what the exporter holds, then frees its connections and files; later exports are refused with
    /// [`ShutDown`](crate::ErrorKind::ShutDown). A second call has nothing to do and succeeds.
    ///
    /// # Errors
    ///
    /// As for [`flush`](Self::flush). The exporter is shut down all the same.
    fn shutdown(&self, until: Deadline) -> impl Future<Output = Result<Drained>> + Send;
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The object-safe twin of [`Export`]: one boxed future a batch.
trait ExportBoxed: Debug + Send + Sync {
    fn export_boxed(&self, batch: Batch, until: Deadline) -> BoxFuture<'_, Delivery>;
    fn flush_boxed(&self, until: Deadline) -> BoxFuture<'_, Drained>;
    fn shutdown_boxed(&self, until: Deadline) -> BoxFuture<'_, Drained>;
}

impl<E: Export> ExportBoxed for E {
    fn export_boxed(&self, batch: Batch, until: Deadline) -> BoxFuture<'_, Delivery> {
        Box::pin(self.export(batch, until))
    }

    fn flush_boxed(&self, until: Deadline) -> BoxFuture<'_, Drained> {
        Box::pin(self.flush(until))
    }

    fn shutdown_boxed(&self, until: Deadline) -> BoxFuture<'_, Drained> {
        Box::pin(self.shutdown(until))
    }
}

/// Holds any exporter: the one type that combinators wrap and processors use.
///
/// A clone shares the state and the connections of the original and is an owner of its own: after
/// [`shutdown`](Export::shutdown) a handle refuses batches, and what stands behind it closes when the last owner shuts
/// down. Until then a shutdown flushes. So two providers can share one exporter, and neither closes it for the other.
pub struct Exporter {
    shared: Arc<Shared>,
    is_shut_down: AtomicBool,
}

struct Shared {
    owners: AtomicUsize,
    export: Box<dyn ExportBoxed>,
}

impl Exporter {
    /// Takes an exporter.
    pub fn new(export: impl Export) -> Self {
        Self {
            shared: Arc::new(Shared {
                owners: AtomicUsize::new(1),
                export: Box::new(export),
            }),
            is_shut_down: AtomicBool::new(false),
        }
    }

    fn check_open(&self) -> Result<()> {
        match self.is_shut_down.load(Ordering::Acquire) {
            true => Err(Error::shut_down()),
            false => Ok(()),
        }
    }

    /// Gives up ownership once; true for the last owner.
    fn leave(&self) -> Option<bool> {
        if self.is_shut_down.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(self.shared.owners.fetch_sub(1, Ordering::AcqRel) == 1)
    }
}

impl Export for Exporter {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        self.check_open()?;
        self.shared.export.export_boxed(batch, until).await
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Ok(Drained::default());
        }
        self.shared.export.flush_boxed(until).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        match self.leave() {
            None => Ok(Drained::default()),
            Some(false) => self.shared.export.flush_boxed(until).await,
            Some(true) => self.shared.export.shutdown_boxed(until).await,
        }
    }
}

impl Clone for Exporter {
    /// Makes another owner; the clone of a handle that is shut down is shut down.
    fn clone(&self) -> Self {
        let owners = &self.shared.owners;
        // Another thread may be shutting the last owner down just now: then there is nothing left to own.
        let is_open = !self.is_shut_down.load(Ordering::Acquire)
            && owners
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |owners| {
                    (owners > 0).then_some(owners + 1)
                })
                .is_ok();
        Self {
            shared: Arc::clone(&self.shared),
            is_shut_down: AtomicBool::new(!is_open),
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.export.fmt(f)
    }
}
