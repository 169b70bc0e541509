//! The program under test in a process of its own: what it says, what it takes, and how it ends.

use std::collections::HashMap;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::process::ChildStderr;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use super::end;
use super::wire::Coding;
use super::wire::Protocol;
use crate::measure::cpu_time;

/// How long a program may take until it listens.
const START: Duration = Duration::from_secs(10);

/// Which program is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Ours,
    Peer,
}

impl Which {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Peer => "peer",
        }
    }
}

/// What a program under test is started with.
#[derive(Clone, Debug)]
pub(crate) struct Options<'a> {
    pub(crate) which: Which,
    pub(crate) protocol: Protocol,
    pub(crate) coding: Coding,
    /// The destinations, each as `127.0.0.1:PORT`.
    pub(crate) to: &'a [String],
    /// Anything else, for ours.
    pub(crate) more: &'a [&'a str],
}

/// A program under test that runs. Dropping it without [`Program::terminate`] kills it.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    said: mpsc::Receiver<String>,
    log: Vec<String>,
    /// Where it listens, as `127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl Program {
    /// Starts it and waits until it listens.
    pub(crate) fn start(options: &Options<'_>) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("cannot start {}: {e}", options.which.as_str());
        let mut child = command(options)
            .map_err(failed)?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stderr = child.stderr.take().ok_or("no standard error")?;
        let mut program = Self {
            child,
            said: lines(stderr),
            log: Vec::new(),
            address: String::new(),
        };
        program.address = program.address_of(options.protocol)?;
        Ok(program)
    }

    /// Reads on until it says where it listens for the protocol.
    fn address_of(&mut self, protocol: Protocol) -> Result<String, String> {
        let wanted = format!("listening on {}://", protocol.as_str());
        let end = Instant::now() + START;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.said.recv_timeout(left) else {
                return Err(format!("it does not listen; it said: {}", self.log()));
            };
            let address = line.split_once(&wanted).map(|(_, rest)| rest);
            let address = address.and_then(|rest| rest.split_whitespace().next());
            let address = address.map(|address| address.trim_end_matches('/').to_owned());
            self.log.push(line);
            if let Some(address) = address {
                return Ok(address);
            }
        }
    }

    fn log(&mut self) -> String {
        self.log.extend(self.said.try_iter());
        self.log.join("\n")
    }

    /// The CPU time that it has used.
    pub(crate) fn cpu(&self) -> Result<Cpu, String> {
        Cpu::of(self.child.id())
    }

    /// Forgets the peak of its resident memory.
    pub(crate) fn reset_peak(&self) -> Result<(), String> {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        fs::write(&path, "5").map_err(|e| format!("cannot reset the peak in {path}: {e}"))
    }

    /// The peak of its resident memory, in bytes, since it was last forgotten.
    pub(crate) fn peak_rss(&self) -> Result<u64, String> {
        self.status("VmHWM:")
    }

    /// Its resident memory now, in bytes.
    pub(crate) fn rss(&self) -> Result<u64, String> {
        self.status("VmRSS:")
    }

    fn status(&self, field: &str) -> Result<u64, String> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).map_err(|e| format!("no {path}: {e}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024)
            .ok_or_else(|| format!("no {field} in {path}"))
    }

    /// Sends SIGTERM, waits until it has drained and ended, and returns how long that took.
    pub(crate) fn terminate(mut self, limit: Duration) -> Result<Duration, String> {
        let began = Instant::now();
        let pid = self.child.id().to_string();
        let kill = Command::new("kill").args(["-TERM", &pid]).status();
        let kill = kill.map_err(|e| format!("cannot run kill: {e}"))?;
        if !kill.success() {
            return Err(format!("it has ended already; it said: {}", self.log()));
        }
        while began.elapsed() < limit {
            let ended = self.child.try_wait().map_err(|e| e.to_string())?;
            match ended {
                Some(ended) if ended.success() => return Ok(began.elapsed()),
                Some(ended) => {
                    return Err(format!("it ended with {ended}; it said: {}", self.log()));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        Err(format!(
            "it did not end within {} s; it said: {}",
            limit.as_secs(),
            self.log()
        ))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn command(options: &Options<'_>) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let protocol = options.protocol.as_str();
    match options.which {
        Which::Peer => {
            command.args(["peer", "--protocol", protocol]);
            for to in options.to {
                command.args(["--to", to]);
            }
        }
        Which::Ours => {
            command.args(["agent", "--admin", "off"]);
            for listen in ["grpc://127.0.0.1:0", "http://127.0.0.1:0"] {
                command.args(["--listen", listen]);
            }
            for to in options.to {
                command.args(["--to", &format!("{protocol}://{to}")]);
            }
            command.args(options.more);
        }
    }
    if options.coding != Coding::None {
        command.args(["--compression", options.coding.as_str()]);
    }
    Ok(command)
}

/// The lines of standard error, as they come; reading never stops, so that writing never blocks.
fn lines(stderr: ChildStderr) -> mpsc::Receiver<String> {
    let (line, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for said in BufReader::new(stderr).lines() {
            match said {
                Ok(said) => drop(line.send(said)),
                Err(_) => return,
            }
        }
    });
    lines
}

/// The CPU time of a process, user and system.
#[derive(Debug)]
pub(crate) struct Cpu {
    /// Of each thread that is there, by its id; exact.
    threads: HashMap<String, Duration>,
    /// Of all, those that have ended included; in steps of 10 ms.
    all: Duration,
}

impl Cpu {
    pub(crate) fn of(pid: u32) -> Result<Self, String> {
        let all = cpu_time(&format!("/proc/{pid}/stat"))?;
        let tasks = format!("/proc/{pid}/task");
        let failed = |e: std::io::Error| format!("no CPU time in {tasks}: {e}");
        let mut threads = HashMap::new();
        for entry in fs::read_dir(&tasks).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // A thread may end while we look.
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            let nanos = text.split_ascii_whitespace().next();
            if let Some(nanos) = nanos.and_then(|nanos| nanos.parse().ok()) {
                let thread = entry.file_name().to_string_lossy().into_owned();
                threads.insert(thread, Duration::from_nanos(nanos));
            }
        }
        Ok(Self { threads, all })
    }

    /// What was used since an earlier look.
    ///
    /// The exact times miss what threads used that have ended, the rounded one does not: where it is more by over what
    /// rounding explains, it counts.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        const ROUNDING: Duration = Duration::from_millis(20);
        let threads = self.threads.iter().map(|(thread, now)| {
            let then = earlier.threads.get(thread).copied().unwrap_or_default();
            now.saturating_sub(then)
        });
        let exact: Duration = threads.sum();
        let rounded = self.all.saturating_sub(earlier.all);
        match rounded > exact + ROUNDING {
            true => rounded,
            false => exact,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(threads: &[(&str, u64)], all: u64) -> Cpu {
        let exact = |(name, millis): &(&str, u64)| {
            let name: &str = name;
            (name.to_owned(), Duration::from_millis(*millis))
        };
        Cpu {
            threads: threads.iter().map(exact).collect(),
            all: Duration::from_millis(all),
        }
    }

    #[test]
    fn adds_the_exact_times_of_threads_that_are_old_and_new() {
        let earlier = cpu(&[("1", 100)], 100);
        let now = cpu(&[("1", 107), ("2", 4)], 120);
        assert_eq!(now.since(&earlier), Duration::from_millis(11));
    }

    #[test]
    fn counts_what_a_thread_used_that_has_ended() {
        let earlier = cpu(&[("1", 100), ("2", 10)], 110);
        let now = cpu(&[("1", 150)], 260);
        assert_eq!(now.since(&earlier), Duration::from_millis(150));
    }

    #[test]
    fn sees_the_time_that_this_process_uses() {
        let pid = std::process::id();
        let before = Cpu::of(pid).expect("this is Linux");
        let began = Instant::now();
        let mut turns = 0_u64;
        while began.elapsed() < Duration::from_millis(50) {
            turns = std::hint::black_box(turns + 1);
        }
        let used = Cpu::of(pid).expect("this is Linux").since(&before);
        assert!(used > Duration::ZERO, "{turns} turns");
    }
}
