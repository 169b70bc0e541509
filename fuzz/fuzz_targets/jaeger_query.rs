//! Any text as the answer of Jaeger's query API: nothing panics, what is read is a valid request, and what is written of that is
//! JSON that is read again with as many spans.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outspan_wire::jaeger::ReadLimits;
use outspan_wire::jaeger::read_query_json;
use outspan_wire::jaeger::write_query_json;
use outspan_wire::otlp::validate;
use serde::de::IgnoredAny;

fuzz_target!(|text: &[u8]| {
    let Ok(read) = read_query_json(text, &ReadLimits::default()) else {
        return;
    };
    let summary = validate(&read.bytes).expect("what was read is a request");
    assert_eq!((summary.spans, summary.invalid_spans), (read.spans, 0));
    let json = write_query_json(&read.bytes).expect("all ids are good");
    serde_json::from_slice::<IgnoredAny>(&json).expect("it is JSON");
    let again = read_query_json(&json, &ReadLimits::default()).expect("it was written here");
    assert_eq!((again.spans, again.invalid), (read.spans, 0));
});
