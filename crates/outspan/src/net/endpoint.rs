//! Where a destination is: one URL, taken apart once.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use http::uri::Scheme;
use percent_encoding::percent_decode_str;

use super::unix;
use crate::Error;
use crate::Result;
use crate::Secret;

/// A destination's URL, without what must not be shown.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// What requests go to.
    pub(crate) uri: Uri,
    /// `host:port`, or `unix:` and the socket's path; for errors and metrics.
    pub(crate) server: Arc<str>,
    /// `Basic …` from `user:password@` in the URL.
    pub(crate) basic_auth: Option<Secret>,
    user_info: Option<Secret>,
    password: Vec<Secret>,
    /// The unix socket to connect to, instead of the URL's host.
    socket: Option<Arc<Path>>,
    /// Whether the URL as given had a path other than `/`.
    pub(crate) has_path: bool,
    /// Whether the URL as given had the path `/`. URL libraries write it where there is no path.
    pub(crate) has_root_path: bool,
}

impl Endpoint {
    /// Takes a URL apart. `grpc` and `grpcs` stand for `http` and `https`.
    ///
    /// `unix:path`, `unix:///path`, `unix-abstract:name` (gRPC's "Name Resolution") and `http+unix://path/path` with a
    /// percent-encoded first path are unix sockets, with the authority `localhost`.
    ///
    /// `default_scheme` is for `host:port` without a scheme; `None` makes that an error. `default_port` is for URLs
    /// without a port; `None` leaves it to the scheme (80, 443).
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config): what is wrong with the URL, which is shown without its password.
    pub(crate) fn parse(
        text: &str,
        default_scheme: Option<&str>,
        default_port: Option<u16>,
    ) -> Result<Self> {
        let text = text.trim();
        if let Some(place) = unix::parse(text)? {
            return Self::at_socket(place);
        }
        Self::parse_url("endpoint", text, default_scheme, default_port)
    }

    /// Takes the URL of a proxy apart, whose scheme has been read already: `rest` stands behind it.
    pub(super) fn of_proxy(rest: &str, default_port: u16) -> Result<Self> {
        let url = format!("http://{rest}");
        Self::parse_url("proxy", &url, None, Some(default_port))
    }

    fn at_socket(place: unix::Place) -> Result<Self> {
        let given = place.path_and_query;
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority("localhost")
            .path_and_query(given.as_deref().unwrap_or("/"))
            .build()
            .map_err(|e| Error::config(format!("invalid endpoint \"{}\": {e}", place.shown)))?;
        let has_path = !matches!(uri.path(), "" | "/");
        Ok(Self {
            uri,
            server: place.shown.into(),
            basic_auth: None,
            user_info: None,
            password: Vec::new(),
            socket: Some(place.socket.into()),
            has_path,
            has_root_path: given.is_some() && !has_path,
        })
    }

    fn parse_url(
        what: &str,
        text: &str,
        default_scheme: Option<&str>,
        default_port: Option<u16>,
    ) -> Result<Self> {
        let shown = without_credentials(text);
        let invalid = |why: &str| Error::config(format!("invalid {what} \"{shown}\": {why}"));
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        let with_scheme = match text.contains("://") {
            true => text.to_owned(),
            false => match default_scheme {
                Some(scheme) => format!("{scheme}://{text}"),
                None => {
                    return Err(invalid(
                        "it has no scheme; write http:// or https:// before it",
                    ));
                }
            },
        };
        let (scheme, rest) = with_scheme.split_once("://").unwrap_or_default();
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" | "grpc" => Scheme::HTTP,
            "https" | "grpcs" => Scheme::HTTPS,
            _ => return Err(invalid("unknown scheme; use http or https")),
        };
        let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let uri: Uri = format!("{scheme}://{rest}")
            .parse()
            .map_err(|e: http::uri::InvalidUri| invalid(&e.to_string()))?;
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| invalid("it has no host"))?;
        if let Some(why) = host_mistake(host) {
            return Err(invalid(why));
        }
        if let Some(authority) = uri.authority()
            && authority.port().is_some()
            && uri.port_u16().is_none()
        {
            return Err(invalid("its port is not a number from 0 to 65535"));
        }
        if port_is_malformed(rest) {
            return Err(invalid("its port is not a number from 0 to 65535"));
        }
        let scheme_port = if scheme == Scheme::HTTPS { 443 } else { 80 };
        let port = uri.port_u16().or(default_port).unwrap_or(scheme_port);
        let server = format!("{host}:{port}");
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let has_path = !matches!(uri.path(), "" | "/");
        let has_root_path = !has_path && has_slash_path(rest);
        let user_info = uri
            .authority()
            .and_then(|authority| authority.as_str().rsplit_once('@'))
            .map(|(user_info, _)| user_info.to_owned());
        let authority = match uri.port_u16().is_none() && default_port.is_none() {
            true => host.to_owned(),
            false => server.clone(),
        };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query(path)
            .build()
            .map_err(|e| invalid(&e.to_string()))?;
        Ok(Self {
            uri,
            server: server.into(),
            basic_auth: user_info.as_deref().map(basic),
            password: user_info.as_deref().map(password).unwrap_or_default(),
            user_info: user_info.map(Secret::new),
            socket: None,
            has_path,
            has_root_path,
        })
    }

    /// The unix socket to connect to, where the endpoint is one.
    pub(super) fn socket(&self) -> Option<&Arc<Path>> {
        self.socket.as_ref()
    }

    /// The host as programs know it: without the brackets of an IPv6 address.
    pub(super) fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port that is connected to.
    pub(super) fn port(&self) -> u16 {
        let default = if self.is_secure() { 443 } else { 80 };
        self.uri.port_u16().unwrap_or(default)
    }

    /// User and password in the URL, decoded.
    pub(super) fn user_and_password(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let user_info = self.user_info.as_ref()?.expose();
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        let decoded = |text: &str| percent_decode_str(text).collect();
        Some((decoded(user), decoded(password)))
    }

    /// Whether connections are encrypted.
    pub(crate) fn is_secure(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// Sets the path, keeping the query.
    pub(crate) fn with_path(mut self, path: &str) -> Result<Self> {
        let slash = if path.starts_with('/') { "" } else { "/" };
        let query = self.uri.query().map(|q| format!("?{q}"));
        let path_and_query = format!("{slash}{path}{}", query.unwrap_or_default());
        let mut parts = self.uri.into_parts();
        let parsed = path_and_query.parse().map_err(|e| invalid_path(path, &e))?;
        parts.path_and_query = Some(parsed);
        self.uri = Uri::from_parts(parts).map_err(|e| invalid_path(path, &e))?;
        Ok(self)
    }

    /// Leaves the query out, for protocols that have no use for one.
    #[must_use]
    pub(crate) fn without_query(mut self) -> Self {
        let path = self.uri.path().to_owned();
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = path.parse().ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            self.uri = uri;
        }
        self
    }

    /// What of the URL must not be shown: the password, and the values in the query, which may be keys.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        let mut secrets = self.password.clone();
        for pair in self.uri.query().unwrap_or_default().split('&') {
            let value = pair.split_once('=').map_or(pair, |(_, value)| value);
            secrets.extend(with_decoded(value));
        }
        secrets
    }
}

