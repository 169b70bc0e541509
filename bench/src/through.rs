//! One run through a program under test: the load generator before it, the receiving end behind it.

use std::time::Duration;
use std::time::Instant;

use crate::measure::Outcome;
use crate::measure::check;
use crate::roles::load;
use crate::roles::load::Load;
use crate::roles::load::Sent;
use crate::roles::program;
use crate::roles::program::Program;
use crate::roles::program::Which;
use crate::roles::receiver;
use crate::roles::receiver::Arrived;
use crate::roles::receiver::Receiver;
use crate::roles::wire::Coding;
use crate::roles::wire::Protocol;

/// How long a program may take to drain after SIGTERM, unless a run says otherwise.
const DRAIN: Duration = Duration::from_secs(30);

/// What a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) which: Which,
    pub(crate) protocol: Protocol,
    pub(crate) coding: Coding,
    /// Spans a request.
    pub(crate) spans: u64,
    pub(crate) connections: u64,
    /// Requests in flight on a connection.
    pub(crate) in_flight: u64,
    /// Spans a second that are offered; all that go through unless told.
    pub(crate) offered: Option<u64>,
    /// Destinations, which get everything each.
    pub(crate) destinations: usize,
    /// Spans a second that the receiving end takes; all it can unless told.
    pub(crate) taken: Option<u64>,
    /// More arguments for our agent.
    pub(crate) more: &'a [&'a str],
    pub(crate) drain: Duration,
    pub(crate) lengths: Lengths,
}

/// How long a run takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
}

impl Lengths {
    /// 20 s after 2 s of warming up, or what shows that everything works.
    pub(crate) fn new(quick: bool) -> Self {
        match quick {
            true => Self {
                warm_up: Duration::from_millis(500),
                window: Duration::from_secs(2),
            },
            false => Self {
                warm_up: Duration::from_secs(2),
                window: Duration::from_secs(20),
            },
        }
    }
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Through {
    /// Spans that arrived within the window, at all destinations.
    spans: u64,
    window: Duration,
    cpu: Duration,
    destinations: usize,
    /// The peak of the program's resident memory within the window, in bytes.
    pub(crate) peak_rss: u64,
    /// Over the whole run, warming up and draining included.
    pub(crate) sent: Sent,
    pub(crate) arrived: Arrived,
    pub(crate) drained: Duration,
    /// Spans of all attempts within the window.
    attempted: u64,
}

impl<'a> Run<'a> {
    /// 512-span requests over gRPC, uncompressed, as fast as they go.
    pub(crate) fn new(which: Which, lengths: Lengths) -> Self {
        Self {
            which,
            protocol: Protocol::Grpc,
            coding: Coding::None,
            spans: 512,
            connections: 4,
            in_flight: 8,
            offered: None,
            destinations: 1,
            taken: None,
            more: &[],
            drain: DRAIN,
            lengths,
        }
    }

    /// The load that this run is given.
    pub(crate) fn load(&self, to: &str) -> load::Options {
        load::Options {
            to: to.to_owned(),
            protocol: self.protocol,
            coding: self.coding,
            spans: self.spans,
            connections: self.connections,
            in_flight: self.in_flight,
            spans_per_second: self.offered,
        }
    }

    /// The receiving end that this run needs.
    pub(crate) fn receiver(&self) -> Result<Receiver, String> {
        Receiver::start(receiver::Options {
            protocol: self.protocol,
            ports: self.destinations,
            spans_per_second: self.taken,
            ..receiver::Options::default()
        })
    }

    /// The program under test, between the two.
    pub(crate) fn program(&self, receiver: &Receiver) -> Result<Program, String> {
        Program::start(&program::Options {
            which: self.which,
            protocol: self.protocol,
            coding: self.coding,
            to: &receiver.addresses,
            more: self.more,
        })
    }

