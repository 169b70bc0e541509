//! Rewriting changes what it is told to, and nothing else.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use outspan_wire::otlp::AttributeOwner;
use outspan_wire::otlp::AttributeSlot;
use outspan_wire::otlp::AttributeView;
use outspan_wire::otlp::Decision;
use outspan_wire::otlp::EventView;
use outspan_wire::otlp::InvalidSpanReason;
use outspan_wire::otlp::LinkView;
use outspan_wire::otlp::NewAttributes;
use outspan_wire::otlp::RequestView;
use outspan_wire::otlp::ResourceSpansView;
use outspan_wire::otlp::Rewrite;
use outspan_wire::otlp::Rewritten;
use outspan_wire::otlp::ScopeSpansView;
use outspan_wire::otlp::Settled;
use outspan_wire::otlp::SpanEdit;
use outspan_wire::otlp::SpanView;
use outspan_wire::otlp::admit;
use outspan_wire::otlp::remove_invalid_spans;
use outspan_wire::otlp::retain_spans;
use outspan_wire::otlp::rewrite;
use outspan_wire::otlp::validate;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use crate::common;
use crate::common::flat;
use crate::common::nested;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn odd_but_well_formed() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..500).prop_filter_map("it has to be well-formed", |decisions| {
        let bytes = common::wire::request_from(&decisions);
        validate(&bytes).is_ok().then(|| Bytes::from(bytes))
    })
}

/// Decides by lengths of names and keys, so that a model can do the same to decoded messages.
struct ByLength;

impl Rewrite for ByLength {
    fn resource(&mut self, resource: ResourceSpansView<'_>) -> Decision {
        decide(resource.schema_url().len() + 1)
    }

    fn scope(&mut self, scope: ScopeSpansView<'_>) -> Decision {
        decide(scope.schema_url().len() + 2)
    }

    fn span(&mut self, span: &SpanView<'_>, edit: &mut SpanEdit) -> Decision {
        let length = span.name().len();
        if length % 2 == 1 {
            edit.name("a new name");
            edit.trace_state("new=state");
            edit.status_message("a new message");
        }
        decide(length + 1)
    }

    fn event(&mut self, _span: &SpanView<'_>, event: EventView<'_>) -> Decision {
        decide(event.name().len())
    }

    fn link(&mut self, _span: &SpanView<'_>, link: LinkView<'_>) -> Decision {
        decide(link.trace_state().len())
    }

    fn attribute(
        &mut self,
        owner: AttributeOwner<'_>,
        attribute: AttributeView<'_>,
        slot: AttributeSlot<'_>,
    ) -> Settled {
        match (attribute.key().len() % 4, owner) {
            (0, AttributeOwner::Resource(_)) => slot.set("replaced.in.resource", 7_i64),
            (0, _) => slot.set("replaced", attribute.value()),
            (1, _) => slot.remove(),
            _ => slot.keep(),
        }
    }

    fn new_attributes(&mut self, owner: AttributeOwner<'_>, attributes: &mut NewAttributes<'_>) {
        if let AttributeOwner::Link(..) = owner {
            return;
        }
        attributes.add("added", "by rule");
    }
}

fn decide(length: usize) -> Decision {
    match length % 8 {
        0 => Decision::Remove,
        1 => Decision::Keep,
        _ => Decision::Change,
    }
}

/// Does the same as [`ByLength`] to decoded messages.
fn model(mut request: ExportTraceServiceRequest) -> ExportTraceServiceRequest {
    request.resource_spans.retain_mut(|resource_spans| {
        let decision = decide(resource_spans.schema_url.len() + 1);
        if decision == Decision::Change {
            let resource = resource_spans.resource.get_or_insert_default();
            model_attributes(&mut resource.attributes, true, true);
        }
        resource_spans.scope_spans.retain_mut(|scope_spans| {
            let decision = decide(scope_spans.schema_url.len() + 2);
            if decision == Decision::Change {
                let scope = scope_spans.scope.get_or_insert_default();
                model_attributes(&mut scope.attributes, false, true);
            }
            scope_spans.spans.retain_mut(|span| {
                let decision = decide(span.name.len() + 1);
                if decision == Decision::Change {
                    model_span(span);
                }
                decision != Decision::Remove
            });
            decision != Decision::Remove && !scope_spans.spans.is_empty()
        });
        decision != Decision::Remove && !resource_spans.scope_spans.is_empty()
    });
    request
}

