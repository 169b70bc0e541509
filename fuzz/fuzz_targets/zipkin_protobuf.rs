//! Any bytes as Zipkin protobuf: nothing panics, what is read is a valid request, and writing and reading it again loses no
//! span and, from the second time on, nothing at all.

#![no_main]

#[path = "../zipkin_again.rs"]
mod zipkin_again;

use libfuzzer_sys::fuzz_target;
use outspan_wire::zipkin::ReadLimits;
use outspan_wire::zipkin::read_protobuf;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = read_protobuf(bytes, &ReadLimits::default()) {
        zipkin_again::check(&request);
    }
});
