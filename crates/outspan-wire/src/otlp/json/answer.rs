//! What an OTLP server answers, in JSON: `ExportTraceServiceResponse` and `google.rpc.Status`.

mod write;

use std::borrow::Cow;
use std::time::Duration;

use crate::error::WireError;
use crate::json::Kind;
use crate::json::Text;
use crate::otlp::answer::Detail;
use crate::otlp::answer::FieldViolation;
use crate::otlp::answer::PartialSuccess;
use crate::otlp::answer::RETRY_DELAY_MAX;
use crate::otlp::answer::RpcStatus;
use crate::otlp::answer::VIOLATIONS_MAX;

pub use self::write::write_json_response;
pub use self::write::write_json_status;

/// Reads an `ExportTraceServiceResponse` in JSON form, with the tolerance of [`read_json`](super::read_json).
///
/// # Errors
///
/// Says what is wrong with the text, and where.
///
/// # Examples
///
/// ```
/// use outspan_wire::otlp::read_json_response;
///
/// let answer = br#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}"#;
/// assert_eq!(read_json_response(answer)?.rejected_spans, 2);
/// # Ok::<(), outspan_wire::otlp::WireError>(())
/// ```
pub fn read_json_response(text: &[u8]) -> Result<PartialSuccess, WireError> {
    let mut text = Text::new(text)?;
    let mut partial = PartialSuccess::default();
    text.begin_object()?;
    while let Some(key) = text.next_key()? {
        if text.take_null()? {
            continue;
        }
        match &*key {
            b"partialSuccess" => read_partial_success(&mut text, &mut partial)?,
            _ => text.skip_value()?,
        }
    }
    text.finish()?;
    Ok(partial)
}

fn read_partial_success(
    text: &mut Text<'_>,
    partial: &mut PartialSuccess,
) -> Result<(), WireError> {
    text.begin_object()?;
    while let Some(key) = text.next_key()? {
        if text.take_null()? {
            continue;
        }
        match &*key {
            b"rejectedSpans" => {
                let count: i64 = text.integer()?;
                partial.rejected_spans = u64::try_from(count).unwrap_or_default();
            }
            b"errorMessage" => partial.error_message = owned(text.string()?.decoded()),
            _ => text.skip_value()?,
        }
    }
    Ok(())
}

/// Reads a `google.rpc.Status` in JSON form, with the `RetryInfo` and the `BadRequest` of its details.
///
/// # Errors
///
/// Says what is wrong with the text, and where.
pub fn read_json_status(text: &[u8]) -> Result<RpcStatus, WireError> {
    let mut text = Text::new(text)?;
    let mut status = RpcStatus::default();
    text.begin_object()?;
    while let Some(key) = text.next_key()? {
        if text.take_null()? {
            continue;
        }
        match &*key {
            b"code" => status.code = text.integer()?,
            b"message" => status.message = owned(text.string()?.decoded()),
            b"details" => read_details(&mut text, &mut status)?,
            _ => text.skip_value()?,
        }
    }
    text.finish()?;
    Ok(status)
}

fn read_details(text: &mut Text<'_>, status: &mut RpcStatus) -> Result<(), WireError> {
    text.begin_array()?;
    while text.next_item()? {
        read_detail(text, status)?;
    }
    Ok(())
}

/// Reads a detail of any type. Which it is may stand behind what it says.
fn read_detail(text: &mut Text<'_>, status: &mut RpcStatus) -> Result<(), WireError> {
    let mut detail = None;
    let mut delay = None;
    let mut violations = Vec::new();
    text.begin_object()?;
    while let Some(key) = text.next_key()? {
        if text.take_null()? {
            continue;
        }
        match (&*key, text.kind()?) {
            (b"@type", Kind::String) => detail = Detail::of(&text.string()?.decoded()),
            (b"retryDelay", Kind::String) => delay = parse_duration(&text.string()?.decoded()),
            (b"fieldViolations", Kind::Array) => read_violations(text, &mut violations)?,
            _ => text.skip_value()?,
        }
    }
    match detail {
        Some(Detail::RetryInfo) => status.retry_delay = Some(delay.unwrap_or_default()),
        Some(Detail::BadRequest) => {
            let room = VIOLATIONS_MAX.saturating_sub(status.violations.len());
            status.violations.extend(violations.into_iter().take(room));
        }
        None => {}
    }
    Ok(())
}

