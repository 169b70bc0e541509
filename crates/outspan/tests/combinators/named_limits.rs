//! Batches that are too large for destinations that name their limit, and the limits that are of no use.

use std::sync::Arc;
use std::sync::Mutex;

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Error;
use outspan::ErrorKind;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::Retry;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;
use outspan_testkit::soon;
use outspan_testkit::span_ids;

fn bytes_of(spans: usize) -> usize {
    batch_of(spans).size()
}

/// Says which limit it has, for a batch of so many bytes.
type Named = fn(usize) -> Option<u64>;

/// Takes batches of so many bytes, and says what it likes about its limit.
#[derive(Clone)]
struct Limited {
    max_bytes: usize,
    named: Named,
    sizes: Arc<Mutex<Vec<usize>>>,
    received: Arc<Mutex<Vec<outspan_testkit::SpanId>>>,
}

impl std::fmt::Debug for Limited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limited")
    }
}

impl Limited {
    fn new(max_bytes: usize, named: Named) -> Self {
        Self {
            max_bytes,
            named,
            sizes: Arc::default(),
            received: Arc::default(),
        }
    }

    fn exporter(&self) -> Exporter {
        Exporter::new(self.clone())
    }

    /// How many spans each export had.
    fn sizes(&self) -> Vec<usize> {
        self.sizes.lock().unwrap().clone()
    }

    fn received(&self) -> Vec<outspan_testkit::SpanId> {
        self.received.lock().unwrap().clone()
    }
}

impl Export for Limited {
    async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
        self.sizes.lock().unwrap().push(batch.spans());
        if batch.size() <= self.max_bytes {
            self.received.lock().unwrap().extend(span_ids(&batch));
            return Ok(Delivery::of(&batch));
        }
        let error = Error::too_large("the destination says too large");
        Err(match (self.named)(batch.size()) {
            Some(limit) => error.with_limit(limit),
            None => error,
        })
    }

    async fn flush(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }

    async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
        Ok(Drained::default())
    }
}

#[tokio::test(start_paused = true)]
async fn parts_have_the_size_that_the_destination_named() {
    let child = Limited::new(bytes_of(3), |_| Some(bytes_of(3) as u64));
    let batch = batch_of(10);
    let delivery = child.exporter().export(batch.clone(), soon()).await;
    let delivery = delivery.unwrap();
    assert!(delivery.is_complete());
    assert_eq!(child.sizes(), [10, 3, 3, 3, 1]);
    assert_eq!(child.received(), span_ids(&batch), "in order, each once");
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_no_use_is_as_good_as_none() {
    let halves = [10, 5, 3, 2, 5, 3, 2];
    let cases: [Named; 6] = [
        |_| None,
        |_| Some(0),
        |_| Some(1),
        |size| Some(size as u64),
        |size| Some(size as u64 + 1),
        |_| Some(u64::MAX),
    ];
    for (case, named) in cases.into_iter().enumerate() {
        let child = Limited::new(bytes_of(3), named);
        let batch = batch_of(10);
        let delivery = child.exporter().export(batch.clone(), soon()).await;
        assert_eq!(delivery.unwrap().accepted, 10);
        assert_eq!(child.sizes(), halves, "case {case}");
        assert_eq!(child.received(), span_ids(&batch));
    }
}

#[tokio::test(start_paused = true)]
async fn parts_within_a_limit_that_is_too_high_are_halved() {
    let child = Limited::new(bytes_of(3), |_| Some(bytes_of(5) as u64));
    let batch = batch_of(10);
    let delivery = child.exporter().export(batch.clone(), soon()).await;
    assert_eq!(delivery.unwrap().accepted, 10);
    assert_eq!(child.sizes(), [10, 5, 3, 2, 5, 3, 2]);
    assert_eq!(child.received(), span_ids(&batch));
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_shrinks_with_each_answer_costs_no_more_than_halves() {
    for (max_bytes, accepted) in [(bytes_of(1), 64), (0, 0)] {
        let child = Limited::new(max_bytes, |size| Some(size as u64 - 1));
        let batch = batch_of(64);
        let delivery = child.exporter().export(batch.clone(), soon()).await;
        let delivery = delivery.unwrap();
        assert_eq!(delivery.accepted, accepted);
        assert_eq!(delivery.accepted + delivery.undelivered(), 64);
        let calls = child.sizes().len();
        assert!(calls <= 2 * 64 + 2, "{calls} calls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_span_above_the_limit_is_left_alone_and_the_others_arrive() {
    let batch = batch_with(7, |ordinal, span| {
        if ordinal == 3 {
            span.name = "x".repeat(10_000);
        }
    });
    let child = Limited::new(bytes_of(3), |_| Some(bytes_of(3) as u64));
    let exporter = child.exporter().retry(Retry::default());
    let delivery = exporter.export(batch.clone(), soon()).await.unwrap();
    assert_eq!((delivery.accepted, delivery.undelivered()), (6, 1));
    let [left] = &delivery.rest[..] else {
        panic!("{delivery:?}");
    };
    assert_eq!(span_ids(&left.batch), span_ids(&batch)[3..4]);
    assert_eq!(left.error.kind(), ErrorKind::TooLarge);
    assert_eq!(left.error.limit(), Some(bytes_of(3) as u64));
    assert_eq!(child.sizes(), [7, 3, 1, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_left_as_too_large_is_cut_by_its_limit() {
    /// Takes two spans, and leaves the others with its limit.
    #[derive(Clone, Debug)]
    struct FirstTwo(Arc<Mutex<Vec<usize>>>);

    impl Export for FirstTwo {
        async fn export(&self, batch: Batch, _until: Deadline) -> Result<Delivery> {
            self.0.lock().unwrap().push(batch.spans());
            let Some(rest) = batch.split_by_spans(2).reduce(|first, _| first) else {
                return Ok(Delivery::default());
            };
            let mut delivery = Delivery::of(&rest);
            let parts: Vec<_> = batch.split_by_spans(2).skip(1).collect();
            if !parts.is_empty() {
                let error = Error::too_large("two at once").with_limit(bytes_of(2) as u64);
                delivery.leave(Batch::concatenate(&parts), error);
            }
            Ok(delivery)
        }

        async fn flush(&self, _until: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }

        async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }
    }

    let child = FirstTwo(Arc::default());
    let exporter = Exporter::new(child.clone());
    let delivery = exporter.export(batch_of(9), soon()).await.unwrap();
    assert_eq!((delivery.accepted, delivery.undelivered()), (9, 0));
    assert_eq!(*child.0.lock().unwrap(), [9, 2, 2, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_counts_for_too_large_batches_alone() {
    #[derive(Debug)]
    struct Refuses;

    impl Export for Refuses {
        async fn export(&self, _batch: Batch, _until: Deadline) -> Result<Delivery> {
            Err(Error::refused("no").with_limit(bytes_of(1) as u64))
        }

        async fn flush(&self, _until: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }

        async fn shutdown(&self, _until: Deadline) -> Result<Drained> {
            Ok(Drained::default())
        }
    }

    let error = Exporter::new(Refuses).export(batch_of(4), soon()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Refused);
}
