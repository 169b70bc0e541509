//! Splitting and merging keep every span, and never panic.

#![no_main]

#[path = "../../crates/outspan-wire/tests/common/mod.rs"]
mod common;

use std::num::NonZeroUsize;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use outspan_wire::otlp::Part;
use outspan_wire::otlp::Split;
use outspan_wire::otlp::WireError;
use outspan_wire::otlp::concatenate;
use outspan_wire::otlp::join;
use outspan_wire::otlp::validate;

use common::flat;

fuzz_target!(|data: &[u8]| {
    let Some((&limit, data)) = data.split_first() else {
        return;
    };
    check(Bytes::copy_from_slice(data), limit);
    // The same bytes again, as decisions about a request, which gets deeper.
    check(Bytes::from(common::wire::request_from(data)), limit);
});

fn check(request: Bytes, limit: u8) {
    let spans_max = NonZeroUsize::MIN.saturating_add(usize::from(limit % 8));
    let bytes_max = usize::from(limit) * 4;
    let by_spans = collect(Split::by_spans(&request, spans_max));
    let by_bytes = collect(Split::by_bytes(&request, bytes_max));
    let by_trace = collect(Split::by_trace_id(&request));
    let joined = join(std::slice::from_ref(&request));
    if validate(&request).is_err() {
        return;
    }

    let expected = flat(&request);
    let by_spans = by_spans.expect("a valid request can be split");
    assert!(by_spans.iter().all(|part| part.spans <= spans_max.get()));
    let parts: Vec<_> = by_spans.into_iter().map(|part| part.bytes).collect();
    assert_eq!(flat(&concatenate(&parts)), expected);

    let by_bytes = by_bytes.expect("a valid request can be split");
    for part in &by_bytes {
        assert_eq!(part.oversized, part.bytes.len() > bytes_max);
        assert!(!part.oversized || part.spans == 1);
        let summary = validate(&part.bytes).expect("a part is a request");
        assert_eq!((summary.spans, summary.empty_envelopes), (part.spans, 0));
    }
    let spans: Vec<_> = by_bytes.iter().flat_map(|part| flat(&part.bytes)).collect();
    assert_eq!(spans, expected);

    let by_trace = by_trace.expect("a valid request can be split");
    let by_trace = by_trace.iter().flat_map(|part| flat(&part.bytes)).collect();
    let joined = joined.expect("a valid request can be joined");
    assert_eq!(joined.spans, expected.len());
    let expected = sorted(expected);
    assert_eq!(sorted(by_trace), expected);
    assert_eq!(sorted(flat(&joined.bytes)), expected);
}

fn collect(split: Result<Split<'_>, WireError>) -> Option<Vec<Part>> {
    split.map(Iterator::collect).ok()
}

fn sorted(mut spans: Vec<common::FlatSpan>) -> Vec<common::FlatSpan> {
    spans.sort();
    spans
}
