//! What becomes of the spans when not everything goes well.

use std::time::Duration;

use outspan::Batch;
use outspan::Delivery;
use outspan::ErrorKind;
use outspan::Export;
use outspan_testkit::Answer;
use outspan_testkit::Collector;
use outspan_testkit::SpanId;
use outspan_testkit::batch_from;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;
use outspan_testkit::request_with;
use outspan_testkit::soon;
use outspan_testkit::span_ids;

use crate::support::Options;
use crate::support::Wire;
use crate::support::export;
use crate::support::over_each;

/// Sixty spans of three resources.
fn several() -> Batch {
    let mut request = request_with(20, |_, _| {});
    for _ in 0..2 {
        let more = request_with(20, |_, _| {});
        request.resource_spans.extend(more.resource_spans);
    }
    batch_from(&request)
}

/// How many bytes the body of a request with these spans has.
async fn bytes_of(wire: Wire, batch: &Batch) -> usize {
    let collector = wire.collector();
    let exporter = wire.exporter(&collector, Options::default());
    export(&exporter, batch).await.unwrap();
    let requests = collector.requests();
    requests.iter().map(|one| one.message.len()).max().unwrap()
}

fn left(delivery: &Delivery) -> Vec<SpanId> {
    let parts = delivery.rest.iter();
    parts.flat_map(|part| span_ids(&part.batch)).collect()
}

/// Every span has arrived once or is left.
fn assert_all_accounted(wire: Wire, batch: &Batch, collector: &Collector, delivery: &Delivery) {
    let mut all = [collector.span_ids(), left(delivery)].concat();
    all.sort();
    let mut sent = span_ids(batch);
    sent.sort();
    assert_eq!(all, sent, "{wire:?}: {delivery:?}");
    assert_eq!(delivery.accepted, collector.span_count() as u64, "{wire:?}");
    assert_eq!(collector.complaints(), [""; 0]);
}

#[test]
fn shutdown_closes_the_connection_and_does_not_wait_for_the_last_handle() {
    over_each(|wire| async move {
        let collector = wire.collector();
        let exporter = wire.exporter(&collector, Options::default());
        export(&exporter, &batch_of(1)).await.unwrap();
        assert_eq!(collector.open_connections(), 1, "{wire:?}");
        drop(exporter.shutdown(soon()).await.unwrap());
        collector
            .wait_for_open_connections(0, Duration::from_secs(20))
            .await;
        drop(exporter);
    });
}

#[test]
fn what_is_too_large_for_one_request_goes_in_several() {
    over_each(|wire| async move {
        let batch = several();
        let third = bytes_of(wire, &batch_of(20)).await;
        let bytes = third * 3 / 4;
        let collector = wire.collector();
        let options = Options {
            bytes: Some(bytes),
            ..Options::default()
        };
        let exporter = wire.exporter(&collector, options);
        let delivery = export(&exporter, &batch).await.unwrap();
        assert!(delivery.is_complete());
        assert_all_accounted(wire, &batch, &collector, &delivery);
        let requests = collector.requests();
        assert!(requests.len() > 3, "{wire:?}: {}", requests.len());
        for request in requests {
            assert!(request.message.len() <= bytes, "{wire:?}");
        }
    });
}

#[test]
fn what_the_server_calls_too_large_goes_in_halves() {
    over_each(|wire| async move {
        let batch = several();
        let bytes = bytes_of(wire, &batch_of(7)).await;
        let collector = wire.collector();
        collector.always(Answer::AtMost { bytes });
        let exporter = wire.exporter(&collector, Options::default());
        let delivery = export(&exporter, &batch).await.unwrap();
        assert!(delivery.is_complete(), "{wire:?}: {delivery:?}");
        assert_all_accounted(wire, &batch, &collector, &delivery);
        assert_eq!(
            delivery.attempt.attempts as usize,
            collector.requests().len()
        );
    });
}

