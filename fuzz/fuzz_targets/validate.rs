//! The validator accepts exactly what `prost` decodes, and counts what it decoded.

#![no_main]

#[path = "../../crates/outspan-wire/tests/common/mod.rs"]
mod common;

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use outspan_wire::otlp::validate;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    check(data);
    // The same bytes again, as decisions about a request, which gets deeper.
    check(&common::wire::request_from(data));
});

fn check(bytes: &[u8]) {
    let decoded = ExportTraceServiceRequest::decode(bytes);
    let summary = match (validate(bytes), &decoded) {
        (Ok(summary), Ok(_)) => summary,
        (Err(error), Err(_)) => {
            assert!(error.offset() <= bytes.len());
            return;
        }
        (Ok(_), Err(error)) => panic!("we accept what prost refuses: {error}"),
        (Err(error), Ok(_)) => panic!("we refuse what prost accepts: {error}"),
    };
    let request = decoded.expect("it was decoded");
    let scopes = request
        .resource_spans
        .iter()
        .flat_map(|each| &each.scope_spans);
    let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
    assert_eq!(summary.spans, spans);
    assert!(summary.invalid_spans <= spans);
    assert_eq!(summary.first_invalid.is_some(), summary.invalid_spans > 0);
}
