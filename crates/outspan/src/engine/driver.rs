//! Exports batches and counts what became of them.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::Backoff;
use super::queue::Shared;
use super::schedule::Item;
use super::schedule::Step;
use super::surroundings::SURROUNDING;
use super::surroundings::Surrounding;
use crate::Batch;
use crate::Deadline;
use crate::Delivery;
use crate::DropReason;
use crate::Error;
use crate::ErrorKind;
use crate::Export;
use crate::Losses;
use crate::Result;
use crate::diagnostics::Retrial;
use crate::guard::run_guarded;
use crate::pending::PendingSpans;

/// Starts exports and takes their answers. When it ends, for whatever reason, everything it held is counted.
pub(super) struct Driver(Arc<Shared>);

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    pub(super) async fn run(self) {
        let shared = &*self.0;
        let mut backoff = Backoff::new(&shared.settings.retry);
        let mut attempts = FuturesUnordered::new();
        loop {
            let wait_end = loop {
                let step = shared.lock().next(Instant::now());
                match step {
                    Step::Start(item) => {
                        shared.take_off(&item);
                        attempts.push(shared.attempt(item));
                    }
                    Step::Wait(wait_end) => break wait_end,
                }
            };
            tokio::select! {
                Some((item, answer)) = attempts.next() => {
                    shared.settle(item, answer, &mut backoff);
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
        self.0.abandon();
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
    accepted: u64,
    refused: u64,
    dropped: Losses,
    /// What the exporter took of the accepted spans and has not written yet, and how many those are.
    pending: Vec<PendingSpans>,
    pending_spans: u64,
    again: Vec<Item>,
    /// The error that speaks for what is tried again.
    trouble: Option<Error>,
}

impl Shared {
    fn take_off(&self, item: &Item) {
        let spans = item.batch.spans() as u64;
        self.ledger.step(|account| {
            account.queued -= spans;
            account.in_flight += spans;
        });
        if let Some(observer) = &self.settings.observer
            && item.is_untried()
        {
            observer.handed_over(spans);
        }
    }

    /// Hands a batch to the exporter, once.
    async fn attempt(&self, mut item: Item) -> (Item, Result<Delivery>) {
        let until = self.attempt_end(&mut item);
        let batch = item.batch.clone().with_payer(&self.budget);
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
        (item, answer)
    }

    /// Waits for the end of a shutdown that began after the export did.
    async fn cut_off(&self) -> Error {
        let mut closing = self.closing.subscribe();
        if closing.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
        let until = self.lock().closing();
        until.passed().await;
        match self.diagnostics.server() {
            Some(server) => {
                Error::timeout(format!("no answer from {server}"), until).with_server(server)
            }
            None => Error::timeout("no answer", until),
        }
        .with_attempts(1)
    }

    fn attempt_end(&self, item: &mut Item) -> Deadline {
        let began = *item.began.get_or_insert_with(Instant::now);
        item.attempts += 1;
        let mut until = self.lock().closing();
        if let Some(timeout) = self.settings.attempt_timeout {
            until = until.min(Deadline::after(timeout).named("attempt timeout"));
        }
        if let Some(limit) = self.settings.export_limit {
            let left = limit.saturating_sub(began.elapsed());
            until = until.min(Deadline::after(left).named("export limit"));
        }
        until
    }

    /// Books what became of a batch, and plans what is left of it.
    fn settle<'s>(&'s self, item: Item, answer: Result<Delivery>, backoff: &mut Backoff<'s>) {
        let flown = item.batch.spans() as u64;
        let charged = item.charged;
        let is_probe = item.is_probe;
        let number = item.number;
        let is_sent_at_shutdown = item.is_sent_at_shutdown;
        let acks = item.acks.clone();
        let verdict = self.judge(item, answer);
        let again = verdict.again_spans();
        let pending = verdict.pending_spans;
        self.ledger.step(|account| {
            account.in_flight -= flown - pending;
            account.delivered += verdict.accepted - pending;
            account.refused += verdict.refused;
            account.dropped.merge(&verdict.dropped);
            account.queued += again;
        });
        self.ledger.add_pending(pending);
        self.ledger.follow(&verdict.pending, &acks);
        let kept = verdict.again.iter().map(|item| item.charged).sum();
        self.budget.exchange(charged, kept);
        self.budget.give_back(0, (flown - again) as usize);

        let now = Instant::now();
        let works = verdict.accepted + verdict.refused > 0;
        let asked_nobody = verdict.dropped.of(DropReason::Filtered) == flown && flown > 0;
        let trouble = verdict.trouble;
        // Such as a form that was not made in time: the destination may be as well as ever.
        let is_unsent = trouble.as_ref().is_some_and(Error::is_before_sending);
        let (retrial, of_flight) = {
            let mut schedule = self.lock();
            let of_flight = schedule.landed(number);
            if asked_nobody || (is_unsent && !works) {
                schedule.found_out_nothing(is_probe);
            } else if works || trouble.is_none() {
                *backoff = Backoff::new(&self.settings.retry);
                schedule.works();
            }
            if let Some(error) = trouble.as_ref().filter(|_| !is_unsent) {
                schedule.fails(error, is_probe, backoff, now);
                if is_sent_at_shutdown {
                    schedule.failed_at_shutdown(error);
                }
            }
            schedule.put_back(verdict.again);
            let retrial = match schedule.asked_until() {
                _ if schedule.is_closing() => Retrial::UntilShutdown,
                Some(end) if end > now => Retrial::After(end - now),
                _ => Retrial::UntilItWorks,
            };
            (retrial, of_flight)
        };
        if works {
            self.diagnostics.answered();
        }
        if let Some(error) = &trouble {
            self.diagnostics.failed(error, self.held(), retrial);
        }
        // Everything is counted: sources that are told now find it so.
        drop((acks, of_flight));
        self.progress.send_replace(());
    }

    /// Decides about every span of a batch.
    fn judge(&self, item: Item, answer: Result<Delivery>) -> Verdict {
        let mut verdict = Verdict::default();
        let mut delivery = match answer {
            Ok(delivery) => delivery,
            Err(error) => Delivery::failed(item.batch.clone(), error),
        };
        (verdict.pending, verdict.pending_spans) = delivery.take_pending();
        // An exporter of the user's may count wrongly. The account closes all the same.
        let spans = item.batch.spans() as u64;
        verdict.accepted = delivery.accepted.min(spans);
        verdict.refused = delivery.refused.min(spans - verdict.accepted);
        if let Some(server) = &delivery.server {
            self.diagnostics.note_server(server);
        }
        if verdict.refused > 0 || delivery.message.is_some() {
            let why = delivery.message.as_deref().unwrap_or("it does not say why");
            let mut error = Error::refused(why);
            if let Some(server) = &delivery.server {
                error = error.with_server(Arc::clone(server));
            }
            self.diagnostics.refused(verdict.refused, &error);
            item.acks.reject(verdict.refused, spans, why);
        }
        let mut open = spans - verdict.accepted - verdict.refused;
        let filtered = delivery.filtered.min(open);
        verdict.dropped.add(DropReason::Filtered, filtered);
        self.diagnostics.filtered(filtered);
        open -= filtered;
        for part in delivery.rest {
            let part_spans = part.batch.spans() as u64;
            if part_spans > open {
                break;
            }
            open -= part_spans;
            self.judge_part(&item, part.batch, part.error, &mut verdict);
        }
        if open > 0 {
            let error = Error::internal("the exporter does not say what became of some spans");
            self.drop_spans(&item, DropReason::Failed, open, &error, &mut verdict);
        }
        verdict
    }

    fn judge_part(&self, item: &Item, batch: Batch, error: Error, verdict: &mut Verdict) {
        let spans = batch.spans() as u64;
        // Whatever was made for sending it is made again when it is sent again: many batches may wait for that.
        batch.forget_forms();
        let gives_way = error.is_giving_way();
        if error.is_divisible() && spans > 1 {
            let half = batch.spans().div_ceil(2);
            let parts = batch.split_by_spans(half);
            verdict
                .again
                .extend(parts.map(|part| item.fresh_part(part)));
            return;
        }
        if error.kind() == ErrorKind::Refused && !error.is_temporary() {
            verdict.refused += spans;
            self.diagnostics.refused(spans, &error);
            let acks = item.acks.for_part(spans, item.spans());
            acks.reject(spans, spans, &error.to_string());
            return;
        }
        if !error.is_temporary() {
            return self.drop_spans(item, error.drop_reason(), spans, &error, verdict);
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
            self.drop_spans(item, reason, spans, &error, verdict);
        } else if error.is_before_sending() {
            verdict.again.push(item.later_part(batch, gives_way));
        } else {
            verdict.again.push(item.failed_part(batch));
        }
        if gives_way {
            return;
        }
        verdict.trouble = Some(match verdict.trouble.take() {
            Some(other) if other.retry_after() > error.retry_after() => other,
            _ => error,
        });
    }

    fn drop_spans(
        &self,
        item: &Item,
        reason: DropReason,
        spans: u64,
        error: &Error,
        verdict: &mut Verdict,
    ) {
        item.acks.drop_spans(reason, Some(error));
        verdict.dropped.add(reason, spans);
        self.diagnostics.dropped(reason, spans, Some(error));
    }
}

impl Verdict {
    fn again_spans(&self) -> u64 {
        self.again
            .iter()
            .map(|item| item.batch.spans() as u64)
            .sum()
    }
}
