//! Requests that become much larger in another format take no more memory than the format's limit allows.

use bytes::Bytes;
use outspan_wire::PieceContent;
use outspan_wire::jaeger;
use outspan_wire::otlp::InvalidSpanReason;
use outspan_wire::otlp::MAX_ELEMENTS;
use outspan_wire::otlp::WireErrorKind;
use outspan_wire::otlp::admit;
use outspan_wire::otlp::validate;
use outspan_wire::otlp::write_json;
use outspan_wire::otlp::write_json_within;
use outspan_wire::zipkin;

/// What a message may have.
const LIMIT: usize = 256 << 10;

/// What a writer may hold: the message at hand, the next one and the one before, and about 300 bytes for an element.
const MEMORY: u64 = 4 * LIMIT as u64 + 300 * MAX_ELEMENTS as u64;

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

fn attribute(key: &[u8], any_value: &[u8]) -> Vec<u8> {
    [field(1, key), field(2, any_value)].concat()
}

fn text(content: &[u8]) -> Vec<u8> {
    field(1, content)
}

/// A span with ids, a name, and more fields.
fn span(more: &[u8]) -> Vec<u8> {
    [
        field(1, &[1; 16]),
        field(2, &[2; 8]),
        field(5, b"hostile"),
        more.to_vec(),
    ]
    .concat()
}

fn request(resource: &[u8], scope: &[u8], spans: &[Vec<u8>]) -> Bytes {
    let mut scope_spans = field(1, scope);
    for span in spans {
        scope_spans.extend(field(2, span));
    }
    let resource_spans = [field(1, resource), field(2, &scope_spans)].concat();
    field(1, &resource_spans).into()
}

/// Requests of a few megabytes of which each span, or everything that surrounds it, becomes too large.
fn hostile() -> Vec<(&'static str, Bytes)> {
    let controls = vec![1; 2 << 20];
    let empties = |tag: u8, count: usize| [tag, 0].repeat(count);
    let array = |items: Vec<u8>| attribute(b"list", &field(5, &items));
    let map = |items: Vec<u8>| attribute(b"map", &field(6, &items));
    let one = |more: Vec<u8>| request(&[], &[], &[span(&more)]);
    let many = |resource: &[u8], scope: &[u8]| request(resource, scope, &vec![span(&[]); 40]);
    let controls_attribute = attribute(b"key", &text(&controls));
    let bytes_attribute = attribute(b"key", &field(7, &controls));
    let long_key = attribute(&controls, &text(b"value"));
    let event = |content: &[u8]| field(11, content);
    let link = |content: &[u8]| field(13, content);
    vec![
        ("a value of controls", one(field(9, &controls_attribute))),
        ("a key of controls", one(field(9, &long_key))),
        ("a name of controls", one(field(5, &controls))),
        ("a trace state of controls", one(field(3, &controls))),
        (
            "a status of controls",
            one(field(15, &[field(2, &controls), vec![0x18, 2]].concat())),
        ),
        ("bytes", one(field(9, &bytes_attribute))),
        ("empty attributes", one(empties(0x4A, MAX_ELEMENTS))),
        ("empty events", one(empties(0x5A, MAX_ELEMENTS))),
        ("empty links", one(empties(0x6A, MAX_ELEMENTS))),
        (
            "an array of empties",
            one(field(9, &array(empties(0x0A, 1 << 20)))),
        ),
        (
            "an array of arrays",
            one(field(9, &array([0x0A, 2, 0x2A, 0].repeat(1 << 19)))),
        ),
        (
            "a map of empties",
            one(field(9, &map(empties(0x0A, 1 << 20)))),
        ),
        ("an event of controls", one(event(&field(2, &controls)))),
        (
            "an event's value",
            one(event(&field(3, &controls_attribute))),
        ),
        ("an event's key", one(event(&field(3, &long_key)))),
        ("a link of controls", one(link(&field(3, &controls)))),
        ("a link's value", one(link(&field(4, &controls_attribute)))),
        (
            "a resource of controls",
            many(&field(1, &controls_attribute), &[]),
        ),
        ("a resource's key", many(&field(1, &long_key), &[])),
        (
            "a resource of empties",
            many(&empties(0x0A, MAX_ELEMENTS), &[]),
        ),
        ("entity references", many(&empties(0x1A, MAX_ELEMENTS), &[])),
        (
            "a service of controls",
            many(
                &field(1, &attribute(b"service.name", &text(&controls))),
                &[],
            ),
        ),
        (
            "a scope of controls",
            many(&[], &field(3, &controls_attribute)),
        ),
        ("a scope's key", many(&[], &field(3, &long_key))),
        ("a scope's name", many(&[], &field(1, &controls))),
        (
            "a large resource",
            many(
                &field(1, &attribute(b"key", &text(&[b'x'; 200 << 10]))),
                &[],
            ),
        ),
    ]
}

fn peak(work: impl FnOnce()) -> u64 {
    allocation_counter::measure(work).bytes_max
}

