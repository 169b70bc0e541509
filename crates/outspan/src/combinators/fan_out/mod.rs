//! Several destinations, each with a fate of its own.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::breaker::trouble;
use super::children::check_names;
use super::children::drain_all;
use crate::Attempt;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::Drained;
use crate::DropReason;
use crate::Error;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::Retry;
use crate::batch::fates;
use crate::batch::fates::Fate;
use crate::batch::fates::Pending;
use crate::diagnostics::Diagnostics;
use crate::engine::Backoff;
use crate::engine::Health;
use crate::export;
use crate::guard::run_guarded;
use crate::pending::PendingSpans;
use crate::runtime::Runtime;

/// How many exports a child that nobody waits for may have under way: enough for a slow one, and a bound for one that hangs.
const BEHIND_MAX: u32 = 16;

/// Says for whom a [`FanOut`] waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitFor {
    /// Every child; success means that all have the spans. The slowest decides how long it takes, within the deadline.
    #[default]
    All,
    /// The first child that takes everything; success means that one has the spans.
    Any,
    /// The child that was added first; what it says is the answer.
    First,
}

/// Makes an exporter that sends each batch to every child.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "grpc")] {
/// use outspan::combinators::FanOut;
/// use outspan::otlp;
/// use outspan::stdout;
///
/// # fn build() -> outspan::Result<()> {
/// let both = FanOut::new()
///     .to("backend", otlp::grpc("http://localhost:4317").build()?)
///     .to("screen", stdout::compact().build()?)
///     .build()?;
/// # drop(both);
/// # Ok(())
/// # }
/// # build().unwrap();
/// # }
/// ```
///
/// # What success means
///
/// That depends on [`WaitFor`]: all children (the default), any one, or the first. The batch is shared, never copied.
/// A child that must delay nobody is a queued one, whose success means accepted.
///
/// # Errors
///
/// One error joins those of all children that failed, each with its name and how many spans it misses. It is temporary if
/// trying again may help at least one of them. What was not delivered remembers who misses what: a retry or a queue
/// outside sends it to those children alone, so that the others get nothing twice. (Changing or splitting that part
/// forgets it; then everyone gets it. With [`WaitFor::Any`] nothing is remembered: it fails only when nobody took
/// everything, and then all are asked again.) A child that finds a batch too large gets it in parts. A child that panics
/// fails alone.
///
/// # Cancellation
///
/// Dropping the future drops the exports of all children that it waits for.
///
/// # What it holds
///
/// With [`WaitFor::Any`] and [`WaitFor::First`], exports that nobody waits for go on until the deadline, at most 16 a child. A
/// child that is further behind is left out of a batch; that, and what fails behind, is told in the log (`tracing`,
/// target `outspan`). Flush and shutdown wait for them, then flush or shut down every child, all at the same time.
///
/// While a queue outside is shut down, a child that asks for a wait gets one batch before its end. If it asks again it gets no
/// more; the other children get every batch once.
///
/// # Where it belongs
///
/// Outside what each child needs for itself (timeout, retry, queue), inside a fallback.
#[derive(Debug, Default)]
pub struct FanOut {
    children: Vec<(String, Exporter)>,
    wait_for: WaitFor,
}

impl FanOut {
    /// Begins without a child.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a child. Errors and log lines call it by `name`.
    #[must_use]
    pub fn to(mut self, name: impl Into<String>, exporter: Exporter) -> Self {
        self.children.push((name.into(), exporter));
        self
    }

    /// Sets for whom to wait: for all children unless told.
    #[must_use]
    pub fn wait_for(mut self, wait_for: WaitFor) -> Self {
        self.wait_for = wait_for;
        self
    }

