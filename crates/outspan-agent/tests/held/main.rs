//! What `/status` says is held is what is held: the live bytes of an allocator that counts them.
//!
//! The agent runs in a program of its own, which is this one again with one test: [`agent_that_counts_its_memory`].

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::print_stdout,
    reason = "shows what was measured, with --nocapture"
)]
#![allow(clippy::print_stderr, reason = "the program's answer")]

use std::fmt::Write as _;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use peak_alloc::PeakAlloc;
use serde_json::Value;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const LIMIT: Duration = Duration::from_secs(60);

/// Names the variable with the agent's arguments, one a line.
const ARGUMENTS: &str = "OUTSPAN_TEST_AGENT_ARGUMENTS";

/// How far both may differ, in percent of what is held.
const TOLERANCE: usize = 25;

#[test]
fn agent_that_counts_its_memory() {
    // Nothing is to be done here unless one of the other tests started this program.
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return;
    };
    // A line on standard input asks how many bytes are live.
    thread::spawn(|| {
        for _ in io::stdin().lines().map_while(Result::ok) {
            eprintln!("live {}", ALLOCATED.current_usage());
        }
    });
    let arguments = ["outspan", "agent"].into_iter().chain(arguments.lines());
    outspan_agent::main_with(arguments.map(Into::into));
}

/// An agent that counts its memory.
struct Agent {
    child: Child,
    lines: mpsc::Receiver<String>,
    admin: String,
    log: String,
}

