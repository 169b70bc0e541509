//! CPU for each span, whatever the rate, the connections and the destinations: a table.

use crate::measure::Outcome;
use crate::measure::note;
use crate::measure::table;
use crate::roles::program::Which;
use crate::through::Lengths;
use crate::through::Run;
use crate::through::Through;

/// Spans a second where the rate is not what varies.
const RATE: u64 = 100_000;

pub(crate) fn run(quick: bool) -> Outcome {
    let base = Run::new(Which::Ours, Lengths::new(quick));
    let rates = [Some(1_000), Some(10_000), Some(100_000), None];
    let connections = [1, 10, 100, 1_000];
    let destinations = [1, 2, 4, 8];

    let mut rows = Vec::new();
    for offered in rates {
        let run = Run {
            offered,
            ..base.clone()
        };
        rows.push(row("rate", &run)?);
    }
    for connections in connections {
        let run = Run {
            offered: Some(RATE),
            connections,
            // Each connection keeps the pace alone, where it is not the only one.
            in_flight: if connections < 10 { 8 } else { 1 },
            ..base.clone()
        };
        rows.push(row("connections", &run)?);
    }
    for destinations in destinations {
        let run = Run {
            offered: Some(RATE),
            destinations,
            ..base.clone()
        };
        rows.push(row("destinations", &run)?);
    }
    table(
        &[
            "varies",
            "offered spans/s",
            "connections",
            "destinations",
            "spans/s through",
            "us/span",
            "peak RSS, MiB",
        ],
        &rows,
    );
    Ok(())
}

fn row(varies: &str, run: &Run<'_>) -> Result<Vec<String>, String> {
    let through = run.measure()?;
    note(&format!("{varies}: {}", through.summary()));
    let offered = run.offered.map(|rate| rate.to_string());
    Ok(vec![
        varies.to_owned(),
        offered.unwrap_or("max".to_owned()),
        run.connections.to_string(),
        run.destinations.to_string(),
        format!("{:.0}", through.spans_per_second()),
        format!("{:.2}", through.cpu_micros()),
        rss(&through),
    ])
}

fn rss(through: &Through) -> String {
    format!("{:.1}", crate::forward::mib(through.peak_rss))
}
