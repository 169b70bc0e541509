//! Stopping, pacing and limits.

use std::io::Write;
use std::time::Duration;

use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;
use outspan_testkit::Gate;
use outspan_testkit::Transport;

use crate::input;
use crate::input::Files;
use crate::program;
use crate::program::LIMIT;

fn url_of(collector: &Collector) -> String {
    match collector.transport() {
        Transport::Grpc => collector.endpoint().replace("http", "grpc"),
        Transport::Http => collector.endpoint(),
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_second_signal_ends_at_once_and_the_summary_says_what_is_lost() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(8, 5)));
    let collector = Collector::grpc();
    collector.always(Answer::Stall);
    let arguments = [&file, "--to", &url_of(&collector), "--batch-spans", "10"];
    let mut running = program::start(&arguments, &[]);
    collector.wait_for_in_flight(4, LIMIT).await;
    running.signal("INT");
    running.wait_until_said("interrupted: reading stopped");
    running.signal("INT");
    running.finish().expect_status(130).expect_said(&[
        "40 spans read",
        "  0 spans delivered\n",
        "  40 spans failed\n",
        "cut off",
    ]);
}

#[cfg(unix)]
#[tokio::test]
async fn the_first_signal_stops_reading_and_delivers_what_was_read() {
    let collector = Collector::grpc();
    let gate = Gate::new();
    collector.always(Answer::stall_until(&gate, Answer::Accept));
    let mut running = program::start(&["-", "--to", &url_of(&collector)], &[]);
    let mut stdin = running.stdin();
    stdin
        .write_all(&input::json_lines(&input::requests(2, 5)))
        .unwrap();
    collector.wait_for_in_flight(1, LIMIT).await;
    running.signal("TERM");
    running.wait_until_said("terminated: reading stopped, 10 spans already read");
    gate.open();
    // Standard input is still open: only the signal ends the run.
    let ran = running.finish_with(stdin);
    ran.expect_status(143).expect_said(&[
        "terminated: 10 spans read",
        "  10 spans delivered\n",
        "what follows standard input, line 2 was not read",
    ]);
    assert_eq!(collector.span_count(), 10);
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_after_everything_was_read_costs_nothing() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(2, 5)));
    let collector = Collector::http();
    let gate = Gate::new();
    collector.always(Answer::stall_until(&gate, Answer::Accept));
    let mut running = program::start(&[&file, "--to", &url_of(&collector)], &[]);
    collector.wait_for_in_flight(1, LIMIT).await;
    running.signal("INT");
    running.wait_until_said("interrupted: reading stopped");
    gate.open();
    running
        .finish()
        .expect_status(0)
        .expect_said(&["delivered 10 spans"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_after_it_gave_up_does_not_start_over() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(8, 5)));
    let collector = Collector::grpc();
    collector.script([
        Answer::Stall,
        Answer::refuse(AnswerCode::UNAUTHENTICATED, "who?"),
    ]);
    let url = url_of(&collector);
    let arguments = [
        &file,
        "--to",
        &url,
        "--batch-spans",
        "5",
        "--concurrency",
        "2",
    ];
    let mut running = program::start(&[&arguments[..], &["--verbose"]].concat(), &[]);
    running.wait_until_said("batch not delivered");
    running.signal("INT");
    running.wait_until_said("interrupted: reading stopped");
    running.signal("INT");
    running.finish().expect_status(1).expect_said(&[
        "  0 spans delivered\n",
        "  5 spans refused by the destination\n",
        "who?",
        "cut off by the signal; some may have arrived\n",
    ]);
    assert_eq!(collector.requests().len(), 2);
}

#[tokio::test]
async fn a_pipe_that_goes_quiet_is_delivered_before_it_ends() {
    let collector = Collector::grpc();
    let mut running = program::start(&["-", "--to", &url_of(&collector)], &[]);
    let mut stdin = running.stdin();
    let requests = input::requests(2, 5);
    stdin.write_all(&input::json_lines(&requests[..1])).unwrap();
    collector.wait_for_spans(5, LIMIT).await;
    stdin.write_all(&input::json_lines(&requests[1..])).unwrap();
    collector.wait_for_spans(10, LIMIT).await;
    drop(stdin);
    running.finish().expect_status(0);
}

#[test]
fn the_deadline_ends_the_whole_run() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(8, 5)));
    let collector = Collector::grpc();
    collector.script([Answer::Accept]);
    collector.always(Answer::Stall);
    let url = url_of(&collector);
    let arguments = [
        &file,
        "--to",
        &url,
        "--batch-spans",
        "10",
        "--concurrency",
        "1",
    ];
    program::send(&[&arguments[..], &["--deadline", "1s"]].concat())
        .expect_status(1)
        .expect_said(&["  10 spans delivered\n", "--deadline"]);
    assert_eq!(collector.span_count(), 10);
}

#[test]
fn an_attempt_ends_with_its_timeout_and_is_made_again() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(1, 5)));
    let collector = Collector::http();
    collector.script([Answer::Stall]);
    let arguments = [&file, "--to", &url_of(&collector), "--timeout", "300ms"];
    program::send(&arguments)
        .expect_status(0)
        .expect_said(&["attempt timeout of 300ms passed", "; trying again\n"]);
    assert_eq!(collector.requests().len(), 2);
}

#[test]
fn a_destination_that_asks_to_wait_is_waited_for() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(1, 5)));
    for collector in [Collector::grpc(), Collector::http()] {
        let wait = Duration::from_secs(2);
        collector.script([Answer::retry_after(AnswerCode::THROTTLED, wait)]);
        program::send(&[&file, "--to", &url_of(&collector)]).expect_status(0);
        let requests = collector.requests();
        assert_eq!(requests.len(), 2);
        assert!(requests[1].at - requests[0].at >= wait);
        assert_eq!(collector.span_count(), 5);
    }
}

#[test]
fn the_rate_is_not_exceeded() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(3, 100)));
    let collector = Collector::grpc();
    let url = url_of(&collector);
    let arguments = [&file, "--to", &url, "--rate", "200", "--batch-spans", "50"];
    program::send(&arguments).expect_status(0);
    let requests = collector.requests();
    assert_eq!(requests.len(), 6);
    let first = requests.iter().map(|request| request.at).min().unwrap();
    let last = requests.iter().map(|request| request.at).max().unwrap();
    // Five intervals of a quarter of a second; the network may have held the first one back a little.
    assert!(
        last - first >= Duration::from_millis(1150),
        "{:?}",
        last - first
    );
    assert_eq!(collector.span_count(), 300);
}

#[tokio::test]
async fn as_many_batches_are_on_the_way_as_asked_for() {
    let files = Files::new();
    let file = files.write("shop.jsonl", &input::json_lines(&input::requests(40, 5)));
    let collector = Collector::grpc();
    let gate = Gate::new();
    collector.always(Answer::stall_until(&gate, Answer::Accept));
    let url = url_of(&collector);
    let arguments = [
        &file,
        "--to",
        &url,
        "--batch-spans",
        "5",
        "--concurrency",
        "7",
    ];
    let running = program::start(&arguments, &[]);
    collector.wait_for_in_flight(7, LIMIT).await;
    gate.open();
    running.finish().expect_status(0);
    assert_eq!(collector.in_flight_most(), 7);
    assert_eq!(collector.span_count(), 200);
}
