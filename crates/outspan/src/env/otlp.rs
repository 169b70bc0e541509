//! The variables of the OTLP exporter, `OTEL_EXPORTER_OTLP_*`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::Compression;
use crate::Error;
use crate::Exporter;
use crate::Result;
use crate::Secret;
use crate::otlp;
use crate::otlp::Protocol;
use crate::otlp::Tls;

use super::Warning;
use super::endpoint;
use super::pairs;
use super::reader::Reader;
use super::time_limits;

/// The specification's default, or gRPC where only that is compiled in.
const DEFAULT_PROTOCOL: Protocol = match cfg!(all(feature = "grpc", not(feature = "http"))) {
    true => Protocol::Grpc,
    false => Protocol::HttpProtobuf,
};

/// The settings of the OTLP exporter; each variable's form for traces (`OTEL_EXPORTER_OTLP_TRACES_…`) beats its general
/// form.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OtlpSettings {
    /// `…PROTOCOL`: `grpc`, `http/protobuf` or `http/json`. Default: `http/protobuf`, or `grpc` if only the feature `grpc` is
    /// compiled in.
    pub protocol: Protocol,
    /// `…ENDPOINT`, for HTTP as the whole URL of requests: the general form is a base, to which `v1/traces` is appended,
    /// the form for traces is used as it is. Default: `http://localhost:4318/v1/traces`, for gRPC `http://localhost:4317`.
    pub endpoint: String,
    /// `…INSECURE`: plaintext for a gRPC endpoint without a scheme. Default: false.
    pub insecure: bool,
    /// `…HEADERS`, decoded. The form for traces replaces the general one as a whole.
    pub headers: Vec<(String, Secret)>,
    /// `…COMPRESSION`: `none` (the default), `gzip` or, beyond the specification, `zstd`.
    pub compression: Compression,
    /// `…TIMEOUT`, if it is set: how long a whole export may take, retries included. Zero sets no limit.
    pub timeout: Option<Duration>,
    /// `…CERTIFICATE`: whom to trust, a PEM file; in place of the system's authorities.
    pub certificate: Option<PathBuf>,
    /// `…CLIENT_CERTIFICATE`: the chain to show to the server, a PEM file.
    pub client_certificate: Option<PathBuf>,
    /// `…CLIENT_KEY`: the key that belongs to it, a PEM file.
    pub client_key: Option<PathBuf>,
    /// Which variables the settings come from, for errors.
    sources: Vec<&'static str>,
}

impl Default for OtlpSettings {
    fn default() -> Self {
        Self::read(&Reader::new(|_: &str| None))
    }
}

