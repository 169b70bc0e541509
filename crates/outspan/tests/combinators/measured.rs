//! Measured around scripted exporters and stacks of them. Each reading closes.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc;
use std::time::Duration;

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::Retry;
use outspan::combinators::Durations;
use outspan::combinators::FanOut;
use outspan::combinators::Measured;
use outspan::combinators::MeasuredHandle;
use outspan::combinators::Report;
use outspan::combinators::Stats;
use outspan_testkit::Act;
use outspan_testkit::Gate;
use outspan_testkit::ScriptedExporter;
use outspan_testkit::batch_of;
use outspan_testkit::soon;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

/// How long a message from another thread may take, on a machine with much to do.
const PATIENCE: Duration = Duration::from_secs(20);

fn measured(child: &ScriptedExporter) -> (Exporter, MeasuredHandle) {
    child.exporter().measured("backend")
}

async fn export(exporter: &Exporter, spans: usize) -> Result<Delivery> {
    exporter.export(batch_of(spans), soon()).await
}

fn closing(handle: &MeasuredHandle) -> Stats {
    let stats = handle.stats();
    assert!(stats.closes(), "{stats:#?}");
    stats
}

#[tokio::test(start_paused = true)]
async fn everything_that_can_become_of_a_span_is_counted() {
    let child = ScriptedExporter::new();
    let (exporter, handle) = measured(&child);
    child.script([
        Act::after(SECOND * 2, Act::Deliver),
        Act::Refuse(1),
        Act::DeliverHalf(Error::throttled("half")),
        Act::unavailable(),
        Act::Fail(Error::refused("no")),
    ]);
    assert!(export(&exporter, 4).await.unwrap().is_complete());
    assert_eq!(export(&exporter, 4).await.unwrap().refused, 1);
    assert_eq!(export(&exporter, 4).await.unwrap().undelivered(), 2);
    export(&exporter, 4).await.unwrap_err();
    export(&exporter, 4).await.unwrap_err();

    let stats = closing(&handle);
    assert_eq!((stats.exports.begun, stats.exports.succeeded), (5, 1));
    assert_eq!(stats.exports.incomplete, 2);
    assert_eq!(stats.exports.failed.to_string(), "1 refused, 1 unavailable");
    assert_eq!((stats.spans.received, stats.spans.delivered), (20, 9));
    assert_eq!(stats.spans.refused, 1);
    assert_eq!(
        stats.spans.failed.to_string(),
        "4 refused, 4 unavailable, 2 throttled"
    );
    assert_eq!(stats.durations.sum(), SECOND * 2);
    assert_eq!(stats.durations.count(), 5);
    let bytes: usize = (0..5).map(|_| batch_of(4).size()).sum();
    let bytes = bytes as u64;
    assert!(stats.bytes.abs_diff(bytes) < bytes / 10, "{}", stats.bytes);
    assert_eq!(handle.name(), "backend");
}

