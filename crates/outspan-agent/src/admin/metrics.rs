//! `/metrics`: everything for Prometheus. What each metric means is told in `docs/monitoring.md`.
//!
//! Where the OpenTelemetry Collector has a metric that means the same, it is here under the Collector's name, prefix
//! `otelcol_`, so that its dashboards work (`exporter/exporterhelper`, `receiver/receiverhelper` and `service` of
//! opentelemetry-collector, each with a `metadata.yaml`). What the Collector has no name for has the prefix `outspan_`.

use outspan::DropReason;
use prometheus::Encoder;
use prometheus::TextEncoder;
use prometheus::proto::Counter;
use prometheus::proto::Gauge;
use prometheus::proto::LabelPair;
use prometheus::proto::Metric;
use prometheus::proto::MetricFamily;
use prometheus::proto::MetricType;

use super::health;
use super::snapshot::Snapshot;
use crate::agent::State;
use crate::pipeline::DestinationStatus;
use crate::receivers::ReceiverStatus;

/// Prometheus's text format, which everything that scrapes reads.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes a snapshot in Prometheus's text format.
///
/// # Errors
///
/// If it cannot be written.
pub(super) fn encode(snapshot: &Snapshot) -> prometheus::Result<Vec<u8>> {
    let mut families = Families::default();
    families.add_receivers(snapshot);
    families.add_destinations(&snapshot.agent.destinations);
    families.add_agent(snapshot);
    families.add_process(snapshot);
    let mut text = Vec::new();
    TextEncoder::new().encode(&families.all, &mut text)?;
    Ok(text)
}

/// Collects metrics in the order in which they are shown.
#[derive(Default)]
struct Families {
    all: Vec<MetricFamily>,
}

