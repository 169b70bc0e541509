//! Combinators and stacks of them against destinations that misbehave in every way we know of.
//!
//! Whatever happens, every span ends in exactly one place, and none is delivered more often than the stack says. Between all
//! parts of a stack stand [`probe`]s that compare what a part claims with what the parts inside it claimed, down to what the
//! [`destination`]s took. All of it runs on the library's own thread with its clock paused, so that queues and what goes on
//! behind follow the same time as the test.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod clock;
mod course;
mod destination;
mod drains;
mod generated;
mod losses;
mod matrix;
mod probe;
mod stack;
mod verdict;
