//! Our agent and the peer on the same work: spans a second that go through, CPU for each, and memory.

use crate::measure::Outcome;
use crate::measure::less_is_better;
use crate::measure::more_is_better;
use crate::measure::note;
use crate::measure::target_at_least;
use crate::measure::target_at_most;
use crate::roles::program::Which;
use crate::roles::wire::Coding;
use crate::roles::wire::Protocol;
use crate::through::Lengths;
use crate::through::Run;
use crate::through::Through;
use crate::through::nothing_between;

/// Spans a request in `small`, its connections, and the requests in flight on each.
const SMALL: (u64, u64, u64) = (1, 64, 4);

/// 512-span requests one way: protocol and compression are the same on both sides of the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) coding: Coding,
    /// Spans a second.
    pub(crate) rate_target: f64,
    /// Microseconds a span and MiB, where the case has such targets.
    pub(crate) cpu_target: Option<f64>,
    pub(crate) rss_target: Option<f64>,
}

pub(crate) const CASES: [Case; 4] = [
    Case {
        name: "forward",
        protocol: Protocol::Grpc,
        coding: Coding::None,
        rate_target: 600_000.0,
        cpu_target: Some(1.1),
        rss_target: Some(64.0),
    },
    Case {
        name: "forward-gzip",
        protocol: Protocol::Grpc,
        coding: Coding::Gzip,
        rate_target: 150_000.0,
        cpu_target: None,
        rss_target: None,
    },
    Case {
        name: "forward-zstd",
        protocol: Protocol::Grpc,
        coding: Coding::Zstd,
        rate_target: 300_000.0,
        cpu_target: None,
        rss_target: None,
    },
    Case {
        name: "forward-http",
        protocol: Protocol::Http,
        coding: Coding::None,
        rate_target: 500_000.0,
        cpu_target: None,
        rss_target: None,
    },
];

/// Runs one of the cases.
pub(crate) fn run(case: &Case, quick: bool) -> Outcome {
    let lengths = Lengths::new(quick);
    let run = |which| Run {
        protocol: case.protocol,
        coding: case.coding,
        ..Run::new(which, lengths)
    };
    let (ours, peer) = both(&run)?;

    let name = |figure: &str| format!("{}/{figure}", case.name);
    let rate = name("spans-per-second");
    let (our_rate, peer_rate) = (ours.spans_per_second(), peer.spans_per_second());
    more_is_better(&rate, "spans/s", our_rate, peer_rate);
    target_at_least(&rate, "spans/s", case.rate_target, our_rate);
    let cpu = name("cpu-per-span");
    less_is_better(&cpu, "us", ours.cpu_micros(), peer.cpu_micros());
    if let Some(target) = case.cpu_target {
        target_at_most(&cpu, "us", target, ours.cpu_micros());
    }
    let rss = name("rss");
    let (our_rss, peer_rss) = (mib(ours.peak_rss), mib(peer.peak_rss));
    less_is_better(&rss, "MiB", our_rss, peer_rss);
    if let Some(target) = case.rss_target {
        target_at_most(&rss, "MiB", target, our_rss);
    }
    Ok(())
}

/// Runs requests of one span from many connections.
pub(crate) fn run_small(quick: bool) -> Outcome {
    let lengths = Lengths::new(quick);
    let (spans, connections, in_flight) = SMALL;
    let run = |which| Run {
        spans,
        connections,
        in_flight,
        ..Run::new(which, lengths)
    };
    let (ours, peer) = both(&run)?;
    let name = "small/requests-per-second";
    let (ours, peer) = (ours.spans_per_second(), peer.spans_per_second());
    more_is_better(name, "requests/s", ours, peer);
    target_at_least(name, "requests/s", 60_000.0, ours);
    Ok(())
}

/// Runs both sides, and says what went on.
fn both(run: &impl Fn(Which) -> Run<'static>) -> Result<(Through, Through), String> {
    let ours = run(Which::Ours);
    note(&format!(
        "{} spans a request, {} connections, {} requests in flight on each; with nothing between, {:.0} spans/s",
        ours.spans,
        ours.connections,
        ours.in_flight,
        nothing_between(&ours)?
    ));
    let ours = ours.measure()?;
    note(&format!("ours: {}", ours.summary()));
    let peer = run(Which::Peer).measure()?;
    note(&format!("peer: {}", peer.summary()));
    Ok((ours, peer))
}

/// Bytes as MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