    /// Makes the exporter.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) without a child, with more than 64, or if two have the same name.
    pub fn build(self) -> Result<Exporter> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);

        check_names(
            "fan-out",
            self.children.iter().map(|(name, _)| name.as_str()),
        )?;
        let children = self.children.into_iter().map(|(name, exporter)| {
            Arc::new(Child {
                diagnostics: Diagnostics::new(None).named(Some(name.clone())),
                name,
                exporter,
                behind: Arc::new(Semaphore::new(BEHIND_MAX as usize)),
                health: Mutex::new(Health::new(Backoff::new(&Retry::default()))),
            })
        });
        Ok(Exporter::new(Fan {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            children: children.collect(),
            wait_for: self.wait_for,
        }))
    }
}

/// A destination and its name.
#[derive(Debug)]
struct Child {
    name: String,
    exporter: Exporter,
    /// Permits for exports that nobody waits for.
    behind: Arc<Semaphore>,
    diagnostics: Diagnostics,
    /// Has the wait that it asked for during a shutdown of the queue outside. Before that the queue keeps the waits.
    health: Mutex<Health>,
}

/// The exporter that a [`FanOut`] makes.
#[derive(Debug)]
struct Fan {
    /// Tells this fan-out's notes on batches from those of others.
    number: u64,
    children: Vec<Arc<Child>>,
    wait_for: WaitFor,
}

impl Fan {
    /// Sends to every child what it still misses, and waits for all.
    async fn export_to_all(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let known = batch.pending_of(self.number);
        let mut fates = match known {
            Some(known) => known.fates.clone(),
            None => vec![Fate::missing(batch.without_pending()); self.children.len()],
        };
        let mut total = Delivery::default();
        let exports = self.children.iter().zip(&mut fates).map(|(child, fate)| {
            let missing = std::mem::take(&mut fate.missing);
            async move { (child.export_parts(missing, until).await, fate) }
        });
        for (delivery, fate) in join_all(exports).await {
            // Several destinations have no address together.
            total.attempt.absorb(&Attempt {
                server: None,
                ..delivery.attempt.clone()
            });
            fate.note(delivery);
        }
        self.sum_up(batch, fates, total)
    }

    fn sum_up(&self, batch: Batch, fates: Vec<Fate>, mut total: Delivery) -> Result<Delivery> {
        let names = || self.children.iter().map(|child| child.name.as_str());
        let spans = batch.spans() as u64;
        total.message = fates::join_messages(names().zip(&fates));
        total.refused = fates.iter().map(|fate| fate.refused).max().unwrap_or(0);
        // What one child filters another may have; only what all of them filter reaches nobody.
        total.filtered = fates.iter().map(|fate| fate.filtered).min().unwrap_or(0);
        let error = fates::join_errors(names().zip(&fates), spans);
        let Some(error) = error else {
            close_account(&mut total, spans);
            let each = fates.into_iter().map(|fate| fate.pending).collect();
            total.pending = PendingSpans::join(each, total.accepted);
            return Ok(total);
        };
        let error = error.with_attempt(Attempt {
            status: None,
            ..total.attempt.clone()
        });
        // A child that will never take it must not be asked again with those that may.
        let is_alike = fates.iter().all(|fate| fate.lost.is_empty())
            || fates.iter().all(|fate| fate.missing.is_empty());
        if is_alike && fates.iter().all(|fate| fate.has_nothing(spans)) {
            return Err(error);
        }
        if fates.iter().any(|fate| !fate.missing.is_empty()) {
            // Refused and filtered spans come again with the whole; they are told when it is over.
            total.refused = 0;
            total.filtered = 0;
            total.message = None;
            let pending = Pending::new(self.number, fates);
            let batch = batch.with_pending(pending);
            total.rest.push(crate::Undelivered { batch, error });
            return Ok(total);
        }
        let children_pending: Vec<_> = fates.iter().map(|fate| fate.pending.clone()).collect();
        let mut failed = self
            .children
            .iter()
            .zip(fates)
            .filter(|(_, fate)| !fate.lost.is_empty());
        match (failed.next(), failed.next()) {
            (Some((child, only)), None) => {
                let lost = only.lost.into_iter().map(|left| crate::Undelivered {
                    batch: left.batch,
                    error: left.error.with_context("destination", &child.name),
                });
                total.rest.extend(lost);
            }
            _ => {
                total.refused = 0;
                let batch = batch.without_pending_of(self.number);
                total.rest.push(crate::Undelivered { batch, error });
            }
        }
        close_account(&mut total, spans);
        total.pending = PendingSpans::join(children_pending, total.accepted);
        Ok(total)
    }

