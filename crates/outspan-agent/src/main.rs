//! The `outspan` program: gets finished spans into the backends that keep them.
//!
//! `outspan send FILE... --to URL` sends span files to a destination; `outspan send --help` tells the rest.

mod arguments;
mod screen;
mod send;
mod signals;
mod units;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;
use crate::arguments::Command;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Send(send) => send::run(*send),
    }
}
