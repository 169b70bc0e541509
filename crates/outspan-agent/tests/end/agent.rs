//! Runs `outspan agent` without a terminal, and sends to it.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use outspan::Batch;
use outspan::otlp;
use outspan_testkit::Collector;

pub(crate) use crate::running::LIMIT;
use crate::running::Ran;
use crate::running::Running;
use crate::shared;
pub(crate) use crate::shared::Outcome;
pub(crate) use crate::shared::assert_has_all;
pub(crate) use crate::shared::url_of;

/// The program under test.
pub(crate) const OUTSPAN: &str = env!("CARGO_BIN_EXE_outspan");

/// Whether there is `setsid`, which belongs to util-linux: every Debian has it.
pub(crate) fn has_setsid() -> bool {
    let version = Command::new("setsid").arg("--version").output();
    version.is_ok_and(|version| version.status.success())
}

/// Says that a test is skipped, and what it needs.
#[allow(clippy::print_stdout, reason = "a test that is skipped has to be seen")]
pub(crate) fn skip(what: &str) {
    println!("skipped: {what}");
}

/// A command that runs `arguments` with the signals as they are in a login shell. The shell of the tests may ignore some,
/// as `nohup` and background jobs of scripts do, and programs inherit that.
pub(crate) fn with_default_signals(arguments: &[&str]) -> Command {
    let reset = "--default-signal=HUP,INT,QUIT";
    let can_reset = Command::new("env").args([reset, "true"]).status();
    let [program, rest @ ..] = arguments else {
        panic!("no program");
    };
    let mut command = match can_reset.is_ok_and(|status| status.success()) {
        true => {
            let mut command = Command::new("env");
            command.args([reset, program]);
            command
        }
        false => Command::new(program),
    };
    command.args(rest);
    command
}

/// The program in a session of its own, where the terminal of the tests does not matter.
pub(crate) fn detached() -> Command {
    match has_setsid() {
        true => with_default_signals(&["setsid", OUTSPAN]),
        false => with_default_signals(&[OUTSPAN]),
    }
}

/// An agent on free ports, with an admin address.
pub(crate) struct Agent {
    running: Running,
}

impl Agent {
    /// Starts an agent and waits until it serves.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = detached();
        command
            .args(["agent", "--admin", "127.0.0.1:0"])
            .args(["--listen", "grpc://127.0.0.1:0"])
            .args(["--listen", "http://127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = Running::of_command(&mut command);
        running.wait_until_said("admin on ");
        Self { running }
    }

    /// What stands in standard error behind these words.
    #[track_caller]
    fn address(&self, words: &str) -> &str {
        let mut lines = self.running.said().lines();
        lines.find_map(|line| line.strip_prefix(words)).unwrap()
    }

    /// Host and port of OTLP over gRPC.
    pub(crate) fn grpc(&self) -> &str {
        self.address("listening on grpc://")
    }

    /// Host and port of OTLP over HTTP.
    pub(crate) fn http(&self) -> &str {
        self.address("listening on http://")
    }

    /// Host and port of OTLP over gRPC with TLS.
    pub(crate) fn secure(&self) -> String {
        self.address("listening on grpcs://").to_owned()
    }

    /// Host and port of the admin address.
    pub(crate) fn admin(&self) -> &str {
        self.address("admin on http://")
    }

    /// Sends a batch that the agent has to take.
    pub(crate) async fn send(&self, batch: &Batch) {
        send_to(self.grpc(), batch).await;
    }

    pub(crate) fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// Sends a signal and waits for the end.
    #[track_caller]
    pub(crate) fn stop(self, signal: &str) -> Ran {
        self.running.signal(signal);
        self.running.finish()
    }
}

/// Sends a batch over gRPC to a host and port, which have to take it.
pub(crate) async fn send_to(address: &str, batch: &Batch) {
    let sender = otlp::grpc(format!("http://{address}")).build().unwrap();
    shared::deliver(&sender, batch).await;
}

/// A collector that never answers.
pub(crate) fn hanging() -> Collector {
    let collector = Collector::grpc();
    collector.always(outspan_testkit::Answer::Stall);
    collector
}

/// Gets a page over a connection of its own, within a limit; nothing if that passes.
pub(crate) fn get_within(address: &str, path: &str, limit: Duration) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), limit).ok()?;
    stream.set_read_timeout(Some(limit)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}
