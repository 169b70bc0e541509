//! Several destinations on one command line, each with options of its own.
//!
//! ```text
//!   --timeout 5s  --to grpc://a  --header x=1  --to grpc://b  --timeout 9s
//!   └─ for all ─┘                └─ for a ───┘                └─ for b ──┘
//! ```
//!
//! So a token that stands after a destination is sent to no other. An option of a destination's own replaces the one for
//! all; of headers it gets both, and its own where they have the same name.

use std::ffi::OsString;
use std::fmt;

use clap::Arg;
use clap::ArgAction;
use clap::ArgMatches;
use clap::Args;
use clap::Command;
use clap::FromArgMatches;
use clap::builder::Resettable;

use super::DestinationArguments;

/// The option that names a destination.
const TO: &str = "to";

/// The option that may be given several times for one destination.
const HEADER: &str = "header";

/// Holds the destinations of the command line and their options.
#[derive(Clone, Debug)]
pub(crate) struct TargetArguments {
    pub(crate) targets: Vec<Given>,
}

/// Holds a destination as it was given.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// Its address.
    pub(crate) to: String,
    /// Options for all destinations.
    shared: Vec<GivenOption>,
    /// Options for this one.
    own: Vec<GivenOption>,
}

/// Holds an option and its value.
#[derive(Clone)]
struct GivenOption {
    id: String,
    /// The option and its value in one piece, as in `--timeout=5s`; nothing for a flag that is off.
    token: Option<OsString>,
}

impl Given {
    /// Puts together the options that hold for this destination.
    ///
    /// `is_left_out` names options for all destinations that have no meaning for this one.
    ///
    /// # Errors
    ///
    /// Words for the user, if options contradict each other.
    pub(crate) fn options(
        &self,
        is_left_out: impl Fn(&str) -> bool,
    ) -> Result<DestinationArguments, String> {
        let is_own = |id: &str| self.own.iter().any(|option| option.id == id);
        let shared = self.shared.iter().filter(|option| {
            let is_replaced = option.id != HEADER && is_own(&option.id);
            !is_replaced && !is_left_out(&option.id)
        });
        let tokens = shared
            .chain(&self.own)
            .filter_map(|option| option.token.clone());
        let command = DestinationArguments::augment_args(Command::new("destination"))
            .no_binary_name(true)
            .disable_help_flag(true);
        let options = command
            .try_get_matches_from(tokens)
            .and_then(|matches| DestinationArguments::from_arg_matches(&matches));
        options.map_err(|error| in_words(&error))
    }

    /// Whether the option is one of this destination's own.
    pub(crate) fn has_own(&self, id: &str) -> bool {
        self.own.iter().any(|option| option.id == id)
    }
}

/// The first paragraph of what clap says, on one line; usage would be that of all destinations.
fn in_words(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().collect();
    let words = words.join(" ");
    words.strip_prefix("error: ").unwrap_or(&words).to_owned()
}