fn read_violations(
    text: &mut Text<'_>,
    violations: &mut Vec<FieldViolation>,
) -> Result<(), WireError> {
    text.begin_array()?;
    while text.next_item()? {
        if violations.len() >= VIOLATIONS_MAX || text.kind()? != Kind::Object {
            text.skip_value()?;
            continue;
        }
        violations.push(read_violation(text)?);
    }
    Ok(())
}

fn read_violation(text: &mut Text<'_>) -> Result<FieldViolation, WireError> {
    let mut violation = FieldViolation::default();
    text.begin_object()?;
    while let Some(key) = text.next_key()? {
        match (&*key, text.kind()?) {
            (b"field", Kind::String) => violation.field = owned(text.string()?.decoded()),
            (b"description", Kind::String) => {
                violation.description = owned(text.string()?.decoded());
            }
            _ => text.skip_value()?,
        }
    }
    Ok(violation)
}

/// Reads a duration of the proto3 JSON mapping, such as `1.5s`. At most a day; a negative one counts as zero.
fn parse_duration(text: &[u8]) -> Option<Duration> {
    let seconds = std::str::from_utf8(text).ok()?.strip_suffix('s')?;
    let seconds: f64 = seconds.parse().ok()?;
    if seconds.is_nan() {
        return None;
    }
    let bounded = seconds.clamp(0.0, RETRY_DELAY_MAX.as_secs_f64());
    Some(Duration::from_secs_f64(bounded))
}

fn owned(text: Cow<'_, [u8]>) -> String {
    // Decoding JSON text that was checked for UTF-8 gives UTF-8.
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(text: &str) -> PartialSuccess {
        read_json_response(text.as_bytes()).expect("it is an answer")
    }

    fn status(text: &str) -> RpcStatus {
        read_json_status(text.as_bytes()).expect("it is a status")
    }

    #[test]
    fn an_empty_answer_is_full_success() {
        for text in [
            "{}",
            r#"{"partialSuccess":null}"#,
            r#"{"partialSuccess":{}}"#,
        ] {
            assert_eq!(response(text), PartialSuccess::default(), "{text}");
        }
    }

    #[test]
    fn rejected_spans_may_be_a_string_or_a_number() {
        for count in ["7", r#""7""#, "7.0"] {
            let answer = format!(
                r#"{{"x":[1],"partialSuccess":{{"rejectedSpans":{count},"errorMessage":"a\nb","y":{{}}}}}}"#
            );
            assert_eq!(response(&answer).rejected_spans, 7, "{count}");
            assert_eq!(response(&answer).error_message, "a\nb");
        }
        let negative = response(r#"{"partialSuccess":{"rejectedSpans":"-1"}}"#);
        assert_eq!(negative.rejected_spans, 0);
    }

    #[test]
    fn a_status_gives_its_words_and_its_delay() {
        let status = status(
            r#"{"code":14,"message":"busy","details":[{"@type":"type.googleapis.com/google.rpc.Help"},
            {"retryDelay":"1.5s","@type":"type.googleapis.com/google.rpc.RetryInfo"}]}"#,
        );
        assert_eq!((status.code, status.message.as_str()), (14, "busy"));
        assert_eq!(status.retry_delay, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn delays_are_bounded_and_nonsense_is_no_wait() {
        let delay = |text: &str| {
            let detail = format!(
                r#"{{"details":[{{"@type":"x/google.rpc.RetryInfo","retryDelay":"{text}"}}]}}"#
            );
            status(&detail).retry_delay
        };
        assert_eq!(delay("1e300s"), Some(RETRY_DELAY_MAX));
        assert_eq!(delay("infs"), Some(RETRY_DELAY_MAX));
        assert_eq!(delay("-5s"), Some(Duration::ZERO));
        assert_eq!(delay("NaNs"), Some(Duration::ZERO));
        assert_eq!(delay("soon"), Some(Duration::ZERO));
        let bare = r#"{"details":[{"@type":"x/google.rpc.RetryInfo"}]}"#;
        assert_eq!(status(bare).retry_delay, Some(Duration::ZERO));
        assert_eq!(
            status(r#"{"details":[{"retryDelay":"5s"}]}"#).retry_delay,
            None
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in ["", "[]", "null", "<html>", r#"{"partialSuccess":[]}"#] {
            assert!(read_json_response(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["", "{", r#"{"code":"x"}"#, "{} {}"] {
            assert!(read_json_status(text.as_bytes()).is_err(), "{text}");
        }
    }
}
