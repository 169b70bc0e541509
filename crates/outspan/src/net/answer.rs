//! What HTTP statuses mean for a batch, and how much of a server's words is shown.

use std::time::Duration;
use std::time::SystemTime;

use http::HeaderMap;
use http::StatusCode;
use http::header;
use outspan_wire::otlp;

use crate::Attempt;
use crate::Error;
use crate::ErrorKind;
use crate::Secret;

use super::named_limit;
use super::scrub;
use super::without_credentials;

/// An answer of the server's, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// What a server said that took a message.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    /// How many of its spans it refused all the same.
    pub(crate) refused: u64,
    pub(crate) message: String,
    pub(crate) status: u16,
}

impl Accepted {
    /// Every span was taken, and nothing else said.
    pub(crate) fn all(status: StatusCode) -> Self {
        Self {
            status: status.as_u16(),
            ..Self::default()
        }
    }
}

/// The longest wait that a server can ask for; a longer one is a mistake of the server's.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How much of a server's words is shown.
const WORDS_MAX: usize = 300;

/// Tells what statuses mean in one protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statuses {
    /// Statuses with which the same request may succeed later. 413 and 429 mean the same everywhere.
    pub(crate) unavailable: &'static [u16],
    /// Where the protocol's servers usually listen: empty, or words that begin with `; `.
    pub(crate) usual_path: &'static str,
    /// What to try when the server does not take the format.
    pub(crate) other_formats: &'static str,
}

/// Turns an answer other than success into an error.
///
/// `secrets` are taken out of the server's words.
pub(crate) fn read_failure(statuses: &Statuses, answer: &Answer, secrets: &[Secret]) -> Error {
    let (status, headers) = (answer.status, &answer.headers);
    let (kind, hint) = statuses.meaning(status.as_u16());
    let location = headers.get(header::LOCATION).and_then(|l| l.to_str().ok());
    let said = words_of(headers, &answer.body);
    let words = match location {
        // Secrets first: they are not found in a text that was cut.
        Some(location) => {
            let location = without_credentials(&scrub(location, secrets));
            format!("to {}", fit_to_show(&location, &[]))
        }
        None => fit_to_show(&said, secrets),
    };
    let colon = if words.is_empty() { "" } else { ": " };
    let mut error = Error::new(
        kind,
        format!("the server answered HTTP {status}{colon}{words}{hint}"),
    )
    .with_attempt(Attempt::default().with_status(status.as_u16()));
    if error.is_temporary()
        && let Some(delay) = retry_after(headers, SystemTime::now())
    {
        error = error.with_retry_after(delay);
    }
    let limit = match error.is_too_large() {
        // JSON may have the number in another field than the message.
        true => named_limit(&said).or_else(|| match media_type(headers).as_str() {
            "application/json" => named_limit(&String::from_utf8_lossy(&answer.body)),
            _ => None,
        }),
        false => None,
    };
    match limit {
        Some(limit) => error.with_limit(limit),
        None => error,
    }
}

impl Statuses {
    fn meaning(&self, status: u16) -> (ErrorKind, String) {
        let refused = |hint: &str| (ErrorKind::Refused, hint.to_owned());
        match status {
            429 => (ErrorKind::Throttled, String::new()),
            413 => (ErrorKind::TooLarge, String::new()),
            _ if self.unavailable.contains(&status) => (ErrorKind::Unavailable, String::new()),
            401 => refused(" (the server does not know us: check the token in the headers)"),
            403 => {
                refused(" (the server knows us but does not allow it: check what the token may do)")
            }
            404 => {
                let usual_path = self.usual_path;
                refused(&format!(" (nothing there: check the path{usual_path})"))
            }
            405 => refused(" (no POST here: check the path of the endpoint)"),
            415 => {
                let other_formats = self.other_formats;
                refused(&format!(
                    " (the server does not take this format: try {other_formats})"
                ))
            }
            300..=399 => {
                refused(" (redirects are not followed: put the new address into the endpoint)")
            }
            _ => refused(""),
        }
    }
}

