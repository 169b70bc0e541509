//! Rewriting by arbitrary decisions gives valid requests and accounts for every span.

#![no_main]

#[path = "../../crates/outspan-wire/tests/common/mod.rs"]
mod common;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use outspan_wire::otlp::AttributeOwner;
use outspan_wire::otlp::AttributeSlot;
use outspan_wire::otlp::AttributeView;
use outspan_wire::otlp::Decision;
use outspan_wire::otlp::EventView;
use outspan_wire::otlp::LinkView;
use outspan_wire::otlp::NewAttributes;
use outspan_wire::otlp::RequestView;
use outspan_wire::otlp::ResourceSpansView;
use outspan_wire::otlp::Rewrite;
use outspan_wire::otlp::ScopeSpansView;
use outspan_wire::otlp::Settled;
use outspan_wire::otlp::SpanEdit;
use outspan_wire::otlp::SpanView;
use outspan_wire::otlp::admit;
use outspan_wire::otlp::rewrite;
use outspan_wire::otlp::validate;

use common::flat;

fuzz_target!(|data: &[u8]| {
    // The first bytes decide what is changed, the others are what is changed.
    let Some((decisions, data)) = data.split_at_checked(8) else {
        return;
    };
    check(Bytes::copy_from_slice(data), decisions);
    // The same bytes again, as decisions about a request, which gets deeper.
    check(Bytes::from(common::wire::request_from(data)), decisions);
});

fn check(request: Bytes, decisions: &[u8]) {
    let rewritten = rewrite(&request, &mut Arbitrary { decisions, next: 0 });
    let untouched = rewrite(&request, &mut KeepsButAsks { renamed: false });
    let admitted = admit(request.clone());
    let Ok(before) = validate(&request) else {
        assert!(admitted.is_err());
        return;
    };

    let rewritten = rewritten.expect("a valid request can be rewritten");
    let after = validate(&rewritten.bytes).expect("what we write is valid");
    assert_eq!(after.spans, rewritten.spans);
    assert_eq!(rewritten.spans + rewritten.removed_spans, before.spans);
    assert_eq!((after.empty_envelopes, after.parted_messages), (0, 0));

    let untouched = untouched.expect("a valid request can be rewritten");
    assert_eq!(flat(&untouched.bytes), flat(&request));

    let admitted = admitted.expect("a valid request is admitted");
    assert_eq!(admitted.spans + admitted.refused_spans, before.spans);
    assert_eq!(admitted.refused_spans, before.invalid_spans);
    let after = validate(&admitted.bytes).expect("what we write is valid");
    assert!(after.is_clean());
    assert_eq!(
        RequestView::new(&admitted.bytes).spans().count(),
        admitted.spans
    );
}

struct Arbitrary<'a> {
    decisions: &'a [u8],
    next: usize,
}

impl Arbitrary<'_> {
    fn byte(&mut self) -> u8 {
        self.next += 1;
        let round = (self.next / self.decisions.len()) as u8;
        self.decisions[self.next % self.decisions.len()].wrapping_add(round)
    }

    fn decide(&mut self) -> Decision {
        match self.byte() % 8 {
            0 => Decision::Remove,
            1 | 2 => Decision::Keep,
            _ => Decision::Change,
        }
    }
}

impl Rewrite for Arbitrary<'_> {
    fn resource(&mut self, _resource: ResourceSpansView<'_>) -> Decision {
        self.decide()
    }

    fn scope(&mut self, _scope: ScopeSpansView<'_>) -> Decision {
        self.decide()
    }

    fn span(&mut self, span: &SpanView<'_>, edit: &mut SpanEdit) -> Decision {
        match self.byte() % 5 {
            0 => edit.name(format!("{} again", span.name())),
            1 => edit.trace_state("a=b"),
            2 => edit.status_message(span.status().message()),
            _ => {}
        }
        self.decide()
    }

    fn event(&mut self, _span: &SpanView<'_>, _event: EventView<'_>) -> Decision {
        self.decide()
    }

    fn link(&mut self, _span: &SpanView<'_>, _link: LinkView<'_>) -> Decision {
        self.decide()
    }

    fn attribute(
        &mut self,
        _owner: AttributeOwner<'_>,
        attribute: AttributeView<'_>,
        slot: AttributeSlot<'_>,
    ) -> Settled {
        match self.byte() % 4 {
            0 => slot.remove(),
            1 => slot.set(attribute.key(), attribute.value()),
            2 => slot.set("number", 1_i64),
            _ => slot.keep(),
        }
    }

    fn new_attributes(&mut self, _owner: AttributeOwner<'_>, attributes: &mut NewAttributes<'_>) {
        if self.byte() % 4 == 0 {
            attributes.add("new", true);
        }
    }
}

/// Sets the first span's name to what it is, so that everything is really copied.
struct KeepsButAsks {
    renamed: bool,
}

impl Rewrite for KeepsButAsks {
    fn resource(&mut self, _resource: ResourceSpansView<'_>) -> Decision {
        Decision::Change
    }

    fn scope(&mut self, _scope: ScopeSpansView<'_>) -> Decision {
        Decision::Change
    }

    fn span(&mut self, span: &SpanView<'_>, edit: &mut SpanEdit) -> Decision {
        if !self.renamed {
            edit.name(span.name());
        }
        self.renamed = true;
        Decision::Change
    }
}