    /// Waits for the child that was added first; the others go on behind. What the first has not taken yet remembers that
    /// the others have been given it.
    async fn export_to_first(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let Some((first, others)) = self.children.split_first() else {
            return Ok(Delivery::of(&batch));
        };
        let known = batch.pending_of(self.number);
        let missing = match known {
            Some(known) => known.fates.iter().flat_map(Fate::missed).collect(),
            None => {
                for child in others {
                    drop(child.export_behind(batch.clone(), until)?);
                }
                vec![batch]
            }
        };
        let mut delivery = first.export_parts(missing, until).await;
        for left in &mut delivery.rest {
            if left.error.is_temporary() && !others.is_empty() {
                let missing = vec![Fate::missing(left.batch.clone())];
                let pending = Pending::new(self.number, missing);
                left.batch = left.batch.clone().with_pending(pending);
            }
        }
        delivery.into_result()
    }

    /// Waits for the first child that takes everything; the others go on behind.
    async fn export_to_any(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        let spans = batch.spans() as u64;
        let mut exports = FuturesUnordered::new();
        for (place, child) in self.children.iter().enumerate() {
            let export = child.export_behind(batch.clone(), until)?;
            exports.push(async move { (place, until.run(export.ended()).await) });
        }
        let mut fates = vec![Fate::missing(batch.clone()); self.children.len()];
        let mut best: Option<Delivery> = None;
        while let Some((place, delivery)) = exports.next().await {
            let delivery = delivery.flatten().unwrap_or_else(|| {
                Delivery::failed(batch.clone(), Error::timeout("no answer", until))
            });
            if delivery.accepted > 0 && delivery.accepted + delivery.filtered == spans {
                return Ok(delivery);
            }
            fates[place].missing.clear();
            fates[place].note(delivery.clone());
            let is_better = best
                .as_ref()
                .is_none_or(|best| delivery.accepted > best.accepted);
            if is_better && delivery.rest.is_empty() {
                best = Some(delivery);
            }
        }
        if let Some(best) = best {
            return Ok(best);
        }
        let names = self.children.iter().map(|child| child.name.as_str());
        let error = fates::join_errors(names.zip(&fates), spans);
        Err(error.unwrap_or_else(|| Error::internal("no child says what became of the batch")))
    }

    /// Waits for what goes on behind, then has every child do the same.
    async fn drain<'a, F>(
        &'a self,
        until: Deadline,
        call: &'static str,
        drain: impl Fn(&'a Exporter) -> F,
    ) -> Result<Drained>
    where
        F: Future<Output = Result<Drained>>,
    {
        let drains = self.children.iter().map(|child| {
            let work = drain(&child.exporter);
            let drained = async move {
                // Without the permits the time is up; the child itself will say so.
                drop(until.run(child.behind.acquire_many(BEHIND_MAX)).await);
                work.await
            };
            (child.name.as_str(), drained)
        });
        drain_all(drains, call, until).await
    }
}

impl Export for Fan {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        match self.wait_for {
            WaitFor::All => self.export_to_all(batch, until).await,
            WaitFor::Any => self.export_to_any(batch, until).await,
            WaitFor::First => self.export_to_first(batch, until).await,
        }
    }

    async fn flush(&self, until: Deadline) -> Result<Drained> {
        self.drain(until, "flush", |child| child.flush(until)).await
    }

    async fn shutdown(&self, until: Deadline) -> Result<Drained> {
        self.drain(until, "shutdown", |child| child.shutdown(until))
            .await
    }
}

