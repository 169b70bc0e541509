//! `outspan send`: reads span files and delivers them.

mod advice;
mod input;
mod intake;
mod notice;
mod pace;
mod progress;
mod session;
mod tally;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use outspan::Deadline;
use outspan::Exporter;
use outspan::Retry;
use outspan::Runtime;
use tokio::sync::watch;

use crate::arguments::FileFormat;
use crate::arguments::OtlpArguments;
use crate::arguments::SendArguments;
use crate::destination::Destination;
use crate::destination::exporter;
use crate::destination::exporter::Look;
use crate::screen::Screen;
use crate::screen::Tone;
use crate::screen::start_log;
use crate::signals::Signals;
use crate::units::show_bytes;

pub(crate) use self::advice::advice;
pub(crate) use self::advice::is_final;
pub(crate) use self::input::Input;
pub(crate) use self::input::Inputs;
use self::intake::BatchLimits;
use self::intake::Intake;
use self::intake::Reading;
pub(crate) use self::notice::Notices;
pub(crate) use self::pace::Pace;
use self::progress::Progress;
use self::session::Session;
pub(crate) use self::tally::Outcome;
pub(crate) use self::tally::Tally;
pub(crate) use self::tally::printable;

/// The exit status for wrong usage or configuration.
const USAGE: u8 = 2;

/// The first wait before trying again. Somebody is looking on, so it is shorter than a service's.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Runs the command.
pub(crate) fn run(send: SendArguments) -> ExitCode {
    let screen = Screen::new(send.color, send.quiet);
    start_log(&screen, send.verbose);
    let status = Plan::new(&send).and_then(|plan| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("cannot start: {e}"))?;
        runtime.block_on(plan.carry_out(&send, screen.clone()))
    });
    let status = status.unwrap_or_else(|message| {
        screen.tell(Tone::Error, message);
        USAGE
    });
    ExitCode::from(status)
}

/// Everything that can be wrong was checked, and nothing was sent.
struct Plan {
    destination: Destination,
    inputs: Inputs,
    exporter: Exporter,
    news: watch::Receiver<Option<outspan::Error>>,
}

impl Plan {
    fn new(send: &SendArguments) -> Result<Self, String> {
        let destination = Destination::parse(&send.to).map_err(|e| format!("--to: {e}"))?;
        exporter::check_options(&destination, &send.options)?;
        let inputs = Inputs::check(&send.files)?;
        if let Destination::File(file) = &destination
            && inputs.contains(&file.path)
        {
            return Err(format!(
                "{destination} is read and written at the same time"
            ));
        }
        let (notices, news) = Notices::new();
        let look = Look {
            colours: send.color,
            trees_bytes: None,
            trees_max_wait: None,
        };
        let mut exporter = exporter::build(&destination, &send.options, look, &Runtime::shared())?;
        if let Some(timeout) = exporter::attempt_timeout(&destination, &send.options) {
            exporter = notices
                .around(exporter.timeout(timeout))
                .retry(retry(&send.options.otlp));
        }
        Ok(Self {
            destination,
            inputs,
            exporter,
            news,
        })
    }

    async fn carry_out(self, send: &SendArguments, screen: Screen) -> Result<u8, String> {
        let failed = |e: std::io::Error| format!("cannot start: {e}");
        let mut signals = Signals::listen().map_err(failed)?;
        let exports = exporter::concurrency(&self.destination, &send.options);
        let pace = Pace::new(send.delivery.rate);
        let limits = BatchLimits {
            spans: pace.batch_spans(send.delivery.batch_spans as usize),
            bytes: send.delivery.batch_bytes,
        };
        let from = self.inputs.shown();
        let progress = self.progress(screen, &from);
        let reading = Reading {
            format: send.format.map(FileFormat::to_read),
            is_strict: send.strict,
        };
        let intake = Intake::start(self.inputs.inputs, limits, exports, reading);
        let until = send
            .delivery
            .deadline
            .map_or_else(Deadline::never, |length| {
                Deadline::after(length).named("--deadline")
            });
        let mut session = Session::new(
            self.destination,
            self.exporter,
            self.news,
            intake.map_err(failed)?,
            progress,
            session::Options {
                exports,
                until,
                retries: send.options.otlp.retries != Some(0),
            },
            pace,
        );
        session.deliver(&mut signals).await;
        session.close().await;
        Ok(session.report(&from))
    }

    fn progress(&self, screen: Screen, from: &str) -> Progress {
        let shows_spans_here = match self.destination {
            Destination::Stdout(_) => std::io::stdout().is_terminal(),
            _ => false,
        };
        let progress = Progress::new(screen, self.inputs.bytes, !shows_spans_here);
        let size = self
            .inputs
            .bytes
            .map(|bytes| format!(" ({})", show_bytes(bytes)));
        let size = size.unwrap_or_default();
        progress.begin(&format!("sending {from}{size} to {}", self.destination));
        progress
    }
}

/// The waits between attempts.
pub(crate) fn retry(options: &OtlpArguments) -> Retry {
    let retry = Retry::default()
        .initial_interval(FIRST_WAIT)
        .max_retries(options.retries);
    match options.max_elapsed {
        Some(elapsed) => retry.max_elapsed(elapsed),
        None => retry,
    }
}
