//! Lets scripts of web pages send: Cross-Origin Resource Sharing, where it was asked for.
//!
//! Source: "Fetch", 3.3 "CORS protocol", of WHATWG.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header;
use http::request::Parts;

use super::answer::Answer;

/// Headers that OTLP over HTTP needs; those that begin with `x-` are allowed besides, because programs use them for keys.
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

/// Our own headers, and of those that the browser asks for the ones that begin with `x-`.
fn allowed_headers(asked: &HeaderMap) -> HeaderValue {
    let mut allowed = HEADERS.join(", ");
    let asked = asked
        .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
        .and_then(|names| names.to_str().ok())
        .unwrap_or_default();
    for name in asked.split(',').map(str::trim) {
        let is_extra = name
            .get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case("x-"));
        if is_extra && HeaderName::try_from(name).is_ok() {
            allowed.push_str(", ");
            allowed.push_str(name);
        }
    }
    HeaderValue::try_from(allowed).unwrap_or_else(|_| HeaderValue::from_static("content-type"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_and_begins_with_x_is_added() {
        let mut asked = HeaderMap::new();
        asked.insert(
            header::ACCESS_CONTROL_REQUEST_HEADERS,
            HeaderValue::from_static("content-type, X-Api-Key,cookie, x-a b, x-honeycomb-team"),
        );
        assert_eq!(
            allowed_headers(&asked),
            "content-type, content-encoding, authorization, user-agent, X-Api-Key, x-honeycomb-team"
        );
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
