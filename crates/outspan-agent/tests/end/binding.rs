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

/// Sockets on a free port each, for TCP and UDP.
fn free_sockets() -> Vec<(u16, TcpListener, UdpSocket)> {
    let sockets = ADDRESSES.map(|_| {
        loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = tcp.local_addr().unwrap();
            if let Ok(udp) = UdpSocket::bind(address) {
                return (address.port(), tcp, udp);
            }
        }
    });
    sockets.into()
}

/// Ports that were free a moment ago.
fn free_ports() -> Vec<u16> {
    free_sockets().into_iter().map(|(port, ..)| port).collect()
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
fn run(ports: &[u16], to: &str) -> (Ran, usize) {
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
    let ran = Running::of_command(&mut command).finish();
    (ran, client.end())
}

/// Starts an agent while one of its addresses is taken; says what it said. Another program may have taken another one.
fn start_with_taken(taken: usize, to: &str) -> (u16, Ran) {
    let mut sockets = free_sockets();
    let ports: Vec<_> = sockets.iter().map(|(port, ..)| *port).collect();
    let (port, listener, _udp) = sockets.swap_remove(taken);
    drop(sockets);
    // What the client sends to is this one in one of the cases, and nobody answers there.
    listener.set_nonblocking(true).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let closing = {
        let is_over = Arc::clone(&is_over);
        thread::spawn(move || close_all(&listener, &is_over))
    };
    let (ran, accepted) = run(&ports, to);
    is_over.store(true, Ordering::Relaxed);
    closing.join().unwrap();
    assert_eq!(accepted, 0, "{}", ADDRESSES[taken]);
    (port, ran.expect_status(2))
}

#[test]
fn taken_address_ends_start_before_anything_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let to = format!("file:{}", directory.path().join("spans.jsonl").display());
    for (taken, address) in ADDRESSES.iter().enumerate() {
        // The admin address is the last one to be opened, so a server that begins early has most time there.
        let wanted = if *address == "--admin=" { 10 } else { 1 };
        let runs = (0..wanted + 10).map(|_| start_with_taken(taken, &to));
        let named = runs.filter(|(port, ran)| {
            let option = address.split('=').next().unwrap_or_default();
            let says = |text: &str| ran.stderr.contains(text);
            says("error: cannot listen on ") && says(&format!(":{port}")) && says(option)
        });
        assert_eq!(named.take(wanted).count(), wanted, "{address}");
    }
}

/// Closes every connection that comes to a listener.
fn close_all(listener: &TcpListener, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
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
        let (ran, accepted) = run(&free_ports(), &to);
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
        let mut running = Running::of_command(&mut command);
        running.wait_until_said("starting");
        running.signal(signal);
        let ran = running.finish().expect_status(0);
        ran.expect_said(&[": stopping, nothing was accepted yet"]);
    }
}
