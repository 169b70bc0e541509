//! The promises of every exporter, kept by exporters of the SDK.

#![cfg(all(feature = "sdk", feature = "grpc", feature = "http"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use outspan::Exporter;
use outspan::otlp;
use outspan::sdk;
use outspan::sdk::SdkExporter;
use outspan_testkit::Collector;
use outspan_testkit::promises::CollectorRig;

/// Ours as one of the SDK's as one of ours: both adapters, around a real connection.
fn around_our_own(collector: &Collector) -> Exporter {
    let ours = otlp::grpc(collector.endpoint())
        .header("authorization", "Bearer hunter2")
        .build()
        .unwrap();
    sdk::from_sdk(SdkExporter::new(ours)).unwrap()
}

mod from_sdk {
    use super::*;

    outspan_testkit::promises!(
        CollectorRig::new(Collector::grpc(), around_our_own).secret("Bearer hunter2"),
        exempt: {
            outage_is_temporary: "exporters of the SDK do not say whether trying again helps",
        }
    );
}
