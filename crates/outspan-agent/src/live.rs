//! One line that says how things stand: in its place on a terminal, else a new line now and then.

use std::time::Duration;

use tokio::time::Instant;

use crate::screen::BAR_INTERVAL;
use crate::screen::Screen;
use crate::units::show_duration;

/// Keeps one line up to date.
#[derive(Debug)]
pub(crate) struct Live {
    screen: Screen,
    look: Look,
    /// The time between two lines where it has no place.
    line_interval: Duration,
    began: Instant,
}

/// Says how the line is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// In its place.
    Place,
    /// Again and again.
    Lines,
    Nothing,
}

impl Live {
    /// Begins now, with a place for the line if standard error is a terminal. `is_wanted` is false where the line would
    /// be written between something else.
    pub(crate) fn new(mut screen: Screen, line_interval: Duration, is_wanted: bool) -> Self {
        let look = match is_wanted {
            false => Look::Nothing,
            true if screen.show_bar(None) => Look::Place,
            true => Look::Lines,
        };
        Self {
            screen,
            look,
            line_interval,
            began: Instant::now(),
        }
    }

    /// The screen, whose lines stand above the live one.
    pub(crate) fn screen(&self) -> &Screen {
        &self.screen
    }

    /// The time between two calls of [`show`](Self::show).
    pub(crate) fn interval(&self) -> Duration {
        match self.look {
            Look::Place => BAR_INTERVAL,
            Look::Lines | Look::Nothing => self.line_interval,
        }
    }

    /// How long it has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Shows how things stand.
    pub(crate) fn show(&self, words: String) {
        match self.look {
            Look::Nothing => {}
            Look::Place => self.screen.move_bar(0, words),
            Look::Lines => {
                let elapsed = show_duration(self.elapsed());
                self.screen.say(format_args!("{elapsed}: {words}"));
            }
        }
    }

    /// Takes the line away.
    pub(crate) fn end(&self) {
        self.screen.clear_bar();
    }
}
