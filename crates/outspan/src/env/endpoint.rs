//! How a URL in a variable becomes the URL of requests over HTTP.

/// The signal's path below a base URL.
const SIGNAL_PATH: &str = "v1/traces";

/// Appends the signal's path to a base URL, with one slash between them (exporter.md, "Endpoint URLs").
///
/// A query stays at the end. What is no URL is changed alike; building the exporter then says what is wrong with it.
pub(super) fn below_base(base: &str) -> String {
    let (base, query) = split_query(base);
    let base = base.strip_suffix('/').unwrap_or(base);
    format!("{base}/{SIGNAL_PATH}{query}")
}

/// Uses a URL as it is; only an empty path becomes `/` (exporter.md, "Endpoint URLs").
pub(super) fn as_is(url: &str) -> String {
    let (place, query) = split_query(url);
    let authority = place.split_once("://").map_or(place, |(_, rest)| rest);
    if authority.contains('/') {
        return url.to_owned();
    }
    format!("{place}/{query}")
}

fn split_query(url: &str) -> (&str, &str) {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    url.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_gets_the_signal_s_path() {
        let cases = [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("http://c:4318/my", "http://c:4318/my/v1/traces"),
            ("http://c:4318/my/", "http://c:4318/my/v1/traces"),
            ("https://c/a/b?key=1", "https://c/a/b/v1/traces?key=1"),
            ("https://c?key=a/b", "https://c/v1/traces?key=a/b"),
        ];
        for (base, whole) in cases {
            assert_eq!(below_base(base), whole);
        }
    }

    #[test]
    fn a_signal_s_own_url_stays() {
        let cases = [
            ("http://c:4318", "http://c:4318/"),
            ("http://c:4318/", "http://c:4318/"),
            ("https://h/v1/traces/", "https://h/v1/traces/"),
            ("http://c:4318/x?y=z", "http://c:4318/x?y=z"),
            ("http://c:4318?y=/z", "http://c:4318/?y=/z"),
        ];
        for (url, whole) in cases {
            assert_eq!(as_is(url), whole);
        }
    }
}
