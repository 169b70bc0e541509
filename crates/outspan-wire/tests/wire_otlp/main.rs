//! OTLP: encoding, reading, JSON, answers.

#[path = "../common/mod.rs"]
mod common;
#[path = "../doubles/mod.rs"]
mod doubles;

mod answers;
mod encoding_allocations;
mod encoding_spans;
mod json_read;
mod json_write;
mod reading_rewrite;
mod reading_split_merge;
mod reading_validate;
mod reading_views;
