//! The end of a program: nothing is lost silently, every answer is true, and it ends in time.

#![cfg(all(feature = "sdk", feature = "grpc", feature = "http"))]
// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod at_once;
mod callers;
mod matrix;
mod program;
mod told;
mod waits;
