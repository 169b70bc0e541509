//! `outspan generate`, run as a program against collectors that others wrote the decoder of.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::CollectedSpan;
use outspan_testkit::Collector;
use outspan_testkit::Transport;

use crate::running::LIMIT;
use crate::running::Ran;
use crate::running::Running;
use crate::traces;

fn start(arguments: &[&str]) -> Running {
    Running::start(&[&["generate"], arguments].concat(), &[])
}

fn generate(arguments: &[&str]) -> Ran {
    start(arguments).finish()
}

/// The collector's address as `--to` takes it.
fn url(collector: &Collector) -> String {
    match collector.transport() {
        Transport::Grpc => collector.endpoint().replace("http", "grpc"),
        Transport::Http => collector.endpoint(),
    }
}

/// Spans sent, acknowledged, refused and failed, as the summary says.
#[track_caller]
fn numbers(ran: &Ran) -> [u64; 4] {
    assert_eq!(ran.stdout, "");
    let mut lines = ran.stderr.lines();
    let sent = lines.find(|line| line.contains("sent ") && line.contains(" to "));
    let sent = sent.unwrap_or_else(|| panic!("no summary in {ran:#?}"));
    let sent = sent.split_once("sent ").unwrap().1;
    let ends = lines.next().unwrap();
    let all = format!("{} {ends}", sent.split(' ').next().unwrap());
    let words = all.split(' ');
    let numbers: Vec<u64> = words
        .filter_map(|word| word.replace(',', "").parse().ok())
        .collect();
    let numbers: [u64; 4] = numbers.try_into().unwrap();
    assert_eq!(numbers[0], numbers[1..].iter().sum::<u64>(), "{ran:#?}");
    numbers
}

fn by_trace(spans: &[CollectedSpan]) -> HashMap<&[u8], Vec<&CollectedSpan>> {
    let mut traces: HashMap<&[u8], Vec<&CollectedSpan>> = HashMap::new();
    for span in spans {
        traces.entry(&span.span.trace_id).or_default().push(span);
    }
    traces
}

fn is_error(span: &CollectedSpan) -> bool {
    let status = span.span.status.as_ref();
    status.is_some_and(|status| status.code() == StatusCode::Error)
}

#[test]
fn what_arrives_is_what_was_asked_for_and_what_it_says() {
    for (collector, compression) in [(Collector::grpc(), "zstd"), (Collector::http(), "gzip")] {
        let url = url(&collector);
        let line = format!(
            "--to {url} --spans 6000 --rate 0 --spans-per-trace 10 --errors 20 --attributes 3 \
             --attribute-size 50 --seed 1 --compression {compression}"
        );
        let ran = generate(&line.split_whitespace().collect::<Vec<_>>()).expect_status(0);
        assert_eq!(numbers(&ran), [6000, 6000, 0, 0]);
        assert!(ran.stderr.contains("at the median"), "{ran:#?}");
        assert_eq!(collector.complaints(), [""; 0]);
        let requests = collector.requests();
        assert!(
            requests
                .iter()
                .all(|r| r.compression() == Some(compression))
        );
        let wire_bytes: usize = requests.iter().map(|request| request.wire_bytes).sum();
        let told = format!("({} bytes a span)", wire_bytes / 6000);
        assert!(ran.stderr.contains(&told), "{told}: {ran:#?}");

        let spans = collector.spans();
        assert_eq!(spans.len(), 6000);
        traces::check(&spans);
        let traces = by_trace(&spans);
        assert_eq!(traces.len(), 600);
        assert!(traces.values().all(|spans| spans.len() == 10));
        let failed = traces
            .values()
            .filter(|spans| spans.iter().any(|s| is_error(s)));
        let failed = failed.count();
        assert!((119..=121).contains(&failed), "{failed} of 600");
        for span in &spans {
            let further = span.span.attributes.iter().filter(|pair| {
                let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
                let is_of_size =
                    matches!(value, Some(Value::StringValue(text)) if text.len() == 50);
                pair.key.starts_with("load.") && is_of_size
            });
            assert_eq!(further.count(), 3);
        }
    }
}

