//! Timing, and the lines that are printed.

use std::time::Duration;
use std::time::Instant;

/// What a bench comes to: its lines are printed, or it says what was wrong.
pub(crate) type Outcome = Result<(), String>;

/// Prints a case where less is better.
#[expect(
    clippy::print_stdout,
    reason = "the lines are what this program is for"
)]
pub(crate) fn less_is_better(name: &str, unit: &str, ours: f64, peer: f64) {
    let ratio = peer / ours.max(f64::MIN_POSITIVE);
    println!("case {name}: ours {ours:.2} {unit} peer {peer:.2} {unit} ratio {ratio:.2}");
}

/// Prints a case where more is better.
#[expect(
    clippy::print_stdout,
    reason = "the lines are what this program is for"
)]
pub(crate) fn more_is_better(name: &str, unit: &str, ours: f64, peer: f64) {
    let ratio = ours / peer.max(f64::MIN_POSITIVE);
    println!("case {name}: ours {ours:.2} {unit} peer {peer:.2} {unit} ratio {ratio:.2}");
}

/// Prints a target that a figure of ours should reach.
pub(crate) fn target_at_least(name: &str, unit: &str, target: f64, ours: f64) {
    print_target(name, unit, target, ours >= target);
}

/// Prints a target that a figure of ours should not exceed.
pub(crate) fn target_at_most(name: &str, unit: &str, target: f64, ours: f64) {
    print_target(name, unit, target, ours <= target);
}

#[expect(
    clippy::print_stdout,
    reason = "the lines are what this program is for"
)]
fn print_target(name: &str, unit: &str, target: f64, is_met: bool) {
    let met = if is_met { "met" } else { "missed" };
    println!("target {name}: {target} {unit} {met}");
}

/// Prints a table in Markdown.
#[expect(
    clippy::print_stdout,
    reason = "the lines are what this program is for"
)]
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) {
    println!("\n| {} |", heads.join(" | "));
    println!("|{}", "---|".repeat(heads.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    println!();
}

/// Prints what was checked, or anything else worth knowing beside the cases.
#[expect(
    clippy::print_stdout,
    reason = "the lines are what this program is for"
)]
pub(crate) fn note(text: &str) {
    println!("  {text}");
}

/// Fails a bench whose work was not right.
pub(crate) fn check(is_right: bool, what: impl FnOnce() -> String) -> Outcome {
    match is_right {
        true => Ok(()),
        false => Err(format!("wrong: {}", what())),
    }
}

/// Runs both sides in turn for `rounds`, and returns the median time of each: what disturbs the machine disturbs both.
pub(crate) fn in_turn(
    rounds: usize,
    mut ours: impl FnMut() -> Duration,
    mut peer: impl FnMut() -> Duration,
) -> (Duration, Duration) {
    let mut our_times = Vec::with_capacity(rounds);
    let mut peer_times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        our_times.push(ours());
        peer_times.push(peer());
    }
    (
        quantile(&mut our_times, 0.5),
        quantile(&mut peer_times, 0.5),
    )
}

/// Times one call.
pub(crate) fn time<R>(work: impl FnOnce() -> R) -> Duration {
    let began = Instant::now();
    std::hint::black_box(work());
    began.elapsed()
}

/// The value below which `part` of the values lie.
pub(crate) fn quantile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let index = (last as f64 * part).round() as usize;
    times.get(index).copied().unwrap_or_default()
}

/// Nanoseconds for each of `count`.
pub(crate) fn nanos_each(time: Duration, count: usize) -> f64 {
    time.as_nanos() as f64 / count as f64
}

/// The CPU time that all threads of this process but the calling one have used, those that have ended included; user and
/// system, in steps of 10 ms (Linux).
pub(crate) fn cpu_time_of_others() -> Result<Duration, String> {
    let all = cpu_time("/proc/self/stat")?;
    let own = cpu_time("/proc/thread-self/stat")?;
    Ok(all.saturating_sub(own))
}

/// The CPU time in a `stat` file of `/proc`, user and system, in steps of 10 ms (Linux).
pub(crate) fn cpu_time(path: &str) -> Result<Duration, String> {
    // Ticks are 1/100 s on every Linux that Rust runs on (`USER_HZ`).
    const TICK: Duration = Duration::from_millis(10);

    let text = std::fs::read_to_string(path).map_err(|e| format!("no CPU time in {path}: {e}"))?;
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next().and_then(|field| field.parse::<u32>().ok());
    match (ticks(), ticks()) {
        (Some(user), Some(system)) => Ok(TICK * (user + system)),
        _ => Err(format!("no CPU time in {path}")),
    }
}