fn model_span(span: &mut Span) {
    if span.name.len() % 2 == 1 {
        span.name = "a new name".to_owned();
        span.trace_state = "new=state".to_owned();
        span.status.get_or_insert_default().message = "a new message".to_owned();
    }
    model_attributes(&mut span.attributes, false, true);
    span.events.retain_mut(|event| {
        let decision = decide(event.name.len());
        if decision == Decision::Change {
            model_attributes(&mut event.attributes, false, true);
        }
        decision != Decision::Remove
    });
    span.links.retain_mut(|link| {
        let decision = decide(link.trace_state.len());
        if decision == Decision::Change {
            model_attributes(&mut link.attributes, false, false);
        }
        decision != Decision::Remove
    });
}

fn model_attributes(attributes: &mut Vec<KeyValue>, is_resource: bool, adds: bool) {
    attributes.retain(|attribute| attribute.key.len() % 4 != 1);
    for attribute in attributes
        .iter_mut()
        .filter(|attribute| attribute.key.len() % 4 == 0)
    {
        if is_resource {
            *attribute = key_value("replaced.in.resource", Value::IntValue(7));
        } else {
            attribute.key = "replaced".to_owned();
            attribute.key_strindex = 0;
            let value = attribute.value.get_or_insert_default();
            fill_empty(value);
        }
    }
    if adds {
        attributes.push(key_value("added", Value::StringValue("by rule".to_owned())));
    }
}

/// A value that was copied through its view has no absent parts any more, only empty ones.
fn fill_empty(value: &mut AnyValue) {
    match &mut value.value {
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(fill_empty),
        Some(Value::KvlistValue(map)) => {
            for entry in &mut map.values {
                fill_empty(entry.value.get_or_insert_default());
            }
        }
        _ => {}
    }
}

fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        key_strindex: 0,
    }
}

/// Changes nothing, but asks about everything.
struct AsksOnly;

impl Rewrite for AsksOnly {
    fn resource(&mut self, _resource: ResourceSpansView<'_>) -> Decision {
        Decision::Change
    }

    fn scope(&mut self, _scope: ScopeSpansView<'_>) -> Decision {
        Decision::Change
    }

    fn span(&mut self, _span: &SpanView<'_>, _edit: &mut SpanEdit) -> Decision {
        Decision::Change
    }
}

/// Changes one span's name and asks about everything, so that all the rest is really copied.
struct RenamesFirst {
    done: bool,
}

impl Rewrite for RenamesFirst {
    fn resource(&mut self, _resource: ResourceSpansView<'_>) -> Decision {
        Decision::Change
    }

    fn scope(&mut self, _scope: ScopeSpansView<'_>) -> Decision {
        Decision::Change
    }

    fn span(&mut self, span: &SpanView<'_>, edit: &mut SpanEdit) -> Decision {
        if !self.done {
            edit.name(span.name());
        }
        self.done = true;
        Decision::Change
    }
}

fn count(bytes: &[u8]) -> usize {
    RequestView::new(bytes).spans().count()
}

