//! Stopping: in order, within a time, or at once.

use std::time::Duration;
use std::time::Instant;

use outspan_testkit::Answer;
use outspan_testkit::Collector;
use outspan_testkit::Gate;
use outspan_testkit::batch_of;

use crate::agent::Agent;
use crate::agent::LIMIT;
use crate::agent::Outcome;
use crate::agent::assert_has_all;
use crate::agent::url_of;

#[tokio::test]
async fn the_first_signal_delivers_everything_that_is_held() {
    for (signal, word) in [("INT", "interrupted"), ("TERM", "terminated")] {
        let collector = Collector::grpc();
        let gate = Gate::new();
        collector.always(Answer::stall_until(&gate, Answer::Accept));
        let url = url_of(&collector);
        let mut agent = Agent::start(&["--to", &url, "--batch-spans", "10"]);
        let batches: Vec<_> = (0..10).map(|_| batch_of(10)).collect();
        for batch in &batches {
            agent.send(batch).await;
        }
        collector.wait_for_in_flight(4, LIMIT).await;
        agent.running().signal(signal);
        let line = format!("{word}: delivering 100 spans within 20.0 s");
        agent.running().wait_until_said(&line);
        gate.open();
        let ran = agent.finish().expect_status(0);
        assert_has_all(&collector, &batches);
        assert_eq!(Outcome::of(&ran, &url), Outcome::all(100));
    }
}

#[tokio::test]
async fn a_dead_backend_holds_the_end_up_no_longer_than_asked_for() {
    let collector = Collector::grpc();
    collector.stop();
    let url = url_of(&collector);
    let agent = Agent::start(&["--to", &url, "--shutdown-timeout", "1s"]);
    agent.send(&batch_of(1234)).await;
    let began = Instant::now();
    let ran = agent.stop("TERM").expect_status(1);
    let took = began.elapsed();
    // The rest is a busy machine's.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(Outcome::of(&ran, &url).lost, 1234);
    ran.expect_said(&[": delivered 0 of 1,234 spans, lost 1,234 (1234 shutdown)\n"]);
}

#[tokio::test]
async fn the_second_signal_stops_at_once_and_says_what_is_lost() {
    let collector = Collector::grpc();
    collector.always(Answer::Stall);
    let url = url_of(&collector);
    let mut agent = Agent::start(&["--to", &url, "--shutdown-timeout", "1h"]);
    agent.send(&batch_of(50)).await;
    collector.wait_for_in_flight(1, LIMIT).await;
    agent.running().signal("INT");
    agent
        .running()
        .wait_until_said("a second signal stops at once");
    let ran = agent.stop("TERM").expect_status(1);
    assert_eq!(Outcome::of(&ran, &url).lost, 50);
    ran.expect_said(&["warning: terminated again: stopping at once\n"]);
}

#[tokio::test]
async fn an_agent_that_held_nothing_stops_at_once() {
    let collector = Collector::grpc();
    collector.stop();
    let agent = Agent::start(&["--to", &url_of(&collector), "--shutdown-timeout", "1h"]);
    agent.stop("TERM").expect_status(0).expect_said(&[
        "terminated: stopping\n",
        "received 0 spans in ",
        ": delivered 0 of 0 spans\n",
    ]);
}
