//! Runs the program within an address space, and asks it how it is doing.

use std::fs;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

/// How long the program may take for anything that it does at once.
const LIMIT: Duration = Duration::from_secs(60);

/// The program.
pub(crate) struct Agent {
    child: Child,
    http: String,
    admin: String,
    /// What standard error said so far, and what comes.
    log: String,
    lines: mpsc::Receiver<String>,
}

/// What it says about its only destination.
#[derive(Debug)]
pub(crate) struct Status {
    /// Spans that were delivered, refused or dropped.
    pub(crate) settled: u64,
    pub(crate) received: u64,
    pub(crate) open: u64,
    pub(crate) accepted: u64,
}

impl Agent {
    /// Starts it with a bound of memory and an address space, in MiB.
    pub(crate) fn start(memory: usize, space: usize, arguments: &[String], stdout: Stdio) -> Self {
        let memory = format!("{memory}MiB");
        let mut command = Command::new("sh");
        let limited = format!("ulimit -c 0; ulimit -v {}; exec \"$@\"", space << 10);
        command
            .args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_outspan"), "agent"])
            .args(["--listen", "http://127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--memory", &memory, "--batch-delay", "50ms"])
            .args(["--shutdown-timeout", "1s"])
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut agent = Self {
            child,
            http: String::new(),
            admin: String::new(),
            log: String::new(),
            lines,
        };
        agent.http = agent.address("listening on http://");
        agent.admin = agent.address("admin on http://");
        agent
    }

    /// Waits for a line that holds the words, and returns what stands behind them.
    fn address(&mut self, words: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let mut lines = self.log.lines();
            if let Some((_, address)) = lines.find_map(|line| line.split_once(words)) {
                return address.trim().to_owned();
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.log.push_str(&(line + "\n")),
                Err(e) => panic!("{e} before \"{words}\": {}", self.log),
            }
        }
    }

    pub(crate) fn http(&self) -> &str {
        &self.http
    }

    /// What it wrote to standard error until now.
    pub(crate) fn log(&mut self) -> &str {
        while let Ok(line) = self.lines.try_recv() {
            self.log.push_str(&(line + "\n"));
        }
        &self.log
    }

    /// The signal or exit status with which it ended; nothing while it runs.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().unwrap()?;
        Some(match status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => format!("exit status {:?}", status.code()),
        })
    }

    /// A line of `/proc/PID/status`, in MiB.
    pub(crate) fn resident(&self, name: &str) -> Option<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib / 1024.0)
    }

    /// Reads `/status`.
    pub(crate) fn status(&self) -> Result<Status, String> {
        let head = "GET /status HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n";
        let answer =
            ask(&self.admin, head.as_bytes(), LIMIT).map_err(|e| format!("/status: {e}"))?;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let body: Value =
            serde_json::from_str(body).map_err(|e| format!("/status: {e}: {body}"))?;
        let spans = &body["destinations"][0]["spans"];
        let number = |name: &str| spans[name].as_u64().unwrap_or_default();
        let dropped = spans["dropped"].as_object().into_iter().flatten();
        let dropped: u64 = dropped.filter_map(|(_, spans)| spans.as_u64()).sum();
        let receivers = body["receivers"].as_array().into_iter().flatten();
        let accepted = receivers.filter_map(|of| of["spans"]["accepted"].as_u64());
        Ok(Status {
            settled: number("delivered") + number("refused") + dropped,
            received: number("received"),
            open: number("queued") + number("in_flight"),
            accepted: accepted.sum(),
        })
    }

    /// Stops it in order. The exit status says whether spans were lost, which is right here.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        sent.map_err(|e| e.to_string())?;
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match self.ended() {
                Some(how) if how.starts_with("signal") => return Err(format!("at the end: {how}")),
                Some(_) => return Ok(()),
                None if Instant::now() > end => return Err("does not stop".to_owned()),
                // Sleeps: the end of a program that is no thread of ours tells nobody.
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends a request over HTTP/1.1 and reads the answer to its end.
pub(crate) fn ask(address: &str, request: &[u8], limit: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    // An answer may come before all is written.
    let written = stream.write_all(request);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    match answer.is_empty() {
        true => Err(written
            .and(read.map(drop))
            .err()
            .unwrap_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no answer"))),
        false => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

/// Sends spans in protobuf over OTLP/HTTP, and returns the status of the answer.
pub(crate) fn send(address: &str, body: &[u8], is_gzipped: bool) -> io::Result<u16> {
    let encoding = match is_gzipped {
        true => "Content-Encoding: gzip\r\n",
        false => "",
    };
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: agent\r\nContent-Type: application/x-protobuf\r\n{encoding}\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let answer = ask(address, &[head.as_bytes(), body].concat(), LIMIT)?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, answer))
}
