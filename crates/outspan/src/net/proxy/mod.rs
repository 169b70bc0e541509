//! Proxies between an exporter and its destination.
//!
//! ```text
//! destination               HTTP proxy                           SOCKS5 proxy
//! http://  over HTTP/1.1    requests with the whole URL          tunnel
//! http://  gRPC             tunnel (CONNECT, RFC 9110 9.3.6)     tunnel (RFC 1928)
//! https:// either           tunnel (CONNECT), TLS inside         tunnel, TLS inside
//! ```
//!
//! Plain requests are forwarded rather than tunnelled because proxies commonly open tunnels to port 443 alone. Inside a
//! tunnel everything is as without a proxy.
//!
//! The handshakes are ours: those of `hyper-util` read past the proxy's answer and drop what stands behind it, which is
//! where an HTTP/2 server's first words are, and they hide what the proxy answered.

mod environment;
mod socks;
mod tunnel;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::StatusCode;
use http::Uri;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Endpoint;
use super::Tls;
use super::Versions;
use super::cause::root_cause;
use super::endpoint::without_credentials;
use super::headers::scrub;
use super::resolver::Resolver;
use super::tls::TlsInUse;
use super::transport::Transport;
use crate::Error;
use crate::Result;
use crate::Secret;

/// Which proxy an exporter is to use, as its options say.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProxyOptions {
    pub(crate) choice: ProxyChoice,
    /// Whom to trust behind `https://` of a proxy. `None`: whom the exporter trusts.
    pub(crate) tls: Option<Tls>,
}

/// Where the choice of a proxy comes from.
#[derive(Clone, Default)]
pub(crate) enum ProxyChoice {
    /// `HTTPS_PROXY` and the like.
    #[default]
    Environment,
    /// No proxy, whatever the environment says.
    Never,
    /// This one, for any destination.
    Url(Secret),
}

impl fmt::Debug for ProxyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("Environment"),
            Self::Never => f.write_str("Never"),
            Self::Url(url) => write!(f, "\"{}\"", without_credentials(url.expose())),
        }
    }
}

impl ProxyOptions {
    /// Finds the proxy for a destination.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if the proxy is no URL, speaks a protocol that we do not, or cannot lead to
    /// this destination.
    pub(super) fn find(
        &self,
        endpoint: &Endpoint,
        tls: &Tls,
        versions: Versions,
    ) -> Result<Option<Proxied>> {
        let is_socket = endpoint.socket().is_some();
        let proxy = match &self.choice {
            ProxyChoice::Never => None,
            ProxyChoice::Url(_) if is_socket => {
                return Err(Error::config(format!(
                    "no proxy leads to the unix socket {endpoint}: leave the proxy out"
                )));
            }
            ProxyChoice::Url(url) => Some(self.explicit(url)?),
            ProxyChoice::Environment if is_socket => None,
            ProxyChoice::Environment => {
                // gRPC is always tunnelled, so it asks for the proxy that tunnels, as gRPC's libraries do.
                let tunnels = endpoint.is_secure() || versions == Versions::Two;
                let lookup = |name: &str| std::env::var_os(name);
                environment::find(lookup, tunnels, endpoint.host(), endpoint.port())?
            }
        };
        let Some(proxy) = proxy else {
            return Ok(None);
        };
        let tls = self.tls.clone().unwrap_or_else(|| tls.trust_alone());
        let tls = match proxy.kind {
            Kind::Https => {
                let tls = TlsInUse::new(tls, proxy.place.host(), &[b"http/1.1"])?;
                Some(Arc::new(tls))
            }
            _ => None,
        };
        let forwards =
            proxy.speaks_http() && !endpoint.is_secure() && versions == Versions::OneOrTwo;
        Ok(Some(Proxied {
            proxy,
            tls,
            forwards,
            host: endpoint.host().to_owned(),
            port: endpoint.port(),
            target: Arc::clone(&endpoint.server),
        }))
    }

