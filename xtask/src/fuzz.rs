//! Every fuzz target for a while.
//!
//! Runs on the stable toolchain: without a sanitizer, cargo-fuzz needs none of the nightly one's
//! flags but those that `RUSTC_BOOTSTRAP` admits. Our crates forbid `unsafe`, so a sanitizer would
//! look for what cannot be there; panics and differences between two decoders are found without.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::command;
use crate::metadata::Metadata;
use crate::repository;

const VERSION: &str = "0.13.2";

/// An input that takes longer than this counts as a hang. The decoders take microseconds.
const HANG: Duration = Duration::from_secs(10);

/// Most input one target may need: above the 64 KiB at which lengths take three bytes.
const INPUT_BYTES_MAX: usize = 128 * 1024;

/// Lines of a failed target's log that are shown.
const TAIL_LINES: usize = 100;

/// Builds all targets of `fuzz/`, then runs each for the given time from its seeds.
///
/// # Errors
///
/// When cargo-fuzz cannot be installed, a target does not build, finds something, or ran no input.
pub(crate) fn run(each: Duration) -> Result<(), String> {
    let root = repository::root();
    let targets = targets(&root)?;
    let programs = installed(&root)?;
    command::run(cargo_fuzz(&root, &programs)?.args(["build", "--sanitizer", "none"]))?;
    for target in targets {
        run_target(&root, &programs, &target, each)?;
    }
    Ok(())
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

/// The directory of the pinned cargo-fuzz, installed there when it is not yet.
fn installed(root: &Path) -> Result<PathBuf, String> {
    let home = cache(env::var_os("OUTSPAN_CI_CACHE"), env::var_os("HOME"))?;
    let home = home.join(format!("cargo-fuzz-{VERSION}"));
    let programs = home.join("bin");
    if programs.join("cargo-fuzz").exists() {
        return Ok(programs);
    }
    let mut cargo = command::cargo(root);
    cargo.args(["install", "cargo-fuzz", "--locked", "--version", VERSION]);
    // The build is thrown away: it must not fill our own target directory.
    cargo.env_remove("CARGO_TARGET_DIR");
    command::run(cargo.arg("--root").arg(home))?;
    Ok(programs)
}

/// Where tools are kept between runs: `OUTSPAN_CI_CACHE`, or a directory of the user's.
fn cache(chosen: Option<OsString>, home: Option<OsString>) -> Result<PathBuf, String> {
    if let Some(chosen) = chosen.filter(|chosen| !chosen.is_empty()) {
        return Ok(PathBuf::from(chosen));
    }
    let home = home.ok_or("set OUTSPAN_CI_CACHE or HOME: tools need a directory to be kept in")?;
    Ok(Path::new(&home).join(".cache").join("outspan"))
}

fn cargo_fuzz(root: &Path, programs: &Path) -> Result<Command, String> {
    let old = env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(programs.to_owned()).chain(env::split_paths(&old));
    let path = env::join_paths(all).map_err(|error| format!("cannot extend PATH: {error}"))?;
    let mut cargo = command::cargo(root);
    cargo.env("PATH", path).env("RUSTC_BOOTSTRAP", "1");
    cargo.arg("fuzz");
    Ok(cargo)
}

fn run_target(root: &Path, programs: &Path, target: &str, each: Duration) -> Result<(), String> {
    let work = root.join("target").join("fuzz");
    let corpus = work.join("corpus").join(target);
    fs::create_dir_all(&corpus)
        .map_err(|error| format!("cannot create {}: {error}", corpus.display()))?;
    let log = work.join(format!("{target}.log"));

    let mut fuzz = cargo_fuzz(root, programs)?;
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
    fn tools_are_kept_where_asked_or_at_home() {
        let chosen = cache(Some("/kept".into()), Some("/home/a".into()));
        assert_eq!(chosen, Ok(PathBuf::from("/kept")));
        let home = cache(Some("".into()), Some("/home/a".into()));
        assert_eq!(home, Ok(PathBuf::from("/home/a/.cache/outspan")));
        assert!(cache(None, None).is_err());
    }

    #[test]
    fn a_target_that_ran_nothing_has_not_passed() {
        let log = env::temp_dir().join(format!("outspan-xtask-{}.log", std::process::id()));
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
