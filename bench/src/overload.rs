//! Ten times the load that the backend takes, for a minute: memory stays within its bound, callers are told to come later,
//! and what was acknowledged arrives.

use std::time::Duration;

use crate::forward::mib;
use crate::measure::Outcome;
use crate::measure::check;
use crate::measure::note;
use crate::measure::target_at_most;
use crate::roles::program::Which;
use crate::through::Lengths;
use crate::through::Run;

/// Spans a second that the receiving end takes.
const TAKEN: u64 = 50_000;

/// What the agent may hold.
const MEMORY_MIB: f64 = 128.0;

pub(crate) fn run(quick: bool) -> Outcome {
    let lengths = Lengths {
        warm_up: Duration::from_millis(500),
        window: Duration::from_secs(if quick { 5 } else { 60 }),
    };
    let run = Run {
        connections: 64,
        in_flight: 16,
        offered: Some(TAKEN * 10),
        taken: Some(TAKEN),
        more: &["--memory", "128MiB", "--shutdown-timeout", "120s"],
        drain: Duration::from_secs(130),
        ..Run::new(Which::Ours, lengths)
    };
    let through = run.measure()?;
    note(&through.summary());
    let sent = &through.sent;
    note(&format!(
        "attempted {:.0} spans/s, taken {:.0} spans/s; peak RSS {:.1} MiB, with a bound of {MEMORY_MIB:.0} MiB on what is held",
        through.attempted_per_second(),
        through.spans_per_second(),
        mib(through.peak_rss),
    ));
    note(&format!(
        "{} of {} requests were told to come later (UNAVAILABLE), {} of them when (RetryInfo)",
        sent.later, sent.attempts, sent.later_with_wait
    ));
    check(sent.later > 0, || {
        "nobody was told to come later".to_owned()
    })?;
    check(sent.later == sent.later_with_wait, || {
        format!(
            "{} refusals do not say when to come again",
            sent.later - sent.later_with_wait
        )
    })?;
    target_at_most("overload/rss", "MiB", MEMORY_MIB, mib(through.peak_rss));
    Ok(())
}
