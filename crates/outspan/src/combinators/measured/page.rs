//! Prometheus's text format, and its registries.

use std::collections::HashMap;

use prometheus::TextEncoder;
use prometheus::core::Collector;
use prometheus::core::Desc;
use prometheus::proto::Bucket;
use prometheus::proto::Counter;
use prometheus::proto::Gauge;
use prometheus::proto::Histogram;
use prometheus::proto::LabelPair;
use prometheus::proto::Metric;
use prometheus::proto::MetricFamily;
use prometheus::proto::MetricType;

use super::Durations;
use super::Failures;
use super::MeasuredHandle;
use super::Stats;
use crate::Error;
use crate::Result;

/// The metrics of one exporter.
#[derive(Debug)]
pub(super) struct Page {
    descriptions: Vec<Desc>,
}

/// A metric: what it is called, and how it is read.
struct Kind {
    name: &'static str,
    help: &'static str,
    read: Read,
}

enum Read {
    Counter(fn(&Stats) -> u64),
    Gauge(fn(&Stats) -> u64),
    /// Counters, each with an outcome.
    Outcomes(fn(&Stats) -> Vec<(&'static str, u64)>),
    Histogram(fn(&Stats) -> &Durations),
}

const KINDS: [Kind; 8] = [
    Kind {
        name: "outspan_exports_total",
        help: "Exports that have ended, by outcome: delivered in whole, incomplete, cancelled, or the kind of error.",
        read: Read::Outcomes(export_outcomes),
    },
    Kind {
        name: "outspan_exports_in_flight",
        help: "Exports that have begun and not ended, waits between attempts included.",
        read: Read::Gauge(|stats| stats.exports.in_flight),
    },
    Kind {
        name: "outspan_export_spans_total",
        help: "Spans of exports that have ended, by outcome: delivered, rejected out of a batch that was taken, filtered, \
               cancelled, or the kind of error.",
        read: Read::Outcomes(span_outcomes),
    },
    Kind {
        name: "outspan_export_spans_in_flight",
        help: "Spans of exports that have begun and not ended.",
        read: Read::Gauge(|stats| stats.spans.in_flight),
    },
    Kind {
        name: "outspan_export_attempts_total",
        help: "Attempts that exports have made, those of retries included.",
        read: Read::Counter(|stats| stats.attempts),
    },
    Kind {
        name: "outspan_export_bytes_total",
        help: "Bytes of batches before compression, each batch once.",
        read: Read::Counter(|stats| stats.bytes),
    },
    Kind {
        name: "outspan_export_wire_bytes_total",
        help: "Bytes of payload that went over the wire, failed attempts included.",
        read: Read::Counter(|stats| stats.wire_bytes),
    },
    Kind {
        name: "outspan_export_duration_seconds",
        help: "How long exports took, attempts and waits together.",
        read: Read::Histogram(|stats| &stats.durations),
    },
];

impl Page {
    pub(super) fn new(exporter: &str) -> Self {
        let descriptions = KINDS.iter().map(|kind| {
            let labels = HashMap::from([("exporter".to_owned(), exporter.to_owned())]);
            let more = match kind.read {
                Read::Outcomes(_) => vec!["outcome".to_owned()],
                _ => Vec::new(),
            };
            Desc::new(kind.name.to_owned(), kind.help.to_owned(), more, labels)
                .expect("the names and helps above are valid, and no label stands twice")
        });
        Self {
            descriptions: descriptions.collect(),
        }
    }
}

/// Lets a `prometheus` registry (0.14) read the numbers: `registry.register(Box::new(handle.clone()))`. Two exporters of one
/// registry need names of their own.
impl Collector for MeasuredHandle {
    fn desc(&self) -> Vec<&Desc> {
        self.core.page.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stats = self.stats();
        KINDS
            .iter()
            .map(|kind| family(kind, self.name(), &stats))
            .collect()
    }
}

impl MeasuredHandle {
    /// Writes the numbers in Prometheus's text format, each with the label `exporter`. To write several exporters into one
    /// page, register their handles with a registry.
    ///
    /// # Errors
    ///
    /// [`Internal`](crate::ErrorKind::Internal) if they cannot be written.
    pub fn to_prometheus(&self) -> Result<String> {
        TextEncoder::new()
            .encode_to_string(&self.collect())
            .map_err(|e| Error::internal("cannot write metrics for Prometheus").with_source(e))
    }
}

fn family(kind: &Kind, exporter: &str, stats: &Stats) -> MetricFamily {
    let exporter = label("exporter", exporter);
    let (metric_type, metrics) = match kind.read {
        Read::Counter(read) => (
            MetricType::COUNTER,
            vec![counter(read(stats), vec![exporter])],
        ),
        Read::Gauge(read) => (MetricType::GAUGE, vec![gauge(read(stats), vec![exporter])]),
        Read::Histogram(read) => (
            MetricType::HISTOGRAM,
            vec![histogram(read(stats), vec![exporter])],
        ),
        Read::Outcomes(read) => {
            let each = read(stats).into_iter().map(|(outcome, count)| {
                let labels = vec![exporter.clone(), label("outcome", outcome)];
                counter(count, labels)
            });
            (MetricType::COUNTER, each.collect())
        }
    };
    let mut family = MetricFamily::default();
    family.set_name(kind.name.to_owned());
    family.set_help(kind.help.to_owned());
    family.set_field_type(metric_type);
    family.set_metric(metrics);
    family
}

fn export_outcomes(stats: &Stats) -> Vec<(&'static str, u64)> {
    let exports = &stats.exports;
    let mut outcomes = vec![
        ("delivered", exports.succeeded),
        ("incomplete", exports.incomplete),
        ("cancelled", exports.cancelled),
    ];
    outcomes.extend(kinds(&exports.failed));
    outcomes
}

fn span_outcomes(stats: &Stats) -> Vec<(&'static str, u64)> {
    let spans = &stats.spans;
    let mut outcomes = vec![
        ("delivered", spans.delivered),
        ("rejected", spans.refused),
        ("filtered", spans.filtered),
        ("cancelled", spans.cancelled),
    ];
    outcomes.extend(kinds(&spans.failed));
    outcomes
}

/// Every kind, also those that did not occur: a series that begins at its first failure hides it from rates.
fn kinds(failures: &Failures) -> impl Iterator<Item = (&'static str, u64)> + '_ {
    let all = super::stats::KINDS.into_iter();
    all.map(|kind| (kind.as_str(), failures.of(kind)))
}

fn counter(value: u64, labels: Vec<LabelPair>) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(value: u64, labels: Vec<LabelPair>) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value as f64);
    let mut metric = Metric::from_label(labels);
    metric.set_gauge(gauge);
    metric
}

fn histogram(durations: &Durations, labels: Vec<LabelPair>) -> Metric {
    let mut counted = 0;
    let bounds = Durations::BOUNDS.into_iter().zip(durations.buckets());
    let buckets = bounds.map(|(bound, count)| {
        counted += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(counted);
        bucket
    });
    let buckets = buckets.collect();
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(durations.count());
    histogram.set_sample_sum(durations.sum().as_secs_f64());
    let mut metric = Metric::from_label(labels);
    metric.set_histogram(histogram);
    metric
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}
