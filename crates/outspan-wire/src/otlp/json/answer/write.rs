//! Answers in JSON form: protobuf's JSON mapping, on one line.

use std::time::Duration;

use crate::otlp::answer::Detail;
use crate::otlp::answer::FieldViolation;
use crate::otlp::answer::PartialSuccess;
use crate::otlp::answer::RETRY_DELAY_MAX;
use crate::otlp::answer::RpcStatus;
use crate::otlp::answer::VIOLATIONS_MAX;
use crate::otlp::json::write::Writer;

/// Appends an `ExportTraceServiceResponse` in JSON form to `text`; what stands in it follows the rules of
/// [`write_response`](crate::otlp::write_response).
///
/// # Examples
///
/// ```
/// use outspan_wire::otlp::PartialSuccess;
/// use outspan_wire::otlp::write_json_response;
///
/// let mut answer = Vec::new();
/// write_json_response(&PartialSuccess::default(), &mut answer);
/// assert_eq!(answer, b"{}");
///
/// let partial = PartialSuccess {
///     rejected_spans: 2,
///     error_message: "no \"traceId\"".to_owned(),
/// };
/// let mut answer = Vec::new();
/// write_json_response(&partial, &mut answer);
/// assert_eq!(
///     answer,
///     br#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"no \"traceId\""}}"#,
/// );
/// ```
pub fn write_json_response(partial: &PartialSuccess, text: &mut Vec<u8>) {
    let mut writer = Writer::new(text);
    writer.begin(b'{');
    if !partial.is_full_success() {
        writer.key("partialSuccess");
        writer.begin(b'{');
        if partial.rejected_spans != 0 {
            writer.key("rejectedSpans");
            let rejected = partial.rejected_spans.min(i64::MAX as u64);
            writer.quoted_integer(false, rejected);
        }
        writer.text_unless_empty("errorMessage", &partial.error_message);
        writer.end(b'}');
    }
    writer.end(b'}');
}

/// Appends a `google.rpc.Status` in JSON form to `text`; its details follow the rules of
/// [`write_status`](crate::otlp::write_status).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use outspan_wire::grpc::Code;
/// use outspan_wire::otlp::RpcStatus;
/// use outspan_wire::otlp::write_json_status;
///
/// let mut status = RpcStatus::new(Code::Unavailable, "full");
/// status.retry_delay = Some(Duration::from_millis(1500));
///
/// let mut text = Vec::new();
/// write_json_status(&status, &mut text);
/// assert_eq!(
///     String::from_utf8_lossy(&text),
///     r#"{"code":14,"message":"full","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.500s"}]}"#,
/// );
/// ```
pub fn write_json_status(status: &RpcStatus, text: &mut Vec<u8>) {
    let mut writer = Writer::new(text);
    writer.begin(b'{');
    writer.enumeration("code", status.code);
    writer.text_unless_empty("message", &status.message);
    if status.retry_delay.is_some() || !status.violations.is_empty() {
        writer.key("details");
        writer.begin(b'[');
        if let Some(delay) = status.retry_delay {
            begin_detail(&mut writer, Detail::RetryInfo);
            writer.key("retryDelay");
            writer.text(&duration_text(delay.min(RETRY_DELAY_MAX)));
            writer.end(b'}');
        }
        if !status.violations.is_empty() {
            begin_detail(&mut writer, Detail::BadRequest);
            let violations = status.violations.iter().take(VIOLATIONS_MAX);
            writer.array("fieldViolations", violations, write_violation);
            writer.end(b'}');
        }
        writer.end(b']');
    }
    writer.end(b'}');
}

fn begin_detail(writer: &mut Writer<'_>, detail: Detail) {
    writer.begin(b'{');
    writer.key("@type");
    writer.text(detail.type_url());
}

fn write_violation(writer: &mut Writer<'_>, violation: &FieldViolation) {
    writer.begin(b'{');
    writer.text_unless_empty("field", &violation.field);
    writer.text_unless_empty("description", &violation.description);
    writer.end(b'}');
}

/// Writes a duration as the JSON mapping wants it: seconds with 0, 3, 6 or 9 decimals, as few as will do.
fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let nanos = duration.subsec_nanos();
    if nanos == 0 {
        return format!("{seconds}s");
    }
    if nanos.is_multiple_of(1_000_000) {
        return format!("{seconds}.{:03}s", nanos / 1_000_000);
    }
    if nanos.is_multiple_of(1_000) {
        return format!("{seconds}.{:06}s", nanos / 1_000);
    }
    format!("{seconds}.{nanos:09}s")
}