    fn explicit(&self, url: &Secret) -> Result<Proxy> {
        let proxy = Proxy::parse(url.expose())?;
        if self.tls.is_some() && proxy.kind != Kind::Https {
            return Err(Error::config(format!(
                "proxy_tls is set but {proxy} is not encrypted: use an https:// proxy, or leave proxy_tls out"
            )));
        }
        Ok(proxy)
    }
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Https,
    /// SOCKS5, with names looked up here (`socks5`) or by the proxy (`socks5h`), as curl reads the schemes.
    Socks {
        resolves_here: bool,
    },
}

impl Kind {
    fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks {
                resolves_here: true,
            } => "socks5",
            Self::Socks {
                resolves_here: false,
            } => "socks5h",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks { .. } => 1080,
        }
    }
}

/// A proxy's URL, taken apart.
struct Proxy {
    kind: Kind,
    place: Endpoint,
    credentials: Option<(Vec<u8>, Vec<u8>)>,
}

impl Proxy {
    /// Takes a URL apart; without a scheme it is an `http` one, as curl and Go read it. Its path means nothing.
    fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let invalid = |why: &str| {
            let shown = without_credentials(text);
            Error::config(format!("invalid proxy \"{shown}\": {why}"))
        };
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "http" => Kind::Http,
            "https" => Kind::Https,
            "socks5" => Kind::Socks {
                resolves_here: true,
            },
            "socks5h" => Kind::Socks {
                resolves_here: false,
            },
            _ => {
                return Err(invalid(
                    "unknown scheme; use http, https, socks5 or socks5h",
                ));
            }
        };
        let place = Endpoint::of_proxy(rest, kind.default_port())?;
        let credentials = place.user_and_password();
        if matches!(kind, Kind::Socks { .. })
            && let Some((user, password)) = &credentials
            && (user.is_empty() || user.len() > 255 || password.len() > 255)
        {
            // RFC 1929, section 2.
            return Err(invalid(
                "SOCKS5 takes a user of 1 to 255 bytes and a password of at most 255",
            ));
        }
        Ok(Self {
            kind,
            place,
            credentials,
        })
    }

    fn speaks_http(&self) -> bool {
        matches!(self.kind, Kind::Http | Kind::Https)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy {}://{}", self.kind.scheme(), self.place.server)
    }
}

/// A proxy on the way to one destination.
pub(super) struct Proxied {
    proxy: Proxy,
    tls: Option<Arc<TlsInUse>>,
    /// Whether it is sent whole requests, instead of being asked for a tunnel.
    forwards: bool,
    host: String,
    port: u16,
    target: Arc<str>,
}

impl Proxied {
    /// Where to connect to.
    pub(super) fn uri(&self) -> &Uri {
        &self.proxy.place.uri
    }

    pub(super) fn forwards(&self) -> bool {
        self.forwards
    }

