//! The command line of `outspan generate`.

use std::time::Duration;

use clap::Args;

use super::OtlpArguments;
use super::When;
use crate::units;

const GENERATE_EXAMPLES: &str = "\
Examples:
  outspan generate --to grpc://localhost:4317                       1,000 spans/s for 10 s
  outspan generate --to http://localhost:4318 --spans 100000 --rate 0 --compression gzip
  outspan generate --to grpc://localhost:4317 --rate 0 --duration 1m \\
      --workers 2 --concurrency 16 --batch-spans 2048               as much as it takes

Exit status:
  0         everything was acknowledged
  1         something was refused or failed; the summary says what and why
  2         wrong usage or configuration; nothing was sent
  129, 130, interrupted (SIGHUP, SIGINT, SIGQUIT, SIGTERM)
  131, 143  before everything was sent";

/// Sends made-up traces to an OTLP receiver, as many and as fast as asked.
///
/// The traces are those of the demo's shop: seven services with nested spans of every kind, errors, events and links.
/// What fails for a time is sent again. Says at the end what was sent, acknowledged, refused and failed, how fast, and how
/// long exports took.
#[derive(Args, Debug)]
#[command(after_help = GENERATE_EXAMPLES)]
pub(crate) struct GenerateArguments {
    /// Where the spans go: grpc://, grpcs://, http:// or https://, as for `outspan send`
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,

    /// Show only what went wrong
    #[arg(long, short, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Log what happens on the way (twice: in every detail)
    #[arg(long, short, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Whether to use colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,

    #[command(flatten, next_help_heading = "Load")]
    pub(crate) load: LoadArguments,

    #[command(flatten, next_help_heading = "Traces")]
    pub(crate) traces: TraceArguments,

    #[command(flatten, next_help_heading = "OTLP")]
    pub(crate) otlp: OtlpArguments,
}

#[derive(Args, Debug)]
pub(crate) struct LoadArguments {
    /// Spans a second, 0: as fast as it goes; what is sent again after an error does not count
    #[arg(long, value_name = "SPANS/S", default_value = "1000", value_parser = units::rate_or_none)]
    pub(crate) rate: units::Rate,

    /// How long to send [default: 10s, unless --spans is given]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub(crate) duration: Option<Duration>,

    /// Spans to send in all
    #[arg(long, value_name = "SPANS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) spans: Option<u64>,

    /// Tasks that make spans at the same time
    #[arg(long, value_name = "TASKS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: u16,

    /// Spans a batch at most; a batch has no more than a tenth of a second's worth of --rate, and 2 MiB
    #[arg(long, value_name = "SPANS", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) batch_spans: u32,
}

#[derive(Args, Debug)]
pub(crate) struct TraceArguments {
    /// Spans in each trace; at the end a trace may be cut short [default: 3 to 15, as they come]
    #[arg(long, value_name = "SPANS", value_parser = clap::value_parser!(u32).range(1..=10000))]
    pub(crate) spans_per_trace: Option<u32>,

    /// Attributes in each span, besides those of the shop
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) attributes: u32,

    /// Bytes in the value of each of these attributes; random letters, which hardly compress
    #[arg(long, value_name = "SIZE", default_value = "32", value_parser = units::bytes)]
    pub(crate) attribute_size: usize,

    /// How many of a hundred traces have errors
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = units::percent)]
    pub(crate) errors: f64,

    /// Makes the same traces for the same number, but for their times
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::Arguments;
    use crate::arguments::Command;

    fn parse(line: &str) -> Result<GenerateArguments, clap::Error> {
        let line = format!("outspan generate {line}");
        let arguments = Arguments::try_parse_from(line.split_whitespace())?;
        match arguments.command {
            Command::Generate(generate) => Ok(*generate),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_options_the_load_is_small() {
        let generate = parse("--to grpc://localhost").unwrap();
        assert_eq!(generate.load.rate, units::Rate(Some(1000.0)));
        assert_eq!((generate.load.workers, generate.load.batch_spans), (1, 512));
        assert_eq!(generate.traces.spans_per_trace, None);
        assert_eq!(generate.traces.attributes, 0);
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "",
            "--to grpc://x --rate -1",
            "--to grpc://x --spans 0",
            "--to grpc://x --workers 0",
            "--to grpc://x --duration 0s",
            "--to grpc://x --errors 101",
            "--to grpc://x --errors -1",
            "--to grpc://x --spans-per-trace 0",
            "--to grpc://x --batch-spans 0",
            "--to grpc://x --quiet --verbose",
            "shop.jsonl --to grpc://x",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
