//! Where the library's work runs: on the one thread of its own, or on a tokio runtime of the program.
//!
//! Each exporter and each queue holds a [`Runtime`] for its whole life. Its connections, timers and requests live there,
//! whichever thread asks for an export: tokio ties sockets and timers to the runtime that made them. A call from elsewhere
//! becomes a task on that runtime.
//!
//! Nothing that runs here makes spans. OpenTelemetry's suppression scope and `tracing`'s dispatcher are thread-local, and
//! the threads of a program's runtime run other tasks as well. So [`Work`] enters both when it is polled and when it is
//! dropped, and leaves them afterwards.

use std::fmt;
use std::future::Future;
use std::panic::catch_unwind;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinError;
use tokio::task::JoinHandle;

use crate::Deadline;
use crate::Error;
use crate::ErrorKind;
use crate::Result;
use crate::work::Task;
use crate::work::Work;
use crate::work::is_shared;
use crate::work::polled_on;
use crate::work::shared_handle;
use crate::work::spawn_on;

/// How long after its deadline work counts as not run. Work that runs ends earlier, and says more.
const STUCK_AFTER: Duration = Duration::from_millis(500);

/// Says where connections, timers and queues run.
///
/// The default is [`shared`](Self::shared): one thread that the library starts when it is first needed. It works in every
/// program, also in one without tokio. A program that sends to many destinations can pass a multi-threaded runtime of its
/// own instead, so that TLS, HTTP/2 and compression use all cores:
///
/// ```
/// # #[cfg(feature = "grpc")] {
/// use outspan::otlp;
/// use tokio::runtime::Handle;
///
/// # async fn build() -> outspan::Result<()> {
/// let exporter = otlp::grpc("http://localhost:4317")
///     .runtime(Handle::current())
///     .build()?;
/// # drop(exporter);
/// # Ok(())
/// # }
/// # }
/// ```
///
/// An exporter keeps its runtime for its whole life. It can be called from any thread, in any runtime and in none, and can
/// have owners on several runtimes.
///
/// # A runtime of the program's own
///
/// - It needs timers and sockets: build it with `enable_all`.
/// - It has to be driven. While nothing drives it, exports wait, and end by their deadline with
///   [`Timeout`](ErrorKind::Timeout). This includes a current-thread runtime whose only thread blocks: a
///   [`SimpleProcessor`](crate::sdk), `force_flush` or `shutdown` on that thread waits for an export that cannot run.
/// - It should outlive its exporters. When it is dropped, exports in flight and later ones end with
///   [`ShutDown`](ErrorKind::ShutDown), and the spans of queues on it count as dropped for the reason `shutdown`.
/// - Conversion and compression of large batches run on its threads for blocking work.
///
/// Processors always run on the library's thread: `force_flush` and `shutdown` block the calling thread, which on another
/// runtime can be the very thread that the work needs. So do the reports, log lines and hooks of
/// [measured](crate::combinators::Measured) and [logged](crate::combinators::Logged) exporters.
#[derive(Clone, Default)]
pub struct Runtime(Place);

#[derive(Clone, Default)]
enum Place {
    /// Looked up at each use, so that making a value starts nothing.
    #[default]
    Shared,
    Given(Handle),
}

impl Runtime {
    /// The library's own thread, one for the process. It starts when it is first needed.
    pub fn shared() -> Self {
        Self(Place::Shared)
    }

    /// The runtime whose work this thread is polling; the shared one elsewhere.
    ///
    /// So what starts in the middle of an export, such as a conversion, runs where the export runs.
    pub(crate) fn surrounding() -> Self {
        Self(polled_on().map_or(Place::Shared, Place::Given))
    }

    /// Checks that work can run there, as far as that can be known.
    ///
    /// # Errors
    ///
    /// [`Config`](ErrorKind::Config) for a runtime without timers.
    pub(crate) fn check(&self) -> Result<()> {
        let Place::Given(handle) = &self.0 else {
            return Ok(());
        };
        let _entered = handle.enter();
        // Tokio has no other way to ask: creating a timer panics where there are none.
        let has_timers = catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok();
        match has_timers {
            true => Ok(()),
            false => Err(Error::config(
                "the runtime has no timers: build it with enable_all",
            )),
        }
    }