/// An export that goes on whoever waits for it.
#[derive(Debug)]
enum Behind {
    Running(JoinHandle<Delivery>),
    LeftOut(Box<Delivery>),
}

/// An export that may end with its runtime; then its spans count as dropped.
struct Unended {
    child: Arc<Child>,
    spans: u64,
}

impl Drop for Unended {
    fn drop(&mut self) {
        if self.spans > 0 {
            let diagnostics = &self.child.diagnostics;
            diagnostics.dropped(DropReason::Shutdown, self.spans, None);
        }
    }
}

impl Behind {
    async fn ended(self) -> Option<Delivery> {
        match self {
            Self::Running(task) => task.await.ok(),
            Self::LeftOut(delivery) => Some(*delivery),
        }
    }
}

/// Puts every span in one place: a span that one child lost may be one that another refused or filtered.
fn close_account(total: &mut Delivery, spans: u64) {
    let settled = spans.saturating_sub(total.undelivered());
    total.refused = total.refused.min(settled);
    total.filtered = total.filtered.min(settled - total.refused);
    total.accepted = settled - total.refused - total.filtered;
}

impl Child {
    async fn export(&self, batch: Batch, until: Deadline) -> Result<Delivery> {
        // A shutdown of the queue outside sends one batch to a child before the end of a wait that it asked for. If it asks
        // again it gets no more; the other children do.
        let is_closing = export::is_closing();
        if is_closing && let Some(error) = self.asked_to_wait() {
            return Err(error);
        }
        let export = run_guarded(until, "export", self.exporter.export(batch, until));
        // All children are asked at the same time, so each may use all of it.
        let result = export::run_until_closed(export, |end| end).await;
        if is_closing {
            let mut health = self.lock_health();
            match trouble(&result) {
                Some(error) => health.note_failure(error, Instant::now()),
                None => drop(health.mark_up()),
            }
        }
        result
    }

    /// Returns the error with which the child asked for a wait, until that is over.
    fn asked_to_wait(&self) -> Option<Error> {
        let health = self.lock_health();
        let asked = health.asked_wait(Instant::now())?;
        Some(asked.error.clone())
    }

    fn lock_health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one part after the other.
    async fn export_parts(&self, parts: Vec<Batch>, until: Deadline) -> Delivery {
        let mut total = Delivery::default();
        for part in parts {
            let sent = self.export(part.clone(), until).await;
            total.absorb(sent.unwrap_or_else(|error| Delivery::failed(part, error)));
        }
        total
    }

    /// Sends on the runtime that polls this export, also when nobody waits for it; tells of what goes wrong.
    fn export_behind(self: &Arc<Self>, batch: Batch, until: Deadline) -> Result<Behind> {
        let Ok(permit) = Arc::clone(&self.behind).try_acquire_owned() else {
            let error = Error::throttled(format!("{BEHIND_MAX} exports are under way"));
            self.diagnostics
                .dropped(DropReason::QueueFull, batch.spans() as u64, Some(&error));
            let delivery = Delivery::failed(batch, error);
            return Ok(Behind::LeftOut(Box::new(delivery)));
        };
        let mut unended = Unended {
            child: Arc::clone(self),
            spans: batch.spans() as u64,
        };
        let work = async move {
            let delivery = unended.child.export_parts(vec![batch], until).await;
            unended.spans = 0;
            unended.child.tell(&delivery);
            drop(permit);
            delivery
        };
        Ok(Behind::Running(Runtime::surrounding().detach(work)?))
    }

    fn tell(&self, delivery: &Delivery) {
        if delivery.refused > 0 {
            let why = delivery.message.as_deref();
            let error = Error::refused(why.unwrap_or("it does not say why"));
            self.diagnostics.refused(delivery.refused, &error);
        }
        for left in &delivery.rest {
            let spans = left.batch.spans() as u64;
            self.diagnostics
                .dropped(left.error.drop_reason(), spans, Some(&left.error));
        }
    }
}
