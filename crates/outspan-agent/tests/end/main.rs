//! How an agent begins, is asked things while it is busy, and ends: signals, closed terminals, taken addresses.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "the panic of a test's helper is its report"
)]

mod agent;
mod binding;
mod commands;
mod early;
mod health;
mod output;
mod reload;
mod signals;
#[cfg(target_os = "linux")]
mod terminal;

#[path = "../program/mod.rs"]
mod running;
#[allow(dead_code, reason = "this test program uses its own part")]
#[path = "../agent/agent.rs"]
mod shared;