impl fmt::Display for Endpoint {
    /// Shows the URL without credentials and query, which may hold keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.socket.is_some() {
            return f.write_str(&self.server);
        }
        let scheme = self.uri.scheme_str().unwrap_or_default();
        write!(f, "{scheme}://{}{}", self.server, self.uri.path())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

fn basic(user_info: &str) -> Secret {
    let mut plain: Vec<u8> = percent_decode_str(user_info).collect();
    if !user_info.contains(':') {
        // An empty password still has its colon (RFC 7617).
        plain.push(b':');
    }
    Secret::new(format!("Basic {}", STANDARD.encode(plain)))
}

/// The password as written and as meant; a server may repeat either.
fn password(user_info: &str) -> Vec<Secret> {
    let password = user_info
        .split_once(':')
        .map_or("", |(_, password)| password);
    with_decoded(password)
}

fn with_decoded(text: &str) -> Vec<Secret> {
    let decoded = percent_decode_str(text).decode_utf8_lossy();
    let forms = [text, decoded.as_ref()];
    let wanted = if decoded == text { 1 } else { 2 };
    forms
        .into_iter()
        .take(wanted)
        .filter(|form| !form.is_empty())
        .map(Secret::new)
        .collect()
}

fn invalid_path(path: &str, why: &dyn fmt::Display) -> Error {
    let shown = path.split(['?', '#']).next().unwrap_or_default();
    Error::config(format!("invalid path \"{shown}\": {why}"))
}

