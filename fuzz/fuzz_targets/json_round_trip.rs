//! Any bytes as a request: the JSON is JSON, and a valid request comes back from it with every span.

#![no_main]

#[path = "../../crates/outspan-wire/tests/common/mod.rs"]
mod common;

use libfuzzer_sys::fuzz_target;
use outspan_wire::otlp::read_json;
use outspan_wire::otlp::validate;
use outspan_wire::otlp::write_json;
use serde::de::IgnoredAny;

fuzz_target!(|data: &[u8]| {
    check(data);
    // The same bytes again, as decisions about a request, which gets deeper.
    check(&common::wire::request_from(data));
});

fn check(request: &[u8]) {
    let mut text = Vec::new();
    write_json(request, &mut text);
    serde_json::from_slice::<IgnoredAny>(&text).expect("it is JSON");

    let Ok(summary) = validate(request) else {
        return;
    };
    let mut read = Vec::new();
    let from_text = read_json(&text, &mut read).expect("we read what we write");
    assert_eq!(
        (from_text.spans, from_text.ignored_keys),
        (summary.spans, 0)
    );
    let again = validate(&read).expect("we write valid requests");
    assert_eq!(
        (again.spans, again.invalid_spans),
        (summary.spans, summary.invalid_spans)
    );

    let mut text_again = Vec::new();
    write_json(&read, &mut text_again);
    assert_eq!(text, text_again);
}
