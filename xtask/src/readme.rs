//! The commands of README.md, run as a reader would type them, so that they stay true.

use std::fs;
use std::process::Command;
use std::process::Stdio;

use crate::command;
use crate::repository;

/// The languages a block of commands may be marked with.
const SHELL: [&str; 4] = ["sh", "bash", "shell", "console"];

/// Runs the one command of README.md that starts with the given words.
///
/// # Errors
///
/// When there is no such command or more than one, or when it fails.
pub(crate) fn run(prefix: &str) -> Result<(), String> {
    let root = repository::root();
    let readme = fs::read_to_string(root.join("README.md"))
        .map_err(|error| format!("cannot read README.md: {error}"))?;
    let line = the_one(&commands(&readme), prefix)?;
    let mut shell = Command::new("sh");
    shell.current_dir(root).stdin(Stdio::null());
    command::run(shell.args(["-c", &line]))
}

/// The one among the commands that starts with the given words.
fn the_one(commands: &[String], prefix: &str) -> Result<String, String> {
    let mut found: Vec<&String> = commands
        .iter()
        .filter(|command| command.starts_with(prefix))
        .collect();
    found.dedup();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(format!("no command of README.md starts with `{prefix}`")),
        _ => Err(format!(
            "several commands of README.md start with `{prefix}`: {found:?}"
        )),
    }
}

/// The commands in the shell blocks of a Markdown text, a prompt removed, broken lines joined.
fn commands(markdown: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut inside = false;
    let mut in_shell = false;
    let mut broken = String::new();
    for line in markdown.lines().map(str::trim) {
        if let Some(language) = line.strip_prefix("```") {
            in_shell = !inside && SHELL.contains(&language.trim());
            inside = !inside;
            continue;
        }
        if !in_shell || line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("$ ").unwrap_or(line);
        if let Some(start) = line.strip_suffix('\\') {
            broken.push_str(start);
            continue;
        }
        broken.push_str(line);
        commands.push(std::mem::take(&mut broken));
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = "\
# Name

Run `cargo test --nothing` never.

```sh
# a comment
cargo run --release -- send \\
    file
$ cargo test --workspace
```

```toml
cargo test --in-toml
```

```console
cargo bench
```
";

    #[test]
    fn commands_come_from_shell_blocks_alone() {
        assert_eq!(
            commands(README),
            [
                "cargo run --release -- send file",
                "cargo test --workspace",
                "cargo bench"
            ]
        );
    }

    #[test]
    fn a_command_that_is_gone_is_an_error() {
        let commands = commands(README);
        assert_eq!(
            the_one(&commands, "cargo test").as_deref(),
            Ok("cargo test --workspace")
        );
        assert!(the_one(&commands, "cargo doc").is_err());
    }

    #[test]
    fn a_prefix_that_fits_two_commands_is_an_error() {
        let commands = commands(README);
        assert!(the_one(&commands, "cargo").is_err());
    }
}
