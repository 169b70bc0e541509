//! What a logged exporter writes. In a program of its own, because the subscriber is the process's: lines are written on the
//! library's thread.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::fmt;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::time::Duration;

use outspan::Deadline;
use outspan::Export;
use outspan::Exporter;
use outspan::Retry;
use outspan::combinators::Logged;
use outspan_testkit::Act;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use tracing::Event;
use tracing::Level;
use tracing::Metadata;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing::span;
use tracing_subscriber::Registry;

/// How long a line may take, on a machine with much to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who reads the lines that begin with a name.
static READERS: Mutex<Vec<(&str, Sender<Line>)>> = Mutex::new(Vec::new());

#[derive(Clone, Debug)]
struct Line {
    level: Level,
    text: String,
    thread: Option<String>,
    belongs_to_a_span: bool,
}

/// Sends events to who reads them, and remembers spans.
struct Capture(Registry);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").unwrap();
        }
    }
}

impl Subscriber for Capture {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        self.0.new_span(attributes)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let is_in_a_span = self.0.current_span().id().is_some();
        let line = Line {
            level: *event.metadata().level(),
            text: text.0,
            thread: std::thread::current().name().map(str::to_owned),
            belongs_to_a_span: !event.is_root() && is_in_a_span,
        };
        let readers = READERS.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, reader) in readers.iter() {
            if line.text.starts_with(name) {
                drop(reader.send(line.clone()));
            }
        }
    }

    fn enter(&self, span: &span::Id) {
        self.0.enter(span);
    }

    fn exit(&self, span: &span::Id) {
        self.0.exit(span);
    }
}

/// Reads the lines of the exporter with this name.
fn lines_of(name: &'static str) -> Receiver<Line> {
    static INSTALLED: std::sync::Once = std::sync::Once::new();
    INSTALLED.call_once(|| {
        let capture = Capture(tracing_subscriber::registry());
        tracing::subscriber::set_global_default(capture).unwrap();
    });
    let (send, lines) = mpsc::channel();
    READERS.lock().unwrap().push((name, send));
    lines
}

fn export(exporter: &Exporter, spans: usize) -> outspan::Result<outspan::Delivery> {
    futures_executor::block_on(exporter.export(batch_of(spans), soon()))
}

/// The next line that is not about a single export.
fn next(lines: &Receiver<Line>) -> Line {
    loop {
        let line = lines.recv_timeout(PATIENCE).unwrap();
        if line.level <= Level::INFO {
            return line;
        }
    }
}

#[test]
fn the_first_failure_the_recovery_and_a_summary_are_told() {
    let lines = lines_of("told:");
    let child = ScriptedExporter::new();
    let retried = child.exporter().retry(
        Retry::default()
            .initial_interval(Duration::ZERO)
            .max_retries(1),
    );
    let exporter = Logged::new(retried).name("told").build();
    child.script([Act::unavailable(), Act::unavailable()]);
    export(&exporter, 3).unwrap_err();
    export(&exporter, 3).unwrap();
    export(&exporter, 3).unwrap();
    drop(futures_executor::block_on(exporter.shutdown(soon())).unwrap());

    let first = next(&lines);
    assert_eq!(first.level, Level::WARN);
    assert!(first.text.contains("failed after"), "{}", first.text);
    assert!(
        first
            .text
            .contains("2 attempts: the script says unavailable")
    );
    let second = next(&lines);
    assert_eq!(second.level, Level::INFO);
    assert!(second.text.contains("exports succeed again after"));
    let summary = next(&lines);
    assert_eq!(summary.level, Level::WARN);
    let text = &summary.text;
    assert!(text.contains("3 exports of 9 spans in the last"), "{text}");
    assert!(text.contains("6 delivered"), "{text}");
    assert!(text.contains("1 failure with 3 spans not delivered"));
}

