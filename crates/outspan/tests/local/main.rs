//! Exporters that write to files and to standard output, the reader of files, and what ships beside them.

// In a test a panic is the report; clippy's own exception covers test functions, not their helpers.
#![allow(clippy::unwrap_used)]

#[path = "../golden/mod.rs"]
mod golden;

mod documented;
mod file;
mod file_damaged;
mod file_formats;
mod file_log;
mod file_reader;
mod file_rotation;
mod shop_file;
mod stdout;
mod stdout_trees;
