//! One thread and one clock for everything.

use std::any::Any;
use std::panic;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::time::Duration;

use futures_util::FutureExt;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::combinators::Queued;
use outspan_testkit::batch_of;
use tokio::runtime::Handle;

use crate::destination::PANIC;

/// How long a test may take on the system's clock before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `work` on the library's own thread, whose clock stands still while there is anything to do.
///
/// Tests take turns, so that none sees the clock of another. The waits of retries are the same for the same `seed`, as far
/// as calls come in the same order.
pub(crate) fn run<T: Send + 'static>(
    seed: u64,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    let _turn = turn();
    let (ended, result) = mpsc::channel();
    let work = async move {
        fastrand::seed(seed);
        let result = AssertUnwindSafe(work).catch_unwind().await;
        ended.send(result).unwrap_or_default();
    };
    drop(library().spawn(work));
    match result.recv_timeout(PATIENCE) {
        Ok(Ok(value)) => value,
        Ok(Err(panic)) => panic::resume_unwind(panic),
        Err(_) => panic!("the test hangs"),
    }
}

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The library's runtime, with its clock paused. An exporter behind a queue runs on it, and can stop its clock.
fn library() -> &'static Handle {
    static LIBRARY: OnceLock<Handle> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        keep_scripted_panics_quiet();
        let (sender, handle) = mpsc::channel();
        let stop = Exporter::new(StopTheClock(Mutex::new(sender)));
        let queue = Queued::new(stop).build().unwrap();
        let until = Deadline::after(PATIENCE);
        futures_executor::block_on(queue.export(batch_of(1), until)).unwrap();
        handle.recv_timeout(PATIENCE).unwrap()
    })
}

#[derive(Debug)]
struct StopTheClock(Mutex<mpsc::Sender<Handle>>);

impl Export for StopTheClock {
    async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
        tokio::time::pause();
        self.0.lock().unwrap().send(Handle::current()).unwrap();
        Ok(Delivery::of(&batch))
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

fn keep_scripted_panics_quiet() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !is_scripted(info.payload()) {
            tell(info);
        }
    }));
}

pub(crate) fn is_scripted(panic: &(dyn Any + Send)) -> bool {
    panic.downcast_ref::<&str>() == Some(&PANIC)
}
