//! Lets scripts of web pages send: Cross-Origin Resource Sharing, where it was asked for.
//!
//! Source: "Fetch", 3.3 "CORS protocol", of WHATWG.

use std::collections::HashSet;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header;
use http::request::Parts;

use super::answer::Answer;

/// Headers that OTLP over HTTP needs. They are allowed even if the browser does not ask for them.
const HEADERS: [&str; 4] = [
    "content-type",
    "content-encoding",
    "authorization",
    "user-agent",
];

/// How long a browser may remember the answer, in seconds: two hours, the longest that all of them take.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// Knows whose scripts may send.
#[derive(Debug)]
pub(super) struct Cors {
    is_open: bool,
    origins: Vec<String>,
}

impl Cors {
    /// Takes origins such as `https://shop.example.com`, or `*` for any; nothing if there are none.
    pub(super) fn new(origins: &[String]) -> Option<Self> {
        if origins.is_empty() {
            return None;
        }
        let origins = origins.iter().map(|origin| origin.trim_end_matches('/'));
        Some(Self {
            is_open: origins.clone().any(|origin| origin == "*"),
            origins: origins.map(str::to_owned).collect(),
        })
    }

    /// Answers a browser that asks beforehand, if this is one.
    pub(super) fn preflight(&self, head: &Parts) -> Option<Response<Answer>> {
        let is_preflight = head.method == Method::OPTIONS
            && head.headers.contains_key(header::ORIGIN)
            && head
                .headers
                .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !is_preflight {
            return None;
        }
        let mut response = Response::new(Answer::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        if !self.decorate(&head.headers, response.headers_mut()) {
            // Without the headers the browser refuses, and says which origin it was.
            return Some(response);
        }
        let headers = response.headers_mut();
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("POST"),
        );
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            allowed_headers(&head.headers),
        );
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        Some(response)
    }

    /// Adds to an answer what lets the sender's script see it; says whether it may.
    pub(super) fn decorate(&self, asked: &HeaderMap, answer: &mut HeaderMap) -> bool {
        if !self.is_open {
            // Also without an origin: a cache must not give this answer to a browser.
            answer.insert(header::VARY, HeaderValue::from_static("origin"));
        }
        let Some(origin) = asked
            .get(header::ORIGIN)
            .filter(|origin| self.knows(origin))
        else {
            return false;
        };
        let allowed = match self.is_open {
            true => HeaderValue::from_static("*"),
            false => origin.clone(),
        };
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        answer.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("retry-after"),
        );
        true
    }

    fn knows(&self, origin: &HeaderValue) -> bool {
        let is_it = |known: &String| known.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
        self.is_open || self.origins.iter().any(is_it)
    }
}

/// The most header names and bytes of names that are copied from a preflight request.
const MAX_NAMES: usize = 64;
const MAX_NAME_BYTES: usize = 4096;

/// The headers of OTLP, and those that the browser asks for. A name that is no token of HTTP is left out.
///
/// A list of names works for credentialed requests too, and it can name `authorization`; `*` can do neither ("Fetch",
/// "HTTP responses").
fn allowed_headers(asked: &HeaderMap) -> HeaderValue {
    let mut allowed = HEADERS.join(", ");
    let mut names: HashSet<HeaderName> = HEADERS.map(HeaderName::from_static).into();
    let mut bytes = 0;
    let lines = asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let asked = lines.iter().filter_map(|line| line.to_str().ok());
    for text in asked.flat_map(|line| line.split(',')).map(str::trim) {
        let Ok(name) = HeaderName::try_from(text) else {
            continue;
        };
        // `*` would allow more than the browser asks for.
        if name == "*" || names.contains(&name) {
            continue;
        }
        bytes += text.len();
        if bytes > MAX_NAME_BYTES || names.len() >= HEADERS.len() + MAX_NAMES {
            break;
        }
        allowed.push_str(", ");
        allowed.push_str(name.as_str());
        names.insert(name);
    }
    HeaderValue::try_from(allowed).unwrap_or_else(|_| HeaderValue::from_static("content-type"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(asked: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in asked {
            let line = HeaderValue::from_str(line).unwrap();
            headers.append(header::ACCESS_CONTROL_REQUEST_HEADERS, line);
        }
        allowed_headers(&headers).to_str().unwrap().to_owned()
    }

    #[test]
    fn headers_that_a_preflight_asks_for_are_allowed() {
        let own = "content-type, content-encoding, authorization, user-agent";
        assert_eq!(allowed(&[]), own);
        assert_eq!(
            allowed(&["api-key,baggage,content-type,traceparent"]),
            format!("{own}, api-key, baggage, traceparent")
        );
        assert_eq!(
            allowed(&[
                "X-Api-Key, x-a b,, *,x-honeycomb-team",
                "tracestate, X-API-KEY"
            ]),
            format!("{own}, x-api-key, x-honeycomb-team, tracestate")
        );
    }

    #[test]
    fn headers_copied_from_a_preflight_are_bounded() {
        let many: Vec<String> = (0..10_000).map(|number| format!("n{number}")).collect();
        let many = allowed(&[&many.join(",")]);
        assert_eq!(many.split(", ").count(), HEADERS.len() + MAX_NAMES);
        let long: Vec<String> = (0..60)
            .map(|number| format!("n{number}-{}", "x".repeat(500)))
            .collect();
        assert!(allowed(&[&long.join(",")]).len() < 2 * MAX_NAME_BYTES);
    }

    #[test]
    fn a_question_beforehand_has_a_method_an_origin_and_what_it_asks_for() {
        let cors = Cors::new(&["*".to_owned()]).unwrap();
        let head = |method: Method, headers: &[HeaderName]| {
            let mut request = http::Request::new(());
            *request.method_mut() = method;
            for name in headers {
                request
                    .headers_mut()
                    .insert(name, HeaderValue::from_static("x"));
            }
            request.into_parts().0
        };
        let both = [header::ORIGIN, header::ACCESS_CONTROL_REQUEST_METHOD];
        assert!(cors.preflight(&head(Method::OPTIONS, &both)).is_some());
        assert!(cors.preflight(&head(Method::POST, &both)).is_none());
        for one in &both {
            let one = std::slice::from_ref(one);
            assert!(cors.preflight(&head(Method::OPTIONS, one)).is_none());
        }
    }

    #[test]
    fn without_origins_there_is_nothing() {
        assert!(Cors::new(&[]).is_none());
    }
}
