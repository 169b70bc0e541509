//! What combinators and exporters inside a queue's export may know of the queue around them.

#[cfg(any(feature = "_network", feature = "kafka"))]
use std::sync::Arc;
#[cfg(feature = "_network")]
use std::sync::atomic::AtomicUsize;
#[cfg(feature = "_network")]
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use tokio::sync::watch;

use crate::Attempt;
use crate::Deadline;
use crate::Error;
use crate::Result;
#[cfg(any(feature = "_network", feature = "kafka"))]
use crate::diagnostics::Diagnostics;
use crate::race::Ended;
use crate::race::race;

tokio::task_local! {
    /// Set within an export of a queue: what combinators and exporters inside may know of it.
    pub(crate) static SURROUNDING: Surrounding;
}

/// The queue around an export.
#[derive(Clone, Debug)]
pub(crate) struct Surrounding {
    pub(crate) closing: watch::Receiver<Option<Deadline>>,
    /// How many batches wait, where exports are to give way to them.
    #[cfg(feature = "_network")]
    pub(crate) waiting: Option<Arc<AtomicUsize>>,
    #[cfg(any(feature = "_network", feature = "kafka"))]
    pub(crate) diagnostics: Arc<Diagnostics>,
}

/// Waits until the queue around this export is being shut down; never ends outside of one.
///
/// Combinators that wait inside a queue's export cannot be told otherwise: they are shut down after the queue is empty.
pub(crate) async fn closing() {
    let closing = SURROUNDING.try_with(|queue| queue.closing.clone());
    if let Ok(mut closing) = closing
        && closing.wait_for(Option::is_some).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Whether the queue around this export is being shut down.
pub(crate) fn is_closing() -> bool {
    SURROUNDING
        .try_with(|queue| queue.closing.borrow().is_some())
        .unwrap_or(false)
}

/// Whether an export that has gone on for a while should end, so that others get their turn. What is left of its batch comes
/// back with [`Error::giving_way`].
#[cfg(feature = "_network")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turns {
    /// The queue around the export takes no turns or is being shut down, or there is none.
    No,
    /// Other batches wait.
    OthersWait,
    /// None waits, but a part of the batch may be sent while another one is.
    NobodyWaits,
}

/// Asks the queue around this export.
#[cfg(feature = "_network")]
pub(crate) fn turns() -> Turns {
    let turns = SURROUNDING.try_with(|queue| match &queue.waiting {
        Some(waiting) if queue.closing.borrow().is_none() => {
            match waiting.load(Ordering::Relaxed) {
                0 => Turns::NobodyWaits,
                _ => Turns::OthersWait,
            }
        }
        _ => Turns::No,
    });
    turns.unwrap_or(Turns::No)
}

/// Whether the time of an export is over: its own, or that of a shutdown of the queue around it.
pub(crate) fn is_over(until: Deadline) -> bool {
    let closing = SURROUNDING.try_with(|queue| *queue.closing.borrow());
    until.has_passed() || closing.is_ok_and(|end| end.is_some_and(|end| end.has_passed()))
}

/// Waits for the end of a shutdown, or of the part of its time that `share` leaves; never ends without a shutdown.
///
/// A shutdown whose future was dropped may be asked for again, with another deadline.
pub(crate) async fn end_of(
    mut closing: watch::Receiver<Option<Deadline>>,
    share: impl Fn(Deadline) -> Deadline,
) -> Deadline {
    loop {
        let until = closing.borrow_and_update().map(&share);
        let passed = async {
            match until {
                Some(until) => {
                    until.passed().await;
                    until
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            until = passed => return until,
            changed = closing.changed() => {
                if changed.is_err() {
                    return std::future::pending().await;
                }
            }
        }
    }
}

/// Runs the export of one of several destinations. When the queue around it is shut down, it ends by the part of the shutdown's
/// time that `share` leaves it.
///
/// The queue ends exports then that began before the shutdown, and cannot know which destination has not answered.
pub(crate) fn run_until_closed<R, F: Future<Output = Result<R>>>(
    work: F,
    share: impl Fn(Deadline) -> Deadline,
) -> impl Future<Output = Result<R>> {
    let closed = async move {
        let Ok(closing) = SURROUNDING.try_with(|queue| queue.closing.clone()) else {
            return std::future::pending().await;
        };
        let until = end_of(closing, share).await;
        Error::timeout("no answer", until).with_attempt(Attempt::one())
    };
    race(work, closed).map(|ended| match ended {
        Ended::Work(answer) => answer,
        Ended::Limit(error) => Err(error),
    })
}

/// Tells the queue around this export where it goes, so that losses name the address of a destination that never answers.
#[cfg(any(feature = "_network", feature = "kafka"))]
pub(crate) fn note_server(server: &Arc<str>) {
    // Outside of a queue nobody asks.
    SURROUNDING
        .try_with(|queue| queue.diagnostics.note_server(server))
        .unwrap_or_default();
}
