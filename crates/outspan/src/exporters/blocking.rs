//! Exporters whose destination is written to, and may block.

use std::fmt;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::worker::Stop;
use super::worker::Work;
use super::worker::Worker;
use crate::Batch;
use crate::Cause;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::DropReason;
use crate::Error;
use crate::ErrorKind;
use crate::Export;
use crate::Exporter;
use crate::Result;

/// The blocking twin of [`Export`]: called on a thread of its own, one call at a time.
pub(crate) trait BlockingExport: Send + 'static {
    /// Writes a batch. A `stop` that is set means that nobody waits for the answer any more.
    fn export(&mut self, batch: Batch, stop: &Stop) -> Result<Delivery>;

    /// Writes what it holds.
    fn flush(&mut self) -> Result<Drained>;

    /// Writes what it holds and frees everything. The last call there is.
    fn shutdown(&mut self) -> Result<Drained>;

    /// How many spans it holds.
    fn held(&self) -> u64;

    /// When it wants to be woken though nobody asks for anything.
    fn wakes_at(&self) -> Option<Instant>;

    /// Does what is due.
    fn wake(&mut self);
}

/// Makes an exporter of `export`. `label` is what `Debug` shows, and names the thread.
pub(crate) fn exporter(label: String, export: impl BlockingExport) -> Result<Exporter> {
    let held = Arc::<AtomicU64>::default();
    let state = State {
        export,
        held: Arc::clone(&held),
        is_closed: false,
        closed: None,
    };
    Ok(Exporter::new(Blocking {
        label,
        worker: Worker::start("outspan-writer", state)?,
        held,
        is_shut_down: AtomicBool::new(false),
    }))
}

struct Blocking<E> {
    label: String,
    worker: Worker<State<E>>,
    held: Arc<AtomicU64>,
    is_shut_down: AtomicBool,
}

/// What lives on the thread.
struct State<E> {
    export: E,
    held: Arc<AtomicU64>,
    is_closed: bool,
    /// What closing achieved; a caller that was dropped while it waited, and comes again, is told here.
    closed: Option<Result<Drained>>,
}

impl<E: BlockingExport> Export for Blocking<E> {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Err(Error::shut_down());
        }
        if batch.is_empty() {
            return Ok(Delivery::default());
        }
        self.worker
            .run(until, |state, stop| state.export(batch, stop))
            .await
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Ok(Drained::default());
        }
        self.worker.run(until, |state, _| state.flush()).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        self.is_shut_down.store(true, Ordering::Release);
        let closed = self.worker.run(until, |state, _| state.close()).await;
        match (closed, self.held.load(Ordering::Acquire)) {
            (Err(error), held) if error.kind() == ErrorKind::Timeout && held > 0 => {
                let mut drained = Drained::default();
                drained.lost.add(DropReason::Shutdown, held);
                drained.add_cause(Cause::new(error));
                Ok(drained)
            }
            (closed, _) => closed,
        }
    }
}

impl<E> Debug for Blocking<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

impl<E: BlockingExport> State<E> {
    fn export(&mut self, batch: Batch, stop: &Stop) -> Result<Delivery> {
        if self.is_closed {
            return Err(Error::shut_down());
        }
        if stop.is_set() {
            return Err(Error::internal("nobody waits for this export any more"));
        }
        let delivery = self.export.export(batch, stop);
        self.note_held();
        delivery
    }

    fn flush(&mut self) -> Result<Drained> {
        if self.is_closed {
            return Ok(Drained::default());
        }
        let drained = self.export.flush();
        self.note_held();
        drained
    }

    fn close(&mut self) -> Result<Drained> {
        if let Some(closed) = &self.closed {
            return closed.clone();
        }
        // Set before the call: if it panics, nothing is called again.
        self.is_closed = true;
        self.closed = Some(Err(Error::internal("closing the writer panicked")));
        let drained = self.export.shutdown();
        self.note_held();
        self.closed = Some(drained.clone());
        drained
    }

    fn note_held(&self) {
        self.held.store(self.export.held(), Ordering::Release);
    }
}

impl<E: BlockingExport> Work for State<E> {
    fn wakes_at(&self) -> Option<Instant> {
        match self.is_closed {
            true => None,
            false => self.export.wakes_at(),
        }
    }

    fn wake(&mut self) {
        self.export.wake();
        self.note_held();
    }

    fn end(&mut self) {
        // Nobody is left to be told what came of it.
        drop(self.close());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// Holds spans that it never gets rid of, and is closed with an error.
    struct Stubborn {
        held: u64,
        error: ErrorKind,
        closed: mpsc::Sender<()>,
    }

    impl BlockingExport for Stubborn {
        fn export(&mut self, batch: Batch, _stop: &Stop) -> Result<Delivery> {
            Ok(Delivery::of(&batch))
        }

        fn flush(&mut self) -> Result<Drained> {
            Ok(Drained::default())
        }

        fn shutdown(&mut self) -> Result<Drained> {
            self.closed.send(()).unwrap();
            Err(match self.error {
                ErrorKind::Timeout => Error::timeout("slow", Deadline::after(Duration::ZERO)),
                _ => Error::unavailable("gone"),
            })
        }

        fn held(&self) -> u64 {
            self.held
        }

        fn wakes_at(&self) -> Option<Instant> {
            None
        }

        fn wake(&mut self) {}
    }

    fn holding(held: u64, error: ErrorKind) -> (Exporter, mpsc::Receiver<()>) {
        let (closed, is_closed) = mpsc::channel();
        let stubborn = Stubborn {
            held,
            error,
            closed,
        };
        let exporter = exporter("stubborn".into(), stubborn).unwrap();
        (exporter, is_closed)
    }

    #[tokio::test]
    async fn what_is_held_when_the_time_is_over_is_lost_and_every_other_failure_is_told() {
        let until = || Deadline::after(SOON);
        for (held, error) in [
            (3, ErrorKind::Unavailable),
            (0, ErrorKind::Unavailable),
            (0, ErrorKind::Timeout),
        ] {
            let (exporter, _is_closed) = holding(held, error);
            drop(exporter.flush(until()).await.unwrap());
            let told = exporter.shutdown(until()).await.unwrap_err();
            assert_eq!(told.kind(), error);
        }
        let (exporter, _is_closed) = holding(3, ErrorKind::Timeout);
        drop(exporter.flush(until()).await.unwrap());
        let drained = exporter.shutdown(until()).await.unwrap();
        assert_eq!(drained.lost.of(DropReason::Shutdown), 3);
    }

    #[tokio::test]
    async fn who_is_dropped_without_a_shutdown_is_closed_all_the_same() {
        let (exporter, is_closed) = holding(0, ErrorKind::Unavailable);
        drop(exporter);
        is_closed.recv_timeout(SOON).unwrap();
    }
}
