//! Proxies between exporters and collectors: tunnels, forwarding, credentials, the environment, and proxies that fail.

#![cfg(all(feature = "grpc", feature = "http"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod environment;
mod failures;
mod fake;
mod ways;

use std::future::Future;
use std::time::Duration;

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

/// How long a test may take: far longer than any does, so that a hang is a failure.
const TEST_TIME: Duration = Duration::from_secs(60);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let ended = tokio::time::timeout(TEST_TIME, test).await;
        assert!(ended.is_ok(), "the test hangs");
    });
}

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
