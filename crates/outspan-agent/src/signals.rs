//! Signals: which of them stop the program in order, which reload its files, and which are ignored.
//!
//! ```text
//! SIGINT SIGTERM SIGQUIT   stop in order
//! SIGHUP                   stops in order; in an agent without a terminal, reloads files
//! SIGUSR1 SIGALRM ...      every other signal that would end the process by default: ignored, logged once
//! SIGILL SIGSEGV SIGABRT   faults keep their default action: the process is broken, or a core dump was asked for
//! ```
//!
//! A SIGHUP that is ignored when the program starts, as `nohup` arranges, stays ignored.

use std::fmt;
use std::io;

#[cfg(unix)]
use tokio::signal::unix;
#[cfg(unix)]
use tokio::task::JoinSet;

/// Names a signal that stops the program in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C, SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGQUIT, Ctrl-\.
    #[cfg(unix)]
    Quit,
    /// SIGHUP: the terminal was closed.
    #[cfg(unix)]
    HangUp,
}

/// Says what a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Stop in order.
    Stop(Signal),
    /// Read the files of certificates and tokens again.
    #[cfg_attr(
        not(unix),
        expect(dead_code, reason = "other systems have no signal for it")
    )]
    Reload,
}

impl Signal {
    /// Returns the exit status for it: 128 plus the signal's number.
    pub(crate) fn exit_status(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
            #[cfg(unix)]
            Self::Quit => 131,
            #[cfg(unix)]
            Self::HangUp => 129,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "interrupted",
            Self::Terminate => "terminated",
            #[cfg(unix)]
            Self::Quit => "quit",
            #[cfg(unix)]
            Self::HangUp => "hung up",
        })
    }
}

/// Waits for signals, from the moment it is made.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: unix::Signal,
    #[cfg(unix)]
    terminate: unix::Signal,
    #[cfg(unix)]
    quit: unix::Signal,
    /// Absent if SIGHUP was ignored when the program started.
    #[cfg(unix)]
    hang_up: Option<unix::Signal>,
    /// Whether SIGHUP asks for a reload instead of a stop.
    #[cfg(unix)]
    reloads: bool,
    /// The signal that stops the program, once there was one.
    #[cfg(unix)]
    stop: Option<Signal>,
    /// Logs the signals that are ignored, until this is dropped. They stay ignored after that.
    #[cfg(unix)]
    _ignored: JoinSet<()>,
}

#[cfg(unix)]
impl Signals {
    /// Starts to listen. SIGHUP stops the program in order.
    ///
    /// # Errors
    ///
    /// Returns an error if the system does not allow a signal handler.
    pub(crate) fn listen() -> io::Result<Self> {
        Self::start(false)
    }

    /// Starts to listen. SIGHUP asks for a reload, unless the program was started from a terminal: then it means that
    /// the terminal was closed, and stops the program in order.
    ///
    /// # Errors
    ///
    /// Returns an error if the system does not allow a signal handler.
    pub(crate) fn listen_with_reload() -> io::Result<Self> {
        // When the signal arrives the terminal is already gone, so only the state at the start can answer this.
        Self::start(!terminal::is_controlling())
    }

    fn start(reloads: bool) -> io::Result<Self> {
        let is_ignored = dispositions::ignored();
        let hang_up = match is_ignored(unix::SignalKind::hangup().as_raw_value()) {
            true => None,
            false => Some(unix::signal(unix::SignalKind::hangup())?),
        };
        Ok(Self {
            interrupt: unix::signal(unix::SignalKind::interrupt())?,
            terminate: unix::signal(unix::SignalKind::terminate())?,
            quit: unix::signal(unix::SignalKind::quit())?,
            hang_up,
            reloads,
            stop: None,
            _ignored: dispositions::ignore_others(is_ignored),
        })
    }

    /// Waits for the next signal that stops the program. Requests for a reload are passed over.
    ///
    /// # Cancellation
    ///
    /// Dropping the future loses no signal that stops the program.
    pub(crate) async fn next(&mut self) -> Signal {
        loop {
            if let Request::Stop(signal) = self.request().await {
                return signal;
            }
        }
    }

    /// Waits for the next request.
    ///
    /// # Cancellation
    ///
    /// Dropping the future loses no signal.
    pub(crate) async fn request(&mut self) -> Request {
        loop {
            let signal = tokio::select! {
                Some(()) = self.interrupt.recv() => Signal::Interrupt,
                Some(()) = self.terminate.recv() => Signal::Terminate,
                Some(()) = self.quit.recv() => Signal::Quit,
                Some(()) = receive(self.hang_up.as_mut()) => Signal::HangUp,
                else => std::future::pending().await,
            };
            match (signal, self.stop) {
                // One closed terminal sends SIGHUP several times: from the shell, and from the kernel when the shell has
                // exited. The second one must not end the drain that the first one began.
                (Signal::HangUp, Some(_)) => {}
                (Signal::HangUp, None) if self.reloads => return Request::Reload,
                // Service managers that close a session send SIGTERM besides. It asks for what is already being done.
                (signal, Some(Signal::HangUp)) => self.stop = Some(signal),
                (signal, _) => {
                    self.stop = Some(signal);
                    return Request::Stop(signal);
                }
            }
        }
    }
}

/// Waits for a signal, or without end if there is nothing to wait for.
#[cfg(unix)]
async fn receive(signal: Option<&mut unix::Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Starts to listen. Only Ctrl-C is known on this system.
    ///
    /// # Errors
    ///
    /// None on this system.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Starts to listen. Only Ctrl-C is known on this system.
    ///
    /// # Errors
    ///
    /// None on this system.
    pub(crate) fn listen_with_reload() -> io::Result<Self> {
        Self::listen()
    }

    /// Waits for the next signal that stops the program.
    ///
    /// # Cancellation
    ///
    /// Dropping the future loses no signal.
    pub(crate) async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits for the next request.
    ///
    /// # Cancellation
    ///
    /// Dropping the future loses no signal.
    pub(crate) async fn request(&mut self) -> Request {
        Request::Stop(self.next().await)
    }
}