impl Families {
    fn add_receivers(&mut self, snapshot: &Snapshot) {
        let receivers = &snapshot.agent.receivers;
        let each = |value: fn(&ReceiverStatus) -> u64| {
            let samples = receivers.iter();
            samples.map(move |of| Sample::of(of, value(of)))
        };
        let by_outcome = |outcomes: &'static [Outcome]| {
            receivers.iter().flat_map(move |of| {
                let outcomes = outcomes.iter();
                outcomes.map(|outcome| {
                    Sample::of(of, (outcome.count)(of)).with("outcome", outcome.name)
                })
            })
        };
        self.counter(
            "otelcol_receiver_accepted_spans_total",
            "Spans that were accepted.",
            each(|of| of.accepted_spans),
        );
        self.counter(
            "otelcol_receiver_refused_spans_total",
            "Spans that were not accepted: invalid ones, those whose senders were told to come back later, and those that \
             came over UDP and found no room.",
            each(|of| of.refused_spans + of.deferred_spans + of.dropped_spans),
        );
        self.counter(
            "otelcol_receiver_requests_total",
            "Requests, by outcome: success is accepted, refused is everything that was answered otherwise.",
            by_outcome(&COLLECTOR_OUTCOMES),
        );
        self.counter(
            "outspan_receiver_requests_total",
            "Requests: accepted, refused for good, deferred (the sender was told to come back later), broken (did not \
             arrive in whole), dropped (datagrams for which there was no room).",
            by_outcome(&REQUEST_OUTCOMES),
        );
        self.counter(
            "outspan_receiver_spans_total",
            "Spans of requests that were read: accepted, refused for good, deferred (the sender was told to come back \
             later), dropped (came over UDP and found no room).",
            by_outcome(&SPAN_OUTCOMES),
        );
        self.counter(
            "outspan_receiver_bytes_total",
            "Bytes of requests as they came, compressed if they were.",
            each(|of| of.bytes),
        );
        self.counter(
            "outspan_receiver_unacknowledged_requests_total",
            "Accepted requests whose senders were told to send again, because a destination dropped spans or was too slow \
             (--ack delivered).",
            each(|of| of.unacknowledged_requests),
        );
        self.gauge(
            "outspan_receiver_waiting_answers",
            "Answers that wait until destinations have their spans (--ack delivered).",
            snapshot
                .agent
                .acks
                .iter()
                .map(|acks| Sample::new(acks.waiting as f64)),
        );
        self.gauge(
            "outspan_receiver_connections",
            "Connections that are open, over all addresses.",
            [Sample::new(snapshot.agent.connections as f64)],
        );
        self.counter(
            "outspan_receiver_connections_refused_total",
            "Connections that were turned away because there were too many.",
            [Sample::new(snapshot.agent.connections_refused as f64)],
        );
    }

    fn add_destinations(&mut self, destinations: &[DestinationStatus]) {
        let each = |value: fn(&DestinationStatus) -> u64| {
            let samples = destinations.iter();
            samples.map(move |to| Sample::to(to, value(to)))
        };
        let traces = |value: fn(&DestinationStatus) -> u64| {
            each(value).map(|sample| sample.with("data_type", "traces"))
        };
        self.counter(
            "otelcol_exporter_sent_spans_total",
            "Spans that the destination acknowledged.",
            each(|to| to.account.delivered),
        );
        self.counter(
            "otelcol_exporter_send_failed_spans_total",
            "Spans that did not get to the destination for good, by error type: rejected by it, or why they were dropped. \
             Attempts that are made again do not count.",
            destinations.iter().flat_map(failures),
        );
        self.counter(
            "otelcol_exporter_enqueue_failed_spans_total",
            "Spans that were dropped because the destination's queue had no room, while another destination's had.",
            each(|to| to.account.dropped.of(DropReason::QueueFull)),
        );
        self.gauge(
            "otelcol_exporter_queue_size",
            "Bytes that the destination's queue holds, exports on their way included.",
            traces(|to| to.bytes as u64),
        );
        self.gauge(
            "otelcol_exporter_queue_capacity",
            "Bytes that the destination's queue may hold.",
            traces(|to| to.bytes_max as u64),
        );
        self.gauge(
            "otelcol_exporter_in_flight_requests",
            "Exports on their way to the destination, waits between attempts not included.",
            each(|to| to.exports as u64),
        );
        self.counter(
            "outspan_exporter_received_spans_total",
            "Spans handed over for the destination: at all times the sum of sent, refused, dropped, queued and in flight.",
            each(|to| to.account.received),
        );
        self.counter(
            "outspan_exporter_refused_spans_total",
            "Spans that the destination refused for good.",
            each(|to| to.account.refused),
        );
        self.counter(
            "outspan_exporter_dropped_spans_total",
            "Spans that were dropped, by reason.",
            destinations.iter().flat_map(drops),
        );
        self.gauge(
            "outspan_exporter_queued_spans",
            "Spans that wait.",
            each(|to| to.account.queued),
        );
        self.gauge(
            "outspan_exporter_in_flight_spans",
            "Spans in exports that have begun and not ended, waits between attempts included.",
            each(|to| to.account.in_flight),
        );
        self.gauge(
            "outspan_exporter_queue_batches",
            "Batches that the destination's queue holds, those on their way included.",
            each(|to| to.batches as u64),
        );
        self.gauge(
            "outspan_exporter_down",
            "1 while the destination does not take spans, else 0; /status says why.",
            each(|to| u64::from(to.trouble.is_some())),
        );
    }

    fn add_agent(&mut self, snapshot: &Snapshot) {
        let agent = &snapshot.agent;
        let is_ready = health::readiness(agent).is_ok();
        self.gauge(
            "outspan_ready",
            "1 while spans are taken, else 0; /readyz says why.",
            [Sample::new(f64::from(u8::from(is_ready)))],
        );
        self.gauge(
            "outspan_stopping",
            "1 from the signal to stop on, else 0.",
            [Sample::new(f64::from(u8::from(
                agent.state != State::Running,
            )))],
        );
        self.gauge(
            "outspan_memory_limit_bytes",
            "Bound of everything that the agent holds, as --memory sets it.",
            [Sample::new(agent.memory.max as f64)],
        );
        self.gauge(
            "outspan_memory_receiving_bytes",
            "Bytes of requests on their way in, decompressed.",
            [Sample::new(agent.memory.receiving as f64)],
        );
        self.gauge(
            "outspan_memory_receiving_limit_bytes",
            "Bytes that requests on their way in may take; senders are told to come back later when they are taken.",
            [Sample::new(agent.memory.receiving_max as f64)],
        );
        self.gauge(
            "outspan_build_info",
            "Always 1; the label is the version.",
            [Sample::new(1.0).with("version", env!("CARGO_PKG_VERSION"))],
        );
    }

    fn add_process(&mut self, snapshot: &Snapshot) {
        self.counter(
            "otelcol_process_uptime_seconds_total",
            "Seconds since the agent started.",
            [Sample::new(snapshot.agent.uptime.as_secs_f64())],
        );
        let cpu = snapshot.process.cpu;
        self.counter(
            "otelcol_process_cpu_seconds_total",
            "Seconds on processors, user and system.",
            cpu.map(|used| Sample::new(used.as_secs_f64())),
        );
        let resident = snapshot.process.resident_bytes;
        self.gauge(
            "otelcol_process_memory_rss_bytes",
            "Memory that the process has in use (resident set size).",
            resident.map(|bytes| Sample::new(bytes as f64)),
        );
    }

    fn counter(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        let samples = samples.into_iter().map(Sample::into_counter).collect();
        self.add(name, help, MetricType::COUNTER, samples);
    }

    fn gauge(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        let samples = samples.into_iter().map(Sample::into_gauge).collect();
        self.add(name, help, MetricType::GAUGE, samples);
    }

    /// Adds a metric, unless nobody has it.
    fn add(&mut self, name: &str, help: &str, kind: MetricType, samples: Vec<Metric>) {
        if samples.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(samples);
        self.all.push(family);
    }
}

