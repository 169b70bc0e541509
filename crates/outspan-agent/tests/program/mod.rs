//! Runs the program, bounded in time.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// How long anything may take here, on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Panics with everything that was said unless the status is as expected.
    #[track_caller]
    pub(crate) fn expect_status(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{self:#?}");
        self
    }

    /// Panics with everything that was said unless standard error holds each of the texts.
    #[track_caller]
    pub(crate) fn expect_said(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(
                self.stderr.contains(text),
                "missing: {text}\n{}",
                self.stderr
            );
        }
        self
    }
}

/// A run that is still going on.
pub(crate) struct Running {
    child: Child,
    stdout: Output,
    stderr: Output,
}

/// Runs `outspan` to its end, with nothing on standard input.
pub(crate) fn outspan(arguments: &[&str]) -> Ran {
    Running::start(arguments, &[]).finish()
}

impl Running {
    /// Starts `outspan` with variables for its environment.
    pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_with_output(arguments, environment, Stdio::piped())
    }

    /// Starts `outspan` with a standard output of its own, which nobody here reads.
    pub(crate) fn start_with_output(
        arguments: &[&str],
        environment: &[(&str, &str)],
        output: Stdio,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outspan"));
        command.args(arguments).envs(environment.iter().copied());
        Self::spawn_piped(command, output)
    }

    /// Starts `outspan` from a shell that does something first, such as setting a limit.
    #[cfg(unix)]
    pub(crate) fn start_after(first: &str, arguments: &[&str], output: Stdio) -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{first}; exec \"$@\""), "sh"])
            .arg(env!("CARGO_BIN_EXE_outspan"))
            .args(arguments);
        Self::spawn_piped(command, output)
    }

    fn spawn_piped(mut command: Command, output: Stdio) -> Self {
        command
            .env_remove("NO_COLOR")
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take();
        let stderr = child.stderr.take().unwrap();
        Self {
            child,
            stdout: match stdout {
                Some(stdout) => Output::of(stdout),
                None => Output::of(io::empty()),
            },
            stderr: Output::of(stderr),
        }
    }

    /// What standard error has said, as far as it was waited for.
    pub(crate) fn said(&self) -> &str {
        &self.stderr.text
    }

    /// Takes standard input; dropping it ends the program's input.
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Starts a command that was made elsewhere. Outputs that are not pipes are not read.
    pub(crate) fn of_command(command: &mut Command) -> Self {
        command.env_remove("NO_COLOR").env_remove("RUST_LOG");
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        Self {
            stdout: stdout.map_or_else(|| Output::of(io::empty()), Output::of),
            stderr: stderr.map_or_else(|| Output::of(io::empty()), Output::of),
            child,
        }
    }

    /// Waits for the end of the program, even if another process holds its outputs; returns its status.
    #[track_caller]
    pub(crate) fn wait_for_exit(&mut self) -> Option<i32> {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            // Sleeps: the standard library has no wait with a limit.
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the program did not end");
    }

    /// Sends a signal to this child and nobody else.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(kill.unwrap().success());
    }

    /// Waits until standard error says something that holds the text.
    #[track_caller]
    pub(crate) fn wait_until_said(&mut self, text: &str) {
        self.stderr.wait_for(text);
    }

    /// Waits until standard output shows something that holds the text.
    #[track_caller]
    pub(crate) fn wait_until_shown(&mut self, text: &str) {
        self.stdout.wait_for(text);
    }

    /// Reads standard output no more; it is closed with the next line.
    pub(crate) fn stop_reading(&mut self) {
        self.stdout = Output::of(io::empty());
    }

    /// Waits for the end while standard input stays open.
    #[track_caller]
    pub(crate) fn finish_with(self, stdin: ChildStdin) -> Ran {
        let ran = self.finish();
        drop(stdin);
        ran
    }

    /// Waits for the end. Standard input ends here, unless it was taken.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Ran {
        drop(self.child.stdin.take());
        self.stderr.wait_for_end();
        self.stdout.wait_for_end();
        // Both outputs are closed, so the program has ended or is about to.
        let status = self.child.wait().unwrap();
        Ran {
            status: status.code(),
            stdout: std::mem::take(&mut self.stdout.text),
            stderr: std::mem::take(&mut self.stderr.text),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves no program behind; one that ended is no error here.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a program writes, line by line.
struct Output {
    lines: mpsc::Receiver<String>,
    text: String,
}

impl Output {
    fn of(source: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                let text = String::from_utf8_lossy(&line).into_owned();
                if sender.send(text).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Self {
            lines,
            text: String::new(),
        }
    }

    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + LIMIT;
        while !self.text.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.text.push_str(&line),
                Err(e) => panic!("{e} before \"{text}\" came, only: {}", self.text),
            }
        }
    }

    #[track_caller]
    fn wait_for_end(&mut self) {
        let end = Instant::now() + LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.text.push_str(&line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(e) => panic!("{e} before the program ended; it wrote: {}", self.text),
            }
        }
    }
}