impl Args for TargetArguments {
    fn augment_args(command: Command) -> Command {
        let to = Arg::new(TO)
            .long(TO)
            .value_name("URL")
            .required(true)
            .action(ArgAction::Append)
            .help(
                "Where spans go; see below. Several get everything each, with a queue of its own",
            );
        command.arg(to).args(repeatable_options())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for TargetArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut options = Vec::new();
        for arg in repeatable_options() {
            options.extend(given(matches, &arg));
        }
        let places = matches.indices_of(TO).into_iter().flatten();
        let places: Vec<usize> = places.collect();
        let first = places.first().copied().unwrap_or(usize::MAX);
        let in_range = |from: usize, to: usize| {
            let within = options
                .iter()
                .filter(move |(at, _)| (from..to).contains(at));
            within.map(|(_, option)| option.clone()).collect::<Vec<_>>()
        };
        let shared = in_range(0, first);
        let urls = matches.get_many::<String>(TO).into_iter().flatten();
        let targets = urls
            .zip(&places)
            .enumerate()
            .map(|(number, (to, place))| Given {
                to: to.clone(),
                shared: shared.clone(),
                own: in_range(
                    *place,
                    places.get(number + 1).copied().unwrap_or(usize::MAX),
                ),
            });
        Ok(Self {
            targets: targets.collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl fmt::Debug for GivenOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value may be a secret.
        f.write_str(&self.id)
    }
}

/// The options of a destination, each as often as there are destinations.
///
/// What options demand of each other is checked for each destination, in [`Given::options`].
fn repeatable_options() -> Vec<Arg> {
    let options = DestinationArguments::augment_args(Command::new("destination"));
    let options = options.get_arguments().map(|arg| {
        let arg = arg
            .clone()
            .requires(Resettable::Reset)
            .conflicts_with(Resettable::Reset);
        let is_flag = matches!(arg.get_action(), ArgAction::SetTrue);
        match is_flag {
            // A flag for all can be off for one.
            true => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("true|false")
                .hide_possible_values(true),
            false => arg,
        }
        .action(ArgAction::Append)
    });
    options.map(for_agents).collect()
}

/// Says what is different when an agent sends.
fn for_agents(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        HEADER => arg.help(
            "Header, such as authorization=TOKEN; @FILE (read again when the destination says it is not authorized) \
             and env:NAME in place of the value read it from there. Before the first --to it goes to all OTLP destinations",
        ),
        "max_elapsed" => arg.help(
            "How long a batch is sent again after temporary errors [default: while there is room]",
        ),
        "retries" => arg.help(
            "How often a batch is sent again at most after a temporary error; 0: never [default: while there is room]",
        ),
        _ => arg,
    }
}

/// The places and values of an option.
fn given(matches: &ArgMatches, arg: &Arg) -> Vec<(usize, GivenOption)> {
    let id = arg.get_id().as_str();
    let is_given = matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
    let (Some(long), true) = (arg.get_long(), is_given) else {
        return Vec::new();
    };
    let is_flag = arg.is_require_equals_set();
    let places = matches.indices_of(id).into_iter().flatten();
    let values = matches.get_raw(id).into_iter().flatten();
    let options = places.zip(values).map(|(place, value)| {
        let mut token = OsString::from(format!("--{long}"));
        if !is_flag {
            token.push("=");
            token.push(value);
        }
        let is_off = is_flag && value == "false";
        let option = GivenOption {
            id: id.to_owned(),
            token: (!is_off).then_some(token),
        };
        (place, option)
    });
    options.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::arguments::Arguments;
    use crate::arguments::Command;

    fn parse(line: &str) -> Result<Vec<Given>, clap::Error> {
        let line = format!("outspan agent {line}");
        let arguments = Arguments::try_parse_from(line.split_whitespace())?;
        match arguments.command {
            Command::Agent(agent) => Ok(agent.to.targets),
            other => panic!("{other:?}"),
        }
    }

    fn options(line: &str) -> Vec<DestinationArguments> {
        let given = parse(line).unwrap();
        let options = given.iter().map(|given| given.options(|_| false).unwrap());
        options.collect()
    }

    #[test]
    fn an_option_belongs_to_the_destination_before_it_or_to_all() {
        let options = options(
            "--header all=1 --timeout 5s --to grpc://a --header a=2 -v --to=http://b \
             --timeout=9s --memory 64MiB --header b=3 --to file:x.pb",
        );
        let headers: Vec<_> = options.iter().map(|of| of.otlp.header.clone()).collect();
        assert_eq!(
            headers,
            [vec!["all=1", "a=2"], vec!["all=1", "b=3"], vec!["all=1"]]
        );
        let seconds = |of: &DestinationArguments| of.otlp.timeout.map(|limit| limit.as_secs());
        let timeouts: Vec<_> = options.iter().map(seconds).collect();
        assert_eq!(timeouts, [Some(5), Some(9), Some(5)]);
    }

    #[test]
    fn a_flag_for_all_can_be_off_for_one() {
        let options = options(
            "--append --to file:a.pb --to file:b.pb --append=false --overwrite --to stdout: --attributes",
        );
        let flags =
            |of: &DestinationArguments| (of.local.append, of.local.overwrite, of.local.attributes);
        let flags: Vec<_> = options.iter().map(flags).collect();
        assert_eq!(
            flags,
            [
                (true, false, false),
                (false, true, false),
                (true, false, true)
            ]
        );
    }

    #[test]
    fn every_destination_may_have_the_same_option() {
        let options = options("--to grpcs://a --ca a.pem --to grpcs://b --ca b.pem");
        let files: Vec<_> = options.iter().map(|of| of.otlp.ca.as_deref()).collect();
        assert_eq!(files, [Some(Path::new("a.pem")), Some(Path::new("b.pem"))]);
        assert_eq!(options[0].otlp.timeout, None::<Duration>);
    }

    #[test]
    fn options_that_contradict_each_other_are_named() {
        let contradict = |line| {
            let given = parse(line).unwrap();
            given[0].options(|_| false).unwrap_err()
        };
        assert_eq!(
            contradict("--append --to file:x.pb --overwrite"),
            "the argument '--append' cannot be used with '--overwrite'"
        );
        assert_eq!(
            contradict("--to grpcs://x --cert c.pem"),
            "the following required arguments were not provided: --key <FILE>"
        );
        let twice = contradict("--to grpc://x --timeout 1s --timeout 2s");
        assert!(twice.contains("--timeout"), "{twice}");
    }

    #[test]
    fn values_are_checked_like_any_other() {
        for line in [
            "",
            "--header a=b",
            "--to grpc://x --timeout 0s",
            "--to grpc://x --compression br",
            "--to grpc://x --concurrency 0",
            "--to file:x.pb --append=maybe",
            "--to",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn values_are_in_no_debug_output() {
        let given = parse("--header a=t0ken --to grpc://x --header b=s3cret").unwrap();
        let text = format!("{given:?}");
        assert!(
            !text.contains("t0ken") && !text.contains("s3cret"),
            "{text}"
        );
    }
}
