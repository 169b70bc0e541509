//! Where to listen.

use std::fmt;
use std::io;
use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::net::UdpSocket;

use super::udp;
use crate::address;
use crate::address::Bracketed;
use crate::address::Unheard;
use crate::address::host_and_port;

/// The schemes, for those who wrote another one.
const SCHEMES: &str = "use grpc://, http://, zipkin+http://, jaeger+http://, with TLS grpcs://, https://, zipkin+https://, \
     jaeger+https://, or jaeger+udp://";

/// Holds an address to listen on, as `--listen` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) kind: Kind,
    pub(crate) is_secure: bool,
    /// The host without its port, and without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Names the kinds of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// OTLP; this one and the next take both gRPC and HTTP.
    Grpc,
    /// OTLP.
    Http,
    /// Zipkin v2 over HTTP.
    Zipkin,
    /// Jaeger's Thrift over HTTP.
    JaegerHttp,
    /// Jaeger's Thrift over UDP.
    JaegerUdp,
}

/// Names what is spoken at an address that takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// OTLP over gRPC and HTTP.
    Otlp,
    /// Zipkin v2 over HTTP.
    Zipkin,
    /// Jaeger's Thrift over HTTP.
    Jaeger,
}

/// Says what to expect of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spoken {
    pub(super) protocol: Protocol,
    pub(super) is_secure: bool,
}

/// Holds a socket that takes connections or datagrams.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) source: Source,
    /// The address as it may be shown, with the port that the kernel gave.
    pub(super) shown: String,
    /// Whether others than programs on this machine get here.
    pub(super) is_public: bool,
}

/// Names what comes to a socket.
#[derive(Debug)]
pub(super) enum Source {
    /// Connections, on which this is spoken.
    Connections(TcpListener, Spoken),
    /// Datagrams of Jaeger's Thrift.
    Datagrams(UdpSocket),
}

