//! Tracing in one call, in programs of their own with an environment of their own.
//!
//! Each test starts this binary again, with itself as the only test; there it is the program that it names.

#![cfg(all(feature = "sdk", feature = "grpc", feature = "http"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::Command;
use std::process::Output;
use std::time::Duration;

use opentelemetry::trace::Tracer;
use outspan_testkit::Collector;
use outspan_testkit::Transport;

const SOON: Duration = Duration::from_secs(10);

/// Set where a test is to be its program.
const IS_PROGRAM: &str = "OUTSPAN_TEST_IS_PROGRAM";

/// What a program says between its span and its end.
const SPOKEN: &str = "the span has ended";

/// In the process that a test started, runs its program; false in the test itself.
fn is_program(program: fn()) -> bool {
    let is_program = std::env::var_os(IS_PROGRAM).is_some();
    if is_program {
        program();
    }
    is_program
}

/// Starts the named test once more, as its program, with no OTEL variables but these.
fn run(test: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", test]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
    command.env(IS_PROGRAM, "1").envs(variables.iter().copied());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(stdout(&output).contains("1 passed"), "{output:?}");
    output
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn names(collector: &Collector) -> Vec<String> {
    let spans = collector.spans();
    let mut names: Vec<_> = spans.iter().map(|span| span.span.name.clone()).collect();
    names.sort();
    names
}

#[test]
fn spans_of_tracing_arrive_and_those_of_our_network_code_do_not() {
    if is_program(program_with_tracing) {
        return;
    }
    for (transport, protocol) in [
        (Transport::Grpc, "grpc"),
        (Transport::Http, "http/protobuf"),
    ] {
        let collector = Collector::over(transport).start();
        let output = run(
            "spans_of_tracing_arrive_and_those_of_our_network_code_do_not",
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint()),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_SERVICE_NAME", "from the environment"),
                ("OTEL_BSP_SCHEDULE_DELAY", "1"),
            ],
        );
        assert_eq!(names(&collector), ["item", "item", "order"], "{output:?}");
        let resource = collector.spans().remove(0).resource.unwrap();
        assert!(format!("{resource:?}").contains("from the environment"));
        let spans = collector.spans();
        let order = spans.iter().find(|span| span.span.name == "order").unwrap();
        let items = spans.iter().filter(|span| span.span.name == "item");
        for item in items {
            assert_eq!(item.span.parent_span_id, order.span.span_id);
        }
        assert_eq!(collector.complaints(), Vec::<String>::new());
    }
}

#[test]
fn the_provider_becomes_the_global_one() {
    if is_program(program_with_the_global_provider) {
        return;
    }
    let collector = Collector::http();
    let endpoint = collector.endpoint();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    run("the_provider_becomes_the_global_one", &variables);
    assert_eq!(names(&collector), ["work"]);

    let disabled = [variables[0], ("OTEL_SDK_DISABLED", "true")];
    run("the_provider_becomes_the_global_one", &disabled);
    assert_eq!(collector.span_count(), 1);
}

#[test]
fn the_console_shows_spans_to_people() {
    if is_program(program_with_the_global_provider) {
        return;
    }
    let output = run(
        "the_console_shows_spans_to_people",
        &[("OTEL_TRACES_EXPORTER", "console")],
    );
    assert!(stdout(&output).contains("work"), "{output:?}");
}

