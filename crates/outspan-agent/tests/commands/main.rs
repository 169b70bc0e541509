//! The commands of the program that end by themselves: `convert`, `demo`, `generate`, and those that describe it.
#![allow(
    clippy::unwrap_used,
    reason = "the panic of a test's helper is its report"
)]

mod convert;
mod demo;
mod describe;
mod generate;
#[path = "../program/mod.rs"]
mod running;
mod traces;
