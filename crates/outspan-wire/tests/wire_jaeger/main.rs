//! Jaeger: Thrift written and read, and the JSON of its query.

#[path = "../common/mod.rs"]
mod common;
#[path = "../doubles/mod.rs"]
mod doubles;
mod thrift_peer;

mod query;
mod round_trip;
mod thrift;
mod typed_tags;
