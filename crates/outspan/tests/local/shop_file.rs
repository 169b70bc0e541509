//! The trace file that ships is what `examples/shop.rs` makes: whole traces of several services.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::collections::HashMap;

use outspan::Batch;
use outspan::wire::otlp::SpanKind;
use outspan::wire::otlp::StatusCode;

fn batches() -> Vec<Batch> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/shop.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.len() < 500 * 1024, "{} bytes", text.len());
    text.lines()
        .map(|line| {
            let checked = Batch::from_json(line.as_bytes()).unwrap();
            assert_eq!(checked.refused, 0);
            checked.batch
        })
        .collect()
}

#[test]
fn every_span_has_its_parent_and_lies_within_it() {
    let batches = batches();
    let spans: Vec<_> = batches.iter().flat_map(Batch::iter).collect();
    assert!((200..1000).contains(&spans.len()), "{} spans", spans.len());
    let by_id: HashMap<_, _> = spans
        .iter()
        .map(|span| ((span.trace_id(), span.span_id()), span))
        .collect();
    assert_eq!(by_id.len(), spans.len(), "ids are unique");
    let mut roots = 0;
    for span in &spans {
        let Some(parent) = span.parent_span_id() else {
            roots += 1;
            continue;
        };
        let parent = by_id[&(span.trace_id(), parent)];
        assert!(span.start_time_unix_nano() >= parent.start_time_unix_nano());
        assert!(span.end_time_unix_nano() <= parent.end_time_unix_nano());
        let is_remote = span.flags() & 0x200 != 0;
        let service = |span: &outspan::wire::otlp::SpanView<'_>| {
            span.resource().attribute("service.name").unwrap().to_text()
        };
        assert_eq!(is_remote, service(span) != service(parent));
    }
    let traces: BTreeSet<_> = spans.iter().map(|span| span.trace_id()).collect();
    assert_eq!(traces.len(), roots, "each trace has one root");
    assert!((30..=60).contains(&roots), "{roots} traces");
    for link in spans.iter().flat_map(|span| span.links()) {
        assert!(by_id.contains_key(&(link.trace_id(), link.span_id())));
    }
}

#[test]
fn it_shows_what_traces_can_hold() {
    let batches = batches();
    let spans: Vec<_> = batches.iter().flat_map(Batch::iter).collect();
    let services: BTreeSet<_> = spans
        .iter()
        .map(|span| span.resource().attribute("service.name").unwrap().to_text())
        .collect();
    let expected = [
        "cart",
        "catalogue",
        "checkout",
        "frontend",
        "mailer",
        "payment",
        "stock",
    ];
    assert!(services.iter().eq(expected.iter()), "{services:?}");
    let kinds: BTreeSet<_> = spans.iter().map(|span| span.kind().number()).collect();
    assert!(kinds.iter().eq(&[1, 2, 3, 4, 5]), "{kinds:?}");
    let failed = spans
        .iter()
        .filter(|span| span.status().code() == StatusCode::Error);
    assert!(failed.count() >= 5);
    let mut events = spans.iter().flat_map(|span| span.events());
    assert!(events.any(|event| {
        event.name() == "exception" && event.attribute("exception.stacktrace").is_some()
    }));
    let linked = spans
        .iter()
        .find(|span| span.kind() == SpanKind::Consumer)
        .unwrap();
    assert!(linked.links().count() >= 2);
}
