//! Outspan and its peers on the same work, in one run.
//!
//! `cargo run --release -p outspan-bench -- BENCH` runs one bench and prints a line a case:
//! `case <name>: ours <x> <unit> peer <y> <unit> ratio <r>`. Above 1 we are better. Every case checks that what it counts
//! really arrived and is right; if not, the program says so and exits with 1.

mod burst;
mod encode;
mod export;
mod measure;
mod on_end;
mod receiver;
mod spans;
mod validate;

use std::process::ExitCode;

use measure::Outcome;

const USAGE: &str = "usage: outspan-bench BENCH [--quick]

BENCH is one of
  encode    spans to request bytes
  on-end    ending a span
  export    end of span to bytes accepted by a gRPC server in another process (20 s a side)
  burst     100,000 spans at once
  validate  the validating pass against decoding
  all       every bench

--quick     short runs, to see that everything works; the figures mean little";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let quick = arguments.contains(&"--quick");
    let names: Vec<&str> = arguments
        .into_iter()
        .filter(|argument| *argument != "--quick")
        .collect();
    let outcome = match names.as_slice() {
        ["receiver"] => return receiver::serve(),
        ["all"] => ["encode", "validate", "on-end", "burst", "export"]
            .into_iter()
            .try_for_each(|bench| run(bench, quick)),
        [bench] => run(bench, quick),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(bench: &str, quick: bool) -> Outcome {
    match bench {
        "encode" => encode::run(quick),
        "on-end" => on_end::run(quick),
        "export" => export::run(quick),
        "burst" => burst::run(quick),
        "validate" => validate::run(quick),
        _ => Err(format!("unknown bench \"{bench}\"\n\n{USAGE}")),
    }
}
