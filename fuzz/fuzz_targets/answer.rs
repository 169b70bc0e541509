//! What servers answer is read as prost reads it, in JSON without a panic, and never with a wait beyond a day.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use outspan_wire::otlp::read_json_response;
use outspan_wire::otlp::read_json_status;
use outspan_wire::otlp::read_response;
use outspan_wire::otlp::read_status;
use prost::Message;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fuzz_target!(|data: &[u8]| {
    let ours = read_response(data);
    if let Ok(theirs) = ExportTraceServiceResponse::decode(data) {
        let ours = ours.expect("prost reads it");
        let theirs = theirs.partial_success.unwrap_or_default();
        assert_eq!(ours.error_message, theirs.error_message);
        assert_eq!(
            ours.rejected_spans,
            u64::try_from(theirs.rejected_spans).unwrap_or(0)
        );
    }
    for status in [read_status(data), read_json_status(data)]
        .into_iter()
        .flatten()
    {
        assert!(status.retry_delay.is_none_or(|delay| delay <= DAY));
    }
    if let Err(error) = read_json_response(data) {
        assert!(error.offset() <= data.len());
    }
});
