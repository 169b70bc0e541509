//! `--ack delivered`: bounds of answers that wait, and what they say.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

use outspan::Batch;
use outspan::Deadline;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;
use outspan_testkit::Gate;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;
use serde_json::Value;
use serde_json::json;

use crate::acks::Told;
use crate::acks::Way;
use crate::acks::begin;
use crate::acks::read;
use crate::acks::send;
use crate::acks::send_within;
use crate::acks::start;
use crate::acks::told;
use crate::agent::Agent;
use crate::agent::LIMIT;
use crate::agent::Outcome;
use crate::agent::url_of;

#[tokio::test]
async fn late_answers_name_the_time_that_was_over() {
    let collector = Collector::grpc();
    collector.always(Answer::Stall);
    let url = url_of(&collector);
    let to = ["--shutdown-timeout", "500ms", "--to", &url];
    let agent = start(&[&["--ack-timeout", "300ms"], &to[..]].concat());
    for way in Way::ALL {
        let late = told(send(&agent, way, &batch_of(2))).await;
        late.expect_later("in time (--ack-timeout): this agent keeps them and goes on; sent again");
    }
    agent.stop("TERM").expect_status(1);

    let agent = start(&to);
    let until = Deadline::after(Duration::from_secs(3));
    let impatient = send_within(&agent, Way::Grpc, &batch_of(2), until);
    told(impatient).await.expect_later("(grpc-timeout)");
    agent.stop("TERM").expect_status(1);

    let batches = ["--batch-spans", "8", "--batch-delay", "1h"];
    let to = ["--shutdown-timeout", "4s", "--to", &url];
    let mut agent = start(&[&batches[..], &to].concat());
    let waiting = Way::ALL.map(|way| send(&agent, way, &batch_of(2)));
    collector.wait_for_in_flight(1, LIMIT).await;
    agent.running().signal("TERM");
    for waiting in waiting {
        let late = told(waiting).await;
        late.expect_later("before this agent stops");
    }
    agent.finish().expect_status(1);
}

#[tokio::test]
async fn answers_beyond_the_bound_of_bytes_name_it() {
    let (healthy, stalled) = (Collector::grpc(), Collector::grpc());
    stalled.always(Answer::Stall);
    let memory = ["--memory", "16MiB", "--shutdown-timeout", "500ms"];
    let to = ["--to", &url_of(&healthy), "--to", &url_of(&stalled)];
    let agent = start(&[&memory[..], &to].concat());
    // The spans of all answers that wait have as many bytes as a queue: 3 MiB.
    let large = batch_with(110, |_, span| span.name = "x".repeat(10_000));
    let mut waiting = Vec::new();
    for count in 1..=2 {
        waiting.push(send(&agent, Way::Grpc, &large));
        healthy.wait_for_spans(110 * count, LIMIT).await;
    }
    for way in [Way::Grpc, Way::Http] {
        let more = told(send(&agent, way, &large)).await;
        more.expect_later("as many bytes as they may (--memory)");
    }
    assert_eq!(healthy.span_count(), 220, "nothing more was taken");
    agent.stop("TERM").expect_status(1);
}

#[tokio::test]
async fn one_more_sender_over_http1_is_answered_by_default() {
    let collector = Collector::grpc();
    let gate = Gate::new();
    collector.always(Answer::stall_until(&gate, Answer::Accept));
    let url = url_of(&collector);
    let agent = start(&["--memory", "16MiB", "--batch-delay", "10ms", "--to", &url]);
    let ways = [Way::Http, Way::Zipkin, Way::Jaeger].into_iter().cycle();
    let begun: Vec<_> = ways
        .take(70)
        .map(|way| begin(&agent, way, &batch_of(1)))
        .collect();
    let is_answered = |connection: &&TcpStream| {
        let wait = Duration::from_millis(5);
        connection.set_read_timeout(Some(wait)).unwrap();
        let answered = connection.peek(&mut [0]).is_ok();
        connection.set_read_timeout(Some(LIMIT)).unwrap();
        answered
    };
    let end = Instant::now() + LIMIT;
    while begun.iter().filter(is_answered).count() < 6 {
        assert!(Instant::now() < end, "six answers");
    }
    gate.open();
    let mut successes = 0;
    for connection in begun {
        match told(tokio::task::spawn_blocking(|| read(connection))).await {
            Told::Success => successes += 1,
            later => later.expect_later("--max-waiting-answers"),
        }
    }
    assert_eq!(successes, 64);
    let ran = agent.stop("TERM").expect_status(0);
    assert_eq!(Outcome::of(&ran, &url), Outcome::all(64));
}

#[tokio::test]
async fn requests_without_spans_wait_for_nothing() {
    let collector = Collector::grpc();
    let gate = Gate::new();
    collector.always(Answer::stall_until(&gate, Answer::Accept));
    let agent = start(&["--max-waiting-answers", "1", "--to", &url_of(&collector)]);
    let waiting = send(&agent, Way::Grpc, &batch_of(5));
    collector.wait_for_in_flight(1, LIMIT).await;
    let empty = begin(&agent, Way::Http, &Batch::empty());
    let answer = told(tokio::task::spawn_blocking(|| read(empty))).await;
    assert_eq!(answer, Told::Success);
    gate.open();
    assert_eq!(told(waiting).await, Told::Success);
    agent.stop("TERM").expect_status(0);
}

