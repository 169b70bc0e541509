//! Answers that wait until destinations have their spans (`--ack delivered`).
//!
//! ```text
//!   request ──begin──▶ ack ──with the spans──▶ queue ──▶ destinations
//!      ▲               wait ◀──────── outcome ─────────────┘ the last span was delivered, rejected or dropped
//!      └── answer ◀──── │ or out of time, or stopping: the spans stay, the sender is asked to retry
//! ```
//!
//! A wait holds no spans. When its sender goes away it is dropped, and the spans take their way all the same.

use std::sync::Arc;
use std::time::Duration;

use outspan::Batch;
use outspan::Deadline;
use outspan::engine::Ack;
use outspan::engine::AckLevel;
use outspan::engine::AckOutcome;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::agent::Intake;
use crate::agent::Taken;

/// How long an answer waits. Default: 8 s, below the default timeout of 10 s of OTLP exporters.
pub(crate) const ACK_TIMEOUT: Duration = Duration::from_secs(8);

/// Of the time for stopping, how much waiting answers may take; the rest is for the answers themselves.
const STOPPING_SHARE: u32 = 2;

/// When senders get their answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckSettings {
    pub(crate) level: AckLevel,
    /// How long an answer waits at most.
    pub(crate) timeout: Duration,
    /// How many answers wait at most.
    pub(crate) max_waiting: usize,
    /// How many bytes of spans there may be whose answers wait.
    pub(crate) max_bytes: usize,
}

/// Bounds the answers that wait, in number and in bytes of their spans.
#[derive(Debug)]
pub(crate) struct WaitingAnswers {
    settings: AckSettings,
    free: Arc<Semaphore>,
    bytes: Arc<Intake>,
    /// By when answers stop waiting, once everything stops.
    stopping: watch::Sender<Option<Deadline>>,
}

/// How many answers wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckStatus {
    pub(crate) level: AckLevel,
    pub(crate) waiting: usize,
    pub(crate) max_waiting: usize,
    pub(crate) waiting_bytes: usize,
    pub(crate) max_bytes: usize,
}

/// An answer that waits.
#[derive(Debug)]
pub(super) struct Wait {
    outcome: oneshot::Receiver<AckOutcome>,
    timeout: Duration,
    stopping: watch::Receiver<Option<Deadline>>,
    _free: OwnedSemaphorePermit,
    _bytes: Taken,
}

/// There are as many waiting answers as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooManyWaiting {
    Answers,
    /// Their spans have too many bytes.
    Bytes,
}

/// Why a wait ended before it was known what became of the spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitEnd {
    /// It took as long as an answer waits.
    AckTimeout,
    /// The sender waits no longer.
    SenderTimeout,
    /// Everything stops.
    Stopping,
}

impl AckSettings {
    /// Answers as soon as spans are queued.
    pub(crate) fn queued() -> Self {
        Self {
            level: AckLevel::Queued,
            timeout: ACK_TIMEOUT,
            max_waiting: 1,
            max_bytes: 1,
        }
    }
}

impl WaitingAnswers {
    pub(crate) fn new(settings: AckSettings) -> Self {
        // More cannot be counted, and would not be a bound.
        let max_waiting = settings.max_waiting.min(Semaphore::MAX_PERMITS);
        Self {
            settings,
            free: Arc::new(Semaphore::new(max_waiting)),
            bytes: Arc::new(Intake::new(settings.max_bytes)),
            stopping: watch::Sender::new(None),
        }
    }

    /// Makes the ack of a request, and the wait for it if its answer is to wait.
    ///
    /// # Errors
    ///
    /// Returns an error if too many answers wait; nothing was accepted then.
    pub(super) fn begin(&self, spans: &Batch) -> Result<(Ack, Option<Wait>), TooManyWaiting> {
        // Without spans there is nothing to wait for.
        if self.settings.level == AckLevel::Queued || spans.is_empty() {
            return Ok((Ack::none(), None));
        }
        let free = Arc::clone(&self.free).try_acquire_owned();
        let free = free.map_err(|_| TooManyWaiting::Answers)?;
        let mut bytes = self.bytes.begin();
        // One request alone always fits; whether the queue takes it is the queue's to say.
        if !bytes.grow(spans.memory().min(self.bytes.max())) {
            return Err(TooManyWaiting::Bytes);
        }
        let (tell, outcome) = oneshot::channel();
        let ack = Ack::new(move |outcome| {
            // The sender may have gone away. Its spans were not lost by that.
            let _heard = tell.send(outcome);
        });
        let wait = Wait {
            outcome,
            timeout: self.settings.timeout,
            stopping: self.stopping.subscribe(),
            _free: free,
            _bytes: bytes,
        };
        Ok((ack, Some(wait)))
    }

    /// Has answers wait no longer than a part of the time until then.
    pub(crate) fn stop(&self, until: Deadline) {
        let end = match until.remaining() {
            Some(left) => until.min(Deadline::after(left / STOPPING_SHARE)),
            None => until,
        };
        self.stopping.send_modify(|by| {
            *by = Some(by.map_or(end, |by| by.min(end)));
        });
    }