    /// The runtime's handle. The first call for the shared one starts its thread.
    pub(crate) fn handle(&self) -> Result<Handle> {
        match &self.0 {
            Place::Shared => shared_handle()
                .map_err(|e| Error::internal("cannot start the library's thread").with_source(e)),
            Place::Given(handle) => Ok(handle.clone()),
        }
    }

    /// Whether the calling thread is in this runtime, so that its sockets and timers can be used here.
    pub(crate) fn is_current(&self) -> bool {
        let Ok(current) = Handle::try_current() else {
            return false;
        };
        match &self.0 {
            Place::Shared => is_shared(&current),
            Place::Given(handle) => handle.id() == current.id(),
        }
    }

    /// Whether both are the same runtime.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Place::Shared, Place::Shared) => true,
            (Place::Given(ours), Place::Given(theirs)) => ours.id() == theirs.id(),
            _ => false,
        }
    }

    /// Starts `work`. Dropping the task stops it.
    pub(crate) fn spawn<F>(&self, work: F) -> Result<Task<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        self.detach(work).map(Task)
    }

    /// Starts `work`, which goes on when the handle is dropped.
    pub(crate) fn detach<F>(&self, work: F) -> Result<JoinHandle<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        Ok(spawn_on(&self.handle()?, work))
    }

    /// Runs `work` there and waits for it, from any executor: at once where the caller is there already.
    ///
    /// # Errors
    ///
    /// [`ShutDown`](ErrorKind::ShutDown) if the runtime has ended, [`Timeout`](ErrorKind::Timeout) if it does not run the
    /// work in time, [`Internal`](ErrorKind::Internal) if the work panicked.
    ///
    /// # Cancellation
    ///
    /// Dropping the future stops the work.
    pub(crate) async fn run<F>(&self, deadline: Deadline, work: F) -> Result<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let handle = self.handle()?;
        self.run_on(&handle, deadline, Work::new(&handle, work))
            .await
    }

    /// Runs network code there, as [`run`](Self::run) does, and with `tracing` switched off: the spans of HTTP/2 libraries
    /// would otherwise reach the subscriber, become OpenTelemetry spans and be exported by this very call.
    #[cfg(feature = "_network")]
    pub(crate) async fn run_network<R, F>(&self, deadline: Deadline, work: F) -> Result<R>
    where
        F: Future<Output = Result<R>> + Send + 'static,
        R: Send + 'static,
    {
        let handle = self.handle()?;
        let work = Work::of_network(&handle, work);
        self.run_on(&handle, deadline, work).await?
    }

    async fn run_on<F>(
        &self,
        handle: &Handle,
        deadline: Deadline,
        work: Work<F>,
    ) -> Result<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        if self.is_current() {
            return Ok(work.await);
        }
        let task = Task(handle.spawn(work));
        let ended = match self.0 {
            // Its thread always runs, and the work keeps the deadline itself.
            Place::Shared => Some(task.await),
            // Nobody may drive the runtime; then the work's own timers do not fire either.
            Place::Given(_) => deadline.at_least_later(STUCK_AFTER).run(task).await,
        };
        let Some(ended) = ended else {
            let message = "the runtime of the exporter or queue did not run it";
            return Err(Error::timeout(message, deadline));
        };
        ended.map_err(unfinished)
    }

    /// Starts the driver of a connection. Nobody waits for it.
    #[cfg(feature = "_network")]
    pub(crate) fn detach_network<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match self.handle() {
            Ok(handle) => drop(handle.spawn(Work::of_network(&handle, work))),
            Err(error) => tracing::error!(target: "outspan", "{}", error.chain()),
        }
    }

    /// Runs blocking `work`, such as compressing a large batch, on a thread for blocking work.
    #[cfg(feature = "_network")]
    pub(crate) async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R> {
        let handle = self.handle()?;
        handle.spawn_blocking(work).await.map_err(unfinished)
    }
}

impl From<Handle> for Runtime {
    fn from(handle: Handle) -> Self {
        Self(Place::Given(handle))
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Shared => f.write_str("Runtime(shared)"),
            Place::Given(handle) => write!(f, "Runtime({})", handle.id()),
        }
    }
}

