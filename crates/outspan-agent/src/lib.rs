//! The `outspan` program: gets finished spans into the backends that keep them.
//!
//! `outspan agent --to URL` receives spans from programs in any language and passes them on;
//! `outspan send FILE... --to URL` sends span files, `outspan convert IN OUT` turns them into other formats; `outspan demo` shows all of it with nothing else installed, and
//! `outspan generate --to URL` sends as many made-up spans as asked. `outspan help` tells the rest.
//!
//! This crate is a program first. It is a library so that benches and fuzz targets can run what the program runs.

mod address;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod address_space;
mod admin;
mod agent;
mod arguments;
mod convert;
mod demo;
mod describe;
mod destination;
#[doc(hidden)]
pub mod fuzzing;
mod generate;
#[cfg(feature = "kafka")]
mod kafka_url;
mod live;
#[cfg(test)]
mod log;
mod pipeline;
mod receivers;
mod screen;
mod send;
mod shop;
mod signals;
mod units;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;
use crate::arguments::Command;

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    address_space::spare();
    main_with(std::env::args_os())
}

/// Runs the program with `arguments`, the program's name first.
///
/// Wrong arguments end the process, as is usual for a program.
pub fn main_with(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    match arguments.command {
        Command::Agent(agent) => agent::run(*agent),
        Command::Completions(completions) => describe::complete(&completions),
        Command::Convert(convert) => convert::run(*convert),
        Command::Demo(demo) => demo::run(*demo),
        Command::Generate(generate) => generate::run(*generate),
        Command::Man(man) => describe::describe(&man),
        Command::Send(send) => send::run(*send),
    }
}
