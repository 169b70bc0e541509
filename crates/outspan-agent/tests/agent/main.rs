//! `outspan agent`, run as a program between senders and collectors that others wrote the decoder of.
#![allow(
    clippy::unwrap_used,
    reason = "the panic of a test's helper is its report"
)]

mod acks;
mod agent;
mod answers;
mod batches;
mod delivery;
mod formats;
mod local;
mod overload;
mod receiving;
mod stopping;
mod unanswered;
mod unwritable;
mod usage;

#[path = "../program/mod.rs"]
mod running;
