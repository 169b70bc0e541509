//! The Kafka exporter against brokers that others wrote.

#![cfg(feature = "kafka")]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

#[path = "../cluster/mod.rs"]
mod cluster;
mod support;

mod bounds;
mod failures;
mod log;
mod messages;
mod order;
mod sizes;
mod unanswered;