proptest! {
    #![proptest_config(config(384))]

    #[test]
    fn does_what_a_model_does_to_decoded_messages(request in common::requests()) {
        let bytes = Bytes::from(request.encode_to_vec());
        let rewritten = rewrite(&bytes, &mut ByLength).expect("well-formed");
        let summary = validate(&rewritten.bytes).expect("well-formed");
        prop_assert_eq!(summary.spans, rewritten.spans);
        prop_assert_eq!(summary.empty_envelopes, 0);
        prop_assert_eq!(rewritten.spans + rewritten.removed_spans, count(&bytes));
        let decoded = ExportTraceServiceRequest::decode(rewritten.bytes).expect("well-formed");
        prop_assert_eq!(decoded.encode_to_vec(), model(request).encode_to_vec());
    }

    #[test]
    fn copies_every_form_faithfully(request in odd_but_well_formed()) {
        let rewritten = rewrite(&request, &mut RenamesFirst { done: false }).expect("well-formed");
        let summary = validate(&rewritten.bytes).expect("well-formed");
        prop_assert_eq!((summary.empty_envelopes, summary.parted_messages), (0, 0));
        prop_assert_eq!(flat(&rewritten.bytes), flat(&request));
        prop_assert_eq!(rewritten.removed_spans, 0);
    }

    #[test]
    fn changing_nothing_copies_nothing(request in common::valid_requests()) {
        let bytes = Bytes::from(request.encode_to_vec());
        let rewritten = rewrite(&bytes, &mut AsksOnly).expect("well-formed");
        prop_assert_eq!(rewritten.bytes.as_ptr(), bytes.as_ptr());
        prop_assert_eq!(rewritten.bytes.len(), bytes.len());
        prop_assert_eq!(rewritten.spans, count(&bytes));
    }

    #[test]
    fn retaining_spans_keeps_those(request in odd_but_well_formed(), odd in any::<bool>()) {
        let keep = |name: &str| (name.len() % 2 == 1) == odd;
        let retained = retain_spans(&request, |span| keep(span.name())).expect("well-formed");
        let expected: Vec<_> = flat(&request).into_iter().filter(|span| {
            keep(&Span::decode(span.4.as_slice()).expect("it is a span").name)
        }).collect();
        prop_assert_eq!(flat(&retained.bytes), expected);
        prop_assert_eq!(retained.spans + retained.removed_spans, count(&request));
    }

    #[test]
    fn admitting_lets_the_good_spans_through_and_counts_the_others(
        request in prop_oneof![
            odd_but_well_formed(),
            common::requests().prop_map(|request| Bytes::from(request.encode_to_vec())),
        ],
    ) {
        let summary = validate(&request).expect("well-formed");
        let admitted = admit(request.clone()).expect("well-formed");
        prop_assert_eq!(admitted.spans, summary.spans - summary.invalid_spans);
        prop_assert_eq!(admitted.refused_spans, summary.invalid_spans);
        prop_assert_eq!(admitted.first_refused, summary.first_invalid);
        let after = validate(&admitted.bytes).expect("well-formed");
        prop_assert!(after.is_clean());
        prop_assert_eq!(after.spans, admitted.spans);
        let good: Vec<_> = RequestView::new(&request)
            .spans()
            .zip(flat(&request))
            .filter(|(span, _)| InvalidSpanReason::of(span).is_none())
            .map(|(_, span)| span)
            .collect();
        prop_assert_eq!(flat(&admitted.bytes), good);
        // At the second door nothing is left to do.
        let again = admit(admitted.bytes.clone()).expect("well-formed");
        prop_assert_eq!(again.bytes.as_ptr(), admitted.bytes.as_ptr());
    }
}

proptest! {
    #![proptest_config(config(4096))]

    #[test]
    fn never_panics_and_never_loses_spans_silently(decisions in vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = common::wire::request_from(&decisions);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let request = Bytes::from(bytes);
        match rewrite(&request, &mut ByLength) {
            Ok(rewritten) => {
                prop_assert_eq!(rewritten.spans + rewritten.removed_spans, count(&request));
            }
            Err(_) => prop_assert!(validate(&request).is_err()),
        }
        prop_assert_eq!(admit(request.clone()).is_ok(), validate(&request).is_ok());
    }
}

fn good_span(extra: &[u8]) -> Vec<u8> {
    [
        nested(&[0x0a], &[1; 16]),
        nested(&[0x12], &[2; 8]),
        extra.to_vec(),
    ]
    .concat()
}

