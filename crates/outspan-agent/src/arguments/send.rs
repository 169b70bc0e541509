//! The command line of `outspan send`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::DestinationArguments;
use super::FileFormat;
use super::When;
use super::destination::DESTINATIONS;
use super::format::FORMATS;
use crate::units;

const EXAMPLES: &str = "\
Examples:
  outspan send shop.jsonl --to stdout:                      show the traces
  outspan send shop.jsonl --to grpc://localhost:4317        deliver over OTLP/gRPC
  outspan send *.pb.zst --to https://otlp.example.com \\
      --header authorization=env:TOKEN --compression gzip   deliver over OTLP/HTTP
  outspan send - --to file:spans.pb.gz < spans.jsonl        convert";

const EXIT_STATUS: &str = "\
Exit status:
  0         everything was delivered
  1         something was not; the summary says what and why
  2         wrong usage or configuration; nothing was sent
  129, 130, interrupted (SIGHUP, SIGINT, SIGQUIT, SIGTERM)
  131, 143  before everything was read and delivered
  141       whoever read standard output went away";

/// Sends span files to a destination.
///
/// Reads OTLP in JSON and protobuf, spans of Zipkin, and batches and traces of Jaeger, plain or compressed with gzip or
/// zstd; what a file holds is recognised by its content. Small records are merged into batches, large ones are split. Says
/// at the end what was delivered, refused and failed.
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{DESTINATIONS}\n\n{FORMATS}\n\n{EXIT_STATUS}"))]
pub(crate) struct SendArguments {
    /// Files to read, in this order; - reads standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Where the spans go; see below
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,

    /// What the files hold, see below [default: what the content of each tells]
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) format: Option<FileFormat>,

    /// Stop at the first record that cannot be read, instead of counting it and going on
    #[arg(long)]
    pub(crate) strict: bool,

    /// Show only what went wrong
    #[arg(long, short, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Log what happens on the way (twice: in every detail)
    #[arg(long, short, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Whether to use colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,

    #[command(flatten, next_help_heading = "Delivery")]
    pub(crate) delivery: DeliveryArguments,

    #[command(flatten)]
    pub(crate) options: DestinationArguments,
}

#[derive(Args, Debug)]
pub(crate) struct DeliveryArguments {
    /// Limit of the whole run, such as 30s or 10m; what is not delivered by then has failed
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub(crate) deadline: Option<Duration>,

    /// Spans a second at most; what is sent again after an error does not count
    #[arg(long, value_name = "SPANS/S", value_parser = units::rate)]
    pub(crate) rate: Option<f64>,

    /// Spans a batch at most
    #[arg(long, value_name = "SPANS", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_spans: u32,

    /// Bytes a batch at most, uncompressed; a larger span goes alone
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = units::bytes)]
    pub(crate) batch_bytes: usize,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::Parser;

    use super::*;
    use crate::arguments::Arguments;
    use crate::arguments::Command;

    fn parse(line: &str) -> Result<SendArguments, clap::Error> {
        let arguments = Arguments::try_parse_from(line.split_whitespace())?;
        match arguments.command {
            Command::Send(send) => Ok(*send),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_help() {
        let send = parse("outspan send - a.jsonl --to stdout:").unwrap();
        assert_eq!(send.files, [PathBuf::from("-"), PathBuf::from("a.jsonl")]);
        assert_eq!(send.to, "stdout:");
        assert_eq!(send.delivery.batch_spans, 2048);
        assert_eq!(send.delivery.batch_bytes, 1 << 20);
        assert_eq!(send.color, When::Auto);
        assert_eq!(send.delivery.rate, None);
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "outspan send --to stdout:",
            "outspan send a.jsonl",
            "outspan send a --to stdout: --batch-spans 0",
            "outspan send a --to stdout: --concurrency 0",
            "outspan send a --to stdout: --rate 0",
            "outspan send a --to stdout: --timeout 0s",
            "outspan send a --to stdout: --compression br",
            "outspan send a --to grpcs://x --cert c.pem",
            "outspan send a --to file:x.pb --append --overwrite",
            "outspan send a --to stdout: --quiet --verbose",
            "outspan send a --to stdout: --format zipkin",
            "outspan convert a.jsonl",
            "outspan convert a.jsonl b.pb --to-format otlp",
            "outspan receive",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