    /// What the proxy wants to know of who forwards requests through it.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        let basic = self
            .proxy
            .place
            .basic_auth
            .as_ref()
            .filter(|_| self.forwards)?;
        let mut value = HeaderValue::from_str(basic.expose()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The error of an answer to a forwarded request that can only be the proxy's own.
    pub(super) fn refusal(&self, status: StatusCode) -> Option<Error> {
        let is_ours = self.forwards && status == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        is_ours.then(|| {
            let reason = status.canonical_reason().unwrap_or_default();
            let text = format!(
                "{} refused to forward to {}: {} {reason}{}",
                self.proxy,
                self.target,
                status.as_u16(),
                self.hint(status.as_u16())
            );
            Error::unavailable(text)
        })
    }

    /// Goes from a connection with the proxy to one with the destination. Each step may take as long as `limit`.
    pub(super) async fn open(
        &self,
        tcp: TcpStream,
        resolver: &Resolver,
        limit: Duration,
    ) -> Result<Transport, ProxyFailure> {
        let mut transport = match &self.tls {
            None => Transport::Tcp(tcp),
            Some(tls) => self.encrypt(tls, tcp, limit).await?,
        };
        if self.forwards {
            return Ok(transport);
        }
        let handshake = async {
            match self.proxy.kind {
                Kind::Socks { resolves_here } => {
                    let looks_up = resolves_here.then_some(resolver);
                    self.socks(&mut transport, looks_up).await
                }
                _ => self.connect(&mut transport).await,
            }
        };
        match tokio::time::timeout(limit, handshake).await {
            Ok(done) => done.map(|()| transport),
            Err(_) => Err(self.too_late("opened no tunnel", limit)),
        }
    }

    async fn encrypt(
        &self,
        tls: &Arc<TlsInUse>,
        tcp: TcpStream,
        limit: Duration,
    ) -> Result<Transport, ProxyFailure> {
        let handshake = TlsConnector::from(tls.config().await).connect(tls.name(), tcp);
        match tokio::time::timeout(limit, handshake).await {
            Ok(Ok(stream)) => Ok(Transport::ProxyTls(Box::new(stream))),
            Ok(Err(error)) => Err(self.tls_failed(&error)),
            Err(_) => Err(self.too_late("ended no TLS handshake", limit)),
        }
    }

    async fn connect(&self, transport: &mut Transport) -> Result<(), ProxyFailure> {
        let authorization = self.proxy.place.basic_auth.as_ref();
        let answer = tunnel::connect(transport, &self.target, authorization)
            .await
            .map_err(|trouble| self.trouble(&trouble))?;
        if (200..300).contains(&answer.status) {
            return Ok(());
        }
        let reason = scrub(&answer.reason, &self.secrets());
        let refusal = format!("{} {reason}", answer.status);
        Err(self.refused(refusal.trim_end(), self.hint(answer.status)))
    }

    async fn socks(
        &self,
        transport: &mut Transport,
        looks_up: Option<&Resolver>,
    ) -> Result<(), ProxyFailure> {
        let target = socks::Target::find(&self.host, self.port, looks_up)
            .await
            .map_err(|error| {
                let host = &self.host;
                ProxyFailure::new(format!(
                    "cannot find the address of {host} for {}: {error} (check the host name in the endpoint, or let the proxy look it up: socks5h://)",
                    self.proxy
                ))
            })?;
        let credentials = self.proxy.credentials.as_ref();
        let answer = socks::connect(transport, &target, credentials)
            .await
            .map_err(|trouble| self.trouble(&trouble))?;
        match answer {
            socks::Answer::Open => Ok(()),
            socks::Answer::NoMethod => {
                let hint = match credentials {
                    None => " (give user and password in the proxy's URL)",
                    Some(_) => "",
                };
                Err(self.refused("none of our ways to authenticate is accepted", hint))
            }
            socks::Answer::WrongPassword => {
                Err(self.refused("user or password are not accepted", ""))
            }
            socks::Answer::Refused(reply) => Err(self.refused(socks::reply_words(reply), "")),
        }
    }

    fn hint(&self, status: u16) -> &'static str {
        match status {
            407 if self.proxy.credentials.is_none() => {
                " (give user and password in the proxy's URL)"
            }
            407 => " (user or password are not accepted)",
            403 | 405 => " (the proxy allows no tunnel to this host or port)",
            502..=504 => " (the proxy cannot reach the destination)",
            _ => "",
        }
    }

    fn secrets(&self) -> Vec<Secret> {
        let mut secrets = self.proxy.place.secrets();
        secrets.extend(self.proxy.place.basic_auth.clone());
        secrets
    }

    fn refused(&self, why: &str, hint: &str) -> ProxyFailure {
        let (proxy, target) = (&self.proxy, &self.target);
        ProxyFailure::new(format!(
            "{proxy} refused the tunnel to {target}: {why}{hint}"
        ))
    }

