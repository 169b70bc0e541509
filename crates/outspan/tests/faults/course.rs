//! What happens to a stack, as data: exports, a flush and a shutdown, each at its time.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use outspan::Batch;
use outspan::Deadline;
use outspan::Drained;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan_testkit::batch_with;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::clock;
use crate::destination::Script;
use crate::destination::ids;
use crate::destination::password;
use crate::stack::Part;
use crate::stack::Stack;

/// How much later than its deadline a call may end: what a timeout grants, and the grain of timers.
pub(crate) const GRACE: Duration = Duration::from_millis(150);

/// How long after its deadline the caller drops a call that does not end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Long enough for everything that goes on behind to end.
const AFTERMATH: Duration = Duration::from_secs(120);

#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) stack: Stack,
    pub(crate) scripts: Vec<Script>,
    pub(crate) shipments: Vec<Shipment>,
    pub(crate) flush: Option<Drain>,
    pub(crate) shutdown: Drain,
    pub(crate) seed: u64,
}

/// An export.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shipment {
    pub(crate) spans: usize,
    /// When it begins, in milliseconds.
    pub(crate) at: u64,
    /// How much time it has, in milliseconds.
    pub(crate) within: u64,
    /// When its future is dropped, in milliseconds after its beginning.
    pub(crate) dropped_after: Option<u64>,
}

/// A flush or a shutdown, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    pub(crate) at: u64,
    pub(crate) within: u64,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) part: Part,
    pub(crate) sent: Vec<Sent>,
    pub(crate) shutdown: Option<Result<Drained>>,
    /// How much later than its deadline the shutdown ended.
    pub(crate) shutdown_late: Duration,
}

/// An export that was made.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) ids: Vec<u64>,
    pub(crate) end: End,
    /// How much later than its deadline it ended.
    pub(crate) late: Duration,
}

/// How an export ended for its caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Answered,
    /// The caller dropped it at the time that was planned.
    Dropped,
    /// It did not end, and the caller lost patience.
    Overdue,
    Panicked,
}

impl Course {
    /// Three batches, one after the other, and a shutdown that has time.
    pub(crate) fn calm(stack: Stack, scripts: Vec<Script>) -> Self {
        let shipments = (0..3).map(|number| Shipment {
            spans: 5,
            at: number * 40_000,
            within: 30_000,
            dropped_after: None,
        });
        Self {
            stack,
            scripts,
            shipments: shipments.collect(),
            flush: None,
            shutdown: Drain {
                at: 120_000,
                within: 60_000,
            },
            seed: 1,
        }
    }

    pub(crate) fn run(&self) -> Outcome {
        let course = self.clone();
        clock::run(self.seed, async move { course.take().await })
    }

    async fn take(self) -> Outcome {
        let (exporter, part) = self.stack.build(&mut self.scripts.clone().into_iter());
        let began = Instant::now();
        let shipments = self.shipments.iter().map(|it| it.send(&exporter));
        let drains = async {
            if let Some(flush) = self.flush {
                // Sleeps: on the clock of the test, as the course says.
                sleep(millis(flush.at)).await;
                let until = Deadline::after(millis(flush.within));
                drop(timeout(millis(flush.within) + PATIENCE, exporter.flush(until)).await);
            }
            // Sleeps: as above.
            sleep(millis(self.shutdown.at).saturating_sub(began.elapsed())).await;
            shut_down(&exporter, self.shutdown.within).await
        };
        let (sent, (shutdown, shutdown_late)) =
            futures_util::future::join(join_all(shipments), drains).await;
        drop(exporter);
        // Sleeps: as above; what goes on behind has a deadline of its own.
        sleep(AFTERMATH).await;
        Outcome {
            part,
            sent,
            shutdown,
            shutdown_late,
        }
    }
}

async fn shut_down(exporter: &Exporter, within: u64) -> (Option<Result<Drained>>, Duration) {
    let began = Instant::now();
    let until = Deadline::after(millis(within));
    let shutdown = timeout(millis(within) + PATIENCE, exporter.shutdown(until)).await;
    let late = began.elapsed().saturating_sub(millis(within));
    (shutdown.ok(), late)
}

impl Shipment {
    async fn send(&self, exporter: &Exporter) -> Sent {
        // Sleeps: on the clock of the test, as the course says.
        sleep(millis(self.at)).await;
        let batch = batch(self.spans);
        let ids = ids(&batch);
        let began = Instant::now();
        let until = Deadline::after(millis(self.within));
        let overdue = millis(self.within) + PATIENCE;
        let patience = self.dropped_after.map_or(overdue, millis).min(overdue);
        let export = AssertUnwindSafe(exporter.export(batch, until)).catch_unwind();
        let end = match timeout(patience, export).await {
            Ok(Ok(_)) => End::Answered,
            Ok(Err(panic)) if clock::is_scripted(&*panic) => End::Panicked,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) if patience < overdue => End::Dropped,
            Err(_) => End::Overdue,
        };
        let late = began.elapsed().saturating_sub(millis(self.within));
        Sent { ids, end, late }
    }
}

/// Spans of several traces, some with a password.
fn batch(spans: usize) -> Batch {
    batch_with(spans, |number, span| {
        span.trace_id = (number as u128 / 2 + 1).to_be_bytes().to_vec();
        if number % 3 == 0 {
            span.attributes.push(password());
        }
    })
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
