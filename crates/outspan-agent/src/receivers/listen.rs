//! Where to listen.

use std::fmt;
use std::io;
use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::address;
use crate::address::Bracketed;
use crate::address::Unheard;
use crate::address::host_and_port;

/// The port of OTLP over gRPC.
const GRPC_PORT: u16 = 4317;

/// The port of OTLP over HTTP.
const HTTP_PORT: u16 = 4318;

/// Holds an address to listen on, as `--listen` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    /// Whether the scheme is grpc:// or grpcs://; either kind of address takes both.
    pub(crate) is_grpc: bool,
    pub(crate) is_secure: bool,
    /// The host without its port, and without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Holds a socket that is listened on.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: TcpListener,
    pub(super) is_secure: bool,
    /// The address as it may be shown, with the port that the kernel gave.
    pub(super) shown: String,
    /// Whether others than programs on this machine get here.
    pub(super) is_public: bool,
}

impl Listen {
    /// Reads a value of `--listen`.
    ///
    /// # Errors
    ///
    /// Words for the user.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
        let (is_grpc, is_secure) = match scheme.to_ascii_lowercase().as_str() {
            "grpc" => (true, false),
            "grpcs" => (true, true),
            "http" => (false, false),
            "https" => (false, true),
            _ => return Err(without_scheme(text)),
        };
        let rest = rest
            .strip_prefix("//")
            .ok_or("the address starts with two slashes, as in grpc://localhost:4317")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if !matches!(path, "" | "/") {
            return Err(format!(
                "an address to listen on has no path: leave out {path}; OTLP/HTTP is at /v1/traces of each"
            ));
        }
        if authority.contains('@') {
            return Err(
                "an address to listen on has no user: leave out what stands before the @".into(),
            );
        }
        let (host, port) = host_and_port(authority)?;
        if matches!(host, "" | "*") {
            return Err(format!(
                "the address has no host: write {scheme}://localhost for this machine alone, {scheme}://0.0.0.0 for everybody"
            ));
        }
        let default_port = if is_grpc { GRPC_PORT } else { HTTP_PORT };
        Ok(Self {
            is_grpc,
            is_secure,
            host: host.to_owned(),
            port: port.unwrap_or(default_port),
        })
    }

    /// Listens: on one socket, or on several where the host has several addresses.
    ///
    /// `localhost` is 127.0.0.1 and, where this machine has it, ::1. With port 0 only the first address is taken, so
    /// that there is one port to tell.
    ///
    /// # Errors
    ///
    /// Words for the user: which address cannot be listened on, why, and what to do.
    pub(super) async fn open(&self) -> Result<Vec<Socket>, String> {
        let listeners = address::open_each(&self.host, self.port, |address| {
            address::listen(address).map(|listener| self.socket(listener, address))
        });
        listeners.await.map_err(|unheard| match unheard {
            Unheard::Unknown(error) => format!("cannot listen on {self}: unknown host: {error}"),
            Unheard::Closed(address, error) => self.cannot_listen(address, &error),
        })
    }

    fn socket(&self, listener: TcpListener, asked: SocketAddr) -> Socket {
        let address = listener.local_addr().unwrap_or(asked);
        Socket {
            listener,
            is_secure: self.is_secure,
            shown: format!("{}://{address}", self.scheme()),
            is_public: !address.ip().is_loopback(),
        }
    }

    fn cannot_listen(&self, address: SocketAddr, error: &io::Error) -> String {
        let scheme = self.scheme();
        let host = &self.host;
        let advice = match error.kind() {
            ErrorKind::AddrInUse => format!(
                "the address is taken, perhaps by another agent or collector: stop that one, or listen elsewhere with --listen {scheme}://{}:PORT",
                Bracketed(host)
            ),
            ErrorKind::PermissionDenied => {
                "this needs a privilege: take a port from 1024 on".to_owned()
            }
            ErrorKind::AddrNotAvailable => {
                "this machine has no such address: localhost, 0.0.0.0 and [::] work everywhere"
                    .to_owned()
            }
            _ => error.to_string(),
        };
        format!("cannot listen on {scheme}://{address}: {advice}")
    }

    fn scheme(&self) -> &'static str {
        match (self.is_grpc, self.is_secure) {
            (true, false) => "grpc",
            (true, true) => "grpcs",
            (false, false) => "http",
            (false, true) => "https",
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = Bracketed(&self.host);
        write!(f, "{}://{host}:{}", self.scheme(), self.port)
    }
}