/// Names an outcome, and says how many had it.
struct Outcome {
    name: &'static str,
    count: fn(&ReceiverStatus) -> u64,
}

impl Outcome {
    const fn new(name: &'static str, count: fn(&ReceiverStatus) -> u64) -> Self {
        Self { name, count }
    }
}

const COLLECTOR_OUTCOMES: [Outcome; 2] = [
    Outcome::new("success", |of| of.accepted_requests),
    Outcome::new("refused", |of| {
        of.refused_requests + of.deferred_requests + of.dropped_requests
    }),
];

const REQUEST_OUTCOMES: [Outcome; 5] = [
    Outcome::new("accepted", |of| of.accepted_requests),
    Outcome::new("refused", |of| of.refused_requests),
    Outcome::new("deferred", |of| of.deferred_requests),
    Outcome::new("broken", |of| of.broken_requests),
    Outcome::new("dropped", |of| of.dropped_requests),
];

const SPAN_OUTCOMES: [Outcome; 4] = [
    Outcome::new("accepted", |of| of.accepted_spans),
    Outcome::new("refused", |of| of.refused_spans),
    Outcome::new("deferred", |of| of.deferred_spans),
    Outcome::new("dropped", |of| of.dropped_spans),
];

/// What failed at or on the way to a destination: everything that was not delivered, but for what had no room in the
/// queue (the Collector counts it apart) and what was filtered on request.
fn failures(to: &DestinationStatus) -> impl Iterator<Item = Sample> + use<'_> {
    let rejected = std::iter::once(("rejected", to.account.refused));
    let dropped = DropReason::ALL
        .into_iter()
        .filter(|reason| !matches!(reason, DropReason::QueueFull | DropReason::Filtered))
        .map(|reason| (reason.as_str(), to.account.dropped.of(reason)));
    rejected
        .chain(dropped)
        .map(|(error, spans)| Sample::to(to, spans).with("error_type", error))
}

fn drops(to: &DestinationStatus) -> impl Iterator<Item = Sample> + use<'_> {
    DropReason::ALL
        .into_iter()
        .map(|reason| Sample::to(to, to.account.dropped.of(reason)).with("reason", reason.as_str()))
}

/// One value with its labels.
struct Sample {
    labels: Vec<LabelPair>,
    value: f64,
}

impl Sample {
    fn new(value: f64) -> Self {
        Self {
            labels: Vec::new(),
            value,
        }
    }

