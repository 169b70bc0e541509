//! The options that every exporter over HTTP has, written once.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::header;

use crate::Compression;
use crate::Error;
use crate::Result;
use crate::Secret;
use crate::runtime::Runtime;

use super::ConnectionOptions;
use super::Connections;
use super::Endpoint;
use super::Headers;
use super::ProxyOptions;
use super::Tls;
use super::Versions;
use super::sender::Limits;
use super::sender::Protocol;
use super::sender::Sender;
use super::without_credentials;

/// The interval of HTTP/2 pings while an answer is awaited, and how long to wait for theirs.
///
/// Servers on stock gRPC libraries count a ping within 5 min of the one before as a strike unless they sent something in
/// between, and hang up after the third (`EnforcementPolicy.MinTime` of grpc-go, `permitKeepAliveTime` of grpc-java,
/// `GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS` of the C core). So the default stays above that. 20 s is the time
/// that all of them wait.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(6 * 60), Duration::from_secs(20));

/// The name under which we announce ourselves where no specification says how.
pub(crate) const OUR_USER_AGENT: &str = concat!("outspan/", env!("CARGO_PKG_VERSION"));

/// What was asked for, not checked yet.
pub(crate) struct HttpOptions {
    pub(crate) endpoint: String,
    pub(crate) path: Option<String>,
    /// Whether `/` as the path of the endpoint is what requests go to.
    pub(crate) keeps_root_path: bool,
    pub(crate) headers: Vec<(String, Secret)>,
    pub(crate) basic_auth: Option<(String, Secret)>,
    pub(crate) hooks: Headers,
    pub(crate) compression: Compression,
    pub(crate) compression_level: Option<u32>,
    pub(crate) tls: Tls,
    pub(crate) proxy: ProxyOptions,
    pub(crate) max_request_bytes: Option<usize>,
    pub(crate) max_response_bytes: usize,
    pub(crate) max_concurrent_exports: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) keep_alive: Option<(Duration, Duration)>,
    pub(crate) idle_timeout: Duration,
    pub(crate) user_agent: Option<String>,
    pub(crate) runtime: Runtime,
}

/// What the exporters differ in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// How we announce ourselves.
    pub(crate) user_agent: &'static str,
    pub(crate) versions: Versions,
    /// How many bytes a request may have unless another number is given.
    pub(crate) max_request_bytes: usize,
    /// What to say when a server speaks another version of HTTP: empty, or words that begin with a space.
    pub(crate) wrong_version_hint: &'static str,
}

impl HttpOptions {
    pub(crate) fn new(endpoint: String) -> Self {
        Self {
            endpoint,
            path: None,
            keeps_root_path: false,
            headers: Vec::new(),
            basic_auth: None,
            hooks: Headers::default(),
            compression: Compression::None,
            compression_level: None,
            tls: Tls::new(),
            proxy: ProxyOptions::default(),
            max_request_bytes: None,
            max_response_bytes: 4 << 20,
            max_concurrent_exports: 16,
            connect_timeout: Duration::from_secs(10),
            keep_alive: Some(KEEP_ALIVE),
            idle_timeout: Duration::from_secs(90),
            user_agent: None,
            runtime: Runtime::shared(),
        }
    }

    /// Takes the URL apart. Where it has no path, or only `/`, it gets `default_path`.
    pub(crate) fn parse_endpoint(&self, default_path: &str) -> Result<Endpoint> {
        let endpoint = Endpoint::parse(&self.endpoint, None, None)?;
        match &self.path {
            Some(path) => endpoint.with_path(path),
            None if endpoint.has_path => Ok(endpoint),
            None if self.keeps_root_path && endpoint.has_root_path => Ok(endpoint),
            None => endpoint.with_path(default_path),
        }
    }

    /// How bodies are compressed.
    pub(crate) fn compressor(&self) -> Result<Compressor> {
        let level = match self.compression_level {
            Some(level) => self.compression.check_level(level)?,
            None => self.compression.default_level(),
        };
        Ok(Compressor {
            compression: self.compression,
            level,
        })
    }

