//! Destinations in every state, and every way in which a program ends.

use std::time::Duration;

use opentelemetry::trace::Tracer;
use outspan::Guard;
use outspan_testkit::Answer;
use outspan_testkit::AnswerCode;
use outspan_testkit::Collector;

use crate::program;
use crate::program::Ended;
use crate::program::Program;

/// How long the end of a program may take.
const LIMIT: Duration = Duration::from_millis(1500);

/// How much longer a process may take on a machine with much else to do.
const SLACK: Duration = Duration::from_secs(4);

/// How many spans a program ends: half of them before the destination is asked for the first time.
const SPANS: usize = 10;

const HOUR: Duration = Duration::from_secs(3600);

/// The ways to end.
const ENDS: [&str; 6] = ["drop", "guard", "provider", "two threads", "-TERM", "-INT"];

/// The program of every test here.
#[test]
fn program() {
    let Some(end) = program::name() else {
        return;
    };
    let guard = outspan::builder().drop_timeout(LIMIT).init().unwrap();
    end_spans(&guard);
    // The destination is asked once; what comes of it is up to the test.
    drop(guard.flush(Duration::from_millis(300)));
    end_spans(&guard);
    match end.as_str() {
        "-TERM" | "-INT" => wait_for_signals(),
        _ => program::wait_for_the_word(),
    }
    match end.as_str() {
        "guard" => program::say(format_args!("result {:?}", guard.shutdown(LIMIT))),
        "provider" => program::say(format_args!(
            "result {:?}",
            guard.provider().shutdown_with_timeout(LIMIT)
        )),
        "two threads" => shut_down_on_two_threads(&guard),
        _ => {}
    }
}

fn end_spans(guard: &Guard) {
    let tracer = guard.tracer("program");
    for _ in 0..SPANS / 2 {
        tracer.in_span("work", |_| {});
    }
}

fn wait_for_signals() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        use tokio::signal::unix::SignalKind;
        use tokio::signal::unix::signal;
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        let mut interrupt = signal(SignalKind::interrupt()).unwrap();
        program::say_ready();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
}

fn shut_down_on_two_threads(guard: &Guard) {
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| guard.shutdown(LIMIT)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap().unwrap())
            .collect()
    });
    assert_eq!(results[0], results[1], "one shutdown, two answers");
    program::say(&results[0]);
}

/// Runs the program once for every way to end, against a collector in the state that `set` makes, which is another one
/// by the time the program ends.
fn every_end(
    begin: impl Fn(&Collector),
    change: impl Fn(&Collector),
    check: impl Fn(&str, &Collector, &Ended),
) {
    for end in ENDS {
        let collector = Collector::http();
        begin(&collector);
        let endpoint = collector.endpoint();
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_BSP_SCHEDULE_DELAY", "60000"),
        ];
        let program = Program::start("matrix::program", end, &variables).ready();
        change(&collector);
        let ended = match end {
            "-TERM" | "-INT" => program.signal(end),
            _ => program.end(),
        };
        assert!(ended.took < LIMIT + SLACK, "{end}: {ended:#?}");
        let arrived = collector.span_count();
        assert_eq!(arrived + ended.lost(), SPANS, "{end}: {ended:#?}");
        check(end, &collector, &ended);
    }
}

/// Checks the line of a program that lost spans.
fn told(collector: &Collector, ended: &Ended, lost: usize, cause: &str) {
    assert_eq!(ended.lost(), lost, "{ended:#?}");
    let address = collector.address().to_string();
    let line = ended.told().remove(0);
    let expected = format!(
        "outspan: {lost} of {SPANS} spans were not delivered to otlp ({address}): {lost} shutdown; "
    );
    assert!(line.starts_with(&expected), "{line}");
    assert!(line.contains(cause), "{line}");
}

fn ask_to_wait() -> Answer {
    Answer::retry_after(AnswerCode::UNAVAILABLE, HOUR)
}

#[test]
fn destination_that_is_up_gets_everything() {
    every_end(
        |_| {},
        |_| {},
        |end, _, ended| {
            assert_eq!(ended.stderr, "", "{end}");
        },
    );
}

#[test]
fn destination_that_refuses_connections_is_given_up_soon() {
    every_end(
        Collector::stop,
        |_| {},
        |_, collector, ended| {
            told(
                collector,
                ended,
                SPANS,
                "cannot connect: Connection refused",
            )
        },
    );
}

#[test]
fn destination_that_goes_away_is_tried_until_the_limit() {
    every_end(
        |_| {},
        Collector::stop,
        |_, collector, ended| {
            assert!(ended.took >= LIMIT, "{ended:#?}");
            told(collector, ended, SPANS / 2, "Connection refused");
        },
    );
}

#[test]
fn destination_that_hangs_costs_the_limit() {
    every_end(
        |collector| collector.always(Answer::Stall),
        |_| {},
        |_, collector, ended| {
            told(collector, ended, SPANS, "no answer from");
        },
    );
}

#[test]
fn destination_that_asked_to_wait_and_is_back_gets_everything() {
    every_end(
        |collector| collector.always(ask_to_wait()),
        |collector| collector.always(Answer::Accept),
        |end, _, ended| {
            assert_eq!(ended.stderr, "", "{end}");
        },
    );
}

#[test]
fn destination_that_still_asks_to_wait_gets_one_more_batch() {
    every_end(
        |collector| collector.always(ask_to_wait()),
        |_| {},
        |end, collector, ended| {
            told(collector, ended, SPANS, "asked to wait: 3600s");
            assert!(ended.took < LIMIT, "{end}: {ended:#?}");
            assert_eq!(collector.requests().len(), 2, "{end}: {ended:#?}");
        },
    );
}
