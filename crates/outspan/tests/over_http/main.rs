//! The exporters that speak other formats than OTLP over HTTP: Zipkin, Jaeger's collector, plain JSON.
//!
//! What they share is tested over each of them; what only one does, in the module of its name. Bodies are read by others:
//! serde, prost and thrift.

#![cfg(all(feature = "http", feature = "jaeger", feature = "zipkin"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

/// The source that users copy: it compiles here, and so uses nothing but what is public.
#[allow(unreachable_pub)]
#[path = "../../src/exporters/http_json.rs"]
mod copied;
mod delivery;
// These tests need not all that it can do.
#[allow(dead_code)]
#[path = "../network/proxies/fake.rs"]
mod fake;
mod http_json;
mod jaeger;
mod promises;
mod requests;
mod support;
mod thrift;
mod ways;
mod zipkin;

use outspan::Batch;
use outspan::Deadline;
use outspan::Delivery;
use outspan::Drained;
use outspan::Export;
use outspan::Exporter;
use outspan::Result;
use outspan::http_post;
use outspan::wire;