#[test]
fn json_stops_at_its_limit() {
    for (name, request) in hostile() {
        let held = peak(|| {
            let text = write_json_within(&request, LIMIT);
            assert!(text.is_none_or(|text| text.len() <= LIMIT), "{name}");
        });
        // Where the text grows, there are two of it for a moment.
        assert!(held <= 2 * LIMIT as u64, "{name}: {held}");
    }
}

#[test]
fn json_within_its_limit_is_the_same_text() {
    let request = request(
        &[],
        &[],
        &[span(&field(9, &attribute(b"key", &text(b"value"))))],
    );
    let mut whole = Vec::new();
    write_json(&request, &mut whole);
    for limit in 0..whole.len() {
        assert_eq!(write_json_within(&request, limit), None, "{limit}");
    }
    let within = write_json_within(&request, whole.len());
    assert_eq!(within.as_deref(), Some(&whole[..]));
}

/// Counts the spans in messages and the others.
#[derive(Default, Debug, PartialEq)]
struct Seen {
    written: usize,
    too_large: usize,
}

impl Seen {
    fn add(&mut self, piece: outspan_wire::Piece) {
        assert_eq!(piece.spans.start, self.written + self.too_large);
        match piece.content {
            PieceContent::Bytes(message) => {
                assert!(message.len() <= LIMIT);
                self.written += piece.spans.len();
            }
            PieceContent::TooLarge { bytes } => {
                assert!(bytes > LIMIT);
                assert_eq!(piece.spans.len(), 1);
                self.too_large += 1;
            }
            _ => panic!("an unknown piece"),
        }
    }
}

#[test]
fn zipkin_stops_at_its_limit() {
    for (name, request) in hostile() {
        let spans = validate(&request).unwrap().spans;
        for format in [zipkin::Format::Json, zipkin::Format::Protobuf] {
            for dialect in [zipkin::Dialect::Specification, zipkin::Dialect::Collector] {
                let options = zipkin::WriteOptions::default()
                    .format(format)
                    .dialect(dialect)
                    .bytes_max(LIMIT);
                let mut seen = Seen::default();
                let held = peak(|| {
                    let mut writer = zipkin::Writer::new(options);
                    for piece in writer.pieces(&request) {
                        seen.add(piece.unwrap());
                    }
                });
                assert_eq!(seen.written + seen.too_large, spans, "{name}");
                assert!(held <= MEMORY, "{name}, {format:?}, {dialect:?}: {held}");
            }
        }
    }
}

#[test]
fn jaeger_stops_at_its_limit() {
    for (name, request) in hostile() {
        let spans = validate(&request).unwrap().spans;
        for protocol in [jaeger::Protocol::Binary, jaeger::Protocol::Compact] {
            for dialect in [jaeger::Dialect::OpenTelemetry, jaeger::Dialect::Collector] {
                let options = jaeger::WriteOptions::default()
                    .protocol(protocol)
                    .dialect(dialect)
                    .bytes_max(LIMIT);
                let mut seen = Seen::default();
                let held = peak(|| {
                    let mut writer = jaeger::Writer::new(options);
                    for piece in writer.pieces(&request) {
                        seen.add(piece.unwrap());
                    }
                });
                assert_eq!(seen.written + seen.too_large, spans, "{name}");
                assert!(held <= MEMORY, "{name}, {protocol:?}, {dialect:?}: {held}");
            }
        }
    }
}

#[test]
fn neighbours_of_a_span_that_is_too_large_are_written() {
    let large = span(&field(9, &attribute(b"key", &text(&[1; 100 << 10]))));
    let small = span(&field(9, &attribute(b"key", &text(b"value"))));
    let spans = [
        large.clone(),
        small.clone(),
        large.clone(),
        large,
        small.clone(),
        small,
    ];
    let request = request(
        &field(1, &attribute(b"service.name", &text(b"shop"))),
        &[],
        &spans,
    );
    let expected = Seen {
        written: 3,
        too_large: 3,
    };
    for format in [zipkin::Format::Json, zipkin::Format::Protobuf] {
        let limit = match format {
            zipkin::Format::Json => LIMIT,
            _ => 64 << 10,
        };
        let mut writer = zipkin::Writer::new(
            zipkin::WriteOptions::default()
                .format(format)
                .bytes_max(limit),
        );
        let mut written = 0;
        for piece in writer.pieces(&request) {
            if let PieceContent::Bytes(message) = piece.unwrap().content {
                let read = match format {
                    zipkin::Format::Json => {
                        zipkin::read_json(&message, &zipkin::ReadLimits::default())
                    }
                    _ => zipkin::read_protobuf(&message, &zipkin::ReadLimits::default()),
                };
                written += read.unwrap().spans;
            }
        }
        assert_eq!(written, expected.written);
    }
    for protocol in [jaeger::Protocol::Binary, jaeger::Protocol::Compact] {
        let options = jaeger::WriteOptions::default()
            .protocol(protocol)
            .bytes_max(64 << 10);
        let mut writer = jaeger::Writer::new(options);
        let mut written = 0;
        for piece in writer.pieces(&request) {
            if let PieceContent::Bytes(message) = piece.unwrap().content {
                let read = jaeger::read_batch(&message, protocol, &jaeger::ReadLimits::default());
                written += read.unwrap().spans;
            }
        }
        assert_eq!(written, expected.written);
    }
}