fn unfinished(error: JoinError) -> Error {
    // Tasks are aborted only by dropping what waits for them, so one that is cancelled ended with its runtime.
    match error.is_cancelled() {
        true => Error::new(
            ErrorKind::ShutDown,
            "the runtime of the exporter or queue has ended",
        ),
        false => Error::internal("work of the exporter or queue did not finish").with_source(error),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use std::sync::mpsc;
    use std::task::Context;
    use std::task::Poll;

    use tracing::dispatcher;

    use super::*;
    use crate::work::Shared;
    use crate::work::may_use_timers;

    const SOON: Duration = Duration::from_secs(20);

    fn multi_thread() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().unwrap()
    }

    #[test]
    fn failed_start_is_tried_again() {
        let shared = Shared::new();
        let calls = AtomicUsize::new(0);
        let failing = || {
            calls.fetch_add(1, Ordering::Relaxed);
            Err(Error::internal("no thread now"))
        };
        for _ in 0..2 {
            let error = shared.get_or_start(failing).unwrap_err();
            assert!(error.to_string().contains("no thread now"), "{error}");
        }
        assert_eq!(calls.load(Ordering::Relaxed), 2);

        let runtime = multi_thread();
        let handle = shared.get_or_start(|| Ok::<_, Error>(runtime.handle().clone()));
        assert_eq!(handle.unwrap().id(), runtime.handle().id());
        let handle = shared.get_or_start(failing);
        assert_eq!(handle.unwrap().id(), runtime.handle().id());
        assert_eq!(
            calls.load(Ordering::Relaxed),
            2,
            "a thread that runs is kept"
        );
    }

    #[test]
    fn threads_that_start_it_at_once_get_the_same_one() {
        let shared = Shared::new();
        let calls = AtomicUsize::new(0);
        let runtimes = [(); 8].map(|()| multi_thread());
        let start = |runtime: &tokio::runtime::Runtime| {
            shared.get_or_start(|| {
                calls.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Error>(runtime.handle().clone())
            })
        };
        let ids = std::thread::scope(|scope| {
            let start = &start;
            let threads = runtimes.iter().map(|one| scope.spawn(move || start(one)));
            let threads: Vec<_> = threads.collect();
            let ids = threads
                .into_iter()
                .map(|one| one.join().unwrap().unwrap().id());
            ids.collect::<Vec<_>>()
        });
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert!(ids.iter().all(|id| *id == ids[0]));
    }

    #[test]
    fn surrounding_runtime_is_the_one_that_polls() {
        let runtime = multi_thread();
        let ours = Runtime::from(runtime.handle().clone());
        let place = |runtime: &Runtime| format!("{runtime:?}");
        let shared = place(&Runtime::shared());
        assert_eq!(place(&Runtime::surrounding()), shared);
        let found = async {
            let before = Runtime::surrounding();
            // Another poll, maybe on another thread.
            tokio::task::yield_now().await;
            (before, Runtime::surrounding(), may_use_timers())
        };
        let task = ours.spawn(found).unwrap();
        let (before, after, timers) = runtime.block_on(task).unwrap();
        assert_eq!(
            (place(&before), place(&after)),
            (place(&ours), place(&ours))
        );
        assert!(timers);
        // Elsewhere on the same runtime nothing is ours.
        let found = runtime.block_on(async { (Runtime::surrounding(), may_use_timers()) });
        assert_eq!((place(&found.0), found.1), (shared, false));
    }

    #[test]
    fn work_inside_other_work_restores_what_surrounds_it() {
        let [outer, inner] = [(); 2].map(|()| multi_thread());
        let [outer_id, inner_id] = [&outer, &inner].map(|one| one.handle().id());
        let inside = Work::new(inner.handle(), async { Runtime::surrounding() });
        let outside = Work::new(outer.handle(), async {
            let found = inside.await;
            (found, Runtime::surrounding())
        });
        let (found, after) = futures_executor::block_on(outside);
        assert_eq!(format!("{found:?}"), format!("Runtime({inner_id})"));
        assert_eq!(format!("{after:?}"), format!("Runtime({outer_id})"));
    }

    #[tokio::test]
    async fn runtime_without_timers_is_a_configuration_error() {
        let without = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let error = Runtime::from(without.handle().clone()).check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("enable_all"), "{error}");
        Runtime::from(Handle::current()).check().unwrap();
        Runtime::shared().check().unwrap();
        without.shutdown_background();
    }

    #[test]
    fn work_ends_with_its_runtime() {
        let runtime = multi_thread();
        let ours = Runtime::from(runtime.handle().clone());
        let (started, has_started) = mpsc::channel();
        let in_flight = std::thread::spawn({
            let ours = ours.clone();
            move || {
                let work = async move {
                    started.send(()).unwrap();
                    std::future::pending::<()>().await;
                };
                futures_executor::block_on(ours.run(Deadline::never(), work))
            }
        });
        has_started.recv_timeout(SOON).unwrap();
        drop(runtime);
        let ended = in_flight.join().unwrap().unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::ShutDown);
        let later = futures_executor::block_on(ours.run(Deadline::never(), async {}));
        assert_eq!(later.unwrap_err().kind(), ErrorKind::ShutDown);
    }

    #[test]
    fn work_on_a_runtime_that_nobody_drives_ends_by_the_deadline() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let ours = Runtime::from(runtime.handle().clone());
        let deadline = Deadline::after(Duration::from_millis(20));
        let error = futures_executor::block_on(ours.run(deadline, async {})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }

    #[test]
    fn panic_in_work_is_an_error() {
        let runtime = multi_thread();
        let ours = Runtime::from(runtime.handle().clone());
        let work = async { panic!("a mistake in the work") };
        let ended: Result<()> = futures_executor::block_on(ours.run(Deadline::never(), work));
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Internal);
    }

    #[cfg(feature = "sdk")]
    fn is_suppressed() -> bool {
        opentelemetry::Context::is_current_telemetry_suppressed()
    }

    /// Notes at each poll and at its drop whether telemetry is suppressed.
    #[cfg(feature = "sdk")]
    struct Noting(Arc<std::sync::Mutex<Vec<bool>>>);

    #[cfg(feature = "sdk")]
    impl Future for Noting {
        type Output = ();

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            self.0.lock().unwrap().push(is_suppressed());
            context.waker().wake_by_ref();
            Poll::Pending
        }
    }

    #[cfg(feature = "sdk")]
    impl Drop for Noting {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(is_suppressed());
        }
    }

    #[test]
    #[cfg(feature = "sdk")]
    fn every_poll_and_the_drop_are_suppressed() {
        let noted = Arc::default();
        let runtime = multi_thread();
        let mut work = Box::pin(Work::new(runtime.handle(), Noting(Arc::clone(&noted))));
        let mut context = Context::from_waker(std::task::Waker::noop());
        for _ in 0..3 {
            assert!(work.as_mut().poll(&mut context).is_pending());
            assert!(!is_suppressed(), "the thread belongs to others again");
        }
        drop(work);
        assert!(!is_suppressed());
        assert_eq!(*noted.lock().unwrap(), [true; 4]);
    }

    #[test]
    #[cfg(all(feature = "sdk", feature = "_network"))]
    fn network_code_has_no_subscriber_in_polls_and_drop() {
        fn has_subscriber() -> bool {
            dispatcher::get_default(|current| current.is::<tracing_subscriber::Registry>())
        }

        struct Traced(Arc<std::sync::Mutex<Vec<bool>>>);

        impl Traced {
            fn note(&self) {
                self.0.lock().unwrap().push(has_subscriber());
            }
        }

        impl Future for Traced {
            type Output = ();

            fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
                self.note();
                Poll::Pending
            }
        }

        impl Drop for Traced {
            fn drop(&mut self) {
                self.note();
            }
        }

        let runtime = multi_thread();
        let subscriber = tracing_subscriber::registry();
        tracing::subscriber::with_default(subscriber, || {
            let mut context = Context::from_waker(std::task::Waker::noop());
            for (is_network, expected) in [(true, [false; 2]), (false, [true; 2])] {
                let noted = Arc::default();
                let traced = Traced(Arc::clone(&noted));
                let mut work = Box::pin(match is_network {
                    true => Work::of_network(runtime.handle(), traced),
                    false => Work::new(runtime.handle(), traced),
                });
                assert!(work.as_mut().poll(&mut context).is_pending());
                assert!(has_subscriber(), "the thread belongs to others again");
                drop(work);
                assert_eq!(*noted.lock().unwrap(), expected);
            }
        });
    }
}
