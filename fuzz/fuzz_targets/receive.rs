//! Whatever a request is, the agent's receivers answer it in a form that its sender reads, count it once, and give every byte
//! of memory back.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| outspan_agent::fuzzing::receive(data));
