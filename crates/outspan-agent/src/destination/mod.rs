//! Where spans go: the value of `--to`.

pub(crate) mod exporter;
mod header;
#[cfg(feature = "kafka")]
mod kafka;
mod other;
mod reader;

use std::fmt;
use std::path::Path;
use std::path::PathBuf;

use outspan::Compression;

use crate::arguments::FileFormat;

pub(crate) use self::other::JaegerAgent;
pub(crate) use self::other::Other;
pub(crate) use self::other::OtherFormat;
pub(crate) use self::reader::BROKEN_PIPE;
pub(crate) use self::reader::ReaderGone;
pub(crate) use self::reader::is_reader_gone;

#[cfg(feature = "kafka")]
pub(crate) use self::kafka::KafkaTarget;

/// What to say where Kafka is asked for and is not there.
#[cfg(not(feature = "kafka"))]
pub(crate) const WITHOUT_KAFKA: &str =
    "this program was built without Kafka: build it with --features kafka";

/// Says where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// An OTLP receiver.
    Otlp(Receiver),
    /// A receiver of another format, over HTTP.
    Other(Other),
    /// Jaeger's agent, over UDP.
    JaegerAgent(JaegerAgent),
    /// A topic of Kafka.
    #[cfg(feature = "kafka")]
    Kafka(KafkaTarget),
    /// A file.
    File(TargetFile),
    /// Standard output.
    Stdout(StdoutFormat),
}

/// An OTLP receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receiver {
    /// gRPC or HTTP.
    pub(crate) transport: Transport,
    /// Whether the connection is encrypted.
    pub(crate) is_secure: bool,
    /// The address as an `http` or `https` URL, with a port where the scheme has a default of ours.
    pub(crate) endpoint: String,
    /// The address without what may be secret: user, password, query.
    shown: String,
}

/// Names the transports of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP.
    Http,
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetFile {
    /// Its path.
    pub(crate) path: PathBuf,
    /// OTLP JSON lines, else length-prefixed protobuf.
    pub(crate) is_json: bool,
    /// How it is compressed.
    pub(crate) compression: Compression,
}

/// Names the formats of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StdoutFormat {
    /// Trace trees.
    Trees,
    /// Several readable lines a span.
    Pretty,
    /// One readable line a span.
    Compact,
    /// One JSON object a span.
    Json,
    /// OTLP JSON lines.
    Otlp,
}

impl Destination {
    /// Reads the value of `--to`.
    ///
    /// # Errors
    ///
    /// Words for the user. They never show more than the scheme of what may hold a password.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(without_scheme(text));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "grpc" => Receiver::grpc(rest, false).map(Self::Otlp),
            "grpcs" => Receiver::grpc(rest, true).map(Self::Otlp),
            "http" => Receiver::http(rest, false).map(Self::Otlp),
            "https" => Receiver::http(rest, true).map(Self::Otlp),
            "zipkin+http" => Other::parse(OtherFormat::Zipkin, rest, false).map(Self::Other),
            "zipkin+https" => Other::parse(OtherFormat::Zipkin, rest, true).map(Self::Other),
            "jaeger+http" => Other::parse(OtherFormat::Jaeger, rest, false).map(Self::Other),
            "jaeger+https" => Other::parse(OtherFormat::Jaeger, rest, true).map(Self::Other),
            "jaeger+udp" => JaegerAgent::parse(rest).map(Self::JaegerAgent),
            "json+http" => Other::parse(OtherFormat::Json, rest, false).map(Self::Other),
            "json+https" => Other::parse(OtherFormat::Json, rest, true).map(Self::Other),
            #[cfg(feature = "kafka")]
            "kafka" => KafkaTarget::parse(rest).map(Self::Kafka),
            #[cfg(not(feature = "kafka"))]
            "kafka" => Err(WITHOUT_KAFKA.to_owned()),
            "unix" | "unix-abstract" => Ok(Self::Otlp(Receiver::socket(Transport::Grpc, text))),
            "http+unix" => Ok(Self::Otlp(Receiver::socket(Transport::Http, text))),
            "file" => TargetFile::parse(rest).map(Self::File),
            "stdout" => StdoutFormat::parse(rest).map(Self::Stdout),
            _ => Err(without_scheme(text)),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Otlp(receiver) => f.write_str(&receiver.shown),
            Self::Other(other) => other.fmt(f),
            Self::JaegerAgent(agent) => agent.fmt(f),
            #[cfg(feature = "kafka")]
            Self::Kafka(target) => target.fmt(f),
            Self::File(file) => write!(f, "{}", file.path.display()),
            Self::Stdout(_) => f.write_str("standard output"),
        }
    }
}

