//! The options of an OTLP exporter, checked when it is built.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Compression;
use crate::Error;
use crate::Exporter;
use crate::Result;
use crate::Secret;
use crate::net::Connections;
use crate::net::Endpoint;
use crate::net::HeaderProvider;
use crate::net::Headers;
use crate::net::Intercept;
use crate::net::Options;
use crate::net::Tls;
use crate::net::Versions;
use crate::net::without_credentials;

use super::Otlp;
use super::send::Limits;
use super::send::Sender;

/// The path of gRPC's method, and of OTLP/HTTP.
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const HTTP_PATH: &str = "/v1/traces";

/// The name under which we announce ourselves, by the specification's `OTel-OTLP-Exporter-<language>/<version>`.
const USER_AGENT: &str = concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));

/// Says how OTLP goes over the wire; the names are those of `OTEL_EXPORTER_OTLP_PROTOCOL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// `grpc`.
    Grpc,
    /// `http/protobuf`.
    HttpProtobuf,
    /// `http/json`.
    HttpJson,
}

impl Protocol {
    /// The name in `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
            Self::HttpJson => "http/json",
        }
    }

    pub(crate) fn is_grpc(self) -> bool {
        self == Self::Grpc
    }
}

/// Collects the options of an OTLP exporter; see [`grpc`](super::grpc) and [`http`](super::http).
///
/// Every mistake is found by [`build`](Self::build).
#[must_use]
pub struct Builder {
    protocol: Protocol,
    endpoint: String,
    insecure: bool,
    path: Option<String>,
    headers: Vec<(String, Secret)>,
    hooks: Headers,
    compression: Compression,
    compression_level: Option<u32>,
    tls: Tls,
    max_request_bytes: Option<usize>,
    max_response_bytes: usize,
    max_concurrent_exports: usize,
    connect_timeout: Duration,
    keep_alive: Option<(Duration, Duration)>,
    idle_timeout: Duration,
    user_agent: Option<String>,
}

impl Builder {
    pub(super) fn new(protocol: Protocol, endpoint: String) -> Self {
        Self {
            protocol,
            endpoint,
            insecure: false,
            path: None,
            headers: Vec::new(),
            hooks: Headers::default(),
            compression: Compression::None,
            compression_level: None,
            tls: Tls::new(),
            max_request_bytes: None,
            max_response_bytes: 4 << 20,
            max_concurrent_exports: 16,
            connect_timeout: Duration::from_secs(10),
            keep_alive: None,
            idle_timeout: Duration::from_secs(90),
            user_agent: None,
        }
    }

    /// Sets the protocol, for instance [`Protocol::HttpJson`] for JSON bodies.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Chooses plaintext for a gRPC endpoint without a scheme. Where there is a scheme it decides, and this has no
    /// effect (OTLP exporter specification, "Configuration Options").
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// Sets the path of OTLP/HTTP, in place of the endpoint's own or `/v1/traces`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Adds a header (metadata, in gRPC's words), in place of one of the same name. Values never appear in logs.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds headers; see [`header`](Self::header).
    pub fn headers<N, V>(mut self, headers: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<String>,
        V: Into<Secret>,
    {
        let headers = headers.into_iter().map(|(n, v)| (n.into(), v.into()));
        self.headers.extend(headers);
        self
    }

    /// Asks for headers at each attempt, and once more after 401 or `UNAUTHENTICATED`; see [`HeaderProvider`]. Its
    /// headers win over fixed ones.
    pub fn header_provider(mut self, provider: impl HeaderProvider) -> Self {
        self.hooks.set_provider(provider);
        self
    }

    /// Lets a hook see and change each request, for instance to sign it; see [`Intercept`].
    pub fn interceptor(mut self, hook: impl Intercept) -> Self {
        self.hooks.set_intercept(hook);
        self
    }

    /// Compresses requests; the default is not to, because it costs more than sending within a data centre.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets how hard to compress; see [`Compression`] for ranges and defaults.
    pub fn compression_level(mut self, level: u32) -> Self {
        self.compression_level = Some(level);
        self
    }

    /// Sets whom to trust and who we are; only for encrypted connections.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Sets how many bytes a request may have, before and after compression. A batch that has more is split; one span that has more
    /// is left with [`TooLarge`](crate::ErrorKind::TooLarge).
    ///
    /// Default: over HTTP 64 MiB, the specification's limit; over gRPC 3 MiB, because servers on stock gRPC libraries
    /// (such as the Collector) take 4 MiB.
    pub fn max_request_bytes(mut self, bytes: usize) -> Self {
        self.max_request_bytes = Some(bytes);
        self
    }

    /// Sets how many bytes an answer may have. Default: 4 MiB, as the specification recommends.
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    /// Sets how many exports run at once; more wait. Default: 16, which keeps a link of 100 ms busy with small batches.
    pub fn max_concurrent_exports(mut self, exports: usize) -> Self {
        self.max_concurrent_exports = exports;
        self
    }

    /// Sets how long connecting may take: finding and reaching the address, and as long again for TLS. Default: 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sends HTTP/2 pings every `interval`, and gives the connection up when one is not answered within `timeout`.
    ///
    /// Default: off. Servers on stock gRPC libraries refuse clients that ping more often than every 5 minutes. A peer
    /// that vanishes is noticed without pings as well, by the kernel, 30 s after bytes for it were not acknowledged.
    pub fn keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.keep_alive = Some((interval, timeout));
        self
    }

