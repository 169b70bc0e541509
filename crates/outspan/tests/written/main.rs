//! What exporters that write count as delivered: spans that are written, where somebody can find them.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

#[cfg(unix)]
mod moved;
mod pending;
