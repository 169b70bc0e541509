//! Spans shown one by one.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::fs::OpenOptions;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use outspan::Deadline;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::stdout;
use outspan::stdout::Builder;
use serde_json::Value;

use crate::golden::Page;
use crate::golden::assert_golden;
use crate::golden::batch;
use crate::golden::everything;
use crate::golden::plain;
use crate::golden::soon;

async fn shown(builder: Builder, request: &ExportTraceServiceRequest) -> String {
    let page = Page::default();
    let exporter = builder.writer(page.clone()).build().unwrap();
    let batch = batch(request);
    let delivery = exporter.export(batch.clone(), soon()).await.unwrap();
    assert_eq!(delivery.accepted, batch.spans() as u64);
    assert_eq!(delivery.attempt.wire_bytes, page.text().len() as u64);
    drop(exporter.shutdown(soon()).await.unwrap());
    page.text()
}

#[tokio::test]
async fn every_format_looks_as_it_should() {
    let request = everything();
    let formats = [
        ("pretty.txt", stdout::pretty()),
        (
            "pretty_without_timestamps.txt",
            stdout::pretty().without_timestamps(),
        ),
        ("compact.txt", stdout::compact()),
        (
            "compact_without_timestamps.txt",
            stdout::compact().without_timestamps(),
        ),
        ("json_lines.jsonl", stdout::json_lines()),
        (
            "json_lines_without_timestamps.jsonl",
            stdout::json_lines().without_timestamps(),
        ),
        ("otlp_json_lines.jsonl", stdout::otlp_json_lines()),
    ];
    for (name, builder) in formats {
        assert_golden(name, &shown(builder, &request).await);
    }
}

#[tokio::test]
async fn nothing_in_a_span_acts_on_a_terminal() {
    let formats = [
        stdout::pretty(),
        stdout::compact(),
        stdout::json_lines(),
        stdout::otlp_json_lines(),
    ];
    for builder in formats {
        let text = shown(builder, &everything()).await;
        assert!(text.contains("\\u001b"), "the escape is shown: {text}");
        let acting = text.chars().find(|c| {
            c.is_control() && *c != '\n'
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        });
        assert_eq!(acting, None, "{text}");
    }
}

#[tokio::test]
async fn json_lines_hold_one_object_a_span_with_the_same_keys_each() {
    let text = shown(stdout::json_lines(), &everything()).await;
    let objects: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects.len(), 7);
    let keys = |value: &Value| {
        let keys = value.as_object().unwrap().keys();
        keys.cloned().collect::<Vec<_>>()
    };
    for object in &objects {
        assert_eq!(keys(object), keys(&objects[0]));
    }
    let checkout = &objects[0];
    assert_eq!(checkout["status"]["message"], "payment failed");
    assert_eq!(checkout["attributes"]["smallest"], i64::MIN);
    assert_eq!(checkout["attributes"]["nothing.measured"], "NaN");
    assert_eq!(checkout["attributes"]["map"]["inner"]["deep"], "yes");
    assert_eq!(checkout["attributes"]["cookie"], "AAH+/w==");
    assert_eq!(checkout["resource"]["attributes"]["service.name"], "shop");
    assert_eq!(checkout["duration_ns"], 182_400_000);
    assert_eq!(objects[6]["duration_ns"], -1_500_000_000);
    assert_eq!(
        objects[2]["name"],
        "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\r\nname\u{202e}"
    );
}

#[tokio::test]
async fn otlp_json_lines_are_read_back_by_others() {
    let request = plain("shop", &[(1, 1, 0, "GET /"), (1, 2, 1, "select \u{9b}")]);
    let text = shown(stdout::otlp_json_lines(), &request).await;
    assert_eq!(text.lines().count(), 1);
    let read: ExportTraceServiceRequest = serde_json::from_str(&text).unwrap();
    assert_eq!(read, request);
}

