//! The variables of the Zipkin exporter, `OTEL_EXPORTER_ZIPKIN_*`.

use std::ffi::OsString;
use std::time::Duration;

use crate::Exporter;
use crate::Result;
use crate::zipkin;

use super::reader::Reader;
use super::time_limits;

const ENDPOINT: &str = "OTEL_EXPORTER_ZIPKIN_ENDPOINT";

/// The settings of the Zipkin exporter.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ZipkinSettings {
    /// `…ENDPOINT`: the URL of requests. Without a path it gets `/api/v2/spans`. Default:
    /// `http://localhost:9411/api/v2/spans`.
    pub endpoint: String,
    /// `…TIMEOUT`, if it is set: how long a whole export may take, retries included. Zero sets no limit.
    pub timeout: Option<Duration>,
    is_endpoint_set: bool,
}

impl Default for ZipkinSettings {
    fn default() -> Self {
        Self::read(&Reader::new(|_: &str| None))
    }
}

impl ZipkinSettings {
    pub(super) fn read<L: Fn(&str) -> Option<OsString>>(reader: &Reader<L>) -> Self {
        let endpoint = reader.text(&[ENDPOINT]);
        Self {
            is_endpoint_set: endpoint.is_some(),
            endpoint: match endpoint {
                Some((_, url)) => url,
                None => "http://localhost:9411/api/v2/spans".to_owned(),
            },
            timeout: reader.milliseconds(&["OTEL_EXPORTER_ZIPKIN_TIMEOUT"]),
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

    /// Starts an exporter with these settings, for what else is to be set in code. Code beats the environment.
    ///
    /// It neither retries nor times out; see [`exporter`](Self::exporter).
    pub fn builder(&self) -> zipkin::Builder {
        zipkin::http(&self.endpoint)
    }

    /// Builds the exporter without retry and time limits, for processors, which have them.
    pub(crate) fn bare_exporter(&self) -> Result<Exporter> {
        self.builder()
            .build()
            .map_err(|error| match self.is_endpoint_set {
                true => error.with_context("set by", ENDPOINT.to_owned()),
                false => error,
            })
    }

    /// Builds the exporter, with the limit for [each attempt](Self::attempt_timeout), retries by their defaults, and the
    /// limit for the [whole export](Self::export_limit) if one is set.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) for an endpoint that is no URL; it names the variable.
    pub fn exporter(&self) -> Result<Exporter> {
        Ok(time_limits::with_limits(
            self.bare_exporter()?,
            self.timeout,
        ))
    }
}