    /// Sets how long an unused connection stays open. Default: 90 s.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Puts a product before our own name in `User-Agent`, such as `shop/1.2`.
    pub fn user_agent(mut self, product: impl Into<String>) -> Self {
        self.user_agent = Some(product.into());
        self
    }

    /// Builds the exporter. Nothing is dialled yet: the first export does that.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for whatever is wrong: endpoint, header, path, level, TLS file, zero limits,
    /// or a protocol whose feature is not compiled in.
    pub fn build(self) -> Result<Exporter> {
        check_feature(self.protocol)?;
        if self.max_concurrent_exports == 0 {
            return Err(Error::config("max_concurrent_exports must be at least 1"));
        }
        if self.max_request_bytes == Some(0) || self.max_response_bytes == 0 {
            return Err(Error::config(
                "request and response limits must be at least 1 byte",
            ));
        }
        self.check_durations()?;
        let endpoint = self.parse_endpoint()?;
        let level = match self.compression_level {
            Some(level) => self.compression.check_level(level)?,
            None => self.compression.default_level(),
        };
        let mut headers = self.hooks;
        headers.keep_secret(endpoint.secrets());
        if let Some(basic) = &endpoint.basic_auth {
            headers.set("authorization", basic.clone())?;
        }
        let user_agent = match self.user_agent {
            Some(product) => format!("{product} {USER_AGENT}"),
            None => USER_AGENT.to_owned(),
        };
        headers.set_public("user-agent", &user_agent)?;
        for (name, value) in self.headers {
            headers.set(&name, value)?;
        }
        let versions = match self.protocol.is_grpc() {
            true => Versions::Two,
            false => Versions::OneOrTwo,
        };
        let options = Options {
            connect_timeout: self.connect_timeout,
            keep_alive: self.keep_alive,
            idle_timeout: self.idle_timeout,
            max_idle: self.max_concurrent_exports,
        };
        let connections = Connections::new(&endpoint, &self.tls, versions, &options)?;
        let default_request = if self.protocol.is_grpc() {
            3 << 20
        } else {
            64 << 20
        };
        let limits = Limits {
            request_bytes: self.max_request_bytes.unwrap_or(default_request),
            response_bytes: self.max_response_bytes,
            exports: self.max_concurrent_exports,
        };
        let encoding = crate::batch::Encoding {
            json: self.protocol == Protocol::HttpJson,
            compression: self.compression,
            level,
        };
        let sender = Sender::new(
            self.protocol,
            endpoint,
            headers,
            encoding,
            connections,
            limits,
        );
        Ok(Exporter::new(Otlp {
            sender: Arc::new(sender),
        }))
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

    fn parse_endpoint(&self) -> Result<Endpoint> {
        if self.protocol.is_grpc() {
            let scheme = if self.insecure { "http" } else { "https" };
            let endpoint = Endpoint::parse(&self.endpoint, Some(scheme), Some(4317))?;
            if self.path.is_some() {
                return Err(Error::config("a path is for OTLP/HTTP; gRPC has its own"));
            }
            // Rule of the Go exporter as well: the path of a gRPC endpoint has no meaning, nor has its query.
            return endpoint.without_query().with_path(GRPC_PATH);
        }
        let endpoint = Endpoint::parse(&self.endpoint, None, None)?;
        match &self.path {
            Some(path) => endpoint.with_path(path),
            None if endpoint.has_path => Ok(endpoint),
            None => endpoint.with_path(HTTP_PATH),
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers = self.headers.iter().map(|(name, _)| name);
        f.debug_struct("Builder")
            .field("protocol", &self.protocol.as_str())
            .field("endpoint", &without_credentials(&self.endpoint))
            .field("headers", &headers.collect::<Vec<_>>())
            .field("compression", &self.compression)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

fn check_feature(protocol: Protocol) -> Result<()> {
    let (feature, is_on) = match protocol {
        Protocol::Grpc => ("grpc", cfg!(feature = "grpc")),
        _ => ("http", cfg!(feature = "http")),
    };
    match is_on {
        true => Ok(()),
        false => Err(Error::config(format!(
            "protocol {} needs the feature \"{feature}\" of the crate outspan",
            protocol.as_str()
        ))),
    }
}

// They build exporters of both kinds.
#[cfg(test)]
#[cfg(all(feature = "grpc", feature = "http"))]
mod tests {
    use super::*;

    fn url(builder: Builder) -> String {
        builder.parse_endpoint().unwrap().uri.to_string()
    }

    fn http(endpoint: &str) -> Builder {
        Builder::new(Protocol::HttpProtobuf, endpoint.into())
    }

    fn grpc(endpoint: &str) -> Builder {
        Builder::new(Protocol::Grpc, endpoint.into())
    }

    #[test]
    fn http_endpoints_get_the_default_path_only_where_they_have_none() {
        assert_eq!(url(http("http://c:4318")), "http://c:4318/v1/traces");
        assert_eq!(url(http("http://c:4318/")), "http://c:4318/");
        assert_eq!(url(http("http://c:4318/my/")), "http://c:4318/my/");
        assert_eq!(url(http("https://h/v1/traces/")), "https://h/v1/traces/");
        assert_eq!(url(http("http://c:4318").path("x")), "http://c:4318/x");
        assert_eq!(
            url(http("http://c:4318?k=v")),
            "http://c:4318/v1/traces?k=v"
        );
    }

    #[test]
    fn grpc_endpoints_are_secure_unless_they_say_otherwise() {
        assert!(url(grpc("c:1")).starts_with("https://c:1/opentelemetry"));
        assert!(url(grpc("c:1").insecure(true)).starts_with("http://c:1/"));
        assert!(url(grpc("https://c:1").insecure(true)).starts_with("https://"));
        assert!(url(grpc("http://c")).starts_with("http://c:4317/"));
        assert!(url(grpc("http://c/some/path?key=value")).ends_with("TraceService/Export"));
    }

    #[test]
    fn mistakes_are_found_when_building() {
        let said = |builder: Builder| builder.build().unwrap_err().to_string();
        assert!(said(http("localhost:4318")).contains("http:// or https://"));
        assert!(said(http("http://c").header("a b", "x")).contains("invalid header name"));
        assert!(
            said(
                http("http://c")
                    .compression(Compression::Zstd)
                    .compression_level(99)
            )
            .contains("level 99")
        );
        assert!(said(http("http://c").tls(Tls::new().bundled_roots())).contains("plaintext"));
        assert!(
            said(http("https://c").tls(Tls::new().ca_file("/no/such.pem")))
                .contains("/no/such.pem")
        );
        assert!(
            said(http("https://c").tls(Tls::new().ca_pem("junk"))).contains("BEGIN CERTIFICATE")
        );
        assert!(said(grpc("http://c").path("/x")).contains("path"));
        assert!(said(grpc("http://c").max_concurrent_exports(0)).contains("at least 1"));
        let second = Duration::from_secs(1);
        for builder in [
            grpc("http://c").connect_timeout(Duration::ZERO),
            grpc("http://c").idle_timeout(Duration::ZERO),
            grpc("http://c").keep_alive(Duration::ZERO, second),
            grpc("http://c").keep_alive(second, Duration::ZERO),
        ] {
            assert!(said(builder).contains("longer than nothing"));
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let builder =
            http("http://user:hunter2@c:4318/?key=hunter2").header("authorization", "hunter2");
        assert!(!format!("{builder:?}").contains("hunter2"), "{builder:?}");
        let exporter = builder.build().unwrap();
        assert!(!format!("{exporter:?}").contains("hunter2"), "{exporter:?}");
    }
}
