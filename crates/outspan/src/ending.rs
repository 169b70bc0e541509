//! The one shutdown of something that several callers may end at the same time.
//!
//! The first caller does the work. Everybody else waits for it, within the deadline of their own, and gets the same
//! result. A shutdown whose future is dropped leaves the work to the next caller; one that panicked is an error for all.

use std::fmt::Debug;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
#[cfg(any(feature = "sdk", test))]
use std::time::Instant;

use tokio::sync::watch;

use crate::Deadline;
use crate::Drained;
use crate::Error;
use crate::Result;
use crate::guard::GRACE;

/// How much longer than its own deadline a caller waits for a shutdown that another one began.
///
/// Two callers with the same timeout start moments apart, and the first may take its grace to count what is lost.
pub(crate) const PATIENCE: Duration = GRACE.saturating_mul(3);

/// The state of one shutdown, and those who wait for its result.
#[derive(Debug)]
pub(crate) struct Ending<T = Drained> {
    state: Mutex<State<T>>,
    /// Wakes tasks. It carries no value: the state is read under the lock, so no change is missed.
    changed: watch::Sender<()>,
    /// Wakes threads.
    condvar: Condvar,
}

#[derive(Debug)]
enum State<T> {
    /// Nobody has begun, or the caller that did was dropped before the end.
    Open,
    Running,
    Ended(Result<T>),
}

/// The right to do the work. Dropping it without a result hands the work to the next caller.
#[derive(Debug)]
pub(crate) struct Turn<'a, T: Clone + Debug> {
    ending: &'a Ending<T>,
    is_done: bool,
}

impl<T> Default for Ending<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State::Open),
            changed: watch::Sender::new(()),
            condvar: Condvar::new(),
        }
    }
}

impl<T: Clone + Debug> Ending<T> {
    /// Begins the work; `None` if another caller does it or it is done.
    pub(crate) fn begin(&self) -> Option<Turn<'_, T>> {
        let mut state = self.lock();
        if !matches!(*state, State::Open) {
            return None;
        }
        *state = State::Running;
        Some(Turn {
            ending: self,
            is_done: false,
        })
    }

    /// The result, once there is one.
    #[cfg(any(feature = "sdk", test))]
    pub(crate) fn result(&self) -> Option<Result<T>> {
        match &*self.lock() {
            State::Ended(result) => Some(result.clone()),
            State::Open | State::Running => None,
        }
    }

    /// Does the work, or waits for the caller that does it.
    ///
    /// # Errors
    ///
    /// Those of the work; [`Timeout`](crate::ErrorKind::Timeout) if another caller's work goes on beyond `until`.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the work. The next caller, or one that waits already, does it again.
    pub(crate) async fn run<F>(&self, until: Deadline, work: impl FnOnce() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            if let Some(turn) = self.begin() {
                let result = work().await;
                return turn.finish(result);
            }
            let ended = until.at_least_later(PATIENCE).run(self.ended()).await;
            match ended {
                Some(Some(result)) => return result,
                Some(None) => {}
                None => return Err(not_ended(until)),
            }
        }
    }

    /// Waits for the work if it runs, whatever comes of it.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout) if it goes on beyond `until`.
    pub(crate) async fn ended_by(&self, until: Deadline) -> Result<()> {
        let ended = until.at_least_later(PATIENCE).run(self.ended()).await;
        ended.map(drop).ok_or_else(|| not_ended(until))
    }

    /// Waits for the end on a thread; `None` when it takes longer than `timeout` and some patience, or when the work
    /// was given up.
    #[cfg(any(feature = "sdk", test))]
    pub(crate) fn wait(&self, timeout: Duration) -> Option<Result<T>> {
        // `Instant` cannot hold every duration; without an end it is waited for as long as it takes.
        let end = Instant::now().checked_add(timeout.saturating_add(PATIENCE));
        let mut state = self.lock();
        loop {
            match &*state {
                State::Open => return None,
                State::Ended(result) => return Some(result.clone()),
                State::Running => {}
            }
            let Some(end) = end else {
                state = self
                    .condvar
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = end.checked_duration_since(Instant::now())?;
            state = self
                .condvar
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits while the work runs: its result, or `None` if it was given up.
    async fn ended(&self) -> Option<Result<T>> {
        // Subscribed before the state is read: a change after that wakes this task.
        let mut changed = self.changed.subscribe();
        loop {
            match &*self.lock() {
                State::Open => return None,
                State::Ended(result) => return Some(result.clone()),
                State::Running => {}
            }
            if changed.changed().await.is_err() {
                return None;
            }
        }
    }

    fn set(&self, state: State<T>) {
        *self.lock() = state;
        self.changed.send_replace(());
        self.condvar.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + Debug> Turn<'_, T> {
    /// Ends the work with its result, which everybody gets from now on.
    pub(crate) fn finish(mut self, result: Result<T>) -> Result<T> {
        self.is_done = true;
        self.ending.set(State::Ended(result.clone()));
        result
    }
}

#[cfg(feature = "sdk")]
impl<T: Clone + Debug> Ending<T> {
    /// Ends work that was [left](Turn::leave_running) to somebody else.
    pub(crate) fn finish(&self, result: Result<T>) {
        self.set(State::Ended(result));
    }
}

#[cfg(feature = "sdk")]
impl<T: Clone + Debug> Turn<'_, T> {
    /// Leaves the work to somebody who calls [`Ending::finish`] in any case.
    pub(crate) fn leave_running(mut self) {
        self.is_done = true;
    }
}

impl<T: Clone + Debug> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        // Work that panicked would panic again, so nobody repeats it.
        self.ending.set(match std::thread::panicking() {
            true => State::Ended(Err(Error::internal("the shutdown panicked"))),
            false => State::Open,
        });
    }
}

