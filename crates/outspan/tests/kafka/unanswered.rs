//! Brokers that take requests and answer nothing.

use std::time::Duration;
use std::time::Instant;

use outspan::Deadline;
use outspan::Export;
use outspan::Retry;
use outspan_testkit::run_test;

use crate::support::TOPIC;
use crate::support::export;
use crate::support::one_broker;
use crate::support::spans_of;
use crate::support::to;

/// How soon spans are delivered again when the brokers are healthy again.
/// It is meant to be 5 s; a test on a busy machine allows twice that.
const RECOVERY: Duration = Duration::from_secs(10);

/// Kafka's library ends a connection on which a request had no answer in time, so new requests need no help of ours.
#[test]
fn brokers_that_hung_get_spans_within_5_s_of_their_recovery() {
    run_test(async {
        let cluster = one_broker();
        let builder = to(&cluster).delivery_timeout(Duration::from_secs(1));
        let exporter = builder.build().unwrap();
        export(&exporter, &spans_of(&[1], 0)).await.unwrap();
        cluster.delay(Duration::from_secs(3600));
        let batch = spans_of(&[1, 2], 1);
        let error = export(&exporter, &batch).await.unwrap_err();
        assert!(error.is_temporary(), "{error}");
        cluster.delay(Duration::ZERO);
        let began = Instant::now();
        let retry = Retry::default().initial_interval(Duration::from_millis(200));
        let deadline = Deadline::after(Duration::from_secs(20));
        let delivery = exporter.retry(retry).export(batch, deadline).await.unwrap();
        let took = began.elapsed();
        assert!(took < RECOVERY, "{took:?}");
        assert_eq!(delivery.accepted, 2);
        // What had no answer may be there twice: Kafka had taken it.
        let counts = cluster.counts(TOPIC);
        assert_eq!(counts.len(), 3, "{counts:?}");
    });
}