#[test]
fn the_traces_are_those_of_a_whole_shop() {
    let collector = Collector::grpc();
    let url = url(&collector);
    let ran = generate(&["--to", &url, "--spans", "4000", "--rate", "0"]).expect_status(0);
    assert_eq!(numbers(&ran), [4000, 4000, 0, 0]);
    let spans = collector.spans();
    traces::check(&spans);
    let services: BTreeSet<String> = spans
        .iter()
        .map(|span| traces::resource(span, "service.name"))
        .collect();
    assert_eq!(services.len(), 7);
    let kinds: BTreeSet<i32> = spans.iter().map(|span| span.span.kind).collect();
    assert_eq!(kinds.len(), 5);
    assert!(spans.iter().any(|span| !span.span.links.is_empty()));
    let mut events = spans.iter().flat_map(|span| &span.span.events);
    assert!(events.any(|event| event.name == "exception"));
}

#[test]
fn several_workers_send_exactly_as_many_and_no_id_twice() {
    let collector = Collector::grpc();
    let url = url(&collector);
    let line = format!("--to {url} --spans 5001 --rate 0 --workers 4 --concurrency 8 --seed 9");
    let ran = generate(&line.split(' ').collect::<Vec<_>>()).expect_status(0);
    assert_eq!(numbers(&ran), [5001, 5001, 0, 0]);
    let spans = collector.spans();
    assert_eq!(spans.len(), 5001);
    let ids: BTreeSet<_> = spans.iter().map(|s| (&s.span.trace_id, s.id())).collect();
    assert_eq!(ids.len(), 5001);
}

#[test]
fn throttling_is_honoured_and_nothing_is_lost() {
    const DELAY: Duration = Duration::from_millis(1500);

    for (collector, code) in [
        (Collector::grpc(), AnswerCode::UNAVAILABLE),
        (Collector::http(), AnswerCode::THROTTLED),
    ] {
        collector.script([Answer::retry_after(code, DELAY)]);
        let url = url(&collector);
        let line = format!("--to {url} --spans 300 --rate 0 --batch-spans 300 --concurrency 1");
        let ran = generate(&line.split(' ').collect::<Vec<_>>()).expect_status(0);
        assert_eq!(numbers(&ran), [300, 300, 0, 0]);
        assert!(ran.stderr.contains("1 attempt made again"), "{ran:#?}");
        assert_eq!(collector.span_count(), 300);
        let requests = collector.requests();
        assert_eq!(requests.len(), 2);
        // Retry-After counts whole seconds.
        let waited = requests[1].at - requests[0].at;
        assert!(waited >= Duration::from_secs(1), "{waited:?}");
    }
}

#[test]
fn a_collector_that_fails_now_and_then_loses_nothing() {
    let collector = Collector::grpc();
    collector.script([
        Answer::Accept,
        Answer::refuse(AnswerCode::UNAVAILABLE, "not now"),
        Answer::Accept,
        Answer::refuse(AnswerCode::UNAVAILABLE, "not now"),
    ]);
    let url = url(&collector);
    // One at a time: another export that succeeds meanwhile ends the trouble before anybody hears of it.
    let line = format!("--to {url} --spans 3000 --rate 0 --concurrency 1");
    let ran = generate(&line.split(' ').collect::<Vec<_>>()).expect_status(0);
    assert_eq!(numbers(&ran), [3000, 3000, 0, 0]);
    assert!(ran.stderr.contains("2 attempts made again"), "{ran:#?}");
    assert!(ran.stderr.contains("; trying again\n"), "{ran:#?}");
    let spans = collector.spans();
    assert_eq!(spans.len(), 3000);
    traces::check(&spans);
}

#[test]
fn what_is_refused_is_counted_with_the_reason() {
    let collector = Collector::http();
    collector.script([
        Answer::partial(7, "too old"),
        Answer::refuse(AnswerCode::INVALID_ARGUMENT, "malformed"),
    ]);
    let url = url(&collector);
    let line = format!("--to {url} --spans 1000 --rate 0 --batch-spans 100 --concurrency 1");
    let ran = generate(&line.split(' ').collect::<Vec<_>>()).expect_status(1);
    assert_eq!(numbers(&ran), [1000, 893, 107, 0]);
    for text in ["too old", "malformed"] {
        assert!(ran.stderr.contains(text), "missing: {text}\n{}", ran.stderr);
    }
    assert_eq!(collector.span_count(), 893);
}