    /// Checks everything that is left to check, and makes what sends.
    pub(crate) fn into_sender<P: Protocol>(
        self,
        protocol: P,
        endpoint: Endpoint,
        manner: &Manner,
    ) -> Result<Sender<P>> {
        self.check_numbers()?;
        self.check_durations()?;
        self.runtime.check()?;
        let options = ConnectionOptions {
            connect_timeout: self.connect_timeout,
            keep_alive: self.keep_alive,
            idle_timeout: self.idle_timeout,
            max_idle: self.max_concurrent_exports,
            proxy: self.proxy.clone(),
            versions: manner.versions,
            runtime: self.runtime.clone(),
            wrong_version_hint: manner.wrong_version_hint,
        };
        let connections = Connections::new(&endpoint, &self.tls, &options)?;
        let limits = Limits {
            request_bytes: self.max_request_bytes.unwrap_or(manner.max_request_bytes),
            response_bytes: self.max_response_bytes,
            exports: self.max_concurrent_exports,
        };
        let runtime = self.runtime.clone();
        let headers = self.into_headers(&endpoint, manner.user_agent)?;
        Ok(Sender::new(
            protocol,
            endpoint,
            headers,
            connections,
            limits,
            runtime,
        ))
    }

    fn into_headers(self, endpoint: &Endpoint, our_name: &str) -> Result<Headers> {
        let mut headers = self.hooks;
        headers.keep_secret(endpoint.secrets());
        if let Some(basic) = &endpoint.basic_auth {
            headers.set("authorization", basic.clone())?;
        }
        if let Some((user, password)) = self.basic_auth {
            headers.set("authorization", basic(&user, &password)?)?;
            headers.keep_secret([password]);
        }
        let user_agent = match self.user_agent {
            Some(product) => format!("{product} {our_name}"),
            None => our_name.to_owned(),
        };
        headers.set_public("user-agent", &user_agent)?;
        for (name, value) in self.headers {
            headers.set(&name, value)?;
        }
        Ok(headers)
    }

    fn check_numbers(&self) -> Result<()> {
        if self.max_concurrent_exports == 0 {
            return Err(Error::config("max_concurrent_exports must be at least 1"));
        }
        if self.max_request_bytes == Some(0) || self.max_response_bytes == 0 {
            return Err(Error::config(
                "request and response limits must be at least 1 byte",
            ));
        }
        Ok(())
    }

    fn check_durations(&self) -> Result<()> {
        let (interval, timeout) = self.keep_alive.unwrap_or((Duration::MAX, Duration::MAX));
        for (name, length) in [
            ("connect_timeout", self.connect_timeout),
            ("the interval of keep_alive", interval),
            ("the timeout of keep_alive", timeout),
            ("idle_timeout", self.idle_timeout),
        ] {
            if length.is_zero() {
                return Err(Error::config(format!("{name} must be longer than nothing")));
            }
        }
        Ok(())
    }

    /// Shows the options in a builder's `Debug`, without what is secret.
    pub(crate) fn show(&self, shown: &mut fmt::DebugStruct<'_, '_>) {
        let headers = self.headers.iter().map(|(name, _)| name);
        shown
            .field("endpoint", &without_credentials(&self.endpoint))
            .field("headers", &headers.collect::<Vec<_>>())
            .field("compression", &self.compression)
            .field("tls", &self.tls)
            .field("proxy", &self.proxy);
    }
}

/// Writes user and password as RFC 7617 has them.
fn basic(user: &str, password: &Secret) -> Result<Secret> {
    if user.contains(':') {
        return Err(Error::config(
            "the user of basic_auth has a colon, which only the password may have",
        ));
    }
    let plain = format!("{user}:{}", password.expose());
    Ok(Secret::new(format!("Basic {}", STANDARD.encode(plain))))
}

/// Compresses bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compressor {
    pub(crate) compression: Compression,
    pub(crate) level: u32,
}