#[test]
fn a_span_that_fits_into_no_request_is_left_and_the_others_go() {
    over_each(|wire| async move {
        let batch = batch_with(5, |number, span| {
            if number == 2 {
                span.name = "long ".repeat(4000);
            }
        });
        let collector = wire.collector();
        let options = Options {
            bytes: Some(10_000),
            ..Options::default()
        };
        let exporter = wire.exporter(&collector, options);
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!(delivery.accepted, 4, "{wire:?}: {delivery:?}");
        assert_eq!(left(&delivery), [span_ids(&batch)[2].clone()]);
        let error = &delivery.rest[0].error;
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains("span \"long long"), "{error}");
        assert!(error.to_string().contains("10000"), "{error}");
        assert_all_accounted(wire, &batch, &collector, &delivery);
    });
}

#[test]
fn a_refusal_in_the_middle_leaves_that_request_alone() {
    over_each(|wire| async move {
        let batch = several();
        let third = bytes_of(wire, &batch_of(20)).await;
        let collector = wire.collector();
        collector.script([Answer::Accept, Answer::refuse(400, "not these")]);
        let options = Options {
            bytes: Some(third + third / 4),
            ..Options::default()
        };
        let exporter = wire.exporter(&collector, options);
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!(delivery.rest.len(), 1, "{wire:?}: {delivery:?}");
        let error = &delivery.rest[0].error;
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("not these"), "{error}");
        assert_eq!(left(&delivery), collector.requests()[1].span_ids());
        assert_all_accounted(wire, &batch, &collector, &delivery);
    });
}

#[test]
fn an_outage_in_the_middle_leaves_all_that_was_not_sent() {
    over_each(|wire| async move {
        let batch = several();
        let third = bytes_of(wire, &batch_of(20)).await;
        let collector = wire.collector();
        collector.script([Answer::Accept, Answer::refuse(503, "not now")]);
        let options = Options {
            bytes: Some(third + third / 4),
            ..Options::default()
        };
        let exporter = wire.exporter(&collector, options);
        let delivery = export(&exporter, &batch).await.unwrap();
        assert_eq!(collector.requests().len(), 2, "{wire:?}: it did not stop");
        assert_eq!(delivery.rest.len(), 1, "{wire:?}: {delivery:?}");
        assert!(delivery.rest[0].error.is_temporary());
        assert_all_accounted(wire, &batch, &collector, &delivery);

        // What a retry would do.
        let again = export(&exporter, &delivery.rest[0].batch).await.unwrap();
        assert!(again.is_complete());
        assert_eq!(collector.span_count(), batch.spans());
    });
}

#[test]
fn an_outage_after_a_413_leaves_the_halves_too() {
    over_each(|wire| async move {
        let batch = several();
        let collector = wire.collector();
        collector.script([Answer::refuse(413, "too much"), Answer::refuse(503, "no")]);
        let exporter = wire.exporter(&collector, Options::default());
        let delivery = match export(&exporter, &batch).await {
            Ok(delivery) => delivery,
            Err(error) => {
                assert!(error.is_temporary(), "{error}");
                Delivery::failed(batch.clone(), error)
            }
        };
        assert_all_accounted(wire, &batch, &collector, &delivery);
    });
}

#[test]
fn statuses_say_whether_trying_again_helps() {
    over_each(|wire| async move {
        let collector = wire.collector();
        let exporter = wire.exporter(&collector, Options::default());
        for status in [408, 429, 500, 502, 503, 504] {
            collector.script([Answer::retry_after(status, Duration::from_secs(7))]);
            let error = export(&exporter, &batch_of(1)).await.unwrap_err();
            assert!(error.is_temporary(), "{wire:?}: {error}");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
            assert_eq!(error.attempt().status, Some(status));
        }
        for status in [301, 400, 401, 403, 404, 405, 415, 422, 501] {
            collector.script([Answer::refuse(status, "never")]);
            let error = export(&exporter, &batch_of(1)).await.unwrap_err();
            assert!(!error.is_temporary(), "{wire:?}: {error}");
            assert!(error.to_string().contains("never"), "{error}");
        }
    });
}
