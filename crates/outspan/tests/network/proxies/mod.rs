//! Proxies between exporters and collectors: tunnels, forwarding, credentials, the environment, and proxies that fail.

#![cfg(all(feature = "grpc", feature = "http"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod environment;
mod failures;
mod fake;
mod ways;

use outspan::Delivery;
use outspan::Error;
use outspan::Export;
use outspan::Exporter;
use outspan::otlp;
use outspan_testkit::Collector;
use outspan_testkit::Transport;
use outspan_testkit::batch_of;
use outspan_testkit::soon;

/// A name that nobody can look up: only a proxy leads there.
const HOST: &str = "collector.test";

const WIRES: [Transport; 2] = [Transport::Grpc, Transport::Http];

fn to(wire: Transport, scheme: &str, collector: &Collector) -> otlp::Builder {
    to_host(wire, scheme, HOST, collector)
}

fn to_host(wire: Transport, scheme: &str, host: &str, collector: &Collector) -> otlp::Builder {
    let endpoint = format!("{scheme}://{host}:{}", collector.address().port());
    match wire {
        Transport::Grpc => otlp::grpc(endpoint),
        Transport::Http => otlp::http(endpoint),
    }
}

async fn export(exporter: &Exporter) -> Result<Delivery, Error> {
    exporter.export(batch_of(1), soon()).await
}