impl Compressor {
    /// Sets what the body is and how it is compressed.
    pub(crate) fn set_headers(self, headers: &mut HeaderMap, content_type: HeaderValue) {
        headers.insert(header::CONTENT_TYPE, content_type);
        if self.compression != Compression::None {
            let encoding = HeaderValue::from_static(self.compression.as_str());
            headers.insert(header::CONTENT_ENCODING, encoding);
        }
    }

    /// Compresses a body into at most `max_bytes` bytes.
    pub(crate) fn compress_within(self, plain: &Bytes, max_bytes: usize) -> Result<Bytes> {
        self.compression
            .compress_within(self.level, plain, max_bytes)
    }
}

/// Writes the methods of a builder with a field `http` of type [`HttpOptions`]: one noun an option.
///
/// Its argument is what the documentation says about the bytes that a request may have.
macro_rules! http_options {
    ($($request_limit:literal)*) => {
        /// Sets the path, in place of the endpoint's own or the default one.
        pub fn path(mut self, path: impl Into<String>) -> Self {
            self.http.path = Some(path.into());
            self
        }

        /// Adds a header (metadata, in gRPC's words), in place of one of the same name. Values never appear in logs.
        pub fn header(
            mut self,
            name: impl Into<String>,
            value: impl Into<$crate::Secret>,
        ) -> Self {
            self.http.headers.push((name.into(), value.into()));
            self
        }

        /// Adds headers; see [`header`](Self::header).
        pub fn headers<N, V>(mut self, headers: impl IntoIterator<Item = (N, V)>) -> Self
        where
            N: Into<String>,
            V: Into<$crate::Secret>,
        {
            let headers = headers.into_iter().map(|(n, v)| (n.into(), v.into()));
            self.http.headers.extend(headers);
            self
        }

        /// Shows user and password to the server (RFC 7617), in place of those in the URL. Only an encrypted connection
        /// keeps them from others.
        pub fn basic_auth(
            mut self,
            user: impl Into<String>,
            password: impl Into<$crate::Secret>,
        ) -> Self {
            self.http.basic_auth = Some((user.into(), password.into()));
            self
        }

        /// Asks for headers at each attempt, and once more when the server answers that it does not know us (401,
        /// `UNAUTHENTICATED`); see [`HeaderProvider`](crate::net::HeaderProvider). Its headers win over fixed ones.
        pub fn header_provider(mut self, provider: impl $crate::net::HeaderProvider) -> Self {
            self.http.hooks.set_provider(provider);
            self
        }

        /// Lets a hook see and change each request, for instance to sign it; see
        /// [`Intercept`](crate::net::Intercept).
        pub fn interceptor(mut self, hook: impl $crate::net::Intercept) -> Self {
            self.http.hooks.set_intercept(hook);
            self
        }

        /// Compresses requests; the default is not to, because it costs more than sending within a data centre.
        pub fn compression(mut self, compression: $crate::Compression) -> Self {
            self.http.compression = compression;
            self
        }

        /// Sets how hard to compress; see [`Compression`](crate::Compression) for ranges and defaults.
        pub fn compression_level(mut self, level: u32) -> Self {
            self.http.compression_level = Some(level);
            self
        }

        /// Sets whom to trust and who we are; only for encrypted connections.
        pub fn tls(mut self, tls: $crate::net::Tls) -> Self {
            self.http.tls = tls;
            self
        }

        /// Sets how many bytes a request may have, before and after compression. A batch that has more is split; one
        /// span that has more is left with [`TooLarge`](crate::ErrorKind::TooLarge).
        ///
        $(#[doc = $request_limit])*
        pub fn max_request_bytes(mut self, bytes: usize) -> Self {
            self.http.max_request_bytes = Some(bytes);
            self
        }

        /// Sets how many bytes an answer may have. Default: 4 MiB, as OTLP recommends.
        pub fn max_response_bytes(mut self, bytes: usize) -> Self {
            self.http.max_response_bytes = bytes;
            self
        }

        /// Sets how many exports run at once; more wait. Default: 16, which keeps a link of 100 ms busy with small
        /// batches.
        pub fn max_concurrent_exports(mut self, exports: usize) -> Self {
            self.http.max_concurrent_exports = exports;
            self
        }

        /// Goes through a proxy, whatever the environment says: `http://`, `https://`, `socks5://` (names are looked up
        /// here) or `socks5h://` (the proxy looks them up), then `user:password@` where it wants them, host and port.
        /// User and password never appear in logs.
        ///
        /// Encrypted connections and gRPC go through a tunnel (`CONNECT`); plain HTTP requests are forwarded.
        ///
        /// Default: the proxy of the environment. `HTTPS_PROXY` is for encrypted destinations and for gRPC, `HTTP_PROXY`
        /// for others, `ALL_PROXY` for those without one of their own, also in lower case (`HTTP_PROXY` is not read where
        /// `REQUEST_METHOD` is set: there a web server may have set it from a request). `NO_PROXY` lists exceptions with
        /// commas: a name and all names below it (`example.com`), only the names below it (`.example.com`), addresses,
        /// networks (`10.0.0.0/8`), each of them but networks also with a port, or `*`. Destinations on this machine need
        /// no proxy. These are the rules of Go's exporters, and curl's for `ALL_PROXY`.
        pub fn proxy(mut self, url: impl Into<$crate::Secret>) -> Self {
            self.http.proxy.choice = $crate::net::ProxyChoice::Url(url.into());
            self
        }

        /// Goes through no proxy, whatever the environment says.
        pub fn no_proxy(mut self) -> Self {
            self.http.proxy.choice = $crate::net::ProxyChoice::Never;
            self
        }

        /// Sets whom to trust, and who we are, for an `https://` proxy. Default: whom [`tls`](Self::tls) trusts, without
        /// showing who we are.
        pub fn proxy_tls(mut self, tls: $crate::net::Tls) -> Self {
            self.http.proxy.tls = Some(tls);
            self
        }

        /// Sets how long connecting may take: finding and reaching the address, and as long again for each handshake: of
        /// TLS with a proxy, of a proxy's tunnel, of TLS. Default: 10 s.
        pub fn connect_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.http.connect_timeout = timeout;
            self
        }

        /// Sends an HTTP/2 ping when an answer is awaited and nothing has come for `interval`, and gives the connection
        /// up when the ping is not answered within `timeout`.
        ///
        /// Default: 6 min and 20 s. Servers on stock gRPC libraries hang up on clients that send pings more often than
        /// every 5 min while they get no data, unless they are set to allow it (`EnforcementPolicy` of grpc-go,
        /// `keepalive.enforcement_policy` of the Collector's gRPC receivers). Allow a shorter interval there first.
        ///
        /// Pings are not needed to get away from a connection that does not answer. One over which an attempt had no
        /// answer for 2 s or more, or three attempts in a row, takes no more requests: new ones open another. The kernel
        /// notices a peer that vanished 30 s after bytes for it were not acknowledged, on an idle connection after 60 s;
        /// a shorter `interval` is that of its probes as well. Over HTTP/1.1 there are no pings.
        pub fn keep_alive(
            mut self,
            interval: std::time::Duration,
            timeout: std::time::Duration,
        ) -> Self {
            self.http.keep_alive = Some((interval, timeout));
            self
        }

        /// Sends no HTTP/2 pings; see [`keep_alive`](Self::keep_alive).
        pub fn no_keep_alive(mut self) -> Self {
            self.http.keep_alive = None;
            self
        }

        /// Sets how long an unused connection stays open. Default: 90 s.
        pub fn idle_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.http.idle_timeout = timeout;
            self
        }

        /// Sets where connections and requests run; see [`Runtime`](crate::Runtime). Default: the library's own thread.
        pub fn runtime(mut self, runtime: impl Into<$crate::Runtime>) -> Self {
            self.http.runtime = runtime.into();
            self
        }

        /// Puts a product before our own name in `User-Agent`, such as `shop/1.2`.
        pub fn user_agent(mut self, product: impl Into<String>) -> Self {
            self.http.user_agent = Some(product.into());
            self
        }
    };
}

pub(crate) use http_options;
