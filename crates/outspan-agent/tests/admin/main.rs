//! The admin address of `outspan agent`, run as a program, read with other people's parsers.
#![allow(
    clippy::unwrap_used,
    reason = "the panic of a test's helper is its report"
)]

mod account;
mod acks;
mod agent;
mod one_batch;
mod states;

#[path = "../program/mod.rs"]
mod running;
