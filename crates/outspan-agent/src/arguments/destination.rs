//! Options of destinations.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::ValueEnum;
use outspan::Compression;

use super::Dialect;
use crate::units;

/// The part of the help that says which destinations there are.
pub(super) const DESTINATIONS: &str = "\
Destinations:
  grpc://HOST[:PORT]    OTLP/gRPC, with TLS as grpcs://; port 4317 unless given
  http://HOST[:PORT]    OTLP/HTTP, with TLS as https://; port 80 or 443 unless given
                        (OTLP is usually on 4318), path /v1/traces unless given
  unix:PATH             OTLP/gRPC to a unix socket; over HTTP as http+unix://PATH/PATH,
                        the first PATH with %2F for each slash
  zipkin+http://HOST    Zipkin v2, JSON or with --protocol protobuf; path /api/v2/spans
                        unless given (Zipkin is usually on 9411); also zipkin+https://
  jaeger+http://HOST    Jaeger's collector, Thrift; path /api/traces unless given (it is
                        usually on 14268); also jaeger+https://
  jaeger+udp://HOST     Jaeger's agent, compact Thrift; port 6831 unless given, and on
                        6832 binary, or ?protocol=binary for any port. Nobody tells
                        whether spans arrive
  json+http://HOST      plain JSON, an array of objects; also json+https://
  kafka://HOST/TOPIC    Apache Kafka, if built with it; hosts with commas between, topic
                        otlp_spans unless given, ?key=trace_id for messages by trace
  file:PATH             .jsonl or .json: OTLP JSON lines; .pb or .bin: protobuf with
                        lengths; either with .gz or .zst behind it
  stdout:               trace trees; also stdout:pretty, stdout:compact, stdout:json,
                        stdout:otlp";

/// What can be said about a destination besides its address. Not every option has a meaning for each.
#[derive(Args, Clone, Debug)]
pub(crate) struct DestinationArguments {
    #[command(flatten, next_help_heading = "Destinations over the network")]
    pub(crate) otlp: OtlpArguments,

    #[command(flatten, next_help_heading = "Other destinations")]
    pub(crate) local: LocalArguments,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct OtlpArguments {
    /// Header, such as authorization=TOKEN; @FILE (read again when the destination says it is not authorized) and env:NAME
    /// in place of the value read it from there
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) header: Vec<String>,

    /// What HTTP requests hold [default: protobuf; to Zipkin json]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) protocol: Option<Protocol>,

    /// Compression of requests: none, gzip or zstd [default: none]
    #[arg(long, value_name = "NAME")]
    pub(crate) compression: Option<Compression>,

    /// Level of compression, also of files: gzip 0 to 9 [default: 6], zstd 1 to 22 [default: 3]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) compression_level: Option<u32>,

    /// Limit of each attempt [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub(crate) timeout: Option<Duration>,

    /// How often a batch is sent again at most after a temporary error; 0: never [default: while time lasts]
    #[arg(long, value_name = "TIMES")]
    pub(crate) retries: Option<u32>,

    /// How long a batch is sent again after temporary errors [default: 1m]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub(crate) max_elapsed: Option<Duration>,

    /// Batches on the way at the same time [default: 4]
    #[arg(long, value_name = "BATCHES", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) concurrency: Option<u16>,

    /// Look whether the destination is still there when nothing came from it for so long: HTTP/2 pings while an answer is
    /// awaited, and on idle connections TCP's probes (those after 30s at the latest). The connection is given up when a
    /// ping is not answered within TIMEOUT [20s unless given]. gRPC servers have to allow intervals below 5m. off: no pings
    /// [default: 6m,20s]
    #[arg(long, value_name = "INTERVAL[,TIMEOUT]|off")]
    pub(crate) keep_alive: Option<KeepAlive>,

    /// Proxy to go through: http://, https://, socks5:// (names are looked up here) or socks5h:// (there), then
    /// USER:PASSWORD@ if it wants them, HOST:PORT; @FILE and env:NAME in place of it read it from there; none: no proxy
    /// [default: HTTPS_PROXY for grpc://, grpcs:// and https://, HTTP_PROXY for http://, or ALL_PROXY; NO_PROXY lists
    /// exceptions]
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,

    /// File of certificate authorities to trust, PEM [default: those of the system]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// File of the certificate to show, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,

    /// File of its private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,

    /// Name to expect in the server's certificate [default: the host of the URL]
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,

    /// Believe any certificate. Whoever is in between can read and change everything
    #[arg(long)]
    pub(crate) insecure_skip_verify: bool,
}

/// Says how often to look whether a destination is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepAlive {
    /// Never.
    Off,
    /// When nothing came for `interval`; it has to answer within `timeout`.
    Every {
        interval: Duration,
        timeout: Duration,
    },
}

impl KeepAlive {
    /// How long to wait for the answer to a ping. Default: 20 s, as in gRPC's libraries.
    const TIMEOUT: Duration = Duration::from_secs(20);
}

impl FromStr for KeepAlive {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let (interval, timeout) = match text.split_once(',') {
            Some((interval, timeout)) => (interval, units::duration(timeout)?),
            None => (text, Self::TIMEOUT),
        };
        Ok(Self::Every {
            interval: units::duration(interval)?,
            timeout,
        })
    }
}

/// Names the encodings of OTLP/HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    Protobuf,
    Json,
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct LocalArguments {
    /// By whose rules spans become those of Zipkin and Jaeger [default: opentelemetry]
    #[arg(long, value_name = "DIALECT")]
    pub(crate) dialect: Option<Dialect>,

    /// Show attributes in the trees of stdout:
    #[arg(long)]
    pub(crate) attributes: bool,

    /// Add to the file if it exists
    #[arg(long, conflicts_with = "overwrite")]
    pub(crate) append: bool,

    /// Replace the file if it exists
    #[arg(long)]
    pub(crate) overwrite: bool,

    /// Put the file aside before it grows larger than this, and begin a new one; the time stands in its name then
    #[arg(long, value_name = "BYTES", value_parser = units::memory)]
    pub(crate) rotate_bytes: Option<usize>,

    /// Put the file aside when its first spans are this old, and begin a new one
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub(crate) rotate_after: Option<Duration>,

    /// Files that were put aside and are kept; the earliest is removed first [default: 100]
    #[arg(long, value_name = "FILES", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep_files: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alive_is_an_interval_a_timeout_or_off() {
        let every = |interval, timeout| {
            Ok(KeepAlive::Every {
                interval: Duration::from_secs(interval),
                timeout: Duration::from_secs(timeout),
            })
        };
        assert_eq!("30s".parse(), every(30, 20));
        assert_eq!("1m,5s".parse(), every(60, 5));
        assert_eq!("off".parse(), Ok(KeepAlive::Off));
        for wrong in ["", "0s", "30s,", "30s,0s", "30s,5s,1s", "on", ",5s"] {
            let parsed = wrong.parse::<KeepAlive>();
            assert!(parsed.is_err(), "{wrong}: {parsed:?}");
        }
    }
}
