//! Runs one bench.
fn main() {}
