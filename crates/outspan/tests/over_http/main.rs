//! The exporters that speak other formats than OTLP over HTTP: Zipkin, Jaeger's collector, plain JSON.
//!
//! What they share is tested over each of them; what only one does, in the module of its name. Bodies are read by others:
//! serde, prost, and a reader of Thrift that is this test's own.

#![cfg(all(feature = "http", feature = "jaeger", feature = "zipkin"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod delivery;
// These tests need not all that it can do.
#[allow(dead_code)]
#[path = "../proxy/fake.rs"]
mod fake;
mod http_json;
mod jaeger;
mod promises;
mod requests;
mod support;
mod thrift;
mod ways;
mod zipkin;
