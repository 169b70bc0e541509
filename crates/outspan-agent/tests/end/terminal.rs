//! Terminals that are closed while an agent runs in them.

use std::fs::File;
use std::fs::OpenOptions;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use outspan_testkit::Answer;
use outspan_testkit::Collector;
use outspan_testkit::Gate;
use outspan_testkit::batch_of;
use rustix::pty::OpenptFlags;

use crate::agent::LIMIT;
use crate::agent::OUTSPAN;
use crate::agent::assert_has_all;
use crate::agent::has_setsid;
use crate::agent::send_to;
use crate::agent::skip;
use crate::agent::url_of;
use crate::agent::with_default_signals;
use crate::running::Running;

/// Both ends of a terminal. Closing the first one closes the terminal.
fn open_terminal() -> (File, File) {
    // Not inherited: the terminal is closed when nobody holds this end any more.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(i32::try_from(OpenptFlags::NOCTTY.bits()).unwrap())
        .open(name.to_str().unwrap())
        .unwrap();
    (File::from(master), terminal)
}

/// Returns true, and says so, if there is no `setsid` that gives a program a terminal.
fn is_skipped() -> bool {
    let is_skipped = !has_setsid();
    if is_skipped {
        skip("giving a program a terminal needs setsid of util-linux");
    }
    is_skipped
}

/// `program` with this terminal as its controlling one.
fn in_terminal(program: &str, terminal: &File) -> Command {
    let mut command = with_default_signals(&["setsid", "--ctty", program]);
    command.stdin(terminal.try_clone().unwrap());
    command
}

fn agent_arguments(url: &str, port: u16) -> Vec<String> {
    let listen = format!("grpc://127.0.0.1:{port}");
    ["agent", "--admin", "off", "--listen", &listen, "--to", url]
        .map(str::to_owned)
        .to_vec()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Reads what a terminal shows until it holds the text; gives the terminal's end back.
fn wait_until_shown(mut master: File, text: &'static str) -> File {
    let (sender, shown) = mpsc::channel();
    thread::spawn(move || {
        let mut seen = Vec::new();
        let mut byte = [0];
        while master.read(&mut byte).is_ok_and(|read| read == 1) {
            seen.extend(byte);
            if seen.ends_with(text.as_bytes()) {
                break;
            }
        }
        drop(sender.send((String::from_utf8_lossy(&seen).into_owned(), master)));
    });
    let (seen, master) = shown.recv_timeout(LIMIT).expect("the terminal shows it");
    assert!(seen.ends_with(text), "{seen}");
    master
}

#[tokio::test]
async fn closed_terminal_drains_agent_that_writes_elsewhere() {
    if is_skipped() {
        return;
    }
    let collector = Collector::grpc();
    let gate = Gate::new();
    collector.always(Answer::stall_until(&gate, Answer::Accept));
    let (master, terminal) = open_terminal();
    let port = free_port();
    let mut command = in_terminal(OUTSPAN, &terminal);
    command
        .args(agent_arguments(&url_of(&collector), port))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut running = Running::of_command(&mut command);
    drop((command, terminal));
    running.wait_until_said("sending to");
    let batch = batch_of(40);
    send_to(&format!("127.0.0.1:{port}"), &batch).await;
    collector.wait_for_in_flight(1, LIMIT).await;
    drop(master);
    running.wait_until_said("hung up: delivering 40 spans");
    // The shell and the kernel may both send one, and a service manager that ends the session another.
    running.signal("HUP");
    running.signal("TERM");
    running.signal("USR1");
    running.wait_until_said("ignored SIGUSR1");
    gate.open();
    let ran = running.finish().expect_status(0);
    assert_has_all(&collector, &[batch]);
    ran.expect_said(&["delivered 40 of 40 spans"]);
}

#[tokio::test]
async fn agent_that_logs_to_closed_terminal_delivers_everything() {
    if is_skipped() {
        return;
    }
    let collector = Collector::grpc();
    let gate = Gate::new();
    collector.always(Answer::stall_until(&gate, Answer::Accept));
    let (master, terminal) = open_terminal();
    let port = free_port();
    let mut command = in_terminal(OUTSPAN, &terminal);
    command
        .args(agent_arguments(&url_of(&collector), port))
        // Every log line has to be written somewhere.
        .args(["-vv", "--to", "stdout:compact", "--shutdown-timeout", "1h"])
        .stdout(terminal.try_clone().unwrap())
        .stderr(terminal.try_clone().unwrap());
    let mut running = Running::of_command(&mut command);
    drop((command, terminal));
    let master = wait_until_shown(master, "sending to standard output");
    let batch = batch_of(40);
    send_to(&format!("127.0.0.1:{port}"), &batch).await;
    collector.wait_for_in_flight(1, LIMIT).await;
    drop(master);
    gate.open();
    // What was written to the terminal may be lost, and nobody waits for it; the other destination gets everything.
    let status = running.wait_for_exit();
    assert!(matches!(status, Some(0 | 1)), "{status:?}");
    assert_has_all(&collector, &[batch]);
}

#[tokio::test]
async fn agent_in_shell_whose_terminal_closes_delivers_everything() {
    if is_skipped() {
        return;
    }
    let collector = Collector::grpc();
    let (master, terminal) = open_terminal();
    let port = free_port();
    let mut command = in_terminal("sh", &terminal);
    command
        // Something follows, so that the shell does not become the agent.
        .args(["-c", r#""$0" "$@"; true"#, OUTSPAN])
        .args(agent_arguments(&url_of(&collector), port))
        .args(["--batch-delay", "1h"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut running = Running::of_command(&mut command);
    drop((command, terminal));
    running.wait_until_said("sending to");
    let batch = batch_of(40);
    send_to(&format!("127.0.0.1:{port}"), &batch).await;
    drop(master);
    running.wait_until_said("delivered 40 of 40 spans");
    assert_has_all(&collector, &[batch]);
}

#[tokio::test]
async fn hang_up_that_was_ignored_at_the_start_stays_ignored() {
    if is_skipped() {
        return;
    }
    let collector = Collector::grpc();
    let (master, terminal) = open_terminal();
    let port = free_port();
    let mut command = in_terminal("nohup", &terminal);
    command
        .arg(OUTSPAN)
        .args(agent_arguments(&url_of(&collector), port))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut running = Running::of_command(&mut command);
    drop((command, terminal));
    running.wait_until_said("sending to");
    drop(master);
    running.signal("HUP");
    // Whatever the signal does, it is done when the next one is.
    running.signal("USR1");
    running.wait_until_said("ignored SIGUSR1");
    send_to(&format!("127.0.0.1:{port}"), &batch_of(10)).await;
    running.signal("TERM");
    let ran = running.finish().expect_status(0);
    assert!(!ran.stderr.contains("hung up"), "{ran:#?}");
    assert_eq!(collector.span_count(), 10);
}
