//! Traces shown as trees.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod golden;

use std::io;
use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use outspan::DropReason;
use outspan::Export;
use outspan::Exporter;
use outspan::stdout;
use outspan::stdout::TreesBuilder;

use golden::Page;
use golden::assert_golden;
use golden::batch;
use golden::everything;
use golden::plain;
use golden::soon;

fn exporter(builder: TreesBuilder) -> (Exporter, Page) {
    let page = Page::default();
    let exporter = builder.writer(page.clone()).build().unwrap();
    (exporter, page)
}

async fn give(exporter: &Exporter, request: &ExportTraceServiceRequest) {
    let batch = batch(request);
    let delivery = exporter.export(batch.clone(), soon()).await.unwrap();
    assert_eq!(delivery.accepted, batch.spans() as u64);
}

async fn shown(builder: TreesBuilder, request: &ExportTraceServiceRequest) -> String {
    let (exporter, page) = exporter(builder);
    give(&exporter, request).await;
    assert_eq!(page.text(), "", "the trace may not be whole yet");
    let drained = exporter.shutdown(soon()).await.unwrap();
    assert_eq!(drained.delivered, batch(request).spans() as u64);
    page.text()
}

/// A request handled by three services: it nests, overlaps, fails.
fn order() -> ExportTraceServiceRequest {
    let mut request = plain(
        "web",
        &[
            (7, 1, 0, "GET /order/{id}"),
            (7, 2, 1, "authenticate"),
            (7, 9, 1, "render"),
        ],
    );
    let orders = plain(
        "orders",
        &[
            (7, 3, 1, "load order"),
            (7, 4, 3, "SELECT orders"),
            (7, 5, 3, "SELECT lines"),
        ],
    );
    let stock = plain("stock", &[(7, 6, 3, "reserve"), (7, 8, 6, "UPDATE stock")]);
    request.resource_spans.extend(orders.resource_spans);
    request.resource_spans.extend(stock.resource_spans);
    for envelope in &mut request.resource_spans {
        for span in &mut envelope.scope_spans[0].spans {
            let length = match span.span_id[7] {
                1 => 20,
                3 => 9,
                6 => 5,
                _ => 1,
            };
            span.end_time_unix_nano = span.start_time_unix_nano + length * 1_000_000;
        }
    }
    request
}

#[tokio::test]
async fn trees_look_as_they_should() {
    let cases = [
        ("trees.txt", stdout::trees().width(120), everything()),
        (
            "trees_attributes.txt",
            stdout::trees().attributes(true),
            everything(),
        ),
        ("trees_colors.txt", stdout::trees().colors(true), order()),
        ("trees_order.txt", stdout::trees(), order()),
        (
            "trees_without_timestamps.txt",
            stdout::trees().without_timestamps(),
            order(),
        ),
        ("trees_circle.txt", stdout::trees(), circle()),
    ];
    for (name, builder, request) in cases {
        assert_golden(name, &shown(builder, &request).await);
    }
}

fn circle() -> ExportTraceServiceRequest {
    plain(
        "shop",
        &[
            (1, 1, 3, "one"),
            (1, 2, 1, "two"),
            (1, 3, 2, "three"),
            (1, 4, 2, "tail"),
            (1, 5, 5, "self"),
        ],
    )
}