impl Listen {
    /// Reads a value of `--listen`.
    ///
    /// # Errors
    ///
    /// Words for the user.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
        let scheme = scheme.to_ascii_lowercase();
        let (kind, is_secure) = Kind::of_scheme(&scheme).ok_or_else(|| without_scheme(text))?;
        let rest = rest
            .strip_prefix("//")
            .ok_or("the address starts with two slashes, as in grpc://localhost:4317")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if !matches!(path, "" | "/") {
            return Err(format!(
                "an address to listen on has no path: leave out {path}{}",
                kind.place()
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
        Ok(Self {
            kind,
            is_secure,
            host: host.to_owned(),
            port: port.unwrap_or(kind.default_port()),
        })
    }

    /// Listens: on one socket, or on several where the host has several addresses.
    ///
    /// # Errors
    ///
    /// Words for the user: which address cannot be listened on, why, and what to do.
    pub(super) async fn open(&self) -> Result<Vec<Socket>, String> {
        let sockets = address::open_each(&self.host, self.port, |address| self.socket(address));
        sockets.await.map_err(|unheard| match unheard {
            Unheard::Unknown(error) => format!("cannot listen on {self}: unknown host: {error}"),
            Unheard::Closed(address, error) => self.cannot_listen(address, &error),
        })
    }

    fn socket(&self, address: SocketAddr) -> io::Result<Socket> {
        let source = match self.kind.protocol() {
            Some(protocol) => {
                let spoken = Spoken {
                    protocol,
                    is_secure: self.is_secure,
                };
                Source::Connections(address::listen(address)?, spoken)
            }
            None => Source::Datagrams(udp::open(address)?),
        };
        let address = source.address()?;
        Ok(Socket {
            source,
            shown: format!("{}://{address}", self.scheme()),
            is_public: !address.ip().is_loopback(),
        })
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
        match (self.kind, self.is_secure) {
            (Kind::Grpc, false) => "grpc",
            (Kind::Grpc, true) => "grpcs",
            (Kind::Http, false) => "http",
            (Kind::Http, true) => "https",
            (Kind::Zipkin, false) => "zipkin+http",
            (Kind::Zipkin, true) => "zipkin+https",
            (Kind::JaegerHttp, false) => "jaeger+http",
            (Kind::JaegerHttp, true) => "jaeger+https",
            (Kind::JaegerUdp, _) => "jaeger+udp",
        }
    }
}

impl Source {
    /// The address with the port that the kernel gave.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Connections(listener, _) => listener.local_addr(),
            Self::Datagrams(socket) => socket.local_addr(),
        }
    }
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Grpc,
        Self::Http,
        Self::Zipkin,
        Self::JaegerHttp,
        Self::JaegerUdp,
    ];

    /// The kind and whether it is encrypted, by a scheme in lower case.
    fn of_scheme(scheme: &str) -> Option<(Self, bool)> {
        Some(match scheme {
            "grpc" => (Self::Grpc, false),
            "grpcs" => (Self::Grpc, true),
            "http" => (Self::Http, false),
            "https" => (Self::Http, true),
            "zipkin" | "zipkin+http" => (Self::Zipkin, false),
            "zipkin+https" => (Self::Zipkin, true),
            "jaeger+http" => (Self::JaegerHttp, false),
            "jaeger+https" => (Self::JaegerHttp, true),
            "jaeger+udp" => (Self::JaegerUdp, false),
            _ => return None,
        })
    }

    /// The ports that programs send to unless told.
    fn default_port(self) -> u16 {
        match self {
            Self::Grpc => 4317,
            Self::Http => 4318,
            Self::Zipkin => 9411,
            Self::JaegerHttp => 14268,
            Self::JaegerUdp => 6831,
        }
    }

    /// Where spans go at an address, for those who wrote a path.
    fn place(self) -> &'static str {
        match self {
            Self::Grpc | Self::Http => "; OTLP/HTTP is at /v1/traces of each",
            Self::Zipkin => "; spans go to /api/v2/spans of it",
            Self::JaegerHttp => "; spans go to /api/traces of it",
            Self::JaegerUdp => "",
        }
    }

    /// What is spoken on connections; nothing where there are none.
    pub(super) fn protocol(self) -> Option<Protocol> {
        match self {
            Self::Grpc | Self::Http => Some(Protocol::Otlp),
            Self::Zipkin => Some(Protocol::Zipkin),
            Self::JaegerHttp => Some(Protocol::Jaeger),
            Self::JaegerUdp => None,
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
    if let Some((scheme, _)) = text.split_once("://") {
        return format!("unknown scheme \"{scheme}\": {SCHEMES}");
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return format!("no scheme in \"{text}\": {SCHEMES}");
    };
    let scheme = match port {
        "4318" => "http",
        "9411" => "zipkin+http",
        "14268" => "jaeger+http",
        "6831" | "6832" => "jaeger+udp",
        _ if !host.is_empty() && port.parse::<u16>().is_ok() => "grpc",
        _ => return format!("no scheme in \"{text}\": {SCHEMES}"),
    };
    format!("no scheme in \"{text}\": did you mean {scheme}://{text}?")
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
        assert_eq!(parts("zipkin://x"), ("zipkin+http", "x".into(), 9411));
        assert_eq!(
            parts("Zipkin+HTTPS://x"),
            ("zipkin+https", "x".into(), 9411)
        );
        assert_eq!(parts("jaeger+http://x"), ("jaeger+http", "x".into(), 14268));
        assert_eq!(
            parts("jaeger+https://x"),
            ("jaeger+https", "x".into(), 14268)
        );
        assert_eq!(parts("jaeger+udp://x"), ("jaeger+udp", "x".into(), 6831));
        assert_eq!(
            parts("jaeger+udp://x:6832"),
            ("jaeger+udp", "x".into(), 6832)
        );
    }

    #[test]
    fn mistakes_are_told_with_what_to_write_instead() {
        for (text, told) in [
            ("localhost:4317", "did you mean grpc://localhost:4317?"),
            ("0.0.0.0:4318", "did you mean http://0.0.0.0:4318?"),
            ("::1:9411", "did you mean zipkin+http://::1:9411?"),
            (
                "localhost:14268",
                "did you mean jaeger+http://localhost:14268?",
            ),
            (
                "localhost:6832",
                "did you mean jaeger+udp://localhost:6832?",
            ),
            (
                "jaeger://localhost",
                "unknown scheme \"jaeger\": use grpc://",
            ),
            ("zipkin://x/api/v2/spans", "spans go to /api/v2/spans of it"),
            (
                "jaeger+http://x/api/traces",
                "spans go to /api/traces of it",
            ),
            ("jaeger+udp://x/y", "leave out /y"),
            ("localhost", "no scheme in \"localhost\": use grpc://"),
            (":4317", "no scheme in \":4317\": use grpc://"),
            (
                "localhost:otlp",
                "no scheme in \"localhost:otlp\": use grpc://",
            ),
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
        proptest::proptest!(|(text in "((zipkin|jaeger)\\+?)?(grpc|http|udp)?s?:?/{0,2}[\\[\\]:@/0-9a-fé?#*]{0,24}")| {
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
        let address = socket.source.address().unwrap();
        assert!(address.ip().is_loopback() && address.port() > 0);
        assert_eq!(socket.shown, format!("http://{address}"));
        assert!(!socket.is_public);
    }

    #[tokio::test]
    async fn localhost_is_both_loopback_addresses_where_there_are_two() {
        // A port that was free a moment ago may be taken now, so several are tried.
        for _ in 0..20 {
            let free = Listen::parse("grpc://localhost:0").unwrap();
            let port = free.open().await.unwrap()[0].source.address().unwrap();
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
        let port = sockets[0].source.address().unwrap().port();
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

    #[test]
    fn what_needs_a_privilege_is_told_with_what_does_not() {
        let listen = Listen::parse("http://127.0.0.1:80").unwrap();
        let denied = io::Error::from(ErrorKind::PermissionDenied);
        let told = listen.cannot_listen("127.0.0.1:80".parse().unwrap(), &denied);
        assert!(told.contains("take a port from 1024 on"), "{told}");
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
