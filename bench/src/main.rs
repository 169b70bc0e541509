//! Outspan and its peers on the same work, in one run.
//!
//! `cargo run --release -p outspan-bench -- BENCH` runs one bench and prints a line a case:
//! `case <name>: ours <x> <unit> peer <y> <unit> ratio <r>`. Above 1 we are better. Every case checks that what it counts
//! really arrived and is right; if not, the program says so and exits with 1.
//! `target <name>: <x> <unit> met|missed` says what a figure of ours should reach.
//!
//! Where three processes take part (load generator, program under test, receiving end), each is this very program.

mod burst;
mod encode;
mod export;
mod flat;
mod formats;
mod forward;
mod grpc_or_http;
mod idle;
mod measure;
mod on_end;
mod overload;
mod roles;
mod spans;
mod stack;
mod through;
mod validate;
mod workers;

use std::ffi::OsString;
use std::process::ExitCode;

use measure::Outcome;

const USAGE: &str = "usage: outspan-bench BENCH [--quick]

BENCH is one of
  encode        spans to request bytes
  on-end        ending a span
  export        end of span to bytes accepted by a gRPC server in another process (20 s a side)
  burst         100,000 spans at once
  validate      the validating pass against decoding
  stack         what combinators add to an export, and what a fan-out costs
  formats       the formats beside OTLP, written and read
  workers       four destinations with TLS and gzip on two workers (ours) and on one (peer)
  all           every bench of the library: those above

  forward       512-span requests through the agent: gRPC, uncompressed (22 s a side)
  forward-gzip  the same with gzip on both sides
  forward-zstd  the same with zstd on both sides
  forward-http  the same with protobuf over HTTP/1.1, uncompressed
  small         requests of one span from 64 connections
  idle          memory with nothing to do
  agent-all     every bench of the agent that has a peer: forward to idle

  flat          CPU a span of the agent by rate, connections and destinations, as a table (5 minutes)
  overload      ten times the load that the backend takes, for a minute
  grpc-or-http  our exporters by protocol and compression, as a table

--quick         short runs, to see that everything works; the figures mean little";

/// What `all` runs.
const LIBRARY: [&str; 8] = [
    "encode", "validate", "on-end", "burst", "export", "stack", "formats", "workers",
];

/// What `agent-all` runs.
const AGENT: [&str; 6] = [
    "forward",
    "forward-gzip",
    "forward-zstd",
    "forward-http",
    "small",
    "idle",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["receiver", options @ ..] => return roles::receiver::serve(options),
        ["load", options @ ..] => return roles::load::serve(options),
        ["peer", options @ ..] => return roles::peer::serve(options),
        ["agent", ..] => return agent(),
        _ => {}
    }
    let quick = arguments.contains(&"--quick");
    let names: Vec<&str> = arguments
        .into_iter()
        .filter(|argument| *argument != "--quick")
        .collect();
    let outcome = match names.as_slice() {
        ["all"] => LIBRARY.into_iter().try_for_each(|bench| run(bench, quick)),
        ["agent-all"] => AGENT.into_iter().try_for_each(|bench| run(bench, quick)),
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

/// Runs our agent, with the arguments as they stand after the name of this program.
fn agent() -> ExitCode {
    let program = std::iter::once(OsString::from("outspan"));
    outspan_agent::main_with(program.chain(std::env::args_os().skip(1)))
}

fn run(bench: &str, quick: bool) -> Outcome {
    if let Some(case) = forward::CASES.iter().find(|case| case.name == bench) {
        return forward::run(case, quick);
    }
    match bench {
        "encode" => encode::run(quick),
        "on-end" => on_end::run(quick),
        "export" => export::run(quick),
        "burst" => burst::run(quick),
        "validate" => validate::run(quick),
        "stack" => stack::run(quick),
        "formats" => formats::run(quick),
        "workers" => workers::run(quick),
        "small" => forward::run_small(quick),
        "idle" => idle::run(quick),
        "flat" => flat::run(quick),
        "overload" => overload::run(quick),
        "grpc-or-http" => grpc_or_http::run(quick),
        _ => Err(format!("unknown bench \"{bench}\"\n\n{USAGE}")),
    }
}
