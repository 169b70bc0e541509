//! Views read what `prost` decodes, and survive anything else.

#![no_main]

#[path = "../../crates/outspan-wire/tests/common/mod.rs"]
mod common;

use std::fmt::Write;

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use outspan_wire::otlp::RequestView;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    check(data);
    // The same bytes again, as decisions about a request, which gets deeper.
    check(&common::wire::request_from(data));
});

fn check(bytes: &[u8]) {
    let view = RequestView::new(bytes);
    if let Ok(decoded) = ExportTraceServiceRequest::decode(bytes) {
        let decoded = common::without_profile_fields(decoded);
        // Compared as bytes, because NaN is not equal to itself.
        let read = common::read_through_views(view);
        assert_eq!(read.encode_to_vec(), decoded.encode_to_vec());
    }
    let mut text = String::new();
    for span in view.spans() {
        text.clear();
        write!(text, "{span:?} {:?} {:?}", span.resource(), span.scope())
            .expect("writing to a String cannot fail");
        for attribute in span.attributes() {
            attribute
                .value()
                .write_text(&mut text)
                .expect("writing to a String cannot fail");
        }
    }
}