/// What to say about `localhost:4317` and `tcp://x`.
fn without_scheme(text: &str) -> String {
    const USE: &str = "use grpc://, http://, or with TLS grpcs://, https://";

    if let Some((scheme, _)) = text.split_once("://") {
        return format!("unknown scheme \"{scheme}\": {USE}");
    }
    match text.rsplit_once(':') {
        Some((_, "4318")) => format!("no scheme in \"{text}\": did you mean http://{text}?"),
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            format!("no scheme in \"{text}\": did you mean grpc://{text}?")
        }
        _ => format!("no scheme in \"{text}\": {USE}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (&'static str, String, u16) {
        let listen = Listen::parse(text).unwrap();
        (listen.scheme(), listen.host.clone(), listen.port)
    }

    #[test]
    fn schemes_choose_the_default_port_and_tls() {
        let localhost = || "localhost".to_owned();
        assert_eq!(parts("grpc://localhost"), ("grpc", localhost(), 4317));
        assert_eq!(parts("GRPCS://localhost/"), ("grpcs", localhost(), 4317));
        assert_eq!(parts("http://localhost"), ("http", localhost(), 4318));
        assert_eq!(parts("https://localhost:0"), ("https", localhost(), 0));
        assert_eq!(parts("grpc://0.0.0.0:1"), ("grpc", "0.0.0.0".into(), 1));
        assert_eq!(parts("http://[::1]"), ("http", "::1".into(), 4318));
        assert_eq!(parts("http://[::]:5"), ("http", "::".into(), 5));
    }

    #[test]
    fn mistakes_are_told_with_what_to_write_instead() {
        for (text, told) in [
            ("localhost:4317", "did you mean grpc://localhost:4317?"),
            ("0.0.0.0:4318", "did you mean http://0.0.0.0:4318?"),
            ("localhost", "no scheme in \"localhost\": use grpc://"),
            (":4317", "no scheme"),
            ("tcp://localhost", "unknown scheme \"tcp\""),
            ("grpc:localhost", "two slashes"),
            ("grpc", "two slashes"),
            ("grpc://", "grpc://localhost for this machine alone"),
            ("grpc://:4317", "grpc://0.0.0.0 for everybody"),
            ("http://*:4318", "no host"),
            ("http://localhost/v1/traces", "leave out /v1/traces"),
            ("http://localhost?x", "leave out ?x"),
            ("http://me:secret@localhost", "no user"),
            ("grpc://::1", "grpc://[::1]"),
            ("grpc://[::1", "not closed"),
            ("grpc://[::1]4317x", "invalid port \"4317x\""),
            ("grpc://[x]:4317", "no IPv6 address"),
            ("grpc://localhost:", "invalid port \"\""),
            ("grpc://localhost:65536", "invalid port \"65536\""),
            ("grpc://localhost:-1", "invalid port"),
        ] {
            let error = Listen::parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn any_text_is_read_or_refused() {
        proptest::proptest!(|(text in "(grpc|http)?s?:?/{0,2}[\\[\\]:@/0-9a-fé?#*]{0,24}")| {
            if let Ok(listen) = Listen::parse(&text) {
                assert_eq!(Listen::parse(&listen.to_string()), Ok(listen));
            }
        });
    }

    #[tokio::test]
    async fn port_0_takes_one_free_port_and_tells_it() {
        let sockets = Listen::parse("http://localhost:0")
            .unwrap()
            .open()
            .await
            .unwrap();
        let [socket] = sockets.as_slice() else {
            panic!("{sockets:?}");
        };
        let address = socket.listener.local_addr().unwrap();
        assert!(address.ip().is_loopback() && address.port() > 0);
        assert_eq!(socket.shown, format!("http://{address}"));
        assert!(!socket.is_public);
    }

    #[tokio::test]
    async fn localhost_is_both_loopback_addresses_where_there_are_two() {
        // A port that was free a moment ago may be taken now, so several are tried.
        for _ in 0..20 {
            let free = Listen::parse("grpc://localhost:0").unwrap();
            let port = free.open().await.unwrap()[0].listener.local_addr().unwrap();
            let listen = Listen {
                port: port.port(),
                ..free
            };
            let Ok(sockets) = listen.open().await else {
                continue;
            };
            let has_v6 = std::net::TcpListener::bind("[::1]:0").is_ok();
            assert_eq!(sockets.len(), 1 + usize::from(has_v6));
            assert!(sockets[0].shown.starts_with("grpc://127.0.0.1:"));
            return;
        }
        panic!("no port is free twice");
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named_with_what_to_do() {
        let free = Listen::parse("grpc://127.0.0.1:0").unwrap();
        let sockets = free.open().await.unwrap();
        let port = sockets[0].listener.local_addr().unwrap().port();
        let error = Listen { port, ..free }.open().await.unwrap_err();
        assert!(
            error.starts_with(&format!(
                "cannot listen on grpc://127.0.0.1:{port}: the address is taken"
            )),
            "{error}"
        );
        assert!(error.contains("--listen grpc://127.0.0.1:PORT"), "{error}");
        drop(sockets);
        Listen::parse(&format!("grpc://127.0.0.1:{port}"))
            .unwrap()
            .open()
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_refused() {
        let listen = Listen::parse("http://192.0.2.1:0").unwrap();
        let error = listen.open().await.unwrap_err();
        assert!(
            error.contains("this machine has no such address"),
            "{error}"
        );
    }
}