#[test]
fn a_dead_address_is_told_with_what_to_do() {
    // A collector that is stopped keeps its port and refuses connections.
    let collector = Collector::grpc();
    collector.stop();
    let url = url(&collector);
    let ran = generate(&["--to", &url, "--spans", "100", "--retries", "0"]).expect_status(1);
    let [sent, acknowledged, refused, failed] = numbers(&ran);
    assert_eq!((acknowledged, refused), (0, 0));
    assert!(sent > 0 && failed == sent, "{ran:#?}");
    for text in ["refused", "advice: OTLP/gRPC usually listens on port 4317"] {
        assert!(ran.stderr.contains(text), "missing: {text}\n{}", ran.stderr);
    }
}

#[test]
fn a_refused_token_ends_it_with_what_to_do() {
    let collector = Collector::grpc();
    collector.always(Answer::require_header("authorization", "Bearer right"));
    let url = url(&collector);
    let line = ["--to", &url, "--rate", "0", "--header"];
    let wrong = [&line[..], &["authorization=Bearer wr0ng"]].concat();
    let ran = generate(&wrong).expect_status(1);
    let [sent, acknowledged, refused, failed] = numbers(&ran);
    assert_eq!((acknowledged, refused + failed), (0, sent));
    assert!(ran.stderr.contains("advice: give the token"), "{ran:#?}");
    assert!(!ran.stderr.contains("wr0ng"), "{ran:#?}");
    let right = [&line[..], &["authorization=Bearer right", "--spans", "10"]].concat();
    generate(&right).expect_status(0);
    assert_eq!(collector.span_count(), 10);
}

#[test]
fn it_keeps_to_the_rate_for_as_long_as_asked() {
    let collector = Collector::grpc();
    let url = url(&collector);
    let ran = generate(&["--to", &url, "--rate", "400", "--duration", "2s"]).expect_status(0);
    let [sent, acknowledged, ..] = numbers(&ran);
    assert_eq!(sent, acknowledged);
    assert_eq!(collector.span_count() as u64, sent);
    // A batch of a tenth of a second may be more; a busy machine sends less, and never makes up for it.
    assert!((100..=840).contains(&sent), "{sent}");
    let largest = collector.requests().iter().map(|r| r.span_count()).max();
    assert!(largest <= Some(40), "{largest:?}");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_and_the_numbers_are_still_right() {
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        let collector = Collector::http();
        let url = url(&collector);
        let running = start(&["--to", &url, "--duration", "10m"]);
        collector.wait_for_spans_blocking(100, LIMIT);
        running.signal(signal);
        let ran = running.finish().expect_status(status);
        let [sent, acknowledged, ..] = numbers(&ran);
        assert_eq!(sent, acknowledged);
        assert_eq!(collector.span_count() as u64, sent);
    }
}

#[cfg(unix)]
#[test]
fn a_second_signal_stops_at_once_and_counts_what_is_cut_off() {
    let collector = Collector::grpc();
    collector.always(Answer::Stall);
    let url = url(&collector);
    let mut running = start(&["--to", &url, "--rate", "0"]);
    running.wait_until_said("sending to");
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let waiting = collector.wait_for_requests(1, LIMIT);
    assert!(!runtime.unwrap().block_on(waiting).is_empty());
    running.signal("INT");
    running.wait_until_said("sending stopped");
    running.signal("INT");
    let ran = running.finish().expect_status(130);
    let [sent, acknowledged, refused, failed] = numbers(&ran);
    assert!(sent > 0, "{ran:#?}");
    assert_eq!((acknowledged, refused, failed), (0, 0, sent));
    assert!(ran.stderr.contains("cut off by the signal"), "{ran:#?}");
}

#[test]
fn wrong_usage_is_told_and_nothing_is_sent() {
    let collector = Collector::grpc();
    let url = url(&collector);
    for (arguments, told) in [
        (&["--to", "stdout:"][..], "a load needs an OTLP receiver"),
        (&["--to", "localhost:4317"], "did you mean grpc://"),
        (
            &["--to", &url, "--protocol", "json"],
            "--protocol has no meaning here",
        ),
        (
            &[
                "--to",
                &url,
                "--attributes",
                "100",
                "--attribute-size",
                "1MiB",
            ],
            "more than 1 MiB a span",
        ),
        (&["--to", &url, "--errors", "200"], "between 0 and 100"),
    ] {
        let ran = generate(arguments).expect_status(2);
        assert!(ran.stderr.contains(told), "{ran:#?}");
    }
    assert_eq!(collector.connections(), 0);
}
