//! `outspan agent` between Kafka and collectors, run as a program. The brokers are mocks of others.

#![cfg(feature = "kafka")]
#![allow(
    clippy::unwrap_used,
    reason = "the panic of a test's helper is its report"
)]

#[path = "../../../outspan/tests/cluster/mod.rs"]
mod cluster;
#[path = "../program/mod.rs"]
mod running;

mod consuming;
mod producing;
mod support;
