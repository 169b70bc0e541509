//! The command line.

mod agent;
mod convert;
mod demo;
mod describe;
mod destination;
mod format;
mod generate;
mod send;
mod targets;

use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;

pub(crate) use self::agent::AckArgument;
pub(crate) use self::agent::AgentArguments;
pub(crate) use self::agent::ReceivingArguments;
pub(crate) use self::convert::ConvertArguments;
pub(crate) use self::convert::Dialect;
pub(crate) use self::demo::DemoArguments;
pub(crate) use self::describe::CompletionsArguments;
pub(crate) use self::describe::ManArguments;
pub(crate) use self::destination::DestinationArguments;
pub(crate) use self::destination::KeepAlive;
pub(crate) use self::destination::LocalArguments;
pub(crate) use self::destination::OtlpArguments;
pub(crate) use self::destination::Protocol;
pub(crate) use self::format::FileFormat;
pub(crate) use self::generate::GenerateArguments;
pub(crate) use self::generate::TraceArguments;
pub(crate) use self::send::SendArguments;
pub(crate) use self::targets::Given;

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
    Completions(CompletionsArguments),
    Convert(Box<ConvertArguments>),
    Demo(Box<DemoArguments>),
    Generate(Box<GenerateArguments>),
    Man(ManArguments),
    Send(Box<SendArguments>),
}

/// Says when to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}
