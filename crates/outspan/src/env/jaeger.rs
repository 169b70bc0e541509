//! The variables of the Jaeger exporter, `OTEL_EXPORTER_JAEGER_*`.

use std::ffi::OsString;
use std::time::Duration;

use crate::Error;
use crate::Exporter;
use crate::Result;
use crate::Secret;
use crate::jaeger;

use super::Warning;
use super::reader::Reader;
use super::time_limits;

const PROTOCOL: &str = "OTEL_EXPORTER_JAEGER_PROTOCOL";
const ENDPOINT: &str = "OTEL_EXPORTER_JAEGER_ENDPOINT";
const AGENT_HOST: &str = "OTEL_EXPORTER_JAEGER_AGENT_HOST";
const AGENT_PORT: &str = "OTEL_EXPORTER_JAEGER_AGENT_PORT";
const USER: &str = "OTEL_EXPORTER_JAEGER_USER";
const PASSWORD: &str = "OTEL_EXPORTER_JAEGER_PASSWORD";

/// Names how spans go to Jaeger, in `OTEL_EXPORTER_JAEGER_PROTOCOL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JaegerProtocol {
    /// `http/thrift.binary`: to the collector.
    HttpThriftBinary,
    /// `udp/thrift.compact`: to the agent, by default on port 6831.
    UdpThriftCompact,
    /// `udp/thrift.binary`: to the agent, by default on port 6832.
    UdpThriftBinary,
    /// `grpc`, which this crate does not speak; building an exporter says so.
    Grpc,
}

impl JaegerProtocol {
    const ALL: [Self; 4] = [
        Self::HttpThriftBinary,
        Self::UdpThriftCompact,
        Self::UdpThriftBinary,
        Self::Grpc,
    ];

    /// The name in `OTEL_EXPORTER_JAEGER_PROTOCOL`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HttpThriftBinary => "http/thrift.binary",
            Self::UdpThriftCompact => "udp/thrift.compact",
            Self::UdpThriftBinary => "udp/thrift.binary",
            Self::Grpc => "grpc",
        }
    }

    fn default_agent_port(self) -> u16 {
        match self {
            Self::UdpThriftBinary => 6832,
            _ => 6831,
        }
    }
}

/// The settings of the Jaeger exporter, as OpenTelemetry's specification had them until 1.20.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct JaegerSettings {
    /// `…PROTOCOL`. Default: `udp/thrift.compact` if an agent's host or port is set and no endpoint, as exporters of that
    /// time had it; `http/thrift.binary` otherwise.
    pub protocol: JaegerProtocol,
    /// `…ENDPOINT`: the URL of requests to the collector. Without a path it gets `/api/traces`. Default:
    /// `http://localhost:14268/api/traces`.
    pub endpoint: String,
    /// `…AGENT_HOST`. Default: `localhost`.
    pub agent_host: String,
    /// `…AGENT_PORT`. Default: 6831, for `udp/thrift.binary` 6832.
    pub agent_port: u16,
    /// `…USER` and `…PASSWORD`, for the collector, where both are set.
    pub user: Option<(String, Secret)>,
    /// `…TIMEOUT`, if it is set: how long a whole export may take, retries included. Zero sets no limit.
    pub timeout: Option<Duration>,
    is_endpoint_set: bool,
    is_agent_set: bool,
}

impl Default for JaegerSettings {
    fn default() -> Self {
        Self::read(&Reader::new(|_: &str| None))
    }
}

