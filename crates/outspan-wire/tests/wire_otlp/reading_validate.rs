//! The validator agrees with `prost` on what a request is, in both directions, and says where it is broken.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use outspan_wire::otlp::InvalidSpanReason;
use outspan_wire::otlp::RequestView;
use outspan_wire::otlp::Summary;
use outspan_wire::otlp::WireErrorKind;
use outspan_wire::otlp::validate;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::Config;
use proptest::test_runner::TestRunner;
use prost::Message;

use crate::common;
use crate::common::nested;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Holds the validator against `prost`, and what it counts against what `prost` decoded.
fn agree(bytes: &[u8]) -> Result<bool, TestCaseError> {
    let decoded = ExportTraceServiceRequest::decode(bytes);
    match (validate(bytes), decoded) {
        (Ok(summary), Ok(request)) => {
            check_summary(&summary, &request, bytes)?;
            Ok(true)
        }
        (Err(error), Err(_)) => {
            prop_assert!(error.offset() <= bytes.len());
            prop_assert!(!error.to_string().is_empty());
            Ok(false)
        }
        (Ok(_), Err(error)) => {
            let message = format!("we accept what prost refuses: {error}\n{bytes:02x?}");
            Err(TestCaseError::fail(message))
        }
        (Err(error), Ok(_)) => {
            let message = format!("we refuse what prost accepts: {error}\n{bytes:02x?}");
            Err(TestCaseError::fail(message))
        }
    }
}

