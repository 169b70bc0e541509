//! What an OTLP server answers: `ExportTraceServiceResponse` and `google.rpc.Status`.
//!
//! ```text
//! ExportTraceServiceResponse { 1: partial_success { 1: int64 rejected_spans, 2: string error_message } }
//! Status    { 1: int32 code, 2: string message, 3: repeated Any details }
//! Any       { 1: string type_url, 2: bytes value }
//! RetryInfo { 1: Duration retry_delay { 1: int64 seconds, 2: int32 nanos } }
//! BadRequest     { 1: repeated FieldViolation field_violations }
//! FieldViolation { 1: string field, 2: string description }
//! ```
//!
//! Of the details that a status can have, OTLP names two: `RetryInfo` ("OTLP/gRPC Throttling") and `BadRequest`
//! ("Failures", "Bad Data"). Others are passed over. What is read of an answer, and written into one, is bounded:
//! a delay of a day, and [`VIOLATIONS_MAX`] violations.

mod write;

use std::time::Duration;

use super::reader::FieldValue;
use super::reader::Fields;
use crate::error::WireError;
use crate::grpc::Code;

pub use self::write::write_response;
pub use self::write::write_status;

/// The longest wait that an answer can ask for; a longer one is a mistake of the server's.
pub(super) const RETRY_DELAY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How many violations of a status are read and written.
///
/// Nobody reads more of them, and an answer of two bytes a violation must not take up memory a thousandfold.
pub(super) const VIOLATIONS_MAX: usize = 64;

/// Shows where text was cut.
const ELLIPSIS: &str = "…";

/// Says what a server left out of a request that it accepted.
///
/// All zero and empty means full success (`trace_service.proto`, `ExportTraceServiceResponse`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialSuccess {
    /// How many spans the server refused for good. Negative numbers, which make no sense, count as none.
    pub rejected_spans: u64,
    /// Why, or a warning if none was refused.
    pub error_message: String,
}

impl PartialSuccess {
    /// Tells whether everything was accepted and there is nothing to say about it.
    pub fn is_full_success(&self) -> bool {
        *self == Self::default()
    }

    /// Cuts the message to at most `bytes_max` bytes, between two characters; `…` ends it where there is room.
    ///
    /// A server bounds its answers and shortens the message of one that would be too long
    /// ("OTLP/gRPC Response", "OTLP/HTTP Response").
    pub fn shorten(&mut self, bytes_max: usize) {
        cut(&mut self.error_message, bytes_max);
    }
}

/// Says why a server refused a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RpcStatus {
    /// The gRPC code.
    pub code: i32,
    /// The server's words for developers.
    pub message: String,
    /// How long to wait before trying again, if the server said that trying again makes sense (`RetryInfo`).
    /// Zero means: no special wait. At most a day, also when written.
    pub retry_delay: Option<Duration>,
    /// What is wrong with the request, place by place (`BadRequest`). Only the first 64 are read and written.
    pub violations: Vec<FieldViolation>,
}

impl RpcStatus {
    /// Makes a status without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code.number(),
            message: message.into(),
            ..Self::default()
        }
    }

    /// Cuts the texts until all of them together have at most `bytes_max` bytes.
    ///
    /// The message comes first, then the violations in their order; those that no byte is left for are removed. Cuts are
    /// between two characters, and `…` ends a cut text where there is room. What is written besides text has at most
    /// 150 bytes and 12 for each violation in protobuf; over gRPC, base64 makes four bytes of three, and many peers
    /// take 8 KiB of trailers in all.
    pub fn shorten(&mut self, bytes_max: usize) {
        cut(&mut self.message, bytes_max);
        let mut left = bytes_max - self.message.len();
        self.violations.retain_mut(|violation| {
            cut(&mut violation.field, left);
            left -= violation.field.len();
            cut(&mut violation.description, left);
            left -= violation.description.len();
            !violation.field.is_empty() || !violation.description.is_empty()
        });
    }
}

/// Says what is wrong at one place of a request (`google.rpc.BadRequest.FieldViolation`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldViolation {
    /// The place, such as `resource_spans[0].scope_spans[0].spans[7].trace_id`.
    pub field: String,
    /// What is wrong there, and what would be right.
    pub description: String,
}

/// Reads an `ExportTraceServiceResponse` in protobuf form. Text that is not UTF-8 is read as far as it goes.
///
/// # Errors
///
/// Says what is wrong with the bytes, and where.
pub fn read_response(bytes: &[u8]) -> Result<PartialSuccess, WireError> {
    let mut partial = PartialSuccess::default();
    each_field(bytes, bytes, &mut |number, value| {
        let (1, FieldValue::Bytes(message)) = (number, value) else {
            return Ok(());
        };
        each_field(message, bytes, &mut |number, value| {
            match (number, value) {
                (1, FieldValue::Varint(count)) => partial.rejected_spans = not_negative(count),
                (2, FieldValue::Bytes(text)) => partial.error_message = lossy(text),
                _ => {}
            }
            Ok(())
        })
    })?;
    Ok(partial)
}

