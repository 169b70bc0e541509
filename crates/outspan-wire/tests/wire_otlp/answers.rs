//! What is written as an answer is what tonic, prost and serde_json read, and what our own readers read.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use outspan_wire::grpc::Code;
use outspan_wire::otlp::FieldViolation;
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
use proptest::prelude::*;
use prost::Message;
use serde_json::Value;
use serde_json::json;
use tonic_types::ErrorDetails;
use tonic_types::StatusExt;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const VIOLATIONS_MAX: usize = 64;

fn response(partial: &PartialSuccess) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_response(partial, &mut bytes);
    bytes
}

fn json_response(partial: &PartialSuccess) -> Vec<u8> {
    let mut text = Vec::new();
    write_json_response(partial, &mut text);
    text
}

fn status(status: &RpcStatus) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_status(status, &mut bytes);
    bytes
}

fn json_status(status: &RpcStatus) -> Vec<u8> {
    let mut text = Vec::new();
    write_json_status(status, &mut text);
    text
}

/// Text as tests of quoting want it: control characters, quotes, backslashes and everything else.
fn text() -> impl Strategy<Value = String> {
    let special =
        prop::sample::select(vec!['"', '\\', '\n', '\0', '\u{7F}', '\u{2028}', '€', '😀']);
    let character = prop_oneof![any::<char>(), special];
    prop::collection::vec(character, 0..20).prop_map(String::from_iter)
}

fn partials() -> impl Strategy<Value = PartialSuccess> {
    let rejected = prop_oneof![Just(0), 0..1000_u64, Just(i64::MAX as u64)];
    (rejected, text()).prop_map(|(rejected_spans, error_message)| PartialSuccess {
        rejected_spans,
        error_message,
    })
}

fn delays() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(DAY),
        (0..86_400_u64).prop_map(Duration::from_secs),
        (0..86_400_000_u64).prop_map(Duration::from_millis),
        (0..86_400_000_000_000_u64).prop_map(Duration::from_nanos),
    ]
}

fn violations() -> impl Strategy<Value = Vec<FieldViolation>> {
    let violation =
        (text(), text()).prop_map(|(field, description)| FieldViolation { field, description });
    prop::collection::vec(violation, 0..5)
}

fn statuses() -> impl Strategy<Value = RpcStatus> {
    let codes = prop_oneof![0..17, any::<i32>()];
    (codes, text(), prop::option::of(delays()), violations()).prop_map(
        |(code, message, retry_delay, violations)| RpcStatus {
            code,
            message,
            retry_delay,
            violations,
        },
    )
}

