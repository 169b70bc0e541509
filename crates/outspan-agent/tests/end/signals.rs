//! Each signal with each state of the destination: the agent ends in time or goes on, and every span is accounted for.

use std::time::Duration;
use std::time::Instant;

use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;
use outspan_testkit::batch_of;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::agent::Agent;
use crate::agent::LIMIT;
use crate::agent::Outcome;
use crate::agent::assert_has_all;
use crate::agent::has_setsid;
use crate::agent::skip;
use crate::agent::url_of;

/// How long ending may take with `--shutdown-timeout 1s`; the rest is a busy machine's.
const END_LIMIT: Duration = Duration::from_secs(10);

/// The state of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    Up,
    /// Nobody listens.
    Refusing,
    /// Requests are read and never answered.
    Hanging,
    /// Every answer asks to come back in an hour.
    AskingToWait,
}

/// What an agent does on a signal.
#[derive(Clone, Copy, Debug)]
enum Reaction {
    /// It stops in order, and says this word.
    Stops(&'static str),
    /// It goes on, and says this.
    GoesOn(&'static str),
}

const MATRIX: [(&str, Reaction); 7] = [
    ("TERM", Reaction::Stops("terminated")),
    ("INT", Reaction::Stops("interrupted")),
    ("QUIT", Reaction::Stops("quit")),
    (
        "HUP",
        Reaction::GoesOn("SIGHUP: no files of certificates or tokens"),
    ),
    ("USR1", Reaction::GoesOn("ignored SIGUSR1")),
    ("USR2", Reaction::GoesOn("ignored SIGUSR2")),
    ("XFSZ", Reaction::GoesOn("ignored SIGXFSZ")),
];

impl Backend {
    fn start(self) -> Collector {
        let collector = Collector::grpc();
        match self {
            Self::Up => {}
            Self::Refusing => collector.stop(),
            Self::Hanging => collector.always(Answer::Stall),
            Self::AskingToWait => collector.always(Answer::retry_after(
                AnswerCode::UNAVAILABLE,
                Duration::from_secs(3600),
            )),
        }
        collector
    }

    /// Waits until the agent knows the state.
    async fn is_known(self, agent: &mut Agent, collector: &Collector) {
        match self {
            Self::Up => drop(collector.wait_for_spans(100, LIMIT).await),
            Self::Refusing | Self::AskingToWait => {
                agent.running().wait_until_said("cannot deliver spans");
            }
            Self::Hanging => collector.wait_for_in_flight(1, LIMIT).await,
        }
    }

    /// What the report says about the cause of losses.
    fn causes(self) -> &'static [&'static str] {
        match self {
            Self::Up => &[],
            Self::Refusing => &["lost (shutdown) because of: cannot connect"],
            Self::Hanging => &["lost (shutdown) because of: ", "no answer"],
            Self::AskingToWait => &["lost (shutdown) because of: ", "asked to wait"],
        }
    }
}

async fn check(signal: &str, reaction: Reaction, backend: Backend) {
    let collector = backend.start();
    let url = url_of(&collector);
    let mut agent = Agent::start(&["--to", &url, "--shutdown-timeout", "1s"]);
    let mut batches = vec![batch_of(100)];
    agent.send(&batches[0]).await;
    backend.is_known(&mut agent, &collector).await;
    let (last, word) = match reaction {
        Reaction::Stops(word) => (signal, word),
        Reaction::GoesOn(words) => {
            agent.running().signal(signal);
            agent.running().wait_until_said(words);
            ("TERM", "terminated")
        }
    };
    batches.push(batch_of(50));
    agent.send(&batches[1]).await;
    let began = Instant::now();
    let ran = agent.stop(last);
    let took = began.elapsed();
    assert!(took < END_LIMIT, "{signal} {backend:?}: {took:?}");
    let status = if backend == Backend::Up { 0 } else { 1 };
    let ran = ran
        .expect_status(status)
        .expect_said(&[&format!("{word}: "), "received 150 spans in "])
        .expect_said(backend.causes());
    let outcome = Outcome::of(&ran, &url);
    assert_eq!(outcome.received, 150, "{ran:#?}");
    match backend {
        Backend::Up => {
            assert_eq!(outcome, Outcome::all(150));
            assert_has_all(&collector, &batches);
        }
        _ => {
            assert_eq!(outcome.lost, 150, "{ran:#?}");
            assert_eq!(collector.span_count(), 0);
        }
    }
}

/// Sends each signal of the matrix to an agent of its own.
async fn check_all(backend: Backend) {
    let mut cases = JoinSet::new();
    for (signal, reaction) in MATRIX {
        if signal == "HUP" && !has_setsid() {
            skip("SIGHUP without a terminal needs setsid");
            continue;
        }
        // Programs are waited for on threads.
        cases.spawn_blocking(move || Handle::current().block_on(check(signal, reaction, backend)));
    }
    while let Some(ended) = cases.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_signal_while_destination_is_up() {
    check_all(Backend::Up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_signal_while_destination_refuses_connections() {
    check_all(Backend::Refusing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_signal_while_destination_hangs() {
    check_all(Backend::Hanging).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_signal_while_destination_asks_to_wait_an_hour() {
    check_all(Backend::AskingToWait).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_signals_that_end_programs_by_default_are_ignored() {
    let collector = Collector::grpc();
    let mut agent = Agent::start(&["--to", &url_of(&collector)]);
    let mut signals = vec![
        ("ALRM", "SIGALRM"),
        ("VTALRM", "SIGVTALRM"),
        ("PROF", "SIGPROF"),
        ("XCPU", "SIGXCPU"),
    ];
    if cfg!(target_os = "linux") {
        signals.extend([
            ("IO", "SIGIO"),
            ("PWR", "signal "),
            ("40", "signal 40"),
            ("64", "signal 64"),
        ]);
    }
    for (signal, name) in signals {
        // A second one is not worth a line, and does no harm either.
        agent.running().signal(signal);
        agent.running().wait_until_said(&format!("ignored {name}"));
        agent.running().signal(signal);
    }
    agent.running().signal("PIPE");
    agent.send(&batch_of(10)).await;
    let ran = agent.stop("TERM").expect_status(0);
    assert_eq!(ran.stderr.matches("ignored SIGALRM").count(), 1, "{ran:#?}");
    assert_eq!(collector.span_count(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_stop_signal_drops_what_is_held_and_hang_up_does_not() {
    let collector = crate::agent::hanging();
    let url = url_of(&collector);
    let mut agent = Agent::start(&["--to", &url, "--shutdown-timeout", "1h"]);
    agent.send(&batch_of(30)).await;
    collector.wait_for_in_flight(1, LIMIT).await;
    agent.running().signal("QUIT");
    agent.running().wait_until_said("quit: delivering 30 spans");
    // Neither ends the drain.
    agent.running().signal("HUP");
    agent.running().signal("USR1");
    agent.running().wait_until_said("ignored SIGUSR1");
    let ran = agent.stop("INT").expect_status(1);
    let ran = ran.expect_said(&["interrupted again: stopping at once"]);
    assert_eq!(Outcome::of(&ran, &url).lost, 30);
}