#[test]
fn unknown_fields_survive_an_edit() {
    struct Everything;

    impl Rewrite for Everything {
        fn resource(&mut self, _resource: ResourceSpansView<'_>) -> Decision {
            Decision::Change
        }

        fn scope(&mut self, _scope: ScopeSpansView<'_>) -> Decision {
            Decision::Change
        }

        fn span(&mut self, _span: &SpanView<'_>, edit: &mut SpanEdit) -> Decision {
            edit.name("new");
            edit.status_message("worse");
            Decision::Change
        }

        fn attribute(
            &mut self,
            _owner: AttributeOwner<'_>,
            attribute: AttributeView<'_>,
            slot: AttributeSlot<'_>,
        ) -> Settled {
            match attribute.key() {
                "secret" => slot.remove(),
                _ => slot.keep(),
            }
        }
    }

    let secret = |number: u8| nested(&[number << 3 | 2, 0x0a], b"secret");
    let unknown = |name: &[u8; 2]| [b"\x9a\x06\x02", name.as_slice()].concat();
    let event = [secret(3), unknown(b"ev")].concat();
    let link = [secret(4), unknown(b"li")].concat();
    let status = [b"\x18\x02\x12\x03bad".to_vec(), unknown(b"st")].concat();
    let span = good_span(
        &[
            secret(9),
            b"\x2a\x03old".to_vec(),
            unknown(b"sp"),
            nested(&[0x5a], &event),
            nested(&[0x6a], &link),
            nested(&[0x7a], &status),
        ]
        .concat(),
    );
    let scope = [secret(3), unknown(b"sc")].concat();
    let scope_spans = [
        nested(&[0x0a], &scope),
        nested(&[0x12], &span),
        unknown(b"ss"),
    ]
    .concat();
    let resource = [secret(1), unknown(b"re")].concat();
    let resource_spans = [
        nested(&[0x0a], &resource),
        nested(&[0x12], &scope_spans),
        unknown(b"rs"),
    ]
    .concat();
    let request = Bytes::from([nested(&[0x0a], &resource_spans), unknown(b"rq")].concat());

    let rewritten = rewrite(&request, &mut Everything).expect("well-formed");
    let contains = |needle: &[u8]| {
        let mut windows = rewritten.bytes.windows(needle.len());
        windows.any(|window| window == needle)
    };
    for name in [
        b"ev", b"li", b"st", b"sp", b"sc", b"ss", b"re", b"rs", b"rq",
    ] {
        assert!(
            contains(&unknown(name)),
            "{}",
            String::from_utf8_lossy(name)
        );
    }
    assert!(!contains(b"secret"));
    assert!(!contains(b"old"));
    assert!(!contains(b"bad"));
    assert_eq!(rewritten.removed_attributes, 5);
    let span = RequestView::new(&rewritten.bytes)
        .spans()
        .next()
        .expect("one span");
    assert_eq!(span.name(), "new");
    assert_eq!(span.status().message(), "worse");
    assert_eq!(span.status().code().number(), 2);
    assert!(validate(&rewritten.bytes).is_ok());
}

#[test]
fn a_removed_resource_takes_its_spans_along_and_they_are_counted() {
    struct RemoveAll;

    impl Rewrite for RemoveAll {
        fn resource(&mut self, _resource: ResourceSpansView<'_>) -> Decision {
            Decision::Remove
        }
    }

    let spans = [
        nested(&[0x12], &good_span(b"")),
        nested(&[0x12], &good_span(b"")),
    ]
    .concat();
    let request = Bytes::from(nested(&[0x0a, 0x12], &spans));
    let rewritten = rewrite(&request, &mut RemoveAll).expect("well-formed");
    assert_eq!((rewritten.spans, rewritten.removed_spans), (0, 2));
    assert_eq!(rewritten.removed_envelopes, 2);
    assert!(rewritten.bytes.is_empty());
}