impl JaegerSettings {
    pub(super) fn read<L: Fn(&str) -> Option<OsString>>(reader: &Reader<L>) -> Self {
        let endpoint = reader.text(&[ENDPOINT]).map(|(_, url)| url);
        let host = reader.text(&[AGENT_HOST]).map(|(_, host)| host);
        let port = reader.parsed(&[AGENT_PORT], "a port from 1 to 65535", |text| {
            text.parse().ok().filter(|port| *port > 0)
        });
        let expected = "http/thrift.binary, udp/thrift.compact, udp/thrift.binary or grpc";
        let named = reader.parsed(&[PROTOCOL], expected, |text| {
            let mut all = JaegerProtocol::ALL.into_iter();
            all.find(|protocol| text.eq_ignore_ascii_case(protocol.as_str()))
        });
        let is_agent_set = host.is_some() || port.is_some();
        let protocol = named.unwrap_or(match is_agent_set && endpoint.is_none() {
            true => JaegerProtocol::UdpThriftCompact,
            false => JaegerProtocol::HttpThriftBinary,
        });
        Self {
            protocol,
            is_endpoint_set: endpoint.is_some(),
            is_agent_set,
            endpoint: endpoint.unwrap_or_else(|| "http://localhost:14268/api/traces".to_owned()),
            agent_host: host.unwrap_or_else(|| "localhost".to_owned()),
            agent_port: port.unwrap_or(protocol.default_agent_port()),
            user: user(reader),
            timeout: reader.milliseconds(&["OTEL_EXPORTER_JAEGER_TIMEOUT"]),
        }
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

    /// Starts an exporter to the collector with these settings, for what else is to be set in code, whatever the
    /// [protocol](Self::protocol) is. Code beats the environment.
    ///
    /// It neither retries nor times out; see [`exporter`](Self::exporter).
    pub fn collector(&self) -> jaeger::CollectorBuilder {
        let builder = jaeger::collector(&self.endpoint);
        match &self.user {
            Some((user, password)) => builder.basic_auth(user, password.clone()),
            None => builder,
        }
    }

    /// Starts an exporter to the agent with these settings, for what else is to be set in code; Thrift is compact unless
    /// the [protocol](Self::protocol) says binary.
    ///
    /// It neither retries nor times out; see [`exporter`](Self::exporter).
    pub fn agent(&self) -> jaeger::AgentBuilder {
        let protocol = match self.protocol {
            JaegerProtocol::UdpThriftBinary => jaeger::Protocol::Binary,
            _ => jaeger::Protocol::Compact,
        };
        let (host, port) = (&self.agent_host, self.agent_port);
        let address = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        jaeger::agent(address).protocol(protocol)
    }

    /// Builds the exporter without retry and time limits, for processors, which have them.
    pub(crate) fn bare_exporter(&self) -> Result<Exporter> {
        match self.protocol {
            JaegerProtocol::HttpThriftBinary => {
                let built = self.collector().build();
                built.map_err(|error| match self.is_endpoint_set {
                    true => error.with_context("set by", ENDPOINT.to_owned()),
                    false => error,
                })
            }
            JaegerProtocol::UdpThriftCompact | JaegerProtocol::UdpThriftBinary => {
                let built = self.agent().build();
                built.map_err(|error| match self.is_agent_set {
                    true => error.with_context("set by", format!("{AGENT_HOST}, {AGENT_PORT}")),
                    false => error,
                })
            }
            JaegerProtocol::Grpc => Err(Error::config(format!(
                "{PROTOCOL}=grpc is not supported: Jaeger takes OTLP over gRPC on port 4317, set OTEL_TRACES_EXPORTER=otlp"
            ))),
        }
    }

    /// Builds the exporter, with the limit for [each attempt](Self::attempt_timeout), retries by their defaults, and the
    /// limit for the [whole export](Self::export_limit) if one is set.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for an endpoint that is no URL, a host that is none, and for `grpc`; it names the variable.
    pub fn exporter(&self) -> Result<Exporter> {
        Ok(time_limits::with_limits(
            self.bare_exporter()?,
            self.timeout,
        ))
    }
}

/// User and password; one without the other is told.
fn user<L: Fn(&str) -> Option<OsString>>(reader: &Reader<L>) -> Option<(String, Secret)> {
    let user = reader.text(&[USER]).map(|(_, user)| user);
    let password = reader.secret_text(&[PASSWORD]).map(|(_, text)| text);
    match (user, password) {
        (Some(user), Some(password)) => Some((user, Secret::new(password))),
        (None, None) => None,
        (Some(user), None) => {
            let problem = format!("not used, because {PASSWORD} is not set");
            reader.warn(Warning::new(USER, &user, problem));
            None
        }
        (None, Some(_)) => {
            let problem = format!("not used, because {USER} is not set");
            reader.warn(Warning::secret(PASSWORD, problem));
            None
        }
    }
}
