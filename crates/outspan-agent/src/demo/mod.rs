//! `outspan demo`: a shop, the library and an agent in one program, so that everything can be seen at once.

mod sales;
mod services;
mod summary;
mod window;

use std::io;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use clap::Parser;
use fastrand::Rng;
use outspan::Deadline;
use outspan::Runtime;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;

use crate::agent::Agent;
use crate::agent::Settings;
use crate::arguments::Arguments;
use crate::arguments::Command;
use crate::arguments::DemoArguments;
use crate::destination::BROKEN_PIPE;
use crate::destination::ReaderGone;
use crate::live::Live;
use crate::screen::Screen;
use crate::screen::Tone;
use crate::screen::start_log;
use crate::shop::Shop;
use crate::signals::Signal;
use crate::signals::Signals;
use crate::units::show_counted;

use self::sales::Made;
use self::sales::Plan;
use self::sales::Sales;
use self::services::Addresses;
use self::services::Services;
use self::summary::Numbers;
use self::summary::ShownNumbers;
use self::window::Chooser;
use self::window::Shown;

/// The exit status for wrong usage or configuration.
const USAGE: u8 = 2;

/// How many of a hundred traces have errors: some in every few seconds.
const ERRORS_PERCENT: f64 = 8.0;

/// The time between two lines that say how things stand, where they cannot stand in one place.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// How long the library, and then the agent, may take to deliver what they hold.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Bytes for everything the agent holds.
const MEMORY: &str = "64MiB";

/// Runs the command.
pub(crate) fn run(arguments: DemoArguments) -> ExitCode {
    // Somebody else's lines on the same terminal know nothing of ours.
    let shows_spans_here = arguments.to.iter().any(|url| url.starts_with("stdout:"));
    let live = Live::new(
        Screen::new(arguments.color, arguments.quiet),
        LINE_INTERVAL,
        !(shows_spans_here && io::stdout().is_terminal()),
    );
    start_log(live.screen(), 0);
    let screen = live.screen().clone();
    let status = carry_out(&arguments, live).unwrap_or_else(|message| {
        screen.clear_bar();
        screen.tell(Tone::Error, message);
        USAGE
    });
    ExitCode::from(status)
}

