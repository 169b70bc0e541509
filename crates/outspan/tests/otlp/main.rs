//! The OTLP exporters against collectors that others wrote the framing and the decoders of.

#![cfg(all(feature = "grpc", feature = "http"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod support;

mod answers;
mod books;
mod compression;
mod concurrency;
mod connections;
mod delivery;
mod endpoints;
mod given_runtime;
mod hooks;
mod limits;
mod log;
mod named_limits;
mod retries;
mod runtimes;
mod secrets;
mod servers;
mod shared_batches;
mod tls;
