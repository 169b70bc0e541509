//! `outspan demo`, run as a program: what it says adds up, and is what a collector of others got.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;

use crate::running::Ran;
use crate::running::Running;
use crate::traces;

fn start(arguments: &[&str]) -> Running {
    Running::start(&[&["demo"], arguments].concat(), &[])
}

fn demo(arguments: &[&str]) -> Ran {
    start(arguments).finish()
}

fn grpc_url(collector: &Collector) -> String {
    collector.endpoint().replace("http", "grpc")
}

/// The numbers of a summary line that begins with `station`, such as 300, 298 and 2 of
/// `library: 300 made = 298 delivered + 2 lost (…)`.
#[track_caller]
fn numbers(ran: &Ran, station: &str) -> Vec<u64> {
    let mut lines = ran.stderr.lines();
    let line = lines.find_map(|line| line.strip_prefix(station));
    let line = line.unwrap_or_else(|| panic!("no {station} in {ran:#?}"));
    let line = line.split('(').next().unwrap();
    let words = line.split([' ', ':']);
    let numbers = words.filter_map(|word| word.replace(',', "").parse().ok());
    numbers.collect()
}

#[track_caller]
fn expect_nothing_lost(ran: &Ran, made: u64) {
    assert_eq!(numbers(ran, "made ")[0], made);
    assert_eq!(numbers(ran, "library"), [made, made, 0]);
    assert_eq!(numbers(ran, "agent"), [made]);
    assert!(ran.stderr.ends_with("nothing was lost\n"), "{ran:#?}");
}

