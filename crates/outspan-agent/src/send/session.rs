//! One run: batches go out side by side until everything is read and has come to an end, or something stops it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Error;
use outspan::Export;
use outspan::Exporter;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;

use crate::destination::BROKEN_PIPE;
use crate::destination::Destination;
use crate::destination::is_reader_gone;
use crate::screen::LINE_INTERVAL;
use crate::screen::Tone;
use crate::signals::Signal;
use crate::signals::Signals;
use crate::units::show_bytes;
use crate::units::show_counted;
use crate::units::show_duration;

use super::advice;
use super::intake::Intake;
use super::intake::Step;
use super::intake::Work;
use super::pace::Pace;
use super::progress::Progress;
use super::tally;
use super::tally::Outcome;
use super::tally::Tally;

/// How long spans that were read may still take to be delivered once somebody asked to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// How long closing the exporter may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// How much longer than its deadline an export may take before it is dropped.
const DEADLINE_GRACE: Duration = Duration::from_secs(1);

/// How many records that cannot be read are told as they come; all of them are counted.
const BAD_RECORDS_TOLD: u64 = 10;

/// Delivers what an intake hands out, and counts.
pub(crate) struct Session {
    destination: Destination,
    exporter: Arc<Exporter>,
    news: watch::Receiver<Option<Error>>,
    intake: Intake,
    exports: FuturesUnordered<BoxFuture<'static, Exported>>,
    options: Options,
    pace: Pace,
    tally: Tally,
    /// Spans of the exports that have begun and not ended.
    in_flight: u64,
    progress: Progress,
    ending: Option<Ending>,
    /// When exports that are still running are dropped.
    cut_off: Deadline,
    is_cut_off: bool,
    was_signalled: bool,
    is_read: bool,
    place: Option<String>,
    trouble_told: Option<Instant>,
}

/// How a session works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// How many batches are exported at the same time.
    pub(crate) exports: usize,
    /// The end of the whole run.
    pub(crate) until: Deadline,
    /// Whether temporary errors are followed by another attempt.
    pub(crate) retries: bool,
}

/// Says what stopped a run before everything was read.
#[derive(Debug)]
enum Ending {
    Signal(Signal),
    Deadline,
    /// The destination is of no use.
    Error(Error),
    /// A bad record, where one is enough.
    BadRecord,
    /// The reader broke down, which is a bug.
    Reader,
}

/// An export that came to an end.
struct Exported {
    work: Work,
    result: outspan::Result<Delivery>,
    took: Duration,
}

impl Session {
    /// Begins a run.
    pub(crate) fn new(
        destination: Destination,
        exporter: Exporter,
        news: watch::Receiver<Option<Error>>,
        intake: Intake,
        progress: Progress,
        options: Options,
        pace: Pace,
    ) -> Self {
        Self {
            destination,
            exporter: Arc::new(exporter),
            news,
            intake,
            exports: FuturesUnordered::new(),
            options,
            pace,
            tally: Tally::default(),
            in_flight: 0,
            progress,
            ending: None,
            cut_off: Deadline::never(),
            is_cut_off: false,
            was_signalled: false,
            is_read: false,
            place: None,
            trouble_told: None,
        }
    }

    /// Delivers until there is nothing left, or until it is stopped and has come to rest.
    pub(crate) async fn deliver(&mut self, signals: &mut Signals) {
        let interval = self.progress.interval();
        let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_done() {
            let may_start = self.may_start();
            tokio::select! {
                biased;
                signal = signals.next() => self.on_signal(signal),
                () = self.cut_off.passed() => self.is_cut_off = true,
                () = self.options.until.passed(), if self.ending.is_none() => {
                    self.stop(Ending::Deadline);
                }
                Ok(()) = self.news.changed() => self.tell_news(),
                Some(exported) = self.exports.next(), if !self.exports.is_empty() => {
                    self.settle(exported);
                }
                _ = ticks.tick() => self.progress.show(&self.tally),
                step = next_step(&mut self.intake, &self.pace), if may_start => self.take(step),
            }
        }
    }

    fn is_done(&self) -> bool {
        let nothing_more = self.is_read || self.gave_up();
        self.is_cut_off || (nothing_more && self.exports.is_empty())
    }

    fn may_start(&self) -> bool {
        !self.is_read && !self.gave_up() && self.exports.len() < self.options.exports
    }

