//! One batch for several destinations that want the same form of it, within different limits.

use outspan::Batch;
use outspan::Compression;
use outspan_testkit::Collector;
use outspan_testkit::batch_of;

use crate::support::Wire;
use crate::support::export;

over_each_wire![each_destination_has_its_own_limit_whichever_comes_first];

async fn export_within(wire: Wire, collector: &Collector, batch: &Batch, limit: usize) -> u64 {
    let exporter = wire
        .to_collector(collector)
        .compression(Compression::Gzip)
        .max_request_bytes(limit)
        .build()
        .unwrap();
    match export(&exporter, batch).await {
        Ok(delivery) => delivery.accepted,
        Err(error) => {
            assert!(error.is_too_large(), "{error}");
            0
        }
    }
}

async fn each_destination_has_its_own_limit_whichever_comes_first(wire: Wire) {
    let (small, large) = (64, 1 << 20);
    for limits in [[small, large, small], [large, small, large]] {
        let collector = wire.collector();
        let batch = batch_of(1);
        for limit in limits {
            let expected = u64::from(limit == large);
            let accepted = export_within(wire, &collector, &batch, limit).await;
            assert_eq!(accepted, expected, "{limit} of {limits:?}");
        }
    }
}
