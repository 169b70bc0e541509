//! Any bytes as a datagram for Jaeger's agent: nothing panics, and what is read is a valid request.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outspan_wire::jaeger::ReadLimits;
use outspan_wire::jaeger::read_datagram;
use outspan_wire::otlp::validate;

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = read_datagram(bytes, &ReadLimits::default()) else {
        return;
    };
    let summary = validate(&read.bytes).expect("what was read is a request");
    assert_eq!((summary.spans, summary.invalid_spans), (read.spans, 0));
});
