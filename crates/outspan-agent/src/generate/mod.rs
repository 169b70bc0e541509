//! `outspan generate`: the shop as a load tool, written straight in the wire format.

mod latency;
mod load;
mod session;
mod stream;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use outspan::Deadline;
use outspan::Error;
use outspan::Exporter;
use outspan::Runtime;
use tokio::sync::watch;

use crate::arguments::DestinationArguments;
use crate::arguments::GenerateArguments;
use crate::arguments::LocalArguments;
use crate::destination::Destination;
use crate::destination::exporter;
use crate::destination::exporter::Look;
use crate::live::Live;
use crate::screen::LINE_INTERVAL;
use crate::screen::Screen;
use crate::screen::Tone;
use crate::screen::start_log;
use crate::send;
use crate::send::Notices;
use crate::signals::Signals;
use crate::units::show_duration;

use self::load::Load;
use self::session::Session;
use self::stream::Patterns;

/// The exit status for wrong usage or configuration.
const USAGE: u8 = 2;

/// How long to send when neither a time nor a number of spans is given.
const DURATION: Duration = Duration::from_secs(10);

/// Runs the command.
pub(crate) fn run(generate: GenerateArguments) -> ExitCode {
    let screen = Screen::new(generate.color, generate.quiet);
    let status = Plan::new(&generate).and_then(|plan| {
        let live = Live::new(screen.clone(), LINE_INTERVAL, true);
        start_log(live.screen(), generate.verbose);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("outspan-generate")
            .build()
            .map_err(|e| format!("cannot start: {e}"))?;
        runtime.block_on(plan.carry_out(&generate, live))
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
    exporter: Exporter,
    news: watch::Receiver<Option<Error>>,
    exports: usize,
    patterns: Arc<Patterns>,
    random: Rng,
}

impl Plan {
    fn new(generate: &GenerateArguments) -> Result<Self, String> {
        let destination = Destination::parse(&generate.to).map_err(|e| format!("--to: {e}"))?;
        if !matches!(destination, Destination::Otlp(_)) {
            return Err(
                "--to: a load needs an OTLP receiver: grpc://, grpcs://, http:// or https://"
                    .into(),
            );
        }
        let options = DestinationArguments {
            otlp: generate.otlp.clone(),
            local: LocalArguments::default(),
        };
        exporter::check_options(&destination, &options)?;
        let look = Look {
            colours: generate.color,
            trees_bytes: None,
            trees_max_wait: None,
        };
        let (notices, news) = Notices::new();
        let mut exporter = exporter::build(&destination, &options, look, &Runtime::shared())?;
        if let Some(timeout) = exporter::attempt_timeout(&destination, &options) {
            exporter = exporter.timeout(timeout);
        }
        let exporter = notices.around(exporter).retry(send::retry(&options.otlp));
        let mut random = generate.traces.seed.map_or_else(Rng::new, Rng::with_seed);
        let patterns = Patterns::new(&generate.traces, &mut random)?;
        Ok(Self {
            exports: exporter::concurrency(&destination, &options),
            destination,
            exporter,
            news,
            patterns: Arc::new(patterns),
            random,
        })
    }

    async fn carry_out(mut self, generate: &GenerateArguments, live: Live) -> Result<u8, String> {
        let mut signals = Signals::listen().map_err(|e| format!("cannot start: {e}"))?;
        let load = Load {
            workers: generate.load.workers,
            spans: generate.load.spans,
            rate: generate.load.rate.0,
            batch_spans: generate.load.batch_spans,
        };
        let duration = match (generate.load.duration, load.spans) {
            (None, None) => Some(DURATION),
            (duration, _) => duration,
        };
        let until = duration.map_or_else(Deadline::never, Deadline::after);
        let limit = duration.map(|length| format!(" for {}", show_duration(length)));
        live.screen().say(format_args!(
            "sending to {}{}",
            self.destination,
            limit.unwrap_or_default()
        ));
        let batches = load.start(&self.patterns, &mut self.random);
        let mut session = Session::new(
            self.destination,
            self.exporter,
            self.news,
            batches,
            self.exports,
            until,
            live,
        );
        session.send(&mut signals).await;
        session.close().await;
        Ok(session.report())
    }
}
