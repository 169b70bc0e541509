//! Spans that a destination finds too large, down to the last one, while each part repeats a large resource.

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

/// How soon every span has to be accounted for. A program that is not optimised sends about a hundred parts a second.
const SOON: Duration = Duration::from_secs(120);

#[test]
fn parts_of_a_refused_batch_stay_within_the_bound() {
    let (destination, stdout) = Destination::start(Kind::HttpProtobuf, State::TooLarge);
    let mut agent = Agent::start(MEMORY, MEMORY + 512, &destination.arguments, stdout);
    let large = requests::Kind::LargeResource.gzipped();
    assert_eq!(send(agent.http(), large, true).unwrap(), 200);
    let end = Instant::now() + SOON;
    loop {
        let status = agent.status().unwrap();
        assert_eq!(status.received, status.settled + status.open);
        let peak = agent.resident("VmHWM:").unwrap();
        assert!(peak < (MEMORY + 64) as f64, "{peak} MiB, {status:?}");
        if status.settled == 1000 {
            break;
        }
        assert!(Instant::now() < end, "{status:?}\n{}", agent.log());
        // Sleeps: another program tells nobody when its spans are settled.
        thread::sleep(Duration::from_millis(20));
    }
    agent.stop().unwrap();
}
