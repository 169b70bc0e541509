//! Spans that become very large for a destination, and do not hold up others.

use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::agent::Agent;
use crate::agent::send;
use crate::destinations::Destination;
use crate::destinations::Kind;
use crate::destinations::State;
use crate::requests;

/// The bound of memory, in MiB.
const MEMORY: usize = 64;

/// More of them than the agent sends at the same time.
const LARGE: usize = 6;

/// How soon an ordinary span has to arrive; the large ones take minutes.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn ordinary_spans_arrive_while_others_take_gigabytes() {
    check(&[]);
}

#[test]
fn ordinary_spans_arrive_while_gigabytes_are_compressed() {
    check(&["--compression", "gzip", "--compression-level", "1"]);
}

fn check(more: &[&str]) {
    let (destination, stdout) = Destination::start(Kind::ZipkinJson, State::Up);
    let more = more.iter().map(|text| (*text).to_owned());
    let arguments: Vec<_> = destination.arguments.iter().cloned().chain(more).collect();
    let mut agent = Agent::start(MEMORY, MEMORY + 512, &arguments, stdout);
    let large = requests::written_large();
    for _ in 0..LARGE {
        assert_eq!(send(agent.http(), &large, true).unwrap(), 200);
    }
    let begun = Instant::now();
    // Several, so that some are not in one batch with large ones.
    for number in 1..=3 {
        let answer = send(agent.http(), &requests::ordinary(number), false);
        assert_eq!(answer.unwrap(), 200);
        let has_come = || destination.seen().contains(&number);
        while !has_come() {
            assert!(
                begun.elapsed() < SOON,
                "{number}: {:?}\n{}",
                agent.status(),
                agent.log()
            );
            // Sleeps: another program's destination tells nobody when it has something.
            thread::sleep(Duration::from_millis(20));
        }
    }
    let status = agent.status().unwrap();
    assert!(status.open > 0, "the large ones are on the way: {status:?}");
    assert_eq!(status.received, status.settled + status.open);
    let peak = agent.resident("VmHWM:").unwrap();
    assert!(peak < (MEMORY + 64) as f64, "{peak} MiB");
}
