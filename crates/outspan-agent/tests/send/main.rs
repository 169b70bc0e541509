//! `outspan send`, run as a program against collectors that others wrote the decoder of.
#![allow(
    clippy::unwrap_used,
    reason = "the panic of a test's helper is its report"
)]

mod control;
mod failures;
mod formats;
mod input;
mod local;
mod options;
mod program;
#[path = "../program/mod.rs"]
mod running;
mod ways;