proptest! {
    #[test]
    fn a_response_is_read_by_prost_as_it_was_meant(partial in partials()) {
        let theirs = ExportTraceServiceResponse::decode(&response(&partial)[..]).unwrap();
        prop_assert_eq!(theirs.partial_success.is_none(), partial.is_full_success());
        let theirs = theirs.partial_success.unwrap_or_default();
        prop_assert_eq!(theirs.rejected_spans, partial.rejected_spans as i64);
        prop_assert_eq!(theirs.error_message, partial.error_message);
    }

    #[test]
    fn a_response_in_json_is_read_by_serde_as_it_was_meant(partial in partials()) {
        let text = json_response(&partial);
        let value: Value = serde_json::from_slice(&text).unwrap();
        let fields = value.as_object().unwrap();
        prop_assert_eq!(fields.is_empty(), partial.is_full_success());
        let inner = &value["partialSuccess"];
        let rejected = inner.get("rejectedSpans").map_or("0", |count| count.as_str().unwrap());
        prop_assert_eq!(rejected, partial.rejected_spans.to_string());
        let message = inner.get("errorMessage").map_or("", |text| text.as_str().unwrap());
        prop_assert_eq!(message, partial.error_message);
    }

    #[test]
    fn a_response_comes_back(partial in partials()) {
        prop_assert_eq!(read_response(&response(&partial)), Ok(partial.clone()));
        prop_assert_eq!(read_json_response(&json_response(&partial)), Ok(partial));
    }

    #[test]
    fn a_status_is_read_by_tonic_as_it_was_meant(written in statuses()) {
        let bytes = status(&written);
        let theirs = tonic_types::Status::decode(&bytes[..]).unwrap();
        prop_assert_eq!((theirs.code, &theirs.message), (written.code, &written.message));

        let theirs = tonic::Status::with_details(tonic::Code::Internal, "", bytes.into());
        let details = theirs.check_error_details().unwrap();
        let delay = details.retry_info().and_then(|info| info.retry_delay);
        prop_assert_eq!(delay, written.retry_delay);
        let violations: Vec<FieldViolation> = details
            .bad_request()
            .map(|request| &request.field_violations[..])
            .unwrap_or_default()
            .iter()
            .map(|violation| FieldViolation {
                field: violation.field.clone(),
                description: violation.description.clone(),
            })
            .collect();
        prop_assert_eq!(violations, written.violations);
    }

    #[test]
    fn a_status_of_tonic_is_read_as_it_was_meant(delay in delays(), meant in violations(), message in text()) {
        let mut details = ErrorDetails::with_retry_info(Some(delay));
        details.set_quota_failure(Vec::new());
        details.add_help_link("where to read on", "https://example.com");
        for violation in &meant {
            details.add_bad_request_violation(&violation.field, &violation.description);
        }
        let theirs = tonic::Status::with_error_details(tonic::Code::Unavailable, &message, details);
        let read = read_status(theirs.details()).unwrap();
        prop_assert_eq!(read, RpcStatus {
            code: Code::Unavailable.number(),
            message,
            retry_delay: Some(delay),
            violations: meant,
        });
    }

    #[test]
    fn a_status_in_json_is_json_whatever_it_says(written in statuses()) {
        let value: Value = serde_json::from_slice(&json_status(&written)).unwrap();
        prop_assert_eq!(value.get("code").map_or(0, |code| code.as_i64().unwrap()), i64::from(written.code));
        let message = value.get("message").map_or("", |text| text.as_str().unwrap());
        prop_assert_eq!(message, &written.message);
        let details = value.get("details").map_or(&[][..], |details| details.as_array().unwrap());
        let of_type = |name: &str| {
            let url = format!("type.googleapis.com/google.rpc.{name}");
            details.iter().find(|detail| detail["@type"] == *url)
        };
        prop_assert_eq!(of_type("RetryInfo").is_some(), written.retry_delay.is_some());
        let violations = of_type("BadRequest").map_or(&[][..], |detail| detail["fieldViolations"].as_array().unwrap());
        prop_assert_eq!(violations.len(), written.violations.len());
        for (theirs, ours) in violations.iter().zip(&written.violations) {
            prop_assert_eq!(theirs.get("field").map_or("", |text| text.as_str().unwrap()), &ours.field);
            prop_assert_eq!(theirs.get("description").map_or("", |text| text.as_str().unwrap()), &ours.description);
        }
    }

    #[test]
    fn a_status_comes_back(written in statuses()) {
        prop_assert_eq!(read_status(&status(&written)), Ok(written.clone()));
        prop_assert_eq!(read_json_status(&json_status(&written)), Ok(written));
    }

    #[test]
    fn shortening_keeps_the_bound_and_what_is_in_it(written in statuses(), bytes_max in 0..200_usize) {
        let texts = |status: &RpcStatus| {
            let violations = status.violations.iter();
            let texts = violations.map(|violation| violation.field.len() + violation.description.len());
            status.message.len() + texts.sum::<usize>()
        };
        let mut short = written.clone();
        short.shorten(bytes_max);
        prop_assert!(texts(&short) <= bytes_max);
        prop_assert_eq!((short.code, short.retry_delay), (written.code, written.retry_delay));
        let has_empty = written.violations.contains(&FieldViolation::default());
        if texts(&written) <= bytes_max && !has_empty {
            prop_assert_eq!(&short, &written);
        }
        let overhead = 150 + 12 * short.violations.len();
        prop_assert!(status(&short).len() <= texts(&short) + overhead);
    }

    #[test]
    fn a_message_is_cut_between_characters(message in text(), bytes_max in 0..60_usize) {
        let mut partial = PartialSuccess { rejected_spans: 1, error_message: message.clone() };
        partial.shorten(bytes_max);
        let short = partial.error_message;
        prop_assert!(short.len() <= bytes_max);
        if message.len() <= bytes_max {
            prop_assert_eq!(short, message);
            return Ok(());
        }
        let kept = short.strip_suffix('…').unwrap_or(&short);
        prop_assert!(message.starts_with(kept));
        prop_assert_eq!(short.ends_with('…'), bytes_max >= 3);
        // At most one character less than what fits.
        prop_assert!(kept.len() + 3 + 3 >= bytes_max);
    }
}

#[test]
fn full_success_is_an_empty_message() {
    assert_eq!(response(&PartialSuccess::default()), b"");
    assert_eq!(json_response(&PartialSuccess::default()), b"{}");
}

#[test]
fn a_warning_has_a_message_and_rejects_nothing() {
    let warning = PartialSuccess {
        rejected_spans: 0,
        error_message: "soon".to_owned(),
    };
    assert_eq!(response(&warning), b"\x0a\x06\x12\x04soon");
    assert_eq!(
        json_response(&warning),
        br#"{"partialSuccess":{"errorMessage":"soon"}}"#
    );
}

#[test]
fn more_rejected_spans_than_the_field_holds_are_its_maximum() {
    let partial = PartialSuccess {
        rejected_spans: u64::MAX,
        error_message: String::new(),
    };
    let maximum = i64::MAX as u64;
    assert_eq!(
        read_response(&response(&partial)).unwrap().rejected_spans,
        maximum
    );
    let read = read_json_response(&json_response(&partial)).unwrap();
    assert_eq!(read.rejected_spans, maximum);
}

