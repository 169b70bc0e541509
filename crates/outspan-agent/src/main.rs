//! The `outspan` program.
fn main() {}