fn carry_out(arguments: &DemoArguments, live: Live) -> Result<u8, String> {
    let failed = |e: io::Error| format!("cannot start: {e}");
    let reader_gone = ReaderGone::new();
    let mut settings = agent_settings(&arguments.to, &reader_gone)?;
    let shown = Arc::new(Shown::new(arguments.trees == 0));
    let has_window = arguments.to.is_empty();
    if let Some(target) = settings.targets.first_mut()
        && has_window
    {
        let shown = Arc::clone(&shown);
        target.exporter = window::exporter(live.screen(), arguments.color, shown, &reader_gone)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("outspan-agent")
        .build()
        .map_err(failed)?;
    let status = runtime.block_on(async {
        let mut signals = Signals::listen().map_err(failed)?;
        let agent = Agent::start(settings).await?;
        let services = Arc::new(Services::start(&addresses(&agent)?)?);
        let demo = Demo {
            live,
            agent,
            services,
            made: Arc::default(),
            shown,
            has_window,
            reader_gone,
            sold_for: OnceLock::new(),
        };
        demo.introduce();
        demo.sell(arguments, &mut signals).await.map_err(failed)?;
        demo.close(&mut signals).await;
        Ok(demo.report())
    });
    // After a second signal the services may still be waiting for the agent.
    runtime.shutdown_background();
    status
}

/// What an agent would be told on its command line, so that every default is the same.
fn agent_settings(to: &[String], reader_gone: &ReaderGone) -> Result<Settings, String> {
    let listen = ["grpc://127.0.0.1:0", "http://127.0.0.1:0"];
    let mut line = vec!["outspan", "agent", "--memory", MEMORY];
    line.extend(listen.iter().flat_map(|address| ["--listen", *address]));
    match to.is_empty() {
        true => line.extend(["--to", "stdout:"]),
        false => line.extend(to.iter().flat_map(|url| ["--to", url.as_str()])),
    }
    let arguments = Arguments::try_parse_from(line).map_err(|e| e.to_string())?;
    match &arguments.command {
        Command::Agent(agent) => Settings::new(agent, reader_gone, &Runtime::shared()),
        _ => Err("the agent's command line is not the agent's, please report this bug".into()),
    }
}

/// Where the agent listens.
fn addresses(agent: &Agent) -> Result<Addresses, String> {
    let find = |scheme: &str| {
        let mut all = agent.addresses().iter();
        let host = all.find_map(|address| address.strip_prefix(scheme));
        let host = host.ok_or("the agent does not listen, please report this bug")?;
        Ok::<_, String>(format!("http://{host}"))
    };
    Ok(Addresses {
        grpc: find("grpc://")?,
        http: find("http://")?,
    })
}

/// Everything that runs.
#[derive(Debug)]
struct Demo {
    live: Live,
    agent: Agent,
    services: Arc<Services>,
    made: Arc<Made>,
    shown: Arc<Shown>,
    has_window: bool,
    reader_gone: ReaderGone,
    /// How long spans were made, once that is over.
    sold_for: OnceLock<Duration>,
}

impl Demo {
    fn introduce(&self) {
        let screen = self.live.screen();
        let addresses = self.agent.addresses().join(" and ");
        screen.say(format_args!(
            "7 services make spans and send them to an agent on {addresses}"
        ));
        if !self.has_window {
            for to in self.agent.status().destinations {
                screen.say(format_args!("the agent passes them on to {}", to.name));
            }
        }
    }

    /// Makes spans until enough are made, or a signal comes.
    async fn sell(&self, arguments: &DemoArguments, signals: &mut Signals) -> io::Result<()> {
        let random = arguments.seed.map_or_else(Rng::new, Rng::with_seed);
        let plan = Plan {
            spans: (arguments.spans > 0).then_some(arguments.spans),
            rate: arguments.rate.0,
        };
        let mut sales = Sales::start(
            Shop::new(random, ERRORS_PERCENT),
            Arc::clone(&self.services),
            plan,
            Arc::clone(&self.made),
            Chooser::new(arguments.trees),
            Arc::clone(&self.shown),
        )?;
        tokio::select! {
            () = sales.ended() => {}
            () = self.reader_gone.wait() => {}
            () = self.keep_line() => {}
            signal = signals.next() => self.tell_stop(signal),
        }
        sales.stop(STOP_LIMIT).await;
        self.sold_for.get_or_init(|| self.live.elapsed());
        Ok(())
    }

    fn tell_stop(&self, signal: Signal) {
        let open = show_counted(self.numbers().library.open(), "span");
        self.live.screen().say(format_args!(
            "{signal}: no more visits, {open} on the way; once more stops at once"
        ));
    }

    /// Has the library and then the agent deliver what they hold, unless another signal comes.
    async fn close(&self, signals: &mut Signals) {
        let again = tokio::select! {
            () = self.deliver() => None,
            () = self.keep_line() => None,
            signal = signals.next() => Some(signal),
        };
        if let Some(again) = again {
            let screen = self.live.screen();
            screen.tell(
                Tone::Warning,
                format_args!("{again} again: stopping at once"),
            );
            self.agent.abort().await;
        }
        self.live.end();
    }

    async fn deliver(&self) {
        let services = Arc::clone(&self.services);
        let stop = tokio::task::spawn_blocking(move || services.stop(STOP_LIMIT));
        let troubles = stop
            .await
            .unwrap_or_else(|error| vec![format!("stopping the services: {error}")]);
        for trouble in troubles {
            self.live.screen().tell(Tone::Warning, trouble);
        }
        let until = Deadline::after(STOP_LIMIT).named("time for stopping");
        self.agent.stop(until).await;
    }

    /// Keeps the live line up to date, for ever.
    async fn keep_line(&self) {
        let interval = self.live.interval();
        let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.live.show(self.numbers().line());
        }
    }

    fn numbers(&self) -> Numbers {
        let status = self.agent.status();
        let shown = ShownNumbers {
            spans: self.shown.spans(),
            traces: self.shown.traces(),
            is_all: self.shown.is_all(),
        };
        Numbers {
            elapsed: self
                .sold_for
                .get()
                .copied()
                .unwrap_or_else(|| self.live.elapsed()),
            made: self.made.spans(),
            traces: self.made.traces(),
            library: self.services.account(),
            received: status.accepted(),
            invalid: status.refused(),
            destinations: status.destinations,
            shown: self.has_window.then_some(shown),
        }
    }

    /// Says what became of everything, and returns the exit status.
    fn report(&self) -> u8 {
        if self.reader_gone.is_gone() {
            return BROKEN_PIPE;
        }
        let numbers = self.numbers();
        let screen = self.live.screen();
        let is_complete = numbers.is_complete();
        for line in numbers.summary() {
            match is_complete {
                true => screen.say(line),
                // What was lost is told in any case.
                false => screen.write(format_args!("{line}\n")),
            }
        }
        if !is_complete {
            for to in &numbers.destinations {
                if let Some(trouble) = &to.trouble {
                    let words = format!("{}: {trouble}", to.name);
                    screen.tell(Tone::Error, words);
                }
            }
        }
        u8::from(!is_complete)
    }
}
