//! The seam: what every exporter and every combinator implements, and the handle that users hold.

mod split;
mod surroundings;
mod turn;

use std::fmt;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::Error;
use crate::Result;
use crate::ending::Ending;
use crate::owner::Owner;

pub(crate) use self::split::export_in_parts;
pub(crate) use self::split::exporter_number;
pub(crate) use self::surroundings::SURROUNDING;
pub(crate) use self::surroundings::Surrounding;
#[cfg(feature = "_network")]
pub(crate) use self::surroundings::Turns;
pub(crate) use self::surroundings::closing;
pub(crate) use self::surroundings::end_of;
pub(crate) use self::surroundings::is_closing;
pub(crate) use self::surroundings::is_over;
#[cfg(any(feature = "_network", feature = "kafka"))]
pub(crate) use self::surroundings::note_server;
pub(crate) use self::surroundings::run_until_closed;
#[cfg(feature = "_network")]
pub(crate) use self::surroundings::turns;
pub(crate) use self::turn::Turn;
pub(crate) use self::turn::apart;

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
    /// [`TooLarge`](crate::ErrorKind::TooLarge) for several spans, for the whole batch or for a part of it, makes the
    /// [`Exporter`] around this implementation halve them and export each half, down to single spans. It cuts them into parts
    /// that fit if the error has the destination's [limit](Error::with_limit). An implementation
    /// does not split a batch because its destination refused the size.
    ///
    /// What was measured on the way (status, server, bytes) is attached to the error as an [`Attempt`](crate::Attempt).
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
    /// [`ShutDown`](crate::ErrorKind::ShutDown).
    ///
    /// An [`Exporter`] calls it once, and again only if the future of the first call was dropped before its end. Callers
    /// who shut one handle down twice, at the same time or later, get the result of the one call.
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
/// A batch that is too large for what stands behind it is sent in parts, one at a time. Single spans that are too large come
/// back as such. Parts repeat the resources of their spans; in a queue their memory counts towards its bound.
///
/// A clone shares the state and the connections of the original and is an owner of its own: after
/// [`shutdown`](Export::shutdown) a handle refuses batches, and what stands behind it closes when the last owner shuts
/// down. Until then a shutdown flushes. So two providers can share one exporter, and neither closes it for the other.
///
/// A second shutdown of a handle waits for the first, within its own deadline, and returns its result. So does a flush
/// after a shutdown has begun; it then has nothing left to do.
pub struct Exporter {
    shared: Arc<Shared>,
    /// Leaves when a shutdown begins: exports read that on every call.
    owner: Owner,
    /// Shared with clones that are made after the shutdown has begun: they are no owners, and have this result.
    ending: Arc<Ending>,
}

struct Shared {
    /// Tells it from other exporters in what batches remember.
    number: u64,
    export: Box<dyn ExportBoxed>,
}

impl Exporter {
    /// Takes an exporter.
    pub fn new(export: impl Export) -> Self {
        Self {
            shared: Arc::new(Shared {
                number: exporter_number(),
                export: Box::new(export),
            }),
            owner: Owner::first(),
            ending: Arc::default(),
        }
    }

    /// Whether a shutdown of this handle has ended.
    #[cfg(feature = "sdk")]
    pub(crate) fn has_ended(&self) -> bool {
        self.ending.result().is_some()
    }

    fn check_open(&self) -> Result<()> {
        match self.owner.has_left() {
            true => Err(Error::shut_down()),
            false => Ok(()),
        }
    }
}

impl Export for Exporter {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        self.check_open()?;
        let Shared { number, export, .. } = &*self.shared;
        let call = |part| export.export_boxed(part, until);
        export_in_parts(*number, batch, until, call).await
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        if !self.owner.has_left() {
            return self.shared.export.flush_boxed(until).await;
        }
        // What the shutdown delivers or loses is in its result; when it has ended nothing is left to flush.
        self.ending.ended_by(until).await?;
        Ok(Drained::default())
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        let work = || async {
            // One caller at a time gets here.
            match self.owner.leave() {
                false => self.shared.export.flush_boxed(until).await,
                true => self.shared.export.shutdown_boxed(until).await,
            }
        };
        self.ending.run(until, work).await
    }
}

impl Clone for Exporter {
    /// Makes another owner; the clone of a handle that is shut down is shut down.
    fn clone(&self) -> Self {
        let owner = self.owner.another();
        let ending = match owner.has_left() {
            false => Arc::default(),
            true => Arc::clone(&self.ending),
        };
        Self {
            shared: Arc::clone(&self.shared),
            owner,
            ending,
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.owner.leave();
    }
}

impl Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.export.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that each export of an exporter allocates for its future, and that are copied with each layer around it.
    fn future_bytes(exporter: &Exporter) -> usize {
        let future = exporter
            .shared
            .export
            .export_boxed(Batch::empty(), Deadline::never());
        size_of_val(&*future)
    }

    #[cfg(feature = "grpc")]
    #[tokio::test]
    async fn futures_of_exports_stay_small() {
        let grpc = || crate::otlp::grpc("http://localhost:4317").build();
        let (grpc, other) = (grpc().expect("an exporter"), grpc().expect("an exporter"));
        assert!(future_bytes(&grpc) < 4096, "{}", future_bytes(&grpc));
        let falling = grpc.fallback(other);
        assert!(future_bytes(&falling) < 4096, "{}", future_bytes(&falling));
    }
}
