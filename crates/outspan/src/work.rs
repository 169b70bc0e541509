//! The library's own thread, and how its work is polled, there and on other runtimes.

use std::cell::Cell;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::task::Context;
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::task::JoinError;
use tokio::task::JoinHandle;
use tracing::Dispatch;
use tracing::dispatcher;
use tracing::level_filters::LevelFilter;

/// The name of the library's thread, for people who look at a list of threads. Nothing depends on it.
const THREAD_NAME: &str = "outspan";

static SHARED: Shared = Shared::new();

thread_local! {
    /// The runtime whose work this thread is polling.
    static POLLED_ON: RefCell<Option<Handle>> = const { RefCell::new(None) };
    /// Whether this is the library's own thread.
    static IS_OWN_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// The handle of the library's own thread. The first call starts it.
pub(crate) fn shared_handle() -> io::Result<Handle> {
    SHARED.get_or_start(start)
}

/// The runtime whose work this thread is polling.
pub(crate) fn polled_on() -> Option<Handle> {
    let handle = POLLED_ON.try_with(|polled_on| polled_on.borrow().clone());
    handle.ok().flatten()
}

/// Starts `work`, which goes on when the handle is dropped.
pub(crate) fn spawn_on<F>(handle: &Handle, work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    handle.spawn(Work::new(handle, work))
}

/// Whether this is the library's own thread, which must not wait for its own work.
///
/// Other threads may have entered the shared runtime, and may wait.
#[cfg(feature = "sdk")]
pub(crate) fn is_own_thread() -> bool {
    IS_OWN_THREAD.get()
}

/// Whether the timers of the current tokio runtime may be used: it is polling our work, or is the shared one.
///
/// Another runtime may have no timers, or its thread may be blocked by the very call that waits.
pub(crate) fn may_use_timers() -> bool {
    let Ok(current) = Handle::try_current() else {
        return false;
    };
    let is_polled_here = |polled_on: &RefCell<Option<Handle>>| {
        let polled_on = polled_on.borrow();
        // A user's exporter may have entered yet another runtime.
        polled_on
            .as_ref()
            .is_some_and(|ours| ours.id() == current.id())
    };
    POLLED_ON.try_with(is_polled_here).unwrap_or(false) || is_shared(&current)
}

pub(crate) fn is_shared(current: &Handle) -> bool {
    SHARED
        .started
        .get()
        .is_some_and(|ours| ours.id() == current.id())
}

/// The library's own thread, once it runs.
pub(crate) struct Shared {
    started: OnceLock<Handle>,
    /// Held while one caller starts the thread. Always taken before `started` is written, so that there is only one thread.
    starting: Mutex<()>,
}

impl Shared {
    pub(crate) const fn new() -> Self {
        Self {
            started: OnceLock::new(),
            starting: Mutex::new(()),
        }
    }

    /// Returns the running thread's handle. A failure to start is not kept: the system may have room for a thread later.
    pub(crate) fn get_or_start<E>(
        &self,
        start: impl FnOnce() -> Result<Handle, E>,
    ) -> Result<Handle, E> {
        if let Some(handle) = self.started.get() {
            return Ok(handle.clone());
        }
        let _turn = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = self.started.get() {
            return Ok(handle.clone());
        }
        let handle = start()?;
        Ok(self.started.get_or_init(|| handle).clone())
    }
}

/// Starts the library's thread.
fn start() -> io::Result<Handle> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // The runtime is made on its thread: one that had to be dropped here because there is no thread would panic in a
    // caller's runtime.
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("outspan-blocking")
            .max_blocking_threads(4)
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(sender.send(Err(error))),
        };
        IS_OWN_THREAD.set(true);
        #[cfg(feature = "sdk")]
        let _suppressed = opentelemetry::Context::enter_telemetry_suppressed_scope();
        if sender.send(Ok(runtime.handle().clone())).is_ok() {
            runtime.block_on(std::future::pending::<()>());
        }
    };
    let thread = std::thread::Builder::new().name(THREAD_NAME.to_owned());
    thread.spawn(run)?;
    // It fails if the thread panicked before it answered.
    receiver.recv().map_err(io::Error::other)?
}

