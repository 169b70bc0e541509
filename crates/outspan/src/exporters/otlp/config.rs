//! The options of an OTLP exporter, checked when it is built.

use std::fmt;
use std::sync::Arc;

use crate::Error;
use crate::Exporter;
use crate::Result;
use crate::batch::Encoding;
use crate::net::Endpoint;
use crate::net::HttpOptions;
use crate::net::Manner;
use crate::net::Versions;
use crate::net::http_options;

use super::Otlp;
use super::send::Wire;

/// The path of gRPC's method, and of OTLP/HTTP.
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const HTTP_PATH: &str = "/v1/traces";

/// The name under which we announce ourselves, by the specification's `OTel-OTLP-Exporter-<language>/<version>`.
const USER_AGENT: &str = concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));

const OVER_GRPC: Manner = Manner {
    user_agent: USER_AGENT,
    versions: Versions::Two,
    max_request_bytes: 3 << 20,
    wrong_version_hint: " (the server answers HTTP/1, not gRPC: OTLP/gRPC usually listens on port 4317, OTLP/HTTP on 4318)",
};

const OVER_HTTP: Manner = Manner {
    user_agent: USER_AGENT,
    versions: Versions::OneOrTwo,
    max_request_bytes: 64 << 20,
    wrong_version_hint: " (the server speaks HTTP/2 as gRPC does: OTLP/HTTP usually listens on port 4318, OTLP/gRPC on 4317)",
};

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
    insecure: bool,
    http: HttpOptions,
}

impl Builder {
    pub(super) fn new(protocol: Protocol, endpoint: String) -> Self {
        Self {
            protocol,
            insecure: false,
            http: HttpOptions::new(endpoint),
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

    http_options! {
        " Default: over HTTP 64 MiB, the specification's limit; over gRPC 3 MiB, because servers on stock gRPC libraries"
        " (such as the Collector) take 4 MiB."
    }

    /// Sends requests to `/` where that is the path of the endpoint. Otherwise `/` is the same as no path.
    pub(crate) fn keep_root_path(mut self) -> Self {
        self.http.keeps_root_path = true;
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
        let endpoint = self.parse_endpoint()?;
        let compressor = self.http.compressor()?;
        let encoding = Encoding {
            json: self.protocol == Protocol::HttpJson,
            compression: compressor.compression,
            level: compressor.level,
        };
        let manner = match self.protocol.is_grpc() {
            true => OVER_GRPC,
            false => OVER_HTTP,
        };
        let wire = Wire {
            protocol: self.protocol,
            encoding,
            response_bytes: self.http.max_response_bytes,
        };
        let sender = self.http.into_sender(wire, endpoint, &manner)?;
        Ok(Exporter::new(Otlp {
            sender: Arc::new(sender),
        }))
    }

    fn parse_endpoint(&self) -> Result<Endpoint> {
        if self.protocol.is_grpc() {
            let scheme = if self.insecure { "http" } else { "https" };
            let endpoint = Endpoint::parse(&self.http.endpoint, Some(scheme), Some(4317))?;
            if self.http.path.is_some() {
                return Err(Error::config("a path is for OTLP/HTTP; gRPC has its own"));
            }
            // Rule of the Go exporter as well: the path of a gRPC endpoint has no meaning, nor has its query.
            return endpoint.without_query().with_path(GRPC_PATH);
        }
        self.http.parse_endpoint(HTTP_PATH)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Builder");
        shown.field("protocol", &self.protocol.as_str());
        self.http.show(&mut shown);
        shown.finish_non_exhaustive()
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
    use std::time::Duration;

    use super::*;
    use crate::Compression;
    use crate::net::Tls;

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
        assert_eq!(url(http("http://c:4318/")), "http://c:4318/v1/traces");
        assert_eq!(
            url(http("http://c:4318/?k=v")),
            "http://c:4318/v1/traces?k=v"
        );
        assert_eq!(url(http("http://c:4318/").path("/")), "http://c:4318/");
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
