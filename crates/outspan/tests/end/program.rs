//! Programs of their own: this binary again, with one test that is the program.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Says in the environment what the program does.
const PROGRAM: &str = "OUTSPAN_TEST_PROGRAM";

/// What a program prints when its spans have ended and it waits for the word to end itself.
const READY: &str = "ready to end";

/// How long a program may take that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The name of the program that this process is; none in the tests themselves.
pub(crate) fn name() -> Option<String> {
    std::env::var(PROGRAM).ok()
}

/// In a program: says that it is ready, and waits for the word of the test.
pub(crate) fn wait_for_the_word() {
    say_ready();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

pub(crate) fn say_ready() {
    say(READY);
}

/// Prints a line, past the test harness.
pub(crate) fn say(text: impl std::fmt::Display) {
    let mut output = std::io::stdout();
    writeln!(output, "{text}").unwrap();
    output.flush().unwrap();
}

/// A program that is running.
pub(crate) struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    before: String,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// From the word to its end.
    pub(crate) took: Duration,
}

impl Program {
    /// Starts `test` as the program `name`, with no OTEL variables but these.
    pub(crate) fn start(test: &str, name: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "--nocapture", test]);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("OTEL_") {
                command.env_remove(name);
            }
        }
        command.env(PROGRAM, name).envs(variables.iter().copied());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            stdout,
            before: String::new(),
        }
    }

    /// Waits until the program is ready to end.
    pub(crate) fn ready(mut self) -> Self {
        while !self.before.trim_end().ends_with(READY) {
            let read = self.stdout.read_line(&mut self.before).unwrap();
            assert!(read > 0, "it ended before: {}", self.before);
        }
        self
    }

    /// Gives the word, and waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        let began = Instant::now();
        let mut stdin = self.child.stdin.take().unwrap();
        // A program that does not wait for the word may have ended.
        writeln!(stdin).unwrap_or_default();
        self.wait(began)
    }

    /// Sends a signal, and waits for the end.
    pub(crate) fn signal(self, signal: &str) -> Ended {
        let began = Instant::now();
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
        self.wait(began)
    }

    fn wait(mut self, began: Instant) -> Ended {
        let mut stderr = self.child.stderr.take().unwrap();
        let (done, is_done) = mpsc::channel();
        let reader = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            done.send(()).unwrap();
            text
        });
        let id = self.child.id();
        if is_done.recv_timeout(PATIENCE).is_err() {
            self.child.kill().unwrap();
            panic!("program {id} does not end");
        }
        let mut stdout = self.before;
        self.stdout.read_to_string(&mut stdout).unwrap();
        let status = self.child.wait().unwrap();
        let ended = Ended {
            stdout,
            stderr: reader.join().unwrap(),
            took: began.elapsed(),
        };
        assert!(status.success(), "{status}: {ended:#?}");
        assert!(ended.stdout.contains("1 passed"), "{ended:#?}");
        ended
    }
}

impl Ended {
    /// The lines on standard error that are ours.
    pub(crate) fn told(&self) -> Vec<&str> {
        let lines = self.stderr.lines();
        lines.filter(|line| line.starts_with("outspan: ")).collect()
    }

    /// How many spans the program says were not delivered. It says so once, or not at all.
    pub(crate) fn lost(&self) -> usize {
        let lines = self.told();
        let losses: Vec<_> = lines
            .iter()
            .filter(|line| line.contains("spans were not delivered"))
            .collect();
        assert!(losses.len() <= 1, "told twice: {self:#?}");
        let number = losses
            .first()
            .and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        assert_eq!(number.is_some(), !losses.is_empty(), "{self:#?}");
        number.unwrap_or(0)
    }
}
