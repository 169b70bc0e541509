//! A thread of its own for a destination whose writes block.
//!
//! A full pipe or a hung file system may hold a write for ever. It holds this thread then, and nobody else: not the
//! library's runtime, not the other destinations.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::sync::oneshot;

use crate::Attempt;
use crate::Deadline;
use crate::Error;
use crate::Result;
use crate::work::tracing_off;

/// What lives on a worker's thread.
pub(crate) trait Work: Send + 'static {
    /// When it wants to be woken though nobody asks for anything.
    fn wakes_at(&self) -> Option<Instant>;

    /// Does what is due.
    fn wake(&mut self);

    /// Does what can still be done when the last handle is gone.
    fn end(&mut self);
}

/// Runs jobs on a thread, one after the other.
///
/// It holds one job at a time. Whoever comes meanwhile waits for a turn, first come first served, no longer than its
/// deadline.
#[derive(Debug)]
pub(crate) struct Worker<W> {
    jobs: mpsc::Sender<Job<W>>,
    turn: Arc<Semaphore>,
}

type Job<W> = Box<dyn FnOnce(&mut W) + Send>;

/// Tells a job that nobody waits for it any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Sets the stop when the caller goes away, for whatever reason.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
    }
}

impl<W: Work> Worker<W> {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// [`Internal`](crate::ErrorKind::Internal) if the system gives no thread.
    pub(crate) fn start(name: &str, work: W) -> Result<Self> {
        let (jobs, incoming) = mpsc::channel();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run_jobs(&incoming, work))
            .map_err(|e| Error::internal("cannot start the writer's thread").with_source(e))?;
        Ok(Self {
            jobs,
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    /// Runs `job` on the thread.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout) when `until` passes first; the job is told to stop and may still finish.
    ///
    /// # Cancellation
    ///
    /// Dropping the future tells the job to stop.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        until: Deadline,
        job: impl FnOnce(&mut W, &Stop) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let too_late = || Error::timeout("the writer did not get to it", until);
        if until.has_passed() {
            return Err(too_late());
        }
        let turn = until.run(Arc::clone(&self.turn).acquire_owned()).await;
        let turn = turn.ok_or_else(too_late)?.map_err(|_| thread_is_gone())?;
        let (answer, answered) = oneshot::channel();
        let stop = Stop::default();
        let _stop = StopOnDrop(stop.clone());
        let job = move |work: &mut W| {
            let result = caught(|| job(work, &stop))
                .unwrap_or_else(|| Err(Error::internal("the writer panicked")));
            drop(turn);
            // Nobody may be waiting any more; the deadline told them.
            drop(answer.send(result));
        };
        self.jobs
            .send(Box::new(job))
            .map_err(|_| thread_is_gone())?;
        match until.run(answered).await {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(thread_is_gone()),
            None => {
                Err(Error::timeout("the writer did not finish", until).with_attempt(Attempt::one()))
            }
        }
    }
}

fn thread_is_gone() -> Error {
    Error::internal("the writer's thread has ended")
}

/// Runs `work`; `None` if it panicked.
fn caught<R>(work: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

fn run_jobs<W: Work>(incoming: &mpsc::Receiver<Job<W>>, mut work: W) {
    #[cfg(feature = "sdk")]
    let _suppressed = opentelemetry::Context::enter_telemetry_suppressed_scope();
    // A wake that panicked would panic again at once; it gets its next chance after the next job.
    let mut may_wake = true;
    loop {
        let wakes_at = work.wakes_at().filter(|_| may_wake);
        if wakes_at.is_some_and(|at| at <= Instant::now()) {
            let _off = tracing_off();
            may_wake = caught(|| work.wake()).is_some();
            continue;
        }
        match next_job(incoming, wakes_at) {
            Ok(job) => {
                let _off = tracing_off();
                job(&mut work);
                may_wake = true;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let _off = tracing_off();
    // Nobody is left to be told.
    let _ended = caught(|| work.end());
}

fn next_job<W>(
    incoming: &mpsc::Receiver<Job<W>>,
    wakes_at: Option<Instant>,
) -> Result<Job<W>, RecvTimeoutError> {
    match wakes_at {
        None => incoming.recv().map_err(|_| RecvTimeoutError::Disconnected),
        Some(at) => incoming.recv_timeout(at.saturating_duration_since(Instant::now())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ErrorKind;

    /// Counts what happens to it.
    struct Counting {
        wakes_left: usize,
        events: mpsc::Sender<&'static str>,
    }

    impl Work for Counting {
        fn wakes_at(&self) -> Option<Instant> {
            (self.wakes_left > 0).then(Instant::now)
        }

        fn wake(&mut self) {
            self.wakes_left -= 1;
            self.events.send("wake").unwrap();
        }

        fn end(&mut self) {
            self.events.send("end").unwrap();
        }
    }

    fn counting(wakes_left: usize) -> (Worker<Counting>, mpsc::Receiver<&'static str>) {
        let (events, seen) = mpsc::channel();
        let work = Counting { wakes_left, events };
        (Worker::start("test", work).unwrap(), seen)
    }

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_next_job_runs() {
        let (worker, _seen) = counting(0);
        let until = Deadline::after(SOON);
        let panicked = worker.run::<()>(until, |_, _| panic!("on purpose")).await;
        assert_eq!(panicked.unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(worker.run(until, |_, _| Ok(7)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn whoever_cannot_get_a_turn_in_time_is_told_so() {
        let (worker, _seen) = counting(0);
        let (release, released) = mpsc::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let worker = Arc::new(worker);
        let busy = Arc::clone(&worker);
        let first = tokio::spawn(async move {
            let job = move |_: &mut Counting, stop: &Stop| {
                begun.send(()).unwrap();
                released.recv_timeout(SOON).unwrap();
                Ok(stop.is_set())
            };
            busy.run(Deadline::after(SOON), job).await
        });
        has_begun.await.unwrap();
        let short = Deadline::after(Duration::from_millis(1)).named("attempt timeout");
        let error = worker.run(short, |_, _| Ok(())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("attempt timeout"), "{error}");
        release.send(()).unwrap();
        let was_stopped = first.await.unwrap().unwrap();
        assert!(!was_stopped, "the first caller still waits");
        worker
            .run(Deadline::after(SOON), |_, _| Ok(()))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_job_that_nobody_waits_for_is_told_to_stop() {
        let (worker, _seen) = counting(0);
        let (release, released) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let short = Deadline::after(Duration::from_millis(1));
        let job = move |_: &mut Counting, stop: &Stop| {
            released.recv_timeout(SOON).unwrap();
            tell.send(stop.is_set()).unwrap();
            Ok(())
        };
        let error = worker.run(short, job).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        release.send(()).unwrap();
        assert!(told.recv_timeout(SOON).unwrap());
    }

    #[test]
    fn it_wakes_when_asked_and_ends_when_the_last_handle_goes() {
        let (worker, seen) = counting(2);
        assert_eq!(seen.recv_timeout(SOON).unwrap(), "wake");
        assert_eq!(seen.recv_timeout(SOON).unwrap(), "wake");
        drop(worker);
        assert_eq!(seen.recv_timeout(SOON).unwrap(), "end");
    }
}
