//! Any text as OTLP JSON: nothing panics, `serde_json` agrees about the syntax, and what is read is a request.

#![no_main]

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use outspan_wire::otlp::WireErrorKind;
use outspan_wire::otlp::read_json;
use outspan_wire::otlp::read_json_response;
use outspan_wire::otlp::read_json_status;
use outspan_wire::otlp::validate;
use prost::Message;
use serde::de::IgnoredAny;

fuzz_target!(|text: &[u8]| {
    let mut request = Vec::new();
    let ours = read_json(text, &mut request);
    if let Ok(summary) = ours {
        let decoded =
            ExportTraceServiceRequest::decode(&*request).expect("prost reads what we write");
        let scopes = decoded.resource_spans.iter().flat_map(|it| &it.scope_spans);
        let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
        assert_eq!(summary.spans, spans);
        assert_eq!(validate(&request).map(|it| it.spans), Ok(spans));
    }
    // Answers are read with the same tokenizer; here only panics count.
    read_json_response(text).ok();
    read_json_status(text).ok();

    let kind = ours.err().map(|error| error.kind());
    let Ok(text) = std::str::from_utf8(text) else {
        assert_eq!(kind, Some(WireErrorKind::Utf8));
        return;
    };
    if text.starts_with('\u{feff}') {
        // A byte order mark is skipped here and refused there.
        return;
    }
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => assert_ne!(kind, Some(WireErrorKind::JsonSyntax), "only we refuse it"),
        Err(error) => assert!(kind.is_some(), "only serde_json refuses it: {error}"),
    }
});
