//! A second try of the same kind while the first one has no result.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

/// How long to wait for a result before another try: well below the 5 s within which a destination that is healthy again is
/// to be noticed, and more than a healthy one takes.
pub(super) const HEDGE_AFTER: Duration = Duration::from_secs(3);

/// Waits for `first`, and meanwhile, each time [`HEDGE_AFTER`] has passed, for another try in place of the other one before.
///
/// Two run at a time at most: the first and the latest. The result of the first one counts always, that of another only if
/// it `is_result`. `another` may return nothing.
///
/// # Cancellation
///
/// Dropping the future drops both tries.
pub(super) async fn hedged<F, T>(
    first: F,
    mut another: impl FnMut() -> Option<F>,
    is_result: impl Fn(&T) -> bool,
) -> T
where
    F: Future<Output = T>,
{
    let mut first = pin!(first);
    let mut latest = pin!(None::<F>);
    loop {
        let waited = tokio::time::sleep(HEDGE_AFTER);
        let mut waited = pin!(waited);
        loop {
            tokio::select! {
                biased;
                result = &mut first => return result,
                result = running(latest.as_mut()) => {
                    latest.set(None);
                    if is_result(&result) {
                        return result;
                    }
                }
                () = &mut waited => break,
            }
        }
        latest.set(None);
        latest.set(another());
    }
}

/// Waits for a future where there is one, and otherwise without an end.
async fn running<F: Future>(mut future: std::pin::Pin<&mut Option<F>>) -> F::Output {
    match future.as_mut().as_pin_mut() {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;
    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Each try takes so long and then says so.
    async fn take(time: Duration, result: Result<u8, u8>) -> Result<u8, u8> {
        // Sleeps: on the paused clock of the tests.
        sleep(time).await;
        result
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_try_is_the_only_one() {
        let first = take(HEDGE_AFTER / 2, Err(1));
        let another = || unreachable!("the first one is done");
        assert_eq!(hedged(first, another, Result::is_ok).await, Err(1));
    }

    #[tokio::test(start_paused = true)]
    async fn another_try_answers_in_place_of_the_first() {
        let began = Instant::now();
        let first = take(SECOND * 60, Ok(1));
        let another = || Some(take(SECOND, Ok(2)));
        assert_eq!(hedged(first, another, Result::is_ok).await, Ok(2));
        assert_eq!(began.elapsed(), HEDGE_AFTER + SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_try_goes_on_and_may_be_last() {
        let began = Instant::now();
        let first = take(HEDGE_AFTER * 2 + SECOND, Ok(1));
        let tries = Cell::new(0);
        let another = || {
            tries.set(tries.get() + 1);
            Some(take(SECOND * 60, Ok(2)))
        };
        assert_eq!(hedged(first, another, Result::is_ok).await, Ok(1));
        assert_eq!(began.elapsed(), HEDGE_AFTER * 2 + SECOND);
        assert_eq!(tries.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_of_another_try_says_nothing() {
        let first = take(SECOND * 10, Ok(1));
        let another = || Some(take(SECOND, Err(2)));
        assert_eq!(hedged(first, another, Result::is_ok).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn there_need_not_be_another_try() {
        let first = take(SECOND * 60, Ok(1));
        assert_eq!(hedged(first, || None, Result::is_ok).await, Ok(1));
    }
}
