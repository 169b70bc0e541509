//! Runs the program, bounded in time.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
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
    stdout: mpsc::Receiver<String>,
    stderr: mpsc::Receiver<String>,
    said: String,
}

/// Runs `outspan send` to its end, with nothing on standard input.
pub(crate) fn send(arguments: &[&str]) -> Ran {
    start(arguments, &[]).finish()
}

/// Runs `outspan send` to its end, with `input` on standard input.
pub(crate) fn send_stdin(arguments: &[&str], input: &[u8]) -> Ran {
    let mut running = start(arguments, &[]);
    let mut stdin = running.stdin();
    let input = input.to_vec();
    // On a thread, because nobody may read before the program has written.
    let writer = thread::spawn(move || stdin.write_all(&input));
    let ran = running.finish();
    // The program may have ended before it read everything.
    drop(writer.join().unwrap());
    ran
}

/// Starts `outspan send` with variables for its environment.
pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outspan"));
    command
        .arg("send")
        .args(arguments)
        .env_remove("NO_COLOR")
        .env_remove("RUST_LOG")
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Running::of(command)
}

/// Runs `outspan` itself to its end.
pub(crate) fn outspan(arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outspan"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Running::of(command).finish()
}

impl Running {
    fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let stderr = child.stderr.take().unwrap();
        Self {
            child,
            stdout: all_of(stdout),
            stderr: lines_of(stderr),
            said: String::new(),
        }
    }

    /// Takes standard input; dropping it ends the program's input.
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
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
        let end = Instant::now() + LIMIT;
        while !self.said.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            match self.stderr.recv_timeout(left) {
                Ok(line) => self.said.push_str(&line),
                Err(e) => panic!("{e} before \"{text}\" was said, only: {}", self.said),
            }
        }
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
        let end = Instant::now() + LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.stderr.recv_timeout(left) {
                Ok(line) => self.said.push_str(&line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(e) => panic!("{e} before the program ended; it said: {}", self.said),
            }
        }
        let stdout = self.stdout.recv_timeout(LIMIT).unwrap();
        // Both outputs are closed, so the program has ended or is about to.
        let status = self.child.wait().unwrap();
        Ran {
            status: status.code(),
            stdout,
            stderr: std::mem::take(&mut self.said),
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

fn all_of(mut source: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        drop(source.read_to_end(&mut text));
        drop(sender.send(String::from_utf8_lossy(&text).into_owned()));
    });
    receiver
}

fn lines_of(source: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
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
    receiver
}
