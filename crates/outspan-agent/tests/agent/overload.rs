//! More comes than goes.

use outspan::Error;
use outspan::Export;
use outspan_testkit::Answer;
use outspan_testkit::Collector;
use outspan_testkit::Gate;
use outspan_testkit::Transport;
use outspan_testkit::batch_with;
use outspan_testkit::soon;

use crate::agent::Agent;
use crate::agent::LIMIT;
use crate::agent::Outcome;
use crate::agent::assert_has_all;
use crate::agent::deliver;
use crate::agent::url_of;

/// A batch of about half a MiB.
fn large_batch() -> outspan::Batch {
    batch_with(50, |_, span| span.name = "x".repeat(10_000))
}

/// Sends until the agent says no; returns what it took, and its words.
async fn send_until_full(agent: &Agent, transport: Transport) -> (Vec<outspan::Batch>, Error) {
    let sender = agent.sender(transport);
    let mut taken = Vec::new();
    for _ in 0..100 {
        let batch = large_batch();
        match sender.export(batch.clone(), soon()).await {
            Ok(delivery) => {
                assert!(delivery.is_complete(), "{delivery:?}");
                taken.push(batch);
            }
            Err(error) => return (taken, error),
        }
    }
    panic!("50 MiB found room in 16");
}

#[tokio::test]
async fn a_full_agent_tells_senders_to_come_back_and_nothing_is_lost() {
    for transport in [Transport::Grpc, Transport::Http] {
        let collector = Collector::grpc();
        let gate = Gate::new();
        collector.always(Answer::stall_until(&gate, Answer::Accept));
        let url = url_of(&collector);
        let agent = Agent::start(&["--to", &url, "--memory", "16MiB", "--timeout", "50s"]);
        let (mut batches, error) = send_until_full(&agent, transport).await;
        assert!(batches.len() >= 5, "{} batches", batches.len());
        assert!(error.is_temporary(), "{error}");
        assert!(error.retry_after().is_some(), "{error}");

        let more: Vec<_> = (0..10).map(|_| large_batch()).collect();
        let senders = more.iter().cloned().map(|batch| {
            let sender = agent.patient_sender();
            tokio::spawn(async move { sender.export(batch, soon()).await })
        });
        let senders: Vec<_> = senders.collect();
        gate.open();
        for sender in senders {
            assert!(sender.await.unwrap().unwrap().is_complete());
        }
        batches.extend(more);
        collector.wait_for_spans(batches.len() * 50, LIMIT).await;
        let ran = agent.stop("TERM").expect_status(0);
        assert_has_all(&collector, &batches);
        let all = Outcome::all(batches.len() as u64 * 50);
        assert_eq!(Outcome::of(&ran, &url), all);
    }
}

#[tokio::test]
async fn a_full_destination_loses_its_own_spans_only_and_says_so() {
    let (healthy, stalled) = (Collector::grpc(), Collector::grpc());
    stalled.always(Answer::Stall);
    let (healthy_url, stalled_url) = (url_of(&healthy), url_of(&stalled));
    let arguments = ["--memory", "16MiB", "--shutdown-timeout", "500ms"];
    let to = ["--to", &healthy_url, "--to", &stalled_url];
    let mut agent = Agent::start(&[&arguments[..], &to].concat());
    let batches: Vec<_> = (0..20).map(|_| large_batch()).collect();
    for (number, batch) in batches.iter().enumerate() {
        agent.send(batch).await;
        // The healthy one keeps up, as it does in life.
        healthy.wait_for_spans((number + 1) * 50, LIMIT).await;
    }
    agent.running().wait_until_said("queue_full");
    let ran = agent.stop("TERM").expect_status(1);
    assert_has_all(&healthy, &batches);
    assert_eq!(Outcome::of(&ran, &healthy_url), Outcome::all(1000));
    let lost = Outcome {
        received: 1000,
        lost: 1000,
        ..Outcome::default()
    };
    assert_eq!(Outcome::of(&ran, &stalled_url), lost);
    ran.expect_said(&["queue_full", "shutdown"]);
}

#[tokio::test]
async fn a_request_that_never_fits_is_refused_for_good_in_words_that_make_senders_split_it() {
    let collector = Collector::grpc();
    let to = ["--to", &url_of(&collector), "--max-request-size", "256KiB"];
    let agent = Agent::start(&to);
    let mut batches = Vec::new();
    for transport in [Transport::Grpc, Transport::Http] {
        let sender = agent.sender(transport);
        let whole = batch_with(1, |_, span| span.name = "x".repeat(300 << 10));
        let refused = sender.export(whole, soon()).await;
        let error = refused.map(|_| ()).unwrap_err();
        assert!(error.is_too_large(), "{error}");
        assert!(!error.is_temporary(), "{error}");

        let splits = large_batch();
        deliver(&sender, &splits).await;
        batches.push(splits);
    }
    collector.wait_for_spans(100, LIMIT).await;
    agent.stop("TERM").expect_status(0);
    assert_has_all(&collector, &batches);
}

#[test]
fn limits_that_the_bound_of_memory_lowers_are_said() {
    let arguments = [
        "--to",
        "stdout:",
        "--memory",
        "16MiB",
        "--max-connections",
        "1000",
    ];
    let ran = Agent::start(&arguments).stop("TERM").expect_status(0);
    ran.expect_said(&[
        "requests may have 6.0 MiB at most, because --memory is 16.0 MiB\n",
        "there may be 102 connections at most, because --memory is 16.0 MiB\n",
    ]);
}
