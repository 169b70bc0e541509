//! Other programs, run from the root of the repository.

use std::env;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// Starts the description of a `cargo` call, by the same cargo that runs us.
pub(crate) fn cargo(root: &Path) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root).stdin(Stdio::null());
    forget_own_package(&mut command);
    command
}

/// Takes away the variables by which `cargo run` tells this program about its own package.
///
/// Some build scripts (that of `ring`, for one) run again when these change, so a cargo that is started from here would build
/// anew what another one built a moment before, and everything that depends on it.
pub(crate) fn forget_own_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_package) {
            command.env_remove(name);
        }
    }
}

/// Whether cargo sets a variable for the package that it runs (The Cargo Book, "Environment variables Cargo sets for crates").
fn is_of_package(name: &str) -> bool {
    [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_CRATE_",
        "CARGO_BIN_",
    ]
    .iter()
    .any(|start| name.starts_with(start))
        || name == "CARGO_PRIMARY_PACKAGE"
}

/// Runs a program with its output shown, and wants it to succeed.
///
/// # Errors
///
/// Names the command line when it cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let line = line_of(command);
    eprintln!("$ {line}");
    let status = command
        .status()
        .map_err(|error| format!("cannot start `{line}`: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("`{line}` failed: {status}"))
}

/// Runs programs at the same time, and shows what each wrote, one after the other in the order given. Wants all to succeed.
///
/// # Errors
///
/// Names the first command line that cannot be started or does not succeed; all of them have ended then.
pub(crate) fn run_at_once(commands: Vec<Command>) -> Result<(), String> {
    let logs = env::temp_dir().join(format!("outspan-xtask-{}-logs", std::process::id()));
    let problem = |error| format!("cannot use {}: {error}", logs.display());
    fs::create_dir_all(&logs).map_err(problem)?;
    let mut running = Vec::new();
    for (number, mut command) in commands.into_iter().enumerate() {
        let line = line_of(&command);
        // One file for both streams, so that they stay in the order in which they were written.
        let log = logs.join(number.to_string());
        let output = File::create(&log).map_err(problem)?;
        let errors = output.try_clone().map_err(problem)?;
        let child = command.stdout(output).stderr(errors).spawn();
        running.push((line, log, child));
    }
    let wait = |(line, log, child): (String, _, io::Result<Child>)| {
        let status = child.and_then(|mut child| child.wait());
        let written = fs::read(log).map_err(problem)?;
        eprintln!("$ {line}");
        let shown = io::stdout().write_all(&written);
        shown.map_err(|error| format!("cannot show what `{line}` wrote: {error}"))?;
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("`{line}` failed: {status}")),
            Err(error) => Err(format!("cannot run `{line}`: {error}")),
        }
    };
    let ended: Vec<_> = running.into_iter().map(wait).collect();
    fs::remove_dir_all(&logs).map_err(problem)?;
    ended.into_iter().collect()
}

/// Runs a program and returns what it wrote to its standard output.
///
/// # Errors
///
/// Names the command line when it cannot be started or does not succeed; what it wrote to its
/// standard error was shown.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let line = line_of(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start `{line}`: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{line}` failed: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("`{line}` wrote something not UTF-8"))
}

/// The command as a person would type it: the program by its name, then its arguments.
pub(crate) fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let mut line = name.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_an_error_with_its_line() {
        let message = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert!(message.contains("sh -c exit 3"), "{message}");
        assert!(message.contains('3'), "{message}");
    }

    #[test]
    fn a_missing_program_is_an_error_with_its_name() {
        let message = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(message.contains("no-such-program-here"), "{message}");
    }

    #[test]
    fn programs_that_run_at_once_all_end_before_the_first_error() {
        let folder = env::temp_dir().join(format!("outspan-xtask-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a directory");
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).current_dir(&folder);
            command
        };
        let waits = "for i in $(seq 500); do [ -e a ] && touch b && exit; sleep 0.01; done; exit 1";
        let message = run_at_once(vec![
            shell("exit 3"),
            shell(waits),
            shell("exit 4"),
            shell("touch a"),
        ]);
        assert!(message.unwrap_err().contains("sh -c exit 3"));
        let all_well = run_at_once(vec![shell("true"), shell("true")]);
        let met = folder.join("b").exists();
        std::fs::remove_dir_all(&folder).expect("the directory is ours");
        assert_eq!(all_well, Ok(()));
        assert!(met, "they ran one after the other");
    }

    #[test]
    fn variables_of_this_package_are_told_apart() {
        for name in ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR", "CARGO_BIN_NAME"] {
            assert!(is_of_package(name), "{name}");
        }
        for name in [
            "CARGO",
            "CARGO_HOME",
            "CARGO_INCREMENTAL",
            "CARGO_TERM_COLOR",
        ] {
            assert!(!is_of_package(name), "{name}");
        }
    }

    #[test]
    fn output_returns_what_was_written() {
        let written = output(Command::new("sh").args(["-c", "echo spans"]));
        assert_eq!(written.as_deref(), Ok("spans\n"));
        assert!(output(Command::new("sh").args(["-c", "exit 1"])).is_err());
    }
}
