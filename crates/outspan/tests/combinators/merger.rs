//! Merging batches up to limits.

use std::time::Duration;

use outspan::Batch;
use outspan::engine::BatchLimits;
use outspan::engine::Merger;
use outspan_testkit::batch_of;
use outspan_testkit::batch_with;
use outspan_testkit::span_ids;

fn limits(spans: usize, bytes: usize) -> BatchLimits {
    BatchLimits {
        spans,
        bytes,
        delay: Duration::ZERO,
    }
}

fn merged(batches: impl IntoIterator<Item = Batch>) -> Merger {
    let mut merger = Merger::default();
    for batch in batches {
        merger.put(batch);
    }
    merger
}

/// A batch of one span with a name of so many bytes.
fn wide(bytes: usize) -> Batch {
    batch_with(1, |_, span| span.name = "n".repeat(bytes))
}

#[test]
fn an_empty_one_takes_any_batch_and_finishes_with_none() {
    let merger = Merger::default();
    assert!(merger.is_empty());
    assert_eq!(merger.opened_at(), None);
    assert!(merger.fits(&batch_of(5), &limits(1, 1)));
    assert!(!merger.is_full(&limits(1, 1)));
    assert!(merger.finish(&limits(1, 1)).is_empty());
}

#[test]
fn the_time_it_opened_is_that_of_the_first_batch() {
    let mut merger = merged([batch_of(1)]);
    assert!(!merger.is_empty());
    let opened_at = merger.opened_at();
    assert!(opened_at.is_some());
    merger.put(batch_of(1));
    assert_eq!(merger.opened_at(), opened_at);
}

#[test]
fn takes_what_stays_within_both_limits_exactly() {
    let batch = batch_of(3);
    let size = batch.size();
    let merger = merged([batch.clone()]);
    assert!(merger.fits(&batch, &limits(6, 2 * size)));
    assert!(!merger.fits(&batch, &limits(5, 2 * size)), "spans");
    assert!(!merger.fits(&batch, &limits(6, 2 * size - 1)), "bytes");
}

#[test]
fn is_full_at_either_limit() {
    let batch = batch_of(3);
    let size = batch.size();
    let merger = merged([batch]);
    assert!(merger.is_full(&limits(3, usize::MAX)));
    assert!(merger.is_full(&limits(usize::MAX, size)));
    assert!(!merger.is_full(&limits(4, size + 1)));
}

#[test]
fn finishes_with_one_batch_of_every_span_in_order() {
    let batches = [batch_of(3), batch_of(1), batch_of(2)];
    let expected: Vec<_> = batches.iter().flat_map(span_ids).collect();
    let whole = merged(batches).finish(&limits(6, usize::MAX));
    let [whole] = <[Batch; 1]>::try_from(whole).expect("one batch");
    assert_eq!(span_ids(&whole), expected);
}

#[test]
fn what_was_put_in_beyond_a_limit_comes_out_in_parts() {
    let parts = merged([batch_of(7)]).finish(&limits(3, usize::MAX));
    let spans: Vec<_> = parts.iter().map(Batch::spans).collect();
    assert!(parts.iter().all(|part| part.spans() <= 3), "{spans:?}");
    assert_eq!(spans.iter().sum::<usize>(), 7);

    let one = wide(1000);
    let limit = one.size() + one.size() / 2;
    let parts = merged([one.clone(), one]).finish(&limits(9, limit));
    assert!(parts.iter().all(|part| part.size() <= limit));
    assert_eq!(parts.iter().map(Batch::spans).sum::<usize>(), 2);
}

#[test]
fn small_pieces_are_put_together_and_large_ones_left_alone() {
    let small = merged((0..63).map(|_| batch_of(1)));
    assert_eq!(small.pieces(), 63);
    let small = merged((0..64).map(|_| batch_of(1)));
    assert_eq!(small.pieces(), 1);
    assert_eq!(small.finish(&limits(64, usize::MAX))[0].spans(), 64);

    let large = merged((0..64).map(|_| wide(5000)));
    assert_eq!(large.pieces(), 64);

    // A large one in between begins the count anew.
    let small = (0..40).map(|_| batch_of(1));
    let mixed = small.clone().chain([wide(5000)]).chain(small);
    assert_eq!(merged(mixed).pieces(), 81);
}
