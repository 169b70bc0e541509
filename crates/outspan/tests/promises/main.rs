//! Every promise of the testkit, kept by every exporter and combinator. A binary of its own, because the promises install
//! the global subscriber and the global tracer provider of the process.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "kafka")]
#[path = "../cluster/mod.rs"]
mod cluster;
#[cfg(feature = "jaeger")]
#[path = "../jaeger_agent_fake/mod.rs"]
mod jaeger_agent_fake;

mod adapter;
mod export;
mod file;
mod jaeger_agent;
mod kafka;
mod stdout;
