//! One run: batches go out side by side until there were enough, or something stops it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Error;
use outspan::Export;
use outspan::Exporter;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;

use super::latency::Latency;
use crate::destination::Destination;
use crate::live::Live;
use crate::screen::Tone;
use crate::send::Outcome;
use crate::send::Tally;
use crate::send::advice;
use crate::send::is_final;
use crate::send::printable;
use crate::signals::Signal;
use crate::signals::Signals;
use crate::units::show_bytes;
use crate::units::show_count;
use crate::units::show_counted;
use crate::units::show_duration;
use crate::units::show_rate;

/// How long spans that were sent may still take to be acknowledged once somebody asked to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// How long closing the exporter may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// How often trouble that goes on is told again.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(30);

/// Sends what the workers make, and counts.
pub(super) struct Session {
    destination: Destination,
    exporter: Arc<Exporter>,
    news: watch::Receiver<Option<Error>>,
    batches: mpsc::Receiver<Batch>,
    exports: FuturesUnordered<BoxFuture<'static, Exported>>,
    exports_max: usize,
    tally: Tally,
    tries: u64,
    latency: Latency,
    live: Live,
    /// When enough was sent.
    until: Deadline,
    is_made: bool,
    ending: Option<Ending>,
    /// When exports that are still running are dropped.
    cut_off: Deadline,
    is_cut_off: bool,
    trouble_told: Option<Instant>,
    /// When the last export ended, from the beginning on.
    took: Duration,
}

/// Says what stopped a run before everything was sent.
#[derive(Debug)]
enum Ending {
    Signal(Signal),
    /// The destination is of no use.
    Error(Error),
}

/// An export that came to an end.
struct Exported {
    spans: u64,
    result: outspan::Result<Delivery>,
    took: Duration,
}

impl Session {
    /// Begins a run; `until` ends it if the workers do not.
    pub(super) fn new(
        destination: Destination,
        exporter: Exporter,
        news: watch::Receiver<Option<Error>>,
        batches: mpsc::Receiver<Batch>,
        exports_max: usize,
        until: Deadline,
        live: Live,
    ) -> Self {
        Self {
            destination,
            exporter: Arc::new(exporter),
            news,
            batches,
            exports: FuturesUnordered::new(),
            exports_max,
            tally: Tally::default(),
            tries: 0,
            latency: Latency::new(),
            live,
            until,
            is_made: false,
            ending: None,
            cut_off: Deadline::never(),
            is_cut_off: false,
            trouble_told: None,
            took: Duration::ZERO,
        }
    }

    /// Sends until there is nothing left, or until it is stopped and has come to rest.
    pub(super) async fn send(&mut self, signals: &mut Signals) {
        let interval = self.live.interval();
        let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_done() {
            let may_start = !self.is_made && self.exports.len() < self.exports_max;
            tokio::select! {
                biased;
                signal = signals.next() => self.on_signal(signal),
                () = self.cut_off.passed() => self.is_cut_off = true,
                () = self.until.passed(), if !self.is_made => self.make_no_more(),
                Ok(()) = self.news.changed() => self.tell_news(),
                Some(exported) = self.exports.next(), if !self.exports.is_empty() => {
                    self.settle(exported);
                }
                _ = ticks.tick() => self.live.show(self.words()),
                batch = self.batches.recv(), if may_start => match batch {
                    Some(batch) => self.start(batch),
                    None => self.is_made = true,
                },
            }
        }
    }

    fn is_done(&self) -> bool {
        self.is_cut_off || (self.is_made && self.exports.is_empty())
    }

    fn make_no_more(&mut self) {
        self.batches.close();
        self.is_made = true;
    }

