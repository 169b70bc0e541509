//! What is worth a line, and when.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::super::measured::outcome::End;
use super::super::measured::outcome::Outcome;

/// An export that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) spans: u64,
    pub(super) bytes: u64,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Trouble(String),
    News(String),
    Detail(String),
    Trace(String),
}

/// What was told, and what came since.
#[derive(Debug, Default)]
pub(super) struct State {
    window: Option<Window>,
    trouble: Option<Trouble>,
    /// Since when another trouble waits for the summary.
    quiet_since: Option<Instant>,
    refusals_quiet_since: Option<Instant>,
}

/// What ended since the summary before.
#[derive(Debug)]
struct Window {
    began: Instant,
    exports: u64,
    spans: u64,
    delivered: u64,
    refused: u64,
    filtered: u64,
    failures: u64,
    failed: u64,
    error: Option<String>,
    time: Duration,
    longest: Duration,
}

#[derive(Debug)]
struct Trouble {
    since: Instant,
    told: bool,
    failures: u64,
}

impl State {
    /// Whether a summary will be due.
    pub(super) fn is_open(&self) -> bool {
        self.window.is_some()
    }

    /// An export has ended. Returns what has to be told at once.
    pub(super) fn ended(
        &mut self,
        begun: Begun,
        outcome: &Outcome<'_>,
        elapsed: Duration,
        interval: Duration,
        now: Instant,
    ) -> impl Iterator<Item = Line> + use<> {
        let window = self.window.get_or_insert_with(|| Window::new(now));
        window.add(begun, outcome, elapsed);
        let failure = match has_failed(outcome) {
            true => self.failed(begun, outcome, elapsed, interval, now),
            false => self.recovered(now),
        };
        let refusal = self.refused(begun, outcome, interval, now);
        failure.into_iter().chain(refusal)
    }

    fn failed(
        &mut self,
        begun: Begun,
        outcome: &Outcome<'_>,
        elapsed: Duration,
        interval: Duration,
        now: Instant,
    ) -> Option<Line> {
        let trouble = self.trouble.get_or_insert(Trouble {
            since: now,
            told: false,
            failures: 0,
        });
        trouble.failures += 1;
        if trouble.told || is_quiet(self.quiet_since, interval, now) {
            return None;
        }
        trouble.told = true;
        self.quiet_since = Some(now);
        Some(Line::Trouble(ended_line(begun, outcome, elapsed)))
    }

    fn recovered(&mut self, now: Instant) -> Option<Line> {
        let trouble = self.trouble.take().filter(|trouble| trouble.told)?;
        // The next trouble within the interval waits for the summary: what comes and goes is one trouble.
        self.quiet_since = Some(now);
        let time = now.saturating_duration_since(trouble.since).as_secs_f64();
        Some(Line::News(format!(
            "exports succeed again after {time:.1} s and {}",
            count(trouble.failures, "failure")
        )))
    }

    fn refused(
        &mut self,
        begun: Begun,
        outcome: &Outcome<'_>,
        interval: Duration,
        now: Instant,
    ) -> Option<Line> {
        if outcome.refused == 0 || is_quiet(self.refusals_quiet_since, interval, now) {
            return None;
        }
        self.refusals_quiet_since = Some(now);
        Some(Line::Trouble(format!(
            "the destination refused {} of {begun}: {}",
            outcome.refused,
            outcome.message.unwrap_or("it does not say why")
        )))
    }

    /// Ends the interval. `left_out` lines about single exports were not written in it.
    pub(super) fn summary(&mut self, now: Instant, left_out: u64) -> Option<Line> {
        let window = self.window.take()?;
        if window.failures > 0
            && let Some(trouble) = &mut self.trouble
        {
            // The summary tells of it, so its end is worth a line.
            trouble.told = true;
        }
        let mut text = window.text(now);
        if left_out > 0 {
            text.push_str(&format!(
                "; {} about single exports left out",
                count(left_out, "line")
            ));
        }
        Some(match window.failures + window.refused {
            0 => Line::News(text),
            _ => Line::Trouble(text),
        })
    }
}

