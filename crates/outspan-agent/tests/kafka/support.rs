//! Agents that consume, and what they consume.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use outspan::Batch;
use outspan_testkit::Collector;
use outspan_testkit::SpanId;
use outspan_testkit::span_ids;
use rdkafka::ClientConfig;
use rdkafka::producer::BaseProducer;
use rdkafka::producer::BaseRecord;
use rdkafka::producer::Producer;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::running::Running;

pub(crate) const TOPIC: &str = "otlp_spans";

/// A cluster with the usual topic, and somebody who writes to it.
pub(crate) struct Topic {
    pub(crate) cluster: Cluster,
    producer: BaseProducer,
    directory: TempDir,
}

impl Topic {
    pub(crate) fn start() -> Self {
        let cluster = Cluster::start(1, &[TOPIC]);
        let producer = ClientConfig::new()
            .set("bootstrap.servers", cluster.brokers())
            .create()
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        // Brokers notice a consumer that was killed soon.
        let quick = "session.timeout.ms=3000\nheartbeat.interval.ms=300\n";
        std::fs::write(directory.path().join("quick"), quick).unwrap();
        Self {
            cluster,
            producer,
            directory,
        }
    }

    /// Writes messages, and waits for them to be there.
    pub(crate) fn write<'a>(&self, values: impl IntoIterator<Item = &'a [u8]>) {
        for value in values {
            let mut record = BaseRecord::<(), [u8]>::to(TOPIC).payload(value);
            while let Err((_, again)) = self.producer.send(record) {
                self.producer.poll(Duration::from_millis(10));
                record = again;
            }
        }
        self.producer.flush(Duration::from_secs(20)).unwrap();
    }

    /// Writes each batch as a message of protobuf.
    pub(crate) fn write_batches(&self, batches: &[Batch]) {
        self.write(batches.iter().map(|batch| &**batch.as_request()));
    }

    /// The topic as a value of `--listen`.
    pub(crate) fn url(&self) -> String {
        let config: PathBuf = self.directory.path().join("quick");
        let brokers = self.cluster.brokers();
        format!("kafka://{brokers}/{TOPIC}?config={}", config.display())
    }

    /// Starts an agent that consumes the topic.
    #[track_caller]
    pub(crate) fn consumer(&self, to: &str, more: &[&str]) -> Running {
        let url = self.url();
        let arguments = ["agent", "--listen", &url, "--to", to, "--admin", "off"];
        let mut running = Running::start(&[&arguments[..], more].concat(), &[]);
        running.wait_until_said("sending to");
        running
    }
}

/// How often the collector has each span.
pub(crate) fn counts(collector: &Collector) -> BTreeMap<SpanId, usize> {
    let mut counts = BTreeMap::new();
    for id in collector.span_ids() {
        *counts.entry(id).or_default() += 1;
    }
    counts
}

/// Panics unless the collector has each span of the batches, and no other. Says how many it has more than once.
#[track_caller]
pub(crate) fn assert_none_lost(collector: &Collector, batches: &[Batch]) -> usize {
    let counts = counts(collector);
    let sent: Vec<SpanId> = batches.iter().flat_map(span_ids).collect();
    let missing = sent.iter().filter(|id| !counts.contains_key(id)).count();
    assert_eq!(missing, 0, "of {} spans so many are lost", sent.len());
    assert_eq!(counts.len(), sent.len(), "there are others");
    counts.values().map(|count| count - 1).sum()
}