    /// A value of a transport, with the labels that the Collector's receivers have.
    fn of(receiver: &ReceiverStatus, value: u64) -> Self {
        Self::new(value as f64)
            .with("receiver", receiver.transport.receiver())
            .with("transport", receiver.transport.as_str())
    }

    /// A value of a destination, with the label that the Collector's exporters have. No two destinations of an agent have
    /// the same name.
    fn to(destination: &DestinationStatus, value: u64) -> Self {
        Self::new(value as f64).with("exporter", &destination.name)
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        let mut label = LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value.to_owned());
        self.labels.push(label);
        self
    }

    fn into_counter(self) -> Metric {
        let mut counter = Counter::default();
        counter.set_value(self.value);
        let mut metric = Metric::from_label(self.labels);
        metric.set_counter(counter);
        metric
    }

    fn into_gauge(self) -> Metric {
        let mut gauge = Gauge::default();
        gauge.set_value(self.value);
        let mut metric = Metric::from_label(self.labels);
        metric.set_gauge(gauge);
        metric
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;

    use prometheus_parse::Scrape;
    use prometheus_parse::Value;

    use super::super::tests::snapshot;
    use super::*;

    const PAGE: &str = include_str!("../../../../docs/monitoring.md");

    fn text(snapshot: &Snapshot) -> String {
        String::from_utf8(encode(snapshot).unwrap()).unwrap()
    }

    /// Reads the text with somebody else's parser, and makes sure that it left no line out.
    fn scrape(snapshot: &Snapshot) -> Scrape {
        let text = text(snapshot);
        let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(scrape.samples.len(), samples, "{text}");
        scrape
    }

    /// Series as Prometheus writes them, with their values.
    fn series(scrape: &Scrape) -> BTreeMap<String, f64> {
        let mut all = BTreeMap::new();
        for sample in &scrape.samples {
            let value = match sample.value {
                Value::Counter(value) | Value::Gauge(value) => value,
                ref other => panic!("{}: {other:?}", sample.metric),
            };
            let name = format!("{}{{{}}}", sample.metric, sample.labels);
            assert!(all.insert(name.clone(), value).is_none(), "twice: {name}");
        }
        all
    }

    #[test]
    fn every_number_stands_under_its_name() {
        let all = series(&scrape(&snapshot()));
        let one = r#"exporter="grpc://one.example.com:4317""#;
        for (name, expected) in [
            (
                r#"otelcol_receiver_accepted_spans_total{receiver="otlp",transport="grpc"}"#,
                1001.0,
            ),
            (
                r#"otelcol_receiver_accepted_spans_total{receiver="otlp",transport="http"}"#,
                2001.0,
            ),
            (
                r#"otelcol_receiver_refused_spans_total{receiver="otlp",transport="grpc"}"#,
                3009.0,
            ),
            (
                r#"otelcol_receiver_requests_total{outcome="success",receiver="otlp",transport="http"}"#,
                201.0,
            ),
            (
                r#"otelcol_receiver_requests_total{outcome="refused",receiver="otlp",transport="http"}"#,
                610.0,
            ),
            (
                r#"outspan_receiver_requests_total{outcome="accepted",receiver="otlp",transport="grpc"}"#,
                101.0,
            ),
            (
                r#"outspan_receiver_requests_total{outcome="refused",receiver="otlp",transport="grpc"}"#,
                102.0,
            ),
            (
                r#"outspan_receiver_requests_total{outcome="deferred",receiver="otlp",transport="grpc"}"#,
                103.0,
            ),
            (
                r#"outspan_receiver_requests_total{outcome="broken",receiver="otlp",transport="grpc"}"#,
                104.0,
            ),
            (
                r#"outspan_receiver_requests_total{outcome="dropped",receiver="otlp",transport="grpc"}"#,
                105.0,
            ),
            (
                r#"outspan_receiver_spans_total{outcome="accepted",receiver="otlp",transport="http"}"#,
                2001.0,
            ),
            (
                r#"outspan_receiver_spans_total{outcome="refused",receiver="otlp",transport="http"}"#,
                2002.0,
            ),
            (
                r#"outspan_receiver_spans_total{outcome="deferred",receiver="otlp",transport="http"}"#,
                2003.0,
            ),
            (
                r#"outspan_receiver_spans_total{outcome="dropped",receiver="otlp",transport="http"}"#,
                2004.0,
            ),
            (
                r#"outspan_receiver_bytes_total{receiver="otlp",transport="grpc"}"#,
                10_001.0,
            ),
            ("outspan_receiver_connections{}", 7.0),
            ("outspan_receiver_connections_refused_total{}", 2.0),
            (
                &format!("otelcol_exporter_sent_spans_total{{{one}}}"),
                2900.0,
            ),
            (
                &format!(
                    r#"otelcol_exporter_send_failed_spans_total{{error_type="rejected",{one}}}"#
                ),
                10.0,
            ),
            (
                &format!(
                    r#"otelcol_exporter_send_failed_spans_total{{error_type="failed",{one}}}"#
                ),
                2.0,
            ),
            (
                &format!(
                    r#"otelcol_exporter_send_failed_spans_total{{error_type="too_large",{one}}}"#
                ),
                3.0,
            ),
            (
                &format!(
                    r#"otelcol_exporter_send_failed_spans_total{{error_type="expired",{one}}}"#
                ),
                4.0,
            ),
            (
                &format!(
                    r#"otelcol_exporter_send_failed_spans_total{{error_type="shutdown",{one}}}"#
                ),
                6.0,
            ),
            (
                &format!(
                    r#"otelcol_exporter_send_failed_spans_total{{error_type="encode",{one}}}"#
                ),
                7.0,
            ),
            (
                &format!("otelcol_exporter_enqueue_failed_spans_total{{{one}}}"),
                1.0,
            ),
            (
                &format!(r#"otelcol_exporter_queue_size{{data_type="traces",{one}}}"#),
                10_000.0,
            ),
            (
                &format!(r#"otelcol_exporter_queue_capacity{{data_type="traces",{one}}}"#),
                50_331_648.0,
            ),
            (
                &format!("otelcol_exporter_in_flight_requests{{{one}}}"),
                1.0,
            ),
            (
                &format!("outspan_exporter_received_spans_total{{{one}}}"),
                3002.0,
            ),
            (
                &format!("outspan_exporter_refused_spans_total{{{one}}}"),
                10.0,
            ),
            (
                &format!(r#"outspan_exporter_dropped_spans_total{{{one},reason="queue_full"}}"#),
                1.0,
            ),
            (
                &format!(r#"outspan_exporter_dropped_spans_total{{{one},reason="failed"}}"#),
                2.0,
            ),
            (
                &format!(r#"outspan_exporter_dropped_spans_total{{{one},reason="too_large"}}"#),
                3.0,
            ),
            (
                &format!(r#"outspan_exporter_dropped_spans_total{{{one},reason="expired"}}"#),
                4.0,
            ),
            (
                &format!(r#"outspan_exporter_dropped_spans_total{{{one},reason="filtered"}}"#),
                5.0,
            ),
            (
                &format!(r#"outspan_exporter_dropped_spans_total{{{one},reason="shutdown"}}"#),
                6.0,
            ),
            (
                &format!(r#"outspan_exporter_dropped_spans_total{{{one},reason="encode"}}"#),
                7.0,
            ),
            (&format!("outspan_exporter_queued_spans{{{one}}}"), 54.0),
            (&format!("outspan_exporter_in_flight_spans{{{one}}}"), 10.0),
            (&format!("outspan_exporter_queue_batches{{{one}}}"), 3.0),
            (&format!("outspan_exporter_down{{{one}}}"), 0.0),
            (
                r#"outspan_exporter_down{exporter="http://two.example.com:4318"}"#,
                1.0,
            ),
            ("outspan_ready{}", 1.0),
            ("outspan_stopping{}", 0.0),
            ("outspan_memory_limit_bytes{}", 268_435_456.0),
            ("outspan_memory_receiving_bytes{}", 4096.0),
            ("outspan_memory_receiving_limit_bytes{}", 100_663_296.0),
            ("otelcol_process_uptime_seconds_total{}", 12.5),
            ("otelcol_process_cpu_seconds_total{}", 1.25),
            ("otelcol_process_memory_rss_bytes{}", 20_971_520.0),
        ] {
            assert_eq!(all.get(name), Some(&expected), "{name}\n{all:#?}");
        }
    }

    #[test]
    fn the_account_of_each_destination_closes_in_the_metrics_alone() {
        let all = series(&scrape(&snapshot()));
        let sum = |name: &str, to: &str| -> f64 {
            let own = all
                .iter()
                .filter(|(series, _)| series.starts_with(&format!("{name}{{")))
                .filter(|(series, _)| series.contains(to));
            own.map(|(_, value)| value).sum()
        };
        for to in ["one.example.com", "two.example.com"] {
            let parts = [
                "otelcol_exporter_sent_spans_total",
                "outspan_exporter_refused_spans_total",
                "outspan_exporter_dropped_spans_total",
                "outspan_exporter_queued_spans",
                "outspan_exporter_in_flight_spans",
            ];
            let parts: f64 = parts.iter().map(|name| sum(name, to)).sum();
            assert_eq!(sum("outspan_exporter_received_spans_total", to), parts);
            assert_eq!(parts, 3002.0);
        }
    }

    #[test]
    fn names_follow_prometheus_and_each_has_help() {
        let text = text(&snapshot());
        let scrape = scrape(&snapshot());
        for sample in &scrape.samples {
            let name = sample.metric.as_str();
            assert_eq!(
                matches!(sample.value, Value::Counter(_)),
                name.ends_with("_total"),
                "{name}"
            );
            assert!(scrape.docs.contains_key(name), "{name} has no help");
        }
        for line in text.lines().filter(|line| line.starts_with("# HELP")) {
            assert!(line.ends_with('.'), "{line}");
            assert!(!line.contains("  "), "{line}");
        }
    }

    #[test]
    fn odd_names_are_escaped() {
        let mut shown = snapshot();
        shown.agent.destinations[0].name = "file:a\"b\\c\nd".to_owned();
        let text = text(&shown);
        assert!(text.contains(r#"exporter="file:a\"b\\c\nd""#), "{text}");
    }

    #[test]
    fn what_the_system_does_not_tell_is_left_out() {
        let mut shown = snapshot();
        shown.process = Default::default();
        let text = text(&shown);
        assert!(!text.contains("otelcol_process_memory_rss_bytes"), "{text}");
        assert!(
            !text.contains("otelcol_process_cpu_seconds_total"),
            "{text}"
        );
        assert!(text.contains("otelcol_process_uptime_seconds_total"));
    }

    /// The names in the first column of the page's tables.
    fn names_in_page() -> BTreeSet<String> {
        let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
        let cells = rows.filter_map(|row| row.split_once('`').map(|(cell, _)| cell));
        let names =
            cells.filter(|cell| cell.starts_with("otelcol_") || cell.starts_with("outspan_"));
        names.map(str::to_owned).collect()
    }

    #[test]
    fn the_page_tells_of_every_metric_and_of_no_other() {
        let scrape = scrape(&snapshot());
        let metrics: BTreeSet<String> = scrape.samples.iter().map(|s| s.metric.clone()).collect();
        assert!(metrics.len() > 25);
        assert_eq!(names_in_page(), metrics);
    }

    #[test]
    fn every_metric_in_the_alerts_of_the_page_exists() {
        let scrape = scrape(&snapshot());
        let metrics: BTreeSet<&str> = scrape.samples.iter().map(|s| s.metric.as_str()).collect();
        let expressions = PAGE
            .lines()
            .filter(|line| line.trim_start().starts_with("expr:"));
        let mut names = 0;
        for expression in expressions {
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words.filter(|w| w.starts_with("otelcol_") || w.starts_with("outspan_")) {
                assert!(metrics.contains(word), "{word} in {expression}");
                names += 1;
            }
        }
        assert!(names >= 5, "{names}");
    }
}
