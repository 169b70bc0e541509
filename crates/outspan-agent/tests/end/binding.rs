//! What cannot be opened is found before the first request is served.

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::agent::LIMIT;
use crate::agent::detached;
use crate::running::Ran;
use crate::running::Running;

/// The kinds of addresses of an agent, each as the option that names it.
const ADDRESSES: [&str; 6] = [
    "--listen=grpc://",
    "--listen=http://",
    "--listen=zipkin+http://",
    "--listen=jaeger+http://",
    "--listen=jaeger+udp://",
    "--admin=",
];

/// Ports that were free a moment ago, for TCP and UDP, all different.
fn free_ports() -> [u16; ADDRESSES.len()] {
    let sockets = ADDRESSES.map(|_| {
        loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = tcp.local_addr().unwrap();
            if let Ok(udp) = UdpSocket::bind(address) {
                break (address.port(), tcp, udp);
            }
        }
    });
    sockets.map(|(port, ..)| port)
}

/// A client that sends requests all the time, and counts those that were accepted.
struct Client {
    accepted: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Client {
    fn start(port: u16) -> Self {
        let accepted = Arc::<AtomicUsize>::default();
        let is_over = Arc::<AtomicBool>::default();
        let thread = {
            let (accepted, is_over) = (Arc::clone(&accepted), Arc::clone(&is_over));
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    if send(port).is_some_and(|answer| answer.starts_with("HTTP/1.1 20")) {
                        accepted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        Self {
            accepted,
            is_over,
            thread,
        }
    }

    /// Ends it and says how many requests were accepted.
    fn end(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.accepted.load(Ordering::Relaxed)
    }
}

fn send(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let body = "{}";
    let request = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Runs an agent on these ports while a client sends to it.
fn run(ports: [u16; ADDRESSES.len()], to: &str) -> (Ran, usize) {
    let client = Client::start(ports[1]);
    let mut command = detached();
    command.arg("agent");
    for (address, port) in ADDRESSES.iter().zip(ports) {
        command.arg(format!("{address}127.0.0.1:{port}"));
    }
    command
        .args(["--to", to])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let ran = Running::spawn(&mut command).finish();
    (ran, client.end())
}

#[test]
fn taken_address_ends_start_before_anything_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let to = format!("file:{}", directory.path().join("spans.jsonl").display());
    for (taken, address) in ADDRESSES.iter().enumerate() {
        // The admin address is the last one to be opened, so a server that begins early has most time there.
        for _ in 0..if *address == "--admin=" { 10 } else { 1 } {
            let ports = free_ports();
            let at = ("127.0.0.1", ports[taken]);
            let _udp = UdpSocket::bind(at).unwrap();
            // Port 1 of the list is what the client sends to, and nobody answers there if it is taken.
            let listener = TcpListener::bind(at).unwrap();
            listener.set_nonblocking(true).unwrap();
            let (ran, accepted) = match taken {
                1 => {
                    let answering = thread::spawn(move || close_all(&listener));
                    let ran = run(ports, &to);
                    drop(answering);
                    ran
                }
                _ => run(ports, &to),
            };
            assert_eq!(accepted, 0, "{address}");
            let ran = ran.expect_status(2);
            let option = address.split('=').next().unwrap();
            ran.expect_said(&[
                "error: cannot listen on ",
                &format!(":{}", ports[taken]),
                option,
            ]);
        }
    }
}

/// Closes every connection that comes to a listener, for as long as a test may take.
fn close_all(listener: &TcpListener) {
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while std::time::Instant::now() < end {
        drop(listener.accept());
        // Sleeps: accepting with a limit has no other way in the standard library.
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn destination_that_cannot_be_opened_ends_start_before_anything_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("directory.pb")).unwrap();
    for to in [
        format!("file:{}", directory.path().join("directory.pb").display()),
        format!(
            "file:{}",
            directory.path().join("no/such/spans.pb").display()
        ),
    ] {
        let (ran, accepted) = run(free_ports(), &to);
        assert_eq!(accepted, 0);
        ran.expect_status(2).expect_said(&["cannot open "]);
    }
}

#[test]
fn signal_while_a_destination_is_opened_ends_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe.pb");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for signal in ["TERM", "INT", "QUIT"] {
        let mut command = detached();
        command
            // Opening a named pipe waits for its reader.
            .args(["agent", "--admin", "off", "--listen", "grpc://127.0.0.1:0"])
            .args(["--to", &format!("file:{}", pipe.display()), "-vv"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = Running::spawn(&mut command);
        running.wait_until_said("starting");
        running.signal(signal);
        let ran = running.finish().expect_status(0);
        ran.expect_said(&[": stopping, nothing was accepted yet"]);
    }
}