/// The error of a caller whose time is over before the shutdown of another one.
pub(crate) fn not_ended(until: Deadline) -> Error {
    Error::timeout("the shutdown that is under way has not ended", until)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use tokio::sync::oneshot;

    use super::*;
    use crate::ErrorKind;

    const SOON: Duration = Duration::from_secs(20);

    fn until() -> Deadline {
        Deadline::after(SOON)
    }

    #[tokio::test(start_paused = true)]
    async fn callers_at_once_and_later_get_one_result() {
        let ending = Ending::<u64>::default();
        let runs = AtomicUsize::new(0);
        let (go, gone) = oneshot::channel::<()>();
        let work = async {
            runs.fetch_add(1, Ordering::Relaxed);
            gone.await.unwrap();
            Ok(7)
        };
        let first = ending.run(until(), || work);
        let second = ending.run(until(), || async { unreachable!("done once") });
        let open = async { go.send(()).unwrap() };
        let (first, second, ()) = tokio::join!(first, second, open);
        assert_eq!((first.unwrap(), second.unwrap()), (7, 7));
        let third = ending.run(until(), || async { unreachable!("done once") });
        assert_eq!(third.await.unwrap(), 7);
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_keeps_its_own_deadline() {
        let ending = Ending::<u64>::default();
        let first = ending.run(Deadline::never(), std::future::pending);
        let short = Deadline::after(Duration::from_secs(1)).named("my limit");
        let second = ending.run(short, || async { Ok(1) });
        tokio::select! {
            biased;
            _ = first => unreachable!("it never ends"),
            result = second => {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Timeout);
                assert!(error.to_string().contains("my limit"), "{error}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_shutdown_is_taken_over_by_a_waiter() {
        let ending = Ending::<u64>::default();
        let mut first = Box::pin(ending.run(until(), std::future::pending));
        let mut second = Box::pin(ending.run(until(), || async { Ok(2) }));
        assert!(futures_util::poll!(&mut first).is_pending());
        assert!(futures_util::poll!(&mut second).is_pending());
        assert!(ending.result().is_none());
        drop(first);
        assert_eq!(second.await.unwrap(), 2);
    }

    #[test]
    fn a_panic_is_an_error_for_all_others() {
        let ending = Ending::<u64>::default();
        std::thread::scope(|scope| {
            let turn = ending.begin().unwrap();
            let waiting = scope.spawn(|| ending.wait(SOON));
            let panicking = scope.spawn(move || {
                let _turn = turn;
                panic!("a user's shutdown");
            });
            panicking.join().unwrap_err();
            let error = waiting.join().unwrap().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
        });
        assert!(ending.begin().is_none());
    }

    #[test]
    fn threads_wait_for_the_result_and_not_longer_than_allowed() {
        let ending = Ending::<u64>::default();
        assert!(ending.wait(SOON).is_none(), "nobody has begun");
        let turn = ending.begin().unwrap();
        assert!(ending.wait(Duration::ZERO).is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| ending.wait(Duration::MAX));
            turn.finish(Ok(3)).unwrap();
            assert_eq!(waiting.join().unwrap().unwrap().unwrap(), 3);
        });
    }
}
