//! The runtime that the library owns: one thread for the process.
//!
//! Connections, timers and processors live here, so that exporters work in any `main`, can be shared by several
//! providers, and never wait for a reactor of the caller's. The thread stays inside the OpenTelemetry suppression
//! scope, so that nothing it does makes spans of its own.

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::Context;
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
#[cfg(feature = "_network")]
use tracing::Dispatch;
#[cfg(feature = "_network")]
use tracing::dispatcher;

use crate::Error;
use crate::Result;

static RUNTIME: OnceLock<Result<Handle, String>> = OnceLock::new();

/// The runtime's handle; the first call starts its thread.
pub(crate) fn handle() -> Result<&'static Handle> {
    RUNTIME
        .get_or_init(start)
        .as_ref()
        .map_err(|message| Error::internal(message.clone()))
}

fn start() -> Result<Handle, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("outspan-blocking")
        .max_blocking_threads(4)
        .build()
        .map_err(|e| format!("cannot start the runtime: {e}"))?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("outspan".into())
        .spawn(move || {
            #[cfg(feature = "sdk")]
            let _suppressed = opentelemetry::Context::enter_telemetry_suppressed_scope();
            runtime.block_on(std::future::pending::<()>());
        })
        .map_err(|e| format!("cannot start the runtime's thread: {e}"))?;
    Ok(handle)
}

/// Whether the caller is in the library's runtime.
pub(crate) fn is_current() -> bool {
    let current = Handle::try_current();
    handle().is_ok_and(|ours| current.is_ok_and(|current| current.id() == ours.id()))
}

/// Starts `work` in the library's runtime. Dropping the task stops it.
pub(crate) fn spawn<F>(work: F) -> Result<Task<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    Ok(Task(handle()?.spawn(work)))
}

/// Starts `work` that nobody waits for, such as the driver of a connection.
#[cfg(feature = "_network")]
pub(crate) fn spawn_detached<F>(work: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    match handle() {
        Ok(handle) => drop(handle.spawn(quietly(work))),
        Err(error) => tracing::error!(target: "outspan", "{}", error.chain()),
    }
}

/// Runs blocking `work`, such as compressing a large batch, beside the runtime's thread.
#[cfg(feature = "_network")]
pub(crate) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R> {
    handle()?
        .spawn_blocking(work)
        .await
        .map_err(|e| Error::internal("blocking work did not finish").with_source(e))
}

/// Runs `work` in the library's runtime and waits for it, from any executor.
///
/// Network code runs with `tracing` switched off: the spans of HTTP/2 libraries would otherwise reach the
/// subscriber, become OpenTelemetry spans and be exported by this very call.
///
/// # Cancellation
///
/// Dropping the future stops the work.
#[cfg(feature = "_network")]
pub(crate) async fn run<R, F>(work: F) -> Result<R>
where
    F: Future<Output = Result<R>> + Send + 'static,
    R: Send + 'static,
{
    let ours = handle()?;
    let work = quietly(work);
    if is_current() {
        return work.await;
    }
    match Task(ours.spawn(work)).await {
        Ok(result) => result,
        Err(e) => Err(Error::internal("a task of the exporter did not finish").with_source(e)),
    }
}

/// Writes log lines from within network code, which runs with `tracing` switched off.
#[cfg(feature = "_network")]
pub(crate) fn say(lines: impl FnOnce() + Send + 'static) {
    if let Ok(handle) = handle() {
        drop(handle.spawn(async move { lines() }));
    }
}

#[cfg(feature = "_network")]
fn quietly<F: Future>(work: F) -> Quiet<F> {
    Quiet {
        work: Some(Box::pin(work)),
    }
}

/// A future that runs with `tracing` switched off, and ends so: HTTP/2 libraries speak when they are dropped, too.
#[cfg(feature = "_network")]
struct Quiet<F> {
    work: Option<Pin<Box<F>>>,
}

#[cfg(feature = "_network")]
impl<F: Future> Future for Quiet<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // `Dispatch::none()` costs nothing; a dispatch of a subscriber would be registered with every callsite.
        let _quiet = dispatcher::set_default(&Dispatch::none());
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        let output = std::task::ready!(work.as_mut().poll(context));
        self.work = None;
        Poll::Ready(output)
    }
}

#[cfg(feature = "_network")]
impl<F> Drop for Quiet<F> {
    fn drop(&mut self) {
        if self.work.is_some() {
            let _quiet = dispatcher::set_default(&Dispatch::none());
            self.work = None;
        }
    }
}

/// A task that ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Task<R>(JoinHandle<R>);

impl<R> Future for Task<R> {
    type Output = Result<R, tokio::task::JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<R> Drop for Task<R> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
