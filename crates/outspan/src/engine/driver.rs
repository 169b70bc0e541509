//! Exports batches and counts what became of them.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::time::Instant;

use super::item::Item;
use super::schedule::Answer;
use super::schedule::Blame;
use super::schedule::Schedule;
use super::schedule::Step;
use super::settings::Settings;
use super::tracked::Books;
use super::tracked::Tracked;
use crate::Attempt;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::DropReason;
use crate::Error;
use crate::ErrorKind;
use crate::Export;
use crate::Exporter;
use crate::Result;
use crate::diagnostics::Diagnostics;
use crate::diagnostics::Retrial;
use crate::export::SURROUNDING;
use crate::export::Surrounding;
use crate::export::end_of;
use crate::guard::run_guarded;

/// What a queue and its driver share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) exporter: Exporter,
    pub(super) settings: Settings,
    pub(super) books: Arc<Books>,
    pub(super) diagnostics: Arc<Diagnostics>,
    pub(super) schedule: Mutex<Schedule>,
    /// Wakes the driver: something can be started.
    pub(super) wake: Notify,
    /// Tells those who wait for a flush that a batch came to its end.
    pub(super) progress: watch::Sender<()>,
    /// Tells combinators inside that a shutdown has begun, and when it ends.
    pub(super) closing: watch::Sender<Option<Deadline>>,
    /// Whether the driver has ended, and everything that was held is counted.
    pub(super) ended: watch::Sender<bool>,
}

