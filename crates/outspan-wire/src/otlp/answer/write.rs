//! Answers in protobuf form.

use super::Detail;
use super::FieldViolation;
use super::PartialSuccess;
use super::RETRY_DELAY_MAX;
use super::RpcStatus;
use super::VIOLATIONS_MAX;
use crate::otlp::writer::close;
use crate::otlp::writer::open;
use crate::otlp::writer::push_bytes;
use crate::otlp::writer::push_int;
use crate::otlp::writer::push_uint;

/// The width of a length below 128.
const UP_TO_127: usize = 1;

/// Appends an `ExportTraceServiceResponse` in protobuf form to `out`.
///
/// Full success leaves `partial_success` unset, which makes an empty message ("Full Success"); a warning about spans
/// that were all accepted is a message with no rejected spans ("Partial Success"). More rejected spans than `int64`
/// can hold are written as its maximum.
///
/// # Examples
///
/// ```
/// use outspan_wire::otlp::PartialSuccess;
/// use outspan_wire::otlp::read_response;
/// use outspan_wire::otlp::write_response;
///
/// let mut answer = Vec::new();
/// write_response(&PartialSuccess::default(), &mut answer);
/// assert!(answer.is_empty());
///
/// let partial = PartialSuccess {
///     rejected_spans: 2,
///     error_message: "2 spans have no trace id: send 16 bytes that are not all zero".to_owned(),
/// };
/// write_response(&partial, &mut answer);
/// assert_eq!(read_response(&answer)?, partial);
/// # Ok::<(), outspan_wire::otlp::WireError>(())
/// ```
pub fn write_response(partial: &PartialSuccess, out: &mut Vec<u8>) {
    if partial.is_full_success() {
        return;
    }
    let message = open(out, 1, UP_TO_127);
    if partial.rejected_spans != 0 {
        let rejected = partial.rejected_spans.min(i64::MAX as u64);
        push_uint(out, 1, rejected);
    }
    push_text(out, 2, &partial.error_message);
    close(out, message);
}

/// Appends a `google.rpc.Status` in protobuf form to `out`.
///
/// Its details are a `RetryInfo` if there is a delay, cut to a day, and a `BadRequest` if there are violations, of which
/// the first 64 are written.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use outspan_wire::grpc::Code;
/// use outspan_wire::otlp::RpcStatus;
/// use outspan_wire::otlp::read_status;
/// use outspan_wire::otlp::write_status;
///
/// let mut status = RpcStatus::new(Code::Unavailable, "the queue is full, send again later");
/// status.retry_delay = Some(Duration::from_secs(2));
///
/// let mut bytes = Vec::new();
/// write_status(&status, &mut bytes);
/// assert_eq!(read_status(&bytes)?, status);
/// # Ok::<(), outspan_wire::otlp::WireError>(())
/// ```
pub fn write_status(status: &RpcStatus, out: &mut Vec<u8>) {
    if status.code != 0 {
        push_int(out, 1, i64::from(status.code));
    }
    push_text(out, 2, &status.message);
    if let Some(delay) = status.retry_delay {
        let delay = delay.min(RETRY_DELAY_MAX);
        push_detail(out, Detail::RetryInfo, |out| {
            let duration = open(out, 1, UP_TO_127);
            push_uint_unless_zero(out, 1, delay.as_secs());
            push_uint_unless_zero(out, 2, u64::from(delay.subsec_nanos()));
            close(out, duration);
        });
    }
    if !status.violations.is_empty() {
        push_detail(out, Detail::BadRequest, |out| {
            for violation in status.violations.iter().take(VIOLATIONS_MAX) {
                push_violation(out, violation);
            }
        });
    }
}

/// Appends one of a status's details, an `Any`.
fn push_detail(out: &mut Vec<u8>, detail: Detail, write_value: impl FnOnce(&mut Vec<u8>)) {
    let any = open(out, 3, UP_TO_127);
    push_bytes(out, 1, detail.type_url().as_bytes());
    let value = open(out, 2, UP_TO_127);
    write_value(out);
    close(out, value);
    close(out, any);
}

fn push_violation(out: &mut Vec<u8>, violation: &FieldViolation) {
    let message = open(out, 1, UP_TO_127);
    push_text(out, 1, &violation.field);
    push_text(out, 2, &violation.description);
    close(out, message);
}

fn push_text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        push_bytes(out, field, text.as_bytes());
    }
}

fn push_uint_unless_zero(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        push_uint(out, field, value);
    }
}