/// Reads an answer whose status says everything, from servers that answer a success without a body. `expected` and `ports` are
/// those of [`check_success`].
pub(crate) fn read_status(
    statuses: &Statuses,
    (expected, ports): (&str, &str),
    answer: &Answer,
    secrets: &[Secret],
) -> Result<Accepted, Error> {
    if !answer.status.is_success() {
        return Err(read_failure(statuses, answer, secrets));
    }
    check_success(&answer.headers, expected, ports)?;
    Ok(Accepted::all(answer.status))
}

/// Says why a success is none: a login page answers 200 as well, and gRPC servers answer whatever they do not know with
/// HTTP 200, an empty body and a status of their own. `expected` is what the answer should have been.
pub(crate) fn check_success(headers: &HeaderMap, expected: &str, ports: &str) -> Result<(), Error> {
    let media_type = media_type(headers);
    if headers.contains_key("grpc-status") || media_type.starts_with("application/grpc") {
        return Err(Error::refused(format!(
            "the server answered as gRPC does: {ports}"
        )));
    }
    if media_type == "text/html" {
        return Err(Error::refused(format!(
            "the server answered with a web page, not with {expected}: check host, port and path of the endpoint"
        )));
    }
    Ok(())
}

/// Reads `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3). A date in the past asks for no wait.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
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