#[tokio::test]
async fn nothing_in_a_span_acts_on_a_terminal() {
    let text = shown(stdout::trees().attributes(true), &everything()).await;
    assert!(text.contains("\\u001b[2J"), "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
    let colored = shown(stdout::trees().colors(true), &everything()).await;
    let escapes: Vec<_> = colored.split('\u{1b}').skip(1).collect();
    assert!(!escapes.is_empty());
    for escape in escapes {
        let (code, _) = escape.split_once('m').unwrap();
        let digits = code.strip_prefix('[').unwrap();
        assert!(digits.bytes().all(|b| b.is_ascii_digit()), "{escape}");
    }
}

/// A writer that tells of every write.
struct Tell(mpsc::Sender<String>);

impl Write for Tell {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.0.send(text).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_whole_trace_is_shown_after_a_quiet_moment_though_nobody_asks() {
    let (tell, told) = mpsc::channel();
    let exporter = stdout::trees()
        .writer(Tell(tell))
        .quiet(Duration::from_millis(20))
        .patience(Duration::from_secs(1000))
        .build()
        .unwrap();
    give(
        &exporter,
        &plain("shop", &[(1, 3, 2, "inner"), (2, 1, 9, "waits")]),
    )
    .await;
    give(&exporter, &plain("shop", &[(1, 2, 1, "middle")])).await;
    give(&exporter, &plain("shop", &[(1, 1, 0, "outer")])).await;
    let text = told.recv_timeout(SOON).unwrap();
    assert!(
        text.starts_with(&format!("trace {}", "01".repeat(16))),
        "{text}"
    );
    assert!(text.contains("  outer"), "{text}");
    assert!(text.contains("\n  └─ middle"), "{text}");
    assert!(text.contains("\n     └─ inner"), "{text}");
    assert!(!text.contains("incomplete"), "{text}");
    let drained = exporter.flush(soon()).await.unwrap();
    assert_eq!(drained.delivered, 1, "the other trace waited");
    let text = told.recv_timeout(SOON).unwrap();
    assert!(text.contains("incomplete: a parent has not come"), "{text}");
    assert!(
        text.contains("(span 0000000000000009 has not come)"),
        "{text}"
    );
}

#[tokio::test]
async fn a_trace_without_its_root_is_shown_when_patience_ends_and_late_spans_continue_it() {
    let (tell, told) = mpsc::channel();
    let exporter = stdout::trees()
        .writer(Tell(tell))
        .quiet(Duration::from_millis(1))
        .patience(Duration::from_millis(20))
        .build()
        .unwrap();
    give(&exporter, &plain("shop", &[(1, 2, 1, "server side")])).await;
    let text = told.recv_timeout(SOON).unwrap();
    assert!(text.contains("incomplete"), "{text}");
    give(&exporter, &plain("shop", &[(1, 3, 2, "late")])).await;
    let text = told.recv_timeout(SOON).unwrap();
    assert!(text.contains("continued"), "{text}");
    assert!(text.contains("late"), "{text}");
}

#[tokio::test]
async fn over_a_bound_the_oldest_trace_is_shown_and_nothing_is_lost() {
    let bounds = [
        stdout::trees().traces_max(2),
        stdout::trees().spans_max(2),
        stdout::trees().bytes_max(1),
    ];
    for builder in bounds {
        let (exporter, page) = exporter(builder.patience(Duration::from_secs(1000)));
        for trace in 1..=5 {
            give(&exporter, &plain("shop", &[(trace, 1, 9, "waits")])).await;
        }
        let early = page.text();
        assert!(
            early.contains(&format!("trace {}", "01".repeat(16))),
            "{early}"
        );
        assert!(early.contains("incomplete"), "{early}");
        drop(exporter.shutdown(soon()).await.unwrap());
        let text = page.text();
        for trace in 1..=5 {
            let id = format!("{trace:02x}").repeat(16);
            assert_eq!(text.matches(&format!("trace {id}")).count(), 1, "{text}");
        }
    }
}

#[tokio::test]
async fn a_huge_trace_is_shown_in_parts_within_the_bound() {
    let spans: Vec<_> = (1..=5000).map(|id| (1, id, id - 1, "chain")).collect();
    let (exporter, page) = exporter(stdout::trees().spans_max(1000));
    give(&exporter, &plain("shop", &spans)).await;
    drop(exporter.shutdown(soon()).await.unwrap());
    let text = page.text();
    assert_eq!(text.matches("chain").count(), 5000);
    assert_eq!(text.matches("continued").count(), 4);
    let longest = text.lines().map(|line| line.chars().count()).max();
    assert!(
        longest < Some(260),
        "deep levels stay on the screen: {longest:?}"
    );
    assert!(text.contains("(level 500) chain"));
}

#[tokio::test]
async fn spans_that_could_not_be_written_are_kept_and_shown_later() {
    let (exporter, page) = exporter(stdout::trees());
    give(&exporter, &plain("shop", &[(1, 1, 0, "first")])).await;
    page.make_room(Some(3));
    let drained = exporter.flush(soon()).await.unwrap();
    assert_eq!((drained.delivered, drained.left), (0, 1));
    page.make_room(None);
    let drained = exporter.flush(soon()).await.unwrap();
    assert_eq!(drained.delivered, 1);
    let text = page.text();
    assert!(text.starts_with("tra\ntrace 0101"), "{text}");
    assert!(text.contains("first"), "{text}");
}

#[tokio::test]
async fn what_a_shutdown_cannot_write_is_lost_and_counted() {
    let (exporter, page) = exporter(stdout::trees());
    give(
        &exporter,
        &plain("shop", &[(1, 1, 0, "a"), (1, 2, 1, "b"), (2, 1, 0, "c")]),
    )
    .await;
    page.make_room(Some(0));
    let drained = exporter.shutdown(soon()).await.unwrap();
    assert_eq!(drained.delivered, 0);
    assert_eq!(drained.lost.of(DropReason::Failed), 3);
}

/// A writer that never returns until it is dropped by its peer.
struct Hang(mpsc::Receiver<()>);

impl Write for Hang {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The test holds the other end and says nothing: this ends when that is dropped.
        match self.0.recv() {
            Ok(()) | Err(mpsc::RecvError) => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_shutdown_that_runs_out_of_time_counts_what_it_held() {
    let (release, hang) = mpsc::channel::<()>();
    let exporter = stdout::trees().writer(Hang(hang)).build().unwrap();
    give(&exporter, &plain("shop", &[(1, 1, 0, "a"), (1, 2, 1, "b")])).await;
    let until = outspan::Deadline::after(Duration::from_millis(5));
    let drained = exporter.shutdown(until).await.unwrap();
    assert_eq!(drained.lost.of(DropReason::Shutdown), 2);
    drop(release);
}

#[tokio::test]
async fn exports_fail_while_what_is_due_cannot_be_written() {
    let (exporter, page) = exporter(stdout::trees().quiet(Duration::ZERO));
    page.make_room(Some(0));
    give(&exporter, &plain("shop", &[(1, 1, 0, "first")])).await;
    assert_eq!(exporter.flush(soon()).await.unwrap().left, 1);
    let second = batch(&plain("shop", &[(2, 1, 0, "second")]));
    let error = exporter.export(second.clone(), soon()).await.unwrap_err();
    assert!(error.is_temporary());
    assert!(error.to_string().contains("the disk is full"), "{error}");
    page.make_room(None);
    exporter.export(second, soon()).await.unwrap();
    drop(exporter.flush(soon()).await.unwrap());
    let text = page.text();
    assert_eq!(
        (
            text.matches("first").count(),
            text.matches("second").count()
        ),
        (1, 1),
        "{text}"
    );
}

#[tokio::test]
async fn a_flush_says_that_the_reader_has_gone_and_the_shutdown_counts_what_is_lost() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let exporter = stdout::trees().writer(writer).build().unwrap();
    give(&exporter, &plain("shop", &[(1, 1, 0, "a"), (1, 2, 1, "b")])).await;
    let error = exporter.flush(soon()).await.unwrap_err();
    assert!(
        error.to_string().contains("whoever read it has gone"),
        "{error}"
    );
    let drained = exporter.shutdown(soon()).await.unwrap();
    assert_eq!(drained.lost.of(DropReason::Failed), 2);
}

/// A writer that never has the right to.
struct Forbidden;

impl Write for Forbidden {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_flush_counts_what_can_never_be_written_as_lost() {
    let exporter = stdout::trees().writer(Forbidden).build().unwrap();
    give(&exporter, &plain("shop", &[(1, 1, 0, "a"), (1, 2, 1, "b")])).await;
    let drained = exporter.flush(soon()).await.unwrap();
    assert_eq!((drained.lost.of(DropReason::Failed), drained.left), (2, 0));
    assert_eq!(exporter.shutdown(soon()).await.unwrap().lost.total(), 0);
}

/// A writer that panics once.
struct Panics(bool, Page);

impl Write for Panics {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !std::mem::replace(&mut self.0, true) {
            panic!("on purpose");
        }
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_writer_that_panics_costs_no_span() {
    let page = Page::default();
    let writer = Panics(false, page.clone());
    let exporter = stdout::trees().writer(writer).build().unwrap();
    give(&exporter, &plain("shop", &[(1, 1, 0, "survivor")])).await;
    exporter.flush(soon()).await.unwrap_err();
    assert_eq!(exporter.flush(soon()).await.unwrap().delivered, 1);
    assert!(page.text().contains("survivor"));
}