impl OtlpSettings {
    pub(super) fn read<L: Fn(&str) -> Option<OsString>>(reader: &Reader<L>) -> Self {
        let protocol = protocol(reader);
        let (endpoint, endpoint_source) = endpoint(reader, protocol);
        let mut sources = Vec::from_iter(endpoint_source);
        let mut path = |names: &[&'static str]| {
            let (name, path) = reader.path(names)?;
            sources.push(name);
            Some(path)
        };
        let settings = Self {
            protocol,
            endpoint,
            insecure: reader
                .boolean(&[
                    "OTEL_EXPORTER_OTLP_TRACES_INSECURE",
                    "OTEL_EXPORTER_OTLP_INSECURE",
                ])
                .unwrap_or_default(),
            headers: headers(reader),
            compression: reader
                .parsed(
                    &[
                        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
                        "OTEL_EXPORTER_OTLP_COMPRESSION",
                    ],
                    "none, gzip or zstd",
                    |text| text.parse().ok(),
                )
                .unwrap_or_default(),
            timeout: reader.milliseconds(&[
                "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
                "OTEL_EXPORTER_OTLP_TIMEOUT",
            ]),
            certificate: path(&[
                "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
                "OTEL_EXPORTER_OTLP_CERTIFICATE",
            ]),
            client_certificate: path(&[
                "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            ]),
            client_key: path(&[
                "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
                "OTEL_EXPORTER_OTLP_CLIENT_KEY",
            ]),
            sources,
        };
        settings.warn_of_unused_files(reader);
        settings
    }

    /// How long one attempt may take: 10 s, or the whole export's time where that is set to more. An export without limit
    /// gets an hour for each attempt.
    pub fn attempt_timeout(&self) -> Duration {
        time_limits::attempt_timeout(self.timeout)
    }

    /// How long a whole export may take, retries included; `None` where the user set no limit or none at all.
    pub fn export_limit(&self) -> Option<Duration> {
        time_limits::export_limit(self.timeout)
    }

    /// Starts an exporter with these settings, for what else is to be set in code. Code beats the environment.
    ///
    /// It neither retries nor times out; see [`exporter`](Self::exporter).
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if only one of client certificate and key is set.
    pub fn builder(&self) -> Result<otlp::Builder> {
        #[cfg(feature = "grpc")]
        let builder = otlp::grpc(&self.endpoint);
        #[cfg(not(feature = "grpc"))]
        let builder = otlp::http(&self.endpoint);
        Ok(builder
            .keep_root_path()
            .protocol(self.protocol)
            .insecure(self.insecure)
            .headers(self.headers.iter().cloned())
            .compression(self.compression)
            .tls(self.tls()?))
    }

    /// Builds the exporter without retry and time limits, for processors, which have them.
    pub(crate) fn bare_exporter(&self) -> Result<Exporter> {
        self.builder()?.build().map_err(|error| self.named(error))
    }

    /// Builds the exporter, with the limit for [each attempt](Self::attempt_timeout), retries by their defaults, and the
    /// limit for the [whole export](Self::export_limit) if one is set.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for an endpoint that is no URL, a certificate or key that cannot be read or is
    /// set without the other, or a protocol that is not compiled in; it names the variables.
    pub fn exporter(&self) -> Result<Exporter> {
        Ok(time_limits::with_limits(
            self.bare_exporter()?,
            self.timeout,
        ))
    }

    fn tls(&self) -> Result<Tls> {
        let mut tls = Tls::new();
        if self.is_plaintext() {
            // A warning says that they are not used.
            return Ok(tls);
        }
        if let Some(file) = &self.certificate {
            tls = tls.ca_file(file);
        }
        match (&self.client_certificate, &self.client_key) {
            (Some(chain), Some(key)) => Ok(tls.identity_files(chain, key)),
            (None, None) => Ok(tls),
            (Some(_), None) => Err(one_of_two("CLIENT_CERTIFICATE", "CLIENT_KEY")),
            (None, Some(_)) => Err(one_of_two("CLIENT_KEY", "CLIENT_CERTIFICATE")),
        }
    }

    /// Adds the variables that an error can come from.
    fn named(&self, error: Error) -> Error {
        match self.sources.is_empty() {
            true => error,
            false => error.with_context("set by", self.sources.join(", ")),
        }
    }

    fn is_plaintext(&self) -> bool {
        let scheme = self.endpoint.split_once("://").map(|(scheme, _)| scheme);
        match scheme {
            _ if crate::net::is_unix(&self.endpoint) => true,
            Some(scheme) => ["http", "grpc"]
                .iter()
                .any(|plain| scheme.eq_ignore_ascii_case(plain)),
            None => self.protocol == Protocol::Grpc && self.insecure,
        }
    }

    /// Certificates are for encrypted connections only (exporter.md, "Configuration Options").
    fn warn_of_unused_files<L: Fn(&str) -> Option<OsString>>(&self, reader: &Reader<L>) {
        if !self.is_plaintext() {
            return;
        }
        for name in &self.sources {
            let Some((_, path)) = reader.path(&[name]).filter(|_| !name.ends_with("ENDPOINT"))
            else {
                continue;
            };
            let problem =
                "not used, because the connection is not encrypted; set an https endpoint";
            reader.warn(Warning::new(name, &path.to_string_lossy(), problem));
        }
    }
}

fn one_of_two(set: &str, missing: &str) -> Error {
    Error::config(format!(
        "OTEL_EXPORTER_OTLP_{set} is set without OTEL_EXPORTER_OTLP_{missing}: set both (or their TRACES forms) or neither"
    ))
}

fn protocol<L: Fn(&str) -> Option<OsString>>(reader: &Reader<L>) -> Protocol {
    let all = [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson];
    let names = [
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ];
    reader
        .parsed(&names, "grpc, http/protobuf or http/json", |text| {
            all.into_iter()
                .find(|protocol| text.eq_ignore_ascii_case(protocol.as_str()))
        })
        .unwrap_or(DEFAULT_PROTOCOL)
}

fn endpoint<L: Fn(&str) -> Option<OsString>>(
    reader: &Reader<L>,
    protocol: Protocol,
) -> (String, Option<&'static str>) {
    const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const OWN: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

    let found = reader.text(&[OWN, BASE]);
    match (protocol, found) {
        (Protocol::Grpc, Some((name, target))) => (target, Some(name)),
        (Protocol::Grpc, None) => ("http://localhost:4317".to_owned(), None),
        (_, Some((OWN, url))) => (endpoint::as_is(&url), Some(OWN)),
        (_, Some((_, base))) => (endpoint::below_base(&base), Some(BASE)),
        (_, None) => (endpoint::below_base("http://localhost:4318"), None),
    }
}

/// Reads `key1=value1,key2=value2`: keys are HTTP tokens and not decoded, values are percent-decoded, the last of equal
/// keys counts. A bad entry is told by its place, since all of it may be secret, and left out.
fn headers<L: Fn(&str) -> Option<OsString>>(reader: &Reader<L>) -> Vec<(String, Secret)> {
    let names = [
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_EXPORTER_OTLP_HEADERS",
    ];
    let mut headers = Vec::new();
    let Some((name, list)) = reader.secret_text(&names) else {
        return headers;
    };
    for (place, pair) in pairs::entries(&list) {
        match header(pair) {
            Ok((key, value)) => {
                pairs::put(&mut headers, key, value, |a, b| a.eq_ignore_ascii_case(b));
            }
            Err(why) => {
                let problem = format!("entry {place} {why}; it is left out");
                reader.warn(Warning::secret(name, problem));
            }
        }
    }
    headers
}

fn header(pair: Option<(&str, &str)>) -> Result<(String, Secret), &'static str> {
    let (key, value) = pair.ok_or("has no \"=\"")?;
    if http::HeaderName::try_from(key).is_err() {
        return Err("does not begin with the name of a header");
    }
    let value =
        pairs::decode(value).ok_or("has a \"%\" without two hexadecimal digits of UTF-8")?;
    if http::HeaderValue::try_from(&value).is_err() {
        return Err("has a control character in its value");
    }
    Ok((key.to_owned(), Secret::new(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> OtlpSettings {
        OtlpSettings::read(&Reader::new(|name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        }))
    }

    #[test]
    fn empty_environment_has_a_protocol_that_is_compiled_in() {
        read(&[]).exporter().unwrap();
    }

    #[test]
    fn certificates_do_not_matter_to_plaintext_endpoints() {
        const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let protocol = DEFAULT_PROTOCOL.as_str();
        for file in [
            "CERTIFICATE",
            "CLIENT_CERTIFICATE",
            "CLIENT_KEY",
            "TRACES_CERTIFICATE",
        ] {
            let file = format!("OTEL_EXPORTER_OTLP_{file}");
            let file = (file.as_str(), "/no/such.pem");
            read(&[file]).exporter().unwrap();
            for endpoint in ["http://c:1", "HTTP://c:1", "grpc://c:1"] {
                let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
                read(&[file, protocol, (ENDPOINT, endpoint)])
                    .exporter()
                    .unwrap();
            }
            assert!(read(&[file, (ENDPOINT, "https://c:1")]).exporter().is_err());
        }
    }
}