pub(crate) fn media_type(headers: &HeaderMap) -> String {
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
pub(crate) fn fit_to_show(text: &str, secrets: &[Secret]) -> String {
    // First the secrets: what is cut short is not found any more.
    let text = without_url_credentials(&scrub(text, secrets));
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

/// Takes user info, query and fragment out of each URL in a peer's text; they may be credentials of somebody else.
fn without_url_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(place) = rest.find("://") {
        let (before, url) = rest.split_at(place);
        let end = url.find(ends_url).unwrap_or(url.len());
        let (url, after) = url.split_at(end);
        shown.push_str(before);
        shown.push_str(&without_credentials(url));
        rest = after;
    }
    shown.push_str(rest);
    shown
}

fn ends_url(c: char) -> bool {
    c.is_whitespace() || c.is_control() || "\"<>".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUSES: Statuses = Statuses {
        unavailable: &[502, 503, 504],
        usual_path: "; it usually is /here",
        other_formats: "another",
    };

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.insert(name, value.parse().unwrap());
        map
    }

    fn answer(status: StatusCode, headers: HeaderMap, body: &[u8]) -> Answer {
        Answer {
            status,
            headers,
            trailers: HeaderMap::new(),
            body: body.to_vec(),
        }
    }

    #[test]
    fn the_table_of_the_protocol_decides_what_is_temporary() {
        for status in (300..600).filter_map(|status| StatusCode::from_u16(status).ok()) {
            let temporary = [429, 502, 503, 504].contains(&status.as_u16());
            let error = read_failure(&STATUSES, &answer(status, HeaderMap::new(), b""), &[]);
            assert_eq!(error.is_temporary(), temporary, "{status}");
            assert_eq!(error.attempt().status, Some(status.as_u16()));
        }
        let answer = answer(StatusCode::PAYLOAD_TOO_LARGE, HeaderMap::new(), b"");
        let too_large = read_failure(&STATUSES, &answer, &[]);
        assert!(too_large.is_too_large());
    }

    #[test]
    fn a_limit_is_read_from_words_about_size_alone() {
        let limit = |status, media_type: &str, body: &str| {
            let headers = headers(header::CONTENT_TYPE, media_type);
            let error = read_failure(&STATUSES, &answer(status, headers, body.as_bytes()), &[]);
            error.limit()
        };
        let too_large = StatusCode::PAYLOAD_TOO_LARGE;
        let json = r#"{"message":"request entity too large","length":9000,"limit":5000}"#;
        assert_eq!(
            limit(too_large, "text/plain", "at most 5000 bytes"),
            Some(5000)
        );
        let status = r#"{"code":8,"message":"larger than max (9000 vs. 5000)"}"#;
        assert_eq!(limit(too_large, "application/json", status), Some(5000));
        assert_eq!(
            limit(too_large, "application/json; charset=utf-8", json),
            Some(5000)
        );
        assert_eq!(limit(too_large, "text/plain", json), Some(5000));
        let page = "<style>p { max-width: 600px }</style>";
        assert_eq!(limit(too_large, "text/html", page), None);
        let bad = StatusCode::BAD_REQUEST;
        assert_eq!(limit(bad, "text/plain", "at most 5000 bytes"), None);
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
    fn foreign_words_are_bounded_and_harmless() {
        let text = headers(header::CONTENT_TYPE, "text/plain");
        let bad = answer(StatusCode::BAD_REQUEST, text.clone(), b"bad\x1b[31m\nthing");
        let error = read_failure(&STATUSES, &bad, &[]);
        assert!(!error.to_string().contains(['\x1b', '\n']), "{error}");
        let long = answer(StatusCode::BAD_REQUEST, text, &[b'x'; 10_000]);
        let long = read_failure(&STATUSES, &long, &[]);
        assert!(long.to_string().len() < 500);
    }

    #[test]
    fn credentials_in_urls_of_a_server_are_not_shown() {
        for (location, shown) in [
            (
                "https://user:pass-word@c:1/x?key=pass-word#y",
                "https://***@c:1/x",
            ),
            ("https://c/x?token=pass-word", "https://c/x"),
            ("/login?token=pass-word", "/login"),
            ("//user:pass-word@c/x", "***@c/x"),
            ("https://pass-word@c", "https://***@c"),
            (
                "https://user:pass-word@c/to?u=http://pass-word@d",
                "https://***@d",
            ),
            ("http://c/x", "http://c/x"),
        ] {
            let headers = headers(header::LOCATION, location);
            let answer = answer(StatusCode::FOUND, headers, b"");
            let error = read_failure(&STATUSES, &answer, &[]).to_string();
            assert!(!error.contains("pass-word"), "{error}");
            assert!(error.contains(&format!(": to {shown} (")), "{error}");
        }
        for (said, shown) in [
            (
                "see https://user:pass-word@c/x?key=pass-word for more",
                "see https://***@c/x for more",
            ),
            (
                "\"http://c/?pass-word\" <http://d?k=pass-word>",
                "\"http://c/\" <http://d>",
            ),
            ("http://u:it's-pass-word@c", "http://***@c"),
            (
                "upstream amqp://u:pass-word@q:1, closed",
                "upstream amqp://***@q:1, closed",
            ),
            ("what? a@b.c says no: //", "what? a@b.c says no: //"),
        ] {
            assert_eq!(fit_to_show(said, &[]), shown);
        }
    }

    #[test]
    fn the_servers_own_words_are_found_in_every_form() {
        let shown = |content_type: &str, body: &[u8]| {
            let headers = headers(header::CONTENT_TYPE, content_type);
            let answer = answer(StatusCode::BAD_REQUEST, headers, body);
            read_failure(&STATUSES, &answer, &[]).message().to_owned()
        };
        let start = "the server answered HTTP 400 Bad Request";
        let said = format!("{start}: no such tenant");
        assert_eq!(
            shown("Application/JSON; q=1", br#"{"message":"no such tenant"}"#),
            said
        );
        assert_eq!(
            shown("application/x-protobuf", b"\x12\x0eno such tenant"),
            said
        );
        assert_eq!(shown("text/plain", b" no such tenant\n"), said);
        assert_eq!(
            shown("application/json", br#"{"error":"other"}"#),
            format!("{start}: {{\"error\":\"other\"}}")
        );
        assert_eq!(shown("text/html", b"<html>a page</html>"), start);
    }

    #[test]
    fn a_secret_that_is_repeated_is_taken_out_wherever_it_stands() {
        let text = headers(header::CONTENT_TYPE, "text/plain");
        let secrets = [Secret::new("Bearer s3cr3t-token")];
        for before in 280..310 {
            let words = format!("{} s3cr3t-token", "x".repeat(before));
            let answer = answer(StatusCode::BAD_REQUEST, text.clone(), words.as_bytes());
            let error = read_failure(&STATUSES, &answer, &secrets);
            assert!(!error.to_string().contains("s3c"), "{error}");
        }
    }
}
