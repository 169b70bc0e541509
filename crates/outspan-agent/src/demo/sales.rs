//! Has the shop visited, on a thread of its own, because programs make spans wherever they run.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use tokio::sync::oneshot;

use super::services::Services;
use super::window::Chooser;
use super::window::Shown;
use crate::shop::Shop;

/// Says how many spans are made, and how fast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// `None` goes on until it is stopped.
    pub(super) spans: Option<u64>,
    /// Spans a second; `None` sets no limit.
    pub(super) rate: Option<f64>,
}

/// Counts what was made.
#[derive(Debug, Default)]
pub(super) struct Made {
    spans: AtomicU64,
    traces: AtomicU64,
}

impl Made {
    pub(super) fn spans(&self) -> u64 {
        self.spans.load(Ordering::Relaxed)
    }

    pub(super) fn traces(&self) -> u64 {
        self.traces.load(Ordering::Relaxed)
    }
}

/// The thread on which the shop is visited.
#[derive(Debug)]
pub(super) struct Sales {
    stop: Option<mpsc::Sender<()>>,
    ended: Option<oneshot::Receiver<()>>,
}

/// What the thread works with.
#[derive(Debug)]
struct Visitors {
    shop: Shop,
    services: Arc<Services>,
    plan: Plan,
    made: Arc<Made>,
    chooser: Chooser,
    shown: Arc<Shown>,
    began: Instant,
}

impl Sales {
    /// Begins.
    ///
    /// # Errors
    ///
    /// What the system says if it has no thread to give.
    pub(super) fn start(
        shop: Shop,
        services: Arc<Services>,
        plan: Plan,
        made: Arc<Made>,
        chooser: Chooser,
        shown: Arc<Shown>,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        let visitors = Visitors {
            shop,
            services,
            plan,
            made,
            chooser,
            shown,
            began: Instant::now(),
        };
        thread::Builder::new()
            .name("outspan-shop".into())
            .spawn(move || {
                visitors.come(&stopped);
                drop(end);
            })?;
        Ok(Self {
            stop: Some(stop),
            ended: Some(ended),
        })
    }

    /// Waits until everything is made.
    ///
    /// # Cancellation
    ///
    /// Dropping the future changes nothing.
    pub(super) async fn ended(&mut self) {
        if let Some(ended) = &mut self.ended {
            // The thread drops its end when it is done, or dies: either way nothing more comes.
            ended.await.ok();
            self.ended = None;
        }
    }

    /// Stops and waits until the visit at hand is over, if that is soon.
    pub(super) async fn stop(&mut self, limit: Duration) {
        self.stop = None;
        // A visit takes longer only while it waits for room, and then its spans are counted all the same.
        tokio::time::timeout(limit, self.ended()).await.ok();
    }
}

impl Visitors {
    /// Goes on until everything is made, or `stopped` says so.
    fn come(mut self, stopped: &mpsc::Receiver<()>) {
        while self.left() > 0 && !self.is_stopped(stopped) {
            self.one();
        }
    }

    /// How many spans may still be made.
    fn left(&self) -> u64 {
        let made = self.made.spans();
        let all = self.plan.spans.unwrap_or(u64::MAX);
        all.saturating_sub(made)
    }

    /// Waits for the time of the next visit; true if there is none any more.
    fn is_stopped(&self, stopped: &mpsc::Receiver<()>) -> bool {
        let wait = match self.plan.rate {
            None => Duration::ZERO,
            Some(rate) => {
                let due = Duration::try_from_secs_f64(self.made.spans() as f64 / rate);
                due.unwrap_or(Duration::MAX)
                    .saturating_sub(self.began.elapsed())
            }
        };
        // The other end is dropped to stop, and says nothing before.
        !matches!(
            stopped.recv_timeout(wait),
            Err(mpsc::RecvTimeoutError::Timeout)
        )
    }

    fn one(&mut self) {
        let mut visit = self.shop.visit();
        visit.limit_spans(usize::try_from(self.left()).unwrap_or(usize::MAX));
        let is_shown = self.chooser.chooses(&visit, self.began.elapsed());
        let length = Duration::from_nanos(visit.length());
        let began = SystemTime::now().checked_sub(length).unwrap_or(UNIX_EPOCH);
        self.services.make(&visit, began, |trace_id| {
            if is_shown {
                self.shown.choose(trace_id.to_bytes());
            }
        });
        self.made
            .traces
            .fetch_add(visit.traces.len() as u64, Ordering::Relaxed);
        self.made
            .spans
            .fetch_add(visit.spans() as u64, Ordering::Relaxed);
    }
}