/// A future of the library's. While it is polled or dropped, what it calls knows the runtime, and makes no spans.
pub(crate) struct Work<F> {
    future: Option<Pin<Box<F>>>,
    /// Moved into `POLLED_ON` during a poll, so that a poll touches no reference count.
    handle: Option<Handle>,
    is_network: bool,
}

impl<F> Work<F> {
    pub(crate) fn new(handle: &Handle, future: F) -> Self {
        Self {
            future: Some(Box::pin(future)),
            handle: Some(handle.clone()),
            is_network: false,
        }
    }

    /// Work that runs with `tracing` switched off.
    #[cfg(feature = "_network")]
    pub(crate) fn of_network(handle: &Handle, future: F) -> Self {
        let mut work = Self::new(handle, future);
        work.is_network = true;
        work
    }
}

impl<F: Future> Future for Work<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let _scope = Scope::enter(&mut this.handle, this.is_network);
        let Some(future) = &mut this.future else {
            return Poll::Pending;
        };
        let output = std::task::ready!(future.as_mut().poll(context));
        // HTTP/2 libraries emit events when they are dropped, too.
        this.future = None;
        Poll::Ready(output)
    }
}

impl<F> Drop for Work<F> {
    fn drop(&mut self) {
        if self.future.is_some() {
            let _scope = Scope::enter(&mut self.handle, self.is_network);
            self.future = None;
        }
    }
}

/// Switches `tracing` off on this thread until the guard is dropped.
///
/// While a thread has a dispatcher of its own, every event of the program looks for one. So guards are held for one call or
/// poll, and there is none while no subscriber wants anything. `Dispatch::none()` is never registered with callsites.
pub(crate) fn tracing_off() -> Option<dispatcher::DefaultGuard> {
    let is_traced = LevelFilter::current() != LevelFilter::OFF;
    is_traced.then(|| dispatcher::set_default(&Dispatch::none()))
}

/// What the thread knows and suppresses during a poll. Dropping it restores what was there before.
///
/// Fields are dropped in their order, and `Drop` runs first: the scopes nest, so the order among them does not matter.
struct Scope<'a> {
    handle: &'a mut Option<Handle>,
    /// The work around this one, whose poll is going on.
    outer: Option<Handle>,
    #[cfg(feature = "sdk")]
    _suppressed: Option<opentelemetry::ContextGuard>,
    _tracing_off: Option<dispatcher::DefaultGuard>,
}

impl<'a> Scope<'a> {
    fn enter(handle: &'a mut Option<Handle>, is_network: bool) -> Self {
        #[cfg(feature = "sdk")]
        let suppressed = {
            use opentelemetry::Context;

            // The library's own thread stays in such a scope, and so does work inside of other work.
            let is_suppressed = Context::is_current_telemetry_suppressed();
            (!is_suppressed).then(Context::enter_telemetry_suppressed_scope)
        };
        let tracing_off = is_network.then(tracing_off).flatten();
        let ours = handle.take();
        let outer = POLLED_ON.try_with(|polled_on| polled_on.replace(ours));
        Self {
            handle,
            // Thread-local values are gone only while the thread ends; then there is nothing to restore.
            outer: outer.ok().flatten(),
            #[cfg(feature = "sdk")]
            _suppressed: suppressed,
            _tracing_off: tracing_off,
        }
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        let outer = self.outer.take();
        let ours = POLLED_ON.try_with(|polled_on| polled_on.replace(outer));
        *self.handle = ours.ok().flatten();
    }
}

/// A task that ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Task<R>(pub(crate) JoinHandle<R>);

impl<R> Future for Task<R> {
    type Output = Result<R, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<R> Drop for Task<R> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
