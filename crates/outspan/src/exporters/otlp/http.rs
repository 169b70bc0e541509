//! What HTTP statuses and bodies mean for a batch.

use std::time::Duration;
use std::time::SystemTime;

use http::HeaderMap;
use http::StatusCode;
use http::header;
use outspan_wire::otlp;
use outspan_wire::otlp::PartialSuccess;

use crate::Error;
use crate::ErrorKind;
use crate::Secret;
use crate::net::scrub;

/// The longest wait that a server can ask for; a longer one is a mistake of the server's.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How much of a server's words is shown.
const WORDS_MAX: usize = 300;

/// Reads the answer to an accepted request.
///
/// An empty body is full success, and so is a body in a format that is none of OTLP's (some servers answer `ok`). A web page is
/// no acceptance: a login page or a proxy answers 200 as well.
pub(super) fn read_success(headers: &HeaderMap, body: &[u8]) -> Result<PartialSuccess, Error> {
    // gRPC servers answer whatever they do not know with HTTP 200, an empty body and a status of their own.
    if headers.contains_key("grpc-status") || media_type(headers).starts_with("application/grpc") {
        return Err(Error::refused(
            "the server answered as gRPC does: OTLP/HTTP usually listens on port 4318, OTLP/gRPC on 4317",
        ));
    }
    if body.is_empty() {
        return Ok(PartialSuccess::default());
    }
    let unreadable = || PartialSuccess {
        rejected_spans: 0,
        error_message: "the server accepted the request, but its answer cannot be read".into(),
    };
    match media_type(headers).as_str() {
        "application/x-protobuf" => Ok(otlp::read_response(body).unwrap_or_else(|_| unreadable())),
        "application/json" => Ok(otlp::read_json_response(body).unwrap_or_else(|_| unreadable())),
        "text/html" => Err(Error::refused(
            "the server answered with a web page, not with OTLP: check host, port and path of the endpoint",
        )),
        _ => Ok(PartialSuccess::default()),
    }
}

/// Turns an answer other than success into an error, by OTLP's table ("OTLP/HTTP Failures", "Retryable Response Codes").
///
/// `secrets` are taken out of the server's words.
pub(super) fn read_failure(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    secrets: &[Secret],
) -> Error {
    let (kind, hint) = match status.as_u16() {
        429 => (ErrorKind::Throttled, ""),
        502..=504 => (ErrorKind::Unavailable, ""),
        413 => (ErrorKind::TooLarge, ""),
        401 => (
            ErrorKind::Refused,
            " (the server does not know us: check the token in the headers)",
        ),
        403 => (
            ErrorKind::Refused,
            " (the server knows us but does not allow it: check what the token may do)",
        ),
        404 => (
            ErrorKind::Refused,
            " (nothing there: check the path; OTLP/HTTP usually is at /v1/traces)",
        ),
        405 => (
            ErrorKind::Refused,
            " (no POST here: check the path of the endpoint)",
        ),
        415 => (
            ErrorKind::Refused,
            " (the server does not take this format: try the other of protobuf and JSON, or another compression)",
        ),
        300..=399 => (
            ErrorKind::Refused,
            " (redirects are not followed: put the new address into the endpoint)",
        ),
        _ => (ErrorKind::Refused, ""),
    };
    let location = headers.get(header::LOCATION).and_then(|l| l.to_str().ok());
    let words = match location {
        Some(location) => format!("to {}", fit_to_show(location, secrets)),
        None => fit_to_show(&words_of(headers, body), secrets),
    };
    let colon = if words.is_empty() { "" } else { ": " };
    let mut error = Error::new(
        kind,
        format!("the server answered HTTP {status}{colon}{words}{hint}"),
    )
    .with_status(status.as_u16());
    if error.is_temporary()
        && let Some(delay) = retry_after(headers, SystemTime::now())
    {
        error = error.with_retry_after(delay);
    }
    error
}

