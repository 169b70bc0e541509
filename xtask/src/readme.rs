//! The commands of README.md, run as a reader would type them, so that they stay true.

use std::fs;
use std::process::Command;
use std::process::Stdio;

use crate::command;
use crate::repository;

/// The languages a block of commands may be marked with.
const SHELL: [&str; 4] = ["sh", "bash", "shell", "console"];

/// Runs the first command of README.md that starts with the given words.
///
/// # Errors
///
/// When there is no such command, or when it fails.
pub(crate) fn run(prefix: &str) -> Result<(), String> {
    let root = repository::root();
    let readme = fs::read_to_string(root.join("README.md"))
        .map_err(|error| format!("cannot read README.md: {error}"))?;
    let line = first(&commands(&readme), prefix)?;
    let mut shell = Command::new("sh");
    shell.current_dir(root).stdin(Stdio::null());
    command::forget_own_package(&mut shell);
    command::run(shell.args(["-c", &line]))
}

/// The first of the commands that starts with the given words.
fn first(commands: &[String], prefix: &str) -> Result<String, String> {
    let found = commands.iter().find(|command| command.starts_with(prefix));
    let found = found.ok_or_else(|| format!("no command of README.md starts with `{prefix}`"))?;
    Ok(found.clone())
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
        let test = first(&commands, "cargo test");
        assert_eq!(test.as_deref(), Ok("cargo test --workspace"));
        assert!(first(&commands, "cargo doc").is_err());
    }

    #[test]
    fn the_first_of_several_is_meant() {
        let any = first(&commands(README), "cargo");
        assert_eq!(any.as_deref(), Ok("cargo run --release -- send file"));
    }
}
