//! Asking for addresses, with a limit to how long that takes.

use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;

use crate::guard::call_guarded;

/// How many look-ups of one exporter may have no answer at a time. Each has a thread.
const UNDER_WAY_MAX: usize = 3;

/// Finds addresses, and may block.
pub(super) type LookUp = Box<dyn Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync>;

type Found = io::Result<Vec<SocketAddr>>;

/// Looks addresses up, each time on a thread of its own, because the system's call blocks and cannot be stopped.
///
/// A look-up that takes longer than the limit goes on, and its answer counts unless a later one was answered before.
pub(super) struct LookUps {
    look_up: Arc<LookUp>,
    limit: Duration,
    /// The number of the look-up that began last.
    begun: u64,
    /// The number of the latest look-up that was answered.
    answered: u64,
    under_way: FuturesUnordered<BoxFuture<'static, (u64, Found)>>,
}

impl LookUps {
    pub(super) fn new(look_up: LookUp, limit: Duration) -> Self {
        Self {
            look_up: Arc::new(look_up),
            limit,
            begun: 0,
            answered: 0,
            under_way: FuturesUnordered::new(),
        }
    }

    /// Begins a look-up, unless too many have no answer yet, and waits for an answer until the limit.
    pub(super) async fn ask(&mut self) -> Found {
        if self.under_way.len() < UNDER_WAY_MAX {
            self.begin()?;
        }
        let limit = self.limit;
        match tokio::time::timeout(limit, self.next_answer()).await {
            Ok(found) => found,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within the look-up timeout of {limit:?}"),
            )),
        }
    }

    /// Waits for the next answer that is news, without an end where no look-up is under way.
    ///
    /// # Cancellation
    ///
    /// No answer is lost when the future is dropped.
    pub(super) async fn next_answer(&mut self) -> Found {
        while let Some((number, found)) = self.under_way.next().await {
            if number > self.answered {
                self.answered = number;
                return found;
            }
        }
        pending().await
    }

    fn begin(&mut self) -> io::Result<()> {
        let look_up = Arc::clone(&self.look_up);
        let (found, answer) = oneshot::channel();
        std::thread::Builder::new()
            .name("outspan-lookup".into())
            .spawn(move || {
                let answer = call_guarded("look-up of addresses", || look_up());
                // Nobody may wait for the answer any more.
                drop(found.send(answer.unwrap_or_else(|e| Err(io::Error::other(e.to_string())))));
            })?;
        self.begun += 1;
        let number = self.begun;
        let answer = answer.map(move |found| {
            let found = found.unwrap_or_else(|e| Err(io::Error::other(e)));
            (number, found)
        });
        self.under_way.push(answer.boxed());
        Ok(())
    }
}

impl fmt::Debug for LookUps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookUps")
            .field("limit", &self.limit)
            .field("under_way", &self.under_way.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use std::sync::mpsc;

    use tokio::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Look-ups that each hang until something is sent for them, or for ever. The clock is paused, so the time passes only
    /// while nothing else happens.
    fn hanging(limit: Duration) -> (LookUps, mpsc::Sender<u16>) {
        let (release, released) = mpsc::channel();
        let released = Mutex::new(released);
        let look_up = move || {
            let port = released.lock().unwrap().recv().unwrap();
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
        };
        (LookUps::new(Box::new(look_up), limit), release)
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_up_that_hangs_ends_with_the_limit() {
        let (mut look_ups, _release) = hanging(LIMIT);
        for _ in 0..5 {
            let began = Instant::now();
            let error = look_ups.ask().await.unwrap_err();
            assert_eq!(began.elapsed(), LIMIT);
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(error.to_string().contains("10s"), "{error}");
        }
        assert_eq!(look_ups.under_way.len(), UNDER_WAY_MAX);
        assert_eq!(look_ups.begun, UNDER_WAY_MAX as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_late_counts() {
        let (mut look_ups, release) = hanging(LIMIT);
        look_ups.ask().await.unwrap_err();
        release.send(7).unwrap();
        let found = look_ups.next_answer().await.unwrap();
        assert_eq!(found[0].port(), 7);
        assert_eq!(look_ups.under_way.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_up_is_tried_again_beside_one_that_hangs() {
        let look_up = {
            let tries = AtomicUsize::new(0);
            let (keep, hang) = mpsc::channel::<()>();
            let hang = Mutex::new((keep, hang));
            move || match tries.fetch_add(1, Ordering::Relaxed) {
                0 => {
                    hang.lock().unwrap().1.recv().map_err(io::Error::other)?;
                    Ok(Vec::new())
                }
                _ => Ok(vec![SocketAddr::from(([127, 0, 0, 1], 9))]),
            }
        };
        let mut look_ups = LookUps::new(Box::new(look_up), LIMIT);
        look_ups.ask().await.unwrap_err();
        // The limit may pass on the paused clock before the thread has run; the answer is waited for then.
        let found = match look_ups.ask().await {
            Ok(found) => found,
            Err(_) => look_ups.next_answer().await.unwrap(),
        };
        assert_eq!(found[0].port(), 9);
        assert_eq!(look_ups.under_way.len(), 1, "the first still hangs");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_older_than_another_is_no_news() {
        let mut look_ups = LookUps::new(Box::new(|| unreachable!()), LIMIT);
        let answer = |number, port| {
            let found = Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]);
            std::future::ready((number, found)).boxed()
        };
        look_ups.under_way.push(answer(2, 2));
        assert_eq!(look_ups.next_answer().await.unwrap()[0].port(), 2);
        look_ups.under_way.push(answer(1, 1));
        assert!(look_ups.next_answer().now_or_never().is_none());
        look_ups.under_way.push(answer(3, 3));
        assert_eq!(look_ups.next_answer().await.unwrap()[0].port(), 3);
    }
}
