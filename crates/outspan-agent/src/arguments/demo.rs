//! The command line of `outspan demo`.

use clap::Args;

use super::When;
use crate::units;

const DEMO_EXAMPLES: &str = "\
Examples:
  outspan demo                                  a thousand spans in five seconds
  outspan demo --spans 0                        until Ctrl-C
  outspan demo --to grpc://localhost:4317       to a backend of yours, instead of the terminal
  outspan demo --spans 100000 --rate 0          as fast as it goes

Exit status:
  0    nothing was lost, also when Ctrl-C ended it early
  1    something was refused or lost; the summary says what and why
  2    wrong usage
  141  whoever read standard output went away";

/// Shows how spans get out of programs, with nothing else installed.
///
/// A small shop of seven simulated services makes traces with the OpenTelemetry SDK, and sends them over OTLP (gRPC and
/// HTTP, on this machine alone) to an agent in the same program. The agent shows some of them as trees, or passes all of
/// them on. The summary says what was made, delivered, received, shown and lost, and it adds up.
#[derive(Args, Debug)]
#[command(after_help = DEMO_EXAMPLES)]
pub(crate) struct DemoArguments {
    /// Spans to make in all; 0: until Ctrl-C
    #[arg(long, value_name = "SPANS", default_value_t = 1000)]
    pub(crate) spans: u64,

    /// Spans a second; 0: as fast as they are delivered
    #[arg(long, value_name = "SPANS/S", default_value = "200", value_parser = units::rate_or_none)]
    pub(crate) rate: units::Rate,

    /// Where the agent passes spans on to, as for `outspan send`; may be repeated [default: trees on standard output]
    #[arg(long, value_name = "URL")]
    pub(crate) to: Vec<String>,

    /// Trees to show a second at most, after the first of each kind; 0: all
    #[arg(long, value_name = "TREES", default_value_t = 1, conflicts_with = "to")]
    pub(crate) trees: u32,

    /// Makes the same visits for the same number; ids and times differ all the same
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,

    /// Show only trees and what goes wrong
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Whether to use colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::Arguments;
    use crate::arguments::Command;

    fn parse(line: &str) -> Result<DemoArguments, clap::Error> {
        let arguments = Arguments::try_parse_from(line.split_whitespace())?;
        match arguments.command {
            Command::Demo(demo) => Ok(*demo),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_options_it_takes_some_five_seconds() {
        let demo = parse("outspan demo").unwrap();
        assert_eq!((demo.spans, demo.rate.0), (1000, Some(200.0)));
        assert!(demo.to.is_empty());
        assert_eq!(parse("outspan demo --rate 0").unwrap().rate.0, None);
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "outspan demo --rate fast",
            "outspan demo --rate -1",
            "outspan demo --spans -1",
            "outspan demo shop.jsonl",
            "outspan demo --trees 5 --to grpc://localhost",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
