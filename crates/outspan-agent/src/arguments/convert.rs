//! The command line of `outspan convert`.

use std::path::PathBuf;

use clap::Args;
use clap::ValueEnum;

use super::FileFormat;
use super::When;
use super::format::FORMATS;

const EXAMPLES: &str = "\
Examples:
  outspan convert shop.jsonl shop.zipkin.json          from OTLP to Zipkin
  outspan convert trace.json trace.pb.zst              whatever it is, to OTLP protobuf
  curl -s http://jaeger:16686/api/traces/ID |
      outspan convert - - --to-format otlp-json        what Jaeger gives out, to OTLP";

const NOTES: &str = "\
What a format has no place for is lost: docs/jaeger.md and docs/zipkin.md say what that
is. Files are read record by record, so a trace whose spans stand in several records
becomes several traces of one id in jaeger-json.";

const EXIT_STATUS: &str = "\
Exit status:
  0         everything was converted
  1         something was not; the summary says what and why
  2         wrong usage; nothing was written
  129, 130, interrupted (SIGHUP, SIGINT, SIGQUIT, SIGTERM); OUT is as it was
  131, 143  before
  141       whoever read standard output went away";

/// Converts span files from one format to another.
///
/// Reads every format that it writes, plain or compressed with gzip or zstd, in bounded memory. OUT appears when it is
/// complete.
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{FORMATS}\n\n{NOTES}\n\n{EXIT_STATUS}"))]
pub(crate) struct ConvertArguments {
    /// File to read; - reads standard input
    #[arg(value_name = "IN")]
    pub(crate) input: PathBuf,

    /// File to write, compressed if its name ends in .gz or .zst; - writes to standard output
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// What IN holds, see below [default: what its content tells]
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) from_format: Option<FileFormat>,

    /// What to write, see below [default: what OUT's name tells]
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) to_format: Option<FileFormat>,

    /// By whose rules spans become those of Zipkin or Jaeger
    #[arg(long, value_name = "DIALECT", default_value = "opentelemetry")]
    pub(crate) dialect: Dialect,

    /// Replace OUT if it exists
    #[arg(long, short)]
    pub(crate) force: bool,

    /// Stop at the first record that cannot be read, and write nothing
    #[arg(long)]
    pub(crate) strict: bool,

    /// Show only what went wrong
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Whether to use colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,
}

/// Names the rules by which spans of OTLP become those of Zipkin and Jaeger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    /// OpenTelemetry's specification.
    Opentelemetry,
    /// What the OpenTelemetry Collector does.
    Collector,
}