    pub(crate) fn status(&self) -> AckStatus {
        AckStatus {
            level: self.settings.level,
            waiting: self
                .settings
                .max_waiting
                .saturating_sub(self.free.available_permits()),
            max_waiting: self.settings.max_waiting,
            waiting_bytes: self.bytes.used(),
            max_bytes: self.settings.max_bytes,
        }
    }
}

impl Wait {
    /// Waits for what became of the spans, no longer than the sender does. Calls `hurry` when everything stops.
    ///
    /// # Errors
    ///
    /// Returns an error if the time is over first.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends the wait. The spans are the queue's.
    pub(super) async fn outcome(
        mut self,
        patience: Option<Duration>,
        hurry: impl Fn(),
    ) -> Result<AckOutcome, WaitEnd> {
        let (limit, out_of_time) = match patience {
            Some(patience) if patience < self.timeout => (patience, WaitEnd::SenderTimeout),
            _ => (self.timeout, WaitEnd::AckTimeout),
        };
        let limit = Deadline::after(limit);
        let until_stopping = async {
            let stopping = self.stopping.wait_for(Option::is_some).await;
            // The guard must not live across an await. An error says that nobody is left who could stop us.
            let stopping = stopping.ok().and_then(|stopping| *stopping);
            match stopping {
                Some(stopping) => stopping,
                None => std::future::pending().await,
            }
        };
        let stopping = tokio::select! {
            biased;
            outcome = &mut self.outcome => return outcome.map_err(|_| out_of_time),
            () = limit.passed() => return Err(out_of_time),
            stopping = until_stopping => stopping,
        };
        hurry();
        tokio::select! {
            biased;
            outcome = &mut self.outcome => outcome.map_err(|_| out_of_time),
            () = stopping.passed() => Err(WaitEnd::Stopping),
            () = limit.passed() => Err(out_of_time),
        }
    }
}

#[cfg(test)]
mod tests {
    use outspan_testkit::batch_of;

    use super::*;

    fn waiting(max_waiting: usize, max_bytes: usize) -> WaitingAnswers {
        WaitingAnswers::new(AckSettings {
            level: AckLevel::Delivered,
            timeout: ACK_TIMEOUT,
            max_waiting,
            max_bytes,
        })
    }

    #[test]
    fn answers_that_wait_are_bounded_in_number_and_bytes() {
        let spans = batch_of(2);
        for (waiting, bound) in [
            (waiting(2, 1 << 20), TooManyWaiting::Answers),
            (waiting(9, spans.memory() * 5 / 2), TooManyWaiting::Bytes),
        ] {
            let one = waiting.begin(&spans).unwrap();
            let other = waiting.begin(&spans).unwrap();
            assert_eq!(waiting.begin(&spans).unwrap_err(), bound);
            assert!(
                waiting.begin(&Batch::empty()).is_ok(),
                "nothing to wait for"
            );
            assert_eq!(waiting.status().waiting, 2);
            drop(one);
            assert!(waiting.begin(&spans).is_ok());
            drop(other);
            let status = waiting.status();
            assert_eq!((status.waiting, status.waiting_bytes), (0, 0));
        }
        let small = waiting(1, spans.memory() / 2);
        assert!(small.begin(&spans).is_ok(), "one alone always fits");
    }

    #[test]
    fn nothing_waits_at_level_queued() {
        let waiting = WaitingAnswers::new(AckSettings::queued());
        for _ in 0..3 {
            let (ack, wait) = waiting.begin(&batch_of(1)).unwrap();
            assert!(!ack.is_some() && wait.is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn wait_ends_with_the_outcome_or_when_the_time_is_over() {
        let waiting = waiting(9, 1 << 20);
        let wait = || waiting.begin(&batch_of(1)).unwrap();
        let (ack, told) = wait();
        drop(ack);
        let told = told.unwrap().outcome(None, || ()).await;
        assert_eq!(told.unwrap().rejected, 0);
        for (patience, why) in [
            (None, WaitEnd::AckTimeout),
            (Some(ACK_TIMEOUT * 2), WaitEnd::AckTimeout),
            (Some(Duration::from_secs(1)), WaitEnd::SenderTimeout),
        ] {
            let (_ack, over) = wait();
            let over = over.unwrap().outcome(patience, || ()).await;
            assert_eq!(over.unwrap_err(), why);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn wait_ends_early_while_everything_stops() {
        let waiting = waiting(9, 1 << 20);
        let (_ack, wait) = waiting.begin(&batch_of(1)).unwrap();
        waiting.stop(Deadline::after(Duration::from_secs(4)));
        let began = tokio::time::Instant::now();
        let hurried = std::cell::Cell::new(false);
        let outcome = wait.unwrap().outcome(None, || hurried.set(true)).await;
        assert_eq!(outcome.unwrap_err(), WaitEnd::Stopping);
        assert!(hurried.get());
        assert!(began.elapsed() < Duration::from_secs(3));
    }
}