impl Window {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            exports: 0,
            spans: 0,
            delivered: 0,
            refused: 0,
            filtered: 0,
            failures: 0,
            failed: 0,
            error: None,
            time: Duration::ZERO,
            longest: Duration::ZERO,
        }
    }

    fn add(&mut self, begun: Begun, outcome: &Outcome<'_>, elapsed: Duration) {
        self.exports += 1;
        self.spans += begun.spans;
        self.delivered += outcome.delivered;
        self.refused += outcome.refused;
        self.filtered += outcome.filtered;
        if has_failed(outcome) {
            self.failures += 1;
            self.failed += outcome.failed.total() + outcome.cancelled;
            self.error = Some(why(outcome));
        }
        self.time = self.time.saturating_add(elapsed);
        self.longest = self.longest.max(elapsed);
    }

    fn text(&self, now: Instant) -> String {
        let mut text = format!(
            "{} of {} in the last {:.0} s, {} delivered",
            count(self.exports, "export"),
            count(self.spans, "span"),
            now.saturating_duration_since(self.began).as_secs_f64(),
            self.delivered
        );
        if self.refused > 0 {
            text.push_str(&format!(", {} refused", self.refused));
        }
        if self.filtered > 0 {
            text.push_str(&format!(", {} filtered", self.filtered));
        }
        text.push_str(&format!(
            "; {:.3} s on average, {:.3} s at most",
            // Invariant: a window begins with an export.
            self.time.as_secs_f64() / self.exports as f64,
            self.longest.as_secs_f64()
        ));
        if let Some(error) = &self.error {
            text.push_str(&format!(
                "; {} with {} not delivered, the last one: {error}",
                count(self.failures, "failure"),
                count(self.failed, "span")
            ));
        }
        text
    }
}

impl Line {
    pub(super) fn text(&self) -> &str {
        let (Self::Trouble(text) | Self::News(text) | Self::Detail(text) | Self::Trace(text)) =
            self;
        text
    }
}

impl fmt::Display for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { spans, bytes } = self;
        write!(f, "an export of {} ({bytes} B)", count(*spans, "span"))
    }
}

/// How an export ended.
pub(super) fn ended_line(begun: Begun, outcome: &Outcome<'_>, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let attempts = match outcome.attempts {
        0 | 1 => String::new(),
        attempts => format!(" and {attempts} attempts"),
    };
    let missed = outcome.failed.total();
    match outcome.end {
        _ if has_failed(outcome) && missed < begun.spans && outcome.cancelled == 0 => {
            let why = why(outcome);
            format!("{begun} left {missed} of them after {seconds:.3} s{attempts}: {why}")
        }
        _ if has_failed(outcome) => {
            let why = why(outcome);
            format!("{begun} failed after {seconds:.3} s{attempts}: {why}")
        }
        End::Succeeded => format!("{begun} succeeded in {seconds:.3} s{attempts}"),
        _ => {
            let refused = outcome.refused;
            format!("{begun} succeeded in {seconds:.3} s{attempts}, {refused} refused")
        }
    }
}

/// Whether something was left that was not refused out of a batch that was taken.
fn has_failed(outcome: &Outcome<'_>) -> bool {
    match outcome.end {
        End::Succeeded => false,
        End::Failed(_) | End::Cancelled => true,
        End::Incomplete => outcome.failed.total() > 0,
    }
}

fn why(outcome: &Outcome<'_>) -> String {
    match (outcome.end, outcome.error) {
        (End::Cancelled, _) => "nobody waited for its end, or it panicked".to_owned(),
        (_, Some(error)) => error.chain().to_string(),
        (_, None) => "the exporter does not say what became of every span".to_owned(),
    }
}

fn is_quiet(since: Option<Instant>, interval: Duration, now: Instant) -> bool {
    since.is_some_and(|since| now.saturating_duration_since(since) < interval)
}