#[test]
fn it_shows_trees_of_everything_that_traces_have_and_adds_up() {
    let ran = demo(&["--spans", "300", "--rate", "0", "--seed", "1"]).expect_status(0);
    expect_nothing_lost(&ran, 300);
    assert_eq!(numbers(&ran, "standard output"), [300, 300, 0]);
    for text in [
        "  error: ",
        "linked to span ",
        "exception shop::",
        "└─ ",
        "frontend",
        "catalogue",
        "cart",
        "checkout",
        "payment",
        "stock",
        "shipping",
    ] {
        assert!(ran.stdout.contains(text), "missing: {text}\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains("incomplete"), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\x1b'), "no colours in a pipe");
    let shown = numbers(&ran, "shown");
    assert_eq!(shown[0] + shown[2], 300, "{ran:#?}");
    assert_eq!(
        ran.stdout.matches("trace ").count() as u64,
        shown[1] + links(&ran)
    );
}

/// How often a link names another trace.
fn links(ran: &Ran) -> u64 {
    ran.stdout.matches("linked to span").count() as u64
}

#[test]
fn it_shows_every_span_when_asked_to() {
    let ran = demo(&["--spans", "500", "--rate", "0", "--trees", "0"]).expect_status(0);
    expect_nothing_lost(&ran, 500);
    let heads = ran.stdout.lines().filter(|line| line.starts_with("trace "));
    let spans = heads.map(|head| {
        let mut parts = head.split(" · ");
        let part =
            parts.find_map(|part| part.strip_suffix(" spans").or(part.strip_suffix(" span")));
        part.unwrap().parse::<u64>().unwrap()
    });
    assert_eq!(spans.sum::<u64>(), 500, "{}", ran.stdout);
    assert_eq!(numbers(&ran, "shown")[0], 500);
    assert!(!ran.stdout.contains("incomplete"), "{}", ran.stdout);
}

#[test]
fn every_span_arrives_at_every_destination() {
    let collectors = [Collector::grpc(), Collector::http()];
    let urls = [grpc_url(&collectors[0]), collectors[1].endpoint()];
    let ran = demo(&[
        "--spans", "700", "--rate", "0", "--to", &urls[0], "--to", &urls[1],
    ])
    .expect_status(0);
    expect_nothing_lost(&ran, 700);
    assert_eq!(ran.stdout, "");
    let arrived = collectors.each_ref().map(|collector| {
        assert_eq!(collector.complaints(), [""; 0]);
        let spans = collector.spans();
        assert_eq!(spans.len(), 700);
        traces::check(&spans);
        let ids = spans.iter().map(|span| span.id());
        ids.collect::<BTreeSet<_>>()
    });
    assert_eq!(arrived[0], arrived[1]);
    let spans = collectors[0].spans();
    let sdk = "telemetry.sdk.language";
    let made_by_sdk = spans
        .iter()
        .filter(|span| traces::resource(span, sdk) == "rust");
    assert_eq!(made_by_sdk.count(), 700);
    let services: BTreeSet<String> = spans
        .iter()
        .map(|span| traces::resource(span, "service.name"))
        .collect();
    assert_eq!(services.len(), 7);
}

#[test]
fn the_same_seed_makes_the_same_visits() {
    let shapes = || {
        let collector = Collector::grpc();
        let url = grpc_url(&collector);
        demo(&["--spans", "200", "--rate", "0", "--seed", "5", "--to", &url]).expect_status(0);
        let mut shapes = BTreeMap::new();
        for span in collector.spans() {
            let service = traces::resource(&span, "service.name");
            *shapes.entry((service, span.span.name)).or_insert(0) += 1;
        }
        shapes
    };
    assert_eq!(shapes(), shapes());
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_in_order_and_nothing_is_lost() {
    for signal in ["INT", "TERM"] {
        let collector = Collector::grpc();
        let url = grpc_url(&collector);
        let mut running = start(&["--spans", "0", "--rate", "400", "--to", &url]);
        running.wait_until_said(" made, ");
        running.signal(signal);
        let ran = running.finish().expect_status(0);
        let made = numbers(&ran, "made ")[0];
        assert!(made > 0);
        expect_nothing_lost(&ran, made);
        assert_eq!(collector.span_count() as u64, made);
    }
}

#[test]
fn a_destination_that_is_down_for_a_moment_loses_nothing() {
    let collector = Collector::http();
    collector.script([
        Answer::refuse(AnswerCode::UNAVAILABLE, "warming up"),
        Answer::refuse(AnswerCode::UNAVAILABLE, "warming up"),
    ]);
    let url = collector.endpoint();
    let ran = demo(&["--spans", "100", "--rate", "0", "--to", &url]).expect_status(0);
    expect_nothing_lost(&ran, 100);
    assert_eq!(collector.span_count(), 100);
    assert_eq!(collector.answers_left(), 0);
}

#[test]
fn a_dead_destination_costs_what_the_summary_says() {
    // A collector that is stopped keeps its port and refuses connections.
    let collector = Collector::grpc();
    collector.stop();
    let url = grpc_url(&collector);
    let ran = demo(&["--spans", "100", "--rate", "0", "--to", &url]).expect_status(1);
    assert_eq!(numbers(&ran, "library"), [100, 100, 0]);
    assert_eq!(numbers(&ran, "agent"), [100]);
    assert_eq!(numbers(&ran, &url), [100, 0, 100]);
    for text in [
        "100 spans were lost or refused\n",
        "refused",
        "is the server running",
    ] {
        assert!(ran.stderr.contains(text), "missing: {text}\n{}", ran.stderr);
    }
}

#[cfg(unix)]
#[test]
fn a_second_signal_stops_at_once_and_still_adds_up() {
    let collector = Collector::grpc();
    collector.always(Answer::Stall);
    let url = grpc_url(&collector);
    let mut running = start(&["--spans", "0", "--rate", "400", "--to", &url]);
    running.wait_until_said(" made, ");
    running.signal("INT");
    running.wait_until_said("no more visits");
    running.signal("INT");
    let ran = running.finish().expect_status(1);
    let made = numbers(&ran, "made ")[0];
    let library = numbers(&ran, "library");
    assert_eq!((library[0], library[1..].iter().sum()), (made, made));
    let received = numbers(&ran, "agent")[0];
    assert_eq!(numbers(&ran, &url), [received, 0, received]);
}

#[test]
fn quiet_shows_only_trees() {
    let ran = demo(&["--spans", "50", "--rate", "0", "--quiet"]).expect_status(0);
    assert_eq!(ran.stderr, "");
    assert!(ran.stdout.starts_with("trace "), "{ran:?}");
}

#[test]
fn wrong_usage_is_told_and_nothing_is_made() {
    for (arguments, told) in [
        (
            &["--to", "localhost:4317"][..],
            "did you mean grpc://localhost:4317?",
        ),
        (&["--rate", "fast"], "\"fast\" is not a number"),
        (&["--trees", "2", "--to", "stdout:"], "--trees"),
    ] {
        let ran = demo(arguments).expect_status(2);
        assert!(ran.stderr.contains(told), "{ran:#?}");
    }
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    let mut running = start(&["--spans", "0"]);
    running.wait_until_shown("trace ");
    running.stop_reading();
    running.finish().expect_status(141);
}
