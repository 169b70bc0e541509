//! Two futures, of which the first to end counts.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use pin_project_lite::pin_project;

/// How a [`Race`] ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended<T, U> {
    Work(T),
    Limit(U),
}

/// Runs `work` until it ends, or `limit` does. Work that is ready counts, also if the limit is.
///
/// # Cancellation
///
/// What has not ended is dropped with the race.
pub(crate) fn race<F: Future, G: Future>(work: F, limit: G) -> Race<F, G> {
    Race { work, limit }
}

pin_project! {
    /// As large as the two together. An `async fn` with `select!` holds its futures twice, as arguments and pinned; where
    /// several stand around each other, that doubles with each, and all of it is copied with every export.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Race<F, G> {
        #[pin]
        work: F,
        #[pin]
        limit: G,
    }
}

impl<F: Future, G: Future> Future for Race<F, G> {
    type Output = Ended<F::Output, G::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.work.poll(context) {
            return Poll::Ready(Ended::Work(output));
        }
        this.limit.poll(context).map(Ended::Limit)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::future::ready;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn work_that_is_ready_counts_before_the_limit() {
        let ended = race(ready(1), ready(2)).now_or_never();
        assert_eq!(ended, Some(Ended::Work(1)));
    }

    #[test]
    fn limit_ends_work_that_is_not_ready() {
        let ended = race(pending::<u8>(), ready(2)).now_or_never();
        assert_eq!(ended, Some(Ended::Limit(2)));
        let never = race(pending::<u8>(), pending::<u8>()).now_or_never();
        assert_eq!(never, None);
    }

    #[test]
    fn futures_are_held_once() {
        let work = async {
            let bytes = [0u8; 4096];
            pending::<()>().await;
            bytes.len()
        };
        assert!(size_of_val(&race(work, pending::<()>())) < 5000);
    }
}