    fn trouble(&self, trouble: &Trouble) -> ProxyFailure {
        let (proxy, target) = (&self.proxy, &self.target);
        ProxyFailure::new(match trouble {
            Trouble::Broken(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                format!("{proxy} hung up before it opened the tunnel to {target}")
            }
            Trouble::Broken(error) => {
                format!(
                    "{proxy} broke the connection before it opened the tunnel to {target}: {error}"
                )
            }
            Trouble::Nonsense(hint) => {
                let what = match self.proxy.kind {
                    Kind::Socks { .. } => "SOCKS5",
                    _ => "HTTP",
                };
                format!("{proxy} does not answer in {what}{hint}")
            }
            Trouble::TooLong(bytes) => {
                format!("{proxy} answers with more than {bytes} bytes of headers")
            }
        })
    }

    /// Says that the connection to the proxy itself failed.
    pub(super) fn cannot_reach(&self, error: Box<dyn StdError + Send + Sync>) -> ProxyFailure {
        let proxy = &self.proxy;
        let cause = root_cause(error.as_ref());
        let hint = match cause.contains("refused") {
            true => " (is the proxy running at this address?)",
            false => "",
        };
        ProxyFailure {
            text: format!("cannot connect to {proxy}: {cause}{hint}"),
            source: Some(error),
        }
    }

    pub(super) fn too_late(&self, what: &str, limit: Duration) -> ProxyFailure {
        let proxy = &self.proxy;
        ProxyFailure::new(format!(
            "{proxy} {what} within the connect timeout of {limit:?}"
        ))
    }

    fn tls_failed(&self, error: &io::Error) -> ProxyFailure {
        let cause = error.to_string();
        let hint = if cause.contains("UnknownIssuer") {
            " (an unknown authority signed the proxy's certificate: give its CA certificate)"
        } else if cause.contains("InvalidContentType") || cause.contains("corrupt message") {
            " (the proxy does not speak TLS: use http:// in its URL)"
        } else {
            ""
        };
        let proxy = &self.proxy;
        ProxyFailure::new(format!("no TLS with {proxy}: {cause}{hint}"))
    }
}

impl fmt::Display for Proxied {
    /// Shows the URL without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = &self.proxy;
        write!(f, "{}://{}", proxy.kind.scheme(), proxy.place.server)
    }
}