/// A URL as it may be shown, be it malformed in any way: all before the last `@` may be credentials, and all behind
/// a `?` may be keys.
pub(crate) fn without_credentials(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('@') => (format!("{scheme}://"), rest),
        _ => (String::new(), text),
    };
    let rest = match rest.rsplit_once('@') {
        Some((_, rest)) => format!("***@{rest}"),
        None => rest.to_owned(),
    };
    let shown = rest.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}{shown}")
}

fn authority_of(rest: &str) -> &str {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    rest.get(..end).unwrap_or_default()
}

/// Whether `rest` (a URL behind its scheme) has a path; `/` alone is one here.
fn has_slash_path(rest: &str) -> bool {
    rest.len() > authority_of(rest).len() && rest[authority_of(rest).len()..].starts_with('/')
}

/// Finds a host that no connection can be made to. `http::Uri` takes anything between brackets.
fn host_mistake(host: &str) -> Option<&'static str> {
    if host.contains('%') {
        return Some(match host.starts_with('[') {
            true => {
                "an address with a zone id is not supported; use an address without \"%\", or a host name"
            }
            false => "its host has a \"%\"; write the host name without percent-encoding",
        });
    }
    let inside = host
        .strip_prefix('[')?
        .strip_suffix(']')
        .unwrap_or_default();
    match inside.parse::<Ipv6Addr>() {
        Ok(_) => None,
        Err(_) => Some("between the brackets stands no IPv6 address"),
    }
}

