//! Destinations that take other formats than OTLP.

use std::fmt;

use super::Receiver;
use super::Url;

/// A receiver of another format, over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Other {
    pub(crate) format: OtherFormat,
    pub(crate) receiver: Receiver,
}

/// Names the formats that go over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherFormat {
    /// Zipkin v2.
    Zipkin,
    /// Jaeger's Thrift, to its collector.
    Jaeger,
    /// Plain JSON, an object a span.
    Json,
}

/// Jaeger's agent, over UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JaegerAgent {
    /// Host and port.
    pub(crate) address: String,
    /// Whether it gets the binary protocol.
    pub(crate) is_binary: bool,
}

impl Other {
    /// Takes what follows the scheme's colon.
    pub(super) fn parse(format: OtherFormat, rest: &str, is_secure: bool) -> Result<Self, String> {
        let receiver = Receiver::http(rest, is_secure)?;
        Ok(Self { format, receiver })
    }
}

impl JaegerAgent {
    const DEFAULT_PORT: u16 = 6831;
    const BINARY_PORT: &str = "6832";

    /// Takes what follows the scheme's colon.
    pub(super) fn parse(rest: &str) -> Result<Self, String> {
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let url = Url::parse(address)?;
        if !matches!(url.path, "" | "/") || url.authority != url.host || address.contains('#') {
            return Err("the address of Jaeger's agent is a host and a port, as in jaeger+udp://localhost:6831".into());
        }
        let port = url.host.rsplit(':').next().unwrap_or_default();
        let is_binary = match query {
            "" => url.has_port && port == Self::BINARY_PORT,
            "protocol=binary" => true,
            "protocol=compact" => false,
            _ => {
                return Err(
                    "behind the ? of jaeger+udp:// stands protocol=compact or protocol=binary"
                        .into(),
                );
            }
        };
        Ok(Self {
            address: match url.has_port {
                true => url.host.to_owned(),
                false => format!("{}:{}", url.host, Self::DEFAULT_PORT),
            },
            is_binary,
        })
    }
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.format {
            OtherFormat::Zipkin => "zipkin",
            OtherFormat::Jaeger => "jaeger",
            OtherFormat::Json => "json",
        };
        write!(f, "{format}+{}", self.receiver.shown)
    }
}

impl fmt::Display for JaegerAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "jaeger+udp://{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Destination;
    use super::*;

    #[test]
    fn formats_stand_before_the_transport() {
        for (text, format, endpoint) in [
            (
                "zipkin+http://host:9411",
                OtherFormat::Zipkin,
                "http://host:9411",
            ),
            ("Zipkin+HTTPS://host", OtherFormat::Zipkin, "https://host"),
            (
                "jaeger+http://host:14268",
                OtherFormat::Jaeger,
                "http://host:14268",
            ),
            (
                "json+https://host/spans?x=1",
                OtherFormat::Json,
                "https://host/spans?x=1",
            ),
        ] {
            let Ok(Destination::Other(other)) = Destination::parse(text) else {
                panic!("{text}");
            };
            assert_eq!(
                (other.format, other.receiver.endpoint.as_str()),
                (format, endpoint)
            );
            let shown = other.to_string();
            assert!(
                !shown.contains('?') && text.to_ascii_lowercase().starts_with(&shown),
                "{shown}"
            );
        }
    }

    #[test]
    fn the_agents_port_tells_the_protocol() {
        let agent = |text: &str| match Destination::parse(text) {
            Ok(Destination::JaegerAgent(agent)) => (agent.address, agent.is_binary),
            other => panic!("{other:?}"),
        };
        assert_eq!(agent("jaeger+udp://host"), ("host:6831".to_owned(), false));
        assert_eq!(
            agent("jaeger+udp://host:6832"),
            ("host:6832".to_owned(), true)
        );
        assert_eq!(agent("jaeger+udp://[::1]:1"), ("[::1]:1".to_owned(), false));
        let told = |protocol: &str| agent(&format!("jaeger+udp://host:6832?protocol={protocol}")).1;
        assert_eq!((told("compact"), told("binary")), (false, true));
        assert!(agent("jaeger+udp://host?protocol=binary").1);
        for wrong in [
            "jaeger+udp://",
            "jaeger+udp://h/x",
            "jaeger+udp://h?protocol=json",
            "jaeger+udp://h?x",
            "jaeger+udp://h#protocol=binary",
            "jaeger+udp:h",
            "jaeger+udp://me:s3cret@h",
        ] {
            let error = Destination::parse(wrong).unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn other_schemes_hear_of_all() {
        let error = Destination::parse("ftp://x").unwrap_err();
        for scheme in [
            "grpc://",
            "grpcs://",
            "http://",
            "https://",
            "zipkin+http://",
            "jaeger+http://",
            "jaeger+udp://",
            "json+http://",
            "kafka://",
            "unix:",
            "file:",
            "stdout:",
        ] {
            assert!(error.contains(scheme), "{scheme}: {error}");
        }
    }
}
