//! The command line.

mod agent;
mod send;

use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;

pub(crate) use self::agent::AgentArguments;
pub(crate) use self::send::LocalArguments;
pub(crate) use self::send::OtlpArguments;
pub(crate) use self::send::Protocol;
pub(crate) use self::send::SendArguments;

/// Gets finished OpenTelemetry spans into the backends that keep them.
#[derive(Debug, Parser)]
#[command(name = "outspan", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Names what the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Agent(Box<AgentArguments>),
    Send(Box<SendArguments>),
}

/// Says when to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}
