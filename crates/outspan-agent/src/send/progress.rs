//! How far it is: a bar on a terminal, else a line every few seconds.

use std::time::Duration;

use tokio::time::Instant;

use crate::screen::BAR_INTERVAL;
use crate::screen::LINE_INTERVAL;
use crate::screen::Screen;
use crate::units::show_bytes;
use crate::units::show_counted;
use crate::units::show_duration;
use crate::units::show_rate;

use super::tally::Tally;

/// Shows how far it is.
#[derive(Debug)]
pub(crate) struct Progress {
    screen: Screen,
    look: Look,
    /// Bytes of all inputs; `None` where one of them has no end that is known.
    total: Option<u64>,
    /// Bytes of input whose spans came to an end.
    done: u64,
    began: Instant,
    trouble: Option<String>,
}

/// Says how progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Bar,
    Lines,
    Nothing,
}

impl Progress {
    /// Begins now. `is_wanted` is false where progress would be written between the spans.
    pub(crate) fn new(mut screen: Screen, total: Option<u64>, is_wanted: bool) -> Self {
        let look = match is_wanted {
            false => Look::Nothing,
            true if screen.show_bar(total) => Look::Bar,
            true => Look::Lines,
        };
        Self {
            screen,
            look,
            total,
            done: 0,
            began: Instant::now(),
            trouble: None,
        }
    }

    /// The screen, whose lines stand above the bar.
    pub(crate) fn screen(&self) -> &Screen {
        &self.screen
    }

    /// How long it has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The time between two calls of [`show`](Self::show).
    pub(crate) fn interval(&self) -> Duration {
        match self.look {
            Look::Bar => BAR_INTERVAL,
            Look::Lines | Look::Nothing => LINE_INTERVAL,
        }
    }

    /// Spans that took this many bytes of input came to an end.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.done += bytes;
    }

    /// Says what holds it up; `None` when nothing does any more.
    pub(crate) fn set_trouble(&mut self, trouble: Option<String>) {
        self.trouble = trouble;
    }

    /// Shows how far it is.
    pub(crate) fn show(&self, tally: &Tally) {
        let mut words = words(tally.delivered, self.done, self.total, self.elapsed());
        if let Some(trouble) = &self.trouble {
            words.push_str(", ");
            words.push_str(trouble);
        }
        match self.look {
            Look::Nothing => {}
            Look::Bar => self.screen.move_bar(self.done, words),
            Look::Lines => self
                .screen
                .say(format_args!("{}: {words}", show_duration(self.elapsed()))),
        }
    }

    /// Says what begins, where no bar shows it.
    pub(crate) fn begin(&self, what: &str) {
        if self.look == Look::Lines {
            self.screen.say(what);
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.screen.clear_bar();
    }
}

/// Says how far it is, in words: spans, bytes, rate, time left.
fn words(delivered: u64, done: u64, total: Option<u64>, elapsed: Duration) -> String {
    let mut words = show_counted(delivered, "span");
    let rate = show_rate(delivered, elapsed);
    match total {
        None => words.push_str(&format!(", {}, {rate}", show_bytes(done))),
        Some(total) => {
            let total_shown = show_bytes(total);
            words.push_str(&format!(", {} of {total_shown}, {rate}", show_bytes(done)));
            if let Some(left) = time_left(done, total, elapsed) {
                words.push_str(&format!(", {left} left"));
            }
        }
    }
    words
}

/// How long the rest takes at the rate so far; nothing is known before a second has passed and something was done.
fn time_left(done: u64, total: u64, elapsed: Duration) -> Option<String> {
    let left = total.checked_sub(done).filter(|left| *left > 0)?;
    if done == 0 || elapsed < Duration::from_secs(1) {
        return None;
    }
    let seconds = elapsed.as_secs_f64() * left as f64 / done as f64;
    let whole = seconds.ceil();
    match whole {
        ..60.0 => Some(format!("{whole} s")),
        // Beyond a year nobody wants to know more exactly.
        ..31_536_000.0 => Some(show_duration(Duration::from_secs(whole as u64))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_tell_spans_bytes_rate_and_time_left() {
        let ten_seconds = Duration::from_secs(10);
        assert_eq!(
            words(5000, 1 << 20, Some(4 << 20), ten_seconds),
            "5,000 spans, 1.0 MiB of 4.0 MiB, 500 spans/s, 30 s left"
        );
        assert_eq!(
            words(5000, 1 << 20, None, ten_seconds),
            "5,000 spans, 1.0 MiB, 500 spans/s"
        );
        assert_eq!(
            words(1, 10, Some(10), ten_seconds),
            "1 span, 10 B of 10 B, 0.1 spans/s"
        );
    }

    #[test]
    fn time_left_is_not_guessed_from_nothing() {
        assert_eq!(time_left(0, 100, Duration::from_secs(10)), None);
        assert_eq!(time_left(1, 100, Duration::from_millis(10)), None);
        assert_eq!(time_left(1, u64::MAX, Duration::from_secs(10)), None);
        let left = time_left(1, 100, Duration::from_secs(2));
        assert_eq!(left.as_deref(), Some("3 min 18 s"));
    }
}