#[test]
fn a_resource_that_was_not_there_can_get_attributes() {
    struct Name;

    impl Rewrite for Name {
        fn resource(&mut self, _resource: ResourceSpansView<'_>) -> Decision {
            Decision::Change
        }

        fn new_attributes(
            &mut self,
            owner: AttributeOwner<'_>,
            attributes: &mut NewAttributes<'_>,
        ) {
            if let AttributeOwner::Resource(_) = owner {
                attributes.add("service.name", "shop");
                attributes.add_with("list", |value| value.array(|items| items.push(1_i64)));
            }
        }
    }

    let request = Bytes::from(nested(&[0x0a, 0x12, 0x12], &good_span(b"")));
    let rewritten = rewrite(&request, &mut Name).expect("well-formed");
    let span = RequestView::new(&rewritten.bytes)
        .spans()
        .next()
        .expect("one span");
    let name = span
        .resource()
        .attribute("service.name")
        .expect("it was added");
    assert_eq!(name.as_str(), Some("shop"));
    assert_eq!(
        span.resource()
            .attribute("list")
            .expect("it was added")
            .to_text(),
        "[1]"
    );
    assert_eq!(rewritten.added_attributes, 2);
}

#[test]
fn what_a_dropped_envelope_said_does_not_count() {
    struct Strip;

    impl Rewrite for Strip {
        fn resource(&mut self, _resource: ResourceSpansView<'_>) -> Decision {
            Decision::Change
        }

        fn span(&mut self, _span: &SpanView<'_>, _edit: &mut SpanEdit) -> Decision {
            Decision::Remove
        }

        fn attribute(
            &mut self,
            _owner: AttributeOwner<'_>,
            _attribute: AttributeView<'_>,
            slot: AttributeSlot<'_>,
        ) -> Settled {
            slot.remove()
        }
    }

    let resource_spans = [
        nested(&[0x0a, 0x0a, 0x0a], b"key"),
        nested(&[0x12, 0x12], &good_span(b"")),
    ];
    let request = Bytes::from(nested(&[0x0a], &resource_spans.concat()));
    let Rewritten {
        removed_attributes,
        removed_spans,
        removed_envelopes,
        ..
    } = rewrite(&request, &mut Strip).expect("well-formed");
    assert_eq!(
        (removed_attributes, removed_spans, removed_envelopes),
        (0, 1, 2)
    );
}

#[test]
fn invalid_spans_leave_without_their_neighbours() {
    let bad = nested(&[0x0a], &[0; 16]);
    let spans = [
        nested(&[0x12], &bad),
        nested(&[0x12], &good_span(b"\x2a\x04good")),
        nested(&[0x12], b""),
    ];
    let only_bad = nested(&[0x0a, 0x12, 0x12], &bad);
    let request = [nested(&[0x0a, 0x12], &spans.concat()), only_bad].concat();
    let request = Bytes::from(request);
    let clean = remove_invalid_spans(&request).expect("well-formed");
    assert_eq!(
        (clean.spans, clean.removed_spans, clean.removed_envelopes),
        (1, 3, 2)
    );
    let names: Vec<_> = RequestView::new(&clean.bytes)
        .spans()
        .map(|span| span.name())
        .collect();
    assert_eq!(names, ["good"]);
}

#[test]
fn many_parts_take_linear_time() {
    // Thousands of empty scopes, then thousands of parts of one resource, then a span. Anything quadratic would take minutes.
    let mut resource_spans = Vec::new();
    for _ in 0..100_000 {
        resource_spans.extend([0x12, 0x00]);
    }
    for _ in 0..100_000 {
        resource_spans.extend([0x0a, 0x00]);
    }
    resource_spans.extend(nested(&[0x12, 0x12], &good_span(b"")));
    let request = Bytes::from(nested(&[0x0a], &resource_spans));
    let started = std::time::Instant::now();
    let admitted = admit(request).expect("well-formed");
    assert_eq!(admitted.spans, 1);
    assert!(admitted.bytes.len() < 100);
    assert!(started.elapsed().as_secs() < 20);
}
