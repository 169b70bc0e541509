//! Endpoints that are unix sockets.
//!
//! ```text
//! unix:path   unix:/path   unix:///path     a socket in the file system (gRPC's "Name Resolution")
//! unix-abstract:name                        a socket without a file, on Linux alone
//! http+unix://%2Fpath%2Fof%2Fsocket/path    a percent-encoded socket, then the path of requests
//! ```

use std::path::Path;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use crate::Error;
use crate::Result;

/// Where a socket is, and what of the endpoint is for requests.
#[derive(Debug, PartialEq)]
pub(super) struct Place {
    /// The socket's path. An abstract one begins with a zero byte, as the kernel writes it.
    pub(super) socket: PathBuf,
    /// The socket as people write it.
    pub(super) shown: String,
    /// Path and query of requests, where the endpoint has them.
    pub(super) path_and_query: Option<String>,
}

impl Place {
    fn in_files(path: &str, path_and_query: Option<String>) -> Self {
        Self {
            socket: PathBuf::from(path),
            shown: format!("unix:{path}"),
            path_and_query,
        }
    }
}

/// Whether an endpoint is a unix socket.
pub(crate) fn is_unix(endpoint: &str) -> bool {
    is_bare_socket(endpoint) || after(endpoint, "http+unix://").is_some()
}

/// Whether an endpoint is a unix socket in a form that has no room for the path of requests.
pub(crate) fn is_bare_socket(endpoint: &str) -> bool {
    after(endpoint, "unix:").is_some() || after(endpoint, "unix-abstract:").is_some()
}

/// Reads an endpoint that is a unix socket; `None` is for any other.
///
/// # Errors
///
/// [`Config`](crate::ErrorKind::Config) if the socket has no name or one that no socket can have, or if the platform
/// has no unix sockets.
pub(super) fn parse(endpoint: &str) -> Result<Option<Place>> {
    if !is_unix(endpoint) {
        return Ok(None);
    }
    let place = read(endpoint).and_then(|place| {
        check(&place.socket)?;
        Ok(place)
    });
    let place = place.map_err(|why| {
        let shown = endpoint.split(['?', '#']).next().unwrap_or_default();
        Error::config(format!("invalid endpoint \"{shown}\": {why}"))
    })?;
    Ok(Some(place))
}

fn read(endpoint: &str) -> Result<Place, String> {
    if let Some(rest) = after(endpoint, "http+unix://") {
        return with_path(rest);
    }
    if let Some(name) = after(endpoint, "unix-abstract:") {
        return Ok(Place {
            socket: PathBuf::from(format!("\0{name}")),
            shown: format!("unix-abstract:{name}"),
            path_and_query: None,
        });
    }
    let rest = after(endpoint, "unix:").unwrap_or_default();
    match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => Ok(Place::in_files(path, None)),
        Some(_) => Err("behind unix:// stands an absolute path; write unix:///path".into()),
        None => Ok(Place::in_files(rest, None)),
    }
}

fn with_path(rest: &str) -> Result<Place, String> {
    let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (socket, request) = rest.split_at(end);
    let socket = percent_decode_str(socket)
        .decode_utf8()
        .map_err(|_| "the socket's path is not UTF-8")?;
    let request = match request {
        "" => None,
        query if query.starts_with('?') => Some(format!("/{query}")),
        path => Some(path.to_owned()),
    };
    Ok(Place::in_files(&socket, request))
}

/// What stands behind a scheme, be it written in capitals.
fn after<'a>(endpoint: &'a str, scheme: &str) -> Option<&'a str> {
    let (begin, rest) = endpoint.split_at_checked(scheme.len())?;
    begin.eq_ignore_ascii_case(scheme).then_some(rest)
}

#[cfg(unix)]
fn check(socket: &Path) -> Result<(), String> {
    use std::os::unix::ffi::OsStrExt;

    let bytes = socket.as_os_str().as_bytes();
    if matches!(bytes, [] | [0]) {
        return Err("it names no socket; write unix:///path".into());
    }
    match bytes.strip_prefix(b"\0") {
        Some(name) => check_abstract(name),
        None => std::os::unix::net::SocketAddr::from_pathname(socket)
            .map(|_| ())
            .map_err(|e| format!("no socket can have this path: {e}")),
    }
}

#[cfg(target_os = "linux")]
fn check_abstract(name: &[u8]) -> Result<(), String> {
    use std::os::linux::net::SocketAddrExt;

    std::os::unix::net::SocketAddr::from_abstract_name(name)
        .map(|_| ())
        .map_err(|e| format!("no socket can have this name: {e}"))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn check_abstract(_name: &[u8]) -> Result<(), String> {
    Err("only Linux has abstract sockets; use unix:///path".into())
}

#[cfg(not(unix))]
fn check(_socket: &Path) -> Result<(), String> {
    Err("this platform has no unix sockets; use http:// or https://".into())
}

// Elsewhere every unix socket is a mistake.
#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn read(endpoint: &str) -> (String, Option<String>) {
        let place = parse(endpoint).unwrap().unwrap();
        (place.shown, place.path_and_query)
    }

    #[test]
    fn every_form_names_its_socket() {
        for (endpoint, shown) in [
            ("unix:///run/c.sock", "unix:/run/c.sock"),
            ("unix:/run/c.sock", "unix:/run/c.sock"),
            ("unix:c.sock", "unix:c.sock"),
            ("UNIX:c.sock", "unix:c.sock"),
            ("http+unix://%2Frun%2Fc.sock", "unix:/run/c.sock"),
        ] {
            assert_eq!(read(endpoint), (shown.to_owned(), None), "{endpoint}");
        }
        for (endpoint, path) in [
            ("http+unix://%2Fa%20b/v1/traces?k=v#x", "/v1/traces?k=v"),
            ("http+unix://%2Fa%20b?k=v", "/?k=v"),
        ] {
            assert_eq!(
                read(endpoint),
                ("unix:/a b".to_owned(), Some(path.to_owned()))
            );
        }
        #[cfg(target_os = "linux")]
        assert_eq!(
            parse("unix-abstract:c").unwrap().unwrap().socket,
            Path::new("\0c")
        );
    }

    #[test]
    fn other_endpoints_are_none_of_these() {
        for endpoint in ["http://unix:80", "unixx:80", "unix", "", "é"] {
            assert_eq!(parse(endpoint).unwrap(), None, "{endpoint}");
        }
    }

    #[test]
    fn what_no_socket_can_be_called_is_a_mistake() {
        let long = format!("unix:/{}", "x".repeat(200));
        for (endpoint, why) in [
            ("unix:", "names no socket"),
            ("unix-abstract:", "names no socket"),
            ("http+unix://", "names no socket"),
            ("http+unix:///path", "names no socket"),
            ("unix://run/c.sock", "write unix:///path"),
            ("http+unix://%ff", "not UTF-8"),
            (&long, "no socket can have this path"),
        ] {
            let error = parse(endpoint).unwrap_err().to_string();
            assert!(error.starts_with("invalid endpoint \""), "{error}");
            assert!(error.contains(why), "{error}");
        }
        #[cfg(target_os = "linux")]
        {
            let long = format!("unix-abstract:{}", "x".repeat(200));
            let error = parse(&long).unwrap_err().to_string();
            assert!(error.contains("no socket can have this name"), "{error}");
        }
        let error = parse("http+unix://%00?key=secret").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