#[tokio::test]
async fn traces_without_a_root_are_acknowledged_once_they_are_shown() {
    let agent = start(&["--ack-timeout", "8s", "--to", "stdout:"]);
    let orphan = batch_with(1, |_, span| span.parent_span_id = vec![7; 8]);
    let senders = Way::ALL.map(|way| send(&agent, way, &orphan));
    for sender in senders {
        assert_eq!(told(sender).await, Told::Success);
    }
    let ran = agent.stop("TERM").expect_status(0);
    assert!(ran.stdout.contains("incomplete"), "{}", ran.stdout);
}

#[tokio::test]
async fn traces_that_go_on_are_acknowledged_as_well() {
    let agent = start(&["--ack-timeout", "4s", "--to", "stdout:"]);
    let part = |number: u8| {
        batch_with(1, move |_, span| {
            span.trace_id = vec![9; 16];
            span.span_id = vec![number; 8];
            span.parent_span_id = vec![7; 8];
        })
    };
    let first = send(&agent, Way::Grpc, &part(1));
    let mut others = Vec::new();
    // The trace is never quiet for half a second, and its root never comes.
    while !first.is_finished() {
        let number = u8::try_from(others.len() + 2).expect("the first is answered in time");
        let answer = begin(&agent, Way::Http, &part(number));
        others.push(tokio::task::spawn_blocking(|| read(answer)));
        // Sleeps: the trace has to go on for seconds, and the agent is another process.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(told(first).await, Told::Success);
    for other in others {
        assert_eq!(told(other).await, Told::Success);
    }
    agent.stop("TERM").expect_status(0);
}

#[tokio::test]
async fn answers_that_end_before_batches_go_are_warned_of() {
    let collector = Collector::grpc();
    let url = url_of(&collector);
    for (delay, is_told) in [("300ms", true), ("299ms", false)] {
        let times = ["--ack-timeout", "300ms", "--batch-delay", delay];
        let agent = start(&[&times[..], &["--to", &url]].concat());
        let ran = agent.stop("TERM").expect_status(0);
        assert_eq!(ran.stderr.contains("--batch-delay"), is_told, "{delay}");
    }
}

#[tokio::test]
async fn one_rejected_span_is_told_in_the_singular() {
    let collector = Collector::http();
    collector.always(Answer::partial(1, "odd"));
    let agent = start(&["--to", &url_of(&collector)]);
    for way in Way::ALL {
        let Told::Partial(_, text) = told(send(&agent, way, &batch_of(3))).await else {
            panic!("{way:?}");
        };
        assert!(text.contains("1 span was rejected"), "{text}");
    }
    agent.stop("TERM").expect_status(1);
}

/// Sends a batch as JSON. Returns the head of the answer and its body.
async fn send_json(agent: &Agent, batch: &Batch) -> (String, Value) {
    let address = agent.address("http").to_owned();
    let body = batch.to_json();
    let mut connection = TcpStream::connect(&address).unwrap();
    connection.set_read_timeout(Some(LIMIT)).unwrap();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(&body).unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = tokio::time::timeout(LIMIT, answer).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"));
    (head.to_lowercase(), body)
}

#[tokio::test]
async fn answers_in_json_say_what_became_of_the_spans() {
    let collector = Collector::grpc();
    let url = url_of(&collector);
    let agent = start(&["--retries", "0", "--to", &url]);
    let (head, body) = send_json(&agent, &batch_of(3)).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, json!({}));
    assert_eq!(collector.span_count(), 3, "delivered before the answer");

    collector.always(Answer::partial(2, "two are odd"));
    let (head, body) = send_json(&agent, &batch_of(3)).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let partial = &body["partialSuccess"];
    assert_eq!(partial["rejectedSpans"], "2");
    let text = partial["errorMessage"].as_str().unwrap();
    assert!(text.contains("two are odd"), "{text}");

    collector.always(Answer::refuse(AnswerCode::UNAVAILABLE, "not now"));
    let (head, body) = send_json(&agent, &batch_of(3)).await;
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert!(head.contains("retry-after: "), "{head}");
    assert_eq!(body["code"], 14);
    let details = &body["details"][0];
    assert_eq!(details["@type"], "type.googleapis.com/google.rpc.RetryInfo");
    assert!(details["retryDelay"].is_string(), "{body}");
    let ran = agent.stop("TERM").expect_status(1);
    let outcome = Outcome::of(&ran, &url);
    assert_eq!(
        (outcome.delivered, outcome.refused, outcome.lost),
        (4, 2, 3)
    );
}

#[tokio::test]
async fn expired_spans_are_unavailable() {
    for way in Way::ALL {
        let (healthy, away) = (Collector::grpc(), Collector::http());
        away.stop();
        let to = ["--to", &url_of(&healthy), "--to", &url_of(&away)];
        let agent = start(&[&["--max-elapsed", "700ms"], &to[..]].concat());
        let late = told(send(&agent, way, &batch_of(4))).await;
        late.expect_later("not every destination has these spans (expired");
        assert_eq!(healthy.span_count(), 4);
        agent.stop("TERM").expect_status(1);
    }
}
