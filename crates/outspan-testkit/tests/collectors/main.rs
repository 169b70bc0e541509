//! The fake collectors, seen from exporters and raw clients that others wrote.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod behind_tls;
mod over_grpc;
mod over_http;
mod peer_exporter;
mod support;
mod whole_life;