    /// Whether what was read is not even tried any more.
    fn gave_up(&self) -> bool {
        matches!(self.ending, Some(Ending::Error(_) | Ending::Deadline))
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Record {
                valid,
                invalid,
                reason,
                place,
            } => {
                self.tally.record(valid, invalid, reason.as_deref());
                self.place = Some(place);
            }
            Step::Bad {
                reason,
                bytes,
                ends_run,
            } => {
                self.tally.bad_record(&reason);
                self.progress.advance(bytes);
                if self.tally.bad_records <= BAD_RECORDS_TOLD {
                    self.progress
                        .screen()
                        .tell(Tone::Warning, tally::printable(&reason));
                }
                if ends_run {
                    self.stop(Ending::BadRecord);
                }
            }
            Step::Work(work) => self.start(work),
            Step::End => self.end_of_input(),
        }
    }

    fn end_of_input(&mut self) {
        self.is_read = true;
        // The thread says so when it has read everything, so without a word and unasked it broke down.
        if self.ending.is_none() && !self.intake.has_read_all() {
            self.ending = Some(Ending::Reader);
        }
    }

    fn start(&mut self, work: Work) {
        self.pace.sent(work.spans());
        self.in_flight += work.spans();
        let exporter = Arc::clone(&self.exporter);
        let until = self.options.until;
        self.exports.push(Box::pin(async move {
            let began = Instant::now();
            let result = exporter.export(work.batch.clone(), until).await;
            Exported {
                work,
                result,
                took: began.elapsed(),
            }
        }));
    }

    fn settle(&mut self, exported: Exported) {
        // An attempt may have ended in this very moment, and with it the run.
        if self.news.has_changed().unwrap_or(false) {
            self.tell_news();
        }
        let Exported { work, result, took } = exported;
        log(&work, &result, took);
        self.in_flight -= work.spans();
        self.tally.settle(work.spans(), &result);
        self.progress.advance(work.input_bytes);
        if let Some(error) = self.final_error(&result) {
            self.stop(Ending::Error(error));
        }
    }

    /// The error after which it is of no use to go on.
    fn final_error(&self, result: &outspan::Result<Delivery>) -> Option<Error> {
        let is_final = |error: &&Error| advice::is_final(&self.destination, error);
        match result {
            Ok(delivery) => {
                let errors = delivery.rest.iter().map(|part| &part.error);
                errors.into_iter().find(is_final).cloned()
            }
            Err(error) => Some(error).filter(is_final).cloned(),
        }
    }

    /// Stops reading. The first reason is the one that counts.
    fn stop(&mut self, ending: Ending) {
        self.intake.stop();
        if matches!(ending, Ending::Deadline) {
            self.cut_off = Deadline::after(DEADLINE_GRACE);
        }
        self.ending.get_or_insert(ending);
    }

    /// The first signal stops reading and bounds the rest, the second one ends at once.
    fn on_signal(&mut self, signal: Signal) {
        if self.was_signalled {
            self.is_cut_off = true;
            return;
        }
        self.was_signalled = true;
        self.stop(Ending::Signal(signal));
        self.cut_off = self.cut_off.min(Deadline::after(DRAIN_LIMIT));
        self.progress.screen().say(format_args!(
            "{signal}: reading stopped, {} already read may take {} s more; once more stops at once",
            show_counted(self.tally.waiting(), "span"),
            DRAIN_LIMIT.as_secs(),
        ));
    }

    /// Says what holds it up when that is news, and when it is over.
    fn tell_news(&mut self) {
        let trouble = self.news.borrow_and_update().clone();
        if !self.options.retries {
            return;
        }
        let Some(error) = trouble else {
            self.progress.set_trouble(None);
            if self.trouble_told.take().is_some() {
                self.progress.screen().say("delivering again");
            }
            return;
        };
        self.progress.set_trouble(Some("trying again".into()));
        let is_new = self
            .trouble_told
            .is_none_or(|at| at.elapsed() >= 6 * LINE_INTERVAL);
        if is_new {
            self.trouble_told = Some(Instant::now());
            let words = tally::printable(&error.chain().to_string());
            let screen = self.progress.screen();
            screen.tell(Tone::Warning, format_args!("{words}; trying again"));
        }
    }

    /// Counts what was read and not delivered, and closes the exporter.
    pub(crate) async fn close(&mut self) {
        self.exports.clear();
        let limit = match self.is_cut_off {
            true => DEADLINE_GRACE,
            false => CLOSE_LIMIT,
        };
        let until = Deadline::after(limit).named("time for closing");
        let unsent = self.tally.waiting().saturating_sub(self.in_flight);
        self.tally.fail(unsent, self.why_unsent());
        self.tally.fail(self.in_flight, self.why_cut_off());
        // Flushed first, because a flush that fails says why.
        match until.run(self.exporter.flush(until)).await {
            Some(Ok(mut drained)) => {
                // What is left then is lost by the shutdown, which counts it.
                drained.left = 0;
                self.tally.drained(&drained);
            }
            Some(Err(error)) => {
                self.tally.not_closed(&error.chain().to_string());
                self.ending.get_or_insert(Ending::Error(error));
            }
            // The shutdown counts what is held then.
            None => {}
        }
        match until.run(self.exporter.shutdown(until)).await {
            Some(Ok(drained)) => self.tally.drained(&drained),
            Some(Err(error)) => self.tally.not_closed(&error.chain().to_string()),
            None => self.tally.not_closed("the exporter did not close in time"),
        }
        self.progress.end();
    }

    fn why_unsent(&self) -> &'static str {
        match self.ending {
            Some(Ending::Signal(_)) => "not sent, because of the signal",
            Some(Ending::Deadline) => "not sent before --deadline passed",
            Some(Ending::Error(_)) => "not sent any more after the error",
            _ => "not sent",
        }
    }

    fn why_cut_off(&self) -> &'static str {
        match self.was_signalled {
            true => "cut off by the signal; some may have arrived",
            false => "cut off by --deadline; some may have arrived",
        }
    }

    /// Says what became of everything, and returns the exit status.
    pub(crate) fn report(&self, from: &str) -> u8 {
        if let Some(Ending::Error(error)) = &self.ending
            && is_reader_gone(&self.destination, error)
        {
            return BROKEN_PIPE;
        }
        self.tell_warnings();
        if self.tally.is_complete() && !self.is_stopped_short() {
            self.progress.screen().say(self.all_well(from));
            return 0;
        }
        self.tell_failure(from);
        match self.ending {
            Some(Ending::Signal(signal)) => signal.exit_status(),
            _ => 1,
        }
    }

    /// Whether something was not read because the run was stopped.
    fn is_stopped_short(&self) -> bool {
        self.ending.is_some() && !self.intake.has_read_all()
    }

    fn tell_warnings(&self) {
        let mut warnings = String::new();
        self.tally.reasons.write(&mut warnings, Outcome::Warning);
        for warning in warnings.lines() {
            let words = format!("the destination says: {}", warning.trim_start());
            self.progress.screen().tell(Tone::Warning, words);
        }
    }

    fn all_well(&self, from: &str) -> String {
        format!(
            "delivered {} from {from} to {} in {} ({})",
            show_counted(self.tally.delivered, "span"),
            self.destination,
            show_duration(self.progress.elapsed()),
            self.sizes(),
        )
    }

    fn sizes(&self) -> String {
        let records = show_counted(self.tally.records, "record");
        let done = match self.destination {
            Destination::File(_) | Destination::Stdout(_) => "written",
            _ => "sent",
        };
        match self.tally.wire_bytes {
            0 => records,
            bytes => format!("{records}, {} {done}", show_bytes(bytes)),
        }
    }

    fn tell_failure(&self, from: &str) {
        let screen = self.progress.screen();
        let what = match self.ending {
            Some(Ending::Signal(signal)) => signal.to_string(),
            Some(Ending::Reader) => "the reader broke down, please report this bug".into(),
            _ if self.tally.is_complete() => "not everything was read".into(),
            _ => "not everything was delivered".into(),
        };
        let destination = &self.destination;
        let read = show_counted(self.tally.read, "span");
        let took = show_duration(self.progress.elapsed());
        let sizes = self.sizes();
        screen.tell(
            Tone::Error,
            format_args!("{what}: {read} read from {from} for {destination} in {took} ({sizes})"),
        );
        screen.write(format_args!("{}", tally::show_outcomes(&self.tally)));
        if self.is_stopped_short() {
            let place = self
                .place
                .as_deref()
                .map_or("nothing was read".into(), |place| {
                    format!("what follows {} was not read", tally::printable(place))
                });
            screen.write(format_args!("  {place}\n"));
        }
        if let Some(Ending::Error(error)) = &self.ending
            && let Some(advice) = advice::advice(&self.destination, error)
        {
            screen.tell(Tone::Advice, advice);
        }
    }
}

/// Waits until another batch may go, then for what comes next.
async fn next_step(intake: &mut Intake, pace: &Pace) -> Step {
    pace.ready().await;
    intake.next().await
}

fn log(work: &Work, result: &outspan::Result<Delivery>, took: Duration) {
    let spans = work.spans();
    let bytes = work.batch.size();
    match result {
        Ok(delivery) => tracing::debug!(
            spans,
            bytes,
            accepted = delivery.accepted,
            refused = delivery.refused,
            attempts = delivery.attempt.attempts,
            wire_bytes = delivery.attempt.wire_bytes,
            ?took,
            "batch delivered"
        ),
        Err(error) => {
            let error = error.chain();
            tracing::debug!(spans, bytes, ?took, %error, "batch not delivered");
        }
    }
}