#[test]
fn otlp_json_lines_cannot_leave_out_times() {
    let error = stdout::otlp_json_lines()
        .without_timestamps()
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

/// Run by the next test in a process of its own.
#[tokio::test]
async fn prints_when_asked_to() {
    if std::env::var_os("OUTSPAN_TEST_PRINTS").is_none() {
        return;
    }
    let exporter = stdout::compact().build().unwrap();
    let request = plain("shop", &[(1, 1, 0, "to standard output")]);
    exporter.export(batch(&request), soon()).await.unwrap();
    drop(exporter.shutdown(soon()).await.unwrap());
}

#[test]
fn the_default_is_standard_output() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "stdout::prints_when_asked_to"])
        .env("OUTSPAN_TEST_PRINTS", "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains(" shop \"to standard output\" 5.00ms "),
        "{text}"
    );
}

#[tokio::test]
async fn a_reader_that_has_gone_is_named_and_final() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let exporter = stdout::compact().writer(writer).build().unwrap();
    let request = plain("shop", &[(1, 1, 0, "GET /")]);
    let error = exporter.export(batch(&request), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!error.is_temporary());
    assert!(
        error.to_string().contains("whoever read it has gone"),
        "{error}"
    );
    let cause = std::error::Error::source(&error).unwrap();
    let cause = cause.downcast_ref::<io::Error>().unwrap();
    assert_eq!(cause.kind(), io::ErrorKind::BrokenPipe);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_named_and_temporary() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    for builder in [stdout::pretty(), stdout::otlp_json_lines()] {
        let full = full.try_clone().unwrap();
        let exporter = builder.writer(full).build().unwrap();
        let request = plain("shop", &[(1, 1, 0, "GET /")]);
        let error = exporter.export(batch(&request), soon()).await.unwrap_err();
        assert!(error.is_temporary());
        assert!(error.to_string().contains("the disk is full"), "{error}");
    }
}

#[tokio::test]
async fn spans_written_before_a_failure_count_and_the_rest_is_left() {
    let request = plain(
        "shop",
        &[(1, 1, 0, "one"), (1, 2, 1, "two"), (1, 3, 1, "three")],
    );
    let whole = shown(stdout::compact(), &request).await;
    let two_lines = whole.match_indices('\n').nth(1).unwrap().0 + 1;
    let page = Page::with_room(two_lines + 10);
    let exporter = stdout::compact().writer(page.clone()).build().unwrap();
    let delivery = exporter.export(batch(&request), soon()).await.unwrap();
    assert_eq!((delivery.accepted, delivery.undelivered()), (2, 1));
    assert_eq!(delivery.attempt.wire_bytes, two_lines as u64 + 10);
    let rest = &delivery.rest[0];
    assert!(rest.error.is_temporary());
    assert_eq!(rest.batch.iter().next().unwrap().name(), "three");

    page.make_room(None);
    exporter.export(rest.batch.clone(), soon()).await.unwrap();
    let text = page.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines.len(),
        4,
        "the torn line is ended, the next one is whole: {text}"
    );
    assert_eq!(lines[3], whole.lines().nth(2).unwrap());
}

#[tokio::test]
async fn a_large_batch_is_written_in_pieces_that_end_between_spans() {
    let names: Vec<String> = (1..=3000)
        .map(|id| format!("span {id} {}", "x".repeat(40)))
        .collect();
    let spans: Vec<_> = (1..=3000)
        .map(|id| (1, id, 0, names[id as usize - 1].as_str()))
        .collect();
    let request = plain("shop", &spans);
    let page = Page::with_room(300_000);
    let exporter = stdout::compact().writer(page.clone()).build().unwrap();
    let delivery = exporter.export(batch(&request), soon()).await.unwrap();
    let whole_lines = page.text().matches('\n').count() as u64;
    assert_eq!(delivery.accepted, whole_lines);
    assert_eq!(delivery.accepted + delivery.undelivered(), 3000);
    let first_left = delivery.rest[0]
        .batch
        .iter()
        .next()
        .unwrap()
        .name()
        .to_owned();
    assert_eq!(first_left, names[delivery.accepted as usize]);
}