fn port_is_malformed(rest: &str) -> bool {
    let authority = authority_of(rest);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let after_host = host.rsplit_once(']').map_or(host, |(_, after)| after);
    match after_host.rsplit_once(':') {
        Some((_, port)) => port.parse::<u16>().is_err(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Endpoint {
        Endpoint::parse(text, Some("https"), Some(4317)).unwrap()
    }

    #[test]
    fn parts_are_told_apart() {
        let endpoint = parse("http://collector:1234/my/path?key=secret#x");
        assert_eq!(endpoint.uri, "http://collector:1234/my/path?key=secret");
        assert_eq!(&*endpoint.server, "collector:1234");
        assert_eq!(endpoint.to_string(), "http://collector:1234/my/path");
        assert!(!endpoint.is_secure() && endpoint.has_path);
        assert!(parse("collector").is_secure());
        assert_eq!(&*parse("[::1]:55").server, "[::1]:55");
        assert_eq!(&*parse("grpc://h").server, "h:4317");
        let bare = Endpoint::parse("https://h", None, None).unwrap();
        assert_eq!(&*bare.server, "h:443");
        assert_eq!(bare.uri, "https://h/");
        assert!(!bare.has_path);
    }

    #[test]
    fn credentials_become_a_header_and_are_never_shown() {
        let endpoint = parse("https://user:p%40ss@host:1/x");
        let header = endpoint.basic_auth.clone().unwrap();
        assert_eq!(header.expose(), "Basic dXNlcjpwQHNz");
        assert_eq!(endpoint.uri, "https://host:1/x");
        assert!(!format!("{endpoint:?} {endpoint}").contains("p%40ss"));
        let error = Endpoint::parse("htp://user:pass@host", None, None).unwrap_err();
        assert!(!error.to_string().contains("pass"), "{error}");
    }

    #[test]
    fn credentials_in_a_malformed_url_are_not_shown_either() {
        for text in [
            "http://user:pa/ssword@host:1/x",
            "http://user:pa?ssword@host",
            "http://user:pa#ssword@host:x",
            "user:password@http://host",
            "user:password@host:99999",
            "http://user:pass@word@host:99999/x",
            "http://host:99999/?key=password",
            "http://ho st/?key=password",
        ] {
            for scheme in [None, Some("http")] {
                let Err(error) = Endpoint::parse(text, scheme, None) else {
                    continue;
                };
                let error = error.to_string();
                assert!(error.contains("host") || error.contains("ho st"), "{error}");
                assert!(!error.contains("word") && !error.contains("pa"), "{error}");
            }
        }
        let error = parse("http://host")
            .with_path("/ x?key=password")
            .unwrap_err();
        assert!(!error.to_string().contains("password"), "{error}");
    }

    #[test]
    fn what_a_server_must_not_repeat_is_known() {
        let endpoint = parse("https://user:p%40ss@host/x?key=va%20lue&flag");
        let secrets: Vec<_> = endpoint.secrets();
        let secrets: Vec<_> = secrets.iter().map(Secret::expose).collect();
        assert_eq!(secrets, ["p%40ss", "p@ss", "va%20lue", "va lue", "flag"]);
        assert!(parse("https://host").secrets().is_empty());
    }

    #[test]
    fn mistakes_are_named() {
        let said = |text| Endpoint::parse(text, None, None).unwrap_err().to_string();
        assert_eq!(
            said("htp://x"),
            "invalid endpoint \"htp://x\": unknown scheme; use http or https"
        );
        assert!(said("localhost:4318").contains("write http:// or https://"));
        assert!(said("http://").contains("invalid endpoint"));
        assert!(said("http://host:99999").contains("port"));
        assert!(said("http://host:abc").contains("port"));
        assert!(said("").contains("empty"));
    }

    #[test]
    fn hosts_that_cannot_be_connected_to_are_invalid() {
        let error = |text| Endpoint::parse(text, Some("http"), None).unwrap_err();
        for zone in [
            "http://[::1%25lo]:4318",
            "http://[fe80::1%25eth0]",
            "https://[fe80::1%eth0]:1/x",
            "grpc://u:p@[fe80::1%251]:1",
            "[fe80::1%25eth0]:4317",
        ] {
            let error = error(zone);
            assert_eq!(error.kind(), crate::ErrorKind::Config, "{zone}");
            let message = error.to_string();
            let invalid_uri = message.contains("invalid uri");
            assert!(message.contains("zone id") || invalid_uri, "{message}");
        }
        for other in [
            "http://[collector]:1",
            "http://[127.0.0.1]",
            "http://[v1.x]",
        ] {
            assert!(error(other).to_string().contains("invalid endpoint"));
        }
        assert!(Endpoint::parse("http://col%6Cector:1", None, None).is_err());
        for fine in [
            "http://[::1]:1",
            "http://[fe80::1]",
            "http://[::ffff:1.2.3.4]",
        ] {
            assert!(Endpoint::parse(fine, None, None).is_ok(), "{fine}");
        }
    }

    #[test]
    fn slash_alone_is_no_path() {
        for (text, has_path, has_root_path) in [
            ("http://c:1", false, false),
            ("http://c:1?k=v", false, false),
            ("http://c:1/", false, true),
            ("http://c:1/?k=v", false, true),
            ("http://c:1/#x", false, true),
            ("http://c:1/x", true, false),
            ("http://c:1/x/", true, false),
        ] {
            let endpoint = parse(text);
            let seen = (endpoint.has_path, endpoint.has_root_path);
            assert_eq!(seen, (has_path, has_root_path), "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn slash_alone_behind_a_unix_socket_is_no_path() {
        for (text, has_path) in [
            ("unix:///run/c.sock", false),
            ("http+unix://%2Fc.sock", false),
            ("http+unix://%2Fc.sock/", false),
            ("http+unix://%2Fc.sock?k=v", false),
            ("http+unix://%2Fc.sock/x", true),
        ] {
            assert_eq!(parse(text).has_path, has_path, "{text}");
        }
    }

    const MARKS: &str = r"[a-z0-9:/@?#\[\]%. \\é-]{0,12}";

    proptest::proptest! {
        #[test]
        fn nothing_that_looks_like_a_secret_is_ever_shown(
            scheme in "(http://|https://|grpc://|x://|//|:)?",
            user in MARKS,
            host in MARKS,
            is_grpc in proptest::bool::ANY,
        ) {
            let text = format!("{scheme}{user}:HUNTER2@{host}?key=HUNTER2");
            let default = is_grpc.then_some("https");
            // Behind a slash an `@` is a letter of the path, if what stands before is a host.
            let is_path = user.contains(['/', '?', '#']);
            let shown = match Endpoint::parse(&text, default, None) {
                Ok(_) if is_path => String::new(),
                Ok(endpoint) => format!("{endpoint} {endpoint:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("HUNTER2"), "{text}: {shown}");
            assert!(!without_credentials(&text).contains("HUNTER2"), "{text}");
        }

        #[test]
        fn any_text_is_an_endpoint_or_an_error(text in ".*", path in ".*") {
            for scheme in [None, Some("https")] {
                let parsed = Endpoint::parse(&text, scheme, Some(4317));
                drop(parsed.and_then(|endpoint| endpoint.without_query().with_path(&path)));
            }
        }
    }
}