/// What to say about `localhost:4317` and `ftp://x`.
fn without_scheme(text: &str) -> String {
    const USE: &str = "use grpc://, grpcs://, http://, https:// or unix: for OTLP, zipkin+http://, jaeger+http:// or \
         json+http:// (or https), jaeger+udp://, kafka://, file: or stdout:";

    if text.contains('@') {
        return format!("unknown destination: {USE}");
    }
    if text.contains("://") {
        let scheme = text.split("://").next().unwrap_or_default();
        return format!("unknown scheme \"{scheme}\": {USE}");
    }
    let authority = text.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((_, "4318")) => format!("no scheme in \"{text}\": did you mean http://{text}?"),
        Some((_, port)) if port.parse::<u16>().is_ok() => {
            format!("no scheme in \"{text}\": did you mean grpc://{text}?")
        }
        _ => format!("no scheme in \"{text}\": {USE}"),
    }
}

impl Receiver {
    fn grpc(rest: &str, is_secure: bool) -> Result<Self, String> {
        const DEFAULT_PORT: u16 = 4317;

        let url = Url::parse(rest)?;
        let scheme = if is_secure { "https" } else { "http" };
        if !matches!(url.path, "" | "/") {
            return Err(format!(
                "gRPC takes no path: leave out {} or use {scheme}://",
                url.path,
            ));
        }
        let authority = match url.has_port {
            true => url.authority.to_owned(),
            false => format!("{}:{DEFAULT_PORT}", url.authority),
        };
        Ok(Self {
            transport: Transport::Grpc,
            is_secure,
            endpoint: format!("{scheme}://{authority}"),
            shown: format!("grpc{}://{}", if is_secure { "s" } else { "" }, url.host),
        })
    }

    fn http(rest: &str, is_secure: bool) -> Result<Self, String> {
        let url = Url::parse(rest)?;
        let scheme = if is_secure { "https" } else { "http" };
        Ok(Self {
            transport: Transport::Http,
            is_secure,
            endpoint: format!("{scheme}:{rest}"),
            shown: format!("{scheme}://{}{}", url.host, url.path),
        })
    }

    /// A unix socket, whose name the exporter's builder checks.
    fn socket(transport: Transport, text: &str) -> Self {
        let shown = text.split(['?', '#']).next().unwrap_or_default();
        Self {
            transport,
            is_secure: false,
            endpoint: text.to_owned(),
            shown: shown.to_owned(),
        }
    }

    /// Whether the address is a unix socket.
    pub(crate) fn is_socket(&self) -> bool {
        !self.endpoint.starts_with("http://") && !self.endpoint.starts_with("https://")
    }

    /// Whether the address names no port, so that HTTP's own default holds.
    pub(crate) fn has_no_port(&self) -> bool {
        if self.is_socket() {
            return false;
        }
        let rest = self.endpoint.split_once(':').map_or("", |(_, rest)| rest);
        Url::parse(rest).is_ok_and(|url| !url.has_port)
    }
}

/// The parts of a URL that matter here. The exporter's builder checks the rest.
struct Url<'a> {
    authority: &'a str,
    host: &'a str,
    has_port: bool,
    path: &'a str,
}

impl<'a> Url<'a> {
    /// Takes what follows `scheme:`.
    fn parse(rest: &'a str) -> Result<Self, String> {
        let rest = rest
            .strip_prefix("//")
            .ok_or("the address starts with two slashes, as in grpc://localhost:4317")?;
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let host = authority.rsplit('@').next().unwrap_or_default();
        if host.is_empty() || host.starts_with(':') {
            return Err("the address has no host, as in grpc://localhost:4317".into());
        }
        // The colons of an IPv6 address stand in brackets.
        let after_brackets = host.rsplit(']').next().unwrap_or_default();
        Ok(Self {
            authority,
            host,
            has_port: after_brackets.contains(':'),
            path,
        })
    }
}

impl TargetFile {
    /// Takes what follows `file:`: a path, or `//` and an absolute path.
    fn parse(rest: &str) -> Result<Self, String> {
        let path = match rest.strip_prefix("//") {
            Some(path) if path.starts_with('/') => path,
            Some(path) => {
                return Err(format!(
                    "file:{rest} names a host: write file:{path} or file:///ABSOLUTE/PATH"
                ));
            }
            None => rest,
        };
        let path = Path::new(path);
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or("the path of a file is missing, as in file:spans.jsonl")?;
        let (format, compression) = FileFormat::of_name(name);
        let is_json = match format {
            Some(FileFormat::OtlpJson) => true,
            Some(FileFormat::OtlpProto | FileFormat::OtlpProtoRecords) => false,
            Some(_) => {
                return Err(format!(
                    "the name {name} is that of another format, and file: writes OTLP: use .jsonl or .pb, and outspan convert afterwards"
                ));
            }
            None => {
                return Err(format!(
                    "the name {name} does not tell the format: use .jsonl or .pb, with .gz or .zst behind it if you like"
                ));
            }
        };
        Ok(Self {
            path: path.to_owned(),
            is_json,
            compression,
        })
    }
}

