//! What stands under which path.

use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::Full;

use super::health;
use super::metrics;
use super::snapshot::Source;
use super::status;

/// Bytes of an answer at most. Hundreds of destinations fit.
const ANSWER_MAX: usize = 4 << 20;

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

const INDEX: &str = include_str!("index.html");

/// Every path, and what it is for.
const PATHS: [(&str, &str); 4] = [
    ("/healthz", "whether the process works"),
    ("/readyz", "whether spans are taken"),
    ("/status", "everything as JSON"),
    ("/metrics", "everything for Prometheus"),
];

/// A page before it is an answer.
struct Page {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
}

/// Answers a request; `source` is read at most once.
pub(super) fn answer(
    method: &Method,
    path: &str,
    source: &(impl Source + ?Sized),
) -> Response<Full<Bytes>> {
    let page = match *method {
        Method::GET | Method::HEAD => page(path, source).bounded(),
        _ => Page::text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and HEAD are answered here\n",
        ),
    };
    page.into_response()
}

fn page(path: &str, source: &(impl Source + ?Sized)) -> Page {
    match path {
        "/" => Page::ok(HTML, INDEX),
        "/healthz" => Page::ok(TEXT, line(health::health(source.state()))),
        "/readyz" => match health::readiness(&source.snapshot().agent) {
            Ok(()) => Page::ok(TEXT, "ready\n"),
            Err(why) => Page::text(StatusCode::SERVICE_UNAVAILABLE, line(why)),
        },
        "/status" => match status::encode(&source.snapshot()) {
            Ok(body) => Page::ok(JSON, body),
            Err(error) => Page::failed(&format!("the status cannot be written: {error}")),
        },
        "/metrics" => match metrics::encode(&source.snapshot()) {
            Ok(body) => Page::ok(metrics::CONTENT_TYPE, body),
            Err(error) => Page::failed(&format!("the metrics cannot be written: {error}")),
        },
        _ => Page::text(StatusCode::NOT_FOUND, not_found()),
    }
}

fn line(words: String) -> String {
    words + "\n"
}

fn not_found() -> String {
    let mut text = "nothing here; there is\n".to_owned();
    for (path, words) in PATHS {
        text += &format!("  {path:<9} {words}\n");
    }
    text
}

impl Page {
    fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            body: body.into(),
        }
    }

    fn text(status: StatusCode, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            content_type: TEXT,
            body: body.into(),
        }
    }

    fn failed(words: &str) -> Self {
        Self::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{words}\n"))
    }

    fn bounded(self) -> Self {
        let size = self.body.len();
        match size <= ANSWER_MAX {
            true => self,
            false => Self::failed(&format!(
                "the answer has {size} bytes, more than the {ANSWER_MAX} that are sent"
            )),
        }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let mut add = |name, value| headers.insert(name, HeaderValue::from_static(value));
        add(header::CONTENT_TYPE, self.content_type);
        add(header::CACHE_CONTROL, "no-store");
        add(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            add(header::ALLOW, "GET, HEAD");
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::super::snapshot::Snapshot;
    use super::super::tests::snapshot;
    use super::*;
    use crate::agent::State;

    fn get(path: &str, shown: &Snapshot) -> (StatusCode, String, String) {
        let response = answer(&Method::GET, path, &|| shown.clone());
        let content_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
        let content_type = content_type.to_owned();
        let status = response.status();
        let body = futures_util::FutureExt::now_or_never(response.into_body().collect());
        let body = body.unwrap().unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        (status, content_type, body)
    }

    #[test]
    fn every_path_is_answered_in_its_own_type() {
        let shown = snapshot();
        for (path, expected) in [
            ("/", HTML),
            ("/healthz", TEXT),
            ("/readyz", TEXT),
            ("/status", JSON),
            ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ] {
            let (status, content_type, body) = get(path, &shown);
            assert_eq!(
                (status, content_type.as_str()),
                (StatusCode::OK, expected),
                "{path}"
            );
            assert!(body.ends_with('\n'), "{path}");
        }
    }

    #[test]
    fn readiness_is_503_with_the_reason_while_health_stays_200() {
        let mut shown = snapshot();
        assert_eq!(get("/readyz", &shown).2, "ready\n");
        shown.agent.state = State::Stopping;
        let (status, _, body) = get("/readyz", &shown);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("stopping"), "{body}");
        let (status, _, body) = get("/healthz", &shown);
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body, "ok, stopping\n");
    }

    #[test]
    fn an_unknown_path_is_404_and_lists_the_others() {
        for path in ["/nothing", "/metrics/", "/Status", "//", "*"] {
            let (status, _, body) = get(path, &snapshot());
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
            for (known, _) in PATHS {
                assert!(body.contains(known), "{body}");
            }
        }
    }

    #[test]
    fn other_methods_are_405_and_read_nothing() {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let read = || -> Snapshot { panic!("not for {method}") };
            let response = answer(&method, "/status", &read);
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(response.headers()[header::ALLOW], "GET, HEAD");
        }
    }

    #[test]
    fn the_index_links_every_path() {
        for (path, words) in PATHS {
            assert!(INDEX.contains(&format!("<a href=\"{path}\">{path}</a>")));
            assert!(INDEX.contains(words), "{words}");
        }
    }

    #[test]
    fn the_longest_words_of_many_destinations_stay_within_the_bound() {
        let mut shown = snapshot();
        let mut to = shown.agent.destinations[0].clone();
        to.trouble = Some("\u{1}\"".repeat(1 << 12));
        shown.agent.destinations = vec![to; 200];
        for (path, _) in PATHS {
            let (status, _, body) = get(path, &shown);
            assert_eq!(status, StatusCode::OK, "{path}");
            assert!(body.len() <= ANSWER_MAX, "{path}: {}", body.len());
        }
    }

    #[test]
    fn an_answer_over_the_bound_is_not_sent() {
        let mut shown = snapshot();
        shown.listening = vec!["x".repeat(ANSWER_MAX)];
        let (status, _, body) = get("/status", &shown);
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(body.len() < 200, "{body}");
    }
}