impl fmt::Debug for Proxied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// How a handshake with a proxy ended, when not with an answer.
#[derive(Debug)]
enum Trouble {
    Broken(io::Error),
    /// Not the protocol, with a hint at what the user may have meant.
    Nonsense(&'static str),
    TooLong(usize),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// What went wrong with a proxy, in words that need no others.
#[derive(Debug)]
pub(super) struct ProxyFailure {
    text: String,
    /// Why the connection to the proxy failed. The text has it, and this is for finding out what kind it is of.
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl ProxyFailure {
    fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            source: None,
        }
    }
}

impl fmt::Display for ProxyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for ProxyFailure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> String {
        match Proxy::parse(text) {
            Ok(proxy) => proxy.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_proxy_is_a_url_with_or_without_scheme_and_port() {
        for (text, shown) in [
            ("p:3128", "proxy http://p:3128"),
            ("http://p", "proxy http://p:80"),
            ("HTTPS://p/", "proxy https://p:443"),
            ("socks5://p", "proxy socks5://p:1080"),
            ("socks5h://u:secret@[::1]:9", "proxy socks5h://[::1]:9"),
            ("u:secret@p:1", "proxy http://p:1"),
        ] {
            assert_eq!(parse(text), shown);
        }
    }

    #[test]
    fn mistakes_are_named_without_the_password() {
        let long = format!("socks5://{}:hunter2@p", "u".repeat(256));
        for (text, why) in [
            ("", "it is empty"),
            (
                "socks4://u:hunter2@p:1",
                "use http, https, socks5 or socks5h",
            ),
            ("http://u:hunter2@p:99999", "port is not a number"),
            ("http://u:hunter2@", "invalid"),
            (&long, "1 to 255 bytes"),
            ("socks5://:hunter2@p", "1 to 255 bytes"),
        ] {
            let said = parse(text);
            assert!(said.starts_with("invalid proxy \""), "{said}");
            assert!(said.contains(why), "{text}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn socks_has_room_for_255_bytes_of_user_and_password() {
        for (user, password, fits) in [(255, 255, true), (256, 1, false), (1, 256, false)] {
            let (user, password) = ("u".repeat(user), "p".repeat(password));
            let said = parse(&format!("socks5://{user}:{password}@p"));
            assert_eq!(said == "proxy socks5://p:1080", fits, "{said}");
        }
    }

    #[test]
    fn a_choice_hides_the_password() {
        let options = ProxyOptions {
            choice: ProxyChoice::Url(Secret::new("http://u:hunter2@p:1")),
            tls: None,
        };
        let shown = format!("{options:?}");
        assert!(
            shown.contains("http://***@p:1") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[test]
    fn no_proxy_leads_to_a_unix_socket() {
        let endpoint = Endpoint::parse("unix:/c.sock", None, None).unwrap();
        let find = |choice| {
            let options = ProxyOptions { choice, tls: None };
            options.find(&endpoint, &Tls::new(), Versions::Two)
        };
        assert!(find(ProxyChoice::Never).unwrap().is_none());
        assert!(find(ProxyChoice::Environment).unwrap().is_none());
        let error = find(ProxyChoice::Url(Secret::new("http://p"))).unwrap_err();
        assert!(error.to_string().contains("unix:/c.sock"), "{error}");
    }

    #[test]
    fn plain_requests_are_forwarded_and_all_else_is_tunnelled() {
        let forwards = |proxy: &str, endpoint: &str, versions| {
            let options = ProxyOptions {
                choice: ProxyChoice::Url(Secret::new(proxy)),
                tls: None,
            };
            let endpoint = Endpoint::parse(endpoint, None, None).unwrap();
            let found = options.find(&endpoint, &Tls::new(), versions);
            found.unwrap().unwrap().forwards()
        };
        assert!(forwards("http://p", "http://c", Versions::OneOrTwo));
        assert!(forwards("https://p", "http://c", Versions::OneOrTwo));
        assert!(!forwards("http://p", "https://c", Versions::OneOrTwo));
        assert!(!forwards("http://p", "http://c", Versions::Two));
        assert!(!forwards("socks5://p", "http://c", Versions::OneOrTwo));
    }

    #[test]
    fn trouble_with_a_proxy_is_told_by_its_cause() {
        let options = ProxyOptions {
            choice: ProxyChoice::Url(Secret::new("https://p:1")),
            tls: None,
        };
        let endpoint = Endpoint::parse("http://c:2", None, None).unwrap();
        let found = options.find(&endpoint, &Tls::new(), Versions::Two);
        let proxied = found.unwrap().unwrap();
        let broken = |kind: io::ErrorKind| proxied.trouble(&Trouble::Broken(kind.into()));
        assert_eq!(
            broken(io::ErrorKind::UnexpectedEof).to_string(),
            "proxy https://p:1 hung up before it opened the tunnel to c:2"
        );
        let reset = broken(io::ErrorKind::ConnectionReset).to_string();
        assert!(
            reset.starts_with("proxy https://p:1 broke the connection"),
            "{reset}"
        );

        let failed = |cause: &str| proxied.tls_failed(&io::Error::other(cause)).to_string();
        for cause in ["InvalidContentType", "received corrupt message"] {
            let said = failed(cause);
            assert!(said.contains("(the proxy does not speak TLS"), "{said}");
        }
        assert_eq!(failed("gone"), "no TLS with proxy https://p:1: gone");
    }

    #[test]
    fn tls_for_a_proxy_without_tls_is_a_mistake() {
        let options = ProxyOptions {
            choice: ProxyChoice::Url(Secret::new("http://p")),
            tls: Some(Tls::new()),
        };
        let endpoint = Endpoint::parse("http://c", None, None).unwrap();
        let error = options.find(&endpoint, &Tls::new(), Versions::Two);
        assert!(error.unwrap_err().to_string().contains("proxy_tls"));
    }
}
