//! What a program without a `tracing` subscriber is told at its end.

use std::time::Duration;

use opentelemetry::trace::Tracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::BatchSpanProcessor;
use opentelemetry_sdk::trace::SdkTracerProvider;
use outspan::otlp;
use outspan::sdk::BatchProcessor;
use outspan::sdk::SdkExporter;
use outspan::sdk::SimpleProcessor;
use outspan_testkit::Answer;
use outspan_testkit::Collector;

use crate::program;
use crate::program::Ended;
use crate::program::Program;

const SOON: Duration = Duration::from_secs(10);

/// The program of every test here.
#[test]
fn program() {
    let Some(name) = program::name() else {
        return;
    };
    match name.as_str() {
        "batch" => end_spans_with(BatchProcessor::new(exporter())),
        "simple" => end_spans_with(SimpleProcessor::new(exporter())),
        "stock" => {
            let stock = BatchSpanProcessor::builder(SdkExporter::new(exporter()));
            end_spans_with(stock.build());
        }
        name => with_guard(name),
    }
}

fn exporter() -> outspan::Exporter {
    let endpoint = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").unwrap();
    otlp::http(endpoint).build().unwrap()
}

/// Drops the provider without a shutdown.
fn end_spans_with(processor: impl opentelemetry_sdk::trace::SpanProcessor + 'static) {
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .build();
    end_spans(&provider);
}

fn end_spans(provider: &SdkTracerProvider) {
    let tracer = provider.tracer("program");
    for _ in 0..10 {
        tracer.in_span("work", |_| {});
    }
}

fn with_guard(name: &str) {
    let guard = outspan::init().unwrap();
    if name == "subscriber" {
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(std::io::stdout)
            .init();
    }
    end_spans(guard.provider());
    match name {
        "shut down" => drop(guard.shutdown(SOON).unwrap()),
        "provider" => program::say(format_args!("result {:?}", guard.provider().shutdown())),
        "open span" => {
            let _open = guard.tracer("program").start("open");
            drop(guard);
        }
        "open spans of threads" => {
            let tracer = guard.tracer("program");
            let start = || (0..100).map(|_| tracer.start("open")).collect::<Vec<_>>();
            let open: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
                threads.into_iter().map(|t| t.join().unwrap()).collect()
            });
            drop(guard);
            drop(open);
        }
        "late span" => {
            let open = guard.tracer("program").start("open");
            let drained = guard.shutdown(SOON).unwrap();
            program::say(&drained);
            drop(open);
        }
        _ => {}
    }
}

fn run(name: &str, collector: &Collector, variables: &[(&str, &str)]) -> Ended {
    let endpoint = collector.endpoint();
    let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    all.extend(variables);
    Program::start("told::program", name, &all).end()
}

fn refuses() -> Collector {
    let collector = Collector::http();
    collector.always(Answer::refuse(404, "no such path"));
    collector
}

#[test]
fn nothing_is_told_when_nothing_was_lost() {
    for name in ["drop", "shut down", "provider"] {
        let collector = Collector::http();
        let ended = run(name, &collector, &[]);
        assert_eq!(collector.span_count(), 10);
        assert_eq!(ended.stderr, "", "{name}");
    }
}

#[test]
fn spans_that_did_not_fit_into_the_queue_are_told_once() {
    for name in ["drop", "shut down", "provider"] {
        let collector = Collector::http();
        let ended = run(name, &collector, &[("OTEL_BSP_MAX_QUEUE_SIZE", "2")]);
        assert_eq!(collector.span_count() + ended.lost(), 10, "{ended:#?}");
        let told = ended.told();
        assert_eq!(told.len(), 1, "{ended:#?}");
        let address = collector.address().to_string();
        assert!(told[0].contains(" queue_full"), "{told:?}");
        assert!(told[0].contains(&address), "{told:?}");
    }
}

#[test]
fn wrong_endpoint_is_told_once_with_its_answer() {
    for name in ["drop", "shut down", "provider"] {
        let collector = refuses();
        let ended = run(name, &collector, &[]);
        let told = ended.told();
        assert_eq!(told.len(), 1, "{ended:#?}");
        let address = collector.address().to_string();
        let line = format!(
            "outspan: 10 of 10 spans were not delivered to otlp ({address}): 10 rejected; "
        );
        assert!(told[0].starts_with(&line), "{told:?}");
        assert!(told[0].contains("404"), "{told:?}");
    }
}

#[test]
fn every_answer_that_rejects_spans_is_told_once_without_secrets() {
    for status in [301, 400, 401, 403, 404, 405, 413, 415] {
        let collector = Collector::http();
        collector.always(Answer::refuse(status, "no"));
        let address = collector.address().to_string();
        let endpoint = format!("http://user:hunter2@{address}");
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2"),
        ];
        for name in ["drop", "simple"] {
            let ended = Program::start("told::program", name, &variables).end();
            assert_eq!(ended.lost(), 10, "{status} {name}: {ended:#?}");
            let told = ended.told();
            assert_eq!(told.len(), 1, "{status} {name}: {ended:#?}");
            assert!(told[0].contains(&address), "{told:?}");
            assert!(told[0].contains(&status.to_string()), "{told:?}");
            assert!(!ended.stderr.contains("hunter2"), "{ended:#?}");
        }
    }
}

#[test]
fn spans_of_all_threads_that_have_not_ended_are_told() {
    let collector = Collector::http();
    let ended = run("open spans of threads", &collector, &[]);
    assert_eq!(collector.span_count(), 10);
    let told = "outspan: 800 spans had not ended at the shutdown and will not be delivered to otlp";
    assert_eq!(ended.told().len(), 1, "{ended:#?}");
    assert!(ended.told()[0].starts_with(told), "{ended:#?}");
}

#[test]
fn processors_without_a_guard_tell_as_well() {
    for name in ["batch", "simple", "stock"] {
        let collector = refuses();
        let ended = run(name, &collector, &[]);
        assert_eq!(ended.lost(), 10, "{name}: {ended:#?}");
        let told = ended.told();
        let address = collector.address().to_string();
        assert!(told[0].contains(&address), "{told:?}");
        assert!(told[0].contains("404"), "{told:?}");
    }
}

#[test]
fn subscriber_gets_the_line_instead_of_standard_error() {
    let collector = refuses();
    let ended = run("subscriber", &collector, &[]);
    assert_eq!(ended.stderr, "");
    let lines = ended.stdout.lines();
    let lines: Vec<_> = lines
        .filter(|line| line.contains("10 of 10 spans were not delivered"))
        .collect();
    assert_eq!(lines.len(), 1, "{ended:#?}");
    assert!(lines[0].contains("WARN outspan: "), "{lines:?}");
}

#[test]
fn spans_that_have_not_ended_are_told() {
    let told = "outspan: 1 span had not ended at the shutdown and will not be delivered to otlp";
    for name in ["open span", "late span"] {
        let collector = Collector::http();
        let ended = run(name, &collector, &[]);
        assert_eq!(collector.span_count(), 10);
        let lines = ended.told();
        assert_eq!(lines.len(), 1, "{ended:#?}");
        assert!(lines[0].starts_with(told), "{lines:?}");
        if name == "late span" {
            assert!(
                ended.stdout.contains("delivered 10, not ended 1"),
                "{ended:#?}"
            );
        }
    }
}
