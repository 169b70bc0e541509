//! The OpenTelemetry SDK: processors, the adapters both ways, the environment and `init`.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "metrics")]
#[path = "../otel_metrics/mod.rs"]
mod otel_metrics;

mod env;
mod env_in_code;
mod env_zipkin_jaeger;
mod from_sdk;
mod init;
mod init_env;
mod limits_log;
mod processor;
mod processor_full;
mod processor_metrics;
mod processor_network;
mod processor_self_tracing;
mod runtime_self_tracing;
mod sdk_exporter;
mod simple_processor;
mod simple_processor_log;
