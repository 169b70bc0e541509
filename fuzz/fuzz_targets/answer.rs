//! What servers answer is read as prost reads it, in JSON without a panic, and never with a wait beyond a day. What was
//! read is written, in both forms, as something that reads the same.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use outspan_wire::otlp::PartialSuccess;
use outspan_wire::otlp::RpcStatus;
use outspan_wire::otlp::read_json_response;
use outspan_wire::otlp::read_json_status;
use outspan_wire::otlp::read_response;
use outspan_wire::otlp::read_status;
use outspan_wire::otlp::write_json_response;
use outspan_wire::otlp::write_json_status;
use outspan_wire::otlp::write_response;
use outspan_wire::otlp::write_status;
use prost::Message;
use serde::de::IgnoredAny;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const VIOLATIONS_MAX: usize = 64;

fuzz_target!(|data: &[u8]| {
    let ours = read_response(data);
    if let Ok(theirs) = ExportTraceServiceResponse::decode(data) {
        let ours = ours.as_ref().expect("prost reads it");
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
        check_status(status);
    }
    for partial in [ours, read_json_response(data)] {
        match partial {
            Ok(partial) => check_partial(&partial),
            Err(error) => assert!(error.offset() <= data.len()),
        }
    }
});

fn check_partial(partial: &PartialSuccess) {
    let (mut bytes, mut text) = (Vec::new(), Vec::new());
    write_response(partial, &mut bytes);
    write_json_response(partial, &mut text);
    serde_json::from_slice::<IgnoredAny>(&text).expect("it is JSON");
    assert_eq!(read_response(&bytes).as_ref(), Ok(partial));
    assert_eq!(read_json_response(&text).as_ref(), Ok(partial));
}

fn check_status(mut status: RpcStatus) {
    assert!(status.retry_delay.is_none_or(|delay| delay <= DAY));
    assert!(status.violations.len() <= VIOLATIONS_MAX);
    let (mut bytes, mut text) = (Vec::new(), Vec::new());
    write_status(&status, &mut bytes);
    write_json_status(&status, &mut text);
    serde_json::from_slice::<IgnoredAny>(&text).expect("it is JSON");
    assert_eq!(read_status(&bytes).as_ref(), Ok(&status));
    assert_eq!(read_json_status(&text).as_ref(), Ok(&status));

    let bytes_max = bytes.len() / 2;
    status.shorten(bytes_max);
    let violations = status.violations.iter();
    let texts = violations.map(|violation| violation.field.len() + violation.description.len());
    assert!(status.message.len() + texts.sum::<usize>() <= bytes_max);
}