    fn start(&mut self, batch: Batch) {
        let spans = batch.spans() as u64;
        self.tally.record(spans, 0, None);
        let exporter = Arc::clone(&self.exporter);
        self.exports.push(Box::pin(async move {
            let began = Instant::now();
            let result = exporter.export(batch, Deadline::never()).await;
            Exported {
                spans,
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
        let Exported {
            spans,
            result,
            took,
        } = exported;
        self.took = self.live.elapsed();
        self.tally.settle(spans, &result);
        let attempts = match &result {
            Ok(delivery) => delivery.attempt.attempts,
            Err(error) => error.attempt().attempts,
        };
        self.tries += u64::from(attempts.saturating_sub(1));
        if result.is_ok() {
            self.latency.add(took);
        }
        if let Some(error) = self.final_error(&result) {
            self.make_no_more();
            self.ending.get_or_insert(Ending::Error(error));
        }
    }

    /// The error after which it is of no use to go on.
    fn final_error(&self, result: &outspan::Result<Delivery>) -> Option<Error> {
        let is_final = |error: &&Error| is_final(&self.destination, error);
        match result {
            Ok(delivery) => {
                let mut errors = delivery.rest.iter().map(|part| &part.error);
                errors.find(is_final).cloned()
            }
            Err(error) => Some(error).filter(is_final).cloned(),
        }
    }

    /// The first signal ends sending and bounds the rest, the second one ends everything.
    fn on_signal(&mut self, signal: Signal) {
        if matches!(self.ending, Some(Ending::Signal(_))) {
            self.is_cut_off = true;
            return;
        }
        self.make_no_more();
        self.ending = Some(Ending::Signal(signal));
        self.cut_off = self.cut_off.min(Deadline::after(DRAIN_LIMIT));
        let waiting = show_counted(self.tally.waiting(), "span");
        self.live.screen().say(format_args!(
            "{signal}: sending stopped, {waiting} on the way may take {} s more; once more stops at once",
            DRAIN_LIMIT.as_secs(),
        ));
    }

    /// Says what holds it up when that is news, and when it is over.
    fn tell_news(&mut self) {
        let trouble = self.news.borrow_and_update().clone();
        let screen = self.live.screen();
        let Some(error) = trouble else {
            if self.trouble_told.take().is_some() {
                screen.say("delivering again");
            }
            return;
        };
        let is_new = self
            .trouble_told
            .is_none_or(|at| at.elapsed() >= TROUBLE_INTERVAL);
        if is_new {
            self.trouble_told = Some(Instant::now());
            let words = printable(&error.chain().to_string());
            screen.tell(Tone::Warning, format_args!("{words}; trying again"));
        }
    }

    /// Counts what was sent and not acknowledged, and closes the exporter.
    pub(super) async fn close(&mut self) {
        self.exports.clear();
        self.make_no_more();
        let waiting = self.tally.waiting();
        self.tally
            .fail(waiting, "cut off by the signal; some may have arrived");
        let until = Deadline::after(CLOSE_LIMIT).named("time for closing");
        match until.run(self.exporter.shutdown(until)).await {
            Some(Ok(drained)) => self.tally.drained(&drained),
            Some(Err(error)) => self.tally.not_closed(&error.chain().to_string()),
            None => self.tally.not_closed("the exporter did not close in time"),
        }
        self.live.end();
    }

    /// Says what became of everything, and returns the exit status.
    pub(super) fn report(&self) -> u8 {
        let screen = self.live.screen();
        let mut warnings = String::new();
        self.tally.reasons.write(&mut warnings, Outcome::Warning);
        for warning in warnings.lines() {
            let words = format!("the destination says: {}", warning.trim_start());
            screen.tell(Tone::Warning, words);
        }
        let is_complete = self.tally.is_complete();
        match (&self.ending, is_complete) {
            (None, true) => screen.say(self.summary()),
            (Some(Ending::Signal(signal)), true) => {
                screen.say(format_args!("{signal}: {}", self.summary()));
            }
            (ending, _) => {
                let what = match ending {
                    Some(Ending::Signal(signal)) => signal.to_string(),
                    _ => "not everything was acknowledged".into(),
                };
                screen.tell(Tone::Error, format_args!("{what}: {}", self.summary()));
            }
        }
        if let Some(Ending::Error(error)) = &self.ending
            && let Some(advice) = advice(&self.destination, error)
        {
            screen.tell(Tone::Advice, advice);
        }
        match &self.ending {
            Some(Ending::Signal(signal)) => signal.exit_status(),
            _ => u8::from(!is_complete),
        }
    }

    /// How things stand, on one line.
    fn words(&self) -> String {
        let tally = &self.tally;
        let words = format!(
            "{} sent, {} acknowledged, {} on the way, {} failed, {}, {}",
            show_count(tally.read),
            show_count(tally.delivered),
            show_count(tally.waiting()),
            show_count(tally.refused + tally.failed),
            show_rate(tally.delivered, self.live.elapsed()),
            show_bytes(tally.wire_bytes),
        );
        match self.news.borrow().is_some() {
            true => format!("trying again: {words}"),
            false => words,
        }
    }

    /// What became of everything, on several lines.
    fn summary(&self) -> String {
        let tally = &self.tally;
        let mut text = format!(
            "sent {} in {} to {} in {}\n  = {} acknowledged + {} refused + {} failed\n",
            show_counted(tally.read, "span"),
            match tally.records {
                1 => "1 batch".to_owned(),
                batches => format!("{} batches", show_count(batches)),
            },
            self.destination,
            show_duration(self.took),
            show_count(tally.delivered),
            show_count(tally.refused),
            show_count(tally.failed),
        );
        tally.reasons.write(&mut text, Outcome::Refused);
        tally.reasons.write(&mut text, Outcome::Failed);
        if tally.is_not_closed {
            text.push_str("  closing the destination failed, so the last spans may be missing\n");
            tally.reasons.write(&mut text, Outcome::Closing);
        }
        text += &format!(
            "  {}, {} on the wire",
            show_rate(tally.delivered, self.took),
            show_bytes(tally.wire_bytes)
        );
        if let Some(each) = tally.wire_bytes.checked_div(tally.read)
            && each > 0
        {
            text += &format!(" ({each} bytes a span)");
        }
        if self.tries > 0 {
            let tries = show_counted(self.tries, "attempt");
            text += &format!(", {tries} made again after temporary errors");
        }
        if !self.latency.is_empty() {
            text += &format!(
                "\n  an export took {} at the median, {} at the 99th percentile, {} at most",
                show_short(self.latency.percentile(50)),
                show_short(self.latency.percentile(99)),
                show_short(self.latency.longest()),
            );
        }
        text
    }
}

/// Shows a duration that may be short, with three digits: `0.42 ms`, `12.3 ms`, `1.20 s`.
fn show_short(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1000.0;
    match millis {
        ..9.995 => format!("{millis:.2} ms"),
        ..99.95 => format!("{millis:.1} ms"),
        ..999.5 => format!("{millis:.0} ms"),
        _ => show_duration(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_durations_keep_three_digits() {
        let shown = |micros| show_short(Duration::from_micros(micros));
        assert_eq!(shown(420), "0.42 ms");
        assert_eq!(shown(12_340), "12.3 ms");
        assert_eq!(shown(123_400), "123 ms");
        assert_eq!(shown(1_234_000), "1.23 s");
    }
}