fn count(number: u64, of: &str) -> String {
    match number {
        1 => format!("1 {of}"),
        _ => format!("{number} {of}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Attempt;
    use crate::Delivery;
    use crate::Error;
    use crate::Result;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    fn well() -> Result<Delivery> {
        Ok(Delivery {
            accepted: 10,
            attempt: Attempt::one(),
            ..Delivery::default()
        })
    }

    fn down() -> Result<Delivery> {
        Err(Error::unavailable("connection refused")
            .with_attempt(Attempt::default().with_attempts(3)))
    }

    fn refused() -> Result<Delivery> {
        Ok(Delivery {
            accepted: 7,
            refused: 3,
            message: Some("too old".to_owned()),
            ..Delivery::default()
        })
    }

    const BEGUN: Begun = Begun {
        spans: 10,
        bytes: 640,
    };

    fn end(state: &mut State, result: &Result<Delivery>, now: Instant) -> Vec<Line> {
        let outcome = Outcome::of(10, result);
        let lines = state.ended(BEGUN, &outcome, SECOND / 4, MINUTE, now);
        lines.collect()
    }

    /// Lets exports end, one a second, and the summary of each minute be written. Returns all lines.
    fn run(results: impl IntoIterator<Item = Result<Delivery>>) -> Vec<Line> {
        let mut state = State::default();
        let mut now = Instant::now();
        let mut due = None;
        let mut lines = Vec::new();
        for result in results {
            if due.is_some_and(|due| now >= due) {
                lines.extend(state.summary(now, 0));
                due = None;
            }
            due = due.or(Some(now + MINUTE));
            lines.extend(end(&mut state, &result, now));
            now += SECOND;
        }
        lines.extend(state.summary(now, 0));
        lines
    }

    #[test]
    fn an_exporter_that_is_well_costs_a_line_a_minute() {
        let lines = run((0..120).map(|_| well()));
        let line = "60 exports of 600 spans in the last 60 s, 600 delivered; 0.250 s on average, 0.250 s at most";
        assert_eq!(
            lines,
            [Line::News(line.to_owned()), Line::News(line.to_owned())]
        );
    }

    #[test]
    fn the_first_failure_is_told_at_once_and_recovery_as_well() {
        let mut state = State::default();
        let now = Instant::now();
        let first = end(&mut state, &down(), now);
        let line =
            "an export of 10 spans (640 B) failed after 0.250 s and 3 attempts: connection refused";
        assert_eq!(first, [Line::Trouble(line.to_owned())]);
        assert_eq!(end(&mut state, &down(), now + SECOND), []);
        let news = end(&mut state, &well(), now + SECOND * 5);
        let line = "exports succeed again after 5.0 s and 2 failures";
        assert_eq!(news, [Line::News(line.to_owned())]);
        assert_eq!(
            state.summary(now + MINUTE, 0),
            Some(Line::Trouble(
                "3 exports of 30 spans in the last 60 s, 10 delivered; 0.250 s on average, 0.250 s at most; 2 failures \
                 with 20 spans not delivered, the last one: connection refused"
                    .to_owned()
            ))
        );
    }

    #[test]
    fn an_outage_of_an_hour_costs_a_line_a_minute() {
        let mut results = vec![down(); 3600];
        results.push(well());
        let lines = run(results);
        let troubles = lines.iter().filter(|line| matches!(line, Line::Trouble(_)));
        assert_eq!(troubles.count(), 61, "the first one and 60 summaries");
        let news: Vec<_> = lines
            .iter()
            .filter(|line| line.text().contains("again"))
            .collect();
        assert_eq!(news.len(), 1);
        assert!(news[0].text().contains("after 3600.0 s and 3600 failures"));
    }

    #[test]
    fn an_exporter_that_comes_and_goes_costs_at_most_four_lines_a_minute() {
        let minutes = 10;
        let results = (0..60 * minutes).map(|second| match second % 4 {
            0 => down(),
            1 => refused(),
            _ => well(),
        });
        let lines = run(results);
        assert!(lines.len() <= 4 * minutes, "{lines:#?}");
        assert!(lines.len() > minutes, "{lines:#?}");
    }

    #[test]
    fn refused_spans_are_told_with_the_destination_s_words_and_are_no_outage() {
        let lines = run([refused(), refused(), well()]);
        assert_eq!(
            lines,
            [
                Line::Trouble(
                    "the destination refused 3 of an export of 10 spans (640 B): too old".to_owned()
                ),
                Line::Trouble(
                    "3 exports of 30 spans in the last 3 s, 24 delivered, 6 refused; 0.250 s on average, 0.250 s at most"
                        .to_owned()
                ),
            ]
        );
    }

    #[test]
    fn what_is_left_of_a_batch_and_what_nobody_waited_for_are_failures() {
        let half = Ok(Delivery {
            accepted: 4,
            ..Delivery::default()
        });
        let outcome = Outcome::of(10, &half);
        let line = ended_line(BEGUN, &outcome, SECOND);
        assert!(line.contains("left 6 of them after 1.000 s"), "{line}");

        let line = ended_line(BEGUN, &Outcome::cancelled(10), SECOND);
        assert!(
            line.contains("failed after 1.000 s: nobody waited"),
            "{line}"
        );
    }

    #[test]
    fn the_summary_says_how_many_lines_were_left_out() {
        let mut state = State::default();
        let now = Instant::now();
        assert_eq!(state.summary(now, 5), None, "nothing ended");
        end(&mut state, &well(), now);
        let line = state.summary(now + MINUTE, 5).unwrap();
        assert!(
            line.text()
                .ends_with("; 5 lines about single exports left out")
        );
    }

    #[test]
    fn an_interval_that_never_ends_is_told_once() {
        let mut state = State::default();
        let now = Instant::now();
        let mut tell = |result: Result<Delivery>, seconds| {
            let (outcome, now) = (Outcome::of(10, &result), now + SECOND * seconds);
            let lines = state.ended(BEGUN, &outcome, SECOND, Duration::MAX, now);
            lines.count()
        };
        assert_eq!(tell(down(), 0), 1);
        assert_eq!(tell(well(), 1), 1);
        assert_eq!(tell(down(), 2), 0);
        assert_eq!(tell(well(), 3), 0);
    }
}
