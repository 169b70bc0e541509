//! Every fuzz target for a while.
//!
//! Runs on the stable toolchain: without a sanitizer, cargo-fuzz needs none of the nightly one's
//! flags but those that `RUSTC_BOOTSTRAP` admits. Our crates forbid `unsafe`, so a sanitizer would
//! look for what cannot be there; panics and differences between two decoders are found without.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::command;
use crate::metadata::Metadata;
use crate::repository;
use crate::tool::Tool;

const FUZZ: Tool = Tool {
    name: "cargo-fuzz",
    version: "0.13.2",
};

/// How many targets run at the same time; each keeps one core busy.
const AT_ONCE: usize = 2;

/// An input that takes longer than this counts as a hang. The decoders take microseconds.
const HANG: Duration = Duration::from_secs(10);

/// Most input one target may need: above the 64 KiB at which lengths take three bytes.
const INPUT_BYTES_MAX: usize = 128 * 1024;

/// Lines of a failed target's log that are shown.
const TAIL_LINES: usize = 100;

/// Builds all targets of `fuzz/`, then runs each for the given time, if one is given, from its seeds.
///
/// # Errors
///
/// When cargo-fuzz cannot be installed, a target does not build, finds something, or ran no input.
pub(crate) fn run(each: Option<Duration>) -> Result<(), String> {
    let root = repository::root();
    let targets = targets(&root)?;
    command::run(cargo_fuzz(&root)?.args(["build", "--sanitizer", "none"]))?;
    let Some(each) = each else {
        return Ok(());
    };
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), String> {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            run_target(&root, target, each)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|worker| {
            let panicked = |_| Err("a worker panicked".to_owned());
            worker.join().unwrap_or_else(panicked)
        });
        // All of them are waited for, before the first error is returned.
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

/// The names of the targets, from the manifest of `fuzz/`.
fn targets(root: &Path) -> Result<Vec<String>, String> {
    let metadata = Metadata::of_manifest(root, "fuzz/Cargo.toml")?;
    let targets: Vec<String> = metadata
        .packages
        .into_iter()
        .flat_map(|package| package.targets)
        .filter(|target| target.kind.iter().any(|kind| kind == "bin"))
        .map(|target| target.name)
        .collect();
    if targets.is_empty() {
        return Err("fuzz/Cargo.toml has no target".to_owned());
    }
    Ok(targets)
}

fn cargo_fuzz(root: &Path) -> Result<Command, String> {
    let mut cargo = FUZZ.cargo(root)?;
    cargo.env("RUSTC_BOOTSTRAP", "1");
    Ok(cargo)
}

fn run_target(root: &Path, target: &str, each: Duration) -> Result<(), String> {
    let work = root.join("target").join("fuzz");
    let corpus = work.join("corpus").join(target);
    fs::create_dir_all(&corpus)
        .map_err(|error| format!("cannot create {}: {error}", corpus.display()))?;
    let log = work.join(format!("{target}.log"));

    let mut fuzz = cargo_fuzz(root)?;
    fuzz.args(["run", "--sanitizer", "none", target])
        .arg(corpus);
    let seeds = root.join("fuzz").join("seeds").join(target);
    if seeds.is_dir() {
        fuzz.arg(seeds);
    }
    fuzz.arg("--");
    fuzz.arg(format!("-max_total_time={}", each.as_secs()));
    fuzz.arg(format!("-timeout={}", HANG.as_secs()));
    fuzz.arg(format!("-max_len={INPUT_BYTES_MAX}"));
    fuzz.args(["-rss_limit_mb=2048", "-print_final_stats=1"]);
    report(target, run_into(&mut fuzz, &log), &log)
}

/// Runs a program with all it writes going into a file.
fn run_into(command: &mut Command, log: &Path) -> Result<(), String> {
    let file = |error| format!("cannot write {}: {error}", log.display());
    let output = File::create(log).map_err(file)?;
    let errors = output.try_clone().map_err(file)?;
    command::run(command.stdout(output).stderr(errors))
}

/// Says how many inputs a target ran, or shows the end of what it wrote.
fn report(target: &str, ran: Result<(), String>, log: &Path) -> Result<(), String> {
    let text = fs::read(log).map_err(|error| format!("cannot read {}: {error}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let inputs = inputs(&text);
    if ran.is_ok() && inputs > 0 {
        eprintln!("fuzz target {target}: {inputs} inputs, nothing found");
        return Ok(());
    }
    let lines: Vec<&str> = text.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)) {
        eprintln!("  {line}");
    }
    ran.map_err(|error| format!("fuzz target {target}: {error}"))?;
    Err(format!("fuzz target {target} ran no input"))
}

/// The number of inputs that libFuzzer says it ran.
fn inputs(log: &str) -> u64 {
    log.lines()
        .filter_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .filter_map(|number| number.trim().parse().ok())
        .next_back()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_ran_nothing_has_not_passed() {
        let log = std::env::temp_dir().join(format!("outspan-xtask-{}.log", std::process::id()));
        let reported = |text: &str| {
            fs::write(&log, text).expect("a temporary file");
            report("validate", Ok(()), &log)
        };
        let full = reported("INFO: x\nstat::number_of_executed_units: 4096\n");
        let none = reported("stat::number_of_executed_units: 0\n");
        let silent = reported("");
        fs::remove_file(&log).expect("the temporary file is ours");
        assert_eq!(full, Ok(()));
        assert!(none.is_err());
        assert!(silent.is_err());
    }
}