#[test]
fn lines_are_written_on_the_library_s_thread_and_belong_to_no_span() {
    let lines = lines_of("apart:");
    let child = ScriptedExporter::new();
    let exporter = Logged::new(child.exporter()).name("apart").build();
    child.script([Act::unavailable()]);
    tracing::info_span!("a span of the user's").in_scope(|| {
        tracing::info!("apart: the user's own line");
        export(&exporter, 1).unwrap_err();
        export(&exporter, 1).unwrap();
        drop(futures_executor::block_on(exporter.shutdown(soon())).unwrap());
    });
    let own = lines.recv_timeout(PATIENCE).unwrap();
    assert!(own.belongs_to_a_span, "{own:?}");
    let all: Vec<_> = lines.try_iter().collect();
    assert_eq!(
        all.len(),
        4 + 3,
        "each begins and ends, and three that matter"
    );
    for line in all {
        assert_eq!(line.thread.as_deref(), Some("outspan"), "{line:?}");
        assert!(!line.belongs_to_a_span, "{line:?}");
    }
}

#[test]
fn single_exports_are_told_to_whoever_wants_them() {
    let lines = lines_of("single:");
    let child = ScriptedExporter::new();
    let exporter = Logged::new(child.exporter()).name("single").build();
    export(&exporter, 2).unwrap();
    let begins = lines.recv_timeout(PATIENCE).unwrap();
    assert_eq!(begins.level, Level::TRACE);
    assert!(begins.text.contains("an export of 2 spans"));
    let ended = lines.recv_timeout(PATIENCE).unwrap();
    assert_eq!(ended.level, Level::DEBUG);
    assert!(ended.text.contains("succeeded in"), "{}", ended.text);
}

#[test]
fn a_summary_comes_by_itself_and_an_idle_exporter_says_nothing() {
    let lines = lines_of("summary:");
    let child = ScriptedExporter::new();
    let exporter = Logged::new(child.exporter())
        .name("summary")
        .interval(Duration::from_millis(30))
        .build();
    export(&exporter, 2).unwrap();
    let summary = next(&lines);
    assert_eq!(summary.level, Level::INFO);
    assert!(summary.text.contains("1 export of 2 spans in the last"));
    export(&exporter, 3).unwrap();
    assert!(next(&lines).text.contains("1 export of 3 spans"));
    drop(futures_executor::block_on(exporter.shutdown(soon())).unwrap());
    let more: Vec<_> = lines.try_iter().collect();
    assert!(more.is_empty(), "{more:?}");
}

#[test]
fn a_dropped_export_and_a_panic_are_told() {
    let lines = lines_of("dropped:");
    let child = ScriptedExporter::new();
    let exporter = Logged::new(child.exporter()).name("dropped").build();
    child.script([Act::Hang, Act::Panic]);
    let until = Deadline::after(Duration::from_millis(10));
    let hung = until.run(exporter.export(batch_of(4), soon()));
    assert!(futures_executor::block_on(hung).is_none());
    let line = next(&lines);
    assert!(line.text.contains("failed after"), "{}", line.text);
    assert!(line.text.contains("nobody waited for its end"));
    let exporter = std::sync::Arc::new(exporter);
    let shared = std::sync::Arc::clone(&exporter);
    let panicked = std::thread::spawn(move || export(&shared, 4));
    assert!(panicked.join().is_err());
    drop(exporter);
    let summary = next(&lines);
    assert!(
        summary
            .text
            .contains("2 failures with 8 spans not delivered")
    );
}

#[test]
fn many_single_exports_while_the_log_is_slow_are_left_out_and_counted() {
    let lines = lines_of("many:");
    let child = ScriptedExporter::new();
    let exporter = Logged::new(child.exporter()).name("many").build();
    // The library's thread waits to write the next line, as with a log that is slow.
    let held = READERS.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..2000 {
        export(&exporter, 1).unwrap();
    }
    drop(held);
    drop(futures_executor::block_on(exporter.shutdown(soon())).unwrap());
    let all: Vec<_> = lines.try_iter().collect();
    assert!(all.len() <= 300, "{}", all.len());
    let summary = all.last().unwrap();
    let told = all.len() - 1;
    let left_out = format!("; {} lines about single exports left out", 4000 - told);
    assert!(summary.text.ends_with(&left_out), "{}", summary.text);
}

#[tokio::test]
async fn flush_and_shutdown_pass_through() {
    let child = ScriptedExporter::new();
    let exporter = child.exporter().logged();
    drop(exporter.flush(soon()).await.unwrap());
    drop(exporter.shutdown(soon()).await.unwrap());
    assert_eq!((child.flushes(), child.shutdowns()), (1, 1));
}
