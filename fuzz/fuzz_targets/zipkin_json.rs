//! Any text as Zipkin JSON: nothing panics, what is read is a valid request, and writing and reading it again loses no span
//! and, from the second time on, nothing at all.

#![no_main]

#[path = "../zipkin_again.rs"]
mod zipkin_again;

use libfuzzer_sys::fuzz_target;
use outspan_wire::zipkin::ReadLimits;
use outspan_wire::zipkin::read_json;

fuzz_target!(|text: &[u8]| {
    if let Ok(request) = read_json(text, &ReadLimits::default()) {
        zipkin_again::check(&request);
    }
});