    /// Runs it, and checks that everything that was acknowledged has arrived everywhere.
    pub(crate) fn measure(&self) -> Result<Through, String> {
        let mut receiver = self.receiver()?;
        let program = self.program(&receiver)?;
        let mut load = Load::start(&self.load(&program.address))?;
        std::thread::sleep(self.lengths.warm_up);

        program.reset_peak()?;
        let attempts_before = load.sent()?.attempts;
        let spans_before = receiver.arrived()?.spans;
        let began = Instant::now();
        let cpu_before = program.cpu()?;
        std::thread::sleep(self.lengths.window);
        let cpu = program.cpu()?.since(&cpu_before);
        let window = began.elapsed();
        let spans = receiver.arrived()?.spans - spans_before;
        let attempted = (load.sent()?.attempts - attempts_before) * self.spans;
        let peak_rss = program.peak_rss()?;

        let sent = load.finish()?;
        let drained = program.terminate(self.drain);
        let drained = drained.map_err(|e| format!("{}: {e}", self.which.as_str()))?;
        let arrived = receiver.finish()?;
        let through = Through {
            spans,
            window,
            cpu,
            destinations: self.destinations,
            peak_rss,
            sent,
            arrived,
            drained,
            attempted,
        };
        through
            .check()
            .map_err(|wrong| format!("{}: {wrong}", self.which.as_str()))?;
        Ok(through)
    }
}

impl Through {
    /// Spans a second that went through, each counted once.
    pub(crate) fn spans_per_second(&self) -> f64 {
        self.spans as f64 / self.destinations as f64 / self.window.as_secs_f64()
    }

    /// Spans a second that were attempted, those that were sent again included.
    pub(crate) fn attempted_per_second(&self) -> f64 {
        self.attempted as f64 / self.window.as_secs_f64()
    }

    /// Microseconds of CPU time for each span that went through, whatever the number of destinations.
    pub(crate) fn cpu_micros(&self) -> f64 {
        let spans = self.spans as f64 / self.destinations as f64;
        self.cpu.as_secs_f64() * 1e6 / spans.max(1.0)
    }

    /// Says what was checked.
    pub(crate) fn summary(&self) -> String {
        let Sent {
            acknowledged,
            later,
            unknown,
            ..
        } = self.sent;
        let Arrived {
            requests,
            spans,
            wire_bytes,
            looked_into,
            wrong,
            ..
        } = self.arrived;
        format!(
            "{acknowledged} spans acknowledged, {spans} arrived in {requests} requests of {:.1} bytes a span on the wire; \
             {later} requests told to come later, {unknown} spans without an answer; {looked_into} looked into, {wrong} \
             wrong; drained in {:.1} s",
            wire_bytes as f64 / spans.max(1) as f64,
            self.drained.as_secs_f64()
        )
    }

    /// Checks that what was acknowledged is what arrived; what got no answer may have arrived once more.
    fn check(&self) -> Outcome {
        let sent = &self.sent;
        check(
            sent.refused == 0 && sent.acknowledged == sent.spans && sent.spans > 0,
            || format!("not everything was acknowledged: {sent:?}"),
        )?;
        for (port, at_port) in self.arrived.at_port.iter().enumerate() {
            let expected = sent.acknowledged..=sent.acknowledged + sent.unknown;
            check(expected.contains(at_port), || {
                format!(
                    "{} spans were acknowledged, {at_port} arrived at destination {}",
                    sent.acknowledged,
                    port + 1
                )
            })?;
        }
        let Arrived {
            looked_into, wrong, ..
        } = self.arrived;
        check(wrong == 0 && looked_into > 0, || {
            format!("{wrong} of {looked_into} spans that arrived are not whole")
        })?;
        check(self.spans > 0, || {
            "nothing arrived within the window".to_owned()
        })
    }
}

/// Spans a second from the load generator straight to the receiving end: what the two leave of the machine.
pub(crate) fn nothing_between(run: &Run<'_>) -> Result<f64, String> {
    let mut receiver = run.receiver()?;
    let to = receiver.addresses.first().ok_or("no address")?;
    let load = Load::start(&run.load(to))?;
    std::thread::sleep(run.lengths.warm_up);
    let before = receiver.arrived()?.spans;
    let began = Instant::now();
    std::thread::sleep(run.lengths.window.min(Duration::from_secs(5)));
    let spans = receiver.arrived()?.spans - before;
    let took = began.elapsed();
    let sent = load.finish()?;
    let arrived = receiver.finish()?;
    check(sent.acknowledged == arrived.spans, || {
        format!(
            "with nothing between, {} of {} spans arrived",
            arrived.spans, sent.acknowledged
        )
    })?;
    Ok(spans as f64 / took.as_secs_f64())
}