#[test]
fn standard_output_gets_otlp_json_lines() {
    if is_program(program_with_the_global_provider) {
        return;
    }
    let output = run(
        "standard_output_gets_otlp_json_lines",
        &[("OTEL_TRACES_EXPORTER", "otlp/stdout")],
    );
    let text = stdout(&output);
    // The test harness may have begun the line.
    let begin = text.find(r#"{"resourceSpans""#).unwrap();
    let line = text[begin..].lines().next().unwrap();
    let checked = outspan::Batch::from_json(line.as_bytes()).unwrap();
    let names: Vec<_> = checked.batch.iter().map(|span| span.name()).collect();
    assert_eq!(names, ["work"]);
}

/// The console shows a span when it ends, and OTLP waits for company: by the kind of processor that each one has.
#[test]
fn the_console_shows_a_span_at_once_and_otlp_lines_come_in_batches() {
    if is_program(program_that_speaks_after_its_span) {
        return;
    }
    let spoken_and_shown = |exporter, sign: &str| {
        let output = run(
            "the_console_shows_a_span_at_once_and_otlp_lines_come_in_batches",
            &[
                ("OTEL_TRACES_EXPORTER", exporter),
                ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
            ],
        );
        let text = stdout(&output);
        let places = [SPOKEN, sign].map(|words| text.find(words));
        places.map(|place| place.unwrap_or_else(|| panic!("{output:?}")))
    };
    let [spoken, shown] = spoken_and_shown("console", "work");
    assert!(shown < spoken, "the console waits");
    let [spoken, shown] = spoken_and_shown("otlp/stdout", "resourceSpans");
    assert!(spoken < shown, "each span is a batch of its own");
}

#[test]
fn mistakes_are_told_where_nothing_is_there_yet_to_log_to() {
    if is_program(program_with_the_global_provider) {
        return;
    }
    let output = run(
        "mistakes_are_told_where_nothing_is_there_yet_to_log_to",
        &[
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ],
    );
    let said = "outspan: OTEL_BSP_MAX_QUEUE_SIZE=\"many\": expected a whole number of at least 1; it is ignored";
    assert!(
        stderr(&output).lines().any(|line| line == said),
        "{output:?}"
    );
}

#[test]
fn what_was_lost_at_the_end_is_told() {
    if is_program(program_in_a_hurry) {
        return;
    }
    let collector = Collector::http();
    let endpoint = collector.endpoint();
    // Nobody listens there any more.
    drop(collector);
    let output = run(
        "what_was_lost_at_the_end_is_told",
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)],
    );
    let text = stderr(&output);
    let address = endpoint.trim_start_matches("http://");
    let said = format!(
        "outspan: 1 of 1 spans were not delivered to otlp ({address}): 1 shutdown; cannot connect"
    );
    assert!(text.lines().any(|line| line.starts_with(&said)), "{text}");
}

#[test]
fn the_exporter_alone_comes_from_the_environment_too() {
    if is_program(program_with_the_exporter_alone) {
        return;
    }
    let collector = Collector::grpc();
    run(
        "the_exporter_alone_comes_from_the_environment_too",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=shop"),
        ],
    );
    assert_eq!(collector.span_count(), 4);
    assert_eq!(collector.requests()[0].header("x-tenant"), Some("shop"));
}

fn program_with_tracing() {
    use tracing_subscriber::prelude::*;
    let guard = outspan::init().unwrap();
    // No filter: whatever traces itself would be exported.
    let spans = tracing_opentelemetry::layer().with_tracer(guard.tracer("program"));
    tracing_subscriber::registry().with(spans).init();
    let order = tracing::info_span!("order", items = 2);
    order.in_scope(|| {
        for number in 0..2 {
            tracing::info_span!("item", number).in_scope(|| {});
            // Connecting and sending happen while spans are open, too.
            drop(guard.flush(SOON).unwrap());
        }
    });
    drop(order);
    drop(guard);
}

fn program_with_the_global_provider() {
    let _guard = outspan::init().unwrap();
    opentelemetry::global::tracer("program").in_span("work", |_| {});
}

fn program_that_speaks_after_its_span() {
    let guard = outspan::init().unwrap();
    guard.tracer("program").in_span("work", |_| {});
    let mut output = std::io::stdout();
    writeln!(output, "{SPOKEN}").unwrap();
    output.flush().unwrap();
    drop(guard);
}

fn program_in_a_hurry() {
    let hurry = Duration::from_millis(200);
    let guard = outspan::builder().drop_timeout(hurry).init().unwrap();
    guard.tracer("program").in_span("work", |_| {});
}

fn program_with_the_exporter_alone() {
    use outspan::Export;
    let exporter = outspan::env::exporter().unwrap();
    let batch = outspan_testkit::batch_of(4);
    let until = outspan::Deadline::after(SOON);
    let delivery = futures_executor::block_on(exporter.export(batch, until)).unwrap();
    assert!(delivery.is_complete());
}