/// Reads `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3). A date in the past asks for no wait.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        // More digits than fit are a long time all the same.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(delay.min(RETRY_AFTER_MAX)).filter(|delay| !delay.is_zero())
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// The server's own words: the message of a `google.rpc.Status`, or the beginning of a text.
fn words_of(headers: &HeaderMap, body: &[u8]) -> String {
    let message = match media_type(headers).as_str() {
        "application/x-protobuf" => otlp::read_status(body).ok().map(|status| status.message),
        // JSON of another shape is shown as it is.
        "application/json" => otlp::read_json_status(body)
            .ok()
            .map(|status| status.message)
            .filter(|message| !message.is_empty()),
        "text/html" => Some(String::new()),
        _ => None,
    };
    message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
}

/// Makes foreign text fit for a log line: without secrets, one line, bounded, without control characters.
pub(super) fn fit_to_show(text: &str, secrets: &[Secret]) -> String {
    // First the secrets: what is cut short is not found any more.
    let text = scrub(text, secrets);
    let text = text.trim();
    let shown: String = text
        .chars()
        .take(WORDS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match text.chars().nth(WORDS_MAX) {
        Some(_) => format!("{shown}…"),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.insert(name, value.parse().unwrap());
        map
    }

    #[test]
    fn the_table_of_otlp_decides_what_is_temporary() {
        for status in (300..600).filter_map(|status| StatusCode::from_u16(status).ok()) {
            let temporary = [429, 502, 503, 504].contains(&status.as_u16());
            let error = read_failure(status, &HeaderMap::new(), b"", &[]);
            assert_eq!(error.is_temporary(), temporary, "{status}");
            assert_eq!(error.status(), Some(status.as_u16()));
        }
        let too_large = read_failure(StatusCode::PAYLOAD_TOO_LARGE, &HeaderMap::new(), b"", &[]);
        assert!(too_large.is_too_large());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let read = |text: &str| retry_after(&headers(header::RETRY_AFTER, text), now);
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            read("Sun, 06 Nov 1994 08:50:07 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), None);
        assert_eq!(read("0"), None);
        assert_eq!(read("-5"), None);
        assert_eq!(read("soon"), None);
        assert_eq!(read("99999999999999999999999"), Some(RETRY_AFTER_MAX));
    }

    #[test]
    fn success_is_read_in_either_format() {
        let json = headers(header::CONTENT_TYPE, "application/json; charset=utf-8");
        let body = br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}}"#;
        let partial = read_success(&json, body).unwrap();
        assert_eq!(
            (partial.rejected_spans, partial.error_message.as_str()),
            (3, "no")
        );
        assert_eq!(
            read_success(&json, b"{}").unwrap(),
            PartialSuccess::default()
        );
        let garbage = read_success(&json, b"{").unwrap();
        assert!(garbage.error_message.contains("cannot be read"));
        let page = headers(header::CONTENT_TYPE, "text/html");
        assert!(read_success(&page, b"<html>").is_err());
        let grpc = headers("grpc-status".parse().unwrap(), "12");
        assert!(read_success(&grpc, b"").is_err());
        let text = headers(header::CONTENT_TYPE, "text/plain");
        assert_eq!(
            read_success(&text, b"ok").unwrap(),
            PartialSuccess::default()
        );
    }

    #[test]
    fn foreign_words_are_bounded_and_harmless() {
        let text = headers(header::CONTENT_TYPE, "text/plain");
        let error = read_failure(StatusCode::BAD_REQUEST, &text, b"bad\x1b[31m\nthing", &[]);
        assert!(!error.to_string().contains(['\x1b', '\n']), "{error}");
        let long = read_failure(StatusCode::BAD_REQUEST, &text, &[b'x'; 10_000], &[]);
        assert!(long.to_string().len() < 500);
    }

    #[test]
    fn a_secret_that_is_repeated_is_taken_out_wherever_it_stands() {
        let text = headers(header::CONTENT_TYPE, "text/plain");
        let secrets = [Secret::new("Bearer s3cr3t-token")];
        for before in 280..310 {
            let words = format!("{} s3cr3t-token", "x".repeat(before));
            let error = read_failure(StatusCode::BAD_REQUEST, &text, words.as_bytes(), &secrets);
            assert!(!error.to_string().contains("s3c"), "{error}");
        }
    }
}
