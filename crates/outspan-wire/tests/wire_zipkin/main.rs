//! Zipkin: JSON and protobuf, written and read.

#[path = "../common/mod.rs"]
mod common;
mod zipkin_proto;

mod neighbours;
mod protobuf;
mod read;
mod round_trip;
mod typed_tags;
mod write;