#[test]
fn a_status_in_json_follows_the_mapping_of_protobuf() {
    let status = RpcStatus {
        code: Code::InvalidArgument.number(),
        message: "invalid UTF-8 in Span.name at byte 7".to_owned(),
        retry_delay: Some(Duration::from_micros(1_000_250)),
        violations: vec![FieldViolation {
            field: "resource_spans[0].scope_spans[0].spans[0].name".to_owned(),
            description: "not UTF-8".to_owned(),
        }],
    };
    let value: Value = serde_json::from_slice(&json_status(&status)).unwrap();
    let expected = json!({
        "code": 3,
        "message": "invalid UTF-8 in Span.name at byte 7",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.000250s"},
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [
                    {"field": "resource_spans[0].scope_spans[0].spans[0].name", "description": "not UTF-8"},
                ],
            },
        ],
    });
    assert_eq!(value, expected);
    assert_eq!(json_status(&RpcStatus::default()), b"{}");
}

#[test]
fn a_duration_has_as_few_decimals_as_will_do() {
    for (delay, written) in [
        (Duration::ZERO, "0s"),
        (Duration::from_secs(30), "30s"),
        (Duration::from_millis(1500), "1.500s"),
        (Duration::from_millis(5), "0.005s"),
        (Duration::from_micros(5), "0.000005s"),
        (Duration::from_nanos(5), "0.000000005s"),
        (Duration::MAX, "86400s"),
    ] {
        let status = RpcStatus {
            retry_delay: Some(delay),
            ..RpcStatus::default()
        };
        let value: Value = serde_json::from_slice(&json_status(&status)).unwrap();
        assert_eq!(value["details"][0]["retryDelay"], *written);
    }
}

#[test]
fn a_delay_is_at_most_a_day() {
    let written = RpcStatus {
        retry_delay: Some(Duration::MAX),
        ..RpcStatus::default()
    };
    assert_eq!(
        read_status(&status(&written)).unwrap().retry_delay,
        Some(DAY)
    );
}

#[test]
fn violations_are_bounded_when_written_and_when_read() {
    let mut many = RpcStatus::new(Code::InvalidArgument, "");
    many.violations = (0..1000)
        .map(|number| FieldViolation {
            field: format!("spans[{number}]"),
            description: String::new(),
        })
        .collect();
    let first = &many.violations[..VIOLATIONS_MAX];
    assert_eq!(read_status(&status(&many)).unwrap().violations, first);
    let read = read_json_status(&json_status(&many)).unwrap();
    assert_eq!(read.violations, first);

    // Two details of 64 each, so that neither alone is over the bound.
    let mut twice = status(&many);
    twice.extend(status(&many));
    assert_eq!(read_status(&twice).unwrap().violations, first);
    let detail = String::from_utf8(json_status(&many)).unwrap();
    let detail = detail
        .split_once('[')
        .unwrap()
        .1
        .strip_suffix("]}")
        .unwrap();
    let text = format!(r#"{{"details":[{detail},{detail}]}}"#);
    let read = read_json_status(text.as_bytes()).unwrap();
    assert_eq!(read.violations, first);
}

#[test]
fn what_stands_before_an_answer_stays_as_it_is() {
    let partial = PartialSuccess {
        rejected_spans: 7,
        error_message: "x".repeat(300),
    };
    let mut out = b"before".to_vec();
    write_response(&partial, &mut out);
    assert_eq!(out.strip_prefix(b"before"), Some(&response(&partial)[..]));

    let refusal = RpcStatus::new(Code::NotFound, "nothing here");
    let mut out = b"before".to_vec();
    write_json_status(&refusal, &mut out);
    assert_eq!(
        out.strip_prefix(b"before"),
        Some(&json_status(&refusal)[..])
    );
}

#[test]
fn details_of_other_shapes_are_passed_over() {
    let text = r#"{"message":"no","details":[
        {"fieldViolations":[{"field":"a","description":"b","reason":"C"},7,null,{"field":null}],"@type":"x/google.rpc.BadRequest"},
        {"@type":"x/google.rpc.QuotaFailure","fieldViolations":[{"field":"other"}],"violations":[]},
        {"@type":"x/google.rpc.BadRequest","fieldViolations":{"field":"no list"}},
        {"@type":7,"retryDelay":5}]}"#;
    let read = read_json_status(text.as_bytes()).unwrap();
    let fields: Vec<&str> = read
        .violations
        .iter()
        .map(|violation| violation.field.as_str())
        .collect();
    assert_eq!(fields, ["a", ""]);
    assert_eq!(read.violations[0].description, "b");
    assert_eq!(read.retry_delay, None);
}
