//! What needs no broker: from a batch to messages.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::kafka::encode::TraceKey;
use crate::kafka::encode::messages;

/// A batch of spans that `change` has seen with their numbers.
fn batch_with(
    spans: usize,
    change: impl FnMut(usize, &mut opentelemetry_proto::tonic::trace::v1::Span),
) -> Batch {
    // The testkit's batches are of the library that it was built with.
    let theirs = outspan_testkit::batch_with(spans, change);
    let request = theirs.as_request().clone();
    Batch::from_request(request).unwrap().batch
}

#[test]
fn a_key_is_the_trace_id_in_lower_case_digits() {
    for id in [0, 1, 0xDEAD_BEEF, u128::MAX, 0x0123_4567_89AB_CDEF << 64] {
        assert_eq!(TraceKey::of(id).as_bytes(), format!("{id:032x}").as_bytes());
    }
}

#[test]
fn a_batch_that_fits_shares_its_bytes_with_the_message() {
    let batch = batch_with(3, |_, _| {});
    let messages = messages(&batch, Key::None, batch.size()).unwrap();
    let [message] = messages.as_slice() else {
        panic!("{messages:?}");
    };
    let payload = message.payload(Encoding::OtlpProto, usize::MAX).unwrap();
    assert_eq!(payload.as_ptr(), batch.as_request().as_ptr());
}

#[test]
fn traces_above_the_limit_are_split_and_keep_their_key() {
    let batch = batch_with(40, |index, span| {
        span.trace_id = vec![1 + (index % 2) as u8; 16];
        span.name = "x".repeat(100);
    });
    let messages = messages(&batch, Key::TraceId, 1_000).unwrap();
    assert!(messages.len() > 4, "{messages:?}");
    let spans: usize = messages.iter().map(|message| message.batch.spans()).sum();
    assert_eq!(spans, 40);
    for message in messages {
        assert!(message.batch.size() <= 1_000);
        let key = message.key.unwrap();
        for span in message.batch.iter() {
            assert_eq!(TraceKey::of(u128::from_be_bytes(span.trace_id())), key);
        }
    }
}

#[test]
fn halves_keep_the_order() {
    let batch = batch_with(5, |index, span| span.name = index.to_string());
    let messages = messages(&batch, Key::None, usize::MAX).unwrap();
    let halves: Vec<_> = messages
        .into_iter()
        .flat_map(|message| message.halve())
        .collect();
    let names = halves.iter().map(|half| {
        let names = half.batch.iter().map(|span| span.name().to_owned());
        names.collect::<Vec<_>>().concat()
    });
    assert_eq!(names.collect::<Vec<_>>(), ["012", "34"]);
}
