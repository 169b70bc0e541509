//! How a URL in a variable becomes the URL of requests over HTTP.

use crate::net::is_bare_socket;

/// The signal's path below a base URL.
const SIGNAL_PATH: &str = "v1/traces";

/// Appends the signal's path to a base URL, with one slash between them (exporter.md, "Endpoint URLs").
///
/// A query stays at the end. What is no URL is changed alike; building the exporter then says what is wrong with it.
///
/// A unix socket that has no room for a path stays as it is: requests to it have OTLP's path.
pub(super) fn below_base(base: &str) -> String {
    if is_bare_socket(base) {
        return base.to_owned();
    }
    let (base, query) = split_query(base);
    let base = base.strip_suffix('/').unwrap_or(base);
    format!("{base}/{SIGNAL_PATH}{query}")
}

/// Uses a URL as it is; only an empty path becomes `/` (exporter.md, "Endpoint URLs").
pub(super) fn as_is(url: &str) -> String {
    if is_bare_socket(url) {
        return url.to_owned();
    }
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
    fn a_unix_socket_gets_a_path_only_where_it_has_room_for_one() {
        for socket in ["unix:///run/c.sock", "unix:c", "unix-abstract:c"] {
            assert_eq!(below_base(socket), socket);
            assert_eq!(as_is(socket), socket);
        }
        let with_room = "http+unix://%2Fc.sock";
        assert_eq!(below_base(with_room), format!("{with_room}/v1/traces"));
        assert_eq!(as_is(with_room), format!("{with_room}/"));
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