/// Starts exports and takes their answers. When it ends, for whatever reason, everything it held is counted.
pub(super) struct Driver {
    shared: Arc<Shared>,
    /// The batches in flight. Their exports have clones, so that a batch is counted even if its export is dropped.
    in_flight: Vec<Item>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            in_flight: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let in_flight = &mut self.in_flight;
        let shared = &*self.shared;
        let mut attempts = FuturesUnordered::new();
        loop {
            let wait_end = loop {
                let now = Instant::now();
                let step = shared.lock().next(now);
                match step {
                    Step::Expire => shared.expire(now),
                    Step::Start(mut item) => {
                        item.tracked.start();
                        let until = shared.attempt_end(&mut item);
                        let batch = item.tracked.batch().clone();
                        attempts.push(shared.attempt(item.number, batch, until));
                        in_flight.push(item);
                    }
                    Step::Wait(wait_end) => break wait_end,
                }
            };
            tokio::select! {
                Some((number, answer)) = attempts.next() => {
                    let place = in_flight.iter().position(|item| item.number == number);
                    if let Some(place) = place {
                        let item = in_flight.swap_remove(place);
                        shared.settle(item, answer);
                    }
                    // An exporter that is always ready must not keep the thread from others.
                    tokio::task::yield_now().await;
                }
                () = shared.wake.notified() => {}
                () = sleep_until(wait_end) => {}
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.abandon(std::mem::take(&mut self.in_flight));
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What became of a batch after an attempt.
#[derive(Debug, Default)]
struct Verdict {
    /// Whether the destination took or rejected some of it.
    works: bool,
    again: Vec<Item>,
    /// The error that speaks for what is tried again.
    trouble: Option<Error>,
}

impl Shared {
    /// Waits until no export is in flight.
    pub(super) async fn landed(&self) {
        let mut progress = self.progress.subscribe();
        while self.lock().exports() > 0 {
            if progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Hands a batch to the exporter, once.
    async fn attempt(&self, number: u64, batch: Batch, until: Deadline) -> (u64, Result<Delivery>) {
        let batch = batch.with_payer(self.books.budget());
        let export = self.exporter.export(batch, until);
        let surrounding = Surrounding {
            closing: self.closing.subscribe(),
            #[cfg(feature = "_network")]
            waiting: self.settings.takes_turns.then(|| self.lock().waiting()),
            #[cfg(any(feature = "_network", feature = "kafka"))]
            diagnostics: Arc::clone(&self.diagnostics),
        };
        let timed = async {
            tokio::select! {
                // An exporter that keeps the deadline says more about the destination.
                biased;
                answer = run_guarded(until, "export", export) => answer,
                error = self.cut_off() => Err(error),
            }
        };
        let answer = SURROUNDING.scope(surrounding, timed).await;
        (number, answer)
    }

    /// Waits for the end of a shutdown that began after the export did.
    async fn cut_off(&self) -> Error {
        let until = end_of(self.closing.subscribe(), |until| until).await;
        match self.diagnostics.server() {
            Some(server) => Error::timeout(format!("no answer from {server}"), until)
                .with_attempt(Attempt::one().with_server(server)),
            None => Error::timeout("no answer", until).with_attempt(Attempt::one()),
        }
    }

    fn attempt_end(&self, item: &mut Item) -> Deadline {
        let began = *item.began.get_or_insert_with(Instant::now);
        item.attempts += 1;
        let mut until = self.lock().closing();
        if let Some(timeout) = self.settings.attempt_timeout {
            until = until.min(Deadline::after(timeout).named("attempt timeout"));
        }
        if let Some(limit) = self.settings.export_limit {
            let first = self.settings.attempt_timeout.unwrap_or(limit).min(limit);
            let left = limit.saturating_sub(began.elapsed());
            item.is_cut_short = left < first / 2;
            until = until.min(Deadline::since(began, limit).named("export limit"));
        }
        until
    }

    /// Books what became of a batch, and plans what is left of it.
    fn settle(&self, item: Item, answer: Result<Delivery>) {
        let spans = item.tracked.spans();
        let number = item.number;
        let is_cut_short = item.is_cut_short;
        let (completed, rest) = item.complete(answer);
        let mut verdict = Verdict {
            works: completed.accepted + completed.rejected > 0,
            ..Verdict::default()
        };
        for (part, error) in rest {
            self.judge(part, error, &mut verdict);
        }

        let now = Instant::now();
        let works = verdict.works;
        let asked_nobody = completed.filtered == spans && spans > 0;
        let trouble = verdict.trouble;
        // Such as a form that was not made in time, or an attempt that had no time for an answer: the destination may be up.
        let is_inconclusive = trouble.as_ref().is_some_and(|error| {
            error.is_before_sending() || (is_cut_short && error.kind() == ErrorKind::Timeout)
        });
        let (blame, retrial) = {
            let mut schedule = self.lock();
            let answer = Answer {
                is_inconclusive: asked_nobody || (is_inconclusive && !works),
                is_success: works || trouble.is_none(),
                failure: trouble.as_ref().filter(|_| !is_inconclusive),
            };
            let blame = schedule.complete(number, &answer, verdict.again, now);
            let retrial = match schedule.asked_until() {
                _ if schedule.is_closing() => Retrial::UntilShutdown,
                Some(end) if end > now => Retrial::After(end - now),
                _ => Retrial::UntilItWorks,
            };
            (blame, retrial)
        };
        if works {
            self.diagnostics.answered();
        }
        match &trouble {
            // No outage: the destination takes other batches.
            Some(error) if blame == Blame::Batch => {
                tracing::debug!(target: "outspan", spans, error = %error.chain(), "export of one batch failed, will retry");
            }
            Some(error) => self.diagnostics.failed(error, self.books.held(), retrial),
            None => {}
        }
        self.progress.send_replace(());
    }

    /// Decides about a part of a batch that was not delivered.
    fn judge(&self, item: Item, error: Error, verdict: &mut Verdict) {
        let batch = item.tracked.batch();
        // Whatever was made for sending it is made again when it is sent again: many batches may wait for that.
        batch.forget_forms();
        let gives_way = error.is_giving_way();
        if error.kind() == ErrorKind::Refused && !error.is_temporary() {
            verdict.works = true;
            return item.tracked.reject(&error);
        }
        if !error.is_temporary() {
            return item.tracked.drop_spans(error.drop_reason(), Some(&error));
        }
        // Told of the outage, also by batches whose time is over.
        let is_over = self
            .settings
            .export_limit
            .is_some_and(|limit| item.began.is_some_and(|began| began.elapsed() >= limit));
        let is_last = self
            .settings
            .retry
            .retries_max()
            .is_some_and(|retries| item.attempts - item.turns > retries && !gives_way);
        if is_over || is_last {
            let reason = match is_over {
                true => DropReason::Expired,
                false => DropReason::Failed,
            };
            item.tracked.drop_spans(reason, Some(&error));
        } else if error.is_before_sending() {
            verdict.again.push(item.later(gives_way));
        } else {
            verdict.again.push(item.failed());
        }
        if gives_way {
            return;
        }
        verdict.trouble = Some(match verdict.trouble.take() {
            Some(other) if other.retry_after() > error.retry_after() => other,
            _ => error,
        });
    }

    /// Counts everything that is held as dropped at shutdown, in flight or not.
    fn abandon(&self, in_flight: Vec<Item>) {
        let (waiting, error) = {
            let mut schedule = self.lock();
            let error = schedule.last_error();
            (schedule.end(), error)
        };
        let held = waiting.into_iter().chain(in_flight);
        let tokens = held.map(|item| item.tracked);
        Tracked::drop_all(tokens, &self.books, DropReason::Shutdown, error.as_ref()).report();
        // Only now: whoever waits for the end reads the account.
        self.ended.send_replace(true);
        self.progress.send_replace(());
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
