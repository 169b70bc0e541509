//! The admin address answers in time whatever connections are open and whatever the agent is busy with.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rustix::process::Resource;
use rustix::process::Rlimit;

use crate::agent::Agent;
use crate::agent::get_within;

/// How long an answer may take.
const IN_TIME: Duration = Duration::from_secs(1);

/// How often an answer may come late because the machine itself is busy.
const TRIES: usize = 5;

/// What a connection of a client does that is slow or idle.
#[derive(Clone, Copy, Debug)]
enum Slow {
    SendsNothing,
    SendsHalfAHead,
    ReadsNothing,
}

/// Allows this process as many files as the system lets it; returns how many.
fn raise_file_limit() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Without more files there are fewer connections.
    rustix::process::setrlimit(Resource::Nofile, raised).ok();
    let now = rustix::process::getrlimit(Resource::Nofile).current;
    now.map_or(usize::MAX, |now| usize::try_from(now).unwrap_or(usize::MAX))
}

fn connect(address: &str, slow: Slow) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), IN_TIME * 10).ok()?;
    let bytes: &[u8] = match slow {
        Slow::SendsNothing => b"",
        Slow::SendsHalfAHead => b"GET /healthz HTTP/1.1\r\nhos",
        Slow::ReadsNothing => b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n",
    };
    // The agent may have closed it for the next one.
    stream.write_all(bytes).ok();
    Some(stream)
}

#[track_caller]
fn assert_in_time(address: &str, what: &str) {
    for (path, expected) in [
        ("/healthz", "ok\n"),
        ("/readyz", "ready\n"),
        ("/metrics", "outspan_"),
    ] {
        let answered = (0..TRIES).any(|_| {
            get_within(address, path, IN_TIME)
                .is_some_and(|answer| answer.contains("200 OK") && answer.contains(expected))
        });
        assert!(answered, "{path} in {IN_TIME:?} with {what}");
    }
}

#[test]
fn health_is_answered_in_time_with_thousands_of_slow_connections() {
    let files = raise_file_limit();
    let agent = Agent::start(&["--to", "grpc://127.0.0.1:9"]);
    for wanted in [300, 2000] {
        let connections = wanted.min(files.saturating_sub(100));
        for slow in [Slow::SendsNothing, Slow::SendsHalfAHead, Slow::ReadsNothing] {
            let open: Vec<_> = (0..connections)
                .map(|_| connect(agent.admin(), slow))
                .collect();
            assert_in_time(agent.admin(), &format!("{connections} of {slow:?}"));
            drop(open);
        }
        let open: Vec<_> = (0..connections / 2)
            .map(|_| connect(agent.http(), Slow::SendsHalfAHead))
            .collect();
        assert_in_time(agent.admin(), "slow connections to a receiver");
        drop(open);
    }
    agent.stop("TERM").expect_status(0);
}

#[test]
fn health_is_answered_in_time_while_connections_keep_coming() {
    let agent = Agent::start(&["--to", "grpc://127.0.0.1:9"]);
    let is_over = Arc::new(AtomicBool::new(false));
    let address = agent.admin().to_owned();
    let flood = {
        let is_over = Arc::clone(&is_over);
        thread::spawn(move || {
            let mut open = std::collections::VecDeque::new();
            while !is_over.load(Ordering::Relaxed) {
                open.extend(connect(&address, Slow::SendsHalfAHead));
                if open.len() > 200 {
                    open.pop_front();
                }
            }
        })
    };
    for _ in 0..20 {
        assert_in_time(agent.admin(), "a flood of connections");
    }
    is_over.store(true, Ordering::Relaxed);
    flood.join().unwrap();
}

#[test]
fn health_is_answered_in_time_while_requests_take_every_core() {
    let agent = Agent::start(&["--to", "grpc://127.0.0.1:9"]);
    let is_over = Arc::new(AtomicBool::new(false));
    let span =
        r#"{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"x"},"#;
    let spans = span.repeat(20_000);
    let body = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#,
        spans.trim_end_matches(',')
    );
    let request = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (address, request) = (agent.http().to_owned(), request.clone());
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let mut stream = TcpStream::connect(&address).unwrap();
                    // Sent back for want of room, in the end.
                    stream.write_all(request.as_bytes()).ok();
                    stream.read_to_end(&mut Vec::new()).ok();
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let answered = (0..TRIES).any(|_| {
            get_within(agent.admin(), "/healthz", IN_TIME)
                .is_some_and(|answer| answer.ends_with("\r\n\r\nok\n"))
        });
        assert!(answered);
    }
    is_over.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.join().unwrap();
    }
}