#[test]
fn pieces_can_begin_at_any_span() {
    let spans: Vec<_> = (0..20)
        .map(|number| {
            span(&field(
                9,
                &attribute(b"key", &text(&vec![b'x'; number * 10])),
            ))
        })
        .collect();
    let request = request(&[], &field(1, b"scope"), &spans);
    let whole: Vec<_> = zipkin::Writer::new(zipkin::WriteOptions::default().bytes_max(1000))
        .pieces(&request)
        .map(Result::unwrap)
        .collect();
    let mut writer = zipkin::Writer::new(zipkin::WriteOptions::default().bytes_max(1000));
    for piece in &whole {
        let first = piece.spans.start;
        let again = writer.pieces_from(&request, first).next().unwrap().unwrap();
        assert_eq!(&again, piece);
    }
    assert!(writer.pieces_from(&request, 20).next().is_none());

    let options = jaeger::WriteOptions::default().bytes_max(1000);
    let whole: Vec<_> = jaeger::Writer::new(options.clone())
        .pieces(&request)
        .map(Result::unwrap)
        .collect();
    let mut writer = jaeger::Writer::new(options);
    for piece in &whole {
        let first = piece.spans.start;
        let again = writer.pieces_from(&request, first).next().unwrap().unwrap();
        assert_eq!(&again, piece);
    }
    assert!(writer.pieces_from(&request, 20).next().is_none());
}

/// A span with so many elements, counted in each of the ways in which they can stand in it.
fn spans_with_elements(count: usize) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("attributes", [0x4A, 0].repeat(count)),
        ("events", [0x5A, 0].repeat(count)),
        ("links", [0x6A, 0].repeat(count)),
        (
            "an event's attributes",
            field(11, &[0x1A, 0].repeat(count - 1)),
        ),
        (
            "a link's attributes",
            field(13, &[0x22, 0].repeat(count - 1)),
        ),
        (
            "all of them",
            [
                [0x4A, 0].repeat(count - 10),
                [0x5A, 0].repeat(5),
                [0x6A, 0].repeat(5),
            ]
            .concat(),
        ),
    ]
}

#[test]
fn spans_at_the_bound_of_elements_are_valid() {
    for (name, more) in spans_with_elements(MAX_ELEMENTS) {
        let request = request(&[], &[], &[span(&more), span(&[])]);
        let admitted = admit(request.clone()).unwrap();
        assert_eq!(admitted.bytes, request, "{name}");
        assert_eq!((admitted.spans, admitted.refused_spans), (2, 0), "{name}");
    }
}

#[test]
fn spans_over_the_bound_of_elements_are_rejected_alone() {
    for (name, more) in spans_with_elements(MAX_ELEMENTS + 1) {
        let request = request(&[], &[], &[span(&[]), span(&more), span(&[])]);
        let admitted = admit(request).unwrap();
        assert_eq!((admitted.spans, admitted.refused_spans), (2, 1), "{name}");
        let first = admitted.first_refused.unwrap();
        assert_eq!(first.reason, InvalidSpanReason::TooManyElements, "{name}");
        assert_eq!(first.index, 1);
        let words = first.to_string();
        assert!(
            words.contains("more than 32768 attributes, events and links"),
            "{words}"
        );
    }
}

#[test]
fn values_of_attributes_are_no_elements() {
    let list = attribute(b"list", &field(5, &[0x0A, 0].repeat(MAX_ELEMENTS + 1)));
    let request = request(&[], &[], &[span(&field(9, &list))]);
    assert_eq!(admit(request).unwrap().spans, 1);
}

#[test]
fn a_resource_or_scope_over_the_bound_fails_the_request() {
    let good = |tag: u8| [tag, 0].repeat(MAX_ELEMENTS);
    let bad = |tag: u8| [tag, 0].repeat(MAX_ELEMENTS + 1);
    assert!(validate(&request(&good(0x0A), &good(0x1A), &[span(&[])])).is_ok());
    for (request, place) in [
        (
            request(&bad(0x0A), &[], &[span(&[])]),
            "Resource.attributes",
        ),
        (
            request(&bad(0x1A), &[], &[span(&[])]),
            "Resource.entity_refs",
        ),
        (
            request(&[], &bad(0x1A), &[span(&[])]),
            "InstrumentationScope.attributes",
        ),
    ] {
        let error = validate(&request).unwrap_err();
        assert_eq!(error.kind(), WireErrorKind::Limit);
        let words = error.to_string();
        assert!(words.contains("more than 32768 of them"), "{words}");
        assert!(words.contains(place), "{words}");
    }
    // Both parts together are one resource.
    let half = [0x0A, 0].repeat(MAX_ELEMENTS / 2 + 1);
    let scope_spans = field(2, &field(2, &span(&[])));
    let parted = field(1, &[field(1, &half), field(1, &half), scope_spans].concat());
    assert_eq!(validate(&parted).unwrap_err().kind(), WireErrorKind::Limit);
}
