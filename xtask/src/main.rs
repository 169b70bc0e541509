//! Checks and chores of the Outspan repository: `cargo xtask`.
//!
//! Each subcommand is one module. What CI runs is in `.ci/run`, which calls these.

mod api;
mod command;
mod conformance;
mod dist;
mod exceptions;
mod features;
mod finding;
mod fuzz;
mod lint;
mod metadata;
mod minimal;
mod openssl;
mod readme;
mod repository;
mod rust;
mod tool;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  lint [PART...]         everything CI asks of the source; parts: text, manifests,
                         dependencies, fmt, clippy, docs (all of them by default)
  features [--no-tests]  checks each crate with none of its features, each one alone and all of
                         them, and tests a few of these choices; --no-tests only checks
  features --no-checks   only tests
  fuzz [--seconds N]     runs every fuzz target for N seconds (20 by default)
  fuzz --no-run          only builds them
  conformance [OUTPUT]   holds docs/conformance.md to the tests that it names; with the output of
                         `cargo test` in a file, also to their having run
  api [--keep]           holds the public API of the libraries to xtask/api; --keep writes it there
  dist [--features LIST] packs the program with manual, completions and unit: a tarball, a
                         Debian package and their checksums, in target/dist
  dist --environment     prints the variables with which `cargo build --release` makes that program,
                         as lines for a shell
  minimal-versions       compiles the crates with the oldest direct dependencies they allow
  readme PREFIX          runs the first command of README.md that starts with PREFIX
";

const FUZZ_SECONDS_DEFAULT: u64 = 20;

/// What the command line asks for.
#[derive(Debug, PartialEq)]
enum Task {
    Lint(Vec<lint::Part>),
    Features(features::Work),
    Fuzz { each: Option<Duration> },
    Conformance { output: Option<String> },
    Api { keep: bool },
    Dist { features: String },
    DistEnvironment,
    MinimalVersions,
    Readme { prefix: String },
    Help,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let task = match parse(&arguments) {
        Ok(task) => task,
        Err(message) => {
            eprintln!("{message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match perform(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Result<Task, String> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] | ["help" | "--help" | "-h"] => Ok(Task::Help),
        ["lint"] => Ok(Task::Lint(lint::Part::ALL.to_vec())),
        ["lint", parts @ ..] => parts
            .iter()
            .map(|name| lint::Part::named(name))
            .collect::<Result<_, _>>()
            .map(Task::Lint),
        ["features"] => Ok(Task::Features(features::Work::Both)),
        ["features", "--no-tests"] => Ok(Task::Features(features::Work::Check)),
        ["features", "--no-checks"] => Ok(Task::Features(features::Work::Test)),
        ["fuzz"] => Ok(Task::Fuzz {
            each: Some(Duration::from_secs(FUZZ_SECONDS_DEFAULT)),
        }),
        ["fuzz", "--no-run"] => Ok(Task::Fuzz { each: None }),
        ["fuzz", "--seconds", seconds] => fuzz_seconds(seconds),
        ["conformance"] => Ok(Task::Conformance { output: None }),
        ["conformance", output] => Ok(Task::Conformance {
            output: Some((*output).to_owned()),
        }),
        ["api"] => Ok(Task::Api { keep: false }),
        ["api", "--keep"] => Ok(Task::Api { keep: true }),
        ["dist"] => Ok(Task::Dist {
            features: String::new(),
        }),
        ["dist", "--environment"] => Ok(Task::DistEnvironment),
        ["dist", "--features", features] => Ok(Task::Dist {
            features: (*features).to_owned(),
        }),
        ["minimal-versions"] => Ok(Task::MinimalVersions),
        ["readme", prefix] => Ok(Task::Readme {
            prefix: (*prefix).to_owned(),
        }),
        _ => Err(format!(
            "cannot read the arguments `{}`",
            arguments.join(" ")
        )),
    }
}

fn fuzz_seconds(text: &str) -> Result<Task, String> {
    // Zero would mean "without end" to libFuzzer.
    match text.parse() {
        Ok(seconds) if seconds > 0 => Ok(Task::Fuzz {
            each: Some(Duration::from_secs(seconds)),
        }),
        _ => Err(format!("`{text}` is not a number of seconds above zero")),
    }
}

fn perform(task: Task) -> Result<(), String> {
    match task {
        Task::Lint(parts) => lint::run(&parts),
        Task::Features(work) => features::run(work),
        Task::Fuzz { each } => fuzz::run(each),
        Task::Conformance { output } => conformance::run(output.as_deref()),
        Task::Api { keep } => api::run(keep),
        Task::Dist { features } => dist::run(&features),
        Task::DistEnvironment => dist::print_environment(),
        Task::MinimalVersions => minimal::run(),
        Task::Readme { prefix } => readme::run(&prefix),
        Task::Help => {
            eprint!("{USAGE}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Task, String> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&arguments)
    }

    #[test]
    fn lint_without_parts_means_all_of_them() {
        assert_eq!(parsed("lint"), Ok(Task::Lint(lint::Part::ALL.to_vec())));
        assert_eq!(
            parsed("lint text docs"),
            Ok(Task::Lint(vec![lint::Part::Text, lint::Part::Docs]))
        );
    }

    #[test]
    fn what_is_misspelt_is_refused_by_name() {
        let message = parsed("lint tekst").unwrap_err();
        assert!(message.contains("tekst"), "{message}");
        let message = parsed("lnit").unwrap_err();
        assert!(message.contains("lnit"), "{message}");
    }

    #[test]
    fn a_fuzz_run_without_an_end_is_refused() {
        assert_eq!(
            parsed("fuzz --seconds 5"),
            Ok(Task::Fuzz {
                each: Some(Duration::from_secs(5))
            })
        );
        assert_eq!(parsed("fuzz --no-run"), Ok(Task::Fuzz { each: None }));
        assert!(parsed("fuzz --seconds 0").is_err());
        assert!(parsed("fuzz --seconds soon").is_err());
    }
}
