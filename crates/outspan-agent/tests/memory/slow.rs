//! Senders that begin large requests and do not end them.

use std::io::Write;
use std::net::TcpStream;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::agent::Agent;
use crate::agent::send;
use crate::requests;

/// The bound of memory and the address space, in MiB.
const MEMORY: usize = 64;
const SPACE: usize = MEMORY + 512;

/// More of them than there is address space for, if each got as much as its request may have.
const SENDERS: usize = 60;

/// How many bytes each of them gets through, decompressed: a little more than what is kept in small steps.
const BEGUN: usize = (1 << 20) + (100 << 10);

#[test]
fn requests_that_do_not_end_leave_address_space_for_others() {
    let to = ["--to".to_owned(), "stdout:compact".to_owned()];
    let mut agent = Agent::start(MEMORY, SPACE, &to, Stdio::null());
    // Flushed, so that all of it can be decompressed by now.
    let begun = requests::gzip(&vec![0; BEGUN]);
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: agent\r\nContent-Type: application/x-protobuf\r\n\
         Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        begun.len() + 1000
    );
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let mut stream = TcpStream::connect(agent.http()).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&begun).unwrap();
            stream
        })
        .collect();
    // Sleeps: what the program has read by now tells nobody.
    thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    let mut answers = Vec::new();
    for number in 1..=20 {
        let answer = send(agent.http(), &requests::ordinary(number), false);
        answers.push(answer.unwrap());
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(
        answers
            .iter()
            .all(|status| matches!(status, 200 | 429 | 503)),
        "{answers:?}"
    );
    assert_eq!(agent.ended(), None, "{}", agent.log());
    let peak = agent.resident("VmHWM:").unwrap();
    assert!(peak < (MEMORY + 64) as f64, "{peak} MiB");
    let space = agent.resident("VmPeak:").unwrap();
    // It did not come near the limit.
    assert!(space < (SPACE - 64) as f64, "{space} MiB of address space");
    drop(senders);
}
