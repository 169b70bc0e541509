//! The command line of `outspan agent`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::ValueEnum;

use super::When;
use super::destination::DESTINATIONS;
use super::targets::TargetArguments;
use crate::units;

const EXAMPLES: &str = "\
Examples:
  outspan agent --to stdout:                                show what programs send
  outspan agent --to grpcs://otlp.example.com:4317 \\
      --header authorization=env:TOKEN --compression gzip   pass it on
  outspan agent --to grpc://a:4317 --to grpc://b:4317       pass it on to both

Programs find the agent at their defaults: OTLP/gRPC on localhost:4317, OTLP/HTTP on
localhost:4318. Either address takes both.

Others are listened to when asked, each at the port that its clients use unless told:
  --listen zipkin+http://localhost    Zipkin v2, JSON and protobuf   9411   /api/v2/spans
  --listen jaeger+http://localhost    Jaeger's Thrift                14268  /api/traces
  --listen jaeger+udp://localhost     Jaeger's Thrift, compact or    6831 (binary: 6832)
                                      binary, as its clients send it to an agent";

const OPTIONS: &str = "\
Options of destinations:
  After a --to an option holds for that destination alone. Before the first --to it holds
  for all that it has a meaning for: a header there goes to every OTLP destination,
  whoever runs it.";

const ACKS: &str = "\
Acknowledgements:
  With --ack delivered an answer waits until every destination has delivered or rejected the
  spans of its request, for --ack-timeout at most and no longer than the sender (grpc-timeout).
  Rejected spans are told as partial success if they are certainly of that request. If a
  destination dropped spans, or at the end of the time, the answer is UNAVAILABLE (503) with a
  wait: the sender is to send again, and destinations that have the spans get them twice.
  The spans stay with the agent, also when the sender goes away. Beyond
  --max-waiting-answers requests are not taken, and answered in the same way. Jaeger's UDP has
  no answers; what comes from Kafka is always committed when it was delivered.";

const SIGNALS: &str = "\
Signals:
  SIGTERM, SIGINT,   stop in order: no more spans are taken, what is held is delivered within
  SIGQUIT            --shutdown-timeout; a second one stops at once
  SIGHUP             reloads the files of certificates and tokens; if the agent was started from
                     a terminal, that was closed, and the agent stops in order; nohup is heeded
  others             whatever would end the agent by default is ignored: SIGUSR1, SIGXFSZ, ...";

const EXIT_STATUS: &str = "\
Exit status:
  0    stopped by a signal; every destination has everything that was received for it
  1    stopped by a signal; a destination refused or lost something, the summary says
       what and why
  2    wrong usage or configuration, or an address that is taken
  141  whoever read standard output went away";

/// Receives spans and passes them on.
///
/// Takes spans from programs in any language, keeps them in memory until they are delivered, and tries again what fails
/// for a time. When there is no room, programs are told to send again later, so that nothing is lost.
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{DESTINATIONS}\n\n{OPTIONS}\n\n{ACKS}\n\n{SIGNALS}\n\n{EXIT_STATUS}"))]
pub(crate) struct AgentArguments {
    #[command(flatten)]
    pub(crate) to: TargetArguments,

    /// Where to answer /healthz, /readyz, /status and /metrics; off: nowhere
    #[arg(long, value_name = "ADDRESS", default_value = "localhost:8888")]
    pub(crate) admin: String,

    /// Bound of memory, for everything the agent holds
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = units::memory)]
    pub(crate) memory: usize,

    /// How long stopping may take, from the signal on, to deliver what is held
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = units::duration)]
    pub(crate) shutdown_timeout: Duration,

    /// Show only what goes wrong
    #[arg(long, short, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Log what happens on the way (twice: in every detail)
    #[arg(long, short, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Whether to use colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,

    #[command(flatten, next_help_heading = "Receiving")]
    pub(crate) receiving: ReceivingArguments,

    #[command(flatten, next_help_heading = "Batches")]
    pub(crate) batches: BatchArguments,
}

#[derive(Args, Debug)]
pub(crate) struct ReceivingArguments {
    /// Where to listen: grpc:// and http:// for OTLP, zipkin+http://, jaeger+http://, with TLS grpcs://, https://,
    /// zipkin+https://, jaeger+https://, and jaeger+udp://; port 0 takes a free one. kafka://BROKERS/TOPIC?group=NAME
    /// consumes from Kafka, if built with it
    /// [default: grpc://localhost:4317 and http://localhost:4318]
    #[arg(long, value_name = "URL")]
    pub(crate) listen: Vec<String>,

    /// File of the certificate that grpcs:// and the like show, PEM
    #[arg(long, value_name = "FILE", requires = "listen_key")]
    pub(crate) listen_cert: Option<PathBuf>,

    /// File of its private key, PEM
    #[arg(long, value_name = "FILE", requires = "listen_cert")]
    pub(crate) listen_key: Option<PathBuf>,

    /// File of authorities, PEM; whoever sends has to show a certificate of theirs
    #[arg(long, value_name = "FILE", requires = "listen_cert")]
    pub(crate) listen_client_ca: Option<PathBuf>,

    /// Bearer token that senders have to give: @FILE (read again when it changes) or env:NAME; may be repeated
    #[arg(long, value_name = "TOKEN")]
    pub(crate) listen_token: Vec<String>,

    /// Web page whose scripts may send, such as https://shop.example.com, or * for any; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) cors_origin: Vec<String>,

    /// Bytes a request at most, after decompression
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = units::bytes)]
    pub(crate) max_request_size: usize,

    /// How long a request may take to arrive
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = units::duration)]
    pub(crate) request_timeout: Duration,

    /// When to answer senders. queued: as soon as their spans are in memory, where the end of the process loses them.
    /// delivered: when every destination has delivered or rejected them; see Acknowledgements
    #[arg(long, value_name = "LEVEL", default_value = "queued")]
    pub(crate) ack: AckArgument,

    /// How long an answer waits with --ack delivered [default: 8s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub(crate) ack_timeout: Option<Duration>,

    /// Answers at most that wait with --ack delivered [default: one for every 256 KiB of --memory, 1024]
    #[arg(long, value_name = "ANSWERS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_waiting_answers: Option<u32>,

    /// Connections at most [default: one for every 160 KiB of --memory, 1638]
    #[arg(long, value_name = "CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: Option<u32>,

    /// After how long connections are closed in an orderly way, so that senders spread anew [default: never]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub(crate) max_connection_age: Option<Duration>,
}

/// When senders get their answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AckArgument {
    Queued,
    Delivered,
}

#[derive(Args, Debug)]
pub(crate) struct BatchArguments {
    /// Spans a batch at most
    #[arg(long, value_name = "SPANS", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_spans: u32,

    /// Bytes a batch at most, uncompressed; a larger span goes alone
    #[arg(long, value_name = "SIZE", default_value = "3MiB", value_parser = units::bytes)]
    pub(crate) batch_bytes: usize,

    /// How long spans wait for others to go with
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = units::duration)]
    pub(crate) batch_delay: Duration,
}
