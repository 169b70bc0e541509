//! The processes of a bench: this very program, told by its arguments what to be.
//!
//! A helper role (the load generator, the receiving end) says first where it stands, answers each line on its standard
//! input with a line of numbers, and stops when the input ends, with a last line of numbers. The program under test (our
//! agent, the peer) is a [`Program`](program::Program), stopped by a signal as in life.

pub(crate) mod load;
pub(crate) mod peer;
pub(crate) mod program;
pub(crate) mod receiver;
pub(crate) mod wire;

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;

/// A process of this program in a helper role. Dropping it without [`Role::finish`] kills it.
#[derive(Debug)]
pub(crate) struct Role {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Role {
    /// Starts the role and returns the first line that it says.
    pub(crate) fn start(
        name: &'static str,
        arguments: &[String],
    ) -> Result<(Self, String), String> {
        let failed = |e: std::io::Error| format!("cannot start the {name}: {e}");
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .arg(name)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut role = Self {
            name,
            child,
            stdin,
            stdout: BufReader::new(stdout),
        };
        let first = role.line()?;
        Ok((role, first))
    }

    /// Asks for the numbers as they are now.
    pub(crate) fn ask(&mut self) -> Result<Vec<u64>, String> {
        let name = self.name;
        let gone = |e: std::io::Error| format!("the {name} has gone: {e}");
        let stdin = self.stdin.as_mut().ok_or("its input is closed")?;
        stdin.write_all(b"now\n").map_err(gone)?;
        numbers(&self.line()?)
    }

    /// Stops it and returns its last numbers.
    pub(crate) fn finish(mut self) -> Result<Vec<u64>, String> {
        drop(self.stdin.take());
        let last = self.line()?;
        let ended = self.child.wait().map_err(|e| e.to_string())?;
        match ended.success() {
            true => numbers(&last),
            false => Err(format!("the {} ended with {ended}: {last}", self.name)),
        }
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let name = self.name;
        self.stdout
            .read_line(&mut line)
            .map_err(|e| format!("no word from the {name}: {e}"))?;
        match line.is_empty() {
            true => Err(format!("the {name} ended early")),
            false => Ok(line.trim_end().to_owned()),
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends a child that may have ended already, and reaps it. Nothing can be done if even that fails.
fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

fn numbers(line: &str) -> Result<Vec<u64>, String> {
    line.split_ascii_whitespace()
        .map(|word| word.parse())
        .collect::<Result<_, _>>()
        .map_err(|_| format!("these are not numbers: {line}"))
}

/// Says a line to the parent, which reads the other end of standard output.
#[expect(clippy::print_stdout, reason = "this is how the parent hears of it")]
fn say(line: &str) {
    println!("{line}");
}

/// Answers each line on standard input with `report`; the receiver ends when standard input does.
fn obey(report: impl Fn() -> String + Send + 'static) -> tokio::sync::oneshot::Receiver<()> {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            match line {
                Ok(_) => say(&report()),
                Err(_) => break,
            }
        }
        // Dropping the sender is the signal.
        drop(stop);
    });
    stopped
}

/// The values of an option, in their order.
fn values<'a>(arguments: &[&'a str], option: &str) -> Vec<&'a str> {
    let options = arguments.iter().zip(arguments.iter().skip(1));
    options
        .filter(|(name, _)| **name == option)
        .map(|(_, value)| *value)
        .collect()
}

/// The number that an option gives, if it is there.
fn number(arguments: &[&str], option: &str) -> Result<Option<u64>, String> {
    match values(arguments, option).first() {
        Some(value) => value
            .parse()
            .map(Some)
            .map_err(|_| format!("{option} {value}: not a number")),
        None => Ok(None),
    }
}