impl StdoutFormat {
    /// Takes what follows `stdout:`.
    fn parse(rest: &str) -> Result<Self, String> {
        match rest {
            "" | "trees" => Ok(Self::Trees),
            "pretty" => Ok(Self::Pretty),
            "compact" => Ok(Self::Compact),
            "json" => Ok(Self::Json),
            "otlp" => Ok(Self::Otlp),
            _ => Err(format!(
                "unknown format \"{rest}\": use stdout: (trees), stdout:pretty, stdout:compact, stdout:json or stdout:otlp"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> (Transport, bool, String) {
        match Destination::parse(text) {
            Ok(Destination::Otlp(receiver)) => {
                (receiver.transport, receiver.is_secure, receiver.endpoint)
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    fn file(text: &str) -> (String, bool, Compression) {
        match Destination::parse(text) {
            Ok(Destination::File(file)) => (
                file.path.to_str().unwrap().to_owned(),
                file.is_json,
                file.compression,
            ),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn grpc_has_a_default_port_and_http_has_that_of_http() {
        let plain = |url: &str| (Transport::Grpc, false, url.to_owned());
        assert_eq!(endpoint("grpc://collector"), plain("http://collector:4317"));
        assert_eq!(
            endpoint("GRPC://collector/"),
            plain("http://collector:4317")
        );
        assert_eq!(endpoint("grpc://[::1]"), plain("http://[::1]:4317"));
        assert_eq!(endpoint("grpc://[::1]:5"), plain("http://[::1]:5"));
        let secure = (Transport::Grpc, true, "https://a.example:4317".to_owned());
        assert_eq!(endpoint("grpcs://a.example"), secure);
        let http = (Transport::Http, false, "http://collector".to_owned());
        assert_eq!(endpoint("http://collector"), http);
        let https = (Transport::Http, true, "https://a.example/otlp".to_owned());
        assert_eq!(endpoint("HTTPS://a.example/otlp"), https);
    }

    #[test]
    fn a_unix_socket_speaks_grpc_unless_it_says_http() {
        let socket = |transport, text: &str| (transport, false, text.to_owned());
        for text in ["unix:///run/c.sock", "unix:c.sock", "unix-abstract:c"] {
            assert_eq!(endpoint(text), socket(Transport::Grpc, text));
        }
        let http = "http+unix://%2Fc.sock/v1/traces?key=s3cret";
        assert_eq!(endpoint(http), socket(Transport::Http, http));
        let shown = Destination::parse(http).unwrap().to_string();
        assert_eq!(shown, "http+unix://%2Fc.sock/v1/traces");
        let Ok(Destination::Otlp(receiver)) = Destination::parse(http) else {
            panic!("{http}");
        };
        assert!(receiver.is_socket() && !receiver.has_no_port());
    }

    #[test]
    fn the_name_of_a_file_tells_its_format() {
        let named = |path: &str, is_json, compression| (path.to_owned(), is_json, compression);
        let none = Compression::None;
        assert_eq!(file("file:a.jsonl"), named("a.jsonl", true, none));
        assert_eq!(file("file:b/a.json"), named("b/a.json", true, none));
        assert_eq!(file("file:///b/a.pb"), named("/b/a.pb", false, none));
        assert_eq!(
            file("file:a.jsonl.gz"),
            named("a.jsonl.gz", true, Compression::Gzip)
        );
        assert_eq!(
            file("file:a.b.bin.zst"),
            named("a.b.bin.zst", false, Compression::Zstd)
        );
        for wrong in [
            "file:",
            "file:a",
            "file:a.txt",
            "file:a.gz",
            "file:a.zipkin.json",
            "file:a.thrift.gz",
            "file://host/a.pb",
            "file:..",
        ] {
            assert!(Destination::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn standard_output_has_five_formats() {
        let format = |text| Destination::parse(text).unwrap();
        assert_eq!(format("stdout:"), Destination::Stdout(StdoutFormat::Trees));
        assert_eq!(
            format("stdout:otlp"),
            Destination::Stdout(StdoutFormat::Otlp)
        );
        assert!(
            Destination::parse("stdout:xml")
                .unwrap_err()
                .contains("xml")
        );
    }

    #[test]
    fn a_forgotten_scheme_is_guessed_from_the_port() {
        let error = |text| Destination::parse(text).unwrap_err();
        assert_eq!(
            error("localhost:4317"),
            "no scheme in \"localhost:4317\": did you mean grpc://localhost:4317?"
        );
        assert!(error("localhost:4318/v1/traces").contains("http://localhost:4318/v1/traces?"));
        assert!(error("localhost").contains("grpc://"));
        assert!(error("ftp://x").contains("unknown scheme \"ftp\""));
        assert!(error("grpc:localhost").contains("two slashes"));
        assert!(error("grpc://").contains("no host"));
        assert!(error("grpc://localhost/v1/traces").contains("no path"));
    }

    #[test]
    fn passwords_in_an_address_are_used_and_never_shown() {
        for text in [
            "http://me:s3cret@host:4318/x?key=s3cret",
            "grpc://me:s3cret@host:4318",
        ] {
            let destination = Destination::parse(text).unwrap();
            let shown = destination.to_string();
            assert!(shown.contains("://host:4318"), "{shown}");
            assert!(!shown.contains("s3cret"), "{shown}");
            assert!(endpoint(text).2.contains("me:s3cret@host:4318"));
        }
        let error = Destination::parse("me:s3cret@host").unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
        assert!(Destination::parse("http://me:s3cret@:80").is_err());
    }
}
