//! Combinators and the queue, around scripted exporters and, where it says so, in front of real servers.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "metrics")]
#[path = "../otel_metrics/mod.rs"]
mod otel_metrics;

mod balance;
mod basic;
mod editing;
mod fallback;
mod fan_out;
mod fan_out_log;
mod from_go;
mod limited;
mod logged;
mod logged_self_tracing;
mod measured;
mod merger;
mod queue;
mod queue_log;
mod queue_runtime;
mod queued;
mod retiring;
mod retry;
mod shares;
mod span_queue;
mod split;
mod stacks;
