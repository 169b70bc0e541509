//! What people see on standard error: messages, a progress bar, log lines; one writer for all of them.
//!
//! Standard error may be gone (a closed terminal, a closed pipe), and nothing here fails or panics because of that.

mod background;

use std::fmt;
use std::fmt::Arguments;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::time::Duration;

use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;
use tracing::Event;
use tracing::Level;
use tracing::Metadata;
use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::FormatEvent;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use self::background::Background;
use crate::arguments::When;

/// How long the last lines may take to be written when the program ends.
const FINISH_LIMIT: Duration = Duration::from_secs(1);

/// Writes messages to standard error, above the progress bar where there is one.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    bar: ProgressBar,
    has_colours: bool,
    is_quiet: bool,
    /// Writes in place of the caller, if it was asked for.
    background: Option<Background>,
}

/// Says what a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Something failed.
    Error,
    /// Something is odd.
    Warning,
    /// Something to try.
    Advice,
}

impl Screen {
    /// Makes a screen without a progress bar.
    pub(crate) fn new(colours: When, is_quiet: bool) -> Self {
        Self {
            bar: ProgressBar::hidden(),
            has_colours: wants_colours(colours, io::stderr().is_terminal()),
            is_quiet,
            background: None,
        }
    }

    /// Writes everything on a thread of its own from now on. For programs that have to go on while nobody reads standard
    /// error: lines beyond a bound are dropped then, and counted.
    pub(crate) fn in_background(mut self) -> Self {
        let bar = self.bar.clone();
        // Without a thread the caller writes.
        self.background = Background::start(move |line| write_line(&bar, line)).ok();
        self
    }

    /// Waits until everything is written, for a second at most.
    pub(crate) fn finish(&self) {
        if let Some(background) = &self.background {
            background.finish(FINISH_LIMIT);
        }
    }

    /// Writes a message that is shown in any case.
    pub(crate) fn tell(&self, tone: Tone, text: impl fmt::Display) {
        let (word, colour) = match tone {
            Tone::Error => ("error", "\x1b[1;31m"),
            Tone::Warning => ("warning", "\x1b[1;33m"),
            Tone::Advice => ("advice", "\x1b[1;36m"),
        };
        match self.has_colours {
            true => self.write(format_args!("{colour}{word}:\x1b[0m {text}\n")),
            false => self.write(format_args!("{word}: {text}\n")),
        }
    }

    /// Writes a line that `--quiet` leaves out.
    pub(crate) fn say(&self, text: impl fmt::Display) {
        if !self.is_quiet {
            self.write(format_args!("{text}\n"));
        }
    }

    /// Writes text as it is, shown in any case.
    pub(crate) fn write(&self, text: Arguments<'_>) {
        self.write_text(&text.to_string());
    }

    fn write_text(&self, text: &str) {
        match &self.background {
            Some(background) => background.add(text),
            None => write_line(&self.bar, text),
        }
    }

    /// Shows a progress bar from now on, if standard error is a terminal and nobody asked for quiet.
    ///
    /// `length` is in bytes of input; without it there is no bar, only the words.
    pub(crate) fn show_bar(&mut self, length: Option<u64>) -> bool {
        if self.is_quiet || !io::stderr().is_terminal() {
            return false;
        }
        self.bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr_with_hz(10));
        self.bar
            .set_style(bar_style(length.is_some(), self.has_colours));
        true
    }

    /// Moves the bar.
    pub(crate) fn move_bar(&self, position: u64, words: String) {
        self.bar.set_position(position);
        self.bar.set_message(words);
        self.bar.tick();
    }

    /// Does something while the bar steps aside, such as writing to the same terminal.
    pub(crate) fn step_aside<R>(&self, work: impl FnOnce() -> R) -> R {
        self.bar.suspend(work)
    }

    /// Takes the bar away.
    pub(crate) fn clear_bar(&self) {
        self.bar.finish_and_clear();
    }
}

fn bar_style(has_length: bool, has_colours: bool) -> ProgressStyle {
    let template = match (has_length, has_colours) {
        (true, true) => "{bar:24.cyan/blue} {percent:>3}% {msg}",
        (true, false) => "{bar:24} {percent:>3}% {msg}",
        // Cut at the edge of the terminal, so that it stays one line.
        (false, true) => "{spinner:.cyan} {wide_msg}",
        (false, false) => "{spinner} {wide_msg}",
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

/// Whether to use colours: as asked, else on a terminal unless `NO_COLOR` is set (<https://no-color.org>).
pub(crate) fn wants_colours(when: When, is_terminal: bool) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
            is_terminal && !forbidden && !is_dumb
        }
    }
}

/// Starts logging to the screen; `verbose` counts how often it was asked for.
pub(crate) fn start_log(screen: &Screen, verbose: u8) {
    let level = match verbose {
        // What goes wrong with spans is told in words of our own; this is the rest, such as an unreadable certificate.
        0 => LevelFilter::WARN,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let is_quiet = screen.is_quiet;
    let is_shown = filter_fn(move |about| {
        let most = match verbose {
            // The frames of HTTP/2 are details.
            1 if !about.target().starts_with("outspan") => LevelFilter::INFO,
            _ => level,
        };
        *about.level() <= most || !is_quiet && is_news_of_destinations(about)
    });
    let log = tracing_subscriber::fmt()
        .with_max_level(level.max(LevelFilter::INFO))
        .with_ansi(false)
        .with_writer(screen.clone());
    // Nobody else sets one in this program, so this cannot fail.
    drop(match verbose {
        0 => log.event_format(Plain).finish().with(is_shown).try_init(),
        _ => log.finish().with(is_shown).try_init(),
    });
}

/// Whether an event tells that a destination works again; whoever was told of the trouble wants to know.
fn is_news_of_destinations(about: &Metadata<'_>) -> bool {
    *about.level() == Level::INFO
        && about
            .module_path()
            .is_some_and(|path| path.starts_with("outspan::"))
}

/// Shows an event like a message of the program: how bad it is, and the words.
#[derive(Debug)]
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match *event.metadata().level() {
            Level::ERROR => writer.write_str("error: ")?,
            Level::WARN => writer.write_str("warning: ")?,
            _ => {}
        }
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = Output<'a>;

    fn make_writer(&'a self) -> Output<'a> {
        Output(self)
    }
}

/// Writes log lines to a screen.
#[derive(Debug)]
pub(crate) struct Output<'a>(&'a Screen);

impl Write for Output<'_> {
    /// Never fails: the subscriber would report an error to standard error, and panic because that is gone.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.write_text(&String::from_utf8_lossy(text));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes to standard error while the bar steps aside.
fn write_line(bar: &ProgressBar, text: &str) {
    // With standard error gone there is nobody left to report to.
    drop(bar.suspend(|| io::stderr().lock().write_all(text.as_bytes())));
}

/// How often the bar is redrawn.
pub(crate) const BAR_INTERVAL: Duration = Duration::from_millis(100);

/// How often a plain line says how far it is.
pub(crate) const LINE_INTERVAL: Duration = Duration::from_secs(5);
