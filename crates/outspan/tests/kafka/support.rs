//! What the tests share: exporters and batches.

use outspan::Batch;
use outspan::Delivery;
use outspan::Error;
use outspan::Export;
use outspan::Exporter;
use outspan::kafka;
use outspan_testkit::batch_with;
use outspan_testkit::soon;

use crate::cluster::Cluster;

/// The topic of all tests that do not ask for another.
pub(crate) const TOPIC: &str = "otlp_spans";

/// A cluster of one broker with the usual topic.
pub(crate) fn one_broker() -> Cluster {
    Cluster::start(1, &[TOPIC])
}

/// Starts an exporter to a cluster.
pub(crate) fn to(cluster: &Cluster) -> kafka::Builder {
    kafka::brokers(cluster.brokers())
}

/// Makes an exporter to a cluster, with the defaults.
pub(crate) fn exporter(cluster: &Cluster) -> Exporter {
    to(cluster).build().unwrap()
}

/// Exports with a deadline that is not meant to pass.
pub(crate) async fn export(exporter: &Exporter, batch: &Batch) -> Result<Delivery, Error> {
    exporter.export(batch.clone(), soon()).await
}

/// A batch of spans of the traces with these numbers, each named `trace/position`.
pub(crate) fn spans_of(traces: &[u128], from: usize) -> Batch {
    batch_with(traces.len(), |index, span| {
        let trace = traces[index];
        span.trace_id = trace.to_be_bytes().to_vec();
        span.name = format!("{trace}/{:04}", from + index);
    })
}

/// The names of a batch's spans, in order.
pub(crate) fn names(batch: &Batch) -> Vec<String> {
    let names = batch.iter().map(|span| span.name().to_owned());
    names.collect()
}