/// Whether the process was started from a terminal.
#[cfg(unix)]
mod terminal {
    use std::fs;

    /// Returns whether this process has a controlling terminal now.
    pub(super) fn is_controlling() -> bool {
        match fs::read_to_string("/proc/self/stat") {
            Ok(stat) => has_terminal(&stat),
            // Opening it fails where there is none, and changes nothing where there is one.
            Err(_) => fs::File::open("/dev/tty").is_ok(),
        }
    }

    /// Reads the field `tty_nr` of `/proc/PID/stat` (proc(5)), which is 0 without a terminal.
    fn has_terminal(stat: &str) -> bool {
        // The program's name may hold spaces and parentheses, and is followed by the last parenthesis of the line:
        // state ppid pgrp session tty_nr.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let tty = fields.split_whitespace().nth(4);
        tty.is_some_and(|tty| tty != "0")
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn terminal_is_read_from_fifth_field_after_name() {
            assert!(has_terminal("7 (a b) S 1 7 7 34816 7 4194304"));
            assert!(!has_terminal("7 (a) 9) S 1 7 7 0 -1 4194304"));
            assert!(!has_terminal(""));
        }
    }
}

/// What the system does with signals that the program does not ask for.
#[cfg(unix)]
mod dispositions {
    use std::borrow::Cow;

    use rustix::process::Signal;
    use tokio::signal::unix;
    use tokio::task::JoinSet;

    /// Signals whose action is left as it is: what the program handles itself, what cannot be handled, what does not
    /// end a process, and faults. A process that goes on after a fault computes with garbage.
    const LEFT_ALONE: &[Signal] = &[
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::TERM,
        Signal::KILL,
        Signal::STOP,
        Signal::CHILD,
        Signal::CONT,
        Signal::TSTP,
        Signal::TTIN,
        Signal::TTOU,
        Signal::URG,
        Signal::WINCH,
        // Rust's start-up code ignores it.
        Signal::PIPE,
        Signal::ILL,
        Signal::TRAP,
        Signal::ABORT,
        Signal::BUS,
        Signal::FPE,
        Signal::SEGV,
        Signal::SYS,
    ];

    /// Signals that are worth a name in the log. The other ones have numbers.
    const NAMES: &[(Signal, &str)] = &[
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::VTALARM, "SIGVTALRM"),
        (Signal::PROF, "SIGPROF"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::IO, "SIGIO"),
    ];

    /// The highest number of a signal: real-time signals end there on Linux (signal(7)).
    const LAST: i32 = if cfg!(target_os = "linux") { 64 } else { 31 };

    /// Returns whether a signal is ignored at the moment, by its number. What is ignored when a program starts was
    /// arranged by its parent, as `nohup` does. Systems other than Linux do not tell.
    pub(super) fn ignored() -> impl Fn(i32) -> bool + Copy {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = ignored_in(&status);
        move |number| {
            let bit = u32::try_from(number - 1).ok();
            bit.and_then(|bit| mask.checked_shr(bit))
                .is_some_and(|mask| mask & 1 == 1)
        }
    }

    /// Reads the mask `SigIgn` of `/proc/PID/status` (proc(5)): bit 0 is signal 1.
    fn ignored_in(status: &str) -> u64 {
        let line = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or(0)
    }

    /// Ignores every signal that would end the process by default and that nobody handles, and logs each once.
    ///
    /// A handler that does nothing is installed, rather than the action "ignore", because that takes `unsafe`. A write
    /// beyond the limit of a file's size returns an error then, as it does with an ignored SIGXFSZ.
    pub(super) fn ignore_others(is_ignored: impl Fn(i32) -> bool) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for number in (1..=LAST).filter(|number| !is_left_alone(*number) && !is_ignored(*number)) {
            // The C library keeps some real-time signals for itself, and does not allow a handler.
            if let Ok(mut signal) = unix::signal(unix::SignalKind::from_raw(number)) {
                tasks.spawn(async move {
                    if signal.recv().await.is_some() {
                        tracing::warn!(target: "outspan", "ignored {}, and will from now on", name(number));
                    }
                });
            }
        }
        tasks
    }

    fn is_left_alone(number: i32) -> bool {
        LEFT_ALONE.iter().any(|signal| signal.as_raw() == number)
    }

    fn name(number: i32) -> Cow<'static, str> {
        let mut names = NAMES.iter();
        match names.find(|(signal, _)| signal.as_raw() == number) {
            Some((_, name)) => Cow::Borrowed(*name),
            None => Cow::Owned(format!("signal {number}")),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn mask_of_ignored_signals_is_read_as_hexadecimal() {
            assert_eq!(ignored_in("Name:\tx\nSigIgn:\t0000000000001001\n"), 0x1001);
            assert_eq!(ignored_in("SigIgn:\tnothing\n"), 0);
            assert_eq!(ignored_in(""), 0);
        }

        #[test]
        #[cfg(target_os = "linux")]
        fn pipe_signal_is_ignored_by_rust() {
            let is_ignored = ignored();
            assert!(is_ignored(Signal::PIPE.as_raw()));
            assert!(!is_ignored(Signal::TERM.as_raw()));
            for number in [0, -1, 65, 1000] {
                assert!(!is_ignored(number), "{number}");
            }
        }
    }
}
