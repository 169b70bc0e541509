//! The memory of the program, whatever is sent to it and whatever its destination does.
//!
//! Each combination of requests, destination and state of the destination starts the real program with a bound of memory
//! and an address space that is 512 MiB larger, sends requests that grow by far when they are converted or split, and
//! ordinary spans meanwhile. It checks that
//!
//! - the program stays alive, and its resident memory never passes the bound by 64 MiB;
//! - every sender gets an answer;
//! - ordinary spans arrive while the destination takes them;
//! - the account is balanced at all times: `received = delivered + refused + dropped + queued + in flight`.
//!
//! The usual run picks combinations that cover every pair of values. `OUTSPAN_MEMORY_MATRIX=all` runs every combination with
//! every request alone (half an hour), `OUTSPAN_MEMORY_MATRIX=TEXT` those whose name holds the text, such as
//! `zipkin json` or `up, empty events`:
//!
//! ```text
//! OUTSPAN_MEMORY_MATRIX=all cargo test -p outspan-agent --test memory -- --nocapture
//! ```
//!
//! Either way a table is printed: for each combination the peak of resident memory, the answers, and how many of the ordinary
//! spans that were accepted arrived.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout, reason = "shows the table, with --nocapture")]
#![cfg(target_os = "linux")]

mod agent;
mod destinations;
mod matrix;
mod pairwise;
mod refused;
mod requests;
mod slow;
mod turns;