fn check_summary(
    summary: &Summary,
    request: &ExportTraceServiceRequest,
    bytes: &[u8],
) -> Result<(), TestCaseError> {
    let mut spans = 0;
    let mut scopes = 0;
    let mut empty = 0;
    let mut invalid = Vec::new();
    for resource_spans in &request.resource_spans {
        scopes += resource_spans.scope_spans.len();
        let before = spans;
        for scope_spans in &resource_spans.scope_spans {
            empty += usize::from(scope_spans.spans.is_empty());
            for span in &scope_spans.spans {
                let bad =
                    |id: &[u8], length| id.len() != length || id.iter().all(|&byte| byte == 0);
                let wrong = |id: &[u8], length| !id.is_empty() && id.len() != length;
                let links = span.links.iter();
                if bad(&span.trace_id, 16)
                    || bad(&span.span_id, 8)
                    || wrong(&span.parent_span_id, 8)
                    || { links }.any(|link| wrong(&link.trace_id, 16) || wrong(&link.span_id, 8))
                {
                    invalid.push(spans);
                }
                spans += 1;
            }
        }
        empty += usize::from(spans == before);
    }
    prop_assert_eq!(summary.spans, spans);
    prop_assert_eq!(summary.resource_spans, request.resource_spans.len());
    prop_assert_eq!(summary.scope_spans, scopes);
    prop_assert_eq!(summary.empty_envelopes, empty);
    prop_assert_eq!(summary.invalid_spans, invalid.len());
    prop_assert_eq!(
        summary.first_invalid.map(|first| first.index),
        invalid.first().copied()
    );
    for (index, span) in RequestView::new(bytes).spans().enumerate() {
        let reason = InvalidSpanReason::of(&span);
        prop_assert_eq!(reason.is_some(), invalid.contains(&index));
        if let Some(first) = summary.first_invalid.filter(|first| first.index == index) {
            prop_assert_eq!(reason, Some(first.reason));
            prop_assert!(bytes[first.offset..].starts_with(span.bytes()));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn accepts_arbitrary_requests(request in common::requests()) {
        prop_assert!(agree(&request.encode_to_vec())?);
    }

    #[test]
    fn agrees_with_prost_on_mutated_requests(
        request in common::requests(),
        mutations in vec((0u8..7, any::<Index>(), any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = request.encode_to_vec();
        for (kind, from, to, byte) in mutations {
            mutate(&mut bytes, kind, from, to, byte);
            agree(&bytes)?;
        }
    }
}

/// Damages bytes in one of the ways that networks, disks and other programs do.
fn mutate(bytes: &mut Vec<u8>, kind: u8, from: Index, to: Index, byte: u8) {
    if bytes.is_empty() {
        bytes.push(byte);
        return;
    }
    let from = from.index(bytes.len());
    let to = to.index(bytes.len());
    let (first, last) = (from.min(to), from.max(to));
    match kind {
        0 => bytes[from] ^= 1 << (byte % 8),
        1 => bytes.truncate(from),
        2 => bytes.insert(from, byte),
        3 => drop(bytes.remove(from)),
        4 => bytes[from] = byte,
        5 => {
            let part = bytes[first..last].to_vec();
            bytes.extend(part);
        }
        _ => drop(bytes.drain(first..last.min(first + 20))),
    }
}

proptest! {
    #![proptest_config(config(20_000))]

    #[test]
    fn agrees_with_prost_on_arbitrary_bytes(bytes in vec(any::<u8>(), 0..60)) {
        agree(&bytes)?;
    }

    #[test]
    fn agrees_with_prost_on_odd_forms(decisions in vec(any::<u8>(), 0..300)) {
        agree(&common::wire::request_from(&decisions))?;
    }

    #[test]
    fn agrees_with_prost_on_odd_forms_with_one_byte_changed(
        decisions in vec(any::<u8>(), 0..300),
        at in any::<Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = common::wire::request_from(&decisions);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        agree(&bytes)?;
    }

    #[test]
    fn agrees_with_prost_on_any_cut(decisions in vec(any::<u8>(), 0..300), at in any::<Index>()) {
        let bytes = common::wire::request_from(&decisions);
        let end = at.index(bytes.len() + 1);
        agree(&bytes[..end])?;
    }
}

/// The other tests prove little if nearly all their inputs are refused, or nearly none.
#[test]
fn odd_forms_are_both_accepted_and_refused() {
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(2_000)
    });
    let accepted = std::cell::Cell::new(0);
    let with_spans = std::cell::Cell::new(0);
    let result = runner.run(&vec(any::<u8>(), 100..300), |decisions| {
        let bytes = common::wire::request_from(&decisions);
        if let Ok(summary) = validate(&bytes) {
            accepted.set(accepted.get() + 1);
            with_spans.set(with_spans.get() + usize::from(summary.spans > 0));
        }
        Ok(())
    });
    result.expect("it only counts");
    assert!((500..1_900).contains(&accepted.get()), "{}", accepted.get());
    assert!(with_spans.get() > 300, "{}", with_spans.get());
}

fn agrees(bytes: &[u8]) -> bool {
    agree(bytes).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn nesting_is_bounded_at_one_hundred_messages() {
    // Request, resource_spans 1, scope_spans 2, span 3, attribute 4, value 5; each list adds two.
    let deep = |messages: usize, inner: &[u8]| {
        let mut keys = vec![0x0a, 0x12, 0x12, 0x4a, 0x12];
        keys.truncate(messages);
        while keys.len() < messages {
            keys.push(if keys.len() % 2 == 1 { 0x2a } else { 0x0a });
        }
        nested(&keys, inner)
    };
    for messages in 0..=100 {
        assert!(agrees(&deep(messages, b"")), "{messages}");
    }
    for messages in [101, 102, 150, 1_000] {
        assert!(!agrees(&deep(messages, b"")), "{messages}");
        let error = validate(&deep(messages, b"")).expect_err("too deep");
        assert_eq!(error.kind(), WireErrorKind::Nesting);
    }
    // At depth 99 there is an AnyValue: a known number and an unknown field pass; at depth 100, an ArrayValue, unknown ones do not.
    assert!(agrees(&deep(99, &[0x18, 1])));
    assert!(agrees(&deep(99, &[0x98, 0x06, 1])));
    assert!(!agrees(&deep(100, &[0x98, 0x06, 1])));
    // A group counts as one level, what is in it as one more.
    assert!(agrees(&deep(99, &[0xa3, 0x06, 0xa4, 0x06])));
    assert!(!agrees(&deep(99, &[0xa3, 0x06, 0x98, 0x06, 1, 0xa4, 0x06])));
}

#[test]
fn integers_may_be_long_but_not_too_long() {
    let kind = |bytes: &[u8]| nested(&[0x0a, 0x12, 0x12], &[&[0x30], bytes].concat());
    assert!(agrees(&kind(&[0x80, 0x80, 0x00])));
    assert!(agrees(&kind(&[
        0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01
    ])));
    assert!(!agrees(&kind(&[
        0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02
    ])));
    assert!(!agrees(&kind(&[0xff; 11])));
    assert!(!agrees(&kind(&[0x80])));
    // The key itself, in two bytes instead of one, and with bits above 32.
    assert!(agrees(&[0x8a, 0x00, 0x00]));
    assert!(!agrees(&[0x8a, 0x80, 0x80, 0x80, 0x10, 0x00]));
}

#[test]
fn lengths_may_not_reach_beyond_their_message() {
    assert!(!agrees(&[0x0a, 0x01]));
    assert!(!agrees(&[
        0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01
    ]));
    // The inner length fits the request but not the message around it.
    assert!(!agrees(&[0x0a, 0x02, 0x12, 0x02, 0x12, 0x00]));
    assert!(agrees(&[0x0a, 0x04, 0x12, 0x02, 0x12, 0x00]));
    // A fixed-width value that leans over its end.
    assert!(!agrees(&nested(
        &[0x0a, 0x12, 0x12],
        &[0x39, 1, 2, 3, 4, 5, 6, 7]
    )));
}

#[test]
fn known_fields_keep_their_wire_type() {
    for key in 0x08..0x88u8 {
        let mut field = vec![key & 0x7f];
        field.extend([0; 9]);
        agrees(&nested(&[0x0a, 0x12, 0x12], &field));
    }
    // Packed lists: no field of the schema is one.
    assert!(!agrees(&nested(&[0x0a, 0x12, 0x12], &[0x32, 0x01, 0x01])));
    assert!(!agrees(&nested(
        &[0x0a, 0x12, 0x12],
        &[0x3a, 0x08, 0, 0, 0, 0, 0, 0, 0, 0]
    )));
    // A group under a known number.
    assert!(!agrees(&[0x0b, 0x0c]));
}

#[test]
fn text_must_be_utf_8_even_if_overwritten() {
    assert!(!agrees(&nested(
        &[0x0a, 0x12, 0x12],
        b"\x2a\x01\xff\x2a\x01a"
    )));
    assert!(agrees(&nested(&[0x0a, 0x12, 0x12], b"\x9a\x06\x01\xff")));
    assert!(!agrees(&nested(
        &[0x0a, 0x12, 0x12],
        b"\x2a\x03\xed\xa0\x80"
    )));
    assert!(!agrees(&nested(&[0x0a, 0x0a, 0x1a], b"\x1a\x01\xff")));
}

#[test]
fn zero_length_everything_is_fine() {
    assert!(agrees(b""));
    for number in 1..=3u8 {
        assert!(agrees(&[0x0a, 0x02, number << 3 | 2, 0x00]));
    }
    for number in [1, 2, 3, 4, 5, 9, 11, 13, 15u8] {
        assert!(agrees(&nested(
            &[0x0a, 0x12, 0x12],
            &[number << 3 | 2, 0x00]
        )));
    }
}

#[test]
fn a_repeated_trace_id_counts_as_the_last_one() {
    let span = |first: &[u8], last: &[u8]| {
        let mut span = nested(&[0x0a], first);
        span.extend(nested(&[0x0a], last));
        span.extend(nested(&[0x12], &[7; 8]));
        validate(&nested(&[0x0a, 0x12, 0x12], &span)).expect("it is well-formed")
    };
    assert_eq!(span(&[0; 16], &[1; 16]).invalid_spans, 0);
    assert_eq!(span(&[1; 16], &[0; 16]).invalid_spans, 1);
    assert_eq!(span(&[1; 16], b"").invalid_spans, 1);
}

#[test]
fn every_reason_is_found_and_told_with_its_place() {
    use InvalidSpanReason::*;
    let good = [nested(&[0x0a], &[1; 16]), nested(&[0x12], &[2; 8])].concat();
    let cases: [(&[u8], Vec<u8>, _); 11] = [
        (b"", Vec::new(), None),
        (b"\x0a", vec![1; 15], Some(TraceIdLength)),
        (b"\x0a", Vec::new(), Some(TraceIdLength)),
        (b"\x0a", vec![0; 16], Some(TraceIdZero)),
        (b"\x12", vec![1; 9], Some(SpanIdLength)),
        (b"\x12", vec![0; 8], Some(SpanIdZero)),
        (b"\x22", vec![1; 16], Some(ParentSpanIdLength)),
        (b"\x22", vec![0; 8], None),
        (b"\x6a\x0a", vec![1; 17], Some(LinkTraceIdLength)),
        (b"\x6a\x12", vec![0; 7], Some(LinkSpanIdLength)),
        (b"\x6a\x0a", vec![0; 16], None),
    ];
    for (keys, value, expected) in cases {
        let extra = if keys.is_empty() {
            Vec::new()
        } else {
            nested(keys, &value)
        };
        let bad = [good.clone(), extra].concat();
        let spans = [nested(&[0x12], &good), nested(&[0x12], &bad)].concat();
        let bytes = nested(&[0x0a, 0x12], &spans);
        let summary = validate(&bytes).expect("it is well-formed");
        assert_eq!(summary.spans, 2);
        assert_eq!(summary.first_invalid.map(|first| first.reason), expected);
        if let Some(first) = summary.first_invalid {
            assert_eq!(first.index, 1);
            assert!(bytes[first.offset..].starts_with(&bad));
            assert!(first.to_string().starts_with("span 1 at byte "), "{first}");
        }
    }
}

#[test]
fn parts_and_empty_envelopes_are_counted() {
    let span = nested(
        &[0x12],
        &[nested(&[0x0a], &[1; 16]), nested(&[0x12], &[2; 8])].concat(),
    );
    let clean = validate(&nested(&[0x0a, 0x12], &span)).expect("it is well-formed");
    assert!(clean.is_clean());
    let parted = [b"\x0a\x00".as_slice(), &span, b"\x0a\x00"].concat();
    let parted = validate(&nested(&[0x0a, 0x12], &parted)).expect("it is well-formed");
    assert_eq!((parted.parted_messages, parted.empty_envelopes), (1, 0));
    let empty =
        validate(&[0x0a, 0x04, 0x12, 0x00, 0x12, 0x00, 0x0a, 0x00]).expect("it is well-formed");
    assert_eq!(
        (
            empty.empty_envelopes,
            empty.resource_spans,
            empty.scope_spans
        ),
        (4, 2, 2)
    );
}

#[test]
fn errors_name_the_field_the_path_and_the_byte() {
    let request =
        ExportTraceServiceRequest::decode(example().as_slice()).expect("it is an example");
    let bytes = request.encode_to_vec();
    let place = |needle: &[u8]| {
        let at = bytes
            .windows(needle.len())
            .rposition(|window| window == needle);
        at.expect("the text is there")
    };
    let broken = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        validate(&bytes).expect_err("it is broken")
    };

    let error = broken(place(b"second") + 3, 0xff);
    assert_eq!(error.kind(), WireErrorKind::Utf8);
    assert_eq!(error.offset(), place(b"second") + 3);
    assert_eq!(error.field(), "Span.name");
    assert_eq!(
        error.path(),
        "resource_spans[0].scope_spans[0].spans[1].name"
    );
    assert_eq!(
        error.to_string(),
        format!("invalid UTF-8 in Span.name at byte {}", error.offset())
    );

    let error = broken(place(b"inner"), 0xff);
    assert_eq!(
        error.path(),
        "resource_spans[0].scope_spans[0].spans[1].events[1].attributes[1].value.array_value.values[1].kvlist_value.values[0].key"
    );
    assert_eq!(error.field(), "KeyValue.key");

    // The length before the name, longer than the span.
    let error = broken(place(b"second") - 1, 0x7f);
    assert_eq!(error.kind(), WireErrorKind::Truncated);
    assert_eq!(
        error.path(),
        "resource_spans[0].scope_spans[0].spans[1].name"
    );
    assert_eq!(error.offset(), place(b"second") - 1);

    // The name's key made a number's.
    let error = broken(place(b"second") - 2, 0x28);
    assert_eq!(error.kind(), WireErrorKind::WireType);
    assert_eq!(error.field(), "Span.name");
}

#[test]
fn a_request_that_ends_early_is_broken_at_its_end() {
    let bytes = nested(&[0x0a, 0x12, 0x12], &[0x39]);
    let error = validate(&bytes).expect_err("the time is missing");
    assert_eq!(
        error.path(),
        "resource_spans[0].scope_spans[0].spans[0].start_time_unix_nano"
    );
    assert_eq!(error.offset(), bytes.len() - 1);
}

/// Two spans; the second has two events, the last with a nested value.
fn example() -> Vec<u8> {
    use opentelemetry_proto::tonic::common::v1::*;
    use opentelemetry_proto::tonic::trace::v1::*;
    let entry = |key: &str, value: Option<any_value::Value>| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value }),
        key_strindex: 0,
    };
    let map = any_value::Value::KvlistValue(KeyValueList {
        values: vec![entry("inner", None)],
    });
    let array = any_value::Value::ArrayValue(ArrayValue {
        values: vec![AnyValue { value: None }, AnyValue { value: Some(map) }],
    });
    let event = span::Event {
        attributes: vec![entry("a", None), entry("b", Some(array))],
        ..span::Event::default()
    };
    let first = Span {
        name: "first".to_owned(),
        ..Span::default()
    };
    let second = Span {
        name: "second".to_owned(),
        events: vec![span::Event::default(), event],
        ..Span::default()
    };
    let scope_spans = ScopeSpans {
        spans: vec![first, second],
        ..ScopeSpans::default()
    };
    let resource_spans = ResourceSpans {
        scope_spans: vec![scope_spans],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![resource_spans],
    }
    .encode_to_vec()
}