/// Reads a `google.rpc.Status` in protobuf form, with the `RetryInfo` and the `BadRequest` of its details.
///
/// # Errors
///
/// Says what is wrong with the bytes, and where.
pub fn read_status(bytes: &[u8]) -> Result<RpcStatus, WireError> {
    let mut status = RpcStatus::default();
    each_field(bytes, bytes, &mut |number, value| {
        match (number, value) {
            (1, FieldValue::Varint(code)) => status.code = code as i32,
            (2, FieldValue::Bytes(text)) => status.message = lossy(text),
            (3, FieldValue::Bytes(any)) => read_detail(any, bytes, &mut status)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(status)
}

fn read_detail(any: &[u8], whole: &[u8], status: &mut RpcStatus) -> Result<(), WireError> {
    let mut type_url: &[u8] = &[];
    let mut value: &[u8] = &[];
    each_field(any, whole, &mut |number, field| {
        match (number, field) {
            (1, FieldValue::Bytes(bytes)) => type_url = bytes,
            (2, FieldValue::Bytes(bytes)) => value = bytes,
            _ => {}
        }
        Ok(())
    })?;
    match Detail::of(type_url) {
        Some(Detail::RetryInfo) => status.retry_delay = Some(read_retry_info(value, whole)?),
        Some(Detail::BadRequest) => read_bad_request(value, whole, &mut status.violations)?,
        None => {}
    }
    Ok(())
}

fn read_retry_info(value: &[u8], whole: &[u8]) -> Result<Duration, WireError> {
    let (mut seconds, mut nanos) = (0, 0);
    each_field(value, whole, &mut |number, field| {
        let (1, FieldValue::Bytes(duration)) = (number, field) else {
            return Ok(());
        };
        each_field(duration, whole, &mut |number, field| {
            match (number, field) {
                (1, FieldValue::Varint(value)) => seconds = not_negative(value),
                (2, FieldValue::Varint(value)) => nanos = not_negative(value),
                _ => {}
            }
            Ok(())
        })
    })?;
    let delay = Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos));
    Ok(delay.min(RETRY_DELAY_MAX))
}

fn read_bad_request(
    value: &[u8],
    whole: &[u8],
    violations: &mut Vec<FieldViolation>,
) -> Result<(), WireError> {
    each_field(value, whole, &mut |number, field| {
        let (1, FieldValue::Bytes(message)) = (number, field) else {
            return Ok(());
        };
        if violations.len() >= VIOLATIONS_MAX {
            return Ok(());
        }
        let mut violation = FieldViolation::default();
        each_field(message, whole, &mut |number, field| {
            match (number, field) {
                (1, FieldValue::Bytes(text)) => violation.field = lossy(text),
                (2, FieldValue::Bytes(text)) => violation.description = lossy(text),
                _ => {}
            }
            Ok(())
        })?;
        violations.push(violation);
        Ok(())
    })
}

/// The details of a status that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    RetryInfo,
    BadRequest,
}

impl Detail {
    /// Tells which detail a type URL names. What stands before the last slash, usually a host, does not matter.
    pub(super) fn of(type_url: &[u8]) -> Option<Self> {
        if type_url.ends_with(b"/google.rpc.RetryInfo") {
            return Some(Self::RetryInfo);
        }
        type_url
            .ends_with(b"/google.rpc.BadRequest")
            .then_some(Self::BadRequest)
    }

    /// Returns the type URL as everybody writes it.
    pub(super) fn type_url(self) -> &'static str {
        match self {
            Self::RetryInfo => "type.googleapis.com/google.rpc.RetryInfo",
            Self::BadRequest => "type.googleapis.com/google.rpc.BadRequest",
        }
    }
}

fn each_field<'a>(
    message: &'a [u8],
    whole: &[u8],
    visit: &mut dyn FnMut(u32, FieldValue<'a>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let mut fields = Fields::new(message);
    loop {
        match fields.read() {
            Ok(Some(field)) => visit(field.number, field.value)?,
            Ok(None) => return Ok(()),
            Err(fault) => {
                let offset = fault.offset_in(whole);
                return Err(WireError::new(
                    fault.kind,
                    offset,
                    String::new(),
                    String::new(),
                ));
            }
        }
    }
}

fn not_negative(value: u64) -> u64 {
    u64::try_from(value as i64).unwrap_or(0)
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn cut(text: &mut String, bytes_max: usize) {
    if text.len() <= bytes_max {
        return;
    }
    let mark = if bytes_max < ELLIPSIS.len() {
        ""
    } else {
        ELLIPSIS
    };
    text.truncate(text.floor_char_boundary(bytes_max - mark.len()));
    text.push_str(mark);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    proptest! {
        #[test]
        fn reads_what_prost_writes(rejected in any::<i64>(), text in ".*") {
            let response = ExportTraceServiceResponse {
                partial_success: Some(ExportTracePartialSuccess {
                    rejected_spans: rejected,
                    error_message: text.clone(),
                }),
            };
            let read = read_response(&response.encode_to_vec()).unwrap();
            prop_assert_eq!(read.rejected_spans, u64::try_from(rejected).unwrap_or(0));
            prop_assert_eq!(read.error_message, text);
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let ours = read_response(&bytes);
            if ExportTraceServiceResponse::decode(&bytes[..]).is_ok() {
                prop_assert!(ours.is_ok());
            }
            drop(read_status(&bytes));
        }
    }

    #[test]
    fn an_empty_answer_is_full_success() {
        assert_eq!(read_response(&[]).unwrap(), PartialSuccess::default());
    }

    #[test]
    fn retry_info_is_found_among_the_details() {
        let duration = [0x08, 0x02, 0x10, 0x80, 0xe5, 0x9a, 0x77]; // 2 s, 250_000_000 ns
        let mut info = vec![0x0a, duration.len() as u8];
        info.extend(duration);
        let url = b"type.googleapis.com/google.rpc.RetryInfo";
        let mut any = vec![0x0a, url.len() as u8];
        any.extend(url);
        any.extend([0x12, info.len() as u8]);
        any.extend(info);
        let mut status = vec![0x08, 0x0e, 0x12, 0x04];
        status.extend(b"full");
        status.extend([0x1a, any.len() as u8]);
        status.extend(any);

        let read = read_status(&status).unwrap();
        assert_eq!(read.code, 14);
        assert_eq!(read.message, "full");
        assert_eq!(read.retry_delay, Some(Duration::from_millis(2250)));
    }
}