impl Agent {
    fn start(arguments: &[&str]) -> Self {
        let fixed = [
            "--memory",
            "128MiB",
            "--admin",
            "127.0.0.1:0",
            "--shutdown-timeout",
            "1ms",
        ];
        let arguments = [&fixed[..], arguments].concat().join("\n");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "agent_that_counts_its_memory", "--nocapture"])
            .env(ARGUMENTS, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
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
            lines,
            admin: String::new(),
            log: String::new(),
        };
        agent.admin = agent.said("admin on http://");
        agent
    }

    /// Waits for a line that holds the words, and returns what stands behind them.
    fn said(&mut self, words: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let mut lines = self.log.lines();
            if let Some((_, rest)) = lines.find_map(|line| line.split_once(words)) {
                return rest.trim().to_owned();
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.log.push_str(&(line + "\n")),
                Err(e) => panic!("{e} before \"{words}\": {}", self.log),
            }
        }
    }

    /// How many bytes are live in the program.
    fn live(&mut self) -> usize {
        self.log.clear();
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(b"\n").unwrap();
        self.said("live ").parse().unwrap()
    }

    /// How many bytes it says it holds, and in how many batches.
    fn held(&self) -> (usize, u64) {
        let mut connection = Connection::to(&self.admin);
        let answer = connection.ask("GET /status", "text/plain", b"");
        let status: Value = serde_json::from_str(&answer).unwrap();
        let bytes = |name: &str| status["memory"][name].as_u64().unwrap() as usize;
        let batches = status["destinations"][0]["queue"]["batches"]
            .as_u64()
            .unwrap();
        (bytes("queued_bytes") + bytes("receiving_bytes"), batches)
    }

    /// Waits until nothing is open to be merged any more, and says what is held and what is live.
    fn settled(&mut self) -> (usize, usize) {
        let begun = Instant::now();
        let (mut before, mut since) = ((0, 0, 0), Instant::now());
        loop {
            let (held, batches) = self.held();
            let now = (held, batches, self.live());
            let is_same =
                now.0 == before.0 && now.1 == before.1 && now.2.abs_diff(before.2) < 1 << 16;
            if !is_same {
                (before, since) = (now, Instant::now());
            } else if since.elapsed() > Duration::from_millis(300) {
                return (now.0, now.2);
            }
            assert!(begun.elapsed() < LIMIT, "it never comes to rest: {now:?}");
            // Sleeps: what another program holds tells nobody when it changes no more.
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A connection of HTTP/1.1 that stays open.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, what: &str, content_type: &str, body: &[u8]) -> String {
        let head = format!(
            "{what} HTTP/1.1\r\nHost: agent\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0
            .get_mut()
            .write_all(&[head.as_bytes(), body].concat())
            .unwrap();
        let mut answer = String::new();
        let mut length = 0;
        loop {
            let start = answer.len();
            assert!(self.0.read_line(&mut answer).unwrap() > 0, "{answer}");
            let line = answer[start..].trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(status.starts_with('2'), "{answer}");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        String::from_utf8_lossy(&body).into_owned()
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
enum Form {
    Protobuf,
    /// Half of the bytes are a span without ids, which is left out.
    HalfInvalid,
    Json,
    Zipkin,
}

impl Form {
    fn path(self) -> (&'static str, &'static str) {
        match self {
            Self::Protobuf | Self::HalfInvalid => ("POST /v1/traces", "application/x-protobuf"),
            Self::Json => ("POST /v1/traces", "application/json"),
            Self::Zipkin => ("POST /api/v2/spans", "application/json"),
        }
    }

    fn body(self, spans: usize) -> Vec<u8> {
        let batch = outspan_testkit::batch_of(spans);
        match self {
            Self::Protobuf => batch.as_request().to_vec(),
            Self::HalfInvalid => {
                let mut body = batch.as_request().to_vec();
                let name = field(5, &vec![b'x'; body.len()]);
                body.extend(field(1, &field(2, &field(2, &name))));
                body
            }
            Self::Json => batch.to_json(),
            Self::Zipkin => {
                let mut text = String::from("[");
                for number in 1..=spans {
                    let comma = if number == 1 { "" } else { "," };
                    write!(
                        text,
                        r#"{comma}{{"traceId":"{number:032x}","id":"{number:016x}","name":"get","kind":"SERVER","timestamp":1790000000000000,"duration":1500,"localEndpoint":{{"serviceName":"shop"}},"tags":{{"http.path":"/cart/{number}"}}}}"#
                    )
                    .unwrap();
                }
                text.push(']');
                text.into_bytes()
            }
        }
    }
}

/// A field of protobuf that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

/// Sends until so many bytes are held, and compares.
fn check(form: Form, spans: usize, wanted: usize, arguments: &[&str]) {
    // Nobody listens there.
    let down = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let scheme = match form {
        Form::Zipkin => "zipkin+http",
        _ => "http",
    };
    let listen = format!("{scheme}://127.0.0.1:0");
    let to = format!("http://{down}");
    let mut agent = Agent::start(&[&["--listen", &listen, "--to", &to], arguments].concat());
    let address = agent.said(&format!("listening on {scheme}://"));
    let (path, content_type) = form.path();
    let body = form.body(spans);
    let mut connection = Connection::to(&address);
    // Everything that is made once is there by then.
    for _ in 0..20 {
        connection.ask(path, content_type, &body);
    }
    let (held_before, live_before) = agent.settled();
    let mut requests = 0;
    while agent.held().0 < held_before + wanted {
        for _ in 0..(wanted / body.len() / 10).clamp(1, 500) {
            connection.ask(path, content_type, &body);
            requests += 1;
        }
    }
    let (held, live) = agent.settled();
    let held = held - held_before;
    let live = live.saturating_sub(live_before);
    println!(
        "{form:?}, {requests} requests of {spans} spans, {} bytes: held {held}, live {live}",
        body.len()
    );
    assert!(
        held.abs_diff(live) <= held * TOLERANCE / 100,
        "{form:?} of {spans} spans: held {held}, live {live}"
    );
}

const MIB: usize = 1 << 20;

#[test]
fn small_requests_are_held_as_charged() {
    check(Form::Protobuf, 10, 10 * MIB, &[]);
    check(Form::Protobuf, 1, 2 * MIB, &[]);
}

#[test]
fn single_requests_that_are_not_merged_are_held_as_charged() {
    check(Form::Protobuf, 5, 4 * MIB, &["--batch-spans", "5"]);
}

#[test]
fn large_requests_are_held_as_charged() {
    check(Form::Protobuf, 5000, 20 * MIB, &[]);
    check(Form::Protobuf, 100, 20 * MIB, &[]);
}

#[test]
fn requests_with_invalid_spans_are_held_as_charged() {
    check(Form::HalfInvalid, 5000, 16 * MIB, &[]);
    check(Form::HalfInvalid, 100, 8 * MIB, &[]);
}

#[test]
fn forms_made_for_the_destination_are_held_as_charged() {
    check(Form::Protobuf, 1000, 12 * MIB, &["--protocol", "json"]);
    check(Form::Protobuf, 1000, 12 * MIB, &["--compression", "zstd"]);
}

#[test]
fn converted_requests_are_held_as_charged() {
    check(Form::Json, 100, 12 * MIB, &[]);
    check(Form::Json, 5000, 12 * MIB, &[]);
    check(Form::Zipkin, 100, 12 * MIB, &[]);
    check(Form::Zipkin, 3000, 12 * MIB, &[]);
}