/// A writer that waits for permission before each write.
struct Gate {
    permits: mpsc::Receiver<()>,
    page: Page,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.permits
            .recv_timeout(Duration::from_secs(20))
            .map_err(io::Error::other)?;
        self.page.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_writer_that_blocks_holds_nobody_beyond_the_deadline() {
    let (permit, permits) = mpsc::channel();
    let page = Page::default();
    let gate = Gate {
        permits,
        page: page.clone(),
    };
    let exporter = stdout::compact().writer(gate).build().unwrap();
    let request = plain("shop", &[(1, 1, 0, "GET /")]);
    let short = || Deadline::after(Duration::from_millis(5)).named("attempt timeout");
    for _ in 0..3 {
        let error = exporter.export(batch(&request), short()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("attempt timeout"), "{error}");
    }
    assert_eq!(
        exporter.flush(short()).await.unwrap_err().kind(),
        ErrorKind::Timeout
    );

    let other = stdout::compact().writer(Page::default()).build().unwrap();
    other.export(batch(&request), soon()).await.unwrap();

    permit.send(()).unwrap();
    permit.send(()).unwrap();
    exporter.export(batch(&request), soon()).await.unwrap();
    assert_eq!(
        page.text().lines().count(),
        2,
        "those that had no turn wrote nothing"
    );
}

#[tokio::test]
async fn what_was_delivered_is_through_every_buffer() {
    let page = Page::default();
    let exporter = stdout::compact()
        .writer(BufWriter::with_capacity(1 << 20, page.clone()))
        .build()
        .unwrap();
    let request = plain("shop", &[(1, 1, 0, "GET /")]);
    exporter.export(batch(&request), soon()).await.unwrap();
    assert_eq!(page.text().lines().count(), 1);
    let flushes = page.flushes();
    drop(exporter.flush(soon()).await.unwrap());
    assert_eq!(page.flushes(), flushes + 1);
}

struct Panics(Option<Page>);

impl Write for Panics {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Some(page) => page.write(bytes),
            None => {
                self.0 = Some(Page::default());
                panic!("on purpose")
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_writer_that_panics_is_survived() {
    let exporter = stdout::compact().writer(Panics(None)).build().unwrap();
    let request = plain("shop", &[(1, 1, 0, "GET /")]);
    let error = exporter.export(batch(&request), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    exporter.export(batch(&request), soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_exports_keep_lines_whole() {
    let page = Page::default();
    let exporter: Exporter = stdout::json_lines().writer(page.clone()).build().unwrap();
    let exports: Vec<_> = (1..=16)
        .map(|trace| {
            let exporter = exporter.clone();
            tokio::spawn(async move {
                let spans: Vec<_> = (1..=50).map(|id| (trace, id, 0, "span")).collect();
                exporter.export(batch(&plain("shop", &spans)), soon()).await
            })
        })
        .collect();
    for export in exports {
        assert_eq!(export.await.unwrap().unwrap().accepted, 50);
    }
    let text = page.text();
    assert_eq!(text.lines().count(), 16 * 50);
    for line in text.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
}

#[tokio::test]
async fn after_shutdown_exports_are_refused() {
    let exporter = stdout::compact().writer(Page::default()).build().unwrap();
    drop(exporter.shutdown(soon()).await.unwrap());
    drop(exporter.shutdown(soon()).await.unwrap());
    let request = plain("shop", &[(1, 1, 0, "GET /")]);
    let error = exporter.export(batch(&request), soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
}

#[test]
fn it_works_without_any_runtime() {
    let page = Page::default();
    let exporter = stdout::compact().writer(page.clone()).build().unwrap();
    let request = plain("shop", &[(1, 1, 0, "GET /")]);
    futures_executor::block_on(exporter.export(batch(&request), soon())).unwrap();
    drop(futures_executor::block_on(exporter.shutdown(soon())).unwrap());
    assert_eq!(page.text().lines().count(), 1);
}
