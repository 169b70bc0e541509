//! Splitting and merging keep every span, with its resource and scope.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use bytes::Bytes;
use outspan_wire::otlp::Part;
use outspan_wire::otlp::RequestView;
use outspan_wire::otlp::Split;
use outspan_wire::otlp::WireErrorKind;
use outspan_wire::otlp::concatenate;
use outspan_wire::otlp::join;
use outspan_wire::otlp::validate;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use crate::common;
use crate::common::FlatSpan;
use crate::common::flat;
use crate::common::nested;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn at_most(spans: usize) -> NonZeroUsize {
    NonZeroUsize::new(spans).expect("tests ask for one at least")
}

/// Any request that is well-formed: as `prost` writes it, or in an odd form.
fn well_formed() -> impl Strategy<Value = Bytes> {
    let odd = vec(any::<u8>(), 0..500).prop_filter_map("it has to be well-formed", |decisions| {
        let bytes = common::wire::request_from(&decisions);
        validate(&bytes).is_ok().then_some(bytes)
    });
    prop_oneof![
        common::requests().prop_map(|request| request.encode_to_vec()),
        common::valid_requests().prop_map(|request| request.encode_to_vec()),
        odd,
    ]
    .prop_map(Bytes::from)
}

/// Checks what every part has to be, and returns the spans of all in order.
fn check_parts(parts: &[Part]) -> Result<Vec<FlatSpan>, TestCaseError> {
    let mut spans = Vec::new();
    for part in parts {
        let summary =
            validate(&part.bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(summary.spans, part.spans);
        prop_assert!(part.spans > 0);
        prop_assert_eq!(summary.empty_envelopes, 0);
        spans.extend(flat(&part.bytes));
    }
    Ok(spans)
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn splitting_by_spans_keeps_them_in_order(request in well_formed(), spans_max in 1usize..6) {
        let parts: Vec<_> = Split::by_spans(&request, at_most(spans_max)).expect("well-formed").collect();
        prop_assert_eq!(check_parts(&parts)?, flat(&request));
        for (index, part) in parts.iter().enumerate() {
            prop_assert!(!part.oversized);
            if index + 1 < parts.len() {
                prop_assert_eq!(part.spans, spans_max);
            }
        }
    }

    #[test]
    fn splitting_by_bytes_keeps_them_in_order_and_the_limit(request in well_formed(), bytes_max in 0usize..3000) {
        let parts: Vec<_> = Split::by_bytes(&request, bytes_max).expect("well-formed").collect();
        prop_assert_eq!(check_parts(&parts)?, flat(&request));
        for part in &parts {
            prop_assert_eq!(part.oversized, part.bytes.len() > bytes_max);
            if part.oversized {
                prop_assert_eq!(part.spans, 1);
            }
        }
    }

    #[test]
    fn a_part_takes_as_many_spans_as_fit(request in common::valid_requests(), spans in 1usize..6) {
        let request = Bytes::from(request.encode_to_vec());
        let first = Split::by_spans(&request, at_most(spans)).expect("well-formed").next().expect("it has spans");
        let fits = Split::by_bytes(&request, first.bytes.len()).expect("well-formed").next().expect("it has spans");
        prop_assert_eq!(&fits, &first);
        let less = Split::by_bytes(&request, first.bytes.len() - 1).expect("well-formed").next().expect("it has spans");
        prop_assert!(less.spans < first.spans || less.oversized);
    }

    #[test]
    fn splitting_by_trace_keeps_a_trace_together(request in well_formed(), traces in 1u128..4) {
        let parts: Vec<_> = Split::by_trace_id(&request).expect("well-formed").collect();
        let mut spans = check_parts(&parts)?;
        let keys: HashSet<_> = parts.iter().map(|part| part.key).collect();
        prop_assert_eq!(keys.len(), parts.len());
        for part in &parts {
            for span in RequestView::new(&part.bytes).spans() {
                prop_assert_eq!(u128::from_be_bytes(span.trace_id()), part.key);
            }
        }
        let mut expected = flat(&request);
        spans.sort();
        expected.sort();
        prop_assert_eq!(spans, expected);

        let shard = |id| u128::from_be_bytes(id) % traces;
        let parts: Vec<_> = Split::by_key(&request, shard).expect("well-formed").collect();
        check_parts(&parts)?;
        prop_assert!(parts.len() as u128 <= traces);
        // Within a part the order of the request stays.
        for part in &parts {
            let of_this = |span: &outspan_wire::otlp::SpanView<'_>| shard(span.trace_id()) == part.key;
            let expected: Vec<_> = RequestView::new(&request).spans().filter(of_this).map(|span| span.bytes().to_vec()).collect();
            let spans: Vec<_> = RequestView::new(&part.bytes).spans().map(|span| span.bytes().to_vec()).collect();
            prop_assert_eq!(spans, expected);
        }
    }

    #[test]
    fn concatenated_parts_are_the_whole(request in well_formed(), spans_max in 1usize..4) {
        let parts = Split::by_spans(&request, at_most(spans_max)).expect("well-formed");
        let parts: Vec<_> = parts.map(|part| part.bytes).collect();
        prop_assert_eq!(flat(&concatenate(&parts)), flat(&request));
    }

    #[test]
    fn joining_keeps_the_spans_and_has_each_source_once(requests in vec(well_formed(), 0..4), spans_max in 1usize..4) {
        let mut parts = Vec::new();
        for request in &requests {
            parts.extend(Split::by_spans(request, at_most(spans_max)).expect("well-formed").map(|part| part.bytes));
        }
        let joined = join(&parts).expect("well-formed");
        let summary = validate(&joined.bytes).expect("well-formed");
        prop_assert_eq!(summary.spans, joined.spans);
        prop_assert_eq!(summary.empty_envelopes, 0);
        prop_assert_eq!(summary.parted_messages, 0);
        let mut spans = flat(&joined.bytes);
        let mut expected: Vec<_> = requests.iter().flat_map(|request| flat(request)).collect();
        spans.sort();
        expected.sort();
        prop_assert_eq!(spans, expected);
        // Joined again, nothing is left to join.
        let again = join(std::slice::from_ref(&joined.bytes)).expect("well-formed");
        prop_assert_eq!(again, joined);
    }
}

proptest! {
    #![proptest_config(config(4096))]

    #[test]
    fn nothing_panics_on_broken_requests(decisions in vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = common::wire::request_from(&decisions);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let request = Bytes::from(bytes);
        for split in [
            Split::by_spans(&request, at_most(1)),
            Split::by_bytes(&request, 20),
            Split::by_trace_id(&request),
        ] {
            if let Ok(split) = split {
                let spans: usize = split.map(|part| part.spans).sum();
                // No span is lost even where a span itself is broken.
                prop_assert_eq!(spans, RequestView::new(&request).spans().count());
            } else {
                prop_assert!(validate(&request).is_err());
            }
        }
        if join(std::slice::from_ref(&request)).is_err() {
            prop_assert!(validate(&request).is_err());
        }
    }
}

#[test]
fn a_request_that_fits_comes_back_without_a_copy() {
    let request = Bytes::from(nested(&[0x0a, 0x12, 0x12], b""));
    let part = Split::by_bytes(&request, request.len())
        .expect("well-formed")
        .next()
        .expect("one");
    assert_eq!(part.bytes.as_ptr(), request.as_ptr());
    assert_eq!(
        concatenate(std::slice::from_ref(&request)).as_ptr(),
        request.as_ptr()
    );
}

#[test]
fn a_request_without_spans_has_no_parts() {
    for request in [b"".as_slice(), b"\x0a\x00", b"\x0a\x02\x12\x00"] {
        let request = Bytes::copy_from_slice(request);
        assert_eq!(
            Split::by_spans(&request, at_most(1))
                .expect("well-formed")
                .count(),
            0
        );
        assert_eq!(
            Split::by_bytes(&request, 0).expect("well-formed").count(),
            0
        );
        assert_eq!(
            Split::by_trace_id(&request).expect("well-formed").count(),
            0
        );
        let joined = join(&[request.clone(), request]).expect("well-formed");
        assert_eq!((joined.spans, joined.bytes.len()), (0, 0));
    }
}

/// A request with unknown fields at every level and the schema URLs after the spans.
fn with_unknown_fields() -> Bytes {
    let scope_spans = [
        nested(&[0x0a, 0x0a], b"scope"),
        b"\x9a\x06\x02u1".to_vec(),
        nested(&[0x12, 0x2a], b"first"),
        nested(&[0x12, 0x2a], b"second"),
        nested(&[0x1a], b"scope-url"),
    ];
    let resource_spans = [
        nested(&[0x12], &scope_spans.concat()),
        b"\x98\x06\x07".to_vec(),
        nested(&[0x1a], b"old-url"),
        nested(&[0x0a, 0x0a, 0x0a], b"late"),
        nested(&[0x1a], b"resource-url"),
    ];
    let request = [
        nested(&[0x0a], &resource_spans.concat()),
        b"\xa5\x06wxyz".to_vec(),
    ];
    Bytes::from(request.concat())
}

#[test]
fn parts_keep_what_stands_beside_the_spans() {
    let request = with_unknown_fields();
    let parts: Vec<_> = Split::by_spans(&request, at_most(1))
        .expect("well-formed")
        .collect();
    assert_eq!(parts.len(), 2);
    for (part, name) in parts.iter().zip(["first", "second"]) {
        let span = RequestView::new(&part.bytes)
            .spans()
            .next()
            .expect("one span");
        assert_eq!(span.name(), name);
        assert_eq!(span.scope().name(), "scope");
        assert_eq!(span.scope_schema_url(), "scope-url");
        assert_eq!(span.resource_schema_url(), "resource-url");
        assert_eq!(
            span.resource()
                .attributes()
                .iter()
                .next()
                .expect("one")
                .key(),
            "late"
        );
        let contains = |needle: &[u8]| {
            part.bytes
                .windows(needle.len())
                .any(|window| window == needle)
        };
        assert!(contains(b"\x9a\x06\x02u1"));
        assert!(contains(b"\x98\x06\x07"));
        assert!(!contains(b"old-url"));
        // What stands at the top goes with one part, so that together they have it once.
        assert_eq!(contains(b"\xa5\x06wxyz"), name == "first");
    }
    let joined = join(&[parts[1].bytes.clone(), parts[0].bytes.clone()]).expect("well-formed");
    assert_eq!(joined.spans, 2);
    let summary = validate(&joined.bytes).expect("well-formed");
    assert_eq!((summary.resource_spans, summary.scope_spans), (1, 1));
    assert!(joined.bytes.ends_with(b"\xa5\x06wxyz"));
}

#[test]
fn an_order_of_fields_makes_no_difference_when_joining() {
    let span = nested(&[0x12, 0x12, 0x2a], b"x");
    let url = nested(&[0x1a], b"url");
    let resource = nested(&[0x0a, 0x0a, 0x0a], b"key");
    let one = Bytes::from(nested(
        &[0x0a],
        &[resource.clone(), span.clone(), url.clone()].concat(),
    ));
    let other = Bytes::from(nested(&[0x0a], &[url, span, resource].concat()));
    let joined = join(&[one, other]).expect("well-formed");
    let summary = validate(&joined.bytes).expect("well-formed");
    assert_eq!(
        (summary.resource_spans, summary.scope_spans, summary.spans),
        (1, 1, 2)
    );
}

#[test]
fn broken_envelopes_are_told_not_cut() {
    let request = Bytes::from_static(&[0x0a, 0x04, 0x12, 0x02, 0x12, 0x00, 0x0a, 0x03, 0x12, 0x00]);
    let error = Split::by_spans(&request, at_most(1)).expect_err("the second envelope is cut");
    assert_eq!(error.kind(), WireErrorKind::Truncated);
    assert_eq!(error.path(), "resource_spans[1]");
    assert_eq!(join(&[request]).expect_err("the same").offset(), 7);
}