#[tokio::test(start_paused = true)]
async fn the_attempts_and_waits_of_a_retry_inside_are_one_export() {
    let child = ScriptedExporter::new();
    let retry = Retry::default()
        .initial_interval(SECOND)
        .multiplier(1.0)
        .jitter(0.0);
    let (exporter, handle) = child.exporter().retry(retry).measured("backend");
    child.script([
        Act::unavailable(),
        Act::DeliverHalf(Error::unavailable("half")),
        Act::Deliver,
    ]);
    export(&exporter, 10).await.unwrap();
    let stats = closing(&handle);
    assert_eq!((stats.exports.begun, stats.exports.succeeded), (1, 1));
    assert_eq!(stats.spans.delivered, 10);
    assert_eq!(stats.durations.sum(), SECOND * 2, "two waits");
    let calls = child.exports().len();
    assert_eq!((calls, stats.attempts), (3, 3));

    child.always(Act::unavailable());
    export(&exporter, 10).await.unwrap_err();
    let later = closing(&handle).since(&stats);
    let calls = child.exports().len() - calls;
    assert_eq!(later.attempts, calls as u64, "an error tells its attempts");
    assert_eq!(later.spans.failed.of(ErrorKind::Unavailable), 10);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_an_export_when_the_retry_is_outside() {
    let child = ScriptedExporter::new();
    let (inner, handle) = measured(&child);
    child.script([Act::unavailable(), Act::Deliver]);
    export(&inner.retry(Retry::default()), 3).await.unwrap();
    let stats = closing(&handle);
    assert_eq!((stats.exports.begun, stats.spans.received), (2, 6));
    assert_eq!((stats.spans.delivered, stats.spans.missed()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_seen_and_what_is_dropped_is_counted() {
    let child = ScriptedExporter::new();
    let (exporter, handle) = measured(&child);
    child.always(Act::Hang);
    let hung = export(&exporter, 5);
    let watch = async {
        child.wait_for_exports(1).await;
        let stats = closing(&handle);
        assert_eq!((stats.exports.in_flight, stats.spans.in_flight), (1, 5));
    };
    let both = futures_util::future::join(tokio::time::timeout(SECOND, hung), watch);
    both.await.0.unwrap_err();
    let stats = closing(&handle);
    assert_eq!((stats.exports.cancelled, stats.spans.cancelled), (1, 5));
    assert_eq!((stats.exports.in_flight, stats.spans.in_flight), (0, 0));
    assert_eq!(stats.durations.sum(), SECOND);
}

#[tokio::test]
async fn a_panic_inside_is_counted_and_the_account_closes() {
    let child = ScriptedExporter::new();
    let (exporter, handle) = measured(&child);
    child.script([Act::Panic]);
    let panicked = tokio::spawn(async move {
        export(&exporter, 3).await.unwrap();
    });
    assert!(panicked.await.unwrap_err().is_panic());
    assert_eq!(closing(&handle).spans.cancelled, 3);
}

#[cfg(feature = "grpc")]
#[test]
fn bytes_are_counted_before_and_after_compression() {
    use outspan::Compression;
    use outspan::otlp;
    use outspan_testkit::Collector;

    let collector = Collector::grpc();
    let builder = otlp::grpc(collector.endpoint()).compression(Compression::Gzip);
    let (exporter, handle) = builder.build().unwrap().measured("backend");
    let delivered = futures_executor::block_on(export(&exporter, 200)).unwrap();
    let stats = closing(&handle);
    assert_eq!(stats.spans.delivered, 200);
    assert_eq!(stats.wire_bytes, delivered.attempt.wire_bytes);
    assert!(0 < stats.wire_bytes && stats.wire_bytes < stats.bytes / 2);
}

#[test]
fn reports_come_by_themselves_and_once_more_at_the_end() {
    let child = ScriptedExporter::new();
    let (tell, reports) = mpsc::channel();
    let (exporter, handle) = Measured::new(child.exporter())
        .name("backend")
        .report_to(Duration::from_millis(20), move |report: &Report| {
            drop(tell.send(report.clone()));
        })
        .build()
        .unwrap();
    futures_executor::block_on(export(&exporter, 7)).unwrap();
    let mut delivered = 0;
    while delivered < 7 {
        let report = reports.recv_timeout(PATIENCE).unwrap();
        assert_eq!(&*report.name, "backend");
        delivered += report.latest.spans.delivered;
        assert_eq!(report.total.spans.delivered, delivered);
    }
    futures_executor::block_on(export(&exporter, 2)).unwrap();
    drop(futures_executor::block_on(exporter.shutdown(soon())).unwrap());
    let rest: Vec<_> = reports.iter().collect();
    let last = rest.last().unwrap();
    assert_eq!(last.total, handle.stats(), "the last report says it all");
    let latest = rest.iter().map(|report| report.latest.spans.delivered);
    assert_eq!(latest.sum::<u64>(), 2, "nothing is told twice");
}

#[test]
fn reports_end_with_the_exporter_and_survive_a_hook_that_panics() {
    let child = ScriptedExporter::new();
    let (tell, reports) = mpsc::channel();
    let (exporter, handle) = Measured::new(child.exporter())
        .report_to(Duration::from_millis(5), move |_: &Report| {
            tell.send(()).unwrap();
            panic!("a hook of a careless user");
        })
        .build()
        .unwrap();
    for _ in 0..3 {
        reports.recv_timeout(PATIENCE).unwrap();
    }
    drop(exporter);
    while reports.recv_timeout(PATIENCE).is_ok() {}
    assert_eq!(
        reports.try_recv(),
        Err(mpsc::TryRecvError::Disconnected),
        "the task is gone, though the handle is not"
    );
    assert_eq!(handle.stats(), Stats::default());
}

#[test]
fn a_failure_rate_is_told_once_and_so_is_its_end() {
    let child = ScriptedExporter::new();
    let (tell, events) = mpsc::channel();
    let (exporter, _) = Measured::new(child.exporter())
        .name("backend")
        .on_failure_rate(0.5, SECOND * 3600, move |event| {
            tell.send(event.clone()).unwrap();
        })
        .build()
        .unwrap();
    let export = |spans| futures_executor::block_on(export(&exporter, spans));
    export(6).unwrap();
    child.always(Act::unavailable());
    for _ in 0..20 {
        export(2).unwrap_err();
    }
    child.always(Act::Deliver);
    for _ in 0..40 {
        export(10).unwrap();
    }
    drop(exporter);
    let raised = events.recv_timeout(PATIENCE).unwrap();
    assert!(raised.is_failing);
    assert_eq!((raised.spans, raised.missed, raised.rate), (12, 6, 0.5));
    assert_eq!(raised.error.unwrap().kind(), ErrorKind::Unavailable);
    let over = events.recv_timeout(PATIENCE).unwrap();
    assert!(!over.is_failing && over.rate <= 0.25);
    assert!(over.error.is_none());
    assert!(events.recv_timeout(PATIENCE).is_err(), "nothing more");
}

#[test]
fn mistakes_are_found_when_it_is_built() {
    let child = ScriptedExporter::new();
    let new = || Measured::new(child.exporter());
    let mistakes = [
        new().name(""),
        new().component_type(""),
        new().report_every(Duration::ZERO),
        new().on_failure_rate(0.0, SECOND, |_| {}),
        new().on_failure_rate(0.1, Duration::ZERO, |_| {}),
    ];
    for mistake in mistakes {
        assert_eq!(mistake.build().unwrap_err().kind(), ErrorKind::Config);
    }
}

#[test]
fn exporters_without_a_name_are_numbered_by_their_type() {
    let child = ScriptedExporter::new();
    let names = ["a_type", "b_type", "a_type"].map(|component_type| {
        let measured = Measured::new(child.exporter()).component_type(component_type);
        measured.build().unwrap().1.name().to_owned()
    });
    assert_eq!(names, ["a_type/0", "b_type/0", "a_type/1"]);
    let (_exporter, handle) = Measured::new(child.exporter()).build().unwrap();
    assert!(handle.name().starts_with("outspan::Exporter/"));
}

#[tokio::test(start_paused = true)]
async fn flush_and_shutdown_pass_through() {
    let child = ScriptedExporter::new();
    let (exporter, _) = measured(&child);
    drop(exporter.flush(soon()).await.unwrap());
    drop(exporter.shutdown(soon()).await.unwrap());
    assert_eq!((child.flushes(), child.shutdowns()), (1, 1));
}

#[tokio::test]
async fn it_counts_each_child_and_the_whole_in_any_nesting() {
    let [down, up, queued] = [(); 3].map(|()| ScriptedExporter::new());
    down.always(Act::DeliverHalf(Error::unavailable("half")));
    let (primary, of_primary) = down.exporter().measured("primary");
    let (backup, of_backup) = up.exporter().measured("backup");
    let (either, of_either) = primary.fallback(backup).measured("either");
    let (behind, of_behind) = queued.exporter().measured("behind");
    let both = FanOut::new()
        .to("either", either)
        .to("behind", behind.queued().unwrap())
        .build()
        .unwrap();
    let (exporter, of_both) = both.measured("both");
    assert!(export(&exporter, 8).await.unwrap().is_complete());
    drop(exporter.shutdown(soon()).await.unwrap());

    let delivered = |handle: &MeasuredHandle| closing(handle).spans.delivered;
    assert_eq!((delivered(&of_primary), delivered(&of_backup)), (4, 4));
    assert_eq!((delivered(&of_either), delivered(&of_behind)), (8, 8));
    assert_eq!(delivered(&of_both), 8);
    assert_eq!(closing(&of_primary).spans.failed.total(), 4);
    assert_eq!(closing(&of_both).spans.missed(), 0);
}

#[test]
fn counting_allocates_nothing() {
    let allocations = |exporter: &Exporter| {
        let batch = batch_of(100);
        let export = || {
            drop(futures_executor::block_on(
                exporter.export(batch.clone(), soon()),
            ))
        };
        export();
        allocation_counter::measure(export).count_total
    };
    let plain = allocations(&Exporter::new(Taking));
    let (exporter, handle) = Measured::new(Exporter::new(Taking))
        .on_failure_rate(0.5, SECOND, |_| {})
        .build()
        .unwrap();
    let measured = allocations(&exporter);
    assert_eq!(
        measured,
        plain + 1,
        "the boxed future that every combinator has"
    );
    assert_eq!(handle.stats().spans.delivered, 200);
}

/// Takes everything.
#[derive(Debug)]
struct Taking;

impl Export for Taking {
    async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
        Ok(Delivery::of(&batch))
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Export {
        spans: usize,
        act: Plan,
    },
    /// Opens the gate, so that what waits there ends.
    Open,
    /// Drops the oldest export that is under way.
    Drop,
    /// Lets waits between attempts end.
    Wait,
}

#[derive(Clone, Debug)]
enum Plan {
    Now(Fate),
    AtTheGate(Fate),
    Never,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Deliver,
    Refuse(u64),
    Half,
    Unavailable,
    Refused,
    Panic,
}

impl Fate {
    fn act(self) -> Act {
        match self {
            Self::Deliver => Act::Deliver,
            Self::Refuse(spans) => Act::Refuse(spans),
            Self::Half => Act::DeliverHalf(Error::unavailable("half")),
            Self::Unavailable => Act::unavailable(),
            Self::Refused => Act::refused(),
            Self::Panic => Act::Panic,
        }
    }
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Deliver),
        1 => (0..6_u64).prop_map(Fate::Refuse),
        1 => Just(Fate::Half),
        1 => Just(Fate::Unavailable),
        1 => Just(Fate::Refused),
        1 => Just(Fate::Panic),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let plan = prop_oneof![
        3 => fates().prop_map(Plan::Now),
        2 => fates().prop_map(Plan::AtTheGate),
        1 => Just(Plan::Never),
    ];
    let step = prop_oneof![
        5 => (0..5_usize, plan).prop_map(|(spans, act)| Step::Export { spans, act }),
        1 => Just(Step::Open),
        1 => Just(Step::Drop),
        1 => Just(Step::Wait),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_sums_add_up_after_every_step_inside_and_outside_of_other_combinators(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(act_out(steps));
    }
}

async fn act_out(steps: Vec<Step>) {
    let child = ScriptedExporter::new();
    let (inner, attempts) = measured(&child);
    let quick = Retry::default().max_retries(1).jitter(0.0);
    let stack = inner.retry(quick).export_deadline(SECOND * 60);
    let (exporter, whole) = stack.measured("whole");
    let exporter = std::sync::Arc::new(exporter);
    let mut gate = Gate::new();
    let mut under_way = std::collections::VecDeque::new();
    let mut received = 0;
    for step in steps {
        match step {
            Step::Export { spans, act } => {
                let act = match act {
                    Plan::Now(fate) => fate.act(),
                    Plan::AtTheGate(fate) => Act::when(&gate, fate.act()),
                    Plan::Never => Act::Hang,
                };
                child.script([act]);
                let exporter = std::sync::Arc::clone(&exporter);
                let begun = whole.stats().exports.begun;
                under_way.push_back(tokio::spawn(async move { export(&exporter, spans).await }));
                while whole.stats().exports.begun == begun {
                    tokio::task::yield_now().await;
                }
                received += spans as u64;
            }
            Step::Open => {
                gate.open();
                gate = Gate::new();
            }
            Step::Drop => {
                if let Some(oldest) = under_way.pop_front() {
                    oldest.abort();
                    drop(oldest.await);
                }
            }
            Step::Wait => tokio::time::advance(SECOND * 7).await,
        }
        closing(&attempts);
        assert_eq!(closing(&whole).spans.received, received);
    }
    drop(gate);
    for export in under_way {
        export.abort();
        drop(export.await);
    }
    let (stats, inside) = (closing(&whole), closing(&attempts));
    assert_eq!((stats.spans.in_flight, inside.spans.in_flight), (0, 0));
    assert_eq!(stats.durations.count(), stats.exports.begun);
    assert!(inside.spans.received >= stats.spans.delivered);
    let arrived = child.received().len() as u64;
    assert!(stats.spans.delivered <= arrived, "{stats:?}");
    assert!(arrived <= inside.spans.delivered + inside.spans.cancelled);
}

#[test]
fn the_buckets_reach_to_the_limit_of_a_retry() {
    assert_eq!(Durations::BOUNDS.last(), Some(&60.0));
}

#[cfg(feature = "prometheus")]
mod for_prometheus {
    use std::collections::HashMap;

    use prometheus_parse::Scrape;
    use prometheus_parse::Value;

    use super::*;

    /// Reads a page with somebody else's parser, and makes sure that it leaves no line out.
    fn scrape(text: &str) -> Scrape {
        let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let buckets = scrape.samples.iter().map(|sample| match &sample.value {
            // Its parts are lines, but for sum and count, which the parser takes for metrics.
            Value::Histogram(buckets) => buckets.len(),
            _ => 1,
        });
        assert_eq!(buckets.sum::<usize>(), lines.count(), "{text}");
        scrape
    }

    fn values(scrape: &Scrape) -> HashMap<String, f64> {
        let samples = scrape.samples.iter();
        let values = samples.filter_map(|sample| match sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => {
                let labels = &sample.labels;
                let exporter = labels.get("exporter").unwrap();
                let outcome = labels.get("outcome").unwrap_or("");
                Some((format!("{} {exporter} {outcome}", sample.metric), value))
            }
            _ => None,
        });
        values.collect()
    }

    fn one_of_each(exporter: &Exporter, child: &ScriptedExporter) {
        child.script([
            Act::Deliver,
            Act::Refuse(1),
            Act::DeliverHalf(Error::throttled("half")),
            Act::unavailable(),
        ]);
        for _ in 0..4 {
            drop(futures_executor::block_on(export(exporter, 4)));
        }
    }

    #[test]
    fn a_page_says_what_the_numbers_say() {
        let child = ScriptedExporter::new();
        let (exporter, handle) = child.exporter().measured("back \"end\"\\\n");
        one_of_each(&exporter, &child);
        let page = handle.to_prometheus().unwrap();
        assert!(page.contains(r#"exporter="back \"end\"\\\n""#), "{page}");

        let (exporter, handle) = measured(&child);
        one_of_each(&exporter, &child);
        let stats = handle.stats();
        let scrape = scrape(&handle.to_prometheus().unwrap());
        let values = values(&scrape);
        let value = |name: &str| values.get(name).copied();
        let expected = [
            ("outspan_exports_total backend delivered", 1.0),
            ("outspan_exports_total backend incomplete", 2.0),
            ("outspan_exports_total backend unavailable", 1.0),
            ("outspan_exports_total backend timeout", 0.0),
            ("outspan_exports_in_flight backend ", 0.0),
            ("outspan_export_spans_total backend delivered", 9.0),
            ("outspan_export_spans_total backend rejected", 1.0),
            ("outspan_export_spans_total backend filtered", 0.0),
            ("outspan_export_spans_total backend cancelled", 0.0),
            ("outspan_export_spans_total backend throttled", 2.0),
            ("outspan_export_spans_total backend unavailable", 4.0),
            ("outspan_export_spans_in_flight backend ", 0.0),
            (
                "outspan_export_attempts_total backend ",
                stats.attempts as f64,
            ),
            ("outspan_export_bytes_total backend ", stats.bytes as f64),
            ("outspan_export_wire_bytes_total backend ", 0.0),
            ("outspan_export_duration_seconds_count backend ", 4.0),
            (
                "outspan_export_duration_seconds_sum backend ",
                stats.durations.sum().as_secs_f64(),
            ),
        ];
        for (name, wanted) in expected {
            assert_eq!(value(name), Some(wanted), "{name}: {values:#?}");
        }
        let buckets = scrape
            .samples
            .iter()
            .find_map(|sample| match &sample.value {
                Value::Histogram(buckets) => Some(buckets),
                _ => None,
            });
        let last = buckets.unwrap().last().unwrap();
        assert_eq!((last.less_than, last.count), (f64::INFINITY, 4.0));
    }

    #[test]
    fn several_exporters_share_a_registry() {
        let child = ScriptedExporter::new();
        let registry = prometheus::Registry::new();
        let handles = ["one", "two"].map(|name| {
            let (exporter, handle) = child.exporter().measured(name);
            drop(futures_executor::block_on(export(&exporter, 3)));
            registry.register(Box::new(handle.clone())).unwrap();
            handle
        });
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        let values = values(&scrape(&text));
        for name in ["one", "two"] {
            let delivered = format!("outspan_export_spans_total {name} delivered");
            assert_eq!(values.get(&delivered), Some(&3.0));
        }
        let again = registry.register(Box::new(handles[0].clone()));
        again.unwrap_err();
        assert!(registry.gather().len() >= 8);
    }
}

#[cfg(feature = "metrics")]
mod opentelemetry_metrics {
    use std::collections::BTreeMap;

    use opentelemetry::metrics::MeterProvider;
    use outspan::Attempt;

    use super::*;
    use crate::otel_metrics::Component;
    use crate::otel_metrics::Metrics;

    const INFLIGHT: &str = "otel.sdk.exporter.span.inflight";
    const EXPORTED: &str = "otel.sdk.exporter.span.exported";
    const DURATION: &str = "otel.sdk.exporter.operation.duration";

    fn metrics() -> Metrics {
        Metrics::of(Component {
            component_type: "otlp_grpc_span_exporter",
            is_name: |name| name == "otlp_grpc_span_exporter/0",
        })
    }

    fn measure(metrics: &Metrics, child: Exporter) -> Measured {
        Measured::new(child)
            .name("otlp_grpc_span_exporter/0")
            .component_type("otlp_grpc_span_exporter")
            .meter(&metrics.provider.meter("outspan"))
    }

    /// Says that an exporter that talks to a server failed there.
    fn answered(error: Error, server: &str, status: u16) -> Act {
        Act::Fail(error.with_attempt(Attempt::one().with_server(server).with_status(status)))
    }

    #[tokio::test(start_paused = true)]
    async fn each_span_is_exported_once_however_often_it_is_tried() {
        let metrics = metrics();
        let child = ScriptedExporter::new();
        let retry = Retry::default().initial_interval(SECOND).multiplier(1.0);
        let retried = child.exporter().retry(retry.jitter(0.0).max_retries(2));
        let (exporter, _) = measure(&metrics, retried).build().unwrap();
        child.script([
            Act::after(SECOND, Act::unavailable()),
            Act::after(SECOND, Act::Deliver),
        ]);
        export(&exporter, 5).await.unwrap();
        child.script([Act::Refuse(2)]);
        export(&exporter, 5).await.unwrap();
        child.script([Act::DeliverHalf(Error::refused("half"))]);
        export(&exporter, 4).await.unwrap();
        child.always(answered(Error::unavailable("down"), "[::1]:4317", 14));
        export(&exporter, 3).await.unwrap_err();

        let series = metrics.read();
        let where_from = "server.address=::1,server.port=4317";
        let expected = [
            (format!("{INFLIGHT} {{span}} "), 0.0),
            (format!("{EXPORTED} {{span}} "), 5.0 + 3.0 + 2.0),
            (format!("{EXPORTED} {{span}} error.type=rejected"), 2.0),
            (format!("{EXPORTED} {{span}} error.type=refused"), 2.0),
            (
                format!("{EXPORTED} {{span}} error.type=unavailable,{where_from}"),
                3.0,
            ),
            (format!("{DURATION} s count "), 1.0),
            (format!("{DURATION} s sum "), 3.0),
            (format!("{DURATION} s count error.type=rejected"), 1.0),
            (format!("{DURATION} s sum error.type=rejected"), 0.0),
            (format!("{DURATION} s count error.type=refused"), 1.0),
            (format!("{DURATION} s sum error.type=refused"), 0.0),
            (
                format!(
                    "{DURATION} s count error.type=unavailable,rpc.response.status_code=UNAVAILABLE,{where_from}"
                ),
                1.0,
            ),
            (
                format!(
                    "{DURATION} s sum error.type=unavailable,rpc.response.status_code=UNAVAILABLE,{where_from}"
                ),
                2.0,
            ),
        ];
        assert_eq!(series, BTreeMap::from(expected));
    }

    #[tokio::test(start_paused = true)]
    async fn spans_are_in_flight_from_beginning_to_end_and_a_dropped_export_is_an_error() {
        let metrics = metrics();
        let child = ScriptedExporter::new();
        let measured = measure(&metrics, child.exporter());
        let (exporter, _) = measured.server("collector", 4317).build().unwrap();
        child.always(Act::Hang);
        let inflight = format!("{INFLIGHT} {{span}} server.address=collector,server.port=4317");
        let hung = export(&exporter, 5);
        let watch = async {
            child.wait_for_exports(1).await;
            assert_eq!(metrics.read().get(&inflight), Some(&5.0));
        };
        let both = futures_util::future::join(tokio::time::timeout(SECOND, hung), watch);
        both.await.0.unwrap_err();

        // The server that was set wins.
        child.always(answered(Error::throttled("slow"), "other:1", 429));
        export(&exporter, 1).await.unwrap_err();
        let server = "server.address=collector,server.port=4317";
        let expected = [
            (inflight, 0.0),
            (
                format!("{EXPORTED} {{span}} error.type=cancelled,{server}"),
                5.0,
            ),
            (
                format!("{EXPORTED} {{span}} error.type=throttled,{server}"),
                1.0,
            ),
            (
                format!("{DURATION} s count error.type=cancelled,{server}"),
                1.0,
            ),
            (
                format!("{DURATION} s sum error.type=cancelled,{server}"),
                1.0,
            ),
            (
                format!(
                    "{DURATION} s count error.type=throttled,http.response.status_code=429,{server}"
                ),
                1.0,
            ),
            (
                format!(
                    "{DURATION} s sum error.type=throttled,http.response.status_code=429,{server}"
                ),
                0.0,
            ),
        ];
        assert_eq!(metrics.read(), BTreeMap::from(expected));
    }
}
