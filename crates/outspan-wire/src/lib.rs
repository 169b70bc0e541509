//! Trace span formats as pure functions over bytes.
//!
#![doc = include_str!("../README.md")]

pub mod grpc;
pub mod otlp;
