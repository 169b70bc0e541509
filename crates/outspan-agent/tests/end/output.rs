//! Agents whose standard error is closed, or is a pipe that nobody reads.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use outspan_testkit::Collector;
use outspan_testkit::batch_of;

use crate::agent::LIMIT;
use crate::agent::OUTSPAN;
use crate::agent::assert_has_all;
use crate::agent::detached;
use crate::agent::send_to;
use crate::agent::skip;
use crate::agent::url_of;
use crate::running::Running;

/// Starts an agent that logs everything to `stderr`, sends to it, ends it, and checks that nothing was lost.
async fn check(mut command: Command) {
    let collector = Collector::grpc();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    command
        .args([
            "agent",
            "-vv",
            "--admin",
            "off",
            "--to",
            &url_of(&collector),
        ])
        .args(["--listen", &format!("grpc://{address}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut running = Running::of_command(&mut command);
    drop(command);
    let end = Instant::now() + LIMIT;
    while TcpStream::connect(&address).is_err() {
        assert!(Instant::now() < end, "the agent does not listen");
        // Sleeps: nothing tells when another process listens.
        thread::sleep(Duration::from_millis(5));
    }
    let batches: Vec<_> = (0..100).map(|_| batch_of(10)).collect();
    for batch in &batches {
        send_to(&address, batch).await;
    }
    running.signal("TERM");
    assert_eq!(running.wait_for_exit(), Some(0));
    assert_has_all(&collector, &batches);
}

#[tokio::test]
async fn agent_whose_standard_error_is_not_read_delivers_everything() {
    let (unread, writer) = io::pipe().unwrap();
    let mut command = detached();
    command.stderr(writer);
    check(command).await;
    drop(unread);
}

#[tokio::test]
async fn agent_whose_standard_error_is_closed_by_its_reader_delivers_everything() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut command = detached();
    command.stderr(writer);
    check(command).await;
}

#[tokio::test]
async fn agent_without_standard_error_delivers_everything() {
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"exec "$0" "$@" 2>&-"#, OUTSPAN])
        .stderr(Stdio::null());
    check(command).await;
}

#[tokio::test]
async fn agent_whose_log_is_on_a_full_disk_delivers_everything() {
    if !cfg!(target_os = "linux") {
        skip("only Linux has /dev/full");
        return;
    }
    let mut command = detached();
    command.stderr(File::options().write(true).open("/dev/full").unwrap());
    check(command).await;
}
