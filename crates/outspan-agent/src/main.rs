//! The `outspan` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    outspan_agent::main()
}
